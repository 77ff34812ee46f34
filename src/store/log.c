/* The writer of a volume's log: epochs, segments, and batches onto all replicas at once. */
#include "base/grow.h"
#include "base/log.h"
#include "base/time.h"
#include "store/breakage.h"
#include "store/volume_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define WAIT_SLICE_MS 20U
#define PATIENCE      10U /* timeouts until a write that nobody completes is given up */

/* ---- Votes ---- */

enum sp_status sp_vote_read(struct sp_unit *unit, struct sp_vote *ret_vote, struct sp_error *error)
{
    uint8_t *bytes = NULL;
    size_t len = 0;
    enum sp_status status = unit->ops->vote_read(unit, &bytes, &len, error);
    if (status == SP_NOT_FOUND) {
        *ret_vote = (struct sp_vote){0};
        return SP_OK;
    }
    if (status != SP_OK)
        return status;
    status = sp_vote_parse(sp_slice(bytes, len), ret_vote);
    free(bytes);
    return status == SP_OK ? SP_OK : sp_error_set(error, status, unit->name, "its vote is damaged");
}

static bool is_majority(const struct sp_uuid *held, uint32_t held_count,
                        const struct sp_uuid *voters, uint32_t voters_count)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < voters_count; i++)
        for (uint32_t k = 0; k < held_count; k++)
            if (sp_uuid_eq(&voters[i], &held[k])) {
                count++;
                break;
            }
    return count > voters_count / 2;
}

/* Writes a vote on every member that can be reached and is not suspect; true when a majority has
 * it: of those who will be the new epoch's voters, and of those who were the last one's, so that
 * nobody can choose another epoch behind its back. */
static bool vote_on_majority(struct sp_volume *v, uint64_t counter, uint64_t id,
                             const struct sp_segment_head *head, const uint8_t *head_block)
{
    struct sp_uuid held[SP_VOLUME_UNITS_MAX], voters[SP_MEMBERS_MAX];
    uint32_t held_count = 0;
    if (SP_BREAK(no_promise) && !head_block)
        return true;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_error error = {0};
        struct sp_vote old = {0};
        uint8_t bytes[SP_VOTE_BYTES_MAX], accepted[SP_BLOCK_BYTES];
        const uint8_t *accept = head_block;
        if (!m->unit || m->suspect || m->outside || m->foreign || m->state == SP_UNIT_ABSENT)
            continue;
        enum sp_status status = sp_vote_read(m->unit, &old, &error);
        if (status == SP_CORRUPT && m->vouched && head_block) {
            /* What it had accepted is lost, so it is not counted; but from here on it knows. */
            size_t whole = sp_vote_write(counter, id, head_block, bytes);
            m->vouched = m->unit->ops->vote_write(m->unit, sp_slice(bytes, whole), &error) != SP_OK;
            continue;
        }
        if (status != SP_OK || old.promised_counter > counter)
            continue;
        if (!accept && old.accepted) {
            sp_segment_head_write(&old.head, accepted);
            accept = accepted;
        }
        size_t len = sp_vote_write(counter, id, accept, bytes);
        if (m->unit->ops->vote_write(m->unit, sp_slice(bytes, len), &error) == SP_OK)
            held[held_count++] = m->id;
        else
            sp_log(SP_LOG_WARN, "volume.vote",
                   "volume=%s unit=%s epoch=%" PRIu64 " lsn=%" PRIu64 " why=%s", v->name, m->name,
                   counter, v->end.lsn, SP_LOG_QUOTED(error.why));
    }
    for (uint32_t i = 0; i < head->members_count; i++)
        voters[i] = head->members[i].unit;
    if (SP_BREAK(no_votes))
        return true;
    return is_majority(held, held_count, voters, head->members_count) &&
           (v->voters_count == 0 || is_majority(held, held_count, v->voters, v->voters_count));
}

/* ---- Members ---- */

uint32_t sp_log_replicas(const struct sp_volume *v)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < v->members_count; i++)
        count += v->members[i].state == SP_UNIT_REPLICA && v->members[i].unit;
    return count;
}

