/* Votes: what a unit promised, and the epoch it accepted (docs/format.md, 11). A unit keeps one,
 * replaced as a whole. */
#ifndef SP_FORMAT_VOTE_H
#define SP_FORMAT_VOTE_H

#include "format/segment.h"

#define SP_VOTE_HEAD_BYTES 20U
#define SP_VOTE_BYTES_MAX  (SP_VOTE_HEAD_BYTES + SP_BLOCK_BYTES)

struct sp_vote {
    uint64_t promised_counter, promised_id;
    bool accepted;
    struct sp_segment_head head; /* of the epoch that was accepted */
};

/* accepted: the head block of the epoch's first segment, or NULL. Returns the length. */
size_t sp_vote_write(uint64_t promised_counter, uint64_t promised_id, const uint8_t *accepted,
                     uint8_t ret_vote[SP_VOTE_BYTES_MAX]);
/* SP_CORRUPT: damaged; it must not be believed in any part. */
enum sp_status sp_vote_parse(struct sp_slice bytes, struct sp_vote *ret_vote) SP_MUST_USE;

#endif
