#include "proto/smtp/path.h"

#define LABEL_MAX 63U

static bool is_alnum(uint8_t c)
{
    return (c >= '0' && c <= '9') || (sp_ascii_lower(c) >= 'a' && sp_ascii_lower(c) <= 'z');
}

static bool is_atext(uint8_t c)
{
    return c >= 0x80 || is_alnum(c) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c));
}

/* Well-formed UTF-8: no overlong form, no surrogate, nothing above U+10FFFF. */
static bool is_utf8(struct sp_slice text)
{
    for (size_t i = 0; i < text.len;) {
        uint8_t c = text.ptr[i++];
        unsigned more = c < 0x80   ? 0
                        : c < 0xc2 ? 4
                        : c < 0xe0 ? 1
                        : c < 0xf0 ? 2
                        : c < 0xf5 ? 3
                                   : 4;
        if (more == 4 || more > text.len - i)
            return false;
        uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
        uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        for (; more; more--, low = 0x80, high = 0xbf)
            if (text.ptr[i] < low || text.ptr[i++] > high)
                return false;
    }
    return true;
}

static enum sp_status put(struct sp_smtp_path *path, struct sp_slice bytes)
{
    if (bytes.len > sizeof path->bytes - path->len)
        return SP_LIMIT;
    if (bytes.len)
        memcpy(path->bytes + path->len, bytes.ptr, bytes.len);
    path->len += bytes.len;
    return SP_OK;
}

/* [192.0.2.1], [IPv6:2001:db8::1], [tag:content] */
static size_t literal_length(struct sp_slice text)
{
    size_t n = 1;
    while (n < text.len && (is_alnum(text.ptr[n]) || (text.ptr[n] && strchr(".:-", text.ptr[n]))))
        n++;
    return n > 1 && n < text.len && text.ptr[n] == ']' ? n + 1 : 0;
}

/* <@a,@[192.0.2.1]:user@c>: up to and with the colon. A quoted local part has no `@` in front. */
static enum sp_status skip_route(struct sp_slice *text)
{
    if (!text->len || text->ptr[0] != '@')
        return SP_OK;
    for (size_t i = 0; i < text->len; i++) {
        uint8_t c = text->ptr[i];
        if (c == ':') {
            *text = sp_slice_from(*text, i + 1);
            return SP_OK;
        }
        size_t literal = c == '[' ? literal_length(sp_slice_from(*text, i)) : 0;
        if (literal) {
            i += literal - 1;
            continue;
        }
        if (c < 0x80 && !is_alnum(c) && !strchr("@,.-_", c))
            break;
    }
    return SP_INVALID;
}

static enum sp_status take_quoted(struct sp_slice *text, struct sp_smtp_path *path)
{
    uint8_t plain[SP_ADDRESS_MAX];
    size_t plain_len = 0, i = 1;
    bool needs_quotes = false;
    for (;; i++) {
        if (i < text->len && text->ptr[i] == '"')
            break;
        if (i < text->len && text->ptr[i] == '\\')
            i++;
        if (i >= text->len || text->ptr[i] < ' ' || text->ptr[i] == 127)
            return SP_INVALID;
        if (plain_len == sizeof plain)
            return SP_LIMIT;
        uint8_t c = plain[plain_len++] = text->ptr[i];
        bool dot = c == '.' && plain_len > 1 && plain[plain_len - 2] != '.';
        needs_quotes = needs_quotes || !(is_atext(c) || dot);
    }
    if (!plain_len || plain[plain_len - 1] == '.')
        needs_quotes = true;
    struct sp_slice quoted = sp_slice_sub(*text, 0, i + 1);
    *text = sp_slice_from(*text, i + 1);
    return put(path, needs_quotes ? quoted : sp_slice(plain, plain_len));
}

static enum sp_status take_local(struct sp_slice *text, struct sp_smtp_path *path)
{
    if (text->len && text->ptr[0] == '"')
        return take_quoted(text, path);
    size_t n = 0;
    while (n < text->len && (is_atext(text->ptr[n]) || text->ptr[n] == '.'))
        n++;
    if (!n)
        return SP_INVALID;
    struct sp_slice local = sp_slice_sub(*text, 0, n);
    *text = sp_slice_from(*text, n);
    return put(path, local);
}

static enum sp_status take_domain(struct sp_slice *text, struct sp_smtp_path *path)
{
    size_t n = 0, label = 0;
    if (text->len && text->ptr[0] == '[') {
        n = literal_length(*text);
        if (!n)
            return SP_INVALID;
    } else {
        for (; n < text->len; n++) {
            uint8_t c = text->ptr[n];
            if (c == '.' && label)
                label = 0;
            else if (c >= 0x80 || is_alnum(c) || c == '-' || c == '_')
                label++;
            else
                break;
            if (label > LABEL_MAX)
                return SP_LIMIT;
        }
        if (!label) /* nothing, or an empty label */
            return SP_INVALID;
    }
    struct sp_slice domain = sp_slice_sub(*text, 0, n);
    *text = sp_slice_from(*text, n);
    enum sp_status status = put(path, SP_S("@"));
    return status ? status : put(path, domain);
}

bool sp_smtp_is_domain(struct sp_slice text)
{
    struct sp_smtp_path path = {.len = 0};
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] >= 0x80)
            return false;
    return take_domain(&text, &path) == SP_OK && !text.len;
}

enum sp_status sp_smtp_path_take(struct sp_slice *args, struct sp_smtp_path *ret_path)
{
    struct sp_slice text = *args;
    struct sp_smtp_path path;
    path.len = path.local_len = 0;
    path.utf8 = false;
    if (!text.len || text.ptr[0] != '<')
        return SP_INVALID;
    text = sp_slice_from(text, 1);
    if (!text.len || text.ptr[0] != '>') {
        enum sp_status status = skip_route(&text);
        if (status == SP_OK)
            status = take_local(&text, &path);
        if (status)
            return status;
        path.local_len = path.len;
        if (text.len && text.ptr[0] == '@') {
            text = sp_slice_from(text, 1);
            if ((status = take_domain(&text, &path)))
                return status;
        }
    }
    if (!text.len || text.ptr[0] != '>' || (text.len > 1 && text.ptr[1] != ' '))
        return SP_INVALID;
    if (!is_utf8(sp_slice(path.bytes, path.len)))
        return SP_INVALID;
    for (size_t i = 0; i < path.len && !path.utf8; i++)
        path.utf8 = path.bytes[i] >= 0x80;
    *args = sp_slice_from(text, 1);
    *ret_path = path;
    return SP_OK;
}
