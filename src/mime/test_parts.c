/* The part table there and back, malformed tables, and where sections lie. */
#include "mime/test_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

/* Of RFC 3501, 6.4.5: the message whose part numbers the RFC lists, with a text in each part that
 * says its number. */
static const char sample[] = "Subject: 0|Content-Type: multipart/mixed; boundary=a||preamble|"
                             "--a|Content-Type: text/plain; charset=koi8-r|X: 1||t1|"
                             "--a|Content-Type: application/octet-stream|X: 2|"
                             "Content-Transfer-Encoding: base64||t2|"
                             "--a|Content-Type: message/rfc822|X: 3||"
                             "Subject: 3|Content-Type: multipart/mixed; boundary=b||"
                             "--b|X: 3.1||t3.1|--b|Content-Type: application/octet-stream||t3.2|"
                             "--b--|"
                             "--a|Content-Type: multipart/mixed; boundary=c|X: 4||"
                             "--c|Content-Type: image/gif|X: 4.1||t4.1|"
                             "--c|Content-Type: message/rfc822|X: 4.2||"
                             "Subject: 4.2|Content-Type: multipart/mixed; boundary=d||"
                             "--d|Content-Type: text/plain||t4.2.1|"
                             "--d|Content-Type: multipart/alternative; boundary=e|X: 4.2.2||"
                             "--e|Content-Type: text/plain||t4.2.2.1|"
                             "--e|Content-Type: text/richtext|X: 4.2.2.2||t4.2.2.2|--e--|"
                             "--d--|--c--|--a--|epilogue|";

/* A message that is no multipart, and one that is nothing but a message. */
static const char plain[] = "Subject: 0||t|";
static const char wrapped[] = "Content-Type: message/rfc822|X: 0||Subject: 1||t|";

static void make(const char *text, struct sp_buf *bytes, struct sp_arena *arena,
                 struct sp_mime_message *ret_message)
{
    sp_buf_init(bytes, 100000);
    sp_arena_init(arena, 2 * SP_MIME_ARENA_BYTES);
    sp_test_lines(text, "\r\n", bytes);
    assert_int_equal(sp_test_parse(sp_buf_slice(bytes), NULL, 0, arena, ret_message), SP_OK);
}

/* ---- Sections ---- */

#define ALL    SP_MIME_SECTION_ALL
#define HEADER SP_MIME_SECTION_HEADER
#define TEXT   SP_MIME_SECTION_TEXT
#define MIME   SP_MIME_SECTION_MIME

