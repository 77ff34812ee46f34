#include "mail/mailbox.h"
#include "base/endian.h"
#include "mail/copy.h"
#include "mail/plan.h"
#include "mail/rights.h"
#include "mime/mime.h"

#include <stdlib.h>

bool sp_mailbox_path_ok(struct sp_slice path)
{
    uint32_t levels = 1;
    if (!path.len || path.len > SP_MAILBOX_NAME_MAX || !sp_mime_is_utf8(path))
        return false;
    for (size_t i = 0; i < path.len; i++) {
        uint8_t c = path.ptr[i];
        if (c < ' ' || c == 0x7f)
            return false;
        if (c == '/' && (i == 0 || i + 1 == path.len || path.ptr[i - 1] == '/'))
            return false;
        levels += c == '/';
    }
    return levels <= SP_MAILBOX_LEVELS_MAX;
}

enum sp_status sp_op_target_mailbox(struct sp_op *op, struct sp_read *read, struct sp_slice path,
                                    uint32_t need, struct sp_mailbox *ret_mailbox)
{
    enum sp_status status = sp_op_named_mailbox(op, read, path, need, ret_mailbox);
    if (status == SP_NOT_FOUND && !sp_mailbox_path_ok(path))
        return sp_op_refuse(op, SP_INVALID, "that is no name for a mailbox");
    return status;
}

static bool is_inbox(struct sp_slice path)
{
    return sp_slice_eq_nocase(path, SP_S("INBOX"));
}

/* RFC 8474 MAILBOXID: the same for ever, whatever the mailbox is called. */
static void object_id(const struct sp_mailbox *mailbox, uint8_t ret_id[16])
{
    struct sp_digest digest;
    uint8_t bytes[20];
    memcpy(bytes, mailbox->account.bytes, 16);
    sp_put_u32be(bytes + 16, mailbox->row.id);
    sp_digest(sp_slice(bytes, sizeof bytes), &digest);
    memcpy(ret_id, digest.bytes, 16);
}

bool sp_mailbox_describe(const struct sp_mailbox *mailbox, uint32_t rights, struct sp_arena *arena,
                         struct sp_mailbox_info *ret_info)
{
    const struct sp_mailbox_row *row = &mailbox->row;
    struct sp_mailbox_info info = {.account = mailbox->account,
                                   .id = row->id,
                                   .name = sp_arena_copy(arena, mailbox->path),
                                   .uidvalidity = row->uidvalidity,
                                   .uidnext = row->uidnext,
                                   .highestmodseq = row->highestmodseq,
                                   .messages = row->messages,
                                   .unseen = row->unseen,
                                   .deleted = row->deleted,
                                   .size = row->size,
                                   .special_use = row->special_use,
                                   .exists = true,
                                   .protected_ = row->protected_,
                                   .rights = rights};
    object_id(mailbox, info.object_id);
    *ret_info = info;
    return info.name.ptr || !mailbox->path.len;
}

enum sp_status sp_op_describe(struct sp_op *op, struct sp_read *read,
                              const struct sp_mailbox *mailbox)
{
    struct sp_reply *reply = op->reply;
    uint32_t rights;
    enum sp_status status =
        sp_rights_of(read, &mailbox->account, mailbox->row.id, &op->request->account, &rights);
    if (status)
        return status;
    reply->mailboxes = sp_arena_alloc(&reply->arena, sizeof *reply->mailboxes);
    if (!reply->mailboxes || !sp_mailbox_describe(mailbox, rights, &reply->arena, reply->mailboxes))
        return SP_NO_MEMORY;
    reply->mailboxes_count = 1;
    return SP_OK;
}

enum sp_status sp_op_describe_keywords(struct sp_op *op, const struct sp_mailbox *mailbox)
{
    struct sp_reply *reply = op->reply;
    uint32_t count = mailbox->row.keywords_count;
    reply->keywords = sp_arena_array(&reply->arena, count, sizeof *reply->keywords);
    if (!reply->keywords)
        return SP_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        reply->keywords[i] = sp_arena_copy(&reply->arena, mailbox->keywords[i]);
        if (!reply->keywords[i].ptr)
            return SP_NO_MEMORY;
    }
    reply->keywords_count = count;
    return SP_OK;
}

/* ---- LIST, STATUS ---- */

