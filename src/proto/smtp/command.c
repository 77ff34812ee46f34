#include "proto/smtp/internal.h"

#include <stdlib.h>

#define SMTP_ONLY  0x01U
#define LMTP_ONLY  0x02U
#define NEEDS_HELO 0x04U
#define NO_ARGS    0x08U
#define MOVES_MAIL 0x10U /* does not count as idle */

struct command {
    const char *verb;
    void (*run)(struct sp_smtp *s, struct sp_slice args);
    unsigned flags;
};

static const char bad_argument[] = "501 5.5.4 Bad argument";
static const char no_memory[] = "451 4.3.0 Out of memory, please try again later";

/* ---- Greetings ---- */

/* What may stand in a Received field as it is. */
static bool is_helo_name(struct sp_slice name)
{
    return name.len <= SP_SMTP_HELO_MAX && sp_smtp_is_domain(name);
}

/* A greeting begins anew: RFC 5321 4.1.4. */
static bool greet(struct sp_smtp *s, struct sp_slice name, bool esmtp)
{
    if (!is_helo_name(name)) {
        smtp_error(s, "501 5.5.4 Bad host name");
        return false;
    }
    char *helo = malloc(name.len + 1);
    if (!helo) {
        smtp_reply(s, "%s", no_memory);
        return false;
    }
    memcpy(helo, name.ptr, name.len);
    helo[name.len] = '\0';
    smtp_transaction_abort(s);
    free(s->helo);
    s->helo = helo;
    s->esmtp = esmtp;
    return true;
}

static void run_helo(struct sp_smtp *s, struct sp_slice args)
{
    if (greet(s, args, false))
        smtp_reply(s, "250 %s", s->env->hostname);
}

static void run_ehlo(struct sp_smtp *s, struct sp_slice args)
{
    if (!greet(s, args, true))
        return;
    smtp_reply(s, "250-%s", s->env->hostname);
    smtp_reply(s, "250-PIPELINING");
    smtp_reply(s, "250-SIZE %llu", (unsigned long long)s->env->message_bytes_max);
    if (s->env->tls_available && !s->tls)
        smtp_reply(s, "250-STARTTLS");
    smtp_reply(s, "250-ENHANCEDSTATUSCODES");
    smtp_reply(s, "250-8BITMIME");
    smtp_reply(s, "250-CHUNKING");
    smtp_reply(s, "250 SMTPUTF8");
}

static void run_starttls(struct sp_smtp *s, struct sp_slice args)
{
    if (s->tls || !s->env->tls_available) {
        smtp_error(s, s->tls ? "503 5.5.1 TLS is active already" : "502 5.5.1 No TLS here");
        return;
    }
    smtp_transaction_abort(s);
    smtp_reply(s, "220 2.0.0 Ready to start TLS");
    s->mode = MODE_TLS;
}

/* ---- MAIL and RCPT ---- */

/* The next `KEYWORD[=value]`; false at the end. */
static bool next_param(struct sp_slice *args, struct sp_slice *ret_name, struct sp_slice *ret_value)
{
    *args = sp_slice_trim(*args);
    if (!args->len)
        return false;
    size_t end = sp_slice_find(*args, ' ');
    struct sp_slice param = sp_slice_sub(*args, 0, end);
    *args = sp_slice_from(*args, param.len);
    size_t equals = sp_slice_find(param, '=');
    *ret_name = sp_slice_sub(param, 0, equals);
    *ret_value = sp_slice_from(param, equals == SIZE_MAX ? param.len : equals + 1);
    return true;
}

/* RFC 1870 6.1: up to 20 digits; more than we can count is too big as well. */
static const char *size_param(struct sp_smtp *s, struct sp_slice value, uint64_t *ret_bytes)
{
    if (!value.len || value.len > 20)
        return bad_argument;
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] < '0' || value.ptr[i] > '9')
            return bad_argument;
    if (sp_slice_u64(value, s->env->message_bytes_max, ret_bytes))
        return "552 5.3.4 Message is too big";
    return NULL;
}

/* Reads the parameters of MAIL; the reply that refuses them, or NULL. */
static const char *mail_params(struct sp_smtp *s, struct sp_slice args, bool *ret_utf8,
                               uint64_t *ret_bytes)
{
    enum { SIZE = 1, BODY = 2, UTF8 = 4 };
    unsigned seen = 0, which;
    struct sp_slice name, value;
    while (next_param(&args, &name, &value)) {
        const char *refusal = NULL;
        if (!s->esmtp) {
            which = 0;
        } else if (sp_slice_eq_nocase(name, SP_S("SIZE"))) {
            which = SIZE;
            refusal = size_param(s, value, ret_bytes);
        } else if (sp_slice_eq_nocase(name, SP_S("BODY"))) {
            which = BODY; /* either way the octets stay as they are */
            if (!sp_slice_eq_nocase(value, SP_S("7BIT")) &&
                !sp_slice_eq_nocase(value, SP_S("8BITMIME")))
                refusal = "501 5.5.4 BODY is 7BIT or 8BITMIME here";
        } else if (sp_slice_eq_nocase(name, SP_S("SMTPUTF8"))) {
            which = UTF8;
            *ret_utf8 = true;
            if (value.len)
                refusal = bad_argument;
        } else {
            which = 0;
        }
        if (!which)
            return "555 5.5.4 Parameter not known";
        if (seen & which)
            return bad_argument;
        if (refusal)
            return refusal;
        seen |= which;
    }
    return NULL;
}

