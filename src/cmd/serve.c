/* `sternpost serve`: the platform, its protocols, until a signal.
 *
 * Order matters: units and volume first (nothing can be promised without them), then mail, then the
 * sockets; and the other way round at the end, so that every reply a session waits for can still
 * come. */
#include "cmd/cmd.h"
#include "cmd/control.h"
#include "cmd/platform.h"

#include "base/log.h"
#include "base/time.h"
#include "net/backend_mail.h"
#include "net/server.h"
#include "proto/imap/imap.h"
#include "proto/pop3/pop3.h"
#include "proto/smtp/smtp.h"
#include "web/metrics_listen.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void *smtp_new(const struct sp_session_env *env, const struct sp_session_peer *peer,
                      uint64_t now_ms)
{
    return sp_smtp_new(SP_SMTP_MX, env, peer, now_ms);
}

static void *lmtp_new(const struct sp_session_env *env, const struct sp_session_peer *peer,
                      uint64_t now_ms)
{
    return sp_smtp_new(SP_LMTP, env, peer, now_ms);
}

/* What this version speaks; other known protocols have no session. */
static const struct {
    const struct sp_session_ops *ops;
    void *(*session_new)(const struct sp_session_env *env, const struct sp_session_peer *peer,
                         uint64_t now_ms);
    bool implicit_tls;
} speakers[SP_PROTOCOLS] = {
    [SP_PROTOCOL_SMTP] = {&sp_smtp_ops, smtp_new, false},
    [SP_PROTOCOL_SMTPS] = {&sp_smtp_ops, smtp_new, true},
    [SP_PROTOCOL_LMTP] = {&sp_lmtp_ops, lmtp_new, false},
    [SP_PROTOCOL_IMAP] = {&sp_imap_ops, sp_imap_new, false},
    [SP_PROTOCOL_IMAPS] = {&sp_imap_ops, sp_imap_new, true},
    [SP_PROTOCOL_POP3] = {&sp_pop3_ops, sp_pop3_new, false},
    [SP_PROTOCOL_POP3S] = {&sp_pop3_ops, sp_pop3_new, true},
};

static uint32_t listeners_of(const struct sp_config *config,
                             struct sp_listener_config *ret_listeners)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < config->listeners_count; i++) {
        const struct sp_config_listener *wanted = &config->listeners[i];
        const char *name = sp_protocol_name(wanted->protocol);
        if (!speakers[wanted->protocol].ops) {
            sp_log(SP_LOG_WARN, "listen.unsupported",
                   "protocol=%s why=\"this version does not speak it\"", name);
            continue;
        }
        ret_listeners[count++] = (struct sp_listener_config){
            .name = name,
            .address = wanted->address,
            .implicit_tls = speakers[wanted->protocol].implicit_tls,
            .ops = speakers[wanted->protocol].ops,
            .session_new = speakers[wanted->protocol].session_new,
        };
    }
    return count;
}

/* Where it listens, with the ports that 0 became. */
static void log_ready(const struct sp_config *config, const struct sp_server *server,
                      const struct sp_listener_config *listeners, uint32_t count,
                      const struct sp_metrics_listener *metrics)
{
    char text[1500] = "";
    size_t at = 0;
    for (uint32_t i = 0; i < count && at < sizeof text; i++) {
        const char *colon = strrchr(listeners[i].address, ':');
        int host = colon ? (int)(colon - listeners[i].address) : 0;
        at += (size_t)snprintf(text + at, sizeof text - at, " %s=%.*s:%u", listeners[i].name, host,
                               listeners[i].address, (unsigned)sp_server_port(server, i));
    }
    if (metrics && at < sizeof text) {
        const char *colon = strrchr(config->metrics, ':');
        if (sp_metrics_port(metrics))
            snprintf(text + at, sizeof text - at, " metrics=%.*s:%u",
                     (int)(colon - config->metrics), config->metrics,
                     (unsigned)sp_metrics_port(metrics));
        else
            snprintf(text + at, sizeof text - at, " metrics=%s", SP_LOG_QUOTED(config->metrics));
    }
    sp_log(SP_LOG_INFO, "server.ready", "version=%s pid=%ld%s", SP_VERSION, (long)getpid(), text);
}

/* SIGTERM and SIGINT stop the server, in good order; the same again ends it at once, which loses
 * nothing that was acknowledged. SIGHUP reads the certificate again. They are blocked before any
 * thread is made, and awaited here. */
