#include "unit/dir_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define ZERO_BLOCKS 256U /* 1 MiB at a time */
#define SHORT_MAX   8U   /* writes in a row that may bring less than a block */

static off_t offset_of(uint64_t block)
{
    return (off_t)(block * SP_UNIT_BLOCK_BYTES);
}

int sp_dir_open_write(int dir_fd, const char *name, int flags)
{
    int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC | O_DIRECT | flags, 0600);
    if (fd >= 0 || errno != EINVAL)
        return fd;
    /* The file system has no O_DIRECT. Some make the file before they say so. */
    if (flags & O_EXCL)
        unlinkat(dir_fd, name, 0);
    return openat(dir_fd, name, O_WRONLY | O_CLOEXEC | flags, 0600);
}

/* Accepted at open, refused at a write (a device with larger sectors, a stacked file system): goes
 * on without. false when it was not O_DIRECT that was refused. */
static bool give_up_direct(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_DIRECT) && fcntl(fd, F_SETFL, flags & ~O_DIRECT) == 0;
}

bool sp_dir_zero(int fd, uint32_t first_block, uint32_t count)
{
    static _Alignas(SP_UNIT_BLOCK_BYTES) uint8_t zeros[ZERO_BLOCKS * SP_UNIT_BLOCK_BYTES];
    uint64_t at = (uint64_t)first_block * SP_UNIT_BLOCK_BYTES;
    uint64_t end = at + (uint64_t)count * SP_UNIT_BLOCK_BYTES;
    unsigned stuck = 0;
    while (at < end) {
        size_t len = end - at < sizeof zeros ? (size_t)(end - at) : sizeof zeros;
        ssize_t n = pwrite(fd, zeros, len, (off_t)at);
        if (n < 0 && errno == EINVAL && give_up_direct(fd))
            continue;
        if (n < 0 && errno != EINTR)
            return false;
        /* O_DIRECT goes on at a whole block. */
        size_t whole = n > 0 ? (size_t)n / SP_UNIT_BLOCK_BYTES * SP_UNIT_BLOCK_BYTES : 0;
        stuck = whole ? 0 : stuck + 1;
        if (stuck > SHORT_MAX) {
            errno = EIO;
            return false;
        }
        at += whole;
    }
    return true;
}

/* ---- Files open for writing: changed by the worker alone, read by check, hence the lock ---- */

static struct sp_dir_file *find_file(struct sp_dir *dir, uint64_t segment, uint32_t generation)
{
    for (size_t i = 0; i < SP_DIR_FILES_MAX; i++) {
        struct sp_dir_file *f = &dir->files[i];
        if (f->fd >= 0 && f->segment == segment && f->generation == generation)
            return f;
    }
    return NULL;
}

static void drop_file(struct sp_dir *dir, uint64_t segment, uint32_t generation)
{
    struct sp_dir_file *file = find_file(dir, segment, generation);
    if (!file)
        return;
    pthread_mutex_lock(&dir->lock);
    int fd = file->fd;
    file->fd = -1;
    pthread_mutex_unlock(&dir->lock);
    close(fd);
}

/* Takes fd over in any case. NULL and errno. */
static struct sp_dir_file *keep_file(struct sp_dir *dir, uint64_t segment, uint32_t generation,
                                     int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return NULL;
    }
    struct sp_dir_file *slot = &dir->files[0];
    for (size_t i = 0; i < SP_DIR_FILES_MAX && slot->fd >= 0; i++)
        if (dir->files[i].fd < 0 || dir->files[i].used < slot->used)
            slot = &dir->files[i];
    pthread_mutex_lock(&dir->lock);
    int old = slot->fd;
    *slot = (struct sp_dir_file){
        .fd = fd,
        .segment = segment,
        .generation = generation,
        .blocks = (uint32_t)(st.st_size / SP_UNIT_BLOCK_BYTES),
        .dev = st.st_dev,
        .ino = st.st_ino,
        .used = ++dir->files_used,
    };
    pthread_mutex_unlock(&dir->lock);
    if (old >= 0)
        close(old);
    return slot;
}

static enum sp_status open_file(struct sp_dir *dir, uint64_t segment, uint32_t generation,
                                struct sp_dir_file **ret_file, struct sp_error *error)
{
    struct sp_dir_file *file = find_file(dir, segment, generation);
    if (!file) {
        char name[SP_DIR_NAME_BYTES];
        sp_dir_segment_name(segment, generation, "", name);
        int fd = sp_dir_open_write(dir->segments_fd, name, 0);
        if (fd >= 0)
            file = keep_file(dir, segment, generation, fd);
        if (!file)
            return sp_dir_fail(dir, error, errno, "cannot open", name);
    }
    file->used = ++dir->files_used;
    *ret_file = file;
    return SP_OK;
}

