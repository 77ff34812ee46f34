/* LOGIN, AUTHENTICATE with PLAIN (RFC 4616) and SCRAM (RFC 5802), SASL-IR (RFC 4959), STARTTLS. */
#include "proto/imap/state.h"

static void logged_in(struct sp_imap *s, const struct sp_uuid *account)
{
    s->authenticated = true;
    s->account = *account;
    s->bad_count = 0;
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add(final, SP_S("OK [CAPABILITY"));
    sp_imap_add_capability(s, final);
    sp_buf_add(final, SP_S("] Logged in\r\n"));
    sp_imap_end(s);
}

static void denied(struct sp_imap *s)
{
    unsigned count = ++s->bad_count;
    sp_imap_finish(s, "NO [AUTHENTICATIONFAILED] Wrong user name or password");
    if (count >= SP_IMAP_BAD_PREAUTH_MAX)
        sp_imap_bye(s, "Too many failed logins");
}

static void not_logged_in(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status == SP_DENIED || reply->status == SP_NOT_FOUND || reply->status == SP_INVALID)
        denied(s);
    else
        sp_imap_refuse(s, reply, "UNAVAILABLE");
}

static void on_login(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status == SP_OK)
        logged_in(s, &reply->account);
    else
        not_logged_in(s, reply);
}

static void log_in(struct sp_imap *s, struct sp_slice user, struct sp_slice password)
{
    struct sp_request *request = sp_imap_request(s, SP_REQ_AUTHENTICATE);
    if (!request)
        return;
    request->authenticate.user = sp_arena_copy(&request->arena, user);
    request->authenticate.password = sp_arena_copy(&request->arena, password);
    if ((user.len && !request->authenticate.user.ptr) ||
        (password.len && !request->authenticate.password.ptr))
        sp_imap_abandon(s, request);
    else
        sp_imap_submit(s, request, on_login);
}

/* Whether passwords may be sent here; ends the command if not. */
static bool is_private(struct sp_imap *s)
{
    if (s->peer.tls || s->peer.cleartext_ok)
        return true;
    s->bad_count++;
    sp_imap_finish(s, "NO [PRIVACYREQUIRED] Passwords are accepted under TLS only");
    if (s->bad_count >= SP_IMAP_BAD_PREAUTH_MAX)
        sp_imap_bye(s, "Too many failed logins");
    return false;
}

void sp_imap_run_login(struct sp_imap *s)
{
    if (is_private(s))
        log_in(s, s->command.login.user, s->command.login.password);
}

static void plain(struct sp_imap *s, struct sp_slice base64)
{
    struct sp_sasl_plain said;
    enum sp_status status = sp_sasl_plain_read(base64, &said);
    if (status == SP_OK)
        log_in(s, said.user, said.password);
    else if (status == SP_UNSUPPORTED)
        sp_imap_finish(s, "NO [AUTHORIZATIONFAILED] Logging in for another user is not supported");
    else
        sp_imap_bad(s, "Malformed PLAIN response");
    sp_sasl_plain_wipe(&said);
}

/* ---- SCRAM ---- */

static void say_and_read_on(struct sp_imap *s, struct sp_slice message)
{
    sp_buf_add(&s->out, SP_S("+ "));
    sp_sasl_encode(message, &s->out);
    sp_buf_add(&s->out, SP_S("\r\n"));
    sp_imap_read_on(s, SP_IMAP_SASL);
}

static void on_proof(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status != SP_OK) {
        not_logged_in(s, reply);
        return;
    }
    s->scram->account = reply->account;
    say_and_read_on(s, reply->sasl);
}

static void on_challenge(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status != SP_OK)
        not_logged_in(s, reply);
    else if (!sp_scram_challenge(s->scram, reply->sasl))
        sp_imap_bad(s, "Malformed SCRAM message");
    else
        say_and_read_on(s, reply->sasl);
}

static void ask_scram(struct sp_imap *s, enum sp_request_type type,
                      void (*handler)(struct sp_imap *s, const struct sp_reply *reply))
{
    struct sp_request *request = sp_imap_request(s, type);
    if (!request)
        return;
    if (sp_scram_fill(s->scram, request))
        sp_imap_submit(s, request, handler);
    else
        sp_imap_abandon(s, request);
}

static void scram(struct sp_imap *s, struct sp_slice base64)
{
    enum sp_scram_step step = s->scram->step;
    if (step == SP_SCRAM_END) {
        struct sp_uuid account = s->scram->account;
        if (base64.len)
            sp_imap_bad(s, "An empty response was expected");
        else
            logged_in(s, &account);
        return;
    }
    enum sp_status status = step == SP_SCRAM_FIRST ? sp_scram_first(s->scram, base64, &s->peer)
                                                   : sp_scram_final(s->scram, base64, &s->peer);
    if (status == SP_UNSUPPORTED)
        sp_imap_finish(s, "NO [AUTHORIZATIONFAILED] Logging in for another user is not supported");
    else if (status == SP_DENIED)
        denied(s);
    else if (status)
        sp_imap_bad(s, "Malformed SCRAM message");
    else if (step == SP_SCRAM_FIRST)
        ask_scram(s, SP_REQ_SCRAM, on_challenge);
    else
        ask_scram(s, SP_REQ_AUTHENTICATE, on_proof);
}

static void respond(struct sp_imap *s, struct sp_slice base64)
{
    if (s->scram)
        scram(s, base64);
    else
        plain(s, base64);
}

void sp_imap_run_authenticate(struct sp_imap *s)
{
    struct sp_slice mechanism = s->command.authenticate.mechanism;
    struct sp_slice initial = s->command.authenticate.initial;
    if (!is_private(s))
        return;
    bool is_scram = sp_scram_begin(mechanism, &s->peer, &s->scram);
    if (is_scram && !s->scram) {
        sp_imap_abandon(s, NULL);
    } else if (!is_scram && !sp_slice_eq_nocase(mechanism, SP_S("PLAIN"))) {
        sp_imap_finish(s, "NO [CANNOT] This mechanism is not supported");
    } else if (!s->command.authenticate.has_initial) {
        sp_buf_add(&s->out, SP_S("+ \r\n"));
        sp_imap_read_on(s, SP_IMAP_SASL);
    } else {
        if (sp_slice_eq(initial, SP_S("=")))
            initial = (struct sp_slice){0};
        respond(s, initial);
    }
}

void sp_imap_sasl_line(struct sp_imap *s, struct sp_slice line)
{
    s->phase = SP_IMAP_RUNNING;
    if (sp_slice_eq(line, SP_S("*")))
        sp_imap_bad(s, "AUTHENTICATE cancelled");
    else
        respond(s, line);
}

/* Whatever was sent behind the command came in the clear, perhaps from somebody else: it is thrown
 * away. */
void sp_imap_run_starttls(struct sp_imap *s)
{
    if (s->peer.tls || !s->env->tls_available) {
        sp_imap_bad(s, s->peer.tls ? "TLS is active already" : "TLS is not available");
        return;
    }
    sp_buf_add(sp_imap_final(s), SP_S("OK Begin TLS negotiation now\r\n"));
    sp_imap_conclude(s);
    sp_buf_release(&s->in);
    s->phase = SP_IMAP_TLS;
}
