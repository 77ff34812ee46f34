/* Where bodies lie after compaction: the index's places follow the segments' generations.
 *
 * The index keeps for each rewritten segment the generation that its places are of. Where that is
 * not the log's, because compaction has just switched, or the program was stopped between the
 * switch and the index's next transaction, the segment's footer says where everything lies now. */
#include "store/apply_internal.h"
#include "store/volume_internal.h"

struct redirect {
    struct sp_apply *apply;
    struct sp_arena arena;
};

static enum sp_status dropped(struct redirect *r, const struct sp_record *record)
{
    struct sp_dropped d;
    enum sp_status status = sp_dropped_read(record->payload, &r->arena, &d);
    bool bodies = !(record->flags & SP_RECORD_CHAINED);
    for (uint32_t i = 0; bodies && status == SP_OK && i < d.lsns.count; i++)
        status = sp_apply_forget_bodies(r->apply, d.lsns.ptr[i]);
    for (uint32_t i = 0; !bodies && status == SP_OK && i < d.uids.count; i++)
        status = sp_apply_let_go(r->apply, &record->account, record->mailbox, d.uids.ptr[i]);
    sp_arena_release(&r->arena);
    return status;
}

static enum sp_status redirect(void *context, const struct sp_record *record,
                               const struct sp_place *place)
{
    struct redirect *r = context;
    if (record->type == SP_RECORD_DROPPED)
        return dropped(r, record);
    return sp_record_is_body(record->type) ? sp_apply_body(r->apply, record, place) : SP_OK;
}

static bool is_redirected(struct sp_apply *apply, const struct sp_volume_segment *segment)
{
    struct sp_key key = sp_key_lsn(segment->segment);
    MDB_val k = sp_key_val(&key), value;
    uint32_t generation;
    if (mdb_get(apply->read.txn, apply->read.index->generations, &k, &value) != 0 ||
        value.mv_size != sizeof generation)
        return false;
    memcpy(&generation, value.mv_data, sizeof generation);
    return generation == segment->generation;
}

enum sp_status sp_volume_redirected(struct sp_apply *apply, const struct sp_volume_segment *segment)
{
    struct sp_key key = sp_key_lsn(segment->segment);
    if (segment->generation == 0)
        return SP_OK;
    return sp_apply_put(apply, apply->read.index->generations, sp_key_val(&key),
                        sp_val(&segment->generation, sizeof segment->generation));
}

/* A start without the units that have the newest generation takes the one before, which is whole,
 * and in which bodies lie elsewhere. */
bool sp_volume_went_back(struct sp_volume *v)
{
    struct sp_read read;
    bool back = false;
    if (sp_read_begin(v->index, &read) != SP_OK)
        return true; /* what cannot be asked is not believed */
    for (size_t i = 0; i < v->segments_count && !back; i++) {
        struct sp_key key = sp_key_lsn(v->segments[i].segment);
        MDB_val k = sp_key_val(&key), value;
        uint32_t generation;
        if (mdb_get(read.txn, v->index->generations, &k, &value) != 0 ||
            value.mv_size != sizeof generation)
            continue;
        memcpy(&generation, value.mv_data, sizeof generation);
        back = generation > v->segments[i].generation;
    }
    sp_read_end(&read);
    return back;
}

enum sp_status sp_volume_redirect(struct sp_volume *v, struct sp_apply *apply,
                                  struct sp_error *error)
{
    enum sp_status status = SP_OK;
    for (size_t i = 0; i < v->segments_count && status == SP_OK; i++) {
        const struct sp_volume_segment *segment = &v->segments[i];
        struct redirect r = {.apply = apply};
        if (segment->generation == 0 || is_redirected(apply, segment))
            continue;
        sp_arena_init(&r.arena, 64U << 20);
        status = sp_volume_each_record(v, segment, redirect, &r, error);
        sp_arena_release(&r.arena);
        if (status == SP_OK)
            status = sp_volume_redirected(apply, segment);
    }
    return status;
}

enum sp_status sp_volume_redirect_now(struct sp_volume *v, struct sp_error *error)
{
    struct sp_apply apply;
    bool any = false;
    enum sp_status status = sp_apply_begin(v->index, true, &apply);
    if (status != SP_OK)
        return sp_error_set(error, status, "index", "it cannot be written: %s",
                            sp_status_name(status));
    for (size_t i = 0; i < v->segments_count && !any; i++)
        any = v->segments[i].generation && !is_redirected(&apply, &v->segments[i]);
    if (any)
        status = sp_volume_redirect(v, &apply, error);
    if (any && status == SP_OK)
        return sp_apply_commit(&apply, &apply.position.end);
    sp_apply_abort(&apply);
    return status;
}
