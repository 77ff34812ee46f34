#include "mime/internal.h"

struct sp_slice sp_mime_field_name(struct sp_slice line, size_t *ret_colon)
{
    size_t colon = 0, len;
    /* RFC 5322, 3.6.8: printable ASCII without the colon; 4.5: blanks may stand before the colon.
     */
    while (colon < line.len && line.ptr[colon] > ' ' && line.ptr[colon] < 127 &&
           line.ptr[colon] != ':')
        colon++;
    len = colon;
    while (colon < line.len && sp_mime_is_blank(line.ptr[colon]))
        colon++;
    if (len == 0 || colon == line.len || line.ptr[colon] != ':')
        return (struct sp_slice){NULL, 0};
    *ret_colon = colon;
    return sp_slice_sub(line, 0, len);
}

bool sp_mime_next_field(struct sp_slice *header, struct sp_mime_field *ret_field)
{
    struct sp_slice rest = *header;
    if (!rest.len || rest.ptr[0] == '\n' ||
        (rest.len > 1 && rest.ptr[0] == '\r' && rest.ptr[1] == '\n'))
        return false;
    size_t end = 0;
    do {
        size_t lf = sp_slice_find(sp_slice_from(rest, end), '\n');
        end = lf == SIZE_MAX ? rest.len : end + lf + 1;
    } while (end < rest.len && sp_mime_is_blank(rest.ptr[end]));

    struct sp_mime_field field = {.raw = sp_slice_sub(rest, 0, end)};
    struct sp_slice text = field.raw;
    if (text.ptr[text.len - 1] == '\n')
        text.len -= text.len > 1 && text.ptr[text.len - 2] == '\r' ? 2 : 1;
    size_t colon;
    field.name = sp_mime_field_name(text, &colon);
    field.body = field.name.len ? sp_slice_from(text, colon + 1) : text;
    *ret_field = field;
    *header = sp_slice_from(rest, end);
    return true;
}

static bool is_among(struct sp_slice name, const struct sp_slice *names, size_t count)
{
    for (size_t i = 0; name.len && i < count; i++)
        if (sp_slice_eq_nocase(name, names[i]))
            return true;
    return false;
}

void sp_mime_write_fields(struct sp_slice header, const struct sp_slice *names, size_t names_count,
                          bool negate, struct sp_buf *buf)
{
    struct sp_mime_field field;
    while (sp_mime_next_field(&header, &field)) {
        if (is_among(field.name, names, names_count) == negate)
            continue;
        sp_buf_add(buf, field.raw);
        if (field.raw.ptr[field.raw.len - 1] != '\n')
            sp_buf_add_str(buf, "\r\n");
    }
    sp_buf_add_str(buf, "\r\n");
}

struct sp_slice_mut sp_mime_unfold(uint8_t *text, size_t len)
{
    size_t out = 0, start = 0;
    for (size_t i = 0; i < len; i++)
        if (text[i] != '\n' && !(text[i] == '\r' && i + 1 < len && text[i + 1] == '\n'))
            text[out++] = text[i];
    while (start < out && sp_mime_is_space(text[start]))
        start++;
    while (out > start && sp_mime_is_space(text[out - 1]))
        out--;
    return (struct sp_slice_mut){text + start, out - start};
}

size_t sp_mime_skip_comment(struct sp_slice text, size_t at)
{
    size_t depth = 0;
    while (at < text.len) {
        uint8_t c = text.ptr[at++];
        if (c == '(') {
            depth++;
        } else if (c == '\\' && at < text.len) {
            at++;
        } else if (c == ')' && --depth == 0) {
            break;
        }
    }
    return at;
}

size_t sp_mime_skip_cfws(struct sp_slice text, size_t at)
{
    while (at < text.len) {
        if (text.ptr[at] == '(')
            at = sp_mime_skip_comment(text, at);
        else if (sp_mime_is_space(text.ptr[at]))
            at++;
        else
            break;
    }
    return at;
}

/* Unquotes the quoted string at *at, in place; an unclosed one goes to the end. */
static struct sp_slice take_quoted(struct sp_slice_mut text, size_t *at)
{
    size_t start = *at + 1, in = start, out = start;
    while (in < text.len && text.ptr[in] != '"') {
        if (text.ptr[in] == '\\' && in + 1 < text.len)
            in++;
        text.ptr[out++] = text.ptr[in++];
    }
    *at = in < text.len ? in + 1 : in;
    return sp_slice(text.ptr + start, out - start);
}

static struct sp_slice take_until(struct sp_slice_mut text, size_t *at, const char *stops)
{
    size_t start = *at;
    while (*at < text.len && !sp_mime_is_space(text.ptr[*at]) &&
           !(text.ptr[*at] && strchr(stops, text.ptr[*at])))
        (*at)++;
    return sp_slice(text.ptr + start, *at - start);
}