static int by_name(const void *a, const void *b)
{
    return sp_slice_cmp(((const struct sp_mailbox_info *)a)->name,
                        ((const struct sp_mailbox_info *)b)->name);
}

/* The next free entry of a growing list; NULL: no memory. */
static struct sp_mailbox_info *next_entry(struct sp_reply *reply, uint32_t *capacity)
{
    struct sp_mailbox_info *grown =
        sp_arena_grow(&reply->arena, reply->mailboxes, reply->mailboxes_count, capacity,
                      sizeof *reply->mailboxes);
    if (!grown)
        return NULL;
    reply->mailboxes = grown;
    return &grown[reply->mailboxes_count++];
}

static enum sp_status list_mailboxes(struct sp_op *op, struct sp_read *read, uint32_t *capacity)
{
    struct sp_mailbox mailbox = {0};
    enum sp_status status;
    while ((status = sp_index_next_mailbox(read, &op->request->account, &mailbox)) == SP_OK) {
        struct sp_mailbox_info *info = next_entry(op->reply, capacity);
        if (!info || !sp_mailbox_describe(&mailbox, SP_RIGHTS_ALL, &op->reply->arena, info))
            return SP_NO_MEMORY;
    }
    return status == SP_EOF ? SP_OK : status;
}

struct shared_list {
    struct sp_op *op;
    uint32_t *capacity;
};

static enum sp_status list_one_shared(void *context, const struct sp_mailbox *mailbox,
                                      struct sp_slice name, uint32_t rights)
{
    struct shared_list *list = context;
    struct sp_mailbox_info *info = next_entry(list->op->reply, list->capacity);
    if (!info || !sp_mailbox_describe(mailbox, rights, &list->op->reply->arena, info))
        return SP_NO_MEMORY;
    info->name = name;
    info->special_use = 0; /* the owner's (RFC 6154, 2), not this account's */
    return SP_OK;
}

/* Own ones, and those of others that the account may look up. */
static enum sp_status list_all(struct sp_op *op, struct sp_read *read, uint32_t *capacity)
{
    struct sp_reply *reply = op->reply;
    struct shared_list shared = {op, capacity};
    enum sp_status status = list_mailboxes(op, read, capacity);
    if (status == SP_OK)
        status = sp_shared_each(read, &op->request->account, &reply->arena, list_one_shared,
                                &shared, &reply->others_unavailable);
    if (status == SP_OK && reply->mailboxes_count)
        qsort(reply->mailboxes, reply->mailboxes_count, sizeof *reply->mailboxes, by_name);
    return status;
}

/* Marks those that are subscribed, and adds subscriptions to names that are not there. */
static enum sp_status list_subscriptions(struct sp_op *op, struct sp_read *read, uint32_t *capacity)
{
    struct sp_reply *reply = op->reply;
    uint32_t there = reply->mailboxes_count;
    struct sp_slice path = {NULL, 0};
    enum sp_status status;
    while ((status = sp_index_next_subscription(read, &op->request->account, &path)) == SP_OK) {
        struct sp_mailbox_info key = {.name = path}, *info = NULL;
        if (there)
            info = bsearch(&key, reply->mailboxes, there, sizeof key, by_name);
        if (!info) {
            if (!(info = next_entry(reply, capacity)))
                return SP_NO_MEMORY;
            *info = (struct sp_mailbox_info){.name = sp_arena_copy(&reply->arena, path)};
            if (!info->name.ptr)
                return SP_NO_MEMORY;
        }
        info->subscribed = true;
    }
    return status == SP_EOF ? SP_OK : status;
}

static enum sp_status list(struct sp_op *op, struct sp_read *read)
{
    struct sp_account account;
    uint32_t capacity = 0;
    enum sp_status status = sp_index_account(read, &op->request->account, &account);
    if (status)
        return status;
    if (account.row.protected_)
        return sp_op_refuse(op, SP_UNAVAILABLE,
                            "the list of mailboxes is being recovered, please wait");
    status = list_all(op, read, &capacity);
    if (status == SP_OK)
        status = list_subscriptions(op, read, &capacity);
    return status;
}

void sp_op_list(struct sp_op *op)
{
    struct sp_read read;
    enum sp_status status = sp_read_begin(op->mail->index, &read);
    if (status == SP_OK) {
        status = list(op, &read);
        sp_read_end(&read);
    }
    sp_op_finish(op, status);
}

