#include "web/metrics_listen.h"

#include "net/address.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_BYTES_MAX 16384U
#define BACKLOG           16

struct sp_metrics_listener {
    struct sp_metrics_source source;
    struct MHD_Daemon *daemon;
    uint16_t port;
    char unix_path[sizeof((struct sockaddr_un *)0)->sun_path]; /* "": none */
};

/* ---- Answers ---- */

static enum MHD_Result send_text(struct MHD_Connection *connection, unsigned code, const char *text)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);
    if (!response)
        return MHD_NO;
    enum MHD_Result result = MHD_YES;
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
        result = MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    if (result == MHD_YES)
        result = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result send_metrics(const struct sp_metrics_listener *listener,
                                    struct MHD_Connection *connection)
{
    struct sp_buf buf;
    sp_buf_init(&buf, SP_METRICS_BYTES_MAX);
    if (sp_metrics_write(&listener->source, &buf) != SP_OK) {
        sp_buf_release(&buf);
        return send_text(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory\n");
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(buf.len, buf.ptr, MHD_RESPMEM_MUST_COPY);
    sp_buf_release(&buf);
    if (!response)
        return MHD_NO;
    enum MHD_Result result =
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, SP_METRICS_CONTENT_TYPE);
    if (result == MHD_YES)
        result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

/* Called when the header is there, again for each piece of a body, and once at its end: a body is
 * passed over. */
static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_bytes, void **request)
{
    static int seen;
    (void)version, (void)upload;
    if (!*request) {
        *request = &seen;
        return MHD_YES;
    }
    if (*upload_bytes) {
        *upload_bytes = 0;
        return MHD_YES;
    }
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
        return send_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET /metrics\n");
    if (strcmp(url, "/metrics") != 0)
        return send_text(connection, MHD_HTTP_NOT_FOUND, "GET /metrics\n");
    return send_metrics(context, connection);
}

/* It would write to stderr what is no line of our log. */
static void on_log(void *context, const char *format, va_list args)
{
    (void)context, (void)format, (void)args;
}

/* ---- The socket ---- */

static enum sp_status socket_error(struct sp_error *error, const char *address)
{
    int code = errno;
    enum sp_status status = code == EADDRINUSE                 ? SP_EXISTS
                            : code == EACCES || code == EPERM  ? SP_DENIED
                            : code == ENOMEM || code == EMFILE ? SP_NO_MEMORY
                                                               : SP_IO;
    char what[300];
    snprintf(what, sizeof what, "metrics %.250s", address);
    sp_error_set(error, status, what, "%s", strerror(code));
    sp_error_todo(error, "%s",
                  status == SP_EXISTS ? "another program listens there: change [listen] metrics"
                                      : "change [listen] metrics");
    return status;
}

static int listen_tcp(const char *text, uint16_t *ret_port)
{
    struct sp_address address;
    struct sockaddr_storage sockaddr;
    bool any;
    int yes = 1;
    if (sp_address_parse(text, &address, &any) != SP_OK) {
        errno = EINVAL;
        return -1;
    }
    socklen_t len = sp_address_to(&address, &sockaddr);
    int fd = socket(sockaddr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(fd, (struct sockaddr *)&sockaddr, len) != 0 || listen(fd, BACKLOG) != 0)
        goto failed;
    len = sizeof sockaddr;
    if (getsockname(fd, (struct sockaddr *)&sockaddr, &len) != 0)
        goto failed;
    *ret_port = sp_address_from(&sockaddr).port;
    return fd;
failed:;
    int code = errno;
    if (fd >= 0)
        close(fd);
    errno = code;
    return -1;
}

/* A socket that a server left behind when it was killed is nobody's. */
static void remove_stale(const struct sockaddr_un *address)
{
    struct stat at;
    if (lstat(address->sun_path, &at) != 0 || !S_ISSOCK(at.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
        errno == ECONNREFUSED)
        unlink(address->sun_path);
    close(fd);
}

static int listen_unix(const char *path, char *ret_path, size_t size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path || strlen(path) >= size) {
        errno = ENAMETOOLONG;
        return -1;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    remove_stale(&address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    /* Before it listens, so that nobody else was ever let in. */
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int code = errno;
        close(fd);
        errno = code;
        return -1;
    }
    if (chmod(path, 0660) != 0 || listen(fd, BACKLOG) != 0) {
        int code = errno;
        unlink(path);
        close(fd);
        errno = code;
        return -1;
    }
    snprintf(ret_path, size, "%s", path);
    return fd;
}

/* ---- Life ---- */

enum sp_status sp_metrics_listen(const char *address, const struct sp_metrics_source *source,
                                 struct sp_metrics_listener **ret_listener, struct sp_error *error)
{
    struct sp_metrics_listener *l = calloc(1, sizeof *l);
    if (!l)
        return sp_error_set(error, SP_NO_MEMORY, "metrics", "no memory");
    l->source = *source;
    int fd = strncmp(address, "unix:", 5) == 0
                 ? listen_unix(address + 5, l->unix_path, sizeof l->unix_path)
                 : listen_tcp(address, &l->port);
    if (fd < 0) {
        free(l);
        return socket_error(error, address);
    }
    l->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ERROR_LOG,
                                 0, NULL, NULL, on_request, l, MHD_OPTION_EXTERNAL_LOGGER, on_log,
                                 NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                                 SP_METRICS_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
                                 SP_METRICS_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                 (size_t)REQUEST_BYTES_MAX, MHD_OPTION_END);
    if (!l->daemon) {
        errno = ENOMEM;
        close(fd);
        if (l->unix_path[0])
            unlink(l->unix_path);
        free(l);
        return socket_error(error, address);
    }
    *ret_listener = l;
    return SP_OK;
}

uint16_t sp_metrics_port(const struct sp_metrics_listener *listener)
{
    return listener->port;
}

void sp_metrics_stop(struct sp_metrics_listener *listener)
{
    if (!listener)
        return;
    MHD_stop_daemon(listener->daemon); /* closes the socket too */
    if (listener->unix_path[0])
        unlink(listener->unix_path);
    free(listener);
}
