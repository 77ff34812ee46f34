#include "net/server.h"

#include "net/listen.h"
#include "net/thread.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* Descriptors that are not connections: the store's, the log's, those of loops and listeners. */
#define DESCRIPTORS_SPARE 256U

struct sp_server {
    struct sp_net net;
    struct sp_acceptor acceptor;
    struct sp_task close_task; /* on the first loop: closes the listeners */
    sem_t closed;
    uint32_t conns_count; /* initialised */
    uint32_t threads_count;
    pthread_t threads[SP_LOOPS_MAX];
    uint16_t ports[SP_LISTENERS_MAX];
    struct sp_conns conns[];
};

/* ---- configuration ---- */

static uint32_t or_else(uint32_t value, uint32_t otherwise)
{
    return value ? value : otherwise;
}

static uint64_t or_else_ms(uint64_t value, uint64_t otherwise)
{
    return value ? value : otherwise;
}

static struct sp_server_config with_defaults(const struct sp_server_config *given)
{
    struct sp_server_config config = *given;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t processors = online < 1 ? 1 : online > 128 ? 128 : (uint32_t)online;
    uint32_t loops = (processors + 1) / 2;
    config.loops = or_else(config.loops, loops < 4 ? loops : 4);
    config.workers = or_else(config.workers, processors * 2);
    config.worker_queue_max = or_else(config.worker_queue_max, 10000);
    config.connections_max = or_else(config.connections_max, 10000);
    config.handshake_timeout_ms = or_else_ms(config.handshake_timeout_ms, 30000);
    config.write_stall_ms = or_else_ms(config.write_stall_ms, 300000);
    config.linger_ms = or_else_ms(config.linger_ms, 2000);
    config.drain_ms = or_else_ms(config.drain_ms, 5000);
    config.denied_delay_ms = or_else_ms(config.denied_delay_ms, 1000);
    config.denied_held_max = or_else(config.denied_held_max, 1000);
    return config;
}

static enum sp_status check_config(const struct sp_server_config *config, struct sp_error *error)
{
    if (!config->listeners_count || config->listeners_count > SP_LISTENERS_MAX)
        return sp_error_set(error, SP_INVALID, "server",
                            "%" PRIu32 " listeners; there must be 1 to %u", config->listeners_count,
                            SP_LISTENERS_MAX);
    if (config->loops > SP_LOOPS_MAX || config->workers > SP_WORKERS_MAX)
        return sp_error_set(error, SP_INVALID, "server", "at most %u loops and %u workers",
                            SP_LOOPS_MAX, SP_WORKERS_MAX);
    if (!config->tls_cert != !config->tls_key)
        return sp_error_set(error, SP_INVALID, "tls",
                            "certificate and key go together, and one is missing");
    if (config->tls_cert)
        return SP_OK;
    if (config->env->tls_available)
        return sp_error_set(error, SP_INVALID, "tls",
                            "STARTTLS is to be offered, but there is no certificate");
    for (uint32_t i = 0; i < config->listeners_count; i++) {
        if (config->listeners[i].implicit_tls) {
            char what[128];
            snprintf(what, sizeof what, "listen %s", config->listeners[i].name);
            sp_error_set(error, SP_INVALID, what,
                         "this is a TLS port, but there is no certificate");
            sp_error_todo(error, "name one: [tls] cert = FILE, key = FILE; or do not listen there");
            return SP_INVALID;
        }
    }
    return SP_OK;
}

static void raise_descriptors(uint32_t connections_max)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0)
            return;
    }
    if (limit.rlim_cur < (rlim_t)connections_max + DESCRIPTORS_SPARE)
        sp_log(SP_LOG_WARN, "server.descriptors",
               "limit=%llu connections_max=%" PRIu32
               " why=\"fewer open files than connections are allowed\"",
               (unsigned long long)limit.rlim_cur, connections_max);
}

/* ---- stop ---- */

static void close_listeners(struct sp_task *task)
{
    struct sp_server *server = sp_owner(task, struct sp_server, close_task);
    sp_acceptor_close(&server->acceptor);
    sem_post(&server->closed);
}

/* First the acceptor, so that no connection is handed to a loop that has ended. */
static void stop_loops(struct sp_server *server)
{
    if (server->threads_count) {
        sp_loop_post(&server->conns[0].loop, &server->close_task);
        while (sem_wait(&server->closed) != 0)
            sp_assert(errno == EINTR);
    }
    for (uint32_t i = 0; i < server->threads_count; i++)
        sp_conns_stop(&server->conns[i]);
    for (uint32_t i = 0; i < server->threads_count; i++)
        pthread_join(server->threads[i], NULL);
}

static void release(struct sp_server *server)
{
    const struct sp_backend *backend = &server->net.config.backend;
    if (server->conns_count)
        backend->set_notify(backend->context, NULL, NULL);
    stop_loops(server);
    sp_workers_stop(server->net.workers);
    sp_acceptor_close(&server->acceptor);
    while (server->conns_count)
        sp_conns_release(&server->conns[--server->conns_count]);
    sp_peers_release(&server->net.peers);
    sp_tls_context_release(&server->net.tls);
    sem_destroy(&server->closed);
    free(server);
}

