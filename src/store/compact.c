/* When compaction runs, which segments it takes, and the switch to what replaces them. */
#include "store/compact.h"
#include "store/parity.h"

#include "base/grow.h"
#include "base/log.h"
#include "base/time.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_MS      600000U         /* after the volume was opened */
#define RETRY_MS      600000U         /* after one that was put off */
#define REST_MS       (6U * 3600000U) /* between two surveys that nobody asked for */
#define BELOW_PERCENT 60U             /* if the configuration says nothing */
#define RUN_SEGMENTS  16U             /* at most so many are merged into one: planned in one go */
#define RUN_RECORDS   (1U << 18)      /* likewise, of records */
#define SMALL_DIVISOR 4U              /* a segment of less than a fourth of the size is small */
#define SMALL_RUN     4U              /* so many small ones are merged even if all of them lives */

struct sp_compactor {
    struct sp_survey *survey; /* under way, or of which runs are being made */
    bool surveyed;
    size_t next; /* segments [next, ..) have had their turn */
    struct sp_rewrite *rewrite;
    uint64_t due_ms, begun_ms;
    bool asked, begun; /* begun: there was one before */
    _Atomic uint64_t done, total, merged, dropped_bytes, finished_ns;
    _Atomic bool running;
};

struct sp_compactor *sp_compactor_new(void)
{
    struct sp_compactor *c = calloc(1, sizeof *c);
    if (c)
        c->due_ms = sp_now_ms() + FIRST_MS;
    return c;
}

static void stop(struct sp_compactor *c)
{
    sp_rewrite_free(c->rewrite);
    sp_survey_free(c->survey);
    c->rewrite = NULL;
    c->survey = NULL;
    c->surveyed = false;
}

void sp_compactor_free(struct sp_compactor *c)
{
    if (!c)
        return;
    stop(c);
    free(c);
}

/* ---- The clocks ---- */

uint64_t sp_volume_wall_ns(const struct sp_volume *v)
{
    return v->wall_ns(v->clock_context);
}

uint64_t sp_volume_running_ms(struct sp_volume *v)
{
    pthread_mutex_lock(&v->lock);
    uint64_t ms = v->clock_total_ms + v->clock_ms(v->clock_context) - v->clock_said_ms;
    pthread_mutex_unlock(&v->lock);
    return ms;
}

uint64_t sp_volume_horizon_lsn(struct sp_volume *v)
{
    return atomic_load(&v->horizon_lsn);
}

/* ---- Which segments ---- */

static bool is_small(const struct sp_volume *v, const struct sp_surveyed *s)
{
    return s->live_bytes < v->segment_bytes / SMALL_DIVISOR;
}

/* Whether the segment is worth touching. Those at the log's end are left alone: what a start does
 * there knows of no generations. */
static bool is_candidate(const struct sp_volume *v, const struct sp_survey *survey, size_t i)
{
    const struct sp_surveyed *s = sp_survey_at(survey, i);
    uint32_t below = v->compact_below ? v->compact_below : BELOW_PERCENT;
    if (i + 2 >= sp_survey_segments(survey) || !v->segments[i].sealed ||
        v->segments[i].last_lsn != s->last_lsn)
        return false;
    /* Where the log leaps (a loss was accepted, or it was rebuilt), the head tells more than one of
     * a run could. */
    if (v->segments[i].previous.segment &&
        v->segments[i].first_lsn > v->segments[i].previous.lsn + 1)
        return false;
    return is_small(v, s) ||
           s->live_bytes * 100 < (s->live_bytes + s->dead_bytes) * (uint64_t)below;
}

/* The run that ends before `end`, as long as it fits into one segment. false: there is none left.
 * *ret_end: where the next search begins. */
static bool find_run(const struct sp_volume *v, const struct sp_survey *survey, size_t end,
                     size_t *ret_first, size_t *ret_count)
{
    while (end) {
        uint64_t live = 0, dead = 0, records = 0;
        size_t first = end;
        while (first && end - first < RUN_SEGMENTS && is_candidate(v, survey, first - 1)) {
            const struct sp_surveyed *s = sp_survey_at(survey, first - 1);
            if (first < end &&
                (live + s->live_bytes > v->segment_bytes || records + s->records > RUN_RECORDS))
                break;
            live += s->live_bytes;
            dead += s->dead_bytes;
            records += s->records;
            first--;
        }
        size_t count = end - first;
        /* Bytes that come back, or blocks that are hardly used. */
        if (count && (dead * 100 >= (live + dead) * 10 || count >= SMALL_RUN)) {
            *ret_first = first;
            *ret_count = count;
            return true;
        }
        end = count ? first : end - 1;
    }
    return false;
}

