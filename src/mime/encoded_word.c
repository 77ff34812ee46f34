/* Encoded words (RFC 2047), with what mailers have made of them: inside quotes, without blanks
 * around, a character cut in two between words. */
#include "mime/internal.h"

/* RFC 2047 allows 75, and a line has 998 at most. Without a limit, what begins many words and ends
 * none would be looked through to its end for each. */
#define WORD_BYTES_MAX 2048U

size_t sp_mime_encoded_word(struct sp_slice text, struct sp_mime_encoded_word *ret_word)
{
    if (text.len < 7 || text.ptr[0] != '=' || text.ptr[1] != '?')
        return 0;
    text = sp_slice_sub(text, 0, WORD_BYTES_MAX);
    size_t at = 2;
    while (at < text.len && text.ptr[at] != '?' && text.ptr[at] > ' ' && text.ptr[at] < 127)
        at++;
    struct sp_mime_encoded_word word = {.charset = sp_slice_sub(text, 2, at)};
    if (!word.charset.len || at + 3 > text.len || text.ptr[at] != '?' || text.ptr[at + 2] != '?')
        return 0;
    word.encoding = sp_ascii_lower(text.ptr[at + 1]);
    if (word.encoding != 'q' && word.encoding != 'b')
        return 0;
    size_t start = at + 3;
    for (at = start; at < text.len && text.ptr[at] != '?'; at++)
        if (text.ptr[at] == '\r' || text.ptr[at] == '\n')
            return 0;
    /* A bare '?' in the text is wrong, but is seen in Q. */
    while (at + 1 < text.len && text.ptr[at + 1] != '=') {
        if (text.ptr[at] <= ' ')
            return 0;
        at++;
        while (at < text.len && text.ptr[at] != '?' && text.ptr[at] > ' ')
            at++;
    }
    if (at + 1 >= text.len || text.ptr[at] != '?')
        return 0;
    word.text = sp_slice_sub(text, start, at);
    *ret_word = word;
    return at + 2;
}

static void feed_q(struct sp_mime_converter *converter, struct sp_slice text)
{
    uint8_t piece[256];
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        int high, low;
        if (c == '_') {
            c = ' ';
        } else if (c == '=' && i + 2 < text.len &&
                   (high = sp_mime_hex_value(text.ptr[i + 1])) >= 0 &&
                   (low = sp_mime_hex_value(text.ptr[i + 2])) >= 0) {
            c = (uint8_t)(high * 16 + low);
            i += 2;
        }
        if (len == sizeof piece) {
            sp_mime_converter_feed(converter, sp_slice(piece, len), false);
            len = 0;
        }
        piece[len++] = c;
    }
    sp_mime_converter_feed(converter, sp_slice(piece, len), false);
}

/* Text that is not encoded: unfolded, and made UTF-8. */
static void add_plain(struct sp_slice text, struct sp_buf *buf)
{
    size_t start = 0;
    bool valid = sp_mime_is_utf8(text);
    for (size_t i = 0; i <= text.len; i++) {
        if (i < text.len && text.ptr[i] != '\n' &&
            !(text.ptr[i] == '\r' && i + 1 < text.len && text.ptr[i + 1] == '\n'))
            continue;
        struct sp_slice line = sp_slice_sub(text, start, i);
        if (valid)
            sp_buf_add(buf, line);
        else
            sp_mime_to_utf8(line, SP_S("UTF-8"), buf);
        start = i + 1;
    }
}

static size_t skip_space(struct sp_slice text, size_t at)
{
    while (at < text.len && sp_mime_is_space(text.ptr[at]))
        at++;
    return at;
}

/* Decodes the encoded word of n bytes at text[at] and those that follow it with nothing but white
 * space between them (6.2: which is dropped). Those of one charset go through one converter: a
 * character may be cut. Returns the index after the last. */
static size_t add_words(struct sp_slice text, size_t at, size_t n, struct sp_mime_encoded_word word,
                        struct sp_buf *buf)
{
    struct sp_mime_converter converter;
    if (!sp_mime_converter_open(&converter, word.charset, buf)) {
        buf->failed = true;
        return text.len;
    }
    for (;;) {
        struct sp_mime_encoded_word next_word;
        if (word.encoding == 'b')
            sp_mime_feed_base64(&converter, word.text, false);
        else
            feed_q(&converter, word.text);
        at += n;
        size_t next = skip_space(text, at);
        n = sp_mime_encoded_word(sp_slice_from(text, next), &next_word);
        if (n)
            at = next;
        if (!n || !sp_slice_eq_nocase(next_word.charset, word.charset))
            break;
        word = next_word;
    }
    sp_mime_converter_feed(&converter, (struct sp_slice){NULL, 0}, true);
    sp_mime_converter_close(&converter);
    return at;
}

void sp_mime_decode_header(struct sp_slice body, struct sp_buf *buf)
{
    struct sp_slice text = sp_slice_trim(body);
    size_t start = 0, at = 0;
    while (at < text.len && !buf->failed) {
        struct sp_mime_encoded_word word;
        size_t step = sp_slice_find(sp_slice_from(text, at), '=');
        if (step == SIZE_MAX)
            break;
        at += step;
        size_t n = sp_mime_encoded_word(sp_slice_from(text, at), &word);
        if (!n) {
            at++;
            continue;
        }
        add_plain(sp_slice_sub(text, start, at), buf);
        start = at = add_words(text, at, n, word, buf);
    }
    add_plain(sp_slice_from(text, start), buf);
}
