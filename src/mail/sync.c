/* OPEN and SYNC: what a mailbox holds, and what has changed in it. */
#include "mail/mailbox.h"

#include <stdlib.h>

#define SYNC_ROWS_MAX 8192U /* in one reply; then `more` */
#define SYNC_GONE_MAX                                                                              \
    8192U /* runs of UIDs, one for each stretch of an expunge; then: all absent ones */

/* UIDs from `from` on, in the reply's ranges; of those the first that is not \Seen. */
static enum sp_status list_uids(struct sp_op *op, struct sp_read *read,
                                const struct sp_mailbox *mailbox, uint32_t from)
{
    struct sp_uid_list uids = sp_uid_list(&op->reply->arena);
    struct sp_flag_cursor cursor;
    struct sp_flag_row row;
    op->reply->first_unseen_uid = 0;
    enum sp_status status =
        sp_flag_cursor_open(read, &mailbox->account, mailbox->row.id, from, 0, &cursor);
    if (status)
        return status;
    while ((status = sp_flag_cursor_next(&cursor, &row)) == SP_OK) {
        sp_uid_list_add(&uids, row.uid, row.uid);
        if (!op->reply->first_unseen_uid && !(row.flags & SP_FLAG_SEEN))
            op->reply->first_unseen_uid = row.uid;
    }
    sp_flag_cursor_close(&cursor);
    op->reply->ranges = sp_uid_list_ranges(&uids);
    return status != SP_EOF ? status : uids.failed ? SP_NO_MEMORY : SP_OK;
}

void sp_op_open(struct sp_op *op)
{
    struct sp_read read;
    struct sp_mailbox mailbox;
    enum sp_status status = sp_read_begin(op->mail->index, &read);
    if (status == SP_OK) {
        status = sp_op_named_mailbox(op, &read, op->request->name, SP_RIGHT_READ, &mailbox);
        if (status == SP_OK)
            status = sp_op_describe(op, &read, &mailbox);
        if (status == SP_OK && mailbox.row.protected_)
            status = sp_op_refuse(op, SP_UNAVAILABLE, sp_why_protected);
        if (status == SP_OK)
            status = sp_op_describe_keywords(op, &mailbox);
        if (status == SP_OK)
            status = list_uids(op, &read, &mailbox, 1);
        sp_read_end(&read);
    }
    sp_op_finish(op, status);
}

/* ---- SYNC ---- */

struct gone {
    struct sp_arena *arena;
    struct sp_uid_range *ptr;
    uint32_t count, capacity;
    uint32_t uidnext; /* what the session never heard of need not be told */
};

static enum sp_status add_gone(void *context, struct sp_uid_pair run)
{
    struct gone *gone = context;
    if (run.first >= gone->uidnext)
        return SP_OK;
    if (run.last >= gone->uidnext)
        run.last = gone->uidnext - 1;
    if (gone->count == SYNC_GONE_MAX)
        return SP_LIMIT;
    gone->ptr =
        sp_arena_grow(gone->arena, gone->ptr, gone->count, &gone->capacity, sizeof *gone->ptr);
    if (!gone->ptr)
        return SP_NO_MEMORY;
    gone->ptr[gone->count++] = (struct sp_uid_range){run.first, run.last};
    return SP_OK;
}

static int by_first(const void *a, const void *b)
{
    uint32_t x = ((const struct sp_uid_range *)a)->first,
             y = ((const struct sp_uid_range *)b)->first;
    return x < y ? -1 : x > y;
}

/* All UIDs that are not there, whenever they went, or if they ever were: RFC 7162, 3.2.5.2. */
static enum sp_status list_absent(struct sp_op *op, struct sp_read *read,
                                  const struct sp_mailbox *mailbox)
{
    struct sp_uid_list absent = sp_uid_list(&op->reply->arena);
    struct sp_flag_cursor cursor;
    struct sp_flag_row row;
    uint32_t next = 1, uidnext = op->request->sync.uidnext;
    enum sp_status status =
        sp_flag_cursor_open(read, &mailbox->account, mailbox->row.id, 1, 0, &cursor);
    if (status)
        return status;
    while ((status = sp_flag_cursor_next(&cursor, &row)) == SP_OK && row.uid < uidnext) {
        if (row.uid > next)
            sp_uid_list_add(&absent, next, row.uid - 1);
        next = row.uid + 1;
    }
    sp_flag_cursor_close(&cursor);
    if (next < uidnext)
        sp_uid_list_add(&absent, next, uidnext - 1);
    op->reply->gone = sp_uid_list_ranges(&absent);
    return status && status != SP_EOF ? status : absent.failed ? SP_NO_MEMORY : SP_OK;
}

