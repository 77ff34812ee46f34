#include "proto/imap/fake_mail.h"

#include "base/endian.h"
#include "base/time.h"
#include "proto/test_scram_example.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- What there is ---- */

static const char plain_message[] = "Date: Mon, 7 Feb 1994 21:52:25 -0800\r\n"
                                    "From: Terry Gray <gray@cac.example>\r\n"
                                    "To: imap@cac.example\r\n"
                                    "Cc: minutes@cnri.example, John <klensin@mit.example>\r\n"
                                    "Subject: IMAP4rev1 WG mtg summary\r\n"
                                    "Message-ID: <B27397-0100000@cac.example>\r\n"
                                    "\r\n"
                                    "Hello Joe, do you think we can meet at 3:30 tomorrow?\r\n";
static const char multipart_message[] = "From: bob@example.org\r\n"
                                        "To: alice@example.org\r\n"
                                        "Subject: Two parts\r\n"
                                        "MIME-Version: 1.0\r\n"
                                        "Content-Type: multipart/mixed; boundary=\"b1\"\r\n"
                                        "\r\n"
                                        "--b1\r\n"
                                        "Content-Type: text/plain; charset=utf-8\r\n"
                                        "\r\n"
                                        "Part one.\r\n"
                                        "--b1\r\n"
                                        "Content-Type: message/rfc822\r\n"
                                        "\r\n"
                                        "Subject: Inside\r\n"
                                        "From: carol@example.org\r\n"
                                        "\r\n"
                                        "Inner text.\r\n"
                                        "--b1--\r\n";
static const char short_message[] = "Subject: Third\r\nFrom: dave@example.org\r\n\r\nx\r\n";

static const struct {
    const char *name;
    uint32_t special_use;
    bool subscribed, exists, protected_;
} start[] = {
    {"INBOX", 0, true, true, false},         {"Drafts", SP_USE_DRAFTS, true, true, false},
    {"Archive/2025", 0, false, true, false}, /* no "Archive" */
    {"Work", 0, true, true, false},          {"Work/Entwürfe", 0, false, true, false},
    {"Work/Plans/Q1", 0, true, true, false}, {"Lost", 0, true, true, true},
    {"Old", 0, true, false, false}, /* subscribed, not there */
};

struct sp_fake_mailbox *sp_fake_add_mailbox(struct sp_fake_mail *mail, struct sp_slice name)
{
    mail->mailboxes =
        realloc(mail->mailboxes, (mail->mailboxes_count + 1) * sizeof *mail->mailboxes);
    sp_assert(mail->mailboxes);
    struct sp_fake_mailbox *mailbox = &mail->mailboxes[mail->mailboxes_count++];
    uint32_t id = ++mail->next_id;
    *mailbox =
        (struct sp_fake_mailbox){.id = id, .uidvalidity = 1000 + id, .uidnext = 1, .exists = true};
    mailbox->rights = SP_RIGHTS_ALL;
    mailbox->name = strndup((const char *)name.ptr, name.len);
    return mailbox;
}

void sp_fake_mail_reset(struct sp_fake_mail *mail)
{
    sp_fake_mail_release(mail);
    mail->modseq = 1;
    for (size_t i = 0; i < sizeof start / sizeof start[0]; i++) {
        struct sp_fake_mailbox *mailbox = sp_fake_add_mailbox(mail, sp_slice_str(start[i].name));
        mailbox->special_use = start[i].special_use;
        mailbox->subscribed = start[i].subscribed;
        mailbox->exists = start[i].exists;
        mailbox->protected_ = start[i].protected_;
    }
    struct sp_fake_mailbox *inbox = sp_fake_mailbox(mail, "INBOX");
    inbox->keywords[0] = strdup("$Label1");
    inbox->keywords_count = 1;
    inbox->uidnext = 3;
    struct sp_date date = {sp_civil_to_unix(2026, 1, 5, 10, 0, 0), 60};
    sp_fake_add_message(mail, inbox, SP_S(plain_message), SP_FLAG_SEEN, date);
    date.unix_s += 86400;
    sp_fake_add_message(mail, inbox, SP_S(multipart_message),
                        SP_FLAG_FLAGGED | 1U << SP_FLAG_KEYWORD_0, date);
    inbox->uidnext = 7;
    date = (struct sp_date){sp_civil_to_unix(2026, 1, 7, 23, 30, 0), -150};
    sp_fake_add_message(mail, inbox, SP_S(short_message), 0, date);
}

