/* The store while units fail: ejected, recruited, deferring, full; nothing acknowledged is lost. */
#include "base/log.h"
#include "store/test_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char index_path[64];

struct bench {
    struct sp_sim_world *world;
    struct sp_uuid id;
    struct sp_volume *volume;
    struct model model;
    uint32_t seed;
};

static enum sp_status open_again(struct bench *b, uint32_t absent, bool accept,
                                 struct sp_error *error)
{
    struct sp_volume_config config;
    sim_config(b->world, &b->id, index_path, &config);
    for (uint32_t i = 0; i < 3; i++) {
        if (!(absent & 1U << i))
            continue;
        if (config.units[i].unit)
            config.units[i].unit->ops->close(config.units[i].unit);
        config.units[i].unit = NULL;
    }
    config.degraded_accept = accept;
    return sp_volume_open(&config, &b->volume, error);
}

static enum sp_status run(struct bench *b, struct step step)
{
    struct step_context context = {&b->model, &step};
    struct sp_error error;
    enum sp_status status = sp_volume_commit(b->volume, step_plan, &context, &error);
    if (status == SP_OK)
        step_done(&b->model, &step);
    return status;
}

static enum sp_status deliver(struct bench *b)
{
    b->seed++;
    return run(b, (struct step){.type = STEP_DELIVER,
                                .mailbox = b->seed % MODEL_MAILBOXES,
                                .seed = b->seed,
                                .body_bytes = 5000});
}

static struct bench *begin(void)
{
    struct bench *b = calloc(1, sizeof *b);
    struct sp_error error;
    struct sp_uuid unit;
    b->world = sp_sim_world_new(1);
    b->id = (struct sp_uuid){{7}};
    b->model.account = (struct sp_uuid){{9}};
    assert_int_equal(sp_index_destroy(index_path, NULL), SP_OK);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(sp_sim_unit_init(b->world, i, &b->id, &unit), SP_OK);
    assert_int_equal(open_again(b, 0, false, &error), SP_OK);
    assert_int_equal(run(b, (struct step){.type = STEP_ACCOUNT}), SP_OK);
    for (int i = 0; i < 10; i++)
        assert_int_equal(deliver(b), SP_OK);
    return b;
}

static void end(struct bench *b)
{
    model_check(b->volume, &b->model, NULL, 0);
    sp_volume_close(b->volume);
    sp_sim_world_free(b->world);
    free(b);
}

static enum sp_unit_state state_of(struct bench *b, uint32_t unit)
{
    struct sp_volume_status status;
    sp_volume_status(b->volume, &status);
    return status.units[unit].state;
}

/* Each fault of one replica: the delivery under way succeeds, the spare is in its place, all is
 * there after a restart without the failed unit. */
static void test_replica_lost(void **state)
{
    static const enum sp_sim_fault faults[] = {SP_SIM_FAIL_WRITES, SP_SIM_FAIL_ALL, SP_SIM_GONE,
                                               SP_SIM_STALL};
    (void)state;
    for (uint32_t victim = 0; victim < 2; victim++) {
        for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
            struct bench *b = begin();
            struct sp_error error = {0};
            sp_sim_set_fault(b->world, victim, faults[f]);
            for (int i = 0; i < 40; i++)
                assert_int_equal(deliver(b), SP_OK);
            assert_int_equal(state_of(b, victim), SP_UNIT_EJECTED);
            assert_int_equal(state_of(b, 2), SP_UNIT_REPLICA);
            model_check(b->volume, &b->model, NULL, 0);
            sp_volume_close(b->volume);
            sp_sim_set_fault(b->world, victim, SP_SIM_HEALTHY);
            sp_sim_restart(b->world);
            /* The old segments are on the other replica, the new ones on both. */
            assert_int_equal(open_again(b, 1U << victim, false, &error), SP_OK);
            assert_int_equal(deliver(b), SP_OK);
            end(b);
        }
    }
}

/* The unit that was ejected comes back alone: it proves nothing, and says what it lacks. */
static void test_stale_unit_alone(void **state)
{
    struct bench *b = begin();
    struct sp_error error = {0};
    (void)state;
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_ALL);
    assert_int_equal(deliver(b), SP_OK);
    sp_volume_close(b->volume);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    sp_sim_restart(b->world);
    assert_int_equal(open_again(b, 6, false, &error), SP_UNAVAILABLE);
    assert_non_null(strstr(error.why, "absent"));
    /* With the spare that took part in the vote, the newest epoch is known; its one replica has the
     * new LSNs, the stale unit the old ones. Two copies cannot be written: it opens for reading. */
    sp_sim_restart(b->world);
    assert_int_equal(open_again(b, 2, false, &error), SP_OK);
    assert_int_equal(deliver(b), SP_UNAVAILABLE);
    model_check(b->volume, &b->model, NULL, 0);
    sp_volume_close(b->volume);
    sp_sim_restart(b->world);
    assert_int_equal(open_again(b, 0, false, &error), SP_OK);
    assert_int_equal(deliver(b), SP_OK);
    end(b);
}

