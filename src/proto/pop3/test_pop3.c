/* POP3 as conversations: every command, limit and error. See proto/transcript.h. The numbers are
 * sections of RFC 1939 where no other RFC is named. */
#include "base/log.h"
#include "proto/pop3/test_fake.h"
#include "proto/test_scram_example.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define BANNER "S: +OK pop.example.org Sternpost 0.1 ready\n"
#define USER   "C: USER ada\nS: +OK Send the password\n"
#define LOGIN  BANNER USER "C: PASS se cret\nS: +OK Maildrop has 3 messages (88 octets)\n"
#define BYE    "C: QUIT\nS: +OK Bye\n! close\n"
#define LOGIN_REQUESTS                                                                             \
    "R: login ada/se cret\nR: hold\nR: open INBOX\nR: fetch 0 1-4294967295\nR: fetch 0 "           \
    "6-4294967295\n"
#define ID5 "05050505050505050505050505050505"
#define ID2 "02020202020202020202020202020202"
#define ID9 "09090909090909090909090909090909"

/* 35, 20 and 33 octets. */
#define MESSAGE(uid, literal)                                                                      \
    {                                                                                              \
        uid, {(const uint8_t *)(literal), sizeof(literal) - 1}, false                              \
    }
static const struct fake_message small[] = {
    MESSAGE(2, "Subject: one\r\n\r\n.dot\r\n..\r\n.\r\nlast\r\n"),
    MESSAGE(5, "Subject: two\r\n\r\nbare"),
    MESSAGE(9, "A: b\nC: d\n\nLF\n.\nmore\rcr\r\n\r\n.\r\nend"),
};

struct conversation {
    const char *name, *text;
};

static const struct conversation state[] = {
    {"4 login, look, leave", LOGIN
     "C: STAT\nS: +OK 3 88\n"
     "C: LIST\nS: +OK 3 messages (88 octets)\nS: 1 35\nS: 2 20\nS: 3 33\nS: .\n"
     "C: list 2\nS: +OK 2 20\n"
     "C: UIDL\nS: +OK Unique-id listing follows\nS: 1 " ID2 "\nS: 2 " ID5 "\nS: 3 " ID9 "\nS: .\n"
     "C: UIDL 3\nS: +OK 3 " ID9 "\n"
     "C: NOOP\nS: +OK\n" BYE LOGIN_REQUESTS "R: give back\n"},
    {"4 commands belong to states",
     BANNER "C: STAT\nS: -ERR Log in first\nC: RETR 1\nS: -ERR Log in first\n"
            "C: NOOP\nS: -ERR Log in first\nC: XYZZY\nS: -ERR Command not known\n"
            "C:\nS: -ERR Command not known\n"
            "C: CAPA 1\nS: -ERR No argument expected\n" BYE},
    {"6 after the login no other", LOGIN "C: USER ada\nS: -ERR You are logged in\n"
                                         "C: PASS se cret\nS: -ERR You are logged in\n"
                                         "C: STLS\nS: -ERR You are logged in\n"
                                         "C: AUTH PLAIN\nS: -ERR You are logged in\n"
                                         "C: UTF8\nS: -ERR You are logged in\n" BYE},
    {"7 USER comes first", BANNER "C: PASS se cret\nS: -ERR USER comes first\n"
                                  "C: USER\nS: -ERR Bad user name\n" BYE},
    {"7 a wrong password, then the right one",
     BANNER USER "C: PASS secret\nS: -ERR [AUTH] Wrong user name or password\n"
                 "C: PASS se cret\nS: -ERR USER comes first\n" USER
                 "C: PASS se cret\nS: +OK Maildrop has 3 messages (88 octets)\n" BYE},
    {"three wrong passwords end it",
     BANNER USER "C: PASS x\nS: -ERR [AUTH] Wrong user name or password\n" USER
                 "C: PASS x\nS: -ERR [AUTH] Wrong user name or password\n" USER
                 "C: PASS x\nS: -ERR [AUTH] Wrong user name or password\n! close\n"},
    {"4 another session has it",
     BANNER "! hook lock exists\n" USER
            "C: PASS se cret\nS: -ERR [IN-USE] Another session has this maildrop open\n"
            "C: STAT\nS: -ERR Log in first\n" BYE "R: login ada/se cret\nR: hold\n"},
    {"RFC 3206 a protected mailbox", BANNER
     "! hook open unavailable\n" USER "C: PASS se cret\nS: -ERR [SYS/TEMP] as the test wants\n" BYE
     "R: login ada/se cret\nR: hold\nR: open INBOX\nR: give back\n"},
    {"RFC 3206 logins are too many",
     BANNER "! hook login unavailable\n" USER
            "C: PASS se cret\nS: -ERR [SYS/TEMP] as the test wants\n" BYE "R: login ada/se cret\n"},
    {"the messages cannot be read", BANNER
     "! hook fetch io\n" USER "C: PASS se cret\nS: -ERR [SYS/TEMP] as the test wants\n" BYE
     "R: login ada/se cret\nR: hold\nR: open INBOX\nR: fetch 0 1-4294967295\nR: give back\n"},
    {"RFC 2449 capabilities", BANNER
     "C: CAPA\nS: +OK Capability list follows\nS: TOP\nS: UIDL\nS: PIPELINING\nS: RESP-CODES\n"
     "S: AUTH-RESP-CODE\nS: EXPIRE NEVER\nS: UTF8 USER\nS: LANG\nS: USER\nS: SASL PLAIN "
     "SCRAM-SHA-256\nS: STLS\n"
     "S: .\n" USER "C: PASS se cret\nS: +OK Maildrop has 3 messages (88 octets)\n"
     "C: CAPA\nS: +OK Capability list follows\nS: TOP\nS: UIDL\nS: PIPELINING\nS: RESP-CODES\n"
     "S: AUTH-RESP-CODE\nS: EXPIRE NEVER\nS: UTF8 USER\nS: LANG\nS: USER\nS: SASL PLAIN "
     "SCRAM-SHA-256\n"
     "S: IMPLEMENTATION Sternpost 0.1\nS: .\n" BYE},
    {"RFC 6856 UTF8 and LANG", BANNER
     "C: UTF8\nS: +OK UTF8 enabled\nC: LANG\nS: +OK Language listing follows\nS: en English\nS: .\n"
     "C: LANG en\nS: +OK en Talking English now\nC: LANG *\nS: +OK en Talking English now\n"
     "C: LANG uga\nS: -ERR This language is not supported\n" BYE},
};

