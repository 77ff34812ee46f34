/* USER, PASS, AUTH (RFC 5034) with PLAIN and SCRAM, STLS; the maildrop is locked and read. */
#include "proto/pop3/internal.h"

#include <stdlib.h>

void pop3_drop_free(struct sp_pop3 *s)
{
    if (s->drop)
        free(s->drop->messages);
    free(s->drop);
    s->drop = NULL;
}

/* ---- Opening the maildrop ---- */

static void on_given_back(struct sp_pop3 *s, const struct sp_reply *reply)
{
    (void)s;
    (void)reply;
}

/* The login has come to nothing, and the client has been told: it may try again. */
static void give_back(struct sp_pop3 *s)
{
    struct sp_request *request;
    struct sp_uuid account = s->drop->mailbox.account;
    pop3_drop_free(s);
    request = s->mode == MODE_CLOSED ? NULL : pop3_request(s, SP_REQ_MAILDROP);
    if (!request)
        return; /* the end of the session gives the lock back */
    request->account = account;
    request->maildrop.hold = false;
    pop3_ask(s, request, on_given_back);
}

static bool add_message(struct pop3_drop *drop, const struct sp_row *row)
{
    if (drop->count == drop->room) {
        uint32_t room = drop->room ? drop->room * 2 : 64;
        struct pop3_message *grown = realloc(drop->messages, room * sizeof *grown);
        if (!grown)
            return false;
        drop->messages = grown;
        drop->room = room;
    }
    struct pop3_message *message = &drop->messages[drop->count++];
    *message = (struct pop3_message){.uid = row->uid, .size = (uint32_t)row->size};
    memcpy(message->id, row->email_id, sizeof message->id);
    drop->left++;
    drop->left_bytes += row->size;
    return true;
}

static void ask_for_messages(struct sp_pop3 *s, uint32_t from);

static void on_messages(struct sp_pop3 *s, const struct sp_reply *reply)
{
    struct pop3_drop *drop = s->drop;
    uint32_t last = 0;
    bool memory = true;
    if (reply->status != SP_OK) {
        pop3_refuse(s, reply);
        give_back(s);
        return;
    }
    for (uint32_t i = 0; memory && i < reply->rows_count; i++) {
        memory = drop->count < SP_POP3_MESSAGES_MAX && add_message(drop, &reply->rows[i]);
        last = reply->rows[i].uid;
    }
    if (!memory) {
        pop3_say(s, "-ERR [SYS/PERM] The maildrop is too large for POP3, use IMAP");
        give_back(s);
    } else if (reply->more && last && last < UINT32_MAX) {
        ask_for_messages(s, last + 1);
    } else {
        s->failed_logins = s->errors = 0;
        pop3_say(s, "+OK Maildrop has %u messages (%llu octets)", (unsigned)drop->count,
                 (unsigned long long)drop->left_bytes);
    }
}

static void ask_for_messages(struct sp_pop3 *s, uint32_t from)
{
    struct sp_request *request = pop3_request(s, SP_REQ_FETCH);
    if (!request)
        return;
    struct sp_uid_range *all = sp_arena_alloc(&request->arena, sizeof *all);
    if (!all) {
        pop3_give_up(s, request);
        return;
    }
    *all = (struct sp_uid_range){from, UINT32_MAX};
    request->mailbox = s->drop->mailbox;
    request->account = s->drop->mailbox.account;
    request->ranges = (struct sp_uid_ranges){all, 1};
    request->fetch.want = SP_WANT_FLAGS | SP_WANT_META;
    pop3_ask(s, request, on_messages);
}

static void on_open(struct sp_pop3 *s, const struct sp_reply *reply)
{
    if (reply->status != SP_OK || !reply->mailboxes_count) {
        pop3_refuse(s, reply);
        give_back(s);
        return;
    }
    s->drop->mailbox.mailbox = reply->mailboxes[0].id;
    s->drop->mailbox.uidvalidity = reply->mailboxes[0].uidvalidity;
    ask_for_messages(s, 1);
}

static void on_lock(struct sp_pop3 *s, const struct sp_reply *reply)
{
    if (reply->status == SP_EXISTS) {
        pop3_say(s, "-ERR [IN-USE] Another session has this maildrop open");
        pop3_drop_free(s);
        return;
    }
    if (reply->status != SP_OK) {
        pop3_refuse(s, reply);
        pop3_drop_free(s);
        return;
    }
    struct sp_request *request = pop3_request(s, SP_REQ_MAILBOX_OPEN);
    if (!request)
        return;
    request->account = s->drop->mailbox.account;
    request->name = SP_S("INBOX");
    pop3_ask(s, request, on_open);
}

