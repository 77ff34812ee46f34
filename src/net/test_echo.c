#include "net/test_echo.h"

#include "base/buf.h"
#include "base/time.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <setjmp.h>
#include <cmocka.h>

/* ---- the session ---- */

#define UNDER_WAY_MAX 4
#define OUT_MAX       65536U

struct echo {
    uint64_t id;
    struct sp_session_peer peer;
    uint64_t now_ms, deadline_ms;
    uint8_t in[1024];
    size_t in_len;
    struct sp_buf out;
    uint64_t big, big_at;
    struct sp_request *next;
    int under_way;
    bool close, want_tls, eof, stubborn, cleartext_ok;
    struct sp_watch watch;
};

static _Atomic int sessions;

int echo_sessions(void)
{
    return atomic_load(&sessions);
}

static void say(struct echo *echo, const char *line)
{
    sp_buf_addf(&echo->out, "%s\n", line);
    sp_assert(!sp_buf_failed(&echo->out));
}

void *echo_new(const struct sp_session_env *env, const struct sp_session_peer *peer,
               uint64_t now_ms)
{
    struct echo *echo = calloc(1, sizeof *echo);
    sp_assert(echo && env->hostname);
    echo->id = peer->id;
    echo->peer = *peer;
    echo->deadline_ms = UINT64_MAX;
    echo->now_ms = now_ms;
    sp_assert(peer->cleartext_ok && strcmp(peer->address, "127.0.0.1") == 0);
    sp_buf_init(&echo->out, 2 * OUT_MAX);
    say(echo, peer->tls ? "hello tls" : "hello");
    atomic_fetch_add(&sessions, 1);
    return echo;
}

void *echo_new_stubborn(const struct sp_session_env *env, const struct sp_session_peer *peer,
                        uint64_t now_ms)
{
    struct echo *echo = echo_new(env, peer, now_ms);
    echo->stubborn = true;
    return echo;
}

static void echo_free(void *session)
{
    struct echo *echo = session;
    sp_request_free(echo->next);
    sp_buf_release(&echo->out);
    free(echo);
    atomic_fetch_sub(&sessions, 1);
}

static void ask(struct echo *echo, enum sp_request_type type, const char *text)
{
    struct sp_request *request = sp_request_new(type);
    sp_assert(request && !echo->next);
    request->session = echo->id;
    request->name = sp_arena_copy(&request->arena, sp_slice_str(text));
    echo->next = request;
}

