#include "mail/copy.h"
#include "mail/mailbox.h"
#include "mail/rights.h"

#define MESSAGE_ARENA_BYTES (1U << 20) /* of one record's arrays */

enum sp_status sp_copy_collect(struct sp_plan *plan, struct sp_op *op,
                               const struct sp_mailbox *source, struct sp_copy *copy)
{
    struct sp_read *read = sp_plan_read(plan);
    struct sp_arena *arena = sp_plan_arena(plan);
    struct sp_range_walk walk;
    struct sp_message_cursor cursor;
    struct sp_flag_row row;
    struct sp_message message;
    struct sp_arena scratch;
    sp_arena_init(&scratch, MESSAGE_ARENA_BYTES);
    enum sp_status status = sp_message_cursor_open(read, &source->account, source->row.id, &cursor);
    if (status)
        return status;
    sp_range_walk_init(&walk, read, source, copy->ranges, 0);
    while ((status = sp_range_walk_next(&walk, &row)) == SP_OK) {
        struct sp_slice payload;
        uint64_t lsn, time_ns;
        if (copy->count == SP_PLAN_MESSAGES_MAX) {
            status = sp_op_refuse(op, SP_LIMIT, "too many messages at once");
            break;
        }
        copy->rows =
            sp_arena_grow(arena, copy->rows, copy->count, &copy->capacity, sizeof *copy->rows);
        if (!copy->rows) {
            status = SP_NO_MEMORY;
            break;
        }
        status = sp_message_cursor_get(&cursor, row.uid, &payload, &lsn, &time_ns);
        /* Read here for nothing: once records have been emitted it is too late to find that it
         * cannot be. */
        if (status == SP_OK)
            status = sp_message_read(payload, &scratch, &message);
        sp_arena_release(&scratch);
        if (status) {
            status = status == SP_NOT_FOUND ? SP_CORRUPT : status;
            break;
        }
        copy->rows[copy->count++] = row;
    }
    sp_range_walk_end(&walk);
    sp_message_cursor_close(&cursor);
    return status == SP_EOF ? SP_OK : status;
}

enum sp_status sp_copy_check(struct sp_op *op, const struct sp_mailbox *target,
                             const struct sp_copy *copy)
{
    if (copy->count > UINT32_MAX - target->row.uidnext)
        return sp_op_refuse(op, SP_LIMIT, "the mailbox has given out all its UIDs");
    return SP_OK;
}

/* The flags that the target can keep: all but keywords that it has no room for. A message is worth
 * more than its keyword (RFC 3501, 6.4.7: flags SHOULD be preserved). */
static uint64_t kept_flags(const struct sp_mailbox *source, const struct sp_mailbox *target,
                           const struct sp_copy *copy)
{
    struct sp_keywords from, to;
    uint64_t used = 0, kept = SP_FLAG_SYSTEM;
    sp_keywords_init(&from, source);
    sp_keywords_init(&to, target);
    for (uint32_t i = 0; i < copy->count; i++)
        used |= copy->rows[i].flags;
    for (uint32_t i = 0; i < from.count; i++)
        if (used >> (SP_FLAG_KEYWORD_0 + i) & 1 && sp_keywords_add(&to, from.names[i]))
            kept |= 1ULL << (SP_FLAG_KEYWORD_0 + i);
    return kept & ~copy->denied;
}

/* One message under its new UID. */
static enum sp_status emit_one(struct sp_plan *plan, const struct sp_mailbox *source,
                               const struct sp_mailbox *target, const struct sp_keywords *keywords,
                               const struct sp_flag_row *row, struct sp_arena *arena,
                               struct sp_message *message)
{
    struct sp_message old;
    struct sp_slice payload;
    uint64_t lsn, time_ns;
    enum sp_status status = sp_index_message(sp_plan_read(plan), &source->account, source->row.id,
                                             row->uid, &payload, &lsn, &time_ns);
    if (status == SP_OK)
        status = sp_message_read(payload, arena, &old);
    if (status)
        return status;
    message->date_s = old.date_s;
    message->zone_min = old.zone_min;
    message->system_flags = (uint32_t)(row->flags & SP_FLAG_SYSTEM);
    message->size = old.size;
    message->header_bytes = old.header_bytes;
    message->digest = old.digest;
    message->bodies = old.bodies;
    message->origin_id = old.origin_id;
    message->wrapped_key = old.wrapped_key;
    message->envelope = old.envelope;
    message->bodystructure = old.bodystructure;
    message->parts = old.parts;
    if (!sp_keywords_names(keywords, row->flags, arena, &message->keywords))
        return SP_NO_MEMORY;
    return sp_plan_emit_message(plan, target, message);
}

