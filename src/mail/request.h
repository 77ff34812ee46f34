/* What a session may ask of `mail`, and what it gets back: plain data, one table of requests.
 *
 * Model. A protocol session (src/proto) never sees the store. It fills a struct sp_request, gives
 * it an operation id, and hands it out as an event; some time later it gets a struct sp_reply with
 * the same id. Nothing in either points into the store: slices point into the arena of the request
 * or of the reply, so that both can be written to a pipe when sessions move into a sandboxed
 * process, or to another node that owns the volume.
 *
 * Ownership. A request is heap-allocated with its own arena by sp_request_new; whoever takes it
 * from a session owns it until sp_request_free. A reply likewise (sp_reply_new / sp_reply_free); a
 * session that is given a reply borrows it for the call only.
 *
 * Errors. reply->status is SP_OK or
 *   SP_NOT_FOUND    no such account, mailbox, message      SP_EXISTS    such a mailbox is there
 * already SP_DENIED       wrong user or password, no right       SP_INVALID   malformed name or
 * argument SP_LIMIT        a stated limit                         SP_CONFLICT  the mailbox is not
 * the one it was (deleted, new UIDVALIDITY) SP_UNAVAILABLE  protected, degraded, overloaded
 * SP_NO_SPACE, SP_IO, SP_CORRUPT, SP_NO_MEMORY, SP_SHUTDOWN and reply->text then says why, for a
 * person. Every status but SP_OK means: nothing was changed.
 *
 * Durability. The reply to a request that changes something comes after its records are synced on
 * min_copies units.
 */
#ifndef SP_MAIL_REQUEST_H
#define SP_MAIL_REQUEST_H

#include "base/arena.h"
#include "base/uuid.h"

#include <stdatomic.h>

/* Limits that mail enforces; sessions should refuse earlier. */
#define SP_MAILBOX_NAME_MAX   1000U /* bytes of a mailbox path in UTF-8, '/' between levels */
#define SP_MAILBOX_LEVELS_MAX 50U   /* of a mailbox path */
#define SP_ADDRESS_MAX        320U  /* local part 64 + @ + domain 255 */
#define SP_KEYWORD_MAX        100U  /* bytes of a keyword */
#define SP_KEYWORDS_MAX       56U   /* different keywords in a mailbox */
#define SP_RECIPIENTS_MAX     1000U /* of one delivery */
/* What SMTP puts in front of a message, at most: mail allows a message so many bytes more, so that
 * the limit is one of the client's bytes. */
#define SP_TRACE_BYTES_MAX 2048U
#define SP_BODY_PIECE_MAX                                                                          \
    262144U /* bytes in one SP_REQ_BODY_PUT, and the most that travels inline */
#define SP_SECTION_PIECE_MAX                                                                       \
    65536U /* bytes of one section in one fetch reply; ask again for the rest */
#define SP_FETCH_REPLY_BYTES   262144U /* a fetch reply stops after the row that passes this */
#define SP_SECTION_DEPTH_MAX   50U
#define SP_PREVIEW_CHARS       200U
#define SP_OBJECT_ID_BYTES     16U /* of EMAILID, MAILBOXID and THREADID */
#define SP_REQUEST_ARENA_BYTES (8U << 20)
#define SP_PEER_BYTES          16U
#define SP_REPLY_ARENA_BYTES   (64U << 20)

