/* STORE, EXPUNGE, COPY, MOVE. */
#include "proto/imap/state.h"

#include "proto/imap/respond.h"

#include <inttypes.h>

#define GONE " Some of the messages no longer exist\r\n"

static bool is_writable(struct sp_imap *s)
{
    if (!s->selected->read_only)
        return true;
    sp_imap_finish(s, "NO [NOPERM] The mailbox was opened read-only");
    return false;
}

/* ---- STORE ---- */

/* uids without those that failed; both ascend. */
static bool without(struct sp_arena *arena, struct sp_uid_ranges uids, struct sp_uid_ranges failed,
                    struct sp_uid_ranges *ret_uids)
{
    struct sp_uid_ranges rest = {
        sp_arena_array(arena, (size_t)uids.count + failed.count, sizeof *rest.ptr), 0};
    uint32_t f = 0;
    if (!rest.ptr)
        return false;
    for (uint32_t i = 0; i < uids.count; i++) {
        uint64_t at = uids.ptr[i].first; /* may come to lie behind the last UID there is */
        while (f < failed.count && failed.ptr[f].last < at)
            f++;
        for (uint32_t k = f; k < failed.count && failed.ptr[k].first <= uids.ptr[i].last; k++) {
            if (failed.ptr[k].first > at)
                rest.ptr[rest.count++] =
                    (struct sp_uid_range){(uint32_t)at, failed.ptr[k].first - 1};
            at = (uint64_t)failed.ptr[k].last + 1;
        }
        if (at <= uids.ptr[i].last)
            rest.ptr[rest.count++] = (struct sp_uid_range){(uint32_t)at, uids.ptr[i].last};
    }
    *ret_uids = rest;
    return true;
}

/* Messages that UNCHANGEDSINCE kept as they were (RFC 7162, 3.1.3). */
static bool add_modified(struct sp_imap *s, struct sp_buf *final, struct sp_uid_ranges failed)
{
    struct sp_uid_ranges told = failed;
    if (!s->command.uid &&
        sp_imap_uidmap_seqs(&s->selected->map, failed, &s->arena, &told) != SP_OK)
        return false;
    if (told.count) {
        sp_buf_add(final, SP_S(" [MODIFIED "));
        sp_imap_add_ranges(final, told);
        sp_buf_add_byte(final, ']');
    }
    return true;
}

static void on_store(struct sp_imap *s, const struct sp_reply *reply)
{
    const struct sp_imap_store_args *store = s->command.store;
    struct sp_uid_ranges uids;
    if (reply->status == SP_LIMIT) {
        sp_imap_finish(s, "NO [LIMIT] The mailbox cannot have more different keywords");
        return;
    }
    if (reply->status != SP_OK) {
        sp_imap_refuse_selected(s, reply);
        return;
    }
    if (!sp_imap_resolve(s, store->set, &uids))
        return;
    /* Others may have expunged some: what is left is stored and told. A client that wants to hear
     * of nothing is spared that too (RFC 2180, 4.2). */
    bool gone = !s->command.uid && !store->silent && reply->missing;
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add_str(final, gone ? "NO" : "OK");
    if (!add_modified(s, final, reply->failed) || !without(&s->arena, uids, reply->failed, &uids)) {
        sp_imap_abandon(s, NULL);
        return;
    }
    if (gone)
        sp_buf_add_str(final, reply->failed.count ? GONE : " [EXPUNGEISSUED]" GONE);
    else
        sp_buf_add_str(final, s->command.uid ? " UID STORE completed\r\n" : " STORE completed\r\n");
    unsigned items =
        (store->silent ? 0 : SP_IMAP_ITEM_FLAGS) | (s->condstore ? SP_IMAP_ITEM_MODSEQ : 0);
    sp_imap_own_change(s->selected, reply);
    if (items && uids.count)
        sp_imap_report_flags(s, uids, items, reply->modseq);
    else
        sp_imap_end(s);
}

/* Flags by name, in the request's arena. */
static bool copy_flags(struct sp_arena *arena, const struct sp_flag_set *from,
                       struct sp_flag_set *ret_to)
{
    struct sp_flag_set to = *from;
    to.keywords = sp_arena_array(arena, from->keywords_count, sizeof *to.keywords);
    if (!to.keywords)
        return false;
    for (uint32_t i = 0; i < from->keywords_count; i++) {
        to.keywords[i] = sp_arena_copy(arena, from->keywords[i]);
        if (!to.keywords[i].ptr)
            return false;
    }
    *ret_to = to;
    return true;
}

