/* What is particular to the `sim` unit: crashes, what survives them, faults. */
#include "unit/sim.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#define BLOCKS 8U
#define SECTOR 512U

static const struct sp_uuid volume = {{9, 9, 9, 9, 9, 9, 0x49, 9, 0x89, 9, 9, 9, 9, 9, 9, 9}};
static _Alignas(SP_UNIT_BLOCK_BYTES) uint8_t first[BLOCKS * SP_UNIT_BLOCK_BYTES];
static _Alignas(SP_UNIT_BLOCK_BYTES) uint8_t second[BLOCKS * SP_UNIT_BLOCK_BYTES];
static uint8_t got[BLOCKS * 2 * SP_UNIT_BLOCK_BYTES];

static int setup(void **state)
{
    struct sp_sim_world *world = sp_sim_world_new(42);
    struct sp_uuid id;
    memset(first, 0x11, sizeof first);
    memset(second, 0x22, sizeof second);
    assert_int_equal(sp_sim_unit_init(world, 1, &volume, &id), SP_OK);
    assert_int_equal(sp_sim_unit_init(world, 1, &volume, &id), SP_EXISTS);
    assert_int_equal(sp_sim_unit_init(world, 2, &volume, &id), SP_OK);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    sp_sim_world_free(*state);
    return 0;
}

static struct sp_unit *open_disk(struct sp_sim_world *world, uint32_t disk)
{
    struct sp_unit *unit = NULL;
    struct sp_error error = {0};
    enum sp_status status = sp_sim_unit_open(world, disk, "a", &unit, &error);
    if (status != SP_OK)
        sp_error_print(&error);
    assert_int_equal(status, SP_OK);
    return unit;
}

static enum sp_status write_now(struct sp_unit *unit, uint64_t segment, uint32_t at,
                                const uint8_t *blocks, uint32_t count)
{
    unit->ops->write_start(unit, segment, 0, at, blocks, count);
    return unit->ops->wait(unit, 10, NULL);
}

static enum sp_status read_back(struct sp_unit *unit, uint64_t segment, uint32_t count)
{
    return unit->ops->read(unit, segment, 0, 0, got, count, NULL);
}

static bool all(const uint8_t *bytes, size_t len, uint8_t value)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

static const uint8_t *block(uint32_t index)
{
    return got + (size_t)index * SP_UNIT_BLOCK_BYTES;
}

static void test_counting(void **state)
{
    struct sp_sim_world *world = *state;
    struct sp_unit *unit = open_disk(world, 1);
    uint64_t before = sp_sim_operations(world);
    assert_int_equal(unit->ops->create(unit, 1, 0, BLOCKS, NULL), SP_OK);
    assert_int_equal(write_now(unit, 1, 0, first, 1), SP_OK);
    assert_int_equal(unit->ops->vote_write(unit, SP_S("vote"), NULL), SP_OK);
    assert_int_equal(unit->ops->seal(unit, 1, 0, 1, NULL), SP_OK);
    assert_int_equal(unit->ops->remove(unit, 1, 0, NULL), SP_OK);
    assert_int_equal(sp_sim_operations(world), before + 10);
    struct sp_unit_segment *list;
    size_t count;
    assert_int_equal(unit->ops->list(unit, &list, &count, NULL), SP_OK);
    free(list);
    assert_int_equal(unit->ops->check(unit, NULL), SP_OK);
    assert_int_equal(sp_sim_operations(world), before + 10);
    unit->ops->close(unit);
}

static void test_lock_and_restart(void **state)
{
    struct sp_sim_world *world = *state;
    struct sp_unit *unit = open_disk(world, 1), *again;
    struct sp_error error = {0};
    assert_int_equal(sp_sim_unit_open(world, 1, "a", &again, &error), SP_CONFLICT);
    assert_int_equal(sp_sim_unit_open(world, 3, "a", &again, &error), SP_UNAVAILABLE);
    assert_int_equal(unit->ops->create(unit, 1, 0, BLOCKS, NULL), SP_OK);
    sp_sim_restart(world);
    /* The old one is dead, and closing it does no harm to the new one. */
    assert_int_equal(unit->ops->check(unit, NULL), SP_IO);
    assert_int_equal(write_now(unit, 1, 0, first, 1), SP_IO);
    again = open_disk(world, 1);
    unit->ops->close(unit);
    assert_int_equal(sp_sim_unit_open(world, 1, "a", &unit, &error), SP_CONFLICT);
    assert_int_equal(read_back(again, 1, BLOCKS), SP_OK);
    assert_true(all(got, sizeof first, 0));
    again->ops->close(again);
}