/* `FROM:<path>`: a blank after the colon is forgiven, since many send it. */
static enum sp_status take_path(struct sp_slice *args, struct sp_slice prefix,
                                struct sp_smtp_path *ret_path)
{
    if (!sp_slice_starts_nocase(*args, prefix))
        return SP_INVALID;
    *args = sp_slice_trim(sp_slice_from(*args, prefix.len));
    return sp_smtp_path_take(args, ret_path);
}

static void run_mail(struct sp_smtp *s, struct sp_slice args)
{
    struct sp_smtp_path path;
    bool utf8 = false;
    uint64_t bytes = 0;
    if (s->txn) {
        smtp_error(s, "503 5.5.1 A transaction is open already");
        return;
    }
    enum sp_status status = take_path(&args, SP_S("FROM:"), &path);
    if (status || (path.len && path.local_len == path.len)) {
        smtp_error(s, status == SP_LIMIT ? "501 5.1.7 Sender address is too long"
                                         : "501 5.1.7 Bad sender address");
        return;
    }
    const char *refusal = mail_params(s, args, &utf8, &bytes);
    if (!refusal && path.utf8 && !utf8)
        refusal = "550 5.6.7 Address needs SMTPUTF8"; /* RFC 6531 3.5: 550 here, 553 for RCPT */
    if (refusal)
        smtp_error(s, refusal);
    else if (!smtp_transaction_begin(s, &path, utf8, bytes))
        smtp_reply(s, "%s", no_memory);
    else
        smtp_reply(s, "250 2.1.0 Ok");
}

static const char *rcpt_refusal(const struct sp_smtp *s, enum sp_status status,
                                const struct sp_smtp_path *path, struct sp_slice rest)
{
    if (status)
        return status == SP_LIMIT ? "501 5.1.3 Recipient address is too long"
                                  : "501 5.1.3 Bad recipient address";
    if (path->len == path->local_len &&
        !sp_slice_eq_nocase(sp_slice(path->bytes, path->len), SP_S("postmaster")))
        return "553 5.1.3 Recipient address needs a domain";
    if (sp_slice_trim(rest).len)
        return "555 5.5.4 Parameter not known";
    if (path->utf8 && !s->txn->utf8)
        return "553 5.6.7 Address needs SMTPUTF8";
    return NULL;
}

static void run_rcpt(struct sp_smtp *s, struct sp_slice args)
{
    struct sp_smtp_path path;
    if (!s->txn || s->txn->begun) {
        smtp_error(s, s->txn ? "503 5.5.1 Data has begun" : "503 5.5.1 MAIL comes first");
        return;
    }
    enum sp_status status = take_path(&args, SP_S("TO:"), &path);
    const char *refusal = rcpt_refusal(s, status, &path, args);
    if (refusal) {
        s->txn->refused_recipients = true;
        smtp_error(s, refusal);
    } else if (s->txn->recipients_count >= SP_RECIPIENTS_MAX) {
        /* Not idle: RFC 5321 4.5.3.1.10 has the sender come back with these. */
        smtp_reply(s, "452 4.5.3 Too many recipients");
    } else {
        smtp_transaction_recipient(s, &path);
    }
}

/* ---- DATA and BDAT ---- */

/* NULL when data may come. RFC 2033 4.2 wants 503 from LMTP when no recipient was accepted. */
static const char *data_refusal(const struct sp_smtp *s)
{
    if (!s->helo)
        return "503 5.5.1 Say hello first";
    if (!s->txn)
        return "503 5.5.1 MAIL comes first";
    if (s->txn->recipients_count)
        return NULL;
    return s->txn->refused_recipients && !smtp_is_lmtp(s) ? "554 5.5.1 No valid recipients"
                                                          : "503 5.5.1 RCPT comes first";
}

static void run_data(struct sp_smtp *s, struct sp_slice args)
{
    const char *refusal = data_refusal(s);
    if (!refusal && s->txn->begun)
        refusal = "503 5.5.1 BDAT has begun";
    if (refusal) {
        smtp_error(s, refusal);
        return;
    }
    if (!smtp_transaction_text(s, true)) {
        smtp_reply(s, "%s", no_memory);
        smtp_transaction_abort(s);
        return;
    }
    s->chunk = (struct smtp_chunk){0};
    s->mode = MODE_DATA;
    smtp_reply(s, "354 End with CRLF.CRLF");
}

/* The octets of a chunk follow whatever we say (RFC 3030 4.2): so a refused one is skipped, and
 * when its size cannot be read nobody knows where commands begin again. */
