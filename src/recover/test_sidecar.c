/* Parity blocks on raw disks: what a scan found nowhere is rebuilt from them, byte for byte, and
 * nothing else is. */
#include "recover/sidecar.h"
#include "recover/test_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- A segment and its sidecar ---- */

struct sealed {
    const struct world_segment *segment;
    struct sp_parity_shape shape;
    uint32_t columns, parity_count;
    uint8_t *parity;
};

static struct sealed seal(const struct world *w, uint32_t number, struct sp_parity_shape shape)
{
    const struct world_segment *segment = &w->segments[number];
    struct sealed s = {.segment = segment,
                       .shape = shape,
                       .columns = sp_parity_columns(shape, segment->count),
                       .parity_count = sp_parity_blocks(shape, segment->count)};
    struct sp_parity_coder *coder = sp_parity_coder_new(shape);
    struct sp_parity_header header = {.volume = w->volume,
                                      .epoch_id = segment->head.epoch_id,
                                      .epoch_counter = segment->head.epoch_counter,
                                      .segment = segment->id.segment,
                                      .generation = segment->id.generation,
                                      .blocks = segment->count,
                                      .data_blocks = segment->end.blocks,
                                      .shape = shape};
    assert_true(segment->sealed && segment->count > segment->end.blocks);
    s.parity = calloc(s.parity_count, SP_BLOCK_BYTES);
    assert_true(coder && s.parity);
    for (uint32_t i = 0; i < segment->count; i++) {
        uint8_t block[SP_BLOCK_BYTES], *sums[SP_PARITY_ROWS_MAX];
        memcpy(block, segment->blocks + (size_t)i * SP_BLOCK_BYTES, sizeof block);
        for (uint32_t p = 0; p < shape.parity_rows; p++)
            sums[p] = s.parity + (size_t)(p * s.columns + i % s.columns) * SP_BLOCK_BYTES;
        sp_parity_mask(block);
        sp_parity_add(coder, i / s.columns, block, sizeof block, sums);
    }
    for (uint32_t i = 0; i < s.parity_count; i++) {
        header.index = i;
        sp_parity_block_write(s.parity + (size_t)i * SP_BLOCK_BYTES, &header);
    }
    sp_parity_coder_free(coder);
    return s;
}

static void put_sectors(FILE *file, unsigned count)
{
    static const uint8_t zeros[512];
    while (count--)
        assert_int_equal(fwrite(zeros, sizeof zeros, 1, file), 1);
}

/* A disk with what is not lost of the segment, backwards, with gaps of whole sectors. */
static void write_blocks(const struct sealed *s, const bool *lost, const char *path)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (uint32_t i = s->segment->count; i-- > 0;) {
        if (lost[i])
            continue;
        put_sectors(file, i % 3);
        assert_int_equal(
            fwrite(s->segment->blocks + (size_t)i * SP_BLOCK_BYTES, SP_BLOCK_BYTES, 1, file), 1);
    }
    assert_int_equal(fclose(file), 0);
}

/* Likewise of parity; every so many of its blocks have rotted (0: none). */
static void write_parity(const struct sealed *s, uint32_t rotten, const char *path)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (uint32_t i = s->parity_count; i-- > 0;) {
        uint8_t block[SP_BLOCK_BYTES];
        memcpy(block, s->parity + (size_t)i * SP_BLOCK_BYTES, sizeof block);
        if (rotten && i % rotten == 0)
            block[777] ^= 1;
        put_sectors(file, i % 4);
        assert_int_equal(fwrite(block, sizeof block, 1, file), 1);
    }
    assert_int_equal(fclose(file), 0);
}

static void scan(const char *const *sources, size_t count, const char *out,
                 struct sp_recover_scan_report *report)
{
    struct sp_error error = {0};
    enum sp_status status = sp_recover_scan(sources, count, out, NULL, report, &error);
    if (status != SP_OK)
        sp_error_print(&error);
    assert_int_equal(status, SP_OK);
}

