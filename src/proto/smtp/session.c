#include "proto/smtp/internal.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define REPLY_MAX 512U /* RFC 5321 4.5.3.1.5 */
/* All replies that can come together: those to a message for as many as LMTP takes, what may stand
 * before them, and a few more. */
#define OUTPUT_MAX (SP_SMTP_OUTPUT_PAUSE + (SP_RECIPIENTS_MAX + 32U) * REPLY_MAX)

_Static_assert(sizeof(struct sp_smtp) <= SP_SMTP_SESSION_BYTES, "smtp.h promises less");

/* ---- Replies ---- */

void smtp_reply(struct sp_smtp *s, const char *format, ...)
{
    char line[REPLY_MAX - 2];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    sp_assert(len >= 0);
    size_t kept = (size_t)len < sizeof line ? (size_t)len : sizeof line - 1;
    sp_buf_add(&s->out, sp_slice(line, kept));
    sp_buf_add(&s->out, SP_S("\r\n"));
    if (line[0] == '4' || line[0] == '5')
        sp_session_said_no(&s->peer, line[0] == '4');
}

void smtp_error(struct sp_smtp *s, const char *text)
{
    smtp_reply(s, "%s", text);
    s->errors++;
}

void smtp_close(struct sp_smtp *s, const char *text)
{
    if (s->mode == MODE_CLOSED)
        return;
    if (text && s->mode != MODE_TLS) /* after our 220 the client listens for TLS only */
        smtp_reply(s, "%s", text);
    if (text && text[0] == '4')
        sp_log(SP_LOG_INFO, "smtp.closed", "session=%016" PRIx64 " peer=%s reply=%s", s->peer.id,
               s->peer.address, SP_LOG_QUOTED(text));
    if (s->request) { /* nobody has seen it */
        sp_request_free(s->request);
        s->request = NULL;
        s->wait = WAIT_NONE;
    }
    smtp_transaction_abort(s);
    s->mode = MODE_CLOSED;
    sp_buf_release(&s->in);
    s->in_at = 0;
}

bool smtp_ask(struct sp_smtp *s, enum smtp_wait wait, struct sp_request *request)
{
    sp_assert(s->wait == WAIT_NONE && !s->request);
    if (!request)
        return false;
    request->op = s->waiting_op = ++s->ops;
    request->session = s->peer.id;
    request->stranger = !smtp_is_lmtp(s);
    s->request = request;
    s->wait = wait;
    return true;
}

/* ---- Going on ---- */

static void set_deadline(struct sp_smtp *s, uint64_t now_ms)
{
    uint64_t command_ms = s->env->idle_timeout_ms ? s->env->idle_timeout_ms : SP_SMTP_COMMAND_MS;
    if (s->mode == MODE_CLOSED) {
        s->deadline_ms = now_ms + SP_SMTP_CLOSE_MS;
    } else if (s->wait != WAIT_NONE) {
        s->deadline_ms = now_ms + SP_SMTP_REPLY_MS;
    } else if (s->mode == MODE_DATA || s->mode == MODE_CHUNK) {
        s->deadline_ms = now_ms + SP_SMTP_BLOCK_MS;
        if (s->deadline_ms > s->data_deadline_ms)
            s->deadline_ms = s->data_deadline_ms;
    } else {
        s->deadline_ms = now_ms + command_ms;
    }
}

/* The reply to a command line that never ends is given where it does. */
static bool skip_line(struct sp_smtp *s, bool ended)
{
    s->long_line = !ended;
    if (ended)
        smtp_error(s, "500 5.5.2 Line is too long");
    return ended;
}

/* Takes one command line; false when there is none yet. */
static bool take_command(struct sp_smtp *s)
{
    struct sp_slice input = smtp_unread(s);
    size_t lf = sp_slice_find(input, '\n');
    size_t len = lf == SIZE_MAX ? input.len : lf + 1;
    if (s->long_line || len > SP_SMTP_LINE_MAX) {
        s->in_at += len;
        return skip_line(s, lf != SIZE_MAX);
    }
    if (lf == SIZE_MAX)
        return false;
    s->in_at += len;
    if (len >= 2 && input.ptr[len - 2] == '\r')
        smtp_command(s, sp_slice_sub(input, 0, len - 2));
    else
        smtp_error(s, "500 5.5.2 Lines end with CRLF");
    return true;
}

static void check_limits(struct sp_smtp *s)
{
    if (s->errors >= SP_SMTP_ERRORS_MAX)
        smtp_close(s, "421 4.7.0 Too many errors");
    else if (s->idle_commands >= SP_SMTP_IDLE_COMMANDS_MAX)
        smtp_close(s, "421 4.7.0 Too many commands without a message");
}

