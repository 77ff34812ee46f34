/* Going on without what is lacking: what is here stays, protected; nothing is used twice. */
#include "store/proof.h"
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

static struct sp_position position(struct bench *b)
{
    struct sp_read read;
    struct sp_position at;
    assert_int_equal(sp_read_begin(sp_volume_index(b->volume), &read), SP_OK);
    assert_int_equal(sp_index_position(&read, &at), SP_OK);
    sp_read_end(&read);
    return at;
}

/* Disk a is away while b and c go on. */
static struct bench *begin_split_of(uint32_t before, uint32_t after, uint32_t body_bytes)
{
    struct bench *b = bench_begin(0, before);
    b->body_bytes = body_bytes;
    bench_stop(b);
    b->kept = b->model; /* what a has */
    assert_int_equal(bench_open(b, ABSENT(0), false, &error), SP_OK);
    for (uint32_t i = 0; i < after; i++) {
        uint32_t box = (b->seed + 1) % MODEL_MAILBOXES;
        assert_int_equal(bench_deliver(b), SP_OK);
        struct step step = {.type = i % 5 == 4 ? STEP_EXPUNGE : STEP_FLAGS,
                            .mailbox = box,
                            .flags = i % 32,
                            /* what both histories have, and what only this one has */
                            .uid = i % 2 ? 1 : b->model.mailboxes[box].uid_highest};
        assert_int_equal(bench_run(b, step), SP_OK);
    }
    bench_stop(b);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    return b;
}

static struct bench *begin_split(uint32_t before, uint32_t after)
{
    return begin_split_of(before, after, 5000);
}

static enum sp_status open_loss(struct bench *b, uint32_t absent)
{
    b->accept_loss = true;
    enum sp_status status = bench_open(b, absent, true, &error);
    b->accept_loss = false;
    return status;
}

static void test_accept(void **state)
{
    (void)state;
    struct bench *b = begin_split(8, 6);
    assert_int_equal(bench_open(b, ABSENT(1) | ABSENT(2), true, &error), SP_UNAVAILABLE);
    assert_non_null(strstr(error.todo, "--accept-loss main"));
    sp_sim_restart(b->world);
    /* With fewer copies than min_copies, and degraded = defer, nothing is shown at all. */
    b->accept_loss = true;
    assert_int_equal(bench_open(b, ABSENT(1) | ABSENT(2), false, &error), SP_UNAVAILABLE);
    sp_sim_restart(b->world);
    assert_int_equal(open_loss(b, ABSENT(1) | ABSENT(2)), SP_OK);
    b->model = b->kept;
    b->model.protected_ = true;
    model_check(b->volume, &b->model, NULL, 0);
    struct sp_position at = position(b);
    assert_int_equal(at.forks_count, 1);
    assert_true(at.end.lsn > 1ULL << 40 && at.list_protected);
    for (int i = 0; i < 6; i++)
        assert_int_equal(bench_deliver(b), SP_OK);
    bench_stop(b);
    /* It starts again without being asked to accept anything; from the log alone too. */
    assert_int_equal(bench_open(b, ABSENT(1) | ABSENT(2), true, &error), SP_OK);
    model_check(b->volume, &b->model, NULL, 0);
    bench_stop(b);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_int_equal(bench_open(b, ABSENT(1) | ABSENT(2), true, &error), SP_OK);
    assert_int_equal(position(b).forks_count, 1);
    bench_end(b);
}

/* What the others had more comes back under its UIDs; then all is open. */
static void merge_all(struct bench *b)
{
    for (int i = 0; i < 10000 && sp_volume_run_once(b->volume); i++)
        continue;
}

/* The model of both: what a had, what was delivered to it since, and what b and c had more. */
static void unite(struct bench *b, const struct model *other)
{
    for (uint32_t k = 0; k < MODEL_MAILBOXES; k++) {
        struct model_mailbox *here = &b->model.mailboxes[k];
        for (uint32_t uid = 0; uid < MODEL_UIDS; uid++)
            if (uid < 512) /* nobody could change here what both have */
                here->messages[uid] = other->mailboxes[k].messages[uid];
    }
}

