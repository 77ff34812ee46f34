/* The pure helpers of SMTP: text (against a slow reference, for every short text there is) and
 * paths. */
#include "proto/smtp/path.h"
#include "proto/smtp/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

/* ---- Text ---- */

struct outcome {
    bool end, bare;
    size_t taken, len;
    uint8_t bytes[64];
};

/* What RFC 5321 says, read literally: the end is CRLF.CRLF, the lines are what CRLF separates. */
static struct outcome reference(const char *text, size_t len, bool dots)
{
    struct outcome out = {.taken = len};
    char all[64] = "\r\n";
    memcpy(all + 2, text, len);
    const char *end = dots ? memmem(all, len + 2, "\r\n.\r\n", 5) : NULL;
    size_t stop = end ? (size_t)(end - all) + 2 : len + 2;
    out.end = end != NULL;
    if (end)
        out.taken = (size_t)(end - all) + 3;
    for (size_t i = 2; i < stop; i++) {
        bool crlf_before = all[i - 2] == '\r' && all[i - 1] == '\n';
        if (all[i] == '\n' && (i == 2 || all[i - 1] != '\r'))
            out.bare = true;
        if (all[i] == '\r' && i + 1 < len + 2 && all[i + 1] != '\n')
            out.bare = true;
        if (!(dots && crlf_before && all[i] == '.'))
            out.bytes[out.len++] = (uint8_t)all[i];
    }
    return out;
}

/* Each piece from memory of its own, so that a sanitizer sees a byte too far. */
static size_t scan_piece(struct sp_smtp_text *text, const char *bytes, size_t len,
                         struct sp_buf *buf)
{
    uint8_t *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    size_t n = sp_smtp_text_scan(text, sp_slice(copy, len), buf);
    free(copy);
    return n;
}

static void check_text(const char *bytes, size_t len, size_t split, bool dots)
{
    struct outcome want = reference(bytes, len, dots);
    struct sp_smtp_text text = {.dots = dots};
    struct sp_buf buf;
    sp_buf_init(&buf, 64);
    size_t n = scan_piece(&text, bytes, split, &buf);
    assert_true(buf.len <= n);
    if (n == split)
        n += scan_piece(&text, bytes + split, len - split, &buf);
    assert_int_equal(text.state == SP_SMTP_TEXT_END, want.end);
    assert_int_equal(n, want.taken);
    /* After a dot and a CR, whether the CR is bare shows later. */
    assert_int_equal(text.bare, want.bare);
    if (!want.bare && text.state < SP_SMTP_TEXT_DOT_CR) {
        assert_int_equal(buf.len, want.len);
        assert_memory_equal(buf.ptr ? buf.ptr : (uint8_t *)"", want.bytes, want.len);
    }
    sp_buf_release(&buf);
}

static void all_short_texts(void **state)
{
    enum { LONGEST = 8 };
    static const char alphabet[] = "\r\n.a";
    for (size_t len = 0; len <= LONGEST; len++) {
        for (unsigned number = 0; number < 1U << (2 * len); number++) {
            char bytes[LONGEST + 1] = "";
            for (size_t i = 0; i < len; i++)
                bytes[i] = alphabet[number >> (2 * i) & 3];
            for (size_t split = 0; split <= len; split += len < 7 ? 1 : 3) {
                check_text(bytes, len, split, true);
                check_text(bytes, len, split, false);
            }
        }
    }
}

/* Many CRs before a distant LF, and so on: linear time, or this test does not end. */
static void long_texts(void **state)
{
    enum { LEN = 1 << 22 };
    static const char fills[] = "\r\n.a";
    uint8_t *bytes = malloc(LEN);
    assert_non_null(bytes);
    for (size_t i = 0; i < sizeof fills - 1; i++) {
        struct sp_smtp_text text = {.dots = true};
        memset(bytes, fills[i], LEN);
        assert_int_equal(sp_smtp_text_scan(&text, sp_slice(bytes, LEN), NULL), LEN);
        assert_int_equal(text.bare, fills[i] == '\r' || fills[i] == '\n');
    }
    free(bytes);
}

static void hops(void **state)
{
    static const char header[] =
        "Received: a\r\n\tb\r\nreceived : c\r\nReceived-SPF: no\r\n"
        " Received: folded\r\nX: Received:\r\nRECEIVED:\r\n\r\nReceived: d\r\n";
    for (size_t split = 0; split < sizeof header; split++) {
        struct sp_smtp_hops counter = {0};
        sp_smtp_hops_scan(&counter, sp_slice(header, split));
        sp_smtp_hops_scan(&counter, sp_slice(header + split, sizeof header - 1 - split));
        assert_int_equal(counter.count, 3);
        assert_true(counter.body);
    }
}

/* ---- Paths ---- */