void sp_op_status(struct sp_op *op)
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
        sp_read_end(&read);
    }
    sp_op_finish(op, status);
}

/* ---- CREATE ---- */

/* Whether so many more may be made. Counted only when that many have ever been made. */
static enum sp_status check_count(struct sp_read *read, const struct sp_account *account,
                                  uint32_t fresh)
{
    struct sp_mailbox mailbox = {0};
    uint32_t count = fresh;
    if (!fresh || account->row.mailbox_next + fresh <= SP_MAILBOXES_MAX)
        return SP_OK;
    enum sp_status status = SP_OK;
    while (count <= SP_MAILBOXES_MAX &&
           (status = sp_index_next_mailbox(read, &account->id, &mailbox)) == SP_OK)
        count++;
    return status == SP_EOF ? SP_OK : status ? status : SP_LIMIT;
}

static enum sp_status create_below(struct sp_plan *plan, const struct sp_uuid *account,
                                   struct sp_slice path, uint32_t special_use,
                                   struct sp_mailbox *ret_mailbox)
{
    enum sp_status status = sp_plan_create_mailbox(plan, account, path, special_use, ret_mailbox);
    return status ? status : sp_plan_inherit_acl(plan, ret_mailbox);
}

/* Makes the missing levels above path, where they and `others` besides may be made. */
static enum sp_status create_parents(struct sp_plan *plan, const struct sp_account *account,
                                     struct sp_slice path, uint32_t others)
{
    struct sp_read *read = sp_plan_read(plan);
    struct sp_slice missing[SP_MAILBOX_LEVELS_MAX];
    struct sp_mailbox mailbox;
    uint32_t count = 0;
    enum sp_status status = SP_OK;
    for (size_t i = 0; i < path.len; i++) {
        if (path.ptr[i] != '/')
            continue;
        sp_assert(count < SP_MAILBOX_LEVELS_MAX);
        missing[count] = sp_slice_sub(path, 0, i);
        status = sp_index_mailbox_by_path(read, &account->id, missing[count], &mailbox);
        if (status == SP_NOT_FOUND)
            count++;
        else if (status)
            return status;
    }
    status = check_count(read, account, count + others);
    for (uint32_t i = 0; status == SP_OK && i < count; i++)
        status = create_below(plan, &account->id, missing[i], 0, &mailbox);
    return status;
}

enum sp_status sp_plan_create_path(struct sp_plan *plan, const struct sp_uuid *id,
                                   struct sp_slice path, uint32_t special_use,
                                   struct sp_mailbox *ret_mailbox)
{
    struct sp_read *read = sp_plan_read(plan);
    struct sp_account account;
    struct sp_mailbox mailbox;
    enum sp_status status = sp_index_account(read, id, &account);
    if (status)
        return status;
    if (account.row.protected_)
        return SP_UNAVAILABLE;
    status = sp_index_mailbox_by_path(read, id, path, &mailbox);
    if (status != SP_NOT_FOUND)
        return status ? status : SP_EXISTS;
    status = create_parents(plan, &account, path, 1);
    return status ? status : create_below(plan, id, path, special_use, ret_mailbox);
}

static enum sp_status say_why(struct sp_op *op, enum sp_status status)
{
    if (status == SP_EXISTS)
        return sp_op_refuse(op, status, "there is such a mailbox already");
    if (status == SP_NOT_FOUND)
        return sp_op_refuse(op, status, "there is no such mailbox");
    if (status == SP_UNAVAILABLE)
        return sp_op_refuse(op, status, "the list of mailboxes is being recovered, please wait");
    if (status == SP_LIMIT)
        return sp_op_refuse(op, status, "there are too many mailboxes");
    return status;
}

static enum sp_status check_new_own(struct sp_op *op, struct sp_slice path)
{
    if (!sp_is_other_users(path))
        return SP_OK;
    return sp_op_refuse(op, SP_INVALID, "under that name the mailboxes of others appear");
}

static enum sp_status create_plan(struct sp_plan *plan, struct sp_op *op)
{
    const struct sp_request *request = op->request;
    struct sp_read *read = sp_plan_read(plan);
    struct sp_mailbox mailbox;
    struct sp_name name;
    enum sp_status status = sp_op_locate(op, read, request->name, &name);
    if (status == SP_OK)
        status = name.other ? sp_op_may_create(op, read, &name) : check_new_own(op, name.path);
    if (status)
        return status;
    status =
        sp_plan_create_path(plan, &name.account, name.path, request->manage.special_use, &mailbox);
    if (status)
        return say_why(op, status);
    status = sp_op_describe(op, read, &mailbox);
    if (status == SP_OK)
        op->reply->mailboxes->name = sp_arena_copy(&op->reply->arena, request->name);
    return status;
}

