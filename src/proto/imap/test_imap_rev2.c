/* IMAP as conversations: IMAP4rev2 (RFC 9051), UTF8=ACCEPT (RFC 6855), UIDONLY (RFC 9586),
 * INPROGRESS (RFC 9585). See proto/transcript.h. */
#include "proto/imap/test_conversation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define REV2 LOGIN "C: b ENABLE IMAP4rev2\nS: * ENABLED IMAP4rev2\nS: b OK ENABLE completed\n"
#define REV2_INBOX                                                                                 \
    "S: * FLAGS " FLAGS "\n"                                                                       \
    "S: * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Label1 \\*)] Flags "  \
    "that are kept\n"                                                                              \
    "S: * 3 EXISTS\n"                                                                              \
    "S: * LIST () \"/\" \"INBOX\"\n"                                                               \
    "S: * OK [UIDVALIDITY 1001] UIDs valid\n"                                                      \
    "S: * OK [UIDNEXT 8] Predicted next UID\n"                                                     \
    "S: * OK [HIGHESTMODSEQ 4] Highest\nS* * OK [MAILBOXID (*)] Object id\n"
#define REV2_SELECT REV2 "C: c SELECT inbox\n" REV2_INBOX "S: c OK [READ-WRITE] SELECT completed\n"

static const struct conversation rev2[] = {
    {"6.3.2 SELECT tells the name, neither RECENT nor UNSEEN; CLOSED",
     REV2_SELECT "C: d EXAMINE Work\nS: * OK [CLOSED] Previous mailbox closed\n"
                 "S* * FLAGS *\nS* * OK [PERMANENTFLAGS ()*\nS: * 0 EXISTS\n"
                 "S: * LIST () \"/\" \"Work\"\nS: * OK [UIDVALIDITY 1004] UIDs valid\n"
                 "S: * OK [UIDNEXT 1] Predicted next UID\nS: * OK [HIGHESTMODSEQ 1] Highest\nS* * "
                 "OK [MAILBOXID (*)] Object id\n"
                 "S: d OK [READ-ONLY] EXAMINE completed\n" LOGOUT},
    {"6.4.4 SEARCH is answered with ESEARCH",
     REV2_SELECT "C: d SEARCH UNSEEN\nS: * ESEARCH (TAG \"d\") ALL 2:3\nS: d OK SEARCH completed\n"
                 "C: e UID SEARCH CHARSET UTF-8 ALL\nS: * ESEARCH (TAG \"e\") UID ALL 3:4,7\n"
                 "S: e OK UID SEARCH completed\n"
                 "C: f SEARCH DELETED\nS: * ESEARCH (TAG \"f\")\nS: f OK SEARCH completed\n"
                 "C: g SEARCH RETURN (SAVE COUNT) SEEN\nS: * ESEARCH (TAG \"g\") COUNT 1\n"
                 "S: g OK SEARCH completed\n"
                 "C: h UID MOVE $ Work\nS: * OK [COPYUID 1004 3 1] Moved\nS: * 1 EXPUNGE\n"
                 "S: h OK UID MOVE completed\n" LOGOUT},
    {"6.3.11 STATUS DELETED and SIZE",
     REV2 "C: c STATUS inbox (MESSAGES DELETED SIZE)\nS* * STATUS \"INBOX\" (MESSAGES 3 DELETED 0 "
          "SIZE *)\nS: c OK STATUS completed\n"
          "C: d LIST \"\" inbox RETURN (STATUS (DELETED))\nS: * LIST (\\HasNoChildren) \"/\" "
          "\"INBOX\"\nS: * STATUS \"INBOX\" (DELETED 0)\nS: d OK LIST completed\n" LOGOUT},
    {"5.1 names in UTF-8",
     REV2 "C: c LIST \"\" Work/%\nS: * LIST (\\HasNoChildren) \"/\" \"Work/Entwürfe\"\n"
          "S: * LIST (\\Noselect \\HasChildren) \"/\" \"Work/Plans\"\nS: c OK LIST completed\n"
          "C: d STATUS \"Work/Entwürfe\" (MESSAGES)\n"
          "S: * STATUS \"Work/Entwürfe\" (MESSAGES 0)\nS: d OK STATUS completed\n"
          "C: e CREATE \"A&-B \\\"x\\\" é\"\nS* e OK [MAILBOXID (*)] CREATE completed\n"
          "C: f LIST \"\" \"*é\"\nS: * LIST (\\HasNoChildren) \"/\" \"A&-B \\\"x\\\" é\"\n"
          "S: f OK LIST completed\n"
          "C= g CREATE {2+}\\r\\n\\xc3(\\r\\n\nS: g NO [CANNOT] The name cannot be used\n"
          "C= h CREATE {3+}\\r\\na\\x01b\\r\\n\nS: h NO [CANNOT] The name cannot be used\n" LOGOUT},
    {"5.1 in modified UTF-7 to those who have not enabled it",
     LOGIN "C: c LIST \"\" Work/Entw*\nS: * LIST (\\HasNoChildren) \"/\" \"Work/Entw&APw-rfe\"\n"
           "S: c OK LIST completed\n" LOGOUT},
    {"6.3.1 ENABLE says what is new",
     REV2 "C: c ENABLE IMAP4rev2 CONDSTORE FROB\nS: * ENABLED CONDSTORE\n"
          "S: c OK ENABLE completed\n" LOGOUT},
};

