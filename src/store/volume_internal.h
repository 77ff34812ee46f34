/* What the parts of a volume share. Not for others.
 *
 *   open.c     start: votes, members, the list of segments, the index
 *   last_segment.c  where the log ends, from what its replicas have; mending it
 *   log.c      the writer: epochs, segments, batches onto the replicas, ejecting and recruiting
 *   commit.c   the committer: queue, plans, group commit, the watch on units
 *   housekeeping.c  what is said of the log in the log
 *   segments.c what a start need not read again of the segments
 *   replay.c   segments into the index
 *   read.c     message bytes, verified
 *
 *   tend.c     resilvering, scrubbing
 *   parity.h   sidecars of sealed segments: parity.c uses them, parity_make.c makes them
 *   repair.c   mending what readers found bad
 *   status.c   what can be seen of it from outside
 *   scrub_state.c  what a restart must not forget of the scrub
 *   task.c     what others ask the committer to do between batches
 *   add_unit.c taking a unit back
 *   retire.c   letting one go
 *   proof.c    whether the log is safe without a unit
 *   space.c    room on the units
 *   guard.c    what was asked of the guard, in the index
 *   accept_loss.c  going on without what is lacking
 *   left.c, merge.c, merge_record.c  reading a history that was left behind, and merging it back
 *   compact*.c compaction (compact.h)
 *   manifest.c which segments live, said in the log
 */
#ifndef SP_STORE_VOLUME_INTERNAL_H
#define SP_STORE_VOLUME_INTERNAL_H

#include "format/batch.h"
#include "format/parity.h"
#include "format/segment.h"
#include "format/vote.h"
#include "store/volume.h"

#include <pthread.h>

#define SP_SEGMENT_BYTES_DEFAULT (64U << 20)
#define SP_TAILS_SEGMENTS        16U /* segments until the next statement of all tails */
#define SP_HOUSEKEEPING_BASE     64U /* manifest deltas until the next base */

struct sp_volume_member {
    char name[64];
    struct sp_unit *unit; /* NULL: absent */
    struct sp_uuid id;
    char domain[SP_UNIT_DOMAIN_MAX];
    enum sp_unit_state state;
    bool spare, witness, makeshift; /* as configured */
    bool vote_damaged;              /* it can be read, and proves nothing */
    bool vouched;      /* taken back with a damaged vote: it accepts the next epoch, uncounted */
    bool unanswered;   /* a write that was given up is still under way on it */
    bool suspect;      /* ejected in this life: not even asked for its vote */
    bool outside;      /* of no epoch: it was retired, or has another history */
    bool foreign;      /* it has a history that was left behind: it is only read (merge.c) */
    uint64_t from_lsn; /* what it holds for certain: [from_lsn, end]; UINT64_MAX: nothing */
    size_t lacks;    /* of a replica: so many of the first segments are still to be brought to it */
    uint32_t tended; /* blocks of the last of these that it has */
    uint64_t paused_ms; /* until when it is left alone, for want of room */
    uint64_t since_ns;  /* when it took its state */
    uint64_t until_lsn; /* it was ejected when the log ended there; UINT64_MAX: it was not */
    uint64_t window_ms, window_bytes; /* resilvered since then: its rate */
    uint64_t resilver_rate;
    uint64_t scrubbed_ns;          /* when all of its copies had last been read; 0: never */
    struct sp_parity_shape parity; /* of the sidecars it shall have */
    uint64_t parity_from;          /* all segments with lower numbers have theirs */
    uint64_t parity_paused_ms;     /* until when none are made, for want of room */
    bool parity_swept;             /* sidecars whose segment is gone are gone as well */
    char why[256];
    _Atomic uint64_t blocks_bad, blocks_misdirected, blocks_served; /* as in sp_unit_counts */
    _Atomic uint64_t blocks_mended, blocks_unmendable, resilvered_bytes;
};

