/* STORE and EXPUNGE: one record each, for the messages that really change. */
#include "mail/plan.h"

/* What STORE asks for, in bits of the mailbox. */
struct change {
    uint64_t bits;
    struct sp_slice_list names; /* keywords, as the mailbox spells them */
};

static uint64_t changed_flags(enum sp_store_op op, uint64_t flags, uint64_t bits)
{
    switch (op) {
    case SP_STORE_ADD:
        return flags | bits;
    case SP_STORE_REMOVE:
        return flags & ~bits;
    case SP_STORE_REPLACE:
        break;
    }
    return bits;
}

static enum sp_status resolve_change(struct sp_plan *plan, struct sp_op *op,
                                     const struct sp_mailbox *mailbox, struct change *change)
{
    const struct sp_flag_set *set = &op->request->store.flags;
    struct sp_keywords keywords;
    sp_keywords_init(&keywords, mailbox);
    if (op->request->store.op == SP_STORE_REMOVE) {
        /* A name that the mailbox does not know is nowhere set. */
        change->bits = set->system & SP_FLAG_SYSTEM;
        for (uint32_t i = 0; i < set->keywords_count; i++) {
            unsigned bit = sp_keywords_find(&keywords, set->keywords[i]);
            if (bit)
                change->bits |= 1ULL << bit;
        }
    } else {
        enum sp_status status = sp_keywords_add_set(&keywords, set, &change->bits);
        if (status)
            return sp_op_refuse(op, status,
                                status == SP_LIMIT ? "the mailbox has too many keywords"
                                                   : "that is no keyword");
    }
    return sp_keywords_names(&keywords, change->bits, sp_plan_arena(plan), &change->names)
               ? SP_OK
               : SP_NO_MEMORY;
}

/* Which messages change, which UNCHANGEDSINCE keeps from it, and how many are not there. */
static enum sp_status collect(struct sp_plan *plan, struct sp_op *op,
                              const struct sp_mailbox *mailbox, uint64_t bits,
                              struct sp_uid_list *changed, struct sp_uid_list *failed)
{
    const struct sp_request *request = op->request;
    struct sp_range_walk walk;
    struct sp_flag_row row;
    enum sp_status status;
    op->reply->missing = sp_uid_ranges_count(request->ranges);
    sp_range_walk_init(&walk, sp_plan_read(plan), mailbox, request->ranges, 0);
    while ((status = sp_range_walk_next(&walk, &row)) == SP_OK) {
        op->reply->missing--;
        if (request->store.has_unchanged_since && row.modseq > request->store.unchanged_since)
            sp_uid_list_add(failed, row.uid, row.uid);
        else if (changed_flags(request->store.op, row.flags, bits) != row.flags)
            sp_uid_list_add(changed, row.uid, row.uid);
    }
    sp_range_walk_end(&walk);
    if (status != SP_EOF)
        return status;
    return changed->failed || failed->failed ? SP_NO_MEMORY : SP_OK;
}

static enum sp_status store_plan(struct sp_plan *plan, struct sp_op *op)
{
    static const uint8_t ops[] = {[SP_STORE_ADD] = SP_FLAGS_ADD,
                                  [SP_STORE_REMOVE] = SP_FLAGS_REMOVE,
                                  [SP_STORE_REPLACE] = SP_FLAGS_REPLACE};
    struct sp_reply *reply = op->reply;
    struct sp_arena *arena = sp_plan_arena(plan);
    struct sp_uid_list changed = sp_uid_list(arena), failed = sp_uid_list(&reply->arena);
    struct sp_mailbox mailbox;
    struct change want = {0};
    struct sp_flags_change record;
    reply->modseq = 0;
    enum sp_status status = sp_op_mailbox(op, sp_plan_read(plan), &mailbox);
    if (status == SP_OK)
        status = sp_plan_keep_mailbox(plan, &mailbox);
    if (status == SP_OK)
        status = resolve_change(plan, op, &mailbox, &want);
    if (status == SP_OK)
        status = collect(plan, op, &mailbox, want.bits, &changed, &failed);
    if (status)
        return status;
    reply->failed = sp_uid_list_ranges(&failed);
    reply->previous_modseq = mailbox.row.highestmodseq;
    if (!changed.count)
        return SP_OK;

