/* That nothing is called done before it is on the disk: the `dir` unit's system calls are watched,
 * and when a call returns, every file and directory that it concerns must have been synced since it
 * was last changed. (--wrap, with the names that calls have where offsets are 64 bits: see
 * meson.build.) */
#include "unit/dir.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- The watch ---- */

#define DIRTY_MAX 256U

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ino_t dirty[DIRTY_MAX]; /* changed, and not synced since */
static size_t dirty_count;
static unsigned changes;    /* since the test began */
static bool fail_next_sync; /* a write that is to be durable, or a sync, fails once */

static void mark(int fd, bool is_dirty)
{
    struct stat st;
    pthread_mutex_lock(&lock);
    if (fstat(fd, &st) == 0) {
        size_t at = 0;
        while (at < dirty_count && dirty[at] != st.st_ino)
            at++;
        changes += is_dirty;
        if (is_dirty && at == dirty_count && dirty_count < DIRTY_MAX)
            dirty[dirty_count++] = st.st_ino;
        else if (!is_dirty && at < dirty_count)
            dirty[at] = dirty[--dirty_count];
    }
    pthread_mutex_unlock(&lock);
}

static bool fails(void)
{
    pthread_mutex_lock(&lock);
    bool now = fail_next_sync;
    fail_next_sync = false;
    pthread_mutex_unlock(&lock);
    if (now)
        errno = EIO;
    return now;
}

int __real_fsync(int fd);
int __real_fdatasync(int fd);
ssize_t __real_write(int fd, const void *bytes, size_t len);
ssize_t __real_pwrite64(int fd, const void *bytes, size_t len, off_t at);
ssize_t __real_pwritev64v2(int fd, const struct iovec *pieces, int count, off_t at, int flags);
int __real_ftruncate64(int fd, off_t len);
int __real_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __real_unlinkat(int fd, const char *name, int flags);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
ssize_t __wrap_write(int fd, const void *bytes, size_t len);
ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t len, off_t at);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *pieces, int count, off_t at, int flags);
int __wrap_ftruncate64(int fd, off_t len);
int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_unlinkat(int fd, const char *name, int flags);

int __wrap_fsync(int fd)
{
    if (fails())
        return -1;
    int rc = __real_fsync(fd);
    if (rc == 0)
        mark(fd, false);
    return rc;
}

int __wrap_fdatasync(int fd)
{
    if (fails())
        return -1;
    int rc = __real_fdatasync(fd);
    if (rc == 0)
        mark(fd, false);
    return rc;
}

ssize_t __wrap_write(int fd, const void *bytes, size_t len)
{
    mark(fd, true);
    return __real_write(fd, bytes, len);
}

ssize_t __wrap_pwrite64(int fd, const void *bytes, size_t len, off_t at)
{
    mark(fd, true);
    return __real_pwrite64(fd, bytes, len, at);
}

/* A write with RWF_DSYNC is on the disk when it returns; it says nothing of writes before it. */
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *pieces, int count, off_t at, int flags)
{
    if (flags & RWF_DSYNC && fails())
        return -1;
    if (!(flags & RWF_DSYNC))
        mark(fd, true);
    pthread_mutex_lock(&lock);
    changes++;
    pthread_mutex_unlock(&lock);
    return __real_pwritev64v2(fd, pieces, count, at, flags);
}

int __wrap_ftruncate64(int fd, off_t len)
{
    mark(fd, true);
    return __real_ftruncate64(fd, len);
}

int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    mark(to_fd, true);
    return __real_renameat(from_fd, from, to_fd, to);
}

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    mark(to_fd, true);
    return __real_renameat2(from_fd, from, to_fd, to, flags);
}

int __wrap_unlinkat(int fd, const char *name, int flags)
{
    /* What was only passing need not be gone for good. */
    size_t len = strlen(name);
    if (len < 4 || strcmp(name + len - 4, ".tmp") != 0)
        mark(fd, true);
    return __real_unlinkat(fd, name, flags);
}