void sp_imap_run_store(struct sp_imap *s)
{
    const struct sp_imap_store_args *store = s->command.store;
    struct sp_uid_ranges uids;
    if (store->has_unchanged_since)
        sp_imap_enable_condstore(s);
    if (!is_writable(s) || !sp_imap_resolve(s, store->set, &uids))
        return;
    if (!uids.count) {
        sp_imap_finish_ok(s);
        return;
    }
    struct sp_request *request = sp_imap_request(s, SP_REQ_STORE);
    if (!request)
        return;
    request->store.op = store->op;
    request->store.has_unchanged_since = store->has_unchanged_since;
    request->store.unchanged_since = store->unchanged_since;
    if (copy_flags(&request->arena, &store->flags, &request->store.flags) &&
        sp_imap_request_ranges(request, uids))
        sp_imap_submit(s, request, on_store);
    else
        sp_imap_abandon(s, request);
}

/* ---- EXPUNGE ---- */

/* Tells of it and ends. With QRESYNC the response says up to where the client knows all (RFC 7162,
 * 3.2.7; RFC 6851, 4.4), once what others did meanwhile has been told as well. */
static void expunged(struct sp_imap *s, struct sp_uid_ranges uids)
{
    if (!sp_imap_expunged(s, uids))
        return;
    if (s->qresync && uids.count) {
        s->highest_due = true;
        s->selected->news = true;
    }
    sp_imap_finish_ok(s);
}

static void on_expunge(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status != SP_OK) {
        sp_imap_refuse_selected(s, reply);
        return;
    }
    expunged(s, reply->ranges);
}

void sp_imap_run_expunge(struct sp_imap *s)
{
    struct sp_uid_range all = {1, sp_imap_uidmap_last(&s->selected->map)};
    struct sp_uid_ranges uids = {&all, all.last ? 1 : 0};
    if (!is_writable(s) || (s->command.uid && !sp_imap_resolve(s, s->command.copy.set, &uids)))
        return;
    if (!uids.count) {
        sp_imap_finish_ok(s);
        return;
    }
    struct sp_request *request = sp_imap_request(s, SP_REQ_EXPUNGE);
    if (!request)
        return;
    request->expunge.deleted_only = true;
    if (sp_imap_request_ranges(request, uids))
        sp_imap_submit(s, request, on_expunge);
    else
        sp_imap_abandon(s, request);
}

/* ---- COPY, MOVE ---- */

static void add_copyuid(struct sp_buf *buf, const struct sp_reply *reply)
{
    sp_buf_addf(buf, "[COPYUID %" PRIu32 " ", reply->uidvalidity);
    sp_imap_add_ranges(buf, reply->ranges);
    sp_buf_add_byte(buf, ' ');
    sp_imap_add_ranges(buf, reply->new_ranges);
    sp_buf_add_byte(buf, ']');
}

/* RFC 6851, 3.3: the code comes untagged, before the EXPUNGEs. */
static void moved(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->ranges.count) {
        sp_buf_add(&s->out, SP_S("* OK "));
        add_copyuid(&s->out, reply);
        sp_buf_add(&s->out, SP_S(" Moved\r\n"));
    }
    expunged(s, reply->ranges);
}

static void on_copy(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status == SP_CONFLICT) {
        sp_imap_refuse_selected(s, reply);
        return;
    }
    if (reply->status != SP_OK) {
        sp_imap_refuse(s, reply, "TRYCREATE");
        return;
    }
    if (reply->missing) { /* nothing was copied: another session expunged some of them */
        sp_imap_finish(s, "NO [EXPUNGEISSUED] Some of the messages no longer exist");
        return;
    }
    if (sp_slice_eq(sp_slice(s->selected->name, s->selected->name_len), s->command.copy.name))
        s->selected->news = true; /* into the mailbox itself */
    if (s->command.verb == SP_IMAP_MOVE) {
        moved(s, reply);
        return;
    }
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add(final, SP_S("OK"));
    if (reply->ranges.count) {
        sp_buf_add_byte(final, ' ');
        add_copyuid(final, reply);
    }
    sp_imap_end_completed(s, final);
}

void sp_imap_run_copy(struct sp_imap *s)
{
    struct sp_uid_ranges uids;
    bool move = s->command.verb == SP_IMAP_MOVE;
    if ((move && !is_writable(s)) || !sp_imap_resolve(s, s->command.copy.set, &uids))
        return;
    if (!uids.count) {
        sp_imap_finish_ok(s);
        return;
    }
    struct sp_request *request = sp_imap_request(s, SP_REQ_COPY);
    if (!request)
        return;
    request->copy.move = move;
    request->copy.whole = !s->command.uid; /* a UID that is not there is no mistake */
    request->name = sp_arena_copy(&request->arena, s->command.copy.name);
    if ((request->name.ptr || !s->command.copy.name.len) && sp_imap_request_ranges(request, uids))
        sp_imap_submit(s, request, on_copy);
    else
        sp_imap_abandon(s, request);
}
