/* The fake store's rows and its search. */
#include "proto/imap/fake_mail.h"

#include "base/checksum.h"

static void parse(struct sp_fake_message *message)
{
    if (message->parsed)
        return;
    struct sp_mime_parser *parser = sp_mime_parser_new(&message->arena);
    sp_assert(parser &&
              sp_mime_parser_feed(parser, sp_slice(message->bytes, message->len)) == SP_OK &&
              sp_mime_parser_finish(parser, &message->mime) == SP_OK);
    sp_mime_write_envelope(&message->mime, &message->envelope);
    sp_mime_write_bodystructure(&message->mime, &message->bodystructure);
    message->parsed = true;
}

static enum sp_status decoded(struct sp_fake_message *message, const struct sp_section *section,
                              struct sp_slice range, struct sp_buf *buf)
{
    const struct sp_mime_part *part =
        sp_mime_section_part(&message->mime, section->path, section->path_len);
    struct sp_mime_decoder decoder = {SP_MIME_ENCODING_NONE, 0, 0};
    size_t len;
    if (part && part->kind == SP_MIME_LEAF)
        decoder.encoding = sp_mime_encoding_of(part->encoding);
    if (decoder.encoding == SP_MIME_ENCODING_UNKNOWN)
        return SP_UNSUPPORTED;
    sp_assert(sp_buf_reserve(buf, range.len + 1));
    size_t taken =
        sp_mime_decode(&decoder, range, true, (struct sp_slice_mut){buf->ptr, range.len + 1}, &len);
    sp_assert(taken == range.len);
    buf->len = len;
    return SP_OK;
}

static enum sp_status whole_section(struct sp_fake_message *message,
                                    const struct sp_section *section, struct sp_buf *buf)
{
    static const enum sp_mime_section kinds[SP_SECTION_KINDS] = {
        SP_MIME_SECTION_ALL,    SP_MIME_SECTION_HEADER, SP_MIME_SECTION_HEADER,
        SP_MIME_SECTION_HEADER, SP_MIME_SECTION_TEXT,   SP_MIME_SECTION_MIME};
    uint64_t offset, bytes;
    enum sp_status status = sp_mime_section_range(&message->mime, section->path, section->path_len,
                                                  kinds[section->kind], &offset, &bytes);
    if (status != SP_OK)
        return status;
    struct sp_slice range = sp_slice(message->bytes + offset, (size_t)bytes);
    if (section->kind == SP_SECTION_BINARY || section->kind == SP_SECTION_BINARY_SIZE)
        return decoded(message, section, range, buf);
    if (section->kind == SP_SECTION_FIELDS || section->kind == SP_SECTION_FIELDS_NOT)
        sp_mime_write_fields(range, section->fields, section->fields_count,
                             section->kind == SP_SECTION_FIELDS_NOT, buf);
    else
        sp_buf_add(buf, range);
    return SP_OK;
}

/* Not the digest that `mail` makes of it, but an id all the same. */
static enum sp_status thread_id(struct sp_fake_message *message, struct sp_buf *buf)
{
    struct sp_slice root, header = sp_slice(message->bytes, message->mime.parts[0].header_bytes);
    if (!sp_mime_thread_root(header, &root))
        return SP_NOT_FOUND;
    for (size_t i = 0; i < SP_OBJECT_ID_BYTES; i++)
        sp_buf_add_byte(buf, i < root.len ? root.ptr[i] : 0);
    return SP_OK;
}

/* Of the first leaf, as if it were plain. */
static enum sp_status preview(struct sp_fake_message *message, struct sp_buf *buf)
{
    const struct sp_mime_part *part = message->mime.parts;
    while (part->kind != SP_MIME_LEAF)
        part++;
    struct sp_slice text = sp_slice(message->bytes + part->body_offset, (size_t)part->body_bytes);
    if (sp_mime_is_utf8(text))
        sp_mime_preview(text, false, SP_PREVIEW_CHARS, buf);
    return SP_OK;
}

