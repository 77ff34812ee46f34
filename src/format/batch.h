/* Building a batch: records in, finished blocks out.
 *
 * The records are gathered as one stream, laid out over the payloads of consecutive blocks as it
 * grows, so that the place of each is known at once. sp_batch_finish writes the block headers for a
 * position in the log; it may be called again for another position (a batch that failed in one
 * epoch is written anew in the next).
 */
#ifndef SP_FORMAT_BATCH_H
#define SP_FORMAT_BATCH_H

#include "format/block.h"
#include "format/record.h"

#define SP_BATCH_BYTES_MAX (64U << 20)

struct sp_batch {
    uint8_t *blocks; /* aligned to SP_BLOCK_BYTES */
    uint32_t blocks_capacity;
    uint64_t stream_bytes; /* of records so far */
    uint32_t records;
    uint64_t first_lsn, last_lsn;
    struct sp_batch_start *starts; /* of each block: the first record that starts there */
    bool failed;                   /* out of memory or beyond SP_BATCH_BYTES_MAX */
};

struct sp_batch_start {
    uint64_t lsn;
    uint16_t offset;
};

void sp_batch_init(struct sp_batch *batch);
void sp_batch_release(struct sp_batch *batch);
void sp_batch_reset(struct sp_batch *batch); /* empties it, keeps up to 1 MiB of memory */

/* Appends a record (payload copied). Returns the place of its header relative to the batch: the
 * block's number from 0 and the offset in its payload. On failure batch->failed is set. */
struct sp_place sp_batch_add(struct sp_batch *batch, const struct sp_record *record);
/* Forgets the records after a mark: mark = {stream_bytes, records, last_lsn} taken before. */
struct sp_batch_mark {
    uint64_t stream_bytes;
    uint32_t records;
    uint64_t first_lsn, last_lsn;
};
struct sp_batch_mark sp_batch_mark(const struct sp_batch *batch);
void sp_batch_rewind(struct sp_batch *batch, const struct sp_batch_mark *mark);

/* Goes on in a copy of the blocks, and hands out their old memory, which a write that never ended
 * may still read. NULL: no memory for it. */
void *sp_batch_abandon(struct sp_batch *batch) SP_MUST_USE;

/* How many blocks it fills. */
uint32_t sp_batch_blocks(const struct sp_batch *batch);

/* Writes all block headers. `first` gives volume, epoch, segment, generation, the index of the
 * first block, the batch number and the chain value before it; flags and the rest are set here.
 * Returns the chain value after the last. */
uint64_t sp_batch_finish(struct sp_batch *batch, const struct sp_block_header *first);

/* The records of the batch in order, for applying them. Start with *cursor = 0; false at the end.
 * payload is contiguous: it points into the blocks, or into scratch when it spans blocks (valid
 * until the next call). */
struct sp_buf;
bool sp_batch_next(const struct sp_batch *batch, uint64_t *cursor, struct sp_buf *scratch,
                   struct sp_record *ret_record, struct sp_place *ret_place);

#endif
