#include "proto/pop3/internal.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#define ANSWER_MAX 512U /* RFC 2449 section 4 */
/* A list stops at OUTPUT_PAUSE, a message adds at most a reply of mail with every LF made two, or
 * every dot. */
#define OUTPUT_MAX                                                                                 \
    (SP_POP3_OUTPUT_PAUSE + 2U * (SP_FETCH_REPLY_BYTES + SP_SECTION_PIECE_MAX) + 8192U)

_Static_assert(sizeof(struct sp_pop3) <= SP_POP3_SESSION_BYTES, "pop3.h promises less");

/* ---- Answers ---- */

void pop3_say(struct sp_pop3 *s, const char *format, ...)
{
    char line[ANSWER_MAX - 2];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    sp_assert(len >= 0);
    size_t kept = (size_t)len < sizeof line ? (size_t)len : sizeof line - 1;
    sp_buf_add(&s->out, sp_slice(line, kept));
    sp_buf_add(&s->out, SP_S("\r\n"));
    if (line[0] == '-')
        sp_session_said_no(&s->peer, strncmp(line, "-ERR [SYS/TEMP]", 15) == 0);
}

void pop3_error(struct sp_pop3 *s, const char *text)
{
    pop3_say(s, "-ERR %s", text);
    s->errors++;
}

void pop3_close(struct sp_pop3 *s, const char *text)
{
    if (s->mode == MODE_CLOSED)
        return;
    /* After our +OK the client listens for TLS only; within a message nothing can be said. */
    if (text && s->mode != MODE_TLS && s->mode != MODE_SEND)
        pop3_say(s, "%s", text);
    sp_request_free(s->request);
    s->request = NULL;
    s->waiting_op = 0;
    s->mode = MODE_CLOSED;
    sp_buf_release(&s->in);
    s->in_at = 0;
}

/* ---- Requests ---- */

static const char no_memory[] = "-ERR [SYS/TEMP] Out of memory, please try again later";

struct sp_request *pop3_request(struct sp_pop3 *s, enum sp_request_type type)
{
    struct sp_request *request = sp_request_new(type);
    if (!request)
        pop3_close(s, no_memory);
    return request;
}

void pop3_give_up(struct sp_pop3 *s, struct sp_request *request)
{
    sp_request_free(request);
    pop3_close(s, no_memory);
}

void pop3_ask(struct sp_pop3 *s, struct sp_request *request, pop3_on_reply *on_reply)
{
    sp_assert(!s->waiting_op && !s->request);
    request->op = s->waiting_op = ++s->ops;
    request->session = s->peer.id;
    request->stranger = !s->drop;
    s->request = request;
    s->on_reply = on_reply;
    if (s->mode != MODE_SEND)
        s->mode = MODE_WAIT;
}

/* RFC 3206: whether it helps to try again is said by the code. */
void pop3_refuse(struct sp_pop3 *s, const struct sp_reply *reply)
{
    bool lasting = reply->status == SP_LIMIT || reply->status == SP_CORRUPT ||
                   reply->status == SP_INVALID || reply->status == SP_NOT_FOUND;
    pop3_say(s, "-ERR [SYS/%s] %.*s", lasting ? "PERM" : "TEMP", SP_FMT(reply->text));
}

/* ---- Going on ---- */

static void set_deadline(struct sp_pop3 *s, uint64_t now_ms)
{
    uint64_t idle_ms = s->env->idle_timeout_ms ? s->env->idle_timeout_ms : SP_POP3_IDLE_MS;
    if (s->mode == MODE_CLOSED)
        s->deadline_ms = now_ms + SP_POP3_CLOSE_MS;
    else if (s->waiting_op)
        s->deadline_ms = now_ms + SP_POP3_REPLY_MS;
    else if (!s->drop && !s->env->idle_timeout_ms)
        s->deadline_ms = now_ms + SP_POP3_LOGIN_MS;
    else
        s->deadline_ms = now_ms + idle_ms;
}

/* Takes one line; false when there is none yet. A lone LF ends one too: what follows is a command,
 * never content. */
