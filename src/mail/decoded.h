/* A part's content with its transfer encoding undone (RFC 3516), read piece by piece.
 *
 * The size of what comes out is known only when all of it has been decoded once, and it must be
 * promised before the first byte is sent. So a part is decoded twice: to be counted, and to be
 * sent. The second time it goes from piece to piece with the decoder's state, which travels in a
 * `rest` (rest.h) where the next piece is asked for by another request. Memory is a window of the
 * message and a piece, whatever the part's size.
 */
#ifndef SP_MAIL_DECODED_H
#define SP_MAIL_DECODED_H

#include "mail/body_read.h"

/* Where decoding stands. Plain data. */
struct sp_decoding {
    struct sp_mime_decoder decoder;
    uint64_t taken;  /* of the part's bytes */
    uint64_t passed; /* bytes that came out before */
    uint64_t size;   /* of all that comes out; UINT64_MAX: not counted yet */
};

/* A part: bytes [offset, offset + bytes) of the item. */
struct sp_decoded {
    struct sp_op *op;
    struct sp_bytes *bytes;
    const struct sp_item *item;
    uint64_t offset, part_bytes;
    struct sp_decoding at;
    uint64_t work; /* bytes of parts that were looked at so far */
};

/* Counts what comes out, from the beginning; *ret_nul says whether there is a NUL in it. What
 * sp_bytes_get returns; SP_UNAVAILABLE also when nobody waits for it any more. */
enum sp_status sp_decoded_count(struct sp_decoded *decoded, bool *ret_nul) SP_MUST_USE;
/* Up to room.len bytes from `passed` == offset on; goes there first, from where it stands or else
 * from the beginning. *ret_len is less only at the end. As above. */
enum sp_status sp_decoded_read(struct sp_decoded *decoded, uint64_t offset,
                               struct sp_slice_mut room, size_t *ret_len) SP_MUST_USE;

#endif
