/* What a record of another history comes to in this one. See merge.h.
 *
 * Identifiers do not collide: at the place of parting this history's counters leapt (UIDs by 2^20,
 * mailbox numbers and UIDVALIDITYs by 65536, MODSEQs by 2^40), and the other's did not. So a
 * mailbox keeps its number and its UIDVALIDITY. A message keeps its UID where nobody can have
 * looked since (the mailbox is protected for that reason); elsewhere a client that has seen higher
 * UIDs would miss it, and it gets a new one. A merged message that got another UID says in its
 * origin_id which it had, so that later flags and expunges find it, after a restart as well.
 *
 * Where both histories changed the same thing nothing is thrown away, and it is logged:
 *
 *   a name (of an account, a mailbox) that is taken here     gets a suffix
 *   a mailbox or an account that was removed there, and got  stays
 *   something here since
 *   a message for a mailbox that was removed here            goes to one of that name, made anew
 *   a password, a name, rights that were changed here since  stay as they are here
 *   flags of messages of a mailbox that is open here         are added, \Deleted is not
 *   anything of an account that was removed here             is passed over
 */
#include "store/merge.h"

#include "base/endian.h"
#include "base/grow.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LEAD       (UINT32_C(1) << 20)
#define SUFFIXES   100
#define PATH_MOST  900U
#define BODY_BYTES (4U << 20) /* of bodies in one plan, before the rest waits for the next */
#define ID_BYTES   16U
#define DELETED    0x08U

static void conflict(struct sp_merge *m, const struct sp_record *r, const char *what)
{
    char account[SP_UUID_TEXT];
    sp_uuid_text(&r->account, account);
    m->conflicts++;
    sp_log(SP_LOG_WARN, "merge.conflict",
           "volume=%s lsn=%" PRIu64 " type=%s account=%s mailbox=%" PRIu32 " what=\"%s\"",
           m->volume->name, r->lsn, sp_record_type_name(r->type), account, r->mailbox, what);
}

static enum sp_status emit(struct sp_merge *m, struct sp_plan *plan, enum sp_record_type type,
                           const struct sp_uuid *account, uint32_t mailbox, struct sp_buf *buf,
                           uint64_t *ret_lsn)
{
    if (sp_buf_failed(buf))
        return SP_NO_MEMORY;
    m->emitted += buf->len + SP_RECORD_HEADER_BYTES;
    return sp_plan_emit(plan, type, account, mailbox, sp_buf_slice(buf), ret_lsn);
}

/* Slices of the index die when something is written. */
static bool keep(struct sp_plan *plan, struct sp_slice *slice)
{
    struct sp_slice copy = sp_arena_copy(sp_plan_arena(plan), *slice);
    bool good = copy.ptr || slice->len == 0;
    *slice = copy;
    return good;
}

static enum sp_status find_account(struct sp_plan *plan, const struct sp_uuid *id,
                                   struct sp_account *ret)
{
    enum sp_status status = sp_index_account(sp_plan_read(plan), id, ret);
    if (status == SP_OK && (!keep(plan, &ret->address) || !keep(plan, &ret->credential)))
        return SP_NO_MEMORY;
    return status;
}

static enum sp_status find_mailbox(struct sp_plan *plan, const struct sp_uuid *account, uint32_t id,
                                   struct sp_mailbox *ret)
{
    enum sp_status status = sp_index_mailbox(sp_plan_read(plan), account, id, ret);
    ret->keywords[0] = (struct sp_slice){0}; /* not looked at */
    return status == SP_OK && !keep(plan, &ret->path) ? SP_NO_MEMORY : status;
}

static enum sp_status find_path(struct sp_plan *plan, const struct sp_uuid *account,
                                struct sp_slice path, struct sp_mailbox *ret)
{
    enum sp_status status = sp_index_mailbox_by_path(sp_plan_read(plan), account, path, ret);
    return status == SP_OK && !keep(plan, &ret->path) ? SP_NO_MEMORY : status;
}

static uint64_t next_modseq(const struct sp_account *account, uint64_t there)
{
    return account->row.modseq + 1 > there ? account->row.modseq + 1 : there;
}

