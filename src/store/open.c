/* Starting a volume: which epoch is the newest that can be proven, where the log ends, what of its
 * tail is adopted.
 *
 * The rule is DESIGN's: the highest epoch that can be proven wins, never the longest tail. Every
 * acknowledged batch is on every replica of its epoch, and an epoch is acknowledged in only when a
 * majority of the members voted for it; so any majority of members knows the newest epoch, and any
 * one of its replicas has all that was acknowledged in it.
 */
#include "base/log.h"
#include "base/time.h"
#include "store/volume_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* What one replica has of the newest epoch. */
struct replica_end {
    struct sp_volume_member *member;
    struct sp_log_end end; /* of its last complete batch; segment 0: it has nothing of this epoch */
    struct sp_segment_head head; /* of that segment */
    uint8_t *blocks;             /* of that segment, [0, end.blocks) at least */
    uint32_t count;
};

static void member_text(const struct sp_uuid *id, const struct sp_volume *v, char *ret, size_t size)
{
    char uuid[SP_UUID_TEXT];
    for (uint32_t i = 0; i < v->members_count; i++)
        if (sp_uuid_eq(&v->members[i].id, id) && v->members[i].unit) {
            snprintf(ret, size, "%s", v->members[i].name);
            return;
        }
    sp_uuid_text(id, uuid);
    snprintf(ret, size, "%s", uuid);
}

/* ---- Votes ---- */

static enum sp_status newest_epoch(struct sp_volume *v, struct sp_vote *ret_newest,
                                   struct sp_error *error)
{
    struct sp_vote newest = {0};
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_vote vote;
        if (!m->unit)
            continue;
        enum sp_status status = sp_vote_read(m->unit, &vote, error);
        if (status != SP_OK)
            return status;
        if (vote.promised_counter > v->epoch_counter)
            v->epoch_counter = (uint32_t)vote.promised_counter;
        if (vote.accepted && !sp_uuid_eq(&vote.head.volume, &v->id)) {
            sp_error_set(error, SP_INVALID, m->name, "it belongs to another volume");
            sp_error_todo(error, "correct the path of [unit %s], or the id of [volume %s]", m->name,
                          v->name);
            return SP_INVALID;
        }
        if (vote.accepted &&
            (!newest.accepted || vote.head.epoch_counter > newest.head.epoch_counter))
            newest = vote;
    }
    *ret_newest = newest;
    return SP_OK;
}

/* The states of the configured units, by the newest epoch's list; a majority of that list must be
 * here. */
static enum sp_status check_members(struct sp_volume *v, const struct sp_segment_head *head,
                                    struct sp_error *error)
{
    uint32_t present = 0;
    struct sp_buf missing;
    sp_buf_init(&missing, 1024);
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        const struct sp_member *listed = NULL;
        for (uint32_t k = 0; k < head->members_count; k++)
            if (m->unit && sp_uuid_eq(&head->members[k].unit, &m->id))
                listed = &head->members[k];
        if (!m->unit)
            continue;
        present += listed != NULL;
        if (!listed) {
            m->state = SP_UNIT_STALE;
            snprintf(m->why, sizeof m->why, "it is not among the units of epoch %u",
                     head->epoch_counter);
        } else if (listed->role == SP_MEMBER_REPLICA) {
            m->state = SP_UNIT_REPLICA;
            m->from_lsn = listed->ranges_count ? listed->ranges[0].first : head->next_lsn;
        } else if (listed->role == SP_MEMBER_EJECTED) {
            m->state = SP_UNIT_EJECTED;
            snprintf(m->why, sizeof m->why,
                     "it was ejected before epoch %u, and lacks LSNs from about %" PRIu64 " on",
                     head->epoch_counter, head->next_lsn);
        } else {
            m->state = listed->role == SP_MEMBER_WITNESS ? SP_UNIT_WITNESS : SP_UNIT_SPARE;
        }
    }
    /* Members that the configuration does not name (or that are absent) still count as voters. */
    for (uint32_t k = 0; k < head->members_count; k++) {
        bool here = false;
        char name[64];
        for (uint32_t i = 0; i < v->members_count; i++)
            here |= v->members[i].unit && sp_uuid_eq(&v->members[i].id, &head->members[k].unit);
        if (here)
            continue;
        member_text(&head->members[k].unit, v, name, sizeof name);
        sp_buf_addf(&missing, "%s%s", missing.len ? ", " : "", name);
    }
    if (present > head->members_count / 2) {
        sp_buf_release(&missing);
        return SP_OK;
    }
    sp_error_set(error, SP_UNAVAILABLE, v->name,
                 "only %u of the %u units of epoch %u are here, which proves nothing about the "
                 "newest; absent: %.*s",
                 present, head->members_count, head->epoch_counter, SP_FMT(sp_buf_slice(&missing)));
    sp_error_todo(error, "attach one of the absent units");
    sp_buf_release(&missing);
    return SP_UNAVAILABLE;
}

