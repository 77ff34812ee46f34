#include "format/segment.h"
#include "base/cursor.h"
#include "base/endian.h"

#define HEAD_VERSION 1U

static void write_end(const struct sp_log_end *end, struct sp_buf *buf)
{
    sp_buf_add_u64(buf, end->epoch_id);
    sp_buf_add_u32(buf, end->epoch_counter);
    sp_buf_add_u64(buf, end->segment);
    sp_buf_add_u32(buf, end->generation);
    sp_buf_add_u32(buf, end->blocks);
    sp_buf_add_u64(buf, end->lsn);
    sp_buf_add_u64(buf, end->batch);
    sp_buf_add_u64(buf, end->chain);
}

static void read_end(struct sp_cursor *c, struct sp_log_end *ret)
{
    ret->epoch_id = sp_cursor_u64(c);
    ret->epoch_counter = sp_cursor_u32(c);
    ret->segment = sp_cursor_u64(c);
    ret->generation = sp_cursor_u32(c);
    ret->blocks = sp_cursor_u32(c);
    ret->lsn = sp_cursor_u64(c);
    ret->batch = sp_cursor_u64(c);
    ret->chain = sp_cursor_u64(c);
}

void sp_segment_head_write(const struct sp_segment_head *head, uint8_t ret_block[SP_BLOCK_BYTES])
{
    struct sp_buf buf;
    sp_buf_init(&buf, SP_BLOCK_PAYLOAD_BYTES);
    sp_buf_add_u32(&buf, HEAD_VERSION);
    sp_buf_add_u32(&buf, head->epoch_begins);
    sp_buf_add_u64(&buf, head->time_ns);
    sp_buf_add_u64(&buf, head->next_lsn);
    sp_buf_add_u64(&buf, head->segment_bytes);
    sp_buf_add_u32(&buf, head->min_copies);
    write_end(&head->previous, &buf);
    sp_buf_add_u64(&buf, head->manifest_segment);
    sp_buf_add_u64(&buf, head->manifest_lsn);
    sp_assert(head->members_count <= SP_MEMBERS_MAX);
    sp_buf_add_byte(&buf, (uint8_t)head->members_count);
    for (uint32_t i = 0; i < head->members_count; i++) {
        const struct sp_member *m = &head->members[i];
        sp_buf_add(&buf, sp_slice(m->unit.bytes, 16));
        sp_buf_add_byte(&buf, m->role);
        sp_assert(m->ranges_count <= SP_RANGES_MAX);
        sp_buf_add_byte(&buf, m->ranges_count);
        for (uint32_t r = 0; r < m->ranges_count; r++) {
            sp_buf_add_u64(&buf, m->ranges[r].first);
            sp_buf_add_u64(&buf, m->ranges[r].last);
        }
    }
    /* 16 members with 16 ranges each would not fit; units seldom have more than one range. */
    sp_assert(!sp_buf_failed(&buf));
    struct sp_block_header header = {
        .flags = SP_BLOCK_HEAD | SP_BLOCK_BATCH_FIRST | SP_BLOCK_BATCH_LAST,
        .payload_bytes = (uint16_t)buf.len,
        .volume = head->volume,
        .epoch_id = head->epoch_id,
        .epoch_counter = head->epoch_counter,
        .segment = head->segment,
        .generation = head->generation,
        .batch = head->batch,
        .first_offset = SP_NO_RECORD,
        .chain = head->previous.chain,
    };
    memcpy(ret_block + SP_BLOCK_HEADER_BYTES, buf.ptr, buf.len);
    sp_block_write(ret_block, &header);
    sp_buf_release(&buf);
}

