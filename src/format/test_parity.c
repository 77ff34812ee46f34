/* Segments of many sizes are coded in many shapes, blocks lost in a stretch, scattered, and too
 * many; what is rebuilt is what was there, byte for byte. */
#include "base/endian.h"
#include "format/parity.h"
#include "format/test_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* A sealed segment of random blocks, and its sidecar. */
struct sealed {
    struct sp_parity_header header;
    struct sp_parity_coder *coder;
    uint32_t columns, parity_count;
    uint8_t *blocks, *parity;
    bool *lost, *parity_lost;
    uint64_t random;
};

static uint8_t *at(uint8_t *blocks, uint32_t i)
{
    return blocks + (size_t)i * SP_BLOCK_BYTES;
}

static uint8_t *new_blocks(uint32_t count)
{
    uint8_t *blocks = calloc(count, SP_BLOCK_BYTES);
    assert_non_null(blocks);
    return blocks;
}

static void random_block(struct sealed *s, uint32_t index, uint8_t *block)
{
    uint64_t length = test_random(&s->random) % (SP_BLOCK_PAYLOAD_BYTES + 1);
    struct sp_block_header header = {
        .flags = index < s->header.data_blocks ? 0 : SP_BLOCK_FOOTER,
        .payload_bytes = (uint16_t)length,
        .volume = s->header.volume,
        .epoch_id = s->header.epoch_id,
        .epoch_counter = s->header.epoch_counter,
        .segment = s->header.segment,
        .generation = s->header.generation,
        .index = index,
        .batch = test_random(&s->random),
        .chain = test_random(&s->random),
        .first_offset = SP_NO_RECORD,
    };
    if (length > 100) {
        header.first_lsn = test_random(&s->random) | 1;
        header.first_offset = (uint16_t)(length - 100);
    }
    for (uint64_t i = 0; i < length; i++)
        block[SP_BLOCK_HEADER_BYTES + i] = (uint8_t)test_random(&s->random);
    sp_block_write(block, &header);
}

static void encode(struct sealed *s)
{
    uint32_t k = s->header.shape.data_rows, m = s->header.shape.parity_rows, columns = s->columns;
    uint8_t *row = new_blocks(columns), *sums[SP_PARITY_ROWS_MAX];
    for (uint32_t p = 0; p < m; p++)
        sums[p] = at(s->parity, p * columns);
    for (uint32_t r = 0; r < k; r++) {
        memset(row, 0, (size_t)columns * SP_BLOCK_BYTES);
        for (uint32_t c = 0; c < columns && r * columns + c < s->header.blocks; c++) {
            memcpy(at(row, c), at(s->blocks, r * columns + c), SP_BLOCK_BYTES);
            assert_true(sp_parity_covers(at(row, c)));
            sp_parity_mask(at(row, c));
        }
        sp_parity_add(s->coder, r, row, (size_t)columns * SP_BLOCK_BYTES, sums);
    }
    for (uint32_t i = 0; i < s->parity_count; i++) {
        struct sp_parity_header found;
        s->header.index = i;
        sp_parity_block_write(at(s->parity, i), &s->header);
        assert_int_equal(sp_parity_block_read(at(s->parity, i), &found), SP_OK);
        assert_memory_equal(&found.volume, &s->header.volume, sizeof found.volume);
        assert_true(found.epoch_id == s->header.epoch_id && found.segment == s->header.segment &&
                    found.generation == s->header.generation && found.index == i &&
                    found.blocks == s->header.blocks &&
                    found.data_blocks == s->header.data_blocks &&
                    found.epoch_counter == s->header.epoch_counter &&
                    sp_parity_shape_eq(found.shape, s->header.shape));
    }
    free(row);
}

