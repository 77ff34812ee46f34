/* The session: bytes in, bytes out, and which command runs when. */
#include "proto/imap/state.h"

#include "proto/imap/respond.h"

#include <stdio.h>
#include <stdlib.h>

#define INPUT_BYTES 4096U /* of the first input buffer */
#define INPUT_BYTES_MAX                                                                            \
    (2U * SP_IMAP_COMMAND_MAX) /* a command at its limit, and what came with its last bytes */
#define CLOSE_MS 30000U        /* for a client to take the last of the output */

/* ---- Output ---- */

size_t sp_imap_unsent(const struct sp_imap *s)
{
    return s->out.len - s->sent;
}

static void drop_request(struct sp_imap *s)
{
    sp_request_free(s->ready);
    s->ready = NULL;
    s->handler = NULL;
}

static void drop_scram(struct sp_imap *s)
{
    sp_scram_free(s->scram);
    s->scram = NULL;
}

static void close_session(struct sp_imap *s)
{
    drop_request(s);
    sp_imap_fetch_release(s);
    sp_imap_append_free(s);
    drop_scram(s);
    sp_buf_release(&s->in);
    sp_buf_release(&s->final);
    s->phase = SP_IMAP_CLOSED;
}

void sp_imap_abort(struct sp_imap *s)
{
    close_session(s);
    sp_buf_release(&s->out);
    s->sent = 0;
}

static void send_final(struct sp_imap *s)
{
    sp_buf_add(&s->out, sp_buf_slice(&s->final));
    if (sp_buf_failed(&s->final))
        s->out.failed = true;
    sp_buf_release(&s->final);
}

void sp_imap_bye(struct sp_imap *s, const char *text)
{
    if (s->phase == SP_IMAP_CLOSED)
        return;
    if (!sp_imap_in_literal(s)) { /* where it would be taken for the literal */
        send_final(s);            /* what has been done must not be done again */
        sp_buf_add_str(&s->out, "* BYE ");
        sp_buf_add_str(&s->out, text);
        sp_buf_add_str(&s->out, "\r\n");
    }
    close_session(s);
}

/* ---- Requests ---- */

struct sp_request *sp_imap_request_new(const struct sp_imap *s, enum sp_request_type type)
{
    struct sp_request *request = sp_request_new(type);
    if (!request)
        return NULL;
    request->session = s->peer.id;
    request->account = s->account;
    if (s->selected)
        request->mailbox = s->selected->ref;
    return request;
}

struct sp_request *sp_imap_request(struct sp_imap *s, enum sp_request_type type)
{
    struct sp_request *request = sp_imap_request_new(s, type);
    if (!request)
        sp_imap_abandon(s, NULL);
    return request;
}

void sp_imap_submit(struct sp_imap *s, struct sp_request *request,
                    void (*handler)(struct sp_imap *s, const struct sp_reply *reply))
{
    sp_assert(!s->handler && !s->ready);
    request->op = ++s->op;
    s->ready = request;
    s->handler = handler;
}

void sp_imap_abandon(struct sp_imap *s, struct sp_request *request)
{
    sp_request_free(request);
    if (sp_imap_in_literal(s))
        sp_imap_bye(s, "");
    else
        sp_imap_finish(s, "NO [UNAVAILABLE] Out of memory");
}

void sp_imap_drop_body(struct sp_imap *s, uint64_t body)
{
    uint64_t *drops = body ? realloc(s->drops, (s->drops_count + 1) * sizeof *drops) : NULL;
    if (!drops)
        return; /* what belongs to a session goes with it at the latest */
    s->drops = drops;
    drops[s->drops_count++] = body;
}

static struct sp_request *next_request(void *session)
{
    struct sp_imap *s = session;
    struct sp_request *request = s->ready;
    if (!s->drops_count) {
        s->ready = NULL;
        return request;
    }
    request = sp_request_new(SP_REQ_BODY_DROP);
    uint64_t body = s->drops[--s->drops_count];
    if (!s->drops_count) {
        free(s->drops);
        s->drops = NULL;
    }
    if (request) {
        request->session = s->peer.id;
        request->account = s->account;
        request->body.body = body;
        request->op = 0; /* nobody waits for the reply */
    }
    return request;
}

