/* Message bytes out of the log: a window of verified blocks, and the last body decoded. */
#include "base/log.h"
#include "store/volume_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <zstd.h>

#define WINDOW_BLOCKS 64U /* 256 KiB: bodies that were delivered together are read together */
#define DECODED_MAX   (SP_RECORD_PAYLOAD_MAX + SP_BLOCK_BYTES)

struct sp_reader {
    struct sp_volume *volume;
    /* Blocks [first, first + count) of one segment, all verified. */
    uint8_t *window;
    uint64_t segment;
    uint32_t generation, first, count;
    bool ascending; /* the last miss lay behind the window: read ahead */
    struct sp_buf payload, decoded;
    ZSTD_DCtx *zstd;
    struct sp_body_row last; /* whose bytes `decoded` (or the window) holds */
    uint64_t last_need;
    struct sp_slice last_bytes;
};

struct sp_reader *sp_reader_new(struct sp_volume *volume)
{
    struct sp_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return NULL;
    reader->volume = volume;
    reader->window = aligned_alloc(SP_BLOCK_BYTES, (size_t)WINDOW_BLOCKS * SP_BLOCK_BYTES);
    reader->zstd = ZSTD_createDCtx();
    sp_buf_init(&reader->payload, DECODED_MAX);
    sp_buf_init(&reader->decoded, DECODED_MAX);
    if (!reader->window || !reader->zstd) {
        sp_reader_free(reader);
        return NULL;
    }
    return reader;
}

void sp_reader_free(struct sp_reader *reader)
{
    if (!reader)
        return;
    free(reader->window);
    ZSTD_freeDCtx(reader->zstd);
    sp_buf_release(&reader->payload);
    sp_buf_release(&reader->decoded);
    free(reader);
}

static bool find_segment(struct sp_volume *v, const struct sp_place *place,
                         struct sp_volume_segment *ret)
{
    bool found = false;
    pthread_rwlock_rdlock(&v->segments_lock);
    size_t low = 0, high = v->segments_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (v->segments[middle].segment < place->segment)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < v->segments_count && v->segments[low].segment == place->segment &&
        v->segments[low].generation == place->generation) {
        *ret = v->segments[low];
        found = true;
    }
    /* The place was looked up before compaction replaced the segment: the file is still there. */
    for (size_t i = 0; i < v->retired_count && !found; i++)
        if (v->retired[i].segment == place->segment &&
            v->retired[i].generation == place->generation && v->retired[i].data_blocks) {
            *ret = v->retired[i];
            found = true;
        }
    pthread_rwlock_unlock(&v->segments_lock);
    return found;
}

/* The verified block `index` of the segment; at least `wanted` blocks from there will be asked for.
 */
static enum sp_status need_block(struct sp_reader *r, const struct sp_volume_segment *segment,
                                 uint32_t index, uint32_t wanted, const uint8_t **ret_block,
                                 struct sp_error *error)
{
    bool same = r->count && r->segment == segment->segment && r->generation == segment->generation;
    if (!same || index < r->first || index - r->first >= r->count) {
        bool follows =
            same && index >= r->first + r->count && index - (r->first + r->count) < WINDOW_BLOCKS;
        uint32_t count = follows && r->ascending  ? WINDOW_BLOCKS
                         : wanted < WINDOW_BLOCKS ? wanted
                                                  : WINDOW_BLOCKS;
        if (count > segment->data_blocks - index)
            count = segment->data_blocks - index;
        r->count = 0;
        enum sp_status status =
            sp_volume_read_blocks(r->volume, segment, index, r->window, count, error);
        if (status != SP_OK && count > wanted) {
            count = wanted; /* reading ahead met something bad */
            status = sp_volume_read_blocks(r->volume, segment, index, r->window, count, error);
        }
        if (status != SP_OK && count > 1) {
            count = 1;
            status = sp_volume_read_blocks(r->volume, segment, index, r->window, count, error);
        }
        if (status != SP_OK)
            return status;
        r->ascending = follows;
        r->segment = segment->segment;
        r->generation = segment->generation;
        r->first = index;
        r->count = count;
    }
    *ret_block = r->window + (size_t)(index - r->first) * SP_BLOCK_BYTES;
    return SP_OK;
}

/* len bytes from `skip` bytes behind the record's first: in the window when they lie in one block,
 * else in r->payload. */
static enum sp_status gather(struct sp_reader *r, const struct sp_volume_segment *segment,
                             const struct sp_place *place, size_t skip, size_t len,
                             struct sp_slice *ret, struct sp_error *error)
{
    uint32_t block = place->block;
    size_t offset = (size_t)place->offset + skip;
    block += (uint32_t)(offset / SP_BLOCK_PAYLOAD_BYTES);
    offset %= SP_BLOCK_PAYLOAD_BYTES;
    uint32_t wanted =
        (uint32_t)((offset + len + SP_BLOCK_PAYLOAD_BYTES - 1) / SP_BLOCK_PAYLOAD_BYTES);
    sp_buf_reset(&r->payload);
    while (len) {
        const uint8_t *at;
        if (block >= segment->data_blocks)
            return sp_error_set(error, SP_CORRUPT, r->volume->name,
                                "segment %" PRIu64 " block %" PRIu32
                                ": a body goes beyond its segment's end",
                                segment->segment, block);
        enum sp_status status = need_block(r, segment, block, wanted ? wanted : 1, &at, error);
        if (status != SP_OK)
            return status;
        size_t room = SP_BLOCK_PAYLOAD_BYTES - offset, n = len < room ? len : room;
        if (r->payload.len == 0 && n == len) {
            *ret = sp_slice(at + SP_BLOCK_HEADER_BYTES + offset, n);
            return SP_OK;
        }
        sp_buf_add(&r->payload, sp_slice(at + SP_BLOCK_HEADER_BYTES + offset, n));
        len -= n;
        offset = 0;
        block++;
        wanted--;
    }
    if (sp_buf_failed(&r->payload))
        return SP_NO_MEMORY;
    *ret = sp_buf_slice(&r->payload);
    return SP_OK;
}

