/* Bringing back what was expunged, and having it held no longer.
 *
 * Expunged messages stay in the log, and the index knows them, until compaction drops them: not
 * before `hold` has passed (store/compact.h). Undelete gives such a message a new MESSAGE record
 * with a new UID over the same bodies. An erasure is a record that ends the hold at once.
 *
 * Threads: any; both wait for their commits.
 */
#ifndef SP_MAIL_UNDELETE_H
#define SP_MAIL_UNDELETE_H

#include "store/volume.h"

struct sp_undelete {
    struct sp_uuid account;
    struct sp_slice mailbox; /* its name; empty: every one */
    uint64_t since_ns;       /* only what was expunged at this time or later */
};
struct sp_undelete_outcome {
    uint64_t messages;    /* brought back */
    uint64_t passed_over; /* the account has another copy: it was moved, or brought back before */
    uint64_t gone;        /* past its hold: the body is no longer there */
    uint32_t mailboxes;   /* made again */
};
/* What was brought back before it failed stays. SP_NOT_FOUND: no such account. */
enum sp_status sp_mail_undelete(struct sp_volume *volume, const struct sp_undelete *undelete,
                                struct sp_undelete_outcome *ret_outcome,
                                struct sp_error *error) SP_MUST_USE;

#define SP_ERASE_MAILBOXES_MAX 64U
struct sp_erasure {
    struct sp_uuid account;
    bool removed;             /* the account is one that was removed */
    struct sp_slice mailbox;  /* its name, now or when it was deleted; empty: every one */
    struct sp_span_list uids; /* of that mailbox: those that are there are expunged first; none:
                                 everything that has been expunged */
    uint32_t
        numbers[SP_ERASE_MAILBOXES_MAX]; /* the mailboxes that had the name when it was asked */
    uint32_t numbers_count;              /* 0: those that have it now */
    struct sp_slice who, why;
};
/* Fills in the numbers of what its name means now. Errors as below; SP_LIMIT: they are too many. */
enum sp_status sp_mail_erase_number(struct sp_volume *volume, struct sp_erasure *erasure,
                                    struct sp_error *error) SP_MUST_USE;
/* What an erasure would expunge, that is, messages with its UIDs that are still there. Errors as
 * below.
 */
enum sp_status sp_mail_erase_look(struct sp_volume *volume, const struct sp_erasure *erasure,
                                  uint64_t *ret_present, struct sp_error *error) SP_MUST_USE;
/* ret_expunged: messages that were still there. Asks for a compaction. SP_NOT_FOUND: no such
 * account or mailbox; SP_EXISTS: the account has not been removed. */
enum sp_status sp_mail_erase(struct sp_volume *volume, const struct sp_erasure *erasure,
                             uint64_t *ret_expunged, struct sp_error *error) SP_MUST_USE;

#endif
