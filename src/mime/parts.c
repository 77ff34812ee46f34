/* The part table, and where a section lies.
 *
 *      version 1, parts (varint), size (varint), then for each part in pre-order:
 *      kind (1 byte), levels up from the part before to the parent (varint; 0: that part itself;
 * absent for part 0), gap from where the parent's body or the sibling before ended to the header
 * (varint), header bytes, body bytes, body lines (varints), then type, subtype, encoding, charset
 * (each a varint of its length and the bytes)
 */
#include "base/cursor.h"
#include "mime/internal.h"

#define TABLE_VERSION 1U
#define TOKEN_MAX     64U /* no type, encoding or charset that we know is longer */

static void write_token(struct sp_slice token, struct sp_buf *buf)
{
    sp_buf_add_bytes(buf, token.len <= TOKEN_MAX ? token : (struct sp_slice){NULL, 0});
}

static uint64_t part_end(const struct sp_mime_part *part)
{
    return part->body_offset + part->body_bytes;
}

void sp_mime_write_parts(const struct sp_mime_message *message, struct sp_buf *buf)
{
    /* ends[i]: where the last child so far of the i-th open part ended, or its body begins. */
    uint32_t open[SP_MIME_DEPTH_MAX], depth = 0;
    uint64_t ends[SP_MIME_DEPTH_MAX];
    sp_buf_add_byte(buf, TABLE_VERSION);
    sp_buf_add_varint(buf, message->parts_count);
    sp_buf_add_varint(buf, message->size);
    for (uint32_t i = 0; i < message->parts_count; i++) {
        const struct sp_mime_part *part = &message->parts[i];
        uint64_t from = 0;
        sp_buf_add_byte(buf, (uint8_t)part->kind);
        if (i) {
            uint32_t up = 0;
            for (; open[depth - 1] != part->parent; up++)
                depth--;
            sp_buf_add_varint(buf, up);
            from = ends[depth - 1];
            ends[depth - 1] = part_end(part);
        }
        sp_assert(depth < SP_MIME_DEPTH_MAX);
        open[depth] = i;
        ends[depth++] = part->body_offset;
        sp_buf_add_varint(buf, part->header_offset - from);
        sp_buf_add_varint(buf, part->header_bytes);
        sp_buf_add_varint(buf, part->body_bytes);
        sp_buf_add_varint(buf, part->body_lines);
        const struct sp_mime_param *charset =
            sp_mime_param_find(part->params, part->params_count, SP_S("charset"));
        write_token(part->type, buf);
        write_token(part->subtype, buf);
        write_token(part->encoding, buf);
        write_token(charset ? charset->value : (struct sp_slice){NULL, 0}, buf);
    }
}

struct open_part {
    uint32_t index;
    uint64_t next, end; /* where a child may begin; where it must have ended */
};

/* Reads one part below the open ones; false when it does not fit. */
static bool read_part(struct sp_cursor *cursor, struct sp_mime_part *parts, uint32_t index,
                      struct open_part *open, uint32_t *depth, struct sp_slice *ret_charset)
{
    struct sp_mime_part *part = &parts[index];
    uint8_t kind = sp_cursor_u8(cursor);
    if (kind > SP_MIME_MESSAGE)
        return false;
    part->kind = (enum sp_mime_kind)kind;
    if (index) {
        *depth -= (uint32_t)sp_cursor_count(cursor, *depth - 2); /* part 0 stays open */
        struct sp_mime_part *parent = &parts[open[*depth - 1].index];
        if (parent->kind == SP_MIME_LEAF ||
            (parent->kind == SP_MIME_MESSAGE && parent->child_count))
            return false;
        part->parent = open[*depth - 1].index;
        parent->child_count++;
    }
    struct open_part *above = &open[*depth - 1]; /* of part 0: the message as a whole */
    uint64_t room = above->end - above->next;
    part->header_offset = above->next + sp_cursor_count(cursor, room);
    part->header_bytes = sp_cursor_count(cursor, above->end - part->header_offset);
    part->body_offset = part->header_offset + part->header_bytes;
    part->body_bytes = sp_cursor_count(cursor, above->end - part->body_offset);
    part->body_lines = sp_cursor_count(cursor, part->body_bytes);
    part->type = sp_cursor_bytes(cursor);
    part->subtype = sp_cursor_bytes(cursor);
    part->encoding = sp_cursor_bytes(cursor);
    *ret_charset = sp_cursor_bytes(cursor);
    if (cursor->failed || *depth > SP_MIME_DEPTH_MAX)
        return false;
    above->next = part_end(part);
    open[(*depth)++] = (struct open_part){index, part->body_offset, part_end(part)};
    return true;
}

