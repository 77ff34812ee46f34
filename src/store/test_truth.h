/* A reader of the log that keeps its own account of one account's mailboxes, and holds against it
 * what the log says of itself: LSNs are dense and chains unbroken, catalogues and tails are true
 * where they stand. For tests of the store. */
#ifndef SP_STORE_TEST_TRUTH_H
#define SP_STORE_TEST_TRUTH_H

#include "store/test_model.h"

#define TRUTH_MAILBOXES (MODEL_MAILBOXES + 1U)

struct truth {
    uint64_t lsn, batch, manifest_base, manifest_base_segment, time_ns;
    uint64_t tails[TRUTH_MAILBOXES], account_tail, volume_tail;
    bool present[TRUTH_MAILBOXES][MODEL_UIDS];
    bool said[TRUTH_MAILBOXES][MODEL_UIDS];
    uint32_t uidnext[TRUTH_MAILBOXES];
};

/* The next record, which stands in this segment. The arena is emptied by the caller. */
void truth_record(struct truth *r, const struct sp_record *record, uint64_t segment,
                  struct sp_arena *arena);

#endif
