#include "base/time.h"
#include "store/test_sim.h"

/* The volume's own looks at its units come when this says so, and not by the clock. */
void sim_quiet(struct sim *s)
{
    s->volume->checked_ms = sp_now_ms();
}

uint32_t sim_body_bytes(uint32_t number)
{
    return 1 + number * 37 % 9000; /* no two bodies of a history are equally long */
}

/* A batch may be refused before its plans are run (there was no room for a segment). */
static bool was_run(const struct sim_group *group)
{
    for (uint32_t i = 0; i < group->count; i++)
        if (group->steps[i].type == STEP_DELIVER && !group->steps[i].uid)
            return false;
    return true;
}

static void add_doubt(struct sim *s, const struct sim_group *group)
{
    if (s->doubts_count == s->doubts_capacity) {
        s->doubts_capacity = s->doubts_capacity ? s->doubts_capacity * 2 : 8;
        s->doubts = realloc(s->doubts, s->doubts_capacity * sizeof *s->doubts);
        sp_assert(s->doubts);
    }
    s->doubts[s->doubts_count++] = *group;
}

/* What this batch shows of the faults. */
static void count_batch(struct sim *s, enum sp_status status)
{
    uint32_t sick = 0, sound = 0, full = 0, replicas = 0;
    s->counts[status == SP_OK ? SIM_BATCHES : SIM_REFUSED]++;
    for (uint32_t i = 0; i < s->units_count; i++) {
        bool replica = sim_member(s, i)->state == SP_UNIT_REPLICA;
        sick += s->faults[i] != SP_SIM_HEALTHY;
        sound += s->faults[i] == SP_SIM_HEALTHY && sim_member(s, i)->state <= SP_UNIT_SPARE;
        replicas += replica;
        full += replica && s->faults[i] == SP_SIM_FULL;
    }
    s->counts[SIM_TWO_SICK] += sick >= 2;
    s->counts[SIM_DOWN_TO_TWO] += sick && sound <= 1 && status != SP_OK;
    s->counts[SIM_ALL_FULL] += status == SP_NO_SPACE && replicas > 1 && full == replicas;
}

enum sp_status sim_run_group(struct sim *s, struct sim_group *group)
{
    struct waiting waiting[SIM_GROUP_STEPS];
    bool writable = s->volume->writable;
    uint32_t epoch = s->volume->epoch_counter;
    memset(waiting, 0, sizeof waiting);
    sim_quiet(s);
    for (uint32_t i = 0; i < group->count; i++) {
        waiting[i].commit.plan = waiting_plan;
        waiting[i].commit.done = waiting_done;
        waiting[i].context = (struct step_context){&s->model, &group->steps[i]};
        sp_volume_submit(s->volume, &waiting[i].commit);
    }
    while (!waiting[group->count - 1].answered) {
        sp_volume_run_once(s->volume);
        sim_quiet(s);
    }
    enum sp_status status = waiting[0].status;
    for (uint32_t i = 0; i < group->count; i++)
        sp_assert((waiting[i].status == SP_OK) == (status == SP_OK));
    SIM_SAY("  %u changes: %s\n", group->count, sp_status_name(status));
    count_batch(s, status);
    s->counts[SIM_EPOCHS] += s->volume->epoch_counter != epoch;
    if (status == SP_OK) {
        for (uint32_t i = 0; i < group->count; i++)
            step_done(&s->model, &group->steps[i]);
        s->doubts_count = 0;
        s->epoch = s->volume->epoch_counter;
    } else if (writable && was_run(group)) {
        add_doubt(s, group);
    }
    return status;
}

void sim_step_mail(struct sim *s)
{
    struct sim_group group = {.count = 1 + sim_random(s, SIM_GROUP_STEPS)};
    for (uint32_t i = 0; i < group.count; i++) {
        struct step *step = &group.steps[i];
        step->mailbox = sim_random(s, MODEL_MAILBOXES);
        const struct model_mailbox *box = &s->model.mailboxes[step->mailbox];
        uint32_t roll = sim_random(s, 4), kind = sim_random(s, 3), flags = sim_random(s, 32);
        uint32_t uid = box->uid_highest ? 1 + sim_random(s, box->uid_highest) : 0;
        if (uid && kind == 0 && roll == 0)
            uid = box->uid_highest; /* the newest, whose UID must not come again */
        if (uid && box->messages[uid].state == MODEL_PRESENT && roll == 0) {
            step->type = kind == 0 ? STEP_EXPUNGE : STEP_FLAGS;
            step->uid = uid;
            step->flags = flags;
        } else {
            step->type = STEP_DELIVER;
            step->seed = ++s->bodies;
            step->body_bytes = sim_body_bytes(step->seed);
        }
    }
    (void)sim_run_group(s, &group);
}

void sim_step_watch(struct sim *s)
{
    s->volume->checked_ms = 0;
    s->volume->retried_ms = 0;
    (void)sp_volume_run_once(s->volume);
}

void sim_step_catalogues(struct sim *s)
{
    s->volume->catalogues_due = true;
    sim_quiet(s);
    (void)sp_volume_run_once(s->volume);
}

void sim_step_tails(struct sim *s)
{
    sp_volume_begin_tails(s->volume);
}

/* Somebody says that a unit is sound again. */
void sim_take_back(struct sim *s, uint32_t unit)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    struct sp_error error = {0};
    if (sim_member(s, unit)->state < SP_UNIT_EJECTED)
        return;
    sim_set_fault(s, unit, SP_SIM_HEALTHY);
    sim_quiet(s);
    enum sp_status status =
        sp_volume_add_unit(s->volume, names[s->order[unit]], sim_open_disk, s, &error);
    SIM_SAY("  unit %u taken back: %s %s\n", unit, sp_status_name(status),
            status != SP_OK ? error.why : "");
    s->counts[SIM_TAKEN_BACK] += status == SP_OK;
}

void sim_step_take_back(struct sim *s)
{
    uint32_t from = sim_random(s, s->units_count);
    for (uint32_t i = 0; i < s->units_count; i++) {
        uint32_t unit = (from + i) % s->units_count;
        if (sim_member(s, unit)->state >= SP_UNIT_EJECTED) {
            sim_take_back(s, unit);
            return;
        }
    }
}

void sim_step_scrub(struct sim *s)
{
    sp_volume_scrub_now(s->volume);
    sim_step_tend(s);
}

void sim_step_tend(struct sim *s)
{
    sim_quiet(s);
    for (uint32_t i = sim_random(s, 20); i > 0; i--)
        (void)sp_volume_run_once(s->volume);
}
