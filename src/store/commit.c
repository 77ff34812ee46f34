/* The committer: takes the plans that wait, makes one batch of them, has it written and synced, and
 * answers. */
#include "base/log.h"
#include "base/time.h"
#include "store/breakage.h"
#include "store/volume_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK_EVERY_MS    500U
#define RETRY_EVERY_MS    2000U /* to begin an epoch, when there is none to write in */
#define PLANS_MAX_DEFAULT 1024U
#define PLAN_ARENA_BYTES  (64U << 20)
#define CATALOGUE_BYTES   (4U << 20) /* of records between catalogues */
#define CATALOGUE_IDLE_MS 5000U      /* without a commit, and they are due as well */

struct sp_read *sp_plan_read(struct sp_plan *plan)
{
    return &plan->volume->apply.read;
}

uint64_t sp_plan_time_ns(const struct sp_plan *plan)
{
    return plan->time_ns;
}

struct sp_volume *sp_plan_volume(struct sp_plan *plan)
{
    return plan->volume;
}

enum sp_status sp_plan_fail(struct sp_plan *plan, enum sp_status status)
{
    if (plan->emitted && plan->failed == SP_OK)
        plan->failed = status;
    return status;
}

struct sp_buf *sp_plan_buf(struct sp_plan *plan)
{
    sp_buf_reset(&plan->buf);
    return &plan->buf;
}

struct sp_arena *sp_plan_arena(struct sp_plan *plan)
{
    return &plan->arena;
}

/* The LSN that the chain's next record names as its previous. */
static enum sp_status chain_tail(struct sp_volume *v, const struct sp_record *record,
                                 uint64_t *ret_tail)
{
    struct sp_account account;
    struct sp_mailbox mailbox;
    enum sp_status status;
    if (sp_uuid_is_nil(&record->account)) {
        *ret_tail = v->apply.position.volume_tail;
        return SP_OK;
    }
    if (record->mailbox == 0) {
        status = sp_index_account(&v->apply.read, &record->account, &account);
        if (status == SP_OK)
            *ret_tail = account.row.tail;
        return status;
    }
    status = sp_index_mailbox(&v->apply.read, &record->account, record->mailbox, &mailbox);
    if (status == SP_OK)
        *ret_tail = mailbox.row.tail;
    return status;
}

static enum sp_status emit(struct sp_plan *plan, enum sp_record_type type, uint8_t flags,
                           const struct sp_uuid *account, uint32_t mailbox, struct sp_slice payload,
                           uint64_t *ret_lsn)
{
    static const struct sp_uuid nil;
    struct sp_volume *v = plan->volume;
    struct sp_record record = {.type = (uint8_t)type,
                               .lsn = v->next_lsn,
                               .time_ns = plan->time_ns,
                               .account = account ? *account : nil,
                               .mailbox = mailbox,
                               .payload_bytes = (uint32_t)payload.len,
                               .payload = payload};
    if (plan->failed != SP_OK)
        return plan->failed;
    plan->emitted = true;
    if (payload.len > SP_RECORD_PAYLOAD_MAX)
        return plan->failed = SP_LIMIT;
    if (!sp_record_is_body(type)) {
        record.flags = (uint8_t)(SP_RECORD_CHAINED | flags);
        plan->failed = chain_tail(v, &record, &record.previous);
        sp_assert(plan->failed != SP_NOT_FOUND); /* plans emit only for what they have looked up */
        if (plan->failed != SP_OK)
            return plan->failed;
    }
    struct sp_place place = sp_batch_add(&v->batch, &record);
    if (v->batch.failed)
        return plan->failed = SP_NO_MEMORY;
    place.segment = v->end.segment;
    place.generation = v->end.generation;
    place.block += v->end.blocks;
    plan->failed = sp_apply_record(&v->apply, &record, &place);
    if (plan->failed != SP_OK)
        return plan->failed;
    v->next_lsn++;
    if (ret_lsn)
        *ret_lsn = record.lsn;
    return SP_OK;
}

