#include "recover/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_MAX_FILES 128U
#define COMPARE_BLOCKS 256U
#define FIRST_BUCKETS  1024U

void sp_place_path(const char *out_dir, const struct sp_uuid *volume, uint64_t segment,
                   uint32_t generation, uint32_t version, char *ret_path, size_t size)
{
    char uuid[SP_UUID_TEXT];
    sp_uuid_text(volume, uuid);
    if (version == 0)
        snprintf(ret_path, size, "%s/volume-%s/%016llx.%08x.seg", out_dir, uuid,
                 (unsigned long long)segment, generation);
    else
        snprintf(ret_path, size, "%s/volume-%s/%016llx.%08x.%02u.alt", out_dir, uuid,
                 (unsigned long long)segment, generation, version);
}

bool sp_place_parse(const char *name, uint64_t *ret_segment, uint32_t *ret_generation,
                    uint32_t *ret_version)
{
    unsigned long long segment;
    unsigned generation, version = 0;
    char again[64];
    if (sscanf(name, "%16llx.%8x.", &segment, &generation) != 2)
        return false;
    snprintf(again, sizeof again, "%016llx.%08x.seg", segment, generation);
    if (strcmp(again, name) != 0) {
        if (sscanf(name, "%16llx.%8x.%2u.", &segment, &generation, &version) != 3)
            return false;
        snprintf(again, sizeof again, "%016llx.%08x.%02u.alt", segment, generation, version);
        if (strcmp(again, name) != 0 || version == 0)
            return false;
    }
    *ret_segment = segment;
    *ret_generation = generation;
    *ret_version = version;
    return true;
}

static enum sp_status io_error(struct sp_places *places, const char *path, const char *doing)
{
    enum sp_status status = errno == ENOSPC || errno == EDQUOT ? SP_NO_SPACE : SP_IO;
    sp_error_set(places->error, status, path, "%s failed: %s", doing, strerror(errno));
    if (status == SP_NO_SPACE)
        sp_error_todo(places->error,
                      "give the scan a place with as much room as the mail that is to be found");
    return status;
}

static void file_path(const struct sp_places *places, const struct sp_place_file *file,
                      char ret_path[4096])
{
    sp_place_path(places->out_dir, &file->volume, file->segment, file->generation, file->version,
                  ret_path, 4096);
}

static enum sp_status make_dir(struct sp_places *places, const char *path)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return io_error(places, path, "mkdir");
    return SP_OK;
}

static enum sp_status sync_path(struct sp_places *places, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    enum sp_status status = good ? SP_OK : io_error(places, path, "fsync");
    if (fd >= 0)
        close(fd);
    return status;
}

/* Files of one (volume, segment, generation), whatever epoch and version, share a bucket. */
static uint32_t *bucket(struct sp_places *places, const struct sp_uuid *volume, uint64_t segment,
                        uint32_t generation)
{
    uint64_t hash;
    memcpy(&hash, volume->bytes, sizeof hash);
    hash = (hash ^ segment ^ (uint64_t)generation << 48) * 0x9e3779b97f4a7c15U;
    return &places->buckets[hash >> 32 & (places->buckets_count - 1)];
}

static bool grow_buckets(struct sp_places *places)
{
    uint32_t count = places->buckets_count ? places->buckets_count * 2 : FIRST_BUCKETS;
    uint32_t *buckets = calloc(count, sizeof *buckets);
    if (!buckets)
        return false;
    free(places->buckets);
    places->buckets = buckets;
    places->buckets_count = count;
    for (uint32_t i = 0; i < places->files_count; i++) {
        struct sp_place_file *file = &places->files[i];
        uint32_t *head = bucket(places, &file->volume, file->segment, file->generation);
        file->next = *head;
        *head = i + 1;
    }
    return true;
}

static enum sp_status add_file(struct sp_places *places, const struct sp_place_file *like,
                               struct sp_place_file **ret_file)
{
    if (places->files_count == places->files_capacity) {
        uint32_t capacity = places->files_capacity ? places->files_capacity * 2 : 64;
        struct sp_place_file *files = realloc(places->files, capacity * sizeof *files);
        if (!files)
            return sp_error_set(places->error, SP_NO_MEMORY, "scan", "out of memory");
        places->files = files;
        places->files_capacity = capacity;
    }
    if (places->files_count >= places->buckets_count && !grow_buckets(places))
        return sp_error_set(places->error, SP_NO_MEMORY, "scan", "out of memory");
    struct sp_place_file *file = &places->files[places->files_count];
    *file = *like;
    uint32_t *head = bucket(places, &file->volume, file->segment, file->generation);
    file->next = *head;
    *head = ++places->files_count;
    *ret_file = file;
    return SP_OK;
}