void sp_server_stop(struct sp_server *server)
{
    if (server)
        release(server);
}

/* ---- start ---- */

static void on_notify(void *context, const struct sp_uuid *account, uint32_t mailbox)
{
    struct sp_server *server = context;
    for (uint32_t i = 0; i < server->conns_count; i++)
        sp_watches_post(&server->conns[i].watches, account, mailbox);
}

static enum sp_status start_shared(struct sp_server *server, struct sp_error *error)
{
    struct sp_net *net = &server->net;
    const struct sp_server_config *config = &net->config;
    enum sp_status status = SP_OK;
    if (config->tls_cert)
        status = sp_tls_context_load(&net->tls, config->tls_cert, config->tls_key, error);
    if (!status)
        status = sp_peers_init(&net->peers, config->connections_max,
                               config->connections_per_peer_max, config->loopback_exempt, error);
    if (!status)
        status = sp_workers_start(config->workers, config->worker_queue_max, &net->workers, error);
    return status;
}

static enum sp_status start_loops(struct sp_server *server, struct sp_error *error)
{
    const struct sp_server_config *config = &server->net.config;
    enum sp_status status = SP_OK;
    while (!status && server->conns_count < config->loops) {
        status = sp_conns_init(&server->conns[server->conns_count], &server->net, error);
        server->conns_count += !status;
    }
    if (!status)
        status = sp_acceptor_open(&server->acceptor, &server->net, server->conns,
                                  server->conns_count, error);
    if (status)
        return status;
    for (uint32_t i = 0; i < config->listeners_count; i++)
        server->ports[i] = sp_acceptor_port(&server->acceptor, i);
    config->backend.set_notify(config->backend.context, on_notify, server);
    while (!status && server->threads_count < config->loops) {
        uint32_t i = server->threads_count;
        char name[16];
        snprintf(name, sizeof name, "loop-%u", i);
        status =
            sp_thread_start(name, sp_loop_main, &server->conns[i].loop, &server->threads[i], error);
        server->threads_count += !status;
    }
    return status ? status : sp_acceptor_start(&server->acceptor, error);
}

enum sp_status sp_server_start(const struct sp_server_config *given, struct sp_server **ret_server,
                               struct sp_error *error)
{
    struct sp_server_config config = with_defaults(given);
    enum sp_status status = check_config(&config, error);
    if (status)
        return status;
    raise_descriptors(config.connections_max);
    struct sp_server *server = calloc(1, sizeof *server + config.loops * sizeof(struct sp_conns));
    if (!server)
        return sp_error_set(error, SP_NO_MEMORY, "server", "no memory");
    server->net.config = config;
    server->close_task.run = close_listeners;
    sem_init(&server->closed, 0, 0);
    sp_tls_context_init(&server->net.tls);
    status = start_shared(server, error);
    if (!status)
        status = start_loops(server, error);
    if (status) {
        release(server);
        return status;
    }
    *ret_server = server;
    return SP_OK;
}

/* ---- while it runs ---- */

uint16_t sp_server_port(const struct sp_server *server, uint32_t listener)
{
    sp_assert(listener < server->net.config.listeners_count);
    return server->ports[listener];
}

enum sp_status sp_server_tls_reload(struct sp_server *server, struct sp_error *error)
{
    const struct sp_server_config *config = &server->net.config;
    if (!config->tls_cert)
        return sp_error_set(error, SP_INVALID, "tls", "the server runs without a certificate");
    return sp_tls_context_load(&server->net.tls, config->tls_cert, config->tls_key, error);
}

void sp_server_counters(struct sp_server *server, struct sp_server_counters *ret_counters)
{
    struct sp_peers *peers = &server->net.peers;
    pthread_mutex_lock(&peers->lock);
    struct sp_server_counters sum = {.connections_now = peers->connections,
                                     .connections_total = peers->connections_total,
                                     .refused = peers->refused};
    pthread_mutex_unlock(&peers->lock);
    sum.requests_waiting = sp_workers_waiting(server->net.workers);
    for (uint32_t i = 0; i < server->conns_count; i++) {
        struct sp_counters *one = &server->conns[i].counters;
        sum.bytes_in += sp_counted(&one->bytes_in);
        sum.bytes_out += sp_counted(&one->bytes_out);
        sum.requests += sp_counted(&one->requests);
        sum.requests_refused += sp_counted(&one->requests_refused);
        sum.denied_held += sp_counted(&one->denied_held);
        sum.tls_handshakes += sp_counted(&one->tls_handshakes);
        sum.tls_failed += sp_counted(&one->tls_failed);
    }
    *ret_counters = sum;
}

uint32_t sp_server_listeners(const struct sp_server *server)
{
    return server->net.config.listeners_count;
}

const struct sp_session_counts *sp_server_session_counts(const struct sp_server *server,
                                                         uint32_t listener, const char **ret_name)
{
    sp_assert(listener < server->net.config.listeners_count);
    *ret_name = server->net.config.listeners[listener].name;
    return &server->net.counts[listener];
}
