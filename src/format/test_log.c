#include "format/test_log.h"

#include <stdlib.h>

uint64_t test_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

struct sp_record test_record(uint64_t *random, uint64_t lsn, size_t len)
{
    static const uint8_t types[] = {SP_RECORD_BODY,  SP_RECORD_BODY_CHUNK, SP_RECORD_MESSAGE,
                                    SP_RECORD_FLAGS, SP_RECORD_CATALOGUE,  200};
    uint8_t *payload = malloc(len ? len : 1);
    sp_assert(payload);
    for (size_t i = 0; i < len; i++)
        payload[i] = (uint8_t)(test_random(random) >> 20);
    struct sp_record record = {
        .type = types[test_random(random) % sizeof types],
        .flags = SP_RECORD_CHAINED,
        .lsn = lsn,
        .time_ns = 1700000000000000000U + lsn,
        .mailbox = (uint32_t)test_random(random),
        .previous = test_random(random) % lsn,
        .payload_bytes = (uint32_t)len,
        .payload = sp_slice(payload, len),
    };
    for (size_t i = 0; i < 16; i++)
        record.account.bytes[i] = (uint8_t)test_random(random);
    return record;
}

struct test_log *test_log_new(uint64_t seed)
{
    struct test_log *log = calloc(1, sizeof *log);
    void *memory = NULL;
    sp_assert(log &&
              posix_memalign(&memory, SP_BLOCK_BYTES, TEST_BLOCKS_MAX * SP_BLOCK_BYTES) == 0);
    log->blocks = memory;
    log->random = seed;
    log->head = (struct sp_segment_head){
        .volume = {{1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10}},
        .epoch_id = 0x1122334455667788,
        .epoch_counter = 3,
        .segment = 9,
        .generation = 1,
        .epoch_begins = true,
        .time_ns = 1700000000000000000U,
        .next_lsn = 1001,
        .batch = 77,
        .min_copies = 2,
        .segment_bytes = 64U << 20,
        .previous = {.epoch_id = 5,
                     .epoch_counter = 2,
                     .segment = 8,
                     .generation = 0,
                     .blocks = 500,
                     .lsn = 1000,
                     .batch = 76,
                     .chain = 0xfeedfacecafebeef},
        .manifest_segment = 4,
        .manifest_lsn = 400,
        .members =
            {{.unit = {{1}}, .role = SP_MEMBER_REPLICA, .ranges_count = 1, .ranges = {{1, 1000}}},
             {.unit = {{2}},
              .role = SP_MEMBER_SPARE,
              .ranges_count = 2,
              .ranges = {{1, 10}, {20, 900}}},
             {.unit = {{3}}, .role = SP_MEMBER_WITNESS}},
        .members_count = 3,
    };
    log->id = (struct sp_segment_id){log->head.volume, log->head.segment, log->head.generation};
    sp_segment_head_write(&log->head, log->blocks);
    log->chain = sp_block_chain(log->blocks);
    log->count = 1;
    return log;
}

struct sp_block_header test_log_position(const struct test_log *log)
{
    return (struct sp_block_header){
        .volume = log->head.volume,
        .epoch_id = log->head.epoch_id,
        .epoch_counter = log->head.epoch_counter,
        .segment = log->head.segment,
        .generation = log->head.generation,
        .index = log->count,
        .batch = log->head.batch + log->batches,
        .chain = log->chain,
    };
}

void test_log_batch(struct test_log *log, const size_t *lens, size_t count)
{
    struct sp_batch batch;
    sp_batch_init(&batch);
    for (size_t i = 0; i < count; i++) {
        struct test_record *r = &log->records[log->records_count];
        sp_assert(log->records_count < TEST_RECORDS_MAX);
        r->record = test_record(&log->random, log->head.next_lsn + log->records_count, lens[i]);
        r->place = sp_batch_add(&batch, &r->record);
        r->place.segment = log->head.segment;
        r->place.generation = log->head.generation;
        r->place.block += log->count;
        r->last_block =
            r->place.block + (uint32_t)((r->place.offset + SP_RECORD_HEADER_BYTES + lens[i] - 1) /
                                        SP_BLOCK_PAYLOAD_BYTES);
        r->batch = log->batches;
        log->records_count++;
    }
    struct sp_block_header position = test_log_position(log);
    log->chain = sp_batch_finish(&batch, &position);
    uint32_t blocks = sp_batch_blocks(&batch);
    sp_assert(log->count + blocks <= TEST_BLOCKS_MAX);
    memcpy(log->blocks + (size_t)log->count * SP_BLOCK_BYTES, batch.blocks,
           (size_t)blocks * SP_BLOCK_BYTES);
    log->count += blocks;
    log->batch_end[log->batches++] = log->count;
    sp_batch_release(&batch);
}

/* Sizes that favour the edges of blocks. */
static size_t random_len(uint64_t *random)
{
    switch (test_random(random) % 6) {
    case 0:
        return test_random(random) % 3;
    case 1:
        return SP_BLOCK_PAYLOAD_BYTES - SP_RECORD_HEADER_BYTES - 2 + test_random(random) % 5;
    case 2:
        return SP_BLOCK_PAYLOAD_BYTES - 2 * SP_RECORD_HEADER_BYTES + test_random(random) % 3;
    case 3:
        return test_random(random) % 20000;
    default:
        return test_random(random) % 600;
    }
}

void test_log_fill(struct test_log *log, uint32_t batches)
{
    for (uint32_t b = 0; b < batches; b++) {
        size_t lens[12], count = 1 + test_random(&log->random) % 12;
        for (size_t i = 0; i < count; i++)
            lens[i] = random_len(&log->random);
        test_log_batch(log, lens, count);
    }
}

void test_log_free(struct test_log *log)
{
    for (uint32_t i = 0; i < log->records_count; i++)
        free((void *)(uintptr_t)log->records[i].record.payload.ptr);
    free(log->blocks);
    free(log);
}
