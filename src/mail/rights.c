#include "mail/rights.h"
#include "mail/mailbox.h"

static const struct sp_uuid anyone;

/* ---- Rights ---- */

static enum sp_status add_rights(struct sp_read *read, const struct sp_uuid *owner,
                                 uint32_t mailbox, const struct sp_uuid *grantee, bool negative,
                                 uint32_t *rights)
{
    struct sp_acl_row row;
    enum sp_status status = sp_index_acl(read, owner, mailbox, grantee, negative, &row);
    if (status == SP_OK)
        *rights |= row.rights;
    return status == SP_NOT_FOUND ? SP_OK : status;
}

enum sp_status sp_rights_of(struct sp_read *read, const struct sp_uuid *owner, uint32_t mailbox,
                            const struct sp_uuid *actor, uint32_t *ret_rights)
{
    uint32_t given = 0, taken = 0;
    struct sp_account account;
    if (sp_uuid_eq(owner, actor)) {
        *ret_rights = SP_RIGHTS_ALL;
        return SP_OK;
    }
    enum sp_status status = sp_index_account(read, owner, &account);
    if (status == SP_OK && account.row.protected_)
        status = SP_UNAVAILABLE;
    if (status == SP_OK)
        status = add_rights(read, owner, mailbox, &anyone, false, &given);
    if (status == SP_OK)
        status = add_rights(read, owner, mailbox, &anyone, true, &taken);
    if (status == SP_OK)
        status = add_rights(read, owner, mailbox, actor, false, &given);
    if (status == SP_OK)
        status = add_rights(read, owner, mailbox, actor, true, &taken);
    if (status == SP_OK)
        *ret_rights = given & ~taken & SP_RIGHTS_ALL;
    return status;
}

uint64_t sp_rights_denied_flags(uint32_t rights)
{
    uint64_t denied = 0;
    if (!(rights & SP_RIGHT_SEEN))
        denied |= SP_FLAG_SEEN;
    if (!(rights & SP_RIGHT_DELETED))
        denied |= SP_FLAG_DELETED;
    if (!(rights & SP_RIGHT_WRITE))
        denied |= ~(uint64_t)(SP_FLAG_SEEN | SP_FLAG_DELETED);
    return denied;
}

enum sp_status sp_post_mailbox(struct sp_read *read, const struct sp_uuid *account,
                               struct sp_slice address, struct sp_mailbox *ret)
{
    uint32_t given = 0, taken = 0;
    struct sp_uuid whole;
    struct sp_slice local = sp_slice_sub(address, 0, sp_slice_find(address, '@'));
    size_t plus = sp_slice_find(local, '+');
    if (plus == SIZE_MAX || plus + 1 == local.len)
        return SP_NOT_FOUND;
    /* It may be an account's name as it stands. */
    enum sp_status status = sp_account_exact(read, address, &whole);
    if (status != SP_NOT_FOUND)
        return status == SP_OK || status == SP_UNAVAILABLE ? SP_NOT_FOUND : status;
    status = sp_index_mailbox_by_path(read, account, sp_slice_from(local, plus + 1), ret);
    if (status == SP_OK)
        status = add_rights(read, account, ret->row.id, &anyone, false, &given);
    if (status == SP_OK)
        status = add_rights(read, account, ret->row.id, &anyone, true, &taken);
    if (status)
        return status;
    return given & ~taken & SP_RIGHT_POST && ret->row.uidnext < UINT32_MAX ? SP_OK : SP_NOT_FOUND;
}

/* ---- Names ---- */

bool sp_is_other_users(struct sp_slice path)
{
    struct sp_slice root = SP_S(SP_OTHER_USERS);
    return sp_slice_eq(sp_slice_sub(path, 0, root.len), root) &&
           (path.len == root.len || path.ptr[root.len] == '/');
}

enum sp_status sp_account_exact(struct sp_read *read, struct sp_slice address,
                                struct sp_uuid *ret_id)
{
    uint8_t lower[SP_ADDRESS_MAX];
    struct sp_position position;
    if (!address.len || address.len > sizeof lower)
        return SP_NOT_FOUND;
    for (size_t i = 0; i < address.len; i++)
        lower[i] = sp_ascii_lower(address.ptr[i]);
    enum sp_status status = sp_index_address(read, sp_slice(lower, address.len), ret_id);
    if (status != SP_NOT_FOUND)
        return status;
    status = sp_index_position(read, &position);
    if (status && status != SP_NOT_FOUND)
        return status;
    return status == SP_OK && position.list_protected ? SP_UNAVAILABLE : SP_NOT_FOUND;
}

