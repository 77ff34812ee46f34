#include "base/time.h"
#include "store/test_sim.h"

static const char *const names[SIM_UNITS_MAX] = {"a", "b", "c", "d", "e"};

uint32_t sim_unit_at(const struct sim *s, uint32_t place)
{
    uint32_t unit = 0;
    while (s->order[unit] != place)
        unit++;
    return unit;
}

struct sp_volume_member *sim_member(struct sim *s, uint32_t unit)
{
    return &s->volume->members[s->order[unit]];
}

enum sp_status sim_open_disk(void *context, const char *name, struct sp_unit **ret_unit,
                             struct sp_error *error)
{
    struct sim *s = context;
    uint32_t unit = sim_unit_at(s, (uint32_t)(name[0] - 'a'));
    return sp_sim_unit_open(s->world, s->disks[unit], name, ret_unit, error);
}

void sim_open_units(struct sim *s, uint32_t absent, struct sp_unit **ret_units)
{
    struct sp_error error;
    for (uint32_t i = 0; i < s->units_count; i++)
        if ((absent & 1U << i) || sp_sim_unit_open(s->world, s->disks[i], names[s->order[i]],
                                                   &ret_units[i], &error) != SP_OK)
            ret_units[i] = NULL;
}

void sim_close_units(struct sim *s, struct sp_unit **units)
{
    for (uint32_t i = 0; i < s->units_count; i++)
        if (units[i])
            units[i]->ops->close(units[i]);
}

/* ---- Stopping ---- */

void sim_crash_after(struct sim *s, uint32_t operations)
{
    enum sp_sim_survivors survivors =
        (enum sp_sim_survivors)sim_random(s, (uint32_t)SP_SIM_TORN + 1);
    sp_sim_overlap_writes(s->world, sim_one_in(s, 2));
    sp_sim_crash_at(s->world, sp_sim_operations(s->world) + operations, survivors);
}

/* The world after a crash, or with a new process in it. */
static void restart(struct sim *s, bool crashed)
{
    s->volume = NULL;
    sp_sim_restart(s->world);
    sp_sim_crash_at(s->world, 0, SP_SIM_NONE);
    s->lying = s->lying && !crashed;
    if (s->astray)
        sp_sim_misdirect(s->world, s->disks[s->suspect], 0, 0,
                         0); /* nowhere: it is as it should be */
    s->astray = 0;
    s->crashed = crashed;
    s->power_cut = s->power_cut || crashed;
}

static void count_stop(struct sim *s, bool crashed)
{
    struct sp_volume_status status;
    bool lacking = false;
    sp_volume_status(s->volume, &status);
    s->counts[SIM_EJECTED] += status.ejections;
    s->counts[SIM_BAD_SERVED] += status.blocks_bad;
    s->counts[SIM_MENDED] += status.blocks_mended;
    for (uint32_t i = 0; i < status.units_count; i++)
        lacking |= status.units[i].lacks_segments != 0;
    /* A unit that was resilvered while another did not answer may lack what only that one has. */
    if (status.blocks_unmendable)
        s->hurt = UINT32_MAX;
    s->counts[SIM_INDEX_COMMIT] += sim_index_commits_failed();
    s->counts[SIM_INDEX_PUT] += sim_index_puts_failed();
    s->counts[SIM_CRASHES] += crashed;
    s->counts[SIM_CRASHED_RESILVER] += crashed && lacking;
    s->counts[SIM_CRASHED_SCRUB] += crashed && status.scrub_running;
    s->counts[SIM_CRASHED_COMPACT] += crashed && status.compact_running;
    s->counts[SIM_COMPACTED] += status.compact_merged;
}

void sim_stop(struct sim *s)
{
    bool crashed = sp_sim_crashed(s->world);
    count_stop(s, crashed);
    sim_quiet(s);
    sim_fail_index_commit(0);
    sim_fail_index_put(0);
    sp_volume_close(s->volume);
    restart(s, crashed || sp_sim_crashed(s->world));
}

/* ---- Starting ---- */

