/* TLS (1.2 and 1.3) for the server's side of a connection, by OpenSSL.
 *
 * OpenSSL reads and writes the connection's struct sp_sock through a BIO of our own, without a
 * buffer in between: a pair of memory BIOs would keep, for each connection, the largest record that
 * ever passed, and copy everything once more. Its own buffers are released whenever they are empty,
 * so an idle connection holds none.
 *
 * Renegotiation and compression are off. Sessions are resumed by tickets, which cost the server no
 * memory. The end of the stream without close_notify counts as an end: every protocol here delimits
 * what it carries.
 */
#ifndef SP_NET_TLS_H
#define SP_NET_TLS_H

#include "net/sock.h"

#include "base/slice.h"

#include <pthread.h>

struct ssl_st;
struct ssl_ctx_st;

/* Certificate and key, shared by all connections. Any thread. */
struct sp_tls_context {
    pthread_mutex_t lock;
    struct ssl_ctx_st *ctx; /* NULL: no TLS */
};

void sp_tls_context_init(struct sp_tls_context *context);
void sp_tls_context_release(struct sp_tls_context *context);
/* Reads the files (PEM) and uses them from now on; on failure nothing changes. SP_INVALID names
 * file and reason. */
enum sp_status sp_tls_context_load(struct sp_tls_context *context, const char *cert,
                                   const char *key, struct sp_error *error) SP_MUST_USE;

/* One connection; the sock is borrowed and must stay where it is. NULL: no memory, or no
 * certificate. */
struct ssl_st *sp_tls_new(struct sp_tls_context *context, struct sp_sock *sock);
/* NULL is fine. */
void sp_tls_free(struct ssl_st *tls);
/* 1: done; SP_SOCK_AGAIN; SP_SOCK_ERROR. */
ssize_t sp_tls_handshake(struct ssl_st *tls);
/* As sp_sock_recv and sp_sock_send. A send that was met with SP_SOCK_AGAIN must be repeated with
 * the same bytes. */
ssize_t sp_tls_recv(struct ssl_st *tls, void *ret_bytes, size_t size);
ssize_t sp_tls_send(struct ssl_st *tls, const void *bytes, size_t len);
/* Has OpenSSL read bytes from the sock that it has not handed out? */
bool sp_tls_pending(struct ssl_st *tls);
/* Channel binding data (RFC 5056) into ret, of size bytes at least 64, and how long they are.
 * tls-exporter (RFC 9266) of TLS 1.3, and of TLS 1.2 with extended master secret;
 * tls-server-end-point (RFC 5929 4) where the certificate's signature has a hash. 0: none. */
size_t sp_tls_channel_binding(struct ssl_st *tls, const char *type, uint8_t *ret, size_t size);
/* Sends close_notify, if that can be done at once. */
void sp_tls_shutdown(struct ssl_st *tls);
/* What OpenSSL has against the peer, after SP_SOCK_ERROR on this thread. A static string. */
const char *sp_tls_why(void);

#endif