/* ---- The end of a command ---- */

struct sp_buf *sp_imap_final(struct sp_imap *s)
{
    sp_buf_reset(&s->final);
    sp_buf_add(&s->final, s->command.tag.len ? s->command.tag : SP_S("*"));
    sp_buf_add_byte(&s->final, ' ');
    return &s->final;
}

void sp_imap_end(struct sp_imap *s)
{
    if (s->selected && s->phase != SP_IMAP_CLOSED)
        sp_imap_news(s);
    else
        sp_imap_conclude(s);
}

void sp_imap_finish(struct sp_imap *s, const char *response)
{
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add_str(final, response);
    sp_buf_add(final, SP_S("\r\n"));
    if (strncmp(response, "NO ", 3) == 0)
        sp_session_said_no(&s->peer, strncmp(response + 3, "[UNAVAILABLE]", 13) == 0);
    sp_imap_end(s);
}

void sp_imap_end_completed(struct sp_imap *s, struct sp_buf *final)
{
    sp_buf_add_str(final, s->command.uid ? " UID " : " ");
    sp_buf_add_str(final, sp_imap_verb_name(s->command.verb));
    sp_buf_add(final, SP_S(" completed\r\n"));
    sp_imap_end(s);
}

void sp_imap_finish_ok(struct sp_imap *s)
{
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add(final, SP_S("OK"));
    sp_imap_end_completed(s, final);
}

void sp_imap_bad(struct sp_imap *s, const char *why)
{
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add(final, SP_S("BAD "));
    sp_buf_add_str(final, why);
    sp_buf_add(final, SP_S("\r\n"));
    sp_session_said_no(&s->peer, false);
    unsigned max = s->authenticated ? SP_IMAP_BAD_MAX : SP_IMAP_BAD_PREAUTH_MAX;
    unsigned count = s->bad_count + 1;
    sp_imap_conclude(s);
    s->bad_count = count;
    if (count >= max)
        sp_imap_bye(s, "Too many bad commands");
}

void sp_imap_refuse(struct sp_imap *s, const struct sp_reply *reply, const char *not_found)
{
    static const struct {
        enum sp_status status;
        const char *code, *text;
    } table[] = {
        {SP_EXISTS, "ALREADYEXISTS", "There is such a mailbox already"},
        {SP_DENIED, "NOPERM", "Not permitted"},
        {SP_INVALID, "CANNOT", "The name or an argument cannot be used"},
        {SP_LIMIT, "LIMIT", "A limit was reached"},
        {SP_CONFLICT, "INUSE", "Something else changed it at the same time"},
    };
    const char *code = "UNAVAILABLE", *text = "Temporarily unavailable, please try again later";
    if (reply->status == SP_SHUTDOWN) {
        sp_imap_bye(s, "Server is shutting down");
        return;
    }
    if (reply->status == SP_NOT_FOUND) {
        code = not_found;
        text = "No such mailbox";
    }
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].status == reply->status) {
            code = table[i].code;
            text = table[i].text;
        }
    }
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add(final, SP_S("NO ["));
    sp_buf_add_str(final, code);
    sp_buf_add(final, SP_S("] "));
    sp_imap_add_text(final, reply->text.len ? reply->text : sp_slice_str(text));
    sp_buf_add(final, SP_S("\r\n"));
    sp_session_said_no(&s->peer, strcmp(code, "UNAVAILABLE") == 0);
    sp_imap_end(s);
}

void sp_imap_refuse_selected(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status == SP_CONFLICT || reply->status == SP_NOT_FOUND)
        sp_imap_bye(s, "The selected mailbox is no longer there");
    else
        sp_imap_refuse(s, reply, "NONEXISTENT");
}

