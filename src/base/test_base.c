#include "base/arena.h"
#include "base/buf.h"
#include "base/checksum.h"
#include "base/cursor.h"
#include "base/endian.h"
#include "base/log.h"
#include "base/time.h"
#include "base/uuid.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

static void assert_slice(struct sp_slice got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    if (got.len)
        assert_memory_equal(got.ptr, want, got.len);
}

/* ---- Slices ---- */

static void test_slice_sub(void **state)
{
    (void)state;
    struct sp_slice s = SP_S("abcdef");
    assert_slice(sp_slice_sub(s, 1, 3), "bc");
    assert_slice(sp_slice_sub(s, 0, 100), "abcdef");
    assert_slice(sp_slice_sub(s, 4, 2), "");
    assert_slice(sp_slice_sub(s, 100, 200), "");
    assert_slice(sp_slice_from(s, 5), "f");
    assert_slice(sp_slice_from(s, 6), "");
    assert_slice(sp_slice_from(sp_slice(NULL, 0), 3), "");
}

static void test_slice_compare(void **state)
{
    (void)state;
    static const struct {
        struct sp_slice a, b;
        int order; /* sign */
        bool equal, equal_nocase, starts_nocase;
    } cases[] = {
        {SP_S(""), SP_S(""), 0, true, true, true},
        {{NULL, 0}, SP_S(""), 0, true, true, true},
        {SP_S("a"), SP_S(""), 1, false, false, true},
        {SP_S(""), SP_S("a"), -1, false, false, false},
        {SP_S("abc"), SP_S("abd"), -1, false, false, false},
        {SP_S("ab"), SP_S("abc"), -1, false, false, false},
        {SP_S("Inbox"), SP_S("INBOX"), 1, false, true, true},
        {SP_S("INBOX/x"), SP_S("inbox"), -1, false, false, true},
        {SP_S("\xff"), SP_S("\x01"), 1, false, false, false},
        {SP_S("["), SP_S("{"), -1, false, false, false}, /* 32 apart, but no letters */
        {SP_S("\xc4"), SP_S("\xe4"), -1, false, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int order = sp_slice_cmp(cases[i].a, cases[i].b);
        assert_int_equal((order > 0) - (order < 0), cases[i].order);
        assert_int_equal(sp_slice_eq(cases[i].a, cases[i].b), cases[i].equal);
        assert_int_equal(sp_slice_eq_nocase(cases[i].a, cases[i].b), cases[i].equal_nocase);
        assert_int_equal(sp_slice_starts_nocase(cases[i].a, cases[i].b), cases[i].starts_nocase);
    }
}

static void test_slice_find_and_trim(void **state)
{
    (void)state;
    assert_int_equal(sp_slice_find(SP_S("a:b:c"), ':'), 1);
    assert_int_equal(sp_slice_find(SP_S("abc"), ':'), SIZE_MAX);
    assert_int_equal(sp_slice_find(sp_slice(NULL, 0), ':'), SIZE_MAX);
    assert_slice(sp_slice_trim(SP_S(" \t\r\n a b \r\n")), "a b");
    assert_slice(sp_slice_trim(SP_S(" \t ")), "");
    assert_slice(sp_slice_trim(sp_slice(NULL, 0)), "");
}

static void test_slice_u64(void **state)
{
    (void)state;
    static const struct {
        struct sp_slice text;
        uint64_t max, value;
        enum sp_status status;
    } cases[] = {
        {SP_S("0"), 0, 0, SP_OK},
        {SP_S("00012"), 12, 12, SP_OK},
        {SP_S("13"), 12, 0, SP_INVALID},
        {SP_S("18446744073709551615"), UINT64_MAX, UINT64_MAX, SP_OK},
        {SP_S("18446744073709551616"), UINT64_MAX, 0, SP_INVALID},
        {SP_S("99999999999999999999"), UINT64_MAX, 0, SP_INVALID},
        {SP_S("4294967296"), UINT32_MAX, 0, SP_INVALID},
        {SP_S(""), UINT64_MAX, 0, SP_INVALID},
        {SP_S("-1"), UINT64_MAX, 0, SP_INVALID},
        {SP_S("+1"), UINT64_MAX, 0, SP_INVALID},
        {SP_S(" 1"), UINT64_MAX, 0, SP_INVALID},
        {SP_S("1a"), UINT64_MAX, 0, SP_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t value = 77;
        assert_int_equal(sp_slice_u64(cases[i].text, cases[i].max, &value), cases[i].status);
        assert_int_equal(value, cases[i].status == SP_OK ? cases[i].value : 77);
    }
}

/* ---- Buffers ---- */

static void test_buf(void **state)
{
    (void)state;
    struct sp_buf buf;
    sp_buf_init(&buf, 1000);
    sp_buf_add(&buf, sp_slice(NULL, 0));
    sp_buf_add_str(&buf, "abc");
    sp_buf_add_byte(&buf, '-');
    sp_buf_add_u16(&buf, 0x0102);
    sp_buf_add_u32(&buf, 0x01020304);
    sp_buf_add_u64(&buf, 0x0102030405060708);
    sp_buf_add_decimal(&buf, 0);
    sp_buf_add_decimal(&buf, UINT64_MAX);
    sp_buf_addf(&buf, "<%d %s>", -5, "x");
    sp_buf_add_bytes(&buf, SP_S("yz"));
    static const char want[] = "abc-\2\1\4\3\2\1\10\7\6\5\4\3\2\1"
                               "018446744073709551615<-5 x>\2yz";
    assert_false(sp_buf_failed(&buf));
    assert_int_equal(buf.len, sizeof want - 1);
    assert_memory_equal(buf.ptr, want, sizeof want - 1);
    sp_buf_consume(&buf, 0);
    sp_buf_consume(&buf, 4);
    assert_memory_equal(buf.ptr, want + 4, buf.len);
    sp_buf_consume(&buf, buf.len);
    assert_int_equal(buf.len, 0);
    sp_buf_release(&buf);
    assert_null(buf.ptr);
    sp_buf_add_str(&buf, "again");
    assert_slice(sp_buf_slice(&buf), "again");
    sp_buf_release(&buf);
}

static void test_buf_cap(void **state)
{
    (void)state;
    struct sp_buf buf;
    for (size_t cap = 0; cap < 600; cap++) {
        sp_buf_init(&buf, cap);
        for (size_t i = 0; i < cap; i++)
            sp_buf_add_byte(&buf, (uint8_t)i);
        assert_false(sp_buf_failed(&buf));
        assert_int_equal(buf.len, cap);
        sp_buf_add(&buf, sp_slice(NULL, 0));
        assert_false(sp_buf_failed(&buf));
        sp_buf_add_byte(&buf, 1);
        assert_true(sp_buf_failed(&buf));
        assert_int_equal(buf.len, cap);
        assert_null(sp_buf_extend(&buf, 0)); /* failed stays failed */
        sp_buf_release(&buf);
    }
    /* It keeps what it has, and what comes after is ignored even if it would fit. */
    sp_buf_init(&buf, 5);
    sp_buf_add_str(&buf, "abc");
    sp_buf_add_str(&buf, "def");
    sp_buf_add_str(&buf, "g");
    sp_buf_addf(&buf, "%d", 1);
    assert_true(sp_buf_failed(&buf));
    assert_slice(sp_buf_slice(&buf), "abc");
    assert_false(sp_buf_reserve(&buf, 1));
    sp_buf_reset(&buf);
    assert_false(sp_buf_failed(&buf));
    assert_false(sp_buf_reserve(&buf, SIZE_MAX));
    assert_true(sp_buf_failed(&buf));
    sp_buf_release(&buf);
    sp_buf_init(&buf, SIZE_MAX);
    sp_buf_add_byte(&buf, 1);
    assert_null(sp_buf_extend(&buf, SIZE_MAX));
    sp_buf_release(&buf);
}

/* ---- Cursor ---- */

static void test_cursor(void **state)
{
    (void)state;
    struct sp_buf buf;
    sp_buf_init(&buf, 1000);
    sp_buf_add_byte(&buf, 9);
    sp_buf_add_u16(&buf, 0xfedc);
    sp_buf_add_u32(&buf, 0xfedcba98);
    sp_buf_add_u64(&buf, 0xfedcba9876543210);
    sp_buf_add_bytes(&buf, SP_S("hello"));
    sp_buf_add_bytes(&buf, SP_S(""));
    sp_buf_add_varint(&buf, 7);
    for (size_t len = 0; len <= buf.len; len++) {
        struct sp_cursor c = sp_cursor(sp_slice(buf.ptr, len));
        bool whole = len == buf.len;
        uint8_t byte = sp_cursor_u8(&c);
        uint16_t half = sp_cursor_u16(&c);
        uint32_t word = sp_cursor_u32(&c);
        uint64_t wide = sp_cursor_u64(&c);
        struct sp_slice hello = sp_cursor_bytes(&c), empty = sp_cursor_bytes(&c);
        uint64_t count = sp_cursor_count(&c, 7);
        assert_int_equal(c.failed, !whole);
        assert_int_equal(empty.len, 0);
        if (whole) {
            assert_true(byte == 9 && half == 0xfedc && word == 0xfedcba98 &&
                        wide == 0xfedcba9876543210 && count == 7);
            assert_slice(hello, "hello");
            assert_int_equal(c.rest.len, 0);
        }
        if (c.failed) { /* sticky */
            c.rest = SP_S("more bytes");
            assert_int_equal(sp_cursor_u64(&c), 0);
            assert_int_equal(sp_cursor_varint(&c), 0);
            assert_null(sp_cursor_take(&c, 1).ptr);
        }
    }
    sp_buf_release(&buf);
}

static void test_varint(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t values[] = {1ULL << bit, (1ULL << bit) - 1, UINT64_MAX << bit};
        for (size_t i = 0; i < 3; i++) {
            struct sp_buf buf;
            sp_buf_init(&buf, 10);
            sp_buf_add_varint(&buf, values[i]);
            assert_false(sp_buf_failed(&buf));
            struct sp_cursor c = sp_cursor(sp_buf_slice(&buf));
            assert_int_equal(sp_cursor_varint(&c), values[i]);
            assert_true(!c.failed && c.rest.len == 0);
            c = sp_cursor(sp_slice(buf.ptr, buf.len - 1));
            sp_cursor_varint(&c);
            assert_true(c.failed);
            sp_buf_release(&buf);
        }
    }
    static const struct {
        struct sp_slice bytes;
        bool good;
        uint64_t value;
    } cases[] = {
        {SP_S("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), true, UINT64_MAX},
        {SP_S("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), false, 0},
        {SP_S("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00"), false, 0},
        {SP_S("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"), false, 0},
        {SP_S("\x80"), false, 0},
        {SP_S(""), false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_cursor c = sp_cursor(cases[i].bytes);
        assert_int_equal(sp_cursor_varint(&c), cases[i].value);
        assert_int_equal(c.failed, !cases[i].good);
    }
    struct sp_cursor c = sp_cursor(SP_S("\x08"));
    assert_int_equal(sp_cursor_count(&c, 7), 0);
    assert_true(c.failed);
    /* A length that reaches beyond the end. */
    c = sp_cursor(SP_S("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
                       "abc"));
    assert_null(sp_cursor_bytes(&c).ptr);
    assert_true(c.failed);
}

/* ---- Arenas ---- */

static void test_arena(void **state)
{
    (void)state;
    struct sp_arena arena;
    sp_arena_init(&arena, 1U << 20);
    uint8_t *pieces[200];
    size_t sizes[200];
    for (size_t i = 0; i < 200; i++) {
        sizes[i] = i * i % 4001;
        pieces[i] = sp_arena_alloc(&arena, sizes[i]);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], 0);
        memset(pieces[i], (int)i, sizes[i]);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], (uint8_t)i);
    /* A large one goes between, without ending the current chunk. */
    uint8_t *large = sp_arena_alloc(&arena, 200000), *small = sp_arena_alloc(&arena, 1);
    assert_true(large && small);
    memset(large, 1, 200000);
    assert_int_equal(*small, 0);
    assert_slice(sp_arena_copy(&arena, SP_S("copied")), "copied");
    assert_null(sp_arena_copy(&arena, SP_S("")).ptr);
    assert_string_equal(sp_arena_str(&arena, SP_S("text")), "text");
    assert_string_equal(sp_arena_str(&arena, sp_slice(NULL, 0)), "");
    sp_arena_release(&arena);
    assert_int_equal(arena.used_bytes, 0);
    assert_non_null(sp_arena_alloc(&arena, 1));
    sp_arena_release(&arena);
}

static void test_arena_cap(void **state)
{
    (void)state;
    struct sp_arena arena;
    sp_arena_init(&arena, 64);
    assert_non_null(sp_arena_alloc(&arena, 33)); /* counts as 48 */
    assert_null(sp_arena_alloc(&arena, 17));
    assert_non_null(sp_arena_alloc(&arena, 16));
    assert_null(sp_arena_alloc(&arena, 1));
    assert_null(sp_arena_alloc(&arena, 0));
    assert_int_equal(arena.used_bytes, 64);
    struct sp_slice failed = sp_arena_copy(&arena, SP_S("x"));
    assert_true(!failed.ptr && failed.len == 1);
    assert_null(sp_arena_str(&arena, SP_S("")));
    assert_null(sp_arena_alloc(&arena, SIZE_MAX));
    assert_null(sp_arena_array(&arena, SIZE_MAX / 2, 3));
    sp_arena_release(&arena);
    assert_non_null(sp_arena_array(&arena, 4, 16)); /* the cap stays */
    assert_null(sp_arena_alloc(&arena, 1));
    sp_arena_release(&arena);
    sp_arena_init(&arena, 0);
    assert_null(sp_arena_alloc(&arena, 1));
    sp_arena_release(&arena);
}

/* ---- Checksums, integers, UUIDs ---- */

static void test_checksums(void **state)
{
    (void)state;
    struct sp_slice digits = SP_S("123456789");
    assert_int_equal(sp_crc32c(0, digits), 0xe3069283);
    assert_int_equal(sp_crc64(digits), 0x995dc9bbdf1939fa);
    assert_int_equal(sp_crc32c(0, SP_S("")), 0);
    for (size_t cut = 0; cut <= digits.len; cut++)
        assert_int_equal(
            sp_crc32c(sp_crc32c(0, sp_slice_sub(digits, 0, cut)), sp_slice_from(digits, cut)),
            0xe3069283);
    /* RFC 3720, B.4 */
    uint8_t bytes[32];
    memset(bytes, 0, 32);
    assert_int_equal(sp_crc32c(0, sp_slice(bytes, 32)), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    assert_int_equal(sp_crc32c(0, sp_slice(bytes, 32)), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    assert_int_equal(sp_crc32c(0, sp_slice(bytes, 32)), 0x46dd794e);
}

static void test_digest(void **state)
{
    (void)state;
    /* BLAKE2b-256 of "abc". */
    static const uint8_t want[SP_DIGEST_BYTES] = {0xbd, 0xdd, 0x81, 0x3c, 0x63, 0x42, 0x39, 0x72,
                                                  0x31, 0x71, 0xef, 0x3f, 0xee, 0x98, 0x57, 0x9b,
                                                  0x94, 0x96, 0x4e, 0x3b, 0xb1, 0xcb, 0x3e, 0x42,
                                                  0x72, 0x62, 0xc8, 0xc0, 0x68, 0xd5, 0x23, 0x19};
    struct sp_digest digest;
    sp_digest(SP_S("abc"), &digest);
    assert_memory_equal(digest.bytes, want, sizeof want);
    struct sp_digest_state parts;
    sp_digest_init(&parts);
    sp_digest_update(&parts, SP_S("a"));
    sp_digest_update(&parts, SP_S(""));
    sp_digest_update(&parts, SP_S("bc"));
    sp_digest_final(&parts, &digest);
    assert_memory_equal(digest.bytes, want, sizeof want);
}

static void test_endian(void **state)
{
    (void)state;
    uint8_t bytes[9] = {0};
    sp_put_u16(bytes + 1, 0x0102);
    assert_true(bytes[1] == 2 && bytes[2] == 1 && sp_get_u16(bytes + 1) == 0x0102);
    sp_put_u32(bytes + 1, 0x01020304);
    assert_true(bytes[1] == 4 && bytes[4] == 1 && sp_get_u32(bytes + 1) == 0x01020304);
    sp_put_u64(bytes + 1, 0x0102030405060708);
    assert_true(bytes[1] == 8 && bytes[8] == 1 && sp_get_u64(bytes + 1) == 0x0102030405060708);
    sp_put_u32be(bytes + 1, 0x01020304);
    assert_true(bytes[1] == 1 && bytes[4] == 4 && sp_get_u32be(bytes + 1) == 0x01020304);
    sp_put_u64be(bytes + 1, 0x0102030405060708);
    assert_true(bytes[1] == 1 && bytes[8] == 8 && sp_get_u64be(bytes + 1) == 0x0102030405060708);
}

static void test_uuid(void **state)
{
    (void)state;
    struct sp_uuid a, b;
    char text[SP_UUID_TEXT];
    for (int i = 0; i < 100; i++) {
        sp_uuid_make(&a);
        assert_true(a.bytes[6] >> 4 == 4 && a.bytes[8] >> 6 == 2);
        sp_uuid_text(&a, text);
        assert_int_equal(strlen(text), 36);
        assert_int_equal(sp_uuid_parse(sp_slice_str(text), &b), SP_OK);
        assert_true(sp_uuid_eq(&a, &b) && !sp_uuid_is_nil(&a));
        sp_uuid_make(&b);
        assert_false(sp_uuid_eq(&a, &b));
    }
    assert_int_equal(sp_uuid_parse(SP_S("F81D4FAE-7dec-11d0-A765-00a0c91e6bf6"), &a), SP_OK);
    sp_uuid_text(&a, text);
    assert_string_equal(text, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6");
    static const char *const bad[] = {
        "",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf6f",
        "f81d4fae07dec-11d0-a765-00a0c91e6bf6",
        "f81d4fa--7dec-11d0-a765-00a0c91e6bf6",
        "g81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf ",
        "{81d4fae-7dec-11d0-a765-00a0c91e6bf}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(sp_uuid_parse(sp_slice_str(bad[i]), &a), SP_INVALID);
    struct sp_uuid nil = {{0}};
    assert_true(sp_uuid_is_nil(&nil));
    assert_true(sp_random_u64() != sp_random_u64());
}

/* ---- Time ---- */

static void test_civil(void **state)
{
    (void)state;
    static const struct {
        int64_t seconds;
        struct sp_civil civil;
    } cases[] = {
        {0, {1970, 1, 1, 0, 0, 0, 4}},
        {-1, {1969, 12, 31, 23, 59, 59, 3}},
        {-86400, {1969, 12, 31, 0, 0, 0, 3}},
        {951782399, {2000, 2, 28, 23, 59, 59, 1}},
        {951782400, {2000, 2, 29, 0, 0, 0, 2}},
        {951868800, {2000, 3, 1, 0, 0, 0, 3}},
        {-2203977600, {1900, 2, 28, 0, 0, 0, 3}},
        {-2203891200, {1900, 3, 1, 0, 0, 0, 4}}, /* 1900 was no leap year */
        {1000000000, {2001, 9, 9, 1, 46, 40, 0}},
        {2147483647, {2038, 1, 19, 3, 14, 7, 2}},
        {4294967296, {2106, 2, 7, 6, 28, 16, 0}},
        {4107542400, {2100, 3, 1, 0, 0, 0, 1}},
        {253402300799, {9999, 12, 31, 23, 59, 59, 5}},
        {-12219292800, {1582, 10, 15, 0, 0, 0, 5}},
        {-62135596800, {1, 1, 1, 0, 0, 0, 1}},
        {-62167219200, {0, 1, 1, 0, 0, 0, 6}},
        {-62167219201, {-1, 12, 31, 23, 59, 59, 5}},
        {-62162035200, {0, 3, 1, 0, 0, 0, 3}}, /* year 0 was one */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_civil got, want = cases[i].civil;
        sp_unix_to_civil(cases[i].seconds, &got);
        assert_memory_equal(&got, &want, sizeof got);
        assert_int_equal(
            sp_civil_to_unix(want.year, want.month, want.day, want.hour, want.minute, want.second),
            cases[i].seconds);
    }
    /* There and back, and a weekday later each day, over the years -800 to 3200. */
    int weekday = -1;
    for (int64_t day = -1012000; day < 450000; day++) {
        struct sp_civil c;
        sp_unix_to_civil(day * 86400 + 12345, &c);
        assert_int_equal(sp_civil_to_unix(c.year, c.month, c.day, c.hour, c.minute, c.second),
                         day * 86400 + 12345);
        assert_true(c.month >= 1 && c.month <= 12 && c.day >= 1 && c.day <= 31);
        if (weekday >= 0)
            assert_int_equal(c.weekday, (weekday + 1) % 7);
        weekday = c.weekday;
    }
    assert_string_equal(sp_weekday_names[0], "Sun");
    assert_string_equal(sp_month_names[11], "Dec");
}

static void test_clocks(void **state)
{
    (void)state;
    uint64_t before = sp_now_us();
    assert_true(sp_now_us() >= before && sp_now_ms() >= before / 1000);
    struct sp_civil now;
    sp_unix_to_civil((int64_t)(sp_wall_ns() / 1000000000U), &now);
    assert_in_range(now.year, 2024, 2200);
}

/* ---- Errors and log ---- */

static void test_error(void **state)
{
    (void)state;
    struct sp_error error;
    assert_int_equal(sp_error_set(NULL, SP_IO, "x", "y"), SP_IO);
    sp_error_todo(NULL, "z");
    assert_int_equal(sp_error_set(&error, SP_CORRUPT, "unit a", "block %d", 7), SP_CORRUPT);
    assert_int_equal(error.status, SP_CORRUPT);
    assert_string_equal(error.what, "unit a");
    assert_string_equal(error.why, "block 7");
    assert_string_equal(error.todo, "");
    sp_error_todo(&error, "mend %s", "it");
    assert_string_equal(error.todo, "mend it");
    char lengthy[2000];
    memset(lengthy, 'x', sizeof lengthy - 1);
    lengthy[sizeof lengthy - 1] = '\0';
    (void)sp_error_set(&error, SP_IO, lengthy, "%s", lengthy);
    assert_int_equal(strlen(error.what), sizeof error.what - 1);
    assert_int_equal(strlen(error.why), sizeof error.why - 1);
    for (int status = SP_OK; status <= SP_SHUTDOWN; status++)
        assert_string_not_equal(sp_status_name((enum sp_status)status), "unknown");
    assert_string_equal(sp_status_name((enum sp_status)999), "unknown");
}

static void test_log_quote(void **state)
{
    (void)state;
    static const struct {
        struct sp_slice value;
        const char *quoted;
    } cases[] = {
        {SP_S(""), "\"\""},
        {SP_S("plain"), "\"plain\""},
        {SP_S("two words"), "\"two words\""},
        {SP_S("a\"b\\c"), "\"a\\\"b\\\\c\""},
        {SP_S("a\r\nlevel=error"), "\"a\\x0d\\x0alevel=error\""},
        {SP_S("\0\x7f"), "\"\\x00\\x7f\""},
        {SP_S("gr\xc3\xbc\xc3\x9f"), "\"gr\xc3\xbc\xc3\x9f\""},
    };
    char text[64];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(sp_log_quote(cases[i].value, text, sizeof text), cases[i].quoted);
    /* Cut to fit, always closed, never beyond the end. */
    uint8_t worst[100];
    memset(worst, 1, sizeof worst);
    for (size_t size = 8; size < 64; size++) {
        char *exact = malloc(size);
        assert_non_null(exact);
        const char *quoted = sp_log_quote(sp_slice(worst, sizeof worst), exact, size);
        size_t len = strlen(quoted);
        assert_true(len < size && len >= 2 && quoted[0] == '"' && quoted[len - 1] == '"');
        assert_int_equal((len - 2) % 4, 0);
        free(exact);
    }
}

static void test_log_limit(void **state)
{
    (void)state;
    uint32_t repeated = 0, written = 0;
    uint64_t now = 1000000;
    /* A unit that fails every two seconds for a day. */
    for (uint32_t i = 0; i < 43200; i++, now += 2000) {
        char text[80];
        snprintf(text, sizeof text, "unit=a segment=%u blocks=%u-%u why=\"no \\\"room\\\"\"", i, i,
                 i + 7);
        written += sp_log_limit("test.fails", text, now, &repeated);
    }
    assert_in_range(written, SP_LOG_BURST + 100, SP_LOG_BURST + 150);
    assert_in_range(repeated, 290, 310);
    /* Another unit, another reason, another event is another matter. */
    static const char *const others[] = {
        "unit=b segment=1 blocks=1-7 why=\"no \\\"room\\\"\"",
        "unit=1 segment=1 blocks=1-7 why=\"no \\\"room\\\"\"",
        "unit=2 segment=1 blocks=1-7 why=\"no \\\"room\\\"\"",
        "unit=a segment=1 blocks=1-7 why=\"gone\"",
        "unit=a segment=1 blocks=1-7",
        "unit=a segment=x blocks=1-7 why=\"no \\\"room\\\"\"",
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_true(sp_log_limit("test.fails", others[i], now, &repeated));
        assert_int_equal(repeated, 0);
    }
    assert_true(sp_log_limit("test.other", "unit=a segment=1", now, &repeated));
    /* What comes now and then is never left out. */
    for (uint32_t i = 0; i < 200; i++, now += 60000)
        assert_true(sp_log_limit("test.seldom", "unit=a", now, &repeated));
    /* Bad text harms nobody. */
    static const char *const odd[] = {"", "=", "==", "a=\"", "a=\"\\", "\"", "a=b=c", " = = "};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        assert_true(sp_log_limit("test.odd", odd[i], now, &repeated));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slice_sub),
        cmocka_unit_test(test_slice_compare),
        cmocka_unit_test(test_slice_find_and_trim),
        cmocka_unit_test(test_slice_u64),
        cmocka_unit_test(test_buf),
        cmocka_unit_test(test_buf_cap),
        cmocka_unit_test(test_cursor),
        cmocka_unit_test(test_varint),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_arena_cap),
        cmocka_unit_test(test_checksums),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_endian),
        cmocka_unit_test(test_uuid),
        cmocka_unit_test(test_civil),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_log_limit),
        cmocka_unit_test(test_log_quote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
