/* What was asked of the guard, as the index keeps it: one row for each request, finished ones
 * included, so that an operator can see what was destroyed and who wanted it; and one for each
 * policy, under the operation's number alone. */
#include "store/apply_internal.h"

static enum sp_status read_row(MDB_val value, struct sp_guard_request *ret)
{
    struct sp_slice rest = sp_slice(value.mv_data, value.mv_size);
    if (rest.len < sizeof ret->row)
        return SP_CORRUPT;
    memcpy(&ret->row, rest.ptr, sizeof ret->row);
    rest = sp_slice_from(rest, sizeof ret->row);
    if (rest.len !=
        (size_t)ret->row.subject_len + (size_t)ret->row.who_len + (size_t)ret->row.text_len)
        return SP_CORRUPT;
    ret->subject = sp_slice_sub(rest, 0, ret->row.subject_len);
    rest = sp_slice_from(rest, ret->row.subject_len);
    ret->who = sp_slice_sub(rest, 0, ret->row.who_len);
    ret->text = sp_slice_from(rest, ret->row.who_len);
    return SP_OK;
}

static enum sp_status get(struct sp_read *read, MDB_val key, struct sp_guard_request *ret)
{
    MDB_val value;
    int rc = mdb_get(read->txn, read->index->guard, &key, &value);
    return rc ? sp_mdb_status(rc) : read_row(value, ret);
}

enum sp_status sp_index_guard(struct sp_read *read, const struct sp_uuid *id,
                              struct sp_guard_request *ret)
{
    struct sp_guard_request request = {.id = *id};
    enum sp_status status = get(read, sp_val(id->bytes, 16), &request);
    if (status == SP_OK)
        *ret = request;
    return status;
}

enum sp_status sp_index_guard_policy(struct sp_read *read, uint8_t operation,
                                     struct sp_guard_request *ret)
{
    struct sp_guard_request request = {0};
    enum sp_status status = get(read, sp_val(&operation, 1), &request);
    if (status == SP_OK)
        *ret = request;
    return status;
}

enum sp_status sp_index_next_guard(struct sp_read *read, struct sp_guard_request *request)
{
    MDB_cursor *cursor;
    MDB_val key = sp_val(request->id.bytes, 16), value;
    int rc = mdb_cursor_open(read->txn, read->index->guard, &cursor);
    if (rc)
        return sp_mdb_status(rc);
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    /* Past the one last seen, and past policies, whose keys are short. */
    while (!rc && (key.mv_size != 16 || memcmp(key.mv_data, request->id.bytes, 16) == 0))
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    enum sp_status status = rc == MDB_NOTFOUND ? SP_EOF : sp_mdb_status(rc);
    struct sp_guard_request found = {0};
    if (status == SP_OK)
        status = read_row(value, &found);
    if (status == SP_OK) {
        memcpy(found.id.bytes, key.mv_data, 16);
        *request = found;
    }
    mdb_cursor_close(cursor);
    return status;
}

/* ---- Applying ---- */

static struct sp_slice cut(struct sp_slice text)
{
    return sp_slice_sub(text, 0, SP_GUARD_TEXT_MAX);
}

/* The texts may lie in the map, which a write moves: they are copied first. */
static enum sp_status put(struct sp_apply *apply, MDB_val key, struct sp_guard_request *request)
{
    struct sp_slice subject = cut(request->subject), who = cut(request->who),
                    text = cut(request->text);
    request->row.subject_len = (uint16_t)subject.len;
    request->row.who_len = (uint16_t)who.len;
    request->row.text_len = (uint16_t)text.len;
    size_t size = sizeof request->row + subject.len + who.len + text.len;
    uint8_t *row = sp_arena_alloc(&apply->arena, size);
    if (!row)
        return SP_NO_MEMORY;
    memcpy(row, &request->row, sizeof request->row);
    uint8_t *at = row + sizeof request->row;
    const struct sp_slice texts[] = {subject, who, text};
    for (size_t i = 0; i < 3; i++) {
        if (texts[i].len)
            memcpy(at, texts[i].ptr, texts[i].len);
        at += texts[i].len;
    }
    return sp_apply_put(apply, apply->read.index->guard, key, sp_val(row, size));
}

static void approve(struct sp_guard_row *row, uint32_t uid)
{
    for (uint8_t i = 0; i < row->approvals; i++)
        if (row->approvers[i] == uid)
            return;
    if (row->approvals < SP_GUARD_APPROVERS_MAX)
        row->approvers[row->approvals++] = uid;
}

static enum sp_status apply_policy(struct sp_apply *apply, const struct sp_record *record,
                                   const struct sp_guard_record *g)
{
    MDB_val key = sp_val(&g->operation, 1);
    if (g->event == SP_GUARD_POLICY_ENDS)
        return sp_apply_del(apply, apply->read.index->guard, key);
    struct sp_guard_request policy = {
        .row = {.requested_ns = record->time_ns,
                .uid = g->uid,
                .operation = g->operation,
                .event = g->event},
        .subject = g->subject,
        .who = g->who,
        .text = g->text,
    };
    return put(apply, key, &policy);
}

enum sp_status sp_apply_guard(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_guard_record g;
    struct sp_guard_request request;
    enum sp_status status = sp_guard_record_read(record->payload, &g);
    if (status != SP_OK)
        return status;
    if (g.event == SP_GUARD_POLICY || g.event == SP_GUARD_POLICY_ENDS)
        return apply_policy(apply, record, &g);
    status = sp_index_guard(&apply->read, &g.id, &request);
    if (g.event == SP_GUARD_REQUESTED || status == SP_NOT_FOUND) {
        /* Of one whose beginning is lost, the end is still told; pending it must not be. */
        request = (struct sp_guard_request){
            .id = g.id,
            .row = {.subject_id = g.subject_id,
                    .requested_ns = record->time_ns,
                    .cooling_ms = g.cooling_ms,
                    .uid = g.uid,
                    .operation = g.operation,
                    .approvals_needed = g.approvals,
                    .finished_ns = g.event == SP_GUARD_REQUESTED ? 0 : record->time_ns},
            .subject = g.subject,
            .who = g.who,
        };
    } else if (status != SP_OK) {
        return status;
    }
    if (g.event == SP_GUARD_APPROVED)
        approve(&request.row, g.uid);
    if (g.waited_ms > request.row.waited_ms)
        request.row.waited_ms = g.waited_ms;
    if (g.event == SP_GUARD_UNDONE || g.event == SP_GUARD_DONE || g.event == SP_GUARD_REFUSED)
        request.row.finished_ns = record->time_ns;
    if (g.event != SP_GUARD_WAITED) {
        request.row.event = g.event;
        request.text = g.text;
    }
    return put(apply, sp_val(g.id.bytes, 16), &request);
}
