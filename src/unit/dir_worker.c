#include "base/time.h"
#include "unit/dir_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

static void *work(void *argument)
{
    struct sp_dir *dir = argument;
    pthread_mutex_lock(&dir->lock);
    for (;;) {
        while (dir->state != SP_DIR_RUNNING && !dir->closing)
            pthread_cond_wait(&dir->work, &dir->lock);
        if (dir->state != SP_DIR_RUNNING)
            break;
        struct sp_dir_job job = dir->job;
        struct sp_error error = {0};
        pthread_mutex_unlock(&dir->lock);
        uint64_t begun_us = sp_now_us();
        enum sp_status status = sp_dir_run(dir, &job, &error);
        uint64_t ended_us = sp_now_us();
        if (job.kind == SP_DIR_WRITE && status == SP_OK)
            sp_unit_wrote(&dir->unit, job.len, ended_us - begun_us, ended_us / 1000);
        pthread_mutex_lock(&dir->lock);
        if (dir->abandoned) {
            pthread_mutex_unlock(&dir->lock);
            sp_dir_free(dir);
            return NULL;
        }
        if (status == SP_IO)
            dir->broken = true;
        dir->status = status;
        dir->error = error;
        dir->state = SP_DIR_DONE;
        pthread_cond_signal(&dir->done);
    }
    pthread_mutex_unlock(&dir->lock);
    return NULL;
}

enum sp_status sp_dir_worker_start(struct sp_dir *dir)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&dir->done, &attr);
    pthread_condattr_destroy(&attr);
    pthread_cond_init(&dir->work, NULL);
    pthread_mutex_init(&dir->lock, NULL);

    /* Signals are for the program's own threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&dir->worker, NULL, work, dir);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        pthread_mutex_destroy(&dir->lock);
        pthread_cond_destroy(&dir->done);
        pthread_cond_destroy(&dir->work);
        return SP_NO_MEMORY;
    }
    char name[16];
    snprintf(name, sizeof name, "unit-%.10s", dir->unit.name);
    pthread_setname_np(dir->worker, name);
    return SP_OK;
}

/* With the lock held. */
static void submit(struct sp_dir *dir, const struct sp_dir_job *job)
{
    sp_assert(dir->state == SP_DIR_IDLE);
    dir->job = *job;
    dir->state = SP_DIR_RUNNING;
    pthread_cond_signal(&dir->work);
}

/* With the lock held: waits for the job under way. SP_TIMEOUT, or its outcome. */
static enum sp_status outcome(struct sp_dir *dir, uint32_t timeout_ms, struct sp_error *error)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000U;
    until.tv_nsec += (long)(timeout_ms % 1000U) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    while (dir->state != SP_DIR_DONE)
        if (pthread_cond_timedwait(&dir->done, &dir->lock, &until) == ETIMEDOUT &&
            dir->state != SP_DIR_DONE)
            return SP_TIMEOUT;
    dir->state = SP_DIR_IDLE;
    if (dir->status != SP_OK && error)
        *error = dir->error;
    return dir->status;
}

static enum sp_status refuse(const struct sp_dir *dir, struct sp_error *error, const char *why)
{
    char what[80];
    snprintf(what, sizeof what, "unit %s", dir->unit.name);
    return sp_error_set(error, SP_IO, what, "%s", why);
}

static const char broken_text[] = "an earlier operation failed, and what is stored is uncertain";

void sp_dir_write_start(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                        uint32_t first_block, const uint8_t *blocks, uint32_t count)
{
    struct sp_dir *dir = sp_dir(unit);
    struct sp_dir_job job = {
        .kind = SP_DIR_WRITE,
        .segment = segment,
        .generation = generation,
        .first_block = first_block,
        .count = count,
        .bytes = blocks,
        .len = (size_t)count * SP_UNIT_BLOCK_BYTES,
    };
    sp_assert(count && first_block <= UINT32_MAX - count &&
              (uintptr_t)blocks % SP_UNIT_BLOCK_BYTES == 0);
    pthread_mutex_lock(&dir->lock);
    sp_assert(!dir->write_under_way);
    dir->write_under_way = true;
    dir->write_refused = dir->broken;
    if (!dir->broken)
        submit(dir, &job);
    pthread_mutex_unlock(&dir->lock);
}

