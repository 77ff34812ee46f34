/* Listening sockets and the acceptor: it runs on one loop, counts who comes in, and gives each
 * connection to the loop that has the fewest. Who is one too many is told so (the protocol's
 * `refusal`) and closed. Out of file descriptors or memory it rests for a quarter of a second: the
 * connections wait in the kernel. */
#ifndef SP_NET_LISTEN_H
#define SP_NET_LISTEN_H

#include "net/conn.h"

struct sp_listener;

struct sp_acceptor {
    struct sp_net *net;
    struct sp_conns *conns; /* of all loops; the first is the acceptor's own */
    uint32_t conns_count;
    uint32_t next; /* where to look first for the loop with the fewest */
    struct sp_listener *listeners;
    uint32_t listeners_count;
    bool resting;
    struct sp_timer rest;
    uint64_t refused_logged_ms;
    uint32_t refused_unlogged;
};

/* Binds and listens, accepts nothing yet. Errors: see sp_server_start. */
enum sp_status sp_acceptor_open(struct sp_acceptor *acceptor, struct sp_net *net,
                                struct sp_conns *conns, uint32_t conns_count,
                                struct sp_error *error) SP_MUST_USE;
/* Begins to accept; the first loop may be running. */
enum sp_status sp_acceptor_start(struct sp_acceptor *acceptor, struct sp_error *error) SP_MUST_USE;
/* On its loop's thread, or when that does not run: closes the sockets. May be called again, and on
 * a zeroed struct. */
void sp_acceptor_close(struct sp_acceptor *acceptor);
uint16_t sp_acceptor_port(const struct sp_acceptor *acceptor, uint32_t listener);

#endif
