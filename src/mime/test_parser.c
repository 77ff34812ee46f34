/* Trees and offsets, however the message is cut; and the limits. */
#include "mime/test_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define MIXED  "Content-Type: multipart/mixed; boundary=b||"
#define INNER  "Content-Type: multipart/alternative; boundary=c||"
#define RFC822 "Content-Type: message/rfc822||"

/* '|' is a line end: LF in one run, CRLF in another. */
static const struct {
    const char *message, *tree;
} trees[] = {
    {"Subject: x||body|", "text/plain 1 'Subject: x||' 'body|'"},
    {"Subject: x||body", "text/plain 0 'Subject: x||' 'body'"},
    {"", "text/plain 0 '' ''"},
    {"|", "text/plain 0 '|' ''"},
    {"||", "text/plain 1 '|' '|'"},
    {"|--b|x", "text/plain 1 '|' '--b|x'"},
    {"Subject: x", "text/plain 0 'Subject: x' ''"},
    {"Subject: x|", "text/plain 0 'Subject: x|' ''"},
    {"no field|\xe4: x||b", "text/plain 0 'no field|\xe4: x||' 'b'"},

    /* Content-Type and its defaults (RFC 2045, 5.2) */
    {"content-TYPE:Text/HTML||x", "Text/HTML 0 'content-TYPE:Text/HTML||' 'x'"},
    {"Content-Type : (a) text (b) / (c) html (d)||",
     "text/html 0 'Content-Type : (a) text (b) / (c) html (d)||' ''"},
    {"Content-Type: text||", "text/plain 0 'Content-Type: text||' ''"},
    {"Content-Type:||", "text/plain 0 'Content-Type:||' ''"},
    {"Content-Type: a/b|Content-Type: c/d||", "a/b 0 'Content-Type: a/b|Content-Type: c/d||' ''"},

    /* Multipart (RFC 2046, 5.1.1, with its example): the line end before a boundary is part of it.
     */
    {MIXED "This is the preamble.|--b||implicitly typed|no linebreak.|--b|"
           "Content-type: text/plain; charset=us-ascii||explicitly typed|linebreak.||--b--||"
           "This is the epilogue.|--b|",
     "multipart/mixed 15 '" MIXED "' ( 'This is the preamble.|--b|' "
     "text/plain 1 '|' 'implicitly typed|no linebreak.' '|--b|' "
     "text/plain 2 'Content-type: text/plain; charset=us-ascii||' 'explicitly typed|linebreak.|' "
     "'|--b--||This is the epilogue.|--b|' )"},
    {MIXED "--b||one", "multipart/mixed 2 '" MIXED "' ( '--b|' text/plain 0 '|' 'one' '' )"},
    {MIXED "--b||one|", "multipart/mixed 3 '" MIXED "' ( '--b|' text/plain 1 '|' 'one|' '' )"},
    {MIXED "--b", "multipart/mixed 0 '" MIXED "' ( '--b' text/plain 0 '' '' '' )"},
    {MIXED "--b|X: y", "multipart/mixed 1 '" MIXED "' ( '--b|' text/plain 0 'X: y' '' '' )"},
    {MIXED "--b||one|--b--",
     "multipart/mixed 3 '" MIXED "' ( '--b|' text/plain 0 '|' 'one' '|--b--' )"},
    {MIXED "--b|--b||--b--|",
     "multipart/mixed 4 '" MIXED
     "' ( '--b|' text/plain 0 '' '' '--b|' text/plain 0 '|' '' '--b--|' )"},
    {MIXED "--b|||--b--|",
     "multipart/mixed 4 '" MIXED "' ( '--b|' text/plain 0 '|' '' '|--b--|' )"},
    {MIXED "--b|X: y|--b--|",
     "multipart/mixed 3 '" MIXED "' ( '--b|' text/plain 0 'X: y' '' '|--b--|' )"},
    {MIXED "--b \t||one|--b-- |",
     "multipart/mixed 4 '" MIXED "' ( '--b \t|' text/plain 0 '|' 'one' '|--b-- |' )"},
    /* No boundaries, though they begin as one, or hold one. */
    {MIXED "--bb|--|--b||-|--|---|--b-|--b x|--bb| --b|x--b|--B|--|",
     "multipart/mixed 14 '" MIXED "' ( '--bb|--|--b|' "
     "text/plain 10 '|' '-|--|---|--b-|--b x|--bb| --b|x--b|--B|--|' '' )"},
    /* The text of what cannot be taken apart. */
    {MIXED "no part|--bb|", "text/plain 2 '" MIXED "' 'no part|--bb|'"},
    {MIXED "--b--|", "text/plain 1 '" MIXED "' '--b--|'"},
    {MIXED "", "text/plain 0 '" MIXED "' ''"},
    {"Content-Type: multipart/mixed||--|x|",
     "text/plain 2 'Content-Type: multipart/mixed||' '--|x|'"},
    {"Content-Type: multipart/mixed; boundary=\"\"||--|x|",
     "text/plain 2 'Content-Type: multipart/mixed; boundary=\"\"||' '--|x|'"},

    /* The boundary parameter */
    {"Content-Type: Multipart/Mixed (x);| charset=a; Boundary=\"b: \\\"?\"||--b: \"?||1|--b: \"?--",
     "Multipart/Mixed 3 'Content-Type: Multipart/Mixed (x);| charset=a; "
     "Boundary=\"b: \\\"?\"||' ( '--b: \"?|' text/plain 0 '|' '1' '|--b: \"?--' )"},
    {"Content-Type: multipart/mixed; boundary*1*=%63; boundary*0=b||--bc||1|--bc--",
     "multipart/mixed 3 'Content-Type: multipart/mixed; boundary*1*=%63; boundary*0=b||' "
     "( '--bc|' text/plain 0 '|' '1' '|--bc--' )"},
    {"Content-Type: multipart/mixed; \"; boundary=a\"; boundary=\"b \"||--b||1|--b --|",
     "multipart/mixed 4 'Content-Type: multipart/mixed; \"; boundary=a\"; boundary=\"b \"||' "
     "( '--b|' text/plain 2 '|' '1|--b --|' '' )"},
    {"Content-Type: multipart/mixed; boundary=b--||--b--||1|--b----|",
     "multipart/mixed 4 'Content-Type: multipart/mixed; boundary=b--||' "
     "( '--b--|' text/plain 0 '|' '1' '|--b----|' )"},

    /* Nesting: the outer boundary also closes what the inner one has not. */
    {MIXED "--b|" INNER "--c||1|--c||2|--c--|--b||3|--b--|",
     "multipart/mixed 14 '" MIXED "' ( '--b|' "
     "multipart/alternative 6 '" INNER "' ( '--c|' text/plain 0 '|' '1' '|--c|' "
     "text/plain 0 '|' '2' '|--c--' ) '|--b|' text/plain 0 '|' '3' '|--b--|' )"},
    {MIXED "--b|" INNER "--c||1|--b||2|--c|--b--|--c|",
     "multipart/mixed 12 '" MIXED "' ( '--b|' "
     "multipart/alternative 2 '" INNER "' ( '--c|' text/plain 0 '|' '1' '' ) "
     "'|--b|' text/plain 1 '|' '2|--c' '|--b--|--c|' )"},
    {MIXED "--b|" INNER "--c|--b--|",
     "multipart/mixed 5 '" MIXED "' ( '--b|' "
     "multipart/alternative 1 '" INNER "' ( '--c|' text/plain 0 '' '' '' ) '--b--|' )"},
    {MIXED "--b|" INNER "--b--|",
     "multipart/mixed 4 '" MIXED "' ( '--b|' text/plain 0 '" INNER "' '' '--b--|' )"},
    /* One boundary is the beginning of the other (5.1.2). */
    {MIXED "--b|Content-Type: multipart/x; boundary=bb||--bb||1|--bb--|--b--|",
     "multipart/mixed 8 '" MIXED "' ( '--b|' multipart/x 3 "
     "'Content-Type: multipart/x; boundary=bb||' ( '--bb|' text/plain 0 '|' '1' '|--bb--' ) "
     "'|--b--|' )"},
    /* Both have the same: the inner one is meant as long as it is open. */
    {MIXED "--b|" MIXED "--b||1|--b--|--b--|",
     "multipart/mixed 8 '" MIXED "' ( '--b|' multipart/mixed 3 '" MIXED
     "' ( '--b|' text/plain 0 '|' '1' '|--b--' ) '|--b--|' )"},

    /* Enclosed messages (5.2.1); digests (5.1.5) */
    {RFC822 "Subject: in||text|",
     "message/rfc822 3 '" RFC822 "' ( text/plain 1 'Subject: in||' 'text|' )"},
    {RFC822, "message/rfc822 0 '" RFC822 "' ( text/plain 0 '' '' )"},
    {RFC822 RFC822 "A: b",
     "message/rfc822 2 '" RFC822 "' ( message/rfc822 0 '" RFC822 "' ( text/plain 0 'A: b' '' ) )"},
    {"Content-Type: message/global||A: b||c",
     "message/global 2 'Content-Type: message/global||' ( text/plain 0 'A: b||' 'c' )"},
    {MIXED "--b|" RFC822 "Subject: in||text|--b--|",
     "multipart/mixed 7 '" MIXED "' ( '--b|' message/rfc822 2 '" RFC822
     "' ( text/plain 0 'Subject: in||' 'text' ) '|--b--|' )"},
    {MIXED "--b|" RFC822 "Subject: in|--b--|",
     "multipart/mixed 5 '" MIXED "' ( '--b|' message/rfc822 0 '" RFC822
     "' ( text/plain 0 'Subject: in' '' ) '|--b--|' )"},
    {MIXED "--b|" RFC822 "--b--|",
     "multipart/mixed 4 '" MIXED "' ( '--b|' message/rfc822 0 '" RFC822
     "' ( text/plain 0 '' '' ) '--b--|' )"},
    {MIXED "--b|Content-Type: message/rfc822|--b--|",
     "multipart/mixed 3 '" MIXED "' ( '--b|' message/rfc822 0 'Content-Type: message/rfc822' "
     "( text/plain 0 '' '' ) '|--b--|' )"},
    {MIXED "--b|" RFC822 INNER "--c||1|--b||2|--b--|",
     "multipart/mixed 12 '" MIXED "' ( '--b|' message/rfc822 4 '" RFC822
     "' ( multipart/alternative 2 '" INNER "' ( '--c|' text/plain 0 '|' '1' '' ) ) "
     "'|--b|' text/plain 0 '|' '2' '|--b--|' )"},
    {"Content-Type: message/rfc822|Content-Transfer-Encoding: base64 (x)||QQ==|",
     "application/octet-stream 1 'Content-Type: message/rfc822|Content-Transfer-Encoding: base64 "
     "(x)||' 'QQ==|'"},
    {"Content-Type: message/global|Content-Transfer-Encoding: Quoted-Printable||A",
     "application/octet-stream 0 'Content-Type: message/global|Content-Transfer-Encoding: "
     "Quoted-Printable||' 'A'"},
    {"Content-Type: message/delivery-status||A: b||C: d|",
     "message/delivery-status 3 'Content-Type: message/delivery-status||' 'A: b||C: d|'"},
    {"Content-Type: multipart/Digest; boundary=b||--b||A: b||c|--b|Content-Type: "
     "text/plain||d|--b--|",
     "multipart/Digest 10 'Content-Type: multipart/Digest; boundary=b||' "
     "( '--b|' message/rfc822 2 '|' ( text/plain 0 'A: b||' 'c' ) "
     "'|--b|' text/plain 0 'Content-Type: text/plain||' 'd' '|--b--|' )"},
    /* The default is that of the digest's own parts, not of what is within them. */
    {"Content-Type: multipart/digest; boundary=b||--b||" INNER "--c||1|--c--|--b--|",
     "multipart/digest 9 'Content-Type: multipart/digest; boundary=b||' ( '--b|' "
     "message/rfc822 5 '|' ( multipart/alternative 3 '" INNER
     "' ( '--c|' text/plain 0 '|' '1' '|--c--' ) ) '|--b--|' )"},
};

