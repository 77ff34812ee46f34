#include "base/cursor.h"
#include "base/endian.h"
#include "format/segment.h"

#include <stdlib.h>
#include <zstd.h>

#define TRAILER_MAGIC   "SPFT"
#define TRAILER_VERSION 1U
#define TABLE_LEVEL     1
#define TABLE_MAX       (256U << 20)
#define PLACE_BYTES     10U /* block, offset, kept payload bytes */

struct sp_footer_builder {
    ZSTD_CStream *zstd;
    struct sp_buf table; /* compressed so far */
    struct sp_digest_state digest;
    struct sp_trailer trailer;
    bool failed;
};

struct sp_footer_builder *sp_footer_builder_new(void)
{
    struct sp_footer_builder *builder = calloc(1, sizeof *builder);
    if (!builder)
        return NULL;
    builder->zstd = ZSTD_createCStream();
    sp_buf_init(&builder->table, TABLE_MAX);
    if (!builder->zstd) {
        sp_footer_builder_free(builder);
        return NULL;
    }
    sp_footer_builder_reset(builder);
    return builder;
}

void sp_footer_builder_free(struct sp_footer_builder *builder)
{
    if (!builder)
        return;
    ZSTD_freeCStream(builder->zstd);
    sp_buf_release(&builder->table);
    free(builder);
}

void sp_footer_builder_reset(struct sp_footer_builder *builder)
{
    ZSTD_CCtx_reset(builder->zstd, ZSTD_reset_session_only);
    ZSTD_CCtx_setParameter(builder->zstd, ZSTD_c_compressionLevel, TABLE_LEVEL);
    sp_buf_reset(&builder->table);
    sp_digest_init(&builder->digest);
    builder->trailer = (struct sp_trailer){0};
    builder->failed = false;
}

static void compress(struct sp_footer_builder *builder, struct sp_slice bytes,
                     ZSTD_EndDirective end)
{
    ZSTD_inBuffer in = {bytes.ptr, bytes.len, 0};
    size_t left;
    do {
        if (!sp_buf_reserve(&builder->table, ZSTD_CStreamOutSize())) {
            builder->failed = true;
            return;
        }
        ZSTD_outBuffer out = {builder->table.ptr, builder->table.capacity, builder->table.len};
        left = ZSTD_compressStream2(builder->zstd, &out, &in, end);
        builder->table.len = out.pos;
        if (ZSTD_isError(left)) {
            builder->failed = true;
            return;
        }
    } while (in.pos < in.size || (end == ZSTD_e_end && left));
}

void sp_footer_builder_record(struct sp_footer_builder *builder, const struct sp_record *record,
                              const struct sp_place *place)
{
    uint8_t entry[SP_RECORD_HEADER_BYTES + PLACE_BYTES];
    struct sp_trailer *t = &builder->trailer;
    struct sp_slice kept = record->payload;
    if (sp_record_is_body(record->type))
        kept = sp_slice_sub(kept, 0, SP_BODY_HEAD_BYTES);
    sp_record_write_header(record, entry);
    sp_put_u32(entry + SP_RECORD_HEADER_BYTES, place->block);
    sp_put_u16(entry + SP_RECORD_HEADER_BYTES + 4, place->offset);
    sp_put_u32(entry + SP_RECORD_HEADER_BYTES + 6, (uint32_t)kept.len);
    compress(builder, sp_slice(entry, sizeof entry), ZSTD_e_continue);
    compress(builder, kept, ZSTD_e_continue);
    t->table_raw_bytes += sizeof entry + kept.len;
    if (t->records++ == 0)
        t->first_lsn = record->lsn;
    t->last_lsn = record->lsn;
}

void sp_footer_builder_blocks(struct sp_footer_builder *builder, const uint8_t *blocks,
                              uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sp_digest_update(&builder->digest,
                         sp_slice(blocks + (size_t)i * SP_BLOCK_BYTES, SP_BLOCK_HEADER_BYTES));
    builder->trailer.data_blocks += count;
}

