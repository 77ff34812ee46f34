/* A connected TCP socket, nonblocking, with what epoll last said of it.
 *
 * Edge-triggered: a flag is set by an event and cleared by the call that meets EAGAIN or moves less
 * than it was given, so an answered command costs one recv and one send and no call that finds
 * nothing. After the peer's FIN was seen a short read proves nothing, and reading goes on to the
 * end of the stream.
 */
#ifndef SP_NET_SOCK_H
#define SP_NET_SOCK_H

#include "net/counters.h"

#include <stdbool.h>
#include <sys/types.h>

#define SP_SOCK_AGAIN (-1)
#define SP_SOCK_ERROR (-2)

struct sp_sock {
    int fd;
    bool readable, writable;
    bool peer_closed; /* its FIN has arrived; bytes may lie before it */
    uint64_t bytes_in, bytes_out;
    struct sp_counters *counters; /* the loop's */
};

/* Bytes read, at least 1; 0: the end of the stream; SP_SOCK_AGAIN; SP_SOCK_ERROR. size > 0. */
ssize_t sp_sock_recv(struct sp_sock *sock, void *ret_bytes, size_t size);
/* Bytes sent, at least 1; SP_SOCK_AGAIN; SP_SOCK_ERROR. len > 0. */
ssize_t sp_sock_send(struct sp_sock *sock, const void *bytes, size_t len);

#endif