enum sp_request_type {
    SP_REQ_AUTHENTICATE, /* user, password; or user, scram        -> account; sasl */
    SP_REQ_RESOLVE,  /* address                              -> account; SP_NOT_FOUND: no such user;
                                                                SP_DENIED: not our domain; others:
                                                                DELIVER would fail now, too */
    SP_REQ_BODY_PUT, /* body (0: a new one), bytes           -> body */
    SP_REQ_BODY_DROP, /* body                                 -> nothing; it is never named again */
    SP_REQ_DELIVER,   /* body + bytes, sender, recipients     -> recipients' statuses */
    SP_REQ_MAILBOX_LIST, /* account                              -> mailboxes */
    SP_REQ_MAILBOX_OPEN, /* account, mailbox name                -> mailbox, ranges (UIDs), keywords
                          */
    SP_REQ_MAILBOX_STATUS, /* account, mailbox name                -> mailbox */
    SP_REQ_MAILBOX_CREATE, /* account, name, special_use           -> mailbox */
    SP_REQ_MAILBOX_DELETE, /* account, name */
    SP_REQ_MAILBOX_RENAME, /* account, name, new_name */
    SP_REQ_SUBSCRIBE,      /* account, name, subscribe */
    SP_REQ_SYNC,  /* mailbox, since_modseq, uidnext       -> mailbox, ranges (new), rows (changed),
                     gone */
    SP_REQ_FETCH, /* mailbox, ranges, want, sections      -> rows; more */
    SP_REQ_STORE, /* mailbox, ranges, op, flags, ...      -> modseq, failed */
    SP_REQ_EXPUNGE,  /* mailbox, ranges                      -> modseq, ranges (expunged) */
    SP_REQ_COPY,     /* mailbox, ranges, name, move          -> uidvalidity, ranges, new_ranges */
    SP_REQ_APPEND,   /* account, name, messages[body+bytes]  -> uidvalidity, new_ranges */
    SP_REQ_MAILDROP, /* account, hold                        -> nothing; SP_EXISTS: another session
                        holds it. POP3's exclusive lock (RFC 1939 section 4) */
    SP_REQ_SEARCH,   /* mailbox, search program              -> ranges (UIDs, ascending) or uids (in
                        order) */
    SP_REQ_ACL_GET,  /* account, name, acl                   -> mailbox (with rights), acl */
    SP_REQ_ACL_SET,  /* account, name, acl */
    SP_REQ_SCRAM, /* user, scram's first and nonce         -> sasl. It says nothing of who exists */
    SP_REQ_TYPES,
};

/* Inclusive; first <= last. A list of ranges is ascending, and neither overlaps nor touches. */
struct sp_uid_range {
    uint32_t first, last;
};
struct sp_uid_ranges {
    struct sp_uid_range *ptr;
    uint32_t count;
};

/* A mailbox as a session holds it: name it by what never changes. */
struct sp_mailbox_ref {
    struct sp_uuid account;
    uint32_t mailbox;     /* id, from the reply to OPEN */
    uint32_t uidvalidity; /* checked: SP_CONFLICT when it is another */
};

/* System flags; bits from SP_FLAG_KEYWORD_0 on are the mailbox's keywords, in the order of its
 * keyword list. */
#define SP_FLAG_SEEN      0x01U
#define SP_FLAG_ANSWERED  0x02U
#define SP_FLAG_FLAGGED   0x04U
#define SP_FLAG_DELETED   0x08U
#define SP_FLAG_DRAFT     0x10U
#define SP_FLAG_SYSTEM    0x1fU
#define SP_FLAG_KEYWORD_0 8U /* keyword i is bit 8 + i */

/* Flags by name, as a client writes them. */
struct sp_flag_set {
    uint32_t system; /* SP_FLAG_* below SP_FLAG_SYSTEM */
    struct sp_slice *keywords;
    uint32_t keywords_count;
};

enum sp_store_op { SP_STORE_ADD, SP_STORE_REMOVE, SP_STORE_REPLACE };

/* Special use (RFC 6154), as bits. */
#define SP_USE_DRAFTS  0x01U
#define SP_USE_SENT    0x02U
#define SP_USE_TRASH   0x04U
#define SP_USE_JUNK    0x08U
#define SP_USE_ARCHIVE 0x10U
#define SP_USE_ALL     0x20U
#define SP_USE_FLAGGED 0x40U

