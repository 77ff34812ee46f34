/* Messages put into mailboxes: DELIVER, APPEND, and the import command. */
#ifndef SP_MAIL_DELIVER_H
#define SP_MAIL_DELIVER_H

#include "mail/body.h"
#include "mail/plan.h"

/* Whether mail for this account can be stored now; *ret_create_inbox: its INBOX is to be made
 * first. SP_UNAVAILABLE: INBOX may be among what a gap hides, so the mail waits at its sender.
 * SP_NO_SPACE: INBOX has no UID left. */
enum sp_status sp_deliver_check(struct sp_read *read, const struct sp_uuid *account,
                                bool *ret_create_inbox) SP_MUST_USE;

/* One message for a mailbox. */
struct sp_arrival {
    struct sp_prepared prepared;
    const struct sp_flag_set *flags; /* NULL: none */
    struct sp_date date;
    bool has_date; /* otherwise: the time of the commit */
    enum sp_origin origin;
    struct sp_slice origin_id;
    uint64_t denied; /* flags that whoever brings it may not set: left out */
};
/* In a plan: whether the mailbox takes them. SP_LIMIT (UIDs), SP_INVALID (keywords). A keyword that
 * it has no room for is no reason: the message goes without it. */
enum sp_status sp_plan_check_arrivals(const struct sp_mailbox *mailbox,
                                      const struct sp_arrival *arrivals,
                                      uint32_t count) SP_MUST_USE;
/* Emits them; *ret_first is the first UID, the others follow. mailbox is kept. */
enum sp_status sp_plan_emit_arrivals(struct sp_plan *plan, const struct sp_mailbox *mailbox,
                                     const struct sp_arrival *arrivals, uint32_t count,
                                     uint32_t *ret_first) SP_MUST_USE;
void sp_arrivals_release(struct sp_arrival *arrivals, uint32_t count);

#endif