/* A segment of the log, as the heads say it is. */
struct sp_volume_segment {
    uint64_t segment;
    uint32_t generation;
    uint64_t epoch_id;
    uint32_t data_blocks; /* of the newest: grows */
    uint64_t first_lsn, last_lsn;
    struct sp_digest digest;
    uint32_t footer_blocks; /* of a sealed one */
    bool sealed;
    bool known;                 /* the index remembers it (segments.c) */
    struct sp_log_end previous; /* as its head says: where the one before it ends */
};

struct sp_touched_set; /* mailboxes, each once */
struct sp_compactor;

/* Blocks of one unit's copy of a segment that a read found bad. */
#define SP_REPAIRS_MAX       64U
#define SP_REPAIR_BLOCKS_MAX 256U
struct sp_repair {
    uint32_t member, generation;
    uint64_t segment;
    uint32_t first, count;
    uint64_t given_up_ms; /* since when nobody could mend it; 0: it is to be tried */
};
struct sp_repairs {
    struct sp_repair entries[SP_REPAIRS_MAX];
    uint32_t count;
};

struct sp_volume {
    char name[64];
    struct sp_uuid id;
    struct sp_volume_member members[SP_VOLUME_UNITS_MAX];
    uint32_t members_count;
    uint32_t replicas_wanted, min_copies;
    bool degraded_accept, threaded;
    uint64_t segment_bytes;
    uint32_t unit_timeout_ms, batch_plans_max, queue_bytes_max;
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_context;

    /* The log's segments, ascending. Written by the committer, read by readers: under
     * segments_lock. */
    pthread_rwlock_t segments_lock;
    struct sp_volume_segment *segments;
    size_t segments_count, segments_capacity;

    /* The writer: the committer's alone once the volume is open. */
    uint64_t epoch_id;
    uint32_t epoch_counter;
    struct sp_log_end end; /* of the log: what is durable */
    uint64_t next_lsn;
    uint64_t segment_max; /* highest number used anywhere */
    struct sp_block_header last_header;
    struct sp_footer_builder *footer;
    struct sp_batch batch;
    struct sp_touched_set *touched;     /* mailboxes changed in the segment being written */
    struct sp_touched_set *recent;      /* mailboxes changed since the last catalogues */
    uint64_t recent_bytes;              /* of records since then */
    struct sp_manifest_segment *sealed; /* since the last manifest record */
    size_t sealed_count, sealed_capacity;
    uint32_t manifest_deltas;
    bool write_abandoned; /* a unit was ejected that may still read the last write's buffer: it is
                             left to it */
    bool housekeeping;    /* a segment began: catalogues and manifest are due */
    bool tails_due;       /* of the accounts after tails_from */
    struct sp_uuid tails_from;
    uint32_t tails_segments; /* begun since the last */
    bool catalogues_due; /* enough was written, or it is quiet: catalogues of `recent` are due */
    bool epoch_broken; /* a replica of it was ejected: another begins before anything is written */
    struct sp_uuid voters[SP_MEMBERS_MAX]; /* of the newest epoch that was voted for */
    uint32_t voters_count;
    struct sp_member away[SP_MEMBERS_MAX]; /* members of the epoch before that are not here */
    uint32_t away_count;
    bool unmended;       /* the replicas could not be made alike at the start: no epoch may begin */
    uint64_t retried_ms; /* when an epoch was last tried for */
    bool writable;       /* an epoch is ours; false: the volume defers */
    char why_not[256];
    uint64_t reserve_bytes; /* kept free on every replica; 0: nothing */
    bool short_of_space;    /* less than that is left on one: nothing is taken */
    char short_why[256];

    /* Histories that were left behind. */
    bool loss_accepted; /* this start may go on without what is lacking */
    struct sp_loss {
        bool pending;      /* its GAP comes before any other record */
        bool forced;       /* of this start: the units that are here are voters enough */
        bool written;      /* while heads are looked at: records follow */
        char lacking[200]; /* what was lacking */
        uint64_t gap_lsn;
    } loss;
    struct sp_left *left; /* by their GAPs, oldest first */
    uint32_t left_count;
    struct sp_merge *merge; /* one under way; NULL: none */
    uint64_t merge_ms;      /* not before */
    uint32_t merge_units;   /* not with so many units again: they do not have all of it */

    struct sp_index *index;
    struct sp_apply apply;
    bool index_failed;

