/* IMAP as conversations: what extensions say of messages. See proto/transcript.h. */
#include "proto/imap/test_conversation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define INBOX_ID "F00000001000000000000000000000000"
/* The first 16 bytes of the fake store's thread ids: the Message-ID that began the thread. */
#define THREAD_1 "T4232373339372d303130303030304063"

static const struct conversation ids[] = {
    {"RFC 8474, 4: MAILBOXID", LOGIN
     "C: b CREATE New\nS: b OK [MAILBOXID (F00000009000000000000000000000000)] CREATE completed\n"
     "C: c STATUS INBOX (MAILBOXID)\nS: * STATUS \"INBOX\" (MAILBOXID (" INBOX_ID "))\n"
     "S: c OK STATUS completed\n"
     "C: d STATUS New (MESSAGES MAILBOXID)\n"
     "S: * STATUS \"New\" (MESSAGES 0 MAILBOXID (F00000009000000000000000000000000))\n"
     "S: d OK STATUS completed\n" LOGOUT},
    {"RFC 8474, 5: EMAILID and THREADID",
     SELECT "C: c FETCH 1 (EMAILID THREADID)\n"
            "S* * 1 FETCH (EMAILID (M*) THREADID (" THREAD_1 "))\nS: c OK FETCH completed\n"
            "C: d FETCH 3 THREADID\nS: * 3 FETCH (THREADID NIL)\nS: d OK FETCH completed\n" LOGOUT},
    {"RFC 8474, 5: the thread of a message whose bytes are missing",
     SELECT "! hook lose\nC: c FETCH 2 (FLAGS THREADID)\nS: * 2 FETCH (FLAGS (\\Flagged $Label1))\n"
            "S: c NO [UNAVAILABLE] Some of what was asked for is not available at present\n"
            "C: d FETCH 2 EMAILID\nS* * 2 FETCH (EMAILID (M*))\nS: d OK FETCH completed\n" LOGOUT},
    {"RFC 8474, 6: SEARCH by ids",
     SELECT "C: c SEARCH THREADID " THREAD_1 "\nS: * SEARCH 1\nS: c OK SEARCH completed\n"
            "C: d SEARCH NOT THREADID \"" THREAD_1 "\"\nS: * SEARCH 2 3\nS: d OK SEARCH completed\n"
            "C: e SEARCH EMAILID M00000000000000000000000000000000\nS: * SEARCH\n"
            "S: e OK SEARCH completed\n"
            "C: f SEARCH EMAILID Tfrob\nS: * SEARCH\nS: f OK SEARCH completed\n"
            "C: g SEARCH EMAILID M0000000000000000000000000000000g\nS: * SEARCH\n"
            "S: g OK SEARCH completed\n"
            "C: h SEARCH THREADID\nS: h BAD Missing argument\n" LOGOUT},
    {"RFC 8514, 4.2: SAVEDATE", SELECT
     "C: c FETCH 1:* (SAVEDATE)\nS: * 1 FETCH (SAVEDATE \" 5-Jan-2026 11:00:00 +0000\")\n"
     "S: * 2 FETCH (SAVEDATE \" 6-Jan-2026 11:00:00 +0000\")\n"
     "S: * 3 FETCH (SAVEDATE \" 8-Jan-2026 00:30:00 +0000\")\nS: c OK FETCH completed\n" LOGOUT},
    {"RFC 8514, 4.3: SEARCH by the date of saving",
     SELECT "C: c SEARCH SAVEDBEFORE 6-Jan-2026\nS: * SEARCH 1\nS: c OK SEARCH completed\n"
            "C: d SEARCH SAVEDON 8-Jan-2026\nS: * SEARCH 3\nS: d OK SEARCH completed\n"
            "C: e SEARCH SAVEDSINCE 6-Jan-2026\nS: * SEARCH 2 3\nS: e OK SEARCH completed\n"
            "C: f SEARCH SAVEDATESUPPORTED\nS: * SEARCH 1 2 3\nS: f OK SEARCH completed\n"
            "C: g SEARCH SAVEDON yesterday\nS: g BAD Malformed date\n" LOGOUT},
};

