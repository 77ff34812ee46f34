/* APPEND (RFC 3501, 6.3.11; RFC 3502; RFC 4315), and REPLACE (RFC 8508), which is one that takes a
 * message away in the same commit.
 *
 * The bytes of a message go through one buffer of SP_BODY_PIECE_MAX: when it is full and more is to
 * come it is handed to `mail` as a piece of a body, so that what a session holds does not grow with
 * the message. What is left in it at the end travels with the APPEND itself; of several messages
 * only the last one's bytes do.
 *
 * When something is wrong with a message and its literal cannot be stopped (RFC 7888), the rest of
 * the command is read and thrown away, so that what follows it is understood; then comes the
 * refusal. */
#include "proto/imap/state.h"

#include "proto/imap/respond.h"

#include <inttypes.h>
#include <stdlib.h>

#define LINE_MAX_BYTES 8192U /* between two messages */

struct sp_imap_append {
    struct sp_slice name;
    struct sp_append *messages; /* in the command's arena, like the name */
    uint32_t count, capacity;
    uint32_t replaces; /* a UID of the selected mailbox; 0: none */
    bool in_literal;
    bool in_utf8;        /* the message stands in UTF8 (...): a parenthesis follows it */
    bool binary;         /* it is a literal8, and may hold NUL */
    uint64_t left;       /* bytes of the literal that are still to come */
    uint64_t body;       /* of the message that is read: what was put of it; 0: nothing */
    struct sp_buf piece; /* the rest */
    bool swallow;        /* something is wrong: nothing is kept any more */
    bool stalled;        /* for a reply, with input that cannot be taken */
    const char *error;   /* what: a response of ours, or else */
    enum sp_status refusal;
    struct sp_slice refusal_text;
};

void sp_imap_append_free(struct sp_imap *s)
{
    struct sp_imap_append *a = s->append;
    if (!a)
        return;
    for (uint32_t i = 0; i < a->count; i++)
        sp_imap_drop_body(s, a->messages[i].message.body);
    sp_imap_drop_body(s, a->body);
    sp_buf_release(&a->piece);
    free(a);
    s->append = NULL;
}

/* ---- Refusals ---- */

static void refuse(struct sp_imap *s)
{
    struct sp_imap_append *a = s->append;
    s->phase = SP_IMAP_RUNNING;
    if (a->error && strncmp(a->error, "NO ", 3) == 0) {
        sp_imap_finish(s, a->error);
    } else if (a->error) {
        sp_imap_bad(s, a->error);
    } else {
        struct sp_reply reply = {.status = a->refusal, .text = a->refusal_text};
        sp_imap_refuse(s, &reply, "TRYCREATE");
    }
}

static void swallow(struct sp_imap_append *a)
{
    a->swallow = true;
    sp_buf_release(&a->piece);
}

static void wrong(struct sp_imap_append *a, const char *error)
{
    if (!a->swallow)
        a->error = error;
    swallow(a);
}

/* ---- To mail ---- */

static void on_put(struct sp_imap *s, const struct sp_reply *reply)
{
    struct sp_imap_append *a = s->append;
    if (reply->status == SP_OK) {
        a->body = reply->body;
    } else if (!a->swallow) {
        a->refusal = reply->status;
        a->refusal_text = sp_arena_copy(&s->arena, reply->text);
        if (!a->refusal_text.ptr)
            a->refusal_text.len = 0;
        swallow(a);
    }
}

static void put_piece(struct sp_imap *s)
{
    struct sp_imap_append *a = s->append;
    struct sp_request *request = sp_imap_request_new(s, SP_REQ_BODY_PUT);
    if (request) {
        request->body.body = a->body;
        request->body.bytes = sp_arena_copy(&request->arena, sp_buf_slice(&a->piece));
    }
    if (!request || !request->body.bytes.ptr) {
        sp_request_free(request);
        wrong(a, "NO [UNAVAILABLE] Out of memory");
        return;
    }
    sp_buf_reset(&a->piece);
    sp_imap_submit(s, request, on_put);
}

