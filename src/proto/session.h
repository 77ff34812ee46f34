/* A protocol session as `net` runs it: a state machine over bytes.
 *
 * Model. Bytes in (recv_buf / recv_ack), bytes out (send_buf / send_ack), requests out (next) and
 * their replies in (complete). A session knows no socket, no thread, no clock but the `now_ms`
 * handed to it (monotonic) and the wall clock in its environment. Every protocol implements this
 * one table of functions; tests, fuzzers and the simulator drive it just as `net` does.
 *
 * The driver's loop:
 *     want = ops->want(s)
 *     SP_WANT_READ     read into ops->recv_buf(s), then ops->recv_ack(s, n, now)
 *     SP_WANT_WRITE    write ops->send_buf(s), then ops->send_ack(s, n, now)
 *     SP_WANT_TLS      (everything sent) do a TLS handshake, then ops->tls_done(s, now)
 *     SP_WANT_CLOSE    (everything sent) close
 *     while ((request = ops->next(s))) hand it to mail; its reply comes back through
 * ops->complete(s, reply, now) and ops->tick(s, now) when ops->deadline_ms(s) has passed.
 *
 * Threads: none; a session is called by one thread at a time. Memory: bounded, stated in each
 * session's header; an idle session holds a small struct and no buffers.
 */
#ifndef SP_PROTO_SESSION_H
#define SP_PROTO_SESSION_H

#include "base/slice.h"
#include "mail/request.h"

#include <stdatomic.h>

#define SP_WANT_READ  0x01U
#define SP_WANT_WRITE 0x02U
#define SP_WANT_TLS   0x04U
#define SP_WANT_CLOSE 0x08U

#define SP_CHANNEL_BYTES 64U /* of channel binding data, at most */

/* What a session is told of its world. Borrowed: it outlives the session. */
struct sp_session_env {
    const char *hostname;       /* ours */
    const char *software;       /* "Sternpost 0.1" */
    bool tls_available;         /* STARTTLS may be offered */
    uint64_t message_bytes_max; /* SIZE, APPENDLIMIT */
    uint64_t idle_timeout_ms;   /* between commands; 0: the protocol's default */
    uint64_t (*wall_ns)(void);  /* wall clock, nanoseconds since 1970 */
};

/* What all sessions of one listener have come to. Sessions count their answers; what they can be
 * seen to do from outside their driver counts. Any thread. */
struct sp_session_counts {
    _Atomic uint64_t sessions, sessions_now;
    _Atomic uint64_t logins, logins_denied;
    _Atomic uint64_t messages; /* taken: delivered to somebody, or appended */
    _Atomic uint64_t copies;   /* of these, one for each mailbox */
    /* "No": for now (SMTP 4xx, IMAP NO [UNAVAILABLE], POP3 -ERR [SYS/TEMP]) or for good. */
    _Atomic uint64_t answers_temporary, answers_permanent;
};

/* What is known of this one connection. */
struct sp_session_peer {
    uint64_t id;       /* 64 random bits; on every log line */
    char address[64];  /* "192.0.2.1" or "IPv6:2001:db8::1": as RFC 5321 4.1.3 writes literals,
                          without brackets */
    bool tls;          /* implicit TLS */
    bool cleartext_ok; /* loopback: passwords may be sent without TLS */
    /* Channel binding data of the connection's TLS ("tls-exporter", "tls-server-end-point") into
     * ret, and how long they are; 0: there is none of that kind. NULL: no TLS ever. */
    size_t (*channel_binding)(void *channel, const char *type, uint8_t ret[SP_CHANNEL_BYTES]);
    void *channel;
    struct sp_session_counts *counts; /* outlives the session; NULL: nobody counts */
};

/* A session's answer was "no". */
static inline void sp_session_said_no(const struct sp_session_peer *peer, bool temporary)
{
    if (peer->counts)
        atomic_fetch_add_explicit(temporary ? &peer->counts->answers_temporary
                                            : &peer->counts->answers_permanent,
                                  1, memory_order_relaxed);
}

/* Where a session wants to hear of changes: the mailbox it has open. */
struct sp_watch {
    bool active;
    struct sp_uuid account;
    uint32_t mailbox;
};

struct sp_session_ops {
    const char *name;    /* "smtp", "lmtp", "imap" */
    const char *refusal; /* said, with its line end, to a connection that is one too many */
    /* Room for input; len 0: back-pressure, read nothing now. Valid until the next call. */
    struct sp_slice_mut (*recv_buf)(void *session);
    void (*recv_ack)(void *session, size_t n, uint64_t now_ms);
    /* The peer closed its side. */
    void (*recv_eof)(void *session, uint64_t now_ms);
    /* Bytes to send; valid until the next call. */
    struct sp_slice (*send_buf)(void *session);
    void (*send_ack)(void *session, size_t n, uint64_t now_ms);
    /* A request to be carried out, now the caller's; NULL: none. At most a few are under way at
     * once. */
    struct sp_request *(*next)(void *session);
    /* The reply to one of them, borrowed for the call. */
    void (*complete)(void *session, const struct sp_reply *reply, uint64_t now_ms);
    unsigned (*want)(void *session);
    void (*tls_done)(void *session, uint64_t now_ms);
    /* When tick must be called at the latest (monotonic ms); UINT64_MAX: never. */
    uint64_t (*deadline_ms)(void *session);
    void (*tick)(void *session, uint64_t now_ms);
    /* What to watch; asked after every call that may change it. */
    struct sp_watch (*watch)(void *session);
    /* The watched mailbox changed (coalesced); the session pulls the rest with SP_REQ_SYNC. */
    void (*notify)(void *session, uint64_t now_ms);
    /* The server stops: say so (421, BYE) and want CLOSE, once what is under way is answered. */
    void (*shutdown)(void *session, uint64_t now_ms);
    void (*free)(void *session);
};

#endif
