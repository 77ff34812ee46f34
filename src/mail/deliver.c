#include "mail/deliver.h"
#include "mail/account.h"
#include "mail/mailbox.h"
#include "mail/rights.h"
#include "base/log.h"

#include <inttypes.h>

/* ---- What DELIVER and APPEND share ---- */

void sp_arrivals_release(struct sp_arrival *arrivals, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sp_prepared_release(&arrivals[i].prepared);
}

/* A keyword that the mailbox has no room for is left out: better the message without it than no
 * message. */
static enum sp_status arrival_flags(const struct sp_arrival *arrival, struct sp_keywords *keywords,
                                    uint64_t *ret_flags)
{
    *ret_flags = 0;
    enum sp_status status =
        arrival->flags ? sp_keywords_add_set(keywords, arrival->flags, ret_flags) : SP_OK;
    *ret_flags &= ~arrival->denied;
    return status == SP_LIMIT ? SP_OK : status;
}

enum sp_status sp_plan_check_arrivals(const struct sp_mailbox *mailbox,
                                      const struct sp_arrival *arrivals, uint32_t count)
{
    struct sp_keywords keywords;
    uint64_t flags;
    sp_keywords_init(&keywords, mailbox);
    for (uint32_t i = 0; i < count; i++) {
        enum sp_status status = arrival_flags(&arrivals[i], &keywords, &flags);
        if (status)
            return status;
    }
    return count > UINT32_MAX - mailbox->row.uidnext ? SP_LIMIT : SP_OK;
}

/* The record of one, all but the body. Its keywords are spelt as the mailbox does. */
static enum sp_status describe(struct sp_plan *plan, const struct sp_arrival *arrival,
                               struct sp_keywords *keywords, struct sp_message *message)
{
    const struct sp_prepared *prepared = &arrival->prepared;
    uint64_t flags;
    message->date_s =
        arrival->has_date ? arrival->date.unix_s : (int64_t)(sp_plan_time_ns(plan) / 1000000000U);
    message->zone_min = arrival->has_date ? arrival->date.zone_min : 0;
    message->origin = (uint8_t)arrival->origin;
    message->origin_id = arrival->origin_id;
    message->size = prepared->size;
    message->header_bytes = prepared->header_bytes;
    message->digest = prepared->digest;
    message->envelope = prepared->envelope;
    message->bodystructure = prepared->bodystructure;
    message->parts = prepared->parts;
    enum sp_status status = arrival_flags(arrival, keywords, &flags);
    if (status)
        return status;
    message->system_flags = (uint32_t)(flags & SP_FLAG_SYSTEM);
    return sp_keywords_names(keywords, flags, sp_plan_arena(plan), &message->keywords)
               ? SP_OK
               : SP_NO_MEMORY;
}

/* What all messages that arrive in a mailbox now have in common. */
static enum sp_status begin_message(struct sp_plan *plan, const struct sp_mailbox *mailbox,
                                    struct sp_message *ret_message)
{
    struct sp_account account;
    enum sp_status status = sp_index_account(sp_plan_read(plan), &mailbox->account, &account);
    if (status)
        return status;
    *ret_message =
        (struct sp_message){.uid = mailbox->row.uidnext,
                            .uidvalidity = mailbox->row.uidvalidity,
                            .modseq = account.row.modseq + 1,
                            .address = sp_arena_copy(sp_plan_arena(plan), account.address),
                            .path = mailbox->path};
    return account.address.len && !ret_message->address.ptr ? SP_NO_MEMORY : SP_OK;
}

enum sp_status sp_plan_emit_arrivals(struct sp_plan *plan, const struct sp_mailbox *mailbox,
                                     const struct sp_arrival *arrivals, uint32_t count,
                                     uint32_t *ret_first)
{
    struct sp_keywords keywords;
    struct sp_message message;
    enum sp_status status = begin_message(plan, mailbox, &message);
    sp_keywords_init(&keywords, mailbox);
    for (uint32_t i = 0; status == SP_OK && i < count; i++) {
        status = describe(plan, &arrivals[i], &keywords, &message);
        if (status == SP_OK)
            status = sp_prepared_emit(plan, &arrivals[i].prepared, &message.bodies);
        if (status == SP_OK)
            status = sp_plan_emit_message(plan, mailbox, &message);
        message.uid++;
    }
    *ret_first = mailbox->row.uidnext;
    return status;
}

