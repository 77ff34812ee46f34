/* Reading what imap_write.c wrote: BODY out of BODYSTRUCTURE, and the fields of ENVELOPE. */
#include "mime/internal.h"

#define NESTING_MAX (SP_MIME_DEPTH_MAX + 8U) /* parts, and the lists within one */

struct reader {
    struct sp_slice text;
    size_t at;
    bool failed;
};

static bool next_is(const struct reader *reader, uint8_t c)
{
    return !reader->failed && reader->at < reader->text.len && reader->text.ptr[reader->at] == c;
}

static void expect(struct reader *reader, uint8_t c)
{
    if (next_is(reader, c))
        reader->at++;
    else
        reader->failed = true;
}

/* A string as it stands, quotes or literal header included; *ret_content is what is inside (still
 * with backslashes), *ret_escaped whether there are any. */
static void read_string(struct reader *reader, struct sp_slice *ret_content, bool *ret_escaped)
{
    struct sp_slice text = reader->text;
    size_t at = reader->at + 1;
    *ret_content = (struct sp_slice){NULL, 0};
    *ret_escaped = false;
    if (next_is(reader, '"')) {
        size_t start = at;
        const uint8_t *quote = memchr(text.ptr + at, '"', text.len - at);
        if (quote && memchr(text.ptr + at, '\\', (size_t)(quote - text.ptr) - at)) {
            for (; at < text.len && text.ptr[at] != '"'; at++)
                at += text.ptr[at] == '\\';
            *ret_escaped = true;
            quote = at < text.len ? text.ptr + at : NULL;
        }
        if (quote) {
            at = (size_t)(quote - text.ptr);
            *ret_content = sp_slice_sub(text, start, at);
            reader->at = at + 1;
            return;
        }
    } else if (next_is(reader, '{')) {
        struct sp_slice rest = sp_slice_from(text, at);
        size_t close = sp_slice_find(rest, '}');
        uint64_t len;
        if (close != SIZE_MAX && close + 2 < rest.len && rest.ptr[close + 1] == '\r' &&
            rest.ptr[close + 2] == '\n' &&
            sp_slice_u64(sp_slice_sub(rest, 0, close), rest.len - close - 3, &len) == SP_OK) {
            *ret_content = sp_slice_sub(rest, close + 3, close + 3 + (size_t)len);
            reader->at = at + close + 3 + (size_t)len;
            return;
        }
    }
    reader->failed = true;
}

/* Passes over one value of any kind. */
static void skip_value(struct reader *reader)
{
    struct sp_slice content;
    bool escaped;
    uint32_t depth = 0;
    do {
        if (next_is(reader, ' ') && depth) {
            reader->at++;
        } else if (next_is(reader, '(')) {
            reader->at++;
            reader->failed = ++depth > NESTING_MAX;
        } else if (next_is(reader, ')') && depth) {
            reader->at++;
            depth--;
        } else if (next_is(reader, '"') || next_is(reader, '{')) {
            read_string(reader, &content, &escaped);
        } else { /* NIL, a number */
            size_t start = reader->at;
            while (reader->at < reader->text.len && !reader->failed &&
                   (sp_mime_is_alpha(reader->text.ptr[reader->at]) ||
                    sp_mime_is_digit(reader->text.ptr[reader->at])))
                reader->at++;
            if (reader->at == start)
                reader->failed = true;
        }
    } while (depth && !reader->failed);
}

/* ---- BODY ---- */

/* Copies count values with the blanks before them. */
static void copy_values(struct reader *reader, unsigned count, struct sp_buf *buf)
{
    size_t start = reader->at;
    for (unsigned i = 0; i < count; i++) {
        expect(reader, ' ');
        skip_value(reader);
    }
    if (!reader->failed)
        sp_buf_add(buf, sp_slice_sub(reader->text, start, reader->at));
}

static void copy_body(struct reader *reader, uint32_t depth, struct sp_buf *buf);

static void copy_single(struct reader *reader, uint32_t depth, struct sp_buf *buf)
{
    struct sp_slice type, subtype;
    bool escaped;
    size_t start = reader->at;
    read_string(reader, &type, &escaped);
    expect(reader, ' ');
    read_string(reader, &subtype, &escaped);
    if (reader->failed)
        return;
    sp_buf_add(buf, sp_slice_sub(reader->text, start, reader->at));
    copy_values(reader, 5, buf); /* parameters, id, description, encoding, octets */
    if (sp_slice_eq_nocase(type, SP_S("text"))) {
        copy_values(reader, 1, buf); /* lines */
    } else if (sp_slice_eq_nocase(type, SP_S("message")) &&
               (sp_slice_eq_nocase(subtype, SP_S("rfc822")) ||
                sp_slice_eq_nocase(subtype, SP_S("global")))) {
        copy_values(reader, 1, buf); /* envelope */
        expect(reader, ' ');
        sp_buf_add_byte(buf, ' ');
        copy_body(reader, depth, buf);
        copy_values(reader, 1, buf); /* lines */
    }
}

