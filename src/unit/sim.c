#include "unit/sim_internal.h"
#include "base/checksum.h"
#include "base/time.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct sp_sim_world {
    pthread_mutex_t lock;
    uint64_t random;
    uint64_t operations, crash_at;
    enum sp_sim_survivors survivors;
    bool crashed, overlap;
    uint64_t boot; /* restarts so far: units opened before one are dead */
    struct sp_sim_disk *disks;
    uint64_t effects[SP_SIM_EFFECTS];
};

struct sim_unit {
    struct sp_unit unit; /* first */
    struct sp_sim_world *world;
    struct sp_sim_disk *disk;
    uint64_t boot;
    bool write_under_way;
    enum sp_status status; /* of that write; SP_MORE: to be synced by wait */
    struct sp_error error;
    struct sp_slice
        written; /* the caller's buffer and what was in it: it must not change until wait */
    uint32_t written_crc;
    bool broken; /* returned SP_IO from a change */
};

static struct sim_unit *sim(struct sp_unit *unit)
{
    return (struct sim_unit *)unit;
}

/* ---- The world ---- */

struct sp_sim_world *sp_sim_world_new(uint64_t seed)
{
    struct sp_sim_world *world = calloc(1, sizeof *world);
    sp_assert(world);
    world->random = seed;
    pthread_mutex_init(&world->lock, NULL);
    return world;
}

void sp_sim_world_free(struct sp_sim_world *world)
{
    if (!world)
        return;
    while (world->disks) {
        struct sp_sim_disk *next = world->disks->next;
        sp_sim_disk_free(world->disks);
        world->disks = next;
    }
    pthread_mutex_destroy(&world->lock);
    free(world);
}

void sp_sim_crash_at(struct sp_sim_world *world, uint64_t operation,
                     enum sp_sim_survivors survivors)
{
    pthread_mutex_lock(&world->lock);
    world->crash_at = operation;
    world->survivors = survivors;
    pthread_mutex_unlock(&world->lock);
}

uint64_t sp_sim_operations(const struct sp_sim_world *world)
{
    struct sp_sim_world *w = (struct sp_sim_world *)(uintptr_t)world;
    pthread_mutex_lock(&w->lock);
    uint64_t operations = w->operations;
    pthread_mutex_unlock(&w->lock);
    return operations;
}

bool sp_sim_crashed(const struct sp_sim_world *world)
{
    struct sp_sim_world *w = (struct sp_sim_world *)(uintptr_t)world;
    pthread_mutex_lock(&w->lock);
    bool crashed = w->crashed;
    pthread_mutex_unlock(&w->lock);
    return crashed;
}

void sp_sim_restart(struct sp_sim_world *world)
{
    pthread_mutex_lock(&world->lock);
    for (struct sp_sim_disk *disk = world->disks; disk; disk = disk->next) {
        sp_sim_settle(disk, world->survivors, &world->random);
        if (disk->certain && world->crashed)
            sp_sim_find_out(disk, &world->random);
        disk->open = false;
    }
    world->crashed = false;
    world->boot++;
    pthread_mutex_unlock(&world->lock);
}

void sp_sim_overlap_writes(struct sp_sim_world *world, bool overlap)
{
    pthread_mutex_lock(&world->lock);
    world->overlap = overlap;
    pthread_mutex_unlock(&world->lock);
}

static struct sp_sim_disk *find_disk(struct sp_sim_world *world, uint32_t number)
{
    struct sp_sim_disk *disk = world->disks;
    while (disk && disk->number != number)
        disk = disk->next;
    return disk;
}

void sp_sim_set_fault(struct sp_sim_world *world, uint32_t number, enum sp_sim_fault fault)
{
    pthread_mutex_lock(&world->lock);
    struct sp_sim_disk *disk = find_disk(world, number);
    sp_assert(disk);
    disk->fault = fault;
    pthread_mutex_unlock(&world->lock);
}

uint64_t sp_sim_effect(const struct sp_sim_world *world, enum sp_sim_effect effect)
{
    struct sp_sim_world *w = (struct sp_sim_world *)(uintptr_t)world;
    pthread_mutex_lock(&w->lock);
    uint64_t count = w->effects[effect];
    pthread_mutex_unlock(&w->lock);
    return count;
}

