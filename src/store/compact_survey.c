#include "store/breakage.h"
#include "store/compact.h"

#include "base/grow.h"

#include <stdatomic.h>
#include <stdlib.h>

#define ARENA_BYTES (64U << 20)
#define ORPHAN_MS   (24U * 3600000U) /* a body that nobody has named may be on its way so long */
#define PAGE_LSNS   4096U
#define LSNS_MAX    (1U << 27) /* of a segment with dead records: a GAP may have leapt in it */

/* ---- Sets of LSNs, by pages ---- */

struct page {
    uint64_t number; /* LSN / PAGE_LSNS, + 1; 0: free */
    uint8_t *bits;
};
struct lsn_set {
    struct page *pages; /* open addressing; a power of two */
    size_t count, capacity;
};

static struct page *page_slot(const struct lsn_set *set, uint64_t number)
{
    size_t at = (number * 0x9e3779b97f4a7c15U >> 20) & (set->capacity - 1);
    while (set->pages[at].number && set->pages[at].number != number)
        at = (at + 1) & (set->capacity - 1);
    return &set->pages[at];
}

static bool lsn_set_grow(struct lsn_set *set)
{
    struct lsn_set grown = {.count = set->count,
                            .capacity = set->capacity ? set->capacity * 2 : 64};
    grown.pages = calloc(grown.capacity, sizeof *grown.pages);
    if (!grown.pages)
        return false;
    for (size_t i = 0; i < set->capacity; i++)
        if (set->pages[i].number)
            *page_slot(&grown, set->pages[i].number) = set->pages[i];
    free(set->pages);
    *set = grown;
    return true;
}

static bool lsn_set_add(struct lsn_set *set, uint64_t lsn)
{
    if (set->count * 2 >= set->capacity && !lsn_set_grow(set))
        return false;
    struct page *page = page_slot(set, lsn / PAGE_LSNS + 1);
    if (!page->number) {
        page->bits = calloc(1, PAGE_LSNS / 8);
        if (!page->bits)
            return false;
        page->number = lsn / PAGE_LSNS + 1;
        set->count++;
    }
    page->bits[lsn % PAGE_LSNS / 8] |= (uint8_t)(1U << lsn % 8);
    return true;
}

static bool lsn_set_has(const struct lsn_set *set, uint64_t lsn)
{
    const struct page *page = set->capacity ? page_slot(set, lsn / PAGE_LSNS + 1) : NULL;
    return page && page->number && (page->bits[lsn % PAGE_LSNS / 8] >> lsn % 8 & 1);
}

static void lsn_set_release(struct lsn_set *set)
{
    for (size_t i = 0; i < set->capacity; i++)
        free(set->pages[i].bits);
    free(set->pages);
    *set = (struct lsn_set){0};
}

/* ---- What is known so far ---- */

/* Of a chain; of an account's own: of the account. */
struct fate {
    bool ended;           /* past its hold: nothing of it is needed */
    uint64_t base_lsn;    /* of the newest catalogue that lists all */
    struct sp_spans dead; /* UIDs */
};

struct erasure {
    struct sp_uuid account;
    uint32_t mailbox;
    uint64_t lsn;
    struct sp_spans uids; /* none: all */
};

struct moment {
    uint64_t lsn, time_ns, elapsed_ms;
};

/* Where a TAILS statement begins and ends. */
struct tails_part {
    uint64_t lsn;
    bool begins, ends;
};

enum stage { FACTS, DEATHS, NAMES, VERDICTS, STAGES };

struct sp_survey {
    struct sp_volume *v;
    struct sp_surveyed *segments;
    size_t count, at; /* segments [at, count) are done, but for the stages that follow */
    enum stage stage;

    uint64_t wall_ns, since_ms; /* since_ms: from the CLOCK looked at last until now */
    uint64_t horizon, orphans;  /* LSNs */
    bool horizon_found, orphans_found;

    struct sp_touched_set *chains;
    struct fate *fates; /* by their number in `chains` */
    size_t fates_capacity;
    struct erasure *erasures;
    size_t erasures_count, erasures_capacity;
    struct lsn_set live, released;    /* bodies */
    uint64_t manifest_lsn, tails_lsn; /* older ones are superseded */
    bool tails_end;                   /* the end of a whole statement was seen */

