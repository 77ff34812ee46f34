/* What an ordinary read finds bad is mended from a twin, soon and once, where it should be. */
#include "store/test_bench.h"
#include "store/volume_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct sp_error error;

static struct sp_unit_counts counts_of(struct bench *b, uint32_t disk)
{
    return bench_status(b).units[disk].counts;
}

static void read_all(struct bench *b)
{
    model_check(b->volume, &b->model, NULL, 0);
}

static void read_block(struct bench *b, uint32_t disk, uint64_t segment, uint32_t block,
                       uint8_t *ret_block)
{
    struct sp_unit *unit = b->volume->members[disk].unit;
    assert_int_equal(unit->ops->read(unit, segment, 0, block, ret_block, 1, &error), SP_OK);
}

static bool same_on_both(struct bench *b, uint64_t segment, uint32_t block)
{
    uint8_t left[SP_BLOCK_BYTES], right[SP_BLOCK_BYTES];
    read_block(b, 0, segment, block, left);
    read_block(b, 1, segment, block, right);
    return memcmp(left, right, SP_BLOCK_BYTES) == 0;
}

static enum sp_status read_some(struct bench *b, uint64_t segment, uint32_t first, uint32_t count)
{
    uint8_t bytes[16 * SP_BLOCK_BYTES];
    assert_true(count <= 16);
    for (size_t i = 0; i < b->volume->segments_count; i++)
        if (b->volume->segments[i].segment == segment)
            return sp_volume_read_blocks(b->volume, &b->volume->segments[i], first, bytes, count,
                                         &error);
    return SP_NOT_FOUND;
}

/* Rot on either unit, in sealed segments and in the one that is being written: found by reading,
 * mended without a scrub, and counted for the unit that had it. */
static void test_read_mends(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    while (bench_status(b).end.blocks < 7)
        assert_int_equal(bench_deliver(b), SP_OK);
    uint64_t last = bench_status(b).end.segment;
    const uint64_t segments[] = {2, 3, last};
    for (size_t i = 0; i < 3; i++)
        for (uint32_t block = 2; block < 5; block++)
            assert_true(sp_sim_rot(b->world, block % 2, segments[i], 0, block));
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(read_some(b, segments[i], 1, 6), SP_OK);
    assert_int_equal(counts_of(b, 0).blocks_served, 6);
    assert_int_equal(counts_of(b, 1).blocks_served, 3);
    assert_int_equal(bench_status(b).blocks_bad, 9);
    assert_int_equal(bench_status(b).blocks_mended, 0); /* not by the reader itself */
    bench_tend_all(b);
    struct sp_volume_status status = bench_status(b);
    struct sp_unit_counts a = counts_of(b, 0), c = counts_of(b, 1);
    assert_true(a.blocks_mended == 6 && a.blocks_bad == 6);
    assert_true(c.blocks_mended == 3 && c.blocks_bad == 3);
    assert_int_equal(status.blocks_mended, a.blocks_mended + c.blocks_mended);
    assert_int_equal(status.blocks_unmendable, 0);
    assert_int_equal(status.blocks_misdirected, 0);
    assert_false(status.scrub_running || status.scrub_finished_ns);
    for (size_t i = 0; i < 3; i++)
        for (uint32_t block = 2; block < 5; block++)
            assert_true(same_on_both(b, segments[i], block));
    /* Nothing is left to be found. */
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(read_some(b, segments[i], 1, 6), SP_OK);
    bench_tend_all(b);
    assert_int_equal(bench_status(b).blocks_mended, status.blocks_mended);
    assert_int_equal(counts_of(b, 0).blocks_bad, a.blocks_bad);
    bench_end(b);
}

/* A sound block in another's place. */
static void test_misdirected(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    struct sp_unit *unit = b->volume->members[1].unit;
    uint8_t *block = aligned_alloc(SP_BLOCK_BYTES, SP_BLOCK_BYTES);
    assert_non_null(block);
    read_block(b, 1, 2, 3, block);
    unit->ops->write_start(unit, 2, 0, 4, block, 1);
    assert_int_equal(unit->ops->wait(unit, 1000, &error), SP_OK);
    free(block);
    /* a must not have it, lest nobody looks at b. */
    assert_true(sp_sim_rot(b->world, 0, 2, 0, 3));
    assert_int_equal(read_some(b, 2, 1, 6), SP_OK);
    assert_int_equal(counts_of(b, 1).blocks_misdirected, 1);
    assert_int_equal(counts_of(b, 0).blocks_misdirected, 0);
    assert_int_equal(bench_status(b).blocks_misdirected, 1);
    bench_tend_all(b);
    assert_true(same_on_both(b, 2, 3) && same_on_both(b, 2, 4));
    bench_end(b);
}

