/* What the log says of its segments: a base lists all that live and all that are retired, deltas
 * what came since.
 *
 * A record has its limit: what does not go into a base follows at once in deltas. */
#include "store/volume_internal.h"

#define PART 40000U /* segments in one record: each takes up to 70 bytes */

struct sp_manifest_segment sp_manifest_entry(const struct sp_volume_segment *s)
{
    return (struct sp_manifest_segment){s->segment,   s->generation, s->data_blocks,
                                        s->first_lsn, s->last_lsn,   s->digest};
}

/* Its files are no longer on any unit that was here. */
static bool is_deleted(const struct sp_volume *v, const struct sp_retired *retired)
{
    for (size_t i = 0; i < v->retired_count; i++)
        if (v->retired[i].segment == retired->segment &&
            v->retired[i].generation == retired->generation)
            return v->retired[i].data_blocks == 0;
    return false;
}

/* Those retired since the last manifest; for a base also those that it has to go on naming. */
static enum sp_status list_retired(struct sp_volume *v, struct sp_plan *plan,
                                   struct sp_manifest *manifest)
{
    struct sp_read *read = sp_plan_read(plan);
    size_t count = v->retired_count - v->retired_said, known = 0;
    struct sp_retired retired = {0};
    enum sp_status status = SP_EOF;
    while (manifest->base && (status = sp_index_next_retired(read, &retired)) == SP_OK)
        known++;
    if (status != SP_EOF)
        return status;
    manifest->retired =
        sp_arena_array(sp_plan_arena(plan), count + known + 1, sizeof *manifest->retired);
    if (!manifest->retired)
        return SP_NO_MEMORY;
    for (size_t i = v->retired_said; i < v->retired_count; i++)
        manifest->retired[manifest->retired_count++] = sp_manifest_entry(&v->retired[i]);
    retired = (struct sp_retired){0};
    while (known-- && (status = sp_index_next_retired(read, &retired)) == SP_OK)
        if (!is_deleted(v, &retired))
            manifest->retired[manifest->retired_count++] =
                (struct sp_manifest_segment){.segment = retired.segment,
                                             .generation = retired.generation,
                                             .blocks = retired.row.blocks,
                                             .first_lsn = retired.row.first_lsn,
                                             .last_lsn = retired.row.last_lsn};
    return status == SP_OK || status == SP_EOF ? SP_OK : status;
}

static enum sp_status list_live(struct sp_volume *v, struct sp_plan *plan,
                                struct sp_manifest *manifest)
{
    manifest->live =
        sp_arena_array(sp_plan_arena(plan), v->segments_count + 1, sizeof *manifest->live);
    if (!manifest->live)
        return SP_NO_MEMORY;
    manifest->live_count = 0;
    for (size_t i = 0; i < v->segments_count; i++)
        if (v->segments[i].sealed)
            manifest->live[manifest->live_count++] = sp_manifest_entry(&v->segments[i]);
    return SP_OK;
}

/* In as many records as it takes. */
static enum sp_status emit(struct sp_plan *plan, const struct sp_manifest *all)
{
    uint32_t live = 0, retired = 0;
    enum sp_status status = SP_OK;
    do {
        uint32_t live_left = all->live_count - live, retired_left = all->retired_count - retired;
        struct sp_manifest part = {.base = all->base && live == 0 && retired == 0,
                                   .live = all->live ? all->live + live : NULL,
                                   .live_count = live_left < PART ? live_left : PART};
        uint32_t room = PART - part.live_count;
        part.retired = all->retired ? all->retired + retired : NULL;
        part.retired_count = retired_left < room ? retired_left : room;
        live += part.live_count;
        retired += part.retired_count;
        struct sp_buf *buf = sp_plan_buf(plan);
        sp_manifest_write(&part, buf);
        status = sp_buf_failed(buf)
                     ? SP_NO_MEMORY
                     : sp_plan_emit(plan, SP_RECORD_MANIFEST, NULL, 0, sp_buf_slice(buf), NULL);
    } while (status == SP_OK && (live < all->live_count || retired < all->retired_count));
    return status;
}

enum sp_status sp_manifest_emit(struct sp_volume *v, struct sp_plan *plan)
{
    struct sp_manifest manifest = {.live = v->sealed, .live_count = (uint32_t)v->sealed_count};
    sp_arena_release(sp_plan_arena(plan));
    manifest.base =
        v->manifest_deltas >= SP_HOUSEKEEPING_BASE || v->apply.position.manifest_lsn == 0;
    enum sp_status status = manifest.base ? list_live(v, plan, &manifest) : SP_OK;
    if (status == SP_OK)
        status = list_retired(v, plan, &manifest);
    if (status == SP_OK)
        status = emit(plan, &manifest);
    v->manifest_deltas = manifest.base ? 0 : v->manifest_deltas + 1;
    return status;
}
