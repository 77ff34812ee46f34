/* The inside of an IMAP session: what its files share. Nobody else includes this.
 *
 *     session.c      bytes in and out, the life of a session, which command runs next
 *     sync.c         the selected mailbox, and telling the client what changed in it
 *     qresync.c      VANISHED, and what a client missed since it was last here
 *     cmd_*.c        the commands; each begins in sp_imap_run_*, goes on in handlers of replies,
 * and ends in sp_imap_finish or sp_imap_end, exactly once respond.c      the words of responses
 */
#ifndef SP_PROTO_IMAP_STATE_H
#define SP_PROTO_IMAP_STATE_H

#include "base/buf.h"
#include "proto/imap/assemble.h"
#include "proto/imap/command.h"
#include "proto/imap/imap.h"
#include "proto/imap/uidmap.h"
#include "proto/sasl.h"

enum sp_imap_phase {
    SP_IMAP_READING,   /* a command */
    SP_IMAP_RUNNING,   /* a command; nothing is read */
    SP_IMAP_SASL,      /* reads a line of AUTHENTICATE */
    SP_IMAP_IDLING,    /* reads DONE */
    SP_IMAP_APPENDING, /* reads the messages of APPEND */
    SP_IMAP_TLS,       /* waits for the handshake */
    SP_IMAP_CLOSED,    /* says what it has to say, and closes */
};

/* The selected mailbox. */
struct sp_imap_selected {
    struct sp_mailbox_ref ref;
    bool read_only;
    uint32_t rights;                /* SP_RIGHT_* */
    bool news;                      /* something may have changed since the last SYNC */
    uint64_t retry_ms;              /* the last SYNC failed: IDLE waits until then; 0: it did not */
    uint32_t uidnext;               /* the lowest UID not heard of */
    uint64_t modseq;                /* all changes up to this one are known */
    uint64_t told_first, told_last; /* later ones whose flags STORE has reported */
    struct sp_imap_uidmap map;
    /* What SEARCH saved for `$`, ascending; what was expunged since is still in it. */
    struct sp_uid_range *saved;
    uint32_t saved_count;
    /* Expunged, and not told of yet: ascending, all within the map. */
    struct sp_uid_range *gone;
    uint32_t gone_count;
    /* One block: the slices, then their bytes. */
    struct sp_slice *keywords;
    uint32_t keywords_count;
    uint32_t keywords_bytes; /* with a blank for each */
    size_t name_len;
    uint8_t name[]; /* as it was selected */
};

struct sp_imap;
struct sp_imap_fetch;
struct sp_imap_append;

struct sp_imap {
    const struct sp_session_env *env;
    struct sp_session_peer peer;
    enum sp_imap_phase phase;
    bool authenticated;
    bool condstore;
    unsigned enabled; /* SP_IMAP_ENABLE_*, and what follows from it: */
    bool qresync;
    bool rev2;        /* IMAP4rev2's responses */
    bool utf8;        /* mailbox names are in UTF-8 */
    bool uidonly;     /* no sequence numbers */
    bool highest_due; /* the tagged response is made last, and names the MODSEQ then known */
    bool eof;         /* the client has closed its side */
    bool stopping;    /* the server stops: BYE as soon as the command that runs is answered */
    struct sp_uuid account;
    uint64_t started_ms, active_ms;
    unsigned bad_count;

    /* Input: the command that is read or runs, and what was pipelined behind it. */
    struct sp_buf in;
    struct sp_imap_assembler assembler;
    size_t command_bytes; /* at the front of `in`, that the running command's slices point into */
    /* Output: what was made so far, of it sent. */
    struct sp_buf out;
    size_t sent;

    /* The command. */
    struct sp_imap_command command;
    struct sp_arena arena;
    struct sp_buf final;         /* its tagged response, kept until news is told */
    struct sp_imap_fetch *fetch; /* FETCH, and STORE's report; in the arena */
    struct sp_imap_append *append;
    struct sp_scram *scram; /* of AUTHENTICATE; NULL: PLAIN */
    struct sp_imap_selected *selected;
    bool idle_done;
    uint32_t sync_uidnext; /* while a SYNC is under way: what was new before it */
    uint64_t sync_modseq;  /* 0: no page of its answer has come */

    /* Requests. One at a time, but for bodies that are dropped: nobody waits for those. */
    struct sp_request *ready;
    void (*handler)(struct sp_imap *s,
                    const struct sp_reply *reply); /* NULL: no reply is awaited */
    uint64_t op;
    uint64_t *drops;
    uint32_t drops_count;
};

