#include "net/tls.h"

#include <limits.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

/* One record's payload: what a partial write takes at most, and what a repeated one must be given
 * again. */
#define RECORD_BYTES 16384U

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *bytes, int size)
{
    if (size <= 0)
        return 0;
    ssize_t n = sp_sock_recv(BIO_get_data(bio), bytes, (size_t)size);
    BIO_clear_retry_flags(bio);
    if (n == SP_SOCK_AGAIN)
        BIO_set_retry_read(bio);
    if (n == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    return n < 0 ? -1 : (int)n;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
    if (len <= 0)
        return 0;
    ssize_t n = sp_sock_send(BIO_get_data(bio), bytes, (size_t)len);
    BIO_clear_retry_flags(bio);
    if (n == SP_SOCK_AGAIN)
        BIO_set_retry_write(bio);
    return n < 0 ? -1 : (int)n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)number;
    (void)pointer;
    switch (command) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    default:
        return 0;
    }
}

static BIO_METHOD *bio_method;

static void make_bio_method(void)
{
    BIO_METHOD *method =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sternpost socket");
    if (!method)
        return;
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_ctrl);
    bio_method = method; /* for the life of the process */
}

/* ---- the context ---- */

static const char *why_of(unsigned long code)
{
    const char *why = code ? ERR_reason_error_string(code) : NULL;
    if (!why && ERR_SYSTEM_ERROR(code))
        why = strerror(ERR_GET_REASON(code));
    return why ? why : "unknown error";
}

/* The first error is the cause, later ones its consequences. */
const char *sp_tls_why(void)
{
    unsigned long code = ERR_get_error();
    ERR_clear_error();
    return code ? why_of(code) : "connection lost";
}

static enum sp_status fail(struct sp_error *error, const char *what)
{
    return sp_error_set(error, SP_INVALID, what, "%s", sp_tls_why());
}

static enum sp_status configure(SSL_CTX *ctx, const char *cert, const char *key,
                                struct sp_error *error)
{
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ctx, 1);
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"sternpost", 9) != 1)
        return fail(error, "tls");
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1) {
        fail(error, cert);
        sp_error_todo(
            error, "[tls] cert must name a readable PEM file: the certificate, then its issuers");
        return SP_INVALID;
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1) {
        fail(error, key);
        sp_error_todo(error, "[tls] key must name a readable PEM file with the certificate's "
                             "private key, not encrypted");
        return SP_INVALID;
    }
    return SP_OK;
}

void sp_tls_context_init(struct sp_tls_context *context)
{
    pthread_mutex_init(&context->lock, NULL);
    context->ctx = NULL;
}

void sp_tls_context_release(struct sp_tls_context *context)
{
    SSL_CTX_free(context->ctx);
    context->ctx = NULL;
    pthread_mutex_destroy(&context->lock);
}

enum sp_status sp_tls_context_load(struct sp_tls_context *context, const char *cert,
                                   const char *key, struct sp_error *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_bio_method);
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || !bio_method) {
        SSL_CTX_free(ctx);
        return sp_error_set(error, SP_NO_MEMORY, "tls", "no memory");
    }
    enum sp_status status = configure(ctx, cert, key, error);
    if (status) {
        SSL_CTX_free(ctx);
        return status;
    }
    pthread_mutex_lock(&context->lock);
    SSL_CTX *old = context->ctx;
    context->ctx = ctx;
    pthread_mutex_unlock(&context->lock);
    SSL_CTX_free(old);
    return SP_OK;
}

/* ---- a connection ---- */

SSL *sp_tls_new(struct sp_tls_context *context, struct sp_sock *sock)
{
    ERR_clear_error();
    pthread_mutex_lock(&context->lock);
    SSL *tls = context->ctx ? SSL_new(context->ctx) : NULL; /* holds the context from now on */
    pthread_mutex_unlock(&context->lock);
    BIO *bio = tls ? BIO_new(bio_method) : NULL;
    if (!bio) {
        SSL_free(tls);
        return NULL;
    }
    BIO_set_data(bio, sock);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls, bio, bio);
    SSL_set_accept_state(tls);
    return tls;
}

void sp_tls_free(SSL *tls)
{
    SSL_free(tls);
}

/* The outcome of a call that returned n <= 0. */
static ssize_t outcome(SSL *tls, int n)
{
    switch (SSL_get_error(tls, n)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return SP_SOCK_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        return SP_SOCK_ERROR;
    }
}

ssize_t sp_tls_handshake(SSL *tls)
{
    ERR_clear_error();
    int n = SSL_do_handshake(tls);
    if (n == 1)
        return 1;
    ssize_t result = outcome(tls, n);
    return result == 0 ? SP_SOCK_ERROR : result;
}

ssize_t sp_tls_recv(SSL *tls, void *ret_bytes, size_t size)
{
    ERR_clear_error();
    int n = SSL_read(tls, ret_bytes, size < INT_MAX ? (int)size : INT_MAX);
    return n > 0 ? n : outcome(tls, n);
}

ssize_t sp_tls_send(SSL *tls, const void *bytes, size_t len)
{
    ERR_clear_error();
    int n = SSL_write(tls, bytes, len < RECORD_BYTES ? (int)len : (int)RECORD_BYTES);
    if (n > 0)
        return n;
    ssize_t result = outcome(tls, n);
    return result == 0 ? SP_SOCK_ERROR : result;
}

bool sp_tls_pending(SSL *tls)
{
    return SSL_has_pending(tls) == 1;
}

static size_t server_end_point(SSL *tls, uint8_t *ret, size_t size)
{
    X509 *cert = SSL_get_certificate(tls); /* ours, as it was sent */
    int digest = NID_undef;
    unsigned len = 0;
    if (!cert || X509_get_signature_info(cert, &digest, NULL, NULL, NULL) != 1)
        return 0;
    if (digest == NID_md5 || digest == NID_sha1)
        digest = NID_sha256;
    const EVP_MD *md = EVP_get_digestbynid(digest);
    if (!md || (size_t)EVP_MD_get_size(md) > size || X509_digest(cert, md, ret, &len) != 1)
        return 0;
    return len;
}

size_t sp_tls_channel_binding(SSL *tls, const char *type, uint8_t *ret, size_t size)
{
    static const char label[] = "EXPORTER-Channel-Binding"; /* RFC 9266 2 */
    sp_assert(size >= 64);
    size_t len = 0;
    if (!SSL_is_init_finished(tls))
        return 0;
    ERR_clear_error();
    if (strcmp(type, "tls-server-end-point") == 0)
        len = server_end_point(tls, ret, size);
    else if (strcmp(type, "tls-exporter") == 0 &&
             (SSL_version(tls) >= TLS1_3_VERSION || SSL_get_extms_support(tls) == 1) &&
             SSL_export_keying_material(tls, ret, 32, label, sizeof label - 1,
                                        (const unsigned char *)"", 0, 1) == 1)
        len = 32;
    ERR_clear_error();
    return len;
}

void sp_tls_shutdown(SSL *tls)
{
    if (SSL_is_init_finished(tls) && !(SSL_get_shutdown(tls) & SSL_SENT_SHUTDOWN)) {
        ERR_clear_error();
        (void)SSL_shutdown(tls);
        ERR_clear_error();
    }
}
