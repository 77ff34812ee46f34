/* Power cuts under the index. Every write that LMDB makes to its file is recorded, and every sync;
 * at a moment chosen by the seed the power fails: each page that was written since the last sync is
 * then, by itself, any of what it was since, or torn between two. The index must stand exactly
 * where its checkpoint says, and rolled forward be the index that a rebuild makes. By seed:
 * --seed S runs one; --early S runs one in which a checkpoint's snapshot is let go too early. */
#include "store/checkpoint.h"
#include "store/index_internal.h"
#include "store/test_bench.h"
#include "store/volume_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE      4096U
#define PAGES_MAX 16384U
#define SECTOR    512U
#define LSNS_MAX  16384U

static struct sp_error error;
static uint64_t random_state;

static uint64_t rnd(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * UINT64_C(2685821657736338717) % below;
}

/* ---- The disk below the index ---- */

struct page {
    uint8_t **versions; /* what it was since the last sync, and before it; the last is what it is */
    uint32_t count;
};
enum survivors { SURVIVE_NONE, SURVIVE_ALL, SURVIVE_ANY, SURVIVE_TORN, SURVIVORS };
struct small_file {
    uint8_t bytes[3 * PAGE];
    ssize_t len; /* < 0: it is not there */
};

static struct {
    bool on;
    ino_t data, dir;
    struct page pages[PAGES_MAX];
    uint32_t count, durable_count;      /* pages */
    ino_t synced;                       /* the small file that was synced last */
    struct small_file mark, checkpoint; /* what is on the disk for certain */
    uint64_t operations, cut_at;        /* 0: not yet */
    void (*during_sync)(void);
    bool release_early;
    MDB_txn *reader; /* the last that was begun */
    MDB_txn *held;   /* that of the checkpoint under way */
    bool cut;        /* the power failed; what is left: */
    uint8_t *left;
    uint32_t left_pages;
    struct small_file left_mark, left_checkpoint;
} disk;

static void read_small(const char *name, struct small_file *ret)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", bench_index_path, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ret->len = fd < 0 ? -1 : read(fd, ret->bytes, sizeof ret->bytes);
    if (fd >= 0)
        close(fd);
}

static void write_small(const char *name, const struct small_file *file)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", bench_index_path, name);
    unlink(path);
    if (file->len < 0)
        return;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    sp_assert(fd >= 0 && write(fd, file->bytes, (size_t)file->len) == file->len);
    close(fd);
}

static void forget_pages(void)
{
    for (uint32_t i = 0; i < PAGES_MAX; i++) {
        for (uint32_t k = 0; k < disk.pages[i].count; k++)
            free(disk.pages[i].versions[k]);
        free(disk.pages[i].versions);
        disk.pages[i] = (struct page){0};
    }
    disk.count = disk.durable_count = 0;
}

static void add_version(uint32_t at, const uint8_t *bytes, uint32_t from, uint32_t len)
{
    sp_assert(at < PAGES_MAX);
    struct page *p = &disk.pages[at];
    if (p->count == 0) {
        p->versions = calloc(2, sizeof *p->versions);
        p->versions[p->count++] = calloc(1, PAGE);
    } else {
        p->versions = realloc(p->versions, (p->count + 1) * sizeof *p->versions);
    }
    uint8_t *page = malloc(PAGE);
    memcpy(page, p->versions[p->count - 1], PAGE);
    memcpy(page + from, bytes, len);
    p->versions[p->count++] = page;
    if (disk.count <= at)
        disk.count = at + 1;
}

static void cut_power(void);

static void operation(void)
{
    if (disk.on && !disk.cut && ++disk.operations == disk.cut_at)
        cut_power();
}

static bool is(int fd, ino_t inode)
{
    struct stat st;
    return disk.on && fstat(fd, &st) == 0 && st.st_ino == inode;
}