enum sp_status sp_plan_emit(struct sp_plan *plan, enum sp_record_type type,
                            const struct sp_uuid *account, uint32_t mailbox,
                            struct sp_slice payload, uint64_t *ret_lsn)
{
    return emit(plan, type, 0, account, mailbox, payload, ret_lsn);
}

enum sp_status sp_plan_emit_optional(struct sp_plan *plan, enum sp_record_type type,
                                     struct sp_slice payload)
{
    return emit(plan, type, SP_RECORD_OPTIONAL, NULL, 0, payload, NULL);
}

/* ---- One batch ---- */

static struct sp_commit *take(struct sp_volume *v)
{
    pthread_mutex_lock(&v->lock);
    struct sp_commit *commit = v->queue_first;
    if (commit) {
        v->queue_first = commit->next;
        if (!v->queue_first)
            v->queue_last = NULL;
        v->queue_bytes -= commit->weight_bytes;
        v->queue_commits--;
    }
    pthread_mutex_unlock(&v->lock);
    return commit;
}

/* Applies the batch again, because its records lie elsewhere than was foretold. */
static enum sp_status apply_again(struct sp_volume *v, uint32_t blocks)
{
    struct sp_buf scratch;
    struct sp_record record;
    struct sp_place place;
    uint64_t cursor = 0;
    sp_apply_abort(&v->apply);
    enum sp_status status = sp_apply_begin(v->index, false, &v->apply);
    sp_buf_init(&scratch, SP_RECORD_PAYLOAD_MAX + SP_RECORD_HEADER_BYTES);
    while (status == SP_OK && sp_batch_next(&v->batch, &cursor, &scratch, &record, &place)) {
        place.segment = v->end.segment;
        place.generation = v->end.generation;
        place.block += v->end.blocks - blocks;
        status = sp_apply_record(&v->apply, &record, &place);
    }
    sp_buf_release(&scratch);
    return status;
}

static void notify_touched(struct sp_volume *v, const struct sp_touched *touched, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (sp_touched_set_add(v->touched, &touched[i]) != SP_OK ||
            sp_touched_set_add(v->recent, &touched[i]) != SP_OK)
            sp_log(SP_LOG_WARN, "volume.memory",
                   "volume=%s what=\"a catalogue record will be missing\"", v->name);
        if (v->notify)
            v->notify(v->notify_context, &touched[i].account, touched[i].mailbox);
    }
}

static enum sp_status index_stops(struct sp_volume *v, enum sp_status status)
{
    v->index_failed = true;
    pthread_mutex_lock(&v->lock);
    v->writable = false;
    snprintf(v->why_not, sizeof v->why_not,
             "the index cannot take changes (%s); make room for it and restart",
             sp_status_name(status));
    pthread_mutex_unlock(&v->lock);
    sp_log(SP_LOG_ERROR, "index.stop", "volume=%s lsn=%" PRIu64 " why=%s", v->name, v->end.lsn,
           sp_status_name(status));
    return SP_UNAVAILABLE;
}

/* Writes what the plans emitted, then makes it visible. */
static enum sp_status write_batch(struct sp_volume *v)
{
    bool moved = false;
    uint32_t blocks = sp_batch_blocks(&v->batch);
    enum sp_status status = sp_log_append(v, &moved);
    if (status != SP_OK) {
        if (SP_BREAK(index_first) && sp_apply_commit(&v->apply, &v->end) == SP_OK)
            return status;
        sp_apply_abort(&v->apply);
        return status;
    }
    if (moved && !SP_BREAK(old_place))
        status = apply_again(v, blocks);
    if (status != SP_OK) {
        sp_apply_abort(&v->apply);
        return index_stops(v, status);
    }
    struct sp_touched *touched = v->apply.touched;
    uint32_t count = v->apply.touched_count;
    v->apply.touched = NULL;
    v->apply.position.undecided = false;
    struct sp_error error;
    if (v->redirect_due && !SP_BREAK(index_untold))
        status = sp_volume_redirect(v, &v->apply, &error);
    if (status == SP_OK)
        status = sp_segments_remember(v, false);
    if (status == SP_OK)
        status = sp_apply_commit(&v->apply, &v->end);
    else
        sp_apply_abort(&v->apply);
    if (status == SP_OK)
        v->redirect_due = false;
    if (status == SP_OK)
        notify_touched(v, touched, count);
    free(touched);
    v->recent_bytes += v->batch.stream_bytes;
    if (v->recent_bytes >= CATALOGUE_BYTES)
        v->catalogues_due = true;
    v->batches++;
    return status == SP_OK ? SP_OK : index_stops(v, status);
}

