/* What SEARCH hands to SORT and THREAD. */
#ifndef SP_MAIL_SEARCH_H
#define SP_MAIL_SEARCH_H

#include "mail/internal.h"
#include "mime/mime.h"

/* ENVELOPE's subject without reading the rest; false: it has a form that needs
 * sp_mime_read_envelope. */
bool sp_envelope_subject(struct sp_slice envelope, struct sp_slice *ret_subject);

/* A found message's keys. Slices in the operation's arena; texts are decoded and folded. */
struct sp_sort_entry {
    uint32_t uid;
    int64_t arrival, sent; /* UTC; sent: of the Date field, or if it has none, arrival */
    uint64_t size;
    struct sp_slice subject;      /* the base subject (RFC 5256, 2.1) */
    bool reply;                   /* ... something like "Re:" was removed from it */
    struct sp_slice from, to, cc; /* the mailbox of the first address */
    struct sp_slice message_id;   /* THREAD=REFERENCES: as in the envelope */
    struct sp_slice
        references; /* likewise: References, or if it has none the first of In-Reply-To; raw */
};
#define SP_NEED_SENT       0x01U
#define SP_NEED_SUBJECT    0x02U
#define SP_NEED_ADDRESSES  0x04U
#define SP_NEED_REFERENCES 0x08U
/* The keys of the messages within ranges (those still there), by ascending UID. */
enum sp_status sp_sort_entries(struct sp_op *op, struct sp_uid_ranges ranges, unsigned need,
                               struct sp_sort_entry **ret_entries, uint32_t *ret_count) SP_MUST_USE;

/* Each turns what was found into the reply's uids, or threads. */
enum sp_status sp_op_sort(struct sp_op *op, struct sp_uid_ranges found) SP_MUST_USE;
enum sp_status sp_op_thread(struct sp_op *op, struct sp_uid_ranges found) SP_MUST_USE;

#endif
