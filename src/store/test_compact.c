/* Compaction on simulated disks: what is live stays byte for byte, what is past its hold goes, and
 * a stop at any operation leaves the old or the new. */
#include "base/log.h"
#include "format/spans.h"
#include "store/test_bench.h"
#include "store/volume_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define DAY_MS   (24ULL * 3600000U)
#define YEAR_MS  (365U * DAY_MS)
#define START_NS 1900000000000000000ULL

static struct bench *begin(uint64_t hold_ms, uint32_t messages)
{
    struct bench *b = bench_begin(0, 0);
    struct sp_error error;
    bench_stop(b);
    b->hold_ms = hold_ms;
    b->clocked = true;
    b->wall_ns = START_NS;
    b->ms = 1000;
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    for (uint32_t i = 0; i < messages; i++)
        assert_int_equal(bench_deliver(b), SP_OK);
    return b;
}

static void reopen(struct bench *b, bool rebuild)
{
    struct sp_error error;
    bench_stop(b);
    b->rebuild = rebuild;
    enum sp_status status = bench_open(b, 0, false, &error);
    if (status != SP_OK)
        sp_error_print(&error);
    assert_int_equal(status, SP_OK);
    b->rebuild = false;
    model_check(b->volume, &b->model, NULL, 0);
}

static void expunge(struct bench *b, uint32_t mailbox, uint32_t uid)
{
    assert_int_equal(
        bench_run(b, (struct step){.type = STEP_EXPUNGE, .mailbox = mailbox, .uid = uid}), SP_OK);
}

static void expunge_first(struct bench *b, uint32_t uids)
{
    for (uint32_t uid = 1; uid <= uids; uid++)
        for (uint32_t mailbox = 0; mailbox < MODEL_MAILBOXES; mailbox++)
            expunge(b, mailbox, uid);
}

static void flag(struct bench *b, uint32_t mailbox, uint32_t uid, uint32_t flags)
{
    assert_int_equal(
        bench_run(
            b, (struct step){.type = STEP_FLAGS, .mailbox = mailbox, .uid = uid, .flags = flags}),
        SP_OK);
}

/* Both clocks go on, in steps of an hour, so that the log hears of it. */
static void pass(struct bench *b, uint64_t ms)
{
    for (uint64_t done = 0; done < ms;) {
        uint64_t step = ms - done < 3600000U ? ms - done : 3600000U;
        b->ms += step;
        b->wall_ns += step * 1000000U;
        done += step;
        while (sp_volume_run_once(b->volume))
            continue;
    }
}

static uint64_t retired_bytes(struct bench *b, size_t *ret_count)
{
    struct sp_retired_segment *list = NULL;
    struct sp_error error;
    uint64_t bytes = 0;
    assert_int_equal(sp_volume_retired(b->volume, &list, ret_count, &error), SP_OK);
    for (size_t i = 0; i < *ret_count; i++)
        bytes += list[i].bytes;
    free(list);
    return bytes;
}

static void delete_all_retired(struct bench *b)
{
    struct sp_retired_segment *list = NULL;
    struct sp_error error;
    size_t count;
    assert_int_equal(sp_volume_retired(b->volume, &list, &count, &error), SP_OK);
    for (size_t i = 0; i < count; i++) {
        enum sp_status status =
            sp_volume_delete_retired(b->volume, list[i].segment, list[i].generation, &error);
        if (status != SP_OK)
            sp_error_print(&error);
        assert_int_equal(status, SP_OK);
    }
    free(list);
}

static void test_space_comes_back(void **state)
{
    (void)state;
    struct bench *b = begin(0, 90);
    expunge_first(b, 20);
    flag(b, 0, 28, 4);
    uint64_t before = bench_status(b).segments;
    assert_true(bench_compact(b));
    assert_true(bench_status(b).segments < before && bench_status(b).compact_merged > 0);
    model_check(b->volume, &b->model, NULL, 0);
    reopen(b, false);
    reopen(b, true);
    size_t count;
    assert_true(retired_bytes(b, &count) > 0 && count > 0);
    delete_all_retired(b);
    assert_int_equal(retired_bytes(b, &count), 0);
    model_check(b->volume, &b->model, NULL, 0);
    reopen(b, true);
    /* A second time, over what the first one made, with more gone. */
    for (uint32_t i = 0; i < 30; i++)
        assert_int_equal(bench_deliver(b), SP_OK);
    for (uint32_t uid = 21; uid <= 30; uid++)
        for (uint32_t mailbox = 0; mailbox < MODEL_MAILBOXES; mailbox++)
            expunge(b, mailbox, uid);
    assert_true(bench_compact(b));
    model_check(b->volume, &b->model, NULL, 0);
    reopen(b, false);
    reopen(b, true);
    delete_all_retired(b);
    reopen(b, true);
    bench_end(b);
}

