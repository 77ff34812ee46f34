/* Segments into the index: rolling forward, rebuilding, and reading blocks verified on the way. */
#include "base/log.h"
#include "base/time.h"
#include "store/breakage.h"
#include "store/checkpoint.h"
#include "store/parity.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define READ_BLOCKS 256U /* 1 MiB at a time */

/* ---- Verified blocks ---- */

bool sp_volume_is_block_of(const struct sp_volume *v, const struct sp_volume_segment *segment,
                           uint32_t index, const uint8_t *block)
{
    struct sp_block_header h;
    if (SP_BREAK(no_verify))
        return true;
    return sp_block_read(block, &h) == SP_OK && sp_uuid_eq(&h.volume, &v->id) &&
           h.epoch_id == segment->epoch_id && h.segment == segment->segment &&
           h.generation == segment->generation && h.index == index &&
           !(h.flags & SP_BLOCK_FOOTER) == (index < segment->data_blocks);
}

bool sp_volume_is_misdirected(const struct sp_volume *v, const struct sp_volume_segment *segment,
                              uint32_t index, const uint8_t *block)
{
    struct sp_block_header h;
    return !sp_volume_is_block_of(v, segment, index, block) && sp_block_read(block, &h) == SP_OK;
}

/* Replicas that had the segment from the epoch in which it was written come first. Others may have
 * blocks of an attempt that failed, valid and in their place and yet not the log's: they are asked
 * only for what nobody else has. */
static unsigned reading_rank(const struct sp_volume_member *m,
                             const struct sp_volume_segment *segment)
{
    switch (m->state) {
    case SP_UNIT_REPLICA:
        return m->from_lsn <= segment->first_lsn ? 0 : 1;
    case SP_UNIT_SPARE:
        return 1;
    case SP_UNIT_STALE:
        return 2;
    case SP_UNIT_EJECTED:
        return 3;
    case SP_UNIT_ABSENT:
        return 4; /* it may be back, and nobody has looked yet */
    default:
        return 5;
    }
}

/* A replica that should have the block has not: counted, and noted to be mended. block: what it has
 * there; NULL: it cannot be read. */
static void found_bad(struct sp_volume *v, struct sp_volume_member *m,
                      const struct sp_volume_segment *segment, uint32_t index, const uint8_t *block)
{
    m->blocks_bad++;
    if (block && sp_volume_is_misdirected(v, segment, index, block)) {
        m->blocks_misdirected++;
        v->blocks_misdirected++;
    }
    sp_repair_note(v, m, segment, index);
}

struct sp_unit *sp_volume_reading_unit(struct sp_volume *v, const struct sp_volume_segment *segment,
                                       uint32_t member, unsigned rank)
{
    const struct sp_volume_member *m = &v->members[member];
    pthread_mutex_lock(&v->lock);
    struct sp_unit *unit = reading_rank(m, segment) == rank ? m->unit : NULL;
    pthread_mutex_unlock(&v->lock);
    return unit;
}