    record = (struct sp_flags_change){.op = ops[op->request->store.op],
                                      .system_flags = (uint32_t)(want.bits & SP_FLAG_SYSTEM),
                                      .keywords = want.names};
    if (!sp_uid_list_spans(&changed, arena, &record.uids))
        return SP_NO_MEMORY;
    status = sp_plan_next_modseq(plan, &mailbox.account, &record.modseq);
    if (status)
        return status;
    uint64_t lsn;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_flags_change_write(&record, buf);
    if (sp_buf_failed(buf))
        return sp_op_refuse(op, SP_LIMIT, "too many messages at once");
    reply->modseq = record.modseq;
    return sp_plan_emit(plan, SP_RECORD_FLAGS, &mailbox.account, mailbox.row.id, sp_buf_slice(buf),
                        &lsn);
}

void sp_op_store(struct sp_op *op)
{
    if (op->request->store.op > SP_STORE_REPLACE)
        sp_op_finish(op, SP_INVALID);
    else
        sp_op_submit(op, store_plan, op->request->ranges.count * sizeof(struct sp_uid_range));
}

/* The messages that are to go, all or the first. */
static enum sp_status collect_gone(const struct sp_request *request, struct sp_read *read,
                                   const struct sp_mailbox *mailbox, bool first_only,
                                   struct sp_uid_list *gone)
{
    struct sp_range_walk walk;
    struct sp_flag_row row;
    enum sp_status status = SP_OK;
    sp_range_walk_init(&walk, read, mailbox, request->ranges, 0);
    while (!(first_only && gone->count) && (status = sp_range_walk_next(&walk, &row)) == SP_OK)
        if (!request->expunge.deleted_only || row.flags & SP_FLAG_DELETED)
            sp_uid_list_add(gone, row.uid, row.uid);
    sp_range_walk_end(&walk);
    return status == SP_EOF ? SP_OK : status;
}

static enum sp_status expunge_plan(struct sp_plan *plan, struct sp_op *op)
{
    struct sp_reply *reply = op->reply;
    struct sp_uid_list gone = sp_uid_list(&reply->arena);
    struct sp_mailbox mailbox;
    struct sp_span_list spans;
    reply->modseq = 0;
    enum sp_status status = sp_op_mailbox(op, sp_plan_read(plan), &mailbox);
    if (status == SP_OK)
        status = collect_gone(op->request, sp_plan_read(plan), &mailbox, false, &gone);
    if (status)
        return status;
    reply->ranges = sp_uid_list_ranges(&gone);
    if (!gone.count && !gone.failed)
        return SP_OK;
    if (!sp_uid_list_spans(&gone, sp_plan_arena(plan), &spans))
        return SP_NO_MEMORY;
    status = sp_plan_next_modseq(plan, &mailbox.account, &reply->modseq);
    return status ? status : sp_plan_emit_expunge(plan, &mailbox, reply->modseq, spans);
}

/* Where nothing is to go there is nothing to write: so that CLOSE, with which programs end every
 * look at a mailbox, succeeds also while the volume defers. */
void sp_op_expunge(struct sp_op *op)
{
    struct sp_uid_list gone = sp_uid_list(&op->arena);
    struct sp_mailbox mailbox;
    struct sp_read read;
    enum sp_status status = sp_read_begin(op->mail->index, &read);
    if (status == SP_OK) {
        status = sp_op_mailbox(op, &read, &mailbox);
        if (status == SP_OK)
            status = collect_gone(op->request, &read, &mailbox, true, &gone);
        sp_read_end(&read);
    }
    if (status != SP_OK || (!gone.count && !gone.failed))
        sp_op_finish(op, status);
    else
        sp_op_submit(op, expunge_plan, op->request->ranges.count * sizeof(struct sp_uid_range));
}
