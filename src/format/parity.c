#include "format/parity.h"
#include "base/checksum.h"
#include "base/endian.h"

#include <isa-l/erasure_code.h>
#include <stdlib.h>

#define VERSION     1U
#define TABLE_BYTES 32U /* of ISA-L, for a coefficient */

/* A parity block's own fields, where a block has what its place tells and what is reserved;
 * docs/format.md has the same table. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_CODED_1 = 5, /* flags, payload_bytes */
    AT_VOLUME = 8,
    AT_EPOCH_ID = 24,
    AT_SEGMENT = 32,
    AT_GENERATION = 40,
    AT_INDEX = 44,
    AT_CODED_2 = 48, /* batch, first_lsn, first_offset */
    AT_DATA_ROWS = 66,
    AT_PARITY_ROWS = 67,
    AT_EPOCH_COUNTER = 68,
    AT_CODED_3 = 72, /* chain */
    AT_BLOCKS = 80,
    AT_DATA_BLOCKS = 84,
    AT_CRC = 88,
    AT_CODED_4 = 92, /* crc, payload */
};

bool sp_parity_shape_is_valid(struct sp_parity_shape shape)
{
    return shape.data_rows >= 1 && shape.data_rows <= SP_PARITY_DATA_MAX &&
           shape.parity_rows >= 1 && shape.parity_rows <= SP_PARITY_ROWS_MAX;
}

uint32_t sp_parity_columns(struct sp_parity_shape shape, uint32_t blocks)
{
    sp_assert(sp_parity_shape_is_valid(shape) && blocks && blocks <= SP_PARITY_BLOCKS_MAX);
    return (blocks + shape.data_rows - 1) / shape.data_rows;
}

uint32_t sp_parity_blocks(struct sp_parity_shape shape, uint32_t blocks)
{
    return sp_parity_columns(shape, blocks) * shape.parity_rows;
}

/* ---- Blocks ---- */

static uint32_t parity_crc(const uint8_t *block)
{
    static const uint8_t zero[4];
    uint32_t crc = sp_crc32c(0, sp_slice(block, AT_CRC));
    crc = sp_crc32c(crc, sp_slice(zero, 4));
    return sp_crc32c(crc, sp_slice(block + AT_CRC + 4, SP_BLOCK_BYTES - AT_CRC - 4));
}

void sp_parity_block_write(uint8_t block[SP_BLOCK_BYTES], const struct sp_parity_header *header)
{
    memcpy(block + AT_MAGIC, SP_PARITY_MAGIC, 4);
    block[AT_VERSION] = VERSION;
    memcpy(block + AT_VOLUME, header->volume.bytes, 16);
    sp_put_u64(block + AT_EPOCH_ID, header->epoch_id);
    sp_put_u64(block + AT_SEGMENT, header->segment);
    sp_put_u32(block + AT_GENERATION, header->generation);
    sp_put_u32(block + AT_INDEX, header->index);
    block[AT_DATA_ROWS] = header->shape.data_rows;
    block[AT_PARITY_ROWS] = header->shape.parity_rows;
    sp_put_u32(block + AT_EPOCH_COUNTER, header->epoch_counter);
    sp_put_u32(block + AT_BLOCKS, header->blocks);
    sp_put_u32(block + AT_DATA_BLOCKS, header->data_blocks);
    sp_put_u32(block + AT_CRC, parity_crc(block));
}

