/* Volumes: one log on several units, with its index.
 *
 * Model. All changes go through one committer. A change is a *plan*: a function that the committer
 * calls with the write transaction in hand; it checks its preconditions and emits records, or
 * refuses. Plans that wait at the same time share one batch: their records are written and synced
 * on all replicas in parallel, applied to the index in one transaction, and only then is anyone
 * answered. A batch is all or nothing, and so is each plan in it.
 *
 * Faults. A replica that fails or stalls is ejected, a spare recruited, a new epoch begun, and the
 * batch written there, within the same commit: those who wait notice a pause. With too few units
 * left the volume defers (SP_UNAVAILABLE) or, with degraded_accept, goes on with fewer copies. Lack
 * of space is SP_NO_SPACE and ejects nobody; it is answered before a disk is full, so that an epoch
 * can still begin.
 *
 * Threads. sp_volume_submit and everything about reading may be called by any thread. Plans and
 * done callbacks run on the committer's thread (with threaded = false: inside sp_volume_run_once,
 * for tests and single-shot commands); they must not block.
 */
#ifndef SP_STORE_VOLUME_H
#define SP_STORE_VOLUME_H

#include "format/parity.h"
#include "store/index.h"
#include "unit/unit.h"

#define SP_VOLUME_UNITS_MAX 16U

struct sp_volume;

struct sp_volume_unit {
    char name[64];
    struct sp_unit *unit; /* NULL: absent. The volume closes it. */
    struct sp_error why;  /* why it is absent */
    bool spare;
    bool witness;   /* votes only */
    bool makeshift; /* a witness that is made anew when it is lost, in place of the one before */
    struct sp_parity_shape parity; /* of the sidecars that it gets; data_rows 0: none */
};

struct sp_volume_config {
    char name[64];
    struct sp_uuid id;
    struct sp_volume_unit units[SP_VOLUME_UNITS_MAX];
    uint32_t units_count;
    uint32_t min_copies;
    bool degraded_accept;
    uint64_t segment_bytes;   /* 0: 64 MiB */
    uint64_t reserve_bytes;   /* kept free on every replica, for epochs to begin; 0: nothing */
    uint32_t unit_timeout_ms; /* 0: 2000 */
    uint64_t resilver_rate;   /* bytes a second; 0: 64 MiB */
    uint64_t scrub_rate; /* likewise; 0: copies are verified when they are read, or asked for */
    uint64_t scrub_max_age_s; /* it is overdue then; 0: never */
    const char *scrub_path;   /* of a small file that keeps its state; NULL: nothing does */
    uint64_t hold_ms;         /* for so long what was expunged can be brought back; 0: not at all */
    uint32_t compact_below; /* segments with a smaller share of live bytes are rewritten: percent */
    uint64_t compact_rate;  /* bytes a second; 0: compaction is done when it is asked for */
    /* The clocks, for tests; NULL: the machine's. Wall clock; monotonic, since whenever. */
    uint64_t (*wall_ns)(void *context);
    uint64_t (*running_ms)(void *context);
    void *clock_context;
    uint32_t batch_plans_max; /* 0: 1024 */
    uint32_t queue_bytes_max; /* of waiting commits by their weight; 0: 256 MiB */
    const char *index_path;   /* a directory, made when missing */
    size_t index_map_bytes;   /* 0: 64 GiB */
    bool threaded;
    bool index_rebuild; /* throw the index away first */
    bool accept_loss;   /* see sp_volume_open */
    void (*progress)(void *context, uint64_t done_bytes,
                     uint64_t total_bytes); /* of a rebuild; may be NULL */
    void *progress_context;
};

/* Proves the newest epoch, adopts the tail, begins a new epoch, brings the index up to date. On
 * failure the error says what is missing and the units are closed. A volume whose units have never
 * been used is begun (all must be present).
 *
 * With accept_loss a start that would be refused for lack of a majority, or of LSNs that are known
 * to have been there, goes on with what is here: in an epoch whose voters are the units that are
 * here, behind a GAP that leaps and protects (accept_loss.c). It changes nothing where nothing is
 * lacking. */
enum sp_status sp_volume_open(const struct sp_volume_config *config, struct sp_volume **ret_volume,
                              struct sp_error *error) SP_MUST_USE;
