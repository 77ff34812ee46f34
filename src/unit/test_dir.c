/* What is particular to the `dir` unit: unit.id, locks, names, lost paths, preparing. */
#include "unit/dir.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct sp_uuid volume = {
    {1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16}};
static char base[256];

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    const char *where = getenv("TMPDIR");
    snprintf(base, sizeof base, "%s/sternpost-dir-XXXXXX", where ? where : "/tmp");
    return mkdtemp(base) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return nftw(base, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *path_of(const char *rest)
{
    static char path[2][512];
    static int which;
    which = !which;
    snprintf(path[which], sizeof path[which], "%s/%s", base, rest);
    return path[which];
}

static bool exists(const char *rest)
{
    return access(path_of(rest), F_OK) == 0;
}

static void put_file(const char *rest, const char *text)
{
    FILE *file = fopen(path_of(rest), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct sp_uuid init(const char *rest)
{
    struct sp_uuid id;
    struct sp_error error = {0};
    enum sp_status status = sp_unit_dir_init(path_of(rest), &volume, &id, &error);
    if (status != SP_OK)
        sp_error_print(&error);
    assert_int_equal(status, SP_OK);
    return id;
}

static enum sp_status try_open(const char *rest, struct sp_unit **ret_unit, struct sp_error *error)
{
    *error = (struct sp_error){0};
    enum sp_status status = sp_unit_dir_open(path_of(rest), "a", NULL, ret_unit, error);
    assert_int_equal(status, error->status);
    assert_true(status == SP_OK || error->why[0]);
    return status;
}

static struct sp_unit *open_unit(const char *rest)
{
    struct sp_unit *unit = NULL;
    struct sp_error error;
    enum sp_status status = try_open(rest, &unit, &error);
    if (status != SP_OK)
        sp_error_print(&error);
    assert_int_equal(status, SP_OK);
    return unit;
}

static uint8_t *aligned(uint32_t blocks, int fill)
{
    void *memory = NULL;
    assert_int_equal(posix_memalign(&memory, SP_UNIT_BLOCK_BYTES, blocks * SP_UNIT_BLOCK_BYTES), 0);
    memset(memory, fill, blocks * SP_UNIT_BLOCK_BYTES);
    return memory;
}

static enum sp_status write_now(struct sp_unit *unit, uint64_t segment, uint32_t first,
                                uint8_t *blocks, uint32_t count)
{
    enum sp_status status;
    unit->ops->write_start(unit, segment, 0, first, blocks, count);
    while ((status = unit->ops->wait(unit, 1000, NULL)) == SP_TIMEOUT)
        ;
    return status;
}

static void test_init(void **state)
{
    (void)state;
    struct sp_uuid id, again;
    struct sp_error error = {0};
    id = init("u");
    assert_false(sp_uuid_is_nil(&id));
    assert_true(exists("u/unit.id") && exists("u/segments") && !exists("u/unit.id.tmp"));
    assert_int_equal(sp_unit_dir_init(path_of("u"), &volume, &again, &error), SP_EXISTS);
    assert_true(error.todo[0]);
    struct sp_unit *unit = open_unit("u");
    assert_true(sp_uuid_eq(&unit->id, &id));
    unit->ops->close(unit);

    assert_int_equal(mkdir(path_of("empty"), 0700), 0);
    init("empty");

    /* Over anything else it does nothing at all. */
    assert_int_equal(mkdir(path_of("full"), 0700), 0);
    put_file("full/precious", "mail");
    assert_int_equal(sp_unit_dir_init(path_of("full"), &volume, &again, &error), SP_EXISTS);
    assert_true(exists("full/precious") && !exists("full/unit.id") && !exists("full/segments"));
    put_file("plain", "a file");
    assert_int_equal(sp_unit_dir_init(path_of("plain"), &volume, &again, &error), SP_EXISTS);
    assert_int_equal(sp_unit_dir_init(path_of("no/parent"), &volume, &again, &error), SP_IO);
}

static void test_unit_id(void **state)
{
    (void)state;
    static const char good[] = "Sternpost storage unit, format 1\n"
                               "unit 0b0e2ff6-6b0d-4a6b-8b3c-0123456789ab\n"
                               "volume 01020304-0506-4708-890a-0b0c0d0e0f10\n";
    static const struct {
        const char *text;
        enum sp_status status;
    } bad[] = {
        {"", SP_INVALID},
        {"Sternpost storage unit, format ", SP_UNSUPPORTED},
        {"Sternpost storage unit, format 2\nwhatever\n", SP_UNSUPPORTED},
        {"Sternpost storage unit, format 10\n", SP_UNSUPPORTED},
        {"Sternpost storage unit, format 1\n", SP_INVALID},
        {"Sternpost storage unit, format 1\nunit 0b0e2ff6-6b0d-4a6b-8b3c-0123456789ab\n",
         SP_INVALID},
        {"Sternpost storage unit, format 1\nunit 0b0e2ff6-6b0d-4a6b-8b3c-0123456789ab\n"
         "volume 01020304-0506-4708-890a-0b0c0d0e0f10",
         SP_INVALID},
        {"Sternpost storage unit, format 1\nunit 0b0e2ff6-6b0d-4a6b-8b3c-0123456789ab\n"
         "volume 01020304-0506-4708-890a-0b0c0d0e0f10\n\n",
         SP_INVALID},
        {"Sternpost storage unit, format 1\nunit 0B0E2FF6-6b0d-4a6b-8b3c-0123456789ab\n"
         "volume 01020304-0506-4708-890a-0b0c0d0e0f10\n",
         SP_INVALID},
        {"Sternpost storage unit, format 1\nunit 00000000-0000-0000-0000-000000000000\n"
         "volume 01020304-0506-4708-890a-0b0c0d0e0f10\n",
         SP_INVALID},
        {"hello\n", SP_INVALID},
    };
    struct sp_unit *unit;
    struct sp_error error;
    init("u");
    put_file("u/unit.id", good);
    unit = open_unit("u");
    assert_true(sp_uuid_eq(&unit->volume, &volume));
    char text[SP_UUID_TEXT];
    sp_uuid_text(&unit->id, text);
    assert_string_equal(text, "0b0e2ff6-6b0d-4a6b-8b3c-0123456789ab");
    unit->ops->close(unit);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_file("u/unit.id", bad[i].text);
        assert_int_equal(try_open("u", &unit, &error), bad[i].status);
    }
}

static void test_absent(void **state)
{
    (void)state;
    struct sp_unit *unit;
    struct sp_error error;
    assert_int_equal(try_open("nowhere", &unit, &error), SP_UNAVAILABLE);
    assert_true(error.todo[0]);
    assert_int_equal(mkdir(path_of("mountpoint"), 0700), 0);
    assert_int_equal(try_open("mountpoint", &unit, &error), SP_UNAVAILABLE);
    put_file("plain", "a file");
    assert_int_equal(try_open("plain", &unit, &error), SP_UNAVAILABLE);
    init("u");
    assert_int_equal(rmdir(path_of("u/segments")), 0);
    assert_int_equal(try_open("u", &unit, &error), SP_UNAVAILABLE);

    struct sp_uuid id = init("v"), other;
    sp_uuid_make(&other);
    assert_int_equal(sp_unit_dir_open(path_of("v"), "a", &other, &unit, &error), SP_INVALID);
    assert_int_equal(sp_unit_dir_open(path_of("v"), "a", &id, &unit, &error), SP_OK);
    unit->ops->close(unit);
}

static void test_lock(void **state)
{
    (void)state;
    struct sp_unit *second;
    struct sp_error error;
    init("u");
    struct sp_unit *unit = open_unit("u");
    assert_int_equal(try_open("u", &second, &error), SP_CONFLICT);
    unit->ops->close(unit);
    unit = open_unit("u");
    unit->ops->close(unit);
}

static void test_domain(void **state)
{
    (void)state;
    init("u");
    init("v");
    struct sp_unit *u = open_unit("u"), *v = open_unit("v");
    assert_string_equal(u->domain, v->domain);
    assert_true(strchr(u->domain, ':') || strcmp(u->domain, "memory") == 0);
    u->ops->close(u);
    v->ops->close(v);
}

/* Only the names it writes itself are segments; what was being made is removed at open. */
static void test_names(void **state)
{
    (void)state;
    static const char *const names[] = {
        "0000000000000007.0000.seg",
        "000000000000000a.0001.seg",
        "0000000000000007.10000.seg",
        "000000000000000A.0002.seg",
        "7.0000.seg",
        "0000000000000008.00000.seg",
        "0000000000000008.0000.segx",
        "0000000000000009.0000.seg.tmp",
        "+000000000000007.0000.seg",
        "0000000000000008.+001.seg",
        "notes.txt",
    };
    char path[128];
    init("u");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "u/segments/%s", names[i]);
        put_file(path, "");
    }
    assert_int_equal(mkdir(path_of("u/segments/000000000000000b.0000.seg"), 0700), 0);
    put_file("u/vote.tmp", "half a vote");
    struct sp_unit *unit = open_unit("u");
    struct sp_unit_segment *list;
    size_t count;
    assert_int_equal(unit->ops->list(unit, &list, &count, NULL), SP_OK);
    assert_int_equal(count, 3);
    assert_int_equal(list[0].segment, 7);
    assert_int_equal(list[1].generation, 0x10000);
    assert_int_equal(list[2].segment, 10);
    free(list);
    assert_false(exists("u/segments/0000000000000009.0000.seg.tmp") || exists("u/vote.tmp"));
    assert_true(exists("u/segments/notes.txt"));
    unit->ops->close(unit);
}