    /* The queue. */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool thread_running, stopping;
    struct sp_commit *queue_first, *queue_last;
    size_t queue_bytes;
    uint64_t queue_commits;
    struct sp_histogram commit_us, batch_commits, batch_bytes; /* recorded by the committer */
    uint64_t checked_ms;

    void (*notify)(void *context, const struct sp_uuid *account, uint32_t mailbox);
    void *notify_context;

    /* Held by whoever uses a unit outside the committer's thread; for writing, when one is
     * replaced. */
    pthread_rwlock_t units_lock;
    struct sp_task *task; /* under lock: what task.c is asked for; NULL: nothing */

    struct sp_repairs repairs; /* under lock */

    /* Tending (tend.c): the committer's; what others look at, under lock. */
    uint64_t resilver_rate, scrub_rate; /* bytes a second; scrub_rate 0: only when asked for */
    uint64_t tend_ms;                   /* when the next slice is due */
    _Atomic bool scrub_wanted;
    struct sp_scrub {
        bool running, asked;
        size_t segment; /* the cursor: a block of a member's copy of a segment */
        uint32_t member, block;
        uint32_t only;    /* of this member's copies alone; UINT32_MAX: of all */
        uint32_t skipped; /* copies that could not be looked at: it was not whole */
        uint64_t done_blocks, total_blocks, mended, unmendable;
        uint64_t begun_ms, finished_ms, finished_ns;
        uint64_t since_ns; /* when a scrub began to be owed */
        uint64_t saved_ms, warned_ms;
    } scrub;
    uint32_t scrub_wanted_member; /* with scrub_wanted: as `only`; under lock */
    char *scrub_path;             /* of the file that keeps its state; NULL: nothing does */
    uint64_t scrub_max_age_s;     /* 0: it is never overdue */

    struct sp_parity_job *parity_job; /* parity_make.c: the sidecar being made; NULL: none */
    bool parity_yields;               /* to a scrub that was asked for: every other slice */
    _Atomic uint64_t blocks_rebuilt, parity_written, parity_mended;

    _Atomic uint64_t merge_records, merge_conflicts;
    _Atomic uint64_t commits, batches, bytes, blocks_bad, blocks_misdirected, ejections, recruits;
    _Atomic uint64_t tended_bytes, blocks_mended, blocks_unmendable, resilvered_bytes;
    /* Compaction (compact.h): the committer's. */
    struct sp_compactor *compactor;
    uint64_t hold_ms, compact_rate;
    uint32_t compact_below;
    _Atomic bool compact_wanted;
    _Atomic uint64_t horizon_lsn;
    /* Replaced in this life: under segments_lock, since readers may still have places in them. */
    struct sp_volume_segment *retired;
    size_t retired_count, retired_capacity;
    size_t retired_said; /* of these, the manifest says so */
    bool redirect_due;   /* bodies in the index have places in retired segments */

    /* Clocks. */
    uint64_t (*wall_ns)(void *context);
    uint64_t (*clock_ms)(void *context);
    void *clock_context;
    uint64_t clock_said_ms;  /* up to when CLOCK records tell */
    uint64_t clock_total_ms; /* what they come to */
};

/* ---- log.c ---- */

/* A unit's vote; one that never voted has an empty one. */
enum sp_status sp_vote_read(struct sp_unit *unit, struct sp_vote *ret_vote,
                            struct sp_error *error) SP_MUST_USE;

/* Begins a new epoch after v->end on the members that are replicas: promise and vote on a majority
 * of all members, then the first segment. Replicas that fail on the way are ejected, spares
 * recruited. SP_UNAVAILABLE (why_not says why; the volume then defers). */