void sp_fake_mail_init(struct sp_fake_mail *mail)
{
    *mail = (struct sp_fake_mail){0};
}

static void free_message(struct sp_fake_message *message)
{
    sp_arena_release(&message->arena);
    sp_buf_release(&message->envelope);
    sp_buf_release(&message->bodystructure);
    free(message->bytes);
}

static void free_mailbox(struct sp_fake_mailbox *mailbox)
{
    for (uint32_t i = 0; i < mailbox->messages_count; i++)
        free_message(&mailbox->messages[i]);
    for (uint32_t i = 0; i < mailbox->keywords_count; i++)
        free(mailbox->keywords[i]);
    free(mailbox->messages);
    free(mailbox->gone);
    free(mailbox->name);
}

void sp_fake_mail_release(struct sp_fake_mail *mail)
{
    for (uint32_t i = 0; i < mail->mailboxes_count; i++)
        free_mailbox(&mail->mailboxes[i]);
    for (uint32_t i = 0; i < SP_FAKE_BODIES; i++)
        sp_buf_release(&mail->bodies[i].bytes);
    free(mail->mailboxes);
    sp_fake_mail_init(mail);
}

/* ---- Changes ---- */

static struct sp_fake_mailbox *find_mailbox(struct sp_fake_mail *mail, struct sp_slice name)
{
    for (uint32_t i = 0; i < mail->mailboxes_count; i++)
        if (sp_slice_eq(name, sp_slice_str(mail->mailboxes[i].name)))
            return &mail->mailboxes[i];
    return NULL;
}

struct sp_fake_mailbox *sp_fake_mailbox(struct sp_fake_mail *mail, const char *name)
{
    return find_mailbox(mail, sp_slice_str(name));
}

void sp_fake_add_message(struct sp_fake_mail *mail, struct sp_fake_mailbox *mailbox,
                         struct sp_slice bytes, uint64_t flags, struct sp_date date)
{
    size_t count = mailbox->messages_count;
    mailbox->messages = realloc(mailbox->messages, (count + 1) * sizeof *mailbox->messages);
    sp_assert(mailbox->messages);
    struct sp_fake_message *message = &mailbox->messages[count];
    *message = (struct sp_fake_message){.uid = mailbox->uidnext++,
                                        .flags = flags,
                                        .modseq = ++mail->modseq,
                                        .date = date,
                                        .len = bytes.len};
    message->bytes = malloc(bytes.len ? bytes.len : 1);
    sp_assert(message->bytes);
    if (bytes.len)
        memcpy(message->bytes, bytes.ptr, bytes.len);
    sp_arena_init(&message->arena, 1U << 20);
    sp_buf_init(&message->envelope, 1U << 20);
    sp_buf_init(&message->bodystructure, 1U << 20);
    mailbox->messages_count++;
}

static void remove_message(struct sp_fake_mailbox *mailbox, uint32_t index, uint64_t modseq)
{
    mailbox->gone = realloc(mailbox->gone, (mailbox->gone_count + 1) * sizeof *mailbox->gone);
    sp_assert(mailbox->gone);
    mailbox->gone[mailbox->gone_count++] =
        (struct sp_fake_gone){mailbox->messages[index].uid, modseq};
    free_message(&mailbox->messages[index]);
    mailbox->messages_count--;
    memmove(&mailbox->messages[index], &mailbox->messages[index + 1],
            (mailbox->messages_count - index) * sizeof *mailbox->messages);
}

void sp_fake_expunge(struct sp_fake_mail *mail, struct sp_fake_mailbox *mailbox, uint32_t uid)
{
    for (uint32_t i = 0; i < mailbox->messages_count; i++) {
        if (mailbox->messages[i].uid == uid) {
            remove_message(mailbox, i, ++mail->modseq);
            return;
        }
    }
}

void sp_fake_set_flags(struct sp_fake_mail *mail, struct sp_fake_mailbox *mailbox, uint32_t uid,
                       uint64_t flags)
{
    for (uint32_t i = 0; i < mailbox->messages_count; i++) {
        if (mailbox->messages[i].uid == uid) {
            mailbox->messages[i].flags = flags;
            mailbox->messages[i].modseq = ++mail->modseq;
        }
    }
}

uint32_t sp_fake_bodies(const struct sp_fake_mail *mail)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SP_FAKE_BODIES; i++)
        count += mail->bodies[i].id != 0;
    return count;
}

/* ---- Helpers ---- */

