#include "store/checkpoint.h"
#include "base/log.h"
#include "base/time.h"
#include "store/index_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES_MAX 65536U
#define WINDOW_BYTES   (4 << 20) /* of the file that are written out at a time */

static const char magic[8] = "SPCHKPT1";

/* The file `checkpoint`: this, the two meta pages, then a digest of all before it. In the machine's
 * own layout, as the index is. */
struct image_head {
    char magic[8];
    uint32_t schema, page_bytes;
    uint64_t inode, file_bytes; /* of data.mdb */
    struct sp_log_end end;
};
struct image {
    uint8_t *bytes;
    size_t len;
};

struct sp_checkpoint {
    struct sp_index *index;
    MDB_txn *held;      /* of the one that is durable; NULL: none is */
    struct image image; /* its file */
    size_t held_txnid;
    uint64_t begun_bytes; /* of log */
    uint64_t begun_ms;
    bool failed; /* the last one, for want of room: it is tried again, but not at once */

    /* The one under way: the writer's until it is `busy`, then the thread's. */
    MDB_txn *next;
    struct image next_image;
    size_t next_txnid;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool running, stopping; /* the thread */
    bool busy;              /* it has something to do */
    bool broken;            /* a sync failed */
};

/* ---- The image ---- */

static void free_image(struct image *image)
{
    free(image->bytes);
    *image = (struct image){0};
}

static size_t image_bytes(uint32_t page_bytes)
{
    return sizeof(struct image_head) + (size_t)2 * page_bytes + SP_DIGEST_BYTES;
}

static enum sp_status read_all(int fd, void *to, size_t len, off_t at)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (uint8_t *)to + done, len - done, at + (off_t)done);
        if (n == 0)
            return SP_NOT_FOUND;
        if (n < 0 && errno != EINTR)
            return SP_IO;
        done += n > 0 ? (size_t)n : 0;
    }
    return SP_OK;
}

static int write_all(int fd, const void *from, size_t len, off_t at)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, (const uint8_t *)from + done, len - done, at + (off_t)done);
        if (n < 0 && errno != EINTR)
            return errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static void digest_of(const struct image *image, struct sp_digest *ret)
{
    sp_digest(sp_slice(image->bytes, image->len - SP_DIGEST_BYTES), ret);
}

/* The image of what the file's meta pages name now. */
static enum sp_status take_image(struct sp_index *index, const struct sp_log_end *end,
                                 struct image *ret)
{
    MDB_stat stat;
    struct stat st;
    int fd = -1;
    if (mdb_env_stat(index->env, &stat) || mdb_env_get_fd(index->env, &fd) || fstat(fd, &st) != 0 ||
        stat.ms_psize > PAGE_BYTES_MAX)
        return SP_IO;
    struct image_head head;
    memset(&head, 0, sizeof head); /* padding too: images are compared as bytes */
    memcpy(head.magic, magic, sizeof head.magic);
    head.schema = SP_INDEX_SCHEMA;
    head.page_bytes = stat.ms_psize;
    head.inode = st.st_ino;
    head.file_bytes = (uint64_t)st.st_size;
    head.end = *end;
    struct image image = {.len = image_bytes(stat.ms_psize)};
    image.bytes = calloc(1, image.len);
    if (!image.bytes)
        return SP_NO_MEMORY;
    memcpy(image.bytes, &head, sizeof head);
    enum sp_status status = read_all(fd, image.bytes + sizeof head, (size_t)2 * stat.ms_psize, 0);
    struct sp_digest digest;
    digest_of(&image, &digest);
    memcpy(image.bytes + image.len - SP_DIGEST_BYTES, digest.bytes, SP_DIGEST_BYTES);
    if (status != SP_OK)
        free_image(&image);
    *ret = image;
    return status == SP_NOT_FOUND ? SP_IO : status;
}

