/* IMAP as conversations: RETURN of SEARCH and SORT, results that are saved, and parts of them. See
 * proto/transcript.h. */
#include "proto/imap/test_conversation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* RFC 5182 */
static const struct conversation saving[] = {
    {"2.1 a result is saved and used",
     SELECT "C: c SEARCH RETURN (SAVE) UNSEEN\nS: c OK SEARCH completed\n"
            "C: d UID SEARCH RETURN (COUNT ALL) $\nS: * ESEARCH (TAG \"d\") UID ALL 4,7 COUNT 2\n"
            "S: d OK UID SEARCH completed\n"
            "C: e FETCH $ (UID)\nS: * 2 FETCH (UID 4)\nS: * 3 FETCH (UID 7)\n"
            "S: e OK FETCH completed\n"
            "C: f UID FETCH $ (FLAGS)\nS: * 2 FETCH (UID 4 FLAGS (\\Flagged $Label1))\n"
            "S: * 3 FETCH (UID 7 FLAGS ())\nS: f OK UID FETCH completed\n"
            "C: g SEARCH OR NOT $ UID $\nS: * SEARCH 1 2 3\nS: g OK SEARCH completed\n"
            "C: h STORE $ +FLAGS.SILENT (\\Draft)\nS: h OK STORE completed\n"
            "C: i SEARCH DRAFT\nS: * SEARCH 2 3\nS: i OK SEARCH completed\n"
            "C: j COPY $ Work\nS: j OK [COPYUID 1004 4,7 1:2] COPY completed\n" LOGOUT},
    {"2.1 at first it is empty, and after SELECT again",
     SELECT "C: c FETCH $ UID\nS: c OK FETCH completed\n"
            "C: d SEARCH RETURN (SAVE) ALL\nS: d OK SEARCH completed\n"
            "C: e SELECT inbox\nS: * OK [CLOSED] Previous mailbox closed\n" INBOX
            "S: e OK [READ-WRITE] SELECT completed\n"
            "C: f UID FETCH $ UID\nS: f OK UID FETCH completed\n"
            "C: g SEARCH $\nS: * SEARCH\nS: g OK SEARCH completed\n" LOGOUT},
    {"2.1 what is expunged is no longer in it",
     SELECT "C: c SEARCH RETURN (SAVE) ALL\nS: c OK SEARCH completed\n"
            "! hook expunge 4\n! notify\nC: d NOOP\nS: * 2 EXPUNGE\nS: d OK NOOP completed\n"
            "C: e FETCH $ UID\nS: * 1 FETCH (UID 3)\nS: * 2 FETCH (UID 7)\n"
            "S: e OK FETCH completed\n"
            "C: f SEARCH RETURN (SAVE) NOT $\nS: f OK SEARCH completed\n"
            "C: g FETCH $ UID\nS: g OK FETCH completed\n" LOGOUT},
    {"2.1 BAD leaves it as it was, NO empties it",
     SELECT "C: c SEARCH RETURN (SAVE) SEEN\nS: c OK SEARCH completed\n"
            "C: d SEARCH RETURN (SAVE) FROB\nS: d BAD Unknown search key\n"
            "C: e FETCH $ UID\nS: * 1 FETCH (UID 3)\nS: e OK FETCH completed\n"
            "! hook fail search unavailable\nC: f SEARCH RETURN (SAVE) ALL\n"
            "S: f NO [UNAVAILABLE] Temporarily unavailable, please try again later\n"
            "C: g FETCH $ UID\nS: g OK FETCH completed\n" LOGOUT},
    {"2.4 with MIN, MAX, ALL, COUNT", SELECT
     "C: c UID SEARCH RETURN (SAVE MIN) ALL\nS: * ESEARCH (TAG \"c\") UID MIN 3\n"
     "S: c OK UID SEARCH completed\nC: d FETCH $ UID\nS: * 1 FETCH (UID 3)\n"
     "S: d OK FETCH completed\n"
     "C: c SEARCH RETURN (MAX SAVE MIN) ALL\nS: * ESEARCH (TAG \"c\") MIN 1 MAX 3\n"
     "S: c OK SEARCH completed\nC: d FETCH $ UID\nS: * 1 FETCH (UID 3)\nS: * 3 FETCH (UID 7)\n"
     "S: d OK FETCH completed\n"
     "C: c SEARCH RETURN (MIN SAVE COUNT) UNSEEN\nS: * ESEARCH (TAG \"c\") MIN 2 COUNT 2\n"
     "S: c OK SEARCH completed\nC: d FETCH $ UID\nS: * 2 FETCH (UID 4)\nS: * 3 FETCH (UID 7)\n"
     "S: d OK FETCH completed\n"
     "C: c SEARCH RETURN (SAVE PARTIAL 2:2) ALL\nS: * ESEARCH (TAG \"c\") PARTIAL (2:2 2)\n"
     "S: c OK SEARCH completed\nC: d FETCH $ UID\nS: * 2 FETCH (UID 4)\n"
     "S: d OK FETCH completed\n" LOGOUT},
    {"`$` stands alone",
     SELECT "C: c FETCH $,1 UID\nS: c BAD Missing argument\nC: d FETCH 1,$ UID\n"
            "S: d BAD Missing number\n"
            "C: e ENABLE QRESYNC\nS: * ENABLED QRESYNC\nS: * OK [HIGHESTMODSEQ 4] Highest\n"
            "S: e OK ENABLE completed\n"
            "C: f SELECT inbox (QRESYNC (1001 3 $))\nS: f BAD Known UIDs cannot be $\n"
            "C: f SELECT inbox (QRESYNC (1001 3 ($ $)))\n"
            "S: f BAD The sets of numbers and UIDs do not match\n" LOGOUT},
};

