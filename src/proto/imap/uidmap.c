#include "proto/imap/uidmap.h"

#include <stdlib.h>

void sp_imap_uidmap_init(struct sp_imap_uidmap *map)
{
    *map = (struct sp_imap_uidmap){0};
}

void sp_imap_uidmap_release(struct sp_imap_uidmap *map)
{
    free(map->runs);
    sp_imap_uidmap_init(map);
}

static uint32_t run_length(const struct sp_imap_run *run)
{
    return run->last - run->first + 1;
}

uint32_t sp_imap_uidmap_exists(const struct sp_imap_uidmap *map)
{
    if (!map->count)
        return 0;
    const struct sp_imap_run *run = &map->runs[map->count - 1];
    return run->before + run_length(run);
}

uint32_t sp_imap_uidmap_last(const struct sp_imap_uidmap *map)
{
    return map->count ? map->runs[map->count - 1].last : 0;
}

static bool is_ascending(struct sp_uid_ranges ranges)
{
    uint32_t last = 0;
    for (uint32_t i = 0; i < ranges.count; i++) {
        if (ranges.ptr[i].first <= last || ranges.ptr[i].first > ranges.ptr[i].last)
            return false;
        last = ranges.ptr[i].last;
    }
    return true;
}

/* Puts a stretch at the end of runs, joined to the last one where it continues it. Returns the new
 * count. */
static uint32_t add_run(struct sp_imap_run *runs, uint32_t count, uint32_t first, uint32_t last)
{
    uint32_t before = 0;
    if (count) {
        struct sp_imap_run *previous = &runs[count - 1];
        if (previous->last + 1 == first) {
            previous->last = last;
            return count;
        }
        before = previous->before + run_length(previous);
    }
    runs[count] = (struct sp_imap_run){first, last, before};
    return count + 1;
}

enum sp_status sp_imap_uidmap_append(struct sp_imap_uidmap *map, struct sp_uid_ranges ranges)
{
    uint32_t known = sp_imap_uidmap_last(map);
    if (!is_ascending(ranges))
        return SP_INVALID;
    if (!ranges.count || ranges.ptr[ranges.count - 1].last <= known)
        return SP_OK;
    struct sp_imap_run *runs =
        realloc(map->runs, ((size_t)map->count + ranges.count) * sizeof *runs);
    if (!runs)
        return SP_NO_MEMORY;
    map->runs = runs;
    for (uint32_t i = 0; i < ranges.count; i++) {
        struct sp_uid_range range = ranges.ptr[i];
        if (range.last <= known)
            continue;
        if (range.first <= known)
            range.first = known + 1;
        map->count = add_run(runs, map->count, range.first, range.last);
    }
    return SP_OK;
}