/* Rights to a mailbox (RFC 4314, 2.1). */
#define SP_RIGHT_LOOKUP  0x001U /* l */
#define SP_RIGHT_READ    0x002U /* r */
#define SP_RIGHT_SEEN    0x004U /* s: \Seen */
#define SP_RIGHT_WRITE   0x008U /* w: flags but \Seen and \Deleted */
#define SP_RIGHT_INSERT  0x010U /* i: APPEND, COPY into it */
#define SP_RIGHT_POST    0x020U /* p: mail for user+path; counts for anyone */
#define SP_RIGHT_CREATE  0x040U /* k: mailboxes below it */
#define SP_RIGHT_REMOVE  0x080U /* x: DELETE, RENAME */
#define SP_RIGHT_DELETED 0x100U /* t: \Deleted */
#define SP_RIGHT_EXPUNGE 0x200U /* e */
#define SP_RIGHT_ADMIN   0x400U /* a: the rights themselves */
#define SP_RIGHTS_ALL    0x7ffU
#define SP_ACL_MAX       256U /* identifiers with rights to one mailbox */

/* Where mailboxes of others appear: under this, the owner's address, '/' (RFC 2342, 5). */
#define SP_OTHER_USERS "Other Users"

enum sp_acl_want {
    SP_ACL_MINE, /* only what is told of the mailbox */
    SP_ACL_ALL,  /* the owner's entry first */
    SP_ACL_ONE,  /* the identifier's; of the owner all rights */
};
enum sp_acl_op { SP_ACL_REPLACE, SP_ACL_ADD, SP_ACL_REMOVE };
struct sp_acl {
    struct sp_slice identifier; /* an address, "anyone"; behind a '-' negative rights */
    uint32_t rights;
    bool owner;
};

struct sp_date {
    int64_t unix_s;   /* UTC */
    int16_t zone_min; /* as the client gave it, for INTERNALDATE */
};

/* A message's bytes on their way in: what was put before (0: nothing) followed by the bytes at
 * hand. Messages up to SP_BODY_PIECE_MAX travel whole in `bytes`; longer ones are put piece by
 * piece first. */
struct sp_incoming {
    uint64_t body;
    struct sp_slice bytes;
};

struct sp_append {
    struct sp_incoming message;
    struct sp_flag_set flags;
    struct sp_date date;
    bool has_date; /* otherwise: now */
};

/* ---- FETCH ---- */

#define SP_WANT_FLAGS         0x01U /* uid, flags, modseq: always cheap */
#define SP_WANT_META          0x02U /* internal date, size, email id, when it was saved */
#define SP_WANT_ENVELOPE      0x04U
#define SP_WANT_BODYSTRUCTURE 0x08U

enum sp_section_kind {
    SP_SECTION_ALL, /* BODY[] or BODY[1.2] */
    SP_SECTION_HEADER,
    SP_SECTION_FIELDS, /* HEADER.FIELDS (fields) */
    SP_SECTION_FIELDS_NOT,
    SP_SECTION_TEXT,
    SP_SECTION_MIME,
    /* What is worked out of the message's bytes; without offset and length. */
    SP_SECTION_BINARY, /* a part, its transfer encoding undone (RFC 3516), with offset and length
                          in what comes out; SP_UNSUPPORTED: the encoding is not known. The
                          message itself, multiparts and enclosed messages have none */
    SP_SECTION_BINARY_SIZE, /* how long that is: its size alone */
    SP_SECTION_THREAD_ID, /* SP_OBJECT_ID_BYTES (RFC 8474); SP_NOT_FOUND: nothing names a thread */
    SP_SECTION_PREVIEW,   /* how its text begins (RFC 8970): UTF-8, SP_PREVIEW_CHARS at most */
    SP_SECTION_KINDS,
};
struct sp_section {
    enum sp_section_kind kind;
    uint32_t path[SP_SECTION_DEPTH_MAX];
    uint32_t path_len;
    struct sp_slice *fields;
    uint32_t fields_count;
    uint64_t offset; /* of the first byte wanted within the section */
    uint64_t length; /* bytes wanted from there on; UINT64_MAX: all */
};

