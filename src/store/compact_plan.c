/* Which records of a run go on, and the DROPPED records that stand for the others.
 *
 * Of a chain, consecutive records that are dropped become one, with the LSN and time of the last
 * and the `previous` of the first: so whoever follows the chain finds it whole. A TAILS record that
 * goes on may name the LSN of a record before it: no stretch runs past one. DROPPED records of
 * earlier compactions are taken into the new ones. */
#include "store/breakage.h"
#include "store/compact.h"

#include "base/grow.h"

#include <stdlib.h>

#define SPANS_MAX   100000U /* in one DROPPED: its payload has a limit */
#define ARENA_BYTES (64U << 20)

struct planning {
    struct sp_compact_plan plan;
    const struct sp_surveyed *surveyed;
    uint32_t segment;
    struct sp_touched_set *chains;
    uint32_t *open; /* by the chain's number: its stretch + 1; 0: none */
    size_t open_capacity;
    struct sp_arena arena;
};

/* Where the chain's open stretch is noted; NULL: out of memory. */
static uint32_t *open_stretch(struct planning *p, const struct sp_touched *chain)
{
    size_t count = sp_touched_set_count(p->chains);
    if (!sp_grow(&p->open, count, &p->open_capacity, sizeof *p->open) ||
        sp_touched_set_add(p->chains, chain) != SP_OK)
        return NULL;
    if (sp_touched_set_count(p->chains) > count)
        p->open[count] = 0;
    return &p->open[sp_touched_set_find(p->chains, chain)];
}

static struct sp_kept *keep(struct planning *p, const struct sp_record *record,
                            const struct sp_place *place)
{
    struct sp_compact_plan *plan = &p->plan;
    if (!sp_grow(&plan->kept, plan->kept_count, &plan->kept_capacity, sizeof *plan->kept))
        return NULL;
    struct sp_kept *kept = &plan->kept[plan->kept_count++];
    *kept = (struct sp_kept){.lsn = record->lsn,
                             .segment = p->segment,
                             .block = place->block,
                             .offset = place->offset,
                             .payload_bytes = record->payload_bytes};
    return kept;
}

static bool add_spans(struct sp_spans *set, struct sp_span_list list)
{
    for (uint32_t i = 0; i < list.count; i++)
        if (!sp_spans_add(set, list.ptr[i].first, list.ptr[i].last))
            return false;
    return true;
}

static void raise(struct sp_kept_dropped *d, uint64_t modseq, uint64_t uidnext)
{
    if (d->modseq < modseq)
        d->modseq = modseq;
    if (d->uidnext < uidnext)
        d->uidnext = (uint32_t)(uidnext < UINT32_MAX ? uidnext : UINT32_MAX);
}

/* What of the record must not be forgotten. */
static enum sp_status absorb(struct planning *p, struct sp_kept_dropped *d,
                             const struct sp_record *record)
{
    struct sp_dropped dropped;
    struct sp_message message;
    struct sp_flags_change flags;
    struct sp_expunge expunge;
    struct sp_catalogue catalogue;
    enum sp_status status = SP_OK;
    bool good = sp_spans_add(&d->lsns, record->lsn, record->lsn);
    switch (record->type) {
    case SP_RECORD_DROPPED:
        status = sp_dropped_read(record->payload, &p->arena, &dropped);
        if (status != SP_OK)
            break;
        raise(d, dropped.modseq, dropped.uidnext);
        good = good && add_spans(&d->uids, dropped.uids) && add_spans(&d->lsns, dropped.lsns);
        break;
    case SP_RECORD_MESSAGE:
        status = sp_message_read(record->payload, &p->arena, &message);
        if (status != SP_OK)
            break;
        raise(d, message.modseq, (uint64_t)message.uid + 1);
        good = good && sp_spans_add(&d->uids, message.uid, message.uid);
        break;
    case SP_RECORD_FLAGS:
        status = sp_flags_change_read(record->payload, &p->arena, &flags);
        if (status == SP_OK)
            raise(d, flags.modseq, 0);
        break;
    case SP_RECORD_EXPUNGE:
        status = sp_expunge_read(record->payload, &p->arena, &expunge);
        if (status == SP_OK)
            raise(d, expunge.modseq, 0);
        break;
    case SP_RECORD_CATALOGUE:
        status = sp_catalogue_read(record->payload, &p->arena, &catalogue);
        if (status == SP_OK)
            raise(d, catalogue.highestmodseq, catalogue.uidnext);
        break;
    default:
        break;
    }
    sp_arena_release(&p->arena);
    return status != SP_OK ? status : good ? SP_OK : SP_NO_MEMORY;
}

