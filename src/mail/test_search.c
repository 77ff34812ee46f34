/* SEARCH, SORT and THREAD. */
#include "mail/match.h"
#include "base/time.h"
#include "mail/test_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#define DAY(n) ((int64_t)(n)*86400)

/* ---- Matching ---- */

static void test_needles(void **state)
{
    static const struct {
        const char *needle, *text;
        bool found;
    } cases[] = {
        {"", "", true},
        {"a", "", false},
        {"hello", "say HELLO there", true},
        {"HELLO", "say hello", true},
        {"hello", "hell o hello", true},
        {"aab", "aaaaaab", true},
        {"aab", "aaaaaaa", false},
        {"stra\xc3\x9f"
         "e",
         "in der STRASSE", false}, /* of ASCII text alone nothing folds to sharp s ... */
        {"strasse",
         "in der Stra\xc3\x9f"
         "e",
         true},
        {"\xc3\xa4", "\xc3\x84hre", true},
        {"\xc3\xa4", "a", false},
        {"kelvin",
         "\xe2\x84\xaa"
         "elvin",
         true},
    };
    (void)state;
    struct sp_matcher matcher;
    sp_matcher_init(&matcher);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_arena arena;
        struct sp_needle needle;
        sp_arena_init(&arena, 65536);
        assert_int_equal(sp_needle_init(&needle, sp_slice_str(cases[i].needle), &arena), SP_OK);
        bool found = sp_needle_in_utf8(&needle, &matcher, sp_slice_str(cases[i].text));
        if (found != cases[i].found)
            fail_msg("'%s' in '%s'", cases[i].needle, cases[i].text);
        sp_arena_release(&arena);
    }
    sp_matcher_release(&matcher);
}

static void test_fields(void **state)
{
    static const struct {
        const char *needle, *body;
        bool found;
    } cases[] = {
        {"caf\xc3\xa9", "=?utf-8?Q?Caf=C3=A9?=", true},
        {"cafe", "=?utf-8?Q?Caf=C3=A9?=", false},
        {"one two", "one\r\n two", true},
        {"utf", "=?utf-8?Q?x?=", false},
        {"b\xc3\xa4r", "plain", false},
    };
    (void)state;
    struct sp_matcher matcher;
    sp_matcher_init(&matcher);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_arena arena;
        struct sp_needle needle;
        sp_arena_init(&arena, 65536);
        assert_int_equal(sp_needle_init(&needle, sp_slice_str(cases[i].needle), &arena), SP_OK);
        bool found = sp_needle_in_field(&needle, &matcher, sp_slice_str(cases[i].body));
        if (found != cases[i].found)
            fail_msg("'%s' in '%s'", cases[i].needle, cases[i].body);
        sp_arena_release(&arena);
    }
    sp_matcher_release(&matcher);
}

/* ---- SEARCH ---- */

static const char *const messages[] = {
    /* 1 */
    "From: Bob Builder <bob@example.net>\r\nTo: alice@example.org\r\nSubject: Plans for spring\r\n"
    "Date: Tue, 5 Mar 2024 23:30:00 -0500\r\nMessage-ID: <1@x>\r\n\r\nWe shall build a boat.\r\n",
    /* 2 */
    "From: =?utf-8?Q?J=C3=BCrgen?= <j@example.net>\r\nTo: team@example.org\r\nCc: Bob "
    "<bob@example.net>\r\n"
    "Subject: =?iso-8859-1?Q?Gr=FC=DFe?= aus Wien\r\nDate: Wed, 6 Mar 2024 01:00:00 "
    "+0100\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    "Sch=C3=B6ne Gr=C3=BC=C3=9Fe, mit langer=\r\n Zeile\r\n",
    /* 3 */
    "From: x@example.com\r\nBcc: hidden@example.com\r\nX-Spam: yes\r\n folded "
    "value\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/mixed; boundary=b\r\n\r\nboat in the preamble\r\n--b\r\nContent-Type: "
    "text/html\r\n"
    "Content-Transfer-Encoding: base64\r\n\r\nPGI+SGlkZGVuIFRyZWFzdXJlPC9iPg==\r\n--b\r\n"
    "Content-Type: message/rfc822\r\n\r\nSubject: enclosed wonder\r\n\r\ninner text\r\n--b\r\n"
    "Content-Type: image/png\r\n\r\ninvisible\r\n--b--\r\n",
    /* 4: no header worth the name */
    "\r\njust text, treasure too\r\n",
};
#define MESSAGES (sizeof messages / sizeof *messages)

