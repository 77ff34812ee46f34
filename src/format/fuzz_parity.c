/* Parity blocks: the input lies over a block of zeros; if its first byte is odd the checksum is
 * made right, so that it gets through. What is believed is within its limits, and written again as
 * the same bytes. */
#include "base/checksum.h"
#include "base/endian.h"
#include "format/parity.h"

#define AT_CRC 88U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t block[SP_BLOCK_BYTES] = {0}, again[SP_BLOCK_BYTES];
    struct sp_parity_header header;
    if (!size)
        return 0;
    memcpy(block, data + 1, size - 1 < sizeof block ? size - 1 : sizeof block);
    if (data[0] & 1) {
        sp_put_u32(block + AT_CRC, 0);
        sp_put_u32(block + AT_CRC, sp_crc32c(0, sp_slice(block, sizeof block)));
    }
    if (sp_parity_block_read(block, &header) != SP_OK)
        return 0;
    sp_assert(sp_parity_shape_is_valid(header.shape));
    sp_assert(header.blocks && header.blocks <= SP_PARITY_BLOCKS_MAX);
    sp_assert(header.data_blocks && header.data_blocks <= header.blocks);
    sp_assert(header.index < sp_parity_blocks(header.shape, header.blocks));
    memcpy(again, block, sizeof again);
    sp_parity_mask(again);
    sp_parity_block_write(again, &header);
    sp_assert(memcmp(again, block, sizeof block) == 0);
    return 0;
}
