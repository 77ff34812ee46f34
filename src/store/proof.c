#include "store/proof.h"
#include "base/time.h"
#include "store/volume_internal.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#define RECENT_MS    (60U * 60U * 1000U)
#define SLICE_BLOCKS 256U
#define LINES_MAX    40U /* of findings */

struct copy {
    uint32_t blocks; /* so many were verified */
    uint32_t bad;    /* the first that is not sound, and one; 0: all are */
    uint64_t at_ms;
};
struct entry {
    struct sp_volume_segment segment;
    bool open;          /* it was being written */
    uint64_t end_chain; /* of an open one: of its last block */
    struct copy copies[SP_VOLUME_UNITS_MAX];
};

/* What is to be known of the members, at one moment. */
struct view {
    struct {
        struct sp_uuid id;
        char name[64], domain[SP_UNIT_DOMAIN_MAX], why[256];
        enum sp_unit_state state;
        bool here, outside;
        uint64_t from_lsn;
        size_t lacks;
    } members[SP_VOLUME_UNITS_MAX];
    uint32_t count;
    struct sp_log_end end;
};

struct sp_proof {
    struct sp_volume *v;
    uint64_t (*mono_ms)(void);
    struct entry *entries; /* ascending by segment */
    size_t count;
    struct sp_uuid units[SP_VOLUME_UNITS_MAX]; /* whose copies they are */
    _Atomic uint64_t done_blocks, total_blocks;
    _Atomic bool stop;
};

struct sp_proof *sp_proof_new(struct sp_volume *v, uint64_t (*mono_ms)(void))
{
    struct sp_proof *p = calloc(1, sizeof *p);
    if (p)
        *p = (struct sp_proof){.v = v, .mono_ms = mono_ms ? mono_ms : sp_now_ms};
    return p;
}

void sp_proof_free(struct sp_proof *p)
{
    if (!p)
        return;
    free(p->entries);
    free(p);
}

void sp_proof_stop(struct sp_proof *p)
{
    atomic_store(&p->stop, true);
}

void sp_proof_progress(struct sp_proof *p, uint64_t *ret_done_bytes, uint64_t *ret_total_bytes)
{
    *ret_done_bytes = atomic_load(&p->done_blocks) * SP_BLOCK_BYTES;
    *ret_total_bytes = atomic_load(&p->total_blocks) * SP_BLOCK_BYTES;
}

static void look(struct sp_volume *v, struct view *ret)
{
    pthread_mutex_lock(&v->lock);
    ret->count = v->members_count;
    ret->end = v->end;
    for (uint32_t i = 0; i < v->members_count; i++) {
        const struct sp_volume_member *m = &v->members[i];
        ret->members[i].id = m->id;
        memcpy(ret->members[i].name, m->name, sizeof m->name);
        memcpy(ret->members[i].domain, m->domain, sizeof m->domain);
        memcpy(ret->members[i].why, m->why, sizeof m->why);
        ret->members[i].state = m->state;
        ret->members[i].here = m->unit != NULL;
        ret->members[i].outside = m->outside;
        ret->members[i].from_lsn = m->from_lsn;
        ret->members[i].lacks = m->lacks;
    }
    pthread_mutex_unlock(&v->lock);
}

/* Whether the member should have the i-th segment. */
static bool should_hold(const struct view *view, uint32_t k, size_t i,
                        const struct sp_volume_segment *segment)
{
    return view->members[k].state == SP_UNIT_REPLICA && view->members[k].here &&
           i >= view->members[k].lacks && view->members[k].from_lsn <= segment->first_lsn;
}

static struct entry *find(const struct sp_proof *p, uint64_t segment, uint32_t generation)
{
    size_t low = 0, high = p->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (p->entries[middle].segment.segment < segment)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->count && p->entries[low].segment.segment == segment &&
                   p->entries[low].segment.generation == generation
               ? &p->entries[low]
               : NULL;
}