/* RFC 8508, 3.4: the new message's UID first, then that the old one is gone, which is news like any
 * other. */
static void on_replaced(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->missing) {
        s->selected->news = true;
        sp_imap_finish(s, "NO [EXPUNGEISSUED] The message no longer exists");
        return;
    }
    sp_buf_addf(&s->out, "* OK [APPENDUID %" PRIu32 " ", reply->uidvalidity);
    sp_imap_add_ranges(&s->out, reply->new_ranges);
    sp_buf_add(&s->out, SP_S("] Replacement message ready\r\n"));
    s->selected->news = true;
    sp_imap_finish_ok(s);
}

static void on_append(struct sp_imap *s, const struct sp_reply *reply)
{
    struct sp_imap_append *a = s->append;
    if (reply->status != SP_OK) {
        sp_imap_refuse(s, reply, "TRYCREATE");
        return;
    }
    a->count = 0; /* the bodies are the messages' now */
    if (a->replaces) {
        on_replaced(s, reply);
        return;
    }
    if (s->selected && sp_slice_eq(sp_slice(s->selected->name, s->selected->name_len), a->name))
        s->selected->news = true;
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add(final, SP_S("OK"));
    if (reply->new_ranges.count) {
        sp_buf_addf(final, " [APPENDUID %" PRIu32 " ", reply->uidvalidity);
        sp_imap_add_ranges(final, reply->new_ranges);
        sp_buf_add_byte(final, ']');
    }
    sp_imap_end_completed(s, final);
}

static bool copy_message(struct sp_arena *arena, struct sp_append *message)
{
    struct sp_slice *keywords =
        sp_arena_array(arena, message->flags.keywords_count, sizeof *keywords);
    struct sp_slice bytes = sp_arena_copy(arena, message->message.bytes);
    if (!keywords || (bytes.len && !bytes.ptr))
        return false;
    message->message.bytes = bytes;
    for (uint32_t i = 0; i < message->flags.keywords_count; i++) {
        keywords[i] = sp_arena_copy(arena, message->flags.keywords[i]);
        if (!keywords[i].ptr)
            return false;
    }
    message->flags.keywords = keywords;
    return true;
}

/* The last message is whole, and so is the command. */
static void submit(struct sp_imap *s)
{
    struct sp_imap_append *a = s->append;
    struct sp_append *last = &a->messages[a->count - 1];
    last->message = (struct sp_incoming){a->body, sp_buf_slice(&a->piece)};
    a->body = 0;
    s->phase = SP_IMAP_RUNNING;
    struct sp_request *request = sp_imap_request(s, SP_REQ_APPEND);
    if (!request)
        return;
    request->name = sp_arena_copy(&request->arena, a->name);
    struct sp_append *messages = sp_arena_array(&request->arena, a->count, sizeof *messages);
    bool copied = messages && request->name.ptr;
    for (uint32_t i = 0; copied && i < a->count; i++) {
        messages[i] = a->messages[i];
        copied = copy_message(&request->arena, &messages[i]);
    }
    if (!copied) {
        sp_imap_abandon(s, request);
        return;
    }
    request->append.messages = messages;
    request->append.messages_count = a->count;
    request->append.replaces = a->replaces;
    last->message.bytes = (struct sp_slice){0};
    sp_buf_release(&a->piece);
    sp_imap_submit(s, request, on_append);
}

/* ---- From the client ---- */

static bool add_message(struct sp_imap *s, const struct sp_append *message)
{
    struct sp_imap_append *a = s->append;
    if (a->count == a->capacity) {
        uint32_t capacity = a->capacity ? a->capacity * 2 : 1;
        struct sp_append *messages = sp_arena_array(&s->arena, capacity, sizeof *messages);
        if (!messages)
            return false;
        if (a->count)
            memcpy(messages, a->messages, a->count * sizeof *messages);
        a->messages = messages;
        a->capacity = capacity;
    }
    a->messages[a->count++] = *message;
    return true;
}

