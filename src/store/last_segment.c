/* Where the log ends: the last segment of the newest epoch, put together from its replicas.
 *
 * Every acknowledged batch is on every replica of its epoch; but a disk may have lost some of it
 * since. So the segment is merged, block by block, from all replicas that are here, each block
 * taken only where it is valid, in its place, and chained to the one before. The log goes on until
 * there is no such block, or two replicas have different ones: then the batch was on neither as the
 * other has it, and nobody was told that it was stored.
 *
 * Blocks of later batches behind that end prove that the batch in between was complete once, and
 * may have been acknowledged: then something is lost that no unit here has, and the volume does not
 * start as if it had never been.
 *
 * What a replica lacks of the merged segment is then written there (it is mended), and synced,
 * before anything is built on it. That can be done any number of times. See
 * docs/decisions/005-a-start-mends-the-last-segment.md.
 */
#include "base/log.h"
#include "base/time.h"
#include "store/breakage.h"
#include "store/volume_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define READ_BLOCKS 256U

void sp_last_segment_release(struct sp_last_segment *last)
{
    for (uint32_t i = 0; i < last->replicas_count; i++)
        free(last->replicas[i].blocks);
    free(last->merged);
    *last = (struct sp_last_segment){0};
}

/* ---- What each replica has ---- */

static bool is_of_epoch(const struct sp_volume *v, uint64_t epoch_id, uint64_t segment,
                        uint32_t index, const uint8_t *block, struct sp_block_header *ret)
{
    return sp_block_read(block, ret) == SP_OK && sp_uuid_eq(&ret->volume, &v->id) &&
           ret->epoch_id == epoch_id && ret->segment == segment && ret->generation == 0 &&
           ret->index == index;
}

static bool reads_as_head(struct sp_volume *v, struct sp_unit *unit, uint64_t segment,
                          uint64_t epoch_id)
{
    uint8_t block[SP_BLOCK_BYTES];
    struct sp_segment_head head;
    struct sp_block_header header;
    return unit->ops->read(unit, segment, 0, 0, block, 1, NULL) == SP_OK &&
           is_of_epoch(v, epoch_id, segment, 0, block, &header) &&
           sp_segment_head_read(block, &head) == SP_OK;
}

/* The file's blocks; those that cannot be read are zeros, which are no valid blocks. */
static enum sp_status read_image(struct sp_unit *unit, const struct sp_unit_segment *file,
                                 uint8_t **ret_blocks)
{
    uint8_t *blocks = calloc(file->blocks ? file->blocks : 1, SP_BLOCK_BYTES);
    if (!blocks)
        return SP_NO_MEMORY;
    for (uint32_t at = 0; at < file->blocks; at += READ_BLOCKS) {
        uint32_t n = file->blocks - at < READ_BLOCKS ? file->blocks - at : READ_BLOCKS;
        uint8_t *to = blocks + (size_t)at * SP_BLOCK_BYTES;
        if (unit->ops->read(unit, file->segment, file->generation, at, to, n, NULL) == SP_OK)
            continue;
        for (uint32_t i = 0; i < n; i++)
            if (unit->ops->read(unit, file->segment, file->generation, at + i,
                                to + (size_t)i * SP_BLOCK_BYTES, 1, NULL) != SP_OK)
                memset(to + (size_t)i * SP_BLOCK_BYTES, 0, SP_BLOCK_BYTES);
    }
    *ret_blocks = blocks;
    return SP_OK;
}

static const struct sp_unit_segment *file_of(const struct sp_listing *listing, uint64_t segment)
{
    return sp_listing_find(listing, segment, 0);
}

static void find_newest(struct sp_volume *v, const struct sp_segment_head *epoch,
                        const struct sp_listing *listing, struct sp_replica *r)
{
    for (size_t i = listing->count; i-- > 0 && !r->segment;) {
        const struct sp_unit_segment *file = &listing->list[i];
        if (file->segment >= epoch->segment && file->generation == 0 &&
            reads_as_head(v, r->member->unit, file->segment, epoch->epoch_id))
            r->segment = file->segment;
    }
}

/* ---- Merging ---- */