static void answer(struct sp_volume *v, struct sp_commit *first, enum sp_status batch_status)
{
    char why[256] = "";
    if (batch_status != SP_OK || v->short_of_space) {
        pthread_mutex_lock(&v->lock);
        snprintf(why, sizeof why, "%s",
                 v->short_of_space ? v->short_why
                 : v->why_not[0]   ? v->why_not
                                   : sp_status_name(batch_status));
        pthread_mutex_unlock(&v->lock);
    }
    uint64_t now_us = sp_now_us();
    while (first) {
        struct sp_commit *commit = first;
        first = commit->next;
        enum sp_status status = commit->status == SP_OK ? batch_status : commit->status;
        v->commits += status == SP_OK;
        if (status == SP_OK)
            sp_histogram_record(&v->commit_us, now_us - commit->queued_us, now_us / 1000);
        bool of_volume = status == batch_status || (status == SP_NO_SPACE && v->short_of_space);
        commit->done(commit, status, status != SP_OK && of_volume ? why : "");
    }
}

/* Whether something is to be written of what is kept in reserve: what compaction made room by, or a
 * commit that may. */
static bool uses_reserve(struct sp_volume *v, const struct sp_commit *first)
{
    bool uses =
        v->redirect_due || v->retired_said < v->retired_count || (first && first->from_reserve);
    pthread_mutex_lock(&v->lock);
    for (const struct sp_commit *c = v->queue_first; c && !uses; c = c->next)
        uses = c->from_reserve;
    pthread_mutex_unlock(&v->lock);
    return uses;
}

/* Runs the waiting plans as one batch. first: a commit already taken, or NULL for housekeeping
 * alone. */
static void run_batch(struct sp_volume *v, struct sp_commit *first)
{
    struct sp_commit *answered = NULL, **tail = &answered;
    struct sp_plan plan = {.volume = v};
    uint64_t lsn_before = v->next_lsn;
    uint32_t plans = 0;
    enum sp_status status = v->index_failed ? SP_UNAVAILABLE
                            : v->short_of_space && !uses_reserve(v, first)
                                ? SP_NO_SPACE
                                : sp_log_rotate_if_full(v);
    bool begun = false;

    sp_batch_reset(&v->batch);
    sp_buf_init(&plan.buf, SP_RECORD_PAYLOAD_MAX);
    sp_arena_init(&plan.arena, PLAN_ARENA_BYTES);
    if (status == SP_OK) {
        status = sp_apply_begin(v->index, false, &v->apply);
        if (status != SP_OK)
            status = index_stops(v, status);
        else
            begun = true;
    }
    plan.time_ns = sp_volume_wall_ns(v);
    if (plan.time_ns < v->apply.position.time_ns && !SP_BREAK(time_back))
        plan.time_ns = v->apply.position.time_ns;
    struct sp_housekeeping due = {0};
    if (status == SP_OK && v->loss.pending)
        status = sp_loss_emit(&plan);
    if (status == SP_OK && sp_housekeeping_is_due(v))
        status = sp_housekeeping_begin(&plan, &due);

    for (struct sp_commit *commit = first ? first : take(v); commit; commit = take(v)) {
        commit->next = NULL;
        *tail = commit;
        tail = &commit->next;
        commit->status = v->short_of_space && !commit->from_reserve ? SP_NO_SPACE : SP_OK;
        if (status == SP_OK && commit->status == SP_OK) {
            plan.emitted = false;
            commit->status = commit->plan(&plan, commit);
            sp_arena_release(&plan.arena);
            status = plan.failed;
            sp_assert(!plan.emitted || commit->status == SP_OK || status != SP_OK);
        }
        if (++plans >= v->batch_plans_max || v->batch.stream_bytes > SP_BATCH_BYTES_SOFT)
            break;
    }
    if (begun && status != SP_OK) {
        /* The index could not take a record (or memory ran out): nothing of the batch happened. */
        sp_apply_abort(&v->apply);
        if (status != SP_NO_MEMORY && status != SP_LIMIT)
            status = index_stops(v, status);
    } else if (begun && v->batch.records == 0) {
        sp_apply_abort(&v->apply);
    } else if (begun) {
        if (SP_BREAK(answer_early))
            answer(v, answered, SP_OK), answered = NULL;
        status = write_batch(v);
    }
    if (status != SP_OK) {
        /* LSNs that were not acknowledged are given to others. What the log has but the index could
         * not take is acknowledged to nobody, and the volume has stopped. */
        if (!v->index_failed && !SP_BREAK(lsn_gap))
            v->next_lsn = lsn_before;
    }
    if (status == SP_OK && v->batch.records) {
        sp_histogram_record(&v->batch_commits, plans, sp_now_ms());
        sp_histogram_record(&v->batch_bytes, v->batch.stream_bytes, sp_now_ms());
    }
    sp_housekeeping_end(v, &due, status == SP_OK);
    if (status == SP_OK)
        v->loss.pending = false;
    sp_buf_release(&plan.buf);
    sp_arena_release(&plan.arena);
    answer(v, answered, status);
}

