/* The store through random histories: mail, units that fail, stall, fill up, vanish and come back,
 * rot, crashes under each survivor policy, starts with units absent and without the index. All
 * choices come from a seed.
 *
 * After each step the volume is held against the model: what was acknowledged is there, byte for
 * byte; what was refused is there as a whole batch or not at all, and once a new epoch has begun
 * that is settled. Each acknowledged block is on enough replicas at that moment, and stays what it
 * was. A start may be refused only when no majority of the units is here, or when the units that
 * are here really lack an acknowledged block; and with all units here and healthy, mail flows. At
 * the end the log is read from its beginning: LSNs are dense, the heads are right, and what
 * catalogues and tails say is true where they stand.
 *
 *   test_sim [--seeds N] [--start S]   prints the seed that fails; SP_VERBOSE=1: every step
 */
#include "base/log.h"
#include "base/time.h"
#include "store/test_truth.h"
#include "store/volume_internal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define UNITS_MAX   5U
#define GROUP_STEPS 3U

struct group { /* steps that are submitted together, and so make one batch */
    struct step steps[GROUP_STEPS];
    uint32_t count;
};

/* Every acknowledged block, as it was then. */
struct shadow {
    uint64_t segment;
    uint8_t *blocks;
    uint32_t count;
};

struct sim {
    uint64_t seed, random;
    struct sp_sim_world *world;
    struct sp_uuid id;
    uint32_t units_count, replicas, witnesses, min_copies;
    bool degraded_accept;
    uint64_t segment_bytes;
    enum sp_sim_fault faults[UNITS_MAX];
    struct sp_volume *volume;
    struct model model;
    struct group *doubts; /* refused batches: any one of them may be there after a start */
    uint32_t doubts_count, doubts_capacity;
    bool settled; /* an epoch was begun since the start: nothing is in doubt but what came after */
    bool rot_unseen;   /* in blocks of which it is not known yet whether they are acknowledged */
    uint32_t rot_disk; /* where */
    uint32_t damaged;  /* a bit for each disk whose vote is */
    uint32_t epoch;
    struct shadow *shadows;
    uint32_t shadows_count;
    uint32_t bodies;
    uint64_t starts, refusals, crashes;
};

static const char *const names[UNITS_MAX] = {"a", "b", "c", "d", "e"};
static const char *index_path;
static uint64_t seed_running;
static bool verbose;

static uint32_t rnd(struct sim *s, uint32_t below)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return (uint32_t)((z ^ (z >> 31)) >> 32) % below;
}

static bool one_in(struct sim *s, uint32_t n)
{
    return rnd(s, n) == 0;
}

#define SAY(...)                                                                                   \
    do {                                                                                           \
        if (verbose)                                                                               \
            fprintf(stderr, __VA_ARGS__);                                                          \
    } while (0)

/* ---- Acknowledged blocks ---- */

static struct shadow *shadow_of(struct sim *s, uint64_t segment)
{
    for (uint32_t i = s->shadows_count; i-- > 0;)
        if (s->shadows[i].segment == segment)
            return &s->shadows[i];
    s->shadows = realloc(s->shadows, (s->shadows_count + 1) * sizeof *s->shadows);
    sp_assert(s->shadows);
    s->shadows[s->shadows_count] = (struct shadow){.segment = segment};
    return &s->shadows[s->shadows_count++];
}

/* Takes down a block that is new; how many replicas have it. */
static uint32_t note_block(struct sim *s, const struct sp_volume_segment *segment, uint32_t index,
                           uint8_t *ret_block)
{
    struct sp_volume *v = s->volume;
    struct sp_error error;
    uint32_t copies = 0;
    sp_assert(sp_volume_read_blocks(v, segment, index, ret_block, 1, &error) == SP_OK);
    for (uint32_t k = 0; k < v->members_count; k++) {
        struct sp_unit *unit = v->members[k].unit;
        uint8_t block[SP_UNIT_BLOCK_BYTES];
        copies += v->members[k].state == SP_UNIT_REPLICA && unit &&
                  unit->ops->read(unit, segment->segment, 0, index, block, 1, NULL) == SP_OK &&
                  memcmp(block, ret_block, sizeof block) == 0;
    }
    return copies;
}

