/* The store on a simulated disk that crashes at every operation of a scripted workload, under each
 * survivor policy, with the index kept (the process died) and lost (the machine did): what was
 * acknowledged is there, byte for byte; what was not is there wholly or not at all; no UID is used
 * twice; recovering twice changes nothing.
 *
 *   test_crash [--from N] [--step N]   starts at operation N, takes every N-th
 */
#include "base/log.h"
#include "store/test_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define STEPS_MAX 64U

static uint32_t rnd_state;
static uint32_t rnd(uint32_t below)
{
    rnd_state = rnd_state * 1664525U + 1013904223U;
    return (rnd_state >> 8) % below;
}

/* The script: groups of steps that are submitted together, and so make one batch. */
struct group {
    struct step steps[4];
    uint32_t count;
};

static void make_script(struct group *groups, uint32_t count)
{
    uint32_t next_uid[MODEL_MAILBOXES] = {1, 1, 1};
    rnd_state = 42;
    groups[0] = (struct group){.steps = {{.type = STEP_ACCOUNT}}, .count = 1};
    for (uint32_t g = 1; g < count; g++) {
        groups[g].count = 1 + rnd(3);
        for (uint32_t i = 0; i < groups[g].count; i++) {
            struct step *s = &groups[g].steps[i];
            s->mailbox = rnd(MODEL_MAILBOXES);
            s->type = STEP_DELIVER;
            if (g > 4 && next_uid[s->mailbox] > 1 && rnd(4) == 0) {
                s->type = rnd(3) ? STEP_FLAGS : STEP_EXPUNGE;
                s->uid = 1 + rnd(next_uid[s->mailbox] - 1);
                s->flags = rnd(32);
            } else {
                s->seed = g * 16 + i;
                s->body_bytes = rnd(10) == 0 ? 30000 + rnd(20000) : 1 + rnd(9000);
                next_uid[s->mailbox]++;
            }
        }
    }
}

/* Runs the script until it ends or is not acknowledged any more; steps in doubt are left in
 * *ret_doubt. */
static uint32_t run_script(struct sp_volume *volume, struct model *model, struct group *groups,
                           uint32_t count, uint32_t from, struct group *ret_doubt)
{
    ret_doubt->count = 0;
    for (uint32_t g = from; g < count; g++) {
        struct waiting waiting[4];
        memset(waiting, 0, sizeof waiting);
        for (uint32_t i = 0; i < groups[g].count; i++) {
            waiting[i].commit.plan = waiting_plan;
            waiting[i].commit.done = waiting_done;
            waiting[i].context = (struct step_context){model, &groups[g].steps[i]};
            sp_volume_submit(volume, &waiting[i].commit);
        }
        while (!waiting[groups[g].count - 1].answered)
            sp_volume_run_once(volume);
        for (uint32_t i = 0; i < groups[g].count; i++) {
            if (waiting[i].status == SP_OK)
                step_done(model, &groups[g].steps[i]);
            else
                ret_doubt->steps[ret_doubt->count++] = groups[g].steps[i];
        }
        if (ret_doubt->count)
            return g;
    }
    return count;
}

static const char *index_path;

static enum sp_status open_volume(struct sp_sim_world *world, const struct sp_uuid *id,
                                  bool rebuild, struct sp_volume **ret, struct sp_error *error)
{
    struct sp_volume_config config;
    sim_config(world, id, index_path, &config);
    config.index_rebuild = rebuild;
    return sp_volume_open(&config, ret, error);
}

#define GROUPS 48U

