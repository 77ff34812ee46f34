/* IMAP as conversations: logging in, mailboxes, APPEND. See proto/transcript.h. */
#include "proto/imap/test_conversation.h"
#include "proto/test_scram_example.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct conversation before_login[] = {
    {"capability, noop, id, logout",
     GREETING "C: a CAPABILITY\nS: * CAPABILITY " CAPS_BEFORE
              " STARTTLS AUTH=PLAIN AUTH=SCRAM-SHA-256\nS: a OK CAPABILITY completed\n"
              "C: a1 NOOP\nS: a1 OK NOOP completed\n"
              "C: a2 id (\"name\" \"x\" \"version\" NIL)\nS: * ID (\"name\" \"Sternpost\" "
              "\"version\" \"0.1\")\n"
              "S: a2 OK ID completed\n"
              "C: a3 ID NIL\nS: * ID (\"name\" \"Sternpost\" \"version\" \"0.1\")\nS: a3 OK ID "
              "completed\n" LOGOUT},
    {"login", LOGIN LOGOUT},
    {"login with literals",
     GREETING "C: a LOGIN {17}\nS: + OK\nC= alice@example.org\nC:  {6+}\nC: secret\n"
              "S* a OK [CAPABILITY *] Logged in\n" LOGOUT},
    {"login with a quoted string",
     GREETING "C: a LOGIN \"alice@example.org\" \"sec\\\\ret\"\n"
              "S: a NO [AUTHENTICATIONFAILED] Wrong user name or password\n"
              "C: a LOGIN \"alice@example.org\" \"secret\"\nS* a OK *\n" LOGOUT},
    {"authenticate",
     GREETING "C: a AUTHENTICATE PLAIN\nS: + \nC: AGFsaWNlQGV4YW1wbGUub3JnAHNlY3JldA==\n"
              "S* a OK [CAPABILITY *] Logged in\n" LOGOUT},
    {"authenticate at once",
     GREETING "C: a authenticate plain AGFsaWNlQGV4YW1wbGUub3JnAHNlY3JldA==\n"
              "S* a OK [CAPABILITY *] Logged in\n"
              "C: b LOGIN x y\nS: b BAD Already logged in\n" LOGOUT},
    {"authenticate, refused", GREETING
     "C: a AUTHENTICATE PLAIN\nS: + \nC: *\nS: a BAD AUTHENTICATE cancelled\n"
     "C: a AUTHENTICATE PLAIN !!\nS: a BAD Malformed PLAIN response\n"
     "C: a AUTHENTICATE PLAIN =\nS: a BAD Malformed PLAIN response\n"
     "C: a AUTHENTICATE PLAIN AGFsaWNl\nS: a BAD Malformed PLAIN response\n"
     "C: a AUTHENTICATE PLAIN Ym9iAGFsaWNlAHg=\n"
     "S: a NO [AUTHORIZATIONFAILED] Logging in for another user is not supported\n"
     "C: a AUTHENTICATE GSSAPI\nS: a NO [CANNOT] This mechanism is not supported\n" LOGOUT},
    {"SCRAM-SHA-256: RFC 7677 3, RFC 5802 5",
     GREETING "C: a AUTHENTICATE SCRAM-SHA-256\nS: + \nC: " SCRAM_FIRST "\nS: + " SCRAM_CHALLENGE
              "\nC: " SCRAM_FINAL "\nS: + " SCRAM_SIGNATURE "\nC:\n"
              "S* a OK [CAPABILITY *] Logged in\n" LOGOUT "R: scram\nR: authenticate\n"},
    {"SCRAM-SHA-256 at once (RFC 4959)",
     GREETING "C: a AUTHENTICATE scram-sha-256 " SCRAM_FIRST "\nS: + " SCRAM_CHALLENGE
              "\nC: " SCRAM_FINAL "\nS: + " SCRAM_SIGNATURE "\nC:\n"
              "S* a OK [CAPABILITY *] Logged in\n" LOGOUT},
    {"SCRAM-SHA-256, refused",
     GREETING "C: a AUTHENTICATE SCRAM-SHA-256 " SCRAM_FIRST "\nS: + " SCRAM_CHALLENGE
              "\nC: " SCRAM_BAD_PROOF "\n"
              "S: a NO [AUTHENTICATIONFAILED] Wrong user name or password\n"
              "C: a AUTHENTICATE SCRAM-SHA-256 " SCRAM_FIRST "\nS: + " SCRAM_CHALLENGE
              "\nC: " SCRAM_BAD_NONCE "\n"
              "S: a NO [AUTHENTICATIONFAILED] Wrong user name or password\n"
              "C: a AUTHENTICATE SCRAM-SHA-256 " SCRAM_FIRST "\nS: + " SCRAM_CHALLENGE
              "\nC: " SCRAM_BAD_BINDING "\n"
              "S: a NO [AUTHENTICATIONFAILED] Wrong user name or password\n"
              "C: a AUTHENTICATE SCRAM-SHA-256 " SCRAM_FIRST "\nS: + " SCRAM_CHALLENGE
              "\nC: *\nS: a BAD AUTHENTICATE cancelled\n"
              /* its success unconfirmed is none */
              "C: a AUTHENTICATE SCRAM-SHA-256 " SCRAM_FIRST "\nS: + " SCRAM_CHALLENGE
              "\nC: " SCRAM_FINAL "\nS: + " SCRAM_SIGNATURE "\nC: *\n"
              "S: a BAD AUTHENTICATE cancelled\nC: b SELECT INBOX\nS: b BAD Log in first\n" LOGOUT},
    {"SCRAM-SHA-256, malformed: RFC 5802 7", GREETING
     "C: a AUTHENTICATE SCRAM-SHA-256 !\nS: a BAD Malformed SCRAM message\n"
     "C: a AUTHENTICATE SCRAM-SHA-256 biwsbT14LG49dXNlcixyPWFiYw==\nS: a BAD Malformed SCRAM "
     "message\n"
     "C: a AUTHENTICATE SCRAM-SHA-256 biwsbj11cz1lcixyPWFiYw==\nS: a BAD Malformed SCRAM message\n"
     "C: a AUTHENTICATE SCRAM-SHA-256 cD10bHMtZXhwb3J0ZXIsLG49dXNlcixyPWFiYw==\nS: a BAD Malformed "
     "SCRAM message\n"
     "C: a AUTHENTICATE SCRAM-SHA-256 bixhPW90aGVyLG49dXNlcixyPWFiYw==\n"
     "S: a NO [AUTHORIZATIONFAILED] Logging in for another user is not supported\n"
     "C: a AUTHENTICATE SCRAM-SHA-256-PLUS\nS: a NO [CANNOT] This mechanism is not "
     "supported\n" LOGOUT},
    {"starttls", GREETING "C: a STARTTLS\nS: a OK Begin TLS negotiation now\n! tls\n"
                          "C: b CAPABILITY\nS: * CAPABILITY " CAPS_BEFORE
                          " AUTH=PLAIN AUTH=SCRAM-SHA-256\nS: b OK CAPABILITY completed\n"
                          "C: c STARTTLS\nS: c BAD TLS is active already\n" LOGOUT},
    {"starttls throws away what came in the clear",
     GREETING "C= a STARTTLS\\r\\nb NOOP\\r\\nc LOG\nS: a OK Begin TLS negotiation now\n! tls\n"
              "C: d NOOP\nS: d OK NOOP completed\n" LOGOUT},
    {"states", GREETING
     "C: a SELECT INBOX\nS: a BAD Log in first\nC: b FETCH 1 FLAGS\nS: b BAD Log in first\n"
     "C: c APPEND INBOX {1}\nS: + OK\nC: x\nS: c BAD APPEND wants a literal\n" LOGOUT},
    {"syntax",
     GREETING "C: a\nS: * BAD Missing command\nC: +\nS: * BAD Missing tag\nC: a FROB\nS: a BAD "
              "Unknown command\n"
              "C: a UID NOOP\nS: a BAD Unknown command\nC: a NOOP x\nS: a BAD Unexpected argument\n"
              "C: a NOOP  \nS: a OK NOOP completed\n"
              "C: a LOGIN \"x\nS: a BAD Quoted string does not end\nC=\\r\\n\nS: * BAD Missing "
              "tag\n" LOGOUT},
    {"ten bad commands", GREETING
     "Cx 10 a FROB\nSx 10 a BAD Unknown command\nS: * BYE Too many bad commands\n! close\n"},
    {"ten failed logins",
     GREETING "Cx 10 a LOGIN x y\nSx 10 a NO [AUTHENTICATIONFAILED] Wrong user name or password\n"
              "S: * BYE Too many failed logins\n! close\n"},
    {"an ID as long as RFC 2971 allows, before login", GREETING
     "C= a ID (\"k0\" \"\\{1000}y\" \"k1\" \"\\{1000}y\" \"k2\" \"\\{1000}y\" \"k3\" "
     "\"\\{1000}y\" \"k4\" \"\\{1000}y\" \"k5\" \"\\{1000}y\" \"k6\" \"\\{1000}y\" \"k7\" "
     "\"\\{1000}y\" \"k8\" \"\\{1000}y\" \"k9\" \"\\{1000}y\")\\r\\n\nS* * ID *\nS: a OK ID "
     "completed\nC: b NOOP\nS: b OK NOOP completed\n" LOGOUT},
    {"long lines", GREETING "C= a LOGIN x \\{37000}y\nS: a BAD Command is too long\nS: * BYE "
                            "Command is too long\n! close\n"},
    {"long literals", GREETING
     "C: a LOGIN {1025}\nS: a BAD Command is too long\nC: b NOOP\nS: b OK NOOP completed\n"
     "C: a LOGIN {1025+}\nS: a BAD Command is too long\nS: * BYE Command is too long\n! close\n"},
    {"timeout", GREETING
     "! tick 179000\n! open\n! tick 2000\nS: * BYE Autologout; idle for too long\n! close\n"},
    {"long tags", GREETING "C= \\{128}t NOOP\\r\\n\nS= \\{128}t OK NOOP completed\\r\\n\n"
                           "C= \\{129}t NOOP\\r\\n\nS: * BAD Tag is too long\n" LOGOUT},
    {"shutdown", GREETING "! shutdown\nS: * BYE Server is shutting down\n! close\n"},
    {"end of input", GREETING "C: a NOOP\nS: a OK NOOP completed\nC= b NO\n! eof\n! close\n"},
    {"login unavailable",
     GREETING "! hook fail authenticate unavailable\n"
              "C: a LOGIN alice@example.org secret\n"
              "S: a NO [UNAVAILABLE] Temporarily unavailable, please try again later\n" LOGOUT},
};