static const struct conversation sasl[] = {
    {"RFC 5034 with an initial response",
     BANNER "C: AUTH PLAIN AGFkYQBzZSBjcmV0\nS: +OK Maildrop has 3 messages (88 octets)\n" BYE},
    {"RFC 5034 without", BANNER
     "C: AUTH plain\nS: + \nC: AGFkYQBzZSBjcmV0\nS: +OK Maildrop has 3 messages (88 octets)\n" BYE},
    {"RFC 5802 5 SCRAM-SHA-256, the exchange of RFC 7677 3",
     BANNER "C: AUTH SCRAM-SHA-256 " SCRAM_FIRST "\nS: + " SCRAM_CHALLENGE "\nC: " SCRAM_FINAL
            "\nS: + " SCRAM_SIGNATURE "\nC:\nS: +OK Maildrop has 3 messages (88 octets)\n" BYE},
    {"RFC 5802 SCRAM-SHA-256 refused",
     BANNER "C: AUTH SCRAM-SHA-256\nS: + \nC: " SCRAM_FIRST "\nS: + " SCRAM_CHALLENGE
            "\nC: " SCRAM_BAD_PROOF "\nS: -ERR [AUTH] Wrong user name or password\n"
            "C: AUTH SCRAM-SHA-256 " SCRAM_FIRST "\nS: + " SCRAM_CHALLENGE "\nC: *\n"
            "S: -ERR AUTH cancelled\nC: AUTH SCRAM-SHA-256 xx\n"
            "S: -ERR [AUTH] Malformed SCRAM message\nC: STAT\nS: -ERR Log in first\n"
            "C: AUTH SCRAM-SHA-256 " SCRAM_FIRST "\nS: + " SCRAM_CHALLENGE "\nC: " SCRAM_BAD_NONCE
            "\nS: -ERR [AUTH] Wrong user name or password\n"
            "C: AUTH SCRAM-SHA-256 " SCRAM_FIRST "\nS: + " SCRAM_CHALLENGE "\nC: " SCRAM_BAD_BINDING
            "\nS: -ERR [AUTH] Wrong user name or password\n! close\n"},
    {"RFC 5034 cancelled, malformed, unknown",
     BANNER "C: AUTH\nS: +OK Mechanisms follow\nS: PLAIN\nS: SCRAM-SHA-256\nS: .\n"
            "C: AUTH PLAIN\nS: + \nC: *\nS: -ERR AUTH cancelled\n"
            "C: AUTH PLAIN =\nS: -ERR [AUTH] Malformed PLAIN response\n"
            "C: AUTH PLAIN !!!!\nS: -ERR [AUTH] Malformed PLAIN response\n"
            "C: AUTH PLAIN AGFkYQBzZQBj\nS: -ERR [AUTH] Malformed PLAIN response\n"
            "C: AUTH PLAIN Ym9iAGFkYQBzZSBjcmV0\n"
            "S: -ERR [AUTH] Logging in for another user is not supported\n"
            "C: AUTH CRAM-MD5\nS: -ERR [AUTH] This mechanism is not supported\n" BYE},
};