static void written(int fd, const uint8_t *bytes, size_t len, off_t at)
{
    struct stat st;
    if (!disk.on || disk.cut || fstat(fd, &st) != 0)
        return;
    char path[128];
    struct stat data;
    snprintf(path, sizeof path, "%s/data.mdb", bench_index_path);
    if (stat(path, &data) != 0 || data.st_ino != st.st_ino) {
        if (disk.synced == st.st_ino)
            disk.synced = 0;
        return;
    }
    if (data.st_ino != disk.data) { /* made anew */
        forget_pages();
        disk.data = data.st_ino;
    }
    while (len) {
        uint32_t from = (uint32_t)(at % PAGE), n = PAGE - from < len ? PAGE - from : (uint32_t)len;
        add_version((uint32_t)(at / PAGE), bytes, from, n);
        bytes += n;
        at += n;
        len -= n;
    }
    operation();
}

/* What was written before it began is on the disk when it returns; what comes meanwhile may not be.
 */
static void data_synced(void)
{
    static uint32_t before[PAGES_MAX];
    uint32_t count = disk.count;
    for (uint32_t i = 0; i < count; i++)
        before[i] = disk.pages[i].count;
    operation();
    if (disk.during_sync) {
        void (*during)(void) = disk.during_sync;
        disk.during_sync = NULL;
        during();
    }
    if (disk.cut)
        return;
    for (uint32_t i = 0; i < count; i++) {
        struct page *p = &disk.pages[i];
        for (uint32_t k = 0; k + 1 < before[i]; k++)
            free(p->versions[k]);
        if (before[i] > 1) {
            p->count -= before[i] - 1;
            memmove(p->versions, p->versions + before[i] - 1, p->count * sizeof *p->versions);
        }
    }
    disk.durable_count = count;
    operation();
}

/* Under the names that the library calls them by. */
ssize_t hook_pwrite(int fd, const void *bytes, size_t len, off_t at) __asm__("pwrite");
ssize_t hook_pwrite64(int fd, const void *bytes, size_t len, off_t at) __asm__("pwrite64");
ssize_t hook_writev(int fd, const struct iovec *pieces, int count) __asm__("writev");
int hook_fdatasync(int fd) __asm__("fdatasync");
int hook_fsync(int fd) __asm__("fsync");
int hook_sync_file_range(int fd, off_t at, off_t len, unsigned flags) __asm__("sync_file_range");
int hook_renameat(int from_fd, const char *from, int to_fd, const char *to) __asm__("renameat");
int __real_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **ret);
int __wrap_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **ret);

ssize_t hook_pwrite64(int fd, const void *bytes, size_t len, off_t at)
{
    ssize_t n = syscall(SYS_pwrite64, fd, bytes, len, at);
    if (n > 0)
        written(fd, bytes, (size_t)n, at);
    return n;
}

ssize_t hook_pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    return hook_pwrite64(fd, bytes, len, at);
}

ssize_t hook_writev(int fd, const struct iovec *pieces, int count)
{
    off_t at = disk.on ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t n = syscall(SYS_writev, fd, pieces, count);
    for (int i = 0; disk.on && n > 0 && i < count; i++) {
        written(fd, pieces[i].iov_base, pieces[i].iov_len, at);
        at += (off_t)pieces[i].iov_len;
    }
    return n;
}

int hook_fdatasync(int fd)
{
    if (is(fd, disk.data))
        data_synced();
    return 0;
}

int hook_fsync(int fd)
{
    struct stat st;
    if (!disk.on || disk.cut || fstat(fd, &st) != 0)
        return 0;
    if (st.st_ino == disk.data) {
        data_synced();
    } else if (st.st_ino == disk.dir) {
        operation();
        if (!disk.cut) {
            read_small("mark", &disk.mark);
            read_small("checkpoint", &disk.checkpoint);
        }
    } else {
        disk.synced = st.st_ino;
    }
    return 0;
}

/* It promises nothing of the file's metadata, nor of the disk's own cache. */
int hook_sync_file_range(int fd, off_t at, off_t len, unsigned flags)
{
    (void)fd, (void)at, (void)len, (void)flags;
    return 0;
}

