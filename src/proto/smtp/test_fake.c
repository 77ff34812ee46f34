#include "proto/smtp/test_fake.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define SHOWN_CONTENT 900U

static uint64_t fixed_wall_ns(void)
{
    return 1764000000123456789U; /* Mon, 24 Nov 2025 16:00:00 +0000 */
}

void fake_reset(void *user)
{
    struct fake *fake = user;
    fake->put = fake->deliver = SP_OK;
    fake->bodies = 0;
}

void *fake_session(void *user, uint64_t now_ms)
{
    struct fake *fake = user;
    struct sp_session_peer peer = {
        .id = 0x1122334455667788U, .address = "192.0.2.7", .tls = fake->implicit_tls};
    return sp_smtp_new(fake->flavour, &fake->env, &peer, now_ms);
}

/* The local part says what becomes of a recipient. */
static enum sp_status status_of(struct sp_slice address, bool at_delivery)
{
    static const struct {
        const char *prefix;
        enum sp_status resolve, deliver;
    } table[] = {
        {"unknown", SP_NOT_FOUND, SP_NOT_FOUND}, {"busy", SP_UNAVAILABLE, SP_UNAVAILABLE},
        {"full", SP_NO_SPACE, SP_NO_SPACE},      {"odd", SP_INVALID, SP_INVALID},
        {"gone", SP_OK, SP_NOT_FOUND},           {"late", SP_OK, SP_UNAVAILABLE},
        {"stuffed", SP_OK, SP_NO_SPACE},         {"moved", SP_OK, SP_DENIED},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (sp_slice_starts_nocase(address, sp_slice_str(table[i].prefix)))
            return at_delivery ? table[i].deliver : table[i].resolve;
    struct sp_slice domain = sp_slice_from(address, sp_slice_find(address, '@'));
    bool ours = sp_slice_eq(domain, SP_S("@example.org")) ||
                sp_slice_eq(domain, SP_S("@mx.example.org")) ||
                sp_slice_eq(domain, SP_S("@\xc3\xa4.example"));
    return ours ? SP_OK : SP_DENIED;
}

/* As mail does it: to all or to none when that is asked. */
static void deliver(const struct sp_request *request, struct sp_reply *reply)
{
    uint32_t good = 0, count = request->deliver.recipients_count;
    for (uint32_t i = 0; i < count; i++) {
        reply->recipients[i] = status_of(request->deliver.recipients[i], true);
        good += reply->recipients[i] == SP_OK;
    }
    if (!reply->status && request->deliver.all && good && good < count)
        reply->status = SP_UNAVAILABLE;
}

struct sp_reply *fake_answer(void *user, const struct sp_request *request)
{
    struct fake *fake = user;
    struct sp_reply *reply = sp_reply_new(request);
    assert_non_null(reply);
    switch (request->type) {
    case SP_REQ_RESOLVE:
        reply->status = status_of(request->resolve.address, false);
        break;
    case SP_REQ_BODY_PUT:
        reply->status = fake->put;
        if (fake->put == SP_OK)
            reply->body = request->body.body ? request->body.body : ++fake->bodies;
        break;
    case SP_REQ_DELIVER:
        reply->status = fake->deliver;
        reply->recipients = sp_arena_array(&reply->arena, request->deliver.recipients_count,
                                           sizeof *reply->recipients);
        assert_non_null(reply->recipients);
        deliver(request, reply);
        break;
    default:
        break;
    }
    return reply;
}

/* Content as text on one line; long content by its length. */
static void describe_bytes(struct sp_slice bytes, struct sp_buf *log)
{
    sp_buf_addf(log, "%zu:", bytes.len);
    for (size_t i = 0; i < bytes.len && bytes.len <= SHOWN_CONTENT; i++) {
        uint8_t c = bytes.ptr[i];
        if (c == '\r')
            sp_buf_add_str(log, "\\r");
        else if (c == '\n')
            sp_buf_add_str(log, "\\n");
        else if (c == '\0')
            sp_buf_add_str(log, "\\0");
        else
            sp_buf_add_byte(log, c);
    }
}

void fake_describe(void *user, const struct sp_request *request, struct sp_buf *log)
{
    assert_int_equal(request->session, 0x1122334455667788U);
    switch (request->type) {
    case SP_REQ_RESOLVE:
        sp_buf_add_str(log, "resolve ");
        sp_buf_add(log, request->resolve.address);
        break;
    case SP_REQ_BODY_PUT:
        sp_buf_addf(log, "put %" PRIu64 " ", request->body.body);
        describe_bytes(request->body.bytes, log);
        break;
    case SP_REQ_BODY_DROP:
        sp_buf_addf(log, "drop %" PRIu64, request->body.body);
        break;
    case SP_REQ_DELIVER:
        sp_buf_add_str(log, "deliver ");
        if (request->deliver.message.body)
            sp_buf_addf(log, "%" PRIu64 "+", request->deliver.message.body);
        describe_bytes(request->deliver.message.bytes, log);
        sp_buf_add_str(log, " <");
        sp_buf_add(log, request->deliver.sender);
        sp_buf_add_byte(log, '>');
        for (uint32_t i = 0; i < request->deliver.recipients_count && i < 5; i++) {
            sp_buf_add_byte(log, ' ');
            sp_buf_add(log, request->deliver.recipients[i]);
        }
        sp_buf_addf(log, " (%" PRIu32 ")", request->deliver.recipients_count);
        break;
    default:
        fail();
    }
}

void fake_hook(void *user, struct sp_slice name)
{
    struct fake *fake = user;
    if (sp_slice_eq(name, SP_S("put-io")))
        fake->put = SP_IO;
    else if (sp_slice_eq(name, SP_S("put-no-space")))
        fake->put = SP_NO_SPACE;
    else if (sp_slice_eq(name, SP_S("put-limit")))
        fake->put = SP_LIMIT;
    else if (sp_slice_eq(name, SP_S("deliver-limit")))
        fake->deliver = SP_LIMIT;
    else if (sp_slice_eq(name, SP_S("deliver-unavailable")))
        fake->deliver = SP_UNAVAILABLE;
    else if (sp_slice_eq(name, SP_S("deliver-no-space")))
        fake->deliver = SP_NO_SPACE;
    else
        fail();
}

struct fake fake_make(enum sp_smtp_flavour flavour)
{
    return (struct fake){
        .env = {.hostname = "mx.example.org",
                .software = "Sternpost 0.1",
                .tls_available = true,
                .message_bytes_max = FAKE_MESSAGE_MAX,
                .wall_ns = fixed_wall_ns},
        .flavour = flavour,
    };
}