/* RFC 5267, 3 */
static const struct conversation sorting[] = {
    {"3.1 ALL in order, MIN and MAX by it", SELECT
     "C: c UID SORT RETURN (MIN MAX ALL COUNT) (REVERSE DATE) UTF-8 ALL\n"
     "S: * ESEARCH (TAG \"c\") UID MIN 7 MAX 3 ALL 7,4,3 COUNT 3\nS: c OK UID SORT completed\n"
     "C: d SORT RETURN () (DATE) UTF-8 UNSEEN\nS: * ESEARCH (TAG \"d\") ALL 2:3\n"
     "S: d OK SORT completed\n"
     "C: d SORT RETURN (ALL COUNT) (DATE) UTF-8 DELETED\nS: * ESEARCH (TAG \"d\") COUNT 0\n"
     "S: d OK SORT completed\n"
     "C: e SORT RETURN (PARTIAL 1:2) (REVERSE DATE) UTF-8 ALL\n"
     "S: * ESEARCH (TAG \"e\") PARTIAL (1:2 3,2)\nS: e OK SORT completed\n"
     "C: f SORT RETURN (SAVE) (REVERSE DATE) UTF-8 UNSEEN\nS: f OK SORT completed\n"
     "C: g FETCH $ UID\nS: * 2 FETCH (UID 4)\nS: * 3 FETCH (UID 7)\nS: g OK FETCH completed\n"
     "C: h THREAD RETURN () REFERENCES UTF-8 ALL\nS: h BAD Unknown threading algorithm\n" LOGOUT},
    {"5957, 3 DISPLAYFROM, DISPLAYTO",
     SELECT "C: c SORT (REVERSE DISPLAYFROM DISPLAYTO) UTF-8 ALL\nS: * SORT 3 2 1\n"
            "S: c OK SORT completed\n" LOGOUT},
    {"what the client has not been told of is left out",
     SELECT "C: c NOOP\nS: c OK NOOP completed\n! hook add\n"
            "C: d UID SORT RETURN (ALL COUNT) (REVERSE DATE) UTF-8 ALL\n"
            "S: * ESEARCH (TAG \"d\") UID ALL 7,4,3 COUNT 3\nS: d OK UID SORT completed\n" LOGOUT},
    {"4731, 3.2 MODSEQ", SELECT
     "C: c SORT RETURN (ALL) (REVERSE DATE) UTF-8 MODSEQ 2\nS: * OK [HIGHESTMODSEQ 4] Highest\n"
     "S: * ESEARCH (TAG \"c\") ALL 3,2,1 MODSEQ 4\nS: c OK SORT completed\n"
     "C: d SORT RETURN (MAX) (REVERSE DATE) UTF-8 MODSEQ 2\n"
     "S: * ESEARCH (TAG \"d\") MAX 1 MODSEQ 2\nS: d OK SORT completed\n"
     "! hook rows 1\nC: e UID SEARCH RETURN (PARTIAL -2:-3) MODSEQ 1\n"
     "S: * ESEARCH (TAG \"e\") UID MODSEQ 3 PARTIAL (-2:-3 3:4)\nS: e OK UID SEARCH completed\n"
     "C: e UID SEARCH RETURN (SAVE) MODSEQ 1\nS: e OK UID SEARCH completed\n" LOGOUT},
};

