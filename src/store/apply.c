/* What each record means to the index. The same code serves the committer and replay, so an index
 * that was rebuilt is the index that was. */
#include "base/endian.h"
#include "store/apply_internal.h"
#include "store/breakage.h"

#include <stdio.h>
#include <stdlib.h>

#define ARENA_BYTES (96U << 20) /* of one record's arrays */

static const char position_key[] = "position";

/* ---- The transaction ---- */

enum sp_status sp_apply_begin(struct sp_index *index, bool replay, struct sp_apply *ret_apply)
{
    struct sp_apply apply = {.read = {.index = index}, .replay = replay};
    int rc = mdb_txn_begin(index->env, NULL, 0, &apply.read.txn);
    if (rc)
        return sp_mdb_status(rc);
    enum sp_status status = sp_index_position(&apply.read, &apply.position);
    if (status == SP_NOT_FOUND) {
        apply.position = (struct sp_position){0};
        status = SP_OK;
    }
    if (status != SP_OK) {
        mdb_txn_abort(apply.read.txn);
        return status;
    }
    sp_arena_init(&apply.arena, ARENA_BYTES);
    *ret_apply = apply;
    return SP_OK;
}

static void apply_release(struct sp_apply *apply)
{
    apply->read.txn = NULL;
    sp_arena_release(&apply->arena);
    free(apply->touched);
    apply->touched = NULL;
    apply->touched_count = apply->touched_capacity = 0;
}

void sp_apply_abort(struct sp_apply *apply)
{
    if (apply->read.txn)
        mdb_txn_abort(apply->read.txn);
    apply_release(apply);
}

enum sp_status sp_apply_commit(struct sp_apply *apply, const struct sp_log_end *end)
{
    apply->position.end = *end;
    enum sp_status status =
        sp_apply_put(apply, apply->read.index->meta, sp_val(position_key, sizeof position_key),
                     sp_val(&apply->position, sizeof apply->position));
    if (status != SP_OK) {
        sp_apply_abort(apply);
        return status;
    }
    int rc = mdb_txn_commit(apply->read.txn);
    apply_release(apply);
    return sp_mdb_status(rc);
}

enum sp_status sp_apply_touch(struct sp_apply *apply, const struct sp_uuid *account,
                              uint32_t mailbox)
{
    /* Batches touch few mailboxes, and the same one many times in a row. */
    for (uint32_t i = apply->touched_count; i-- > 0 && apply->touched_count - i <= 64;)
        if (apply->touched[i].mailbox == mailbox && sp_uuid_eq(&apply->touched[i].account, account))
            return SP_OK;
    if (apply->touched_count == apply->touched_capacity) {
        uint32_t capacity = apply->touched_capacity ? apply->touched_capacity * 2 : 32;
        struct sp_touched *grown = realloc(apply->touched, capacity * sizeof *grown);
        if (!grown)
            return SP_NO_MEMORY;
        apply->touched = grown;
        apply->touched_capacity = capacity;
    }
    apply->touched[apply->touched_count++] = (struct sp_touched){*account, mailbox};
    return SP_OK;
}

/* ---- Flags: chunks of 64 UIDs ---- */

struct chunk {
    uint64_t newest;
    struct sp_flag_row rows[SP_CHUNK_UIDS];
    uint32_t count;
};

static enum sp_status chunk_get(struct sp_apply *apply, const struct sp_key *key, struct chunk *ret)
{
    MDB_val k = sp_key_val(key), value;
    int rc = mdb_get(apply->read.txn, apply->read.index->flags, &k, &value);
    ret->newest = 0;
    ret->count = 0;
    if (rc == MDB_NOTFOUND)
        return SP_OK;
    if (rc)
        return sp_mdb_status(rc);
    size_t bytes = value.mv_size - SP_CHUNK_HEAD_BYTES;
    if (value.mv_size < SP_CHUNK_HEAD_BYTES || bytes > sizeof ret->rows ||
        bytes % sizeof *ret->rows)
        return SP_CORRUPT;
    memcpy(&ret->newest, value.mv_data, SP_CHUNK_HEAD_BYTES);
    memcpy(ret->rows, (const uint8_t *)value.mv_data + SP_CHUNK_HEAD_BYTES, bytes);
    ret->count = (uint32_t)(bytes / sizeof *ret->rows);
    return SP_OK;
}

