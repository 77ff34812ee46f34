/* Message bytes: noted while a snapshot is open, read when it has ended.
 *
 * No read transaction outlives a request, and none waits for a disk: what is needed to find a
 * message's bytes is copied out of the index first. A long message is never held whole: any stretch
 * of it is read by itself.
 */
#ifndef SP_MAIL_BODY_READ_H
#define SP_MAIL_BODY_READ_H

#include "mail/internal.h"
#include "mime/mime.h"

/* Where a message's bytes are. */
struct sp_item {
    uint64_t size;
    uint32_t header_bytes;
    struct sp_body_row *bodies; /* payload_bytes 0: the index knows no place for it */
    uint32_t bodies_count;
};
/* From a snapshot, into arena. SP_NO_MEMORY, SP_IO. */
enum sp_status sp_item_load(struct sp_read *read, const struct sp_message *message,
                            struct sp_arena *arena, struct sp_item *ret_item) SP_MUST_USE;

/* Reads them; for one thread. */
struct sp_bytes {
    struct sp_mail *mail;
    struct sp_reader *reader; /* taken at the first use */
    struct sp_buf joined;     /* of a stretch that spans chunks */
};
void sp_bytes_init(struct sp_bytes *bytes, struct sp_mail *mail);
void sp_bytes_release(struct sp_bytes *bytes);
#define SP_BYTES_MAX (1U << 20) /* most that can be asked for at once of a message in chunks */
/* [offset, offset + len) of the message; valid until the next call. SP_INVALID beyond its size.
 * SP_UNAVAILABLE: the bytes are missing or damaged on all units (logged). SP_LIMIT: more than
 * SP_BYTES_MAX. SP_NO_MEMORY. */
enum sp_status sp_bytes_get(struct sp_bytes *bytes, const struct sp_item *item, uint64_t offset,
                            uint64_t len, struct sp_slice *ret_bytes) SP_MUST_USE;

#endif
