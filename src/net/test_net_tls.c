/* The server with TLS, on real sockets, with a certificate made here. */
#include "net/test_echo.h"

#include "base/log.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <setjmp.h>
#include <cmocka.h>

static char folder[] = "/tmp/sternpost-net-XXXXXX";
static char cert_path[64], key_path[64];
static struct echo_backend backend;
static struct sp_server *server;
static SSL_CTX *client_ctx;

static void write_pem(const char *path, EVP_PKEY *key, X509 *cert)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(cert ? PEM_write_X509(file, cert)
                          : PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL),
                     1);
    assert_int_equal(fclose(file), 0);
}

static void make_certificate(long serial)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    assert_true(key && cert);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"echo.example", -1,
                               -1, 0);
    X509_set_issuer_name(cert, name);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    write_pem(cert_path, NULL, cert);
    write_pem(key_path, key, NULL);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(cert_path, sizeof cert_path, "%s/cert.pem", folder);
    snprintf(key_path, sizeof key_path, "%s/key.pem", folder);
    make_certificate(1);
    client_ctx = SSL_CTX_new(TLS_client_method());
    return client_ctx ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    SSL_CTX_free(client_ctx);
    unlink(cert_path);
    unlink(key_path);
    return rmdir(folder);
}

static void start(uint64_t handshake_timeout_ms)
{
    static const struct sp_listener_config listeners[] = {
        {"echo", "127.0.0.1:0", false, &echo_ops, echo_new},
        {"echos", "127.0.0.1:0", true, &echo_ops, echo_new}};
    struct sp_server_config config = {.listeners = listeners,
                                      .listeners_count = 2,
                                      .env = &echo_env_tls,
                                      .backend = echo_backend_start(&backend),
                                      .tls_cert = cert_path,
                                      .tls_key = key_path,
                                      .loops = 2,
                                      .workers = 2,
                                      .drain_ms = 500,
                                      .linger_ms = 300,
                                      .handshake_timeout_ms = handshake_timeout_ms};
    struct sp_error error;
    if (sp_server_start(&config, &server, &error) != SP_OK)
        fail_msg("%s: %s: %s", error.what, error.why, error.todo);
}

static void stop(void)
{
    sp_server_stop(server);
    echo_backend_stop(&backend);
    assert_int_equal(echo_sessions(), 0);
}

static struct client implicit(void)
{
    struct client client = client_connect(sp_server_port(server, 1));
    client_start_tls(&client, client_ctx);
    client_expect(&client, "hello tls");
    return client;
}

static struct sp_server_counters counters(void)
{
    struct sp_server_counters now;
    sp_server_counters(server, &now);
    return now;
}

static void read_big(struct client *client, size_t size)
{
    static char bytes[65536];
    for (size_t at = 0; at < size + 1;) {
        size_t n =
            client_read(client, bytes, size + 1 - at < sizeof bytes ? size + 1 - at : sizeof bytes);
        assert_true(n > 0);
        for (size_t i = 0; i < n; i++, at++)
            assert_int_equal(bytes[i], at == size ? '\n' : (char)('a' + at % 26));
    }
}

static void talk(struct client *client)
{
    client_send(client, "echo one\necho ");
    client_expect(client, "one");
    client_send(client, "two\nslow three\n");
    client_expect(client, "two");
    client_expect(client, "reply ok three");
    client_send(client, "big 3000000\nreq after\n");
    usleep(50000); /* it stalls: part of a record has been sent */
    read_big(client, 3000000);
    client_expect(client, "reply ok after");
    /* more in one record than the session takes at once */
    char lines[16001];
    for (size_t i = 0; i < sizeof lines - 1; i++)
        lines[i] = i % 8 == 7 ? '\n' : "echo 12"[i % 8];
    lines[sizeof lines - 1] = '\0';
    client_send(client, lines);
    for (size_t i = 0; i < (sizeof lines - 1) / 8; i++)
        client_expect(client, "12");
    client_send(client, "quit\n");
    client_expect(client, "bye");
    client_expect_end(client); /* with close_notify, or the read fails */
}

static void test_implicit(void **state)
{
    (void)state;
    start(0);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_CTX_set_min_proto_version(client_ctx, version);
        SSL_CTX_set_max_proto_version(client_ctx, version);
        struct client client = implicit();
        assert_int_equal(SSL_version(client.tls), version);
        talk(&client);
        client_close(&client);
    }
    SSL_CTX_set_min_proto_version(client_ctx, 0);
    SSL_CTX_set_max_proto_version(client_ctx, 0);
    wait_until(counters().connections_now == 0);
    assert_int_equal(counters().tls_handshakes, 2);
    stop();
}

static void test_starttls(void **state)
{
    (void)state;
    start(0);
    struct client client = client_connect(sp_server_port(server, 0));
    client_expect(&client, "hello");
    client_send(&client, "echo clear\nstarttls\necho injected\n");
    client_expect(&client, "clear");
    client_expect(&client, "go ahead");
    client_start_tls(&client, client_ctx);
    client_expect(&client, "secured");
    talk(&client);
    client_close(&client);
    /* a second one is refused by closing */
    client = client_connect(sp_server_port(server, 0));
    client_expect(&client, "hello");
    client_send(&client, "starttls\n");
    client_expect(&client, "go ahead");
    client_start_tls(&client, client_ctx);
    client_expect(&client, "secured");
    client_send(&client, "starttls\n");
    client_expect(&client, "go ahead");
    wait_until(counters().connections_now == 0);
    client_close(&client);
    stop();
}

