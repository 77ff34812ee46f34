/* Reading a history that was left behind, from the units that have it. */
#include "store/merge.h"

#include "base/endian.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define READ_BLOCKS 256U

/* The segment of ours with this number and epoch; NULL: it is none of ours. */
static const struct sp_volume_segment *our_segment(const struct sp_volume *v, uint64_t segment,
                                                   uint64_t epoch_id)
{
    for (size_t i = v->segments_count; i-- > 0;)
        if (v->segments[i].segment == segment)
            return v->segments[i].epoch_id == epoch_id ? &v->segments[i] : NULL;
    return NULL;
}

/* Whether a batch follows in this file from block `index` on. */
static bool has_batch(struct sp_volume *v, struct sp_unit *unit, const struct sp_unit_segment *file,
                      uint64_t epoch_id, uint32_t index)
{
    uint8_t block[SP_BLOCK_BYTES];
    struct sp_block_header h;
    return index < file->blocks &&
           unit->ops->read(unit, file->segment, file->generation, index, block, 1, NULL) == SP_OK &&
           sp_block_read(block, &h) == SP_OK && sp_uuid_eq(&h.volume, &v->id) &&
           h.epoch_id == epoch_id && h.segment == file->segment && h.index == index &&
           !(h.flags & SP_BLOCK_FOOTER);
}

static bool read_head(struct sp_volume *v, struct sp_unit *unit, uint64_t segment,
                      uint32_t generation, struct sp_segment_head *ret)
{
    uint8_t block[SP_BLOCK_BYTES];
    return unit->ops->read(unit, segment, generation, 0, block, 1, NULL) == SP_OK &&
           sp_segment_head_read(block, ret) == SP_OK && sp_uuid_eq(&ret->volume, &v->id) &&
           ret->segment == segment && ret->generation == generation;
}

/* Whether the leap is that of a GAP that protects; a raw recovery leaps as well. Before the index
 * is open nobody can say. */
static bool protects(struct sp_volume *v, const struct sp_left *left)
{
    struct sp_read read;
    struct sp_position position;
    if (!v->index || sp_read_begin(v->index, &read) != SP_OK)
        return true;
    enum sp_status status = sp_index_position(&read, &position);
    sp_read_end(&read);
    bool found = status != SP_OK;
    for (uint32_t i = 0; i < position.forks_count && !found; i++)
        found = position.forks[i].gap_lsn == left->gap_lsn;
    return found;
}

/* Whoever voted for an epoch after the last parting has been taken back since. Whoever did not may
 * have no more than we do; then that is what is to be found out. */
bool sp_left_is_foreign(struct sp_volume *v, struct sp_unit *unit, const struct sp_vote *vote,
                        const struct sp_unit_segment *list, size_t count)
{
    uint32_t newest = 0;
    for (uint32_t i = 0; i < v->left_count; i++)
        if (v->left[i].epoch_counter > newest && protects(v, &v->left[i]))
            newest = v->left[i].epoch_counter;
    if (newest == 0 || count == 0)
        return false;
    if (vote->accepted)
        return vote->head.epoch_counter < newest;
    for (size_t k = 0; k < count; k++) {
        struct sp_segment_head head;
        if (read_head(v, unit, list[k].segment, list[k].generation, &head) &&
            !our_segment(v, head.segment, head.epoch_id) &&
            has_batch(v, unit, &list[k], head.epoch_id, 1))
            return true;
    }
    return false;
}

/* ---- Which segments ---- */

/* The newest generation of a segment on any of the units. */
static bool find_head(struct sp_volume *v, uint64_t segment, uint64_t epoch_id,
                      struct sp_segment_head *ret)
{
    bool found = false;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_unit_segment *list = NULL;
        size_t count = 0;
        if (!m->foreign || !m->unit || m->unit->ops->list(m->unit, &list, &count, NULL) != SP_OK)
            continue;
        for (size_t k = 0; k < count; k++) {
            struct sp_segment_head head;
            if (list[k].segment != segment || (found && list[k].generation <= ret->generation) ||
                !read_head(v, m->unit, segment, list[k].generation, &head) ||
                head.epoch_id != epoch_id)
                continue;
            *ret = head;
            found = true;
        }
        free(list);
    }
    return found;
}

