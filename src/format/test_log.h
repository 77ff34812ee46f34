/* A sample segment in memory, for the tests of format: a head and batches of records of random
 * sizes. */
#ifndef SP_FORMAT_TEST_LOG_H
#define SP_FORMAT_TEST_LOG_H

#include "format/batch.h"
#include "format/segment.h"

#define TEST_RECORDS_MAX 512U
#define TEST_BLOCKS_MAX  512U

struct test_record {
    struct sp_record record; /* payload: malloc'ed */
    struct sp_place place;
    uint32_t last_block; /* that it touches; the first is place.block */
    uint32_t batch;      /* which, from 0 */
};

struct test_log {
    struct sp_segment_head head;
    struct sp_segment_id id;
    uint8_t *blocks;
    uint32_t count;
    struct test_record records[TEST_RECORDS_MAX];
    uint32_t records_count;
    uint32_t batch_end[TEST_RECORDS_MAX]; /* blocks up to the end of batch i */
    uint32_t batches;
    uint64_t chain;
    uint64_t random;
};

uint64_t test_random(uint64_t *state);
/* A record with lsn and a payload of len random bytes, malloc'ed. */
struct sp_record test_record(uint64_t *random, uint64_t lsn, size_t len);
/* Begins a log: the head block. */
struct test_log *test_log_new(uint64_t seed);
/* Adds a batch of records with payloads of these lengths. */
void test_log_batch(struct test_log *log, const size_t *lens, size_t count);
/* Adds batches of random sizes. */
void test_log_fill(struct test_log *log, uint32_t batches);
void test_log_free(struct test_log *log);
struct sp_block_header test_log_position(const struct test_log *log);

#endif