/* SP_NOT_FOUND: there is none, or it is damaged. */
static enum sp_status load_image(int dir_fd, struct image *ret, struct image_head *ret_head)
{
    int fd = openat(dir_fd, "checkpoint", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? SP_NOT_FOUND : SP_IO;
    struct image image = {0};
    enum sp_status status = read_all(fd, ret_head, sizeof *ret_head, 0);
    if (status == SP_OK &&
        (memcmp(ret_head->magic, magic, sizeof magic) != 0 || ret_head->schema != SP_INDEX_SCHEMA ||
         ret_head->page_bytes > PAGE_BYTES_MAX))
        status = SP_NOT_FOUND;
    if (status == SP_OK) {
        image.len = image_bytes(ret_head->page_bytes);
        image.bytes = malloc(image.len);
        status = image.bytes ? read_all(fd, image.bytes, image.len, 0) : SP_NO_MEMORY;
    }
    close(fd);
    if (status == SP_OK) {
        struct sp_digest digest;
        digest_of(&image, &digest);
        if (memcmp(digest.bytes, image.bytes + image.len - SP_DIGEST_BYTES, SP_DIGEST_BYTES) != 0)
            status = SP_NOT_FOUND;
    }
    if (status != SP_OK)
        free_image(&image);
    *ret = image;
    return status;
}

/* *ret_unsure: it may be the new file or the old one that is on the disk. */
static int store_image(int dir_fd, const struct image *image, bool *ret_unsure)
{
    *ret_unsure = false;
    int fd = openat(dir_fd, "checkpoint.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int rc = write_all(fd, image->bytes, image->len, 0);
    if (!rc && fsync(fd) != 0)
        rc = errno;
    close(fd);
    if (!rc && renameat(dir_fd, "checkpoint.tmp", dir_fd, "checkpoint") != 0)
        rc = errno;
    if (!rc && fsync(dir_fd) != 0) {
        rc = errno;
        *ret_unsure = true;
    }
    return rc;
}

/* ---- Putting back ---- */

enum sp_status sp_checkpoint_restore(int dir_fd, struct sp_log_end *ret_end)
{
    struct image image;
    struct image_head head;
    struct stat st;
    enum sp_status status = load_image(dir_fd, &image, &head);
    if (status != SP_OK)
        return status;
    int fd = openat(dir_fd, "data.mdb", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        status = errno == ENOENT ? SP_NOT_FOUND : SP_IO;
    else if (st.st_ino != head.inode || (uint64_t)st.st_size < head.file_bytes)
        status = SP_NOT_FOUND;
    if (status == SP_OK && unlinkat(dir_fd, "lock.mdb", 0) != 0 && errno != ENOENT)
        status = SP_IO;
    if (status == SP_OK &&
        (write_all(fd, image.bytes + sizeof head, (size_t)2 * head.page_bytes, 0) != 0 ||
         fsync(fd) != 0))
        status = SP_IO;
    if (fd >= 0)
        close(fd);
    free_image(&image);
    *ret_end = head.end;
    return status;
}

int sp_checkpoint_remove(int dir_fd)
{
    if (unlinkat(dir_fd, "checkpoint", 0) != 0)
        return errno == ENOENT ? 0 : errno;
    return fsync(dir_fd) == 0 ? 0 : errno;
}

/* ---- Making one ---- */

static enum sp_status take_hold(struct sp_checkpoint *c, MDB_txn **ret_txn, struct image *ret_image)
{
    struct sp_read read;
    struct sp_position position;
    enum sp_status status = sp_read_begin(c->index, &read);
    if (status != SP_OK)
        return status;
    status = sp_index_position(&read, &position);
    if (status == SP_OK)
        status = take_image(c->index, &position.end, ret_image);
    if (status != SP_OK) {
        sp_read_end(&read);
        return status;
    }
    *ret_txn = read.txn;
    return SP_OK;
}

static size_t last_txnid(struct sp_checkpoint *c)
{
    MDB_envinfo info;
    return mdb_env_info(c->index->env, &info) == 0 ? info.me_last_txnid : 0;
}

enum sp_status sp_checkpoint_begin(struct sp_checkpoint *c)
{
    pthread_mutex_lock(&c->lock);
    bool busy = c->busy || c->next, broken = c->broken;
    pthread_mutex_unlock(&c->lock);
    if (broken)
        return SP_IO;
    if (busy)
        return SP_CONFLICT;
    size_t txnid = last_txnid(c);
    if (c->held && txnid == c->held_txnid)
        return SP_NOT_FOUND;
    enum sp_status status = take_hold(c, &c->next, &c->next_image);
    c->next_txnid = txnid;
    return status;
}

/* Writes the file out a piece at a time, so that the log's own syncs never wait behind all of it.
 * An error here is not told again by a later sync. */
static int write_out(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return errno;
    for (off_t at = 0; at < st.st_size; at += WINDOW_BYTES)
        if (sync_file_range(fd, at, WINDOW_BYTES,
                            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                SYNC_FILE_RANGE_WAIT_AFTER) != 0) {
            if (errno == EINVAL || errno == ENOSYS || errno == ESPIPE)
                break; /* not on this file system: the sync does it */
            return errno;
        }
    return 0;
}

static enum sp_status sync_data(struct sp_index *index)
{
    int fd = -1, rc = mdb_env_get_fd(index->env, &fd);
    if (!rc)
        rc = write_out(fd);
    if (!rc)
        rc = mdb_env_sync(index->env, 1);
    if (!rc)
        return SP_OK;
    sp_log(SP_LOG_ERROR, "index.sync", "why=\"%s\"", mdb_strerror(rc));
    /* What the kernel has of the file may be older than what was written to it. */
    (void)sp_index_mark(index->dir_fd, SP_MARK_DOUBTFUL);
    return SP_IO;
}

enum sp_status sp_checkpoint_finish(struct sp_checkpoint *c)
{
    bool unsure = false;
    enum sp_status status = sync_data(c->index);
    bool broken = status != SP_OK;
    if (status == SP_OK) {
        int rc = store_image(c->index->dir_fd, &c->next_image, &unsure);
        status = rc ? sp_mdb_status(rc) : SP_OK;
        if (rc)
            sp_log(SP_LOG_WARN, "index.checkpoint", "why=\"%s\"", strerror(rc));
    }
    pthread_mutex_lock(&c->lock);
    if (status == SP_OK) {
        if (c->held)
            mdb_txn_abort(c->held);
        free_image(&c->image);
        c->held = c->next;
        c->held_txnid = c->next_txnid;
        c->image = c->next_image;
    } else if (broken || unsure) {
        c->broken = true; /* and both are held to the end */
    } else {
        mdb_txn_abort(c->next);
        free_image(&c->next_image);
    }
    c->failed = status != SP_OK;
    if (!c->broken) {
        c->next = NULL;
        c->next_image = (struct image){0};
    }
    c->busy = false;
    pthread_mutex_unlock(&c->lock);
    return c->broken ? SP_IO : status;
}

static void *work(void *context)
{
    struct sp_checkpoint *c = context;
    pthread_setname_np(pthread_self(), "checkpoint");
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!c->busy && !c->stopping)
            pthread_cond_wait(&c->wake, &c->lock);
        if (!c->busy)
            break;
        pthread_mutex_unlock(&c->lock);
        (void)sp_checkpoint_finish(c); /* what became of it, the next step sees */
        pthread_mutex_lock(&c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

static enum sp_status hand_over(struct sp_checkpoint *c)
{
    if (!c->running) {
        if (pthread_create(&c->thread, NULL, work, c) != 0)
            return sp_checkpoint_finish(c); /* then it is done here */
        c->running = true;
    }
    pthread_mutex_lock(&c->lock);
    c->busy = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    return SP_OK;
}

enum sp_status sp_checkpoint_step(struct sp_checkpoint *c, uint64_t log_bytes, bool background)
{
    uint64_t now = sp_now_ms();
    pthread_mutex_lock(&c->lock);
    bool busy = c->busy, broken = c->broken;
    pthread_mutex_unlock(&c->lock);
    if (broken)
        return SP_IO;
    if (busy)
        return SP_OK;
    size_t commits = last_txnid(c) - c->held_txnid;
    bool waits = c->held || !background || c->failed; /* the first is made at once */
    if (commits == 0 || (c->failed && now - c->begun_ms < SP_CHECKPOINT_MS) ||
        (waits && log_bytes - c->begun_bytes < SP_CHECKPOINT_BYTES &&
         commits < SP_CHECKPOINT_COMMITS && now - c->begun_ms < SP_CHECKPOINT_MS))
        return SP_OK;
    c->begun_bytes = log_bytes;
    c->begun_ms = now;
    enum sp_status status = sp_checkpoint_begin(c);
    if (status == SP_OK)
        status = background ? hand_over(c) : sp_checkpoint_finish(c);
    pthread_mutex_lock(&c->lock);
    broken = c->broken;
    pthread_mutex_unlock(&c->lock);
    return broken ? SP_IO : SP_OK;
}

/* ---- Opening and closing ---- */

static bool same_image(const struct image *a, const struct image *b)
{
    return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

enum sp_status sp_checkpoint_open(struct sp_index *index, struct sp_checkpoint **ret_checkpoint)
{
    struct sp_checkpoint *c = calloc(1, sizeof *c);
    struct image_head head;
    if (!c)
        return SP_NO_MEMORY;
    c->index = index;
    c->begun_ms = sp_now_ms();
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    enum sp_status status = sp_checkpoint_begin(c);
    if (status == SP_OK && load_image(index->dir_fd, &c->image, &head) == SP_OK &&
        same_image(&c->image, &c->next_image)) {
        c->held = c->next;
        c->held_txnid = c->next_txnid;
        c->next = NULL;
        free_image(&c->next_image);
    } else if (status == SP_OK) {
        status = sp_checkpoint_finish(c);
    }
    /* It can go on without, when there is nothing in it yet or no room; but one that nobody holds
     * must not stay. */
    if (status != SP_OK && !c->broken)
        status = sp_checkpoint_remove(index->dir_fd) ? SP_IO : SP_OK;
    if (status != SP_OK) {
        (void)sp_checkpoint_close(c, false);
        return status;
    }
    *ret_checkpoint = c;
    return SP_OK;
}

enum sp_status sp_checkpoint_close(struct sp_checkpoint *c, bool clean)
{
    if (!c)
        return SP_OK;
    if (c->running) {
        pthread_mutex_lock(&c->lock);
        c->stopping = true;
        pthread_cond_signal(&c->wake);
        pthread_mutex_unlock(&c->lock);
        pthread_join(c->thread, NULL);
    }
    if (clean && sp_checkpoint_begin(c) == SP_OK)
        (void)sp_checkpoint_finish(c); /* failing, it is made at the next start */
    enum sp_status status = c->broken ? SP_IO : SP_OK;
    if (c->next)
        mdb_txn_abort(c->next);
    if (c->held)
        mdb_txn_abort(c->held);
    free_image(&c->image);
    free_image(&c->next_image);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->wake);
    free(c);
    return status;
}
