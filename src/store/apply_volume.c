/* What the records on the volume's own chain mean to the index. */
#include "store/apply_internal.h"

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
            status = sp_apply_own_account(apply, &account);
            if (status != SP_OK)
                return status;
        } else {
            return status;
        }
        account.address = a.address;
        status = sp_apply_put_account(apply, &account);
        return status == SP_OK
                   ? sp_apply_put(apply, apply->read.index->addresses,
                                  sp_val(a.address.ptr, a.address.len), sp_val(a.id.bytes, 16))
                   : status;
    }
    const MDB_dbi tables[] = {apply->read.index->mailboxes,  apply->read.index->names,
                              apply->read.index->subscribed, apply->read.index->flags,
                              apply->read.index->messages,   apply->read.index->tombstones,
                              apply->read.index->accounts};
    for (size_t i = 0; i < sizeof tables / sizeof *tables && status == SP_OK; i++)
        status = drop_account_entries(apply, tables[i], &a.id);
    return status == SP_OK ? sp_apply_del(apply, apply->read.index->addresses,
                                          sp_val(a.address.ptr, a.address.len))
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
            status = sp_apply_own_mailbox(apply, &copy);
            if (status != SP_OK)
                return status;
            if (copy.row.uidnext <= UINT32_MAX - gap.uidnext_skip)
                copy.row.uidnext += gap.uidnext_skip;
            status = sp_apply_put_mailbox(apply, &copy);
            if (status != SP_OK)
                return status;
        }
        if (status != SP_EOF)
            return status;
        struct sp_account copy = account;
        status = sp_apply_own_account(apply, &copy);
        if (status != SP_OK)
            return status;
        copy.row.modseq += gap.modseq_skip;
        copy.row.uidvalidity_next += copy.row.uidvalidity_next < UINT32_MAX - 65536 ? 65536 : 0;
        copy.row.mailbox_next += 65536;
        status = sp_apply_put_account(apply, &copy);
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
        if (account.row.tail == tail->lsn ||
            (status = sp_apply_own_account(apply, &account)) != SP_OK)
            return status;
        account.row.protected_ = true;
        return sp_apply_put_account(apply, &account);
    }
    if (mailbox.row.tail == tail->lsn || (status = sp_apply_own_mailbox(apply, &mailbox)) != SP_OK)
        return status;
    mailbox.row.protected_ = true;
    if (mailbox.row.uidnext < tail->uidnext)
        mailbox.row.uidnext = tail->uidnext;
    return sp_apply_put_mailbox(apply, &mailbox);
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

enum sp_status sp_apply_volume_record(struct sp_apply *apply, const struct sp_record *record,
                                      const struct sp_place *place)
{
    struct sp_domain_record domain;
    enum sp_status status = SP_OK;
    if (sp_apply_chain_broken(apply, &apply->position.volume_tail, record))
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
    case SP_RECORD_GUARD:
        return sp_apply_guard(apply, record);
    default:
        status = sp_domain_record_read(record->payload, &domain);
        if (status != SP_OK)
            return status;
        return sp_apply_put(apply, apply->read.index->domains,
                            sp_val(domain.name.ptr, domain.name.len), sp_val("", 1));
    }
}
