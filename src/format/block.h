/* Blocks: the 4096-byte unit of the log, self-locating and checksummed (docs/format.md, "Block").
 *
 *   0        96                                                4096
 *   +--------+-----------------------------------------+---------+
 *   | header | payload (payload_bytes of it used)      | zeros   |
 *   +--------+-----------------------------------------+---------+
 *
 * The header says which volume, epoch, segment, generation and index the block is, so that it can
 * be put back in its place from a raw disk. The record stream of a batch runs through the payloads
 * of its blocks; each batch starts on a fresh block. All integers are little-endian. Pure: no I/O.
 */
#ifndef SP_FORMAT_BLOCK_H
#define SP_FORMAT_BLOCK_H

#include "base/uuid.h"

#define SP_BLOCK_BYTES         4096U
#define SP_BLOCK_HEADER_BYTES  96U
#define SP_BLOCK_PAYLOAD_BYTES (SP_BLOCK_BYTES - SP_BLOCK_HEADER_BYTES)
#define SP_BLOCK_MAGIC         "SPB1"
#define SP_FORMAT_VERSION      1U

#define SP_BLOCK_BATCH_FIRST 0x01U
#define SP_BLOCK_BATCH_LAST  0x02U
#define SP_BLOCK_HEAD        0x04U /* the segment head; index 0 */
#define SP_BLOCK_FOOTER      0x08U /* part of the footer, which is no part of the log */
#define SP_NO_RECORD         0xffffU

struct sp_block_header {
    uint8_t flags;
    uint16_t payload_bytes;
    struct sp_uuid volume;
    uint64_t epoch_id; /* random; with the counter it names the epoch */
    uint32_t epoch_counter;
    uint64_t segment; /* from 1 */
    uint32_t generation;
    uint32_t index;     /* in the segment, from 0 */
    uint64_t batch;     /* from 1, dense in the volume; a failed batch's number is used again by its
                           successor */
    uint64_t first_lsn; /* of the first record that starts in this block; 0: none does */
    uint16_t first_offset; /* of that record in the payload; SP_NO_RECORD */
    uint64_t chain;        /* sp_block_chain of the block before it in the log */
};

/* Writes the header over block[0..95], zeroes the unused payload, computes the CRC. */
void sp_block_write(uint8_t block[SP_BLOCK_BYTES], const struct sp_block_header *header);
/* Checks magic, version, CRC and the ranges of the fields. SP_NOT_FOUND: not a block at all (no
 * magic); SP_CORRUPT: damaged; SP_UNSUPPORTED: a later format. */
enum sp_status sp_block_read(const uint8_t block[SP_BLOCK_BYTES],
                             struct sp_block_header *ret_header) SP_MUST_USE;
/* The value that the next block of the log carries as `chain`. */
uint64_t sp_block_chain(const uint8_t block[SP_BLOCK_BYTES]);
static inline struct sp_slice sp_block_payload(const uint8_t *block,
                                               const struct sp_block_header *header)
{
    return sp_slice(block + SP_BLOCK_HEADER_BYTES, header->payload_bytes);
}

#endif
