/* The beginning of a text, as one line to be shown in a list (RFC 8970, 3.1 and 3.2).
 *
 * HTML is not parsed, but read past: tags, comments, and what stands in a head, style or script
 * are left out, the entities that matter are decoded. Whatever is malformed yields other text at
 * worst; nothing is ever looked at twice. */
#include "mime/internal.h"

#define TAG_NAME_MAX 12U
#define ENTITY_MAX   10U

struct preview {
    struct sp_buf *buf;
    size_t chars, chars_max;
    bool blank; /* before the next character */
};

static void put_blank(struct preview *preview)
{
    preview->blank = preview->chars > 0;
}

/* Characters that take no room: what newsletters pad their previews with. */
static bool is_invisible(uint32_t c)
{
    return c == 0xad || c == 0x34f || (c >= 0x200b && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x2064) || c == 0xfeff;
}

static void put_char(struct preview *preview, uint32_t c)
{
    uint8_t utf8[4];
    size_t len = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (c <= ' ' || c == 0x7f || (c >= 0x80 && c <= 0xa0) || c == 0x3000) {
        put_blank(preview);
        return;
    }
    if (is_invisible(c))
        return;
    if (preview->blank && preview->chars < preview->chars_max) {
        sp_buf_add_byte(preview->buf, ' ');
        preview->chars++;
    }
    preview->blank = false;
    if (preview->chars >= preview->chars_max)
        return;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    for (size_t i = len; i-- > 1; c >>= 6)
        utf8[i] = (uint8_t)(0x80 | (c & 0x3f));
    utf8[0] = (uint8_t)(lead[len - 1] | c);
    sp_buf_add(preview->buf, sp_slice(utf8, len));
    preview->chars++;
}

static bool is_full(const struct preview *preview)
{
    return preview->chars >= preview->chars_max;
}

/* The character at text[at], which is UTF-8 as the converter leaves it; *ret_next is behind it. */
static uint32_t take_char(struct sp_slice text, size_t at, size_t *ret_next)
{
    uint8_t c = text.ptr[at];
    size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    uint32_t value = len == 1 ? c : c & (0xffU >> (len + 1));
    if (len > text.len - at) {
        *ret_next = text.len;
        return 0xfffd;
    }
    for (size_t i = 1; i < len; i++)
        value = value << 6 | (text.ptr[at + i] & 0x3fU);
    *ret_next = at + len;
    return value;
}

/* ---- HTML ---- */

static bool is_among(struct sp_slice name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (sp_slice_eq_nocase(name, sp_slice_str(names[i])))
            return true;
    return false;
}

static size_t find_from(struct sp_slice text, size_t at, const char *what)
{
    size_t len = strlen(what);
    for (; at + len <= text.len; at++)
        if (sp_slice_eq_nocase(sp_slice_sub(text, at, at + len), sp_slice_str(what)))
            return at;
    return text.len;
}

/* Behind the '>' of the tag whose name ends at `at`; quoted values may hold one. */
static size_t end_of_tag(struct sp_slice text, size_t at)
{
    uint8_t quote = 0;
    for (; at < text.len; at++) {
        uint8_t c = text.ptr[at];
        if (quote)
            quote = c == quote ? 0 : quote;
        else if (c == '>')
            return at + 1;
        else if ((c == '"' || c == '\'') && text.ptr[at - 1] == '=')
            quote = c;
    }
    return text.len;
}

