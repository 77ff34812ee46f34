/* Housekeeping: what is said of the log in the log.
 *
 * A segment begins with a manifest, and with a base catalogue of each mailbox that the one before
 * changed: what is lost with a segment is known from the next. The same is said when the volume is
 * closed. Within a segment, after every few MiB (CATALOGUE_BYTES, commit.c) and whenever it has
 * been quiet, come delta catalogues of what changed since: so what is lost near the end of the log
 * mostly shows too.
 *
 * And where every chain stands is said when the volume is closed, and every SP_TAILS_SEGMENTS: so
 * what a long stretch of loss took shows even where the mailbox never changed again. */
#include "store/volume_internal.h"

#include <stdlib.h>

#define TAILS_BYTES    (1U << 20) /* of one TAILS record, about: of one batch */
#define CLOCK_MS       3600000U   /* between CLOCK records */
#define CLOCK_LEAST_MS 60000U     /* not worth one */

struct span_builder {
    struct sp_arena *arena;
    struct sp_span_list list;
    uint32_t capacity;
    bool failed;
};

static void add_uid(struct span_builder *b, uint64_t first, uint64_t last)
{
    if (b->list.count && b->list.ptr[b->list.count - 1].last + 1 == first) {
        b->list.ptr[b->list.count - 1].last = last;
        return;
    }
    if (b->list.count == b->capacity) {
        uint32_t capacity = b->capacity ? b->capacity * 2 : 16;
        struct sp_span *grown = sp_arena_array(b->arena, capacity, sizeof *grown);
        if (!grown) {
            b->failed = true;
            return;
        }
        if (b->list.count)
            memcpy(grown, b->list.ptr, b->list.count * sizeof *grown);
        b->list.ptr = grown;
        b->capacity = capacity;
    }
    b->list.ptr[b->list.count++] = (struct sp_span){first, last};
}

/* Every UID that the mailbox has, from one on. */
static enum sp_status present_uids(struct sp_plan *plan, const struct sp_touched *at, uint32_t from,
                                   struct span_builder *present)
{
    struct sp_flag_cursor cursor;
    struct sp_flag_row row;
    enum sp_status status =
        sp_flag_cursor_open(sp_plan_read(plan), &at->account, at->mailbox, from, 0, &cursor);
    if (status != SP_OK)
        return status;
    while ((status = sp_flag_cursor_next(&cursor, &row)) == SP_OK && !present->failed)
        add_uid(present, row.uid, row.uid);
    sp_flag_cursor_close(&cursor);
    if (present->failed)
        return SP_NO_MEMORY;
    return status == SP_EOF ? SP_OK : status;
}

static enum sp_status add_gone(void *context, struct sp_uid_pair run)
{
    struct span_builder *gone = context;
    add_uid(gone, run.first, run.last);
    return gone->failed ? SP_NO_MEMORY : SP_OK;
}

static int by_first(const void *a, const void *b)
{
    const struct sp_span *left = a, *right = b;
    return (left->first > right->first) - (left->first < right->first);
}

/* Tombstones come in the order of their MODSEQs; spans ascend, and touch nowhere. */
static void sort_spans(struct sp_span_list *list)
{
    uint32_t kept = 0;
    if (list->count)
        qsort(list->ptr, list->count, sizeof *list->ptr, by_first);
    for (uint32_t i = 0; i < list->count; i++) {
        struct sp_span span = list->ptr[i];
        if (kept && span.first <= list->ptr[kept - 1].last + 1) {
            if (span.last > list->ptr[kept - 1].last)
                list->ptr[kept - 1].last = span.last;
        } else {
            list->ptr[kept++] = span;
        }
    }
    list->count = kept;
}