static bool in_ranges(struct sp_uid_ranges ranges, uint32_t uid)
{
    for (uint32_t i = 0; i < ranges.count; i++)
        if (uid >= ranges.ptr[i].first && uid <= ranges.ptr[i].last)
            return true;
    return false;
}

/* Adds a UID that is higher than all before; ranges has room. */
static void add_uid(struct sp_uid_ranges *ranges, uint32_t uid)
{
    if (ranges->count && ranges->ptr[ranges->count - 1].last + 1 == uid)
        ranges->ptr[ranges->count - 1].last = uid;
    else
        ranges->ptr[ranges->count++] = (struct sp_uid_range){uid, uid};
}

static void new_ranges(struct sp_reply *reply, struct sp_uid_ranges *ranges, size_t count)
{
    ranges->ptr = sp_arena_array(&reply->arena, count, sizeof *ranges->ptr);
    ranges->count = 0;
    sp_assert(ranges->ptr);
}

static uint64_t highest_modseq(const struct sp_fake_mailbox *mailbox)
{
    uint64_t highest = 1;
    for (uint32_t i = 0; i < mailbox->messages_count; i++)
        if (highest < mailbox->messages[i].modseq)
            highest = mailbox->messages[i].modseq;
    for (uint32_t i = 0; i < mailbox->gone_count; i++)
        if (highest < mailbox->gone[i].modseq)
            highest = mailbox->gone[i].modseq;
    return highest;
}

static void fill_info(const struct sp_fake_mail *mail, struct sp_reply *reply,
                      const struct sp_fake_mailbox *mailbox, struct sp_mailbox_info *info)
{
    *info =
        (struct sp_mailbox_info){.id = mailbox->id,
                                 .name = sp_arena_copy(&reply->arena, sp_slice_str(mailbox->name)),
                                 .uidvalidity = mailbox->uidvalidity,
                                 .uidnext = mailbox->uidnext,
                                 .highestmodseq = highest_modseq(mailbox),
                                 .messages = mailbox->messages_count,
                                 .special_use = mailbox->special_use,
                                 .subscribed = mailbox->subscribed,
                                 .exists = mailbox->exists,
                                 .protected_ = mailbox->protected_,
                                 .rights = mailbox->rights};
    memset(info->account.bytes, 0xa1, sizeof info->account.bytes);
    sp_put_u32be(info->object_id, mailbox->id);
    for (uint32_t i = 0; i < mailbox->messages_count; i++) {
        info->unseen += !(mailbox->messages[i].flags & SP_FLAG_SEEN);
        info->deleted += (mailbox->messages[i].flags & SP_FLAG_DELETED) != 0;
        info->size += mailbox->messages[i].len;
    }
}

static void one_mailbox(const struct sp_fake_mail *mail, struct sp_reply *reply,
                        const struct sp_fake_mailbox *mailbox)
{
    reply->mailboxes = sp_arena_alloc(&reply->arena, sizeof *reply->mailboxes);
    sp_assert(reply->mailboxes);
    reply->mailboxes_count = 1;
    fill_info(mail, reply, mailbox, reply->mailboxes);
}

static void keywords(struct sp_reply *reply, const struct sp_fake_mailbox *mailbox)
{
    reply->keywords =
        sp_arena_array(&reply->arena, mailbox->keywords_count, sizeof *reply->keywords);
    sp_assert(reply->keywords);
    for (uint32_t i = 0; i < mailbox->keywords_count; i++)
        reply->keywords[i] = sp_arena_copy(&reply->arena, sp_slice_str(mailbox->keywords[i]));
    reply->keywords_count = mailbox->keywords_count;
}

/* Flags by name as bits; keywords the mailbox does not know are added to it. False: it has no room
 * for them. */
static bool flag_bits(struct sp_fake_mailbox *mailbox, const struct sp_flag_set *set,
                      uint64_t *ret_bits)
{
    uint64_t bits = set->system;
    for (uint32_t i = 0; i < set->keywords_count; i++) {
        uint32_t k = 0;
        while (k < mailbox->keywords_count &&
               !sp_slice_eq_nocase(set->keywords[i], sp_slice_str(mailbox->keywords[k])))
            k++;
        if (k == SP_KEYWORDS_MAX)
            return false;
        if (k == mailbox->keywords_count)
            mailbox->keywords[mailbox->keywords_count++] =
                strndup((const char *)set->keywords[i].ptr, set->keywords[i].len);
        bits |= UINT64_C(1) << (SP_FLAG_KEYWORD_0 + k);
    }
    *ret_bits = bits;
    return true;
}