/* The block that the replicas agree on; NULL: none of them has one, or they have different ones. */
static const uint8_t *agreed(const struct sp_volume *v, const struct sp_last_segment *last,
                             uint64_t epoch_id, uint32_t index, uint64_t chain)
{
    const uint8_t *found = NULL;
    for (uint32_t i = 0; i < last->replicas_count; i++) {
        const struct sp_replica *r = &last->replicas[i];
        const uint8_t *block = r->blocks + (size_t)index * SP_BLOCK_BYTES;
        struct sp_block_header header;
        if (index >= r->count || !is_of_epoch(v, epoch_id, last->segment, index, block, &header) ||
            (index && header.chain != chain))
            continue;
        if (found && memcmp(found, block, SP_BLOCK_BYTES) != 0)
            return NULL;
        found = block;
    }
    return found;
}

static enum sp_status merge(const struct sp_volume *v, const struct sp_segment_head *epoch,
                            struct sp_last_segment *last)
{
    uint32_t length = 0, count = 0;
    uint64_t chain = 0;
    for (uint32_t i = 0; i < last->replicas_count; i++)
        if (last->replicas[i].count > length)
            length = last->replicas[i].count;
    last->merged = malloc((size_t)length * SP_BLOCK_BYTES + 1);
    if (!last->merged)
        return SP_NO_MEMORY;
    for (; count < length; count++) {
        const uint8_t *block = agreed(v, last, epoch->epoch_id, count, chain);
        if (!block)
            break;
        memcpy(last->merged + (size_t)count * SP_BLOCK_BYTES, block, SP_BLOCK_BYTES);
        chain = sp_block_chain(block);
    }
    struct sp_segment_id id = {v->id, last->segment, 0};
    sp_segment_sound_end(last->merged, count, &id, &last->end);
    if (SP_BREAK(keep_incomplete))
        last->end.blocks = count, last->end.chain = chain;
    return SP_OK;
}

/* ---- Holes ---- */

/* SP_OK: the loss is accepted. */
static enum sp_status hole(struct sp_volume *v, uint64_t lsn, uint64_t segment,
                           const struct sp_volume_member *member, struct sp_error *error)
{
    sp_error_set(error, SP_UNAVAILABLE, v->name,
                 "LSNs from %" PRIu64 " on are lacking: unit %s has blocks of segment %" PRIu64
                 " that come after them, and no unit that is here has them sound",
                 lsn, member->name, segment);
    sp_error_todo(error,
                  "attach the units that are absent; with what there is, use `sternpost "
                  "recover scan` and `recover rebuild`, or `sternpost serve --accept-loss "
                  "%s`",
                  v->name);
    return sp_loss_pass(v, error) ? SP_OK : SP_UNAVAILABLE;
}

/* Whether any block of the epoch stands in the file from `from` on that belongs to a batch after
 * `batch`. */
static bool has_later(const struct sp_volume *v, uint64_t epoch_id, uint64_t segment,
                      const uint8_t *blocks, uint32_t from, uint32_t count, uint64_t batch)
{
    for (uint32_t i = from; i < count; i++) {
        struct sp_block_header header;
        if (is_of_epoch(v, epoch_id, segment, i, blocks + (size_t)i * SP_BLOCK_BYTES, &header) &&
            !(header.flags & SP_BLOCK_FOOTER) && header.batch > batch)
            return true;
    }
    return false;
}

/* Segments after the last one whose head is lost: a head is durable before the first batch is
 * written, so any other block of it shows that the head was there. */
static enum sp_status look_for_headless(struct sp_volume *v, const struct sp_segment_head *epoch,
                                        const struct sp_last_segment *last,
                                        const struct sp_listing *listings, uint64_t lsn,
                                        struct sp_error *error)
{
    for (uint32_t i = 0; i < last->replicas_count; i++) {
        const struct sp_replica *r = &last->replicas[i];
        const struct sp_listing *listing = &listings[r->member - v->members];
        for (size_t k = 0; k < listing->count; k++) {
            const struct sp_unit_segment *file = &listing->list[k];
            uint8_t *blocks;
            if (file->segment < epoch->segment || file->segment <= last->segment ||
                file->generation != 0)
                continue;
            enum sp_status status = read_image(r->member->unit, file, &blocks);
            if (status != SP_OK)
                return sp_error_set(error, status, v->name, "no memory to read a segment");
            bool found = has_later(v, epoch->epoch_id, file->segment, blocks, 1, file->blocks, 0);
            free(blocks);
            if (found && hole(v, lsn, file->segment, r->member, error) != SP_OK)
                return SP_UNAVAILABLE;
        }
    }
    return SP_OK;
}

/* ---- Who is stale ---- */