static void test_lost_paths(void **state)
{
    (void)state;
    struct sp_error error;
    init("u");
    struct sp_unit *unit = open_unit("u");
    assert_int_equal(unit->ops->create(unit, 1, 0, 4, &error), SP_OK);
    assert_int_equal(unit->ops->check(unit, &error), SP_OK);

    /* The whole unit, as when its disk was unmounted; then another in its place. */
    assert_int_equal(rename(path_of("u"), path_of("moved")), 0);
    assert_int_equal(unit->ops->check(unit, &error), SP_UNAVAILABLE);
    assert_true(error.why[0] && error.todo[0]);
    init("u");
    assert_int_equal(unit->ops->check(unit, &error), SP_UNAVAILABLE);
    assert_int_equal(rename(path_of("u"), path_of("other")), 0);
    assert_int_equal(rename(path_of("moved"), path_of("u")), 0);
    assert_int_equal(unit->ops->check(unit, &error), SP_OK);

    /* The open segment alone. */
    const char *segment = "u/segments/0000000000000001.0000.seg";
    assert_int_equal(rename(path_of(segment), path_of("away")), 0);
    assert_int_equal(unit->ops->check(unit, &error), SP_UNAVAILABLE);
    put_file(segment, "");
    assert_int_equal(unit->ops->check(unit, &error), SP_UNAVAILABLE);
    assert_int_equal(rename(path_of("away"), path_of(segment)), 0);
    assert_int_equal(unit->ops->check(unit, &error), SP_OK);
    assert_int_equal(rename(path_of("u/segments"), path_of("s")), 0);
    assert_int_equal(unit->ops->check(unit, &error), SP_UNAVAILABLE);
    assert_int_equal(rename(path_of("s"), path_of("u/segments")), 0);
    assert_int_equal(unlink(path_of(segment)), 0);
    assert_int_equal(unit->ops->check(unit, &error), SP_UNAVAILABLE);
    unit->ops->close(unit);

    /* A segment that was sealed, or removed by us, is not missed. */
    unit = open_unit("u");
    assert_int_equal(unit->ops->create(unit, 2, 0, 4, &error), SP_OK);
    assert_int_equal(unit->ops->seal(unit, 2, 0, 4, &error), SP_OK);
    assert_int_equal(unit->ops->create(unit, 3, 0, 4, &error), SP_OK);
    assert_int_equal(unit->ops->remove(unit, 3, 0, &error), SP_OK);
    assert_int_equal(unlink(path_of("u/segments/0000000000000002.0000.seg")), 0);
    assert_int_equal(unit->ops->check(unit, &error), SP_OK);
    unit->ops->close(unit);
}

