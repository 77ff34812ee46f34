/* Transfer encodings undone piece by piece, with a state small enough to be kept elsewhere. */
#include "mime/internal.h"

/* Blanks in a quoted-printable line: up to so many are looked past for the line's end, where they
 * would be transport's. RFC 5322 allows lines of 998. */
#define BLANKS_MAX 1000U

enum sp_mime_encoding sp_mime_encoding_of(struct sp_slice name)
{
    static const struct {
        const char *name;
        enum sp_mime_encoding encoding;
    } names[] = {
        {"", SP_MIME_ENCODING_NONE},
        {"7bit", SP_MIME_ENCODING_NONE},
        {"8bit", SP_MIME_ENCODING_NONE},
        {"binary", SP_MIME_ENCODING_NONE},
        {"base64", SP_MIME_ENCODING_BASE64},
        {"quoted-printable", SP_MIME_ENCODING_QUOTED_PRINTABLE},
    };
    name = sp_slice_trim(name);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (sp_slice_eq_nocase(name, sp_slice_str(names[i].name)))
            return names[i].encoding;
    return SP_MIME_ENCODING_UNKNOWN;
}

struct step {
    struct sp_slice in;
    struct sp_slice_mut out;
    size_t at, len; /* taken of in, written to out */
    bool last;
};

static void decode_base64(struct sp_mime_decoder *decoder, struct step *step)
{
    while (step->at < step->in.len && step->len < step->out.len) {
        uint8_t c = step->in.ptr[step->at++];
        int value = sp_mime_base64_value(c);
        if (value < 0) {
            if (c == '=')
                decoder->bits = decoder->count = 0;
            continue;
        }
        decoder->bits = decoder->bits << 6 | (uint32_t)value;
        decoder->count += 6;
        if (decoder->count < 8)
            continue;
        decoder->count -= 8;
        step->out.ptr[step->len++] = (uint8_t)(decoder->bits >> decoder->count);
        decoder->bits &= (1U << decoder->count) - 1;
    }
}

enum run { RUN_ENDS_LINE, RUN_IN_LINE, RUN_UNKNOWN };

/* What becomes of blanks from `at` on. *ret_next: behind them, and behind the line end. */
static enum run look_past_blanks(const struct step *step, size_t at, size_t *ret_end,
                                 size_t *ret_next)
{
    struct sp_slice in = step->in;
    size_t end = at;
    while (end < in.len && end - at <= BLANKS_MAX && sp_mime_is_blank(in.ptr[end]))
        end++;
    *ret_end = *ret_next = end;
    if (end - at > BLANKS_MAX)
        return RUN_IN_LINE;
    size_t left = in.len - end;
    if (left == 0)
        return step->last ? RUN_ENDS_LINE : RUN_UNKNOWN;
    if (in.ptr[end] == '\n')
        *ret_next = end + 1;
    else if (in.ptr[end] == '\r' && left == 1 && !step->last)
        return RUN_UNKNOWN;
    else if (in.ptr[end] == '\r' && left > 1 && in.ptr[end + 1] == '\n')
        *ret_next = end + 2;
    else
        return RUN_IN_LINE;
    return RUN_ENDS_LINE;
}

/* "=" at step->at: a soft line end, a byte in hexadecimal, or itself. False: more input is needed.
 */
static bool decode_escape(struct step *step)
{
    struct sp_slice in = step->in;
    size_t at = step->at + 1, end, next;
    enum run run = look_past_blanks(step, at, &end, &next);
    if (run == RUN_UNKNOWN)
        return false;
    if (run == RUN_ENDS_LINE) {
        step->at = next;
        return true;
    }
    if (in.len - at < 2 && !step->last)
        return false;
    int high = in.len - at < 2 ? -1 : sp_mime_hex_value(in.ptr[at]);
    int low = high < 0 ? -1 : sp_mime_hex_value(in.ptr[at + 1]);
    step->out.ptr[step->len++] = low < 0 ? '=' : (uint8_t)(high * 16 + low);
    step->at += low < 0 ? 1 : 3;
    return true;
}

/* A blank at step->at. False: more input is needed. decoder->count: the run it is in stays. */
static bool decode_blank(struct sp_mime_decoder *decoder, struct step *step)
{
    size_t end, next;
    if (!decoder->count) {
        enum run run = look_past_blanks(step, step->at, &end, &next);
        if (run == RUN_UNKNOWN)
            return false;
        if (run == RUN_ENDS_LINE) {
            step->at = end;
            return true;
        }
        decoder->count = 1;
    }
    step->out.ptr[step->len++] = step->in.ptr[step->at++];
    return true;
}

static void decode_quoted_printable(struct sp_mime_decoder *decoder, struct step *step)
{
    while (step->at < step->in.len && step->len < step->out.len) {
        uint8_t c = step->in.ptr[step->at];
        if (sp_mime_is_blank(c)) {
            if (!decode_blank(decoder, step))
                return;
            continue;
        }
        decoder->count = 0;
        if (c != '=') {
            step->out.ptr[step->len++] = c;
            step->at++;
        } else if (!decode_escape(step)) {
            return;
        }
    }
}

size_t sp_mime_decode(struct sp_mime_decoder *decoder, struct sp_slice in, bool last,
                      struct sp_slice_mut out, size_t *ret_len)
{
    struct step step = {.in = in, .out = out, .last = last};
    switch (decoder->encoding) {
    case SP_MIME_ENCODING_BASE64:
        decode_base64(decoder, &step);
        break;
    case SP_MIME_ENCODING_QUOTED_PRINTABLE:
        decode_quoted_printable(decoder, &step);
        break;
    default:
        step.at = step.len = in.len < out.len ? in.len : out.len;
        if (step.len)
            memcpy(out.ptr, in.ptr, step.len);
    }
    *ret_len = step.len;
    return step.at;
}