/* ---- The switch ---- */

static bool reserve_retired(struct sp_volume *v, size_t count)
{
    if (v->retired_count + count <= v->retired_capacity)
        return true;
    size_t capacity = (v->retired_count + count) * 2;
    struct sp_volume_segment *grown = realloc(v->retired, capacity * sizeof *grown);
    if (!grown)
        return false;
    v->retired = grown;
    v->retired_capacity = capacity;
    return true;
}

/* Positions in the list of segments, after `count` of them became one. */
static size_t moved(size_t at, size_t first, size_t count)
{
    return at <= first ? at : at < first + count ? first : at - (count - 1);
}

/* The replacement is the log now. What is not said of it yet (the manifest, the index) is said with
 * the next batch: until then readers find the old places among the retired. */
static enum sp_status switch_to(struct sp_volume *v, const struct sp_volume_segment *segment,
                                size_t first, size_t count)
{
    if (!sp_grow(&v->sealed, v->sealed_count, &v->sealed_capacity, sizeof *v->sealed))
        return SP_NO_MEMORY;
    pthread_rwlock_wrlock(&v->segments_lock);
    if (!reserve_retired(v, count)) {
        pthread_rwlock_unlock(&v->segments_lock);
        return SP_NO_MEMORY;
    }
    for (size_t i = 0; i < count; i++)
        v->retired[v->retired_count++] = v->segments[first + i];
    v->segments[first] = *segment;
    memmove(v->segments + first + 1, v->segments + first + count,
            (v->segments_count - first - count) * sizeof *v->segments);
    v->segments_count -= count - 1;
    pthread_rwlock_unlock(&v->segments_lock);
    pthread_mutex_lock(&v->lock);
    for (uint32_t i = 0; i < v->members_count; i++)
        if (v->members[i].lacks >= first + count)
            v->members[i].lacks -= count - 1;
    if (v->scrub.segment >= first && v->scrub.segment < first + count)
        v->scrub.member = v->scrub.block = 0;
    v->scrub.segment = moved(v->scrub.segment, first, count);
    pthread_mutex_unlock(&v->lock);
    for (uint32_t i = 0; i < v->members_count; i++)
        sp_parity_look_again(v, &v->members[i]);
    v->sealed[v->sealed_count++] = sp_manifest_entry(segment);
    v->redirect_due = true;
    return SP_OK;
}

/* ---- Step by step ---- */

static void end(struct sp_volume *v, const char *how, uint64_t rest_ms)
{
    struct sp_compactor *c = v->compactor;
    stop(c);
    c->running = false;
    c->finished_ns = sp_wall_ns();
    c->due_ms = sp_now_ms() + rest_ms;
    sp_log(SP_LOG_INFO, "compact.finished",
           "volume=%s how=%s merged=%" PRIu64 " dropped_bytes=%" PRIu64 " ms=%" PRIu64, v->name,
           how, (uint64_t)c->merged, (uint64_t)c->dropped_bytes, sp_now_ms() - c->begun_ms);
}

static void begin(struct sp_volume *v, bool asked)
{
    struct sp_compactor *c = v->compactor;
    c->asked = asked;
    c->begun_ms = sp_now_ms();
    c->survey = sp_survey_new(v);
    c->done = 0;
    c->total = v->segments_count;
    c->running = c->survey != NULL;
}

static void survey(struct sp_volume *v)
{
    struct sp_compactor *c = v->compactor;
    struct sp_error error = {0};
    enum sp_status status = sp_survey_step(c->survey, &error);
    c->done = sp_survey_done(c->survey);
    if (status == SP_OK)
        return;
    if (status == SP_EOF) {
        c->surveyed = true;
        c->next = sp_survey_segments(c->survey);
        return;
    }
    sp_log(SP_LOG_WARN, "compact.survey", "volume=%s why=\"%s\"", v->name,
           error.why[0] ? error.why : sp_status_name(status));
    end(v, "unproven", REST_MS);
}