static const struct conversation mailboxes[] = {
    {"select", SELECT "C: c CLOSE\nS: c OK CLOSE completed\nC: d FETCH 1 FLAGS\nS: d BAD Select a "
                      "mailbox first\n" LOGOUT},
    {"examine", LOGIN
     "C: b EXAMINE INBOX (CONDSTORE)\nS: * FLAGS " FLAGS "\n"
     "S: * OK [PERMANENTFLAGS ()] Flags that are kept\nS: * 3 EXISTS\nS: * 0 RECENT\n"
     "S: * OK [UNSEEN 2] First unseen\nS: * OK [UIDVALIDITY 1001] UIDs valid\n"
     "S: * OK [UIDNEXT 8] Predicted next UID\nS: * OK [HIGHESTMODSEQ 4] Highest\n"
     "S* * OK [MAILBOXID (*)] Object id\nS: b OK [READ-ONLY] EXAMINE completed\n"
     "C: c STORE 1 +FLAGS (\\Deleted)\nS: c NO [NOPERM] The mailbox was opened read-only\n"
     "C: c EXPUNGE\nS: c NO [NOPERM] The mailbox was opened read-only\n"
     "C: c MOVE 1 Work\nS: c NO [NOPERM] The mailbox was opened read-only\n"
     "C: d FETCH 3 BODY[TEXT]\nS: * 3 FETCH (BODY[TEXT] {3}\nS: x\nS: )\nS: d OK FETCH completed\n"
     "C: d FETCH 3 FLAGS\nS: * 3 FETCH (FLAGS ())\nS: d OK FETCH completed\n"
     "C: e UNSELECT\nS: e OK UNSELECT completed\n" LOGOUT},
    {"select, refused",
     SELECT "C: c SELECT nowhere\nS: * OK [CLOSED] Previous mailbox closed\n"
            "S: c NO [NONEXISTENT] No such mailbox\nC: d CHECK\nS: d BAD Select a mailbox first\n"
            "C: e SELECT Lost\n"
            "S: e NO [UNAVAILABLE] The mailbox is protected while it is being repaired\n"
            "C: f SELECT \"\"\nS: f NO [CANNOT] A mailbox must have a name\n"
            "C: g SELECT \"&&\"\nS: g NO [CANNOT] The name cannot be used\n"
            "C: g2 LIST \"\" &&*\nS: g2 OK LIST completed\n"
            "C: h SELECT INBOX (FROB (1 2))\nS: h BAD Unknown SELECT parameter\n" LOGOUT},
    {"select, a name in modified UTF-7",
     LOGIN "C: b SELECT \"Work/Entw&APw-rfe/\"\nS* * FLAGS *\nS* * OK *\nS: * 0 EXISTS\n"
           "S: * 0 RECENT\nS* * OK *\nS* * OK *\nS* * OK *\nS* * OK *\nS* b OK *\n"
           "C: c FETCH 1:* FLAGS\nS: c OK FETCH completed\n"
           "C: c UID FETCH 1:* FLAGS\nS: c OK UID FETCH completed\n"
           "C: d FETCH 1 FLAGS\nS: d BAD No such message\n" LOGOUT},
    {"status",
     LOGIN "C: b STATUS INBOX (MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN SIZE APPENDLIMIT)\n"
           "S* * STATUS \"INBOX\" (MESSAGES 3 RECENT 0 UIDNEXT 8 UIDVALIDITY 1001 UNSEEN 2 SIZE * "
           "APPENDLIMIT 600000)\n"
           "S: b OK STATUS completed\n"
           "C: c STATUS Lost (MESSAGES)\nS: c NO [UNAVAILABLE] The mailbox is protected while it "
           "is being repaired\n"
           "C: d STATUS nowhere (MESSAGES)\nS: d NO [NONEXISTENT] No such mailbox\n"
           "C: e STATUS INBOX ()\nS: e BAD Unknown item\n"
           "C: f STATUS INBOX (HIGHESTMODSEQ)\nS: * STATUS \"INBOX\" (HIGHESTMODSEQ 4)\nS: f OK "
           "STATUS completed\n" LOGOUT},
    {"list", LOGIN
     "C: b LIST \"\" \"*\"\n"
     "S: * LIST (\\Noselect \\HasChildren) \"/\" \"Archive\"\n"
     "S: * LIST (\\HasNoChildren) \"/\" \"Archive/2025\"\n"
     "S: * LIST (\\HasNoChildren \\Drafts) \"/\" \"Drafts\"\n"
     "S: * LIST (\\HasNoChildren) \"/\" \"INBOX\"\n"
     "S: * LIST (\\HasNoChildren) \"/\" \"Lost\"\n"
     "S: * LIST (\\HasChildren) \"/\" \"Work\"\n"
     "S: * LIST (\\HasNoChildren) \"/\" \"Work/Entw&APw-rfe\"\n"
     "S: * LIST (\\Noselect \\HasChildren) \"/\" \"Work/Plans\"\n"
     "S: * LIST (\\HasNoChildren) \"/\" \"Work/Plans/Q1\"\n"
     "S: b OK LIST completed\n"
     "C: c LIST \"\" %\n"
     "S: * LIST (\\Noselect \\HasChildren) \"/\" \"Archive\"\n"
     "S: * LIST (\\HasNoChildren \\Drafts) \"/\" \"Drafts\"\n"
     "S: * LIST (\\HasNoChildren) \"/\" \"INBOX\"\n"
     "S: * LIST (\\HasNoChildren) \"/\" \"Lost\"\n"
     "S: * LIST (\\HasChildren) \"/\" \"Work\"\n"
     "S: c OK LIST completed\n"
     "C: d LIST \"\" \"\"\nS: * LIST (\\Noselect) \"/\" \"\"\nS: d OK LIST completed\n"
     "C: e LIST Work/ %\nS: * LIST (\\HasNoChildren) \"/\" \"Work/Entw&APw-rfe\"\n"
     "S: * LIST (\\Noselect \\HasChildren) \"/\" \"Work/Plans\"\nS: e OK LIST completed\n"
     "C: f LIST \"\" inbox\nS: * LIST (\\HasNoChildren) \"/\" \"INBOX\"\nS: f OK LIST completed\n"
     "C: g LIST \"\" Entw&-\nS: g OK LIST completed\n"
     "C: h LIST \"\" Work/Entw&APw-rfe\nS: * LIST (\\HasNoChildren) \"/\" \"Work/Entw&APw-rfe\"\n"
     "S: h OK LIST completed\n" LOGOUT},
    {"list, extended", LOGIN
     "C: b LIST (SUBSCRIBED) \"\" \"*\"\n"
     "S: * LIST (\\Subscribed \\HasNoChildren \\Drafts) \"/\" \"Drafts\"\n"
     "S: * LIST (\\Subscribed \\HasNoChildren) \"/\" \"INBOX\"\n"
     "S: * LIST (\\Subscribed \\HasNoChildren) \"/\" \"Lost\"\n"
     "S: * LIST (\\NonExistent \\Subscribed \\HasNoChildren) \"/\" \"Old\"\n"
     "S: * LIST (\\Subscribed \\HasChildren) \"/\" \"Work\"\n"
     "S: * LIST (\\Subscribed \\HasNoChildren) \"/\" \"Work/Plans/Q1\"\n"
     "S: b OK LIST completed\n"
     "C: c LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %/%\n"
     "S: * LIST (\\NonExistent \\HasChildren) \"/\" \"Work/Plans\" (\"CHILDINFO\" "
     "(\"SUBSCRIBED\"))\n"
     "S: c OK LIST completed\n"
     "C: d LIST (SPECIAL-USE) \"\" * RETURN (SUBSCRIBED CHILDREN SPECIAL-USE)\n"
     "S: * LIST (\\Subscribed \\HasNoChildren \\Drafts) \"/\" \"Drafts\"\nS: d OK LIST completed\n"
     "C: e LIST \"\" (INBOX Drafts) RETURN (STATUS (MESSAGES UNSEEN))\n"
     "S: * LIST (\\HasNoChildren \\Drafts) \"/\" \"Drafts\"\nS: * STATUS \"Drafts\" (MESSAGES 0 "
     "UNSEEN 0)\n"
     "S: * LIST (\\HasNoChildren) \"/\" \"INBOX\"\nS: * STATUS \"INBOX\" (MESSAGES 3 UNSEEN 2)\n"
     "S: e OK LIST completed\n"
     "C: f LIST \"\" Lost RETURN (STATUS (MESSAGES))\nS: * LIST (\\HasNoChildren) \"/\" "
     "\"Lost\"\nS: f OK LIST completed\n"
     "C: g LIST (RECURSIVEMATCH) \"\" *\nS: g BAD RECURSIVEMATCH wants another selection option\n"
     "C: h LIST (FROB) \"\" *\nS: h BAD Unknown item\n" LOGOUT},
    {"list, refused", LOGIN
     "! hook fail list unavailable\nC: b LIST \"\" *\n"
     "S: b NO [UNAVAILABLE] Temporarily unavailable, please try again later\nC: c LSUB \"\" *\n"
     "S: c NO [UNAVAILABLE] Temporarily unavailable, please try again later\n" LOGOUT},
    {"lsub", LOGIN "C: b LSUB \"\" *\nS: * LSUB () \"/\" \"Drafts\"\nS: * LSUB () \"/\" "
                   "\"INBOX\"\nS: * LSUB () \"/\" \"Lost\"\n"
                   "S: * LSUB () \"/\" \"Old\"\nS: * LSUB () \"/\" \"Work\"\nS: * LSUB () \"/\" "
                   "\"Work/Plans/Q1\"\n"
                   "S: b OK LSUB completed\n"
                   "C: c LSUB \"\" Work/%\nS: * LSUB (\\Noselect) \"/\" \"Work/Plans\"\nS: c OK "
                   "LSUB completed\n" LOGOUT},
    {"create, delete, rename, subscribe",
     LOGIN "C: b CREATE Sent/ (USE (\\Sent \\Archive))\nS: b OK [MAILBOXID "
           "(F00000009000000000000000000000000)] CREATE completed\n"
           "C: b LIST \"\" Sent\nS: * LIST (\\HasNoChildren \\Sent \\Archive) \"/\" \"Sent\"\nS: b "
           "OK LIST completed\n"
           "C: c CREATE INBOX\nS: c NO [ALREADYEXISTS] There is such a mailbox already\n"
           "C: c CREATE x (USE (\\Frob))\nS: c NO [USEATTR] Unknown special use\n"
           "C: d SUBSCRIBE Sent\nS: d OK SUBSCRIBE completed\nC: d UNSUBSCRIBE Sent\nS: d OK "
           "UNSUBSCRIBE completed\n"
           "C: e RENAME Sent \"Sent &- more\"\nS: e OK RENAME completed\n"
           "C: e RENAME Sent Other\nS: e NO [NONEXISTENT] No such mailbox\n"
           "C: e RENAME Work \"\"\nS: e NO [CANNOT] A mailbox must have a name\n"
           "C: f DELETE \"Sent &- more\"\nS: f OK DELETE completed\n"
           "C: g DELETE inbox\nS: g NO [CANNOT] INBOX cannot be deleted\n" LOGOUT
           "R* authenticate\nR: create Sent\nR: list\nR: create INBOX\nR: subscribe Sent\nR: "
           "subscribe Sent\n"
           "R: rename Sent Sent & more\nR: rename Sent Other\nR: delete Sent & more\n"},
    {"namespace, enable",
     LOGIN "C: b NAMESPACE\nS: * NAMESPACE ((\"\" \"/\")) ((\"Other Users/\" \"/\")) NIL\nS: b OK "
           "NAMESPACE completed\n"
           "C: c ENABLE FROB\nS: * ENABLED\nS: c OK ENABLE completed\n"
           "C: d ENABLE CONDSTORE\nS: * ENABLED CONDSTORE\nS: d OK ENABLE completed\n" LOGOUT},
    {"close expunges",
     SELECT "C: c STORE 2 +FLAGS.SILENT \\Deleted\nS: c OK STORE completed\n"
            "C: d CLOSE\nS: d OK CLOSE completed\nC: e STATUS INBOX (MESSAGES)\n"
            "S: * STATUS \"INBOX\" (MESSAGES 2)\nS: e OK STATUS completed\n" LOGOUT},
    {"the mailbox goes",
     SELECT "C: c DELETE Work\nS: c OK DELETE completed\n! hook delete\n! notify\n"
            "C: d NOOP\nS: d OK NOOP completed\n"
            "S: * BYE The selected mailbox is no longer there\n! close\n"},
    {"the mailbox goes, and an APPEND to another succeeds",
     SELECT "! hook delete\n! notify\nC: c APPEND Work {1+}\nC: x\n"
            "S: c OK [APPENDUID 1004 1] APPEND completed\n"
            "S: * BYE The selected mailbox is no longer there\n! close\n"},
    {"the selected mailbox is deleted",
     LOGIN "C: b SELECT Work\nS* * FLAGS *\nS* * OK *\nS: * 0 EXISTS\nS: * 0 RECENT\n"
           "S* * OK *\nS* * OK *\nS* * OK *\nS* * OK *\nS* b OK *\n"
           "C: c DELETE Work\nS: * OK [CLOSED] The mailbox was deleted\nS: c OK DELETE completed\n"
           "! notify\nC: d CHECK\nS: d BAD Select a mailbox first\n" LOGOUT},
};