/* ---- The watch on units ---- */

static void set_state(struct sp_volume *v, struct sp_volume_member *m, enum sp_unit_state state,
                      const char *why)
{
    pthread_mutex_lock(&v->lock);
    sp_member_set_state(m, state);
    snprintf(m->why, sizeof m->why, "%.*s", (int)sizeof m->why - 1, why);
    pthread_mutex_unlock(&v->lock);
}

/* A spare or witness that is gone is not counted on, and one that is back is. */
static void check_other(struct sp_volume *v, struct sp_volume_member *m)
{
    struct sp_error error = {0};
    bool here = m->unit->ops->check(m->unit, &error) == SP_OK;
    if (here && m->state == SP_UNIT_ABSENT) {
        set_state(v, m, m->witness ? SP_UNIT_WITNESS : SP_UNIT_SPARE, "");
        sp_log(SP_LOG_INFO, "unit.back", "volume=%s unit=%s lsn=%" PRIu64, v->name, m->name,
               v->end.lsn);
    } else if (!here && m->state != SP_UNIT_ABSENT) {
        set_state(v, m, SP_UNIT_ABSENT, error.why);
        sp_log(SP_LOG_ERROR, "unit.absent", "volume=%s unit=%s lsn=%" PRIu64 " why=%s", v->name,
               m->name, v->end.lsn, SP_LOG_QUOTED(error.why));
    }
}

/* True: all replicas are where they should be. */
static bool check_units(struct sp_volume *v)
{
    bool good = true;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_error error = {0};
        if (!m->unit || m->state == SP_UNIT_EJECTED || m->state == SP_UNIT_STALE)
            continue;
        if (m->state != SP_UNIT_REPLICA) {
            check_other(v, m);
            continue;
        }
        if (m->unit->ops->check(m->unit, &error) == SP_OK)
            continue;
        if (sp_log_replicas(v) > 1) {
            sp_log_eject(v, m, error.why);
        } else {
            /* What goes into files that nobody can find again is not stored. */
            if (v->writable)
                sp_log_suspend(v, m, error.why);
            good = false;
        }
    }
    return good;
}

/* Looks after the units: every half second; and begins an epoch where one is needed, now or, when
 * it could not be begun, from time to time. */
static void look_after_units(struct sp_volume *v, uint64_t now)
{
    v->checked_ms = now;
    bool good = check_units(v);
    sp_space_check(v);
    if (v->index_failed || v->unmended || !good)
        return;
    if (v->writable ? !v->epoch_broken : now - v->retried_ms < RETRY_EVERY_MS)
        return;
    v->retried_ms = now;
    if (sp_log_begin_epoch(v) != SP_OK)
        return; /* it has said why */
}

