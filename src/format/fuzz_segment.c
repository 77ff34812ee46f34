/* Segments: head, walker, sound end, trailer and table, over bytes whose checksums are made right,
 * so that they get through.
 *
 * The first byte chooses. Even: blocks, each told as control byte, 16-bit length and payload, with
 * optional fields in between; odd: a footer, whose table is the rest, compressed here or as it is.
 */
#include "base/buf.h"
#include "base/cursor.h"
#include "base/endian.h"
#include "format/segment.h"

#include <stdlib.h>
#include <zstd.h>

#define BLOCKS_MAX 24U
#define AT_CRC     60U /* of a record */

#define CONTROL_FIRST  0x01U
#define CONTROL_LAST   0x02U
#define CONTROL_RECORD 0x04U /* offset of the first record follows */
#define CONTROL_CHAIN  0x08U /* break the chain */
#define CONTROL_PLACE  0x10U /* another index, batch and epoch follow */
#define CONTROL_FLAGS  0x20U /* other flags follow */
#define CONTROL_ROT    0x40U /* with a wrong CRC */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct sp_segment_id id = {{{1, 2, 3}}, 7, 1};

/* Makes the CRCs of records that lie within the block right. */
static void mend_records(uint8_t *payload, size_t len, size_t offset)
{
    while (offset < len && len - offset >= SP_RECORD_HEADER_BYTES) {
        struct sp_record record;
        uint32_t crc;
        uint8_t *at = payload + offset;
        if (sp_record_read_header(at, &record, &crc) != SP_OK ||
            record.payload_bytes > len - offset - SP_RECORD_HEADER_BYTES)
            return;
        struct sp_slice body = sp_slice(at + SP_RECORD_HEADER_BYTES, record.payload_bytes);
        sp_put_u32(at + AT_CRC, sp_crc32c(sp_crc32c(0, sp_slice(at, AT_CRC)), body));
        offset += SP_RECORD_HEADER_BYTES + record.payload_bytes;
    }
}

static uint32_t build(struct sp_cursor *c, uint8_t *blocks)
{
    uint64_t chain = 0, batch = 0;
    uint32_t count = 0;
    for (; count < BLOCKS_MAX && c->rest.len; count++) {
        uint8_t *block = blocks + (size_t)count * SP_BLOCK_BYTES;
        uint8_t control = sp_cursor_u8(c);
        uint16_t len = sp_cursor_u16(c);
        if (control & CONTROL_FIRST)
            batch++;
        struct sp_block_header h = {
            .flags = (uint8_t)(count == 0 ? SP_BLOCK_HEAD | 3U : control & 3U),
            .volume = id.volume,
            .epoch_id = 5,
            .epoch_counter = 1,
            .segment = id.segment,
            .generation = id.generation,
            .index = count,
            .batch = count == 0 ? 1 : batch,
            .first_offset = SP_NO_RECORD,
            .chain = control & CONTROL_CHAIN ? ~chain : chain,
        };
        if (control & CONTROL_FLAGS)
            h.flags = sp_cursor_u8(c);
        if (control & CONTROL_PLACE) {
            h.index += sp_cursor_u8(c);
            h.batch += sp_cursor_u8(c);
            h.epoch_id += sp_cursor_u8(c);
        }
        uint16_t offset = control & CONTROL_RECORD ? sp_cursor_u16(c) : 0;
        if (len > SP_BLOCK_PAYLOAD_BYTES)
            len = SP_BLOCK_PAYLOAD_BYTES;
        if (c->failed)
            break;
        if (len > c->rest.len)
            len = (uint16_t)c->rest.len;
        struct sp_slice bytes = sp_cursor_take(c, len);
        uint8_t *payload = block + SP_BLOCK_HEADER_BYTES;
        if (len)
            memcpy(payload, bytes.ptr, len);
        h.payload_bytes = len;
        if (control & CONTROL_RECORD) {
            h.first_lsn = 1;
            h.first_offset = offset;
            mend_records(payload, len, offset);
        }
        sp_block_write(block, &h);
        chain = sp_block_chain(block);
        if (control & CONTROL_ROT)
            block[200] ^= 1;
    }
    return count;
}

