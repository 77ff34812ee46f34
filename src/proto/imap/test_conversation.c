#include "proto/imap/test_conversation.h"

#include "proto/imap/fake_mail.h"
#include "proto/imap/imap.h"
#include "proto/transcript.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

struct world {
    struct sp_fake_mail mail;
    struct sp_session_env env;
    struct sp_session_peer peer;
};

static void reset(void *user)
{
    sp_fake_mail_reset(&((struct world *)user)->mail);
}

static void *session_new(void *user, uint64_t now_ms)
{
    struct world *world = user;
    return sp_imap_new(&world->env, &world->peer, now_ms);
}

static struct sp_reply *answer(void *user, const struct sp_request *request)
{
    return sp_fake_mail_answer(&((struct world *)user)->mail, request);
}

static void describe(void *user, const struct sp_request *request, struct sp_buf *log)
{
    sp_fake_mail_describe(request, log);
}

static void hook_fail(struct world *world, const char *what)
{
    static const struct {
        const char *name;
        enum sp_request_type type;
    } types[] = {{"authenticate", SP_REQ_AUTHENTICATE},
                 {"list", SP_REQ_MAILBOX_LIST},
                 {"fetch", SP_REQ_FETCH},
                 {"store", SP_REQ_STORE},
                 {"sync", SP_REQ_SYNC},
                 {"search", SP_REQ_SEARCH},
                 {"body-put", SP_REQ_BODY_PUT},
                 {"expunge", SP_REQ_EXPUNGE},
                 {"append", SP_REQ_APPEND}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        size_t len = strlen(types[i].name);
        if (strncmp(what, types[i].name, len) == 0 && what[len] == ' ')
            world->mail.fail[types[i].type] = strcmp(what + len, " unavailable") == 0
                                                  ? SP_UNAVAILABLE
                                              : strcmp(what + len, " nospace") == 0 ? SP_NO_SPACE
                                              : strcmp(what + len, " denied") == 0  ? SP_DENIED
                                                                                    : SP_OK;
    }
}

static void hook_thread(struct world *world, const char *what)
{
    char *end;
    world->mail.threads_count = 0;
    while (*what && world->mail.threads_count < 16) {
        struct sp_thread_node *node = &world->mail.threads[world->mail.threads_count++];
        node->uid = (uint32_t)strtoul(what, &end, 10);
        node->depth = (uint32_t)strtoul(end + 1, &end, 10);
        what = end;
    }
}

static const char encoded_message[] =
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    "--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=3Db  \r\n=20=\r\nc\r\n"
    "--b\r\nContent-Transfer-Encoding: base64\r\n\r\nYWIA\r\nY2Q=\r\n"
    "--b\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n#abc\r\n--b--\r\n";

static void hook(void *user, struct sp_slice name)
{
    struct world *world = user;
    char text[100];
    struct sp_fake_mailbox *inbox = sp_fake_mailbox(&world->mail, "INBOX");
    assert_true(name.len < sizeof text);
    memcpy(text, name.ptr, name.len);
    text[name.len] = 0;
    const char *rest = strchr(text, ' ');
    rest = rest ? rest + 1 : "";
    uint32_t number = (uint32_t)strtoul(rest, NULL, 10);
    if (strncmp(text, "fail ", 5) == 0)
        hook_fail(world, rest);
    else if (strncmp(text, "thread ", 7) == 0)
        hook_thread(world, rest);
    else if (strncmp(text, "expunge ", 8) == 0)
        sp_fake_expunge(&world->mail, inbox, number);
    else if (strncmp(text, "flag ", 5) == 0)
        sp_fake_set_flags(&world->mail, inbox, number, SP_FLAG_ANSWERED);
    else if (strncmp(text, "rows ", 5) == 0)
        world->mail.rows_max = number;
    else if (strncmp(text, "break ", 6) == 0)
        world->mail.pieces_until_lost = number;
    else if (strcmp(text, "add") == 0)
        sp_fake_add_message(&world->mail, inbox, SP_S("Subject: new\r\n\r\n"), 0,
                            (struct sp_date){0});
    else if (strcmp(text, "elsewhere") == 0)
        sp_fake_add_message(&world->mail, sp_fake_mailbox(&world->mail, "Work"), SP_S("\r\n"), 0,
                            (struct sp_date){0});
    else if (strncmp(text, "rights ", 7) == 0)
        inbox->rights = (uint32_t)strtoul(rest, NULL, 16);
    else if (strncmp(text, "shared ", 7) == 0)
        sp_fake_add_mailbox(&world->mail, SP_S("Other Users/bob@example.org/Team"))->rights =
            (uint32_t)strtoul(rest, NULL, 16);
    else if (strcmp(text, "gap") == 0)
        world->mail.others_unavailable = true;
    else if (strcmp(text, "lose") == 0)
        inbox->messages[1].lost = true;
    else if (strcmp(text, "protect") == 0)
        inbox->protected_ = true;
    else if (strcmp(text, "delete") == 0)
        inbox->exists = false;
    else if (strcmp(text, "umlaut") == 0)
        sp_fake_add_message(&world->mail, inbox, SP_S("\r\n Gr\xc3\xbc\xc3\x9f\x65\r\n"), 0,
                            (struct sp_date){0});
    else if (strcmp(text, "encoded") == 0)
        sp_fake_add_message(&world->mail, inbox, SP_S(encoded_message), 0, (struct sp_date){0});
    else if (strcmp(text, "large") == 0) {
        static uint8_t bytes[400002];
        memset(bytes, 'l', sizeof bytes);
        memcpy(bytes, "\r\n", 2);
        for (int i = 0; i < 2; i++)
            sp_fake_add_message(&world->mail, inbox, sp_slice(bytes, sizeof bytes), SP_FLAG_SEEN,
                                (struct sp_date){0});
    } else
        fail_msg("no hook %s", text);
}

static uint64_t wall_ns(void)
{
    return 1764000000000000000U;
}

void run_conversations(const struct conversation *conversations, size_t count,
                       const struct sp_session_peer *peer)
{
    struct world world = {.env = {.hostname = "mx.example.org",
                                  .software = "Sternpost 0.1",
                                  .tls_available = true,
                                  .message_bytes_max = 600000,
                                  .wall_ns = wall_ns},
                          .peer = *peer};
    struct sp_transcript_mail mail = {.user = &world,
                                      .ops = &sp_imap_ops,
                                      .session_new = session_new,
                                      .reset = reset,
                                      .answer = answer,
                                      .describe = describe,
                                      .hook = hook};
    unsigned failed = 0;
    sp_fake_mail_init(&world.mail);
    for (size_t i = 0; i < count; i++)
        failed += !sp_transcript_run(&mail, conversations[i].name, conversations[i].text);
    sp_fake_mail_release(&world.mail);
    assert_int_equal(failed, 0);
}

const struct sp_session_peer loopback = {.id = 1, .address = "127.0.0.1", .cleartext_ok = true};