enum sp_status sp_parity_block_read(const uint8_t block[SP_BLOCK_BYTES],
                                    struct sp_parity_header *ret_header)
{
    if (memcmp(block + AT_MAGIC, SP_PARITY_MAGIC, 4) != 0)
        return SP_NOT_FOUND;
    if (sp_get_u32(block + AT_CRC) != parity_crc(block))
        return SP_CORRUPT;
    if (block[AT_VERSION] != VERSION)
        return SP_UNSUPPORTED;
    struct sp_parity_header header = {
        .epoch_id = sp_get_u64(block + AT_EPOCH_ID),
        .epoch_counter = sp_get_u32(block + AT_EPOCH_COUNTER),
        .segment = sp_get_u64(block + AT_SEGMENT),
        .generation = sp_get_u32(block + AT_GENERATION),
        .index = sp_get_u32(block + AT_INDEX),
        .blocks = sp_get_u32(block + AT_BLOCKS),
        .data_blocks = sp_get_u32(block + AT_DATA_BLOCKS),
        .shape = {block[AT_DATA_ROWS], block[AT_PARITY_ROWS]},
    };
    memcpy(header.volume.bytes, block + AT_VOLUME, 16);
    if (header.segment == 0 || !sp_parity_shape_is_valid(header.shape) || header.blocks == 0 ||
        header.blocks > SP_PARITY_BLOCKS_MAX || header.data_blocks == 0 ||
        header.data_blocks > header.blocks ||
        header.index >= sp_parity_blocks(header.shape, header.blocks))
        return SP_CORRUPT;
    *ret_header = header;
    return SP_OK;
}

void sp_parity_mask(uint8_t block[SP_BLOCK_BYTES])
{
    memset(block + AT_MAGIC, 0, AT_CODED_1 - AT_MAGIC);
    memset(block + AT_VOLUME, 0, AT_CODED_2 - AT_VOLUME);
    memset(block + AT_DATA_ROWS, 0, AT_CODED_3 - AT_DATA_ROWS);
    memset(block + AT_BLOCKS, 0, AT_CODED_4 - AT_BLOCKS);
}

bool sp_parity_covers(const uint8_t block[SP_BLOCK_BYTES])
{
    static const uint8_t zeros[AT_CODED_4 - AT_BLOCKS];
    return block[AT_VERSION] == SP_FORMAT_VERSION &&
           memcmp(block + AT_DATA_ROWS, zeros, AT_EPOCH_COUNTER - AT_DATA_ROWS) == 0 &&
           memcmp(block + AT_BLOCKS, zeros, sizeof zeros) == 0;
}

enum sp_status sp_parity_unmask(uint8_t block[SP_BLOCK_BYTES],
                                const struct sp_parity_header *header, uint32_t index)
{
    struct sp_block_header found;
    sp_parity_mask(block);
    memcpy(block + AT_MAGIC, SP_BLOCK_MAGIC, 4);
    block[AT_VERSION] = SP_FORMAT_VERSION;
    memcpy(block + AT_VOLUME, header->volume.bytes, 16);
    sp_put_u64(block + AT_EPOCH_ID, header->epoch_id);
    sp_put_u64(block + AT_SEGMENT, header->segment);
    sp_put_u32(block + AT_GENERATION, header->generation);
    sp_put_u32(block + AT_INDEX, index);
    sp_put_u32(block + AT_EPOCH_COUNTER, header->epoch_counter);
    if (sp_block_read(block, &found) != SP_OK ||
        !(found.flags & SP_BLOCK_FOOTER) != (index < header->data_blocks))
        return SP_CORRUPT;
    return SP_OK;
}

/* ---- The code ---- */

struct sp_parity_coder {
    struct sp_parity_shape shape;
    uint8_t matrix[(SP_PARITY_DATA_MAX + SP_PARITY_ROWS_MAX) * SP_PARITY_DATA_MAX];
    uint8_t adding[SP_PARITY_DATA_MAX * SP_PARITY_ROWS_MAX * TABLE_BYTES];
    uint8_t solving[SP_PARITY_DATA_MAX * SP_PARITY_ROWS_MAX * TABLE_BYTES];
};

struct sp_parity_coder *sp_parity_coder_new(struct sp_parity_shape shape)
{
    sp_assert(sp_parity_shape_is_valid(shape));
    struct sp_parity_coder *coder = malloc(sizeof *coder);
    if (!coder)
        return NULL;
    int k = shape.data_rows, m = shape.parity_rows;
    coder->shape = shape;
    gf_gen_cauchy1_matrix(coder->matrix, k + m, k);
    ec_init_tables(k, m, coder->matrix + (size_t)k * (size_t)k, coder->adding);
    return coder;
}

