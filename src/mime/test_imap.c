/* ENVELOPE, BODYSTRUCTURE and BODY as RFC 3501 (7.4.2, 9) wants them, and reading them back. */
#include "mime/test_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void parse(struct sp_slice bytes, struct sp_arena *arena, struct sp_mime_message *ret)
{
    sp_arena_init(arena, SP_MIME_ARENA_BYTES);
    assert_int_equal(sp_test_parse(bytes, NULL, 0, arena, ret), SP_OK);
}

static void check_text(struct sp_buf *buf, const char *want)
{
    assert_false(sp_buf_failed(buf));
    sp_buf_add_byte(buf, 0);
    assert_string_equal((char *)buf->ptr, want);
    sp_buf_reset(buf);
}

/* ---- ENVELOPE ---- */

/* '|' is CRLF in the header. */
static const struct {
    const char *header, *envelope;
} envelopes[] = {
    /* RFC 3501, 8 */
    {"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)|"
     "From: Terry Gray <gray@cac.washington.edu>|"
     "Subject: IMAP4rev1 WG mtg summary and minutes|"
     "To: imap@cac.washington.edu|"
     "cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>|"
     "Message-Id: <B27397-0100000@cac.washington.edu>|",
     "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \"IMAP4rev1 WG mtg summary and minutes\" "
     "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
     "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
     "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) "
     "((NIL NIL \"imap\" \"cac.washington.edu\")) "
     "((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) "
     "NIL NIL \"<B27397-0100000@cac.washington.edu>\")"},
    /* Absent: NIL. */
    {"", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"},
    /* Present but empty: "", but NIL where addresses should be. */
    {"Date:|Subject:  |From:|Sender: |Reply-To:|To:|Cc: , |Bcc: ;|In-Reply-To:|Message-ID:| |",
     "(\"\" \"\" NIL NIL NIL NIL NIL NIL \"\" \"\")"},
    /* Sender and Reply-To, and From in their place */
    {"From: a@b, c@d|Sender: e@f|Reply-To: g@h|Bcc: i@j|In-Reply-To: <k@l>|",
     "(NIL NIL ((NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"d\")) ((NIL NIL \"e\" \"f\")) "
     "((NIL NIL \"g\" \"h\")) NIL NIL ((NIL NIL \"i\" \"j\")) \"<k@l>\" NIL)"},
    {"From: a@b|Sender:|Reply-To: (nobody)|",
     "(NIL NIL ((NIL NIL \"a\" \"b\")) ((NIL NIL \"a\" \"b\")) ((NIL NIL \"a\" \"b\")) NIL NIL NIL "
     "NIL NIL)"},
    {"Sender: e@f|", "(NIL NIL NIL ((NIL NIL \"e\" \"f\")) NIL NIL NIL NIL NIL NIL)"},
    /* Folding is undone; quotes and backslashes are escaped; the first Subject counts. */
    {"Subject: a \"b\" \\c|  d|Subject: e|",
     "(NIL \"a \\\"b\\\" \\\\c  d\" NIL NIL NIL NIL NIL NIL NIL NIL)"},
    /* What a quoted string cannot hold */
    {"Subject: \xc3\xa4|", "(NIL {2}\r\n\xc3\xa4 NIL NIL NIL NIL NIL NIL NIL NIL)"},
    {"Subject: \x80|", "(NIL {1}\r\n\x80 NIL NIL NIL NIL NIL NIL NIL NIL)"},
    {"Subject: ~\x7f|", "(NIL \"~\x7f\" NIL NIL NIL NIL NIL NIL NIL NIL)"},
    {"Subject: a\rb|", "(NIL {3}\r\na\rb NIL NIL NIL NIL NIL NIL NIL NIL)"},
    /* Encoded words stay as they are. */
    {"Subject: =?utf-8?q?=C3=A4?=|To: =?utf-8?q?a,b?= <c@d>|",
     "(NIL \"=?utf-8?q?=C3=A4?=\" NIL NIL NIL ((\"=?utf-8?q?a,b?=\" NIL \"c\" \"d\")) NIL NIL NIL "
     "NIL)"},
};

/* The To field alone, and the list of addresses. */
static const struct {
    const char *to, *addresses;
} addresses[] = {
    /* RFC 5322, appendix A.1.2 */
    {"\"Joe Q. Public\" <john.q.public@example.com>",
     "((\"Joe Q. Public\" NIL \"john.q.public\" \"example.com\"))"},
    {"Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>",
     "((\"Mary Smith\" NIL \"mary\" \"x.test\")(NIL NIL \"jdoe\" \"example.org\")"
     "(\"Who?\" NIL \"one\" \"y.test\"))"},
    {"<boss@nil.test>, \"Giant; \\\"Big\\\" Box\" <sysservices@example.net>",
     "((NIL NIL \"boss\" \"nil.test\")"
     "(\"Giant; \\\"Big\\\" Box\" NIL \"sysservices\" \"example.net\"))"},
    /* A.1.3, groups: the name with a NIL host, the end with a NIL mailbox */
    {"A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
     "((NIL NIL \"A Group\" NIL)(\"Ed Jones\" NIL \"c\" \"a.test\")(NIL NIL \"joe\" \"where.test\")"
     "(\"John\" NIL \"jdoe\" \"one.test\")(NIL NIL NIL NIL))"},
    {"Undisclosed recipients:;", "((NIL NIL \"Undisclosed recipients\" NIL)(NIL NIL NIL NIL))"},
    {"a@b, \"x y\": c@d;, e@f", "((NIL NIL \"a\" \"b\")(NIL NIL \"x y\" NIL)(NIL NIL \"c\" \"d\")"
                                "(NIL NIL NIL NIL)(NIL NIL \"e\" \"f\"))"},
    /* A.5, comments and folding */
    {"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
     "((\"Pete\" NIL \"pete\" \"silly.test\"))"},
    {"A Group(Some people)|     :Chris Jones <c@(Chris's host.)public.example>,|"
     "         joe@example.org,|  John <jdoe@one.test> (my dear friend); (the end of the group)",
     "((NIL NIL \"A Group\" NIL)(\"Chris Jones\" NIL \"c\" \"public.example\")"
     "(NIL NIL \"joe\" \"example.org\")(\"John\" NIL \"jdoe\" \"one.test\")(NIL NIL NIL NIL))"},
    {"(Empty list)(start)Hidden recipients  :(nobody(that I know))  ;",
     "((NIL NIL \"Hidden recipients\" NIL)(NIL NIL NIL NIL))"},
    /* A.6.1, obsolete: a route, empty members, blanks around dots, a phrase with a dot */
    {"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
     "((\"Mary Smith\" \"@node.test\" \"mary\" \"example.net\")"
     "(NIL NIL \"jdoe\" \"test.example\"))"},
    {"Joe Q. Public <john . q . public@example.com>",
     "((\"Joe Q. Public\" NIL \"john.q.public\" \"example.com\"))"},
    {"john . doe @ example . com", "((NIL NIL \"john.doe\" \"example.com\"))"},
    {"<@a.test, @b.test:c@d.test>", "((NIL \"@a.test,@b.test\" \"c\" \"d.test\"))"},
    /* A comment for a name (RFC 822) */
    {"jdoe@one.test (John \\\"X\\\" Doe)", "((\"John \\\"X\\\" Doe\" NIL \"jdoe\" \"one.test\"))"},
    /* Quoted local parts, domain literals */
    {"\"a, b@c\"@d.test", "((NIL NIL \"a, b@c\" \"d.test\"))"},
    {"x <\"a \\\" b\"@d.test>", "((\"x\" NIL \"a \\\" b\" \"d.test\"))"},
    {"a@[192.0.2.1], b@[IPv6:::1]",
     "((NIL NIL \"a\" \"[192.0.2.1]\")(NIL NIL \"b\" \"[IPv6:::1]\"))"},
    {"\xc3\xa4 <a@b>", "(({2}\r\n\xc3\xa4 NIL \"a\" \"b\"))"},
    /* No grammar has these, mailers do. The host is never NIL: it is no group. */
    {"root", "((NIL NIL \"root\" \"\"))"},
    {"a@b; c@d", "((NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"d\"))"},
    {"x <a@b, y <c@d>", "((\"x\" NIL \"a\" \"b\")(\"y\" NIL \"c\" \"d\"))"},
    {"a@x@b <c@d>", "((\"a@x@b\" NIL \"c\" \"d\"))"},
    {"a@x@b", "((NIL NIL \"a@x\" \"b\"))"},
    {"<a@x@b>", "((NIL NIL \"a@x\" \"b\"))"},
    {"x a@b y \"z\"", "((\"x\" NIL \"a\" \"b\"))"},
    {"x <a@b> y <c@d>", "((\"x\" NIL \"a\" \"b\"))"},
    {"John Doe", "((\"John Doe\" NIL \"\" \"\"))"},
    {">, ) x <a@b>", "((\"x\" NIL \"a\" \"b\"))"},
    {"(a), b@c", "((NIL NIL \"b\" \"c\"))"},
    {"g: a@b", "((NIL NIL \"g\" NIL)(NIL NIL \"a\" \"b\")(NIL NIL NIL NIL))"},
};

static void test_envelope(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof envelopes / sizeof *envelopes; i++) {
        struct sp_arena arena;
        struct sp_mime_message message;
        struct sp_buf header, buf;
        sp_buf_init(&header, 10000);
        sp_buf_init(&buf, 10000);
        sp_test_lines(envelopes[i].header, "\r\n", &header);
        sp_buf_add_str(&header, "\r\nFrom: in@the.body\r\n");
        parse(sp_buf_slice(&header), &arena, &message);
        sp_mime_write_envelope(&message, &buf);
        check_text(&buf, envelopes[i].envelope);
        sp_arena_release(&arena);
        sp_buf_release(&buf);
        sp_buf_release(&header);
    }
}

