#include "mail/auth.h"
#include "base/endian.h"
#include "base/time.h"
#include "mail/account.h"
#include "mail/internal.h"
#include "mail/scram.h"

#include <stdlib.h>

#define WAYS        4U
#define THREADS_MAX 16U

/* A password that was right. */
struct remembered {
    uint8_t key[32];
    uint64_t until_ms; /* 0: none */
};

struct sp_auth {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct sp_op *first, *last; /* waiting */
    uint32_t waiting, waiting_max;
    bool stopping;
    pthread_t threads[THREADS_MAX];
    uint32_t threads_count;
    /* Whose passwords are being verified; all zero: nobody's, or of a peer that is not counted. */
    uint8_t at_work[THREADS_MAX][SP_PEER_BYTES];
    uint32_t threads_begun;

    uint8_t secret[32];
    struct remembered *sets;            /* under the lock */
    char dummy[crypto_pwhash_STRBYTES]; /* what unknown users are verified against */
};

/* What is to be verified. */
struct attempt {
    struct sp_uuid account;
    bool known;
    struct sp_slice credential; /* the payload; in the operation's arena */
    char hash[crypto_pwhash_STRBYTES];
    uint8_t key[32];
    struct sp_slice password; /* prepared; in the next, or in the request */
    uint8_t prepared[SP_PASSWORD_MAX];
};

/* ---- Memory of verified passwords ---- */

static void make_key(const struct sp_auth *auth, struct attempt *attempt, struct sp_slice password)
{
    crypto_generichash_state state;
    uint8_t lengths[16];
    sp_put_u64(lengths, attempt->credential.len);
    sp_put_u64(lengths + 8, password.len);
    crypto_generichash_init(&state, auth->secret, sizeof auth->secret, sizeof attempt->key);
    crypto_generichash_update(&state, lengths, sizeof lengths);
    crypto_generichash_update(&state, attempt->account.bytes, sizeof attempt->account.bytes);
    crypto_generichash_update(&state, attempt->credential.ptr, attempt->credential.len);
    crypto_generichash_update(&state, password.ptr, password.len);
    crypto_generichash_final(&state, attempt->key, sizeof attempt->key);
    sodium_memzero(&state, sizeof state);
}

static struct remembered *set_of(struct sp_auth *auth, const uint8_t key[32])
{
    return &auth->sets[(size_t)(sp_get_u32(key) % SP_AUTH_REMEMBER_SETS) * WAYS];
}

static bool remembers(struct sp_auth *auth, const uint8_t key[32])
{
    uint64_t now_ms = sp_now_ms();
    bool found = false;
    pthread_mutex_lock(&auth->lock);
    struct remembered *set = set_of(auth, key);
    for (uint32_t i = 0; i < WAYS; i++)
        found |= set[i].until_ms > now_ms && sodium_memcmp(set[i].key, key, 32) == 0;
    pthread_mutex_unlock(&auth->lock);
    return found;
}

static void remember(struct sp_auth *auth, const uint8_t key[32])
{
    pthread_mutex_lock(&auth->lock);
    struct remembered *set = set_of(auth, key), *oldest = set;
    for (uint32_t i = 0; i < WAYS; i++) {
        if (sodium_memcmp(set[i].key, key, 32) == 0) {
            oldest = &set[i];
            break;
        }
        if (set[i].until_ms < oldest->until_ms)
            oldest = &set[i];
    }
    memcpy(oldest->key, key, 32);
    oldest->until_ms = sp_now_ms() + SP_AUTH_REMEMBER_MS;
    pthread_mutex_unlock(&auth->lock);
}

/* ---- Hashing ---- */

static void finish(struct sp_op *op, enum sp_status status)
{
    struct attempt *attempt = op->state;
    struct sp_slice *password = &op->request->authenticate.password;
    if (status == SP_OK)
        op->reply->account = attempt->account;
    else if (status == SP_DENIED)
        sp_op_refuse(op, status, "the user name or the password is wrong");
    if (attempt)
        sodium_memzero(attempt, sizeof *attempt);
    if (password->len)
        sodium_memzero((void *)(uintptr_t)password->ptr, password->len);
    password->len = 0;
    sp_op_finish(op, status);
}