static void test_merge(void **state)
{
    (void)state;
    struct bench *b = begin_split(8, 6);
    struct model other = b->model;
    assert_int_equal(open_loss(b, ABSENT(1) | ABSENT(2)), SP_OK);
    b->model = b->kept;
    b->model.protected_ = true;
    for (int i = 0; i < 6; i++)
        assert_int_equal(bench_deliver(b), SP_OK);
    bench_stop(b);
    assert_int_equal(bench_open(b, ABSENT(1) | ABSENT(2), true, &error), SP_OK);
    assert_int_equal(sp_volume_add_unit(b->volume, "b", bench_open_disk, b, &error), SP_OK);
    /* Before that is merged it is the only one that has it: nobody may wipe it. */
    struct sp_uuid id = b->volume->members[1].id;
    assert_true(sp_volume_has_left_history(b->volume, &id));
    assert_int_equal(sp_volume_release_unit(b->volume, &id, &error), SP_DENIED);
    merge_all(b);
    assert_false(sp_volume_has_left_history(b->volume, &id));
    struct sp_volume_status status;
    sp_volume_status(b->volume, &status);
    assert_true(status.merge_records >= 6); /* a MESSAGE for each that was delivered to b and c */
    assert_int_equal(status.merge_conflicts, 0);
    unite(b, &other);
    b->model.protected_ = false;
    model_check(b->volume, &b->model, NULL, 0);
    assert_int_equal(bench_state(b, 1), SP_UNIT_REPLICA);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_stop(b);
    /* c has nothing more. */
    assert_int_equal(bench_open(b, 0, true, &error), SP_OK);
    merge_all(b);
    sp_volume_status(b->volume, &status);
    assert_int_equal(status.merge_records, 0);
    model_check(b->volume, &b->model, NULL, 0);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_stop(b);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_int_equal(bench_open(b, ABSENT(0), false, &error), SP_OK);
    bench_end(b);
}

/* All come back at once. */
static void test_merge_at_start(void **state)
{
    (void)state;
    struct bench *b = begin_split(8, 6);
    struct model other = b->model;
    assert_int_equal(open_loss(b, ABSENT(1) | ABSENT(2)), SP_OK);
    b->model = b->kept;
    b->model.protected_ = true;
    for (int i = 0; i < 6; i++)
        assert_int_equal(bench_deliver(b), SP_OK);
    bench_stop(b);
    assert_int_equal(bench_open(b, 0, true, &error), SP_OK);
    assert_int_equal(bench_state(b, 1), SP_UNIT_STALE);
    merge_all(b);
    unite(b, &other);
    b->model.protected_ = false;
    model_check(b->volume, &b->model, NULL, 0);
    assert_int_equal(bench_state(b, 1), SP_UNIT_REPLICA);
    bench_end(b);
}

/* The start that accepts the loss is cut off at each of its operations. */
static void test_crash_while_accepting(void **state)
{
    (void)state;
    uint32_t crashes = 0;
    for (uint64_t at = 1;; at++) {
        struct bench *b = begin_split(8, 2);
        sp_sim_crash_at(b->world, sp_sim_operations(b->world) + at,
                        at % 2 ? SP_SIM_NONE : SP_SIM_SUBSET);
        enum sp_status status = open_loss(b, ABSENT(1) | ABSENT(2));
        bool crashed = sp_sim_crashed(b->world);
        if (status == SP_OK)
            sp_volume_close(b->volume);
        b->volume = NULL;
        sp_sim_restart(b->world);
        sp_sim_crash_at(b->world, 0, SP_SIM_NONE);
        if (at % 3 == 0)
            assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
        /* Either it has happened, and then wholly, or not at all. */
        status = bench_open(b, ABSENT(1) | ABSENT(2), true, &error);
        assert_true(status == SP_OK || status == SP_UNAVAILABLE);
        if (status != SP_OK) {
            sp_sim_restart(b->world);
            assert_int_equal(open_loss(b, ABSENT(1) | ABSENT(2)), SP_OK);
        }
        assert_int_equal(position(b).forks_count, 1);
        b->model = b->kept;
        b->model.protected_ = true;
        model_check(b->volume, &b->model, NULL, 0);
        assert_int_equal(bench_deliver(b), SP_OK);
        bench_end(b);
        if (!crashed)
            break;
        crashes++;
    }
    assert_true(crashes >= 8);
}

