#include "net/listen.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 64
#define REST_MS          250U
#define LOG_EVERY_MS     1000U

struct sp_listener {
    struct sp_source source;
    struct sp_acceptor *acceptor;
    const struct sp_listener_config *config;
    int fd;
    uint16_t port;
};

/* ---- sockets ---- */

static enum sp_status bind_error(const struct sp_listener_config *config, uint16_t port, int why,
                                 struct sp_error *error)
{
    char what[128];
    snprintf(what, sizeof what, "listen %s", config->name);
    switch (why) {
    case EADDRINUSE:
        sp_error_set(error, SP_EXISTS, what, "%s is in use", config->address);
        sp_error_todo(
            error,
            "stop what listens there (ss -ltnp 'sport = :%u' names it), or choose another port",
            port);
        return SP_EXISTS;
    case EADDRNOTAVAIL:
        sp_error_set(error, SP_INVALID, what, "%s is not an address of this machine",
                     config->address);
        sp_error_todo(error, "choose one that `ip address` shows, or leave it out (:%u) for all",
                      port);
        return SP_INVALID;
    case EACCES:
        sp_error_set(error, SP_DENIED, what, "no permission for %s", config->address);
        sp_error_todo(error,
                      "ports below 1024 need root or CAP_NET_BIND_SERVICE; or choose a higher one");
        return SP_DENIED;
    default:
        return sp_error_set(error, SP_IO, what, "%s: %s", config->address, strerror(why));
    }
}

/* A listening socket, or -1 with errno. */
static int listen_on(const struct sp_address *address, bool both_families)
{
    struct sockaddr_storage sockaddr;
    socklen_t len = sp_address_to(address, &sockaddr);
    int fd = socket(sockaddr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int on = 1, v6_only = !both_families;
    bool ok = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0;
    if (sockaddr.ss_family == AF_INET6)
        ok = ok && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only) == 0;
    /* Accepted sockets inherit it. */
    ok = ok && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0;
    ok = ok && bind(fd, (const struct sockaddr *)&sockaddr, len) == 0;
    ok = ok && listen(fd, SOMAXCONN) == 0;
    if (!ok) {
        int why = errno;
        close(fd);
        errno = why;
        return -1;
    }
    return fd;
}

static enum sp_status open_listener(struct sp_listener *listener, struct sp_error *error)
{
    const struct sp_listener_config *config = listener->config;
    struct sp_address address;
    bool any;
    if (sp_address_parse(config->address, &address, &any) != SP_OK) {
        char what[128];
        snprintf(what, sizeof what, "listen %s", config->name);
        sp_error_set(error, SP_INVALID, what, "%s is not an address with a port", config->address);
        sp_error_todo(error, "write 127.0.0.1:2525, [::1]:2525, or :2525 for every address");
        return SP_INVALID;
    }
    listener->fd = listen_on(&address, any);
    if (listener->fd < 0 && any && errno == EAFNOSUPPORT) {
        address.ip[10] = address.ip[11] = 0xff; /* no IPv6 here: 0.0.0.0 */
        listener->fd = listen_on(&address, false);
    }
    if (listener->fd < 0)
        return bind_error(config, address.port, errno, error);

    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    if (getsockname(listener->fd, (struct sockaddr *)&bound, &len) != 0)
        return bind_error(config, address.port, errno, error);
    listener->port = sp_address_from(&bound).port;
    return SP_OK;
}

/* ---- accepting ---- */

static struct sp_conns *least_loaded(struct sp_acceptor *acceptor)
{
    struct sp_conns *best = NULL;
    uint32_t best_load = 0;
    for (uint32_t i = 0; i < acceptor->conns_count; i++) {
        struct sp_conns *conns = &acceptor->conns[(acceptor->next + i) % acceptor->conns_count];
        uint32_t load = atomic_load_explicit(&conns->load, memory_order_relaxed);
        if (!best || load < best_load) {
            best = conns;
            best_load = load;
        }
    }
    acceptor->next++;
    return best;
}

static void log_refused(struct sp_acceptor *acceptor, const struct sp_listener *listener,
                        const struct sp_address *address, const char *why)
{
    uint64_t now = acceptor->conns->loop.now_ms;
    acceptor->refused_unlogged++;
    if (acceptor->refused_logged_ms && now < acceptor->refused_logged_ms + LOG_EVERY_MS)
        return;
    char peer[SP_ADDRESS_TEXT];
    sp_address_literal(address, peer);
    sp_log(SP_LOG_WARN, "conn.refused", "listener=%s peer=%s count=%" PRIu32 " why=%s",
           listener->config->name, peer, acceptor->refused_unlogged, SP_LOG_QUOTED(why));
    acceptor->refused_logged_ms = now;
    acceptor->refused_unlogged = 0;
}