static void fill_section(struct sp_fake_mail *mail, struct sp_fake_message *message,
                         const struct sp_section *section, struct sp_arena *arena,
                         struct sp_fetch_section *ret)
{
    struct sp_buf buf;
    if (message->lost || mail->pieces_until_lost == 1) {
        ret->status = SP_UNAVAILABLE;
        return;
    }
    if (mail->pieces_until_lost)
        mail->pieces_until_lost--;
    sp_buf_init(&buf, 64U << 20);
    ret->status = section->kind == SP_SECTION_THREAD_ID ? thread_id(message, &buf)
                  : section->kind == SP_SECTION_PREVIEW ? preview(message, &buf)
                                                        : whole_section(message, section, &buf);
    if (ret->status == SP_OK) {
        struct sp_slice all = sp_slice_from(sp_buf_slice(&buf), section->offset);
        if (section->length < all.len)
            all.len = (size_t)section->length;
        ret->size = all.len;
        ret->nul = section->kind == SP_SECTION_BINARY && all.len && memchr(all.ptr, 0, all.len);
        if (section->kind != SP_SECTION_BINARY_SIZE)
            ret->bytes = sp_arena_copy(arena, sp_slice_sub(all, 0, SP_SECTION_PIECE_MAX));
    }
    sp_buf_release(&buf);
}

void sp_fake_fill_row(struct sp_fake_mail *mail, struct sp_fake_message *message,
                      const struct sp_request *request, struct sp_arena *arena, struct sp_row *row,
                      size_t *bytes)
{
    parse(message);
    *row = (struct sp_row){.uid = message->uid, .flags = message->flags, .modseq = message->modseq};
    *bytes += sizeof *row;
    if (request->fetch.want & SP_WANT_META) {
        row->date = message->date;
        row->size = message->len;
        row->saved_s = message->date.unix_s + 3600;
        struct sp_digest digest;
        sp_digest(sp_slice(message->bytes, message->len), &digest);
        memcpy(row->email_id, digest.bytes, sizeof row->email_id);
    }
    if (request->fetch.want & SP_WANT_ENVELOPE)
        row->envelope = sp_buf_slice(&message->envelope);
    if (request->fetch.want & SP_WANT_BODYSTRUCTURE)
        row->bodystructure = sp_buf_slice(&message->bodystructure);
    if (!request->fetch.sections_count)
        return;
    row->sections = sp_arena_array(arena, request->fetch.sections_count, sizeof *row->sections);
    sp_assert(row->sections);
    for (uint32_t i = 0; i < request->fetch.sections_count; i++) {
        fill_section(mail, message, &request->fetch.sections[i], arena, &row->sections[i]);
        *bytes += row->sections[i].bytes.len;
    }
}

/* ---- Search ---- */

static bool contains(struct sp_slice all, struct sp_slice text)
{
    for (size_t at = 0; at + text.len <= all.len; at++)
        if (sp_slice_starts_nocase(sp_slice_from(all, at), text))
            return true;
    return false;
}

static bool has_field(struct sp_fake_message *message, struct sp_slice name, struct sp_slice text)
{
    struct sp_slice header = sp_slice(message->bytes, (size_t)message->mime.parts[0].header_bytes);
    struct sp_mime_field field;
    while (sp_mime_next_field(&header, &field))
        if (sp_slice_eq_nocase(field.name, name) && contains(field.body, text))
            return true;
    return false;
}

static uint64_t day(struct sp_date date)
{
    return (uint64_t)((date.unix_s + (int64_t)date.zone_min * 60) / 86400);
}

static bool has_keyword(const struct sp_fake_mailbox *mailbox,
                        const struct sp_fake_message *message, struct sp_slice name)
{
    for (uint32_t i = 0; i < mailbox->keywords_count; i++)
        if (sp_slice_eq_nocase(name, sp_slice_str(mailbox->keywords[i])))
            return (message->flags >> (SP_FLAG_KEYWORD_0 + i)) & 1;
    return false;
}

