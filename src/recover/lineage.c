/* Which blocks are the log: from the newest epoch backwards, as the heads declare. */
#include "recover/relic.h"

#include <stdlib.h>

struct epoch {
    uint64_t id;
    uint32_t counter;
    uint32_t first, end; /* its relics, which stand together */
    uint64_t first_segment, first_batch;
    uint64_t data_blocks;
    const struct sp_segment_head *begin; /* its first segment's head, if it survives */
};

static uint32_t list_epochs(const struct sp_relics *relics, struct epoch *epochs)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < relics->count; i++) {
        const struct sp_relic *r = &relics->relics[i];
        struct epoch *e = count ? &epochs[count - 1] : NULL;
        if (!e || e->id != r->epoch_id || e->counter != r->epoch_counter) {
            e = &epochs[count++];
            *e = (struct epoch){.id = r->epoch_id,
                                .counter = r->epoch_counter,
                                .first = i,
                                .first_segment = r->segment,
                                .first_batch = UINT64_MAX};
        }
        e->end = i + 1;
        e->data_blocks += r->data_blocks;
        if (r->first_batch < e->first_batch)
            e->first_batch = r->first_batch;
        if (r->has_head && r->head.epoch_begins && !e->begin)
            e->begin = &r->head;
    }
    return count;
}

static int older(const struct epoch *a, const struct epoch *b)
{
    if (a->counter != b->counter)
        return a->counter < b->counter;
    return a->data_blocks < b->data_blocks;
}

/* The newest epoch below a counter whose segments come before `segment`; NULL. */
static struct epoch *newest_below(struct epoch *epochs, uint32_t count, uint64_t counter,
                                  uint64_t segment)
{
    struct epoch *best = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (epochs[i].counter < counter && epochs[i].first_segment < segment &&
            (!best || older(best, &epochs[i])))
            best = &epochs[i];
    return best;
}

/* What counts of an epoch: segments up to `last`, that one up to its declared end. */
struct limit {
    uint64_t last;
    uint64_t batch_cap;
    bool declared;
    struct sp_log_end end;
};

/* Of the generations of a segment the newest that is whole counts; one without a trailer was not
 * finished, unless none has one: then the one of which most is left. */
static bool better(const struct sp_relic *a, const struct sp_relic *b)
{
    if (a->has_trailer != b->has_trailer)
        return a->has_trailer;
    if (!a->has_trailer && a->data_blocks != b->data_blocks)
        return a->data_blocks > b->data_blocks;
    return a->generation > b->generation;
}

static void mark_epoch(struct sp_relics *relics, const struct epoch *epoch,
                       const struct limit *limit)
{
    for (uint32_t i = epoch->first; i < epoch->end;) {
        struct sp_relic *best = &relics->relics[i];
        uint32_t j = i;
        for (; j < epoch->end && relics->relics[j].segment == relics->relics[i].segment; j++) {
            relics->relics[j].state = SP_RELIC_OLD;
            if (better(&relics->relics[j], best))
                best = &relics->relics[j];
        }
        if (best->segment > limit->last) {
            for (uint32_t k = i; k < j; k++)
                relics->relics[k].state = SP_RELIC_VOID;
        } else {
            best->state = SP_RELIC_LIVE;
            if (best->segment == limit->last) {
                best->declared = limit->declared;
                best->end_declared = limit->end;
            }
            best->batch_cap = limit->batch_cap;
        }
        i = j;
    }
}

/* A segment of a higher generation names as its predecessor what came before all that was merged
 * into it: the segments between are retired. */
static void mark_retired(struct sp_relics *relics, const struct epoch *epoch)
{
    uint64_t low = 0, high = 0;
    for (uint32_t i = epoch->end; i-- > epoch->first;) {
        struct sp_relic *r = &relics->relics[i];
        if (r->segment > low && r->segment < high) {
            if (r->state != SP_RELIC_VOID)
                r->state = SP_RELIC_RETIRED;
        } else if (r->state == SP_RELIC_LIVE && r->generation && r->has_head) {
            low = r->head.previous.segment;
            high = r->segment;
        }
    }
}

/* Which head begins the epoch: not that of a segment which is retired. */
static void find_begin(const struct sp_relics *relics, struct epoch *epoch)
{
    for (uint32_t i = epoch->first; i < epoch->end; i++) {
        const struct sp_relic *r = &relics->relics[i];
        if (r->state == SP_RELIC_LIVE && r->has_head && r->head.epoch_begins) {
            epoch->begin = &r->head;
            epoch->first_segment = r->segment;
            return;
        }
    }
}

