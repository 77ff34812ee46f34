#include "unit/dir_internal.h"
#include "unit/domain.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

void sp_dir_segment_name(uint64_t segment, uint32_t generation, const char *suffix,
                         char ret_name[SP_DIR_NAME_BYTES])
{
    snprintf(ret_name, SP_DIR_NAME_BYTES, "%016" PRIx64 ".%04" PRIx32 ".%s%s", segment,
             generation & ~SP_UNIT_PARITY, generation & SP_UNIT_PARITY ? "par" : "seg", suffix);
}

/* Only the names we write ourselves, so that no file is taken for two segments. */
static bool parse_segment_name(const char *text, bool sidecar, uint64_t *ret_segment,
                               uint32_t *ret_generation)
{
    char again[SP_DIR_NAME_BYTES], *end;
    if (strlen(text) < 25 || text[16] != '.')
        return false;
    unsigned long long segment = strtoull(text, &end, 16);
    if (end != text + 16)
        return false;
    unsigned long generation = strtoul(text + 17, &end, 16);
    if (generation >= SP_UNIT_PARITY)
        return false;
    if (sidecar)
        generation |= SP_UNIT_PARITY;
    sp_dir_segment_name(segment, (uint32_t)generation, "", again);
    if (strcmp(text, again) != 0)
        return false;
    *ret_segment = segment;
    *ret_generation = (uint32_t)generation;
    return true;
}

static void what(const char *name, char ret_what[80])
{
    snprintf(ret_what, 80, "unit %s", name);
}

static enum sp_status status_of(int number)
{
    switch (number) {
    case ENOENT:
        return SP_NOT_FOUND;
    case EEXIST:
        return SP_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return SP_NO_SPACE;
    case ESTALE:
        return SP_UNAVAILABLE;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return SP_NO_MEMORY;
    default:
        return SP_IO;
    }
}

enum sp_status sp_dir_fail(const struct sp_dir *dir, struct sp_error *error, int number,
                           const char *action, const char *name)
{
    char whose[80], text[128];
    what(dir->unit.name, whose);
    return sp_error_set(error, status_of(number), whose, "%s %s in %s: %s", action, name, dir->path,
                        strerror_r(number, text, sizeof text));
}

/* ---- Listing and looking ---- */

static int compare_segments(const void *left, const void *right)
{
    const struct sp_unit_segment *a = left, *b = right;
    if (a->segment != b->segment)
        return a->segment < b->segment ? -1 : 1;
    return a->generation < b->generation ? -1 : a->generation > b->generation;
}

static DIR *open_listing(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    DIR *listing = fdopendir(fd);
    if (!listing)
        close(fd);
    return listing;
}

static enum sp_status list_files(struct sp_unit *unit, bool sidecars,
                                 struct sp_unit_segment **ret_list, size_t *ret_count,
                                 struct sp_error *error)
{
    struct sp_dir *dir = sp_dir(unit);
    struct sp_unit_segment *found = NULL;
    size_t count = 0, capacity = 0;
    enum sp_status status = SP_OK;
    DIR *listing = open_listing(dir->segments_fd);
    if (!listing)
        return sp_dir_fail(dir, error, errno, "cannot list", "segments");
    for (;;) {
        struct sp_unit_segment s = {0};
        struct stat st;
        errno = 0;
        struct dirent *entry = readdir(listing);
        if (!entry) {
            if (errno)
                status = sp_dir_fail(dir, error, errno, "cannot list", "segments");
            break;
        }
        if (!parse_segment_name(entry->d_name, sidecars, &s.segment, &s.generation))
            continue;
        if (fstatat(dir->segments_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT)
                continue; /* removed meanwhile */
            status = sp_dir_fail(dir, error, errno, "cannot look at", entry->d_name);
            break;
        }
        uint64_t blocks = (uint64_t)st.st_size / SP_UNIT_BLOCK_BYTES;
        if (!S_ISREG(st.st_mode) || blocks > UINT32_MAX)
            continue;
        s.blocks = (uint32_t)blocks;
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            struct sp_unit_segment *grown = realloc(found, capacity * sizeof *grown);
            if (!grown) {
                status = sp_dir_fail(dir, error, ENOMEM, "cannot list", "segments");
                break;
            }
            found = grown;
        }
        found[count++] = s;
    }
    closedir(listing);
    if (status != SP_OK) {
        free(found);
        return status;
    }
    if (count)
        qsort(found, count, sizeof *found, compare_segments);
    *ret_list = found;
    *ret_count = count;
    return SP_OK;
}

