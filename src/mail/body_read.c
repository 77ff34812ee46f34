#include "mail/body_read.h"
#include "base/log.h"

enum sp_status sp_item_load(struct sp_read *read, const struct sp_message *message,
                            struct sp_arena *arena, struct sp_item *ret_item)
{
    struct sp_item item = {.size = message->size,
                           .header_bytes = message->header_bytes,
                           .bodies_count = message->bodies.count};
    item.bodies = sp_arena_array(arena, item.bodies_count, sizeof *item.bodies);
    if (!item.bodies)
        return SP_NO_MEMORY;
    for (uint32_t i = 0; i < item.bodies_count; i++) {
        enum sp_status status = sp_index_body(read, message->bodies.ptr[i], &item.bodies[i]);
        if (status == SP_NOT_FOUND)
            item.bodies[i].payload_bytes = 0;
        else if (status)
            return status;
    }
    *ret_item = item;
    return SP_OK;
}

void sp_bytes_init(struct sp_bytes *bytes, struct sp_mail *mail)
{
    *bytes = (struct sp_bytes){.mail = mail};
    sp_buf_init(&bytes->joined, SP_BYTES_MAX);
}

void sp_bytes_release(struct sp_bytes *bytes)
{
    sp_mail_give_reader(bytes->mail, bytes->reader);
    bytes->reader = NULL;
    sp_buf_release(&bytes->joined);
}

/* The first `need` bytes of one body or chunk, at least. */
static enum sp_status read_one(struct sp_bytes *bytes, const struct sp_body_row *row, uint64_t need,
                               struct sp_slice *ret_bytes)
{
    struct sp_error error = {0};
    if (!row->payload_bytes)
        return SP_UNAVAILABLE;
    enum sp_status status = sp_reader_body(bytes->reader, row, need, ret_bytes, &error);
    if (status == SP_OK && ret_bytes->len < need)
        status = sp_error_set(&error, SP_CORRUPT, "body", "it is shorter than its message says");
    if (status == SP_OK || status == SP_NO_MEMORY)
        return status;
    char why[sizeof error.why];
    sp_log(SP_LOG_WARN, "body.missing", "segment=%llu block=%u status=%s why=%s",
           (unsigned long long)row->place.segment, row->place.block, sp_status_name(status),
           sp_log_quote(sp_slice_str(error.why), why, sizeof why));
    return SP_UNAVAILABLE;
}

static enum sp_status read_chunks(struct sp_bytes *bytes, const struct sp_item *item,
                                  uint64_t offset, uint64_t len, struct sp_slice *ret_bytes)
{
    if (len > SP_BYTES_MAX)
        return SP_LIMIT;
    sp_buf_reset(&bytes->joined);
    while (len) {
        uint64_t index = offset / SP_BODY_PIECE_MAX, from = offset % SP_BODY_PIECE_MAX;
        uint64_t part = SP_BODY_PIECE_MAX - from < len ? SP_BODY_PIECE_MAX - from : len;
        struct sp_slice chunk;
        if (index >= item->bodies_count)
            return SP_UNAVAILABLE;
        enum sp_status status = read_one(bytes, &item->bodies[index], from + part, &chunk);
        if (status)
            return status;
        chunk = sp_slice_sub(chunk, from, from + part);
        if (part == len && !bytes->joined.len) {
            *ret_bytes = chunk;
            return SP_OK;
        }
        sp_buf_add(&bytes->joined, chunk);
        if (sp_buf_failed(&bytes->joined))
            return SP_NO_MEMORY;
        offset += part;
        len -= part;
    }
    *ret_bytes = sp_buf_slice(&bytes->joined);
    return SP_OK;
}

enum sp_status sp_bytes_get(struct sp_bytes *bytes, const struct sp_item *item, uint64_t offset,
                            uint64_t len, struct sp_slice *ret_bytes)
{
    if (offset > item->size || len > item->size - offset)
        return SP_INVALID;
    if (len == 0) {
        *ret_bytes = (struct sp_slice){NULL, 0};
        return SP_OK;
    }
    if (!item->bodies_count)
        return SP_UNAVAILABLE;
    if (!bytes->reader && !(bytes->reader = sp_mail_take_reader(bytes->mail)))
        return SP_NO_MEMORY;
    if (item->bodies_count > 1)
        return read_chunks(bytes, item, offset, len, ret_bytes);
    struct sp_slice whole;
    enum sp_status status = read_one(bytes, &item->bodies[0], offset + len, &whole);
    if (status == SP_OK)
        *ret_bytes = sp_slice_sub(whole, offset, offset + len);
    return status;
}