static void fill(struct world *world)
{
    static const uint32_t flags[] = {SP_FLAG_SEEN, SP_FLAG_SEEN | SP_FLAG_FLAGGED, 0,
                                     SP_FLAG_DELETED};
    for (size_t i = 0; i < MESSAGES; i++)
        append(world, "INBOX", sp_slice_str(messages[i]), flags[i], i == 1 ? "Work" : NULL,
               DAY(100 + i) + 23 * 3600 + 1800);
}

/* An array on a request's arena. */
static struct sp_reply *search(struct world *world, const struct sp_search_node *nodes,
                               uint32_t count)
{
    struct sp_request *request = request_new(world, SP_REQ_SEARCH);
    request->mailbox = open_mailbox(world, "INBOX");
    request->search.nodes = sp_arena_array(&request->arena, count, sizeof *nodes);
    memcpy(request->search.nodes, nodes, count * sizeof *nodes);
    request->search.nodes_count = count;
    return ask(world, request);
}

static void assert_search(struct world *world, const struct sp_search_node *nodes, uint32_t count,
                          const char *expected)
{
    struct sp_reply *reply = search(world, nodes, count);
    assert_int_equal(reply->status, SP_OK);
    assert_ranges(reply->ranges, expected);
    sp_reply_free(reply);
}

