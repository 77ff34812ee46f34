/* Where metrics are asked for: GET /metrics over HTTP/1.1, on a loopback address or a Unix socket.
 *
 * Model. libmicrohttpd on a thread of its own, with a listening socket made here. Each answer is
 * written anew and held in memory while it is sent.
 *
 * Limits. SP_METRICS_CONNECTIONS_MAX connections; SP_METRICS_TIMEOUT_S without a byte, and one is
 * closed; 16 KiB for a request. What it tells names no account and no address of anybody; still it
 * is not for strangers, and asks for no password: so it listens on loopback and on Unix sockets
 * (mode 0660) only, unless the configuration says otherwise.
 */
#ifndef SP_WEB_METRICS_LISTEN_H
#define SP_WEB_METRICS_LISTEN_H

#include "web/metrics.h"

#define SP_METRICS_CONNECTIONS_MAX 16U
#define SP_METRICS_TIMEOUT_S       10U

struct sp_metrics_listener;

/* address: "127.0.0.1:9187", port 0: any; or "unix:/PATH". The source's volume and server must
 * outlive the listener. SP_INVALID; SP_EXISTS: in use; SP_DENIED; SP_IO; SP_NO_MEMORY. */
enum sp_status sp_metrics_listen(const char *address, const struct sp_metrics_source *source,
                                 struct sp_metrics_listener **ret_listener,
                                 struct sp_error *error) SP_MUST_USE;
/* The port it has; 0: a Unix socket. */
uint16_t sp_metrics_port(const struct sp_metrics_listener *listener);
/* Ends its thread and removes the socket. NULL is fine. */
void sp_metrics_stop(struct sp_metrics_listener *listener);

#endif
