/* The store while units fail: ejected, recruited, deferring, full; nothing acknowledged is lost. */
#include "base/log.h"
#include "store/test_bench.h"
#include "store/volume_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* Each fault of one replica: the delivery under way succeeds, the spare is in its place, all is
 * there after a restart without the failed unit. */
static void test_replica_lost(void **state)
{
    static const enum sp_sim_fault faults[] = {SP_SIM_FAIL_WRITES, SP_SIM_FAIL_ALL, SP_SIM_GONE,
                                               SP_SIM_STALL};
    (void)state;
    for (uint32_t victim = 0; victim < 2; victim++) {
        for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
            struct bench *b = bench_begin(0, 10);
            struct sp_error error = {0};
            sp_sim_set_fault(b->world, victim, faults[f]);
            for (int i = 0; i < 40; i++)
                assert_int_equal(bench_deliver(b), SP_OK);
            assert_int_equal(bench_state(b, victim), SP_UNIT_EJECTED);
            assert_int_equal(bench_state(b, 2), SP_UNIT_REPLICA);
            model_check(b->volume, &b->model, NULL, 0);
            sp_volume_close(b->volume);
            sp_sim_set_fault(b->world, victim, SP_SIM_HEALTHY);
            sp_sim_restart(b->world);
            /* The old segments are on the other replica, the new ones on both. */
            assert_int_equal(bench_open(b, 1U << victim, false, &error), SP_OK);
            assert_int_equal(bench_deliver(b), SP_OK);
            bench_end(b);
        }
    }
}

/* The unit that was ejected comes back alone: it proves nothing, and says what it lacks. */
static void test_stale_unit_alone(void **state)
{
    struct bench *b = bench_begin(0, 10);
    struct sp_error error = {0};
    (void)state;
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_ALL);
    assert_int_equal(bench_deliver(b), SP_OK);
    sp_volume_close(b->volume);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    sp_sim_restart(b->world);
    assert_int_equal(bench_open(b, 6, false, &error), SP_UNAVAILABLE);
    assert_non_null(strstr(error.why, "absent"));
    /* With the spare that took part in the vote, the newest epoch is known; its one replica has the
     * new LSNs, the stale unit the old ones. Two copies cannot be written: it opens for reading. */
    sp_sim_restart(b->world);
    assert_int_equal(bench_open(b, 2, false, &error), SP_OK);
    assert_int_equal(bench_deliver(b), SP_UNAVAILABLE);
    model_check(b->volume, &b->model, NULL, 0);
    sp_volume_close(b->volume);
    sp_sim_restart(b->world);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_end(b);
}

/* Two units of three lost: deferring; nothing lost, reads go on. */
static void test_two_lost(void **state)
{
    struct bench *b = bench_begin(0, 10);
    struct sp_error error = {0};
    (void)state;
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_ALL);
    assert_int_equal(bench_deliver(b), SP_OK);
    sp_sim_set_fault(b->world, 2, SP_SIM_FAIL_WRITES);
    assert_int_equal(bench_deliver(b), SP_UNAVAILABLE);
    assert_int_equal(bench_deliver(b), SP_UNAVAILABLE);
    model_check(b->volume, &b->model, NULL, 0);
    sp_volume_close(b->volume);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    sp_sim_set_fault(b->world, 2, SP_SIM_HEALTHY);
    sp_sim_restart(b->world);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_end(b);
}

/* A full unit ejects nobody; when there is room again, mail flows. */
static void test_full(void **state)
{
    struct bench *b = bench_begin(0, 10);
    (void)state;
    sp_sim_set_fault(b->world, 1, SP_SIM_FULL);
    enum sp_status status = SP_OK;
    for (int i = 0; i < 200 && status == SP_OK; i++)
        status = bench_deliver(b);
    assert_int_equal(status, SP_NO_SPACE);
    assert_int_equal(bench_state(b, 1), SP_UNIT_REPLICA);
    assert_int_equal(bench_deliver(b), SP_NO_SPACE);
    sp_sim_set_fault(b->world, 1, SP_SIM_HEALTHY);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_end(b);
}

static enum sp_status domain_plan(struct sp_plan *plan, void *context)
{
    (void)context;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_domain_record_write(&(struct sp_domain_record){.name = SP_S("example.org")}, buf);
    return sp_plan_emit(plan, SP_RECORD_DOMAIN, NULL, 0, sp_buf_slice(buf), NULL);
}

/* Nothing is taken before the disk is full: so a unit that fails then is left behind all the same,
 * which takes a new segment on the others. */
