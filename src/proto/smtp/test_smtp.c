/* SMTP and LMTP as conversations: every command, limit and error. See proto/transcript.h. */
#include "base/log.h"
#include "proto/smtp/test_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

/* ---- Parts of transcripts ---- */

#define BANNER "S: 220 mx.example.org ESMTP Sternpost 0.1\n"
#define EXTENSIONS                                                                                 \
    "S: 250-ENHANCEDSTATUSCODES\n"                                                                 \
    "S: 250-8BITMIME\n"                                                                            \
    "S: 250-CHUNKING\n"                                                                            \
    "S: 250 SMTPUTF8\n"
#define CAPABLE                                                                                    \
    "S: 250-mx.example.org\n"                                                                      \
    "S: 250-PIPELINING\n"                                                                          \
    "S: 250-SIZE 400000\n"
#define EHLO BANNER "C: EHLO client.example.net\n" CAPABLE "S: 250-STARTTLS\n" EXTENSIONS
#define LHLO                                                                                       \
    "S: 220 mx.example.org LMTP Sternpost 0.1\n"                                                   \
    "C: LHLO client.example.net\n" CAPABLE "S: 250-STARTTLS\n" EXTENSIONS
#define FROM      "C: MAIL FROM:<s@example.net>\nS: 250 2.1.0 Ok\n"
#define TO(who)   "C: RCPT TO:<" who "@example.org>\nS: 250 2.1.5 Ok\n"
#define DATA      "C: DATA\nS: 354 End with CRLF.CRLF\n"
#define STORED(n) "S: 250 2.0.0 Ok: stored as 1122334455667788-" n "\n"
#define QUIT      "C: QUIT\nS: 221 2.0.0 Bye\n! close\n"
#define BARE      "S: 550 5.6.11 Message refused: CR or LF alone, lines must end with CRLF\n"
#define TOO_MUCH  "S: 421 4.7.0 Too much data after a refusal\n"
#define TROUBLE   "S: 451 4.3.0 Trouble on our side, please try again later\n"
#define TOO_BIG   "S: 552 5.3.4 Message is too big\n"
#define NO_SPACE  "S: 452 4.3.1 Out of space, please try again later\n"
/* What stands before the message, with one recipient and with several. */
#define TRACE(with, n, who)                                                                        \
    "Return-Path: <s@example.net>\\r\\nReceived: from client.example.net "                         \
    "([192.0.2.7])\\r\\n\tby mx.example.org (Sternpost) with " with " id 1122334455667788-" n      \
    "\\r\\n\tfor <" who "@example.org>;\\r\\n\tMon, 24 Nov 2025 16:00:00 +0000\\r\\n"

struct conversation {
    const char *name, *text;
};

