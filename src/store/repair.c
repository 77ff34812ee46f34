/* Read-repair: what an ordinary read found bad is mended at once, from a twin.
 *
 * The reader has no business with writing to a unit: it notes the place, and the committer mends it
 * between batches, before it goes on scrubbing. The list is short. What does not go into it is
 * found again, by the next read or by the scrub. A place that could not be mended stays listed for
 * a while, so that reads that meet it again and again do not have it tried (and told of) each time.
 *
 * Only a replica's copy is mended, of a segment that it should have: what an ejected or a stale
 * unit has is of no account.
 */
#include "base/log.h"
#include "base/time.h"
#include "store/volume_internal.h"

#include <inttypes.h>

#define GIVEN_UP_MS (10U * 60U * 1000U)

static bool touches(const struct sp_repair *r, uint32_t first, uint32_t count)
{
    return first <= r->first + r->count && r->first <= first + count;
}

static bool covers(const struct sp_repair *r, uint32_t first, uint32_t count)
{
    return first >= r->first && first + count <= r->first + r->count;
}

/* The place in the list that is free, or holds what was given up longest ago; NULL: all wait to be
 * mended. */
static struct sp_repair *room(struct sp_repairs *list)
{
    struct sp_repair *oldest = NULL;
    if (list->count < SP_REPAIRS_MAX)
        return &list->entries[list->count++];
    for (uint32_t i = 0; i < SP_REPAIRS_MAX; i++) {
        struct sp_repair *r = &list->entries[i];
        if (r->given_up_ms && (!oldest || r->given_up_ms < oldest->given_up_ms))
            oldest = r;
    }
    return oldest;
}

void sp_repair_note(struct sp_volume *v, const struct sp_volume_member *member,
                    const struct sp_volume_segment *segment, uint32_t block)
{
    struct sp_repair note = {.member = (uint32_t)(member - v->members),
                             .segment = segment->segment,
                             .generation = segment->generation,
                             .first = block,
                             .count = 1};
    uint64_t now = sp_now_ms();
    pthread_mutex_lock(&v->lock);
    struct sp_repairs *list = &v->repairs;
    for (uint32_t i = 0; i < list->count; i++) {
        struct sp_repair *r = &list->entries[i];
        if (r->member != note.member || r->segment != note.segment ||
            r->generation != note.generation)
            continue;
        if (r->given_up_ms) {
            if (covers(r, note.first, note.count) && now - r->given_up_ms < GIVEN_UP_MS)
                goto out;
        } else if (covers(r, note.first, note.count)) {
            goto out;
        } else if (touches(r, note.first, note.count) && r->count < SP_REPAIR_BLOCKS_MAX) {
            r->first = note.first < r->first ? note.first : r->first;
            r->count++;
            goto out;
        }
    }
    struct sp_repair *place = room(list);
    if (place)
        *place = note;
    pthread_cond_signal(&v->wake);
out:
    pthread_mutex_unlock(&v->lock);
}

/* The next to be mended, out of the list. */
static bool take(struct sp_volume *v, uint64_t now, struct sp_repair *ret)
{
    bool found = false;
    pthread_mutex_lock(&v->lock);
    struct sp_repairs *list = &v->repairs;
    for (uint32_t i = 0; i < list->count && !found; i++) {
        struct sp_repair *r = &list->entries[i];
        bool forgotten = r->given_up_ms && now - r->given_up_ms >= GIVEN_UP_MS;
        if (r->given_up_ms && !forgotten)
            continue;
        *ret = *r;
        *r = list->entries[--list->count];
        found = !forgotten;
        i -= forgotten;
    }
    pthread_mutex_unlock(&v->lock);
    return found;
}

static void give_up(struct sp_volume *v, struct sp_repair r, uint64_t now)
{
    r.given_up_ms = now ? now : 1;
    pthread_mutex_lock(&v->lock);
    struct sp_repair *place = room(&v->repairs);
    if (place)
        *place = r;
    pthread_mutex_unlock(&v->lock);
}

static size_t find_segment(const struct sp_volume *v, const struct sp_repair *r)
{
    for (size_t i = v->segments_count; i-- > 0;)
        if (v->segments[i].segment == r->segment)
            return v->segments[i].generation == r->generation ? i : SIZE_MAX;
    return SIZE_MAX;
}

bool sp_repair_step(struct sp_volume *v, uint64_t now)
{
    struct sp_repair r = {0};
    uint32_t mended = 0, unmendable = 0;
    if (!take(v, now, &r))
        return false;
    struct sp_volume_member *m = &v->members[r.member];
    size_t i = find_segment(v, &r);
    /* Since then it may have been ejected, or lost the segment: which is then brought to it. */
    if (i == SIZE_MAX || m->state != SP_UNIT_REPLICA || !m->unit || i < m->lacks)
        return true;
    const struct sp_volume_segment *segment = &v->segments[i];
    sp_tend_copy(v, m, i, r.first, r.count, now, &mended, &unmendable);
    if (mended || unmendable)
        sp_log(unmendable ? SP_LOG_ERROR : SP_LOG_WARN, "read.repair",
               "volume=%s unit=%s segment=%" PRIu64 " lsn=%" PRIu64 "-%" PRIu64
               " blocks=%u-%u mended=%u unmendable=%u",
               v->name, m->name, segment->segment, segment->first_lsn, segment->last_lsn, r.first,
               r.first + r.count - 1, mended, unmendable);
    if (unmendable)
        give_up(v, r, now);
    return true;
}
