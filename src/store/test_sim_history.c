#include "base/time.h"
#include "store/test_sim.h"

const struct sim_options *sim_options;
bool sim_verbose;

#define HOLD_MS (14ULL * 24U * 3600000U)

/* ---- Randomness: splitmix64 ---- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

uint32_t sim_random(struct sim *s, uint32_t below)
{
    return (uint32_t)(mix(s->random += 0x9e3779b97f4a7c15U) >> 32) % below;
}

bool sim_one_in(struct sim *s, uint32_t n)
{
    return sim_random(s, n) == 0;
}

/* ---- The table ---- */

static const struct sim_step steps[] = {
    {"mail", 60, sim_step_mail},
    {"watch", 8, sim_step_watch},
    {"catalogues", 3, sim_step_catalogues},
    {"tails", 3, sim_step_tails},
    {"take back", 12, sim_step_take_back},
    {"scrub", 2, sim_step_scrub},
    {"tend", 6, sim_step_tend},
    {"compare", 1, sim_step_compare},
    {"heal", 16, sim_step_heal},
    {"fail writes", 2, sim_step_fail_writes},
    {"fail all", 2, sim_step_fail_all},
    {"gone", 2, sim_step_gone},
    {"full", 3, sim_step_full},
    {"two sick", 3, sim_step_two_sick},
    {"all full", 1, sim_step_all_full},
    {"stall", 2, sim_step_stall},
    {"lie", 2, sim_step_lie},
    {"misdirect", 2, sim_step_misdirect},
    {"clock", 2, sim_step_clock},
    {"index commit", 1, sim_step_index_commit},
    {"index put", 1, sim_step_index_put},
    {"crash", 5, sim_step_crash},
    {"restart", 6, sim_step_restart},
};

const struct sim_step *sim_choose(struct sim *s, const struct sim_step *table, size_t count)
{
    uint32_t total = 0, at;
    for (size_t i = 0; i < count; i++)
        total += table[i].weight;
    at = sim_random(s, total);
    while (at >= table->weight)
        at -= (table++)->weight;
    return table;
}

/* ---- Counts ---- */

const char *sim_count_text(enum sim_count count)
{
#define COUNT_TEXT(name, text) [SIM_##name] = (text),
    static const char *const texts[] = {SIM_COUNTS(COUNT_TEXT, COUNT_TEXT)};
    return texts[count];
}

bool sim_count_is_fault(enum sim_count count)
{
#define COUNT_IS(name, text)     [SIM_##name] = false,
#define COUNT_IS_NOT(name, text) [SIM_##name] = true,
    static const bool faults[] = {SIM_COUNTS(COUNT_IS, COUNT_IS_NOT)};
    return faults[count];
}

static void take_effects(struct sim *s)
{
    static const struct {
        enum sim_count count;
        enum sp_sim_effect effect;
    } effects[] = {
        {SIM_FAILED_WRITES, SP_SIM_DID_FAIL_WRITES},
        {SIM_FAILED_ALL, SP_SIM_DID_FAIL_ALL},
        {SIM_GONE, SP_SIM_DID_GONE},
        {SIM_FULL, SP_SIM_DID_FULL},
        {SIM_STALLED, SP_SIM_DID_STALL},
        {SIM_DROPPED, SP_SIM_DID_DROP},
        {SIM_TORN, SP_SIM_DID_TEAR},
        {SIM_LIED, SP_SIM_DID_LIE},
        {SIM_MISDIRECTED, SP_SIM_DID_MISDIRECT},
    };
    for (size_t i = 0; i < sizeof effects / sizeof *effects; i++)
        s->counts[effects[i].count] = sp_sim_effect(s->world, effects[i].effect);
}

/* ---- One history ---- */

static enum sim_kind choose_kind(struct sim *s)
{
    uint32_t roll = sim_random(s, 4);
    if (sim_options->kind != SIM_ANY)
        return sim_options->kind;
    return roll == 0 ? SIM_STORM : roll == 1 ? SIM_SIEGE : SIM_USUAL;
}

