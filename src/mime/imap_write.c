/* ENVELOPE and BODYSTRUCTURE as RFC 3501 (7.4.2, 9) wants them. */
#include "mime/internal.h"

static void write_string(struct sp_slice text, struct sp_buf *buf)
{
    bool quotable = true;
    for (size_t i = 0; i < text.len && quotable; i++)
        quotable = text.ptr[i] && text.ptr[i] < 128 && text.ptr[i] != '\r' && text.ptr[i] != '\n';
    if (!quotable) {
        sp_buf_addf(buf, "{%zu}\r\n", text.len);
        /* A literal may hold anything but NUL. */
        for (size_t i = 0; i < text.len; i++)
            sp_buf_add_byte(buf, text.ptr[i] ? text.ptr[i] : '?');
        return;
    }
    sp_buf_add_byte(buf, '"');
    for (size_t i = 0, start = 0; i <= text.len; i++) {
        if (i < text.len && text.ptr[i] != '"' && text.ptr[i] != '\\')
            continue;
        sp_buf_add(buf, sp_slice_sub(text, start, i));
        if (i < text.len)
            sp_buf_add_byte(buf, '\\');
        start = i;
    }
    sp_buf_add_byte(buf, '"');
}

static void write_nstring(struct sp_slice text, struct sp_buf *buf)
{
    if (text.ptr)
        write_string(text, buf);
    else
        sp_buf_add_str(buf, "NIL");
}

/* ---- ENVELOPE ---- */

/* False, and nothing written, when there is no address in the field. */
static bool write_addresses(struct sp_mime_address_reader *reader, struct sp_slice field,
                            struct sp_buf *buf)
{
    struct sp_mime_address address;
    bool any = false;
    sp_mime_address_reader_start(reader, field);
    while (sp_mime_address_next(reader, &address)) {
        sp_buf_add_str(buf, any ? "(" : "((");
        any = true;
        write_nstring(address.name, buf);
        sp_buf_add_byte(buf, ' ');
        write_nstring(address.adl, buf);
        sp_buf_add_byte(buf, ' ');
        write_nstring(address.mailbox, buf);
        sp_buf_add_byte(buf, ' ');
        write_nstring(address.host, buf);
        sp_buf_add_byte(buf, ')');
    }
    if (any)
        sp_buf_add_byte(buf, ')');
    return any;
}

/* Sender and Reply-To are From's when absent or empty (RFC 3501: "the server sets the corresponding
 * member"). */
static void write_address_field(struct sp_mime_address_reader *reader, struct sp_slice field,
                                struct sp_slice otherwise, struct sp_buf *buf)
{
    sp_buf_add_byte(buf, ' ');
    if (!write_addresses(reader, field, buf) && !write_addresses(reader, otherwise, buf))
        sp_buf_add_str(buf, "NIL");
}

static void write_envelope(const struct sp_mime_envelope *envelope, struct sp_buf *buf)
{
    static const struct sp_slice none = {NULL, 0};
    struct sp_mime_address_reader reader;
    sp_mime_address_reader_init(&reader);
    sp_buf_add_byte(buf, '(');
    write_nstring(envelope->date, buf);
    sp_buf_add_byte(buf, ' ');
    write_nstring(envelope->subject, buf);
    write_address_field(&reader, envelope->from, none, buf);
    write_address_field(&reader, envelope->sender, envelope->from, buf);
    write_address_field(&reader, envelope->reply_to, envelope->from, buf);
    write_address_field(&reader, envelope->to, none, buf);
    write_address_field(&reader, envelope->cc, none, buf);
    write_address_field(&reader, envelope->bcc, none, buf);
    sp_buf_add_byte(buf, ' ');
    write_nstring(envelope->in_reply_to, buf);
    sp_buf_add_byte(buf, ' ');
    write_nstring(envelope->message_id, buf);
    sp_buf_add_byte(buf, ')');
    sp_mime_address_reader_release(&reader);
}

