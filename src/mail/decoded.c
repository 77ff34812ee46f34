#include "mail/decoded.h"

#define SCRATCH_BYTES 65536U

/* The next window of the part: whole chunks of a long message, so that each is read once. */
static enum sp_status next_window(struct sp_decoded *decoded, struct sp_slice *ret_window,
                                  bool *ret_last)
{
    uint64_t from = decoded->offset + decoded->at.taken;
    uint64_t left = decoded->part_bytes - decoded->at.taken;
    uint64_t len = SP_BODY_PIECE_MAX - from % SP_BODY_PIECE_MAX;
    if (len < SP_MIME_DECODE_AHEAD)
        len += SP_BODY_PIECE_MAX;
    if (len > left)
        len = left;
    if (sp_op_cancelled(decoded->op))
        return SP_UNAVAILABLE;
    *ret_last = len == left;
    return sp_bytes_get(decoded->bytes, decoded->item, from, len, ret_window);
}

static void rewind_decoding(struct sp_decoding *at)
{
    at->decoder = (struct sp_mime_decoder){.encoding = at->decoder.encoding};
    at->taken = at->passed = 0;
}

/* Decodes until room is full or the part has ended. */
static enum sp_status fill(struct sp_decoded *decoded, struct sp_slice_mut room, size_t *ret_len)
{
    struct sp_decoding *at = &decoded->at;
    size_t len = 0;
    while (len < room.len && at->taken < decoded->part_bytes) {
        struct sp_slice window;
        bool last;
        size_t taken = 0;
        enum sp_status status = next_window(decoded, &window, &last);
        if (status)
            return status;
        while (len < room.len && taken < window.len) {
            size_t some,
                n = sp_mime_decode(&at->decoder, sp_slice_from(window, taken), last,
                                   (struct sp_slice_mut){room.ptr + len, room.len - len}, &some);
            taken += n;
            len += some;
            if (!n)
                break; /* it wants to see what follows */
        }
        sp_assert(taken);
        at->taken += taken;
        decoded->work += taken;
    }
    at->passed += len;
    *ret_len = len;
    return SP_OK;
}

enum sp_status sp_decoded_count(struct sp_decoded *decoded, bool *ret_nul)
{
    uint8_t scratch[SCRATCH_BYTES];
    bool nul = false;
    size_t len;
    rewind_decoding(&decoded->at);
    do {
        enum sp_status status = fill(decoded, (struct sp_slice_mut){scratch, sizeof scratch}, &len);
        if (status)
            return status;
        nul = nul || (len && memchr(scratch, 0, len));
    } while (len == sizeof scratch);
    decoded->at.size = decoded->at.passed;
    *ret_nul = nul;
    return SP_OK;
}

enum sp_status sp_decoded_read(struct sp_decoded *decoded, uint64_t offset,
                               struct sp_slice_mut room, size_t *ret_len)
{
    uint8_t scratch[SCRATCH_BYTES];
    if (decoded->at.passed > offset)
        rewind_decoding(&decoded->at);
    while (decoded->at.passed < offset) {
        uint64_t left = offset - decoded->at.passed;
        size_t len, want = left < sizeof scratch ? (size_t)left : sizeof scratch;
        enum sp_status status = fill(decoded, (struct sp_slice_mut){scratch, want}, &len);
        if (status)
            return status;
        if (len < want)
            break; /* nothing is there */
    }
    return fill(decoded, room, ret_len);
}