int hook_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    struct stat st;
    bool small = disk.on && is(from_fd, disk.dir) && fstatat(from_fd, from, &st, 0) == 0;
    if (small && !disk.cut)
        sp_assert(st.st_ino == disk.synced); /* otherwise it could be there and empty */
    int rc = (int)syscall(SYS_renameat, from_fd, from, to_fd, to);
    if (small) {
        operation();
        if (disk.release_early && strcmp(to, "checkpoint") == 0)
            mdb_txn_reset(disk.held ? disk.held : disk.reader);
    }
    return rc;
}

int __wrap_mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **ret)
{
    int rc = __real_mdb_txn_begin(env, parent, flags, ret);
    if (!rc && flags & MDB_RDONLY)
        disk.reader = *ret;
    return rc;
}

/* ---- The power cut ---- */

static void choose_page(enum survivors survivors, const struct page *p, uint8_t *to)
{
    if (p->count == 0)
        return;
    uint32_t old = 0, new = p->count - 1;
    if (survivors == SURVIVE_NONE)
        new = 0;
    else if (survivors != SURVIVE_ALL)
        new = (uint32_t)rnd(p->count);
    memcpy(to, p->versions[new], PAGE);
    if (survivors != SURVIVE_TORN || new == old)
        return;
    old = (uint32_t)rnd(new);
    for (uint32_t at = 0; at < PAGE; at += SECTOR)
        if (rnd(2))
            memcpy(to + at, p->versions[old] + at, SECTOR);
}

static void cut_power(void)
{
    enum survivors survivors = (enum survivors)rnd(SURVIVORS);
    disk.left_pages = disk.durable_count;
    if (survivors != SURVIVE_NONE && disk.count > disk.durable_count)
        disk.left_pages += (uint32_t)rnd(disk.count - disk.durable_count + 1);
    disk.left = calloc(disk.left_pages + 1, PAGE);
    for (uint32_t i = 0; i < disk.left_pages; i++)
        choose_page(survivors, &disk.pages[i], disk.left + (size_t)i * PAGE);
    /* Of a small file that was replaced, either is there. */
    read_small("mark", &disk.left_mark);
    read_small("checkpoint", &disk.left_checkpoint);
    if (rnd(2))
        disk.left_mark = disk.mark;
    if (rnd(2))
        disk.left_checkpoint = disk.checkpoint;
    disk.cut = true;
}

/* From here on the disk is watched: the index is closed, and all of it is on the disk. */
static void begin_watch(void)
{
    struct stat st;
    char path[128];
    disk.on = true;
    disk.cut = false;
    disk.operations = 0;
    forget_pages();
    assert_int_equal(stat(bench_index_path, &st), 0);
    disk.dir = st.st_ino;
    disk.data = disk.synced = 0;
    read_small("mark", &disk.mark);
    read_small("checkpoint", &disk.checkpoint);
    snprintf(path, sizeof path, "%s/data.mdb", bench_index_path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    assert_int_equal(fstat(fd, &st), 0);
    disk.data = st.st_ino;
    for (uint32_t i = 0; i < (uint32_t)(st.st_size / PAGE); i++) {
        struct page *p = &disk.pages[i];
        p->versions = calloc(1, sizeof *p->versions);
        p->versions[p->count++] = malloc(PAGE);
        assert_int_equal(pread(fd, p->versions[0], PAGE, (off_t)i * PAGE), PAGE);
        disk.count = disk.durable_count = i + 1;
    }
    close(fd);
}

/* What is left takes the place of the files; another boot begins. */
static void end_watch(void)
{
    char path[128];
    if (!disk.cut)
        cut_power();
    disk.on = false;
    snprintf(path, sizeof path, "%s/data.mdb", bench_index_path);
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd >= 0) {
        size_t bytes = (size_t)disk.left_pages * PAGE;
        assert_true(write(fd, disk.left, bytes) == (ssize_t)bytes);
        close(fd);
    }
    free(disk.left);
    disk.left = NULL;
    char *boot = disk.left_mark.len > 0
                     ? memmem(disk.left_mark.bytes, (size_t)disk.left_mark.len, "boot ", 5)
                     : NULL;
    if (boot)
        memset(boot + 5, '0', 8);
    write_small("mark", &disk.left_mark);
    write_small("checkpoint", &disk.left_checkpoint);
    forget_pages();
}

