/* SCRAM: messages taken apart (RFC 5802 7). */
#include "proto/sasl.h"

#include <sodium.h>
#include <stdlib.h>

void sp_sasl_encode(struct sp_slice message, struct sp_buf *buf)
{
    size_t room = sodium_base64_ENCODED_LEN(message.len, sodium_base64_VARIANT_ORIGINAL);
    if (!sp_buf_reserve(buf, room))
        return;
    sodium_bin2base64((char *)buf->ptr + buf->len, room, message.ptr, message.len,
                      sodium_base64_VARIANT_ORIGINAL);
    buf->len += room - 1; /* without the NUL */
}

/* ---- Its life ---- */

static size_t bind_to(const struct sp_session_peer *peer, const char *type,
                      uint8_t ret[SP_CHANNEL_BYTES])
{
    return peer->channel_binding ? peer->channel_binding(peer->channel, type, ret) : 0;
}

bool sp_scram_can_bind(const struct sp_session_peer *peer)
{
    uint8_t bytes[SP_CHANNEL_BYTES];
    bool can = bind_to(peer, "tls-exporter", bytes) || bind_to(peer, "tls-server-end-point", bytes);
    sodium_memzero(bytes, sizeof bytes);
    return can;
}

bool sp_scram_begin(struct sp_slice mechanism, const struct sp_session_peer *peer,
                    struct sp_scram **ret)
{
    bool plus = sp_slice_eq_nocase(mechanism, SP_S("SCRAM-SHA-256-PLUS"));
    if (!sp_slice_eq_nocase(mechanism, SP_S("SCRAM-SHA-256")) && !(plus && sp_scram_can_bind(peer)))
        return false;
    *ret = calloc(1, sizeof **ret);
    if (*ret)
        (*ret)->plus = plus;
    return true;
}

void sp_scram_free(struct sp_scram *scram)
{
    if (scram)
        sodium_memzero(scram, sizeof *scram);
    free(scram);
}

/* ---- Messages ---- */

static bool decode(struct sp_slice base64, uint8_t to[SP_SCRAM_BYTES], struct sp_slice *ret)
{
    size_t len = 0;
    if (sodium_base642bin(to, SP_SCRAM_BYTES, (const char *)base64.ptr, base64.len, NULL, &len,
                          NULL, sodium_base64_VARIANT_ORIGINAL) != 0)
        return false;
    *ret = sp_slice(to, len);
    return sp_slice_find(*ret, 0) == SIZE_MAX;
}

/* Takes "name=value" up to a comma, or to the end. */
static bool take(struct sp_slice *rest, char name, struct sp_slice *ret_value)
{
    if (rest->len < 2 || rest->ptr[0] != (uint8_t)name || rest->ptr[1] != '=')
        return false;
    size_t comma = sp_slice_find(*rest, ',');
    *ret_value = sp_slice_sub(*rest, 2, comma < rest->len ? comma : rest->len);
    *rest = sp_slice_from(*rest, comma < rest->len ? comma + 1 : rest->len);
    return true;
}

/* saslname: "=2C" is a comma, "=3D" an equals sign. */
static bool take_name(struct sp_scram *scram, struct sp_slice text)
{
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c == '=') {
            struct sp_slice code = sp_slice_sub(text, i, i + 3 < text.len ? i + 3 : text.len);
            if (!sp_slice_eq(code, SP_S("=2C")) && !sp_slice_eq(code, SP_S("=3D")))
                return false;
            c = code.ptr[1] == '2' ? ',' : '=';
            i += 2;
        }
        if (len == sizeof scram->user_bytes)
            return false;
        scram->user_bytes[len++] = c;
    }
    scram->user = sp_slice(scram->user_bytes, len);
    return len > 0;
}

static bool is_nonce(struct sp_slice nonce)
{
    for (size_t i = 0; i < nonce.len; i++)
        if (nonce.ptr[i] <= ' ' || nonce.ptr[i] > '~')
            return false;
    return nonce.len > 0;
}

/* gs2-cbind-flag: 'n', 'y' or "p=TYPE". */
static enum sp_status check_flag(struct sp_scram *scram, struct sp_slice flag,
                                 const struct sp_session_peer *peer)
{
    uint8_t bytes[SP_CHANNEL_BYTES];
    struct sp_slice type;
    if (sp_slice_eq(flag, SP_S("n")))
        return scram->plus ? SP_INVALID : SP_OK;
    if (sp_slice_eq(flag, SP_S("y"))) {
        if (scram->plus)
            return SP_INVALID;
        return sp_scram_can_bind(peer) ? SP_DENIED : SP_OK;
    }
    if (!take(&flag, 'p', &type) || !scram->plus || type.len >= sizeof scram->binding)
        return SP_INVALID;
    memcpy(scram->binding, type.ptr, type.len);
    size_t len = bind_to(peer, scram->binding, bytes);
    sodium_memzero(bytes, sizeof bytes);
    return len ? SP_OK : SP_DENIED;
}

