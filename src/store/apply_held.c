/* What was expunged and is still in the log, so that it can be brought back; and what the records
 * that let it go mean: DROPPED, ERASE, MANIFEST's retired segments, and the CLOCK by which all of
 * this is timed. */
#include "base/endian.h"
#include "store/apply_internal.h"

#include <stdlib.h>

static uint32_t keywords_len(const struct sp_mailbox *mailbox, uint64_t flags)
{
    size_t len = 0;
    for (size_t i = 0; i < mailbox->row.keywords_count; i++)
        if (flags >> (8 + i) & 1)
            len += 1 + mailbox->keywords[i].len;
    return (uint32_t)len;
}

enum sp_status sp_apply_hold(struct sp_apply *apply, const struct sp_record *expunge,
                             const struct sp_mailbox *mailbox, const struct sp_flag_row *row,
                             uint64_t lsn, struct sp_slice payload)
{
    struct sp_held_row held;
    memset(&held, 0, sizeof held);
    held.expunge_lsn = expunge->lsn;
    held.expunge_time_ns = expunge->time_ns;
    held.lsn = lsn;
    held.system_flags = row->flags & 0xff;
    held.path_len = (uint16_t)mailbox->path.len;
    held.keywords_len = keywords_len(mailbox, row->flags);
    size_t len = sizeof held + mailbox->path.len + held.keywords_len + payload.len;
    /* The payload points into the map, which writing may move. */
    uint8_t *bytes = malloc(len), *at = bytes;
    if (!bytes)
        return SP_NO_MEMORY;
    memcpy(at, &held, sizeof held);
    at += sizeof held;
    memcpy(at, mailbox->path.ptr, mailbox->path.len);
    at += mailbox->path.len;
    for (size_t i = 0; i < mailbox->row.keywords_count; i++) {
        if (!(row->flags >> (8 + i) & 1))
            continue;
        *at++ = (uint8_t)mailbox->keywords[i].len;
        memcpy(at, mailbox->keywords[i].ptr, mailbox->keywords[i].len);
        at += mailbox->keywords[i].len;
    }
    memcpy(at, payload.ptr, payload.len);
    struct sp_key key = sp_key_u32(&mailbox->account, mailbox->row.id, row->uid);
    enum sp_status status =
        sp_apply_put(apply, apply->read.index->held, sp_key_val(&key), sp_val(bytes, len));
    free(bytes);
    return status;
}

/* Deletes the entries of a table from one key to another. */
static enum sp_status delete_range(struct sp_apply *apply, MDB_dbi table,
                                   const struct sp_key *first, const struct sp_key *last)
{
    MDB_cursor *cursor;
    MDB_val key = sp_key_val(first), value;
    int rc = mdb_cursor_open(apply->read.txn, table, &cursor);
    if (rc)
        return sp_mdb_status(rc);
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (!rc && key.mv_size == last->len && memcmp(key.mv_data, last->bytes, last->len) <= 0) {
        rc = mdb_cursor_del(cursor, 0);
        if (!rc) /* after a deletion this is the entry that moved into its place */
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc && rc != MDB_NOTFOUND ? sp_mdb_status(rc) : SP_OK;
}

enum sp_status sp_apply_let_go(struct sp_apply *apply, const struct sp_uuid *account,
                               uint32_t mailbox, struct sp_span uids)
{
    uint64_t most = uids.last < UINT32_MAX ? uids.last : UINT32_MAX;
    if (uids.first > most)
        return SP_OK;
    struct sp_key first = sp_key_u32(account, mailbox, (uint32_t)uids.first);
    struct sp_key last = sp_key_u32(account, mailbox, (uint32_t)most);
    return delete_range(apply, apply->read.index->held, &first, &last);
}

enum sp_status sp_apply_forget_bodies(struct sp_apply *apply, struct sp_span lsns)
{
    struct sp_key first = sp_key_lsn(lsns.first), last = sp_key_lsn(lsns.last);
    return delete_range(apply, apply->read.index->bodies, &first, &last);
}

bool sp_apply_dropped_breaks(uint64_t *tail, const struct sp_record *record,
                             const struct sp_dropped *dropped)
{
    bool broken = *tail != record->previous;
    for (uint32_t i = 0; i < dropped->lsns.count && broken; i++)
        broken = *tail < dropped->lsns.ptr[i].first || *tail > dropped->lsns.ptr[i].last;
    *tail = record->lsn;
    return broken;
}

enum sp_status sp_apply_clock(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_clock_record clock;
    enum sp_status status = sp_clock_record_read(record->payload, &clock);
    if (status == SP_OK)
        apply->position.running_ms += clock.elapsed_ms;
    return status;
}

enum sp_status sp_apply_erase(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_erase erase;
    struct sp_span all = {0, UINT32_MAX};
    enum sp_status status = sp_erase_read(record->payload, &apply->arena, &erase);
    if (status != SP_OK)
        return status;
    apply->position.erase_lsn = record->lsn;
    if (erase.uids.count == 0)
        erase.uids = (struct sp_span_list){&all, 1};
    if (erase.mailbox == 0) {
        struct sp_key first = sp_key_u32(&erase.account, 0, 0);
        struct sp_key last = sp_key_u32(&erase.account, UINT32_MAX, UINT32_MAX);
        return delete_range(apply, apply->read.index->held, &first, &last);
    }
    for (uint32_t i = 0; i < erase.uids.count && status == SP_OK; i++)
        status = sp_apply_let_go(apply, &erase.account, erase.mailbox, erase.uids.ptr[i]);
    return status;
}

/* ---- Retired segments ---- */

static bool names(const struct sp_manifest *manifest, const struct sp_retired *retired)
{
    for (uint32_t i = 0; i < manifest->retired_count; i++)
        if (manifest->retired[i].segment == retired->segment &&
            manifest->retired[i].generation == retired->generation)
            return true;
    return false;
}

enum sp_status sp_apply_retired(struct sp_apply *apply, const struct sp_record *record,
                                const struct sp_manifest *manifest)
{
    const MDB_dbi table = apply->read.index->retired;
    struct sp_retired retired = {0};
    enum sp_status status = SP_OK;
    /* A base says all. */
    while (manifest->base && (status = sp_index_next_retired(&apply->read, &retired)) == SP_OK) {
        struct sp_key key = sp_key_segment(retired.segment, retired.generation);
        if (!names(manifest, &retired))
            status = sp_apply_del(apply, table, sp_key_val(&key));
        if (status != SP_OK)
            return status;
    }
    if (status != SP_OK && status != SP_EOF)
        return status;
    status = SP_OK;
    for (uint32_t i = 0; i < manifest->retired_count && status == SP_OK; i++) {
        const struct sp_manifest_segment *s = &manifest->retired[i];
        struct sp_key key = sp_key_segment(s->segment, s->generation);
        struct sp_retired_row row;
        MDB_val k = sp_key_val(&key), value = sp_val(&row, sizeof row);
        memset(&row, 0, sizeof row);
        row.first_lsn = s->first_lsn;
        row.last_lsn = s->last_lsn;
        row.since_lsn = record->lsn;
        row.since_ns = record->time_ns;
        row.blocks = s->blocks;
        int rc = mdb_put(apply->read.txn, table, &k, &value, MDB_NOOVERWRITE);
        status = rc == MDB_KEYEXIST ? SP_OK : sp_mdb_status(rc);
    }
    return status;
}
