/* Starting a volume: which epoch is the newest that can be proven, where the log ends, and which
 * segments it is made of.
 *
 * The rule is DESIGN's: the highest epoch that can be proven wins, never the longest tail. Every
 * acknowledged batch is on every replica of its epoch, and an epoch is acknowledged in only when a
 * majority of the members voted for it; so any majority of members knows the newest epoch, and any
 * one of its replicas has all that was acknowledged in it.
 */
#include "base/log.h"
#include "base/time.h"
#include "store/breakage.h"
#include "store/parity.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

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

/* It is here, and still cannot be counted on. */
static void leave_out(const struct sp_volume *v, struct sp_volume_member *m,
                      const struct sp_error *why)
{
    m->state = SP_UNIT_STALE;
    snprintf(m->why, sizeof m->why, "%.*s", (int)sizeof m->why - 1, why->why);
    sp_log(SP_LOG_ERROR, "unit.unsound", "volume=%s unit=%s why=%s", v->name, m->name,
           SP_LOG_QUOTED(m->why));
}

/* ---- What files there are ---- */

const struct sp_unit_segment *sp_listing_find(const struct sp_listing *listing, uint64_t segment,
                                              uint32_t generation)
{
    size_t low = 0, high = listing->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct sp_unit_segment *s = &listing->list[middle];
        if (s->segment == segment && s->generation == generation)
            return s;
        if (s->segment < segment || (s->segment == segment && s->generation < generation))
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct sp_unit_segment *sp_listing_newest(const struct sp_listing *listing, uint64_t segment)
{
    size_t low = 0, high = listing->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (listing->list[middle].segment <= segment)
            low = middle + 1;
        else
            high = middle;
    }
    return low && listing->list[low - 1].segment == segment ? &listing->list[low - 1] : NULL;
}

static void list_files(struct sp_volume *v, struct sp_listing *listings)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_error why = {0};
        if (!m->unit)
            continue;
        if (m->unit->ops->list(m->unit, &listings[i].list, &listings[i].count, &why) != SP_OK) {
            listings[i] = (struct sp_listing){0};
            m->vote_damaged = true;
            leave_out(v, m, &why);
            continue;
        }
        size_t count = listings[i].count;
        if (count && listings[i].list[count - 1].segment > v->segment_max)
            v->segment_max = listings[i].list[count - 1].segment;
    }
}

/* ---- Votes ---- */

static enum sp_status newest_epoch(struct sp_volume *v, const struct sp_listing *listings,
                                   struct sp_vote *ret_newest, struct sp_error *error)
{
    struct sp_vote newest = {0};
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_vote vote;
        if (!m->unit)
            continue;
        struct sp_error why = {0};
        if (sp_vote_read(m->unit, &vote, &why) != SP_OK) {
            m->vote_damaged = true; /* it proves nothing; the others must */
            leave_out(v, m, &why);
            continue;
        }
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
        if (SP_BREAK(longest_tail) && vote.accepted && listings[i].count &&
            listings[i].list[listings[i].count - 1].segment == v->segment_max)
            break;
    }
    *ret_newest = newest;
    return SP_OK;
}

/* A witness that was lost with the state folder, and made anew, has forgotten its vote: it is
 * another one, and the lost one is a voter no longer. That needs a majority with it, as every epoch
 * does. */
static void replace_witness(struct sp_volume *v, const struct sp_segment_head *head)
{
    bool fresh = false;
    for (uint32_t i = 0; i < v->members_count; i++) {
        bool listed = false;
        for (uint32_t k = 0; k < head->members_count; k++)
            listed |= sp_uuid_eq(&head->members[k].unit, &v->members[i].id);
        fresh |= v->members[i].makeshift && v->members[i].unit && !listed;
    }
    for (uint32_t i = 0; fresh && i < v->away_count; i++) {
        if (v->away[i].role != SP_MEMBER_WITNESS)
            continue;
        memmove(&v->away[i], &v->away[i + 1], (v->away_count - i - 1) * sizeof v->away[0]);
        v->away_count--;
        return;
    }
}