enum sp_status sp_segment_head_read(const uint8_t block[SP_BLOCK_BYTES],
                                    struct sp_segment_head *ret)
{
    struct sp_block_header header;
    enum sp_status status = sp_block_read(block, &header);
    if (status != SP_OK)
        return status == SP_UNSUPPORTED ? status : SP_CORRUPT;
    if (!(header.flags & SP_BLOCK_HEAD) || header.index != 0)
        return SP_CORRUPT;
    struct sp_segment_head head = {
        .volume = header.volume,
        .epoch_id = header.epoch_id,
        .epoch_counter = header.epoch_counter,
        .segment = header.segment,
        .generation = header.generation,
        .batch = header.batch,
    };
    struct sp_cursor c = sp_cursor(sp_block_payload(block, &header));
    if (sp_cursor_u32(&c) != HEAD_VERSION)
        return c.failed ? SP_CORRUPT : SP_UNSUPPORTED;
    head.epoch_begins = sp_cursor_u32(&c) != 0;
    head.time_ns = sp_cursor_u64(&c);
    head.next_lsn = sp_cursor_u64(&c);
    head.segment_bytes = sp_cursor_u64(&c);
    head.min_copies = sp_cursor_u32(&c);
    read_end(&c, &head.previous);
    head.manifest_segment = sp_cursor_u64(&c);
    head.manifest_lsn = sp_cursor_u64(&c);
    head.members_count = sp_cursor_u8(&c);
    if (head.members_count > SP_MEMBERS_MAX)
        return SP_CORRUPT;
    for (uint32_t i = 0; i < head.members_count; i++) {
        struct sp_member *m = &head.members[i];
        struct sp_slice unit = sp_cursor_take(&c, 16);
        if (unit.len)
            memcpy(m->unit.bytes, unit.ptr, 16);
        m->role = sp_cursor_u8(&c);
        m->ranges_count = sp_cursor_u8(&c);
        if (m->ranges_count > SP_RANGES_MAX)
            return SP_CORRUPT;
        for (uint32_t r = 0; r < m->ranges_count; r++) {
            m->ranges[r].first = sp_cursor_u64(&c);
            m->ranges[r].last = sp_cursor_u64(&c);
        }
    }
    if (c.failed || head.next_lsn == 0 || head.batch == 0)
        return SP_CORRUPT;
    *ret = head;
    return SP_OK;
}

static bool is_place(const struct sp_block_header *h, const struct sp_segment_id *id,
                     uint32_t index)
{
    return sp_uuid_eq(&h->volume, &id->volume) && h->segment == id->segment &&
           h->generation == id->generation && h->index == index;
}

void sp_segment_sound_end(const uint8_t *blocks, uint32_t count, const struct sp_segment_id *id,
                          struct sp_log_end *ret_end)
{
    struct sp_segment_head head;
    struct sp_log_end end = {.segment = id->segment, .generation = id->generation};
    *ret_end = end;
    if (count == 0 || sp_segment_head_read(blocks, &head) != SP_OK ||
        !sp_uuid_eq(&head.volume, &id->volume) || head.segment != id->segment ||
        head.generation != id->generation)
        return;
    end.epoch_id = head.epoch_id;
    end.epoch_counter = head.epoch_counter;
    end.blocks = 1;
    end.lsn = head.next_lsn - 1;
    end.batch = head.batch - 1;
    end.chain = sp_block_chain(blocks);
    uint64_t chain = end.chain, batch = end.batch, lsn = end.lsn;
    bool open = false;
    /* Only complete batches count, so the end moves at their last blocks. */
    for (uint32_t i = 1; i < count; i++) {
        const uint8_t *block = blocks + (size_t)i * SP_BLOCK_BYTES;
        struct sp_block_header h;
        if (sp_block_read(block, &h) != SP_OK || !is_place(&h, id, i) ||
            h.epoch_id != end.epoch_id || h.chain != chain ||
            (h.flags & (SP_BLOCK_FOOTER | SP_BLOCK_HEAD)))
            break;
        if (h.flags & SP_BLOCK_BATCH_FIRST) {
            if (open || h.batch != batch + 1)
                break;
            batch = h.batch;
            open = true;
        } else if (!open || h.batch != batch) {
            break;
        }
        chain = sp_block_chain(block);
        if (h.flags & SP_BLOCK_BATCH_LAST) {
            open = false;
            end.blocks = i + 1;
            end.batch = batch;
            end.chain = chain;
        }
    }
    /* The last LSN: from the last block in which a record starts, walk to the end. */
    for (uint32_t i = end.blocks; i-- > 1;) {
        struct sp_block_header h;
        if (sp_block_read(blocks + (size_t)i * SP_BLOCK_BYTES, &h) != SP_OK || h.first_lsn == 0)
            continue;
        lsn = h.first_lsn;
        struct sp_walker walker;
        struct sp_record record;
        struct sp_place place;
        sp_walker_init(&walker, blocks + (size_t)i * SP_BLOCK_BYTES, end.blocks - i, i, id);
        while (sp_walker_next(&walker, &record, &place))
            lsn = record.lsn;
        sp_walker_release(&walker);
        break;
    }
    end.lsn = lsn;
    *ret_end = end;
}

void sp_walker_init(struct sp_walker *walker, const uint8_t *blocks, uint32_t count,
                    uint32_t first_index, const struct sp_segment_id *id)
{
    *walker =
        (struct sp_walker){.blocks = blocks, .count = count, .first_index = first_index, .id = *id};
    sp_buf_init(&walker->scratch, SP_RECORD_PAYLOAD_MAX + SP_BLOCK_BYTES);
}

void sp_walker_release(struct sp_walker *walker)
{
    sp_buf_release(&walker->scratch);
}

/* The header of block i if it is a good data block of the segment. Remembers the last one, so that
 * each block's CRC is computed once and not once for each record. */
