/* SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side of it: the keys, and what they prove.
 *
 * Model. A session parses what the client says, and asks twice. SP_REQ_SCRAM gives it the
 * server-first-message: the nonce, and the salt and iterations of the user's credential.
 * SP_REQ_AUTHENTICATE then verifies the proof against StoredKey, and gives the signature by
 * ServerKey; neither key leaves this layer. Nothing is kept in between: the server's part of the
 * nonce carries a BLAKE2b of session, user and client-first-message, keyed with a secret of this
 * process, so that a proof counts in the connection it was made for alone.
 *
 * A user that is not there gets a salt that is derived from the volume's UUID, which nobody outside
 * is told: always the same, and the first message does not tell who exists (RFC 5802, 9).
 */
#ifndef SP_MAIL_SCRAM_H
#define SP_MAIL_SCRAM_H

#include "format/payload.h"

struct sp_op;

/* SP_OK; SP_DENIED: the proof is not one by the credential's password. ret_signature: the server's,
 * set if OK. */
enum sp_status sp_scram_check(const struct sp_credential *credential, struct sp_slice auth_message,
                              const uint8_t proof[32], uint8_t ret_signature[32]) SP_MUST_USE;
/* AUTHENTICATE by a proof: fills the reply; SP_DENIED, SP_UNAVAILABLE, SP_NO_MEMORY, ... */
enum sp_status sp_scram_verify(struct sp_op *op) SP_MUST_USE;

#endif