static uint32_t blocks_of(struct sp_unit *unit, uint64_t segment)
{
    struct sp_unit_segment *list;
    size_t count;
    uint32_t blocks = 0;
    assert_int_equal(unit->ops->list(unit, &list, &count, NULL), SP_OK);
    for (size_t i = 0; i < count; i++)
        if (list[i].segment == segment)
            blocks = list[i].blocks;
    free(list);
    return blocks;
}

/* Waits for a prepared file to be whole: the preparer says nothing, so create is tried on names in
 * turn. */
static void test_prepare(void **state)
{
    (void)state;
    const uint32_t blocks = 1024;
    uint64_t segment = 1;
    init("u");
    struct sp_unit *unit = open_unit("u");
    /* Not asked for: a short one, made at once. */
    assert_int_equal(unit->ops->create(unit, segment, 0, blocks, NULL), SP_OK);
    assert_in_range(blocks_of(unit, segment), 1, blocks - 1);
    uint32_t got = 0;
    for (unsigned tries = 0; tries < 8 && got != blocks; tries++) {
        segment++;
        unit->ops->prepare(unit, segment, 0, blocks);
        unit->ops->prepare(unit, segment, 0, blocks); /* twice is once */
        usleep(20000U << tries);
        assert_int_equal(unit->ops->create(unit, segment, 0, blocks, NULL), SP_OK);
        got = blocks_of(unit, segment);
    }
    assert_int_equal(got, blocks);
    uint8_t *memory = aligned(4, 0x5a), *back = malloc(SP_UNIT_BLOCK_BYTES * 6);
    assert_non_null(back);
    assert_int_equal(write_now(unit, segment, 2, memory, 4), SP_OK);
    assert_int_equal(unit->ops->read(unit, segment, 0, 1, back, 6, NULL), SP_OK);
    assert_true(back[0] == 0 && back[5 * SP_UNIT_BLOCK_BYTES] == 0);
    assert_memory_equal(back + SP_UNIT_BLOCK_BYTES, memory, 4 * SP_UNIT_BLOCK_BYTES);
    /* Another segment than the one prepared; and one whose prepared file somebody removed. */
    unit->ops->prepare(unit, 100, 0, blocks);
    assert_int_equal(unit->ops->create(unit, 101, 0, 8, NULL), SP_OK);
    unit->ops->prepare(unit, 102, 0, 4);
    for (unsigned tries = 0; tries < 100 && !exists("u/segments/0000000000000066.0000.seg.tmp");
         tries++)
        usleep(10000);
    usleep(50000);
    assert_int_equal(unlink(path_of("u/segments/0000000000000066.0000.seg.tmp")), 0);
    assert_int_equal(unit->ops->create(unit, 102, 0, 4, NULL), SP_OK);
    assert_int_equal(blocks_of(unit, 102), 4);
    unit->ops->prepare(unit, 103, 0, 4096);
    unit->ops->close(unit); /* in the middle of it */
    unit = open_unit("u");
    unit->ops->prepare(unit, 103, 0, 16);
    assert_int_equal(unit->ops->create(unit, 103, 0, 16, NULL), SP_OK);
    unit->ops->close(unit);
    free(memory);
    free(back);
}

