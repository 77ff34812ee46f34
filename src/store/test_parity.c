/* A unit mends itself: sidecars are made for old segments and new ones, whatever happens on the
 * way, and what is lost up to their measure is read, and mended, from one unit alone. */
#include "store/parity.h"
#include "store/test_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define ABSENT(disk) (1U << (disk))

static struct sp_error error;
static const struct sp_parity_shape four_and_two = {4, 2};

static void scrub(struct bench *b)
{
    sp_volume_scrub_now(b->volume);
    bench_tend_all(b);
    assert_true(bench_status(b).scrub_finished_ns && !bench_status(b).scrub_running);
}

static void reopen(struct bench *b, uint32_t absent, bool without_index)
{
    bench_stop(b);
    if (without_index)
        assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    assert_int_equal(bench_open(b, absent, true, &error), SP_OK);
}

/* Several segments; from now on the disks have parity, and from the next tending on sidecars. */
static struct bench *with_parity(struct bench *b, struct sp_parity_shape a,
                                 struct sp_parity_shape b_parity)
{
    assert_int_equal(bench_status(b).units[0].lacks_parity, 0);
    b->parity[0] = a;
    b->parity[1] = b_parity;
    reopen(b, 0, false);
    return b;
}

static struct bench *begin(struct sp_parity_shape a, struct sp_parity_shape b_parity)
{
    return with_parity(bench_begin_with_witness(0, 60), a, b_parity);
}

static uint32_t blocks_of(const struct sp_volume_segment *segment)
{
    return segment->data_blocks + segment->footer_blocks;
}

/* The numbers of the disk's blocks of its sidecars that are not right. */
static uint32_t wrong_parity(struct bench *b, uint32_t disk)
{
    const struct sp_volume *v = b->volume;
    struct sp_unit *unit = v->members[disk].unit;
    uint32_t wrong = 0;
    for (size_t i = 0; i + 1 < v->segments_count; i++) {
        const struct sp_volume_segment *s = &v->segments[i];
        uint32_t count = sp_parity_blocks(b->parity[disk], blocks_of(s));
        uint8_t block[SP_BLOCK_BYTES];
        for (uint32_t k = 0; k < count; k++) {
            struct sp_parity_header header;
            wrong += unit->ops->read(unit, s->segment, s->generation | SP_UNIT_PARITY, k, block, 1,
                                     NULL) != SP_OK ||
                     sp_parity_block_read(block, &header) != SP_OK ||
                     !sp_parity_is_of(v, s, &header) || header.index != k ||
                     !sp_parity_shape_eq(header.shape, b->parity[disk]);
        }
        assert_int_equal(unit->ops->read(unit, s->segment, s->generation | SP_UNIT_PARITY, count,
                                         block, 1, NULL),
                         SP_NOT_FOUND);
    }
    return wrong;
}

/* A stretch of each sealed segment, from `from` on, as long as parity can bear, or longer; then not
 * of the newest one, whose footer would be written again at the next start. */
static uint32_t rot_stretches(struct bench *b, uint32_t disk, uint32_t from, uint32_t more)
{
    const struct sp_volume *v = b->volume;
    uint32_t rotten = 0;
    for (size_t i = 0; i + 1 + (more > 0) < v->segments_count; i++) {
        const struct sp_volume_segment *s = &v->segments[i];
        uint32_t count = sp_parity_blocks(four_and_two, blocks_of(s)) + more;
        for (uint32_t k = 0; k < count && from + k < blocks_of(s); k++, rotten++)
            assert_true(sp_sim_rot(b->world, disk, s->segment, s->generation, from + k));
    }
    return rotten;
}

static void test_made(void **state)
{
    (void)state;
    struct bench *b = begin(four_and_two, (struct sp_parity_shape){0});
    size_t segments = bench_status(b).segments;
    assert_true(segments > 4 && bench_status(b).units[0].lacks_parity == segments - 1);
    assert_int_equal(bench_status(b).units[0].parity.data_rows, 4);
    bench_tend_all(b);
    assert_int_equal(bench_status(b).units[0].lacks_parity, 0);
    assert_int_equal(wrong_parity(b, 0), 0);
    uint64_t written = bench_status(b).parity_written;
    assert_true(written > segments);
    for (int i = 0; i < 40; i++)
        assert_int_equal(bench_deliver(b), SP_OK);
    bench_tend_all(b);
    assert_true(bench_status(b).segments > segments && bench_status(b).parity_written > written);
    assert_int_equal(wrong_parity(b, 0), 0);
    assert_int_equal(bench_status(b).parity_mended, 0);
    /* b has none, and what is there is not made twice. */
    struct sp_unit_segment *list;
    size_t count;
    struct sp_unit *unit = b->volume->members[1].unit;
    assert_int_equal(unit->ops->list_sidecars(unit, &list, &count, &error), SP_OK);
    assert_int_equal(count, 0);
    free(list);
    segments = bench_status(b).segments;
    reopen(b, 0, false);
    bench_tend_all(b);
    written = bench_status(b).parity_written; /* of the one segment that the reopening sealed */
    assert_true(bench_status(b).segments == segments + 1 && written < 20);
    bench_end(b);
}

