/* Writing a run's replacement onto the replicas, and verifying it. */
#include "store/compact.h"

#include "base/log.h"
#include "base/time.h"

#include <inttypes.h>
#include <stdlib.h>

#define BATCH_BYTES    (1U << 20)
#define WRITE_PATIENCE 10U /* timeouts until a stalled write is given up */

enum phase { HEAD, RECORDS, FOOTER, VERIFY, TRAILER, DONE };

struct sp_rewrite {
    struct sp_volume *v;
    size_t first, count; /* the run */
    struct sp_compact_plan plan;
    enum phase phase;
    uint64_t epoch_id; /* in another one other units are replicas */
    bool targets[SP_VOLUME_UNITS_MAX];
    uint32_t verified;       /* members up to this one */
    struct sp_verify verify; /* of its copy */
    bool leaked;             /* a unit stalled, and may read the memory for ever */

    struct sp_volume_segment segment; /* what it becomes */
    struct sp_segment_head head;
    uint64_t batches_left; /* numbers that the run had */
    uint64_t batch_bytes;  /* of a batch, so that these are enough */
    size_t at;             /* in plan.kept */
    struct sp_batch batch;
    struct sp_block_header last; /* of the last data block */
    uint64_t chain, next_batch;
    struct sp_footer_builder *footer;
    struct sp_trailer trailer;
    uint8_t *footer_blocks;
    struct sp_reader *reader;
    struct sp_buf payload; /* of a DROPPED */
    uint64_t step_bytes;
};

/* ---- Onto the targets ---- */

static enum sp_status put(const struct sp_rewrite *w, struct sp_volume_member *m, uint32_t first,
                          const uint8_t *blocks, uint32_t count, struct sp_error *error)
{
    struct sp_unit *unit = m->unit;
    enum sp_status status = SP_TIMEOUT;
    unit->ops->write_start(unit, w->segment.segment, w->segment.generation, first, blocks, count);
    for (unsigned i = 0; i < WRITE_PATIENCE && status == SP_TIMEOUT; i++)
        status = unit->ops->wait(unit, w->v->unit_timeout_ms, error);
    return status;
}

/* A unit that cannot be written to is ejected, but for want of room or memory. */
static void see_to(struct sp_rewrite *w, struct sp_volume_member *m, enum sp_status status,
                   const struct sp_error *error)
{
    const char *why = error->why[0] ? error->why : "it stalled while a segment was compacted";
    w->leaked |= status == SP_TIMEOUT;
    w->targets[m - w->v->members] = false;
    if (status == SP_NO_SPACE || status == SP_NO_MEMORY)
        return;
    if (sp_log_replicas(w->v) > 1)
        sp_log_eject(w->v, m, why);
    else
        sp_log_suspend(w->v, m, why);
}

/* The next target from *at on; NULL: there is none. One that was ejected meanwhile is none. */
static struct sp_volume_member *next_target(struct sp_rewrite *w, uint32_t *at)
{
    for (; *at < w->v->members_count; ++*at) {
        struct sp_volume_member *m = &w->v->members[*at];
        if (w->targets[*at] && m->state == SP_UNIT_REPLICA && m->unit)
            return m;
    }
    return NULL;
}

static uint32_t count_targets(struct sp_rewrite *w)
{
    uint32_t count = 0;
    for (uint32_t i = 0; next_target(w, &i); i++)
        count++;
    return count;
}

/* On all of them, or it comes to nothing. */
static enum sp_status put_all(struct sp_rewrite *w, uint32_t first, const uint8_t *blocks,
                              uint32_t count, struct sp_error *error)
{
    struct sp_volume_member *m;
    for (uint32_t i = 0; (m = next_target(w, &i)); i++) {
        struct sp_error why = {0};
        enum sp_status status = put(w, m, first, blocks, count, &why);
        w->step_bytes += (uint64_t)count * SP_BLOCK_BYTES;
        if (status == SP_OK)
            continue;
        see_to(w, m, status, &why);
        *error = why;
        return status;
    }
    return count_targets(w) ? SP_OK : SP_UNAVAILABLE;
}

/* ---- Beginning ---- */

static enum sp_status read_head(struct sp_volume *v, const struct sp_volume_segment *segment,
                                struct sp_segment_head *ret_head, struct sp_error *error)
{
    uint8_t block[SP_BLOCK_BYTES];
    enum sp_status status = sp_volume_read_blocks(v, segment, 0, block, 1, error);
    if (status == SP_OK && sp_segment_head_read(block, ret_head) != SP_OK)
        status = sp_error_set(error, SP_CORRUPT, v->name, "segment %" PRIu64 " has no head",
                              segment->segment);
    return status;
}

