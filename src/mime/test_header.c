/* Fields, dates, parameters (RFC 2231), encoded words (RFC 2047). */
#include "mime/mime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

static void check_text(struct sp_buf *buf, const char *want)
{
    assert_false(sp_buf_failed(buf));
    sp_buf_add_byte(buf, 0);
    assert_string_equal((char *)buf->ptr, want);
    sp_buf_reset(buf);
}

/* ---- Fields ---- */

static void test_next_field(void **state)
{
    (void)state;
    static const struct {
        const char *header, *raw, *name, *body, *rest;
    } cases[] = {
        {"A: b\r\nC: d\r\n", "A: b\r\n", "A", " b", "C: d\r\n"},
        {"A: b\nC: d\n", "A: b\n", "A", " b", "C: d\n"},
        {"A:b\r\n c\r\n\td\r\n\r\n", "A:b\r\n c\r\n\td\r\n", "A", "b\r\n c\r\n\td", "\r\n"},
        {"A:\r\n\r\n", "A:\r\n", "A", "", "\r\n"},
        {"A \t: b", "A \t: b", "A", " b", ""},
        {"A: b\r", "A: b\r", "A", " b\r", ""},
        {"A:b:c\n", "A:b:c\n", "A", "b:c", ""},
        {"A:\n \n\n", "A:\n \n", "A", "\n ", "\n"},
        /* No fields */
        {"no colon\r\nA: b", "no colon\r\n", "", "no colon", "A: b"},
        {": x\n", ": x\n", "", ": x", ""},
        {" A: b\nC: d", " A: b\n", "", " A: b", "C: d"},
        {"a b: c\n", "a b: c\n", "", "a b: c", ""},
        {"\xc3\xa4: b\n", "\xc3\xa4: b\n", "", "\xc3\xa4: b", ""},
        {"\r", "\r", "", "\r", ""},
        /* The end */
        {"", NULL, NULL, NULL, ""},
        {"\r\nA: b\r\n", NULL, NULL, NULL, "\r\nA: b\r\n"},
        {"\nA: b\r\n", NULL, NULL, NULL, "\nA: b\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_slice header = sp_slice_str(cases[i].header);
        struct sp_mime_field field;
        assert_int_equal(sp_mime_next_field(&header, &field), cases[i].raw != NULL);
        assert_true(sp_slice_eq(header, sp_slice_str(cases[i].rest)));
        if (!cases[i].raw)
            continue;
        assert_true(sp_slice_eq(field.raw, sp_slice_str(cases[i].raw)));
        assert_true(sp_slice_eq(field.name, sp_slice_str(cases[i].name)));
        assert_true(sp_slice_eq(field.body, sp_slice_str(cases[i].body)));
    }
}

static void test_write_fields(void **state)
{
    (void)state;
    static const char header[] =
        "To: a\r\nX: 1\r\n 2\r\nno field\r\nto : b\r\nTox: c\r\n\r\nTo: body";
    static const struct {
        const char *header;
        struct sp_slice names[2];
        size_t count;
        bool negate;
        const char *want;
    } cases[] = {
        {header, {SP_S("TO"), SP_S("y")}, 2, false, "To: a\r\nto : b\r\n\r\n"},
        {header, {SP_S("x")}, 1, false, "X: 1\r\n 2\r\n\r\n"},
        {header, {SP_S("to")}, 1, true, "X: 1\r\n 2\r\nno field\r\nTox: c\r\n\r\n"},
        {header, {SP_S("")}, 1, false, "\r\n"},
        {header, {{NULL, 0}}, 0, false, "\r\n"},
        {"To: a\nX: b\n\n", {SP_S("x")}, 1, false, "X: b\n\r\n"},
        /* A header that ends in the middle of a line */
        {"X: a\r\nTo: b", {SP_S("to")}, 1, false, "To: b\r\n\r\n"},
        {"", {SP_S("to")}, 1, true, "\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_buf buf;
        sp_buf_init(&buf, 1000);
        sp_mime_write_fields(sp_slice_str(cases[i].header), cases[i].names, cases[i].count,
                             cases[i].negate, &buf);
        check_text(&buf, cases[i].want);
        sp_buf_release(&buf);
    }
}

/* ---- Dates ---- */

static void test_dates(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t unix_s; /* -1: none */
        int zone;
    } cases[] = {
        {"Fri, 21 Nov 1997 09:55:06 -0600", 880127706, -360},
        {"Tue, 1 Jul 2003 10:52:37 +0200", 1057049557, 120},
        {"1 Jul 2003 10:52:37 +0200", 1057049557, 120},
        {"  Tue ,\r\n 01 jul 2003\t10:52:37 +0200  ", 1057049557, 120},
        {"Thu, 13 Feb 1969 23:32 -0330", -27723480, -210},
        /* Appendix A.5 and A.6.2 of RFC 5322 */
        {"Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n"
         "               -0330 (Newfoundland Time)",
         -27723480, -210},
        {"21 Nov 97 09:55:06 GMT", 880106106, 0},
        {"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", 880127706, -360},
        /* Obsolete zones (4.3) */
        {"1 Jan 1970 00:00:00 UT", 0, 0},
        {"1 Jan 1970 00:00:00 gmt", 0, 0},
        {"1 Jan 1970 00:00:00 EST", 18000, -300},
        {"1 Jan 1970 00:00:00 EDT", 14400, -240},
        {"1 Jan 1970 00:00:00 CST", 21600, -360},
        {"1 Jan 1970 00:00:00 CDT", 18000, -300},
        {"1 Jan 1970 00:00:00 MST", 25200, -420},
        {"1 Jan 1970 00:00:00 MDT", 21600, -360},
        {"1 Jan 1970 00:00:00 PST", 28800, -480},
        {"1 Jan 1970 00:00:00 pdt", 25200, -420},
        {"1 Jan 1970 00:00:00 A", 0, 0},
        {"1 Jan 1970 00:00:00 Z", 0, 0},
        {"1 Jan 1970 00:00:00 CEST", 0, 0},
        {"1 Jan 1970 00:00:00 -0000", 0, 0},
        /* Two and three digits (4.3) */
        {"1 Jan 49 00:00:00 +0000", 2493072000, 0},
        {"1 Jan 50 00:00:00 +0000", -631152000, 0},
        {"1 Jan 100 00:00:00 +0000", 946684800, 0},
        /* As mailers have written it */
        {"1 Jan 1970 00:00:00", 0, 0},
        {"1-Jan-1970 00:00:00 +0000", 0, 0},
        {"Thu Jan  1 00:00:00 1970", 0, 0},
        {"Thu Jan  1 00:00:00 EST 1970", 18000, -300},
        {"Thu, 1 January 1970 01:00:00 +01:00", 0, 60},
        {"Do, 1 Jan 1970 01:00:00 GMT+0100", 0, 60},
        /* Leaps */
        {"29 Feb 2024 12:00:00 +0000", 1709208000, 0},
        {"29 Feb 2000 00:00:00 +0000", 951782400, 0},
        {"31 Dec 1998 23:59:60 +0000", 915148800, 0},
        /* None */
        {"", -1, 0},
        {"29 Feb 2023 12:00:00 +0000", -1, 0},
        {"29 Feb 1900 12:00:00 +0000", -1, 0},
        {"31 Apr 2023 12:00:00 +0000", -1, 0},
        {"0 Jan 2023 12:00:00 +0000", -1, 0},
        {"1 Foo 2023 12:00:00 +0000", -1, 0},
        {"1 Jan 2023 24:00:00 +0000", -1, 0},
        {"1 Jan 2023 12:60:00 +0000", -1, 0},
        {"1 Jan 2023 12:00:61 +0000", -1, 0},
        {"1 Jan 2023 12:00:00 +0060", -1, 0},
        {"1 Jan 2023 12:00:00 +", -1, 0},
        {"1 Jan 2023 12:00:00 +00000", -1, 0},
        {"1 Jan 2023", -1, 0},
        {"1 Jan 20230 12:00:00 +0000", -1, 0},
        {"1 Jan 3 12:00:00 +0000", -1, 0},
        {"111 Jan 2023 12:00:00 +0000", -1, 0},
        {"Thu, ", -1, 0},
        {"Thu Jan  1 00:00:00", -1, 0},
        {"(1 Jan 1970 00:00:00 +0000", -1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t unix_s = -1;
        int zone = 0;
        enum sp_status status = sp_mime_parse_date(sp_slice_str(cases[i].text), &unix_s, &zone);
        bool none = cases[i].unix_s == -1;
        if (status != (none ? SP_INVALID : SP_OK) || unix_s != cases[i].unix_s ||
            zone != cases[i].zone)
            fail_msg("%s: %lld %d", cases[i].text, (long long)unix_s, zone);
        /* No reading beyond what is there, wherever it ends. */
        for (size_t len = 0; len < strlen(cases[i].text); len++) {
            uint8_t *exact = malloc(len ? len : 1);
            assert_non_null(exact);
            memcpy(exact, cases[i].text, len);
            (void)!sp_mime_parse_date(sp_slice(exact, len), &unix_s, &zone);
            free(exact);
        }
    }
}

/* ---- Parameters ---- */

static void test_param_decode(void **state)
{
    (void)state;
    static const struct {
        const char *params; /* name=value, ';' between */
        const char *name;
        const char *value; /* NULL: absent */
    } cases[] = {
        {"a=b;c=d", "C", "d"},
        {"a=b", "c", NULL},
        {"ab=c", "a", NULL},
        {"a=", "a", ""},
        /* RFC 2231, 3 */
        {"URL*0=ftp://;URL*1=cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar", "url",
         "ftp://cs.utk.edu/pub/moore/bulk-mailer/bulk-mailer.tar"},
        /* 4 */
        {"title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A", "title", "This is ***fun***"},
        /* 4.1 */
        {"title*0*=us-ascii'en'This%20is%20even%20more%20;title*1*=%2A%2A%2Afun%2A%2A%2A%20;"
         "title*2=isn't it!",
         "title", "This is even more ***fun*** isn't it!"},
        /* In any order; up to the first that is missing */
        {"a*2=3;a*0=1;a*1=2", "a", "123"},
        {"a*0=1;a*2=3", "a", "1"},
        {"a*1=2", "a", NULL},
        {"a*10=x;a*0=0;a*1=1;a*2=2;a*3=3;a*4=4;a*5=5;a*6=6;a*7=7;a*8=8;a*9=9", "a", "0123456789x"},
        /* Charsets; a character may be cut between two pieces. */
        {"a*=iso-8859-1''%A3%20rates", "a", "\xc2\xa3 rates"},
        {"a*=UTF-8''%c2%a3", "a", "\xc2\xa3"},
        {"a*0*=utf-8''%E2%82;a*1*=%AC", "a", "\xe2\x82\xac"},
        {"a*=''%41", "a", "A"},
        /* What has no quotes has no charset; a percent sign that begins nothing stays. */
        {"a*=100%25%zz%4", "a", "100%%zz%4"},
        {"a*0=%41", "a", "%41"},
        {"a*0=x'y'z", "a", "x'y'z"},
        /* The extended form is the better one (RFC 6266, 4.3). */
        {"a=plain;a*=utf-8''%c3%a4", "a", "\xc3\xa4"},
        /* Forbidden by RFC 2047, 5, and common */
        {"a==?utf-8?q?=C3=A4?=", "a", "\xc3\xa4"},
        /* Raw UTF-8, and what is not */
        {"a=\xc3\xa4", "a", "\xc3\xa4"},
        {"a=\xe4", "a", "\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_mime_param params[16];
        uint32_t count = 0;
        struct sp_slice rest = sp_slice_str(cases[i].params);
        while (rest.len) {
            size_t semicolon = sp_slice_find(rest, ';');
            struct sp_slice param = sp_slice_sub(rest, 0, semicolon);
            size_t equals = sp_slice_find(param, '=');
            params[count++] = (struct sp_mime_param){sp_slice_sub(param, 0, equals),
                                                     sp_slice_from(param, equals + 1)};
            rest = semicolon == SIZE_MAX ? (struct sp_slice){NULL, 0}
                                         : sp_slice_from(rest, semicolon + 1);
        }
        struct sp_buf buf;
        sp_buf_init(&buf, 1000);
        assert_int_equal(sp_mime_param_decode(params, count, sp_slice_str(cases[i].name), &buf),
                         cases[i].value != NULL);
        check_text(&buf, cases[i].value ? cases[i].value : "");
        sp_buf_release(&buf);
    }
}

/* ---- Encoded words ---- */

static void test_decode_header(void **state)
{
    (void)state;
    static const struct {
        const char *body, *text;
    } cases[] = {
        {"", ""},
        {" plain  text ", "plain  text"},
        {"a\r\n b\n\tc", "a b\tc"},
        /* RFC 2047, 8 */
        {"=?ISO-8859-1?Q?a?=", "a"},
        {"=?ISO-8859-1?Q?a?= b", "a b"},
        {"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"},
        {"=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=", "ab"},
        {"=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=", "ab"},
        {"=?ISO-8859-1?Q?a_b?=", "a b"},
        {"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"},
        {"=?US-ASCII?Q?Keith_Moore?=", "Keith Moore"},
        {"=?ISO-8859-1?Q?Keld_J=F8rn_Simonsen?=", "Keld J\xc3\xb8rn Simonsen"},
        {"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n"
         " =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
         "If you can read this you understand the example."},
        {"=?iso-8859-8?b?7eXs+SDv4SDp7Oj08A==?=",
         "\xd7\x9d\xd7\x95\xd7\x9c\xd7\xa9 \xd7\x9f\xd7\x91 "
         "\xd7\x99\xd7\x9c\xd7\x98\xd7\xa4\xd7\xa0"},
        /* A language (RFC 2231, 5) */
        {"=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"},
        /* Charsets */
        {"=?utf-8?q?=C3=A4?= =?iso-8859-1?b?5A==?=", "\xc3\xa4\xc3\xa4"},
        {"=?UTF-8?Q?=E2=82?= =?UTF-8?Q?=AC?=", "\xe2\x82\xac"},
        {"=?UTF-8?Q?=E2=82?= =?iso-8859-1?Q?a?=", "\xef\xbf\xbd"
                                                  "a"},
        {"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "\xe6\x97\xa5\xe6\x9c\xac"},
        {"=?gb2312?B?1tDOxA==?=", "\xe4\xb8\xad\xe6\x96\x87"},
        {"=?windows-1252?Q?=80?= =?iso-8859-1?Q?=80?=", "\xe2\x82\xac\xe2\x82\xac"},
        {"=?no-such-charset?Q?=C3=A4?=", "\xc3\xa4"},
        /* Empty ones */
        {"=?utf-8?q?\?=", ""},
        {"a =?utf-8?b?=?= b", "a  b"},
        /* Not quite words */
        {"=?utf-8?x?a?=", "=?utf-8?x?a?="},
        {"=?utf-8?q?a?", "=?utf-8?q?a?"},
        {"=?utf-8?q?a", "=?utf-8?q?a"},
        {"=?utf-8?q", "=?utf-8?q"},
        {"=??q?a?=", "=??q?a?="},
        {"=?utf-8?q?a\r\n b?=", "=?utf-8?q?a b?="},
        {"=?utf-8?q?a? b?=", "=?utf-8?q?a? b?="},
        {"=?", "=?"},
        {"a = b == c", "a = b == c"},
        /* What mailers write: within words, within quotes, with blanks and '?' in them */
        {"\"=?utf-8?q?a?=\" <b@c>", "\"a\" <b@c>"},
        {"x=?utf-8?q?a?=y", "xay"},
        {"=?utf-8?q?a b?=", "a b"},
        {"=?utf-8?q?a?b?=", "a?b"},
        {"=?utf-8?q?=zz=4?=", "=zz=4"},
        {"=?utf-8?q?0123456789012345678901234567890123456789012345678901234567890123456789=C3=A4?=",
         "0123456789012345678901234567890123456789012345678901234567890123456789\xc3\xa4"},
        /* Raw bytes */
        {"\xc3\xa4 =?utf-8?q?a?=", "\xc3\xa4 a"},
        {"\xe4", "\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_buf buf;
        sp_buf_init(&buf, 1000);
        sp_mime_decode_header(sp_slice_str(cases[i].body), &buf);
        check_text(&buf, cases[i].text);
        sp_buf_release(&buf);
    }
}

/* RFC 5322, 3.6.4: what names the message that began a thread. */
static void test_thread_root(void **state)
{
    (void)state;
    static const struct {
        const char *header, *root; /* NULL: none */
    } cases[] = {
        {"Message-ID: <a@x>\r\n\r\n", "a@x"},
        {"Message-ID: <a@x>\r\nIn-Reply-To: <b@x>\r\n\r\n", "b@x"},
        {"message-id: <a@x>\r\nIN-REPLY-TO: <b@x>\r\nReferences:\r\n <c@x>\r\n\t<b@x>\r\n\r\n",
         "c@x"},
        {"References: (not <this@x>) <c@x> <d@x>\r\n\r\n", "c@x"},
        {"References: <>\r\nIn-Reply-To: your mail of Monday\r\nMessage-ID: <a@x>\r\n\r\n", "a@x"},
        {"References: <broken\r\n by@folding> <c@x>\r\n\r\n", "c@x"},
        {"References: <c@x\r\nMessage-ID: a@x\r\n\r\n", NULL},
        {"Subject: <s@x>\r\n\r\nMessage-ID: <a@x>\r\n", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_slice root = {NULL, 0};
        assert_int_equal(sp_mime_thread_root(sp_slice_str(cases[i].header), &root),
                         cases[i].root != NULL);
        if (cases[i].root)
            assert_true(sp_slice_eq(root, sp_slice_str(cases[i].root)));
    }
}

/* What looks like many words, none of which ends, is not looked through to its end for each. */
static void test_endless_words(void **state)
{
    (void)state;
    struct sp_buf body, text;
    sp_buf_init(&body, 8U << 20);
    sp_buf_init(&text, 8U << 20);
    while (body.len < 2U << 20)
        sp_buf_add_str(&body, "=?a?q?x");
    sp_mime_decode_header(sp_buf_slice(&body), &text);
    assert_true(sp_slice_eq(sp_buf_slice(&body), sp_buf_slice(&text)));
    sp_buf_release(&text);
    sp_buf_release(&body);
}

static void test_full_buffer(void **state)
{
    (void)state;
    struct sp_slice body = SP_S("=?utf-8?q?0123456789?= abc\xe4");
    for (size_t cap = 0; cap < 17; cap++) {
        struct sp_buf buf;
        sp_buf_init(&buf, cap);
        sp_mime_decode_header(body, &buf);
        assert_true(sp_buf_failed(&buf) && buf.len <= cap);
        assert_memory_equal(buf.ptr ? buf.ptr : body.ptr, buf.ptr ? "0123456789 abc" : "=?",
                            buf.len < 14 ? buf.len : 14);
        sp_buf_release(&buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_field),    cmocka_unit_test(test_write_fields),
        cmocka_unit_test(test_dates),         cmocka_unit_test(test_param_decode),
        cmocka_unit_test(test_decode_header), cmocka_unit_test(test_endless_words),
        cmocka_unit_test(test_full_buffer),   cmocka_unit_test(test_thread_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
