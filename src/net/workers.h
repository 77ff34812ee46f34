/* Workers: a pool of threads for what may block, with one bounded first-in first-out queue. */
#ifndef SP_NET_WORKERS_H
#define SP_NET_WORKERS_H

#include "net/task.h"

#include "base/status.h"

#include <stdint.h>

struct sp_workers;

enum sp_status sp_workers_start(uint32_t threads, uint32_t queue_max,
                                struct sp_workers **ret_workers,
                                struct sp_error *error) SP_MUST_USE;
/* Runs what is queued, then ends the threads. NULL is fine. */
void sp_workers_stop(struct sp_workers *workers);
/* Any thread. False: the queue is full; the task was not taken. */
bool sp_workers_submit(struct sp_workers *workers, struct sp_task *task) SP_MUST_USE;
/* Tasks waiting for a thread. */
uint32_t sp_workers_waiting(struct sp_workers *workers);
/* Is more than half of the queue taken? Then what can wait should. */
bool sp_workers_crowded(struct sp_workers *workers);

#endif