/* ---- Where the log ends ---- */

static enum sp_status read_image(struct sp_unit *unit, uint64_t segment, uint8_t **ret_blocks,
                                 uint32_t *ret_count, struct sp_error *error)
{
    struct sp_unit_segment *list = NULL;
    size_t count = 0;
    uint32_t length = 0;
    enum sp_status status = unit->ops->list(unit, &list, &count, error);
    if (status != SP_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        if (list[i].segment == segment && list[i].generation == 0)
            length = list[i].blocks;
    free(list);
    if (length == 0)
        return SP_NOT_FOUND;
    uint8_t *blocks = malloc((size_t)length * SP_BLOCK_BYTES);
    if (!blocks)
        return sp_error_set(error, SP_NO_MEMORY, unit->name, "no memory to read a segment");
    /* A read that fails leaves zeros: the sound end is then where it failed. */
    for (uint32_t at = 0; at < length; at += 256) {
        uint32_t n = length - at < 256 ? length - at : 256;
        if (unit->ops->read(unit, segment, 0, at, blocks + (size_t)at * SP_BLOCK_BYTES, n, NULL) ==
            SP_OK)
            continue;
        for (uint32_t i = at; i < at + n; i++)
            if (unit->ops->read(unit, segment, 0, i, blocks + (size_t)i * SP_BLOCK_BYTES, 1,
                                NULL) != SP_OK)
                memset(blocks + (size_t)i * SP_BLOCK_BYTES, 0, SP_BLOCK_BYTES);
    }
    *ret_blocks = blocks;
    *ret_count = length;
    return SP_OK;
}

/* The last segment of the epoch that the replica has, and how far it is sound. */
static enum sp_status find_replica_end(struct sp_volume *v, const struct sp_segment_head *epoch,
                                       struct sp_volume_member *member, struct replica_end *ret,
                                       struct sp_error *error)
{
    struct sp_unit_segment *list = NULL;
    size_t count = 0;
    uint64_t last = 0;
    uint8_t block[SP_BLOCK_BYTES];
    struct sp_segment_head head;
    *ret = (struct replica_end){.member = member};
    enum sp_status status = member->unit->ops->list(member->unit, &list, &count, error);
    if (status != SP_OK)
        return status;
    for (size_t i = count; i-- > 0;) {
        if (list[i].segment > v->segment_max)
            v->segment_max = list[i].segment;
        if (last || list[i].segment < epoch->segment || list[i].generation != 0 ||
            member->unit->ops->read(member->unit, list[i].segment, 0, 0, block, 1, NULL) != SP_OK ||
            sp_segment_head_read(block, &head) != SP_OK || head.epoch_id != epoch->epoch_id ||
            !sp_uuid_eq(&head.volume, &v->id))
            continue;
        last = list[i].segment;
        ret->head = head;
    }
    free(list);
    if (!last)
        return SP_OK;
    status = read_image(member->unit, last, &ret->blocks, &ret->count, error);
    if (status != SP_OK)
        return status;
    struct sp_segment_id id = {v->id, last, 0};
    sp_segment_sound_end(ret->blocks, ret->count, &id, &ret->end);
    if (ret->end.blocks == 0)
        ret->end.segment = 0;
    return SP_OK;
}

static bool is_behind(const struct sp_log_end *a, const struct sp_log_end *b)
{
    return a->segment != b->segment ? a->segment < b->segment : a->blocks < b->blocks;
}

/* From the replicas' ends: the end that all of them share, and the one that has the longest tail
 * behind it. A replica that lacks more than a tail is stale, and does not count. */
static enum sp_status common_end(struct sp_volume *v, const struct sp_segment_head *epoch,
                                 struct replica_end *ends, uint32_t count,
                                 struct sp_log_end *ret_end, struct replica_end **ret_longest,
                                 struct sp_error *error)
{
    struct replica_end *longest = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (!longest || is_behind(&longest->end, &ends[i].end))
            longest = &ends[i];
    if (!longest) {
        sp_error_set(error, SP_UNAVAILABLE, v->name,
                     "no replica of epoch %u is here: LSNs from %" PRIu64 " on are lacking",
                     epoch->epoch_counter, epoch->next_lsn);
        sp_error_todo(error, "attach one of its replicas");
        return SP_UNAVAILABLE;
    }
    *ret_longest = NULL;
    if (longest->end.segment == 0) {
        *ret_end = epoch->previous; /* the epoch was voted for, and nothing was written in it */
        return SP_OK;
    }
    struct sp_log_end end = longest->end;
    const struct sp_log_end *before = &longest->head.previous;
    for (uint32_t i = 0; i < count; i++) {
        const struct sp_log_end *e = &ends[i].end;
        if (e->segment == longest->end.segment) {
            if (sp_block_chain(longest->blocks + (size_t)(e->blocks - 1) * SP_BLOCK_BYTES) !=
                e->chain)
                return sp_error_set(
                    error, SP_CORRUPT, v->name,
                    "units %s and %s differ in segment %" PRIu64 " before block %u: two histories",
                    longest->member->name, ends[i].member->name, e->segment, e->blocks);
            if (e->blocks < end.blocks && end.segment == e->segment)
                end = *e;
        } else if (e->segment == 0 ? longest->end.segment == epoch->segment
                                   : e->segment == before->segment && e->blocks >= before->blocks) {
            end = *before; /* the segment was begun on the others only */
        } else {
            struct sp_volume_member *m = ends[i].member;
            m->state = SP_UNIT_STALE;
            snprintf(m->why, sizeof m->why, "it lacks LSNs %" PRIu64 " to %" PRIu64, e->lsn + 1,
                     longest->end.lsn);
            sp_log(SP_LOG_ERROR, "unit.stale", "volume=%s unit=%s why=\"%s\"", v->name, m->name,
                   m->why);
        }
    }
    *ret_end = end;
    if (is_behind(&end, &longest->end))
        *ret_longest = longest;
    return SP_OK;
}

/* ---- The list of segments, back from the end by what the heads say ---- */

static enum sp_status find_generation(struct sp_volume *v, uint64_t segment, uint32_t declared,
                                      uint32_t *ret_generation)
{
    bool found = false;
    *ret_generation = declared;
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_unit_segment *list = NULL;
        size_t count = 0;
        struct sp_unit *unit = v->members[i].unit;
        if (!unit || unit->ops->list(unit, &list, &count, NULL) != SP_OK)
            continue;
        for (size_t k = 0; k < count; k++) {
            if (list[k].segment != segment || list[k].generation < *ret_generation)
                continue;
            *ret_generation = list[k].generation;
            found = true;
        }
        free(list);
    }
    return found ? SP_OK : SP_NOT_FOUND;
}