/* ---- Requests ---- */

static enum sp_status authenticate(struct sp_fake_mail *mail, const struct sp_request *request,
                                   struct sp_reply *reply)
{
    if (request->type == SP_REQ_SCRAM || request->authenticate.is_scram)
        return scram_example(request, reply);
    if (!sp_slice_eq(request->authenticate.user, SP_S("alice@example.org")) ||
        !sp_slice_eq(request->authenticate.password, SP_S("secret")))
        return SP_DENIED;
    memset(reply->account.bytes, 0xa1, sizeof reply->account.bytes);
    return SP_OK;
}

static enum sp_status body_put(struct sp_fake_mail *mail, const struct sp_request *request,
                               struct sp_reply *reply)
{
    uint32_t i = 0;
    while (i < SP_FAKE_BODIES && mail->bodies[i].id != request->body.body)
        i++;
    if (i == SP_FAKE_BODIES)
        return request->body.body ? SP_NOT_FOUND : SP_LIMIT;
    if (!request->body.body) {
        mail->bodies[i].id = ++mail->next_body;
        sp_buf_init(&mail->bodies[i].bytes, 64U << 20);
    }
    sp_assert(request->body.bytes.len && request->body.bytes.len <= SP_BODY_PIECE_MAX);
    sp_buf_add(&mail->bodies[i].bytes, request->body.bytes);
    reply->body = mail->bodies[i].id;
    return SP_OK;
}

static struct sp_fake_body *find_body(struct sp_fake_mail *mail, uint64_t id)
{
    for (uint32_t i = 0; i < SP_FAKE_BODIES; i++)
        if (mail->bodies[i].id == id)
            return &mail->bodies[i];
    return NULL;
}

static void drop_body(struct sp_fake_mail *mail, uint64_t id)
{
    struct sp_fake_body *body = find_body(mail, id);
    sp_assert(id && body); /* a session drops what it was given, once */
    sp_buf_release(&body->bytes);
    body->id = 0;
}

/* The mailbox that holds the message that is replaced; NULL: it is not there. */
static struct sp_fake_mailbox *replaced_in(struct sp_fake_mail *mail,
                                           const struct sp_request *request)
{
    for (uint32_t i = 0; i < mail->mailboxes_count; i++) {
        struct sp_fake_mailbox *mailbox = &mail->mailboxes[i];
        for (uint32_t k = 0; mailbox->id == request->mailbox.mailbox && k < mailbox->messages_count;
             k++)
            if (mailbox->messages[k].uid == request->append.replaces)
                return mailbox;
    }
    return NULL;
}

static enum sp_status append(struct sp_fake_mail *mail, const struct sp_request *request,
                             struct sp_reply *reply)
{
    struct sp_fake_mailbox *mailbox = find_mailbox(mail, request->name);
    if (!mailbox || !mailbox->exists)
        return SP_NOT_FOUND;
    sp_assert(request->append.messages_count);
    struct sp_fake_mailbox *source = replaced_in(mail, request);
    if (request->append.replaces && !source) {
        reply->missing = 1;
        for (uint32_t i = 0; i < request->append.messages_count; i++)
            if (request->append.messages[i].message.body)
                drop_body(mail, request->append.messages[i].message.body);
        return SP_OK;
    }
    new_ranges(reply, &reply->new_ranges, request->append.messages_count);
    for (uint32_t i = 0; i < request->append.messages_count; i++) {
        const struct sp_append *message = &request->append.messages[i];
        struct sp_buf bytes;
        uint64_t flags;
        if (!flag_bits(mailbox, &message->flags, &flags))
            return SP_LIMIT;
        sp_buf_init(&bytes, 64U << 20);
        if (message->message.body) {
            struct sp_fake_body *body = find_body(mail, message->message.body);
            sp_assert(body);
            sp_buf_add(&bytes, sp_buf_slice(&body->bytes));
            drop_body(mail, message->message.body);
        }
        sp_buf_add(&bytes, message->message.bytes);
        sp_assert(bytes.len);
        struct sp_date date = {sp_civil_to_unix(2026, 2, 1, 0, 0, 0), 0};
        add_uid(&reply->new_ranges, mailbox->uidnext);
        sp_fake_add_message(mail, mailbox, sp_buf_slice(&bytes), flags,
                            message->has_date ? message->date : date);
        sp_buf_release(&bytes);
    }
    reply->uidvalidity = mailbox->uidvalidity;
    if (source)
        sp_fake_expunge(mail, source, request->append.replaces);
    return SP_OK;
}