static const struct conversation appends[] = {
    {"append", LOGIN
     "C: b APPEND INBOX {5}\nS: + OK\nC= hello\nC:\nS: b OK [APPENDUID 1001 8] APPEND completed\n"
     "C: c APPEND inbox (\\Seen $New \\Recent) \" 7-Feb-1994 21:52:25 -0800\" {5+}\nC= "
     "world\\r\\n\n"
     "S: c OK [APPENDUID 1001 9] APPEND completed\n"
     "C: d APPEND {4}\nS: + OK\nC: Work () {2}\nS: + OK\nC: xy\nS: d OK [APPENDUID 1004 1] APPEND "
     "completed\n" LOGOUT "R* authenticate\nR: append INBOX [body=0 bytes=5 flags=0]\n"
     "R: append INBOX [body=0 bytes=5 flags=1 date=760686745/-480]\nR: append Work [body=0 bytes=2 "
     "flags=0]\n"},
    {"append to the selected mailbox",
     SELECT "C: b APPEND INBOX {5}\nS: + OK\nC= hello\nC:\nS: * 4 EXISTS\n"
            "S: b OK [APPENDUID 1001 8] APPEND completed\n" LOGOUT},
    {"several messages",
     LOGIN "C: b APPEND INBOX (\\Seen) {5}\nS: + OK\nC= hello (\\\\Flagged) {3+}\\r\\nabc "
           "\"01-Jan-2026 00:00:00 +0000\" {1+}\\r\\nx\\r\\n\n"
           "S: b OK [APPENDUID 1001 8:10] APPEND completed\n" LOGOUT
           "R* authenticate\nR: body-put body=0 bytes=5\nR: body-put body=0 bytes=3\n"
           "R: append INBOX [body=1 bytes=0 flags=1] [body=2 bytes=0 flags=4] [body=0 bytes=1 "
           "flags=0 date=1767225600/0]\n"},
    {"a large message",
     LOGIN "C: b APPEND INBOX {600000+}\nC= \\{600000}x\nC:\nS: b OK [APPENDUID 1001 8] APPEND "
           "completed\n"
           "C: c STATUS INBOX (SIZE)\nS* * STATUS \"INBOX\" (SIZE 600*)\nS: c OK STATUS "
           "completed\n" LOGOUT
           "R* authenticate\nR: body-put body=0 bytes=262144\nR: body-put body=1 bytes=262144\n"
           "R: append INBOX [body=1 bytes=75712 flags=0]\nR: status INBOX\n"},
    {"no such mailbox",
     LOGIN "C: b APPEND Nowhere {3+}\nC: abc\nS: b NO [TRYCREATE] No such mailbox\n"
           "C: c APPEND Nowhere {270000+}\nC= \\{270000}x\nC:\nS: c NO [TRYCREATE] No such "
           "mailbox\n" LOGOUT "R* authenticate\nR: append Nowhere [body=0 bytes=3 flags=0]\nR: "
           "body-put body=0 bytes=262144\n"
           "R: append Nowhere [body=1 bytes=7856 flags=0]\nR: body-drop body=1 bytes=0\n"},
    {"too big",
     LOGIN "C: b APPEND INBOX {600001}\nS: b NO [TOOBIG] Message is larger than this server takes\n"
           "C: c APPEND INBOX {600001+}\nC= \\{600001}x\nC:\nS: c NO [TOOBIG] Message is larger "
           "than this server takes\n"
           "C: d NOOP\nS: d OK NOOP completed\n"
           "C: e APPEND INBOX {2000000+}\nS: * BYE [TOOBIG] Message is larger than this server "
           "takes\n! close\n"},
    {"malformed", LOGIN
     "C: b APPEND INBOX\nS: b BAD Missing argument\n"
     "C: c APPEND INBOX (\\Frob) {5}\nS: c BAD Unknown system flag\n"
     "C: d APPEND INBOX (\\Frob) {5+}\nC: hello\nS: d BAD Unknown system flag\n"
     "C: e APPEND \"&&\" {5+}\nC: hello\nS: e NO [CANNOT] The name cannot be used\n"
     "C: f APPEND INBOX \"99-Jan-2026 00:00:00 +0000\" {5+}\nC: hello\nS: f BAD Malformed date\n"
     "C: f APPEND INBOX \"31-Feb-2026 00:00:00 +0000\" {5+}\nC: hello\nS: f BAD Malformed date\n"
     "C: g APPEND INBOX {5+}\nC: hello there\nS: g BAD Unexpected argument\n"
     "C: h APPEND INBOX {5+}\nC: hello (\\Frob) {3+}\nC: abc (\\Seen) {1+}\nC: x\nS: h BAD Unknown "
     "system flag\n"
     "C: i APPEND INBOX {0}\nS: i NO [CANNOT] An empty message cannot be appended\n"
     "C: j APPEND INBOX {5+}\nC: hello {0+}\nC:\nS: j NO [CANNOT] An empty message cannot be "
     "appended\n"
     "C: k APPEND \"\" {5}\nS: k NO [CANNOT] A mailbox must have a name\n" LOGOUT
     "R* authenticate\nR: body-put body=0 bytes=5\nR: body-drop body=1 bytes=0\nR: body-put body=0 "
     "bytes=5\n"
     "R: body-drop body=2 bytes=0\n"},
    {"NUL in a message",
     LOGIN "C= b APPEND INBOX {5+}\\r\\nhe\\0lo\\r\\n\nS: b BAD A literal cannot hold NUL\n"
           "C= c APPEND INBOX {300000+}\\r\\n\\{299999}x\\0\\r\\n\nS: c BAD A literal cannot hold "
           "NUL\n" LOGOUT "R* authenticate\nR: body-put body=0 bytes=262144\n"
           "R: body-drop body=1 bytes=0\n"},
    {"shutdown waits for what is under way",
     LOGIN "! hold\nC: b APPEND INBOX {5+}\nC: hello\nC: c APPEND INBOX {5+}\nC: hello\n! wait\n"
           "! shutdown\n! open\n! release\nS: b OK [APPENDUID 1001 8] APPEND completed\n"
           "S: * BYE Server is shutting down\n! close\n"
           "R* authenticate\nR: append INBOX [body=0 bytes=5 flags=0]\n"},
    {"shutdown does not wait for the rest of a message",
     LOGIN "C= b APPEND INBOX {5+}\\r\\nhel\n! shutdown\nS: * BYE Server is shutting down\n"
           "! close\nR* authenticate\n"},
    {"a body that is not taken",
     LOGIN "! hook fail body-put nospace\nC: b APPEND INBOX {600000+}\nC= \\{600000}x\nC:\n"
           "S: b NO [UNAVAILABLE] Temporarily unavailable, please try again later\n" LOGOUT},
    {"degraded",
     LOGIN "! hook fail append unavailable\nC: b APPEND INBOX {5+}\nC: hello\n"
           "S: b NO [UNAVAILABLE] Temporarily unavailable, please try again later\n" LOGOUT},
    {"broken off",
     LOGIN "C= b APPEND INBOX {600000+}\\r\\n\\{300000}x\n! wait\n! eof\n! close\n"
           "R* authenticate\nR: body-put body=0 bytes=262144\nR: body-drop body=1 bytes=0\n"},
};

