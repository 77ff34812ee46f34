/* IMAP as conversations: QRESYNC (RFC 7162, 3.2). See proto/transcript.h. */
#include "proto/imap/test_conversation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define ENABLED LOGIN "C: b ENABLE QRESYNC\nS: * ENABLED QRESYNC\nS: b OK ENABLE completed\n"
#define STATE(exists, unseen, modseq)                                                              \
    "S: * FLAGS " FLAGS "\n"                                                                       \
    "S: * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Label1 \\*)] Flags "  \
    "that are kept\n"                                                                              \
    "S: * " exists " EXISTS\n"                                                                     \
    "S: * 0 RECENT\n"                                                                              \
    "S: * OK [UNSEEN " unseen "] First unseen\n"                                                   \
    "S: * OK [UIDVALIDITY 1001] UIDs valid\n"                                                      \
    "S: * OK [UIDNEXT 8] Predicted next UID\n"                                                     \
    "S: * OK [HIGHESTMODSEQ " modseq                                                               \
    "] Highest\nS: * OK [MAILBOXID (F00000001000000000000000000000000)] Object id\n"
#define SELECTED "S: c OK [READ-WRITE] SELECT completed\n"

static const struct conversation enabling[] = {
    {"3.2.3 ENABLE QRESYNC enables CONDSTORE as well",
     ENABLED "C: c ENABLE CONDSTORE QRESYNC\nS: * ENABLED\nS: c OK ENABLE completed\n"
             "C: c SELECT inbox\n" STATE("3", "2", "4") SELECTED
     "C: d UID STORE 3 +FLAGS.SILENT (\\Draft)\nS: * 1 FETCH (UID 3 MODSEQ (5))\n"
     "S: d OK UID STORE completed\n" LOGOUT},
    {"3.2.5 nothing of it without ENABLE", SELECT
     "C: c SELECT inbox (QRESYNC (1001 3))\nS: c BAD ENABLE QRESYNC comes first\n"
     "C: d UID FETCH 1:* FLAGS (CHANGEDSINCE 3 VANISHED)\nS: d BAD ENABLE QRESYNC comes first\n"
     "! hook expunge 4\n! notify\nC: e NOOP\nS: * 2 EXPUNGE\nS: e OK NOOP completed\n" LOGOUT},
    {"3.2.5, 7 grammar",
     ENABLED "C: c SELECT inbox (QRESYNC)\nS: c BAD Missing argument\n"
             "C: c SELECT inbox (QRESYNC (1001))\nS: c BAD Missing argument\n"
             "C: c SELECT inbox (QRESYNC (0 3))\nS: c BAD Number out of range\n"
             "C: c SELECT inbox (QRESYNC (1001 0))\nS: c BAD Number out of range\n"
             "C: c SELECT inbox (QRESYNC (1001 3 1:*))\nS: c BAD Known UIDs cannot have *\n"
             "C: c SELECT inbox (QRESYNC (1001 3 1:9 (1:2 3)))\n"
             "S: c BAD The sets of numbers and UIDs do not match\n"
             "C: c SELECT inbox (QRESYNC (1001 3 (2,1 3,4)))\n"
             "S: c BAD The sets of numbers and UIDs do not match\n"
             "C: c SELECT inbox (QRESYNC (1001 3 1:9 (1 3) 5))\nS: c BAD Missing )\n"
             "C: c SELECT inbox (FROB)\nS: c BAD Unknown SELECT parameter\n"
             "C: c SELECT inbox\n" STATE("3", "2", "4") SELECTED
     "C: d FETCH 1 FLAGS (CHANGEDSINCE 3 VANISHED)\n"
     "S: d BAD VANISHED wants UID FETCH and CHANGEDSINCE\n"
     "C: d UID FETCH 1 FLAGS (VANISHED)\n"
     "S: d BAD VANISHED wants UID FETCH and CHANGEDSINCE\n" LOGOUT},
};