/* No commit waits for a checkpoint; one that cannot be synced ends them all. */
static void look_after_index(struct sp_volume *v)
{
    enum sp_status status =
        v->index_failed ? SP_OK : sp_index_checkpoint(v->index, v->bytes, v->threaded);
    if (status != SP_OK)
        (void)index_stops(v, status);
}

/* These run on the committer's thread, or in sp_volume_run_once. */
static bool work(struct sp_volume *v)
{
    uint64_t now = sp_now_ms();
    if (now - v->checked_ms >= CHECK_EVERY_MS)
        look_after_units(v, now);
    look_after_index(v);
    bool tended = sp_task_step(v);
    tended |= sp_merge_step(v, now);
    tended |= sp_tend_step(v, now);
    tended |= sp_compact_step(v, now);
    struct sp_commit *first = take(v);
    if (!first && (!sp_housekeeping_is_due(v) || !v->writable || v->index_failed ||
                   (v->short_of_space && !uses_reserve(v, NULL))))
        return tended;
    uint64_t lsn = v->next_lsn;
    run_batch(v, first);
    return first || tended || v->next_lsn != lsn; /* what cannot be said now is not tried at once */
}

static void *committer(void *context)
{
    struct sp_volume *v = context;
    uint64_t worked_ms = sp_now_ms();
    pthread_setname_np(pthread_self(), "committer");
    for (;;) {
        uint64_t batches = v->batches;
        if (work(v)) {
            if (v->batches != batches)
                worked_ms = sp_now_ms();
            continue;
        }
        if (sp_now_ms() - worked_ms >= CATALOGUE_IDLE_MS && sp_touched_set_count(v->recent))
            v->catalogues_due = true; /* seen after the next wait */
        pthread_mutex_lock(&v->lock);
        if (v->stopping && !v->queue_first) {
            pthread_mutex_unlock(&v->lock);
            return NULL;
        }
        if (!v->queue_first && !v->task) {
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            uint64_t ms = sp_tend_wait_ms(v, sp_now_ms(), CHECK_EVERY_MS);
            until.tv_nsec += (long)sp_compact_wait_ms(v, sp_now_ms(), ms) * 1000000L;
            until.tv_sec += until.tv_nsec / 1000000000L;
            until.tv_nsec %= 1000000000L;
            pthread_cond_timedwait(&v->wake, &v->lock, &until);
        }
        pthread_mutex_unlock(&v->lock);
    }
}

enum sp_status sp_committer_write_gap(struct sp_volume *v, struct sp_error *error)
{
    if (v->writable)
        run_batch(v, NULL);
    if (!v->loss.pending)
        return SP_OK;
    sp_error_set(error, SP_UNAVAILABLE, v->name,
                 "a loss was accepted, which must be written into the log first: %.150s",
                 v->why_not[0] ? v->why_not : "that failed");
    sp_error_todo(error,
                  "attach as many units as min_copies asks for (new ones will do, see `sternpost "
                  "unit add`), or write degraded = accept in [volume %s]",
                  v->name);
    return SP_UNAVAILABLE;
}

enum sp_status sp_committer_start(struct sp_volume *v, struct sp_error *error)
{
    v->checked_ms = sp_now_ms();
    if (!v->threaded)
        return SP_OK;
    int rc = pthread_create(&v->thread, NULL, committer, v);
    if (rc)
        return sp_error_set(error, SP_IO, v->name, "cannot start the committer: %s", strerror(rc));
    v->thread_running = true;
    return SP_OK;
}