static bool take_line(struct sp_pop3 *s)
{
    struct sp_slice input = sp_slice_from(sp_buf_slice(&s->in), s->in_at);
    size_t lf = sp_slice_find(input, '\n');
    size_t len = lf == SIZE_MAX ? input.len : lf + 1;
    if (s->long_line || len > SP_POP3_LINE_MAX) {
        s->in_at += len;
        s->long_line = lf == SIZE_MAX;
        if (s->long_line)
            return false;
        s->mode = MODE_COMMAND;
        pop3_scram_free(s);
        pop3_error(s, "Line is too long");
        return true;
    }
    if (lf == SIZE_MAX)
        return false;
    s->in_at += len;
    struct sp_slice line = sp_slice_sub(input, 0, lf);
    if (line.len && line.ptr[line.len - 1] == '\r')
        line.len--;
    if (s->mode == MODE_SASL)
        pop3_sasl_line(s, line);
    else
        pop3_command(s, line);
    return true;
}

/* One step; false when it needs something from outside: input, a reply, room for output. */
static bool go_one(struct sp_pop3 *s)
{
    switch (s->mode) {
    case MODE_COMMAND:
    case MODE_SASL:
        if (s->errors >= SP_POP3_ERRORS_MAX) {
            pop3_close(s, "-ERR Too many errors");
            return true;
        }
        return take_line(s);
    case MODE_LIST:
        pop3_list_more(s);
        return true;
    case MODE_SEND:
        if (s->waiting_op)
            return false;
        pop3_send_more(s);
        return true;
    case MODE_WAIT:
    case MODE_TLS:
    case MODE_CLOSED:
        return false;
    }
    return false;
}

static void release_idle_buffers(struct sp_pop3 *s)
{
    if (s->in_at == s->in.len) {
        sp_buf_release(&s->in);
        s->in_at = 0;
    }
    if (s->out_at == s->out.len) {
        sp_buf_release(&s->out);
        s->out_at = 0;
    }
}

static bool is_between_commands(const struct sp_pop3 *s)
{
    return s->mode == MODE_COMMAND || s->mode == MODE_SASL;
}

/* Everything that can be done now. `moved`: something has happened that counts as a sign of life.
 */
static void go_on(struct sp_pop3 *s, bool moved, uint64_t now_ms)
{
    bool paused = false;
    for (;;) {
        paused = s->out.len - s->out_at >= SP_POP3_OUTPUT_PAUSE;
        if (s->stopping && is_between_commands(s))
            pop3_close(s, "-ERR [SYS/TEMP] Server is stopping");
        if (paused || !go_one(s))
            break;
        moved = true;
        if (sp_buf_failed(&s->out))
            break;
    }
    if (s->eof && !paused && is_between_commands(s))
        pop3_close(s, NULL); /* what is still to come never will */
    if (sp_buf_failed(&s->out)) {
        pop3_close(s, NULL);
        sp_buf_release(&s->out);
        s->out_at = 0;
        moved = true;
    }
    if (moved)
        set_deadline(s, now_ms);
    release_idle_buffers(s);
}

/* ---- The table ---- */

void *sp_pop3_new(const struct sp_session_env *env, const struct sp_session_peer *peer,
                  uint64_t now_ms)
{
    struct sp_pop3 *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->env = env;
    s->peer = *peer;
    s->tls = peer->tls;
    sp_buf_init(&s->in, SP_POP3_LINE_MAX + 1);
    sp_buf_init(&s->out, OUTPUT_MAX);
    pop3_say(s, "+OK %.255s %.100s ready", env->hostname, env->software);
    if (sp_buf_failed(&s->out)) {
        free(s);
        return NULL;
    }
    set_deadline(s, now_ms);
    return s;
}

/* How much may be read now: a pipelining client's commands wait in its own socket. */
static size_t input_room(const struct sp_pop3 *s)
{
    size_t unread = s->in.len - s->in_at;
    if (s->mode == MODE_CLOSED || s->mode == MODE_TLS || s->eof)
        return 0;
    return SP_POP3_LINE_MAX + 1 - unread;
}

static struct sp_slice_mut session_recv_buf(void *session)
{
    struct sp_pop3 *s = session;
    size_t room = input_room(s);
    if (!room)
        return (struct sp_slice_mut){NULL, 0};
    sp_buf_consume(&s->in, s->in_at);
    s->in_at = 0;
    if (!sp_buf_reserve(&s->in, room)) {
        pop3_close(s, NULL); /* no memory: the client will try again */
        return (struct sp_slice_mut){NULL, 0};
    }
    return (struct sp_slice_mut){s->in.ptr + s->in.len, room};
}

static void session_recv_ack(void *session, size_t n, uint64_t now_ms)
{
    struct sp_pop3 *s = session;
    sp_assert(n <= s->in.capacity - s->in.len);
    s->in.len += n;
    go_on(s, false, now_ms);
}

