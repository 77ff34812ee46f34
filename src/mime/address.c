/* Addresses (RFC 5322, 3.4 and 4.4) as they are written, and as they are found: routes, groups,
 * comments for names, names that should have been quoted, semicolons for commas, a missing '>',
 * more than one '@'. */
#include "mime/internal.h"

static const uint8_t nothing[1];

void sp_mime_address_reader_init(struct sp_mime_address_reader *reader)
{
    struct sp_buf *const bufs[] = {&reader->phrase, &reader->local, &reader->host, &reader->route,
                                   &reader->comment};
    *reader = (struct sp_mime_address_reader){0};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++)
        sp_buf_init(bufs[i], 2 * SP_MIME_FIELD_BYTES_MAX);
}

void sp_mime_address_reader_release(struct sp_mime_address_reader *reader)
{
    sp_buf_release(&reader->phrase);
    sp_buf_release(&reader->local);
    sp_buf_release(&reader->host);
    sp_buf_release(&reader->route);
    sp_buf_release(&reader->comment);
}

void sp_mime_address_reader_start(struct sp_mime_address_reader *reader, struct sp_slice text)
{
    reader->text = text;
    reader->at = 0;
    reader->in_group = false;
}

/* The content, never with a NULL ptr. */
static struct sp_slice content(const struct sp_buf *buf)
{
    return buf->len ? sp_buf_slice(buf) : sp_slice(nothing, 0);
}

static bool more(const struct sp_mime_address_reader *reader)
{
    return reader->at < reader->text.len;
}

static uint8_t peek(const struct sp_mime_address_reader *reader)
{
    return reader->text.ptr[reader->at];
}

/* The first comment counts as a name when there is no other. */
static void take_comment(struct sp_mime_address_reader *reader)
{
    size_t start = reader->at;
    reader->at = sp_mime_skip_comment(reader->text, start);
    struct sp_slice inside = sp_slice_sub(reader->text, start + 1, reader->at);
    if (reader->comment.len)
        return;
    if (inside.len && inside.ptr[inside.len - 1] == ')')
        inside.len--;
    inside = sp_slice_trim(inside);
    for (size_t i = 0; i < inside.len; i++) {
        i += inside.ptr[i] == '\\' && i + 1 < inside.len;
        sp_buf_add_byte(&reader->comment, inside.ptr[i]);
    }
}

/* Appends the quoted string, without its quotes, to both. */
static void take_quoted(struct sp_mime_address_reader *reader, struct sp_buf *a, struct sp_buf *b)
{
    for (reader->at++; more(reader) && peek(reader) != '"'; reader->at++) {
        if (peek(reader) == '\\' && reader->at + 1 < reader->text.len)
            reader->at++;
        sp_buf_add_byte(a, peek(reader));
        if (b)
            sp_buf_add_byte(b, peek(reader));
    }
    reader->at += more(reader);
}

static bool is_special(uint8_t c)
{
    return sp_mime_is_space(c) || c == '(' || c == ')' || c == '<' || c == '>' || c == '@' ||
           c == ',' || c == ';' || c == ':' || c == '"';
}

/* A run of atom characters; an encoded word is one whatever stands in it. */
static struct sp_slice take_atom(struct sp_mime_address_reader *reader)
{
    struct sp_mime_encoded_word word;
    size_t start = reader->at;
    while (more(reader) && !is_special(peek(reader))) {
        size_t n = sp_mime_encoded_word(sp_slice_from(reader->text, reader->at), &word);
        reader->at += n ? n : 1;
    }
    return sp_slice_sub(reader->text, start, reader->at);
}

/* A domain, or a domain literal, after '@'; blanks within are dropped only where comments or
 * folding put them. */
static void take_host(struct sp_mime_address_reader *reader)
{
    reader->at = sp_mime_skip_cfws(reader->text, reader->at);
    sp_buf_reset(&reader->host);
    if (more(reader) && peek(reader) == '[') {
        size_t close = sp_slice_find(sp_slice_from(reader->text, reader->at), ']');
        size_t end = close == SIZE_MAX ? reader->text.len : reader->at + close + 1;
        sp_buf_add(&reader->host, sp_slice_sub(reader->text, reader->at, end));
        reader->at = end;
        return;
    }
    for (;;) {
        size_t start = reader->at;
        while (more(reader) && !is_special(peek(reader)))
            reader->at++;
        sp_buf_add(&reader->host, sp_slice_sub(reader->text, start, reader->at));
        /* RFC 5322, 4.4: blanks and comments may stand around the dots. */
        size_t next = sp_mime_skip_cfws(reader->text, reader->at);
        bool dot_before = reader->host.len && reader->host.ptr[reader->host.len - 1] == '.';
        if (next == reader->at || next == reader->text.len || is_special(reader->text.ptr[next]) ||
            (!dot_before && reader->text.ptr[next] != '.'))
            break;
        reader->at = next;
    }
}

/* A second '@': all that came before was the local part. */
static void host_to_local(struct sp_mime_address_reader *reader)
{
    sp_buf_add_byte(&reader->local, '@');
    sp_buf_add(&reader->local, sp_buf_slice(&reader->host));
}