static const struct conversation binary[] = {
    {"RFC 3516, 4.2: FETCH BINARY", SELECT
     "! hook encoded\n! notify\nC: c NOOP\nS: * 4 EXISTS\nS: c OK NOOP completed\n"
     "C: d FETCH 4 (BINARY.SIZE[1] BINARY.SIZE[2] BINARY.PEEK[1] BINARY.PEEK[2])\n"
     "S: * 4 FETCH (BINARY.SIZE[1] 7 BINARY.SIZE[2] 5 BINARY[1] {7}\n"
     "S: a=b\nS:  c BINARY[2] ~{5}\nS= ab\\0cd)\\r\\n\nS: d OK FETCH completed\n"
     "C: e FETCH 4 (BINARY.PEEK[2]<1.3> BINARY.PEEK[1]<2.2> BINARY.PEEK[9] BINARY.SIZE[9])\n"
     "S= * 4 FETCH (BINARY[2]<1> ~{3}\\r\\nb\\0c\n"
     "S:  BINARY[1]<2> {2}\nS: b\r BINARY[9] NIL BINARY.SIZE[9] 0)\nS: e OK FETCH completed\n"
     "C: f FETCH 4 BINARY[1]\nS: * 4 FETCH (BINARY[1] {7}\nS: a=b\nS:  c)\n"
     "S: * 4 FETCH (FLAGS (\\Seen))\nS: f OK FETCH completed\n" LOGOUT},
    {"RFC 3516, 4.3: an encoding that is not known",
     SELECT "! hook encoded\n! notify\nC: c NOOP\nS: * 4 EXISTS\nS: c OK NOOP completed\n"
            "C: d FETCH 4 (FLAGS BINARY[3])\nS: * 4 FETCH (FLAGS ())\n"
            "S: d NO [UNKNOWN-CTE] The transfer encoding of a part is not known\n"
            "C: e FETCH 4 BINARY.SIZE[3]\n"
            "S: e NO [UNKNOWN-CTE] The transfer encoding of a part is not known\n"
            "C: f FETCH 4 FLAGS\nS: * 4 FETCH (FLAGS ())\nS: f OK FETCH completed\n" LOGOUT},
    {"RFC 3516, 4.2: bytes that are missing", SELECT
     "! hook lose\nC: c FETCH 2 (FLAGS BINARY.SIZE[1] BINARY.PEEK[1])\n"
     "S: * 2 FETCH (FLAGS (\\Flagged $Label1))\n"
     "S: c NO [UNAVAILABLE] Some of what was asked for is not available at present\n" LOGOUT},
    {"RFC 3516, 4.4: APPEND of a literal8",
     LOGIN "C: b APPEND INBOX ~{7}\nS: + OK\nC= a\\r\\n\\r\\n\\0b\nC:\n"
           "S: b OK [APPENDUID 1001 8] APPEND completed\n"
           "C: c SELECT INBOX\nS* * FLAGS *\nS* * OK *\nS: * 4 EXISTS\nS: * 0 RECENT\nS* * OK *\n"
           "S* * OK *\nS* * OK *\nS* * OK *\nS* * OK *\nS* c OK *\n"
           "C: d FETCH 4 BINARY.PEEK[]\n"
           "S= * 4 FETCH (BINARY[] ~{7}\\r\\na\\r\\n\\r\\n\\0b)\\r\\n\nS: d OK FETCH completed\n"
           "C: e FETCH 4 BODY.PEEK[]\n"
           "S= * 4 FETCH (BODY[] {7}\\r\\na\\r\\n\\r\\n\\x80b)\\r\\n\nS: e OK FETCH completed\n"
           "C: f APPEND INBOX ~{1+}\nC= \\0\nC:\nS: * 5 EXISTS\n"
           "S: f OK [APPENDUID 1001 9] APPEND completed\n"
           "C: g APPEND INBOX {1+}\nC= \\0\nC:\nS: g BAD A literal cannot hold NUL\n"
           "C: h APPEND ~{5+}\nC: INBOX {1+}\nC: x\nS* h BAD *\n" LOGOUT},
    {"RFC 3516, 6: grammar",
     SELECT "C: c FETCH 1 BINARY\nS* c BAD *\nC: d FETCH 1 BINARY[TEXT]\n"
            "S: d BAD BINARY wants part numbers alone\nC: e FETCH 1 BINARY[1.MIME]\n"
            "S: e BAD BINARY wants part numbers alone\nC: f FETCH 1 BINARY.SIZE[1]<0.1>\n"
            "S* f BAD *\n" LOGOUT},
};

static const struct conversation previews[] = {
    {"RFC 8970, 3: PREVIEW",
     SELECT "C: c FETCH 1:2 (UID PREVIEW)\n"
            "S: * 1 FETCH (UID 3 PREVIEW \"Hello Joe, do you think we can meet at 3:30 "
            "tomorrow?\")\nS: * 2 FETCH (UID 4 PREVIEW \"Part one.\")\nS: c OK FETCH completed\n"
            "C: d FETCH 3 (PREVIEW (LAZY) FLAGS)\nS: * 3 FETCH (FLAGS () PREVIEW \"x\")\n"
            "S: d OK FETCH completed\n"
            "C: e FETCH 3 PREVIEW (LAZY)\nS: * 3 FETCH (PREVIEW \"x\")\nS: e OK FETCH completed\n"
            "C: f FETCH 3 PREVIEW (lazy) (CHANGEDSINCE 99)\nS* * OK [HIGHESTMODSEQ 4] *\nS: f OK "
            "FETCH completed\n"
            "C: g FETCH 3 (PREVIEW (FROB))\nS* g BAD *\n" LOGOUT},
    {"RFC 8970, 3.2: what cannot be quoted is a literal",
     SELECT "! hook umlaut\n! notify\nC: c NOOP\nS: * 4 EXISTS\nS: c OK NOOP completed\n"
            "C: d FETCH 4 PREVIEW\nS: * 4 FETCH (PREVIEW {7}\nS: Gr\xc3\xbc\xc3\x9f"
            "e)\n"
            "S: d OK FETCH completed\n" LOGOUT},
    {"RFC 8970, 3.1: LAZY gets NIL for what is not there",
     SELECT "! hook lose\nC: c FETCH 2 PREVIEW\n"
            "S: c NO [UNAVAILABLE] Some of what was asked for is not available at present\n"
            "C: d FETCH 2 PREVIEW (LAZY)\nS: * 2 FETCH (PREVIEW NIL)\n"
            "S: d OK FETCH completed\n" LOGOUT},
};

