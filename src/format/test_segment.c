/* Batches, the sound end of a segment, and the walker over whole segments and ruins. */
#include "format/test_log.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#define WHOLE (SP_BLOCK_PAYLOAD_BYTES - SP_RECORD_HEADER_BYTES) /* a payload that fills a block */

static void assert_record(const struct sp_record *got, const struct sp_place *at,
                          const struct test_record *want)
{
    assert_int_equal(got->lsn, want->record.lsn);
    assert_true(got->type == want->record.type && got->previous == want->record.previous &&
                got->mailbox == want->record.mailbox && got->time_ns == want->record.time_ns);
    assert_true(sp_slice_eq(got->payload, want->record.payload));
    assert_true(at->segment == want->place.segment && at->generation == want->place.generation &&
                at->block == want->place.block && at->offset == want->place.offset);
}

/* Walks the log and expects exactly the records that touch no block for which bad[] is set. */
static void assert_walk(const struct test_log *log, const bool *bad)
{
    struct sp_walker walker;
    struct sp_record record;
    struct sp_place place;
    uint32_t bad_blocks = 0;
    sp_walker_init(&walker, log->blocks, log->count, 0, &log->id);
    for (uint32_t i = 0; i < log->records_count; i++) {
        const struct test_record *want = &log->records[i];
        bool touched = false;
        for (uint32_t b = want->place.block; b <= want->last_block; b++)
            touched |= bad[b];
        if (touched)
            continue;
        assert_true(sp_walker_next(&walker, &record, &place));
        assert_record(&record, &place, want);
    }
    assert_false(sp_walker_next(&walker, &record, &place));
    for (uint32_t b = 1; b < log->count; b++)
        bad_blocks += bad[b];
    assert_int_equal(walker.bad_blocks, bad_blocks);
    sp_walker_release(&walker);
}

static void assert_end(const struct test_log *log, uint32_t count, uint32_t batches)
{
    struct sp_log_end end;
    sp_segment_sound_end(log->blocks, count, &log->id, &end);
    assert_int_equal(end.blocks, batches ? log->batch_end[batches - 1] : 1);
    assert_int_equal(end.batch, log->head.batch - 1 + batches);
    uint64_t lsn = log->head.next_lsn - 1;
    for (uint32_t i = 0; i < log->records_count && log->records[i].batch < batches; i++)
        lsn = log->records[i].record.lsn;
    assert_int_equal(end.lsn, lsn);
    assert_int_equal(end.chain,
                     sp_block_chain(log->blocks + (size_t)(end.blocks - 1) * SP_BLOCK_BYTES));
    assert_true(end.epoch_id == log->head.epoch_id &&
                end.epoch_counter == log->head.epoch_counter && end.segment == log->id.segment &&
                end.generation == log->id.generation);
}

/* The number of batches that lie wholly before block `limit`. */
static uint32_t batches_before(const struct test_log *log, uint32_t limit)
{
    uint32_t n = 0;
    while (n < log->batches && log->batch_end[n] <= limit)
        n++;
    return n;
}

static void test_layouts(void **state)
{
    (void)state;
    static const struct {
        size_t lens[6], count;
        uint32_t blocks;
    } cases[] = {
        {{0}, 1, 1},
        {{WHOLE}, 1, 1},
        {{WHOLE + 1}, 1, 2},
        {{WHOLE - 1}, 1, 1},
        {{WHOLE, WHOLE, WHOLE}, 3, 3},
        {{WHOLE - 1, 10}, 2, 2},                      /* one byte of a header, then the rest */
        {{WHOLE - SP_RECORD_HEADER_BYTES, 10}, 2, 2}, /* a header ends the block */
        {{WHOLE - SP_RECORD_HEADER_BYTES, 0}, 2, 1},  /* and is all of its record */
        {{WHOLE - SP_RECORD_HEADER_BYTES, 0, 0, 5}, 4, 2},
        {{WHOLE + SP_BLOCK_PAYLOAD_BYTES, 1}, 2, 3},
        {{3 * SP_BLOCK_PAYLOAD_BYTES, 3 * SP_BLOCK_PAYLOAD_BYTES, 7}, 3, 7},
        {{1000000, 1}, 2, 251},
    };
    const bool good[TEST_BLOCKS_MAX] = {false};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct test_log *log = test_log_new(i);
        test_log_batch(log, cases[i].lens, cases[i].count);
        assert_int_equal(log->count, 1 + cases[i].blocks);
        test_log_batch(log, cases[i].lens, cases[i].count);
        assert_walk(log, good);
        assert_end(log, log->count, 2);
        test_log_free(log);
    }
}