static void configure(struct sim *s, uint32_t absent, struct sp_volume_config *ret)
{
    struct sp_unit *units[SIM_UNITS_MAX];
    *ret = (struct sp_volume_config){.name = "main",
                                     .id = s->id,
                                     .units_count = s->units_count,
                                     .min_copies = s->min_copies,
                                     .degraded_accept = s->degraded_accept,
                                     .segment_bytes = s->segment_bytes,
                                     .unit_timeout_ms = 100,
                                     .hold_ms = s->hold_ms,
                                     .index_path = sim_options->index_path,
                                     .index_map_bytes = 8U << 20};
    sim_open_units(s, absent, units);
    for (uint32_t i = 0; i < s->units_count; i++) {
        struct sp_volume_unit *unit = &ret->units[i];
        snprintf(unit->name, sizeof unit->name, "%s", names[i]);
        unit->unit = units[sim_unit_at(s, i)];
        unit->spare = i >= s->replicas && i < s->units_count - s->witnesses;
        if ((s->seed >> i) % 2) /* by the seed, but drawn from nothing: old seeds stay */
            unit->parity = (struct sp_parity_shape){(uint8_t)(3 + 2 * i), (uint8_t)(1 + i)};
        unit->witness = i >= s->units_count - s->witnesses;
    }
}

/* With healthy units only what was found at the start may be lacking. */
static void check_start(struct sim *s, uint32_t suspect)
{
    struct sp_volume_status status;
    uint32_t able = 0, missed = 0;
    sp_volume_status(s->volume, &status);
    sp_assert(status.ejections == 0);
    for (uint32_t i = 0; i < status.units_count; i++) {
        enum sp_unit_state state = status.units[i].state;
        uint32_t unit = sim_unit_at(s, i);
        sp_assert(state != SP_UNIT_STALE || (s->damaged & 1U << unit) || suspect == unit);
        able += state == SP_UNIT_REPLICA || state == SP_UNIT_SPARE;
        missed += state == SP_UNIT_EJECTED || state == SP_UNIT_STALE;
    }
    s->counts[SIM_RETURNED] += missed != 0;
    if (able >= (s->degraded_accept ? 1 : s->min_copies))
        sp_assert(!status.deferring);
}

/* A vote that was damaged may have been written anew since its unit was taken back. */
static void look_at_votes(struct sim *s)
{
    struct sp_unit *units[SIM_UNITS_MAX];
    sim_open_units(s, ~s->damaged, units);
    for (uint32_t i = 0; i < s->units_count; i++) {
        struct sp_vote vote;
        struct sp_error error;
        if (units[i] && sp_vote_read(units[i], &vote, &error) == SP_OK)
            s->damaged &= ~(1U << i);
    }
    sim_close_units(s, units);
}

/* A unit is attached beside a copy of itself, in the place of another: two such are not two units.
 */
static void start_beside(struct sim *s)
{
    struct sp_volume_config config;
    struct sp_error error = {0};
    uint32_t other = s->beside, unit = (other + 1) % s->units_count;
    s->beside = SIM_NOBODY;
    configure(s, 1U << other, &config);
    struct sp_volume_unit *place = &config.units[s->order[other]];
    if (config.units[s->order[unit]].unit &&
        sp_sim_clone(s->world, s->disks[unit], s->disk_next) == SP_OK) {
        sp_assert(sp_sim_unit_open(s->world, s->disk_next++, names[s->order[other]], &place->unit,
                                   &error) == SP_OK);
        enum sp_status status = sp_volume_open(&config, &s->volume, &error);
        SIM_SAY(" start with unit %u and its copy: %s %s\n", unit, sp_status_name(status),
                error.why);
        sp_assert(status == SP_INVALID);
        s->counts[SIM_BESIDE]++;
    } else {
        for (uint32_t i = 0; i < s->units_count; i++)
            if (config.units[i].unit)
                config.units[i].unit->ops->close(config.units[i].unit);
    }
    restart(s, false);
}

static void count_start(struct sim *s, bool crash, bool crashed)
{
    s->counts[SIM_STARTS]++;
    s->counts[SIM_CRASHED_START] += crash && crashed;
    s->counts[SIM_CRASHED_TWICE] += crash && crashed && s->crashed;
}

