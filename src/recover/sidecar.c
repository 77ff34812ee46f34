#include "recover/sidecar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX (SP_PLACES_VERSION_MAX + 1U)

void sp_sidecars_init(struct sp_sidecars *sidecars, const char *out_dir, struct sp_error *error)
{
    *sidecars = (struct sp_sidecars){.out_dir = out_dir, .fd = -1, .error = error};
}

void sp_sidecars_close(struct sp_sidecars *sidecars)
{
    if (sidecars->fd >= 0)
        close(sidecars->fd);
    sidecars->fd = -1;
}

static enum sp_status io_error(struct sp_sidecars *sidecars, const char *path, const char *doing)
{
    enum sp_status status = errno == ENOSPC || errno == EDQUOT ? SP_NO_SPACE : SP_IO;
    return sp_error_set(sidecars->error, status, path, "%s failed: %s", doing, strerror(errno));
}

/* ---- Names ---- */

static void file_name(const struct sp_parity_header *h, char ret_name[128])
{
    snprintf(ret_name, 128,
             "%016" PRIx64 ".%08" PRIx32 ".%016" PRIx64 ".%u+%u.%" PRIu32 "+%" PRIu32 ".par",
             h->segment, h->generation, h->epoch_id, h->shape.data_rows, h->shape.parity_rows,
             h->data_blocks, h->blocks - h->data_blocks);
}

static bool parse_name(const char *name, const struct sp_uuid *volume, struct sp_parity_header *ret)
{
    struct sp_parity_header h = {.volume = *volume};
    uint32_t footer_blocks;
    char again[128];
    if (sscanf(name,
               "%16" SCNx64 ".%8" SCNx32 ".%16" SCNx64 ".%3hhu+%2hhu.%10" SCNu32 "+%10" SCNu32,
               &h.segment, &h.generation, &h.epoch_id, &h.shape.data_rows, &h.shape.parity_rows,
               &h.data_blocks, &footer_blocks) != 7)
        return false;
    h.blocks = h.data_blocks + footer_blocks;
    file_name(&h, again);
    if (strcmp(name, again) != 0 || !sp_parity_shape_is_valid(h.shape) || h.data_blocks == 0 ||
        h.blocks < h.data_blocks || h.blocks > SP_PLACES_INDEX_MAX)
        return false;
    *ret = h;
    return true;
}

static void file_path(const struct sp_sidecars *sidecars, const struct sp_parity_header *h,
                      char ret_path[4096])
{
    char uuid[SP_UUID_TEXT], name[128];
    sp_uuid_text(&h->volume, uuid);
    file_name(h, name);
    snprintf(ret_path, 4096, "%s/volume-%s/%s", sidecars->out_dir, uuid, name);
}

/* Whether both are blocks of one sidecar. */
static bool same_sidecar(const struct sp_parity_header *a, const struct sp_parity_header *b)
{
    return sp_uuid_eq(&a->volume, &b->volume) && a->segment == b->segment &&
           a->generation == b->generation && a->epoch_id == b->epoch_id && a->blocks == b->blocks &&
           a->data_blocks == b->data_blocks && sp_parity_shape_eq(a->shape, b->shape);
}

/* ---- Keeping ---- */