/* The states of the configured units, by the newest epoch's list; a majority of that list must be
 * here. */
static enum sp_status check_members(struct sp_volume *v, const struct sp_segment_head *head,
                                    const struct sp_listing *listings, struct sp_error *error)
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
        if (!m->unit || m->vote_damaged)
            continue;
        present += listed != NULL;
        if (!listed && listings[i].count == 0) {
            m->state = m->witness ? SP_UNIT_WITNESS : SP_UNIT_SPARE; /* a new one */
        } else if (!listed) {
            m->state = SP_UNIT_STALE;
            m->outside = true;
            snprintf(m->why, sizeof m->why, "it is not among the units of epoch %u",
                     head->epoch_counter);
        } else if (listed->role == SP_MEMBER_REPLICA ||
                   (SP_BREAK(ejected_is_current) && listed->role == SP_MEMBER_EJECTED)) {
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
            here |= v->members[i].unit && !v->members[i].vote_damaged &&
                    sp_uuid_eq(&v->members[i].id, &head->members[k].unit);
        if (here)
            continue;
        v->away[v->away_count++] = head->members[k];
        member_text(&head->members[k].unit, v, name, sizeof name);
        sp_buf_addf(&missing, "%s%s", missing.len ? ", " : "", name);
    }
    if (present > head->members_count / 2 || SP_BREAK(minority)) {
        sp_buf_release(&missing);
        replace_witness(v, head);
        return SP_OK;
    }
    sp_error_set(error, SP_UNAVAILABLE, v->name,
                 "only %u of the %u units of epoch %u are here, which proves nothing about the "
                 "newest; absent: %.*s",
                 present, head->members_count, head->epoch_counter, SP_FMT(sp_buf_slice(&missing)));
    sp_error_todo(error,
                  "attach one of the absent units; if they are lost, `sternpost serve "
                  "--accept-loss %s` goes on without what only they have",
                  v->name);
    sp_buf_release(&missing);
    return sp_loss_pass(v, error) ? SP_OK : SP_UNAVAILABLE;
}

/* ---- The list of segments, back from the end by what the heads say ---- */

/* Whether the unit's file ends with a trailer of that segment, generation and epoch. */
static bool read_trailer(const struct sp_volume *v, struct sp_unit *unit,
                         const struct sp_unit_segment *file, uint64_t epoch_id,
                         struct sp_trailer *ret_trailer)
{
    uint8_t block[SP_BLOCK_BYTES];
    struct sp_block_header header;
    return file->blocks &&
           unit->ops->read(unit, file->segment, file->generation, file->blocks - 1, block, 1,
                           NULL) == SP_OK &&
           sp_trailer_read(block, &header, ret_trailer) == SP_OK &&
           sp_uuid_eq(&header.volume, &v->id) && header.segment == file->segment &&
           header.generation == file->generation && header.epoch_id == epoch_id;
}

/* The newest generation of a segment that is whole: a rewritten one counts with its trailer, which
 * is written when all replicas have verified the rest. The units that are current say so; others
 * only where those have nothing of the segment. */
static uint32_t newest_generation(const struct sp_volume *v, const struct sp_listing *listings,
                                  const struct sp_log_end *end)
{
    uint32_t newest = end->generation;
    bool found = false;
    for (int current = 1; current >= 0 && !found; current--) {
        for (uint32_t i = 0; i < v->members_count; i++) {
            const struct sp_volume_member *m = &v->members[i];
            struct sp_trailer trailer;
            const struct sp_unit_segment *last = sp_listing_newest(&listings[i], end->segment);
            if (!m->unit || !last ||
                current != (m->state == SP_UNIT_REPLICA && m->from_lsn <= end->lsn))
                continue;
            for (size_t k = (size_t)(last - listings[i].list) + 1; k-- > 0;) {
                const struct sp_unit_segment *file = &listings[i].list[k];
                if (file->segment != end->segment || file->generation < newest)
                    break;
                if (file->generation > end->generation &&
                    !read_trailer(v, m->unit, file, end->epoch_id, &trailer))
                    continue;
                newest = file->generation;
                found = true;
                break;
            }
        }
    }
    return newest;
}

