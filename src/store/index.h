/* The index: what the log says now, for looking things up (LMDB). Derived and disposable:
 * `sternpost index rebuild` throws it away and makes it again.
 *
 * Model. One LMDB environment for a volume. The committer has the only write transaction: it
 * applies the records of a batch (store/apply.c, the one place that knows what a record means), and
 * commits after the log is synced, so a reader never sees what is not durable. The index always
 * stands at an exact position of the log, kept in it.
 *
 *   table       key                              value
 *   meta        "position"                       struct sp_position
 *   accounts    account                          struct sp_account_row, address, credential payload
 *   addresses   address (lower case)             account
 *   domains     name (lower case)                -
 *   mailboxes   account, mailbox                 struct sp_mailbox_row, path, keywords
 *   names       account, hash of path            mailbox
 *   subscribed  account, hash of path            path
 *   flags       account, mailbox, UID >> 6       greatest MODSEQ, then struct sp_flag_row,
 * ascending: 64 UIDs a row messages    account, mailbox, UID            LSN, time, MESSAGE payload
 *   bodies      LSN                              struct sp_body_row
 *   tombstones  account, mailbox, MODSEQ         struct sp_uid_pair, ascending
 *   acl         account, mailbox, grantee, 1     struct sp_acl_row; 1: whether negative
 *   shared      grantee, account, mailbox, 1     - (the same, the other way round)
 *   segments    number                           what a start need not read of it (segments.c)
 *   guard       request, or operation            struct sp_guard_row, subject, who, text
 *   held        account, mailbox, UID            struct sp_held_row, path, keywords, MESSAGE
 * payload: of what was expunged, while its record is there retired     segment, generation struct
 * sp_retired_row generations segment                          generation that the places in bodies
 * are of, > 0
 *
 * Integers in keys are big-endian, so that they sort. Structs are in the machine's own layout: the
 * index does not move between machines.
 *
 * Reading. sp_read_begin .. sp_read_end brackets a snapshot; slices point into the map and die with
 * it. No read transaction may outlive a request. Threads: a snapshot may be used by one thread at a
 * time.
 */
#ifndef SP_STORE_INDEX_H
#define SP_STORE_INDEX_H

#include "base/buf.h"
#include "base/checksum.h"
#include "base/uuid.h"
#include "format/payload.h"
#include "format/segment.h"

#include <lmdb.h>

struct sp_index;

/* Why clients are refused: each is lifted for itself. */
#define SP_PROTECTED_BROKEN 1U /* records of the chain are missing */
#define SP_PROTECTED_LEFT   2U /* loss was accepted: records may be in a history that was left */

#define SP_FORKS_MAX 16U

struct sp_position {
    struct sp_log_end end;
    uint64_t time_ns;     /* of the last record */
    uint64_t volume_tail; /* LSN of the last record on the volume's chain */
    uint64_t manifest_segment, manifest_lsn;
    uint64_t running_ms;    /* that the volume was open, as its CLOCK records say */
    uint64_t erase_lsn;     /* of the last ERASE; 0: there is none */
    uint8_t list_protected; /* SP_PROTECTED_*: accounts may be missing */
    bool undecided;         /* taken from replicas before an epoch began: it may turn out void */
    bool forks_dropped;     /* one that was not merged had no room: nothing ends by itself */
    uint32_t forks_count;
    struct sp_fork { /* a GAP that protects (branch 0), or how far a history is merged that parted
                        before it */
        uint64_t gap_lsn;
        uint64_t branch;
        uint64_t merged_epoch_id; /* of it: merged up to there (MERGE) */
        uint64_t merged_lsn;
        uint32_t merged_epoch_counter; /* 0: nothing */
        bool complete;                 /* of the GAP */
    } forks[SP_FORKS_MAX];             /* oldest first */
};

struct sp_account_row {
    uint64_t tail; /* of the account's own chain */
    uint64_t modseq;
    uint32_t mailbox_next, uidvalidity_next;
    uint16_t address_len, credential_len;
    uint8_t protected_;      /* SP_PROTECTED_*: mailboxes may be missing */
    uint64_t credential_lsn; /* of the newest CREDENTIAL; 0: none */
};
struct sp_account {
    struct sp_uuid id;
    struct sp_account_row row;
    struct sp_slice address;
    struct sp_slice credential; /* CREDENTIAL payload; empty: none */
};

