/* Starts after something went wrong with the units: rot at the end of the log, votes that are
 * damaged, a start that is itself cut off. What was acknowledged is there, or the start is refused
 * and says what is lacking; it is never as if it had not been. */
#include "store/test_bench.h"
#include "store/volume_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ABSENT(disk) (1U << (disk))

static struct sp_error error;

/* Every block is sound on one of the two. */
static void test_rot_at_different_places(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 8);
    bench_stop(b);
    bench_rot(b, 0, 1, 5);
    bench_rot(b, 1, 1, 9);
    bench_rot(b, 1, 1, 0);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    model_check(b->volume, &b->model, NULL, 0);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_stop(b);
    /* Each was mended: either alone has it all. */
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_int_equal(bench_open(b, ABSENT(0), false, &error), SP_OK);
    bench_end(b);
}

/* A hole that nobody here can fill: refused, until somebody can. */
static void test_hole(void **state)
{
    static const struct {
        uint32_t block, absent;
        bool both;
    } cases[] = {{5, ABSENT(0), false}, {0, ABSENT(0), false}, {5, 0, true}, {0, 0, true}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench *b = bench_begin(0, 8);
        bench_stop(b);
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        for (int n = 0; n < 5; n++)
            assert_int_equal(bench_deliver(b), SP_OK);
        bench_stop(b);
        for (int kept = 0; kept < 2; kept++) {
            if (!kept)
                bench_rot(b, 1, 2, cases[i].block);
            if (!kept && cases[i].both)
                bench_rot(b, 0, 2, cases[i].block);
            if (kept) /* what the index knows is not needed to see it */
                assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
            assert_int_equal(bench_open(b, cases[i].absent, false, &error), SP_UNAVAILABLE);
            assert_non_null(strstr(error.why, "LSNs from"));
            sp_sim_restart(b->world);
        }
        if (!cases[i].both) {
            assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
            assert_int_equal(bench_deliver(b), SP_OK);
        }
        bench_end(b);
    }
}

/* The index has seen more than the units that are here have: the very end of the log is rotten on
 * the only replica, which looks like a batch that was never completed. */
static void test_index_knows_more(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 8);
    struct sp_volume_status status;
    struct sp_index *index;
    bool fresh;
    sp_volume_status(b->volume, &status);
    /* As a kill leaves it: nothing was said at the close. */
    sp_sim_crash_at(b->world, sp_sim_operations(b->world) + 1, SP_SIM_NONE);
    bench_stop(b);
    sp_sim_crash_at(b->world, 0, SP_SIM_NONE);
    bench_rot(b, 1, status.end.segment, status.end.blocks - 1);
    assert_int_equal(bench_open(b, ABSENT(0), false, &error), SP_UNAVAILABLE);
    assert_non_null(strstr(error.why, "the index has them"));
    /* Nor is it thrown away by making it again. */
    sp_sim_restart(b->world);
    b->rebuild = true;
    assert_int_equal(bench_open(b, ABSENT(0), false, &error), SP_UNAVAILABLE);
    assert_non_null(strstr(error.why, "the index has them"));
    b->rebuild = false;
    sp_sim_restart(b->world);
    assert_int_equal(sp_index_open(bench_index_path, 0, &index, &fresh, &error), SP_OK);
    assert_false(fresh);
    sp_index_close(index, false);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    bench_end(b);
}

/* One replica has rot, and the start that mends it is cut off at each of its operations. */
static void test_crash_while_mending(void **state)
{
    (void)state;
    uint32_t crashes = 0;
    for (uint64_t at = 1;; at++) {
        struct bench *b = bench_begin(0, 8);
        bench_stop(b);
        bench_rot(b, 1, 1, 5);
        sp_sim_crash_at(b->world, sp_sim_operations(b->world) + at, SP_SIM_SUBSET);
        enum sp_status status = bench_open(b, 0, false, &error);
        bool crashed = sp_sim_crashed(b->world);
        if (status == SP_OK)
            sp_volume_close(b->volume);
        b->volume = NULL;
        sp_sim_restart(b->world);
        sp_sim_crash_at(b->world, 0, SP_SIM_NONE);
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        bench_end(b);
        if (!crashed)
            break;
        crashes++;
    }
    assert_true(crashes > 10);
}

/* Mending finds no room: what there is can be read, and nothing is written over it. */
static void test_no_room_to_mend(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 8);
    bench_stop(b);
    bench_rot(b, 1, 1, 5);
    sp_sim_set_fault(b->world, 0, SP_SIM_FULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        model_check(b->volume, &b->model, NULL, 0);
        assert_int_equal(bench_deliver(b), SP_UNAVAILABLE);
        bench_stop(b);
    }
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_end(b);
}

