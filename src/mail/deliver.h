/* Messages put into mailboxes: DELIVER, APPEND, and the import command. */
#ifndef SP_MAIL_DELIVER_H
#define SP_MAIL_DELIVER_H

#include "mail/body.h"
#include "mail/plan.h"

/* One message for a mailbox. */
struct sp_arrival {
    struct sp_prepared prepared;
    const struct sp_flag_set *flags; /* NULL: none */
    struct sp_date date;
    bool has_date; /* otherwise: the time of the commit */
    enum sp_origin origin;
    struct sp_slice origin_id;
};
/* In a plan: whether the mailbox takes them. SP_LIMIT, SP_INVALID (keywords). */
enum sp_status sp_plan_check_arrivals(const struct sp_mailbox *mailbox,
                                      const struct sp_arrival *arrivals,
                                      uint32_t count) SP_MUST_USE;
/* Emits them; *ret_first is the first UID, the others follow. mailbox is kept. */
enum sp_status sp_plan_emit_arrivals(struct sp_plan *plan, const struct sp_mailbox *mailbox,
                                     const struct sp_arrival *arrivals, uint32_t count,
                                     uint32_t *ret_first) SP_MUST_USE;
void sp_arrivals_release(struct sp_arrival *arrivals, uint32_t count);

#endif
