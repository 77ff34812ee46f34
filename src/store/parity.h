/* Parity in sealed segments: sidecars made, kept whole, and used (format/parity.h says what they
 * are). Not for others than the store.
 *
 * A unit with `parity` configured gets a sidecar for each segment of the log but the one that is
 * being written, made by the committer a slice at a time (parity_make.c). A block that no unit has
 * sound is rebuilt from any unit's sidecar (parity.c): all units hold the same segments, so that
 * one unit's parity and another's blocks go together. What is rebuilt carries its own checksum and
 * its place, and is checked like any block that was read.
 */
#ifndef SP_STORE_PARITY_H
#define SP_STORE_PARITY_H

#include "format/parity.h"
#include "store/volume_internal.h"

/* ---- parity.c: any thread ---- */

/* Whether it is a block of a sidecar of this segment. */
bool sp_parity_is_of(const struct sp_volume *v, const struct sp_volume_segment *segment,
                     const struct sp_parity_header *header);
/* Rebuilds blocks from `first` on, as far as one after the other can be had, at most count. Returns
 * how many. except: a member of whose blocks nothing is believed if it lacks the segment; or NULL.
 * Under units_lock. */
uint32_t sp_parity_rebuild(struct sp_volume *v, const struct sp_volume_segment *segment,
                           uint32_t first, uint8_t *ret_blocks, uint32_t count,
                           const struct sp_volume_member *except);
/* What the sidecars say of a segment of which number, generation and epoch are known: its data
 * blocks and footer blocks. Under units_lock, or alone. SP_NOT_FOUND: no unit has one. */
enum sp_status sp_parity_describe(struct sp_volume *v,
                                  struct sp_volume_segment *segment) SP_MUST_USE;

/* ---- parity_make.c: the committer ---- */

/* How many blocks the member's sidecar of the segment has; 0: it shall have none. */
uint32_t sp_parity_blocks_of(const struct sp_volume_member *m,
                             const struct sp_volume_segment *segment);
/* Does one slice of what is to be made; false: nothing is. */
bool sp_parity_step(struct sp_volume *v, uint64_t now);
/* Verifies blocks of a sidecar, from `first` on, at most count; where they are not sound it is made
 * again, in the steps that follow. false: not now, a sidecar is being made. */
bool sp_parity_verify(struct sp_volume *v, struct sp_volume_member *m,
                      const struct sp_volume_segment *segment, uint32_t first, uint32_t count);
/* Looks again at all segments of the member, and for sidecars whose segment is gone. */
void sp_parity_look_again(struct sp_volume *v, struct sp_volume_member *m);
void sp_parity_stop(struct sp_volume *v);

/* How many segments' sidecars the member still has to be given, or has not been looked at for. Any
 * thread. */
uint32_t sp_parity_lacking(struct sp_volume *v, const struct sp_volume_member *m);

#endif
