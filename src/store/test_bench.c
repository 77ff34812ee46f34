#include "store/test_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

char bench_index_path[64];

static uint64_t bench_wall_ns(void *context)
{
    return ((const struct bench *)context)->wall_ns;
}

static uint64_t bench_ms(void *context)
{
    return ((const struct bench *)context)->ms;
}

bool bench_compact(struct bench *b)
{
    struct sp_volume_status status;
    sp_volume_compact_now(b->volume);
    do {
        sp_volume_run_once(b->volume);
        sp_volume_status(b->volume, &status);
    } while (status.compact_running && (!status.deferring || status.short_of_space) &&
             !sp_sim_crashed(b->world));
    while (sp_volume_run_once(b->volume)) /* what is to be said of it */
        continue;
    return !status.compact_running;
}

enum sp_status bench_open(struct bench *b, uint32_t absent, bool accept, struct sp_error *error)
{
    struct sp_volume_config config;
    sim_config(b->world, &b->id, bench_index_path, &config);
    for (uint32_t i = 0; i < 3; i++) {
        config.units[i].parity = b->parity[i];
        if (!(absent & 1U << i))
            continue;
        if (config.units[i].unit)
            config.units[i].unit->ops->close(config.units[i].unit);
        config.units[i].unit = NULL;
    }
    config.units[2].spare = !b->witness;
    config.units[2].witness = b->witness;
    config.degraded_accept = accept;
    config.reserve_bytes = b->reserve_bytes;
    config.accept_loss = b->accept_loss;
    if (b->segment_bytes)
        config.segment_bytes = b->segment_bytes;
    config.scrub_path = b->scrub_path;
    config.scrub_max_age_s = b->scrub_max_age_s;
    config.hold_ms = b->hold_ms;
    config.index_rebuild = b->rebuild;
    if (b->clocked) {
        config.wall_ns = bench_wall_ns;
        config.running_ms = bench_ms;
        config.clock_context = b;
    }
    b->volume = NULL;
    return sp_volume_open(&config, &b->volume, error);
}

void bench_stop(struct bench *b)
{
    sp_volume_close(b->volume);
    b->volume = NULL;
    sp_sim_restart(b->world);
}

enum sp_status bench_run(struct bench *b, struct step step)
{
    struct step_context context = {&b->model, &step};
    struct sp_error error;
    enum sp_status status = sp_volume_commit(b->volume, step_plan, &context, &error);
    if (status == SP_OK)
        step_done(&b->model, &step);
    return status;
}

enum sp_status bench_deliver(struct bench *b)
{
    b->seed++;
    return bench_run(b, (struct step){.type = STEP_DELIVER,
                                      .mailbox = b->seed % MODEL_MAILBOXES,
                                      .seed = b->seed,
                                      .body_bytes = b->body_bytes});
}

struct sp_volume_status bench_status(struct bench *b)
{
    struct sp_volume_status status;
    sp_volume_status(b->volume, &status);
    return status;
}

void bench_tend_all(struct bench *b)
{
    for (int i = 0; i < 100000 && sp_volume_run_once(b->volume); i++)
        continue;
    sp_assert(!sp_volume_run_once(b->volume));
}

void bench_rot(struct bench *b, uint32_t disk, uint64_t segment, uint32_t block)
{
    sp_assert(sp_sim_rot(b->world, disk, segment, 0, block));
}

static struct bench *begin(uint64_t segment_bytes, uint32_t messages, bool witness)
{
    struct bench *b = calloc(1, sizeof *b);
    struct sp_error error;
    struct sp_uuid unit;
    b->world = sp_sim_world_new(1);
    b->id = (struct sp_uuid){{7}};
    b->model.account = (struct sp_uuid){{9}};
    b->body_bytes = 5000;
    b->segment_bytes = segment_bytes;
    b->witness = witness;
    assert_int_equal(sp_index_destroy(bench_index_path, &error), SP_OK);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(sp_sim_unit_init(b->world, i, &b->id, &unit), SP_OK);
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    assert_int_equal(bench_run(b, (struct step){.type = STEP_ACCOUNT}), SP_OK);
    for (uint32_t i = 0; i < messages; i++)
        assert_int_equal(bench_deliver(b), SP_OK);
    return b;
}

struct bench *bench_begin(uint64_t segment_bytes, uint32_t messages)
{
    return begin(segment_bytes, messages, false);
}

struct bench *bench_begin_with_witness(uint64_t segment_bytes, uint32_t messages)
{
    return begin(segment_bytes, messages, true);
}

void bench_end(struct bench *b)
{
    if (b->volume)
        model_check(b->volume, &b->model, NULL, 0);
    sp_volume_close(b->volume);
    sp_sim_world_free(b->world);
    free(b);
}

enum sp_status bench_open_disk(void *context, const char *name, struct sp_unit **ret_unit,
                               struct sp_error *error)
{
    struct bench *b = context;
    return sp_sim_unit_open(b->world, (uint32_t)(name[0] - 'a'), name, ret_unit, error);
}

enum sp_unit_state bench_state(struct bench *b, uint32_t disk)
{
    struct sp_volume_status status;
    sp_volume_status(b->volume, &status);
    return status.units[disk].state;
}

int bench_main(int (*tests)(void))
{
    struct sp_error error;
    char memory[] = "/dev/shm/sternpost-store-XXXXXX", disk[] = "/tmp/sternpost-store-XXXXXX";
    const char *path = mkdtemp(memory); /* where syncs are fast, if there is room */
    if (!path && !(path = mkdtemp(disk)))
        return 1;
    snprintf(bench_index_path, sizeof bench_index_path, "%s", path);
    int failed = tests();
    if (sp_index_destroy(bench_index_path, &error) != SP_OK || rmdir(bench_index_path) != 0)
        return 1;
    return failed;
}
