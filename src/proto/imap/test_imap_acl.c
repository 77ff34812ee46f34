/* IMAP as conversations: rights to mailboxes (RFC 4314, RFC 8440, RFC 2342). Numbers are sections.
 * See proto/transcript.h. */
#include "proto/imap/test_conversation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#define FLAGS_LINE "S: * FLAGS " FLAGS "\n"
#define COUNTS                                                                                     \
    "S: * 3 EXISTS\nS: * 0 RECENT\nS: * OK [UNSEEN 2] First unseen\n"                              \
    "S: * OK [UIDVALIDITY 1001] UIDs valid\nS: * OK [UIDNEXT 8] Predicted next UID\n"              \
    "S: * OK [HIGHESTMODSEQ 4] Highest\nS: * OK [MAILBOXID (F00000001000000000000000000000000)] "  \
    "Object id\n"

static const struct conversation commands[] = {
    {"4314 3.3 GETACL",
     LOGIN "C: b GETACL INBOX\nS: * ACL \"INBOX\" \"alice@example.org\" lrswipkxtecda "
           "\"-bob@example.org\" lr\nS: b OK GETACL completed\n"
           "C: c GETACL Nowhere\nS: c NO [NONEXISTENT] No such mailbox\n"
           "C: d GETACL \"\"\nS: d NO [CANNOT] A mailbox must have a name\n" LOGOUT},
    {"4314 3.1 SETACL, 3.2 DELETEACL",
     LOGIN "C: b SETACL INBOX bob@example.org lrs\nS: b OK SETACL completed\n"
           "C: c SETACL INBOX -anyone +w\nS: c OK SETACL completed\n"
           "C: d SETACL INBOX bob@example.org -kx\nS: d OK SETACL completed\n"
           "C: e DELETEACL INBOX bob@example.org\nS: e OK DELETEACL completed\n"
           "C: f SETACL INBOX bob@example.org \"\"\nS: f OK SETACL completed\n"
           "C: g SETACL INBOX bob@example.org lrZ\nS: g BAD Unknown right\n"
           "C: h SETACL INBOX bob@example.org\nS: h BAD Missing argument\n"
           "R* authenticate\nR: acl-set INBOX op=0 rights=7\nR: acl-set INBOX op=1 rights=8\n"
           "R: acl-set INBOX op=2 rights=c0\nR: acl-set INBOX op=0 rights=0\n"
           "R: acl-set INBOX op=0 rights=0\n" LOGOUT},
    {"4314 2.1.1 c and d stand for several",
     LOGIN "C: b SETACL INBOX bob@example.org cd\nS: b OK SETACL completed\n"
           "R* authenticate\nR: acl-set INBOX op=0 rights=3c0\n" LOGOUT},
    {"4314 3.4 LISTRIGHTS",
     LOGIN "C: b LISTRIGHTS INBOX alice@example.org\n"
           "S: * LISTRIGHTS \"INBOX\" \"alice@example.org\" lrswipkxtecda\n"
           "S: b OK LISTRIGHTS completed\n"
           "C: c LISTRIGHTS INBOX carol@example.org\n"
           "S: * LISTRIGHTS \"INBOX\" \"carol@example.org\" \"\" l r s w i p k x t e c d a\n"
           "S: c OK LISTRIGHTS completed\n" LOGOUT},
    {"4314 3.5 MYRIGHTS",
     LOGIN "C: b MYRIGHTS INBOX\nS: * MYRIGHTS \"INBOX\" lrswipkxtecda\nS: b OK MYRIGHTS "
           "completed\n! hook rights 247\nC: c MYRIGHTS INBOX\nS: * MYRIGHTS \"INBOX\" lrskecd\n"
           "S: c OK MYRIGHTS completed\n" LOGOUT},
    {"4314 4 a is needed",
     LOGIN "! hook rights 3\nC: b GETACL INBOX\nS: b NO [NOPERM] Not permitted\n"
           "C: c SETACL INBOX bob@example.org l\nS: c NO [NOPERM] Not permitted\n"
           "C: d MYRIGHTS INBOX\nS: * MYRIGHTS \"INBOX\" lr\nS: d OK MYRIGHTS completed\n" LOGOUT},
};

