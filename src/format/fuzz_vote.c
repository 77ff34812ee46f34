/* Votes: the first byte chooses, the rest is the vote. With 1 its checksums are made right, so that
 * it gets through; with 2 it is cut or filled up to the length that it has with an epoch. What is
 * believed is written again as the same bytes. */
#include "base/endian.h"
#include "format/vote.h"

#include <stdlib.h>

#define AT_VOTE_CRC  16U
#define AT_BLOCK_CRC 92U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void mend(uint8_t *bytes, size_t len)
{
    if (len < SP_VOTE_HEAD_BYTES)
        return;
    sp_put_u32(bytes + AT_VOTE_CRC, sp_crc32c(0, sp_slice(bytes, AT_VOTE_CRC)));
    if (len < SP_VOTE_BYTES_MAX)
        return;
    uint8_t *block = bytes + SP_VOTE_HEAD_BYTES;
    sp_put_u32(block + AT_BLOCK_CRC, 0);
    sp_put_u32(block + AT_BLOCK_CRC, sp_crc32c(0, sp_slice(block, SP_BLOCK_BYTES)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sp_vote vote;
    uint8_t written[SP_VOTE_BYTES_MAX];
    if (!size)
        return 0;
    size_t given = size - 1, len = data[0] & 2 ? SP_VOTE_BYTES_MAX : given;
    uint8_t *bytes = calloc(1, len + !len); /* exact: an overrun shows */
    sp_assert(bytes);
    memcpy(bytes, data + 1, given < len ? given : len);
    if (data[0] & 1)
        mend(bytes, len);
    if (sp_vote_parse(sp_slice(bytes, len), &vote) == SP_OK) {
        size_t again = sp_vote_write(vote.promised_counter, vote.promised_id,
                                     vote.accepted ? bytes + SP_VOTE_HEAD_BYTES : NULL, written);
        sp_assert(sp_slice_eq(sp_slice(bytes, len), sp_slice(written, again)));
        sp_assert(vote.promised_counter < UINT32_MAX);
        sp_assert(!vote.accepted || vote.head.members_count <= SP_MEMBERS_MAX);
    }
    free(bytes);
    return 0;
}