static enum sp_status list(struct sp_fake_mail *mail, const struct sp_request *request,
                           struct sp_reply *reply)
{
    reply->mailboxes =
        sp_arena_array(&reply->arena, mail->mailboxes_count, sizeof *reply->mailboxes);
    sp_assert(reply->mailboxes);
    reply->mailboxes_count = mail->mailboxes_count;
    reply->others_unavailable = mail->others_unavailable;
    for (uint32_t i = 0; i < mail->mailboxes_count; i++)
        fill_info(mail, reply, &mail->mailboxes[i], &reply->mailboxes[i]);
    return SP_OK;
}

static enum sp_status open_mailbox(struct sp_fake_mail *mail, const struct sp_request *request,
                                   struct sp_reply *reply)
{
    const struct sp_fake_mailbox *mailbox = find_mailbox(mail, request->name);
    if (!mailbox || !mailbox->exists)
        return SP_NOT_FOUND;
    one_mailbox(mail, reply, mailbox);
    if (request->type == SP_REQ_MAILBOX_STATUS)
        return SP_OK;
    keywords(reply, mailbox);
    new_ranges(reply, &reply->ranges, mailbox->messages_count);
    for (uint32_t i = 0; i < mailbox->messages_count; i++) {
        add_uid(&reply->ranges, mailbox->messages[i].uid);
        if (!reply->first_unseen_uid && !(mailbox->messages[i].flags & SP_FLAG_SEEN))
            reply->first_unseen_uid = mailbox->messages[i].uid;
    }
    return SP_OK;
}

static enum sp_status manage(struct sp_fake_mail *mail, const struct sp_request *request,
                             struct sp_reply *reply)
{
    struct sp_fake_mailbox *mailbox = find_mailbox(mail, request->name);
    bool there = mailbox && mailbox->exists;
    if (request->type == SP_REQ_SUBSCRIBE) {
        if (!mailbox)
            return SP_NOT_FOUND;
        mailbox->subscribed = request->manage.subscribe;
        return SP_OK;
    }
    if (request->type == SP_REQ_MAILBOX_CREATE) {
        if (there)
            return SP_EXISTS;
        mailbox = mailbox ? mailbox : sp_fake_add_mailbox(mail, request->name);
        mailbox->exists = true;
        mailbox->special_use = request->manage.special_use;
        one_mailbox(mail, reply, mailbox);
        return SP_OK;
    }
    if (!there)
        return SP_NOT_FOUND;
    if (request->type == SP_REQ_MAILBOX_DELETE) {
        mailbox->exists = false;
        return SP_OK;
    }
    if (find_mailbox(mail, request->new_name))
        return SP_EXISTS;
    free(mailbox->name);
    mailbox->name = strndup((const char *)request->new_name.ptr, request->new_name.len);
    return SP_OK;
}

static enum sp_status sync_mailbox(struct sp_fake_mail *mail, struct sp_fake_mailbox *mailbox,
                                   const struct sp_request *request, struct sp_reply *reply)
{
    one_mailbox(mail, reply, mailbox);
    keywords(reply, mailbox);
    new_ranges(reply, &reply->ranges, mailbox->messages_count);
    new_ranges(reply, &reply->gone, mailbox->gone_count);
    reply->rows = sp_arena_array(&reply->arena, mailbox->messages_count, sizeof *reply->rows);
    sp_assert(reply->rows);
    for (uint32_t i = 0; i < mailbox->messages_count; i++) {
        const struct sp_fake_message *message = &mailbox->messages[i];
        if (message->uid >= request->sync.uidnext)
            add_uid(&reply->ranges, message->uid);
        if (message->modseq <= request->sync.since_modseq ||
            message->uid <= request->sync.after_uid)
            continue;
        if (mail->rows_max && reply->rows_count == mail->rows_max) {
            reply->more = true;
            continue;
        }
        reply->rows[reply->rows_count++] = (struct sp_row){
            .uid = message->uid, .flags = message->flags, .modseq = message->modseq};
    }
    /* In the order of UIDs, which is not that of the expunging. */
    for (uint32_t uid = 1; uid < mailbox->uidnext && uid < 100000; uid++)
        for (uint32_t i = 0; i < mailbox->gone_count; i++)
            if (mailbox->gone[i].uid == uid && mailbox->gone[i].modseq > request->sync.since_modseq)
                add_uid(&reply->gone, uid);
    return SP_OK;
}