/* If the socket takes it at once; a client of implicit TLS would not understand it. */
static void say_refused(const struct sp_listener_config *config, int fd)
{
    const char *words = config->ops->refusal;
    if (words && !config->implicit_tls &&
        send(fd, words, strlen(words), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return; /* it will see the connection closed */
}

static void rest(struct sp_acceptor *acceptor, int why)
{
    if (acceptor->resting)
        return;
    struct sp_loop *loop = &acceptor->conns->loop;
    acceptor->resting = true;
    for (uint32_t i = 0; i < acceptor->listeners_count; i++)
        sp_loop_remove(loop, acceptor->listeners[i].fd);
    sp_timers_set(&loop->timers, &acceptor->rest, loop->now_ms + REST_MS);
    sp_log(SP_LOG_WARN, "accept.rest", "ms=%u why=%s", REST_MS, SP_LOG_QUOTED(strerror(why)));
}

/* Level-triggered, unlike connections: what is left is announced again. */
static void on_events(struct sp_source *source, uint32_t events)
{
    struct sp_listener *listener = sp_owner(source, struct sp_listener, source);
    struct sp_acceptor *acceptor = listener->acceptor;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && !acceptor->resting; i++) {
        struct sockaddr_storage sockaddr;
        socklen_t len = sizeof sockaddr;
        int fd =
            accept4(listener->fd, (struct sockaddr *)&sockaddr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                rest(acceptor, errno);
            /* Anything else is EAGAIN, or an error of that one connection (accept(2)): see in the
             * next turn. */
            return;
        }
        struct sp_address peer = sp_address_from(&sockaddr);
        const char *why_not = sp_peers_enter(&acceptor->net->peers, &peer);
        if (why_not) {
            log_refused(acceptor, listener, &peer, why_not);
            say_refused(listener->config, fd);
            close(fd);
        } else {
            sp_conn_accept(least_loaded(acceptor), listener->config, fd, &peer);
        }
    }
}

static bool add_all(struct sp_acceptor *acceptor)
{
    for (uint32_t i = 0; i < acceptor->listeners_count; i++) {
        struct sp_listener *listener = &acceptor->listeners[i];
        if (!sp_loop_add(&acceptor->conns->loop, listener->fd, EPOLLIN, &listener->source) &&
            errno != EEXIST)
            return false;
    }
    return true;
}

static void on_rested(struct sp_timer *timer)
{
    struct sp_acceptor *acceptor = sp_owner(timer, struct sp_acceptor, rest);
    acceptor->resting = false;
    if (!add_all(acceptor))
        rest(acceptor, errno);
}

/* ---- */

enum sp_status sp_acceptor_open(struct sp_acceptor *acceptor, struct sp_net *net,
                                struct sp_conns *conns, uint32_t conns_count,
                                struct sp_error *error)
{
    const struct sp_server_config *config = &net->config;
    *acceptor = (struct sp_acceptor){
        .net = net, .conns = conns, .conns_count = conns_count, .rest.fire = on_rested};
    acceptor->listeners = calloc(config->listeners_count, sizeof(struct sp_listener));
    if (!acceptor->listeners || !sp_timers_reserve(&conns->loop.timers)) {
        free(acceptor->listeners);
        acceptor->listeners = NULL;
        return sp_error_set(error, SP_NO_MEMORY, "server", "no memory for listeners");
    }
    enum sp_status status = SP_OK;
    while (!status && acceptor->listeners_count < config->listeners_count) {
        uint32_t i = acceptor->listeners_count++;
        acceptor->listeners[i] = (struct sp_listener){.source.on_events = on_events,
                                                      .acceptor = acceptor,
                                                      .config = &config->listeners[i],
                                                      .fd = -1};
        status = open_listener(&acceptor->listeners[i], error);
    }
    if (status)
        sp_acceptor_close(acceptor);
    return status;
}

enum sp_status sp_acceptor_start(struct sp_acceptor *acceptor, struct sp_error *error)
{
    if (!add_all(acceptor))
        return sp_error_set(error, SP_IO, "server", "cannot watch the listening sockets: %s",
                            strerror(errno));
    return SP_OK;
}

void sp_acceptor_close(struct sp_acceptor *acceptor)
{
    if (!acceptor->listeners)
        return;
    for (uint32_t i = 0; i < acceptor->listeners_count; i++) {
        if (acceptor->listeners[i].fd >= 0)
            close(acceptor->listeners[i].fd);
    }
    sp_timers_unreserve(&acceptor->conns->loop.timers, &acceptor->rest);
    free(acceptor->listeners);
    acceptor->listeners = NULL;
    acceptor->listeners_count = 0;
}

uint16_t sp_acceptor_port(const struct sp_acceptor *acceptor, uint32_t listener)
{
    sp_assert(listener < acceptor->listeners_count);
    return acceptor->listeners[listener].port;
}