void sp_sim_lie(struct sp_sim_world *world, uint32_t number, bool lie)
{
    pthread_mutex_lock(&world->lock);
    struct sp_sim_disk *disk = find_disk(world, number);
    sp_assert(disk);
    if (disk->fault != SP_SIM_STALL)
        sp_sim_sync(disk); /* what a stall had held up */
    sp_assert(disk->change.kind == SP_SIM_UNCHANGED);
    if (lie && !disk->certain)
        disk->certain = sp_sim_content_copy(disk);
    if (!lie) {
        sp_sim_content_free(disk->certain);
        disk->certain = NULL;
    }
    pthread_mutex_unlock(&world->lock);
}

void sp_sim_misdirect(struct sp_sim_world *world, uint32_t number, uint64_t segment,
                      uint32_t generation, uint32_t block)
{
    pthread_mutex_lock(&world->lock);
    struct sp_sim_disk *disk = find_disk(world, number);
    sp_assert(disk);
    disk->astray.armed = true;
    disk->astray.segment = segment;
    disk->astray.generation = generation;
    disk->astray.block = block;
    pthread_mutex_unlock(&world->lock);
}

static uint64_t used_bytes(const struct sp_sim_disk *disk)
{
    uint64_t blocks = 0;
    for (size_t i = 0; i < disk->segments_count; i++)
        blocks += disk->segments[i]->blocks;
    return blocks * SP_UNIT_BLOCK_BYTES;
}

static bool has_room(const struct sp_sim_disk *disk, uint32_t more_blocks)
{
    return disk->fault != SP_SIM_FULL &&
           (!disk->capacity_bytes ||
            used_bytes(disk) + (uint64_t)more_blocks * SP_UNIT_BLOCK_BYTES <= disk->capacity_bytes);
}

void sp_sim_set_capacity(struct sp_sim_world *world, uint32_t number, uint64_t bytes)
{
    pthread_mutex_lock(&world->lock);
    struct sp_sim_disk *disk = find_disk(world, number);
    sp_assert(disk);
    disk->capacity_bytes = bytes;
    pthread_mutex_unlock(&world->lock);
}

uint64_t sp_sim_used(struct sp_sim_world *world, uint32_t number)
{
    pthread_mutex_lock(&world->lock);
    const struct sp_sim_disk *disk = find_disk(world, number);
    sp_assert(disk);
    uint64_t used = used_bytes(disk);
    pthread_mutex_unlock(&world->lock);
    return used;
}