static enum sp_status fetch(struct sp_fake_mail *mail, struct sp_fake_mailbox *mailbox,
                            const struct sp_request *request, struct sp_reply *reply)
{
    size_t bytes = 0;
    keywords(reply, mailbox);
    reply->rows = sp_arena_array(&reply->arena, mailbox->messages_count, sizeof *reply->rows);
    sp_assert(reply->rows);
    for (uint32_t i = 0; i < mailbox->messages_count; i++) {
        struct sp_fake_message *message = &mailbox->messages[i];
        if (!in_ranges(request->ranges, message->uid) ||
            message->modseq <= request->fetch.changed_since)
            continue;
        if (bytes > SP_FETCH_REPLY_BYTES ||
            (mail->rows_max && reply->rows_count == mail->rows_max)) {
            reply->more = true;
            break;
        }
        sp_fake_fill_row(mail, message, request, &reply->arena, &reply->rows[reply->rows_count++],
                         &bytes);
    }
    return SP_OK;
}

/* How many UIDs of the ranges are not there. */
static uint64_t missing(const struct sp_fake_mailbox *mailbox, struct sp_uid_ranges ranges)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < ranges.count; i++)
        count += (uint64_t)ranges.ptr[i].last - ranges.ptr[i].first + 1;
    for (uint32_t i = 0; i < mailbox->messages_count; i++)
        count -= in_ranges(ranges, mailbox->messages[i].uid);
    return count;
}

static enum sp_status store(struct sp_fake_mail *mail, struct sp_fake_mailbox *mailbox,
                            const struct sp_request *request, struct sp_reply *reply)
{
    uint64_t bits, modseq = mail->modseq + 1;
    if (!flag_bits(mailbox, &request->store.flags, &bits))
        return SP_LIMIT;
    new_ranges(reply, &reply->failed, mailbox->messages_count);
    reply->previous_modseq = highest_modseq(mailbox);
    reply->missing = missing(mailbox, request->ranges);
    for (uint32_t i = 0; i < mailbox->messages_count; i++) {
        struct sp_fake_message *message = &mailbox->messages[i];
        if (!in_ranges(request->ranges, message->uid))
            continue;
        if (request->store.has_unchanged_since &&
            message->modseq > request->store.unchanged_since) {
            add_uid(&reply->failed, message->uid);
            continue;
        }
        uint64_t flags = request->store.op == SP_STORE_ADD      ? message->flags | bits
                         : request->store.op == SP_STORE_REMOVE ? message->flags & ~bits
                                                                : bits;
        if (flags != message->flags) {
            message->flags = flags;
            message->modseq = mail->modseq = reply->modseq = modseq;
        }
    }
    return SP_OK;
}

static enum sp_status expunge(struct sp_fake_mail *mail, struct sp_fake_mailbox *mailbox,
                              const struct sp_request *request, struct sp_reply *reply)
{
    uint64_t modseq = mail->modseq + 1;
    new_ranges(reply, &reply->ranges, mailbox->messages_count);
    for (uint32_t i = 0; i < mailbox->messages_count;) {
        const struct sp_fake_message *message = &mailbox->messages[i];
        bool expunged = in_ranges(request->ranges, message->uid) &&
                        (!request->expunge.deleted_only || (message->flags & SP_FLAG_DELETED));
        if (!expunged) {
            i++;
            continue;
        }
        mail->modseq = reply->modseq = modseq;
        add_uid(&reply->ranges, message->uid);
        remove_message(mailbox, i, modseq);
    }
    return SP_OK;
}

static enum sp_status copy(struct sp_fake_mail *mail, struct sp_fake_mailbox *mailbox,
                           const struct sp_request *request, struct sp_reply *reply)
{
    struct sp_fake_mailbox *target = find_mailbox(mail, request->name);
    uint32_t count = mailbox->messages_count;
    if (!target || !target->exists)
        return SP_NOT_FOUND;
    reply->missing = request->copy.whole ? missing(mailbox, request->ranges) : 0;
    if (reply->missing)
        return SP_OK;
    new_ranges(reply, &reply->ranges, count);
    new_ranges(reply, &reply->new_ranges, count);
    for (uint32_t i = 0; i < count; i++) {
        struct sp_fake_message *message = &mailbox->messages[i];
        if (!in_ranges(request->ranges, message->uid))
            continue;
        add_uid(&reply->ranges, message->uid);
        add_uid(&reply->new_ranges, target->uidnext);
        sp_fake_add_message(mail, target, sp_slice(message->bytes, message->len),
                            message->flags & SP_FLAG_SYSTEM, message->date);
    }
    for (uint32_t i = 0; request->copy.move && i < count;) {
        if (in_ranges(reply->ranges, mailbox->messages[i].uid)) {
            remove_message(mailbox, i, ++mail->modseq);
            count--;
        } else {
            i++;
        }
    }
    reply->uidvalidity = target->uidvalidity;
    return SP_OK;
}

