/* The payloads of records, one struct, one writer and one reader for each type (docs/format.md,
 * "Payloads").
 *
 * Writers append to a buffer (which may fail: check sp_buf_failed). Readers check everything, need
 * no terminator, and set slices into the payload; arrays are allocated in the arena. A reader
 * returns SP_CORRUPT for bytes that no writer makes, SP_NO_MEMORY when the arena is full. Bytes
 * after the last known field are left to later versions: ignored.
 */
#ifndef SP_FORMAT_PAYLOAD_H
#define SP_FORMAT_PAYLOAD_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/checksum.h"
#include "format/record.h"

/* ---- Bodies ---- */

struct sp_body_head {
    uint8_t codec;  /* SP_CODEC_* */
    uint8_t cipher; /* reserved for encryption: 0 */
    uint64_t raw_bytes;
    struct sp_digest
        digest; /* of the raw bytes; of chunks: zero (the message's digest covers them) */
};
void sp_body_head_write(const struct sp_body_head *head, uint8_t ret_head[SP_BODY_HEAD_BYTES]);
enum sp_status sp_body_head_read(struct sp_slice payload,
                                 struct sp_body_head *ret_head) SP_MUST_USE;

/* ---- Messages and their flags; chain: (account, mailbox) ---- */

struct sp_lsn_list {
    uint64_t *ptr;
    uint32_t count;
};
struct sp_slice_list {
    struct sp_slice *ptr;
    uint32_t count;
};
struct sp_span { /* inclusive */
    uint64_t first, last;
};
struct sp_span_list { /* ascending, disjoint */
    struct sp_span *ptr;
    uint32_t count;
};

enum sp_origin {
    SP_ORIGIN_DELIVERY,
    SP_ORIGIN_APPEND,
    SP_ORIGIN_COPY,
    SP_ORIGIN_MOVE,
    SP_ORIGIN_IMPORT,
    SP_ORIGIN_MERGE,    /* from another history; origin_id: SP_MERGE_ID_BYTES, see sp_merge_id */
    SP_ORIGIN_UNDELETE, /* origin_id: struct sp_undelete_origin */
};

struct sp_message {
    uint32_t uid, uidvalidity;
    uint64_t modseq;
    int64_t date_s; /* internal date, UTC */
    int16_t zone_min;
    uint8_t origin;
    uint32_t system_flags;
    struct sp_slice_list keywords;
    uint64_t size;         /* of the message's bytes */
    uint32_t header_bytes; /* of its header, blank line included */
    struct sp_digest digest;
    struct sp_lsn_list bodies;   /* one BODY, or the BODY_CHUNKs in order */
    struct sp_slice origin_id;   /* import: what names the source item; undelete: whose copy it is;
                                    empty otherwise */
    struct sp_slice wrapped_key; /* reserved: empty */
    struct sp_slice address;     /* of the account, at that time */
    struct sp_slice path;        /* of the mailbox, at that time */
    struct sp_slice envelope, bodystructure, parts; /* as src/mime writes them */
};
void sp_message_write(const struct sp_message *message, struct sp_buf *buf);
enum sp_status sp_message_read(struct sp_slice payload, struct sp_arena *arena,
                               struct sp_message *ret) SP_MUST_USE;

/* The origin_id of a message that was brought back: where it was. */
#define SP_UNDELETE_ORIGIN_BYTES 8U
struct sp_undelete_origin {
    uint32_t mailbox, uid;
};
void sp_undelete_origin_write(const struct sp_undelete_origin *origin,
                              uint8_t ret_bytes[SP_UNDELETE_ORIGIN_BYTES]);
enum sp_status sp_undelete_origin_read(struct sp_slice origin_id,
                                       struct sp_undelete_origin *ret) SP_MUST_USE;

enum sp_flags_op { SP_FLAGS_ADD, SP_FLAGS_REMOVE, SP_FLAGS_REPLACE };
struct sp_flags_change {
    uint64_t modseq;
    uint8_t op;
    uint32_t system_flags;
    struct sp_slice_list keywords;
    struct sp_span_list uids;
};
void sp_flags_change_write(const struct sp_flags_change *change, struct sp_buf *buf);
enum sp_status sp_flags_change_read(struct sp_slice payload, struct sp_arena *arena,
                                    struct sp_flags_change *ret) SP_MUST_USE;

struct sp_expunge {
    uint64_t modseq;
    struct sp_span_list uids;
};
void sp_expunge_write(const struct sp_expunge *expunge, struct sp_buf *buf);
enum sp_status sp_expunge_read(struct sp_slice payload, struct sp_arena *arena,
                               struct sp_expunge *ret) SP_MUST_USE;

/* What a mailbox holds. A base lists all UIDs; a delta what came and went since the chain's
 * catalogue before it. Written when a segment begins, for each mailbox that the segment before
 * changed: so a gap in one segment is bounded by the next. */
