/* What each record means to the index. The same code serves the committer and replay, so an index
 * that was rebuilt is the index that was. */
#include "base/endian.h"
#include "store/index_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define ARENA_BYTES   (96U << 20) /* of one record's arrays */
#define ROW_BYTES_MAX 8192U       /* of an account's or a mailbox's row */

static const char position_key[] = "position";

/* ---- The transaction ---- */

static void read_boot_id(char ret_boot_id[40])
{
    memset(ret_boot_id, 0, 40);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, ret_boot_id, 36);
    close(fd);
    if (n < 0)
        ret_boot_id[0] = '\0';
}

enum sp_status sp_apply_begin(struct sp_index *index, bool replay, struct sp_apply *ret_apply)
{
    struct sp_apply apply = {.read = {.index = index}, .replay = replay};
    int rc = mdb_txn_begin(index->env, NULL, 0, &apply.read.txn);
    if (rc)
        return sp_mdb_status(rc);
    enum sp_status status = sp_index_position(&apply.read, &apply.position);
    if (status == SP_NOT_FOUND) {
        apply.position = (struct sp_position){.schema = SP_INDEX_SCHEMA};
        status = SP_OK;
    }
    if (status != SP_OK) {
        mdb_txn_abort(apply.read.txn);
        return status;
    }
    apply.position.clean = false;
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

static enum sp_status put(struct sp_apply *apply, MDB_dbi table, MDB_val key, MDB_val value)
{
    return sp_mdb_status(mdb_put(apply->read.txn, table, &key, &value, 0));
}

static enum sp_status del(struct sp_apply *apply, MDB_dbi table, MDB_val key)
{
    int rc = mdb_del(apply->read.txn, table, &key, NULL);
    return rc == MDB_NOTFOUND ? SP_OK : sp_mdb_status(rc);
}

enum sp_status sp_apply_commit(struct sp_apply *apply, const struct sp_log_end *end)
{
    apply->position.end = *end;
    if (!apply->position.boot_id[0])
        read_boot_id(apply->position.boot_id);
    enum sp_status status =
        put(apply, apply->read.index->meta, sp_val(position_key, sizeof position_key),
            sp_val(&apply->position, sizeof apply->position));
    if (status != SP_OK) {
        sp_apply_abort(apply);
        return status;
    }
    int rc = mdb_txn_commit(apply->read.txn);
    apply_release(apply);
    return sp_mdb_status(rc);
}

static enum sp_status touch(struct sp_apply *apply, const struct sp_uuid *account, uint32_t mailbox)
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

/* ---- Rows ---- */

static enum sp_status put_account(struct sp_apply *apply, const struct sp_account *account)
{
    uint8_t bytes[ROW_BYTES_MAX];
    struct sp_account_row row = account->row;
    if (sizeof row + account->address.len + account->credential.len > sizeof bytes)
        return SP_CORRUPT;
    row.address_len = (uint16_t)account->address.len;
    row.credential_len = (uint16_t)account->credential.len;
    memcpy(bytes, &row, sizeof row);
    if (account->address.len)
        memcpy(bytes + sizeof row, account->address.ptr, account->address.len);
    if (account->credential.len)
        memcpy(bytes + sizeof row + account->address.len, account->credential.ptr,
               account->credential.len);
    return put(apply, apply->read.index->accounts, sp_val(account->id.bytes, 16),
               sp_val(bytes, sizeof row + account->address.len + account->credential.len));
}

static enum sp_status put_mailbox(struct sp_apply *apply, const struct sp_mailbox *mailbox)
{
    uint8_t bytes[ROW_BYTES_MAX];
    struct sp_mailbox_row row = mailbox->row;
    size_t at = sizeof row;
    row.path_len = (uint16_t)mailbox->path.len;
    if (at + mailbox->path.len > sizeof bytes)
        return SP_CORRUPT;
    memcpy(bytes, &row, sizeof row);
    memcpy(bytes + at, mailbox->path.ptr, mailbox->path.len);
    at += mailbox->path.len;
    for (size_t i = 0; i < row.keywords_count; i++) {
        struct sp_slice keyword = mailbox->keywords[i];
        if (keyword.len > UINT8_MAX || at + 1 + keyword.len > sizeof bytes)
            return SP_CORRUPT;
        bytes[at++] = (uint8_t)keyword.len;
        memcpy(bytes + at, keyword.ptr, keyword.len);
        at += keyword.len;
    }
    struct sp_key key = sp_key_mailbox(&mailbox->account, row.id);
    return put(apply, apply->read.index->mailboxes, sp_key_val(&key), sp_val(bytes, at));
}

/* A row that is changed while the transaction writes other pages must not point into the map. */
static enum sp_status own(struct sp_apply *apply, struct sp_slice *slice)
{
    struct sp_slice copy = sp_arena_copy(&apply->arena, *slice);
    if (slice->len && !copy.ptr)
        return SP_NO_MEMORY;
    *slice = copy;
    return SP_OK;
}

static enum sp_status own_account(struct sp_apply *apply, struct sp_account *account)
{
    enum sp_status status = own(apply, &account->address);
    return status == SP_OK ? own(apply, &account->credential) : status;
}

static enum sp_status own_mailbox(struct sp_apply *apply, struct sp_mailbox *mailbox)
{
    enum sp_status status = own(apply, &mailbox->path);
    for (size_t i = 0; i < mailbox->row.keywords_count && status == SP_OK; i++)
        status = own(apply, &mailbox->keywords[i]);
    return status;
}

/* The account's row, made up when its records are lost. */
static enum sp_status need_account(struct sp_apply *apply, const struct sp_uuid *id,
                                   struct sp_slice address, struct sp_account *ret)
{
    enum sp_status status = sp_index_account(&apply->read, id, ret);
    if (status == SP_OK && (ret->address.len || !address.len))
        return own_account(apply, ret);
    if (status == SP_OK) {
        ret->address = address;
        status = own_account(apply, ret);
    } else if (status == SP_NOT_FOUND) {
        sp_assert(apply->replay);
        *ret = (struct sp_account){.id = *id, .address = address};
        ret->row =
            (struct sp_account_row){.mailbox_next = 1, .uidvalidity_next = 1, .protected_ = true};
        apply->position.list_protected = true;
        status = SP_OK;
    }
    if (status != SP_OK)
        return status;
    if (address.len == 0)
        return SP_OK;
    return put(apply, apply->read.index->addresses, sp_val(address.ptr, address.len),
               sp_val(id->bytes, 16));
}

static enum sp_status put_name(struct sp_apply *apply, const struct sp_uuid *account,
                               struct sp_slice path, uint32_t id)
{
    struct sp_key key = sp_key_path(account, path);
    return put(apply, apply->read.index->names, sp_key_val(&key), sp_val(&id, sizeof id));
}

static enum sp_status need_mailbox(struct sp_apply *apply, const struct sp_record *record,
                                   struct sp_slice path, uint32_t uidvalidity,
                                   struct sp_mailbox *ret)
{
    enum sp_status status = sp_index_mailbox(&apply->read, &record->account, record->mailbox, ret);
    if (status == SP_OK)
        return own_mailbox(apply, ret);
    if (status != SP_NOT_FOUND)
        return status;
    sp_assert(apply->replay);
    if (path.len == 0)
        return SP_NOT_FOUND; /* nothing is known of it: its list is protected already, its records
                                wait in the log */
    *ret = (struct sp_mailbox){.account = record->account, .path = path};
    ret->row = (struct sp_mailbox_row){
        .id = record->mailbox, .uidvalidity = uidvalidity, .uidnext = 1, .protected_ = true};
    return put_name(apply, &record->account, path, record->mailbox);
}

/* Holds the chain's tail against what the record says; a difference means that records between them
 * are lost. */
static bool chain_broken(const struct sp_apply *apply, uint64_t *tail,
                         const struct sp_record *record)
{
    bool broken = *tail != record->previous;
    sp_assert(!broken || apply->replay);
    *tail = record->lsn;
    return broken;
}

/* The account's MODSEQ and identifiers never fall behind what was given out. */
static enum sp_status raise_account(struct sp_apply *apply, struct sp_account *account,
                                    uint64_t modseq)
{
    if (account->row.modseq < modseq)
        account->row.modseq = modseq;
    return put_account(apply, account);
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
        return del(apply, apply->read.index->flags, sp_key_val(key));
    memcpy(bytes, &chunk->newest, SP_CHUNK_HEAD_BYTES);
    memcpy(bytes + SP_CHUNK_HEAD_BYTES, chunk->rows, chunk->count * sizeof *chunk->rows);
    return put(apply, apply->read.index->flags, sp_key_val(key),
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

static enum sp_status apply_body(struct sp_apply *apply, const struct sp_record *record,
                                 const struct sp_place *place)
{
    struct sp_body_row row;
    memset(&row, 0, sizeof row);
    row.place = *place;
    row.payload_bytes = record->payload_bytes;
    struct sp_key key = sp_key_lsn(record->lsn);
    return put(apply, apply->read.index->bodies, sp_key_val(&key), sp_val(&row, sizeof row));
}

static enum sp_status apply_message(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_message m;
    struct sp_mailbox mailbox;
    struct sp_account account;
    enum sp_status status = sp_message_read(record->payload, &apply->arena, &m);
    if (status == SP_OK)
        status = need_account(apply, &record->account, m.address, &account);
    if (status == SP_OK)
        status = need_mailbox(apply, record, m.path, m.uidvalidity, &mailbox);
    if (status != SP_OK)
        return status;

    struct sp_key key = sp_key_u32(&record->account, record->mailbox, m.uid >> SP_CHUNK_SHIFT);
    struct chunk chunk;
    status = chunk_get(apply, &key, &chunk);
    if (status != SP_OK)
        return status;
    sp_assert(apply->replay || m.uid >= mailbox.row.uidnext);
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

    if (chain_broken(apply, &mailbox.row.tail, record))
        mailbox.row.protected_ = true;
    if (mailbox.row.uidnext <= m.uid)
        mailbox.row.uidnext = m.uid + 1;
    if (mailbox.row.highestmodseq < m.modseq)
        mailbox.row.highestmodseq = m.modseq;
    mailbox.row.size += m.size;
    status = put_mailbox(apply, &mailbox);
    if (status == SP_OK)
        status = raise_account(apply, &account, m.modseq);
    return status == SP_OK ? touch(apply, &record->account, record->mailbox) : status;
}

/* FLAGS, EXPUNGE, CATALOGUE, UNPROTECT: the mailbox must be known. */
static enum sp_status open_chain(struct sp_apply *apply, const struct sp_record *record,
                                 struct sp_slice path, uint32_t uidvalidity,
                                 struct sp_account *account, struct sp_mailbox *mailbox)
{
    enum sp_status status = need_account(apply, &record->account, sp_slice(NULL, 0), account);
    if (status == SP_OK)
        status = need_mailbox(apply, record, path, uidvalidity, mailbox);
    if (status == SP_OK && chain_broken(apply, &mailbox->row.tail, record))
        mailbox->row.protected_ = true;
    return status;
}

static enum sp_status close_chain(struct sp_apply *apply, struct sp_account *account,
                                  struct sp_mailbox *mailbox, uint64_t modseq)
{
    if (mailbox->row.highestmodseq < modseq)
        mailbox->row.highestmodseq = modseq;
    enum sp_status status = put_mailbox(apply, mailbox);
    if (status == SP_OK)
        status = raise_account(apply, account, modseq);
    return status == SP_OK ? touch(apply, &mailbox->account, mailbox->row.id) : status;
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
    }
    if (status == SP_OK)
        status = del(c->apply, c->apply->read.index->messages, sp_key_val(&key));
    if (status != SP_OK && c->status == SP_OK)
        c->status = status;
    count_flags(&c->mailbox->row, row->flags, false);
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
    struct expunge_context context = {apply, &mailbox, SP_OK};
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
    /* It states what the mailbox holds: with a different count something between is lost. */
    if (mailbox.row.messages != catalogue.messages || mailbox.row.uidnext < catalogue.uidnext) {
        sp_assert(apply->replay);
        mailbox.row.protected_ = true;
        if (mailbox.row.uidnext < catalogue.uidnext)
            mailbox.row.uidnext = catalogue.uidnext;
    }
    status = put_mailbox(apply, &mailbox);
    return status == SP_OK ? raise_account(apply, &account, catalogue.highestmodseq) : status;
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
    enum sp_status status = need_account(apply, &record->account, sp_slice(NULL, 0), &account);
    if (status != SP_OK)
        return status;
    if (record->mailbox == 0) {
        account.row.tail = record->lsn;
        account.row.protected_ = false;
        return put_account(apply, &account);
    }
    status = need_mailbox(apply, record, sp_slice(NULL, 0), 0, &mailbox);
    if (status != SP_OK)
        return status;
    mailbox.row.tail = record->lsn;
    mailbox.row.protected_ = false;
    status = put_mailbox(apply, &mailbox);
    return status == SP_OK ? touch(apply, &record->account, record->mailbox) : status;
}

/* ---- An account's own chain ---- */

static enum sp_status apply_mailbox(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_mailbox_record m;
    struct sp_account account;
    struct sp_mailbox mailbox;
    enum sp_status status = sp_mailbox_record_read(record->payload, &m);
    if (status == SP_OK)
        status = need_account(apply, &record->account, sp_slice(NULL, 0), &account);
    if (status != SP_OK)
        return status;
    if (chain_broken(apply, &account.row.tail, record))
        account.row.protected_ = true;
    status = sp_index_mailbox(&apply->read, &record->account, m.id, &mailbox);
    if (status != SP_OK && status != SP_NOT_FOUND)
        return status;
    bool known = status == SP_OK;
    if (known && (status = own_mailbox(apply, &mailbox)) != SP_OK)
        return status;
    struct sp_key old_name = sp_key_path(&record->account, known ? mailbox.path : m.path);
    struct sp_key row_key = sp_key_mailbox(&record->account, m.id);
    status = SP_OK;
    if (record->type == SP_RECORD_MAILBOX_DELETE) {
        struct sp_span all = {1, UINT32_MAX};
        struct expunge_context context = {apply, &mailbox, SP_OK};
        if (known)
            status = each_row(apply, &mailbox, (struct sp_span_list){&all, 1}, m.modseq,
                              expunge_row, &context);
        if (status == SP_OK)
            status = context.status;
        if (status == SP_OK)
            status = del(apply, apply->read.index->names, sp_key_val(&old_name));
        if (status == SP_OK)
            status = del(apply, apply->read.index->mailboxes, sp_key_val(&row_key));
    } else {
        if (!known) {
            mailbox = (struct sp_mailbox){.account = record->account};
            mailbox.row =
                (struct sp_mailbox_row){.id = m.id, .uidvalidity = m.uidvalidity, .uidnext = 1};
            mailbox.row.protected_ = record->type != SP_RECORD_MAILBOX; /* its creation is lost */
        } else if (record->type == SP_RECORD_MAILBOX_RENAME) {
            status = del(apply, apply->read.index->names, sp_key_val(&old_name));
        }
        mailbox.path = m.path;
        mailbox.row.special_use = m.special_use;
        if (mailbox.row.highestmodseq < m.modseq)
            mailbox.row.highestmodseq = m.modseq;
        if (status == SP_OK)
            status = put_name(apply, &record->account, m.path, m.id);
        if (status == SP_OK)
            status = put_mailbox(apply, &mailbox);
    }
    if (status != SP_OK)
        return status;
    if (account.row.mailbox_next <= m.id)
        account.row.mailbox_next = m.id + 1;
    if (account.row.uidvalidity_next <= m.uidvalidity)
        account.row.uidvalidity_next = m.uidvalidity + 1;
    status = raise_account(apply, &account, m.modseq);
    return status == SP_OK ? touch(apply, &record->account, m.id) : status;
}

static enum sp_status apply_subscribe(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_subscribe subscribe;
    struct sp_account account;
    enum sp_status status = sp_subscribe_read(record->payload, &subscribe);
    if (status == SP_OK)
        status = need_account(apply, &record->account, sp_slice(NULL, 0), &account);
    if (status != SP_OK)
        return status;
    if (chain_broken(apply, &account.row.tail, record))
        account.row.protected_ = true;
    struct sp_key key = sp_key_path(&record->account, subscribe.path);
    status = subscribe.subscribed ? put(apply, apply->read.index->subscribed, sp_key_val(&key),
                                        sp_val(subscribe.path.ptr, subscribe.path.len))
                                  : del(apply, apply->read.index->subscribed, sp_key_val(&key));
    return status == SP_OK ? put_account(apply, &account) : status;
}

static enum sp_status apply_credential(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_credential credential;
    struct sp_account account;
    enum sp_status status = sp_credential_read(record->payload, &credential);
    if (status == SP_OK)
        status = need_account(apply, &record->account, sp_slice(NULL, 0), &account);
    if (status != SP_OK)
        return status;
    if (chain_broken(apply, &account.row.tail, record))
        account.row.protected_ = true;
    account.credential = record->payload;
    return put_account(apply, &account);
}

/* ---- The volume's chain ---- */

/* Deletes all entries whose key begins with the account. */
static enum sp_status drop_account_entries(struct sp_apply *apply, MDB_dbi table,
                                           const struct sp_uuid *account)
{
    MDB_cursor *cursor;
    MDB_val key = sp_val(account->bytes, 16), value;
    int rc = mdb_cursor_open(apply->read.txn, table, &cursor);
    if (rc)
        return sp_mdb_status(rc);
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (!rc && key.mv_size >= 16 && memcmp(key.mv_data, account->bytes, 16) == 0) {
        rc = mdb_cursor_del(cursor, 0);
        if (!rc) /* after a deletion this is the entry that moved into its place */
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc && rc != MDB_NOTFOUND ? sp_mdb_status(rc) : SP_OK;
}

static enum sp_status apply_account(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_account_record a;
    struct sp_account account;
    enum sp_status status = sp_account_record_read(record->payload, &a);
    if (status != SP_OK)
        return status;
    if (record->type == SP_RECORD_ACCOUNT) {
        status = sp_index_account(&apply->read, &a.id, &account);
        if (status == SP_NOT_FOUND) {
            account = (struct sp_account){.id = a.id};
            account.row = (struct sp_account_row){.mailbox_next = 1, .uidvalidity_next = 1};
        } else if (status == SP_OK) {
            status = own_account(apply, &account);
            if (status != SP_OK)
                return status;
        } else {
            return status;
        }
        account.address = a.address;
        status = put_account(apply, &account);
        return status == SP_OK ? put(apply, apply->read.index->addresses,
                                     sp_val(a.address.ptr, a.address.len), sp_val(a.id.bytes, 16))
                               : status;
    }
    const MDB_dbi tables[] = {apply->read.index->mailboxes,  apply->read.index->names,
                              apply->read.index->subscribed, apply->read.index->flags,
                              apply->read.index->messages,   apply->read.index->tombstones,
                              apply->read.index->accounts};
    for (size_t i = 0; i < sizeof tables / sizeof *tables && status == SP_OK; i++)
        status = drop_account_entries(apply, tables[i], &a.id);
    return status == SP_OK
               ? del(apply, apply->read.index->addresses, sp_val(a.address.ptr, a.address.len))
               : status;
}

static enum sp_status apply_manifest(struct sp_apply *apply, const struct sp_record *record,
                                     const struct sp_place *place)
{
    struct sp_manifest manifest;
    enum sp_status status = sp_manifest_read(record->payload, &apply->arena, &manifest);
    if (status == SP_OK && manifest.base) {
        apply->position.manifest_segment = place->segment;
        apply->position.manifest_lsn = record->lsn;
    }
    return status;
}

/* Moves every counter ahead of what a lost record may have given out. */
static enum sp_status apply_gap(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_gap gap;
    struct sp_account account = {0};
    enum sp_status status = sp_gap_read(record->payload, &apply->arena, &gap);
    while (status == SP_OK && (status = sp_index_next_account(&apply->read, &account)) == SP_OK) {
        struct sp_mailbox mailbox = {.account = account.id};
        while ((status = sp_index_next_mailbox(&apply->read, &account.id, &mailbox)) == SP_OK) {
            struct sp_mailbox copy = mailbox;
            status = own_mailbox(apply, &copy);
            if (status != SP_OK)
                return status;
            if (copy.row.uidnext <= UINT32_MAX - gap.uidnext_skip)
                copy.row.uidnext += gap.uidnext_skip;
            status = put_mailbox(apply, &copy);
            if (status != SP_OK)
                return status;
        }
        if (status != SP_EOF)
            return status;
        struct sp_account copy = account;
        status = own_account(apply, &copy);
        if (status != SP_OK)
            return status;
        copy.row.modseq += gap.modseq_skip;
        copy.row.uidvalidity_next += copy.row.uidvalidity_next < UINT32_MAX - 65536 ? 65536 : 0;
        copy.row.mailbox_next += 65536;
        status = put_account(apply, &copy);
    }
    return status == SP_EOF ? SP_OK : status;
}

/* In a replay: a chain that ended before it is said to have ended is broken, and nothing after this
 * record may ever show it. */
static enum sp_status apply_tail(struct sp_apply *apply, const struct sp_tail *tail)
{
    struct sp_account account;
    struct sp_mailbox mailbox;
    enum sp_status status = sp_index_account(&apply->read, &tail->account, &account);
    if (status == SP_OK && tail->mailbox)
        status = sp_index_mailbox(&apply->read, &tail->account, tail->mailbox, &mailbox);
    if (status != SP_OK)
        return status == SP_NOT_FOUND ? SP_OK : status; /* the list that names it is broken */
    if (!tail->mailbox) {
        if (account.row.tail == tail->lsn || (status = own_account(apply, &account)) != SP_OK)
            return status;
        account.row.protected_ = true;
        return put_account(apply, &account);
    }
    if (mailbox.row.tail == tail->lsn || (status = own_mailbox(apply, &mailbox)) != SP_OK)
        return status;
    mailbox.row.protected_ = true;
    if (mailbox.row.uidnext < tail->uidnext)
        mailbox.row.uidnext = tail->uidnext;
    return put_mailbox(apply, &mailbox);
}

static enum sp_status apply_tails(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_tails tails;
    if (!apply->replay)
        return SP_OK; /* read from this very index a moment ago */
    enum sp_status status = sp_tails_read(record->payload, &apply->arena, &tails);
    for (uint32_t i = 0; status == SP_OK && i < tails.count; i++)
        status = apply_tail(apply, &tails.list[i]);
    return status;
}

static enum sp_status apply_volume_record(struct sp_apply *apply, const struct sp_record *record,
                                          const struct sp_place *place)
{
    struct sp_domain_record domain;
    enum sp_status status = SP_OK;
    if (chain_broken(apply, &apply->position.volume_tail, record))
        apply->position.list_protected = true;
    switch (record->type) {
    case SP_RECORD_ACCOUNT:
    case SP_RECORD_ACCOUNT_REMOVE:
        return apply_account(apply, record);
    case SP_RECORD_MANIFEST:
        return apply_manifest(apply, record, place);
    case SP_RECORD_GAP:
        return apply_gap(apply, record);
    case SP_RECORD_TAILS:
        return apply_tails(apply, record);
    default:
        status = sp_domain_record_read(record->payload, &domain);
        if (status != SP_OK)
            return status;
        return put(apply, apply->read.index->domains, sp_val(domain.name.ptr, domain.name.len),
                   sp_val("", 1));
    }
}

enum sp_status sp_apply_record(struct sp_apply *apply, const struct sp_record *record,
                               const struct sp_place *place)
{
    enum sp_status status;
    switch (record->type) {
    case SP_RECORD_BODY:
    case SP_RECORD_BODY_CHUNK:
        status = apply_body(apply, record, place);
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
    case SP_RECORD_ACCOUNT:
    case SP_RECORD_ACCOUNT_REMOVE:
    case SP_RECORD_DOMAIN:
    case SP_RECORD_MANIFEST:
    case SP_RECORD_GAP:
    case SP_RECORD_TAILS:
        status = apply_volume_record(apply, record, place);
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