static enum sp_status search(struct sp_fake_mail *mail, struct sp_fake_mailbox *mailbox,
                             const struct sp_request *request, struct sp_reply *reply)
{
    bool descending = request->search.sort_count && (request->search.sort[0] & SP_SORT_REVERSE);
    new_ranges(reply, &reply->ranges, mailbox->messages_count);
    reply->uids = sp_arena_array(&reply->arena, mailbox->messages_count, sizeof *reply->uids);
    sp_assert(reply->uids);
    for (uint32_t i = 0; i < mailbox->messages_count; i++) {
        struct sp_fake_message *message = &mailbox->messages[i];
        const struct sp_search_node *node = request->search.nodes;
        if (!sp_fake_matches(mailbox, message, &node))
            continue;
        sp_assert(node == request->search.nodes + request->search.nodes_count);
        add_uid(&reply->ranges, message->uid);
        if (message->modseq > reply->modseq)
            reply->modseq = message->modseq;
        reply->uids[reply->uids_count++] = message->uid;
    }
    for (uint32_t i = 0; descending && i < reply->uids_count / 2; i++) {
        uint32_t other = reply->uids_count - 1 - i, uid = reply->uids[i];
        reply->uids[i] = reply->uids[other];
        reply->uids[other] = uid;
    }
    reply->threads = mail->threads;
    reply->threads_count = mail->threads_count;
    return SP_OK;
}

static enum sp_status answer_selected(struct sp_fake_mail *mail, const struct sp_request *request,
                                      struct sp_reply *reply)
{
    struct sp_fake_mailbox *mailbox = NULL;
    for (uint32_t i = 0; i < mail->mailboxes_count; i++)
        if (mail->mailboxes[i].id == request->mailbox.mailbox)
            mailbox = &mail->mailboxes[i];
    sp_assert(mailbox);
    for (uint32_t i = 0; i < request->ranges.count; i++) {
        sp_assert(request->ranges.ptr[i].first &&
                  request->ranges.ptr[i].first <= request->ranges.ptr[i].last);
        sp_assert(!i || request->ranges.ptr[i].first > request->ranges.ptr[i - 1].last);
    }
    if (!mailbox->exists || mailbox->uidvalidity != request->mailbox.uidvalidity)
        return SP_CONFLICT;
    switch (request->type) {
    case SP_REQ_SYNC:
        return sync_mailbox(mail, mailbox, request, reply);
    case SP_REQ_FETCH:
        return fetch(mail, mailbox, request, reply);
    case SP_REQ_STORE:
        return store(mail, mailbox, request, reply);
    case SP_REQ_EXPUNGE:
        return expunge(mail, mailbox, request, reply);
    case SP_REQ_COPY:
        return copy(mail, mailbox, request, reply);
    default:
        return search(mail, mailbox, request, reply);
    }
}

/* Every mailbox is alice's, and bob may look at it. */
static enum sp_status acl(struct sp_fake_mail *mail, const struct sp_request *request,
                          struct sp_reply *reply)
{
    struct sp_fake_mailbox *mailbox = find_mailbox(mail, request->name);
    if (!mailbox || !mailbox->exists)
        return SP_NOT_FOUND;
    if (!(mailbox->rights & SP_RIGHT_ADMIN) &&
        (request->type == SP_REQ_ACL_SET || request->acl.want != SP_ACL_MINE))
        return SP_DENIED;
    if (request->type == SP_REQ_ACL_SET)
        return SP_OK;
    one_mailbox(mail, reply, mailbox);
    reply->acl = sp_arena_array(&reply->arena, 2, sizeof *reply->acl);
    sp_assert(reply->acl);
    struct sp_acl alice = {SP_S("alice@example.org"), SP_RIGHTS_ALL, true};
    struct sp_acl bob = {SP_S("-bob@example.org"), SP_RIGHT_LOOKUP | SP_RIGHT_READ, false};
    if (request->acl.want == SP_ACL_ONE && !sp_slice_eq(request->acl.identifier, alice.identifier))
        bob.identifier = sp_arena_copy(&reply->arena, request->acl.identifier);
    else
        reply->acl[reply->acl_count++] = alice;
    if (request->acl.want == SP_ACL_ALL || !reply->acl_count)
        reply->acl[reply->acl_count++] = bob;
    return SP_OK;
}