/* A head and a trailer that no unit has sound may be in the parity. */
static void look_at_parity(struct sp_volume *v, const struct sp_log_end *end,
                           struct sp_volume_segment *s, bool *have_head,
                           struct sp_segment_head *ret_head)
{
    uint8_t block[SP_BLOCK_BYTES];
    struct sp_block_header header;
    struct sp_trailer trailer;
    struct sp_volume_segment found = *s;
    if (sp_parity_describe(v, &found) != SP_OK ||
        (s->generation == end->generation && found.data_blocks != end->blocks))
        return;
    if (!s->sealed && found.footer_blocks &&
        sp_volume_read_blocks(v, &found, found.data_blocks + found.footer_blocks - 1, block, 1,
                              NULL) == SP_OK &&
        sp_trailer_read(block, &header, &trailer) == SP_OK &&
        trailer.data_blocks == found.data_blocks &&
        trailer.table_blocks + 1 == found.footer_blocks) {
        *s = found;
        s->sealed = true;
        s->digest = trailer.digest;
    }
    if (!*have_head)
        *have_head = sp_volume_read_blocks(v, &found, 0, block, 1, NULL) == SP_OK &&
                     sp_segment_head_read(block, ret_head) == SP_OK;
}

/* Reads head and trailer of a segment from whichever unit has them. */
static enum sp_status look_at_segment(struct sp_volume *v, const struct sp_listing *listings,
                                      const struct sp_log_end *end, struct sp_volume_segment *ret,
                                      struct sp_segment_head *ret_head)
{
    uint8_t block[SP_BLOCK_BYTES];
    bool have_head = false;
    struct sp_volume_segment s = {.segment = end->segment,
                                  .generation = newest_generation(v, listings, end),
                                  .epoch_id = end->epoch_id,
                                  .data_blocks = end->blocks,
                                  .last_lsn = end->lsn};
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_unit *unit = v->members[i].unit;
        struct sp_trailer trailer;
        const struct sp_unit_segment *file = sp_listing_find(&listings[i], s.segment, s.generation);
        if (!unit || !file || !file->blocks)
            continue;
        if (!have_head &&
            unit->ops->read(unit, s.segment, s.generation, 0, block, 1, NULL) == SP_OK &&
            sp_segment_head_read(block, ret_head) == SP_OK &&
            sp_uuid_eq(&ret_head->volume, &v->id) && ret_head->segment == s.segment &&
            ret_head->generation == s.generation && ret_head->epoch_id == end->epoch_id)
            have_head = true;
        if (!s.sealed && read_trailer(v, unit, file, end->epoch_id, &trailer) &&
            (s.generation > end->generation || trailer.data_blocks == end->blocks)) {
            s.sealed = true;
            s.digest = trailer.digest;
            s.data_blocks = trailer.data_blocks;
            s.footer_blocks = trailer.table_blocks + 1;
        }
    }
    if (!have_head || !s.sealed)
        look_at_parity(v, end, &s, &have_head, ret_head);
    if (!have_head)
        return SP_NOT_FOUND;
    s.first_lsn = ret_head->next_lsn;
    s.previous = ret_head->previous;
    *ret = s;
    return SP_OK;
}

/* Whether the member's file of a segment that has no records has its head: the LSNs that a head
 * says of a member do not tell whether it has such a segment, and a file may have been made for it
 * and nothing written yet. */
static bool has_head(const struct sp_volume *v, const struct sp_volume_member *m,
                     const struct sp_volume_segment *s)
{
    uint8_t block[SP_BLOCK_BYTES];
    return m->unit->ops->read(m->unit, s->segment, s->generation, 0, block, 1, NULL) == SP_OK &&
           sp_volume_is_block_of(v, s, 0, block);
}

/* From where on a replica has the log: as the last epoch's head says, but not where its file of a
 * segment is gone. What it lacks is brought to it. */
