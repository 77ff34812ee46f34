/* Tending the copies: what each replica should have of the log is read, verified, and written where
 * it is missing or bad. Two uses of one walk over blocks:
 *
 *   resilvering   a replica that was recruited has only what came after; the segments before are
 *                 brought to it, the newest first, so that what it holds is always [from_lsn, end]
 *   scrubbing     every copy of every segment is read from time to time, and mended from a twin, or
 *                 from parity; its sidecar after it
 *
 * All of it is done by the committer, a slice of SLICE_BLOCKS at a time between batches, at a set
 * rate: so there is one writer to a unit, and nothing to lock. A segment that a unit has in part,
 * from an attempt before or from before it was ejected, is gone on with: what is sound in it stays.
 *
 * The segment that is being written is not tended. A copy that cannot be mended, since no unit has
 * the block sound, is counted and told of, and left.
 */
#include "base/log.h"
#include "base/time.h"
#include "store/breakage.h"
#include "store/parity.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#define SLICE_BLOCKS   256U
#define PAUSE_MS       30000U /* after a unit was found full */
#define SCRUB_REST_MS  60000U /* between two scrubs that nobody asked for */
#define WRITE_PATIENCE 10U    /* timeouts until a stalled write is given up */

struct slice {
    struct sp_volume_member *member;
    const struct sp_volume_segment *segment;
    uint32_t first, count;
    bool noted; /* by a reader, who has counted what is bad */
    uint32_t mended, unmendable;
};

static uint32_t blocks_of(const struct sp_volume_segment *segment)
{
    return segment->data_blocks + segment->footer_blocks;
}

/* The member's own blocks, each marked as sound or not. One that it had in an epoch of its own is
 * sound when it is valid; in a segment that it lacks, blocks may have stayed that are valid and not
 * the log's: there it is sound when it is what the others have. */
static void look(struct sp_volume *v, const struct slice *s, uint8_t *own, uint8_t *truth,
                 bool *ret_sound)
{
    struct sp_unit *unit = s->member->unit;
    const struct sp_volume_segment *segment = s->segment;
    struct sp_error why;
    bool lacking = s->member->from_lsn > segment->first_lsn;
    bool whole = unit->ops->read(unit, segment->segment, segment->generation, s->first, own,
                                 s->count, NULL) == SP_OK;
    bool told = lacking && sp_volume_read_twins(v, segment, s->first, truth, s->count, s->member,
                                                &why) == SP_OK;
    for (uint32_t i = 0; i < s->count; i++) {
        uint8_t *block = own + (size_t)i * SP_BLOCK_BYTES;
        uint8_t *true_block = truth + (size_t)i * SP_BLOCK_BYTES;
        bool here = whole || unit->ops->read(unit, segment->segment, segment->generation,
                                             s->first + i, block, 1, NULL) == SP_OK;
        ret_sound[i] = here && sp_volume_is_block_of(v, segment, s->first + i, block);
        if (SP_BREAK(resilver_blind) && lacking)
            ret_sound[i] = whole;
        else if (ret_sound[i] && lacking &&
                 (told || sp_volume_read_twins(v, segment, s->first + i, true_block, 1, s->member,
                                               &why) == SP_OK))
            ret_sound[i] = memcmp(block, true_block, SP_BLOCK_BYTES) == 0;
        /* What it lacks is not bad; and what a reader met was counted then. */
        if (ret_sound[i] || lacking || s->noted)
            continue;
        s->member->blocks_bad++;
        if (here && sp_volume_is_misdirected(v, segment, s->first + i, block)) {
            s->member->blocks_misdirected++;
            v->blocks_misdirected++;
        }
    }
}

enum sp_status sp_tend_write(struct sp_volume *v, struct sp_volume_member *m, uint64_t segment,
                             uint32_t generation, uint32_t first, const uint8_t *blocks,
                             uint32_t count, struct sp_error *error)
{
    struct sp_unit *unit = m->unit;
    enum sp_status status = SP_TIMEOUT;
    unit->ops->write_start(unit, segment, generation, first, blocks, count);
    for (unsigned i = 0; i < WRITE_PATIENCE && status == SP_TIMEOUT; i++)
        status = unit->ops->wait(unit, v->unit_timeout_ms, error);
    return status;
}

