#include "net/loop.h"

#include "base/time.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_PER_TURN 256
#define SLEEP_MAX_MS    60000U

enum sp_status sp_loop_init(struct sp_loop *loop, struct sp_error *error)
{
    *loop = (struct sp_loop){.epoll_fd = -1, .wake_fd = -1, .now_ms = sp_now_ms()};
    sp_timers_init(&loop->timers);
    pthread_mutex_init(&loop->lock, NULL);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    /* Edge-triggered: each write is an event, and the counter need never be read. */
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 ||
        !sp_loop_add(loop, loop->wake_fd, EPOLLIN | EPOLLET, NULL)) {
        int why = errno;
        sp_loop_release(loop);
        return sp_error_set(error, SP_IO, "server", "cannot make an event loop: %s", strerror(why));
    }
    return SP_OK;
}

void sp_loop_release(struct sp_loop *loop)
{
    sp_assert(!loop->inbox.first && !loop->ready.first);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    sp_timers_release(&loop->timers);
    pthread_mutex_destroy(&loop->lock);
}

void sp_loop_quit(struct sp_loop *loop)
{
    loop->quit = true;
}

void sp_loop_post(struct sp_loop *loop, struct sp_task *task)
{
    pthread_mutex_lock(&loop->lock);
    sp_task_push(&loop->inbox, task);
    if (loop->asleep) {
        uint64_t one = 1;
        ssize_t written = write(loop->wake_fd, &one, sizeof one);
        sp_assert(written == sizeof one);
        loop->asleep = false;
    }
    pthread_mutex_unlock(&loop->lock);
}

void sp_loop_ready(struct sp_loop *loop, struct sp_task *task)
{
    sp_task_push(&loop->ready, task);
}

bool sp_loop_add(struct sp_loop *loop, int fd, uint32_t events, struct sp_source *source)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

void sp_loop_remove(struct sp_loop *loop, int fd)
{
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

/* How long the loop may sleep, and whether senders have to wake it from that. */
static int fall_asleep(struct sp_loop *loop)
{
    if (loop->ready.first)
        return 0;
    uint64_t next = sp_timers_next(&loop->timers), now = sp_now_ms();
    if (next <= now)
        return 0;
    pthread_mutex_lock(&loop->lock);
    loop->asleep = !loop->inbox.first;
    bool asleep = loop->asleep;
    pthread_mutex_unlock(&loop->lock);
    if (!asleep)
        return 0;
    return (int)(next - now < SLEEP_MAX_MS ? next - now : SLEEP_MAX_MS);
}

static struct sp_task_list wake_up(struct sp_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->asleep = false;
    struct sp_task_list inbox = loop->inbox;
    loop->inbox.first = NULL;
    pthread_mutex_unlock(&loop->lock);
    return inbox;
}

static void run_all(struct sp_task_list *list)
{
    struct sp_task_list now = *list;
    list->first = NULL;
    for (struct sp_task *task; (task = sp_task_pop(&now));)
        task->run(task);
}

void *sp_loop_main(void *argument)
{
    struct sp_loop *loop = argument;
    struct epoll_event events[EVENTS_PER_TURN];
    while (!loop->quit) {
        int count = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN, fall_asleep(loop));
        sp_assert(count >= 0 || errno == EINTR);
        struct sp_task_list inbox = wake_up(loop);
        loop->now_ms = sp_now_ms();
        for (int i = 0; i < count; i++) {
            struct sp_source *source = events[i].data.ptr;
            if (source)
                source->on_events(source, events[i].events);
        }
        run_all(&inbox);
        for (struct sp_timer *timer; (timer = sp_timers_pop(&loop->timers, loop->now_ms));)
            timer->fire(timer);
        run_all(&loop->ready);
    }
    return NULL;
}
