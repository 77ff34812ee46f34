/* The server in the clear, on real sockets. */
#include "net/test_echo.h"

#include "base/log.h"
#include "base/time.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <setjmp.h>
#include <cmocka.h>

static struct echo_backend backend;
static struct sp_listener_config listeners[2];
static struct sp_server *server;

static struct sp_server_config config_of(void)
{
    listeners[0] = (struct sp_listener_config){"echo", "127.0.0.1:0", false, &echo_ops, echo_new};
    listeners[1] =
        (struct sp_listener_config){"stubborn", "127.0.0.1:0", false, &echo_ops, echo_new_stubborn};
    return (struct sp_server_config){
        .listeners = listeners,
        .listeners_count = 2,
        .env = &echo_env,
        .loops = 3,
        .workers = 3,
        .drain_ms = 300,
        .linger_ms = 1000,
    };
}

static void start_with(struct sp_server_config config)
{
    struct sp_error error = {0};
    config.backend = echo_backend_start(&backend);
    if (sp_server_start(&config, &server, &error) != SP_OK)
        fail_msg("%s: %s: %s", error.what, error.why, error.todo);
}

static void stop(void)
{
    sp_server_stop(server);
    echo_backend_stop(&backend);
    assert_int_equal(echo_sessions(), 0);
}

static struct client greeted(uint32_t listener)
{
    struct client client = client_connect(sp_server_port(server, listener));
    client_expect(&client, "hello");
    return client;
}

static struct sp_server_counters counters(void)
{
    struct sp_server_counters now;
    sp_server_counters(server, &now);
    return now;
}

static void test_talk(void **state)
{
    (void)state;
    start_with(config_of());
    struct client client = greeted(0);
    client_send(&client, "echo one\necho two\necho ");
    client_expect(&client, "one");
    client_expect(&client, "two");
    client_send(&client, "three\nreq four\nquick five\nslow six\n");
    client_expect(&client, "three");
    char seen[4][64];
    for (int i = 0; i < 3; i++) {
        size_t at = 0;
        while (client_read(&client, &seen[i][at], 1) == 1 && seen[i][at] != '\n')
            at++;
        seen[i][at] = '\0';
    }
    for (int i = 0; i < 3; i++)
        assert_true(!strcmp(seen[i], "reply ok four") || !strcmp(seen[i], "reply ok five") ||
                    !strcmp(seen[i], "reply ok six"));
    client_send(&client, "quit\n");
    client_expect(&client, "bye");
    client_expect_end(&client);
    client_close(&client);
    wait_until(counters().connections_now == 0);
    struct sp_server_counters end = counters();
    assert_int_equal(end.connections_total, 1);
    assert_int_equal(end.requests, 3);
    assert_int_equal(
        end.bytes_in,
        strlen("echo one\necho two\necho three\nreq four\nquick five\nslow six\nquit\n"));
    wait_until(echo_backend_ended(&backend) == 1);
    stop();
}

/* Input that arrives after quit must not turn the last words into a reset. */
static void test_last_words(void **state)
{
    (void)state;
    start_with(config_of());
    for (int i = 0; i < 20; i++) {
        struct client client = greeted(0);
        client_send(&client, "echo x\nquit\n");
        for (int k = 0; k < 20; k++)
            client_send(&client,
                        "echo more, long after the end of it all, for what it may be worth\n");
        client_expect(&client, "x");
        client_expect(&client, "bye");
        client_expect_end(&client);
        client_close(&client);
    }
    /* one that never closes is closed in the end */
    struct client client = greeted(0);
    client_send(&client, "quit\n");
    client_expect(&client, "bye");
    wait_until(counters().connections_now == 0);
    client_close(&client);
    stop();
}

static void test_half_close(void **state)
{
    (void)state;
    start_with(config_of());
    struct client client = greeted(0);
    client_send(&client, "big 300000\necho done\nslow a\nslow b\n");
    shutdown(client.fd, SHUT_WR);
    static char big[300001];
    for (size_t at = 0; at < sizeof big;) {
        size_t n = client_read(&client, big + at, sizeof big - at);
        assert_true(n > 0);
        at += n;
    }
    client_expect(&client, "done");
    client_expect(&client, "reply ok a");
    client_expect(&client, "reply ok b");
    client_expect(&client, "eof");
    client_expect_end(&client);
    client_close(&client);
    stop();
}

