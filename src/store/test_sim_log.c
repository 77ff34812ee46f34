#include "store/test_sim.h"

/* LSNs are dense, the heads are right, every block is what was acknowledged, and what catalogues
 * and tails say is true where they stand. */
void sim_read_log(struct sim *s)
{
    static struct truth r;
    const struct sp_volume *v = s->volume;
    struct sp_error error;
    struct sp_arena arena;
    memset(&r, 0, sizeof r);
    sp_arena_init(&arena, 16U << 20);
    for (size_t i = 0; i < v->segments_count; i++) {
        const struct sp_volume_segment *segment = &v->segments[i];
        struct sp_segment_id id = {v->id, segment->segment, segment->generation};
        const struct sim_shadow *shadow = sim_shadow_of(s, segment->segment);
        struct sp_segment_head head;
        struct sp_log_end end;
        struct sp_walker walker;
        struct sp_record record;
        struct sp_place place;
        size_t bytes = (size_t)segment->data_blocks * SP_UNIT_BLOCK_BYTES;
        uint8_t *blocks = malloc(bytes);
        sp_assert(blocks && sp_volume_read_blocks(s->volume, segment, 0, blocks,
                                                  segment->data_blocks, &error) == SP_OK);
        sp_assert(shadow->count == segment->data_blocks &&
                  memcmp(shadow->blocks, blocks, bytes) == 0);
        sp_segment_sound_end(blocks, segment->data_blocks, &id, &end);
        sp_assert(end.blocks == segment->data_blocks && end.lsn == segment->last_lsn);
        sp_assert(sp_segment_head_read(blocks, &head) == SP_OK);
        sp_assert(head.previous.lsn == r.lsn && head.next_lsn == r.lsn + 1);
        sp_assert(!head.manifest_lsn || (head.manifest_lsn == r.manifest_base &&
                                         head.manifest_segment == r.manifest_base_segment));
        sp_walker_init(&walker, blocks, segment->data_blocks, 0, &id);
        while (sp_walker_next(&walker, &record, &place)) {
            truth_record(&r, &record, segment->segment, &arena);
            sp_arena_release(&arena);
        }
        sp_walker_release(&walker);
        free(blocks);
    }
    sp_assert(r.lsn == v->end.lsn);
    sp_arena_release(&arena);
}