    struct moment *moments; /* of this segment */
    size_t moments_count, moments_capacity;
    struct tails_part *parts;
    size_t parts_count, parts_capacity;

    struct sp_arena arena;
};

struct sp_survey *sp_survey_new(struct sp_volume *v)
{
    struct sp_survey *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->v = v;
    s->count = s->at = v->segments_count;
    s->segments = calloc(s->count + 1, sizeof *s->segments);
    s->chains = sp_touched_set_new();
    sp_arena_init(&s->arena, ARENA_BYTES);
    if (!s->segments || !s->chains) {
        sp_survey_free(s);
        return NULL;
    }
    s->wall_ns = sp_volume_wall_ns(v);
    s->since_ms = v->clock_ms(v->clock_context) - v->clock_said_ms;
    if (v->hold_ms == 0) {
        s->horizon = v->end.lsn;
        s->horizon_found = true;
        atomic_store(&v->horizon_lsn, s->horizon);
    }
    return s;
}

void sp_survey_free(struct sp_survey *s)
{
    if (!s)
        return;
    for (size_t i = 0; s->segments && i < s->count; i++)
        free(s->segments[i].dead);
    for (size_t i = 0; s->chains && i < sp_touched_set_count(s->chains); i++)
        sp_spans_release(&s->fates[i].dead);
    for (size_t i = 0; i < s->erasures_count; i++)
        sp_spans_release(&s->erasures[i].uids);
    lsn_set_release(&s->live);
    lsn_set_release(&s->released);
    sp_touched_set_free(s->chains);
    sp_arena_release(&s->arena);
    free(s->segments);
    free(s->fates);
    free(s->erasures);
    free(s->moments);
    free(s->parts);
    free(s);
}

size_t sp_survey_segments(const struct sp_survey *s)
{
    return s->count;
}

size_t sp_survey_done(const struct sp_survey *s)
{
    return s->count - s->at;
}

const struct sp_surveyed *sp_survey_at(const struct sp_survey *s, size_t segment)
{
    return &s->segments[segment];
}

static const struct fate *find_fate(const struct sp_survey *s, const struct sp_uuid *account,
                                    uint32_t mailbox)
{
    const struct sp_touched key = {*account, mailbox};
    size_t at = sp_touched_set_find(s->chains, &key);
    return at == SIZE_MAX ? NULL : &s->fates[at];
}

/* NULL: out of memory. */
static struct fate *fate_of(struct sp_survey *s, const struct sp_uuid *account, uint32_t mailbox)
{
    const struct sp_touched key = {*account, mailbox};
    size_t count = sp_touched_set_count(s->chains);
    if (count == s->fates_capacity) {
        size_t capacity = count ? count * 2 : 64;
        struct fate *grown = realloc(s->fates, capacity * sizeof *grown);
        if (!grown)
            return NULL;
        s->fates = grown;
        s->fates_capacity = capacity;
    }
    if (sp_touched_set_add(s->chains, &key) != SP_OK)
        return NULL;
    if (sp_touched_set_count(s->chains) > count)
        s->fates[count] = (struct fate){0};
    return &s->fates[sp_touched_set_find(s->chains, &key)];
}

/* ---- Facts: clocks, erasures, what states anew what came before ---- */

static enum sp_status take_erasure(struct sp_survey *s, const struct sp_record *record)
{
    struct sp_erase erase;
    enum sp_status status = sp_erase_read(record->payload, &s->arena, &erase);
    if (status != SP_OK)
        return status;
    if (!sp_grow(&s->erasures, s->erasures_count, &s->erasures_capacity, sizeof *s->erasures))
        return SP_NO_MEMORY;
    struct erasure *e = &s->erasures[s->erasures_count++];
    *e = (struct erasure){.account = erase.account, .mailbox = erase.mailbox, .lsn = record->lsn};
    for (uint32_t i = 0; i < erase.uids.count; i++)
        if (!sp_spans_add(&e->uids, erase.uids.ptr[i].first, erase.uids.ptr[i].last))
            return SP_NO_MEMORY;
    return SP_OK;
}