static void next_run(struct sp_volume *v)
{
    struct sp_compactor *c = v->compactor;
    struct sp_error error = {0};
    struct sp_compact_plan plan;
    size_t first, count;
    if (!find_run(v, c->survey, c->next, &first, &count)) {
        end(v, "complete", REST_MS);
        return;
    }
    c->next = first;
    enum sp_status status = sp_compact_plan(v, c->survey, first, count, &plan, &error);
    if (status == SP_OK)
        status = sp_rewrite_new(v, first, count, &plan, &c->rewrite, &error);
    if (status == SP_OK)
        return;
    sp_log(SP_LOG_WARN, "compact.run", "volume=%s segment=%" PRIu64 " count=%zu why=\"%s\"",
           v->name, v->segments[first].segment, count,
           error.why[0] ? error.why : sp_status_name(status));
    c->rewrite = NULL;
    if (status != SP_CORRUPT)
        end(v, "put-off", RETRY_MS); /* what stands against one stands against all */
}

static void rewrite(struct sp_volume *v)
{
    struct sp_compactor *c = v->compactor;
    struct sp_error error = {0};
    struct sp_volume_segment segment;
    size_t first, count;
    enum sp_status status = sp_rewrite_step(c->rewrite, &segment, &error);
    if (status == SP_OK)
        return;
    sp_rewrite_run(c->rewrite, &first, &count);
    if (status == SP_EOF) {
        uint64_t before = 0;
        for (size_t i = 0; i < count; i++)
            before += v->segments[first + i].data_blocks + v->segments[first + i].footer_blocks;
        uint64_t after = segment.data_blocks + segment.footer_blocks;
        status = switch_to(v, &segment, first, count);
        c->merged += count;
        c->dropped_bytes += before > after ? (before - after) * SP_BLOCK_BYTES : 0;
        sp_log(SP_LOG_INFO, "compact.segment",
               "volume=%s segment=%" PRIu64 " generation=%u merged=%zu blocks=%" PRIu64
               " before=%" PRIu64,
               v->name, segment.segment, segment.generation, count, after, before);
    } else {
        sp_log(SP_LOG_WARN, "compact.run", "volume=%s segment=%" PRIu64 " count=%zu why=\"%s\"",
               v->name, segment.segment, count, error.why[0] ? error.why : sp_status_name(status));
    }
    sp_rewrite_free(c->rewrite);
    c->rewrite = NULL;
    if (status != SP_OK)
        end(v, "put-off", RETRY_MS);
}

/* One is under way, and the volume cannot be written to, or is losing units: it begins again
 * later. */
static bool cannot_go_on(const struct sp_volume *v)
{
    return !v->writable || v->epoch_broken || v->index_failed;
}

bool sp_compact_step(struct sp_volume *v, uint64_t now)
{
    struct sp_compactor *c = v->compactor;
    bool wanted = atomic_load(&v->compact_wanted);
    if (cannot_go_on(v)) {
        if (c->running)
            end(v, "put-off", RETRY_MS);
        return false;
    }
    if (v->threaded && !wanted && !c->asked && now < c->due_ms)
        return false;
    if (!c->running) {
        if (!wanted && (!v->threaded || !v->compact_rate || now < c->due_ms))
            return false;
        atomic_store(&v->compact_wanted, false);
        begin(v, wanted);
        return c->running;
    }
    if (wanted) /* of the one that runs nobody knows when it looked */
        c->asked = true;
    uint64_t bytes = SP_COMPACT_SLICE_BLOCKS * SP_BLOCK_BYTES;
    if (!c->surveyed) {
        survey(v);
    } else if (!c->rewrite) {
        next_run(v);
    } else {
        rewrite(v);
        bytes = c->rewrite ? sp_rewrite_bytes(c->rewrite) : 0;
    }
    if (c->running)
        c->due_ms =
            sp_now_ms() + (c->asked || !v->compact_rate ? 0 : bytes * 1000 / v->compact_rate);
    else
        c->asked = false;
    return true;
}

uint64_t sp_compact_wait_ms(const struct sp_volume *v, uint64_t now, uint64_t most)
{
    const struct sp_compactor *c = v->compactor;
    if (!c->running)
        return most;
    return now >= c->due_ms ? 0 : c->due_ms - now > most ? most : c->due_ms - now;
}

