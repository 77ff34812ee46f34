#include "cmd/control.h"

#include "base/log.h"
#include "cmd/import_stream.h"
#include "cmd/operation.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME "control.sock"

/* A socket's path has room for 107 bytes; the way through /proc makes any state folder short
 * enough. */
static enum sp_status socket_address(const struct sp_config *config, const char *name,
                                     int *ret_folder, struct sockaddr_un *ret_address)
{
    int folder = open(config->state, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return errno == ENOENT ? SP_NOT_FOUND : SP_IO;
    memset(ret_address, 0, sizeof *ret_address);
    ret_address->sun_family = AF_UNIX;
    snprintf(ret_address->sun_path, sizeof ret_address->sun_path, "/proc/self/fd/%d/%s", folder,
             name);
    *ret_folder = folder;
    return SP_OK;
}

static enum sp_status socket_error(const struct sp_config *config, struct sp_error *error)
{
    int code = errno;
    char what[256];
    snprintf(what, sizeof what, "%.200s/" SOCKET_NAME, config->state);
    sp_error_set(error, code == EACCES || code == EPERM ? SP_DENIED : SP_IO, what, "%s",
                 strerror(code));
    sp_error_todo(error, "run this as the user that the server runs as");
    return error->status;
}

/* ---- Client ---- */

enum sp_status sp_control_connect(const struct sp_config *config, int *ret_fd,
                                  struct sp_error *error)
{
    struct sockaddr_un address;
    int folder;
    enum sp_status status = socket_address(config, SOCKET_NAME, &folder, &address);
    if (status == SP_NOT_FOUND)
        return sp_error_set(error, status, config->state, "no server runs");
    if (status)
        return socket_error(config, error);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        *ret_fd = fd;
    } else if (fd >= 0 && (errno == ENOENT || errno == ECONNREFUSED)) {
        status = sp_error_set(error, SP_NOT_FOUND, config->state, "no server runs");
    } else {
        status = socket_error(config, error);
    }
    if (status && fd >= 0)
        close(fd);
    close(folder);
    return status;
}

enum sp_status sp_control_call(int fd, const char *operation, const json_t *parameters,
                               json_t **ret_result, struct sp_error *error)
{
    json_t *request = json_pack("{s:s,s:O*}", "operation", operation, "parameters", parameters);
    json_t *reply = NULL;
    struct sp_line_stream *stream = malloc(sizeof *stream);
    enum sp_status status = SP_NO_MEMORY;
    if (request && stream) {
        sp_line_stream_init(stream, fd);
        status = sp_line_stream_write_json(fd, request);
    }
    if (!status)
        status = sp_line_stream_json(stream, SP_CONTROL_REPLY_MAX, &reply);
    if (status) {
        const char *why =
            status == SP_EOF ? "it closed the control connection" : sp_status_name(status);
        status = status == SP_EOF ? SP_SHUTDOWN : status;
        sp_error_set(error, status, "server", "%s", why);
        sp_error_todo(error, "look at its log");
    } else if (json_object_get(reply, "error")) {
        sp_control_error_read(json_object_get(reply, "error"), error);
        status = error->status;
    } else {
        *ret_result = json_incref(json_object_get(reply, "result"));
    }
    json_decref(request);
    json_decref(reply);
    free(stream);
    return status;
}

/* ---- Server ---- */

struct connection {
    struct sp_control *control;
    int fd; /* -1: this place is free */
    bool joinable, ended;
    pthread_t thread;
};

struct sp_control {
    struct sp_platform *platform;
    int folder, fd, stop_fd;
    pthread_t thread;
    pthread_mutex_t lock; /* of connections' fd and ended */
    struct connection connections[SP_CONTROL_CONNECTIONS_MAX];
};

