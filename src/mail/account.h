/* Accounts: addresses, credentials, and the commands that manage them.
 *
 * An address is kept in lower case, both parts; a local part that differs only by case is the same
 * person. A credential holds the Argon2id string and, made from the same password, the keys of
 * SCRAM-SHA-256, so that the password itself is never needed again.
 *
 * The functions for commands commit and wait: not from a plan, a callback or an event loop.
 */
#ifndef SP_MAIL_ACCOUNT_H
#define SP_MAIL_ACCOUNT_H

#include "store/volume.h"

#define SP_PASSWORD_MAX 1024U
#define SP_SCRAM_ITERATIONS                                                                        \
    4096U /* RFC 7677, 4: the least; its keys are as guarded as the Argon2id string */

/* Makes the account with INBOX, Drafts, Sent, Trash, Junk and Archive, all subscribed; its domain
 * becomes one of ours. SP_EXISTS, SP_INVALID (address, password), SP_UNAVAILABLE, SP_NO_SPACE ...
 */
enum sp_status sp_account_add(struct sp_volume *volume, struct sp_slice address,
                              struct sp_slice password, struct sp_uuid *ret_id,
                              struct sp_error *error) SP_MUST_USE;
/* SP_NOT_FOUND. */
enum sp_status sp_account_set_password(struct sp_volume *volume, struct sp_slice address,
                                       struct sp_slice password,
                                       struct sp_error *error) SP_MUST_USE;
/* Removes the account with all that is in it; asking whether that is meant is the caller's.
 * SP_NOT_FOUND. */
enum sp_status sp_account_remove(struct sp_volume *volume, struct sp_slice address,
                                 struct sp_error *error) SP_MUST_USE;

struct sp_account_summary {
    struct sp_uuid id;
    struct sp_slice address; /* lives for the call */
    uint32_t mailboxes;
    uint64_t messages, bytes;
    bool protected_; /* its list of mailboxes has a gap */
    uint32_t mailboxes_protected;
};
/* Calls back for each account, in no order that means anything. */
enum sp_status sp_account_list(struct sp_volume *volume,
                               void (*each)(void *context,
                                            const struct sp_account_summary *summary),
                               void *context, struct sp_error *error) SP_MUST_USE;

/* Shows clients what there is of an account (of all accounts, and their list) although something
 * may be missing: they may delete their own copies of that. *ret_count: of mailboxes and lists that
 * were protected. */
enum sp_status sp_account_unprotect(struct sp_volume *volume, const struct sp_uuid *id,
                                    uint64_t *ret_count, struct sp_error *error) SP_MUST_USE;
enum sp_status sp_account_unprotect_all(struct sp_volume *volume, uint64_t *ret_count,
                                        struct sp_error *error) SP_MUST_USE;

/* Whose mail this address is, the form user+detail@domain included. address: any case.
 * SP_NOT_FOUND: nobody's; SP_DENIED: not our domain; SP_INVALID: no address; SP_UNAVAILABLE: the
 * list of accounts has a gap, and it may be in there. */
enum sp_status sp_account_resolve(struct sp_read *read, struct sp_slice address,
                                  struct sp_uuid *ret_id) SP_MUST_USE;
/* The same for mail that comes in: postmaster without an account is who the configuration says. */
struct sp_mail_config;
enum sp_status sp_recipient_resolve(const struct sp_mail_config *config, struct sp_read *read,
                                    struct sp_slice address, struct sp_uuid *ret_id) SP_MUST_USE;

/* The form of a password in which it is hashed and compared: by SASLprep (RFC 4013; RFC 4616 2,
 * RFC 5802 2.2), so that it does not matter how a client composes its letters. The same bytes when
 * it cannot be prepared: no UTF-8, a prohibited or unassigned character (there are many since
 * Unicode 3.2), nothing or more than SP_PASSWORD_MAX left. The result lies in to, or is password.
 */
struct sp_slice sp_password_prepare(struct sp_slice password, uint8_t to[SP_PASSWORD_MAX]);
/* A CREDENTIAL payload for a password, which is prepared first. Slow by intent. SP_NO_MEMORY. */
enum sp_status sp_credential_make(struct sp_slice password, struct sp_buf *buf) SP_MUST_USE;

#endif