static const struct {
    const char *args;
    enum sp_status status;
    const char *address, *rest;
} paths[] = {
    {"<a@b>", SP_OK, "a@b", ""},
    {"<> SIZE=1", SP_OK, "", " SIZE=1"},
    {"<Postmaster>", SP_OK, "Postmaster", ""},
    {"<a.b+c=d@x-y.example.org>  X", SP_OK, "a.b+c=d@x-y.example.org", "  X"},
    {"<.a..b.@docomo.example>", SP_OK, ".a..b.@docomo.example", ""},
    {"<a@under_score.example>", SP_OK, "a@under_score.example", ""},
    {"<@x,@y.z:a@b>", SP_OK, "a@b", ""},
    {"<@[192.0.2.1]:a@b>", SP_OK, "a@b", ""},
    {"<@x,@[IPv6:2001:db8::1]:a@b>", SP_OK, "a@b", ""},
    {"<@[192.0.2.1:a@b>", SP_INVALID, NULL, NULL},
    {"<\"a b\"@c>", SP_OK, "\"a b\"@c", ""},
    {"<\"a@b>\"@c>", SP_OK, "\"a@b>\"@c", ""},
    {"<\"a\\\"b\"@c>", SP_OK, "\"a\\\"b\"@c", ""},
    {"<\"plain.one\"@c>", SP_OK, "plain.one@c", ""},
    {"<\"pl\\ain\"@c>", SP_OK, "plain@c", ""},
    {"<\".plain\"@c>", SP_OK, "\".plain\"@c", ""},
    {"<\"\"@c>", SP_OK, "\"\"@c", ""},
    {"<a@[192.0.2.1]>", SP_OK, "a@[192.0.2.1]", ""},
    {"<a@[IPv6:2001:db8::1]>", SP_OK, "a@[IPv6:2001:db8::1]", ""},
    {"<\xc3\xb6@\xc3\xa4.example>", SP_OK, "\xc3\xb6@\xc3\xa4.example", ""},
    {"a@b", SP_INVALID, NULL, NULL},
    {"<a@b", SP_INVALID, NULL, NULL},
    {"", SP_INVALID, NULL, NULL},
    {"<", SP_INVALID, NULL, NULL},
    {"<a@>", SP_INVALID, NULL, NULL},
    {"<@b>", SP_INVALID, NULL, NULL},
    {"<a@b>c", SP_INVALID, NULL, NULL},
    {"<a b@c>", SP_INVALID, NULL, NULL},
    {"<a@b@c>", SP_INVALID, NULL, NULL},
    {"<a@b..c>", SP_INVALID, NULL, NULL},
    {"<a@.b>", SP_INVALID, NULL, NULL},
    {"<a@b.>", SP_INVALID, NULL, NULL},
    {"<a@[]>", SP_INVALID, NULL, NULL},
    {"<a@[1.2>", SP_INVALID, NULL, NULL},
    {"<\"a@c>", SP_INVALID, NULL, NULL},
    {"<\"a\\", SP_INVALID, NULL, NULL},
    {"<\"a\tb\"@c>", SP_INVALID, NULL, NULL},
    {"<a\x80@b>", SP_INVALID, NULL, NULL},
    {"<\xc0\xaf@b>", SP_INVALID, NULL, NULL},
    {"<\xed\xa0\x80@b>", SP_INVALID, NULL, NULL},
    {"<\xf4\x90\x80\x80@b>", SP_INVALID, NULL, NULL},
    {"<a@b\xe2\x82>", SP_INVALID, NULL, NULL},
    {"<@x a@b>", SP_INVALID, NULL, NULL},
    {"<a@0123456789012345678901234567890123456789012345678901234567890123>", SP_LIMIT, NULL, NULL},
};

static void path_table(void **state)
{
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct sp_slice args = sp_slice_str(paths[i].args);
        struct sp_smtp_path path;
        assert_int_equal(sp_smtp_path_take(&args, &path), paths[i].status);
        if (paths[i].status) {
            assert_true(sp_slice_eq(args, sp_slice_str(paths[i].args)));
            continue;
        }
        assert_true(sp_slice_eq(sp_slice(path.bytes, path.len), sp_slice_str(paths[i].address)));
        assert_true(sp_slice_eq(args, sp_slice_str(paths[i].rest)));
        assert_int_equal(path.utf8, strstr(paths[i].address, "\xc3") != NULL);
    }
}

/* Exactly as long as an address may be, and one octet more; plain and in quotes. */
static void path_lengths(void **state)
{
    for (int quoted = 0; quoted < 2; quoted++) {
        for (size_t len = SP_ADDRESS_MAX; len <= SP_ADDRESS_MAX + 1; len++) {
            char text[SP_ADDRESS_MAX + 8] = "<";
            memset(text + 1, 'a', len);
            if (quoted)
                text[1] = text[len - 2] = '"', text[5] = ' ';
            memcpy(text + 1 + len - 2, "@b>", 3);
            if (quoted)
                text[len - 2] = '"';
            struct sp_slice args = sp_slice(text, len + 2);
            struct sp_smtp_path path;
            assert_int_equal(sp_smtp_path_take(&args, &path),
                             len > SP_ADDRESS_MAX ? SP_LIMIT : SP_OK);
            if (len == SP_ADDRESS_MAX)
                assert_int_equal(path.len, len);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_short_texts), cmocka_unit_test(long_texts),   cmocka_unit_test(hops),
        cmocka_unit_test(path_table),      cmocka_unit_test(path_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
