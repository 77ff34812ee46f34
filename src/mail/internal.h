/* What the files of `mail` share: an operation on its way from request to reply. Not for others.
 *
 *     mail.c         the table of requests; an operation's life
 *     account.c      accounts and credentials; RESOLVE
 *     auth.c         AUTHENTICATE: the hashing threads, the memory of verified passwords
 *     scram.c        SCRAM: keys and proofs
 *     body.c         bodies being received
 *     body_read.c    a message taken out of the index, its bytes read afterwards
 *     rest.c         where the rest of a long section is
 *     plan.c         what plans check and emit
 *     deliver.c      DELIVER, APPEND          mailbox.c   LIST .. SUBSCRIBE
 *     fetch.c        FETCH, SYNC, OPEN        store.c     STORE, EXPUNGE, COPY, MOVE
 *     search.c       SEARCH                   match.c     finding text in text
 *     sort.c         SORT                     thread.c    THREAD
 *     rights.c       who may do what              acl.c       ACL_GET, ACL_SET
 *     sort_keys.c    the keys of SORT and THREAD, out of a message
 *     search_file.c  ... kept, and search_worker.c: by whom
 *     maildrop.c     MAILDROP: who has one open by POP3
 *     import.c       what the import command needs
 *
 * An operation is owned by one thread at a time: whoever executes it, then the committer, or a
 * hashing thread. It ends in sp_op_finish, exactly once.
 */
#ifndef SP_MAIL_INTERNAL_H
#define SP_MAIL_INTERNAL_H

#include "mail/mail.h"
#include "store/volume.h"

#include <pthread.h>

#define SP_READERS_MAX 16U /* kept for the next user */
#define SP_OP_ARENA_BYTES                                                                          \
    (256U << 20) /* of one operation's working memory: SORT and THREAD of large mailboxes */
#define SP_PLAN_MESSAGES_MAX 100000U     /* in one COPY or MOVE */
#define SP_PLAN_BYTES_MAX    (64U << 20) /* of records in one DELIVER or APPEND */
#define SP_MAILBOXES_MAX     10000U      /* of one account; subscriptions likewise */

struct sp_bodies;
struct sp_maildrops;
struct sp_search_file;
struct sp_search_worker;
struct sp_auth;

struct sp_mail {
    struct sp_mail_config config;
    struct sp_volume *volume;
    struct sp_index *index;
    struct sp_bodies *bodies;
    struct sp_auth *auth;
    struct sp_maildrops *maildrops;
    struct sp_search_file *search_file; /* NULL: nothing is kept for SEARCH and SORT */
    struct sp_search_worker *search_worker;
    uint8_t rest_secret[32];  /* rest.h; random */
    uint8_t scram_secret[32]; /* scram.h; random */

    pthread_mutex_t lock; /* of the next three */
    pthread_cond_t idle;
    uint64_t ops; /* under way */
    struct sp_reader *readers[SP_READERS_MAX];
    uint32_t readers_count;

    pthread_mutex_t notify_lock; /* held while the listener is called */
    sp_mail_notify *notify;
    void *notify_context;
};

struct sp_op {
    struct sp_mail *mail;
    struct sp_request *request;
    struct sp_reply *reply;
    sp_mail_done *done;
    void *context;
    struct sp_arena arena; /* working memory until it is finished */

    struct sp_commit commit;
    enum sp_status (*plan)(struct sp_plan *plan, struct sp_op *op);
    /* What the plan needs, or NULL; released by `release` when the operation is finished. */
    void *state;
    void (*release)(struct sp_op *op);
    struct sp_op *next; /* in the queue for hashing */
};

/* ---- mail.c ---- */

/* Ends the operation: the reply goes out. */
void sp_op_finish(struct sp_op *op, enum sp_status status);
/* Says why, for a person; returns status. why is a literal. */
enum sp_status sp_op_refuse(struct sp_op *op, enum sp_status status, const char *why);
/* Hands the operation to the committer; it ends with the outcome. The plan may be run again if its
 * batch has to be, so it sets what it sets anew. */
void sp_op_submit(struct sp_op *op, enum sp_status (*plan)(struct sp_plan *plan, struct sp_op *op),
                  size_t weight);

/* Nobody waits for the reply any more. To be asked now and then by what may take long. */
static inline bool sp_op_cancelled(const struct sp_op *op)
{
    return atomic_load_explicit(&op->request->cancelled, memory_order_relaxed);
}