/* One step; false when it needs something from outside: input, a reply, room for output. */
static bool go_one(struct sp_smtp *s)
{
    switch (s->mode) {
    case MODE_COMMAND:
        if (s->wait != WAIT_NONE)
            return false;
        check_limits(s);
        if (s->mode == MODE_CLOSED)
            return true;
        return take_command(s);
    case MODE_DATA:
        return smtp_transaction_data(s);
    case MODE_CHUNK:
        return smtp_transaction_chunk(s);
    case MODE_FINISH:
        return smtp_transaction_finish(s);
    case MODE_TLS:
    case MODE_CLOSED:
        return false;
    }
    return false;
}

static void release_idle_buffers(struct sp_smtp *s)
{
    if (s->in_at == s->in.len) {
        sp_buf_reset(&s->in);
        s->in_at = 0;
        if (!s->txn && s->mode == MODE_COMMAND)
            sp_buf_release(&s->in);
    }
    if (!s->out.len && !s->txn)
        sp_buf_release(&s->out);
}

/* Everything that can be done now. `moved`: something has happened that counts as a sign of life.
 */
static void go_on(struct sp_smtp *s, bool moved, uint64_t now_ms)
{
    enum smtp_mode before = s->mode;
    bool paused = false;
    for (;;) {
        paused = s->out.len - s->out_at >= SP_SMTP_OUTPUT_PAUSE;
        if (s->stopping && s->wait != WAIT_DELIVER && s->mode != MODE_FINISH)
            smtp_close(s, "421 4.3.2 Server is stopping");
        enum smtp_mode mode = s->mode;
        if (paused || !go_one(s))
            break;
        moved = true;
        bool data = s->mode == MODE_DATA || s->mode == MODE_CHUNK;
        if (data && s->mode != mode && !(s->txn && s->txn->text_bytes)) /* not at each chunk */
            s->data_deadline_ms = now_ms + SP_SMTP_DATA_MS;
    }
    if (s->eof && !paused && s->wait == WAIT_NONE)
        smtp_close(s, NULL); /* what is still to come never will */
    if (sp_buf_failed(&s->out)) {
        smtp_close(s, NULL);
        sp_buf_release(&s->out);
        s->out_at = 0;
    }
    if (moved || s->mode != before)
        set_deadline(s, now_ms);
    release_idle_buffers(s);
}

/* ---- The table ---- */

void *sp_smtp_new(enum sp_smtp_flavour flavour, const struct sp_session_env *env,
                  const struct sp_session_peer *peer, uint64_t now_ms)
{
    sp_assert(env->message_bytes_max && strlen(env->hostname) <= SP_SMTP_HELO_MAX);
    struct sp_smtp *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->env = env;
    s->peer = *peer;
    s->flavour = flavour;
    s->tls = peer->tls;
    sp_buf_init(&s->in, SP_SMTP_INPUT_MAX);
    sp_buf_init(&s->out, OUTPUT_MAX);
    smtp_reply(s, "220 %s %s %.100s", env->hostname, smtp_is_lmtp(s) ? "LMTP" : "ESMTP",
               env->software);
    if (sp_buf_failed(&s->out)) {
        free(s);
        return NULL;
    }
    set_deadline(s, now_ms);
    return s;
}

/* How much may be read now. */
static size_t input_room(const struct sp_smtp *s)
{
    bool data = s->mode == MODE_DATA || s->mode == MODE_CHUNK;
    size_t max = data ? SP_SMTP_INPUT_MAX : SP_SMTP_INPUT_FIRST;
    size_t unread = s->in.len - s->in_at;
    if (s->mode == MODE_CLOSED || s->mode == MODE_TLS || s->eof)
        return 0;
    return unread < max ? max - unread : 0;
}

static struct sp_slice_mut session_recv_buf(void *session)
{
    struct sp_smtp *s = session;
    size_t room = input_room(s);
    if (!room)
        return (struct sp_slice_mut){NULL, 0};
    sp_buf_consume(&s->in, s->in_at);
    s->in_at = 0;
    if (!sp_buf_reserve(&s->in, room)) {
        smtp_close(s, NULL); /* no memory: the client will try again */
        return (struct sp_slice_mut){NULL, 0};
    }
    return (struct sp_slice_mut){s->in.ptr + s->in.len, room};
}

static void session_recv_ack(void *session, size_t n, uint64_t now_ms)
{
    struct sp_smtp *s = session;
    sp_assert(n <= s->in.capacity - s->in.len);
    s->in.len += n;
    go_on(s, false, now_ms);
}

static void session_recv_eof(void *session, uint64_t now_ms)
{
    struct sp_smtp *s = session;
    s->eof = true;
    go_on(s, true, now_ms);
}

static struct sp_slice session_send_buf(void *session)
{
    struct sp_smtp *s = session;
    return sp_slice_from(sp_buf_slice(&s->out), s->out_at);
}

