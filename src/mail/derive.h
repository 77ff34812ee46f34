/* What is worked out of a message's bytes each time that somebody asks.
 *
 * Nothing of it is stored: it costs the reading of a header or of a part's beginning, which a
 * client that asks for it would have to read otherwise, and is the same after any recovery, since
 * it depends on the bytes alone.
 */
#ifndef SP_MAIL_DERIVE_H
#define SP_MAIL_DERIVE_H

#include "mail/body_read.h"

/* The thread (RFC 8474, 5.2): a digest of the Message-ID that began it, as far as the header says
 * (sp_mime_thread_root). So replies share the id of what they answer also when that is in another
 * mailbox, came later, or is gone. SP_NOT_FOUND: the header names none. Else as sp_bytes_get. */
enum sp_status sp_thread_id(struct sp_bytes *bytes, const struct sp_item *item,
                            uint8_t ret_id[SP_OBJECT_ID_BYTES]) SP_MUST_USE;

/* Where the texts are that a preview is made of: the first plain one and the first in HTML, those
 * of enclosed messages apart. Plain data but for the slices. */
struct sp_preview_text {
    uint64_t offset, bytes;
    struct sp_slice encoding, charset;
};
struct sp_preview_texts {
    struct sp_preview_text plain, html; /* bytes 0: none */
};
/* Slices: copied to arena. SP_NO_MEMORY. */
enum sp_status sp_preview_find(const struct sp_mime_message *parts, struct sp_arena *arena,
                               struct sp_preview_texts *ret_texts) SP_MUST_USE;
/* The preview (RFC 8970): of the plain text, or if that says nothing of the HTML. Looks at the
 * first 64 KiB of each. Empty when there is nothing to show. As sp_bytes_get. */
enum sp_status sp_preview(struct sp_bytes *bytes, const struct sp_item *item,
                          const struct sp_preview_texts *texts, struct sp_buf *buf) SP_MUST_USE;

#endif