uint64_t sp_log_sole_lsn(const struct sp_volume *v, const struct sp_volume_member *member)
{
    uint64_t from = v->end.lsn + 1;
    if (member->state != SP_UNIT_EJECTED || !member->unit)
        return 0;
    for (uint32_t i = 0; i < v->members_count; i++)
        if (v->members[i].state == SP_UNIT_REPLICA && v->members[i].unit &&
            v->members[i].from_lsn < from)
            from = v->members[i].from_lsn;
    return member->from_lsn < from ? from - 1 : 0;
}

void sp_log_eject(struct sp_volume *v, struct sp_volume_member *member, const char *why)
{
    pthread_mutex_lock(&v->lock);
    sp_member_set_state(member, SP_UNIT_EJECTED);
    member->until_lsn = v->end.lsn;
    member->suspect = true;
    snprintf(member->why, sizeof member->why, "%s", why);
    uint64_t sole = sp_log_sole_lsn(v, member);
    pthread_mutex_unlock(&v->lock);
    v->ejections++;
    v->epoch_broken = !SP_BREAK(eject_same_epoch);
    sp_log(SP_LOG_ERROR, "unit.eject",
           "volume=%s unit=%s segment=%" PRIu64 " lsn=%" PRIu64 " why=%s", v->name, member->name,
           v->end.segment, v->end.lsn, SP_LOG_QUOTED(why));
    /* The last holder of something is only suspended: it is not written to, and goes on being read
     * until a replica has what only it has. */
    if (sole)
        sp_log(SP_LOG_ERROR, "unit.suspend", "volume=%s unit=%s lsn=%" PRIu64, v->name,
               member->name, sole);
}

/* Whether what takes a replica takes it as well. */
static bool shares_domain(const struct sp_volume *v, const struct sp_volume_member *m)
{
    bool shares = false;
    for (uint32_t i = 0; i < v->members_count; i++)
        shares |= v->members[i].state == SP_UNIT_REPLICA && v->members[i].unit &&
                  sp_unit_domains_shared(v->members[i].domain, m->domain);
    return shares;
}

static void recruit(struct sp_volume *v, bool any_domain, bool any_room)
{
    uint64_t free_bytes;
    for (uint32_t i = 0; i < v->members_count && sp_log_replicas(v) < v->replicas_wanted; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_error error = {0};
        if (m->state != SP_UNIT_SPARE || !m->unit || (!any_domain && shares_domain(v, m)) ||
            (!any_room && !sp_space_allows(v, m, &free_bytes)) ||
            m->unit->ops->check(m->unit, &error) != SP_OK)
            continue;
        pthread_mutex_lock(&v->lock);
        sp_member_set_state(m, SP_UNIT_REPLICA);
        m->until_lsn = UINT64_MAX;
        m->from_lsn = SP_BREAK(recruit_has_all) ? 1 : v->end.lsn + 1;
        m->lacks = SP_BREAK(recruit_has_all) ? 0 : v->segments_count;
        m->tended = 0;
        pthread_mutex_unlock(&v->lock);
        v->recruits++;
        sp_log(SP_LOG_WARN, "unit.recruit", "volume=%s unit=%s segment=%" PRIu64 " lsn=%" PRIu64,
               v->name, m->name, v->end.segment, v->end.lsn + 1);
    }
}

/* Rather one with room, and in a failure domain of its own. */
void sp_log_recruit(struct sp_volume *v)
{
    recruit(v, false, false);
    recruit(v, true, false);
    recruit(v, true, true);
}

