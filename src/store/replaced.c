/* Files of replaced segments that no MANIFEST names: the program was stopped after compaction had
 * made its replacement the log, and before the batch that says so; or their unit was out, and they
 * were forgotten when all other copies had been deleted. A start finds them, and they are listed
 * with its next batch, so that the guard can have them deleted some day.
 *
 * What is listed is proven from the log: a file that the replacement's `previous` leads past and
 * its older generations lead to. A head names the exact end of what came before it, so from an
 * older generation of the replacement's own number the walk goes from head to head, down to the
 * segment that the log has before the replacement. A file beside that walk (of an epoch that is
 * void, of a history that was left behind) is left alone. */
#include "store/index_internal.h"
#include "store/volume_internal.h"

#include "base/grow.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>

bool sp_volume_has_trailer(const struct sp_volume *v, const struct sp_volume_member *m,
                           const struct sp_volume_segment *s)
{
    uint8_t block[SP_BLOCK_BYTES];
    uint32_t index = s->data_blocks + s->footer_blocks - 1;
    return s->generation == 0 || !s->sealed || s->known ||
           (m->unit->ops->read(m->unit, s->segment, s->generation, index, block, 1, NULL) ==
                SP_OK &&
            sp_volume_is_block_of(v, s, index, block));
}

/* The units' files that are not the log, and are in the place of what a segment replaced. */
struct hunt {
    struct sp_volume *v;
    struct sp_unit_segment *list[SP_VOLUME_UNITS_MAX];
    size_t count[SP_VOLUME_UNITS_MAX];
    struct sp_read read;
};

static bool is_known(struct hunt *h, uint64_t segment, uint32_t generation)
{
    struct sp_key key = sp_key_segment(segment, generation);
    MDB_val k = sp_key_val(&key), value;
    for (size_t i = 0; i < h->v->retired_count; i++)
        if (h->v->retired[i].segment == segment && h->v->retired[i].generation == generation)
            return true;
    return mdb_get(h->read.txn, h->v->index->retired, &k, &value) == 0;
}

/* Whether a unit has a file there that nobody has said anything of. */
static bool has_unknown(struct hunt *h, const struct sp_volume_segment *live, uint64_t floor)
{
    for (uint32_t i = 0; i < h->v->members_count; i++)
        for (size_t k = 0; k < h->count[i]; k++) {
            const struct sp_unit_segment *file = &h->list[i][k];
            if (file->segment > floor && file->segment <= live->segment &&
                (file->segment < live->segment || file->generation < live->generation) &&
                !is_known(h, file->segment, file->generation))
                return true;
        }
    return false;
}

static enum sp_status list_one(struct hunt *h, const struct sp_segment_head *head,
                               uint64_t last_lsn)
{
    struct sp_volume *v = h->v;
    if (is_known(h, head->segment, head->generation))
        return SP_OK;
    if (!sp_grow(&v->retired, v->retired_count, &v->retired_capacity, sizeof *v->retired))
        return SP_NO_MEMORY;
    v->retired[v->retired_count++] = (struct sp_volume_segment){.segment = head->segment,
                                                                .generation = head->generation,
                                                                .epoch_id = head->epoch_id,
                                                                .data_blocks = 1,
                                                                .first_lsn = head->next_lsn,
                                                                .last_lsn = last_lsn,
                                                                .sealed = true};
    sp_log(SP_LOG_INFO, "compact.found", "volume=%s segment=%" PRIu64 " generation=%u", v->name,
           head->segment, head->generation);
    return SP_OK;
}

/* Files that end where `end` says, and what came before each of them. Segment numbers fall, so it
 * ends. */
static enum sp_status follow(struct hunt *h, const struct sp_volume_segment *live, uint64_t floor,
                             struct sp_log_end end)
{
    enum sp_status status = SP_OK;
    while (end.segment > floor && status == SP_OK) {
        struct sp_log_end before = {0};
        for (uint32_t i = 0; i < h->v->members_count && status == SP_OK; i++)
            for (size_t k = 0; k < h->count[i] && status == SP_OK; k++) {
                struct sp_unit *unit = h->v->members[i].unit;
                const struct sp_unit_segment *file = &h->list[i][k];
                struct sp_segment_head head;
                uint8_t block[SP_BLOCK_BYTES];
                if (file->segment != end.segment ||
                    (file->segment == live->segment && file->generation >= live->generation) ||
                    unit->ops->read(unit, file->segment, file->generation, 0, block, 1, NULL) !=
                        SP_OK ||
                    sp_segment_head_read(block, &head) != SP_OK ||
                    !sp_uuid_eq(&head.volume, &h->v->id) || head.segment != file->segment ||
                    head.generation != file->generation || head.epoch_id != end.epoch_id ||
                    head.next_lsn < live->first_lsn || end.lsn > live->last_lsn)
                    continue;
                status = list_one(h, &head, end.lsn);
                /* The oldest generation leads past the fewest. */
                if (head.previous.segment > before.segment)
                    before = head.previous;
            }
        end = before;
    }
    return status;
}

/* A rewriting that was cut off before its head was there: never the log, and one that came after
 * is. */
static enum sp_status list_cut_off(struct hunt *h, const struct sp_volume_segment *live)
{
    enum sp_status status = SP_OK;
    for (uint32_t i = 0; i < h->v->members_count; i++)
        for (size_t k = 0; k < h->count[i] && status == SP_OK; k++) {
            struct sp_unit *unit = h->v->members[i].unit;
            const struct sp_unit_segment *file = &h->list[i][k];
            struct sp_segment_head head;
            uint8_t block[SP_BLOCK_BYTES];
            if (file->segment != live->segment || file->generation == 0 ||
                file->generation >= live->generation ||
                (unit->ops->read(unit, file->segment, file->generation, 0, block, 1, NULL) ==
                     SP_OK &&
                 sp_segment_head_read(block, &head) == SP_OK))
                continue;
            head = (struct sp_segment_head){.segment = file->segment,
                                            .generation = file->generation,
                                            .epoch_id = live->epoch_id,
                                            .next_lsn = live->first_lsn};
            status = list_one(h, &head, live->last_lsn);
        }
    return status;
}

enum sp_status sp_volume_find_replaced(struct sp_volume *v, struct sp_error *error)
{
    struct hunt h = {.v = v};
    enum sp_status status = sp_read_begin(v->index, &h.read);
    if (status != SP_OK)
        return sp_error_set(error, status, "index", "it cannot be read");
    for (uint32_t i = 0; i < v->members_count; i++) {
        const struct sp_volume_member *m = &v->members[i];
        struct sp_error why;
        if (!m->unit || m->foreign || m->state == SP_UNIT_WITNESS ||
            m->unit->ops->list(m->unit, &h.list[i], &h.count[i], &why) != SP_OK)
            h.count[i] = 0;
    }
    for (size_t i = 0; i < v->segments_count && status == SP_OK; i++) {
        const struct sp_volume_segment *live = &v->segments[i];
        uint64_t floor = i ? v->segments[i - 1].segment : 0;
        if (!live->generation || !live->sealed || !has_unknown(&h, live, floor))
            continue;
        status = list_cut_off(&h, live);
        if (status == SP_OK)
            status = follow(&h, live, floor,
                            (struct sp_log_end){.segment = live->segment,
                                                .epoch_id = live->epoch_id,
                                                .lsn = live->last_lsn});
    }
    sp_read_end(&h.read);
    for (uint32_t i = 0; i < v->members_count; i++)
        free(h.list[i]);
    return status == SP_OK ? SP_OK : sp_error_set(error, status, v->name, "out of memory");
}