static void test_properties(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        bool bad[TEST_BLOCKS_MAX] = {false};
        struct test_log *log = test_log_new(seed);
        test_log_fill(log, 1 + (uint32_t)(seed % 12));
        assert_walk(log, bad);
        for (uint32_t count = 1; count <= log->count; count++)
            assert_end(log, count, batches_before(log, count));
        struct sp_log_end end;
        sp_segment_sound_end(log->blocks, 0, &log->id, &end);
        assert_int_equal(end.blocks, 0);
        test_log_free(log);
    }
}

static uint8_t *block_of(struct test_log *log, uint32_t block)
{
    return log->blocks + (size_t)block * SP_BLOCK_BYTES;
}

/* Each block damaged in turn, in each of several ways: the sound end is before its batch, and the
 * walker loses exactly the records that touch it. */
static void test_damage(void **state)
{
    (void)state;
    struct test_log *log = test_log_new(99);
    test_log_fill(log, 8);
    bool bad[TEST_BLOCKS_MAX] = {false};
    uint8_t saved[SP_BLOCK_BYTES];
    for (uint32_t b = 1; b < log->count; b++) {
        memcpy(saved, block_of(log, b), SP_BLOCK_BYTES);
        bad[b] = true;
        for (int way = 0; way < 5; way++) {
            struct sp_block_header h;
            uint8_t *block = block_of(log, b);
            assert_int_equal(sp_block_read(block, &h), SP_OK);
            switch (way) {
            case 0:
                block[(size_t)b * 37 % SP_BLOCK_BYTES] ^= 0x10;
                break;
            case 1:
                memset(block, 0, SP_BLOCK_BYTES);
                break;
            case 2:
                memset(block + 512, 0xaa, SP_BLOCK_BYTES - 512);
                break; /* torn */
            case 3:    /* misdirected */
                h.index++;
                sp_block_write(block, &h);
                break;
            default: /* stale: of an older generation */
                h.generation--;
                sp_block_write(block, &h);
                break;
            }
            assert_end(log, log->count, batches_before(log, b));
            assert_walk(log, bad);
            memcpy(block, saved, SP_BLOCK_BYTES);
        }
        bad[b] = false;
        /* Whole, but not the successor of its predecessor: the walker reads it, the chain ends. */
        struct sp_block_header h;
        assert_int_equal(sp_block_read(saved, &h), SP_OK);
        h.chain ^= 1;
        sp_block_write(block_of(log, b), &h);
        assert_end(log, log->count, batches_before(log, b));
        assert_walk(log, bad);
        h.chain ^= 1;
        h.epoch_id++;
        sp_block_write(block_of(log, b), &h);
        assert_end(log, log->count, batches_before(log, b));
        memcpy(block_of(log, b), saved, SP_BLOCK_BYTES);
    }
    assert_end(log, log->count, log->batches);
    /* Without its head the segment has no sound end, and its records are still read. */
    block_of(log, 0)[200] ^= 1;
    struct sp_log_end end;
    sp_segment_sound_end(log->blocks, log->count, &log->id, &end);
    assert_int_equal(end.blocks, 0);
    assert_walk(log, bad);
    test_log_free(log);
}

static void test_many_missing(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct test_log *log = test_log_new(seed * 1000);
        test_log_fill(log, 10);
        bool bad[TEST_BLOCKS_MAX] = {false};
        for (uint32_t b = 1; b < log->count; b++)
            if (test_random(&log->random) % 8 < seed % 7) {
                bad[b] = true;
                block_of(log, b)[100] ^= 1;
            }
        assert_walk(log, bad);
        test_log_free(log);
    }
}

/* A walk may begin anywhere. */
static void test_walk_from(void **state)
{
    (void)state;
    struct test_log *log = test_log_new(5);
    test_log_fill(log, 6);
    for (uint32_t from = 1; from < log->count; from++) {
        struct sp_walker walker;
        struct sp_record record;
        struct sp_place place;
        sp_walker_init(&walker, block_of(log, from), log->count - from, from, &log->id);
        for (uint32_t i = 0; i < log->records_count; i++) {
            if (log->records[i].place.block < from)
                continue;
            assert_true(sp_walker_next(&walker, &record, &place));
            assert_record(&record, &place, &log->records[i]);
        }
        assert_false(sp_walker_next(&walker, &record, &place));
        sp_walker_release(&walker);
    }
    test_log_free(log);
}

