#include "recover/relic.h"
#include "recover/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_BLOCKS 256U

void sp_recover_note(struct sp_recover_report *report, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    char **grown = realloc(report->notes, (report->notes_count + 1) * sizeof *grown);
    if (!grown)
        return;
    report->notes = grown;
    grown[report->notes_count] = strdup(text);
    if (grown[report->notes_count])
        report->notes_count++;
}

static enum sp_status no_memory(const struct sp_relics *relics)
{
    return sp_error_set(relics->error, SP_NO_MEMORY, "rebuild", "out of memory");
}

/* Calls back with each valid block of a file that stands in its place. */
static enum sp_status each_block(const struct sp_relics *relics, uint64_t segment,
                                 uint32_t generation, uint32_t version,
                                 enum sp_status (*each)(void *context, const uint8_t *block,
                                                        const struct sp_block_header *header),
                                 void *context)
{
    char path[4096];
    enum sp_status status = SP_OK;
    sp_place_path(relics->dir, &relics->volume, segment, generation, version, path, sizeof path);
    uint8_t *bytes = malloc((size_t)READ_BLOCKS * SP_BLOCK_BYTES);
    if (!bytes)
        return no_memory(relics);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        status = sp_error_set(relics->error, SP_IO, path, "cannot be opened: %s", strerror(errno));
    for (uint32_t index = 0; status == SP_OK && index < SP_PLACES_INDEX_MAX;) {
        ssize_t n =
            pread(fd, bytes, (size_t)READ_BLOCKS * SP_BLOCK_BYTES, (off_t)index * SP_BLOCK_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            status =
                sp_error_set(relics->error, SP_IO, path, "cannot be read: %s", strerror(errno));
        if (n < (ssize_t)SP_BLOCK_BYTES)
            break;
        for (size_t i = 0; i < (size_t)n / SP_BLOCK_BYTES && status == SP_OK; i++, index++) {
            struct sp_block_header h;
            const uint8_t *block = bytes + i * SP_BLOCK_BYTES;
            if (sp_block_read(block, &h) == SP_OK && sp_uuid_eq(&h.volume, &relics->volume) &&
                h.index == index && h.segment == segment && h.generation == generation)
                status = each(context, block, &h);
        }
    }
    if (fd >= 0)
        close(fd);
    free(bytes);
    return status;
}

/* ---- Loading ---- */

struct loading {
    struct sp_relics *relics;
    uint32_t version;
    uint32_t current; /* relic + 1 */
};

static struct sp_relic *relic_for(struct loading *loading, const struct sp_block_header *h)
{
    struct sp_relics *relics = loading->relics;
    struct sp_relic *relic = loading->current ? &relics->relics[loading->current - 1] : NULL;
    if (relic && relic->epoch_id == h->epoch_id)
        return relic;
    relic = NULL;
    /* Files come by segment: a relic of this one is among the last. */
    for (uint32_t i = relics->count;
         i-- > 0 && relics->relics[i].segment == h->segment && !relic;) {
        struct sp_relic *r = &relics->relics[i];
        if (r->generation == h->generation && r->epoch_id == h->epoch_id)
            relic = r;
    }
    if (!relic) {
        if ((relics->count & (relics->count - 1)) == 0) {
            struct sp_relic *grown =
                realloc(relics->relics, (relics->count ? relics->count * 2 : 1) * sizeof *grown);
            if (!grown)
                return NULL;
            relics->relics = grown;
        }
        relic = &relics->relics[relics->count++];
        *relic = (struct sp_relic){.segment = h->segment,
                                   .epoch_id = h->epoch_id,
                                   .epoch_counter = h->epoch_counter,
                                   .generation = h->generation,
                                   .first_batch = UINT64_MAX,
                                   .batch_cap = UINT64_MAX};
    }
    bool known = relic->files_count && relic->versions[relic->files_count - 1] == loading->version;
    if (!known && relic->files_count < SP_RELIC_FILES_MAX)
        relic->versions[relic->files_count++] = loading->version;
    loading->current = (uint32_t)(relic - relics->relics) + 1;
    return relic;
}

static enum sp_status load_block(void *context, const uint8_t *block,
                                 const struct sp_block_header *h)
{
    struct loading *loading = context;
    struct sp_relic *relic = relic_for(loading, h);
    if (!relic)
        return no_memory(loading->relics);
    if (h->index >= relic->end)
        relic->end = h->index + 1;
    if (h->flags & SP_BLOCK_FOOTER) {
        struct sp_block_header header;
        struct sp_trailer trailer;
        if ((h->flags & SP_BLOCK_BATCH_LAST) &&
            sp_trailer_read(block, &header, &trailer) == SP_OK) {
            relic->has_trailer = true;
            relic->trailer = trailer;
            relic->trailer_header = header;
        }
        return SP_OK;
    }
    relic->data_blocks++;
    if (h->index >= relic->data_end)
        relic->data_end = h->index + 1;
    if (h->batch < relic->first_batch)
        relic->first_batch = h->batch;
    if (h->index == 0 && !relic->has_head && sp_segment_head_read(block, &relic->head) == SP_OK)
        relic->has_head = true;
    return SP_OK;
}

struct scan_file {
    uint64_t segment;
    uint32_t generation, version;
};

static int by_name(const void *left, const void *right)
{
    const struct scan_file *a = left, *b = right;
    if (a->segment != b->segment)
        return a->segment < b->segment ? -1 : 1;
    if (a->generation != b->generation)
        return a->generation < b->generation ? -1 : 1;
    return (a->version > b->version) - (a->version < b->version);
}

static int by_log(const void *left, const void *right)
{
    const struct sp_relic *a = left, *b = right;
    if (a->epoch_counter != b->epoch_counter)
        return a->epoch_counter < b->epoch_counter ? -1 : 1;
    if (a->epoch_id != b->epoch_id)
        return a->epoch_id < b->epoch_id ? -1 : 1;
    if (a->segment != b->segment)
        return a->segment < b->segment ? -1 : 1;
    return (a->generation > b->generation) - (a->generation < b->generation);
}

static enum sp_status list_files(const struct sp_relics *relics, struct scan_file **ret_files,
                                 size_t *ret_count)
{
    char path[4096], uuid[SP_UUID_TEXT];
    struct scan_file *files = NULL;
    size_t count = 0;
    sp_uuid_text(&relics->volume, uuid);
    snprintf(path, sizeof path, "%s/volume-%s", relics->dir, uuid);
    DIR *dir = opendir(path);
    if (!dir) {
        sp_error_set(relics->error, SP_NOT_FOUND, relics->dir, "it holds nothing of volume %s",
                     uuid);
        sp_error_todo(relics->error, "name the directory that the scan wrote");
        return SP_NOT_FOUND;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        struct scan_file file;
        if (!sp_place_parse(e->d_name, &file.segment, &file.generation, &file.version))
            continue;
        if ((count & (count - 1)) == 0) {
            struct scan_file *grown = realloc(files, (count ? count * 2 : 1) * sizeof *grown);
            if (!grown) {
                free(files);
                closedir(dir);
                return no_memory(relics);
            }
            files = grown;
        }
        files[count++] = file;
    }
    closedir(dir);
    if (count)
        qsort(files, count, sizeof *files, by_name);
    *ret_files = files;
    *ret_count = count;
    return SP_OK;
}

enum sp_status sp_relics_load(struct sp_relics *relics, const char *scan_dir,
                              const struct sp_uuid *volume, struct sp_recover_report *report,
                              struct sp_error *error)
{
    struct scan_file *files = NULL;
    size_t count = 0;
    *relics = (struct sp_relics){
        .dir = strdup(scan_dir), .volume = *volume, .report = report, .error = error};
    if (!relics->dir)
        return no_memory(relics);
    enum sp_status status = list_files(relics, &files, &count);
    for (size_t i = 0; i < count && status == SP_OK; i++) {
        struct loading loading = {.relics = relics, .version = files[i].version};
        status = each_block(relics, files[i].segment, files[i].generation, files[i].version,
                            load_block, &loading);
    }
    free(files);
    if (status == SP_OK && relics->count == 0)
        status = sp_error_set(error, SP_NOT_FOUND, scan_dir,
                              "there is not one valid block of the volume");
    if (status == SP_OK)
        qsort(relics->relics, relics->count, sizeof *relics->relics, by_log);
    return status;
}

void sp_relics_release(struct sp_relics *relics)
{
    free(relics->dir);
    free(relics->relics);
    free(relics->live);
    *relics = (struct sp_relics){0};
}

/* ---- One segment in memory ---- */

struct rival {
    uint8_t *block;
    uint32_t index;
};

struct merging {
    const struct sp_relics *relics;
    const struct sp_relic *relic;
    struct sp_image *image;
    struct rival *rivals;
    size_t rivals_count;
};

static uint8_t *place_of(const struct sp_image *image, uint32_t index)
{
    return image->blocks + (size_t)index * SP_BLOCK_BYTES;
}

static bool is_there(const struct sp_image *image, uint32_t index)
{
    return index < image->count && memcmp(place_of(image, index), SP_BLOCK_MAGIC, 4) == 0;
}

static enum sp_status merge_block(void *context, const uint8_t *block,
                                  const struct sp_block_header *h)
{
    struct merging *m = context;
    if (h->epoch_id != m->relic->epoch_id || h->index >= m->image->count)
        return SP_OK;
    uint8_t *place = place_of(m->image, h->index);
    if (!is_there(m->image, h->index)) {
        memcpy(place, block, SP_BLOCK_BYTES);
        return SP_OK;
    }
    if (memcmp(place, block, SP_BLOCK_BYTES) == 0)
        return SP_OK;
    struct rival *grown = realloc(m->rivals, (m->rivals_count + 1) * sizeof *grown);
    if (!grown)
        return no_memory(m->relics);
    m->rivals = grown;
    grown[m->rivals_count] = (struct rival){malloc(SP_BLOCK_BYTES), h->index};
    if (!grown[m->rivals_count].block)
        return no_memory(m->relics);
    memcpy(grown[m->rivals_count++].block, block, SP_BLOCK_BYTES);
    return SP_OK;
}

/* How well a block fits between its neighbours, or what a later head says. */
static unsigned fit(const struct merging *m, const uint8_t *block, uint32_t index)
{
    struct sp_block_header h, next;
    unsigned points = 0;
    if (sp_block_read(block, &h) != SP_OK)
        return 0;
    uint64_t chain = sp_block_chain(block);
    if (index && is_there(m->image, index - 1) &&
        sp_block_chain(place_of(m->image, index - 1)) == h.chain)
        points++;
    if (is_there(m->image, index + 1) &&
        sp_block_read(place_of(m->image, index + 1), &next) == SP_OK && next.chain == chain)
        points += 2;
    const struct sp_relic *r = m->relic;
    if (r->declared && r->end_declared.generation == r->generation &&
        index + 1 == r->end_declared.blocks && r->end_declared.chain == chain)
        points += 4;
    return points;
}

/* From the end: a chain value says for certain which block came before it, and only hints at which
 * came after. */
static int from_the_end(const void *left, const void *right)
{
    const struct rival *a = left, *b = right;
    return (a->index < b->index) - (a->index > b->index);
}

static void settle_rivals(struct merging *m)
{
    if (m->rivals_count)
        qsort(m->rivals, m->rivals_count, sizeof *m->rivals, from_the_end);
    for (size_t i = 0; i < m->rivals_count; i++) {
        uint8_t *place = place_of(m->image, m->rivals[i].index);
        if (fit(m, m->rivals[i].block, m->rivals[i].index) > fit(m, place, m->rivals[i].index))
            memcpy(place, m->rivals[i].block, SP_BLOCK_BYTES);
    }
}

static bool is_data(const struct sp_image *image, uint32_t index, struct sp_block_header *ret)
{
    return is_there(image, index) && sp_block_read(place_of(image, index), ret) == SP_OK &&
           !(ret->flags & SP_BLOCK_FOOTER);
}

/* Where the newest segment of all ends, nothing telling: before a batch that was begun and not
 * finished. */
static uint32_t tail_end(const struct sp_image *image, uint32_t data_end)
{
    struct sp_block_header last, h;
    if (data_end == 0 || !is_data(image, data_end - 1, &last) || (last.flags & SP_BLOCK_BATCH_LAST))
        return data_end;
    uint32_t end = data_end - 1;
    for (uint32_t i = end; i-- > 0;)
        if (is_data(image, i, &h)) {
            if (h.batch != last.batch)
                break;
            end = i;
        }
    /* A hole before it may hold its beginning, or the end of the batch before it. Either way the
     * place is lost. */
    return end;
}

enum sp_status sp_image_load(const struct sp_relics *relics, const struct sp_relic *relic,
                             bool is_last, struct sp_image *ret_image)
{
    struct sp_image image = {.count = relic->end,
                             .id = {relics->volume, relic->segment, relic->generation}};
    struct merging merging = {.relics = relics, .relic = relic, .image = &image};
    struct sp_block_header h;
    void *memory = NULL;
    size_t len = (size_t)image.count * SP_BLOCK_BYTES;
    if (posix_memalign(&memory, SP_BLOCK_BYTES, len ? len : SP_BLOCK_BYTES) != 0)
        return no_memory(relics);
    image.blocks = memory;
    memset(memory, 0, len);
    enum sp_status status = SP_OK;
    for (uint32_t i = 0; i < relic->files_count && status == SP_OK; i++)
        status = each_block(relics, relic->segment, relic->generation, relic->versions[i],
                            merge_block, &merging);
    if (status == SP_OK)
        settle_rivals(&merging);
    for (size_t i = 0; i < merging.rivals_count; i++)
        free(merging.rivals[i].block);
    free(merging.rivals);
    if (status != SP_OK) {
        sp_image_release(&image);
        return status;
    }
    if (relic->declared && relic->end_declared.generation == relic->generation)
        image.end = relic->end_declared.blocks;
    else if (relic->has_trailer)
        image.end = relic->trailer.data_blocks;
    else
        image.end = is_last ? tail_end(&image, relic->data_end) : relic->data_end;
    for (uint32_t i = 0; i < relic->data_end && i < image.count; i++) {
        if (!is_data(&image, i, &h))
            continue;
        if (i >= image.end || h.batch >= relic->batch_cap) {
            image.void_blocks++;
            memset(place_of(&image, i), 0, SP_BLOCK_BYTES);
        } else {
            image.present++;
        }
    }
    /* Blocks that a newer epoch's numbers make void lie at the end; there is nothing to miss behind
     * them. */
    if (relic->batch_cap != UINT64_MAX && !relic->declared && image.void_blocks)
        while (image.end && !is_there(&image, image.end - 1))
            image.end--;
    *ret_image = image;
    return SP_OK;
}

void sp_image_release(struct sp_image *image)
{
    free(image->blocks);
    *image = (struct sp_image){0};
}