static enum sp_status cannot_write(struct sp_volume *v, const char *format, ...) SP_PRINTF(2, 3);
static enum sp_status cannot_write(struct sp_volume *v, const char *format, ...)
{
    va_list args;
    char why[sizeof v->why_not];
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    pthread_mutex_lock(&v->lock);
    bool news = strcmp(v->why_not, why) != 0; /* it is tried again and again */
    v->writable = false;
    memcpy(v->why_not, why, sizeof why);
    pthread_mutex_unlock(&v->lock);
    if (news)
        sp_log(SP_LOG_ERROR, "volume.defer", "volume=%s segment=%" PRIu64 " lsn=%" PRIu64 " why=%s",
               v->name, v->end.segment, v->end.lsn, SP_LOG_QUOTED(why));
    return SP_UNAVAILABLE;
}

void sp_log_suspend(struct sp_volume *v, const struct sp_volume_member *member, const char *why)
{
    (void)cannot_write(v, "unit %s failed, and it is the last: %s", member->name, why);
}

/* ---- Writing on all replicas ---- */

/* Memory that a stalled unit may still be reading: never freed, since nobody can say when it could
 * be. */
struct abandoned {
    struct abandoned *next;
    void *memory;
};
static struct abandoned *_Atomic abandoned_list;

void sp_log_abandon(void *memory)
{
    struct abandoned *entry = malloc(sizeof *entry);
    if (!entry)
        return;
    *entry = (struct abandoned){abandoned_list, memory};
    while (!atomic_compare_exchange_weak(&abandoned_list, &entry->next, entry))
        continue;
}

/* Writes and syncs blocks on every replica that has the log from from_lsn on. SP_OK: all have them.
 * SP_IO: replicas failed and were ejected; the others have them. SP_NO_SPACE, SP_NO_MEMORY: some
 * unit is full, or the process has no memory or descriptors left, which is no unit's fault; others
 * may have been ejected. SP_UNAVAILABLE: the last one failed, or those that did not
 * all stall: nobody is ejected for being as slow as all others. v->write_abandoned: a stalled unit
 * may still read the blocks, whatever the outcome. */
static enum sp_status write_all(struct sp_volume *v, uint64_t from_lsn, uint64_t segment,
                                uint32_t generation, uint32_t first, const uint8_t *blocks,
                                uint32_t count)
{
    bool pending[SP_VOLUME_UNITS_MAX] = {false};
    v->write_abandoned = false;
    uint32_t waiting = 0, done = 0, replicas = 0;
    enum sp_status outcome = SP_OK;
    uint64_t start = sp_now_ms();
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        if (m->state != SP_UNIT_REPLICA || !m->unit || m->from_lsn > from_lsn)
            continue;
        /* An empty segment begins at the same LSN as what came after it. */
        if (from_lsn != UINT64_MAX && m->lacks == v->segments_count)
            continue;
        if (SP_BREAK(one_copy) && waiting)
            continue;
        m->unit->ops->write_start(m->unit, segment, generation, first, blocks, count);
        pending[i] = true;
        waiting++;
        replicas++;
    }
    struct sp_volume_member *failed[SP_VOLUME_UNITS_MAX];
    struct sp_error errors[SP_VOLUME_UNITS_MAX];
    uint32_t failed_count = 0;
    const struct sp_volume_member *stalled = NULL; /* one of them, when nobody has completed */
    while (waiting) {
        for (uint32_t i = 0; i < v->members_count; i++) {
            struct sp_volume_member *m = &v->members[i];
            struct sp_error error = {0};
            if (!pending[i])
                continue;
            enum sp_status status = m->unit->ops->wait(m->unit, WAIT_SLICE_MS, &error);
            if (status == SP_TIMEOUT) {
                /* Only slower than a twin is suspect: a controller on which everything stalls
                 * ejects nobody. */
                uint64_t waited = sp_now_ms() - start;
                if (waited < (done ? 1 : PATIENCE) * (uint64_t)v->unit_timeout_ms)
                    continue;
                v->write_abandoned = true;
                if (!done) {
                    m->unanswered = true;
                    stalled = m;
                    pending[i] = false;
                    waiting--;
                    continue;
                }
                sp_error_set(&error, SP_TIMEOUT, m->name,
                             "it stalled for more than %u ms while another unit wrote",
                             v->unit_timeout_ms);
            }
            pending[i] = false;
            waiting--;
            if ((SP_BREAK(failed_sync) && status == SP_IO) ||
                (SP_BREAK(full_is_done) && status == SP_NO_SPACE))
                status = SP_OK;
            if (status == SP_OK) {
                done++;
            } else if (status == SP_NO_SPACE || status == SP_NO_MEMORY) {
                outcome = status;
                sp_log(SP_LOG_ERROR, status == SP_NO_SPACE ? "unit.full" : "unit.memory",
                       "volume=%s unit=%s segment=%" PRIu64 " lsn=%" PRIu64 " why=%s", v->name,
                       m->name, segment, v->end.lsn, SP_LOG_QUOTED(error.why));
            } else {
                errors[failed_count] = error;
                failed[failed_count++] = m;
            }
        }
    }
    if (failed_count == replicas) {
        /* The last holders of the log are never ejected: the volume stops writing instead. */
        return replicas ? cannot_write(v, "unit %s failed, and it is the last: %s", failed[0]->name,
                                       errors[0].why)
                        : cannot_write(v, "no unit is left to write to");
    }
    for (uint32_t i = 0; i < failed_count; i++)
        sp_log_eject(v, failed[i], errors[i].why);
    if (stalled)
        return cannot_write(v, "unit %s has not answered for %u ms, and no other completed",
                            stalled->name, PATIENCE * v->unit_timeout_ms);
    if (outcome == SP_OK && failed_count)
        outcome = SP_IO;
    sp_assert(outcome != SP_OK || done == replicas);
    return outcome;
}