static const struct conversation smtp[] = {
    {"one message", EHLO FROM TO("a") DATA "C: Subject: hello\nC:\nC: Hi.\nC: .\n" STORED("1") QUIT
     "R: resolve a@example.org\n"
     "R: deliver 224:" TRACE(
         "ESMTP", "1",
         "a") "Subject: hello\\r\\n\\r\\nHi.\\r\\n <s@example.net> a@example.org (1)\n"},
    {"two messages, two recipients", EHLO FROM TO("a") TO("b") DATA
     "C: x\nC: .\n" STORED("1") "C: MAIL FROM:<>\nS: 250 2.1.0 Ok\n" TO("a") DATA
     "C: .\n" STORED("2") QUIT
     "R: resolve a@example.org\nR: resolve b@example.org\n"
     "R: deliver 182:Return-Path: <s@example.net>\\r\\nReceived: from client.example.net "
     "([192.0.2.7])\\r\\n\tby mx.example.org (Sternpost) with ESMTP id 1122334455667788-1;"
     "\\r\\n\tMon, 24 Nov 2025 16:00:00 +0000\\r\\nx\\r\\n <s@example.net> a@example.org "
     "b@example.org (2)\n"
     "R: resolve a@example.org\n"
     "R* deliver *:Return-Path: <>\\r\\n* +0000\\r\\n <> a@example.org (1)\n"},
    {"HELO",
     BANNER "C: helo [192.0.2.7]\nS: 250 mx.example.org\n" FROM TO("a") DATA "C: .\n" STORED("1")
         QUIT "R: resolve a@example.org\n"
              "R* deliver *Received: from [192.0.2.7] ([192.0.2.7])*with SMTP id *\n"},
    {"only after a greeting", BANNER
     "C: MAIL FROM:<a@b>\nS: 503 5.5.1 Say hello first\n"
     "C: RCPT TO:<a@b>\nS: 503 5.5.1 Say hello first\nC: DATA\nS: 503 5.5.1 Say hello first\n"
     "C: BDAT 3 LAST\nC= abc\nS: 503 5.5.1 Say hello first\n" QUIT},
    {"bad greetings",
     BANNER "C: EHLO\nS: 501 5.5.4 Bad host name\nC: EHLO a b\nS: 501 5.5.4 Bad host name\n"
            "C: HELO a(b)\nS: 501 5.5.4 Bad host name\nC: HELO [\nS: 501 5.5.4 Bad host name\n"
            "C: HELO ..\nS: 501 5.5.4 Bad host name\nC: HELO a..b\nS: 501 5.5.4 Bad host name\n"
            "C: HELO []\nS: 501 5.5.4 Bad host name\nC= EHLO \\{256}a\\r\\n\n"
            "S: 501 5.5.4 Bad host name\nC: LHLO a\nS: 500 5.5.1 Command not known\n"
            "C: HELO under_score\nS: 250 mx.example.org\n"
            "C: HELO [IPv6:2001:db8::1]\nS: 250 mx.example.org\n" QUIT},
    {"a greeting ends the transaction",
     EHLO FROM TO("a") "C: EHLO x\n" CAPABLE "S: 250-STARTTLS\n" EXTENSIONS
                       "C: DATA\nS: 503 5.5.1 MAIL comes first\n" QUIT},
    {"small commands",
     BANNER "C: NOOP\nS: 250 2.0.0 Ok\nC: noop what ever\nS: 250 2.0.0 Ok\n"
            "C: RSET\nS: 250 2.0.0 Ok\nC: RSET now\nS: 501 5.5.4 No argument expected\n"
            "C: VRFY a\nS: 252 2.5.0 Cannot verify, but will take mail for whom RCPT accepts\n"
            "C: VRFY\nS: 501 5.5.4 Bad argument\n"
            "C: EXPN all\nS: 502 5.5.1 Command not implemented\n"
            "C: AUTH PLAIN AGEAYg==\nS: 502 5.5.1 Command not implemented\n"
            "C: HELP\nS: 214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS QUIT\n"
            "C: WHAT\nS: 500 5.5.1 Command not known\nC:\nS: 500 5.5.1 Command not known\n"
            "C: QUIT \nS: 221 2.0.0 Bye\n! close\n"},
    {"nothing is heard after QUIT", BANNER QUIT "C: NOOP\n! wait\n! close\n"},
    {"QUIT in front of others", BANNER "C: QUIT\nC: NOOP\nS: 221 2.0.0 Bye\n! close\n"},
    {"MAIL", EHLO
     "C: MAIL\nS: 501 5.1.7 Bad sender address\nC: MAIL FROM\nS: 501 5.1.7 Bad sender address\n"
     "C: MAIL TO:<a@b>\nS: 501 5.1.7 Bad sender address\n"
     "C: MAIL FROM:a@b\nS: 501 5.1.7 Bad sender address\n"
     "C: MAIL FROM:<a>\nS: 501 5.1.7 Bad sender address\n"
     "C= MAIL FROM:<\\{400}a@b>\\r\\n\nS: 501 5.1.7 Sender address is too long\n"
     "C: mail from: <s@example.net>  size=99  body=8bitmime\nS: 250 2.1.0 Ok\n"
     "C: MAIL FROM:<a@b>\nS: 503 5.5.1 A transaction is open already\n" QUIT},
    {"MAIL's parameters",
     EHLO "C: MAIL FROM:<a@b> SIZE=400001\nS: 552 5.3.4 Message is too big\n"
          "C: MAIL FROM:<a@b> SIZE=99999999999999999999\nS: 552 5.3.4 Message is too big\n"
          "C: MAIL FROM:<a@b> SIZE=\nS: 501 5.5.4 Bad argument\n"
          "C: MAIL FROM:<a@b> SIZE=1x\nS: 501 5.5.4 Bad argument\n"
          "C: MAIL FROM:<a@b> SIZE=1 SIZE=1\nS: 501 5.5.4 Bad argument\n"
          "C: MAIL FROM:<a@b> BODY=BINARYMIME\nS: 501 5.5.4 BODY is 7BIT or 8BITMIME here\n"
          "C: MAIL FROM:<a@b> SMTPUTF8=yes\nS: 501 5.5.4 Bad argument\n"
          "C: MAIL FROM:<a@b> RET=HDRS\nS: 555 5.5.4 Parameter not known\n"
          "C: MAIL FROM:<a@b> SIZE=400000 BODY=7BIT SMTPUTF8\nS: 250 2.1.0 Ok\n" QUIT},
    {"no parameters after HELO",
     BANNER "C: HELO x\nS: 250 mx.example.org\n"
            "C: MAIL FROM:<a@b> SIZE=1\nS: 555 5.5.4 Parameter not known\n" QUIT},
    {"RCPT",
     EHLO "C: RCPT TO:<a@example.org>\nS: 503 5.5.1 MAIL comes first\n" FROM
          "C: RCPT TO:<>\nS: 553 5.1.3 Recipient address needs a domain\n"
          "C: RCPT TO:<a>\nS: 553 5.1.3 Recipient address needs a domain\n"
          "C: RCPT TO:a@example.org\nS: 501 5.1.3 Bad recipient address\n"
          "C= RCPT TO:<\\{400}a@b>\\r\\n\nS: 501 5.1.3 Recipient address is too long\n"
          "C: RCPT TO:<a@example.org> NOTIFY=NEVER\nS: 555 5.5.4 Parameter not known\n"
          "C: RCPT TO:<unknown@example.org>\nS: 550 5.1.1 No such user here\n"
          "C: RCPT TO:<a@elsewhere.example>\nS: 550 5.7.1 Relaying denied\n"
          "C: RCPT TO:<busy@example.org>\n" TROUBLE "C: RCPT TO:<full@example.org>\n" NO_SPACE
          "C: RCPT TO:<odd@example.org>\nS: 553 5.1.3 Bad recipient address\n"
          "C: DATA\nS: 554 5.5.1 No valid recipients\n" TO(
              "a") "C: DATA now\n"
                   "S: 501 5.5.4 No argument expected\n" QUIT},
    {"postmaster needs no domain",
     EHLO FROM "C: RCPT TO:<PostMaster>\nS: 250 2.1.5 Ok\n" DATA "C: .\n" STORED("1") QUIT
     "R: resolve PostMaster@mx.example.org\n"
     "R* deliver *for <PostMaster@mx.example.org>;* PostMaster@mx.example.org (1)\n"},
    {"DATA needs a transaction",
     EHLO "C: DATA\nS: 503 5.5.1 MAIL comes first\n" FROM "C: DATA\nS: 503 5.5.1 RCPT comes first\n"
          "C: RSET\nS: 250 2.0.0 Ok\nC: DATA\nS: 503 5.5.1 MAIL comes first\n" QUIT},
    {"dots",
     EHLO FROM TO("a") DATA "C: ..\nC: ...b\nC: .c\nC: d.\nC: \nC: ..\nC: .\n" STORED("1") QUIT
     "R: resolve a@example.org\n"
     "R* deliver *+0000\\r\\n.\\r\\n..b\\r\\nc\\r\\nd.\\r\\n\\r\\n.\\r\\n <s@example.net> *\n"},
    {"octets stay as they are", EHLO FROM TO("a") DATA
     "C= a\\0b\\x80\\xff\\r\\nno header\\r\\n\\r\\n\\r\\n.\\r\\n\n" STORED("1") QUIT
     "R: resolve a@example.org\n"
     "R* deliver *+0000\\r\\na\\0b\x80\xff\\r\\nno header\\r\\n\\r\\n\\r\\n <s@example.net> *\n"},
    {"a message without a header is no part of ours",
     EHLO FROM TO("a") DATA "C:  x: y\nC: .\n" STORED("1") FROM TO("a") DATA
     "C: .\tz\nCx 101 Received: in the body\nC: .\n" STORED("2")
         FROM TO("a") "C: BDAT 1\nC=  \nS: 250 2.0.0 Ok\nC: BDAT 1 LAST\nC= b\n" STORED("3")
             FROM TO("a") DATA "C: x\nC:  y\nC: .\n" STORED("4") QUIT
     "R: resolve a@example.org\nR* deliver *+0000\\r\\n\\r\\n x: y\\r\\n <s@example.net> *\n"
     "R: resolve a@example.org\nR* deliver *\n"
     "R: resolve a@example.org\nR* deliver *+0000\\r\\n\\r\\n b <s@example.net> *\n"
     "R: resolve a@example.org\nR* deliver *+0000\\r\\nx\\r\\n y\\r\\n <s@example.net> *\n"},
    {"unknown commands in the data are data",
     EHLO FROM TO("a") DATA "C: QUIT\nC: RSET\nC: .\n" STORED("1") QUIT},
    {"many recipients",
     EHLO FROM "Cx 1000 RCPT TO:<a@example.org>\nSx 1000 250 2.1.5 Ok\n"
               "Cx 210 RCPT TO:<b@example.org>\nSx 210 452 4.5.3 Too many recipients\n" DATA
               "C: .\n" STORED("1") QUIT},
    {"some of them fail at the end: nobody gets it, the sender tries again",
     EHLO FROM TO("gone") TO("a") DATA "C: .\n" TROUBLE FROM TO("a") TO("late") DATA
     "C: .\n" TROUBLE FROM TO("a") TO("a") DATA "C: .\n" STORED("3") QUIT},
    {"all of them are gone",
     EHLO FROM TO("gone") TO("moved") DATA "C: .\nS: 550 5.1.1 No such user here\n" QUIT},
    {"all fail, one of them for now",
     EHLO FROM TO("gone") TO("late") TO("gone") DATA "C: .\n" TROUBLE QUIT},
    {"storage fails", EHLO "! hook deliver-unavailable\n" FROM TO("a") DATA
     "C: .\n" TROUBLE "! hook deliver-no-space\n" FROM TO("a") DATA
     "C: .\n" NO_SPACE "! hook deliver-limit\n" FROM TO("a") DATA "C: .\n" TOO_BIG QUIT},
    {"250 comes after the reply",
     EHLO FROM TO("a") "! hold\n" DATA "C: x\nC: .\nC: NOOP\n! open\n! release\n" STORED(
         "1") "S: 250 2.0.0 Ok\n" QUIT},
    {"RCPT waits", EHLO FROM "! hold\nC: RCPT TO:<a@example.org>\nC: RSET\n! wait\n! release\n"
                             "S: 250 2.1.5 Ok\nS: 250 2.0.0 Ok\n" QUIT},
    {"too many hops", EHLO FROM TO("a") DATA
     "Cx 101 Received: from somewhere\nC:\nC: .\n"
     "S: 554 5.4.6 Too many Received fields, this is a mail loop\n" FROM TO("a") DATA
     "Cx 100 Received: from somewhere\nC:\nCx 10 Received: in the body\nC: .\n" STORED("2") QUIT},
};