static void answer(int fd, enum sp_status status, json_t *result, const struct sp_error *error)
{
    json_t *reply = status ? sp_control_error_json(error) : json_pack("{s:o}", "result", result);
    if (reply && sp_line_stream_write_json(fd, reply))
        sp_log(SP_LOG_WARN, "control.answer", "why=\"the command did not wait for it\"");
    json_decref(reply);
}

/* Whoever watches asks every second, and changes nothing. */
static bool only_looks(const char *operation)
{
    const char *dot = strrchr(operation, '.');
    return dot && (strcmp(dot, ".status") == 0 || strcmp(dot, ".show") == 0);
}

/* The kernel says who is at the other end. The socket is open to all only where others may approve
 * what the guard has pending. */
static enum sp_status admit(const struct sp_platform *platform, int fd, const char *operation,
                            struct sp_error *error)
{
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
        return sp_error_set(error, SP_DENIED, "control", "nobody knows who asks");
    sp_operation_set_user(peer.uid);
    if (peer.uid == geteuid() || peer.uid == 0 ||
        sp_operation_is_approvers(platform, operation, peer.uid))
        return SP_OK;
    sp_error_set(error, SP_DENIED, operation, "user %u may not ask for this", (unsigned)peer.uid);
    sp_error_todo(error, "run this as the user that the server runs as");
    return SP_DENIED;
}

static void serve_request(struct connection *connection, struct sp_line_stream *stream)
{
    struct sp_platform *platform = connection->control->platform;
    struct sp_error error = {0};
    json_t *request = NULL, *result = NULL;
    enum sp_status status = sp_line_stream_json(stream, SP_CONTROL_REQUEST_MAX, &request);
    const char *name = json_string_value(json_object_get(request, "operation"));
    const json_t *parameters = json_object_get(request, "parameters");
    if (status == SP_EOF)
        return; /* somebody looked whether we are here */
    if (!name) {
        status = sp_error_set(&error, SP_INVALID, "control", "not a request");
        answer(connection->fd, status, NULL, &error);
    } else if ((status = admit(platform, connection->fd, name, &error)) != SP_OK) {
        answer(connection->fd, status, NULL, &error);
    } else if (strcmp(name, "import") == 0) {
        sp_import_serve(platform, stream, parameters);
    } else {
        status = sp_operation_execute(platform, name, parameters, &result, &error);
        sp_log(only_looks(name) ? SP_LOG_DEBUG : SP_LOG_INFO, "control.request",
               "operation=%s status=%s", status == SP_UNSUPPORTED ? "unknown" : name,
               sp_status_name(status));
        answer(connection->fd, status, result, &error);
    }
    json_decref(request);
}

static void *connection_run(void *context)
{
    struct connection *connection = context;
    struct sp_line_stream *stream = malloc(sizeof *stream);
    if (stream) {
        sp_line_stream_init(stream, connection->fd);
        serve_request(connection, stream);
        free(stream);
    }
    pthread_mutex_lock(&connection->control->lock);
    close(connection->fd);
    connection->ended = true;
    pthread_mutex_unlock(&connection->control->lock);
    return NULL;
}

/* A free place, after its last thread; NULL: all are taken. */
static struct connection *free_place(struct sp_control *control)
{
    for (unsigned i = 0; i < SP_CONTROL_CONNECTIONS_MAX; i++) {
        struct connection *c = &control->connections[i];
        pthread_mutex_lock(&control->lock);
        bool ended = c->ended;
        pthread_mutex_unlock(&control->lock);
        if (c->joinable && ended) {
            pthread_join(c->thread, NULL);
            c->joinable = c->ended = false;
        }
        if (!c->joinable)
            return c;
    }
    return NULL;
}

