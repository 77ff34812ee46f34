#include "proto/pop3/test_fake.h"
#include "proto/test_scram_example.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct sp_uuid account = {.bytes = {1, 2, 3, 4}};
#define MAILBOX     7U
#define UIDVALIDITY 99U

static uint64_t fixed_wall_ns(void)
{
    return 1764000000123456789U;
}

struct fake fake_make(const struct fake_message *messages, uint32_t count)
{
    return (struct fake){
        .env = {.hostname = "pop.example.org",
                .software = "Sternpost 0.1",
                .tls_available = true,
                .message_bytes_max = 400000,
                .wall_ns = fixed_wall_ns},
        .cleartext_ok = true,
        .messages = messages,
        .count = count,
        .rows_at_once = 2,
    };
}

void fake_reset(void *user)
{
    struct fake *fake = user;
    fake->login = fake->lock = fake->open = fake->fetch = fake->store = fake->expunge = SP_OK;
    fake->gone = 0;
}

void *fake_session(void *user, uint64_t now_ms)
{
    struct fake *fake = user;
    struct sp_session_peer peer = {.id = 0x1122334455667788U,
                                   .address = "192.0.2.7",
                                   .tls = fake->implicit_tls,
                                   .cleartext_ok = fake->cleartext_ok};
    return sp_pop3_new(&fake->env, &peer, now_ms);
}

static bool is_wanted(struct sp_uid_ranges ranges, uint32_t uid)
{
    for (uint32_t i = 0; i < ranges.count; i++)
        if (ranges.ptr[i].first <= uid && uid <= ranges.ptr[i].last)
            return true;
    return false;
}

static void answer_sections(const struct sp_request *request, const struct fake_message *message,
                            struct sp_reply *reply, struct sp_row *row)
{
    uint32_t count = request->fetch.sections_count;
    if (!count)
        return;
    row->sections = sp_arena_array(&reply->arena, count, sizeof *row->sections);
    assert_non_null(row->sections);
    for (uint32_t i = 0; i < count; i++) {
        const struct sp_section *section = &request->fetch.sections[i];
        struct sp_slice bytes = sp_slice_from(message->bytes, section->offset);
        if (bytes.len > section->length)
            bytes.len = section->length;
        row->sections[i] = (struct sp_fetch_section){.size = bytes.len, .bytes = bytes};
    }
}

static void answer_fetch(const struct fake *fake, const struct sp_request *request,
                         struct sp_reply *reply)
{
    reply->status = fake->fetch;
    reply->rows = sp_arena_array(&reply->arena, FAKE_MESSAGES_MAX, sizeof *reply->rows);
    assert_non_null(reply->rows);
    assert_int_equal(request->mailbox.mailbox, MAILBOX);
    assert_int_equal(request->mailbox.uidvalidity, UIDVALIDITY);
    for (uint32_t i = 0; i < fake->count; i++) {
        const struct fake_message *message = &fake->messages[i];
        if (!is_wanted(request->ranges, message->uid) || message->uid == fake->gone)
            continue;
        if (reply->rows_count == fake->rows_at_once) {
            reply->more = true;
            return;
        }
        struct sp_row *row = &reply->rows[reply->rows_count++];
        *row = (struct sp_row){.uid = message->uid, .size = message->bytes.len};
        memset(row->email_id, (int)message->uid, sizeof row->email_id);
        answer_sections(request, message, reply, row);
    }
}

