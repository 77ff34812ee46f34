/* The guard on simulated disks, with clocks that the test turns. */
#include "guard/guard.h"
#include "store/proof.h"
#include "store/test_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define DISKS   4U
#define HOUR_MS 3600000ULL

static struct sp_error error;
static const struct sp_guard_who alice = {1001, "alice"}, bob = {1002, "bob"}, eve = {1003, "eve"};

static uint64_t wall_now_ns, mono_now_ms;
static uint64_t test_wall_ns(void)
{
    return wall_now_ns;
}
static uint64_t test_mono_ms(void)
{
    return mono_now_ms;
}

struct world {
    struct sp_sim_world *disks;
    struct sp_uuid id;
    struct sp_volume *volume;
    struct sp_guard *guard;
    struct sp_guard_config config;
    struct model model;
    uint32_t seed;
    uint32_t wiped;
    enum sp_status wipe_status;
    char names[DISKS];
    uint32_t shared; /* disks 0 .. shared - 1 say that they are in one failure domain */
};

static enum sp_status wipe(void *context, const char *name, const struct sp_uuid *unit,
                           uint64_t *ret_segments, struct sp_error *e)
{
    struct world *w = context;
    (void)unit;
    (void)name;
    if (w->wipe_status != SP_OK)
        return sp_error_set(e, w->wipe_status, name, "simulated");
    w->wiped++;
    *ret_segments = 3;
    return SP_OK;
}

/* Threaded, so that copies are tended while the guard waits for them. */
static void open_volume(struct world *w)
{
    struct sp_volume_config config;
    sim_config(w->disks, &w->id, bench_index_path, &config);
    config.threaded = true;
    config.segment_bytes = 64 << 10;
    config.units_count = DISKS;
    struct sp_volume_unit *fourth = &config.units[3];
    *fourth = (struct sp_volume_unit){.name = "d", .spare = true};
    assert_int_equal(sp_sim_unit_open(w->disks, 3, "d", &fourth->unit, &error), SP_OK);
    for (uint32_t i = 0; i < w->shared; i++)
        snprintf(config.units[i].unit->domain, sizeof config.units[i].unit->domain, "sim:%u sim:x",
                 i);
    assert_int_equal(sp_volume_open(&config, &w->volume, &error), SP_OK);
    w->config.volume = w->volume;
    assert_int_equal(sp_guard_open(&w->config, &w->guard, &error), SP_OK);
}

static void deliver(struct world *w, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        w->seed++;
        struct step step = {.type = STEP_DELIVER,
                            .mailbox = w->seed % MODEL_MAILBOXES,
                            .seed = w->seed,
                            .body_bytes = 5000};
        struct step_context context = {&w->model, &step};
        assert_int_equal(sp_volume_commit(w->volume, step_plan, &context, &error), SP_OK);
        step_done(&w->model, &step);
    }
}

static struct world *begin_shared(uint32_t shared)
{
    struct world *w = calloc(1, sizeof *w);
    struct sp_uuid unit;
    wall_now_ns = 1800000000ULL * 1000000000ULL;
    mono_now_ms = 1000000;
    w->shared = shared;
    w->disks = sp_sim_world_new(1);
    w->id = (struct sp_uuid){{7}};
    w->model.account = (struct sp_uuid){{9}};
    w->config = (struct sp_guard_config){.cooling_ms = 24 * HOUR_MS,
                                         .wipe = wipe,
                                         .context = w,
                                         .wall_ns = test_wall_ns,
                                         .mono_ms = test_mono_ms};
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    for (uint32_t i = 0; i < DISKS; i++)
        assert_int_equal(sp_sim_unit_init(w->disks, i, &w->id, &unit), SP_OK);
    open_volume(w);
    struct step step = {.type = STEP_ACCOUNT};
    struct step_context context = {&w->model, &step};
    assert_int_equal(sp_volume_commit(w->volume, step_plan, &context, &error), SP_OK);
    step_done(&w->model, &step);
    deliver(w, 40);
    return w;
}