/* ---- What the index says, all of it ---- */

static struct sp_digest known[LSNS_MAX]; /* of the index at this LSN */
static bool is_known[LSNS_MAX];

static uint64_t dump(struct sp_index *index, bool with_position, struct sp_digest *ret)
{
    const MDB_dbi tables[] = {index->accounts, index->addresses,  index->domains, index->mailboxes,
                              index->names,    index->subscribed, index->flags,   index->messages,
                              index->bodies,   index->tombstones, index->acl,     index->shared,
                              index->meta};
    struct sp_digest_state state;
    struct sp_read read;
    struct sp_position position = {0};
    assert_int_equal(sp_read_begin(index, &read), SP_OK);
    assert_int_not_equal(sp_index_position(&read, &position), SP_CORRUPT);
    sp_digest_init(&state);
    for (size_t i = 0; i < sizeof tables / sizeof *tables - !with_position; i++) {
        MDB_cursor *cursor;
        MDB_val pair[2];
        assert_int_equal(mdb_cursor_open(read.txn, tables[i], &cursor), 0);
        while (mdb_cursor_get(cursor, &pair[0], &pair[1], MDB_NEXT) == 0)
            for (int k = 0; k < 2; k++) {
                sp_digest_update(&state, sp_slice((const uint8_t *)&pair[k].mv_size, 8));
                sp_digest_update(&state, sp_slice(pair[k].mv_data, pair[k].mv_size));
            }
        mdb_cursor_close(cursor);
        sp_digest_update(&state, sp_slice_str("next table"));
    }
    sp_digest_final(&state, ret);
    sp_read_end(&read);
    return position.end.lsn;
}

static struct bench *current;

static void remember(void)
{
    struct sp_digest digest;
    uint64_t lsn = dump(sp_volume_index(current->volume), true, &digest);
    assert_true(lsn < LSNS_MAX);
    known[lsn] = digest;
    is_known[lsn] = true;
}

/* ---- Histories ---- */

static void step(void)
{
    struct model_mailbox *m;
    uint32_t mailbox = (uint32_t)rnd(MODEL_MAILBOXES), uid = 0;
    m = &current->model.mailboxes[mailbox];
    uint64_t kind = rnd(4);
    if (kind >= 2 && m->uid_highest)
        uid = (uint32_t)rnd(m->uid_highest) + 1;
    if (uid && m->messages[uid].state == MODEL_PRESENT)
        assert_int_equal(
            bench_run(current, (struct step){.type = kind == 2 ? STEP_FLAGS : STEP_EXPUNGE,
                                             .mailbox = mailbox,
                                             .uid = uid,
                                             .flags = (uint32_t)rnd(32)}),
            SP_OK);
    else if (m->uid_highest + 2 < MODEL_UIDS)
        assert_int_equal(bench_deliver(current), SP_OK);
    remember();
}

static void few_steps(void)
{
    for (uint64_t n = rnd(12); n > 0 && !disk.cut; n--)
        step();
}

/* Mail, and a checkpoint now and then, with more mail before it is synced and meanwhile. */
static void live(void)
{
    for (uint64_t n = 20 + rnd(60); n > 0 && !disk.cut; n--) {
        step();
        if (rnd(10))
            continue;
        struct sp_checkpoint *c = sp_volume_index(current->volume)->checkpoint;
        assert_int_equal(sp_checkpoint_begin(c), SP_OK);
        disk.held = disk.reader;
        few_steps();
        disk.during_sync = few_steps;
        assert_int_equal(sp_checkpoint_finish(c), SP_OK);
        disk.during_sync = NULL;
        disk.held = NULL;
    }
}

/* Ends the volume as a kill does: nothing more is said in its log, or beside its index. */
static void kill_volume(void)
{
    current->volume->index_failed = true;
    bench_stop(current);
}