/* How many expunged messages are still held, each with its body. */
static uint32_t count_held(struct bench *b)
{
    struct sp_read read;
    struct sp_held held = {0};
    struct sp_arena arena;
    struct sp_reader *reader = sp_reader_new(b->volume);
    uint32_t count = 0;
    enum sp_status status;
    assert_int_equal(sp_read_begin(sp_volume_index(b->volume), &read), SP_OK);
    sp_arena_init(&arena, 1U << 20);
    while ((status = sp_index_next_held(&read, &b->model.account, &held)) == SP_OK) {
        struct sp_message m;
        struct sp_body_row row;
        struct sp_slice bytes;
        struct sp_error error;
        assert_int_equal(sp_message_read(held.payload, &arena, &m), SP_OK);
        assert_int_equal(sp_index_body(&read, m.bodies.ptr[0], &row), SP_OK);
        assert_int_equal(sp_reader_body(reader, &row, UINT64_MAX, &bytes, &error), SP_OK);
        assert_int_equal(bytes.len, m.size);
        count++;
        sp_arena_release(&arena);
    }
    assert_int_equal(status, SP_EOF);
    sp_read_end(&read);
    sp_reader_free(reader);
    return count;
}

static void test_hold(void **state)
{
    (void)state;
    struct bench *b = begin(14 * DAY_MS, 60);
    expunge_first(b, 15);
    for (uint32_t i = 0; i < 30; i++)
        assert_int_equal(bench_deliver(b), SP_OK);
    assert_true(bench_compact(b));
    assert_int_equal(count_held(b), 45);
    pass(b, 13 * DAY_MS);
    assert_true(bench_compact(b));
    assert_int_equal(count_held(b), 45);
    reopen(b, true);
    assert_int_equal(count_held(b), 45);
    /* What the volume is closed for is no time that it held anything. */
    bench_stop(b);
    b->wall_ns += 100 * DAY_MS * 1000000U;
    b->ms = 5;
    struct sp_error error;
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    assert_true(bench_compact(b));
    assert_int_equal(count_held(b), 45);
    assert_int_equal(sp_volume_running_ms(b->volume), 13 * DAY_MS);
    pass(b, 2 * DAY_MS);
    assert_int_equal(sp_volume_running_ms(b->volume), 15 * DAY_MS);
    assert_true(bench_compact(b));
    assert_int_equal(count_held(b), 0);
    model_check(b->volume, &b->model, NULL, 0);
    reopen(b, true);
    assert_int_equal(count_held(b), 0);
    delete_all_retired(b);
    reopen(b, true);
    bench_end(b);
}

static void test_clocks_that_jump(void **state)
{
    (void)state;
    static const int64_t years[] = {10, -20, 30, -10};
    struct bench *b = begin(14 * DAY_MS, 60);
    expunge_first(b, 15);
    for (size_t i = 0; i < sizeof years / sizeof *years; i++) {
        b->wall_ns += (uint64_t)(years[i] * (int64_t)YEAR_MS * 1000000);
        for (uint32_t k = 0; k < 30; k++)
            assert_int_equal(bench_deliver(b), SP_OK);
        pass(b, 3 * DAY_MS);
        assert_true(bench_compact(b));
        assert_int_equal(count_held(b), 45);
        if (i % 2)
            reopen(b, true);
    }
    /* And the other one alone moves nothing either: the wall clock says that it was yesterday. */
    b->ms += 10 * YEAR_MS;
    assert_int_equal(bench_deliver(b), SP_OK);
    assert_true(bench_compact(b));
    assert_int_equal(count_held(b), 45);
    model_check(b->volume, &b->model, NULL, 0);
    bench_end(b);
}

/* ---- Stops at every operation ---- */

/* No replica has an older generation, or a segment that another replaced: all was listed, and
 * deleted. */