/* Copies one body without its extension data. */
static void copy_body(struct reader *reader, uint32_t depth, struct sp_buf *buf)
{
    if (depth > SP_MIME_DEPTH_MAX)
        reader->failed = true;
    expect(reader, '(');
    sp_buf_add_byte(buf, '(');
    if (next_is(reader, '(')) {
        while (next_is(reader, '('))
            copy_body(reader, depth + 1, buf);
        copy_values(reader, 1, buf); /* subtype */
    } else {
        copy_single(reader, depth + 1, buf);
    }
    while (next_is(reader, ' ')) {
        reader->at++;
        skip_value(reader);
    }
    expect(reader, ')');
    sp_buf_add_byte(buf, ')');
}

enum sp_status sp_mime_write_body(struct sp_slice bodystructure, struct sp_buf *buf)
{
    struct reader reader = {.text = bodystructure};
    size_t before = buf->len;
    copy_body(&reader, 0, buf);
    if (!reader.failed && reader.at == bodystructure.len)
        return SP_OK;
    buf->len = before;
    return SP_INVALID;
}

/* ---- ENVELOPE ---- */

static enum sp_status read_nstring(struct reader *reader, struct sp_arena *arena,
                                   struct sp_slice *ret_text)
{
    struct sp_slice content;
    bool escaped;
    if (sp_slice_starts_nocase(sp_slice_from(reader->text, reader->at), SP_S("NIL"))) {
        reader->at += 3;
        *ret_text = (struct sp_slice){NULL, 0};
        return SP_OK;
    }
    read_string(reader, &content, &escaped);
    if (reader->failed)
        return SP_INVALID;
    if (escaped) {
        uint8_t *copy = sp_arena_alloc(arena, content.len);
        size_t out = 0;
        if (!copy)
            return SP_NO_MEMORY;
        for (size_t i = 0; i < content.len; i++) {
            i += content.ptr[i] == '\\';
            copy[out++] = content.ptr[i];
        }
        content = sp_slice(copy, out);
    }
    *ret_text = content;
    return SP_OK;
}

static enum sp_status read_address(struct reader *reader, struct sp_arena *arena,
                                   struct sp_mime_address *ret_address)
{
    struct sp_slice *const members[] = {&ret_address->name, &ret_address->adl,
                                        &ret_address->mailbox, &ret_address->host};
    expect(reader, '(');
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (i)
            expect(reader, ' ');
        enum sp_status status = read_nstring(reader, arena, members[i]);
        if (status)
            return status;
    }
    expect(reader, ')');
    return reader->failed ? SP_INVALID : SP_OK;
}

static enum sp_status read_addresses(struct reader *reader, struct sp_arena *arena,
                                     struct sp_mime_address **ret_addresses, uint32_t *ret_count)
{
    uint32_t count = 0;
    *ret_addresses = NULL;
    *ret_count = 0;
    if (!next_is(reader, '(')) {
        struct sp_slice nil;
        enum sp_status status = read_nstring(reader, arena, &nil);
        return status ? status : nil.ptr ? SP_INVALID : SP_OK;
    }
    expect(reader, '(');
    struct reader ahead = *reader;
    for (; next_is(&ahead, '('); count++)
        skip_value(&ahead);
    if (ahead.failed || !count)
        return SP_INVALID;
    struct sp_mime_address *addresses = sp_arena_array(arena, count, sizeof *addresses);
    if (!addresses)
        return SP_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        enum sp_status status = read_address(reader, arena, &addresses[i]);
        if (status)
            return status;
    }
    expect(reader, ')');
    *ret_addresses = addresses;
    *ret_count = count;
    return reader->failed ? SP_INVALID : SP_OK;
}

static enum sp_status read_envelope(struct sp_slice wire, struct sp_arena *arena,
                                    bool with_addresses, struct sp_mime_envelope_wire *ret_envelope)
{
    struct reader reader = {.text = wire};
    struct sp_mime_envelope_wire envelope = {0};
    struct {
        struct sp_slice *text;
        struct sp_mime_address **addresses;
        uint32_t *count;
    } const members[] = {
        {.text = &envelope.date},
        {.text = &envelope.subject},
        {.addresses = &envelope.from, .count = &envelope.from_count},
        {.addresses = &envelope.sender, .count = &envelope.sender_count},
        {.addresses = &envelope.reply_to, .count = &envelope.reply_to_count},
        {.addresses = &envelope.to, .count = &envelope.to_count},
        {.addresses = &envelope.cc, .count = &envelope.cc_count},
        {.addresses = &envelope.bcc, .count = &envelope.bcc_count},
        {.text = &envelope.in_reply_to},
        {.text = &envelope.message_id},
    };
    expect(&reader, '(');
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        if (i)
            expect(&reader, ' ');
        enum sp_status status = SP_OK;
        if (members[i].text)
            status = read_nstring(&reader, arena, members[i].text);
        else if (with_addresses)
            status = read_addresses(&reader, arena, members[i].addresses, members[i].count);
        else
            skip_value(&reader);
        if (status)
            return status;
    }
    expect(&reader, ')');
    if (reader.failed || reader.at != wire.len)
        return SP_INVALID;
    *ret_envelope = envelope;
    return SP_OK;
}

enum sp_status sp_mime_read_envelope(struct sp_slice wire, struct sp_arena *arena,
                                     struct sp_mime_envelope_wire *ret_envelope)
{
    return read_envelope(wire, arena, true, ret_envelope);
}

enum sp_status sp_mime_read_envelope_text(struct sp_slice wire, struct sp_arena *arena,
                                          struct sp_mime_envelope_wire *ret_envelope)
{
    return read_envelope(wire, arena, false, ret_envelope);
}
