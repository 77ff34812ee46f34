/* Rows of accounts and mailboxes, as records change them. */
#include "store/apply_internal.h"

#define ROW_BYTES_MAX 8192U /* of an account's or a mailbox's row */

enum sp_status sp_apply_put(struct sp_apply *apply, MDB_dbi table, MDB_val key, MDB_val value)
{
    return sp_mdb_status(mdb_put(apply->read.txn, table, &key, &value, 0));
}

enum sp_status sp_apply_del(struct sp_apply *apply, MDB_dbi table, MDB_val key)
{
    int rc = mdb_del(apply->read.txn, table, &key, NULL);
    return rc == MDB_NOTFOUND ? SP_OK : sp_mdb_status(rc);
}

enum sp_status sp_apply_put_account(struct sp_apply *apply, const struct sp_account *account)
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
    return sp_apply_put(apply, apply->read.index->accounts, sp_val(account->id.bytes, 16),
                        sp_val(bytes, sizeof row + account->address.len + account->credential.len));
}

enum sp_status sp_apply_put_mailbox(struct sp_apply *apply, const struct sp_mailbox *mailbox)
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
    return sp_apply_put(apply, apply->read.index->mailboxes, sp_key_val(&key), sp_val(bytes, at));
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

enum sp_status sp_apply_own_account(struct sp_apply *apply, struct sp_account *account)
{
    enum sp_status status = own(apply, &account->address);
    return status == SP_OK ? own(apply, &account->credential) : status;
}

enum sp_status sp_apply_own_mailbox(struct sp_apply *apply, struct sp_mailbox *mailbox)
{
    enum sp_status status = own(apply, &mailbox->path);
    for (size_t i = 0; i < mailbox->row.keywords_count && status == SP_OK; i++)
        status = own(apply, &mailbox->keywords[i]);
    return status;
}

/* The account's row, made up when its records are lost. */
enum sp_status sp_apply_need_account(struct sp_apply *apply, const struct sp_uuid *id,
                                     struct sp_slice address, struct sp_account *ret)
{
    enum sp_status status = sp_index_account(&apply->read, id, ret);
    if (status == SP_OK && (ret->address.len || !address.len))
        return sp_apply_own_account(apply, ret);
    if (status == SP_OK) {
        ret->address = address;
        status = sp_apply_own_account(apply, ret);
    } else if (status == SP_NOT_FOUND) {
        sp_assert(apply->replay);
        *ret = (struct sp_account){.id = *id, .address = address};
        ret->row = (struct sp_account_row){
            .mailbox_next = 1, .uidvalidity_next = 1, .protected_ = SP_PROTECTED_BROKEN};
        apply->position.list_protected |= SP_PROTECTED_BROKEN;
        status = SP_OK;
    }
    if (status != SP_OK)
        return status;
    if (address.len == 0)
        return SP_OK;
    return sp_apply_put(apply, apply->read.index->addresses, sp_val(address.ptr, address.len),
                        sp_val(id->bytes, 16));
}

enum sp_status sp_apply_put_name(struct sp_apply *apply, const struct sp_uuid *account,
                                 struct sp_slice path, uint32_t id)
{
    struct sp_key key = sp_key_path(account, path);
    return sp_apply_put(apply, apply->read.index->names, sp_key_val(&key), sp_val(&id, sizeof id));
}

enum sp_status sp_apply_need_mailbox(struct sp_apply *apply, const struct sp_record *record,
                                     struct sp_slice path, uint32_t uidvalidity,
                                     struct sp_mailbox *ret)
{
    enum sp_status status = sp_index_mailbox(&apply->read, &record->account, record->mailbox, ret);
    if (status == SP_OK)
        return sp_apply_own_mailbox(apply, ret);
    if (status != SP_NOT_FOUND)
        return status;
    sp_assert(apply->replay);
    if (path.len == 0)
        return SP_NOT_FOUND; /* nothing is known of it: its list is protected already, its records
                                wait in the log */
    *ret = (struct sp_mailbox){.account = record->account, .path = path};
    ret->row = (struct sp_mailbox_row){.id = record->mailbox,
                                       .uidvalidity = uidvalidity,
                                       .uidnext = 1,
                                       .protected_ = SP_PROTECTED_BROKEN};
    return sp_apply_put_name(apply, &record->account, path, record->mailbox);
}

/* Holds the chain's tail against what the record says; a difference means that records between them
 * are lost. */
bool sp_apply_chain_broken(const struct sp_apply *apply, uint64_t *tail,
                           const struct sp_record *record)
{
    bool broken = *tail != record->previous;
    sp_assert(!broken || apply->replay);
    *tail = record->lsn;
    return broken;
}

/* The account's MODSEQ and identifiers never fall behind what was given out. */
enum sp_status sp_apply_raise_account(struct sp_apply *apply, struct sp_account *account,
                                      uint64_t modseq)
{
    if (account->row.modseq < modseq)
        account->row.modseq = modseq;
    return sp_apply_put_account(apply, account);
}