/* The index as the power cut left it: it stands at a commit, exactly. */
static void check_restored(void)
{
    struct sp_index *index;
    struct sp_digest digest;
    bool fresh;
    bool expected = disk.left_checkpoint.len > 0;
    assert_int_equal(sp_index_open(bench_index_path, 64U << 20, &index, &fresh, &error), SP_OK);
    assert_true(fresh == !expected);
    if (!fresh) {
        uint64_t lsn = dump(index, true, &digest);
        assert_true(is_known[lsn]);
        assert_memory_equal(&digest, &known[lsn], sizeof digest);
    }
    sp_index_close(index, false);
}

/* Rolled forward it is what a rebuild makes. */
static void check_rolled(void)
{
    struct sp_digest rolled, rebuilt;
    assert_int_equal(bench_open(current, 0, false, &error), SP_OK);
    model_check(current->volume, &current->model, NULL, 0);
    dump(sp_volume_index(current->volume), false, &rolled);
    if (rnd(3))
        return;
    kill_volume();
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_int_equal(bench_open(current, 0, false, &error), SP_OK);
    dump(sp_volume_index(current->volume), false, &rebuilt);
    assert_memory_equal(&rolled, &rebuilt, sizeof rolled);
}

static void run_seed(uint64_t seed, bool release_early)
{
    random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    memset(is_known, 0, sizeof is_known);
    disk.release_early = release_early;
    current = bench_begin(0, 5);
    for (uint64_t round = 0; round < 4; round++) {
        /* Opened anew under watch: a start can be cut off as well. */
        bool by_kill = rnd(2);
        if (by_kill)
            kill_volume();
        else
            bench_stop(current);
        begin_watch();
        disk.cut_at = 1 + rnd(rnd(3) ? 2500 : 40);
        assert_int_equal(bench_open(current, 0, false, &error), SP_OK);
        remember();
        live();
        if (!disk.cut)
            cut_power();
        kill_volume();
        end_watch();
        check_restored();
        check_rolled();
    }
    bench_end(current);
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
}

static uint64_t seeds = 12, only, early;

static void test_power_cuts(void **state)
{
    (void)state;
    if (early)
        run_seed(early, true);
    for (uint64_t seed = only ? only : 1; seed <= (only ? only : seeds); seed++) {
        fprintf(stderr, "\rseed %u ", (unsigned)seed);
        run_seed(seed, false);
    }
    fprintf(stderr, "\r");
}

/* The test of the test: without the hold these same histories find a ruin. */
static void test_release_early_is_noticed(void **state)
{
    unsigned noticed = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
            dup2(null, 2);
            dup2(null, 1);
            run_seed(seed, true);
            _exit(0);
        }
        int outcome = 0;
        assert_int_equal(waitpid(child, &outcome, 0), child);
        noticed += !WIFEXITED(outcome) || WEXITSTATUS(outcome) != 0;
    }
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_true(noticed >= 2);
}

/* ---- Single cases ---- */

static struct sp_index *open_index(bool expect_fresh)
{
    struct sp_index *index;
    bool fresh;
    assert_int_equal(sp_index_open(bench_index_path, 64U << 20, &index, &fresh, &error), SP_OK);
    assert_true(fresh == expect_fresh);
    return index;
}

static void other_boot(void)
{
    struct small_file mark;
    read_small("mark", &mark);
    char *boot = memmem(mark.bytes, (size_t)mark.len, "boot ", 5);
    assert_non_null(boot);
    memset(boot + 5, '0', 8);
    write_small("mark", &mark);
}