/* Something came to it here since the histories parted, or may have; or it is of this one alone. */
static bool has_news(const struct sp_mailbox *mailbox)
{
    return mailbox->row.uidnext != mailbox->row.left_uidnext;
}

/* ---- Names ---- */

/* A name like this one that no mailbox has. */
static enum sp_status free_path(struct sp_plan *plan, const struct sp_uuid *account,
                                struct sp_slice *path)
{
    struct sp_mailbox there;
    struct sp_slice base = *path;
    enum sp_status status = find_path(plan, account, *path, &there);
    while (base.len > PATH_MOST ||
           (base.len && base.len < path->len && (base.ptr[base.len] & 0xc0) == 0x80))
        base.len--; /* between characters */
    for (int i = 1; status == SP_OK && i <= SUFFIXES; i++) {
        char suffix[40];
        snprintf(suffix, sizeof suffix, i == 1 ? " (recovered)" : " (recovered %d)", i);
        size_t len = strlen(suffix);
        uint8_t *name = sp_arena_alloc(sp_plan_arena(plan), base.len + len);
        if (!name)
            return SP_NO_MEMORY;
        memcpy(name, base.ptr, base.len);
        memcpy(name + base.len, suffix, len);
        *path = sp_slice(name, base.len + len);
        status = find_path(plan, account, *path, &there);
    }
    return status == SP_NOT_FOUND ? SP_OK : status == SP_OK ? SP_EXISTS : status;
}

static enum sp_status free_address(struct sp_plan *plan, struct sp_slice *address)
{
    struct sp_uuid there;
    struct sp_slice whole = *address;
    size_t at = 0;
    enum sp_status status = sp_index_address(sp_plan_read(plan), whole, &there);
    while (at < whole.len && whole.ptr[at] != '@')
        at++;
    for (int i = 1; status == SP_OK && i <= SUFFIXES; i++) {
        char *name = sp_arena_alloc(sp_plan_arena(plan), whole.len + 20);
        if (!name)
            return SP_NO_MEMORY;
        int len =
            snprintf(name, whole.len + 20, "%.*s.recovered%d%.*s", (int)at, (const char *)whole.ptr,
                     i, (int)(whole.len - at), (const char *)whole.ptr + at);
        *address = sp_slice((const uint8_t *)name, (size_t)len);
        status = sp_index_address(sp_plan_read(plan), *address, &there);
    }
    return status == SP_NOT_FOUND ? SP_OK : status == SP_OK ? SP_EXISTS : status;
}

/* ---- Accounts, domains ---- */

static enum sp_status merge_account(struct sp_merge *m, struct sp_plan *plan,
                                    const struct sp_record *r)
{
    struct sp_account_record a;
    struct sp_account account;
    enum sp_status status = sp_account_record_read(r->payload, &a);
    if (status != SP_OK)
        return status;
    status = find_account(plan, &a.id, &account);
    if (status != SP_NOT_FOUND)
        return status; /* it is older than the parting */
    struct sp_slice address = a.address;
    status = free_address(plan, &address);
    if (status != SP_OK)
        return status;
    if (!sp_slice_eq(address, a.address))
        conflict(m, r, "the address is taken, so the account got another");
    a.address = address;
    a.merged = (m->volume->apply.position.list_protected & SP_PROTECTED_LEFT) != 0;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_account_record_write(&a, buf);
    return emit(m, plan, SP_RECORD_ACCOUNT, NULL, 0, buf, NULL);
}

static enum sp_status merge_account_remove(struct sp_merge *m, struct sp_plan *plan,
                                           const struct sp_record *r)
{
    struct sp_account_record a;
    struct sp_account account;
    enum sp_status status = sp_account_record_read(r->payload, &a);
    if (status == SP_OK)
        status = find_account(plan, &a.id, &account);
    struct sp_mailbox mailbox = {.account = a.id};
    while (status == SP_OK) {
        status = sp_index_next_mailbox(sp_plan_read(plan), &a.id, &mailbox);
        if (status == SP_OK && has_news(&mailbox)) {
            conflict(m, r, "the account was removed there, and is used here: it stays");
            return SP_OK;
        }
    }
    if (status != SP_EOF)
        return status;
    a.address = account.address;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_account_record_write(&a, buf);
    return emit(m, plan, SP_RECORD_ACCOUNT_REMOVE, NULL, 0, buf, NULL);
}