/* Whether the replica has all data blocks of the segment that comes before the last. */
static enum sp_status has_before(const struct sp_replica *r, const struct sp_listing *listing,
                                 const struct sp_uuid *volume, const struct sp_log_end *before,
                                 bool *ret_has)
{
    const struct sp_unit_segment *file =
        sp_listing_find(listing, before->segment, before->generation);
    struct sp_segment_id id = {*volume, before->segment, before->generation};
    struct sp_log_end end;
    uint8_t *blocks;
    *ret_has = false;
    if (!file) {
        /* Or it was written anew since. */
        for (size_t i = 0; i < listing->count; i++)
            *ret_has |= listing->list[i].segment == before->segment &&
                        listing->list[i].generation > before->generation;
        return SP_OK;
    }
    enum sp_status status = read_image(r->member->unit, file, &blocks);
    if (status != SP_OK)
        return status;
    sp_segment_sound_end(blocks, file->blocks, &id, &end);
    free(blocks);
    *ret_has = end.blocks >= before->blocks;
    return SP_OK;
}

/* A replica that lacks more than the last segment missed what the others have. One that has nothing
 * of the epoch yet had all that came before when the epoch began, or is an older copy of itself. */
static enum sp_status check_stale(struct sp_volume *v, const struct sp_segment_head *epoch,
                                  struct sp_last_segment *last, const struct sp_listing *listings,
                                  const struct sp_log_end *before)
{
    for (uint32_t i = 0; i < last->replicas_count; i++) {
        struct sp_replica *r = &last->replicas[i];
        struct sp_volume_member *m = r->member;
        bool fresh = r->segment == 0 && last->segment == epoch->segment;
        bool good = r->blocks || (fresh && (!before->segment || m->from_lsn > before->lsn));
        if (!good && (fresh || r->segment == before->segment)) {
            enum sp_status status = has_before(r, &listings[m - v->members], &v->id, before, &good);
            if (status != SP_OK)
                return status;
        }
        if (good)
            continue;
        m->state = SP_UNIT_STALE;
        snprintf(m->why, sizeof m->why, "it lacks segments from %" PRIu64 " on, up to LSN %" PRIu64,
                 r->segment ? r->segment + 1 : before->segment, last->end.lsn);
    }
    return SP_OK;
}

enum sp_status sp_last_segment_find(struct sp_volume *v, const struct sp_segment_head *epoch,
                                    const struct sp_log_end *limit,
                                    const struct sp_listing *listings,
                                    struct sp_last_segment *ret_last, struct sp_error *error)
{
    struct sp_last_segment *last = ret_last;
    struct sp_segment_head head;
    enum sp_status status = SP_OK;
    *last = (struct sp_last_segment){0};
    for (uint32_t i = 0; i < v->members_count; i++) {
        if (v->members[i].state != SP_UNIT_REPLICA)
            continue;
        struct sp_replica *r = &last->replicas[last->replicas_count++];
        *r = (struct sp_replica){.member = &v->members[i]};
        if (!limit)
            find_newest(v, epoch, &listings[i], r);
        else if (file_of(&listings[i], limit->segment))
            r->segment = limit->segment;
        if (r->segment > last->segment)
            last->segment = r->segment;
    }
    if (last->replicas_count == 0) {
        sp_error_set(error, SP_UNAVAILABLE, v->name,
                     "no replica of epoch %u is here: LSNs from %" PRIu64 " on are lacking",
                     epoch->epoch_counter, epoch->next_lsn);
        sp_error_todo(error, "attach one of its replicas");
        return SP_UNAVAILABLE;
    }
    if (last->segment == 0) {
        last->end = epoch->previous; /* the epoch was voted for, and nothing was written in it */
        return look_for_headless(v, epoch, last, listings, epoch->next_lsn, error);
    }
    for (uint32_t i = 0; i < last->replicas_count && status == SP_OK; i++) {
        struct sp_replica *r = &last->replicas[i];
        const struct sp_unit_segment *file =
            file_of(&listings[r->member - v->members], last->segment);
        if (!file)
            continue;
        status = read_image(r->member->unit, file, &r->blocks);
        r->count = status == SP_OK ? file->blocks : 0;
        if (limit && r->count > limit->blocks)
            r->count = limit->blocks;
    }
    if (status == SP_OK)
        status = merge(v, epoch, last);
    if (status != SP_OK)
        return sp_error_set(error, status, v->name, "no memory to read the last segment");
    if (last->end.blocks == 0) {
        /* Two heads: the segment was begun twice, and nothing was written in it. */
        for (uint32_t i = 0; i < last->replicas_count; i++)
            if (last->replicas[i].segment == last->segment &&
                sp_segment_head_read(last->replicas[i].blocks, &head) == SP_OK)
                last->end = head.previous;
        last->segment = 0;
        return SP_OK;
    }
    for (uint32_t i = 0; i < last->replicas_count; i++) {
        const struct sp_replica *r = &last->replicas[i];
        if (has_later(v, epoch->epoch_id, last->segment, r->blocks, last->end.blocks, r->count,
                      last->end.batch + 1) &&
            hole(v, last->end.lsn + 1, last->segment, r->member, error) != SP_OK)
            return SP_UNAVAILABLE;
    }
    status = look_for_headless(v, epoch, last, listings, last->end.lsn + 1, error);
    if (status != SP_OK)
        return status;
    if (sp_segment_head_read(last->merged, &head) != SP_OK)
        return sp_error_set(error, SP_CORRUPT, v->name, "the last segment's head is damaged");
    status = check_stale(v, epoch, last, listings, &head.previous);
    return status == SP_OK ? SP_OK
                           : sp_error_set(error, status, v->name, "no memory to read a segment");
}

