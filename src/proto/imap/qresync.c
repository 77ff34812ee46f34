/* QRESYNC (RFC 7162, 3.2): expunges told by UID, and what a client missed since it was last here.
 *
 * `mail` knows the MODSEQ of every expunge, for as long as the mailbox exists: VANISHED (EARLIER)
 * names just the messages that went since then. Where it does not know (what was lost was given up,
 * or there is too much of it), it names all UIDs that are not there, which is safe (3.2.5.2).
 *
 * Messages that the session still has are left out of VANISHED (EARLIER): their turn comes with the
 * news, as VANISHED, which counts them off. */
#include "proto/imap/state.h"

#include "proto/imap/respond.h"

#include <stdlib.h>

bool sp_imap_tell_vanished(struct sp_imap *s, struct sp_uid_ranges ranges)
{
    const struct sp_imap_uidmap *map = &s->selected->map;
    struct sp_uid_ranges known = {0};
    if (!ranges.count || !map->count)
        return true;
    if (!(known.ptr = malloc(((size_t)ranges.count + map->count) * sizeof *known.ptr)))
        return false;
    known.count = sp_imap_uidmap_part(map, ranges, true, known.ptr);
    if (known.count) {
        sp_buf_add(&s->out, SP_S("* VANISHED "));
        sp_imap_add_ranges(&s->out, known);
        sp_buf_add(&s->out, SP_S("\r\n"));
    }
    free(known.ptr);
    return true;
}

/* ---- What was missed ---- */

/* What two lists have in common; ret_both has room for a.count + b.count. Returns how many. */
static uint32_t common(struct sp_uid_ranges a, struct sp_uid_ranges b,
                       struct sp_uid_range *ret_both)
{
    uint32_t i = 0, k = 0, count = 0;
    while (i < a.count && k < b.count) {
        uint32_t first = a.ptr[i].first > b.ptr[k].first ? a.ptr[i].first : b.ptr[k].first;
        uint32_t last = a.ptr[i].last < b.ptr[k].last ? a.ptr[i].last : b.ptr[k].last;
        if (first <= last)
            ret_both[count++] = (struct sp_uid_range){first, last};
        if (a.ptr[i].last < b.ptr[k].last)
            i++;
        else
            k++;
    }
    return count;
}

/* Tells those of `gone` that are among `wanted` and that the session does not have. Both lists may
 * be long: they are not the command's, whose arena is small. */
static bool tell_earlier(struct sp_imap *s, struct sp_uid_ranges gone, struct sp_uid_ranges wanted)
{
    const struct sp_imap_uidmap *map = &s->selected->map;
    size_t both = (size_t)gone.count + wanted.count;
    struct sp_uid_range *room = malloc((both * 2 + map->count + 1) * sizeof *room);
    if (!room)
        return false;
    struct sp_uid_ranges told = {room, common(gone, wanted, room)};
    struct sp_uid_ranges absent = {room + both, sp_imap_uidmap_part(map, told, false, room + both)};
    if (absent.count) {
        sp_buf_add(&s->out, SP_S("* VANISHED (EARLIER) "));
        sp_imap_add_ranges(&s->out, absent);
        sp_buf_add(&s->out, SP_S("\r\n"));
    }
    free(room);
    return true;
}

/* Asks for what was expunged since, and for nothing else. */
static void ask_for_gone(struct sp_imap *s, uint64_t since,
                         void (*handler)(struct sp_imap *, const struct sp_reply *))
{
    struct sp_request *request = sp_imap_request(s, SP_REQ_SYNC);
    if (!request)
        return;
    request->sync.since_modseq = since;
    request->sync.uidnext = s->selected->uidnext;
    request->sync.after_uid = UINT32_MAX;
    sp_imap_submit(s, request, handler);
}

/* ---- SELECT, EXAMINE ---- */

/* The highest UID up to which the client's numbers are still right: nothing below was expunged (RFC
 * 7162, 3.2.5.2). 0: there is none, or nothing was said. */
