/* Workers: a pool of threads for what may block, with one bounded first-in first-out queue.
 *
 * What may take long (a search through a large mailbox) has a queue of its own in front of it. From
 * there at most half as many tasks as there are threads are let through at once, and one for each
 * account, so that no user can keep everybody else's requests waiting. With one thread they take it
 * in turn. */
#ifndef SP_NET_WORKERS_H
#define SP_NET_WORKERS_H

#include "net/task.h"

#include "base/status.h"
#include "base/uuid.h"

#include <stdint.h>

struct sp_workers;

enum sp_status sp_workers_start(uint32_t threads, uint32_t queue_max,
                                struct sp_workers **ret_workers,
                                struct sp_error *error) SP_MUST_USE;
/* Runs what is queued, then ends the threads. NULL is fine. */
void sp_workers_stop(struct sp_workers *workers);
/* Any thread. False: the queue is full; the task was not taken. */
bool sp_workers_submit(struct sp_workers *workers, struct sp_task *task) SP_MUST_USE;
/* The same for a task that may take long. Such tasks wait for others of their account; of those
 * that wait there may be half of queue_max. */
struct sp_long_task {
    struct sp_task task;
    struct sp_uuid account;
};
bool sp_workers_submit_long(struct sp_workers *workers, struct sp_long_task *task) SP_MUST_USE;
/* Tasks waiting for a thread, long ones included. */
uint32_t sp_workers_waiting(struct sp_workers *workers);
/* Is more than half of the queue taken (by other than long ones)? Then what can wait should. */
bool sp_workers_crowded(struct sp_workers *workers);

#endif
