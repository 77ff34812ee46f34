/* What the parts of the `dir` unit share.
 *
 * Threads. Everything that changes the directory (write, create, seal, remove, vote) is a job of
 * the unit's own worker thread, one at a time, so that a disk that hangs holds up that thread and
 * nobody else. A second thread, the preparer, fills the next segment with zeros. Reading, listing
 * and checking happen in the caller's thread.
 *
 *   dir.c          opening, list, check, space, vote_read
 *   dir_init.c     init and unit.id
 *   dir_worker.c   the worker thread and what callers ask of it
 *   dir_jobs.c     the jobs themselves
 *   dir_prepare.c  zero-filled files for segments to come
 *   dir_read.c     reading, with a cache of open files
 */
#ifndef SP_UNIT_DIR_INTERNAL_H
#define SP_UNIT_DIR_INTERNAL_H

#include "unit/dir.h"

#include <pthread.h>
#include <sys/types.h>

#define SP_DIR_NAME_BYTES   48U /* "SSSSSSSSSSSSSSSS.GGGGGGGG.seg.new.tmp" and more */
#define SP_DIR_FILES_MAX    4U  /* segments open for writing */
#define SP_DIR_CACHE_MAX    64U /* segments open for reading */
#define SP_DIR_QUICK_BLOCKS 256U
#define SP_DIR_CALL_MS      10000U /* a call (not a write) that takes longer has failed */

/* A segment open for writing. */
struct sp_dir_file {
    int fd; /* -1: none */
    uint64_t segment;
    uint32_t generation;
    uint32_t blocks; /* length of the file */
    dev_t dev;
    ino_t ino;
    uint64_t used; /* counts up, for eviction */
};

enum sp_dir_job_kind {
    SP_DIR_WRITE,
    SP_DIR_CREATE,
    SP_DIR_SEAL,
    SP_DIR_REMOVE,
    SP_DIR_VOTE,
};

struct sp_dir_job {
    enum sp_dir_job_kind kind;
    uint64_t segment;
    uint32_t generation;
    uint32_t first_block;
    uint32_t count;       /* of blocks */
    const uint8_t *bytes; /* of a write: the caller's; of a vote: sp_dir.vote */
    size_t len;
};

struct sp_dir_cached {
    uint64_t segment;
    uint32_t generation;
    int fd;        /* -1: free */
    uint32_t refs; /* reads under way */
    bool stale;    /* to be closed by the last reader */
    uint64_t used;
};

struct sp_dir_preparer;

struct sp_dir {
    struct sp_unit unit; /* first */
    char *path;          /* absolute */
    int root_fd, id_fd, segments_fd;
    dev_t id_dev;
    ino_t id_ino;
    struct sp_dir_preparer *preparer;

    pthread_mutex_t lock; /* over what follows, up to the cache */
    pthread_cond_t work, done;
    pthread_t worker;
    enum { SP_DIR_IDLE, SP_DIR_RUNNING, SP_DIR_DONE } state;
    bool write_under_way; /* from write_start to the outcome */
    bool write_refused;   /* its outcome is `broken` */
    bool broken;          /* a job failed with SP_IO or never ended: nothing more is written */
    bool closing;
    bool abandoned; /* closed during a job: the worker frees everything, when and if it returns */
    struct sp_dir_job job;
    enum sp_status status;
    struct sp_error error;
    struct sp_dir_file files[SP_DIR_FILES_MAX]; /* changed by the worker alone */
    uint64_t files_used;

    bool no_dsync; /* worker: RWF_DSYNC is not supported */
    uint8_t vote[SP_UNIT_VOTE_MAX];

    pthread_mutex_t cache_lock;
    struct sp_dir_cached cache[SP_DIR_CACHE_MAX];
    uint64_t cache_used, cache_forgets;
};

static inline struct sp_dir *sp_dir(struct sp_unit *unit)
{
    return (struct sp_dir *)unit;
}

/* "0000000000000007.0000.seg" and the suffix. */
void sp_dir_segment_name(uint64_t segment, uint32_t generation, const char *suffix,
                         char ret_name[SP_DIR_NAME_BYTES]);
/* Sets the error for a failed system call and returns the status that errno value means: ENOENT is
 * SP_NOT_FOUND, EEXIST SP_EXISTS, ENOSPC and EDQUOT SP_NO_SPACE, ESTALE SP_UNAVAILABLE, lack of
 * memory or descriptors SP_NO_MEMORY, else SP_IO. */
enum sp_status sp_dir_fail(const struct sp_dir *dir, struct sp_error *error, int number,
                           const char *action, const char *name);
/* Opens for writing, with O_DIRECT where the file system has it. -1 and errno. */
int sp_dir_open_write(int dir_fd, const char *name, int flags);
/* Writes zeros over count blocks; false and errno. Not synced. */
bool sp_dir_zero(int fd, uint32_t first_block, uint32_t count);
void sp_dir_free(struct sp_dir *dir);
/* Reads unit.id through id_fd into the unit. SP_INVALID, SP_UNSUPPORTED, SP_IO. */
enum sp_status sp_dir_read_id(struct sp_dir *dir, struct sp_error *error);
/* The text of unit.id, taken apart. SP_INVALID, SP_UNSUPPORTED: *ret_why says what it is instead.
 */
enum sp_status sp_dir_parse_id(struct sp_slice text, struct sp_uuid *ret_unit,
                               struct sp_uuid *ret_volume, const char **ret_why);

/* Worker. */
enum sp_status sp_dir_worker_start(struct sp_dir *dir) SP_MUST_USE;
void sp_dir_write_start(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                        uint32_t first_block, const uint8_t *blocks, uint32_t count);
enum sp_status sp_dir_wait(struct sp_unit *unit, uint32_t timeout_ms, struct sp_error *error);
enum sp_status sp_dir_create(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                             uint32_t blocks, struct sp_error *error);
enum sp_status sp_dir_seal(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                           uint32_t blocks, struct sp_error *error);
enum sp_status sp_dir_remove(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                             struct sp_error *error);
enum sp_status sp_dir_vote_write(struct sp_unit *unit, struct sp_slice bytes,
                                 struct sp_error *error);
void sp_dir_close(struct sp_unit *unit);
/* Runs one job, in the worker. */
enum sp_status sp_dir_run(struct sp_dir *dir, const struct sp_dir_job *job, struct sp_error *error);

/* Preparer. segments_fd is duplicated. */
struct sp_dir_preparer *sp_dir_preparer_new(int segments_fd) SP_MUST_USE;
/* Never waits for a write. */
void sp_dir_preparer_free(struct sp_dir_preparer *preparer);
void sp_dir_preparer_ask(struct sp_dir_preparer *preparer, uint64_t segment, uint32_t generation,
                         uint32_t blocks);
/* The prepared file NAME.tmp, now the caller's, or -1: not ready, and given up. */
int sp_dir_preparer_take(struct sp_dir_preparer *preparer, uint64_t segment, uint32_t generation);

/* Reading. */
void sp_dir_cache_init(struct sp_dir *dir);
void sp_dir_cache_release(struct sp_dir *dir);
void sp_dir_cache_forget(struct sp_dir *dir, uint64_t segment, uint32_t generation);
enum sp_status sp_dir_read(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                           uint32_t first_block, uint8_t *ret_blocks, uint32_t count,
                           struct sp_error *error);

void sp_dir_forget(struct sp_unit *unit, uint64_t segment, uint32_t generation);

#endif