enum sp_status sp_op_locate(struct sp_op *op, struct sp_read *read, struct sp_slice name,
                            struct sp_name *ret_name)
{
    struct sp_slice root = SP_S(SP_OTHER_USERS "/");
    struct sp_mailbox own;
    *ret_name = (struct sp_name){.account = op->request->account, .path = name};
    if (!sp_is_other_users(name) || name.len <= root.len)
        return SP_OK;
    /* One's own of that name, from before names of others were here. */
    enum sp_status status = sp_index_mailbox_by_path(read, &op->request->account, name, &own);
    if (status != SP_NOT_FOUND)
        return status;
    struct sp_slice rest = sp_slice_from(name, root.len);
    size_t slash = sp_slice_find(rest, '/');
    if (slash == SIZE_MAX)
        return sp_op_refuse(op, SP_NOT_FOUND, "there is no such mailbox");
    status = sp_account_exact(read, sp_slice_sub(rest, 0, slash), &ret_name->account);
    if (status == SP_NOT_FOUND)
        return sp_op_refuse(op, status, "there is no such mailbox");
    ret_name->path = sp_slice_from(rest, slash + 1);
    ret_name->other = !sp_uuid_eq(&ret_name->account, &op->request->account);
    return status;
}

/* ---- Finding the mailbox ---- */

static enum sp_status refuse_rights(struct sp_op *op)
{
    return sp_op_refuse(op, SP_DENIED, "you do not have the right to do that");
}

enum sp_status sp_op_mailbox(struct sp_op *op, struct sp_read *read, uint32_t need,
                             struct sp_mailbox *ret_mailbox)
{
    const struct sp_mailbox_ref *ref = &op->request->mailbox;
    struct sp_mailbox mailbox;
    uint32_t rights = 0;
    enum sp_status status = sp_index_mailbox(read, &ref->account, ref->mailbox, &mailbox);
    if (status == SP_OK)
        status = sp_rights_of(read, &ref->account, ref->mailbox, &op->request->account, &rights);
    if (status == SP_NOT_FOUND || (status == SP_OK && mailbox.row.uidvalidity != ref->uidvalidity))
        return sp_op_refuse(op, SP_CONFLICT, "the mailbox has been deleted or replaced");
    if (status == SP_UNAVAILABLE || (status == SP_OK && mailbox.row.protected_))
        return sp_op_refuse(op, SP_UNAVAILABLE, sp_why_protected);
    if (status)
        return status;
    if (!(rights & SP_RIGHT_READ))
        return sp_op_refuse(op, SP_CONFLICT, "the right to read the mailbox was withdrawn");
    if ((rights & need) != need)
        return refuse_rights(op);
    *ret_mailbox = mailbox;
    return SP_OK;
}

/* Why there is no mailbox of that name in the account. */
static enum sp_status explain_missing(struct sp_op *op, struct sp_read *read,
                                      const struct sp_uuid *id)
{
    struct sp_account account;
    enum sp_status status = sp_index_account(read, id, &account);
    if (status == SP_NOT_FOUND)
        return sp_op_refuse(op, SP_NOT_FOUND, "there is no such account");
    if (status)
        return status;
    if (account.row.protected_)
        return sp_op_refuse(op, SP_UNAVAILABLE, sp_why_protected);
    return sp_op_refuse(op, SP_NOT_FOUND, "there is no such mailbox");
}

/* To whom may not know of it a mailbox does not exist (RFC 4314, 6). */
static enum sp_status check_named(struct sp_op *op, struct sp_read *read, uint32_t need,
                                  const struct sp_mailbox *mailbox)
{
    uint32_t rights;
    enum sp_status status =
        sp_rights_of(read, &mailbox->account, mailbox->row.id, &op->request->account, &rights);
    if (status == SP_UNAVAILABLE)
        return sp_op_refuse(op, status, sp_why_protected);
    if (status || (rights && (rights & need) == need))
        return status;
    return rights & SP_RIGHT_LOOKUP ? refuse_rights(op)
                                    : sp_op_refuse(op, SP_NOT_FOUND, "there is no such mailbox");
}