/* <@route,@route:local@host> */
static void take_angle(struct sp_mime_address_reader *reader)
{
    bool at_seen = false;
    sp_buf_reset(&reader->local);
    sp_buf_reset(&reader->host);
    while (more(reader) && (peek(reader) == '<' || sp_mime_is_space(peek(reader))))
        reader->at++;
    if (more(reader) && peek(reader) == '@') {
        struct sp_slice rest = sp_slice_from(reader->text, reader->at);
        size_t colon = sp_slice_find(rest, ':'), close = sp_slice_find(rest, '>');
        if (colon < close) {
            for (size_t i = 0; i < colon; i++)
                if (!sp_mime_is_space(rest.ptr[i]))
                    sp_buf_add_byte(&reader->route, rest.ptr[i]);
            reader->at += colon + 1;
        }
    }
    while (more(reader)) {
        uint8_t c = peek(reader);
        if (c == '>') {
            reader->at++;
            break;
        }
        if (c == ',' || c == ';') /* the '>' is missing */
            break;
        if (c == '(') {
            take_comment(reader);
        } else if (c == '@') {
            reader->at++;
            if (at_seen)
                host_to_local(reader);
            at_seen = true;
            take_host(reader);
        } else if (c == '"') {
            take_quoted(reader, &reader->local, NULL);
        } else if (sp_mime_is_space(c) || at_seen) {
            reader->at++;
        } else {
            sp_buf_add_byte(&reader->local, c);
            reader->at++;
        }
    }
}

/* A word of a phrase, which may turn out to be (the end of) a local part. */
static void take_word(struct sp_mime_address_reader *reader, bool space)
{
    struct sp_buf *phrase = &reader->phrase, *local = &reader->local;
    uint8_t c = peek(reader);
    if (space && phrase->len) {
        /* "john . doe @ host": blanks around dots do not end a local part. */
        bool dotted = c == '.' || (local->len && local->ptr[local->len - 1] == '.');
        if (!dotted) {
            sp_buf_reset(local);
            reader->name_len = phrase->len;
        }
        sp_buf_add_byte(phrase, ' ');
    }
    if (c == '"') {
        take_quoted(reader, phrase, local);
        return;
    }
    struct sp_slice atom = take_atom(reader);
    if (!atom.len) { /* a special that means nothing here */
        reader->at++;
        return;
    }
    sp_buf_add(phrase, atom);
    sp_buf_add(local, atom);
}

/* One address from `at` on, up to the separator; false when there is nothing that could be one. */
static bool take_address(struct sp_mime_address_reader *reader, struct sp_mime_address *ret_address)
{
    bool space = false, angle = false, at_seen = false;
    while (more(reader)) {
        uint8_t c = peek(reader);
        if (c == ',' || c == ';')
            break;
        if (sp_mime_is_space(c)) {
            reader->at++;
            space = true;
        } else if (c == '(') {
            take_comment(reader);
            space = true;
        } else if (c == '<' && !angle) {
            take_angle(reader);
            angle = true;
        } else if (angle) {
            reader->at++; /* after '>' nothing counts */
        } else if (c == ':' && !reader->in_group && !at_seen) {
            reader->at++;
            reader->in_group = true;
            *ret_address = (struct sp_mime_address){.mailbox = content(&reader->phrase)};
            return true;
        } else if (c == '@') {
            reader->at++;
            if (at_seen)
                host_to_local(reader);
            at_seen = true;
            take_host(reader);
            /* Should '<' follow, all of this was a name. */
            sp_buf_add_byte(&reader->phrase, '@');
            sp_buf_add(&reader->phrase, sp_buf_slice(&reader->host));
        } else if (at_seen) {
            size_t name_len = reader->name_len, local_len = reader->local.len;
            take_word(reader, false); /* a name's, if anything */
            reader->name_len = name_len;
            reader->local.len = local_len;
        } else {
            take_word(reader, space);
            space = false;
        }
    }
    struct sp_slice name = sp_buf_slice(&reader->phrase);
    if (at_seen && !angle)
        name.len = reader->name_len;
    else if (!angle && reader->name_len) /* several words, no address: a name */
        sp_buf_reset(&reader->local);
    else if (!angle)
        name.len = 0; /* one word: a local part */
    name = sp_slice_trim(name);
    if (!name.len)
        name = sp_buf_slice(&reader->comment);
    if (!reader->local.len && !reader->host.len && !name.len)
        return false;
    if (!reader->local.len && !reader->host.len && !angle && !reader->phrase.len)
        return false; /* a comment alone */
    *ret_address = (struct sp_mime_address){
        .name = name.len ? name : (struct sp_slice){NULL, 0},
        .adl = reader->route.len ? sp_buf_slice(&reader->route) : (struct sp_slice){NULL, 0},
        .mailbox = content(&reader->local),
        .host = content(&reader->host),
    };
    return true;
}

bool sp_mime_address_next(struct sp_mime_address_reader *reader,
                          struct sp_mime_address *ret_address)
{
    for (;;) {
        while (more(reader) && (sp_mime_is_space(peek(reader)) || peek(reader) == ','))
            reader->at++;
        bool end = !more(reader);
        if (end || peek(reader) == ';') {
            reader->at += !end;
            if (reader->in_group) {
                reader->in_group = false;
                *ret_address = (struct sp_mime_address){0};
                return true;
            }
            if (end)
                return false;
            continue;
        }
        sp_buf_reset(&reader->phrase);
        sp_buf_reset(&reader->local);
        sp_buf_reset(&reader->host);
        sp_buf_reset(&reader->route);
        sp_buf_reset(&reader->comment);
        reader->name_len = 0;
        if (take_address(reader, ret_address))
            return true;
    }
}