static enum sp_status take_fact(void *context, const struct sp_record *record,
                                const struct sp_place *place)
{
    struct sp_survey *s = context;
    struct sp_clock_record clock;
    struct sp_catalogue catalogue;
    struct sp_manifest manifest;
    struct sp_tails tails;
    struct fate *fate;
    enum sp_status status = SP_OK;
    (void)place;
    switch (record->type) {
    case SP_RECORD_CLOCK:
        status = sp_clock_record_read(record->payload, &clock);
        if (status == SP_OK &&
            !sp_grow(&s->moments, s->moments_count, &s->moments_capacity, sizeof *s->moments))
            status = SP_NO_MEMORY;
        if (status == SP_OK)
            s->moments[s->moments_count++] =
                (struct moment){record->lsn, record->time_ns, clock.elapsed_ms};
        break;
    case SP_RECORD_ERASE:
        status = take_erasure(s, record);
        break;
    case SP_RECORD_CATALOGUE:
        status = sp_catalogue_read(record->payload, &s->arena, &catalogue);
        if (status != SP_OK || !catalogue.base)
            break;
        fate = fate_of(s, &record->account, record->mailbox);
        if (!fate)
            return SP_NO_MEMORY;
        if (fate->base_lsn < record->lsn)
            fate->base_lsn = record->lsn;
        break;
    case SP_RECORD_MANIFEST:
        status = sp_manifest_read(record->payload, &s->arena, &manifest);
        if (status == SP_OK && manifest.base && s->manifest_lsn < record->lsn)
            s->manifest_lsn = record->lsn;
        break;
    case SP_RECORD_TAILS:
        status = sp_tails_read(record->payload, &s->arena, &tails);
        if (status == SP_OK &&
            !sp_grow(&s->parts, s->parts_count, &s->parts_capacity, sizeof *s->parts))
            status = SP_NO_MEMORY;
        if (status == SP_OK)
            s->parts[s->parts_count++] = (struct tails_part){record->lsn, tails.begins, tails.ends};
        break;
    default:
        break;
    }
    sp_arena_release(&s->arena);
    return status;
}

/* Whether everything up to the moment is older than that, by both clocks. */
static bool is_past(const struct sp_survey *s, const struct moment *moment, uint64_t ms)
{
    return (SP_BREAK(hold_by_wall) || s->since_ms >= ms) && s->wall_ns >= moment->time_ns &&
           (s->wall_ns - moment->time_ns) / 1000000U >= ms;
}

/* From the newest to the oldest of the segment. */
static void close_facts(struct sp_survey *s)
{
    const uint64_t hold_ms = s->v->hold_ms;
    for (size_t i = s->moments_count; i-- > 0;) {
        const struct moment *m = &s->moments[i];
        if (!s->horizon_found && is_past(s, m, hold_ms)) {
            s->horizon_found = true;
            s->horizon = m->lsn;
        }
        if (!s->orphans_found && is_past(s, m, hold_ms > ORPHAN_MS ? hold_ms : ORPHAN_MS)) {
            s->orphans_found = true;
            s->orphans = m->lsn;
        }
        s->since_ms += m->elapsed_ms;
    }
    if (s->horizon > atomic_load(&s->v->horizon_lsn))
        atomic_store(&s->v->horizon_lsn, s->horizon);
    for (size_t i = s->parts_count; i-- > 0;) {
        s->tails_end |= s->parts[i].ends;
        if (s->parts[i].begins && s->tails_end && !s->tails_lsn)
            s->tails_lsn = s->parts[i].lsn;
    }
    s->moments_count = s->parts_count = 0;
}

/* ---- Deaths ---- */

/* What an erasure after `lsn` takes of these UIDs of a mailbox. */
static bool add_erased(const struct sp_survey *s, const struct sp_uuid *account, uint32_t mailbox,
                       uint64_t lsn, struct sp_span uids, struct sp_spans *dead)
{
    for (size_t i = 0; i < s->erasures_count; i++) {
        const struct erasure *e = &s->erasures[i];
        if (e->lsn <= lsn || !sp_uuid_eq(&e->account, account) ||
            (e->mailbox && e->mailbox != mailbox))
            continue;
        if (e->mailbox == 0 || e->uids.count == 0) {
            if (!sp_spans_add(dead, uids.first, uids.last))
                return false;
            continue;
        }
        for (uint32_t k = 0; k < e->uids.count; k++) {
            uint64_t first = e->uids.ptr[k].first > uids.first ? e->uids.ptr[k].first : uids.first;
            uint64_t last = e->uids.ptr[k].last < uids.last ? e->uids.ptr[k].last : uids.last;
            if (first <= last && !sp_spans_add(dead, first, last))
                return false;
        }
    }
    return true;
}