void sp_compact_status(const struct sp_volume *v, struct sp_volume_status *status)
{
    const struct sp_compactor *c = v->compactor;
    status->compact_running = c->running || atomic_load(&v->compact_wanted);
    status->compact_done_segments = c->done;
    status->compact_total_segments = c->total;
    status->compact_merged = c->merged;
    status->compact_dropped_bytes = c->dropped_bytes;
    status->compact_finished_ns = c->finished_ns;
}

void sp_volume_compact_now(struct sp_volume *v)
{
    pthread_mutex_lock(&v->lock);
    atomic_store(&v->compact_wanted, true);
    pthread_cond_signal(&v->wake);
    pthread_mutex_unlock(&v->lock);
}

/* ---- Retired segments ---- */

/* Adds what the unit has of it. */
static void look_for_file(struct sp_unit *unit, struct sp_retired_segment *r)
{
    struct sp_unit_segment *list = NULL;
    struct sp_error why;
    size_t count = 0;
    if (unit->ops->list(unit, &list, &count, &why) != SP_OK)
        return;
    for (size_t i = 0; i < count; i++)
        if (list[i].segment == r->segment && list[i].generation == r->generation) {
            r->units++;
            r->bytes += (uint64_t)list[i].blocks * SP_BLOCK_BYTES;
        }
    free(list);
}

struct retired_list {
    struct sp_retired_segment *list;
    size_t count;
};

/* Files are found unit by unit: a listing of each, held against all that are retired. */
/* The unit, if its old files may go: one that is out, or has another history, keeps what it has, as
 * long as it has nothing newer. They go when it has been taken back. */
static struct sp_unit *gives_up(const struct sp_volume_member *m)
{
    bool in = (m->state == SP_UNIT_REPLICA || m->state == SP_UNIT_SPARE) && !m->foreign;
    return in ? m->unit : NULL;
}

static void find_files(struct sp_volume *v, struct retired_list *found)
{
    size_t kept = 0;
    for (uint32_t i = 0; i < v->members_count; i++)
        for (size_t k = 0; gives_up(&v->members[i]) && k < found->count; k++)
            look_for_file(v->members[i].unit, &found->list[k]);
    for (size_t k = 0; k < found->count; k++)
        if (found->list[k].units)
            found->list[kept++] = found->list[k];
    found->count = kept;
}

/* Up to which LSN everything is past its hold, by the CLOCK records of the log. */
static enum sp_status list_retired(struct sp_volume *v, void *context, struct sp_error *error)
{
    struct retired_list *found = context;
    struct sp_retired retired = {0};
    struct sp_position position = {0};
    struct sp_read read;
    size_t capacity = 0;
    enum sp_status status = sp_read_begin(v->index, &read);
    if (status != SP_OK)
        return sp_error_set(error, status, v->name, "the index cannot be read");
    if (sp_index_position(&read, &position) != SP_OK)
        position.erase_lsn = 0;
    while ((status = sp_index_next_retired(&read, &retired)) == SP_OK) {
        if (found->count == capacity) {
            size_t grown_capacity = capacity ? capacity * 2 : 64;
            struct sp_retired_segment *grown = realloc(found->list, grown_capacity * sizeof *grown);
            if (!grown) {
                status = SP_NO_MEMORY;
                break;
            }
            found->list = grown;
            capacity = grown_capacity;
        }
        found->list[found->count++] = (struct sp_retired_segment){
            .segment = retired.segment,
            .generation = retired.generation,
            .since_lsn = retired.row.since_lsn,
            .since_ns = retired.row.since_ns,
            .past_hold = retired.row.since_lsn <= atomic_load(&v->horizon_lsn),
            .erased = position.erase_lsn > retired.row.last_lsn &&
                      position.erase_lsn < retired.row.since_lsn};
    }
    sp_read_end(&read);
    if (status != SP_EOF)
        return sp_error_set(error, status, v->name, "the index cannot be read");
    find_files(v, found);
    return SP_OK;
}

enum sp_status sp_volume_retired(struct sp_volume *v, struct sp_retired_segment **ret_list,
                                 size_t *ret_count, struct sp_error *error)
{
    struct retired_list found = {0};
    enum sp_status status = sp_task_run(v, list_retired, &found, v->name, error);
    if (status != SP_OK) {
        free(found.list);
        return status;
    }
    *ret_list = found.list;
    *ret_count = found.count;
    return SP_OK;
}

struct deletion {
    uint64_t segment;
    uint32_t generation;
};

