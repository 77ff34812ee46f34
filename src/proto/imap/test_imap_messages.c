/* IMAP as conversations: what is done with messages. See proto/transcript.h. */
#include "proto/imap/test_conversation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct conversation fetch[] = {
    {"small items", SELECT
     "C: c FETCH 1:* (UID FLAGS)\n"
     "S: * 1 FETCH (UID 3 FLAGS (\\Seen))\nS: * 2 FETCH (UID 4 FLAGS (\\Flagged $Label1))\n"
     "S: * 3 FETCH (UID 7 FLAGS ())\nS: c OK FETCH completed\n"
     "C: d UID FETCH 4:* FAST\n"
     "S* * 2 FETCH (UID 4 FLAGS (\\Flagged $Label1) INTERNALDATE \" 6-Jan-2026 11:00:00 +0100\" "
     "RFC822.SIZE *)\n"
     "S: * 3 FETCH (UID 7 FLAGS () INTERNALDATE \" 7-Jan-2026 21:00:00 -0230\" RFC822.SIZE 45)\n"
     "S: d OK UID FETCH completed\n"
     "C: e UID FETCH 99:* UID\nS: * 3 FETCH (UID 7)\nS: e OK UID FETCH completed\n"
     "C: e UID FETCH 99 UID\nS: e OK UID FETCH completed\n"
     "C: f FETCH 3,1:2,2,*:3 (UID)\nS: * 1 FETCH (UID 3)\nS: * 2 FETCH (UID 4)\nS: * 3 FETCH (UID "
     "7)\n"
     "S: f OK FETCH completed\n"
     "C: g FETCH 4 UID\nS: g BAD No such message\nC: h FETCH 0 UID\nS: h BAD Number out of range\n"
     "C: i FETCH 1 (FLAGS FROB)\nS: i BAD Unknown FETCH item\nC: j FETCH 1 (ALL)\nS: j BAD Unknown "
     "FETCH item\n"
     "C: k FETCH x UID\nS: k BAD Missing message set\nC: l FETCH 1: UID\nS: l BAD Missing "
     "number\n" LOGOUT},
    {"envelope", SELECT
     "C: c FETCH 1 ALL\n"
     "S* * 1 FETCH (FLAGS (\\Seen) INTERNALDATE \" 5-Jan-2026 11:00:00 +0100\" RFC822.SIZE * "
     "ENVELOPE"
     " (\"Mon, 7 Feb 1994 21:52:25 -0800\" \"IMAP4rev1 WG mtg summary\""
     " ((\"Terry Gray\" NIL \"gray\" \"cac.example\")) ((\"Terry Gray\" NIL \"gray\" "
     "\"cac.example\"))"
     " ((\"Terry Gray\" NIL \"gray\" \"cac.example\")) ((NIL NIL \"imap\" \"cac.example\"))"
     " ((NIL NIL \"minutes\" \"cnri.example\")(\"John\" NIL \"klensin\" \"mit.example\")) NIL NIL"
     " \"<B27397-0100000@cac.example>\"))\nS: c OK FETCH completed\n" LOGOUT},
    {"body structure", SELECT
     "C: c FETCH 3 FULL\nS* * 3 FETCH (FLAGS () *ENVELOPE (*) BODY (\"text\" \"plain\" * 3 1))\n"
     "S: c OK FETCH completed\n"
     "C: d FETCH 3 BODYSTRUCTURE\n"
     "S* * 3 FETCH (BODYSTRUCTURE (\"text\" \"plain\" * 3 1 NIL NIL NIL NIL))\n"
     "S: d OK FETCH completed\n" LOGOUT},
    {"sections",
     SELECT "C: c FETCH 2 (BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[2.HEADER.FIELDS (subject \"x "
            "y\")] BODY.PEEK[2.1]"
            " BODY.PEEK[2.TEXT] BODY.PEEK[9])\n"
            "S: * 2 FETCH (BODY[1] {9}\nS= Part one. BODY[1.MIME] {43}\\r\\n\n"
            "S: Content-Type: text/plain; charset=utf-8\nS:\nS:  BODY[2.HEADER.FIELDS (subject \"x "
            "y\")] {19}\n"
            "S: Subject: Inside\nS:\nS:  BODY[2.1] {11}\nS: Inner text. BODY[2.TEXT] {11}\nS: "
            "Inner text. BODY[9] NIL)\n"
            "S: c OK FETCH completed\n"
            "C: d FETCH 1 BODY.PEEK[HEADER.FIELDS.NOT (To Cc From Message-ID Date)]\n"
            "S: * 1 FETCH (BODY[HEADER.FIELDS.NOT (To Cc From Message-ID Date)] {37}\n"
            "S: Subject: IMAP4rev1 WG mtg summary\nS:\nS: )\nS: d OK FETCH completed\n"
            "C: e FETCH 3 (BODY.PEEK[]<9.5> BODY.PEEK[]<1000.5> RFC822.HEADER)\n"
            "S: * 3 FETCH (BODY[]<9> {5}\nS: Third BODY[]<1000> {0}\nS:  RFC822.HEADER {42}\n"
            "S: Subject: Third\nS: From: dave@example.org\nS:\nS: )\nS: e OK FETCH completed\n"
            "C: f FETCH 1 BODY[FROB]\nS: f BAD Unknown body section\nC: f FETCH 1 BODY[MIME]\nS: f "
            "BAD Unknown body section\n"
            "C: f FETCH 1 BODY[1.]\nS: f BAD Unknown body section\nC: f FETCH 1 BODY[0]\nS: f BAD "
            "Number out of range\n"
            "C: f FETCH 1 BODY[]<1.0>\nS: f BAD Number out of range\nC: f FETCH 1 BODY.PEEK\n"
            "S: f BAD BODY.PEEK wants a section\n" LOGOUT},
    {"reading sets \\Seen",
     SELECT "C: c FETCH 3 (FLAGS BODY[TEXT])\nS: * 3 FETCH (FLAGS () BODY[TEXT] {3}\nS: x\nS: )\n"
            "S: * 3 FETCH (FLAGS (\\Seen))\nS: c OK FETCH completed\n"
            "C: d UID FETCH 7 RFC822.TEXT\nS: * 3 FETCH (UID 7 RFC822.TEXT {3}\nS: x\nS: )\nS: d "
            "OK UID FETCH completed\n"
            "C: e NOOP\nS: e OK NOOP completed\n" LOGOUT
            "R* authenticate\nR: open INBOX\nR: fetch 7:7\nR: store 7:7\n"
            "R: sync\nR: fetch 7:7\n"},
    {"bodies that are missing",
     SELECT "! hook lose\nC: c FETCH 1:3 (UID BODY.PEEK[TEXT])\n"
            "S: * 1 FETCH (UID 3 BODY[TEXT] {55}\nS: Hello Joe, do you think we can meet at 3:30 "
            "tomorrow?\nS: )\n"
            "S: * 3 FETCH (UID 7 BODY[TEXT] {3}\nS: x\nS: )\n"
            "S: c NO [UNAVAILABLE] Some of what was asked for is not available at present\n"
            "C: d FETCH 2 (FLAGS RFC822.TEXT)\nS: * 2 FETCH (FLAGS (\\Flagged $Label1))\n"
            "S: d NO [UNAVAILABLE] Some of what was asked for is not available at present\n"
            "C: e FETCH 2 (FLAGS ENVELOPE)\nS* * 2 FETCH (FLAGS (\\Flagged $Label1) ENVELOPE "
            "(*))\nS: e OK FETCH completed\n" LOGOUT},
    {"answers in parts", SELECT
     "! hook rows 1\nC: c FETCH 1:3 (UID)\nS: * 1 FETCH (UID 3)\nS: * 2 FETCH (UID 4)\nS: * 3 "
     "FETCH (UID 7)\n"
     "S: c OK FETCH completed\n"
     "C: d FETCH 2:3 RFC822.TEXT\nS* * 2 FETCH (RFC822.TEXT {*}\nS: --b1\nS: Content-Type: "
     "text/plain; charset=utf-8\n"
     "S:\nS: Part one.\nS: --b1\nS: Content-Type: message/rfc822\nS:\nS: Subject: Inside\nS: From: "
     "carol@example.org\n"
     "S:\nS: Inner text.\nS: --b1--\nS: )\nS: * 2 FETCH (FLAGS (\\Seen \\Flagged $Label1))\n"
     "S: * 3 FETCH (RFC822.TEXT {3}\nS: x\nS: )\nS: * 3 FETCH (FLAGS (\\Seen))\nS: d OK FETCH "
     "completed\n" LOGOUT
     "R* authenticate\nR: open INBOX\nR: fetch 3:4,7:7\nR: fetch 4:4,7:7\nR: fetch 7:7\nR: sync\n"
     "R: fetch 4:4,7:7\nR: store 4:4\nR: fetch 7:7\nR: store 7:7\n"},
    {"large literals", SELECT
     "! hook large\n! notify\nC: c NOOP\nS: * 5 EXISTS\nS: c OK NOOP completed\n"
     "C: d FETCH 4:5 (BODY.PEEK[TEXT] UID BODY.PEEK[TEXT]<70000.66000>)\n"
     "S: * 4 FETCH (UID 8 BODY[TEXT] {400000}\nS= \\{400000}l\nS:  BODY[TEXT]<70000> {66000}\n"
     "S= \\{66000}l\nS: )\nS: * 5 FETCH (UID 9 BODY[TEXT] {400000}\nS= \\{400000}l\nS:  "
     "BODY[TEXT]<70000> {66000}\n"
     "S= \\{66000}l\nS: )\nS: d OK FETCH completed\n" LOGOUT},
    {"a large literal that breaks off", SELECT
     "! hook large\n! notify\nC: c NOOP\nS: * 5 EXISTS\nS: c OK NOOP completed\n! hook break 3\n"
     "C: d FETCH 4 BODY[TEXT]\nS: * 4 FETCH (BODY[TEXT] {400000}\nS= \\{131072}l\n! close\n"},
    {"messages that are gone",
     SELECT "! hook expunge 4\n"
            "C: c FETCH 1:3 UID\nS: * 1 FETCH (UID 3)\nS: * 3 FETCH (UID 7)\n"
            "S: c NO [EXPUNGEISSUED] Some of the messages no longer exist\n"
            "C: d UID FETCH 1:* UID\nS: * 1 FETCH (UID 3)\nS: * 3 FETCH (UID 7)\nS: * 2 "
            "EXPUNGE\nS: d OK UID FETCH completed\n"
            "C: e FETCH 2 UID\nS: * 2 FETCH (UID 7)\nS: e OK FETCH completed\n" LOGOUT},
    {"the mailbox goes", SELECT "! hook delete\nC: c FETCH 1 UID\nS: * BYE The selected mailbox is "
                                "no longer there\n! close\n"},
    {"unavailable",
     SELECT "! hook fail fetch unavailable\nC: c FETCH 1 UID\n"
            "S: c NO [UNAVAILABLE] Temporarily unavailable, please try again later\n" LOGOUT},
};

