#include "proto/smtp/internal.h"

#include "base/log.h"
#include "base/time.h"

#include <inttypes.h>
#include <stdlib.h>

#define PIECE_FIRST_BYTES 4096U

static const char our_trouble[] = "451 4.3.0 Trouble on our side, please try again later";
static const char no_space[] = "452 4.3.1 Out of space, please try again later";
static const char too_big[] = "552 5.3.4 Message is too big";
static const char bare_line_end[] =
    "550 5.6.11 Message refused: CR or LF alone, lines must end with CRLF";
static const char too_many_hops[] = "554 5.4.6 Too many Received fields, this is a mail loop";

/* ---- Beginning and end ---- */

bool smtp_transaction_begin(struct sp_smtp *s, const struct sp_smtp_path *sender, bool utf8,
                            uint64_t declared_bytes)
{
    sp_assert(!s->txn);
    struct smtp_transaction *txn = calloc(1, sizeof *txn);
    if (!txn)
        return false;
    sp_arena_init(&txn->arena, SP_SMTP_ADDRESSES_MAX);
    sp_buf_init(&txn->piece, SP_BODY_PIECE_MAX);
    txn->sender = sp_arena_copy(&txn->arena, sp_slice(sender->bytes, sender->len));
    txn->utf8 = utf8;
    txn->declared_bytes = declared_bytes;
    if (sender->len && !txn->sender.ptr) {
        free(txn);
        return false;
    }
    s->txn = txn;
    s->txns++;
    s->swallowed_bytes = 0;
    return true;
}

static void let_go(struct sp_smtp *s, uint64_t body)
{
    if (!body)
        return;
    sp_assert(!s->drop_body); /* next hands out a drop before the request that could make another */
    s->drop_body = body;
}

void smtp_transaction_abort(struct sp_smtp *s)
{
    struct smtp_transaction *txn = s->txn;
    if (!txn)
        return;
    if (s->wait == WAIT_PUT || s->wait == WAIT_DELIVER)
        s->orphan_body = txn->body; /* a drop must not overtake what is under way */
    else
        let_go(s, txn->body);
    sp_arena_release(&txn->arena);
    sp_buf_release(&txn->piece);
    free(txn->recipients);
    free(txn);
    s->txn = NULL;
}

static const char *failure_text(enum sp_status status)
{
    return status == SP_NO_SPACE ? no_space : status == SP_LIMIT ? too_big : our_trouble;
}

/* From here on nothing of the message is kept; its end gets this reply. The first reason stays. */
static void refuse(struct sp_smtp *s, const char *reply)
{
    struct smtp_transaction *txn = s->txn;
    if (txn->refusal)
        return;
    txn->refusal = reply;
    s->swallowed_bytes = 0;
    sp_buf_release(&txn->piece);
    if (s->wait == WAIT_PUT)
        return; /* its reply lets go of the body */
    let_go(s, txn->body);
    txn->body = 0;
}

/* ---- Recipients ---- */

static bool room_for_recipient(struct smtp_transaction *txn)
{
    if (txn->recipients_count < txn->recipients_room)
        return true;
    uint32_t room = txn->recipients_room ? txn->recipients_room * 2 : 4;
    struct sp_slice *grown = realloc(txn->recipients, room * sizeof *grown);
    if (!grown)
        return false;
    txn->recipients = grown;
    txn->recipients_room = room;
    return true;
}

/* The address as mail knows it: postmaster alone is ours (RFC 5321 4.5.1). */
static struct sp_slice full_address(struct sp_smtp *s, const struct sp_smtp_path *path)
{
    struct sp_arena *arena = &s->txn->arena;
    if (path->local_len < path->len)
        return sp_arena_copy(arena, sp_slice(path->bytes, path->len));
    size_t host_len = strlen(s->env->hostname);
    struct sp_slice address = {NULL, path->len + 1 + host_len};
    uint8_t *bytes = sp_arena_alloc(arena, address.len);
    if (bytes) {
        memcpy(bytes, path->bytes, path->len);
        bytes[path->len] = '@';
        memcpy(bytes + path->len + 1, s->env->hostname, host_len);
    }
    address.ptr = bytes;
    return address;
}