void sp_op_create(struct sp_op *op)
{
    const uint32_t known = SP_USE_DRAFTS | SP_USE_SENT | SP_USE_TRASH | SP_USE_JUNK |
                           SP_USE_ARCHIVE | SP_USE_ALL | SP_USE_FLAGGED;
    if (!sp_mailbox_path_ok(op->request->name))
        sp_op_finish(op, sp_op_refuse(op, SP_INVALID, "that is no name for a mailbox"));
    else if (op->request->manage.special_use & ~known)
        sp_op_finish(op, sp_op_refuse(op, SP_INVALID, "that special use is not known"));
    else
        sp_op_submit(op, create_plan, op->request->name.len);
}

/* ---- DELETE ---- */

static enum sp_status emit_mailbox(struct sp_plan *plan, enum sp_record_type type,
                                   const struct sp_uuid *account,
                                   const struct sp_mailbox_record *record)
{
    uint64_t lsn;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_mailbox_record_write(record, buf);
    return sp_buf_failed(buf) ? SP_NO_MEMORY
                              : sp_plan_emit(plan, type, account, 0, sp_buf_slice(buf), &lsn);
}

static enum sp_status delete_plan(struct sp_plan *plan, struct sp_op *op)
{
    const struct sp_request *request = op->request;
    struct sp_mailbox mailbox;
    uint64_t modseq;
    enum sp_status status =
        sp_op_named_mailbox(op, sp_plan_read(plan), request->name, SP_RIGHT_REMOVE, &mailbox);
    if (status)
        return status;
    if (mailbox.row.protected_)
        return sp_op_refuse(op, SP_UNAVAILABLE, sp_why_protected);
    if (is_inbox(mailbox.path))
        return sp_op_refuse(op, SP_DENIED, "INBOX cannot be deleted");
    status = sp_plan_keep_mailbox(plan, &mailbox);
    if (status == SP_OK)
        status = sp_plan_next_modseq(plan, &mailbox.account, &modseq);
    if (status)
        return status;
    struct sp_mailbox_record record = {.id = mailbox.row.id,
                                       .uidvalidity = mailbox.row.uidvalidity,
                                       .modseq = modseq,
                                       .special_use = mailbox.row.special_use,
                                       .path = mailbox.path};
    return emit_mailbox(plan, SP_RECORD_MAILBOX_DELETE, &mailbox.account, &record);
}

void sp_op_delete(struct sp_op *op)
{
    if (is_inbox(op->request->name))
        sp_op_finish(op, sp_op_refuse(op, SP_DENIED, "INBOX cannot be deleted"));
    else
        sp_op_submit(op, delete_plan, op->request->name.len);
}

/* ---- RENAME ---- */

struct renamed {
    uint32_t id, uidvalidity, special_use;
    struct sp_slice from, to;
};

struct rename {
    struct sp_name from, to;
    struct renamed *list; /* the mailbox and those below it */
    uint32_t count, capacity;
};

static bool is_below(struct sp_slice path, struct sp_slice parent)
{
    return path.len > parent.len && path.ptr[parent.len] == '/' &&
           sp_slice_eq(sp_slice_sub(path, 0, parent.len), parent);
}

static int by_from(const void *a, const void *b)
{
    return sp_slice_cmp(((const struct renamed *)a)->from, ((const struct renamed *)b)->from);
}

/* What is renamed, in order of the old names: then a name is always free when another mailbox comes
 * to it. */
