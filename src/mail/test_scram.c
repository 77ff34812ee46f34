/* SCRAM-SHA-256: the example of RFC 7677, 3; and the two requests on a whole volume. */
#include "mail/internal.h"
#include "mail/scram.h"
#include "mail/test_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

static size_t unbase64(const char *text, size_t len, uint8_t *to, size_t room)
{
    size_t n = 0;
    assert_int_equal(
        sodium_base642bin(to, room, text, len, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL), 0);
    return n;
}

static void hmac(const uint8_t key[32], const char *text, uint8_t ret[32])
{
    assert_non_null(HMAC(EVP_sha256(), key, 32, (const uint8_t *)text, strlen(text), ret, NULL));
}

/* What a client knows (RFC 5802, 3). */
struct keys {
    uint8_t client[32], stored[32], server[32];
};

static struct keys make_keys(const char *password, const uint8_t *salt, size_t len, int iterations)
{
    struct keys keys;
    uint8_t salted[32];
    assert_int_equal(PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, (int)len, iterations,
                                       EVP_sha256(), 32, salted),
                     1);
    hmac(salted, "Client Key", keys.client);
    hmac(salted, "Server Key", keys.server);
    assert_int_equal(EVP_Digest(keys.client, 32, keys.stored, NULL, EVP_sha256(), NULL), 1);
    return keys;
}

#define EXAMPLE_NONCE "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"