enum sp_status sp_op_named_mailbox(struct sp_op *op, struct sp_read *read, struct sp_slice path,
                                   uint32_t need, struct sp_mailbox *ret_mailbox)
{
    struct sp_name name;
    enum sp_status status = sp_op_locate(op, read, path, &name);
    if (status)
        return status;
    status = sp_index_mailbox_by_path(read, &name.account, name.path, ret_mailbox);
    if (status == SP_NOT_FOUND)
        return explain_missing(op, read, &name.account);
    return status ? status : check_named(op, read, need, ret_mailbox);
}

/* ---- CREATE ---- */

enum sp_status sp_op_may_create(struct sp_op *op, struct sp_read *read, const struct sp_name *name)
{
    struct sp_mailbox above;
    struct sp_account account;
    enum sp_status status = sp_index_account(read, &name->account, &account);
    if (status == SP_OK && account.row.protected_)
        return sp_op_refuse(op, SP_UNAVAILABLE, sp_why_protected);
    for (size_t at = name->path.len; status == SP_OK && at-- > 0;) {
        if (name->path.ptr[at] != '/')
            continue;
        status =
            sp_index_mailbox_by_path(read, &name->account, sp_slice_sub(name->path, 0, at), &above);
        if (status == SP_OK)
            return check_named(op, read, SP_RIGHT_CREATE, &above);
        status = status == SP_NOT_FOUND ? SP_OK : status;
    }
    return status ? status : refuse_rights(op);
}

enum sp_status sp_plan_emit_acl(struct sp_plan *plan, const struct sp_uuid *owner,
                                const struct sp_acl_record *acl)
{
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_acl_record_write(acl, buf);
    return sp_buf_failed(buf)
               ? SP_NO_MEMORY
               : sp_plan_emit(plan, SP_RECORD_ACL, owner, 0, sp_buf_slice(buf), NULL);
}

enum sp_status sp_plan_inherit_acl(struct sp_plan *plan, const struct sp_mailbox *mailbox)
{
    struct sp_read *read = sp_plan_read(plan);
    struct sp_acl_entry entry = {0};
    struct sp_mailbox above;
    size_t slash = mailbox->path.len;
    while (slash && mailbox->path.ptr[slash - 1] != '/')
        slash--;
    if (!slash)
        return SP_OK;
    enum sp_status status = sp_index_mailbox_by_path(
        read, &mailbox->account, sp_slice_sub(mailbox->path, 0, slash - 1), &above);
    if (status)
        return status == SP_NOT_FOUND ? SP_OK : status;
    uint32_t id = above.row.id;
    while ((status = sp_index_next_acl(read, &mailbox->account, id, &entry)) == SP_OK) {
        struct sp_account account = {0};
        if (!entry.row.rights)
            continue;
        if (!sp_uuid_is_nil(&entry.grantee))
            status = sp_index_account(read, &entry.grantee, &account);
        if (status == SP_NOT_FOUND)
            continue;
        struct sp_acl_record acl = {.mailbox = mailbox->row.id,
                                    .grantee = entry.grantee,
                                    .negative = entry.negative,
                                    .rights = entry.row.rights,
                                    .address = account.address};
        if (status == SP_OK)
            status = sp_plan_emit_acl(plan, &mailbox->account, &acl);
        if (status)
            return status;
    }
    return status == SP_EOF ? SP_OK : status;
}

/* ---- LIST ---- */

struct shared {
    struct sp_read *read;
    const struct sp_uuid *actor;
    struct sp_arena *arena;
    enum sp_status (*each)(void *context, const struct sp_mailbox *mailbox, struct sp_slice name,
                           uint32_t rights);
    void *context;
    bool *unavailable;
};

