#include "store/test_sim.h"

/* ---- Acknowledged blocks ---- */

struct sim_shadow *sim_shadow_of(struct sim *s, uint64_t segment, uint32_t generation)
{
    for (uint32_t i = s->shadows_count; i-- > 0;)
        if (s->shadows[i].segment == segment && s->shadows[i].generation == generation)
            return &s->shadows[i];
    s->shadows = realloc(s->shadows, (s->shadows_count + 1) * sizeof *s->shadows);
    sp_assert(s->shadows);
    s->shadows[s->shadows_count] =
        (struct sim_shadow){.segment = segment, .generation = generation};
    return &s->shadows[s->shadows_count++];
}

/* Takes down a block that is new; how many replicas have it. SIM_NOBODY: it was never acknowledged,
 * and whoever has it is not here. */
static uint32_t note_block(struct sim *s, const struct sp_volume_segment *segment, uint32_t index,
                           uint8_t *ret_block)
{
    struct sp_volume *v = s->volume;
    struct sp_error error;
    uint32_t copies = 0;
    if (sp_volume_read_blocks(v, segment, index, ret_block, 1, &error) != SP_OK) {
        uint32_t away = s->absent;
        for (uint32_t i = 0; i < s->units_count; i++)
            away |= s->faults[i] == SP_SIM_GONE || s->faults[i] == SP_SIM_FAIL_ALL;
        sp_assert(segment->epoch_id != v->epoch_id && away);
        return SIM_NOBODY;
    }
    for (uint32_t k = 0; k < v->members_count; k++) {
        struct sp_unit *unit = v->members[k].unit;
        uint8_t block[SP_UNIT_BLOCK_BYTES];
        copies += v->members[k].state == SP_UNIT_REPLICA && unit &&
                  unit->ops->read(unit, segment->segment, segment->generation, index, block, 1,
                                  NULL) == SP_OK &&
                  memcmp(block, ret_block, sizeof block) == 0;
    }
    return copies;
}

/* What the log does not consist of any more was replaced by compaction: the rest still accounts for
 * every LSN. */
static void note_replaced(struct sim *s)
{
    const struct sp_volume *v = s->volume;
    uint64_t next = 1;
    for (uint32_t i = 0; i < s->shadows_count; i++)
        s->shadows[i].replaced = true;
    for (size_t i = 0; i < v->segments_count; i++) {
        sim_shadow_of(s, v->segments[i].segment, v->segments[i].generation)->replaced = false;
        sp_assert(v->segments[i].first_lsn == next);
        next = v->segments[i].last_lsn + 1;
    }
}

/* Takes down what the log has grown by. What this life wrote is on enough replicas; of what an
 * earlier one wrote at its end some may not be here, and of what a suspect unit got it may have
 * lost some. */
static void note_log(struct sim *s)
{
    const struct sp_volume *v = s->volume;
    note_replaced(s);
    for (size_t i = 0; i < v->segments_count; i++) {
        const struct sp_volume_segment *segment = &v->segments[i];
        struct sim_shadow *shadow = sim_shadow_of(s, segment->segment, segment->generation);
        const uint32_t blocks =
            segment->data_blocks + (segment->generation ? segment->footer_blocks : 0);
        uint32_t least = segment->epoch_id != v->epoch_id ? 0
                         : s->degraded_accept             ? 1
                                                          : s->min_copies;
        least -= least && s->suspect != SIM_NOBODY;
        if (v->epoch_broken || !v->writable)
            least = least ? 1 : 0; /* a unit of the epoch was ejected since it began */
        sp_assert(shadow->count <= blocks);
        if (shadow->count == blocks)
            continue;
        shadow->blocks = realloc(shadow->blocks, (size_t)blocks * SP_UNIT_BLOCK_BYTES);
        sp_assert(shadow->blocks);
        for (; shadow->count < blocks; shadow->count++) {
            uint32_t copies =
                note_block(s, segment, shadow->count,
                           shadow->blocks + (size_t)shadow->count * SP_UNIT_BLOCK_BYTES);
            if (copies == SIM_NOBODY)
                break;
            sp_assert(copies >= least);
        }
    }
    if (s->astray && sp_sim_effect(s->world, SP_SIM_DID_MISDIRECT) >= s->astray)
        s->astray = 0;
    if (!s->lying && !s->astray)
        s->suspect = SIM_NOBODY;
}

uint32_t sim_holders(const struct sim *s, struct sp_unit *const *units,
                     const struct sim_shadow *shadow, uint32_t block)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->units_count; i++) {
        uint8_t bytes[SP_UNIT_BLOCK_BYTES];
        count += units[i] &&
                 units[i]->ops->read(units[i], shadow->segment, shadow->generation, block, bytes, 1,
                                     NULL) == SP_OK &&
                 memcmp(bytes, shadow->blocks + (size_t)block * sizeof bytes, sizeof bytes) == 0;
    }
    return count;
}

