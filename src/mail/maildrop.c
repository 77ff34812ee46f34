/* Which maildrops are open by POP3: one session for an account at a time (RFC 1939 section 4).
 *
 * A table of accounts by hash. What is in it is what sessions hold at this moment: it is no fact
 * for the log. */
#include "mail/internal.h"

#include <stdlib.h>

#define BUCKETS 1024U

struct maildrop {
    struct maildrop *next;
    struct sp_uuid account;
    uint64_t session;
};

struct sp_maildrops {
    pthread_mutex_t lock;
    size_t count;
    struct maildrop *buckets[BUCKETS];
};

struct sp_maildrops *sp_maildrops_new(void)
{
    struct sp_maildrops *drops = calloc(1, sizeof *drops);
    if (drops)
        pthread_mutex_init(&drops->lock, NULL);
    return drops;
}

void sp_maildrops_free(struct sp_maildrops *drops)
{
    if (!drops)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        while (drops->buckets[i]) {
            struct maildrop *drop = drops->buckets[i];
            drops->buckets[i] = drop->next;
            free(drop);
        }
    pthread_mutex_destroy(&drops->lock);
    free(drops);
}

/* Accounts have random UUIDs: any of their octets are a hash. */
static struct maildrop **bucket_of(struct sp_maildrops *drops, const struct sp_uuid *account)
{
    return &drops->buckets[(account->bytes[14] | (size_t)account->bytes[15] << 8) % BUCKETS];
}

/* Where the account's entry is linked, or where it would be. */
static struct maildrop **find(struct sp_maildrops *drops, const struct sp_uuid *account)
{
    struct maildrop **link = bucket_of(drops, account);
    while (*link && !sp_uuid_eq(&(*link)->account, account))
        link = &(*link)->next;
    return link;
}

static enum sp_status hold(struct sp_maildrops *drops, const struct sp_uuid *account,
                           uint64_t session)
{
    struct maildrop **link = find(drops, account);
    if (*link)
        return (*link)->session == session ? SP_OK : SP_EXISTS;
    *link = malloc(sizeof **link);
    if (!*link)
        return SP_NO_MEMORY;
    **link = (struct maildrop){.account = *account, .session = session};
    drops->count++;
    return SP_OK;
}

static void drop_link(struct sp_maildrops *drops, struct maildrop **link)
{
    struct maildrop *gone = *link;
    *link = gone->next;
    free(gone);
    drops->count--;
}

void sp_op_maildrop(struct sp_op *op)
{
    struct sp_maildrops *drops = op->mail->maildrops;
    const struct sp_request *request = op->request;
    enum sp_status status = SP_OK;
    pthread_mutex_lock(&drops->lock);
    if (request->maildrop.hold) {
        status = hold(drops, &request->account, request->session);
    } else {
        struct maildrop **link = find(drops, &request->account);
        if (*link && (*link)->session == request->session)
            drop_link(drops, link);
    }
    pthread_mutex_unlock(&drops->lock);
    if (status == SP_EXISTS)
        status = sp_op_refuse(op, SP_EXISTS, "another session has this maildrop open");
    sp_op_finish(op, status);
}

void sp_maildrops_forget_session(struct sp_maildrops *drops, uint64_t session)
{
    pthread_mutex_lock(&drops->lock);
    for (size_t i = 0; i < BUCKETS && drops->count; i++) {
        struct maildrop **link = &drops->buckets[i];
        while (*link)
            if ((*link)->session == session)
                drop_link(drops, link);
            else
                link = &(*link)->next;
    }
    pthread_mutex_unlock(&drops->lock);
}