static const struct conversation change[] = {
    {"store",
     SELECT "C: c STORE 1:2 +FLAGS (\\Deleted $New)\n"
            "S: * FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Label1 $New)\n"
            "S: * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Label1 $New "
            "\\*)] Flags that are kept\n"
            "S: * 1 FETCH (FLAGS (\\Seen \\Deleted $New))\nS: * 2 FETCH (FLAGS (\\Flagged "
            "\\Deleted $Label1 $New))\n"
            "S: c OK STORE completed\n"
            "C: d UID STORE 4 -FLAGS \\Deleted $New\nS: * 2 FETCH (UID 4 FLAGS (\\Flagged "
            "$Label1))\nS: d OK UID STORE completed\n"
            "C: e STORE 3 FLAGS.SILENT (\\Draft)\nS: e OK STORE completed\n"
            "C: f STORE 3 FLAGS ()\nS: * 3 FETCH (FLAGS ())\nS: f OK STORE completed\n"
            "C: g STORE 1 FLAGS (\\Frob)\nS: g BAD Unknown system flag\nC: g STORE 1 FROB "
            "(\\Seen)\nS: g BAD Unknown STORE item\n"
            "C: h UID STORE 99 +FLAGS (\\Seen)\nS: h OK UID STORE completed\n"
            "C: i NOOP\nS: i OK NOOP completed\n"
            "! hook fail store unavailable\nC: j STORE 1 FLAGS ()\n"
            "S: j NO [UNAVAILABLE] Temporarily unavailable, please try again later\n" LOGOUT},
    {"a store that cannot be reported",
     SELECT "! hook fail fetch nospace\nC: c STORE 1 +FLAGS (\\Draft)\nS: c OK STORE "
            "completed\n" LOGOUT},
    {"own changes are not news", SELECT
     "C: c NOOP\nS: c OK NOOP completed\n"
     "C: d STORE 1 +FLAGS (\\Flagged)\nS: * 1 FETCH (FLAGS (\\Seen \\Flagged))\nS: d OK STORE "
     "completed\n"
     "! notify\nC: e NOOP\nS: e OK NOOP completed\n"
     "! hook flag 7\n! notify\nC: f NOOP\nS: * 3 FETCH (FLAGS (\\Answered))\nS: f OK NOOP "
     "completed\n"
     "C: g NOOP\nS: g OK NOOP completed\nC: h CHECK\nS: h OK CHECK completed\n" LOGOUT
     "R* authenticate\nR: open INBOX\nR: sync\nR: store 3:3\nR: fetch 3:3\nR: sync\nR: sync\n"},
    {"a silent store does not hide what others did",
     SELECT "C: c NOOP\nS: c OK NOOP completed\n! hook flag 7\n"
            "C: d UID STORE 7 +FLAGS.SILENT (\\Seen)\nS: d OK UID STORE completed\n"
            "! notify\nC: e NOOP\nS: * 3 FETCH (FLAGS (\\Seen \\Answered))\nS: e OK NOOP "
            "completed\n" LOGOUT},
    {"expunge", SELECT "C: c STORE 1,3 +FLAGS.SILENT \\Deleted\nS: c OK STORE completed\n"
                       "C: d UID EXPUNGE 1:5\nS: * 1 EXPUNGE\nS: d OK UID EXPUNGE completed\n"
                       "C: e EXPUNGE\nS: * 2 EXPUNGE\nS: e OK EXPUNGE completed\n"
                       "C: f EXPUNGE\nS: f OK EXPUNGE completed\n"
                       "C: g UID EXPUNGE 99\nS: g OK UID EXPUNGE completed\nC: h UID EXPUNGE\nS: h "
                       "BAD Missing argument\n" LOGOUT},
    {"expunges of others wait", SELECT
     "C: c NOOP\nS: c OK NOOP completed\n! hook expunge 3\n! hook expunge 4\n! notify\n"
     "C: d STORE 3 +FLAGS (\\Flagged)\nS: * 3 FETCH (FLAGS (\\Flagged))\nS: d OK STORE completed\n"
     "C: e FETCH 3 UID\nS: * 3 FETCH (UID 7)\nS: e OK FETCH completed\n"
     "C: f SEARCH ALL\nS: * SEARCH 3\nS: f OK SEARCH completed\n"
     "C: g UID SEARCH ALL\nS: * SEARCH 7\nS: * 1 EXPUNGE\nS: * 1 EXPUNGE\nS: g OK UID SEARCH "
     "completed\n"
     "C: h FETCH * UID\nS: * 1 FETCH (UID 7)\nS: h OK FETCH completed\n" LOGOUT},
    {"copy, move",
     SELECT "C: c COPY 1:2 Work\nS: c OK [COPYUID 1004 3:4 1:2] COPY completed\n"
            "C: d UID COPY 7,99 Work\nS: d OK [COPYUID 1004 7 3] UID COPY completed\n"
            "C: e UID COPY 99 Work\nS: e OK UID COPY completed\n"
            "C: f COPY 1 Nowhere\nS: f NO [TRYCREATE] No such mailbox\n"
            "C: g COPY 1 INBOX\nS: * 4 EXISTS\nS: g OK [COPYUID 1001 3 8] COPY completed\n"
            "C: h MOVE 1,3 Work\nS: * OK [COPYUID 1004 3,7 4:5] Moved\nS: * 1 EXPUNGE\nS: * 2 "
            "EXPUNGE\nS: h OK MOVE completed\n"
            "C: i UID MOVE 4 Nowhere\nS: i NO [TRYCREATE] No such mailbox\n"
            "C: j UID MOVE 4 Work\nS: * OK [COPYUID 1004 4 6] Moved\nS: * 1 EXPUNGE\nS: j OK UID "
            "MOVE completed\n"
            "C: k UID FETCH 1:* UID\nS: * 1 FETCH (UID 8)\nS: k OK UID FETCH completed\n" LOGOUT},
    {"idle", SELECT "C: c IDLE\nS: + idling\n! hook add\n! hook expunge 3\n! notify\nS: * 1 "
                    "EXPUNGE\nS: * 3 EXISTS\n"
                    "! hook flag 4\n! notify\nS: * 1 FETCH (FLAGS (\\Answered))\n! notify\n"
                    "C: DONE\nS: c OK IDLE completed\n"
                    "C: d IDLE\nS: + idling\nC: FOO\nS: d BAD DONE was expected\nC: e NOOP\nS: e "
                    "OK NOOP completed\n" LOGOUT},
    {"idle, with an answer under way",
     SELECT "C: c NOOP\nS: c OK NOOP completed\nC: c IDLE\nS: + idling\n! hold\n! hook add\n! "
            "notify\nC: DONE\n! notify\n"
            "! release\nS: * 4 EXISTS\nS: c OK IDLE completed\n" LOGOUT},
    {"idle without a mailbox",
     LOGIN "C: c IDLE\nS: + idling\n! notify\nC: done\nS: c OK IDLE completed\n" LOGOUT},
    {"idle, timeout", SELECT "C: c IDLE\nS: + idling\n! tick 1799000\n! open\n! tick 2000\n"
                             "S: * BYE Autologout; idle for too long\n! close\n"},
    {"messages that are gone",
     SELECT "! hook expunge 4\n"
            "C: c STORE 1:3 +FLAGS (\\Draft)\nS: * 1 FETCH (FLAGS (\\Seen \\Draft))\n"
            "S: * 3 FETCH (FLAGS (\\Draft))\n"
            "S: c NO [EXPUNGEISSUED] Some of the messages no longer exist\n"
            "C: d STORE 1:3 +FLAGS.SILENT (\\Answered)\nS: d OK STORE completed\n"
            "C: e STORE 1:2 (UNCHANGEDSINCE 1) +FLAGS (\\Draft)\n"
            "S* * OK [HIGHESTMODSEQ *] Highest\n"
            "S: e NO [MODIFIED 1] Some of the messages no longer exist\n"
            "C: f COPY 1:3 Work\nS: * 2 EXPUNGE\n"
            "S: f NO [EXPUNGEISSUED] Some of the messages no longer exist\n"
            "C: g STATUS Work (MESSAGES)\nS: * STATUS \"Work\" (MESSAGES 0)\nS: g OK STATUS "
            "completed\n"
            "! hook expunge 3\nC: h MOVE 1:2 Work\n"
            "S: h NO [EXPUNGEISSUED] Some of the messages no longer exist\n"
            "C: i UID COPY 3:7 Work\nS: i OK [COPYUID 1004 7 1] UID COPY completed\n" LOGOUT},
    {"a silent store, with changes in other mailboxes",
     SELECT "C: c NOOP\nS: c OK NOOP completed\n! hook elsewhere\n"
            "C: d STORE 1 +FLAGS.SILENT (\\Draft)\nS: d OK STORE completed\n! notify\n"
            "C: e NOOP\nS: e OK NOOP completed\n"
            "! hook flag 4\nC: f STORE 1 -FLAGS.SILENT (\\Draft)\nS: f OK STORE completed\n! "
            "notify\nC: g NOOP\nS: * 1 FETCH (FLAGS (\\Seen))\nS: * 2 FETCH (FLAGS "
            "(\\Answered))\nS: g OK NOOP completed\n" LOGOUT},
    {"news in parts", SELECT "C: c NOOP\nS: c OK NOOP completed\n! hook rows 1\n! hook flag 3\n! "
                             "hook flag 4\n! hook flag 7\n! hook add\n! notify\n"
                             "C: d NOOP\nS: * 1 FETCH (FLAGS (\\Answered))\nS: * 4 EXISTS\nS: * 2 "
                             "FETCH (FLAGS (\\Answered))\n"
                             "S: * 3 FETCH (FLAGS (\\Answered))\nS: d OK NOOP completed\nC: e "
                             "NOOP\nS: e OK NOOP completed\n" LOGOUT},
    {"a mailbox that becomes protected", SELECT
     "! hook protect\n! notify\nC: c NOOP\nS: c OK NOOP completed\n"
     "S: * BYE [UNAVAILABLE] The mailbox is protected while it is being repaired\n! close\n"},
    {"news that cannot be had",
     SELECT "! hook fail sync unavailable\nC: c NOOP\nS: c OK NOOP completed\n! hook fail sync ok\n"
            "! hook add\nC: d NOOP\nS: * 4 EXISTS\nS: d OK NOOP completed\n" LOGOUT},
    {"news that cannot be had, in IDLE",
     SELECT "C: c IDLE\nS: + idling\n! hook fail sync unavailable\n! hook add\n! notify\n! tick "
            "1000\n! hook fail sync ok\n! tick 1000\nS: * 4 EXISTS\n"
            "C: DONE\nS: c OK IDLE completed\n" LOGOUT},
};

