#include "mail/derive.h"

#include "base/checksum.h"

#define PREVIEW_BYTES 65536U /* of a text that are looked at */

enum sp_status sp_thread_id(struct sp_bytes *bytes, const struct sp_item *item,
                            uint8_t ret_id[SP_OBJECT_ID_BYTES])
{
    struct sp_slice header, root;
    struct sp_digest digest;
    uint64_t len = item->header_bytes < SP_BYTES_MAX ? item->header_bytes : SP_BYTES_MAX;
    enum sp_status status = sp_bytes_get(bytes, item, 0, len, &header);
    if (status)
        return status;
    if (!sp_mime_thread_root(header, &root))
        return SP_NOT_FOUND;
    sp_digest(root, &digest);
    memcpy(ret_id, digest.bytes, SP_OBJECT_ID_BYTES);
    return SP_OK;
}

/* ---- PREVIEW ---- */

static bool is_enclosed(const struct sp_mime_message *parts, uint32_t at)
{
    while (at) {
        at = parts->parts[at].parent;
        if (parts->parts[at].kind == SP_MIME_MESSAGE)
            return true;
    }
    return false;
}

static enum sp_status note_text(const struct sp_mime_part *part, struct sp_arena *arena,
                                struct sp_preview_text *ret_text)
{
    struct sp_slice charset =
        part->params_count ? part->params[0].value : (struct sp_slice){NULL, 0};
    *ret_text = (struct sp_preview_text){.offset = part->body_offset,
                                         .bytes = part->body_bytes,
                                         .encoding = sp_arena_copy(arena, part->encoding),
                                         .charset = sp_arena_copy(arena, charset)};
    bool copied =
        (ret_text->encoding.ptr || !part->encoding.len) && (ret_text->charset.ptr || !charset.len);
    return copied ? SP_OK : SP_NO_MEMORY;
}

enum sp_status sp_preview_find(const struct sp_mime_message *parts, struct sp_arena *arena,
                               struct sp_preview_texts *ret_texts)
{
    *ret_texts = (struct sp_preview_texts){0};
    enum sp_status status = SP_OK;
    for (uint32_t i = 0; status == SP_OK && i < parts->parts_count; i++) {
        const struct sp_mime_part *part = &parts->parts[i];
        bool text = !part->type.len || sp_slice_eq_nocase(part->type, SP_S("text"));
        if (part->kind != SP_MIME_LEAF || !text || !part->body_bytes || is_enclosed(parts, i))
            continue;
        bool html = sp_slice_eq_nocase(part->subtype, SP_S("html"));
        bool plain = !part->subtype.len || sp_slice_eq_nocase(part->subtype, SP_S("plain"));
        if (html && !ret_texts->html.bytes)
            status = note_text(part, arena, &ret_texts->html);
        else if (plain && !ret_texts->plain.bytes)
            status = note_text(part, arena, &ret_texts->plain);
    }
    return status;
}

static enum sp_status preview_of(struct sp_bytes *bytes, const struct sp_item *item,
                                 const struct sp_preview_text *text, bool html, struct sp_buf *buf)
{
    struct sp_slice content;
    struct sp_buf utf8;
    uint64_t len = text->bytes < PREVIEW_BYTES ? text->bytes : PREVIEW_BYTES;
    enum sp_status status = sp_bytes_get(bytes, item, text->offset, len, &content);
    if (status)
        return status;
    sp_buf_init(&utf8, 4 * PREVIEW_BYTES);
    sp_mime_decode_text(content, text->encoding, text->charset, &utf8);
    sp_mime_preview(sp_buf_slice(&utf8), html, SP_PREVIEW_CHARS, buf);
    sp_buf_release(&utf8);
    return sp_buf_failed(buf) ? SP_NO_MEMORY : SP_OK;
}

enum sp_status sp_preview(struct sp_bytes *bytes, const struct sp_item *item,
                          const struct sp_preview_texts *texts, struct sp_buf *buf)
{
    sp_buf_reset(buf);
    enum sp_status status = SP_OK;
    if (texts->plain.bytes)
        status = preview_of(bytes, item, &texts->plain, false, buf);
    if (status == SP_OK && !buf->len && texts->html.bytes)
        status = preview_of(bytes, item, &texts->html, true, buf);
    return status;
}
