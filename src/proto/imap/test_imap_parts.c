/* The parts of the IMAP session that stand alone: the UID map, sets, patterns, the assembler; and
 * what a session holds when idle. */
#include "proto/imap/assemble.h"
#include "proto/imap/fake_mail.h"
#include "proto/imap/imap.h"
#include "proto/imap/list_match.h"
#include "proto/imap/parse.h"
#include "proto/imap/respond.h"
#include "proto/imap/uidmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static uint64_t random_state = 0x2545f4914f6cdd1dU;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % n;
}

/* ---- The UID map against an array ---- */

#define MODEL_MAX 400U

struct model {
    uint32_t uids[MODEL_MAX];
    uint32_t count;
};

static void check_same(const struct sp_imap_uidmap *map, const struct model *model,
                       uint32_t next_uid)
{
    uint32_t run = 0, seq = 0;
    assert_int_equal(sp_imap_uidmap_exists(map), model->count);
    assert_int_equal(sp_imap_uidmap_last(map), model->count ? model->uids[model->count - 1] : 0);
    for (uint32_t uid = 1; uid <= next_uid; uid++) {
        bool there = seq < model->count && model->uids[seq] == uid;
        assert_int_equal(sp_imap_uidmap_seq(map, uid), there ? seq + 1 : 0);
        assert_int_equal(sp_imap_uidmap_next_seq(map, &run, uid), there ? seq + 1 : 0);
        if (there)
            assert_int_equal(sp_imap_uidmap_uid(map, ++seq), uid);
    }
    for (uint32_t i = 1; i < map->count; i++)
        assert_true(map->runs[i].first > map->runs[i - 1].last + 1);
}

/* Some ascending ranges that neither overlap nor touch, up to max. */
static struct sp_uid_ranges some_ranges(struct sp_uid_range *room, uint32_t room_count,
                                        uint32_t first, uint32_t max)
{
    struct sp_uid_ranges ranges = {room, 0};
    uint32_t at = first + random_below(4);
    while (ranges.count < room_count && at <= max) {
        uint32_t last = at + random_below(6);
        if (last > max)
            last = max;
        room[ranges.count++] = (struct sp_uid_range){at, last};
        at = last + 2 + random_below(8);
    }
    return ranges;
}

static bool holds(struct sp_uid_ranges ranges, uint32_t n)
{
    for (uint32_t i = 0; i < ranges.count; i++)
        if (n >= ranges.ptr[i].first && n <= ranges.ptr[i].last)
            return true;
    return false;
}

/* EXPUNGE responses, as a client takes them. */
static void expunge(void *context, uint32_t seq, uint32_t count)
{
    struct model *client = context;
    while (count--) {
        assert_true(seq >= 1 && seq <= client->count);
        client->count--;
        memmove(&client->uids[seq - 1], &client->uids[seq],
                (client->count - seq + 1) * sizeof client->uids[0]);
    }
}

static void check_sets(const struct sp_imap_uidmap *map, const struct model *model,
                       uint32_t next_uid)
{
    struct sp_uid_range room[20];
    struct sp_uid_ranges ranges, result;
    struct sp_arena arena;
    uint32_t count = 0;
    sp_arena_init(&arena, 1U << 20);
    ranges = some_ranges(room, 20, 1, next_uid);
    assert_int_equal(sp_imap_uidmap_seqs(map, ranges, &arena, &result), SP_OK);
    for (uint32_t i = 0; i < model->count; i++) {
        assert_int_equal(holds(result, i + 1), holds(ranges, model->uids[i]));
        count += holds(ranges, model->uids[i]);
    }
    assert_int_equal(sp_imap_uidmap_count(map, ranges), count);
    ranges = some_ranges(room, 20, 1, model->count);
    assert_int_equal(sp_imap_uidmap_uids(map, ranges, &arena, &result), SP_OK);
    for (uint32_t i = 0; i < model->count; i++)
        assert_int_equal(holds(result, model->uids[i]), holds(ranges, i + 1));
    for (uint32_t i = 1; i < result.count; i++)
        assert_true(result.ptr[i].first > result.ptr[i - 1].last + 1);
    sp_arena_release(&arena);
}

static void test_uidmap(void **state)
{
    for (unsigned round = 0; round < 300; round++) {
        struct sp_imap_uidmap map;
        struct model model = {.count = 0};
        struct sp_uid_range room[20];
        uint32_t next_uid = 1 + random_below(5);
        sp_imap_uidmap_init(&map);
        for (unsigned step = 0; step < 30; step++) {
            if (random_below(2) && model.count < MODEL_MAX / 2) {
                struct sp_uid_ranges ranges =
                    some_ranges(room, 1 + random_below(5), next_uid, next_uid + 40);
                for (uint32_t i = 0; i < ranges.count; i++)
                    for (uint32_t uid = room[i].first; uid <= room[i].last; uid++) {
                        model.uids[model.count++] = uid;
                        next_uid = uid + 1;
                    }
                assert_int_equal(sp_imap_uidmap_append(&map, ranges), SP_OK);
                assert_int_equal(sp_imap_uidmap_append(&map, ranges), SP_OK); /* known already */
            } else {
                struct sp_uid_ranges ranges = some_ranges(room, 20, 1, next_uid + 10);
                struct model client = model, after = {.count = 0};
                for (uint32_t i = 0; i < model.count; i++)
                    if (!holds(ranges, model.uids[i]))
                        after.uids[after.count++] = model.uids[i];
                assert_int_equal(sp_imap_uidmap_remove(&map, ranges, expunge, &client), SP_OK);
                assert_int_equal(client.count, after.count);
                assert_memory_equal(client.uids, after.uids, after.count * sizeof after.uids[0]);
                model = after;
            }
            check_same(&map, &model, next_uid);
            check_sets(&map, &model, next_uid);
        }
        sp_imap_uidmap_release(&map);
    }
}

