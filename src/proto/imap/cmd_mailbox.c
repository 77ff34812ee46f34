/* SELECT, EXAMINE, CLOSE, UNSELECT, STATUS; CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE. */
#include "proto/imap/state.h"

#include "proto/imap/respond.h"
#include "proto/imap/status_items.h"

#include <inttypes.h>
#include <stdlib.h>

#define PROTECTED "NO [UNAVAILABLE] The mailbox is protected while it is being repaired"

/* Any of these makes a mailbox READ-WRITE. */
#define WRITING                                                                                    \
    (SP_RIGHT_SEEN | SP_RIGHT_WRITE | SP_RIGHT_INSERT | SP_RIGHT_DELETED | SP_RIGHT_EXPUNGE)

/* A request about a mailbox by its name; NULL: the command has ended. */
static struct sp_request *request_by_name(struct sp_imap *s, enum sp_request_type type)
{
    struct sp_slice name = s->command.mailbox.name, new_name = s->command.mailbox.new_name;
    if (!name.len) {
        sp_imap_finish(s, "NO [CANNOT] A mailbox must have a name");
        return NULL;
    }
    struct sp_request *request = sp_imap_request(s, type);
    if (!request)
        return NULL;
    request->name = sp_arena_copy(&request->arena, name);
    request->new_name = sp_arena_copy(&request->arena, new_name);
    if (request->name.ptr && (request->new_name.ptr || !new_name.len))
        return request;
    sp_imap_abandon(s, request);
    return NULL;
}

/* ---- SELECT, EXAMINE ---- */

static bool take_mailbox(struct sp_imap *s, const struct sp_reply *reply)
{
    const struct sp_mailbox_info *info = &reply->mailboxes[0];
    struct sp_slice name = s->command.mailbox.name;
    struct sp_imap_selected *selected = calloc(1, sizeof *selected + name.len);
    if (!selected)
        return false;
    s->selected = selected;
    selected->ref = (struct sp_mailbox_ref){info->account, info->id, info->uidvalidity};
    selected->rights = info->rights;
    /* RFC 4314, 5.2 */
    selected->read_only = s->command.verb == SP_IMAP_EXAMINE || !(info->rights & WRITING);
    selected->modseq = info->highestmodseq;
    selected->name_len = name.len;
    memcpy(selected->name, name.ptr, name.len);
    if (sp_imap_uidmap_append(&selected->map, reply->ranges) != SP_OK)
        return false;
    uint32_t last = sp_imap_uidmap_last(&selected->map);
    selected->uidnext = info->uidnext > last ? info->uidnext : last + 1;
    /* What happens between this reply and our being watched would not be heard of. */
    selected->news = true;
    return true;
}

/* RFC 9051, 6.3.2 */
static void tell_name(struct sp_imap *s)
{
    sp_buf_add(&s->out, SP_S("* LIST () \"/\" "));
    sp_imap_add_name(&s->out, s->command.mailbox.name, s->utf8);
    sp_buf_add(&s->out, SP_S("\r\n"));
}

static void tell_mailbox(struct sp_imap *s, const struct sp_reply *reply)
{
    const struct sp_imap_selected *selected = s->selected;
    uint32_t unseen =
        reply->first_unseen_uid ? sp_imap_uidmap_seq(&selected->map, reply->first_unseen_uid) : 0;
    sp_imap_tell_flags(s);
    sp_imap_add_count(&s->out, sp_imap_uidmap_exists(&selected->map), "EXISTS");
    if (s->rev2)
        tell_name(s);
    else
        sp_imap_add_count(&s->out, 0, "RECENT");
    if (unseen && !s->rev2 && !s->uidonly)
        sp_buf_addf(&s->out, "* OK [UNSEEN %" PRIu32 "] First unseen\r\n", unseen);
    sp_buf_addf(&s->out, "* OK [UIDVALIDITY %" PRIu32 "] UIDs valid\r\n",
                selected->ref.uidvalidity);
    sp_buf_addf(&s->out, "* OK [UIDNEXT %" PRIu32 "] Predicted next UID\r\n", selected->uidnext);
    sp_buf_addf(&s->out, "* OK [HIGHESTMODSEQ %" PRIu64 "] Highest\r\n",
                selected->modseq ? selected->modseq : 1);
    sp_buf_add(&s->out, SP_S("* OK [MAILBOXID ("));
    sp_imap_add_object_id(&s->out, 'F', reply->mailboxes[0].object_id);
    sp_buf_add(&s->out, SP_S(")] Object id\r\n"));
}

static void on_open(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status != SP_OK) {
        sp_imap_refuse(s, reply, "NONEXISTENT");
        return;
    }
    if (!reply->mailboxes_count || reply->mailboxes[0].protected_) {
        sp_imap_finish(s, PROTECTED);
        return;
    }
    if (!take_mailbox(s, reply) || !sp_imap_learn_keywords(s, reply, false)) {
        sp_imap_unselect(s);
        if (s->phase != SP_IMAP_CLOSED)
            sp_imap_finish(s, "NO [UNAVAILABLE] Out of memory");
        return;
    }
    if (s->command.mailbox.condstore)
        s->condstore = true;
    tell_mailbox(s, reply);
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add_str(final, s->selected->read_only ? "OK [READ-ONLY] " : "OK [READ-WRITE] ");
    sp_buf_add_str(final, sp_imap_verb_name(s->command.verb));
    sp_buf_add_str(final, " completed\r\n");
    if (s->command.mailbox.resync)
        sp_imap_resync(s);
    else
        sp_imap_conclude(s);
}