static void accept_one(struct sp_control *control)
{
    int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct timeval limit = {.tv_sec = SP_CONTROL_TIMEOUT_S};
    struct connection *place = free_place(control);
    bool ready = place && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
                 setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0;
    if (ready) {
        place->control = control;
        place->fd = fd;
        place->joinable = pthread_create(&place->thread, NULL, connection_run, place) == 0;
        if (place->joinable)
            return;
    }
    struct sp_error error;
    sp_error_set(&error, SP_UNAVAILABLE, "server", "too many commands at once");
    sp_error_todo(&error, "try again in a moment");
    answer(fd, SP_UNAVAILABLE, NULL, &error);
    close(fd);
}

static void *control_run(void *context)
{
    struct sp_control *control = context;
    struct pollfd polled[] = {{.fd = control->fd, .events = POLLIN},
                              {.fd = control->stop_fd, .events = POLLIN}};
    while (!(polled[1].revents & POLLIN)) {
        if (poll(polled, 2, -1) > 0 && (polled[0].revents & POLLIN))
            accept_one(control);
    }
    return NULL;
}

/* Bound under another name until its mode is right: there is no moment when others could connect.
 */
static enum sp_status listen_at(const struct sp_config *config, int *ret_folder, int *ret_fd,
                                struct sp_error *error)
{
    static const char temporary[] = SOCKET_NAME ".new";
    struct sockaddr_un address;
    int folder = -1, fd = -1;
    if (socket_address(config, temporary, &folder, &address))
        return socket_error(config, error);
    (void)unlinkat(folder, temporary, 0);
    struct stat st;
    if (config->guard_approvers && fstat(folder, &st) == 0) {
        char path[40]; /* the way to the socket, and to nothing else: what is in there is ours alone
                        */
        snprintf(path, sizeof path, "/proc/self/fd/%d", folder);
        if (chmod(path, (st.st_mode & 07777) | 0011))
            sp_log(SP_LOG_WARN, "control.mode", "why=\"%s\"", strerror(errno));
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) ||
        fchmodat(folder, temporary, config->guard_approvers ? 0666 : 0600, 0) || listen(fd, 16) ||
        renameat(folder, temporary, folder, SOCKET_NAME)) {
        enum sp_status status = socket_error(config, error);
        if (fd >= 0)
            close(fd);
        close(folder);
        return status;
    }
    *ret_folder = folder;
    *ret_fd = fd;
    return SP_OK;
}

enum sp_status sp_control_start(struct sp_platform *platform, struct sp_control **ret_control,
                                struct sp_error *error)
{
    struct sp_control *control = calloc(1, sizeof *control);
    if (!control)
        return sp_error_set(error, SP_NO_MEMORY, "control socket", "no memory");
    control->platform = platform;
    enum sp_status status = listen_at(platform->config, &control->folder, &control->fd, error);
    if (status) {
        free(control);
        return status;
    }
    pthread_mutex_init(&control->lock, NULL);
    control->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (control->stop_fd < 0 || pthread_create(&control->thread, NULL, control_run, control)) {
        status = sp_error_set(error, SP_IO, "control socket", "%s", strerror(errno));
        if (control->stop_fd >= 0)
            close(control->stop_fd);
        close(control->fd);
        close(control->folder);
        free(control);
        return status;
    }
    *ret_control = control;
    return SP_OK;
}

void sp_control_stop(struct sp_control *control)
{
    if (!control)
        return;
    (void)unlinkat(control->folder, SOCKET_NAME, 0);
    if (eventfd_write(control->stop_fd, 1))
        sp_assert(false);
    pthread_join(control->thread, NULL);
    for (unsigned i = 0; i < SP_CONTROL_CONNECTIONS_MAX; i++) {
        struct connection *c = &control->connections[i];
        if (!c->joinable)
            continue;
        pthread_mutex_lock(&control->lock);
        if (!c->ended)
            shutdown(c->fd, SHUT_RD); /* what it is doing is finished and answered */
        pthread_mutex_unlock(&control->lock);
        pthread_join(c->thread, NULL);
    }
    close(control->fd);
    close(control->stop_fd);
    close(control->folder);
    pthread_mutex_destroy(&control->lock);
    free(control);
}
