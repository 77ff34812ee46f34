/* Lines of JSON and runs of bytes on a socket; errors as JSON. */
#include "cmd/control.h"

#include "base/buf.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

void sp_line_stream_init(struct sp_line_stream *stream, int fd)
{
    stream->fd = fd;
    stream->from = stream->to = 0;
}

static enum sp_status fill(struct sp_line_stream *stream)
{
    ssize_t n;
    do
        n = recv(stream->fd, stream->bytes, sizeof stream->bytes, 0);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return SP_EOF;
    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? SP_TIMEOUT : SP_IO;
    stream->from = 0;
    stream->to = (size_t)n;
    return SP_OK;
}

enum sp_status sp_line_stream_json(struct sp_line_stream *stream, size_t max, json_t **ret_object)
{
    struct sp_buf line;
    enum sp_status status = SP_OK;
    sp_buf_init(&line, max);
    for (bool ended = false; !ended && !status;) {
        if (stream->from == stream->to)
            status = fill(stream);
        if (status)
            break;
        struct sp_slice unread = sp_slice(stream->bytes + stream->from, stream->to - stream->from);
        size_t end = sp_slice_find(unread, '\n');
        ended = end != SIZE_MAX;
        size_t take = ended ? end : unread.len;
        sp_buf_add(&line, sp_slice_sub(unread, 0, take));
        explicit_bzero(stream->bytes + stream->from, take); /* it may hold a password */
        stream->from += take + ended;
        if (sp_buf_failed(&line))
            status = SP_LIMIT;
    }
    if (!status) {
        json_t *object = json_loadb((const char *)line.ptr, line.len, JSON_REJECT_DUPLICATES, NULL);
        if (json_is_object(object)) {
            *ret_object = object;
        } else {
            json_decref(object);
            status = SP_INVALID;
        }
    }
    if (line.ptr)
        explicit_bzero(line.ptr, line.len);
    sp_buf_release(&line);
    return status;
}

enum sp_status sp_line_stream_bytes(struct sp_line_stream *stream, uint8_t *ret_bytes, size_t len)
{
    while (len) {
        if (stream->from == stream->to) {
            enum sp_status status = fill(stream);
            if (status)
                return status;
        }
        size_t n = stream->to - stream->from < len ? stream->to - stream->from : len;
        memcpy(ret_bytes, stream->bytes + stream->from, n);
        stream->from += n;
        ret_bytes += n;
        len -= n;
    }
    return SP_OK;
}

enum sp_status sp_line_stream_write(int fd, struct sp_slice bytes)
{
    while (bytes.len) {
        ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? SP_TIMEOUT : SP_IO;
        bytes = sp_slice_from(bytes, (size_t)n);
    }
    return SP_OK;
}

enum sp_status sp_line_stream_write_json(int fd, const json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (!text)
        return SP_NO_MEMORY;
    size_t len = strlen(text);
    text[len] = '\n'; /* in place of the NUL: one write, one line */
    enum sp_status status = sp_line_stream_write(fd, sp_slice(text, len + 1));
    json_malloc_t take;
    json_free_t give;
    json_get_alloc_funcs(&take, &give);
    give(text);
    return status;
}

/* A name may be no UTF-8, and a text that was cut ends within a character. An answer must come all
 * the same. */
static json_t *error_text(const char *text)
{
    char ascii[sizeof((struct sp_error *)NULL)->why];
    size_t len = 0;
    json_t *json = json_string(text);
    if (json)
        return json;
    for (; text[len] && len < sizeof ascii - 1; len++)
        ascii[len] = (char)((text[len] & 0x80) ? '?' : text[len]);
    return json_stringn(ascii, len);
}

json_t *sp_control_error_json(const struct sp_error *error)
{
    return json_pack("{s:{s:s,s:o,s:o,s:o}}", "error", "status", sp_status_name(error->status),
                     "what", error_text(error->what), "why", error_text(error->why), "todo",
                     error_text(error->todo));
}

void sp_control_error_read(const json_t *json, struct sp_error *ret_error)
{
    const char *name = json_string_value(json_object_get(json, "status"));
    const char *what = json_string_value(json_object_get(json, "what"));
    const char *why = json_string_value(json_object_get(json, "why"));
    const char *todo = json_string_value(json_object_get(json, "todo"));
    enum sp_status status = SP_IO;
    for (int s = SP_OK + 1; name && s <= SP_SHUTDOWN; s++)
        if (strcmp(sp_status_name((enum sp_status)s), name) == 0)
            status = (enum sp_status)s;
    sp_error_set(ret_error, status, what ? what : "server", "%s", why ? why : "it gave no reason");
    if (todo && *todo)
        sp_error_todo(ret_error, "%s", todo);
}