enum sp_status sp_log_begin_epoch(struct sp_volume *v) SP_MUST_USE;
/* Makes replicas of spares until there are as many as wanted. */
void sp_log_recruit(struct sp_volume *v);
uint32_t sp_log_replicas(const struct sp_volume *v);
/* Up to where no replica has what this member has, which was ejected; 0: they have all of it. */
uint64_t sp_log_sole_lsn(const struct sp_volume *v, const struct sp_volume_member *member);
void sp_log_eject(struct sp_volume *v, struct sp_volume_member *member, const char *why);
/* The last replica failed: the volume stops writing. */
void sp_log_suspend(struct sp_volume *v, const struct sp_volume_member *member, const char *why);
/* Writes v->batch at the end of the log, on all replicas. On SP_OK v->end is moved and the records
 * are in the footer. *ret_moved: the batch lies in another place than v->end foretold (an epoch
 * began on the way). SP_UNAVAILABLE, SP_NO_SPACE: nothing happened. */
enum sp_status sp_log_append(struct sp_volume *v, bool *ret_moved) SP_MUST_USE;
/* Takes memory over that a stalled unit may still read. */
void sp_log_abandon(void *memory);
/* Seals the segment and begins the next when it is full. */
enum sp_status sp_log_rotate_if_full(struct sp_volume *v) SP_MUST_USE;
/* Writes the footer that `builder` holds behind the data blocks of a segment, on all replicas;
 * failures there are left to the next write to find. */
enum sp_status sp_log_seal(struct sp_volume *v, struct sp_volume_segment *segment,
                           const struct sp_block_header *last_header, uint64_t chain) SP_MUST_USE;
enum sp_status sp_volume_add_segment(struct sp_volume *v,
                                     const struct sp_volume_segment *segment) SP_MUST_USE;

/* ---- last_segment.c ---- */

/* What files a unit has, ascending; looked at once in a start. */
struct sp_listing {
    struct sp_unit_segment *list;
    size_t count;
};
/* NULL: the unit does not have it. */
const struct sp_unit_segment *sp_listing_find(const struct sp_listing *listing, uint64_t segment,
                                              uint32_t generation);
/* The newest generation of a segment that it has. */
const struct sp_unit_segment *sp_listing_newest(const struct sp_listing *listing, uint64_t segment);

struct sp_replica {
    struct sp_volume_member *member;
    uint64_t segment; /* its last one of the epoch whose head it has; 0: none */
    uint8_t *blocks;  /* of the log's last segment; NULL: it does not have the file */
    uint32_t count;
};
struct sp_last_segment {
    uint64_t segment; /* 0: nothing was written in the epoch */
    struct sp_log_end end;
    uint8_t *merged; /* [0, end.blocks): what the replicas have together */
    struct sp_replica replicas[SP_VOLUME_UNITS_MAX];
    uint32_t replicas_count;
};
/* Finds where the log ends. With `limit` (may be NULL) it is in that segment of that epoch, and at
 * most there. listings: one for each member. Replicas that missed more become stale.
 * SP_UNAVAILABLE: records are lacking that may have been acknowledged. */
enum sp_status sp_last_segment_find(struct sp_volume *v, const struct sp_segment_head *epoch,
                                    const struct sp_log_end *limit,
                                    const struct sp_listing *listings,
                                    struct sp_last_segment *ret_last,
                                    struct sp_error *error) SP_MUST_USE;
/* Makes the replicas alike up to the end. A unit that fails is ejected; anything but SP_OK: one of
 * them still lacks something, and nothing may be written. */
enum sp_status sp_last_segment_mend(struct sp_volume *v, struct sp_last_segment *last,
                                    struct sp_error *error) SP_MUST_USE;
void sp_last_segment_release(struct sp_last_segment *last);

/* ---- commit.c ---- */

#define SP_BATCH_BYTES_SOFT (8U << 20) /* no further plan joins a batch that is larger */

struct sp_plan {
    struct sp_volume *volume;
    struct sp_buf buf;
    struct sp_arena arena;
    uint64_t time_ns;
    bool emitted;          /* by the plan that runs */
    enum sp_status failed; /* of an emit: the batch is lost */
};
/* One on the volume's chain that a reader may skip. */
enum sp_status sp_plan_emit_optional(struct sp_plan *plan, enum sp_record_type type,
                                     struct sp_slice payload) SP_MUST_USE;

/* ---- housekeeping.c ---- */

