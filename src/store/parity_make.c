/* Making sidecars, and making them again. One at a time, by the committer, in slices between
 * batches as all tending is (tend.c).
 *
 * A sidecar is made by groups of neighbouring columns: row after row of the group is read, verified
 * as any block, and added to the group's parity, which is then written row by row. So what is read
 * and written in one slice lies together, and what is held is one group. The last block of the file
 * is written when all others are durable: a sidecar that has its first and its last block has all
 * of them, unless it rotted since; a scrub looks at them all.
 *
 * Where a block of the segment is to be had from no unit (nor from the parity there is), its group
 * stays as it is, and the others get theirs.
 */
#include "base/log.h"
#include "base/time.h"
#include "store/parity.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#define SLICE_BLOCKS 256U  /* read or written at once */
#define GROUP_BLOCKS 2048U /* of parity that are held: 8 MiB */
#define LOOKS_MAX    64U   /* segments whose sidecar is looked for in one step */
#define SWEEPS_MAX   16U   /* files removed in one step */
#define PAUSE_MS     600000U

struct sp_parity_job {
    struct sp_volume_member *member;
    struct sp_unit *unit;
    struct sp_parity_header header; /* of the blocks to be written */
    struct sp_parity_coder *coder;
    uint32_t columns;
    uint32_t column, width; /* the group */
    uint32_t row;           /* the data row to be read next, or behind them all */
    uint32_t parity_row;    /* to be written next */
    uint8_t *slice;         /* a row of the group */
    uint8_t *sums;          /* parity_rows times that */
    bool again;             /* it was there, and not sound */
    uint32_t written, left_out;
};

static void job_free(struct sp_parity_job *job)
{
    if (!job)
        return;
    sp_parity_coder_free(job->coder);
    free(job->slice);
    free(job->sums);
    free(job);
}

static uint8_t *sum_of(const struct sp_parity_job *job, uint32_t parity_row)
{
    return job->sums + (size_t)parity_row * job->width * SP_BLOCK_BYTES;
}

uint32_t sp_parity_blocks_of(const struct sp_volume_member *m,
                             const struct sp_volume_segment *segment)
{
    uint32_t blocks = segment->data_blocks + segment->footer_blocks;
    return m->parity.data_rows && blocks <= SP_PARITY_BLOCKS_MAX
               ? sp_parity_blocks(m->parity, blocks)
               : 0;
}