/* Puts the code into the response: behind "tag OK". */
static void add_highest(struct sp_imap *s)
{
    struct sp_slice text = sp_buf_slice(&s->final);
    size_t at = s->command.tag.len + 3;
    char code[48];
    s->highest_due = false;
    if (sp_buf_failed(&s->final) || text.len < at || !s->selected->modseq)
        return;
    int n = snprintf(code, sizeof code, " [HIGHESTMODSEQ %llu]",
                     (unsigned long long)s->selected->modseq);
    if (!sp_buf_reserve(&s->final, (size_t)n))
        return;
    memmove(s->final.ptr + at + (size_t)n, s->final.ptr + at, s->final.len - at);
    memcpy(s->final.ptr + at, code, (size_t)n);
    s->final.len += (size_t)n;
}

static void wipe(uint8_t *bytes, size_t len)
{
    if (len)
        explicit_bzero(bytes, len);
}

void sp_imap_conclude(struct sp_imap *s)
{
    if (s->phase == SP_IMAP_CLOSED)
        return;
    if (s->highest_due && s->selected)
        add_highest(s);
    send_final(s);
    sp_imap_fetch_release(s);
    sp_imap_append_free(s);
    drop_scram(s);
    sp_arena_release(&s->arena);
    if (!s->authenticated || s->command.verb == SP_IMAP_LOGIN ||
        s->command.verb == SP_IMAP_AUTHENTICATE)
        wipe(s->in.ptr, s->command_bytes); /* there may be a password in it */
    sp_imap_consume(s, s->command_bytes);
    s->command_bytes = 0;
    s->command = (struct sp_imap_command){0};
    s->assembler = (struct sp_imap_assembler){0};
    s->idle_done = false;
    s->highest_due = false;
    s->phase = SP_IMAP_READING;
    if (s->authenticated)
        s->bad_count = 0;
}

/* ---- Input ---- */

void sp_imap_consume(struct sp_imap *s, size_t n)
{
    sp_buf_consume(&s->in, n);
}

void sp_imap_read_on(struct sp_imap *s, enum sp_imap_phase phase)
{
    sp_imap_consume(s, s->command_bytes);
    s->command_bytes = 0;
    s->assembler = (struct sp_imap_assembler){0};
    s->phase = phase;
}

static void too_long(struct sp_imap *s, const struct sp_imap_extent *extent)
{
    struct sp_imap_parse p = {.rest = extent->text, .arena = &s->arena};
    if (!sp_imap_take_tag(&p, &s->command.tag))
        s->command.tag = (struct sp_slice){0};
    s->phase = SP_IMAP_RUNNING;
    s->command_bytes = extent->bytes;
    /* A client that waits to be told to send its literal is still in step with us; any other is
     * not. */
    sp_imap_bad(s, "Command is too long");
    if (!extent->waits)
        sp_imap_bye(s, "Command is too long");
}

static void parse_and_run(struct sp_imap *s, const struct sp_imap_extent *extent, bool message)
{
    struct sp_imap_parse p = {.arena = &s->arena, .utf8 = s->utf8};
    s->command_bytes = extent->bytes;
    s->phase = SP_IMAP_RUNNING;
    if (message) {
        sp_imap_run_append(s, extent);
        return;
    }
    if (sp_imap_parse_command(&p, extent->text, &s->command)) {
        sp_imap_run(s);
        return;
    }
    if (p.bad_charset && s->authenticated)
        sp_imap_finish(s, "NO [BADCHARSET (UTF-8 US-ASCII)] Only UTF-8 and US-ASCII are supported");
    else if (p.bad_name && s->authenticated)
        sp_imap_finish(s, "NO [CANNOT] The name cannot be used");
    else if (p.bad_use && s->authenticated)
        sp_imap_finish(s, "NO [USEATTR] Unknown special use");
    else
        sp_imap_bad(s, p.error);
}