/* Under units_lock. *ret_good: so many from the first on are in place, in any case. */
static enum sp_status read_blocks(struct sp_volume *v, const struct sp_volume_segment *segment,
                                  uint32_t first, uint8_t *ret_blocks, uint32_t count,
                                  const struct sp_volume_member *except, uint32_t *ret_good,
                                  struct sp_error *error)
{
    uint32_t good = 0, rounds = 0; /* blocks [first, first + good) are in place */
    uint32_t bad = 0, bad_of[SP_VOLUME_UNITS_MAX] = {0};
    uint32_t met[SP_VOLUME_UNITS_MAX] = {0}; /* up to where each unit's blocks were judged */
    struct sp_error last = {0};
    for (unsigned rank = 0; rank <= 4 && good < count; rank++) {
        for (uint32_t i = 0; i < v->members_count && good < count; i++) {
            struct sp_volume_member *m = &v->members[i];
            struct sp_unit *unit = m != except ? sp_volume_reading_unit(v, segment, i, rank) : NULL;
            if (!unit)
                continue;
            uint32_t before = good, got = count - good;
            enum sp_status status =
                unit->ops->read(unit, segment->segment, segment->generation, first + good,
                                ret_blocks + (size_t)good * SP_BLOCK_BYTES, got, &last);
            /* One bad block must not hide the good ones around it: what the next unit cannot give
             * whole is asked for block by block. */
            if (status != SP_OK && got > 1) {
                got = 1;
                status = unit->ops->read(unit, segment->segment, segment->generation, first + good,
                                         ret_blocks + (size_t)good * SP_BLOCK_BYTES, 1, &last);
            }
            while (status == SP_OK && good < count && good < before + got &&
                   sp_volume_is_block_of(v, segment, first + good,
                                         ret_blocks + (size_t)good * SP_BLOCK_BYTES))
                good++;
            bool is_bad = good < before + got &&
                          (status == SP_OK || status == SP_IO || status == SP_NOT_FOUND);
            /* All that was read is looked at, but nothing twice: rounds meet it again. */
            uint32_t end = status == SP_OK ? before + got : good + 1;
            for (uint32_t k = good < met[i] ? met[i] : good; is_bad && k < end; k++) {
                const uint8_t *block =
                    status == SP_OK ? ret_blocks + (size_t)k * SP_BLOCK_BYTES : NULL;
                met[i] = k + 1;
                if (block && k > good && sp_volume_is_block_of(v, segment, first + k, block))
                    continue;
                bad += status == SP_OK;
                bad_of[i] += rank == 0;
                if (rank == 0)
                    found_bad(v, m, segment, first + k, block);
            }
            if (good > before && good < count) {
                rank = 0; /* a twin for this block, then from the beginning for the rest */
                i = UINT32_MAX;
                if (++rounds > 4 * (count + v->members_count))
                    break;
            }
        }
    }
    *ret_good = good;
    if (good == count) {
        v->blocks_bad += bad;
        for (uint32_t i = 0; i < v->members_count; i++)
            v->members[i].blocks_served += bad_of[i];
        return SP_OK;
    }
    enum sp_status status = bad ? SP_CORRUPT : SP_NOT_FOUND;
    return sp_error_set(error, status, v->name, "segment %" PRIu64 " block %" PRIu32 ": %s",
                        segment->segment, first + good,
                        bad           ? "no unit has it sound"
                        : last.why[0] ? last.why
                                      : "no unit has it");
}

enum sp_status sp_volume_read_twins(struct sp_volume *v, const struct sp_volume_segment *segment,
                                    uint32_t first, uint8_t *ret_blocks, uint32_t count,
                                    const struct sp_volume_member *except, struct sp_error *error)
{
    enum sp_status status = SP_OK;
    pthread_rwlock_rdlock(&v->units_lock);
    for (uint32_t done = 0, got = 1; done < count && got; done += got) {
        uint8_t *to = ret_blocks + (size_t)done * SP_BLOCK_BYTES;
        status = read_blocks(v, segment, first + done, to, count - done, except, &got, error);
        if (status == SP_OK)
            break;
        /* What no unit has sound may be had from the others and their parity. */
        done += got;
        to += (size_t)got * SP_BLOCK_BYTES;
        got = sp_parity_rebuild(v, segment, first + done, to, count - done, except);
        if (got == count - done)
            status = SP_OK;
    }
    pthread_rwlock_unlock(&v->units_lock);
    return status;
}

enum sp_status sp_volume_read_blocks(struct sp_volume *v, const struct sp_volume_segment *segment,
                                     uint32_t first, uint8_t *ret_blocks, uint32_t count,
                                     struct sp_error *error)
{
    return sp_volume_read_twins(v, segment, first, ret_blocks, count, NULL, error);
}