static enum sp_status chunk_put(struct sp_apply *apply, const struct sp_key *key,
                                const struct chunk *chunk)
{
    uint8_t bytes[SP_CHUNK_HEAD_BYTES + sizeof chunk->rows];
    if (chunk->count == 0)
        return sp_apply_del(apply, apply->read.index->flags, sp_key_val(key));
    memcpy(bytes, &chunk->newest, SP_CHUNK_HEAD_BYTES);
    memcpy(bytes + SP_CHUNK_HEAD_BYTES, chunk->rows, chunk->count * sizeof *chunk->rows);
    return sp_apply_put(apply, apply->read.index->flags, sp_key_val(key),
                        sp_val(bytes, SP_CHUNK_HEAD_BYTES + chunk->count * sizeof *chunk->rows));
}

/* The mailbox's bits for keywords, adding names that are new to it (beyond the limit they are
 * dropped: plans refuse them before they get into the log). */
static uint64_t keyword_bits(struct sp_mailbox *mailbox, struct sp_slice_list keywords, bool add)
{
    uint64_t bits = 0;
    for (uint32_t k = 0; k < keywords.count; k++) {
        size_t i = 0;
        while (i < mailbox->row.keywords_count &&
               !sp_slice_eq_nocase(mailbox->keywords[i], keywords.ptr[k]))
            i++;
        if (i == mailbox->row.keywords_count) {
            if (!add || i == SP_INDEX_KEYWORDS_MAX || keywords.ptr[k].len > UINT8_MAX)
                continue;
            mailbox->keywords[mailbox->row.keywords_count++] = keywords.ptr[k];
        }
        bits |= UINT64_C(1) << (8 + i);
    }
    return bits;
}

#define SEEN    0x01U
#define DELETED 0x08U

static void count_flags(struct sp_mailbox_row *row, uint64_t flags, bool add)
{
    uint32_t unseen = !(flags & SEEN), deleted = (flags & DELETED) != 0;
    row->messages = add ? row->messages + 1 : row->messages - 1;
    row->unseen = add ? row->unseen + unseen : row->unseen - unseen;
    row->deleted = add ? row->deleted + deleted : row->deleted - deleted;
}

/* Calls `each` for every row of the mailbox whose UID is in the spans; chunk by chunk, writing back
 * what changed. */
enum row_verdict { ROW_SAME, ROW_CHANGED, ROW_GONE };

static enum sp_status each_row(struct sp_apply *apply, struct sp_mailbox *mailbox,
                               struct sp_span_list uids, uint64_t modseq,
                               enum row_verdict (*each)(void *context, struct sp_flag_row *row),
                               void *context)
{
    enum sp_status status = SP_OK;
    uint64_t limit =
        mailbox->row.uidnext; /* spans come from the log: do not walk to 2^32 in vain */
    uint32_t next_chunk = 0;
    bool any = false;
    for (uint32_t s = 0; s < uids.count && status == SP_OK; s++) {
        uint64_t last = uids.ptr[s].last < limit ? uids.ptr[s].last : limit;
        if (uids.ptr[s].first > last)
            continue;
        uint32_t from = (uint32_t)(uids.ptr[s].first >> SP_CHUNK_SHIFT),
                 to = (uint32_t)(last >> SP_CHUNK_SHIFT);
        /* A chunk that several spans share is walked once, with all of them. */
        for (uint32_t c = any && from < next_chunk ? next_chunk : from; c <= to && status == SP_OK;
             c++) {
            struct sp_key key = sp_key_u32(&mailbox->account, mailbox->row.id, c);
            struct chunk chunk;
            bool changed = false;
            status = chunk_get(apply, &key, &chunk);
            if (status != SP_OK)
                break;
            uint32_t kept = 0, span = s;
            for (uint32_t r = 0; r < chunk.count; r++) {
                struct sp_flag_row row = chunk.rows[r];
                while (span < uids.count && uids.ptr[span].last < row.uid)
                    span++;
                enum row_verdict verdict = ROW_SAME;
                if (span < uids.count && uids.ptr[span].first <= row.uid)
                    verdict = each(context, &row);
                changed |= verdict != ROW_SAME;
                if (verdict == ROW_CHANGED)
                    row.modseq = modseq;
                if (verdict != ROW_GONE)
                    chunk.rows[kept++] = row;
            }
            chunk.count = kept;
            if (changed) {
                chunk.newest = modseq;
                status = chunk_put(apply, &key, &chunk);
            }
            next_chunk = c + 1;
            any = true;
        }
    }
    return status;
}

