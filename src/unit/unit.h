/* Units: places that keep segments durably, behind one small interface.
 *
 * Model. A unit holds segments, each a file of 4096-byte blocks named by (segment, generation), and
 * one *vote*: a few kilobytes that are replaced as a whole. It knows nothing of what is in them. A
 * segment can have a *sidecar* beside it, of the same kind and with the same operations: its name
 * is the segment's with SP_UNIT_PARITY in the generation. Kinds: `dir` (a directory), `sim` (a
 * simulated disk, for tests); `rados` and `s3` have their place here.
 *
 * Durability. sp_unit_write is durable when its wait returns SP_OK: the blocks and whatever
 * metadata is needed to find them. The same holds on return for create, seal, remove and
 * vote_write. After SP_IO from a write the unit must not be written again (a failed sync is final):
 * the caller ejects it.
 *
 * Writing is asynchronous, so that all replicas of a volume write and sync in parallel:
 * write_start, then wait. There is at most one write under way on a unit, and its buffer must stay
 * until wait returned something else than SP_TIMEOUT (or for ever: a stalled unit is abandoned with
 * its buffer).
 *
 * Threads. write_start, wait, create, seal, remove and vote_write: one thread at a time (the
 * volume's committer). read, list, check: any thread at any time. create, seal, remove and
 * vote_write answer SP_IO while a write is under way, and when the disk hangs (dir: after ten
 * seconds), so that a committer outlives it.
 *
 * Errors. SP_IO (the error says what and where), SP_NO_SPACE, SP_NOT_FOUND (no such segment, blocks
 * beyond its end), SP_TIMEOUT (wait only), SP_UNAVAILABLE (the unit is gone: its path no longer
 * leads to it), SP_INVALID (not a unit, or another one).
 */
#ifndef SP_UNIT_UNIT_H
#define SP_UNIT_UNIT_H

#include "base/histogram.h"
#include "base/uuid.h"

#define SP_UNIT_BLOCK_BYTES 4096U
#define SP_UNIT_VOTE_MAX    16384U
#define SP_UNIT_DOMAIN_MAX  512U
#define SP_UNIT_PARITY      0x80000000U /* in a generation: the sidecar of that generation */

struct sp_unit;

struct sp_unit_segment {
    uint64_t segment;
    uint32_t generation;
    uint32_t blocks; /* length of the file; of an unsealed segment this counts prepared, unwritten
                        blocks too */
};

struct sp_unit_ops {
    const char *kind;
    /* All segments, ascending by (segment, generation), malloc'ed for the caller. Sidecars are not
     * among them, so that nobody takes one for a segment. */
    enum sp_status (*list)(struct sp_unit *unit, struct sp_unit_segment **ret_list,
                           size_t *ret_count, struct sp_error *error);
    /* All sidecars, likewise. */
    enum sp_status (*list_sidecars)(struct sp_unit *unit, struct sp_unit_segment **ret_list,
                                    size_t *ret_count, struct sp_error *error);
    /* Makes an empty segment ready for fast appending, with room for `blocks` prepared. SP_EXISTS.
     */
    enum sp_status (*create)(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                             uint32_t blocks, struct sp_error *error);
    /* Tells which segment will be created next, so that it can be prepared in the background.
     * Optional. */
    void (*prepare)(struct sp_unit *unit, uint64_t segment, uint32_t generation, uint32_t blocks);
    /* Starts writing count blocks at first_block (may go beyond the prepared length). blocks is
     * 4096-aligned. */
    void (*write_start)(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                        uint32_t first_block, const uint8_t *blocks, uint32_t count);
    /* The outcome of the write under way; SP_TIMEOUT: not yet (ask again). */
    enum sp_status (*wait)(struct sp_unit *unit, uint32_t timeout_ms, struct sp_error *error);
    /* count blocks; SP_NOT_FOUND when the segment or any of them is not there. */
    enum sp_status (*read)(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                           uint32_t first_block, uint8_t *ret_blocks, uint32_t count,
                           struct sp_error *error);
    /* Cuts the segment to its final length. */
    enum sp_status (*seal)(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                           uint32_t blocks, struct sp_error *error);
    enum sp_status (*remove)(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                             struct sp_error *error);
    /* The vote, malloc'ed for the caller; SP_NOT_FOUND: never written. */
    enum sp_status (*vote_read)(struct sp_unit *unit, uint8_t **ret_bytes, size_t *ret_len,
                                struct sp_error *error);
    enum sp_status (*vote_write)(struct sp_unit *unit, struct sp_slice bytes,
                                 struct sp_error *error);
    /* Whether the path still leads to this unit and to its open segment, and its place can be
     * written. Cheap; called every half second. */
    enum sp_status (*check)(struct sp_unit *unit, struct sp_error *error);
    /* Has what the machine's memory holds of the segment forgotten, so that the next read comes
     * from the disk. Optional. */
    void (*forget)(struct sp_unit *unit, uint64_t segment, uint32_t generation);
    /* Bytes that can still be written. */
    enum sp_status (*space)(struct sp_unit *unit, uint64_t *ret_free_bytes, struct sp_error *error);
    /* Closes it; never waits for a stalled write. */
    void (*close)(struct sp_unit *unit);
};

/* What was written, since the unit was opened. A write counts when it is durable; each has a sync
 * of its own. Kept by the unit, read by any thread. */
struct sp_unit_writes {
    _Atomic uint64_t count, bytes;
    struct sp_histogram us; /* from when the unit begins with it until it is durable */
};
/* A failure domain is a set of words, such as "disk:8:0 disk:8:16": whatever takes one of them
 * takes the unit. Two units share a domain when they share a word. */
bool sp_unit_domains_shared(const char *a, const char *b);

/* What every kind begins with. */
struct sp_unit {
    const struct sp_unit_ops *ops;
    char name[64]; /* from the configuration: "a" */
    struct sp_uuid id;
    struct sp_uuid volume;           /* which it was initialised for */
    char domain[SP_UNIT_DOMAIN_MAX]; /* discovered: "disk:8:0" (domain.h) */
    struct sp_unit_writes writes;
};

/* For the kinds: a write became durable. */
static inline void sp_unit_wrote(struct sp_unit *unit, uint64_t bytes, uint64_t us, uint64_t now_ms)
{
    atomic_fetch_add_explicit(&unit->writes.count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&unit->writes.bytes, bytes, memory_order_relaxed);
    sp_histogram_record(&unit->writes.us, us, now_ms);
}

#endif