static enum sp_status read_segment(struct sp_volume *v, const struct sp_volume_segment *segment,
                                   uint8_t **ret_blocks, struct sp_error *error)
{
    uint8_t *blocks = malloc((size_t)segment->data_blocks * SP_BLOCK_BYTES);
    if (!blocks)
        return sp_error_set(error, SP_NO_MEMORY, v->name, "no memory to read a segment");
    for (uint32_t at = 0; at < segment->data_blocks; at += READ_BLOCKS) {
        uint32_t n =
            segment->data_blocks - at < READ_BLOCKS ? segment->data_blocks - at : READ_BLOCKS;
        enum sp_status status =
            sp_volume_read_blocks(v, segment, at, blocks + (size_t)at * SP_BLOCK_BYTES, n, error);
        if (status != SP_OK) {
            sp_error_todo(error,
                          "LSNs %" PRIu64 " to %" PRIu64
                          " lie in this segment; attach the units that have it, or "
                          "use `sternpost recover` on what there is",
                          segment->first_lsn, segment->last_lsn);
            free(blocks);
            return status;
        }
    }
    *ret_blocks = blocks;
    return SP_OK;
}

/* ---- Records of a segment, from its footer or from its data ---- */

struct source {
    struct sp_footer_reader *footer;
    struct sp_walker walker;
    uint8_t *blocks;
};

/* A sealed segment's footer says all an index needs, in a fraction of the bytes. */
static bool open_footer(struct sp_volume *v, const struct sp_volume_segment *segment,
                        struct source *ret)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_unit *unit = v->members[i].unit;
        if (!unit)
            continue;
        uint32_t blocks_count = segment->footer_blocks;
        uint8_t *blocks = malloc((size_t)blocks_count * SP_BLOCK_BYTES);
        struct sp_block_header header;
        struct sp_trailer trailer;
        bool good = blocks &&
                    unit->ops->read(unit, segment->segment, segment->generation,
                                    segment->data_blocks, blocks, blocks_count, NULL) == SP_OK &&
                    sp_trailer_read(blocks + (size_t)(blocks_count - 1) * SP_BLOCK_BYTES, &header,
                                    &trailer) == SP_OK &&
                    sp_uuid_eq(&header.volume, &v->id) && header.segment == segment->segment &&
                    header.generation == segment->generation &&
                    header.epoch_id == segment->epoch_id &&
                    trailer.data_blocks == segment->data_blocks &&
                    trailer.table_blocks + 1 == blocks_count &&
                    memcmp(&trailer.digest, &segment->digest, sizeof trailer.digest) == 0 &&
                    sp_footer_reader_new(blocks, &header, &trailer, &ret->footer) == SP_OK;
        free(blocks);
        if (good)
            return true;
    }
    return false;
}

static enum sp_status source_open(struct sp_volume *v, const struct sp_volume_segment *segment,
                                  bool with_blocks, struct source *ret, struct sp_error *error)
{
    *ret = (struct source){0};
    if (!with_blocks && segment->footer_blocks && open_footer(v, segment, ret))
        return SP_OK;
    enum sp_status status = read_segment(v, segment, &ret->blocks, error);
    if (status != SP_OK)
        return status;
    struct sp_segment_id id = {v->id, segment->segment, segment->generation};
    sp_walker_init(&ret->walker, ret->blocks, segment->data_blocks, 0, &id);
    return SP_OK;
}

static enum sp_status source_next(struct source *s, struct sp_record *ret_record,
                                  struct sp_place *ret_place)
{
    if (s->footer)
        return sp_footer_reader_next(s->footer, ret_record, ret_place);
    return sp_walker_next(&s->walker, ret_record, ret_place) ? SP_OK : SP_EOF;
}

static void source_close(struct source *s)
{
    if (s->footer)
        sp_footer_reader_free(s->footer);
    else if (s->blocks)
        sp_walker_release(&s->walker);
    free(s->blocks);
}