void sp_parity_coder_free(struct sp_parity_coder *coder)
{
    free(coder);
}

void sp_parity_add(struct sp_parity_coder *coder, uint32_t row, const uint8_t *bytes, size_t len,
                   uint8_t *const *sums)
{
    sp_assert(row < coder->shape.data_rows && len <= INT32_MAX);
    /* ISA-L changes neither the source nor the array of pointers. */
    ec_encode_data_update((int)len, coder->shape.data_rows, coder->shape.parity_rows, (int)row,
                          coder->adding, (uint8_t *)(uintptr_t)bytes, (uint8_t **)(uintptr_t)sums);
}

/* The parity block of row p in the column's sound rows is
 *     S_p = parity_p - sum over sound rows r of a[p][r] * D_r = sum over lost rows e of a[p][e] *
 * D_e so with as many parity rows as there are lost rows, and X the inverse of that square piece of
 * the Cauchy matrix (any such has one), D_e = sum over p of X[e][p] * parity_p + sum over r of (sum
 * over p of X[e][p] a[p][r]) * D_r where minus is plus: one pass of ISA-L over sound and parity
 * blocks. */
enum sp_status sp_parity_solve(struct sp_parity_coder *coder, const struct sp_parity_column *column)
{
    uint32_t k = coder->shape.data_rows, m = coder->shape.parity_rows;
    uint32_t lost[SP_PARITY_DATA_MAX], chosen[SP_PARITY_ROWS_MAX];
    uint32_t lost_count = 0, chosen_count = 0, sources_count = 0;
    uint8_t *sources[SP_PARITY_DATA_MAX + SP_PARITY_ROWS_MAX], *results[SP_PARITY_ROWS_MAX];
    uint8_t square[SP_PARITY_ROWS_MAX * SP_PARITY_ROWS_MAX];
    uint8_t inverse[SP_PARITY_ROWS_MAX * SP_PARITY_ROWS_MAX];
    uint8_t factors[SP_PARITY_ROWS_MAX * (SP_PARITY_DATA_MAX + SP_PARITY_ROWS_MAX)];
    const uint8_t *a = coder->matrix + (size_t)k * k;
    for (uint32_t r = 0; r < k; r++)
        if (column->data[r] && column->lost[r])
            lost[lost_count++] = r;
    for (uint32_t p = 0; p < m && chosen_count < lost_count; p++)
        if (column->parity[p])
            chosen[chosen_count++] = p;
    if (chosen_count < lost_count)
        return SP_NOT_FOUND;
    if (lost_count == 0)
        return SP_OK;
    uint32_t n = lost_count;
    for (uint32_t p = 0; p < n; p++)
        for (uint32_t e = 0; e < n; e++)
            square[p * n + e] = a[chosen[p] * k + lost[e]];
    sp_assert(gf_invert_matrix(square, inverse, (int)n) == 0);
    for (uint32_t r = 0; r < k; r++)
        if (column->data[r] && !column->lost[r])
            sources[sources_count++] = column->data[r];
    uint32_t sound_count = sources_count;
    for (uint32_t p = 0; p < n; p++)
        sources[sources_count++] = (uint8_t *)(uintptr_t)column->parity[chosen[p]];
    for (uint32_t e = 0; e < n; e++) {
        uint8_t *row = factors + (size_t)e * sources_count;
        uint32_t at = 0;
        for (uint32_t r = 0; r < k; r++) {
            if (!column->data[r] || column->lost[r])
                continue;
            row[at] = 0;
            for (uint32_t p = 0; p < n; p++)
                row[at] ^= gf_mul(inverse[e * n + p], a[chosen[p] * k + r]);
            at++;
        }
        sp_assert(at == sound_count);
        memcpy(row + at, inverse + (size_t)e * n, n);
        results[e] = column->data[lost[e]];
    }
    sp_assert(sources_count <= SP_PARITY_DATA_MAX);
    ec_init_tables((int)sources_count, (int)n, factors, coder->solving);
    ec_encode_data(SP_BLOCK_BYTES, (int)sources_count, (int)n, coder->solving, sources, results);
    return SP_OK;
}