static void session_send_ack(void *session, size_t n, uint64_t now_ms)
{
    struct sp_smtp *s = session;
    sp_assert(n <= s->out.len - s->out_at);
    s->out_at += n;
    bool all = s->out_at == s->out.len;
    if (all) {
        sp_buf_reset(&s->out);
        s->out_at = 0;
    }
    go_on(s, all && n, now_ms);
}

static struct sp_request *session_next(void *session)
{
    struct sp_smtp *s = session;
    if (s->drop_body) {
        struct sp_request *drop = sp_request_new(SP_REQ_BODY_DROP);
        if (drop) {
            drop->op = ++s->ops;
            drop->session = s->peer.id;
            drop->body.body = s->drop_body;
        }
        s->drop_body = 0; /* without memory for it, the end of the session lets go of the body */
        if (drop)
            return drop;
    }
    struct sp_request *request = s->request;
    s->request = NULL;
    return request;
}

static void session_complete(void *session, const struct sp_reply *reply, uint64_t now_ms)
{
    struct sp_smtp *s = session;
    enum smtp_wait wait = s->wait;
    if (wait == WAIT_NONE || reply->op != s->waiting_op)
        return; /* a drop's, or one that comes too late */
    s->wait = WAIT_NONE;
    if (wait == WAIT_PUT)
        smtp_transaction_put(s, reply);
    else if (wait == WAIT_RESOLVE && s->txn)
        smtp_transaction_resolved(s, reply);
    else if (wait == WAIT_DELIVER)
        smtp_transaction_delivered(s, reply);
    go_on(s, true, now_ms);
}

static unsigned session_want(void *session)
{
    struct sp_smtp *s = session;
    unsigned want = s->out_at < s->out.len ? SP_WANT_WRITE : 0;
    if (s->mode == MODE_TLS)
        want |= SP_WANT_TLS;
    if (s->mode == MODE_CLOSED)
        want |= SP_WANT_CLOSE;
    if (input_room(s))
        want |= SP_WANT_READ;
    return want;
}

/* RFC 3207 4.2: nothing that was learnt before TLS is still true. */
static void session_tls_done(void *session, uint64_t now_ms)
{
    struct sp_smtp *s = session;
    if (s->mode != MODE_TLS)
        return;
    s->tls = true;
    s->mode = MODE_COMMAND;
    free(s->helo);
    s->helo = NULL;
    sp_buf_reset(&s->in);
    s->in_at = 0;
    go_on(s, true, now_ms);
}

static uint64_t session_deadline_ms(void *session)
{
    const struct sp_smtp *s = session;
    return s->deadline_ms;
}

static void session_tick(void *session, uint64_t now_ms)
{
    struct sp_smtp *s = session;
    if (now_ms < s->deadline_ms)
        return;
    if (s->mode == MODE_CLOSED) { /* the client does not even read our last words */
        sp_buf_release(&s->out);
        s->out_at = 0;
        s->deadline_ms = UINT64_MAX;
        return;
    }
    smtp_close(s, s->wait == WAIT_NONE ? "421 4.4.2 Timeout" : "421 4.3.0 No answer from storage");
    go_on(s, true, now_ms);
}

static struct sp_watch session_watch(void *session)
{
    return (struct sp_watch){0};
}

static void session_notify(void *session, uint64_t now_ms)
{
}

static void session_shutdown(void *session, uint64_t now_ms)
{
    struct sp_smtp *s = session;
    s->stopping = true;
    go_on(s, true, now_ms);
}

static void session_free(void *session)
{
    struct sp_smtp *s = session;
    if (!s)
        return;
    sp_request_free(s->request);
    s->request = NULL;
    s->drop_body = 0;
    smtp_transaction_abort(s);
    sp_buf_release(&s->in);
    sp_buf_release(&s->out);
    free(s->helo);
    free(s);
}

#define SESSION_OPS(protocol)                                                                      \
    {                                                                                              \
        .name = protocol, .refusal = "421 4.7.0 Too many connections, please try again later\r\n", \
        .recv_buf = session_recv_buf, .recv_ack = session_recv_ack, .recv_eof = session_recv_eof,  \
        .send_buf = session_send_buf, .send_ack = session_send_ack, .next = session_next,          \
        .complete = session_complete, .want = session_want, .tls_done = session_tls_done,          \
        .deadline_ms = session_deadline_ms, .tick = session_tick, .watch = session_watch,          \
        .notify = session_notify, .shutdown = session_shutdown, .free = session_free,              \
    }

const struct sp_session_ops sp_smtp_ops = SESSION_OPS("smtp");
const struct sp_session_ops sp_lmtp_ops = SESSION_OPS("lmtp");