/* ---- Message records ---- */

enum sp_status sp_apply_body(struct sp_apply *apply, const struct sp_record *record,
                             const struct sp_place *place)
{
    struct sp_body_row row;
    memset(&row, 0, sizeof row);
    row.place.segment = place->segment; /* without what lies between its fields */
    row.place.generation = place->generation;
    row.place.block = place->block;
    row.place.offset = place->offset;
    row.payload_bytes = record->payload_bytes;
    struct sp_key key = sp_key_lsn(record->lsn);
    return sp_apply_put(apply, apply->read.index->bodies, sp_key_val(&key),
                        sp_val(&row, sizeof row));
}

static enum sp_status apply_message(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_message m;
    struct sp_mailbox mailbox;
    struct sp_account account;
    enum sp_status status = sp_message_read(record->payload, &apply->arena, &m);
    if (status == SP_OK)
        status = sp_apply_need_account(apply, &record->account, m.address, &account);
    if (status == SP_OK)
        status = sp_apply_need_mailbox(apply, record, m.path, m.uidvalidity, &mailbox);
    if (status != SP_OK)
        return status;

    struct sp_key key = sp_key_u32(&record->account, record->mailbox, m.uid >> SP_CHUNK_SHIFT);
    struct chunk chunk;
    status = chunk_get(apply, &key, &chunk);
    if (status != SP_OK)
        return status;
    bool late = m.uid < mailbox.row.uidnext;
    sp_assert(apply->replay || !late ||
              (m.origin == SP_ORIGIN_MERGE && m.uid < mailbox.row.left_uidnext));
    if (late && m.uid < mailbox.row.catalogue_uidnext)
        mailbox.row.catalogue_lsn = 0; /* no delta could say this: the next is a base */
    uint32_t at = chunk.count;
    while (at && chunk.rows[at - 1].uid >= m.uid)
        at--;
    if (chunk.count == SP_CHUNK_UIDS || (at < chunk.count && chunk.rows[at].uid == m.uid))
        return SP_CORRUPT; /* a UID used twice */
    memmove(chunk.rows + at + 1, chunk.rows + at, (chunk.count - at) * sizeof *chunk.rows);
    chunk.rows[at] =
        (struct sp_flag_row){.uid = m.uid,
                             .flags = m.system_flags | keyword_bits(&mailbox, m.keywords, true),
                             .modseq = m.modseq};
    chunk.count++;
    if (chunk.newest < m.modseq)
        chunk.newest = m.modseq;
    count_flags(&mailbox.row, chunk.rows[at].flags, true);
    status = chunk_put(apply, &key, &chunk);
    if (status != SP_OK)
        return status;

    /* The payload as it is, behind LSN and time. */
    key = sp_key_u32(&record->account, record->mailbox, m.uid);
    MDB_val k = sp_key_val(&key), value = {16 + record->payload.len, NULL};
    status = sp_mdb_status(
        mdb_put(apply->read.txn, apply->read.index->messages, &k, &value, MDB_RESERVE));
    if (status != SP_OK)
        return status;
    sp_put_u64(value.mv_data, record->lsn);
    sp_put_u64((uint8_t *)value.mv_data + 8, record->time_ns);
    memcpy((uint8_t *)value.mv_data + 16, record->payload.ptr, record->payload.len);

    if (sp_apply_chain_broken(apply, &mailbox.row.tail, record))
        mailbox.row.protected_ |= SP_PROTECTED_BROKEN;
    if (mailbox.row.uidnext <= m.uid)
        mailbox.row.uidnext = m.uid + 1;
    if (mailbox.row.highestmodseq < m.modseq)
        mailbox.row.highestmodseq = m.modseq;
    mailbox.row.size += m.size;
    status = sp_apply_put_mailbox(apply, &mailbox);
    if (status == SP_OK)
        status = sp_apply_raise_account(apply, &account, m.modseq);
    struct sp_undelete_origin origin;
    if (status == SP_OK && m.origin == SP_ORIGIN_UNDELETE &&
        sp_undelete_origin_read(m.origin_id, &origin) == SP_OK)
        status = sp_apply_let_go(apply, &record->account, origin.mailbox,
                                 (struct sp_span){origin.uid, origin.uid});
    return status == SP_OK ? sp_apply_touch(apply, &record->account, record->mailbox) : status;
}