static const struct conversation selecting[] = {
    {"4314 5.2 read-only by rights", LOGIN
     "! hook rights 3\nC: b SELECT INBOX\n" FLAGS_LINE "S: * OK [PERMANENTFLAGS ()] Flags that "
     "are kept\n" COUNTS "S: b OK [READ-ONLY] SELECT completed\n"
     "C: c STORE 1 +FLAGS (\\Flagged)\nS: c NO [NOPERM] The mailbox was opened read-only\n"
     "C: d FETCH 3 BODY[TEXT]\nS: * 3 FETCH (BODY[TEXT] {3}\nS: x\nS: )\n"
     "S: d OK FETCH completed\n" LOGOUT},
    {"4314 5.2 PERMANENTFLAGS by rights",
     LOGIN "! hook rights 107\nC: b SELECT INBOX\n" FLAGS_LINE
           "S: * OK [PERMANENTFLAGS (\\Deleted \\Seen)] Flags that are kept\n" COUNTS
           "S: b OK [READ-WRITE] SELECT completed\n" LOGOUT},
    {"4314 4 FETCH does not set \\Seen without s", LOGIN
     "! hook rights b\nC: b SELECT INBOX\n" FLAGS_LINE
     "S: * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Draft $Label1 \\*)] Flags that are "
     "kept\n" COUNTS "S: b OK [READ-WRITE] SELECT completed\n"
     "C: d FETCH 3 BODY[TEXT]\nS: * 3 FETCH (BODY[TEXT] {3}\nS: x\nS: )\n"
     "S: d OK FETCH completed\nR* authenticate\nR: open INBOX\nR: fetch 7:7\nR: sync\n" LOGOUT},
    {"4314 4 CLOSE without e",
     SELECT "! hook fail expunge denied\nC: c CLOSE\nS: c OK CLOSE completed\n" LOGOUT},
    {"rights that change while a mailbox is open",
     SELECT "! hook rights 3\n! hook flag 7\n! notify\nC: c NOOP\nS: * FLAGS " FLAGS
            "\nS: * OK [PERMANENTFLAGS ()] Flags that are kept\n"
            "S: * 3 FETCH (FLAGS (\\Answered))\nS: c OK NOOP completed\n" LOGOUT},
};

#define NOT_YET                                                                                    \
    "[UNAVAILABLE] The list of another user's mailboxes is being recovered, please wait\n"
static const struct conversation lists[] = {
    {"2342 5 mailboxes of others",
     LOGIN "! hook shared 3\nC: b LIST \"\" \"Other%\"\n"
           "S: * LIST (\\Noselect \\HasChildren) \"/\" \"Other Users\"\nS: b OK LIST completed\n"
           "C: c LIST \"Other Users/\" *\n"
           "S: * LIST (\\Noselect \\HasChildren) \"/\" \"Other Users/bob@example.org\"\n"
           "S: * LIST (\\HasNoChildren) \"/\" \"Other Users/bob@example.org/Team\"\n"
           "S: c OK LIST completed\n" LOGOUT},
    {"8440 4 LIST RETURN (MYRIGHTS)",
     LOGIN "! hook shared 3\nC: b LIST \"\" (\"Other Users/*/*\" INBOX) RETURN (MYRIGHTS)\n"
           "S: * LIST (\\HasNoChildren) \"/\" \"INBOX\"\n"
           "S: * MYRIGHTS \"INBOX\" lrswipkxtecda\n"
           "S: * LIST (\\HasNoChildren) \"/\" \"Other Users/bob@example.org/Team\"\n"
           "S: * MYRIGHTS \"Other Users/bob@example.org/Team\" lr\n"
           "S: b OK LIST completed\n" LOGOUT},
    {"8440 4.1 no STATUS without r", LOGIN
     "! hook shared 1\nC: b LIST \"\" \"Other Users/*/*\" RETURN (MYRIGHTS STATUS (MESSAGES))\n"
     "S: * LIST (\\HasNoChildren) \"/\" \"Other Users/bob@example.org/Team\"\n"
     "S: * MYRIGHTS \"Other Users/bob@example.org/Team\" l\n"
     "S: b OK LIST completed\n" LOGOUT},
    {"a gap among another user's mailboxes makes nothing look deleted",
     LOGIN "! hook gap\nC: b LIST \"\" *\nS: b NO " NOT_YET "C: c LIST \"\" %\nS: c NO " NOT_YET
           "C: d LIST \"Other Users/\" bob*\nS: d NO " NOT_YET "C: e LSUB \"\" *\nS: e NO " NOT_YET
           "C: f LIST \"\" INBOX\nS: * LIST (\\HasNoChildren) \"/\" \"INBOX\"\n"
           "S: f OK LIST completed\n" LOGOUT},
};

static void test_commands(void **state)
{
    RUN(commands);
}

static void test_selecting(void **state)
{
    RUN(selecting);
}

static void test_lists(void **state)
{
    RUN(lists);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_selecting),
        cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
