/* Blocks, record headers and segment heads. */
#include "format/test_log.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

static void sample_block(uint8_t *block, struct sp_block_header *header)
{
    *header = (struct sp_block_header){
        .flags = SP_BLOCK_BATCH_FIRST,
        .payload_bytes = 1234,
        .volume = {{0xa0, 1, 2, 3}},
        .epoch_id = UINT64_MAX - 1,
        .epoch_counter = 0x01020304,
        .segment = 0x0102030405060708,
        .generation = 0x11121314,
        .index = 0x21222324,
        .batch = 0x3132333435363738,
        .first_lsn = 0x4142434445464748,
        .first_offset = 1233,
        .chain = 0x5152535455565758,
    };
    for (size_t i = 0; i < SP_BLOCK_BYTES; i++)
        block[i] = (uint8_t)(i * 7 + 1);
    sp_block_write(block, header);
}

static void test_round_trip(void **state)
{
    (void)state;
    uint8_t block[SP_BLOCK_BYTES];
    struct sp_block_header want, got;
    memset(&got, 0, sizeof got);
    sample_block(block, &want);
    assert_int_equal(sp_block_read(block, &got), SP_OK);
    assert_true(got.flags == want.flags && got.payload_bytes == want.payload_bytes &&
                sp_uuid_eq(&got.volume, &want.volume) && got.epoch_id == want.epoch_id &&
                got.epoch_counter == want.epoch_counter && got.segment == want.segment &&
                got.generation == want.generation && got.index == want.index &&
                got.batch == want.batch && got.first_lsn == want.first_lsn &&
                got.first_offset == want.first_offset && got.chain == want.chain);
    struct sp_slice payload = sp_block_payload(block, &got);
    assert_int_equal(payload.len, 1234);
    for (size_t i = 0; i < SP_BLOCK_PAYLOAD_BYTES; i++) {
        uint8_t byte = block[SP_BLOCK_HEADER_BYTES + i];
        assert_int_equal(byte, i < 1234 ? (uint8_t)((SP_BLOCK_HEADER_BYTES + i) * 7 + 1) : 0);
    }
    assert_memory_equal(block, "SPB1\x01", 5);
}