/* Reads head and trailer of a segment from whichever unit has them. */
static enum sp_status look_at_segment(struct sp_volume *v, const struct sp_log_end *end,
                                      struct sp_volume_segment *ret,
                                      struct sp_segment_head *ret_head)
{
    uint8_t block[SP_BLOCK_BYTES];
    bool have_head = false;
    struct sp_volume_segment s = {.segment = end->segment,
                                  .epoch_id = end->epoch_id,
                                  .data_blocks = end->blocks,
                                  .last_lsn = end->lsn};
    enum sp_status status = find_generation(v, end->segment, end->generation, &s.generation);
    for (uint32_t i = 0; i < v->members_count && status == SP_OK; i++) {
        struct sp_unit *unit = v->members[i].unit;
        struct sp_unit_segment *list = NULL;
        struct sp_block_header header;
        struct sp_trailer trailer;
        size_t count = 0;
        if (!unit || unit->ops->list(unit, &list, &count, NULL) != SP_OK)
            continue;
        uint32_t length = 0;
        for (size_t k = 0; k < count; k++)
            if (list[k].segment == s.segment && list[k].generation == s.generation)
                length = list[k].blocks;
        free(list);
        if (length == 0)
            continue;
        if (!have_head &&
            unit->ops->read(unit, s.segment, s.generation, 0, block, 1, NULL) == SP_OK &&
            sp_segment_head_read(block, ret_head) == SP_OK &&
            sp_uuid_eq(&ret_head->volume, &v->id) && ret_head->segment == s.segment &&
            ret_head->epoch_id == end->epoch_id)
            have_head = true;
        if (!s.sealed &&
            unit->ops->read(unit, s.segment, s.generation, length - 1, block, 1, NULL) == SP_OK &&
            sp_trailer_read(block, &header, &trailer) == SP_OK &&
            sp_uuid_eq(&header.volume, &v->id) && header.segment == s.segment &&
            header.generation == s.generation && header.epoch_id == end->epoch_id &&
            (s.generation > end->generation || trailer.data_blocks == end->blocks)) {
            s.sealed = true;
            s.digest = trailer.digest;
            s.data_blocks = trailer.data_blocks;
        }
    }
    if (status != SP_OK || !have_head)
        return SP_NOT_FOUND;
    s.first_lsn = ret_head->next_lsn;
    *ret = s;
    return SP_OK;
}