static void walk(const uint8_t *blocks, uint32_t count, uint32_t from)
{
    struct sp_walker walker;
    struct sp_record record;
    struct sp_place place, last = {0};
    sp_walker_init(&walker, blocks + (size_t)from * SP_BLOCK_BYTES, count - from, from, &id);
    while (sp_walker_next(&walker, &record, &place)) {
        uint8_t header[SP_RECORD_HEADER_BYTES];
        sp_assert(record.lsn && record.payload.len == record.payload_bytes &&
                  record.previous < record.lsn);
        sp_assert(place.segment == id.segment && place.block >= from && place.block < count);
        sp_assert(place.block > last.block ||
                  place.offset >= last.offset + SP_RECORD_HEADER_BYTES || last.segment == 0);
        last = place;
        sp_record_write_header(&record, header);
        sp_assert(sp_record_check(header, record.payload));
    }
    sp_assert(walker.bad_blocks <= count);
    sp_walker_release(&walker);
}

static void fuzz_blocks(struct sp_cursor *c)
{
    struct sp_segment_head head, again;
    struct sp_log_end end, same;
    uint8_t block[SP_BLOCK_BYTES];
    uint8_t *whole = malloc(BLOCKS_MAX * SP_BLOCK_BYTES);
    sp_assert(whole);
    uint32_t count = build(c, whole);
    uint8_t *blocks = malloc((size_t)count * SP_BLOCK_BYTES + 1); /* exact */
    sp_assert(blocks);
    memcpy(blocks, whole, (size_t)count * SP_BLOCK_BYTES);
    free(whole);

    if (count && sp_segment_head_read(blocks, &head) == SP_OK) {
        uint32_t ranges = 0;
        for (uint32_t i = 0; i < head.members_count; i++)
            ranges += head.members[i].ranges_count;
        sp_assert(head.members_count <= SP_MEMBERS_MAX);
        if (ranges <= 200) {
            sp_segment_head_write(&head, block);
            sp_assert(sp_segment_head_read(block, &again) == SP_OK);
            sp_assert(again.next_lsn == head.next_lsn &&
                      again.members_count == head.members_count &&
                      again.previous.chain == head.previous.chain);
        }
    }
    sp_segment_sound_end(blocks, count, &id, &end);
    sp_assert(end.blocks <= count);
    sp_segment_sound_end(blocks, end.blocks, &id, &same);
    sp_assert(same.blocks == end.blocks && same.lsn == end.lsn && same.chain == end.chain &&
              same.batch == end.batch);
    walk(blocks, count, 0);
    if (count > 1)
        walk(blocks, count, count / 2);
    if (count) {
        struct sp_block_header header;
        struct sp_trailer trailer;
        (void)!sp_trailer_read(blocks + (size_t)(count - 1) * SP_BLOCK_BYTES, &header, &trailer);
    }
    free(blocks);
}

