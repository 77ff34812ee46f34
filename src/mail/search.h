/* What SEARCH hands to SORT and THREAD. */
#ifndef SP_MAIL_SEARCH_H
#define SP_MAIL_SEARCH_H

#include "mail/internal.h"
#include "mail/search_file.h"
#include "mime/mime.h"

/* ENVELOPE's subject without reading the rest; false: it has a form that needs
 * sp_mime_read_envelope. */
bool sp_envelope_subject(struct sp_slice envelope, struct sp_slice *ret_subject);

/* A found message's keys; texts are decoded and folded. Ids are hashed: only whether two are the
 * same counts. */
struct sp_sort_entry {
    uint32_t uid;
    int64_t arrival, sent; /* UTC; sent: of the Date field, or if it has none, arrival */
    uint64_t size;
    struct sp_slice subject;                  /* the base subject (RFC 5256, 2.1) */
    bool reply;                               /* ... something like "Re:" was removed from it */
    struct sp_slice from, to, cc;             /* the mailbox of the first address */
    struct sp_slice display_from, display_to; /* what is shown of the first address */
    struct sp_slice id;                       /* THREAD=REFERENCES: of Message-ID; may be empty */
    /* Likewise, of References, or if it has none the first of In-Reply-To: one after the other. */
    struct sp_slice references;
};
#define SP_NEED_SENT       0x01U
#define SP_NEED_SUBJECT    0x02U
#define SP_NEED_ADDRESSES  0x04U
#define SP_NEED_REFERENCES 0x08U
#define SP_NEED_DISPLAY    0x10U
/* ---- sort_keys.c: keys out of a message ---- */

struct sp_sort_maker {
    struct sp_buf decoded, base, folded;
    bool doubtful; /* a text was cut, for its length or for want of memory: not to be kept */
};
void sp_sort_maker_init(struct sp_sort_maker *maker);
void sp_sort_maker_release(struct sp_sort_maker *maker);
/* What the index knows of a message; slices in arena. scratch: memory until the call returns. */
enum sp_status sp_sort_make(struct sp_sort_maker *maker, const struct sp_message *message,
                            unsigned need, struct sp_arena *scratch, struct sp_arena *arena,
                            struct sp_sort_entry *entry) SP_MUST_USE;
/* The References field is in no ENVELOPE: where the header has one, it takes the place of
 * In-Reply-To. */
enum sp_status sp_sort_make_references(struct sp_slice header, struct sp_arena *arena,
                                       struct sp_sort_entry *entry) SP_MUST_USE;

/* ---- sort.c, thread.c ---- */

/* The keys of the messages within ranges (those still there), by ascending UID; slices in the
 * operation's arena. */
enum sp_status sp_sort_entries(struct sp_op *op, struct sp_uid_ranges ranges, unsigned need,
                               struct sp_sort_entry **ret_entries, uint32_t *ret_count) SP_MUST_USE;

/* Each turns what was found into the reply's uids, or threads. */
enum sp_status sp_op_sort(struct sp_op *op, struct sp_uid_ranges found) SP_MUST_USE;
enum sp_status sp_op_thread(struct sp_op *op, struct sp_uid_ranges found) SP_MUST_USE;

#endif
