#include "recover/source.h"
#include "recover/classify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DEPTH_MAX   16
#define RING        128U
#define SHOW_BYTES  (64U << 20)
#define RETRY_BYTES 4096U

/* ---- Which files ---- */

struct list {
    struct sp_recover_source *sources;
    uint32_t count;
    char out[PATH_MAX];
    dev_t out_devices[64]; /* the block devices that out_dir is stored on, downwards */
    uint32_t out_devices_count;
    struct sp_error *error;
};

static void add_device(struct list *list, dev_t device)
{
    for (uint32_t i = 0; i < list->out_devices_count; i++)
        if (list->out_devices[i] == device)
            return;
    if (list->out_devices_count < sizeof list->out_devices / sizeof *list->out_devices)
        list->out_devices[list->out_devices_count++] = device;
}

static bool read_device(const char *path, dev_t *ret_device)
{
    unsigned major_number, minor_number;
    FILE *file = fopen(path, "re");
    bool good = file && fscanf(file, "%u:%u", &major_number, &minor_number) == 2;
    if (file)
        fclose(file);
    if (good)
        *ret_device = makedev(major_number, minor_number);
    return good;
}

/* Adds what a device stands on: the whole disk of a partition, the members of an array or mapping.
 */
static void add_below(struct list *list, dev_t device)
{
    char path[256], below[PATH_MAX];
    dev_t found;
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/partition", major(device), minor(device));
    if (access(path, F_OK) == 0) {
        snprintf(path, sizeof path, "/sys/dev/block/%u:%u/../dev", major(device), minor(device));
        if (read_device(path, &found))
            add_device(list, found);
    }
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/slaves", major(device), minor(device));
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(below, sizeof below, "%s/%s/dev", path, e->d_name);
        if (read_device(below, &found))
            add_device(list, found);
    }
    if (dir)
        closedir(dir);
}

static enum sp_status no_memory(struct sp_error *error)
{
    return sp_error_set(error, SP_NO_MEMORY, "scan", "out of memory");
}

static enum sp_status refuse(struct list *list, const char *path)
{
    sp_error_set(list->error, SP_INVALID, path,
                 "what is found would be written onto this source (%s)", list->out);
    sp_error_todo(list->error,
                  "write to another disk: nothing may be written where lost mail may still lie");
    return SP_INVALID;
}

static enum sp_status add_source(struct list *list, const char *path)
{
    struct sp_recover_source *grown = realloc(list->sources, (list->count + 1) * sizeof *grown);
    if (!grown)
        return no_memory(list->error);
    list->sources = grown;
    grown[list->count] = (struct sp_recover_source){.path = strdup(path)};
    if (!grown[list->count].path)
        return no_memory(list->error);
    list->count++;
    return SP_OK;
}

static enum sp_status add_tree(struct list *list, const char *path, int depth)
{
    struct dirent **names;
    enum sp_status status = SP_OK;
    int count = scandir(path, &names, NULL, alphasort);
    if (count < 0)
        return sp_error_set(list->error, SP_INVALID, path, "cannot be listed: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        char below[PATH_MAX];
        struct stat st;
        bool dots = strcmp(names[i]->d_name, ".") == 0 || strcmp(names[i]->d_name, "..") == 0;
        bool fits =
            snprintf(below, sizeof below, "%s/%s", path, names[i]->d_name) < (int)sizeof below;
        free(names[i]);
        if (status != SP_OK || dots || !fits || lstat(below, &st) != 0)
            continue;
        if (S_ISREG(st.st_mode))
            status = add_source(list, below);
        else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
            status = add_tree(list, below, depth + 1);
    }
    free(names);
    return status;
}

static bool is_below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 &&
           (path[n] == '/' || path[n] == '\0' || strcmp(dir, "/") == 0);
}

/* The real path of a directory that may not exist yet, and the device it is or will be on. */
static bool locate(const char *dir, char ret_path[PATH_MAX], dev_t *ret_device)
{
    char up[PATH_MAX];
    struct stat st;
    if (realpath(dir, ret_path))
        return stat(ret_path, &st) == 0 && (*ret_device = st.st_dev, true);
    if (snprintf(up, sizeof up, "%s", dir) >= (int)sizeof up)
        return false;
    size_t len = strlen(up);
    while (len > 1 && up[len - 1] == '/')
        up[--len] = '\0';
    char *slash = strrchr(up, '/');
    const char *name = slash ? slash + 1 : up;
    char real[PATH_MAX];
    if (slash)
        *slash = '\0';
    if (!realpath(!slash ? "." : slash == up ? "/" : up, real) || stat(real, &st) != 0)
        return false;
    *ret_device = st.st_dev;
    return snprintf(ret_path, PATH_MAX, "%s/%s", real, name) < PATH_MAX;
}