/* ---- Segments ---- */

enum sp_status sp_volume_add_segment(struct sp_volume *v, const struct sp_volume_segment *segment)
{
    enum sp_status status = SP_OK;
    pthread_rwlock_wrlock(&v->segments_lock);
    if (v->segments_count == v->segments_capacity) {
        size_t capacity = v->segments_capacity ? v->segments_capacity * 2 : 64;
        struct sp_volume_segment *grown = realloc(v->segments, capacity * sizeof *grown);
        if (grown) {
            v->segments = grown;
            v->segments_capacity = capacity;
        } else {
            status = SP_NO_MEMORY;
        }
    }
    if (status == SP_OK)
        v->segments[v->segments_count++] = *segment;
    pthread_rwlock_unlock(&v->segments_lock);
    return status;
}

/* Where the log ends is looked at by others (sp_volume_status). */
static void set_end(struct sp_volume *v, const struct sp_log_end *end)
{
    pthread_mutex_lock(&v->lock);
    v->end = *end;
    pthread_mutex_unlock(&v->lock);
}

/* Which segment has the record now: compaction moves it. */
static uint64_t segment_of(const struct sp_volume *v, uint64_t lsn)
{
    for (size_t i = v->segments_count; i-- > 0 && lsn;)
        if (v->segments[i].first_lsn <= lsn)
            return v->segments[i].segment;
    return 0;
}