static enum sp_status merge_domain(struct sp_merge *m, struct sp_plan *plan,
                                   const struct sp_record *r)
{
    struct sp_domain_record domain;
    enum sp_status status = sp_domain_record_read(r->payload, &domain);
    if (status == SP_OK)
        status = sp_index_domain(sp_plan_read(plan), domain.name);
    if (status != SP_NOT_FOUND)
        return status;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_domain_record_write(&domain, buf);
    return emit(m, plan, SP_RECORD_DOMAIN, NULL, 0, buf, NULL);
}

/* ---- An account's own chain ---- */

static struct sp_merge_credential *credential_of(struct sp_merge *m, const struct sp_uuid *account)
{
    for (size_t i = 0; i < m->credentials_count; i++)
        if (sp_uuid_eq(&m->credentials[i].account, account))
            return &m->credentials[i];
    return NULL;
}

static enum sp_status note_credential(struct sp_merge *m, const struct sp_record *r)
{
    struct sp_merge_credential *known = credential_of(m, &r->account);
    if (!known) {
        if (!sp_grow(&m->credentials, m->credentials_count, &m->credentials_capacity,
                     sizeof *m->credentials))
            return SP_NO_MEMORY;
        known = &m->credentials[m->credentials_count++];
        known->account = r->account;
    }
    sp_digest(r->payload, &known->digest);
    return SP_OK;
}

static enum sp_status merge_credential(struct sp_merge *m, struct sp_plan *plan,
                                       const struct sp_record *r, const struct sp_account *account)
{
    const struct sp_merge_credential *known = credential_of(m, &r->account);
    struct sp_digest here;
    sp_digest(account->credential, &here);
    if (account->row.credential_lsn > m->history.left.gap_lsn &&
        !(known && memcmp(&known->digest, &here, sizeof here) == 0)) {
        conflict(m, r, "the password was changed here since: it stays");
        return SP_OK;
    }
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_buf_add(buf, r->payload);
    enum sp_status status = emit(m, plan, SP_RECORD_CREDENTIAL, &r->account, 0, buf, NULL);
    return status == SP_OK ? note_credential(m, r) : status;
}

static enum sp_status make_mailbox(struct sp_merge *m, struct sp_plan *plan,
                                   const struct sp_account *account, struct sp_mailbox_record *box)
{
    struct sp_buf *buf = sp_plan_buf(plan);
    box->modseq = next_modseq(account, box->modseq);
    box->old_path = (struct sp_slice){0};
    box->lead = account->row.protected_ & SP_PROTECTED_LEFT ? LEAD : 0;
    sp_mailbox_record_write(box, buf);
    return emit(m, plan, SP_RECORD_MAILBOX, &account->id, 0, buf, NULL);
}

static enum sp_status merge_mailbox(struct sp_merge *m, struct sp_plan *plan,
                                    const struct sp_record *r, const struct sp_account *account)
{
    struct sp_mailbox_record box;
    struct sp_mailbox mailbox;
    enum sp_status status = sp_mailbox_record_read(r->payload, &box);
    if (status != SP_OK)
        return status;
    status = find_mailbox(plan, &account->id, box.id, &mailbox);
    if (status != SP_OK && status != SP_NOT_FOUND)
        return status;
    if (status == SP_NOT_FOUND && r->type != SP_RECORD_MAILBOX) {
        conflict(m, r, "the mailbox was removed here");
        return SP_OK;
    }
    if (status == SP_OK && r->type == SP_RECORD_MAILBOX)
        return SP_OK;
    struct sp_slice path = box.path;
    struct sp_buf *buf;
    switch (r->type) {
    case SP_RECORD_MAILBOX:
        status = free_path(plan, &account->id, &path);
        if (status != SP_OK)
            return status;
        if (!sp_slice_eq(path, box.path))
            conflict(m, r, "the name is taken, so the mailbox got another");
        box.path = path;
        return make_mailbox(m, plan, account, &box);
    case SP_RECORD_MAILBOX_RENAME:
        if (sp_slice_eq(mailbox.path, box.path))
            return SP_OK;
        if (!sp_slice_eq(mailbox.path, box.old_path)) {
            conflict(m, r, "the mailbox has another name here: it stays");
            return SP_OK;
        }
        status = free_path(plan, &account->id, &path);
        if (status != SP_OK)
            return status;
        if (!sp_slice_eq(path, box.path))
            conflict(m, r, "the new name is taken, so the mailbox got another");
        box.old_path = mailbox.path;
        break;
    default:
        if (has_news(&mailbox) || !(mailbox.row.protected_ & SP_PROTECTED_LEFT)) {
            conflict(m, r, "the mailbox was removed there, and is used here: it stays");
            return SP_OK;
        }
        path = mailbox.path;
        break;
    }
    box.path = path;
    box.modseq = next_modseq(account, box.modseq);
    box.lead = 0;
    buf = sp_plan_buf(plan);
    sp_mailbox_record_write(&box, buf);
    return emit(m, plan, r->type, &account->id, 0, buf, NULL);
}

