/* What SEARCH and SORT with RETURN answer: ESEARCH (RFC 4731), of SORT in its order (RFC 5267, 3),
 * by place (PARTIAL, RFC 9394), and what they save for `$` (RFC 5182).
 *
 * A result is a list of stretches of UIDs in its own order: that of SEARCH ascends, and that of
 * SORT goes up by one within a stretch only. So the first, the last, how many, and those at given
 * places are found alike for both. */
#include "proto/imap/state.h"

#include "proto/imap/respond.h"

#include <stdlib.h>

/* ---- Stretches ---- */

void sp_imap_add_run(struct sp_uid_ranges *runs, uint32_t first, uint32_t last)
{
    struct sp_uid_range *previous = runs->count ? &runs->ptr[runs->count - 1] : NULL;
    if (previous && previous->last != UINT32_MAX && previous->last + 1 == first)
        previous->last = last;
    else
        runs->ptr[runs->count++] = (struct sp_uid_range){first, last};
}

static uint64_t count(struct sp_uid_ranges runs)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < runs.count; i++)
        sum += (uint64_t)runs.ptr[i].last - runs.ptr[i].first + 1;
    return sum;
}

struct sp_uid_ranges sp_imap_partial_of(struct sp_uid_ranges runs, struct sp_imap_partial partial,
                                        struct sp_uid_range *ret_part)
{
    struct sp_uid_ranges part = {ret_part, 0};
    uint64_t all = count(runs), first = partial.first, last = partial.last, place = 1;
    if (partial.from_end) {
        uint64_t low = last < all ? all - last + 1 : 1;
        last = first <= all ? all - first + 1 : 0;
        first = low;
    }
    for (uint32_t i = 0; i < runs.count && place <= last; i++) {
        struct sp_uid_range run = runs.ptr[i]; /* ret_part may be the same memory */
        uint64_t length = (uint64_t)run.last - run.first + 1, end = place + length - 1;
        if (end >= first) {
            uint64_t skip = first > place ? first - place : 0;
            uint64_t beyond = end > last ? end - last : 0;
            part.ptr[part.count++] =
                (struct sp_uid_range){run.first + (uint32_t)skip, run.last - (uint32_t)beyond};
        }
        place = end + 1;
    }
    return part;
}

static int by_first(const void *a, const void *b)
{
    uint32_t x = ((const struct sp_uid_range *)a)->first,
             y = ((const struct sp_uid_range *)b)->first;
    return x < y ? -1 : x > y;
}

/* The same UIDs as an ascending list of ranges that do not touch. */
static void sort_runs(struct sp_uid_ranges *runs)
{
    uint32_t kept = 0;
    if (!runs->count)
        return;
    qsort(runs->ptr, runs->count, sizeof *runs->ptr, by_first);
    for (uint32_t i = 1; i < runs->count; i++) {
        struct sp_uid_range *last = &runs->ptr[kept], next = runs->ptr[i];
        if (next.first - 1 > last->last)
            runs->ptr[++kept] = next;
        else if (next.last > last->last)
            last->last = next.last;
    }
    runs->count = kept + 1;
}

/* ---- The answer ---- */

/* As the client sees them. A stretch of UIDs that are all known is one of numbers, too. */
static void add_runs(struct sp_imap *s, struct sp_uid_ranges uids)
{
    const struct sp_imap_uidmap *map = &s->selected->map;
    struct sp_uid_range one[1];
    for (uint32_t i = 0; i < uids.count && !sp_buf_failed(&s->out);) {
        struct sp_uid_ranges run = {one, 0};
        do {
            uint32_t first = uids.ptr[i].first, length = uids.ptr[i].last - first;
            if (!s->command.uid)
                first = sp_imap_uidmap_seq(map, first);
            if (run.count && one->last + 1 != first)
                break;
            sp_imap_add_run(&run, first, first + length);
        } while (++i < uids.count);
        sp_imap_add_ranges(&s->out, run);
        if (i < uids.count)
            sp_buf_add_byte(&s->out, ',');
    }
}

static void add_extreme(struct sp_imap *s, const char *name, uint32_t uid)
{
    sp_buf_add_str(&s->out, name);
    sp_buf_add_decimal(&s->out, s->command.uid ? uid : sp_imap_uidmap_seq(&s->selected->map, uid));
}

static void add_partial(struct sp_imap *s, struct sp_uid_ranges part)
{
    const struct sp_imap_partial *partial = &s->command.search->partial;
    const char *sign = partial->from_end ? "-" : "";
    sp_buf_addf(&s->out, " PARTIAL (%s%u:%s%u ", sign, partial->first, sign, partial->last);
    if (part.count)
        add_runs(s, part);
    else
        sp_buf_add_str(&s->out, "NIL");
    sp_buf_add_byte(&s->out, ')');
}

