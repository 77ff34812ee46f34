/* Letting a unit go: an epoch begins of which it is no member. Whether that may be is proven by
 * proof.c; the guard has asked for it. */
#include "store/proof.h"

#include "base/log.h"
#include "store/volume_internal.h"

#include <inttypes.h>
#include <stdio.h>

#define PATIENCE_S 2 /* for readers that still use the unit */

static struct sp_volume_member *member_with(struct sp_volume *v, const struct sp_uuid *id)
{
    for (uint32_t i = 0; i < v->members_count && !sp_uuid_is_nil(id); i++)
        if (sp_uuid_eq(&v->members[i].id, id))
            return &v->members[i];
    return NULL;
}

static bool is_voter(const struct sp_volume *v, const struct sp_uuid *id)
{
    for (uint32_t i = 0; i < v->voters_count; i++)
        if (sp_uuid_eq(&v->voters[i], id))
            return true;
    return false;
}

/* A voter that no unit which is here is: the absent one, if it is the only one. */
static uint32_t absent_voters(struct sp_volume *v, struct sp_uuid *ret_id)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < v->voters_count; i++)
        if (!member_with(v, &v->voters[i])) {
            *ret_id = v->voters[i];
            count++;
        }
    return count;
}

enum sp_status sp_volume_find_unit(struct sp_volume *v, const char *name_or_id,
                                   struct sp_uuid *ret_id, struct sp_error *error)
{
    struct sp_uuid id = {{0}}, absent = {{0}};
    char first[SP_UUID_TEXT] = "";
    uint32_t absents = 0;
    pthread_mutex_lock(&v->lock);
    const struct sp_volume_member *m = sp_volume_member_named(v, name_or_id);
    if (m)
        id = m->id;
    else if (sp_uuid_parse(sp_slice_str(name_or_id), &id) == SP_OK && !is_voter(v, &id) &&
             !member_with(v, &id))
        id = (struct sp_uuid){{0}};
    if (m && sp_uuid_is_nil(&id) && !m->outside)
        absents = absent_voters(v, &absent);
    if (absents == 1)
        id = absent;
    pthread_mutex_unlock(&v->lock);
    if (!sp_uuid_is_nil(&id)) {
        *ret_id = id;
        return SP_OK;
    }
    if (absents > 1) {
        sp_uuid_text(&absent, first);
        sp_error_set(error, SP_NOT_FOUND, name_or_id,
                     "it is absent, and so are %u units that vote, one of them %s", absents, first);
        sp_error_todo(error, "give the UUID of the unit that is meant instead of its name");
        return SP_NOT_FOUND;
    }
    sp_error_set(error, SP_NOT_FOUND, name_or_id, "the volume has no such unit");
    sp_error_todo(error, "see `sternpost unit list`");
    return SP_NOT_FOUND;
}

bool sp_volume_is_member(struct sp_volume *v, const struct sp_uuid *id)
{
    pthread_mutex_lock(&v->lock);
    bool yes = is_voter(v, id);
    pthread_mutex_unlock(&v->lock);
    return yes;
}

static uint32_t voters_without(const struct sp_volume *v, const struct sp_uuid *id)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < v->voters_count; i++)
        left += !sp_uuid_eq(&v->voters[i], id);
    return left;
}

uint32_t sp_volume_voters_without(struct sp_volume *v, const struct sp_uuid *id)
{
    pthread_mutex_lock(&v->lock);
    uint32_t left = voters_without(v, id);
    pthread_mutex_unlock(&v->lock);
    return left;
}

bool sp_volume_holds_log(struct sp_volume *v, const struct sp_uuid *id)
{
    pthread_mutex_lock(&v->lock);
    const struct sp_volume_member *m = member_with(v, id);
    bool holds = !m || (m->state != SP_UNIT_SPARE && m->state != SP_UNIT_WITNESS);
    pthread_mutex_unlock(&v->lock);
    return holds;
}

bool sp_volume_has_left_history(struct sp_volume *v, const struct sp_uuid *id)
{
    pthread_mutex_lock(&v->lock);
    const struct sp_volume_member *m = member_with(v, id);
    bool yes = m && m->foreign;
    pthread_mutex_unlock(&v->lock);
    return yes;
}

/* ---- Somebody in its place ---- */

static enum sp_status stand_in(struct sp_volume *v, void *context, struct sp_error *error)
{
    const struct sp_volume_member *m = member_with(v, context);
    uint32_t wanted = v->replicas_wanted, before = sp_log_replicas(v);
    if (!m || m->state != SP_UNIT_REPLICA || !v->writable)
        return SP_OK;
    v->replicas_wanted++;
    sp_log_recruit(v);
    v->replicas_wanted = wanted;
    if (sp_log_replicas(v) == before)
        return SP_OK; /* there is no spare: the proof says what that means */
    enum sp_status status = sp_log_begin_epoch(v);
    return status == SP_OK ? SP_OK : sp_error_set(error, status, v->name, "%s", v->why_not);
}

/* Replicas beside it, whole or still being resilvered. */
static uint32_t others(struct sp_volume *v, const struct sp_uuid *id)
{
    uint32_t count = 0;
    pthread_mutex_lock(&v->lock);
    for (uint32_t i = 0; i < v->members_count; i++)
        count += v->members[i].state == SP_UNIT_REPLICA && v->members[i].unit &&
                 !sp_uuid_eq(&v->members[i].id, id);
    pthread_mutex_unlock(&v->lock);
    return count;
}

