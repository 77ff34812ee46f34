/* Quantiles against the sorted values, windows that end, totals that are exact at powers of two. */
#include "base/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define VALUES 20000U

static struct sp_histogram h;

static int ascending(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* Never too small, and too large by a fifth at most. */
static void near(uint64_t said, uint64_t is)
{
    assert_true(said >= is);
    assert_true(said <= is + is / 4 + 1);
}

static void test_quantiles(void **state)
{
    (void)state;
    static uint64_t values[VALUES];
    uint64_t random = 1, sum = 0;
    memset(&h, 0, sizeof h);
    for (uint32_t i = 0; i < VALUES; i++) {
        random = random * 6364136223846793005U + 1442695040888963407U;
        values[i] = (random >> 40) >> (random >> 33 & 15U);
        sum += values[i];
        sp_histogram_record(&h, values[i], 5000);
    }
    qsort(values, VALUES, sizeof values[0], ascending);
    struct sp_recent recent = sp_histogram_recent(&h, 6000);
    assert_int_equal(recent.count, VALUES);
    assert_int_equal(recent.max, values[VALUES - 1]);
    near(recent.p50, values[VALUES / 2 - 1]);
    near(recent.p99, values[VALUES * 99 / 100 - 1]);
    struct sp_totals totals;
    sp_histogram_totals(&h, &totals);
    assert_int_equal(totals.count, VALUES);
    assert_int_equal(totals.sum, sum);
    for (uint32_t power = 0, i = 0; power < 31; power++) {
        while (i < VALUES && values[i] <= 1ULL << power)
            i++;
        assert_int_equal(totals.at_most[power], i);
    }
}

static void test_windows(void **state)
{
    (void)state;
    memset(&h, 0, sizeof h);
    assert_int_equal(sp_histogram_recent(&h, 1000).count, 0);
    sp_histogram_record(&h, 1000000, 1000);
    sp_histogram_record(&h, 10, 65000);
    assert_int_equal(sp_histogram_recent(&h, 65000).count, 2);
    assert_int_equal(sp_histogram_recent(&h, 65000).max, 1000000);
    /* The first minute is forgotten, though nothing came since. */
    assert_int_equal(sp_histogram_recent(&h, 130000).count, 1);
    assert_int_equal(sp_histogram_recent(&h, 130000).max, 10);
    assert_int_equal(sp_histogram_recent(&h, 500000).count, 0);
    sp_histogram_record(&h, 20, 500000);
    assert_int_equal(sp_histogram_recent(&h, 500000).max, 20);
    assert_int_equal(sp_histogram_recent(&h, 500000).count, 1);
}

static void test_extremes(void **state)
{
    (void)state;
    static const uint64_t values[] = {0, 1, 2, 3, 4, 5, 1ULL << 31, 1ULL << 32, UINT64_MAX};
    struct sp_totals totals;
    memset(&h, 0, sizeof h);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        sp_histogram_record(&h, values[i], 7);
    sp_histogram_totals(&h, &totals);
    assert_int_equal(totals.count, sizeof values / sizeof values[0]);
    assert_int_equal(totals.at_most[0], 2);
    assert_int_equal(totals.at_most[1], 3);
    assert_int_equal(totals.at_most[2], 5);
    assert_int_equal(totals.at_most[3], 6);
    assert_int_equal(totals.at_most[30], 6);
    assert_true(sp_histogram_recent(&h, 7).max == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}
