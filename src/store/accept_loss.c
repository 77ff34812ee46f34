/* Going on without what is lacking: a start with --accept-loss.
 *
 * A start proves by a majority of votes that it has everything that was ever acknowledged. When it
 * cannot, it is refused, and says what is lacking. An operator who knows that this will not come
 * back soon can have it go on with what is here. From then on there may be two histories: ours, and
 * that of the units which are not here, who may come back, and may even be started somewhere else
 * by themselves. So that nothing of either is taken for the other's:
 *
 *   - The new epoch's counter leaps by SP_LOSS_EPOCHS and a random number. Wherever the units meet
 *     again, ours is the highest epoch, and wins; it would take the others a million epochs of
 *     their own to come near it. Two histories that were both begun so differ by the random number.
 *   - Its voters are the units that are here, and no others: those that are not have no say in it,
 *     and it needs no majority of them to be started again.
 *   - Its segments' numbers leap likewise, so that no file of the others is ever written over.
 *   - LSNs leap by 2^40: the head's next_lsn says so (it is not one more than the LSN of its
 *     predecessor), and the first record is a GAP that leaps over MODSEQs and UIDs as well, and
 *     protects all that there is. Until that GAP is durable the volume does not open: a start that
 *     finds a head that leaps and no record after it writes the GAP first.
 *
 * What lies behind the end that was taken, in the same segment, is not written over either: it may
 * be all that is left of it.
 */
#include "base/log.h"
#include "base/time.h"
#include "store/volume_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

bool sp_loss_pass(struct sp_volume *v, const struct sp_error *error)
{
    char quoted[300];
    if (!v->loss_accepted)
        return false;
    v->loss.forced = true;
    snprintf(v->loss.lacking, sizeof v->loss.lacking, "%.*s", (int)sizeof v->loss.lacking - 1,
             error->why);
    sp_log(SP_LOG_ERROR, "volume.accept_loss", "volume=%s lacking=%s", v->name,
           sp_log_quote(sp_slice_str(error->why), quoted, sizeof quoted));
    return true;
}

/* ---- Where the log ends, by what is here ---- */

/* The newest head on any unit that is here, of those before (counter, segment). */
static bool newest_head_before(struct sp_volume *v, const struct sp_listing *listings,
                               uint32_t counter, uint64_t segment, struct sp_segment_head *ret)
{
    bool found = false;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_unit *unit = v->members[i].unit;
        for (size_t k = 0; unit && k < listings[i].count; k++) {
            const struct sp_unit_segment *file = &listings[i].list[k];
            uint8_t block[SP_BLOCK_BYTES];
            struct sp_segment_head head;
            if (file->generation != 0 || file->blocks == 0 ||
                unit->ops->read(unit, file->segment, 0, 0, block, 1, NULL) != SP_OK ||
                sp_segment_head_read(block, &head) != SP_OK || !sp_uuid_eq(&head.volume, &v->id) ||
                head.segment != file->segment)
                continue;
            if (head.epoch_counter > counter ||
                (head.epoch_counter == counter && head.segment >= segment))
                continue;
            if (found &&
                (head.epoch_counter < ret->epoch_counter ||
                 (head.epoch_counter == ret->epoch_counter && head.segment <= ret->segment)))
                continue;
            *ret = head;
            found = true;
        }
    }
    return found;
}

/* By a head of an older epoch: who was its replica, and has its segment. */
static void set_states(struct sp_volume *v, const struct sp_segment_head *head,
                       const struct sp_listing *listings)
{
    bool listed = false;
    for (int pass = 0; pass < 2 && !listed; pass++) {
        for (uint32_t i = 0; i < v->members_count; i++) {
            struct sp_volume_member *m = &v->members[i];
            if (!m->unit || m->vote_damaged || m->witness ||
                !sp_listing_find(&listings[i], head->segment, 0))
                continue;
            for (uint32_t k = 0; k < head->members_count; k++) {
                const struct sp_member *member = &head->members[k];
                if (!sp_uuid_eq(&member->unit, &m->id) || member->role != SP_MEMBER_REPLICA)
                    continue;
                m->state = SP_UNIT_REPLICA;
                m->from_lsn = member->ranges_count ? member->ranges[0].first : head->next_lsn;
                m->why[0] = '\0';
                listed = true;
            }
            if (pass == 1) { /* it was brought to it later */
                m->state = SP_UNIT_REPLICA;
                m->from_lsn = head->next_lsn;
                m->why[0] = '\0';
            }
        }
    }
}