enum sp_status sp_footer_builder_finish(struct sp_footer_builder *builder,
                                        const struct sp_block_header *last, uint64_t chain,
                                        uint8_t **ret_blocks, uint32_t *ret_count,
                                        struct sp_trailer *ret_trailer)
{
    struct sp_trailer trailer = builder->trailer;
    compress(builder, sp_slice(NULL, 0), ZSTD_e_end);
    if (builder->failed)
        return SP_NO_MEMORY;
    sp_digest_final(&builder->digest, &trailer.digest);
    trailer.table_bytes = builder->table.len;
    trailer.table_blocks =
        (uint32_t)((builder->table.len + SP_BLOCK_PAYLOAD_BYTES - 1) / SP_BLOCK_PAYLOAD_BYTES);
    uint32_t count = trailer.table_blocks + 1;
    void *memory;
    if (posix_memalign(&memory, SP_BLOCK_BYTES, (size_t)count * SP_BLOCK_BYTES) != 0)
        return SP_NO_MEMORY;
    uint8_t *blocks = memory;
    struct sp_block_header h = *last;
    h.first_lsn = 0;
    h.first_offset = SP_NO_RECORD;
    h.batch = last->batch;
    h.chain = chain;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *block = blocks + (size_t)i * SP_BLOCK_BYTES;
        struct sp_buf buf;
        struct sp_slice part =
            sp_slice_sub(sp_buf_slice(&builder->table), (size_t)i * SP_BLOCK_PAYLOAD_BYTES,
                         (size_t)(i + 1) * SP_BLOCK_PAYLOAD_BYTES);
        sp_buf_init(&buf, SP_BLOCK_PAYLOAD_BYTES);
        h.flags = SP_BLOCK_FOOTER;
        h.index = trailer.data_blocks + i;
        if (i == count - 1) {
            h.flags |= SP_BLOCK_BATCH_LAST;
            sp_buf_add_str(&buf, TRAILER_MAGIC);
            sp_buf_add_u32(&buf, TRAILER_VERSION);
            sp_buf_add_u64(&buf, trailer.first_lsn);
            sp_buf_add_u64(&buf, trailer.last_lsn);
            sp_buf_add_u64(&buf, trailer.records);
            sp_buf_add_u32(&buf, trailer.data_blocks);
            sp_buf_add_u32(&buf, trailer.table_blocks);
            sp_buf_add_u64(&buf, trailer.table_bytes);
            sp_buf_add_u64(&buf, trailer.table_raw_bytes);
            sp_buf_add(&buf, sp_slice(trailer.digest.bytes, SP_DIGEST_BYTES));
            if (sp_buf_failed(&buf)) {
                sp_buf_release(&buf);
                free(memory);
                return SP_NO_MEMORY;
            }
            part = sp_buf_slice(&buf);
        }
        h.payload_bytes = (uint16_t)part.len;
        memcpy(block + SP_BLOCK_HEADER_BYTES, part.ptr, part.len);
        sp_block_write(block, &h);
        h.chain = sp_block_chain(block);
        sp_buf_release(&buf);
    }
    *ret_blocks = blocks;
    *ret_count = count;
    *ret_trailer = trailer;
    return SP_OK;
}

enum sp_status sp_trailer_read(const uint8_t block[SP_BLOCK_BYTES],
                               struct sp_block_header *ret_header, struct sp_trailer *ret_trailer)
{
    struct sp_block_header header;
    if (sp_block_read(block, &header) != SP_OK ||
        (header.flags & (SP_BLOCK_FOOTER | SP_BLOCK_BATCH_LAST)) !=
            (SP_BLOCK_FOOTER | SP_BLOCK_BATCH_LAST))
        return SP_CORRUPT;
    struct sp_cursor c = sp_cursor(sp_block_payload(block, &header));
    struct sp_slice magic = sp_cursor_take(&c, 4);
    if (!sp_slice_eq(magic, SP_S(TRAILER_MAGIC)) || sp_cursor_u32(&c) != TRAILER_VERSION)
        return SP_CORRUPT;
    struct sp_trailer t = {.first_lsn = sp_cursor_u64(&c)};
    t.last_lsn = sp_cursor_u64(&c);
    t.records = sp_cursor_u64(&c);
    t.data_blocks = sp_cursor_u32(&c);
    t.table_blocks = sp_cursor_u32(&c);
    t.table_bytes = sp_cursor_u64(&c);
    t.table_raw_bytes = sp_cursor_u64(&c);
    struct sp_slice digest = sp_cursor_take(&c, SP_DIGEST_BYTES);
    uint32_t index;
    if (c.failed || t.table_bytes > TABLE_MAX ||
        __builtin_add_overflow(t.data_blocks, t.table_blocks, &index) || index != header.index ||
        t.table_blocks != (t.table_bytes + SP_BLOCK_PAYLOAD_BYTES - 1) / SP_BLOCK_PAYLOAD_BYTES)
        return SP_CORRUPT;
    memcpy(t.digest.bytes, digest.ptr, SP_DIGEST_BYTES);
    *ret_header = header;
    *ret_trailer = t;
    return SP_OK;
}