enum sp_status sp_dir_wait(struct sp_unit *unit, uint32_t timeout_ms, struct sp_error *error)
{
    struct sp_dir *dir = sp_dir(unit);
    enum sp_status status;
    pthread_mutex_lock(&dir->lock);
    sp_assert(dir->write_under_way);
    if (dir->write_refused)
        status = refuse(dir, error, broken_text);
    else
        status = outcome(dir, timeout_ms, error);
    if (status != SP_TIMEOUT)
        dir->write_under_way = false;
    pthread_mutex_unlock(&dir->lock);
    return status;
}

/* Runs a job and waits for it, but not for ever: the volume's committer must outlive a disk that
 * hangs. */
static enum sp_status call(struct sp_dir *dir, const struct sp_dir_job *job, struct sp_error *error)
{
    enum sp_status status;
    pthread_mutex_lock(&dir->lock);
    if (dir->write_under_way) {
        status = refuse(dir, error, "a write has not ended yet");
    } else if (dir->broken) {
        status = refuse(dir, error, broken_text);
    } else {
        struct sp_dir_job own = *job;
        if (job->kind == SP_DIR_VOTE) {
            memcpy(dir->vote, job->bytes, job->len);
            own.bytes = dir->vote;
        }
        submit(dir, &own);
        status = outcome(dir, SP_DIR_CALL_MS, error);
        if (status == SP_TIMEOUT) {
            dir->broken = true;
            status = refuse(dir, error, "the disk did not answer for ten seconds");
        }
    }
    pthread_mutex_unlock(&dir->lock);
    return status;
}

enum sp_status sp_dir_create(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                             uint32_t blocks, struct sp_error *error)
{
    struct sp_dir_job job = {
        .kind = SP_DIR_CREATE, .segment = segment, .generation = generation, .count = blocks};
    return call(sp_dir(unit), &job, error);
}

enum sp_status sp_dir_seal(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                           uint32_t blocks, struct sp_error *error)
{
    struct sp_dir_job job = {
        .kind = SP_DIR_SEAL, .segment = segment, .generation = generation, .count = blocks};
    return call(sp_dir(unit), &job, error);
}

enum sp_status sp_dir_remove(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                             struct sp_error *error)
{
    struct sp_dir_job job = {.kind = SP_DIR_REMOVE, .segment = segment, .generation = generation};
    return call(sp_dir(unit), &job, error);
}

enum sp_status sp_dir_vote_write(struct sp_unit *unit, struct sp_slice bytes,
                                 struct sp_error *error)
{
    sp_assert(bytes.len && bytes.len <= SP_UNIT_VOTE_MAX);
    struct sp_dir_job job = {.kind = SP_DIR_VOTE, .bytes = bytes.ptr, .len = bytes.len};
    return call(sp_dir(unit), &job, error);
}

/* A job that hangs in the kernel cannot be interrupted. Its thread then keeps the unit's memory and
 * its lock, so that nobody opens the unit while an old write may still reach it; both are given
 * back when the kernel returns. If it never does, they are lost, which is intended. */
void sp_dir_close(struct sp_unit *unit)
{
    struct sp_dir *dir = sp_dir(unit);
    if (!dir)
        return;
    pthread_mutex_lock(&dir->lock);
    if (dir->state == SP_DIR_RUNNING) {
        dir->abandoned = true;
        pthread_detach(dir->worker);
        pthread_mutex_unlock(&dir->lock);
        return;
    }
    dir->closing = true;
    pthread_cond_signal(&dir->work);
    pthread_mutex_unlock(&dir->lock);
    pthread_join(dir->worker, NULL);
    sp_dir_free(dir);
}
