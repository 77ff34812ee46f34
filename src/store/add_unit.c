/* Taking a unit back, or a new one in, while the volume is open.
 *
 * A unit that was ejected stays out until somebody says that it is sound again. Then it is opened
 * anew, and becomes a spare with the next epoch; or at once a replica, where one is wanted. What it
 * still has of the log is not thrown away: it is verified when what it lacks is brought to it
 * (tend.c).
 *
 * It is opened and put into its place by the committer, between batches, under units_lock, which
 * readers hold while they use a unit.
 */
#include "base/log.h"
#include "base/time.h"
#include "store/volume_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define PATIENCE_S 2 /* for readers that still use the unit */

struct sp_add_unit {
    const char *name;
    sp_unit_opener *open;
    void *context;
};

struct sp_volume_member *sp_volume_member_named(struct sp_volume *v, const char *name)
{
    for (uint32_t i = 0; i < v->members_count; i++)
        if (strcmp(v->members[i].name, name) == 0)
            return &v->members[i];
    return NULL;
}

/* Another member with this UUID; NULL: none. */
static const struct sp_volume_member *
twin_of(const struct sp_volume *v, const struct sp_volume_member *m, const struct sp_uuid *id)
{
    for (uint32_t i = 0; i < v->members_count; i++)
        if (&v->members[i] != m && sp_uuid_eq(&v->members[i].id, id))
            return &v->members[i];
    return NULL;
}

/* The unit's vote and files: it must not know of anything later than we do. */
static enum sp_status look_at(struct sp_volume *v, struct sp_unit *unit, bool *ret_vouched,
                              bool *ret_foreign, struct sp_error *error)
{
    struct sp_vote vote;
    struct sp_unit_segment *list = NULL;
    size_t count = 0;
    enum sp_status status = unit->ops->list(unit, &list, &count, error);
    if (status != SP_OK)
        return status;
    if (count && list[count - 1].segment > v->segment_max)
        v->segment_max = list[count - 1].segment; /* no number is used twice */
    status = sp_vote_read(unit, &vote, error);
    *ret_vouched = status == SP_CORRUPT; /* by whoever takes it back */
    if (status == SP_CORRUPT)
        vote = (struct sp_vote){0};
    if (status == SP_OK || status == SP_CORRUPT)
        *ret_foreign = sp_left_is_foreign(v, unit, &vote, list, count);
    free(list);
    if (status == SP_CORRUPT)
        return SP_OK;
    if (status == SP_OK && vote.accepted && vote.head.epoch_counter > v->epoch_counter) {
        sp_error_set(error, SP_CONFLICT, unit->name,
                     "it took part in epoch %u, and this is epoch %u: another history",
                     vote.head.epoch_counter, v->epoch_counter);
        sp_error_todo(error, "stop the server, and start it with that unit");
        return SP_CONFLICT;
    }
    return status;
}

/* Under units_lock. */
static enum sp_status replace(struct sp_volume *v, struct sp_volume_member *m,
                              const struct sp_add_unit *add, struct sp_error *error)
{
    struct sp_unit *unit = NULL;
    bool vouched = false, foreign = false;
    const struct sp_volume_member *twin;
    if (m->unit) /* it has the unit locked */
        m->unit->ops->close(m->unit);
    m->unit = NULL;
    enum sp_status status = add->open(add->context, m->name, &unit, error);
    if (status != SP_OK)
        return status;
    if (!sp_uuid_eq(&unit->volume, &v->id))
        status = sp_error_set(error, SP_INVALID, m->name, "it belongs to another volume");
    else if ((twin = twin_of(v, m, &unit->id)))
        status = sp_error_set(
            error, SP_INVALID, m->name,
            "it has the UUID of unit %s of this volume: one is a copy of the other", twin->name);
    else
        status = look_at(v, unit, &vouched, &foreign, error);
    if (status != SP_OK) {
        unit->ops->close(unit);
        return status;
    }
    pthread_mutex_lock(&v->lock);
    m->unit = unit;
    m->id = unit->id;
    snprintf(m->domain, sizeof m->domain, "%s", unit->domain);
    sp_member_set_state(m, foreign ? SP_UNIT_STALE : m->witness ? SP_UNIT_WITNESS : SP_UNIT_SPARE);
    m->until_lsn = UINT64_MAX;
    m->foreign = foreign;
    snprintf(m->why, sizeof m->why, "%s",
             foreign ? "it has a history that was left behind, to be merged" : "");
    m->vote_damaged = m->suspect = m->unanswered = m->outside = false;
    m->vouched = vouched;
    m->from_lsn = UINT64_MAX;
    m->lacks = 0;
    m->parity_from = m->parity_paused_ms = 0;
    m->parity_swept = false;
    pthread_mutex_unlock(&v->lock);
    return SP_OK;
}

static enum sp_status carry_out(struct sp_volume *v, void *context, struct sp_error *error)
{
    const struct sp_add_unit *add = context;
    struct sp_volume_member *m = sp_volume_member_named(v, add->name);
    struct timespec until;
    if (!m)
        return sp_error_set(error, SP_NOT_FOUND, add->name, "the volume has no such unit");
    if (v->unmended || v->index_failed)
        return sp_error_set(error, SP_UNAVAILABLE, add->name,
                            "the volume is open for reading only");
    if (m->state <= SP_UNIT_WITNESS && m->unit)
        return sp_error_set(error, SP_EXISTS, add->name, "it is in use already");
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    int rc = pthread_rwlock_timedwrlock(&v->units_lock, &until);
    if (rc)
        return sp_error_set(error, SP_TIMEOUT, add->name, "its disk does not answer");
    enum sp_status status = replace(v, m, add, error);
    pthread_rwlock_unlock(&v->units_lock);
    if (status != SP_OK) {
        pthread_mutex_lock(&v->lock);
        if (!m->unit)
            sp_member_set_state(m, SP_UNIT_ABSENT);
        snprintf(m->why, sizeof m->why, "%.*s", (int)sizeof m->why - 1, error->why);
        pthread_mutex_unlock(&v->lock);
        return status;
    }
    sp_log(SP_LOG_INFO, "unit.add", "volume=%s unit=%s lsn=%" PRIu64 " foreign=%d", v->name,
           m->name, v->end.lsn, (int)m->foreign);
    if (m->foreign) { /* it takes part in nothing before that is merged */
        v->merge_ms = 0;
        v->merge_units = 0;
        return SP_OK;
    }
    status = sp_log_begin_epoch(v);
    return status == SP_OK ? SP_OK : sp_error_set(error, status, v->name, "%s", v->why_not);
}

enum sp_status sp_volume_add_unit(struct sp_volume *v, const char *name, sp_unit_opener *open,
                                  void *context, struct sp_error *error)
{
    struct sp_add_unit add = {.name = name, .open = open, .context = context};
    return sp_task_run(v, carry_out, &add, name, error);
}