/* The last segment of an epoch. */
static bool find_last(struct sp_volume *v, const struct sp_segment_head *epoch, uint64_t *ret)
{
    bool found = false;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_unit_segment *list = NULL;
        size_t count = 0;
        if (!m->foreign || !m->unit || m->unit->ops->list(m->unit, &list, &count, NULL) != SP_OK)
            continue;
        for (size_t k = count; k-- > 0;) {
            struct sp_segment_head head;
            if (list[k].segment < epoch->segment || (found && list[k].segment <= *ret) ||
                !read_head(v, m->unit, list[k].segment, list[k].generation, &head) ||
                head.epoch_id != epoch->epoch_id)
                continue;
            *ret = list[k].segment;
            found = true;
        }
        free(list);
    }
    return found;
}

static bool add_segment(struct sp_left_history *h, const struct sp_left_segment *segment)
{
    struct sp_left_segment *grown = realloc(h->segments, (h->count + 1) * sizeof *grown);
    if (!grown)
        return false;
    h->segments = grown;
    h->segments[h->count++] = *segment;
    return true;
}

/* From its end backwards, as the heads say, to a segment that is ours as well; the list is turned
 * round by the caller. */
static enum sp_status walk_back(struct sp_volume *v, struct sp_left_history *h,
                                struct sp_log_end at, struct sp_error *error)
{
    bool leapt = false;
    h->branch = h->tip.epoch_id;
    h->main = h->tip;
    for (;;) {
        const struct sp_volume_segment *ours = our_segment(v, at.segment, at.epoch_id);
        struct sp_segment_head head;
        if (at.segment == 0)
            return SP_NOT_FOUND;
        if (!find_head(v, at.segment, at.epoch_id, &head)) {
            if (ours && at.blocks != UINT32_MAX && at.blocks <= ours->data_blocks &&
                at.generation == ours->generation) {
                h->parting_lsn = at.lsn; /* nothing of theirs is in it */
                return SP_OK;
            }
            return sp_error_set(error, SP_UNAVAILABLE, v->name,
                                "segment %" PRIu64 " of the history of epoch %u is lacking",
                                at.segment, h->tip.epoch_counter);
        }
        struct sp_left_segment segment = {.place = {.segment = at.segment,
                                                    .generation = head.generation,
                                                    .epoch_id = at.epoch_id,
                                                    .data_blocks = at.blocks},
                                          .epoch_counter = head.epoch_counter};
        if (head.generation != at.generation)
            segment.place.data_blocks = UINT32_MAX; /* rewritten: it has an end of its own */
        if (leapt)
            h->main = head;
        leapt = head.epoch_begins && head.next_lsn > head.previous.lsn + 1 && !ours;
        if (!add_segment(h, &segment))
            return sp_error_set(error, SP_NO_MEMORY, v->name, "out of memory");
        if (ours) {
            bool more = at.blocks == UINT32_MAX || at.lsn > ours->last_lsn;
            h->parting_lsn = more ? ours->last_lsn : at.lsn;
            if (more)
                h->branch = at.epoch_id;
            return SP_OK;
        }
        if (head.previous.segment >= at.segment)
            return SP_NOT_FOUND;
        h->branch = at.epoch_id;
        at = head.previous;
    }
}

static bool is_of_history(const struct sp_left_history *h, uint64_t epoch_id)
{
    bool found = epoch_id == h->tip.epoch_id;
    for (uint32_t i = 0; i < h->count; i++)
        found |= epoch_id == h->segments[i].place.epoch_id;
    return found;
}