#define SP_INDEX_KEYWORDS_MAX 56U
struct sp_mailbox_row {
    uint64_t tail;
    uint64_t highestmodseq;
    uint64_t size;
    uint64_t catalogue_lsn; /* newest catalogue record, and where it left off */
    uint64_t catalogue_modseq;
    uint64_t vanished_modseq; /* of what changed up to it some may not be known: what was lost was
                                 given up then (UNPROTECT) */
    uint32_t catalogue_uidnext;
    uint32_t id, uidvalidity, uidnext;
    uint32_t messages, unseen, deleted;
    uint32_t special_use;
    uint32_t dropped; /* messages that compaction has dropped: a catalogue may still count them */
    uint16_t path_len;
    uint8_t keywords_count;
    uint8_t protected_;    /* SP_PROTECTED_* */
    uint32_t left_uidnext; /* UIDs below it were never given out since a history was left: what is
                              merged from there keeps them */
};
struct sp_mailbox {
    struct sp_uuid account;
    struct sp_mailbox_row row;
    struct sp_slice path;
    struct sp_slice keywords[SP_INDEX_KEYWORDS_MAX];
};

/* Bits as in mail/request.h: system flags below, keyword i is bit 8 + i. */
struct sp_flag_row {
    uint32_t uid;
    uint32_t reserved;
    uint64_t flags;
    uint64_t modseq;
};
struct sp_uid_pair {
    uint32_t first, last;
};
struct sp_body_row {
    struct sp_place place;
    uint32_t payload_bytes;
};

/* ---- Snapshots ---- */

struct sp_read {
    struct sp_index *index;
    MDB_txn *txn;
};
enum sp_status sp_read_begin(struct sp_index *index, struct sp_read *ret_read) SP_MUST_USE;
void sp_read_end(struct sp_read *read); /* may be called twice */

/* Lookups: SP_OK, SP_NOT_FOUND, SP_IO (LMDB failed). Slices are in the map. */
enum sp_status sp_index_position(struct sp_read *read, struct sp_position *ret) SP_MUST_USE;
enum sp_status sp_index_account(struct sp_read *read, const struct sp_uuid *id,
                                struct sp_account *ret) SP_MUST_USE;
/* address: lower case. */
enum sp_status sp_index_address(struct sp_read *read, struct sp_slice address,
                                struct sp_uuid *ret_id) SP_MUST_USE;
enum sp_status sp_index_domain(struct sp_read *read, struct sp_slice name) SP_MUST_USE;
/* Every account, in UUID order: *account.id is the last one seen (nil to begin); SP_EOF at the end.
 */
enum sp_status sp_index_next_account(struct sp_read *read, struct sp_account *account) SP_MUST_USE;
enum sp_status sp_index_mailbox(struct sp_read *read, const struct sp_uuid *account,
                                uint32_t mailbox, struct sp_mailbox *ret) SP_MUST_USE;
enum sp_status sp_index_mailbox_by_path(struct sp_read *read, const struct sp_uuid *account,
                                        struct sp_slice path, struct sp_mailbox *ret) SP_MUST_USE;
/* Every mailbox of an account by ascending id: mailbox->row.id is the last one seen (0 to begin);
 * SP_EOF. */
enum sp_status sp_index_next_mailbox(struct sp_read *read, const struct sp_uuid *account,
                                     struct sp_mailbox *mailbox) SP_MUST_USE;
/* Every subscribed path: *path is the last one seen ({NULL, 0} to begin); SP_EOF. Order is that of
 * the hashes. */
enum sp_status sp_index_next_subscription(struct sp_read *read, const struct sp_uuid *account,
                                          struct sp_slice *path) SP_MUST_USE;

/* Rights that were given to somebody: an account, or everybody (nil). Entries with no rights left
 * stay, so that merging knows that they were withdrawn. */
struct sp_acl_row {
    uint64_t lsn;
    uint32_t rights; /* SP_RIGHT_* of mail/request.h */
    uint32_t merged; /* the record came from another history */
};
struct sp_acl_entry {
    bool begun; /* the others name the last one seen */
    struct sp_uuid owner;
    uint32_t mailbox;
    struct sp_uuid grantee;
    bool negative;
    struct sp_acl_row row; /* not of sp_index_next_shared */
};
enum sp_status sp_index_acl(struct sp_read *read, const struct sp_uuid *owner, uint32_t mailbox,
                            const struct sp_uuid *grantee, bool negative,
                            struct sp_acl_row *ret) SP_MUST_USE;
