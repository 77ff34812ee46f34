#include "mail/undelete.h"

#include "base/grow.h"
#include "mail/plan.h"

#include <stdlib.h>

#define STEP_MESSAGES 100U /* brought back in one plan */
#define FLAG_DELETED  0x08U

/* ---- What there is to bring back ---- */

struct wanted {
    uint32_t mailbox, uid;
};

struct search {
    struct sp_read read;
    const struct sp_undelete *undelete;
    struct sp_undelete_outcome *outcome;
    uint64_t *bodies; /* of the account's messages, sorted: the first one of each */
    size_t bodies_count, bodies_capacity;
    struct wanted *wanted;
    size_t wanted_count, wanted_capacity;
    struct sp_arena arena;
};

static int by_lsn(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static enum sp_status add_body(struct search *s, struct sp_slice payload)
{
    struct sp_message m;
    enum sp_status status = sp_message_read(payload, &s->arena, &m);
    if (status == SP_OK && m.bodies.count) {
        if (!sp_grow(&s->bodies, s->bodies_count, &s->bodies_capacity, sizeof *s->bodies))
            status = SP_NO_MEMORY;
        else
            s->bodies[s->bodies_count++] = m.bodies.ptr[0];
    }
    sp_arena_release(&s->arena);
    return status;
}

static enum sp_status list_bodies_of(struct search *s, uint32_t mailbox)
{
    const struct sp_uuid *account = &s->undelete->account;
    struct sp_message_cursor messages;
    struct sp_flag_cursor flags;
    struct sp_flag_row row;
    enum sp_status status = sp_message_cursor_open(&s->read, account, mailbox, &messages);
    if (status)
        return status;
    status = sp_flag_cursor_open(&s->read, account, mailbox, 1, 0, &flags);
    if (status) {
        sp_message_cursor_close(&messages);
        return status;
    }
    while ((status = sp_flag_cursor_next(&flags, &row)) == SP_OK) {
        struct sp_slice payload;
        uint64_t lsn, time_ns;
        status = sp_message_cursor_get(&messages, row.uid, &payload, &lsn, &time_ns);
        if (status == SP_OK)
            status = add_body(s, payload);
        if (status)
            break;
    }
    sp_flag_cursor_close(&flags);
    sp_message_cursor_close(&messages);
    return status == SP_EOF ? SP_OK : status;
}

static enum sp_status list_bodies(struct search *s)
{
    struct sp_mailbox mailbox = {.account = s->undelete->account};
    enum sp_status status;
    while ((status = sp_index_next_mailbox(&s->read, &s->undelete->account, &mailbox)) == SP_OK) {
        status = list_bodies_of(s, mailbox.row.id);
        if (status)
            return status;
    }
    if (s->bodies_count)
        qsort(s->bodies, s->bodies_count, sizeof *s->bodies, by_lsn);
    return status == SP_EOF ? SP_OK : status;
}

static enum sp_status consider(struct search *s, const struct sp_held *held)
{
    const struct sp_undelete *u = s->undelete;
    struct sp_message m;
    if (held->row.expunge_time_ns < u->since_ns ||
        (u->mailbox.len && !sp_slice_eq(held->path, u->mailbox)))
        return SP_OK;
    enum sp_status status = sp_message_read(held->payload, &s->arena, &m);
    bool copied = status == SP_OK && m.bodies.count && s->bodies_count &&
                  bsearch(&m.bodies.ptr[0], s->bodies, s->bodies_count, sizeof *s->bodies, by_lsn);
    sp_arena_release(&s->arena);
    if (status)
        return status;
    if (copied) {
        s->outcome->passed_over++;
        return SP_OK;
    }
    if (!sp_grow(&s->wanted, s->wanted_count, &s->wanted_capacity, sizeof *s->wanted))
        return SP_NO_MEMORY;
    s->wanted[s->wanted_count++] = (struct wanted){held->mailbox, held->uid};
    return SP_OK;
}

static enum sp_status find_wanted(struct sp_volume *volume, struct search *s)
{
    struct sp_account account;
    struct sp_held held = {0};
    enum sp_status status = sp_read_begin(sp_volume_index(volume), &s->read);
    if (status)
        return status;
    status = sp_index_account(&s->read, &s->undelete->account, &account);
    if (status == SP_OK)
        status = list_bodies(s);
    while (status == SP_OK &&
           (status = sp_index_next_held(&s->read, &s->undelete->account, &held)) == SP_OK)
        status = consider(s, &held);
    sp_read_end(&s->read);
    return status == SP_EOF ? SP_OK : status;
}

/* ---- Bringing it back ---- */

struct bringing {
    struct sp_volume *volume;
    const struct search *search;
    size_t first, count;
    struct sp_undelete_outcome outcome; /* of this plan */
    enum sp_status status;              /* why it ended before its end */
};

/* The mailbox that it was in, whatever it is called now; or the one of that name, made if it is
 * not there. */
static enum sp_status target_mailbox(struct sp_plan *plan, const struct sp_uuid *account,
                                     uint32_t id, struct sp_slice path, struct bringing *b,
                                     struct sp_mailbox *ret)
{
    struct sp_read *read = sp_plan_read(plan);
    enum sp_status status = sp_index_mailbox(read, account, id, ret);
    if (status == SP_NOT_FOUND)
        status = sp_index_mailbox_by_path(read, account, path, ret);
    if (status == SP_OK)
        return sp_plan_keep_mailbox(plan, ret);
    if (status != SP_NOT_FOUND)
        return status;
    b->outcome.mailboxes++;
    return sp_plan_create_mailbox(plan, account, path, 0, ret);
}

static enum sp_status read_keywords(struct sp_plan *plan, const struct sp_mailbox *mailbox,
                                    struct sp_slice held, struct sp_slice_list *ret)
{
    struct sp_keywords keywords;
    uint64_t flags = 0;
    sp_keywords_init(&keywords, mailbox);
    for (size_t at = 0; at < held.len && at + 1 + held.ptr[at] <= held.len;
         at += 1U + held.ptr[at]) {
        unsigned bit = sp_keywords_add(&keywords, sp_slice(held.ptr + at + 1, held.ptr[at]));
        flags |= bit ? 1ULL << bit : 0;
    }
    return sp_keywords_names(&keywords, flags, sp_plan_arena(plan), ret) ? SP_OK : SP_NO_MEMORY;
}

/* Whether all its bodies are still there, and will be. */
static enum sp_status check_bodies(struct sp_plan *plan, const struct bringing *b,
                                   const struct sp_held *held, const struct sp_message *m)
{
    struct sp_body_row row;
    enum sp_status status = SP_OK;
    if (held->row.expunge_lsn <= sp_volume_horizon_lsn(b->volume))
        return SP_NOT_FOUND;
    for (uint32_t i = 0; i < m->bodies.count && status == SP_OK; i++)
        status = sp_index_body(sp_plan_read(plan), m->bodies.ptr[i], &row);
    return status;
}

static enum sp_status bring_back(struct sp_plan *plan, struct bringing *b,
                                 const struct wanted *wanted)
{
    const struct sp_uuid *account = &b->search->undelete->account;
    struct sp_arena *arena = sp_plan_arena(plan);
    struct sp_held held = {.mailbox = wanted->mailbox, .uid = wanted->uid - 1};
    struct sp_mailbox mailbox;
    struct sp_message message;
    uint8_t origin[SP_UNDELETE_ORIGIN_BYTES];
    enum sp_status status = sp_index_next_held(sp_plan_read(plan), account, &held);
    if (status == SP_EOF ||
        (status == SP_OK && (held.mailbox != wanted->mailbox || held.uid != wanted->uid)))
        return SP_OK; /* somebody else was faster */
    if (status)
        return status;
    /* What lies in the index dies with the first record. */
    struct sp_slice payload = sp_arena_copy(arena, held.payload);
    struct sp_slice path = sp_arena_copy(arena, held.path);
    struct sp_slice keywords = sp_arena_copy(arena, held.keywords);
    if (!payload.ptr || !path.ptr || (held.keywords.len && !keywords.ptr))
        return SP_NO_MEMORY;
    status = sp_message_read(payload, arena, &message);
    if (status == SP_OK)
        status = check_bodies(plan, b, &held, &message);
    if (status == SP_NOT_FOUND) {
        b->outcome.gone++;
        return SP_OK;
    }
    if (status == SP_OK)
        status = target_mailbox(plan, account, wanted->mailbox, path, b, &mailbox);
    if (status == SP_OK && mailbox.row.uidnext == UINT32_MAX)
        status = SP_LIMIT;
    if (status == SP_OK)
        status = read_keywords(plan, &mailbox, keywords, &message.keywords);
    if (status == SP_OK)
        status = sp_plan_next_modseq(plan, account, &message.modseq);
    if (status)
        return status;
    sp_undelete_origin_write(&(struct sp_undelete_origin){wanted->mailbox, wanted->uid}, origin);
    message.uid = mailbox.row.uidnext;
    message.uidvalidity = mailbox.row.uidvalidity;
    message.origin = SP_ORIGIN_UNDELETE;
    message.origin_id = sp_slice(origin, sizeof origin);
    message.system_flags = (uint32_t)held.row.system_flags & ~FLAG_DELETED;
    message.path = mailbox.path;
    status = sp_plan_emit_message(plan, &mailbox, &message);
    b->outcome.messages += status == SP_OK;
    return status;
}

static enum sp_status bring_some(struct sp_plan *plan, void *context)
{
    struct bringing *b = context;
    enum sp_status status = SP_OK;
    b->outcome = (struct sp_undelete_outcome){0};
    for (size_t i = 0; i < b->count && status == SP_OK; i++)
        status = bring_back(plan, b, &b->search->wanted[b->first + i]);
    b->status = status;
    /* Once it has emitted a plan may not refuse: what came before stands. */
    return b->outcome.messages || b->outcome.mailboxes ? SP_OK : status;
}

enum sp_status sp_mail_undelete(struct sp_volume *volume, const struct sp_undelete *undelete,
                                struct sp_undelete_outcome *ret_outcome, struct sp_error *error)
{
    struct search s = {.undelete = undelete, .outcome = ret_outcome};
    *ret_outcome = (struct sp_undelete_outcome){0};
    sp_arena_init(&s.arena, 16U << 20);
    enum sp_status status = find_wanted(volume, &s);
    if (status)
        sp_error_set(error, status, "undelete", "%s",
                     status == SP_NOT_FOUND ? "there is no such account" : sp_status_name(status));
    for (size_t at = 0; at < s.wanted_count && status == SP_OK; at += STEP_MESSAGES) {
        size_t rest = s.wanted_count - at;
        struct bringing b = {.volume = volume,
                             .search = &s,
                             .first = at,
                             .count = rest < STEP_MESSAGES ? rest : STEP_MESSAGES};
        status = sp_volume_commit(volume, bring_some, &b, error);
        if (status)
            break;
        ret_outcome->messages += b.outcome.messages;
        ret_outcome->gone += b.outcome.gone;
        ret_outcome->mailboxes += b.outcome.mailboxes;
        status = b.status;
        if (status)
            sp_error_set(error, status, "undelete", "after %llu messages: %s",
                         (unsigned long long)ret_outcome->messages, sp_status_name(status));
    }
    free(s.bodies);
    free(s.wanted);
    sp_arena_release(&s.arena);
    return status;
}

/* ---- Erasing ---- */

struct erasing {
    const struct sp_erasure *erasure;
    uint32_t mailboxes[SP_ERASE_MAILBOXES_MAX];          /* 0: all of the account */
    struct sp_span_list present[SP_ERASE_MAILBOXES_MAX]; /* of the UIDs */
    uint32_t mailboxes_count;
    uint64_t expunged;
};

/* Those that the name means: the one that has it, and deleted ones whose mail is held. */
static enum sp_status find_mailboxes(struct sp_plan *plan, struct erasing *e)
{
    const struct sp_erasure *erasure = e->erasure;
    struct sp_read *read = sp_plan_read(plan);
    struct sp_mailbox mailbox;
    struct sp_held held = {0};
    if (erasure->numbers_count) {
        memcpy(e->mailboxes, erasure->numbers, sizeof e->mailboxes);
        e->mailboxes_count = erasure->numbers_count;
        return SP_OK;
    }
    enum sp_status status =
        sp_index_mailbox_by_path(read, &erasure->account, erasure->mailbox, &mailbox);
    if (status == SP_OK)
        e->mailboxes[e->mailboxes_count++] = mailbox.row.id;
    else if (status != SP_NOT_FOUND)
        return status;
    while ((status = sp_index_next_held(read, &erasure->account, &held)) == SP_OK) {
        bool known = false;
        for (uint32_t i = 0; i < e->mailboxes_count; i++)
            known |= e->mailboxes[i] == held.mailbox;
        if (known || !sp_slice_eq(held.path, erasure->mailbox))
            continue;
        if (e->mailboxes_count == SP_ERASE_MAILBOXES_MAX)
            return SP_LIMIT;
        e->mailboxes[e->mailboxes_count++] = held.mailbox;
    }
    if (status != SP_EOF)
        return status;
    return e->mailboxes_count ? SP_OK : SP_NOT_FOUND;
}

/* Those of the UIDs that are still there. */
static enum sp_status present(struct sp_plan *plan, const struct sp_erasure *erasure,
                              uint32_t mailbox, struct sp_span_list *ret)
{
    struct sp_flag_cursor cursor;
    struct sp_flag_row row;
    uint32_t capacity = 0, span = 0;
    enum sp_status status =
        sp_flag_cursor_open(sp_plan_read(plan), &erasure->account, mailbox, 1, 0, &cursor);
    if (status)
        return status;
    while ((status = sp_flag_cursor_next(&cursor, &row)) == SP_OK) {
        while (span < erasure->uids.count && erasure->uids.ptr[span].last < row.uid)
            span++;
        if (span == erasure->uids.count || erasure->uids.ptr[span].first > row.uid)
            continue;
        if (ret->count && ret->ptr[ret->count - 1].last + 1 == row.uid) {
            ret->ptr[ret->count - 1].last = row.uid;
            continue;
        }
        if (ret->count == capacity) {
            struct sp_span *grown =
                sp_arena_grow(sp_plan_arena(plan), ret->ptr, ret->count, &capacity, sizeof *grown);
            if (!grown) {
                status = SP_NO_MEMORY;
                break;
            }
            ret->ptr = grown;
        }
        ret->ptr[ret->count++] = (struct sp_span){row.uid, row.uid};
    }
    sp_flag_cursor_close(&cursor);
    return status == SP_EOF ? SP_OK : status;
}

static void write_erase(struct sp_plan *plan, const struct erasing *e, uint32_t mailbox,
                        struct sp_buf **ret_buf)
{
    const struct sp_erase record = {.account = e->erasure->account,
                                    .mailbox = mailbox,
                                    .uids = e->erasure->uids,
                                    .who = e->erasure->who,
                                    .why = e->erasure->why};
    *ret_buf = sp_plan_buf(plan);
    sp_erase_write(&record, *ret_buf);
}

/* All that can be refused, before anything is emitted. */
static enum sp_status prepare(struct sp_plan *plan, struct erasing *e)
{
    const struct sp_erasure *erasure = e->erasure;
    struct sp_account account;
    struct sp_mailbox mailbox;
    struct sp_buf *buf;
    enum sp_status status = sp_index_account(sp_plan_read(plan), &erasure->account, &account);
    if (erasure->removed ? status == SP_OK : status == SP_NOT_FOUND)
        return erasure->removed ? SP_EXISTS : SP_NOT_FOUND;
    if (status != SP_OK && status != SP_NOT_FOUND)
        return status;
    if (!erasure->mailbox.len) {
        e->mailboxes[e->mailboxes_count++] = 0;
        status = SP_OK;
    } else {
        status = find_mailboxes(plan, e);
    }
    for (uint32_t i = 0; i < e->mailboxes_count && erasure->uids.count && status == SP_OK; i++) {
        status = sp_index_mailbox(sp_plan_read(plan), &erasure->account, e->mailboxes[i], &mailbox);
        status = status == SP_OK          ? present(plan, erasure, e->mailboxes[i], &e->present[i])
                 : status == SP_NOT_FOUND ? SP_OK /* deleted: all of it is expunged */
                                          : status;
    }
    write_erase(plan, e, 0, &buf);
    return status == SP_OK && sp_buf_failed(buf) ? SP_LIMIT : status;
}

static enum sp_status expunge(struct sp_plan *plan, struct erasing *e, uint32_t id,
                              struct sp_span_list uids)
{
    struct sp_mailbox mailbox;
    uint64_t modseq;
    enum sp_status status =
        sp_index_mailbox(sp_plan_read(plan), &e->erasure->account, id, &mailbox);
    if (status == SP_OK)
        status = sp_plan_next_modseq(plan, &e->erasure->account, &modseq);
    if (status == SP_OK)
        status = sp_plan_emit_expunge(plan, &mailbox, modseq, uids);
    return status;
}

static enum sp_status look(struct sp_plan *plan, void *context)
{
    struct erasing *e = context;
    e->mailboxes_count = 0;
    e->expunged = 0;
    memset(e->present, 0, sizeof e->present);
    enum sp_status status = prepare(plan, e);
    for (uint32_t i = 0; i < e->mailboxes_count && status == SP_OK; i++)
        for (uint32_t k = 0; k < e->present[i].count; k++)
            e->expunged += e->present[i].ptr[k].last - e->present[i].ptr[k].first + 1;
    return status;
}

static enum sp_status erase(struct sp_plan *plan, void *context)
{
    struct erasing *e = context;
    struct sp_buf *buf;
    enum sp_status status = look(plan, e);
    for (uint32_t i = 0; i < e->mailboxes_count && status == SP_OK; i++) {
        if (e->present[i].count)
            status = expunge(plan, e, e->mailboxes[i], e->present[i]);
        if (status)
            break;
        write_erase(plan, e, e->mailboxes[i], &buf);
        status = sp_plan_emit(plan, SP_RECORD_ERASE, NULL, 0, sp_buf_slice(buf), NULL);
    }
    return status;
}

static enum sp_status run(struct sp_volume *volume, struct erasing *e,
                          enum sp_status (*plan)(struct sp_plan *, void *), struct sp_error *error)
{
    enum sp_status status = sp_volume_commit(volume, plan, e, error);
    if (status == SP_NOT_FOUND)
        sp_error_set(error, status, "erase", "%s",
                     e->erasure->mailbox.len ? "there is no such mailbox, nor is mail held of one"
                                             : "there is no such account");
    if (status == SP_EXISTS)
        sp_error_set(error, status, "erase", "this account has not been removed");
    return status;
}

enum sp_status sp_mail_erase_look(struct sp_volume *volume, const struct sp_erasure *erasure,
                                  uint64_t *ret_present, struct sp_error *error)
{
    struct erasing e = {.erasure = erasure};
    enum sp_status status = run(volume, &e, look, error);
    *ret_present = e.expunged;
    return status;
}

enum sp_status sp_mail_erase_number(struct sp_volume *volume, struct sp_erasure *erasure,
                                    struct sp_error *error)
{
    struct erasing e = {.erasure = erasure};
    enum sp_status status = run(volume, &e, look, error);
    if (status != SP_OK)
        return status;
    memcpy(erasure->numbers, e.mailboxes, sizeof erasure->numbers);
    erasure->numbers_count = e.mailboxes_count;
    return SP_OK;
}

enum sp_status sp_mail_erase(struct sp_volume *volume, const struct sp_erasure *erasure,
                             uint64_t *ret_expunged, struct sp_error *error)
{
    struct erasing e = {.erasure = erasure};
    enum sp_status status = run(volume, &e, erase, error);
    if (status)
        return status;
    *ret_expunged = e.expunged;
    sp_volume_compact_now(volume);
    return SP_OK;
}