static const struct conversation condstore[] = {
    {"fetch and store", SELECT
     "C: c FETCH 1:* (FLAGS MODSEQ)\nS: * OK [HIGHESTMODSEQ 4] Highest\n"
     "S: * 1 FETCH (FLAGS (\\Seen) MODSEQ (2))\nS: * 2 FETCH (FLAGS (\\Flagged $Label1) MODSEQ "
     "(3))\n"
     "S: * 3 FETCH (FLAGS () MODSEQ (4))\nS: c OK FETCH completed\n"
     "C: d FETCH 1:* FLAGS (CHANGEDSINCE 3)\nS: * 3 FETCH (FLAGS () MODSEQ (4))\nS: d OK FETCH "
     "completed\n"
     "C: e STORE 1:3 (UNCHANGEDSINCE 3) +FLAGS (\\Answered)\n"
     "S: * 1 FETCH (UID 3 FLAGS (\\Seen \\Answered) MODSEQ (5))\n"
     "S: * 2 FETCH (UID 4 FLAGS (\\Answered \\Flagged $Label1) MODSEQ (5))\nS: e OK [MODIFIED 3] "
     "STORE completed\n"
     "C: f UID STORE 4,7 (UNCHANGEDSINCE 4) +FLAGS.SILENT (\\Draft)\nS: * 3 FETCH (UID 7 MODSEQ "
     "(6))\n"
     "S: f OK [MODIFIED 4] UID STORE completed\n"
     "C: g STORE 1 +FLAGS.SILENT (\\Draft)\nS: * 1 FETCH (UID 3 MODSEQ (7))\nS: g OK STORE "
     "completed\n"
     "C: h FETCH 1 (BODY[HEADER.FIELDS (X)])\nS: * 1 FETCH (BODY[HEADER.FIELDS (X)] {2}\nS:\nS: "
     ")\nS: h OK FETCH completed\n"
     "C: i FETCH 3 (BODY[HEADER.FIELDS (X)])\nS: * 3 FETCH (BODY[HEADER.FIELDS (X)] {2}\nS:\nS: )\n"
     "S: * 3 FETCH (UID 7 FLAGS (\\Seen \\Draft) MODSEQ (8))\nS: i OK FETCH completed\n"
     "C: j FETCH 1 FLAGS (FROB 1)\nS: j BAD Unknown FETCH modifier\n"
     "C: k STORE 1 (FROB 1) FLAGS ()\nS: k BAD Unknown STORE modifier\n" LOGOUT},
    {"news",
     SELECT "C: c ENABLE CONDSTORE\nS: * ENABLED CONDSTORE\nS: * OK [HIGHESTMODSEQ 4] Highest\n"
            "S: c OK ENABLE completed\n! hook flag 4\n! notify\nC: d NOOP\n"
            "S: * 2 FETCH (UID 4 FLAGS (\\Answered) MODSEQ (5))\nS: d OK NOOP completed\n" LOGOUT},
    {"search", SELECT
     "C: c SEARCH MODSEQ 3\nS: * OK [HIGHESTMODSEQ 4] Highest\nS: * SEARCH 2 3 (MODSEQ 4)\n"
     "S: c OK SEARCH completed\n"
     "C: d SEARCH MODSEQ \"/flags/\\\\draft\" all 99\nS: * SEARCH\nS: d OK SEARCH completed\n"
     "C: e SEARCH RETURN (COUNT) MODSEQ 3\nS: * ESEARCH (TAG \"e\") COUNT 2 MODSEQ 4\n"
     "S: e OK SEARCH completed\n"
     "C: f SEARCH RETURN (MIN) MODSEQ 2\nS: * ESEARCH (TAG \"f\") MIN 1 MODSEQ 2\n"
     "S: f OK SEARCH completed\n"
     "C: g UID SEARCH RETURN (MIN MAX) MODSEQ 2 1:2\n"
     "S: * ESEARCH (TAG \"g\") UID MIN 3 MAX 4 MODSEQ 3\nS: g OK UID SEARCH completed\n"
     "C: h SEARCH RETURN (MIN MAX) MODSEQ 99\nS: * ESEARCH (TAG \"h\")\n"
     "S: h OK SEARCH completed\n"
     "C: i SORT (REVERSE DATE) UTF-8 MODSEQ 3\nS: * SORT 3 2 (MODSEQ 4)\nS: i OK SORT completed\n"
     "C: j SORT (DATE) UTF-8 MODSEQ 99\nS: * SORT\nS: j OK SORT completed\n" LOGOUT},
};