/* How many blocks of the segment's file are not what they were: lost, and nothing else. */
static uint32_t differ(const struct sealed *s, const char *out)
{
    static const uint8_t zeros[SP_BLOCK_BYTES];
    char path[512];
    uint32_t count = 0;
    sp_place_path(out, &s->segment->id.volume, s->segment->id.segment, s->segment->id.generation, 0,
                  path, sizeof path);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    for (uint32_t i = 0; i < s->segment->count; i++) {
        uint8_t block[SP_BLOCK_BYTES] = {0};
        bool whole = fread(block, sizeof block, 1, file) == 1;
        if (memcmp(block, s->segment->blocks + (size_t)i * SP_BLOCK_BYTES, sizeof block) == 0)
            continue;
        assert_true(!whole || memcmp(block, zeros, sizeof block) == 0);
        count++;
    }
    fclose(file);
    return count;
}

/* ---- Tests ---- */

struct fixture {
    struct world w;
    struct sealed s;
    bool *lost;
    char disk[512], parity[512], out[512];
    struct sp_recover_scan_report report;
};

static void begin(struct fixture *f, uint64_t seed, struct sp_parity_shape shape)
{
    *f = (struct fixture){0};
    world_init(&f->w, seed);
    world_fill(&f->w);
    f->s = seal(&f->w, 0, shape);
    f->lost = calloc(f->s.segment->count, sizeof *f->lost);
    assert_non_null(f->lost);
    world_fresh(f->disk, "disk");
    world_fresh(f->parity, "parity");
    world_fresh(f->out, "out");
}

static void end(struct fixture *f)
{
    free(f->s.parity);
    free(f->lost);
    world_release(&f->w);
}

static const struct sp_parity_shape shapes[] = {{1, 1}, {3, 2}, {16, 2}, {16, 7}, {128, 32}};

/* As long a stretch as can be lost, wherever it lies; head and trailer too. */
static void test_stretch(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (uint32_t where = 0; where < 3; where++) {
            struct fixture f;
            begin(&f, i + 1, shapes[i]);
            uint32_t count = f.s.segment->count;
            uint32_t stretch = f.s.parity_count < count ? f.s.parity_count : count - 1;
            uint32_t first = (count - stretch) / 2 * where;
            for (uint32_t k = first; k < first + stretch; k++)
                f.lost[k] = true;
            write_blocks(&f.s, f.lost, f.disk);
            write_parity(&f.s, 0, f.parity);
            const char *sources[] = {f.disk, f.parity};
            scan(sources, 2, f.out, &f.report);
            assert_int_equal(f.report.parity_blocks, f.s.parity_count);
            assert_int_equal(f.report.rebuilt, stretch);
            assert_int_equal(f.report.segments_count, 1);
            assert_int_equal(f.report.segments[0].blocks, count);
            assert_int_equal(differ(&f.s, f.out), 0);
            sp_recover_scan_report_release(&f.report);
            /* Scanning on changes nothing. */
            scan(sources, 2, f.out, &f.report);
            assert_true(f.report.rebuilt == 0 && f.report.conflicts == 0);
            assert_int_equal(differ(&f.s, f.out), 0);
            sp_recover_scan_report_release(&f.report);
            end(&f);
        }
    }
}

/* The parity is found by a later scan than the blocks. */
static void test_found_later(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 5, (struct sp_parity_shape){8, 2});
    for (uint32_t i = 0; i < f.s.segment->count; i += 5)
        f.lost[i] = true;
    write_blocks(&f.s, f.lost, f.disk);
    write_parity(&f.s, 0, f.parity);
    const char *blocks = f.disk, *parity = f.parity;
    scan(&parity, 1, f.out, &f.report);
    assert_true(f.report.rebuilt == 0 && f.report.segments_count == 0);
    sp_recover_scan_report_release(&f.report);
    scan(&blocks, 1, f.out, &f.report);
    assert_true(f.report.parity_blocks == 0 && f.report.rebuilt > 0);
    assert_int_equal(f.report.rebuilt + differ(&f.s, f.out), (f.s.segment->count + 4) / 5);
    sp_recover_scan_report_release(&f.report);
    end(&f);
}