static enum sp_status list(struct sp_unit *unit, struct sp_unit_segment **ret_list,
                           size_t *ret_count, struct sp_error *error)
{
    return list_files(unit, false, ret_list, ret_count, error);
}

static enum sp_status list_sidecars(struct sp_unit *unit, struct sp_unit_segment **ret_list,
                                    size_t *ret_count, struct sp_error *error)
{
    return list_files(unit, true, ret_list, ret_count, error);
}

static void prepare(struct sp_unit *unit, uint64_t segment, uint32_t generation, uint32_t blocks)
{
    sp_dir_preparer_ask(sp_dir(unit)->preparer, segment, generation, blocks);
}

static enum sp_status vote_read(struct sp_unit *unit, uint8_t **ret_bytes, size_t *ret_len,
                                struct sp_error *error)
{
    struct sp_dir *dir = sp_dir(unit);
    enum sp_status status = SP_OK;
    size_t len = 0;
    int fd = openat(dir->root_fd, "vote", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return sp_dir_fail(dir, error, errno, "cannot read", "vote");
    uint8_t *bytes = malloc(SP_UNIT_VOTE_MAX + 1);
    if (!bytes) {
        close(fd);
        return sp_dir_fail(dir, error, ENOMEM, "cannot read", "vote");
    }
    for (;;) {
        ssize_t n = read(fd, bytes + len, SP_UNIT_VOTE_MAX + 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status = sp_dir_fail(dir, error, errno, "cannot read", "vote");
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    close(fd);
    if (status == SP_OK && len > SP_UNIT_VOTE_MAX) {
        char whose[80];
        what(unit->name, whose);
        status =
            sp_error_set(error, SP_CORRUPT, whose, "%s/vote is too long to be a vote", dir->path);
    }
    if (status != SP_OK) {
        free(bytes);
        return status;
    }
    *ret_bytes = bytes;
    *ret_len = len;
    return SP_OK;
}

static enum sp_status lost(const struct sp_dir *dir, struct sp_error *error, const char *file,
                           const char *why)
{
    char whose[80];
    what(dir->unit.name, whose);
    enum sp_status status =
        sp_error_set(error, SP_UNAVAILABLE, whose, "%s/%s %s", dir->path, file, why);
    sp_error_todo(error, "see whether its disk is still mounted and nothing was moved or deleted");
    return status;
}

/* Whether the path leads to the file; by the path from the root, since that is how it will be
 * looked for after the next start. */
static enum sp_status check_path(const struct sp_dir *dir, const char *file, dev_t dev, ino_t ino,
                                 struct sp_error *error)
{
    char path[4096];
    struct stat st;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir->path, file) >= sizeof path)
        return sp_dir_fail(dir, error, ENAMETOOLONG, "cannot look at", file);
    if (stat(path, &st) != 0)
        return errno == ENOENT || errno == ENOTDIR || errno == ESTALE
                   ? lost(dir, error, file, "is gone")
                   : sp_dir_fail(dir, error, errno, "cannot look at", file);
    if (st.st_dev != dev || st.st_ino != ino)
        return lost(dir, error, file, "is another file than the one that was opened");
    return SP_OK;
}

/* A spare's file system may have become read-only long before the spare is needed. */
static enum sp_status check_writable(const struct sp_dir *dir, struct sp_error *error)
{
    struct statvfs st;
    if (fstatvfs(dir->root_fd, &st) != 0 || !(st.f_flag & ST_RDONLY))
        return SP_OK;
    char whose[80];
    what(dir->unit.name, whose);
    sp_error_set(error, SP_UNAVAILABLE, whose, "the file system of %s is read-only", dir->path);
    sp_error_todo(error, "see in the kernel's log whether its disk failed");
    return SP_UNAVAILABLE;
}

static enum sp_status check(struct sp_unit *unit, struct sp_error *error)
{
    struct sp_dir *dir = sp_dir(unit);
    enum sp_status status = check_path(dir, "unit.id", dir->id_dev, dir->id_ino, error);
    if (status == SP_OK)
        status = check_writable(dir, error);
    for (size_t i = 0; i < SP_DIR_FILES_MAX && status == SP_OK; i++) {
        const struct sp_dir_file *from = &dir->files[i];
        pthread_mutex_lock(&dir->lock);
        /* Not its length or age: the worker changes those without the lock. */
        struct sp_dir_file file = {.fd = from->fd,
                                   .segment = from->segment,
                                   .generation = from->generation,
                                   .dev = from->dev,
                                   .ino = from->ino};
        pthread_mutex_unlock(&dir->lock);
        if (file.fd < 0 || file.generation & SP_UNIT_PARITY)
            continue; /* nothing depends on a sidecar: one that is lost is made again */
        char name[SP_DIR_NAME_BYTES], path[SP_DIR_NAME_BYTES + 16];
        sp_dir_segment_name(file.segment, file.generation, "", name);
        snprintf(path, sizeof path, "segments/%s", name);
        struct sp_error found = {0};
        enum sp_status here = check_path(dir, path, file.dev, file.ino, &found);
        if (here == SP_OK)
            continue;
        /* Unless we closed or removed it ourselves meanwhile. */
        pthread_mutex_lock(&dir->lock);
        bool still = from->fd >= 0 && from->ino == file.ino && from->segment == file.segment;
        pthread_mutex_unlock(&dir->lock);
        if (still) {
            status = here;
            if (error)
                *error = found;
        }
    }
    return status;
}

static enum sp_status space(struct sp_unit *unit, uint64_t *ret_free_bytes, struct sp_error *error)
{
    struct sp_dir *dir = sp_dir(unit);
    struct statvfs st;
    if (fstatvfs(dir->segments_fd, &st) != 0)
        return sp_dir_fail(dir, error, errno, "cannot ask for the space left", "segments");
    *ret_free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return SP_OK;
}

/* ---- Opening ---- */

static const struct sp_unit_ops dir_ops = {
    .kind = "dir",
    .list = list,
    .list_sidecars = list_sidecars,
    .create = sp_dir_create,
    .prepare = prepare,
    .write_start = sp_dir_write_start,
    .wait = sp_dir_wait,
    .read = sp_dir_read,
    .seal = sp_dir_seal,
    .remove = sp_dir_remove,
    .vote_read = vote_read,
    .vote_write = sp_dir_vote_write,
    .check = check,
    .forget = sp_dir_forget,
    .space = space,
    .close = sp_dir_close,
};

/* Everything but the worker's thread, lock and conditions. */
static void free_parts(struct sp_dir *dir)
{
    sp_dir_preparer_free(dir->preparer);
    sp_dir_cache_release(dir);
    for (size_t i = 0; i < SP_DIR_FILES_MAX; i++)
        if (dir->files[i].fd >= 0)
            close(dir->files[i].fd);
    if (dir->segments_fd >= 0)
        close(dir->segments_fd);
    if (dir->root_fd >= 0)
        close(dir->root_fd);
    if (dir->id_fd >= 0)
        close(dir->id_fd); /* and with it the lock */
    free(dir->path);
    free(dir);
}

void sp_dir_free(struct sp_dir *dir)
{
    pthread_mutex_destroy(&dir->lock);
    pthread_cond_destroy(&dir->work);
    pthread_cond_destroy(&dir->done);
    free_parts(dir);
}

/* Files that were being made when the unit was last closed. */
static void remove_passing(int dir_fd)
{
    DIR *listing = open_listing(dir_fd);
    if (!listing)
        return;
    for (struct dirent *entry; (entry = readdir(listing));) {
        size_t len = strlen(entry->d_name);
        if (len > 4 && strcmp(entry->d_name + len - 4, ".tmp") == 0)
            unlinkat(dir_fd, entry->d_name, 0);
    }
    closedir(listing);
}

static void find_domain(const struct sp_dir *dir, char ret_domain[SP_UNIT_DOMAIN_MAX])
{
    static const struct sp_domain_view view = {"/sys", "/proc/self/mountinfo"};
    char link[40], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir->root_fd);
    ssize_t n = readlink(link, path, sizeof path - 1); /* without links in it */
    path[n > 0 ? n : 0] = '\0';
    sp_unit_domain_of(&view, n > 0 ? path : dir->path, ret_domain);
}

