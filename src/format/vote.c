#include "format/vote.h"

#include "base/checksum.h"
#include "base/endian.h"

enum { AT_COUNTER = 0, AT_ID = 8, AT_CRC = 16 };

size_t sp_vote_write(uint64_t promised_counter, uint64_t promised_id, const uint8_t *accepted,
                     uint8_t ret_vote[SP_VOTE_BYTES_MAX])
{
    sp_put_u64(ret_vote + AT_COUNTER, promised_counter);
    sp_put_u64(ret_vote + AT_ID, promised_id);
    sp_put_u32(ret_vote + AT_CRC, sp_crc32c(0, sp_slice(ret_vote, AT_CRC)));
    if (!accepted)
        return SP_VOTE_HEAD_BYTES;
    memcpy(ret_vote + SP_VOTE_HEAD_BYTES, accepted, SP_BLOCK_BYTES);
    return SP_VOTE_BYTES_MAX;
}

enum sp_status sp_vote_parse(struct sp_slice bytes, struct sp_vote *ret_vote)
{
    struct sp_vote vote = {0};
    if (bytes.len != SP_VOTE_HEAD_BYTES && bytes.len != SP_VOTE_BYTES_MAX)
        return SP_CORRUPT;
    vote.promised_counter = sp_get_u64(bytes.ptr + AT_COUNTER);
    vote.promised_id = sp_get_u64(bytes.ptr + AT_ID);
    if (sp_get_u32(bytes.ptr + AT_CRC) != sp_crc32c(0, sp_slice(bytes.ptr, AT_CRC)) ||
        vote.promised_counter >= UINT32_MAX)
        return SP_CORRUPT;
    vote.accepted = bytes.len == SP_VOTE_BYTES_MAX;
    if (vote.accepted && sp_segment_head_read(bytes.ptr + SP_VOTE_HEAD_BYTES, &vote.head) != SP_OK)
        return SP_CORRUPT;
    *ret_vote = vote;
    return SP_OK;
}