/* Reads a command and runs it; false: there is none yet. */
static bool read_command(struct sp_imap *s)
{
    struct sp_imap_extent extent;
    struct sp_imap_limits limits = {
        .command_bytes_max = s->authenticated ? SP_IMAP_COMMAND_MAX : SP_IMAP_COMMAND_PREAUTH_MAX,
        .literal_bytes_max = s->authenticated ? SP_IMAP_COMMAND_MAX : SP_IMAP_LITERAL_PREAUTH_MAX,
        .append = s->authenticated,
    };
    switch (sp_imap_assemble(&s->assembler, sp_buf_slice(&s->in), &limits, &extent)) {
    case SP_IMAP_MORE:
        return false;
    case SP_IMAP_CONTINUE:
        sp_buf_add(&s->out, SP_S("+ OK\r\n"));
        return true;
    case SP_IMAP_TOO_LONG:
        too_long(s, &extent);
        return true;
    case SP_IMAP_WHOLE:
        parse_and_run(s, &extent, false);
        return true;
    case SP_IMAP_MESSAGE:
        parse_and_run(s, &extent, true);
        return true;
    }
    return false;
}

/* A line that is no command: of AUTHENTICATE, or DONE. */
static bool read_line(struct sp_imap *s)
{
    struct sp_slice input = sp_buf_slice(&s->in);
    size_t end = sp_slice_find(sp_slice_from(input, s->assembler.scanned), '\n');
    if (end == SIZE_MAX) {
        s->assembler.scanned = input.len;
        if (input.len > SP_IMAP_COMMAND_PREAUTH_MAX)
            sp_imap_bye(s, "Line is too long");
        return false;
    }
    end += s->assembler.scanned;
    s->assembler.scanned = 0;
    struct sp_slice line =
        sp_slice_sub(input, 0, end && input.ptr[end - 1] == '\r' ? end - 1 : end);
    s->command_bytes = end + 1;
    if (s->phase == SP_IMAP_SASL) {
        sp_imap_sasl_line(s, line);
    } else if (!sp_slice_eq_nocase(line, SP_S("DONE"))) {
        s->phase = SP_IMAP_RUNNING;
        if (s->handler)
            sp_imap_bye(s, "DONE was expected");
        else
            sp_imap_bad(s, "DONE was expected");
    } else {
        s->idle_done = true;
        s->phase = SP_IMAP_RUNNING;
        if (!s->handler)
            sp_imap_finish_ok(s);
    }
    return true;
}

/* Gives back what an idle session does not need. */
static void trim(struct sp_imap *s)
{
    if (s->phase != SP_IMAP_RUNNING && !s->in.len)
        sp_buf_release(&s->in);
    if (s->sent == s->out.len) {
        s->sent = 0;
        if (s->phase == SP_IMAP_RUNNING)
            sp_buf_reset(&s->out);
        else
            sp_buf_release(&s->out);
    } else if (s->sent >= SP_IMAP_OUT_LOW && s->sent >= sp_imap_unsent(s)) {
        sp_buf_consume(&s->out, s->sent);
        s->sent = 0;
    }
}

/* Goes on as far as it can. */
static void pump(struct sp_imap *s)
{
    bool going = true;
    while (going) {
        if (sp_buf_failed(&s->out)) {
            sp_imap_abort(s);
            break;
        }
        if (s->stopping && s->phase != SP_IMAP_RUNNING)
            sp_imap_bye(s, "Server is shutting down");
        switch (s->phase) {
        case SP_IMAP_READING:
            going = sp_imap_unsent(s) < SP_IMAP_OUT_LOW && read_command(s);
            break;
        case SP_IMAP_SASL:
            going = read_line(s);
            break;
        case SP_IMAP_IDLING:
            going = read_line(s);
            sp_imap_idle_news(s);
            break;
        case SP_IMAP_APPENDING:
            sp_imap_append_input(s);
            going = s->phase != SP_IMAP_APPENDING;
            break;
        case SP_IMAP_RUNNING:
            if (s->fetch && sp_imap_unsent(s) < SP_IMAP_OUT_LOW)
                sp_imap_fetch_more(s);
            going = s->phase != SP_IMAP_RUNNING;
            break;
        default:
            going = false;
        }
    }
    bool reading = s->phase != SP_IMAP_RUNNING && s->phase != SP_IMAP_CLOSED && !s->handler;
    if (s->eof && reading && sp_imap_unsent(s) < SP_IMAP_OUT_LOW)
        close_session(s);
    trim(s);
}