static void fill_head(struct sp_volume *v, uint64_t segment, bool epoch_begins,
                      struct sp_segment_head *head)
{
    *head = (struct sp_segment_head){
        .volume = v->id,
        .epoch_id = v->epoch_id,
        .epoch_counter = v->epoch_counter,
        .segment = segment,
        .epoch_begins = epoch_begins,
        .time_ns = sp_wall_ns(),
        /* v->next_lsn counts the batch under way */
        .next_lsn = v->loss.pending ? v->loss.gap_lsn : v->end.lsn + 1,
        .batch = v->end.batch + 1,
        .min_copies = v->min_copies,
        .segment_bytes = v->segment_bytes,
        .previous = v->end,
        .manifest_segment = segment_of(v, v->apply.position.manifest_lsn),
        .manifest_lsn = v->apply.position.manifest_lsn,
    };
    uint32_t absent = 0;
    head->members_count = 0;
    for (uint32_t i = 0; i < v->members_count; i++) {
        static const uint8_t roles[] = {
            [SP_UNIT_REPLICA] = SP_MEMBER_REPLICA, [SP_UNIT_SPARE] = SP_MEMBER_SPARE,
            [SP_UNIT_WITNESS] = SP_MEMBER_WITNESS, [SP_UNIT_EJECTED] = SP_MEMBER_EJECTED,
            [SP_UNIT_STALE] = SP_MEMBER_EJECTED,   [SP_UNIT_ABSENT] = SP_MEMBER_EJECTED};
        const struct sp_volume_member *m = &v->members[i];
        if (m->outside)
            continue;
        if (sp_uuid_is_nil(&m->id)) {
            absent++; /* who it is only the last epoch knows */
            continue;
        }
        if (m->foreign || (v->loss.forced && m->vote_damaged))
            continue; /* no voter yet */
        struct sp_member *member = &head->members[head->members_count++];
        *member = (struct sp_member){.unit = m->id, .role = roles[m->state]};
        if (m->state == SP_UNIT_ABSENT && (m->spare || m->witness))
            member->role = m->spare ? SP_MEMBER_SPARE : SP_MEMBER_WITNESS;
        if (m->state == SP_UNIT_REPLICA && m->from_lsn <= v->end.lsn) {
            member->ranges_count = 1;
            member->ranges[0].first = m->from_lsn;
            member->ranges[0].last = v->end.lsn;
        }
    }
    /* A unit that is not here stays a member, and a spare a spare; but a replica misses what comes
     * now. */
    for (uint32_t i = 0; i < v->away_count && absent; i++, absent--) {
        struct sp_member away = v->away[i];
        bool listed = false; /* it is here, but its vote is damaged */
        for (uint32_t k = 0; k < head->members_count; k++)
            listed |= sp_uuid_eq(&head->members[k].unit, &away.unit);
        if (listed) {
            absent++;
            continue;
        }
        if (away.role == SP_MEMBER_REPLICA)
            away.role = SP_MEMBER_EJECTED;
        away.ranges_count = 0;
        head->members[head->members_count++] = away;
    }
}

/* The head is durable: from here on the log ends in this segment. */
static enum sp_status segment_started(struct sp_volume *v, const struct sp_segment_head *head,
                                      const uint8_t *block)
{
    struct sp_volume_segment segment = {.segment = head->segment,
                                        .epoch_id = head->epoch_id,
                                        .data_blocks = 1,
                                        .first_lsn = head->next_lsn,
                                        .last_lsn = head->next_lsn - 1,
                                        .previous = head->previous};
    enum sp_status status = sp_volume_add_segment(v, &segment);
    if (status != SP_OK)
        return status;
    struct sp_log_end end = v->end;
    end.epoch_id = head->epoch_id;
    end.epoch_counter = head->epoch_counter;
    end.segment = head->segment;
    end.generation = 0;
    end.blocks = 1;
    end.lsn = head->next_lsn - 1;
    end.chain = sp_block_chain(block);
    set_end(v, &end);
    v->segment_max = head->segment;
    if (sp_block_read(block, &v->last_header) != SP_OK)
        return SP_CORRUPT;
    sp_footer_builder_reset(v->footer);
    sp_footer_builder_blocks(v->footer, block, 1);
    v->housekeeping = true;
    if (++v->tails_segments >= SP_TAILS_SEGMENTS)
        sp_volume_begin_tails(v);
    return SP_OK;
}