/* Merging is cut off at each of its operations: nothing twice, and nothing passed over. */
static void crash_while_merging(bool long_)
{
    uint32_t crashes = 0;
    for (uint64_t at = 1;; at += long_ ? 41 : 1) {
        struct bench *b = long_ ? begin_split_of(6, 16, 400000) : begin_split(6, 5);
        struct model other = b->model;
        assert_int_equal(open_loss(b, ABSENT(1) | ABSENT(2)), SP_OK);
        b->model = b->kept;
        for (int i = 0; i < 4; i++)
            assert_int_equal(bench_deliver(b), SP_OK);
        bench_stop(b);
        sp_sim_crash_at(b->world, sp_sim_operations(b->world) + at,
                        at % 2 ? SP_SIM_NONE : SP_SIM_SUBSET);
        if (bench_open(b, 0, true, &error) == SP_OK) {
            merge_all(b);
            sp_volume_close(b->volume);
        }
        b->volume = NULL;
        bool crashed = sp_sim_crashed(b->world);
        sp_sim_restart(b->world);
        sp_sim_crash_at(b->world, 0, SP_SIM_NONE);
        if (at % 3 == 0)
            assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
        assert_int_equal(bench_open(b, at % 5 == 0 ? ABSENT(2) : 0, true, &error), SP_OK);
        merge_all(b);
        unite(b, &other);
        model_check(b->volume, &b->model, NULL, 0);
        assert_int_equal(bench_deliver(b), SP_OK);
        bench_end(b);
        if (!crashed)
            break;
        crashes++;
    }
    assert_true(crashes >= (long_ ? 2 : 10));
}

static void test_crash_while_merging(void **state)
{
    (void)state;
    crash_while_merging(false);
}

/* In several batches, of many segments. */
static void test_crash_in_a_long_merge(void **state)
{
    (void)state;
    crash_while_merging(true);
}

/* A unit that was ejected, and has voted for later epochs since, is all that is left. */
static void test_accept_on_an_ejected_unit(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 8);
    bench_stop(b);
    b->kept = b->model;
    assert_int_equal(bench_open(b, ABSENT(0), false, &error), SP_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(bench_deliver(b), SP_OK);
    bench_stop(b);
    /* It is here, and ejected: it votes, and gets nothing. */
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    assert_int_equal(bench_state(b, 0), SP_UNIT_EJECTED);
    assert_int_equal(bench_deliver(b), SP_OK);
    struct model other = b->model;
    bench_stop(b);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_int_equal(bench_open(b, ABSENT(1) | ABSENT(2), true, &error), SP_UNAVAILABLE);
    sp_sim_restart(b->world);
    assert_int_equal(open_loss(b, ABSENT(1) | ABSENT(2)), SP_OK);
    b->model = b->kept;
    b->model.protected_ = true;
    model_check(b->volume, &b->model, NULL, 0);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_stop(b);
    assert_int_equal(bench_open(b, ABSENT(2), true, &error), SP_OK);
    merge_all(b);
    unite(b, &other);
    b->model.protected_ = false;
    model_check(b->volume, &b->model, NULL, 0);
    bench_end(b);
}

/* The end of the log is rotten where it matters: it is sound only on the one that is away. */
static void test_accept_a_hole(void **state)
{
    (void)state;
    for (uint32_t block = 0; block < 2; block++) {
        struct bench *b = bench_begin(0, 8);
        bench_stop(b);
        b->kept = b->model;
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        for (int i = 0; i < 5; i++)
            assert_int_equal(bench_deliver(b), SP_OK);
        struct model other = b->model;
        bench_stop(b);
        struct sp_log_end end = {.segment = 2};
        bench_rot(b, 1, end.segment, block);
        if (block) /* the index alone knows more as well */
            assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
        assert_int_equal(bench_open(b, ABSENT(0), true, &error), SP_UNAVAILABLE);
        sp_sim_restart(b->world);
        assert_int_equal(open_loss(b, ABSENT(0)), SP_OK);
        b->model = b->kept;
        b->model.protected_ = true;
        model_check(b->volume, &b->model, NULL, 0);
        assert_int_equal(bench_deliver(b), SP_OK);
        assert_int_equal(sp_volume_add_unit(b->volume, "a", bench_open_disk, b, &error), SP_OK);
        merge_all(b);
        unite(b, &other);
        b->model.protected_ = false;
        model_check(b->volume, &b->model, NULL, 0);
        bench_end(b);
    }
}