static void test_every_bit(void **state)
{
    (void)state;
    uint8_t block[SP_BLOCK_BYTES];
    struct sp_block_header header, got = {0};
    sample_block(block, &header);
    uint64_t chain = sp_block_chain(block);
    for (size_t bit = 0; bit < SP_BLOCK_BYTES * 8; bit++) {
        block[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(sp_block_read(block, &got), bit < 32 ? SP_NOT_FOUND : SP_CORRUPT);
        assert_true(sp_block_chain(block) != chain);
        block[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    assert_int_equal(got.segment, 0); /* untouched on failure */
    assert_int_equal(sp_block_read(block, &got), SP_OK);
    memset(block, 0, sizeof block);
    assert_int_equal(sp_block_read(block, &got), SP_NOT_FOUND);
}

/* Blocks with a good CRC whose fields make no sense. */
static void test_block_ranges(void **state)
{
    (void)state;
    uint8_t block[SP_BLOCK_BYTES];
    struct sp_block_header header, got;
    sample_block(block, &header);
    static const struct {
        uint64_t segment, first_lsn;
        uint16_t first_offset, payload_bytes;
        enum sp_status status;
    } cases[] = {
        {1, 5, 0, 1, SP_OK},
        {1, 5, 0, SP_BLOCK_PAYLOAD_BYTES, SP_OK},
        {1, 5, SP_BLOCK_PAYLOAD_BYTES - 1, SP_BLOCK_PAYLOAD_BYTES, SP_OK},
        {1, 0, SP_NO_RECORD, 0, SP_OK},
        {0, 5, 0, 1, SP_CORRUPT},
        {1, 0, 0, 1, SP_CORRUPT},
        {1, 5, SP_NO_RECORD, 1, SP_CORRUPT},
        {1, 5, 1, 1, SP_CORRUPT},
        {1, 5, 0, 0, SP_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        header.segment = cases[i].segment;
        header.first_lsn = cases[i].first_lsn;
        header.first_offset = cases[i].first_offset;
        header.payload_bytes = cases[i].payload_bytes;
        sp_block_write(block, &header);
        assert_int_equal(sp_block_read(block, &got), cases[i].status);
    }
}

static void test_records(void **state)
{
    (void)state;
    static const size_t lens[] = {0, 1, 63, 64, 4000, 100000};
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        uint8_t header[SP_RECORD_HEADER_BYTES];
        struct sp_record want = test_record(&random, INT64_MAX - i, lens[i]), got;
        uint32_t crc;
        sp_record_write_header(&want, header);
        assert_int_equal(sp_record_read_header(header, &got, &crc), SP_OK);
        assert_true(got.type == want.type && got.flags == want.flags && got.lsn == want.lsn &&
                    got.time_ns == want.time_ns && sp_uuid_eq(&got.account, &want.account) &&
                    got.mailbox == want.mailbox && got.previous == want.previous &&
                    got.payload_bytes == lens[i]);
        assert_true(sp_record_check(header, want.payload));
        for (size_t bit = 0; bit < sizeof header * 8; bit++) {
            header[bit / 8] ^= (uint8_t)(1U << bit % 8);
            assert_true(sp_record_read_header(header, &got, &crc) != SP_OK ||
                        !sp_record_check(header, want.payload));
            header[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
        uint8_t *payload = (uint8_t *)(uintptr_t)want.payload.ptr;
        if (lens[i]) {
            payload[lens[i] / 2] ^= 1;
            assert_false(sp_record_check(header, want.payload));
        }
        free(payload);
    }
    for (unsigned type = 0; type < 256; type++)
        assert_non_null(sp_record_type_name(type));
    assert_string_equal(sp_record_type_name(SP_RECORD_MESSAGE), "message");
    assert_string_equal(sp_record_type_name(255), "unknown");
}

static void assert_head(const struct sp_segment_head *got, const struct sp_segment_head *want)
{
    assert_true(sp_uuid_eq(&got->volume, &want->volume) && got->epoch_id == want->epoch_id &&
                got->epoch_counter == want->epoch_counter && got->segment == want->segment &&
                got->generation == want->generation && got->epoch_begins == want->epoch_begins &&
                got->time_ns == want->time_ns && got->next_lsn == want->next_lsn &&
                got->batch == want->batch && got->min_copies == want->min_copies &&
                got->segment_bytes == want->segment_bytes &&
                got->manifest_segment == want->manifest_segment &&
                got->manifest_lsn == want->manifest_lsn &&
                got->members_count == want->members_count);
    const struct sp_log_end *a = &got->previous, *b = &want->previous;
    assert_true(a->epoch_id == b->epoch_id && a->epoch_counter == b->epoch_counter &&
                a->segment == b->segment && a->generation == b->generation &&
                a->blocks == b->blocks && a->lsn == b->lsn && a->batch == b->batch &&
                a->chain == b->chain);
    for (uint32_t i = 0; i < want->members_count; i++) {
        const struct sp_member *m = &got->members[i], *n = &want->members[i];
        assert_true(sp_uuid_eq(&m->unit, &n->unit) && m->role == n->role &&
                    m->ranges_count == n->ranges_count);
        for (uint32_t r = 0; r < n->ranges_count; r++)
            assert_true(m->ranges[r].first == n->ranges[r].first &&
                        m->ranges[r].last == n->ranges[r].last);
    }
}

static void test_head(void **state)
{
    (void)state;
    struct test_log *log = test_log_new(1);
    struct sp_segment_head got;
    struct sp_block_header header;
    assert_int_equal(sp_segment_head_read(log->blocks, &got), SP_OK);
    assert_head(&got, &log->head);
    assert_int_equal(sp_block_read(log->blocks, &header), SP_OK);
    assert_int_equal(header.chain, log->head.previous.chain);
    assert_int_equal(header.index, 0);
    /* As many members as there may be, each with its usual one range. */
    log->head.members_count = SP_MEMBERS_MAX;
    for (uint32_t i = 0; i < SP_MEMBERS_MAX; i++)
        log->head.members[i] = (struct sp_member){.unit = {{(uint8_t)i, 1}},
                                                  .role = SP_MEMBER_EJECTED,
                                                  .ranges_count = (uint8_t)(i % 3),
                                                  .ranges = {{i, i + 1}, {i + 9, i + 99}}};
    sp_segment_head_write(&log->head, log->blocks);
    assert_int_equal(sp_segment_head_read(log->blocks, &got), SP_OK);
    assert_head(&got, &log->head);
    /* Cut short at any length, with a good CRC. */
    assert_int_equal(sp_block_read(log->blocks, &header), SP_OK);
    uint8_t block[SP_BLOCK_BYTES];
    struct sp_block_header cut = header;
    for (cut.payload_bytes = 0; cut.payload_bytes < header.payload_bytes; cut.payload_bytes++) {
        memcpy(block, log->blocks, sizeof block);
        sp_block_write(block, &cut);
        assert_int_equal(sp_segment_head_read(block, &got), SP_CORRUPT);
    }
    /* No head: another index, another flag, no block. */
    cut = header;
    cut.index = 1;
    memcpy(block, log->blocks, sizeof block);
    sp_block_write(block, &cut);
    assert_int_equal(sp_segment_head_read(block, &got), SP_CORRUPT);
    cut = header;
    cut.flags = SP_BLOCK_BATCH_FIRST | SP_BLOCK_BATCH_LAST;
    sp_block_write(block, &cut);
    assert_int_equal(sp_segment_head_read(block, &got), SP_CORRUPT);
    cut = header;
    cut.batch = 0;
    sp_block_write(block, &cut);
    assert_int_equal(sp_segment_head_read(block, &got), SP_CORRUPT);
    memset(block, 0, sizeof block);
    assert_int_equal(sp_segment_head_read(block, &got), SP_CORRUPT);
    test_log_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_block_ranges), cmocka_unit_test(test_records),
        cmocka_unit_test(test_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