struct sp_catalogue {
    bool base;
    uint32_t uidvalidity, uidnext;
    uint64_t highestmodseq;
    uint32_t messages;
    struct sp_slice path;
    struct sp_span_list present; /* base: all UIDs; delta: the new ones */
    struct sp_span_list gone;    /* delta: expunged ones */
};
void sp_catalogue_write(const struct sp_catalogue *catalogue, struct sp_buf *buf);
enum sp_status sp_catalogue_read(struct sp_slice payload, struct sp_arena *arena,
                                 struct sp_catalogue *ret) SP_MUST_USE;

/* ---- An account's own chain: (account, 0) ---- */

struct sp_mailbox_record { /* MAILBOX, MAILBOX_RENAME, MAILBOX_DELETE */
    uint32_t id;
    uint32_t uidvalidity;
    uint64_t modseq; /* of the account */
    uint32_t special_use;
    struct sp_slice path;     /* the name; of a rename: the new one */
    struct sp_slice old_path; /* of a rename */
    uint32_t lead; /* > 0: it comes from another history, more of which may follow: it is protected,
                      and UIDs up to this one are left to what follows */
};
void sp_mailbox_record_write(const struct sp_mailbox_record *mailbox, struct sp_buf *buf);
enum sp_status sp_mailbox_record_read(struct sp_slice payload,
                                      struct sp_mailbox_record *ret) SP_MUST_USE;

struct sp_subscribe {
    bool subscribed;
    struct sp_slice path;
};
void sp_subscribe_write(const struct sp_subscribe *subscribe, struct sp_buf *buf);
enum sp_status sp_subscribe_read(struct sp_slice payload, struct sp_subscribe *ret) SP_MUST_USE;

/* The rights of one identifier to one mailbox, from here on (RFC 4314). Each record sets them
 * whole.
 */
struct sp_acl_record {
    uint32_t mailbox;
    struct sp_uuid grantee;  /* an account; nil: anyone */
    bool negative;           /* these are taken away from what others give ("-identifier") */
    bool merged;             /* it comes from another history */
    uint32_t rights;         /* SP_RIGHT_*; 0: none any more */
    struct sp_slice address; /* the grantee's, at that time; empty: anyone */
};
void sp_acl_record_write(const struct sp_acl_record *acl, struct sp_buf *buf);
enum sp_status sp_acl_record_read(struct sp_slice payload, struct sp_acl_record *ret) SP_MUST_USE;

/* SCRAM-SHA-256 keys (RFC 5802, 3; RFC 7677) beside the Argon2id string. */
struct sp_credential {
    struct sp_slice argon2id; /* as libsodium's crypto_pwhash_str writes it */
    uint32_t scram_iterations;
    struct sp_slice scram_salt, scram_stored_key, scram_server_key;
};
void sp_credential_write(const struct sp_credential *credential, struct sp_buf *buf);
enum sp_status sp_credential_read(struct sp_slice payload, struct sp_credential *ret) SP_MUST_USE;

/* ---- The volume's chain: (nil, 0) ---- */

struct sp_account_record { /* ACCOUNT, ACCOUNT_REMOVE */
    struct sp_uuid id;
    struct sp_slice address; /* its first name, local@domain, lower case */
    bool merged; /* it comes from another history, more of which may follow: its list is protected
                  */
};
void sp_account_record_write(const struct sp_account_record *account, struct sp_buf *buf);
enum sp_status sp_account_record_read(struct sp_slice payload,
                                      struct sp_account_record *ret) SP_MUST_USE;

struct sp_domain_record {
    struct sp_slice name; /* lower case */
};
void sp_domain_record_write(const struct sp_domain_record *domain, struct sp_buf *buf);
enum sp_status sp_domain_record_read(struct sp_slice payload,
                                     struct sp_domain_record *ret) SP_MUST_USE;

/* Which segments live. A base lists all sealed ones; a delta those sealed and retired since. */
struct sp_manifest_segment {
    uint64_t segment;
    uint32_t generation, blocks; /* data blocks */
    uint64_t first_lsn, last_lsn;
    struct sp_digest digest; /* the footer's */
};
struct sp_manifest {
    bool base;
    struct sp_manifest_segment *live;
    uint32_t live_count;
    struct sp_manifest_segment *retired;
    uint32_t retired_count;
    struct sp_uuid *erased; /* accounts */
    uint32_t erased_count;
};
void sp_manifest_write(const struct sp_manifest *manifest, struct sp_buf *buf);
enum sp_status sp_manifest_read(struct sp_slice payload, struct sp_arena *arena,
                                struct sp_manifest *ret) SP_MUST_USE;

/* LSNs that are declared lost, and the lead by which counters skipped them. */
struct sp_gap {
    struct sp_span_list lsns;
    uint64_t modseq_skip;
    uint32_t uidnext_skip;
    struct sp_slice reason;
    bool protects; /* what was acknowledged before it may be lacking: all chains are protected,
                      until a MERGE completes it */
};
void sp_gap_write(const struct sp_gap *gap, struct sp_buf *buf);
enum sp_status sp_gap_read(struct sp_slice payload, struct sp_arena *arena,
                           struct sp_gap *ret) SP_MUST_USE;