static bool one_is_lost(const struct sim *s, struct sp_unit *const *units)
{
    for (uint32_t i = 0; i < s->shadows_count; i++)
        for (uint32_t k = 0; k < s->shadows[i].count && !s->shadows[i].replaced; k++)
            if (sim_holders(s, units, &s->shadows[i], k) == 0)
                return true;
    return false;
}

/* Whether none of these units is a replica of the newest epoch that they know of: nobody can say
 * then what was written in it. */
static bool lacks_replica(struct sim *s, struct sp_unit *const *units)
{
    struct sp_vote newest = {0}, vote;
    struct sp_error error;
    for (uint32_t i = 0; i < s->units_count; i++)
        if (units[i] && sp_vote_read(units[i], &vote, &error) == SP_OK && vote.accepted &&
            vote.head.epoch_counter > newest.head.epoch_counter)
            newest = vote;
    for (uint32_t k = 0; k < newest.head.members_count; k++)
        for (uint32_t i = 0; i < s->units_count; i++)
            if (units[i] && newest.head.members[k].role == SP_MEMBER_REPLICA &&
                sp_uuid_eq(&units[i]->id, &newest.head.members[k].unit))
                return false;
    return newest.accepted;
}

bool sim_lacks(struct sim *s, uint32_t absent, uint32_t *ret_here)
{
    struct sp_unit *units[SIM_UNITS_MAX];
    sim_open_units(s, absent | s->damaged, units);
    *ret_here = 0;
    for (uint32_t i = 0; i < s->units_count; i++)
        *ret_here += units[i] != NULL;
    bool lacking = lacks_replica(s, units) || one_is_lost(s, units);
    sim_close_units(s, units);
    return lacking;
}

bool sim_may_damage(struct sim *s, struct sp_unit *const *units, uint32_t unit,
                    const struct sp_unit_segment *file, uint32_t block)
{
    const struct sim_shadow *shadow =
        sim_shadow_of(s, file->segment, file->generation & ~SP_UNIT_PARITY);
    if (s->lying && s->suspect != unit)
        return false; /* what the liar shows may be the only other copy */
    if (block < shadow->count)
        return sim_holders(s, units, shadow, block) > 1;
    if (s->min_copies < 2 || s->degraded_accept || s->damaged || s->cut_off ||
        (s->suspect != SIM_NOBODY && s->suspect != unit))
        return false;
    s->suspect = unit;
    return true;
}

/* ---- What is there ---- */

/* Whether the volume shows what the model says. */
static bool shows(struct sim *s, const struct model *model)
{
    struct sp_read read;
    struct sp_account account;
    struct sp_arena arena;
    bool good = true;
    sp_assert(sp_read_begin(sp_volume_index(s->volume), &read) == SP_OK);
    sp_arena_init(&arena, 1U << 20);
    bool here = sp_index_account(&read, &model->account, &account) == SP_OK;
    good = here == model->account_made;
    for (uint32_t b = 0; good && here && b < MODEL_MAILBOXES; b++) {
        struct sp_flag_cursor cursor;
        struct sp_flag_row row;
        uint32_t present = 0, count = 0;
        sp_assert(sp_flag_cursor_open(&read, &model->account, b + 1, 1, 0, &cursor) == SP_OK);
        for (uint32_t uid = 1; uid < MODEL_UIDS; uid++)
            present += model->mailboxes[b].messages[uid].state == MODEL_PRESENT;
        while (good && sp_flag_cursor_next(&cursor, &row) == SP_OK) {
            const struct model_message *m = &model->mailboxes[b].messages[row.uid];
            struct sp_slice payload;
            struct sp_message message;
            uint64_t lsn, time_ns;
            good = row.uid < MODEL_UIDS && m->state == MODEL_PRESENT && m->flags == row.flags &&
                   sp_index_message(&read, &model->account, b + 1, row.uid, &payload, &lsn,
                                    &time_ns) == SP_OK &&
                   sp_message_read(payload, &arena, &message) == SP_OK &&
                   message.size == sim_body_bytes(m->seed);
            sp_arena_release(&arena);
            count++;
        }
        sp_flag_cursor_close(&cursor);
        good = good && count == present;
    }
    sp_read_end(&read);
    return good;
}

/* What was seen of UIDNEXT and MODSEQ only grows. */
static void check_counters(struct sim *s)
{
    struct sp_read read;
    struct sp_account account;
    sp_assert(sp_read_begin(sp_volume_index(s->volume), &read) == SP_OK);
    if (sp_index_account(&read, &s->model.account, &account) == SP_OK) {
        sp_assert(account.row.modseq >= s->seen.modseq);
        s->seen.modseq = account.row.modseq;
        for (uint32_t b = 0; b < MODEL_MAILBOXES; b++) {
            struct sp_mailbox box;
            sp_assert(sp_index_mailbox(&read, &s->model.account, b + 1, &box) == SP_OK);
            sp_assert(box.row.uidnext >= s->seen.uidnext[b] &&
                      box.row.highestmodseq >= s->seen.highestmodseq[b] &&
                      box.row.highestmodseq <= account.row.modseq);
            s->seen.uidnext[b] = box.row.uidnext;
            s->seen.highestmodseq[b] = box.row.highestmodseq;
        }
    }
    sp_read_end(&read);
}