static void check_no_old_files(struct bench *b)
{
    const struct sp_volume *v = b->volume;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_unit *unit = v->members[i].unit;
        struct sp_unit_segment *list = NULL;
        struct sp_error error;
        size_t count = 0;
        if (v->members[i].state != SP_UNIT_REPLICA)
            continue;
        assert_int_equal(unit->ops->list(unit, &list, &count, &error), SP_OK);
        for (size_t k = 0; k < count; k++)
            for (size_t n = 0; n < v->segments_count; n++) {
                const struct sp_volume_segment *live = &v->segments[n];
                uint64_t before = n ? v->segments[n - 1].segment : 0;
                if (list[k].segment > before && list[k].segment <= live->segment)
                    assert_true(list[k].segment == live->segment &&
                                list[k].generation >= live->generation);
            }
        free(list);
    }
}

/* Everything that a compaction does, cut off at one operation; then the start after it, and a
 * second compaction. Returns how many operations the compaction took. */
static uint64_t cut_off(uint64_t at, enum sp_sim_survivors survivors, bool overlap)
{
    struct bench *b = begin(0, 40);
    struct sp_error error;
    uint64_t operations;
    expunge_first(b, 9);
    flag(b, 1, 11, 5);
    sp_sim_overlap_writes(b->world, overlap);
    uint64_t base = sp_sim_operations(b->world);
    if (at)
        sp_sim_crash_at(b->world, base + at, survivors);
    bench_compact(b);
    operations = sp_sim_operations(b->world) - base;
    bench_stop(b);
    b->rebuild = at % 2;
    enum sp_status status = bench_open(b, 0, false, &error);
    if (status != SP_OK)
        sp_error_print(&error);
    assert_int_equal(status, SP_OK);
    b->rebuild = false;
    model_check(b->volume, &b->model, NULL, 0);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(bench_deliver(b), SP_OK);
    assert_true(bench_compact(b));
    model_check(b->volume, &b->model, NULL, 0);
    /* A start finds what was cut off before the log could name it, and replicas without a trailer.
     */
    reopen(b, false);
    bench_tend_all(b);
    delete_all_retired(b);
    check_no_old_files(b);
    reopen(b, at % 2 == 0);
    bench_end(b);
    return operations;
}

static void test_stops(void **state)
{
    (void)state;
    const char *every = getenv("SP_EVERY"); /* operation, and not one in seven */
    uint64_t operations = cut_off(0, SP_SIM_ALL, false);
    assert_true(operations > 20);
    for (uint64_t at = 1; at <= operations; at += every ? 1 : 7)
        for (unsigned survivors = SP_SIM_NONE; survivors <= SP_SIM_TORN; survivors++)
            for (unsigned overlap = 0; overlap < 2; overlap++)
                if (every || (at / 7 + survivors + overlap) % 2)
                    cut_off(at + (every ? 0 : survivors), (enum sp_sim_survivors)survivors,
                            overlap);
}

/* How many slices a compaction of this bench takes. */
static unsigned count_steps(void)
{
    struct bench *b = begin(0, 40);
    unsigned steps = 0;
    expunge_first(b, 9);
    for (sp_volume_compact_now(b->volume); bench_status(b).compact_running; steps++)
        sp_volume_run_once(b->volume);
    assert_true(bench_status(b).compact_merged > 0);
    bench_end(b);
    return steps;
}

/* A unit fails, stalls, is full or gone from some slice of it on: mail goes on, nothing is lost. */
static void test_failing_units(void **state)
{
    (void)state;
    static const enum sp_sim_fault faults[] = {SP_SIM_FAIL_WRITES, SP_SIM_FULL, SP_SIM_GONE,
                                               SP_SIM_STALL};
    const unsigned steps = count_steps();
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
        /* The survey reads; what writes comes at the end. */
        for (unsigned from = steps > 24 ? steps - 24 : 0; from <= steps; from += 3) {
            struct bench *b = begin(0, 40);
            expunge_first(b, 9);
            sp_volume_compact_now(b->volume);
            for (unsigned i = 0; i < from; i++)
                sp_volume_run_once(b->volume);
            sp_sim_set_fault(b->world, 1, faults[f]);
            while (bench_status(b).compact_running && !bench_status(b).deferring)
                sp_volume_run_once(b->volume);
            model_check(b->volume, &b->model, NULL, 0);
            sp_sim_set_fault(b->world, 1, SP_SIM_HEALTHY);
            assert_int_equal(bench_deliver(b), SP_OK);
            while (sp_volume_run_once(b->volume)) /* a spare is brought what it lacks */
                continue;
            assert_true(bench_compact(b));
            model_check(b->volume, &b->model, NULL, 0);
            reopen(b, from % 2 == 0);
            bench_end(b);
        }
    }
}

