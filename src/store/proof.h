/* Whether a volume's log is safe without one of its units: what the guard asks before it lets a
 * unit go.
 *
 * Model. A proof reads every segment's data blocks from every replica but the one in question, from
 * the disk and not from memory, each copy whole: each block is the one asked for, chained to the
 * one before it, and all of them together are what the segment's footer, or the writer, says they
 * are. Then each segment must have min_copies such copies in failure domains of their own. What a
 * proof has read in the last hour it does not read again: so one that was made for a request is
 * soon brought up to date when the request is carried out. What was written since then is on every
 * replica by its sync.
 *
 * Threads. One at a time, never the committer's, but for sp_proof_holds, which reads no unit; and
 * sp_proof_stop and sp_proof_progress, which any thread may call. It must be freed before the
 * volume is closed.
 */
#ifndef SP_STORE_PROOF_H
#define SP_STORE_PROOF_H

#include "store/volume.h"

#define SP_VOTERS_MIN 3U /* fewer must never be left */

struct sp_proof;
/* mono_ms: the clock by which it says what it has read lately; NULL: the machine's. */
struct sp_proof *sp_proof_new(struct sp_volume *volume, uint64_t (*mono_ms)(void)) SP_MUST_USE;
void sp_proof_free(struct sp_proof *proof);

/* Reads what has not been read lately. without: the unit in question; nil: none. A copy that is not
 * sound is no failure: sp_proof_holds says what came of it. SP_SHUTDOWN: stopped; SP_NO_MEMORY. */
enum sp_status sp_proof_read(struct sp_proof *proof, const struct sp_uuid *without,
                             struct sp_error *error) SP_MUST_USE;
void sp_proof_progress(struct sp_proof *proof, uint64_t *ret_done_bytes, uint64_t *ret_total_bytes);
/* Ends sp_proof_read, now and later. */
void sp_proof_stop(struct sp_proof *proof);

struct sp_proof_result {
    size_t segments, lacking; /* of the log; of those, with too few copies */
    uint32_t copies;          /* the fewest that a segment has */
    bool shared_domain; /* some copies share a failure domain, and were counted all the same */
};
/* Whether the log is safe without the unit. shared_ok: copies in one failure domain count each.
 * SP_DENIED: it is not; ret_findings (may be NULL) gets lines of text that say what is missing. */
enum sp_status sp_proof_holds(struct sp_proof *proof, const struct sp_uuid *without, bool shared_ok,
                              struct sp_proof_result *ret_result,
                              struct sp_buf *ret_findings) SP_MUST_USE;

/* ---- Letting a unit go (retire.c) ---- */

/* The unit that the name means, or its UUID in text. SP_NOT_FOUND: no configured unit; or one that
 * is absent, so that nobody knows which of several it is: give its UUID. */
enum sp_status sp_volume_find_unit(struct sp_volume *volume, const char *name_or_id,
                                   struct sp_uuid *ret_id, struct sp_error *error) SP_MUST_USE;
/* Whether it is a member of the newest epoch: a voter. */
bool sp_volume_is_member(struct sp_volume *volume, const struct sp_uuid *id);
/* How many units would vote without it. */
uint32_t sp_volume_voters_without(struct sp_volume *volume, const struct sp_uuid *id);
/* Whether it may hold some of the log, so that a proof must read the others. */
bool sp_volume_holds_log(struct sp_volume *volume, const struct sp_uuid *id);
/* Whether it has a history that was left behind when a loss was accepted, and is not merged yet:
 * what was acknowledged in it may be nowhere else. */
bool sp_volume_has_left_history(struct sp_volume *volume, const struct sp_uuid *id);
/* If it is a replica: makes a spare a replica beside it, where there is one, so that the log comes
 * to be on enough others. Harmless: it is not undone. Waits; any thread but the committer's. */
enum sp_status sp_volume_stand_in(struct sp_volume *volume, const struct sp_uuid *id,
                                  struct sp_error *error) SP_MUST_USE;
/* Begins an epoch of which it is no member, if the proof holds and at least three voters are left;
 * it takes part in nothing from then on. SP_OK too when it was none. SP_DENIED: it is not proven.
 * proof NULL: it holds nothing of the log. */
enum sp_status sp_volume_retire_unit(struct sp_volume *volume, const struct sp_uuid *id,
                                     struct sp_proof *proof, bool shared_ok,
                                     struct sp_error *error) SP_MUST_USE;
/* Closes a unit that is no member, so that it can be wiped. SP_CONFLICT: it is one. SP_DENIED:
 * it has a history that was left behind. */
enum sp_status sp_volume_release_unit(struct sp_volume *volume, const struct sp_uuid *id,
                                      struct sp_error *error) SP_MUST_USE;

#endif