/* What is being said in the batch under way, to be forgotten once it is durable. */
struct sp_housekeeping {
    struct sp_touched_set *touched; /* NULL: no segment began */
    struct sp_touched_set *recent;  /* NULL: no catalogues */
    bool manifest;                  /* of so many sealed and retired segments */
    size_t sealed_count, retired_count;
    uint64_t recent_bytes;
    bool tails, tails_end;
    struct sp_uuid tails_from;
    bool clock;
    uint64_t clock_ms; /* the CLOCK tells up to here */
};
bool sp_housekeeping_is_due(const struct sp_volume *v);
enum sp_status sp_housekeeping_begin(struct sp_plan *plan, struct sp_housekeeping *due) SP_MUST_USE;
/* durable: what was said is in the log; otherwise it is due again. */
void sp_housekeeping_end(struct sp_volume *v, struct sp_housekeeping *due, bool durable);
/* Makes a statement of all tails due, from the first account on. */
void sp_volume_begin_tails(struct sp_volume *v);

struct sp_volume *sp_plan_volume(struct sp_plan *plan);
/* Gives the batch up: what the plan emitted must not stay. Returns what the plan is to return. */
enum sp_status sp_plan_fail(struct sp_plan *plan, enum sp_status status);
/* Writes the GAP that is pending. Before the committer is started. */
enum sp_status sp_committer_write_gap(struct sp_volume *v, struct sp_error *error) SP_MUST_USE;

/* ---- task.c ---- */

/* Has the committer call `run` between two batches, and waits for its outcome. what: for the error.
 * SP_UNAVAILABLE: it is busy with another. */
enum sp_status sp_task_run(struct sp_volume *v,
                           enum sp_status (*run)(struct sp_volume *v, void *context,
                                                 struct sp_error *error),
                           void *context, const char *what, struct sp_error *error) SP_MUST_USE;
/* Carries out what is asked for; false: nothing. */
bool sp_task_step(struct sp_volume *v);

/* ---- space.c ---- */

/* Looks how much room there is. */
void sp_space_check(struct sp_volume *v);
/* Whether the member has as much room as is kept in reserve. */
bool sp_space_allows(struct sp_volume *v, const struct sp_volume_member *m, uint64_t *ret_free);

/* ---- accept_loss.c ---- */

#define SP_LOSS_LSN_SKIP     (UINT64_C(1) << 40)
#define SP_LOSS_MODSEQ_SKIP  (UINT64_C(1) << 40)
#define SP_LOSS_UIDNEXT_SKIP (UINT32_C(1) << 20)
#define SP_LOSS_EPOCHS       (UINT32_C(1) << 20) /* at least; and as many segment numbers */

/* A place where the log goes on after a loss was accepted; whoever goes on from `end` otherwise has
 * a history that was left behind. */
struct sp_left {
    struct sp_log_end end;                  /* where the two part */
    uint64_t gap_lsn;                       /* of the GAP that follows in ours */
    uint32_t epoch_counter;                 /* of the epoch that follows in ours */
    struct sp_uuid members[SP_MEMBERS_MAX]; /* its voters */
    uint32_t members_count;
};
struct sp_last_segment;
struct sp_listing;

/* Whether the refusal in `error` may be passed over; then it is logged and kept as the reason. */
bool sp_loss_pass(struct sp_volume *v, const struct sp_error *error);
/* Where the log ends by what is here, when no replica of the newest epoch is. `newest`: its head.
 * Sets the members' states. */
enum sp_status sp_loss_find_end(struct sp_volume *v, const struct sp_segment_head *newest,
                                const struct sp_listing *listings, struct sp_last_segment *ret_last,
                                struct sp_error *error) SP_MUST_USE;
/* Takes note of a head of the log, newest first: whether it leaps. written: records follow it. */
enum sp_status sp_loss_note_head(struct sp_volume *v, const struct sp_segment_head *head,
                                 bool written) SP_MUST_USE;
/* Sees to it that the next epoch begins behind a leap. SP_LIMIT: no numbers are left. */
enum sp_status sp_loss_prepare(struct sp_volume *v, struct sp_error *error) SP_MUST_USE;
/* Emits the GAP that is pending. */
enum sp_status sp_loss_emit(struct sp_plan *plan) SP_MUST_USE;