/* Tombstones come in the order of their MODSEQ; the session wants them by UID. */
static enum sp_status list_gone(struct sp_op *op, struct sp_read *read,
                                const struct sp_mailbox *mailbox)
{
    struct sp_reply *reply = op->reply;
    struct gone gone = {.arena = &reply->arena, .uidnext = op->request->sync.uidnext};
    if (op->request->sync.since_modseq < mailbox->row.vanished_modseq)
        return list_absent(op, read, mailbox);
    enum sp_status status = sp_index_expunged(read, &mailbox->account, mailbox->row.id,
                                              op->request->sync.since_modseq, add_gone, &gone);
    if (status == SP_LIMIT)
        return list_absent(op, read, mailbox);
    if (status || !gone.count)
        return status;
    qsort(gone.ptr, gone.count, sizeof *gone.ptr, by_first);
    uint32_t kept = 0;
    for (uint32_t i = 1; i < gone.count; i++) {
        if (gone.ptr[i].first <= gone.ptr[kept].last ||
            gone.ptr[i].first == gone.ptr[kept].last + 1) {
            if (gone.ptr[kept].last < gone.ptr[i].last)
                gone.ptr[kept].last = gone.ptr[i].last;
        } else {
            gone.ptr[++kept] = gone.ptr[i];
        }
    }
    reply->gone = (struct sp_uid_ranges){gone.ptr, kept + 1};
    return SP_OK;
}

static enum sp_status list_changed(struct sp_op *op, struct sp_read *read,
                                   const struct sp_mailbox *mailbox)
{
    const struct sp_request *request = op->request;
    struct sp_reply *reply = op->reply;
    uint32_t capacity = 0;
    struct sp_flag_cursor cursor;
    struct sp_flag_row row;
    if (request->sync.after_uid == UINT32_MAX)
        return SP_OK;
    enum sp_status status =
        sp_flag_cursor_open(read, &mailbox->account, mailbox->row.id, request->sync.after_uid + 1,
                            request->sync.since_modseq, &cursor);
    if (status)
        return status;
    while ((status = sp_flag_cursor_next(&cursor, &row)) == SP_OK &&
           row.uid < request->sync.uidnext) {
        if (reply->rows_count == SYNC_ROWS_MAX) {
            reply->more = true;
            break;
        }
        reply->rows = sp_arena_grow(&reply->arena, reply->rows, reply->rows_count, &capacity,
                                    sizeof *reply->rows);
        if (!reply->rows) {
            status = SP_NO_MEMORY;
            break;
        }
        reply->rows[reply->rows_count++] =
            (struct sp_row){.uid = row.uid, .flags = row.flags, .modseq = row.modseq};
    }
    sp_flag_cursor_close(&cursor);
    return status == SP_EOF ? SP_OK : status;
}

void sp_op_sync(struct sp_op *op)
{
    const struct sp_request *request = op->request;
    struct sp_read read;
    struct sp_mailbox mailbox;
    enum sp_status status = sp_read_begin(op->mail->index, &read);
    if (status == SP_OK) {
        status = sp_op_mailbox(op, &read, 0, &mailbox);
        if (status == SP_OK)
            status = sp_op_describe(op, &read, &mailbox);
        if (status == SP_OK)
            status = sp_op_describe_keywords(op, &mailbox);
        if (status == SP_OK)
            status =
                list_uids(op, &read, &mailbox, request->sync.uidnext ? request->sync.uidnext : 1);
        if (status == SP_OK)
            status = list_gone(op, &read, &mailbox);
        if (status == SP_OK)
            status = list_changed(op, &read, &mailbox);
        sp_read_end(&read);
    }
    sp_op_finish(op, status);
}