/* ---- The tests ---- */

static char base[256];
static struct sp_unit *unit;
static struct sp_error error;
static uint8_t *blocks;

static bool is_clean(const char *rest)
{
    char path[512];
    struct stat st;
    bool clean = true;
    snprintf(path, sizeof path, "%s/u%s", base, rest);
    if (stat(path, &st) != 0)
        return true;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < dirty_count; i++)
        clean &= dirty[i] != st.st_ino;
    pthread_mutex_unlock(&lock);
    return clean;
}

static void assert_durable(void)
{
    assert_true(is_clean(""));
    assert_true(is_clean("/unit.id"));
    assert_true(is_clean("/vote"));
    assert_true(is_clean("/segments"));
    assert_true(is_clean("/segments/0000000000000001.0000.seg"));
    assert_true(is_clean("/segments/0000000000000002.0000.seg"));
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static int setup(void **state)
{
    static const struct sp_uuid volume = {{1, 2, 3}};
    struct sp_uuid id;
    char path[512];
    const char *where = getenv("TMPDIR");
    (void)state;
    snprintf(base, sizeof base, "%s/sternpost-syncs-XXXXXX", where ? where : "/tmp");
    if (!mkdtemp(base) || posix_memalign((void **)&blocks, 4096, 64 * 4096))
        return -1;
    memset(blocks, 7, 64 * 4096);
    snprintf(path, sizeof path, "%s/u", base);
    dirty_count = 0;
    if (sp_unit_dir_init(path, &volume, &id, &error))
        return -1;
    assert_durable();
    return sp_unit_dir_open(path, "a", &id, &unit, &error) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    unit->ops->close(unit);
    free(blocks);
    return nftw(base, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static enum sp_status write_blocks(uint64_t segment, uint32_t first, uint32_t count)
{
    enum sp_status status;
    unit->ops->write_start(unit, segment, 0, first, blocks, count);
    do
        status = unit->ops->wait(unit, 1000, &error);
    while (status == SP_TIMEOUT);
    return status;
}

static void test_segments(void **state)
{
    (void)state;
    for (uint64_t segment = 1; segment <= 2; segment++) {
        assert_int_equal(unit->ops->create(unit, segment, 0, 16, &error), SP_OK);
        assert_durable();
        /* Within what was prepared, over its end, far behind it. */
        static const uint32_t at[][2] = {{0, 1}, {1, 4}, {14, 10}, {300, 3}, {303, 60}};
        for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
            unsigned before = changes;
            assert_int_equal(write_blocks(segment, at[i][0], at[i][1]), SP_OK);
            assert_true(changes > before);
            assert_durable();
        }
        assert_int_equal(unit->ops->seal(unit, segment, 0, 363, &error), SP_OK);
        assert_durable();
    }
    assert_int_equal(unit->ops->remove(unit, 1, 0, &error), SP_OK);
    assert_durable();
}

static void test_votes(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(unit->ops->vote_write(unit, sp_slice(blocks, 4116), &error), SP_OK);
        assert_durable();
    }
}

/* A sync that failed is final: the unit writes nothing any more (the kernel may have dropped what
 * it could not write, and would say that all is well the next time). */
static void test_failed_sync_is_final(void **state)
{
    (void)state;
    assert_int_equal(unit->ops->create(unit, 1, 0, 16, &error), SP_OK);
    assert_int_equal(write_blocks(1, 0, 1), SP_OK);
    fail_next_sync = true;
    assert_int_equal(write_blocks(1, 1, 1), SP_IO);
    assert_false(fail_next_sync);
    unsigned before = changes;
    assert_int_equal(write_blocks(1, 1, 1), SP_IO);
    assert_int_equal(unit->ops->vote_write(unit, sp_slice(blocks, 4116), &error), SP_IO);
    assert_int_equal(unit->ops->create(unit, 2, 0, 16, &error), SP_IO);
    assert_int_equal(changes, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_votes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failed_sync_is_final, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
