#include "recover/test_log.h"
#include "format/vote.h"
#include "unit/dir.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

void log_release(struct log *log)
{
    free(log->digests);
    free(log->lsns);
    free(log->types);
    sp_arena_release(&log->arena);
}

int log_find(const struct log *log, uint64_t lsn)
{
    for (uint32_t i = 0; i < log->count; i++)
        if (log->lsns[i] == lsn)
            return (int)i;
    return -1;
}

static void log_add(struct log *log, const struct sp_record *record, bool newest)
{
    log->digests = realloc(log->digests, (log->count + 1) * sizeof *log->digests);
    log->lsns = realloc(log->lsns, (log->count + 1) * sizeof *log->lsns);
    log->types = realloc(log->types, log->count + 1);
    assert_true(log->digests && log->lsns && log->types);
    assert_true(log->count == 0 || record->lsn > log->lsns[log->count - 1]);
    log->digests[log->count] = world_digest(record);
    log->types[log->count] = record->type;
    log->lsns[log->count++] = record->lsn;
    if (newest && record->type == SP_RECORD_GAP) {
        uint8_t *copy = sp_arena_alloc(&log->arena, record->payload.len);
        assert_non_null(copy);
        memcpy(copy, record->payload.ptr, record->payload.len);
        assert_int_equal(sp_gap_read(sp_slice(copy, record->payload.len), &log->arena, &log->gap),
                         SP_OK);
    }
    log->unprotects += newest && record->type == SP_RECORD_UNPROTECT;
}

static void check_footer(const uint8_t *blocks, uint32_t count, uint32_t data_blocks,
                         uint32_t records)
{
    struct sp_block_header header;
    struct sp_trailer trailer;
    struct sp_footer_reader *reader;
    struct sp_record record;
    struct sp_place place;
    uint32_t seen = 0;
    enum sp_status status;
    assert_int_equal(
        sp_trailer_read(blocks + (size_t)(count - 1) * SP_BLOCK_BYTES, &header, &trailer), SP_OK);
    assert_int_equal(trailer.data_blocks, data_blocks);
    assert_int_equal(trailer.records, records);
    assert_int_equal(sp_footer_reader_new(blocks + (size_t)data_blocks * SP_BLOCK_BYTES, &header,
                                          &trailer, &reader),
                     SP_OK);
    while ((status = sp_footer_reader_next(reader, &record, &place)) == SP_OK)
        seen++;
    assert_int_equal(status, SP_EOF);
    assert_int_equal(seen, records);
    sp_footer_reader_free(reader);
}

void read_log(const char *dir, const struct sp_uuid *volume, struct log *ret_log)
{
    struct sp_unit *units[3];
    struct sp_unit_segment *list[2];
    size_t count[2], vote_len;
    struct sp_error error;
    struct log log = {0};
    uint8_t *vote;
    struct sp_vote parsed;
    sp_arena_init(&log.arena, 1U << 20);
    for (unsigned i = 0; i < 3; i++) {
        char path[600], name[2] = {(char)('a' + i), 0};
        snprintf(path, sizeof path, "%s/unit-%s", dir, name);
        assert_int_equal(sp_unit_dir_open(path, name, NULL, &units[i], &error), SP_OK);
        assert_true(sp_uuid_eq(&units[i]->volume, volume));
    }
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(units[i]->ops->list(units[i], &list[i], &count[i], &error), SP_OK);
    assert_int_equal(count[0], count[1]);
    for (size_t i = 0; i < count[0]; i++) {
        const struct sp_unit_segment *s = &list[0][i];
        void *blocks[2];
        struct sp_segment_id id = {*volume, s->segment, s->generation};
        struct sp_segment_head head;
        struct sp_log_end end;
        size_t len = (size_t)s->blocks * SP_BLOCK_BYTES;
        for (unsigned k = 0; k < 2; k++) {
            assert_int_equal(posix_memalign(&blocks[k], SP_BLOCK_BYTES, len), 0);
            assert_int_equal(units[k]->ops->read(units[k], s->segment, s->generation, 0, blocks[k],
                                                 s->blocks, &error),
                             SP_OK);
        }
        assert_memory_equal(blocks[0], blocks[1], len);
        bool newest = i + 1 == count[0];
        assert_int_equal(sp_segment_head_read(blocks[0], &head), SP_OK);
        sp_segment_sound_end(blocks[0], s->blocks, &id, &end);
        assert_true(end.blocks > 0 && head.batch > log.end.batch);
        assert_int_equal(head.previous.segment, log.end.segment);
        if (i) {
            assert_true(head.epoch_begins == (head.epoch_id != log.end.epoch_id));
            assert_int_equal(head.previous.epoch_id, log.end.epoch_id);
        }
        if (head.previous.generation == log.end.generation) {
            assert_int_equal(head.previous.blocks, log.end.blocks);
            assert_true(head.previous.chain == log.end.chain && head.previous.lsn == log.end.lsn);
        } else {
            assert_true(log.end.generation > head.previous.generation);
        }
        uint32_t before = log.count;
        struct sp_walker walker;
        struct sp_record record;
        struct sp_place place;
        sp_walker_init(&walker, blocks[0], end.blocks, 0, &id);
        while (sp_walker_next(&walker, &record, &place))
            log_add(&log, &record, newest);
        assert_int_equal(walker.bad_blocks, 0);
        sp_walker_release(&walker);
        if (newest) {
            assert_true(end.blocks <= s->blocks); /* it is open, and some more may be prepared */
            for (unsigned k = 0; k < 3; k++) {
                assert_int_equal(units[k]->ops->vote_read(units[k], &vote, &vote_len, &error),
                                 SP_OK);
                assert_int_equal(sp_vote_parse(sp_slice(vote, vote_len), &parsed), SP_OK);
                assert_int_equal(parsed.promised_counter, head.epoch_counter);
                assert_true(parsed.promised_id == head.epoch_id && parsed.accepted);
                assert_memory_equal(vote + SP_VOTE_HEAD_BYTES, blocks[0], SP_BLOCK_BYTES);
                assert_true(sp_uuid_eq(&head.members[k].unit, &units[k]->id));
                free(vote);
            }
        } else {
            check_footer(blocks[0], s->blocks, end.blocks, log.count - before);
        }
        log.end = end;
        free(blocks[0]);
        free(blocks[1]);
    }
    for (unsigned i = 0; i < 2; i++)
        free(list[i]);
    for (unsigned i = 0; i < 3; i++)
        units[i]->ops->close(units[i]);
    *ret_log = log;
}