/* Columns that lost more than their parity bears stay as they are. */
static void test_too_much(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 7, (struct sp_parity_shape){8, 2});
    uint32_t columns = f.s.columns, expect = 0;
    assert_true(columns > 4);
    for (uint32_t r = 0; r < 3; r++)
        for (uint32_t c = 0; c < 2; c++)
            f.lost[r * columns + c] = true, expect++;
    f.lost[2] = f.lost[columns + 2] = f.lost[3 * columns + 3] = true;
    write_blocks(&f.s, f.lost, f.disk);
    write_parity(&f.s, 0, f.parity);
    const char *sources[] = {f.disk, f.parity};
    scan(sources, 2, f.out, &f.report);
    assert_int_equal(f.report.rebuilt, 3);
    assert_int_equal(differ(&f.s, f.out), expect);
    sp_recover_scan_report_release(&f.report);
    end(&f);
}

/* Rotten parity blocks are lost ones; the others do. */
static void test_rotten_parity(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 9, (struct sp_parity_shape){8, 2});
    uint32_t columns = f.s.columns, lost = 0;
    for (uint32_t c = 0; c < columns; c++, lost++)
        f.lost[c] = true;
    write_blocks(&f.s, f.lost, f.disk);
    write_parity(&f.s, columns % 2 ? 2 : 3, f.parity); /* never both of a column */
    const char *sources[] = {f.disk, f.parity};
    scan(sources, 2, f.out, &f.report);
    uint32_t bear = 0;
    for (uint32_t c = 0, step = columns % 2 ? 2 : 3; c < columns; c++)
        bear += c % step != 0 || (columns + c) % step != 0;
    assert_int_equal(f.report.rebuilt, bear);
    assert_int_equal(differ(&f.s, f.out), lost - bear);
    sp_recover_scan_report_release(&f.report);
    end(&f);
}

/* Of two segments, and of two shapes, the parity of each goes to its own. */
static void test_several(void **state)
{
    (void)state;
    struct fixture f;
    begin(&f, 11, (struct sp_parity_shape){8, 1});
    struct sealed other = seal(&f.w, 1, (struct sp_parity_shape){5, 1});
    struct sealed again = seal(&f.w, 0, (struct sp_parity_shape){16, 3});
    char disk[512], parity[512], third[512];
    bool *lost = calloc(other.segment->count, sizeof *lost);
    assert_non_null(lost);
    for (uint32_t i = 1; i < 1 + again.parity_count; i++)
        f.lost[i] = true; /* more than 8+1 bears, and what 16+3 does */
    lost[0] = lost[other.segment->count - 1] = true;
    write_blocks(&f.s, f.lost, f.disk);
    write_blocks(&other, lost, world_fresh(disk, "disk"));
    write_parity(&f.s, 0, f.parity);
    write_parity(&other, 0, world_fresh(parity, "parity"));
    write_parity(&again, 0, world_fresh(third, "parity"));
    const char *sources[] = {f.disk, disk, f.parity, parity, third};
    scan(sources, 5, f.out, &f.report);
    assert_int_equal(f.report.segments_count, 2);
    assert_int_equal(f.report.rebuilt, again.parity_count + 2);
    assert_int_equal(differ(&f.s, f.out), 0);
    assert_int_equal(differ(&other, f.out), 0);
    sp_recover_scan_report_release(&f.report);
    free(lost);
    free(other.parity);
    free(again.parity);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stretch),  cmocka_unit_test(test_found_later),
        cmocka_unit_test(test_too_much), cmocka_unit_test(test_rotten_parity),
        cmocka_unit_test(test_several),
    };
    return cmocka_run_group_tests(tests, world_scratch, world_scratch_end);
}