static void check_copies(struct sp_volume *v, const struct sp_listing *listings, bool mended)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        size_t k = v->segments_count;
        if (m->state != SP_UNIT_REPLICA)
            continue;
        for (; k > 0; k--) {
            const struct sp_volume_segment *s = &v->segments[k - 1];
            if (m->from_lsn > s->first_lsn ||
                ((k < v->segments_count || !mended) &&
                 (!sp_listing_find(&listings[i], s->segment, s->generation) ||
                  !sp_volume_has_trailer(v, m, s) ||
                  (s->last_lsn < s->first_lsn && !has_head(v, m, s)))))
                break;
        }
        m->lacks = k;
        if (k == 0 || m->from_lsn > v->segments[k - 1].first_lsn)
            continue;
        const struct sp_volume_segment *gone = &v->segments[k - 1];
        m->from_lsn = gone->last_lsn + 1;
        snprintf(m->why, sizeof m->why, "its copy of segment %" PRIu64 " was gone", gone->segment);
        sp_log(SP_LOG_ERROR, "unit.lacks", "volume=%s unit=%s segment=%" PRIu64 " lsn=%" PRIu64,
               v->name, m->name, gone->segment, gone->last_lsn);
    }
}

static enum sp_status list_segments(struct sp_volume *v, const struct sp_listing *listings,
                                    struct sp_error *error)
{
    struct sp_log_end end = v->end;
    enum sp_status status = SP_OK;
    struct sp_read read = {0};
    bool remembers = v->index && sp_read_begin(v->index, &read) == SP_OK;
    while (end.segment && status == SP_OK) {
        struct sp_volume_segment segment;
        struct sp_segment_head head;
        if (!remembers || sp_segments_recall(v, &read, listings, &end, &segment) != SP_OK)
            status = look_at_segment(v, listings, &end, &segment, &head);
        if (status != SP_OK) {
            sp_read_end(&read);
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
        if (status == SP_OK && !segment.known)
            status = sp_loss_note_head(v, &head, segment.data_blocks > 1);
        else
            v->loss.written |= segment.data_blocks > 1;
        if (segment.previous.segment >= end.segment) {
            sp_read_end(&read);
            return sp_error_set(error, SP_CORRUPT, v->name,
                                "segment %" PRIu64 " names no earlier predecessor", end.segment);
        }
        end = segment.previous;
    }
    sp_read_end(&read);
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

/* Units that have a history that was left behind are only read, until it is merged. */
static void find_foreign(struct sp_volume *v, const struct sp_listing *listings)
{
    for (uint32_t i = 0; i < v->members_count && v->left_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        struct sp_vote vote = {0};
        struct sp_error why;
        if (!m->unit || m->state == SP_UNIT_REPLICA || m->state == SP_UNIT_WITNESS ||
            (!m->vote_damaged && sp_vote_read(m->unit, &vote, &why) != SP_OK) ||
            !sp_left_is_foreign(v, m->unit, &vote, listings[i].list, listings[i].count))
            continue;
        m->foreign = true;
        m->state = SP_UNIT_STALE;
        snprintf(m->why, sizeof m->why, "it has a history that was left behind, to be merged");
    }
}

/* ---- The whole of it ---- */

static enum sp_status begin_fresh(struct sp_volume *v, const struct sp_listing *listings,
                                  struct sp_error *error)
{
    for (uint32_t i = 0; i < v->members_count; i++) {
        struct sp_volume_member *m = &v->members[i];
        if (!m->unit || m->vote_damaged) {
            sp_error_set(error, SP_UNAVAILABLE, v->name,
                         "unit %s is absent, and no other unit knows of an epoch: %s", m->name,
                         m->why);
            sp_error_todo(error, "a volume begins with all its units; attach %s", m->name);
            return SP_UNAVAILABLE;
        }
        if (listings[i].count) {
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
            sp_log(SP_LOG_WARN, "unit.out", "volume=%s unit=%s state=%s lsn=%" PRIu64 " why=%s",
                   v->name, v->members[i].name, names[v->members[i].state], v->end.lsn,
                   SP_LOG_QUOTED(v->members[i].why));
}

static enum sp_status seal_last(struct sp_volume *v, struct sp_error *error)
{
    if (v->segments_count == 0)
        return SP_OK;
    struct sp_volume_segment *last = &v->segments[v->segments_count - 1];
    enum sp_status status = sp_volume_rebuild_footer(v, last, error);
    /* What lies behind the end of a log that lost something is left as it is. */
    if (status != SP_OK || last->sealed || v->loss.pending)
        return status;
    struct sp_block_header header = v->last_header;
    return sp_log_seal(v, last, &header, v->end.chain);
}

/* Finds the log, and makes its replicas alike. */
static enum sp_status find_log(struct sp_volume *v, struct sp_listing *listings,
                               struct sp_error *error)
{
    struct sp_vote newest;
    struct sp_last_segment last;
    list_files(v, listings);
    enum sp_status status = newest_epoch(v, listings, &newest, error);
    if (status != SP_OK)
        return status;
    if (!newest.accepted)
        return begin_fresh(v, listings, error);
    if (v->segment_max < newest.head.segment)
        v->segment_max = newest.head.segment;
    if (v->epoch_counter < newest.head.epoch_counter)
        v->epoch_counter = newest.head.epoch_counter;
    for (uint32_t i = 0; i < newest.head.members_count; i++)
        v->voters[i] = newest.head.members[i].unit;
    v->voters_count = newest.head.members_count;
    status = check_members(v, &newest.head, listings, error);
    if (status != SP_OK)
        return status;
    status = sp_last_segment_find(v, &newest.head, NULL, listings, &last, error);
    if (status == SP_UNAVAILABLE && sp_log_replicas(v) == 0 && sp_loss_pass(v, error)) {
        sp_last_segment_release(&last);
        status = sp_loss_find_end(v, &newest.head, listings, &last, error);
    } else if (status == SP_OK && last.segment == 0) {
        status = sp_loss_note_head(v, &newest.head, false);
    }
    v->end = last.end;
    v->next_lsn = v->end.lsn + 1;
    if (status == SP_OK)
        status = list_segments(v, listings, error);
    if (status == SP_OK && !SP_BREAK(no_mend) && sp_last_segment_mend(v, &last, error) != SP_OK) {
        /* What is there can be read from whoever has it; but nothing may be built on it. */
        v->unmended = true;
        snprintf(v->why_not, sizeof v->why_not, "a unit lacks the end of the log: %.150s",
                 error->why);
    }
    bool mended = last.segment != 0;
    sp_last_segment_release(&last);
    if (status == SP_OK) {
        check_copies(v, listings, mended);
        find_foreign(v, listings);
    }
    return status;
}

/* Where the newest manifest is, for the head that begins the epoch: as far as the index knows. */
static void find_manifest(struct sp_volume *v)
{
    struct sp_read read;
    struct sp_position position;
    if (sp_read_begin(v->index, &read) != SP_OK)
        return;
    if (sp_index_position(&read, &position) == SP_OK && !position.undecided)
        v->apply.position.manifest_lsn = position.manifest_lsn;
    sp_read_end(&read);
}

static enum sp_status begin_writing(struct sp_volume *v, struct sp_error *error)
{
    size_t old_segments = v->segments_count;
    enum sp_status status = SP_UNAVAILABLE;
    sp_log_recruit(v);
    if (!v->unmended && sp_log_replicas(v) >= (v->degraded_accept ? 1 : v->min_copies)) {
        status = seal_last(v, error);
        if (status != SP_OK)
            return status;
        status = sp_log_begin_epoch(v);
    } else if (!v->unmended) {
        snprintf(v->why_not, sizeof v->why_not,
                 "%u of the %u copies that min_copies asks for can be written", sp_log_replicas(v),
                 v->min_copies);
    }
    if (status == SP_OK)
        return SP_OK;
    if (old_segments == 0)
        return sp_error_set(error, status, v->name, "%s", v->why_not);
    /* An epoch that cannot be begun is not an error: the volume opens for reading, and defers. */
    sp_log(SP_LOG_WARN, "volume.readonly", "volume=%s lsn=%" PRIu64 " why=%s", v->name, v->end.lsn,
           SP_LOG_QUOTED(v->why_not));
    return SP_OK;
}

/* How long the volume was open before. */
static enum sp_status take_clock(struct sp_volume *v, struct sp_error *error)
{
    struct sp_read read;
    struct sp_position position = {0};
    enum sp_status status = sp_read_begin(v->index, &read);
    if (status == SP_OK) {
        status = sp_index_position(&read, &position);
        sp_read_end(&read);
    }
    if (status != SP_OK && status != SP_NOT_FOUND)
        return sp_error_set(error, status, "index", "it cannot be read");
    v->clock_total_ms = position.running_ms;
    return SP_OK;
}

static enum sp_status start(struct sp_volume *v, const struct sp_volume_config *config,
                            struct sp_error *error)
{
    struct sp_listing listings[SP_VOLUME_UNITS_MAX] = {{0}};
    struct sp_index_start index;
    enum sp_status status = sp_volume_open_index(v, config, &index, error);
    if (status == SP_OK)
        status = find_log(v, listings, error);
    for (uint32_t i = 0; i < v->members_count; i++)
        free(listings[i].list);
    if (status != SP_OK)
        return status;
    say_states(v);
    status = sp_volume_place_index(v, &index, error);
    if (status == SP_OK && v->loss.forced)
        status = sp_loss_prepare(v, error);
    if (status == SP_OK && v->loss.pending)
        v->next_lsn = v->loss.gap_lsn;
    if (status == SP_OK && !index.again)
        find_manifest(v);
    if (status == SP_OK)
        status = begin_writing(v, error);
    if (status == SP_OK)
        status = sp_volume_roll_index(v, &index, error);
    if (status == SP_OK)
        status = sp_volume_find_replaced(v, error);
    if (status == SP_OK && v->loss.pending)
        status = sp_committer_write_gap(v, error);
    return status == SP_OK ? take_clock(v, error) : status;
}

static uint64_t machine_wall_ns(void *context)
{
    (void)context;
    return sp_wall_ns();
}

static uint64_t machine_ms(void *context)
{
    (void)context;
    return sp_now_ms();
}

/* Two units with one id are a unit and a copy of it: neither two copies nor two votes, and nobody
 * can say which of them is the one that was written to last. */
static enum sp_status refuse_twins(const struct sp_volume *v, struct sp_error *error)
{
    for (uint32_t i = 0; i < v->members_count; i++)
        for (uint32_t k = 0; k < i; k++) {
            const struct sp_volume_member *m = &v->members[i], *twin = &v->members[k];
            if (!m->unit || !twin->unit || !sp_uuid_eq(&m->id, &twin->id))
                continue;
            sp_error_set(error, SP_INVALID, v->name,
                         "units %s and %s are the same unit: one is a copy of the other",
                         twin->name, m->name);
            sp_error_todo(error, "detach the copy, or correct the path of [unit %s]", m->name);
            return SP_INVALID;
        }
    return SP_OK;
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
    v->loss_accepted = config->accept_loss;
    v->segment_bytes = config->segment_bytes ? config->segment_bytes : SP_SEGMENT_BYTES_DEFAULT;
    v->unit_timeout_ms = config->unit_timeout_ms ? config->unit_timeout_ms : 2000;
    v->batch_plans_max = config->batch_plans_max ? config->batch_plans_max : 1024;
    v->queue_bytes_max = config->queue_bytes_max ? config->queue_bytes_max : 256U << 20;
    v->resilver_rate = config->resilver_rate ? config->resilver_rate : 64U << 20;
    v->scrub_rate = config->scrub_rate;
    v->reserve_bytes = config->reserve_bytes;
    v->scrub.finished_ms = sp_now_ms();
    v->scrub_max_age_s = config->scrub_max_age_s;
    v->scrub_path = config->scrub_path ? strdup(config->scrub_path) : NULL;
    v->hold_ms = config->hold_ms;
    v->compact_below = config->compact_below;
    v->compact_rate = config->compact_rate;
    v->wall_ns = config->wall_ns ? config->wall_ns : machine_wall_ns;
    v->clock_ms = config->running_ms ? config->running_ms : machine_ms;
    v->clock_context = config->clock_context;
    v->clock_said_ms = v->clock_ms(v->clock_context);
    v->progress = config->progress;
    v->progress_context = config->progress_context;
    v->next_lsn = 1;
    v->members_count = config->units_count;
    for (uint32_t i = 0; i < config->units_count; i++) {
        const struct sp_volume_unit *u = &config->units[i];
        struct sp_volume_member *m = &v->members[i];
        snprintf(m->name, sizeof m->name, "%s", u->name);
        m->unit = u->unit;
        m->spare = u->spare;
        m->witness = u->witness;
        m->makeshift = u->makeshift;
        m->parity = u->parity;
        m->state = !u->unit     ? SP_UNIT_ABSENT
                   : u->witness ? SP_UNIT_WITNESS
                   : u->spare   ? SP_UNIT_SPARE
                                : SP_UNIT_REPLICA;
        m->from_lsn = m->until_lsn = UINT64_MAX;
        m->since_ns = sp_wall_ns();
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
    pthread_rwlock_init(&v->units_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&v->wake, &attr);
    pthread_condattr_destroy(&attr);
    sp_batch_init(&v->batch);
    v->footer = sp_footer_builder_new();
    v->touched = sp_touched_set_new();
    v->recent = sp_touched_set_new();
    v->compactor = sp_compactor_new();
    if (!v->footer || !v->touched || !v->recent || !v->compactor ||
        !v->scrub_path != !config->scrub_path)
        return sp_error_set(error, SP_NO_MEMORY, v->name, "out of memory");
    return SP_OK;
}

static void volume_free(struct sp_volume *v, bool clean)
{
    sp_parity_stop(v);
    sp_compactor_free(v->compactor); /* while units are open: it tidies up */
    sp_index_close(v->index, clean && !v->index_failed);
    for (uint32_t i = 0; i < v->members_count; i++)
        if (v->members[i].unit)
            v->members[i].unit->ops->close(v->members[i].unit);
    sp_footer_builder_free(v->footer);
    sp_touched_set_free(v->touched);
    sp_touched_set_free(v->recent);
    free(v->retired);
    sp_batch_release(&v->batch);
    free(v->segments);
    free(v->sealed);
    free(v->scrub_path);
    free(v->left);
    sp_merge_free(v->merge);
    pthread_mutex_destroy(&v->lock);
    pthread_rwlock_destroy(&v->segments_lock);
    pthread_rwlock_destroy(&v->units_lock);
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
        status = SP_BREAK(twins) ? SP_OK : refuse_twins(v, error);
    if (status == SP_OK)
        status = start(v, config, error);
    if (status == SP_OK) {
        sp_scrub_load(v);
        status = sp_committer_start(v, error);
    }
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
    sp_scrub_save(v);
    volume_free(v, true);
}

struct sp_uuid sp_volume_id(const struct sp_volume *v)
{
    return v->id;
}

struct sp_index *sp_volume_index(struct sp_volume *v)
{
    return v->index;
}

const char *sp_volume_name(const struct sp_volume *v)
{
    return v->name;
}

void sp_volume_set_notify(struct sp_volume *v,
                          void (*notify)(void *context, const struct sp_uuid *account,
                                         uint32_t mailbox),
                          void *context)
{
    v->notify = notify;
    v->notify_context = context;
}

/* Up to where fewer than min_copies replicas have the log: those that were recruited have only what
 * came after. */
static uint64_t thin_lsn(const struct sp_volume *v)
{
    uint64_t thin = v->end.lsn;
    for (uint32_t i = 0; i < v->members_count; i++) {
        uint32_t holders = 0;
        uint64_t from = v->members[i].from_lsn;
        for (uint32_t k = 0; k < v->members_count; k++)
            holders += v->members[k].state == SP_UNIT_REPLICA && v->members[k].unit &&
                       v->members[k].from_lsn <= from;
        if (v->members[i].state == SP_UNIT_REPLICA && from > 0 && holders >= v->min_copies &&
            from - 1 < thin)
            thin = from - 1;
    }
    return thin;
}

void sp_volume_status(struct sp_volume *v, struct sp_volume_status *ret_status)
{
    struct sp_volume_status status = {.min_copies = v->min_copies, .units_count = v->members_count};
    status.commits = v->commits;
    status.batches = v->batches;
    status.bytes = v->bytes;
    status.blocks_bad = v->blocks_bad;
    status.blocks_misdirected = v->blocks_misdirected;
    status.ejections = v->ejections;
    status.recruits = v->recruits;
    status.merge_records = v->merge_records;
    status.merge_conflicts = v->merge_conflicts;
    status.resilvered_bytes = v->resilvered_bytes;
    status.blocks_mended = v->blocks_mended;
    status.blocks_unmendable = v->blocks_unmendable;
    status.tended_bytes = v->tended_bytes;
    sp_compact_status(v, &status);
    status.blocks_rebuilt = v->blocks_rebuilt;
    status.parity_written = v->parity_written;
    status.parity_mended = v->parity_mended;
    pthread_mutex_lock(&v->lock);
    status.end = v->end;
    status.epoch_counter = v->epoch_counter;
    status.deferring = !v->writable || v->short_of_space;
    status.short_of_space = v->writable && v->short_of_space;
    status.thin_lsn = thin_lsn(v);
    status.segments = v->segments_count;
    status.scrub_running = v->scrub.running || atomic_load(&v->scrub_wanted);
    status.scrub_done_blocks = v->scrub.done_blocks;
    status.scrub_total_blocks = v->scrub.total_blocks;
    status.scrub_mended = v->scrub.mended;
    status.scrub_unmendable = v->scrub.unmendable;
    status.scrub_finished_ns = v->scrub.finished_ns;
    status.scrub_age_s = sp_scrub_age_s(v, sp_wall_ns());
    status.scrub_max_age_s = v->scrub_max_age_s;
    status.scrub_overdue = v->scrub_max_age_s && status.scrub_age_s > v->scrub_max_age_s;
    for (uint32_t i = 0; i < v->members_count; i++) {
        const struct sp_volume_member *m = &v->members[i];
        struct sp_volume_unit_status *u = &status.units[i];
        memcpy(u->name, m->name, sizeof u->name);
        u->id = m->id;
        memcpy(u->domain, m->domain, sizeof u->domain);
        u->state = m->state;
        u->lacks_segments = m->state == SP_UNIT_REPLICA ? (uint32_t)m->lacks : 0;
        u->parity = m->parity;
        memcpy(u->why, m->why, sizeof u->why);
        u->sole_lsn = sp_log_sole_lsn(v, m);
        u->scrubbed_ns = m->scrubbed_ns;
        u->counts = (struct sp_unit_counts){.blocks_bad = m->blocks_bad,
                                            .blocks_misdirected = m->blocks_misdirected,
                                            .blocks_served = m->blocks_served,
                                            .blocks_mended = m->blocks_mended,
                                            .blocks_unmendable = m->blocks_unmendable,
                                            .resilvered_bytes = m->resilvered_bytes};
        status.copies += m->state == SP_UNIT_REPLICA && m->unit;
        for (uint32_t k = 0; k < i; k++)
            status.shared_domain |= v->members[k].state == SP_UNIT_REPLICA &&
                                    m->state == SP_UNIT_REPLICA &&
                                    sp_unit_domains_shared(v->members[k].domain, m->domain);
    }
    pthread_mutex_unlock(&v->lock);
    for (uint32_t i = 0; i < v->members_count; i++)
        status.units[i].lacks_parity = sp_parity_lacking(v, &v->members[i]);
    pthread_rwlock_rdlock(&v->units_lock);
    for (uint32_t i = 0; i < v->members_count; i++)
        if (v->members[i].unit && v->members[i].unit->ops->space &&
            v->members[i].unit->ops->space(v->members[i].unit, &status.units[i].free_bytes, NULL) !=
                SP_OK)
            status.units[i].free_bytes = 0;
    pthread_rwlock_unlock(&v->units_lock);
    sp_status_fill(v, &status);
    *ret_status = status;
}
