/* The server: runs protocol sessions (proto/session.h) on sockets.
 *
 * Model. A few event-loop threads own the connections; each connection belongs to one loop for all
 * its life, and its session is called by that loop's thread alone. What a session asks for (struct
 * sp_request) goes to the backend: at once if the backend says it is quick, otherwise through a
 * bounded queue to a pool of workers. The reply, on whatever thread it comes, goes back to the
 * connection's loop. Net knows no protocol: a listener brings a factory of sessions and their table
 * of operations.
 *
 * Accepting. The first loop accepts for all and hands each connection to the loop that has the
 * fewest. With a listening socket in every loop's epoll (EPOLLEXCLUSIVE) the kernel prefers the
 * same waiter again and again, and connections that stay for hours (IMAP IDLE) would pile up in one
 * loop; with SO_REUSEPORT a port that is in use would go unnoticed.
 *
 * Memory. An idle connection costs its struct (under 512 bytes), its session and, with TLS,
 * OpenSSL's state without buffers: bytes go from the socket straight into the session's buffer and
 * back.
 *
 * Limits. Connections in all and per peer (an IPv4 address, an IPv6 /64); requests waiting for a
 * worker; bytes moved per connection and turn; time for a handshake, for a peer that takes no
 * bytes, for a close. Beyond the number of connections new ones are told so and closed; beyond the
 * queue a request is answered SP_UNAVAILABLE at once. What may take long has at most half of the
 * workers, and one for an account (net/workers.h); when its session ends it is cancelled. Requests
 * carry their peer, so that the backend can limit what one peer uses.
 *
 * Guessing passwords. The reply SP_DENIED to SP_REQ_AUTHENTICATE is held back for a second; no
 * thread waits for it.
 *
 * RFC 8314 (implicit TLS), RFC 3207 and RFC 9051 6.2.1 (STARTTLS: the session throws away what came
 * in the clear).
 */
#ifndef SP_NET_SERVER_H
#define SP_NET_SERVER_H

#include "net/backend.h"
#include "proto/session.h"

#define SP_LISTENERS_MAX 64U
#define SP_LOOPS_MAX     64U
#define SP_WORKERS_MAX   256U

struct sp_server;

struct sp_listener_config {
    const char *name;    /* "imap", for logs and errors */
    const char *address; /* "127.0.0.1:2525", "[::1]:25"; ":25": every address, IPv6 and IPv4; port
                            0: any */
    bool implicit_tls;
    const struct sp_session_ops *ops;
    /* Called on any loop's thread; peer is borrowed for the call, env outlives the session. NULL:
     * no memory. */
    void *(*session_new)(const struct sp_session_env *env, const struct sp_session_peer *peer,
                         uint64_t now_ms);
};

/* Whatever it points to is borrowed and must outlive the server. Where 0 is said to be a default,
 * it is. */
struct sp_server_config {
    const struct sp_listener_config *listeners;
    uint32_t listeners_count;
    const struct sp_session_env *env;
    struct sp_backend backend;
    const char *tls_cert;              /* PEM, the chain, leaf first; NULL: no TLS */
    const char *tls_key;               /* PEM */
    uint32_t loops;                    /* 0: one for two processors, 4 at most */
    uint32_t workers;                  /* 0: two for each processor */
    uint32_t worker_queue_max;         /* 0: 10,000 */
    uint32_t connections_max;          /* 0: 10,000 */
    uint32_t connections_per_peer_max; /* 0: no limit */
    bool loopback_exempt;              /* from connections_per_peer_max */
    uint64_t handshake_timeout_ms;     /* 0: 30 s */
    uint64_t write_stall_ms;           /* no byte taken for so long: closed; 0: 5 min */
    uint64_t linger_ms;                /* after our last byte, for the peer to close; 0: 2 s */
    uint64_t drain_ms;                 /* for sessions to end when the server stops; 0: 5 s */
    uint64_t denied_delay_ms;          /* 0: 1 s */
    uint32_t
        denied_held_max; /* replies held back at once by a loop; beyond: sent at once. 0: 1,000 */
};

struct sp_server_counters {
    uint64_t connections_now, connections_total;
    uint64_t refused;             /* connections beyond a limit */
    uint64_t bytes_in, bytes_out; /* on the wire */
    uint64_t requests;            /* handed to the backend */
    uint64_t requests_refused;    /* the queue was full */
    uint64_t requests_waiting;    /* for a worker, now */
    uint64_t denied_held;         /* logins whose refusal was held back */
    uint64_t tls_handshakes, tls_failed;
};

/* Listens and runs. Raises the limit of open files as far as it may. On failure nothing is left
 * running and *error names the listener or file: SP_INVALID (address, settings, certificate),
 * SP_EXISTS (port in use), SP_DENIED, SP_IO, SP_NO_MEMORY. */
enum sp_status sp_server_start(const struct sp_server_config *config, struct sp_server **ret_server,
                               struct sp_error *error) SP_MUST_USE;
/* The port a listener has: the one asked for, or the one that 0 became. */
uint16_t sp_server_port(const struct sp_server *server, uint32_t listener);
/* Reads certificate and key again, for connections to come; on failure the old ones stay. Any
 * thread. */
enum sp_status sp_server_tls_reload(struct sp_server *server, struct sp_error *error) SP_MUST_USE;
/* Any thread. */
void sp_server_counters(struct sp_server *server, struct sp_server_counters *ret_counters);
/* Of one listener, while the server runs; name as in its configuration. Any thread. */
const struct sp_session_counts *sp_server_session_counts(const struct sp_server *server,
                                                         uint32_t listener, const char **ret_name);
uint32_t sp_server_listeners(const struct sp_server *server);
/* Closes the listeners, tells every session (421, BYE), gives them drain_ms to end, closes the
 * rest, waits for the replies that the backend still owes (it must be running), frees the server.
 * NULL is fine. */
void sp_server_stop(struct sp_server *server);

#endif