static void tell(struct sp_imap *s)
{
    struct sp_imap_search_args *search = s->command.search;
    struct sp_uid_ranges found = search->found;
    struct sp_buf *out = &s->out;
    unsigned returns = search->returns;
    if (returns == SP_IMAP_ESEARCH_SAVE) { /* RFC 5182, 2.1: nothing is told */
        sp_imap_finish_ok(s);
        return;
    }
    sp_buf_add(out, SP_S("* ESEARCH (TAG \""));
    sp_buf_add(out, s->command.tag); /* holds no character that would have to be quoted */
    sp_buf_add(out, s->command.uid ? SP_S("\") UID") : SP_S("\")"));
    if (found.count && (returns & SP_IMAP_ESEARCH_MIN))
        add_extreme(s, " MIN ", found.ptr[0].first);
    if (found.count && (returns & SP_IMAP_ESEARCH_MAX))
        add_extreme(s, " MAX ", found.ptr[found.count - 1].last);
    if (found.count && (returns & SP_IMAP_ESEARCH_ALL)) {
        sp_buf_add(out, SP_S(" ALL "));
        add_runs(s, found);
    }
    if (returns & SP_IMAP_ESEARCH_COUNT) {
        sp_buf_add(out, SP_S(" COUNT "));
        sp_buf_add_decimal(out, count(found));
    }
    if (found.count && search->modseq) {
        sp_buf_add(out, SP_S(" MODSEQ "));
        sp_buf_add_decimal(out, search->modseq);
    }
    if (returns & SP_IMAP_ESEARCH_PARTIAL) /* last: what was found is cut in place */
        add_partial(s, sp_imap_partial_of(found, search->partial, found.ptr));
    sp_buf_add(out, SP_S("\r\n"));
    sp_imap_finish_ok(s);
}

/* ---- The highest MODSEQ of what is named, where that is not all: RFC 7162, 3.1.10 ---- */

static void on_rows(struct sp_imap *s, const struct sp_reply *reply);

static void ask_for_rows(struct sp_imap *s)
{
    struct sp_request *request = sp_imap_request(s, SP_REQ_FETCH);
    if (!request)
        return;
    request->fetch.want = SP_WANT_FLAGS;
    if (sp_imap_request_ranges(request, s->command.search->named))
        sp_imap_submit(s, request, on_rows);
    else
        sp_imap_abandon(s, request);
}

static void on_rows(struct sp_imap *s, const struct sp_reply *reply)
{
    struct sp_imap_search_args *search = s->command.search;
    struct sp_uid_ranges *left = &search->named;
    if (reply->status != SP_OK) {
        sp_imap_refuse_selected(s, reply);
        return;
    }
    for (uint32_t i = 0; i < reply->rows_count; i++)
        if (reply->rows[i].modseq > search->modseq)
            search->modseq = reply->rows[i].modseq;
    uint32_t through = reply->rows_count ? reply->rows[reply->rows_count - 1].uid : UINT32_MAX;
    while (left->count && left->ptr->last <= through) {
        left->ptr++;
        left->count--;
    }
    if (left->count && left->ptr->first <= through)
        left->ptr->first = through + 1;
    if (reply->more && left->count)
        ask_for_rows(s);
    else
        tell(s);
}

/* ---- Saving ---- */

void sp_imap_forget_saved(struct sp_imap *s)
{
    if (!s->selected)
        return;
    free(s->selected->saved);
    s->selected->saved = NULL;
    s->selected->saved_count = 0;
}

/* False: it could not be, and the command has ended. */
static bool save(struct sp_imap *s, struct sp_uid_ranges uids)
{
    struct sp_uid_ranges saved = {0};
    sp_imap_forget_saved(s);
    if (!uids.count)
        return true;
    saved.ptr = malloc(uids.count * sizeof *saved.ptr);
    if (saved.ptr) {
        memcpy(saved.ptr, uids.ptr, uids.count * sizeof *saved.ptr);
        saved.count = uids.count;
        sort_runs(&saved);
    }
    if (!saved.ptr || saved.count > SP_IMAP_SAVED_MAX) {
        free(saved.ptr);
        sp_imap_finish(s, "NO [NOTSAVED] There is too much of it to be saved");
        return false;
    }
    struct sp_uid_range *fit = realloc(saved.ptr, saved.count * sizeof *fit);
    s->selected->saved = fit ? fit : saved.ptr;
    s->selected->saved_count = saved.count;
    return true;
}

/* MIN, MAX and what PARTIAL names, of what was found. */
static bool name_some(struct sp_imap *s, struct sp_uid_ranges found, struct sp_uid_ranges *ret_some)
{
    const struct sp_imap_search_args *search = s->command.search;
    struct sp_uid_ranges some = {
        sp_arena_array(&s->arena, (size_t)found.count + 2, sizeof *some.ptr), 0};
    if (!some.ptr)
        return false;
    if (search->returns & SP_IMAP_ESEARCH_PARTIAL)
        some = sp_imap_partial_of(found, search->partial, some.ptr);
    if (found.count && (search->returns & SP_IMAP_ESEARCH_MIN)) {
        uint32_t uid = found.ptr[0].first;
        some.ptr[some.count++] = (struct sp_uid_range){uid, uid};
    }
    if (found.count && (search->returns & SP_IMAP_ESEARCH_MAX)) {
        uint32_t uid = found.ptr[found.count - 1].last;
        some.ptr[some.count++] = (struct sp_uid_range){uid, uid};
    }
    sort_runs(&some);
    *ret_some = some;
    return true;
}

void sp_imap_esearch(struct sp_imap *s, struct sp_uid_ranges uids, uint64_t modseq)
{
    struct sp_imap_search_args *search = s->command.search;
    const unsigned some = SP_IMAP_ESEARCH_MIN | SP_IMAP_ESEARCH_MAX | SP_IMAP_ESEARCH_PARTIAL;
    bool all = (search->returns & (SP_IMAP_ESEARCH_ALL | SP_IMAP_ESEARCH_COUNT)) ||
               !(search->returns & some);
    search->found = search->named = uids;
    if (!all && !name_some(s, uids, &search->named)) {
        sp_imap_abandon(s, NULL);
        return;
    }
    if ((search->returns & SP_IMAP_ESEARCH_SAVE) && !save(s, search->named))
        return;
    if (all)
        search->modseq = modseq;
    if (!all && modseq && search->named.count)
        ask_for_rows(s);
    else
        tell(s);
}