/* A footer of the given table, its trailer's claims from the input. */
static void fuzz_footer(struct sp_cursor *c, bool compressed)
{
    struct sp_buf table, trailer_bytes;
    uint32_t data_blocks = sp_cursor_u16(c), delta = sp_cursor_u8(c);
    uint64_t records = sp_cursor_u16(c);
    uint8_t entries[SP_BLOCK_BYTES];
    struct sp_slice rest = sp_slice_sub(c->rest, 0, sizeof entries);
    sp_buf_init(&table, 1U << 20);
    sp_buf_init(&trailer_bytes, SP_BLOCK_PAYLOAD_BYTES);
    if (compressed) {
        sp_buf_add(&table, rest);
    } else {
        if (rest.len)
            memcpy(entries, rest.ptr, rest.len);
        /* As record, place (10 bytes), payload; the CRC covers header and payload, which the place
         * lies between. */
        for (size_t at = 0; rest.len - at >= SP_RECORD_HEADER_BYTES + 10U;) {
            uint32_t kept = sp_get_u32(entries + at + SP_RECORD_HEADER_BYTES + 6);
            size_t room = rest.len - at - SP_RECORD_HEADER_BYTES - 10U;
            if (kept > room)
                break;
            uint8_t *payload = entries + at + SP_RECORD_HEADER_BYTES + 10;
            sp_put_u32(
                entries + at + AT_CRC,
                sp_crc32c(sp_crc32c(0, sp_slice(entries + at, AT_CRC)), sp_slice(payload, kept)));
            at += SP_RECORD_HEADER_BYTES + 10U + kept;
        }
        uint8_t *room = sp_buf_extend(&table, ZSTD_compressBound(sizeof entries));
        sp_assert(room);
        table.len = ZSTD_compress(room, table.len, entries, rest.len, 1);
    }
    uint32_t table_blocks =
        (uint32_t)((table.len + SP_BLOCK_PAYLOAD_BYTES - 1) / SP_BLOCK_PAYLOAD_BYTES);
    sp_buf_add_str(&trailer_bytes, "SPFT");
    sp_buf_add_u32(&trailer_bytes, 1);
    sp_buf_add_u64(&trailer_bytes, 1);
    sp_buf_add_u64(&trailer_bytes, records);
    sp_buf_add_u64(&trailer_bytes, records);
    sp_buf_add_u32(&trailer_bytes, data_blocks);
    sp_buf_add_u32(&trailer_bytes, table_blocks);
    sp_buf_add_u64(&trailer_bytes, table.len + delta % 2);
    sp_buf_add_u64(&trailer_bytes, records * 100);
    sp_buf_add(&trailer_bytes, sp_slice(id.volume.bytes, 16));
    sp_buf_add(&trailer_bytes, sp_slice(id.volume.bytes, 16));
    uint8_t *blocks = calloc(table_blocks + 1, SP_BLOCK_BYTES);
    sp_assert(blocks && !sp_buf_failed(&trailer_bytes));
    struct sp_block_header h = {
        .volume = id.volume, .segment = 7, .generation = 1, .first_offset = SP_NO_RECORD};
    for (uint32_t i = 0; i <= table_blocks; i++) {
        struct sp_slice part =
            i == table_blocks
                ? sp_buf_slice(&trailer_bytes)
                : sp_slice_sub(sp_buf_slice(&table), (size_t)i * SP_BLOCK_PAYLOAD_BYTES,
                               (size_t)(i + 1) * SP_BLOCK_PAYLOAD_BYTES);
        h.flags = (uint8_t)(SP_BLOCK_FOOTER | (i == table_blocks ? SP_BLOCK_BATCH_LAST : 0U));
        h.index = data_blocks + i;
        h.payload_bytes = (uint16_t)part.len;
        memcpy(blocks + (size_t)i * SP_BLOCK_BYTES + SP_BLOCK_HEADER_BYTES, part.ptr, part.len);
        sp_block_write(blocks + (size_t)i * SP_BLOCK_BYTES, &h);
    }
    struct sp_trailer trailer;
    struct sp_footer_reader *reader;
    if (sp_trailer_read(blocks + (size_t)table_blocks * SP_BLOCK_BYTES, &h, &trailer) == SP_OK &&
        sp_footer_reader_new(blocks, &h, &trailer, &reader) == SP_OK) {
        struct sp_record record;
        struct sp_place place;
        uint64_t n = 0;
        enum sp_status status;
        while ((status = sp_footer_reader_next(reader, &record, &place)) == SP_OK) {
            n++;
            sp_assert(record.lsn && record.payload.len <= record.payload_bytes);
            sp_assert(sp_record_is_body(record.type) || record.payload.len == record.payload_bytes);
        }
        sp_assert(n <= records && (status != SP_EOF || n == records));
        sp_footer_reader_free(reader);
    }
    free(blocks);
    sp_buf_release(&table);
    sp_buf_release(&trailer_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sp_cursor c = sp_cursor(sp_slice(data, size));
    uint8_t choice = sp_cursor_u8(&c);
    if (choice % 2 == 0)
        fuzz_blocks(&c);
    else
        fuzz_footer(&c, choice & 2);
    return 0;
}