static void test_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        struct sp_arena arena;
        struct sp_mime_message message;
        struct sp_buf header, buf, want;
        sp_buf_init(&header, 10000);
        sp_buf_init(&buf, 10000);
        sp_buf_init(&want, 10000);
        sp_buf_add_str(&header, "To: ");
        sp_test_lines(addresses[i].to, "\r\n", &header);
        sp_buf_add_str(&header, "\r\n\r\n");
        sp_buf_addf(&want, "(NIL NIL NIL NIL NIL %s NIL NIL NIL NIL)", addresses[i].addresses);
        sp_buf_add_byte(&want, 0);
        parse(sp_buf_slice(&header), &arena, &message);
        sp_mime_write_envelope(&message, &buf);
        check_text(&buf, (char *)want.ptr);
        sp_arena_release(&arena);
        sp_buf_release(&want);
        sp_buf_release(&buf);
        sp_buf_release(&header);
    }
}

/* A NUL can stand in no string of IMAP (RFC 3501, 9: CHAR8). */
static void test_nul(void **state)
{
    (void)state;
    struct sp_slice bytes = SP_S("Subject: a\0b\r\nContent-Type: text/plain; name=\"\0\"\r\n\r\n");
    struct sp_arena arena;
    struct sp_mime_message message;
    struct sp_buf buf;
    sp_buf_init(&buf, 10000);
    parse(bytes, &arena, &message);
    sp_mime_write_envelope(&message, &buf);
    check_text(&buf, "(NIL {3}\r\na?b NIL NIL NIL NIL NIL NIL NIL NIL)");
    sp_mime_write_bodystructure(&message, &buf);
    check_text(&buf, "(\"text\" \"plain\" (\"name\" {1}\r\n? \"charset\" \"us-ascii\") NIL NIL "
                     "\"7bit\" 0 0 NIL NIL NIL NIL)");
    sp_arena_release(&arena);
    sp_buf_release(&buf);
}