/* Takes down what the log has grown by. What this life wrote is on enough replicas; of what an
 * earlier one wrote at its end some may not be here. */
static void note_log(struct sim *s)
{
    const struct sp_volume *v = s->volume;
    for (size_t i = 0; i < v->segments_count; i++) {
        const struct sp_volume_segment *segment = &v->segments[i];
        struct shadow *shadow = shadow_of(s, segment->segment);
        uint32_t least = segment->epoch_id != v->epoch_id ? 0
                         : s->degraded_accept             ? 1
                                                          : s->min_copies;
        sp_assert(shadow->count <= segment->data_blocks);
        if (shadow->count == segment->data_blocks)
            continue;
        shadow->blocks =
            realloc(shadow->blocks, (size_t)segment->data_blocks * SP_UNIT_BLOCK_BYTES);
        sp_assert(shadow->blocks);
        for (; shadow->count < segment->data_blocks; shadow->count++)
            sp_assert(note_block(s, segment, shadow->count,
                                 shadow->blocks + (size_t)shadow->count * SP_UNIT_BLOCK_BYTES) >=
                      least);
    }
    s->rot_unseen = false;
}

/* How many of the disks in the mask hold the block as it was acknowledged. */
static uint32_t holders(struct sim *s, struct sp_unit *const *units, const struct shadow *shadow,
                        uint32_t block)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->units_count; i++) {
        uint8_t bytes[SP_UNIT_BLOCK_BYTES];
        count +=
            units[i] &&
            units[i]->ops->read(units[i], shadow->segment, 0, block, bytes, 1, NULL) == SP_OK &&
            memcmp(bytes, shadow->blocks + (size_t)block * sizeof bytes, sizeof bytes) == 0;
    }
    return count;
}

static void open_units(struct sim *s, uint32_t absent, struct sp_unit **ret_units)
{
    struct sp_error error;
    for (uint32_t i = 0; i < s->units_count; i++)
        if ((absent & 1U << i) ||
            sp_sim_unit_open(s->world, i, names[i], &ret_units[i], &error) != SP_OK)
            ret_units[i] = NULL;
}

static void close_units(struct sim *s, struct sp_unit **units)
{
    for (uint32_t i = 0; i < s->units_count; i++)
        if (units[i])
            units[i]->ops->close(units[i]);
}

/* Whether none of these units is a replica of the newest epoch that they know of: nobody can say
 * then what was written in it. */
static bool lacks_replica(struct sim *s, struct sp_unit *const *units)
{
    struct sp_vote newest = {0}, vote;
    struct sp_error error;
    for (uint32_t i = 0; i < s->units_count; i++)
        if (units[i] && sp_vote_read(units[i], &vote, &error) == SP_OK && vote.accepted &&
            vote.head.epoch_counter > newest.head.epoch_counter)
            newest = vote;
    for (uint32_t k = 0; k < newest.head.members_count; k++)
        for (uint32_t i = 0; i < s->units_count; i++)
            if (units[i] && newest.head.members[k].role == SP_MEMBER_REPLICA &&
                sp_uuid_eq(&units[i]->id, &newest.head.members[k].unit))
                return false;
    return newest.accepted;
}

/* Whether the units that are here lack an acknowledged block, or may. *ret_here: how many there
 * are. */
static bool lacks(struct sim *s, uint32_t absent, uint32_t *ret_here)
{
    struct sp_unit *units[UNITS_MAX];
    open_units(s, absent | s->damaged, units);
    bool lacking = lacks_replica(s, units);
    *ret_here = 0;
    for (uint32_t i = 0; i < s->units_count; i++)
        *ret_here += units[i] != NULL;
    for (uint32_t i = 0; i < s->shadows_count && !lacking; i++)
        for (uint32_t k = 0; k < s->shadows[i].count && !lacking; k++)
            lacking = holders(s, units, &s->shadows[i], k) == 0;
    close_units(s, units);
    return lacking;
}

/* Whether so much may rot: never the last copy of what was acknowledged. What was written since the
 * log was taken down last is on two disks at least, if fewer copies do not do; then it may rot on
 * one. */