/* A literal was announced; message is what stood before it, NULL if that was wrong. */
static void begin_literal(struct sp_imap *s, const struct sp_append *message, uint64_t bytes,
                          bool binary, bool waits)
{
    struct sp_imap_append *a = s->append;
    uint64_t max = s->env->message_bytes_max;
    if (bytes > max)
        wrong(a, "NO [TOOBIG] Message is larger than this server takes");
    else if (bytes == 0)
        wrong(
            a,
            "NO [CANNOT] An empty message cannot be appended"); /* RFC 3502: how a client cancels */
    else if (s->command.verb == SP_IMAP_REPLACE && a->count)
        wrong(a, "REPLACE takes one message");
    else if (a->count == SP_IMAP_APPEND_MESSAGES_MAX)
        wrong(a, "NO [LIMIT] Too many messages in one command");
    else if (!a->swallow && !add_message(s, message))
        wrong(a, "NO [UNAVAILABLE] Out of memory");
    a->in_literal = true;
    a->binary = binary;
    a->left = bytes;
    if (!a->swallow) {
        if (waits)
            sp_buf_add(&s->out, SP_S("+ OK\r\n"));
    } else if (waits) {
        refuse(s); /* the client has not sent it yet, and now it will not */
    } else if (bytes > max && bytes - max > max) {
        sp_imap_bye(s, "[TOOBIG] Message is larger than this server takes");
    }
}

/* Which message is replaced: by now, before the literal is asked for. */
static void find_replaced(struct sp_imap *s)
{
    struct sp_imap_append *a = s->append;
    struct sp_uid_ranges uids;
    const char *error = NULL;
    if (!s->selected)
        wrong(a, "Select a mailbox first");
    else if (s->selected->read_only)
        wrong(a, "NO [NOPERM] The mailbox was opened read-only");
    else if (!sp_imap_resolve_set(s, s->command.append.replaced, !s->command.uid, &uids, &error))
        wrong(a, error ? error : "NO [UNAVAILABLE] Out of memory");
    else if (uids.count != 1 || !sp_imap_uidmap_seq(&s->selected->map, uids.ptr[0].first))
        wrong(a, "NO [NONEXISTENT] No such message");
    else
        a->replaces = uids.ptr[0].first;
}

void sp_imap_run_append(struct sp_imap *s, const struct sp_imap_extent *extent)
{
    struct sp_imap_parse p = {.arena = &s->arena, .utf8 = s->utf8};
    struct sp_imap_append *a = calloc(1, sizeof *a);
    bool parsed = sp_imap_parse_command(&p, extent->text, &s->command);
    if (!a) {
        sp_imap_bye(s, "[UNAVAILABLE] Out of memory");
        return;
    }
    s->append = a;
    sp_buf_init(&a->piece, SP_BODY_PIECE_MAX);
    if (!parsed)
        wrong(a, p.bad_name ? "NO [CANNOT] The name cannot be used" : p.error);
    else if (!s->command.append.name.len)
        wrong(a, "NO [CANNOT] A mailbox must have a name");
    else
        a->name = s->command.append.name; /* in the arena */
    a->in_utf8 = p.utf8_message;
    if (parsed && s->command.verb == SP_IMAP_REPLACE)
        find_replaced(s);
    sp_imap_read_on(s, SP_IMAP_APPENDING);
    begin_literal(s, parsed ? s->command.append.message : NULL, extent->literal, extent->binary,
                  extent->waits);
}

/* The last n bytes of the piece have come: none may be NUL (RFC 3501, 4.3.1 and 9: CHAR8) but in a
 * literal8 (RFC 3516, 4.4). */
static void check_bytes(struct sp_imap_append *a, size_t n)
{
    if (!a->binary && n && memchr(a->piece.ptr + a->piece.len - n, 0, n))
        wrong(a, "A literal cannot hold NUL");
}

