/* The simulator: random histories of a volume on simulated disks, each held against a model.
 *
 * A history is a configuration and a list of steps, all drawn from a seed. Each step has random
 * numbers of its own, from the seed and its number: so a history can be cut short, and steps be
 * left out of it, and the others stay what they were. After each step the volume is held against
 * the model (test_sim_hold.c).
 *
 *   test_sim_program.c  the program: seeds, processes, what is printed, the shrinker
 *   test_sim_history.c  one history; the table of steps
 *   test_sim_mail.c     steps: what users do, and what the volume does for itself
 *   test_sim_fault.c    steps: what disks and clocks do while the volume is open
 *   test_sim_closed.c   what happens to disks and index between a stop and a start
 *   test_sim_compact.c  steps: compaction, and what it makes needless
 *   test_sim_start.c    stops, crashes, starts
 *   test_sim_hold.c     the model: what must be there
 *   test_sim_log.c      the whole log, read from its beginning
 *   test_sim_index.c    the index: made to fail, damaged, and compared
 *
 * One disk at a time may be *suspect*: it lies about syncs, misplaces a block, is an older copy of
 * itself, or has rot where it is not known yet what was acknowledged there. Until the model has
 * seen to it, nothing is promised without the others; so they stay healthy and are here at each
 * start.
 *
 * A new kind of step: a function with its like, a row in the table of test_sim_history.c (or of
 * test_sim_closed.c), and, if it is a fault, a row in SIM_COUNTS that says that it had effect.
 */
#ifndef SP_STORE_TEST_SIM_H
#define SP_STORE_TEST_SIM_H

#include "store/test_truth.h"
#include "store/volume_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define SIM_UNITS_MAX   5U
#define SIM_GROUP_STEPS 3U
#define SIM_STEPS_MAX   120U
#define SIM_ASIDE_MAX   4U
#define SIM_NOBODY      UINT32_MAX

/* What is counted over all histories, and what it is called. Those marked F are effects of faults:
 * none of them may be 0 in the set of seeds that the tests run. */
#define SIM_COUNTS(N, F)                                                                           \
    N(STEPS, "steps")                                                                              \
    N(STARTS, "starts")                                                                            \
    N(REFUSALS, "starts refused, for want of a majority")                                          \
    N(BATCHES, "batches acknowledged")                                                             \
    N(REFUSED, "batches refused")                                                                  \
    N(EPOCHS, "epochs begun while open")                                                           \
    F(ADOPTED, "refused batches that were there after a start")                                    \
    F(CRASHES, "crashes while open")                                                               \
    F(CRASHED_START, "crashes in a start")                                                         \
    F(CRASHED_TWICE, "crashes in the start after a crash")                                         \
    F(CRASHED_RESILVER, "crashes while a unit was being resilvered")                               \
    F(CRASHED_SCRUB, "crashes while copies were being scrubbed")                                   \
    F(CRASHED_COMPACT, "crashes while the log was being compacted")                                \
    F(DROPPED, "unsynced blocks and changes lost in a crash")                                      \
    F(TORN, "blocks torn")                                                                         \
    F(LIED, "blocks, files, votes lost that were called synced")                                   \
    F(MISDIRECTED, "blocks misdirected")                                                           \
    F(ROTTED, "blocks rotted")                                                                     \
    F(BAD_SERVED, "bad blocks served from a twin")                                                 \
    F(MENDED, "blocks mended or resilvered")                                                       \
    F(FAILED_WRITES, "calls that a disk failing to write refused")                                 \
    F(FAILED_ALL, "calls that a failing disk refused")                                             \
    F(GONE, "calls that a vanished disk refused")                                                  \
    F(FULL, "calls that a full disk refused")                                                      \
    F(ALL_FULL, "batches refused with every replica full")                                         \
    F(STALLED, "waits for a stalled disk")                                                         \
    F(EJECTED, "units ejected")                                                                    \
    F(TWO_SICK, "batches with two units sick")                                                     \
    F(DOWN_TO_TWO, "batches with a fault where two units remained")                                \
    F(VOTES, "votes damaged")                                                                      \
    F(TAKEN_BACK, "units taken back")                                                              \
    F(LACKING, "starts where the units that were here lacked something")                           \
    F(RETURNED, "starts with a unit that had missed something")                                    \
    F(SWAPPED, "starts with units in each other's place")                                          \
    F(BESIDE, "starts refused with a unit beside its copy")                                        \
    F(ROLLED_BACK, "starts with an older copy in a unit's place")                                  \
    F(REBUILT, "starts without the index")                                                         \
    F(POWER_CUT, "starts with an index that a power cut had spoilt")                               \
    F(INDEX_COMMIT, "index commits failed after the log's sync")                                   \
    F(INDEX_PUT, "index changes failed before it")                                                 \
    F(INDEX_START, "starts cut off by a failing index")                                            \
    F(CLOCK, "jumps of the wall clock")                                                            \
    N(COMPACTED, "segments that compaction replaced")                                              \
    N(DELETED, "replaced segments deleted")                                                        \
    N(HELD, "expunged messages found held")                                                        \
    N(COMPARED, "indexes compared with one made anew")                                             \
    N(SAME, "starts after which everything was as before the stop")