/* The log's segments as they are now, with what is known of them already. */
static enum sp_status refresh(struct sp_proof *p, const struct view *view)
{
    struct sp_volume *v = p->v;
    pthread_rwlock_rdlock(&v->segments_lock);
    size_t count = v->segments_count;
    struct entry *entries = calloc(count + 1, sizeof *entries);
    for (size_t i = 0; entries && i < count; i++) {
        struct entry *e = &entries[i];
        e->segment = v->segments[i];
        e->open = i + 1 == count;
        if (e->open && e->segment.segment == view->end.segment) {
            e->segment.data_blocks = view->end.blocks;
            e->end_chain = view->end.chain;
        }
        const struct entry *old = find(p, e->segment.segment, e->segment.generation);
        if (old)
            memcpy(e->copies, old->copies, sizeof e->copies);
        for (uint32_t k = 0; k < view->count; k++)
            if (!sp_uuid_eq(&p->units[k], &view->members[k].id))
                e->copies[k] = (struct copy){0};
    }
    pthread_rwlock_unlock(&v->segments_lock);
    if (!entries)
        return SP_NO_MEMORY;
    free(p->entries);
    p->entries = entries;
    p->count = count;
    for (uint32_t k = 0; k < view->count; k++)
        p->units[k] = view->members[k].id;
    return SP_OK;
}

static bool is_verified(const struct copy *copy, const struct entry *e)
{
    return !copy->bad && copy->blocks >= e->segment.data_blocks;
}

static bool is_recent(const struct copy *copy, const struct entry *e, uint64_t now)
{
    return is_verified(copy, e) && now - copy->at_ms < RECENT_MS;
}

/* ---- Reading ---- */

static bool read_slice(struct sp_proof *p, uint32_t k, const struct entry *e, uint32_t first,
                       uint32_t count, uint8_t *blocks)
{
    struct sp_volume *v = p->v;
    pthread_rwlock_rdlock(&v->units_lock);
    struct sp_unit *unit = v->members[k].unit;
    bool good = unit && sp_uuid_eq(&unit->id, &p->units[k]);
    if (good && first == 0 && unit->ops->forget)
        unit->ops->forget(unit, e->segment.segment, e->segment.generation);
    good = good && unit->ops->read(unit, e->segment.segment, e->segment.generation, first, blocks,
                                   count, NULL) == SP_OK;
    pthread_rwlock_unlock(&v->units_lock);
    return good;
}

/* Reads one copy whole. false: stopped. */
static bool read_copy(struct sp_proof *p, struct entry *e, uint32_t k, uint8_t *blocks)
{
    struct sp_digest_state state;
    struct sp_digest digest;
    struct copy *copy = &e->copies[k];
    uint64_t chain = 0;
    uint32_t total = e->segment.data_blocks;
    *copy = (struct copy){.at_ms = p->mono_ms()};
    sp_digest_init(&state);
    for (uint32_t first = 0; first < total && !copy->bad; first += SLICE_BLOCKS) {
        uint32_t n = total - first < SLICE_BLOCKS ? total - first : SLICE_BLOCKS;
        if (atomic_load(&p->stop))
            return false;
        if (!read_slice(p, k, e, first, n, blocks)) {
            copy->bad = first + 1;
            break;
        }
        for (uint32_t i = 0; i < n && !copy->bad; i++) {
            const uint8_t *block = blocks + (size_t)i * SP_BLOCK_BYTES;
            struct sp_block_header header;
            if (!sp_volume_is_block_of(p->v, &e->segment, first + i, block) ||
                sp_block_read(block, &header) != SP_OK || (first + i && header.chain != chain))
                copy->bad = first + i + 1;
            chain = sp_block_chain(block);
            sp_digest_update(&state, sp_slice(block, SP_BLOCK_HEADER_BYTES));
        }
        atomic_fetch_add(&p->done_blocks, n);
    }
    sp_digest_final(&state, &digest);
    if (!copy->bad && e->segment.sealed && memcmp(&digest, &e->segment.digest, sizeof digest) != 0)
        copy->bad = total;
    if (!copy->bad && e->end_chain && chain != e->end_chain)
        copy->bad = total;
    copy->blocks = total;
    return true;
}