static struct world *begin(void)
{
    return begin_shared(0);
}

static void stop(struct world *w)
{
    sp_guard_close(w->guard);
    sp_volume_close(w->volume);
    sp_sim_restart(w->disks);
}

static void end(struct world *w)
{
    model_check(w->volume, &w->model, NULL, 0);
    stop(w);
    sp_sim_world_free(w->disks);
    free(w);
}

static enum sp_unit_state state_of(struct world *w, uint32_t disk)
{
    struct sp_volume_status status;
    sp_volume_status(w->volume, &status);
    return status.units[disk].state;
}

/* Lets both clocks go on together; the guard looks every minute. */
static void pass(struct world *w, uint64_t ms)
{
    for (uint64_t at = 0; at < ms; at += 60000) {
        uint64_t n = ms - at < 60000 ? ms - at : 60000;
        mono_now_ms += n;
        wall_now_ns += n * 1000000;
        sp_guard_step(w->guard);
    }
}

/* The index's times are the log's, which is real: requests are younger than the test's clock says
 * unless it starts there. */
static void set_wall(struct world *w)
{
    struct sp_read read;
    struct sp_position position;
    assert_int_equal(sp_read_begin(sp_volume_index(w->volume), &read), SP_OK);
    assert_int_equal(sp_index_position(&read, &position), SP_OK);
    sp_read_end(&read);
    wall_now_ns = position.time_ns + 10000000000ULL;
}

static struct sp_uuid request(struct world *w, uint8_t operation, const char *subject)
{
    struct sp_guard_check check;
    struct sp_uuid id = {{0}};
    enum sp_status status = sp_guard_check_now(w->guard, operation, subject, &check);
    if (status != SP_OK)
        print_message("%s: %s\n%s", check.error.what, check.error.why, check.facts);
    assert_int_equal(status, SP_OK);
    status = sp_guard_request(w->guard, operation, subject, check.confirm, &alice, &id, &error);
    if (status != SP_OK)
        print_message("%s: %s\n", error.what, error.why);
    assert_int_equal(status, SP_OK);
    set_wall(w);
    return id;
}

struct looking {
    struct sp_uuid id;
    struct sp_guard_row row;
    bool found;
    char text[SP_GUARD_TEXT_MAX + 1];
};
static void look(void *context, const struct sp_guard_view *view)
{
    struct looking *l = context;
    if (!sp_uuid_eq(&view->request.id, &l->id))
        return;
    l->row = view->request.row;
    l->found = true;
    snprintf(l->text, sizeof l->text, "%.*s", SP_FMT(view->request.text));
}

static uint8_t event_of(struct world *w, struct sp_uuid id)
{
    struct looking l = {.id = id};
    assert_int_equal(sp_guard_list(w->guard, true, look, &l, &error), SP_OK);
    assert_true(l.found);
    return l.row.event;
}

/* ---- */

static void test_retire_waits_and_is_done(void **state)
{
    (void)state;
    struct world *w = begin();
    struct sp_uuid id = request(w, SP_GUARD_UNIT_RETIRE, "a");
    assert_int_equal(state_of(w, 2), SP_UNIT_REPLICA); /* the spare was brought up to date first */
    assert_int_equal(state_of(w, 0), SP_UNIT_REPLICA);
    pass(w, 23 * HOUR_MS);
    assert_int_equal(event_of(w, id), SP_GUARD_REQUESTED);
    deliver(w, 5); /* what comes meanwhile must be safe as well */
    pass(w, 2 * HOUR_MS);
    assert_int_equal(event_of(w, id), SP_GUARD_DONE);
    assert_int_equal(state_of(w, 0), SP_UNIT_STALE);
    deliver(w, 5);
    /* It is no member after a restart either, whether it is there or not. */
    for (int i = 0; i < 2; i++) {
        stop(w);
        open_volume(w);
        assert_int_equal(state_of(w, 0), SP_UNIT_STALE);
        struct sp_uuid unit;
        assert_int_equal(sp_volume_find_unit(w->volume, "a", &unit, &error), SP_OK);
        assert_false(sp_volume_is_member(w->volume, &unit));
        assert_int_equal(sp_volume_voters_without(w->volume, &unit), 3);
        assert_int_equal(event_of(w, id), SP_GUARD_DONE);
        deliver(w, 1);
    }
    end(w);
}