enum sp_status sp_mime_read_parts(struct sp_slice table, struct sp_arena *arena,
                                  struct sp_mime_message *ret_message)
{
    struct sp_cursor cursor = sp_cursor(table);
    if (sp_cursor_u8(&cursor) != TABLE_VERSION)
        return SP_CORRUPT;
    uint32_t count = (uint32_t)sp_cursor_count(&cursor, SP_MIME_PARTS_MAX);
    uint64_t size = sp_cursor_varint(&cursor);
    if (cursor.failed || !count)
        return SP_CORRUPT;
    struct sp_mime_part *parts = sp_arena_array(arena, count, sizeof *parts);
    if (!parts)
        return SP_NO_MEMORY;
    struct open_part open[SP_MIME_DEPTH_MAX + 2] = {{.end = size}};
    uint32_t depth = 1;
    for (uint32_t i = 0; i < count; i++) {
        struct sp_slice charset;
        if (!read_part(&cursor, parts, i, open, &depth, &charset))
            return SP_CORRUPT;
        if (!charset.len)
            continue;
        if (!(parts[i].params = sp_arena_alloc(arena, sizeof *parts[i].params)))
            return SP_NO_MEMORY;
        parts[i].params[0] = (struct sp_mime_param){SP_S("charset"), charset};
        parts[i].params_count = 1;
    }
    for (uint32_t i = 0; i < count; i++)
        if ((parts[i].kind != SP_MIME_LEAF) != (parts[i].child_count > 0))
            return SP_CORRUPT;
    if (cursor.rest.len || parts[0].header_offset || part_end(&parts[0]) != size)
        return SP_CORRUPT;
    *ret_message = (struct sp_mime_message){parts, count, size};
    return SP_OK;
}

/* ---- Sections ---- */

/* The number-th child (from 1), or 0. Children of one part need not stand next to each other. */
static uint32_t find_child(const struct sp_mime_message *message, uint32_t parent, uint32_t number)
{
    for (uint32_t i = parent + 1; i < message->parts_count && message->parts[i].parent >= parent;
         i++)
        if (message->parts[i].parent == parent && --number == 0)
            return i;
    return 0;
}

/* A path names a message (part 0; what a message/rfc822 part encloses) or a body part. The message
 * that is no multipart is its own body part 1: the same struct sp_mime_part, seen as the one or the
 * other. */
static enum sp_status find_section(const struct sp_mime_message *message, const uint32_t *path,
                                   size_t path_len, uint32_t *ret_at, bool *ret_is_message)
{
    const struct sp_mime_part *parts = message->parts;
    uint32_t at = 0;
    bool is_message = true;
    for (size_t i = 0; i < path_len; i++) {
        if (path[i] == 0)
            return SP_NOT_FOUND;
        if (!is_message && parts[at].kind == SP_MIME_LEAF)
            return SP_NOT_FOUND;
        if (!is_message && parts[at].kind == SP_MIME_MESSAGE) {
            at++; /* the enclosed message is the part's first child */
            is_message = true;
        }
        if (parts[at].kind == SP_MIME_MULTIPART) {
            at = find_child(message, at, path[i]);
            if (!at)
                return SP_NOT_FOUND;
        } else if (path[i] != 1) {
            return SP_NOT_FOUND;
        }
        is_message = false;
    }
    *ret_at = at;
    *ret_is_message = is_message;
    return SP_OK;
}

const struct sp_mime_part *sp_mime_section_part(const struct sp_mime_message *message,
                                                const uint32_t *path, size_t path_len)
{
    uint32_t at;
    bool is_message;
    if (find_section(message, path, path_len, &at, &is_message) || is_message)
        return NULL;
    return &message->parts[at];
}

enum sp_status sp_mime_section_range(const struct sp_mime_message *message, const uint32_t *path,
                                     size_t path_len, enum sp_mime_section section,
                                     uint64_t *ret_offset, uint64_t *ret_bytes)
{
    uint32_t at;
    bool is_message;
    enum sp_status status = find_section(message, path, path_len, &at, &is_message);
    if (status)
        return status;
    const struct sp_mime_part *part = &message->parts[at];
    uint64_t offset = part->body_offset, bytes = part->body_bytes;
    switch (section) {
    case SP_MIME_SECTION_ALL:
        if (is_message) {
            offset = part->header_offset;
            bytes += part->header_bytes;
        }
        break;
    case SP_MIME_SECTION_MIME:
        if (is_message)
            return SP_NOT_FOUND;
        offset = part->header_offset;
        bytes = part->header_bytes;
        break;
    case SP_MIME_SECTION_HEADER:
    case SP_MIME_SECTION_TEXT:
        if (!is_message && part->kind != SP_MIME_MESSAGE)
            return SP_NOT_FOUND;
        if (!is_message)
            part++;
        offset = section == SP_MIME_SECTION_HEADER ? part->header_offset : part->body_offset;
        bytes = section == SP_MIME_SECTION_HEADER ? part->header_bytes : part->body_bytes;
        break;
    }
    *ret_offset = offset;
    *ret_bytes = bytes;
    return SP_OK;
}