/* What the run becomes: the last one's place in the log, with the first one's beginning. */
static enum sp_status make_head(struct sp_rewrite *w, struct sp_error *error)
{
    struct sp_volume *v = w->v;
    const struct sp_volume_segment *run = &v->segments[w->first], *last = &run[w->count - 1];
    struct sp_segment_head first, head, next;
    enum sp_status status = read_head(v, run, &first, error);
    if (status == SP_OK)
        status = read_head(v, last, &head, error);
    if (status == SP_OK)
        status = read_head(v, last + 1, &next, error);
    if (status != SP_OK)
        return status;
    head.generation = w->segment.generation;
    head.epoch_begins = first.epoch_id != head.epoch_id || first.epoch_begins;
    head.time_ns = first.time_ns;
    head.next_lsn = first.next_lsn;
    head.batch = first.batch;
    head.previous = first.previous;
    w->head = head;
    w->segment.previous = first.previous;
    w->segment.known = false;
    w->batches_left = next.batch - first.batch;
    w->batch_bytes = w->batches_left ? w->plan.bytes_before / w->batches_left + 1 : 0;
    if (w->batch_bytes < BATCH_BYTES)
        w->batch_bytes = BATCH_BYTES;
    w->next_batch = first.batch;
    return SP_OK;
}

/* A generation that no unit has a file of. */
static enum sp_status choose_generation(struct sp_rewrite *w, struct sp_error *error)
{
    struct sp_volume *v = w->v;
    w->segment.generation++;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_unit_segment *list = NULL;
        size_t count = 0;
        if (!v->members[i].unit ||
            v->members[i].unit->ops->list(v->members[i].unit, &list, &count, error) != SP_OK)
            continue;
        for (size_t k = 0; k < count; k++)
            if (list[k].segment == w->segment.segment &&
                list[k].generation >= w->segment.generation)
                w->segment.generation = list[k].generation + 1;
        free(list);
    }
    return w->segment.generation
               ? SP_OK
               : sp_error_set(error, SP_LIMIT, v->name, "generations are used up");
}

static uint32_t blocks_wanted(const struct sp_rewrite *w)
{
    uint64_t bytes = w->plan.bytes_after + w->plan.kept_count * (uint64_t)SP_RECORD_HEADER_BYTES;
    uint64_t batches = bytes / w->batch_bytes + 1;
    return (uint32_t)(bytes / SP_BLOCK_PAYLOAD_BYTES + batches + 2);
}

/* All replicas, and all of them must have all of the log: copies come first. */
static enum sp_status choose_targets(struct sp_rewrite *w, struct sp_error *error)
{
    struct sp_volume *v = w->v;
    uint64_t bytes = (uint64_t)blocks_wanted(w) * SP_BLOCK_BYTES * 2 + 2 * v->segment_bytes;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        uint64_t free_bytes;
        if (m->state != SP_UNIT_REPLICA || !m->unit)
            continue;
        if (m->lacks)
            return sp_error_set(error, SP_UNAVAILABLE, m->name,
                                "it is still being brought segments that it lacks");
        w->targets[i] = true;
        if (m->unit->ops->space && m->unit->ops->space(m->unit, &free_bytes, error) == SP_OK &&
            free_bytes < bytes)
            return sp_error_set(error, SP_NO_SPACE, m->name,
                                "it has not the room to write segments anew");
    }
    if (count_targets(w) < v->min_copies && !(v->degraded_accept && count_targets(w)))
        return sp_error_set(error, SP_UNAVAILABLE, v->name,
                            "fewer than min_copies replicas have the segments");
    return SP_OK;
}

static enum sp_status create_files(struct sp_rewrite *w, struct sp_error *error)
{
    struct sp_volume_member *m;
    for (uint32_t i = 0; (m = next_target(w, &i)); i++) {
        struct sp_error why = {0};
        enum sp_status status = m->unit->ops->create(m->unit, w->segment.segment,
                                                     w->segment.generation, blocks_wanted(w), &why);
        if (status == SP_OK)
            continue;
        see_to(w, m, status, &why);
        *error = why;
        return status;
    }
    return SP_OK;
}

