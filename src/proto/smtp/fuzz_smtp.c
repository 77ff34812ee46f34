/* Fuzzes an SMTP or LMTP session together with its driver and a mail that answers as it likes.
 *
 * Input: two octets of options, then what the client sends. An octet 0xfe or 0xff in it is not
 * sent: with the octet that follows it says what happens there (a pause between two reads, time
 * passing, replies given or held back, the end of input, ...). The client may thus not send these
 * two, which no protocol needs: they are no UTF-8, and content is checked by the unit tests. */
#include "base/buf.h"
#include "base/log.h"
#include "proto/smtp/smtp.h"

#include <ctype.h>
#include <stdlib.h>

#define HELD_MAX    4U
#define BODIES_MAX  8U
#define OUTPUT_MAX  (64U << 20)
#define ROUNDS_MAX  1000000U
#define MESSAGE_MAX 300000U

struct driver {
    const struct sp_session_ops *ops;
    void *session;
    uint64_t now_ms;
    bool lmtp, hold;
    uint8_t mood; /* what mail answers next: a simple generator, seeded by the input */
    struct sp_request *held[HELD_MAX];
    size_t held_count;
    bool bodies[BODIES_MAX]; /* handles that are neither dropped nor delivered, but for [0] */
    uint32_t stored;         /* recipients that were told SP_OK */
    uint32_t deliveries;     /* messages for which some were */
    uint32_t said_stored;    /* replies that say so */
    struct sp_buf output;
    size_t checked;
    bool in_list; /* after `250-` */
};

static uint64_t wall_ns(void)
{
    return 1764000000000000000U;
}

static enum sp_status next_status(struct driver *d)
{
    static const enum sp_status statuses[] = {SP_OK,        SP_OK,      SP_OK,       SP_OK,
                                              SP_NOT_FOUND, SP_DENIED,  SP_NO_SPACE, SP_UNAVAILABLE,
                                              SP_IO,        SP_INVALID, SP_LIMIT,    SP_OK};
    if (!d->mood)
        return SP_OK;
    d->mood = (uint8_t)(d->mood * 5 + 3);
    return statuses[(d->mood >> 3) % (sizeof statuses / sizeof *statuses)];
}

/* ---- Mail ---- */

static void check_stored(const struct sp_request *request)
{
    static const char start[] = "Return-Path: <";
    struct sp_slice bytes = request->deliver.message.bytes;
    sp_assert(request->deliver.recipients_count > 0);
    sp_assert(request->deliver.recipients_count <= SP_RECIPIENTS_MAX);
    sp_assert(request->deliver.sender.len <= SP_ADDRESS_MAX);
    sp_assert(bytes.len <= SP_BODY_PIECE_MAX);
    if (!request->deliver.message.body)
        sp_assert(sp_slice_starts_nocase(bytes, sp_slice(start, sizeof start - 1)));
    /* No CR or LF alone: within one piece it can be seen. */
    for (size_t i = 0; i < bytes.len; i++) {
        if (bytes.ptr[i] == '\n')
            sp_assert(i == 0 || bytes.ptr[i - 1] == '\r');
        if (bytes.ptr[i] == '\r')
            sp_assert(i + 1 < bytes.len && bytes.ptr[i + 1] == '\n');
    }
}

static void answer_put(struct driver *d, const struct sp_request *request, struct sp_reply *reply)
{
    uint64_t body = request->body.body;
    sp_assert(request->body.bytes.len == SP_BODY_PIECE_MAX);
    sp_assert(body < BODIES_MAX && (!body || d->bodies[body]));
    for (uint64_t i = 1; !body && i < BODIES_MAX; i++)
        if (!d->bodies[i])
            body = i;
    sp_assert(body); /* otherwise the session forgets its bodies */
    reply->status = next_status(d);
    if (reply->status)
        return;
    d->bodies[body] = true;
    reply->body = body;
}