/* overlap: a crash may find the same batch half written on several units. */
static uint64_t one_run(uint64_t crash_at, enum sp_sim_survivors survivors, bool rebuild,
                        bool overlap)
{
    struct sp_sim_world *world = sp_sim_world_new(crash_at * 4 + survivors);
    sp_sim_overlap_writes(world, overlap);
    struct sp_uuid id = {{1, 2, 3}}, unit;
    static struct model model;
    static struct group groups[GROUPS];
    struct group doubt = {.count = 0};
    struct sp_volume *volume = NULL;
    struct sp_error error = {0};
    model = (struct model){.account = {{9, 9, 9}}};
    memset(groups, 0, sizeof groups);
    make_script(groups, GROUPS);
    sp_assert(sp_index_destroy(index_path, NULL) == SP_OK);
    for (uint32_t disk = 0; disk < 3; disk++)
        sp_assert(sp_sim_unit_init(world, disk, &id, &unit) == SP_OK);
    uint64_t base = sp_sim_operations(world);
    if (crash_at)
        sp_sim_crash_at(world, base + crash_at, survivors);

    uint32_t at = 0;
    if (open_volume(world, &id, false, &volume, &error) == SP_OK) {
        at = run_script(volume, &model, groups, GROUPS, 0, &doubt);
        sp_volume_close(volume);
    } else {
        sp_assert(sp_sim_crashed(world));
    }
    uint64_t operations = sp_sim_operations(world) - base;
    if (crash_at) {
        /* After the crash: recover, check; go on with the script; recover again, check again. */
        sp_sim_restart(world);
        enum sp_status status = open_volume(world, &id, rebuild, &volume, &error);
        if (status != SP_OK)
            sp_error_print(&error);
        sp_assert(status == SP_OK);
        model_check(volume, &model, doubt.steps, doubt.count);
        if (at < GROUPS && doubt.count == 0 && !model.account_made)
            at = 0;
        else
            at++;
        if (!model.account_made) {
            groups[0] = (struct group){.steps = {{.type = STEP_ACCOUNT}}, .count = 1};
            at = 0;
        }
        uint32_t to = at + 4 < GROUPS ? at + 4 : GROUPS;
        uint32_t reached = run_script(volume, &model, groups, to, at, &doubt);
        sp_assert(reached >= to);
        model_check(volume, &model, NULL, 0);
        sp_volume_close(volume);
        sp_sim_restart(world);
        status = open_volume(world, &id, !rebuild, &volume, &error);
        if (status != SP_OK)
            sp_error_print(&error);
        sp_assert(status == SP_OK);
        model_check(volume, &model, NULL, 0);
        sp_volume_close(volume);
    } else {
        sp_assert(at == GROUPS);
    }
    sp_sim_world_free(world);
    return operations;
}

int main(int argc, char **argv)
{
    uint64_t from = 1, step = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--from") == 0)
            from = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--step") == 0)
            step = strtoull(argv[i + 1], NULL, 10);
    }
    char memory[] = "/dev/shm/sternpost-crash-XXXXXX", disk[] = "/tmp/sternpost-crash-XXXXXX";
    index_path = mkdtemp(memory); /* where syncs are fast, if there is room */
    if (!index_path)
        index_path = mkdtemp(disk);
    sp_assert(index_path);
    sp_log_set_level(SP_LOG_ERROR + 1);
    uint64_t operations = one_run(0, SP_SIM_ALL, false, false), runs = 0;
    printf("%llu operations\n", (unsigned long long)operations);
    for (uint64_t at = from; at <= operations; at += step) {
        for (int kind = 0; kind < 2 * (SP_SIM_TORN + 1); kind++) {
            int policy = kind / 2;
            bool overlap = kind % 2;
            if (step > 1 && (at / step + (uint64_t)overlap) % 2)
                continue; /* a quick run takes turns */
            if (getenv("SP_VERBOSE"))
                fprintf(stderr, "crash at %llu, survivors %d, overlap %d\n", (unsigned long long)at,
                        policy, overlap);
            one_run(at, (enum sp_sim_survivors)policy, (at + (uint64_t)policy) % 2 == 0, overlap);
            runs++;
        }
    }
    printf("%llu crashes survived\n", (unsigned long long)runs);
    sp_assert(sp_index_destroy(index_path, NULL) == SP_OK);
    rmdir(index_path);
    return 0;
}