static enum sp_status decode(struct sp_reader *r, struct sp_slice coded, uint64_t need,
                             struct sp_slice *ret)
{
    sp_buf_reset(&r->decoded);
    uint8_t *at = sp_buf_extend(&r->decoded, need);
    if (!at)
        return SP_NO_MEMORY;
    ZSTD_DCtx_reset(r->zstd, ZSTD_reset_session_only);
    ZSTD_inBuffer in = {coded.ptr, coded.len, 0};
    ZSTD_outBuffer out = {at, need, 0};
    while (out.pos < need) {
        size_t before = out.pos, rc = ZSTD_decompressStream(r->zstd, &out, &in);
        if (ZSTD_isError(rc) || (out.pos == before && in.pos == in.size))
            return SP_CORRUPT;
    }
    *ret = sp_buf_slice(&r->decoded);
    return SP_OK;
}

enum sp_status sp_reader_body(struct sp_reader *r, const struct sp_body_row *row, uint64_t need,
                              struct sp_slice *ret_bytes, struct sp_error *error)
{
    struct sp_volume_segment segment;
    struct sp_body_head head;
    struct sp_slice payload;
    if (r->last.payload_bytes && memcmp(&r->last, row, sizeof *row) == 0 && need <= r->last_need) {
        *ret_bytes = r->last_bytes;
        return SP_OK;
    }
    r->last.payload_bytes = 0;
    if (!find_segment(r->volume, &row->place, &segment))
        return sp_error_set(error, SP_NOT_FOUND, r->volume->name,
                            "segment %" PRIu64 " is not in the log", row->place.segment);
    if (row->payload_bytes < SP_BODY_HEAD_BYTES)
        return SP_CORRUPT;
    /* Raw bytes are read as far as they are needed; a coded body whole. */
    uint64_t some = need < row->payload_bytes - SP_BODY_HEAD_BYTES
                        ? need
                        : row->payload_bytes - SP_BODY_HEAD_BYTES;
    enum sp_status status = gather(r, &segment, &row->place, SP_RECORD_HEADER_BYTES,
                                   SP_BODY_HEAD_BYTES, &payload, error);
    if (status == SP_OK)
        status = sp_body_head_read(payload, &head);
    if (status != SP_OK)
        return status;
    bool coded = head.codec == SP_CODEC_ZSTD;
    if (need > head.raw_bytes)
        need = head.raw_bytes;
    status = gather(r, &segment, &row->place, SP_RECORD_HEADER_BYTES,
                    coded ? row->payload_bytes : SP_BODY_HEAD_BYTES + some, &payload, error);
    if (status != SP_OK)
        return status;
    payload = sp_slice_from(payload, SP_BODY_HEAD_BYTES);
    if (coded)
        status = decode(r, payload, need, &payload);
    else if (payload.len < need)
        status = SP_CORRUPT;
    if (status != SP_OK)
        return sp_error_set(error, status, r->volume->name,
                            "segment %" PRIu64 " block %" PRIu32 ": a body is damaged",
                            row->place.segment, row->place.block);
    r->last = *row;
    r->last_need = need == head.raw_bytes ? UINT64_MAX : need;
    r->last_bytes = payload;
    *ret_bytes = payload;
    return SP_OK;
}

enum sp_status sp_reader_record(struct sp_reader *r, const struct sp_volume_segment *segment,
                                const struct sp_place *place, uint32_t payload_bytes,
                                struct sp_record *ret_record, struct sp_error *error)
{
    struct sp_slice bytes;
    struct sp_record record;
    uint32_t crc;
    r->last.payload_bytes = 0; /* its bytes are overwritten */
    enum sp_status status =
        gather(r, segment, place, 0, (size_t)SP_RECORD_HEADER_BYTES + payload_bytes, &bytes, error);
    if (status == SP_OK &&
        (sp_record_read_header(bytes.ptr, &record, &crc) != SP_OK ||
         record.payload_bytes != payload_bytes ||
         !sp_record_check(bytes.ptr, sp_slice_from(bytes, SP_RECORD_HEADER_BYTES))))
        status = sp_error_set(error, SP_CORRUPT, r->volume->name,
                              "segment %" PRIu64 " block %" PRIu32 ": a record is damaged",
                              segment->segment, place->block);
    if (status != SP_OK)
        return status;
    record.payload = sp_slice_from(bytes, SP_RECORD_HEADER_BYTES);
    *ret_record = record;
    return SP_OK;
}