/* ---- DELIVER ---- */

struct delivery {
    struct sp_arrival arrival;
    /* One for each recipient: whose it is, and whether an earlier recipient is the same account. */
    struct target {
        struct sp_uuid account;
        uint32_t mailbox; /* 0: INBOX */
        bool deliver;
        bool create_inbox;
    } * targets;
    bool resolved; /* the recipients' statuses are known */
};

/* The sender is told, but not by whom it was: so the log names who did not get it. */
static void log_failed(const struct sp_op *op)
{
    const struct sp_request *request = op->request;
    char address[SP_ADDRESS_MAX + 16];
    for (uint32_t i = 0; i < request->deliver.recipients_count; i++) {
        if (op->reply->recipients[i])
            sp_log(SP_LOG_WARN, "deliver.failed", "session=%016" PRIx64 " recipient=%s status=%s",
                   request->session,
                   sp_log_quote(request->deliver.recipients[i], address, sizeof address),
                   sp_status_name(op->reply->recipients[i]));
    }
}

static void delivery_release(struct sp_op *op)
{
    struct delivery *delivery = op->state;
    if (delivery->resolved)
        log_failed(op);
    sp_arrivals_release(&delivery->arrival, 1);
}

enum sp_status sp_deliver_check(struct sp_read *read, const struct sp_uuid *id,
                                bool *ret_create_inbox)
{
    struct sp_account account;
    struct sp_mailbox inbox;
    enum sp_status status = sp_index_account(read, id, &account);
    if (status)
        return status;
    status = sp_index_mailbox_by_path(read, id, SP_S("INBOX"), &inbox);
    *ret_create_inbox = status == SP_NOT_FOUND;
    if (status == SP_OK)
        return inbox.row.uidnext == UINT32_MAX ? SP_NO_SPACE : SP_OK;
    return status != SP_NOT_FOUND ? status : account.row.protected_ ? SP_UNAVAILABLE : SP_OK;
}

static enum sp_status resolve_mailbox(struct sp_read *read, struct sp_slice address,
                                      struct target *target)
{
    struct sp_mailbox mailbox;
    enum sp_status status = sp_post_mailbox(read, &target->account, address, &mailbox);
    if (status == SP_OK && !sp_slice_eq(mailbox.path, SP_S("INBOX")))
        target->mailbox = mailbox.row.id;
    return status == SP_NOT_FOUND ? SP_OK : status;
}

/* Who gets it. Two recipients that are one mailbox share one copy. Returned is only what concerns
 * all: SP_IO and the like, and SP_UNAVAILABLE when all are to have it and some cannot. */
static enum sp_status resolve_targets(struct sp_plan *plan, struct sp_op *op, uint32_t *ret_count)
{
    const struct sp_request *request = op->request;
    struct delivery *delivery = op->state;
    uint32_t deliveries = 0, failures = 0;
    delivery->resolved = false;
    for (uint32_t i = 0; i < request->deliver.recipients_count; i++) {
        struct target *target = &delivery->targets[i];
        *target = (struct target){0};
        enum sp_status status =
            sp_recipient_resolve(&op->mail->config, sp_plan_read(plan),
                                 request->deliver.recipients[i], &target->account);
        if (status == SP_DENIED || status == SP_INVALID)
            status = SP_NOT_FOUND;
        if (status == SP_OK)
            status = sp_deliver_check(sp_plan_read(plan), &target->account, &target->create_inbox);
        if (status == SP_OK)
            status = resolve_mailbox(sp_plan_read(plan), request->deliver.recipients[i], target);
        if (status == SP_IO || status == SP_NO_MEMORY || status == SP_CORRUPT)
            return status;
        op->reply->recipients[i] = status;
        failures += status != SP_OK;
        target->deliver = status == SP_OK;
        for (uint32_t k = 0; target->deliver && k < i; k++)
            if (delivery->targets[k].deliver && delivery->targets[k].mailbox == target->mailbox &&
                sp_uuid_eq(&delivery->targets[k].account, &target->account))
                target->deliver = false;
        deliveries += target->deliver;
    }
    delivery->resolved = true;
    *ret_count = deliveries;
    if (request->deliver.all && deliveries && failures)
        return sp_op_refuse(op, SP_UNAVAILABLE, "a recipient cannot have it now, so none gets it");
    return SP_OK;
}

