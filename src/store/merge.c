/* Going through a history that was left behind, a slice in each batch, and taking its units back.
 * See merge.h. */
#include "store/merge.h"

#include "base/grow.h"
#include "base/log.h"
#include "base/time.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define EMIT_BYTES  (1U << 20)  /* then a plan stops, at the end of a batch of the other history */
#define EMIT_MOST   (16U << 20) /* or anywhere */
#define PASS_BYTES  (16U << 20) /* of records that were only looked at */
#define RETRY_MS    60000U
#define SCRATCH_MAX (SP_RECORD_PAYLOAD_MAX + 2 * SP_BLOCK_BYTES)

static void close_segment(struct sp_merge *m)
{
    if (!m->blocks)
        return;
    sp_walker_release(&m->walker);
    free(m->blocks);
    m->blocks = NULL;
    m->have = false;
}

void sp_merge_free(struct sp_merge *m)
{
    if (!m)
        return;
    close_segment(m);
    sp_left_release(&m->history);
    sp_buf_release(&m->body);
    free(m->bodies);
    free(m->uids);
    free(m->scanned);
    free(m->credentials);
    free(m);
}

/* ---- One plan ---- */

static const struct sp_left_segment *segment_of(const struct sp_merge *m)
{
    return &m->history.segments[m->at];
}

static void advance(struct sp_merge *m)
{
    m->have = sp_walker_next(&m->walker, &m->record, &m->place);
}

/* Ours too, or merged before. */
static bool is_done(const struct sp_merge *m, const struct sp_record *record)
{
    uint32_t counter = segment_of(m)->epoch_counter;
    if (record->lsn <= m->history.parting_lsn)
        return true;
    return counter < m->from.merged_epoch_counter ||
           (counter == m->from.merged_epoch_counter &&
            segment_of(m)->place.epoch_id == m->from.merged_epoch_id &&
            record->lsn <= m->from.merged_lsn);
}

static bool note_body(struct sp_merge *m)
{
    if (m->record.lsn <= m->history.parting_lsn)
        return true;
    if (!sp_grow(&m->bodies, m->bodies_count, &m->bodies_capacity, sizeof *m->bodies))
        return false;
    m->bodies[m->bodies_count++] = (struct sp_merge_body){
        .lsn = m->record.lsn, .segment = m->at, .block = m->place.block, .offset = m->place.offset};
    return true;
}

static bool begins_batch(const struct sp_merge *m)
{
    struct sp_block_header header;
    return sp_block_read(m->blocks + (size_t)m->place.block * SP_BLOCK_BYTES, &header) == SP_OK &&
           (header.flags & SP_BLOCK_BATCH_FIRST) && header.first_offset == m->place.offset;
}

static enum sp_status say_how_far(struct sp_merge *m, struct sp_plan *plan,
                                  const struct sp_fork *to, bool complete)
{
    struct sp_merge_record merge = {.gap = m->history.left.gap_lsn,
                                    .branch = m->history.branch,
                                    .epoch_id = to->merged_epoch_id,
                                    .epoch_counter = to->merged_epoch_counter,
                                    .lsn = to->merged_lsn,
                                    .complete = complete};
    for (uint32_t i = 0; i < m->volume->members_count; i++)
        if (m->volume->members[i].foreign)
            merge.unit = m->volume->members[i].id;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_merge_record_write(&merge, buf);
    return sp_buf_failed(buf)
               ? SP_NO_MEMORY
               : sp_plan_emit(plan, SP_RECORD_MERGE, NULL, 0, sp_buf_slice(buf), NULL);
}