enum sp_status sp_sources_list(const char *const *arguments, size_t count, const char *out_dir,
                               struct sp_recover_source **ret_sources, uint32_t *ret_count,
                               struct sp_error *error)
{
    struct list list = {.error = error};
    enum sp_status status = SP_OK;
    dev_t device = 0;
    if (!locate(out_dir, list.out, &device))
        return sp_error_set(error, SP_INVALID, out_dir, "there is no such place: %s",
                            strerror(errno));
    add_device(&list, device);
    for (uint32_t i = 0; i < list.out_devices_count; i++)
        add_below(&list, list.out_devices[i]);
    for (size_t i = 0; i < count && status == SP_OK; i++) {
        char real[PATH_MAX];
        struct stat st;
        if (!realpath(arguments[i], real) || stat(real, &st) != 0) {
            status = sp_error_set(error, SP_INVALID, arguments[i], "%s", strerror(errno));
        } else if (S_ISBLK(st.st_mode)) {
            for (uint32_t k = 0; k < list.out_devices_count && status == SP_OK; k++)
                if (list.out_devices[k] == st.st_rdev)
                    status = refuse(&list, arguments[i]);
            if (status == SP_OK)
                status = add_source(&list, arguments[i]);
        } else if (S_ISREG(st.st_mode)) {
            status = is_below(real, list.out) ? refuse(&list, arguments[i])
                                              : add_source(&list, arguments[i]);
        } else if (S_ISDIR(st.st_mode)) {
            status = is_below(list.out, real) || is_below(real, list.out)
                         ? refuse(&list, arguments[i])
                         : add_tree(&list, arguments[i], 0);
        } else {
            status = sp_error_set(error, SP_INVALID, arguments[i],
                                  "a source is a file, a block device or a directory");
        }
    }
    *ret_sources = list.sources;
    *ret_count = list.count;
    return status;
}

/* ---- Reading ahead ---- */

struct ring {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint8_t *memory;
    struct sp_piece pieces[RING];
    unsigned filled, taken; /* counts of pieces */
    bool ended, stop;

    bool magic_before; /* the reader's */
    int fd;
    struct sp_recover_source *source;
    ssize_t (*read_at)(int fd, void *bytes, size_t len, off_t offset);
};

static uint8_t *piece_bytes(const struct ring *ring, unsigned number)
{
    return ring->memory + (size_t)(number % RING) * (SP_PIECE_HEADROOM + SP_PIECE_BYTES) +
           SP_PIECE_HEADROOM;
}

static void note_bad(struct sp_recover_source *source, uint64_t offset, uint64_t len)
{
    struct sp_span *last = source->bad_count ? &source->bad[source->bad_count - 1] : NULL;
    source->unread_bytes += len;
    if (last && last->last + 1 == offset) {
        last->last += len;
        return;
    }
    if (source->bad_count == SP_RECOVER_BAD_RANGES_MAX)
        return;
    struct sp_span *grown = realloc(source->bad, (source->bad_count + 1) * sizeof *grown);
    if (!grown)
        return;
    source->bad = grown;
    grown[source->bad_count++] = (struct sp_span){offset, offset + len - 1};
}