static const struct conversation smuggling[] = {
    {"LF . LF", EHLO FROM TO("a") DATA "C= x\\n.\\nMAIL FROM:<evil@b>\\n\\r\\n.\\r\\n\n" BARE QUIT
                                       "R: resolve a@example.org\n"},
    {"LF . CRLF", EHLO FROM TO("a") DATA "C= x\\n.\\r\\nMAIL FROM:<evil@b>\\r\\n.\\r\\n\n" BARE QUIT
                                         "R: resolve a@example.org\n"},
    {"CRLF . LF", EHLO FROM TO("a") DATA "C= x\\r\\n.\\nMAIL FROM:<evil@b>\\r\\n.\\r\\n\n" BARE QUIT
                                         "R: resolve a@example.org\n"},
    {"CR . CR", EHLO FROM TO("a") DATA "C= x\\r.\\rMAIL FROM:<evil@b>\\r\\n.\\r\\n\n" BARE QUIT},
    {"CR . CRLF",
     EHLO FROM TO("a") DATA "C= x\\r.\\r\\nMAIL FROM:<evil@b>\\r\\n.\\r\\n\n" BARE QUIT},
    {"CRLF . CR",
     EHLO FROM TO("a") DATA "C= x\\r\\n.\\rMAIL FROM:<evil@b>\\r\\n.\\r\\n\n" BARE QUIT},
    {"CR CRLF . CRLF", EHLO FROM TO("a") DATA "C= x\\r\\r\\n.\\r\\n\n" BARE QUIT},
    {"CRLF . CR CRLF", EHLO FROM TO("a") DATA "C= x\\r\\n.\\r\\r\\n.\\r\\n\n" BARE QUIT},
    {"CRLF NUL . CRLF is text",
     EHLO FROM TO("a") DATA "C= x\\r\\n\\0.\\r\\n.\\r\\n\n" STORED("1") QUIT},
    {"LF at once", EHLO FROM TO("a") DATA "C= \\n.\\r\\n\\r\\n.\\r\\n\n" BARE QUIT},
    {"the next message is good", EHLO FROM TO("a") DATA
     "C= x\\n.\\r\\n\\r\\n.\\r\\n\n" BARE FROM TO("a") DATA "C: .\n" STORED("2") QUIT},
    {"refused for as many octets as a message may have, then closed",
     EHLO FROM TO("a") DATA "C= x\\ny\\{440000}z\n" BARE TOO_MUCH "! close\n"},
    {"commands end with CRLF, too",
     BANNER "C= NOOP\\nNOOP\\r\\n\nS: 500 5.5.2 Lines end with CRLF\nS: 250 2.0.0 Ok\n"
            "C= NO\\rOP\\r\\n\nS: 500 5.5.2 Syntax error\nC= NOOP\\0\\r\\n\nS: 500 5.5.2 Syntax "
            "error\n" QUIT},
};