/* Creates the segment on the replicas and writes its head. Same outcomes as write_all. */
static enum sp_status start_segment(struct sp_volume *v, const struct sp_segment_head *head)
{
    uint32_t blocks = (uint32_t)(v->segment_bytes / SP_BLOCK_BYTES);
    bool lost = false;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_error error = {0};
        if (m->state != SP_UNIT_REPLICA || !m->unit)
            continue;
        enum sp_status status = m->unit->ops->create(m->unit, head->segment, 0, blocks, &error);
        if (status == SP_NO_SPACE || status == SP_NO_MEMORY)
            return status;
        if (status == SP_OK ||
            status == SP_EXISTS) /* made by an attempt that another unit's lack of space ended */
            continue;
        if (sp_log_replicas(v) == 1)
            return cannot_write(v, "unit %s failed, and it is the last: %s", m->name, error.why);
        sp_log_eject(v, m, error.why);
        lost = true;
    }
    if (lost)
        return SP_IO;
    uint8_t *block = aligned_alloc(SP_BLOCK_BYTES, SP_BLOCK_BYTES);
    if (!block)
        return SP_NO_MEMORY;
    sp_segment_head_write(head, block);
    enum sp_status status = write_all(v, UINT64_MAX, head->segment, 0, 0, block, 1);
    if (status == SP_OK)
        status = segment_started(v, head, block);
    if (v->write_abandoned)
        sp_log_abandon(block);
    else
        free(block);
    if (status != SP_OK)
        return status;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        if (m->unit && m->unit->ops->prepare && m->state == SP_UNIT_REPLICA)
            m->unit->ops->prepare(m->unit, head->segment + 1, 0, blocks);
    }
    return SP_OK;
}

enum sp_status sp_log_seal(struct sp_volume *v, struct sp_volume_segment *segment,
                           const struct sp_block_header *last_header, uint64_t chain)
{
    uint8_t *blocks = NULL;
    uint32_t count = 0;
    struct sp_trailer trailer;
    enum sp_status status =
        sp_footer_builder_finish(v->footer, last_header, chain, &blocks, &count, &trailer);
    if (status != SP_OK)
        return status;
    sp_assert(trailer.data_blocks == segment->data_blocks);
    /* A footer is a copy: where it cannot be written nothing is lost, and what failed is seen to
     * by the write that comes next. */
    status = write_all(v, segment->first_lsn, segment->segment, segment->generation,
                       segment->data_blocks, blocks, count);
    if (v->write_abandoned)
        sp_log_abandon(blocks);
    else
        free(blocks);
    for (uint32_t i = 0; i < v->members_count && status == SP_OK; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_error error = {0};
        /* A unit that came later does not have the segment, and gets it whole. */
        if (m->state != SP_UNIT_REPLICA || !m->unit || m->from_lsn > segment->first_lsn ||
            m->lacks == v->segments_count)
            continue;
        if (m->unit->ops->seal(m->unit, segment->segment, segment->generation,
                               segment->data_blocks + count, &error) != SP_OK)
            sp_log(SP_LOG_WARN, "segment.seal",
                   "volume=%s unit=%s segment=%" PRIu64 " lsn=%" PRIu64 " why=%s", v->name, m->name,
                   segment->segment, segment->last_lsn, SP_LOG_QUOTED(error.why));
    }
    pthread_rwlock_wrlock(&v->segments_lock);
    segment->sealed = true;
    segment->digest = trailer.digest;
    /* Nobody looks for a footer that nobody has. */
    segment->footer_blocks = status == SP_OK || status == SP_IO ? count : 0;
    pthread_rwlock_unlock(&v->segments_lock);
    if (!sp_grow(&v->sealed, v->sealed_count, &v->sealed_capacity, sizeof *v->sealed))
        return SP_NO_MEMORY;
    v->sealed[v->sealed_count++] = sp_manifest_entry(segment);
    return SP_OK;
}

/* Seals the segment being written, if it is. */
static enum sp_status seal_current(struct sp_volume *v)
{
    if (v->segments_count == 0)
        return SP_OK;
    struct sp_volume_segment *segment = &v->segments[v->segments_count - 1];
    if (segment->sealed || segment->epoch_id != v->epoch_id)
        return SP_OK;
    return sp_log_seal(v, segment, &v->last_header, v->end.chain);
}

/* ---- Epochs ---- */