bool sp_sim_rot(struct sp_sim_world *world, uint32_t number, uint64_t segment, uint32_t generation,
                uint32_t block)
{
    pthread_mutex_lock(&world->lock);
    struct sp_sim_disk *disk = find_disk(world, number);
    struct sp_sim_segment *s = disk ? sp_sim_find(disk, segment, generation) : NULL;
    bool found = s && block < s->blocks;
    if (found) {
        sp_sim_store(s, block + 1);
        uint8_t *bytes = s->stored + (size_t)block * SP_UNIT_BLOCK_BYTES;
        uint64_t first = sp_sim_random(&world->random) % (SP_UNIT_BLOCK_BYTES * 8U);
        /* An odd number of neighbours: no two cancel out. */
        for (uint64_t i = 0; i < 3; i++) {
            uint64_t bit = (first + i) % (SP_UNIT_BLOCK_BYTES * 8U);
            bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
    }
    pthread_mutex_unlock(&world->lock);
    return found;
}

/* ---- Failing ---- */

static enum sp_status fail(const struct sim_unit *u, struct sp_error *error, enum sp_status status,
                           const char *why)
{
    char what[80];
    snprintf(what, sizeof what, "unit %s", u->unit.name);
    return sp_error_set(error, status, what, "%s", why);
}

/* Whether the unit can be reached at all. */
static enum sp_status reach(const struct sim_unit *u, struct sp_error *error)
{
    if (u->world->crashed || u->boot != u->world->boot)
        return fail(u, error, SP_IO, "the world has crashed");
    if (u->disk->fault == SP_SIM_GONE || u->disk->fault == SP_SIM_FAIL_ALL)
        u->world->effects[u->disk->fault]++;
    if (u->disk->fault == SP_SIM_GONE)
        return fail(u, error, SP_UNAVAILABLE, "the disk is gone");
    if (u->disk->fault == SP_SIM_FAIL_ALL)
        return fail(u, error, SP_IO, "the disk fails");
    return SP_OK;
}

static enum sp_status full(const struct sim_unit *u, struct sp_error *error)
{
    u->world->effects[SP_SIM_DID_FULL]++;
    return fail(u, error, SP_NO_SPACE, "the disk is full");
}

/* Counts an operation; the world may crash at it. */
static void tick(struct sim_unit *u)
{
    struct sp_sim_world *world = u->world;
    if (!world->crashed && u->boot == world->boot && ++world->operations == world->crash_at)
        world->crashed = true;
}

/* The first operation of a change: whether it may be made. */
static enum sp_status before_change(struct sim_unit *u, struct sp_error *error)
{
    tick(u);
    enum sp_status status = reach(u, error);
    if (status == SP_OK && u->broken)
        status =
            fail(u, error, SP_IO, "an earlier operation failed, and what is stored is uncertain");
    return status;
}

/* The second: makes the change durable. */
static enum sp_status after_change(struct sim_unit *u, struct sp_error *error)
{
    tick(u);
    enum sp_status status = reach(u, error);
    if (status == SP_OK && u->disk->fault == SP_SIM_FAIL_WRITES)
        u->world->effects[SP_SIM_DID_FAIL_WRITES]++;
    if (status == SP_OK && u->disk->fault == SP_SIM_FAIL_WRITES)
        status = fail(u, error, SP_IO, "the disk fails to write");
    if (status == SP_OK)
        sp_sim_sync(u->disk);
    else if (!u->world->crashed && u->boot == u->world->boot)
        sp_sim_settle(u->disk, SP_SIM_SUBSET, &u->world->random);
    return status;
}

static enum sp_status end_change(struct sim_unit *u, enum sp_status status)
{
    if (status == SP_IO)
        u->broken = true;
    return status;
}

/* ---- Operations ---- */

static enum sp_status list_some(struct sp_unit *unit, bool sidecars,
                                struct sp_unit_segment **ret_list, size_t *ret_count,
                                struct sp_error *error)
{
    struct sim_unit *u = sim(unit);
    pthread_mutex_lock(&u->world->lock);
    enum sp_status status = reach(u, error);
    if (status == SP_OK) {
        size_t count = u->disk->segments_count, n = 0;
        struct sp_unit_segment *found = calloc(count ? count : 1, sizeof *found);
        sp_assert(found);
        for (size_t i = 0; i < count; i++) {
            const struct sp_sim_segment *s = u->disk->segments[i];
            if (!(s->generation & SP_UNIT_PARITY) == !sidecars)
                found[n++] = (struct sp_unit_segment){s->segment, s->generation, s->blocks};
        }
        *ret_list = found;
        *ret_count = n;
    }
    pthread_mutex_unlock(&u->world->lock);
    return status;
}

static enum sp_status list(struct sp_unit *unit, struct sp_unit_segment **ret_list,
                           size_t *ret_count, struct sp_error *error)
{
    return list_some(unit, false, ret_list, ret_count, error);
}

static enum sp_status list_sidecars(struct sp_unit *unit, struct sp_unit_segment **ret_list,
                                    size_t *ret_count, struct sp_error *error)
{
    return list_some(unit, true, ret_list, ret_count, error);
}

static enum sp_status read_blocks(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                                  uint32_t first_block, uint8_t *ret_blocks, uint32_t count,
                                  struct sp_error *error)
{
    struct sim_unit *u = sim(unit);
    pthread_mutex_lock(&u->world->lock);
    enum sp_status status = reach(u, error);
    if (status == SP_OK) {
        const struct sp_sim_segment *s = sp_sim_find(u->disk, segment, generation);
        if (!s || first_block > s->blocks || count > s->blocks - first_block)
            status = fail(u, error, SP_NOT_FOUND, s ? "the segment is shorter" : "no such segment");
        for (uint32_t i = 0; i < count && status == SP_OK; i++) {
            uint32_t block = first_block + i;
            uint8_t *to = ret_blocks + (size_t)i * SP_UNIT_BLOCK_BYTES;
            if (block < s->stored_blocks)
                memcpy(to, s->stored + (size_t)block * SP_UNIT_BLOCK_BYTES, SP_UNIT_BLOCK_BYTES);
            else
                memset(to, 0, SP_UNIT_BLOCK_BYTES);
        }
    }
    pthread_mutex_unlock(&u->world->lock);
    return status;
}

static enum sp_status begin_write(struct sim_unit *u, uint64_t segment, uint32_t generation,
                                  uint32_t first_block, const uint8_t *blocks, uint32_t count,
                                  struct sp_error *error)
{
    enum sp_status status = before_change(u, error);
    if (status != SP_OK)
        return status;
    struct sp_sim_segment *s = sp_sim_find(u->disk, segment, generation);
    if (!s)
        return fail(u, error, SP_NOT_FOUND, "no such segment");
    if (first_block + count > s->blocks && !has_room(u->disk, first_block + count - s->blocks))
        return full(u, error);
    sp_sim_write(u->disk, s, first_block, blocks, count);
    if (u->disk->fault == SP_SIM_STALL || u->world->overlap)
        return SP_MORE;
    return after_change(u, error);
}

static void write_start(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                        uint32_t first_block, const uint8_t *blocks, uint32_t count)
{
    struct sim_unit *u = sim(unit);
    sp_assert(count && first_block <= UINT32_MAX - count &&
              (uintptr_t)blocks % SP_UNIT_BLOCK_BYTES == 0);
    pthread_mutex_lock(&u->world->lock);
    sp_assert(!u->write_under_way);
    u->write_under_way = true;
    u->written = sp_slice(blocks, (size_t)count * SP_UNIT_BLOCK_BYTES);
    u->written_crc = sp_crc32c(0, u->written);
    u->status = begin_write(u, segment, generation, first_block, blocks, count, &u->error);
    pthread_mutex_unlock(&u->world->lock);
}

static enum sp_status wait_write(struct sp_unit *unit, uint32_t timeout_ms, struct sp_error *error)
{
    struct sim_unit *u = sim(unit);
    enum sp_status status = SP_TIMEOUT;
    pthread_mutex_lock(&u->world->lock);
    sp_assert(u->write_under_way);
    bool dead = u->world->crashed || u->boot != u->world->boot;
    if (u->disk->fault != SP_SIM_STALL || dead) {
        if (u->status == SP_MORE)
            u->status = after_change(u, &u->error);
        status = end_change(u, u->status);
        if (status != SP_OK && error)
            *error = u->error;
        if (status == SP_OK)
            sp_unit_wrote(unit, u->written.len, 1, sp_now_ms());
        u->write_under_way = false;
        sp_assert(sp_crc32c(0, u->written) == u->written_crc);
    } else {
        u->world->effects[SP_SIM_DID_STALL]++;
        sp_time_pass_ms(timeout_ms);
    }
    pthread_mutex_unlock(&u->world->lock);
    return status;
}

/* What create, seal, remove and vote_write have in common. */
struct call {
    enum sp_sim_change_kind kind;
    uint64_t segment;
    uint32_t generation, blocks;
    struct sp_slice vote;
};

static enum sp_status change(struct sim_unit *u, const struct call *call, struct sp_error *error)
{
    if (u->write_under_way)
        return fail(u, error, SP_IO, "a write has not ended yet");
    enum sp_status status = before_change(u, error);
    if (status != SP_OK)
        return status;
    if (u->disk->fault == SP_SIM_STALL || u->disk->fault == SP_SIM_FAIL_WRITES)
        return fail(u, error, SP_IO, "the disk does not answer");
    struct sp_sim_segment *s = sp_sim_find(u->disk, call->segment, call->generation);
    if (call->kind == SP_SIM_CREATE && s)
        return fail(u, error, SP_EXISTS, "there is such a segment already");
    if (call->kind == SP_SIM_CREATE && !has_room(u->disk, call->blocks))
        return full(u, error);
    if ((call->kind == SP_SIM_SEAL || call->kind == SP_SIM_REMOVE) && !s)
        return fail(u, error, SP_NOT_FOUND, "no such segment");
    if (call->kind == SP_SIM_SEAL && call->blocks > s->blocks)
        return fail(u, error, SP_NOT_FOUND, "the segment is shorter");
    if (call->kind == SP_SIM_CREATE)
        sp_sim_create(u->disk, call->segment, call->generation, call->blocks);
    else if (call->kind == SP_SIM_SEAL)
        sp_sim_seal(u->disk, s, call->blocks);
    else if (call->kind == SP_SIM_REMOVE)
        sp_sim_remove(u->disk, s);
    else
        sp_sim_vote(u->disk, call->vote);
    return after_change(u, error);
}

static enum sp_status locked_change(struct sp_unit *unit, const struct call *call,
                                    struct sp_error *error)
{
    struct sim_unit *u = sim(unit);
    pthread_mutex_lock(&u->world->lock);
    enum sp_status status = end_change(u, change(u, call, error));
    pthread_mutex_unlock(&u->world->lock);
    return status;
}

static enum sp_status create(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                             uint32_t blocks, struct sp_error *error)
{
    struct call call = {SP_SIM_CREATE, segment, generation, blocks, {NULL, 0}};
    return locked_change(unit, &call, error);
}

static enum sp_status seal(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                           uint32_t blocks, struct sp_error *error)
{
    struct call call = {SP_SIM_SEAL, segment, generation, blocks, {NULL, 0}};
    return locked_change(unit, &call, error);
}

static enum sp_status remove_segment(struct sp_unit *unit, uint64_t segment, uint32_t generation,
                                     struct sp_error *error)
{
    struct call call = {SP_SIM_REMOVE, segment, generation, 0, {NULL, 0}};
    return locked_change(unit, &call, error);
}

static enum sp_status vote_write(struct sp_unit *unit, struct sp_slice bytes,
                                 struct sp_error *error)
{
    struct call call = {.kind = SP_SIM_VOTE, .vote = bytes};
    sp_assert(bytes.len && bytes.len <= SP_UNIT_VOTE_MAX);
    return locked_change(unit, &call, error);
}

static enum sp_status vote_read(struct sp_unit *unit, uint8_t **ret_bytes, size_t *ret_len,
                                struct sp_error *error)
{
    struct sim_unit *u = sim(unit);
    pthread_mutex_lock(&u->world->lock);
    enum sp_status status = reach(u, error);
    if (status == SP_OK && !u->disk->vote)
        status = fail(u, error, SP_NOT_FOUND, "no vote was ever written");
    if (status == SP_OK) {
        uint8_t *bytes = malloc(u->disk->vote_len);
        sp_assert(bytes);
        memcpy(bytes, u->disk->vote, u->disk->vote_len);
        *ret_bytes = bytes;
        *ret_len = u->disk->vote_len;
    }
    pthread_mutex_unlock(&u->world->lock);
    return status;
}

static enum sp_status check(struct sp_unit *unit, struct sp_error *error)
{
    struct sim_unit *u = sim(unit);
    pthread_mutex_lock(&u->world->lock);
    enum sp_status status = reach(u, error);
    pthread_mutex_unlock(&u->world->lock);
    return status;
}

static enum sp_status space(struct sp_unit *unit, uint64_t *ret_free_bytes, struct sp_error *error)
{
    struct sim_unit *u = sim(unit);
    pthread_mutex_lock(&u->world->lock);
    enum sp_status status = reach(u, error);
    if (status == SP_OK)
        *ret_free_bytes = !has_room(u->disk, 0)     ? 0
                          : u->disk->capacity_bytes ? u->disk->capacity_bytes - used_bytes(u->disk)
                                                    : 1ULL << 40;
    pthread_mutex_unlock(&u->world->lock);
    return status;
}

static void close_unit(struct sp_unit *unit)
{
    struct sim_unit *u = sim(unit);
    if (!u)
        return;
    pthread_mutex_lock(&u->world->lock);
    if (u->boot == u->world->boot)
        u->disk->open = false;
    pthread_mutex_unlock(&u->world->lock);
    free(u);
}

static const struct sp_unit_ops sim_ops = {
    .kind = "sim",
    .list = list,
    .list_sidecars = list_sidecars,
    .create = create,
    .write_start = write_start,
    .wait = wait_write,
    .read = read_blocks,
    .seal = seal,
    .remove = remove_segment,
    .vote_read = vote_read,
    .vote_write = vote_write,
    .check = check,
    .space = space,
    .close = close_unit,
};

/* ---- Init and open ---- */

/* At the end, so that restarts draw in the order of making. */
static void add_disk(struct sp_sim_world *world, struct sp_sim_disk *disk)
{
    struct sp_sim_disk **last = &world->disks;
    while (*last)
        last = &(*last)->next;
    *last = disk;
}

enum sp_status sp_sim_clone(struct sp_sim_world *world, uint32_t number, uint32_t copy)
{
    enum sp_status status = SP_EXISTS;
    pthread_mutex_lock(&world->lock);
    const struct sp_sim_disk *disk = find_disk(world, number);
    sp_assert(disk);
    if (!find_disk(world, copy)) {
        struct sp_sim_disk *clone = calloc(1, sizeof *clone);
        sp_assert(clone);
        *clone = (struct sp_sim_disk){
            .number = copy, .id = disk->id, .volume = disk->volume, .effects = world->effects};
        sp_sim_content_take(clone, sp_sim_content_copy(disk));
        add_disk(world, clone);
        status = SP_OK;
    }
    pthread_mutex_unlock(&world->lock);
    return status;
}

enum sp_status sp_sim_unit_init(struct sp_sim_world *world, uint32_t number,
                                const struct sp_uuid *volume, struct sp_uuid *ret_unit)
{
    enum sp_status status = SP_EXISTS;
    pthread_mutex_lock(&world->lock);
    if (!find_disk(world, number)) {
        struct sp_sim_disk *disk = calloc(1, sizeof *disk);
        sp_assert(disk);
        disk->number = number;
        disk->effects = world->effects;
        disk->volume = *volume;
        for (size_t i = 0; i < sizeof disk->id.bytes; i++)
            disk->id.bytes[i] = (uint8_t)sp_sim_random(&world->random);
        disk->id.bytes[6] = (uint8_t)((disk->id.bytes[6] & 0x0f) | 0x40);
        disk->id.bytes[8] = (uint8_t)((disk->id.bytes[8] & 0x3f) | 0x80);
        add_disk(world, disk);
        *ret_unit = disk->id;
        status = SP_OK;
    }
    pthread_mutex_unlock(&world->lock);
    return status;
}

/* Whether the disk can be opened now. */
static enum sp_status admit(struct sp_sim_disk *disk, const struct sim_unit *u,
                            struct sp_error *error)
{
    if (!disk)
        return fail(u, error, SP_UNAVAILABLE, "there is no such disk");
    enum sp_status status = reach(u, error);
    if (status != SP_OK)
        return status;
    if (disk->open)
        return fail(u, error, SP_CONFLICT, "it is open already");
    if (disk->change.kind == SP_SIM_UNCHANGED)
        return SP_OK;
    /* Closed while a write was stalled: that write ends when the disk answers again. */
    if (disk->fault == SP_SIM_STALL)
        return fail(u, error, SP_CONFLICT, "a write of its last user has not ended");
    sp_sim_sync(disk);
    return SP_OK;
}

enum sp_status sp_sim_unit_open(struct sp_sim_world *world, uint32_t number, const char *name,
                                struct sp_unit **ret_unit, struct sp_error *error)
{
    struct sim_unit *u = calloc(1, sizeof *u);
    sp_assert(u);
    u->unit.ops = &sim_ops;
    snprintf(u->unit.name, sizeof u->unit.name, "%s", name);
    snprintf(u->unit.domain, sizeof u->unit.domain, "sim:%u", number);
    pthread_mutex_lock(&world->lock);
    u->world = world;
    u->boot = world->boot;
    u->disk = find_disk(world, number);
    enum sp_status status = admit(u->disk, u, error);
    if (status == SP_OK) {
        u->unit.id = u->disk->id;
        u->unit.volume = u->disk->volume;
        u->disk->open = true;
        *ret_unit = &u->unit;
    }
    pthread_mutex_unlock(&world->lock);
    if (status != SP_OK)
        free(u);
    return status;
}