static const struct conversation searches[] = {
    {"keys", SELECT
     "C: c SEARCH ALL\nS: * SEARCH 1 2 3\nS: c OK SEARCH completed\n"
     "C: c UID SEARCH UNSEEN\nS: * SEARCH 4 7\nS: c OK UID SEARCH completed\n"
     "C: c SEARCH SEEN\nS: * SEARCH 1\nS: c OK SEARCH completed\n"
     "C: c SEARCH FLAGGED KEYWORD $Label1 UNDELETED\nS: * SEARCH 2\nS: c OK SEARCH completed\n"
     "C: c SEARCH UNKEYWORD $label1\nS: * SEARCH 1 3\nS: c OK SEARCH completed\n"
     "C: c SEARCH NEW\nS: * SEARCH\nS: c OK SEARCH completed\nC: c SEARCH RECENT\nS: * SEARCH\nS: "
     "c OK SEARCH completed\n"
     "C: c SEARCH OLD\nS: * SEARCH 1 2 3\nS: c OK SEARCH completed\n"
     "C: c SEARCH NOT (1 1:2)\nS: * SEARCH 2 3\nS: c OK SEARCH completed\n"
     "C: c SEARCH OR 1 (UID 7 SMALLER 100)\nS: * SEARCH 1 3\nS: c OK SEARCH completed\n"
     "C: c SEARCH LARGER 100 NOT SUBJECT \"two parts\"\nS: * SEARCH 1\nS: c OK SEARCH completed\n"
     "C: c SEARCH SINCE 6-Jan-2026\nS: * SEARCH 2 3\nS: c OK SEARCH completed\n"
     "C: c SEARCH ON \"6-Jan-2026\" BEFORE 7-jan-2026\nS: * SEARCH 2\nS: c OK SEARCH completed\n"
     "C: c SEARCH HEADER Message-ID \"\"\nS: * SEARCH 1\nS: c OK SEARCH completed\n"
     "C: c SEARCH FROM {4}\nS: + OK\nC: dave\nS: * SEARCH 3\nS: c OK SEARCH completed\n"
     "C: c SEARCH CHARSET utf-8 TEXT {5+}\nC: Inner TO alice\nS: * SEARCH 2\nS: c OK SEARCH "
     "completed\n"
     "C: c SEARCH UID 99\nS: * SEARCH\nS: c OK SEARCH completed\n"
     "C: c SEARCH 4\nS: c BAD No such message\n"
     "C: c SEARCH CHARSET KOI8-R TEXT x\nS: c NO [BADCHARSET (UTF-8 US-ASCII)] Only UTF-8 and "
     "US-ASCII are supported\n"
     "C= c SEARCH TEXT \"\\xff\"\\r\\n\nS: c NO [BADCHARSET (UTF-8 US-ASCII)] Only UTF-8 and "
     "US-ASCII are supported\n"
     "C: c SEARCH FROB\nS: c BAD Unknown search key\nC: c SEARCH ON 32-Jan-2026\nS: c BAD "
     "Malformed date\n"
     "C: c SEARCH SINCE 29-Feb-2026\nS: c BAD Malformed date\n"
     "C: c SEARCH SINCE 29-Feb-2028\nS: * SEARCH\nS: c OK SEARCH completed\n"
     "C: c SEARCH (ALL\nS: c BAD Missing )\nC: c SEARCH\nS: c BAD Missing argument\n" LOGOUT},
    {"programs", SELECT
     "C: c SEARCH OR NOT SEEN (DELETED 1) UID 3:4,*\nS: * SEARCH 2 3\nS: c OK SEARCH completed\n"
     "C: d SEARCH OLDER 60 YOUNGER 3600 SENTON 1-Jan-1960\nS: * SEARCH\nS: d OK SEARCH "
     "completed\n" LOGOUT "R* authenticate\nR: open INBOX\n"
     "R: search 1/2/0 2/2/0 3/0/0 5/0/1 1/2/0 5/0/8 4/0/0 3:3 4/0/0 3:4,7:7\nR: sync\n"
     "R: search 1/3/0 16/0/60 17/0/3600 14/0/0\n"},
    {"esearch",
     SELECT "C: c SEARCH RETURN (MIN MAX COUNT ALL) UNSEEN\nS: * ESEARCH (TAG \"c\") MIN 2 MAX 3 "
            "ALL 2:3 COUNT 2\n"
            "S: c OK SEARCH completed\n"
            "C: d UID SEARCH RETURN () ALL\nS: * ESEARCH (TAG \"d\") UID ALL 3:4,7\nS: d OK UID "
            "SEARCH completed\n"
            "C: e SEARCH RETURN (MIN COUNT) DELETED\nS: * ESEARCH (TAG \"e\") COUNT 0\nS: e OK "
            "SEARCH completed\n"
            "C: f SEARCH RETURN (FROB) ALL\nS: f BAD Unknown SEARCH return option\n" LOGOUT},
    {"sort", SELECT
     "C: c SORT (REVERSE DATE) UTF-8 ALL\nS: * SORT 3 2 1\nS: c OK SORT completed\n"
     "C: d UID SORT (SUBJECT ARRIVAL) US-ASCII UNSEEN\nS: * SORT 4 7\nS: d OK UID SORT completed\n"
     "C: e SORT (FROB) UTF-8 ALL\nS: e BAD Unknown sort key\nC: e SORT (DATE) X ALL\n"
     "S: e NO [BADCHARSET (UTF-8 US-ASCII)] Only UTF-8 and US-ASCII are supported\n" LOGOUT},
    {"thread", SELECT
     "C: c THREAD REFERENCES UTF-8 ALL\nS: * THREAD\nS: c OK THREAD completed\n"
     "! hook thread 3:0 4:1 7:2\nC: d UID THREAD ORDEREDSUBJECT UTF-8 ALL\nS: * THREAD (3 4 7)\n"
     "S: d OK UID THREAD completed\n"
     "! hook thread 3:0 4:1 7:1\nC: e THREAD REFERENCES UTF-8 ALL\nS: * THREAD (1 (2)(3))\n"
     "S: e OK THREAD completed\n"
     "! hook thread 0:0 3:1 4:1 7:0\nC: e THREAD REFERENCES UTF-8 ALL\nS: * THREAD ((1)(2))(3)\n"
     "S: e OK THREAD completed\n"
     "! hook thread 99:0 3:1 98:1 0:0 97:1 4:0 96:1 7:2\nC: e THREAD REFERENCES UTF-8 ALL\n"
     "S: * THREAD (1)(2 3)\nS: e OK THREAD completed\n"
     "! hook thread 3:1\nC: e THREAD REFERENCES UTF-8 ALL\n"
     "S: e NO [SERVERBUG] Threads could not be understood\n"
     "C: f THREAD FROB UTF-8 ALL\nS: f BAD Unknown threading algorithm\n" LOGOUT},
};

static void test_fetch(void **state)
{
    RUN(fetch);
}

static void test_change(void **state)
{
    RUN(change);
}

static void test_condstore(void **state)
{
    RUN(condstore);
}

static void test_search(void **state)
{
    RUN(searches);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fetch),
        cmocka_unit_test(test_change),
        cmocka_unit_test(test_condstore),
        cmocka_unit_test(test_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
