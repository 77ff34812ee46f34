/* Who watches which mailbox, on one loop.
 *
 * Model. A watcher lives in a connection and watches one mailbox or none. A table leads from
 * (account, mailbox) to an entry with its watchers. The committer posts a change: if the mailbox
 * has an entry here, the entry is marked and the loop woken, which is a look-up and no more,
 * however many watch it; changes posted before the loop gets there are one. The loop then tells the
 * watchers, a few in each turn, and waits while the workers' queue is crowded, since each of them
 * will ask what is new.
 *
 * A watcher that begins to watch is told once at the start: what changed between the session's last
 * look and the beginning of the watch was posted to nobody.
 *
 * Threads: post may be called by any thread, everything else by the loop's. The mutex guards the
 * table and the marks; the lists of watchers belong to the loop.
 */
#ifndef SP_NET_WATCH_H
#define SP_NET_WATCH_H

#include "net/loop.h"
#include "net/workers.h"
#include "proto/session.h"

#include <sys/queue.h>

struct sp_watch_entry;

struct sp_watcher {
    struct sp_watch_entry *entry; /* NULL: watches nothing */
    TAILQ_ENTRY(sp_watcher) same; /* those of the same mailbox */
    TAILQ_ENTRY(sp_watcher) news; /* those to be told */
    bool has_news;
};
TAILQ_HEAD(sp_watcher_list, sp_watcher);

struct sp_watches {
    struct sp_loop *loop;
    struct sp_workers *workers;
    void (*tell)(struct sp_watcher *watcher);
    struct sp_watcher_list news;
    struct sp_timer timer; /* set while there is news */

    pthread_mutex_t lock; /* guards what follows */
    struct sp_watch_entry **buckets;
    uint32_t buckets_count, entries_count;
    struct sp_watch_entry *marked;
    bool posted; /* the task is in the loop's inbox */
    struct sp_task task;
};

enum sp_status sp_watches_init(struct sp_watches *watches, struct sp_loop *loop,
                               struct sp_workers *workers, void (*tell)(struct sp_watcher *watcher),
                               struct sp_error *error) SP_MUST_USE;
/* Nobody watches or posts any more. */
void sp_watches_release(struct sp_watches *watches);

/* Watches what is wanted from now on. Cheap when that is no change. Without memory the watcher
 * watches nothing; the next call tries again. */
void sp_watches_set(struct sp_watches *watches, struct sp_watcher *watcher,
                    const struct sp_watch *wanted);
/* Any thread: the mailbox has changed. */
void sp_watches_post(struct sp_watches *watches, const struct sp_uuid *account, uint32_t mailbox);

#endif