/* ---- merge.c ---- */

/* Does one slice of merging what foreign units have. */
bool sp_merge_step(struct sp_volume *v, uint64_t now);
/* How many foreign units are here. */
uint32_t sp_merge_units(const struct sp_volume *v);
void sp_merge_free(struct sp_merge *merge);
/* Whether the unit holds records of a history that was left behind, to be merged. */
bool sp_left_is_foreign(struct sp_volume *v, struct sp_unit *unit, const struct sp_vote *vote,
                        const struct sp_unit_segment *list, size_t count);

/* ---- add_unit.c ---- */

/* NULL: there is none. */
struct sp_volume_member *sp_volume_member_named(struct sp_volume *v, const char *name);

/* ---- tend.c ---- */

/* Does one slice of what is to be done for the copies, if it is due. */
bool sp_tend_step(struct sp_volume *v, uint64_t now);
/* Verifies and mends blocks [first, first + count) of a member's copy of segments[segment]. */
void sp_tend_copy(struct sp_volume *v, struct sp_volume_member *member, size_t segment,
                  uint32_t first, uint32_t count, uint64_t now, uint32_t *ret_mended,
                  uint32_t *ret_unmendable);
/* Until the next slice, at most `most`. */
uint64_t sp_tend_wait_ms(const struct sp_volume *v, uint64_t now, uint64_t most);

/* Begins a scrub of all copies, or of one member's. */
void sp_scrub_begin(struct sp_volume *v, bool asked, uint32_t only);
/* How many blocks it looks at in all copies of segments[segment]. */
uint64_t sp_scrub_blocks(const struct sp_volume *v, size_t segment);

/* ---- scrub_state.c ---- */

struct sp_scrub_state {
    struct sp_uuid volume;
    uint64_t since_ns, finished_ns;
    struct {
        struct sp_uuid id;
        uint64_t scrubbed_ns;
    } units[SP_VOLUME_UNITS_MAX];
    uint32_t units_count;
    bool running, asked;
    uint64_t segment, mended, unmendable, skipped;
    struct sp_uuid only; /* nil: of all units */
};
/* SP_CORRUPT: not exactly what sp_scrub_state_write writes. */
enum sp_status sp_scrub_state_parse(struct sp_slice text,
                                    struct sp_scrub_state *ret_state) SP_MUST_USE;
void sp_scrub_state_write(const struct sp_scrub_state *state, struct sp_buf *buf);
/* Once the segments are known: takes up what the file says, or begins one. */
void sp_scrub_load(struct sp_volume *v);
/* A failure is told of in the log, and no more. */
void sp_scrub_save(struct sp_volume *v);
/* Since the last whole scrub ended, or since one is owed. */
uint64_t sp_scrub_age_s(const struct sp_volume *v, uint64_t wall_ns);
/* Saves from time to time; warns once a day when the scrub is overdue. */
void sp_scrub_watch(struct sp_volume *v, uint64_t now);

/* ---- status.c ---- */

/* A member's state changes: since when. Under lock. */
void sp_member_set_state(struct sp_volume_member *m, enum sp_unit_state state);
/* The parts of sp_volume_status that are about each unit, and about rates. */
void sp_status_fill(struct sp_volume *v, struct sp_volume_status *status);
/* So much was brought to a member: how fast that goes. The committer's thread. */
void sp_resilver_rate(struct sp_volume *v, struct sp_volume_member *m, uint64_t bytes,
                      uint64_t now_ms);

/* ---- repair.c ---- */

/* A reader found a block of a replica's copy bad. Any thread. */
void sp_repair_note(struct sp_volume *v, const struct sp_volume_member *member,
                    const struct sp_volume_segment *segment, uint32_t block);
/* Mends one of the places that were noted; false: there are none. */
bool sp_repair_step(struct sp_volume *v, uint64_t now);

/* Writes to a member, with patience, by whose end it has stalled (SP_TIMEOUT): then the blocks must
 * stay where they are for ever. */
enum sp_status sp_tend_write(struct sp_volume *v, struct sp_volume_member *m, uint64_t segment,
                             uint32_t generation, uint32_t first, const uint8_t *blocks,
                             uint32_t count, struct sp_error *error) SP_MUST_USE;