#define SIM_COUNT_NAME(name, text) SIM_##name,
enum sim_count { SIM_COUNTS(SIM_COUNT_NAME, SIM_COUNT_NAME) SIM_COUNTS_END };

/* What a history is like. */
enum sim_kind {
    SIM_ANY,   /* by the seed: one of the others */
    SIM_USUAL, /* a little of everything */
    SIM_STORM, /* starts that are cut off, one after the other */
    SIM_SIEGE, /* three units, of which one is enough, and mostly two are out */
};

struct sim_group { /* changes that are submitted together, and so make one batch */
    struct step steps[SIM_GROUP_STEPS];
    uint32_t count;
};

/* Every acknowledged block, as it was then; of a rewritten segment its footer too, without which it
 * is nothing. */
struct sim_shadow {
    uint64_t segment;
    uint32_t generation;
    bool replaced; /* the log has another in its place: nobody needs it */
    uint8_t *blocks;
    uint32_t count;
};

/* What has been seen of a counter never goes back. */
struct sim_seen {
    uint64_t modseq, highestmodseq[MODEL_MAILBOXES];
    uint32_t uidnext[MODEL_MAILBOXES];
};

struct sim {
    uint64_t seed, random;
    uint64_t counts[SIM_COUNTS_END];

    /* The configuration. */
    struct sp_sim_world *world;
    struct sp_uuid id;
    uint32_t units_count, replicas, witnesses, min_copies;
    bool degraded_accept;
    bool compacts;    /* the log is compacted now and then */
    uint64_t hold_ms; /* longer than a history takes, or 0 */
    bool harmless;    /* no disk loses what it has: then whatever was acknowledged comes back */
    enum sim_kind kind;
    uint64_t segment_bytes;

    /* The units. Unit i is "a" + i, and stands at place order[i] of the configuration. */
    uint32_t disks[SIM_UNITS_MAX]; /* the world's, of each unit */
    uint32_t order[SIM_UNITS_MAX];
    enum sp_sim_fault faults[SIM_UNITS_MAX];
    uint32_t aside[SIM_ASIDE_MAX], aside_unit[SIM_ASIDE_MAX], aside_count; /* older copies */
    uint32_t disk_next;
    uint32_t suspect; /* a unit, or SIM_NOBODY */
    bool lying;       /* it is */
    uint64_t astray;  /* not 0: its next write goes astray, and is the so many'th that did */
    uint32_t damaged; /* a bit for each unit whose vote is */
    uint32_t hurt;    /* a bit for each unit that may have bad blocks nobody knows of */
    uint32_t beside;  /* for the next start: this unit is replaced by a copy of another */
    bool power_cut;   /* since the last start */

    /* The volume; NULL: it is not open. */
    struct sp_volume *volume;
    uint64_t ejections, bad_served, mended; /* of this opening, counted already */
    bool crashed;                           /* the stop before was one */
    /* Since an epoch was settled last a start was cut off, or found too few units to write: it may
     * have taken a refused batch for the log's, and whoever has that may be the only one. */
    bool cut_off;
    uint32_t absent; /* at this start: a bit for each unit */
    bool lacking;    /* the units that were here at the start lack something acknowledged */

    /* What is known of it. */
    struct model model;
    struct sim_group *doubts; /* refused batches: any one of them may be there after a start */
    uint32_t doubts_count, doubts_capacity;
    bool settled; /* an epoch was begun since the start: nothing is in doubt but what came after */
    uint32_t epoch;
    struct sim_shadow *shadows;
    uint32_t shadows_count;
    struct sim_seen seen;
    struct sp_digest state; /* of all that a user can see */
    bool state_known;       /* and it is to be the same after the next start */
    uint32_t bodies;
};

extern bool sim_verbose;
#define SIM_SAY(...)                                                                               \
    do {                                                                                           \
        if (sim_verbose)                                                                           \
            fprintf(stderr, __VA_ARGS__);                                                          \
    } while (0)

/* ---- test_sim_program.c ---- */

/* The whole of a program that runs histories; see there. at_end: see below. */
int sim_main(int argc, char **argv, void (*at_end)(struct sim *s, void *context), void *context);

/* ---- test_sim_history.c ---- */

struct sim_options {
    const char *index_path;
    enum sim_kind kind;
    uint32_t steps;           /* at most; 0: as many as the seed says */
    bool skip[SIM_STEPS_MAX]; /* these steps are left out */
    void (*at_end)(struct sim *s,
                   void *context); /* the volume is closed, all disks are whole; NULL */
    void *context;
};
extern const struct sim_options *sim_options;

/* Runs the history of a seed; a violation stops the process (sp_assert). The counts are added to
 * *counts, and *ret_steps is how many steps it has. */