/* A reader that stops: the session is not asked for more than the kernel takes, and others are
 * served. */
static void test_slow_reader(void **state)
{
    (void)state;
    start_with(config_of());
    struct client client = greeted(0);
    const size_t size = 40000000;
    client_send(&client, "big 40000000\necho after\n");
    uint64_t before, now = 0;
    do { /* until the kernel takes no more */
        before = now;
        usleep(50000);
        now = counters().bytes_out;
    } while (now != before || now < 1000);
    assert_true(now < size / 2);
    struct client other = greeted(0);
    client_send(&other, "echo quick\n");
    client_expect(&other, "quick");
    client_close(&other);

    static char bytes[262144];
    size_t at = 0;
    while (at < size + 1) {
        size_t n = client_read(&client, bytes,
                               size + 1 - at < sizeof bytes ? size + 1 - at : sizeof bytes);
        assert_true(n > 0);
        for (size_t i = 0; i < n; i++, at++)
            assert_int_equal(bytes[i], at == size ? '\n' : (char)('a' + at % 26));
    }
    client_expect(&client, "after");
    client_close(&client);
    stop();
}

static void test_write_stall(void **state)
{
    (void)state;
    struct sp_server_config config = config_of();
    config.write_stall_ms = 200;
    start_with(config);
    struct client client = greeted(0);
    client_send(&client, "big 40000000\n");
    wait_until(counters().connections_now == 0);
    client_close(&client);
    stop();
}

static void test_replies_to_the_gone(void **state)
{
    (void)state;
    start_with(config_of());
    for (int i = 0; i < 50; i++) {
        struct client client = greeted(0);
        client_send(&client, "slow a\nreq b\nslow c\nquick d\n");
        struct linger reset = {.l_onoff = 1, .l_linger = 0};
        if (i % 2)
            setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        usleep((useconds_t)(i % 5) * 500);
        client_close(&client);
    }
    wait_until(counters().connections_now == 0);
    /* some were reset before they were read */
    wait_until(echo_sessions() == 0);
    struct client client = greeted(0);
    client_send(&client, "stuck a\n");
    wait_until(counters().requests_waiting == 0);
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    client_close(&client);
    wait_until(counters().connections_now == 0);
    echo_backend_release(&backend);
    stop();
}