static void test_uidmap_edges(void **state)
{
    struct sp_imap_uidmap map;
    struct model client = {{1, UINT32_MAX - 1, UINT32_MAX}, 3};
    struct sp_uid_range all[] = {{1, 1}, {UINT32_MAX - 1, UINT32_MAX}};
    struct sp_uid_range last = {UINT32_MAX, UINT32_MAX}, bad = {5, 4}, zero = {0, 4};
    sp_imap_uidmap_init(&map);
    assert_int_equal(sp_imap_uidmap_append(&map, (struct sp_uid_ranges){&bad, 1}), SP_INVALID);
    assert_int_equal(sp_imap_uidmap_append(&map, (struct sp_uid_ranges){&zero, 1}), SP_INVALID);
    assert_int_equal(sp_imap_uidmap_append(&map, (struct sp_uid_ranges){all, 2}), SP_OK);
    assert_int_equal(sp_imap_uidmap_exists(&map), 3);
    assert_int_equal(sp_imap_uidmap_seq(&map, UINT32_MAX), 3);
    assert_int_equal(
        sp_imap_uidmap_remove(&map, (struct sp_uid_ranges){&last, 1}, expunge, &client), SP_OK);
    assert_int_equal(sp_imap_uidmap_last(&map), UINT32_MAX - 1);
    assert_int_equal(sp_imap_uidmap_remove(&map, (struct sp_uid_ranges){all, 2}, expunge, &client),
                     SP_OK);
    assert_int_equal(sp_imap_uidmap_exists(&map), 0);
    assert_null(map.runs);
    sp_imap_uidmap_release(&map);
}

/* ---- Sets ---- */

