#include "net/workers.h"

#include "net/thread.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct sp_workers {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct sp_task_list queue; /* under lock, as are the next two */
    uint32_t sleeping;         /* threads that wait and that nobody has woken yet */
    bool stop;
    _Atomic uint32_t waiting; /* tasks in the queue; written under lock, read anywhere */
    uint32_t queue_max;
    uint32_t threads_count;
    pthread_t threads[];
};

static void *worker_main(void *argument)
{
    struct sp_workers *workers = argument;
    pthread_mutex_lock(&workers->lock);
    for (;;) {
        struct sp_task *task = sp_task_pop(&workers->queue);
        if (task) {
            atomic_fetch_sub_explicit(&workers->waiting, 1, memory_order_relaxed);
            pthread_mutex_unlock(&workers->lock);
            task->run(task);
            pthread_mutex_lock(&workers->lock);
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
    free(workers);
}

bool sp_workers_submit(struct sp_workers *workers, struct sp_task *task)
{
    pthread_mutex_lock(&workers->lock);
    bool room = workers->waiting < workers->queue_max;
    if (room) {
        sp_task_push(&workers->queue, task);
        atomic_fetch_add_explicit(&workers->waiting, 1, memory_order_relaxed);
        /* One thread for one task, and none when all are awake: they look at the queue before they
         * sleep. */
        if (workers->sleeping) {
            workers->sleeping--;
            pthread_cond_signal(&workers->wake);
        }
    }
    pthread_mutex_unlock(&workers->lock);
    return room;
}

uint32_t sp_workers_waiting(struct sp_workers *workers)
{
    return atomic_load_explicit(&workers->waiting, memory_order_relaxed);
}

bool sp_workers_crowded(struct sp_workers *workers)
{
    return sp_workers_waiting(workers) > workers->queue_max / 2;
}