/* ---- Mending ---- */

static enum sp_status write_blocks(struct sp_volume *v, struct sp_unit *unit, uint64_t segment,
                                   uint32_t first, const uint8_t *blocks, uint32_t count,
                                   bool *ret_stalled, struct sp_error *error)
{
    uint64_t start = sp_now_ms();
    enum sp_status status;
    unit->ops->write_start(unit, segment, 0, first, blocks, count);
    do
        status = unit->ops->wait(unit, v->unit_timeout_ms, error);
    while (status == SP_TIMEOUT && sp_now_ms() - start < 10ULL * v->unit_timeout_ms);
    *ret_stalled = status == SP_TIMEOUT;
    return status;
}

/* Writes what the replica lacks, run by run. */
static enum sp_status mend(struct sp_volume *v, struct sp_last_segment *last, struct sp_replica *r,
                           uint8_t *aligned, bool *ret_stalled, struct sp_error *error)
{
    struct sp_unit *unit = r->member->unit;
    uint32_t mended = 0;
    enum sp_status status = SP_OK;
    if (!r->blocks) {
        status = unit->ops->create(unit, last->segment, 0, last->end.blocks, error);
        if (status == SP_EXISTS)
            status = SP_OK;
    }
    for (uint32_t at = 0; status == SP_OK && at < last->end.blocks;) {
        uint32_t n = 0;
        for (; n < READ_BLOCKS && at + n < last->end.blocks; n++) {
            size_t offset = (size_t)(at + n) * SP_BLOCK_BYTES;
            if (at + n < r->count &&
                memcmp(r->blocks + offset, last->merged + offset, SP_BLOCK_BYTES) == 0)
                break;
            memcpy(aligned + (size_t)n * SP_BLOCK_BYTES, last->merged + offset, SP_BLOCK_BYTES);
        }
        if (n)
            status = write_blocks(v, unit, last->segment, at, aligned, n, ret_stalled, error);
        mended += n;
        at += n ? n : 1;
    }
    if (mended)
        sp_log(SP_LOG_WARN, "unit.mend",
               "volume=%s unit=%s segment=%" PRIu64 " blocks=%" PRIu32 " lsn=%" PRIu64 " status=%s",
               v->name, r->member->name, last->segment, mended, last->end.lsn,
               sp_status_name(status));
    return status;
}

enum sp_status sp_last_segment_mend(struct sp_volume *v, struct sp_last_segment *last,
                                    struct sp_error *error)
{
    enum sp_status outcome = SP_OK;
    for (uint32_t i = 0; i < last->replicas_count && last->segment; i++) {
        struct sp_replica *r = &last->replicas[i];
        bool stalled = false;
        if (r->member->state != SP_UNIT_REPLICA)
            continue;
        uint8_t *aligned = aligned_alloc(SP_BLOCK_BYTES, (size_t)READ_BLOCKS * SP_BLOCK_BYTES);
        if (!aligned)
            return sp_error_set(error, SP_NO_MEMORY, v->name, "out of memory");
        enum sp_status status = mend(v, last, r, aligned, &stalled, error);
        if (!stalled)
            free(aligned); /* otherwise the disk may still be reading it, for ever */
        if (status == SP_OK)
            continue;
        if (status == SP_NO_SPACE || status == SP_NO_MEMORY || sp_log_replicas(v) == 1)
            outcome = status; /* it must not be written to before it has what it lacks */
        else
            sp_log_eject(v, r->member, error->why);
    }
    return outcome;
}
