#include "base/time.h"
#include "store/test_sim.h"

#define YEAR_NS (31557600ULL * 1000000000U)

void sim_set_fault(struct sim *s, uint32_t unit, enum sp_sim_fault fault)
{
    static const char *const says[] = {"healthy", "fails to write", "fails",
                                       "gone",    "full",           "stalls"};
    if (s->faults[unit] != fault)
        SIM_SAY("  unit %u: %s\n", unit, says[fault]);
    s->faults[unit] = fault;
    sp_sim_set_fault(s->world, s->disks[unit], fault);
}

void sim_heal(struct sim *s)
{
    for (uint32_t i = 0; i < s->units_count; i++)
        sim_set_fault(s, i, SP_SIM_HEALTHY);
}

static uint32_t sick_units(const struct sim *s)
{
    uint32_t sick = 0;
    for (uint32_t i = 0; i < s->units_count; i++)
        sick += s->faults[i] != SP_SIM_HEALTHY;
    return sick;
}

static bool one_stalls(const struct sim *s)
{
    for (uint32_t i = 0; i < s->units_count; i++)
        if (s->faults[i] == SP_SIM_STALL)
            return true;
    return false;
}

/* A fault on some unit. While one is suspect the others stay as they are; and a disk that stalls
 * needs another that does not: nobody is ejected for being slow when everything is. */
static void some_fault(struct sim *s, enum sp_sim_fault fault)
{
    uint32_t unit = sim_random(s, s->units_count);
    if (s->suspect != SIM_NOBODY && s->suspect != unit)
        return;
    if (one_stalls(s))
        sim_heal(s);
    sim_set_fault(s, unit, fault);
}

void sim_step_heal(struct sim *s)
{
    sim_heal(s);
    if (s->lying && !sp_sim_crashed(s->world) && sim_one_in(s, 4)) {
        SIM_SAY("  unit %u syncs what it has\n", s->suspect);
        sp_sim_lie(s->world, s->disks[s->suspect], false);
        s->lying = false;
    }
}

void sim_step_fail_writes(struct sim *s)
{
    some_fault(s, SP_SIM_FAIL_WRITES);
}

void sim_step_fail_all(struct sim *s)
{
    some_fault(s, SP_SIM_FAIL_ALL);
}

void sim_step_gone(struct sim *s)
{
    some_fault(s, SP_SIM_GONE);
}

void sim_step_full(struct sim *s)
{
    some_fault(s, SP_SIM_FULL);
}

/* Two at once: of three units one is left. */
void sim_step_two_sick(struct sim *s)
{
    static const enum sp_sim_fault faults[] = {SP_SIM_FAIL_WRITES, SP_SIM_FAIL_ALL, SP_SIM_GONE,
                                               SP_SIM_FULL};
    for (unsigned i = 0; i < 2; i++)
        some_fault(s, faults[sim_random(s, sizeof faults / sizeof *faults)]);
}

void sim_step_all_full(struct sim *s)
{
    if (s->suspect != SIM_NOBODY || one_stalls(s))
        return;
    for (uint32_t i = 0; i < s->units_count; i++)
        if (sim_member(s, i)->state <= SP_UNIT_SPARE)
            sim_set_fault(s, i, SP_SIM_FULL);
}

void sim_step_stall(struct sim *s)
{
    if (!sick_units(s) && s->volume->writable && sp_log_replicas(s->volume) >= 2)
        some_fault(s, SP_SIM_STALL);
    else
        sim_heal(s);
}

/* A unit can be suspect while others hold all that it holds, and go on doing so. */
static bool may_become_suspect(struct sim *s, uint32_t unit)
{
    return !s->harmless && (s->suspect == SIM_NOBODY || s->suspect == unit) && !sick_units(s) &&
           s->settled && s->volume->writable && !s->volume->epoch_broken && s->min_copies >= 2 &&
           sp_log_replicas(s->volume) >= 2 && !s->degraded_accept && !s->damaged;
}

static bool others_hold_all(struct sim *s, uint32_t unit)
{
    struct sp_unit *units[SIM_UNITS_MAX] = {NULL};
    for (uint32_t i = 0; i < s->units_count; i++)
        if (i != unit)
            units[i] = sim_member(s, i)->unit;
    for (uint32_t i = 0; i < s->shadows_count; i++)
        for (uint32_t k = 0; k < s->shadows[i].count && !s->shadows[i].replaced; k++)
            if (!sim_holders(s, units, &s->shadows[i], k))
                return false;
    return true;
}

void sim_step_lie(struct sim *s)
{
    uint32_t unit = sim_random(s, s->units_count), operations = 1 + sim_random(s, 60);
    if (s->lying || s->astray || sp_sim_crashed(s->world) ||
        sim_member(s, unit)->state >= SP_UNIT_EJECTED || /* a stalled write may be under way yet */
        !may_become_suspect(s, unit) || !others_hold_all(s, unit))
        return;
    SIM_SAY("  unit %u lies about syncs\n", unit);
    sp_sim_lie(s->world, s->disks[unit], true);
    s->lying = true;
    s->suspect = unit;
    s->hurt |= 1U << unit;
    if (!sim_one_in(s, 3))
        sim_crash_after(s, operations);
}

void sim_step_misdirect(struct sim *s)
{
    uint32_t unit = sim_random(s, s->units_count), roll = sim_random(s, 1U << 30);
    struct sp_unit *units[SIM_UNITS_MAX], *own = sim_member(s, unit)->unit;
    struct sp_unit_segment *list;
    size_t count;
    if (!may_become_suspect(s, unit) || !own || s->lying || s->astray ||
        own->ops->list(own, &list, &count, NULL) != SP_OK)
        return;
    for (uint32_t i = 0; i < s->units_count; i++)
        units[i] = sim_member(s, i)->unit;
    const struct sp_unit_segment *file = count ? &list[roll % count] : NULL;
    uint32_t block = file && file->blocks ? roll / 64 % file->blocks : 0;
    if (file && sim_may_damage(s, units, unit, file, block)) {
        SIM_SAY("  unit %u: its next block goes to segment %llu block %u\n", unit,
                (unsigned long long)file->segment, block);
        sp_sim_misdirect(s->world, s->disks[unit], file->segment, file->generation, block);
        s->suspect = unit;
        s->astray = sp_sim_effect(s->world, SP_SIM_DID_MISDIRECT) + 1;
        s->hurt |= 1U << unit;
    }
    free(list);
}

/* Ten years, either way. */
void sim_step_clock(struct sim *s)
{
    uint64_t wall = sp_wall_ns();
    bool ahead = wall < 15 * YEAR_NS || sim_one_in(s, 2);
    sp_time_set_wall_ns(ahead ? wall + 10 * YEAR_NS : wall - 10 * YEAR_NS);
    SIM_SAY("  ten years %s\n", ahead ? "ahead" : "back");
    s->counts[SIM_CLOCK]++;
}

void sim_step_index_commit(struct sim *s)
{
    sim_fail_index_commit(1 + sim_random(s, 3));
}

void sim_step_index_put(struct sim *s)
{
    sim_fail_index_put(1 + sim_random(s, 40));
}

void sim_step_crash(struct sim *s)
{
    sim_crash_after(s, 1 + sim_random(s, 80));
}
