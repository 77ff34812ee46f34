#include "format/block.h"
#include "base/checksum.h"
#include "base/endian.h"

/* Offsets of the header's fields; docs/format.md has the same table. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_FLAGS = 5,
    AT_PAYLOAD_BYTES = 6,
    AT_VOLUME = 8,
    AT_EPOCH_ID = 24,
    AT_SEGMENT = 32,
    AT_GENERATION = 40,
    AT_INDEX = 44,
    AT_BATCH = 48,
    AT_FIRST_LSN = 56,
    AT_FIRST_OFFSET = 64,
    AT_RESERVED = 66,
    AT_EPOCH_COUNTER = 68,
    AT_CHAIN = 72,
    AT_KEY_ID = 80, /* reserved for encryption, zero */
    AT_RESERVED_2 = 88,
    AT_CRC = 92,
};

static uint32_t block_crc(const uint8_t *block)
{
    static const uint8_t zero[4];
    uint32_t crc = sp_crc32c(0, sp_slice(block, AT_CRC));
    crc = sp_crc32c(crc, sp_slice(zero, 4));
    return sp_crc32c(crc, sp_slice(block + AT_CRC + 4, SP_BLOCK_BYTES - AT_CRC - 4));
}

void sp_block_write(uint8_t block[SP_BLOCK_BYTES], const struct sp_block_header *header)
{
    sp_assert(header->payload_bytes <= SP_BLOCK_PAYLOAD_BYTES);
    memset(block, 0, SP_BLOCK_HEADER_BYTES);
    memset(block + SP_BLOCK_HEADER_BYTES + header->payload_bytes, 0,
           SP_BLOCK_PAYLOAD_BYTES - header->payload_bytes);
    memcpy(block + AT_MAGIC, SP_BLOCK_MAGIC, 4);
    block[AT_VERSION] = SP_FORMAT_VERSION;
    block[AT_FLAGS] = header->flags;
    sp_put_u16(block + AT_PAYLOAD_BYTES, header->payload_bytes);
    memcpy(block + AT_VOLUME, header->volume.bytes, 16);
    sp_put_u64(block + AT_EPOCH_ID, header->epoch_id);
    sp_put_u64(block + AT_SEGMENT, header->segment);
    sp_put_u32(block + AT_GENERATION, header->generation);
    sp_put_u32(block + AT_INDEX, header->index);
    sp_put_u64(block + AT_BATCH, header->batch);
    sp_put_u64(block + AT_FIRST_LSN, header->first_lsn);
    sp_put_u16(block + AT_FIRST_OFFSET, header->first_offset);
    sp_put_u32(block + AT_EPOCH_COUNTER, header->epoch_counter);
    sp_put_u64(block + AT_CHAIN, header->chain);
    sp_put_u32(block + AT_CRC, block_crc(block));
}

enum sp_status sp_block_read(const uint8_t block[SP_BLOCK_BYTES],
                             struct sp_block_header *ret_header)
{
    if (memcmp(block + AT_MAGIC, SP_BLOCK_MAGIC, 4) != 0)
        return SP_NOT_FOUND;
    if (sp_get_u32(block + AT_CRC) != block_crc(block))
        return SP_CORRUPT;
    if (block[AT_VERSION] != SP_FORMAT_VERSION)
        return SP_UNSUPPORTED;
    struct sp_block_header header = {
        .flags = block[AT_FLAGS],
        .payload_bytes = sp_get_u16(block + AT_PAYLOAD_BYTES),
        .epoch_id = sp_get_u64(block + AT_EPOCH_ID),
        .epoch_counter = sp_get_u32(block + AT_EPOCH_COUNTER),
        .segment = sp_get_u64(block + AT_SEGMENT),
        .generation = sp_get_u32(block + AT_GENERATION),
        .index = sp_get_u32(block + AT_INDEX),
        .batch = sp_get_u64(block + AT_BATCH),
        .first_lsn = sp_get_u64(block + AT_FIRST_LSN),
        .first_offset = sp_get_u16(block + AT_FIRST_OFFSET),
        .chain = sp_get_u64(block + AT_CHAIN),
    };
    memcpy(header.volume.bytes, block + AT_VOLUME, 16);
    bool starts = header.first_lsn != 0;
    if (header.payload_bytes > SP_BLOCK_PAYLOAD_BYTES || header.segment == 0 ||
        starts != (header.first_offset != SP_NO_RECORD) ||
        (starts && header.first_offset >= header.payload_bytes))
        return SP_CORRUPT;
    *ret_header = header;
    return SP_OK;
}

uint64_t sp_block_chain(const uint8_t block[SP_BLOCK_BYTES])
{
    return sp_crc64(sp_slice(block, SP_BLOCK_BYTES));
}
