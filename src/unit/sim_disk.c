#include "unit/sim_internal.h"

#include <stdlib.h>

#define SECTOR_BYTES 512U
#define SECTORS      (SP_UNIT_BLOCK_BYTES / SECTOR_BYTES)

/* splitmix64 */
uint64_t sp_sim_random(uint64_t *random)
{
    uint64_t z = *random += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

/* A test has no use for a simulation that is short of memory. */
static void *allocate(size_t len)
{
    void *memory = calloc(1, len ? len : 1);
    sp_assert(memory);
    return memory;
}

static uint8_t *block_at(struct sp_sim_segment *segment, uint32_t block)
{
    return segment->stored + (size_t)block * SP_UNIT_BLOCK_BYTES;
}

struct sp_sim_segment *sp_sim_find(const struct sp_sim_disk *disk, uint64_t segment,
                                   uint32_t generation)
{
    for (size_t i = 0; i < disk->segments_count; i++)
        if (disk->segments[i]->segment == segment && disk->segments[i]->generation == generation)
            return disk->segments[i];
    return NULL;
}

void sp_sim_store(struct sp_sim_segment *segment, uint32_t count)
{
    if (count <= segment->stored_blocks)
        return;
    if (count < segment->stored_blocks * 2)
        count = segment->stored_blocks * 2;
    uint8_t *grown = realloc(segment->stored, (size_t)count * SP_UNIT_BLOCK_BYTES);
    sp_assert(grown);
    segment->stored = grown;
    memset(block_at(segment, segment->stored_blocks), 0,
           (size_t)(count - segment->stored_blocks) * SP_UNIT_BLOCK_BYTES);
    segment->stored_blocks = count;
}

void sp_sim_segment_free(struct sp_sim_segment *segment)
{
    if (segment)
        free(segment->stored);
    free(segment);
}

/* Ascending, as list has to answer. */
void sp_sim_attach(struct sp_sim_disk *disk, struct sp_sim_segment *segment)
{
    struct sp_sim_segment **grown =
        realloc(disk->segments, (disk->segments_count + 1) * sizeof(struct sp_sim_segment *));
    sp_assert(grown);
    disk->segments = grown;
    size_t at = disk->segments_count++;
    for (; at; at--) {
        const struct sp_sim_segment *before = grown[at - 1];
        if (before->segment < segment->segment ||
            (before->segment == segment->segment && before->generation < segment->generation))
            break;
        grown[at] = grown[at - 1];
    }
    grown[at] = segment;
}

void sp_sim_detach(struct sp_sim_disk *disk, const struct sp_sim_segment *segment)
{
    size_t at = 0;
    while (disk->segments[at] != segment)
        at++;
    disk->segments_count--;
    for (; at < disk->segments_count; at++)
        disk->segments[at] = disk->segments[at + 1];
}

/* The length becomes `blocks`; what was beyond reads as zeros should it grow again. */
static void cut(struct sp_sim_segment *segment, uint32_t blocks)
{
    segment->blocks = blocks;
    if (segment->stored_blocks > blocks)
        memset(block_at(segment, blocks), 0,
               (size_t)(segment->stored_blocks - blocks) * SP_UNIT_BLOCK_BYTES);
}

static struct sp_sim_change *begin(struct sp_sim_disk *disk, enum sp_sim_change_kind kind,
                                   struct sp_sim_segment *segment)
{
    sp_assert(disk->change.kind == SP_SIM_UNCHANGED);
    disk->change = (struct sp_sim_change){
        .kind = kind, .segment = segment, .old_blocks = segment ? segment->blocks : 0};
    return &disk->change;
}

/* The first block of the write lands elsewhere, and at once for good. */
static void go_astray(struct sp_sim_disk *disk, const struct sp_sim_change *change,
                      const uint8_t *blocks)
{
    struct sp_sim_segment *to = sp_sim_find(disk, disk->astray.segment, disk->astray.generation);
    uint32_t at = disk->astray.block;
    bool within = to == change->segment && at >= change->first_block &&
                  at < change->first_block + change->count;
    disk->astray.armed = false;
    if (!to || at >= to->blocks || within)
        return;
    sp_sim_store(to, at + 1);
    memcpy(block_at(change->segment, change->first_block), change->old, SP_UNIT_BLOCK_BYTES);
    memcpy(block_at(to, at), blocks, SP_UNIT_BLOCK_BYTES);
    disk->effects[SP_SIM_DID_MISDIRECT]++;
}

void sp_sim_write(struct sp_sim_disk *disk, struct sp_sim_segment *segment, uint32_t first_block,
                  const uint8_t *blocks, uint32_t count)
{
    struct sp_sim_change *change = begin(disk, SP_SIM_WRITE, segment);
    size_t len = (size_t)count * SP_UNIT_BLOCK_BYTES;
    sp_sim_store(segment, first_block + count);
    change->first_block = first_block;
    change->count = count;
    change->old = allocate(len);
    memcpy(change->old, block_at(segment, first_block), len);
    memcpy(block_at(segment, first_block), blocks, len);
    if (disk->astray.armed)
        go_astray(disk, change, blocks);
    if (segment->blocks < first_block + count)
        segment->blocks = first_block + count;
}

void sp_sim_create(struct sp_sim_disk *disk, uint64_t segment, uint32_t generation, uint32_t blocks)
{
    struct sp_sim_segment *fresh = allocate(sizeof *fresh);
    *fresh =
        (struct sp_sim_segment){.segment = segment, .generation = generation, .blocks = blocks};
    sp_sim_attach(disk, fresh);
    begin(disk, SP_SIM_CREATE, fresh);
}

void sp_sim_seal(struct sp_sim_disk *disk, struct sp_sim_segment *segment, uint32_t blocks)
{
    begin(disk, SP_SIM_SEAL, segment);
    segment->blocks = blocks;
}

void sp_sim_remove(struct sp_sim_disk *disk, struct sp_sim_segment *segment)
{
    begin(disk, SP_SIM_REMOVE, segment);
    sp_sim_detach(disk, segment);
}

void sp_sim_vote(struct sp_sim_disk *disk, struct sp_slice bytes)
{
    struct sp_sim_change *change = begin(disk, SP_SIM_VOTE, NULL);
    change->old = disk->vote;
    change->old_len = disk->vote_len;
    disk->vote = allocate(bytes.len);
    memcpy(disk->vote, bytes.ptr, bytes.len);
    disk->vote_len = bytes.len;
}

void sp_sim_sync(struct sp_sim_disk *disk)
{
    struct sp_sim_change *change = &disk->change;
    if (change->kind == SP_SIM_SEAL)
        cut(change->segment, change->segment->blocks);
    if (change->kind == SP_SIM_REMOVE)
        sp_sim_segment_free(change->segment);
    free(change->old);
    *change = (struct sp_sim_change){0};
}

/* The block as a power failure leaves it. */
static void tear(uint8_t *block, const uint8_t *old, uint64_t *random)
{
    size_t kept = (size_t)(sp_sim_random(random) % (SECTORS + 1)) * SECTOR_BYTES;
    bool garbage = sp_sim_random(random) % 2;
    for (size_t i = kept; i < SP_UNIT_BLOCK_BYTES; i++)
        block[i] = garbage ? (uint8_t)sp_sim_random(random) : old[i];
}

static void settle_write(struct sp_sim_change *change, enum sp_sim_survivors survivors,
                         uint64_t *random, uint64_t *torn, uint64_t *dropped)
{
    struct sp_sim_segment *segment = change->segment;
    uint32_t grown = segment->blocks - change->old_blocks;
    for (uint32_t i = 0; i < change->count; i++) {
        uint8_t *block = block_at(segment, change->first_block + i);
        const uint8_t *old = change->old + (size_t)i * SP_UNIT_BLOCK_BYTES;
        if (survivors == SP_SIM_TORN) {
            tear(block, old, random);
            (*torn)++;
        } else if (survivors == SP_SIM_NONE ||
                   (survivors == SP_SIM_SUBSET && sp_sim_random(random) % 2)) {
            memcpy(block, old, SP_UNIT_BLOCK_BYTES);
            (*dropped)++;
        }
    }
    /* The file's length is metadata, and may lag behind its blocks. */
    if (grown && survivors == SP_SIM_NONE)
        cut(segment, change->old_blocks);
    else if (grown && survivors != SP_SIM_ALL)
        cut(segment, change->old_blocks + (uint32_t)(sp_sim_random(random) % (grown + 1U)));
}

static void take_back(struct sp_sim_disk *disk)
{
    struct sp_sim_change *change = &disk->change;
    switch (change->kind) {
    case SP_SIM_CREATE:
        sp_sim_detach(disk, change->segment);
        sp_sim_segment_free(change->segment);
        break;
    case SP_SIM_SEAL:
        change->segment->blocks = change->old_blocks;
        break;
    case SP_SIM_REMOVE:
        sp_sim_attach(disk, change->segment);
        break;
    case SP_SIM_VOTE:
        free(disk->vote);
        disk->vote = change->old;
        disk->vote_len = change->old_len;
        change->old = NULL;
        break;
    case SP_SIM_UNCHANGED:
    case SP_SIM_WRITE:
        break;
    }
    free(change->old);
    *change = (struct sp_sim_change){0};
}

void sp_sim_settle(struct sp_sim_disk *disk, enum sp_sim_survivors survivors, uint64_t *random)
{
    struct sp_sim_change *change = &disk->change;
    if (change->kind == SP_SIM_UNCHANGED)
        return;
    if (change->kind == SP_SIM_WRITE) {
        settle_write(change, survivors, random, &disk->effects[SP_SIM_DID_TEAR],
                     &disk->effects[SP_SIM_DID_DROP]);
        sp_sim_sync(disk);
    } else if (survivors == SP_SIM_ALL || (survivors != SP_SIM_NONE && sp_sim_random(random) % 2)) {
        sp_sim_sync(disk);
    } else {
        take_back(disk);
        disk->effects[SP_SIM_DID_DROP]++;
    }
}

void sp_sim_disk_free(struct sp_sim_disk *disk)
{
    sp_sim_sync(disk);
    sp_sim_content_free(disk->certain);
    for (size_t i = 0; i < disk->segments_count; i++)
        sp_sim_segment_free(disk->segments[i]);
    free(disk->segments);
    free(disk->vote);
    free(disk);
}
