#include "recover/gather.h"

#include <stdlib.h>

struct lsns {
    uint64_t *ptr;
    size_t count;
    bool failed;
};

static void add_lsn(struct lsns *list, uint64_t lsn)
{
    if ((list->count & (list->count - 1)) == 0) {
        uint64_t *grown = realloc(list->ptr, (list->count ? list->count * 2 : 1) * sizeof *grown);
        if (!grown) {
            list->failed = true;
            return;
        }
        list->ptr = grown;
    }
    list->ptr[list->count++] = lsn;
}

static int by_number(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static bool has_lsn(const struct lsns *list, uint64_t lsn)
{
    return list->count && bsearch(&lsn, list->ptr, list->count, sizeof lsn, by_number);
}

static int by_lsn(const void *left, const void *right)
{
    const struct sp_healed *a = left, *b = right;
    return a->record.lsn < b->record.lsn ? -1 : a->record.lsn > b->record.lsn;
}

static bool heal(struct sp_gathered *gathered, const struct sp_record *record)
{
    uint32_t n = gathered->healed_count;
    if ((n & (n - 1)) == 0) {
        struct sp_healed *grown = realloc(gathered->healed, (n ? n * 2 : 1) * sizeof *grown);
        if (!grown)
            return false;
        gathered->healed = grown;
    }
    uint8_t *payload = malloc(record->payload.len + 1);
    if (!payload)
        return false;
    if (record->payload.len)
        memcpy(payload, record->payload.ptr, record->payload.len);
    gathered->healed[n].record = *record;
    gathered->healed[n].record.payload.ptr = payload;
    gathered->healed_count++;
    return true;
}

/* Opens the footer's table; false when it is damaged. */
static bool open_footer(const struct sp_relic *relic, const struct sp_image *image,
                        struct sp_footer_reader **ret_reader)
{
    const struct sp_trailer *t = &relic->trailer;
    if (!relic->has_trailer || t->data_blocks > image->count ||
        t->table_blocks > image->count - t->data_blocks)
        return false;
    return sp_footer_reader_new(image->blocks + (size_t)t->data_blocks * SP_BLOCK_BYTES,
                                &relic->trailer_header, t, ret_reader) == SP_OK;
}

/* Whether the relic was written from the other one. */
static bool replaces(const struct sp_relic *relic, const struct sp_relic *old)
{
    if (old->segment == relic->segment)
        return old->epoch_id == relic->epoch_id && old->generation < relic->generation;
    return old->state == SP_RELIC_RETIRED && relic->generation && relic->has_head &&
           old->segment < relic->segment && old->segment > relic->head.previous.segment;
}

/* The bodies that the footer lists and the data blocks lack, from the segment's older generations,
 * and from the segments that were merged into it. */
static enum sp_status heal_bodies(const struct sp_relics *relics, const struct sp_relic *relic,
                                  const struct lsns *wanted, struct sp_gathered *gathered)
{
    for (uint32_t i = 0; i < relics->count; i++) {
        const struct sp_relic *old = &relics->relics[i];
        struct sp_image image;
        struct sp_walker walker;
        struct sp_record record;
        struct sp_place place;
        if (!replaces(relic, old))
            continue;
        enum sp_status status = sp_image_load(relics, old, false, &image);
        if (status != SP_OK)
            return status;
        uint32_t count = image.end < image.count ? image.end : image.count;
        sp_walker_init(&walker, image.blocks, count, 0, &image.id);
        while (status == SP_OK && sp_walker_next(&walker, &record, &place)) {
            bool known = false;
            for (uint32_t k = 0; k < gathered->healed_count && !known; k++)
                known = gathered->healed[k].record.lsn == record.lsn;
            if (has_lsn(wanted, record.lsn) && !known && !heal(gathered, &record))
                status = SP_NO_MEMORY;
        }
        sp_walker_release(&walker);
        sp_image_release(&image);
        if (status != SP_OK)
            return status;
    }
    return SP_OK;
}

/* Whether the footer is of exactly these data blocks. */
static bool footer_matches(const struct sp_relic *relic, const struct sp_image *image)
{
    struct sp_digest_state state;
    struct sp_digest digest;
    if (relic->trailer.data_blocks != image->end)
        return false;
    sp_digest_init(&state);
    for (uint32_t i = 0; i < image->end; i++)
        sp_digest_update(
            &state, sp_slice(image->blocks + (size_t)i * SP_BLOCK_BYTES, SP_BLOCK_HEADER_BYTES));
    sp_digest_final(&state, &digest);
    return memcmp(&digest, &relic->trailer.digest, sizeof digest) == 0;
}

static enum sp_status read_footer(const struct sp_relics *relics, const struct sp_relic *relic,
                                  const struct lsns *walked, struct sp_gathered *gathered)
{
    struct sp_footer_reader *reader;
    struct lsns wanted = {0};
    struct sp_record record;
    struct sp_place place;
    if (!open_footer(relic, gathered->image, &reader))
        return SP_OK;
    enum sp_status status;
    while ((status = sp_footer_reader_next(reader, &record, &place)) == SP_OK) {
        /* Blocks beyond the end that counts may have been sealed over by a writer that did not
         * know. */
        if (place.block >= gathered->image->end || has_lsn(walked, record.lsn))
            continue;
        if (sp_record_is_body(record.type))
            add_lsn(&wanted, record.lsn);
        else if (!heal(gathered, &record))
            break;
    }
    sp_footer_reader_free(reader);
    gathered->footer_sound =
        status == SP_EOF && gathered->whole && footer_matches(relic, gathered->image);
    gathered->sealed_blocks = relic->trailer.data_blocks + relic->trailer.table_blocks + 1;
    if (status == SP_EOF || status == SP_CORRUPT)
        status =
            wanted.count && !wanted.failed ? heal_bodies(relics, relic, &wanted, gathered) : SP_OK;
    else
        status = SP_NO_MEMORY;
    if (wanted.failed)
        status = SP_NO_MEMORY;
    free(wanted.ptr);
    return status;
}

enum sp_status sp_gather(const struct sp_relics *relics, const struct sp_relic *relic,
                         const struct sp_image *image, struct sp_gathered *ret_gathered)
{
    struct sp_gathered gathered = {.image = image};
    struct sp_log_end end;
    struct lsns walked = {0};
    struct sp_walker walker;
    struct sp_record record;
    struct sp_place place;
    gathered.walk_blocks = image->end < image->count ? image->end : image->count;
    if (image->end && image->end <= image->count && image->present == image->end) {
        sp_segment_sound_end(image->blocks, image->end, &image->id, &end);
        gathered.whole = end.blocks == image->end;
    }
    sp_walker_init(&walker, image->blocks, gathered.walk_blocks, 0, &image->id);
    while (sp_walker_next(&walker, &record, &place))
        add_lsn(&walked, record.lsn);
    sp_walker_release(&walker);
    if (walked.count)
        qsort(walked.ptr, walked.count, sizeof *walked.ptr, by_number);
    enum sp_status status =
        walked.failed ? SP_NO_MEMORY : read_footer(relics, relic, &walked, &gathered);
    free(walked.ptr);
    if (gathered.healed_count)
        qsort(gathered.healed, gathered.healed_count, sizeof *gathered.healed, by_lsn);
    if (status != SP_OK) {
        sp_gathered_release(&gathered);
        return status == SP_NO_MEMORY
                   ? sp_error_set(relics->error, status, "rebuild", "out of memory")
                   : status;
    }
    *ret_gathered = gathered;
    return SP_OK;
}

enum sp_status sp_gathered_each(const struct sp_gathered *gathered,
                                enum sp_status (*each)(void *context,
                                                       const struct sp_record *record,
                                                       const struct sp_place *place),
                                void *context)
{
    static const struct sp_place nowhere;
    const struct sp_image *image = gathered->image;
    enum sp_status status = SP_OK;
    struct sp_walker walker;
    struct sp_record record;
    struct sp_place place;
    uint32_t next = 0;
    sp_walker_init(&walker, image->blocks, gathered->walk_blocks, 0, &image->id);
    bool more = sp_walker_next(&walker, &record, &place);
    while (status == SP_OK && (more || next < gathered->healed_count)) {
        if (next < gathered->healed_count &&
            (!more || gathered->healed[next].record.lsn < record.lsn)) {
            status = each(context, &gathered->healed[next++].record, &nowhere);
            continue;
        }
        status = each(context, &record, &place);
        more = sp_walker_next(&walker, &record, &place);
    }
    sp_walker_release(&walker);
    return status;
}

void sp_gathered_release(struct sp_gathered *gathered)
{
    for (uint32_t i = 0; i < gathered->healed_count; i++)
        free((void *)(uintptr_t)gathered->healed[i].record.payload.ptr);
    free(gathered->healed);
    *gathered = (struct sp_gathered){0};
}
