#include "guard/internal.h"

#include "base/log.h"
#include "base/time.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define STEP_MS      1000U
#define RETRY_MS     60000U /* after something that may pass */
#define LOG_MS_MIN   1000U  /* the time waited is written at least so far apart */
#define LOG_MS_MAX   60000U
#define LOG_FRACTION 20U

/* ---- Clocks ---- */

uint64_t sp_guard_mono_ms(const struct sp_guard *g)
{
    return g->config.mono_ms ? g->config.mono_ms() : sp_now_ms();
}

uint64_t sp_guard_wall_ns(const struct sp_guard *g)
{
    return g->config.wall_ns ? g->config.wall_ns() : sp_wall_ns();
}

void sp_guard_sleep(struct sp_guard *g, uint32_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)ms * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&g->lock);
    if (!g->stopping)
        pthread_cond_timedwait(&g->wake, &g->lock, &until);
    pthread_mutex_unlock(&g->lock);
}

struct sp_guard_waiting *sp_guard_waiting_of(struct sp_guard *g, const struct sp_uuid *id)
{
    for (uint32_t i = 0; i < g->waiting_count; i++)
        if (sp_uuid_eq(&g->waiting[i].id, id))
            return &g->waiting[i];
    return NULL;
}

uint64_t sp_guard_waits_ms(struct sp_guard *g, const struct sp_guard_row *row,
                           const struct sp_uuid *id)
{
    pthread_mutex_lock(&g->lock);
    const struct sp_guard_waiting *w = sp_guard_waiting_of(g, id);
    uint64_t waited = w && w->waited_ms > row->waited_ms ? w->waited_ms : row->waited_ms;
    pthread_mutex_unlock(&g->lock);
    uint64_t now_ms = sp_guard_wall_ns(g) / 1000000U, begun_ms = row->requested_ns / 1000000U;
    uint64_t passed = now_ms > begun_ms ? now_ms - begun_ms : 0;
    if (passed < waited)
        waited = passed; /* whichever clock says less */
    return waited >= row->cooling_ms ? 0 : row->cooling_ms - waited;
}

/* ---- Carrying out ---- */

/* Whether trying again later can help. */
static bool may_pass(enum sp_status status)
{
    return status == SP_UNAVAILABLE || status == SP_TIMEOUT || status == SP_NO_SPACE ||
           status == SP_NO_MEMORY || status == SP_SHUTDOWN || status == SP_IO;
}

static void note_trouble(struct sp_guard *g, const struct sp_uuid *id, const struct sp_error *error)
{
    sp_log(SP_LOG_WARN, "guard.trouble", "what=\"%s\" why=\"%s\"", error->what, error->why);
    pthread_mutex_lock(&g->lock);
    struct sp_guard_waiting *w = sp_guard_waiting_of(g, id);
    if (w) {
        w->retry_ms = sp_guard_mono_ms(g) + RETRY_MS;
        snprintf(w->trouble, sizeof w->trouble, "%.255s", error->why);
    }
    pthread_mutex_unlock(&g->lock);
}

static enum sp_status record_end(struct sp_guard *g, const struct sp_guard_copy *request,
                                 uint8_t event, struct sp_buf *text, struct sp_error *error)
{
    const struct sp_guard_record record = {.id = request->id,
                                           .event = event,
                                           .operation = request->row.operation,
                                           .uid = SP_GUARD_NOBODY,
                                           .subject_id = request->row.subject_id,
                                           .subject = sp_slice_str(request->subject),
                                           .text = sp_buf_slice(text)};
    return sp_guard_write(g, &record, true, error);
}

static enum sp_status make_policy(struct sp_guard *g, const struct sp_guard_copy *request,
                                  struct sp_error *error)
{
    const struct sp_guard_record policy = {.event = SP_GUARD_POLICY,
                                           .operation = request->row.operation,
                                           .uid = request->row.uid,
                                           .who = sp_slice_str(request->who),
                                           .subject = sp_slice_str(request->subject)};
    return sp_guard_write(g, &policy, false, error);
}

/* The deed, under act_lock: it is still wanted, and what ends it is written before anybody can undo
 * it. */
