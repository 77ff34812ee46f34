#include "net/workers.h"

#include "net/thread.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* A long task that was let through: in the queue, or at work. */
struct slot {
    bool taken;
    const struct sp_task *task; /* NULL: at work, and perhaps freed by now */
    struct sp_uuid account;
};

struct sp_workers {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct sp_task_list queue; /* under lock, as are the next five */
    struct sp_task_list longs; /* long tasks that have no slot yet */
    struct slot *slots;        /* for half of the threads */
    uint32_t slots_count;
    uint32_t sleeping; /* threads that wait and that nobody has woken yet */
    bool stop;
    _Atomic uint32_t waiting; /* tasks in the queue; written under lock, read anywhere */
    _Atomic uint32_t longs_waiting;
    uint32_t queue_max;
    uint32_t threads_count;
    pthread_t threads[];
};

/* Wakes one thread, or none when all are awake: they look at the queue before they sleep. */
static void enqueue(struct sp_workers *workers, struct sp_task *task)
{
    sp_task_push(&workers->queue, task);
    atomic_fetch_add_explicit(&workers->waiting, 1, memory_order_relaxed);
    if (workers->sleeping) {
        workers->sleeping--;
        pthread_cond_signal(&workers->wake);
    }
}

/* ---- long tasks; the lock is held ---- */

static bool has_slot(const struct sp_workers *workers, const struct sp_uuid *account)
{
    for (uint32_t i = 0; i < workers->slots_count; i++)
        if (workers->slots[i].taken && sp_uuid_eq(&workers->slots[i].account, account))
            return true;
    return false;
}

/* Takes out the first one whose account has no slot. */
static struct sp_long_task *take_long(struct sp_workers *workers)
{
    struct sp_task *before = NULL;
    for (struct sp_task **link = &workers->longs.first; *link; link = &(*link)->next) {
        struct sp_long_task *task = sp_owner(*link, struct sp_long_task, task);
        if (!has_slot(workers, &task->account)) {
            *link = task->task.next;
            if (!*link)
                workers->longs.last = before;
            atomic_fetch_sub_explicit(&workers->longs_waiting, 1, memory_order_relaxed);
            return task;
        }
        before = *link;
    }
    return NULL;
}

/* Lets through what may be. */
static void admit(struct sp_workers *workers)
{
    for (uint32_t i = 0; i < workers->slots_count && workers->longs.first; i++) {
        if (workers->slots[i].taken)
            continue;
        struct sp_long_task *task = take_long(workers);
        if (!task)
            return;
        workers->slots[i] = (struct slot){true, &task->task, task->account};
        enqueue(workers, &task->task);
    }
}

/* The slot of a task that is about to be run; NULL: it is not a long one. */
static struct slot *slot_of(struct sp_workers *workers, const struct sp_task *task)
{
    for (uint32_t i = 0; i < workers->slots_count; i++) {
        struct slot *slot = &workers->slots[i];
        if (slot->taken && slot->task == task) {
            slot->task = NULL;
            return slot;
        }
    }
    return NULL;
}

/* ---- */

static void *worker_main(void *argument)
{
    struct sp_workers *workers = argument;
    pthread_mutex_lock(&workers->lock);
    for (;;) {
        struct sp_task *task = sp_task_pop(&workers->queue);
        if (task) {
            struct slot *slot = slot_of(workers, task);
            atomic_fetch_sub_explicit(&workers->waiting, 1, memory_order_relaxed);
            pthread_mutex_unlock(&workers->lock);
            task->run(task);
            pthread_mutex_lock(&workers->lock);
            if (slot) {
                slot->taken = false;
                admit(workers);
            }
        } else if (workers->stop) {
            break;
        } else {
            workers->sleeping++;
            pthread_cond_wait(&workers->wake, &workers->lock);
        }
    }
    pthread_mutex_unlock(&workers->lock);
    return NULL;
}

enum sp_status sp_workers_start(uint32_t threads, uint32_t queue_max,
                                struct sp_workers **ret_workers, struct sp_error *error)
{
    sp_assert(threads > 0);
    struct sp_workers *workers = calloc(1, sizeof *workers + threads * sizeof(pthread_t));
    if (!workers)
        return sp_error_set(error, SP_NO_MEMORY, "server", "no memory for %u workers", threads);
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->wake, NULL);
    workers->queue_max = queue_max;
    workers->slots_count = threads > 1 ? threads / 2 : 1;
    workers->slots = calloc(workers->slots_count, sizeof *workers->slots);
    if (!workers->slots) {
        sp_workers_stop(workers);
        return sp_error_set(error, SP_NO_MEMORY, "server", "no memory for %u workers", threads);
    }
    for (uint32_t i = 0; i < threads; i++) {
        char name[24];
        snprintf(name, sizeof name, "worker-%u", i);
        enum sp_status status =
            sp_thread_start(name, worker_main, workers, &workers->threads[i], error);
        if (status) {
            sp_workers_stop(workers);
            return status;
        }
        workers->threads_count++;
    }
    *ret_workers = workers;
    return SP_OK;
}

void sp_workers_stop(struct sp_workers *workers)
{
    if (!workers)
        return;
    pthread_mutex_lock(&workers->lock);
    workers->stop = true;
    pthread_cond_broadcast(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    for (uint32_t i = 0; i < workers->threads_count; i++)
        pthread_join(workers->threads[i], NULL);
    pthread_cond_destroy(&workers->wake);
    pthread_mutex_destroy(&workers->lock);
    free(workers->slots);
    free(workers);
}

bool sp_workers_submit(struct sp_workers *workers, struct sp_task *task)
{
    pthread_mutex_lock(&workers->lock);
    bool room = workers->waiting < workers->queue_max;
    if (room)
        enqueue(workers, task);
    pthread_mutex_unlock(&workers->lock);
    return room;
}

bool sp_workers_submit_long(struct sp_workers *workers, struct sp_long_task *task)
{
    pthread_mutex_lock(&workers->lock);
    bool room = workers->longs_waiting < (workers->queue_max + 1) / 2;
    if (room) {
        sp_task_push(&workers->longs, &task->task);
        atomic_fetch_add_explicit(&workers->longs_waiting, 1, memory_order_relaxed);
        admit(workers);
    }
    pthread_mutex_unlock(&workers->lock);
    return room;
}

uint32_t sp_workers_waiting(struct sp_workers *workers)
{
    return atomic_load_explicit(&workers->waiting, memory_order_relaxed) +
           atomic_load_explicit(&workers->longs_waiting, memory_order_relaxed);
}

bool sp_workers_crowded(struct sp_workers *workers)
{
    return atomic_load_explicit(&workers->waiting, memory_order_relaxed) > workers->queue_max / 2;
}