/* Writes `first` durably, then `second` over its later half and beyond the end, with a crash
 * between that write and its sync; opens again. */
static struct sp_unit *crash_in_write(struct sp_sim_world *world, enum sp_sim_survivors survivors)
{
    const uint64_t segment = 1;
    struct sp_unit *unit = open_disk(world, 1);
    (void)unit->ops->remove(unit, segment, 0, NULL);
    assert_int_equal(unit->ops->create(unit, segment, 0, BLOCKS, NULL), SP_OK);
    assert_int_equal(write_now(unit, segment, 0, first, BLOCKS), SP_OK);
    sp_sim_crash_at(world, sp_sim_operations(world) + 2, survivors);
    assert_int_equal(write_now(unit, segment, BLOCKS / 2, second, BLOCKS), SP_IO);
    assert_true(sp_sim_crashed(world));
    uint64_t operations = sp_sim_operations(world);
    assert_int_equal(read_back(unit, segment, 1), SP_IO);
    assert_int_equal(unit->ops->vote_write(unit, SP_S("v"), NULL), SP_IO);
    assert_int_equal(sp_sim_operations(world), operations);
    struct sp_error error;
    struct sp_unit *early;
    assert_int_equal(sp_sim_unit_open(world, 2, "b", &early, &error), SP_IO);
    unit->ops->close(unit);
    sp_sim_restart(world);
    assert_false(sp_sim_crashed(world));
    return open_disk(world, 1);
}

static uint32_t length(struct sp_unit *unit)
{
    struct sp_unit_segment *list;
    size_t count;
    assert_int_equal(unit->ops->list(unit, &list, &count, NULL), SP_OK);
    assert_int_equal(count, 1);
    uint32_t blocks = list[0].blocks;
    free(list);
    return blocks;
}

static void test_survivors(void **state)
{
    struct sp_sim_world *world = *state;
    unsigned kept = 0, dropped = 0, torn = 0, garbage = 0, shorter = 0;
    for (unsigned round = 0; round < 400; round++) {
        enum sp_sim_survivors survivors = (enum sp_sim_survivors)(round % 4);
        struct sp_unit *unit = crash_in_write(world, survivors);
        uint32_t blocks = length(unit);
        assert_in_range(blocks, BLOCKS, BLOCKS + BLOCKS / 2);
        assert_int_equal(read_back(unit, 1, blocks), SP_OK);
        assert_true(all(got, BLOCKS / 2 * SP_UNIT_BLOCK_BYTES, 0x11)); /* what was synced */
        if (survivors == SP_SIM_NONE)
            assert_true(blocks == BLOCKS && all(got, sizeof first, 0x11));
        if (survivors == SP_SIM_ALL)
            assert_true(blocks == BLOCKS + BLOCKS / 2 &&
                        all(block(BLOCKS / 2), sizeof second, 0x22));
        if (blocks < BLOCKS + BLOCKS / 2)
            shorter++;
        for (uint32_t i = BLOCKS / 2; i < blocks && survivors >= SP_SIM_SUBSET; i++) {
            uint8_t old = i < BLOCKS ? 0x11 : 0;
            size_t new_sectors = 0;
            while (new_sectors < 8 && all(block(i) + new_sectors * SECTOR, SECTOR, 0x22))
                new_sectors++;
            size_t rest = SP_UNIT_BLOCK_BYTES - new_sectors * SECTOR;
            bool is_old = all(block(i) + new_sectors * SECTOR, rest, old);
            if (survivors == SP_SIM_SUBSET)
                assert_true(is_old && (new_sectors == 0 || new_sectors == 8));
            kept += new_sectors == 8;
            dropped += new_sectors == 0 && is_old;
            torn += new_sectors > 0 && new_sectors < 8 && is_old;
            garbage += !is_old;
        }
        unit->ops->close(unit);
    }
    assert_true(kept && dropped && torn && garbage && shorter);
}

/* At a crash before the change nothing of it is there; between change and sync it is there wholly
 * or not at all. */