uint32_t sp_mime_parse_params(struct sp_slice_mut text,
                              struct sp_mime_param ret_params[SP_MIME_PARAMS_MAX])
{
    struct sp_slice view = {text.ptr, text.len};
    uint32_t count = 0;
    size_t at = 0;
    while (count < SP_MIME_PARAMS_MAX) {
        /* Whatever stands between a value and the next semicolon is not ours to understand. */
        while (at < text.len && text.ptr[at] != ';') {
            if (text.ptr[at] == '(')
                at = sp_mime_skip_comment(view, at);
            else if (text.ptr[at] == '"')
                take_quoted(text, &at);
            else
                at++;
        }
        if (at == text.len)
            break;
        at = sp_mime_skip_cfws(view, at + 1);
        struct sp_mime_param param = {.name = take_until(text, &at, ";=(\"")};
        at = sp_mime_skip_cfws(view, at);
        if (!param.name.len || at == text.len || text.ptr[at] != '=')
            continue;
        at = sp_mime_skip_cfws(view, at + 1);
        if (at < text.len && text.ptr[at] == '"')
            param.value = take_quoted(text, &at);
        else
            param.value = take_until(text, &at, ";");
        ret_params[count++] = param;
    }
    return count;
}

const struct sp_mime_param *sp_mime_param_find(const struct sp_mime_param *params, uint32_t count,
                                               struct sp_slice name)
{
    for (uint32_t i = 0; i < count; i++)
        if (sp_slice_eq_nocase(params[i].name, name))
            return &params[i];
    return NULL;
}

/* The parameter `name*`, `name*N` or `name*N*` (RFC 2231). number -1: the first form. */
static const struct sp_mime_param *find_piece(const struct sp_mime_param *params, uint32_t count,
                                              struct sp_slice name, int number, bool *ret_extended)
{
    for (uint32_t i = 0; i < count; i++) {
        struct sp_slice rest = params[i].name;
        if (!sp_slice_starts_nocase(rest, name) || rest.len == name.len ||
            rest.ptr[name.len] != '*')
            continue;
        rest = sp_slice_from(rest, name.len + 1);
        bool extended = number < 0;
        if (number >= 0) {
            extended = rest.len && rest.ptr[rest.len - 1] == '*';
            uint64_t value;
            if (sp_slice_u64(sp_slice_sub(rest, 0, rest.len - extended), SP_MIME_PARAMS_MAX,
                             &value) ||
                value != (uint64_t)number)
                continue;
        } else if (rest.len) {
            continue;
        }
        *ret_extended = extended;
        return &params[i];
    }
    return NULL;
}

static void add_percent_decoded(struct sp_slice text, struct sp_buf *buf)
{
    for (size_t i = 0; i < text.len; i++) {
        int high, low;
        if (text.ptr[i] == '%' && i + 2 < text.len &&
            (high = sp_mime_hex_value(text.ptr[i + 1])) >= 0 &&
            (low = sp_mime_hex_value(text.ptr[i + 2])) >= 0) {
            sp_buf_add_byte(buf, (uint8_t)(high * 16 + low));
            i += 2;
        } else {
            sp_buf_add_byte(buf, text.ptr[i]);
        }
    }
}

bool sp_mime_param_bytes(const struct sp_mime_param *params, uint32_t count, struct sp_slice name,
                         struct sp_buf *buf, struct sp_slice *ret_charset)
{
    const struct sp_mime_param *param;
    struct sp_slice charset = {NULL, 0};
    bool extended, found = false;
    int number = find_piece(params, count, name, -1, &extended) ? -1 : 0;
    while ((param = find_piece(params, count, name, number, &extended))) {
        struct sp_slice value = param->value;
        size_t quote, second;
        /* charset'language'text, at the start of the first piece alone */
        if (extended && number <= 0 && (quote = sp_slice_find(value, '\'')) != SIZE_MAX &&
            (second = sp_slice_find(sp_slice_from(value, quote + 1), '\'')) != SIZE_MAX) {
            charset = sp_slice_sub(value, 0, quote);
            value = sp_slice_from(value, quote + 1 + second + 1);
        }
        if (extended)
            add_percent_decoded(value, buf);
        else
            sp_buf_add(buf, value);
        found = true;
        if (number++ < 0)
            break;
    }
    if (!found && (param = sp_mime_param_find(params, count, name))) {
        sp_buf_add(buf, param->value);
        found = true;
    }
    if (found)
        *ret_charset = charset;
    return found;
}

bool sp_mime_param_decode(const struct sp_mime_param *params, uint32_t count, struct sp_slice name,
                          struct sp_buf *buf)
{
    struct sp_buf bytes;
    struct sp_slice charset;
    sp_buf_init(&bytes, SP_MIME_FIELD_BYTES_MAX);
    bool found = sp_mime_param_bytes(params, count, name, &bytes, &charset);
    /* Without a charset: RFC 2047 forbids encoded words here, and half the world writes them. */
    if (found && charset.len)
        sp_mime_to_utf8(sp_buf_slice(&bytes), charset, buf);
    else if (found)
        sp_mime_decode_header(sp_buf_slice(&bytes), buf);
    sp_buf_release(&bytes);
    return found;
}
