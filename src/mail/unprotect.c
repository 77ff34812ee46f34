/* Ending the protection of what has known gaps, because an operator says so: UNPROTECT records, one
 * for each chain. An account is one commit. */
#include "mail/account.h"
#include "mail/internal.h"

struct unprotect {
    struct sp_uuid id;
    uint64_t count; /* of chains */
};

static enum sp_status emit(struct sp_plan *plan, struct unprotect *u, const struct sp_uuid *account,
                           uint32_t mailbox)
{
    u->count++;
    return sp_plan_emit(plan, SP_RECORD_UNPROTECT, account, mailbox, sp_slice(NULL, 0), NULL);
}

static enum sp_status account_plan(struct sp_plan *plan, void *context)
{
    struct unprotect *u = context;
    struct sp_read *read = sp_plan_read(plan);
    struct sp_account account;
    struct sp_mailbox mailbox = {.account = u->id};
    u->count = 0;
    enum sp_status status = sp_index_account(read, &u->id, &account);
    if (status == SP_OK && account.row.protected_)
        status = emit(plan, u, &u->id, 0);
    while (status == SP_OK && (status = sp_index_next_mailbox(read, &u->id, &mailbox)) == SP_OK) {
        uint32_t id = mailbox.row.id;
        if (mailbox.row.protected_)
            status = emit(plan, u, &u->id, id);
    }
    return status == SP_EOF ? SP_OK : status;
}

static enum sp_status volume_plan(struct sp_plan *plan, void *context)
{
    static const struct sp_uuid nil;
    struct unprotect *u = context;
    struct sp_position position;
    u->count = 0;
    enum sp_status status = sp_index_position(sp_plan_read(plan), &position);
    return status == SP_OK && position.list_protected ? emit(plan, u, &nil, 0) : status;
}

enum sp_status sp_account_unprotect(struct sp_volume *volume, const struct sp_uuid *id,
                                    uint64_t *ret_count, struct sp_error *error)
{
    struct unprotect u = {.id = *id};
    enum sp_status status = sp_volume_commit(volume, account_plan, &u, error);
    *ret_count = u.count;
    return status;
}

enum sp_status sp_account_unprotect_all(struct sp_volume *volume, uint64_t *ret_count,
                                        struct sp_error *error)
{
    struct unprotect u = {0};
    uint64_t count = 0;
    for (;;) {
        struct sp_read read;
        struct sp_account account = {.id = u.id};
        enum sp_status status = sp_read_begin(sp_volume_index(volume), &read);
        if (status == SP_OK) {
            status = sp_index_next_account(&read, &account);
            sp_read_end(&read);
        }
        if (status == SP_EOF)
            break;
        if (status != SP_OK)
            return sp_error_set(error, status, "index", "%s", sp_status_name(status));
        u.id = account.id;
        status = sp_volume_commit(volume, account_plan, &u, error);
        if (status != SP_OK)
            return status;
        count += u.count;
    }
    enum sp_status status = sp_volume_commit(volume, volume_plan, &u, error);
    *ret_count = count + u.count;
    return status;
}