static struct sealed *new_sealed(uint32_t k, uint32_t m, uint32_t blocks)
{
    struct sealed *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->random = k * 1000000 + m * 10000 + blocks;
    s->header = (struct sp_parity_header){
        .volume = {{1, 2, 3}},
        .epoch_id = test_random(&s->random),
        .epoch_counter = 9,
        .segment = 77,
        .generation = 3,
        .blocks = blocks,
        .data_blocks = blocks - blocks / 10,
        .shape = {(uint8_t)k, (uint8_t)m},
    };
    s->columns = sp_parity_columns(s->header.shape, blocks);
    s->parity_count = sp_parity_blocks(s->header.shape, blocks);
    assert_int_equal(s->parity_count, s->columns * m);
    s->blocks = new_blocks(blocks);
    s->parity = new_blocks(s->parity_count);
    s->lost = calloc(blocks, sizeof *s->lost);
    s->parity_lost = calloc(s->parity_count, sizeof *s->parity_lost);
    s->coder = sp_parity_coder_new(s->header.shape);
    assert_true(s->lost && s->parity_lost && s->coder);
    for (uint32_t i = 0; i < blocks; i++)
        random_block(s, i, at(s->blocks, i));
    encode(s);
    return s;
}

static void free_sealed(struct sealed *s)
{
    sp_parity_coder_free(s->coder);
    free(s->blocks);
    free(s->parity);
    free(s->lost);
    free(s->parity_lost);
    free(s);
}

static void forget(struct sealed *s)
{
    memset(s->lost, 0, s->header.blocks);
    memset(s->parity_lost, 0, s->parity_count);
}

/* Rebuilds what is lost, column by column, from nothing but what is not. Returns how many blocks
 * stay lost; the others are held against what they were. */
static uint32_t mend(struct sealed *s)
{
    uint32_t k = s->header.shape.data_rows, m = s->header.shape.parity_rows, unmended = 0;
    uint8_t *data = new_blocks(k), *parity = new_blocks(m);
    for (uint32_t c = 0; c < s->columns; c++) {
        struct sp_parity_column column = {0};
        uint32_t lost = 0;
        for (uint32_t r = 0; r < k; r++) {
            uint32_t i = r * s->columns + c;
            if (i >= s->header.blocks)
                continue;
            column.data[r] = at(data, r);
            column.lost[r] = s->lost[i];
            lost += s->lost[i];
            if (s->lost[i]) {
                memset(at(data, r), 0xa5, SP_BLOCK_BYTES);
            } else {
                memcpy(at(data, r), at(s->blocks, i), SP_BLOCK_BYTES);
                sp_parity_mask(at(data, r));
            }
        }
        for (uint32_t p = 0; p < m; p++) {
            if (s->parity_lost[p * s->columns + c])
                continue;
            memcpy(at(parity, p), at(s->parity, p * s->columns + c), SP_BLOCK_BYTES);
            sp_parity_mask(at(parity, p));
            column.parity[p] = at(parity, p);
        }
        if (sp_parity_solve(s->coder, &column) != SP_OK) {
            unmended += lost;
            continue;
        }
        for (uint32_t r = 0; r < k; r++) {
            uint32_t i = r * s->columns + c;
            if (i >= s->header.blocks || !s->lost[i])
                continue;
            assert_int_equal(sp_parity_unmask(at(data, r), &s->header, i), SP_OK);
            assert_memory_equal(at(data, r), at(s->blocks, i), SP_BLOCK_BYTES);
        }
    }
    free(data);
    free(parity);
    return unmended;
}

static const struct {
    uint32_t k, m, blocks;
} cases[] = {
    {1, 1, 1},     {1, 1, 7},      {1, 3, 5},    {2, 1, 1},    {2, 1, 2},      {2, 1, 3},
    {4, 2, 1},     {4, 2, 3},      {4, 2, 4},    {4, 2, 5},    {4, 2, 17},     {4, 2, 64},
    {16, 2, 1},    {16, 2, 15},    {16, 2, 16},  {16, 2, 17},  {16, 2, 100},   {16, 2, 333},
    {5, 5, 23},    {3, 32, 10},    {20, 4, 239}, {128, 32, 1}, {128, 32, 127}, {128, 32, 300},
    {128, 1, 129}, {127, 31, 254},
};
#define CASES (sizeof cases / sizeof *cases)