/* ---- Jobs ---- */

/* Making a file fails with ENOENT only when its directory has been removed. */
static int gone(int number)
{
    return number == ENOENT ? ESTALE : number;
}

static ssize_t write_durably(struct sp_dir *dir, int fd, const uint8_t *bytes, size_t len, off_t at)
{
    if (!dir->no_dsync) {
        struct iovec piece = {(void *)(uintptr_t)bytes, len};
        ssize_t n = pwritev2(fd, &piece, 1, at, RWF_DSYNC);
        if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS))
            return n;
        dir->no_dsync = true;
    }
    return pwrite(fd, bytes, len, at);
}

/* Writes all of it; false and errno. */
static bool write_whole(struct sp_dir *dir, struct sp_dir_file *file, const uint8_t *bytes,
                        size_t len, off_t at)
{
    unsigned stuck = 0;
    while (len) {
        ssize_t n = write_durably(dir, file->fd, bytes, len, at);
        if (n < 0 && errno == EINVAL && give_up_direct(file->fd))
            continue;
        if (n < 0 && errno != EINTR)
            return false;
        size_t whole = n > 0 ? (size_t)n / SP_UNIT_BLOCK_BYTES * SP_UNIT_BLOCK_BYTES : 0;
        stuck = whole ? 0 : stuck + 1;
        if (stuck > SHORT_MAX) {
            errno = EIO;
            return false;
        }
        bytes += whole;
        len -= whole;
        at += (off_t)whole;
    }
    return !dir->no_dsync || fdatasync(file->fd) == 0;
}

static enum sp_status run_write(struct sp_dir *dir, const struct sp_dir_job *job,
                                struct sp_error *error)
{
    struct sp_dir_file *file = NULL;
    char name[SP_DIR_NAME_BYTES];
    enum sp_status status = open_file(dir, job->segment, job->generation, &file, error);
    if (status != SP_OK)
        return status;
    uint32_t end = job->first_block + job->count;
    sp_dir_segment_name(job->segment, job->generation, "", name);
    /* Beyond what was prepared: prepare the next stretch as well, so that the writes that follow
     * touch no metadata. Where there is no room for that, there may still be for the blocks
     * themselves. Long writes (a segment copied from a twin) gain nothing from it. */
    if (end > file->blocks && job->count < SP_DIR_QUICK_BLOCKS &&
        end <= UINT32_MAX - SP_DIR_QUICK_BLOCKS) {
        if (sp_dir_zero(file->fd, end, SP_DIR_QUICK_BLOCKS)) {
            if (fdatasync(file->fd) != 0)
                return sp_dir_fail(dir, error, errno, "cannot extend", name);
            file->blocks = end + SP_DIR_QUICK_BLOCKS;
        } else if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG) {
            return sp_dir_fail(dir, error, errno, "cannot extend", name);
        }
    }
    if (!write_whole(dir, file, job->bytes, job->len, offset_of(job->first_block)))
        return sp_dir_fail(dir, error, errno, "cannot write", name);
    if (end > file->blocks)
        file->blocks = end;
    return SP_OK;
}

/* A file with zeros on disk under a passing name. Returns its fd, or -1 and errno. */
static int prepare_quickly(struct sp_dir *dir, const char *name, uint32_t blocks)
{
    unlinkat(dir->segments_fd, name, 0);
    int fd = sp_dir_open_write(dir->segments_fd, name, O_CREAT | O_EXCL);
    if (fd < 0)
        return -1;
    uint32_t count = blocks < SP_DIR_QUICK_BLOCKS ? blocks : SP_DIR_QUICK_BLOCKS;
    if (sp_dir_zero(fd, 0, count) && fsync(fd) == 0)
        return fd;
    int saved = errno;
    close(fd);
    unlinkat(dir->segments_fd, name, 0);
    errno = saved;
    return -1;
}