static uint32_t matching_uid(const struct sp_imap *s, const struct sp_imap_resync *resync)
{
    const struct sp_imap_uidmap *map = &s->selected->map;
    uint32_t k = 0, matching = 0, exists = sp_imap_uidmap_exists(map);
    uint32_t used = 0; /* of the k-th range of UIDs */
    for (uint32_t i = 0; i < resync->match_seqs.count; i++) {
        struct sp_uid_range seqs = resync->match_seqs.ptr[i];
        for (uint64_t seq = seqs.first; seq <= seqs.last && seq <= exists; seq++) {
            struct sp_uid_range uids = resync->match_uids.ptr[k];
            uint32_t uid = uids.first + used;
            if (sp_imap_uidmap_uid(map, (uint32_t)seq) != uid)
                return matching;
            matching = uid;
            if (uid == uids.last) {
                used = 0;
                if (++k == resync->match_uids.count)
                    return matching;
            } else {
                used++;
            }
        }
    }
    return matching;
}

/* Those of the UIDs from first to last that the client knows. */
static bool known_uids(struct sp_imap *s, const struct sp_imap_resync *resync, uint32_t first,
                       uint32_t last, struct sp_uid_ranges *ret_uids)
{
    struct sp_uid_range range = {first, last};
    struct sp_uid_ranges known = {0}, all = {&range, first <= last};
    if (!resync->has_known)
        known = all;
    else if (!sp_imap_set_resolve(resync->known, 0, &s->arena, &known))
        return false;
    struct sp_uid_range *both =
        sp_arena_array(&s->arena, (size_t)known.count + all.count, sizeof *both);
    if (!both)
        return false;
    *ret_uids = (struct sp_uid_ranges){both, common(known, all, both)};
    return true;
}

void sp_imap_resync_failed(struct sp_imap *s, const struct sp_reply *reply)
{
    sp_buf_release(&s->final);
    sp_imap_unselect(s);
    if (reply)
        sp_imap_refuse(s, reply, "UNAVAILABLE");
    else
        sp_imap_abandon(s, NULL);
}

static void on_missed(struct sp_imap *s, const struct sp_reply *reply)
{
    const struct sp_imap_resync *resync = s->command.mailbox.resync;
    struct sp_uid_ranges wanted, changed;
    if (reply->status != SP_OK) {
        sp_imap_resync_failed(s, reply);
        return;
    }
    uint32_t matching = matching_uid(s, resync), last = sp_imap_uidmap_last(&s->selected->map);
    if (!known_uids(s, resync, matching + 1, UINT32_MAX, &wanted) ||
        !known_uids(s, resync, 1, last, &changed) || !tell_earlier(s, reply->gone, wanted))
        sp_imap_resync_failed(s, NULL);
    else if (changed.count)
        sp_imap_report_changed(s, changed, resync->modseq);
    else
        sp_imap_conclude(s);
}

void sp_imap_resync(struct sp_imap *s)
{
    const struct sp_imap_resync *resync = s->command.mailbox.resync;
    /* Another UIDVALIDITY: the client's copy is worth nothing, and it is told so (3.2.5). */
    if (resync->uidvalidity != s->selected->ref.uidvalidity)
        sp_imap_conclude(s);
    else
        ask_for_gone(s, resync->modseq, on_missed);
}

/* ---- UID FETCH ---- */

static void on_vanished(struct sp_imap *s, const struct sp_reply *reply)
{
    struct sp_uid_ranges wanted;
    if (reply->status != SP_OK) {
        sp_imap_refuse_selected(s, reply);
        return;
    }
    /* `*` reaches as far as UIDs were given out: beyond the last message there is some may be gone.
     */
    /* What `$` names is there. */
    if (sp_imap_set_resolve(s->command.fetch->set, s->selected->uidnext - 1, &s->arena, &wanted) &&
        tell_earlier(s, reply->gone, wanted))
        sp_imap_begin_fetch(s);
    else
        sp_imap_abandon(s, NULL);
}

void sp_imap_fetch_vanished(struct sp_imap *s)
{
    ask_for_gone(s, s->command.fetch->changed_since, on_vanished);
}