/* A checkpoint that is torn, damaged, of another file, or not there: the index is made again. */
static void test_damaged_checkpoint(void **state)
{
    (void)state;
    current = bench_begin(0, 8);
    struct sp_checkpoint *c = sp_volume_index(current->volume)->checkpoint;
    assert_int_equal(sp_checkpoint_begin(c), SP_OK);
    assert_int_equal(sp_checkpoint_finish(c), SP_OK);
    assert_int_equal(sp_checkpoint_begin(c), SP_NOT_FOUND);
    for (int kind = 0; kind < 6; kind++) {
        struct small_file file;
        assert_int_equal(bench_deliver(current), SP_OK);
        kill_volume();
        read_small("checkpoint", &file);
        assert_true(file.len > 2 * (ssize_t)PAGE);
        if (kind == 1)
            file.len -= 1;
        else if (kind == 2)
            file.len = 10;
        else if (kind == 3)
            file.bytes[PAGE] ^= 1;
        else if (kind == 4)
            file.len = -1;
        write_small("checkpoint", &file);
        if (kind == 5) { /* the data are a copy: nobody knows of when */
            char from[128], to[128];
            snprintf(from, sizeof from, "%s/data.mdb", bench_index_path);
            snprintf(to, sizeof to, "%s/mark.tmp", bench_index_path);
            struct stat st;
            int in = open(from, O_RDONLY | O_CLOEXEC),
                out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
            assert_int_equal(fstat(in, &st), 0);
            assert_true(copy_file_range(in, NULL, out, NULL, (size_t)st.st_size, 0) == st.st_size);
            close(in);
            close(out);
            assert_int_equal(rename(to, from), 0);
        }
        other_boot();
        sp_index_close(open_index(kind != 0), false);
        assert_int_equal(bench_open(current, 0, false, &error), SP_OK);
        model_check(current->volume, &current->model, NULL, 0);
        c = sp_volume_index(current->volume)->checkpoint;
        assert_int_equal(bench_deliver(current), SP_OK);
        assert_int_equal(sp_checkpoint_begin(c), SP_OK);
        assert_int_equal(sp_checkpoint_finish(c), SP_OK);
    }
    bench_end(current);
}

/* In the same boot the newest is there, and no sync is waited for at the next commit; a checkpoint
 * of it is made at once, since nobody has held the pages of the last one. */
static void test_kill_in_same_boot(void **state)
{
    struct sp_digest before, after;
    (void)state;
    current = bench_begin(0, 8);
    struct sp_checkpoint *c = sp_volume_index(current->volume)->checkpoint;
    assert_int_equal(sp_checkpoint_begin(c), SP_OK);
    assert_int_equal(sp_checkpoint_finish(c), SP_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(bench_deliver(current), SP_OK);
    uint64_t lsn = dump(sp_volume_index(current->volume), true, &before);
    kill_volume();
    struct sp_index *index = open_index(false);
    assert_true(dump(index, true, &after) == lsn);
    assert_memory_equal(&before, &after, sizeof before);
    sp_index_close(index, false);
    other_boot();
    index = open_index(false);
    assert_true(dump(index, true, &after) == lsn);
    assert_memory_equal(&before, &after, sizeof before);
    sp_index_close(index, false);
    assert_int_equal(bench_open(current, 0, false, &error), SP_OK);
    bench_end(current);
}

/* One is due by itself after so many commits. */
static void test_due(void **state)
{
    struct small_file file;
    (void)state;
    current = bench_begin(0, 2);
    read_small("checkpoint", &file);
    assert_true(file.len < 0);
    struct sp_index *index = sp_volume_index(current->volume);
    assert_int_equal(sp_index_checkpoint(index, SP_CHECKPOINT_BYTES, false), SP_OK);
    read_small("checkpoint", &file);
    assert_true(file.len > 0);
    assert_int_equal(bench_deliver(current), SP_OK);
    struct small_file later;
    assert_int_equal(sp_index_checkpoint(index, SP_CHECKPOINT_BYTES + 1, false), SP_OK);
    read_small("checkpoint", &later);
    assert_memory_equal(&file, &later, sizeof file);
    /* By the thread. */
    assert_int_equal(sp_index_checkpoint(index, 2 * SP_CHECKPOINT_BYTES, true), SP_OK);
    for (int i = 0; i < 500 && memcmp(&file, &later, sizeof file) == 0; i++) {
        usleep(10000);
        read_small("checkpoint", &later);
    }
    assert_memory_not_equal(&file, &later, sizeof file);
    bench_end(current);
}

static int tests(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(test_damaged_checkpoint),
        cmocka_unit_test(test_kill_in_same_boot),
        cmocka_unit_test(test_due),
        cmocka_unit_test(test_release_early_is_noticed),
        cmocka_unit_test(test_power_cuts),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}

int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seeds") == 0)
            seeds = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            only = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--early") == 0)
            early = strtoull(argv[i + 1], NULL, 10);
    }
    return bench_main(tests);
}