static void test_metadata(void **state)
{
    struct sp_sim_world *world = *state;
    unsigned seen[5][2] = {{0}};
    for (unsigned round = 0; round < 320; round++) {
        unsigned what = round % 5;
        uint64_t at = round / 5 % 2 + 1;
        struct sp_unit *unit = open_disk(world, 1);
        for (uint64_t s = 1; s <= 2; s++)
            (void)unit->ops->remove(unit, s, 0, NULL);
        assert_int_equal(unit->ops->create(unit, 1, 0, BLOCKS, NULL), SP_OK);
        assert_int_equal(write_now(unit, 1, 0, first, BLOCKS), SP_OK);
        assert_int_equal(unit->ops->vote_write(unit, SP_S("old vote"), NULL), SP_OK);
        sp_sim_crash_at(world, sp_sim_operations(world) + at,
                        (enum sp_sim_survivors)(round / 10 % 4));
        switch (what) {
        case 0:
            assert_int_equal(unit->ops->create(unit, 2, 0, 3, NULL), SP_IO);
            break;
        case 1:
            assert_int_equal(unit->ops->seal(unit, 1, 0, 2, NULL), SP_IO);
            break;
        case 2:
            assert_int_equal(unit->ops->remove(unit, 1, 0, NULL), SP_IO);
            break;
        case 3:
            assert_int_equal(unit->ops->vote_write(unit, SP_S("new"), NULL), SP_IO);
            break;
        default:
            assert_int_equal(write_now(unit, 1, 0, second, 1), SP_IO);
            break;
        }
        unit->ops->close(unit);
        sp_sim_restart(world);
        unit = open_disk(world, 1);
        uint8_t *vote;
        size_t len;
        bool changed = false;
        assert_int_equal(unit->ops->vote_read(unit, &vote, &len, NULL), SP_OK);
        bool old_vote = len == 8 && memcmp(vote, "old vote", 8) == 0;
        bool new_vote = len == 3 && memcmp(vote, "new", 3) == 0;
        free(vote);
        if (what == 3) {
            assert_true(old_vote || new_vote);
            changed = new_vote;
        } else {
            assert_true(old_vote);
        }
        if (what == 0) {
            enum sp_status status = read_back(unit, 2, 3);
            assert_true(status == SP_OK || status == SP_NOT_FOUND);
            assert_true(status != SP_OK || all(got, (size_t)3 * SP_UNIT_BLOCK_BYTES, 0));
            changed = status == SP_OK;
        } else if (what == 1) {
            uint32_t blocks = length(unit);
            assert_true(blocks == 2 || blocks == BLOCKS);
            assert_int_equal(read_back(unit, 1, blocks), SP_OK);
            assert_true(all(got, (size_t)blocks * SP_UNIT_BLOCK_BYTES, 0x11));
            changed = blocks == 2;
        } else if (what == 2) {
            enum sp_status status = read_back(unit, 1, BLOCKS);
            assert_true(status == SP_OK || status == SP_NOT_FOUND);
            assert_true(status != SP_OK || all(got, sizeof first, 0x11));
            changed = status != SP_OK;
        } else if (what == 4) {
            assert_int_equal(read_back(unit, 1, 1), SP_OK);
            changed = got[0] != 0x11;
        }
        assert_true(at == 2 || !changed);
        seen[what][changed]++;
        unit->ops->close(unit);
    }
    for (unsigned what = 0; what < 5; what++)
        assert_true(seen[what][0] && seen[what][1]);
}

static void test_overlap(void **state)
{
    struct sp_sim_world *world = *state;
    struct sp_unit *a = open_disk(world, 1), *b = open_disk(world, 2);
    assert_int_equal(a->ops->create(a, 1, 0, BLOCKS, NULL), SP_OK);
    assert_int_equal(b->ops->create(b, 1, 0, BLOCKS, NULL), SP_OK);
    sp_sim_overlap_writes(world, true);
    uint64_t before = sp_sim_operations(world);
    sp_sim_crash_at(world, before + 3, SP_SIM_NONE);
    a->ops->write_start(a, 1, 0, 0, first, BLOCKS);
    b->ops->write_start(b, 1, 0, 0, first, BLOCKS);
    assert_int_equal(sp_sim_operations(world), before + 2);
    assert_int_equal(a->ops->wait(a, 10, NULL), SP_IO);
    assert_int_equal(b->ops->wait(b, 10, NULL), SP_IO);
    a->ops->close(a);
    b->ops->close(b);
    sp_sim_restart(world);
    for (uint32_t disk = 1; disk <= 2; disk++) {
        struct sp_unit *unit = open_disk(world, disk);
        assert_int_equal(read_back(unit, 1, BLOCKS), SP_OK);
        assert_true(all(got, sizeof first, 0)); /* neither was synced */
        assert_int_equal(write_now(unit, 1, 0, second, 2), SP_OK);
        unit->ops->close(unit);
        sp_sim_restart(world);
        unit = open_disk(world, disk);
        assert_int_equal(read_back(unit, 1, 2), SP_OK);
        assert_true(all(got, (size_t)2 * SP_UNIT_BLOCK_BYTES, 0x22));
        unit->ops->close(unit);
    }
}