static enum sp_status list_segments(struct sp_volume *v, struct sp_error *error)
{
    struct sp_log_end end = v->end;
    enum sp_status status = SP_OK;
    while (end.segment && status == SP_OK) {
        struct sp_volume_segment segment;
        struct sp_segment_head head;
        status = look_at_segment(v, &end, &segment, &head);
        if (status != SP_OK) {
            sp_error_set(error, SP_UNAVAILABLE, v->name,
                         "segment %" PRIu64 ", which holds LSNs up to %" PRIu64
                         ", is on no unit that is here",
                         end.segment, end.lsn);
            sp_error_todo(
                error,
                "attach the units that were ejected or are absent, or use `sternpost recover`");
            return SP_UNAVAILABLE;
        }
        status = sp_volume_add_segment(v, &segment);
        if (head.previous.segment >= end.segment)
            return sp_error_set(error, SP_CORRUPT, v->name,
                                "segment %" PRIu64 " names no earlier predecessor", end.segment);
        end = head.previous;
    }
    for (size_t i = 0, k = v->segments_count; status == SP_OK && i + 1 < k--; i++) {
        struct sp_volume_segment swap = v->segments[i];
        v->segments[i] = v->segments[k];
        v->segments[k] = swap;
    }
    /* The end of a segment that was rewritten is its own, not the one that was declared of the
     * older generation. */
    if (v->segments_count && v->segments[v->segments_count - 1].generation != v->end.generation) {
        v->end.generation = v->segments[v->segments_count - 1].generation;
        v->end.blocks = v->segments[v->segments_count - 1].data_blocks;
    }
    return status;
}

/* ---- The tail ---- */

