/* Compaction in the simulation, and the deletion of what it made needless. */
#include "base/time.h"
#include "store/test_sim.h"

/* Compaction is asked for, and gets some of the time that it needs: what is left of it goes on
 * beneath the steps that follow, or is cut off. */
void sim_step_compact(struct sim *s)
{
    uint32_t slices = sim_one_in(s, 3) ? sim_random(s, 30) : 300;
    bool crash = sim_one_in(s, 3);
    uint32_t operations = 1 + sim_random(s, sim_one_in(s, 2) ? 24 : 160);
    uint32_t hours = sim_random(s, 4);
    if (!s->settled || s->volume->index_failed)
        return;
    sp_time_pass_ms(hours * 3600000U); /* CLOCK records say so */
    if (crash)
        sim_crash_after(s, operations);
    sp_volume_compact_now(s->volume);
    for (; slices && !sp_sim_crashed(s->world); slices--) {
        sim_quiet(s);
        if (!sp_volume_run_once(s->volume))
            break;
    }
}

/* As the guard does: what is past its hold. */
void sim_step_delete(struct sim *s)
{
    struct sp_retired_segment *list = NULL;
    struct sp_error error = {0};
    size_t count = 0;
    if (!s->settled)
        return;
    if (sim_one_in(s, 4))
        sim_crash_after(s, 1 + sim_random(s, 20));
    sim_quiet(s);
    if (sp_volume_retired(s->volume, &list, &count, &error) != SP_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        sp_assert(!list[i].past_hold || !s->hold_ms); /* no history takes so long */
        sim_quiet(s);
        if (list[i].past_hold && sp_volume_delete_retired(s->volume, list[i].segment,
                                                          list[i].generation, &error) == SP_OK) {
            SIM_SAY("  segment %llu.%u is deleted\n", (unsigned long long)list[i].segment,
                    list[i].generation);
            s->counts[SIM_DELETED]++;
        }
    }
    free(list);
}

/* Whatever was expunged within the hold can be brought back, with its body. */
void sim_check_held(struct sim *s)
{
    struct sp_read read;
    struct sp_held held = {0};
    struct sp_arena arena;
    struct sp_reader *reader = sp_reader_new(s->volume);
    uint32_t count = 0, gone = 0;
    for (uint32_t b = 0; b < MODEL_MAILBOXES; b++)
        for (uint32_t uid = 1; uid < MODEL_UIDS; uid++)
            gone += s->model.mailboxes[b].messages[uid].state == MODEL_GONE;
    sp_assert(reader && sp_read_begin(sp_volume_index(s->volume), &read) == SP_OK);
    sp_arena_init(&arena, 1U << 20);
    while (sp_index_next_held(&read, &s->model.account, &held) == SP_OK) {
        struct sp_message m;
        struct sp_body_row row;
        struct sp_slice bytes;
        struct sp_error error = {0};
        sp_assert(sp_message_read(held.payload, &arena, &m) == SP_OK);
        sp_assert(sp_index_body(&read, m.bodies.ptr[0], &row) == SP_OK);
        sp_assert(sp_reader_body(reader, &row, UINT64_MAX, &bytes, &error) == SP_OK);
        sp_assert(bytes.len == m.size);
        sp_arena_release(&arena);
        count++;
    }
    sp_read_end(&read);
    sp_reader_free(reader);
    sp_assert(s->hold_ms ? count == gone : count <= gone);
    s->counts[SIM_HELD] += count;
}
