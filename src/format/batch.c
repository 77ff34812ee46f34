#include "format/batch.h"
#include "base/buf.h"

#include <stdlib.h>

#define KEEP_BLOCKS  256U
#define FIRST_BLOCKS 16U

void sp_batch_init(struct sp_batch *batch)
{
    *batch = (struct sp_batch){0};
}

void sp_batch_release(struct sp_batch *batch)
{
    free(batch->blocks);
    free(batch->starts);
    sp_batch_init(batch);
}

void sp_batch_reset(struct sp_batch *batch)
{
    if (batch->blocks_capacity > KEEP_BLOCKS) {
        sp_batch_release(batch);
        return;
    }
    batch->stream_bytes = 0;
    batch->records = 0;
    batch->first_lsn = batch->last_lsn = 0;
    batch->failed = false;
}

void *sp_batch_abandon(struct sp_batch *batch)
{
    void *copy, *old = batch->blocks;
    size_t bytes = (size_t)batch->blocks_capacity * SP_BLOCK_BYTES;
    if (posix_memalign(&copy, SP_BLOCK_BYTES, bytes) != 0)
        return NULL;
    memcpy(copy, batch->blocks, bytes);
    batch->blocks = copy;
    return old;
}

static uint32_t blocks_for(uint64_t stream_bytes)
{
    return (uint32_t)((stream_bytes + SP_BLOCK_PAYLOAD_BYTES - 1) / SP_BLOCK_PAYLOAD_BYTES);
}

uint32_t sp_batch_blocks(const struct sp_batch *batch)
{
    return blocks_for(batch->stream_bytes);
}

static bool reserve(struct sp_batch *batch, uint64_t stream_bytes)
{
    if (batch->failed || stream_bytes > SP_BATCH_BYTES_MAX) {
        batch->failed = true;
        return false;
    }
    uint32_t need = blocks_for(stream_bytes);
    if (need <= batch->blocks_capacity)
        return true;
    uint32_t capacity = batch->blocks_capacity ? batch->blocks_capacity : FIRST_BLOCKS;
    while (capacity < need)
        capacity *= 2;
    void *blocks = NULL;
    struct sp_batch_start *starts = realloc(batch->starts, capacity * sizeof *starts);
    if (starts)
        batch->starts = starts;
    if (!starts ||
        posix_memalign(&blocks, SP_BLOCK_BYTES, (size_t)capacity * SP_BLOCK_BYTES) != 0) {
        batch->failed = true;
        return false;
    }
    if (batch->blocks_capacity)
        memcpy(blocks, batch->blocks, (size_t)batch->blocks_capacity * SP_BLOCK_BYTES);
    free(batch->blocks);
    batch->blocks = blocks;
    batch->blocks_capacity = capacity;
    return true;
}

static void put(struct sp_batch *batch, struct sp_slice bytes)
{
    while (bytes.len) {
        uint64_t block = batch->stream_bytes / SP_BLOCK_PAYLOAD_BYTES;
        size_t offset = batch->stream_bytes % SP_BLOCK_PAYLOAD_BYTES;
        size_t room = SP_BLOCK_PAYLOAD_BYTES - offset, n = bytes.len < room ? bytes.len : room;
        if (offset == 0)
            batch->starts[block] = (struct sp_batch_start){0, SP_NO_RECORD};
        memcpy(batch->blocks + block * SP_BLOCK_BYTES + SP_BLOCK_HEADER_BYTES + offset, bytes.ptr,
               n);
        batch->stream_bytes += n;
        bytes = sp_slice_from(bytes, n);
    }
}

struct sp_place sp_batch_add(struct sp_batch *batch, const struct sp_record *record)
{
    struct sp_place place = {.block = (uint32_t)(batch->stream_bytes / SP_BLOCK_PAYLOAD_BYTES),
                             .offset = (uint16_t)(batch->stream_bytes % SP_BLOCK_PAYLOAD_BYTES)};
    if (!reserve(batch, batch->stream_bytes + SP_RECORD_HEADER_BYTES + record->payload.len))
        return place;
    uint8_t header[SP_RECORD_HEADER_BYTES];
    sp_record_write_header(record, header);
    put(batch, sp_slice(header, sizeof header));
    put(batch, record->payload);
    if (batch->starts[place.block].lsn == 0)
        batch->starts[place.block] = (struct sp_batch_start){record->lsn, place.offset};
    if (batch->records++ == 0)
        batch->first_lsn = record->lsn;
    batch->last_lsn = record->lsn;
    return place;
}