enum sp_status sp_rewrite_new(struct sp_volume *v, size_t first, size_t count,
                              struct sp_compact_plan *plan, struct sp_rewrite **ret_rewrite,
                              struct sp_error *error)
{
    struct sp_rewrite *w = calloc(1, sizeof *w);
    if (!w) {
        sp_compact_plan_release(plan);
        return sp_error_set(error, SP_NO_MEMORY, v->name, "out of memory");
    }
    w->v = v;
    w->epoch_id = v->epoch_id;
    w->first = first;
    w->count = count;
    w->plan = *plan;
    *plan = (struct sp_compact_plan){0};
    w->segment = v->segments[first + count - 1];
    w->segment.first_lsn = v->segments[first].first_lsn;
    w->segment.data_blocks = w->segment.footer_blocks = 0;
    w->segment.sealed = false;
    sp_batch_init(&w->batch);
    sp_buf_init(&w->payload, SP_RECORD_PAYLOAD_MAX);
    w->footer = sp_footer_builder_new();
    w->reader = sp_reader_new(v);
    enum sp_status status = w->footer && w->reader
                                ? SP_OK
                                : sp_error_set(error, SP_NO_MEMORY, v->name, "out of memory");
    if (status == SP_OK)
        status = choose_generation(w, error);
    if (status == SP_OK)
        status = make_head(w, error);
    if (status == SP_OK)
        status = choose_targets(w, error);
    if (status == SP_OK)
        status = create_files(w, error);
    if (status != SP_OK) {
        sp_rewrite_free(w);
        return status;
    }
    *ret_rewrite = w;
    return SP_OK;
}

/* What has no trailer was never the log: it is no loss. */
static void remove_files(struct sp_rewrite *w)
{
    struct sp_volume_member *m;
    for (uint32_t i = 0; (m = next_target(w, &i)); i++) {
        struct sp_error why;
        if (m->unit->ops->remove(m->unit, w->segment.segment, w->segment.generation, &why) != SP_OK)
            continue; /* a file without a trailer, which nobody counts */
    }
}

void sp_rewrite_free(struct sp_rewrite *w)
{
    if (!w)
        return;
    if (w->phase < TRAILER)
        remove_files(w);
    if (w->leaked) {
        sp_log_abandon(w->batch.blocks);
        sp_log_abandon(w->footer_blocks);
        w->batch.blocks = w->footer_blocks = NULL;
    }
    sp_batch_release(&w->batch);
    free(w->footer_blocks);
    sp_footer_builder_free(w->footer);
    sp_reader_free(w->reader);
    sp_buf_release(&w->payload);
    sp_compact_plan_release(&w->plan);
    free(w);
}

uint64_t sp_rewrite_bytes(const struct sp_rewrite *w)
{
    return w->step_bytes;
}

void sp_rewrite_run(const struct sp_rewrite *w, size_t *ret_first, size_t *ret_count)
{
    *ret_first = w->first;
    *ret_count = w->count;
}

/* ---- Head and records ---- */

static enum sp_status write_head(struct sp_rewrite *w, struct sp_error *error)
{
    uint8_t *block = aligned_alloc(SP_BLOCK_BYTES, SP_BLOCK_BYTES);
    if (!block)
        return sp_error_set(error, SP_NO_MEMORY, w->v->name, "out of memory");
    sp_segment_head_write(&w->head, block);
    enum sp_status status = put_all(w, 0, block, 1, error);
    if (status == SP_OK && sp_block_read(block, &w->last) != SP_OK)
        status = SP_CORRUPT;
    if (status == SP_OK) {
        w->chain = sp_block_chain(block);
        w->segment.data_blocks = 1;
        sp_footer_builder_blocks(w->footer, block, 1);
        w->phase = RECORDS;
    }
    if (w->leaked)
        sp_log_abandon(block);
    else
        free(block);
    return status;
}

static enum sp_status next_record(struct sp_rewrite *w, struct sp_error *error)
{
    const struct sp_kept *kept = &w->plan.kept[w->at];
    struct sp_record record;
    enum sp_status status;
    if (kept->dropped) {
        status = sp_compact_plan_dropped(&w->plan, kept, &w->payload, &record);
    } else {
        const struct sp_volume_segment *from = &w->v->segments[w->first + kept->segment];
        const struct sp_place place = {from->segment, from->generation, kept->block, kept->offset};
        status = sp_reader_record(w->reader, from, &place, kept->payload_bytes, &record, error);
        if (status == SP_OK && record.lsn != kept->lsn)
            status = sp_error_set(error, SP_CORRUPT, w->v->name,
                                  "segment %" PRIu64 ": its footer and its data differ at LSN "
                                  "%" PRIu64,
                                  from->segment, kept->lsn);
    }
    if (status != SP_OK)
        return status;
    struct sp_place place = sp_batch_add(&w->batch, &record);
    if (w->batch.failed)
        return sp_error_set(error, SP_NO_MEMORY, w->v->name, "a batch cannot be built");
    place.segment = w->segment.segment;
    place.generation = w->segment.generation;
    place.block += w->segment.data_blocks;
    sp_footer_builder_record(w->footer, &record, &place);
    w->at++;
    return SP_OK;
}