static void enter(struct sp_pop3 *s, const struct sp_uuid *account)
{
    struct sp_request *request = pop3_request(s, SP_REQ_MAILDROP);
    if (!request)
        return;
    s->drop = calloc(1, sizeof *s->drop);
    if (!s->drop) {
        pop3_give_up(s, request);
        return;
    }
    s->drop->mailbox.account = *account;
    request->account = *account;
    request->maildrop.hold = true;
    pop3_ask(s, request, on_lock);
}

static void denied(struct sp_pop3 *s)
{
    pop3_say(s, "-ERR [AUTH] Wrong user name or password");
    if (++s->failed_logins >= SP_POP3_FAILED_LOGINS_MAX)
        pop3_close(s, NULL);
}

/* False: the client has been told. */
static bool is_let_in(struct sp_pop3 *s, const struct sp_reply *reply)
{
    free(s->user);
    s->user = NULL;
    if (reply->status == SP_DENIED || reply->status == SP_NOT_FOUND || reply->status == SP_INVALID)
        denied(s);
    else if (reply->status != SP_OK)
        pop3_refuse(s, reply);
    return reply->status == SP_OK;
}

static void on_login(struct sp_pop3 *s, const struct sp_reply *reply)
{
    if (is_let_in(s, reply))
        enter(s, &reply->account);
}

/* ---- Who it is ---- */

static void log_in(struct sp_pop3 *s, struct sp_slice user, struct sp_slice password)
{
    struct sp_request *request = pop3_request(s, SP_REQ_AUTHENTICATE);
    if (!request)
        return;
    request->authenticate.user = sp_arena_copy(&request->arena, user);
    request->authenticate.password = sp_arena_copy(&request->arena, password);
    if ((user.len && !request->authenticate.user.ptr) ||
        (password.len && !request->authenticate.password.ptr))
        pop3_give_up(s, request);
    else
        pop3_ask(s, request, on_login);
}

/* Whether passwords may be sent here. */
static bool is_private(struct sp_pop3 *s)
{
    if (s->tls || s->peer.cleartext_ok)
        return true;
    pop3_error(s, "[AUTH] Passwords are accepted under TLS only");
    return false;
}

void pop3_user(struct sp_pop3 *s, struct sp_slice args)
{
    if (!is_private(s))
        return;
    free(s->user);
    s->user = NULL;
    if (!args.len || args.len > SP_ADDRESS_MAX || sp_slice_find(args, 0) != SIZE_MAX) {
        pop3_error(s, "Bad user name");
        return;
    }
    s->user = malloc(args.len + 1);
    if (!s->user) {
        pop3_close(s, "-ERR [SYS/TEMP] Out of memory, please try again later");
        return;
    }
    memcpy(s->user, args.ptr, args.len);
    s->user[args.len] = '\0';
    pop3_say(s, "+OK Send the password"); /* whether there is such a user or not */
}

void pop3_pass(struct sp_pop3 *s, struct sp_slice args)
{
    if (!is_private(s))
        return;
    if (!s->user)
        pop3_error(s, "USER comes first");
    else
        log_in(s, sp_slice_str(s->user), args);
}

static void plain(struct sp_pop3 *s, struct sp_slice base64)
{
    struct sp_sasl_plain said;
    enum sp_status status = sp_sasl_plain_read(base64, &said);
    if (status == SP_OK)
        log_in(s, said.user, said.password);
    else
        pop3_error(s, status == SP_UNSUPPORTED
                          ? "[AUTH] Logging in for another user is not supported"
                          : "[AUTH] Malformed PLAIN response");
    sp_sasl_plain_wipe(&said);
}

/* ---- SCRAM ---- */

void pop3_scram_free(struct sp_pop3 *s)
{
    sp_scram_free(s->scram);
    s->scram = NULL;
}

static void say_and_read_on(struct sp_pop3 *s, struct sp_slice message)
{
    sp_buf_add(&s->out, SP_S("+ "));
    sp_sasl_encode(message, &s->out);
    sp_buf_add(&s->out, SP_S("\r\n"));
    s->mode = MODE_SASL;
}