bool sim_try_start(struct sim *s, uint32_t absent, bool crash)
{
    struct sp_volume_config config;
    struct sp_error error = {0};
    uint32_t here, suspect = s->suspect;
    look_at_votes(s);
    if (s->suspect != SIM_NOBODY) {
        absent &= 1U << s->suspect;
        for (uint32_t i = 0; i < s->units_count; i++)
            if (i != s->suspect)
                sim_set_fault(s, i, SP_SIM_HEALTHY);
    }
    bool lacking = sim_lacks(s, absent, &here), healthy = true;
    for (uint32_t i = 0; i < s->units_count; i++)
        healthy &= s->faults[i] == SP_SIM_HEALTHY;
    /* Where blocks are damaged, the very end may look like a batch that was never completed. Where
     * none are, it may start or not, but loses nothing. */
    if (here > s->units_count / 2 && lacking && !s->harmless)
        return false;
    s->lacking = lacking;
    s->absent = absent;
    for (uint32_t i = 0; i < s->units_count; i++)
        if (s->faults[i] == SP_SIM_GONE || s->faults[i] == SP_SIM_FAIL_ALL)
            s->absent |= 1U << i;
    s->counts[SIM_LACKING] += lacking && here > s->units_count / 2;
    if (crash)
        sim_crash_after(s, 1 + sim_random(s, sim_one_in(s, 2) ? 16 : 60));
    configure(s, absent, &config);
    enum sp_status status = sp_volume_open(&config, &s->volume, &error);
    bool crashed = sp_sim_crashed(s->world);
    bool index_failed = sim_index_commits_failed() + sim_index_puts_failed() > 0;
    count_start(s, crash, crashed);
    s->settled = false;
    SIM_SAY(" start, absent %x: %s%s %s\n", absent, sp_status_name(status),
            crashed ? ", crashed" : "", status != SP_OK ? error.why : "");
    if (!crashed && crash)
        sp_sim_crash_at(s->world, 0, SP_SIM_NONE);
    if (index_failed)
        s->counts[SIM_INDEX_START]++;
    if (crashed || (status != SP_OK && index_failed)) {
        s->cut_off = true;
        if (status == SP_OK)
            sp_volume_close(s->volume);
        restart(s, crashed);
        return false;
    }
    if (status != SP_OK) {
        s->counts[SIM_REFUSALS]++;
        sp_assert(here <= s->units_count / 2 || lacking || (s->cut_off && s->absent));
        restart(s, false);
        return false;
    }
    sp_assert(here > s->units_count / 2);
    s->power_cut = false;
    s->cut_off = true; /* until it is settled */
    sim_hold(s);
    if (healthy && !index_failed)
        check_start(s, suspect);
    sim_check_copies(s);
    return true;
}

void sim_start(struct sim *s)
{
    for (uint32_t attempt = 0;; attempt++) {
        uint32_t absent = 0;
        for (uint32_t i = 0; i < s->units_count; i++)
            if (s->faults[i] == SP_SIM_STALL)
                sim_set_fault(s, i, SP_SIM_HEALTHY);
        if (sim_one_in(s, 3) || attempt > 5)
            sim_heal(s);
        uint32_t roll = sim_random(s, 3);
        if (attempt <= 5 && roll)
            absent = roll == 1 ? sim_random(s, 1U << s->units_count)
                               : 1U << sim_random(s, s->units_count);
        if (attempt <= 5 && !(s->kind != SIM_USUAL && sim_one_in(s, 2)))
            sim_between(s);
        if (s->beside != SIM_NOBODY)
            start_beside(s);
        if (attempt > 5) {
            sim_fail_index_commit(0);
            sim_fail_index_put(0);
        }
        bool started =
            sim_try_start(s, absent, attempt <= 5 && sim_one_in(s, s->kind == SIM_STORM ? 2 : 4));
        if (started)
            return;
        sp_assert(attempt <= 5);
    }
}

void sim_step_restart(struct sim *s)
{
    sim_check_copies(s);
    sim_stop(s);
    sim_start(s);
}