void smtp_transaction_recipient(struct sp_smtp *s, const struct sp_smtp_path *path)
{
    struct smtp_transaction *txn = s->txn;
    struct sp_request *request = NULL;
    txn->candidate = full_address(s, path);
    if (txn->candidate.ptr && room_for_recipient(txn))
        request = sp_request_new(SP_REQ_RESOLVE);
    if (request) {
        request->resolve.address = sp_arena_copy(&request->arena, txn->candidate);
        if (!request->resolve.address.ptr) {
            sp_request_free(request);
            request = NULL;
        }
    }
    if (!smtp_ask(s, WAIT_RESOLVE, request))
        smtp_reply(s, "%s", our_trouble);
}

void smtp_transaction_resolved(struct sp_smtp *s, const struct sp_reply *reply)
{
    struct smtp_transaction *txn = s->txn;
    const char *text = our_trouble;
    switch (reply->status) {
    case SP_OK:
        txn->recipients[txn->recipients_count++] = txn->candidate;
        smtp_reply(s, "250 2.1.5 Ok");
        return;
    case SP_NOT_FOUND:
        text = "550 5.1.1 No such user here";
        break;
    case SP_DENIED:
        text = "550 5.7.1 Relaying denied";
        break;
    case SP_INVALID:
        text = "553 5.1.3 Bad recipient address";
        break;
    case SP_NO_SPACE:
        text = no_space;
        break;
    case SP_LIMIT:
        text = too_big;
        break;
    default:
        break;
    }
    txn->refused_recipients = true;
    smtp_reply(s, "%s", text);
    /* A sender with many recipients does nothing wrong when some of them are to wait. */
    s->bad_recipients += text[0] == '5';
    s->idle_commands += text[0] == '5';
    if (s->bad_recipients >= SP_SMTP_BAD_RECIPIENTS_MAX)
        smtp_close(s, "421 4.7.0 Too many unknown recipients");
}

/* ---- Data ---- */

/* RFC 3848, and RFC 6531 4.3 for the UTF8 ones. */
static const char *protocol_name(const struct sp_smtp *s)
{
    static const char *const names[2][2][2] = {
        {{"ESMTP", "ESMTPS"}, {"UTF8SMTP", "UTF8SMTPS"}},
        {{"LMTP", "LMTPS"}, {"UTF8LMTP", "UTF8LMTPS"}},
    };
    if (!s->esmtp)
        return "SMTP";
    return names[smtp_is_lmtp(s)][s->txn->utf8][s->tls];
}

static void add_trace(struct sp_smtp *s)
{
    struct smtp_transaction *txn = s->txn;
    struct sp_buf *buf = &txn->piece;
    struct sp_civil t;
    sp_unix_to_civil((int64_t)(s->env->wall_ns() / 1000000000U), &t);
    sp_buf_add_str(buf, "Return-Path: <");
    sp_buf_add(buf, txn->sender);
    sp_buf_addf(buf, ">\r\nReceived: from %s ([%s])\r\n", s->helo, s->peer.address);
    sp_buf_addf(buf, "\tby %s (Sternpost) with %s id %016" PRIx64 "-%" PRIu32, s->env->hostname,
                protocol_name(s), s->peer.id, s->txns);
    if (txn->recipients_count == 1) {
        sp_buf_add_str(buf, "\r\n\tfor <");
        sp_buf_add(buf, txn->recipients[0]);
        sp_buf_add_byte(buf, '>');
    }
    sp_buf_addf(buf, ";\r\n\t%s, %d %s %04d %02d:%02d:%02d +0000\r\n", sp_weekday_names[t.weekday],
                t.day, sp_month_names[t.month - 1], t.year, t.hour, t.minute, t.second);
    sp_assert(buf->len + 2 <= SP_TRACE_BYTES_MAX); /* 2: see end_header */
}