/* FLAGS, EXPUNGE, CATALOGUE, UNPROTECT: the mailbox must be known. */
static enum sp_status open_chain(struct sp_apply *apply, const struct sp_record *record,
                                 struct sp_slice path, uint32_t uidvalidity,
                                 struct sp_account *account, struct sp_mailbox *mailbox)
{
    enum sp_status status =
        sp_apply_need_account(apply, &record->account, sp_slice(NULL, 0), account);
    if (status == SP_OK)
        status = sp_apply_need_mailbox(apply, record, path, uidvalidity, mailbox);
    if (status == SP_OK && sp_apply_chain_broken(apply, &mailbox->row.tail, record))
        mailbox->row.protected_ |= SP_PROTECTED_BROKEN;
    return status;
}

static enum sp_status close_chain(struct sp_apply *apply, struct sp_account *account,
                                  struct sp_mailbox *mailbox, uint64_t modseq)
{
    if (mailbox->row.highestmodseq < modseq)
        mailbox->row.highestmodseq = modseq;
    enum sp_status status = sp_apply_put_mailbox(apply, mailbox);
    if (status == SP_OK)
        status = sp_apply_raise_account(apply, account, modseq);
    return status == SP_OK ? sp_apply_touch(apply, &mailbox->account, mailbox->row.id) : status;
}

struct flags_context {
    struct sp_mailbox *mailbox;
    uint8_t op;
    uint64_t bits;
};

static enum row_verdict change_flags(void *context, struct sp_flag_row *row)
{
    struct flags_context *c = context;
    uint64_t flags = c->op == SP_FLAGS_ADD      ? row->flags | c->bits
                     : c->op == SP_FLAGS_REMOVE ? row->flags & ~c->bits
                                                : c->bits;
    if (flags == row->flags)
        return ROW_SAME;
    count_flags(&c->mailbox->row, row->flags, false);
    count_flags(&c->mailbox->row, flags, true);
    row->flags = flags;
    return ROW_CHANGED;
}

static enum sp_status apply_flags(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_flags_change change;
    struct sp_mailbox mailbox;
    struct sp_account account;
    enum sp_status status = sp_flags_change_read(record->payload, &apply->arena, &change);
    if (status == SP_OK)
        status = open_chain(apply, record, sp_slice(NULL, 0), 0, &account, &mailbox);
    if (status != SP_OK)
        return status;
    struct flags_context context = {&mailbox, change.op, 0};
    context.bits =
        change.system_flags | keyword_bits(&mailbox, change.keywords, change.op != SP_FLAGS_REMOVE);
    status = each_row(apply, &mailbox, change.uids, change.modseq, change_flags, &context);
    return status == SP_OK ? close_chain(apply, &account, &mailbox, change.modseq) : status;
}

struct expunge_context {
    struct sp_apply *apply;
    const struct sp_record *record;
    struct sp_mailbox *mailbox;
    enum sp_status status;
};

static enum row_verdict expunge_row(void *context, struct sp_flag_row *row)
{
    struct expunge_context *c = context;
    struct sp_key key = sp_key_u32(&c->mailbox->account, c->mailbox->row.id, row->uid);
    struct sp_slice payload;
    uint64_t lsn, time_ns;
    enum sp_status status =
        sp_index_message(&c->apply->read, &c->mailbox->account, c->mailbox->row.id, row->uid,
                         &payload, &lsn, &time_ns);
    if (status == SP_OK) {
        struct sp_message m;
        status = sp_message_read(payload, &c->apply->arena, &m);
        if (status == SP_OK)
            c->mailbox->row.size -= m.size;
        if (status == SP_OK)
            status = sp_apply_hold(c->apply, c->record, c->mailbox, row, lsn, payload);
    }
    if (status == SP_OK)
        status = sp_apply_del(c->apply, c->apply->read.index->messages, sp_key_val(&key));
    if (status != SP_OK && c->status == SP_OK)
        c->status = status;
    count_flags(&c->mailbox->row, row->flags, false);
    if (SP_BREAK(reuse_uid) && row->uid + 1 == c->mailbox->row.uidnext)
        c->mailbox->row.uidnext--;
    return ROW_GONE;
}