static void test_sets(void **state)
{
    static const struct {
        const char *text;
        uint32_t last;
        const char *expected; /* NULL: malformed */
    } table[] = {
        {"1", 9, "1"},
        {"1:3,2:5,9", 9, "1:5,9"},
        {"5:1", 9, "1:5"},
        {"*", 9, "9"},
        {"*:4", 9, "4:9"},
        {"12:*", 9, "9:12"},
        {"1,2,3", 9, "1:3"},
        {"4294967295,1", 9, "1,4294967295"},
        {"4294967290:4294967295,4294967295", 9, "4294967290:4294967295"},
        {"1:*,7", 0, "7"},
        {"0", 9, NULL},
        {"1,", 9, NULL},
        {":1", 9, NULL},
        {"1:", 9, NULL},
        {"**", 9, NULL},
        {"1:2:3", 9, NULL},
        {"4294967296", 9, NULL},
        {"", 9, NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct sp_arena arena;
        struct sp_imap_set set;
        struct sp_uid_ranges ranges;
        struct sp_buf text;
        sp_arena_init(&arena, 100000);
        sp_buf_init(&text, 1000);
        struct sp_imap_parse p = {.rest = sp_slice_str(table[i].text), .arena = &arena};
        bool parsed = sp_imap_take_set(&p, &set) && sp_imap_take_end(&p);
        assert_int_equal(parsed, table[i].expected != NULL);
        if (parsed) {
            assert_true(sp_imap_set_resolve(set, table[i].last, &arena, &ranges));
            sp_imap_add_ranges(&text, ranges);
            assert_true(sp_slice_eq(sp_buf_slice(&text), sp_slice_str(table[i].expected)));
        }
        sp_buf_release(&text);
        sp_arena_release(&arena);
    }
}

/* ---- Patterns ---- */

static bool match_plainly(const char *pattern, const char *name)
{
    if (!*pattern)
        return !*name;
    if (*pattern == '*' || *pattern == '%')
        return match_plainly(pattern + 1, name) ||
               (*name && (*pattern == '*' || *name != '/') && match_plainly(pattern, name + 1));
    return *name == *pattern && match_plainly(pattern + 1, name + 1);
}

static void test_patterns(void **state)
{
    for (unsigned round = 0; round < 200000; round++) {
        char pattern[9], name[13];
        uint32_t p = random_below(sizeof pattern), n = random_below(sizeof name);
        for (uint32_t i = 0; i < p; i++)
            pattern[i] = "ab/*%"[random_below(5)];
        for (uint32_t i = 0; i < n; i++)
            name[i] = "ab/"[random_below(3)];
        pattern[p] = name[n] = 0;
        if (sp_imap_list_match(sp_slice_str(pattern), sp_slice_str(name)) !=
            match_plainly(pattern, name))
            fail_msg("pattern %s, name %s", pattern, name);
    }
    assert_true(sp_imap_list_match(SP_S("inBox"), SP_S("INBOX")));
    assert_true(sp_imap_list_match(SP_S("i%/x"), SP_S("INBOX/x")));
    assert_false(sp_imap_list_match(SP_S("INBOX/X"), SP_S("INBOX/x")));
    assert_false(sp_imap_list_match(SP_S("inboxes"), SP_S("INBOXES")));
}

/* ---- The assembler ---- */

static void test_assembler(void **state)
{
    static const struct {
        const char *input;
        enum sp_imap_assembly last;
        unsigned continues;
        size_t bytes;
        uint64_t literal;
    } table[] = {
        {"a NOOP\r\nb", SP_IMAP_WHOLE, 0, 8, 0},
        {"a NOOP\nb", SP_IMAP_WHOLE, 0, 7, 0},
        {"a LOGIN {3}\r\na\r\n {2+}\r\n{}\r\n", SP_IMAP_WHOLE, 1, 27, 0},
        {"a LOGIN {3}\r\na\n", SP_IMAP_MORE, 1, 0, 0},
        {"a LOGIN {21}\r\n", SP_IMAP_TOO_LONG, 0, 14, 21},
        {"a LOGIN {99999999999999999999}\r\n", SP_IMAP_WHOLE, 0, 32, 0},
        {"a APPEND x {9000000}\r\n", SP_IMAP_MESSAGE, 0, 22, 9000000},
        {"a append {1+}\r\nx (\\Seen) {30+}\r\n", SP_IMAP_MESSAGE, 0, 32, 30},
        {"a APPEND {1+}\r\nx", SP_IMAP_MORE, 0, 0, 0},
        {"a NOOP {}\r\n", SP_IMAP_WHOLE, 0, 11, 0},
        {"a 0123456789012345678901234567890123456789", SP_IMAP_TOO_LONG, 0, 41, 0},
    };
    struct sp_imap_limits limits = {40, 20, true};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct sp_imap_assembler assembler = {0};
        struct sp_imap_extent extent = {0};
        enum sp_imap_assembly is = SP_IMAP_MORE;
        unsigned continues = 0;
        /* A byte more at a time: it must not matter. */
        for (size_t n = 0; n <= strlen(table[i].input) && is == SP_IMAP_MORE; n++) {
            while ((is = sp_imap_assemble(&assembler, sp_slice(table[i].input, n), &limits,
                                          &extent)) == SP_IMAP_CONTINUE)
                continues++;
        }
        assert_int_equal(is, table[i].last);
        assert_int_equal(continues, table[i].continues);
        if (is != SP_IMAP_MORE)
            assert_int_equal(extent.bytes, table[i].bytes);
        if (is == SP_IMAP_MESSAGE || (is == SP_IMAP_TOO_LONG && table[i].literal))
            assert_int_equal(extent.literal, table[i].literal);
    }
}

/* ---- Dates ---- */

static void test_dates(void **state)
{
    static const struct {
        const char *text; /* as APPEND takes it */
        const char *shown;
    } table[] = {
        {"\"17-Jul-1996 02:44:25 -0700\"", "\"17-Jul-1996 02:44:25 -0700\""},
        {"\" 1-jan-1970 00:00:00 +0000\"", "\" 1-Jan-1970 00:00:00 +0000\""},
        {"\"01-Mar-2000 23:59:59 +1400\"", "\" 1-Mar-2000 23:59:59 +1400\""},
        {"\"29-Feb-2024 12:00:00 +0530\"", "\"29-Feb-2024 12:00:00 +0530\""},
        {"\"29-Feb-2024 24:00:00 +0530\"", NULL},
        {"\"29-Feb-2024 12:60:00 +0530\"", NULL},
        {"\"29-Feb-2024 12:00:00 0530\"", NULL},
        {"\"29-Feb-24 12:00:00 +0530\"", NULL},
        {"\"29-Foo-2024 12:00:00 +0530\"", NULL},
        {"\"29-Feb-2024 12:00:00 +0530", NULL},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct sp_imap_parse p = {.rest = sp_slice_str(table[i].text)};
        struct sp_date date;
        uint8_t shown[SP_IMAP_DATE_BYTES];
        bool parsed = sp_imap_take_date_time(&p, &date) && sp_imap_take_end(&p);
        assert_int_equal(parsed, table[i].shown != NULL);
        if (parsed) {
            assert_ptr_equal(sp_imap_put_date(shown, date), shown + sizeof shown);
            assert_memory_equal(shown, table[i].shown, sizeof shown);
        }
    }
    uint8_t shown[SP_IMAP_DATE_BYTES];
    (void)sp_imap_put_date(shown, (struct sp_date){INT64_MAX, 0});
    assert_memory_equal(shown, "\"31-Dec-9999", 12);
    (void)sp_imap_put_date(shown, (struct sp_date){INT64_MIN, -840});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uidmap),    cmocka_unit_test(test_uidmap_edges),
        cmocka_unit_test(test_sets),      cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_assembler), cmocka_unit_test(test_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