static void answer_deliver(struct driver *d, const struct sp_request *request,
                           struct sp_reply *reply)
{
    uint64_t body = request->deliver.message.body;
    uint32_t count = request->deliver.recipients_count, good = 0;
    check_stored(request);
    sp_assert(body < BODIES_MAX && (!body || d->bodies[body]));
    reply->status = next_status(d);
    if (reply->status)
        return;
    d->bodies[body] = false;
    reply->recipients = sp_arena_array(&reply->arena, count, sizeof *reply->recipients);
    sp_assert(reply->recipients);
    for (uint32_t i = 0; i < count; i++)
        good += (reply->recipients[i] = next_status(d)) == SP_OK;
    /* All or none, when that is asked. */
    sp_assert(request->deliver.all == !d->lmtp);
    for (uint32_t i = 0; request->deliver.all && good < count && i < count; i++)
        if (reply->recipients[i] == SP_OK)
            reply->recipients[i] = SP_UNAVAILABLE;
    if (request->deliver.all && good < count)
        good = 0;
    d->stored += good;
    d->deliveries += good > 0;
}

static void answer(struct driver *d, struct sp_request *request)
{
    struct sp_reply *reply = sp_reply_new(request);
    sp_assert(reply);
    switch (request->type) {
    case SP_REQ_RESOLVE:
        sp_assert(request->resolve.address.len <= SP_ADDRESS_MAX);
        sp_assert(sp_slice_find(request->resolve.address, '@') != SIZE_MAX);
        reply->status = next_status(d);
        break;
    case SP_REQ_BODY_PUT:
        answer_put(d, request, reply);
        break;
    case SP_REQ_BODY_DROP:
        sp_assert(request->body.body && request->body.body < BODIES_MAX);
        sp_assert(d->bodies[request->body.body]);
        d->bodies[request->body.body] = false;
        break;
    case SP_REQ_DELIVER:
        answer_deliver(d, request, reply);
        break;
    default:
        sp_assert(false);
    }
    sp_request_free(request);
    d->ops->complete(d->session, reply, d->now_ms);
    sp_reply_free(reply);
}

/* ---- Output ---- */

static void check_line(struct driver *d, struct sp_slice line)
{
    static const char stored[] = "250 2.0.0 Ok: stored as ";
    sp_assert(line.len >= 6 && line.len <= 512);
    sp_assert(line.ptr[line.len - 2] == '\r');
    for (size_t i = 0; i < line.len - 2; i++)
        sp_assert(line.ptr[i] >= ' ' && line.ptr[i] < 127);
    sp_assert(line.ptr[0] >= '2' && line.ptr[0] <= '5');
    sp_assert(isdigit(line.ptr[1]) && isdigit(line.ptr[2]));
    sp_assert(line.ptr[3] == ' ' || line.ptr[3] == '-');
    bool list = d->in_list || line.ptr[3] == '-';
    d->in_list = line.ptr[3] == '-';
    /* RFC 2034: a code in all but the greetings and 354. */
    bool greeting = !d->checked || list || sp_slice_starts_nocase(line, SP_S("250 mx."));
    if (!greeting && line.ptr[0] != '3')
        sp_assert(line.ptr[4] == line.ptr[0] && line.ptr[5] == '.');
    if (sp_slice_starts_nocase(line, sp_slice(stored, sizeof stored - 1)))
        d->said_stored++;
    sp_assert(d->said_stored <= (d->lmtp ? d->stored : d->deliveries));
}

static void check_output(struct driver *d)
{
    for (;;) {
        struct sp_slice rest = sp_slice_from(sp_buf_slice(&d->output), d->checked);
        size_t lf = sp_slice_find(rest, '\n');
        if (lf == SIZE_MAX)
            break;
        check_line(d, sp_slice_sub(rest, 0, lf + 1));
        d->checked += lf + 1;
    }
    if (d->checked > 1 << 16) {
        sp_buf_consume(&d->output, d->checked - 1);
        d->checked = 1; /* not 0: the greeting is long past */
    }
}

/* ---- The driver ---- */

static void pump(struct driver *d)
{
    for (unsigned rounds = 0;; rounds++) {
        bool moved = false;
        struct sp_request *request = d->ops->next(d->session);
        sp_assert(rounds < ROUNDS_MAX);
        if (request) {
            moved = true;
            if (d->hold) {
                sp_assert(d->held_count < HELD_MAX);
                d->held[d->held_count++] = request;
            } else {
                answer(d, request);
            }
        }
        struct sp_slice bytes = d->ops->send_buf(d->session);
        sp_assert(!(d->ops->want(d->session) & SP_WANT_WRITE) == !bytes.len);
        bytes = d->ops->send_buf(d->session);
        if (bytes.len) {
            size_t n = d->mood & 1 ? (bytes.len + 1) / 2 : bytes.len;
            sp_buf_add(&d->output, sp_slice(bytes.ptr, n));
            sp_assert(!sp_buf_failed(&d->output));
            d->ops->send_ack(d->session, n, d->now_ms);
            moved = true;
        }
        check_output(d);
        if (!moved)
            return;
    }
}

