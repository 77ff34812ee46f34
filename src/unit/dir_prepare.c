#include "unit/dir_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* Writes at a time, between which it looks whether the file is still wanted. */
#define STEP_BLOCKS 256U

struct wanted {
    uint64_t segment; /* 0: nothing */
    uint32_t generation, blocks;
};

struct sp_dir_preparer {
    int segments_fd;
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t work;
    struct wanted wanted; /* asked for */
    struct wanted making; /* being filled now */
    struct wanted ready;
    int ready_fd;
    bool closing;
};

static bool same(const struct wanted *a, uint64_t segment, uint32_t generation)
{
    return a->segment == segment && a->generation == generation;
}

/* When the unit has been closed the name may by now be another's, who opened it anew and removed
 * ours. */
static void discard(struct sp_dir_preparer *p, int fd, const struct wanted *w)
{
    char name[SP_DIR_NAME_BYTES];
    sp_dir_segment_name(w->segment, w->generation, ".tmp", name);
    pthread_mutex_lock(&p->lock);
    bool closing = p->closing;
    pthread_mutex_unlock(&p->lock);
    close(fd);
    if (!closing)
        unlinkat(p->segments_fd, name, 0);
}

static bool still_wanted(struct sp_dir_preparer *p, const struct wanted *w)
{
    pthread_mutex_lock(&p->lock);
    bool yes = !p->closing && same(&p->wanted, w->segment, w->generation);
    pthread_mutex_unlock(&p->lock);
    return yes;
}

/* The fd of a file of zeros that are on disk, or -1. A failure is not reported: create will meet
 * it. */
static int make(struct sp_dir_preparer *p, const struct wanted *w)
{
    char name[SP_DIR_NAME_BYTES];
    sp_dir_segment_name(w->segment, w->generation, ".tmp", name);
    int fd = sp_dir_open_write(p->segments_fd, name, O_CREAT | O_EXCL);
    if (fd < 0)
        return -1;
    /* In one piece on disk where that can be had; the zeros then turn it from reserved into
     * written. */
    (void)fallocate(fd, 0, 0, (off_t)w->blocks * (off_t)SP_UNIT_BLOCK_BYTES);
    bool good = true;
    for (uint32_t at = 0; at < w->blocks && good;) {
        uint32_t n = w->blocks - at < STEP_BLOCKS ? w->blocks - at : STEP_BLOCKS;
        good = still_wanted(p, w) && sp_dir_zero(fd, at, n);
        at += n;
    }
    if (good && still_wanted(p, w) && fsync(fd) == 0)
        return fd;
    discard(p, fd, w);
    return -1;
}

static void destroy(struct sp_dir_preparer *p)
{
    if (p->ready_fd >= 0)
        close(p->ready_fd); /* the file is removed at the next open */
    close(p->segments_fd);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->work);
    free(p);
}

static void *work(void *argument)
{
    struct sp_dir_preparer *p = argument;
    pthread_mutex_lock(&p->lock);
    while (!p->closing) {
        if (!p->wanted.segment || same(&p->ready, p->wanted.segment, p->wanted.generation)) {
            pthread_cond_wait(&p->work, &p->lock);
            continue;
        }
        struct wanted w = p->making = p->wanted, old = p->ready;
        int old_fd = p->ready_fd;
        p->ready = (struct wanted){0};
        p->ready_fd = -1;
        pthread_mutex_unlock(&p->lock);
        if (old_fd >= 0)
            discard(p, old_fd, &old);
        int fd = make(p, &w);
        pthread_mutex_lock(&p->lock);
        if (fd >= 0 && same(&p->wanted, w.segment, w.generation)) {
            p->ready = w;
            p->ready_fd = fd;
        } else if (fd >= 0) {
            pthread_mutex_unlock(&p->lock);
            discard(p, fd, &w);
            pthread_mutex_lock(&p->lock);
        } else if (same(&p->wanted, w.segment, w.generation)) {
            p->wanted = (struct wanted){0}; /* failed: not again */
        }
        p->making = (struct wanted){0};
    }
    pthread_mutex_unlock(&p->lock);
    destroy(p);
    return NULL;
}

struct sp_dir_preparer *sp_dir_preparer_new(int segments_fd)
{
    struct sp_dir_preparer *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->ready_fd = -1;
    p->segments_fd = fcntl(segments_fd, F_DUPFD_CLOEXEC, 0);
    if (p->segments_fd < 0) {
        free(p);
        return NULL;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&p->thread, NULL, work, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        destroy(p);
        return NULL;
    }
    pthread_setname_np(p->thread, "unit-prepare");
    return p;
}

/* A thread that is filling a file stops after its present write, and frees all; it works on a file
 * that is nobody's yet, so that nothing needs to wait for it. */
void sp_dir_preparer_free(struct sp_dir_preparer *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    pthread_t thread = p->thread;
    bool busy = p->making.segment != 0;
    p->closing = true;
    pthread_cond_signal(&p->work);
    if (busy)
        pthread_detach(thread);
    pthread_mutex_unlock(&p->lock);
    if (!busy)
        pthread_join(thread, NULL);
}

void sp_dir_preparer_ask(struct sp_dir_preparer *p, uint64_t segment, uint32_t generation,
                         uint32_t blocks)
{
    pthread_mutex_lock(&p->lock);
    p->wanted = (struct wanted){segment, generation, blocks};
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
}

int sp_dir_preparer_take(struct sp_dir_preparer *p, uint64_t segment, uint32_t generation)
{
    int fd = -1;
    pthread_mutex_lock(&p->lock);
    if (same(&p->wanted, segment, generation))
        p->wanted = (struct wanted){0};
    if (same(&p->ready, segment, generation)) {
        fd = p->ready_fd;
        p->ready_fd = -1;
        p->ready = (struct wanted){0};
    }
    pthread_mutex_unlock(&p->lock);
    return fd;
}