void sp_committer_stop(struct sp_volume *v)
{
    if (v->thread_running) {
        pthread_mutex_lock(&v->lock);
        v->stopping = true;
        pthread_cond_signal(&v->wake);
        pthread_mutex_unlock(&v->lock);
        pthread_join(v->thread, NULL);
        v->thread_running = false;
        while (sp_task_step(v)) /* one that came at the last moment */
            continue;
    }
    while (v->queue_first)
        run_batch(v, take(v));
    /* The last word: whatever may be lost of the log until the next start, shows. */
    v->housekeeping = v->housekeeping || sp_touched_set_count(v->touched);
    sp_volume_begin_tails(v);
    for (uint64_t lsn = 0; lsn != v->next_lsn && v->writable && !v->index_failed;) {
        lsn = v->next_lsn;
        if (sp_housekeeping_is_due(v))
            run_batch(v, NULL);
    }
}

bool sp_volume_run_once(struct sp_volume *v)
{
    sp_assert(!v->threaded);
    return work(v);
}

void sp_volume_submit(struct sp_volume *v, struct sp_commit *commit)
{
    commit->next = NULL;
    commit->status = SP_OK;
    commit->queued_us = sp_now_us();
    pthread_mutex_lock(&v->lock);
    bool full = v->queue_first && v->queue_bytes + commit->weight_bytes > v->queue_bytes_max;
    bool refused = full || v->stopping;
    if (!refused) {
        bool idle = v->queue_first == NULL;
        if (v->queue_last)
            v->queue_last->next = commit;
        else
            v->queue_first = commit;
        v->queue_last = commit;
        v->queue_bytes += commit->weight_bytes;
        v->queue_commits++;
        if (idle)
            pthread_cond_signal(&v->wake);
    }
    pthread_mutex_unlock(&v->lock);
    if (refused)
        commit->done(commit, full ? SP_UNAVAILABLE : SP_SHUTDOWN,
                     full ? "too much is waiting to be written" : "");
}

/* ---- Waiting for one ---- */

struct sync_commit {
    struct sp_commit commit; /* first: the two are cast */
    enum sp_status (*plan)(struct sp_plan *plan, void *context);
    void *context;
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool finished;
    enum sp_status status;
    char why[256];
};

static enum sp_status sync_plan(struct sp_plan *plan, struct sp_commit *commit)
{
    struct sync_commit *c = (struct sync_commit *)commit;
    return c->plan(plan, c->context);
}

static void sync_done(struct sp_commit *commit, enum sp_status status, const char *why)
{
    struct sync_commit *c = (struct sync_commit *)commit;
    pthread_mutex_lock(&c->lock);
    c->status = status;
    snprintf(c->why, sizeof c->why, "%s", why);
    c->finished = true;
    pthread_cond_signal(&c->done);
    pthread_mutex_unlock(&c->lock);
}

static enum sp_status commit_and_wait(struct sp_volume *v,
                                      enum sp_status (*plan)(struct sp_plan *plan, void *context),
                                      void *context, bool from_reserve, struct sp_error *error)
{
    struct sync_commit c = {
        .commit = {.plan = sync_plan, .done = sync_done, .from_reserve = from_reserve},
        .plan = plan,
        .context = context};
    pthread_mutex_init(&c.lock, NULL);
    pthread_cond_init(&c.done, NULL);
    sp_volume_submit(v, &c.commit);
    while (!v->threaded && !c.finished)
        sp_volume_run_once(v);
    pthread_mutex_lock(&c.lock);
    while (!c.finished)
        pthread_cond_wait(&c.done, &c.lock);
    pthread_mutex_unlock(&c.lock);
    pthread_mutex_destroy(&c.lock);
    pthread_cond_destroy(&c.done);
    if (c.status != SP_OK)
        sp_error_set(error, c.status, v->name, "%s", c.why[0] ? c.why : sp_status_name(c.status));
    return c.status;
}

enum sp_status sp_volume_commit(struct sp_volume *v,
                                enum sp_status (*plan)(struct sp_plan *plan, void *context),
                                void *context, struct sp_error *error)
{
    return commit_and_wait(v, plan, context, false, error);
}

enum sp_status sp_volume_commit_from_reserve(struct sp_volume *v,
                                             enum sp_status (*plan)(struct sp_plan *plan,
                                                                    void *context),
                                             void *context, struct sp_error *error)
{
    return commit_and_wait(v, plan, context, true, error);
}