/* Every entry of a mailbox, `anyone` first: entry starts zeroed; SP_EOF. */
enum sp_status sp_index_next_acl(struct sp_read *read, const struct sp_uuid *owner,
                                 uint32_t mailbox, struct sp_acl_entry *entry) SP_MUST_USE;
/* Every mailbox with an entry of the grantee, by owner and mailbox; likewise. */
enum sp_status sp_index_next_shared(struct sp_read *read, const struct sp_uuid *grantee,
                                    struct sp_acl_entry *entry) SP_MUST_USE;
enum sp_status sp_index_body(struct sp_read *read, uint64_t lsn,
                             struct sp_body_row *ret) SP_MUST_USE;
/* The MESSAGE payload (for sp_message_read), its LSN and time. */
enum sp_status sp_index_message(struct sp_read *read, const struct sp_uuid *account,
                                uint32_t mailbox, uint32_t uid, struct sp_slice *ret_payload,
                                uint64_t *ret_lsn, uint64_t *ret_time_ns) SP_MUST_USE;

/* What was expunged and is still in the log. */
struct sp_held_row {
    uint64_t expunge_lsn, expunge_time_ns;
    uint64_t lsn; /* of its MESSAGE */
    uint64_t system_flags;
    uint32_t keywords_len;
    uint16_t path_len;
};
struct sp_held {
    uint32_t mailbox, uid;
    struct sp_held_row row;
    struct sp_slice path;     /* of the mailbox, when it was expunged */
    struct sp_slice keywords; /* each a byte of length, then so many bytes */
    struct sp_slice payload;  /* of its MESSAGE */
};
/* The next one of the account by mailbox and UID: those in *held are the last one seen (0, 0 to
 * begin); SP_EOF. */
enum sp_status sp_index_next_held(struct sp_read *read, const struct sp_uuid *account,
                                  struct sp_held *held) SP_MUST_USE;

/* A segment that another one replaced; its files wait to be deleted. */
struct sp_retired_row {
    uint64_t first_lsn, last_lsn;
    uint64_t since_lsn, since_ns; /* of the MANIFEST that said so first */
    uint32_t blocks;
};
struct sp_retired {
    uint64_t segment;
    uint32_t generation;
    struct sp_retired_row row;
};
/* As sp_index_next_held, by segment and generation. */
enum sp_status sp_index_next_retired(struct sp_read *read, struct sp_retired *retired) SP_MUST_USE;

/* Walking a mailbox's flags by ascending UID, from `from`. since_modseq > 0 passes over rows of 64
 * with nothing newer at once, and yields only rows with a greater MODSEQ. */
struct sp_flag_cursor {
    MDB_cursor *cursor;
    struct sp_uuid account;
    uint32_t mailbox;
    uint32_t from;
    uint64_t since_modseq;
    const struct sp_flag_row *row, *end; /* of the current chunk */
    bool begun;
};
enum sp_status sp_flag_cursor_open(struct sp_read *read, const struct sp_uuid *account,
                                   uint32_t mailbox, uint32_t from, uint64_t since_modseq,
                                   struct sp_flag_cursor *ret) SP_MUST_USE;
/* SP_OK with a row (in the map), SP_EOF. */
enum sp_status sp_flag_cursor_next(struct sp_flag_cursor *cursor,
                                   struct sp_flag_row *ret_row) SP_MUST_USE;
void sp_flag_cursor_close(struct sp_flag_cursor *cursor);

/* Walking a mailbox's MESSAGE payloads by ascending UID: seek, then next; faster than one lookup
 * each. */
struct sp_message_cursor {
    MDB_cursor *cursor;
    struct sp_uuid account;
    uint32_t mailbox;
    uint32_t uid; /* the one the cursor stands on; 0: nowhere */
};
enum sp_status sp_message_cursor_open(struct sp_read *read, const struct sp_uuid *account,
                                      uint32_t mailbox, struct sp_message_cursor *ret) SP_MUST_USE;
/* The message with this UID: SP_NOT_FOUND. Cheap when UIDs are asked for in ascending order. */
enum sp_status sp_message_cursor_get(struct sp_message_cursor *cursor, uint32_t uid,
                                     struct sp_slice *ret_payload, uint64_t *ret_lsn,
                                     uint64_t *ret_time_ns) SP_MUST_USE;
void sp_message_cursor_close(struct sp_message_cursor *cursor);

/* Expunges with MODSEQ > since, in that order: calls back with each run. */
enum sp_status sp_index_expunged(struct sp_read *read, const struct sp_uuid *account,
                                 uint32_t mailbox, uint64_t since_modseq,
                                 enum sp_status (*each)(void *context, struct sp_uid_pair run),
                                 void *context) SP_MUST_USE;