static enum sp_status write_records(struct sp_rewrite *w, struct sp_error *error)
{
    enum sp_status status = SP_OK;
    if (w->at == w->plan.kept_count) {
        w->phase = FOOTER;
        return SP_OK;
    }
    if (w->batches_left == 0)
        return sp_error_set(error, SP_CORRUPT, w->v->name,
                            "segment %" PRIu64 " has records and no batches", w->segment.segment);
    sp_batch_reset(&w->batch);
    while (status == SP_OK && w->at < w->plan.kept_count &&
           (w->batch.stream_bytes < w->batch_bytes || w->batches_left == 1))
        status = next_record(w, error);
    if (status != SP_OK)
        return status;
    struct sp_block_header first = {.volume = w->v->id,
                                    .epoch_id = w->head.epoch_id,
                                    .epoch_counter = w->head.epoch_counter,
                                    .segment = w->segment.segment,
                                    .generation = w->segment.generation,
                                    .index = w->segment.data_blocks,
                                    .batch = w->next_batch++,
                                    .chain = w->chain};
    uint32_t count = sp_batch_blocks(&w->batch);
    w->batches_left--;
    w->chain = sp_batch_finish(&w->batch, &first);
    status = put_all(w, w->segment.data_blocks, w->batch.blocks, count, error);
    if (status != SP_OK)
        return status;
    sp_footer_builder_blocks(w->footer, w->batch.blocks, count);
    w->step_bytes += (uint64_t)count * SP_BLOCK_BYTES; /* read, too */
    w->segment.data_blocks += count;
    return sp_block_read(w->batch.blocks + (size_t)(count - 1) * SP_BLOCK_BYTES, &w->last);
}

/* ---- Footer, verification, trailer ---- */

/* All but the trailer, in whose place there are zeros; and the files' final length. */
static enum sp_status write_footer(struct sp_rewrite *w, struct sp_error *error)
{
    struct sp_volume_segment *s = &w->segment;
    struct sp_volume_member *m;
    uint8_t trailer[SP_BLOCK_BYTES];
    uint32_t count;
    enum sp_status status = sp_footer_builder_finish(w->footer, &w->last, w->chain,
                                                     &w->footer_blocks, &count, &w->trailer);
    if (status != SP_OK)
        return sp_error_set(error, status, w->v->name, "out of memory");
    sp_assert(w->trailer.data_blocks == s->data_blocks);
    uint8_t *last = w->footer_blocks + (size_t)(count - 1) * SP_BLOCK_BYTES;
    memcpy(trailer, last, sizeof trailer);
    memset(last, 0, SP_BLOCK_BYTES);
    status = put_all(w, s->data_blocks, w->footer_blocks, count, error);
    if (w->leaked)
        return status; /* whoever reads it must not find a trailer */
    memcpy(last, trailer, sizeof trailer);
    s->footer_blocks = count;
    s->digest = w->trailer.digest;
    for (uint32_t i = 0; status == SP_OK && (m = next_target(w, &i)); i++) {
        struct sp_error why = {0};
        status =
            m->unit->ops->seal(m->unit, s->segment, s->generation, s->data_blocks + count, &why);
        if (status == SP_OK)
            continue;
        see_to(w, m, status, &why);
        *error = why;
    }
    if (status == SP_OK)
        w->phase = VERIFY;
    sp_verify_begin(&w->verify);
    return status;
}

void sp_verify_begin(struct sp_verify *verify)
{
    verify->block = 0;
    sp_digest_init(&verify->digest);
}

