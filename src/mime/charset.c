/* Charsets to UTF-8 by ICU, and the folding of case. */
#include "mime/internal.h"

#include <unicode/ucnv.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>

#define CHARSET_NAME_MAX 64U
#define ROOM_BYTES       4096U
#define FOLD_RUN_BYTES   512U

/* Labels that mail puts on something else than they say, and those that say nothing. */
static const struct {
    struct sp_slice label;
    const char *charset;
} labels[] = {
#define LABEL(literal, charset)                                                                    \
    {                                                                                              \
        {(const uint8_t *)(literal), sizeof(literal) - 1}, charset                                 \
    }
    LABEL("us-ascii", "UTF-8"),      LABEL("ascii", "UTF-8"),
    LABEL("utf8", "UTF-8"),          LABEL("unknown-8bit", "UTF-8"),
    LABEL("x-unknown", "UTF-8"),     LABEL("iso-8859-1", "windows-1252"),
    LABEL("latin1", "windows-1252"), LABEL("gb2312", "GB18030"),
    LABEL("gbk", "GB18030"),         LABEL("ks_c_5601-1987", "windows-949"),
    LABEL("euc-kr", "windows-949"),
#undef LABEL
};

static UConverter *open_charset(struct sp_slice charset, UErrorCode *error)
{
    char name[CHARSET_NAME_MAX];
    /* RFC 2231, 5: a language may follow the charset of an encoded word. */
    charset = sp_slice_trim(sp_slice_sub(charset, 0, sp_slice_find(charset, '*')));
    bool plain = charset.len > 0 && charset.len < sizeof name;
    for (size_t i = 0; plain && i < charset.len; i++) {
        uint8_t c = charset.ptr[i];
        /* Not the comma and the equals sign, with which ICU's names take options. */
        plain = sp_mime_is_alpha(c) || sp_mime_is_digit(c) || (c && strchr("-_.:+", c));
    }
    if (!plain)
        return ucnv_open("UTF-8", error);
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
        if (sp_slice_eq_nocase(charset, labels[i].label))
            return ucnv_open(labels[i].charset, error);
    memcpy(name, charset.ptr, charset.len);
    name[charset.len] = '\0';
    UConverter *converter = ucnv_open(name, error);
    if (U_FAILURE(*error) && *error != U_MEMORY_ALLOCATION_ERROR) {
        *error = U_ZERO_ERROR;
        converter = ucnv_open("UTF-8", error);
    }
    return converter;
}

bool sp_mime_converter_open(struct sp_mime_converter *converter, struct sp_slice charset,
                            struct sp_buf *buf)
{
    UErrorCode error = U_ZERO_ERROR;
    converter->buf = buf;
    converter->pivot_source = converter->pivot_target = converter->pivot;
    converter->from = open_charset(charset, &error);
    if (U_FAILURE(error))
        return false;
    converter->to = ucnv_open("UTF-8", &error);
    if (U_FAILURE(error)) {
        ucnv_close(converter->from);
        return false;
    }
    return true;
}

void sp_mime_converter_feed(struct sp_mime_converter *converter, struct sp_slice bytes, bool last)
{
    static const char nothing[1];
    struct sp_buf *buf = converter->buf;
    const char *source = bytes.len ? (const char *)bytes.ptr : nothing;
    const char *source_end = source + bytes.len;
    UErrorCode error;
    do {
        /* Room for what is there, but never more than the cap: what fits is kept. */
        size_t room = ROOM_BYTES;
        if (room > buf->cap_bytes - buf->len)
            room = buf->cap_bytes - buf->len;
        if (buf->failed || (!room && source == source_end && !last))
            return;
        /* A full buffer has failed only when there is more. */
        char spare[U8_MAX_LENGTH], *start = spare, *target;
        if (room && !sp_buf_reserve(buf, room))
            return;
        if (room)
            start = (char *)buf->ptr + buf->len;
        target = start;
        error = U_ZERO_ERROR;
        ucnv_convertEx(
            converter->to, converter->from, &target, start + (room ? room : sizeof spare), &source,
            source_end, (UChar *)converter->pivot, (UChar **)&converter->pivot_source,
            (UChar **)&converter->pivot_target,
            (UChar *)converter->pivot + sizeof converter->pivot / sizeof *converter->pivot, false,
            last, &error);
        if (room)
            buf->len += (size_t)(target - start);
        else
            buf->failed = target > start;
    } while (error == U_BUFFER_OVERFLOW_ERROR);
}