/* The first segment with this number or a higher one. */
static size_t find_segment(const struct sp_volume *v, uint64_t segment)
{
    size_t low = 0, high = v->segments_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (v->segments[middle].segment < segment)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- Which are lacking ---- */

static bool is_right(const struct sp_volume *v, const struct sp_volume_member *m,
                     const struct sp_volume_segment *segment, uint32_t index, const uint8_t *block)
{
    struct sp_parity_header header;
    return sp_parity_block_read(block, &header) == SP_OK && sp_parity_is_of(v, segment, &header) &&
           header.index == index && sp_parity_shape_eq(header.shape, m->parity);
}

static bool has_sidecar(const struct sp_volume *v, const struct sp_volume_member *m,
                        const struct sp_volume_segment *segment)
{
    uint8_t block[SP_BLOCK_BYTES];
    uint32_t ends[] = {0, sp_parity_blocks_of(m, segment) - 1};
    for (size_t i = 0; i < 2; i++)
        if (m->unit->ops->read(m->unit, segment->segment, segment->generation | SP_UNIT_PARITY,
                               ends[i], block, 1, NULL) != SP_OK ||
            !is_right(v, m, segment, ends[i], block))
            return false;
    return true;
}

static void set_from(struct sp_volume *v, struct sp_volume_member *m, uint64_t from)
{
    pthread_mutex_lock(&v->lock);
    m->parity_from = from;
    pthread_mutex_unlock(&v->lock);
}

uint32_t sp_parity_lacking(struct sp_volume *v, const struct sp_volume_member *m)
{
    pthread_mutex_lock(&v->lock);
    bool none = m->state != SP_UNIT_REPLICA || !m->parity.data_rows;
    uint64_t from = m->parity_from;
    pthread_mutex_unlock(&v->lock);
    pthread_rwlock_rdlock(&v->segments_lock);
    size_t next = find_segment(v, from);
    size_t count = next + 1 < v->segments_count ? v->segments_count - 1 - next : 0;
    pthread_rwlock_unlock(&v->segments_lock);
    return none ? 0 : (uint32_t)count;
}

void sp_parity_look_again(struct sp_volume *v, struct sp_volume_member *m)
{
    set_from(v, m, 0);
    m->parity_swept = false;
}

/* Whether it can be given sidecars now. A unit that lacks segments gets these first. */
static bool is_ready(const struct sp_volume_member *m, uint64_t now)
{
    return m->state == SP_UNIT_REPLICA && m->unit && m->lacks == 0 && m->parity.data_rows &&
           m->paused_ms <= now && m->parity_paused_ms <= now;
}

/* Sidecars whose segment is gone: it was compacted or removed. */
static void sweep(struct sp_volume *v, struct sp_volume_member *m)
{
    struct sp_unit_segment *list = NULL;
    struct sp_error error = {0};
    size_t count = 0;
    uint32_t removed = 0;
    m->parity_swept = true;
    if (m->unit->ops->list_sidecars(m->unit, &list, &count, &error) != SP_OK)
        return;
    for (size_t i = 0; i < count && removed < SWEEPS_MAX; i++) {
        uint8_t block[SP_BLOCK_BYTES];
        uint32_t generation = list[i].generation & ~SP_UNIT_PARITY;
        size_t k = find_segment(v, list[i].segment);
        if ((k < v->segments_count && v->segments[k].segment == list[i].segment &&
             v->segments[k].generation == generation) ||
            m->unit->ops->read(m->unit, list[i].segment, generation, 0, block, 1, NULL) !=
                SP_NOT_FOUND)
            continue;
        if (m->unit->ops->remove(m->unit, list[i].segment, list[i].generation, &error) != SP_OK)
            break; /* the next write finds what is wrong */
        removed++;
    }
    if (removed == SWEEPS_MAX)
        m->parity_swept = false;
    free(list);
}

/* ---- Beginning ---- */

static void pause_member(struct sp_volume *v, struct sp_volume_member *m, uint64_t now,
                         const char *why)
{
    m->parity_paused_ms = now + PAUSE_MS;
    sp_log(SP_LOG_WARN, "parity.pause", "volume=%s unit=%s why=\"%s\"", v->name, m->name, why);
}

/* Room for a sidecar must not be taken from what mail and epochs need. */
static bool has_room(struct sp_volume *v, const struct sp_volume_member *m, uint32_t blocks)
{
    uint64_t free_bytes;
    return !m->unit->ops->space || m->unit->ops->space(m->unit, &free_bytes, NULL) != SP_OK ||
           free_bytes >= (uint64_t)blocks * SP_BLOCK_BYTES + 2 * v->segment_bytes;
}

static void begin_group(struct sp_parity_job *job)
{
    uint32_t most = GROUP_BLOCKS / job->header.shape.parity_rows, left = job->columns - job->column;
    if (most > SLICE_BLOCKS)
        most = SLICE_BLOCKS;
    job->width = left < most ? left : most;
    job->row = job->parity_row = 0;
    memset(job->sums, 0, (size_t)job->header.shape.parity_rows * job->width * SP_BLOCK_BYTES);
}

static struct sp_parity_job *job_new(const struct sp_volume *v, struct sp_volume_member *m,
                                     const struct sp_volume_segment *segment)
{
    struct sp_parity_job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    *job = (struct sp_parity_job){
        .member = m,
        .unit = m->unit,
        .header = {.volume = v->id,
                   .epoch_id = segment->epoch_id,
                   .segment = segment->segment,
                   .generation = segment->generation,
                   .blocks = segment->data_blocks + segment->footer_blocks,
                   .data_blocks = segment->data_blocks,
                   .shape = m->parity},
    };
    job->columns = sp_parity_columns(m->parity, job->header.blocks);
    uint32_t width = job->columns < SLICE_BLOCKS ? job->columns : SLICE_BLOCKS;
    uint32_t held =
        width * m->parity.parity_rows < GROUP_BLOCKS ? width * m->parity.parity_rows : GROUP_BLOCKS;
    job->coder = sp_parity_coder_new(m->parity);
    job->slice = aligned_alloc(SP_BLOCK_BYTES, (size_t)width * SP_BLOCK_BYTES);
    job->sums = aligned_alloc(SP_BLOCK_BYTES, (size_t)held * SP_BLOCK_BYTES);
    if (!job->coder || !job->slice || !job->sums) {
        job_free(job);
        return NULL;
    }
    begin_group(job);
    return job;
}

static void begin(struct sp_volume *v, struct sp_volume_member *m,
                  const struct sp_volume_segment *segment, uint64_t now)
{
    struct sp_error error = {0};
    uint32_t blocks = sp_parity_blocks_of(m, segment);
    if (!has_room(v, m, blocks)) {
        pause_member(v, m, now, "there is no room for parity beside mail");
        return;
    }
    struct sp_parity_job *job = job_new(v, m, segment);
    if (!job) {
        pause_member(v, m, now, "out of memory");
        return;
    }
    enum sp_status status = m->unit->ops->create(
        m->unit, segment->segment, segment->generation | SP_UNIT_PARITY, blocks, &error);
    job->again = status == SP_EXISTS;
    if (status == SP_OK || status == SP_EXISTS) {
        v->parity_job = job;
        return;
    }
    job_free(job);
    if (status == SP_NO_SPACE)
        pause_member(v, m, now, error.why);
    else
        sp_tend_failed(v, m, status, &error, now);
}

/* false: no unit lacks any. */
static bool begin_next(struct sp_volume *v, uint64_t now)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        if (!is_ready(m, now))
            continue;
        if (!m->parity_swept) {
            sweep(v, m);
            return true;
        }
        size_t at = find_segment(v, m->parity_from), looks = 0;
        for (; at + 1 < v->segments_count && looks < LOOKS_MAX; at++, looks++) {
            const struct sp_volume_segment *segment = &v->segments[at];
            if (sp_parity_blocks_of(m, segment) && !has_sidecar(v, m, segment)) {
                set_from(v, m, segment->segment);
                begin(v, m, segment, now);
                return true;
            }
            set_from(v, m, segment->segment + 1);
        }
        if (looks)
            return true;
    }
    return false;
}