static void test_undo(void **state)
{
    (void)state;
    struct world *w = begin();
    struct sp_uuid id = request(w, SP_GUARD_UNIT_RETIRE, "a");
    pass(w, 12 * HOUR_MS);
    assert_int_equal(sp_guard_undo(w->guard, &id, &bob, &error), SP_OK);
    pass(w, 48 * HOUR_MS);
    assert_int_equal(event_of(w, id), SP_GUARD_UNDONE);
    assert_int_equal(state_of(w, 0), SP_UNIT_REPLICA);
    assert_int_equal(sp_guard_undo(w->guard, &id, &bob, &error), SP_CONFLICT);
    struct sp_uuid none = {{77}};
    assert_int_equal(sp_guard_undo(w->guard, &none, &bob, &error), SP_NOT_FOUND);
    end(w);
}

/* A clock that leaps ahead destroys nothing, nor does one that stands still or goes back. */
static void test_clocks(void **state)
{
    (void)state;
    struct world *w = begin();
    struct sp_uuid id = request(w, SP_GUARD_UNIT_RETIRE, "a");
    uint64_t before = wall_now_ns;
    wall_now_ns += 400ULL * 24 * HOUR_MS * 1000000; /* a year ahead */
    sp_guard_step(w->guard);
    assert_int_equal(event_of(w, id), SP_GUARD_REQUESTED);
    stop(w);         /* a restart counts no time either */
    mono_now_ms = 5; /* a boot */
    open_volume(w);
    sp_guard_step(w->guard);
    sp_guard_step(w->guard);
    assert_int_equal(event_of(w, id), SP_GUARD_REQUESTED);
    /* The machine runs for long enough, but the wall clock says otherwise. */
    wall_now_ns = before;
    for (int i = 0; i < 30; i++) {
        mono_now_ms += HOUR_MS;
        sp_guard_step(w->guard);
    }
    assert_int_equal(event_of(w, id), SP_GUARD_REQUESTED);
    assert_int_equal(state_of(w, 0), SP_UNIT_REPLICA);
    wall_now_ns = before + 25 * HOUR_MS * 1000000;
    sp_guard_step(w->guard);
    assert_int_equal(event_of(w, id), SP_GUARD_DONE);
    end(w);
}

/* The time it has waited survives restarts, as far as it was written. */
static void test_time_is_logged(void **state)
{
    (void)state;
    struct world *w = begin();
    struct sp_uuid id = request(w, SP_GUARD_UNIT_RETIRE, "a");
    for (int i = 0; i < 4; i++) {
        pass(w, 5 * HOUR_MS);
        stop(w);
        mono_now_ms = 1000; /* another boot */
        open_volume(w);
    }
    pass(w, 3 * HOUR_MS);
    assert_int_equal(event_of(w, id), SP_GUARD_REQUESTED);
    pass(w, 2 * HOUR_MS); /* 20 h before: at most a minute of each five was lost */
    assert_int_equal(event_of(w, id), SP_GUARD_DONE);
    end(w);
}