static uint32_t count_messages(struct bench *b)
{
    uint32_t count = 0;
    struct sp_read read;
    assert_int_equal(sp_read_begin(sp_volume_index(b->volume), &read), SP_OK);
    for (uint32_t k = 0; k < MODEL_MAILBOXES; k++) {
        struct sp_mailbox mailbox;
        assert_int_equal(sp_index_mailbox(&read, &b->model.account, k + 1, &mailbox), SP_OK);
        assert_false(mailbox.row.protected_);
        count += mailbox.row.messages;
    }
    sp_read_end(&read);
    return count;
}

/* A loss was accepted on both sides, and mail came to both: the higher leap wins, and what the
 * other has comes to it. */
static void test_accept_on_both_sides(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        struct bench *b = begin_split(6, 4);
        uint32_t messages = 0;
        for (uint32_t k = 0; k < MODEL_MAILBOXES; k++)
            for (uint32_t slot = 0; slot < MODEL_UIDS; slot++)
                messages += b->model.mailboxes[k].messages[slot].state == MODEL_PRESENT;
        struct model other = b->model;
        assert_int_equal(open_loss(b, ABSENT(1) | ABSENT(2)), SP_OK);
        for (int n = 0; n < 3; n++, messages++)
            assert_int_equal(bench_deliver(b), SP_OK);
        bench_stop(b);
        assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
        b->model = other;
        assert_int_equal(open_loss(b, ABSENT(0) | ABSENT(2)), SP_OK);
        for (int n = 0; n < 2; n++, messages++)
            assert_int_equal(bench_deliver(b), SP_OK);
        bench_stop(b);
        assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
        assert_int_equal(bench_open(b, 0, true, &error), SP_OK);
        merge_all(b);
        assert_int_equal(count_messages(b), messages);
        sp_volume_close(b->volume);
        b->volume = NULL;
        sp_sim_restart(b->world);
        bench_end(b);
    }
}

/* The others come back, and have nothing more: then that is known, and all is open again. */
static void test_nothing_was_lost(void **state)
{
    (void)state;
    for (int with_spare = 0; with_spare < 2; with_spare++) {
        struct bench *b = bench_begin(0, 8);
        bench_stop(b);
        assert_int_equal(open_loss(b, ABSENT(1) | ABSENT(2)), SP_OK);
        b->model.protected_ = true;
        model_check(b->volume, &b->model, NULL, 0);
        assert_int_equal(bench_deliver(b), SP_OK);
        assert_int_equal(
            sp_volume_add_unit(b->volume, with_spare ? "c" : "b", bench_open_disk, b, &error),
            SP_OK);
        merge_all(b);
        b->model.protected_ = with_spare; /* it knows nothing of what replicas have */
        model_check(b->volume, &b->model, NULL, 0);
        assert_int_equal(bench_state(b, with_spare ? 2 : 1), SP_UNIT_REPLICA);
        assert_int_equal(bench_deliver(b), SP_OK);
        bench_end(b);
    }
}

static int tests(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_merge_at_start),
        cmocka_unit_test(test_accept_on_an_ejected_unit),
        cmocka_unit_test(test_accept_a_hole),
        cmocka_unit_test(test_accept_on_both_sides),
        cmocka_unit_test(test_nothing_was_lost),
        cmocka_unit_test(test_crash_while_accepting),
        cmocka_unit_test(test_crash_while_merging),
        cmocka_unit_test(test_crash_in_a_long_merge),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}

int main(void)
{
    return bench_main(tests);
}
