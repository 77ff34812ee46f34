/* A simulated disk that lies about syncs, and copies of disks.
 *
 * While it lies everything is as if it were synced; what was there when it began is kept beside. At
 * the crash the disk is put together from the two: all as it was, or file by file, or block by
 * block.
 */
#include "unit/sim_internal.h"

#include <stdlib.h>

static void *copy_of(const void *bytes, size_t len)
{
    void *copy = malloc(len ? len : 1);
    sp_assert(copy);
    if (len)
        memcpy(copy, bytes, len);
    return copy;
}

static struct sp_sim_segment *segment_copy(const struct sp_sim_segment *segment)
{
    struct sp_sim_segment *copy = copy_of(segment, sizeof *segment);
    copy->stored = copy_of(segment->stored, (size_t)segment->stored_blocks * SP_UNIT_BLOCK_BYTES);
    return copy;
}

struct sp_sim_content *sp_sim_content_copy(const struct sp_sim_disk *disk)
{
    struct sp_sim_content *content = calloc(1, sizeof *content);
    sp_assert(content);
    content->segments = copy_of(disk->segments, disk->segments_count * sizeof *disk->segments);
    content->segments_count = disk->segments_count;
    for (size_t i = 0; i < disk->segments_count; i++)
        content->segments[i] = segment_copy(disk->segments[i]);
    if (disk->vote)
        content->vote = copy_of(disk->vote, disk->vote_len);
    content->vote_len = disk->vote_len;
    return content;
}

void sp_sim_content_free(struct sp_sim_content *content)
{
    if (!content)
        return;
    for (size_t i = 0; i < content->segments_count; i++)
        sp_sim_segment_free(content->segments[i]);
    free(content->segments);
    free(content->vote);
    free(content);
}

void sp_sim_content_take(struct sp_sim_disk *disk, struct sp_sim_content *content)
{
    for (size_t i = 0; i < disk->segments_count; i++)
        sp_sim_segment_free(disk->segments[i]);
    free(disk->segments);
    free(disk->vote);
    disk->segments = content->segments;
    disk->segments_count = content->segments_count;
    disk->vote = content->vote;
    disk->vote_len = content->vote_len;
    free(content);
}

static struct sp_sim_segment *find(const struct sp_sim_content *content,
                                   const struct sp_sim_segment *like)
{
    for (size_t i = 0; i < content->segments_count; i++)
        if (content->segments[i]->segment == like->segment &&
            content->segments[i]->generation == like->generation)
            return content->segments[i];
    return NULL;
}

/* Some blocks of the file are as they were before (old; NULL: it was not there). */
static uint64_t lose_blocks(struct sp_sim_segment *s, const struct sp_sim_segment *old,
                            uint64_t *random)
{
    uint64_t lost = 0;
    for (uint32_t i = 0; i < s->stored_blocks; i++) {
        static const uint8_t zeros[SP_UNIT_BLOCK_BYTES];
        uint8_t *block = s->stored + (size_t)i * SP_UNIT_BLOCK_BYTES;
        const uint8_t *before =
            old && i < old->stored_blocks ? old->stored + (size_t)i * SP_UNIT_BLOCK_BYTES : zeros;
        if (memcmp(block, before, SP_UNIT_BLOCK_BYTES) == 0 || sp_sim_random(random) % 2)
            continue;
        memcpy(block, before, SP_UNIT_BLOCK_BYTES);
        lost++;
    }
    return lost;
}

static bool same(const struct sp_sim_segment *a, const struct sp_sim_segment *b)
{
    size_t len = (size_t)a->stored_blocks * SP_UNIT_BLOCK_BYTES;
    return a->blocks == b->blocks && a->stored_blocks == b->stored_blocks &&
           (len == 0 || memcmp(a->stored, b->stored, len) == 0);
}

/* Takes what the other has, if it differs. */
static uint64_t lose_file(struct sp_sim_segment *s, const struct sp_sim_segment *old)
{
    if (same(s, old))
        return 0;
    struct sp_sim_segment *copy = segment_copy(old);
    free(s->stored);
    *s = *copy;
    free(copy);
    return 1;
}

static uint64_t lose_vote(struct sp_sim_disk *disk, const struct sp_sim_content *certain)
{
    if (disk->vote_len == certain->vote_len &&
        (!disk->vote_len || memcmp(disk->vote, certain->vote, disk->vote_len) == 0))
        return 0;
    free(disk->vote);
    disk->vote = certain->vote ? copy_of(certain->vote, certain->vote_len) : NULL;
    disk->vote_len = certain->vote_len;
    return 1;
}

void sp_sim_find_out(struct sp_sim_disk *disk, uint64_t *random)
{
    struct sp_sim_content *certain = disk->certain;
    uint64_t how = sp_sim_random(random) % 3, lost = 0; /* 0: all is as it was */
    sp_assert(disk->change.kind == SP_SIM_UNCHANGED);
    for (size_t i = disk->segments_count; i-- > 0;) {
        struct sp_sim_segment *s = disk->segments[i];
        const struct sp_sim_segment *old = find(certain, s);
        if (how == 2) {
            lost += lose_blocks(s, old, random);
        } else if (how == 0 || sp_sim_random(random) % 2) {
            if (old) {
                lost += lose_file(s, old);
                continue;
            }
            sp_sim_detach(disk, s);
            sp_sim_segment_free(s);
            lost++;
        }
    }
    if (how == 0 || sp_sim_random(random) % 2)
        lost += lose_vote(disk, certain);
    disk->effects[SP_SIM_DID_LIE] += lost;
    sp_sim_content_free(certain);
    disk->certain = NULL;
}