static enum sp_status apply_expunge(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_expunge expunge;
    struct sp_mailbox mailbox;
    struct sp_account account;
    enum sp_status status = sp_expunge_read(record->payload, &apply->arena, &expunge);
    if (status == SP_OK)
        status = open_chain(apply, record, sp_slice(NULL, 0), 0, &account, &mailbox);
    if (status != SP_OK)
        return status;
    struct expunge_context context = {apply, record, &mailbox, SP_OK};
    status = each_row(apply, &mailbox, expunge.uids, expunge.modseq, expunge_row, &context);
    if (status == SP_OK)
        status = context.status;
    if (status != SP_OK)
        return status;
    struct sp_key key = sp_key_u64(&record->account, record->mailbox, expunge.modseq);
    MDB_val k = sp_key_val(&key), value = {expunge.uids.count * sizeof(struct sp_uid_pair), NULL};
    if (expunge.uids.count) {
        status = sp_mdb_status(
            mdb_put(apply->read.txn, apply->read.index->tombstones, &k, &value, MDB_RESERVE));
        if (status != SP_OK)
            return status;
        for (uint32_t i = 0; i < expunge.uids.count; i++) {
            struct sp_uid_pair pair = {(uint32_t)expunge.uids.ptr[i].first,
                                       (uint32_t)expunge.uids.ptr[i].last};
            memcpy((uint8_t *)value.mv_data + i * sizeof pair, &pair, sizeof pair);
        }
    }
    return close_chain(apply, &account, &mailbox, expunge.modseq);
}

static enum sp_status apply_catalogue(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_catalogue catalogue;
    struct sp_mailbox mailbox;
    struct sp_account account;
    enum sp_status status = sp_catalogue_read(record->payload, &apply->arena, &catalogue);
    if (status == SP_OK)
        status =
            open_chain(apply, record, catalogue.path, catalogue.uidvalidity, &account, &mailbox);
    if (status != SP_OK)
        return status;
    mailbox.row.catalogue_lsn = record->lsn;
    mailbox.row.catalogue_modseq = catalogue.highestmodseq;
    mailbox.row.catalogue_uidnext = catalogue.uidnext;
    /* It states what the mailbox holds: with a different count something between is lost, but for
     * what had been expunged later, and was dropped. */
    if (catalogue.messages < mailbox.row.messages ||
        catalogue.messages - mailbox.row.messages > mailbox.row.dropped ||
        mailbox.row.uidnext < catalogue.uidnext) {
        sp_assert(apply->replay);
        mailbox.row.protected_ |= SP_PROTECTED_BROKEN;
        if (mailbox.row.uidnext < catalogue.uidnext)
            mailbox.row.uidnext = catalogue.uidnext;
    }
    status = sp_apply_put_mailbox(apply, &mailbox);
    return status == SP_OK ? sp_apply_raise_account(apply, &account, catalogue.highestmodseq)
                           : status;
}

/* In a replay: what was dropped of a chain. What an index that stood in the midst of it has seen is
 * no loss either. */
static enum sp_status apply_dropped(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_dropped dropped;
    struct sp_account account;
    struct sp_mailbox mailbox;
    if (!(record->flags & SP_RECORD_CHAINED))
        return SP_OK; /* bodies */
    enum sp_status status = sp_dropped_read(record->payload, &apply->arena, &dropped);
    if (status != SP_OK)
        return status;
    if (sp_uuid_is_nil(&record->account)) {
        if (sp_apply_dropped_breaks(&apply->position.volume_tail, record, &dropped))
            apply->position.list_protected = true;
        return SP_OK;
    }
    status = sp_apply_need_account(apply, &record->account, sp_slice(NULL, 0), &account);
    if (status != SP_OK)
        return status;
    if (record->mailbox == 0) {
        if (sp_apply_dropped_breaks(&account.row.tail, record, &dropped))
            account.row.protected_ = true;
        return sp_apply_raise_account(apply, &account, dropped.modseq);
    }
    status = sp_apply_need_mailbox(apply, record, sp_slice(NULL, 0), 0, &mailbox);
    if (status != SP_OK)
        return status;
    if (sp_apply_dropped_breaks(&mailbox.row.tail, record, &dropped))
        mailbox.row.protected_ = true;
    if (mailbox.row.uidnext < dropped.uidnext)
        mailbox.row.uidnext = dropped.uidnext;
    for (uint32_t i = 0; i < dropped.uids.count; i++)
        mailbox.row.dropped += (uint32_t)(dropped.uids.ptr[i].last - dropped.uids.ptr[i].first + 1);
    return close_chain(apply, &account, &mailbox, dropped.modseq);
}