enum sp_status sp_verify_step(struct sp_volume *v, const struct sp_volume_member *m,
                              const struct sp_volume_segment *s, bool with_trailer,
                              struct sp_verify *verify, struct sp_error *error)
{
    const uint32_t total = s->data_blocks + s->footer_blocks - (with_trailer ? 0 : 1);
    uint32_t count = total - verify->block < SP_COMPACT_SLICE_BLOCKS ? total - verify->block
                                                                     : SP_COMPACT_SLICE_BLOCKS;
    uint8_t *blocks = aligned_alloc(SP_BLOCK_BYTES, (size_t)(count + 1) * SP_BLOCK_BYTES);
    if (!blocks)
        return sp_error_set(error, SP_NO_MEMORY, v->name, "out of memory");
    enum sp_status status =
        m->unit->ops->read(m->unit, s->segment, s->generation, verify->block, blocks, count, error);
    for (uint32_t i = 0; i < count && status == SP_OK; i++, verify->block++) {
        const uint8_t *block = blocks + (size_t)i * SP_BLOCK_BYTES;
        if (!sp_volume_is_block_of(v, s, verify->block, block))
            status =
                sp_error_set(error, SP_CORRUPT, m->name,
                             "segment %" PRIu64 ".%u block %" PRIu32 ": it is not what was written",
                             s->segment, s->generation, verify->block);
        else if (verify->block < s->data_blocks)
            sp_digest_update(&verify->digest, sp_slice(block, SP_BLOCK_HEADER_BYTES));
    }
    free(blocks);
    if (status != SP_OK || verify->block < total)
        return status;
    struct sp_digest digest;
    sp_digest_final(&verify->digest, &digest);
    /* The headers have the CRCs of their blocks: with them all is what it was. */
    return memcmp(&digest, &s->digest, sizeof digest) == 0
               ? SP_EOF
               : sp_error_set(error, SP_CORRUPT, m->name,
                              "segment %" PRIu64 ".%u: its digest is another", s->segment,
                              s->generation);
}

static enum sp_status verify_some(struct sp_rewrite *w, struct sp_error *error)
{
    struct sp_volume_member *m = next_target(w, &w->verified);
    struct sp_error why = {0};
    if (!m) {
        w->phase = TRAILER;
        return count_targets(w) ? SP_OK : SP_UNAVAILABLE;
    }
    enum sp_status status = sp_verify_step(w->v, m, &w->segment, false, &w->verify, &why);
    w->step_bytes += (uint64_t)SP_COMPACT_SLICE_BLOCKS * SP_BLOCK_BYTES;
    if (status == SP_EOF) {
        w->verified++;
        sp_verify_begin(&w->verify);
        return SP_OK;
    }
    if (status == SP_OK)
        return SP_OK;
    /* It said that it had stored what it does not have. */
    *error = why;
    if (status != SP_NO_MEMORY)
        see_to(w, m, SP_IO, &why);
    return status;
}

/* From the first of these on it is the log, come what may. */
static enum sp_status write_trailers(struct sp_rewrite *w, struct sp_error *error)
{
    struct sp_volume_segment *s = &w->segment;
    struct sp_volume_member *m;
    uint32_t written = 0;
    uint8_t *block = aligned_alloc(SP_BLOCK_BYTES, SP_BLOCK_BYTES);
    if (!block)
        return sp_error_set(error, SP_NO_MEMORY, w->v->name, "out of memory");
    memcpy(block, w->footer_blocks + (size_t)(s->footer_blocks - 1) * SP_BLOCK_BYTES,
           SP_BLOCK_BYTES);
    w->phase = DONE;
    for (uint32_t i = 0; (m = next_target(w, &i)); i++) {
        struct sp_error why = {0};
        enum sp_status status = put(w, m, s->data_blocks + s->footer_blocks - 1, block, 1, &why);
        if (status == SP_OK) {
            written++;
            continue;
        }
        /* Whatever it was: the block may be there, and so it must be out. */
        *error = why;
        see_to(w, m, status == SP_NO_SPACE || status == SP_NO_MEMORY ? SP_IO : status, &why);
    }
    if (w->leaked)
        sp_log_abandon(block);
    else
        free(block);
    s->sealed = true;
    return written ? SP_EOF : SP_UNAVAILABLE;
}

enum sp_status sp_rewrite_step(struct sp_rewrite *w, struct sp_volume_segment *ret_segment,
                               struct sp_error *error)
{
    enum sp_status status = SP_OK;
    bool lacking = false;
    for (uint32_t i = 0; i < w->v->members_count; i++)
        lacking |= w->v->members[i].state == SP_UNIT_REPLICA && w->v->members[i].lacks;
    *ret_segment = w->segment;
    if (lacking || w->epoch_id != w->v->epoch_id)
        return sp_error_set(error, SP_UNAVAILABLE, w->v->name, "its units have changed");
    w->step_bytes = 0;
    switch (w->phase) {
    case HEAD:
        status = write_head(w, error);
        break;
    case RECORDS:
        status = write_records(w, error);
        break;
    case FOOTER:
        status = write_footer(w, error);
        break;
    case VERIFY:
        status = verify_some(w, error);
        break;
    case TRAILER:
        status = write_trailers(w, error);
        break;
    case DONE:
        status = SP_EOF;
        break;
    }
    *ret_segment = w->segment;
    return status;
}