static enum sp_status open_file(struct sp_sidecars *sidecars, const struct sp_parity_header *h)
{
    char path[4096];
    if (sidecars->fd >= 0 && same_sidecar(h, &sidecars->last))
        return SP_OK;
    sp_sidecars_close(sidecars);
    file_path(sidecars, h, path);
    sidecars->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (sidecars->fd < 0 && errno == ENOENT) {
        char *slash = strrchr(path, '/');
        *slash = '\0';
        if (mkdir(path, 0700) != 0 && errno != EEXIST)
            return io_error(sidecars, path, "mkdir");
        *slash = '/';
        sidecars->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    if (sidecars->fd < 0)
        return io_error(sidecars, path, "open");
    sidecars->last = *h;
    return SP_OK;
}

enum sp_status sp_sidecars_put(struct sp_sidecars *sidecars, const struct sp_parity_header *header,
                               const uint8_t *block)
{
    char path[4096];
    if (header->blocks > SP_PLACES_INDEX_MAX)
        return SP_OK; /* its segment is not kept either */
    enum sp_status status = open_file(sidecars, header);
    if (status != SP_OK)
        return status;
    sidecars->blocks++;
    ssize_t n = pwrite(sidecars->fd, block, SP_BLOCK_BYTES, (off_t)header->index * SP_BLOCK_BYTES);
    if (n == (ssize_t)SP_BLOCK_BYTES)
        return SP_OK;
    file_path(sidecars, header, path);
    if (n >= 0)
        errno = ENOSPC;
    return io_error(sidecars, path, "write");
}

/* ---- Rebuilding ---- */

struct mending {
    struct sp_sidecars *sidecars;
    struct sp_places *places;
    struct sp_parity_header header; /* of the sidecar; the epoch's counter from its first block */
    struct sp_parity_coder *coder;
    uint32_t columns;
    uint32_t files[FILES_MAX]; /* of `places`: the segment's, by version */
    int fds[FILES_MAX];
    uint32_t files_count;
    int parity_fd;
    uint8_t *blocks; /* k + m */
};

/* The file that has the block; UINT32_MAX: none. */
static uint32_t holder(const struct mending *m, uint32_t index)
{
    for (uint32_t i = 0; i < m->files_count; i++)
        if (sp_place_file_has(&m->places->files[m->files[i]], index))
            return i;
    return UINT32_MAX;
}

static bool read_at(int fd, uint32_t index, uint8_t *ret_block)
{
    return pread(fd, ret_block, SP_BLOCK_BYTES, (off_t)index * SP_BLOCK_BYTES) ==
           (ssize_t)SP_BLOCK_BYTES;
}

static bool read_parity(struct mending *m, uint32_t index, uint8_t *block)
{
    struct sp_parity_header h;
    if (!read_at(m->parity_fd, index, block) || sp_parity_block_read(block, &h) != SP_OK ||
        h.index != index || !same_sidecar(&h, &m->header))
        return false;
    m->header.epoch_counter = h.epoch_counter;
    sp_parity_mask(block);
    return true;
}

static enum sp_status mend_column(struct mending *m, uint32_t c)
{
    uint32_t k = m->header.shape.data_rows, lost = 0;
    struct sp_parity_column column = {0};
    for (uint32_t r = 0; r < k; r++) {
        uint64_t index = (uint64_t)r * m->columns + c;
        column.lost[r] = index < m->header.blocks && holder(m, (uint32_t)index) == UINT32_MAX;
        lost += column.lost[r];
    }
    if (lost == 0 || lost > m->header.shape.parity_rows)
        return SP_OK;
    uint32_t found = 0;
    for (uint32_t p = 0; p < m->header.shape.parity_rows && found < lost; p++) {
        uint8_t *block = m->blocks + (size_t)(k + p) * SP_BLOCK_BYTES;
        if (read_parity(m, p * m->columns + c, block)) {
            column.parity[p] = block;
            found++;
        }
    }
    for (uint32_t r = 0; r < k && found == lost; r++) {
        uint64_t index = (uint64_t)r * m->columns + c;
        if (index >= m->header.blocks)
            break;
        column.data[r] = m->blocks + (size_t)r * SP_BLOCK_BYTES;
        if (column.lost[r])
            continue;
        if (!read_at(m->fds[holder(m, (uint32_t)index)], (uint32_t)index, column.data[r]))
            return SP_OK;
        sp_parity_mask(column.data[r]);
    }
    if (found < lost || sp_parity_solve(m->coder, &column) != SP_OK)
        return SP_OK;
    for (uint32_t r = 0; r < k; r++) {
        struct sp_block_header header;
        if (!column.data[r] || !column.lost[r] ||
            sp_parity_unmask(column.data[r], &m->header, r * m->columns + c) != SP_OK ||
            sp_block_read(column.data[r], &header) != SP_OK)
            continue;
        enum sp_status status = sp_places_put(m->places, &header, column.data[r], 1);
        if (status != SP_OK)
            return status;
        m->sidecars->rebuilt++;
    }
    return SP_OK;
}

static enum sp_status mend_columns(struct mending *m)
{
    uint32_t rows = m->header.shape.data_rows + (uint32_t)m->header.shape.parity_rows;
    enum sp_status status = SP_OK;
    m->columns = sp_parity_columns(m->header.shape, m->header.blocks);
    m->coder = sp_parity_coder_new(m->header.shape);
    m->blocks = malloc((size_t)rows * SP_BLOCK_BYTES);
    if (!m->coder || !m->blocks)
        status = sp_error_set(m->sidecars->error, SP_NO_MEMORY, "scan", "out of memory");
    for (uint32_t c = 0; c < m->columns && status == SP_OK; c++)
        status = mend_column(m, c);
    sp_parity_coder_free(m->coder);
    free(m->blocks);
    return status;
}

/* The files that have blocks of the sidecar's segment, of its epoch. */
static void open_segment(struct mending *m)
{
    for (uint32_t version = 0; version <= SP_PLACES_VERSION_MAX; version++) {
        for (uint32_t i = 0; i < m->places->files_count; i++) {
            const struct sp_place_file *file = &m->places->files[i];
            char path[4096];
            if (file->version != version || file->segment != m->header.segment ||
                file->generation != m->header.generation || file->epoch_id != m->header.epoch_id ||
                !sp_uuid_eq(&file->volume, &m->header.volume))
                continue;
            sp_place_path(m->sidecars->out_dir, &file->volume, file->segment, file->generation,
                          version, path, sizeof path);
            int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
            if (fd < 0)
                continue;
            m->files[m->files_count] = i;
            m->fds[m->files_count++] = fd;
        }
    }
}

static enum sp_status mend_segment(struct sp_sidecars *sidecars, struct sp_places *places,
                                   const struct sp_parity_header *header)
{
    struct mending m = {.sidecars = sidecars, .places = places, .header = *header};
    char path[4096];
    file_path(sidecars, header, path);
    m.parity_fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (m.parity_fd < 0)
        return io_error(sidecars, path, "open");
    open_segment(&m);
    enum sp_status status = m.files_count ? mend_columns(&m) : SP_OK;
    for (uint32_t i = 0; i < m.files_count; i++)
        close(m.fds[i]);
    close(m.parity_fd);
    return status;
}

static enum sp_status mend_volume(struct sp_sidecars *sidecars, struct sp_places *places,
                                  const char *path, const struct sp_uuid *volume)
{
    enum sp_status status = SP_OK;
    DIR *dir = opendir(path);
    if (!dir)
        return io_error(sidecars, path, "opendir");
    for (struct dirent *e; status == SP_OK && (e = readdir(dir));) {
        struct sp_parity_header header;
        if (parse_name(e->d_name, volume, &header))
            status = mend_segment(sidecars, places, &header);
    }
    closedir(dir);
    return status;
}

enum sp_status sp_sidecars_mend(struct sp_sidecars *sidecars, struct sp_places *places)
{
    enum sp_status status = SP_OK;
    sp_sidecars_close(sidecars);
    DIR *dir = opendir(sidecars->out_dir);
    if (!dir)
        return io_error(sidecars, sidecars->out_dir, "opendir");
    for (struct dirent *e; status == SP_OK && (e = readdir(dir));) {
        struct sp_uuid volume;
        char path[4096];
        if (strncmp(e->d_name, "volume-", 7) == 0 &&
            sp_uuid_parse(sp_slice_str(e->d_name + 7), &volume) == SP_OK &&
            snprintf(path, sizeof path, "%s/%s", sidecars->out_dir, e->d_name) < (int)sizeof path)
            status = mend_volume(sidecars, places, path, &volume);
    }
    closedir(dir);
    return status;
}