static size_t count_segments(struct bench *b, uint32_t disk)
{
    struct sp_unit_segment *list = NULL;
    struct sp_error error;
    size_t count = 0;
    struct sp_unit *unit = b->volume->members[disk].unit;
    assert_int_equal(unit->ops->list(unit, &list, &count, &error), SP_OK);
    free(list);
    return count;
}

/* A unit that is out has nothing that would replace its old files: it keeps them until it has been
 * taken back. */
static void test_units_that_are_out_keep_theirs(void **state)
{
    (void)state;
    struct bench *b = begin(0, 60);
    struct sp_error error;
    size_t count;
    expunge_first(b, 14);
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    assert_int_equal(bench_deliver(b), SP_OK);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    assert_int_equal(bench_state(b, 0), SP_UNIT_EJECTED);
    size_t kept = count_segments(b, 0);
    while (sp_volume_run_once(b->volume)) /* c is brought what it lacks */
        continue;
    assert_true(bench_compact(b));
    assert_true(retired_bytes(b, &count) > 0 && count > 0);
    delete_all_retired(b);
    assert_int_equal(retired_bytes(b, &count), 0);
    assert_int_equal(count_segments(b, 0), kept);
    assert_int_equal(sp_volume_add_unit(b->volume, "a", bench_open_disk, b, &error), SP_OK);
    assert_true(retired_bytes(b, &count) > 0);
    delete_all_retired(b);
    assert_int_equal(retired_bytes(b, &count), 0);
    assert_true(count_segments(b, 0) < kept);
    model_check(b->volume, &b->model, NULL, 0);
    reopen(b, true);
    bench_end(b);
}

/* A volume that is short of space can still be given some: what compaction says of itself is
 * written from the reserve. */
static void test_short_of_space(void **state)
{
    (void)state;
    const uint64_t reserve = 256U << 10;
    struct bench *b = begin(0, 90);
    size_t count;
    expunge_first(b, 27);
    for (uint32_t disk = 0; disk < 3; disk++)
        sp_sim_set_capacity(b->world, disk, sp_sim_used(b->world, 0) + reserve - 4096);
    b->volume->reserve_bytes = reserve;
    b->volume->checked_ms = 0;
    assert_int_equal(bench_deliver(b), SP_NO_SPACE);
    assert_true(bench_compact(b));
    assert_true(retired_bytes(b, &count) > 0 && count > 0);
    delete_all_retired(b);
    b->volume->checked_ms = 0;
    assert_int_equal(bench_deliver(b), SP_OK);
    model_check(b->volume, &b->model, NULL, 0);
    bench_end(b);
}

/* A copy that went bad while it was written is noticed before it counts. */
static void test_rot_is_noticed(void **state)
{
    (void)state;
    struct bench *b = begin(0, 60);
    struct sp_error error;
    struct sp_retired_segment *list;
    size_t count;
    expunge_first(b, 14);
    assert_true(bench_compact(b));
    assert_int_equal(sp_volume_retired(b->volume, &list, &count, &error), SP_OK);
    assert_true(count > 0);
    /* Of what replaces them a block is bad on one unit: then nothing is deleted. */
    bool rotten = false;
    for (uint64_t segment = 1; segment < 40 && !rotten; segment++)
        rotten = sp_sim_rot(b->world, 1, segment, 1, 1);
    assert_true(rotten);
    unsigned refused = 0;
    for (size_t i = 0; i < count; i++)
        refused += sp_volume_delete_retired(b->volume, list[i].segment, list[i].generation,
                                            &error) == SP_CONFLICT;
    assert_true(refused > 0);
    sp_volume_scrub_now(b->volume);
    struct sp_volume_status status;
    do {
        sp_volume_run_once(b->volume);
        sp_volume_status(b->volume, &status);
    } while (status.scrub_running);
    delete_all_retired(b);
    free(list);
    reopen(b, true);
    bench_end(b);
}

static int tests(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(test_space_comes_back),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_clocks_that_jump),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_failing_units),
        cmocka_unit_test(test_units_that_are_out_keep_theirs),
        cmocka_unit_test(test_short_of_space),
        cmocka_unit_test(test_rot_is_noticed),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}

int main(void)
{
    sp_log_set_level(getenv("SP_VERBOSE") ? SP_LOG_INFO : SP_LOG_ERROR + 1);
    return bench_main(tests);
}