#define BIG_DATA(n) "C= \\{" n "}a\\r\\n.\\r\\n\n"

static const struct conversation sizes[] = {
    {"as big as may be", EHLO FROM TO("a") DATA BIG_DATA("399998") STORED("1") QUIT
     "R: resolve a@example.org\nR: put 0 262144:\n"
     "R: deliver 1+138057: <s@example.net> a@example.org (1)\n"},
    {"one more", EHLO FROM TO("a") DATA BIG_DATA(
                     "399999") "S: 552 5.3.4 Message is too big\n" QUIT
                               "R: resolve a@example.org\nR: put 0 262144:\nR: drop 1\n"},
    {"a line end fails after a piece was put",
     EHLO FROM TO("a") DATA "C= \\{300000}a\\n\\r\\n.\\r\\n\n" BARE QUIT
                            "R: resolve a@example.org\nR: put 0 262144:\nR: drop 1\n"},
    {"a piece cannot be put", EHLO "! hook put-io\n" FROM TO("a") DATA BIG_DATA("300000")
                                  TROUBLE QUIT "R: resolve a@example.org\nR: put 0 262144:\n"},
    {"mail finds it too long", EHLO "! hook put-limit\n" FROM TO("a") DATA BIG_DATA("300000")
                                   TOO_BIG QUIT "R: resolve a@example.org\nR: put 0 262144:\n"},
    {"no space for a piece",
     EHLO "! hook put-no-space\n" FROM TO("a") DATA BIG_DATA("300000") NO_SPACE QUIT},
    {"delivery fails after a piece was put",
     EHLO "! hook deliver-unavailable\n" FROM TO("a") DATA BIG_DATA("300000") TROUBLE QUIT
     "R: resolve a@example.org\nR: put 0 262144:\n"
     "R: deliver 1+38059: <s@example.net> a@example.org (1)\nR: drop 1\n"},
    {"the client goes away after a piece was put",
     EHLO FROM TO("a") DATA "C= \\{300000}a\n! eof\n! close\n"
                            "R: resolve a@example.org\nR: put 0 262144:\nR: drop 1\n"},
    {"the client goes away while a piece is being put",
     EHLO FROM TO("a") DATA "! hold\nC= \\{270000}a\n! eof\n! release\n! close\n"
                            "R: resolve a@example.org\nR: put 0 262144:\nR: drop 1\n"},
    {"the server stops while a piece is being put", EHLO FROM TO("a") DATA
     "! hold\nC= \\{270000}a\n! shutdown\nS: 421 4.3.2 Server is stopping\n"
     "! close\n! release\nR: resolve a@example.org\nR: put 0 262144:\nR: drop 1\n"},
    {"a line end fails while a piece is being put",
     EHLO FROM TO("a") DATA "! hold\nC= \\{270000}a\\n\\r\\n.\\r\\n\n! wait\n! release\n" BARE QUIT
                            "R: resolve a@example.org\nR: put 0 262144:\nR: drop 1\n"},
    {"delivery fails when nobody waits for it any more", EHLO FROM TO("a") DATA
     "C= \\{300000}a\n! hook deliver-unavailable\n! hold\n"
     "C= \\r\\n.\\r\\n\n! tick 600000\nS: 421 4.3.0 No answer from storage\n! release\n! close\n"
     "R: resolve a@example.org\nR: put 0 262144:\n"
     "R: deliver 1+38059: <s@example.net> a@example.org (1)\nR: drop 1\n"},
    {"the end of the data waits for the piece",
     EHLO FROM TO("a") DATA "! hold\n" BIG_DATA("270000") "C: NOOP\n! wait\n! release\n" STORED(
         "1") "S: 250 2.0.0 Ok\n" QUIT},
    {"a command of the greatest length",
     BANNER "C= NOOP \\{2041}x\\r\\n\nS: 250 2.0.0 Ok\nC= NOOP \\{2042}x\\r\\n\n"
            "S: 500 5.5.2 Line is too long\nC= NOOP \\{9000}x\\r\\nNOOP\\r\\n\n"
            "S: 500 5.5.2 Line is too long\nS: 250 2.0.0 Ok\n" QUIT},
};

