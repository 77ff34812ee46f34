#include "net/watch.h"

#include "base/endian.h"

#include <stdlib.h>

#define BUCKETS_FIRST 64U
#define TELL_PER_TURN 64U
#define CROWDED_MS    5U

struct sp_watch_entry {
    struct sp_watch_entry *next;        /* in the bucket */
    struct sp_watch_entry *marked_next; /* among the marked, while marked */
    bool marked;
    uint32_t mailbox;
    struct sp_uuid account;
    struct sp_watcher_list watchers;
};

/* Account ids are random: no peer can choose a bucket. */
static uint32_t hash(const struct sp_uuid *account, uint32_t mailbox)
{
    uint64_t mix = (sp_get_u64(account->bytes + 8) + mailbox) * 0x9e3779b97f4a7c15U;
    return (uint32_t)(mix >> 32);
}

static bool is_of(const struct sp_watch_entry *entry, const struct sp_uuid *account,
                  uint32_t mailbox)
{
    return entry->mailbox == mailbox && sp_uuid_eq(&entry->account, account);
}

static struct sp_watch_entry **bucket_of(struct sp_watches *watches, const struct sp_uuid *account,
                                         uint32_t mailbox)
{
    return &watches->buckets[hash(account, mailbox) & (watches->buckets_count - 1)];
}

/* ---- the table; under lock ---- */

static struct sp_watch_entry *find(struct sp_watches *watches, const struct sp_uuid *account,
                                   uint32_t mailbox)
{
    struct sp_watch_entry *entry = *bucket_of(watches, account, mailbox);
    while (entry && !is_of(entry, account, mailbox))
        entry = entry->next;
    return entry;
}

/* Without memory the chains just get longer. */
static void grow(struct sp_watches *watches)
{
    struct sp_watch_entry **old = watches->buckets;
    uint32_t old_count = watches->buckets_count;
    struct sp_watch_entry **grown = calloc((size_t)old_count * 2, sizeof(struct sp_watch_entry *));
    if (!grown)
        return;
    watches->buckets = grown;
    watches->buckets_count = old_count * 2;
    for (uint32_t i = 0; i < old_count; i++) {
        for (struct sp_watch_entry *entry = old[i], *next; entry; entry = next) {
            next = entry->next;
            struct sp_watch_entry **bucket = bucket_of(watches, &entry->account, entry->mailbox);
            entry->next = *bucket;
            *bucket = entry;
        }
    }
    free(old);
}

static struct sp_watch_entry *add(struct sp_watches *watches, const struct sp_watch *wanted)
{
    struct sp_watch_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    entry->account = wanted->account;
    entry->mailbox = wanted->mailbox;
    TAILQ_INIT(&entry->watchers);
    if (watches->entries_count >= watches->buckets_count)
        grow(watches);
    struct sp_watch_entry **bucket = bucket_of(watches, &entry->account, entry->mailbox);
    entry->next = *bucket;
    *bucket = entry;
    watches->entries_count++;
    return entry;
}

static void remove_entry(struct sp_watches *watches, struct sp_watch_entry *entry)
{
    struct sp_watch_entry **link = bucket_of(watches, &entry->account, entry->mailbox);
    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
    if (entry->marked) {
        link = &watches->marked;
        while (*link != entry)
            link = &(*link)->marked_next;
        *link = entry->marked_next;
    }
    watches->entries_count--;
    free(entry);
}

/* ---- on the loop ---- */

static void add_news(struct sp_watches *watches, struct sp_watcher *watcher)
{
    if (watcher->has_news)
        return;
    watcher->has_news = true;
    TAILQ_INSERT_TAIL(&watches->news, watcher, news);
    if (!watches->timer.place)
        sp_timers_set(&watches->loop->timers, &watches->timer, watches->loop->now_ms);
}

static void leave(struct sp_watches *watches, struct sp_watcher *watcher)
{
    struct sp_watch_entry *entry = watcher->entry;
    if (!entry)
        return;
    if (watcher->has_news)
        TAILQ_REMOVE(&watches->news, watcher, news);
    watcher->has_news = false;
    watcher->entry = NULL;
    TAILQ_REMOVE(&entry->watchers, watcher, same);
    if (TAILQ_EMPTY(&entry->watchers)) {
        pthread_mutex_lock(&watches->lock);
        remove_entry(watches, entry);
        pthread_mutex_unlock(&watches->lock);
    }
}