static char *absolute(const char *path)
{
    char *result = NULL;
    if (path[0] == '/')
        return strdup(path);
    char *here = get_current_dir_name();
    if (here && asprintf(&result, "%s/%s", here, path) < 0)
        result = NULL;
    free(here);
    return result;
}

/* Opens and locks the directory and reads unit.id. */
static enum sp_status open_root(struct sp_dir *dir, struct sp_error *error)
{
    char whose[80];
    struct stat st;
    what(dir->unit.name, whose);
    dir->root_fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->root_fd >= 0)
        dir->id_fd = openat(dir->root_fd, "unit.id", O_RDONLY | O_CLOEXEC);
    if (dir->id_fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        sp_error_set(error, SP_UNAVAILABLE, whose, "there is no unit in %s: %s is missing",
                     dir->path, dir->root_fd < 0 ? "the directory" : "unit.id");
        sp_error_todo(error, "mount its disk, or correct the path in the configuration");
        return SP_UNAVAILABLE;
    }
    if (dir->id_fd < 0)
        return sp_dir_fail(dir, error, errno, "cannot open", "unit.id");
    if (flock(dir->id_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return sp_dir_fail(dir, error, errno, "cannot lock", "unit.id");
        sp_error_set(error, SP_CONFLICT, whose, "%s is in use by another process", dir->path);
        sp_error_todo(error, "stop the other server, or wait until its last write has ended");
        return SP_CONFLICT;
    }
    if (fstat(dir->id_fd, &st) != 0)
        return sp_dir_fail(dir, error, errno, "cannot look at", "unit.id");
    dir->id_dev = st.st_dev;
    dir->id_ino = st.st_ino;
    find_domain(dir, dir->unit.domain);
    return sp_dir_read_id(dir, error);
}

