/* What the files of the SMTP session share: see smtp.h for the model.
 *
 *     session.c      the table of proto/session.h: buffers, deadlines, requests out, replies in
 *     command.c      the table of commands
 *     transaction.c  from MAIL to the reply after the data
 *     path.c text.c  pure helpers
 */
#ifndef SP_PROTO_SMTP_INTERNAL_H
#define SP_PROTO_SMTP_INTERNAL_H

#include "base/buf.h"
#include "proto/smtp/path.h"
#include "proto/smtp/smtp.h"
#include "proto/smtp/text.h"

/* What the next octets of the client are. */
enum smtp_mode {
    MODE_COMMAND, /* a command line */
    MODE_DATA,    /* text, up to CRLF.CRLF */
    MODE_CHUNK,   /* the rest of a BDAT */
    MODE_FINISH,  /* not read: the data or chunk is complete, its reply is on the way */
    MODE_TLS,     /* not read: TLS comes first */
    MODE_CLOSED,  /* not read: the last reply is said */
};

/* Which request is under way. */
enum smtp_wait { WAIT_NONE, WAIT_RESOLVE, WAIT_PUT, WAIT_DELIVER };

struct smtp_transaction {
    struct sp_arena arena; /* addresses */
    struct sp_slice sender;
    struct sp_slice *recipients; /* those accepted; heap */
    uint32_t recipients_count, recipients_room;
    struct sp_slice candidate; /* the recipient that is being resolved */
    bool refused_recipients;   /* some were */
    bool utf8;                 /* SMTPUTF8 */
    bool begun;                /* data has begun */
    uint64_t declared_bytes;   /* SIZE, 0: not said */
    uint64_t text_bytes;       /* of the client's data, so far */
    struct sp_smtp_text text;
    struct sp_smtp_hops hops;
    struct sp_buf piece; /* what is to be put or delivered next */
    uint64_t body;       /* what was put; 0: nothing */
    const char *refusal; /* NULL, or the reply that its data will get: nothing is kept any more */
};

struct smtp_chunk {
    uint64_t left; /* octets to come */
    bool last;
    const char *refusal; /* NULL, or the octets are only skipped, and this is the reply */
};

struct sp_smtp {
    const struct sp_session_env *env;
    struct sp_session_peer peer;
    enum sp_smtp_flavour flavour;
    enum smtp_mode mode;
    enum smtp_wait wait;
    bool tls, esmtp, eof;
    bool stopping;  /* the server stops: 421 as soon as what is under way is answered */
    bool long_line; /* what comes up to the next LF belongs to a line that is too long */
    char *helo;     /* the client's name; NULL: EHLO is still to come */
    struct sp_buf in, out;
    size_t in_at, out_at; /* taken, sent */
    uint64_t deadline_ms;
    uint64_t data_deadline_ms;    /* of all data of the message */
    uint64_t ops, waiting_op;     /* the last operation id; the one whose reply is waited for */
    struct sp_request *request;   /* to be fetched with next */
    uint64_t drop_body;           /* SP_REQ_BODY_DROP to be fetched first; 0: none */
    uint64_t orphan_body;         /* of a transaction that ended during a PUT or DELIVER */
    struct smtp_transaction *txn; /* NULL between transactions */
    struct smtp_chunk chunk;
    uint64_t swallowed_bytes; /* of refused data, since then or since the last MAIL */
    uint32_t txns;            /* MAILs so far; with peer.id a name for the message */
    uint32_t errors, bad_recipients, idle_commands;
};

/* ---- session.c ---- */

/* One reply line, without CRLF. */
void smtp_reply(struct sp_smtp *s, const char *format, ...) SP_PRINTF(2, 3);
/* A reply to a mistake of the client's, which is counted. */
void smtp_error(struct sp_smtp *s, const char *text);
/* Says a last line (NULL: nothing) and ends the session. */
void smtp_close(struct sp_smtp *s, const char *text);
/* Queues a request, NULL when there was no memory for it: false. */
bool smtp_ask(struct sp_smtp *s, enum smtp_wait wait, struct sp_request *request) SP_MUST_USE;

static inline struct sp_slice smtp_unread(const struct sp_smtp *s)
{
    return sp_slice_from(sp_buf_slice(&s->in), s->in_at);
}
static inline bool smtp_is_lmtp(const struct sp_smtp *s)
{
    return s->flavour == SP_LMTP;
}

/* ---- command.c ---- */

/* line: without CRLF. */
void smtp_command(struct sp_smtp *s, struct sp_slice line);

/* ---- transaction.c ---- */

/* Begins a transaction; false: no memory. */
bool smtp_transaction_begin(struct sp_smtp *s, const struct sp_smtp_path *sender, bool utf8,
                            uint64_t declared_bytes) SP_MUST_USE;
/* Ends it, if there is one, and lets go of what was put. */
void smtp_transaction_abort(struct sp_smtp *s);
/* A recipient to be resolved; the reply comes later, or now if that fails. */
void smtp_transaction_recipient(struct sp_smtp *s, const struct sp_smtp_path *path);
/* The data begins; false: no memory. */
bool smtp_transaction_text(struct sp_smtp *s, bool dots) SP_MUST_USE;
/* Takes data from the input; false when it can go no further now. */
bool smtp_transaction_data(struct sp_smtp *s);
bool smtp_transaction_chunk(struct sp_smtp *s);
/* Goes on with a message or chunk that is complete; false when it waits. */
bool smtp_transaction_finish(struct sp_smtp *s);

void smtp_transaction_resolved(struct sp_smtp *s, const struct sp_reply *reply);
void smtp_transaction_put(struct sp_smtp *s, const struct sp_reply *reply);
void smtp_transaction_delivered(struct sp_smtp *s, const struct sp_reply *reply);

#endif