static const struct {
    const char *message;
    uint32_t path[7]; /* 0 ends it */
    enum sp_mime_section section;
    const char *content; /* NULL: there is no such section. '*': and more of it */
} sections[] = {
    {sample, {0}, ALL, sample},
    {sample, {0}, HEADER, "Subject: 0|Content-Type: multipart/mixed; boundary=a||"},
    {sample, {0}, TEXT, "preamble|--a|Content-Type: text/plain*"},
    {sample, {0}, MIME, NULL},
    {sample, {1}, ALL, "t1"},
    {sample, {1}, MIME, "Content-Type: text/plain; charset=koi8-r|X: 1||"},
    {sample, {1}, HEADER, NULL},
    {sample, {1}, TEXT, NULL},
    {sample, {1, 1}, ALL, NULL},
    {sample, {2}, ALL, "t2"},
    {sample, {3}, ALL, "Subject: 3|Content-Type: multipart/mixed; boundary=b||--b|X: 3.1*"},
    {sample, {3}, HEADER, "Subject: 3|Content-Type: multipart/mixed; boundary=b||"},
    {sample, {3}, TEXT, "--b|X: 3.1||t3.1|--b|Content-Type: application/octet-stream||t3.2|--b--"},
    {sample, {3}, MIME, "Content-Type: message/rfc822|X: 3||"},
    {sample, {3, 1}, ALL, "t3.1"},
    {sample, {3, 1}, MIME, "X: 3.1||"},
    {sample, {3, 1}, HEADER, NULL},
    {sample, {3, 2}, ALL, "t3.2"},
    {sample, {3, 3}, ALL, NULL},
    {sample, {4}, ALL, "--c|Content-Type: image/gif*"},
    {sample, {4}, MIME, "Content-Type: multipart/mixed; boundary=c|X: 4||"},
    {sample, {4}, HEADER, NULL},
    {sample, {4}, TEXT, NULL},
    {sample, {4, 1}, ALL, "t4.1"},
    {sample, {4, 1}, MIME, "Content-Type: image/gif|X: 4.1||"},
    {sample, {4, 2}, HEADER, "Subject: 4.2|Content-Type: multipart/mixed; boundary=d||"},
    {sample, {4, 2}, TEXT, "--d|Content-Type: text/plain||t4.2.1|*"},
    {sample, {4, 2}, MIME, "Content-Type: message/rfc822|X: 4.2||"},
    {sample, {4, 2, 1}, ALL, "t4.2.1"},
    {sample, {4, 2, 2}, ALL, "--e|Content-Type: text/plain||t4.2.2.1|--e|*"},
    {sample, {4, 2, 2}, MIME, "Content-Type: multipart/alternative; boundary=e|X: 4.2.2||"},
    {sample, {4, 2, 2, 1}, ALL, "t4.2.2.1"},
    {sample, {4, 2, 2, 2}, ALL, "t4.2.2.2"},
    {sample, {4, 2, 2, 2}, MIME, "Content-Type: text/richtext|X: 4.2.2.2||"},
    {sample, {4, 2, 2, 3}, ALL, NULL},
    {sample, {4, 2, 2, 2, 1}, ALL, NULL},
    {sample, {4, 3}, ALL, NULL},
    {sample, {5}, ALL, NULL},
    {sample, {UINT32_MAX}, ALL, NULL},
    /* "Every message has at least one part number": 1, its text. */
    {plain, {0}, ALL, plain},
    {plain, {0}, HEADER, "Subject: 0||"},
    {plain, {0}, TEXT, "t|"},
    {plain, {1}, ALL, "t|"},
    {plain, {1}, MIME, "Subject: 0||"},
    {plain, {1}, HEADER, NULL},
    {plain, {1, 1}, ALL, NULL},
    {plain, {2}, ALL, NULL},
    {wrapped, {1}, ALL, "Subject: 1||t|"},
    {wrapped, {1}, HEADER, "Subject: 1||"},
    {wrapped, {1}, TEXT, "t|"},
    {wrapped, {1}, MIME, "Content-Type: message/rfc822|X: 0||"},
    {wrapped, {0}, HEADER, "Content-Type: message/rfc822|X: 0||"},
    {wrapped, {1, 1}, ALL, "t|"},
    {wrapped, {1, 1}, MIME, "Subject: 1||"},
    {wrapped, {1, 2}, ALL, NULL},
    {wrapped, {1, 1, 1}, ALL, NULL},
};

static void check_section(const struct sp_mime_message *message, struct sp_slice bytes, size_t i)
{
    uint64_t offset = 77, len = 78;
    size_t path_len = 0;
    while (sections[i].path[path_len])
        path_len++;
    enum sp_status status = sp_mime_section_range(message, sections[i].path, path_len,
                                                  sections[i].section, &offset, &len);
    if (!sections[i].content) {
        assert_int_equal(status, SP_NOT_FOUND);
        assert_true(offset == 77 && len == 78);
        return;
    }
    assert_int_equal(status, SP_OK);
    struct sp_buf want;
    sp_buf_init(&want, 100000);
    sp_test_lines(sections[i].content, "\r\n", &want);
    assert_true(offset <= bytes.len && len <= bytes.len - offset);
    if (want.ptr[want.len - 1] == '*') {
        want.len--;
        assert_true(len > want.len);
        len = want.len;
    }
    if (!sp_slice_eq(sp_slice(bytes.ptr + offset, len), sp_buf_slice(&want)))
        fail_msg("section %zu: %.*s", i, (int)len, (const char *)bytes.ptr + offset);
    sp_buf_release(&want);
}

static void test_sections(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
        struct sp_buf bytes, table;
        struct sp_arena arena;
        struct sp_mime_message message, read;
        make(sections[i].message, &bytes, &arena, &message);
        check_section(&message, sp_buf_slice(&bytes), i);
        /* The same from what is stored. */
        sp_buf_init(&table, 10000);
        sp_mime_write_parts(&message, &table);
        assert_int_equal(sp_mime_read_parts(sp_buf_slice(&table), &arena, &read), SP_OK);
        check_section(&read, sp_buf_slice(&bytes), i);
        sp_buf_release(&table);
        sp_buf_release(&bytes);
        sp_arena_release(&arena);
    }
    /* 0 is no part number. */
    struct sp_buf bytes;
    struct sp_arena arena;
    struct sp_mime_message message;
    uint32_t path[] = {0, 1};
    uint64_t offset, len;
    make(sample, &bytes, &arena, &message);
    assert_int_equal(sp_mime_section_range(&message, path, 1, ALL, &offset, &len), SP_NOT_FOUND);
    assert_int_equal(sp_mime_section_range(&message, path, 2, ALL, &offset, &len), SP_NOT_FOUND);
    sp_buf_release(&bytes);
    sp_arena_release(&arena);
}

