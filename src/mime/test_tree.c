#include "mime/test_tree.h"

#include <stdlib.h>

enum sp_status sp_test_parse(struct sp_slice bytes, const uint8_t *pieces, size_t pieces_count,
                             struct sp_arena *arena, struct sp_mime_message *ret_message)
{
    struct sp_mime_parser *parser = sp_mime_parser_new(arena);
    enum sp_status status = parser ? SP_OK : SP_NO_MEMORY;
    size_t at = 0;
    for (size_t i = 0; at < bytes.len && status == SP_OK; i++) {
        size_t len = bytes.len - at, piece = pieces_count ? pieces[i % pieces_count] : len;
        if (!piece)
            piece = 1;
        if (piece < len)
            len = piece;
        uint8_t *copy = malloc(len);
        sp_assert(copy);
        memcpy(copy, bytes.ptr + at, len);
        status = sp_mime_parser_feed(parser, sp_slice(copy, len));
        free(copy);
        at += len;
    }
    return status ? status : sp_mime_parser_finish(parser, ret_message);
}

static bool same_slice(struct sp_slice a, struct sp_slice b)
{
    return !a.ptr == !b.ptr && sp_slice_eq(a, b);
}

static bool same_slices(const void *a, const void *b, size_t bytes)
{
    const struct sp_slice *x = a, *y = b;
    for (size_t i = 0; i < bytes / sizeof *x; i++)
        if (!same_slice(x[i], y[i]))
            return false;
    return true;
}

static bool same_part(const struct sp_mime_part *a, const struct sp_mime_part *b)
{
    const struct sp_slice x[] = {a->type,        a->subtype,  a->id,
                                 a->description, a->encoding, a->disposition,
                                 a->language,    a->location, a->md5};
    const struct sp_slice y[] = {b->type,        b->subtype,  b->id,
                                 b->description, b->encoding, b->disposition,
                                 b->language,    b->location, b->md5};
    return a->kind == b->kind && a->parent == b->parent && a->child_count == b->child_count &&
           a->header_offset == b->header_offset && a->header_bytes == b->header_bytes &&
           a->body_offset == b->body_offset && a->body_bytes == b->body_bytes &&
           a->body_lines == b->body_lines && same_slices(x, y, sizeof x) &&
           a->params_count == b->params_count &&
           a->disposition_params_count == b->disposition_params_count &&
           same_slices(a->params, b->params, a->params_count * sizeof *a->params) &&
           same_slices(a->disposition_params, b->disposition_params,
                       a->disposition_params_count * sizeof *a->disposition_params) &&
           !a->envelope == !b->envelope &&
           (!a->envelope || same_slices(a->envelope, b->envelope, sizeof *a->envelope));
}

bool sp_test_same(const struct sp_mime_message *a, const struct sp_mime_message *b)
{
    if (a->parts_count != b->parts_count || a->size != b->size)
        return false;
    for (uint32_t i = 0; i < a->parts_count; i++)
        if (!same_part(&a->parts[i], &b->parts[i]))
            return false;
    return true;
}

static void show_bytes(struct sp_slice bytes, uint64_t from, uint64_t to, struct sp_buf *buf)
{
    sp_assert(from <= to && to <= bytes.len);
    sp_buf_add_str(buf, " '");
    for (size_t i = from; i < to; i++) {
        if (bytes.ptr[i] == '\r' && i + 1 < to && bytes.ptr[i + 1] == '\n')
            continue;
        sp_buf_add_byte(buf, bytes.ptr[i] == '\n' ? '|' : bytes.ptr[i]);
    }
    sp_buf_add_byte(buf, '\'');
}

static uint32_t show_part(const struct sp_mime_message *message, uint32_t index,
                          struct sp_slice bytes, struct sp_buf *buf)
{
    const struct sp_mime_part *part = &message->parts[index++];
    uint64_t at = part->body_offset, end = at + part->body_bytes;
    sp_buf_addf(buf, "%.*s/%.*s %llu", SP_FMT(part->type), SP_FMT(part->subtype),
                (unsigned long long)part->body_lines);
    show_bytes(bytes, part->header_offset, part->header_offset + part->header_bytes, buf);
    sp_assert(part->header_offset + part->header_bytes == at);
    if (part->kind == SP_MIME_LEAF) {
        show_bytes(bytes, at, end, buf);
        return index;
    }
    sp_buf_add_str(buf, " (");
    for (uint32_t i = 0; i < part->child_count; i++) {
        const struct sp_mime_part *child = &message->parts[index];
        if (part->kind == SP_MIME_MULTIPART)
            show_bytes(bytes, at, child->header_offset, buf);
        else
            sp_assert(at == child->header_offset);
        sp_buf_add_byte(buf, ' ');
        at = child->body_offset + child->body_bytes;
        index = show_part(message, index, bytes, buf);
    }
    if (part->kind == SP_MIME_MULTIPART)
        show_bytes(bytes, at, end, buf);
    else
        sp_assert(at == end);
    sp_buf_add_str(buf, " )");
    return index;
}

void sp_test_show(const struct sp_mime_message *message, struct sp_slice bytes, struct sp_buf *buf)
{
    sp_assert(message->size == bytes.len);
    sp_assert(show_part(message, 0, bytes, buf) == message->parts_count);
}

void sp_test_lines(const char *text, const char *eol, struct sp_buf *buf)
{
    for (; *text; text++) {
        if (*text == '|')
            sp_buf_add_str(buf, eol);
        else
            sp_buf_add_byte(buf, (uint8_t)*text);
    }
}