/* ---- A slice ---- */

/* The segment, if all is as it was when the job began. */
static const struct sp_volume_segment *segment_of(const struct sp_volume *v,
                                                  const struct sp_parity_job *job)
{
    const struct sp_volume_member *m = job->member;
    size_t at = find_segment(v, job->header.segment);
    if (m->state != SP_UNIT_REPLICA || m->unit != job->unit || at + 1 >= v->segments_count ||
        !sp_parity_is_of(v, &v->segments[at], &job->header))
        return NULL;
    return &v->segments[at];
}

/* Adds a data row of the group. false: it cannot be had. */
static bool add_row(struct sp_volume *v, struct sp_parity_job *job,
                    const struct sp_volume_segment *segment)
{
    uint64_t first = (uint64_t)job->row * job->columns + job->column;
    uint64_t left = job->header.blocks > first ? job->header.blocks - first : 0;
    uint32_t count = left < job->width ? (uint32_t)left : job->width;
    uint8_t *sums[SP_PARITY_ROWS_MAX];
    struct sp_error why;
    job->row++;
    if (count == 0)
        return true;
    if (sp_volume_read_blocks(v, segment, (uint32_t)first, job->slice, count, &why) != SP_OK)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *block = job->slice + (size_t)i * SP_BLOCK_BYTES;
        struct sp_block_header header;
        if (!sp_parity_covers(block) || sp_block_read(block, &header) != SP_OK)
            return false;
        job->header.epoch_counter = header.epoch_counter;
        sp_parity_mask(block);
    }
    for (uint32_t p = 0; p < job->header.shape.parity_rows; p++)
        sums[p] = sum_of(job, p);
    sp_parity_add(job->coder, job->row - 1, job->slice, (size_t)count * SP_BLOCK_BYTES, sums);
    return true;
}

/* Writes a row of the group's parity, unless it stands there already. */
static enum sp_status write_row(struct sp_volume *v, struct sp_parity_job *job,
                                struct sp_error *error)
{
    uint32_t first = job->parity_row * job->columns + job->column;
    uint32_t generation = job->header.generation | SP_UNIT_PARITY;
    size_t len = (size_t)job->width * SP_BLOCK_BYTES;
    uint8_t *row = sum_of(job, job->parity_row);
    for (uint32_t i = 0; i < job->width; i++) {
        job->header.index = first + i;
        sp_parity_block_write(row + (size_t)i * SP_BLOCK_BYTES, &job->header);
    }
    job->parity_row++;
    uint32_t differ = job->width;
    if (job->again && job->unit->ops->read(job->unit, job->header.segment, generation, first,
                                           job->slice, job->width, NULL) == SP_OK) {
        differ = 0;
        for (size_t at = 0; at < len; at += SP_BLOCK_BYTES)
            differ += memcmp(job->slice + at, row + at, SP_BLOCK_BYTES) != 0;
    }
    if (!differ)
        return SP_OK;
    /* The last block of all by itself: blocks of one write can survive a crash in any order. */
    bool last = first + job->width == job->columns * job->header.shape.parity_rows;
    uint32_t before = job->width - (last && job->width > 1);
    enum sp_status status =
        sp_tend_write(v, job->member, job->header.segment, generation, first, row, before, error);
    if (status == SP_OK && before < job->width)
        status = sp_tend_write(v, job->member, job->header.segment, generation, first + before,
                               row + (size_t)before * SP_BLOCK_BYTES, 1, error);
    if (status == SP_TIMEOUT)
        job->sums = NULL; /* the unit's, for ever */
    if (status == SP_OK) {
        job->written += differ;
        v->parity_written += differ;
        v->parity_mended += job->again ? differ : 0;
    }
    return status;
}

