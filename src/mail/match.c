#include "mail/match.h"

bool sp_is_ascii(struct sp_slice bytes)
{
    size_t i = 0;
    uint64_t bits = 0;
    for (; i + 32 <= bytes.len; i += 32) {
        uint64_t words[4];
        memcpy(words, bytes.ptr + i, sizeof words);
        bits |= words[0] | words[1] | words[2] | words[3];
        if (bits & 0x8080808080808080U)
            return false;
    }
    for (; i < bytes.len; i++)
        bits |= bytes.ptr[i];
    return !(bits & 0x8080808080808080U);
}

enum sp_status sp_needle_init(struct sp_needle *needle, struct sp_slice utf8,
                              struct sp_arena *arena)
{
    *needle = (struct sp_needle){.text = utf8, .ascii = sp_is_ascii(utf8), .plain = true};
    struct sp_buf folded;
    sp_buf_init(&folded, SP_MATCH_TEXT_MAX);
    if (needle->ascii) {
        for (size_t i = 0; i < utf8.len; i++)
            sp_buf_add_byte(&folded, sp_ascii_lower(utf8.ptr[i]));
    } else {
        sp_mime_fold(utf8, &folded);
    }
    bool failed = sp_buf_failed(&folded);
    needle->folded = sp_arena_copy(arena, sp_buf_slice(&folded));
    sp_buf_release(&folded);
    if (failed || (needle->folded.len && !needle->folded.ptr))
        return SP_NO_MEMORY;

    size_t len = needle->folded.len;
    memset(needle->skip, (int)(len < 255 ? len : 255), sizeof needle->skip);
    for (size_t i = 0; i < len; i++) {
        uint8_t c = needle->folded.ptr[i];
        bool letter = c >= 'a' && c <= 'z';
        size_t skip = len - 1 - i;
        needle->plain = needle->plain && (letter || (c >= '0' && c <= '9'));
        needle->blank = needle->blank || c == ' ' || c == '\t' || c == '\r' || c == '\n';
        if (i + 1 == len)
            break;
        needle->skip[c] = (uint8_t)(skip < 255 ? skip : 255);
        if (needle->ascii)
            needle->skip[sp_ascii_upper(c)] = needle->skip[c];
    }
    return SP_OK;
}

/* Horspool, comparing lower case with text of any case. */
bool sp_needle_in_ascii(const struct sp_needle *needle, struct sp_slice text)
{
    size_t len = needle->folded.len;
    const uint8_t *want = needle->folded.ptr;
    if (len == 0)
        return true;
    for (size_t at = len - 1; at < text.len;) {
        uint8_t under = text.ptr[at];
        if (sp_ascii_lower(under) == want[len - 1]) {
            const uint8_t *start = text.ptr + at - (len - 1);
            size_t i = 0;
            while (i + 1 < len && sp_ascii_lower(start[i]) == want[i])
                i++;
            if (i + 1 == len)
                return true;
        }
        at += needle->skip[under];
    }
    return false;
}

void sp_matcher_init(struct sp_matcher *matcher)
{
    sp_buf_init(&matcher->decoded, SP_MATCH_TEXT_MAX);
    sp_buf_init(&matcher->folded, 4 * SP_MATCH_TEXT_MAX);
}

void sp_matcher_release(struct sp_matcher *matcher)
{
    sp_buf_release(&matcher->decoded);
    sp_buf_release(&matcher->folded);
}

struct sp_text sp_text_of_utf8(struct sp_matcher *matcher, struct sp_slice utf8)
{
    if (sp_is_ascii(utf8))
        return (struct sp_text){utf8, true};
    sp_buf_reset(&matcher->folded);
    sp_mime_fold(utf8, &matcher->folded);
    return (struct sp_text){sp_buf_slice(&matcher->folded), false};
}