static void release(struct driver *d)
{
    d->hold = false;
    for (size_t i = 0; i < d->held_count; i++)
        answer(d, d->held[i]);
    d->held_count = 0;
    pump(d);
}

static void send_bytes(struct driver *d, const uint8_t *bytes, size_t len)
{
    while (len) {
        unsigned want = d->ops->want(d->session);
        struct sp_slice_mut room = d->ops->recv_buf(d->session);
        sp_assert(!room.len || room.ptr);
        sp_assert(!(want & SP_WANT_READ) == !room.len);
        if (!room.len && d->held_count) {
            release(d);
            continue;
        }
        if (!room.len)
            return;
        size_t n = len < room.len ? len : room.len;
        memcpy(room.ptr, bytes, n);
        d->ops->recv_ack(d->session, n, d->now_ms);
        pump(d);
        bytes += n;
        len -= n;
    }
}

static void send_many(struct driver *d, uint8_t byte, size_t count)
{
    uint8_t block[4096];
    memset(block, byte, sizeof block);
    for (; count; count -= count < sizeof block ? count : sizeof block)
        send_bytes(d, block, count < sizeof block ? count : sizeof block);
}

static void event(struct driver *d, uint8_t what)
{
    switch (what & 15) {
    case 0:
    case 1:
        d->hold = d->held_count < HELD_MAX - 1;
        break;
    case 2:
    case 3:
        release(d);
        break;
    case 4:
        d->now_ms += (uint64_t)(what >> 4) * 60000;
        if (d->ops->deadline_ms(d->session) <= d->now_ms)
            d->ops->tick(d->session, d->now_ms);
        break;
    case 5:
        d->ops->recv_eof(d->session, d->now_ms);
        break;
    case 6:
        if (what >> 4 == 15)
            d->ops->shutdown(d->session, d->now_ms);
        break;
    case 7:
    case 8:
        if (d->ops->want(d->session) == SP_WANT_TLS)
            d->ops->tls_done(d->session, d->now_ms);
        break;
    case 9:
        d->mood = (uint8_t)(what >> 4);
        break;
    case 10:
        send_many(d, 'x', (size_t)(what >> 4) * 20000);
        break;
    case 11:
        send_many(d, '\n', (size_t)(what >> 4) * 100);
        break;
    default:
        d->ops->notify(d->session, d->now_ms);
        break;
    }
    pump(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct sp_session_env plain = {.hostname = "mx.example.org",
                                                .software = "Sternpost",
                                                .message_bytes_max = MESSAGE_MAX,
                                                .wall_ns = wall_ns};
    if (size < 2)
        return 0;
    sp_log_set_level(SP_LOG_ERROR);
    struct sp_session_env env = plain;
    env.tls_available = data[0] & 2;
    struct sp_session_peer peer = {.id = 1, .address = "192.0.2.1", .tls = data[0] & 4};
    struct driver d = {.lmtp = data[0] & 1, .now_ms = 1000, .mood = data[1]};
    d.ops = d.lmtp ? &sp_lmtp_ops : &sp_smtp_ops;
    sp_buf_init(&d.output, OUTPUT_MAX);
    d.session = sp_smtp_new(d.lmtp ? SP_LMTP : SP_SMTP_MX, &env, &peer, d.now_ms);
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
    d.ops->recv_eof(d.session, d.now_ms);
    pump(&d);
    release(&d);
    sp_assert(d.ops->want(d.session) & (SP_WANT_CLOSE | SP_WANT_TLS));
    for (size_t i = 1; i < BODIES_MAX; i++)
        sp_assert(!d.bodies[i]); /* each was dropped or delivered */
    d.ops->free(d.session);
    sp_buf_release(&d.output);
    return 0;
}