/* Draws the consequences when a member cannot be written to: it is ejected, or left alone for a
 * while if it lacks room. */
void sp_tend_failed(struct sp_volume *v, struct sp_volume_member *m, enum sp_status status,
                    const struct sp_error *error, uint64_t now);

/* ---- manifest.c ---- */

struct sp_manifest_segment sp_manifest_entry(const struct sp_volume_segment *segment);
/* Emits what the log says of the segments sealed and retired since it last did, or of all. */
enum sp_status sp_manifest_emit(struct sp_volume *v, struct sp_plan *plan) SP_MUST_USE;

/* ---- compact.c ---- */

struct sp_compactor *sp_compactor_new(void) SP_MUST_USE;
void sp_compactor_free(struct sp_compactor *compactor);
/* Does one slice, if it is due. */
bool sp_compact_step(struct sp_volume *v, uint64_t now);
/* Until the next slice, at most `most`. */
uint64_t sp_compact_wait_ms(const struct sp_volume *v, uint64_t now, uint64_t most);
void sp_compact_status(const struct sp_volume *v, struct sp_volume_status *status);

/* ---- replaced.c ---- */

/* Whether the member has the trailer of a segment that was rewritten, if the index does not say so:
 * the program may have been stopped when only some replicas had got it. */
bool sp_volume_has_trailer(const struct sp_volume *v, const struct sp_volume_member *m,
                           const struct sp_volume_segment *s);
/* At a start: takes note of files of replaced segments that no MANIFEST names. */
enum sp_status sp_volume_find_replaced(struct sp_volume *v, struct sp_error *error) SP_MUST_USE;

/* ---- compact_index.c ---- */

/* In a write transaction: the places of bodies that segments of a higher generation hold now. */
enum sp_status sp_volume_redirect(struct sp_volume *v, struct sp_apply *apply,
                                  struct sp_error *error) SP_MUST_USE;
/* Whether the index has places of a higher generation than the log has now: then it is made again.
 */
bool sp_volume_went_back(struct sp_volume *v);
/* sp_volume_redirect in a transaction of its own, after the index was brought up to date. */
enum sp_status sp_volume_redirect_now(struct sp_volume *v, struct sp_error *error) SP_MUST_USE;
/* All records of the segment have just been applied: there is nothing to redirect. */
enum sp_status sp_volume_redirected(struct sp_apply *apply,
                                    const struct sp_volume_segment *segment) SP_MUST_USE;

/* ---- touched.c ---- */

struct sp_touched_set *sp_touched_set_new(void) SP_MUST_USE;
void sp_touched_set_free(struct sp_touched_set *set);
enum sp_status sp_touched_set_add(struct sp_touched_set *set,
                                  const struct sp_touched *mailbox) SP_MUST_USE;
size_t sp_touched_set_count(const struct sp_touched_set *set);
const struct sp_touched *sp_touched_set_at(const struct sp_touched_set *set, size_t i);
/* Which it is; SIZE_MAX: it is not there. */
size_t sp_touched_set_find(const struct sp_touched_set *set, const struct sp_touched *mailbox);

/* ---- segments.c ---- */

/* Sealed segments never change, so a start reads head and trailer only of those that the index does
 * not remember. A row is keyed by the segment's number, and says where the segment ends in the
 * words of its successor's head, what look_at_segment found of it, and where its predecessor ends.
 * It counts only if
 *
 *   - its end is exactly the one asked for, epoch and chain value included: that one comes from the
 *     newest head, which was read, or from a row that was proven like this. The chain value hangs
 * on every block before it, so the history is the same;
 *   - no unit has a newer generation of it, and at least one has its file in its full length.
 *
 * So with an index that is old, or another's, or wrong, the heads are read as ever. */
enum sp_status sp_segments_recall(struct sp_volume *v, struct sp_read *read,
                                  const struct sp_listing *listings, const struct sp_log_end *end,
                                  struct sp_volume_segment *ret) SP_MUST_USE;
/* In the transaction of v->apply: those that were sealed since. all: looks at every one, and not
 * only at the newest. */
