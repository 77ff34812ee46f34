#include "mail/scram.h"

#include "base/endian.h"
#include "mail/account.h"
#include "mail/auth.h"
#include "mail/internal.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#define RANDOM_BYTES 12U
#define MARK_BYTES   18U /* of the nonce that says whose it is */
#define NONCE_BYTES  (RANDOM_BYTES + MARK_BYTES)
#define NONCE_TEXT   40U /* in base64: a multiple of three bytes, so without padding */
#define MESSAGE_MAX  16384U

_Static_assert(NONCE_BYTES * 4 / 3 == NONCE_TEXT, "base64");

/* ---- The keys ---- */

static bool hmac(struct sp_slice key, struct sp_slice text, uint8_t ret_mac[32])
{
    unsigned len = 32;
    return HMAC(EVP_sha256(), key.ptr, (int)key.len, text.ptr, text.len, ret_mac, &len) &&
           len == 32;
}

enum sp_status sp_scram_check(const struct sp_credential *credential, struct sp_slice auth_message,
                              const uint8_t proof[32], uint8_t ret_signature[32])
{
    uint8_t client_key[32], stored_key[32], signature[32];
    if (credential->scram_stored_key.len != sizeof stored_key ||
        credential->scram_server_key.len != sizeof signature)
        return SP_DENIED;
    if (!hmac(credential->scram_stored_key, auth_message, client_key))
        return SP_NO_MEMORY;
    for (size_t i = 0; i < sizeof client_key; i++)
        client_key[i] ^= proof[i];
    bool made =
        EVP_Digest(client_key, sizeof client_key, stored_key, NULL, EVP_sha256(), NULL) == 1 &&
        hmac(credential->scram_server_key, auth_message, signature);
    sodium_memzero(client_key, sizeof client_key); /* with it one could log in */
    if (!made)
        return SP_NO_MEMORY;
    if (sodium_memcmp(stored_key, credential->scram_stored_key.ptr, sizeof stored_key) != 0)
        return SP_DENIED;
    memcpy(ret_signature, signature, sizeof signature);
    return SP_OK;
}

/* ---- The nonce ---- */

static void hash_part(crypto_generichash_state *state, struct sp_slice part)
{
    uint8_t length[8];
    sp_put_u64(length, part.len);
    crypto_generichash_update(state, length, sizeof length);
    crypto_generichash_update(state, part.ptr, part.len);
}

/* The mark of this session's exchange on a nonce that begins with these random bytes. */
static void make_mark(const struct sp_op *op, const uint8_t random[RANDOM_BYTES],
                      uint8_t ret_mark[MARK_BYTES])
{
    const struct sp_request *request = op->request;
    crypto_generichash_state state;
    uint8_t session[8];
    sp_put_u64(session, request->session);
    crypto_generichash_init(&state, op->mail->scram_secret, sizeof op->mail->scram_secret,
                            MARK_BYTES);
    crypto_generichash_update(&state, session, sizeof session);
    crypto_generichash_update(&state, random, RANDOM_BYTES);
    hash_part(&state, request->authenticate.user);
    hash_part(&state, request->authenticate.scram.first);
    crypto_generichash_final(&state, ret_mark, MARK_BYTES);
}

static void add_base64(struct sp_buf *buf, struct sp_slice bytes)
{
    char text[sodium_base64_ENCODED_LEN(64, sodium_base64_VARIANT_ORIGINAL)];
    sp_assert(bytes.len <= 64);
    sodium_bin2base64(text, sizeof text, bytes.ptr, bytes.len, sodium_base64_VARIANT_ORIGINAL);
    sp_buf_add_str(buf, text);
}