/* Mends the slice where the member's blocks are not sound. `good`: room for it, aligned. */
static enum sp_status mend(struct sp_volume *v, struct slice *s, const bool *sound, uint8_t *good,
                           struct sp_error *error)
{
    enum sp_status status = SP_OK;
    for (uint32_t at = 0; at < s->count && status == SP_OK;) {
        uint32_t n = 0;
        struct sp_error why;
        if (sound[at]) {
            at++;
            continue;
        }
        while (at + n < s->count && !sound[at + n])
            n++;
        /* All of the run at once; if some of it is nowhere to be had, what comes before that. */
        if (sp_volume_read_twins(v, s->segment, s->first + at, good, n, s->member, &why) != SP_OK) {
            uint32_t most = n;
            n = 0;
            while (n < most && sp_volume_read_twins(v, s->segment, s->first + at + n,
                                                    good + (size_t)n * SP_BLOCK_BYTES, 1, s->member,
                                                    &why) == SP_OK)
                n++;
        }
        if (n)
            status = sp_tend_write(v, s->member, s->segment->segment, s->segment->generation,
                                   s->first + at, good, n, error);
        if (n && status == SP_OK)
            s->mended += n;
        at += n;
        if (status == SP_OK && at < s->count && !sound[at]) {
            s->unmendable++;
            at++;
        }
    }
    return status;
}

/* One slice of a member's copy. SP_OK, or what writing came to. */
static enum sp_status tend(struct sp_volume *v, struct slice *s, struct sp_error *error)
{
    bool sound[SLICE_BLOCKS];
    uint8_t *own = aligned_alloc(SP_BLOCK_BYTES, (size_t)s->count * SP_BLOCK_BYTES);
    uint8_t *good = aligned_alloc(SP_BLOCK_BYTES, (size_t)s->count * SP_BLOCK_BYTES);
    enum sp_status status = own && good ? SP_OK : SP_NO_MEMORY;
    if (status == SP_OK) {
        look(v, s, own, good, sound);
        status = mend(v, s, sound, good, error);
    }
    free(own);
    if (status != SP_TIMEOUT)
        free(good);
    v->tended_bytes += (uint64_t)s->count * SP_BLOCK_BYTES;
    if (s->member->from_lsn > s->segment->first_lsn) {
        v->resilvered_bytes += (uint64_t)s->mended * SP_BLOCK_BYTES;
        s->member->resilvered_bytes += (uint64_t)s->mended * SP_BLOCK_BYTES;
    } else {
        v->blocks_mended += s->mended;
        s->member->blocks_mended += s->mended;
    }
    v->blocks_unmendable += s->unmendable;
    s->member->blocks_unmendable += s->unmendable;
    return status;
}

/* A unit that cannot be written to is ejected, but for want of room: then it is left for a while.
 */
void sp_tend_failed(struct sp_volume *v, struct sp_volume_member *m, enum sp_status status,
                    const struct sp_error *error, uint64_t now)
{
    if (status == SP_NO_SPACE || status == SP_NO_MEMORY) {
        m->paused_ms = now + PAUSE_MS;
        sp_log(SP_LOG_WARN, "unit.pause", "volume=%s unit=%s status=%s why=%s", v->name, m->name,
               sp_status_name(status), SP_LOG_QUOTED(error->why));
    } else if (sp_log_replicas(v) > 1) {
        sp_log_eject(v, m, error->why[0] ? error->why : "it stalled while it was being tended");
    } else {
        sp_log_suspend(v, m, error->why);
    }
}

/* ---- Resilvering ---- */

static struct sp_volume_member *who_lacks(struct sp_volume *v, uint64_t now)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        if (m->state == SP_UNIT_REPLICA && m->unit && m->lacks && m->paused_ms <= now)
            return m;
    }
    return NULL;
}

static void has_segment(struct sp_volume *v, struct sp_volume_member *m)
{
    const struct sp_volume_segment *segment = &v->segments[m->lacks - 1];
    pthread_mutex_lock(&v->lock);
    m->lacks--;
    m->tended = 0;
    m->from_lsn = m->lacks ? segment->first_lsn : 1;
    pthread_mutex_unlock(&v->lock);
    if (m->lacks == 0) {
        sp_log(SP_LOG_INFO, "unit.resilvered", "volume=%s unit=%s lsn=1-%" PRIu64, v->name, m->name,
               v->end.lsn);
        sp_parity_look_again(v, m);
    }
}

