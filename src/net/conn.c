#include "net/conn.h"

#include "net/job.h"

#include "base/log.h"
#include "base/uuid.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BYTES_PER_RUN    262144U  /* then it is the turn of others */
#define LINGER_BYTES_MAX 1048576U /* read and thrown away after our last byte */
#define DISCARD_BYTES    16384U

_Static_assert(sizeof(struct sp_conn) < 512, "an idle connection is small");

/* ---- input and output ---- */

static bool has_input(const struct sp_conn *conn)
{
    return conn->sock.readable || (conn->tls && sp_tls_pending(conn->tls));
}

static void end_of_input(struct sp_conn *conn)
{
    conn->eof = true;
    conn->listener->ops->recv_eof(conn->session, conn->conns->loop.now_ms);
}

/* Takes what was moved off the budget of a run. */
static void spend(size_t *budget, size_t bytes)
{
    *budget = bytes < *budget ? *budget - bytes : 0;
}

static bool read_input(struct sp_conn *conn, size_t *budget)
{
    const struct sp_session_ops *ops = conn->listener->ops;
    bool moved = false;
    while (*budget && !conn->eof && has_input(conn) && (ops->want(conn->session) & SP_WANT_READ)) {
        struct sp_slice_mut room = ops->recv_buf(conn->session);
        if (!room.len)
            break;
        ssize_t n = conn->tls ? sp_tls_recv(conn->tls, room.ptr, room.len)
                              : sp_sock_recv(&conn->sock, room.ptr, room.len);
        if (n == SP_SOCK_AGAIN)
            break;
        if (n == SP_SOCK_ERROR) {
            sp_conn_doom(conn, conn->tls ? sp_tls_why() : "connection lost");
            return false;
        }
        moved = true;
        if (n == 0) {
            end_of_input(conn);
        } else {
            ops->recv_ack(conn->session, (size_t)n, conn->conns->loop.now_ms);
            spend(budget, (size_t)n);
        }
    }
    return moved;
}

static bool write_output(struct sp_conn *conn, size_t *budget)
{
    const struct sp_session_ops *ops = conn->listener->ops;
    uint64_t now = conn->conns->loop.now_ms;
    bool moved = false;
    while (ops->want(conn->session) & SP_WANT_WRITE) {
        struct sp_slice bytes = ops->send_buf(conn->session);
        if (!bytes.len || !*budget)
            break;
        ssize_t n = conn->tls ? sp_tls_send(conn->tls, bytes.ptr, bytes.len)
                              : sp_sock_send(&conn->sock, bytes.ptr, bytes.len);
        if (n == SP_SOCK_ERROR) {
            sp_conn_doom(conn, conn->tls ? sp_tls_why() : "connection lost");
            return false;
        }
        if (n == SP_SOCK_AGAIN) {
            if (moved || !conn->stalled_since_ms)
                conn->stalled_since_ms = now;
            return moved;
        }
        moved = true;
        ops->send_ack(conn->session, (size_t)n, now);
        spend(budget, (size_t)n);
    }
    conn->stalled_since_ms = 0;
    return moved;
}

/* ---- states ---- */

static void set_state(struct sp_conn *conn, enum sp_conn_state state, uint64_t limit_ms)
{
    conn->state = state;
    conn->state_until_ms = limit_ms ? conn->conns->loop.now_ms + limit_ms : SP_TIMER_NEVER;
}

struct sp_session_counts *sp_conn_counts(const struct sp_conn *conn)
{
    struct sp_net *net = conn->conns->net;
    return &net->counts[conn->listener - net->config.listeners];
}

static size_t channel_binding(void *channel, const char *type, uint8_t ret[SP_CHANNEL_BYTES])
{
    const struct sp_conn *conn = channel;
    return conn->tls ? sp_tls_channel_binding(conn->tls, type, ret, SP_CHANNEL_BYTES) : 0;
}

static void open_session(struct sp_conn *conn)
{
    struct sp_conns *conns = conn->conns;
    struct sp_session_peer peer = {.id = conn->id,
                                   .tls = conn->listener->implicit_tls,
                                   .counts = sp_conn_counts(conn),
                                   .channel_binding = channel_binding,
                                   .channel = conn,
                                   .cleartext_ok = sp_address_is_loopback(&conn->peer)};
    sp_address_literal(&conn->peer, peer.address);
    conn->session = conn->listener->session_new(conns->net->config.env, &peer, conns->loop.now_ms);
    if (!conn->session) {
        sp_conn_doom(conn, "no memory");
    } else {
        atomic_fetch_add(&peer.counts->sessions, 1);
        atomic_fetch_add(&peer.counts->sessions_now, 1);
    }
    set_state(conn, SP_CONN_OPEN, 0);
}

