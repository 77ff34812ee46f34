/* Contents and subjects as text; mailbox names. */
#include "mime/mime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

static void check_text(struct sp_buf *buf, struct sp_slice want)
{
    assert_false(sp_buf_failed(buf));
    if (!sp_slice_eq(sp_buf_slice(buf), want))
        fail_msg("\"%.*s\", not \"%.*s\"", SP_FMT(sp_buf_slice(buf)), SP_FMT(want));
    sp_buf_reset(buf);
}

/* ---- Contents ---- */

static void test_decode_text(void **state)
{
    (void)state;
    static const struct {
        struct sp_slice content;
        const char *encoding, *charset;
        struct sp_slice text;
    } cases[] = {
        {SP_S("a=41\r\n \r\n"), "7bit", "us-ascii", SP_S("a=41\r\n \r\n")},
        {SP_S("a\r\n"), "", "", SP_S("a\r\n")},
        {SP_S("YQ=="), "x-unknown", "utf-8", SP_S("YQ==")},
        {SP_S("a\0b"), "binary", "utf-8", SP_S("a\0b")},
        {SP_S(""), "base64", "utf-8", SP_S("")},

        /* base64 (RFC 2045, 6.8; RFC 4648, 10) */
        {SP_S("Zg=="), "base64", "utf-8", SP_S("f")},
        {SP_S("Zm8="), "BASE64", "utf-8", SP_S("fo")},
        {SP_S("Zm9v"), " base64 ", "utf-8", SP_S("foo")},
        {SP_S("Zm9vYg=="), "base64", "utf-8", SP_S("foob")},
        {SP_S("Zm9vYmE="), "base64", "utf-8", SP_S("fooba")},
        {SP_S("Zm9vYmFy"), "base64", "utf-8", SP_S("foobar")},
        {SP_S("Zm\r\n 9v!Ym-Fy\r\n"), "base64", "utf-8", SP_S("foobar")},
        {SP_S("Zm9vYmE"), "base64", "utf-8", SP_S("fooba")},
        {SP_S("Zg==Zm8=Zm9v"), "base64", "utf-8", SP_S("ffofoo")},
        {SP_S("+/+/"), "base64", "iso-8859-1", SP_S("\xc3\xbb\xc3\xbf\xc2\xbf")},
        {SP_S("===="), "base64", "utf-8", SP_S("")},

        /* quoted-printable (RFC 2045, 6.7, and its example) */
        {SP_S("Now's the time =\r\nfor all folk to come=\r\n to the aid of their country."),
         "quoted-printable", "us-ascii",
         SP_S("Now's the time for all folk to come to the aid of their country.")},
        {SP_S("=3D=0D=0A=e4=C4"), "Quoted-Printable", "iso-8859-1", SP_S("=\r\n\xc3\xa4\xc3\x84")},
        {SP_S("a \t\r\nb\t\nc  "), "quoted-printable", "utf-8", SP_S("a\r\nb\nc")},
        {SP_S("a=20\r\nb"), "quoted-printable", "utf-8", SP_S("a \r\nb")},
        {SP_S("a= \t\r\nb=\nc="), "quoted-printable", "utf-8", SP_S("abc")},
        {SP_S("a  b\tc"), "quoted-printable", "utf-8", SP_S("a  b\tc")},
        {SP_S("=4=zz= a=4"), "quoted-printable", "utf-8", SP_S("=4=zz= a=4")},
        {SP_S("=\r"), "quoted-printable", "utf-8", SP_S("=\r")},

        /* Charsets */
        {SP_S("\xe4"), "8bit", "ISO-8859-1", SP_S("\xc3\xa4")},
        {SP_S("\x80"), "8bit", "latin1", SP_S("\xe2\x82\xac")},
        {SP_S("\xa4"), "8bit", "iso-8859-15", SP_S("\xe2\x82\xac")},
        {SP_S("\xc1"), "8bit", "koi8-r", SP_S("\xd0\xb0")},
        {SP_S("\x93\xfa\x96\x7b"), "8bit", "shift_jis", SP_S("\xe6\x97\xa5\xe6\x9c\xac")},
        {SP_S("\x1b$BF|K\\\x1b(B"), "7bit", "ISO-2022-JP", SP_S("\xe6\x97\xa5\xe6\x9c\xac")},
        {SP_S("\xd6\xd0"), "8bit", "gb2312", SP_S("\xe4\xb8\xad")},
        {SP_S("\xa4\xa4"), "8bit", "big5", SP_S("\xe4\xb8\xad")},
        {SP_S("\xc7\xd1"), "8bit", "ks_c_5601-1987", SP_S("\xed\x95\x9c")},
        {SP_S("a\0\xac "), "binary", "utf-16le", SP_S("a\xe2\x82\xac")},
        {SP_S("\xc3\xa4"), "8bit", "us-ascii", SP_S("\xc3\xa4")},
        {SP_S("\xc3\xa4"), "8bit", "no-such-charset", SP_S("\xc3\xa4")},
        {SP_S("\xc3\xa4"), "8bit", "UTF-8,locale=x", SP_S("\xc3\xa4")},
        {SP_S("\xc3\xa4"), "8bit",
         "a-name-longer-than-that-of-any-charset-there-is-or-ever-was-or-will-be",
         SP_S("\xc3\xa4")},
        /* What is malformed, and what is cut off */
        {SP_S("a\xff"
              "b\xc3"),
         "8bit", "utf-8",
         SP_S("a\xef\xbf\xbd"
              "b\xef\xbf\xbd")},
        {SP_S("\xed\xa0\x80"), "8bit", "utf-8", SP_S("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_buf buf;
        sp_buf_init(&buf, 1000);
        sp_mime_decode_text(cases[i].content, sp_slice_str(cases[i].encoding),
                            sp_slice_str(cases[i].charset), &buf);
        check_text(&buf, cases[i].text);
        sp_buf_release(&buf);
    }
}

/* Longer than any piece in which it is decoded, with characters across the edges of the pieces. */
static void test_long_text(void **state)
{
    (void)state;
    static const struct {
        const char *encoding, *unit, *text;
    } cases[] = {
        {"8bit", "\xe2\x82\xac", "\xe2\x82\xac"},
        {"quoted-printable", "=E2=82=AC", "\xe2\x82\xac"},
        {"quoted-printable", "  =E2=82=AC ", "  \xe2\x82\xac "},
        {"base64", "4oKs\r\n", "\xe2\x82\xac"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t lead = 0; lead < 3; lead++) {
            struct sp_buf content, want, got;
            sp_buf_init(&content, 1U << 20);
            sp_buf_init(&want, 1U << 20);
            sp_buf_init(&got, 1U << 20);
            bool is_base64 = strcmp(cases[i].encoding, "base64") == 0;
            for (size_t n = 0; n < lead && !is_base64; n++)
                sp_buf_add_str(&content, "x");
            sp_buf_add(&want, sp_buf_slice(&content));
            for (size_t n = 0; n < 9999; n++) {
                sp_buf_add_str(&content, cases[i].unit);
                sp_buf_add_str(&want, cases[i].text);
            }
            if (!is_base64) { /* blanks at the end would be dropped */
                sp_buf_add_str(&content, ".");
                sp_buf_add_str(&want, ".");
            }
            sp_mime_decode_text(sp_buf_slice(&content), sp_slice_str(cases[i].encoding),
                                SP_S("utf-8"), &got);
            assert_true(sp_slice_eq(sp_buf_slice(&got), sp_buf_slice(&want)));
            /* Of what does not fit, the beginning is kept, and the buffer has failed. */
            struct sp_buf small;
            sp_buf_init(&small, 10000);
            sp_mime_decode_text(sp_buf_slice(&content), sp_slice_str(cases[i].encoding),
                                SP_S("utf-8"), &small);
            assert_true(sp_buf_failed(&small) && small.len <= 10000 && small.len > 9990);
            assert_memory_equal(small.ptr, want.ptr, small.len);
            sp_buf_release(&small);
            sp_buf_release(&got);
            sp_buf_release(&want);
            sp_buf_release(&content);
        }
    }
}

/* A buffer has failed when something did not fit, not already when it is full. */
static void test_full_buffer(void **state)
{
    (void)state;
    static const char *const encodings[] = {"8bit", "quoted-printable", "base64"};
    static const char *const contents[] = {"ab\xe2\x82\xac", "ab=E2=82=AC", "YWLigqw="};
    for (size_t i = 0; i < 3; i++) {
        for (size_t cap = 0; cap <= 6; cap++) {
            struct sp_buf buf;
            sp_buf_init(&buf, cap);
            sp_mime_decode_text(sp_slice_str(contents[i]), sp_slice_str(encodings[i]),
                                SP_S("utf-8"), &buf);
            assert_int_equal(sp_buf_failed(&buf), cap < 5);
            assert_true(
                sp_slice_eq(sp_buf_slice(&buf), sp_slice_sub(SP_S("ab\xe2\x82\xac"), 0, buf.len)));
            sp_buf_release(&buf);
            sp_buf_init(&buf, cap);
            sp_mime_decode_text(SP_S(""), sp_slice_str(encodings[i]), SP_S("utf-8"), &buf);
            assert_false(sp_buf_failed(&buf));
            sp_buf_release(&buf);
        }
    }
}

/* ---- Folding ---- */

static void test_fold(void **state)
{
    (void)state;
    static const struct {
        const char *text, *folded;
    } cases[] = {
        {"", ""},
        {"Abc XYZ 09", "abc xyz 09"},
        {"\xc3\x84pfel", "\xc3\xa4pfel"},
        {"STRA\xc3\x9f"
         "E",
         "strasse"},
        {"\xce\xa3\xcf\x83\xcf\x82", "\xcf\x83\xcf\x83\xcf\x83"}, /* all sigmas are one */
        {"A\xcc\x88", "\xc3\xa4"},                                /* decomposed: composed */
        {"xA\xcc\x88x", "x\xc3\xa4x"},
        {"\xef\xac\x81", "fi"},       /* a ligature */
        {"\xef\xbc\xa1", "a"},        /* a wide letter */
        {"\xe2\x84\xab", "\xc3\xa5"}, /* the sign of the angstrom */
        {"\xd0\x96\xd0\x96", "\xd0\xb6\xd0\xb6"},
        {"\xf0\x90\x90\x80", "\xf0\x90\x90\xa8"}, /* beyond the first plane */
        {"a\xff", "a\xef\xbf\xbd"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_buf buf;
        sp_buf_init(&buf, 1000);
        sp_mime_fold(sp_slice_str(cases[i].text), &buf);
        check_text(&buf, sp_slice_str(cases[i].folded));
        sp_buf_release(&buf);
    }
    /* The character that grows most, and runs of any length */
    struct sp_buf text, once, full;
    sp_buf_init(&text, 1U << 20);
    sp_buf_init(&once, 1U << 20);
    sp_buf_init(&full, 100);
    for (size_t n = 0; n < 1000; n++) {
        sp_buf_add_str(&text, "\xef\xb7\xba"); /* U+FDFA: 18 characters */
        sp_buf_reset(&once);
        sp_mime_fold(sp_buf_slice(&text), &once);
        assert_false(sp_buf_failed(&once));
        assert_int_equal(once.len, (n + 1) * 33);
    }
    sp_mime_fold(sp_buf_slice(&text), &full);
    assert_true(sp_buf_failed(&full) && full.len <= 100);
    sp_buf_release(&full);
    sp_buf_release(&once);
    sp_buf_release(&text);
}

/* ---- Base subjects (RFC 5256, 2.1) ---- */

static void test_base_subject(void **state)
{
    (void)state;
    static const struct {
        const char *subject, *base;
        bool reply;
    } cases[] = {
        {"", "", false},
        {"a", "a", false},
        /* 1: blanks */
        {"a\tb \t c\r\n d", "a b c d", false},
        /* 2: trailers */
        {"a  ", "a", false},
        {"a (fwd)", "a", true},
        {"a(FWD) (fwd)  ", "a", true},
        {"(fwd)", "", true},
        {"a (fwd) b", "a (fwd) b", false},
        /* 3: leaders */
        {"Re: a", "a", true},
        {"re:a", "a", true},
        {"FW: a", "a", true},
        {"Fwd: a", "a", true},
        {"RE : a", "a", true},
        {"Re[2]: a", "a", true},
        {"Re [2] : a", "a", true},
        {"Re: fw: Re: a", "a", true},
        {"[x] Re: a", "a", true},
        {"[x] [y]Re: a", "a", true},
        {"  a", "a", false},
        {"Re:", "", true},
        {"Re", "Re", false},
        {"Reply: a", "Reply: a", false},
        {"fwdx: a", "fwdx: a", false},
        {"Aw: a", "Aw: a", false},
        {"Re[[]]: a", "Re[[]]: a", false},
        {"Re[2][3]: a", "Re[2][3]: a", false},
        /* 4: blobs, but not all there is */
        {"[x] a", "a", false},
        {"[x]a", "a", false},
        {"[]a", "a", false},
        {"[x] [y]", "[y]", false},
        {"[x]", "[x]", false},
        {"Re: [x]", "[x]", true},
        {"[x a", "[x a", false},
        {"[x[y]] a", "[x[y]] a", false},
        /* 5: again */
        {"[x] Re: [y] Re: a", "a", true},
        {"Re: [x] a", "a", true},
        {"[x] [y] a", "a", false},
        /* 6: forwarded */
        {"[fwd: a]", "a", true},
        {"[Fwd: Re: a (fwd)]", "a", true},
        {"[fwd: [fwd: a]]", "a", true},
        {"Re: [fwd: a] (fwd)", "a", true},
        {"[fwd: [x] a]", "a", true},
        {"[fwd:]", "", true},
        {"[fwd: a] b", "b", false}, /* a blob */
        {"[fwd: a", "[fwd: a", false},
        {"fwd: [fwd: Re: [x] a  (fwd) ]  ", "a", true},
        {"Re: \xc3\xa4", "\xc3\xa4", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_buf buf;
        bool reply = !cases[i].reply;
        sp_buf_init(&buf, 1000);
        sp_mime_base_subject(sp_slice_str(cases[i].subject), &buf, &reply);
        if (reply != cases[i].reply)
            fail_msg("%s: reply %d", cases[i].subject, reply);
        check_text(&buf, sp_slice_str(cases[i].base));
        sp_buf_release(&buf);
    }
}

/* ---- Mailbox names ---- */

static void test_utf7(void **state)
{
    (void)state;
    static const struct {
        const char *utf7, *utf8;
    } cases[] = {
        {"", ""},
        {"INBOX", "INBOX"},
        {"a &- b", "a & b"},
        /* RFC 3501, 5.1.3 */
        {"~peter/mail/&U,BTFw-/&ZeVnLIqe-",
         "~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"},
        {"&Jjo-!", "\xe2\x98\xba!"},
        {"&U,BTF2XlZyyKng-", "\xe5\x8f\xb0\xe5\x8c\x97\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"},
        {"Entw&APw-rfe", "Entw\xc3\xbcrfe"},
        {"&AOQ-&-&APw-", "\xc3\xa4&\xc3\xbc"},
        {"&2D3eAA-", "\xf0\x9f\x98\x80"},
        {"&2D3eANg93gE-", "\xf0\x9f\x98\x80\xf0\x9f\x98\x81"},
        {"&AAkAfw-", "\t\x7f"},
        {"&,,8-", "\xef\xbf\xbf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_buf buf;
        sp_buf_init(&buf, 1000);
        assert_int_equal(sp_mime_utf7_to_utf8(sp_slice_str(cases[i].utf7), &buf), SP_OK);
        check_text(&buf, sp_slice_str(cases[i].utf8));
        assert_int_equal(sp_mime_utf8_to_utf7(sp_slice_str(cases[i].utf8), &buf), SP_OK);
        check_text(&buf, sp_slice_str(cases[i].utf7));
        sp_buf_release(&buf);
    }
}

static void test_malformed_utf7(void **state)
{
    (void)state;
    static const char *const utf7[] = {
        "&Jjo!",              /* RFC 3501, 5.1.3: no shift back */
        "&U,BTFw-&ZeVnLIqe-", /* the same: a superfluous shift */
        "a\x80",
        "\xc3\xa4",
        "a\tb",
        "a\x7f",
        "&",
        "&Jjo",
        "&AGE-", /* 'a', which must stand for itself */
        "&ACY-", /* '&' */
        "&A-",
        "&AAA",
        "&AA-",
        "&Jj-",   /* half a character */
        "&JjoA-", /* one and a half */
        "&Jjp-",  /* bits left over */
        "&J jo-",
        "&Jj/-",
        "&2D0-", /* half a pair */
        "&3gA-",
        "&2D3YPQ-",
        "&2D0AYQ-",
    };
    static const char *const utf8[] = {"\x80", "a\xc3", "\xed\xa0\x80", "\xc0\x80"};
    struct sp_buf buf;
    sp_buf_init(&buf, 1000);
    sp_buf_add_str(&buf, "x");
    for (size_t i = 0; i < sizeof utf7 / sizeof *utf7; i++)
        if (sp_mime_utf7_to_utf8(sp_slice_str(utf7[i]), &buf) != SP_INVALID || buf.len != 1)
            fail_msg("%s", utf7[i]);
    for (size_t i = 0; i < sizeof utf8 / sizeof *utf8; i++)
        assert_int_equal(sp_mime_utf8_to_utf7(sp_slice_str(utf8[i]), &buf), SP_INVALID);
    check_text(&buf, SP_S("x"));
    sp_buf_release(&buf);
}

/* Every character there is. */
static void test_utf7_characters(void **state)
{
    (void)state;
    struct sp_buf there, back;
    sp_buf_init(&there, 100);
    sp_buf_init(&back, 100);
    for (uint32_t c = 0; c <= 0x10ffff; c += c < 0x3000 ? 1 : 97) {
        uint8_t text[4];
        size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        uint32_t rest = c;
        for (size_t i = len; i-- > 1; rest >>= 6)
            text[i] = (uint8_t)(0x80 | (rest & 0x3f));
        text[0] = (uint8_t)(len == 1 ? rest : (0xf00U >> len & 0xf0) | rest);
        bool surrogate = c >= 0xd800 && c <= 0xdfff;
        assert_int_equal(sp_mime_is_utf8(sp_slice(text, len)), !surrogate);
        sp_buf_reset(&there);
        assert_int_equal(sp_mime_utf8_to_utf7(sp_slice(text, len), &there),
                         surrogate ? SP_INVALID : SP_OK);
        if (surrogate)
            continue;
        assert_int_equal(sp_mime_utf7_to_utf8(sp_buf_slice(&there), &back), SP_OK);
        check_text(&back, sp_slice(text, len));
    }
    sp_buf_release(&there);
    sp_buf_release(&back);
}

static void test_is_utf8(void **state)
{
    (void)state;
    static const struct {
        struct sp_slice bytes;
        bool valid;
    } cases[] = {
        {SP_S(""), true},
        {SP_S("a\0b"), true},
        {SP_S("\x7f"), true},
        {SP_S("\xc2\x80\xdf\xbf"), true},
        {SP_S("\xe0\xa0\x80\xef\xbf\xbf"), true},
        {SP_S("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"), true},
        {SP_S("\xed\x9f\xbf\xee\x80\x80"), true},
        {SP_S("\x80"), false},
        {SP_S("\xbf"), false},
        {SP_S("\xc0\x80"), false}, /* overlong */
        {SP_S("\xc1\xbf"), false},
        {SP_S("\xe0\x9f\xbf"), false},
        {SP_S("\xf0\x8f\xbf\xbf"), false},
        {SP_S("\xed\xa0\x80"), false}, /* surrogates */
        {SP_S("\xed\xbf\xbf"), false},
        {SP_S("\xf4\x90\x80\x80"), false}, /* beyond the last */
        {SP_S("\xf5\x80\x80\x80"), false},
        {SP_S("\xfe"), false},
        {SP_S("\xff"), false},
        {SP_S("\xc2"), false}, /* cut */
        {SP_S("\xe1\x80"), false},
        {SP_S("\xf1\x80\x80"), false},
        {SP_S("\xc2\x41"), false},
        {SP_S("\xe1\x80\x41"), false},
        {SP_S("\xf1\x80\x80\xc0"), false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        /* At every place of the words that are looked at together */
        for (size_t lead = 0; lead < 17; lead++) {
            size_t len = lead + cases[i].bytes.len + lead % 3;
            uint8_t *exact = malloc(len ? len : 1);
            assert_non_null(exact);
            memset(exact, 'a', len);
            memcpy(exact + lead, cases[i].bytes.ptr, cases[i].bytes.len);
            if (sp_mime_is_utf8(sp_slice(exact, len)) != cases[i].valid)
                fail_msg("%zu after %zu", i, lead);
            free(exact);
        }
    }
}

/* Decodes in pieces of at most `in` bytes with room for `out`; what is not taken is given again. */
static void decode_in_pieces(struct sp_slice content, const char *encoding, size_t in, size_t out,
                             struct sp_buf *buf)
{
    struct sp_mime_decoder decoder = {sp_mime_encoding_of(sp_slice_str(encoding)), 0, 0};
    uint8_t room[64];
    size_t at = 0, given = 0;
    while (at < content.len) {
        size_t len, end = at + given + in < content.len ? at + given + in : content.len;
        size_t n = sp_mime_decode(&decoder, sp_slice_sub(content, at, end), end == content.len,
                                  (struct sp_slice_mut){room, out}, &len);
        sp_buf_add(buf, sp_slice(room, len));
        at += n;
        given = n ? 0 : given + in; /* it wants to see more */
        assert_true(n || len || end < content.len);
    }
}

/* RFC 2045, 6: however the content is cut, what comes out is the same. */
static void test_decoder(void **state)
{
    (void)state;
    static const struct {
        const char *encoding, *content, *decoded;
    } cases[] = {
        {"base64", "YWJj\r\nZGVm\r\n", "abcdef"},
        {" BASE64 ", "YQ==YmM=\r\n!ZGVm", "abcdef"},
        {"base64", "Y", ""},
        {"quoted-printable", "a=3Db=3dc", "a=b=c"},
        {"quoted-printable", "soft=\r\n line= \t\r\n end=", "soft line end"},
        {"quoted-printable", "blanks \t \r\nin  line\r\nat end  ", "blanks\r\nin  line\r\nat end"},
        {"quoted-printable", "bare\nlf =\nx=\r", "bare\nlf x=\r"},
        {"quoted-printable", "=zz=4=", "=zz=4"},
        {"quoted-printable", "\r \rx", "\r \rx"},
        {"8bit", "as=3D it is ", "as=3D it is "},
        {"x-unknown", "as it is", "as it is"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t in = 1; in < 12; in++) {
            for (size_t out = 1; out < 12; out++) {
                struct sp_buf buf;
                sp_buf_init(&buf, 1000);
                decode_in_pieces(sp_slice_str(cases[i].content), cases[i].encoding, in, out, &buf);
                check_text(&buf, sp_slice_str(cases[i].decoded));
                sp_buf_release(&buf);
            }
        }
    }
}

/* Blanks beyond reason stay, wherever it is that they are cut: no look ahead goes further. */
static void test_decoder_of_blanks(void **state)
{
    (void)state;
    struct sp_buf content, expected;
    sp_buf_init(&content, 10000);
    sp_buf_init(&expected, 10000);
    sp_buf_add_str(&content, "a");
    for (int i = 0; i < 1001; i++)
        sp_buf_add_byte(&content, i % 2 ? ' ' : '\t');
    sp_buf_add(&expected, sp_buf_slice(&content));
    sp_buf_add_str(&content, "\r\nb");
    sp_buf_add_str(&expected, "\r\nb");
    for (int i = 0; i < 1000; i++)
        sp_buf_add_byte(&content, ' ');
    sp_buf_add_str(&content, "\r\n=");
    sp_buf_add_str(&expected, "\r\n");
    static const size_t sizes[] = {1, 7, 64, 1000, 1024, 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (size_t out = 1; out <= 64; out += 21) {
            struct sp_buf buf;
            sp_buf_init(&buf, 10000);
            decode_in_pieces(sp_buf_slice(&content), "quoted-printable", sizes[i], out, &buf);
            assert_true(sp_slice_eq(sp_buf_slice(&buf), sp_buf_slice(&expected)));
            sp_buf_release(&buf);
        }
    }
    sp_buf_release(&content);
    sp_buf_release(&expected);
}

/* RFC 8970, 3.2: one line of what a person would see. */
static void test_preview(void **state)
{
    (void)state;
    static const struct {
        bool html;
        const char *text, *preview;
    } cases[] = {
        {false, "  Hello,\r\n\r\n\tworld  \xc2\xa0 !\x01 ", "Hello, world !"},
        {false,
         "a\xe2\x80\x8b\xcd\x8f"
         "b <b>&amp;",
         "ab <b>&amp;"},
        {false, "", ""},
        {false, " \r\n", ""},
        {true,
         "<html><head><title>No</title><style>p {}</style></head><body><p>Hi <b>bo</b>ld</p>x",
         "Hi bold x"},
        {true, "<!-- no --> yes<script>if (a<b) no</SCRIPT >!", "yes !"},
        {true, "a &amp; b &lt;c&gt; &#65;&#x42;&nbsp;&frob; &#xd800; & d",
         "a & b <c> AB &frob; &#xd800; & d"},
        {true, "1 < 2 <img alt=\"a > b\"> 3 <", "1 < 2 3 <"},
        {true, "<style>never closed", ""},
        {true, "<!-- never closed", ""},
        {true, "<!DOCTYPE html><?xml?>x<br/>y", "x y"},
        {true, "&shy;&zwnj;&#847;x&#1114112;", "x&#1114112;"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_buf buf;
        sp_buf_init(&buf, 1000);
        sp_mime_preview(sp_slice_str(cases[i].text), cases[i].html, 200, &buf);
        check_text(&buf, sp_slice_str(cases[i].preview));
        sp_buf_release(&buf);
    }
    /* Characters count, not bytes; none is cut. */
    struct sp_buf buf;
    sp_buf_init(&buf, 100);
    sp_mime_preview(SP_S("\xc3\xa4\xf0\x9f\x98\x80 x"), false, 2, &buf);
    check_text(&buf, SP_S("\xc3\xa4\xf0\x9f\x98\x80"));
    sp_mime_preview(SP_S("ab cd"), false, 3, &buf);
    check_text(&buf, SP_S("ab"));
    sp_mime_preview(SP_S("a\xe2\x82"), false, 10, &buf);
    check_text(&buf, SP_S("a\xef\xbf\xbd"));
    sp_buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_text),    cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_full_buffer),    cmocka_unit_test(test_fold),
        cmocka_unit_test(test_base_subject),   cmocka_unit_test(test_utf7),
        cmocka_unit_test(test_malformed_utf7), cmocka_unit_test(test_utf7_characters),
        cmocka_unit_test(test_is_utf8),        cmocka_unit_test(test_preview),
        cmocka_unit_test(test_decoder),        cmocka_unit_test(test_decoder_of_blanks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