static void test_approvals(void **state)
{
    (void)state;
    struct world *w = begin();
    stop(w);
    w->config.approvals = 1;
    w->config.approvers[0] = alice.uid;
    w->config.approvers[1] = bob.uid;
    w->config.approvers_count = 2;
    open_volume(w);
    struct sp_uuid id = request(w, SP_GUARD_UNIT_RETIRE, "a");
    pass(w, 30 * HOUR_MS);
    assert_int_equal(event_of(w, id), SP_GUARD_REQUESTED);
    assert_int_equal(sp_guard_approve(w->guard, &id, &alice, &error), SP_DENIED);
    assert_int_equal(sp_guard_approve(w->guard, &id, &eve, &error), SP_DENIED);
    pass(w, HOUR_MS);
    assert_int_equal(state_of(w, 0), SP_UNIT_REPLICA);
    assert_int_equal(sp_guard_approve(w->guard, &id, &bob, &error), SP_OK);
    assert_int_equal(sp_guard_approve(w->guard, &id, &bob, &error), SP_EXISTS);
    pass(w, 60000);
    assert_int_equal(event_of(w, id), SP_GUARD_DONE);
    end(w);
}

/* Not confirmed as shown, not checked, asked for twice. */
static void test_confirmation(void **state)
{
    (void)state;
    struct world *w = begin();
    struct sp_guard_check check;
    struct sp_uuid id;
    assert_int_equal(
        sp_guard_request(w->guard, SP_GUARD_UNIT_RETIRE, "a", "a", &alice, &id, &error),
        SP_CONFLICT);
    assert_int_equal(sp_guard_check_now(w->guard, SP_GUARD_UNIT_RETIRE, "a", &check), SP_OK);
    static const char *const wrong[] = {"", "a", "yes", "A"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(
            sp_guard_request(w->guard, SP_GUARD_UNIT_RETIRE, "a", wrong[i], &alice, &id, &error),
            SP_DENIED);
    /* What was checked of one unit is not said of another. */
    assert_int_equal(
        sp_guard_request(w->guard, SP_GUARD_UNIT_RETIRE, "b", check.confirm, &alice, &id, &error),
        SP_CONFLICT);
    assert_int_equal(
        sp_guard_request(w->guard, SP_GUARD_UNIT_RETIRE, "a", check.confirm, &alice, &id, &error),
        SP_OK);
    assert_int_equal(
        sp_guard_request(w->guard, SP_GUARD_UNIT_RETIRE, "a", check.confirm, &alice, &id, &error),
        SP_EXISTS);
    mono_now_ms += 2 * HOUR_MS; /* and not for ever */
    assert_int_equal(
        sp_guard_request(w->guard, SP_GUARD_UNIT_RETIRE, "a", check.confirm, &alice, &id, &error),
        SP_CONFLICT);
    end(w);
}

static void assert_refused(struct world *w, const char *unit, const char *said)
{
    struct sp_guard_check check;
    assert_int_equal(sp_guard_check_now(w->guard, SP_GUARD_UNIT_RETIRE, unit, &check), SP_DENIED);
    if (!strstr(check.facts, said) && !strstr(check.error.why, said))
        print_message("%s\n%s", check.error.why, check.facts);
    assert_true(strstr(check.facts, said) || strstr(check.error.why, said));
}

/* Rot in the last other copy is found, whatever the index and the heads say. */
static void test_refuses_rot(void **state)
{
    (void)state;
    struct world *w = begin();
    assert_true(sp_sim_rot(w->disks, 1, 3, 0, 2));
    assert_refused(w, "a", "its copy of segment 3 is not sound at block 2");
    assert_refused(w, "a", "segment 3 (LSN ");
    /* Of the unit itself that says nothing: the other's copy is needed for it. */
    struct sp_guard_check check;
    assert_int_equal(sp_guard_check_now(w->guard, SP_GUARD_UNIT_RETIRE, "b", &check), SP_OK);
    end(w);
}

/* Rot that comes while a request waits is found when it is due. */
static void test_refuses_later_rot(void **state)
{
    (void)state;
    struct world *w = begin();
    struct sp_uuid id = request(w, SP_GUARD_UNIT_RETIRE, "a");
    assert_true(sp_sim_rot(w->disks, 1, 3, 0, 2));
    pass(w, 25 * HOUR_MS);
    struct looking l = {.id = id};
    assert_int_equal(sp_guard_list(w->guard, true, look, &l, &error), SP_OK);
    assert_int_equal(l.row.event, SP_GUARD_REFUSED);
    assert_non_null(strstr(l.text, "segment 3"));
    assert_int_equal(state_of(w, 0), SP_UNIT_REPLICA);
    end(w);
}

/* Units in one failure domain are one copy, unless it is said that they count; the spare in a
 * domain of its own is taken first. */
static void test_domains(void **state)
{
    (void)state;
    struct world *w = begin_shared(3);
    struct sp_guard_check check;
    assert_int_equal(sp_guard_check_now(w->guard, SP_GUARD_UNIT_RETIRE, "a", &check), SP_OK);
    assert_int_equal(state_of(w, 2), SP_UNIT_SPARE);
    assert_int_equal(state_of(w, 3), SP_UNIT_REPLICA);
    assert_null(strstr(check.facts, "allow_shared_domain"));
    end(w);
    w = begin_shared(4);
    assert_refused(w, "a", "share a failure domain");
    assert_refused(w, "a", "1 of 2 copies");
    stop(w);
    w->config.shared_ok = true;
    open_volume(w);
    assert_int_equal(sp_guard_check_now(w->guard, SP_GUARD_UNIT_RETIRE, "b", &check), SP_OK);
    assert_non_null(strstr(check.facts, "allow_shared_domain"));
    end(w);
}

/* With no spare left there are too few copies; with three units, too few voters. */
static void test_refuses_the_last(void **state)
{
    (void)state;
    struct world *w = begin();
    sp_sim_set_fault(w->disks, 2, SP_SIM_GONE);
    sp_sim_set_fault(w->disks, 3, SP_SIM_GONE);
    while (state_of(w, 3) != SP_UNIT_ABSENT || state_of(w, 2) != SP_UNIT_ABSENT)
        usleep(10000);
    assert_refused(w, "a", "1 of 2 copies (b)");
    assert_refused(w, "a", "unit c: it is absent");
    sp_sim_set_fault(w->disks, 2, SP_SIM_HEALTHY);
    sp_sim_set_fault(w->disks, 3, SP_SIM_HEALTHY);
    while (state_of(w, 3) == SP_UNIT_ABSENT || state_of(w, 2) == SP_UNIT_ABSENT)
        usleep(10000);
    struct sp_uuid id = request(w, SP_GUARD_UNIT_RETIRE, "a");
    pass(w, 25 * HOUR_MS);
    assert_int_equal(event_of(w, id), SP_GUARD_DONE);
    assert_refused(w, "b", "2 units would be left to vote");
    end(w);
}

static void test_wipe(void **state)
{
    (void)state;
    struct world *w = begin();
    struct sp_guard_check check;
    assert_int_equal(sp_guard_check_now(w->guard, SP_GUARD_UNIT_WIPE, "a", &check), SP_DENIED);
    assert_non_null(strstr(check.error.todo, "unit retire"));
    struct sp_uuid id = request(w, SP_GUARD_UNIT_RETIRE, "a");
    pass(w, 25 * HOUR_MS);
    id = request(w, SP_GUARD_UNIT_WIPE, "a");
    assert_int_equal(w->wiped, 0);
    /* Its disk does not answer: it is tried again. */
    w->wipe_status = SP_IO;
    pass(w, 25 * HOUR_MS);
    assert_int_equal(event_of(w, id), SP_GUARD_REQUESTED);
    w->wipe_status = SP_OK;
    pass(w, HOUR_MS);
    assert_int_equal(event_of(w, id), SP_GUARD_DONE);
    assert_int_equal(w->wiped, 1);
    end(w);
}

/* A unit that was taken back in meanwhile is not wiped. */
static void test_wipe_of_one_taken_back(void **state)
{
    (void)state;
    struct world *w = begin();
    request(w, SP_GUARD_UNIT_RETIRE, "a");
    pass(w, 25 * HOUR_MS);
    struct sp_uuid id = request(w, SP_GUARD_UNIT_WIPE, "a");
    struct bench bench = {.world = w->disks};
    assert_int_equal(sp_volume_add_unit(w->volume, "a", bench_open_disk, &bench, &error), SP_OK);
    pass(w, 25 * HOUR_MS);
    assert_int_equal(event_of(w, id), SP_GUARD_REFUSED);
    assert_int_equal(w->wiped, 0);
    end(w);
}

/* An absent unit is retired by its name, if it is the only one, and the log goes on without it. */
static void test_retire_absent(void **state)
{
    (void)state;
    struct world *w = begin();
    sp_sim_set_fault(w->disks, 1, SP_SIM_GONE);
    deliver(w, 3); /* ejected, c takes its place */
    stop(w);
    open_volume(w); /* it cannot be opened... */
    struct sp_uuid id = request(w, SP_GUARD_UNIT_RETIRE, "b");
    pass(w, 25 * HOUR_MS);
    assert_int_equal(event_of(w, id), SP_GUARD_DONE);
    deliver(w, 3);
    end(w);
}

static void test_policy(void **state)
{
    (void)state;
    struct world *w = begin();
    struct sp_guard_request policy;
    struct sp_read read;
    struct sp_uuid id = request(w, SP_GUARD_SEGMENTS_DELETE, "");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sp_read_begin(sp_volume_index(w->volume), &read), SP_OK);
        assert_int_equal(sp_index_guard_policy(&read, SP_GUARD_SEGMENTS_DELETE, &policy),
                         i == 1 ? SP_OK : SP_NOT_FOUND);
        sp_read_end(&read);
        if (i == 0) {
            pass(w, 25 * HOUR_MS);
            assert_int_equal(event_of(w, id), SP_GUARD_DONE);
        } else if (i == 1) {
            assert_int_equal(sp_guard_policy_end(w->guard, SP_GUARD_SEGMENTS_DELETE, &bob, &error),
                             SP_OK);
        }
    }
    end(w);
}

