/* A command, parsed: what the client wants, nothing yet about whether it can be had.
 *
 * Everything it points to lies in the command's text or in the arena it was parsed with. Sequence
 * sets stay as written: what they mean depends on the mailbox at the time the command runs.
 */
#ifndef SP_PROTO_IMAP_COMMAND_H
#define SP_PROTO_IMAP_COMMAND_H

#include "proto/imap/imap.h"
#include "proto/imap/parse.h"

enum sp_imap_verb {
    SP_IMAP_APPEND,
    SP_IMAP_AUTHENTICATE,
    SP_IMAP_CAPABILITY,
    SP_IMAP_CHECK,
    SP_IMAP_CLOSE,
    SP_IMAP_COPY,
    SP_IMAP_CREATE,
    SP_IMAP_DELETE,
    SP_IMAP_DELETEACL,
    SP_IMAP_ENABLE,
    SP_IMAP_EXAMINE,
    SP_IMAP_EXPUNGE,
    SP_IMAP_FETCH,
    SP_IMAP_GETACL,
    SP_IMAP_ID,
    SP_IMAP_IDLE,
    SP_IMAP_LIST,
    SP_IMAP_LISTRIGHTS,
    SP_IMAP_LOGIN,
    SP_IMAP_LOGOUT,
    SP_IMAP_LSUB,
    SP_IMAP_MOVE,
    SP_IMAP_MYRIGHTS,
    SP_IMAP_NAMESPACE,
    SP_IMAP_NOOP,
    SP_IMAP_RENAME,
    SP_IMAP_REPLACE,
    SP_IMAP_SEARCH,
    SP_IMAP_SELECT,
    SP_IMAP_SETACL,
    SP_IMAP_SORT,
    SP_IMAP_STARTTLS,
    SP_IMAP_STATUS,
    SP_IMAP_STORE,
    SP_IMAP_SUBSCRIBE,
    SP_IMAP_THREAD,
    SP_IMAP_UNAUTHENTICATE,
    SP_IMAP_UNSELECT,
    SP_IMAP_UNSUBSCRIBE,
    SP_IMAP_VERBS,
};

/* What STATUS is asked for; bit i is name i. */
#define SP_IMAP_STATUS_MESSAGES      0x01U
#define SP_IMAP_STATUS_RECENT        0x02U
#define SP_IMAP_STATUS_UIDNEXT       0x04U
#define SP_IMAP_STATUS_UIDVALIDITY   0x08U
#define SP_IMAP_STATUS_UNSEEN        0x10U
#define SP_IMAP_STATUS_HIGHESTMODSEQ 0x20U
#define SP_IMAP_STATUS_SIZE          0x40U
#define SP_IMAP_STATUS_APPENDLIMIT   0x80U
#define SP_IMAP_STATUS_MAILBOXID     0x100U
#define SP_IMAP_STATUS_DELETED       0x400U

/* LIST's selection options. */
#define SP_IMAP_SELECT_SUBSCRIBED     0x01U
#define SP_IMAP_SELECT_REMOTE         0x02U
#define SP_IMAP_SELECT_RECURSIVEMATCH 0x04U
#define SP_IMAP_SELECT_SPECIAL_USE    0x08U
/* Its return options. */
#define SP_IMAP_RETURN_SUBSCRIBED  0x01U
#define SP_IMAP_RETURN_CHILDREN    0x02U
#define SP_IMAP_RETURN_SPECIAL_USE 0x04U
#define SP_IMAP_RETURN_MYRIGHTS    0x08U
#define SP_IMAP_RETURN_STATUS      0x10U

struct sp_imap_list_args {
    struct sp_slice reference;
    struct sp_slice patterns[SP_IMAP_PATTERNS_MAX];
    uint32_t patterns_count;
    unsigned select, returns;
    unsigned status; /* SP_IMAP_STATUS_* */
};

/* FETCH items; bodies are sections. */
#define SP_IMAP_ITEM_FLAGS         0x01U
#define SP_IMAP_ITEM_UID           0x02U
#define SP_IMAP_ITEM_INTERNALDATE  0x04U
#define SP_IMAP_ITEM_SIZE          0x08U
#define SP_IMAP_ITEM_MODSEQ        0x10U
#define SP_IMAP_ITEM_ENVELOPE      0x20U
#define SP_IMAP_ITEM_BODY          0x40U
#define SP_IMAP_ITEM_BODYSTRUCTURE 0x80U
#define SP_IMAP_ITEM_EMAILID       0x100U
#define SP_IMAP_ITEM_SAVEDATE      0x200U

/* Which results of all, by their place, from 1 on (RFC 9394). */
struct sp_imap_partial {
    uint32_t first, last; /* first <= last */
    bool from_end;        /* counted from the last result back */
};

struct sp_imap_fetch_args {
    struct sp_imap_set set;
    unsigned items;
    struct sp_section *sections;
    struct sp_slice *labels; /* as the response names them: "BODY[TEXT]<0>", "RFC822" */
    uint32_t sections_count;
    uint32_t sections_capacity;
    uint64_t reads; /* bit i: section i sets \Seen */
    uint64_t lazy;  /* ... is a preview that may be left out */
    uint64_t changed_since;
    bool has_changed_since;
    bool vanished; /* what was expunged since then is asked for as well */
    bool has_partial;
    struct sp_imap_partial partial; /* of the messages that the set names */
};

/* What a client says of its copy when it selects a mailbox (RFC 7162, 3.2.5). */
struct sp_imap_resync {
    uint32_t uidvalidity;
    uint64_t modseq;
    bool has_known;
    struct sp_imap_set known; /* UIDs; otherwise all */
    /* Which numbers it had for which UIDs: as many of each, ascending. */
    struct sp_imap_set match_seqs, match_uids;
};