static void begin(struct sim *s, uint64_t seed)
{
    struct sp_uuid unit;
    *s = (struct sim){.seed = seed,
                      .random = mix(seed),
                      .suspect = SIM_NOBODY,
                      .beside = SIM_NOBODY,
                      .disk_next = SIM_UNITS_MAX};
    sp_time_simulate(1000000, 1700000000ULL * 1000000000U);
    s->world = sp_sim_world_new(seed);
    s->id = (struct sp_uuid){{1, 2, 3}};
    s->model.account = (struct sp_uuid){{9, 9, 9}};
    s->kind = choose_kind(s);
    s->units_count = s->kind == SIM_SIEGE ? 3 : 3 + sim_random(s, 3);
    s->replicas = s->units_count > 3 && sim_one_in(s, 3) ? 3 : 2;
    s->witnesses = sim_random(s, s->units_count - s->replicas + 1);
    s->min_copies = sim_one_in(s, 5) ? 1 : 2;
    s->degraded_accept = sim_one_in(s, 5) || s->kind == SIM_SIEGE;
    s->harmless = sim_one_in(s, 2) || s->kind != SIM_USUAL;
    s->segment_bytes = (32U << 10) << sim_random(s, 4);
    s->compacts =
        seed % 2 == 0; /* by the seed, but drawn from nothing: odd ones stay as they were */
    s->hold_ms = seed % 4 ? 0 : HOLD_MS;
    SIM_SAY("seed %llu: %u units, %u replicas, %u witnesses, min_copies %u%s, segments of %llu%s\n",
            (unsigned long long)seed, s->units_count, s->replicas, s->witnesses, s->min_copies,
            s->degraded_accept ? " (or fewer)" : "", (unsigned long long)s->segment_bytes,
            s->harmless ? ", no damage" : "");
    sp_assert(sp_index_destroy(sim_options->index_path, NULL) == SP_OK);
    for (uint32_t i = 0; i < s->units_count; i++) {
        s->disks[i] = s->order[i] = i;
        sp_assert(sp_sim_unit_init(s->world, i, &s->id, &unit) == SP_OK);
    }
    sp_assert(sim_try_start(s, 0, false));
    struct sim_group group = {.steps = {{.type = STEP_ACCOUNT}}, .count = 1};
    sp_assert(sim_run_group(s, &group) == SP_OK);
    sim_hold(s);
}

static void one_step(struct sim *s, uint32_t number)
{
    s->random = mix(s->seed ^ mix(number));
    static const struct sim_step restart = {"restart", 1, sim_step_restart};
    static const struct sim_step two_sick = {"two sick", 1, sim_step_two_sick};
    static const struct sim_step compact = {"compact", 1, sim_step_compact};
    static const struct sim_step remove = {"delete replaced", 1, sim_step_delete};
    uint32_t roll = sim_random(s, 6);
    const struct sim_step *step = sim_choose(s, steps, sizeof steps / sizeof *steps);
    if ((s->kind == SIM_STORM && roll < 3) || (s->kind == SIM_SIEGE && roll == 0))
        step = &restart;
    if (s->kind == SIM_SIEGE && roll == 1)
        step = &two_sick;
    if (s->compacts && mix(s->seed ^ mix(number + SIM_STEPS_MAX)) % 6 == 0)
        step = number % 3 ? &compact : &remove;
    SIM_SAY(" %u %s\n", number, step->name);
    s->counts[SIM_STEPS]++;
    step->run(s);
    if (sp_sim_crashed(s->world)) {
        SIM_SAY("  crash\n");
        sim_check_copies(s);
        sim_stop(s);
        sim_start(s);
        return;
    }
    sim_hold(s);
    if (s->volume->index_failed && sim_one_in(s, 2)) /* as its error says: restart */
        sim_step_restart(s);
}

static void last_look(struct sim *s)
{
    s->random = mix(s->seed ^ mix(UINT32_MAX));
    SIM_SAY(" the end\n");
    sim_heal(s);
    sim_check_copies(s);
    sim_stop(s);
    s->beside = SIM_NOBODY;
    sp_assert(sp_index_destroy(sim_options->index_path, NULL) == SP_OK);
    sp_assert(sim_try_start(s, 0, false));
    for (uint32_t i = 0; i < s->units_count; i++)
        sim_take_back(s, i);
    sim_hold(s);
    sp_assert(s->settled);
    sim_read_log(s);
    sim_check_held(s);
    sim_compare_index(s);
    sim_stop(s);
    if (sim_options->at_end)
        sim_options->at_end(s, sim_options->context);
}

void sim_run(uint64_t seed, uint64_t *counts, uint32_t *ret_steps)
{
    static struct sim s;
    begin(&s, seed);
    uint32_t count = 10 + sim_random(&s, SIM_STEPS_MAX - 10);
    *ret_steps = count;
    if (sim_options->steps && sim_options->steps < count)
        count = sim_options->steps;
    for (uint32_t i = 0; i < count; i++)
        if (!sim_options->skip[i])
            one_step(&s, i);
    last_look(&s);
    take_effects(&s);
    for (unsigned i = 0; i < SIM_COUNTS_END; i++)
        counts[i] += s.counts[i];
    sp_sim_world_free(s.world);
    for (uint32_t i = 0; i < s.shadows_count; i++)
        free(s.shadows[i].blocks);
    free(s.shadows);
    free(s.doubts);
}
