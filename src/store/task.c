/* What others ask the committer to do between two batches: whatever changes units or epochs. One at
 * a time. */
#include "store/volume_internal.h"

struct sp_task {
    enum sp_status (*run)(struct sp_volume *v, void *context, struct sp_error *error);
    void *context;
    pthread_cond_t finished;
    bool done;
    enum sp_status status;
    struct sp_error error;
};

bool sp_task_step(struct sp_volume *v)
{
    pthread_mutex_lock(&v->lock);
    struct sp_task *task = v->task;
    pthread_mutex_unlock(&v->lock);
    if (!task)
        return false;
    task->status = task->run(v, task->context, &task->error);
    pthread_mutex_lock(&v->lock);
    task->done = true;
    v->task = NULL;
    pthread_cond_signal(&task->finished);
    pthread_mutex_unlock(&v->lock);
    return true;
}

enum sp_status sp_task_run(struct sp_volume *v,
                           enum sp_status (*run)(struct sp_volume *v, void *context,
                                                 struct sp_error *error),
                           void *context, const char *what, struct sp_error *error)
{
    struct sp_task task = {.run = run, .context = context};
    pthread_mutex_lock(&v->lock);
    if (v->task || v->stopping) {
        pthread_mutex_unlock(&v->lock);
        return sp_error_set(error, SP_UNAVAILABLE, what,
                            "another change of the volume's units is under way");
    }
    pthread_cond_init(&task.finished, NULL);
    v->task = &task;
    pthread_cond_signal(&v->wake);
    while (v->threaded && !task.done)
        pthread_cond_wait(&task.finished, &v->lock);
    pthread_mutex_unlock(&v->lock);
    while (!v->threaded && !task.done)
        sp_volume_run_once(v);
    pthread_cond_destroy(&task.finished);
    if (task.status != SP_OK && error)
        *error = task.error;
    return task.status;
}