bool smtp_transaction_text(struct sp_smtp *s, bool dots)
{
    struct smtp_transaction *txn = s->txn;
    uint64_t expected = txn->declared_bytes + PIECE_FIRST_BYTES;
    txn->begun = true;
    txn->text.dots = dots;
    if (!sp_buf_reserve(&txn->piece, expected < SP_BODY_PIECE_MAX ? expected : SP_BODY_PIECE_MAX))
        return false;
    add_trace(s);
    return !sp_buf_failed(&txn->piece);
}

static void put_piece(struct sp_smtp *s)
{
    struct smtp_transaction *txn = s->txn;
    struct sp_request *request = sp_request_new(SP_REQ_BODY_PUT);
    if (request) {
        request->body.body = txn->body;
        request->body.bytes = sp_arena_copy(&request->arena, sp_buf_slice(&txn->piece));
        if (!request->body.bytes.ptr) {
            sp_request_free(request);
            request = NULL;
        }
    }
    if (smtp_ask(s, WAIT_PUT, request))
        sp_buf_reset(&txn->piece);
    else
        refuse(s, our_trouble);
}

void smtp_transaction_put(struct sp_smtp *s, const struct sp_reply *reply)
{
    struct smtp_transaction *txn = s->txn;
    uint64_t body = txn ? txn->body : s->orphan_body;
    if (reply->status == SP_OK)
        body = reply->body;
    if (!txn || txn->refusal) {
        let_go(s, body);
        s->orphan_body = 0;
        if (txn)
            txn->body = 0;
        return;
    }
    txn->body = body;
    if (reply->status)
        refuse(s, failure_text(reply->status));
}

/* A message that begins with a blank has no header: its first line would continue our Received
 * field. An empty line ends ours. */
static void end_header(struct smtp_transaction *txn, size_t before)
{
    struct sp_buf *piece = &txn->piece;
    size_t len = piece->len - before;
    if (!sp_buf_extend(piece, 2)) /* no failure for want of room: the trace leaves the most of it */
        return;
    memmove(piece->ptr + before + 2, piece->ptr + before, len);
    memcpy(piece->ptr + before, "\r\n", 2);
    txn->hops.body = true;
}

/* Scans as much of the input as there is room for; 0 when there is none. */
static size_t take_text(struct sp_smtp *s, struct sp_slice input)
{
    struct smtp_transaction *txn = s->txn;
    struct sp_buf *piece = &txn->piece;
    if (!txn->refusal && piece->len == SP_BODY_PIECE_MAX) {
        if (s->wait != WAIT_NONE)
            return 0;
        put_piece(s);
    }
    if (txn->refusal) {
        size_t n = sp_smtp_text_scan(&txn->text, input, NULL);
        s->swallowed_bytes += n;
        return n;
    }
    size_t before = piece->len;
    input = sp_slice_sub(input, 0, SP_BODY_PIECE_MAX - before);
    size_t n = sp_smtp_text_scan(&txn->text, input, piece);
    struct sp_slice added = sp_slice_from(sp_buf_slice(piece), before);
    if (!txn->text_bytes && added.len && (added.ptr[0] == ' ' || added.ptr[0] == '\t')) {
        end_header(txn, before);
        added = sp_slice_from(sp_buf_slice(piece), before + 2);
    }
    txn->text_bytes += added.len;
    sp_smtp_hops_scan(&txn->hops, added);
    if (txn->text.bare)
        refuse(s, bare_line_end);
    else if (txn->text_bytes > s->env->message_bytes_max)
        refuse(s, too_big);
    else if (txn->hops.count > SP_SMTP_HOPS_MAX)
        refuse(s, too_many_hops);
    else if (sp_buf_failed(piece))
        refuse(s, our_trouble);
    return n;
}