static void on_proof(struct sp_pop3 *s, const struct sp_reply *reply)
{
    if (is_let_in(s, reply)) {
        s->scram->account = reply->account;
        say_and_read_on(s, reply->sasl);
    } else {
        pop3_scram_free(s);
    }
}

static void on_challenge(struct sp_pop3 *s, const struct sp_reply *reply)
{
    bool good = is_let_in(s, reply);
    if (good && sp_scram_challenge(s->scram, reply->sasl)) {
        say_and_read_on(s, reply->sasl);
        return;
    }
    if (good)
        pop3_error(s, "[AUTH] Malformed SCRAM message");
    pop3_scram_free(s);
}

static void ask_scram(struct sp_pop3 *s, enum sp_request_type type, pop3_on_reply *on_reply)
{
    struct sp_request *request = pop3_request(s, type);
    if (!request)
        return;
    if (sp_scram_fill(s->scram, request))
        pop3_ask(s, request, on_reply);
    else
        pop3_give_up(s, request);
}

static void scram(struct sp_pop3 *s, struct sp_slice base64)
{
    enum sp_scram_step step = s->scram->step;
    enum sp_status status = base64.len ? SP_INVALID : SP_OK;
    if (step == SP_SCRAM_FIRST)
        status = sp_scram_first(s->scram, base64, &s->peer);
    else if (step == SP_SCRAM_FINAL)
        status = sp_scram_final(s->scram, base64, &s->peer);
    if (status == SP_OK && step == SP_SCRAM_FIRST) {
        ask_scram(s, SP_REQ_SCRAM, on_challenge);
        return;
    }
    if (status == SP_OK && step == SP_SCRAM_FINAL) {
        ask_scram(s, SP_REQ_AUTHENTICATE, on_proof);
        return;
    }
    struct sp_uuid account = s->scram->account;
    pop3_scram_free(s);
    if (status == SP_OK)
        enter(s, &account);
    else if (status == SP_DENIED)
        denied(s);
    else
        pop3_error(s, status == SP_UNSUPPORTED
                          ? "[AUTH] Logging in for another user is not supported"
                          : "[AUTH] Malformed SCRAM message");
}

static void respond(struct sp_pop3 *s, struct sp_slice base64)
{
    if (s->scram)
        scram(s, base64);
    else
        plain(s, base64);
}

void pop3_auth(struct sp_pop3 *s, struct sp_slice args)
{
    size_t end = sp_slice_find(args, ' ');
    struct sp_slice mechanism = sp_slice_sub(args, 0, end);
    if (!args.len) { /* what clients from before RFC 5034 ask */
        pop3_say(s, "+OK Mechanisms follow");
        pop3_say(s, "PLAIN");
        pop3_say(s, "SCRAM-SHA-256");
        if (sp_scram_can_bind(&s->peer))
            pop3_say(s, "SCRAM-SHA-256-PLUS");
        pop3_say(s, ".");
        return;
    }
    if (!is_private(s))
        return;
    bool is_scram = sp_scram_begin(mechanism, &s->peer, &s->scram);
    if (is_scram && !s->scram) {
        pop3_close(s, "-ERR [SYS/TEMP] Out of memory, please try again later");
    } else if (!is_scram && !sp_slice_eq_nocase(mechanism, SP_S("PLAIN"))) {
        pop3_error(s, "[AUTH] This mechanism is not supported");
    } else if (end == SIZE_MAX) {
        pop3_say(s, "+ ");
        s->mode = MODE_SASL;
    } else {
        struct sp_slice initial = sp_slice_from(args, end + 1);
        if (sp_slice_eq(initial, SP_S("=")))
            initial = (struct sp_slice){0};
        respond(s, initial);
    }
}

void pop3_sasl_line(struct sp_pop3 *s, struct sp_slice line)
{
    s->mode = MODE_COMMAND;
    if (sp_slice_eq(line, SP_S("*"))) {
        pop3_scram_free(s);
        pop3_error(s, "AUTH cancelled");
    } else {
        respond(s, line);
    }
}

/* Whatever was sent behind it came in the clear, perhaps from somebody else: it is thrown away. */
void pop3_stls(struct sp_pop3 *s, struct sp_slice args)
{
    (void)args;
    if (s->tls || !s->env->tls_available) {
        pop3_error(s, s->tls ? "TLS is active already" : "TLS is not available");
        return;
    }
    pop3_say(s, "+OK Begin TLS negotiation now");
    s->mode = MODE_TLS;
}
