#include "base/histogram.h"

#include <string.h>

#define WINDOW_MS 60000U

/* Bucket 0 holds 0 and 1; then (2^p, 2^(p+1)] is cut in four. So a power of two is the last value
 * of its bucket, and what is counted up to it is exact. */
static uint32_t bucket_of(uint64_t value)
{
    if (value <= 1)
        return 0;
    uint64_t below = value - 1; /* 2^p <= below < 2^(p+1) */
    uint32_t power = 63U - (uint32_t)__builtin_clzll(below);
    uint32_t quarter =
        (uint32_t)(power >= 2 ? below >> (power - 2) & 3U : below << (2 - power) & 3U);
    uint32_t bucket = 1 + power * 4 + quarter;
    return bucket < SP_HISTOGRAM_BUCKETS ? bucket : SP_HISTOGRAM_BUCKETS - 1;
}

/* The greatest value of a bucket. */
static uint64_t bucket_end(uint32_t bucket)
{
    if (bucket == 0)
        return 1;
    uint32_t power = (bucket - 1) / 4, quarter = (bucket - 1) % 4;
    uint64_t base = 1ULL << power;
    return base + (base * (quarter + 1) + 3) / 4;
}

static void add(_Atomic uint64_t *to, uint64_t more)
{
    atomic_fetch_add_explicit(to, more, memory_order_relaxed);
}

static struct sp_histogram_window *window_now(struct sp_histogram *h, uint64_t now_ms)
{
    uint32_t current = atomic_load(&h->current) & 1U;
    struct sp_histogram_window *w = &h->windows[current];
    uint64_t begun = atomic_load(&w->begun_ms);
    if (begun && now_ms - begun < WINDOW_MS)
        return w;
    if (begun) {
        current ^= 1U;
        w = &h->windows[current];
    }
    for (uint32_t i = 0; i < SP_HISTOGRAM_BUCKETS; i++)
        atomic_store_explicit(&w->counts[i], 0, memory_order_relaxed);
    atomic_store(&w->max, 0);
    atomic_store(&w->begun_ms, now_ms ? now_ms : 1);
    atomic_store(&h->current, current);
    return w;
}

void sp_histogram_record(struct sp_histogram *h, uint64_t value, uint64_t now_ms)
{
    uint32_t bucket = bucket_of(value);
    struct sp_histogram_window *w = window_now(h, now_ms);
    add(&h->counts[bucket], 1);
    add(&h->sum, value);
    atomic_fetch_add_explicit(&w->counts[bucket], 1, memory_order_relaxed);
    if (value > atomic_load_explicit(&w->max, memory_order_relaxed))
        atomic_store_explicit(&w->max, value, memory_order_relaxed);
}

static uint64_t quantile(const uint64_t *counts, uint64_t count, uint64_t percent)
{
    uint64_t wanted = (count * percent + 99) / 100, seen = 0;
    for (uint32_t i = 0; i < SP_HISTOGRAM_BUCKETS; i++) {
        seen += counts[i];
        if (seen >= wanted)
            return bucket_end(i);
    }
    return 0;
}

struct sp_recent sp_histogram_recent(struct sp_histogram *h, uint64_t now_ms)
{
    uint64_t counts[SP_HISTOGRAM_BUCKETS] = {0};
    struct sp_recent recent = {0};
    for (uint32_t k = 0; k < 2; k++) {
        struct sp_histogram_window *w = &h->windows[k];
        uint64_t begun = atomic_load(&w->begun_ms);
        if (!begun || now_ms - begun >= 2 * WINDOW_MS)
            continue;
        for (uint32_t i = 0; i < SP_HISTOGRAM_BUCKETS; i++) {
            uint32_t n = atomic_load_explicit(&w->counts[i], memory_order_relaxed);
            counts[i] += n;
            recent.count += n;
        }
        uint64_t max = atomic_load(&w->max);
        recent.max = max > recent.max ? max : recent.max;
    }
    if (recent.count == 0)
        return (struct sp_recent){0};
    recent.p50 = quantile(counts, recent.count, 50);
    recent.p99 = quantile(counts, recent.count, 99);
    /* A bucket's end may lie beyond what was ever seen. */
    recent.p50 = recent.p50 < recent.max ? recent.p50 : recent.max;
    recent.p99 = recent.p99 < recent.max ? recent.p99 : recent.max;
    return recent;
}

void sp_histogram_totals(struct sp_histogram *h, struct sp_totals *ret_totals)
{
    struct sp_totals totals = {.sum = atomic_load(&h->sum)};
    uint32_t bucket = 0;
    for (uint32_t power = 0; power < SP_HISTOGRAM_POWERS; power++) {
        /* Up to 2^power: the buckets before 1 + 4 * power. */
        for (; bucket < SP_HISTOGRAM_BUCKETS - 1 && bucket < 1 + 4 * power; bucket++)
            totals.count += atomic_load_explicit(&h->counts[bucket], memory_order_relaxed);
        totals.at_most[power] = totals.count;
    }
    for (; bucket < SP_HISTOGRAM_BUCKETS; bucket++)
        totals.count += atomic_load_explicit(&h->counts[bucket], memory_order_relaxed);
    *ret_totals = totals;
}
