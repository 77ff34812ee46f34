/* A mail that only pretends, for the tests of POP3: one account, `ada` with the password `se cret`,
 * and a maildrop of a few messages. */
#ifndef SP_PROTO_POP3_TEST_FAKE_H
#define SP_PROTO_POP3_TEST_FAKE_H

#include "proto/pop3/pop3.h"
#include "proto/transcript.h"

#define FAKE_MESSAGES_MAX 8U

struct fake_message {
    uint32_t uid;
    struct sp_slice bytes;
    bool gone; /* expunged by somebody else */
};

struct fake {
    struct sp_session_env env;
    bool implicit_tls, cleartext_ok;
    const struct fake_message *messages;
    uint32_t count, rows_at_once;
    /* From hooks. */
    enum sp_status login, lock, open, fetch, store, expunge;
    uint32_t gone; /* this UID; 0: none */
};

/* pop.example.org, with TLS, for peers that may speak in the clear. */
struct fake fake_make(const struct fake_message *messages, uint32_t count);
/* The functions of struct sp_transcript_mail, with a struct fake as user. */
void fake_reset(void *user);
void *fake_session(void *user, uint64_t now_ms);
struct sp_reply *fake_answer(void *user, const struct sp_request *request);
void fake_describe(void *user, const struct sp_request *request, struct sp_buf *log);
/* `login`, `lock`, `open`, `fetch`, `store`, `expunge` and a status (`io`, `unavailable`,
 * `exists`), or `gone UID`. */
void fake_hook(void *user, struct sp_slice name);

#endif
