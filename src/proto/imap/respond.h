/* The words of responses (RFC 3501, 9), appended to a buffer. Pure. */
#ifndef SP_PROTO_IMAP_RESPOND_H
#define SP_PROTO_IMAP_RESPOND_H

#include "base/buf.h"
#include "mail/request.h"

/* Text for a person: printable ASCII, anything else becomes '?'; at most some 500 bytes of it. */
void sp_imap_add_text(struct sp_buf *buf, struct sp_slice text);
/* A mailbox name, quoted: in UTF-8 for clients that have enabled it, else in modified UTF-7. */
void sp_imap_add_name(struct sp_buf *buf, struct sp_slice name, bool utf8);
/* The same in modified UTF-7. */
void sp_imap_add_mailbox(struct sp_buf *buf, struct sp_slice name);
/* "1:3,5" */
void sp_imap_add_ranges(struct sp_buf *buf, struct sp_uid_ranges ranges);
/* "* 12 NAME\r\n" */
void sp_imap_add_count(struct sp_buf *buf, uint32_t count, const char *name);

/* "F0123...": an object id (RFC 8474, 7) with the letter that says of what. */
void sp_imap_add_object_id(struct sp_buf *buf, char kind, const uint8_t id[SP_OBJECT_ID_BYTES]);
#define SP_IMAP_OBJECT_ID_BYTES (1U + 2U * SP_OBJECT_ID_BYTES)
/* The same into room that was reserved. */
uint8_t *sp_imap_put_object_id(uint8_t *at, char kind, const uint8_t id[SP_OBJECT_ID_BYTES]);

/* A string: quoted where it can be, else a literal. */
void sp_imap_add_string(struct sp_buf *buf, struct sp_slice string);

/* Fast writing into room that was reserved: each returns where the next byte goes. */
static inline uint8_t *sp_imap_put(uint8_t *at, struct sp_slice slice)
{
    if (slice.len)
        memcpy(at, slice.ptr, slice.len);
    return at + slice.len;
}
uint8_t *sp_imap_put_decimal(uint8_t *at, uint64_t value); /* at most 20 bytes */

#define SP_IMAP_SYSTEM_FLAGS_BYTES 48U /* of the five, with blanks */
/* "(\Seen \Flagged name)": SP_IMAP_SYSTEM_FLAGS_BYTES + 2 bytes, and each keyword and a blank. */
uint8_t *sp_imap_put_flags(uint8_t *at, uint64_t flags, const struct sp_slice *keywords,
                           uint32_t keywords_count);
#define SP_IMAP_DATE_BYTES 28U
/* "01-Jan-2026 12:00:00 +0100" with its quotes: SP_IMAP_DATE_BYTES. */
uint8_t *sp_imap_put_date(uint8_t *at, struct sp_date date);

#endif