static void say_binding(struct echo *echo, const char *type)
{
    uint8_t bytes[SP_CHANNEL_BYTES];
    char hex[2 * SP_CHANNEL_BYTES + 1] = "";
    size_t len = echo->peer.channel_binding(echo->peer.channel, type, bytes);
    for (size_t i = 0; i < len; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    say(echo, len ? hex : "none");
}

static void obey(struct echo *echo, const char *line)
{
    char word[16] = "";
    const char *space = strchr(line, ' '), *rest = space ? space + 1 : "";
    snprintf(word, sizeof word, "%.*s", (int)(space ? space - line : (ptrdiff_t)strlen(line)),
             line);
    unsigned long number = strtoul(rest, NULL, 10);
    if (!strcmp(word, "echo"))
        say(echo, rest);
    else if (!strcmp(word, "big"))
        echo->big = number;
    else if (!strcmp(word, "req"))
        ask(echo, SP_REQ_RESOLVE, rest);
    else if (!strcmp(word, "quick"))
        ask(echo, SP_REQ_BODY_DROP, rest);
    else if (!strcmp(word, "slow"))
        ask(echo, SP_REQ_FETCH, rest);
    else if (!strcmp(word, "stuck"))
        ask(echo, SP_REQ_DELIVER, rest);
    else if (!strcmp(word, "search")) {
        ask(echo, SP_REQ_SEARCH, rest);
        echo->next->mailbox.account.bytes[0] = (uint8_t)number;
    } else if (!strcmp(word, "login"))
        ask(echo, SP_REQ_AUTHENTICATE, rest);
    else if (!strcmp(word, "bind"))
        say_binding(echo, rest);
    else if (!strcmp(word, "watch"))
        echo->watch =
            (struct sp_watch){.active = true, .account.bytes = {7}, .mailbox = (uint32_t)number};
    else if (!strcmp(word, "unwatch"))
        echo->watch.active = false;
    else if (!strcmp(word, "timer"))
        echo->deadline_ms = echo->now_ms + number;
    else if (!strcmp(word, "starttls")) {
        say(echo, "go ahead");
        echo->want_tls = true;
    } else if (!strcmp(word, "quit")) {
        say(echo, "bye");
        echo->close = true;
    } else
        say(echo, "what?");
}

static bool may_obey(const struct echo *echo)
{
    return !echo->close && !echo->want_tls && !echo->big && !echo->next &&
           echo->under_way < UNDER_WAY_MAX && echo->out.len < OUT_MAX;
}

static void work(struct echo *echo, uint64_t now_ms)
{
    echo->now_ms = now_ms;
    while (may_obey(echo)) {
        size_t end = sp_slice_find(sp_slice(echo->in, echo->in_len), '\n');
        if (end == SIZE_MAX)
            break;
        echo->in[end] = '\0';
        obey(echo, (const char *)echo->in);
        echo->in_len -= end + 1;
        memmove(echo->in, echo->in + end + 1, echo->in_len);
    }
    if (echo->want_tls)
        echo->in_len = 0;
    if (echo->eof && may_obey(echo) && !echo->under_way) {
        say(echo, "eof");
        echo->close = true;
    }
}

static struct sp_slice_mut echo_recv_buf(void *session)
{
    struct echo *echo = session;
    if (!may_obey(echo))
        return (struct sp_slice_mut){NULL, 0};
    return (struct sp_slice_mut){echo->in + echo->in_len, sizeof echo->in - echo->in_len};
}

static void echo_recv_ack(void *session, size_t n, uint64_t now_ms)
{
    struct echo *echo = session;
    sp_assert(n > 0 && n <= sizeof echo->in - echo->in_len);
    echo->in_len += n;
    work(echo, now_ms);
}

static void echo_recv_eof(void *session, uint64_t now_ms)
{
    struct echo *echo = session;
    sp_assert(!echo->eof);
    echo->eof = true;
    work(echo, now_ms);
}

static struct sp_slice echo_send_buf(void *session)
{
    struct echo *echo = session;
    while (echo->big && echo->out.len < 32768) {
        sp_buf_add_byte(&echo->out, (uint8_t)('a' + echo->big_at++ % 26));
        if (echo->big_at == echo->big) {
            sp_buf_add_byte(&echo->out, '\n');
            echo->big = echo->big_at = 0;
        }
    }
    return sp_buf_slice(&echo->out);
}

static void echo_send_ack(void *session, size_t n, uint64_t now_ms)
{
    struct echo *echo = session;
    sp_buf_consume(&echo->out, n);
    work(echo, now_ms);
}

static struct sp_request *echo_next(void *session)
{
    struct echo *echo = session;
    struct sp_request *request = echo->next;
    echo->next = NULL;
    if (request) {
        echo->under_way++;
        work(echo, echo->now_ms);
    }
    return request;
}

static void echo_complete(void *session, const struct sp_reply *reply, uint64_t now_ms)
{
    struct echo *echo = session;
    sp_assert(echo->under_way-- > 0);
    sp_buf_addf(&echo->out, "reply %s %.*s\n", sp_status_name(reply->status), SP_FMT(reply->text));
    work(echo, now_ms);
}

static unsigned echo_want(void *session)
{
    struct echo *echo = session;
    unsigned want = may_obey(echo) ? SP_WANT_READ : 0;
    if (echo->out.len || echo->big)
        want |= SP_WANT_WRITE;
    if (echo->want_tls)
        want |= SP_WANT_TLS;
    if (echo->close)
        want |= SP_WANT_CLOSE;
    return want;
}

static void echo_tls_done(void *session, uint64_t now_ms)
{
    struct echo *echo = session;
    sp_assert(echo->want_tls);
    echo->want_tls = false;
    echo->now_ms = now_ms;
    say(echo, "secured");
}

static uint64_t echo_deadline_ms(void *session)
{
    struct echo *echo = session;
    return echo->deadline_ms;
}

static void echo_tick(void *session, uint64_t now_ms)
{
    struct echo *echo = session;
    sp_assert(now_ms >= echo->deadline_ms);
    echo->deadline_ms = UINT64_MAX;
    say(echo, "tick");
}

static struct sp_watch echo_watch(void *session)
{
    struct echo *echo = session;
    return echo->watch;
}

static void echo_notify(void *session, uint64_t now_ms)
{
    struct echo *echo = session;
    sp_assert(echo->watch.active);
    echo->now_ms = now_ms;
    say(echo, "news");
}

static void echo_shutdown(void *session, uint64_t now_ms)
{
    struct echo *echo = session;
    echo->now_ms = now_ms;
    if (echo->stubborn)
        return;
    say(echo, "stopping");
    echo->close = true;
}

const struct sp_session_ops echo_ops = {
    .name = "echo",
    .refusal = "too many\n",
    .recv_buf = echo_recv_buf,
    .recv_ack = echo_recv_ack,
    .recv_eof = echo_recv_eof,
    .send_buf = echo_send_buf,
    .send_ack = echo_send_ack,
    .next = echo_next,
    .complete = echo_complete,
    .want = echo_want,
    .tls_done = echo_tls_done,
    .deadline_ms = echo_deadline_ms,
    .tick = echo_tick,
    .watch = echo_watch,
    .notify = echo_notify,
    .shutdown = echo_shutdown,
    .free = echo_free,
};

static uint64_t wall_ns(void)
{
    return sp_wall_ns();
}
const struct sp_session_env echo_env = {
    .hostname = "echo.example", .software = "echo", .wall_ns = wall_ns};
const struct sp_session_env echo_env_tls = {
    .hostname = "echo.example", .software = "echo", .tls_available = true, .wall_ns = wall_ns};

/* ---- the backend ---- */

struct echo_call {
    struct echo_call *next;
    struct sp_request *request;
    sp_backend_done *done;
    void *done_context;
    uint64_t at_ms; /* UINT64_MAX: when released */
};

static void answer(struct sp_request *request, sp_backend_done *done, void *done_context)
{
    struct sp_reply *reply = sp_reply_new(request);
    sp_assert(reply);
    reply->status = request->type == SP_REQ_AUTHENTICATE ? SP_DENIED : SP_OK;
    if (reply->status == SP_OK)
        reply->text = sp_arena_copy(&reply->arena, request->name);
    done(done_context, request, reply);
}

static void *backend_main(void *context)
{
    struct echo_backend *backend = context;
    pthread_mutex_lock(&backend->lock);
    while (!backend->stop || backend->calls) {
        struct echo_call **link = &backend->calls;
        uint64_t now = sp_now_ms();
        while (*link && (*link)->at_ms > now && !(backend->release && (*link)->at_ms == UINT64_MAX))
            link = &(*link)->next;
        struct echo_call *call = *link;
        if (call)
            *link = call->next;
        pthread_mutex_unlock(&backend->lock);
        if (call)
            answer(call->request, call->done, call->done_context);
        else
            usleep(2000);
        free(call);
        pthread_mutex_lock(&backend->lock);
    }
    pthread_mutex_unlock(&backend->lock);
    return NULL;
}

/* Holds the worker, as a search does. */
static void search(struct echo_backend *backend, const struct sp_request *request)
{
    bool goes_on = true;
    pthread_mutex_lock(&backend->lock);
    backend->searching++;
    while (goes_on) {
        bool cancelled = atomic_load(&request->cancelled);
        backend->cancelled += cancelled;
        goes_on = !cancelled && !backend->release;
        pthread_mutex_unlock(&backend->lock);
        usleep(1000);
        pthread_mutex_lock(&backend->lock);
    }
    backend->searching--;
    pthread_mutex_unlock(&backend->lock);
}

static void backend_execute(void *context, struct sp_request *request, sp_backend_done *done,
                            void *done_context)
{
    struct echo_backend *backend = context;
    pthread_mutex_lock(&backend->lock);
    memcpy(backend->peer, request->peer, sizeof backend->peer);
    pthread_mutex_unlock(&backend->lock);
    if (request->type == SP_REQ_SEARCH)
        search(backend, request);
    if (request->type == SP_REQ_FETCH || request->type == SP_REQ_DELIVER) {
        struct echo_call *call = calloc(1, sizeof *call);
        sp_assert(call);
        *call = (struct echo_call){.request = request, .done = done, .done_context = done_context};
        call->at_ms = request->type == SP_REQ_FETCH ? sp_now_ms() + 20 : UINT64_MAX;
        pthread_mutex_lock(&backend->lock);
        struct echo_call **link = &backend->calls;
        while (*link)
            link = &(*link)->next;
        *link = call;
        pthread_mutex_unlock(&backend->lock);
        return;
    }
    if (request->type == SP_REQ_RESOLVE && backend->slow_worker_ms)
        usleep((useconds_t)backend->slow_worker_ms * 1000);
    answer(request, done, done_context);
}

static bool backend_is_quick(void *context, const struct sp_request *request)
{
    (void)context;
    return request->type == SP_REQ_BODY_DROP;
}

static bool backend_is_long(void *context, const struct sp_request *request)
{
    (void)context;
    return request->type == SP_REQ_SEARCH;
}

static void backend_session_ended(void *context, uint64_t session)
{
    struct echo_backend *backend = context;
    (void)session;
    pthread_mutex_lock(&backend->lock);
    backend->ended++;
    pthread_mutex_unlock(&backend->lock);
}

static void backend_set_notify(void *context, sp_backend_notify *notify, void *notify_context)
{
    struct echo_backend *backend = context;
    pthread_mutex_lock(&backend->lock);
    backend->notify = notify;
    backend->notify_context = notify_context;
    pthread_mutex_unlock(&backend->lock);
}

struct sp_backend echo_backend_of(struct echo_backend *backend)
{
    return (struct sp_backend){backend,         backend_execute,       backend_is_quick,
                               backend_is_long, backend_session_ended, backend_set_notify};
}

struct sp_backend echo_backend_start(struct echo_backend *backend)
{
    *backend = (struct echo_backend){0};
    pthread_mutex_init(&backend->lock, NULL);
    assert_int_equal(pthread_create(&backend->thread, NULL, backend_main, backend), 0);
    return echo_backend_of(backend);
}

void echo_backend_stop(struct echo_backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    backend->stop = true;
    pthread_mutex_unlock(&backend->lock);
    pthread_join(backend->thread, NULL);
    pthread_mutex_destroy(&backend->lock);
}

void echo_backend_release(struct echo_backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    backend->release = true;
    pthread_mutex_unlock(&backend->lock);
}

void echo_backend_notify(struct echo_backend *backend, uint32_t mailbox)
{
    struct sp_uuid account = {.bytes = {7}};
    pthread_mutex_lock(&backend->lock);
    if (backend->notify)
        backend->notify(backend->notify_context, &account, mailbox);
    pthread_mutex_unlock(&backend->lock);
}

int echo_backend_searching(struct echo_backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    int searching = backend->searching;
    pthread_mutex_unlock(&backend->lock);
    return searching;
}

int echo_backend_cancelled(struct echo_backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    int cancelled = backend->cancelled;
    pthread_mutex_unlock(&backend->lock);
    return cancelled;
}

int echo_backend_ended(struct echo_backend *backend)
{
    pthread_mutex_lock(&backend->lock);
    int ended = backend->ended;
    pthread_mutex_unlock(&backend->lock);
    return ended;
}

/* ---- the client ---- */

struct client client_connect(uint16_t port)
{
    struct client client = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 20};
    assert_true(client.fd >= 0);
    setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(client.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(client.fd, (struct sockaddr *)&to, sizeof to), 0);
    return client;
}