static enum sp_status apply_unprotect(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_account account;
    struct sp_mailbox mailbox;
    if (sp_uuid_is_nil(&record->account)) {
        apply->position.volume_tail = record->lsn;
        apply->position.list_protected = false;
        return SP_OK;
    }
    enum sp_status status =
        sp_apply_need_account(apply, &record->account, sp_slice(NULL, 0), &account);
    if (status != SP_OK)
        return status;
    if (record->mailbox == 0) {
        account.row.tail = record->lsn;
        account.row.protected_ = 0;
        return sp_apply_put_account(apply, &account);
    }
    status = sp_apply_need_mailbox(apply, record, sp_slice(NULL, 0), 0, &mailbox);
    if (status != SP_OK)
        return status;
    mailbox.row.tail = record->lsn;
    mailbox.row.protected_ = 0;
    /* Whatever the lost records had told of is behind this: the account's counter was moved past
     * all that they can have given out. */
    if (mailbox.row.highestmodseq < account.row.modseq)
        mailbox.row.highestmodseq = account.row.modseq;
    mailbox.row.vanished_modseq = mailbox.row.highestmodseq;
    status = sp_apply_put_mailbox(apply, &mailbox);
    return status == SP_OK ? sp_apply_touch(apply, &record->account, record->mailbox) : status;
}

/* ---- An account's own chain ---- */

enum sp_status sp_apply_on_account(struct sp_apply *apply, const struct sp_record *record,
                                   struct sp_account *ret)
{
    enum sp_status status = sp_apply_need_account(apply, &record->account, sp_slice(NULL, 0), ret);
    if (status == SP_OK && sp_apply_chain_broken(apply, &ret->row.tail, record))
        ret->row.protected_ |= SP_PROTECTED_BROKEN;
    return status;
}

static enum sp_status apply_mailbox(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_mailbox_record m;
    struct sp_account account;
    struct sp_mailbox mailbox;
    enum sp_status status = sp_mailbox_record_read(record->payload, &m);
    if (status == SP_OK)
        status = sp_apply_on_account(apply, record, &account);
    if (status != SP_OK)
        return status;
    status = sp_index_mailbox(&apply->read, &record->account, m.id, &mailbox);
    if (status != SP_OK && status != SP_NOT_FOUND)
        return status;
    bool known = status == SP_OK;
    if (known && (status = sp_apply_own_mailbox(apply, &mailbox)) != SP_OK)
        return status;
    struct sp_key old_name = sp_key_path(&record->account, known ? mailbox.path : m.path);
    struct sp_key row_key = sp_key_mailbox(&record->account, m.id);
    status = SP_OK;
    if (record->type == SP_RECORD_MAILBOX_DELETE) {
        struct sp_span all = {1, UINT32_MAX};
        struct expunge_context context = {apply, record, &mailbox, SP_OK};
        if (known)
            status = each_row(apply, &mailbox, (struct sp_span_list){&all, 1}, m.modseq,
                              expunge_row, &context);
        if (status == SP_OK)
            status = context.status;
        if (status == SP_OK)
            status = sp_apply_del(apply, apply->read.index->names, sp_key_val(&old_name));
        if (status == SP_OK)
            status = sp_apply_del(apply, apply->read.index->mailboxes, sp_key_val(&row_key));
        if (status == SP_OK)
            status = sp_apply_forget_acl(apply, &record->account, m.id);
    } else {
        if (!known) {
            mailbox = (struct sp_mailbox){.account = record->account};
            mailbox.row =
                (struct sp_mailbox_row){.id = m.id, .uidvalidity = m.uidvalidity, .uidnext = 1};
            if (record->type != SP_RECORD_MAILBOX) /* its creation is lost */
                mailbox.row.protected_ |= SP_PROTECTED_BROKEN;
            if (m.lead && m.lead < UINT32_MAX) {
                mailbox.row.protected_ |= SP_PROTECTED_LEFT;
                mailbox.row.uidnext = mailbox.row.left_uidnext = 1 + m.lead;
            }
        } else if (record->type == SP_RECORD_MAILBOX_RENAME) {
            status = sp_apply_del(apply, apply->read.index->names, sp_key_val(&old_name));
        }
        mailbox.path = m.path;
        mailbox.row.special_use = m.special_use;
        if (mailbox.row.highestmodseq < m.modseq)
            mailbox.row.highestmodseq = m.modseq;
        if (status == SP_OK)
            status = sp_apply_put_name(apply, &record->account, m.path, m.id);
        if (status == SP_OK)
            status = sp_apply_put_mailbox(apply, &mailbox);
    }
    if (status != SP_OK)
        return status;
    if (account.row.mailbox_next <= m.id)
        account.row.mailbox_next = m.id + 1;
    if (account.row.uidvalidity_next <= m.uidvalidity)
        account.row.uidvalidity_next = m.uidvalidity + 1;
    status = sp_apply_raise_account(apply, &account, m.modseq);
    return status == SP_OK ? sp_apply_touch(apply, &record->account, m.id) : status;
}