static enum sp_status emit_catalogue(struct sp_plan *plan, const struct sp_touched *at, bool base)
{
    struct sp_mailbox mailbox;
    enum sp_status status =
        sp_index_mailbox(sp_plan_read(plan), &at->account, at->mailbox, &mailbox);
    if (status == SP_NOT_FOUND)
        return SP_OK; /* deleted since */
    if (status != SP_OK)
        return status;
    sp_arena_release(&plan->arena);
    struct span_builder present = {.arena = &plan->arena}, gone = {.arena = &plan->arena};
    base = base || mailbox.row.catalogue_lsn == 0;
    status = present_uids(plan, at, base ? 1 : mailbox.row.catalogue_uidnext, &present);
    if (status == SP_OK && !base)
        status = sp_index_expunged(sp_plan_read(plan), &at->account, at->mailbox,
                                   mailbox.row.catalogue_modseq, add_gone, &gone);
    if (present.failed || gone.failed)
        return SP_OK; /* a mailbox of millions of scattered UIDs: its chain still guards it */
    if (status != SP_OK)
        return status;
    sort_spans(&gone.list);
    struct sp_catalogue catalogue = {
        .base = base,
        .uidvalidity = mailbox.row.uidvalidity,
        .uidnext = mailbox.row.uidnext,
        .highestmodseq = mailbox.row.highestmodseq,
        .messages = mailbox.row.messages,
        .path = mailbox.path,
        .present = present.list,
        .gone = gone.list,
    };
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_catalogue_write(&catalogue, buf);
    if (sp_buf_failed(buf))
        return SP_OK; /* likewise */
    return sp_plan_emit(plan, SP_RECORD_CATALOGUE, &at->account, at->mailbox, sp_buf_slice(buf),
                        NULL);
}

void sp_volume_begin_tails(struct sp_volume *v)
{
    v->tails_due = true;
    v->tails_segments = 0;
    memset(&v->tails_from, 0, sizeof v->tails_from);
}

static bool add_tail(struct sp_plan *plan, struct sp_tails *tails, uint32_t *capacity,
                     struct sp_tail tail)
{
    if (tails->count == *capacity) {
        uint32_t grown_capacity = *capacity ? *capacity * 2 : 256;
        struct sp_tail *grown = sp_arena_array(&plan->arena, grown_capacity, sizeof *grown);
        if (!grown)
            return false;
        if (tails->count)
            memcpy(grown, tails->list, tails->count * sizeof *grown);
        tails->list = grown;
        *capacity = grown_capacity;
    }
    tails->list[tails->count++] = tail;
    return true;
}

/* One record, of as many accounts after tails_from as go into it. *ret_from, *ret_ends: how far it
 * came, and whether that is all. */
static enum sp_status emit_tails(struct sp_plan *plan, struct sp_uuid *ret_from, bool *ret_ends)
{
    const uint32_t count_max = TAILS_BYTES / 32;
    struct sp_read *read = sp_plan_read(plan);
    struct sp_account account = {.id = plan->volume->tails_from};
    struct sp_tails tails = {.begins = sp_uuid_is_nil(&account.id)};
    uint32_t capacity = 0;
    enum sp_status status = SP_OK;
    sp_arena_release(&plan->arena);
    while (tails.count < count_max && (status = sp_index_next_account(read, &account)) == SP_OK) {
        struct sp_mailbox mailbox = {.account = account.id};
        bool good = add_tail(plan, &tails, &capacity,
                             (struct sp_tail){.account = account.id, .lsn = account.row.tail});
        /* A payload has its limit: of an account of 60,000 mailboxes the last go unsaid. */
        while (good && tails.count < count_max * 3 &&
               (status = sp_index_next_mailbox(read, &account.id, &mailbox)) == SP_OK)
            good = add_tail(plan, &tails, &capacity,
                            (struct sp_tail){.account = account.id,
                                             .mailbox = mailbox.row.id,
                                             .uidnext = mailbox.row.uidnext,
                                             .messages = mailbox.row.messages,
                                             .lsn = mailbox.row.tail});
        if (!good)
            return SP_NO_MEMORY;
        if (status != SP_OK && status != SP_EOF)
            return status;
    }
    if (status != SP_OK && status != SP_EOF)
        return status;
    tails.ends = tails.count < count_max;
    *ret_from = account.id;
    *ret_ends = tails.ends;
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_tails_write(&tails, buf);
    return sp_buf_failed(buf)
               ? SP_NO_MEMORY
               : sp_plan_emit(plan, SP_RECORD_TAILS, NULL, 0, sp_buf_slice(buf), NULL);
}

static bool clock_is_due(const struct sp_volume *v, uint64_t every_ms)
{
    return v->clock_ms(v->clock_context) - v->clock_said_ms >= every_ms;
}

bool sp_housekeeping_is_due(const struct sp_volume *v)
{
    return v->housekeeping || v->tails_due || v->redirect_due ||
           v->retired_said < v->retired_count || clock_is_due(v, CLOCK_MS) ||
           (v->catalogues_due && sp_touched_set_count(v->recent));
}

