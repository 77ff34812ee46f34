/* STORE and EXPUNGE: one record each, for the messages that really change. */
#include "mail/plan.h"
#include "mail/rights.h"

/* What STORE comes to: where all flags may be changed one record, and where only some may a
 * REPLACE is an ADD and a REMOVE of these. */
#define CHANGES_MAX 2U

struct change {
    enum sp_store_op op;
    uint64_t bits;
    struct sp_slice_list names; /* keywords, as the mailbox spells them */
    struct sp_uid_list uids;
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

/* The flags that were named, as bits of the mailbox. */
static enum sp_status resolve_flags(struct sp_op *op, struct sp_keywords *keywords,
                                    uint64_t *ret_bits)
{
    const struct sp_flag_set *set = &op->request->store.flags;
    if (op->request->store.op == SP_STORE_REMOVE) {
        /* A name that the mailbox does not know is nowhere set. */
        uint64_t bits = set->system & SP_FLAG_SYSTEM;
        for (uint32_t i = 0; i < set->keywords_count; i++) {
            unsigned bit = sp_keywords_find(keywords, set->keywords[i]);
            if (bit)
                bits |= 1ULL << bit;
        }
        *ret_bits = bits;
        return SP_OK;
    }
    enum sp_status status = sp_keywords_add_set(keywords, set, ret_bits);
    return status ? sp_op_refuse(op, status,
                                 status == SP_LIMIT ? "the mailbox has too many keywords"
                                                    : "that is no keyword")
                  : SP_OK;
}

/* RFC 4314, 4: flags that may not be changed are passed over, unless none of them may be. */
static enum sp_status resolve_changes(struct sp_plan *plan, struct sp_op *op,
                                      const struct sp_mailbox *mailbox, struct change *changes,
                                      uint32_t *ret_count)
{
    enum sp_store_op how = op->request->store.op;
    struct sp_keywords keywords;
    uint32_t rights, count = 1;
    uint64_t bits;
    sp_keywords_init(&keywords, mailbox);
    enum sp_status status = sp_rights_of(sp_plan_read(plan), &mailbox->account, mailbox->row.id,
                                         &op->request->account, &rights);
    if (status == SP_OK)
        status = resolve_flags(op, &keywords, &bits);
    if (status)
        return status;
    uint64_t denied = sp_rights_denied_flags(rights);
    changes[0] = (struct change){.op = how, .bits = bits & ~denied};
    if (denied && how == SP_STORE_REPLACE) {
        uint64_t all = SP_FLAG_SYSTEM;
        for (uint32_t i = 0; i < mailbox->row.keywords_count; i++)
            all |= 1ULL << (SP_FLAG_KEYWORD_0 + i);
        changes[0].op = SP_STORE_ADD;
        changes[count++] = (struct change){.op = SP_STORE_REMOVE, .bits = all & ~bits & ~denied};
    }
    const uint32_t any = SP_RIGHT_SEEN | SP_RIGHT_DELETED | SP_RIGHT_WRITE;
    if (!(rights & any) || (bits && !(bits & ~denied)))
        return sp_op_refuse(op, SP_DENIED, "you do not have the right to change these flags");
    for (uint32_t i = 0; i < count; i++) {
        changes[i].uids = sp_uid_list(sp_plan_arena(plan));
        if (!sp_keywords_names(&keywords, changes[i].bits, sp_plan_arena(plan), &changes[i].names))
            return SP_NO_MEMORY;
    }
    *ret_count = count;
    return SP_OK;
}

/* Which messages change, which UNCHANGEDSINCE keeps from it, and how many are not there. */
static enum sp_status collect(struct sp_plan *plan, struct sp_op *op,
                              const struct sp_mailbox *mailbox, struct change *changes,
                              uint32_t count, struct sp_uid_list *failed)
{
    const struct sp_request *request = op->request;
    struct sp_range_walk walk;
    struct sp_flag_row row;
    enum sp_status status;
    bool no_memory = false;
    op->reply->missing = sp_uid_ranges_count(request->ranges);
    sp_range_walk_init(&walk, sp_plan_read(plan), mailbox, request->ranges, 0);
    while ((status = sp_range_walk_next(&walk, &row)) == SP_OK) {
        op->reply->missing--;
        if (request->store.has_unchanged_since && row.modseq > request->store.unchanged_since) {
            sp_uid_list_add(failed, row.uid, row.uid);
            continue;
        }
        for (uint32_t i = 0; i < count; i++)
            if (changed_flags(changes[i].op, row.flags, changes[i].bits) != row.flags)
                sp_uid_list_add(&changes[i].uids, row.uid, row.uid);
    }
    sp_range_walk_end(&walk);
    if (status != SP_EOF)
        return status;
    for (uint32_t i = 0; i < count; i++)
        no_memory |= changes[i].uids.failed;
    return no_memory || failed->failed ? SP_NO_MEMORY : SP_OK;
}

/* The record's payload, in the plan's arena: one that does not fit must be found out before another
 * is emitted. */
static enum sp_status write_change(struct sp_plan *plan, struct sp_op *op,
                                   const struct change *change, uint64_t modseq,
                                   struct sp_slice *ret_payload)
{
    static const uint8_t ops[] = {[SP_STORE_ADD] = SP_FLAGS_ADD,
                                  [SP_STORE_REMOVE] = SP_FLAGS_REMOVE,
                                  [SP_STORE_REPLACE] = SP_FLAGS_REPLACE};
    struct sp_flags_change record = {.op = ops[change->op],
                                     .modseq = modseq,
                                     .system_flags = (uint32_t)(change->bits & SP_FLAG_SYSTEM),
                                     .keywords = change->names};
    if (!sp_uid_list_spans(&change->uids, sp_plan_arena(plan), &record.uids))
        return SP_NO_MEMORY;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_flags_change_write(&record, buf);
    if (sp_buf_failed(buf))
        return sp_op_refuse(op, SP_LIMIT, "too many messages at once");
    *ret_payload = sp_arena_copy(sp_plan_arena(plan), sp_buf_slice(buf));
    return ret_payload->ptr ? SP_OK : SP_NO_MEMORY;
}

static enum sp_status store_plan(struct sp_plan *plan, struct sp_op *op)
{
    struct sp_reply *reply = op->reply;
    struct sp_uid_list failed = sp_uid_list(&reply->arena);
    struct sp_mailbox mailbox;
    struct change changes[CHANGES_MAX];
    struct sp_slice payloads[CHANGES_MAX] = {{0}};
    uint32_t count = 0;
    uint64_t modseq = 0;
    reply->modseq = 0;
    enum sp_status status = sp_op_mailbox(op, sp_plan_read(plan), 0, &mailbox);
    if (status == SP_OK)
        status = sp_plan_keep_mailbox(plan, &mailbox);
    if (status == SP_OK)
        status = resolve_changes(plan, op, &mailbox, changes, &count);
    if (status == SP_OK)
        status = collect(plan, op, &mailbox, changes, count, &failed);
    if (status == SP_OK)
        status = sp_plan_next_modseq(plan, &mailbox.account, &modseq);
    for (uint32_t i = 0; status == SP_OK && i < count; i++)
        if (changes[i].uids.count)
            status = write_change(plan, op, &changes[i], modseq, &payloads[i]);
    if (status)
        return status;
    reply->failed = sp_uid_list_ranges(&failed);
    reply->previous_modseq = mailbox.row.highestmodseq;
    for (uint32_t i = 0; status == SP_OK && i < count; i++) {
        if (!payloads[i].len)
            continue;
        reply->modseq = modseq;
        status = sp_plan_emit(plan, SP_RECORD_FLAGS, &mailbox.account, mailbox.row.id, payloads[i],
                              NULL);
    }
    return status;
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
    enum sp_status status = sp_op_mailbox(op, sp_plan_read(plan), SP_RIGHT_EXPUNGE, &mailbox);
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
        status = sp_op_mailbox(op, &read, SP_RIGHT_EXPUNGE, &mailbox);
        if (status == SP_OK)
            status = collect_gone(op->request, &read, &mailbox, true, &gone);
        sp_read_end(&read);
    }
    if (status != SP_OK || (!gone.count && !gone.failed))
        sp_op_finish(op, status);
    else
        sp_op_submit(op, expunge_plan, op->request->ranges.count * sizeof(struct sp_uid_range));
}