static void resilver(struct sp_volume *v, struct sp_volume_member *m, uint64_t now)
{
    const struct sp_volume_segment *segment = &v->segments[m->lacks - 1];
    uint32_t total = blocks_of(segment);
    struct sp_error error = {0};
    struct slice slice = {.member = m,
                          .segment = segment,
                          .first = m->tended,
                          .count =
                              total - m->tended < SLICE_BLOCKS ? total - m->tended : SLICE_BLOCKS};
    enum sp_status status = SP_OK;
    if (m->tended == 0) {
        status =
            m->unit->ops->create(m->unit, segment->segment, segment->generation, total, &error);
        if (status == SP_EXISTS)
            status = SP_OK;
    }
    if (status == SP_OK)
        status = tend(v, &slice, &error);
    if (status == SP_OK && slice.unmendable) {
        /* It cannot have what nobody has: said once, and gone on. */
        sp_log(SP_LOG_ERROR, "unit.unmendable",
               "volume=%s unit=%s segment=%" PRIu64 " lsn=%" PRIu64 "-%" PRIu64
               " blocks=%u-%u unmendable=%u",
               v->name, m->name, segment->segment, segment->first_lsn, segment->last_lsn,
               slice.first, slice.first + slice.count - 1, slice.unmendable);
    }
    if (status == SP_OK && m->tended + slice.count == total)
        status = m->unit->ops->seal(m->unit, segment->segment, segment->generation, total, &error);
    if (status != SP_OK) {
        sp_tend_failed(v, m, status, &error, now);
        return;
    }
    m->tended += slice.count;
    sp_resilver_rate(v, m, (uint64_t)slice.count * SP_BLOCK_BYTES, now);
    if (m->tended == total)
        has_segment(v, m);
}

/* ---- Scrubbing ---- */

/* Whether a scrub looks at this member's copy of the segment. */
static bool is_scrubbed(const struct sp_volume *v, uint32_t member, size_t segment)
{
    const struct sp_volume_member *m = &v->members[member];
    return m->state == SP_UNIT_REPLICA && m->unit && segment >= m->lacks &&
           (v->scrub.only == UINT32_MAX || v->scrub.only == member);
}

/* A copy's blocks, and behind them those of its sidecar. */
static uint32_t copy_blocks(const struct sp_volume_member *m,
                            const struct sp_volume_segment *segment)
{
    return blocks_of(segment) + sp_parity_blocks_of(m, segment);
}

/* Moves the cursor to the next copy that is there to be read; false: all have been. */
static bool next_copy(struct sp_volume *v)
{
    struct sp_scrub *scrub = &v->scrub;
    for (; scrub->segment + 1 < v->segments_count; scrub->segment++, scrub->member = 0)
        for (; scrub->member < v->members_count; scrub->member++, scrub->block = 0)
            if (is_scrubbed(v, scrub->member, scrub->segment) &&
                scrub->block <
                    copy_blocks(&v->members[scrub->member], &v->segments[scrub->segment]))
                return true;
    return false;
}

uint64_t sp_scrub_blocks(const struct sp_volume *v, size_t segment)
{
    uint64_t blocks = 0;
    for (uint32_t k = 0; k < v->members_count; k++)
        if (is_scrubbed(v, k, segment))
            blocks += copy_blocks(&v->members[k], &v->segments[segment]);
    return blocks;
}

void sp_scrub_begin(struct sp_volume *v, bool asked, uint32_t only)
{
    pthread_mutex_lock(&v->lock);
    struct sp_scrub *scrub = &v->scrub;
    scrub->running = true;
    scrub->asked = asked;
    scrub->only = only;
    scrub->begun_ms = scrub->saved_ms = sp_now_ms();
    scrub->segment = 0;
    scrub->member = scrub->block = scrub->skipped = 0;
    scrub->done_blocks = scrub->total_blocks = scrub->mended = scrub->unmendable = 0;
    for (size_t i = 0; i + 1 < v->segments_count; i++)
        scrub->total_blocks += sp_scrub_blocks(v, i);
    pthread_mutex_unlock(&v->lock);
}