/* ---- session.c ---- */

/* A request of the session, with account and (if one is selected) mailbox; NULL: no memory. */
struct sp_request *sp_imap_request_new(const struct sp_imap *s, enum sp_request_type type);
/* The same for a command; NULL: it has ended. */
struct sp_request *sp_imap_request(struct sp_imap *s, enum sp_request_type type);
/* Hands it out; handler gets the reply. */
void sp_imap_submit(struct sp_imap *s, struct sp_request *request,
                    void (*handler)(struct sp_imap *s, const struct sp_reply *reply));
/* For a request that could not be filled: ends the command. */
void sp_imap_abandon(struct sp_imap *s, struct sp_request *request);
/* A body that was put will not be used. */
void sp_imap_drop_body(struct sp_imap *s, uint64_t body);

/* Ends the command: "OK ...", "NO ..." or "BAD ...", first the news if any. */
void sp_imap_finish(struct sp_imap *s, const char *response);
/* "OK NAME completed", with UID before the name where it was given. */
void sp_imap_finish_ok(struct sp_imap *s);
/* The same in two steps, for responses with codes: the buffer with the tag in it, then the end. */
struct sp_buf *sp_imap_final(struct sp_imap *s);
void sp_imap_end(struct sp_imap *s);
/* " NAME completed\r\n" onto that buffer, and the end. */
void sp_imap_end_completed(struct sp_imap *s, struct sp_buf *final);
/* After the news: the tagged response, and on to the next command. */
void sp_imap_conclude(struct sp_imap *s);
/* "BAD why" */
void sp_imap_bad(struct sp_imap *s, const char *why);
/* NO, with the response code and text that the status calls for; not_found is the code for
 * SP_NOT_FOUND. A status that says that the selected mailbox is gone, or the server stopping, ends
 * the session. */
void sp_imap_refuse(struct sp_imap *s, const struct sp_reply *reply, const char *not_found);
/* The same for requests about the selected mailbox, which cannot be missing. */
void sp_imap_refuse_selected(struct sp_imap *s, const struct sp_reply *reply);
/* "* BYE text", then close; before it the response that sp_imap_final holds, if any. Within a
 * literal there is no saying that: what is there is sent, and the connection closed. */
void sp_imap_bye(struct sp_imap *s, const char *text);
/* Closes at once; nothing more is sent. */
void sp_imap_abort(struct sp_imap *s);
size_t sp_imap_unsent(const struct sp_imap *s);
/* The running command reads on: its text is consumed, what it keeps of it must be in the arena. */
void sp_imap_read_on(struct sp_imap *s, enum sp_imap_phase phase);
/* Drops n bytes at the front of the input. */
void sp_imap_consume(struct sp_imap *s, size_t n);

/* ---- commands.c ---- */

/* Runs s->command. */
void sp_imap_run(struct sp_imap *s);
/* " IMAP4rev1 ..." */
void sp_imap_add_capability(const struct sp_imap *s, struct sp_buf *buf);

/* ---- sync.c ---- */

void sp_imap_unselect(struct sp_imap *s);
/* Tells of what is pending, asks for what is new; then concludes the command. */
void sp_imap_news(struct sp_imap *s);
/* In IDLE: the same, if there is room for it in the output. */
void sp_imap_idle_news(struct sp_imap *s);
/* Takes over the keyword list of a reply; tells the client when it has grown and `tell`. */
bool sp_imap_learn_keywords(struct sp_imap *s, const struct sp_reply *reply, bool tell);
void sp_imap_tell_flags(struct sp_imap *s);
/* The session made the change that this reply to a STORE tells of, and the client knows of it. */
void sp_imap_own_change(struct sp_imap_selected *selected, const struct sp_reply *reply);
/* The client was shown the flags of every message that the change with this MODSEQ touched. */
void sp_imap_told(struct sp_imap_selected *selected, uint64_t modseq);
/* Messages are gone; told at once, since the command allows it. False: no memory, the session has
 * ended. */
bool sp_imap_expunged(struct sp_imap *s, struct sp_uid_ranges ranges);
/* Turns a set as written into UIDs for a request, in the command's arena. False: the command has
 * ended. */
bool sp_imap_resolve(struct sp_imap *s, struct sp_imap_set set, struct sp_uid_ranges *ret_uids);
/* The same for a set of either kind; on false *ret_error is set, if the reason is not memory. */
bool sp_imap_resolve_set(struct sp_imap *s, struct sp_imap_set set, bool sequence,
                         struct sp_uid_ranges *ret_uids, const char **ret_error);