void sp_mime_converter_close(struct sp_mime_converter *converter)
{
    ucnv_close(converter->from);
    ucnv_close(converter->to);
}

void sp_mime_to_utf8(struct sp_slice bytes, struct sp_slice charset, struct sp_buf *buf)
{
    struct sp_mime_converter converter;
    if (!sp_mime_converter_open(&converter, charset, buf)) {
        buf->failed = true;
        return;
    }
    sp_mime_converter_feed(&converter, bytes, true);
    sp_mime_converter_close(&converter);
}

bool sp_mime_is_utf8(struct sp_slice bytes)
{
    const uint8_t *at = bytes.ptr, *end = bytes.len ? at + bytes.len : at;
    while (at < end) {
        uint64_t eight;
        if (end - at >= 8) {
            memcpy(&eight, at, 8);
            if (!(eight & 0x8080808080808080U)) {
                at += 8;
                continue;
            }
        }
        uint8_t c = *at++;
        if (c < 0x80)
            continue;
        /* The second byte's range shuts out overlong forms, surrogates and what is beyond U+10FFFF.
         */
        size_t follow = c >= 0xc2 && c <= 0xdf   ? 1
                        : c >= 0xe0 && c <= 0xef ? 2
                        : c >= 0xf0 && c <= 0xf4 ? 3
                                                 : 0;
        uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
        uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        if (!follow || (size_t)(end - at) < follow || *at < low || *at > high)
            return false;
        for (at++; --follow; at++)
            if ((*at & 0xc0) != 0x80)
                return false;
    }
    return true;
}

/* ---- Folding ---- */

/* The end of the run that begins at `at` with other than ASCII: at the next ASCII, which composes
 * with nothing before it, or after FOLD_RUN_BYTES at the start of a character. */
static size_t run_end(struct sp_slice text, size_t at)
{
    size_t end = at + 1;
    while (end < text.len && text.ptr[end] >= 0x80 &&
           (end - at < FOLD_RUN_BYTES || (text.ptr[end] & 0xc0) == 0x80) &&
           end - at < FOLD_RUN_BYTES + 4)
        end++;
    return end;
}

static void fold_run(const UNormalizer2 *normalizer, struct sp_slice run, struct sp_buf *buf)
{
    UChar text[FOLD_RUN_BYTES + 8],
        folded[18 * (FOLD_RUN_BYTES + 8)]; /* NFKC: 18 for one at most */
    UErrorCode error = U_ZERO_ERROR;
    int32_t len = 0, bytes = 0;
    u_strFromUTF8WithSub(text, sizeof text / sizeof *text, &len, (const char *)run.ptr,
                         (int32_t)run.len, 0xfffd, NULL, &error);
    len = unorm2_normalize(normalizer, text, len, folded, sizeof folded / sizeof *folded, &error);
    if (U_FAILURE(error)) {
        buf->failed = true;
        return;
    }
    if (!sp_buf_reserve(buf, (size_t)len * 3))
        return;
    u_strToUTF8((char *)buf->ptr + buf->len, len * 3, &bytes, folded, len, &error);
    sp_assert(U_SUCCESS(error) || error == U_STRING_NOT_TERMINATED_WARNING);
    buf->len += (size_t)bytes;
}

void sp_mime_fold(struct sp_slice utf8, struct sp_buf *buf)
{
    UErrorCode error = U_ZERO_ERROR;
    const UNormalizer2 *normalizer = unorm2_getNFKCCasefoldInstance(&error);
    if (U_FAILURE(error)) {
        buf->failed = true;
        return;
    }
    size_t at = 0;
    while (at < utf8.len && !buf->failed) {
        size_t end = at;
        while (end < utf8.len && utf8.ptr[end] < 0x80)
            end++;
        /* The last one may compose with what follows: it goes with it. */
        size_t plain = end < utf8.len && end > at ? end - 1 : end;
        uint8_t *out = plain > at ? sp_buf_extend(buf, plain - at) : NULL;
        for (size_t i = at; out && i < plain; i++)
            out[i - at] = sp_ascii_lower(utf8.ptr[i]);
        if (end < utf8.len) {
            end = run_end(utf8, end);
            fold_run(normalizer, sp_slice_sub(utf8, plain, end), buf);
        }
        at = end;
    }
}