static void test_failing_writes(void **state)
{
    struct sp_sim_world *world = *state;
    struct sp_unit *unit = open_disk(world, 1);
    assert_int_equal(unit->ops->create(unit, 1, 0, BLOCKS, NULL), SP_OK);
    assert_int_equal(write_now(unit, 1, 0, first, 2), SP_OK);
    sp_sim_set_fault(world, 1, SP_SIM_FAIL_WRITES);
    assert_int_equal(write_now(unit, 1, 2, second, 4), SP_IO);
    assert_int_equal(unit->ops->create(unit, 2, 0, 1, NULL), SP_IO);
    assert_int_equal(read_back(unit, 1, BLOCKS), SP_OK);
    assert_true(all(got, (size_t)2 * SP_UNIT_BLOCK_BYTES, 0x11));
    for (uint32_t i = 2; i < 6; i++)
        assert_true(all(block(i), SP_UNIT_BLOCK_BYTES, 0x22) ||
                    all(block(i), SP_UNIT_BLOCK_BYTES, 0));
    sp_sim_set_fault(world, 1, SP_SIM_HEALTHY);
    assert_int_equal(write_now(unit, 1, 2, second, 4), SP_IO); /* a failed sync is final */
    unit->ops->close(unit);
    unit = open_disk(world, 1);
    assert_int_equal(write_now(unit, 1, 2, second, 4), SP_OK);

    sp_sim_set_fault(world, 1, SP_SIM_FAIL_ALL);
    struct sp_unit_segment *list;
    size_t count;
    assert_int_equal(read_back(unit, 1, 1), SP_IO);
    assert_int_equal(unit->ops->list(unit, &list, &count, NULL), SP_IO);
    unit->ops->close(unit);
}

static void test_gone(void **state)
{
    struct sp_sim_world *world = *state;
    struct sp_unit *unit = open_disk(world, 1);
    struct sp_error error = {0};
    assert_int_equal(unit->ops->create(unit, 1, 0, BLOCKS, NULL), SP_OK);
    sp_sim_set_fault(world, 1, SP_SIM_GONE);
    assert_int_equal(unit->ops->check(unit, &error), SP_UNAVAILABLE);
    assert_int_equal(read_back(unit, 1, 1), SP_UNAVAILABLE);
    assert_int_equal(write_now(unit, 1, 0, first, 1), SP_UNAVAILABLE);
    assert_int_equal(unit->ops->vote_write(unit, SP_S("v"), &error), SP_UNAVAILABLE);
    unit->ops->close(unit);
    assert_int_equal(sp_sim_unit_open(world, 1, "a", &unit, &error), SP_UNAVAILABLE);
    sp_sim_set_fault(world, 1, SP_SIM_HEALTHY);
    unit = open_disk(world, 1);
    assert_int_equal(write_now(unit, 1, 0, first, 1), SP_OK);
    unit->ops->close(unit);
}

static void test_full(void **state)
{
    struct sp_sim_world *world = *state;
    struct sp_unit *unit = open_disk(world, 1);
    uint64_t space;
    assert_int_equal(unit->ops->create(unit, 1, 0, BLOCKS, NULL), SP_OK);
    sp_sim_set_fault(world, 1, SP_SIM_FULL);
    assert_int_equal(unit->ops->space(unit, &space, NULL), SP_OK);
    assert_int_equal(space, 0);
    assert_int_equal(write_now(unit, 1, 0, first, BLOCKS), SP_OK);
    assert_int_equal(write_now(unit, 1, 1, first, BLOCKS), SP_NO_SPACE);
    assert_int_equal(unit->ops->create(unit, 2, 0, 1, NULL), SP_NO_SPACE);
    sp_sim_set_fault(world, 1, SP_SIM_HEALTHY);
    assert_int_equal(write_now(unit, 1, 1, first, BLOCKS), SP_OK); /* not final */
    unit->ops->close(unit);
}