/* Finishes the commits that wait, closes index and units. NULL is fine. */
void sp_volume_close(struct sp_volume *volume);

struct sp_uuid sp_volume_id(const struct sp_volume *volume);
struct sp_index *sp_volume_index(struct sp_volume *volume);
/* Its name in the configuration. */
const char *sp_volume_name(const struct sp_volume *volume);

/* ---- Changing ---- */

struct sp_plan; /* in a plan: the way to the transaction */
struct sp_commit {
    /* Checks, then emits. Once it has emitted it must return SP_OK; any other status means that
     * nothing happens. */
    enum sp_status (*plan)(struct sp_plan *plan, struct sp_commit *commit);
    /* Called once, after the sync (or the failure). The commit is the caller's again. why: for
     * SP_UNAVAILABLE etc., a text for a person; may be empty. */
    void (*done)(struct sp_commit *commit, enum sp_status status, const char *why);
    bool from_reserve;      /* carried out also while the volume is short of space: it is small, and
                               makes      room or says why */
    size_t weight_bytes;    /* about what it holds in memory: limits the queue */
    struct sp_commit *next; /* the volume's while it waits */
    enum sp_status status;  /* likewise */
    uint64_t queued_us;     /* likewise */
};
/* Never blocks. The queue being full is answered through done with SP_UNAVAILABLE, at once. */
void sp_volume_submit(struct sp_volume *volume, struct sp_commit *commit);
/* threaded = false: carries out what waits (one batch); false when nothing did. */
bool sp_volume_run_once(struct sp_volume *volume);
/* Submits and waits for the outcome: for commands and tests; never from a plan or a callback. */
enum sp_status sp_volume_commit(struct sp_volume *volume,
                                enum sp_status (*plan)(struct sp_plan *plan, void *context),
                                void *context, struct sp_error *error) SP_MUST_USE;

/* The same for one that may use what is kept in reserve (sp_commit.from_reserve). */
enum sp_status sp_volume_commit_from_reserve(struct sp_volume *volume,
                                             enum sp_status (*plan)(struct sp_plan *plan,
                                                                    void *context),
                                             void *context, struct sp_error *error) SP_MUST_USE;

/* What the transaction sees, records of this batch included. */
struct sp_read *sp_plan_read(struct sp_plan *plan);
uint64_t sp_plan_time_ns(const struct sp_plan *plan);
/* Appends a record to the batch and applies it. Chains are filled in: (account, mailbox) for
 * messages, flags, catalogues; (account, 0) for the account's own; (nil, 0) for the volume's; none
 * for bodies. Only trouble of the volume itself makes it fail, and then the whole batch fails. */
enum sp_status sp_plan_emit(struct sp_plan *plan, enum sp_record_type type,
                            const struct sp_uuid *account, uint32_t mailbox,
                            struct sp_slice payload, uint64_t *ret_lsn) SP_MUST_USE;
/* A buffer for building payloads, emptied at each call. */
struct sp_buf *sp_plan_buf(struct sp_plan *plan);
/* Memory until the plan returns. */
struct sp_arena *sp_plan_arena(struct sp_plan *plan);

/* Called after each commit for each mailbox it changed, on the committer's thread. */
void sp_volume_set_notify(struct sp_volume *volume,
                          void (*notify)(void *context, const struct sp_uuid *account,
                                         uint32_t mailbox),
                          void *context);

/* ---- Reading message bytes ---- */

/* Reads bodies, verified, from whichever unit has them; keeps a window of blocks and the last
 * decoded body, so that reading bodies in the order of the log is fast. One thread at a time; make
 * one for each worker. */
struct sp_reader;
struct sp_reader *sp_reader_new(struct sp_volume *volume) SP_MUST_USE;
void sp_reader_free(struct sp_reader *reader);
/* The decoded bytes [0, need) of the body record (need may exceed its size: all of it). *ret_bytes
 * may hold more than asked; valid until the reader's next call. SP_NOT_FOUND: the record is not in
 * the log (lost); SP_CORRUPT: no unit has it sound; SP_IO. */
enum sp_status sp_reader_body(struct sp_reader *reader, const struct sp_body_row *row,
                              uint64_t need, struct sp_slice *ret_bytes,
                              struct sp_error *error) SP_MUST_USE;

