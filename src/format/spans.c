#include "format/spans.h"

#include <stdlib.h>

/* The first run that ends at or after value. */
static uint32_t seek(const struct sp_spans *set, uint64_t value)
{
    uint32_t low = 0, high = set->count;
    if (high && set->ptr[high - 1].last < value)
        return high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (set->ptr[middle].last < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Puts n runs in place of those from `from` to `to`. */
static bool replace(struct sp_spans *set, uint32_t from, uint32_t to, const struct sp_span *runs,
                    uint32_t n)
{
    uint32_t count = set->count - (to - from) + n;
    if (count > set->capacity) {
        uint32_t capacity = set->capacity ? set->capacity * 2 : 4;
        struct sp_span *grown = realloc(set->ptr, capacity * sizeof *grown);
        if (!grown)
            return false;
        set->ptr = grown;
        set->capacity = capacity;
    }
    if (set->count > to)
        memmove(set->ptr + from + n, set->ptr + to, (set->count - to) * sizeof *set->ptr);
    for (uint32_t i = 0; i < n; i++)
        set->ptr[from + i] = runs[i];
    set->count = count;
    return true;
}

bool sp_spans_add(struct sp_spans *set, uint64_t first, uint64_t last)
{
    struct sp_span run = {first, last};
    uint32_t from = seek(set, first ? first - 1 : 0), to = from;
    while (to < set->count && set->ptr[to].first <= (last == UINT64_MAX ? last : last + 1)) {
        run.first = set->ptr[to].first < run.first ? set->ptr[to].first : run.first;
        run.last = set->ptr[to].last > run.last ? set->ptr[to].last : run.last;
        to++;
    }
    return replace(set, from, to, &run, 1);
}

bool sp_spans_remove(struct sp_spans *set, uint64_t first, uint64_t last)
{
    struct sp_span rests[2];
    uint32_t from = seek(set, first), to = from, n = 0;
    while (to < set->count && set->ptr[to].first <= last)
        to++;
    if (to == from)
        return true;
    if (set->ptr[from].first < first)
        rests[n++] = (struct sp_span){set->ptr[from].first, first - 1};
    if (set->ptr[to - 1].last > last)
        rests[n++] = (struct sp_span){last + 1, set->ptr[to - 1].last};
    return replace(set, from, to, rests, n);
}

bool sp_spans_has(const struct sp_spans *set, uint64_t value)
{
    uint32_t at = seek(set, value);
    return at < set->count && set->ptr[at].first <= value;
}

bool sp_spans_add_except(struct sp_spans *set, uint64_t first, uint64_t last,
                         const struct sp_spans *but)
{
    for (uint32_t at = seek(but, first); at < but->count && but->ptr[at].first <= last; at++) {
        if (but->ptr[at].first > first && !sp_spans_add(set, first, but->ptr[at].first - 1))
            return false;
        if (but->ptr[at].last >= last)
            return true;
        first = but->ptr[at].last + 1;
    }
    return sp_spans_add(set, first, last);
}

uint64_t sp_spans_total(const struct sp_spans *set, uint64_t from)
{
    uint64_t total = 0;
    for (uint32_t i = seek(set, from); i < set->count; i++)
        total += set->ptr[i].last - (set->ptr[i].first > from ? set->ptr[i].first : from) + 1;
    return total;
}

void sp_spans_release(struct sp_spans *set)
{
    free(set->ptr);
    *set = (struct sp_spans){0};
}