/* RFC 6855 */
#define UTF8 LOGIN "C: b ENABLE UTF8=ACCEPT\nS: * ENABLED UTF8=ACCEPT\nS: b OK ENABLE completed\n"

static const struct conversation utf8[] = {
    {"3 names, and no CHARSET",
     UTF8 "C: c SELECT \"Work/Entwürfe\"\n"
          "S* * FLAGS *\nS* * OK [PERMANENTFLAGS *\nS: * 0 EXISTS\nS: * 0 RECENT\n"
          "S: * OK [UIDVALIDITY 1005] UIDs valid\n"
          "S: * OK [UIDNEXT 1] Predicted next UID\nS: * OK [HIGHESTMODSEQ 1] Highest\nS* * OK "
          "[MAILBOXID (*)] Object id\n"
          "S: c OK [READ-WRITE] SELECT completed\n"
          "C: d SEARCH CHARSET UTF-8 ALL\n"
          "S: d BAD All strings are UTF-8: CHARSET is not to be given\n"
          "C: e SEARCH SUBJECT \"é\"\nS: * SEARCH\nS: e OK SEARCH completed\n" LOGOUT},
    {"4 APPEND UTF8",
     UTF8 "C: c APPEND inbox (\\Seen) UTF8 (~{13+}\nC: Subject: é\nC: )\n"
          "S: c OK [APPENDUID 1001 8] APPEND completed\n"
          "C: d APPEND inbox UTF8 (~{2}\nS: + OK\nC= ab\nC: ) (\\Draft) UTF8 (~{2+}\nC: cd) {1+}\n"
          "C: e\nS: d OK [APPENDUID 1001 9:11] APPEND completed\n"
          "C: e APPEND inbox UTF8 (~{2+}\nC: ab\nS: e BAD Missing )\n"
          "C: f APPEND inbox UTF8 ({2+}\nC: ab)\nS: f BAD Syntax error\n" LOGOUT},
    {"4 not without ENABLE", LOGIN "C: c APPEND inbox UTF8 (~{2+}\nC: ab)\n"
                                   "S: c BAD APPEND wants a literal\n" LOGOUT},
};

/* RFC 9586 */
#define UIDONLY                                                                                    \
    LOGIN "C: b ENABLE UIDONLY\nS: * ENABLED UIDONLY\nS: b OK ENABLE completed\n"                  \
          "C: c SELECT inbox\n"                                                                    \
          "S: * FLAGS " FLAGS "\n"                                                                 \
          "S* * OK [PERMANENTFLAGS *\nS: * 3 EXISTS\nS: * 0 RECENT\n"                              \
          "S: * OK [UIDVALIDITY 1001] UIDs valid\n"                                                \
          "S: * OK [UIDNEXT 8] Predicted next UID\n"                                               \
          "S: * OK [HIGHESTMODSEQ 4] Highest\nS* * OK [MAILBOXID (*)] Object id\n"                 \
          "S: c OK [READ-WRITE] SELECT completed\n"
