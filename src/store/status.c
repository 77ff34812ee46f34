/* What can be seen of a volume from outside, beyond what it counts itself: each unit's part of the
 * log, how fast it is brought what it lacks, and how long its writes take. */
#include "base/time.h"
#include "store/volume_internal.h"

#include <stdio.h>

#define RATE_WINDOW_MS 5000U
#define RATE_STALE_MS  30000U /* without a slice, and nothing is being brought */

void sp_member_set_state(struct sp_volume_member *m, enum sp_unit_state state)
{
    if (m->state != state)
        m->since_ns = sp_wall_ns();
    m->state = state;
}

void sp_resilver_rate(struct sp_volume *v, struct sp_volume_member *m, uint64_t bytes,
                      uint64_t now_ms)
{
    pthread_mutex_lock(&v->lock);
    uint64_t passed = now_ms - m->window_ms;
    m->window_bytes += bytes;
    if (m->window_ms == 0 || passed >= RATE_STALE_MS) {
        m->window_ms = now_ms;
        m->window_bytes = m->resilver_rate = 0;
    } else if (passed >= RATE_WINDOW_MS || (m->resilver_rate == 0 && passed >= 500)) {
        m->resilver_rate = m->window_bytes * 1000 / passed;
        m->window_ms = now_ms;
        m->window_bytes = 0;
    }
    pthread_mutex_unlock(&v->lock);
}

/* Under lock and segments_lock. */
static void fill_unit(const struct sp_volume *v, const struct sp_volume_member *m, uint64_t now_ms,
                      struct sp_volume_unit_status *u)
{
    bool replica = m->state == SP_UNIT_REPLICA;
    u->since_ns = m->since_ns;
    if (replica && m->from_lsn <= v->end.lsn) {
        u->lsn_first = m->from_lsn;
        u->lsn_last = v->end.lsn;
    } else if (!replica && m->until_lsn != UINT64_MAX && m->from_lsn <= m->until_lsn) {
        u->lsn_first = m->from_lsn;
        u->lsn_last = m->until_lsn;
    }
    for (size_t i = 0; replica && i < m->lacks && i < v->segments_count; i++)
        u->lacks_bytes +=
            (uint64_t)(v->segments[i].data_blocks + v->segments[i].footer_blocks) * SP_BLOCK_BYTES;
    uint64_t tended = (uint64_t)m->tended * SP_BLOCK_BYTES;
    u->lacks_bytes -= tended < u->lacks_bytes ? tended : u->lacks_bytes;
    if (replica && m->lacks && now_ms - m->window_ms < RATE_STALE_MS)
        u->resilver_rate = m->resilver_rate;
}

void sp_status_fill(struct sp_volume *v, struct sp_volume_status *status)
{
    uint64_t now_ms = sp_now_ms();
    status->commit_us = sp_histogram_recent(&v->commit_us, now_ms);
    sp_index_bytes(v->index, &status->index_bytes, &status->index_map_bytes);
    pthread_rwlock_rdlock(&v->segments_lock);
    pthread_mutex_lock(&v->lock);
    status->queue_commits = v->queue_commits;
    status->queue_bytes = v->queue_bytes;
    memcpy(status->why, v->writable ? v->short_why : v->why_not, sizeof status->why);
    for (uint32_t i = 0; i < v->members_count; i++)
        fill_unit(v, &v->members[i], now_ms, &status->units[i]);
    pthread_mutex_unlock(&v->lock);
    pthread_rwlock_unlock(&v->segments_lock);
    pthread_rwlock_rdlock(&v->units_lock);
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_unit *unit = v->members[i].unit;
        if (!unit)
            continue;
        status->units[i].writes = unit->writes.count;
        status->units[i].bytes_written = unit->writes.bytes;
        status->units[i].write_us = sp_histogram_recent(&unit->writes.us, now_ms);
    }
    pthread_rwlock_unlock(&v->units_lock);
}

bool sp_volume_totals(struct sp_volume *v, enum sp_volume_distribution which, uint32_t unit,
                      struct sp_totals *ret_totals)
{
    struct sp_histogram *const own[] = {[SP_OF_COMMIT_US] = &v->commit_us,
                                        [SP_OF_BATCH_COMMITS] = &v->batch_commits,
                                        [SP_OF_BATCH_BYTES] = &v->batch_bytes};
    if (which != SP_OF_UNIT_WRITE_US) {
        sp_histogram_totals(own[which], ret_totals);
        return true;
    }
    pthread_rwlock_rdlock(&v->units_lock);
    bool here = unit < v->members_count && v->members[unit].unit;
    if (here)
        sp_histogram_totals(&v->members[unit].unit->writes.us, ret_totals);
    pthread_rwlock_unlock(&v->units_lock);
    return here;
}

enum sp_status sp_volume_unit_vote(struct sp_volume *v, uint32_t unit, uint64_t *ret_promised,
                                   uint32_t *ret_accepted, struct sp_error *error)
{
    struct sp_vote vote;
    pthread_rwlock_rdlock(&v->units_lock);
    bool here = unit < v->members_count && v->members[unit].unit;
    enum sp_status status = here ? sp_vote_read(v->members[unit].unit, &vote, error)
                                 : sp_error_set(error, SP_NOT_FOUND, v->name, "it is not there");
    pthread_rwlock_unlock(&v->units_lock);
    if (status != SP_OK)
        return status;
    *ret_promised = vote.promised_counter;
    *ret_accepted = vote.accepted ? vote.head.epoch_counter : 0;
    return SP_OK;
}