static enum sp_status emit_clock(struct sp_plan *plan, struct sp_housekeeping *due)
{
    const struct sp_volume *v = plan->volume;
    due->clock_ms = v->clock_ms(v->clock_context);
    due->clock = true;
    const struct sp_clock_record clock = {.elapsed_ms = due->clock_ms - v->clock_said_ms};
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_clock_record_write(&clock, buf);
    return sp_plan_emit_optional(plan, SP_RECORD_CLOCK, sp_buf_slice(buf));
}

static enum sp_status say_manifest(struct sp_plan *plan, struct sp_housekeeping *due)
{
    due->manifest = true;
    due->sealed_count = plan->volume->sealed_count;
    due->retired_count = plan->volume->retired_count;
    return sp_manifest_emit(plan->volume, plan);
}

/* As many as go into one batch; the others are due again with the next, by way of `later`. */
static enum sp_status emit_catalogues(struct sp_plan *plan, const struct sp_touched_set *set,
                                      bool base, struct sp_touched_set *later, bool *ret_due)
{
    enum sp_status status = SP_OK;
    for (size_t i = 0; i < sp_touched_set_count(set) && status == SP_OK; i++) {
        if (plan->volume->batch.stream_bytes < SP_BATCH_BYTES_SOFT) {
            status = emit_catalogue(plan, sp_touched_set_at(set, i), base);
            continue;
        }
        status = sp_touched_set_add(later, sp_touched_set_at(set, i));
        *ret_due = true;
    }
    return status;
}

static enum sp_status say_catalogues(struct sp_plan *plan, struct sp_housekeeping *due)
{
    struct sp_volume *v = plan->volume;
    struct sp_touched_set *recent = sp_touched_set_new();
    struct sp_touched_set *touched = v->housekeeping ? sp_touched_set_new() : NULL;
    if (!recent || (v->housekeeping && !touched)) {
        sp_touched_set_free(recent);
        sp_touched_set_free(touched);
        return SP_NO_MEMORY;
    }
    due->recent = v->recent;
    due->recent_bytes = v->recent_bytes;
    v->recent = recent;
    v->recent_bytes = 0;
    v->catalogues_due = false;
    if (!touched)
        return emit_catalogues(plan, due->recent, false, v->recent, &v->catalogues_due);
    due->touched = v->touched;
    v->touched = touched;
    v->housekeeping = false; /* a segment that begins under way sets it again */
    enum sp_status status = say_manifest(plan, due);
    return status == SP_OK ? emit_catalogues(plan, due->touched, true, v->touched, &v->housekeeping)
                           : status;
}

enum sp_status sp_housekeeping_begin(struct sp_plan *plan, struct sp_housekeeping *due)
{
    const struct sp_volume *v = plan->volume;
    enum sp_status status = SP_OK;
    if (v->housekeeping || v->catalogues_due)
        status = say_catalogues(plan, due);
    if (status == SP_OK && !due->manifest && v->retired_said < v->retired_count)
        status = say_manifest(plan, due);
    /* With every segment, and every hour: an expunge's age is known that well. */
    if (status == SP_OK && clock_is_due(v, due->touched || v->stopping ? CLOCK_LEAST_MS : CLOCK_MS))
        status = emit_clock(plan, due);
    if (status == SP_OK && v->tails_due) {
        due->tails = true;
        status = emit_tails(plan, &due->tails_from, &due->tails_end);
    }
    return status;
}

void sp_housekeeping_end(struct sp_volume *v, struct sp_housekeeping *due, bool durable)
{
    if (durable) {
        if (due->manifest) {
            v->retired_said = due->retired_count;
            v->sealed_count -= due->sealed_count;
            if (v->sealed_count)
                memmove(v->sealed, v->sealed + due->sealed_count,
                        v->sealed_count * sizeof *v->sealed);
        }
        if (due->clock) {
            pthread_mutex_lock(&v->lock);
            v->clock_total_ms += due->clock_ms - v->clock_said_ms;
            v->clock_said_ms = due->clock_ms;
            pthread_mutex_unlock(&v->lock);
        }
        if (due->tails) {
            v->tails_from = due->tails_from;
            v->tails_due = !due->tails_end;
        }
        sp_touched_set_free(due->touched);
        sp_touched_set_free(due->recent);
        return;
    }
    /* It must be said again. The fresh sets hold nothing but what is in the old ones as well. */
    if (due->recent) {
        sp_touched_set_free(v->recent);
        v->recent = due->recent;
        v->recent_bytes += due->recent_bytes;
        v->catalogues_due = true;
    }
    if (due->touched) {
        sp_touched_set_free(v->touched);
        v->touched = due->touched;
        v->housekeeping = true;
    }
}
