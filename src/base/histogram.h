/* Histograms: how long things take, how large they are; cheap enough for every commit.
 *
 * Model. A value falls into one of 128 buckets, four for each power of two: so a quantile is right
 * within a fifth. Two views of the same values: all since the beginning (for Prometheus), and those
 * of the last minute or two (for people), kept as two windows of a minute of which the older is
 * dropped.
 *
 * Threads. One thread records (or several that take turns under a lock of their own); any thread
 * reads, without a lock: what it sees may be some values apart. All zeros is an empty histogram.
 */
#ifndef SP_BASE_HISTOGRAM_H
#define SP_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SP_HISTOGRAM_BUCKETS 128U

struct sp_histogram_window {
    _Atomic uint64_t begun_ms; /* monotonic; 0: never */
    _Atomic uint64_t max;
    _Atomic uint32_t counts[SP_HISTOGRAM_BUCKETS];
};
struct sp_histogram {
    _Atomic uint64_t counts[SP_HISTOGRAM_BUCKETS];
    _Atomic uint64_t sum;
    struct sp_histogram_window windows[2];
    _Atomic uint32_t current; /* the window that is being filled */
};

void sp_histogram_record(struct sp_histogram *h, uint64_t value, uint64_t now_ms);

/* Of the last minute or two; all 0 when nothing was recorded. */
struct sp_recent {
    uint64_t count, p50, p99, max;
};
struct sp_recent sp_histogram_recent(struct sp_histogram *h, uint64_t now_ms);

/* All since the beginning: how many values are at most 2^power (power < 32), and how many there are
 * (sum of all in *ret_sum). */
#define SP_HISTOGRAM_POWERS 32U
struct sp_totals {
    uint64_t at_most[SP_HISTOGRAM_POWERS];
    uint64_t count, sum;
};
void sp_histogram_totals(struct sp_histogram *h, struct sp_totals *ret_totals);

#endif