enum sp_status sp_volume_each_record(struct sp_volume *v, const struct sp_volume_segment *segment,
                                     enum sp_status (*each)(void *context,
                                                            const struct sp_record *record,
                                                            const struct sp_place *place),
                                     void *context, struct sp_error *error)
{
    struct source source;
    struct sp_record record;
    struct sp_place place;
    enum sp_status status = source_open(v, segment, false, &source, error);
    if (status != SP_OK)
        return status;
    while ((status = source_next(&source, &record, &place)) == SP_OK &&
           (status = each(context, &record, &place)) == SP_OK)
        continue;
    source_close(&source);
    return status == SP_EOF ? SP_OK : status;
}

/* ---- Into the index ---- */

static enum sp_status replay_segment(struct sp_volume *v, const struct sp_volume_segment *segment,
                                     uint64_t after_lsn, const struct sp_log_end *end,
                                     struct sp_error *error)
{
    struct source source;
    struct sp_record record;
    struct sp_place place;
    enum sp_status status = source_open(v, segment, false, &source, error);
    if (status != SP_OK)
        return status;
    status = sp_apply_begin(v->index, true, &v->apply);
    while (status == SP_OK && (status = source_next(&source, &record, &place)) == SP_OK)
        if (record.lsn > after_lsn)
            status = sp_apply_record(&v->apply, &record, &place);
    source_close(&source);
    bool read = status == SP_EOF;
    v->apply.position.undecided = !v->writable;
    if (read) {
        status = segment->first_lsn > after_lsn ? sp_volume_redirected(&v->apply, segment) : SP_OK;
        if (status == SP_OK)
            status = sp_apply_commit(&v->apply, end);
    }
    if (status != SP_OK)
        sp_apply_abort(&v->apply);
    if (status == SP_OK)
        return SP_OK;
    if (read)
        sp_error_set(error, status, "index", "it cannot be written: %s", sp_status_name(status));
    else
        sp_error_set(error, status, "index",
                     "segment %" PRIu64 ": a record (%s) cannot be applied: %s", segment->segment,
                     sp_record_type_name(record.type), sp_status_name(status));
    sp_error_todo(error, status == SP_NO_SPACE
                             ? "make room in the state directory"
                             : "this is a defect or a later format; the log itself is untouched");
    return status;
}

/* Where a segment ends, in the words of its successor's head, or of the volume. */
static struct sp_log_end end_of(const struct sp_volume *v, size_t i)
{
    const struct sp_volume_segment *s = &v->segments[i];
    if (i + 1 == v->segments_count)
        return v->end;
    return (struct sp_log_end){.epoch_id = s->epoch_id,
                               .segment = s->segment,
                               .generation = s->generation,
                               .blocks = s->data_blocks,
                               .lsn = s->last_lsn};
}

/* Whether the index stands on this log: the block it stands behind is there, with the same chain
 * value. */
static bool position_holds(struct sp_volume *v, const struct sp_position *position,
                           size_t *ret_segment)
{
    for (size_t i = 0; i < v->segments_count; i++) {
        const struct sp_volume_segment *s = &v->segments[i];
        if (s->segment != position->end.segment)
            continue;
        uint8_t block[SP_BLOCK_BYTES];
        if (s->generation != position->end.generation || s->epoch_id != position->end.epoch_id ||
            position->end.blocks == 0 || position->end.blocks > s->data_blocks ||
            sp_volume_read_blocks(v, s, position->end.blocks - 1, block, 1, NULL) != SP_OK)
            return false;
        *ret_segment = i;
        /* Positions set by a replay of whole segments carry no chain value: the segment's end is
         * proof enough. */
        return position->end.chain == 0 ? position->end.blocks == s->data_blocks
                                        : position->end.chain == sp_block_chain(block);
    }
    return false;
}

/* How far the index has come. SP_NOT_FOUND: it is of no use, and made again. SP_UNAVAILABLE: it has
 * seen what the units that are here do not have. */