static void test_reserve(void **state)
{
    const uint64_t segment = 64 << 10;
    struct bench *b = bench_begin(segment, 10);
    struct sp_volume_status volume;
    (void)state;
    bench_stop(b);
    b->reserve_bytes = 2 * segment;
    struct sp_error error;
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    for (uint32_t disk = 0; disk < 3; disk++)
        sp_sim_set_capacity(b->world, disk, sp_sim_used(b->world, 0) + 6 * segment);
    enum sp_status status = SP_OK;
    for (int i = 0; i < 200 && status == SP_OK; i++) {
        b->volume->checked_ms = 0; /* it looks every half second */
        status = bench_deliver(b);
    }
    assert_int_equal(status, SP_NO_SPACE);
    sp_volume_status(b->volume, &volume);
    assert_true(volume.short_of_space && volume.deferring && strstr(volume.why, "in reserve"));
    assert_int_equal(bench_state(b, 0), SP_UNIT_REPLICA);
    uint32_t epoch = volume.epoch_counter;
    sp_sim_set_fault(b->world, 1, SP_SIM_GONE);
    b->volume->checked_ms = 0;
    sp_volume_run_once(b->volume);
    sp_volume_status(b->volume, &volume);
    assert_int_equal(bench_state(b, 1), SP_UNIT_EJECTED);
    assert_int_equal(bench_state(b, 2), SP_UNIT_REPLICA);
    assert_true(volume.epoch_counter == epoch + 1 && volume.short_of_space);
    /* Still nothing is taken but what may use the reserve; with room it is, at once. */
    b->volume->checked_ms = 0;
    assert_int_equal(sp_volume_commit(b->volume, domain_plan, NULL, &error), SP_NO_SPACE);
    assert_non_null(strstr(error.why, "in reserve"));
    assert_int_equal(sp_volume_commit_from_reserve(b->volume, domain_plan, NULL, &error), SP_OK);
    b->volume->checked_ms = 0;
    assert_int_equal(bench_deliver(b), SP_NO_SPACE);
    sp_sim_set_capacity(b->world, 0, 0);
    sp_sim_set_capacity(b->world, 2, 0);
    b->volume->checked_ms = 0;
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_end(b);
}

/* Rotten blocks are served from the twin, and counted. */
static void test_rot(void **state)
{
    struct bench *b = bench_begin(0, 10);
    struct sp_volume_status status;
    (void)state;
    for (uint32_t block = 1; block < 12; block++)
        assert_true(sp_sim_rot(b->world, block % 2, 1, 0, block));
    model_check(b->volume, &b->model, NULL, 0);
    sp_volume_status(b->volume, &status);
    assert_true(status.blocks_bad > 0);
    bench_end(b);
}

/* A plan that refuses leaves nothing behind, and its neighbours in the batch alone. */
static enum sp_status refusing_plan(struct sp_plan *plan, void *context)
{
    (void)plan;
    (void)context;
    return SP_CONFLICT;
}

static void test_refusal(void **state)
{
    struct bench *b = bench_begin(0, 10);
    struct sp_error error;
    struct sp_volume_status before, after;
    (void)state;
    sp_volume_status(b->volume, &before);
    assert_int_equal(sp_volume_commit(b->volume, refusing_plan, NULL, &error), SP_CONFLICT);
    sp_volume_status(b->volume, &after);
    assert_true(before.end.lsn == after.end.lsn);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_end(b);
}

/* The index thrown away: it is made again from footers and data, and is the same. */
static void test_rebuild(void **state)
{
    struct bench *b = bench_begin(0, 10);
    struct sp_error error;
    (void)state;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(bench_deliver(b), SP_OK);
        if (i % 7 == 3)
            assert_int_equal(bench_run(b, (struct step){.type = STEP_FLAGS,
                                                        .mailbox = 1,
                                                        .uid = 1 + (uint32_t)i / 7,
                                                        .flags = 3}),
                             SP_OK);
        if (i % 20 == 19)
            assert_int_equal(
                bench_run(
                    b, (struct step){.type = STEP_EXPUNGE, .mailbox = 2, .uid = (uint32_t)i / 20}),
                SP_OK);
    }
    for (int i = 0; i < 3; i++) {
        sp_volume_close(b->volume);
        sp_sim_restart(b->world);
        assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        model_check(b->volume, &b->model, NULL, 0);
    }
    bench_end(b);
}

/* One replica fails while another is full: nothing is acknowledged on the strength of one copy, and
 * the epoch that the failed unit was in is over. */
static void test_failure_and_full(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 10);
    struct sp_volume_status status;
    struct sp_error error;
    sp_sim_set_fault(b->world, 1, SP_SIM_FULL);
    while (bench_deliver(b) == SP_OK)
        ;
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    assert_int_not_equal(bench_deliver(b), SP_OK);
    assert_int_equal(bench_state(b, 0), SP_UNIT_EJECTED);
    sp_volume_status(b->volume, &status);
    uint32_t epoch = status.epoch_counter;
    sp_sim_set_fault(b->world, 1, SP_SIM_HEALTHY);
    /* There is room again: an epoch of b and the spare is tried for, and mail flows. */
    enum sp_status delivered = SP_UNAVAILABLE;
    for (int i = 0; i < 100 && delivered != SP_OK; i++) {
        usleep(100000);
        delivered = bench_deliver(b);
    }
    assert_int_equal(delivered, SP_OK);
    sp_volume_status(b->volume, &status);
    assert_true(status.epoch_counter >= epoch && status.copies == 2);
    assert_int_equal(bench_state(b, 2), SP_UNIT_REPLICA);
    bench_stop(b);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    bench_end(b);
}