static enum sp_status open_file(struct sp_places *places, struct sp_place_file *file)
{
    char path[4096];
    file->used = ++places->clock;
    if (file->fd >= 0)
        return SP_OK;
    if (places->open_count >= OPEN_MAX_FILES) {
        struct sp_place_file *oldest = NULL;
        for (uint32_t i = 0; i < places->files_count; i++)
            if (places->files[i].fd >= 0 && (!oldest || places->files[i].used < oldest->used))
                oldest = &places->files[i];
        sp_assert(oldest);
        /* What it could not write is learnt here and not lost with the descriptor. */
        int failed = fdatasync(oldest->fd);
        file_path(places, oldest, path);
        close(oldest->fd);
        oldest->fd = -1;
        places->open_count--;
        if (failed)
            return io_error(places, path, "fdatasync");
    }
    file_path(places, file, path);
    file->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file->fd < 0 && errno == ENOENT) {
        char *slash = strrchr(path, '/');
        *slash = '\0';
        enum sp_status status = make_dir(places, path);
        if (status != SP_OK)
            return status;
        *slash = '/';
        file->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    if (file->fd < 0)
        return io_error(places, path, "open");
    places->open_count++;
    return SP_OK;
}

/* The version of the file for this epoch that comes after `after` (NULL: the first), made when
 * there is none. */
static enum sp_status version_for(struct sp_places *places, const struct sp_block_header *h,
                                  const struct sp_place_file *after,
                                  struct sp_place_file **ret_file)
{
    struct sp_place_file *best = NULL;
    uint32_t versions = 0;
    for (uint32_t i = *bucket(places, &h->volume, h->segment, h->generation); i;
         i = places->files[i - 1].next) {
        struct sp_place_file *file = &places->files[i - 1];
        if (file->segment != h->segment || file->generation != h->generation ||
            !sp_uuid_eq(&file->volume, &h->volume))
            continue;
        if (file->version + 1 > versions)
            versions = file->version + 1;
        if (file->epoch_id == h->epoch_id && (!after || file->version > after->version) &&
            (!best || file->version < best->version))
            best = file;
    }
    if (!best) {
        if (versions > SP_PLACES_VERSION_MAX)
            return SP_LIMIT;
        struct sp_place_file fresh = {.volume = h->volume,
                                      .segment = h->segment,
                                      .generation = h->generation,
                                      .epoch_id = h->epoch_id,
                                      .epoch_counter = h->epoch_counter,
                                      .version = versions,
                                      .fd = -1};
        return add_file(places, &fresh, ret_file);
    }
    *ret_file = best;
    return SP_OK;
}

static bool mark(struct sp_place_file *file, uint32_t first, uint32_t count)
{
    uint32_t words = (first + count + 63) / 64;
    if (words > file->present_words) {
        uint32_t more = words < 2 * file->present_words ? 2 * file->present_words : words;
        uint64_t *present = realloc(file->present, more * sizeof *present);
        if (!present)
            return false;
        memset(present + file->present_words, 0, (more - file->present_words) * sizeof *present);
        file->present = present;
        file->present_words = more;
    }
    for (uint32_t i = first; i < first + count; i++)
        file->present[i / 64] |= 1ULL << (i % 64);
    file->blocks += count;
    if (first + count > file->end)
        file->end = first + count;
    return true;
}