static void end_scrub(struct sp_volume *v, uint64_t now)
{
    struct sp_scrub *scrub = &v->scrub;
    bool whole = scrub->skipped == 0;
    uint64_t wall_ns = sp_wall_ns();
    pthread_mutex_lock(&v->lock);
    scrub->running = false;
    scrub->finished_ms = now;
    /* What it could not look at has not been verified. */
    for (uint32_t k = 0; k < v->members_count && whole; k++)
        if (is_scrubbed(v, k, v->segments_count))
            v->members[k].scrubbed_ns = wall_ns;
    if (whole && scrub->only == UINT32_MAX)
        scrub->finished_ns = wall_ns;
    pthread_mutex_unlock(&v->lock);
    sp_log(SP_LOG_INFO, "scrub.finished",
           "volume=%s unit=%s blocks=%" PRIu64 " mended=%" PRIu64 " unmendable=%" PRIu64
           " skipped=%u ms=%" PRIu64,
           v->name, scrub->only == UINT32_MAX ? "all" : v->members[scrub->only].name,
           scrub->done_blocks, scrub->mended, scrub->unmendable, scrub->skipped,
           now - scrub->begun_ms);
    scrub->only = UINT32_MAX;
    sp_scrub_save(v);
}

/* Its file is gone: it lacks the segment, and those before it are looked at again. */
static void lost_segment(struct sp_volume *v, struct sp_volume_member *m, size_t i)
{
    const struct sp_volume_segment *segment = &v->segments[i];
    pthread_mutex_lock(&v->lock);
    m->lacks = i + 1;
    m->tended = 0;
    m->from_lsn = segment->last_lsn + 1;
    pthread_mutex_unlock(&v->lock);
    sp_log(SP_LOG_ERROR, "unit.lacks", "volume=%s unit=%s segment=%" PRIu64 " lsn=%" PRIu64,
           v->name, m->name, segment->segment, segment->last_lsn);
}

static void scrub_sidecar(struct sp_volume *v, struct sp_volume_member *m,
                          const struct sp_volume_segment *segment)
{
    uint32_t left = copy_blocks(m, segment) - v->scrub.block;
    uint32_t count = left < SLICE_BLOCKS ? left : SLICE_BLOCKS;
    if (!sp_parity_verify(v, m, segment, v->scrub.block - blocks_of(segment), count))
        return;
    pthread_mutex_lock(&v->lock);
    v->scrub.block += count;
    v->scrub.done_blocks += count;
    pthread_mutex_unlock(&v->lock);
}

static void scrub(struct sp_volume *v, uint64_t now)
{
    struct sp_scrub *scrub = &v->scrub;
    struct sp_error error = {0};
    if (!next_copy(v)) {
        end_scrub(v, now);
        return;
    }
    struct sp_volume_member *m = &v->members[scrub->member];
    const struct sp_volume_segment *segment = &v->segments[scrub->segment];
    if (scrub->block >= blocks_of(segment)) {
        scrub_sidecar(v, m, segment);
        return;
    }
    uint32_t left = blocks_of(segment) - scrub->block;
    struct slice slice = {.member = m,
                          .segment = segment,
                          .first = scrub->block,
                          .count = left < SLICE_BLOCKS ? left : SLICE_BLOCKS};
    enum sp_status status = tend(v, &slice, &error);
    pthread_mutex_lock(&v->lock);
    if (status == SP_OK)
        scrub->block += slice.count;
    else
        scrub->member++, scrub->block = 0; /* not this copy */
    if (status == SP_NO_SPACE || status == SP_NO_MEMORY)
        scrub->skipped++;
    scrub->done_blocks += slice.count;
    scrub->mended += slice.mended;
    scrub->unmendable += slice.unmendable;
    pthread_mutex_unlock(&v->lock);
    if (slice.mended || slice.unmendable)
        sp_log(SP_LOG_WARN, "scrub.found",
               "volume=%s unit=%s segment=%" PRIu64 " lsn=%" PRIu64 "-%" PRIu64
               " blocks=%u-%u mended=%u unmendable=%u",
               v->name, m->name, segment->segment, segment->first_lsn, segment->last_lsn,
               slice.first, slice.first + slice.count - 1, slice.mended, slice.unmendable);
    if (status == SP_NOT_FOUND)
        lost_segment(v, m, scrub->segment);
    else if (status != SP_OK)
        sp_tend_failed(v, m, status, &error, now);
}

