/* The simulated unit: a disk in memory that fails on demand, for tests of the store.
 *
 * Model. A world holds disks and one operation counter. Every operation of every unit (create,
 * write, sync, seal, remove, vote) counts; at operation `crash_at` the world crashes: that
 * operation and all later ones fail with SP_IO, what was not synced is kept, dropped or torn by the
 * survivor policy, and the units must be closed and opened again (sp_sim_restart). Deterministic:
 * all randomness comes from the seed. Writes complete inside write_start.
 *
 * Each call counts as two operations, the change and its sync: at a crash between them the change
 * is unsynced. Changes of metadata survive as a whole or not at all (a segment made or not, cut or
 * not, the old vote or the new one). A write that fails by a fault leaves some of its blocks
 * behind, by the seed. A stalled write takes the time it is waited for of a simulated clock
 * (base/time.h). As with `dir`, a unit that returned SP_IO from a change refuses further ones
 * until it is opened again, and a disk is open once at a time (SP_CONFLICT).
 *
 * Threads. Units may be used as unit.h says; the functions here lock the world as well.
 */
#ifndef SP_UNIT_SIM_H
#define SP_UNIT_SIM_H

#include "unit/unit.h"

struct sp_sim_world;

enum sp_sim_survivors {
    SP_SIM_NONE,   /* nothing unsynced survives a crash */
    SP_SIM_ALL,    /* everything issued survives */
    SP_SIM_SUBSET, /* each unsynced block survives or not, by the seed */
    SP_SIM_TORN,   /* each unsynced block survives up to a 512-byte sector boundary, the rest old or
                      garbage */
};

struct sp_sim_world *sp_sim_world_new(uint64_t seed);
void sp_sim_world_free(struct sp_sim_world *world);
/* 0: never. Counted from the world's beginning. */
void sp_sim_crash_at(struct sp_sim_world *world, uint64_t operation,
                     enum sp_sim_survivors survivors);
uint64_t sp_sim_operations(const struct sp_sim_world *world);
bool sp_sim_crashed(const struct sp_sim_world *world);
/* After a crash (or a plain stop): applies the survivor policy, forgets the crash, lets units be
 * opened again. */
void sp_sim_restart(struct sp_sim_world *world);

/* Off at first: a write is synced within write_start, so that at a crash at most one unit has
 * unsynced blocks. On: it is synced by wait, so that a crash may find the same batch half written
 * on several units. */
void sp_sim_overlap_writes(struct sp_sim_world *world, bool overlap);

/* Makes (once) and opens disk number `disk` of the world as a unit. A disk outlives the units
 * opened on it. */
enum sp_status sp_sim_unit_init(struct sp_sim_world *world, uint32_t disk,
                                const struct sp_uuid *volume, struct sp_uuid *ret_unit);
enum sp_status sp_sim_unit_open(struct sp_sim_world *world, uint32_t disk, const char *name,
                                struct sp_unit **ret_unit, struct sp_error *error) SP_MUST_USE;

/* Faults, from now on. */
enum sp_sim_fault {
    SP_SIM_HEALTHY,
    SP_SIM_FAIL_WRITES, /* SP_IO */
    SP_SIM_FAIL_ALL,    /* reads too */
    SP_SIM_GONE,        /* SP_UNAVAILABLE for everything, check included */
    SP_SIM_FULL,        /* SP_NO_SPACE for create and for writes beyond what is prepared */
    SP_SIM_STALL,       /* wait returns SP_TIMEOUT for ever */
};
void sp_sim_set_fault(struct sp_sim_world *world, uint32_t disk, enum sp_sim_fault fault);
/* What the faults came to, since the world's beginning. */
enum sp_sim_effect {
    SP_SIM_DID_FAIL_WRITES = SP_SIM_FAIL_WRITES, /* calls that a disk's fault answered */
    SP_SIM_DID_FAIL_ALL = SP_SIM_FAIL_ALL,
    SP_SIM_DID_GONE = SP_SIM_GONE,
    SP_SIM_DID_FULL = SP_SIM_FULL,
    SP_SIM_DID_STALL = SP_SIM_STALL,
    SP_SIM_DID_DROP, /* unsynced blocks and changes that a crash took */
    SP_SIM_DID_TEAR, /* blocks that it tore */
    SP_SIM_DID_LIE,  /* blocks, files and votes that it took although they were called synced */
    SP_SIM_DID_MISDIRECT, /* blocks that landed in another place */
    SP_SIM_EFFECTS,
};
uint64_t sp_sim_effect(const struct sp_sim_world *world, enum sp_sim_effect effect);

/* The disk says that it synced, and does not: at the next crash what came since may be lost, some
 * or all of it. The lie ends with the crash, or by this (then all is synced). */
void sp_sim_lie(struct sp_sim_world *world, uint32_t disk, bool lie);
/* One block of the disk's next write lands there instead, over what stands there. */
void sp_sim_misdirect(struct sp_sim_world *world, uint32_t disk, uint64_t segment,
                      uint32_t generation, uint32_t block);
/* Makes disk `copy` another with all that disk `number` has, its id too. SP_EXISTS. */
enum sp_status sp_sim_clone(struct sp_sim_world *world, uint32_t number, uint32_t copy) SP_MUST_USE;
/* How much the disk can hold in all; 0: whatever is asked, as at first. Then SP_NO_SPACE as with
 * SP_SIM_FULL. */
void sp_sim_set_capacity(struct sp_sim_world *world, uint32_t disk, uint64_t bytes);
uint64_t sp_sim_used(struct sp_sim_world *world, uint32_t disk);
/* Flips bits in one stored block; false when there is no such block. */
bool sp_sim_rot(struct sp_sim_world *world, uint32_t disk, uint64_t segment, uint32_t generation,
                uint32_t block);

#endif