/* What begins with the '<' at text[at]; returns what is behind it. */
static size_t skip_markup(struct preview *preview, struct sp_slice text, size_t at)
{
    static const char *const in_line[] = {"a",  "abbr", "b",     "big",    "code", "em",  "font",
                                          "i",  "s",    "small", "span",   "sub",  "sup", "strong",
                                          "tt", "u",    "wbr",   "strike", "mark", "bdi"};
    static const char *const unseen[] = {"head", "style", "script", "title"};
    if (sp_slice_starts_nocase(sp_slice_from(text, at), SP_S("<!--"))) {
        size_t end = find_from(text, at + 4, "-->");
        return end + 3 < text.len ? end + 3 : text.len;
    }
    size_t name = at + 1;
    bool closes = name < text.len && text.ptr[name] == '/';
    name += closes;
    size_t end = name;
    while (end < text.len && end - name < TAG_NAME_MAX &&
           (sp_mime_is_alpha(text.ptr[end]) || sp_mime_is_digit(text.ptr[end])))
        end++;
    if (end == name && (name >= text.len || (text.ptr[name] != '!' && text.ptr[name] != '?'))) {
        put_char(preview, '<'); /* it begins no tag */
        return at + 1;
    }
    struct sp_slice tag = sp_slice_sub(text, name, end);
    if (!is_among(tag, in_line, sizeof in_line / sizeof in_line[0]))
        put_blank(preview);
    size_t next = end_of_tag(text, end);
    if (closes || !is_among(tag, unseen, sizeof unseen / sizeof unseen[0]))
        return next;
    char close[TAG_NAME_MAX + 3] = "</";
    memcpy(close + 2, tag.ptr, tag.len);
    close[2 + tag.len] = 0;
    return find_from(text, next, close);
}

/* The number of "#65" or "#x41", 0 when it is none. */
static uint32_t number_of_entity(struct sp_slice name)
{
    uint32_t value = 0;
    bool hex = name.len > 2 && sp_ascii_lower(name.ptr[1]) == 'x';
    for (size_t i = hex ? 2 : 1; i < name.len; i++) {
        int digit = sp_mime_hex_value(name.ptr[i]);
        if (digit < 0 || (!hex && digit > 9) || value > 0x10ffff)
            return 0;
        value = value * (hex ? 16 : 10) + (uint32_t)digit;
    }
    return value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff) ? 0 : value;
}

/* What begins with the '&' at text[at]; returns what is behind it. */
static size_t take_entity(struct preview *preview, struct sp_slice text, size_t at)
{
    static const struct {
        const char *name;
        uint32_t c;
    } names[] = {{"amp", '&'},      {"lt", '<'},       {"gt", '>'},       {"quot", '"'},
                 {"apos", '\''},    {"nbsp", ' '},     {"shy", 0xad},     {"zwnj", 0x200c},
                 {"zwj", 0x200d},   {"ndash", 0x2013}, {"mdash", 0x2014}, {"hellip", 0x2026},
                 {"lsquo", 0x2018}, {"rsquo", 0x2019}, {"ldquo", 0x201c}, {"rdquo", 0x201d},
                 {"bull", 0x2022},  {"euro", 0x20ac},  {"copy", 0xa9},    {"reg", 0xae},
                 {"auml", 0xe4},    {"ouml", 0xf6},    {"uuml", 0xfc},    {"Auml", 0xc4},
                 {"Ouml", 0xd6},    {"Uuml", 0xdc},    {"szlig", 0xdf},   {"eacute", 0xe9}};
    size_t end = at + 1;
    while (end < text.len && end - at <= ENTITY_MAX && text.ptr[end] != ';')
        end++;
    uint32_t c = 0;
    if (end < text.len && text.ptr[end] == ';') {
        struct sp_slice name = sp_slice_sub(text, at + 1, end);
        if (name.len && name.ptr[0] == '#')
            c = number_of_entity(name);
        for (size_t i = 0; i < sizeof names / sizeof names[0] && !c; i++)
            if (sp_slice_eq(name, sp_slice_str(names[i].name)))
                c = names[i].c;
    }
    put_char(preview, c ? c : '&');
    return c ? end + 1 : at + 1;
}

void sp_mime_preview(struct sp_slice utf8, bool html, size_t chars_max, struct sp_buf *buf)
{
    struct preview preview = {.buf = buf, .chars_max = chars_max};
    size_t at = 0;
    while (at < utf8.len && !is_full(&preview)) {
        if (html && utf8.ptr[at] == '<')
            at = skip_markup(&preview, utf8, at);
        else if (html && utf8.ptr[at] == '&')
            at = take_entity(&preview, utf8, at);
        else
            put_char(&preview, take_char(utf8, at, &at));
    }
    if (preview.chars && buf->len && buf->ptr[buf->len - 1] == ' ')
        buf->len--; /* there was no room for what it was to part */
}