static bool may_rot(struct sim *s, struct sp_unit *const *units, uint32_t disk, uint64_t segment,
                    uint32_t block)
{
    const struct shadow *shadow = shadow_of(s, segment);
    if (block < shadow->count)
        return holders(s, units, shadow, block) > 1;
    if (s->min_copies < 2 || s->degraded_accept || s->damaged ||
        (s->rot_unseen && s->rot_disk != disk))
        return false;
    s->rot_unseen = true;
    s->rot_disk = disk;
    return true;
}

static void rot(struct sim *s)
{
    struct sp_unit *units[UNITS_MAX];
    uint32_t disk = rnd(s, s->units_count);
    struct sp_unit_segment *list;
    size_t count;
    sp_assert(!s->volume);
    open_units(s, s->damaged, units);
    if (units[disk] && units[disk]->ops->list(units[disk], &list, &count, NULL) == SP_OK) {
        if (count) {
            const struct sp_unit_segment *file =
                &list[one_in(s, 2) ? count - 1 : rnd(s, (uint32_t)count)];
            uint32_t block = file->blocks ? rnd(s, file->blocks) : 0;
            if (may_rot(s, units, disk, file->segment, block)) {
                SAY("  rot: disk %u segment %llu block %u\n", disk,
                    (unsigned long long)file->segment, block);
                (void)sp_sim_rot(s->world, disk, file->segment, file->generation, block);
            }
        }
        free(list);
    }
    close_units(s, units);
}

static void flip_vote(struct sp_unit *unit, uint32_t byte)
{
    uint8_t *vote;
    size_t len;
    if (unit->ops->vote_read(unit, &vote, &len, NULL) != SP_OK)
        return;
    vote[byte] ^= 0x10;
    (void)!unit->ops->vote_write(unit, sp_slice(vote, len), NULL);
    free(vote);
}

/* Damages a vote, if the others can do without its unit: it counts as absent. */
static void damage_vote(struct sim *s)
{
    struct sp_unit *units[UNITS_MAX];
    uint32_t disk = rnd(s, s->units_count), byte = rnd(s, 20), here;
    if (s->damaged || s->rot_unseen || s->faults[disk] != SP_SIM_HEALTHY)
        return;
    s->damaged = 1U << disk;
    if (lacks(s, 0, &here) || here <= s->units_count / 2) {
        s->damaged = 0;
        return;
    }
    SAY("  disk %u: its vote is damaged\n", disk);
    open_units(s, ~s->damaged, units);
    flip_vote(units[disk], byte);
    close_units(s, units);
}

/* ---- What is there ---- */

static uint32_t body_bytes(uint32_t number)
{
    return 1 + number * 37 % 9000; /* no two bodies of a history are equally long */
}

/* Whether the volume shows what the model says. */
static bool shows(struct sim *s, const struct model *model)
{
    struct sp_read read;
    struct sp_account account;
    struct sp_arena arena;
    bool good = true;
    sp_assert(sp_read_begin(sp_volume_index(s->volume), &read) == SP_OK);
    sp_arena_init(&arena, 1U << 20);
    bool here = sp_index_account(&read, &model->account, &account) == SP_OK;
    good = here == model->account_made;
    for (uint32_t b = 0; good && here && b < MODEL_MAILBOXES; b++) {
        struct sp_flag_cursor cursor;
        struct sp_flag_row row;
        uint32_t present = 0, count = 0;
        sp_assert(sp_flag_cursor_open(&read, &model->account, b + 1, 1, 0, &cursor) == SP_OK);
        for (uint32_t uid = 1; uid < MODEL_UIDS; uid++)
            present += model->mailboxes[b].messages[uid].state == MODEL_PRESENT;
        while (good && sp_flag_cursor_next(&cursor, &row) == SP_OK) {
            const struct model_message *m = &model->mailboxes[b].messages[row.uid];
            struct sp_slice payload;
            struct sp_message message;
            uint64_t lsn, time_ns;
            good = row.uid < MODEL_UIDS && m->state == MODEL_PRESENT && m->flags == row.flags &&
                   sp_index_message(&read, &model->account, b + 1, row.uid, &payload, &lsn,
                                    &time_ns) == SP_OK &&
                   sp_message_read(payload, &arena, &message) == SP_OK &&
                   message.size == body_bytes(m->seed);
            sp_arena_release(&arena);
            count++;
        }
        sp_flag_cursor_close(&cursor);
        good = good && count == present;
    }
    sp_read_end(&read);
    return good;
}

