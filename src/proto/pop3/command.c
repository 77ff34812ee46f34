/* The table of commands (RFC 1939 section 5 to 7, RFC 2449 section 5). */
#include "proto/pop3/internal.h"

#define ANY    0x03U
#define BEFORE 0x01U /* in the AUTHORIZATION state */
#define AFTER  0x02U /* in the TRANSACTION state */
#define BARE   0x04U /* takes no argument */

static void run_noop(struct sp_pop3 *s, struct sp_slice args)
{
    (void)args;
    pop3_say(s, "+OK");
}

static void run_capa(struct sp_pop3 *s, struct sp_slice args)
{
    (void)args;
    bool open = s->tls || s->peer.cleartext_ok;
    pop3_say(s, "+OK Capability list follows");
    pop3_say(s, "TOP");
    pop3_say(s, "UIDL");
    pop3_say(s, "PIPELINING");
    pop3_say(s, "RESP-CODES");
    pop3_say(s, "AUTH-RESP-CODE");
    pop3_say(s, "EXPIRE NEVER");
    pop3_say(s, "UTF8 USER");
    pop3_say(s, "LANG");
    if (open || s->drop) {
        pop3_say(s, "USER");
        pop3_say(s, "SASL PLAIN SCRAM-SHA-256%s",
                 sp_scram_can_bind(&s->peer) ? " SCRAM-SHA-256-PLUS" : "");
    }
    if (s->env->tls_available && !s->tls && !s->drop)
        pop3_say(s, "STLS");
    if (s->drop)
        pop3_say(s, "IMPLEMENTATION %.100s", s->env->software);
    pop3_say(s, ".");
}

/* RFC 6856 section 2.1: messages go out as they are in either case, since nothing is converted
 * for clients that did not ask; user names and passwords are taken as UTF-8. */
static void run_utf8(struct sp_pop3 *s, struct sp_slice args)
{
    (void)args;
    s->utf8 = true;
    pop3_say(s, "+OK UTF8 enabled");
}

/* RFC 6856 section 3: we speak English, which also serves as i-default. */
static void run_lang(struct sp_pop3 *s, struct sp_slice args)
{
    if (!args.len) {
        pop3_say(s, "+OK Language listing follows");
        pop3_say(s, "en English");
        pop3_say(s, ".");
    } else if (sp_slice_eq_nocase(args, SP_S("en")) || sp_slice_eq(args, SP_S("*")) ||
               sp_slice_eq_nocase(args, SP_S("i-default"))) {
        pop3_say(s, "+OK en Talking English now");
    } else {
        pop3_error(s, "This language is not supported");
    }
}

static const struct command {
    const char *verb;
    void (*run)(struct sp_pop3 *s, struct sp_slice args);
    unsigned flags;
} commands[] = {
    {"USER", pop3_user, BEFORE},       {"PASS", pop3_pass, BEFORE},
    {"AUTH", pop3_auth, BEFORE},       {"STLS", pop3_stls, BEFORE | BARE},
    {"UTF8", run_utf8, BEFORE | BARE}, {"CAPA", run_capa, ANY | BARE},
    {"LANG", run_lang, ANY},           {"QUIT", pop3_quit, ANY | BARE},
    {"STAT", pop3_stat, AFTER | BARE}, {"LIST", pop3_list, AFTER},
    {"UIDL", pop3_uidl, AFTER},        {"RETR", pop3_retr, AFTER},
    {"TOP", pop3_top, AFTER},          {"DELE", pop3_dele, AFTER},
    {"RSET", pop3_rset, AFTER | BARE}, {"NOOP", run_noop, AFTER | BARE},
};

void pop3_command(struct sp_pop3 *s, struct sp_slice line)
{
    size_t end = sp_slice_find(line, ' ');
    struct sp_slice verb = sp_slice_sub(line, 0, end);
    /* Of PASS all that stands behind the one space is the password (RFC 1939 section 7). */
    struct sp_slice args = sp_slice_from(line, end == SIZE_MAX ? line.len : end + 1);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const struct command *command = &commands[i];
        if (!sp_slice_eq_nocase(verb, sp_slice_str(command->verb)))
            continue;
        if (!(command->flags & (s->drop ? AFTER : BEFORE)))
            pop3_error(s, s->drop ? "You are logged in" : "Log in first");
        else if ((command->flags & BARE) && sp_slice_trim(args).len)
            pop3_error(s, "No argument expected");
        else
            command->run(s, args);
        return;
    }
    pop3_error(s, "Command not known");
}
