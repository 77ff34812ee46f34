/* Merging back a history that was left behind (accept_loss.c): what its parts share.
 *
 *   left.c          which of its segments are here, whether it is whole, its blocks, verified
 *   merge.c         going through its records, a slice in each batch; taking its units back
 *   merge_record.c  what each record comes to here
 *
 * Model. A unit with such a history is *foreign*: it is read, and neither votes nor is written to.
 * All its records after the place where the histories part are gone through in order, and what
 * follows from each is emitted anew: new LSN, new MODSEQ. A batch says how far it has come in a
 * MERGE record of its own, so nothing is merged twice and nothing is passed over, however often it
 * is cut off. When all is merged, and by the votes of the other history there is no more of it,
 * the last MERGE ends the protection, and the units are taken back as spares.
 *
 * All of it runs on the committer's thread.
 */
#ifndef SP_STORE_MERGE_H
#define SP_STORE_MERGE_H

#include "store/volume_internal.h"

/* ---- left.c ---- */

struct sp_left_segment {
    struct sp_volume_segment place; /* of its data blocks data_blocks count; UINT32_MAX: up to its
                                       sound end */
    uint32_t epoch_counter;
};
struct sp_left_history {
    struct sp_left left;              /* the first place after the parting at which ours leaps */
    uint64_t parting_lsn;             /* up to it the two are one */
    uint64_t branch;                  /* the epoch in which this one goes on */
    struct sp_left_segment *segments; /* ascending, from the one in which the histories part */
    uint32_t count;
    struct sp_segment_head tip;  /* its newest epoch that anybody here knows of */
    struct sp_segment_head main; /* its newest epoch before a loss was accepted in it too */
    bool whole;                  /* there is none after the tip, and a replica of it is here */
    bool complete;               /* there is none after `main`: it has all that ours lacks */
};
/* The history of the foreign unit that knows of the newest epoch; other units may have of it too.
 * SP_NOT_FOUND: it parts from ours nowhere; SP_UNAVAILABLE: a segment of it is on none of them. */
enum sp_status sp_left_trace(struct sp_volume *v, struct sp_left_history *ret_history,
                             struct sp_error *error) SP_MUST_USE;
void sp_left_release(struct sp_left_history *history);
/* The data blocks that count, malloc'ed. SP_CORRUPT: some are sound on none of the units. */
enum sp_status sp_left_read(struct sp_volume *v, struct sp_left_segment *segment,
                            uint8_t **ret_blocks, struct sp_error *error) SP_MUST_USE;
/* The payload of a record that lies there; buf is emptied first. */
enum sp_status sp_left_payload(struct sp_volume *v, const struct sp_left_segment *segment,
                               uint32_t block, uint16_t offset, struct sp_buf *buf) SP_MUST_USE;

/* ---- merge.c ---- */

struct sp_merge_body {
    uint64_t lsn, new_lsn;   /* there, and here; 0: not copied yet */
    uint32_t segment, block; /* of the history */
    uint16_t offset;
};
struct sp_merge_uid { /* a message that could not keep its UID */
    struct sp_uuid account;
    uint32_t old_mailbox, old_uid, mailbox, uid;
};
struct sp_merge_credential { /* the last one that was seen there */
    struct sp_uuid account;
    struct sp_digest digest;
};

struct sp_merge {
    struct sp_commit commit; /* first: the two are cast */
    struct sp_volume *volume;
    struct sp_left_history history;
    struct sp_fork from; /* how far it had come when this was begun */
    uint32_t at;         /* segment */
    uint8_t *blocks;     /* NULL: it is to be read */
    struct sp_walker walker;
    struct sp_record record; /* the next; valid while have */
    struct sp_place place;
    bool have;
    bool complete;                /* by the index, the GAP is */
    bool busy, failed;            /* the commit is under way; the last one failed */
    bool ended;                   /* everything is durable */
    struct sp_merge_body *bodies; /* by LSN */
    size_t bodies_count, bodies_capacity;
    struct sp_merge_uid *uids;
    size_t uids_count, uids_capacity;
    struct sp_uuid *scanned; /* accounts whose uids from before are known again */
    size_t scanned_count, scanned_capacity;
    struct sp_merge_credential *credentials;
    size_t credentials_count, credentials_capacity;
    struct sp_buf body; /* scratch */
    uint64_t emitted;   /* bytes, in this plan */
    uint64_t records;   /* gone through in this plan */
    uint64_t messages, conflicts, conflicts_told;
};

/* ---- merge_record.c ---- */

/* Emits what the record comes to. *ret_again: only a part of it (bodies); call it again in the next
 * batch. An error is one of the index or of memory. */
enum sp_status sp_merge_apply(struct sp_merge *merge, struct sp_plan *plan,
                              const struct sp_record *record, bool *ret_again) SP_MUST_USE;
/* Takes note of a record that was merged before. */
enum sp_status sp_merge_pass(struct sp_merge *merge, const struct sp_record *record) SP_MUST_USE;

#endif
