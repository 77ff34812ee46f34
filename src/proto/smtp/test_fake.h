/* A mail that only pretends, for the tests of SMTP: what becomes of a recipient is said by its
 * name. */
#ifndef SP_PROTO_SMTP_TEST_FAKE_H
#define SP_PROTO_SMTP_TEST_FAKE_H

#include "proto/smtp/smtp.h"
#include "proto/transcript.h"

#define FAKE_MESSAGE_MAX 400000U

struct fake {
    struct sp_session_env env;
    enum sp_smtp_flavour flavour;
    bool implicit_tls;
    enum sp_status put, deliver; /* what these get, from hooks */
    uint64_t bodies;             /* handles so far */
};

/* mx.example.org, with TLS, for messages of FAKE_MESSAGE_MAX, on Mon, 24 Nov 2025 16:00:00 +0000.
 */
struct fake fake_make(enum sp_smtp_flavour flavour);
/* The functions of struct sp_transcript_mail, with a struct fake as user. */
void fake_reset(void *user);
void *fake_session(void *user, uint64_t now_ms);
struct sp_reply *fake_answer(void *user, const struct sp_request *request);
void fake_describe(void *user, const struct sp_request *request, struct sp_buf *log);
void fake_hook(void *user, struct sp_slice name);

#endif