static enum sp_status index_stands(struct sp_volume *v, size_t *ret_segment, uint64_t *ret_lsn,
                                   struct sp_error *error)
{
    struct sp_read read;
    struct sp_position position;
    enum sp_status status = sp_read_begin(v->index, &read);
    if (status != SP_OK)
        return SP_NOT_FOUND;
    status = sp_index_position(&read, &position);
    sp_read_end(&read);
    if (status != SP_OK || position.end.segment == 0)
        return SP_NOT_FOUND;
    if (position.end.lsn > v->end.lsn && position.undecided)
        return SP_NOT_FOUND;
    if (position.end.lsn > v->end.lsn) {
        sp_error_set(error, SP_UNAVAILABLE, v->name,
                     "LSNs %" PRIu64 " to %" PRIu64
                     " were stored, the index has them, and no unit that is here does",
                     v->end.lsn + 1, position.end.lsn);
        sp_error_todo(error,
                      "attach the units that are absent; to go on without what is lacking, run "
                      "`sternpost serve --accept-loss %s`",
                      v->name);
        return SP_UNAVAILABLE;
    }
    *ret_lsn = position.end.lsn;
    return position_holds(v, &position, ret_segment) ? SP_OK : SP_NOT_FOUND;
}

static enum sp_status replay(struct sp_volume *v, size_t first, uint64_t lsn,
                             struct sp_error *error)
{
    enum sp_status status = SP_OK;
    uint64_t done = 0, total = 0, begun_ms = sp_now_ms();
    for (size_t i = first; i < v->segments_count; i++)
        total += (uint64_t)v->segments[i].data_blocks * SP_BLOCK_BYTES;
    for (size_t i = first; i < v->segments_count && status == SP_OK; i++) {
        struct sp_log_end end = end_of(v, i);
        if (v->segments[i].last_lsn > lsn)
            status = replay_segment(v, &v->segments[i], lsn, &end, error);
        done += (uint64_t)v->segments[i].data_blocks * SP_BLOCK_BYTES;
        /* Not at once: as long as a snapshot is held the file grows with every transaction. */
        if (status == SP_OK && sp_now_ms() - begun_ms >= SP_CHECKPOINT_MS &&
            sp_index_checkpoint(v->index, v->bytes, v->threaded) != SP_OK)
            status = sp_error_set(error, SP_IO, "index", "it cannot be synced");
        if (v->progress)
            v->progress(v->progress_context, done, total);
    }
    return status;
}

enum sp_status sp_volume_open_index(struct sp_volume *v, const struct sp_volume_config *config,
                                    struct sp_index_start *ret_start, struct sp_error *error)
{
    *ret_start = (struct sp_index_start){.path = config->index_path,
                                         .map_bytes = config->index_map_bytes,
                                         .rebuild = config->index_rebuild};
    if (config->index_rebuild)
        return SP_OK; /* it is not believed in anything, and asked once the log is found */
    enum sp_status status = sp_index_open(config->index_path, config->index_map_bytes, &v->index,
                                          &ret_start->again, error);
    /* What is damaged is not worth an error: it is made again. */
    ret_start->again |= status != SP_OK;
    return status == SP_NO_SPACE ? status : SP_OK;
}

enum sp_status sp_volume_place_index(struct sp_volume *v, struct sp_index_start *start,
                                     struct sp_error *error)
{
    enum sp_status status = SP_OK;
    /* One that is to be made again is asked first what it has seen: whoever throws it away must not
     * lose by that what nobody else knows of. */
    if (start->rebuild)
        status = sp_index_open(start->path, start->map_bytes, &v->index, &start->again, error);
    if (status == SP_NO_SPACE)
        return status;
    start->again |= status != SP_OK;
    if (!start->again)
        status = index_stands(v, &start->segment, &start->lsn, error);
    if (status == SP_UNAVAILABLE && !sp_loss_pass(v, error))
        return status;
    start->again |= start->rebuild || status != SP_OK;
    return SP_OK;
}