static enum sp_status verify(struct sp_auth *auth, const struct sp_op *op)
{
    struct attempt *attempt = op->state;
    struct sp_slice password = attempt->password;
    const char *hash = attempt->known ? attempt->hash : auth->dummy;
    bool right = crypto_pwhash_str_verify(hash, (const char *)password.ptr, password.len) == 0 &&
                 attempt->known;
    if (right)
        remember(auth, attempt->key);
    return right ? SP_OK : SP_DENIED;
}

static void *hash_thread(void *context)
{
    struct sp_auth *auth = context;
    pthread_mutex_lock(&auth->lock);
    uint8_t *peer = auth->at_work[auth->threads_begun++];
    for (;;) {
        while (!auth->first && !auth->stopping)
            pthread_cond_wait(&auth->work, &auth->lock);
        struct sp_op *op = auth->first;
        if (!op)
            break;
        auth->first = op->next;
        if (!auth->first)
            auth->last = NULL;
        auth->waiting--;
        memcpy(peer, op->request->peer, SP_PEER_BYTES);
        bool stopping = auth->stopping;
        pthread_mutex_unlock(&auth->lock);
        enum sp_status status = stopping ? SP_SHUTDOWN : verify(auth, op);
        pthread_mutex_lock(&auth->lock);
        memset(peer, 0, SP_PEER_BYTES); /* before the answer: then the peer may try again */
        pthread_mutex_unlock(&auth->lock);
        finish(op, status);
        pthread_mutex_lock(&auth->lock);
    }
    pthread_mutex_unlock(&auth->lock);
    return NULL;
}

/* Has this peer as many as it may? The lock is held. */
static bool is_greedy(const struct sp_auth *auth, const uint8_t peer[SP_PEER_BYTES])
{
    static const uint8_t nobody[SP_PEER_BYTES];
    uint32_t count = 0;
    if (memcmp(peer, nobody, SP_PEER_BYTES) == 0)
        return false;
    for (const struct sp_op *op = auth->first; op; op = op->next)
        count += memcmp(op->request->peer, peer, SP_PEER_BYTES) == 0;
    for (uint32_t i = 0; i < auth->threads_begun; i++)
        count += memcmp(auth->at_work[i], peer, SP_PEER_BYTES) == 0;
    return count >= SP_AUTH_PER_PEER;
}

static bool enqueue(struct sp_auth *auth, struct sp_op *op)
{
    pthread_mutex_lock(&auth->lock);
    bool room =
        auth->waiting < auth->waiting_max && !auth->stopping && !is_greedy(auth, op->request->peer);
    if (room) {
        op->next = NULL;
        if (auth->last)
            auth->last->next = op;
        else
            auth->first = op;
        auth->last = op;
        auth->waiting++;
        pthread_cond_signal(&auth->work);
    }
    pthread_mutex_unlock(&auth->lock);
    return room;
}

enum sp_status sp_auth_new(const struct sp_mail_config *config, struct sp_auth **ret_auth)
{
    if (sodium_init() < 0)
        return SP_IO;
    struct sp_auth *auth = calloc(1, sizeof *auth);
    if (!auth)
        return SP_NO_MEMORY;
    uint32_t threads = config->hash_threads ? config->hash_threads : 1;
    char nothing[32];
    auth->waiting_max = config->hash_queue_max;
    pthread_mutex_init(&auth->lock, NULL);
    pthread_cond_init(&auth->work, NULL);
    sp_random_bytes(auth->secret, sizeof auth->secret);
    sp_random_bytes(nothing, sizeof nothing);
    auth->sets = calloc((size_t)SP_AUTH_REMEMBER_SETS * WAYS, sizeof *auth->sets);
    if (!auth->sets ||
        crypto_pwhash_str(auth->dummy, nothing, sizeof nothing, crypto_pwhash_OPSLIMIT_INTERACTIVE,
                          crypto_pwhash_MEMLIMIT_INTERACTIVE) != 0) {
        sp_auth_free(auth);
        return SP_NO_MEMORY;
    }
    while (auth->threads_count < threads && auth->threads_count < THREADS_MAX) {
        if (pthread_create(&auth->threads[auth->threads_count], NULL, hash_thread, auth) != 0) {
            sp_auth_free(auth);
            return SP_IO;
        }
        auth->threads_count++;
    }
    *ret_auth = auth;
    return SP_OK;
}

