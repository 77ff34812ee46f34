/* Segments: an append-only run of blocks (docs/format.md, "Segment").
 *
 *   block 0     1 ..               data_blocks - 1    data_blocks ..         last
 *   +------+-------------------------------------+-----------------------+---------+
 *   | head | batches                             | footer: record table  | trailer |
 *   +------+-------------------------------------+-----------------------+---------+
 *
 * The head is written and synced with the segment's first batch, and says how the log comes to
 * here: the epoch, its members, and the exact end of the segment before. The footer is written when
 * the segment is sealed. It is no part of the log (nothing in it is new): a compressed table of all
 * records, whole but for message bytes, so that an index is rebuilt without reading bodies, and so
 * that the loss of a data block loses nothing but bodies.
 */
#ifndef SP_FORMAT_SEGMENT_H
#define SP_FORMAT_SEGMENT_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/checksum.h"
#include "format/block.h"
#include "format/record.h"

/* ---- Head ---- */

#define SP_MEMBERS_MAX 16U
#define SP_RANGES_MAX  16U

/* What a unit is to an epoch. All of them are voters. */
#define SP_MEMBER_REPLICA 1U /* holds every block of this epoch */
#define SP_MEMBER_SPARE   2U
#define SP_MEMBER_WITNESS 3U /* votes only: the state directory */
#define SP_MEMBER_EJECTED 4U /* failed; may not be read as current until it is taken back */

struct sp_member {
    struct sp_uuid unit;
    uint8_t role;
    uint8_t ranges_count;
    struct { /* LSNs that it held when the segment began; inclusive */
        uint64_t first, last;
    } ranges[SP_RANGES_MAX];
};

/* The exact end of what comes before; segment 0: nothing does. */
struct sp_log_end {
    uint64_t epoch_id;
    uint32_t epoch_counter;
    uint64_t segment;
    uint32_t generation;
    uint32_t blocks; /* data blocks that count; what lies beyond, but for a footer, is void */
    uint64_t lsn;    /* last */
    uint64_t batch;  /* last */
    uint64_t chain;  /* sp_block_chain of the last block */
};

struct sp_segment_head {
    struct sp_uuid volume;
    uint64_t epoch_id;
    uint32_t epoch_counter;
    uint64_t segment;
    uint32_t generation;
    bool epoch_begins; /* this is the epoch's first segment */
    uint64_t time_ns;
    uint64_t next_lsn; /* of the segment's first record */
    uint64_t batch;    /* number the head block carries: that of the first batch */
    uint32_t min_copies;
    uint64_t segment_bytes; /* nominal */
    struct sp_log_end previous;
    uint64_t manifest_segment, manifest_lsn; /* where the newest manifest base is; 0: none yet */
    struct sp_member members[SP_MEMBERS_MAX];
    uint32_t members_count;
};

/* Writes block 0; chain is taken from head->previous. */
void sp_segment_head_write(const struct sp_segment_head *head, uint8_t ret_block[SP_BLOCK_BYTES]);
/* SP_CORRUPT: not a valid head block. */
enum sp_status sp_segment_head_read(const uint8_t block[SP_BLOCK_BYTES],
                                    struct sp_segment_head *ret) SP_MUST_USE;

/* ---- Walking data blocks in memory ---- */

/* Finds how far a segment's data is sound: from block 0, blocks of the expected place whose chain
 * holds, up to the last complete batch. ret_end->blocks counts them (0: not even a head). */
struct sp_segment_id {
    struct sp_uuid volume;
    uint64_t segment;
    uint32_t generation;
};
void sp_segment_sound_end(const uint8_t *blocks, uint32_t count, const struct sp_segment_id *id,
                          struct sp_log_end *ret_end);

/* Walks the records of blocks[0 .. count). Blocks must be the segment's, in order, from
 * `first_index`; a block that is missing or bad is simply passed over, with the records that touch
 * it: so it reads whole segments and ruins alike. (To read a log that must be sound, check
 * sp_segment_sound_end first.) */
struct sp_walker {
    const uint8_t *blocks;
    uint32_t count, first_index;
    struct sp_segment_id id;
    struct sp_buf scratch;
    uint32_t block;                 /* position */
    uint32_t offset;                /* in the payload */
    bool joined;                    /* position is the start of a record */
    uint32_t bad_blocks;            /* passed over so far */
    struct sp_block_header checked; /* of block checked_block - 1, the last that was found good */
    uint32_t checked_block;
};
void sp_walker_init(struct sp_walker *walker, const uint8_t *blocks, uint32_t count,
                    uint32_t first_index, const struct sp_segment_id *id);
void sp_walker_release(struct sp_walker *walker);
/* payload is valid until the next call. false at the end. */
bool sp_walker_next(struct sp_walker *walker, struct sp_record *ret_record,
                    struct sp_place *ret_place);

/* ---- Footer ---- */

struct sp_trailer {
    uint64_t first_lsn, last_lsn; /* 0, 0: no records */
    uint64_t records;
    uint32_t data_blocks;  /* head included */
    uint32_t table_blocks; /* then comes the trailer */
    uint64_t table_bytes, table_raw_bytes;
    struct sp_digest digest; /* over the 96-byte headers of the data blocks, in order */
};

/* Built as the segment grows, so that sealing it takes no time. */
struct sp_footer_builder;
struct sp_footer_builder *sp_footer_builder_new(void) SP_MUST_USE;
void sp_footer_builder_free(struct sp_footer_builder *builder);
void sp_footer_builder_reset(struct sp_footer_builder *builder);
/* Adds a record with its place (block and offset in the segment). */
void sp_footer_builder_record(struct sp_footer_builder *builder, const struct sp_record *record,
                              const struct sp_place *place);
/* Adds data blocks, in order, from 0. */
void sp_footer_builder_blocks(struct sp_footer_builder *builder, const uint8_t *blocks,
                              uint32_t count);
/* The footer's blocks for a segment whose last data block had header `last` and chain value
 * `chain`. *ret_blocks is aligned and malloc'ed. SP_NO_MEMORY. */
enum sp_status sp_footer_builder_finish(struct sp_footer_builder *builder,
                                        const struct sp_block_header *last, uint64_t chain,
                                        uint8_t **ret_blocks, uint32_t *ret_count,
                                        struct sp_trailer *ret_trailer) SP_MUST_USE;

/* SP_CORRUPT: not a trailer block. */
enum sp_status sp_trailer_read(const uint8_t block[SP_BLOCK_BYTES],
                               struct sp_block_header *ret_header,
                               struct sp_trailer *ret_trailer) SP_MUST_USE;

/* Reads a table. blocks: the table's blocks (trailer->table_blocks of them), checked here. */
struct sp_footer_reader;
enum sp_status sp_footer_reader_new(const uint8_t *blocks,
                                    const struct sp_block_header *trailer_header,
                                    const struct sp_trailer *trailer,
                                    struct sp_footer_reader **ret_reader) SP_MUST_USE;
void sp_footer_reader_free(struct sp_footer_reader *reader);
/* SP_OK with a record (payload: whole, or of a body its head alone) and its place; SP_EOF;
 * SP_CORRUPT. The payload is valid until the next call. */
enum sp_status sp_footer_reader_next(struct sp_footer_reader *reader, struct sp_record *ret_record,
                                     struct sp_place *ret_place) SP_MUST_USE;

#endif