struct sp_batch_mark sp_batch_mark(const struct sp_batch *batch)
{
    return (struct sp_batch_mark){batch->stream_bytes, batch->records, batch->first_lsn,
                                  batch->last_lsn};
}

void sp_batch_rewind(struct sp_batch *batch, const struct sp_batch_mark *mark)
{
    batch->stream_bytes = mark->stream_bytes;
    batch->records = mark->records;
    batch->first_lsn = mark->first_lsn;
    batch->last_lsn = mark->last_lsn;
    batch->failed = false;
    if (mark->stream_bytes % SP_BLOCK_PAYLOAD_BYTES) {
        struct sp_batch_start *start = &batch->starts[mark->stream_bytes / SP_BLOCK_PAYLOAD_BYTES];
        if (start->lsn > mark->last_lsn)
            *start = (struct sp_batch_start){0, SP_NO_RECORD};
    }
}

uint64_t sp_batch_finish(struct sp_batch *batch, const struct sp_block_header *first)
{
    uint32_t count = sp_batch_blocks(batch);
    struct sp_block_header header = *first;
    sp_assert(!batch->failed);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t rest = batch->stream_bytes - (uint64_t)i * SP_BLOCK_PAYLOAD_BYTES;
        header.flags = (uint8_t)((i == 0 ? SP_BLOCK_BATCH_FIRST : 0U) |
                                 (i == count - 1 ? SP_BLOCK_BATCH_LAST : 0U));
        header.index = first->index + i;
        header.payload_bytes =
            (uint16_t)(rest < SP_BLOCK_PAYLOAD_BYTES ? rest : SP_BLOCK_PAYLOAD_BYTES);
        header.first_lsn = batch->starts[i].lsn;
        header.first_offset = batch->starts[i].offset;
        uint8_t *block = batch->blocks + (size_t)i * SP_BLOCK_BYTES;
        sp_block_write(block, &header);
        header.chain = sp_block_chain(block);
    }
    return header.chain;
}

/* len bytes of the stream from `at`: in place when they lie in one block. */
static struct sp_slice view(const struct sp_batch *batch, uint64_t at, size_t len,
                            struct sp_buf *scratch)
{
    size_t offset = at % SP_BLOCK_PAYLOAD_BYTES;
    if (len == 0) /* `at` may be the very end */
        return (struct sp_slice){NULL, 0};
    const uint8_t *block =
        batch->blocks + at / SP_BLOCK_PAYLOAD_BYTES * SP_BLOCK_BYTES + SP_BLOCK_HEADER_BYTES;
    if (offset + len <= SP_BLOCK_PAYLOAD_BYTES)
        return sp_slice(block + offset, len);
    sp_buf_reset(scratch);
    while (len) {
        size_t room = SP_BLOCK_PAYLOAD_BYTES - at % SP_BLOCK_PAYLOAD_BYTES,
               n = len < room ? len : room;
        block =
            batch->blocks + at / SP_BLOCK_PAYLOAD_BYTES * SP_BLOCK_BYTES + SP_BLOCK_HEADER_BYTES;
        sp_buf_add(scratch, sp_slice(block + at % SP_BLOCK_PAYLOAD_BYTES, n));
        at += n;
        len -= n;
    }
    sp_assert(!sp_buf_failed(scratch));
    return sp_buf_slice(scratch);
}

bool sp_batch_next(const struct sp_batch *batch, uint64_t *cursor, struct sp_buf *scratch,
                   struct sp_record *ret_record, struct sp_place *ret_place)
{
    if (*cursor >= batch->stream_bytes)
        return false;
    uint32_t crc;
    enum sp_status status = sp_record_read_header(
        view(batch, *cursor, SP_RECORD_HEADER_BYTES, scratch).ptr, ret_record, &crc);
    sp_assert(status == SP_OK);
    *ret_place = (struct sp_place){.block = (uint32_t)(*cursor / SP_BLOCK_PAYLOAD_BYTES),
                                   .offset = (uint16_t)(*cursor % SP_BLOCK_PAYLOAD_BYTES)};
    ret_record->payload =
        view(batch, *cursor + SP_RECORD_HEADER_BYTES, ret_record->payload_bytes, scratch);
    *cursor += SP_RECORD_HEADER_BYTES + ret_record->payload_bytes;
    return true;
}