/* RFC 9394 */
static const struct conversation parts[] = {
    {"3.1 SEARCH", SELECT
     "C: c UID SEARCH RETURN (PARTIAL 1:2) ALL\nS: * ESEARCH (TAG \"c\") UID PARTIAL (1:2 3:4)\n"
     "S: c OK UID SEARCH completed\n"
     "C: c UID SEARCH RETURN (PARTIAL 3:2 COUNT) ALL\n"
     "S: * ESEARCH (TAG \"c\") UID COUNT 3 PARTIAL (2:3 4,7)\nS: c OK UID SEARCH completed\n"
     "C: d SEARCH RETURN (PARTIAL -1:-2) ALL\nS: * ESEARCH (TAG \"d\") PARTIAL (-1:-2 2:3)\n"
     "S: d OK SEARCH completed\n"
     "C: d SEARCH RETURN (PARTIAL -3:-100) ALL\nS: * ESEARCH (TAG \"d\") PARTIAL (-3:-100 1)\n"
     "S: d OK SEARCH completed\n"
     "C: e SEARCH RETURN (PARTIAL 4:10) ALL\nS: * ESEARCH (TAG \"e\") PARTIAL (4:10 NIL)\n"
     "S: e OK SEARCH completed\n"
     "C: e SEARCH RETURN (PARTIAL -4:-10) ALL\nS: * ESEARCH (TAG \"e\") PARTIAL (-4:-10 NIL)\n"
     "S: e OK SEARCH completed\n"
     "C: e SEARCH RETURN (PARTIAL 1:10) DELETED\nS: * ESEARCH (TAG \"e\") PARTIAL (1:10 NIL)\n"
     "S: e OK SEARCH completed\n" LOGOUT},
    {"3.1 what cannot be", SELECT
     "C: c SEARCH RETURN (ALL PARTIAL 1:2) ALL\nS: c BAD PARTIAL and ALL exclude each other\n"
     "C: c SEARCH RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL\nS: c BAD PARTIAL can be given once\n"
     "C: c SEARCH RETURN (PARTIAL 0:2) ALL\nS: c BAD Number out of range\n"
     "C: c SEARCH RETURN (PARTIAL 1:-2) ALL\nS: c BAD Missing number\n"
     "C: c SEARCH RETURN (PARTIAL -1:2) ALL\nS: c BAD Syntax error\n"
     "C: c SEARCH RETURN (PARTIAL) ALL\nS: c BAD Missing argument\n"
     "C: c FETCH 1:* UID (PARTIAL 1:2)\nS: c BAD PARTIAL wants UID FETCH\n" LOGOUT},
    {"3.3 UID FETCH",
     SELECT "C: c UID FETCH 1:* (FLAGS) (PARTIAL 2:9)\n"
            "S: * 2 FETCH (UID 4 FLAGS (\\Flagged $Label1))\nS: * 3 FETCH (UID 7 FLAGS ())\n"
            "S: c OK UID FETCH completed\n"
            "C: d UID FETCH 1:* (UID) (PARTIAL -1:-1)\nS: * 3 FETCH (UID 7)\n"
            "S: d OK UID FETCH completed\n"
            "C: e UID FETCH 4:9 (UID) (PARTIAL 2:2)\nS: * 3 FETCH (UID 7)\n"
            "S: e OK UID FETCH completed\n"
            "C: f UID FETCH 1:* (UID) (PARTIAL 9:12)\nS: f OK UID FETCH completed\n" LOGOUT},
};

static void test_saving(void **state)
{
    RUN(saving);
}

static void test_sorting(void **state)
{
    RUN(sorting);
}

static void test_parts(void **state)
{
    RUN(parts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_saving),
        cmocka_unit_test(test_sorting),
        cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