static bool has_room(const struct sp_imap *s)
{
    if (s->eof)
        return false;
    switch (s->phase) {
    case SP_IMAP_READING:
    case SP_IMAP_SASL:
    case SP_IMAP_IDLING:
        return sp_imap_unsent(s) < SP_IMAP_OUT_LOW;
    case SP_IMAP_APPENDING:
        return !sp_imap_append_blocked(s);
    default:
        return false;
    }
}

static struct sp_slice_mut recv_buf(void *session)
{
    struct sp_imap *s = session;
    if (!has_room(s))
        return (struct sp_slice_mut){NULL, 0};
    if (s->phase == SP_IMAP_APPENDING && !s->in.len) {
        struct sp_slice_mut room = sp_imap_append_room(s);
        if (room.len)
            return room;
    }
    size_t want = s->in.len ? s->in.len : INPUT_BYTES;
    if (s->in.capacity - s->in.len < INPUT_BYTES / 4 && !sp_buf_reserve(&s->in, want)) {
        sp_imap_abort(s);
        return (struct sp_slice_mut){NULL, 0};
    }
    return (struct sp_slice_mut){s->in.ptr + s->in.len, s->in.capacity - s->in.len};
}

static void recv_ack(void *session, size_t n, uint64_t now_ms)
{
    struct sp_imap *s = session;
    if (n) {
        s->active_ms = now_ms;
        if (s->phase == SP_IMAP_APPENDING && !s->in.len && sp_imap_append_room(s).len)
            sp_imap_append_ack(s, n);
        else
            s->in.len += n;
    }
    pump(s);
}

static void recv_eof(void *session, uint64_t now_ms)
{
    struct sp_imap *s = session;
    s->eof = true;
    pump(s);
}

static struct sp_slice send_buf(void *session)
{
    struct sp_imap *s = session;
    return sp_slice_from(sp_buf_slice(&s->out), s->sent);
}

static void send_ack(void *session, size_t n, uint64_t now_ms)
{
    struct sp_imap *s = session;
    sp_assert(n <= sp_imap_unsent(s));
    s->sent += n;
    s->active_ms = now_ms;
    pump(s);
}

static void complete(void *session, const struct sp_reply *reply, uint64_t now_ms)
{
    struct sp_imap *s = session;
    if (!s->handler || reply->op != s->op)
        return; /* a body's that was dropped, or too late */
    void (*handler)(struct sp_imap *, const struct sp_reply *) = s->handler;
    s->handler = NULL;
    s->active_ms = now_ms;
    handler(s, reply);
    pump(s);
}

/* ---- Life ---- */

static unsigned want(void *session)
{
    struct sp_imap *s = session;
    unsigned write = sp_imap_unsent(s) ? SP_WANT_WRITE : 0;
    if (s->phase == SP_IMAP_CLOSED)
        return write ? write : SP_WANT_CLOSE;
    if (s->phase == SP_IMAP_TLS)
        return write ? write : SP_WANT_TLS;
    return write | (has_room(s) ? SP_WANT_READ : 0);
}

static void tls_done(void *session, uint64_t now_ms)
{
    struct sp_imap *s = session;
    sp_assert(s->phase == SP_IMAP_TLS);
    s->peer.tls = true;
    s->phase = SP_IMAP_READING;
    s->started_ms = s->active_ms = now_ms;
}

static uint64_t deadline_ms(void *session)
{
    struct sp_imap *s = session;
    if (s->phase == SP_IMAP_CLOSED)
        return sp_imap_unsent(s) ? s->active_ms + CLOSE_MS : UINT64_MAX;
    if (!s->authenticated)
        return s->started_ms + SP_IMAP_PREAUTH_TIMEOUT_MS;
    if (s->phase == SP_IMAP_RUNNING && s->handler)
        return s->active_ms + SP_IMAP_PROGRESS_MS; /* the wait is ours */
    if (s->phase == SP_IMAP_IDLING && s->selected && s->selected->retry_ms)
        return s->selected->retry_ms;
    return s->active_ms +
           (s->env->idle_timeout_ms ? s->env->idle_timeout_ms : SP_IMAP_IDLE_TIMEOUT_MS);
}