/* Every stretch of m * C blocks, or with a step where there are many. */
static void test_stretch(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        struct sealed *s = new_sealed(cases[i].k, cases[i].m, cases[i].blocks);
        uint32_t stretch = s->parity_count < s->header.blocks ? s->parity_count : s->header.blocks;
        uint32_t last = s->header.blocks - stretch, step = 1 + last / 7;
        for (uint32_t from = 0;; from = from + step < last ? from + step : last) {
            forget(s);
            for (uint32_t k = 0; k < stretch; k++)
                s->lost[from + k] = true;
            assert_int_equal(mend(s), 0);
            if (from == last)
                break;
        }
        free_sealed(s);
    }
}

/* Of each column any m blocks, of data and of parity. */
static void test_scattered(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        struct sealed *s = new_sealed(cases[i].k, cases[i].m, cases[i].blocks);
        uint32_t rows = cases[i].k + cases[i].m;
        for (int round = 0; round < 4; round++) {
            forget(s);
            for (uint32_t c = 0; c < s->columns; c++)
                for (uint32_t n = 0; n < cases[i].m; n++) {
                    uint32_t row = (uint32_t)(test_random(&s->random) % rows);
                    if (row >= cases[i].k)
                        s->parity_lost[(row - cases[i].k) * s->columns + c] = true;
                    else if (row * s->columns + c < s->header.blocks)
                        s->lost[row * s->columns + c] = true;
                }
            assert_int_equal(mend(s), 0);
        }
        free_sealed(s);
    }
}

/* A column that lost too much stays lost; the others are mended. */
static void test_too_many(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        uint32_t m = cases[i].m;
        struct sealed *s = new_sealed(cases[i].k, m, cases[i].blocks);
        uint32_t expect = 0, column = (uint32_t)(test_random(&s->random) % s->columns);
        for (uint32_t n = 0; n <= m && n * s->columns + column < s->header.blocks; n++)
            s->lost[n * s->columns + column] = true, expect++;
        for (uint32_t c = 0; c < s->columns; c++)
            s->lost[c] = true;
        if (expect <= m) /* there are no m + 1 blocks in it: take parity away */
            for (uint32_t p = 0; p < m + 1 - expect; p++)
                s->parity_lost[p * s->columns + column] = true;
        assert_int_equal(mend(s), expect);
        free_sealed(s);
    }
}

/* Wrong input is found by the rebuilt block's own checksum. */
static void test_wrong_input(void **state)
{
    (void)state;
    struct sealed *s = new_sealed(4, 2, 64);
    struct sp_parity_column column = {0};
    uint8_t *data = new_blocks(4);
    for (uint32_t r = 0; r < 4; r++) {
        memcpy(at(data, r), at(s->blocks, r * s->columns + 3), SP_BLOCK_BYTES);
        sp_parity_mask(at(data, r));
        column.data[r] = at(data, r);
    }
    sp_parity_mask(at(s->parity, 3));
    column.parity[0] = at(s->parity, 3);
    column.lost[1] = true;
    data[2000] ^= 1;
    assert_int_equal(sp_parity_solve(s->coder, &column), SP_OK);
    assert_int_equal(sp_parity_unmask(at(data, 1), &s->header, s->columns + 3), SP_CORRUPT);
    /* The right bytes for the wrong place likewise. */
    memcpy(at(data, 1), at(s->blocks, s->columns + 3), SP_BLOCK_BYTES);
    sp_parity_mask(at(data, 1));
    assert_int_equal(sp_parity_unmask(at(data, 1), &s->header, s->columns + 4), SP_CORRUPT);
    free(data);
    free_sealed(s);
}