/* A client that does not stop after a refusal hears of it before the end; and of the end, for which
 * there is only 421 (RFC 5321 3.8). */
static bool swallowed_too_much(struct sp_smtp *s, const char *refusal)
{
    if (s->swallowed_bytes <= s->env->message_bytes_max)
        return false;
    smtp_reply(s, "%s", refusal);
    smtp_close(s, "421 4.7.0 Too much data after a refusal");
    return true;
}

bool smtp_transaction_data(struct sp_smtp *s)
{
    struct smtp_transaction *txn = s->txn;
    struct sp_slice input = smtp_unread(s);
    size_t n = input.len ? take_text(s, input) : 0;
    s->in_at += n;
    if (txn->text.state == SP_SMTP_TEXT_END)
        s->mode = MODE_FINISH;
    else if (txn->refusal)
        swallowed_too_much(s, txn->refusal);
    return n > 0;
}

static size_t take_chunk(struct sp_smtp *s)
{
    struct sp_slice input = smtp_unread(s);
    if (s->chunk.left < input.len)
        input.len = (size_t)s->chunk.left;
    size_t n = input.len;
    if (s->chunk.refusal)
        s->swallowed_bytes += n;
    else if (n)
        n = take_text(s, input);
    s->in_at += n;
    s->chunk.left -= n;
    return n;
}

bool smtp_transaction_chunk(struct sp_smtp *s)
{
    size_t n = take_chunk(s);
    const char *refusal = s->chunk.refusal ? s->chunk.refusal : s->txn->refusal;
    if (refusal && swallowed_too_much(s, refusal))
        return true;
    if (s->chunk.left)
        return n > 0;
    if (!s->chunk.refusal && s->chunk.last && s->txn->text.state == SP_SMTP_TEXT_CR)
        refuse(s, bare_line_end);
    s->mode = MODE_FINISH;
    return true;
}

/* ---- The reply after the data ---- */

static void log_outcome(struct sp_smtp *s, const char *event, const char *reply)
{
    char sender[128], quoted[56];
    sp_log(SP_LOG_INFO, event,
           "session=%016" PRIx64 " txn=%" PRIu32 " bytes=%" PRIu64 " sender=%s recipients=%" PRIu32
           " reply=%s",
           s->peer.id, s->txns, s->txn->text_bytes,
           sp_log_quote(s->txn->sender, sender, sizeof sender), s->txn->recipients_count,
           sp_log_quote(sp_slice_str(reply), quoted, sizeof quoted));
}

/* The same for all recipients: once in SMTP, once for each in LMTP. */
static void refuse_all(struct sp_smtp *s, const char *text, bool each)
{
    log_outcome(s, "smtp.refused", text);
    for (uint32_t i = each && smtp_is_lmtp(s) ? s->txn->recipients_count : 1; i; i--)
        smtp_reply(s, "%s", text);
    s->idle_commands++;
    smtp_transaction_abort(s);
}

/* all: see reply_for_all. */
static struct sp_request *make_delivery(const struct smtp_transaction *txn, bool all)
{
    struct sp_request *request = sp_request_new(SP_REQ_DELIVER);
    if (!request)
        return NULL;
    struct sp_arena *arena = &request->arena;
    uint32_t count = txn->recipients_count;
    request->deliver.message.body = txn->body;
    request->deliver.message.bytes = sp_arena_copy(arena, sp_buf_slice(&txn->piece));
    request->deliver.sender = sp_arena_copy(arena, txn->sender);
    request->deliver.recipients = sp_arena_array(arena, count, sizeof *request->deliver.recipients);
    bool complete = request->deliver.recipients &&
                    (request->deliver.message.bytes.ptr || !txn->piece.len) &&
                    (request->deliver.sender.ptr || !txn->sender.len);
    for (uint32_t i = 0; i < count && complete; i++) {
        request->deliver.recipients[i] = sp_arena_copy(arena, txn->recipients[i]);
        complete = request->deliver.recipients[i].ptr;
    }
    request->deliver.recipients_count = count;
    request->deliver.all = all;
    if (complete)
        return request;
    sp_request_free(request);
    return NULL;
}