static enum sp_status collect_renamed(struct sp_plan *plan, struct sp_op *op, struct rename *rename)
{
    struct sp_slice name = rename->from.path, new_name = rename->to.path;
    struct sp_read *read = sp_plan_read(plan);
    struct sp_arena *arena = sp_plan_arena(plan);
    struct sp_mailbox mailbox = {0};
    enum sp_status status;
    while ((status = sp_index_next_mailbox(read, &rename->from.account, &mailbox)) == SP_OK) {
        uint32_t rights;
        if (!sp_slice_eq(mailbox.path, name) && !is_below(mailbox.path, name))
            continue;
        status =
            sp_rights_of(read, &mailbox.account, mailbox.row.id, &op->request->account, &rights);
        if (status)
            return status;
        if (!(rights & SP_RIGHT_REMOVE))
            return sp_op_refuse(op, SP_DENIED, "you do not have the right to rename what is below");
        if (mailbox.row.protected_)
            return sp_op_refuse(op, SP_UNAVAILABLE, sp_why_protected);
        size_t rest = mailbox.path.len - name.len, len = new_name.len + rest;
        rename->list = sp_arena_grow(arena, rename->list, rename->count, &rename->capacity,
                                     sizeof *rename->list);
        uint8_t *to = rename->list ? sp_arena_alloc(arena, len) : NULL;
        struct sp_slice from = sp_arena_copy(arena, mailbox.path);
        if (!to || !from.ptr)
            return SP_NO_MEMORY;
        memcpy(to, new_name.ptr, new_name.len);
        if (rest)
            memcpy(to + new_name.len, mailbox.path.ptr + name.len, rest);
        if (!sp_mailbox_path_ok(sp_slice(to, len)))
            return sp_op_refuse(op, SP_INVALID,
                                "a name below the new one would be too long or too deep");
        rename->list[rename->count++] =
            (struct renamed){mailbox.row.id, mailbox.row.uidvalidity, mailbox.row.special_use, from,
                             sp_slice(to, len)};
    }
    if (status != SP_EOF)
        return status;
    if (!rename->count)
        return say_why(op, SP_NOT_FOUND);
    qsort(rename->list, rename->count, sizeof *rename->list, by_from);
    return SP_OK;
}

/* None of the new names may be taken, except by what is renamed too. */
static enum sp_status check_targets(struct sp_plan *plan, struct sp_op *op,
                                    const struct rename *rename)
{
    for (uint32_t i = 0; i < rename->count; i++) {
        struct sp_mailbox there;
        struct renamed key = {.from = rename->list[i].to};
        enum sp_status status = sp_index_mailbox_by_path(sp_plan_read(plan), &rename->to.account,
                                                         rename->list[i].to, &there);
        if (status == SP_OK && !bsearch(&key, rename->list, rename->count, sizeof key, by_from))
            return say_why(op, SP_EXISTS);
        if (status && status != SP_NOT_FOUND)
            return status;
    }
    return SP_OK;
}

/* Where from and where to, and whether the account may. */
static enum sp_status check_rename(struct sp_plan *plan, struct sp_op *op, struct rename *rename)
{
    struct sp_read *read = sp_plan_read(plan);
    struct sp_mailbox mailbox;
    enum sp_status status = sp_op_locate(op, read, op->request->name, &rename->from);
    if (status == SP_OK)
        status = sp_op_locate(op, read, op->request->new_name, &rename->to);
    if (status)
        return status;
    if (!rename->to.other && sp_is_other_users(rename->to.path))
        return check_new_own(op, rename->to.path);
    if (!sp_uuid_eq(&rename->from.account, &rename->to.account))
        return sp_op_refuse(op, SP_INVALID, "a mailbox cannot become another account's");
    if (is_inbox(rename->from.path) || is_inbox(rename->to.path)) /* by its long name */
        return sp_op_refuse(op, SP_DENIED, "the INBOX of others cannot be renamed");
    if (!rename->from.other)
        return SP_OK;
    status = sp_op_named_mailbox(op, read, op->request->name, SP_RIGHT_REMOVE, &mailbox);
    return status ? status : sp_op_may_create(op, read, &rename->to);
}

static enum sp_status rename_plan(struct sp_plan *plan, struct sp_op *op)
{
    struct rename rename = {0};
    const struct sp_uuid *id = &rename.from.account;
    struct sp_account account;
    enum sp_status status = check_rename(plan, op, &rename);
    if (status == SP_OK)
        status = sp_index_account(sp_plan_read(plan), id, &account);
    if (status)
        return status;
    if (account.row.protected_)
        return say_why(op, SP_UNAVAILABLE);
    status = collect_renamed(plan, op, &rename);
    if (status == SP_OK)
        status = check_targets(plan, op, &rename);
    if (status)
        return status;