enum sp_status sp_unit_dir_open(const char *path, const char *name,
                                const struct sp_uuid *expected_id, struct sp_unit **ret_unit,
                                struct sp_error *error)
{
    char whose[80], text[SP_UUID_TEXT];
    enum sp_status status;
    struct sp_dir *dir = calloc(1, sizeof *dir);
    what(name, whose);
    if (!dir)
        return sp_error_set(error, SP_NO_MEMORY, whose, "no memory");
    dir->unit.ops = &dir_ops;
    snprintf(dir->unit.name, sizeof dir->unit.name, "%s", name);
    dir->root_fd = dir->id_fd = dir->segments_fd = -1;
    for (size_t i = 0; i < SP_DIR_FILES_MAX; i++)
        dir->files[i].fd = -1;
    sp_dir_cache_init(dir);
    dir->path = absolute(path);
    status = dir->path
                 ? open_root(dir, error)
                 : sp_error_set(error, SP_NO_MEMORY, whose, "no memory, or no working directory");
    if (status != SP_OK)
        goto fail;
    if (expected_id && !sp_uuid_eq(expected_id, &dir->unit.id)) {
        sp_uuid_text(&dir->unit.id, text);
        status =
            sp_error_set(error, SP_INVALID, whose, "%s holds another unit, %s", dir->path, text);
        sp_error_todo(error,
                      "mount the right disk there, or correct the path in the configuration");
        goto fail;
    }
    dir->segments_fd = openat(dir->root_fd, "segments", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->segments_fd < 0) {
        bool none = errno == ENOENT || errno == ENOTDIR;
        status = sp_dir_fail(dir, error, errno, "cannot open", "segments");
        if (none) {
            status = sp_error_set(error, SP_UNAVAILABLE, whose,
                                  "what it kept is gone: %s/segments is missing", dir->path);
            sp_error_todo(error, "put another unit in its place");
        }
        goto fail;
    }
    remove_passing(dir->root_fd);
    remove_passing(dir->segments_fd);
    dir->preparer = sp_dir_preparer_new(dir->segments_fd);
    if (!dir->preparer || sp_dir_worker_start(dir) != SP_OK) {
        status = sp_error_set(error, SP_NO_MEMORY, whose, "cannot start its threads");
        goto fail;
    }
    *ret_unit = &dir->unit;
    return SP_OK;
fail:
    free_parts(dir);
    return status;
}
