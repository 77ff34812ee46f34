/* Copies are brought to units that lack them, verified, and mended; whatever happens on the way. */
#include "store/test_bench.h"
#include "store/volume_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#define ABSENT(disk) (1U << (disk))

static struct sp_error error;

/* The spare that took a failed unit's place gets all that came before, and is enough alone. */
static void test_resilver(void **state)
{
    (void)state;
    for (uint32_t victim = 0; victim < 2; victim++) {
        struct bench *b = bench_begin(0, 60); /* several segments */
        sp_sim_set_fault(b->world, victim, SP_SIM_FAIL_WRITES);
        assert_int_equal(bench_deliver(b), SP_OK);
        struct sp_volume_status status = bench_status(b);
        assert_true(status.segments > 4 && status.thin_lsn > 0);
        assert_true(status.units[2].lacks_segments > 3);
        bench_tend_all(b);
        status = bench_status(b);
        assert_true(status.thin_lsn == 0 && status.units[2].lacks_segments == 0);
        for (int i = 0; i < 5; i++)
            assert_int_equal(bench_deliver(b), SP_OK);
        bench_stop(b);
        sp_sim_set_fault(b->world, victim, SP_SIM_HEALTHY);
        /* The unit that had everything is gone too: what was resilvered serves, and is read
         * whole. */
        assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
        assert_int_equal(bench_open(b, ABSENT(1 - victim), true, &error), SP_OK);
        bench_end(b);
    }
}

/* Cut off at each of its operations, it goes on after the restart, and the end is the same. */
static void test_crash_while_resilvering(void **state)
{
    (void)state;
    uint32_t crashes = 0;
    for (uint64_t at = 1;; at++) {
        struct bench *b = bench_begin(0, 30);
        sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
        assert_int_equal(bench_deliver(b), SP_OK);
        sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
        sp_sim_crash_at(b->world, sp_sim_operations(b->world) + at,
                        (enum sp_sim_survivors)(at % (SP_SIM_TORN + 1)));
        for (int i = 0; i < 1000 && !sp_sim_crashed(b->world) && sp_volume_run_once(b->volume); i++)
            ;
        bool crashed = sp_sim_crashed(b->world);
        bench_stop(b);
        sp_sim_crash_at(b->world, 0, SP_SIM_NONE);
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        model_check(b->volume, &b->model, NULL, 0);
        bench_tend_all(b);
        assert_true(bench_status(b).thin_lsn == 0);
        bench_stop(b);
        assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
        assert_int_equal(bench_open(b, ABSENT(1), true, &error), SP_OK);
        bench_end(b);
        if (!crashed)
            break;
        crashes++;
    }
    assert_true(crashes > 10);
}

/* The source has rot where the unit that failed does not: blocks are taken from either. */
static void test_resilver_from_rotten(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    for (uint32_t block = 1; block < 12; block++)
        assert_true(sp_sim_rot(b->world, block % 2, 2, 0, block));
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES); /* it can still be read */
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_tend_all(b);
    assert_true(bench_status(b).blocks_unmendable == 0);
    bench_stop(b);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_int_equal(bench_open(b, ABSENT(1), true, &error), SP_OK);
    bench_end(b);
}

/* No room on the unit: nothing is ejected, mail flows, and it goes on when there is room. */
static void test_resilver_without_room(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    assert_int_equal(bench_deliver(b), SP_OK);
    sp_sim_set_fault(b->world, 2, SP_SIM_FULL);
    bench_tend_all(b);
    assert_int_equal(bench_state(b, 2), SP_UNIT_REPLICA);
    assert_true(bench_status(b).thin_lsn > 0);
    bench_end(b);
}

/* Rot on both, nowhere in the same place: a scrub finds and mends all of it. */
static void test_scrub(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    uint32_t rotten = 0;
    for (uint64_t segment = 1; segment <= 4; segment++)
        for (uint32_t block = 0; block < 20; block += 3, rotten++)
            assert_true(sp_sim_rot(b->world, (uint32_t)(segment + block) % 2, segment, 0, block));
    sp_volume_scrub_now(b->volume);
    bench_tend_all(b);
    struct sp_volume_status status = bench_status(b);
    assert_true(status.scrub_finished_ns && !status.scrub_running);
    assert_int_equal(status.scrub_mended, rotten);
    assert_int_equal(status.scrub_unmendable, 0);
    assert_int_equal(status.scrub_done_blocks, status.scrub_total_blocks);
    sp_volume_scrub_now(b->volume);
    bench_tend_all(b);
    assert_int_equal(bench_status(b).scrub_mended, 0);
    /* One alone has everything now. */
    bench_stop(b);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_int_equal(bench_open(b, ABSENT(0), false, &error), SP_OK);
    bench_end(b);
}