struct sp_fetch_section {
    enum sp_status
        status; /* SP_OK; SP_NOT_FOUND: no such part (NIL); SP_UNAVAILABLE: its bytes are missing */
    uint64_t size;         /* bytes from `offset` on within `length`: the literal's length */
    struct sp_slice bytes; /* the first of them, at most SP_SECTION_PIECE_MAX; ask for the rest with
                              a larger offset */
    struct sp_slice rest;  /* if there is more: to be given back with that, so that it is found also
                              when the message has been expunged meanwhile; means nothing else.
                              The latest one serves best */
    bool nul;              /* BINARY: there is a NUL among all of them */
};

struct sp_row {
    uint32_t uid;
    uint64_t flags;
    uint64_t modseq;
    /* SP_WANT_META */
    struct sp_date date;
    uint64_t size;
    uint8_t email_id[SP_OBJECT_ID_BYTES]; /* of its bytes: the same for all copies */
    int64_t saved_s;                      /* when it came into this mailbox (RFC 8514), unix time */
    /* in IMAP's form, parentheses included; empty when not wanted */
    struct sp_slice envelope, bodystructure;
    struct sp_fetch_section
        *sections; /* as many as the request has, same order; NULL when it has none */
};

/* ---- SEARCH: a program in prefix order ---- */

enum sp_search_op {
    SP_SEARCH_ALL,
    SP_SEARCH_AND,     /* `count` nodes follow as operands */
    SP_SEARCH_OR,      /* `count` nodes follow */
    SP_SEARCH_NOT,     /* one follows */
    SP_SEARCH_UIDS,    /* ranges (a session turns sequence numbers into UIDs before) */
    SP_SEARCH_FLAGS,   /* all system bits of `number` set */
    SP_SEARCH_KEYWORD, /* text: keyword */
    SP_SEARCH_MODSEQ,  /* modseq >= number */
    SP_SEARCH_LARGER,  /* size > number */
    SP_SEARCH_SMALLER,
    SP_SEARCH_BEFORE, /* internal date's day (in its zone) < number; number: days since 1970 */
    SP_SEARCH_ON,
    SP_SEARCH_SINCE,
    SP_SEARCH_SENTBEFORE, /* the Date field's, likewise */
    SP_SEARCH_SENTON,
    SP_SEARCH_SENTSINCE,
    SP_SEARCH_OLDER, /* WITHIN (RFC 5032): internal date <= now - number seconds */
    SP_SEARCH_YOUNGER,
    SP_SEARCH_HEADER, /* field contains text (empty text: the field is there) */
    SP_SEARCH_FROM,   /* text in the envelope's field */
    SP_SEARCH_TO,
    SP_SEARCH_CC,
    SP_SEARCH_BCC,
    SP_SEARCH_SUBJECT,
    SP_SEARCH_BODY,        /* text in the decoded text parts */
    SP_SEARCH_TEXT,        /* ... or in the header */
    SP_SEARCH_SAVEDBEFORE, /* the day it was saved, in UTC (RFC 8514) < number, likewise */
    SP_SEARCH_SAVEDON,
    SP_SEARCH_SAVEDSINCE,
    SP_SEARCH_EMAIL_ID, /* field: the id's SP_OBJECT_ID_BYTES; other lengths match nothing */
    SP_SEARCH_THREAD_ID,
};
struct sp_search_node {
    enum sp_search_op op;
    uint32_t count;
    uint64_t number;
    struct sp_slice text; /* UTF-8 */
    struct sp_slice field;
    struct sp_uid_ranges ranges;
};
#define SP_SEARCH_NODES_MAX 1000U