static void test_before_login(void **state)
{
    RUN(before_login);
}

static void test_mailboxes(void **state)
{
    RUN(mailboxes);
}

static void test_append(void **state)
{
    RUN(appends);
}

static void test_in_the_clear(void **state)
{
    static const struct conversation clear[] = {
        {"no passwords in the clear",
         "S: * OK [CAPABILITY " CAPS_BEFORE
         " STARTTLS LOGINDISABLED] mx.example.org Sternpost 0.1 ready\n"
         "C: a LOGIN alice@example.org secret\n"
         "S: a NO [PRIVACYREQUIRED] Passwords are accepted under TLS only\n"
         "C: a AUTHENTICATE PLAIN\nS: a NO [PRIVACYREQUIRED] Passwords are accepted under TLS "
         "only\n"
         "C: b STARTTLS\nS: b OK Begin TLS negotiation now\n! tls\n"
         "C: c LOGIN alice@example.org secret\nS* c OK [CAPABILITY *] Logged in\n" LOGOUT},
    };
    struct sp_session_peer far = {.id = 2, .address = "192.0.2.1"};
    run_conversations(clear, 1, &far);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_before_login),
        cmocka_unit_test(test_in_the_clear),
        cmocka_unit_test(test_mailboxes),
        cmocka_unit_test(test_append),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