/* That every replica has what replaced it, whole. */
static enum sp_status prove_replaced(struct sp_volume *v, const struct sp_retired *retired,
                                     struct sp_error *error)
{
    const struct sp_volume_segment *live = NULL;
    size_t at = 0;
    uint32_t copies = 0;
    for (size_t i = 0; i < v->segments_count; i++) {
        const struct sp_volume_segment *s = &v->segments[i];
        if (s->segment == retired->segment && s->generation == retired->generation)
            return sp_error_set(error, SP_CONFLICT, v->name, "segment %" PRIu64 ".%u is in use",
                                s->segment, s->generation);
        if (s->generation && s->sealed && s->segment >= retired->segment &&
            s->first_lsn <= retired->row.first_lsn && s->last_lsn >= retired->row.last_lsn) {
            live = s;
            at = i;
        }
    }
    if (!live)
        return sp_error_set(error, SP_CONFLICT, v->name, "nothing replaces segment %" PRIu64 ".%u",
                            retired->segment, retired->generation);
    for (uint32_t i = 0; i < v->members_count; i++) {
        const struct sp_volume_member *m = &v->members[i];
        struct sp_error why = {0};
        if (m->state != SP_UNIT_REPLICA || !m->unit)
            continue;
        if (m->lacks > at)
            return sp_error_set(error, SP_CONFLICT, m->name,
                                "it has not been brought segment %" PRIu64 ".%u yet", live->segment,
                                live->generation);
        struct sp_verify verify;
        enum sp_status status = SP_OK;
        for (sp_verify_begin(&verify); status == SP_OK;)
            status = sp_verify_step(v, m, live, true, &verify, &why);
        if (status != SP_EOF)
            return sp_error_set(error, SP_CONFLICT, m->name,
                                "its copy of segment %" PRIu64 ".%u is not sound: %s",
                                live->segment, live->generation, why.why);
        copies++;
    }
    if (copies < v->min_copies)
        return sp_error_set(error, SP_CONFLICT, v->name,
                            "%u of the %u copies that min_copies asks for have segment %" PRIu64
                            ".%u",
                            copies, v->min_copies, live->segment, live->generation);
    return SP_OK;
}

static enum sp_status delete_retired(struct sp_volume *v, void *context, struct sp_error *error)
{
    const struct deletion *d = context;
    struct sp_retired retired = {0};
    struct sp_read read;
    bool found = false;
    if (v->redirect_due)
        return sp_error_set(error, SP_CONFLICT, v->name, "the index still needs it: try again");
    enum sp_status status = sp_read_begin(v->index, &read);
    while (status == SP_OK && !found && (status = sp_index_next_retired(&read, &retired)) == SP_OK)
        found = retired.segment == d->segment && retired.generation == d->generation;
    sp_read_end(&read);
    if (!found)
        return sp_error_set(error, SP_NOT_FOUND, v->name, "segment %" PRIu64 ".%u is not retired",
                            d->segment, d->generation);
    status = prove_replaced(v, &retired, error);
    for (uint32_t i = 0; i < v->members_count && status == SP_OK; i++) {
        struct sp_unit *unit = gives_up(&v->members[i]);
        if (!unit)
            continue;
        status = unit->ops->remove(unit, d->segment, d->generation, error);
        if (status == SP_NOT_FOUND)
            status = SP_OK;
        if (status == SP_OK)
            status = unit->ops->remove(unit, d->segment, d->generation | SP_UNIT_PARITY, error);
        if (status == SP_NOT_FOUND)
            status = SP_OK;
    }
    if (status != SP_OK)
        return status;
    pthread_rwlock_wrlock(&v->segments_lock);
    for (size_t i = 0; i < v->retired_count; i++)
        if (v->retired[i].segment == d->segment && v->retired[i].generation == d->generation)
            v->retired[i].data_blocks = v->retired[i].footer_blocks = 0;
    pthread_rwlock_unlock(&v->segments_lock);
    sp_log(SP_LOG_INFO, "compact.delete", "volume=%s segment=%" PRIu64 " generation=%u", v->name,
           d->segment, d->generation);
    return SP_OK;
}

enum sp_status sp_volume_delete_retired(struct sp_volume *v, uint64_t segment, uint32_t generation,
                                        struct sp_error *error)
{
    struct deletion d = {segment, generation};
    return sp_task_run(v, delete_retired, &d, v->name, error);
}