static void test_stall(void **state)
{
    struct sp_sim_world *world = *state;
    struct sp_unit *unit = open_disk(world, 1), *again;
    struct sp_error error = {0};
    assert_int_equal(unit->ops->create(unit, 1, 0, BLOCKS, NULL), SP_OK);
    sp_sim_set_fault(world, 1, SP_SIM_STALL);
    for (int i = 0; i < 3; i++) {
        if (i == 0)
            unit->ops->write_start(unit, 1, 0, 0, first, BLOCKS);
        assert_int_equal(unit->ops->wait(unit, 1, NULL), SP_TIMEOUT);
    }
    sp_sim_set_fault(world, 1, SP_SIM_HEALTHY);
    assert_int_equal(unit->ops->wait(unit, 1, NULL), SP_OK);

    /* Given up, with its write still on the way. */
    sp_sim_set_fault(world, 1, SP_SIM_STALL);
    unit->ops->write_start(unit, 1, 0, 0, second, 1);
    assert_int_equal(unit->ops->wait(unit, 1, NULL), SP_TIMEOUT);
    unit->ops->close(unit);
    assert_int_equal(sp_sim_unit_open(world, 1, "a", &again, &error), SP_CONFLICT);
    sp_sim_set_fault(world, 1, SP_SIM_HEALTHY);
    again = open_disk(world, 1);
    assert_int_equal(read_back(again, 1, 2), SP_OK);
    assert_true(got[0] == 0x22 && *block(1) == 0x11);
    again->ops->close(again);
}

static void test_rot(void **state)
{
    struct sp_sim_world *world = *state;
    struct sp_unit *unit = open_disk(world, 1);
    assert_int_equal(unit->ops->create(unit, 1, 0, BLOCKS, NULL), SP_OK);
    assert_int_equal(write_now(unit, 1, 0, first, 2), SP_OK);
    assert_true(sp_sim_rot(world, 1, 1, 0, 1));
    assert_true(sp_sim_rot(world, 1, 1, 0, 7));
    assert_false(sp_sim_rot(world, 1, 1, 0, 8));
    assert_false(sp_sim_rot(world, 1, 1, 1, 0));
    assert_false(sp_sim_rot(world, 1, 2, 0, 0));
    assert_int_equal(read_back(unit, 1, BLOCKS), SP_OK);
    assert_true(all(got, SP_UNIT_BLOCK_BYTES, 0x11));
    assert_false(all(block(1), SP_UNIT_BLOCK_BYTES, 0x11));
    assert_false(all(block(7), SP_UNIT_BLOCK_BYTES, 0));
    unit->ops->close(unit);
}

/* The same seed and the same calls leave the same bytes. */
static void test_deterministic(void **state)
{
    (void)state;
    uint8_t before[sizeof got];
    for (int round = 0; round < 2; round++) {
        void *made;
        assert_int_equal(setup(&made), 0);
        struct sp_sim_world *world = made;
        struct sp_unit *unit = crash_in_write(world, SP_SIM_TORN);
        memset(got, 0, sizeof got);
        assert_int_equal(read_back(unit, 1, length(unit)), SP_OK);
        if (round)
            assert_memory_equal(before, got, sizeof got);
        memcpy(before, got, sizeof got);
        unit->ops->close(unit);
        sp_sim_world_free(world);
    }
}