void sp_auth_free(struct sp_auth *auth)
{
    if (!auth)
        return;
    pthread_mutex_lock(&auth->lock);
    auth->stopping = true;
    pthread_cond_broadcast(&auth->work);
    pthread_mutex_unlock(&auth->lock);
    for (uint32_t i = 0; i < auth->threads_count; i++)
        pthread_join(auth->threads[i], NULL);
    if (auth->sets)
        sodium_memzero(auth->sets, (size_t)SP_AUTH_REMEMBER_SETS * WAYS * sizeof *auth->sets);
    sodium_memzero(auth->secret, sizeof auth->secret);
    free(auth->sets);
    pthread_cond_destroy(&auth->work);
    pthread_mutex_destroy(&auth->lock);
    free(auth);
}

/* ---- The request ---- */

enum sp_status sp_auth_credential(struct sp_op *op, struct sp_uuid *ret_account,
                                  struct sp_slice *ret_credential)
{
    struct sp_slice user = op->request->authenticate.user;
    uint8_t lower[SP_ADDRESS_MAX];
    struct sp_account account;
    struct sp_position position;
    struct sp_read read;
    *ret_credential = (struct sp_slice){0};
    if (user.len > sizeof lower)
        return SP_OK;
    for (size_t i = 0; i < user.len; i++)
        lower[i] = sp_ascii_lower(user.ptr[i]);
    enum sp_status status = sp_read_begin(op->mail->index, &read);
    if (status)
        return status;
    status =
        user.len ? sp_index_address(&read, sp_slice(lower, user.len), ret_account) : SP_NOT_FOUND;
    if (status == SP_OK)
        status = sp_index_account(&read, ret_account, &account);
    if (status == SP_OK && account.credential.len) {
        *ret_credential = sp_arena_copy(&op->arena, account.credential);
        status = ret_credential->ptr ? SP_OK : SP_NO_MEMORY;
    } else if (status == SP_NOT_FOUND) {
        status = sp_index_position(&read, &position);
        if (status == SP_OK && position.list_protected)
            status = sp_op_refuse(op, SP_UNAVAILABLE,
                                  "accounts are being recovered, please try again later");
        else if (status == SP_NOT_FOUND)
            status = SP_OK;
    }
    sp_read_end(&read);
    return status;
}

/* Fills the attempt from the index; an unknown user is no error yet. */
static enum sp_status look_up(struct sp_op *op, struct attempt *attempt)
{
    struct sp_credential credential;
    enum sp_status status = sp_auth_credential(op, &attempt->account, &attempt->credential);
    if (status || !attempt->credential.len)
        return status;
    status = sp_credential_read(attempt->credential, &credential);
    if (status || credential.argon2id.len >= sizeof attempt->hash)
        return status ? status : SP_CORRUPT;
    memcpy(attempt->hash, credential.argon2id.ptr, credential.argon2id.len);
    attempt->known = true;
    return SP_OK;
}

void sp_op_authenticate(struct sp_op *op)
{
    struct sp_auth *auth = op->mail->auth;
    struct sp_slice password = op->request->authenticate.password;
    if (op->request->authenticate.is_scram) {
        sp_op_finish(op, sp_scram_verify(op));
        return;
    }
    struct attempt *attempt = sp_arena_alloc(&op->arena, sizeof *attempt);
    op->state = attempt;
    enum sp_status status = attempt ? look_up(op, attempt) : SP_NO_MEMORY;
    if (status == SP_OK && (!password.len || password.len > SP_PASSWORD_MAX))
        status = SP_DENIED;
    if (status) {
        finish(op, status);
        return;
    }
    attempt->password = sp_password_prepare(password, attempt->prepared);
    make_key(auth, attempt, attempt->password);
    if (attempt->known && remembers(auth, attempt->key))
        finish(op, SP_OK);
    else if (!enqueue(auth, op))
        finish(op,
               sp_op_refuse(op, SP_UNAVAILABLE, "too many logins at once, please try again later"));
}
