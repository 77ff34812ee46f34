/* Mailboxes and their names.
 *
 * A path has levels divided by '/'. Parents of a new mailbox are made with it; a mailbox that is
 * deleted leaves its children. INBOX is always in capitals, cannot be deleted, and renaming it
 * moves its messages (RFC 3501, 6.3.5).
 */
#ifndef SP_MAIL_MAILBOX_H
#define SP_MAIL_MAILBOX_H

#include "mail/internal.h"

/* At most SP_MAILBOX_LEVELS_MAX non-empty UTF-8 levels without control characters, not longer than
 * SP_MAILBOX_NAME_MAX. */
bool sp_mailbox_path_ok(struct sp_slice path);
/* The mailbox that messages are to go to: sp_op_named_mailbox, but SP_INVALID, not SP_NOT_FOUND,
 * for a name that none can have. */
enum sp_status sp_op_target_mailbox(struct sp_op *op, struct sp_read *read, struct sp_slice path,
                                    uint32_t need, struct sp_mailbox *ret_mailbox) SP_MUST_USE;
/* What is told of a mailbox to who has these rights to it; the name is copied to the arena. False:
 * no memory. */
bool sp_mailbox_describe(const struct sp_mailbox *mailbox, uint32_t rights, struct sp_arena *arena,
                         struct sp_mailbox_info *ret_info);
/* reply->mailboxes becomes this one. */
enum sp_status sp_op_describe(struct sp_op *op, struct sp_read *read,
                              const struct sp_mailbox *mailbox) SP_MUST_USE;
/* reply->keywords becomes the mailbox's. */
enum sp_status sp_op_describe_keywords(struct sp_op *op,
                                       const struct sp_mailbox *mailbox) SP_MUST_USE;

/* In a plan: makes the mailbox and its missing parents. SP_EXISTS, SP_LIMIT, SP_UNAVAILABLE (the
 * account's list has a gap); after SP_OK *ret_mailbox is kept. path must not lie in the index. */
enum sp_status sp_plan_create_path(struct sp_plan *plan, const struct sp_uuid *account,
                                   struct sp_slice path, uint32_t special_use,
                                   struct sp_mailbox *ret_mailbox) SP_MUST_USE;

#endif
