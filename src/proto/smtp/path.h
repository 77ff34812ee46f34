/* The path of MAIL and RCPT (RFC 5321 4.1.2, RFC 6531 3.3): <user@example.org>. Pure.
 *
 * More generous than the grammar where real senders are: dots may stand anywhere in a local part,
 * underscores in a domain. A source route (<@a,@b:user@c>) is read and dropped, as RFC 5321 F.2
 * has it. "user"@c, quoted without need, becomes user@c, so that one mailbox has one name. */
#ifndef SP_PROTO_SMTP_PATH_H
#define SP_PROTO_SMTP_PATH_H

#include "mail/request.h"

struct sp_smtp_path {
    uint8_t bytes[SP_ADDRESS_MAX]; /* without brackets; none for <> */
    size_t len;
    size_t local_len; /* len when there is no domain */
    bool utf8;        /* holds octets above 127 */
};

/* Takes a path off *args; what follows it is empty or begins with a blank. SP_INVALID: malformed.
 * SP_LIMIT: more than SP_ADDRESS_MAX octets, or a label of more than 63. */
enum sp_status sp_smtp_path_take(struct sp_slice *args, struct sp_smtp_path *ret_path) SP_MUST_USE;
/* A domain or an address literal, as in a path, in ASCII. */
bool sp_smtp_is_domain(struct sp_slice text);

#endif