void sp_imap_run_select(struct sp_imap *s)
{
    if (s->command.mailbox.resync && !s->qresync) {
        sp_imap_bad(s, "ENABLE QRESYNC comes first");
        return;
    }
    /* Whether it succeeds or not, what was selected is no longer (RFC 3501, 6.3.1). */
    if (s->selected) {
        sp_imap_unselect(s);
        sp_buf_add(&s->out, SP_S("* OK [CLOSED] Previous mailbox closed\r\n"));
    }
    struct sp_request *request = request_by_name(s, SP_REQ_MAILBOX_OPEN);
    if (request)
        sp_imap_submit(s, request, on_open);
}

/* ---- CLOSE, UNSELECT ---- */

static void on_close(struct sp_imap *s, const struct sp_reply *reply)
{
    /* Without the right to, CLOSE expunges nothing and succeeds (RFC 4314, 4). */
    if (reply->status != SP_OK && reply->status != SP_DENIED) {
        sp_imap_refuse_selected(s, reply);
        return;
    }
    /* What others changed meanwhile, and expunges that have not been told, lie beyond what the
     * client may take for known (RFC 7162, 3.2.8). */
    uint64_t known = s->qresync && !s->selected->gone_count ? s->selected->modseq : 0;
    sp_imap_unselect(s);
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add_str(final, "OK");
    if (known)
        sp_buf_addf(final, " [HIGHESTMODSEQ %" PRIu64 "]", known);
    sp_imap_end_completed(s, final);
}

void sp_imap_run_close(struct sp_imap *s)
{
    struct sp_uid_range all = {1, sp_imap_uidmap_last(&s->selected->map)};
    if (s->selected->read_only || !all.last) {
        sp_imap_run_unselect(s);
        return;
    }
    struct sp_request *request = sp_imap_request(s, SP_REQ_EXPUNGE);
    if (!request)
        return;
    request->expunge.deleted_only = true;
    if (sp_imap_request_ranges(request, (struct sp_uid_ranges){&all, 1}))
        sp_imap_submit(s, request, on_close);
    else
        sp_imap_abandon(s, request);
}

void sp_imap_run_unselect(struct sp_imap *s)
{
    sp_imap_unselect(s);
    sp_imap_finish_ok(s);
}

/* ---- STATUS ---- */

static void on_status(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status != SP_OK) {
        sp_imap_refuse(s, reply, "NONEXISTENT");
        return;
    }
    if (!reply->mailboxes_count || reply->mailboxes[0].protected_) {
        sp_imap_finish(s, PROTECTED);
        return;
    }
    if (s->command.mailbox.status & SP_IMAP_STATUS_HIGHESTMODSEQ)
        sp_imap_enable_condstore(s);
    sp_imap_add_status(&s->out, s->command.mailbox.name, &reply->mailboxes[0],
                       s->command.mailbox.status, s->env->message_bytes_max, s->utf8);
    sp_imap_finish_ok(s);
}

void sp_imap_run_status(struct sp_imap *s)
{
    struct sp_request *request = request_by_name(s, SP_REQ_MAILBOX_STATUS);
    if (request)
        sp_imap_submit(s, request, on_status);
}

/* ---- The rest ---- */

/* One's own mailbox is closed first: its news would end the session, where the client waits for
 * the answer. */
static void on_deleted(struct sp_imap *s)
{
    const struct sp_imap_selected *selected = s->selected;
    if (selected &&
        sp_slice_eq(sp_slice(selected->name, selected->name_len), s->command.mailbox.name)) {
        sp_imap_unselect(s);
        sp_buf_add(&s->out, SP_S("* OK [CLOSED] The mailbox was deleted\r\n"));
    }
    sp_imap_finish_ok(s);
}

/* RFC 8474, 4.1 */
static void on_created(struct sp_imap *s, const struct sp_reply *reply)
{
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add(final, SP_S("OK [MAILBOXID ("));
    sp_imap_add_object_id(final, 'F', reply->mailboxes[0].object_id);
    sp_buf_add(final, SP_S(")]"));
    sp_imap_end_completed(s, final);
}

static void on_managed(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status == SP_OK && s->command.verb == SP_IMAP_CREATE && reply->mailboxes_count)
        on_created(s, reply);
    else if (reply->status == SP_OK && s->command.verb == SP_IMAP_DELETE)
        on_deleted(s);
    else if (reply->status == SP_OK)
        sp_imap_finish_ok(s);
    else
        sp_imap_refuse(s, reply, "NONEXISTENT");
}

void sp_imap_run_manage(struct sp_imap *s)
{
    static const enum sp_request_type types[SP_IMAP_VERBS] = {
        [SP_IMAP_CREATE] = SP_REQ_MAILBOX_CREATE, [SP_IMAP_DELETE] = SP_REQ_MAILBOX_DELETE,
        [SP_IMAP_RENAME] = SP_REQ_MAILBOX_RENAME, [SP_IMAP_SUBSCRIBE] = SP_REQ_SUBSCRIBE,
        [SP_IMAP_UNSUBSCRIBE] = SP_REQ_SUBSCRIBE,
    };
    enum sp_imap_verb verb = s->command.verb;
    if (verb == SP_IMAP_RENAME && !s->command.mailbox.new_name.len) {
        sp_imap_finish(s, "NO [CANNOT] A mailbox must have a name");
        return;
    }
    if (verb == SP_IMAP_DELETE && sp_slice_eq(s->command.mailbox.name, SP_S("INBOX"))) {
        sp_imap_finish(s, "NO [CANNOT] INBOX cannot be deleted");
        return;
    }
    struct sp_request *request = request_by_name(s, types[verb]);
    if (!request)
        return;
    request->manage.special_use = s->command.mailbox.special_use;
    request->manage.subscribe = verb == SP_IMAP_SUBSCRIBE;
    sp_imap_submit(s, request, on_managed);
}
