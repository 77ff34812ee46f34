/* Content-Transfer-Encoding (RFC 2045, 6), decoded piece by piece into a charset converter. */
#include "mime/internal.h"

#define PIECE_BYTES 3072U

int sp_mime_base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int sp_mime_hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = sp_ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* What is not of the alphabet is passed over (6.8); padding ends a group, after which another may
 * begin. */
void sp_mime_feed_base64(struct sp_mime_converter *converter, struct sp_slice content, bool last)
{
    uint8_t piece[PIECE_BYTES];
    size_t len = 0;
    uint32_t bits = 0;
    unsigned count = 0;
    for (size_t i = 0; i < content.len; i++) {
        int value = sp_mime_base64_value(content.ptr[i]);
        if (value < 0) {
            if (content.ptr[i] == '=')
                bits = count = 0;
            continue;
        }
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count < 8)
            continue;
        count -= 8;
        piece[len++] = (uint8_t)(bits >> count);
        bits &= (1U << count) - 1;
        if (len == sizeof piece) {
            sp_mime_converter_feed(converter, sp_slice(piece, len), false);
            len = 0;
        }
    }
    sp_mime_converter_feed(converter, sp_slice(piece, len), last);
}

/* The index after the line end at text[at], or at when there is none. */
static size_t skip_line_end(struct sp_slice text, size_t at)
{
    if (at < text.len && text.ptr[at] == '\n')
        return at + 1;
    if (at + 1 < text.len && text.ptr[at] == '\r' && text.ptr[at + 1] == '\n')
        return at + 2;
    return at;
}

static size_t skip_blanks(struct sp_slice text, size_t at)
{
    while (at < text.len && sp_mime_is_blank(text.ptr[at]))
        at++;
    return at;
}

/* Rules of 6.7: "=" and a line end is nothing; blanks at a line's end are transport's and dropped;
 * a "=" that begins nothing stands for itself. */
void sp_mime_feed_quoted_printable(struct sp_mime_converter *converter, struct sp_slice content)
{
    uint8_t piece[PIECE_BYTES];
    size_t len = 0, i = 0;
    while (i < content.len) {
        uint8_t c = content.ptr[i++];
        if (c == '=') {
            size_t end = skip_blanks(content, i), next = skip_line_end(content, end);
            if (next > end || end == content.len) {
                i = next;
                continue;
            }
            int high, low;
            if (i + 1 < content.len && (high = sp_mime_hex_value(content.ptr[i])) >= 0 &&
                (low = sp_mime_hex_value(content.ptr[i + 1])) >= 0) {
                c = (uint8_t)(high * 16 + low);
                i += 2;
            }
        } else if (sp_mime_is_blank(c)) {
            size_t end = skip_blanks(content, i);
            if (end == content.len || skip_line_end(content, end) > end) {
                i = end;
                continue;
            }
            /* Inside a line: the whole run stands; it is copied at once so that it is looked
             * through once. */
            for (i--; i < end; i++) {
                if (len == sizeof piece) {
                    sp_mime_converter_feed(converter, sp_slice(piece, len), false);
                    len = 0;
                }
                piece[len++] = content.ptr[i];
            }
            continue;
        }
        if (len == sizeof piece) {
            sp_mime_converter_feed(converter, sp_slice(piece, len), false);
            len = 0;
        }
        piece[len++] = c;
    }
    sp_mime_converter_feed(converter, sp_slice(piece, len), true);
}

void sp_mime_decode_text(struct sp_slice content, struct sp_slice encoding, struct sp_slice charset,
                         struct sp_buf *buf)
{
    struct sp_mime_converter converter;
    if (!sp_mime_converter_open(&converter, charset, buf)) {
        buf->failed = true;
        return;
    }
    encoding = sp_slice_trim(encoding);
    if (sp_slice_eq_nocase(encoding, SP_S("base64")))
        sp_mime_feed_base64(&converter, content, true);
    else if (sp_slice_eq_nocase(encoding, SP_S("quoted-printable")))
        sp_mime_feed_quoted_printable(&converter, content);
    else
        sp_mime_converter_feed(&converter, content, true);
    sp_mime_converter_close(&converter);
}