static enum sp_status act(struct sp_guard *g, const struct sp_guard_kind *kind,
                          const struct sp_guard_copy *request,
                          const struct sp_guard_subject *subject, struct sp_buf *text,
                          struct sp_error *error)
{
    struct sp_guard_copy now;
    pthread_mutex_lock(&g->act_lock);
    enum sp_status status = sp_guard_get(g, &request->id, &now, error);
    if (status == SP_OK && now.row.finished_ns) {
        pthread_mutex_unlock(&g->act_lock);
        return SP_OK; /* undone meanwhile */
    }
    /* The log first: what cannot be written down, and not be undone either, is not done. */
    if (status == SP_OK)
        status = sp_guard_write(g,
                                &(struct sp_guard_record){.id = request->id,
                                                          .event = SP_GUARD_WAITED,
                                                          .operation = request->row.operation,
                                                          .uid = SP_GUARD_NOBODY,
                                                          .waited_ms = request->row.cooling_ms},
                                true, error);
    if (status == SP_OK)
        status = kind->policy ? make_policy(g, request, error)
                              : kind->carry_out(g, subject, text, error);
    if (status == SP_OK)
        status = record_end(g, request, SP_GUARD_DONE, text, error);
    pthread_mutex_unlock(&g->act_lock);
    return status;
}

/* Proves it once more, and does it. */
static void carry_out(struct sp_guard *g, const struct sp_guard_copy *request)
{
    const struct sp_guard_kind *kind = sp_guard_kind_of(request->row.operation);
    struct sp_guard_subject subject = {.id = request->row.subject_id};
    struct sp_error error = {0};
    struct sp_buf text;
    enum sp_status status = SP_OK;
    snprintf(subject.name, sizeof subject.name, "%s", request->subject);
    snprintf(subject.who, sizeof subject.who, "%s", request->who);
    sp_buf_init(&text, SP_GUARD_TEXT_MAX);
    pthread_mutex_lock(&g->prove_lock);
    if (!kind)
        status = sp_error_set(&error, SP_UNSUPPORTED, "guard", "this version does not know it");
    else if (kind->check)
        status = kind->check(g, &subject, &text, &error);
    /* What was done before, up to the record of it, is found to be done. */
    if (kind && (status == SP_OK || status == SP_NOT_FOUND))
        status = act(g, kind, request, &subject, &text, &error);
    pthread_mutex_unlock(&g->prove_lock);
    if (may_pass(status)) {
        note_trouble(g, &request->id, &error);
    } else if (status != SP_OK) {
        sp_buf_addf(&text, "%s: %s\n", error.what, error.why);
        if (record_end(g, request, SP_GUARD_REFUSED, &text, &error) != SP_OK)
            note_trouble(g, &request->id, &error);
    }
    sp_buf_release(&text);
}

static bool is_due(struct sp_guard *g, const struct sp_guard_copy *request)
{
    return !request->row.finished_ns && request->row.approvals >= request->row.approvals_needed &&
           sp_guard_waits_ms(g, &request->row, &request->id) == 0;
}

void sp_guard_carry_out(struct sp_guard *g, const struct sp_uuid *id)
{
    struct sp_guard_copy request;
    struct sp_error error;
    if (sp_guard_get(g, id, &request, &error) == SP_OK && is_due(g, &request))
        carry_out(g, &request);
}

/* ---- Time ---- */

/* Counts the time for those that are pending, and forgets the others. */
static void count_time(struct sp_guard *g, const struct sp_guard_copy *pending, uint32_t count)
{
    struct sp_guard_waiting kept[SP_GUARD_PENDING_MAX];
    uint64_t now = sp_guard_mono_ms(g);
    pthread_mutex_lock(&g->lock);
    uint64_t passed = now - g->stepped_ms;
    g->stepped_ms = now;
    for (uint32_t i = 0; i < count; i++) {
        const struct sp_guard_waiting *w = sp_guard_waiting_of(g, &pending[i].id);
        kept[i] = w ? *w
                    : (struct sp_guard_waiting){.id = pending[i].id,
                                                .waited_ms = pending[i].row.waited_ms,
                                                .logged_ms = pending[i].row.waited_ms};
        if (w)
            kept[i].waited_ms += passed;
    }
    memcpy(g->waiting, kept, count * sizeof kept[0]);
    g->waiting_count = count;
    pthread_mutex_unlock(&g->lock);
}

