/* Footers: there and back, and damaged. */
#include "format/test_log.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

struct footer {
    uint8_t *blocks;
    uint32_t count;
    struct sp_trailer trailer;
};

static struct footer make(struct sp_footer_builder *builder, const struct test_log *log)
{
    struct footer f;
    for (uint32_t i = 0; i < log->records_count; i++)
        sp_footer_builder_record(builder, &log->records[i].record, &log->records[i].place);
    sp_footer_builder_blocks(builder, log->blocks, 1);
    sp_footer_builder_blocks(builder, log->blocks + SP_BLOCK_BYTES, log->count - 1);
    struct sp_block_header last;
    assert_int_equal(sp_block_read(log->blocks + (size_t)(log->count - 1) * SP_BLOCK_BYTES, &last),
                     SP_OK);
    assert_int_equal(
        sp_footer_builder_finish(builder, &last, log->chain, &f.blocks, &f.count, &f.trailer),
        SP_OK);
    return f;
}

/* Reads the table. SP_OK: it is the log's, whole; SP_CORRUPT otherwise, after records that are
 * right. */
static enum sp_status read_table(const struct test_log *log, const struct footer *f)
{
    struct sp_block_header header;
    struct sp_trailer trailer;
    struct sp_footer_reader *reader;
    struct sp_record got;
    struct sp_place place;
    enum sp_status status =
        sp_trailer_read(f->blocks + (size_t)(f->count - 1) * SP_BLOCK_BYTES, &header, &trailer);
    if (status == SP_OK)
        status = sp_footer_reader_new(f->blocks, &header, &trailer, &reader);
    if (status != SP_OK)
        return status;
    uint32_t i = 0;
    for (; (status = sp_footer_reader_next(reader, &got, &place)) == SP_OK; i++) {
        const struct test_record *want = &log->records[i];
        assert_true(i < log->records_count);
        assert_true(got.lsn == want->record.lsn && got.type == want->record.type &&
                    got.previous == want->record.previous &&
                    got.payload_bytes == want->record.payload.len);
        struct sp_slice payload = want->record.payload;
        if (sp_record_is_body(got.type))
            payload = sp_slice_sub(payload, 0, SP_BODY_HEAD_BYTES);
        assert_true(sp_slice_eq(got.payload, payload));
        assert_true(place.segment == want->place.segment &&
                    place.generation == want->place.generation &&
                    place.block == want->place.block && place.offset == want->place.offset);
    }
    sp_footer_reader_free(reader);
    if (status != SP_EOF)
        return status;
    assert_int_equal(i, log->records_count);
    return SP_OK;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct sp_footer_builder *builder = sp_footer_builder_new();
    assert_non_null(builder);
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct test_log *log = test_log_new(seed);
        test_log_fill(log, (uint32_t)seed); /* 0: no records */
        struct footer f = make(builder, log);
        const struct sp_trailer *t = &f.trailer;
        assert_true(t->records == log->records_count && t->data_blocks == log->count &&
                    t->table_blocks == f.count - 1);
        assert_int_equal(t->first_lsn, seed ? log->head.next_lsn : 0);
        assert_int_equal(t->last_lsn, seed ? log->head.next_lsn + log->records_count - 1 : 0);
        struct sp_digest_state digest;
        struct sp_digest whole;
        sp_digest_init(&digest);
        for (uint32_t i = 0; i < log->count; i++)
            sp_digest_update(
                &digest, sp_slice(log->blocks + (size_t)i * SP_BLOCK_BYTES, SP_BLOCK_HEADER_BYTES));
        sp_digest_final(&digest, &whole);
        assert_memory_equal(t->digest.bytes, whole.bytes, SP_DIGEST_BYTES);
        assert_int_equal(read_table(log, &f), SP_OK);
        /* Its blocks go on in place and chain, and are no data. */
        uint64_t chain = log->chain;
        for (uint32_t i = 0; i < f.count; i++) {
            struct sp_block_header h;
            assert_int_equal(sp_block_read(f.blocks + (size_t)i * SP_BLOCK_BYTES, &h), SP_OK);
            assert_true(h.index == log->count + i && h.chain == chain && h.first_lsn == 0);
            assert_int_equal(h.flags & ~SP_BLOCK_BATCH_LAST, SP_BLOCK_FOOTER);
            chain = sp_block_chain(f.blocks + (size_t)i * SP_BLOCK_BYTES);
        }
        uint32_t data = log->count;
        assert_true(data + f.count <= TEST_BLOCKS_MAX);
        memcpy(log->blocks + (size_t)data * SP_BLOCK_BYTES, f.blocks,
               (size_t)f.count * SP_BLOCK_BYTES);
        struct sp_log_end end;
        sp_segment_sound_end(log->blocks, data + f.count, &log->id, &end);
        assert_int_equal(end.blocks, data);
        assert_int_equal(end.lsn, log->head.next_lsn - 1 + log->records_count);
        free(f.blocks);
        test_log_free(log);
        sp_footer_builder_reset(builder);
    }
    sp_footer_builder_free(builder);
    sp_footer_builder_free(NULL);
    sp_footer_reader_free(NULL);
}