static void put_crc(uint8_t *block)
{
    sp_put_u32(block + 88, 0);
    sp_put_u32(block + 88, sp_crc32c(0, sp_slice(block, SP_BLOCK_BYTES)));
}

static void test_damaged_parity(void **state)
{
    (void)state;
    static const struct {
        uint32_t at;
        uint32_t value;
        uint8_t bytes;
        enum sp_status expect; /* with a right checksum */
    } changes[] = {
        {0, 'X', 1, SP_NOT_FOUND}, {4, 2, 1, SP_UNSUPPORTED},
        {32, 0, 4, SP_CORRUPT},    {44, 8, 4, SP_CORRUPT},
        {66, 0, 1, SP_CORRUPT},    {66, 129, 1, SP_CORRUPT},
        {67, 0, 1, SP_CORRUPT},    {67, 33, 1, SP_CORRUPT},
        {80, 0, 4, SP_CORRUPT},    {80, UINT32_MAX, 4, SP_CORRUPT},
        {84, 0, 4, SP_CORRUPT},    {84, 17, 4, SP_CORRUPT},
        {44, 7, 4, SP_OK},
    };
    struct sealed *s = new_sealed(4, 2, 16);
    struct sp_parity_header header;
    uint8_t block[SP_BLOCK_BYTES];
    for (uint32_t i = 0; i < SP_BLOCK_BYTES; i++) {
        memcpy(block, s->parity, sizeof block);
        block[i] ^= 0x10;
        assert_int_equal(sp_parity_block_read(block, &header), i < 4 ? SP_NOT_FOUND : SP_CORRUPT);
    }
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        memcpy(block, s->parity, sizeof block);
        for (uint32_t b = 0; b < changes[i].bytes; b++)
            block[changes[i].at + b] = (uint8_t)(changes[i].value >> 8 * b);
        put_crc(block);
        assert_int_equal(sp_parity_block_read(block, &header), changes[i].expect);
    }
    free_sealed(s);
}

/* A block with a field set that is reserved today is known not to be covered. */
static void test_reserved(void **state)
{
    (void)state;
    static const uint32_t reserved[] = {66, 67, 80, 87, 88, 91};
    struct sealed *s = new_sealed(1, 1, 1);
    assert_true(sp_parity_covers(s->blocks));
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        s->blocks[reserved[i]] = 1;
        assert_false(sp_parity_covers(s->blocks));
        s->blocks[reserved[i]] = 0;
    }
    free_sealed(s);
}

/* The code's numbers, so that another reader can be written from the document. */
static void test_known_answer(void **state)
{
    (void)state;
    struct sp_parity_coder *coder = sp_parity_coder_new((struct sp_parity_shape){2, 2});
    uint8_t block[SP_BLOCK_BYTES], sums[2][SP_BLOCK_BYTES] = {{0}};
    uint8_t *rows[] = {sums[0], sums[1]};
    memset(block, 1, sizeof block);
    sp_parity_add(coder, 0, block, sizeof block, rows);
    assert_int_equal(sums[0][0], 0x8e); /* 1 / (2 xor 0) */
    assert_int_equal(sums[1][0], 0xf4); /* 1 / (3 xor 0) */
    memset(sums, 0, sizeof sums);
    sp_parity_add(coder, 1, block, sizeof block, rows);
    assert_int_equal(sums[0][4095], 0xf4); /* 1 / (2 xor 1) */
    assert_int_equal(sums[1][4095], 0x8e); /* 1 / (3 xor 1) */
    sp_parity_coder_free(coder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stretch),        cmocka_unit_test(test_scattered),
        cmocka_unit_test(test_too_many),       cmocka_unit_test(test_wrong_input),
        cmocka_unit_test(test_damaged_parity), cmocka_unit_test(test_reserved),
        cmocka_unit_test(test_known_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