/* ---- Looking at it ---- */

enum sp_unit_state {
    SP_UNIT_REPLICA,
    SP_UNIT_SPARE,
    SP_UNIT_WITNESS,
    SP_UNIT_EJECTED,
    SP_UNIT_STALE,
    SP_UNIT_ABSENT
};
/* What was found and done on a unit's copies, since the volume was opened. */
struct sp_unit_counts {
    uint64_t blocks_bad; /* met by a read or the scrub: unreadable, or not what belongs there */
    uint64_t blocks_misdirected; /* of these: sound in themselves, but another place's */
    uint64_t blocks_served;      /* of these: a reader was served by a twin */
    uint64_t blocks_mended, blocks_unmendable;
    uint64_t resilvered_bytes; /* written to bring it what it lacked */
};
struct sp_volume_unit_status {
    char name[64];
    struct sp_uuid id;
    char domain[SP_UNIT_DOMAIN_MAX];
    enum sp_unit_state state;
    char why[256];
    uint64_t free_bytes;
    uint32_t lacks_segments; /* of a replica: still to be brought to it */
    uint64_t
        since_ns; /* when it became what it is; or when the volume was opened, if it was before */
    uint64_t lsn_first, lsn_last;   /* what it holds for certain; 0, 0: nothing is certain */
    uint64_t lacks_bytes;           /* of the segments that it lacks */
    uint64_t resilver_rate;         /* bytes a second, of late; 0: it is not being resilvered */
    uint64_t writes, bytes_written; /* made durable, since the unit was opened */
    struct sp_recent write_us;      /* how long these took, of late */
    uint64_t scrubbed_ns;           /* when a scrub had last read all of its copies; 0: never */
    uint64_t sole_lsn; /* of one that was ejected: LSNs up to this one are on no replica, and are
                          read from it; 0: none are */
    struct sp_parity_shape parity;
    uint32_t lacks_parity; /* of a replica with parity: segments whose sidecar is still to be made,
                              or to be looked for */
    struct sp_unit_counts counts;
};
struct sp_volume_status {
    struct sp_log_end end;
    uint32_t epoch_counter;
    uint32_t copies, min_copies;
    uint64_t thin_lsn; /* LSNs up to this one are on fewer than min_copies replicas; 0: none are */
    bool deferring;
    bool short_of_space; /* it defers for want of room */
    char why[256];       /* why it defers; empty: it does not */
    bool shared_domain;
    uint64_t commits, batches, bytes;          /* since open */
    uint64_t queue_commits, queue_bytes;       /* that wait now */
    struct sp_recent commit_us;                /* from submit to answer, of late */
    uint64_t index_bytes, index_map_bytes;     /* used, and the most it may use */
    uint64_t blocks_bad;                       /* failed verification and served from a twin */
    uint64_t blocks_misdirected;               /* found by reads and scrubs */
    uint64_t blocks_mended, blocks_unmendable; /* after a read, and by scrubbing */
    uint64_t resilvered_bytes;
    uint64_t blocks_rebuilt;                /* from parity: read, or mended with */
    uint64_t parity_written, parity_mended; /* blocks of sidecars: made, and made again */
    uint64_t tended_bytes; /* that mending, scrubbing and resilvering have looked at */
    size_t segments;
    bool scrub_running;
    uint64_t scrub_done_blocks, scrub_total_blocks, scrub_mended,
        scrub_unmendable;       /* of the last */
    uint64_t scrub_finished_ns; /* when the last whole one had read every copy; 0: none has */
    uint64_t scrub_age_s;       /* since then, or since one is owed */
    uint64_t scrub_max_age_s;   /* 0: it is never overdue */
    bool scrub_overdue;
    uint64_t ejections, recruits;
    uint64_t merge_records, merge_conflicts; /* of histories left behind, gone through; of these,
                                                what came to something else here */
    bool compact_running;
    uint64_t compact_done_segments, compact_total_segments; /* looked at, of the last survey */
    uint64_t compact_merged, compact_dropped_bytes;         /* segments replaced; since open */
    uint64_t compact_finished_ns; /* 0: no compaction has been finished since open */
    struct sp_volume_unit_status units[SP_VOLUME_UNITS_MAX];
    uint32_t units_count;
};
void sp_volume_status(struct sp_volume *volume, struct sp_volume_status *ret_status);
/* How long and how large, since the volume was opened. SP_OF_UNIT_WRITE_US: of units[unit] of the
 * status; false: it is not there. */
