/* What is missing, and whose it is: the records of the log in order, in; an account of losses, out.
 *
 * LSNs are dense, so a leap is a loss, but for the leap that a GAP record makes on purpose. Each
 * chain's records name their predecessor, so a loss shows at the next record of the chain that it
 * hit. Catalogues name the UIDs that a mailbox holds; between two of them, UIDs that were passed
 * over where the chain is broken are lost messages, unless it turns out later that they had been
 * expunged.
 */
#ifndef SP_RECOVER_LOSSES_H
#define SP_RECOVER_LOSSES_H

#include "format/segment.h"
#include "recover/recover.h"
#include "format/spans.h"

struct sp_chain {
    struct sp_uuid account;
    uint32_t mailbox;
    uint32_t breaks; /* not closed by an UNPROTECT */
    uint64_t last_lsn;
    bool made, removed;
    uint32_t uidnext;
    struct sp_spans have, missing; /* UIDs */
    char *address, *path;
    uint32_t next; /* in its bucket: index + 1 */
};

struct sp_losses {
    struct sp_chain *chains;
    uint32_t chains_count, chains_capacity;
    uint32_t *buckets;
    uint32_t buckets_count;
    struct sp_spans missing;  /* LSNs */
    struct sp_spans declared; /* by GAP records before */
    struct sp_spans merged;   /* GAPs behind which all of the other history was merged */
    uint64_t next_lsn;        /* expected */
    uint64_t last_lsn;        /* seen */
    uint64_t last_time_ns;
    uint64_t tails_lsn; /* where the TAILS began that are being read; 0: none, or not whole */
    uint64_t said_lsn;  /* where the last whole TAILS began: losses before it all show */
    struct sp_recover_report *report;
    struct sp_arena arena;
    bool failed; /* out of memory */
};

bool sp_losses_init(struct sp_losses *losses, struct sp_recover_report *report);
void sp_losses_release(struct sp_losses *losses);
/* A segment begins; head: NULL when it is lost. */
void sp_losses_segment(struct sp_losses *losses, const struct sp_segment_head *head);
/* Records of the log in order. false: this one is not later than those before it, and does not
 * count. */
bool sp_losses_record(struct sp_losses *losses, const struct sp_record *record);
/* LSNs that a lost end of the log is known to have had, up to `lsn`. */
void sp_losses_up_to(struct sp_losses *losses, uint64_t lsn);
/* Puts the outcome into the report. */
bool sp_losses_finish(struct sp_losses *losses);
/* The last surviving LSN of a chain; 0. */
uint64_t sp_losses_tail(const struct sp_losses *losses, const struct sp_uuid *account,
                        uint32_t mailbox);

#endif