/* Two units of three lost: deferring; nothing lost, reads go on. */
static void test_two_lost(void **state)
{
    struct bench *b = begin();
    struct sp_error error = {0};
    (void)state;
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_ALL);
    assert_int_equal(deliver(b), SP_OK);
    sp_sim_set_fault(b->world, 2, SP_SIM_FAIL_WRITES);
    assert_int_equal(deliver(b), SP_UNAVAILABLE);
    assert_int_equal(deliver(b), SP_UNAVAILABLE);
    model_check(b->volume, &b->model, NULL, 0);
    sp_volume_close(b->volume);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    sp_sim_set_fault(b->world, 2, SP_SIM_HEALTHY);
    sp_sim_restart(b->world);
    assert_int_equal(open_again(b, 0, false, &error), SP_OK);
    assert_int_equal(deliver(b), SP_OK);
    end(b);
}

/* A full unit ejects nobody; when there is room again, mail flows. */
static void test_full(void **state)
{
    struct bench *b = begin();
    (void)state;
    sp_sim_set_fault(b->world, 1, SP_SIM_FULL);
    enum sp_status status = SP_OK;
    for (int i = 0; i < 200 && status == SP_OK; i++)
        status = deliver(b);
    assert_int_equal(status, SP_NO_SPACE);
    assert_int_equal(state_of(b, 1), SP_UNIT_REPLICA);
    assert_int_equal(deliver(b), SP_NO_SPACE);
    sp_sim_set_fault(b->world, 1, SP_SIM_HEALTHY);
    assert_int_equal(deliver(b), SP_OK);
    end(b);
}

/* Rotten blocks are served from the twin, and counted. */
static void test_rot(void **state)
{
    struct bench *b = begin();
    struct sp_volume_status status;
    (void)state;
    for (uint32_t block = 1; block < 12; block++)
        assert_true(sp_sim_rot(b->world, block % 2, 1, 0, block));
    model_check(b->volume, &b->model, NULL, 0);
    sp_volume_status(b->volume, &status);
    assert_true(status.blocks_bad > 0);
    end(b);
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
    struct bench *b = begin();
    struct sp_error error;
    struct sp_volume_status before, after;
    (void)state;
    sp_volume_status(b->volume, &before);
    assert_int_equal(sp_volume_commit(b->volume, refusing_plan, NULL, &error), SP_CONFLICT);
    sp_volume_status(b->volume, &after);
    assert_true(before.end.lsn == after.end.lsn);
    assert_int_equal(deliver(b), SP_OK);
    end(b);
}

/* The index thrown away: it is made again from footers and data, and is the same. */
static void test_rebuild(void **state)
{
    struct bench *b = begin();
    struct sp_error error;
    (void)state;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(deliver(b), SP_OK);
        if (i % 7 == 3)
            assert_int_equal(run(b, (struct step){.type = STEP_FLAGS,
                                                  .mailbox = 1,
                                                  .uid = 1 + (uint32_t)i / 7,
                                                  .flags = 3}),
                             SP_OK);
        if (i % 20 == 19)
            assert_int_equal(
                run(b, (struct step){.type = STEP_EXPUNGE, .mailbox = 2, .uid = (uint32_t)i / 20}),
                SP_OK);
    }
    for (int i = 0; i < 3; i++) {
        sp_volume_close(b->volume);
        sp_sim_restart(b->world);
        assert_int_equal(sp_index_destroy(index_path, &error), SP_OK);
        assert_int_equal(open_again(b, 0, false, &error), SP_OK);
        model_check(b->volume, &b->model, NULL, 0);
    }
    end(b);
}

int main(void)
{
    char template[] = "/tmp/sternpost-faults-XXXXXX";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replica_lost), cmocka_unit_test(test_stale_unit_alone),
        cmocka_unit_test(test_two_lost),     cmocka_unit_test(test_full),
        cmocka_unit_test(test_rot),          cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_rebuild),
    };
    snprintf(index_path, sizeof index_path, "%s", mkdtemp(template));
    sp_log_set_level(SP_LOG_ERROR + (getenv("SP_VERBOSE") == NULL));
    int failed = cmocka_run_group_tests_name("store-faults", tests, NULL, NULL);
    if (sp_index_destroy(index_path, NULL) != SP_OK || rmdir(index_path) != 0)
        failed++;
    return failed;
}