/* One replica alone, with as much of each segment gone as it can bear, wherever that lies: the
 * volume starts, its index is built anew, everything is read; and a scrub mends it for good. */
static void test_alone(void **state)
{
    (void)state;
    static const uint32_t froms[] = {0, 1, 9, 100};
    for (size_t i = 0; i < sizeof froms / sizeof *froms; i++) {
        struct bench *b = begin(four_and_two, (struct sp_parity_shape){0});
        bench_tend_all(b);
        uint32_t from = froms[i];
        if (from == 100) { /* the end: footer and trailer */
            uint32_t blocks = blocks_of(&b->volume->segments[1]);
            from = blocks - sp_parity_blocks(four_and_two, blocks);
        }
        uint32_t rotten = rot_stretches(b, 0, from, 0);
        assert_true(rotten > 50);
        reopen(b, ABSENT(1), true);
        model_check(b->volume, &b->model, NULL, 0);
        assert_true(bench_status(b).blocks_rebuilt > 0);
        scrub(b);
        struct sp_volume_status status = bench_status(b);
        assert_int_equal(status.blocks_mended, rotten); /* some as soon as they were read */
        assert_int_equal(status.blocks_unmendable, 0);
        /* From now on without parity. */
        const struct sp_volume *v = b->volume;
        struct sp_unit *unit = v->members[0].unit;
        for (size_t s = 0; s + 1 < v->segments_count; s++)
            if (unit->ops->remove(unit, v->segments[s].segment, SP_UNIT_PARITY, &error) != SP_OK)
                assert_int_equal(s + 2, v->segments_count);
        reopen(b, ABSENT(1), true);
        model_check(b->volume, &b->model, NULL, 0);
        assert_int_equal(bench_status(b).blocks_rebuilt, 0);
        bench_end(b);
    }
}

/* Both copies rotten in the same places; only b has parity, and it mends both. */
static void test_parity_of_another(void **state)
{
    (void)state;
    struct bench *b = begin((struct sp_parity_shape){0}, four_and_two);
    bench_tend_all(b);
    uint32_t rotten = rot_stretches(b, 0, 2, 0) + rot_stretches(b, 1, 2, 0);
    model_check(b->volume, &b->model, NULL, 0);
    assert_true(bench_status(b).blocks_rebuilt > 0);
    scrub(b);
    assert_int_equal(bench_status(b).blocks_mended, rotten);
    assert_int_equal(bench_status(b).blocks_unmendable, 0);
    scrub(b);
    assert_int_equal(bench_status(b).scrub_mended, 0);
    reopen(b, ABSENT(1), true); /* a, which has no parity */
    bench_end(b);
}

/* Different shapes on the two, each with too little for a stretch alone but with the other's
 * blocks. */
static void test_two_shapes(void **state)
{
    (void)state;
    struct bench *b = begin(four_and_two, (struct sp_parity_shape){3, 1});
    bench_tend_all(b);
    assert_int_equal(wrong_parity(b, 0), 0);
    assert_int_equal(wrong_parity(b, 1), 0);
    /* a's sidecars are lost: of b's shape one block of each column may be. */
    const struct sp_volume *v = b->volume;
    for (size_t i = 0; i + 1 < v->segments_count; i++) {
        const struct sp_volume_segment *s = &v->segments[i];
        for (uint32_t k = 0; k < sp_parity_blocks(four_and_two, blocks_of(s)); k++)
            assert_true(sp_sim_rot(b->world, 0, s->segment, SP_UNIT_PARITY, k));
        for (uint32_t k = 0; k < sp_parity_blocks(b->parity[1], blocks_of(s)); k++)
            for (uint32_t disk = 0; disk < 2; disk++)
                assert_true(sp_sim_rot(b->world, disk, s->segment, 0, 1 + k));
    }
    model_check(b->volume, &b->model, NULL, 0);
    scrub(b);
    assert_int_equal(bench_status(b).scrub_unmendable, 0);
    assert_int_equal(wrong_parity(b, 0), 0);
    assert_true(bench_status(b).parity_mended > 0);
    bench_end(b);
}