/* Reads up to len bytes at offset; less only at the source's end. */
static size_t read_piece(struct ring *ring, uint8_t *bytes, size_t len, uint64_t offset)
{
    size_t done = 0;
    bool careful = false;
    while (done < len) {
        size_t ask = len - done;
        if (careful && ask > RETRY_BYTES)
            ask = RETRY_BYTES;
        ssize_t n = ring->read_at(ring->fd, bytes + done, ask, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            break;
        if (n > 0) {
            done += (size_t)n;
            continue;
        }
        if (!careful) {
            careful = true; /* for the rest of this piece, a page at a time */
            continue;
        }
        /* Beyond the size that the source had there is nothing to be missed. */
        if (offset + done >= ring->source->size_bytes)
            break;
        memset(bytes + done, 0, ask);
        note_bad(ring->source, offset + done, ask);
        done += ask;
    }
    return done;
}

/* Whether a piece must be looked at: a block may begin in it or go on into it from the one before.
 * Now and then one is handed over anyway, so that progress shows. */
static bool is_wanted(struct ring *ring, const uint8_t *bytes, size_t len, uint64_t offset)
{
    bool before = ring->magic_before;
    ring->magic_before = sp_any_magic(bytes, len);
    return ring->magic_before || before || len < SP_PIECE_BYTES || offset % SHOW_BYTES == 0;
}

static void *read_ahead(void *context)
{
    struct ring *ring = context;
    uint64_t offset = 0;
    for (unsigned number = 0;;) {
        pthread_mutex_lock(&ring->lock);
        while (number - ring->taken >= RING && !ring->stop)
            pthread_cond_wait(&ring->changed, &ring->lock);
        bool stop = ring->stop;
        pthread_mutex_unlock(&ring->lock);
        if (stop)
            return NULL;
        uint8_t *bytes = piece_bytes(ring, number);
        size_t len;
        do {
            len = read_piece(ring, bytes, SP_PIECE_BYTES, offset);
            offset += len;
        } while (!is_wanted(ring, bytes, len, offset));
        pthread_mutex_lock(&ring->lock);
        ring->pieces[number++ % RING] = (struct sp_piece){bytes, len, offset};
        ring->filled = number;
        ring->ended = len < SP_PIECE_BYTES;
        bool ended = ring->ended;
        pthread_cond_signal(&ring->changed);
        pthread_mutex_unlock(&ring->lock);
        if (ended)
            return NULL;
    }
}

static enum sp_status
consume(struct ring *ring, enum sp_status (*each)(void *, const struct sp_piece *), void *context)
{
    for (unsigned number = 0;; number++) {
        pthread_mutex_lock(&ring->lock);
        while (ring->filled == number && !ring->ended)
            pthread_cond_wait(&ring->changed, &ring->lock);
        bool more = ring->filled > number;
        pthread_mutex_unlock(&ring->lock);
        if (!more)
            return SP_OK;
        const struct sp_piece *piece = &ring->pieces[number % RING];
        ring->source->read_bytes = piece->end;
        enum sp_status status = each(context, piece);
        pthread_mutex_lock(&ring->lock);
        ring->taken++;
        ring->stop = status != SP_OK;
        pthread_cond_signal(&ring->changed);
        pthread_mutex_unlock(&ring->lock);
        if (status != SP_OK)
            return status;
    }
}

enum sp_status sp_source_read(struct sp_recover_source *source,
                              ssize_t (*read_at)(int fd, void *bytes, size_t len, off_t offset),
                              enum sp_status (*each)(void *context, const struct sp_piece *piece),
                              void *context, struct sp_error *error)
{
    struct ring ring = {.lock = PTHREAD_MUTEX_INITIALIZER,
                        .changed = PTHREAD_COND_INITIALIZER,
                        .source = source,
                        .read_at = read_at ? read_at : pread};
    pthread_t thread;
    ring.fd = open(source->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    off_t size = ring.fd < 0 ? -1 : lseek(ring.fd, 0, SEEK_END);
    if (size < 0) {
        snprintf(source->note, sizeof source->note, "cannot be read: %s", strerror(errno));
        if (ring.fd >= 0)
            close(ring.fd);
        return SP_OK;
    }
    source->size_bytes = (uint64_t)size;
    posix_fadvise(ring.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    void *memory = NULL;
    if (posix_memalign(&memory, 4096, (size_t)RING * (SP_PIECE_HEADROOM + SP_PIECE_BYTES)) != 0) {
        close(ring.fd);
        return no_memory(error);
    }
    ring.memory = memory;
    enum sp_status status;
    if (pthread_create(&thread, NULL, read_ahead, &ring) != 0) {
        status = sp_error_set(error, SP_IO, "scan", "cannot start a thread");
    } else {
        status = consume(&ring, each, context);
        pthread_join(thread, NULL);
        if (status == SP_OK && source->read_bytes < source->size_bytes)
            snprintf(source->note, sizeof source->note,
                     "it ended after %llu of %llu bytes: it shrank while it was read",
                     (unsigned long long)source->read_bytes,
                     (unsigned long long)source->size_bytes);
    }
    free(memory);
    close(ring.fd);
    return status;
}