/* The heads within an epoch say where the segments before them end. */
static void declare_within(struct sp_relics *relics, const struct epoch *epoch)
{
    struct sp_relic *before = NULL;
    for (uint32_t i = epoch->first; i < epoch->end; i++) {
        struct sp_relic *r = &relics->relics[i];
        if (r->state != SP_RELIC_LIVE)
            continue;
        if (before && r->has_head && r->head.previous.segment == before->segment &&
            r->head.previous.epoch_id == before->epoch_id) {
            before->declared = true;
            before->end_declared = r->head.previous;
        }
        before = r;
    }
}

static struct epoch *find_epoch(struct epoch *epochs, uint32_t count, uint64_t id, uint32_t counter)
{
    for (uint32_t i = 0; i < count; i++)
        if (epochs[i].id == id && epochs[i].counter == counter)
            return &epochs[i];
    return NULL;
}

/* From an epoch to the one before it; NULL at the beginning of what is left. */
static struct epoch *step(struct sp_relics *relics, struct epoch *epochs, uint32_t count,
                          const struct epoch *epoch, struct limit *ret_limit)
{
    struct epoch *next;
    *ret_limit = (struct limit){.batch_cap = UINT64_MAX};
    if (epoch->begin) {
        const struct sp_log_end *end = &epoch->begin->previous;
        if (end->segment == 0 || end->segment >= epoch->begin->segment ||
            end->epoch_counter >= epoch->counter)
            return NULL;
        ret_limit->last = end->segment;
        ret_limit->declared = true;
        ret_limit->end = *end;
        next = find_epoch(epochs, count, end->epoch_id, end->epoch_counter);
        if (next)
            return next;
        sp_recover_note(relics->report, "Nothing is left of epoch %u, which ended in segment %llu.",
                        end->epoch_counter, (unsigned long long)end->segment);
        ret_limit->declared = false;
        ret_limit->last = end->segment - 1;
        ret_limit->batch_cap = end->batch + 1;
        return newest_below(epochs, count, end->epoch_counter, end->segment);
    }
    next = newest_below(epochs, count, epoch->counter, epoch->first_segment);
    if (next) {
        ret_limit->last = epoch->first_segment - 1;
        ret_limit->batch_cap = epoch->first_batch;
        sp_recover_note(relics->report,
                        "The head that begins epoch %u is lost. What it follows (epoch %u) was "
                        "inferred from numbers: "
                        "blocks from batch %llu on were taken for void.",
                        epoch->counter, next->counter, (unsigned long long)epoch->first_batch);
    }
    return next;
}

static int by_segment(const void *left, const void *right)
{
    const struct sp_relic *a = *(struct sp_relic *const *)left,
                          *b = *(struct sp_relic *const *)right;
    return a->segment < b->segment ? -1 : a->segment > b->segment;
}

static enum sp_status order_live(struct sp_relics *relics)
{
    struct sp_relic **live = calloc(relics->count, sizeof *live);
    relics->live = calloc(relics->count, sizeof *relics->live);
    if (!live || !relics->live) {
        free(live);
        return sp_error_set(relics->error, SP_NO_MEMORY, "rebuild", "out of memory");
    }
    for (uint32_t i = 0; i < relics->count; i++)
        if (relics->relics[i].state == SP_RELIC_LIVE)
            live[relics->live_count++] = &relics->relics[i];
    qsort(live, relics->live_count, sizeof *live, by_segment);
    for (uint32_t i = 0; i < relics->live_count; i++)
        relics->live[i] = (uint32_t)(live[i] - relics->relics);
    free(live);
    return SP_OK;
}

enum sp_status sp_relics_sort_out(struct sp_relics *relics)
{
    struct epoch *epochs = calloc(relics->count, sizeof *epochs);
    if (!epochs)
        return sp_error_set(relics->error, SP_NO_MEMORY, "rebuild", "out of memory");
    uint32_t count = list_epochs(relics, epochs);
    struct epoch *epoch = &epochs[0];
    for (uint32_t i = 1; i < count; i++)
        if (older(epoch, &epochs[i]))
            epoch = &epochs[i];
    for (uint32_t i = 0; i < count; i++)
        if (&epochs[i] != epoch && epochs[i].counter == epoch->counter)
            sp_recover_note(
                relics->report,
                "Two epochs claim number %u. The one with more blocks (%016llx) was taken.",
                epoch->counter, (unsigned long long)epoch->id);
    struct limit limit = {.last = UINT64_MAX, .batch_cap = UINT64_MAX};
    while (epoch) {
        mark_epoch(relics, epoch, &limit);
        mark_retired(relics, epoch);
        find_begin(relics, epoch);
        declare_within(relics, epoch);
        epoch = step(relics, epochs, count, epoch, &limit);
    }
    free(epochs);
    return order_live(relics);
}