static enum sp_status merge_plan(struct sp_plan *plan, struct sp_commit *commit)
{
    struct sp_merge *m = (struct sp_merge *)commit;
    struct sp_fork to = m->from;
    uint64_t passed = 0;
    bool again = false, moved = false;
    enum sp_status status = SP_OK;
    m->emitted = m->records = 0;
    while (m->have && status == SP_OK && passed < PASS_BYTES) {
        if (m->emitted >= EMIT_MOST || (m->emitted >= EMIT_BYTES && begins_batch(m)))
            break;
        passed += m->record.payload_bytes + SP_RECORD_HEADER_BYTES;
        if (sp_record_is_body(m->record.type)) {
            if (!note_body(m))
                status = SP_NO_MEMORY;
        } else if (is_done(m, &m->record)) {
            status = sp_merge_pass(m, &m->record);
        } else {
            status = sp_merge_apply(m, plan, &m->record, &again);
            if (status != SP_OK || again)
                break;
            to.merged_epoch_id = segment_of(m)->place.epoch_id;
            to.merged_epoch_counter = segment_of(m)->epoch_counter;
            to.merged_lsn = m->record.lsn;
            moved = true;
            m->records++;
        }
        if (status == SP_OK)
            advance(m);
    }
    bool all = !m->have && m->at + 1 == m->history.count;
    bool complete = all && m->history.complete;
    bool news = moved || (complete && !m->complete);
    if (status == SP_OK && news)
        status = say_how_far(m, plan, &to, complete);
    if (status == SP_OK) {
        m->from = to;
        m->ended = all;
    }
    if (status != SP_OK)
        m->failed = true;
    return status == SP_OK ? SP_OK : sp_plan_fail(plan, status);
}

static void merge_done(struct sp_commit *commit, enum sp_status status, const char *why)
{
    struct sp_merge *m = (struct sp_merge *)commit;
    (void)why;
    m->busy = false;
    m->failed = m->failed || status != SP_OK;
    if (m->failed)
        return;
    m->volume->merge_records += m->records;
    m->volume->merge_conflicts += m->conflicts - m->conflicts_told;
    m->conflicts_told = m->conflicts;
}

/* ---- The whole ---- */

static void say_why(struct sp_volume *v, const char *why)
{
    bool news = false;
    pthread_mutex_lock(&v->lock);
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        if (!m->foreign)
            continue;
        news = news || strcmp(m->why, why) != 0;
        snprintf(m->why, sizeof m->why, "%.*s", (int)sizeof m->why - 1, why);
    }
    pthread_mutex_unlock(&v->lock);
    if (news)
        sp_log(SP_LOG_WARN, "merge.state", "volume=%s why=\"%s\"", v->name, why);
}

/* They are units of the past like others: nothing is merged from them. */
static void leave_alone(struct sp_volume *v)
{
    pthread_mutex_lock(&v->lock);
    for (uint32_t i = 0; i < v->members_count; i++)
        if (v->members[i].foreign) {
            v->members[i].foreign = false;
            snprintf(v->members[i].why, sizeof v->members[i].why,
                     "it is not among the units of this epoch");
        }
    pthread_mutex_unlock(&v->lock);
}

static enum sp_status begin(struct sp_volume *v, struct sp_error *error)
{
    struct sp_read read;
    struct sp_position position;
    struct sp_merge *m = calloc(1, sizeof *m);
    enum sp_status status = m ? sp_read_begin(v->index, &read) : SP_NO_MEMORY;
    if (status != SP_OK) {
        free(m);
        return status;
    }
    status = sp_index_position(&read, &position);
    sp_read_end(&read);
    if (status == SP_OK)
        status = sp_left_trace(v, &m->history, error);
    if (status != SP_OK) {
        free(m);
        return status;
    }
    bool protects = false;
    m->from = (struct sp_fork){.gap_lsn = m->history.left.gap_lsn, .branch = m->history.branch};
    for (uint32_t i = 0; i < position.forks_count; i++) {
        if (position.forks[i].gap_lsn != m->from.gap_lsn)
            continue;
        if (position.forks[i].branch == 0) {
            protects = true;
            m->complete = position.forks[i].complete;
        } else if (position.forks[i].branch == m->from.branch) {
            m->from = position.forks[i];
        }
    }
    if (!protects) { /* a raw recovery leapt there, or it was too long ago */
        sp_left_release(&m->history);
        free(m);
        leave_alone(v);
        return SP_NOT_FOUND;
    }
    m->volume = v;
    m->commit.plan = merge_plan;
    m->commit.done = merge_done;
    sp_buf_init(&m->body, SCRATCH_MAX);
    v->merge = m;
    sp_log(SP_LOG_WARN, "merge.begin",
           "volume=%s gap=%" PRIu64 " epoch=%u segments=%u merged_lsn=%" PRIu64 " whole=%d",
           v->name, m->history.left.gap_lsn, m->history.tip.epoch_counter, m->history.count,
           m->from.merged_lsn, (int)m->history.whole);
    say_why(v, "what only it has is being merged");
    return SP_OK;
}