/* By the rule of every start: whether a majority of the epoch's voters know of none after it but by
 * a leap. Our own units voted for none of it after the parting; the others' votes are as they were.
 * And one of its replicas must be here. */
static bool is_newest(struct sp_volume *v, const struct sp_left_history *h,
                      const struct sp_segment_head *epoch)
{
    uint32_t known = 0;
    bool replica = false;
    for (uint32_t k = 0; k < epoch->members_count; k++) {
        const struct sp_member *member = &epoch->members[k];
        bool here = false;
        for (uint32_t i = 0; i < h->left.members_count; i++)
            here |= sp_uuid_eq(&h->left.members[i], &member->unit);
        for (uint32_t i = 0; i < v->members_count; i++) {
            const struct sp_volume_member *m = &v->members[i];
            struct sp_vote vote;
            struct sp_error why;
            if (!m->foreign || !m->unit || !sp_uuid_eq(&m->id, &member->unit) ||
                sp_vote_read(m->unit, &vote, &why) != SP_OK || !vote.accepted)
                continue;
            here |= vote.head.epoch_counter <= epoch->epoch_counter ||
                    is_of_history(h, vote.head.epoch_id);
            replica |= member->role == SP_MEMBER_REPLICA;
        }
        known += here;
    }
    return replica && known > epoch->members_count / 2;
}

enum sp_status sp_left_trace(struct sp_volume *v, struct sp_left_history *ret,
                             struct sp_error *error)
{
    struct sp_left_history h = {0};
    struct sp_error why = {0};
    bool found = false;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_vote vote;
        if (!m->foreign || !m->unit || sp_vote_read(m->unit, &vote, &why) != SP_OK ||
            !vote.accepted)
            continue;
        if (!found || vote.head.epoch_counter > h.tip.epoch_counter)
            h.tip = vote.head;
        found = true;
    }
    if (!found)
        return SP_NOT_FOUND;
    struct sp_log_end at = {.epoch_id = h.tip.epoch_id, .blocks = UINT32_MAX};
    if (!find_last(v, &h.tip, &at.segment))
        at = h.tip.previous; /* it was voted for, and nothing was written in it */
    enum sp_status status = walk_back(v, &h, at, error);
    for (uint32_t i = 0; i < v->left_count && status == SP_OK; i++)
        if (v->left[i].gap_lsn > h.parting_lsn && v->left[i].epoch_counter > 0 &&
            (h.left.gap_lsn == 0 || v->left[i].gap_lsn < h.left.gap_lsn))
            h.left = v->left[i];
    if (status == SP_OK && h.left.gap_lsn == 0)
        status = SP_NOT_FOUND;
    if (status != SP_OK) {
        sp_left_release(&h);
        return status;
    }
    for (uint32_t i = 0, k = h.count; i + 1 < k--; i++) {
        struct sp_left_segment swap = h.segments[i];
        h.segments[i] = h.segments[k];
        h.segments[k] = swap;
    }
    h.whole = is_newest(v, &h, &h.tip);
    h.complete = h.main.epoch_counter >= h.left.end.epoch_counter && is_newest(v, &h, &h.main);
    *ret = h;
    return SP_OK;
}

void sp_left_release(struct sp_left_history *history)
{
    free(history->segments);
    *history = (struct sp_left_history){0};
}

/* ---- Blocks ---- */

static bool read_block(struct sp_volume *v, const struct sp_volume_segment *place, uint32_t index,
                       uint8_t *ret_block)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        if (m->foreign && m->unit &&
            m->unit->ops->read(m->unit, place->segment, place->generation, index, ret_block, 1,
                               NULL) == SP_OK &&
            sp_volume_is_block_of(v, place, index, ret_block))
            return true;
    }
    return false;
}