static void session_recv_eof(void *session, uint64_t now_ms)
{
    struct sp_pop3 *s = session;
    s->eof = true;
    go_on(s, true, now_ms);
}

static struct sp_slice session_send_buf(void *session)
{
    struct sp_pop3 *s = session;
    return sp_slice_from(sp_buf_slice(&s->out), s->out_at);
}

static void session_send_ack(void *session, size_t n, uint64_t now_ms)
{
    struct sp_pop3 *s = session;
    sp_assert(n <= s->out.len - s->out_at);
    s->out_at += n;
    /* What has been sent makes room for what is to come. */
    if (s->out_at == s->out.len || s->out_at >= SP_POP3_OUTPUT_PAUSE) {
        sp_buf_consume(&s->out, s->out_at);
        s->out_at = 0;
    }
    go_on(s, n > 0, now_ms);
}

static struct sp_request *session_next(void *session)
{
    struct sp_pop3 *s = session;
    struct sp_request *request = s->request;
    s->request = NULL;
    return request;
}

static void session_complete(void *session, const struct sp_reply *reply, uint64_t now_ms)
{
    struct sp_pop3 *s = session;
    if (!s->waiting_op || reply->op != s->waiting_op)
        return; /* it comes too late */
    s->waiting_op = 0;
    if (s->mode == MODE_WAIT)
        s->mode = MODE_COMMAND;
    s->on_reply(s, reply);
    go_on(s, true, now_ms);
}

static unsigned session_want(void *session)
{
    struct sp_pop3 *s = session;
    unsigned want = s->out_at < s->out.len ? SP_WANT_WRITE : 0;
    if (s->mode == MODE_TLS)
        want |= SP_WANT_TLS;
    if (s->mode == MODE_CLOSED)
        want |= SP_WANT_CLOSE;
    if (input_room(s))
        want |= SP_WANT_READ;
    return want;
}

/* RFC 2595 section 4: nothing that was learnt before TLS is still true. */
static void session_tls_done(void *session, uint64_t now_ms)
{
    struct sp_pop3 *s = session;
    if (s->mode != MODE_TLS)
        return;
    s->tls = true;
    s->mode = MODE_COMMAND;
    free(s->user);
    s->user = NULL;
    s->utf8 = false;
    sp_buf_release(&s->in);
    s->in_at = 0;
    go_on(s, true, now_ms);
}

static uint64_t session_deadline_ms(void *session)
{
    const struct sp_pop3 *s = session;
    return s->deadline_ms;
}

static void session_tick(void *session, uint64_t now_ms)
{
    struct sp_pop3 *s = session;
    if (now_ms < s->deadline_ms)
        return;
    if (s->mode == MODE_CLOSED) { /* the client does not even read our last words */
        sp_buf_release(&s->out);
        s->out_at = 0;
        s->deadline_ms = UINT64_MAX;
        return;
    }
    /* RFC 1939 section 3: without a word, and nothing is deleted. */
    pop3_close(s, s->waiting_op ? "-ERR [SYS/TEMP] No answer from storage" : NULL);
    go_on(s, true, now_ms);
}

static struct sp_watch session_watch(void *session)
{
    (void)session;
    return (struct sp_watch){0};
}

static void session_notify(void *session, uint64_t now_ms)
{
    (void)session;
    (void)now_ms;
}

static void session_shutdown(void *session, uint64_t now_ms)
{
    struct sp_pop3 *s = session;
    s->stopping = true;
    go_on(s, true, now_ms);
}

static void session_free(void *session)
{
    struct sp_pop3 *s = session;
    if (!s)
        return;
    sp_request_free(s->request);
    pop3_drop_free(s);
    pop3_scram_free(s);
    sp_buf_release(&s->in);
    sp_buf_release(&s->out);
    free(s->user);
    free(s);
}

const struct sp_session_ops sp_pop3_ops = {
    .name = "pop3",
    .refusal = "-ERR [SYS/TEMP] Too many connections, please try again later\r\n",
    .recv_buf = session_recv_buf,
    .recv_ack = session_recv_ack,
    .recv_eof = session_recv_eof,
    .send_buf = session_send_buf,
    .send_ack = session_send_ack,
    .next = session_next,
    .complete = session_complete,
    .want = session_want,
    .tls_done = session_tls_done,
    .deadline_ms = session_deadline_ms,
    .tick = session_tick,
    .watch = session_watch,
    .notify = session_notify,
    .shutdown = session_shutdown,
    .free = session_free,
};