/* Holds the volume against the model, or the model with one of the refused batches, which it then
 * takes over when an epoch has settled it. */
static void hold(struct sim *s)
{
    static struct model with;
    bool writable = s->volume->writable;
    uint32_t found = UINT32_MAX;
    with = s->model;
    if (!shows(s, &with)) {
        sp_assert(!s->settled);
        for (found = 0; found < s->doubts_count; found++) {
            with = s->model;
            for (uint32_t i = 0; i < s->doubts[found].count; i++)
                step_done(&with, &s->doubts[found].steps[i]);
            if (shows(s, &with))
                break;
        }
        sp_assert(found < s->doubts_count);
    }
    bool readable = true;
    for (uint32_t i = 0; i < s->units_count; i++)
        readable &= s->faults[i] != SP_SIM_FAIL_ALL && s->faults[i] != SP_SIM_GONE;
    if (readable)
        model_check(s->volume, &with, NULL, 0);
    if (!s->settled && writable) {
        SAY("  settled%s\n", found != UINT32_MAX ? ", with a batch that was refused" : "");
        s->settled = true;
        s->epoch = s->volume->epoch_counter;
        s->model = with;
        s->doubts_count = 0;
    }
    if (s->settled && writable && s->epoch != s->volume->epoch_counter) {
        s->epoch = s->volume->epoch_counter;
        s->doubts_count = 0;
    }
    if (s->settled)
        note_log(s);
}

/* A replica's copy is what was acknowledged, or not sound: never something else. */
static void check_copies(struct sim *s)
{
    const struct sp_volume *v = s->volume;
    for (uint32_t k = 0; k < v->members_count; k++) {
        const struct sp_volume_member *m = &v->members[k];
        if (m->state != SP_UNIT_REPLICA || !m->unit)
            continue;
        for (size_t i = m->lacks; i < v->segments_count; i++) {
            const struct sp_volume_segment *segment = &v->segments[i];
            const struct shadow *shadow = shadow_of(s, segment->segment);
            for (uint32_t b = 0; b < shadow->count; b++) {
                uint8_t block[SP_UNIT_BLOCK_BYTES];
                sp_assert(
                    m->unit->ops->read(m->unit, segment->segment, 0, b, block, 1, NULL) != SP_OK ||
                    !sp_volume_is_block_of(v, segment, b, block) ||
                    memcmp(block, shadow->blocks + (size_t)b * sizeof block, sizeof block) == 0);
            }
        }
    }
}

/* ---- Steps ---- */

/* The volume's own looks at its units come when this says so, and not by the clock. */
static void quiet(struct sim *s)
{
    s->volume->checked_ms = sp_now_ms();
}

/* A batch may be refused before its plans are run (there was no room for a segment). */
static bool was_run(const struct group *group)
{
    for (uint32_t i = 0; i < group->count; i++)
        if (group->steps[i].type == STEP_DELIVER && !group->steps[i].uid)
            return false;
    return true;
}

static enum sp_status run_group(struct sim *s, struct group *group)
{
    struct waiting waiting[GROUP_STEPS];
    bool writable = s->volume->writable;
    memset(waiting, 0, sizeof waiting);
    quiet(s);
    for (uint32_t i = 0; i < group->count; i++) {
        waiting[i].commit.plan = waiting_plan;
        waiting[i].commit.done = waiting_done;
        waiting[i].context = (struct step_context){&s->model, &group->steps[i]};
        sp_volume_submit(s->volume, &waiting[i].commit);
    }
    while (!waiting[group->count - 1].answered) {
        sp_volume_run_once(s->volume);
        quiet(s);
    }
    enum sp_status status = waiting[0].status;
    for (uint32_t i = 0; i < group->count; i++)
        sp_assert(waiting[i].status == status);
    SAY("  %u steps: %s\n", group->count, sp_status_name(status));
    if (status == SP_OK) {
        for (uint32_t i = 0; i < group->count; i++)
            step_done(&s->model, &group->steps[i]);
        s->doubts_count = 0;
        s->epoch = s->volume->epoch_counter;
    } else if (writable && was_run(group)) {
        if (s->doubts_count == s->doubts_capacity) {
            s->doubts_capacity = s->doubts_capacity ? s->doubts_capacity * 2 : 8;
            s->doubts = realloc(s->doubts, s->doubts_capacity * sizeof *s->doubts);
            sp_assert(s->doubts);
        }
        s->doubts[s->doubts_count++] = *group;
    }
    return status;
}