static enum sp_status answer(struct sp_fake_mail *mail, const struct sp_request *request,
                             struct sp_reply *reply)
{
    switch (request->type) {
    case SP_REQ_AUTHENTICATE:
    case SP_REQ_SCRAM:
        return authenticate(mail, request, reply);
    case SP_REQ_BODY_PUT:
        return body_put(mail, request, reply);
    case SP_REQ_BODY_DROP:
        drop_body(mail, request->body.body);
        return SP_OK;
    case SP_REQ_APPEND:
        return append(mail, request, reply);
    case SP_REQ_MAILBOX_LIST:
        return list(mail, request, reply);
    case SP_REQ_MAILBOX_OPEN:
    case SP_REQ_MAILBOX_STATUS:
        return open_mailbox(mail, request, reply);
    case SP_REQ_MAILBOX_CREATE:
    case SP_REQ_MAILBOX_DELETE:
    case SP_REQ_MAILBOX_RENAME:
    case SP_REQ_SUBSCRIBE:
        return manage(mail, request, reply);
    case SP_REQ_ACL_GET:
    case SP_REQ_ACL_SET:
        return acl(mail, request, reply);
    case SP_REQ_SYNC:
    case SP_REQ_FETCH:
    case SP_REQ_STORE:
    case SP_REQ_EXPUNGE:
    case SP_REQ_COPY:
    case SP_REQ_SEARCH:
        return answer_selected(mail, request, reply);
    default:
        return SP_UNSUPPORTED;
    }
}

struct sp_reply *sp_fake_mail_answer(struct sp_fake_mail *mail, const struct sp_request *request)
{
    struct sp_reply *reply = sp_reply_new(request);
    sp_assert(reply);
    enum sp_status fail = mail->fail[request->type];
    reply->status = fail ? fail : answer(mail, request, reply);
    return reply;
}

/* ---- Describing ---- */

static void describe_ranges(struct sp_buf *log, struct sp_uid_ranges ranges)
{
    for (uint32_t i = 0; i < ranges.count; i++)
        sp_buf_addf(log, "%s%" PRIu32 ":%" PRIu32, i ? "," : " ", ranges.ptr[i].first,
                    ranges.ptr[i].last);
}

void sp_fake_mail_describe(const struct sp_request *request, struct sp_buf *log)
{
    static const char *const names[SP_REQ_TYPES] = {
        "authenticate", "resolve", "body-put", "body-drop", "deliver", "list",
        "open",         "status",  "create",   "delete",    "rename",  "subscribe",
        "sync",         "fetch",   "store",    "expunge",   "copy",    "append",
        "maildrop",     "search",  "acl-get",  "acl-set",   "scram"};
    sp_buf_add_str(log, names[request->type]);
    if (request->name.len) {
        sp_buf_add_byte(log, ' ');
        sp_buf_add(log, request->name);
    }
    if (request->new_name.len) {
        sp_buf_add_byte(log, ' ');
        sp_buf_add(log, request->new_name);
    }
    if (request->type == SP_REQ_ACL_SET)
        sp_buf_addf(log, " op=%d rights=%x", (int)request->acl.op, request->acl.rights);
    describe_ranges(log, request->ranges);
    if (request->type == SP_REQ_BODY_PUT || request->type == SP_REQ_BODY_DROP)
        sp_buf_addf(log, " body=%" PRIu64 " bytes=%zu", request->body.body,
                    request->body.bytes.len);
    for (uint32_t i = 0; request->type == SP_REQ_APPEND && i < request->append.messages_count;
         i++) {
        const struct sp_append *message = &request->append.messages[i];
        sp_buf_addf(log, " [body=%" PRIu64 " bytes=%zu flags=%x", message->message.body,
                    message->message.bytes.len, message->flags.system);
        if (message->has_date)
            sp_buf_addf(log, " date=%" PRId64 "/%d", message->date.unix_s, message->date.zone_min);
        sp_buf_add_byte(log, ']');
    }
    for (uint32_t i = 0; request->type == SP_REQ_SEARCH && i < request->search.nodes_count; i++) {
        const struct sp_search_node *node = &request->search.nodes[i];
        sp_buf_addf(log, " %d/%" PRIu32 "/%" PRIu64, (int)node->op, node->count, node->number);
        describe_ranges(log, node->ranges);
    }
}
