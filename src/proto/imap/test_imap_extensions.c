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

static void test_ids(void **state)
{
    RUN(ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