/* Whether an erasure after `lsn` takes all of it. mailbox 0: of the account. */
static bool is_erased(const struct sp_survey *s, const struct sp_uuid *account, uint32_t mailbox,
                      uint64_t lsn)
{
    for (size_t i = 0; i < s->erasures_count; i++) {
        const struct erasure *e = &s->erasures[i];
        if (e->lsn > lsn && sp_uuid_eq(&e->account, account) &&
            (e->mailbox == 0 || (e->mailbox == mailbox && e->uids.count == 0)))
            return true;
    }
    return false;
}

static enum sp_status expunged(struct sp_survey *s, const struct sp_record *record)
{
    struct sp_expunge expunge;
    enum sp_status status = sp_expunge_read(record->payload, &s->arena, &expunge);
    bool past = record->lsn <= s->horizon;
    if (status != SP_OK || (!past && s->erasures_count == 0))
        return status;
    struct fate *fate = fate_of(s, &record->account, record->mailbox);
    bool good = fate != NULL;
    for (uint32_t i = 0; good && i < expunge.uids.count; i++)
        good = past ? sp_spans_add(&fate->dead, expunge.uids.ptr[i].first, expunge.uids.ptr[i].last)
                    : add_erased(s, &record->account, record->mailbox, record->lsn,
                                 expunge.uids.ptr[i], &fate->dead);
    return good ? SP_OK : SP_NO_MEMORY;
}

static enum sp_status take_death(void *context, const struct sp_record *record,
                                 const struct sp_place *place)
{
    static const struct sp_span all = {1, UINT32_MAX};
    struct sp_survey *s = context;
    struct sp_mailbox_record mailbox;
    struct sp_account_record account;
    struct fate *fate = NULL;
    enum sp_status status = SP_OK;
    (void)place;
    switch (record->type) {
    case SP_RECORD_EXPUNGE:
        status = expunged(s, record);
        break;
    case SP_RECORD_MAILBOX_DELETE:
        status = sp_mailbox_record_read(record->payload, &mailbox);
        if (status != SP_OK)
            break;
        fate = fate_of(s, &record->account, mailbox.id);
        if (!fate)
            return SP_NO_MEMORY;
        fate->ended |=
            record->lsn <= s->horizon || is_erased(s, &record->account, mailbox.id, record->lsn);
        if (!fate->ended &&
            !add_erased(s, &record->account, mailbox.id, record->lsn, all, &fate->dead))
            status = SP_NO_MEMORY;
        break;
    case SP_RECORD_ACCOUNT_REMOVE:
        status = sp_account_record_read(record->payload, &account);
        if (status != SP_OK)
            break;
        fate = fate_of(s, &account.id, 0);
        if (!fate)
            return SP_NO_MEMORY;
        fate->ended |= record->lsn <= s->horizon || is_erased(s, &account.id, 0, record->lsn);
        break;
    default:
        break;
    }
    sp_arena_release(&s->arena);
    return status;
}

/* ---- Names: which bodies live messages name ---- */

static bool has_ended(const struct sp_survey *s, const struct sp_record *record,
                      const struct fate **ret_fate)
{
    const struct fate *own = find_fate(s, &record->account, 0);
    *ret_fate = record->mailbox ? find_fate(s, &record->account, record->mailbox) : own;
    return (own && own->ended && !sp_uuid_is_nil(&record->account)) ||
           (*ret_fate && record->mailbox && (*ret_fate)->ended);
}

static enum sp_status take_names(void *context, const struct sp_record *record,
                                 const struct sp_place *place)
{
    struct sp_survey *s = context;
    struct sp_message m;
    const struct fate *fate;
    (void)place;
    if (record->type != SP_RECORD_MESSAGE)
        return SP_OK;
    enum sp_status status = sp_message_read(record->payload, &s->arena, &m);
    bool dead = status == SP_OK &&
                (has_ended(s, record, &fate) || (fate && sp_spans_has(&fate->dead, m.uid)));
    for (uint32_t i = 0; status == SP_OK && i < m.bodies.count; i++)
        if (!lsn_set_add(dead ? &s->released : &s->live, m.bodies.ptr[i]))
            status = SP_NO_MEMORY;
    sp_arena_release(&s->arena);
    return status;
}

/* ---- Verdicts ---- */