bool smtp_transaction_finish(struct sp_smtp *s)
{
    if (s->wait != WAIT_NONE)
        return false;
    struct smtp_chunk chunk = s->chunk;
    bool whole = !s->txn || s->txn->text.dots || chunk.last;
    if (chunk.refusal) {
        s->mode = MODE_COMMAND;
        s->chunk = (struct smtp_chunk){0};
        smtp_reply(s, "%s", chunk.refusal); /* no error of its own: the client sent ahead */
    } else if (s->txn->refusal) {
        s->mode = MODE_COMMAND;
        refuse_all(s, s->txn->refusal, whole);
    } else if (!whole) {
        s->mode = MODE_COMMAND;
        smtp_reply(s, "250 2.0.0 Ok");
    } else if (!smtp_ask(s, WAIT_DELIVER, make_delivery(s->txn, !smtp_is_lmtp(s)))) {
        s->mode = MODE_COMMAND;
        refuse_all(s, our_trouble, true);
    } else {
        sp_buf_release(&s->txn->piece);
    }
    return true;
}

static const char *recipient_text(enum sp_status status)
{
    switch (status) {
    case SP_NOT_FOUND:
        return "550 5.1.1 No such user here";
    case SP_DENIED:
        return "550 5.7.1 Relaying denied";
    default:
        return failure_text(status);
    }
}

static void reply_stored(struct sp_smtp *s)
{
    smtp_reply(s, "250 2.0.0 Ok: stored as %016" PRIx64 "-%" PRIu32, s->peer.id, s->txns);
}

/* SMTP's one reply, which must hold for all: so the request asked that all get the message or
 * nobody. Permanent only if all failures are. */
static void reply_for_all(struct sp_smtp *s, const enum sp_status *statuses)
{
    const char *text = NULL;
    uint32_t failures = 0;
    for (uint32_t i = 0; i < s->txn->recipients_count; i++) {
        const char *other = statuses[i] ? recipient_text(statuses[i]) : NULL;
        failures += other != NULL;
        if (other && (!text || other[0] == '4'))
            text = other;
    }
    sp_assert(!failures || failures == s->txn->recipients_count);
    if (text)
        smtp_reply(s, "%s", text);
    else
        reply_stored(s);
}

void smtp_transaction_delivered(struct sp_smtp *s, const struct sp_reply *reply)
{
    if (!s->txn) { /* the session ended before */
        if (reply->status)
            let_go(s, s->orphan_body);
        return;
    }
    s->mode = MODE_COMMAND;
    if (reply->status) {
        refuse_all(s, failure_text(reply->status), true);
        return;
    }
    sp_assert(reply->recipients);
    bool any = false;
    for (uint32_t i = 0; i < s->txn->recipients_count; i++)
        any = any || reply->recipients[i] == SP_OK;
    log_outcome(s, any ? "smtp.stored" : "smtp.refused",
                any ? "250" : recipient_text(reply->recipients[0]));
    if (!smtp_is_lmtp(s))
        reply_for_all(s, reply->recipients);
    for (uint32_t i = 0; smtp_is_lmtp(s) && i < s->txn->recipients_count; i++) {
        if (reply->recipients[i] == SP_OK)
            reply_stored(s);
        else
            smtp_reply(s, "%s", recipient_text(reply->recipients[i]));
    }
    s->idle_commands = 0;
    if (smtp_is_lmtp(s))
        s->bad_recipients = 0;
    s->txn->body = 0; /* mail's now */
    smtp_transaction_abort(s);
}