/* Searches hold at most half of the workers, and one for an account: others are served. */
static void test_long_requests(void **state)
{
    (void)state;
    struct sp_server_config config = config_of();
    config.workers = 4;
    start_with(config);
    struct client clients[6];
    for (int i = 0; i < 6; i++)
        clients[i] = greeted(0);
    client_send(&clients[0], "search 1\n");
    wait_until(echo_backend_searching(&backend) == 1);
    client_send(&clients[1], "search 1\n");
    client_send(&clients[2], "search 1\n");
    wait_until(counters().requests_waiting == 2);
    client_send(&clients[3], "search 2\n");
    wait_until(echo_backend_searching(&backend) == 2);
    client_send(&clients[4], "search 3\n");
    wait_until(counters().requests == 5);
    for (int i = 0; i < 10; i++) {
        client_send(&clients[5], "req a\n");
        client_expect(&clients[5], "reply ok a");
    }
    assert_int_equal(echo_backend_searching(&backend), 2);
    assert_int_equal(counters().requests_waiting, 3);
    /* For who is gone it does not go on. */
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(clients[0].fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    client_close(&clients[0]);
    wait_until(echo_backend_cancelled(&backend) == 1);
    wait_until(echo_backend_searching(&backend) == 2 && counters().requests_waiting == 2);
    echo_backend_release(&backend);
    for (int i = 1; i < 5; i++) {
        char line[16];
        snprintf(line, sizeof line, "reply ok %d", i < 3 ? 1 : i - 1);
        client_expect(&clients[i], line);
    }
    for (int i = 1; i < 6; i++)
        client_close(&clients[i]);
    stop();
}

/* Requests name their peer, unless it is exempt. */
static void test_peer_of_requests(void **state)
{
    (void)state;
    static const uint8_t loopback[16] = {[10] = 0xff, [11] = 0xff, 127, 0, 0, 1}, nobody[16];
    struct sp_server_config config = config_of();
    for (int i = 0; i < 2; i++) {
        config.loopback_exempt = i;
        start_with(config);
        struct client client = greeted(0);
        client_send(&client, "req a\n");
        client_expect(&client, "reply ok a");
        client_close(&client);
        assert_memory_equal(backend.peer, i ? nobody : loopback, 16);
        stop();
    }
}

static void test_deadlines(void **state)
{
    (void)state;
    start_with(config_of());
    struct client clients[8];
    for (int i = 0; i < 8; i++) {
        clients[i] = greeted(0);
        char line[32];
        snprintf(line, sizeof line, "timer %d\n", 400 - 50 * i);
        client_send(&clients[i], line);
    }
    uint64_t began = sp_now_ms();
    for (int i = 7; i >= 0; i--) {
        client_expect(&clients[i], "tick");
        assert_true(sp_now_ms() - began + 30 >= (uint64_t)(400 - 50 * i));
    }
    for (int i = 0; i < 8; i++) {
        client_expect_silence(&clients[i], 0);
        client_close(&clients[i]);
    }
    stop();
}

static void test_news(void **state)
{
    (void)state;
    start_with(config_of());
    struct client a[6], other = greeted(0);
    client_send(&other, "watch 2\n");
    client_expect(&other, "news");
    for (int i = 0; i < 6; i++) {
        a[i] = greeted(0);
        client_send(&a[i], "watch 1\n");
        client_expect(&a[i], "news");
    }
    echo_backend_notify(&backend, 3);
    echo_backend_notify(&backend, 1);
    for (int i = 0; i < 6; i++)
        client_expect(&a[i], "news");
    client_expect_silence(&other, 50);
    /* moved and gone watchers */
    client_send(&a[0], "unwatch\necho ok\n");
    client_expect(&a[0], "ok");
    client_send(&a[1], "watch 9\n");
    client_expect(&a[1], "news");
    client_close(&a[2]);
    echo_backend_notify(&backend, 1);
    for (int i = 3; i < 6; i++)
        client_expect(&a[i], "news");
    client_expect_silence(&a[0], 20);
    client_expect_silence(&a[1], 0);
    for (int i = 0; i < 2000; i++) {
        echo_backend_notify(&backend, (uint32_t)(i % 10));
        if (i % 100 == 50) {
            client_close(&a[3]);
            a[3] = greeted(0);
            client_send(&a[3], "watch 5\n");
        }
    }
    for (int i = 0; i < 6; i++) {
        if (i != 2)
            client_close(&a[i]);
    }
    client_close(&other);
    stop();
}

static void test_denied_logins_wait(void **state)
{
    (void)state;
    struct sp_server_config config = config_of();
    config.denied_held_max = 2;
    config.denied_delay_ms = 500;
    config.loops = 1;
    start_with(config);
    struct client clients[3];
    for (int i = 0; i < 3; i++)
        clients[i] = greeted(0);
    uint64_t began = sp_now_ms();
    client_send(&clients[0], "login a\n");
    client_expect_silence(&clients[0], 80);
    client_send(&clients[0], "echo meanwhile\n");
    client_expect(&clients[0], "meanwhile");
    client_expect(&clients[0], "reply denied ");
    assert_true(sp_now_ms() - began >= 490);
    /* beyond the number that may be held there is no delay */
    client_send(&clients[0], "login a\n");
    client_send(&clients[1], "login b\n");
    wait_until(counters().denied_held == 3);
    began = sp_now_ms();
    client_send(&clients[2], "login c\n");
    client_expect(&clients[2], "reply denied ");
    assert_int_equal(counters().denied_held, 3);
    client_close(&clients[0]); /* while held */
    client_expect(&clients[1], "reply denied ");
    client_send(&clients[1], "login d\n");
    wait_until(counters().denied_held == 4);
    stop(); /* while held */
    client_expect(&clients[1], "reply denied ");
    client_expect(&clients[1], "stopping");
    client_close(&clients[1]);
    client_close(&clients[2]);
}

static void test_full_queue(void **state)
{
    (void)state;
    struct sp_server_config config = config_of();
    config.workers = 1;
    config.worker_queue_max = 1;
    start_with(config);
    backend.slow_worker_ms = 400;
    struct client client = greeted(0);
    client_send(&client, "req a\n");
    wait_until(counters().requests == 1 && counters().requests_waiting == 0);
    client_send(&client, "req b\nreq c\n");
    client_expect(&client, "reply unavailable the server is busy; try again later");
    client_expect(&client, "reply ok a");
    client_expect(&client, "reply ok b");
    assert_int_equal(counters().requests_refused, 1);
    client_close(&client);
    stop();
}

static void test_limits(void **state)
{
    (void)state;
    struct sp_server_config config = config_of();
    config.connections_max = 3;
    start_with(config);
    struct client clients[3];
    for (int i = 0; i < 3; i++)
        clients[i] = greeted(0);
    struct client more = client_connect(sp_server_port(server, 0));
    client_expect(&more, "too many");
    client_expect_end(&more);
    client_close(&more);
    assert_int_equal(counters().refused, 1);
    client_close(&clients[0]);
    wait_until(counters().connections_now == 2);
    clients[0] = greeted(1);
    for (int i = 0; i < 3; i++)
        client_close(&clients[i]);
    stop();

    config.connections_max = 0;
    config.connections_per_peer_max = 2;
    start_with(config);
    clients[0] = greeted(0);
    clients[1] = greeted(0);
    more = client_connect(sp_server_port(server, 0));
    client_expect(&more, "too many");
    client_expect_end(&more);
    client_close(&more);
    client_close(&clients[0]);
    client_close(&clients[1]);
    stop();

    config.loopback_exempt = true;
    start_with(config);
    for (int i = 0; i < 3; i++)
        clients[i] = greeted(0);
    for (int i = 0; i < 3; i++)
        client_close(&clients[i]);
    stop();
}

static void test_every_address(void **state)
{
    (void)state;
    struct sp_server_config config = config_of();
    listeners[0].address = ":0";
    start_with(config);
    struct client client = greeted(0); /* by IPv4; the session is told so */
    client_close(&client);
    char text[32];
    struct sp_server *none;
    struct sp_error error;
    snprintf(text, sizeof text, ":%u", sp_server_port(server, 0));
    struct sp_listener_config clash = {"imap", text, false, &echo_ops, echo_new};
    config.listeners = &clash;
    config.listeners_count = 1;
    config.backend = echo_backend_of(&backend);
    assert_int_equal(sp_server_start(&config, &none, &error), SP_EXISTS);
    stop();
}

/* Out of descriptors: connections wait in the kernel, the acceptor does not spin, and it goes on
 * afterwards. */
static void test_no_descriptors(void **state)
{
    (void)state;
    start_with(config_of());
    struct rlimit limit, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = 128;
    int waiting = socket(AF_INET, SOCK_STREAM, 0), held[128], count = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    while ((held[count] = dup(waiting)) >= 0)
        count++;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(sp_server_port(server, 0)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(waiting, (struct sockaddr *)&to, sizeof to), 0);
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    usleep(400000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    assert_int_equal(counters().connections_total, 0);
    while (count)
        close(held[--count]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    int64_t used_ms =
        (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    assert_true(used_ms < 200); /* the backend of the test polls, too */
    struct client client = {.fd = waiting};
    client_expect(&client, "hello");
    client_close(&client);
    stop();
}

static void test_stop(void **state)
{
    (void)state;
    start_with(config_of());
    struct client idle = greeted(0), busy = greeted(0), stubborn = greeted(1), full = greeted(0);
    client_send(&busy, "slow a\n");
    client_send(&full, "big 40000000\n"); /* and never reads */
    usleep(50000);
    uint64_t began = sp_now_ms();
    sp_server_stop(server);
    assert_true(sp_now_ms() - began < 5000);
    echo_backend_stop(&backend);
    assert_int_equal(echo_sessions(), 0);
    client_expect(&idle, "stopping");
    client_expect_end(&idle);
    client_expect_end(&stubborn);
    client_close(&idle);
    client_close(&busy);
    client_close(&stubborn);
    client_close(&full);
    sp_server_stop(NULL);
}

static void test_start_fails(void **state)
{
    (void)state;
    struct sp_server *none;
    struct sp_error error;
    struct sp_server_config config = config_of();
    config.backend = echo_backend_start(&backend);
    config.listeners_count = 1;
    assert_int_equal(sp_server_start(&config, &server, &error), SP_OK);

    char taken[64], why[128], todo[128];
    snprintf(taken, sizeof taken, "127.0.0.1:%u", sp_server_port(server, 0));
    snprintf(why, sizeof why, "%s is in use", taken);
    snprintf(todo, sizeof todo,
             "stop what listens there (ss -ltnp 'sport = :%u' names it), or choose another port",
             sp_server_port(server, 0));
    struct sp_listener_config clash[2] = {{"echo", "127.0.0.1:0", false, &echo_ops, echo_new},
                                          {"imap", taken, false, &echo_ops, echo_new}};
    config.listeners = clash;
    config.listeners_count = 2;
    assert_int_equal(sp_server_start(&config, &none, &error), SP_EXISTS);
    assert_string_equal(error.what, "listen imap");
    assert_string_equal(error.why, why);
    assert_string_equal(error.todo, todo);

    clash[1].address = "192.0.2.1:0";
    assert_int_equal(sp_server_start(&config, &none, &error), SP_INVALID);
    assert_string_equal(error.why, "192.0.2.1:0 is not an address of this machine");
    clash[1].address = "nonsense";
    assert_int_equal(sp_server_start(&config, &none, &error), SP_INVALID);
    assert_string_equal(error.why, "nonsense is not an address with a port");
    clash[1].address = "127.0.0.1:0";
    clash[1].implicit_tls = true;
    assert_int_equal(sp_server_start(&config, &none, &error), SP_INVALID);
    assert_string_equal(error.what, "listen imap");
    clash[1].implicit_tls = false;
    config.tls_cert = "/nonexistent/cert.pem";
    assert_int_equal(sp_server_start(&config, &none, &error), SP_INVALID);
    config.tls_key = "/nonexistent/key.pem";
    assert_int_equal(sp_server_start(&config, &none, &error), SP_INVALID);
    assert_string_equal(error.what, "/nonexistent/cert.pem");
    config.tls_cert = config.tls_key = NULL;
    config.listeners_count = 0;
    assert_int_equal(sp_server_start(&config, &none, &error), SP_INVALID);
    sp_server_stop(server);
    echo_backend_stop(&backend);
}

/* Two thousand at once, all talking, some leaving and coming. */
#define MANY 2000

static void test_many(void **state)
{
    (void)state;
    static struct client clients[MANY];
    start_with(config_of()); /* raises the limit of descriptors for us too */
    for (int i = 0; i < MANY; i++)
        clients[i] = client_connect(sp_server_port(server, 0));
    for (int i = 0; i < MANY; i++)
        client_send(&clients[i], "echo a\nreq b\n");
    for (int i = 0; i < MANY; i++) {
        client_expect(&clients[i], "hello");
        client_expect(&clients[i], "a");
        client_expect(&clients[i], "reply ok b");
    }
    assert_int_equal(counters().connections_now, MANY);
    for (int i = 0; i < MANY; i += 4) {
        client_close(&clients[i]);
        clients[i] = client_connect(sp_server_port(server, 0));
    }
    for (int i = 0; i < MANY; i += 4)
        client_expect(&clients[i], "hello");
    for (int i = 0; i < MANY; i++)
        client_send(&clients[i], i % 2 ? "watch 1\n" : "slow x\n");
    for (int i = 0; i < MANY; i++)
        client_expect(&clients[i], i % 2 ? "news" : "reply ok x");
    echo_backend_notify(&backend, 1);
    for (int i = 1; i < MANY; i += 2)
        client_expect(&clients[i], "news");
    for (int i = 0; i < MANY; i += 2)
        client_close(&clients[i]);
    stop();
    for (int i = 1; i < MANY; i += 2)
        client_close(&clients[i]);
}

int main(void)
{
    sp_log_set_level(SP_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_talk),
        cmocka_unit_test(test_last_words),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_write_stall),
        cmocka_unit_test(test_replies_to_the_gone),
        cmocka_unit_test(test_long_requests),
        cmocka_unit_test(test_peer_of_requests),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_news),
        cmocka_unit_test(test_denied_logins_wait),
        cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_every_address),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_start_fails),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