enum sp_volume_distribution {
    SP_OF_COMMIT_US,
    SP_OF_BATCH_COMMITS,
    SP_OF_BATCH_BYTES,
    SP_OF_UNIT_WRITE_US
};
bool sp_volume_totals(struct sp_volume *volume, enum sp_volume_distribution which, uint32_t unit,
                      struct sp_totals *ret_totals);
/* The vote that units[unit] of the status keeps: what it promised, and which epoch it accepted (0:
 * none). Reads it from the unit. SP_NOT_FOUND: the unit is not there; SP_CORRUPT, SP_IO. */
enum sp_status sp_volume_unit_vote(struct sp_volume *volume, uint32_t unit, uint64_t *ret_promised,
                                   uint32_t *ret_accepted, struct sp_error *error) SP_MUST_USE;
/* Takes a unit back that is out (ejected, stale, absent), or a new one in, in the place of the
 * configuration that `name` names; it is a spare then, or a replica where one is wanted. `open`
 * opens it, on the committer's thread. Waits. SP_NOT_FOUND, SP_EXISTS (it is in use), SP_CONFLICT
 * (it has another history), SP_TIMEOUT, SP_UNAVAILABLE, and what `open` returns. */
typedef enum sp_status sp_unit_opener(void *context, const char *name, struct sp_unit **ret_unit,
                                      struct sp_error *error);
enum sp_status sp_volume_add_unit(struct sp_volume *volume, const char *name, sp_unit_opener *open,
                                  void *context, struct sp_error *error) SP_MUST_USE;
/* Has every copy of every sealed segment read, verified, and mended, from the beginning and as fast
 * as may be. sp_volume_status tells how far it is. */
void sp_volume_scrub_now(struct sp_volume *volume);
/* The same of one unit's copies. SP_NOT_FOUND; SP_UNAVAILABLE: it is no replica. */
enum sp_status sp_volume_scrub_unit(struct sp_volume *volume, const char *name,
                                    struct sp_error *error) SP_MUST_USE;

/* ---- Space: compaction, hold, retired segments ---- */

/* Has the log surveyed and what is not live left out, as fast as may be; sp_volume_status tells how
 * far it is. */
void sp_volume_compact_now(struct sp_volume *volume);
/* How long the volume has been open in its life, as its log says: a clock that nobody sets. */
uint64_t sp_volume_running_ms(struct sp_volume *volume);
uint64_t sp_volume_wall_ns(const struct sp_volume *volume);
/* What was expunged up to this LSN is past its hold and may be gone. Only grows. */
uint64_t sp_volume_horizon_lsn(struct sp_volume *volume);

/* Segments that compaction has replaced, and whose files are still on units. They are no part of
 * the log any more. Deleting them is for the guard: after `hold`, under its policy. */
struct sp_retired_segment {
    uint64_t segment;
    uint32_t generation;
    uint32_t units;               /* that have the file */
    uint64_t bytes;               /* on all of them */
    uint64_t since_lsn, since_ns; /* of the record that says it is retired */
    bool past_hold;               /* since then `hold` has passed, as the last survey found */
    bool erased;                  /* an erasure came before, and may be why it was retired */
};
/* malloc'ed for the caller. */
enum sp_status sp_volume_retired(struct sp_volume *volume, struct sp_retired_segment **ret_list,
                                 size_t *ret_count, struct sp_error *error) SP_MUST_USE;
/* Reads and verifies what replaced the segment on every replica, and deletes its files on all units
 * in use; one that is out keeps what it has. SP_CONFLICT: a replica does not have the replacement
 * whole (the error says which), and nothing was deleted. SP_NOT_FOUND: it is not retired. Waits.
 * For the guard alone. */
enum sp_status sp_volume_delete_retired(struct sp_volume *volume, uint64_t segment,
                                        uint32_t generation, struct sp_error *error) SP_MUST_USE;

#endif