enum sp_status sp_proof_read(struct sp_proof *p, const struct sp_uuid *without,
                             struct sp_error *error)
{
    struct view view;
    uint64_t total = 0, now = p->mono_ms();
    look(p->v, &view);
    uint8_t *blocks = aligned_alloc(SP_BLOCK_BYTES, (size_t)SLICE_BLOCKS * SP_BLOCK_BYTES);
    if (!blocks || refresh(p, &view) != SP_OK) {
        free(blocks);
        return sp_error_set(error, SP_NO_MEMORY, "proof", "no memory");
    }
    for (size_t i = 0; i < p->count; i++)
        for (uint32_t k = 0; k < view.count; k++)
            if (should_hold(&view, k, i, &p->entries[i].segment) &&
                !sp_uuid_eq(&view.members[k].id, without) &&
                !is_recent(&p->entries[i].copies[k], &p->entries[i], now))
                total += p->entries[i].segment.data_blocks;
    atomic_store(&p->done_blocks, 0);
    atomic_store(&p->total_blocks, total);
    enum sp_status status = SP_OK;
    for (size_t i = 0; i < p->count && status == SP_OK; i++)
        for (uint32_t k = 0; k < view.count && status == SP_OK; k++)
            if (should_hold(&view, k, i, &p->entries[i].segment) &&
                !sp_uuid_eq(&view.members[k].id, without) &&
                !is_recent(&p->entries[i].copies[k], &p->entries[i], now) &&
                !read_copy(p, &p->entries[i], k, blocks))
                status = sp_error_set(error, SP_SHUTDOWN, "proof", "it was stopped");
    free(blocks);
    return status;
}

/* ---- Judging ---- */

/* How many of the copies are in failure domains of their own. Taken one after the other, so never
 * too many; where domains overlap in chains it may be too few. */
static uint32_t distinct(const struct view *view, const bool *good)
{
    uint32_t chosen[SP_VOLUME_UNITS_MAX], count = 0;
    for (uint32_t k = 0; k < view->count; k++) {
        bool shares = false;
        for (uint32_t c = 0; c < count; c++)
            shares |=
                sp_unit_domains_shared(view->members[k].domain, view->members[chosen[c]].domain);
        if (good[k] && !shares)
            chosen[count++] = k;
    }
    return count;
}

/* Segments one after the other of which the same is to be said. */
struct run {
    uint64_t first, last, first_lsn, last_lsn;
    bool good[SP_VOLUME_UNITS_MAX];
    uint32_t copies;
    bool begun;
};

static void say_run(const struct view *view, const struct run *run, uint32_t wanted,
                    struct sp_buf *findings, uint32_t *lines)
{
    if (!run->begun || !findings || ++*lines > LINES_MAX)
        return;
    if (run->first == run->last)
        sp_buf_addf(findings, "segment %" PRIu64, run->first);
    else
        sp_buf_addf(findings, "segments %" PRIu64 " to %" PRIu64, run->first, run->last);
    sp_buf_addf(findings, " (LSN %" PRIu64 " to %" PRIu64 "): %u of %u copies", run->first_lsn,
                run->last_lsn, run->copies, wanted);
    const char *before = " (";
    for (uint32_t k = 0; k < view->count; k++)
        if (run->good[k]) {
            sp_buf_addf(findings, "%s%s", before, view->members[k].name);
            before = ", ";
        }
    sp_buf_addf(findings, "%s\n", before[0] == ',' ? ")" : "");
}

static void extend_run(const struct view *view, struct run *run,
                       const struct sp_volume_segment *segment, const bool *good, uint32_t copies,
                       uint32_t wanted, struct sp_buf *findings, uint32_t *lines)
{
    if (run->begun && memcmp(run->good, good, sizeof run->good) == 0) {
        run->last = segment->segment;
        run->last_lsn = segment->last_lsn;
        return;
    }
    say_run(view, run, wanted, findings, lines);
    *run = (struct run){.first = segment->segment,
                        .last = segment->segment,
                        .first_lsn = segment->first_lsn,
                        .last_lsn = segment->last_lsn,
                        .copies = copies,
                        .begun = true};
    memcpy(run->good, good, sizeof run->good);
}

static void say_copies(const struct sp_proof *p, const struct view *view,
                       const struct sp_uuid *without, struct sp_buf *findings, uint32_t *lines)
{
    for (size_t i = 0; i < p->count; i++)
        for (uint32_t k = 0; k < view->count; k++) {
            const struct copy *copy = &p->entries[i].copies[k];
            if (copy->bad && !sp_uuid_eq(&view->members[k].id, without) && ++*lines <= LINES_MAX)
                sp_buf_addf(findings,
                            "unit %s: its copy of segment %" PRIu64 " is not sound at block %u\n",
                            view->members[k].name, p->entries[i].segment.segment, copy->bad - 1);
        }
}

