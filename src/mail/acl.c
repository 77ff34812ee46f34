/* ACL_GET, ACL_SET: the entries of a mailbox (RFC 4314, 3). */
#include "mail/mailbox.h"
#include "mail/rights.h"

static const struct sp_uuid anyone;

struct identifier {
    struct sp_uuid grantee; /* nil: anyone */
    bool negative;
};

static enum sp_status read_identifier(struct sp_op *op, struct sp_read *read,
                                      struct identifier *ret)
{
    struct sp_slice text = op->request->acl.identifier;
    *ret = (struct identifier){.negative = text.len && text.ptr[0] == '-'};
    text = sp_slice_from(text, ret->negative);
    if (sp_slice_eq_nocase(text, SP_S("anyone")))
        return SP_OK;
    enum sp_status status = sp_account_exact(read, text, &ret->grantee);
    if (status == SP_NOT_FOUND)
        return sp_op_refuse(op, SP_INVALID, "there is no such user, and no such identifier");
    return status;
}

/* ---- ACL_GET ---- */

static enum sp_status add_entry(struct sp_op *op, struct sp_read *read, const struct identifier *id,
                                uint32_t rights, bool owner)
{
    struct sp_reply *reply = op->reply;
    struct sp_account account = {.address = SP_S("anyone")};
    enum sp_status status = SP_OK;
    if (!sp_uuid_is_nil(&id->grantee))
        status = sp_index_account(read, &id->grantee, &account);
    if (status)
        return status == SP_NOT_FOUND ? SP_OK : status; /* nobody any more */
    uint8_t *text = sp_arena_alloc(&reply->arena, account.address.len + 1);
    if (!text)
        return SP_NO_MEMORY;
    text[0] = '-';
    memcpy(text + 1, account.address.ptr, account.address.len);
    struct sp_slice whole = sp_slice(text, account.address.len + 1);
    reply->acl[reply->acl_count++] =
        (struct sp_acl){sp_slice_from(whole, !id->negative), rights, owner};
    return SP_OK;
}

static enum sp_status add_all(struct sp_op *op, struct sp_read *read,
                              const struct sp_mailbox *mailbox)
{
    struct sp_acl_entry entry = {0};
    struct identifier owner = {mailbox->account, false};
    enum sp_status status = add_entry(op, read, &owner, SP_RIGHTS_ALL, true);
    while (status == SP_OK && (status = sp_index_next_acl(read, &mailbox->account, mailbox->row.id,
                                                          &entry)) == SP_OK) {
        struct identifier id = {entry.grantee, entry.negative};
        if (entry.row.rights && op->reply->acl_count <= SP_ACL_MAX)
            status = add_entry(op, read, &id, entry.row.rights, false);
    }
    return status == SP_EOF ? SP_OK : status;
}

static enum sp_status add_one(struct sp_op *op, struct sp_read *read,
                              const struct sp_mailbox *mailbox)
{
    struct identifier id;
    struct sp_acl_row row = {0};
    enum sp_status status = read_identifier(op, read, &id);
    if (status)
        return status;
    bool owner = sp_uuid_eq(&id.grantee, &mailbox->account);
    if (!owner)
        status =
            sp_index_acl(read, &mailbox->account, mailbox->row.id, &id.grantee, id.negative, &row);
    if (status && status != SP_NOT_FOUND)
        return status;
    return add_entry(op, read, &id, owner ? SP_RIGHTS_ALL : row.rights, owner);
}

static enum sp_status get(struct sp_op *op, struct sp_read *read)
{
    enum sp_acl_want want = op->request->acl.want;
    struct sp_mailbox mailbox;
    enum sp_status status = sp_op_named_mailbox(op, read, op->request->name,
                                                want == SP_ACL_MINE ? 0 : SP_RIGHT_ADMIN, &mailbox);
    if (status == SP_OK)
        status = sp_op_describe(op, read, &mailbox);
    if (status || want == SP_ACL_MINE)
        return status;
    op->reply->acl = sp_arena_array(&op->reply->arena, SP_ACL_MAX + 1, sizeof *op->reply->acl);
    if (!op->reply->acl)
        return SP_NO_MEMORY;
    return want == SP_ACL_ALL ? add_all(op, read, &mailbox) : add_one(op, read, &mailbox);
}

void sp_op_acl_get(struct sp_op *op)
{
    struct sp_read read;
    enum sp_status status = sp_read_begin(op->mail->index, &read);
    if (status == SP_OK) {
        status = get(op, &read);
        sp_read_end(&read);
    }
    sp_op_finish(op, status);
}

/* ---- ACL_SET ---- */

static enum sp_status check_count(struct sp_op *op, struct sp_read *read,
                                  const struct sp_mailbox *mailbox)
{
    struct sp_acl_entry entry = {0};
    enum sp_status status;
    uint32_t count = 0;
    while ((status = sp_index_next_acl(read, &mailbox->account, mailbox->row.id, &entry)) == SP_OK)
        count += entry.row.rights != 0;
    if (status == SP_EOF && count >= SP_ACL_MAX)
        return sp_op_refuse(op, SP_LIMIT, "there are too many identifiers with rights to it");
    return status == SP_EOF ? SP_OK : status;
}

static uint32_t changed_rights(const struct sp_request *request, uint32_t rights)
{
    switch (request->acl.op) {
    case SP_ACL_ADD:
        return rights | request->acl.rights;
    case SP_ACL_REMOVE:
        return rights & ~request->acl.rights;
    case SP_ACL_REPLACE:
        break;
    }
    return request->acl.rights;
}

static enum sp_status set_plan(struct sp_plan *plan, struct sp_op *op)
{
    const struct sp_request *request = op->request;
    struct sp_read *read = sp_plan_read(plan);
    struct identifier id;
    struct sp_mailbox mailbox;
    struct sp_account account = {0};
    struct sp_acl_row row = {0};
    enum sp_status status = sp_op_named_mailbox(op, read, request->name, SP_RIGHT_ADMIN, &mailbox);
    if (status == SP_OK)
        status = read_identifier(op, read, &id);
    if (status)
        return status;
    if (sp_uuid_eq(&id.grantee, &mailbox.account))
        return sp_op_refuse(op, SP_DENIED, "the owner has every right to a mailbox, always");
    status = sp_index_acl(read, &mailbox.account, mailbox.row.id, &id.grantee, id.negative, &row);
    if (status && status != SP_NOT_FOUND)
        return status;
    uint32_t rights = changed_rights(request, row.rights);
    if (rights == row.rights)
        return SP_OK;
    status = row.rights ? SP_OK : check_count(op, read, &mailbox);
    if (status == SP_OK && !sp_uuid_eq(&id.grantee, &anyone))
        status = sp_index_account(read, &id.grantee, &account);
    if (status)
        return status;
    struct sp_acl_record acl = {.mailbox = mailbox.row.id,
                                .grantee = id.grantee,
                                .negative = id.negative,
                                .rights = rights,
                                .address = account.address};
    struct sp_uuid owner = mailbox.account;
    return sp_plan_emit_acl(plan, &owner, &acl);
}

void sp_op_acl_set(struct sp_op *op)
{
    if (op->request->acl.op > SP_ACL_REMOVE || op->request->acl.rights & ~SP_RIGHTS_ALL)
        sp_op_finish(op, SP_INVALID);
    else
        sp_op_submit(op, set_plan, op->request->name.len + op->request->acl.identifier.len);
}