static void test_search_keys(void **state)
{
#define T(string) .text = {(const uint8_t *)(string), sizeof(string) - 1 }
#define F(string) .field = {(const uint8_t *)(string), sizeof(string) - 1}
    static const struct {
        struct sp_search_node node;
        const char *found;
    } cases[] = {
        {{.op = SP_SEARCH_ALL}, "1:4"},
        {{.op = SP_SEARCH_FLAGS, .number = SP_FLAG_SEEN}, "1:2"},
        {{.op = SP_SEARCH_FLAGS, .number = SP_FLAG_SEEN | SP_FLAG_FLAGGED}, "2"},
        {{.op = SP_SEARCH_KEYWORD, T("WORK")}, "2"},
        {{.op = SP_SEARCH_KEYWORD, T("none")}, ""},
        {{.op = SP_SEARCH_LARGER, .number = 100}, "1:3"},
        {{.op = SP_SEARCH_SMALLER, .number = 28}, "4"},
        {{.op = SP_SEARCH_SMALLER, .number = 27}, ""},
        /* The internal date counts in its zone: half past midnight of the day after. */
        {{.op = SP_SEARCH_ON, .number = 102}, "2"},
        {{.op = SP_SEARCH_BEFORE, .number = 102}, "1"},
        {{.op = SP_SEARCH_SINCE, .number = 102}, "2:4"},
        {{.op = SP_SEARCH_OLDER, .number = 1000}, "1:4"},
        {{.op = SP_SEARCH_YOUNGER, .number = 1000}, ""},
        {{.op = SP_SEARCH_SENTON, .number = 19787}, "1"}, /* 5 March 2024, as written */
        {{.op = SP_SEARCH_SENTSINCE, .number = 19788}, "2"},
        {{.op = SP_SEARCH_SENTBEFORE, .number = 19788}, "1"},
        {{.op = SP_SEARCH_FROM, T("BOB")}, "1"},
        {{.op = SP_SEARCH_FROM, T("bob@example.NET")}, "1"},
        {{.op = SP_SEARCH_FROM, T("builder <bob")}, "1"},
        {{.op = SP_SEARCH_FROM, T("j\xc3\xbcrgen")}, "2"},
        {{.op = SP_SEARCH_FROM, T("")}, "1:3"},
        {{.op = SP_SEARCH_TO, T("team")}, "2"},
        {{.op = SP_SEARCH_CC, T("bob")}, "2"},
        {{.op = SP_SEARCH_BCC, T("hidden")}, "3"},
        {{.op = SP_SEARCH_SUBJECT, T("SPRING")}, "1"},
        {{.op = SP_SEARCH_SUBJECT,
          T("gr\xc3\xbc\xc3\x9f"
            "e AUS")},
         "2"},
        {{.op = SP_SEARCH_SUBJECT, T("gr\xc3\xbcsse")}, "2"},
        {{.op = SP_SEARCH_SUBJECT, T("iso")}, ""},
        {{.op = SP_SEARCH_SUBJECT, T("")}, "1:2"},
        {{.op = SP_SEARCH_HEADER, F("x-spam"), T("yes folded")}, "3"},
        {{.op = SP_SEARCH_HEADER, F("X-Spam"), T("")}, "3"},
        {{.op = SP_SEARCH_HEADER, F("Message-ID"), T("1@x")}, "1"},
        {{.op = SP_SEARCH_HEADER, F("Subject"), T("wien")}, "2"},
        {{.op = SP_SEARCH_BODY, T("BOAT")}, "1"}, /* not the preamble */
        {{.op = SP_SEARCH_BODY, T("treasure")}, "3:4"},
        {{.op = SP_SEARCH_BODY, T("sch\xc3\xb6ne gr\xc3\xbc")}, "2"},
        {{.op = SP_SEARCH_BODY, T("langer zeile")}, "2"},
        {{.op = SP_SEARCH_BODY, T("wonder")}, "3"},
        {{.op = SP_SEARCH_BODY, T("inner")}, "3"},
        {{.op = SP_SEARCH_BODY, T("invisible")}, ""},
        {{.op = SP_SEARCH_BODY, T("spring")}, ""},
        {{.op = SP_SEARCH_BODY, T("")}, "1:4"},
        {{.op = SP_SEARCH_TEXT, T("spring")}, "1"},
        {{.op = SP_SEARCH_TEXT, T("x-spam: yes folded")}, "3"},
        {{.op = SP_SEARCH_TEXT, T("J\xc3\x9cRGEN")}, "2"},
        {{.op = SP_SEARCH_TEXT, T("treasure")}, "3:4"},
    };
    struct world *world = *state;
    fill(world);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_search(world, &cases[i].node, 1, cases[i].found);
        /* Its contrary finds the others. */
        struct sp_search_node twice[] = {
            {.op = SP_SEARCH_NOT}, {.op = SP_SEARCH_NOT}, cases[i].node};
        assert_search(world, twice, 3, cases[i].found);
    }
}