static const struct conversation chunking[] = {
    {"one chunk", EHLO FROM TO("a") "C: BDAT 5 LAST\nC= ab\\r\\n.\n" STORED("1") QUIT
     "R: resolve a@example.org\nR* deliver *+0000\\r\\nab\\r\\n. <s@example.net> *\n"},
    {"chunks may be cut anywhere",
     EHLO FROM TO(
         "a") "C: BDAT 4\nC= .\\r\\n.\nS: 250 2.0.0 Ok\nC: BDAT 1\nC= \\r\n"
              "S: 250 2.0.0 Ok\nC: BDAT 3\nC= \\n..\nS: 250 2.0.0 Ok\nC: BDAT 0 LAST\n" STORED("1")
                  QUIT
     "R: resolve a@example.org\nR* deliver *+0000\\r\\n.\\r\\n.\\r\\n.. <s@example.net> *\n"},
    {"an empty message", EHLO FROM TO("a") "C: BDAT 0 last\n" STORED("1") QUIT},
    {"no CR or LF alone",
     EHLO FROM TO("a") "C: BDAT 3 LAST\nC= a\\nb\n" BARE FROM TO(
         "a") "C: BDAT 3 LAST\nC= a\\rb\n" BARE FROM TO("a") "C: BDAT 2 LAST\nC= a\\r\n" BARE FROM
         TO("a") "C: BDAT 2\nC= a\\r\nS: 250 2.0.0 Ok\nC: BDAT 1 LAST\nC= b\n" BARE QUIT},
    {"after a refused chunk the rest is swallowed",
     EHLO FROM TO("a") "C: BDAT 3\nC= a\\nb\n" BARE
                       "C: BDAT 6\nC= QUIT\\r\\n\nS: 503 5.5.1 MAIL comes first\n"
                       "C: BDAT 1 LAST\nC= x\nS: 503 5.5.1 MAIL comes first\n" QUIT},
    {"without recipients the octets are swallowed",
     EHLO FROM "C: BDAT 6 LAST\nC= RSET\\r\\n\nS: 503 5.5.1 RCPT comes first\n"
               "C: RCPT TO:<unknown@example.org>\nS: 550 5.1.1 No such user here\n"
               "C: BDAT 6 LAST\nC= RSET\\r\\n\nS: 554 5.5.1 No valid recipients\n" QUIT},
    {"no RCPT, DATA or MAIL in between",
     EHLO FROM TO("a") "C: BDAT 1\nC= a\nS: 250 2.0.0 Ok\n"
                       "C: RCPT TO:<b@example.org>\nS: 503 5.5.1 Data has begun\n"
                       "C: DATA\nS: 503 5.5.1 BDAT has begun\n"
                       "C: MAIL FROM:<a@b>\nS: 503 5.5.1 A transaction is open already\n"
                       "C: NOOP\nS: 250 2.0.0 Ok\nC: BDAT 1 LAST\nC= b\n" STORED("1") QUIT
     "R: resolve a@example.org\nR* deliver *+0000\\r\\nab <s@example.net> *\n"},
    {"RSET in between", EHLO FROM TO("a") "C: BDAT 300000\nC= \\{300000}a\nS: 250 2.0.0 Ok\n"
                                          "C: RSET\nS: 250 2.0.0 Ok\n" FROM TO(
                                              "a") "C: BDAT 1 LAST\nC= b\n" STORED("2") QUIT
     "R: resolve a@example.org\nR: put 0 262144:\nR: drop 1\nR: resolve a@example.org\n"
     "R* deliver *+0000\\r\\nb <s@example.net> *\n"},
    {"too big", EHLO FROM TO("a") "C: BDAT 400001 LAST\nC= \\{400001}a\n"
                                  "S: 552 5.3.4 Message is too big\n" QUIT},
    {"far too big", EHLO FROM TO("a") "C: BDAT 18446744073709551615\nC= \\{900000}a\n"
                                      "S: 552 5.3.4 Message is too big\n" TOO_MUCH "! close\n"},
    {"a size that cannot be read",
     EHLO FROM TO("a") "C: BDAT 0x10 LAST\nC: NOOP\nS: 501 5.5.4 Bad chunk size\nS: 421 4.7.0 No "
                       "way to tell where the chunk ends\n! close\n"},
    {"not even a size", BANNER "C: BDAT\nS: 501 5.5.4 Bad chunk size\nS: 421 4.7.0 No way to tell "
                               "where the chunk ends\n! close\n"},
    {"a word that is not LAST",
     EHLO FROM TO("a") "C: BDAT 1 FIRST\nS: 501 5.5.4 Bad chunk size\nS: 421 4.7.0 No way to tell "
                       "where the chunk ends\n! close\n"},
};