/* The records behind the common end, as the next epoch's first batch. */
static enum sp_status gather_tail(struct sp_volume *v, const struct replica_end *longest)
{
    struct sp_walker walker;
    struct sp_record record;
    struct sp_place place;
    struct sp_segment_id id = {v->id, longest->end.segment, 0};
    sp_walker_init(&walker, longest->blocks, longest->end.blocks, 0, &id);
    while (sp_walker_next(&walker, &record, &place) && !v->batch.failed)
        if (record.lsn > v->end.lsn)
            sp_batch_add(&v->batch, &record);
    sp_walker_release(&walker);
    return v->batch.failed ? SP_NO_MEMORY : SP_OK;
}

/* Writes the adopted tail into the new epoch; the index then takes it from there. */
static enum sp_status adopt_tail(struct sp_volume *v)
{
    bool moved;
    if (v->batch.records == 0)
        return SP_OK;
    sp_log(SP_LOG_INFO, "volume.adopt", "volume=%s records=%u lsn=%" PRIu64 "-%" PRIu64, v->name,
           v->batch.records, v->batch.first_lsn, v->batch.last_lsn);
    v->next_lsn = v->batch.last_lsn + 1;
    return sp_log_append(v, &moved);
}

/* ---- The whole of it ---- */

static enum sp_status begin_fresh(struct sp_volume *v, struct sp_error *error)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_unit_segment *list = NULL;
        size_t count = 0;
        if (!m->unit) {
            sp_error_set(error, SP_UNAVAILABLE, v->name,
                         "unit %s is absent, and no other unit knows of an epoch: %s", m->name,
                         m->why);
            sp_error_todo(error, "a volume begins with all its units; attach %s", m->name);
            return SP_UNAVAILABLE;
        }
        enum sp_status status = m->unit->ops->list(m->unit, &list, &count, error);
        free(list);
        if (status != SP_OK)
            return status;
        if (count) {
            sp_error_set(error, SP_CORRUPT, m->name,
                         "it has segments, but no vote says of which epoch");
            sp_error_todo(error, "nothing is touched; use `sternpost recover scan` on it");
            return SP_CORRUPT;
        }
        m->from_lsn = 1;
    }
    return SP_OK;
}

static void say_states(const struct sp_volume *v)
{
    static const char *const names[] = {"replica", "spare", "witness",
                                        "ejected", "stale", "absent"};
    for (uint32_t i = 0; i < v->members_count; i++)
        if (v->members[i].state >= SP_UNIT_EJECTED)
            sp_log(SP_LOG_WARN, "unit.out", "volume=%s unit=%s state=%s why=\"%s\"", v->name,
                   v->members[i].name, names[v->members[i].state], v->members[i].why);
}

static enum sp_status seal_last(struct sp_volume *v, struct sp_error *error)
{
    if (v->segments_count == 0)
        return SP_OK;
    struct sp_volume_segment *last = &v->segments[v->segments_count - 1];
    enum sp_status status = sp_volume_rebuild_footer(v, last, error);
    if (status != SP_OK || last->sealed)
        return status;
    struct sp_block_header header = v->last_header;
    return sp_log_seal(v, last, &header, v->end.chain);
}

static enum sp_status find_end(struct sp_volume *v, struct sp_error *error)
{
    struct sp_vote newest;
    struct replica_end ends[SP_VOLUME_UNITS_MAX] = {{0}}, *longest = NULL;
    uint32_t count = 0;
    enum sp_status status = newest_epoch(v, &newest, error);
    if (status != SP_OK)
        return status;
    if (!newest.accepted)
        return begin_fresh(v, error);
    status = check_members(v, &newest.head, error);
    for (uint32_t i = 0; i < v->members_count && status == SP_OK; i++) {
        if (v->members[i].state != SP_UNIT_REPLICA)
            continue;
        status = find_replica_end(v, &newest.head, &v->members[i], &ends[count], error);
        count++;
    }
    if (v->segment_max < newest.head.segment)
        v->segment_max = newest.head.segment;
    if (status == SP_OK)
        status = common_end(v, &newest.head, ends, count, &v->end, &longest, error);
    if (status == SP_OK)
        status = list_segments(v, error);
    v->next_lsn = v->end.lsn + 1;
    if (status == SP_OK && longest)
        status = gather_tail(v, longest);
    for (uint32_t i = 0; i < count; i++)
        free(ends[i].blocks);
    if (v->epoch_counter < newest.head.epoch_counter)
        v->epoch_counter = newest.head.epoch_counter;
    return status;
}