static bool all_dead(const struct fate *fate, struct sp_span_list uids)
{
    for (uint32_t i = 0; i < uids.count; i++) {
        struct sp_spans alive = {0};
        bool good = sp_spans_add_except(&alive, uids.ptr[i].first, uids.ptr[i].last, &fate->dead) &&
                    alive.count == 0;
        sp_spans_release(&alive);
        if (!good)
            return false;
    }
    return uids.count > 0;
}

static bool is_dead(struct sp_survey *s, const struct sp_record *record)
{
    const struct fate *fate = NULL;
    struct sp_message m;
    struct sp_flags_change flags;
    if (sp_record_is_body(record->type))
        return !lsn_set_has(&s->live, record->lsn) &&
               (record->lsn <= s->orphans || lsn_set_has(&s->released, record->lsn));
    bool ended = has_ended(s, record, &fate);
    switch (record->type) {
    case SP_RECORD_MESSAGE:
        return ended || SP_BREAK(drop_live) ||
               (fate && sp_message_read(record->payload, &s->arena, &m) == SP_OK &&
                sp_spans_has(&fate->dead, m.uid));
    case SP_RECORD_FLAGS:
        return ended || (fate && fate->dead.count &&
                         sp_flags_change_read(record->payload, &s->arena, &flags) == SP_OK &&
                         all_dead(fate, flags.uids));
    case SP_RECORD_CATALOGUE:
        return ended || (fate && record->lsn < fate->base_lsn && record->lsn <= s->horizon);
    case SP_RECORD_EXPUNGE:
    case SP_RECORD_UNPROTECT:
    case SP_RECORD_MAILBOX:
    case SP_RECORD_MAILBOX_RENAME:
    case SP_RECORD_MAILBOX_DELETE:
    case SP_RECORD_SUBSCRIBE:
    case SP_RECORD_CREDENTIAL:
    case SP_RECORD_ACL:
        return ended;
    case SP_RECORD_MANIFEST:
        return record->lsn < s->manifest_lsn && record->lsn <= s->horizon;
    case SP_RECORD_TAILS:
        return record->lsn < s->tails_lsn && record->lsn <= s->horizon;
    default: /* whatever else there is, later types included, stays */
        return false;
    }
}

static enum sp_status give_verdict(void *context, const struct sp_record *record,
                                   const struct sp_place *place)
{
    struct sp_survey *s = context;
    struct sp_surveyed *segment = &s->segments[s->at - 1];
    uint64_t bytes = (uint64_t)SP_RECORD_HEADER_BYTES + record->payload_bytes;
    (void)place;
    segment->records++;
    bool dead = record->lsn >= segment->first_lsn && record->lsn <= segment->last_lsn &&
                segment->last_lsn - segment->first_lsn < LSNS_MAX && is_dead(s, record);
    sp_arena_release(&s->arena);
    if (!dead) {
        segment->live_bytes += bytes;
        return SP_OK;
    }
    if (!segment->dead) {
        segment->dead = calloc(1, (segment->last_lsn - segment->first_lsn) / 8 + 1);
        if (!segment->dead)
            return SP_NO_MEMORY;
    }
    segment->dead[(record->lsn - segment->first_lsn) / 8] |=
        (uint8_t)(1U << (record->lsn - segment->first_lsn) % 8);
    segment->dead_bytes += bytes;
    return SP_OK;
}

/* ---- Step by step ---- */

enum sp_status sp_survey_step(struct sp_survey *s, struct sp_error *error)
{
    static enum sp_status (*const stages[STAGES])(void *context, const struct sp_record *record,
                                                  const struct sp_place *place) = {
        [FACTS] = take_fact,
        [DEATHS] = take_death,
        [NAMES] = take_names,
        [VERDICTS] = give_verdict};
    if (s->at == 0)
        return SP_EOF;
    const struct sp_volume_segment *segment = &s->v->segments[s->at - 1];
    s->segments[s->at - 1].first_lsn = segment->first_lsn;
    s->segments[s->at - 1].last_lsn = segment->last_lsn;
    enum sp_status status = sp_volume_each_record(s->v, segment, stages[s->stage], s, error);
    sp_arena_release(&s->arena);
    if (status != SP_OK)
        return status;
    if (s->stage == FACTS)
        close_facts(s);
    if (++s->stage == STAGES) {
        s->stage = FACTS;
        s->at--;
    }
    return SP_OK;
}