/* The highest counter that any unit has promised to: a new epoch's is higher. */
static uint64_t highest_promise(struct sp_volume *v)
{
    uint64_t counter = v->epoch_counter;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_vote vote;
        struct sp_error error;
        if (!v->members[i].unit || v->members[i].suspect ||
            sp_vote_read(v->members[i].unit, &vote, &error) != SP_OK)
            continue;
        counter = vote.promised_counter > counter ? vote.promised_counter : counter;
    }
    return counter;
}

/* One attempt. SP_IO: a replica failed on the way and was ejected; try again without it. */
static enum sp_status try_epoch(struct sp_volume *v)
{
    sp_log_recruit(v);
    uint32_t copies = sp_log_replicas(v);
    if (copies == 0 || (copies < v->min_copies && !v->degraded_accept))
        return cannot_write(v, "%u of the %u copies that min_copies asks for can be written",
                            copies, v->min_copies);
    uint64_t counter = highest_promise(v);
    if (counter >= UINT32_MAX - 1)
        return cannot_write(v, "there are no epochs left to count");
    v->epoch_counter = (uint32_t)counter + 1;
    v->epoch_id = sp_random_u64();
    struct sp_segment_head head;
    uint8_t block[SP_BLOCK_BYTES];
    fill_head(v, v->segment_max + 1, true, &head);
    v->segment_max++; /* whatever happens, nobody uses the number for something else */
    sp_segment_head_write(&head, block);
    /* First a promise not to follow an older epoch, then the epoch itself: so no two can both
     * be chosen. */
    if (!vote_on_majority(v, v->epoch_counter, v->epoch_id, &head, NULL) ||
        !vote_on_majority(v, v->epoch_counter, v->epoch_id, &head, block))
        return cannot_write(v, "no majority of the %u units can be reached to begin an epoch",
                            head.members_count);
    pthread_mutex_lock(&v->lock);
    v->voters_count = head.members_count;
    for (uint32_t i = 0; i < head.members_count; i++)
        v->voters[i] = head.members[i].unit;
    pthread_mutex_unlock(&v->lock);
    enum sp_status status = start_segment(v, &head);
    if (status == SP_NO_SPACE)
        return cannot_write(v, "a unit is full");
    if (status != SP_OK)
        return status;
    if (sp_loss_note_head(v, &head, false) != SP_OK)
        return SP_NO_MEMORY;
    sp_log(SP_LOG_INFO, "volume.epoch",
           "volume=%s epoch=%u id=%016" PRIx64 " segment=%" PRIu64 " lsn=%" PRIu64 " copies=%u",
           v->name, v->epoch_counter, v->epoch_id, head.segment, v->next_lsn, sp_log_replicas(v));
    return SP_OK;
}

/* Whether the writes that were given up have ended: until then nothing can be written to these
 * units. What landed late lies behind the end of the log, and is void with the next epoch. */
static bool have_answered(struct sp_volume *v)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_error error = {0};
        if (m->state != SP_UNIT_REPLICA || !m->unit || !m->unanswered)
            continue;
        enum sp_status status = m->unit->ops->wait(m->unit, 1, &error);
        if (status == SP_TIMEOUT)
            return false;
        m->unanswered = false;
        if (status != SP_OK && status != SP_NO_SPACE && status != SP_NO_MEMORY &&
            sp_log_replicas(v) > 1)
            sp_log_eject(v, m, error.why);
    }
    return true;
}

enum sp_status sp_log_begin_epoch(struct sp_volume *v)
{
    /* Until it has begun, nothing may be written: not in the old epoch, whose units differ now, and
     * not in one that is only half begun. */
    pthread_mutex_lock(&v->lock);
    v->writable = false;
    pthread_mutex_unlock(&v->lock);
    if (!have_answered(v))
        return SP_UNAVAILABLE; /* why_not says it already */
    enum sp_status status = seal_current(v);
    if (status == SP_OK) {
        status = SP_IO;
        for (uint32_t attempt = 0; attempt <= v->members_count && status == SP_IO; attempt++)
            status = try_epoch(v);
    }
    if (status == SP_UNAVAILABLE)
        return status;
    if (status != SP_OK)
        return cannot_write(v, "an epoch cannot be begun: %s",
                            status == SP_IO ? "every unit failed" : sp_status_name(status));
    pthread_mutex_lock(&v->lock);
    v->writable = true;
    v->why_not[0] = '\0';
    pthread_mutex_unlock(&v->lock);
    v->epoch_broken = false;
    return SP_OK;
}