/* Renames without replacing. */
static int rename_new(int dir_fd, const char *from, const char *to)
{
    if (renameat2(dir_fd, from, dir_fd, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP)
        return -1;
    /* The unit is locked, so nobody makes the name between the two calls. */
    if (faccessat(dir_fd, to, F_OK, 0) == 0) {
        errno = EEXIST;
        return -1;
    }
    return renameat(dir_fd, from, dir_fd, to);
}

/* Takes the prepared file if it is ready, and else a short one made now. Returns its fd under its
 * final name, or -1 and errno. */
static int make_segment(struct sp_dir *dir, const struct sp_dir_job *job, const char *name)
{
    char passing[SP_DIR_NAME_BYTES];
    int fd = sp_dir_preparer_take(dir->preparer, job->segment, job->generation);
    if (fd >= 0) {
        sp_dir_segment_name(job->segment, job->generation, ".tmp", passing);
        if (rename_new(dir->segments_fd, passing, name) == 0)
            return fd;
        int saved = errno;
        close(fd);
        unlinkat(dir->segments_fd, passing, 0);
        errno = saved;
        if (errno != ENOENT) /* somebody tidied up */
            return -1;
    }
    sp_dir_segment_name(job->segment, job->generation, ".new.tmp", passing);
    fd = prepare_quickly(dir, passing, job->count);
    if (fd < 0 || rename_new(dir->segments_fd, passing, name) == 0)
        return fd;
    int saved = errno;
    close(fd);
    unlinkat(dir->segments_fd, passing, 0);
    errno = saved;
    return -1;
}

static enum sp_status run_create(struct sp_dir *dir, const struct sp_dir_job *job,
                                 struct sp_error *error)
{
    char name[SP_DIR_NAME_BYTES];
    sp_dir_segment_name(job->segment, job->generation, "", name);
    int fd = make_segment(dir, job, name);
    if (fd < 0)
        return sp_dir_fail(dir, error, gone(errno), "cannot make", name);
    sp_dir_cache_forget(dir, job->segment, job->generation);
    if (!keep_file(dir, job->segment, job->generation, fd) || fsync(dir->segments_fd) != 0)
        return sp_dir_fail(dir, error, errno, "cannot make", name);
    return SP_OK;
}

static enum sp_status run_seal(struct sp_dir *dir, const struct sp_dir_job *job,
                               struct sp_error *error)
{
    struct sp_dir_file *file = NULL;
    struct stat st;
    char name[SP_DIR_NAME_BYTES];
    enum sp_status status = open_file(dir, job->segment, job->generation, &file, error);
    if (status != SP_OK)
        return status;
    sp_dir_segment_name(job->segment, job->generation, "", name);
    if (fstat(file->fd, &st) != 0)
        return sp_dir_fail(dir, error, errno, "cannot seal", name);
    if (st.st_size < offset_of(job->count)) {
        char what[80];
        snprintf(what, sizeof what, "unit %s", dir->unit.name);
        return sp_error_set(error, SP_NOT_FOUND, what, "cannot cut %s to %u blocks: it has fewer",
                            name, job->count);
    }
    if (ftruncate(file->fd, offset_of(job->count)) != 0 || fsync(file->fd) != 0)
        return sp_dir_fail(dir, error, errno, "cannot seal", name);
    drop_file(dir, job->segment, job->generation);
    return SP_OK;
}

static enum sp_status run_remove(struct sp_dir *dir, const struct sp_dir_job *job,
                                 struct sp_error *error)
{
    char name[SP_DIR_NAME_BYTES];
    sp_dir_segment_name(job->segment, job->generation, "", name);
    drop_file(dir, job->segment, job->generation);
    if (unlinkat(dir->segments_fd, name, 0) != 0)
        return sp_dir_fail(dir, error, errno, "cannot remove", name);
    sp_dir_cache_forget(dir, job->segment, job->generation);
    if (fsync(dir->segments_fd) != 0)
        return sp_dir_fail(dir, error, errno, "cannot remove", name);
    return SP_OK;
}

static enum sp_status run_vote(struct sp_dir *dir, const struct sp_dir_job *job,
                               struct sp_error *error)
{
    static const char passing[] = "vote.tmp";
    enum sp_status status = SP_OK;
    size_t done = 0;
    int fd = openat(dir->root_fd, passing, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return sp_dir_fail(dir, error, gone(errno), "cannot write", "vote");
    while (done < job->len) {
        ssize_t n = write(fd, job->bytes + done, job->len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (done < job->len || fsync(fd) != 0 ||
        renameat(dir->root_fd, passing, dir->root_fd, "vote") != 0 || fsync(dir->root_fd) != 0)
        status = sp_dir_fail(dir, error, gone(errno), "cannot write", "vote");
    close(fd);
    return status;
}

enum sp_status sp_dir_run(struct sp_dir *dir, const struct sp_dir_job *job, struct sp_error *error)
{
    switch (job->kind) {
    case SP_DIR_WRITE:
        return run_write(dir, job, error);
    case SP_DIR_CREATE:
        return run_create(dir, job, error);
    case SP_DIR_SEAL:
        return run_seal(dir, job, error);
    case SP_DIR_REMOVE:
        return run_remove(dir, job, error);
    case SP_DIR_VOTE:
        break;
    }
    return run_vote(dir, job, error);
}
