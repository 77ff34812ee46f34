/* The disks of the simulated unit: what is stored, and the one change that is not synced yet. */
#ifndef SP_UNIT_SIM_INTERNAL_H
#define SP_UNIT_SIM_INTERNAL_H

#include "unit/sim.h"

struct sp_sim_segment {
    uint64_t segment;
    uint32_t generation;
    uint32_t blocks;        /* length */
    uint32_t stored_blocks; /* held in memory; the rest reads as zeros */
    uint8_t *stored;
};

enum sp_sim_change_kind {
    SP_SIM_UNCHANGED,
    SP_SIM_WRITE,
    SP_SIM_CREATE,
    SP_SIM_SEAL,
    SP_SIM_REMOVE,
    SP_SIM_VOTE,
};

/* A change that readers see already, with what is needed to take it back. */
struct sp_sim_change {
    enum sp_sim_change_kind kind;
    struct sp_sim_segment *segment; /* of a removal: no longer in the list */
    uint32_t first_block, count;    /* of a write */
    uint32_t old_blocks;
    uint8_t *old; /* the blocks before the write; the vote before */
    size_t old_len;
};

/* What a disk has; of one that lies, what it has for certain. */
struct sp_sim_content {
    struct sp_sim_segment **segments;
    size_t segments_count;
    uint8_t *vote;
    size_t vote_len;
};

struct sp_sim_disk {
    struct sp_sim_disk *next;
    uint32_t number;
    struct sp_uuid id, volume;
    enum sp_sim_fault fault;
    uint64_t capacity_bytes; /* 0: there is always room */
    bool open;               /* since the last restart */
    struct sp_sim_segment **segments;
    size_t segments_count;
    uint8_t *vote;
    size_t vote_len;
    struct sp_sim_change change;
    struct sp_sim_content *certain; /* it lies: what was synced before */
    struct {                        /* where a block of the next write lands */
        bool armed;
        uint64_t segment;
        uint32_t generation, block;
    } astray;
    uint64_t *effects; /* the world's counters */
};

struct sp_sim_segment *sp_sim_find(const struct sp_sim_disk *disk, uint64_t segment,
                                   uint32_t generation);
/* Makes `count` blocks from the beginning be held in memory. */
void sp_sim_store(struct sp_sim_segment *segment, uint32_t count);
void sp_sim_segment_free(struct sp_sim_segment *segment);
/* Puts it in among the disk's, in order; takes it out. */
void sp_sim_attach(struct sp_sim_disk *disk, struct sp_sim_segment *segment);
void sp_sim_detach(struct sp_sim_disk *disk, const struct sp_sim_segment *segment);
void sp_sim_disk_free(struct sp_sim_disk *disk);

/* Changes. There must be none that is unsynced. */
void sp_sim_write(struct sp_sim_disk *disk, struct sp_sim_segment *segment, uint32_t first_block,
                  const uint8_t *blocks, uint32_t count);
void sp_sim_create(struct sp_sim_disk *disk, uint64_t segment, uint32_t generation,
                   uint32_t blocks);
void sp_sim_seal(struct sp_sim_disk *disk, struct sp_sim_segment *segment, uint32_t blocks);
void sp_sim_remove(struct sp_sim_disk *disk, struct sp_sim_segment *segment);
void sp_sim_vote(struct sp_sim_disk *disk, struct sp_slice bytes);

/* The change is durable. */
void sp_sim_sync(struct sp_sim_disk *disk);
/* The power fails: what is unsynced survives as the policy says; *random is the world's generator.
 */
void sp_sim_settle(struct sp_sim_disk *disk, enum sp_sim_survivors survivors, uint64_t *random);
uint64_t sp_sim_random(uint64_t *random);

/* ---- sim_lie.c ---- */

struct sp_sim_content *sp_sim_content_copy(const struct sp_sim_disk *disk);
void sp_sim_content_free(struct sp_sim_content *content);
/* The power fails on a disk that lied. There must be no change that is unsynced. */
void sp_sim_find_out(struct sp_sim_disk *disk, uint64_t *random);
/* The disk gets all that the content has. */
void sp_sim_content_take(struct sp_sim_disk *disk, struct sp_sim_content *content);

#endif
