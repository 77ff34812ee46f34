/* The contract of unit.h, held against both kinds. */
#include "unit/dir.h"
#include "unit/sim.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct fixture {
    const char *kind;
    char path[512];
    struct sp_sim_world *world;
    struct sp_uuid volume, id;
    struct sp_unit *unit;
    uint8_t *blocks; /* 1024 blocks to write from and to read into */
    uint8_t *got;
};

#define ROOM 1024U

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static void open_unit(struct fixture *f)
{
    struct sp_error error = {0};
    enum sp_status status = f->world ? sp_sim_unit_open(f->world, 1, "a", &f->unit, &error)
                                     : sp_unit_dir_open(f->path, "a", &f->id, &f->unit, &error);
    if (status != SP_OK)
        sp_error_print(&error);
    assert_int_equal(status, SP_OK);
}

static void reopen(struct fixture *f)
{
    f->unit->ops->close(f->unit);
    f->unit = NULL;
    open_unit(f);
}

static struct fixture *make(const char *kind)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->kind = kind;
    sp_uuid_make(&f->volume);
    if (strcmp(kind, "sim") == 0) {
        f->world = sp_sim_world_new(7);
        assert_int_equal(sp_sim_unit_init(f->world, 1, &f->volume, &f->id), SP_OK);
    } else {
        const char *where = getenv("TMPDIR");
        snprintf(f->path, sizeof f->path, "%s/sternpost-unit-XXXXXX", where ? where : "/tmp");
        assert_non_null(mkdtemp(f->path));
        struct sp_error error = {0};
        assert_int_equal(sp_unit_dir_init(f->path, &f->volume, &f->id, &error), SP_OK);
    }
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, SP_UNIT_BLOCK_BYTES, ROOM * SP_UNIT_BLOCK_BYTES), 0);
    f->blocks = memory;
    f->got = malloc(ROOM * SP_UNIT_BLOCK_BYTES);
    assert_non_null(f->got);
    for (size_t i = 0; i < (size_t)ROOM * SP_UNIT_BLOCK_BYTES; i++)
        f->blocks[i] = (uint8_t)(i * 2654435761U >> 13 | 1U);
    open_unit(f);
    return f;
}

static int setup_dir(void **state)
{
    *state = make("dir");
    return 0;
}