static void check_tree(struct sp_slice bytes, const char *tree)
{
    struct sp_arena arena;
    struct sp_mime_message whole;
    struct sp_buf shown;
    sp_arena_init(&arena, 64U << 20);
    sp_buf_init(&shown, 1U << 20);
    assert_int_equal(sp_test_parse(bytes, NULL, 0, &arena, &whole), SP_OK);
    sp_test_show(&whole, bytes, &shown);
    sp_buf_add_byte(&shown, 0);
    assert_string_equal((char *)shown.ptr, tree);
    for (size_t cut = 0; cut < bytes.len && cut < 255; cut++) {
        uint8_t pieces[] = {(uint8_t)(cut + 1), 255, 255, 255, 255};
        struct sp_mime_message split;
        /* Cut in two, and into pieces of one size. */
        for (size_t count = 1; count <= sizeof pieces; count += sizeof pieces - 1) {
            struct sp_arena again;
            sp_arena_init(&again, SP_MIME_ARENA_BYTES);
            assert_int_equal(sp_test_parse(bytes, pieces, count, &again, &split), SP_OK);
            if (!sp_test_same(&whole, &split))
                fail_msg("cut at %zu (%zu): %s", cut + 1, count, tree);
            sp_arena_release(&again);
        }
    }
    sp_buf_release(&shown);
    sp_arena_release(&arena);
}