static void signals_block(sigset_t *ret_set)
{
    sigemptyset(ret_set);
    sigaddset(ret_set, SIGTERM);
    sigaddset(ret_set, SIGINT);
    sigaddset(ret_set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, ret_set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void wait_for_stop(const sigset_t *set, struct sp_server *server,
                          const struct sp_config *config)
{
    for (;;) {
        int which = 0;
        if (sigwait(set, &which) || which == 0)
            continue;
        if (which != SIGHUP) {
            sp_log(SP_LOG_INFO, "server.stopping", "signal=%s", which == SIGTERM ? "TERM" : "INT");
            pthread_sigmask(SIG_UNBLOCK, set, NULL);
            return;
        }
        struct sp_error error;
        if (!config->tls_cert)
            sp_log(SP_LOG_INFO, "tls.reload", "why=\"there is no [tls]\"");
        else if (sp_server_tls_reload(server, &error))
            sp_log(SP_LOG_ERROR, "tls.reload", "what=%s why=%s", SP_LOG_QUOTED(error.what),
                   SP_LOG_QUOTED(error.why));
        else
            sp_log(SP_LOG_INFO, "tls.reload", "cert=%s", SP_LOG_QUOTED(config->tls_cert));
    }
}

static enum sp_status run(const struct sp_config *config, struct sp_platform *platform,
                          const sigset_t *set, struct sp_error *error)
{
    struct sp_listener_config listeners[SP_CONFIG_LISTENERS_MAX];
    const struct sp_session_env env = {
        .hostname = config->hostname,
        .software = "Sternpost " SP_VERSION,
        .tls_available = config->tls_cert,
        .message_bytes_max = config->message_bytes_max,
        .wall_ns = sp_wall_ns,
    };
    const struct sp_server_config settings = {
        .listeners = listeners,
        .listeners_count = listeners_of(config, listeners),
        .env = &env,
        .backend = sp_backend_mail(platform->mail),
        .tls_cert = config->tls_cert,
        .tls_key = config->tls_key,
        .workers = config->workers,
        .connections_max = config->connections_max,
        .connections_per_peer_max = config->connections_per_peer_max,
        .loopback_exempt = true,
    };
    struct sp_server *server = NULL;
    struct sp_control *control = NULL;
    struct sp_metrics_listener *metrics = NULL;
    enum sp_status status = SP_OK;
    if (settings.listeners_count == 0) {
        status =
            sp_error_set(error, SP_INVALID, config->path, "[listen] names nothing to listen on");
        sp_error_todo(error, "add at least smtp = 127.0.0.1:2525 and imap = 127.0.0.1:1143");
    }
    if (!config->postmaster)
        sp_log(SP_LOG_WARN, "postmaster.none",
               "why=\"mail for postmaster is refused where there is no such account; "
               "name one: [server] postmaster = ADDRESS\"");
    if (!status)
        status = sp_server_start(&settings, &server, error);
    if (!status)
        status = sp_control_start(platform, &control, error);
    if (!status && config->metrics) {
        const struct sp_metrics_source source = {.volume_name = config->volume.name,
                                                 .volume = platform->volume,
                                                 .server = server,
                                                 .started_ns = sp_wall_ns()};
        status = sp_metrics_listen(config->metrics, &source, &metrics, error);
    }
    if (!status) {
        log_ready(config, server, listeners, settings.listeners_count, metrics);
        wait_for_stop(set, server, config);
    }
    sp_metrics_stop(metrics);
    sp_control_stop(control);
    sp_server_stop(server);
    return status;
}

/* A rebuild of the index at start can take minutes: say so, now and then. */
static void log_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    uint64_t *next_ms = context, now = sp_now_ms();
    if (now < *next_ms || total_bytes == 0)
        return;
    *next_ms = now + 5000;
    sp_log(SP_LOG_INFO, "index.progress", "percent=%u",
           (unsigned)((double)done_bytes * 100 / (double)total_bytes));
}

int sp_cmd_serve(struct sp_call *call)
{
    struct sp_error error = {0};
    struct sp_platform platform;
    sigset_t set;
    int lock_fd;
    uint64_t next_ms = 0;
    const char *accept_loss = call->options[0];
    const struct sp_platform_options options = {.serving = true,
                                                .accept_loss = accept_loss != NULL,
                                                .progress = log_progress,
                                                .progress_context = &next_ms};
    if (accept_loss && strcmp(accept_loss, call->config.volume.name) != 0)
        return sp_misuse(call, "--accept-loss %s: the volume of this configuration is %s",
                         accept_loss, call->config.volume.name);
    signals_block(&set);
    sp_log(SP_LOG_INFO, "server.start", "version=%s config=%s", SP_VERSION,
           SP_LOG_QUOTED(call->config.path));
    enum sp_status status = sp_platform_lock(&call->config, &lock_fd, &error);
    if (status)
        return sp_fail(&error);
    status = sp_platform_open(&call->config, lock_fd, &options, &platform, &error);
    if (status)
        return sp_fail(&error);
    status = run(&call->config, &platform, &set, &error);
    sp_platform_close(&platform);
    if (status)
        return sp_fail(&error);
    sp_log(SP_LOG_INFO, "server.stopped", "pid=%ld", (long)getpid());
    return SP_EXIT_OK;
}