/* The run that holds uid, or the first one after it; map->count: none. */
static uint32_t find_uid(const struct sp_imap_uidmap *map, uint32_t uid)
{
    uint32_t low = 0, high = map->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (map->runs[middle].last < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The run that holds seq (1..exists). */
static uint32_t find_seq(const struct sp_imap_uidmap *map, uint32_t seq)
{
    uint32_t low = 0, high = map->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (map->runs[middle].before < seq)
            low = middle;
        else
            high = middle;
    }
    return low;
}

uint32_t sp_imap_uidmap_seq(const struct sp_imap_uidmap *map, uint32_t uid)
{
    uint32_t run = find_uid(map, uid);
    return sp_imap_uidmap_next_seq(map, &run, uid);
}

uint32_t sp_imap_uidmap_uid(const struct sp_imap_uidmap *map, uint32_t seq)
{
    sp_assert(seq >= 1 && seq <= sp_imap_uidmap_exists(map));
    const struct sp_imap_run *run = &map->runs[find_seq(map, seq)];
    return run->first + (seq - run->before - 1);
}

enum sp_status sp_imap_uidmap_remove(struct sp_imap_uidmap *map, struct sp_uid_ranges ranges,
                                     void (*visit)(void *context, uint32_t seq, uint32_t count),
                                     void *context)
{
    if (!map->count || !ranges.count)
        return SP_OK;
    sp_assert(is_ascending(ranges));
    /* Each range can split one run at most. */
    struct sp_imap_run *kept = malloc(((size_t)map->count + ranges.count) * sizeof *kept);
    if (!kept)
        return SP_NO_MEMORY;
    uint32_t kept_count = 0, messages = 0, next = 0;
    for (uint32_t i = 0; i < map->count; i++) {
        uint32_t at = map->runs[i].first, last = map->runs[i].last;
        while (next < ranges.count && ranges.ptr[next].last < at)
            next++;
        for (;;) {
            bool hit = next < ranges.count && ranges.ptr[next].first <= last;
            uint32_t stop = hit ? ranges.ptr[next].first : 0;
            if (!hit || stop > at) {
                uint32_t to = hit ? stop - 1 : last;
                kept_count = add_run(kept, kept_count, at, to);
                messages += to - at + 1;
                if (!hit)
                    break;
                at = stop;
            }
            uint32_t to = ranges.ptr[next].last < last ? ranges.ptr[next].last : last;
            visit(context, messages + 1, to - at + 1);
            if (to == last)
                break;
            at = to + 1;
            next++;
        }
    }
    free(map->runs);
    struct sp_imap_run *fit = kept_count ? realloc(kept, kept_count * sizeof *kept) : NULL;
    if (!kept_count)
        free(kept);
    map->runs = fit || !kept_count ? fit : kept;
    map->count = kept_count;
    return SP_OK;
}

enum sp_status sp_imap_uidmap_uids(const struct sp_imap_uidmap *map, struct sp_uid_ranges seqs,
                                   struct sp_arena *arena, struct sp_uid_ranges *ret_uids)
{
    struct sp_uid_ranges uids = {0};
    size_t need = 0;
    for (uint32_t i = 0; i < seqs.count; i++) {
        sp_assert(seqs.ptr[i].first >= 1 && seqs.ptr[i].last <= sp_imap_uidmap_exists(map));
        need += find_seq(map, seqs.ptr[i].last) - find_seq(map, seqs.ptr[i].first) + 1;
    }
    if (!(uids.ptr = sp_arena_array(arena, need, sizeof *uids.ptr)))
        return SP_NO_MEMORY;
    for (uint32_t i = 0; i < seqs.count; i++) {
        uint32_t seq = seqs.ptr[i].first;
        for (uint32_t r = find_seq(map, seq); seq <= seqs.ptr[i].last; r++) {
            const struct sp_imap_run *run = &map->runs[r];
            uint32_t in_run = run->before + run_length(run);
            uint32_t to = in_run < seqs.ptr[i].last ? in_run : seqs.ptr[i].last;
            uids.ptr[uids.count++] = (struct sp_uid_range){run->first + (seq - run->before - 1),
                                                           run->first + (to - run->before - 1)};
            seq = to + 1;
        }
    }
    *ret_uids = uids;
    return SP_OK;
}

/* The part of uids[i] that lies in run; false: none. */
static bool overlap(const struct sp_imap_run *run, struct sp_uid_range range,
                    struct sp_uid_range *ret_part)
{
    uint32_t first = range.first > run->first ? range.first : run->first;
    uint32_t last = range.last < run->last ? range.last : run->last;
    if (first > last)
        return false;
    *ret_part = (struct sp_uid_range){first, last};
    return true;
}

enum sp_status sp_imap_uidmap_seqs(const struct sp_imap_uidmap *map, struct sp_uid_ranges uids,
                                   struct sp_arena *arena, struct sp_uid_ranges *ret_seqs)
{
    struct sp_uid_ranges seqs = {0};
    struct sp_uid_range part;
    /* Two ranges that lie in one run make two ranges of numbers, two runs in one range make one. */
    if (!(seqs.ptr = sp_arena_array(arena, (size_t)uids.count + 1, sizeof *seqs.ptr)))
        return SP_NO_MEMORY;
    for (uint32_t i = 0; i < uids.count; i++) {
        for (uint32_t r = find_uid(map, uids.ptr[i].first);
             r < map->count && overlap(&map->runs[r], uids.ptr[i], &part); r++) {
            uint32_t first = map->runs[r].before + (part.first - map->runs[r].first) + 1;
            uint32_t last = first + (part.last - part.first);
            if (seqs.count && seqs.ptr[seqs.count - 1].last + 1 == first)
                seqs.ptr[seqs.count - 1].last = last;
            else
                seqs.ptr[seqs.count++] = (struct sp_uid_range){first, last};
        }
    }
    *ret_seqs = seqs;
    return SP_OK;
}

uint32_t sp_imap_uidmap_part(const struct sp_imap_uidmap *map, struct sp_uid_ranges uids,
                             bool present, struct sp_uid_range *ret_part)
{
    uint32_t count = 0;
    struct sp_uid_range part;
    for (uint32_t i = 0; i < uids.count; i++) {
        uint64_t at = uids.ptr[i].first; /* may come to lie behind the last UID there is */
        for (uint32_t r = find_uid(map, uids.ptr[i].first);
             r < map->count && overlap(&map->runs[r], uids.ptr[i], &part); r++) {
            if (present)
                ret_part[count++] = part;
            else if (part.first > at)
                ret_part[count++] = (struct sp_uid_range){(uint32_t)at, part.first - 1};
            at = (uint64_t)part.last + 1;
        }
        if (!present && at <= uids.ptr[i].last)
            ret_part[count++] = (struct sp_uid_range){(uint32_t)at, uids.ptr[i].last};
    }
    return count;
}

uint32_t sp_imap_uidmap_count(const struct sp_imap_uidmap *map, struct sp_uid_ranges uids)
{
    uint32_t count = 0;
    struct sp_uid_range part;
    for (uint32_t i = 0; i < uids.count; i++)
        for (uint32_t r = find_uid(map, uids.ptr[i].first);
             r < map->count && overlap(&map->runs[r], uids.ptr[i], &part); r++)
            count += part.last - part.first + 1;
    return count;
}
