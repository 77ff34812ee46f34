/* SASL mechanisms as the protocols share them: what a client's response says. Pure.
 *
 * SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677), the session's part: messages are taken
 * apart here, keys stay in mail (mail/scram.h). The exchange:
 *
 *     client-first    sp_scram_first, then SP_REQ_SCRAM, whose reply goes to sp_scram_challenge
 *     client-final    sp_scram_final, then SP_REQ_AUTHENTICATE, whose reply is the outcome
 *     (empty)         the client has seen the outcome
 */
#ifndef SP_PROTO_SASL_H
#define SP_PROTO_SASL_H

#include "base/buf.h"
#include "proto/session.h"

#define SP_SASL_PLAIN_BYTES 2048U /* of a decoded response */

/* PLAIN (RFC 4616): [authzid] NUL authcid NUL password, in base64. */
struct sp_sasl_plain {
    struct sp_slice user, password; /* in bytes */
    uint8_t bytes[SP_SASL_PLAIN_BYTES];
};

/* SP_INVALID: malformed, or too long; SP_UNSUPPORTED: it is to act for somebody else, which is not
 * offered. Whatever is returned, wipe it afterwards. */
enum sp_status sp_sasl_plain_read(struct sp_slice base64, struct sp_sasl_plain *ret) SP_MUST_USE;
void sp_sasl_plain_wipe(struct sp_sasl_plain *plain);

#define SP_SCRAM_BYTES 1024U /* of a client's message, decoded */

enum sp_scram_step { SP_SCRAM_FIRST, SP_SCRAM_FINAL, SP_SCRAM_END }; /* what is due */

struct sp_scram {
    enum sp_scram_step step;
    struct sp_uuid account; /* the session's: who has proved to be it, at the end */
    bool plus;
    struct sp_slice gs2;   /* with its last comma */
    struct sp_slice bare;  /* client-first-message-bare */
    struct sp_slice nonce; /* the client's; after sp_scram_challenge all of it */
    struct sp_slice user;
    char binding[32];     /* its type; empty: none */
    struct sp_slice last; /* client-final-message-without-proof */
    uint8_t proof[32];
    uint8_t first_bytes[SP_SCRAM_BYTES], user_bytes[SP_ADDRESS_MAX], last_bytes[SP_SCRAM_BYTES];
    uint8_t nonce_bytes[2U * SP_SCRAM_BYTES];
};

/* Whether binding to this connection may be offered: SCRAM-SHA-256-PLUS. */
bool sp_scram_can_bind(const struct sp_session_peer *peer);
/* NULL: this is not the name of one of the two. Otherwise its state, zeroed: NULL in *ret if there
 * is no memory. */
bool sp_scram_begin(struct sp_slice mechanism, const struct sp_session_peer *peer,
                    struct sp_scram **ret);
/* Wipes and frees; NULL is fine. */
void sp_scram_free(struct sp_scram *scram);
/* Both read a response in base64. SP_INVALID: malformed, or another message than is due;
 * SP_UNSUPPORTED: somebody else is to be acted for; SP_DENIED: the binding is not to this
 * connection, or somebody in between has taken -PLUS off what we offer (RFC 5802 6). */
enum sp_status sp_scram_first(struct sp_scram *scram, struct sp_slice base64,
                              const struct sp_session_peer *peer) SP_MUST_USE;
enum sp_status sp_scram_final(struct sp_scram *scram, struct sp_slice base64,
                              const struct sp_session_peer *peer) SP_MUST_USE;
/* Fills SP_REQ_SCRAM, or SP_REQ_AUTHENTICATE. False: no memory. */
bool sp_scram_fill(const struct sp_scram *scram, struct sp_request *request) SP_MUST_USE;
/* Takes the nonce of the server-first-message. False: it has none. */
bool sp_scram_challenge(struct sp_scram *scram, struct sp_slice message) SP_MUST_USE;
/* What goes to the client, in base64. */
void sp_sasl_encode(struct sp_slice message, struct sp_buf *buf);

#endif