static enum sp_status merge_as_it_is(struct sp_merge *m, struct sp_plan *plan,
                                     const struct sp_record *r)
{
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_buf_add(buf, r->payload);
    return emit(m, plan, r->type, &r->account, r->mailbox, buf, NULL);
}

static enum sp_status merge_acl(struct sp_merge *m, struct sp_plan *plan, const struct sp_record *r)
{
    struct sp_acl_record acl;
    struct sp_acl_row row;
    struct sp_mailbox mailbox;
    enum sp_status status = sp_acl_record_read(r->payload, &acl);
    if (status == SP_OK)
        status = find_mailbox(plan, &r->account, acl.mailbox, &mailbox);
    if (status == SP_NOT_FOUND) {
        conflict(m, r, "the mailbox was removed here");
        return SP_OK;
    }
    if (status != SP_OK)
        return status;
    status = sp_index_acl(sp_plan_read(plan), &r->account, acl.mailbox, &acl.grantee, acl.negative,
                          &row);
    if (status == SP_OK && row.lsn > m->history.left.gap_lsn && !row.merged) {
        conflict(m, r, "the rights were changed here since: they stay");
        return SP_OK;
    }
    if (status != SP_OK && status != SP_NOT_FOUND)
        return status;
    struct sp_buf *buf = sp_plan_buf(plan);
    acl.merged = true;
    sp_acl_record_write(&acl, buf);
    return emit(m, plan, r->type, &r->account, 0, buf, NULL);
}

/* ---- Messages ---- */

