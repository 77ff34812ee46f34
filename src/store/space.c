/* Space is watched and kept in reserve: for the heads of epochs, without which a failed unit could
 * not be left behind, and for what else must be written to make room. A volume with less than that
 * on one of its replicas takes nothing more, and mail waits at its sender, before the disk is full.
 * But what makes room goes on: compaction, what it says in the log, and the guard (uses_reserve in
 * commit.c).
 */
#include "base/log.h"
#include "store/volume_internal.h"

#include <inttypes.h>
#include <stdio.h>

bool sp_space_allows(struct sp_volume *v, const struct sp_volume_member *m, uint64_t *ret_free)
{
    uint64_t free_bytes = UINT64_MAX;
    bool known = v->reserve_bytes && m->unit->ops->space &&
                 m->unit->ops->space(m->unit, &free_bytes, NULL) == SP_OK;
    *ret_free = known ? free_bytes : UINT64_MAX;
    /* Once it was short, a quarter more must be there: so that it does not go on and off. */
    uint64_t wanted = v->reserve_bytes + (v->short_of_space ? v->reserve_bytes / 4 : 0);
    return !known || free_bytes >= wanted;
}

void sp_space_check(struct sp_volume *v)
{
    char why[sizeof v->short_why] = "";
    uint64_t free_bytes;
    for (uint32_t i = 0; i < v->members_count && !*why; i++) {
        const struct sp_volume_member *m = &v->members[i];
        if (m->state != SP_UNIT_REPLICA || !m->unit || sp_space_allows(v, m, &free_bytes))
            continue;
        snprintf(why, sizeof why,
                 "unit %.63s has %" PRIu64 " MiB left, and %" PRIu64 " MiB are kept in reserve",
                 m->name, free_bytes >> 20, v->reserve_bytes >> 20);
    }
    bool is_short = *why, was_short = v->short_of_space;
    pthread_mutex_lock(&v->lock);
    v->short_of_space = is_short;
    memcpy(v->short_why, why, sizeof why);
    pthread_mutex_unlock(&v->lock);
    if (is_short && !was_short)
        sp_log(SP_LOG_ERROR, "volume.short", "volume=%s why=\"%s\"", v->name, why);
    if (!is_short && was_short)
        sp_log(SP_LOG_INFO, "volume.room", "volume=%s", v->name);
}
