/* Checks, in the background: they may read every segment of every unit. */
#include "guard/internal.h"

#include "base/log.h"
#include "base/time.h"

#include <errno.h>
#include <stdio.h>

#define WAIT_MS 200U
#include <unistd.h>

bool sp_guard_wait_for_copies(struct sp_guard *g)
{
    sp_guard_sleep(g, WAIT_MS);
    return !atomic_load(&g->stop);
}

static void copy_facts(struct sp_buf *facts, char *ret, size_t size)
{
    struct sp_slice text = sp_buf_slice(facts);
    snprintf(ret, size, "%.*s", (int)(text.len < size ? text.len : size - 1),
             text.len ? (const char *)text.ptr : "");
}

static void run(struct sp_guard *g, uint8_t operation, const char *subject_text,
                struct sp_guard_check *ret)
{
    const struct sp_guard_kind *kind = sp_guard_kind_of(operation);
    struct sp_guard_subject subject = {0};
    struct sp_buf facts;
    *ret = (struct sp_guard_check){.operation = operation};
    snprintf(ret->subject, sizeof ret->subject, "%s", subject_text);
    if (!kind) {
        ret->status = sp_error_set(&ret->error, SP_NOT_FOUND, subject_text,
                                   "the guard knows no such operation");
        return;
    }
    sp_buf_init(&facts, SP_GUARD_TEXT_MAX);
    pthread_mutex_lock(&g->prove_lock);
    ret->status = kind->find(g, subject_text, &subject, &ret->error);
    if (ret->status == SP_OK) {
        snprintf(ret->confirm, sizeof ret->confirm, "%s", subject.confirm);
        sp_buf_addf(&facts, "%s %s: it %s.\n", kind->name, subject.name, kind->effect);
        if (kind->check)
            ret->status = kind->check(g, &subject, &facts, &ret->error);
    }
    pthread_mutex_unlock(&g->prove_lock);
    copy_facts(&facts, ret->facts, sizeof ret->facts);
    sp_buf_release(&facts);
}

static void finish(struct sp_guard *g, struct sp_guard_check *check)
{
    check->running = false;
    pthread_mutex_lock(&g->lock);
    g->check = *check;
    g->checked_ms = sp_guard_mono_ms(g);
    pthread_mutex_unlock(&g->lock);
    sp_log(SP_LOG_INFO, "guard.check", "operation=%s status=%s",
           sp_guard_operation_name(check->operation) ? sp_guard_operation_name(check->operation)
                                                     : "unknown",
           sp_status_name(check->status));
}

static void *checker(void *context)
{
    struct sp_guard *g = context;
    struct sp_guard_check check;
    char subject[sizeof check.subject];
    pthread_mutex_lock(&g->lock);
    uint8_t operation = g->check.operation;
    memcpy(subject, g->check.subject, sizeof subject);
    pthread_mutex_unlock(&g->lock);
    run(g, operation, subject, &check);
    finish(g, &check);
    return NULL;
}

enum sp_status sp_guard_check_begin(struct sp_guard *g, uint8_t operation, const char *subject,
                                    struct sp_error *error)
{
    enum sp_status status = SP_OK;
    if (strlen(subject) >= sizeof g->check.subject)
        return sp_error_set(error, SP_LIMIT, "guard", "the subject is too long");
    pthread_mutex_lock(&g->lock);
    if (g->check.running && g->check.operation == operation &&
        strcmp(g->check.subject, subject) == 0) {
        /* Asked for again, by somebody who did not wait: it goes on. */
    } else if (g->check.running || g->stopping) {
        status = sp_error_set(error, SP_UNAVAILABLE, "guard", "another check is under way");
        sp_error_todo(error, "wait until it has ended");
    } else {
        if (g->checking)
            pthread_join(g->checker, NULL);
        g->check = (struct sp_guard_check){.running = true, .operation = operation};
        snprintf(g->check.subject, sizeof g->check.subject, "%s", subject);
        int rc = pthread_create(&g->checker, NULL, checker, g);
        g->checking = rc == 0;
        g->check.running = rc == 0;
        if (rc)
            status = sp_error_set(error, SP_NO_MEMORY, "guard", "cannot start a thread");
    }
    pthread_mutex_unlock(&g->lock);
    return status;
}

enum sp_status sp_guard_check_now(struct sp_guard *g, uint8_t operation, const char *subject,
                                  struct sp_guard_check *ret_check)
{
    run(g, operation, subject, ret_check);
    finish(g, ret_check);
    return ret_check->status;
}

void sp_guard_check_look(struct sp_guard *g, struct sp_guard_check *ret_check)
{
    pthread_mutex_lock(&g->lock);
    *ret_check = g->check;
    pthread_mutex_unlock(&g->lock);
    if (ret_check->running)
        sp_proof_progress(g->proof, &ret_check->done_bytes, &ret_check->total_bytes);
}

void sp_guard_check_stop(struct sp_guard *g)
{
    atomic_store(&g->stop, true);
    sp_proof_stop(g->proof);
    pthread_mutex_lock(&g->lock);
    g->stopping = true;
    pthread_cond_broadcast(&g->wake);
    bool join = g->checking;
    g->checking = false;
    pthread_mutex_unlock(&g->lock);
    if (join)
        pthread_join(g->checker, NULL);
}