/* Takes what is there of the literal. False: more input, or a reply, is needed. */
static bool read_literal(struct sp_imap *s)
{
    struct sp_imap_append *a = s->append;
    size_t n = s->in.len < a->left ? s->in.len : (size_t)a->left;
    if (!a->swallow) {
        size_t room = SP_BODY_PIECE_MAX - a->piece.len;
        n = n < room ? n : room;
        sp_buf_add(&a->piece, sp_slice(s->in.ptr, n));
        if (sp_buf_failed(&a->piece))
            wrong(a, "NO [UNAVAILABLE] Out of memory");
        else
            check_bytes(a, n);
    }
    sp_imap_consume(s, n);
    a->left -= n;
    if (!a->left) {
        a->in_literal = false;
        return true;
    }
    if (!a->swallow && a->piece.len == SP_BODY_PIECE_MAX) {
        a->stalled = s->handler != NULL;
        if (!a->stalled)
            put_piece(s);
    }
    return !a->stalled && s->in.len;
}

/* The line behind a message: the end, or another message. False as above. */
static bool read_line(struct sp_imap *s)
{
    struct sp_imap_append *a = s->append;
    struct sp_slice input = sp_buf_slice(&s->in);
    struct sp_append message;
    uint64_t bytes = 0;
    size_t start = 0, end = sp_slice_find(input, '\n');
    bool waits = false;
    if (end == SIZE_MAX) {
        if (input.len > LINE_MAX_BYTES)
            sp_imap_bye(s, "Line is too long");
        return false;
    }
    a->stalled = s->handler != NULL;
    if (a->stalled)
        return false;
    struct sp_slice line =
        sp_slice_sub(input, 0, end && input.ptr[end - 1] == '\r' ? end - 1 : end);
    bool announces = sp_imap_line_announces(line, &start, &bytes, &waits);
    bool binary = announces && line.ptr[start] == '~';
    if (announces && !a->swallow && a->piece.len) {
        put_piece(s);
        a->stalled = s->handler != NULL;
        return !a->stalled;
    }
    struct sp_imap_parse p = {.rest = sp_slice_sub(line, 0, announces ? start : line.len),
                              .arena = &s->arena,
                              .utf8 = s->utf8};
    bool closed = !a->in_utf8 || sp_imap_take(&p, ')'); /* RFC 6855, 4 */
    line = p.rest;
    bool parsed =
        closed && announces && sp_imap_take_space(&p) && sp_imap_parse_append_message(&p, &message);
    if (!closed || (announces ? !parsed : line.len > 0))
        wrong(a, p.error ? p.error : "Unexpected argument");
    a->in_utf8 = p.utf8_message;
    sp_imap_consume(s, end + 1);
    if (announces) {
        if (!a->swallow && a->count) {
            a->messages[a->count - 1].message.body = a->body;
            a->body = 0;
        }
        begin_literal(s, &message, bytes, binary, waits);
    } else if (a->swallow) {
        refuse(s);
    } else {
        submit(s);
    }
    return true;
}

void sp_imap_append_input(struct sp_imap *s)
{
    bool going = true;
    while (going && s->phase == SP_IMAP_APPENDING) {
        s->append->stalled = false;
        going = s->append->in_literal ? read_literal(s) : read_line(s);
    }
}

bool sp_imap_append_blocked(const struct sp_imap *s)
{
    return s->append->stalled;
}

struct sp_slice_mut sp_imap_append_room(struct sp_imap *s)
{
    struct sp_imap_append *a = s->append;
    if (!a->in_literal || a->swallow)
        return (struct sp_slice_mut){NULL, 0};
    size_t room = SP_BODY_PIECE_MAX - a->piece.len;
    if (room > a->left)
        room = (size_t)a->left;
    if (!sp_buf_reserve(&a->piece, room)) {
        wrong(a, "NO [UNAVAILABLE] Out of memory");
        room = 0;
    }
    return (struct sp_slice_mut){a->piece.ptr + a->piece.len, room};
}

void sp_imap_append_ack(struct sp_imap *s, size_t n)
{
    struct sp_imap_append *a = s->append;
    sp_assert(n <= a->left && n <= SP_BODY_PIECE_MAX - a->piece.len);
    a->piece.len += n;
    a->left -= n;
    check_bytes(a, n);
}