/* ---- The table ---- */

static struct sp_slice charset_of(const struct sp_mime_part *part)
{
    for (uint32_t i = 0; i < part->params_count; i++)
        if (sp_slice_eq_nocase(part->params[i].name, SP_S("charset")))
            return part->params[i].value;
    return (struct sp_slice){NULL, 0};
}

static void check_round_trip(struct sp_slice bytes)
{
    struct sp_arena arena;
    struct sp_mime_message message, read;
    struct sp_buf table, again;
    sp_arena_init(&arena, 64U << 20);
    sp_buf_init(&table, 1U << 20);
    sp_buf_init(&again, 1U << 20);
    assert_int_equal(sp_test_parse(bytes, NULL, 0, &arena, &message), SP_OK);
    sp_mime_write_parts(&message, &table);
    assert_false(sp_buf_failed(&table));
    assert_int_equal(sp_mime_read_parts(sp_buf_slice(&table), &arena, &read), SP_OK);
    assert_int_equal(read.size, bytes.len);
    assert_int_equal(read.parts_count, message.parts_count);
    for (uint32_t i = 0; i < read.parts_count; i++) {
        const struct sp_mime_part *a = &message.parts[i], *b = &read.parts[i];
        assert_true(a->kind == b->kind && a->parent == b->parent &&
                    a->child_count == b->child_count && a->header_offset == b->header_offset &&
                    a->header_bytes == b->header_bytes && a->body_offset == b->body_offset &&
                    a->body_bytes == b->body_bytes && a->body_lines == b->body_lines);
        assert_true(sp_slice_eq(a->type, b->type) && sp_slice_eq(a->subtype, b->subtype) &&
                    sp_slice_eq(a->encoding, b->encoding) &&
                    sp_slice_eq(charset_of(a), charset_of(b)));
    }
    sp_mime_write_parts(&read, &again);
    assert_true(sp_slice_eq(sp_buf_slice(&table), sp_buf_slice(&again)));

    /* Cut at every length, in memory of just that size. */
    for (size_t len = 0; len < table.len && table.len < 1000; len++) {
        uint8_t *exact = malloc(len ? len : 1);
        assert_non_null(exact);
        memcpy(exact, table.ptr, len);
        assert_int_equal(sp_mime_read_parts(sp_slice(exact, len), &arena, &read), SP_CORRUPT);
        free(exact);
    }
    sp_buf_add_byte(&table, 0);
    assert_int_equal(sp_mime_read_parts(sp_buf_slice(&table), &arena, &read), SP_CORRUPT);
    struct sp_arena none;
    sp_arena_init(&none, 0);
    assert_int_equal(sp_mime_read_parts(sp_buf_slice(&again), &none, &read), SP_NO_MEMORY);
    sp_arena_release(&none);
    sp_buf_release(&again);
    sp_buf_release(&table);
    sp_arena_release(&arena);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const char *const cases[] = {
        sample, plain, wrapped, "", "|", "Content-Type: multipart/x; boundary=b||--b|--b"};
    struct sp_buf bytes;
    sp_buf_init(&bytes, 1U << 20);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sp_buf_reset(&bytes);
        sp_test_lines(cases[i], "\r\n", &bytes);
        check_round_trip(sp_buf_slice(&bytes));
    }
    /* As deep, and as many, as there can be */
    sp_buf_reset(&bytes);
    for (size_t i = 0; i < SP_MIME_DEPTH_MAX; i++)
        sp_buf_add_str(&bytes, "Content-Type: message/rfc822\n\n");
    check_round_trip(sp_buf_slice(&bytes));
    sp_buf_reset(&bytes);
    sp_buf_add_str(&bytes, "Content-Type: multipart/digest; boundary=b\n\n");
    for (size_t i = 0; i < SP_MIME_PARTS_MAX; i++)
        sp_buf_add_str(&bytes, "--b\n\nx\n");
    check_round_trip(sp_buf_slice(&bytes));
    sp_buf_release(&bytes);
}