/* A disk that lies: what came since is there until the crash, and then some of it is not. */
static void test_lie(void **state)
{
    uint64_t lost = 0, kept = 0;
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct sp_sim_world *world = sp_sim_world_new(seed);
        struct sp_uuid id;
        assert_int_equal(sp_sim_unit_init(world, 1, &volume, &id), SP_OK);
        struct sp_unit *unit = open_disk(world, 1);
        assert_int_equal(unit->ops->create(unit, 1, 0, BLOCKS, NULL), SP_OK);
        assert_int_equal(write_now(unit, 1, 0, first, 4), SP_OK);
        sp_sim_lie(world, 1, true);
        assert_int_equal(write_now(unit, 1, 4, second, 4), SP_OK);
        assert_int_equal(unit->ops->vote_write(unit, sp_slice(second, 10), NULL), SP_OK);
        assert_int_equal(read_back(unit, 1, BLOCKS), SP_OK);
        assert_memory_equal(got + 4 * SP_UNIT_BLOCK_BYTES, second, 4 * SP_UNIT_BLOCK_BYTES);
        sp_sim_crash_at(world, sp_sim_operations(world) + 1, SP_SIM_ALL);
        assert_int_equal(write_now(unit, 1, 0, first, 1), SP_IO);
        unit->ops->close(unit);
        sp_sim_restart(world);
        sp_sim_crash_at(world, 0, SP_SIM_NONE);
        unit = open_disk(world, 1);
        assert_int_equal(read_back(unit, 1, BLOCKS), SP_OK);
        assert_memory_equal(got, first, 4 * SP_UNIT_BLOCK_BYTES); /* what was synced before */
        for (uint32_t i = 4; i < BLOCKS; i++)
            kept += got[i * SP_UNIT_BLOCK_BYTES] == 0x22;
        lost += sp_sim_effect(world, SP_SIM_DID_LIE);
        /* The lie is over. */
        assert_int_equal(write_now(unit, 1, 4, second, 4), SP_OK);
        unit->ops->close(unit);
        sp_sim_world_free(world);
    }
    assert_true(lost > 40 && kept > 20);
}

/* One block of the next write lands elsewhere, and everybody is told that it was written. */
static void test_misdirect(void **state)
{
    struct sp_sim_world *world = *state;
    struct sp_unit *unit = open_disk(world, 1);
    assert_int_equal(unit->ops->create(unit, 1, 0, BLOCKS, NULL), SP_OK);
    assert_int_equal(unit->ops->create(unit, 2, 0, BLOCKS, NULL), SP_OK);
    assert_int_equal(write_now(unit, 1, 0, first, BLOCKS), SP_OK);
    sp_sim_misdirect(world, 1, 1, 0, 3);
    assert_int_equal(write_now(unit, 2, 0, second, 2), SP_OK);
    assert_int_equal(sp_sim_effect(world, SP_SIM_DID_MISDIRECT), 1);
    assert_int_equal(read_back(unit, 1, BLOCKS), SP_OK);
    for (uint32_t i = 0; i < BLOCKS; i++)
        assert_int_equal(got[i * SP_UNIT_BLOCK_BYTES], i == 3 ? 0x22 : 0x11);
    assert_int_equal(read_back(unit, 2, 2), SP_OK);
    assert_int_equal(got[0], 0);
    assert_int_equal(got[SP_UNIT_BLOCK_BYTES], 0x22);
    assert_int_equal(write_now(unit, 2, 0, second, 2), SP_OK); /* only that one */
    assert_int_equal(read_back(unit, 2, 2), SP_OK);
    assert_int_equal(got[0], 0x22);
    unit->ops->close(unit);
}

/* A copy has all that the disk had, its id too, and goes its own way from then on. */
static void test_clone(void **state)
{
    struct sp_sim_world *world = *state;
    struct sp_unit *unit = open_disk(world, 1);
    assert_int_equal(unit->ops->create(unit, 1, 0, BLOCKS, NULL), SP_OK);
    assert_int_equal(write_now(unit, 1, 0, first, BLOCKS), SP_OK);
    assert_int_equal(sp_sim_clone(world, 1, 2), SP_EXISTS);
    assert_int_equal(sp_sim_clone(world, 1, 5), SP_OK);
    struct sp_unit *copy = open_disk(world, 5);
    assert_true(sp_uuid_eq(&unit->id, &copy->id));
    assert_int_equal(write_now(unit, 1, 0, second, BLOCKS), SP_OK);
    assert_int_equal(read_back(copy, 1, BLOCKS), SP_OK);
    assert_memory_equal(got, first, sizeof first);
    copy->ops->close(copy);
    unit->ops->close(unit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lock_and_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(test_survivors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_metadata, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overlap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failing_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stall, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rot, setup, teardown),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test_setup_teardown(test_lie, setup, teardown),
        cmocka_unit_test_setup_teardown(test_misdirect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clone, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