static const struct conversation tls[] = {
    {"STARTTLS", EHLO "C: STARTTLS now\nS: 501 5.5.4 No argument expected\n"
                      "C: STARTTLS\nS: 220 2.0.0 Ready to start TLS\n! tls\n"
                      "C: MAIL FROM:<a@b>\nS: 503 5.5.1 Say hello first\n"
                      "C: EHLO client.example.net\n" CAPABLE EXTENSIONS
                      "C: STARTTLS\nS: 503 5.5.1 TLS is active already\n" FROM TO("a") DATA
     "C: .\n" STORED("1") QUIT "R: resolve a@example.org\nR* deliver *with ESMTPS id*\n"},
    {"what was sent before TLS is not heard in it",
     EHLO "C: STARTTLS\nC: EHLO evil\nC: MAIL FROM:<evil@b>\n"
          "S: 220 2.0.0 Ready to start TLS\n! tls\nC: NOOP\nS: 250 2.0.0 Ok\n"
          "C: DATA\nS: 503 5.5.1 Say hello first\n" QUIT},
    {"half a command before TLS is no half of one in it",
     EHLO "C= STARTTLS\\r\\nNO\nS: 220 2.0.0 Ready to start TLS\n! tls\n"
          "C: OP\nS: 500 5.5.1 Command not known\n" QUIT},
    {"a transaction does not outlive STARTTLS",
     EHLO FROM TO("a") "C: STARTTLS\nS: 220 2.0.0 Ready to start TLS\n! tls\n"
                       "C: EHLO client.example.net\n" CAPABLE EXTENSIONS
                       "C: DATA\nS: 503 5.5.1 MAIL comes first\n" QUIT},
    {"nothing in the clear once TLS is announced",
     EHLO "C: STARTTLS\nS: 220 2.0.0 Ready to start TLS\n! shutdown\n! close\n"},
};

