/* Fuzzes a POP3 session together with its driver and a mail that answers as it likes.
 *
 * Input: two octets of options, then what the client sends. An octet 0xfe or 0xff in it is not
 * sent: with the octet that follows it says what happens there. Checked: answers are lines that end
 * in CRLF; memory and requests are as pop3.h promises; nothing is expunged but at QUIT, and nothing
 * that was not marked. */
#include "base/buf.h"
#include "base/log.h"
#include "proto/pop3/pop3.h"

#include <stdlib.h>

#define OUTPUT_MAX (64U << 20)
#define ROUNDS_MAX 1000000U
#define MESSAGES   5U

struct driver {
    void *session;
    uint64_t now_ms;
    bool hold, locked, expunged;
    uint8_t mood; /* what mail answers next: a simple generator, seeded by the input */
    struct sp_request *held;
    struct sp_buf output;
};

static const char text[] = "Subject: x\r\n\r\n.a\r\n..\nb\r\r\n.\r\n";

static uint64_t wall_ns(void)
{
    return 1764000000000000000U;
}

static enum sp_status next_status(struct driver *d)
{
    static const enum sp_status statuses[] = {SP_OK,     SP_OK, SP_OK,      SP_OK,
                                              SP_DENIED, SP_IO, SP_CORRUPT, SP_UNAVAILABLE};
    if (!d->mood)
        return SP_OK;
    d->mood = (uint8_t)(d->mood * 5 + 3);
    return statuses[(d->mood >> 3) % (sizeof statuses / sizeof *statuses)];
}

static size_t size_of(uint32_t uid)
{
    return uid == MESSAGES ? 3U * SP_SECTION_PIECE_MAX + 17 : sizeof text - 1 - uid;
}

static void add_row(struct driver *d, const struct sp_request *request, struct sp_reply *reply,
                    uint32_t uid)
{
    struct sp_row *row = &reply->rows[reply->rows_count++];
    uint32_t count = request->fetch.sections_count;
    *row = (struct sp_row){.uid = uid, .size = size_of(uid)};
    row->sections = sp_arena_array(&reply->arena, count, sizeof *row->sections);
    for (uint32_t i = 0; i < count; i++) {
        const struct sp_section *section = &request->fetch.sections[i];
        uint64_t left = section->offset < row->size ? row->size - section->offset : 0;
        size_t len = left < section->length ? left : section->length;
        char *bytes = sp_arena_alloc(&reply->arena, len + 1);
        sp_assert(row->sections && bytes && section->length <= SP_SECTION_PIECE_MAX);
        for (size_t k = 0; k < len; k++)
            bytes[k] = text[(section->offset + k) % (sizeof text - 1)];
        row->sections[i] = (struct sp_fetch_section){
            .status = d->mood & 64 && i ? SP_CORRUPT : SP_OK, .size = len, .bytes = {NULL, len}};
        row->sections[i].bytes.ptr = (const uint8_t *)bytes;
    }
}

static void answer_fetch(struct driver *d, const struct sp_request *request, struct sp_reply *reply)
{
    sp_assert(request->ranges.count == 1 && d->locked);
    reply->rows = sp_arena_array(&reply->arena, MESSAGES, sizeof *reply->rows);
    sp_assert(reply->rows);
    for (uint32_t uid = 1; uid <= MESSAGES; uid++) {
        if (uid < request->ranges.ptr[0].first || uid > request->ranges.ptr[0].last)
            continue;
        if (reply->rows_count == 2) {
            reply->more = true;
            return;
        }
        if (!(d->mood & 32) || request->fetch.sections_count == 0)
            add_row(d, request, reply, uid);
    }
}

static void answer(struct driver *d, struct sp_request *request)
{
    struct sp_reply *reply = sp_reply_new(request);
    sp_assert(reply);
    reply->status = next_status(d);
    reply->text = SP_S("because");
    switch (request->type) {
    case SP_REQ_SCRAM:
    case SP_REQ_AUTHENTICATE:
        sp_assert(!d->locked);
        reply->sasl = SP_S("r=x,s=eA==,i=4096");
        break;
    case SP_REQ_MAILDROP:
        if (request->maildrop.hold && reply->status == SP_OK)
            d->locked = true;
        if (!request->maildrop.hold)
            d->locked = false;
        break;
    case SP_REQ_MAILBOX_OPEN:
        sp_assert(d->locked);
        reply->mailboxes = sp_arena_alloc(&reply->arena, sizeof *reply->mailboxes);
        sp_assert(reply->mailboxes);
        reply->mailboxes_count = reply->status == SP_OK;
        break;
    case SP_REQ_FETCH:
        answer_fetch(d, request, reply);
        break;
    case SP_REQ_EXPUNGE:
        sp_assert(d->locked && !d->expunged && request->ranges.count);
        d->expunged = true;
        break;
    case SP_REQ_STORE:
        sp_assert(d->locked && request->ranges.count);
        break;
    default:
        sp_assert(false);
    }
    sp_request_free(request);
    sp_pop3_ops.complete(d->session, reply, d->now_ms);
    sp_reply_free(reply);
}