static const struct conversation selecting[] = {
    {"3.2.5 what was missed", ENABLED
     "! hook expunge 4\n! hook flag 7\n"
     "C: c SELECT inbox (QRESYNC (1001 4))\n" STATE(
         "2", "2", "6") "S: * VANISHED (EARLIER) 4\n"
                        "S: * 2 FETCH (UID 7 FLAGS (\\Answered) MODSEQ (6))\n" SELECTED LOGOUT},
    {"3.2.5 a new message is a change, too",
     ENABLED "! hook add\nC: c EXAMINE inbox (CONDSTORE QRESYNC (1001 4 1:20))\n"
             "S* * FLAGS *\nS* * OK [PERMANENTFLAGS ()*\nS: * 4 EXISTS\nS: * 0 RECENT\n"
             "S: * OK [UNSEEN 2] First unseen\n"
             "S: * OK [UIDVALIDITY 1001] UIDs valid\nS: * OK [UIDNEXT 9] Predicted next UID\n"
             "S: * OK [HIGHESTMODSEQ 5] Highest\nS: * OK [MAILBOXID "
             "(F00000001000000000000000000000000)] Object id\n"
             "S: * 4 FETCH (UID 8 FLAGS () MODSEQ (5))\n"
             "S: c OK [READ-ONLY] EXAMINE completed\n" LOGOUT},
    {"3.2.5 nothing was missed",
     ENABLED "C: c SELECT inbox (QRESYNC (1001 4 1:7))\n" STATE("3", "2", "4") SELECTED LOGOUT},
    {"3.2.5 another UIDVALIDITY: the parameter is ignored",
     ENABLED "! hook expunge 4\nC: c SELECT inbox (QRESYNC (1000 4))\n" STATE("2", "2", "5")
         SELECTED LOGOUT},
    {"3.2.5.1 only among known UIDs",
     ENABLED "! hook expunge 4\n! hook expunge 7\n! hook flag 3\n"
             "C: c SELECT inbox (QRESYNC (1001 4 4:6,8))\n"
             "S* * FLAGS *\nS* * OK [PERMANENTFLAGS *\nS: * 1 EXISTS\nS: * 0 RECENT\n"
             "S: * OK [UNSEEN 1] First unseen\n"
             "S: * OK [UIDVALIDITY 1001] UIDs valid\nS: * OK [UIDNEXT 8] Predicted next UID\n"
             "S: * OK [HIGHESTMODSEQ 7] Highest\nS: * OK [MAILBOXID "
             "(F00000001000000000000000000000000)] Object id\n"
             "S: * VANISHED (EARLIER) 4\n" SELECTED LOGOUT},
    {"3.2.5.2 sequence match data: nothing below the last match went",
     ENABLED "! hook expunge 4\n! hook expunge 7\n! hook add\n"
             "C: c SELECT inbox (QRESYNC (1001 1 3:7 (1,2,3 3,4,7)))\n"
             "S* * FLAGS *\nS* * OK [PERMANENTFLAGS *\nS: * 2 EXISTS\nS: * 0 RECENT\n"
             "S: * OK [UNSEEN 2] First unseen\n"
             "S: * OK [UIDVALIDITY 1001] UIDs valid\nS: * OK [UIDNEXT 9] Predicted next UID\n"
             "S: * OK [HIGHESTMODSEQ 7] Highest\nS: * OK [MAILBOXID "
             "(F00000001000000000000000000000000)] Object id\n"
             "S: * VANISHED (EARLIER) 4,7\n"
             "S: * 1 FETCH (UID 3 FLAGS (\\Seen) MODSEQ (2))\n" SELECTED LOGOUT},
    {"3.2.5 a large answer goes out in parts", ENABLED
     "! hook rows 1\n! hook flag 3\n! hook flag 4\nC: c SELECT inbox (QRESYNC (1001 3))\n" STATE(
         "3", "1", "6") "S: * 1 FETCH (UID 3 FLAGS (\\Answered) MODSEQ (5))\n"
                        "S: * 2 FETCH (UID 4 FLAGS (\\Answered) MODSEQ (6))\n"
                        "S: * 3 FETCH (UID 7 FLAGS () MODSEQ (4))\n" SELECTED LOGOUT},
    {"what changed cannot be told: the mailbox is not selected",
     ENABLED "! hook fail sync unavailable\nC: c SELECT inbox (QRESYNC (1001 3))\n" STATE(
         "3", "2",
         "4") "S: c NO [UNAVAILABLE] Temporarily unavailable, please try again later\n"
              "C: d CHECK\nS: d BAD Select a mailbox first\n"
              "! hook fail sync ok\n! hook fail fetch unavailable\n"
              "C: c SELECT inbox (QRESYNC (1001 3))\n" STATE(
                  "3", "2",
                  "4") "S: c NO [UNAVAILABLE] Temporarily unavailable, please try again later\n"
                       "C: d CHECK\nS: d BAD Select a mailbox first\n" LOGOUT},
    {"a protected mailbox is refused",
     ENABLED "! hook protect\nC: c SELECT inbox (QRESYNC (1001 3))\n"
             "S: c NO [UNAVAILABLE] The mailbox is protected while it is being repaired\n" LOGOUT},
};

#define QSELECT ENABLED "C: c SELECT inbox\n" STATE("3", "2", "4") SELECTED