struct sp_reply *fake_answer(void *user, const struct sp_request *request)
{
    const struct fake *fake = user;
    struct sp_reply *reply = sp_reply_new(request);
    assert_non_null(reply);
    reply->text = SP_S("as the test wants");
    if (request->mailbox.mailbox) /* whose rights to it count */
        assert_true(sp_uuid_eq(&request->account, &account));
    switch (request->type) {
    case SP_REQ_SCRAM:
    case SP_REQ_AUTHENTICATE:
        reply->account = account;
        reply->status = fake->login;
        if (request->authenticate.is_scram) {
            reply->status = scram_example(request, reply);
            break;
        }
        if (!sp_slice_eq(request->authenticate.user, SP_S("ada")) ||
            !sp_slice_eq(request->authenticate.password, SP_S("se cret")))
            reply->status = SP_DENIED;
        break;
    case SP_REQ_MAILDROP:
        assert_true(sp_uuid_eq(&request->account, &account));
        if (request->maildrop.hold)
            reply->status = fake->lock;
        break;
    case SP_REQ_MAILBOX_OPEN:
        reply->status = fake->open;
        reply->mailboxes = sp_arena_alloc(&reply->arena, sizeof *reply->mailboxes);
        assert_non_null(reply->mailboxes);
        reply->mailboxes[0] =
            (struct sp_mailbox_info){.id = MAILBOX, .uidvalidity = UIDVALIDITY, .exists = true};
        reply->mailboxes_count = 1;
        break;
    case SP_REQ_FETCH:
        answer_fetch(fake, request, reply);
        break;
    case SP_REQ_STORE:
        reply->status = fake->store;
        break;
    case SP_REQ_EXPUNGE:
        reply->status = fake->expunge;
        break;
    default:
        fail();
    }
    return reply;
}

static void describe_ranges(struct sp_uid_ranges ranges, struct sp_buf *log)
{
    for (uint32_t i = 0; i < ranges.count; i++)
        sp_buf_addf(log, " %u-%u", (unsigned)ranges.ptr[i].first, (unsigned)ranges.ptr[i].last);
}

void fake_describe(void *user, const struct sp_request *request, struct sp_buf *log)
{
    (void)user;
    switch (request->type) {
    case SP_REQ_SCRAM:
        sp_buf_add_str(log, "scram");
        break;
    case SP_REQ_AUTHENTICATE:
        sp_buf_addf(log, "login %.*s/%.*s", SP_FMT(request->authenticate.user),
                    SP_FMT(request->authenticate.password));
        break;
    case SP_REQ_MAILDROP:
        sp_buf_add_str(log, request->maildrop.hold ? "hold" : "give back");
        break;
    case SP_REQ_MAILBOX_OPEN:
        sp_buf_addf(log, "open %.*s", SP_FMT(request->name));
        break;
    case SP_REQ_FETCH:
        sp_buf_addf(log, "fetch %u", (unsigned)request->fetch.sections_count);
        describe_ranges(request->ranges, log);
        break;
    case SP_REQ_STORE:
        assert_int_equal(request->store.op, SP_STORE_ADD);
        assert_int_equal(request->store.flags.system, SP_FLAG_SEEN);
        sp_buf_add_str(log, "seen");
        describe_ranges(request->ranges, log);
        break;
    case SP_REQ_EXPUNGE:
        assert_false(request->expunge.deleted_only);
        sp_buf_add_str(log, "expunge");
        describe_ranges(request->ranges, log);
        break;
    default:
        fail();
    }
}

static enum sp_status status_named(struct sp_slice name)
{
    if (sp_slice_eq(name, SP_S("io")))
        return SP_IO;
    if (sp_slice_eq(name, SP_S("exists")))
        return SP_EXISTS;
    assert_true(sp_slice_eq(name, SP_S("unavailable")));
    return SP_UNAVAILABLE;
}

void fake_hook(void *user, struct sp_slice name)
{
    struct fake *fake = user;
    const struct {
        const char *name;
        enum sp_status *status;
    } hooks[] = {{"login", &fake->login}, {"lock", &fake->lock},   {"open", &fake->open},
                 {"fetch", &fake->fetch}, {"store", &fake->store}, {"expunge", &fake->expunge}};
    size_t blank = sp_slice_find(name, ' ');
    struct sp_slice what = sp_slice_sub(name, 0, blank), value = sp_slice_from(name, blank + 1);
    uint64_t uid;
    if (sp_slice_eq(what, SP_S("gone"))) {
        assert_int_equal(sp_slice_u64(value, UINT32_MAX, &uid), SP_OK);
        fake->gone = (uint32_t)uid;
        return;
    }
    for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++)
        if (sp_slice_eq(what, sp_slice_str(hooks[i].name))) {
            *hooks[i].status = status_named(value);
            return;
        }
    fail();
}
