/* Compaction: space that expunged mail held is given back.
 *
 *   compact.c          when; which segments; the switch; retired segments
 *   compact_survey.c   what is live, proven from the log
 *   compact_plan.c     of a run of segments: which records go on, which are dropped
 *   compact_write.c    writing a run's replacement, and verifying it
 *   compact_index.c    where bodies lie afterwards
 *
 * A *survey* reads the record tables of all segments once, from the newest back, and marks records
 * that nothing needs: messages whose expunge is past its hold (or that were erased) with their
 * flags, bodies that no other message names, and what a later base states anew (catalogues, tails,
 * manifests). Then *runs* of neighbouring segments with enough dead bytes, or very small ones, are
 * rewritten, the last run first: the live records of S1 .. Sk, byte for byte, become generation g+1
 * of Sk, whose head names what came before S1. Dropped records are stood for by DROPPED records, so
 * that every chain and every LSN stays accounted for.
 *
 * The replacement is written to every replica, synced, read back and verified before its trailer,
 * without which it is nothing, is written anywhere: so whichever unit a start finds the trailer on,
 * all replicas of that time have the data. From the first trailer on it is the log. The index and a
 * MANIFEST record follow with the next batch; files of what was replaced are retired, and stay
 * until the guard has them deleted.
 *
 * Past its hold. CLOCK records state how long the volume was open; an expunge is past its hold when
 * a CLOCK record behind it is older than `hold` both by the wall clock and by the time that the
 * volume was open since. A clock that is set wrong, either way, makes nothing older.
 *
 * All of this runs on the committer's thread, a slice at a time (store/tend.c says why).
 */
#ifndef SP_STORE_COMPACT_H
#define SP_STORE_COMPACT_H

#include "format/spans.h"
#include "store/volume_internal.h"

#define SP_COMPACT_SLICE_BLOCKS 256U

/* ---- compact_survey.c ---- */

/* What was found of one segment. */
struct sp_surveyed {
    uint64_t first_lsn, last_lsn;
    uint64_t live_bytes, dead_bytes; /* of records */
    uint32_t records;
    uint8_t *dead; /* a bit for each LSN from first_lsn on; NULL: nothing in it is dead */
};
struct sp_survey;
/* Of the log as it is now. */
struct sp_survey *sp_survey_new(struct sp_volume *v) SP_MUST_USE;
void sp_survey_free(struct sp_survey *survey);
/* SP_OK: there is more to do; SP_EOF: it is complete; else it cannot be completed. */
enum sp_status sp_survey_step(struct sp_survey *survey, struct sp_error *error) SP_MUST_USE;
/* How many of the log's first segments it has looked at, and how far it has come. */
size_t sp_survey_segments(const struct sp_survey *survey);
size_t sp_survey_done(const struct sp_survey *survey);
const struct sp_surveyed *sp_survey_at(const struct sp_survey *survey, size_t segment);
static inline bool sp_surveyed_is_dead(const struct sp_surveyed *s, uint64_t lsn)
{
    return s->dead && lsn >= s->first_lsn && lsn <= s->last_lsn &&
           (s->dead[(lsn - s->first_lsn) / 8] >> ((lsn - s->first_lsn) % 8) & 1);
}

/* ---- compact_plan.c ---- */

/* A record that goes on, or the DROPPED record that stands where it was. */
struct sp_kept {
    uint64_t lsn;
    uint32_t segment; /* of the run, from 0 */
    uint32_t block, payload_bytes;
    uint16_t offset;
    uint32_t dropped; /* which, from 1; 0: it goes on as it is */
};
struct sp_kept_dropped {
    struct sp_touched chain;
    bool bodies; /* on no chain */
    uint64_t lsn, previous, time_ns, modseq;
    uint32_t uidnext;
    struct sp_spans uids, lsns;
    size_t kept; /* where it stands */
};
struct sp_compact_plan {
    struct sp_kept *kept; /* by LSN */
    size_t kept_count, kept_capacity;
    struct sp_kept_dropped *dropped;
    size_t dropped_count, dropped_capacity;
    uint64_t bytes_before; /* of all records of the run, headers included */
    uint64_t bytes_after;  /* of those that go on */
};
/* Of segments [first, first + count) of the survey. */
enum sp_status sp_compact_plan(struct sp_volume *v, const struct sp_survey *survey, size_t first,
                               size_t count, struct sp_compact_plan *ret_plan,
                               struct sp_error *error) SP_MUST_USE;
void sp_compact_plan_release(struct sp_compact_plan *plan);
/* The record that `kept` stands for; buf holds its payload if it is a DROPPED. */
enum sp_status sp_compact_plan_dropped(const struct sp_compact_plan *plan,
                                       const struct sp_kept *kept, struct sp_buf *buf,
                                       struct sp_record *ret_record) SP_MUST_USE;

/* ---- compact_write.c ---- */

struct sp_rewrite; /* a run being replaced */
/* plan is taken over. SP_UNAVAILABLE, SP_NO_SPACE: not now. */
enum sp_status sp_rewrite_new(struct sp_volume *v, size_t first, size_t count,
                              struct sp_compact_plan *plan, struct sp_rewrite **ret_rewrite,
                              struct sp_error *error) SP_MUST_USE;
/* A slice. SP_OK: there is more; SP_EOF: the replacement is the log, and *ret_segment is what it
 * is; else it came to nothing (a unit that failed has been seen to). */
enum sp_status sp_rewrite_step(struct sp_rewrite *rewrite, struct sp_volume_segment *ret_segment,
                               struct sp_error *error) SP_MUST_USE;
void sp_rewrite_free(struct sp_rewrite *rewrite);
/* Bytes that the last step has read and written. */
uint64_t sp_rewrite_bytes(const struct sp_rewrite *rewrite);
void sp_rewrite_run(const struct sp_rewrite *rewrite, size_t *ret_first, size_t *ret_count);

/* Reads the member's copy of a sealed segment, a slice at a time: every block valid and in its
 * place, the headers with the digest that the trailer states. `with_trailer`: the trailer is there.
 * SP_OK: there is more; SP_EOF: it is sound; SP_CORRUPT, SP_NOT_FOUND, SP_IO. */
struct sp_verify {
    uint32_t block; /* the next one */
    struct sp_digest_state digest;
};
void sp_verify_begin(struct sp_verify *verify);
enum sp_status sp_verify_step(struct sp_volume *v, const struct sp_volume_member *m,
                              const struct sp_volume_segment *segment, bool with_trailer,
                              struct sp_verify *verify, struct sp_error *error) SP_MUST_USE;

#endif