static uint32_t length_of(struct sp_volume *v, const struct sp_volume_segment *place)
{
    uint32_t length = 0;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_unit_segment *list = NULL;
        size_t count = 0;
        if (!m->foreign || !m->unit || m->unit->ops->list(m->unit, &list, &count, NULL) != SP_OK)
            continue;
        for (size_t k = 0; k < count; k++)
            if (list[k].segment == place->segment && list[k].generation == place->generation &&
                list[k].blocks > length)
                length = list[k].blocks;
        free(list);
    }
    return length;
}

enum sp_status sp_left_read(struct sp_volume *v, struct sp_left_segment *segment,
                            uint8_t **ret_blocks, struct sp_error *error)
{
    struct sp_volume_segment *place = &segment->place;
    uint32_t declared = place->data_blocks, length = length_of(v, place), count = 0;
    if (declared < length)
        length = declared;
    place->data_blocks = UINT32_MAX; /* none of them is a footer's */
    uint8_t *blocks = malloc((size_t)length * SP_BLOCK_BYTES + 1);
    if (!blocks) {
        place->data_blocks = declared;
        return sp_error_set(error, SP_NO_MEMORY, v->name, "no memory to read a segment");
    }
    while (count < length) {
        uint32_t n = length - count < READ_BLOCKS ? length - count : READ_BLOCKS, good = 0;
        uint8_t *at = blocks + (size_t)count * SP_BLOCK_BYTES;
        for (uint32_t i = 0; i < v->members_count && !good; i++) {
            struct sp_volume_member *m = &v->members[i];
            if (!m->foreign || !m->unit ||
                m->unit->ops->read(m->unit, place->segment, place->generation, count, at, n,
                                   NULL) != SP_OK)
                continue;
            while (good < n && sp_volume_is_block_of(v, place, count + good,
                                                     at + (size_t)good * SP_BLOCK_BYTES))
                good++;
        }
        if (!good && read_block(v, place, count, at))
            good = 1;
        if (!good)
            break;
        count += good;
    }
    struct sp_segment_id id = {v->id, place->segment, place->generation};
    struct sp_log_end end;
    sp_segment_sound_end(blocks, count, &id, &end);
    place->data_blocks = declared == UINT32_MAX ? end.blocks : declared;
    if (end.blocks >= place->data_blocks && end.blocks) {
        *ret_blocks = blocks;
        return SP_OK;
    }
    free(blocks);
    place->data_blocks = declared;
    return sp_error_set(error, SP_CORRUPT, v->name,
                        "segment %" PRIu64 " block %u of the history of epoch %u is not sound",
                        place->segment, end.blocks, segment->epoch_counter);
}

enum sp_status sp_left_payload(struct sp_volume *v, const struct sp_left_segment *segment,
                               uint32_t block, uint16_t offset, struct sp_buf *buf)
{
    uint8_t bytes[SP_BLOCK_BYTES];
    struct sp_record record;
    uint32_t crc;
    size_t from = offset, need = SP_RECORD_HEADER_BYTES;
    sp_buf_reset(buf);
    for (uint32_t index = block; buf->len < need; index++) {
        struct sp_block_header header;
        if (index >= segment->place.data_blocks || !read_block(v, &segment->place, index, bytes) ||
            sp_block_read(bytes, &header) != SP_OK || from >= header.payload_bytes)
            return SP_CORRUPT;
        sp_buf_add(buf,
                   sp_slice(bytes + SP_BLOCK_HEADER_BYTES + from, header.payload_bytes - from));
        from = 0;
        if (sp_buf_failed(buf))
            return SP_NO_MEMORY;
        if (need == SP_RECORD_HEADER_BYTES && buf->len >= need) {
            if (sp_record_read_header(sp_buf_slice(buf).ptr, &record, &crc) != SP_OK)
                return SP_CORRUPT;
            need += record.payload_bytes;
        }
    }
    struct sp_slice all = sp_buf_slice(buf);
    return sp_record_check(
               all.ptr, sp_slice(all.ptr + SP_RECORD_HEADER_BYTES, need - SP_RECORD_HEADER_BYTES))
               ? SP_OK
               : SP_CORRUPT;
}