/* The last replica's place is empty: the volume stops writing, rather than into files that nobody
 * will find again. */
static void test_last_replica_vanishes(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 10);
    struct sp_error error;
    bench_stop(b);
    assert_int_equal(bench_open(b, 0, true, &error), SP_OK);
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    assert_int_equal(bench_deliver(b), SP_OK);
    sp_sim_set_fault(b->world, 1, SP_SIM_GONE);
    sp_sim_set_fault(b->world, 2, SP_SIM_GONE);
    usleep(600000); /* the watch looks every half second */
    assert_int_equal(bench_deliver(b), SP_UNAVAILABLE);
    for (uint32_t disk = 0; disk < 3; disk++)
        sp_sim_set_fault(b->world, disk, SP_SIM_HEALTHY);
    bench_stop(b);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    bench_end(b);
}

/* Everything stalls, or one fails and the other stalls: nobody is ejected for that, those who wait
 * are answered, and when the disks answer again mail flows. */
static void test_all_stall(void **state)
{
    (void)state;
    for (int one_fails = 0; one_fails < 2; one_fails++) {
        struct bench *b = bench_begin(0, 10);
        struct sp_error error;
        sp_sim_set_fault(b->world, 0, SP_SIM_STALL);
        sp_sim_set_fault(b->world, 1, one_fails ? SP_SIM_FAIL_WRITES : SP_SIM_STALL);
        assert_int_equal(bench_deliver(b), SP_UNAVAILABLE);
        assert_int_equal(bench_state(b, 0), SP_UNIT_REPLICA);
        assert_int_equal(bench_state(b, 1), one_fails ? SP_UNIT_EJECTED : SP_UNIT_REPLICA);
        assert_int_equal(bench_deliver(b), SP_UNAVAILABLE);
        model_check(b->volume, &b->model, NULL, 0);
        for (uint32_t disk = 0; disk < 2; disk++)
            sp_sim_set_fault(b->world, disk, SP_SIM_HEALTHY);
        enum sp_status delivered = SP_UNAVAILABLE;
        for (int i = 0; i < 100 && delivered != SP_OK; i++) {
            usleep(100000);
            delivered = bench_deliver(b);
        }
        assert_int_equal(delivered, SP_OK);
        bench_stop(b);
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        bench_end(b);
    }
}

/* A unit that was found absent, and is back, and has what nobody else has now. */
static void test_read_from_absent(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 10);
    b->volume->members[1].state = SP_UNIT_ABSENT;
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_ALL);
    model_check(b->volume, &b->model, NULL, 0);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    bench_end(b);
}

static void watch(struct bench *b)
{
    b->volume->checked_ms = b->volume->retried_ms = 0;
    while (sp_volume_run_once(b->volume))
        continue;
}

/* Both replicas fail while a segment is sealed, so that its footer is on neither; they are taken
 * back one after the other, and neither fails for want of that footer. */
static void test_footer_on_none(void **state)
{
    (void)state;
    for (uint32_t messages = 4; messages < 12;
         messages++) { /* what a failed write leaves differs */
        struct sp_error error = {0};
        struct bench *b = bench_begin(0, messages);
        b->volume->members[2].spare = false;
        b->volume->members[2].witness = true;
        b->volume->members[2].state = SP_UNIT_WITNESS;
        sp_sim_set_fault(b->world, 0, SP_SIM_GONE);
        sp_sim_set_fault(b->world, 1, SP_SIM_FAIL_WRITES);
        watch(b);
        assert_int_equal(bench_state(b, 0), SP_UNIT_EJECTED);
        sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
        (void)!sp_volume_add_unit(b->volume, "a", bench_open_disk, b, &error);
        sp_sim_set_fault(b->world, 1, SP_SIM_HEALTHY);
        (void)!sp_volume_add_unit(b->volume, "b", bench_open_disk, b, &error);
        watch(b);
        assert_int_equal(bench_state(b, 0), SP_UNIT_REPLICA);
        assert_int_equal(bench_state(b, 1), SP_UNIT_REPLICA);
        assert_int_equal(bench_deliver(b), SP_OK);
        bench_end(b);
    }
}

static int tests(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(test_all_stall),
        cmocka_unit_test(test_failure_and_full),
        cmocka_unit_test(test_last_replica_vanishes),
        cmocka_unit_test(test_replica_lost),
        cmocka_unit_test(test_stale_unit_alone),
        cmocka_unit_test(test_two_lost),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_rot),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_rebuild),
        cmocka_unit_test(test_read_from_absent),
        cmocka_unit_test(test_footer_on_none),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}

int main(void)
{
    return bench_main(tests);
}