/* One block more than there is parity for: the one column is lost, and told of; all the others are
 * mended. */
static void test_too_much(void **state)
{
    (void)state;
    struct bench *b = begin(four_and_two, (struct sp_parity_shape){0});
    bench_tend_all(b);
    uint32_t segments = 0;
    const struct sp_volume *v = b->volume;
    for (size_t i = 0; i + 2 < v->segments_count; i++)
        segments += sp_parity_blocks(four_and_two, blocks_of(&v->segments[i])) + 1 <
                    blocks_of(&v->segments[i]);
    assert_true(segments > 3);
    uint32_t rotten = rot_stretches(b, 0, 1, 1);
    bench_stop(b);
    assert_int_equal(bench_open(b, ABSENT(1), true, &error), SP_OK);
    scrub(b);
    struct sp_volume_status status = bench_status(b);
    assert_int_equal(status.scrub_unmendable, 3 * segments);
    assert_int_equal(status.scrub_mended + status.scrub_unmendable, rotten);
    /* With the other copy all is well again, and the sidecars are as they were. */
    reopen(b, 0, false);
    scrub(b);
    assert_int_equal(bench_status(b).scrub_unmendable, 0);
    assert_int_equal(wrong_parity(b, 0), 0);
    bench_end(b);
}

/* Rot in sidecars is found by a scrub, and they are made again; also when they are gone. */
static void test_rotten_parity(void **state)
{
    (void)state;
    struct bench *b = begin(four_and_two, four_and_two);
    bench_tend_all(b);
    struct sp_unit *unit = b->volume->members[0].unit;
    assert_true(sp_sim_rot(b->world, 0, 1, SP_UNIT_PARITY, 0));
    for (uint32_t k = 3; k < 9; k++)
        assert_true(sp_sim_rot(b->world, 1, 2, SP_UNIT_PARITY, k));
    assert_int_equal(unit->ops->remove(unit, 3, SP_UNIT_PARITY, &error), SP_OK);
    scrub(b);
    struct sp_volume_status status = bench_status(b);
    assert_int_equal(status.parity_mended, 7);
    assert_int_equal(status.scrub_mended, 0);
    assert_int_equal(status.scrub_done_blocks, status.scrub_total_blocks);
    assert_int_equal(wrong_parity(b, 0), 0);
    assert_int_equal(wrong_parity(b, 1), 0);
    bench_end(b);
}

/* Parity rotten too, as far as the column bears it. */
static void test_rot_in_both(void **state)
{
    (void)state;
    struct bench *b = begin(four_and_two, (struct sp_parity_shape){0});
    bench_tend_all(b);
    const struct sp_volume_segment *s = &b->volume->segments[1];
    uint32_t columns = sp_parity_columns(four_and_two, blocks_of(s));
    for (uint32_t c = 0; c < columns; c++) {
        assert_true(sp_sim_rot(b->world, 0, s->segment, 0, (c % 3) * columns + c));
        assert_true(sp_sim_rot(b->world, 0, s->segment, SP_UNIT_PARITY, (c % 2) * columns + c));
    }
    reopen(b, ABSENT(1), true);
    model_check(b->volume, &b->model, NULL, 0);
    scrub(b);
    assert_int_equal(bench_status(b).blocks_mended, columns);
    assert_int_equal(bench_status(b).parity_mended, columns);
    assert_int_equal(wrong_parity(b, 0), 0);
    bench_end(b);
}

/* Cut off at each operation while sidecars are made: nothing of the log changes, and they are made
 * to their end after the restart. */
static void test_crash_while_making(void **state)
{
    (void)state;
    uint32_t crashes = 0;
    for (uint64_t at = 1;; at += 1 + at / 12) {
        struct bench *b = begin(four_and_two, (struct sp_parity_shape){16, 3});
        sp_sim_crash_at(b->world, sp_sim_operations(b->world) + at,
                        (enum sp_sim_survivors)(at % (SP_SIM_TORN + 1)));
        for (int i = 0; i < 2000 && !sp_sim_crashed(b->world) && sp_volume_run_once(b->volume); i++)
            ;
        bool crashed = sp_sim_crashed(b->world);
        bench_stop(b);
        sp_sim_crash_at(b->world, 0, SP_SIM_NONE);
        assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
        model_check(b->volume, &b->model, NULL, 0);
        bench_tend_all(b);
        assert_int_equal(wrong_parity(b, 0), 0);
        assert_int_equal(wrong_parity(b, 1), 0);
        rot_stretches(b, 0, (uint32_t)at % 10, 0);
        reopen(b, ABSENT(1), true);
        bench_end(b);
        if (!crashed)
            break;
        crashes++;
    }
    assert_true(crashes > 20);
}