/* A token longer than any that means something is left out, not cut. */
static void test_long_token(void **state)
{
    (void)state;
    struct sp_buf bytes, table;
    struct sp_arena arena;
    struct sp_mime_message message, read;
    make("Content-Type: a/"
         "0123456789012345678901234567890123456789012345678901234567890123; charset="
         "01234567890123456789012345678901234567890123456789012345678901234||",
         &bytes, &arena, &message);
    sp_buf_init(&table, 1000);
    sp_mime_write_parts(&message, &table);
    assert_int_equal(sp_mime_read_parts(sp_buf_slice(&table), &arena, &read), SP_OK);
    assert_int_equal(read.parts[0].subtype.len, 64);
    assert_int_equal(charset_of(&message.parts[0]).len, 65);
    assert_int_equal(charset_of(&read.parts[0]).len, 0);
    sp_buf_release(&table);
    sp_buf_release(&bytes);
    sp_arena_release(&arena);
}

/* A message that is a leaf; a leaf within something, without lines. */
#define LEAF(gap, header, body, lines) "\0" gap header body lines "\0\0\0\0"
#define PART(up, gap, header, body)    "\0" up gap header body "\0\0\0\0\0"

static void test_malformed(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        struct sp_slice table;
        enum sp_status status;
    } cases[] = {
        /* version, parts, size; kind, [up], gap, header, body, lines; four tokens */
        {"a leaf", SP_S("\1\1\5" LEAF("\0", "\2", "\3", "\1")), SP_OK},
        {"a version to come", SP_S("\2\1\5" LEAF("\0", "\2", "\3", "\1")), SP_CORRUPT},
        {"no parts", SP_S("\1\0\0"), SP_CORRUPT},
        {"more parts than there can be", SP_S("\1\xe9\x07\0"), SP_CORRUPT},
        {"more than the message", SP_S("\1\1\4" LEAF("\0", "\2", "\3", "\1")), SP_CORRUPT},
        {"less than the message", SP_S("\1\1\6" LEAF("\0", "\2", "\3", "\1")), SP_CORRUPT},
        {"a gap before the message", SP_S("\1\1\5" LEAF("\1", "\2", "\2", "\1")), SP_CORRUPT},
        {"more lines than bytes", SP_S("\1\1\5" LEAF("\0", "\2", "\3", "\4")), SP_CORRUPT},
        {"an unknown kind", SP_S("\1\1\5\3\0\2\3\1\0\0\0\0"), SP_CORRUPT},
        {"a multipart without parts", SP_S("\1\1\5\1\0\2\3\1\0\0\0\0"), SP_CORRUPT},
        {"a message without one", SP_S("\1\1\5\2\0\2\3\1\0\0\0\0"), SP_CORRUPT},
        {"a part", SP_S("\1\2\5\1\0\2\3\1\0\0\0\0" PART("\0", "\1", "\1", "\1")), SP_OK},
        {"a part beyond its parent's end",
         SP_S("\1\2\5\1\0\2\3\1\0\0\0\0" PART("\0", "\1", "\1", "\2")), SP_CORRUPT},
        {"a part of a leaf", SP_S("\1\2\5\0\0\2\3\1\0\0\0\0" PART("\0", "\1", "\1", "\1")),
         SP_CORRUPT},
        {"two messages in one",
         SP_S("\1\3\5\2\0\2\3\1\0\0\0\0" PART("\0", "\0", "\1", "\1") PART("\1", "\0", "\0", "\1")),
         SP_CORRUPT},
        {"a level above the message's",
         SP_S("\1\2\5\1\0\2\3\1\0\0\0\0" PART("\1", "\0", "\0", "\0")), SP_CORRUPT},
        {"a level far above", SP_S("\1\2\5\1\0\2\3\1\0\0\0\0" PART("\5", "\0", "\0", "\0")),
         SP_CORRUPT},
        {"a size without bound",
         SP_S("\1\1\xff\xff\xff\xff\xff\xff\xff\xff\xff\2" LEAF("\0", "\2", "\3", "\1")),
         SP_CORRUPT},
        {"a token beyond the end", SP_S("\1\1\5\0\0\2\3\1\0\0\0\1"), SP_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_arena arena;
        struct sp_mime_message message;
        sp_arena_init(&arena, SP_MIME_ARENA_BYTES);
        if (sp_mime_read_parts(cases[i].table, &arena, &message) != cases[i].status)
            fail_msg("%s", cases[i].what);
        sp_arena_release(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sections),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_long_token),
        cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
