/* Who may do what with a mailbox (RFC 4314): ACL records in the index, each found from its mailbox
 * and from its grantee. */
#include "base/endian.h"
#include "store/apply_internal.h"

#define KEY_BYTES 37U /* two accounts, a mailbox, whether negative */

static struct sp_key acl_key(const struct sp_acl_entry *entry)
{
    struct sp_key key = sp_key_mailbox(&entry->owner, entry->mailbox);
    memcpy(key.bytes + 20, entry->grantee.bytes, 16);
    key.bytes[36] = entry->negative;
    key.len = KEY_BYTES;
    return key;
}

static struct sp_key shared_key(const struct sp_acl_entry *entry)
{
    struct sp_key key = {.len = KEY_BYTES};
    memcpy(key.bytes, entry->grantee.bytes, 16);
    memcpy(key.bytes + 16, entry->owner.bytes, 16);
    sp_put_u32be(key.bytes + 32, entry->mailbox);
    key.bytes[36] = entry->negative;
    return key;
}

/* ---- Looking up ---- */

enum sp_status sp_index_acl(struct sp_read *read, const struct sp_uuid *owner, uint32_t mailbox,
                            const struct sp_uuid *grantee, bool negative, struct sp_acl_row *ret)
{
    struct sp_acl_entry entry = {
        .owner = *owner, .mailbox = mailbox, .grantee = *grantee, .negative = negative};
    struct sp_key key = acl_key(&entry);
    MDB_val k = sp_key_val(&key), value;
    int rc = mdb_get(read->txn, read->index->acl, &k, &value);
    if (rc)
        return rc == MDB_NOTFOUND ? SP_NOT_FOUND : sp_mdb_status(rc);
    if (value.mv_size != sizeof *ret)
        return SP_CORRUPT;
    memcpy(ret, value.mv_data, sizeof *ret);
    return SP_OK;
}

/* The first entry whose key is greater than `after`, if its key begins as prefix does. */
static enum sp_status next_of(struct sp_read *read, MDB_dbi table, const struct sp_key *after,
                              const struct sp_key *prefix, MDB_val *ret_key, MDB_val *ret_value)
{
    MDB_cursor *cursor;
    *ret_key = sp_key_val(after);
    int rc = mdb_cursor_open(read->txn, table, &cursor);
    if (rc)
        return sp_mdb_status(rc);
    rc = mdb_cursor_get(cursor, ret_key, ret_value, MDB_SET_RANGE);
    if (!rc && ret_key->mv_size == after->len &&
        memcmp(ret_key->mv_data, after->bytes, after->len) == 0)
        rc = mdb_cursor_get(cursor, ret_key, ret_value, MDB_NEXT);
    mdb_cursor_close(cursor);
    if (rc)
        return rc == MDB_NOTFOUND ? SP_EOF : sp_mdb_status(rc);
    if (ret_key->mv_size != KEY_BYTES)
        return SP_CORRUPT;
    return memcmp(ret_key->mv_data, prefix->bytes, prefix->len) == 0 ? SP_OK : SP_EOF;
}

/* mailbox 0: of all mailboxes of the owner. */
static enum sp_status next_acl(struct sp_read *read, const struct sp_uuid *owner, uint32_t mailbox,
                               struct sp_acl_entry *entry)
{
    struct sp_key prefix = sp_key_mailbox(owner, mailbox), after = prefix;
    MDB_val key, value;
    if (!mailbox)
        prefix.len = after.len = 16;
    if (entry->begun)
        after = acl_key(entry);
    enum sp_status status = next_of(read, read->index->acl, &after, &prefix, &key, &value);
    if (status != SP_OK)
        return status;
    if (value.mv_size != sizeof entry->row)
        return SP_CORRUPT;
    const uint8_t *at = key.mv_data;
    *entry = (struct sp_acl_entry){.begun = true, .owner = *owner};
    entry->mailbox = sp_get_u32be(at + 16);
    memcpy(entry->grantee.bytes, at + 20, 16);
    entry->negative = at[36];
    memcpy(&entry->row, value.mv_data, sizeof entry->row);
    return SP_OK;
}