static const struct conversation messages[] = {
    {"5 RETR stuffs dots and ends lines", LOGIN
     "C: RETR 1\nS: +OK 35 octets\nS: Subject: one\nS:\nS: ..dot\nS: ...\nS: ..\nS: last\nS: .\n"
     "C: RETR 2\nS: +OK 20 octets\nS: Subject: two\nS:\nS: bare\nS: .\n"
     "C: RETR 3\nS: +OK 33 octets\nS: A: b\nS: C: d\nS:\nS: LF\nS: ..\nS= more\\rcr\\r\\n\n"
     "S:\nS: ..\nS: end\nS: .\n" BYE LOGIN_REQUESTS
     "R: fetch 4 2-2\nR: fetch 4 5-5\nR: fetch 4 9-9\nR: seen 2-2 5-5 9-9\nR: give back\n"},
    {"7 TOP",
     LOGIN "C: TOP 1 0\nS: +OK Top of message follows\nS: Subject: one\nS:\nS: .\n"
           "C: TOP 1 2\nS: +OK Top of message follows\nS: Subject: one\nS:\nS: ..dot\n"
           "S: ...\nS: .\n"
           "C: TOP 2 9\nS: +OK Top of message follows\nS: Subject: two\nS:\nS: bare\n"
           "S: .\n"
           "C: TOP 3 1\nS: +OK Top of message follows\nS: A: b\nS: C: d\nS:\nS: LF\nS: .\n"
           "C: TOP 1\nS: -ERR TOP takes a message and a number of lines\n"
           "C: TOP 4 1\nS: -ERR There is no such message\n"
           "C: TOP 1 x\nS: -ERR TOP takes a message and a number of lines\n" BYE LOGIN_REQUESTS
           "R: fetch 4 2-2\nR: fetch 4 2-2\nR: fetch 4 5-5\n"
           "R: fetch 4 9-9\nR: give back\n"},
    {"5 DELE, RSET, QUIT", LOGIN
     "C: DELE 2\nS: +OK Deleted at QUIT\nC: DELE 2\nS: -ERR The message is deleted\n"
     "C: RETR 2\nS: -ERR The message is deleted\nC: STAT\nS: +OK 2 68\n"
     "C: LIST\nS: +OK 2 messages (68 octets)\nS: 1 35\nS: 3 33\nS: .\n"
     "C: UIDL 2\nS: -ERR The message is deleted\n"
     "C: RSET\nS: +OK Maildrop has 3 messages (88 octets)\n"
     "C: DELE 1\nS: +OK Deleted at QUIT\nC: DELE 3\nS: +OK Deleted at QUIT\n" BYE LOGIN_REQUESTS
     "R: expunge 2-2 9-9\nR: give back\n"},
    {"6 without QUIT nothing is deleted",
     LOGIN "C: DELE 1\nS: +OK Deleted at QUIT\n! eof\n! close\n" LOGIN_REQUESTS},
    {"6 time deletes nothing", LOGIN "C: DELE 1\nS: +OK Deleted at QUIT\n! tick 599000\n! open\n! "
                                     "tick 1001\n! close\n" LOGIN_REQUESTS},
    {"6 what could not be deleted is said", LOGIN
     "C: RETR 2\nS: +OK 20 octets\nS: Subject: two\nS:\nS: bare\nS: .\n"
     "C: DELE 1\nS: +OK Deleted at QUIT\n! hook store io\n! hook expunge io\n"
     "C: QUIT\nS: -ERR [SYS/TEMP] Some deleted messages were not removed\n! close\n" LOGIN_REQUESTS
     "R: fetch 4 5-5\nR: seen 5-5\nR: expunge 2-2\nR: give back\n"},
    {"numbers", LOGIN "C: RETR\nS: -ERR There is no such message\n"
                      "C: RETR 0\nS: -ERR There is no such message\n"
                      "C: RETR -1\nS: -ERR There is no such message\n"
                      "C: DELE 4294967297\nS: -ERR There is no such message\n"
                      "C: LIST 4\nS: -ERR There is no such message\n" BYE},
    {"another session has expunged it",
     LOGIN "! hook gone 5\n"
           "C: RETR 2\nS: -ERR The message is gone, another session has expunged it\n"
           "C: RETR 1\nS: +OK 35 octets\nS: Subject: one\nS:\nS: ..dot\nS: ...\nS: ..\nS: last\nS: "
           ".\n" BYE},
    {"it cannot be read",
     LOGIN "! hook fetch io\n"
           "C: RETR 2\nS: -ERR [SYS/TEMP] as the test wants\nC: STAT\nS: +OK 3 88\n" BYE},
};