static enum sp_status finish(struct sp_volume *v, struct sp_parity_job *job, struct sp_error *error)
{
    enum sp_status status = SP_OK;
    if (job->left_out < job->columns)
        status = job->unit->ops->seal(
            job->unit, job->header.segment, job->header.generation | SP_UNIT_PARITY,
            sp_parity_blocks(job->header.shape, job->header.blocks), error);
    if (status == SP_NOT_FOUND && job->left_out)
        status = SP_OK; /* its end was left out */
    if (status != SP_OK)
        return status;
    sp_log(job->left_out ? SP_LOG_ERROR : SP_LOG_INFO, "parity.made",
           "volume=%s unit=%s segment=%" PRIu64 " blocks=%u again=%d columns_left_out=%u", v->name,
           job->member->name, job->header.segment, job->written, job->again, job->left_out);
    if (job->member->parity_from <= job->header.segment)
        set_from(v, job->member, job->header.segment + 1);
    return SP_OK;
}

static void job_ends(struct sp_volume *v)
{
    job_free(v->parity_job);
    v->parity_job = NULL;
}

static void job_failed(struct sp_volume *v, enum sp_status status, const struct sp_error *error,
                       uint64_t now)
{
    struct sp_volume_member *m = v->parity_job->member;
    uint64_t segment = v->parity_job->header.segment;
    uint32_t generation = v->parity_job->header.generation | SP_UNIT_PARITY;
    job_ends(v);
    if (status == SP_NOT_FOUND)
        return; /* somebody removed the file: it is begun anew */
    if (status != SP_NO_SPACE && status != SP_NO_MEMORY) {
        sp_tend_failed(v, m, status, error, now);
        return;
    }
    struct sp_error why;
    pause_member(v, m, now, error->why);
    if (m->unit->ops->remove(m->unit, segment, generation, &why) != SP_OK)
        sp_log(SP_LOG_WARN, "parity.remove", "volume=%s unit=%s segment=%" PRIu64 " why=\"%s\"",
               v->name, m->name, segment, why.why);
}

bool sp_parity_step(struct sp_volume *v, uint64_t now)
{
    struct sp_parity_job *job = v->parity_job;
    struct sp_error error = {0};
    enum sp_status status = SP_OK;
    if (!job)
        return begin_next(v, now);
    const struct sp_volume_segment *segment = segment_of(v, job);
    if (!segment) {
        job_ends(v);
        return true;
    }
    if (job->row < job->header.shape.data_rows) {
        if (!add_row(v, job, segment)) {
            job->left_out += job->width;
            job->row = job->header.shape.data_rows;
            job->parity_row = job->header.shape.parity_rows;
        }
    } else if (job->parity_row < job->header.shape.parity_rows) {
        status = write_row(v, job, &error);
    } else if (job->column + job->width < job->columns) {
        job->column += job->width;
        begin_group(job);
    } else {
        status = finish(v, job, &error);
        if (status == SP_OK)
            job_ends(v);
    }
    if (status != SP_OK)
        job_failed(v, status, &error, now);
    return true;
}

bool sp_parity_verify(struct sp_volume *v, struct sp_volume_member *m,
                      const struct sp_volume_segment *segment, uint32_t first, uint32_t count)
{
    uint32_t bad = 0;
    uint64_t now = sp_now_ms();
    if (v->parity_job)
        return false;
    if (!is_ready(m, now) || segment->segment >= m->parity_from)
        return true; /* it is not made yet */
    uint8_t *blocks = malloc((size_t)count * SP_BLOCK_BYTES);
    if (!blocks)
        return true;
    uint32_t generation = segment->generation | SP_UNIT_PARITY;
    bool whole = m->unit->ops->read(m->unit, segment->segment, generation, first, blocks, count,
                                    NULL) == SP_OK;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *block = blocks + (size_t)i * SP_BLOCK_BYTES;
        if ((!whole && m->unit->ops->read(m->unit, segment->segment, generation, first + i, block,
                                          1, NULL) != SP_OK) ||
            !is_right(v, m, segment, first + i, block))
            bad++;
    }
    free(blocks);
    if (bad) {
        sp_log(SP_LOG_WARN, "scrub.parity",
               "volume=%s unit=%s segment=%" PRIu64 " blocks=%u-%u bad=%u", v->name, m->name,
               segment->segment, first, first + count - 1, bad);
        begin(v, m, segment, now);
    }
    return true;
}

void sp_parity_stop(struct sp_volume *v)
{
    job_ends(v);
}