static const struct conversation utf8[] = {
    {"addresses with the parameter",
     EHLO "C: MAIL FROM:<\xc3\xb6@\xc3\xa4.example> SMTPUTF8\nS: 250 2.1.0 Ok\n"
          "C: RCPT TO:<\xc3\xbc@\xc3\xa4.example>\nS: 250 2.1.5 Ok\n" DATA "C: .\n" STORED("1") QUIT
     "R: resolve \xc3\xbc@\xc3\xa4.example\n"
     "R* deliver *Return-Path: <\xc3\xb6@\xc3\xa4.example>*with UTF8SMTP id*"
     "for <\xc3\xbc@\xc3\xa4.example>;* <\xc3\xb6@\xc3\xa4.example> \xc3\xbc@\xc3\xa4.example "
     "(1)\n"},
    {"and without",
     EHLO "C: MAIL FROM:<\xc3\xb6@\xc3\xa4.example>\nS: 550 5.6.7 Address needs SMTPUTF8\n" FROM
          "C: RCPT TO:<\xc3\xbc@\xc3\xa4.example>\nS: 553 5.6.7 Address needs SMTPUTF8\n" QUIT},
    {"not UTF-8 at all",
     EHLO "C= MAIL FROM:<\\xf6@b> SMTPUTF8\\r\\n\nS: 501 5.1.7 Bad sender address\n" QUIT},
};

static const struct conversation limits[] = {
    {"errors", BANNER "Cx 20 WHAT\nSx 20 500 5.5.1 Command not known\n"
                      "S: 421 4.7.0 Too many errors\n! close\n"},
    {"unknown recipients",
     EHLO FROM "Cx 100 RCPT TO:<unknown@example.org>\nSx 100 550 5.1.1 No such user here\n"
               "S: 421 4.7.0 Too many unknown recipients\n! close\n"},
    {"recipients that are to wait do not count",
     EHLO FROM TO("a") "Cx 210 RCPT TO:<busy@example.org>\nSx 210 451 4.3.0 Trouble on our side, "
                       "please try again later\n" DATA "C: .\n" STORED("1") QUIT},
    {"commands that do nothing",
     BANNER "Cx 200 NOOP\nSx 200 250 2.0.0 Ok\n"
            "S: 421 4.7.0 Too many commands without a message\n! close\n"},
    {"a message in between", EHLO "Cx 150 NOOP\nSx 150 250 2.0.0 Ok\n" FROM TO("a") DATA
     "C: .\n" STORED("1") "Cx 150 NOOP\nSx 150 250 2.0.0 Ok\n" QUIT},
    {"a browser", BANNER "C: POST / HTTP/1.1\nC: Host: mx\nS: 421 4.7.0 This is not a web server\n"
                         "! close\n"},
    {"no command for five minutes",
     EHLO "! tick 299999\n! open\n! tick 1\nS: 421 4.4.2 Timeout\n! close\n"},
    {"half a command is no sign of life",
     EHLO "! tick 200000\nC= NOO\n! tick 100000\nS: 421 4.4.2 Timeout\n! close\n"},
    {"a command is", EHLO "! tick 200000\nC: NOOP\nS: 250 2.0.0 Ok\n! tick 200000\n! open\n"},
    {"no data for three minutes",
     EHLO FROM TO("a") DATA "! tick 179999\nC= x\n! tick 179999\n! open\n! tick 1\n"
                            "S: 421 4.4.2 Timeout\n! close\nR: resolve a@example.org\n"},
    {"no chunk for three minutes",
     EHLO FROM TO("a") "C: BDAT 2\nC= x\n! tick 180000\nS: 421 4.4.2 Timeout\n! close\n"},
    {"no answer for ten minutes",
     EHLO FROM TO("a") "! hold\n" DATA "C: .\n! tick 599999\n! open\n! tick 1\n"
                       "S: 421 4.3.0 No answer from storage\n! close\n! release\n! close\n"},
    {"the client goes away",
     EHLO FROM TO("a") DATA "C: x\n! eof\n! close\nR: resolve a@example.org\n"},
    {"it may close its side early",
     EHLO FROM TO("a") "! hold\n" DATA "C: .\nC: NOOP\n! eof\n! open\n! release\n" STORED(
         "1") "S: 250 2.0.0 Ok\n! close\n"},
    {"the server stops", EHLO "! shutdown\nS: 421 4.3.2 Server is stopping\n! close\n"},
    {"it stops, but answers for the message first",
     EHLO FROM TO("a") "! hold\n" DATA "C: .\n! shutdown\n! open\n! release\n" STORED(
         "1") "S: 421 4.3.2 Server is stopping\n! close\n"},
    {"it stops in the data",
     EHLO FROM TO("a") DATA "C: x\n! shutdown\nS: 421 4.3.2 Server is stopping\n! close\n"},
    {"it stops while a recipient is looked for",
     EHLO FROM "! hold\nC: RCPT TO:<a@example.org>\n! shutdown\n"
               "S: 421 4.3.2 Server is stopping\n! release\n! close\n"},
};