/* Whether all of it can be read from the units that answer now. */
static bool is_readable(struct sim *s)
{
    struct sp_unit *units[SIM_UNITS_MAX] = {NULL};
    bool all = !s->lacking;
    for (uint32_t i = 0; i < s->units_count; i++) {
        bool answers = s->faults[i] != SP_SIM_FAIL_ALL && s->faults[i] != SP_SIM_GONE;
        units[i] = answers ? sim_member(s, i)->unit : NULL;
        all &= answers;
    }
    return all || (s->settled && !one_is_lost(s, units));
}

/* Everything a user can see is as it was before the stop, unless a batch was refused. */
static void compare_state(struct sim *s, bool doubtful)
{
    struct sp_digest state;
    sim_digest_index(sp_volume_index(s->volume), &state);
    if (s->state_known && !doubtful) {
        sp_assert(memcmp(&state, &s->state, sizeof state) == 0);
        s->counts[SIM_SAME]++;
    }
    s->state_known = false;
}

/* The model takes over what was found, since an epoch has settled it. */
static void settle(struct sim *s, const struct model *found, bool adopted)
{
    SIM_SAY("  settled%s\n", adopted ? ", with a batch that was refused" : "");
    s->counts[SIM_ADOPTED] += adopted;
    s->settled = true;
    s->cut_off = false;
    s->epoch = s->volume->epoch_counter;
    s->model = *found;
    /* One that changes nothing but MODSEQ is not told from none. */
    compare_state(s, s->doubts_count != 0);
    s->doubts_count = 0;
}

/* Holds the volume against the model, or the model with one of the refused batches. */
void sim_hold(struct sim *s)
{
    static struct model with;
    bool writable = s->volume->writable;
    uint32_t found = UINT32_MAX;
    with = s->model;
    if (!shows(s, &with)) {
        sp_assert(!s->settled);
        for (found = 0; found < s->doubts_count; found++) {
            with = s->model;
            for (uint32_t i = 0; i < s->doubts[found].count; i++)
                step_done(&with, &s->doubts[found].steps[i]);
            if (shows(s, &with))
                break;
        }
        sp_assert(found < s->doubts_count);
    }
    if (is_readable(s))
        model_check(s->volume, &with, NULL, 0);
    if (!s->settled && writable)
        settle(s, &with, found != UINT32_MAX);
    if (s->settled && writable && s->epoch != s->volume->epoch_counter) {
        s->epoch = s->volume->epoch_counter;
        s->doubts_count = 0;
    }
    if (!s->settled)
        return;
    check_counters(s);
    note_log(s);
    sim_digest_index(sp_volume_index(s->volume), &s->state);
    s->state_known = s->doubts_count == 0;
}

/* ---- Copies ---- */

/* A replica has what it says that it has; a unit on which blocks may be bad has them as they were
 * acknowledged, or not sound: never something else. */
void sim_check_copies(struct sim *s)
{
    const struct sp_volume *v = s->volume;
    for (uint32_t u = 0; u < s->units_count; u++) {
        const struct sp_volume_member *m = sim_member(s, u);
        bool hurt = (s->hurt & 1U << u) || s->faults[u] != SP_SIM_HEALTHY ||
                    sp_sim_crashed(s->world) || !s->settled || v->blocks_unmendable;
        if (m->state != SP_UNIT_REPLICA || !m->unit)
            continue;
        for (size_t i = m->lacks; i < v->segments_count; i++) {
            const struct sp_volume_segment *segment = &v->segments[i];
            const struct sim_shadow *shadow =
                sim_shadow_of(s, segment->segment, segment->generation);
            for (uint32_t b = 0; b < shadow->count; b++) {
                uint8_t block[SP_UNIT_BLOCK_BYTES];
                const uint8_t *good = shadow->blocks + (size_t)b * sizeof block;
                enum sp_status status = m->unit->ops->read(m->unit, segment->segment,
                                                           segment->generation, b, block, 1, NULL);
                if (status == SP_OK && memcmp(block, good, sizeof block) == 0)
                    continue;
                if (!hurt)
                    SIM_SAY("  unit %u (%s) lacks segment %llu block %u; it has LSNs from %llu\n",
                            u, m->name, (unsigned long long)segment->segment, b,
                            (unsigned long long)m->from_lsn);
                sp_assert(hurt &&
                          (status != SP_OK || !sp_volume_is_block_of(v, segment, b, block)));
            }
        }
    }
}