#define REQUIRED " BAD [UIDREQUIRED] Only UIDs can be used\n"

static const struct conversation uidonly[] = {
    {"3.1 to 3.3 nothing that names numbers", UIDONLY
     "C: d FETCH 1 FLAGS\nS: d" REQUIRED "C: d STORE 1 FLAGS ()\nS: d" REQUIRED
     "C: d COPY 1 Work\nS: d" REQUIRED "C: d MOVE $ Work\nS: d" REQUIRED
     "C: d SEARCH ALL\nS: d" REQUIRED "C: d SORT (DATE) UTF-8 ALL\nS: d" REQUIRED
     "C: d THREAD REFERENCES UTF-8 ALL\nS: d" REQUIRED "C: d UID SEARCH NOT 1\nS: d" REQUIRED
     "C: e UID SEARCH RETURN (SAVE) UID 4:9\nS: e OK UID SEARCH completed\n"
     "C: f UID SEARCH $\nS: * SEARCH 4 7\nS: f OK UID SEARCH completed\n"
     "C: g ENABLE QRESYNC\nS: * ENABLED QRESYNC\nS: * OK [HIGHESTMODSEQ 4] Highest\n"
     "S: g OK ENABLE completed\n"
     "C: h SELECT inbox (QRESYNC (1001 3 (1 3)))\nS: h" REQUIRED LOGOUT},
    {"3.4 UIDFETCH",
     UIDONLY "C: d UID FETCH 4 (FLAGS UID)\nS: * 4 UIDFETCH (FLAGS (\\Flagged $Label1))\n"
             "S: d OK UID FETCH completed\n"
             "C: d UID FETCH 4 UID\nS: * 4 UIDFETCH (UID 4)\nS: d OK UID FETCH completed\n"
             "C: e UID FETCH 7 BODY[TEXT]\nS: * 7 UIDFETCH (BODY[TEXT] {3}\nS: x\nS: )\n"
             "S: * 7 UIDFETCH (FLAGS (\\Seen))\nS: e OK UID FETCH completed\n"
             "C: f UID STORE 3 +FLAGS (\\Draft)\nS: * 3 UIDFETCH (FLAGS (\\Seen \\Draft))\n"
             "S: f OK UID STORE completed\n"
             "! hook flag 7\n! notify\nC: g NOOP\nS: * 7 UIDFETCH (FLAGS (\\Answered))\n"
             "S: g OK NOOP completed\n" LOGOUT},
    {"3.5 VANISHED",
     UIDONLY "! hook expunge 4\n! notify\nC: d NOOP\nS: * VANISHED 4\nS: d OK NOOP completed\n"
             "C: e UID STORE 7 +FLAGS.SILENT (\\Deleted)\nS: e OK UID STORE completed\n"
             "C: f EXPUNGE\nS: * VANISHED 7\nS: f OK EXPUNGE completed\n" LOGOUT},
};

/* RFC 9585 */
static const struct conversation inprogress[] = {
    {"4 a command that takes long",
     SELECT "C: c NOOP\nS: c OK NOOP completed\n! hold\nC: d SEARCH TEXT Joe\n! tick 14000\n"
            "! tick 2000\nS: * OK [INPROGRESS (\"d\" NIL NIL)] Still working on it\n"
            "! tick 14000\n! tick 2000\nS: * OK [INPROGRESS (\"d\" NIL NIL)] Still working on it\n"
            "! tick 3600000\nS: * OK [INPROGRESS (\"d\" NIL NIL)] Still working on it\n"
            "! release\nS: * SEARCH 1\nS: d OK SEARCH completed\n" LOGOUT},
    {"not before the login",
     GREETING "! hold\nC: a LOGIN alice@example.org secret\n"
              "! tick 20000\n! release\nS: a OK [CAPABILITY " CAPS_AFTER "] Logged in\n" LOGOUT},
};

static void test_inprogress(void **state)
{
    RUN(inprogress);
}

static void test_rev2(void **state)
{
    RUN(rev2);
}

static void test_utf8(void **state)
{
    RUN(utf8);
}

static void test_uidonly(void **state)
{
    RUN(uidonly);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rev2),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_uidonly),
        cmocka_unit_test(test_inprogress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