/* The index is made anew from the log: nothing of it is lost, and nothing is done twice. */
static void test_rebuilt_index(void **state)
{
    (void)state;
    struct world *w = begin();
    struct sp_uuid pending = request(w, SP_GUARD_UNIT_RETIRE, "a");
    struct sp_uuid undone = request(w, SP_GUARD_SEGMENTS_DELETE, "");
    assert_int_equal(sp_guard_undo(w->guard, &undone, &bob, &error), SP_OK);
    pass(w, 10 * HOUR_MS);
    stop(w);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    open_volume(w);
    assert_int_equal(event_of(w, pending), SP_GUARD_REQUESTED);
    assert_int_equal(event_of(w, undone), SP_GUARD_UNDONE);
    struct looking l = {.id = pending};
    assert_int_equal(sp_guard_list(w->guard, false, look, &l, &error), SP_OK);
    assert_true(l.found && l.row.uid == alice.uid && l.row.waited_ms > 9 * HOUR_MS);
    pass(w, 15 * HOUR_MS);
    assert_int_equal(event_of(w, pending), SP_GUARD_DONE);
    end(w);
}

static int all_tests(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retire_waits_and_is_done),
        cmocka_unit_test(test_undo),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_time_is_logged),
        cmocka_unit_test(test_approvals),
        cmocka_unit_test(test_confirmation),
        cmocka_unit_test(test_refuses_rot),
        cmocka_unit_test(test_refuses_later_rot),
        cmocka_unit_test(test_domains),
        cmocka_unit_test(test_refuses_the_last),
        cmocka_unit_test(test_wipe),
        cmocka_unit_test(test_wipe_of_one_taken_back),
        cmocka_unit_test(test_retire_absent),
        cmocka_unit_test(test_policy),
        cmocka_unit_test(test_rebuilt_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(void)
{
    return bench_main(all_tests);
}
