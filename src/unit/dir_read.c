#include "unit/dir_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Reads are buffered: the page cache serves what is read again, and any buffer will do. What the
 * worker writes with O_DIRECT is seen at once, since the kernel drops the pages it covers when such
 * a write completes. */

void sp_dir_cache_init(struct sp_dir *dir)
{
    pthread_mutex_init(&dir->cache_lock, NULL);
    for (size_t i = 0; i < SP_DIR_CACHE_MAX; i++)
        dir->cache[i].fd = -1;
}

void sp_dir_cache_release(struct sp_dir *dir)
{
    for (size_t i = 0; i < SP_DIR_CACHE_MAX; i++)
        if (dir->cache[i].fd >= 0)
            close(dir->cache[i].fd);
    pthread_mutex_destroy(&dir->cache_lock);
}

/* With the lock held: a live entry for the segment, or NULL. */
static struct sp_dir_cached *find(struct sp_dir *dir, uint64_t segment, uint32_t generation)
{
    for (size_t i = 0; i < SP_DIR_CACHE_MAX; i++) {
        struct sp_dir_cached *c = &dir->cache[i];
        if (c->fd >= 0 && !c->stale && c->segment == segment && c->generation == generation)
            return c;
    }
    return NULL;
}

void sp_dir_cache_forget(struct sp_dir *dir, uint64_t segment, uint32_t generation)
{
    int fd = -1;
    pthread_mutex_lock(&dir->cache_lock);
    struct sp_dir_cached *c = find(dir, segment, generation);
    dir->cache_forgets++;
    if (c && c->refs) {
        c->stale = true;
    } else if (c) {
        fd = c->fd;
        c->fd = -1;
    }
    pthread_mutex_unlock(&dir->cache_lock);
    if (fd >= 0)
        close(fd);
}

/* With the lock held: puts fd into a free slot or the one idle for longest, whose fd is then
 * *ret_old. NULL when reads are under way on all. */
static struct sp_dir_cached *insert(struct sp_dir *dir, uint64_t segment, uint32_t generation,
                                    int fd, int *ret_old)
{
    struct sp_dir_cached *slot = NULL;
    for (size_t i = 0; i < SP_DIR_CACHE_MAX; i++) {
        struct sp_dir_cached *c = &dir->cache[i];
        if (c->fd < 0) {
            slot = c;
            break;
        }
        if (c->refs == 0 && (!slot || c->used < slot->used))
            slot = c;
    }
    if (slot) {
        *ret_old = slot->fd;
        *slot = (struct sp_dir_cached){.segment = segment, .generation = generation, .fd = fd};
    }
    return slot;
}

/* *ret_entry is NULL when the fd is not in the cache. */
static int acquire(struct sp_dir *dir, uint64_t segment, uint32_t generation,
                   struct sp_dir_cached **ret_entry)
{
    pthread_mutex_lock(&dir->cache_lock);
    struct sp_dir_cached *c = find(dir, segment, generation);
    int surplus = -1;
    if (!c) {
        uint64_t forgets = dir->cache_forgets;
        pthread_mutex_unlock(&dir->cache_lock);
        char name[SP_DIR_NAME_BYTES];
        sp_dir_segment_name(segment, generation, "", name);
        int fd = openat(dir->segments_fd, name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return -1;
        pthread_mutex_lock(&dir->cache_lock);
        c = find(dir, segment, generation); /* another thread may have been faster */
        if (c) {
            surplus = fd;
        } else {
            /* Not kept when something was removed meanwhile: it may have been this file. */
            if (forgets == dir->cache_forgets)
                c = insert(dir, segment, generation, fd, &surplus);
            if (!c) {
                pthread_mutex_unlock(&dir->cache_lock);
                *ret_entry = NULL;
                return fd;
            }
        }
    }
    c->refs++;
    c->used = ++dir->cache_used;
    int fd = c->fd;
    pthread_mutex_unlock(&dir->cache_lock);
    if (surplus >= 0)
        close(surplus);
    *ret_entry = c;
    return fd;
}

static void release(struct sp_dir *dir, struct sp_dir_cached *entry, int fd)
{
    bool last = !entry;
    if (entry) {
        pthread_mutex_lock(&dir->cache_lock);
        last = --entry->refs == 0 && entry->stale;
        if (last)
            entry->fd = -1;
        pthread_mutex_unlock(&dir->cache_lock);
    }
    if (last)
        close(fd);
}

enum sp_status sp_dir_read(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                           uint32_t first_block, uint8_t *ret_blocks, uint32_t count,
                           struct sp_error *error)
{
    struct sp_dir *dir = sp_dir(unit);
    struct sp_dir_cached *entry;
    char name[SP_DIR_NAME_BYTES];
    enum sp_status status = SP_OK;
    sp_dir_segment_name(segment, generation, "", name);
    int fd = acquire(dir, segment, generation, &entry);
    if (fd < 0)
        return sp_dir_fail(dir, error, errno, "cannot open", name);
    size_t len = (size_t)count * SP_UNIT_BLOCK_BYTES, done = 0;
    off_t at = (off_t)first_block * (off_t)SP_UNIT_BLOCK_BYTES;
    while (done < len && status == SP_OK) {
        ssize_t n = pread(fd, ret_blocks + done, len - done, at + (off_t)done);
        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0) {
            char what[80];
            snprintf(what, sizeof what, "unit %s", unit->name);
            status = sp_error_set(error, SP_NOT_FOUND, what, "%s ends before block %llu", name,
                                  first_block + (unsigned long long)count);
        } else if (errno != EINTR) {
            status = sp_dir_fail(dir, error, errno, "cannot read", name);
        }
    }
    release(dir, entry, fd);
    return status;
}

void sp_dir_forget(struct sp_unit *unit, uint64_t segment, uint32_t generation)
{
    struct sp_dir *dir = sp_dir(unit);
    struct sp_dir_cached *entry;
    int fd = acquire(dir, segment, generation, &entry);
    if (fd < 0)
        return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* what cannot be forgotten is read twice */
    release(dir, entry, fd);
}