/* Rot early in a segment that is longer than a batch may be. */
static void test_long_tail(void **state)
{
    (void)state;
    struct bench *b = bench_begin(256U << 20, 0);
    b->body_bytes = 4000000;
    for (int i = 0; i < 18; i++)
        assert_int_equal(bench_deliver(b), SP_OK);
    bench_stop(b);
    bench_rot(b, 1, 1, 3);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    bench_end(b);
}

/* Two batches of the same number, each on one unit only, for want of room: neither was
 * acknowledged. */
static void test_two_refusals(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 0);
    struct sp_volume_status status;
    b->body_bytes = 3000;
    for (sp_volume_status(b->volume, &status); status.end.blocks < 23;
         sp_volume_status(b->volume, &status))
        assert_int_equal(bench_deliver(b), SP_OK);
    b->body_bytes = 5000;
    sp_sim_set_fault(b->world, 1, SP_SIM_FULL);
    assert_int_equal(bench_deliver(b), SP_NO_SPACE);
    sp_sim_set_fault(b->world, 1, SP_SIM_HEALTHY);
    sp_sim_set_fault(b->world, 0, SP_SIM_FULL);
    b->body_bytes = 12000;
    assert_int_equal(bench_deliver(b), SP_NO_SPACE);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    bench_stop(b);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_end(b);
}

/* A damaged vote proves nothing; the others do. */
static void test_damaged_vote(void **state)
{
    static const size_t places[] = {3, 10, 18, 200};
    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct bench *b = bench_begin(0, 8);
        struct sp_unit *unit;
        uint8_t *vote;
        size_t len;
        bench_stop(b);
        assert_int_equal(sp_sim_unit_open(b->world, 2, "c", &unit, &error), SP_OK);
        assert_int_equal(unit->ops->vote_read(unit, &vote, &len, &error), SP_OK);
        vote[places[i]] ^= 0x80;
        assert_int_equal(unit->ops->vote_write(unit, sp_slice(vote, len), &error), SP_OK);
        free(vote);
        unit->ops->close(unit);
        sp_sim_restart(b->world);
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        assert_int_equal(bench_state(b, 2), SP_UNIT_STALE);
        assert_int_equal(bench_deliver(b), SP_OK);
        bench_stop(b);
        /* With one of the others away there is no majority left to believe. */
        assert_int_equal(bench_open(b, ABSENT(0), false, &error), SP_UNAVAILABLE);
        sp_sim_restart(b->world);
        /* Taken back, it is a voter again, and knows the epoch. */
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        assert_int_equal(sp_volume_add_unit(b->volume, "c", bench_open_disk, b, &error), SP_OK);
        assert_int_equal(bench_deliver(b), SP_OK);
        bench_stop(b);
        assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
        assert_int_equal(bench_open(b, ABSENT(0), false, &error), SP_OK);
        assert_int_equal(bench_state(b, 2), SP_UNIT_REPLICA);
        bench_end(b);
    }
}

/* A unit that opens, and then fails at everything, is as good as absent. */
static void test_unit_fails_at_start(void **state)
{
    (void)state;
    for (uint32_t disk = 0; disk < 3; disk++) {
        struct bench *b = bench_begin(0, 8);
        bench_stop(b);
        sp_sim_set_fault(b->world, disk, SP_SIM_FAIL_ALL);
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        assert_int_equal(bench_deliver(b), SP_OK);
        bench_end(b);
    }
}

/* A spare that was away for one start is a spare again, and takes the next failed unit's place. */
static void test_spare_comes_back(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 8);
    bench_stop(b);
    assert_int_equal(bench_open(b, ABSENT(2), false, &error), SP_OK);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_stop(b);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    assert_int_equal(bench_state(b, 2), SP_UNIT_SPARE);
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    assert_int_equal(bench_deliver(b), SP_OK);
    assert_int_equal(bench_state(b, 2), SP_UNIT_REPLICA);
    bench_end(b);
}

/* A unit and a copy of it, in the place of another, are one unit: no majority, and not two copies.
 */
static void test_unit_and_its_copy(void **state)
{
    struct sp_volume_config config;
    struct sp_volume *volume = NULL;
    (void)state;
    for (uint32_t absent = 0; absent < 2; absent++) {
        struct bench *b = bench_begin(0, 8);
        bench_stop(b);
        assert_int_equal(sp_sim_clone(b->world, 0, 7), SP_OK);
        sim_config(b->world, &b->id, bench_index_path, &config);
        config.units[1].unit->ops->close(config.units[1].unit);
        assert_int_equal(sp_sim_unit_open(b->world, 7, "b", &config.units[1].unit, &error), SP_OK);
        if (absent) {
            config.units[2].unit->ops->close(config.units[2].unit);
            config.units[2].unit = NULL;
        }
        assert_int_equal(sp_volume_open(&config, &volume, &error), SP_INVALID);
        assert_non_null(strstr(error.why, "units a and b are the same unit"));
        sp_sim_restart(b->world);
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        bench_end(b);
    }
}