static void test_damage(void **state)
{
    (void)state;
    struct sp_footer_builder *builder = sp_footer_builder_new();
    assert_non_null(builder);
    struct test_log *log = test_log_new(4);
    test_log_fill(log, 12);
    struct footer f = make(builder, log);
    assert_true(f.count > 2);
    for (uint32_t b = 0; b < f.count; b++) {
        uint8_t *block = f.blocks + (size_t)b * SP_BLOCK_BYTES, saved[SP_BLOCK_BYTES];
        memcpy(saved, block, SP_BLOCK_BYTES);
        block[b * 11 + 100] ^= 4;
        assert_int_equal(read_table(log, &f), SP_CORRUPT);
        memset(block, 0, SP_BLOCK_BYTES);
        assert_int_equal(read_table(log, &f), SP_CORRUPT);
        /* A good block that does not belong here. */
        struct sp_block_header h, other;
        assert_int_equal(sp_block_read(saved, &h), SP_OK);
        for (int field = 0; field < 4; field++) {
            memcpy(block, saved, SP_BLOCK_BYTES);
            other = h;
            other.index += field == 0;
            other.flags = field == 1 ? SP_BLOCK_BATCH_LAST : other.flags;
            other.payload_bytes = (uint16_t)(other.payload_bytes - (field == 2));
            other.epoch_id += field == 3;
            sp_block_write(block, &other);
            /* Of the trailer alone nobody can say that its epoch is wrong; the table's blocks
             * differ from it. */
            assert_int_equal(read_table(log, &f), SP_CORRUPT);
        }
        memcpy(block, saved, SP_BLOCK_BYTES);
        /* Rot that a CRC covers up: never a crash, never a wrong record passed off as whole. */
        if (b < f.count - 1)
            for (size_t at = 0; at < h.payload_bytes; at += 61) {
                block[SP_BLOCK_HEADER_BYTES + at] ^= 0x41;
                sp_block_write(block, &h);
                struct sp_block_header header;
                struct sp_trailer trailer;
                struct sp_footer_reader *reader;
                struct sp_record record;
                struct sp_place place;
                assert_int_equal(sp_trailer_read(f.blocks + (size_t)(f.count - 1) * SP_BLOCK_BYTES,
                                                 &header, &trailer),
                                 SP_OK);
                assert_int_equal(sp_footer_reader_new(f.blocks, &header, &trailer, &reader), SP_OK);
                enum sp_status status;
                while ((status = sp_footer_reader_next(reader, &record, &place)) == SP_OK)
                    assert_true(record.lsn >= 1);
                assert_true(status == SP_EOF || status == SP_CORRUPT);
                sp_footer_reader_free(reader);
                memcpy(block, saved, SP_BLOCK_BYTES);
            }
    }
    assert_int_equal(read_table(log, &f), SP_OK);
    free(f.blocks);
    test_log_free(log);
    sp_footer_builder_free(builder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