static const struct conversation replacing[] = {
    {"RFC 8508, 3.3 and 3.4: REPLACE",
     SELECT "C: c REPLACE 2 INBOX (\\Seen) {5}\nS: + OK\nC= hello\nC:\n"
            "S: * OK [APPENDUID 1001 8] Replacement message ready\nS: * 2 EXPUNGE\nS: * 3 EXISTS\n"
            "S: c OK REPLACE completed\n"
            "C: d UID REPLACE 8 Work {5+}\nC= world\nC:\n"
            "S: * OK [APPENDUID 1004 1] Replacement message ready\nS: * 3 EXPUNGE\n"
            "S: d OK UID REPLACE completed\n" LOGOUT},
    {"RFC 8508, 3.3: what cannot be replaced",
     SELECT "C: c REPLACE 9 INBOX {5}\nS: c BAD No such message\n"
            "C: d UID REPLACE 5 INBOX {5+}\nC: hello\nS: d NO [NONEXISTENT] No such message\n"
            "C: e REPLACE 1:2 INBOX {5+}\nC: hello\nS* e BAD *\n"
            "C: f REPLACE 1 Nowhere {5+}\nC: hello\nS: f NO [TRYCREATE] No such mailbox\n"
            "C: g REPLACE 1 INBOX {5+}\nC: hello {3+}\nC: abc\n"
            "S: g BAD REPLACE takes one message\n"
            "C: h REPLACE 1 INBOX\nS* h BAD *\n"
            "C: i FETCH 1:* UID\nS: * 1 FETCH (UID 3)\nS: * 2 FETCH (UID 4)\n"
            "S: * 3 FETCH (UID 7)\nS: i OK FETCH completed\n" LOGOUT},
    {"RFC 8508, 3.3: somebody else was faster",
     SELECT "! hook expunge 4\nC: c REPLACE 2 INBOX {5+}\nC: hello\n"
            "S: * 2 EXPUNGE\nS: c NO [EXPUNGEISSUED] The message no longer exists\n" LOGOUT},
    {"RFC 8508, 3: not without a mailbox",
     LOGIN "C: b REPLACE 1 INBOX {5+}\nC: hello\nS: b BAD Select a mailbox first\n" LOGOUT},
};

static const struct conversation unauthenticating[] = {
    {"RFC 8437, 2: UNAUTHENTICATE", SELECT
     "C: c ENABLE CONDSTORE\nS* * ENABLED *\nS* * OK [HIGHESTMODSEQ *\nS: c OK ENABLE completed\n"
     "C: d UID STORE 3 +FLAGS.SILENT (\\Deleted)\nS* * 1 FETCH *\nS* d OK *\n"
     "C: e UNAUTHENTICATE\nS: e OK [CAPABILITY " CAPS_BEFORE
     " STARTTLS AUTH=PLAIN AUTH=SCRAM-SHA-256] UNAUTHENTICATE completed\n"
     "C: f NOOP\nS: f OK NOOP completed\nC: g FETCH 1 FLAGS\nS: g BAD Log in first\n"
     "C: h UNAUTHENTICATE\nS: h BAD Log in first\n"
     "C: i LOGIN alice@example.org wrong\nS* i NO [AUTHENTICATIONFAILED] *\n"
     "C: j LOGIN alice@example.org secret\nS: j OK [CAPABILITY " CAPS_AFTER "] Logged in\n"
     "C: k FETCH 1 FLAGS\nS: k BAD Select a mailbox first\n"
     "C: l STATUS INBOX (MESSAGES)\nS: * STATUS \"INBOX\" (MESSAGES 3)\n"
     "S: l OK STATUS completed\n" LOGOUT},
};

static void test_unauthenticating(void **state)
{
    RUN(unauthenticating);
}

static void test_replacing(void **state)
{
    RUN(replacing);
}

static void test_previews(void **state)
{
    RUN(previews);
}

static void test_binary(void **state)
{
    RUN(binary);
}

static void test_ids(void **state)
{
    RUN(ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_binary),
        cmocka_unit_test(test_previews),
        cmocka_unit_test(test_replacing),
        cmocka_unit_test(test_unauthenticating),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