    status = create_parents(plan, &account, rename.to.path, 0);
    if (status == SP_LIMIT)
        return say_why(op, status);
    for (uint32_t i = 0; status == SP_OK && i < rename.count; i++) {
        const struct renamed *renamed = &rename.list[i];
        struct sp_mailbox_record record = {.id = renamed->id,
                                           .uidvalidity = renamed->uidvalidity,
                                           .special_use = renamed->special_use,
                                           .path = renamed->to,
                                           .old_path = renamed->from};
        status = sp_plan_next_modseq(plan, id, &record.modseq);
        if (status == SP_OK)
            status = emit_mailbox(plan, SP_RECORD_MAILBOX_RENAME, id, &record);
    }
    return status;
}

/* INBOX stays; its messages go. */
static enum sp_status rename_inbox_plan(struct sp_plan *plan, struct sp_op *op)
{
    const struct sp_request *request = op->request;
    struct sp_uid_range all = {1, UINT32_MAX};
    struct sp_mailbox inbox, target, there;
    struct sp_copy copy = {.ranges = {&all, 1}, .move = true};
    enum sp_status status =
        sp_op_named_mailbox(op, sp_plan_read(plan), request->name, SP_RIGHTS_ALL, &inbox);
    if (status == SP_OK)
        status = check_new_own(op, request->new_name);
    if (status)
        return status;
    if (inbox.row.protected_)
        return sp_op_refuse(op, SP_UNAVAILABLE, sp_why_protected);
    status =
        sp_index_mailbox_by_path(sp_plan_read(plan), &request->account, request->new_name, &there);
    if (status != SP_NOT_FOUND)
        return status ? status : say_why(op, SP_EXISTS);
    status = sp_plan_keep_mailbox(plan, &inbox);
    if (status == SP_OK)
        status = sp_copy_collect(plan, op, &inbox, &copy);
    if (status)
        return status;
    status = sp_plan_create_path(plan, &request->account, request->new_name, 0, &target);
    if (status)
        return say_why(op, status);
    return sp_copy_emit(plan, op, &inbox, &target, &copy);
}

void sp_op_rename(struct sp_op *op)
{
    const struct sp_request *request = op->request;
    if (!sp_mailbox_path_ok(request->new_name))
        sp_op_finish(op, sp_op_refuse(op, SP_INVALID, "that is no name for a mailbox"));
    else if (sp_slice_eq(request->name, request->new_name) || is_inbox(request->new_name))
        sp_op_finish(op, say_why(op, SP_EXISTS));
    else if (!is_inbox(request->name) && is_below(request->new_name, request->name))
        sp_op_finish(op, sp_op_refuse(op, SP_INVALID, "a mailbox cannot be put into itself"));
    else
        sp_op_submit(op, is_inbox(request->name) ? rename_inbox_plan : rename_plan,
                     request->name.len + request->new_name.len);
}

/* ---- SUBSCRIBE ---- */

static enum sp_status subscribe_plan(struct sp_plan *plan, struct sp_op *op)
{
    const struct sp_request *request = op->request;
    struct sp_account account;
    struct sp_slice path = {NULL, 0};
    uint32_t count = 0;
    bool known = false;
    enum sp_status status = sp_index_account(sp_plan_read(plan), &request->account, &account);
    while (status == SP_OK) {
        status = sp_index_next_subscription(sp_plan_read(plan), &request->account, &path);
        known = known || (status == SP_OK && sp_slice_eq(path, request->name));
        count += status == SP_OK;
    }
    if (status != SP_EOF)
        return status;
    if (known == request->manage.subscribe)
        return SP_OK;
    if (request->manage.subscribe && count >= SP_MAILBOXES_MAX)
        return sp_op_refuse(op, SP_LIMIT, "there are too many subscriptions");
    uint64_t lsn;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_subscribe_write(&(struct sp_subscribe){request->manage.subscribe, request->name}, buf);
    return sp_buf_failed(buf) ? SP_NO_MEMORY
                              : sp_plan_emit(plan, SP_RECORD_SUBSCRIBE, &request->account, 0,
                                             sp_buf_slice(buf), &lsn);
}

void sp_op_subscribe(struct sp_op *op)
{
    if (!sp_mailbox_path_ok(op->request->name))
        sp_op_finish(op, sp_op_refuse(op, SP_INVALID, "that is no name for a mailbox"));
    else
        sp_op_submit(op, subscribe_plan, op->request->name.len);
}