static void test_search_programs(void **state)
{
    struct world *world = *state;
    struct sp_uid_range some[] = {{2, 3}, {7, 9}};
    struct sp_search_node uids = {.op = SP_SEARCH_UIDS, .ranges = {some, 2}};
    struct sp_search_node treasure = {.op = SP_SEARCH_BODY, T("treasure")};
    struct sp_search_node seen = {.op = SP_SEARCH_FLAGS, .number = SP_FLAG_SEEN};
    struct sp_search_node and2 = {.op = SP_SEARCH_AND, .count = 2},
                          or2 = {.op = SP_SEARCH_OR, .count = 2};
    struct sp_search_node not = {.op = SP_SEARCH_NOT}, and0 = {.op = SP_SEARCH_AND};
    fill(world);
    assert_search(world, &uids, 1, "2:3");
    assert_search(world, (struct sp_search_node[]){and2, treasure, uids}, 3, "3");
    assert_search(world, (struct sp_search_node[]){or2, treasure, seen}, 3, "1:4");
    assert_search(world, (struct sp_search_node[]){and2, not, treasure, not, seen}, 5, "");
    assert_search(world, (struct sp_search_node[]){or2, and2, seen, treasure, not, uids}, 6, "1,4");
    assert_search(world, (struct sp_search_node[]){not, uids}, 2, "1,4");
    assert_search(world, &and0, 1, "1:4");

    struct sp_reply *reply = search(world, &seen, 1);
    uint64_t modseq = reply->modseq;
    free_ok(reply);
    struct sp_search_node since = {.op = SP_SEARCH_MODSEQ, .number = modseq};
    assert_search(world, &since, 1, "2:4");
    assert_search(world, (struct sp_search_node[]){not, since}, 2, "1");

    static const struct sp_search_node bad[][2] = {
        {{.op = SP_SEARCH_NOT}},
        {{.op = SP_SEARCH_AND, .count = 3}, {.op = SP_SEARCH_ALL}},
        {{.op = SP_SEARCH_ALL}, {.op = SP_SEARCH_ALL}},
        {{.op = SP_SEARCH_AND, .count = UINT32_MAX}, {.op = SP_SEARCH_ALL}},
        {{.op = (enum sp_search_op)99}, {.op = (enum sp_search_op)99}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        reply = search(world, bad[i], i == 0 || i == 4 ? 1 : 2);
        assert_int_equal(reply->status, SP_INVALID);
        sp_reply_free(reply);
    }
}

/* Several keys that look into the same bytes find each its own. */
static void test_search_keys_together(void **state)
{
    static const struct sp_search_node keys[] = {
        {.op = SP_SEARCH_HEADER, F("x-spam"), T("yes folded")},
        {.op = SP_SEARCH_HEADER, F("subject"), T("wien")},
        {.op = SP_SEARCH_HEADER, F("subject"), T("spring")},
        {.op = SP_SEARCH_BODY, T("boat")},
        {.op = SP_SEARCH_TEXT, T("x-spam: yes folded")},
        {.op = SP_SEARCH_BODY, T("wonder")},
        {.op = SP_SEARCH_TEXT, T("treasure")},
        {.op = SP_SEARCH_TEXT, T("j\xc3\xbcrgen")},
        {.op = SP_SEARCH_BODY, T("j\xc3\xbcrgen")},
        {.op = SP_SEARCH_BODY, T("")},
    };
    static const unsigned found[] = {4, 2, 1, 1, 4, 4, 12, 2, 0, 15}; /* bits: messages 1 to 4 */
    enum { KEYS = sizeof keys / sizeof *keys };
    struct world *world = *state;
    fill(world);
    for (unsigned i = 0; i < KEYS; i++) {
        for (unsigned k = 0; k < KEYS; k++) {
            struct sp_search_node both[] = {
                {.op = SP_SEARCH_AND, .count = 2}, keys[i], {.op = SP_SEARCH_NOT}, keys[k]};
            struct sp_reply *reply = search(world, both, 4);
            unsigned bits = 0;
            for (uint32_t r = 0; r < reply->ranges.count; r++)
                for (uint32_t uid = reply->ranges.ptr[r].first; uid <= reply->ranges.ptr[r].last;
                     uid++)
                    bits |= 1U << (uid - 1);
            assert_int_equal(bits, found[i] & ~found[k]);
            free_ok(reply);
        }
    }
}

static uint64_t time_of_search(struct world *world, uint32_t keys)
{
    struct sp_request *request = request_new(world, SP_REQ_SEARCH);
    request->mailbox = open_mailbox(world, "INBOX");
    request->search.nodes =
        sp_arena_array(&request->arena, keys + 1, sizeof *request->search.nodes);
    request->search.nodes_count = keys + 1;
    request->search.nodes[0] = (struct sp_search_node){.op = SP_SEARCH_OR, .count = keys};
    for (uint32_t i = 1; i <= keys; i++) {
        char word[32];
        snprintf(word, sizeof word, "\xc3\xa4nicht da %u", i);
        request->search.nodes[i] =
            (struct sp_search_node){.op = SP_SEARCH_BODY, .text = text(request, word)};
    }
    uint64_t began = sp_wall_ns();
    struct sp_reply *reply = ask(world, request);
    uint64_t took = sp_wall_ns() - began;
    assert_ranges(reply->ranges, "");
    free_ok(reply);
    return took;
}

/* A part is decoded once, however many keys look into it. */
static void test_search_decodes_once(void **state)
{
    struct world *world = *state;
    static char message[200000];
    size_t at =
        (size_t)snprintf(message, sizeof message,
                         "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
                         "Content-Transfer-Encoding: quoted-printable\r\n\r\n");
    while (at < sizeof message - 100)
        at += (size_t)snprintf(message + at, sizeof message - at, "=E4=F6=FC =DF=E4=F6\r\n");
    append(world, "INBOX", sp_slice(message, at), 0, NULL, 0);
    uint64_t one = time_of_search(world, 1), many = time_of_search(world, 900);
    assert_true(many < 300 * one);
}

/* When nobody waits for it any more, it ends. */
static void test_search_cancelled(void **state)
{
    struct world *world = *state;
    struct sp_search_node all = {.op = SP_SEARCH_ALL};
    fill(world);
    for (int kind = 0; kind < 3; kind++) {
        struct sp_request *request = request_new(world, SP_REQ_SEARCH);
        request->mailbox = open_mailbox(world, "INBOX");
        request->search.nodes = &all;
        request->search.nodes_count = 1;
        request->search.sort_count = kind == 1;
        request->search.thread = kind == 2 ? SP_THREAD_REFERENCES : SP_THREAD_NONE;
        atomic_store(&request->cancelled, true);
        assert_int_equal(ask_status(world, request), SP_UNAVAILABLE);
    }
}

/* More than a batch, with long parts among them: found beyond the first window, and where two
 * windows meet. */
static void test_search_many(void **state)
{
    struct world *world = *state;
    const size_t len = 2500000;
    char small[128];
    struct sp_search_node needle = {.op = SP_SEARCH_BODY, T("needle")};
    for (uint32_t i = 0; i < 600; i++) {
        snprintf(small, sizeof small, "Subject: %u\r\n\r\n%s %u\r\n", i, i % 3 ? "straw" : "needle",
                 i);
        append(world, "INBOX", sp_slice_str(small), 0, NULL, 0);
    }
    struct sp_reply *reply = search(world, &needle, 1);
    assert_int_equal(reply->ranges.count, 200);
    for (uint32_t i = 0; i < 200; i++)
        assert_int_equal(reply->ranges.ptr[i].first, 3 * i + 1);
    free_ok(reply);

    uint8_t *bytes = malloc(len);
    static const size_t places[] = {1048576 - 3, 2400000, 1048576 - 8192 - 3};
    for (size_t i = 0; i < len; i++)
        bytes[i] = i % 70 == 69 ? '\n' : '.';
    memcpy(bytes, "Subject: \n\n", 11);
    for (uint32_t i = 0; i < 3; i++) {
        uint8_t saved[6];
        uint64_t body = 0;
        struct sp_slice rest = sp_slice(bytes, len);
        memcpy(saved, bytes + places[i], 6);
        memcpy(bytes + places[i], "NEEDLE", 6);
        for (; rest.len > SP_BODY_PIECE_MAX; rest = sp_slice_from(rest, SP_BODY_PIECE_MAX)) {
            struct sp_request *put = request_new(world, SP_REQ_BODY_PUT);
            put->body = (struct sp_incoming){body, sp_slice_sub(rest, 0, SP_BODY_PIECE_MAX)};
            reply = ask(world, put);
            body = reply->body;
            free_ok(reply);
        }
        struct sp_request *request = request_new(world, SP_REQ_APPEND);
        struct sp_append message = {.message = {body, rest}};
        request->name = text(request, "Sent");
        request->append.messages = &message;
        request->append.messages_count = 1;
        free_ok(ask(world, request));
        memcpy(bytes + places[i], saved, 6);
    }
    free(bytes);
    struct sp_request *request = request_new(world, SP_REQ_SEARCH);
    request->mailbox = open_mailbox(world, "Sent");
    request->search.nodes = &needle;
    request->search.nodes_count = 1;
    reply = ask(world, request);
    assert_ranges(reply->ranges, "1:3");
    free_ok(reply);
}

/* ---- SORT ---- */

static void add(struct world *world, const char *header, int64_t arrival)
{
    char message[1024];
    snprintf(message, sizeof message, "%s\r\nbody\r\n", header);
    append(world, "INBOX", sp_slice_str(message), 0, NULL, arrival);
}

static struct sp_request *search_all(struct world *world)
{
    static struct sp_search_node all = {.op = SP_SEARCH_ALL};
    struct sp_request *request = request_new(world, SP_REQ_SEARCH);
    request->mailbox = open_mailbox(world, "INBOX");
    request->search.nodes = &all;
    request->search.nodes_count = 1;
    return request;
}

struct sorted {
    uint8_t keys[3];
    uint32_t count;
    uint32_t uids[5];
};

static void assert_sorted(struct world *world, size_t i, const struct sorted *expected)
{
    struct sp_request *request = search_all(world);
    memcpy(request->search.sort, expected->keys, sizeof expected->keys);
    request->search.sort_count = expected->count;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    assert_int_equal(reply->uids_count, 5);
    for (uint32_t k = 0; k < 5; k++)
        if (reply->uids[k] != expected->uids[k])
            fail_msg("case %zu: place %u is %u", i, k, reply->uids[k]);
    sp_reply_free(reply);
}

/* RFC 5957, 3: the name, in any encoding, that of a group too; without one the address. */
static void test_sort_display(void **state)
{
    static const struct sorted cases[] = {
        {{SP_SORT_FROM}, 1, {1, 4, 3, 5, 2}},
        {{SP_SORT_DISPLAYFROM}, 1, {2, 4, 3, 5, 1}},
        {{SP_SORT_DISPLAYFROM | SP_SORT_REVERSE}, 1, {1, 5, 3, 4, 2}},
        {{SP_SORT_DISPLAYTO}, 1, {2, 4, 5, 3, 1}},
        {{SP_SORT_DISPLAYTO, SP_SORT_DISPLAYFROM | SP_SORT_REVERSE}, 2, {5, 4, 2, 3, 1}},
    };
    struct world *world = *state;
    add(world, "From: Zoe <a@x>\r\nTo: Team: b@y, a@z;\r\n", 1000);
    add(world, "From: adam <z@x>\r\n", 1000);
    add(world, "From: <m@x>\r\nTo: \"B\" <q@y>, A <a@a>\r\n", 1000);
    add(world, "From: =?utf-8?Q?Eve?= <b@x>\r\n", 1000);
    add(world, "From: m@y\r\n", 1000);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_sorted(world, i, &cases[i]);
}

static void test_sort(void **state)
{
    static const struct sorted cases[] = {
        {{SP_SORT_ARRIVAL}, 1, {5, 4, 3, 2, 1}},
        {{SP_SORT_ARRIVAL | SP_SORT_REVERSE}, 1, {1, 2, 3, 4, 5}},
        {{SP_SORT_SUBJECT}, 1, {5, 2, 3, 1, 4}},
        {{SP_SORT_SUBJECT, SP_SORT_DATE}, 2, {5, 3, 2, 1, 4}},
        {{SP_SORT_SUBJECT | SP_SORT_REVERSE, SP_SORT_DATE}, 2, {4, 1, 3, 2, 5}},
        {{SP_SORT_DATE}, 1, {5, 3, 1, 2, 4}},
        {{SP_SORT_FROM}, 1, {5, 3, 2, 1, 4}},
        {{SP_SORT_TO}, 1, {2, 3, 4, 5, 1}},
        {{SP_SORT_SIZE | SP_SORT_REVERSE}, 1, {1, 2, 4, 3, 5}},
        {{SP_SORT_CC}, 1, {1, 2, 3, 4, 5}},
    };
    struct world *world = *state;
    add(world,
        "From: M <m@z>\r\nTo: a@b\r\nSubject: Zebra\r\nDate: Tue, 5 Mar 2024 10:00:00 "
        "+0000\r\nX-Long: "
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
        5000);
    add(world,
        "From: L <l@a>\r\nSubject: Re: [list] apple\r\nDate: Tue, 5 Mar 2024 10:00:00 -0100\r\nX: "
        "yyy\r\n",
        4000);
    add(world, "From: A <b@a>\r\nSubject: APPLE\r\nDate: Tue, 5 Mar 2024 10:30:00 +0200\r\n", 3000);
    add(world,
        "From: N <z@a>\r\nSubject: =?utf-8?Q?=C3=84hre?=\r\nDate: Wed, 6 Mar 2024 00:00:00 "
        "+0000\r\n",
        2000);
    add(world, "Date: nonsense\r\n", 1000); /* sent counts as it arrived */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_sorted(world, i, &cases[i]);
    struct sp_request *request = search_all(world);
    request->search.sort[0] = 99;
    request->search.sort_count = 1;
    assert_int_equal(ask_status(world, request), SP_INVALID);
}

/* ---- THREAD ---- */

/* "1 .2 ..3 4": dots for depth, 0 for a dummy. */
static void assert_threads(struct world *world, enum sp_thread thread, const char *expected)
{
    char got[512] = "";
    size_t at = 0;
    struct sp_request *request = search_all(world);
    request->search.thread = thread;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    for (uint32_t i = 0; i < reply->threads_count; i++) {
        at += (size_t)snprintf(got + at, sizeof got - at, "%s", i ? " " : "");
        for (uint32_t k = 0; k < reply->threads[i].depth; k++)
            got[at++] = '.';
        at += (size_t)snprintf(got + at, sizeof got - at, "%u", reply->threads[i].uid);
    }
    assert_string_equal(got, expected);
    sp_reply_free(reply);
}

static void add_threaded(struct world *world, const char *subject, const char *id,
                         const char *references, unsigned minute)
{
    char header[512];
    snprintf(header, sizeof header,
             "Subject: %s\r\nMessage-ID: <%s>\r\n%s%s%sDate: Tue, 5 Mar 2024 10:%02u:00 +0000\r\n",
             subject, id, references ? "References: " : "", references ? references : "",
             references ? "\r\n" : "", minute);
    add(world, header, 0);
}

static void test_thread_references(void **state)
{
    struct world *world = *state;
    add_threaded(world, "a", "1", NULL, 1);
    add_threaded(world, "Re: a", "2", "<1>", 2);
    add_threaded(world, "Re: a", "3", "<1> <2>", 3);
    add_threaded(world, "Re: a", "4", "<1>", 2);
    assert_threads(world, SP_THREAD_REFERENCES, "1 .2 ..3 .4");
    /* The parent is not there: its children hang on a dummy; one alone takes its place. */
    add_threaded(world, "b", "5", "<gone>", 5);
    assert_threads(world, SP_THREAD_REFERENCES, "1 .2 ..3 .4 5");
    add_threaded(world, "b", "6", "<gone>", 6);
    assert_threads(world, SP_THREAD_REFERENCES, "1 .2 ..3 .4 0 .5 .6");
    /* A loop, an id twice, no id at all. */
    add_threaded(world, "c", "7", "<8>", 7);
    add_threaded(world, "d", "8", "<7>", 8);
    add_threaded(world, "e", "7", NULL, 9);
    add(world,
        "Subject: f\r\nIn-Reply-To: \"x\" <6> <1>\r\nDate: Tue, 5 Mar 2024 10:10:00 +0000\r\n", 0);
    assert_threads(world, SP_THREAD_REFERENCES, "1 .2 ..3 .4 0 .5 .6 ..10 8 .7 9");
}

/* RFC 5256, 3; RFC 4790, 9.2.1: letters are capitals when they are compared, "_" stands behind
 * them. */
static void test_sort_order_of_signs(void **state)
{
    static const uint32_t wanted[] = {2, 3, 1};
    struct world *world = *state;
    add_threaded(world, "_", "1", NULL, 1);
    add_threaded(world, "a", "2", NULL, 2);
    add_threaded(world, "Z", "3", NULL, 3);
    struct sp_request *request = search_all(world);
    request->search.sort[0] = SP_SORT_SUBJECT;
    request->search.sort_count = 1;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    assert_int_equal(reply->uids_count, 3);
    assert_memory_equal(reply->uids, wanted, sizeof wanted);
    sp_reply_free(reply);
}

/* RFC 5256, 3, REFERENCES (1)(B): the parent that another message named is given up before the loop
 * is looked for. */
static void test_thread_loop_gives_up_parent(void **state)
{
    struct world *world = *state;
    add_threaded(world, "x", "a", NULL, 30);
    add_threaded(world, "y", "b", "<a> <c>", 10);
    assert_threads(world, SP_THREAD_REFERENCES, "1 .2");
    add_threaded(world, "z", "c", "<b>", 20);
    assert_threads(world, SP_THREAD_REFERENCES, "3 .2 1");
}

static void test_thread_subjects_merge(void **state)
{
    struct world *world = *state;
    add_threaded(world, "Re: plan", "1", NULL, 1);
    add_threaded(world, "plan", "2", NULL, 2);
    add_threaded(world, "Fwd: plan", "3", NULL, 3);
    /* The original stands for the subject; answers without references go below it. */
    assert_threads(world, SP_THREAD_REFERENCES, "2 .1 .3");
    add_threaded(world, "other", "4", NULL, 4);
    add_threaded(world, "other", "5", NULL, 5);
    assert_threads(world, SP_THREAD_REFERENCES, "2 .1 .3 0 .4 .5");
    add_threaded(world, "Re: other", "6", "<gone>", 6);
    add_threaded(world, "Re: other", "7", "<gone>", 7);
    assert_threads(world, SP_THREAD_REFERENCES, "2 .1 .3 0 .4 .5 .6 .7");
    assert_threads(world, SP_THREAD_ORDEREDSUBJECT, "1 .2 .3 4 .5 .6 .7");
}

static void test_thread_deep(void **state)
{
    struct world *world = *state;
    char id[16], reference[32];
    for (unsigned i = 0; i < 600; i++) {
        snprintf(id, sizeof id, "m%u", i);
        snprintf(reference, sizeof reference, "<m%u>", i - 1);
        add_threaded(world, i ? "Re: deep" : "deep", id, i ? reference : NULL, i % 60);
    }
    struct sp_request *request = search_all(world);
    request->search.thread = SP_THREAD_REFERENCES;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->threads_count, 600);
    for (uint32_t i = 0; i < 600; i++) {
        assert_int_equal(reply->threads[i].uid, i + 1);
        assert_int_equal(reply->threads[i].depth, i);
    }
    free_ok(reply);
}

#define ON_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_needles),
        cmocka_unit_test(test_fields),
        ON_WORLD(test_search_keys),
        ON_WORLD(test_search_programs),
        ON_WORLD(test_search_many),
        ON_WORLD(test_sort),
        ON_WORLD(test_sort_display),
        ON_WORLD(test_thread_references),
        ON_WORLD(test_thread_subjects_merge),
        ON_WORLD(test_sort_order_of_signs),
        ON_WORLD(test_thread_loop_gives_up_parent),
        ON_WORLD(test_thread_subjects_merge),
        ON_WORLD(test_thread_deep),
        ON_WORLD(test_search_keys_together),
        ON_WORLD(test_search_decodes_once),
        ON_WORLD(test_search_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
