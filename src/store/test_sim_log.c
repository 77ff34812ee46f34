#include "format/spans.h"
#include "store/test_sim.h"

/* Which records the log has, or says that it dropped: each once. */
struct seen {
    uint8_t *times; /* by LSN */
    uint64_t last;
};

static void see(struct seen *seen, uint64_t lsn)
{
    sp_assert(lsn && lsn <= seen->last && !seen->times[lsn]++);
}

static void see_record(struct seen *seen, const struct sp_record *record, struct sp_arena *arena)
{
    struct sp_dropped d;
    bool own = false;
    if (record->type != SP_RECORD_DROPPED) {
        see(seen, record->lsn);
        return;
    }
    sp_assert(sp_dropped_read(record->payload, arena, &d) == SP_OK);
    for (uint32_t i = 0; i < d.lsns.count; i++)
        for (uint64_t lsn = d.lsns.ptr[i].first; lsn <= d.lsns.ptr[i].last; lsn++) {
            see(seen, lsn);
            own |= lsn == record->lsn;
        }
    sp_assert(own);
}

/* LSNs are dense, or what lacks is said to be dropped; the heads are right, every block is what was
 * acknowledged, and what catalogues and tails say is true where they stand, as long as nothing was
 * left out before them. */
void sim_read_log(struct sim *s)
{
    static struct truth r;
    const struct sp_volume *v = s->volume;
    struct sp_error error;
    struct sp_arena arena;
    struct seen seen = {calloc(1, v->end.lsn + 1), v->end.lsn};
    uint64_t last_lsn = 0;
    bool rewritten = false;
    memset(&r, 0, sizeof r);
    sp_assert(seen.times);
    sp_arena_init(&arena, 16U << 20);
    for (size_t i = 0; i < v->segments_count; i++) {
        const struct sp_volume_segment *segment = &v->segments[i];
        struct sp_segment_id id = {v->id, segment->segment, segment->generation};
        const struct sim_shadow *shadow = sim_shadow_of(s, segment->segment, segment->generation);
        struct sp_segment_head head;
        struct sp_log_end end;
        struct sp_walker walker;
        struct sp_record record;
        struct sp_place place;
        size_t bytes = (size_t)segment->data_blocks * SP_UNIT_BLOCK_BYTES;
        uint8_t *blocks = malloc(bytes);
        sp_assert(blocks && sp_volume_read_blocks(s->volume, segment, 0, blocks,
                                                  segment->data_blocks, &error) == SP_OK);
        sp_assert(shadow->count >= segment->data_blocks &&
                  memcmp(shadow->blocks, blocks, bytes) == 0);
        sp_segment_sound_end(blocks, segment->data_blocks, &id, &end);
        sp_assert(end.blocks == segment->data_blocks && end.lsn == segment->last_lsn);
        sp_assert(sp_segment_head_read(blocks, &head) == SP_OK);
        sp_assert(head.previous.lsn == last_lsn && head.next_lsn == last_lsn + 1);
        rewritten |= segment->generation != 0;
        /* Where it was then: the log may have gone back to what a merged segment replaced. */
        sp_assert(rewritten || !head.manifest_lsn ||
                  (head.manifest_lsn == r.manifest_base &&
                   (s->compacts ? head.manifest_segment >= r.manifest_base_segment
                                : head.manifest_segment == r.manifest_base_segment)));
        sp_walker_init(&walker, blocks, segment->data_blocks, 0, &id);
        while (sp_walker_next(&walker, &record, &place)) {
            see_record(&seen, &record, &arena);
            if (!rewritten)
                truth_record(&r, &record, segment->segment, &arena);
            sp_arena_release(&arena);
        }
        sp_walker_release(&walker);
        free(blocks);
        last_lsn = segment->last_lsn;
    }
    sp_assert(last_lsn == v->end.lsn);
    for (uint64_t lsn = 1; lsn <= seen.last; lsn++)
        sp_assert(seen.times[lsn]);
    free(seen.times);
    sp_arena_release(&arena);
}