enum sp_sort_key {
    SP_SORT_ARRIVAL,
    SP_SORT_CC,
    SP_SORT_DATE,
    SP_SORT_FROM,
    SP_SORT_SIZE,
    SP_SORT_SUBJECT,
    SP_SORT_TO,
    SP_SORT_DISPLAYFROM, /* RFC 5957: the name, or without one the address */
    SP_SORT_DISPLAYTO,
};
#define SP_SORT_REVERSE  0x80U /* or-ed to a key in `sort` */
#define SP_SORT_KEYS_MAX 16U
enum sp_thread { SP_THREAD_NONE, SP_THREAD_ORDEREDSUBJECT, SP_THREAD_REFERENCES };

/* ---- Request ---- */

struct sp_request {
    enum sp_request_type type;
    uint64_t op;      /* the session's operation id, echoed */
    uint64_t session; /* the session's id, for logs and for what belongs to it (bodies) */
    /* Whose share of what is scarce it takes: an IPv4 address in IPv6's mapped form, an IPv6 /64;
     * all zero: nobody's. Set by the driver of the session. */
    uint8_t peer[SP_PEER_BYTES];
    bool stranger; /* the peer has not said who it is: there is less for all such together */
    /* Set by the driver when the session is gone: what only looks something up may end early, with
     * SP_UNAVAILABLE. What changes something goes on. */
    atomic_bool cancelled;
    struct sp_arena arena;

    struct sp_uuid account;
    struct sp_mailbox_ref mailbox;
    struct sp_slice name, new_name; /* mailbox path, UTF-8, INBOX in capitals */
    struct sp_uid_ranges ranges;

    union {
        struct {
            struct sp_slice user, password;
            /* SCRAM-SHA-256 (RFC 5802, RFC 7677): `first` is client-first-message-bare, `nonce`
             * the client's part of the nonce in SCRAM and all of it in AUTHENTICATE, `final`
             * client-final-message-without-proof. The keys stay where the store is. */
            bool is_scram;
            struct {
                struct sp_slice first, nonce, final;
                uint8_t proof[32];
            } scram;
        } authenticate; /* AUTHENTICATE, SCRAM */
        struct {
            struct sp_slice address; /* local@domain without brackets */
        } resolve;
        struct sp_incoming body; /* BODY_PUT, BODY_DROP */
        struct {
            struct sp_incoming message;
            struct sp_slice sender; /* reverse-path, empty for <> */
            struct sp_slice *recipients;
            uint32_t recipients_count;
            /* Every recipient or none: when some can have it and others cannot, nobody gets it and
             * the reply is SP_UNAVAILABLE. For senders that hear one answer for all. */
            bool all;
        } deliver;
        struct {
            uint32_t special_use;
            bool subscribe;
        } manage;
        struct {
            uint64_t since_modseq;
            uint32_t uidnext;   /* the lowest UID the session has not heard of */
            uint32_t after_uid; /* resume a reply that said `more` */
        } sync;
        struct {
            unsigned want;
            uint64_t changed_since; /* only rows with a greater MODSEQ; 0: all */
            struct sp_section *sections;
            uint32_t sections_count;
            struct sp_slice rest; /* of the section whose pieces these all are; of one UID */
        } fetch;
        struct {
            enum sp_store_op op;
            struct sp_flag_set flags;
            bool has_unchanged_since;
            uint64_t unchanged_since;
        } store;
        struct {
            bool hold; /* otherwise it is given back, as it is when the session ends */
        } maildrop;
        struct {
            bool deleted_only; /* only those with \Deleted */
        } expunge;
        struct {
            bool move;
            bool whole; /* nothing, if any UID of the ranges is gone */
        } copy;
        struct {
            struct sp_append *messages; /* all or none (RFC 3502) */
            uint32_t messages_count;
            /* This UID of `mailbox` is expunged in the same commit (RFC 8508): when it is not
             * there, nothing is done, and `missing` is 1. 0: none */
            uint32_t replaces;
        } append;
        struct {
            struct sp_search_node *nodes;
            uint32_t nodes_count;
            uint8_t sort[SP_SORT_KEYS_MAX];
            uint32_t sort_count;
            enum sp_thread thread;
        } search;
        struct {
            enum sp_acl_want want;      /* ACL_GET */
            struct sp_slice identifier; /* ACL_SET, and of SP_ACL_ONE */
            enum sp_acl_op op;          /* ACL_SET */
            uint32_t rights;
        } acl;
    };
};