/* A block of one batch, which ends with a record but not the batch, and then the middle of another,
 * where there lies, at its beginning, what looks like a record (somebody was sent a disk image by
 * mail). That is not taken for one; what does start there is read. */
static void test_stale_successor(void **state)
{
    (void)state;
    static const size_t longer[] = {SP_BLOCK_PAYLOAD_BYTES + 36, 100, 5000, 20},
                        shorter[] = {WHOLE, 6000, 10};
    struct test_log *log = test_log_new(1), *other = test_log_new(2);
    test_log_batch(log, shorter, 3);
    other->head.batch++;
    test_log_batch(other, longer, 4);
    struct sp_block_header h;
    uint8_t *image = block_of(other, 2) + SP_BLOCK_HEADER_BYTES;
    struct sp_record forged = {.type = SP_RECORD_ACCOUNT_REMOVE, .lsn = 1002, .payload = {NULL, 0}};
    sp_record_write_header(&forged, image);
    assert_int_equal(sp_block_read(block_of(other, 2), &h), SP_CORRUPT);
    h = test_log_position(other);
    h.batch--;
    h.index = 2;
    h.flags = 0;
    h.payload_bytes = SP_BLOCK_PAYLOAD_BYTES;
    h.first_lsn = other->records[1].record.lsn;
    h.first_offset = other->records[1].place.offset;
    sp_block_write(block_of(other, 2), &h);
    memcpy(block_of(log, 2), block_of(other, 2), (size_t)(other->count - 2) * SP_BLOCK_BYTES);
    log->count = other->count;
    struct sp_walker walker;
    struct sp_record record;
    struct sp_place place;
    sp_walker_init(&walker, log->blocks, log->count, 0, &log->id);
    assert_true(sp_walker_next(&walker, &record, &place));
    assert_record(&record, &place, &log->records[0]);
    for (uint32_t i = 1; i < 4; i++) {
        assert_true(sp_walker_next(&walker, &record, &place));
        assert_record(&record, &place, &other->records[i]);
    }
    assert_false(sp_walker_next(&walker, &record, &place));
    sp_walker_release(&walker);
    test_log_free(log);
    test_log_free(other);
}

/* ---- Batches ---- */

static void assert_batch(const struct sp_batch *batch, const struct sp_record *want, size_t count)
{
    struct sp_buf scratch;
    struct sp_record record;
    struct sp_place place;
    uint64_t cursor = 0;
    sp_buf_init(&scratch, SP_RECORD_PAYLOAD_MAX);
    for (size_t i = 0; i < count; i++) {
        assert_true(sp_batch_next(batch, &cursor, &scratch, &record, &place));
        assert_int_equal(record.lsn, want[i].lsn);
        assert_true(sp_slice_eq(record.payload, want[i].payload));
    }
    assert_false(sp_batch_next(batch, &cursor, &scratch, &record, &place));
    assert_int_equal(batch->records, count);
    if (count)
        assert_true(batch->first_lsn == want[0].lsn && batch->last_lsn == want[count - 1].lsn);
    sp_buf_release(&scratch);
}

/* Records after a mark are forgotten: the blocks are the same as if they had never been added. */
static void test_rewind(void **state)
{
    (void)state;
    static const size_t lens[] = {
        0, 1, WHOLE - 1, WHOLE, WHOLE + 1, WHOLE - SP_RECORD_HEADER_BYTES, 9000, 300000};
    const size_t n = sizeof lens / sizeof *lens;
    struct sp_block_header at = {.volume = {{1}}, .segment = 1, .index = 1, .batch = 1};
    uint64_t random = 3;
    for (size_t combination = 0; combination < n * n * n; combination++) {
        struct sp_record r[4];
        struct sp_batch one, two;
        for (size_t i = 0, c = combination; i < 3; i++, c /= n)
            r[i] = test_record(&random, 10 + i, lens[c % n]);
        r[3] = test_record(&random, 11, 77); /* in the place of the second */
        sp_batch_init(&one);
        sp_batch_init(&two);
        struct sp_batch_mark empty = sp_batch_mark(&one);
        sp_batch_add(&one, &r[0]);
        struct sp_batch_mark mark = sp_batch_mark(&one);
        sp_batch_add(&one, &r[1]);
        sp_batch_add(&one, &r[2]);
        assert_batch(&one, r, 3);
        sp_batch_rewind(&one, &mark);
        assert_batch(&one, r, 1);
        sp_batch_add(&two, &r[0]);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(sp_batch_finish(&one, &at), sp_batch_finish(&two, &at));
            assert_int_equal(sp_batch_blocks(&one), sp_batch_blocks(&two));
            assert_memory_equal(one.blocks, two.blocks, sp_batch_blocks(&one) * SP_BLOCK_BYTES);
            sp_batch_add(&one, &r[3]);
            sp_batch_add(&two, &r[3]);
        }
        sp_batch_rewind(&one, &empty);
        assert_int_equal(sp_batch_blocks(&one), 0);
        assert_batch(&one, r, 0);
        sp_batch_add(&one, &r[1]);
        assert_batch(&one, r + 1, 1);
        sp_batch_reset(&one);
        sp_batch_add(&one, &r[2]);
        assert_batch(&one, r + 2, 1);
        sp_batch_release(&one);
        sp_batch_release(&two);
        for (size_t i = 0; i < 4; i++)
            free((void *)(uintptr_t)r[i].payload.ptr);
    }
}

