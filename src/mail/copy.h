/* Messages of one mailbox given to another: they share the bodies. For COPY, MOVE, and RENAME of
 * INBOX. */
#ifndef SP_MAIL_COPY_H
#define SP_MAIL_COPY_H

#include "mail/plan.h"

struct sp_copy {
    struct sp_uid_ranges ranges;
    bool move;
    uint64_t denied; /* flags that may not be set in the target */
    /* Found by sp_copy_collect, in the plan's arena. */
    struct sp_flag_row *rows;
    uint32_t count, capacity;
};
/* What lies within the ranges, checked to be readable. source is kept. SP_LIMIT: more than
 * SP_PLAN_MESSAGES_MAX. */
enum sp_status sp_copy_collect(struct sp_plan *plan, struct sp_op *op,
                               const struct sp_mailbox *source, struct sp_copy *copy) SP_MUST_USE;
/* Whether the target takes them: SP_LIMIT (UIDs). target is kept. */
enum sp_status sp_copy_check(struct sp_op *op, const struct sp_mailbox *target,
                             const struct sp_copy *copy) SP_MUST_USE;
/* Emits, and fills the reply's uidvalidity, ranges, new_ranges and modseq. A keyword that the
 * target has no room for is left out. Both mailboxes are kept. */
enum sp_status sp_copy_emit(struct sp_plan *plan, struct sp_op *op, const struct sp_mailbox *source,
                            const struct sp_mailbox *target,
                            const struct sp_copy *copy) SP_MUST_USE;

#endif
