/* One event loop: a thread, an epoll, timers, a list of what is ready to run and an inbox for other
 * threads.
 *
 * A turn: wait for events; let each source note what happened; run what came into the inbox; fire
 * timers; then run what all of these made ready, once each. What becomes ready meanwhile runs in
 * the next turn, after another look at the sockets: so nobody starves. Sources are edge-triggered
 * and registered once.
 *
 * The inbox is a list under a mutex. A sender writes to the eventfd only when the loop sleeps, and
 * still under the mutex: when the loop has run a task, nobody touches the loop on its behalf any
 * more, which lets the loop end as soon as its last task was run.
 */
#ifndef SP_NET_LOOP_H
#define SP_NET_LOOP_H

#include "net/task.h"
#include "net/timers.h"

#include <pthread.h>

/* What epoll points at; lives in its owner. */
struct sp_source {
    void (*on_events)(struct sp_source *source, uint32_t events);
};

struct sp_loop {
    int epoll_fd;
    int wake_fd;
    uint64_t now_ms; /* of this turn */
    struct sp_timers timers;
    struct sp_task_list ready;
    bool quit;

    pthread_mutex_t lock;
    struct sp_task_list inbox; /* under lock */
    bool asleep;               /* under lock: a sender must wake it */
};

enum sp_status sp_loop_init(struct sp_loop *loop, struct sp_error *error) SP_MUST_USE;
/* The thread has ended or was never started; inbox and timers are empty. */
void sp_loop_release(struct sp_loop *loop);

/* The thread's main: runs turns until quit. The argument is the loop. */
void *sp_loop_main(void *loop);
/* On the loop's thread: the last turn is this one. */
void sp_loop_quit(struct sp_loop *loop);

/* Any thread: the loop will run the task. In order for each sender. */
void sp_loop_post(struct sp_loop *loop, struct sp_task *task);
/* On the loop's thread: the task runs in this turn's last phase, or in the next turn if that has
 * begun. */
void sp_loop_ready(struct sp_loop *loop, struct sp_task *task);

/* Any thread. False: errno says why. */
bool sp_loop_add(struct sp_loop *loop, int fd, uint32_t events,
                 struct sp_source *source) SP_MUST_USE;
void sp_loop_remove(struct sp_loop *loop, int fd);

#endif