enum sp_status sp_log_rotate_if_full(struct sp_volume *v)
{
    if (!v->writable)
        return SP_UNAVAILABLE;
    if ((uint64_t)v->end.blocks * SP_BLOCK_BYTES < v->segment_bytes)
        return SP_OK;
    enum sp_status status = seal_current(v);
    if (status != SP_OK)
        return status;
    if (v->epoch_broken)
        return sp_log_begin_epoch(v);
    struct sp_segment_head head;
    fill_head(v, v->segment_max + 1, false, &head);
    status = start_segment(v, &head);
    return v->epoch_broken ? sp_log_begin_epoch(v) : status;
}

/* ---- Batches ---- */

enum sp_status sp_log_append(struct sp_volume *v, bool *ret_moved)
{
    uint32_t count = sp_batch_blocks(&v->batch);
    uint64_t chain = 0;
    bool moved = false;
    sp_assert(count > 0 && !v->batch.failed);
    for (;;) {
        if (v->writable && v->epoch_broken) {
            /* The units differ now. What they share is v->end; the batch is written behind it, in
             * an epoch of those that are left. */
            enum sp_status status = sp_log_begin_epoch(v);
            if (status != SP_OK)
                return status;
            moved = true;
        }
        if (!v->writable)
            return SP_UNAVAILABLE;
        struct sp_block_header first = {
            .volume = v->id,
            .epoch_id = v->epoch_id,
            .epoch_counter = v->epoch_counter,
            .segment = v->end.segment,
            .generation = v->end.generation,
            .index = v->end.blocks,
            .batch = v->end.batch + 1,
            .chain = v->end.chain,
        };
        chain = sp_batch_finish(&v->batch, &first);
        enum sp_status status = write_all(v, UINT64_MAX, v->end.segment, v->end.generation,
                                          v->end.blocks, v->batch.blocks, count);
        if (v->write_abandoned) {
            void *old = sp_batch_abandon(&v->batch);
            if (!old)
                return cannot_write(v, "out of memory");
            sp_log_abandon(old);
        }
        if (status == SP_OK)
            break;
        if (status != SP_IO)
            return status;
    }
    uint32_t base = v->end.blocks;
    sp_footer_builder_blocks(v->footer, v->batch.blocks, count);
    struct sp_buf scratch;
    struct sp_record record;
    struct sp_place place;
    uint64_t cursor = 0;
    sp_buf_init(&scratch, SP_RECORD_PAYLOAD_MAX + SP_RECORD_HEADER_BYTES);
    while (sp_batch_next(&v->batch, &cursor, &scratch, &record, &place)) {
        place.segment = v->end.segment;
        place.generation = v->end.generation;
        place.block += base;
        sp_footer_builder_record(v->footer, &record, &place);
    }
    sp_buf_release(&scratch);
    if (sp_block_read(v->batch.blocks + (size_t)(count - 1) * SP_BLOCK_BYTES, &v->last_header) !=
        SP_OK)
        return SP_CORRUPT;
    struct sp_log_end end = v->end;
    end.blocks += count;
    end.batch++;
    end.chain = chain;
    end.lsn = v->batch.last_lsn;
    set_end(v, &end);
    v->bytes += (uint64_t)count * SP_BLOCK_BYTES;
    pthread_rwlock_wrlock(&v->segments_lock);
    v->segments[v->segments_count - 1].data_blocks = v->end.blocks;
    v->segments[v->segments_count - 1].last_lsn = v->end.lsn;
    pthread_rwlock_unlock(&v->segments_lock);
    *ret_moved = moved;
    return SP_OK;
}
