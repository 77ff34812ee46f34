/* For tests: a protocol of lines, a backend, and a client.
 *
 *     echo TEXT      -> TEXT
 *     big N          -> N letters and a line end, made as they are sent
 *     req TEXT       -> "reply ok TEXT": answered by a worker
 *     quick TEXT     -> likewise, on the loop
 *     slow TEXT      -> likewise, 20 ms later by another thread
 *     stuck TEXT     -> likewise, when the test lets it go
 *     search N       -> "reply ok N": of account N, keeps a worker until the test lets it go, or
 * the session is gone login TEXT     -> "reply denied " watch N        -> "news" at once and
 * whenever mailbox N changes unwatch timer MS       -> "tick" after so long starttls       -> "go
 * ahead", then a handshake, then "secured" quit           -> "bye" It greets with "hello", says
 * "eof" when the client has closed its side, and "stopping" when the server stops.
 */
#ifndef SP_NET_TEST_ECHO_H
#define SP_NET_TEST_ECHO_H

#include "net/server.h"

#include <openssl/ssl.h>
#include <pthread.h>

extern const struct sp_session_ops echo_ops;
void *echo_new(const struct sp_session_env *env, const struct sp_session_peer *peer,
               uint64_t now_ms);
/* Like it, but stays when it is told to stop. */
void *echo_new_stubborn(const struct sp_session_env *env, const struct sp_session_peer *peer,
                        uint64_t now_ms);
int echo_sessions(void); /* that exist now */

struct echo_backend {
    pthread_mutex_t lock;
    pthread_t thread;
    bool stop, release;
    struct echo_call *calls; /* to be answered by the thread */
    sp_backend_notify *notify;
    void *notify_context;
    int ended; /* sessions */
    int slow_worker_ms;
    uint8_t peer[16]; /* of the last request */
    int searching;    /* searches that hold a worker */
    int cancelled;    /* searches that were */
};
struct sp_backend echo_backend_start(struct echo_backend *backend);
struct sp_backend echo_backend_of(struct echo_backend *backend);
void echo_backend_stop(struct echo_backend *backend);
void echo_backend_release(struct echo_backend *backend); /* lets go what is stuck */
void echo_backend_notify(struct echo_backend *backend, uint32_t mailbox);
int echo_backend_searching(struct echo_backend *backend);
int echo_backend_cancelled(struct echo_backend *backend);
int echo_backend_ended(struct echo_backend *backend);

extern const struct sp_session_env echo_env;
extern const struct sp_session_env echo_env_tls;

/* A client; tls NULL: in the clear. Everything asserts success within 20 seconds. */
struct client {
    int fd;
    SSL *tls;
};
struct client client_connect(uint16_t port);
void client_close(struct client *client);
void client_start_tls(struct client *client, SSL_CTX *ctx);
void client_send(struct client *client, const char *text);
/* The next line is this one. */
void client_expect(struct client *client, const char *line);
/* No byte arrives for so long. */
void client_expect_silence(struct client *client, int ms);
/* The server has closed, cleanly. */
void client_expect_end(struct client *client);
size_t client_read(struct client *client, void *ret_bytes, size_t size);

/* Polls until the condition holds. */
#define wait_until(condition)                                                                      \
    do {                                                                                           \
        for (int wait_i = 0; !(condition); wait_i++) {                                             \
            assert_true(wait_i < 4000);                                                            \
            usleep(5000);                                                                          \
        }                                                                                          \
    } while (0)

#endif