/* A segment that has a head and no records is brought to a recruited unit as well, wherever that is
 * cut off. */
static void test_empty_segment(void **state)
{
    (void)state;
    for (uint64_t at = 1; at < 40; at++) {
        struct bench *b = bench_begin(0, 4);
        bench_stop(b);
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        sp_sim_crash_at(b->world, sp_sim_operations(b->world) + 1, SP_SIM_ALL);
        bench_stop(b);
        sp_sim_crash_at(b->world, 0, SP_SIM_ALL);
        assert_int_equal(bench_open(b, ABSENT(1), false, &error), SP_OK);
        const struct sp_volume *v = b->volume;
        assert_true(v->segments[1].last_lsn < v->segments[1].first_lsn && v->members[2].lacks == 2);
        sp_sim_crash_at(b->world, sp_sim_operations(b->world) + at, SP_SIM_ALL);
        while (sp_volume_run_once(b->volume) && !sp_sim_crashed(b->world))
            continue;
        bench_stop(b);
        sp_sim_crash_at(b->world, 0, SP_SIM_ALL);
        assert_int_equal(bench_open(b, ABSENT(1), false, &error), SP_OK);
        v = b->volume;
        for (size_t i = v->members[2].lacks; i < v->segments_count; i++) {
            const struct sp_volume_segment *s = &v->segments[i];
            struct sp_unit *unit = v->members[2].unit;
            static uint8_t block[SP_UNIT_BLOCK_BYTES];
            assert_int_equal(unit->ops->read(unit, s->segment, s->generation, 0, block, 1, &error),
                             SP_OK);
            assert_true(sp_volume_is_block_of(v, s, 0, block));
        }
        bench_end(b);
    }
}

/* A start reads the heads of those segments only that the index does not remember; and what it
 * remembers of one whose files are gone counts for nothing. */
static void test_segments_are_remembered(void **state)
{
    (void)state;
    for (int gone = 0; gone < 2; gone++) {
        struct bench *b = bench_begin(64U << 10, 60);
        struct sp_volume_status status;
        sp_volume_status(b->volume, &status);
        assert_true(status.segments > 5);
        bench_stop(b);
        for (uint32_t disk = 0; disk < 2 && !gone; disk++)
            bench_rot(b, disk, 3, 0);
        for (uint32_t disk = 0; disk < 2 && gone; disk++) {
            struct sp_unit *unit;
            assert_int_equal(sp_sim_unit_open(b->world, disk, "x", &unit, &error), SP_OK);
            assert_int_equal(unit->ops->remove(unit, 3, 0, &error), SP_OK);
            unit->ops->close(unit);
        }
        sp_sim_restart(b->world);
        if (!gone) {
            assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
            model_check(b->volume, &b->model, NULL, 0);
            assert_int_equal(bench_deliver(b), SP_OK);
            bench_stop(b);
            assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
        }
        assert_int_equal(bench_open(b, 0, false, &error), SP_UNAVAILABLE);
        assert_non_null(strstr(error.why, "segment 3,"));
        bench_end(b);
    }
}

/* A replica in whose place an older copy of it comes has missed what came since, also where the
 * newest epoch has only just begun: it is no replica until it was taken back. */
static void test_older_copy(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 4);
    bench_stop(b);
    assert_int_equal(sp_sim_clone(b->world, 0, 7), SP_OK);
    for (int i = 0; i < 3; i++) { /* the last of three epochs has one segment */
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        assert_int_equal(bench_deliver(b), SP_OK);
        bench_stop(b);
    }
    struct sp_volume_config config;
    sim_config(b->world, &b->id, bench_index_path, &config);
    config.units[0].unit->ops->close(config.units[0].unit);
    assert_int_equal(sp_sim_unit_open(b->world, 7, "a", &config.units[0].unit, &error), SP_OK);
    assert_int_equal(sp_volume_open(&config, &b->volume, &error), SP_OK);
    assert_int_equal(bench_state(b, 0), SP_UNIT_STALE);
    assert_int_equal(bench_state(b, 2), SP_UNIT_REPLICA);
    bench_end(b);
}

static int tests(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(test_rot_at_different_places),
        cmocka_unit_test(test_hole),
        cmocka_unit_test(test_index_knows_more),
        cmocka_unit_test(test_crash_while_mending),
        cmocka_unit_test(test_no_room_to_mend),
        cmocka_unit_test(test_long_tail),
        cmocka_unit_test(test_two_refusals),
        cmocka_unit_test(test_damaged_vote),
        cmocka_unit_test(test_unit_fails_at_start),
        cmocka_unit_test(test_spare_comes_back),
        cmocka_unit_test(test_unit_and_its_copy),
        cmocka_unit_test(test_empty_segment),
        cmocka_unit_test(test_segments_are_remembered),
        cmocka_unit_test(test_older_copy),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}

int main(void)
{
    return bench_main(tests);
}