static enum sp_status start(struct sp_volume *v, const struct sp_volume_config *config,
                            struct sp_error *error)
{
    enum sp_status status = find_end(v, error);
    if (status != SP_OK)
        return status;
    say_states(v);
    size_t old_segments = v->segments_count;
    /* An epoch that cannot be begun is not an error: the volume opens for reading, and defers. */
    bool sealed = old_segments == 0;
    sp_log_recruit(v);
    if (sp_log_replicas(v) >= (v->degraded_accept ? 1 : v->min_copies)) {
        status = seal_last(v, error);
        if (status != SP_OK)
            return status;
        sealed = true;
    }
    status = sp_log_begin_epoch(v);
    if (status == SP_OK)
        status = adopt_tail(v);
    if (status != SP_OK && status != SP_UNAVAILABLE && status != SP_NO_SPACE)
        return sp_error_set(error, status, v->name, "cannot begin an epoch: %s",
                            sp_status_name(status));
    if (status != SP_OK && old_segments == 0)
        return sp_error_set(error, status, v->name, "%s", v->why_not);
    if (!sealed)
        sp_log(SP_LOG_WARN, "volume.readonly", "volume=%s why=\"%s\"", v->name, v->why_not);
    return sp_volume_roll_index(v, config->index_path, config->index_map_bytes,
                                config->index_rebuild, error);
}

static enum sp_status take_config(struct sp_volume *v, const struct sp_volume_config *config,
                                  struct sp_error *error)
{
    pthread_condattr_t attr;
    snprintf(v->name, sizeof v->name, "%s", config->name);
    v->id = config->id;
    v->min_copies = config->min_copies ? config->min_copies : 1;
    v->degraded_accept = config->degraded_accept;
    v->threaded = config->threaded;
    v->segment_bytes = config->segment_bytes ? config->segment_bytes : SP_SEGMENT_BYTES_DEFAULT;
    v->unit_timeout_ms = config->unit_timeout_ms ? config->unit_timeout_ms : 2000;
    v->batch_plans_max = config->batch_plans_max ? config->batch_plans_max : 1024;
    v->queue_bytes_max = config->queue_bytes_max ? config->queue_bytes_max : 256U << 20;
    v->progress = config->progress;
    v->progress_context = config->progress_context;
    v->next_lsn = 1;
    v->members_count = config->units_count;
    for (uint32_t i = 0; i < config->units_count; i++) {
        const struct sp_volume_unit *u = &config->units[i];
        struct sp_volume_member *m = &v->members[i];
        snprintf(m->name, sizeof m->name, "%s", u->name);
        m->unit = u->unit;
        m->state = !u->unit     ? SP_UNIT_ABSENT
                   : u->witness ? SP_UNIT_WITNESS
                   : u->spare   ? SP_UNIT_SPARE
                                : SP_UNIT_REPLICA;
        m->from_lsn = UINT64_MAX;
        v->replicas_wanted += !u->spare && !u->witness;
        if (u->unit) {
            m->id = u->unit->id;
            snprintf(m->domain, sizeof m->domain, "%s", u->unit->domain);
        } else {
            snprintf(m->why, sizeof m->why, "%.*s", (int)sizeof m->why - 1, u->why.why);
        }
    }
    pthread_mutex_init(&v->lock, NULL);
    pthread_rwlock_init(&v->segments_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&v->wake, &attr);
    pthread_condattr_destroy(&attr);
    sp_batch_init(&v->batch);
    v->footer = sp_footer_builder_new();
    v->touched = sp_touched_set_new();
    v->recent = sp_touched_set_new();
    if (!v->footer || !v->touched || !v->recent)
        return sp_error_set(error, SP_NO_MEMORY, v->name, "out of memory");
    return SP_OK;
}