static bool write_all(int fd, const uint8_t *bytes, size_t len, off_t at)
{
    while (len) {
        ssize_t n = pwrite(fd, bytes, len, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
        at += n;
    }
    return true;
}

/* Compares blocks with what is there; each that differs is put into a later version. */
static enum sp_status put_again(struct sp_places *places, struct sp_place_file *file,
                                const struct sp_block_header *first, const uint8_t *blocks,
                                uint32_t count);

static enum sp_status put_into(struct sp_places *places, struct sp_place_file *file,
                               const struct sp_block_header *first, const uint8_t *blocks,
                               uint32_t count)
{
    for (uint32_t i = 0; i < count;) {
        uint32_t index = first->index + i, n = 1;
        bool taken = sp_place_file_has(file, index);
        while (i + n < count && sp_place_file_has(file, index + n) == taken)
            n++;
        struct sp_block_header part = *first;
        part.index = index;
        enum sp_status status = open_file(places, file);
        if (status != SP_OK)
            return status;
        const uint8_t *from = blocks + (size_t)i * SP_BLOCK_BYTES;
        if (taken) {
            uint32_t number = (uint32_t)(file - places->files);
            status = put_again(places, file, &part, from, n);
            if (status != SP_OK)
                return status;
            file = &places->files[number]; /* the array may have moved */
        } else {
            char path[4096];
            file_path(places, file, path);
            if (!write_all(file->fd, from, (size_t)n * SP_BLOCK_BYTES,
                           (off_t)index * SP_BLOCK_BYTES))
                return io_error(places, path, "write");
            if (!mark(file, index, n))
                return sp_error_set(places->error, SP_NO_MEMORY, "scan", "out of memory");
            places->blocks += n;
        }
        i += n;
    }
    return SP_OK;
}

static enum sp_status put_again(struct sp_places *places, struct sp_place_file *file,
                                const struct sp_block_header *first, const uint8_t *blocks,
                                uint32_t count)
{
    uint32_t number = (uint32_t)(file - places->files);
    char path[4096];
    for (uint32_t i = 0; i < count;) {
        uint32_t n = count - i < COMPARE_BLOCKS ? count - i : COMPARE_BLOCKS;
        size_t len = (size_t)n * SP_BLOCK_BYTES;
        file = &places->files[number];
        enum sp_status status = open_file(places, file);
        if (status != SP_OK)
            return status;
        file_path(places, file, path);
        /* Each level of versions reads into the same buffer: so it is looked at before anything is
         * put elsewhere. */
        if (pread(file->fd, places->compare, len, (off_t)(first->index + i) * SP_BLOCK_BYTES) !=
            (ssize_t)len)
            return io_error(places, path, "reading back");
        if (memcmp(places->compare, blocks + (size_t)i * SP_BLOCK_BYTES, len) == 0) {
            file->twins += n;
            places->twins += n;
            i += n;
            continue;
        }
        bool differs[COMPARE_BLOCKS];
        for (uint32_t k = 0; k < n; k++)
            differs[k] = memcmp(places->compare + (size_t)k * SP_BLOCK_BYTES,
                                blocks + (size_t)(i + k) * SP_BLOCK_BYTES, SP_BLOCK_BYTES) != 0;
        for (uint32_t k = 0; k < n; k++, i++) {
            file = &places->files[number];
            if (!differs[k]) {
                file->twins++;
                places->twins++;
                continue;
            }
            struct sp_block_header part = *first;
            struct sp_place_file *next;
            part.index = first->index + i;
            file->conflicts++;
            places->conflicts++;
            status = version_for(places, &part, file, &next);
            if (status == SP_LIMIT) {
                places->dropped++;
                continue;
            }
            if (status == SP_OK)
                status = put_into(places, next, &part, blocks + (size_t)i * SP_BLOCK_BYTES, 1);
            if (status != SP_OK)
                return status;
        }
    }
    return SP_OK;
}

enum sp_status sp_places_put(struct sp_places *places, const struct sp_block_header *first,
                             const uint8_t *blocks, uint32_t count)
{
    struct sp_place_file *file;
    if (first->index >= SP_PLACES_INDEX_MAX || count > SP_PLACES_INDEX_MAX - first->index) {
        places->dropped += count;
        return SP_OK;
    }
    enum sp_status status = version_for(places, first, NULL, &file);
    if (status == SP_LIMIT) {
        places->dropped += count;
        return SP_OK;
    }
    return status == SP_OK ? put_into(places, file, first, blocks, count) : status;
}

/* ---- Taking up an earlier scan ---- */

static enum sp_status take_up_file(struct sp_places *places, const char *path,
                                   const struct sp_place_file *name)
{
    struct sp_place_file *file = NULL;
    enum sp_status status = SP_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return io_error(places, path, "open");
    for (uint32_t index = 0; status == SP_OK && index < SP_PLACES_INDEX_MAX;) {
        ssize_t n = pread(fd, places->compare, (size_t)COMPARE_BLOCKS * SP_BLOCK_BYTES,
                          (off_t)index * SP_BLOCK_BYTES);
        if (n < 0)
            status = io_error(places, path, "read");
        if (n < (ssize_t)SP_BLOCK_BYTES)
            break;
        for (size_t k = 0; k < (size_t)n / SP_BLOCK_BYTES && status == SP_OK; k++, index++) {
            struct sp_block_header h;
            if (sp_block_read(places->compare + k * SP_BLOCK_BYTES, &h) != SP_OK ||
                h.index != index || h.segment != name->segment ||
                h.generation != name->generation || !sp_uuid_eq(&h.volume, &name->volume) ||
                (file && file->epoch_id != h.epoch_id))
                continue;
            if (!file) {
                struct sp_place_file fresh = *name;
                fresh.epoch_id = h.epoch_id;
                fresh.epoch_counter = h.epoch_counter;
                status = add_file(places, &fresh, &file);
            }
            if (status == SP_OK && !mark(file, index, 1))
                status = sp_error_set(places->error, SP_NO_MEMORY, "scan", "out of memory");
        }
    }
    close(fd);
    return status;
}

static enum sp_status take_up_volume(struct sp_places *places, const char *path,
                                     const struct sp_uuid *volume)
{
    enum sp_status status = SP_OK;
    DIR *dir = opendir(path);
    if (!dir)
        return io_error(places, path, "opendir");
    for (struct dirent *e; status == SP_OK && (e = readdir(dir));) {
        struct sp_place_file name = {.volume = *volume, .fd = -1};
        char below[4096];
        if (!sp_place_parse(e->d_name, &name.segment, &name.generation, &name.version))
            continue;
        if (snprintf(below, sizeof below, "%s/%s", path, e->d_name) >= (int)sizeof below)
            continue;
        status = take_up_file(places, below, &name);
    }
    closedir(dir);
    return status;
}

enum sp_status sp_places_open(struct sp_places *places, const char *out_dir, struct sp_error *error)
{
    *places = (struct sp_places){.error = error};
    places->out_dir = strdup(out_dir);
    places->compare = malloc((size_t)COMPARE_BLOCKS * SP_BLOCK_BYTES);
    if (!places->out_dir || !places->compare || !grow_buckets(places))
        return sp_error_set(error, SP_NO_MEMORY, "scan", "out of memory");
    enum sp_status status = make_dir(places, out_dir);
    if (status != SP_OK)
        return status;
    DIR *dir = opendir(out_dir);
    if (!dir)
        return io_error(places, out_dir, "opendir");
    for (struct dirent *e; status == SP_OK && (e = readdir(dir));) {
        struct sp_uuid volume;
        char below[4096];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            strcmp(e->d_name, "scan.json") == 0 || strcmp(e->d_name, "scan.json.tmp") == 0)
            continue;
        if (strncmp(e->d_name, "volume-", 7) != 0 ||
            sp_uuid_parse(sp_slice_str(e->d_name + 7), &volume) != SP_OK) {
            status = sp_error_set(error, SP_EXISTS, out_dir, "it holds %s, which no scan made",
                                  e->d_name);
            sp_error_todo(error, "name a new directory, or that of an earlier scan");
            break;
        }
        if (snprintf(below, sizeof below, "%s/%s", out_dir, e->d_name) >= (int)sizeof below)
            continue;
        status = take_up_volume(places, below, &volume);
    }
    closedir(dir);
    return status;
}

enum sp_status sp_places_sync(struct sp_places *places)
{
    char path[4096];
    for (uint32_t i = 0; i < places->files_count; i++) {
        struct sp_place_file *file = &places->files[i];
        file_path(places, file, path);
        if (file->fd >= 0 && fdatasync(file->fd) != 0)
            return io_error(places, path, "fdatasync");
        /* The directories: once for each volume would do; files of one volume mostly follow one
         * another. */
        *strrchr(path, '/') = '\0';
        if (i == 0 || !sp_uuid_eq(&file->volume, &places->files[i - 1].volume)) {
            enum sp_status status = sync_path(places, path);
            if (status != SP_OK)
                return status;
        }
    }
    return sync_path(places, places->out_dir);
}

void sp_places_close(struct sp_places *places)
{
    for (uint32_t i = 0; i < places->files_count; i++) {
        if (places->files[i].fd >= 0)
            close(places->files[i].fd);
        free(places->files[i].present);
    }
    free(places->files);
    free(places->buckets);
    free(places->compare);
    free(places->out_dir);
    *places = (struct sp_places){0};
}