/* Bad on both: the reader is told, it is tried once for each unit, and not again at each read. */
static void test_unmendable(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    for (uint32_t disk = 0; disk < 2; disk++)
        assert_true(sp_sim_rot(b->world, disk, 2, 0, 7));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(read_some(b, 2, 7, 1), SP_CORRUPT);
        bench_tend_all(b);
    }
    assert_int_equal(counts_of(b, 0).blocks_unmendable, 1);
    assert_int_equal(counts_of(b, 1).blocks_unmendable, 1);
    assert_int_equal(bench_status(b).blocks_mended, 0);
    assert_int_equal(counts_of(b, 0).blocks_served, 0);
    assert_in_range(counts_of(b, 0).blocks_bad, 5, 7); /* by mending the other as well */
    sp_volume_close(b->volume);
    b->volume = NULL;
    bench_end(b);
}

/* What an ejected unit has is of no account: it is not written to. */
static void test_ejected_is_left_alone(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    uint8_t before[SP_BLOCK_BYTES], after[SP_BLOCK_BYTES];
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    assert_int_equal(bench_deliver(b), SP_OK);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    assert_int_equal(bench_state(b, 0), SP_UNIT_EJECTED);
    bench_tend_all(b); /* c is resilvered */
    for (uint32_t disk = 0; disk < 3; disk++)
        assert_true(sp_sim_rot(b->world, disk, 2, 0, 7));
    read_block(b, 0, 2, 7, before);
    assert_int_equal(read_some(b, 2, 7, 1), SP_CORRUPT); /* it was asked too */
    bench_tend_all(b);
    read_block(b, 0, 2, 7, after);
    assert_memory_equal(before, after, SP_BLOCK_BYTES);
    assert_int_equal(counts_of(b, 0).blocks_bad + counts_of(b, 0).blocks_unmendable, 0);
    assert_int_equal(counts_of(b, 1).blocks_unmendable, 1);
    assert_int_equal(counts_of(b, 2).blocks_unmendable, 1);
    sp_volume_close(b->volume);
    b->volume = NULL;
    bench_end(b);
}

/* More than the list can hold: what does not go into it is found again by the next read. */
static void test_overflow(void **state)
{
    (void)state;
    struct bench *b = bench_begin(256U << 10, 250);
    uint32_t rotten = 0;
    for (uint64_t segment = 1; segment < bench_status(b).end.segment; segment++)
        for (uint32_t block = 1; block < 60; block += 2)
            rotten += sp_sim_rot(b->world, 0, segment, 0, block);
    assert_true(rotten > 2 * SP_REPAIRS_MAX);
    uint64_t mended = 0;
    for (int i = 0; i < 20; i++) {
        read_all(b);
        bench_tend_all(b);
        if (i == 0)
            assert_in_range(bench_status(b).blocks_mended, 1, SP_REPAIRS_MAX);
        if (bench_status(b).blocks_mended == mended)
            break;
        mended = bench_status(b).blocks_mended;
    }
    assert_true(mended > SP_REPAIRS_MAX);
    uint64_t bad = counts_of(b, 0).blocks_bad;
    read_all(b);
    assert_int_equal(counts_of(b, 0).blocks_bad, bad);
    bench_end(b);
}

/* A unit that cannot be written to when it is to be mended is ejected, as ever. */
static void test_fault_while_mending(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    assert_true(sp_sim_rot(b->world, 0, 2, 0, 7));
    assert_int_equal(read_some(b, 2, 7, 1), SP_OK);
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    bench_tend_all(b);
    assert_int_equal(bench_deliver(b), SP_OK);
    assert_int_equal(bench_state(b, 0), SP_UNIT_EJECTED);
    assert_int_equal(bench_state(b, 2), SP_UNIT_REPLICA);
    bench_end(b);
}

/* Reading finds that a sealed segment's file is gone: it is brought back. */
static void test_file_gone(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    struct sp_unit *a = b->volume->members[0].unit;
    assert_int_equal(a->ops->remove(a, 3, 0, &error), SP_OK);
    read_all(b);
    assert_true(counts_of(b, 0).blocks_served > 0);
    bench_tend_all(b);
    assert_int_equal(bench_state(b, 0), SP_UNIT_REPLICA);
    assert_true(bench_status(b).thin_lsn == 0);
    assert_true(counts_of(b, 0).resilvered_bytes > 0);
    assert_true(same_on_both(b, 3, 2));
    bench_end(b);
}

static int tests(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(test_read_mends), cmocka_unit_test(test_misdirected),
        cmocka_unit_test(test_unmendable), cmocka_unit_test(test_ejected_is_left_alone),
        cmocka_unit_test(test_overflow),   cmocka_unit_test(test_fault_while_mending),
        cmocka_unit_test(test_file_gone),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}

int main(void)
{
    return bench_main(tests);
}