enum sp_status sp_loss_find_end(struct sp_volume *v, const struct sp_segment_head *newest,
                                const struct sp_listing *listings, struct sp_last_segment *ret_last,
                                struct sp_error *error)
{
    uint32_t counter = newest->previous.epoch_counter;
    uint64_t segment = newest->previous.segment + 1;
    struct sp_log_end declared = newest->previous;
    struct sp_segment_head head;
    while (newest_head_before(v, listings, counter, segment, &head)) {
        struct sp_log_end limit = {.epoch_id = head.epoch_id,
                                   .epoch_counter = head.epoch_counter,
                                   .segment = head.segment,
                                   .blocks = UINT32_MAX};
        if (declared.segment == head.segment && declared.epoch_id == head.epoch_id)
            limit.blocks = declared.blocks;
        set_states(v, &head, listings);
        enum sp_status status = sp_last_segment_find(v, &head, &limit, listings, ret_last, error);
        if (status != SP_OK || ret_last->segment)
            return status;
        sp_last_segment_release(ret_last);
        for (uint32_t i = 0; i < v->members_count; i++)
            if (v->members[i].state == SP_UNIT_REPLICA)
                v->members[i].state = SP_UNIT_STALE;
        counter = head.epoch_counter;
        segment = head.segment;
        declared = head.previous;
    }
    *ret_last = (struct sp_last_segment){0};
    sp_error_set(error, SP_UNAVAILABLE, v->name,
                 "nothing of the log is on the units that are here");
    sp_error_todo(error, "attach a unit that was a replica");
    return SP_UNAVAILABLE;
}

/* ---- Leaps ---- */

enum sp_status sp_loss_note_head(struct sp_volume *v, const struct sp_segment_head *head,
                                 bool written)
{
    v->loss.written = v->loss.written || written;
    if (!head->epoch_begins || head->previous.segment == 0 ||
        head->next_lsn <= head->previous.lsn + 1)
        return SP_OK;
    if (!v->loss.written) {
        v->loss.pending = true;
        v->loss.gap_lsn = head->next_lsn;
    }
    for (uint32_t i = 0; i < v->left_count; i++)
        if (v->left[i].gap_lsn == head->next_lsn)
            return SP_OK;
    struct sp_left *grown = realloc(v->left, (v->left_count + 1) * sizeof *grown);
    if (!grown)
        return SP_NO_MEMORY;
    v->left = grown;
    struct sp_left *left = &grown[v->left_count++];
    *left = (struct sp_left){.end = head->previous,
                             .gap_lsn = head->next_lsn,
                             .epoch_counter = head->epoch_counter,
                             .members_count = head->members_count};
    for (uint32_t i = 0; i < head->members_count; i++)
        left->members[i] = head->members[i].unit;
    return SP_OK;
}

/* By how much a number leaps: at least SP_LOSS_EPOCHS, and twice that at most. */
static uint32_t leap(void)
{
    return SP_LOSS_EPOCHS + (uint32_t)(sp_random_u64() % SP_LOSS_EPOCHS);
}

enum sp_status sp_loss_prepare(struct sp_volume *v, struct sp_error *error)
{
    uint64_t counter = v->epoch_counter + (uint64_t)leap();
    if (counter >= UINT32_MAX - 1 || v->end.lsn > INT64_MAX - 2 * SP_LOSS_LSN_SKIP)
        return sp_error_set(error, SP_LIMIT, v->name,
                            "there are no epochs or LSNs left to leap to");
    v->epoch_counter = (uint32_t)counter;
    v->segment_max += leap();
    v->voters_count = 0;
    v->away_count = 0;
    v->loss.pending = true;
    v->loss.gap_lsn = v->end.lsn + SP_LOSS_LSN_SKIP;
    return SP_OK;
}

enum sp_status sp_loss_emit(struct sp_plan *plan)
{
    struct sp_volume *v = sp_plan_volume(plan);
    char reason[300];
    snprintf(reason, sizeof reason, "loss accepted: %s", v->loss.lacking);
    struct sp_gap gap = {.modseq_skip = SP_LOSS_MODSEQ_SKIP,
                         .uidnext_skip = SP_LOSS_UIDNEXT_SKIP,
                         .reason = sp_slice_str(reason),
                         .protects = true};
    struct sp_buf *buf = sp_plan_buf(plan);
    sp_gap_write(&gap, buf);
    return sp_buf_failed(buf) ? SP_NO_MEMORY
                              : sp_plan_emit(plan, SP_RECORD_GAP, NULL, 0, sp_buf_slice(buf), NULL);
}
