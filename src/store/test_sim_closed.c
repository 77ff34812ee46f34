#include "store/test_sim.h"

/* ---- Rot ---- */

static void rot(struct sim *s)
{
    struct sp_unit *units[SIM_UNITS_MAX];
    uint32_t unit = sim_random(s, s->units_count), roll = sim_random(s, 1U << 30);
    bool last = sim_one_in(s, 2);
    struct sp_unit_segment *list;
    size_t count;
    sim_open_units(s, s->damaged, units);
    if (units[unit] && units[unit]->ops->list(units[unit], &list, &count, NULL) == SP_OK) {
        if (count) {
            const struct sp_unit_segment *file = &list[last ? count - 1 : roll % count];
            uint32_t block = file->blocks ? roll / 64 % file->blocks : 0;
            if (sim_may_damage(s, units, unit, file, block)) {
                SIM_SAY("  unit %u: segment %llu block %u rots\n", unit,
                        (unsigned long long)file->segment, block);
                s->hurt |= 1U << unit;
                s->counts[SIM_ROTTED] +=
                    sp_sim_rot(s->world, s->disks[unit], file->segment, file->generation, block);
            }
        }
        free(list);
    }
    sim_close_units(s, units);
}

static void some_rot(struct sim *s)
{
    for (uint32_t i = 1 + sim_random(s, 4); i > 0 && !s->harmless; i--)
        rot(s);
}

/* ---- Votes ---- */

static void flip_vote(struct sp_unit *unit, uint32_t byte)
{
    uint8_t *vote;
    size_t len;
    if (unit->ops->vote_read(unit, &vote, &len, NULL) != SP_OK)
        return;
    vote[byte] ^= 0x10;
    (void)!unit->ops->vote_write(unit, sp_slice(vote, len), NULL);
    free(vote);
}

/* Damages a vote, if the others can do without its unit: it counts as absent. */
static void damage_vote(struct sim *s)
{
    struct sp_unit *units[SIM_UNITS_MAX];
    uint32_t unit = sim_random(s, s->units_count), byte = sim_random(s, 20), here;
    if (s->damaged || s->cut_off || s->suspect != SIM_NOBODY || s->faults[unit] != SP_SIM_HEALTHY)
        return;
    s->damaged = 1U << unit;
    if (sim_lacks(s, 0, &here) || here <= s->units_count / 2) {
        s->damaged = 0;
        return;
    }
    SIM_SAY("  unit %u: its vote is damaged\n", unit);
    s->counts[SIM_VOTES]++;
    sim_open_units(s, ~s->damaged, units);
    if (units[unit])
        flip_vote(units[unit], byte);
    sim_close_units(s, units);
}

/* ---- Copies ---- */

/* A copy of a unit is put away, to come back some day. */
static void put_aside(struct sim *s)
{
    uint32_t unit = sim_random(s, s->units_count), k = sim_random(s, SIM_ASIDE_MAX);
    if (s->lying || s->damaged)
        return;
    if (s->aside_count < SIM_ASIDE_MAX)
        k = s->aside_count++;
    SIM_SAY("  unit %u is copied\n", unit);
    s->aside[k] = s->disk_next++;
    s->aside_unit[k] = unit;
    sp_assert(sp_sim_clone(s->world, s->disks[unit], s->aside[k]) == SP_OK);
}

/* An older copy comes in the place of a unit; what was in it is an older copy from then on. */
static void roll_back(struct sim *s)
{
    uint32_t k = sim_random(s, SIM_ASIDE_MAX), here;
    if (k >= s->aside_count || s->damaged || s->lying || s->cut_off)
        return;
    uint32_t unit = s->aside_unit[k], disk = s->aside[k];
    if (s->suspect != SIM_NOBODY && s->suspect != unit)
        return;
    sim_heal(s);
    if (sim_lacks(s, 1U << unit, &here))
        return;
    SIM_SAY("  unit %u: an older copy comes in its place\n", unit);
    s->aside[k] = s->disks[unit];
    s->disks[unit] = disk;
    s->suspect = unit;
    s->counts[SIM_ROLLED_BACK]++;
}

/* A copy of one unit is attached where another was. */
static void attach_beside(struct sim *s)
{
    uint32_t unit = sim_random(s, s->units_count);
    if (!s->lying)
        s->beside = unit;
}

/* Two units change places: their cables, or their paths. */
static void swap_units(struct sim *s)
{
    uint32_t a = sim_random(s, s->units_count), b = sim_random(s, s->units_count);
    uint32_t order = s->order[a], witnesses = s->units_count - s->witnesses;
    if (a == b || (s->order[a] >= witnesses) != (s->order[b] >= witnesses))
        return; /* a witness keeps nothing: that would be another configuration */
    SIM_SAY("  units %u and %u change places\n", a, b);
    s->order[a] = s->order[b];
    s->order[b] = order;
    s->counts[SIM_SWAPPED]++;
}

/* ---- The index ---- */

static void destroy_index(struct sim *s)
{
    SIM_SAY("  the index is destroyed\n");
    sp_assert(sp_index_destroy(sim_options->index_path, NULL) == SP_OK);
    s->counts[SIM_REBUILT]++;
}

static void index_fails(struct sim *s)
{
    if (sim_one_in(s, 2))
        sim_fail_index_commit(1 + sim_random(s, 3));
    else
        sim_fail_index_put(1 + sim_random(s, 60));
}

static void nothing(struct sim *s)
{
    (void)s;
}

static const struct sim_step between[] = {
    {"nothing", 10, nothing},
    {"rot", 8, some_rot},
    {"damage vote", 2, damage_vote},
    {"copy", 3, put_aside},
    {"roll back", 4, roll_back},
    {"beside", 1, attach_beside},
    {"swap", 1, swap_units},
    {"destroy index", 5, destroy_index},
    {"spoil index", 3, sim_spoil_index},
    {"index fails", 1, index_fails},
};

void sim_between(struct sim *s)
{
    for (uint32_t i = 1 + sim_random(s, 2); i > 0; i--)
        sim_choose(s, between, sizeof between / sizeof *between)->run(s);
}