static void test_trees(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        static const char *const eols[] = {"\n", "\r\n"};
        for (size_t e = 0; e < 2; e++) {
            struct sp_buf message;
            sp_buf_init(&message, 10000);
            sp_test_lines(trees[i].message, eols[e], &message);
            check_tree(sp_buf_slice(&message), trees[i].tree);
            sp_buf_release(&message);
        }
    }
}

/* Line ends of both kinds in one message, and carriage returns that end nothing. */
static void test_line_ends(void **state)
{
    (void)state;
    static const struct {
        const char *message, *tree;
    } cases[] = {
        {"A: b\r\n\nc\rd\r\r\n\r", "text/plain 1 'A: b||' 'c\rd\r|\r'"},
        {"A: b\n\r\n\r\n\n", "text/plain 2 'A: b||' '||'"},
        {"A: b\n\r\rc\n\nd", "text/plain 0 'A: b|\r\rc||' 'd'"},
        {"Content-Type: multipart/mixed; boundary=b\n\n--b\r\n\n1\r\n--b\n\r\n2\n--b--\r\n",
         "multipart/mixed 7 '" MIXED "' ( '--b|' text/plain 0 '|' '1' '|--b|' "
         "text/plain 0 '|' '2' '|--b--|' )"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_tree(sp_slice_str(cases[i].message), cases[i].tree);
}

/* Offsets themselves, which the trees above show only as text. */
static void test_offsets(void **state)
{
    (void)state;
    struct sp_slice bytes = SP_S("Content-Type: multipart/mixed; boundary=b\r\n\r\n" /* 45 */
                                 "--b\r\nContent-Type: message/rfc822\r\n\r\n"       /* 50, 82 */
                                 "Subject: x\r\n\r\ntext\r\n--b--\r\n");             /* 96, 100 */
    static const struct {
        enum sp_mime_kind kind;
        uint32_t parent, child_count;
        uint64_t header_offset, header_bytes, body_offset, body_bytes, body_lines;
    } want[] = {
        {SP_MIME_MULTIPART, 0, 1, 0, 45, 45, 64, 7},
        {SP_MIME_MESSAGE, 0, 1, 50, 32, 82, 18, 2},
        {SP_MIME_LEAF, 1, 0, 82, 14, 96, 4, 0},
    };
    struct sp_arena arena;
    struct sp_mime_message message;
    sp_arena_init(&arena, SP_MIME_ARENA_BYTES);
    assert_int_equal(sp_test_parse(bytes, NULL, 0, &arena, &message), SP_OK);
    assert_int_equal(message.size, bytes.len);
    assert_int_equal(message.parts_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        const struct sp_mime_part *part = &message.parts[i];
        assert_int_equal(part->kind, want[i].kind);
        assert_int_equal(part->parent, want[i].parent);
        assert_int_equal(part->child_count, want[i].child_count);
        assert_int_equal(part->header_offset, want[i].header_offset);
        assert_int_equal(part->header_bytes, want[i].header_bytes);
        assert_int_equal(part->body_offset, want[i].body_offset);
        assert_int_equal(part->body_bytes, want[i].body_bytes);
        assert_int_equal(part->body_lines, want[i].body_lines);
        assert_true(!part->envelope == (i == 1));
    }
    assert_true(sp_slice_eq(message.parts[2].envelope->subject, SP_S("x")));
    sp_arena_release(&arena);
}

/* ---- Fields ---- */

static void test_fields(void **state)
{
    (void)state;
    struct sp_slice bytes = SP_S(
        "To: a\nTO : \n b\nto:\nSubject:\nsubject: second\nCc:\nReferences: <a>\r\n\t<b>  \n"
        "Content-Disposition: Attachment (x) ; FileName = \"a \\\"b\\\" ; c\" (y) ; z ; q=1\n"
        "Content-Transfer-Encoding: (x) Base64 (y)\nContent-MD5: m\nContent-Location: l\n"
        "Content-Type: text/plain; charset*=us-ascii''utf-8\nContent-Description: \n\nDate: x");
    struct sp_arena arena;
    struct sp_mime_message message;
    sp_arena_init(&arena, SP_MIME_ARENA_BYTES);
    assert_int_equal(sp_test_parse(bytes, NULL, 0, &arena, &message), SP_OK);
    const struct sp_mime_part *part = &message.parts[0];
    const struct sp_mime_envelope *envelope = part->envelope;
    assert_true(sp_slice_eq(envelope->to, SP_S("a, b")));
    assert_true(envelope->subject.ptr && !envelope->subject.len);
    assert_true(envelope->cc.ptr && !envelope->cc.len);
    assert_true(!envelope->date.ptr && !envelope->bcc.ptr && !envelope->from.ptr);
    assert_true(sp_slice_eq(envelope->references, SP_S("<a>\t<b>")));
    assert_true(sp_slice_eq(part->disposition, SP_S("Attachment")));
    assert_int_equal(part->disposition_params_count, 2);
    assert_true(sp_slice_eq(part->disposition_params[0].name, SP_S("FileName")));
    assert_true(sp_slice_eq(part->disposition_params[0].value, SP_S("a \"b\" ; c")));
    assert_true(sp_slice_eq(part->disposition_params[1].value, SP_S("1")));
    assert_true(sp_slice_eq(part->encoding, SP_S("Base64")));
    assert_true(sp_slice_eq(part->md5, SP_S("m")) && sp_slice_eq(part->location, SP_S("l")));
    assert_true(part->description.ptr && !part->description.len && !part->id.ptr);
    assert_int_equal(part->params_count, 1);
    sp_arena_release(&arena);
}

/* ---- Limits ---- */

static void parse_limit(struct sp_buf *bytes, struct sp_arena *arena,
                        struct sp_mime_message *ret_message)
{
    static const uint8_t pieces[] = {255, 1, 77};
    struct sp_arena again;
    struct sp_mime_message split;
    sp_arena_init(arena, SP_MIME_ARENA_BYTES);
    sp_arena_init(&again, SP_MIME_ARENA_BYTES);
    assert_false(sp_buf_failed(bytes));
    assert_int_equal(sp_test_parse(sp_buf_slice(bytes), NULL, 0, arena, ret_message), SP_OK);
    assert_int_equal(sp_test_parse(sp_buf_slice(bytes), pieces, 3, &again, &split), SP_OK);
    assert_true(sp_test_same(ret_message, &split));
    sp_arena_release(&again);
    sp_buf_release(bytes);
}

static void add_many(struct sp_buf *buf, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        sp_buf_add_str(buf, text);
}

static void test_parts_limit(void **state)
{
    (void)state;
    struct sp_buf bytes;
    struct sp_arena arena;
    struct sp_mime_message message;
    for (uint32_t parts = SP_MIME_PARTS_MAX - 2; parts <= SP_MIME_PARTS_MAX + 1; parts++) {
        sp_buf_init(&bytes, 1U << 20);
        sp_buf_add_str(&bytes, "Content-Type: multipart/mixed; boundary=b\n\n");
        add_many(&bytes, parts, "--b\n\nx\n");
        sp_buf_add_str(&bytes, "--b--\n");
        parse_limit(&bytes, &arena, &message);
        bool over = parts >= SP_MIME_PARTS_MAX;
        assert_int_equal(message.parts_count, over ? SP_MIME_PARTS_MAX : parts + 1);
        const struct sp_mime_part *last = &message.parts[message.parts_count - 1];
        /* "x", and the parts that are too many, line by line */
        uint64_t left = over ? parts - SP_MIME_PARTS_MAX + 1 : 0;
        assert_int_equal(last->body_lines, 3 * left);
        assert_int_equal(last->body_bytes, 1 + 7 * left);
        sp_arena_release(&arena);
    }
}

static void test_depth_limit(void **state)
{
    (void)state;
    static const struct {
        const char *level; /* %zu: how deep */
        enum sp_mime_kind kind;
        const char *type; /* of what cannot be looked into */
    } cases[] = {
        {"Content-Type: multipart/mixed; boundary=b%1$zu\n\n--b%1$zu\n", SP_MIME_MULTIPART, "text"},
        {"Content-Type: message/rfc822; at=%1$zu\n\n", SP_MIME_MESSAGE, "application"},
    };
    for (size_t i = 0; i < 2; i++) {
        struct sp_buf bytes;
        struct sp_arena arena;
        struct sp_mime_message message;
        sp_buf_init(&bytes, 1U << 20);
        for (size_t depth = 0; depth < SP_MIME_DEPTH_MAX + 10; depth++) {
            char level[100];
            snprintf(level, sizeof level, cases[i].level, depth);
            sp_buf_add_str(&bytes, level);
        }
        parse_limit(&bytes, &arena, &message);
        assert_int_equal(message.parts_count, SP_MIME_DEPTH_MAX);
        for (uint32_t p = 0; p < SP_MIME_DEPTH_MAX - 1; p++)
            assert_int_equal(message.parts[p].kind, cases[i].kind);
        const struct sp_mime_part *last = &message.parts[SP_MIME_DEPTH_MAX - 1];
        assert_int_equal(last->kind, SP_MIME_LEAF);
        assert_true(sp_slice_eq(last->type, sp_slice_str(cases[i].type)));
        assert_int_equal(last->body_offset + last->body_bytes, message.size);
        sp_arena_release(&arena);
    }
}

static void test_boundary_limit(void **state)
{
    (void)state;
    for (size_t len = SP_MIME_BOUNDARY_MAX - 1; len <= SP_MIME_BOUNDARY_MAX + 1; len++) {
        struct sp_buf bytes;
        struct sp_arena arena;
        struct sp_mime_message message;
        sp_buf_init(&bytes, 1U << 20);
        sp_buf_add_str(&bytes, "Content-Type: multipart/mixed; boundary=");
        add_many(&bytes, len, "b");
        sp_buf_add_str(&bytes, "\n\n--");
        add_many(&bytes, len, "b");
        add_many(&bytes, 1000, " "); /* transport's padding, which does not count */
        sp_buf_add_str(&bytes, "\n\nx\n--");
        add_many(&bytes, len, "b");
        sp_buf_add_str(&bytes, "--");
        parse_limit(&bytes, &arena, &message);
        bool over = len > SP_MIME_BOUNDARY_MAX;
        assert_int_equal(message.parts_count, over ? 1 : 2);
        if (!over)
            assert_int_equal(message.parts[1].body_bytes, 1);
        sp_arena_release(&arena);
    }
}

static void test_field_limits(void **state)
{
    (void)state;
    for (int folded = 0; folded <= 1; folded++) {
        for (int over = 0; over <= 1; over++) {
            struct sp_buf bytes;
            struct sp_arena arena;
            struct sp_mime_message message;
            sp_buf_init(&bytes, 4U << 20);
            sp_buf_add_str(&bytes, "From: a\nSubject: ");
            while (bytes.len < SP_MIME_FIELD_BYTES_MAX - 200)
                sp_buf_add_str(&bytes, folded ? "y\n " : "yyy");
            add_many(&bytes, over ? 500 : 1, "z");
            sp_buf_add_str(&bytes, "\n and\nTo: b\n\nbody");
            parse_limit(&bytes, &arena, &message);
            const struct sp_mime_envelope *envelope = message.parts[0].envelope;
            assert_true(sp_slice_eq(envelope->from, SP_S("a")));
            assert_true(sp_slice_eq(envelope->to, SP_S("b")));
            assert_int_equal(envelope->subject.ptr == NULL, over);
            assert_int_equal(message.parts[0].body_bytes, 4);
            sp_arena_release(&arena);
        }
    }
}

static void test_header_limit(void **state)
{
    (void)state;
    struct sp_buf bytes;
    struct sp_arena arena;
    struct sp_mime_message message;
    sp_buf_init(&bytes, 4U << 20);
    sp_buf_add_str(&bytes, "From: a\n");
    while (bytes.len < SP_MIME_HEADER_BYTES_MAX)
        sp_buf_add_str(&bytes, "X-Filler: nothing of interest stands here\n");
    sp_buf_add_str(&bytes, "To: b\n\nbody");
    parse_limit(&bytes, &arena, &message);
    assert_true(sp_slice_eq(message.parts[0].envelope->from, SP_S("a")));
    assert_null(message.parts[0].envelope->to.ptr);
    assert_int_equal(message.parts[0].body_bytes, 4);
    sp_arena_release(&arena);
}

/* What the header promises: no message exhausts an arena of SP_MIME_ARENA_BYTES. */
static void test_memory(void **state)
{
    (void)state;
    enum { JOINED, PARAMS, DEFAULTS, CASES };
    for (int what = 0; what < CASES; what++) {
        struct sp_buf bytes;
        struct sp_arena arena;
        struct sp_mime_message message;
        sp_buf_init(&bytes, 64U << 20);
        sp_buf_add_str(&bytes, "Content-Type: multipart/digest; boundary=b\n");
        for (int i = 0; i < 500 && what == JOINED; i++) {
            sp_buf_add_str(&bytes, i % 2 ? "To: " : "Cc: ");
            add_many(&bytes, 1000, "a@b.c,");
            sp_buf_add_str(&bytes, "\n");
        }
        sp_buf_add_str(&bytes, "\n");
        for (int i = 0; i < 1000; i++) {
            sp_buf_add_str(&bytes, "--b\n");
            if (what != DEFAULTS)
                sp_buf_add_str(&bytes, "Content-Type: text/plain");
            if (what == PARAMS)
                add_many(&bytes, 120, ";a=b");
            sp_buf_add_str(&bytes, "\nSubject: x\nFrom: y\nContent-Disposition: x;a=b\n\n\n");
        }
        parse_limit(&bytes, &arena, &message);
        assert_int_equal(message.parts_count, SP_MIME_PARTS_MAX);
        sp_arena_release(&arena);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    struct sp_slice bytes =
        SP_S("Content-Type: multipart/mixed; boundary*0=b\nSubject: x\n\n--b\n\n"
             "--b\nContent-Type: message/rfc822\n\nSubject: y\n\n--b--");
    enum sp_status status = SP_NO_MEMORY;
    size_t refused = 0;
    for (size_t cap = 0; status != SP_OK; cap += 16, refused++) {
        struct sp_arena arena;
        struct sp_mime_message message;
        sp_arena_init(&arena, cap);
        status = sp_test_parse(bytes, NULL, 0, &arena, &message);
        assert_true(status == SP_OK || status == SP_NO_MEMORY);
        sp_arena_release(&arena);
        assert_true(cap < SP_MIME_ARENA_BYTES);
    }
    assert_true(refused > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trees),          cmocka_unit_test(test_line_ends),
        cmocka_unit_test(test_offsets),        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_parts_limit),    cmocka_unit_test(test_depth_limit),
        cmocka_unit_test(test_boundary_limit), cmocka_unit_test(test_field_limits),
        cmocka_unit_test(test_header_limit),   cmocka_unit_test(test_memory),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