static void expect_hex(struct client *client, const uint8_t *bytes, size_t len)
{
    char hex[200];
    for (size_t i = 0; i < len; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    client_expect(client, hex);
}

/* Both sides derive the same (RFC 9266 2, RFC 5929 4.1). */
static void test_channel_binding(void **state)
{
    (void)state;
    start(0);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        static const char label[] = "EXPORTER-Channel-Binding";
        uint8_t exported[32], hash[32];
        unsigned len = sizeof hash;
        SSL_CTX_set_min_proto_version(client_ctx, version);
        SSL_CTX_set_max_proto_version(client_ctx, version);
        struct client client = implicit();
        assert_int_equal(SSL_export_keying_material(client.tls, exported, sizeof exported, label,
                                                    sizeof label - 1, (const uint8_t *)"", 0, 1),
                         1);
        X509 *cert = SSL_get1_peer_certificate(client.tls);
        assert_int_equal(X509_digest(cert, EVP_sha256(), hash, &len), 1);
        X509_free(cert);
        client_send(&client, "bind tls-exporter\nbind tls-server-end-point\nbind tls-unique\n");
        expect_hex(&client, exported, sizeof exported);
        expect_hex(&client, hash, sizeof hash);
        client_expect(&client, "none");
        client_close(&client);
    }
    SSL_CTX_set_min_proto_version(client_ctx, 0);
    SSL_CTX_set_max_proto_version(client_ctx, 0);
    struct client clear = client_connect(sp_server_port(server, 0));
    client_expect(&clear, "hello");
    client_send(&clear, "bind tls-exporter\nbind tls-server-end-point\n");
    client_expect(&clear, "none");
    client_expect(&clear, "none");
    client_close(&clear);
    stop();
}

static void test_bad_handshakes(void **state)
{
    (void)state;
    start(500);
    /* not TLS */
    struct client client = client_connect(sp_server_port(server, 1));
    client_send(&client, "EHLO example.org\r\n");
    wait_until(counters().tls_failed == 1);
    client_close(&client);
    /* too old */
    SSL_CTX *old = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(old, 0);
    SSL_CTX_set_min_proto_version(old, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(old, TLS1_1_VERSION);
    client = client_connect(sp_server_port(server, 1));
    client.tls = SSL_new(old);
    SSL_set_fd(client.tls, client.fd);
    assert_int_not_equal(SSL_connect(client.tls), 1);
    client_close(&client);
    SSL_CTX_free(old);
    wait_until(counters().tls_failed == 2);
    /* silence, and a peer that goes away */
    client = client_connect(sp_server_port(server, 1));
    wait_until(counters().connections_now == 0);
    client_close(&client);
    client = client_connect(sp_server_port(server, 1));
    client_close(&client);
    wait_until(counters().connections_now == 0);
    assert_int_equal(counters().tls_handshakes, 0);
    assert_int_equal(echo_sessions(), 0);
    ERR_clear_error();
    stop();
}

static void test_ends(void **state)
{
    (void)state;
    start(0);
    /* half-closed with close_notify */
    struct client client = implicit();
    client_send(&client, "slow a\n");
    assert_int_equal(SSL_shutdown(client.tls), 0);
    client_expect(&client, "reply ok a");
    client_expect(&client, "eof");
    client_expect_end(&client);
    client_close(&client);
    /* without */
    client = implicit();
    client_send(&client, "slow a\n");
    shutdown(client.fd, SHUT_WR);
    client_expect(&client, "reply ok a");
    client_expect(&client, "eof");
    client_expect_end(&client);
    client_close(&client);
    /* gone while a reply is on its way */
    client = implicit();
    client_send(&client, "slow a\nbig 1000000\n");
    client_close(&client);
    wait_until(counters().connections_now == 0);
    /* stopped */
    client = implicit();
    struct client waiting = client_connect(sp_server_port(server, 1));
    stop();
    client_expect(&client, "stopping");
    client_expect_end(&client);
    client_close(&client);
    client_close(&waiting);
}

static long serial_seen(struct client *client)
{
    X509 *cert = SSL_get1_peer_certificate(client->tls);
    assert_non_null(cert);
    long serial = ASN1_INTEGER_get(X509_get0_serialNumber(cert));
    X509_free(cert);
    return serial;
}

static void test_reload(void **state)
{
    (void)state;
    start(0);
    struct client before = implicit();
    assert_int_equal(serial_seen(&before), 1);
    make_certificate(2);
    assert_int_equal(sp_server_tls_reload(server, NULL), SP_OK);
    struct client after = implicit();
    assert_int_equal(serial_seen(&after), 2);
    client_send(&before, "echo still here\n");
    client_expect(&before, "still here");
    /* a broken file changes nothing */
    struct sp_error error;
    FILE *file = fopen(key_path, "we");
    assert_non_null(file);
    fputs("nothing\n", file);
    fclose(file);
    assert_int_equal(sp_server_tls_reload(server, &error), SP_INVALID);
    assert_string_equal(error.what, key_path);
    client_close(&after);
    after = implicit();
    assert_int_equal(serial_seen(&after), 2);
    client_close(&after);
    client_close(&before);
    make_certificate(1);
    stop();
}

#define MANY 200

static void test_many(void **state)
{
    (void)state;
    static struct client clients[MANY];
    start(0);
    for (int i = 0; i < MANY; i++)
        clients[i] = implicit();
    for (int i = 0; i < MANY; i++)
        client_send(&clients[i], "watch 1\n");
    for (int i = 0; i < MANY; i++)
        client_expect(&clients[i], "news");
    echo_backend_notify(&backend, 1);
    for (int i = 0; i < MANY; i++)
        client_expect(&clients[i], "news");
    for (int i = 0; i < MANY; i++)
        client_close(&clients[i]);
    stop();
}

int main(void)
{
    sp_log_set_level(SP_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_implicit),
        cmocka_unit_test(test_starttls),
        cmocka_unit_test(test_channel_binding),
        cmocka_unit_test(test_bad_handshakes),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
