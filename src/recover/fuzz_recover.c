/* Finding blocks in arbitrary bytes: what is found is valid, lies on sectors, does not overlap, and
 * does not depend on how the bytes are cut into pieces. */
#include "base/checksum.h"
#include "base/endian.h"
#include "recover/classify.h"

#include <stdlib.h>

struct found {
    const uint8_t *base;
    uint64_t base_offset; /* of base in the whole */
    uint64_t offsets[4096];
    uint32_t count;
};

static void note_offset(struct found *found, const uint8_t *block)
{
    uint64_t offset = found->base_offset + (uint64_t)(block - found->base);
    sp_assert(offset % SP_SECTOR_BYTES == 0);
    sp_assert(found->count == 0 || offset >= found->offsets[found->count - 1] + SP_BLOCK_BYTES);
    sp_assert(found->count < 4096);
    found->offsets[found->count++] = offset;
}

static void note(void *context, const uint8_t *block, const struct sp_block_header *header)
{
    struct sp_block_header again;
    sp_assert(sp_block_read(block, &again) == SP_OK && again.index == header->index);
    note_offset(context, block);
}

static void note_parity(void *context, const uint8_t *block, const struct sp_parity_header *header)
{
    struct sp_parity_header again;
    sp_assert(sp_parity_block_read(block, &again) == SP_OK && again.index == header->index);
    note_offset(context, block);
}

/* Random bytes never have a right CRC; so some inputs get theirs corrected. */
static void mend(uint8_t *bytes, size_t len)
{
    for (size_t at = 0; at + SP_BLOCK_BYTES <= len; at += SP_SECTOR_BYTES) {
        if (!sp_has_magic(bytes + at))
            continue;
        uint8_t *crc = bytes + at + (memcmp(bytes + at, SP_BLOCK_MAGIC, 4) == 0 ? 92 : 88);
        memset(crc, 0, 4);
        sp_put_u32(crc, sp_crc32c(0, sp_slice(bytes + at, SP_BLOCK_BYTES)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t len = size - 2, cut = (size_t)(data[0] % 64 + 1) * SP_SECTOR_BYTES;
    uint8_t *bytes = malloc(len + 1), *piece = malloc(len + 1);
    static struct found whole, pieces;
    sp_assert(bytes && piece);
    memcpy(bytes, data + 2, len);
    if (data[1] & 1)
        mend(bytes, len);
    whole = (struct found){.base = bytes};
    struct sp_classifier one = {.each = note, .parity = note_parity, .context = &whole};
    size_t settled = sp_classify(&one, bytes, len);
    sp_assert(settled <= len && len - settled < SP_BLOCK_BYTES);

    pieces = (struct found){.base = piece};
    struct sp_classifier many = {.each = note, .parity = note_parity, .context = &pieces};
    size_t held = 0;
    for (size_t at = 0; at < len;) {
        size_t n = len - at < cut ? len - at : cut;
        memcpy(piece + held, bytes + at, n);
        held += n;
        at += n;
        size_t done = sp_classify(&many, piece, held);
        memmove(piece, piece + done, held - done);
        held -= done;
        pieces.base_offset += done;
    }
    sp_assert(pieces.count == whole.count && many.bad == one.bad && many.later == one.later);
    for (uint32_t i = 0; i < whole.count; i++)
        sp_assert(whole.offsets[i] == pieces.offsets[i]);
    free(bytes);
    free(piece);
    return 0;
}