static void run_bdat(struct sp_smtp *s, struct sp_slice args)
{
    struct smtp_chunk chunk = {0};
    size_t blank = sp_slice_find(args, ' ');
    struct sp_slice rest = sp_slice_trim(sp_slice_from(args, blank));
    chunk.last = sp_slice_eq_nocase(rest, SP_S("LAST"));
    if (sp_slice_u64(sp_slice_sub(args, 0, blank), UINT64_MAX, &chunk.left) ||
        (rest.len && !chunk.last)) {
        smtp_reply(s, "501 5.5.4 Bad chunk size");
        smtp_close(s, "421 4.7.0 No way to tell where the chunk ends"); /* RFC 5321 3.8 */
        return;
    }
    chunk.refusal = data_refusal(s);
    if (!chunk.refusal && !s->txn->begun && !smtp_transaction_text(s, false)) {
        smtp_transaction_abort(s);
        chunk.refusal = no_memory;
    }
    if (!chunk.left)
        s->idle_commands++;
    s->chunk = chunk;
    s->mode = MODE_CHUNK;
}

/* ---- The rest ---- */

static void run_rset(struct sp_smtp *s, struct sp_slice args)
{
    smtp_transaction_abort(s);
    smtp_reply(s, "250 2.0.0 Ok");
}

static void run_noop(struct sp_smtp *s, struct sp_slice args)
{
    smtp_reply(s, "250 2.0.0 Ok");
}

static void run_quit(struct sp_smtp *s, struct sp_slice args)
{
    smtp_close(s, "221 2.0.0 Bye");
}

/* RFC 5321 3.5.3, 7.3: neither yes nor no, or harvesters would ask here. */
static void run_vrfy(struct sp_smtp *s, struct sp_slice args)
{
    if (args.len)
        smtp_reply(s, "252 2.5.0 Cannot verify, but will take mail for whom RCPT accepts");
    else
        smtp_error(s, bad_argument);
}

static void run_help(struct sp_smtp *s, struct sp_slice args)
{
    smtp_reply(s, "214 2.0.0 %s MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS QUIT",
               smtp_is_lmtp(s) ? "LHLO" : "EHLO HELO");
}

static void run_not_here(struct sp_smtp *s, struct sp_slice args)
{
    smtp_error(s, "502 5.5.1 Command not implemented");
}

/* A browser that was tricked into speaking to us: nothing it says is meant for us. */
static void run_http(struct sp_smtp *s, struct sp_slice args)
{
    smtp_close(s, "421 4.7.0 This is not a web server");
}

static const struct command commands[] = {
    {"RCPT", run_rcpt, NEEDS_HELO | MOVES_MAIL},
    {"MAIL", run_mail, NEEDS_HELO},
    {"DATA", run_data, NEEDS_HELO | NO_ARGS | MOVES_MAIL},
    {"BDAT", run_bdat, MOVES_MAIL}, /* sees to itself, for its octets must be read */
    {"EHLO", run_ehlo, SMTP_ONLY},
    {"HELO", run_helo, SMTP_ONLY},
    {"LHLO", run_ehlo, LMTP_ONLY},
    {"RSET", run_rset, NO_ARGS},
    {"QUIT", run_quit, NO_ARGS},
    {"NOOP", run_noop, 0},
    {"STARTTLS", run_starttls, NO_ARGS},
    {"VRFY", run_vrfy, 0},
    {"HELP", run_help, 0},
    {"EXPN", run_not_here, 0},
    {"AUTH", run_not_here, 0},
    {"ETRN", run_not_here, 0},
    {"TURN", run_not_here, 0},
    {"GET", run_http, 0},
    {"POST", run_http, 0},
    {"PUT", run_http, 0},
    {"CONNECT", run_http, 0},
    {"OPTIONS", run_http, 0},
};

static const struct command *find_command(const struct sp_smtp *s, struct sp_slice verb)
{
    unsigned absent = smtp_is_lmtp(s) ? SMTP_ONLY : LMTP_ONLY;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!(commands[i].flags & absent) &&
            sp_slice_eq_nocase(verb, sp_slice_str(commands[i].verb)))
            return &commands[i];
    return NULL;
}

static bool is_clean(struct sp_slice line)
{
    return sp_slice_find(line, '\r') == SIZE_MAX && sp_slice_find(line, '\0') == SIZE_MAX;
}

void smtp_command(struct sp_smtp *s, struct sp_slice line)
{
    struct sp_slice verb = sp_slice_sub(line, 0, sp_slice_find(line, ' '));
    struct sp_slice args = sp_slice_trim(sp_slice_from(line, verb.len));
    const struct command *command = is_clean(line) ? find_command(s, verb) : NULL;
    if (!command)
        smtp_error(s, is_clean(line) ? "500 5.5.1 Command not known" : "500 5.5.2 Syntax error");
    else if ((command->flags & NEEDS_HELO) && !s->helo)
        smtp_error(s, "503 5.5.1 Say hello first");
    else if ((command->flags & NO_ARGS) && args.len)
        smtp_error(s, "501 5.5.4 No argument expected");
    else
        command->run(s, args);
    if (!command || !(command->flags & MOVES_MAIL))
        s->idle_commands++;
}