static void some_mail(struct sim *s)
{
    struct group group = {.count = 1 + rnd(s, GROUP_STEPS)};
    uint32_t delivered[MODEL_MAILBOXES] = {0};
    for (uint32_t i = 0; i < group.count; i++) {
        struct step *step = &group.steps[i];
        step->mailbox = rnd(s, MODEL_MAILBOXES);
        const struct model_mailbox *box = &s->model.mailboxes[step->mailbox];
        uint32_t uid = box->uid_highest ? 1 + rnd(s, box->uid_highest) : 0;
        if (uid && box->messages[uid].state == MODEL_PRESENT && one_in(s, 4)) {
            step->type = one_in(s, 3) ? STEP_EXPUNGE : STEP_FLAGS;
            step->uid = uid;
            step->flags = rnd(s, 32);
        } else {
            step->type = STEP_DELIVER;
            step->seed = ++s->bodies;
            step->body_bytes = body_bytes(step->seed);
            delivered[step->mailbox]++;
        }
    }
    (void)run_group(s, &group);
}

static void set_fault(struct sim *s, uint32_t disk, enum sp_sim_fault fault)
{
    static const char *const says[] = {"healthy", "fail writes", "fail all",
                                       "gone",    "full",        "stall"};
    if (s->faults[disk] != fault)
        SAY("  disk %u: %s\n", disk, says[fault]);
    s->faults[disk] = fault;
    sp_sim_set_fault(s->world, disk, fault);
}

static void heal(struct sim *s)
{
    for (uint32_t i = 0; i < s->units_count; i++)
        set_fault(s, i, SP_SIM_HEALTHY);
}

/* A disk that stalls needs another replica that does not: nobody is ejected for being slow when
 * everything is. */
static void some_fault(struct sim *s)
{
    static const enum sp_sim_fault faults[] = {SP_SIM_FAIL_WRITES, SP_SIM_FAIL_ALL, SP_SIM_GONE,
                                               SP_SIM_FULL,        SP_SIM_FULL,     SP_SIM_STALL};
    enum sp_sim_fault fault = faults[rnd(s, sizeof faults / sizeof *faults)];
    uint32_t disk = rnd(s, s->units_count), sick = 0;
    bool stalled = false;
    for (uint32_t i = 0; i < s->units_count; i++) {
        sick += s->faults[i] != SP_SIM_HEALTHY;
        stalled |= s->faults[i] == SP_SIM_STALL;
    }
    if (stalled ||
        (fault == SP_SIM_STALL && (sick || !s->volume->writable || sp_log_replicas(s->volume) < 2)))
        heal(s);
    else
        set_fault(s, disk, fault);
}

static void stop(struct sim *s)
{
    quiet(s);
    sp_volume_close(s->volume);
    s->volume = NULL;
    sp_sim_restart(s->world);
    sp_sim_crash_at(s->world, 0, SP_SIM_NONE);
}

static void crash_after(struct sim *s, uint32_t operations)
{
    enum sp_sim_survivors survivors = (enum sp_sim_survivors)rnd(s, SP_SIM_TORN + 1);
    sp_sim_overlap_writes(s->world, one_in(s, 2));
    sp_sim_crash_at(s->world, sp_sim_operations(s->world) + operations, survivors);
    s->crashes++;
}

static void look_at_units(struct sim *s)
{
    SAY("  the watch\n");
    s->volume->checked_ms = 0;
    s->volume->retried_ms = 0;
    (void)sp_volume_run_once(s->volume);
}

static enum sp_status open_disk(void *context, const char *name, struct sp_unit **ret_unit,
                                struct sp_error *error)
{
    struct sim *s = context;
    return sp_sim_unit_open(s->world, (uint32_t)(name[0] - 'a'), name, ret_unit, error);
}