static struct sp_merge_body *body_of(struct sp_merge *m, uint64_t lsn)
{
    size_t low = 0, high = m->bodies_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (m->bodies[middle].lsn < lsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low < m->bodies_count && m->bodies[low].lsn == lsn ? &m->bodies[low] : NULL;
}

/* Copies the bodies that are not here yet, and names them as they are here. */
static enum sp_status merge_bodies(struct sp_merge *m, struct sp_plan *plan,
                                   struct sp_message *message, bool *ret_again)
{
    uint64_t copied = 0;
    for (uint32_t i = 0; i < message->bodies.count; i++) {
        uint64_t *lsn = &message->bodies.ptr[i];
        if (*lsn <= m->history.parting_lsn)
            continue; /* it is older than the parting, and has one name in both */
        struct sp_merge_body *body = body_of(m, *lsn);
        if (!body)
            continue; /* it is lost there too */
        if (!body->new_lsn) {
            if (copied > BODY_BYTES) {
                *ret_again = true;
                return SP_OK;
            }
            enum sp_status status = sp_left_payload(m->volume, &m->history.segments[body->segment],
                                                    body->block, body->offset, &m->body);
            if (status == SP_NO_MEMORY)
                return status;
            if (status != SP_OK)
                continue;
            struct sp_record there;
            uint32_t crc;
            struct sp_slice all = sp_buf_slice(&m->body);
            status = sp_record_read_header(all.ptr, &there, &crc);
            if (status != SP_OK)
                return status;
            struct sp_slice payload =
                sp_slice(all.ptr + SP_RECORD_HEADER_BYTES, there.payload_bytes);
            status = sp_plan_emit(plan, there.type, NULL, 0, payload, &body->new_lsn);
            if (status != SP_OK)
                return status;
            copied += payload.len;
            m->emitted += payload.len;
        }
        *lsn = body->new_lsn;
    }
    return SP_OK;
}

static bool note_uid(struct sp_merge *m, struct sp_merge_uid uid)
{
    if (!sp_grow(&m->uids, m->uids_count, &m->uids_capacity, sizeof *m->uids))
        return false;
    m->uids[m->uids_count++] = uid;
    return true;
}

/* The mailbox for a message whose own was removed here. */
static enum sp_status mailbox_anew(struct sp_merge *m, struct sp_plan *plan,
                                   const struct sp_record *r, struct sp_account *account,
                                   struct sp_slice path, struct sp_mailbox *ret)
{
    enum sp_status status = find_path(plan, &account->id, path, ret);
    if (status != SP_NOT_FOUND)
        return status;
    conflict(m, r, "the mailbox was removed here: it is made anew for a message");
    struct sp_mailbox_record box = {.id = account->row.mailbox_next,
                                    .uidvalidity = account->row.uidvalidity_next,
                                    .path = path};
    status = make_mailbox(m, plan, account, &box);
    if (status == SP_OK)
        status = find_account(plan, &r->account, account);
    return status == SP_OK ? find_mailbox(plan, &account->id, box.id, ret) : status;
}

static enum sp_status uid_is_free(struct sp_plan *plan, const struct sp_mailbox *mailbox,
                                  uint32_t uid, bool *ret_free)
{
    struct sp_slice payload;
    uint64_t lsn, time_ns;
    *ret_free = false;
    if (!(mailbox->row.protected_ & SP_PROTECTED_LEFT) || uid >= mailbox->row.left_uidnext)
        return SP_OK;
    enum sp_status status = sp_index_message(sp_plan_read(plan), &mailbox->account, mailbox->row.id,
                                             uid, &payload, &lsn, &time_ns);
    *ret_free = status == SP_NOT_FOUND;
    return status == SP_NOT_FOUND ? SP_OK : status;
}

static enum sp_status merge_message(struct sp_merge *m, struct sp_plan *plan,
                                    const struct sp_record *r, struct sp_account *account,
                                    bool *ret_again)
{
    struct sp_message message;
    struct sp_mailbox mailbox;
    uint8_t id[ID_BYTES];
    bool kept = false;
    enum sp_status status = sp_message_read(r->payload, sp_plan_arena(plan), &message);
    if (status == SP_OK)
        status = merge_bodies(m, plan, &message, ret_again);
    if (status != SP_OK || *ret_again)
        return status;
    status = find_mailbox(plan, &account->id, r->mailbox, &mailbox);
    if (status == SP_NOT_FOUND)
        status = mailbox_anew(m, plan, r, account, message.path, &mailbox);
    else if (status == SP_OK)
        status = uid_is_free(plan, &mailbox, message.uid, &kept);
    if (status != SP_OK)
        return status;
    message.origin = SP_ORIGIN_MERGE;
    message.origin_id = (struct sp_slice){0};
    if (!kept) {
        if (mailbox.row.uidnext == UINT32_MAX) {
            conflict(m, r, "the mailbox has given out all its UIDs: a message is passed over");
            return SP_OK;
        }
        if (!note_uid(m, (struct sp_merge_uid){account->id, r->mailbox, message.uid, mailbox.row.id,
                                               mailbox.row.uidnext}))
            return SP_NO_MEMORY;
        sp_put_u64(id, m->history.left.gap_lsn);
        sp_put_u32(id + 8, r->mailbox);
        sp_put_u32(id + 12, message.uid);
        message.origin_id = sp_slice(id, sizeof id);
        message.uid = mailbox.row.uidnext;
    }
    message.uidvalidity = mailbox.row.uidvalidity;
    message.modseq = next_modseq(account, message.modseq);
    message.address = account->address;
    message.path = mailbox.path;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_message_write(&message, buf);
    m->messages++;
    return emit(m, plan, SP_RECORD_MESSAGE, &account->id, mailbox.row.id, buf, NULL);
}

/* ---- Flags and expunges ---- */

/* Messages that got other UIDs before this was begun say so themselves. */
static enum sp_status scan_uids(struct sp_merge *m, struct sp_plan *plan,
                                const struct sp_uuid *account)
{
    struct sp_mailbox mailbox = {.account = *account};
    struct sp_arena arena;
    enum sp_status status;
    if (m->from.merged_lsn == 0)
        return SP_OK; /* it was begun at the beginning */
    for (size_t i = 0; i < m->scanned_count; i++)
        if (sp_uuid_eq(&m->scanned[i], account))
            return SP_OK;
    if (!sp_grow(&m->scanned, m->scanned_count, &m->scanned_capacity, sizeof *m->scanned))
        return SP_NO_MEMORY;
    m->scanned[m->scanned_count++] = *account;
    sp_arena_init(&arena, 1U << 20);
    while ((status = sp_index_next_mailbox(sp_plan_read(plan), account, &mailbox)) == SP_OK) {
        struct sp_flag_cursor cursor;
        struct sp_flag_row row;
        status = sp_flag_cursor_open(sp_plan_read(plan), account, mailbox.row.id, 1, 0, &cursor);
        while (status == SP_OK && (status = sp_flag_cursor_next(&cursor, &row)) == SP_OK) {
            struct sp_message message;
            struct sp_slice payload;
            uint64_t lsn, time_ns;
            status = sp_index_message(sp_plan_read(plan), account, mailbox.row.id, row.uid,
                                      &payload, &lsn, &time_ns);
            if (status == SP_OK && lsn < m->history.left.gap_lsn)
                continue;
            if (status == SP_OK)
                status = sp_message_read(payload, &arena, &message);
            if (status != SP_OK)
                break;
            bool known = false;
            if (message.origin == SP_ORIGIN_MERGE && message.origin_id.len == ID_BYTES &&
                sp_get_u64(message.origin_id.ptr) == m->history.left.gap_lsn) {
                struct sp_merge_uid uid = {*account, sp_get_u32(message.origin_id.ptr + 8),
                                           sp_get_u32(message.origin_id.ptr + 12), mailbox.row.id,
                                           row.uid};
                for (size_t i = 0; i < m->uids_count && !known; i++)
                    known = memcmp(&m->uids[i], &uid, sizeof uid) == 0;
                if (!known && !note_uid(m, uid))
                    status = SP_NO_MEMORY;
            }
            sp_arena_release(&arena);
            if (status != SP_OK)
                break;
        }
        sp_flag_cursor_close(&cursor);
        if (status != SP_EOF)
            break;
    }
    sp_arena_release(&arena);
    return status == SP_EOF ? SP_OK : status;
}

static bool has_uid(struct sp_span_list spans, uint32_t uid)
{
    for (uint32_t i = 0; i < spans.count; i++)
        if (spans.ptr[i].first <= uid && uid <= spans.ptr[i].last)
            return true;
    return false;
}

struct target {
    uint32_t mailbox;
    struct sp_span_list uids;
    bool own; /* under their own UIDs: they are older than the parting, or kept them */
};

/* Room for one more in an array of the plan's arena; NULL without memory. */
static void *grow(struct sp_plan *plan, void *list, uint32_t count, uint32_t *capacity,
                  size_t item_bytes)
{
    if (count < *capacity)
        return list;
    uint32_t wanted = *capacity ? *capacity * 2 : 16;
    void *grown = sp_arena_array(sp_plan_arena(plan), wanted, item_bytes);
    if (grown && count)
        memcpy(grown, list, count * item_bytes);
    *capacity = wanted;
    return grown;
}

static bool add_uid(struct sp_plan *plan, struct sp_span_list *list, uint32_t *capacity,
                    uint32_t uid)
{
    if (list->count && list->ptr[list->count - 1].last + 1 == uid) {
        list->ptr[list->count - 1].last = uid;
        return true;
    }
    list->ptr = grow(plan, list->ptr, list->count, capacity, sizeof *list->ptr);
    if (!list->ptr)
        return false;
    list->ptr[list->count++] = (struct sp_span){uid, uid};
    return true;
}

/* Those of the mailbox that are here, under the UIDs that they had there. */
static enum sp_status own_uids(struct sp_plan *plan, const struct sp_mailbox *mailbox,
                               struct sp_span_list spans, struct sp_span_list *ret)
{
    uint32_t capacity = 0;
    *ret = (struct sp_span_list){0};
    for (uint32_t i = 0; i < spans.count && spans.ptr[i].first < mailbox->row.left_uidnext; i++) {
        struct sp_flag_cursor cursor;
        struct sp_flag_row row;
        enum sp_status status =
            sp_flag_cursor_open(sp_plan_read(plan), &mailbox->account, mailbox->row.id,
                                (uint32_t)spans.ptr[i].first, 0, &cursor);
        if (status != SP_OK)
            return status;
        while ((status = sp_flag_cursor_next(&cursor, &row)) == SP_OK &&
               row.uid <= spans.ptr[i].last && row.uid < mailbox->row.left_uidnext)
            if (!add_uid(plan, ret, &capacity, row.uid)) {
                status = SP_NO_MEMORY;
                break;
            }
        sp_flag_cursor_close(&cursor);
        if (status != SP_OK && status != SP_EOF)
            return status;
    }
    return SP_OK;
}

static int by_uid(const void *a, const void *b)
{
    const uint32_t *left = a, *right = b;
    return (*left > *right) - (*left < *right);
}

/* Those that got other UIDs, which are all in one mailbox. */
static enum sp_status other_uids(struct sp_merge *m, struct sp_plan *plan,
                                 const struct sp_record *r, struct sp_span_list spans,
                                 struct target *ret)
{
    uint32_t *uids = NULL, count = 0, uids_capacity = 0, capacity = 0;
    enum sp_status status = scan_uids(m, plan, &r->account);
    *ret = (struct target){0};
    for (size_t i = 0; i < m->uids_count && status == SP_OK; i++) {
        const struct sp_merge_uid *uid = &m->uids[i];
        if (uid->old_mailbox != r->mailbox || !sp_uuid_eq(&uid->account, &r->account) ||
            !has_uid(spans, uid->old_uid))
            continue;
        ret->mailbox = uid->mailbox;
        uids = grow(plan, uids, count, &uids_capacity, sizeof *uids);
        if (!uids)
            return SP_NO_MEMORY;
        uids[count++] = uid->uid;
    }
    if (count)
        qsort(uids, count, sizeof *uids, by_uid);
    for (uint32_t i = 0; i < count && status == SP_OK; i++)
        if ((i == 0 || uids[i] != uids[i - 1]) && !add_uid(plan, &ret->uids, &capacity, uids[i]))
            status = SP_NO_MEMORY;
    return status;
}

static enum sp_status change_target(struct sp_merge *m, struct sp_plan *plan,
                                    const struct sp_record *r, struct sp_flags_change *change,
                                    const struct target *target)
{
    struct sp_account account;
    struct sp_mailbox mailbox;
    if (target->uids.count == 0)
        return SP_OK;
    enum sp_status status = find_account(plan, &r->account, &account);
    if (status == SP_OK)
        status = find_mailbox(plan, &r->account, target->mailbox, &mailbox);
    if (status == SP_NOT_FOUND)
        return SP_OK; /* it was deleted here after it was merged */
    if (status != SP_OK)
        return status;
    struct sp_buf *buf;
    uint64_t modseq = next_modseq(&account, change->modseq);
    if (r->type == SP_RECORD_EXPUNGE) {
        buf = sp_plan_buf(plan);
        sp_expunge_write(&(struct sp_expunge){.modseq = modseq, .uids = target->uids}, buf);
    } else {
        struct sp_flags_change here = *change;
        if (target->own && !(mailbox.row.protected_ & SP_PROTECTED_LEFT)) {
            if (change->op == SP_FLAGS_REMOVE)
                return SP_OK;
            here.op = SP_FLAGS_ADD;
            here.system_flags &= ~DELETED;
        }
        here.modseq = modseq;
        here.uids = target->uids;
        buf = sp_plan_buf(plan);
        sp_flags_change_write(&here, buf);
    }
    return emit(m, plan, r->type, &r->account, target->mailbox, buf, NULL);
}

static enum sp_status merge_change(struct sp_merge *m, struct sp_plan *plan,
                                   const struct sp_record *r)
{
    struct sp_flags_change change = {0};
    struct sp_expunge expunge;
    struct sp_mailbox mailbox;
    struct target own = {.mailbox = r->mailbox, .own = true}, other = {0};
    enum sp_status status;
    if (r->type == SP_RECORD_EXPUNGE) {
        status = sp_expunge_read(r->payload, sp_plan_arena(plan), &expunge);
        if (status == SP_OK) {
            change.modseq = expunge.modseq;
            change.uids = expunge.uids;
        }
    } else {
        status = sp_flags_change_read(r->payload, sp_plan_arena(plan), &change);
    }
    if (status == SP_OK)
        status = find_mailbox(plan, &r->account, r->mailbox, &mailbox);
    if (status == SP_OK)
        status = own_uids(plan, &mailbox, change.uids, &own.uids);
    if (status == SP_OK || status == SP_NOT_FOUND)
        status = other_uids(m, plan, r, change.uids, &other);
    if (status == SP_OK)
        status = change_target(m, plan, r, &change, &own);
    return status == SP_OK ? change_target(m, plan, r, &change, &other) : status;
}

/* ---- All of them ---- */

static enum sp_status merge_of_account(struct sp_merge *m, struct sp_plan *plan,
                                       const struct sp_record *r, bool *ret_again)
{
    struct sp_account account;
    enum sp_status status = find_account(plan, &r->account, &account);
    if (status == SP_NOT_FOUND) {
        conflict(m, r, "the account was removed here");
        return SP_OK;
    }
    if (status != SP_OK)
        return status;
    switch (r->type) {
    case SP_RECORD_MESSAGE:
        return merge_message(m, plan, r, &account, ret_again);
    case SP_RECORD_FLAGS:
    case SP_RECORD_EXPUNGE:
        return merge_change(m, plan, r);
    case SP_RECORD_CREDENTIAL:
        return merge_credential(m, plan, r, &account);
    case SP_RECORD_SUBSCRIBE:
        return merge_as_it_is(m, plan, r);
    case SP_RECORD_ACL:
        return merge_acl(m, plan, r);
    default:
        return merge_mailbox(m, plan, r, &account);
    }
}

enum sp_status sp_merge_apply(struct sp_merge *m, struct sp_plan *plan, const struct sp_record *r,
                              bool *ret_again)
{
    enum sp_status status;
    switch (r->type) {
    case SP_RECORD_MESSAGE:
    case SP_RECORD_FLAGS:
    case SP_RECORD_EXPUNGE:
    case SP_RECORD_CREDENTIAL:
    case SP_RECORD_SUBSCRIBE:
    case SP_RECORD_ACL:
    case SP_RECORD_MAILBOX:
    case SP_RECORD_MAILBOX_RENAME:
    case SP_RECORD_MAILBOX_DELETE:
        status = merge_of_account(m, plan, r, ret_again);
        break;
    case SP_RECORD_ACCOUNT:
        status = merge_account(m, plan, r);
        break;
    case SP_RECORD_ACCOUNT_REMOVE:
        status = merge_account_remove(m, plan, r);
        break;
    case SP_RECORD_DOMAIN:
        status = merge_domain(m, plan, r);
        break;
    default:
        return SP_OK; /* what the log says of itself, or of an operator's decision there */
    }
    if (status == SP_CORRUPT || status == SP_NOT_FOUND || status == SP_EXISTS ||
        status == SP_UNSUPPORTED) {
        conflict(m, r, sp_status_name(status));
        return SP_OK;
    }
    return status;
}

enum sp_status sp_merge_pass(struct sp_merge *m, const struct sp_record *record)
{
    return record->type == SP_RECORD_CREDENTIAL && record->lsn > m->history.parting_lsn
               ? note_credential(m, record)
               : SP_OK;
}