static void volume_free(struct sp_volume *v, bool clean)
{
    sp_index_close(v->index, clean && !v->index_failed);
    for (uint32_t i = 0; i < v->members_count; i++)
        if (v->members[i].unit)
            v->members[i].unit->ops->close(v->members[i].unit);
    sp_footer_builder_free(v->footer);
    sp_touched_set_free(v->touched);
    sp_touched_set_free(v->recent);
    sp_batch_release(&v->batch);
    free(v->segments);
    free(v->sealed);
    pthread_mutex_destroy(&v->lock);
    pthread_rwlock_destroy(&v->segments_lock);
    pthread_cond_destroy(&v->wake);
    free(v);
}

enum sp_status sp_volume_open(const struct sp_volume_config *config, struct sp_volume **ret_volume,
                              struct sp_error *error)
{
    sp_assert(config->units_count <= SP_VOLUME_UNITS_MAX);
    struct sp_volume *v = calloc(1, sizeof *v);
    if (!v) {
        for (uint32_t i = 0; i < config->units_count; i++)
            if (config->units[i].unit)
                config->units[i].unit->ops->close(config->units[i].unit);
        return sp_error_set(error, SP_NO_MEMORY, config->name, "out of memory");
    }
    enum sp_status status = take_config(v, config, error);
    if (status == SP_OK)
        status = start(v, config, error);
    if (status == SP_OK)
        status = sp_committer_start(v, error);
    if (status != SP_OK) {
        volume_free(v, false);
        return status;
    }
    *ret_volume = v;
    return SP_OK;
}

void sp_volume_close(struct sp_volume *v)
{
    if (!v)
        return;
    sp_committer_stop(v);
    volume_free(v, true);
}

struct sp_index *sp_volume_index(struct sp_volume *v)
{
    return v->index;
}

void sp_volume_set_notify(struct sp_volume *v,
                          void (*notify)(void *context, const struct sp_uuid *account,
                                         uint32_t mailbox),
                          void *context)
{
    v->notify = notify;
    v->notify_context = context;
}

void sp_volume_status(struct sp_volume *v, struct sp_volume_status *ret_status)
{
    struct sp_volume_status status = {.min_copies = v->min_copies, .units_count = v->members_count};
    status.commits = v->commits;
    status.batches = v->batches;
    status.bytes = v->bytes;
    status.blocks_bad = v->blocks_bad;
    status.ejections = v->ejections;
    pthread_mutex_lock(&v->lock);
    status.end = v->end;
    status.epoch_counter = v->epoch_counter;
    status.deferring = !v->writable;
    for (uint32_t i = 0; i < v->members_count; i++) {
        const struct sp_volume_member *m = &v->members[i];
        struct sp_volume_unit_status *u = &status.units[i];
        memcpy(u->name, m->name, sizeof u->name);
        u->id = m->id;
        memcpy(u->domain, m->domain, sizeof u->domain);
        u->state = m->state;
        memcpy(u->why, m->why, sizeof u->why);
        status.copies += m->state == SP_UNIT_REPLICA && m->unit;
        for (uint32_t k = 0; k < i; k++)
            status.shared_domain |= v->members[k].state == SP_UNIT_REPLICA &&
                                    m->state == SP_UNIT_REPLICA && m->domain[0] &&
                                    strcmp(v->members[k].domain, m->domain) == 0;
    }
    pthread_mutex_unlock(&v->lock);
    for (uint32_t i = 0; i < v->members_count; i++)
        if (v->members[i].unit && v->members[i].unit->ops->space &&
            v->members[i].unit->ops->space(v->members[i].unit, &status.units[i].free_bytes, NULL) !=
                SP_OK)
            status.units[i].free_bytes = 0;
    *ret_status = status;
}