/* ---- BODYSTRUCTURE and BODY ---- */

#define ASCII "(\"charset\" \"us-ascii\") NIL NIL \"7bit\" "
#define NILS  "NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL"

static const struct {
    const char *message, *bodystructure, *body;
} structures[] = {
    {"|a|b|", "(\"text\" \"plain\" " ASCII "6 2 NIL NIL NIL NIL)",
     "(\"text\" \"plain\" " ASCII "6 2)"},
    {"Content-Type: TEXT/PLAIN; CHARSET=US-ASCII||a|",
     "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7bit\" 3 1 NIL NIL NIL NIL)",
     "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7bit\" 3 1)"},
    /* All the fields */
    {"Content-Type: Text/x-Diff; charset=\"utf-8\"; name=\"cc \\\"x\\\".diff\"|"
     "Content-ID: <960723163407.20117h@cac.washington.edu>|Content-Description: Compiler diff|"
     "Content-Transfer-Encoding: BASE64|Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==|"
     "Content-Disposition: attachment; filename=cc.diff; size=3|Content-Language: en, de ,|"
     "Content-Location: http://a/b||YQ==|",
     "(\"Text\" \"x-Diff\" (\"charset\" \"utf-8\" \"name\" \"cc \\\"x\\\".diff\") "
     "\"<960723163407.20117h@cac.washington.edu>\" \"Compiler diff\" \"BASE64\" 6 1 "
     "\"Q2hlY2sgSW50ZWdyaXR5IQ==\" (\"attachment\" (\"filename\" \"cc.diff\" \"size\" \"3\")) "
     "(\"en\" \"de\") \"http://a/b\")",
     "(\"Text\" \"x-Diff\" (\"charset\" \"utf-8\" \"name\" \"cc \\\"x\\\".diff\") "
     "\"<960723163407.20117h@cac.washington.edu>\" \"Compiler diff\" \"BASE64\" 6 1)"},
    /* No lines but for text and messages; no parameters: NIL; a disposition without any */
    {"Content-Type: image/gif|Content-Disposition: inline||xy",
     "(\"image\" \"gif\" NIL NIL NIL \"7bit\" 2 NIL (\"inline\" NIL) NIL NIL)",
     "(\"image\" \"gif\" NIL NIL NIL \"7bit\" 2)"},
    {"Content-Type: text/html||x", "(\"text\" \"html\" NIL NIL NIL \"7bit\" 1 0 NIL NIL NIL NIL)",
     "(\"text\" \"html\" NIL NIL NIL \"7bit\" 1 0)"},
    {"Content-Type: message/delivery-status||x",
     "(\"message\" \"delivery-status\" NIL NIL NIL \"7bit\" 1 NIL NIL NIL NIL)",
     "(\"message\" \"delivery-status\" NIL NIL NIL \"7bit\" 1)"},
    /* Parts stand next to each other, then the subtype; the parameters are extension data. */
    {"Content-Type: multipart/mixed; boundary=b|Content-Language: en|Content-Location: x||--b||a|"
     "--b|Content-Type: image/png||xy|--b--|",
     "((\"text\" \"plain\" " ASCII "1 0 NIL NIL NIL NIL)"
     "(\"image\" \"png\" NIL NIL NIL \"7bit\" 2 NIL NIL NIL NIL) \"mixed\" "
     "(\"boundary\" \"b\") NIL (\"en\") \"x\")",
     "((\"text\" \"plain\" " ASCII "1 0)(\"image\" \"png\" NIL NIL NIL \"7bit\" 2) \"mixed\")"},
    {"Content-Type: multipart/mixed; boundary=b||--b|Content-Type: multipart/alternative;"
     "boundary=c|Content-Disposition: inline; x=y||--c||a|--c--|--b--|",
     "(((\"text\" \"plain\" " ASCII "1 0 NIL NIL NIL NIL) \"alternative\" (\"boundary\" \"c\") "
     "(\"inline\" (\"x\" \"y\")) NIL NIL) \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)",
     "(((\"text\" \"plain\" " ASCII "1 0) \"alternative\") \"mixed\")"},
    /* Enclosed messages: envelope, structure and lines after the octets */
    {"Content-Type: multipart/digest; boundary=b||--b||Subject: x||hi|--b|"
     "Content-Type: message/rfc822|Content-MD5: m||Content-Type: image/gif||g|--b--|",
     "((\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 16 (NIL \"x\" NIL NIL NIL NIL NIL NIL NIL NIL) "
     "(\"text\" \"plain\" " ASCII "2 0 NIL NIL NIL NIL) 2 NIL NIL NIL NIL)"
     "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 28 (" NILS ") "
     "(\"image\" \"gif\" NIL NIL NIL \"7bit\" 1 NIL NIL NIL NIL) 2 \"m\" NIL NIL NIL) "
     "\"digest\" (\"boundary\" \"b\") NIL NIL NIL)",
     "((\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 16 (NIL \"x\" NIL NIL NIL NIL NIL NIL NIL NIL) "
     "(\"text\" \"plain\" " ASCII "2 0) 2)"
     "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 28 (" NILS ") "
     "(\"image\" \"gif\" NIL NIL NIL \"7bit\" 1) 2) \"digest\")"},
    /* Encoded, it must not be called a message: a client would look for its envelope. */
    {"Content-Type: message/rfc822|Content-Transfer-Encoding: base64||YQ==",
     "(\"application\" \"octet-stream\" NIL NIL NIL \"base64\" 4 NIL NIL NIL NIL)",
     "(\"application\" \"octet-stream\" NIL NIL NIL \"base64\" 4)"},
    /* What a quoted string cannot hold, and what could be taken for structure */
    {"Content-Type: a/b; n=\"\xc3\xa4\"|Content-Description: ) (\"|Content-ID:||",
     "(\"a\" \"b\" (\"n\" {2}\r\n\xc3\xa4) \"\" \") (\\\"\" \"7bit\" 0 NIL NIL NIL NIL)",
     "(\"a\" \"b\" (\"n\" {2}\r\n\xc3\xa4) \"\" \") (\\\"\" \"7bit\" 0)"},
};