void sp_tend_copy(struct sp_volume *v, struct sp_volume_member *m, size_t segment, uint32_t first,
                  uint32_t count, uint64_t now, uint32_t *ret_mended, uint32_t *ret_unmendable)
{
    struct sp_error error = {0};
    struct slice slice = {.member = m,
                          .segment = &v->segments[segment],
                          .first = first,
                          .count = count < SLICE_BLOCKS ? count : SLICE_BLOCKS,
                          .noted = true};
    enum sp_status status = tend(v, &slice, &error);
    *ret_mended = slice.mended;
    *ret_unmendable = slice.unmendable;
    /* The file of the segment that is being written is watched elsewhere (check_units). */
    if (status == SP_NOT_FOUND && segment + 1 < v->segments_count)
        lost_segment(v, m, segment);
    else if (status != SP_OK && status != SP_NOT_FOUND)
        sp_tend_failed(v, m, status, &error, now);
}

/* ---- When ---- */

/* In how many ms the next slice is due at this rate. */
static uint64_t pace(uint64_t bytes_per_s)
{
    return bytes_per_s ? (uint64_t)SLICE_BLOCKS * SP_BLOCK_BYTES * 1000 / bytes_per_s : 0;
}

bool sp_tend_step(struct sp_volume *v, uint64_t now)
{
    bool wanted = atomic_load(&v->scrub_wanted);
    sp_scrub_watch(v, now);
    if (!v->writable || v->epoch_broken || v->index_failed)
        return false;
    if (sp_repair_step(v, now))
        return true;
    if (v->threaded && !wanted && now < v->tend_ms)
        return false;
    struct sp_volume_member *m = who_lacks(v, now);
    if (m) {
        resilver(v, m, now);
        v->tend_ms = sp_now_ms() + pace(v->resilver_rate);
        return true;
    }
    /* What is to be made comes to an end, and a scrub begins again for ever. */
    bool asked = wanted || (v->scrub.running && v->scrub.asked);
    v->parity_yields = asked && !v->parity_yields;
    if (!v->parity_yields && sp_parity_step(v, now)) {
        v->tend_ms = sp_now_ms() + (asked ? 0 : pace(v->resilver_rate));
        return true;
    }
    if (wanted) {
        atomic_store(&v->scrub_wanted, false);
        pthread_mutex_lock(&v->lock);
        uint32_t only = v->scrub_wanted_member;
        pthread_mutex_unlock(&v->lock);
        sp_scrub_begin(v, true, only);
    } else if (!v->scrub.running) {
        /* One that nobody asked for goes on for ever; in tests, which have no clock, never. */
        if (!v->threaded || !v->scrub_rate || v->segments_count < 2 ||
            now - v->scrub.finished_ms < SCRUB_REST_MS)
            return false;
        sp_scrub_begin(v, false, UINT32_MAX);
    }
    asked = v->scrub.asked;
    scrub(v, now);
    v->tend_ms = sp_now_ms() + (asked ? 0 : pace(v->scrub_rate));
    return true;
}

static void want_scrub(struct sp_volume *v, uint32_t only)
{
    pthread_mutex_lock(&v->lock);
    v->scrub_wanted_member = only;
    atomic_store(&v->scrub_wanted, true);
    pthread_cond_signal(&v->wake);
    pthread_mutex_unlock(&v->lock);
}

void sp_volume_scrub_now(struct sp_volume *v)
{
    want_scrub(v, UINT32_MAX);
}

enum sp_status sp_volume_scrub_unit(struct sp_volume *v, const char *name, struct sp_error *error)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        if (strcmp(v->members[i].name, name) != 0)
            continue;
        pthread_mutex_lock(&v->lock);
        bool replica = v->members[i].state == SP_UNIT_REPLICA && v->members[i].unit;
        pthread_mutex_unlock(&v->lock);
        if (!replica)
            return sp_error_set(error, SP_UNAVAILABLE, name,
                                "it is no replica, and has nothing to be verified");
        want_scrub(v, i);
        return SP_OK;
    }
    return sp_error_set(error, SP_NOT_FOUND, name, "the volume has no such unit");
}

uint64_t sp_tend_wait_ms(const struct sp_volume *v, uint64_t now, uint64_t most)
{
    return now >= v->tend_ms || v->tend_ms - now > most ? most : v->tend_ms - now;
}