/* Somebody says that a unit is sound again. */
static void take_back(struct sim *s, uint32_t disk)
{
    struct sp_error error = {0};
    if (s->volume->members[disk].state < SP_UNIT_EJECTED)
        return;
    set_fault(s, disk, SP_SIM_HEALTHY);
    quiet(s);
    enum sp_status status = sp_volume_add_unit(s->volume, names[disk], open_disk, s, &error);
    SAY("  disk %u taken back: %s %s\n", disk, sp_status_name(status),
        status != SP_OK ? error.why : "");
}

static void some_step(struct sim *s)
{
    switch (rnd(s, 25)) {
    case 0:
    case 1:
        some_fault(s);
        break;
    case 2:
        heal(s);
        break;
    case 3:
    case 4:
        look_at_units(s);
        break;
    case 5:
        s->volume->catalogues_due = true;
        quiet(s);
        (void)sp_volume_run_once(s->volume);
        break;
    case 6:
        sp_volume_begin_tails(s->volume);
        break;
    case 7:
        take_back(s, rnd(s, s->units_count));
        break;
    case 8:
        if (one_in(s, 4))
            sp_volume_scrub_now(s->volume);
        quiet(s);
        for (uint32_t i = rnd(s, 20); i > 0; i--)
            (void)sp_volume_run_once(s->volume);
        break;
    default:
        some_mail(s);
        break;
    }
}

/* ---- Starting ---- */

static void configure(struct sim *s, uint32_t absent, struct sp_volume_config *ret)
{
    struct sp_unit *units[UNITS_MAX];
    *ret = (struct sp_volume_config){.name = "main",
                                     .id = s->id,
                                     .units_count = s->units_count,
                                     .min_copies = s->min_copies,
                                     .degraded_accept = s->degraded_accept,
                                     .segment_bytes = s->segment_bytes,
                                     .unit_timeout_ms = 2,
                                     .index_path = index_path,
                                     .index_map_bytes = 64U << 20};
    open_units(s, absent, units);
    for (uint32_t i = 0; i < s->units_count; i++) {
        struct sp_volume_unit *unit = &ret->units[i];
        snprintf(unit->name, sizeof unit->name, "%s", names[i]);
        unit->unit = units[i];
        unit->spare = i >= s->replicas && i < s->units_count - s->witnesses;
        unit->witness = i >= s->units_count - s->witnesses;
    }
}

/* With healthy units only what was found at the start may be lacking. */
static void check_start(struct sim *s)
{
    struct sp_volume_status status;
    uint32_t able = 0;
    sp_volume_status(s->volume, &status);
    sp_assert(status.ejections == 0);
    for (uint32_t i = 0; i < status.units_count; i++) {
        sp_assert(status.units[i].state != SP_UNIT_STALE || (s->damaged & 1U << i));
        able += status.units[i].state == SP_UNIT_REPLICA || status.units[i].state == SP_UNIT_SPARE;
    }
    if (able >= (s->degraded_accept ? 1 : s->min_copies))
        sp_assert(!status.deferring);
}

/* A vote that was damaged may have been written anew since its unit was taken back. */
static void look_at_votes(struct sim *s)
{
    struct sp_unit *units[UNITS_MAX];
    open_units(s, ~s->damaged, units);
    for (uint32_t i = 0; i < s->units_count; i++) {
        struct sp_vote vote;
        struct sp_error error;
        if (units[i] && sp_vote_read(units[i], &vote, &error) == SP_OK)
            s->damaged &= ~(1U << i);
    }
    close_units(s, units);
}