static void test_structure(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof structures / sizeof *structures; i++) {
        struct sp_arena arena;
        struct sp_mime_message message;
        struct sp_buf bytes, structure, body;
        sp_buf_init(&bytes, 10000);
        sp_buf_init(&structure, 10000);
        sp_buf_init(&body, 10000);
        sp_test_lines(structures[i].message, "\r\n", &bytes);
        parse(sp_buf_slice(&bytes), &arena, &message);
        sp_mime_write_bodystructure(&message, &structure);
        assert_int_equal(sp_mime_write_body(sp_buf_slice(&structure), &body), SP_OK);
        check_text(&body, structures[i].body);
        /* Cut anywhere it is none, and nothing is written. */
        for (size_t len = 0; len < structure.len; len++) {
            assert_int_equal(sp_mime_write_body(sp_slice(structure.ptr, len), &body), SP_INVALID);
            assert_int_equal(body.len, 0);
        }
        check_text(&structure, structures[i].bodystructure);
        sp_arena_release(&arena);
        sp_buf_release(&body);
        sp_buf_release(&structure);
        sp_buf_release(&bytes);
    }
}

/* As deep as the parser goes, BODY must follow. */
static void test_deep_structure(void **state)
{
    (void)state;
    struct sp_arena arena;
    struct sp_mime_message message;
    struct sp_buf bytes, structure, body;
    sp_buf_init(&bytes, 100000);
    sp_buf_init(&structure, 100000);
    sp_buf_init(&body, 100000);
    for (size_t i = 0; i < SP_MIME_DEPTH_MAX; i++)
        sp_buf_add_str(&bytes, "Content-Type: message/rfc822\n\n");
    parse(sp_buf_slice(&bytes), &arena, &message);
    assert_int_equal(message.parts_count, SP_MIME_DEPTH_MAX);
    sp_mime_write_bodystructure(&message, &structure);
    assert_int_equal(sp_mime_write_body(sp_buf_slice(&structure), &body), SP_OK);
    assert_true(body.len > 0 && body.len < structure.len);
    sp_arena_release(&arena);
    sp_buf_release(&body);
    sp_buf_release(&structure);
    sp_buf_release(&bytes);
}