/* Another shape is configured: the sidecars are made anew, in the old ones' place. */
static void test_another_shape(void **state)
{
    (void)state;
    static const struct sp_parity_shape shapes[] = {{2, 2}, {16, 1}, {128, 32}, {1, 1}};
    struct bench *b = begin(four_and_two, (struct sp_parity_shape){0});
    bench_tend_all(b);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        b->parity[0] = shapes[i];
        reopen(b, 0, false);
        assert_true(bench_status(b).units[0].parity.data_rows == shapes[i].data_rows);
        bench_tend_all(b);
        assert_int_equal(wrong_parity(b, 0), 0);
    }
    bench_end(b);
}

/* No room for sidecars: nothing is ejected, and mail goes on. */
static void test_without_room(void **state)
{
    (void)state;
    struct bench *b = begin(four_and_two, (struct sp_parity_shape){0});
    sp_sim_set_fault(b->world, 0, SP_SIM_FULL);
    bench_tend_all(b);
    assert_int_equal(bench_state(b, 0), SP_UNIT_REPLICA);
    assert_true(bench_status(b).units[0].lacks_parity > 3);
    assert_int_equal(bench_status(b).parity_written, 0);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_end(b);
}

/* The unit fails in the middle of a sidecar, and is ejected as by any other write; when it is taken
 * back it gets what it lacks, and then its sidecars. */
static void test_fault_while_making(void **state)
{
    (void)state;
    struct bench *b = with_parity(bench_begin(0, 60), four_and_two, (struct sp_parity_shape){0});
    while (bench_status(b).parity_written == 0)
        assert_true(sp_volume_run_once(b->volume));
    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    bench_tend_all(b);
    assert_int_equal(bench_state(b, 0), SP_UNIT_EJECTED);
    assert_int_equal(bench_deliver(b), SP_OK);
    bench_tend_all(b);
    sp_sim_set_fault(b->world, 0, SP_SIM_HEALTHY);
    assert_int_equal(sp_volume_add_unit(b->volume, "a", bench_open_disk, b, &error), SP_OK);
    sp_sim_set_fault(b->world, 1, SP_SIM_FAIL_WRITES);
    assert_int_equal(bench_deliver(b), SP_OK); /* a takes its place */
    assert_int_equal(bench_state(b, 0), SP_UNIT_REPLICA);
    bench_tend_all(b);
    assert_int_equal(bench_status(b).units[0].lacks_parity, 0);
    assert_int_equal(wrong_parity(b, 0), 0);
    bench_end(b);
}

/* A sidecar whose segment was removed goes as well; one whose segment is of the log stays. */
static void test_sweep(void **state)
{
    (void)state;
    struct bench *b = begin(four_and_two, (struct sp_parity_shape){0});
    struct sp_unit *unit = b->volume->members[0].unit;
    struct sp_unit_segment *list;
    size_t count, lone = 0;
    for (uint64_t segment = 1000; segment < 1040; segment++)
        assert_int_equal(unit->ops->create(unit, segment, 3 | SP_UNIT_PARITY, 2, &error), SP_OK);
    assert_int_equal(unit->ops->create(unit, 1000, 3, 2, &error), SP_OK); /* not the log's */
    assert_int_equal(unit->ops->create(unit, 1, 1 | SP_UNIT_PARITY, 2, &error), SP_OK);
    bench_tend_all(b);
    assert_int_equal(unit->ops->list_sidecars(unit, &list, &count, &error), SP_OK);
    for (size_t i = 0; i < count; i++)
        lone += list[i].generation != SP_UNIT_PARITY;
    free(list);
    assert_int_equal(lone, 1);
    assert_int_equal(count, bench_status(b).segments - 1 + lone);
    assert_int_equal(wrong_parity(b, 0), 0);
    bench_end(b);
}

static int tests(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(test_made),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_parity_of_another),
        cmocka_unit_test(test_two_shapes),
        cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_rotten_parity),
        cmocka_unit_test(test_rot_in_both),
        cmocka_unit_test(test_crash_while_making),
        cmocka_unit_test(test_another_shape),
        cmocka_unit_test(test_without_room),
        cmocka_unit_test(test_fault_while_making),
        cmocka_unit_test(test_sweep),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}

int main(void)
{
    return bench_main(tests);
}