static void begin_handshake(struct sp_conn *conn)
{
    conn->tls = sp_tls_new(&conn->conns->net->tls, &conn->sock);
    if (!conn->tls)
        sp_conn_doom(conn, "no TLS to be had");
    set_state(conn, SP_CONN_HANDSHAKE, conn->conns->net->config.handshake_timeout_ms);
}

static void run_handshake(struct sp_conn *conn)
{
    struct sp_conns *conns = conn->conns;
    ssize_t n = sp_tls_handshake(conn->tls);
    if (n == SP_SOCK_ERROR) {
        sp_count(&conns->counters.tls_failed, 1);
        sp_conn_doom(conn, sp_tls_why());
    } else if (n > 0) {
        sp_count(&conns->counters.tls_handshakes, 1);
        if (conn->session) {
            conn->listener->ops->tls_done(conn->session, conns->loop.now_ms);
            set_state(conn, SP_CONN_OPEN, 0);
        } else {
            open_session(conn);
        }
    }
}

static void end_session(struct sp_conn *conn)
{
    struct sp_watch nothing = {0};
    sp_watches_set(&conn->conns->watches, &conn->watcher, &nothing);
    sp_jobs_drop_held(conn);
    sp_jobs_cancel(conn);
    if (conn->session) {
        conn->listener->ops->free(conn->session);
        atomic_fetch_sub(&sp_conn_counts(conn)->sessions_now, 1);
    }
    conn->session = NULL;
}

/* The session has said all. */
static void begin_linger(struct sp_conn *conn)
{
    end_session(conn);
    if (conn->tls)
        sp_tls_shutdown(conn->tls);
    sp_tls_free(conn->tls);
    conn->tls = NULL;
    if (shutdown(conn->sock.fd, SHUT_WR) != 0)
        sp_conn_doom(conn, "connection lost");
    set_state(conn, SP_CONN_LINGER, conn->conns->net->config.linger_ms);
}

static void run_linger(struct sp_conn *conn)
{
    uint8_t discarded[DISCARD_BYTES];
    for (size_t bytes = 0; bytes < LINGER_BYTES_MAX;) {
        ssize_t n = sp_sock_recv(&conn->sock, discarded, sizeof discarded);
        if (n == SP_SOCK_AGAIN)
            return;
        if (n <= 0)
            break;
        bytes += (size_t)n;
    }
    sp_conn_doom(conn, "done");
}

static void run_session(struct sp_conn *conn)
{
    const struct sp_session_ops *ops = conn->listener->ops;
    size_t budget = BYTES_PER_RUN;
    bool moved;
    do {
        moved = read_input(conn, &budget);
        if (conn->doom)
            return;
        moved |= sp_jobs_start(conn);
        moved |= write_output(conn, &budget);
        if (conn->doom)
            return;
        unsigned want = ops->want(conn->session);
        if (want & SP_WANT_WRITE)
            continue;
        if (want & SP_WANT_CLOSE) {
            begin_linger(conn);
            return;
        }
        if ((want & SP_WANT_TLS) && conn->tls) {
            sp_conn_doom(conn, "TLS within TLS");
            return;
        }
        if (want & SP_WANT_TLS) {
            begin_handshake(conn);
            sp_conn_ready(conn);
            return;
        }
    } while (moved && budget);
    if (!budget)
        sp_conn_ready(conn);
    struct sp_watch watch = ops->watch(conn->session);
    sp_watches_set(&conn->conns->watches, &conn->watcher, &watch);
}

/* ---- deadlines ---- */