static enum sp_status apply_subscribe(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_subscribe subscribe;
    struct sp_account account;
    enum sp_status status = sp_subscribe_read(record->payload, &subscribe);
    if (status == SP_OK)
        status = sp_apply_on_account(apply, record, &account);
    if (status != SP_OK)
        return status;
    struct sp_key key = sp_key_path(&record->account, subscribe.path);
    status = subscribe.subscribed
                 ? sp_apply_put(apply, apply->read.index->subscribed, sp_key_val(&key),
                                sp_val(subscribe.path.ptr, subscribe.path.len))
                 : sp_apply_del(apply, apply->read.index->subscribed, sp_key_val(&key));
    return status == SP_OK ? sp_apply_put_account(apply, &account) : status;
}

static enum sp_status apply_credential(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_credential credential;
    struct sp_account account;
    enum sp_status status = sp_credential_read(record->payload, &credential);
    if (status == SP_OK)
        status = sp_apply_on_account(apply, record, &account);
    if (status != SP_OK)
        return status;
    account.credential = record->payload;
    account.row.credential_lsn = record->lsn;
    return sp_apply_put_account(apply, &account);
}

enum sp_status sp_apply_record(struct sp_apply *apply, const struct sp_record *record,
                               const struct sp_place *place)
{
    enum sp_status status;
    switch (record->type) {
    case SP_RECORD_BODY:
    case SP_RECORD_BODY_CHUNK:
        status = sp_apply_body(apply, record, place);
        break;
    case SP_RECORD_MESSAGE:
        status = apply_message(apply, record);
        break;
    case SP_RECORD_FLAGS:
        status = apply_flags(apply, record);
        break;
    case SP_RECORD_EXPUNGE:
        status = apply_expunge(apply, record);
        break;
    case SP_RECORD_CATALOGUE:
        status = apply_catalogue(apply, record);
        break;
    case SP_RECORD_UNPROTECT:
        status = apply_unprotect(apply, record);
        break;
    case SP_RECORD_DROPPED:
        status = apply_dropped(apply, record);
        break;
    case SP_RECORD_MAILBOX:
    case SP_RECORD_MAILBOX_RENAME:
    case SP_RECORD_MAILBOX_DELETE:
        status = apply_mailbox(apply, record);
        break;
    case SP_RECORD_SUBSCRIBE:
        status = apply_subscribe(apply, record);
        break;
    case SP_RECORD_CREDENTIAL:
        status = apply_credential(apply, record);
        break;
    case SP_RECORD_ACL:
        status = sp_apply_acl(apply, record);
        break;
    case SP_RECORD_ACCOUNT:
    case SP_RECORD_ACCOUNT_REMOVE:
    case SP_RECORD_DOMAIN:
    case SP_RECORD_MANIFEST:
    case SP_RECORD_GAP:
    case SP_RECORD_TAILS:
    case SP_RECORD_GUARD:
    case SP_RECORD_MERGE:
    case SP_RECORD_CLOCK:
    case SP_RECORD_ERASE:
        status = sp_apply_volume_record(apply, record, place);
        break;
    default:
        status = record->flags & SP_RECORD_OPTIONAL ? SP_OK : SP_UNSUPPORTED;
        break;
    }
    /* In a ruined log a record may concern a mailbox of which nothing else is left. */
    if (status == SP_NOT_FOUND && apply->replay)
        status = SP_OK;
    apply->position.time_ns = record->time_ns;
    sp_arena_release(&apply->arena);
    return status;
}
