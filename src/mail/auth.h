/* AUTHENTICATE: passwords against Argon2id.
 *
 * Model. A hash takes 64 MiB and tens of milliseconds, so a few threads of their own do nothing
 * else, and only so many logins may wait for them (beyond: SP_UNAVAILABLE, at once); of one peer no
 * more than SP_AUTH_PER_PEER wait or are at work, so that who guesses does not lock out others. A
 * password
 * that was right is remembered for an hour: not it, but a BLAKE2b of account, credential and
 * password, keyed with a secret of this process. Since the credential is in the key, a changed
 * password forgets the old one by itself. An unknown user costs a hash too, so that time does not
 * tell who exists.
 */
#ifndef SP_MAIL_AUTH_H
#define SP_MAIL_AUTH_H

#include "mail/mail.h"

struct sp_auth;

#define SP_AUTH_PER_PEER      4U
#define SP_AUTH_REMEMBER_MS   3600000U
#define SP_AUTH_REMEMBER_SETS 16384U /* of 4 entries each */

enum sp_status sp_auth_new(const struct sp_mail_config *config,
                           struct sp_auth **ret_auth) SP_MUST_USE;
/* Answers what waits with SP_SHUTDOWN. */
void sp_auth_free(struct sp_auth *auth);

/* The credential of the user whom the request names, in the operation's arena, and whose it is;
 * empty: there is no such user, or the account has none. SP_UNAVAILABLE: it may be among those that
 * a gap hides. */
struct sp_op;
enum sp_status sp_auth_credential(struct sp_op *op, struct sp_uuid *ret_account,
                                  struct sp_slice *ret_credential) SP_MUST_USE;

#endif