/* ---- What was asked of the guard ---- */

#define SP_GUARD_APPROVERS_MAX 8U
#define SP_GUARD_TEXT_MAX      4000U /* bytes of each of its texts; longer ones are cut */

struct sp_guard_row {
    struct sp_uuid subject_id;
    uint64_t requested_ns, finished_ns; /* finished_ns 0: it is pending */
    uint64_t cooling_ms, waited_ms;
    uint32_t uid; /* who asked */
    uint32_t approvers[SP_GUARD_APPROVERS_MAX];
    uint8_t operation, event; /* event: the last but WAITED */
    uint8_t approvals_needed, approvals;
    uint16_t subject_len, who_len, text_len;
};
struct sp_guard_request {
    struct sp_uuid id;
    struct sp_guard_row row;
    struct sp_slice subject, who, text; /* in the map */
};
enum sp_status sp_index_guard(struct sp_read *read, const struct sp_uuid *id,
                              struct sp_guard_request *ret) SP_MUST_USE;
/* Every request, pending or not, by id: request->id is the last one seen (nil to begin); SP_EOF. */
enum sp_status sp_index_next_guard(struct sp_read *read,
                                   struct sp_guard_request *request) SP_MUST_USE;
/* Whether operations of this kind are allowed by a policy: SP_OK or SP_NOT_FOUND. */
enum sp_status sp_index_guard_policy(struct sp_read *read, uint8_t operation,
                                     struct sp_guard_request *ret) SP_MUST_USE;

/* ---- For the committer and for replay ---- */

/* Opens the index, or makes it. LMDB writes without syncs: after a power cut its file may be
 * corrupt and not merely old, and must not even be opened. So a mark beside it says whether it may
 * be believed: it was closed in good order, or last opened in this same boot, by a program with the
 * same schema. Otherwise it is put back to its checkpoint (store/checkpoint.h), and where there is
 * none thrown away (*ret_fresh: it is empty). The mark is withdrawn, durably, before anything is
 * written. */
enum sp_status sp_index_open(const char *path, size_t map_bytes, struct sp_index **ret_index,
                             bool *ret_fresh, struct sp_error *error) SP_MUST_USE;
/* clean: syncs, and then marks it as closed in good order. NULL is fine. */
void sp_index_close(struct sp_index *index, bool clean);
/* Between two transactions of the writer: makes a checkpoint when one is due. log_bytes counts what
 * was appended to the log; background: a thread does the waiting. SP_IO: what was written is not on
 * the disk and never will be, and the index must not be written to any more. */
enum sp_status sp_index_checkpoint(struct sp_index *index, uint64_t log_bytes,
                                   bool background) SP_MUST_USE;
/* Bytes it uses of its file, and may use at most. */
void sp_index_bytes(struct sp_index *index, uint64_t *ret_used, uint64_t *ret_most);
/* Deletes the files of an index that is not open. */
enum sp_status sp_index_destroy(const char *path, struct sp_error *error) SP_MUST_USE;

/* The write transaction, seen as a snapshot too (reads see what was applied). */
struct sp_apply {
    struct sp_read read;
    struct sp_position position;
    struct sp_arena arena; /* of the record being applied */
    bool replay; /* chains may be broken (then mailboxes are protected); otherwise that is a bug */
    /* Mailboxes that changed since begin, each once; for notification and for catalogues. */
    struct sp_touched *touched;
    uint32_t touched_count, touched_capacity;
};
struct sp_touched {
    struct sp_uuid account;
    uint32_t mailbox;
};
enum sp_status sp_apply_begin(struct sp_index *index, bool replay,
                              struct sp_apply *ret_apply) SP_MUST_USE;
/* Applies one record that lies at `place`. SP_NO_SPACE (map full), SP_IO, SP_NO_MEMORY; SP_CORRUPT,
 * SP_UNSUPPORTED for a payload that cannot be read. After any of these the transaction can only be
 * aborted. */
enum sp_status sp_apply_record(struct sp_apply *apply, const struct sp_record *record,
                               const struct sp_place *place) SP_MUST_USE;
/* Sets where the log ends after what was applied, and commits. */
enum sp_status sp_apply_commit(struct sp_apply *apply, const struct sp_log_end *end) SP_MUST_USE;
void sp_apply_abort(struct sp_apply *apply);

#endif