struct sp_footer_reader {
    ZSTD_DStream *zstd;
    struct sp_buf table; /* compressed */
    size_t consumed;
    struct sp_buf payload;
    uint64_t segment;
    uint32_t generation;
    uint64_t records_left;
};

enum sp_status sp_footer_reader_new(const uint8_t *blocks,
                                    const struct sp_block_header *trailer_header,
                                    const struct sp_trailer *trailer,
                                    struct sp_footer_reader **ret_reader)
{
    enum sp_status status = SP_NO_MEMORY;
    struct sp_footer_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return SP_NO_MEMORY;
    reader->zstd = ZSTD_createDStream();
    sp_buf_init(&reader->table, TABLE_MAX);
    sp_buf_init(&reader->payload, SP_RECORD_PAYLOAD_MAX);
    reader->segment = trailer_header->segment;
    reader->generation = trailer_header->generation;
    reader->records_left = trailer->records;
    if (!reader->zstd || !sp_buf_reserve(&reader->table, trailer->table_bytes))
        goto fail;
    status = SP_CORRUPT;
    for (uint32_t i = 0; i < trailer->table_blocks; i++) {
        const uint8_t *block = blocks + (size_t)i * SP_BLOCK_BYTES;
        struct sp_block_header h;
        if (sp_block_read(block, &h) != SP_OK || !(h.flags & SP_BLOCK_FOOTER) ||
            !sp_uuid_eq(&h.volume, &trailer_header->volume) ||
            h.segment != trailer_header->segment || h.generation != trailer_header->generation ||
            h.epoch_id != trailer_header->epoch_id || h.index != trailer->data_blocks + i)
            goto fail;
        sp_buf_add(&reader->table, sp_block_payload(block, &h));
    }
    if (reader->table.len != trailer->table_bytes)
        goto fail;
    *ret_reader = reader;
    return SP_OK;
fail:
    sp_footer_reader_free(reader);
    return status;
}

void sp_footer_reader_free(struct sp_footer_reader *reader)
{
    if (!reader)
        return;
    ZSTD_freeDStream(reader->zstd);
    sp_buf_release(&reader->table);
    sp_buf_release(&reader->payload);
    free(reader);
}

static bool inflate(struct sp_footer_reader *reader, uint8_t *ret_bytes, size_t len)
{
    ZSTD_outBuffer out = {ret_bytes, len, 0};
    while (out.pos < len) {
        ZSTD_inBuffer in = {reader->table.ptr, reader->table.len, reader->consumed};
        size_t before = out.pos, left = ZSTD_decompressStream(reader->zstd, &out, &in);
        if (ZSTD_isError(left) || (in.pos == reader->consumed && out.pos == before))
            return false;
        reader->consumed = in.pos;
    }
    return true;
}

enum sp_status sp_footer_reader_next(struct sp_footer_reader *reader, struct sp_record *ret_record,
                                     struct sp_place *ret_place)
{
    uint8_t entry[SP_RECORD_HEADER_BYTES + PLACE_BYTES];
    struct sp_record record;
    uint32_t crc;
    if (reader->records_left == 0)
        return SP_EOF;
    if (!inflate(reader, entry, sizeof entry) ||
        sp_record_read_header(entry, &record, &crc) != SP_OK)
        return SP_CORRUPT;
    uint32_t kept = sp_get_u32(entry + SP_RECORD_HEADER_BYTES + 6);
    bool whole = !sp_record_is_body(record.type);
    sp_buf_reset(&reader->payload);
    if (kept != (whole || record.payload_bytes < SP_BODY_HEAD_BYTES ? record.payload_bytes
                                                                    : SP_BODY_HEAD_BYTES))
        return SP_CORRUPT;
    uint8_t *at = kept ? sp_buf_extend(&reader->payload, kept) : NULL;
    if (kept && (!at || !inflate(reader, at, kept)))
        return at ? SP_CORRUPT : SP_NO_MEMORY;
    record.payload = sp_buf_slice(&reader->payload);
    if (whole && !sp_record_check(entry, record.payload))
        return SP_CORRUPT;
    reader->records_left--;
    *ret_record = record;
    *ret_place = (struct sp_place){reader->segment, reader->generation,
                                   sp_get_u32(entry + SP_RECORD_HEADER_BYTES),
                                   sp_get_u16(entry + SP_RECORD_HEADER_BYTES + 4)};
    return SP_OK;
}