void sp_watches_set(struct sp_watches *watches, struct sp_watcher *watcher,
                    const struct sp_watch *wanted)
{
    struct sp_watch_entry *entry = watcher->entry;
    if (entry ? wanted->active && is_of(entry, &wanted->account, wanted->mailbox) : !wanted->active)
        return;
    leave(watches, watcher);
    if (!wanted->active)
        return;
    pthread_mutex_lock(&watches->lock);
    entry = find(watches, &wanted->account, wanted->mailbox);
    if (!entry)
        entry = add(watches, wanted);
    pthread_mutex_unlock(&watches->lock);
    if (!entry)
        return;
    watcher->entry = entry;
    TAILQ_INSERT_TAIL(&entry->watchers, watcher, same);
    add_news(watches, watcher);
}

static void on_posted(struct sp_task *task)
{
    struct sp_watches *watches = sp_owner(task, struct sp_watches, task);
    pthread_mutex_lock(&watches->lock);
    watches->posted = false;
    while (watches->marked) {
        struct sp_watch_entry *entry = watches->marked;
        watches->marked = entry->marked_next;
        entry->marked = false;
        struct sp_watcher *watcher;
        TAILQ_FOREACH(watcher, &entry->watchers, same)
        add_news(watches, watcher);
    }
    pthread_mutex_unlock(&watches->lock);
}

static void on_timer(struct sp_timer *timer)
{
    struct sp_watches *watches = sp_owner(timer, struct sp_watches, timer);
    bool crowded = false;
    for (uint32_t i = 0; i < TELL_PER_TURN && !crowded; i++) {
        struct sp_watcher *watcher = TAILQ_FIRST(&watches->news);
        if (!watcher)
            return;
        crowded = sp_workers_crowded(watches->workers);
        if (!crowded) {
            TAILQ_REMOVE(&watches->news, watcher, news);
            watcher->has_news = false;
            watches->tell(watcher);
        }
    }
    if (!TAILQ_EMPTY(&watches->news))
        sp_timers_set(&watches->loop->timers, timer,
                      watches->loop->now_ms + (crowded ? CROWDED_MS : 1));
}

/* ---- */

void sp_watches_post(struct sp_watches *watches, const struct sp_uuid *account, uint32_t mailbox)
{
    pthread_mutex_lock(&watches->lock);
    struct sp_watch_entry *entry = find(watches, account, mailbox);
    if (entry && !entry->marked) {
        entry->marked = true;
        entry->marked_next = watches->marked;
        watches->marked = entry;
        if (!watches->posted) {
            watches->posted = true;
            sp_loop_post(watches->loop, &watches->task);
        }
    }
    pthread_mutex_unlock(&watches->lock);
}

enum sp_status sp_watches_init(struct sp_watches *watches, struct sp_loop *loop,
                               struct sp_workers *workers, void (*tell)(struct sp_watcher *watcher),
                               struct sp_error *error)
{
    struct sp_watch_entry **buckets = calloc(BUCKETS_FIRST, sizeof(struct sp_watch_entry *));
    if (!buckets || !sp_timers_reserve(&loop->timers)) {
        free(buckets);
        return sp_error_set(error, SP_NO_MEMORY, "server", "no memory for an event loop");
    }
    *watches = (struct sp_watches){.loop = loop,
                                   .workers = workers,
                                   .tell = tell,
                                   .timer.fire = on_timer,
                                   .buckets = buckets,
                                   .buckets_count = BUCKETS_FIRST,
                                   .task.run = on_posted};
    TAILQ_INIT(&watches->news);
    pthread_mutex_init(&watches->lock, NULL);
    return SP_OK;
}

void sp_watches_release(struct sp_watches *watches)
{
    if (!watches->buckets)
        return;
    sp_assert(watches->entries_count == 0);
    sp_timers_unreserve(&watches->loop->timers, &watches->timer);
    free(watches->buckets);
    watches->buckets = NULL;
    pthread_mutex_destroy(&watches->lock);
}
