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
            if (a.merged)
                account.row.protected_ |= SP_PROTECTED_LEFT;
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
                              apply->read.index->held,       apply->read.index->accounts};
    for (size_t i = 0; i < sizeof tables / sizeof *tables && status == SP_OK; i++)
        status = drop_account_entries(apply, tables[i], &a.id);
    if (status == SP_OK)
        status = sp_apply_forget_acl(apply, &a.id, 0);
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
    return status == SP_OK ? sp_apply_retired(apply, record, &manifest) : status;
}

/* Room for one more. Those of the oldest GAP that is complete make it; without one, protection ends
 * by hand alone from here on. */
static struct sp_fork *add_fork(struct sp_position *position, uint64_t gap_lsn, uint64_t branch)
{
    if (position->forks_count == SP_FORKS_MAX) {
        uint64_t out = 0;
        uint32_t kept = 0;
        for (uint32_t i = SP_FORKS_MAX; i-- > 0;)
            if (position->forks[i].complete)
                out = position->forks[i].gap_lsn;
        if (out == 0) {
            out = position->forks[0].gap_lsn;
            position->forks_dropped = true;
        }
        for (uint32_t i = 0; i < SP_FORKS_MAX; i++)
            if (position->forks[i].gap_lsn != out)
                position->forks[kept++] = position->forks[i];
        position->forks_count = kept;
    }
    struct sp_fork *fork = &position->forks[position->forks_count++];
    *fork = (struct sp_fork){.gap_lsn = gap_lsn, .branch = branch};
    return fork;
}

/* Moves every counter ahead of what a lost record may have given out. */
static enum sp_status apply_gap(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_gap gap;
    struct sp_account account = {0};
    enum sp_status status = sp_gap_read(record->payload, &apply->arena, &gap);
    if (status == SP_OK && gap.protects) {
        (void)add_fork(&apply->position, record->lsn, 0);
        apply->position.list_protected |= SP_PROTECTED_LEFT;
    }
    while (status == SP_OK && (status = sp_index_next_account(&apply->read, &account)) == SP_OK) {
        struct sp_mailbox mailbox = {.account = account.id};
        while ((status = sp_index_next_mailbox(&apply->read, &account.id, &mailbox)) == SP_OK) {
            struct sp_mailbox copy = mailbox;
            status = sp_apply_own_mailbox(apply, &copy);
            if (status != SP_OK)
                return status;
            if (copy.row.uidnext <= UINT32_MAX - gap.uidnext_skip)
                copy.row.uidnext += gap.uidnext_skip;
            if (gap.protects) {
                copy.row.protected_ |= SP_PROTECTED_LEFT;
                copy.row.left_uidnext = copy.row.uidnext;
            }
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
        if (gap.protects)
            copy.row.protected_ |= SP_PROTECTED_LEFT;
        status = sp_apply_put_account(apply, &copy);
    }
    return status == SP_EOF ? SP_OK : status;
}

/* Every history that was left is whole again: what it protected is open. */
static enum sp_status end_protection(struct sp_apply *apply)
{
    struct sp_account account = {0};
    enum sp_status status;
    apply->position.list_protected &= (uint8_t)~SP_PROTECTED_LEFT;
    while ((status = sp_index_next_account(&apply->read, &account)) == SP_OK) {
        struct sp_mailbox mailbox = {.account = account.id};
        while ((status = sp_index_next_mailbox(&apply->read, &account.id, &mailbox)) == SP_OK) {
            struct sp_mailbox copy = mailbox;
            if (!(copy.row.protected_ & SP_PROTECTED_LEFT))
                continue;
            status = sp_apply_own_mailbox(apply, &copy);
            copy.row.protected_ &= (uint8_t)~SP_PROTECTED_LEFT;
            if (status == SP_OK)
                status = sp_apply_put_mailbox(apply, &copy);
            if (status != SP_OK)
                return status;
        }
        if (status != SP_EOF)
            return status;
        if (!(account.row.protected_ & SP_PROTECTED_LEFT))
            continue;
        struct sp_account copy = account;
        status = sp_apply_own_account(apply, &copy);
        copy.row.protected_ &= (uint8_t)~SP_PROTECTED_LEFT;
        if (status == SP_OK)
            status = sp_apply_put_account(apply, &copy);
        if (status != SP_OK)
            return status;
    }
    return status == SP_EOF ? SP_OK : status;
}

static enum sp_status apply_merge(struct sp_apply *apply, const struct sp_record *record)
{
    struct sp_merge_record merge;
    struct sp_position *position = &apply->position;
    enum sp_status status = sp_merge_record_read(record->payload, &merge);
    struct sp_fork *known = NULL;
    if (status != SP_OK)
        return status;
    for (uint32_t i = 0; i < position->forks_count; i++)
        if (position->forks[i].gap_lsn == merge.gap && position->forks[i].branch == merge.branch)
            known = &position->forks[i];
    if (!known)
        known = add_fork(position, merge.gap, merge.branch);
    known->merged_epoch_id = merge.epoch_id;
    known->merged_epoch_counter = merge.epoch_counter;
    known->merged_lsn = merge.lsn;
    bool all = !position->forks_dropped;
    for (uint32_t i = 0; i < position->forks_count; i++) {
        struct sp_fork *fork = &position->forks[i];
        if (fork->branch)
            continue;
        fork->complete |= merge.complete && fork->gap_lsn == merge.gap;
        all = all && fork->complete;
    }
    return merge.complete && all ? end_protection(apply) : SP_OK;
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
        account.row.protected_ |= SP_PROTECTED_BROKEN;
        return sp_apply_put_account(apply, &account);
    }
    if (mailbox.row.tail == tail->lsn || (status = sp_apply_own_mailbox(apply, &mailbox)) != SP_OK)
        return status;
    mailbox.row.protected_ |= SP_PROTECTED_BROKEN;
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
        apply->position.list_protected |= SP_PROTECTED_BROKEN;
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
    case SP_RECORD_MERGE:
        return apply_merge(apply, record);
    case SP_RECORD_CLOCK:
        return sp_apply_clock(apply, record);
    case SP_RECORD_ERASE:
        return sp_apply_erase(apply, record);
    default:
        status = sp_domain_record_read(record->payload, &domain);
        if (status != SP_OK)
            return status;
        return sp_apply_put(apply, apply->read.index->domains,
                            sp_val(domain.name.ptr, domain.name.len), sp_val("", 1));
    }
}
