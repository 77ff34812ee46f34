/* What sp_volume_status says of each unit is true: what it holds, lacks, wrote, and since when. */
#include "base/time.h"
#include "store/test_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

static struct sp_error error;

static void test_units(void **state)
{
    (void)state;
    uint64_t before = sp_wall_ns();
    struct bench *b = bench_begin(0, 60);
    struct sp_volume_status s = bench_status(b);
    assert_int_equal(s.commits, 61);
    assert_true(s.index_bytes > 4096 && s.index_map_bytes >= s.index_bytes);
    for (int i = 0; i < 2; i++) {
        assert_true(s.units[i].lsn_first == 1 && s.units[i].lsn_last == s.end.lsn);
        assert_true(s.units[i].writes >= s.batches && s.units[i].bytes_written >= s.bytes);
        assert_true(s.units[i].write_us.count == s.units[i].writes && s.units[i].write_us.p99);
    }
    assert_true(s.units[2].lsn_last == 0 && s.units[2].writes == 0);
    uint64_t end = s.end.lsn, opened = s.units[0].since_ns, other = s.units[1].since_ns;
    assert_true(opened >= before && opened <= sp_wall_ns());

    sp_sim_set_fault(b->world, 0, SP_SIM_FAIL_WRITES);
    assert_int_equal(bench_deliver(b), SP_OK);
    s = bench_status(b);
    assert_true(s.ejections == 1 && s.recruits == 1);
    assert_true(s.units[0].state == SP_UNIT_EJECTED && s.units[0].since_ns > opened);
    assert_true(s.units[0].lsn_first == 1 && s.units[0].lsn_last == end);
    assert_true(s.units[2].lsn_first == end + 1 && s.units[2].lsn_last == s.end.lsn);
    assert_true(s.units[2].lacks_segments > 3 && s.units[2].lacks_bytes > 3 * SP_BLOCK_BYTES);
    uint64_t lacks = s.units[2].lacks_bytes;
    bench_tend_all(b);
    s = bench_status(b);
    assert_true(s.units[2].lsn_first == 1 && s.units[2].lacks_bytes == 0);
    assert_int_equal(s.units[2].counts.resilvered_bytes, lacks);
    assert_int_equal(s.resilvered_bytes, lacks);
    assert_int_equal(s.units[1].since_ns, other);
    bench_end(b);
}

static void test_distributions(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 20);
    struct sp_volume_status s = bench_status(b);
    struct sp_totals totals;
    assert_true(sp_volume_totals(b->volume, SP_OF_COMMIT_US, 0, &totals));
    assert_int_equal(totals.count, s.commits);
    assert_true(sp_volume_totals(b->volume, SP_OF_BATCH_BYTES, 0, &totals));
    assert_int_equal(totals.count, s.batches);
    assert_true(totals.sum > 20 * 5000 && totals.at_most[12] < totals.count);
    assert_true(sp_volume_totals(b->volume, SP_OF_BATCH_COMMITS, 0, &totals));
    assert_int_equal(totals.sum, s.commits);
    assert_true(sp_volume_totals(b->volume, SP_OF_UNIT_WRITE_US, 1, &totals));
    assert_int_equal(totals.count, s.units[1].writes);
    assert_false(sp_volume_totals(b->volume, SP_OF_UNIT_WRITE_US, 3, &totals));
    assert_true(s.commit_us.count == s.commits && s.commit_us.max >= s.commit_us.p50);
    bench_end(b);
}

static void test_votes(void **state)
{
    (void)state;
    struct bench *b = bench_begin(0, 3);
    uint64_t promised = 0;
    uint32_t accepted = 0;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(sp_volume_unit_vote(b->volume, i, &promised, &accepted, &error), SP_OK);
        assert_int_equal(accepted, bench_status(b).epoch_counter);
        assert_int_equal(promised, accepted);
    }
    assert_int_equal(sp_volume_unit_vote(b->volume, 3, &promised, &accepted, &error), SP_NOT_FOUND);
    bench_stop(b);
    assert_int_equal(bench_open(b, 1U << 2, false, &error), SP_OK);
    assert_int_equal(sp_volume_unit_vote(b->volume, 2, &promised, &accepted, &error), SP_NOT_FOUND);
    bench_end(b);
}

static int tests(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_distributions),
        cmocka_unit_test(test_votes),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}

int main(void)
{
    return bench_main(tests);
}