enum sp_status sp_segments_remember(struct sp_volume *v, bool all) SP_MUST_USE;

/* ---- replay.c ---- */

/* Whether it is the segment's block `index`: a block of its data, or of its footer behind them. */
bool sp_volume_is_block_of(const struct sp_volume *v, const struct sp_volume_segment *segment,
                           uint32_t index, const uint8_t *block);
/* The unit of a member that is asked in this turn for blocks of the segment: 0 is first, 3 last.
 * NULL: it has another turn, or none. Under units_lock. */
struct sp_unit *sp_volume_reading_unit(struct sp_volume *v, const struct sp_volume_segment *segment,
                                       uint32_t member, unsigned rank);
/* Reads blocks [first, first + count) of a segment, each checked to be the one asked for, from
 * whichever unit has it sound, or rebuilt from parity. Bad or missing everywhere: SP_CORRUPT or
 * SP_NOT_FOUND with the place in the error. */
enum sp_status sp_volume_read_blocks(struct sp_volume *v, const struct sp_volume_segment *segment,
                                     uint32_t first, uint8_t *ret_blocks, uint32_t count,
                                     struct sp_error *error) SP_MUST_USE;
/* The same from any unit but `except`, whose own copy is being looked at. */
enum sp_status sp_volume_read_twins(struct sp_volume *v, const struct sp_volume_segment *segment,
                                    uint32_t first, uint8_t *ret_blocks, uint32_t count,
                                    const struct sp_volume_member *except,
                                    struct sp_error *error) SP_MUST_USE;
/* Whether it is a sound block, but not the segment's block `index`. */
bool sp_volume_is_misdirected(const struct sp_volume *v, const struct sp_volume_segment *segment,
                              uint32_t index, const uint8_t *block);
struct sp_index_start {
    const char *path;
    size_t map_bytes;
    bool rebuild;
    bool again; /* it is of no use: it is made again */
    size_t segment;
    uint64_t lsn;
};
/* Opens the index, before the log is looked for: it remembers segments. One that is damaged stays
 * NULL. SP_NO_SPACE. */
enum sp_status sp_volume_open_index(struct sp_volume *v, const struct sp_volume_config *config,
                                    struct sp_index_start *ret_start,
                                    struct sp_error *error) SP_MUST_USE;
/* Finds how far it has come, before a new epoch begins. SP_UNAVAILABLE: it has seen records that no
 * unit which is here has, so that something acknowledged would be lost. */
enum sp_status sp_volume_place_index(struct sp_volume *v, struct sp_index_start *start,
                                     struct sp_error *error) SP_MUST_USE;
/* Brings it to v->end. */
enum sp_status sp_volume_roll_index(struct sp_volume *v, const struct sp_index_start *start,
                                    struct sp_error *error) SP_MUST_USE;
/* Calls back with each record of the segment (bodies: their heads alone, when it has a footer),
 * until one returns something else than SP_OK. */
enum sp_status sp_volume_each_record(struct sp_volume *v, const struct sp_volume_segment *segment,
                                     enum sp_status (*each)(void *context,
                                                            const struct sp_record *record,
                                                            const struct sp_place *place),
                                     void *context, struct sp_error *error) SP_MUST_USE;
/* Feeds a segment's records to the footer builder and the touched set, as if they had just been
 * written. */
enum sp_status sp_volume_rebuild_footer(struct sp_volume *v,
                                        const struct sp_volume_segment *segment,
                                        struct sp_error *error) SP_MUST_USE;

/* ---- read.c ---- */

/* A whole record out of its segment's data blocks, checked; its payload is valid until the
 * reader's next call. */
enum sp_status sp_reader_record(struct sp_reader *reader, const struct sp_volume_segment *segment,
                                const struct sp_place *place, uint32_t payload_bytes,
                                struct sp_record *ret_record, struct sp_error *error) SP_MUST_USE;

/* ---- commit.c ---- */

enum sp_status sp_committer_start(struct sp_volume *v, struct sp_error *error) SP_MUST_USE;
void sp_committer_stop(struct sp_volume *v);

#endif