/* Where every chain of an account stands: a loss at the end of a chain, which no later record of
 * the chain shows, shows here. Several records make one whole, from `begins` to `ends`. */
struct sp_tail {
    struct sp_uuid account;
    uint32_t mailbox;           /* 0: the account's own chain */
    uint32_t uidnext, messages; /* of a mailbox */
    uint64_t lsn;               /* of the chain's last record */
};
struct sp_tails {
    bool begins, ends;
    struct sp_tail *list; /* by account and mailbox */
    uint32_t count;
};
void sp_tails_write(const struct sp_tails *tails, struct sp_buf *buf);
enum sp_status sp_tails_read(struct sp_slice payload, struct sp_arena *arena,
                             struct sp_tails *ret) SP_MUST_USE;

/* What was asked of the guard, and what became of it: one record for each event. */
enum sp_guard_event {
    SP_GUARD_REQUESTED = 1,
    SP_GUARD_APPROVED = 2, /* by `who` */
    SP_GUARD_WAITED = 3,   /* it has waited so long, of the time the server was running */
    SP_GUARD_UNDONE = 4,   /* taken back */
    SP_GUARD_DONE = 5,
    SP_GUARD_REFUSED = 6, /* it was due, and could not be proven or carried out */
    SP_GUARD_POLICY = 7,  /* operations of this kind are allowed from here on, without requests */
    SP_GUARD_POLICY_ENDS = 8,
};
#define SP_GUARD_NOBODY UINT32_MAX /* the server itself */
struct sp_guard_record {
    struct sp_uuid id; /* of the request; nil: of a policy */
    uint8_t event, operation;
    uint8_t approvals;            /* REQUESTED: how many it needs */
    uint32_t uid;                 /* the Unix user whose doing it is, or SP_GUARD_NOBODY */
    uint64_t cooling_ms;          /* REQUESTED: how long it must wait */
    uint64_t waited_ms;           /* WAITED */
    struct sp_uuid subject_id;    /* of the unit or account; nil: it has none */
    struct sp_slice who, subject; /* names at that time */
    struct sp_slice text;         /* for people: what was proven, or why not */
};
void sp_guard_record_write(const struct sp_guard_record *guard, struct sp_buf *buf);
enum sp_status sp_guard_record_read(struct sp_slice payload,
                                    struct sp_guard_record *ret) SP_MUST_USE;
/* How far the history that a GAP left behind has been merged. */
struct sp_merge_record {
    uint64_t gap;        /* LSN of that GAP */
    struct sp_uuid unit; /* that was read */
    uint64_t branch;     /* the epoch in which the other history goes on: names it */
    uint64_t epoch_id;   /* of it: merged is all of it up to this epoch's ... */
    uint32_t epoch_counter;
    uint64_t lsn;  /* ... record of this LSN */
    bool complete; /* that was all of it: what the GAP protects is whole */
};
void sp_merge_record_write(const struct sp_merge_record *merge, struct sp_buf *buf);
enum sp_status sp_merge_record_read(struct sp_slice payload,
                                    struct sp_merge_record *ret) SP_MUST_USE;
/* ---- What compaction and erasure leave behind ---- */

/* Stands for consecutive records of its chain that were dropped, with the LSN of the last and the
 * `previous` of the first of them; or, on no chain, for bodies. */
struct sp_dropped {
    uint64_t modseq;          /* the highest of them; 0: none */
    uint32_t uidnext;         /* their highest UID + 1; 0: no messages */
    struct sp_span_list uids; /* of the messages among them */
    struct sp_span_list lsns; /* all of them */
};
void sp_dropped_write(const struct sp_dropped *dropped, struct sp_buf *buf);
enum sp_status sp_dropped_read(struct sp_slice payload, struct sp_arena *arena,
                               struct sp_dropped *ret) SP_MUST_USE;

/* How long the volume was open since the record of this type before it, or, if it was not open all
 * that time, since it was opened; by a clock that nobody sets. */
struct sp_clock_record {
    uint64_t elapsed_ms;
};
void sp_clock_record_write(const struct sp_clock_record *clock, struct sp_buf *buf);
enum sp_status sp_clock_record_read(struct sp_slice payload,
                                    struct sp_clock_record *ret) SP_MUST_USE;

/* What it names and was expunged before it is no longer held. */
struct sp_erase {
    struct sp_uuid account;
    uint32_t mailbox;         /* 0: every one, and the account's own records if it was removed */
    struct sp_span_list uids; /* empty: all */
    struct sp_slice who, why; /* for people */
};
void sp_erase_write(const struct sp_erase *erase, struct sp_buf *buf);
enum sp_status sp_erase_read(struct sp_slice payload, struct sp_arena *arena,
                             struct sp_erase *ret) SP_MUST_USE;

#endif