/* Why units do not count. */
static void say_units(const struct view *view, const struct sp_uuid *without, bool shared_ok,
                      struct sp_buf *findings)
{
    static const char *const names[] = {"a replica", "a spare", "a witness",
                                        "ejected",   "stale",   "absent"};
    for (uint32_t k = 0; k < view->count; k++) {
        if (sp_uuid_eq(&view->members[k].id, without))
            continue;
        if (view->members[k].state != SP_UNIT_REPLICA)
            sp_buf_addf(findings, "unit %s: it is %s%s%s\n", view->members[k].name,
                        names[view->members[k].state], view->members[k].why[0] ? ": " : "",
                        view->members[k].why);
        else if (view->members[k].lacks)
            sp_buf_addf(findings, "unit %s: %zu segments are still to be brought to it\n",
                        view->members[k].name, view->members[k].lacks);
        for (uint32_t j = 0; j < k && !shared_ok; j++)
            if (view->members[k].state == SP_UNIT_REPLICA &&
                view->members[j].state == SP_UNIT_REPLICA &&
                !sp_uuid_eq(&view->members[j].id, without) &&
                sp_unit_domains_shared(view->members[k].domain, view->members[j].domain))
                sp_buf_addf(findings, "units %s and %s share a failure domain (%s, %s)\n",
                            view->members[j].name, view->members[k].name, view->members[j].domain,
                            view->members[k].domain);
    }
}

/* Which members have the i-th segment for certain. What was written since it was read is on every
 * replica by its sync. */
static void judge(const struct sp_proof *p, const struct view *view, size_t i,
                  const struct sp_volume_segment *segment, const struct sp_uuid *without,
                  bool *ret_good)
{
    const struct entry *e = find(p, segment->segment, segment->generation);
    bool since =
        !e && (p->count == 0 || segment->segment > p->entries[p->count - 1].segment.segment);
    for (uint32_t k = 0; k < view->count; k++) {
        ret_good[k] = should_hold(view, k, i, segment) &&
                      !sp_uuid_eq(&view->members[k].id, without) &&
                      (since || (e && sp_uuid_eq(&p->units[k], &view->members[k].id) &&
                                 is_verified(&e->copies[k], e)));
    }
}

enum sp_status sp_proof_holds(struct sp_proof *p, const struct sp_uuid *without, bool shared_ok,
                              struct sp_proof_result *ret_result, struct sp_buf *findings)
{
    struct sp_volume *v = p->v;
    struct sp_proof_result result = {.copies = UINT32_MAX};
    struct run run = {0};
    struct view view;
    uint32_t lines = 0;
    look(v, &view);
    pthread_rwlock_rdlock(&v->segments_lock);
    for (size_t i = 0; i < v->segments_count; i++) {
        bool good[SP_VOLUME_UNITS_MAX] = {false};
        uint32_t all = 0;
        judge(p, &view, i, &v->segments[i], without, good);
        for (uint32_t k = 0; k < view.count; k++)
            all += good[k];
        uint32_t apart = distinct(&view, good);
        result.shared_domain |= shared_ok && apart < all;
        uint32_t copies = shared_ok ? all : apart;
        result.segments++;
        if (copies < result.copies)
            result.copies = copies;
        if (copies >= v->min_copies) {
            say_run(&view, &run, v->min_copies, findings, &lines);
            run.begun = false;
            continue;
        }
        result.lacking++;
        extend_run(&view, &run, &v->segments[i], good, copies, v->min_copies, findings, &lines);
    }
    pthread_rwlock_unlock(&v->segments_lock);
    say_run(&view, &run, v->min_copies, findings, &lines);
    if (result.lacking && findings) {
        say_copies(p, &view, without, findings, &lines);
        if (lines > LINES_MAX)
            sp_buf_addf(findings, "and %u more lines like these\n", lines - LINES_MAX);
        say_units(&view, without, shared_ok, findings);
    }
    *ret_result = result;
    return result.lacking ? SP_DENIED : SP_OK;
}