enum sp_status sp_index_next_acl(struct sp_read *read, const struct sp_uuid *owner,
                                 uint32_t mailbox, struct sp_acl_entry *entry)
{
    sp_assert(mailbox);
    return next_acl(read, owner, mailbox, entry);
}

enum sp_status sp_index_next_shared(struct sp_read *read, const struct sp_uuid *grantee,
                                    struct sp_acl_entry *entry)
{
    struct sp_key prefix = {.len = 16}, after;
    MDB_val key, value;
    memcpy(prefix.bytes, grantee->bytes, 16);
    after = entry->begun ? shared_key(entry) : prefix;
    enum sp_status status = next_of(read, read->index->shared, &after, &prefix, &key, &value);
    if (status != SP_OK)
        return status;
    const uint8_t *at = key.mv_data;
    *entry = (struct sp_acl_entry){.begun = true, .grantee = *grantee};
    memcpy(entry->owner.bytes, at + 16, 16);
    entry->mailbox = sp_get_u32be(at + 32);
    entry->negative = at[36];
    return SP_OK;
}

/* ---- Applying ---- */

enum sp_status sp_apply_acl(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_acl_record acl;
    struct sp_account account;
    struct sp_mailbox mailbox;
    enum sp_status status = sp_acl_record_read(record->payload, &acl);
    if (status == SP_OK)
        status = sp_apply_on_account(apply, record, &account);
    if (status == SP_OK)
        status = sp_apply_put_account(apply, &account);
    /* In a ruined log the mailbox may be known from later records alone. */
    if (status == SP_OK && !apply->replay)
        status = sp_index_mailbox(&apply->read, &record->account, acl.mailbox, &mailbox);
    if (status != SP_OK)
        return status;
    struct sp_acl_entry entry = {.owner = record->account,
                                 .mailbox = acl.mailbox,
                                 .grantee = acl.grantee,
                                 .negative = acl.negative,
                                 .row = {record->lsn, acl.rights, acl.merged}};
    struct sp_key key = acl_key(&entry);
    status = sp_apply_put(apply, apply->read.index->acl, sp_key_val(&key),
                          sp_val(&entry.row, sizeof entry.row));
    if (status != SP_OK)
        return status;
    key = shared_key(&entry);
    status = acl.rights
                 ? sp_apply_put(apply, apply->read.index->shared, sp_key_val(&key), sp_val("", 1))
                 : sp_apply_del(apply, apply->read.index->shared, sp_key_val(&key));
    /* Those who have it open are told: they may no longer be allowed to. */
    return status == SP_OK ? sp_apply_touch(apply, &record->account, acl.mailbox) : status;
}

static enum sp_status forget(struct sp_apply *apply, const struct sp_acl_entry *entry)
{
    struct sp_key key = acl_key(entry);
    enum sp_status status = sp_apply_del(apply, apply->read.index->acl, sp_key_val(&key));
    if (status != SP_OK)
        return status;
    key = shared_key(entry);
    return sp_apply_del(apply, apply->read.index->shared, sp_key_val(&key));
}

enum sp_status sp_apply_forget_acl(struct sp_apply *apply, const struct sp_uuid *account,
                                   uint32_t mailbox)
{
    struct sp_acl_entry entry = {0};
    enum sp_status status;
    while ((status = next_acl(&apply->read, account, mailbox, &entry)) == SP_OK)
        if ((status = forget(apply, &entry)) != SP_OK)
            return status;
    if (status != SP_EOF || mailbox)
        return status == SP_EOF ? SP_OK : status;
    entry = (struct sp_acl_entry){0};
    while ((status = sp_index_next_shared(&apply->read, account, &entry)) == SP_OK)
        if ((status = forget(apply, &entry)) != SP_OK)
            return status;
    return status == SP_EOF ? SP_OK : status;
}