enum sp_status sp_scram_first(struct sp_scram *scram, struct sp_slice base64,
                              const struct sp_session_peer *peer)
{
    struct sp_slice whole, rest, name, authzid = {0};
    if (!decode(base64, scram->first_bytes, &whole))
        return SP_INVALID;
    size_t first = sp_slice_find(whole, ',');
    rest = sp_slice_from(whole, first == SIZE_MAX ? whole.len : first + 1);
    size_t second = sp_slice_find(rest, ',');
    if (first == SIZE_MAX || second == SIZE_MAX)
        return SP_INVALID;
    enum sp_status status = check_flag(scram, sp_slice_sub(whole, 0, first), peer);
    if (status)
        return status;
    struct sp_slice for_whom = sp_slice_sub(rest, 0, second);
    if (for_whom.len && (!take(&for_whom, 'a', &authzid) || !authzid.len))
        return SP_INVALID;
    scram->gs2 = sp_slice_sub(whole, 0, first + 1 + second + 1);
    scram->bare = rest = sp_slice_from(whole, first + 1 + second + 1);
    if (!take(&rest, 'n', &name) || !take(&rest, 'r', &scram->nonce) || !is_nonce(scram->nonce) ||
        !take_name(scram, name))
        return SP_INVALID; /* "m=", what is mandatory and not known, among them */
    scram->step = SP_SCRAM_FINAL;
    return authzid.len && !sp_slice_eq(authzid, name) ? SP_UNSUPPORTED : SP_OK;
}

bool sp_scram_challenge(struct sp_scram *scram, struct sp_slice message)
{
    struct sp_slice nonce;
    if (!take(&message, 'r', &nonce) || nonce.len > sizeof scram->nonce_bytes)
        return false;
    memcpy(scram->nonce_bytes, nonce.ptr, nonce.len);
    scram->nonce = sp_slice(scram->nonce_bytes, nonce.len);
    return true;
}

/* c= is the GS2 header and the data, as we know them. */
static bool is_bound(const struct sp_scram *scram, struct sp_slice base64,
                     const struct sp_session_peer *peer)
{
    uint8_t said[SP_SCRAM_BYTES], bytes[SP_CHANNEL_BYTES];
    size_t said_len = 0, len = scram->plus ? bind_to(peer, scram->binding, bytes) : 0;
    bool right = sodium_base642bin(said, sizeof said, (const char *)base64.ptr, base64.len, NULL,
                                   &said_len, NULL, sodium_base64_VARIANT_ORIGINAL) == 0 &&
                 (len || !scram->plus) && said_len == scram->gs2.len + len &&
                 memcmp(said, scram->gs2.ptr, scram->gs2.len) == 0 &&
                 (!len || sodium_memcmp(said + scram->gs2.len, bytes, len) == 0);
    sodium_memzero(said, sizeof said);
    sodium_memzero(bytes, sizeof bytes);
    return right;
}

enum sp_status sp_scram_final(struct sp_scram *scram, struct sp_slice base64,
                              const struct sp_session_peer *peer)
{
    struct sp_slice whole, rest, binding, nonce, proof = {0};
    size_t len = 0;
    if (!decode(base64, scram->last_bytes, &whole))
        return SP_INVALID;
    rest = whole;
    if (!take(&rest, 'c', &binding) || !take(&rest, 'r', &nonce))
        return SP_INVALID;
    while (rest.len && rest.ptr[0] != 'p') { /* extensions, none of which is known */
        struct sp_slice ignored;
        if (!take(&rest, (char)rest.ptr[0], &ignored))
            return SP_INVALID;
    }
    scram->last = sp_slice_sub(whole, 0, (size_t)(rest.ptr - whole.ptr));
    if (scram->last.len)
        scram->last.len--; /* the comma before the proof */
    if (!take(&rest, 'p', &proof) || rest.len ||
        sodium_base642bin(scram->proof, sizeof scram->proof, (const char *)proof.ptr, proof.len,
                          NULL, &len, NULL, sodium_base64_VARIANT_ORIGINAL) != 0 ||
        len != sizeof scram->proof)
        return SP_INVALID;
    scram->step = SP_SCRAM_END;
    return sp_slice_eq(nonce, scram->nonce) && is_bound(scram, binding, peer) ? SP_OK : SP_DENIED;
}

static bool copy(struct sp_request *request, struct sp_slice from, struct sp_slice *to)
{
    *to = sp_arena_copy(&request->arena, from);
    return !from.len || to->ptr;
}

bool sp_scram_fill(const struct sp_scram *scram, struct sp_request *request)
{
    request->authenticate.is_scram = true;
    memcpy(request->authenticate.scram.proof, scram->proof, sizeof scram->proof);
    return copy(request, scram->user, &request->authenticate.user) &&
           copy(request, scram->bare, &request->authenticate.scram.first) &&
           copy(request, scram->nonce, &request->authenticate.scram.nonce) &&
           copy(request, scram->last, &request->authenticate.scram.final);
}