/* Writes how long it has waited, now and then. at_once: whatever there is to say. */
static void log_time(struct sp_guard *g, const struct sp_guard_copy *request, bool at_once)
{
    uint64_t every = request->row.cooling_ms / LOG_FRACTION;
    struct sp_error error;
    every = every < LOG_MS_MIN ? LOG_MS_MIN : every > LOG_MS_MAX ? LOG_MS_MAX : every;
    if (at_once)
        every = 1;
    pthread_mutex_lock(&g->lock);
    const struct sp_guard_waiting *w = sp_guard_waiting_of(g, &request->id);
    uint64_t waited = w ? w->waited_ms : 0, logged = w ? w->logged_ms : 0;
    pthread_mutex_unlock(&g->lock);
    if (logged >= request->row.cooling_ms || waited - logged < every)
        return;
    const struct sp_guard_record record = {.id = request->id,
                                           .event = SP_GUARD_WAITED,
                                           .operation = request->row.operation,
                                           .uid = SP_GUARD_NOBODY,
                                           .waited_ms = waited};
    if (sp_guard_write(g, &record, true, &error) != SP_OK)
        return; /* it is counted in memory, and written the next time */
    pthread_mutex_lock(&g->lock);
    struct sp_guard_waiting *again = sp_guard_waiting_of(g, &request->id);
    if (again)
        again->logged_ms = waited;
    pthread_mutex_unlock(&g->lock);
}

static bool may_retry(struct sp_guard *g, const struct sp_uuid *id)
{
    pthread_mutex_lock(&g->lock);
    const struct sp_guard_waiting *w = sp_guard_waiting_of(g, id);
    bool yes = !w || sp_guard_mono_ms(g) >= w->retry_ms;
    pthread_mutex_unlock(&g->lock);
    return yes;
}

static void step(struct sp_guard *g, bool last)
{
    struct sp_guard_copy *pending = calloc(SP_GUARD_PENDING_MAX, sizeof *pending);
    struct sp_error error;
    uint32_t count = 0;
    if (!pending || sp_guard_pending(g, pending, SP_GUARD_PENDING_MAX, &count, &error) != SP_OK) {
        free(pending);
        return;
    }
    count_time(g, pending, count);
    for (uint32_t i = 0; i < count; i++) {
        bool due = is_due(g, &pending[i]);
        log_time(g, &pending[i], due || last);
        if (due && !last && may_retry(g, &pending[i].id) && !atomic_load(&g->stop))
            carry_out(g, &pending[i]);
    }
    free(pending);
}

void sp_guard_step(struct sp_guard *g)
{
    step(g, false);
    sp_guard_sweep(g, true);
}

/* ---- Opening ---- */

static void *serve(void *context)
{
    struct sp_guard *g = context;
    pthread_setname_np(pthread_self(), "guard");
    while (!atomic_load(&g->stop)) {
        step(g, false);
        sp_guard_sweep(g, false);
        sp_guard_sleep(g, STEP_MS);
    }
    return NULL;
}

enum sp_status sp_guard_open(const struct sp_guard_config *config, struct sp_guard **ret_guard,
                             struct sp_error *error)
{
    struct sp_guard *g = calloc(1, sizeof *g);
    pthread_condattr_t attr;
    if (!g)
        return sp_error_set(error, SP_NO_MEMORY, "guard", "no memory");
    g->config = *config;
    g->proof = sp_proof_new(config->volume, config->mono_ms);
    pthread_mutex_init(&g->lock, NULL);
    pthread_mutex_init(&g->prove_lock, NULL);
    pthread_mutex_init(&g->act_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&g->wake, &attr);
    pthread_condattr_destroy(&attr);
    g->stepped_ms = sp_guard_mono_ms(g);
    g->checked_ms = g->stepped_ms;
    if (g->proof && config->serving)
        g->thread_running = pthread_create(&g->thread, NULL, serve, g) == 0;
    if (!g->proof || g->thread_running != config->serving) {
        sp_guard_close(g);
        return sp_error_set(error, SP_NO_MEMORY, "guard", "no memory, or no thread");
    }
    *ret_guard = g;
    return SP_OK;
}

void sp_guard_close(struct sp_guard *g)
{
    if (!g)
        return;
    if (g->proof)
        sp_guard_check_stop(g);
    if (g->thread_running) {
        pthread_join(g->thread, NULL);
        step(g, true); /* what it counted is not lost */
    }
    sp_proof_free(g->proof);
    pthread_mutex_destroy(&g->lock);
    pthread_mutex_destroy(&g->prove_lock);
    pthread_mutex_destroy(&g->act_lock);
    pthread_cond_destroy(&g->wake);
    free(g);
}