void client_start_tls(struct client *client, SSL_CTX *ctx)
{
    client->tls = SSL_new(ctx);
    assert_non_null(client->tls);
    SSL_set_fd(client->tls, client->fd);
    assert_int_equal(SSL_connect(client->tls), 1);
}

void client_close(struct client *client)
{
    SSL_free(client->tls);
    close(client->fd);
    *client = (struct client){.fd = -1};
}

void client_send(struct client *client, const char *text)
{
    size_t len = strlen(text);
    if (client->tls) {
        assert_int_equal(SSL_write(client->tls, text, (int)len), len);
        return;
    }
    for (size_t at = 0; at < len;) {
        ssize_t n = send(client->fd, text + at, len - at, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += (size_t)n;
    }
}

size_t client_read(struct client *client, void *ret_bytes, size_t size)
{
    if (client->tls) {
        int n = SSL_read(client->tls, ret_bytes, (int)size);
        if (n <= 0)
            assert_int_equal(SSL_get_error(client->tls, n), SSL_ERROR_ZERO_RETURN);
        return n > 0 ? (size_t)n : 0;
    }
    ssize_t n = recv(client->fd, ret_bytes, size, 0);
    assert_true(n >= 0);
    return (size_t)n;
}

void client_expect(struct client *client, const char *line)
{
    char got[256];
    size_t len = 0;
    while (len < sizeof got - 1 && client_read(client, got + len, 1) == 1 && got[len] != '\n')
        len++;
    got[len] = '\0';
    assert_string_equal(got, line);
}

void client_expect_silence(struct client *client, int ms)
{
    struct pollfd poll_fd = {.fd = client->fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, ms), 0);
}

void client_expect_end(struct client *client)
{
    char byte;
    assert_int_equal(client_read(client, &byte, 1), 0);
}