void sp_mime_write_envelope(const struct sp_mime_message *message, struct sp_buf *buf)
{
    write_envelope(message->parts[0].envelope, buf);
}

/* ---- BODYSTRUCTURE ---- */

static void write_params(const struct sp_mime_param *params, uint32_t count, struct sp_buf *buf)
{
    sp_buf_add_str(buf, count ? " (" : " NIL");
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            sp_buf_add_byte(buf, ' ');
        write_string(params[i].name, buf);
        sp_buf_add_byte(buf, ' ');
        write_string(params[i].value, buf);
    }
    if (count)
        sp_buf_add_byte(buf, ')');
}

/* Content-Language: a list, as tags between commas (RFC 3282). */
static void write_languages(struct sp_slice list, struct sp_buf *buf)
{
    bool any = false;
    while (list.len) {
        size_t comma = sp_slice_find(list, ',');
        struct sp_slice tag = sp_slice_trim(sp_slice_sub(list, 0, comma));
        list = comma == SIZE_MAX ? (struct sp_slice){NULL, 0} : sp_slice_from(list, comma + 1);
        if (!tag.len)
            continue;
        sp_buf_add_str(buf, any ? " " : " (");
        write_string(tag, buf);
        any = true;
    }
    sp_buf_add_str(buf, any ? ")" : " NIL");
}

/* What both kinds of extension data end with: disposition, language, location. */
static void write_extension(const struct sp_mime_part *part, struct sp_buf *buf)
{
    if (part->disposition.len) {
        sp_buf_add_str(buf, " (");
        write_string(part->disposition, buf);
        write_params(part->disposition_params, part->disposition_params_count, buf);
        sp_buf_add_byte(buf, ')');
    } else {
        sp_buf_add_str(buf, " NIL");
    }
    write_languages(part->language, buf);
    sp_buf_add_byte(buf, ' ');
    write_nstring(part->location, buf);
}

/* Writes the part and returns the index after it and all within it. Recursion: SP_MIME_DEPTH_MAX at
 * most. */
static uint32_t write_part(const struct sp_mime_message *message, uint32_t index,
                           struct sp_buf *buf)
{
    const struct sp_mime_part *part = &message->parts[index++];
    sp_buf_add_byte(buf, '(');
    if (part->kind == SP_MIME_MULTIPART) {
        for (uint32_t i = 0; i < part->child_count; i++)
            index = write_part(message, index, buf);
        sp_buf_add_byte(buf, ' ');
        write_string(part->subtype, buf);
        write_params(part->params, part->params_count, buf);
    } else {
        write_string(part->type, buf);
        sp_buf_add_byte(buf, ' ');
        write_string(part->subtype, buf);
        write_params(part->params, part->params_count, buf);
        sp_buf_add_byte(buf, ' ');
        write_nstring(part->id, buf);
        sp_buf_add_byte(buf, ' ');
        write_nstring(part->description, buf);
        sp_buf_add_byte(buf, ' ');
        write_string(part->encoding.len ? part->encoding : SP_S("7bit"), buf);
        sp_buf_add_byte(buf, ' ');
        sp_buf_add_decimal(buf, part->body_bytes);
        if (part->kind == SP_MIME_MESSAGE) {
            sp_buf_add_byte(buf, ' ');
            write_envelope(message->parts[index].envelope, buf);
            sp_buf_add_byte(buf, ' ');
            index = write_part(message, index, buf);
        }
        if (part->kind == SP_MIME_MESSAGE || sp_slice_eq_nocase(part->type, SP_S("text"))) {
            sp_buf_add_byte(buf, ' ');
            sp_buf_add_decimal(buf, part->body_lines);
        }
        sp_buf_add_byte(buf, ' ');
        write_nstring(part->md5, buf);
    }
    write_extension(part, buf);
    sp_buf_add_byte(buf, ')');
    return index;
}

void sp_mime_write_bodystructure(const struct sp_mime_message *message, struct sp_buf *buf)
{
    write_part(message, 0, buf);
}