bool sp_needle_in_text(const struct sp_needle *needle, const struct sp_text *text)
{
    if (needle->folded.len == 0)
        return true;
    if (text->ascii) /* folding does not make anything else of ASCII */
        return needle->ascii && sp_needle_in_ascii(needle, text->bytes);
    return text->bytes.len >= needle->folded.len &&
           memmem(text->bytes.ptr, text->bytes.len, needle->folded.ptr, needle->folded.len) != NULL;
}

bool sp_needle_in_utf8(const struct sp_needle *needle, struct sp_matcher *matcher,
                       struct sp_slice utf8)
{
    struct sp_text text = sp_text_of_utf8(matcher, utf8);
    return sp_needle_in_text(needle, &text);
}

static bool has_encoded_word(struct sp_slice text)
{
    return text.len >= 2 && memmem(text.ptr, text.len, "=?", 2) != NULL;
}

bool sp_header_is_plain(struct sp_slice header)
{
    return sp_is_ascii(header) && !has_encoded_word(header);
}

struct sp_text sp_text_of_field(struct sp_matcher *matcher, struct sp_slice body)
{
    if (sp_header_is_plain(body) && sp_slice_find(body, '\n') == SIZE_MAX)
        return (struct sp_text){body, true};
    sp_buf_reset(&matcher->decoded);
    sp_mime_decode_header(body, &matcher->decoded);
    return sp_text_of_utf8(matcher, sp_buf_slice(&matcher->decoded));
}

bool sp_needle_in_field(const struct sp_needle *needle, struct sp_matcher *matcher,
                        struct sp_slice body)
{
    if (needle->folded.len == 0)
        return true;
    struct sp_text text = sp_text_of_field(matcher, body);
    return sp_needle_in_text(needle, &text);
}

bool sp_needle_in_header(const struct sp_needle *needle, struct sp_matcher *matcher,
                         struct sp_slice header)
{
    struct sp_mime_field field;
    if (sp_header_is_plain(header)) {
        if (!needle->ascii)
            return false;
        if (sp_needle_in_ascii(needle, header))
            return true;
        if (!needle->blank)
            return false;
    }
    while (sp_mime_next_field(&header, &field))
        if (sp_needle_in_field(needle, matcher, sp_slice_trim(field.raw)))
            return true;
    return false;
}

/* Charsets in which the bytes of ASCII are ASCII, whatever came before them. */
static bool extends_ascii(struct sp_slice charset)
{
    return !charset.len || sp_slice_eq_nocase(charset, SP_S("us-ascii")) ||
           sp_slice_eq_nocase(charset, SP_S("utf-8")) ||
           sp_slice_starts_nocase(charset, SP_S("iso-8859-")) ||
           sp_slice_starts_nocase(charset, SP_S("windows-125"));
}

static bool is_identity(struct sp_slice encoding)
{
    return !encoding.len || sp_slice_eq_nocase(encoding, SP_S("7bit")) ||
           sp_slice_eq_nocase(encoding, SP_S("8bit")) ||
           sp_slice_eq_nocase(encoding, SP_S("binary"));
}

struct sp_text sp_text_of_part(struct sp_matcher *matcher, struct sp_slice content,
                               struct sp_slice encoding, struct sp_slice charset)
{
    /* Quoted-printable leaves ASCII without "=" as it is. */
    bool as_it_is =
        is_identity(encoding) || (sp_slice_eq_nocase(encoding, SP_S("quoted-printable")) &&
                                  sp_slice_find(content, '=') == SIZE_MAX);
    if (as_it_is && extends_ascii(charset) && sp_is_ascii(content))
        return (struct sp_text){content, true};
    sp_buf_reset(&matcher->decoded);
    sp_mime_decode_text(content, encoding, charset, &matcher->decoded);
    return sp_text_of_utf8(matcher, sp_buf_slice(&matcher->decoded));
}

bool sp_needle_in_part(const struct sp_needle *needle, struct sp_matcher *matcher,
                       struct sp_slice content, struct sp_slice encoding, struct sp_slice charset)
{
    struct sp_text text = sp_text_of_part(matcher, content, encoding, charset);
    return sp_needle_in_text(needle, &text);
}