/* Tries to start; false when it was refused, for good reason, or cut off. */
static bool try_start(struct sim *s, uint32_t absent, bool crash)
{
    struct sp_volume_config config;
    struct sp_error error = {0};
    uint32_t here;
    look_at_votes(s);
    bool lacking = lacks(s, absent, &here), healthy = true;
    for (uint32_t i = 0; i < s->units_count; i++)
        healthy &= s->faults[i] == SP_SIM_HEALTHY;
    if (here > s->units_count / 2 && (lacking || (absent && s->rot_unseen)))
        return false; /* the very end may look like a batch that was never completed */
    if (crash)
        crash_after(s, 1 + rnd(s, 60));
    configure(s, absent, &config);
    enum sp_status status = sp_volume_open(&config, &s->volume, &error);
    bool crashed = sp_sim_crashed(s->world);
    s->starts++;
    s->settled = false;
    SAY(" start, absent %x: %s%s %s\n", absent, sp_status_name(status), crashed ? ", crashed" : "",
        status != SP_OK ? error.why : "");
    if (!crashed && crash)
        sp_sim_crash_at(s->world, 0, SP_SIM_NONE);
    if (crashed) {
        if (status == SP_OK)
            sp_volume_close(s->volume);
        s->volume = NULL;
        sp_sim_restart(s->world);
        sp_sim_crash_at(s->world, 0, SP_SIM_NONE);
        return false;
    }
    if (status != SP_OK) {
        s->volume = NULL;
        s->refusals++;
        sp_assert(here <= s->units_count / 2);
        return false;
    }
    sp_assert(here > s->units_count / 2);
    hold(s);
    if (healthy)
        check_start(s);
    return true;
}

static void start(struct sim *s)
{
    for (uint32_t attempt = 0;; attempt++) {
        uint32_t absent = 0;
        for (uint32_t i = 0; i < s->units_count; i++)
            if (s->faults[i] == SP_SIM_STALL)
                set_fault(s, i, SP_SIM_HEALTHY);
        if (one_in(s, 3))
            heal(s);
        if (attempt > 4)
            heal(s);
        else if (one_in(s, 2))
            absent = rnd(s, 1U << s->units_count);
        while (one_in(s, 3))
            rot(s);
        if (one_in(s, 10) && attempt <= 4)
            damage_vote(s);
        if (one_in(s, 3)) {
            SAY("  the index is destroyed\n");
            sp_assert(sp_index_destroy(index_path, NULL) == SP_OK);
        }
        if (try_start(s, absent, attempt <= 4 && one_in(s, 4)))
            return;
        sp_assert(attempt <= 4);
    }
}

/* ---- The whole log, read from its beginning ---- */

static void read_log(struct sim *s)
{
    static struct truth r;
    const struct sp_volume *v = s->volume;
    struct sp_error error;
    struct sp_arena arena;
    memset(&r, 0, sizeof r);
    sp_arena_init(&arena, 16U << 20);
    for (size_t i = 0; i < v->segments_count; i++) {
        const struct sp_volume_segment *segment = &v->segments[i];
        struct sp_segment_id id = {v->id, segment->segment, 0};
        const struct shadow *shadow = shadow_of(s, segment->segment);
        struct sp_segment_head head;
        struct sp_log_end end;
        struct sp_walker walker;
        struct sp_record record;
        struct sp_place place;
        size_t bytes = (size_t)segment->data_blocks * SP_UNIT_BLOCK_BYTES;
        uint8_t *blocks = malloc(bytes);
        sp_assert(blocks && sp_volume_read_blocks(s->volume, segment, 0, blocks,
                                                  segment->data_blocks, &error) == SP_OK);
        sp_assert(shadow->count == segment->data_blocks &&
                  memcmp(shadow->blocks, blocks, bytes) == 0);
        sp_segment_sound_end(blocks, segment->data_blocks, &id, &end);
        sp_assert(end.blocks == segment->data_blocks && end.lsn == segment->last_lsn);
        sp_assert(sp_segment_head_read(blocks, &head) == SP_OK);
        sp_assert(head.previous.lsn == r.lsn && head.next_lsn == r.lsn + 1);
        sp_assert(!head.manifest_lsn || (head.manifest_lsn == r.manifest_base &&
                                         head.manifest_segment == r.manifest_base_segment));
        sp_walker_init(&walker, blocks, segment->data_blocks, 0, &id);
        while (sp_walker_next(&walker, &record, &place)) {
            truth_record(&r, &record, segment->segment, &arena);
            sp_arena_release(&arena);
        }
        sp_walker_release(&walker);
        free(blocks);
    }
    sp_assert(r.lsn == v->end.lsn);
    sp_arena_release(&arena);
}

/* ---- One history ---- */