static enum sp_status deliver_one(struct sp_plan *plan, const struct sp_arrival *arrival,
                                  const struct target *target, struct sp_lsn_list bodies)
{
    struct sp_mailbox inbox;
    struct sp_message message;
    struct sp_keywords keywords = {0};
    enum sp_status status;
    if (target->mailbox) {
        status = sp_index_mailbox(sp_plan_read(plan), &target->account, target->mailbox, &inbox);
        if (status == SP_OK)
            status = sp_plan_keep_mailbox(plan, &inbox);
    } else if (target->create_inbox) {
        status = sp_plan_create_mailbox(plan, &target->account, SP_S("INBOX"), 0, &inbox);
    } else {
        status =
            sp_index_mailbox_by_path(sp_plan_read(plan), &target->account, SP_S("INBOX"), &inbox);
        if (status == SP_OK)
            status = sp_plan_keep_mailbox(plan, &inbox);
    }
    if (status == SP_OK)
        status = begin_message(plan, &inbox, &message);
    if (status == SP_OK)
        status = describe(plan, arrival, &keywords, &message);
    if (status)
        return status;
    message.bodies = bodies;
    return sp_plan_emit_message(plan, &inbox, &message);
}

static enum sp_status deliver_plan(struct sp_plan *plan, struct sp_op *op)
{
    struct delivery *delivery = op->state;
    struct sp_lsn_list bodies;
    uint32_t deliveries;
    enum sp_status status = resolve_targets(plan, op, &deliveries);
    if (status || !deliveries)
        return status;
    size_t bytes = sp_prepared_body_bytes(&delivery->arrival.prepared);
    if (deliveries * sp_prepared_message_bytes(&delivery->arrival.prepared) + bytes >
        SP_PLAN_BYTES_MAX)
        return sp_op_refuse(op, SP_LIMIT,
                            "the message's header is too long for so many recipients at once");
    status = sp_prepared_emit(plan, &delivery->arrival.prepared, &bodies);
    for (uint32_t i = 0; status == SP_OK && i < op->request->deliver.recipients_count; i++)
        if (delivery->targets[i].deliver)
            status = deliver_one(plan, &delivery->arrival, &delivery->targets[i], bodies);
    return status;
}

void sp_op_deliver(struct sp_op *op)
{
    const struct sp_request *request = op->request;
    uint32_t count = request->deliver.recipients_count;
    struct delivery *delivery = sp_arena_alloc(&op->arena, sizeof *delivery);
    if (delivery)
        delivery->targets = sp_arena_array(&op->arena, count, sizeof *delivery->targets);
    op->reply->recipients = sp_arena_array(&op->reply->arena, count, sizeof *op->reply->recipients);
    if (!delivery || !delivery->targets || !op->reply->recipients) {
        sp_op_finish(op, SP_NO_MEMORY);
        return;
    }
    if (!count || count > SP_RECIPIENTS_MAX) {
        sp_op_finish(op, sp_op_refuse(op, SP_LIMIT, "there are too many recipients"));
        return;
    }
    enum sp_status status =
        sp_op_prepare(op, &request->deliver.message, &delivery->arrival.prepared);
    if (status) {
        sp_op_finish(op, status);
        return;
    }
    delivery->arrival.origin = SP_ORIGIN_DELIVERY;
    op->state = delivery;
    op->release = delivery_release;
    sp_op_submit(op, deliver_plan,
                 sp_prepared_body_bytes(&delivery->arrival.prepared) +
                     count * sp_prepared_message_bytes(&delivery->arrival.prepared));
}

/* ---- APPEND ---- */

struct append {
    struct sp_arrival *arrivals;
    uint32_t count;
};

static void append_release(struct sp_op *op)
{
    struct append *append = op->state;
    sp_arrivals_release(append->arrivals, append->count);
}