static void test_full_buffer(void **state)
{
    (void)state;
    struct sp_arena arena;
    struct sp_mime_message message;
    parse(SP_S("Subject: x\nFrom: a@b\nContent-Type: a/b\n\n"), &arena, &message);
    for (size_t cap = 0; cap < 30; cap++) {
        struct sp_buf buf;
        sp_buf_init(&buf, cap);
        sp_mime_write_envelope(&message, &buf);
        assert_true(sp_buf_failed(&buf) && buf.len <= cap);
        sp_buf_reset(&buf);
        sp_mime_write_bodystructure(&message, &buf);
        assert_true(sp_buf_failed(&buf) && buf.len <= cap);
        sp_buf_release(&buf);
    }
    sp_arena_release(&arena);
}

static void test_malformed_structure(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "()",
        "NIL",
        "(\"image\" \"gif\" NIL NIL NIL \"7bit\")",
        "(\"text\" \"plain\" NIL NIL NIL \"7bit\" 1)",
        "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 1 2)",
        "(\"image\" \"gif\" NIL NIL NIL \"7bit\" 1) ",
        "(\"image\" \"gif\" NIL NIL NIL \"7bit\" 1))",
        "((\"image\" \"gif\" NIL NIL NIL \"7bit\" 1))",
        "(\"image\" \"gif\" NIL NIL NIL {5}\r\n7bit 1)",
        "(\"image\" \"gif\" NIL NIL NIL {99999999999999999999}\r\n7bit 1)",
        "(\"image\" \"gif\" NIL  NIL NIL \"7bit\" 1)",
    };
    struct sp_buf buf;
    sp_buf_init(&buf, 1000);
    sp_buf_add_str(&buf, "x");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(sp_mime_write_body(sp_slice_str(cases[i]), &buf), SP_INVALID);
    assert_int_equal(buf.len, 1);
    sp_buf_reset(&buf);
    /* Depth without end */
    struct sp_buf deep;
    sp_buf_init(&deep, 1U << 20);
    for (size_t i = 0; i < 1U << 20; i++)
        sp_buf_add_byte(&deep, '(');
    assert_int_equal(sp_mime_write_body(sp_buf_slice(&deep), &buf), SP_INVALID);
    sp_buf_release(&deep);
    sp_buf_release(&buf);
}