static int setup_sim(void **state)
{
    *state = make("sim");
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->unit->ops->close(f->unit);
    sp_sim_world_free(f->world);
    if (!f->world)
        nftw(f->path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(f->blocks);
    free(f->got);
    free(f);
    return 0;
}

static enum sp_status write_blocks(struct fixture *f, uint64_t segment, uint32_t first,
                                   uint32_t count)
{
    struct sp_error error = {0};
    enum sp_status status;
    f->unit->ops->write_start(f->unit, segment, 0, first,
                              f->blocks + (size_t)first % ROOM * SP_UNIT_BLOCK_BYTES, count);
    while ((status = f->unit->ops->wait(f->unit, 100, &error)) == SP_TIMEOUT)
        ;
    assert_true(status == SP_OK || error.why[0]);
    return status;
}

static enum sp_status read_blocks(struct fixture *f, uint64_t segment, uint32_t first,
                                  uint32_t count)
{
    struct sp_error error = {0};
    memset(f->got, 0xee, (size_t)count * SP_UNIT_BLOCK_BYTES);
    enum sp_status status = f->unit->ops->read(f->unit, segment, 0, first, f->got, count, &error);
    assert_true(status == SP_OK || error.why[0]);
    return status;
}

static void assert_blocks(struct fixture *f, uint64_t segment, uint32_t first, uint32_t count)
{
    assert_int_equal(read_blocks(f, segment, first, count), SP_OK);
    assert_memory_equal(f->got, f->blocks + (size_t)first * SP_UNIT_BLOCK_BYTES,
                        (size_t)count * SP_UNIT_BLOCK_BYTES);
}

static void assert_zeros(struct fixture *f, uint64_t segment, uint32_t first, uint32_t count)
{
    assert_int_equal(read_blocks(f, segment, first, count), SP_OK);
    for (size_t i = 0; i < (size_t)count * SP_UNIT_BLOCK_BYTES; i++)
        assert_int_equal(f->got[i], 0);
}

static void test_identity(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(f->unit->ops->kind, f->kind);
    assert_string_equal(f->unit->name, "a");
    assert_true(sp_uuid_eq(&f->unit->id, &f->id));
    assert_true(sp_uuid_eq(&f->unit->volume, &f->volume));
    assert_true(f->unit->domain[0]);
    struct sp_error error;
    uint64_t space = 0;
    assert_int_equal(f->unit->ops->check(f->unit, &error), SP_OK);
    assert_int_equal(f->unit->ops->space(f->unit, &space, &error), SP_OK);
    assert_true(space > 0);
}

static void test_write_and_read(void **state)
{
    struct fixture *f = *state;
    const struct sp_unit_ops *ops = f->unit->ops;
    assert_int_equal(ops->create(f->unit, 1, 0, 64, NULL), SP_OK);
    assert_zeros(f, 1, 0, 64);
    assert_int_equal(write_blocks(f, 1, 0, 1), SP_OK);
    assert_int_equal(write_blocks(f, 1, 1, 5), SP_OK);
    assert_blocks(f, 1, 0, 6);
    assert_zeros(f, 1, 6, 58);
    /* What was read as zeros, and so may be cached, must not stay zeros. */
    assert_int_equal(write_blocks(f, 1, 6, 10), SP_OK);
    assert_blocks(f, 1, 0, 16);
    assert_int_equal(ops->check(f->unit, NULL), SP_OK);
    reopen(f);
    assert_blocks(f, 1, 0, 16);
    assert_int_equal(write_blocks(f, 1, 16, 3), SP_OK);
    assert_blocks(f, 1, 0, 19);
    assert_zeros(f, 1, 19, 45);
}

static void test_beyond_prepared(void **state)
{
    struct fixture *f = *state;
    const struct sp_unit_ops *ops = f->unit->ops;
    assert_int_equal(ops->create(f->unit, 3, 0, 2, NULL), SP_OK);
    for (uint32_t at = 0; at < 700; at += 7)
        assert_int_equal(write_blocks(f, 3, at, 7), SP_OK);
    assert_blocks(f, 3, 0, 700);
    assert_int_equal(write_blocks(f, 3, 700, 324), SP_OK); /* long */
    assert_blocks(f, 3, 0, 1024);
    /* With a hole. */
    assert_int_equal(ops->create(f->unit, 4, 0, 0, NULL), SP_OK);
    assert_int_equal(write_blocks(f, 4, 9, 2), SP_OK);
    assert_zeros(f, 4, 0, 9);
    assert_blocks(f, 4, 9, 2);
}

static void test_not_found(void **state)
{
    struct fixture *f = *state;
    const struct sp_unit_ops *ops = f->unit->ops;
    struct sp_error error = {0};
    assert_int_equal(read_blocks(f, 1, 0, 1), SP_NOT_FOUND);
    assert_int_equal(write_blocks(f, 1, 0, 1), SP_NOT_FOUND);
    assert_int_equal(ops->seal(f->unit, 1, 0, 1, &error), SP_NOT_FOUND);
    assert_int_equal(error.status, SP_NOT_FOUND);
    assert_int_equal(ops->remove(f->unit, 1, 0, &error), SP_NOT_FOUND);
    assert_int_equal(ops->create(f->unit, 1, 0, 8, &error), SP_OK);
    assert_int_equal(read_blocks(f, 1, 0, 8), SP_OK);
    assert_int_equal(read_blocks(f, 1, 0, 9), SP_NOT_FOUND);
    assert_int_equal(read_blocks(f, 1, 8, 1), SP_NOT_FOUND);
    assert_int_equal(read_blocks(f, 1, UINT32_MAX, 1), SP_NOT_FOUND);
    assert_int_equal(ops->read(f->unit, 1, 1, 0, f->got, 1, &error), SP_NOT_FOUND);
    assert_int_equal(ops->seal(f->unit, 1, 0, 9, &error), SP_NOT_FOUND);
    assert_int_equal(ops->create(f->unit, 1, 0, 8, &error), SP_EXISTS);
    assert_int_equal(error.status, SP_EXISTS);
    /* None of these is final. */
    assert_int_equal(write_blocks(f, 1, 0, 1), SP_OK);
}

static void test_seal_and_remove(void **state)
{
    struct fixture *f = *state;
    const struct sp_unit_ops *ops = f->unit->ops;
    assert_int_equal(ops->create(f->unit, 1, 0, 64, NULL), SP_OK);
    assert_int_equal(write_blocks(f, 1, 0, 10), SP_OK);
    assert_blocks(f, 1, 0, 10);
    assert_int_equal(ops->seal(f->unit, 1, 0, 10, NULL), SP_OK);
    assert_blocks(f, 1, 0, 10);
    assert_int_equal(read_blocks(f, 1, 10, 1), SP_NOT_FOUND);
    assert_int_equal(ops->remove(f->unit, 1, 0, NULL), SP_OK);
    assert_int_equal(read_blocks(f, 1, 0, 1), SP_NOT_FOUND);
    /* Made anew under the same name, it holds nothing of the old. */
    assert_int_equal(ops->create(f->unit, 1, 0, 10, NULL), SP_OK);
    assert_zeros(f, 1, 0, 10);
    reopen(f);
    assert_zeros(f, 1, 0, 10);
}

static void test_list(void **state)
{
    struct fixture *f = *state;
    const struct sp_unit_ops *ops = f->unit->ops;
    struct sp_unit_segment *got;
    size_t count;
    static const struct sp_unit_segment want[] = {
        {1, 0, 3}, {2, 0, 4}, {2, 1, 5}, {2, 0x12345, 6}, {1ULL << 40, 0, 7}};
    static const size_t order[] = {4, 2, 0, 3, 1};
    assert_int_equal(ops->list(f->unit, &got, &count, NULL), SP_OK);
    assert_int_equal(count, 0);
    free(got);
    for (size_t i = 0; i < 5; i++) {
        const struct sp_unit_segment *s = &want[order[i]];
        assert_int_equal(ops->create(f->unit, s->segment, s->generation, s->blocks, NULL), SP_OK);
    }
    for (int again = 0; again < 2; again++) {
        assert_int_equal(ops->list(f->unit, &got, &count, NULL), SP_OK);
        assert_int_equal(count, 5);
        for (size_t i = 0; i < 5; i++) {
            assert_int_equal(got[i].segment, want[i].segment);
            assert_int_equal(got[i].generation, want[i].generation);
            assert_int_equal(got[i].blocks, want[i].blocks);
        }
        free(got);
        reopen(f);
    }
}

/* A sidecar has the operations of a segment, is not listed as one, and does not share its bytes. */
static void test_sidecar(void **state)
{
    struct fixture *f = *state;
    const struct sp_unit_ops *ops = f->unit->ops;
    const uint32_t sidecar = 2 | SP_UNIT_PARITY;
    struct sp_unit_segment *got;
    size_t count;
    assert_int_equal(ops->create(f->unit, 1, 2, 10, NULL), SP_OK);
    assert_int_equal(ops->create(f->unit, 1, sidecar, 4, NULL), SP_OK);
    assert_int_equal(ops->create(f->unit, 1, sidecar, 4, NULL), SP_EXISTS);
    enum sp_status status;
    ops->write_start(f->unit, 1, sidecar, 0, f->blocks, 3);
    while ((status = ops->wait(f->unit, 100, NULL)) == SP_TIMEOUT)
        ;
    assert_int_equal(status, SP_OK);
    assert_int_equal(ops->seal(f->unit, 1, sidecar, 3, NULL), SP_OK);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(ops->list(f->unit, &got, &count, NULL), SP_OK);
        assert_true(count == 1 && got->segment == 1 && got->generation == 2 && got->blocks == 10);
        free(got);
        assert_int_equal(ops->list_sidecars(f->unit, &got, &count, NULL), SP_OK);
        assert_true(count == 1 && got->segment == 1 && got->generation == sidecar &&
                    got->blocks == 3);
        free(got);
        uint8_t block[SP_UNIT_BLOCK_BYTES];
        assert_int_equal(ops->read(f->unit, 1, sidecar, 2, block, 1, NULL), SP_OK);
        assert_memory_equal(block, f->blocks + 2 * SP_UNIT_BLOCK_BYTES, sizeof block);
        assert_int_equal(ops->read(f->unit, 1, 2, 2, block, 1, NULL), SP_OK);
        assert_int_equal(block[0], 0);
        reopen(f);
        ops = f->unit->ops;
    }
    assert_int_equal(ops->remove(f->unit, 1, 2, NULL), SP_OK);
    assert_int_equal(ops->list(f->unit, &got, &count, NULL), SP_OK);
    assert_int_equal(count, 0);
    free(got);
    assert_int_equal(ops->remove(f->unit, 1, sidecar, NULL), SP_OK);
    assert_int_equal(ops->list_sidecars(f->unit, &got, &count, NULL), SP_OK);
    assert_int_equal(count, 0);
    free(got);
}

