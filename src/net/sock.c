#include "net/sock.h"

#include <errno.h>
#include <sys/socket.h>

ssize_t sp_sock_recv(struct sp_sock *sock, void *ret_bytes, size_t size)
{
    if (!sock->readable)
        return SP_SOCK_AGAIN;
    ssize_t n;
    do
        n = recv(sock->fd, ret_bytes, size, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno != EAGAIN)
            return SP_SOCK_ERROR;
        sock->readable = false;
        return SP_SOCK_AGAIN;
    }
    if ((size_t)n < size && !sock->peer_closed)
        sock->readable = n == 0;
    sock->bytes_in += (size_t)n;
    sp_count(&sock->counters->bytes_in, (uint64_t)n);
    return n;
}

ssize_t sp_sock_send(struct sp_sock *sock, const void *bytes, size_t len)
{
    if (!sock->writable)
        return SP_SOCK_AGAIN;
    ssize_t n;
    do
        n = send(sock->fd, bytes, len, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno != EAGAIN)
            return SP_SOCK_ERROR;
        sock->writable = false;
        return SP_SOCK_AGAIN;
    }
    sock->bytes_out += (size_t)n;
    sp_count(&sock->counters->bytes_out, (uint64_t)n);
    return n;
}