/* The message that is replaced, in its mailbox; its spans are kept. *ret_there: it is there. */
static enum sp_status find_replaced(struct sp_plan *plan, struct sp_op *op,
                                    struct sp_mailbox *ret_source, struct sp_span_list *ret_spans,
                                    bool *ret_there)
{
    struct sp_read *read = sp_plan_read(plan);
    struct sp_uid_range uid = {op->request->append.replaces, op->request->append.replaces};
    struct sp_uid_list list = sp_uid_list(sp_plan_arena(plan));
    struct sp_range_walk walk;
    struct sp_flag_row row;
    enum sp_status status =
        sp_op_mailbox(op, read, SP_RIGHT_DELETED | SP_RIGHT_EXPUNGE, ret_source);
    if (status == SP_OK)
        status = sp_plan_keep_mailbox(plan, ret_source);
    if (status)
        return status;
    sp_range_walk_init(&walk, read, ret_source, (struct sp_uid_ranges){&uid, 1}, 0);
    status = sp_range_walk_next(&walk, &row);
    sp_range_walk_end(&walk);
    *ret_there = status == SP_OK;
    if (status)
        return status == SP_EOF ? SP_OK : status;
    sp_uid_list_add(&list, row.uid, row.uid);
    return sp_uid_list_spans(&list, sp_plan_arena(plan), ret_spans) ? SP_OK : SP_NO_MEMORY;
}

static enum sp_status append_plan(struct sp_plan *plan, struct sp_op *op)
{
    struct append *append = op->state;
    struct sp_reply *reply = op->reply;
    struct sp_uid_list uids = sp_uid_list(&reply->arena);
    struct sp_mailbox mailbox;
    struct sp_mailbox source;
    struct sp_span_list replaced;
    uint32_t first, rights;
    bool replaces = op->request->append.replaces, there = false;
    struct sp_read *read = sp_plan_read(plan);
    reply->missing = 0;
    reply->new_ranges = (struct sp_uid_ranges){NULL, 0};
    enum sp_status status = replaces ? find_replaced(plan, op, &source, &replaced, &there) : SP_OK;
    if (status == SP_OK && replaces && !there)
        reply->missing = 1;
    if (status || reply->missing)
        return status;
    status = sp_op_target_mailbox(op, read, op->request->name, SP_RIGHT_INSERT, &mailbox);
    if (status == SP_OK)
        status = sp_plan_keep_mailbox(plan, &mailbox);
    if (status == SP_OK)
        status =
            sp_rights_of(read, &mailbox.account, mailbox.row.id, &op->request->account, &rights);
    if (status)
        return status;
    for (uint32_t i = 0; i < append->count; i++)
        append->arrivals[i].denied = sp_rights_denied_flags(rights);
    status = sp_plan_check_arrivals(&mailbox, append->arrivals, append->count);
    if (status)
        return sp_op_refuse(op, status,
                            status == SP_INVALID ? "that is no keyword"
                                                 : "the mailbox has given out all its UIDs");
    sp_uid_list_add(&uids, mailbox.row.uidnext, mailbox.row.uidnext + append->count - 1);
    if (uids.failed)
        return SP_NO_MEMORY;
    reply->uidvalidity = mailbox.row.uidvalidity;
    reply->new_ranges = sp_uid_list_ranges(&uids);
    status = sp_plan_emit_arrivals(plan, &mailbox, append->arrivals, append->count, &first);
    if (status || !replaces)
        return status;
    status = sp_plan_next_modseq(plan, &source.account, &reply->modseq);
    return status ? status : sp_plan_emit_expunge(plan, &source, reply->modseq, replaced);
}

void sp_op_append(struct sp_op *op)
{
    const struct sp_request *request = op->request;
    uint32_t count = request->append.messages_count;
    struct append *append = sp_arena_alloc(&op->arena, sizeof *append);
    size_t bytes = 0;
    if (append)
        append->arrivals = sp_arena_array(&op->arena, count, sizeof *append->arrivals);
    if (!append || !append->arrivals) {
        sp_op_finish(op, SP_NO_MEMORY);
        return;
    }
    op->state = append;
    op->release = append_release;
    enum sp_status status = count ? SP_OK : SP_INVALID;
    for (uint32_t i = 0; status == SP_OK && i < count; i++) {
        const struct sp_append *message = &request->append.messages[i];
        struct sp_arrival *arrival = &append->arrivals[i];
        status = sp_op_prepare(op, &message->message, &arrival->prepared);
        if (status)
            break;
        append->count++;
        arrival->flags = &message->flags;
        arrival->date = message->date;
        arrival->has_date = message->has_date;
        arrival->origin = SP_ORIGIN_APPEND;
        bytes += sp_prepared_body_bytes(&arrival->prepared) +
                 sp_prepared_message_bytes(&arrival->prepared);
        if (bytes > SP_PLAN_BYTES_MAX)
            status = sp_op_refuse(op, SP_LIMIT, "too many or too long messages at once");
    }
    if (status)
        sp_op_finish(op, status);
    else
        sp_op_submit(op, append_plan, bytes);
}
