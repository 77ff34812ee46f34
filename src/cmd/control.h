/* The control socket: how commands reach the platform of a running server.
 *
 * Model. A Unix socket STATE/control.sock (mode 0600) speaks JSON, one object a line:
 *
 *     -> {"operation": "account.add", "parameters": {"address": "a@example.org", "password":
 * "..."}}
 *     <- {"result": {...}}
 *     <- {"error": {"status": "exists", "what": "...", "why": "...", "todo": "..."}}
 *
 * Whoever runs as the server's user, or as root, is the operator. Where [guard] names approvers,
 * the socket is open to all (0666), and those approvers may look at what is pending, approve and
 * undo it; everybody else is refused: the kernel says who is at the other end.
 *
 * One request a connection, but for `import`: after its result the connection carries messages
 * (import_stream.h). It asks for no password.
 *
 * Limits: lines of SP_CONTROL_REQUEST_MAX and SP_CONTROL_REPLY_MAX bytes;
 * SP_CONTROL_CONNECTIONS_MAX connections, each with a thread of its own; 30 s for a request to
 * arrive.
 */
#ifndef SP_CMD_CONTROL_H
#define SP_CMD_CONTROL_H

#include "cmd/platform.h"

#include <jansson.h>

#define SP_CONTROL_REQUEST_MAX     65536U
#define SP_CONTROL_REPLY_MAX       (64U << 20)
#define SP_CONTROL_CONNECTIONS_MAX 16U
#define SP_CONTROL_TIMEOUT_S       30

/* ---- Client ---- */

/* SP_NOT_FOUND: no server listens there. */
enum sp_status sp_control_connect(const struct sp_config *config, int *ret_fd,
                                  struct sp_error *error) SP_MUST_USE;
/* Sends the request and waits for its answer; an error that the server names becomes *error.
 * parameters: borrowed, may be NULL. */
enum sp_status sp_control_call(int fd, const char *operation, const json_t *parameters,
                               json_t **ret_result, struct sp_error *error) SP_MUST_USE;

/* ---- Server ---- */

struct sp_control;
enum sp_status sp_control_start(struct sp_platform *platform, struct sp_control **ret_control,
                                struct sp_error *error) SP_MUST_USE;
/* Takes no more requests, ends connections, waits for their threads, removes the socket. NULL is
 * fine. */
void sp_control_stop(struct sp_control *control);

/* ---- Lines and bytes on a socket ---- */

#define SP_LINE_STREAM_BYTES 65536U

struct sp_line_stream {
    int fd;
    size_t from, to; /* unread: bytes[from, to) */
    uint8_t bytes[SP_LINE_STREAM_BYTES];
};
void sp_line_stream_init(struct sp_line_stream *stream, int fd);
/* One line of JSON of at most `max` bytes. SP_EOF; SP_LIMIT; SP_INVALID: not a JSON object;
 * SP_TIMEOUT; SP_IO. */
enum sp_status sp_line_stream_json(struct sp_line_stream *stream, size_t max,
                                   json_t **ret_object) SP_MUST_USE;
/* Exactly len bytes. SP_EOF: the stream ends before; SP_TIMEOUT; SP_IO. */
enum sp_status sp_line_stream_bytes(struct sp_line_stream *stream, uint8_t *ret_bytes,
                                    size_t len) SP_MUST_USE;
/* object and a line end. SP_IO; SP_NO_MEMORY. */
enum sp_status sp_line_stream_write_json(int fd, const json_t *object) SP_MUST_USE;
enum sp_status sp_line_stream_write(int fd, struct sp_slice bytes) SP_MUST_USE;

/* {"error": {...}} and back. */
json_t *sp_control_error_json(const struct sp_error *error);
void sp_control_error_read(const json_t *json, struct sp_error *ret_error);

#endif