/* ---- Reading ENVELOPE ---- */

static void check_address(const struct sp_mime_address *address, const char *name, const char *adl,
                          const char *mailbox, const char *host)
{
    const char *const want[] = {name, adl, mailbox, host};
    const struct sp_slice got[] = {address->name, address->adl, address->mailbox, address->host};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(got[i].ptr == NULL, want[i] == NULL);
        assert_true(sp_slice_eq(got[i], want[i] ? sp_slice_str(want[i]) : got[i]));
    }
}

static void test_read_envelope(void **state)
{
    (void)state;
    struct sp_slice wire =
        SP_S("(\"date\" {5}\r\n\"\\)\r\n ((\"a \\\"b\\\" \\\\\" NIL \"c\" \"d\")) NIL "
             "((NIL \"@x,@y\" \"root\" \"\")) ((NIL NIL \"g\" NIL)({1}\r\n\xe4 NIL \"e\" \"f\")"
             "(NIL NIL NIL NIL)) NIL NIL \"\" nil)");
    struct sp_mime_envelope_wire envelope;
    struct sp_arena arena;
    sp_arena_init(&arena, 1U << 20);
    assert_int_equal(sp_mime_read_envelope(wire, &arena, &envelope), SP_OK);
    assert_true(sp_slice_eq(envelope.date, SP_S("date")));
    assert_true(sp_slice_eq(envelope.subject, SP_S("\"\\)\r\n")));
    assert_int_equal(envelope.from_count, 1);
    check_address(&envelope.from[0], "a \"b\" \\", NULL, "c", "d");
    assert_int_equal(envelope.sender_count, 0);
    assert_int_equal(envelope.reply_to_count, 1);
    check_address(&envelope.reply_to[0], NULL, "@x,@y", "root", "");
    assert_int_equal(envelope.to_count, 3);
    check_address(&envelope.to[0], NULL, NULL, "g", NULL);
    check_address(&envelope.to[1], "\xe4", NULL, "e", "f");
    check_address(&envelope.to[2], NULL, NULL, NULL, NULL);
    assert_int_equal(envelope.cc_count + envelope.bcc_count, 0);
    assert_true(envelope.in_reply_to.ptr && !envelope.in_reply_to.len);
    assert_null(envelope.message_id.ptr);
    for (size_t len = 0; len < wire.len; len++)
        assert_int_equal(sp_mime_read_envelope(sp_slice_sub(wire, 0, len), &arena, &envelope),
                         SP_INVALID);
    sp_arena_release(&arena);

    /* Room for nothing, for some, for all */
    enum sp_status status = SP_NO_MEMORY;
    size_t cap = 0;
    for (; status != SP_OK && cap < 10000; cap += 16) {
        sp_arena_init(&arena, cap);
        status = sp_mime_read_envelope(wire, &arena, &envelope);
        assert_true(status == SP_OK || status == SP_NO_MEMORY);
        sp_arena_release(&arena);
    }
    assert_true(cap > 5 * sizeof(struct sp_mime_address) && cap < 10000);
}