static struct sp_slice whole_name(struct sp_arena *arena, struct sp_slice address,
                                  struct sp_slice path)
{
    struct sp_slice root = SP_S(SP_OTHER_USERS "/");
    size_t len = root.len + address.len + 1 + path.len;
    uint8_t *name = sp_arena_alloc(arena, len);
    if (!name)
        return (struct sp_slice){0};
    memcpy(name, root.ptr, root.len);
    memcpy(name + root.len, address.ptr, address.len);
    name[root.len + address.len] = '/';
    memcpy(name + root.len + address.len + 1, path.ptr, path.len);
    return sp_slice(name, len);
}

static enum sp_status show(struct shared *shared, const struct sp_acl_entry *entry)
{
    uint32_t rights;
    struct sp_account owner;
    struct sp_mailbox mailbox;
    enum sp_status status =
        sp_rights_of(shared->read, &entry->owner, entry->mailbox, shared->actor, &rights);
    if (status == SP_UNAVAILABLE) {
        *shared->unavailable = true;
        return SP_OK;
    }
    if (status == SP_OK && !(rights & SP_RIGHT_LOOKUP))
        return SP_OK;
    if (status == SP_OK)
        status = sp_index_mailbox(shared->read, &entry->owner, entry->mailbox, &mailbox);
    if (status == SP_OK)
        status = sp_index_account(shared->read, &entry->owner, &owner);
    if (status)
        return status == SP_NOT_FOUND ? SP_OK : status;
    struct sp_slice name = whole_name(shared->arena, owner.address, mailbox.path);
    return name.ptr ? shared->each(shared->context, &mailbox, name, rights) : SP_NO_MEMORY;
}

/* Whether the actor's own entries have shown this mailbox already. */
static bool has_own_entry(struct shared *shared, const struct sp_acl_entry *entry)
{
    struct sp_acl_row row;
    for (unsigned negative = 0; negative < 2; negative++)
        if (sp_index_acl(shared->read, &entry->owner, entry->mailbox, shared->actor, negative,
                         &row) == SP_OK &&
            row.rights)
            return true;
    return false;
}

static enum sp_status show_given_to(struct shared *shared, const struct sp_uuid *grantee)
{
    struct sp_acl_entry entry = {0}, before = {0};
    enum sp_status status;
    while ((status = sp_index_next_shared(shared->read, grantee, &entry)) == SP_OK) {
        bool again = before.mailbox == entry.mailbox && sp_uuid_eq(&before.owner, &entry.owner);
        before = entry;
        if (again || sp_uuid_eq(&entry.owner, shared->actor) ||
            (sp_uuid_is_nil(grantee) && has_own_entry(shared, &entry)))
            continue;
        status = show(shared, &entry);
        if (status)
            return status;
    }
    return status == SP_EOF ? SP_OK : status;
}

/* An owner whose list has a gap may have shared more than is known; one whose mailboxes the account
 * is subscribed to probably did. */
static enum sp_status check_subscribed(struct shared *shared)
{
    struct sp_slice root = SP_S(SP_OTHER_USERS "/"), path = {NULL, 0};
    enum sp_status status;
    while ((status = sp_index_next_subscription(shared->read, shared->actor, &path)) == SP_OK) {
        struct sp_uuid id;
        struct sp_account owner;
        if (!sp_slice_eq(sp_slice_sub(path, 0, root.len), root))
            continue;
        struct sp_slice rest = sp_slice_from(path, root.len);
        status =
            sp_account_exact(shared->read, sp_slice_sub(rest, 0, sp_slice_find(rest, '/')), &id);
        if (status == SP_OK)
            status = sp_index_account(shared->read, &id, &owner);
        if (status == SP_UNAVAILABLE || (status == SP_OK && owner.row.protected_))
            *shared->unavailable = true;
        else if (status && status != SP_NOT_FOUND)
            return status;
    }
    return status == SP_EOF ? SP_OK : status;
}

enum sp_status
sp_shared_each(struct sp_read *read, const struct sp_uuid *actor, struct sp_arena *arena,
               enum sp_status (*each)(void *context, const struct sp_mailbox *mailbox,
                                      struct sp_slice name, uint32_t rights),
               void *context, bool *ret_unavailable)
{
    struct shared shared = {read, actor, arena, each, context, ret_unavailable};
    *ret_unavailable = false;
    enum sp_status status = show_given_to(&shared, actor);
    if (status == SP_OK)
        status = show_given_to(&shared, &anyone);
    return status == SP_OK ? check_subscribed(&shared) : status;
}