enum sp_status sp_volume_stand_in(struct sp_volume *v, const struct sp_uuid *id,
                                  struct sp_error *error)
{
    struct sp_uuid copy = *id;
    if (others(v, id) >= v->replicas_wanted)
        return SP_OK;
    return sp_task_run(v, stand_in, &copy, v->name, error);
}

/* ---- Retiring ---- */

struct retire {
    const struct sp_uuid *id;
    struct sp_proof *proof;
    bool shared_ok;
};

/* Takes it out of the list of those that are not here. */
static void forget_away(struct sp_volume *v, const struct sp_uuid *id)
{
    for (uint32_t i = 0; i < v->away_count; i++)
        if (sp_uuid_eq(&v->away[i].unit, id)) {
            memmove(&v->away[i], &v->away[i + 1], (v->away_count - i - 1) * sizeof v->away[0]);
            v->away_count--;
            return;
        }
}

static enum sp_status check(struct sp_volume *v, const struct retire *r, struct sp_error *error)
{
    struct sp_proof_result result;
    uint32_t left = voters_without(v, r->id);
    if (left < SP_VOTERS_MIN) {
        sp_error_set(error, SP_DENIED, v->name, "%u units would be left to vote, and it needs %u",
                     left, SP_VOTERS_MIN);
        sp_error_todo(error, "add a unit to the configuration first, and restart the server");
        return SP_DENIED;
    }
    if (v->unmended || v->index_failed || !v->writable)
        return sp_error_set(error, SP_UNAVAILABLE, v->name, "nothing can be written to it: %s",
                            v->why_not);
    if (!r->proof || sp_proof_holds(r->proof, r->id, r->shared_ok, &result, NULL) == SP_OK)
        return SP_OK;
    sp_error_set(error, SP_DENIED, v->name,
                 "%zu of its %zu segments are not on enough other units any more", result.lacking,
                 result.segments);
    sp_error_todo(error, "ask again: the check says which");
    return SP_DENIED;
}

static enum sp_status retire(struct sp_volume *v, void *context, struct sp_error *error)
{
    const struct retire *r = context;
    struct sp_volume_member *m = member_with(v, r->id), before = {0};
    if (!is_voter(v, r->id))
        return SP_OK;
    enum sp_status status = check(v, r, error);
    if (status != SP_OK)
        return status;
    struct sp_member away[SP_MEMBERS_MAX];
    uint32_t away_count = v->away_count;
    memcpy(away, v->away, sizeof away);
    forget_away(v, r->id);
    if (m) {
        before = *m;
        pthread_mutex_lock(&v->lock);
        m->state = SP_UNIT_STALE;
        m->outside = true;
        snprintf(m->why, sizeof m->why, "it was retired");
        pthread_mutex_unlock(&v->lock);
    }
    status = sp_log_begin_epoch(v);
    if (status == SP_OK) {
        char id[SP_UUID_TEXT];
        sp_uuid_text(r->id, id);
        sp_log(SP_LOG_WARN, "unit.retired", "volume=%s unit=%s id=%s epoch=%u lsn=%" PRIu64,
               v->name, m ? m->name : "-", id, v->epoch_counter, v->end.lsn);
        return SP_OK;
    }
    /* Nothing was written since: it is what it was. */
    memcpy(v->away, away, sizeof away);
    v->away_count = away_count;
    if (m) {
        pthread_mutex_lock(&v->lock);
        m->state = before.state;
        m->outside = before.outside;
        memcpy(m->why, before.why, sizeof m->why);
        pthread_mutex_unlock(&v->lock);
    }
    return sp_error_set(error, status, v->name, "an epoch without it cannot be begun: %s",
                        v->why_not);
}

enum sp_status sp_volume_retire_unit(struct sp_volume *v, const struct sp_uuid *id,
                                     struct sp_proof *proof, bool shared_ok, struct sp_error *error)
{
    struct retire r = {id, proof, shared_ok};
    return sp_task_run(v, retire, &r, v->name, error);
}

/* ---- Before it is wiped ---- */

static enum sp_status release(struct sp_volume *v, void *context, struct sp_error *error)
{
    struct sp_volume_member *m = member_with(v, context);
    struct timespec until;
    if (is_voter(v, context)) {
        sp_error_set(error, SP_CONFLICT, m ? m->name : v->name,
                     "it is a unit of the volume, in epoch %u", v->epoch_counter);
        sp_error_todo(error, "retire it first: `sternpost unit retire`");
        return SP_CONFLICT;
    }
    if (!m)
        return SP_OK;
    if (m->foreign) {
        sp_error_set(error, SP_DENIED, m->name,
                     "it has a history that was left behind when a loss was accepted");
        sp_error_todo(error, "%s", "wait until that is merged: see `sternpost unit list`");
        return SP_DENIED;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    if (pthread_rwlock_timedwrlock(&v->units_lock, &until))
        return sp_error_set(error, SP_TIMEOUT, m->name, "its disk does not answer");
    if (m->unit)
        m->unit->ops->close(m->unit);
    pthread_mutex_lock(&v->lock);
    m->unit = NULL;
    m->state = SP_UNIT_ABSENT;
    m->outside = true;
    snprintf(m->why, sizeof m->why, "it was given up to be wiped");
    pthread_mutex_unlock(&v->lock);
    pthread_rwlock_unlock(&v->units_lock);
    return SP_OK;
}

enum sp_status sp_volume_release_unit(struct sp_volume *v, const struct sp_uuid *id,
                                      struct sp_error *error)
{
    struct sp_uuid copy = *id;
    return sp_task_run(v, release, &copy, v->name, error);
}