static bool data_block(struct sp_walker *w, uint32_t i, struct sp_block_header *ret)
{
    if (i >= w->count)
        return false;
    if (w->checked_block != i + 1) {
        struct sp_block_header h;
        if (sp_block_read(w->blocks + (size_t)i * SP_BLOCK_BYTES, &h) != SP_OK ||
            !is_place(&h, &w->id, w->first_index + i) ||
            (h.flags & (SP_BLOCK_FOOTER | SP_BLOCK_HEAD)))
            return false;
        w->checked = h;
        w->checked_block = i + 1;
    }
    *ret = w->checked;
    return true;
}

/* The header of the block after i, which has header h, if the stream of records goes on there: were
 * it of another batch, or of another try of this one, bytes in the middle of a body could pass for
 * a record. */
static bool next_block(struct sp_walker *w, uint32_t i, const struct sp_block_header *h,
                       struct sp_block_header *ret)
{
    return !(h->flags & SP_BLOCK_BATCH_LAST) && data_block(w, i + 1, ret) &&
           ret->batch == h->batch && ret->epoch_id == h->epoch_id &&
           !(ret->flags & SP_BLOCK_BATCH_FIRST);
}

/* Gathers len bytes of the stream from (block, offset) within one batch; false when a block is
 * missing. Advances. */
static bool gather(struct sp_walker *w, const struct sp_block_header *start, uint32_t *block,
                   uint32_t *offset, size_t len, struct sp_slice *ret)
{
    struct sp_block_header h = *start;
    const uint8_t *at =
        w->blocks + (size_t)*block * SP_BLOCK_BYTES + SP_BLOCK_HEADER_BYTES + *offset;
    if (h.payload_bytes - *offset >= len) {
        *ret = sp_slice(at, len);
        *offset += (uint32_t)len;
        return true;
    }
    size_t from = w->scratch.len;
    if (!sp_buf_reserve(&w->scratch, len))
        return false;
    for (;;) {
        size_t room = h.payload_bytes - *offset, n = len < room ? len : room;
        at = w->blocks + (size_t)*block * SP_BLOCK_BYTES + SP_BLOCK_HEADER_BYTES + *offset;
        sp_buf_add(&w->scratch, sp_slice(at, n));
        *offset += (uint32_t)n;
        len -= n;
        if (len == 0)
            break;
        struct sp_block_header before = h;
        if (!next_block(w, *block, &before, &h))
            return false;
        ++*block;
        *offset = 0;
    }
    *ret = sp_slice_from(sp_buf_slice(&w->scratch), from);
    return true;
}

bool sp_walker_next(struct sp_walker *w, struct sp_record *ret_record, struct sp_place *ret_place)
{
    while (w->block < w->count) {
        struct sp_block_header h;
        if (!data_block(w, w->block, &h)) {
            if (w->first_index + w->block != 0)
                w->bad_blocks++;
            w->block++;
            w->joined = false;
            continue;
        }
        if (!w->joined) {
            if (h.first_lsn == 0) {
                w->block++;
                continue;
            }
            w->offset = h.first_offset;
            w->joined = true;
        }
        if (w->offset >= h.payload_bytes) {
            /* Where the stream does not go on, the next block says itself where a record starts. */
            struct sp_block_header next;
            w->joined = next_block(w, w->block, &h, &next);
            w->block++;
            w->offset = 0;
            continue;
        }
        struct sp_place place = {w->id.segment, w->id.generation, w->first_index + w->block,
                                 (uint16_t)w->offset};
        uint32_t block = w->block, offset = w->offset;
        struct sp_slice header, payload;
        struct sp_record record;
        uint32_t crc;
        struct sp_block_header at = h;
        sp_buf_reset(&w->scratch);
        /* The scratch must not move under `header` while the payload is gathered. */
        bool good = sp_buf_reserve(&w->scratch, SP_RECORD_HEADER_BYTES) &&
                    gather(w, &at, &block, &offset, SP_RECORD_HEADER_BYTES, &header);
        uint8_t copy[SP_RECORD_HEADER_BYTES];
        if (good) {
            memcpy(copy, header.ptr, sizeof copy);
            good = sp_record_read_header(copy, &record, &crc) == SP_OK;
        }
        if (good && block != w->block)
            good = data_block(w, block, &at);
        sp_buf_reset(&w->scratch);
        good = good && gather(w, &at, &block, &offset, record.payload_bytes, &payload) &&
               sp_record_check(copy, payload);
        if (!good) {
            /* Join again at the next block in which a record starts. */
            w->joined = false;
            w->block++;
            continue;
        }
        record.payload = payload;
        w->block = block;
        w->offset = offset;
        *ret_record = record;
        *ret_place = place;
        return true;
    }
    return false;
}