/* Is the end of the nonce one that this session was given? */
static bool is_ours(const struct sp_op *op, struct sp_slice nonce)
{
    uint8_t bytes[NONCE_BYTES], mark[MARK_BYTES];
    size_t len = 0;
    if (nonce.len < NONCE_TEXT)
        return false;
    struct sp_slice text = sp_slice_from(nonce, nonce.len - NONCE_TEXT);
    if (sodium_base642bin(bytes, sizeof bytes, (const char *)text.ptr, text.len, NULL, &len, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        len != sizeof bytes)
        return false;
    make_mark(op, bytes, mark);
    return sodium_memcmp(mark, bytes + RANDOM_BYTES, sizeof mark) == 0;
}

/* ---- The requests ---- */

/* What is told of a user: of one without keys, made up. */
static enum sp_status find_keys(struct sp_op *op, struct sp_uuid *ret_account,
                                struct sp_credential *ret)
{
    struct sp_slice payload;
    enum sp_status status = sp_auth_credential(op, ret_account, &payload);
    *ret = (struct sp_credential){0};
    if (status == SP_OK && payload.len)
        status = sp_credential_read(payload, ret);
    if (status)
        return status;
    if (ret->scram_salt.len && ret->scram_salt.len <= 64 && ret->scram_iterations)
        return SP_OK;
    struct sp_slice user = op->request->authenticate.user;
    uint8_t *lower = sp_arena_alloc(&op->arena, user.len + 1);
    uint8_t *salt = sp_arena_alloc(&op->arena, 16 + 32);
    if (!lower || !salt)
        return SP_NO_MEMORY;
    for (size_t i = 0; i < user.len; i++)
        lower[i] = sp_ascii_lower(user.ptr[i]);
    struct sp_uuid volume = sp_volume_id(op->mail->volume);
    crypto_generichash(salt, 16 + 32, lower, user.len, volume.bytes, sizeof volume.bytes);
    /* The keys are for time to tell nothing either: what has this digest nobody knows. */
    *ret = (struct sp_credential){.scram_iterations = SP_SCRAM_ITERATIONS,
                                  .scram_salt = sp_slice(salt, 16),
                                  .scram_stored_key = sp_slice(salt + 16, 32),
                                  .scram_server_key = sp_slice(salt + 16, 32)};
    return SP_OK;
}

static void add_first(struct sp_buf *buf, struct sp_slice nonce,
                      const struct sp_credential *credential)
{
    sp_buf_add(buf, SP_S("r="));
    sp_buf_add(buf, nonce);
    sp_buf_add(buf, SP_S(",s="));
    add_base64(buf, credential->scram_salt);
    sp_buf_add(buf, SP_S(",i="));
    sp_buf_add_decimal(buf, credential->scram_iterations);
}

/* Takes over what buf holds. */
static enum sp_status give(struct sp_op *op, struct sp_buf *buf)
{
    op->reply->sasl = sp_arena_copy(&op->reply->arena, sp_buf_slice(buf));
    return sp_buf_failed(buf) || !op->reply->sasl.ptr ? SP_NO_MEMORY : SP_OK;
}

void sp_op_scram(struct sp_op *op)
{
    uint8_t bytes[NONCE_BYTES];
    struct sp_credential credential;
    struct sp_uuid account;
    struct sp_buf nonce, buf;
    enum sp_status status = find_keys(op, &account, &credential);
    sp_buf_init(&nonce, MESSAGE_MAX);
    sp_buf_init(&buf, MESSAGE_MAX);
    if (status == SP_OK) {
        sp_random_bytes(bytes, RANDOM_BYTES);
        make_mark(op, bytes, bytes + RANDOM_BYTES);
        sp_buf_add(&nonce, op->request->authenticate.scram.nonce);
        add_base64(&nonce, sp_slice(bytes, sizeof bytes));
        add_first(&buf, sp_buf_slice(&nonce), &credential);
        status = sp_buf_failed(&nonce) ? SP_NO_MEMORY : give(op, &buf);
    }
    sp_buf_release(&nonce);
    sp_buf_release(&buf);
    sp_op_finish(op, status);
}

enum sp_status sp_scram_verify(struct sp_op *op)
{
    const struct sp_request *request = op->request;
    uint8_t signature[32];
    struct sp_credential credential;
    struct sp_uuid account;
    struct sp_buf buf;
    enum sp_status status = find_keys(op, &account, &credential);
    sp_buf_init(&buf, MESSAGE_MAX);
    if (status == SP_OK) { /* AuthMessage: RFC 5802, 3 */
        sp_buf_add(&buf, request->authenticate.scram.first);
        sp_buf_add_byte(&buf, ',');
        add_first(&buf, request->authenticate.scram.nonce, &credential);
        sp_buf_add_byte(&buf, ',');
        sp_buf_add(&buf, request->authenticate.scram.final);
        status = sp_buf_failed(&buf) ? SP_NO_MEMORY
                                     : sp_scram_check(&credential, sp_buf_slice(&buf),
                                                      request->authenticate.scram.proof, signature);
    }
    if (status == SP_OK && !is_ours(op, request->authenticate.scram.nonce))
        status = SP_DENIED;
    sp_buf_reset(&buf);
    if (status == SP_OK) {
        sp_buf_add(&buf, SP_S("v="));
        add_base64(&buf, sp_slice(signature, sizeof signature));
        status = give(op, &buf);
    }
    if (status == SP_OK)
        op->reply->account = account;
    else if (status == SP_DENIED)
        sp_op_refuse(op, status, "the user name or the password is wrong");
    sp_buf_release(&buf);
    return status;
}