enum sp_status sp_copy_emit(struct sp_plan *plan, struct sp_op *op, const struct sp_mailbox *source,
                            const struct sp_mailbox *target, const struct sp_copy *copy)
{
    struct sp_reply *reply = op->reply;
    struct sp_arena *arena = sp_plan_arena(plan);
    struct sp_uid_list uids = sp_uid_list(&reply->arena);
    struct sp_uid_list new_uids = sp_uid_list(&reply->arena);
    struct sp_span_list spans;
    struct sp_keywords keywords;
    struct sp_account account;
    struct sp_arena scratch;
    uint64_t source_modseq; /* of another account, perhaps */
    enum sp_status status = sp_index_account(sp_plan_read(plan), &target->account, &account);
    if (status == SP_OK)
        status = sp_plan_next_modseq(plan, &source->account, &source_modseq);
    if (status)
        return status;
    struct sp_message message = {.uid = target->row.uidnext,
                                 .uidvalidity = target->row.uidvalidity,
                                 .modseq = account.row.modseq + 1,
                                 .origin = copy->move ? SP_ORIGIN_MOVE : SP_ORIGIN_COPY,
                                 .address = sp_arena_copy(arena, account.address),
                                 .path = target->path};
    reply->uidvalidity = target->row.uidvalidity;
    reply->modseq = 0;
    sp_keywords_init(&keywords, source);
    for (uint32_t i = 0; i < copy->count; i++)
        sp_uid_list_add(&uids, copy->rows[i].uid, copy->rows[i].uid);
    if (copy->count)
        sp_uid_list_add(&new_uids, message.uid, message.uid + copy->count - 1);
    if (!sp_uid_list_spans(&uids, arena, &spans) || new_uids.failed ||
        (account.address.len && !message.address.ptr))
        return SP_NO_MEMORY;

    sp_arena_init(&scratch, MESSAGE_ARENA_BYTES);
    uint64_t kept = kept_flags(source, target, copy);
    for (uint32_t i = 0; status == SP_OK && i < copy->count; i++) {
        copy->rows[i].flags &= kept;
        status = emit_one(plan, source, target, &keywords, &copy->rows[i], &scratch, &message);
        sp_arena_release(&scratch);
        message.uid++;
    }
    if (status == SP_OK && copy->move && copy->count)
        status = sp_plan_emit_expunge(plan, source, source_modseq, spans);
    if (copy->count)
        reply->modseq = source_modseq;
    reply->ranges = sp_uid_list_ranges(&uids);
    reply->new_ranges = sp_uid_list_ranges(&new_uids);
    return status;
}

/* ---- COPY, MOVE ---- */

static enum sp_status copy_plan(struct sp_plan *plan, struct sp_op *op)
{
    const struct sp_request *request = op->request;
    struct sp_read *read = sp_plan_read(plan);
    struct sp_copy copy = {.ranges = request->ranges, .move = request->copy.move};
    struct sp_mailbox source, target;
    op->reply->missing = 0;
    uint32_t rights = 0;
    /* RFC 6851, 4: MOVE is COPY, STORE of \Deleted and EXPUNGE. */
    enum sp_status status =
        sp_op_mailbox(op, read, copy.move ? SP_RIGHT_DELETED | SP_RIGHT_EXPUNGE : 0, &source);
    if (status == SP_OK)
        status = sp_plan_keep_mailbox(plan, &source);
    if (status == SP_OK)
        status = sp_op_target_mailbox(op, read, request->name, SP_RIGHT_INSERT, &target);
    if (status == SP_OK)
        status = sp_plan_keep_mailbox(plan, &target);
    if (status == SP_OK)
        status = sp_rights_of(read, &target.account, target.row.id, &request->account, &rights);
    copy.denied = sp_rights_denied_flags(rights);
    if (status == SP_OK)
        status = sp_copy_collect(plan, op, &source, &copy);
    if (status == SP_OK && request->copy.whole)
        op->reply->missing = sp_uid_ranges_count(request->ranges) - copy.count;
    if (status || op->reply->missing)
        return status;
    status = sp_copy_check(op, &target, &copy);
    return status ? status : sp_copy_emit(plan, op, &source, &target, &copy);
}

void sp_op_copy(struct sp_op *op)
{
    sp_op_submit(op, copy_plan, op->request->ranges.count * sizeof(struct sp_uid_range));
}
