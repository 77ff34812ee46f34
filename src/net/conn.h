/* A connection: a socket, perhaps TLS, a session, and what the session has asked for.
 *
 * Life. The acceptor makes it and posts it to the loop that will own it; there it may do a
 * handshake, is open, lingers after its last byte until the peer has closed too (so that unread
 * input does not turn our last words into a reset), and is closed. Only the owning loop touches it.
 * It is closed in its own run and nowhere else: whoever wants it gone says why (sp_conn_doom) and
 * makes it ready. A closed connection with requests under way stays, without socket and session,
 * until the last reply has come.
 *
 * A run. Read while there is room and something to read; start what the session asks; write; and
 * again while that moves anything, up to a number of bytes, after which others have their turn.
 * Replies, news and timers call the session and make the connection ready, so that answers to many
 * commands leave in one send.
 */
#ifndef SP_NET_CONN_H
#define SP_NET_CONN_H

#include "net/address.h"
#include "net/peers.h"
#include "net/server.h"
#include "net/sock.h"
#include "net/tls.h"
#include "net/watch.h"

/* What all loops share. The configuration has its defaults filled in. */
struct sp_net {
    struct sp_server_config config;
    struct sp_workers *workers;
    struct sp_tls_context tls;
    struct sp_peers peers;
    struct sp_session_counts counts[SP_LISTENERS_MAX]; /* as config.listeners */
};

struct sp_conn;
struct sp_job;
TAILQ_HEAD(sp_conn_list, sp_conn);

/* The connections of one loop. */
struct sp_conns {
    struct sp_net *net;
    struct sp_loop loop;
    struct sp_watches watches;
    struct sp_counters counters;
    _Atomic uint32_t load;    /* connections given to this loop and not yet closed; any thread */
    struct sp_conn_list open; /* those with a socket */
    uint32_t alive;           /* open ones, and closed ones that wait for replies */
    uint32_t held;            /* replies held back */
    bool stopping;
    struct sp_timer stop_timer;
    struct sp_task stop_task;
};

enum sp_conn_state { SP_CONN_NEW, SP_CONN_HANDSHAKE, SP_CONN_OPEN, SP_CONN_LINGER };

struct sp_conn {
    struct sp_conns *conns;
    const struct sp_listener_config *listener;
    void *session;      /* from the handshake of implicit TLS to lingering */
    struct ssl_st *tls; /* NULL: in the clear */
    uint64_t id;
    struct sp_sock sock;
    struct sp_address peer;
    enum sp_conn_state state;
    bool queued;        /* in the ready list */
    bool eof;           /* the session was told of the end of input */
    const char *doom;   /* why it is to be closed; NULL: it is not */
    uint32_t under_way; /* requests; held replies count */
    uint32_t requests;
    uint64_t opened_ms;
    uint64_t state_until_ms;         /* of handshake and lingering */
    uint64_t stalled_since_ms;       /* 0: the peer takes what we send */
    uint64_t held_until_ms;          /* meaningful while something is held */
    struct sp_job *held;             /* replies held back */
    LIST_HEAD(sp_jobs, sp_job) jobs; /* all that are under way, held ones too */
    struct sp_task task;
    struct sp_source source;
    struct sp_timer timer;
    struct sp_watcher watcher;
    TAILQ_ENTRY(sp_conn) link;
};

enum sp_status sp_conns_init(struct sp_conns *conns, struct sp_net *net,
                             struct sp_error *error) SP_MUST_USE;
void sp_conns_release(struct sp_conns *conns);
/* Any thread, once: ends all sessions, then the loop. No connection may be given to it any more. */
void sp_conns_stop(struct sp_conns *conns);

/* The acceptor's thread: takes fd and the place among the peers, also when there is no memory (then
 * it closes). */
void sp_conn_accept(struct sp_conns *conns, const struct sp_listener_config *listener, int fd,
                    const struct sp_address *peer);

/* What its listener's sessions come to. */
struct sp_session_counts *sp_conn_counts(const struct sp_conn *conn);

/* On the loop: it will be run in this turn or the next. */
void sp_conn_ready(struct sp_conn *conn);
/* On the loop: it will be closed. The reason is a static string. */
void sp_conn_doom(struct sp_conn *conn, const char *why);
/* On the loop, after a reply was taken in: frees what is closed and waits for nothing. */
void sp_conn_settle(struct sp_conn *conn);

#endif