/* RFC 9585: nothing is known of how far it is, only that it goes on. */
static void tell_progress(struct sp_imap *s)
{
    if (sp_imap_in_literal(s) || sp_imap_unsent(s) >= SP_IMAP_OUT_LOW)
        return; /* the client hears from us */
    sp_buf_add(&s->out, SP_S("* OK [INPROGRESS (\""));
    sp_buf_add(&s->out, s->command.tag);
    sp_buf_add(&s->out, SP_S("\" NIL NIL)] Still working on it\r\n"));
}

static void tick(void *session, uint64_t now_ms)
{
    struct sp_imap *s = session;
    if (now_ms < deadline_ms(s))
        return;
    if (s->phase == SP_IMAP_CLOSED || s->phase == SP_IMAP_TLS) {
        sp_imap_abort(s);
        return;
    }
    if (s->phase == SP_IMAP_IDLING && s->selected && s->selected->retry_ms) {
        s->selected->retry_ms = 0;
        pump(s);
        return;
    }
    s->active_ms = now_ms;
    if (s->authenticated && s->phase == SP_IMAP_RUNNING && s->handler) {
        tell_progress(s);
        return;
    }
    sp_imap_bye(s, "Autologout; idle for too long");
}

static struct sp_watch watch(void *session)
{
    struct sp_imap *s = session;
    if (!s->selected || s->phase == SP_IMAP_CLOSED)
        return (struct sp_watch){0};
    return (struct sp_watch){true, s->selected->ref.account, s->selected->ref.mailbox};
}

static void notify(void *session, uint64_t now_ms)
{
    struct sp_imap *s = session;
    if (!s->selected)
        return;
    s->selected->news = true;
    pump(s);
}

static void shutdown_session(void *session, uint64_t now_ms)
{
    struct sp_imap *s = session;
    s->active_ms = now_ms;
    s->stopping = true;
    pump(s);
}

void *sp_imap_new(const struct sp_session_env *env, const struct sp_session_peer *peer,
                  uint64_t now_ms)
{
    struct sp_imap *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->env = env;
    s->peer = *peer;
    s->started_ms = s->active_ms = now_ms;
    sp_buf_init(&s->in, INPUT_BYTES_MAX);
    sp_buf_init(&s->out, SP_IMAP_OUT_MAX);
    sp_buf_init(&s->final, SP_IMAP_OUT_MAX);
    sp_arena_init(&s->arena, SP_IMAP_ARENA_BYTES);
    sp_buf_add_str(&s->out, "* OK [CAPABILITY");
    sp_imap_add_capability(s, &s->out);
    sp_buf_addf(&s->out, "] %s %s ready\r\n", env->hostname, env->software);
    if (sp_buf_failed(&s->out)) {
        sp_buf_release(&s->out);
        free(s);
        return NULL;
    }
    return s;
}

static void free_session(void *session)
{
    struct sp_imap *s = session;
    if (!s)
        return;
    sp_imap_abort(s);
    sp_imap_unselect(s);
    sp_arena_release(&s->arena);
    free(s->drops);
    free(s);
}

const struct sp_session_ops sp_imap_ops = {
    .name = "imap",
    .refusal = "* BYE [UNAVAILABLE] Too many connections, please try again later\r\n",
    .recv_buf = recv_buf,
    .recv_ack = recv_ack,
    .recv_eof = recv_eof,
    .send_buf = send_buf,
    .send_ack = send_ack,
    .next = next_request,
    .complete = complete,
    .want = want,
    .tls_done = tls_done,
    .deadline_ms = deadline_ms,
    .tick = tick,
    .watch = watch,
    .notify = notify,
    .shutdown = shutdown_session,
    .free = free_session,
};