static void begin(struct sim *s, uint64_t seed)
{
    struct sp_uuid unit;
    *s = (struct sim){.seed = seed, .random = seed};
    s->world = sp_sim_world_new(seed);
    s->id = (struct sp_uuid){{1, 2, 3}};
    s->model.account = (struct sp_uuid){{9, 9, 9}};
    s->units_count = 3 + rnd(s, 3);
    s->replicas = s->units_count > 3 && one_in(s, 3) ? 3 : 2;
    s->witnesses = rnd(s, s->units_count - s->replicas + 1);
    s->min_copies = one_in(s, 5) ? 1 : 2;
    s->degraded_accept = one_in(s, 5);
    s->segment_bytes = (32U << 10) << rnd(s, 4);
    SAY("seed %llu: %u units, %u replicas, %u witnesses, min_copies %u%s, segments of %llu\n",
        (unsigned long long)seed, s->units_count, s->replicas, s->witnesses, s->min_copies,
        s->degraded_accept ? " (or fewer)" : "", (unsigned long long)s->segment_bytes);
    sp_assert(sp_index_destroy(index_path, NULL) == SP_OK);
    for (uint32_t i = 0; i < s->units_count; i++)
        sp_assert(sp_sim_unit_init(s->world, i, &s->id, &unit) == SP_OK);
    sp_assert(try_start(s, 0, false));
    struct group group = {.steps = {{.type = STEP_ACCOUNT}}, .count = 1};
    sp_assert(run_group(s, &group) == SP_OK);
    hold(s);
}

static void end(struct sim *s)
{
    sp_volume_close(s->volume);
    sp_sim_world_free(s->world);
    for (uint32_t i = 0; i < s->shadows_count; i++)
        free(s->shadows[i].blocks);
    free(s->shadows);
    free(s->doubts);
}

static void one_history(uint64_t seed, struct sim *s)
{
    begin(s, seed);
    uint32_t lives = 2 + rnd(s, 4);
    for (uint32_t life = 0; life < lives; life++) {
        uint32_t steps = 1 + rnd(s, 24);
        if (one_in(s, 2))
            crash_after(s, 1 + rnd(s, 8 * steps));
        for (uint32_t i = 0; i < steps && !sp_sim_crashed(s->world); i++) {
            some_step(s);
            if (!sp_sim_crashed(s->world))
                hold(s);
        }
        SAY(" %s\n", sp_sim_crashed(s->world) ? "crash" : "stop");
        check_copies(s);
        stop(s);
        start(s);
    }
    heal(s);
    stop(s);
    sp_assert(sp_index_destroy(index_path, NULL) == SP_OK);
    sp_assert(try_start(s, 0, false));
    for (uint32_t i = 0; i < s->units_count; i++)
        if (s->damaged & 1U << i)
            take_back(s, i);
    hold(s);
    sp_assert(s->settled);
    read_log(s);
    end(s);
}

static void say_seed(int signal_number)
{
    char text[64];
    int n = snprintf(text, sizeof text, "test_sim: seed %llu fails\n",
                     (unsigned long long)seed_running);
    (void)signal_number;
    (void)!write(STDERR_FILENO, text, (size_t)n);
}

int main(int argc, char **argv)
{
    static struct sim sim;
    uint64_t seeds = 200, first = 1, starts = 0, refusals = 0, crashes = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seeds") == 0)
            seeds = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--start") == 0)
            first = strtoull(argv[i + 1], NULL, 10);
    }
    /* In memory, where there is such a place: the index is synced at each start. */
    char memory[] = "/dev/shm/sternpost-sim-XXXXXX", disk[] = "/tmp/sternpost-sim-XXXXXX";
    index_path = mkdtemp(memory);
    if (!index_path)
        index_path = mkdtemp(disk);
    sp_assert(index_path);
    verbose = getenv("SP_VERBOSE") != NULL;
    sp_log_set_level(verbose ? SP_LOG_WARN : SP_LOG_ERROR + 1);
    signal(SIGABRT, say_seed);
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        seed_running = seed;
        one_history(seed, &sim);
        starts += sim.starts;
        refusals += sim.refusals;
        crashes += sim.crashes;
    }
    printf("%llu histories: %llu starts, %llu of them refused, %llu crashes\n",
           (unsigned long long)seeds, (unsigned long long)starts, (unsigned long long)refusals,
           (unsigned long long)crashes);
    sp_assert(sp_index_destroy(index_path, NULL) == SP_OK);
    rmdir(index_path);
    return 0;
}