void sim_run(uint64_t seed, uint64_t *counts, uint32_t *ret_steps);
const char *sim_count_text(enum sim_count count);
bool sim_count_is_fault(enum sim_count count);

uint32_t sim_random(struct sim *s, uint32_t below);
bool sim_one_in(struct sim *s, uint32_t n);

/* A step, or what happens between a stop and a start. */
struct sim_step {
    const char *name;
    uint32_t weight;
    void (*run)(struct sim *s);
};
const struct sim_step *sim_choose(struct sim *s, const struct sim_step *table, size_t count);

/* ---- test_sim_mail.c ---- */

enum sp_status sim_run_group(struct sim *s, struct sim_group *group);
uint32_t sim_body_bytes(uint32_t number);
void sim_step_mail(struct sim *s);
void sim_step_watch(struct sim *s);
void sim_step_catalogues(struct sim *s);
void sim_step_tails(struct sim *s);
void sim_step_take_back(struct sim *s);
void sim_step_scrub(struct sim *s);
void sim_step_tend(struct sim *s);
void sim_take_back(struct sim *s, uint32_t unit);

/* ---- test_sim_compact.c ---- */

void sim_step_compact(struct sim *s);
void sim_step_delete(struct sim *s);
/* What is held of expunged mail is what must be. */
void sim_check_held(struct sim *s);

/* ---- test_sim_fault.c ---- */

void sim_set_fault(struct sim *s, uint32_t unit, enum sp_sim_fault fault);
void sim_heal(struct sim *s);
void sim_step_heal(struct sim *s);
void sim_step_fail_writes(struct sim *s);
void sim_step_fail_all(struct sim *s);
void sim_step_gone(struct sim *s);
void sim_step_full(struct sim *s);
void sim_step_two_sick(struct sim *s);
void sim_step_all_full(struct sim *s);
void sim_step_stall(struct sim *s);
void sim_step_lie(struct sim *s);
void sim_step_misdirect(struct sim *s);
void sim_step_clock(struct sim *s);
void sim_step_index_commit(struct sim *s);
void sim_step_index_put(struct sim *s);
void sim_step_crash(struct sim *s);

/* ---- test_sim_closed.c ---- */

/* A few things that happen while the volume is closed. */
void sim_between(struct sim *s);

/* ---- test_sim_start.c ---- */

void sim_crash_after(struct sim *s, uint32_t operations);
/* In good order, or after a crash: closes the volume, and brings the world up again. */
void sim_stop(struct sim *s);
/* Tries to start; false when it was refused, for good reason, or cut off. */
bool sim_try_start(struct sim *s, uint32_t absent, bool crash);
void sim_start(struct sim *s);
void sim_step_restart(struct sim *s);
void sim_open_units(struct sim *s, uint32_t absent, struct sp_unit **ret_units);
void sim_close_units(struct sim *s, struct sp_unit **units);
/* The unit in the volume, and back. */
struct sp_volume_member *sim_member(struct sim *s, uint32_t unit);
uint32_t sim_unit_at(const struct sim *s, uint32_t place);
enum sp_status sim_open_disk(void *context, const char *name, struct sp_unit **ret_unit,
                             struct sp_error *error);

/* ---- test_sim_hold.c ---- */

/* Holds the open volume against the model. */
void sim_hold(struct sim *s);
/* Each replica has what it says that it has. */
void sim_check_copies(struct sim *s);
/* Whether the units that are here lack an acknowledged block, or may. *ret_here: how many there
 * are. The volume is closed. */
bool sim_lacks(struct sim *s, uint32_t absent, uint32_t *ret_here);
/* How many of the units hold the block as it was acknowledged. */
uint32_t sim_holders(const struct sim *s, struct sp_unit *const *units,
                     const struct sim_shadow *shadow, uint32_t block);
/* Whether so much may be damaged on the unit: never the last copy of what was acknowledged; and
 * nothing that may have been, but on one unit. That becomes suspect. */
bool sim_may_damage(struct sim *s, struct sp_unit *const *units, uint32_t unit,
                    const struct sp_unit_segment *file, uint32_t block);
struct sim_shadow *sim_shadow_of(struct sim *s, uint64_t segment, uint32_t generation);
void sim_quiet(struct sim *s);

/* ---- test_sim_log.c ---- */

void sim_read_log(struct sim *s);

/* ---- test_sim_index.c ---- */

/* What a user can see of the volume. */
void sim_digest_index(struct sp_index *index, struct sp_digest *ret_digest);
/* Makes a second index of the log, and compares. */
void sim_compare_index(struct sim *s);
void sim_step_compare(struct sim *s);
/* As a power cut leaves it: its pages are of different times. */
void sim_spoil_index(struct sim *s);
/* The n-th commit (change) from now fails; 0: none does. */
void sim_fail_index_commit(uint32_t n);
void sim_fail_index_put(uint32_t n);
/* How many have, since this was asked last. */
uint32_t sim_index_commits_failed(void);
uint32_t sim_index_puts_failed(void);

#endif