/* close does not wait; the unit can be opened again once the write has ended. */
static void test_close_while_writing(void **state)
{
    (void)state;
    uint8_t *memory = aligned(2048, 0x33);
    uint8_t back[SP_UNIT_BLOCK_BYTES];
    init("u");
    struct sp_unit *unit = open_unit("u");
    assert_int_equal(unit->ops->create(unit, 1, 0, 8, NULL), SP_OK);
    for (int round = 0; round < 20; round++) {
        unit->ops->write_start(unit, 1, 0, 0, memory, 2048);
        if (round % 2)
            (void)unit->ops->wait(unit, 0, NULL);
        unit->ops->close(unit);
        struct sp_error error;
        enum sp_status status;
        while ((status = try_open("u", &unit, &error)) == SP_CONFLICT)
            usleep(1000);
        assert_int_equal(status, SP_OK);
    }
    assert_int_equal(unit->ops->read(unit, 1, 0, 2047, back, 1, NULL), SP_OK);
    assert_int_equal(back[0], 0x33);
    unit->ops->close(unit);
    free(memory);
}

struct reader {
    struct sp_unit *unit;
    _Atomic bool stop;
    _Atomic uint32_t written; /* blocks of segment 1 */
};

static void *read_along(void *argument)
{
    struct reader *r = argument;
    uint8_t block[SP_UNIT_BLOCK_BYTES];
    uint64_t at = 1;
    while (!atomic_load(&r->stop)) {
        uint32_t written = atomic_load(&r->written);
        at = at * 6364136223846793005U + 1442695040888963407U;
        if (written) {
            uint32_t index = (uint32_t)(at >> 33) % written;
            sp_assert(r->unit->ops->read(r->unit, 1, 0, index, block, 1, NULL) == SP_OK);
            sp_assert(block[0] == (uint8_t)(index | 1U) && block[4095] == (uint8_t)(index | 1U));
        }
        enum sp_status status =
            r->unit->ops->read(r->unit, 2 + (at >> 40) % 100, 0, 0, block, 1, NULL);
        sp_assert(status == SP_OK || status == SP_NOT_FOUND);
        sp_assert(r->unit->ops->check(r->unit, NULL) == SP_OK);
    }
    return NULL;
}

/* Readers see each acknowledged block, while a hundred other segments come and go through the
 * cache. */
static void test_readers_along(void **state)
{
    (void)state;
    struct reader r = {0};
    pthread_t threads[3];
    init("u");
    r.unit = open_unit("u");
    assert_int_equal(r.unit->ops->create(r.unit, 1, 0, 64, NULL), SP_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_along, &r), 0);
    uint8_t *memory = aligned(1, 0);
    for (uint32_t i = 0; i < 300; i++) {
        memset(memory, (int)(i | 1U), SP_UNIT_BLOCK_BYTES);
        assert_int_equal(write_now(r.unit, 1, i, memory, 1), SP_OK);
        atomic_store(&r.written, i + 1);
        if (i < 100)
            assert_int_equal(r.unit->ops->create(r.unit, 2 + i, 0, 1, NULL), SP_OK);
        else if (i < 200)
            assert_int_equal(r.unit->ops->remove(r.unit, 2 + i - 100, 0, NULL), SP_OK);
    }
    atomic_store(&r.stop, true);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    r.unit->ops->close(r.unit);
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_init, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unit_id, setup, teardown),
        cmocka_unit_test_setup_teardown(test_absent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_domain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_names, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_prepare, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_while_writing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_readers_along, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