/* ---- Reply ---- */

struct sp_mailbox_info {
    struct sp_uuid account; /* whose it is */
    uint32_t id;
    struct sp_slice name;
    uint32_t uidvalidity, uidnext;
    uint64_t highestmodseq;
    uint32_t messages, unseen, deleted; /* counts */
    uint64_t size;                      /* bytes of all messages */
    uint32_t special_use;
    bool subscribed;
    bool exists;     /* false: a subscription to a name that is not there */
    bool protected_; /* DESIGN 6: refuse, with a reason */
    uint32_t rights; /* of the account that asks: SP_RIGHT_*; of its own mailboxes all */
    uint8_t object_id[SP_OBJECT_ID_BYTES];
};

struct sp_thread_node {
    uint32_t uid;   /* 0: a dummy */
    uint32_t depth; /* pre-order; 0 begins a thread */
};

struct sp_reply {
    uint64_t op;
    enum sp_request_type type;
    enum sp_status status;
    struct sp_slice text; /* why, when status is not SP_OK */
    struct sp_arena arena;

    struct sp_uuid account;     /* AUTHENTICATE, RESOLVE */
    struct sp_slice sasl;       /* SCRAM: server-first-message; AUTHENTICATE by it: server-final */
    uint64_t body;              /* BODY_PUT */
    enum sp_status *recipients; /* DELIVER: one for each recipient */
    struct sp_mailbox_info *mailboxes;
    uint32_t mailboxes_count;  /* LIST: all; OPEN, STATUS, CREATE, SYNC: one */
    struct sp_slice *keywords; /* OPEN, SYNC, FETCH: the mailbox's keyword list */
    uint32_t keywords_count;
    uint32_t first_unseen_uid; /* OPEN; 0: none */
    struct sp_uid_ranges
        ranges; /* OPEN: all UIDs; SYNC: new; EXPUNGE: expunged; COPY: source; SEARCH: found */
    struct sp_uid_ranges
        new_ranges;            /* COPY, APPEND: in the target, pairwise in order with the source */
    struct sp_uid_ranges gone; /* SYNC: expunged since; or all UIDs below uidnext that are not
                                  there, where it is not known when they went */
    struct sp_uid_ranges failed; /* STORE: MODIFIED by UNCHANGEDSINCE */
    uint64_t missing; /* STORE; APPEND that replaces; COPY if `whole`: how many UIDs of the ranges
                         are not there */
    struct sp_row *rows; /* SYNC: changed flags; FETCH: ascending UIDs (those that exist) */
    uint32_t rows_count;
    bool more;               /* FETCH, SYNC: not all; go on after the last row's UID */
    bool others_unavailable; /* LIST: mailboxes of others may be missing */
    struct sp_acl *acl;      /* ACL_GET */
    uint32_t acl_count;
    uint64_t modseq;          /* STORE, EXPUNGE: of the change; SEARCH: highest among the found */
    uint64_t previous_modseq; /* STORE: the mailbox's HIGHESTMODSEQ before it */
    uint32_t uidvalidity;     /* COPY, APPEND */
    uint32_t *uids;           /* SEARCH with sort: in order */
    uint32_t uids_count;
    struct sp_thread_node *threads;
    uint32_t threads_count;
};

/* NULL: no memory. */
struct sp_request *sp_request_new(enum sp_request_type type) SP_MUST_USE;
void sp_request_free(struct sp_request *request);
struct sp_reply *sp_reply_new(const struct sp_request *request) SP_MUST_USE;
void sp_reply_free(struct sp_reply *reply);

#endif