static const struct conversation vanishing[] = {
    {"3.2.10 VANISHED in place of EXPUNGE",
     QSELECT "! hook expunge 4\n! hook expunge 3\n! notify\nC: d NOOP\nS: * VANISHED 3:4\n"
             "S: d OK NOOP completed\n"
             "C: e FETCH 1 UID\nS: * 1 FETCH (UID 7)\nS: e OK FETCH completed\n" LOGOUT},
    {"3.2.10.2 not while FETCH, STORE and SEARCH count on numbers",
     QSELECT "! hook expunge 3\n! notify\n"
             "C: d FETCH 2 (UID)\nS: * 2 FETCH (UID 4)\nS: d OK FETCH completed\n"
             "C: d SEARCH UID 4\nS: * SEARCH 2\nS: d OK SEARCH completed\n"
             "C: e UID FETCH 7 (UID)\nS: * 3 FETCH (UID 7)\nS: * VANISHED 3\n"
             "S: e OK UID FETCH completed\n" LOGOUT},
    {"3.2.10 in IDLE", QSELECT "C: d IDLE\nS: + idling\n! hook expunge 7\n! notify\n"
                               "S: * VANISHED 7\nC: DONE\nS: d OK IDLE completed\n" LOGOUT},
    {"3.2.7 EXPUNGE",
     QSELECT "C: d STORE 1:2 +FLAGS.SILENT (\\Deleted)\n"
             "S: * 1 FETCH (UID 3 MODSEQ (5))\nS: * 2 FETCH (UID 4 MODSEQ (5))\n"
             "S: d OK STORE completed\n"
             "C: e EXPUNGE\nS: * VANISHED 3:4\nS: e OK [HIGHESTMODSEQ 6] EXPUNGE completed\n"
             "C: f EXPUNGE\nS: f OK EXPUNGE completed\n" LOGOUT},
    {"3.2.9 UID EXPUNGE; what others changed is told before the MODSEQ that covers it",
     QSELECT "C: d STORE 1:2 +FLAGS.SILENT (\\Deleted)\n"
             "S: * 1 FETCH (UID 3 MODSEQ (5))\nS: * 2 FETCH (UID 4 MODSEQ (5))\n"
             "S: d OK STORE completed\n"
             "! hook flag 7\nC: e UID EXPUNGE 4\nS: * VANISHED 4\n"
             "S: * 2 FETCH (UID 7 FLAGS (\\Answered) MODSEQ (6))\n"
             "S: e OK [HIGHESTMODSEQ 7] UID EXPUNGE completed\n" LOGOUT},
    {"3.2.7 news that cannot be had: no MODSEQ beyond what is known",
     QSELECT "C: d STORE 1 +FLAGS.SILENT (\\Deleted)\nS: * 1 FETCH (UID 3 MODSEQ (5))\n"
             "S: d OK STORE completed\n! hook fail sync unavailable\n"
             "C: e EXPUNGE\nS: * VANISHED 3\nS: e OK [HIGHESTMODSEQ 5] EXPUNGE completed\n" LOGOUT},
    {"3.2.8 CLOSE",
     QSELECT "C: d STORE 1 +FLAGS.SILENT (\\Deleted)\nS: * 1 FETCH (UID 3 MODSEQ (5))\n"
             "S: d OK STORE completed\n"
             "C: e CLOSE\nS: e OK [HIGHESTMODSEQ 5] CLOSE completed\n"
             "C: c SELECT inbox (QRESYNC (1001 5))\n" STATE(
                 "2", "1", "6") "S: * VANISHED (EARLIER) 3\n" SELECTED LOGOUT},
    {"6851, 4.4 MOVE",
     QSELECT "C: d UID MOVE 4 Work\nS: * OK [COPYUID 1004 4 1] Moved\nS: * VANISHED 4\n"
             "S: d OK [HIGHESTMODSEQ 6] UID MOVE completed\n" LOGOUT},
};

static const struct conversation fetching[] = {
    {"3.2.6 UID FETCH VANISHED", QSELECT
     "! hook expunge 4\n! notify\nC: d NOOP\nS: * VANISHED 4\nS: d OK NOOP completed\n"
     "! hook flag 7\n"
     "C: e UID FETCH 1:* (FLAGS) (CHANGEDSINCE 4 VANISHED)\nS: * VANISHED (EARLIER) 4\n"
     "S: * 2 FETCH (UID 7 FLAGS (\\Answered) MODSEQ (6))\nS: e OK UID FETCH completed\n"
     "C: f UID FETCH 5:7 (FLAGS) (VANISHED CHANGEDSINCE 4)\n"
     "S: * 2 FETCH (UID 7 FLAGS (\\Answered) MODSEQ (6))\nS: f OK UID FETCH completed\n"
     "C: g UID FETCH 1:* (FLAGS) (CHANGEDSINCE 6 VANISHED)\nS: g OK UID FETCH completed\n" LOGOUT},
    {"3.2.6 `*` reaches what was expunged behind the last message",
     QSELECT "! hook expunge 7\n! notify\nC: d NOOP\nS: * VANISHED 7\nS: d OK NOOP completed\n"
             "C: e UID FETCH 4:* (FLAGS) (CHANGEDSINCE 4 VANISHED)\nS: * VANISHED (EARLIER) 7\n"
             "S: e OK UID FETCH completed\n" LOGOUT},
    {"3.2.6 what the client still counts is told as VANISHED, not as EARLIER",
     QSELECT "! hook expunge 4\nC: d UID FETCH 1:* (FLAGS) (CHANGEDSINCE 4 VANISHED)\n"
             "S: * VANISHED 4\nS: d OK UID FETCH completed\n" LOGOUT},
};

static void test_enabling(void **state)
{
    RUN(enabling);
}

static void test_selecting(void **state)
{
    RUN(selecting);
}

static void test_vanishing(void **state)
{
    RUN(vanishing);
}

static void test_fetching(void **state)
{
    RUN(fetching);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_enabling),
        cmocka_unit_test(test_selecting),
        cmocka_unit_test(test_vanishing),
        cmocka_unit_test(test_fetching),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