/* Bad in the same place on both: counted, told of, and left; everything else is mended. */
static void test_unmendable(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    for (uint32_t disk = 0; disk < 2; disk++)
        assert_true(sp_sim_rot(b->world, disk, 2, 0, 7));
    assert_true(sp_sim_rot(b->world, 0, 2, 0, 9));
    sp_volume_scrub_now(b->volume);
    bench_tend_all(b);
    struct sp_volume_status status = bench_status(b);
    assert_int_equal(status.scrub_mended, 1);
    assert_int_equal(status.scrub_unmendable, 2);
    sp_volume_close(b->volume);
    b->volume = NULL;
    bench_end(b);
}

/* A unit that fails while it is being mended is ejected as for any other write. */
static void test_fault_while_scrubbing(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    assert_true(sp_sim_rot(b->world, 0, 2, 0, 7));
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    sp_volume_scrub_now(b->volume);
    bench_tend_all(b);
    assert_int_equal(bench_deliver(b), SP_OK);
    assert_int_equal(bench_state(b, 0), SP_UNIT_EJECTED);
    assert_int_equal(bench_state(b, 2), SP_UNIT_REPLICA);
    bench_tend_all(b);
    assert_true(bench_status(b).thin_lsn == 0);
    bench_end(b);
}

/* Files of a replica that are gone when the volume starts are brought back. */
static void test_lost_files(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    struct sp_unit *unit;
    bench_stop(b);
    assert_int_equal(sp_sim_unit_open(b->world, 1, "b", &unit, &error), SP_OK);
    for (uint64_t segment = 2; segment <= 4; segment++)
        assert_int_equal(unit->ops->remove(unit, segment, 0, &error), SP_OK);
    unit->ops->close(unit);
    sp_sim_restart(b->world);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    assert_true(bench_status(b).thin_lsn > 0);
    bench_tend_all(b);
    assert_true(bench_status(b).thin_lsn == 0);
    bench_stop(b);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_int_equal(bench_open(b, ABSENT(0), false, &error), SP_OK);
    bench_end(b);
}

/* A sealed segment's file vanishes from a unit that is in use: a scrub finds it, and brings it
 * back. */
static void test_file_lost_in_use(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    struct sp_unit *a = b->volume->members[0].unit;
    assert_int_equal(a->ops->remove(a, 3, 0, &error), SP_OK);
    sp_volume_scrub_now(b->volume);
    bench_tend_all(b);
    assert_int_equal(bench_state(b, 0), SP_UNIT_REPLICA);
    assert_true(bench_status(b).thin_lsn == 0);
    bench_stop(b);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_int_equal(bench_open(b, ABSENT(1), false, &error), SP_OK);
    bench_end(b);
}

/* A unit that was ejected is repaired and taken back: a spare, with what it had; and when another
 * fails, only what it missed is written to it. */
/* The last holder of what is old fails, while it is being brought to another: it is not written to
 * any more, and goes on being read until the other has it all. */
static void test_last_holder(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 40);
    struct sp_volume_status status;
    bench_stop(b);
    assert_int_equal(bench_open(b, 0, true, &error), SP_OK);
    uint64_t old_lsn;
    sp_volume_status(b->volume, &status);
    old_lsn = status.end.lsn;
    sp_sim_set_fault(b->world, 1, SP_SIM_GONE);
    assert_int_equal(bench_deliver(b), SP_OK);
    assert_int_equal(bench_state(b, 2), SP_UNIT_REPLICA);
    /* A voter more, without which there would be no majority. */
    sp_sim_set_fault(b->world, 1, SP_SIM_HEALTHY);
    assert_int_equal(sp_volume_add_unit(b->volume, "b", bench_open_disk, b, &error), SP_OK);
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    assert_int_equal(bench_deliver(b), SP_OK);
    assert_int_equal(bench_state(b, 0), SP_UNIT_EJECTED);
    sp_volume_status(b->volume, &status);
    assert_true(status.units[1].lacks_segments && status.units[2].lacks_segments);
    assert_true(status.units[0].sole_lsn > 0 && status.units[0].sole_lsn <= old_lsn + 10);
    model_check(b->volume, &b->model, NULL, 0);
    while (sp_volume_run_once(b->volume))
        continue;
    sp_volume_status(b->volume, &status);
    assert_int_equal(status.units[2].lacks_segments, 0);
    assert_int_equal(status.units[0].sole_lsn, 0);
    bench_stop(b);
    /* The other one alone has everything. */
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    sp_sim_set_fault(b->world, 1, SP_SIM_HEALTHY);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_int_equal(bench_open(b, ABSENT(0), true, &error), SP_OK);
    bench_end(b);
}