static bool is_of_history(const struct sp_merge *m, uint64_t epoch_id)
{
    bool found = epoch_id == m->history.tip.epoch_id;
    for (uint32_t i = 0; i < m->history.count; i++)
        found |= epoch_id == m->history.segments[i].place.epoch_id;
    return found;
}

/* All that the units have is durable in our history: they may become part of it. */
static void take_back(struct sp_volume *v, const struct sp_merge *m)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *member = &v->members[i];
        struct sp_vote vote;
        if (!member->foreign || !member->unit || sp_vote_read(member->unit, &vote, NULL) != SP_OK ||
            !vote.accepted || !is_of_history(m, vote.head.epoch_id))
            continue;
        pthread_mutex_lock(&v->lock);
        member->foreign = member->outside = false;
        sp_member_set_state(member, member->witness ? SP_UNIT_WITNESS : SP_UNIT_SPARE);
        member->until_lsn = UINT64_MAX;
        member->why[0] = '\0';
        member->from_lsn = UINT64_MAX;
        member->lacks = 0;
        pthread_mutex_unlock(&v->lock);
        sp_log(SP_LOG_INFO, "unit.back", "volume=%s unit=%s lsn=%" PRIu64, v->name, member->name,
               v->end.lsn);
    }
    if (sp_log_begin_epoch(v) != SP_OK)
        sp_log(SP_LOG_WARN, "merge.epoch", "volume=%s why=\"%s\"", v->name, v->why_not);
}

static bool end(struct sp_volume *v, uint64_t now)
{
    struct sp_merge *m = v->merge;
    sp_log(m->history.whole ? SP_LOG_INFO : SP_LOG_WARN, "merge.end",
           "volume=%s gap=%" PRIu64 " lsn=%" PRIu64 " messages=%" PRIu64 " conflicts=%" PRIu64
           " complete=%d",
           v->name, m->history.left.gap_lsn, m->from.merged_lsn, m->messages, m->conflicts,
           (int)m->history.complete);
    if (m->history.whole) {
        take_back(v, m);
    } else {
        /* More may be on others: until they are here these stay as they are, to be read again. */
        say_why(v, "it is merged, but may not be all of its history: attach more of its units");
        v->merge_units = sp_merge_units(v);
    }
    v->merge = NULL;
    v->merge_ms = now;
    sp_merge_free(m);
    return true;
}

uint32_t sp_merge_units(const struct sp_volume *v)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < v->members_count; i++)
        count += v->members[i].foreign && v->members[i].unit;
    return count;
}

static bool give_up(struct sp_volume *v, uint64_t now, const char *why)
{
    sp_merge_free(v->merge);
    v->merge = NULL;
    v->merge_ms = now + RETRY_MS;
    say_why(v, why);
    return false;
}

bool sp_merge_step(struct sp_volume *v, uint64_t now)
{
    struct sp_error error = {0};
    struct sp_merge *m = v->merge;
    if (!v->writable || v->epoch_broken || v->index_failed || (m && m->busy))
        return false;
    if (!m) {
        uint32_t units = sp_merge_units(v);
        if (units == 0 || now < v->merge_ms || units == v->merge_units)
            return false;
        enum sp_status status = begin(v, &error);
        return status == SP_OK ||
               give_up(v, now,
                       status == SP_NOT_FOUND ? "it has a history that does not part from ours"
                       : error.why[0]         ? error.why
                                              : sp_status_name(status));
    }
    if (m->failed)
        return give_up(v, now, "merging failed, and is tried again");
    if (m->ended)
        return end(v, now);
    if (m->blocks && !m->have && m->at + 1 < m->history.count) {
        close_segment(m);
        m->at++;
    }
    if (!m->blocks) {
        struct sp_left_segment *segment = &m->history.segments[m->at];
        if (sp_left_read(v, segment, &m->blocks, &error) != SP_OK)
            return give_up(v, now, error.why);
        struct sp_segment_id id = {v->id, segment->place.segment, segment->place.generation};
        sp_walker_init(&m->walker, m->blocks, segment->place.data_blocks, 0, &id);
        advance(m);
    }
    m->busy = true;
    sp_volume_submit(v, &m->commit);
    return true;
}