/* The same batch for two positions; the second is not tainted by the first. */
static void test_finish_twice(void **state)
{
    (void)state;
    struct sp_batch batch;
    uint64_t random = 8;
    struct sp_record r[3];
    sp_batch_init(&batch);
    for (size_t i = 0; i < 3; i++) {
        r[i] = test_record(&random, 50 + i, 5000 * i);
        sp_batch_add(&batch, &r[i]);
    }
    struct sp_block_header a = {
        .volume = {{1}}, .epoch_id = 1, .segment = 1, .index = 7, .batch = 3, .chain = 9};
    struct sp_block_header b = {.volume = {{1}},
                                .epoch_id = 2,
                                .segment = 2,
                                .generation = 4,
                                .index = 1,
                                .batch = 3,
                                .chain = 8,
                                .flags = 0xff};
    size_t len = (size_t)sp_batch_blocks(&batch) * SP_BLOCK_BYTES;
    uint8_t *first = malloc(len);
    assert_non_null(first);
    uint64_t chain = sp_batch_finish(&batch, &a);
    memcpy(first, batch.blocks, len);
    assert_true(sp_batch_finish(&batch, &b) != chain);
    uint64_t expected = b.chain;
    for (uint32_t i = 0; i < sp_batch_blocks(&batch); i++) {
        struct sp_block_header h;
        const uint8_t *block = batch.blocks + (size_t)i * SP_BLOCK_BYTES;
        assert_int_equal(sp_block_read(block, &h), SP_OK);
        assert_true(h.segment == 2 && h.epoch_id == 2 && h.index == 1 + i && h.batch == 3 &&
                    h.chain == expected);
        assert_int_equal(h.flags, (i == 0 ? SP_BLOCK_BATCH_FIRST : 0) |
                                      (i == sp_batch_blocks(&batch) - 1 ? SP_BLOCK_BATCH_LAST : 0));
        expected = sp_block_chain(block);
    }
    assert_batch(&batch, r, 3);
    assert_int_equal(sp_batch_finish(&batch, &a), chain);
    assert_memory_equal(batch.blocks, first, len);
    free(first);
    sp_batch_release(&batch);
    for (size_t i = 0; i < 3; i++)
        free((void *)(uintptr_t)r[i].payload.ptr);
}

static void test_batch_limit(void **state)
{
    (void)state;
    struct sp_batch batch;
    uint64_t random = 1;
    struct sp_record record = test_record(&random, 1000, SP_RECORD_PAYLOAD_MAX);
    sp_batch_init(&batch);
    struct sp_batch_mark mark = sp_batch_mark(&batch);
    uint32_t added = 0;
    while (!batch.failed) {
        mark = sp_batch_mark(&batch);
        record.lsn++;
        sp_batch_add(&batch, &record);
        added++;
    }
    assert_int_equal(added,
                     SP_BATCH_BYTES_MAX / (SP_RECORD_PAYLOAD_MAX + SP_RECORD_HEADER_BYTES) + 1);
    sp_batch_rewind(&batch, &mark);
    assert_false(batch.failed);
    record.payload.len = 10;
    sp_batch_add(&batch, &record);
    assert_false(batch.failed);
    assert_int_equal(batch.records, added);
    sp_batch_reset(&batch);
    assert_int_equal(batch.blocks_capacity, 0); /* memory given back */
    sp_batch_release(&batch);
    free((void *)(uintptr_t)record.payload.ptr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),     cmocka_unit_test(test_properties),
        cmocka_unit_test(test_damage),      cmocka_unit_test(test_many_missing),
        cmocka_unit_test(test_walk_from),   cmocka_unit_test(test_stale_successor),
        cmocka_unit_test(test_rewind),      cmocka_unit_test(test_finish_twice),
        cmocka_unit_test(test_batch_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
