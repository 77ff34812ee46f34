/* What the files of the POP3 session share: see pop3.h for the model.
 *
 *     session.c    the table of proto/session.h: buffers, deadlines, requests out, replies in
 *     command.c    the table of commands
 *     login.c      USER, PASS, AUTH, STLS; the maildrop is opened
 *     maildrop.c   STAT, LIST, UIDL, DELE, RSET, QUIT
 *     retrieve.c   RETR and TOP
 */
#ifndef SP_PROTO_POP3_INTERNAL_H
#define SP_PROTO_POP3_INTERNAL_H

#include "base/buf.h"
#include "proto/pop3/pop3.h"
#include "proto/sasl.h"

#include <stdio.h>

enum pop3_mode {
    MODE_COMMAND,
    MODE_SASL,   /* the line that answers AUTH */
    MODE_WAIT,   /* not read: a reply of mail comes first */
    MODE_LIST,   /* not read: a list goes out */
    MODE_SEND,   /* not read: a message goes out */
    MODE_TLS,    /* not read: TLS comes first */
    MODE_CLOSED, /* not read: the last answer is said */
};

struct pop3_message {
    uint32_t uid;
    uint32_t size; /* of bytes; configuration keeps messages below 4 GiB */
    uint8_t id[16];
    bool deleted, fetched;
};
_Static_assert(sizeof(struct pop3_message) <= SP_POP3_MESSAGE_BYTES, "pop3.h promises less");

/* What is known after the login. */
struct pop3_drop {
    struct sp_mailbox_ref mailbox;
    struct pop3_message *messages;
    uint32_t count, room;
    uint32_t left; /* not deleted */
    uint64_t left_bytes;
    /* of a list that goes out */
    uint32_t at;
    bool uidl;
    bool unseen_done; /* at QUIT: \Seen has been asked for */
    bool removed;     /* ... and the deleted messages are gone, or it was said why not */
    bool remove_failed;
};

/* A message that goes out. */
struct pop3_send {
    uint32_t number; /* from 0 */
    uint64_t done, size;
    bool begun;       /* its first line is out */
    bool whole;       /* RETR */
    bool in_body;     /* TOP: the header is over */
    uint64_t lines;   /* TOP: of the body, still wanted */
    bool line_begins; /* the next octet begins a line */
    bool cr;          /* the last one was CR */
    bool blank;       /* nothing but line end so far in this line */
    bool enough;
};

struct sp_pop3;
typedef void pop3_on_reply(struct sp_pop3 *s, const struct sp_reply *reply);

struct sp_pop3 {
    const struct sp_session_env *env;
    struct sp_session_peer peer;
    enum pop3_mode mode;
    bool tls, eof, stopping, utf8;
    bool long_line; /* what comes up to the next LF belongs to a line that is too long */
    char *user;     /* of USER; NULL: none */
    struct sp_buf in, out;
    size_t in_at, out_at;
    uint64_t deadline_ms;
    uint64_t ops, waiting_op; /* the last operation id; the one whose reply is waited for, or 0 */
    pop3_on_reply *on_reply;
    struct sp_request *request; /* to be fetched with next */
    struct sp_scram *scram;     /* while AUTH goes on with it; NULL: not */
    struct pop3_drop *drop;     /* NULL before the login */
    struct pop3_send send;
    uint32_t errors, failed_logins;
};

/* ---- session.c ---- */

/* One line, without CRLF. */
void pop3_say(struct sp_pop3 *s, const char *format, ...) SP_PRINTF(2, 3);
/* An answer to a mistake of the client's, which is counted. */
void pop3_error(struct sp_pop3 *s, const char *text);
/* Says a last line (NULL: nothing) and ends the session. */
void pop3_close(struct sp_pop3 *s, const char *text);
/* A request; NULL: there is no memory, and the client has been told. */
struct sp_request *pop3_request(struct sp_pop3 *s, enum sp_request_type type) SP_MUST_USE;
/* Hands it out; on_reply is called with what comes back, in mode COMMAND. */
void pop3_ask(struct sp_pop3 *s, struct sp_request *request, pop3_on_reply *on_reply);
/* Gives a request up that could not be filled; says so. */
void pop3_give_up(struct sp_pop3 *s, struct sp_request *request);
/* `-ERR` with the response code that fits the status, and its text. */
void pop3_refuse(struct sp_pop3 *s, const struct sp_reply *reply);

/* ---- command.c ---- */

void pop3_command(struct sp_pop3 *s, struct sp_slice line);

/* ---- login.c ---- */

void pop3_user(struct sp_pop3 *s, struct sp_slice args);
void pop3_pass(struct sp_pop3 *s, struct sp_slice args);
void pop3_auth(struct sp_pop3 *s, struct sp_slice args);
void pop3_sasl_line(struct sp_pop3 *s, struct sp_slice line);
void pop3_stls(struct sp_pop3 *s, struct sp_slice args);
void pop3_drop_free(struct sp_pop3 *s);
void pop3_scram_free(struct sp_pop3 *s);

/* ---- maildrop.c ---- */

void pop3_stat(struct sp_pop3 *s, struct sp_slice args);
void pop3_list(struct sp_pop3 *s, struct sp_slice args);
void pop3_uidl(struct sp_pop3 *s, struct sp_slice args);
void pop3_dele(struct sp_pop3 *s, struct sp_slice args);
void pop3_rset(struct sp_pop3 *s, struct sp_slice args);
void pop3_quit(struct sp_pop3 *s, struct sp_slice args);
/* The message that the argument numbers, from 0; false: there is none, and the client has been
 * told. */
bool pop3_number(struct sp_pop3 *s, struct sp_slice digits, uint32_t *ret_number);
/* Adds lines of the list until there is enough output. */
void pop3_list_more(struct sp_pop3 *s);

/* ---- retrieve.c ---- */

void pop3_retr(struct sp_pop3 *s, struct sp_slice args);
void pop3_top(struct sp_pop3 *s, struct sp_slice args);
/* Asks for what comes next. */
void pop3_send_more(struct sp_pop3 *s);

#endif