static uint64_t stall_deadline(const struct sp_conn *conn)
{
    return conn->stalled_since_ms ? conn->stalled_since_ms + conn->conns->net->config.write_stall_ms
                                  : SP_TIMER_NEVER;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t deadline(struct sp_conn *conn)
{
    if (conn->state != SP_CONN_OPEN)
        return conn->state_until_ms;
    uint64_t first = earlier(conn->listener->ops->deadline_ms(conn->session), stall_deadline(conn));
    return conn->held ? earlier(first, conn->held_until_ms) : first;
}

/* Later deadlines are left to the timer's next firing. */
static void set_timer(struct sp_conn *conn)
{
    uint64_t at = deadline(conn), soonest = conn->conns->loop.now_ms + 1;
    if (at < soonest)
        at = soonest;
    if (at != SP_TIMER_NEVER && (!conn->timer.place || at < conn->timer.at_ms))
        sp_timers_set(&conn->conns->loop.timers, &conn->timer, at);
}

static void on_timer(struct sp_timer *timer)
{
    struct sp_conn *conn = sp_owner(timer, struct sp_conn, timer);
    uint64_t now = conn->conns->loop.now_ms;
    if (conn->state != SP_CONN_OPEN) {
        if (conn->state_until_ms <= now)
            sp_conn_doom(conn, conn->state == SP_CONN_LINGER ? "done" : "handshake timeout");
    } else if (!conn->doom) {
        if (conn->held)
            sp_jobs_release_held(conn, false);
        if (stall_deadline(conn) <= now)
            sp_conn_doom(conn, "the peer takes nothing");
        else if (conn->listener->ops->deadline_ms(conn->session) <= now)
            conn->listener->ops->tick(conn->session, now);
    }
    sp_conn_ready(conn);
}

static void on_news(struct sp_watcher *watcher)
{
    struct sp_conn *conn = sp_owner(watcher, struct sp_conn, watcher);
    conn->listener->ops->notify(conn->session, conn->conns->loop.now_ms);
    sp_conn_ready(conn);
}

static void on_events(struct sp_source *source, uint32_t events)
{
    struct sp_conn *conn = sp_owner(source, struct sp_conn, source);
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        conn->sock.readable = true;
    if (events & EPOLLOUT)
        conn->sock.writable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP))
        conn->sock.peer_closed = true;
    /* Both directions are closed. If we have closed none, the peer has reset it. */
    if ((events & EPOLLERR) || ((events & EPOLLHUP) && conn->state != SP_CONN_LINGER))
        sp_conn_doom(conn, "reset by the peer");
    sp_conn_ready(conn);
}

/* ---- life ---- */

static void log_close(const struct sp_conn *conn)
{
    char peer[SP_ADDRESS_TEXT], why[256];
    sp_address_literal(&conn->peer, peer);
    sp_log(SP_LOG_INFO, "conn.close",
           "id=%016" PRIx64 " listener=%s peer=%s ms=%" PRIu64 " in=%" PRIu64 " out=%" PRIu64
           " requests=%" PRIu32 " why=%s",
           conn->id, conn->listener->name, peer, conn->conns->loop.now_ms - conn->opened_ms,
           conn->sock.bytes_in, conn->sock.bytes_out, conn->requests,
           sp_log_quote(sp_slice_str(conn->doom), why, sizeof why));
}

static void end_loop_if_empty(struct sp_conns *conns)
{
    if (conns->stopping && conns->alive == 0) {
        sp_timers_unreserve(&conns->loop.timers, &conns->stop_timer);
        sp_loop_quit(&conns->loop);
    }
}

void sp_conn_settle(struct sp_conn *conn)
{
    struct sp_conns *conns = conn->conns;
    if (conn->sock.fd >= 0 || conn->under_way)
        return;
    const struct sp_backend *backend = &conns->net->config.backend;
    if (conn->requests)
        backend->session_ended(backend->context, conn->id);
    free(conn);
    conns->alive--;
    end_loop_if_empty(conns);
}

static void close_conn(struct sp_conn *conn)
{
    struct sp_conns *conns = conn->conns;
    log_close(conn);
    end_session(conn);
    sp_tls_free(conn->tls);
    conn->tls = NULL;
    sp_timers_unreserve(&conns->loop.timers, &conn->timer);
    TAILQ_REMOVE(&conns->open, conn, link);
    close(conn->sock.fd);
    conn->sock.fd = -1;
    sp_peers_leave(&conns->net->peers, &conn->peer);
    atomic_fetch_sub_explicit(&conns->load, 1, memory_order_relaxed);
    sp_conn_settle(conn);
}

static void run(struct sp_task *task)
{
    struct sp_conn *conn = sp_owner(task, struct sp_conn, task);
    conn->queued = false;
    if (!conn->doom && conn->state == SP_CONN_HANDSHAKE)
        run_handshake(conn);
    if (!conn->doom && conn->state == SP_CONN_OPEN)
        run_session(conn);
    if (!conn->doom && conn->state == SP_CONN_LINGER)
        run_linger(conn);
    if (!conn->doom)
        set_timer(conn);
    else if (!conn->queued)
        close_conn(conn);
}

