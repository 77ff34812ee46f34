/* Finding blocks in a stretch of raw bytes. Pure.
 *
 * A block may begin at any multiple of 512 bytes. Only where the magic stands is anything more
 * looked at, so a scan costs little more than reading. After a valid block the search goes on
 * behind it: what lies within a valid block (an attached disk image, say) is that block's content
 * and not a block.
 */
#ifndef SP_RECOVER_CLASSIFY_H
#define SP_RECOVER_CLASSIFY_H

#include "format/parity.h"

#define SP_SECTOR_BYTES 512U

struct sp_classifier {
    /* A valid block; the pointer is into the bytes. */
    void (*each)(void *context, const uint8_t *block, const struct sp_block_header *header);
    /* A valid parity block, likewise. */
    void (*parity)(void *context, const uint8_t *block, const struct sp_parity_header *header);
    void *context;
    uint64_t blocks, parity_blocks, bad, later;
};

static inline bool sp_has_magic(const uint8_t *bytes)
{
    return memcmp(bytes, SP_BLOCK_MAGIC, 4) == 0 || memcmp(bytes, SP_PARITY_MAGIC, 4) == 0;
}
/* Whether a block might begin anywhere in bytes. */
bool sp_any_magic(const uint8_t *bytes, size_t len);

/* Looks at bytes from their beginning, which lies on a sector boundary. Returns how many are
 * settled: the rest (fewer than SP_BLOCK_BYTES, none unless a block may begin there) must be put
 * before the bytes that follow. */
size_t sp_classify(struct sp_classifier *classifier, const uint8_t *bytes, size_t len);

#endif