static enum sp_status make_again(struct sp_volume *v, const struct sp_index_start *start,
                                 struct sp_error *error)
{
    bool fresh;
    uint64_t begun_ms = sp_now_ms(), blocks = 0;
    sp_log(SP_LOG_INFO, "index.rebuild", "volume=%s segments=%zu lsn=%" PRIu64, v->name,
           v->segments_count, v->end.lsn);
    sp_index_close(v->index, false);
    v->index = NULL;
    for (size_t i = 0; i < v->segments_count; i++) {
        v->segments[i].known = false;
        blocks += v->segments[i].data_blocks;
    }
    enum sp_status status = sp_index_destroy(start->path, error);
    if (status == SP_OK)
        status = sp_index_open(start->path, start->map_bytes, &v->index, &fresh, error);
    if (status == SP_OK)
        status = replay(v, 0, 0, error);
    if (status == SP_OK)
        sp_log(SP_LOG_INFO, "index.rebuilt",
               "volume=%s segments=%zu lsn=%" PRIu64 " bytes=%" PRIu64 " ms=%" PRIu64, v->name,
               v->segments_count, v->end.lsn, blocks * SP_BLOCK_BYTES, sp_now_ms() - begun_ms);
    return status;
}

/* What is known of the segments by now, so that the next start need not read it. */
static enum sp_status remember_segments(struct sp_volume *v, struct sp_error *error)
{
    size_t unknown = 0;
    for (size_t i = 0; i + 1 < v->segments_count; i++)
        unknown += v->segments[i].sealed && !v->segments[i].known;
    if (unknown == 0)
        return SP_OK;
    enum sp_status status = sp_apply_begin(v->index, true, &v->apply);
    if (status == SP_OK) {
        struct sp_log_end end = v->apply.position.end;
        status = sp_segments_remember(v, true);
        if (status == SP_OK)
            status = sp_apply_commit(&v->apply, &end);
        else
            sp_apply_abort(&v->apply);
    }
    return status == SP_OK ? SP_OK
                           : sp_error_set(error, status, "index", "it cannot be written: %s",
                                          sp_status_name(status));
}

enum sp_status sp_volume_roll_index(struct sp_volume *v, const struct sp_index_start *start,
                                    struct sp_error *error)
{
    bool again = start->again;
    if (!again && sp_volume_went_back(v)) {
        sp_log(SP_LOG_WARN, "index.older", "volume=%s lsn=%" PRIu64, v->name, v->end.lsn);
        again = true;
    }
    enum sp_status status =
        again ? make_again(v, start, error) : replay(v, start->segment, start->lsn, error);
    if (status == SP_OK && !again)
        status = sp_volume_redirect_now(v, error);
    if (status != SP_OK && !again && status != SP_NO_SPACE && status != SP_NO_MEMORY) {
        sp_log(SP_LOG_WARN, "index.damaged", "volume=%s lsn=%" PRIu64 " why=%s", v->name,
               v->end.lsn, SP_LOG_QUOTED(error->why));
        status = make_again(v, start, error);
    }
    /* Without an epoch of its own a start may have taken a rewritten segment from the only replica
     * that got its trailer: the next one has to look at the others again (sp_volume_has_trailer).
     */
    return status == SP_OK && v->writable ? remember_segments(v, error) : status;
}

enum sp_status sp_volume_rebuild_footer(struct sp_volume *v,
                                        const struct sp_volume_segment *segment,
                                        struct sp_error *error)
{
    struct source source;
    struct sp_record record;
    struct sp_place place;
    enum sp_status status = source_open(v, segment, true, &source, error);
    if (status != SP_OK)
        return status;
    sp_footer_builder_reset(v->footer);
    sp_footer_builder_blocks(v->footer, source.blocks, segment->data_blocks);
    if (sp_block_read(source.blocks + (size_t)(segment->data_blocks - 1) * SP_BLOCK_BYTES,
                      &v->last_header) != SP_OK)
        status = SP_CORRUPT;
    while (status == SP_OK && source_next(&source, &record, &place) == SP_OK) {
        struct sp_touched touched = {record.account, record.mailbox};
        sp_footer_builder_record(v->footer, &record, &place);
        if (record.mailbox && record.type != SP_RECORD_CATALOGUE)
            status = sp_touched_set_add(v->touched, &touched);
    }
    source_close(&source);
    return status;
}