/* What is written is read back. */
static void test_envelope_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof envelopes / sizeof *envelopes; i++) {
        struct sp_mime_envelope_wire envelope;
        struct sp_arena arena;
        sp_arena_init(&arena, 10000);
        assert_int_equal(
            sp_mime_read_envelope(sp_slice_str(envelopes[i].envelope), &arena, &envelope), SP_OK);
        sp_arena_release(&arena);
    }
}

static void test_malformed_envelope(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "NIL",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        "(" NILS ") ",
        "(NIL NIL () NIL NIL NIL NIL NIL NIL NIL)",
        "(NIL NIL \"x\" NIL NIL NIL NIL NIL NIL NIL)",
        "(NIL NIL ((NIL NIL NIL)) NIL NIL NIL NIL NIL NIL NIL)",
        "(NIL NIL ((NIL NIL NIL NIL NIL)) NIL NIL NIL NIL NIL NIL NIL)",
        "(NIL NIL ((NIL NIL NIL NIL) (NIL NIL NIL NIL)) NIL NIL NIL NIL NIL NIL NIL)",
        "(NIL (NIL) NIL NIL NIL NIL NIL NIL NIL NIL)",
        "(1 NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_mime_envelope_wire envelope;
        struct sp_arena arena;
        sp_arena_init(&arena, 10000);
        assert_int_equal(sp_mime_read_envelope(sp_slice_str(cases[i]), &arena, &envelope),
                         SP_INVALID);
        sp_arena_release(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelope),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_deep_structure),
        cmocka_unit_test(test_full_buffer),
        cmocka_unit_test(test_malformed_structure),
        cmocka_unit_test(test_read_envelope),
        cmocka_unit_test(test_envelope_round_trip),
        cmocka_unit_test(test_malformed_envelope),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