/* ---- The driver ---- */

static void pump(struct driver *d)
{
    for (unsigned rounds = 0;; rounds++) {
        bool moved = false;
        struct sp_request *request = sp_pop3_ops.next(d->session);
        sp_assert(rounds < ROUNDS_MAX);
        if (request && d->hold) {
            sp_assert(!d->held); /* one at a time */
            d->held = request;
            moved = true;
        } else if (request) {
            answer(d, request);
            moved = true;
        }
        bool wants = sp_pop3_ops.want(d->session) & SP_WANT_WRITE;
        struct sp_slice bytes = sp_pop3_ops.send_buf(d->session);
        sp_assert(wants == (bytes.len > 0));
        sp_assert(bytes.len < SP_POP3_OUTPUT_PAUSE + 4U * SP_FETCH_REPLY_BYTES);
        if (bytes.len) {
            size_t n = d->mood & 1 ? (bytes.len + 1) / 2 : bytes.len;
            sp_buf_add(&d->output, sp_slice(bytes.ptr, n));
            sp_assert(!sp_buf_failed(&d->output));
            sp_pop3_ops.send_ack(d->session, n, d->now_ms);
            moved = true;
        }
        if (!moved)
            break;
    }
    /* Every LF that we send ends a line as it should. */
    struct sp_slice all = sp_buf_slice(&d->output);
    for (size_t i = 1; i < all.len; i++)
        sp_assert(all.ptr[i] != '\n' || all.ptr[i - 1] == '\r');
    if (all.len > 1)
        sp_buf_consume(&d->output, all.len - 1);
}

static void release(struct driver *d)
{
    struct sp_request *request = d->held;
    d->hold = false;
    d->held = NULL;
    if (request)
        answer(d, request);
    pump(d);
}

static void send_bytes(struct driver *d, const uint8_t *bytes, size_t len)
{
    while (len) {
        bool wants = sp_pop3_ops.want(d->session) & SP_WANT_READ;
        struct sp_slice_mut room = sp_pop3_ops.recv_buf(d->session);
        sp_assert(wants == (room.len > 0) && (!room.len || room.ptr));
        if (!room.len && d->held) {
            release(d);
            continue;
        }
        if (!room.len)
            return;
        size_t n = len < room.len ? len : room.len;
        memcpy(room.ptr, bytes, n);
        sp_pop3_ops.recv_ack(d->session, n, d->now_ms);
        pump(d);
        bytes += n;
        len -= n;
    }
}

static void event(struct driver *d, uint8_t what)
{
    switch (what & 7) {
    case 0:
        d->hold = !d->held;
        break;
    case 1:
        release(d);
        break;
    case 2:
        d->now_ms += (uint64_t)(what >> 4) * 60000;
        if (sp_pop3_ops.deadline_ms(d->session) <= d->now_ms)
            sp_pop3_ops.tick(d->session, d->now_ms);
        break;
    case 3:
        sp_pop3_ops.recv_eof(d->session, d->now_ms);
        break;
    case 4:
        if (what >> 4 == 15)
            sp_pop3_ops.shutdown(d->session, d->now_ms);
        break;
    case 5:
        if (sp_pop3_ops.want(d->session) == SP_WANT_TLS)
            sp_pop3_ops.tls_done(d->session, d->now_ms);
        break;
    case 6:
        d->mood = (uint8_t)(what >> 3);
        break;
    default:
        for (unsigned i = 0; i < (unsigned)(what >> 4) * 300; i++)
            send_bytes(d, (const uint8_t *)"x", 1);
        break;
    }
    pump(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct sp_session_env plain = {
        .hostname = "pop.example.org", .software = "Sternpost", .wall_ns = wall_ns};
    if (size < 2)
        return 0;
    sp_log_set_level(SP_LOG_ERROR);
    struct sp_session_env env = plain;
    env.tls_available = data[0] & 2;
    struct sp_session_peer peer = {
        .id = 1, .address = "192.0.2.1", .tls = data[0] & 4, .cleartext_ok = data[0] & 1};
    struct driver d = {.now_ms = 1000, .mood = data[1]};
    sp_buf_init(&d.output, OUTPUT_MAX);
    d.session = sp_pop3_new(&env, &peer, d.now_ms);
    sp_assert(d.session);
    pump(&d);
    size_t from = 2, at = 2;
    for (; at < size; at++) {
        if (data[at] < 0xfe)
            continue;
        send_bytes(&d, data + from, at - from);
        if (++at < size)
            event(&d, data[at]);
        from = at + 1;
    }
    if (from < size)
        send_bytes(&d, data + from, size - from);
    release(&d);
    sp_pop3_ops.recv_eof(d.session, d.now_ms);
    pump(&d);
    sp_assert(sp_pop3_ops.want(d.session) & (SP_WANT_CLOSE | SP_WANT_TLS));
    sp_pop3_ops.free(d.session);
    sp_buf_release(&d.output);
    return 0;
}
