/* SASL mechanisms as the protocols share them: what a client's response says. Pure. */
#ifndef SP_PROTO_SASL_H
#define SP_PROTO_SASL_H

#include "base/slice.h"

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

#endif