static enum sp_status drop(struct planning *p, const struct sp_record *record,
                           const struct sp_place *place)
{
    struct sp_compact_plan *plan = &p->plan;
    bool bodies = sp_record_is_body(record->type) ||
                  (record->type == SP_RECORD_DROPPED && !(record->flags & SP_RECORD_CHAINED));
    const struct sp_touched chain = {record->account, bodies ? UINT32_MAX : record->mailbox};
    uint32_t *open = open_stretch(p, &chain);
    if (!open)
        return SP_NO_MEMORY;
    if (*open) {
        const struct sp_kept_dropped *full = &plan->dropped[*open - 1];
        if (full->lsns.count + full->uids.count > SPANS_MAX)
            *open = 0;
    }
    if (*open) {
        plan->kept[plan->dropped[*open - 1].kept].dropped =
            UINT32_MAX; /* it stands there no more */
    } else {
        if (!sp_grow(&plan->dropped, plan->dropped_count, &plan->dropped_capacity,
                     sizeof *plan->dropped))
            return SP_NO_MEMORY;
        plan->dropped[plan->dropped_count++] =
            (struct sp_kept_dropped){.chain = {record->account, record->mailbox},
                                     .bodies = bodies,
                                     .previous = record->previous};
        *open = (uint32_t)plan->dropped_count;
    }
    struct sp_kept_dropped *d = &plan->dropped[*open - 1];
    struct sp_kept *kept = keep(p, record, place);
    if (!kept)
        return SP_NO_MEMORY;
    kept->dropped = *open;
    d->kept = plan->kept_count - 1;
    d->lsn = record->lsn;
    d->time_ns = record->time_ns;
    return absorb(p, d, record);
}

static enum sp_status take_record(void *context, const struct sp_record *record,
                                  const struct sp_place *place)
{
    struct planning *p = context;
    uint64_t bytes = (uint64_t)SP_RECORD_HEADER_BYTES + record->payload_bytes;
    p->plan.bytes_before += bytes;
    if (record->type == SP_RECORD_DROPPED || sp_surveyed_is_dead(p->surveyed, record->lsn))
        return drop(p, record, place);
    p->plan.bytes_after += bytes;
    if (record->type == SP_RECORD_TAILS) {
        if (p->open)
            memset(p->open, 0, sp_touched_set_count(p->chains) * sizeof *p->open);
    } else if (!sp_record_is_body(record->type)) {
        const struct sp_touched chain = {record->account, record->mailbox};
        size_t at = sp_touched_set_find(p->chains, &chain);
        if (at != SIZE_MAX)
            p->open[at] = 0;
    }
    return keep(p, record, place) ? SP_OK : SP_NO_MEMORY;
}

/* Those that were taken further are left out. */
static void close_up(struct sp_compact_plan *plan)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->kept_count; i++) {
        if (plan->kept[i].dropped == UINT32_MAX)
            continue;
        plan->kept[count] = plan->kept[i];
        if (plan->kept[i].dropped)
            plan->dropped[plan->kept[i].dropped - 1].kept = count;
        count++;
    }
    plan->kept_count = count;
}

enum sp_status sp_compact_plan(struct sp_volume *v, const struct sp_survey *survey, size_t first,
                               size_t count, struct sp_compact_plan *ret_plan,
                               struct sp_error *error)
{
    struct planning p = {.chains = sp_touched_set_new()};
    enum sp_status status = p.chains ? SP_OK : SP_NO_MEMORY;
    sp_arena_init(&p.arena, ARENA_BYTES);
    for (size_t i = 0; i < count && status == SP_OK; i++) {
        p.segment = (uint32_t)i;
        p.surveyed = sp_survey_at(survey, first + i);
        status = sp_volume_each_record(v, &v->segments[first + i], take_record, &p, error);
    }
    sp_arena_release(&p.arena);
    sp_touched_set_free(p.chains);
    free(p.open);
    if (status != SP_OK) {
        sp_compact_plan_release(&p.plan);
        return status;
    }
    close_up(&p.plan);
    *ret_plan = p.plan;
    return SP_OK;
}

void sp_compact_plan_release(struct sp_compact_plan *plan)
{
    for (size_t i = 0; i < plan->dropped_count; i++) {
        sp_spans_release(&plan->dropped[i].uids);
        sp_spans_release(&plan->dropped[i].lsns);
    }
    free(plan->dropped);
    free(plan->kept);
    *plan = (struct sp_compact_plan){0};
}

enum sp_status sp_compact_plan_dropped(const struct sp_compact_plan *plan,
                                       const struct sp_kept *kept, struct sp_buf *buf,
                                       struct sp_record *ret_record)
{
    const struct sp_kept_dropped *d = &plan->dropped[kept->dropped - 1];
    const struct sp_dropped dropped = {
        .modseq = d->modseq,
        .uidnext = SP_BREAK(drop_uidnext) ? 0 : d->uidnext,
        .uids = {d->uids.ptr, d->uids.count},
        .lsns = {d->lsns.ptr, SP_BREAK(drop_unsaid) ? 1 : d->lsns.count}};
    sp_buf_reset(buf);
    sp_dropped_write(&dropped, buf);
    if (sp_buf_failed(buf))
        return SP_LIMIT;
    /* A reader that does not know it must stop, since the chain goes on from it; but not where it
     * is on none. */
    *ret_record = (struct sp_record){.type = SP_RECORD_DROPPED,
                                     .flags = d->bodies ? SP_RECORD_OPTIONAL : SP_RECORD_CHAINED,
                                     .lsn = d->lsn,
                                     .time_ns = d->time_ns,
                                     .account = d->chain.account,
                                     .mailbox = d->chain.mailbox,
                                     .previous = d->previous,
                                     .payload_bytes = (uint32_t)buf->len,
                                     .payload = sp_buf_slice(buf)};
    return SP_OK;
}
