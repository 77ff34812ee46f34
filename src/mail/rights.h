/* Who may do what with a mailbox (RFC 4314), and what mailboxes of others are called.
 *
 * Model. The owner of a mailbox has every right to it, always, `a` included: nobody can be locked
 * out of their own mail, and what a thief of a password gave away can be taken back. Anybody else
 * has what the entries of the mailbox give to the account and to `anyone`, less what its negative
 * entries take from either (section 2). Entries name accounts by id, not by address: an account
 * that is made anew under an old address inherits nothing.
 *
 * Rights are checked where the request is carried out: in a plan, against the transaction that its
 * records are applied to, so that what counts are the rights at that moment.
 *
 * While the list of an owner is protected (DESIGN 6) a record that withdrew a right may be among
 * what is missing: others are answered SP_UNAVAILABLE, so that nobody reads what they may not, and
 * no client takes the mailbox for deleted.
 */
#ifndef SP_MAIL_RIGHTS_H
#define SP_MAIL_RIGHTS_H

#include "mail/plan.h"

/* What actor may do with the mailbox. SP_UNAVAILABLE as above. */
enum sp_status sp_rights_of(struct sp_read *read, const struct sp_uuid *owner, uint32_t mailbox,
                            const struct sp_uuid *actor, uint32_t *ret_rights) SP_MUST_USE;
/* Flags that may not be changed, as bits of a mailbox. */
uint64_t sp_rights_denied_flags(uint32_t rights);

/* Where a name leads: the account, and the path in it. */
struct sp_name {
    struct sp_uuid account;
    struct sp_slice path; /* within the name */
    bool other;           /* another account's */
};
/* SP_NOT_FOUND: below "Other Users", and there is no such account; SP_UNAVAILABLE: it may be among
 * those that a gap hides. */
enum sp_status sp_op_locate(struct sp_op *op, struct sp_read *read, struct sp_slice name,
                            struct sp_name *ret_name) SP_MUST_USE;
/* "Other Users", or below it. */
bool sp_is_other_users(struct sp_slice path);
/* The account with this address, in any case, and no other: SP_NOT_FOUND, SP_UNAVAILABLE. */
enum sp_status sp_account_exact(struct sp_read *read, struct sp_slice address,
                                struct sp_uuid *ret_id) SP_MUST_USE;

/* Whether actor may make a mailbox at path in another account: `k` on the nearest level above that
 * is there. SP_DENIED, SP_NOT_FOUND. */
enum sp_status sp_op_may_create(struct sp_op *op, struct sp_read *read,
                                const struct sp_name *name) SP_MUST_USE;
/* In a plan, after a mailbox was made: it gets the entries of the level above. */
enum sp_status sp_plan_inherit_acl(struct sp_plan *plan,
                                   const struct sp_mailbox *mailbox) SP_MUST_USE;
/* One entry. */
enum sp_status sp_plan_emit_acl(struct sp_plan *plan, const struct sp_uuid *owner,
                                const struct sp_acl_record *acl) SP_MUST_USE;

/* Where mail for user+path@domain goes: the mailbox of that path, exactly, if anyone may post to it
 * (`p`). SP_NOT_FOUND: to the INBOX. */
enum sp_status sp_post_mailbox(struct sp_read *read, const struct sp_uuid *account,
                               struct sp_slice address, struct sp_mailbox *ret) SP_MUST_USE;

/* LIST: calls back with each mailbox of others that actor may look up, under its whole name (in the
 * arena). *ret_unavailable: there may be more. */
enum sp_status
sp_shared_each(struct sp_read *read, const struct sp_uuid *actor, struct sp_arena *arena,
               enum sp_status (*each)(void *context, const struct sp_mailbox *mailbox,
                                      struct sp_slice name, uint32_t rights),
               void *context, bool *ret_unavailable) SP_MUST_USE;

#endif