/* A client has shown that it speaks CONDSTORE. */
void sp_imap_enable_condstore(struct sp_imap *s);
/* Copies ranges to a request. */
bool sp_imap_request_ranges(struct sp_request *request, struct sp_uid_ranges ranges);

/* ---- esearch.c ---- */

/* SEARCH or SORT with RETURN: uids are what was found, in order, all known to the session, in the
 * command's arena; modseq is the highest among them, 0 if nobody wants it. Answers and ends. */
void sp_imap_esearch(struct sp_imap *s, struct sp_uid_ranges uids, uint64_t modseq);
/* Nothing is saved any more. */
void sp_imap_forget_saved(struct sp_imap *s);
/* Adds a stretch to a list in order; there is room. */
void sp_imap_add_run(struct sp_uid_ranges *runs, uint32_t first, uint32_t last);
/* Those that stand at the places of partial, to ret_part, which has room for runs.count. */
struct sp_uid_ranges sp_imap_partial_of(struct sp_uid_ranges runs, struct sp_imap_partial partial,
                                        struct sp_uid_range *ret_part);

/* ---- qresync.c ---- */

/* The VANISHED response for those of ranges that the client knows of. False: no memory. */
bool sp_imap_tell_vanished(struct sp_imap *s, struct sp_uid_ranges ranges);
/* The mailbox is selected, its state told, and its tagged response in sp_imap_final: tells what
 * changed since the client was last here, then that response. */
void sp_imap_resync(struct sp_imap *s);
/* What changed cannot be told: the client, which has been told HIGHESTMODSEQ, would take its copy
 * for complete. The mailbox is not selected, and the command ends. reply NULL: no memory. */
void sp_imap_resync_failed(struct sp_imap *s, const struct sp_reply *reply);
/* UID FETCH (CHANGEDSINCE n VANISHED): first what was expunged, then the fetch. */
void sp_imap_fetch_vanished(struct sp_imap *s);

/* ---- Commands ---- */

void sp_imap_run_list(struct sp_imap *s);
void sp_imap_run_select(struct sp_imap *s);
void sp_imap_run_close(struct sp_imap *s);
void sp_imap_run_unselect(struct sp_imap *s);
void sp_imap_run_status(struct sp_imap *s);
void sp_imap_run_manage(struct sp_imap *s); /* CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE */
void sp_imap_run_acl(struct sp_imap *s);    /* GETACL, SETACL, DELETEACL, LISTRIGHTS, MYRIGHTS */
void sp_imap_run_fetch(struct sp_imap *s);
void sp_imap_run_store(struct sp_imap *s);
void sp_imap_run_expunge(struct sp_imap *s);
void sp_imap_run_copy(struct sp_imap *s);   /* and MOVE */
void sp_imap_run_search(struct sp_imap *s); /* and SORT, THREAD */
void sp_imap_run_login(struct sp_imap *s);
void sp_imap_run_authenticate(struct sp_imap *s);
void sp_imap_run_starttls(struct sp_imap *s);
void sp_imap_sasl_line(struct sp_imap *s, struct sp_slice line);

/* APPEND: extent is what the assembler said of the announcement of its first message. */
void sp_imap_run_append(struct sp_imap *s, const struct sp_imap_extent *extent);
/* Takes what it can of the input. True: call again when there is more. */
void sp_imap_append_input(struct sp_imap *s);
/* Room to read message bytes into without a detour; len 0: none now. */
struct sp_slice_mut sp_imap_append_room(struct sp_imap *s);
bool sp_imap_append_blocked(const struct sp_imap *s);
void sp_imap_append_ack(struct sp_imap *s, size_t n);
void sp_imap_append_free(struct sp_imap *s);

/* FETCH: the next part of the answer, when there is room for it. */
void sp_imap_fetch_more(struct sp_imap *s);
/* The fetch of the command that runs; what vanished has been told. */
void sp_imap_begin_fetch(struct sp_imap *s);
/* UID, FLAGS and MODSEQ of those of uids that changed since; then the response that sp_imap_final
 * holds. */
void sp_imap_report_changed(struct sp_imap *s, struct sp_uid_ranges uids, uint64_t since);
/* Whether the output ends within a literal. */
bool sp_imap_in_literal(const struct sp_imap *s);
void sp_imap_fetch_release(struct sp_imap *s);
/* STORE's report: flags (or MODSEQ alone) of uids, changed under modseq; then the response that
 * sp_imap_final holds. */
void sp_imap_report_flags(struct sp_imap *s, struct sp_uid_ranges uids, unsigned items,
                          uint64_t modseq);

#endif