/* A reader for this thread, until given back. NULL: no memory. */
struct sp_reader *sp_mail_take_reader(struct sp_mail *mail) SP_MUST_USE;
void sp_mail_give_reader(struct sp_mail *mail, struct sp_reader *reader);

/* The mailbox a session holds: SP_CONFLICT when it is gone or another, or may no longer be read;
 * SP_UNAVAILABLE when protected; SP_DENIED without one of the rights that it needs. */
enum sp_status sp_op_mailbox(struct sp_op *op, struct sp_read *read, uint32_t need,
                             struct sp_mailbox *ret_mailbox) SP_MUST_USE;
/* The mailbox a request names: SP_NOT_FOUND, also where the account may not know of it;
 * SP_DENIED without one of the rights that it needs; SP_UNAVAILABLE when it could be among those
 * an account's gap hides. */
enum sp_status sp_op_named_mailbox(struct sp_op *op, struct sp_read *read, struct sp_slice path,
                                   uint32_t need, struct sp_mailbox *ret_mailbox) SP_MUST_USE;
extern const char sp_why_protected[];

/* ---- Requests: each is called by sp_mail_execute and ends in sp_op_finish ---- */

typedef void sp_op_handler(struct sp_op *op);
sp_op_handler sp_op_authenticate, sp_op_scram, sp_op_resolve, sp_op_body_put, sp_op_body_drop,
    sp_op_deliver, sp_op_append, sp_op_list, sp_op_open, sp_op_status, sp_op_create, sp_op_delete,
    sp_op_rename, sp_op_subscribe, sp_op_sync, sp_op_fetch, sp_op_store, sp_op_expunge, sp_op_copy,
    sp_op_search, sp_op_maildrop, sp_op_acl_get, sp_op_acl_set;

/* ---- maildrop.c ---- */

/* NULL: no memory. */
struct sp_maildrops *sp_maildrops_new(void) SP_MUST_USE;
void sp_maildrops_free(struct sp_maildrops *drops);
/* Gives back what the session holds. */
void sp_maildrops_forget_session(struct sp_maildrops *drops, uint64_t session);

/* ---- Ranges of UIDs, being made ---- */

/* Grows in an arena; add ascending. On lack of memory it is failed and ignores the rest. */
struct sp_uid_list {
    struct sp_arena *arena;
    struct sp_uid_range *ptr;
    uint32_t count, capacity;
    uint64_t uids; /* how many UIDs */
    bool failed;
};
static inline struct sp_uid_list sp_uid_list(struct sp_arena *arena)
{
    return (struct sp_uid_list){.arena = arena};
}
void sp_uid_list_add(struct sp_uid_list *list, uint32_t first, uint32_t last);
static inline struct sp_uid_ranges sp_uid_list_ranges(const struct sp_uid_list *list)
{
    return (struct sp_uid_ranges){list->ptr, list->count};
}
/* How many UIDs ranges name. */
uint64_t sp_uid_ranges_count(struct sp_uid_ranges ranges);
/* The same as spans for a record; false: no memory. */
bool sp_uid_list_spans(const struct sp_uid_list *list, struct sp_arena *arena,
                       struct sp_span_list *ret_spans);

/* Walks the flag rows of the messages within ranges, ascending. */
struct sp_range_walk {
    struct sp_flag_cursor cursor;
    struct sp_uid_ranges ranges;
    struct sp_read *read;
    struct sp_uuid account;
    uint32_t mailbox, at;
    uint32_t from; /* nothing below this UID; 0 to begin with */
    uint64_t since_modseq;
    bool open;
};
void sp_range_walk_init(struct sp_range_walk *walk, struct sp_read *read,
                        const struct sp_mailbox *mailbox, struct sp_uid_ranges ranges,
                        uint64_t since_modseq);
/* SP_OK with a row, SP_EOF, SP_IO. */
enum sp_status sp_range_walk_next(struct sp_range_walk *walk,
                                  struct sp_flag_row *ret_row) SP_MUST_USE;
void sp_range_walk_end(struct sp_range_walk *walk);

/* Room for one more element of size bytes in an array that doubles in an arena; NULL: no memory. */
void *sp_arena_grow(struct sp_arena *arena, void *array, uint32_t count, uint32_t *capacity,
                    size_t size);

#endif
