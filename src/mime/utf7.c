/* Modified UTF-7 (RFC 3501, 5.1.3). Only the one form of a name that the RFC allows is accepted, so
 * that a name has one encoding: no printable ASCII in base64, no two base64 runs next to each
 * other, no bits left over. */
#include "mime/internal.h"

static int value_of(uint8_t c)
{
    return c == ',' ? 63 : c == '/' ? -1 : sp_mime_base64_value(c);
}

static void add_code_point(uint32_t c, struct sp_buf *buf)
{
    if (c < 0x80) {
        sp_buf_add_byte(buf, (uint8_t)c);
        return;
    }
    if (c < 0x800) {
        sp_buf_add_byte(buf, (uint8_t)(0xc0 | c >> 6));
    } else {
        if (c < 0x10000) {
            sp_buf_add_byte(buf, (uint8_t)(0xe0 | c >> 12));
        } else {
            sp_buf_add_byte(buf, (uint8_t)(0xf0 | c >> 18));
            sp_buf_add_byte(buf, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        }
        sp_buf_add_byte(buf, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
    }
    sp_buf_add_byte(buf, (uint8_t)(0x80 | (c & 0x3f)));
}

/* The run of base64 without '&' and '-'. */
static bool decode_run(struct sp_slice run, struct sp_buf *buf)
{
    uint32_t bits = 0, lead = 0;
    unsigned count = 0;
    for (size_t i = 0; i < run.len; i++) {
        int value = value_of(run.ptr[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count < 16)
            continue;
        count -= 16;
        uint32_t unit = bits >> count & 0xffff;
        bits &= (1U << count) - 1;
        bool low = unit >= 0xdc00 && unit <= 0xdfff;
        if (low != (lead != 0) || (unit >= 0x20 && unit <= 0x7e))
            return false;
        if (low) {
            add_code_point(0x10000 + ((lead - 0xd800) << 10) + (unit - 0xdc00), buf);
            lead = 0;
        } else if (unit >= 0xd800 && unit <= 0xdbff) {
            lead = unit;
        } else {
            add_code_point(unit, buf);
        }
    }
    return !lead && count < 6 && !bits;
}

enum sp_status sp_mime_utf7_to_utf8(struct sp_slice name, struct sp_buf *buf)
{
    size_t before = buf->len, at = 0;
    bool after_run = false;
    while (at < name.len) {
        uint8_t c = name.ptr[at++];
        if (c < 0x20 || c > 0x7e)
            goto invalid;
        if (c != '&') {
            sp_buf_add_byte(buf, c);
            after_run = false;
            continue;
        }
        struct sp_slice rest = sp_slice_from(name, at);
        size_t end = sp_slice_find(rest, '-');
        if (end == SIZE_MAX)
            goto invalid;
        at += end + 1;
        if (end == 0) {
            sp_buf_add_byte(buf, '&');
            after_run = false;
            continue;
        }
        if (after_run || !decode_run(sp_slice_sub(rest, 0, end), buf))
            goto invalid;
        after_run = true;
    }
    return SP_OK;
invalid:
    buf->len = before;
    return SP_INVALID;
}

/* The code point at text[*at], which is valid UTF-8. */
static uint32_t next_code_point(struct sp_slice text, size_t *at)
{
    uint8_t c = text.ptr[(*at)++];
    if (c < 0x80)
        return c;
    unsigned follow = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    uint32_t value = c & (0x3fU >> follow);
    while (follow--)
        value = value << 6 | (text.ptr[(*at)++] & 0x3fU);
    return value;
}

struct encoder {
    struct sp_buf *buf;
    uint32_t bits;
    unsigned count;
};

static void put_bits(struct encoder *encoder, uint32_t bits, unsigned count)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
    encoder->bits = encoder->bits << count | bits;
    encoder->count += count;
    while (encoder->count >= 6) {
        encoder->count -= 6;
        sp_buf_add_byte(encoder->buf, (uint8_t)digits[encoder->bits >> encoder->count & 0x3f]);
    }
    encoder->bits &= (1U << encoder->count) - 1;
}

enum sp_status sp_mime_utf8_to_utf7(struct sp_slice name, struct sp_buf *buf)
{
    if (!sp_mime_is_utf8(name))
        return SP_INVALID;
    for (size_t at = 0; at < name.len;) {
        uint8_t c = name.ptr[at];
        if (c >= 0x20 && c <= 0x7e) {
            at++;
            sp_buf_add_byte(buf, c);
            if (c == '&')
                sp_buf_add_byte(buf, '-');
            continue;
        }
        struct encoder encoder = {.buf = buf};
        sp_buf_add_byte(buf, '&');
        while (at < name.len && (name.ptr[at] < 0x20 || name.ptr[at] > 0x7e)) {
            uint32_t point = next_code_point(name, &at);
            if (point >= 0x10000) {
                put_bits(&encoder, 0xd800 + ((point - 0x10000) >> 10), 16);
                point = 0xdc00 + ((point - 0x10000) & 0x3ff);
            }
            put_bits(&encoder, point, 16);
        }
        if (encoder.count) /* the last digit is filled with zeros */
            put_bits(&encoder, 0, 6 - encoder.count);
        sp_buf_add_byte(buf, '-');
    }
    return SP_OK;
}
