/* What the index remembers of the segments. */
#include "store/index_internal.h"
#include "store/volume_internal.h"

struct row {
    struct sp_log_end end; /* as the successor's head says */
    struct sp_volume_segment segment;
};

static bool same_end(const struct sp_log_end *a, const struct sp_log_end *b)
{
    return a->epoch_id == b->epoch_id && a->epoch_counter == b->epoch_counter &&
           a->segment == b->segment && a->generation == b->generation && a->blocks == b->blocks &&
           a->lsn == b->lsn && a->batch == b->batch && a->chain == b->chain;
}

/* Whether the files are as they were: the newest generation is this one, and whole somewhere. */
static bool is_there(const struct sp_volume *v, const struct sp_listing *listings,
                     const struct sp_volume_segment *segment)
{
    bool whole = false;
    for (uint32_t i = 0; i < v->members_count; i++) {
        const struct sp_unit_segment *file = sp_listing_newest(&listings[i], segment->segment);
        if (file && file->generation > segment->generation)
            return false;
        whole |= v->members[i].unit && file && file->generation == segment->generation &&
                 file->blocks == segment->data_blocks + segment->footer_blocks;
    }
    return whole;
}

enum sp_status sp_segments_recall(struct sp_volume *v, struct sp_read *read,
                                  const struct sp_listing *listings, const struct sp_log_end *end,
                                  struct sp_volume_segment *ret)
{
    struct sp_key key = sp_key_lsn(end->segment);
    MDB_val k = sp_key_val(&key), value;
    struct row row;
    int rc = mdb_get(read->txn, read->index->segments, &k, &value);
    if (rc)
        return sp_mdb_status(rc);
    if (value.mv_size != sizeof row)
        return SP_CORRUPT;
    memcpy(&row, value.mv_data, sizeof row);
    if (!same_end(&row.end, end) || row.segment.segment != end->segment ||
        !is_there(v, listings, &row.segment))
        return SP_NOT_FOUND;
    /* The head of one that begins behind a leap says more: who its voters were. */
    if (row.segment.previous.segment && row.segment.first_lsn > row.segment.previous.lsn + 1)
        return SP_NOT_FOUND;
    *ret = row.segment;
    ret->known = true;
    return SP_OK;
}

enum sp_status sp_segments_remember(struct sp_volume *v, bool all)
{
    for (size_t i = v->segments_count; i >= 2; i--) {
        struct sp_volume_segment *s = &v->segments[i - 2];
        if (s->known && !all)
            break;
        if (s->known || !s->sealed)
            continue;
        struct row row;
        memset(&row, 0, sizeof row);
        row.end = v->segments[i - 1].previous;
        row.segment = *s;
        if (row.end.segment != s->segment)
            continue;
        struct sp_key key = sp_key_lsn(s->segment);
        MDB_val k = sp_key_val(&key), value = sp_val(&row, sizeof row);
        enum sp_status status =
            sp_mdb_status(mdb_put(v->apply.read.txn, v->index->segments, &k, &value, 0));
        if (status != SP_OK)
            return status;
        pthread_rwlock_wrlock(&v->segments_lock);
        s->known = true;
        pthread_rwlock_unlock(&v->segments_lock);
    }
    return SP_OK;
}