static void test_vote(void **state)
{
    struct fixture *f = *state;
    const struct sp_unit_ops *ops = f->unit->ops;
    static const size_t sizes[] = {1, 5000, 17, SP_UNIT_VOTE_MAX};
    uint8_t *got = NULL;
    size_t len = 0;
    assert_int_equal(ops->vote_read(f->unit, &got, &len, NULL), SP_NOT_FOUND);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct sp_slice vote = sp_slice(f->blocks + i, sizes[i]);
        assert_int_equal(ops->vote_write(f->unit, vote, NULL), SP_OK);
        if (i % 2)
            reopen(f);
        assert_int_equal(ops->vote_read(f->unit, &got, &len, NULL), SP_OK);
        assert_int_equal(len, vote.len);
        assert_memory_equal(got, vote.ptr, len);
        free(got);
    }
}

/* A call in the middle of a write is refused, and the write goes on. */
static void test_one_at_a_time(void **state)
{
    struct fixture *f = *state;
    const struct sp_unit_ops *ops = f->unit->ops;
    assert_int_equal(ops->create(f->unit, 1, 0, 64, NULL), SP_OK);
    ops->write_start(f->unit, 1, 0, 0, f->blocks, 32);
    assert_int_equal(ops->create(f->unit, 2, 0, 64, NULL), SP_IO);
    enum sp_status status;
    while ((status = ops->wait(f->unit, 1, NULL)) == SP_TIMEOUT)
        ;
    assert_int_equal(status, SP_OK);
    assert_blocks(f, 1, 0, 32);
}

#define BOTH(test)                                                                                 \
    {#test " (dir)", test, setup_dir, teardown, NULL},                                             \
    {                                                                                              \
#test " (sim)", test, setup_sim, teardown, NULL                                            \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_identity),        BOTH(test_write_and_read),
        BOTH(test_beyond_prepared), BOTH(test_not_found),
        BOTH(test_seal_and_remove), BOTH(test_list),
        BOTH(test_sidecar),         BOTH(test_vote),
        BOTH(test_one_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