static const struct conversation limits[] = {
    {"twenty errors end it", BANNER "Cx 20 XYZZY\nSx 20 -ERR Command not known\n"
                                    "S: -ERR Too many errors\n! close\n"},
    {"a line is too long",
     BANNER "C= NOOP \\{3000}x\\r\\n\nS: -ERR Line is too long\nC= \\{2046}x\\r\\n\n"
            "S: -ERR Command not known\nC= \\{2047}x\\r\\n\nS: -ERR Line is too long\n" BYE},
    {"an answer to AUTH is too long",
     BANNER "C: AUTH PLAIN\nS: + \nC= \\{3000}A\\r\\n\nS: -ERR Line is too long\n" BYE},
    {"nobody logs in", BANNER "! tick 59000\n! open\n! tick 1001\n! close\n"},
    {"storage does not answer", BANNER "! hold\n" USER "C: PASS se cret\n! tick 600001\n"
                                       "S: -ERR [SYS/TEMP] No answer from storage\n! close\n"},
    {"the server stops",
     LOGIN "! shutdown\nS: -ERR [SYS/TEMP] Server is stopping\n! close\n" LOGIN_REQUESTS},
};

static const struct conversation tls[] = {
    {"RFC 2595 nothing in the clear", BANNER
     "C: USER ada\nS: -ERR [AUTH] Passwords are accepted under TLS only\n"
     "C: AUTH PLAIN AGFkYQBzZSBjcmV0\nS: -ERR [AUTH] Passwords are accepted under TLS only\n"
     "C: CAPA\nS: +OK Capability list follows\nS: TOP\nS: UIDL\nS: PIPELINING\nS: RESP-CODES\n"
     "S: AUTH-RESP-CODE\nS: EXPIRE NEVER\nS: UTF8 USER\nS: LANG\nS: STLS\nS: .\n"
     "C: STLS\nS: +OK Begin TLS negotiation now\n! tls\n"
     "C: STLS\nS: -ERR TLS is active already\n" USER
     "C: PASS se cret\nS: +OK Maildrop has 3 messages (88 octets)\n" BYE},
};

static void run(struct fake *fake, const struct conversation *table, size_t count)
{
    const struct sp_transcript_mail mail = {.user = fake,
                                            .ops = &sp_pop3_ops,
                                            .session_new = fake_session,
                                            .reset = fake_reset,
                                            .answer = fake_answer,
                                            .describe = fake_describe,
                                            .hook = fake_hook};
    for (size_t i = 0; i < count; i++)
        assert_true(sp_transcript_run(&mail, table[i].name, table[i].text));
}

#define POP3_TEST(table, clear)                                                                    \
    static void test_##table(void **unused)                                                        \
    {                                                                                              \
        (void)unused;                                                                              \
        struct fake fake = fake_make(small, sizeof small / sizeof *small);                         \
        fake.cleartext_ok = clear;                                                                 \
        run(&fake, table, sizeof table / sizeof *table);                                           \
    }

POP3_TEST(state, true)
POP3_TEST(sasl, true)
POP3_TEST(messages, true)
POP3_TEST(limits, true)
POP3_TEST(tls, false)

/* A message of many pieces, of which each line begins with a dot somewhere. */
static void test_long_message(void **unused)
{
    (void)unused;
    enum { LINES = 20000 };
    struct sp_buf bytes, text;
    sp_buf_init(&bytes, 1 << 20);
    sp_buf_init(&text, 1 << 20);
    sp_buf_add_str(&bytes, "Subject: long\r\n\r\n");
    for (unsigned i = 0; i < LINES; i++)
        sp_buf_add_str(&bytes, ".a line with a dot\r\n");
    struct fake_message message = {3, sp_buf_slice(&bytes), false};
    struct fake fake = fake_make(&message, 1);
    sp_buf_addf(&text, BANNER USER "C: PASS se cret\nS: +OK Maildrop has 1 messages (%zu octets)\n",
                bytes.len);
    sp_buf_addf(&text, "C: RETR 1\nS: +OK %zu octets\nS: Subject: long\nS:\n", bytes.len);
    sp_buf_addf(&text, "Sx %u ..a line with a dot\nS: .\n", (unsigned)LINES);
    sp_buf_addf(&text, "C: TOP 1 15000\nS: +OK Top of message follows\nS: Subject: long\nS:\n"
                       "Sx 15000 ..a line with a dot\nS: .\n" BYE);
    sp_buf_add_byte(&text, 0);
    assert_false(sp_buf_failed(&bytes) || sp_buf_failed(&text));
    struct conversation conversation = {"a long message", (const char *)text.ptr};
    run(&fake, &conversation, 1);
    sp_buf_release(&bytes);
    sp_buf_release(&text);
}

int main(void)
{
    sp_log_set_level(SP_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state),    cmocka_unit_test(test_sasl),
        cmocka_unit_test(test_messages), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_tls),      cmocka_unit_test(test_long_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