/* The first task of a connection, posted by the acceptor. */
static void begin(struct sp_task *task)
{
    struct sp_conn *conn = sp_owner(task, struct sp_conn, task);
    struct sp_conns *conns = conn->conns;
    if (!sp_timers_reserve(&conns->loop.timers)) {
        close(conn->sock.fd);
        sp_peers_leave(&conns->net->peers, &conn->peer);
        atomic_fetch_sub_explicit(&conns->load, 1, memory_order_relaxed);
        free(conn);
        return;
    }
    conns->alive++;
    TAILQ_INSERT_TAIL(&conns->open, conn, link);
    conn->opened_ms = conns->loop.now_ms;
    conn->task.run = run;
    if (conns->stopping)
        sp_conn_doom(conn, "the server stops");
    else if (!sp_loop_add(&conns->loop, conn->sock.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                          &conn->source))
        sp_conn_doom(conn, "it cannot be watched");
    else if (conn->listener->implicit_tls)
        begin_handshake(conn);
    else
        open_session(conn);
    sp_conn_ready(conn);
}

void sp_conn_accept(struct sp_conns *conns, const struct sp_listener_config *listener, int fd,
                    const struct sp_address *peer)
{
    struct sp_conn *conn = malloc(sizeof *conn);
    if (!conn) {
        close(fd);
        sp_peers_leave(&conns->net->peers, peer);
        return;
    }
    *conn = (struct sp_conn){.conns = conns,
                             .listener = listener,
                             .id = sp_random_u64(),
                             .sock = {.fd = fd, .writable = true, .counters = &conns->counters},
                             .peer = *peer,
                             .task.run = begin,
                             .source.on_events = on_events,
                             .timer.fire = on_timer};
    atomic_fetch_add_explicit(&conns->load, 1, memory_order_relaxed);
    sp_loop_post(&conns->loop, &conn->task);
}

void sp_conn_ready(struct sp_conn *conn)
{
    if (conn->queued)
        return;
    conn->queued = true;
    sp_loop_ready(&conn->conns->loop, &conn->task);
}

void sp_conn_doom(struct sp_conn *conn, const char *why)
{
    if (!conn->doom)
        conn->doom = why;
}

/* ---- all of a loop ---- */

static void on_stop_timer(struct sp_timer *timer)
{
    struct sp_conns *conns = sp_owner(timer, struct sp_conns, stop_timer);
    struct sp_conn *conn;
    TAILQ_FOREACH(conn, &conns->open, link)
    {
        sp_conn_doom(conn, "the server stops");
        sp_conn_ready(conn);
    }
}

static void on_stop(struct sp_task *task)
{
    struct sp_conns *conns = sp_owner(task, struct sp_conns, stop_task);
    struct sp_conn *conn;
    uint64_t now = conns->loop.now_ms;
    conns->stopping = true;
    sp_timers_set(&conns->loop.timers, &conns->stop_timer, now + conns->net->config.drain_ms);
    TAILQ_FOREACH(conn, &conns->open, link)
    {
        if (conn->state == SP_CONN_HANDSHAKE) {
            sp_conn_doom(conn, "the server stops");
        } else if (conn->session) {
            sp_jobs_release_held(conn, true);
            conn->listener->ops->shutdown(conn->session, now);
        }
        sp_conn_ready(conn);
    }
    end_loop_if_empty(conns);
}

enum sp_status sp_conns_init(struct sp_conns *conns, struct sp_net *net, struct sp_error *error)
{
    *conns =
        (struct sp_conns){.net = net, .stop_timer.fire = on_stop_timer, .stop_task.run = on_stop};
    TAILQ_INIT(&conns->open);
    enum sp_status status = sp_loop_init(&conns->loop, error);
    if (status)
        return status;
    if (!sp_timers_reserve(&conns->loop.timers))
        status = sp_error_set(error, SP_NO_MEMORY, "server", "no memory for an event loop");
    if (!status)
        status = sp_watches_init(&conns->watches, &conns->loop, net->workers, on_news, error);
    if (status)
        sp_loop_release(&conns->loop);
    return status;
}

void sp_conns_release(struct sp_conns *conns)
{
    sp_assert(conns->alive == 0);
    sp_watches_release(&conns->watches);
    sp_loop_release(&conns->loop);
}

void sp_conns_stop(struct sp_conns *conns)
{
    sp_loop_post(&conns->loop, &conns->stop_task);
}