static void test_add_unit(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 60);
    assert_int_equal(sp_volume_add_unit(b->volume, "a", bench_open_disk, b, &error), SP_EXISTS);
    assert_int_equal(sp_volume_add_unit(b->volume, "x", bench_open_disk, b, &error), SP_NOT_FOUND);
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    for (int i = 0; i < 10; i++)
        assert_int_equal(bench_deliver(b), SP_OK);
    bench_tend_all(b);
    assert_int_equal(bench_state(b, 0), SP_UNIT_EJECTED);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    assert_int_equal(sp_volume_add_unit(b->volume, "a", bench_open_disk, b, &error), SP_OK);
    assert_int_equal(bench_state(b, 0), SP_UNIT_SPARE);
    bench_stop(b);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    assert_int_equal(bench_state(b, 0), SP_UNIT_SPARE);
    sp_sim_set_fault(b->world, 1, SP_SIM_FAIL_ALL);
    assert_int_equal(bench_deliver(b), SP_OK);
    assert_int_equal(bench_state(b, 0), SP_UNIT_REPLICA);
    uint64_t resilvered = bench_status(b).resilvered_bytes;
    bench_tend_all(b);
    struct sp_volume_status status = bench_status(b);
    assert_true(status.thin_lsn == 0);
    assert_true(status.resilvered_bytes > resilvered);
    assert_true(status.resilvered_bytes - resilvered < status.tended_bytes / 2);
    bench_stop(b);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    sp_sim_set_fault(b->world, 1, SP_SIM_HEALTHY);
    assert_int_equal(bench_open(b, ABSENT(2), true, &error), SP_OK);
    bench_end(b);
}

/* With too few copies the volume defers; a unit that is taken back is enough to go on. */
static void test_add_unit_ends_deferring(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 20);
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    assert_int_equal(bench_deliver(b), SP_OK);
    sp_sim_set_fault(b->world, 1, SP_SIM_FAIL_WRITES);
    assert_int_equal(bench_deliver(b), SP_UNAVAILABLE);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    assert_int_equal(sp_volume_add_unit(b->volume, "a", bench_open_disk, b, &error), SP_OK);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_tend_all(b);
    assert_true(bench_status(b).thin_lsn == 0);
    bench_end(b);
}

/* A unit that is taken back has a whole batch of an attempt that failed: valid, in its place, and
 * not the log's, which went on with another attempt elsewhere. */
static void test_failed_attempt_stays_void(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 0);
    b->body_bytes = 3000;
    while (bench_status(b).end.blocks < 23)
        assert_int_equal(bench_deliver(b), SP_OK);
    b->body_bytes = 5000;
    sp_sim_set_fault(b->world, 1, SP_SIM_FULL);
    assert_int_equal(bench_deliver(b), SP_NO_SPACE); /* whole on a */
    sp_sim_set_fault(b->world, 1, SP_SIM_HEALTHY);
    b->seed += 2; /* to the same mailbox, another message */
    /* a is gone; the power fails when b has this attempt, and before another epoch is voted for. */
    sp_sim_set_fault(b->world, 0, SP_SIM_GONE);
    sp_sim_crash_at(b->world, sp_sim_operations(b->world) + 4, SP_SIM_NONE);
    assert_int_not_equal(bench_deliver(b), SP_OK);
    struct step doubt = {.type = STEP_DELIVER,
                         .mailbox = b->seed % MODEL_MAILBOXES,
                         .seed = b->seed,
                         .body_bytes = 5000};
    doubt.uid = b->model.mailboxes[doubt.mailbox].uid_highest + 1;
    bench_stop(b);
    sp_sim_crash_at(b->world, 0, SP_SIM_NONE);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    assert_int_equal(bench_open(b, ABSENT(0), false, &error), SP_OK);
    model_check(b->volume, &b->model, &doubt, 1);
    assert_int_equal(b->model.mailboxes[doubt.mailbox].messages[doubt.uid].state, MODEL_PRESENT);
    assert_int_equal(bench_deliver(b), SP_OK);
    assert_int_equal(sp_volume_add_unit(b->volume, "a", bench_open_disk, b, &error), SP_OK);
    sp_sim_set_fault(b->world, 2, SP_SIM_FAIL_WRITES);
    assert_int_equal(bench_deliver(b), SP_OK); /* a takes c's place */
    bench_tend_all(b);
    assert_true(bench_status(b).thin_lsn == 0);
    model_check(b->volume, &b->model, NULL, 0);
    bench_stop(b);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_int_equal(bench_open(b, ABSENT(1), true, &error), SP_OK); /* a alone */
    bench_end(b);
}

static int tests(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(test_resilver),
        cmocka_unit_test(test_crash_while_resilvering),
        cmocka_unit_test(test_resilver_from_rotten),
        cmocka_unit_test(test_resilver_without_room),
        cmocka_unit_test(test_scrub),
        cmocka_unit_test(test_unmendable),
        cmocka_unit_test(test_fault_while_scrubbing),
        cmocka_unit_test(test_lost_files),
        cmocka_unit_test(test_file_lost_in_use),
        cmocka_unit_test(test_failed_attempt_stays_void),
        cmocka_unit_test(test_last_holder),
        cmocka_unit_test(test_add_unit),
        cmocka_unit_test(test_add_unit_ends_deferring),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}

int main(void)
{
    return bench_main(tests);
}