static void test_example(void **state)
{
    (void)state;
    static const char message[] = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=" EXAMPLE_NONCE
                                  ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=" EXAMPLE_NONCE;
    uint8_t salt[16], proof[32], expected[32], signature[32];
    unbase64("W22ZaJ0SNY7soEsUEjb6gQ==", 24, salt, sizeof salt);
    unbase64("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", 44, proof, sizeof proof);
    unbase64("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", 44, expected, sizeof expected);
    struct keys keys = make_keys("pencil", salt, sizeof salt, 4096);
    struct sp_credential credential = {.scram_iterations = 4096,
                                       .scram_salt = sp_slice(salt, sizeof salt),
                                       .scram_stored_key = sp_slice(keys.stored, 32),
                                       .scram_server_key = sp_slice(keys.server, 32)};
    assert_int_equal(sp_scram_check(&credential, sp_slice_str(message), proof, signature), SP_OK);
    assert_memory_equal(signature, expected, 32);
    for (unsigned bit = 0; bit < 256; bit++) {
        proof[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(sp_scram_check(&credential, sp_slice_str(message), proof, signature),
                         SP_DENIED);
        proof[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
}

struct exchange {
    char first[100], nonce[200], challenge[300], final[300];
    uint8_t salt[64], proof[32], server_signature[32];
    size_t salt_len;
    int iterations;
};

static void begin(struct world *world, const char *user, struct exchange *x)
{
    struct sp_request *request = request_new(world, SP_REQ_SCRAM);
    snprintf(x->first, sizeof x->first, "n=%s,r=client", user);
    request->session = 7;
    request->authenticate.user = text(request, user);
    request->authenticate.scram.first = text(request, x->first);
    request->authenticate.scram.nonce = text(request, "client");
    struct sp_reply *reply = ask(world, request);
    char salt[100];
    assert_int_equal(reply->status, SP_OK);
    assert_true(sp_uuid_is_nil(&reply->account)); /* it does not say who exists */
    snprintf(x->challenge, sizeof x->challenge, "%.*s", (int)reply->sasl.len,
             (const char *)reply->sasl.ptr);
    assert_int_equal(
        sscanf(x->challenge, "r=%199[^,],s=%99[^,],i=%d", x->nonce, salt, &x->iterations), 3);
    x->salt_len = unbase64(salt, strlen(salt), x->salt, sizeof x->salt);
    assert_memory_equal(x->nonce, "client", 6);
    sp_reply_free(reply);
}

static enum sp_status end(struct world *world, const char *user, const char *password,
                          struct exchange *x, uint64_t session)
{
    char message[1000];
    uint8_t signature[32];
    struct keys keys = make_keys(password, x->salt, x->salt_len, x->iterations);
    snprintf(x->final, sizeof x->final, "c=biws,r=%s", x->nonce);
    snprintf(message, sizeof message, "%s,%s,%s", x->first, x->challenge, x->final);
    hmac(keys.stored, message, signature);
    struct sp_request *request = request_new(world, SP_REQ_AUTHENTICATE);
    request->session = session;
    request->authenticate.is_scram = true;
    request->authenticate.user = text(request, user);
    request->authenticate.scram.first = text(request, x->first);
    request->authenticate.scram.nonce = text(request, x->nonce);
    request->authenticate.scram.final = text(request, x->final);
    for (size_t i = 0; i < 32; i++)
        request->authenticate.scram.proof[i] = keys.client[i] ^ signature[i];
    struct sp_reply *reply = ask(world, request);
    enum sp_status status = reply->status;
    if (status == SP_OK) { /* and the server has proved itself */
        uint8_t mine[32], theirs[32];
        hmac(keys.server, message, mine);
        assert_memory_equal(reply->sasl.ptr, "v=", 2);
        unbase64((const char *)reply->sasl.ptr + 2, reply->sasl.len - 2, theirs, sizeof theirs);
        assert_memory_equal(mine, theirs, 32);
        assert_true(sp_uuid_eq(&reply->account, &world->alice));
    } else {
        assert_true(sp_uuid_is_nil(&reply->account));
        assert_int_equal(reply->sasl.len, 0);
    }
    sp_reply_free(reply);
    return status;
}

static void test_login(void **state)
{
    struct world *world = *state;
    struct exchange x, other;
    struct sp_error error;
    begin(world, ALICE, &x);
    assert_int_equal(end(world, ALICE, "wrong", &x, 7), SP_DENIED);
    assert_int_equal(end(world, ALICE, PASSWORD, &x, 7), SP_OK);
    /* What was overheard is of no use elsewhere, and neither is a nonce that nobody gave. */
    assert_int_equal(end(world, ALICE, PASSWORD, &x, 8), SP_DENIED);
    x.nonce[strlen(x.nonce) - 1] ^= 1;
    snprintf(x.challenge + 2, strlen(x.nonce) + 1, "%s", x.nonce);
    x.challenge[2 + strlen(x.nonce)] = ',';
    assert_int_equal(end(world, ALICE, PASSWORD, &x, 7), SP_DENIED);
    begin(world, "ALICE@example.org", &x);
    assert_int_equal(end(world, "ALICE@example.org", PASSWORD, &x, 7), SP_OK);
    /* An exchange that a change of the password falls into fails; the next one has the new salt. */
    begin(world, ALICE, &x);
    assert_int_equal(sp_account_set_password(world->volume, SP_S(ALICE), SP_S("another"), &error),
                     SP_OK);
    assert_int_equal(end(world, ALICE, PASSWORD, &x, 7), SP_DENIED);
    begin(world, ALICE, &other);
    assert_memory_not_equal(x.salt, other.salt, 16);
    assert_int_equal(end(world, ALICE, "another", &other, 7), SP_OK);
}

/* RFC 5802, 9: who is not there answers as who is, also after a restart. */
static void test_unknown(void **state)
{
    struct world *world = *state;
    struct exchange known, x, again, third;
    begin(world, ALICE, &known);
    begin(world, "nobody@example.org", &x);
    begin(world, "third@example.org", &third);
    assert_int_equal(x.salt_len, known.salt_len);
    assert_int_equal(x.iterations, known.iterations);
    assert_int_equal(strlen(x.nonce), strlen(known.nonce));
    assert_memory_not_equal(x.salt, third.salt, 16);
    assert_int_equal(end(world, "nobody@example.org", PASSWORD, &x, 7), SP_DENIED);
    world_restart(world, true);
    begin(world, "Nobody@example.org", &again);
    assert_memory_equal(x.salt, again.salt, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_example),
        cmocka_unit_test_setup_teardown(test_login, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(test_unknown, world_setup, world_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