struct sp_imap_store_args {
    struct sp_imap_set set;
    enum sp_store_op op;
    struct sp_flag_set flags;
    bool silent;
    bool has_unchanged_since;
    uint64_t unchanged_since;
};

/* What ENABLE can enable. */
#define SP_IMAP_ENABLE_CONDSTORE 0x01U
#define SP_IMAP_ENABLE_QRESYNC   0x02U
#define SP_IMAP_ENABLE_REV2      0x04U
#define SP_IMAP_ENABLE_UTF8      0x08U
#define SP_IMAP_ENABLE_UIDONLY   0x10U
#define SP_IMAP_ENABLE_COUNT     5U
extern const char *const sp_imap_enable_names[SP_IMAP_ENABLE_COUNT]; /* bit i is name i */

/* ESEARCH's return options. */
#define SP_IMAP_ESEARCH_MIN     0x01U
#define SP_IMAP_ESEARCH_MAX     0x02U
#define SP_IMAP_ESEARCH_ALL     0x04U
#define SP_IMAP_ESEARCH_COUNT   0x08U
#define SP_IMAP_ESEARCH_SAVE    0x10U
#define SP_IMAP_ESEARCH_PARTIAL 0x20U

struct sp_imap_search_args {
    bool extended;    /* RETURN was given: answer in ESEARCH */
    bool has_charset; /* SEARCH with CHARSET */
    bool has_numbers; /* a key is a set of sequence numbers */
    unsigned returns; /* SP_IMAP_ESEARCH_* */
    bool has_modseq;
    uint8_t sort[SP_SORT_KEYS_MAX];
    uint32_t sort_count;
    enum sp_thread thread;
    /* In prefix order. Of SP_SEARCH_UIDS nodes the ranges are a set as written, and number 1 says
     * that it is of sequence numbers, not of UIDs, 2 that it is `$`. */
    struct sp_search_node *nodes;
    uint32_t nodes_count;
    struct sp_imap_partial partial;
    /* While it runs: what was found, in order; what the answer names of it, where that is not all;
     * the highest MODSEQ among those. */
    struct sp_uid_ranges found, named;
    uint64_t modseq;
};

struct sp_imap_command {
    struct sp_slice tag;
    enum sp_imap_verb verb;
    bool uid; /* UID FETCH, UID STORE, ... */
    union {
        struct {
            struct sp_slice user, password;
        } login;
        struct {
            struct sp_slice mechanism, initial;
            bool has_initial;
        } authenticate;
        struct {
            struct sp_slice name, new_name;
            uint32_t special_use; /* CREATE */
            bool condstore;       /* SELECT, EXAMINE */
            struct sp_imap_resync *resync;
            unsigned status; /* STATUS */
        } mailbox;
        struct {
            struct sp_imap_set set;
            struct sp_slice name;
        } copy; /* COPY, MOVE, UID EXPUNGE */
        struct {
            struct sp_slice name;
            struct sp_append *message;   /* the first one, without its bytes */
            struct sp_imap_set replaced; /* REPLACE: one number */
        } append;
        struct {
            struct sp_slice name, identifier;
            enum sp_acl_op op;
            uint32_t rights;
        } acl;                          /* GETACL, SETACL, DELETEACL, LISTRIGHTS, MYRIGHTS */
        unsigned enable;                /* SP_IMAP_ENABLE_* */
        struct sp_imap_list_args *list; /* LIST, LSUB */
        struct sp_imap_fetch_args *fetch;
        struct sp_imap_store_args *store;
        struct sp_imap_search_args *search; /* SEARCH, SORT, THREAD */
    };
};

/* In which states a command may be given. */
#define SP_IMAP_IN_NOT_AUTHENTICATED 0x01U
#define SP_IMAP_IN_AUTHENTICATED     0x02U
#define SP_IMAP_IN_SELECTED          0x04U

/* The name of a command as responses show it ("SEARCH"), and the states it may be given in. */
const char *sp_imap_verb_name(enum sp_imap_verb verb);
unsigned sp_imap_verb_states(enum sp_imap_verb verb);

/* Parses text, a whole command without its last line end. On false p->error is set, and
 * ret_command->tag is empty if there was none; the rest of *ret_command is then not to be used. p
 * starts zeroed but for the arena. */
bool sp_imap_parse_command(struct sp_imap_parse *p, struct sp_slice text,
                           struct sp_imap_command *ret_command);

/* What stands before the message of an APPEND: flags and date, both optional. */
bool sp_imap_parse_append_message(struct sp_imap_parse *p, struct sp_append *ret_message);

/* "1:100" or "-1:-100" (RFC 9394, 3.1). */
bool sp_imap_parse_partial(struct sp_imap_parse *p, struct sp_imap_partial *ret_partial);

/* SELECT's QRESYNC parameter, behind its name. */
bool sp_imap_parse_resync(struct sp_imap_parse *p, struct sp_imap_resync **ret_resync);

/* The arguments of one command each, from the blank before them on; the command's verb is set. */
bool sp_imap_parse_fetch(struct sp_imap_parse *p, struct sp_imap_command *command);
bool sp_imap_parse_search(struct sp_imap_parse *p, struct sp_imap_command *command);
bool sp_imap_parse_list(struct sp_imap_parse *p, struct sp_imap_command *command);
bool sp_imap_parse_status(struct sp_imap_parse *p, struct sp_imap_command *command);

#endif