static bool leaf_matches(const struct sp_fake_mailbox *mailbox, struct sp_fake_message *message,
                         const struct sp_search_node *node)
{
    struct sp_slice all = sp_slice(message->bytes, message->len);
    parse(message);
    switch (node->op) {
    case SP_SEARCH_ALL:
        return true;
    case SP_SEARCH_UIDS:
        for (uint32_t i = 0; i < node->ranges.count; i++)
            if (message->uid >= node->ranges.ptr[i].first &&
                message->uid <= node->ranges.ptr[i].last)
                return true;
        return false;
    case SP_SEARCH_FLAGS:
        return (message->flags & node->number) == node->number;
    case SP_SEARCH_KEYWORD:
        return has_keyword(mailbox, message, node->text);
    case SP_SEARCH_MODSEQ:
        return message->modseq >= node->number;
    case SP_SEARCH_LARGER:
        return message->len > node->number;
    case SP_SEARCH_SMALLER:
        return message->len < node->number;
    case SP_SEARCH_BEFORE:
        return day(message->date) < node->number;
    case SP_SEARCH_ON:
        return day(message->date) == node->number;
    case SP_SEARCH_SINCE:
        return day(message->date) >= node->number;
    case SP_SEARCH_SAVEDBEFORE:
        return day((struct sp_date){message->date.unix_s + 3600, 0}) < node->number;
    case SP_SEARCH_SAVEDON:
        return day((struct sp_date){message->date.unix_s + 3600, 0}) == node->number;
    case SP_SEARCH_SAVEDSINCE:
        return day((struct sp_date){message->date.unix_s + 3600, 0}) >= node->number;
    case SP_SEARCH_EMAIL_ID: {
        struct sp_digest digest;
        sp_digest(all, &digest);
        return sp_slice_eq(node->field, sp_slice(digest.bytes, SP_OBJECT_ID_BYTES));
    }
    case SP_SEARCH_THREAD_ID: {
        struct sp_buf id;
        sp_buf_init(&id, SP_OBJECT_ID_BYTES);
        bool same = thread_id(message, &id) == SP_OK && sp_slice_eq(node->field, sp_buf_slice(&id));
        sp_buf_release(&id);
        return same;
    }
    case SP_SEARCH_HEADER:
        return has_field(message, node->field, node->text);
    case SP_SEARCH_FROM:
        return has_field(message, SP_S("From"), node->text);
    case SP_SEARCH_TO:
        return has_field(message, SP_S("To"), node->text);
    case SP_SEARCH_CC:
        return has_field(message, SP_S("Cc"), node->text);
    case SP_SEARCH_BCC:
        return has_field(message, SP_S("Bcc"), node->text);
    case SP_SEARCH_SUBJECT:
        return has_field(message, SP_S("Subject"), node->text);
    case SP_SEARCH_BODY:
        return contains(sp_slice_from(all, (size_t)message->mime.parts[0].header_bytes),
                        node->text);
    case SP_SEARCH_TEXT:
        return contains(all, node->text);
    default:
        return false;
    }
}

bool sp_fake_matches(const struct sp_fake_mailbox *mailbox, struct sp_fake_message *message,
                     const struct sp_search_node **node)
{
    const struct sp_search_node *at = (*node)++;
    bool any = false, all = true;
    switch (at->op) {
    case SP_SEARCH_NOT:
        return !sp_fake_matches(mailbox, message, node);
    case SP_SEARCH_AND:
    case SP_SEARCH_OR:
        for (uint32_t i = 0; i < at->count; i++) {
            bool one = sp_fake_matches(mailbox, message, node);
            any |= one;
            all &= one;
        }
        return at->op == SP_SEARCH_AND ? all : any;
    default:
        return leaf_matches(mailbox, message, at);
    }
}