static const struct conversation lmtp[] = {
    {"a reply for each recipient",
     LHLO FROM TO("a")
         TO("gone") "C: RCPT TO:<unknown@example.org>\nS: 550 5.1.1 No such user here\n" TO("late")
             TO("stuffed") TO("moved") TO("b") DATA
     "C: x\nC: .\n" STORED("1") "S: 550 5.1.1 No such user here\n" TROUBLE NO_SPACE
                                "S: 550 5.7.1 Relaying denied\n" STORED("1") QUIT},
    {"also when it is refused", LHLO FROM TO("a") TO("b") DATA
     "C= x\\n\\r\\n.\\r\\n\n" BARE BARE "! hook deliver-unavailable\n" FROM TO("a") TO("b") DATA
     "C: .\n" TROUBLE TROUBLE QUIT},
    {"BDAT: for each at the end, one for a chunk",
     LHLO FROM TO("a") TO("b") "C: BDAT 1\nC= x\nS: 250 2.0.0 Ok\nC: BDAT 0 LAST\n" STORED("1")
         STORED("1") FROM TO("a")
             TO("b") "C: BDAT 2\nC= x\\n\n" BARE
                     "C: BDAT 0 LAST\nS: 503 5.5.1 MAIL comes first\n" FROM TO("a")
                         TO("b") "C: BDAT 2 LAST\nC= x\\n\n" BARE BARE QUIT},
    {"always 503 without recipients",
     LHLO FROM "C: RCPT TO:<unknown@example.org>\nS: 550 5.1.1 No such user here\n"
               "C: DATA\nS: 503 5.5.1 RCPT comes first\n" QUIT},
    {"no EHLO, no HELO",
     "S: 220 mx.example.org LMTP Sternpost 0.1\nC: EHLO x\nS: 500 5.5.1 Command not known\n"
     "C: HELO x\nS: 500 5.5.1 Command not known\n"
     "C: HELP\nS: 214 2.0.0 LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS QUIT\n" QUIT},
    {"its name in Received", LHLO FROM TO("a") DATA
     "C: .\n" STORED("1") "C: STARTTLS\nS: 220 2.0.0 Ready to start TLS\n"
                          "! tls\nC: LHLO x\n" CAPABLE EXTENSIONS
                          "C: MAIL FROM:<> SMTPUTF8\nS: 250 2.1.0 Ok\n" TO("a") DATA
     "C: .\n" STORED("2") QUIT "R: resolve a@example.org\nR* deliver *with LMTP id*\n"
                               "R: resolve a@example.org\nR* deliver *with UTF8LMTPS id*\n"},
    {"a thousand replies",
     LHLO FROM "Cx 1000 RCPT TO:<a@example.org>\nSx 1000 250 2.1.5 Ok\n" DATA
               "C: .\nSx 1000 250 2.0.0 Ok: stored as 1122334455667788-1\n" QUIT},
};

/* ---- Running them ---- */

static void run(struct fake *fake, const struct conversation *conversations, size_t count)
{
    const struct sp_transcript_mail mail = {
        .user = fake,
        .ops = fake->flavour == SP_LMTP ? &sp_lmtp_ops : &sp_smtp_ops,
        .session_new = fake_session,
        .reset = fake_reset,
        .answer = fake_answer,
        .describe = fake_describe,
        .hook = fake_hook,
    };
    bool good = true;
    for (size_t i = 0; i < count; i++)
        good = sp_transcript_run(&mail, conversations[i].name, conversations[i].text) && good;
    assert_true(good);
}

#define SMTP_TEST(table)                                                                           \
    static void test_##table(void **state)                                                         \
    {                                                                                              \
        struct fake fake = fake_make(SP_SMTP_MX);                                                  \
        run(&fake, table, sizeof table / sizeof *table);                                           \
    }

SMTP_TEST(smtp)
SMTP_TEST(smuggling)
SMTP_TEST(sizes)
SMTP_TEST(chunking)
SMTP_TEST(tls)
SMTP_TEST(utf8)
SMTP_TEST(limits)

static void test_lmtp(void **state)
{
    struct fake fake = fake_make(SP_LMTP);
    run(&fake, lmtp, sizeof lmtp / sizeof *lmtp);
}

static void test_without_tls(void **state)
{
    static const struct conversation table[] = {
        {"not available", BANNER "C: EHLO client.example.net\n" CAPABLE EXTENSIONS
                                 "C: STARTTLS\nS: 502 5.5.1 No TLS here\n" QUIT},
    };
    struct fake fake = fake_make(SP_SMTP_MX);
    fake.env.tls_available = false;
    run(&fake, table, 1);
}

static void test_implicit_tls(void **state)
{
    static const struct conversation table[] = {
        {"TLS from the start",
         BANNER "C: EHLO client.example.net\n" CAPABLE EXTENSIONS
                "C: STARTTLS\nS: 503 5.5.1 TLS is active already\n" FROM TO("a") DATA
         "C: .\n" STORED("1") QUIT "R: resolve a@example.org\nR* deliver *with ESMTPS id*\n"},
    };
    struct fake fake = fake_make(SP_SMTP_MX);
    fake.implicit_tls = true;
    run(&fake, table, 1);
}

int main(void)
{
    sp_log_set_level(SP_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smtp),        cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_sizes),       cmocka_unit_test(test_chunking),
        cmocka_unit_test(test_tls),         cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_lmtp),
        cmocka_unit_test(test_without_tls), cmocka_unit_test(test_implicit_tls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
