/* The table of requests, and an operation's life. */
#include "mail/auth.h"
#include "mail/body.h"
#include "mail/internal.h"
#include "mail/search_file.h"
#include "mail/search_worker.h"
#include "base/log.h"

#include <stdlib.h>

const char sp_why_protected[] =
    "this mailbox is being recovered; nothing of it is lost to you, please wait";

/* What is quick looks something up or only submits: it neither reads bodies nor walks mailboxes.
 * What is long may read all of a mailbox. */
enum pace { NORMAL, QUICK, LONG };
static const struct {
    sp_op_handler *handler;
    enum pace pace;
} requests[SP_REQ_TYPES] = {
    [SP_REQ_AUTHENTICATE] = {sp_op_authenticate, QUICK},
    [SP_REQ_RESOLVE] = {sp_op_resolve, QUICK},
    [SP_REQ_BODY_PUT] = {sp_op_body_put, NORMAL},
    [SP_REQ_BODY_DROP] = {sp_op_body_drop, QUICK},
    [SP_REQ_DELIVER] = {sp_op_deliver, NORMAL},
    [SP_REQ_MAILBOX_LIST] = {sp_op_list, NORMAL},
    [SP_REQ_MAILBOX_OPEN] = {sp_op_open, NORMAL},
    [SP_REQ_MAILBOX_STATUS] = {sp_op_status, QUICK},
    [SP_REQ_MAILBOX_CREATE] = {sp_op_create, QUICK},
    [SP_REQ_MAILBOX_DELETE] = {sp_op_delete, QUICK},
    [SP_REQ_MAILBOX_RENAME] = {sp_op_rename, QUICK},
    [SP_REQ_SUBSCRIBE] = {sp_op_subscribe, QUICK},
    [SP_REQ_SYNC] = {sp_op_sync, NORMAL},
    [SP_REQ_FETCH] = {sp_op_fetch, NORMAL},
    [SP_REQ_STORE] = {sp_op_store, QUICK},
    [SP_REQ_EXPUNGE] = {sp_op_expunge, NORMAL},
    [SP_REQ_COPY] = {sp_op_copy, QUICK},
    [SP_REQ_APPEND] = {sp_op_append, NORMAL},
    [SP_REQ_MAILDROP] = {sp_op_maildrop, QUICK},
    [SP_REQ_SEARCH] = {sp_op_search, LONG},
    [SP_REQ_SCRAM] = {sp_op_scram, QUICK},
    [SP_REQ_ACL_GET] = {sp_op_acl_get, QUICK},
    [SP_REQ_ACL_SET] = {sp_op_acl_set, QUICK},
};

/* What a person reads when nothing more exact is known. */
static const char *default_text(enum sp_status status)
{
    switch (status) {
    case SP_NOT_FOUND:
        return "there is no such thing";
    case SP_EXISTS:
        return "it exists already";
    case SP_INVALID:
        return "the request is malformed";
    case SP_LIMIT:
        return "a limit was exceeded";
    case SP_DENIED:
        return "permission denied";
    case SP_CONFLICT:
        return "the mailbox has been deleted or replaced";
    case SP_UNAVAILABLE:
        return "temporarily unavailable, please try again later";
    case SP_NO_SPACE:
        return "no space is left";
    case SP_NO_MEMORY:
        return "out of memory, please try again later";
    case SP_CORRUPT:
        return "stored bytes fail their check";
    case SP_SHUTDOWN:
        return "the server is stopping";
    default:
        return "an error in the store; the log has the details";
    }
}

enum sp_status sp_op_refuse(struct sp_op *op, enum sp_status status, const char *why)
{
    op->reply->text = sp_slice_str(why);
    return status;
}

void sp_op_finish(struct sp_op *op, enum sp_status status)
{
    struct sp_mail *mail = op->mail;
    struct sp_reply *reply = op->reply;
    reply->status = status;
    if (status == SP_OK)
        reply->text = (struct sp_slice){NULL, 0};
    else if (!reply->text.len)
        reply->text = sp_slice_str(default_text(status));
    if (op->release)
        op->release(op);
    sp_arena_release(&op->arena);
    op->done(op->context, op->request, reply);
    free(op);

    pthread_mutex_lock(&mail->lock);
    if (--mail->ops == 0)
        pthread_cond_broadcast(&mail->idle);
    pthread_mutex_unlock(&mail->lock);
}

/* ---- Commits ---- */

static struct sp_op *op_of_commit(struct sp_commit *commit)
{
    return (struct sp_op *)(void *)((char *)commit - offsetof(struct sp_op, commit));
}

static enum sp_status run_plan(struct sp_plan *plan, struct sp_commit *commit)
{
    struct sp_op *op = op_of_commit(commit);
    op->reply->text = (struct sp_slice){NULL, 0};
    return op->plan(plan, op);
}

static void plan_done(struct sp_commit *commit, enum sp_status status, const char *why)
{
    struct sp_op *op = op_of_commit(commit);
    if (status && !op->reply->text.len && why && why[0])
        op->reply->text = sp_arena_copy(&op->reply->arena, sp_slice_str(why));
    if (!op->reply->text.ptr)
        op->reply->text.len = 0;
    sp_op_finish(op, status);
}

void sp_op_submit(struct sp_op *op, enum sp_status (*plan)(struct sp_plan *plan, struct sp_op *op),
                  size_t weight)
{
    op->plan = plan;
    op->commit = (struct sp_commit){.plan = run_plan,
                                    .done = plan_done,
                                    .weight_bytes = sizeof *op + sizeof *op->request + weight};
    sp_volume_submit(op->mail->volume, &op->commit);
}

/* ---- Executing ---- */

/* Ranges are ascending, and do not overlap. */
static bool are_good(struct sp_uid_ranges ranges)
{
    uint32_t before = 0;
    for (uint32_t i = 0; i < ranges.count; i++) {
        if (ranges.ptr[i].first <= before || ranges.ptr[i].last < ranges.ptr[i].first)
            return false;
        before = ranges.ptr[i].last;
    }
    return true;
}

void sp_mail_execute(struct sp_mail *mail, struct sp_request *request, sp_mail_done *done,
                     void *context)
{
    sp_assert(request->type < SP_REQ_TYPES);
    struct sp_reply *reply = sp_reply_new(request);
    struct sp_op *op = reply ? calloc(1, sizeof *op) : NULL;
    if (!op) {
        if (reply)
            reply->status = SP_NO_MEMORY;
        done(context, request, reply);
        return;
    }
    *op = (struct sp_op){
        .mail = mail, .request = request, .reply = reply, .done = done, .context = context};
    sp_arena_init(&op->arena, SP_OP_ARENA_BYTES);
    pthread_mutex_lock(&mail->lock);
    mail->ops++;
    pthread_mutex_unlock(&mail->lock);
    if (are_good(request->ranges))
        requests[request->type].handler(op);
    else
        sp_op_finish(op, SP_INVALID);
}

bool sp_mail_is_quick(const struct sp_request *request)
{
    sp_assert(request->type < SP_REQ_TYPES);
    return requests[request->type].pace == QUICK;
}

bool sp_mail_is_long(const struct sp_request *request)
{
    sp_assert(request->type < SP_REQ_TYPES);
    return requests[request->type].pace == LONG;
}

/* ---- The mail object ---- */

static void changed(void *context, const struct sp_uuid *account, uint32_t mailbox)
{
    struct sp_mail *mail = context;
    pthread_mutex_lock(&mail->notify_lock);
    if (mail->notify)
        mail->notify(mail->notify_context, account, mailbox);
    pthread_mutex_unlock(&mail->notify_lock);
    if (mail->search_worker)
        sp_search_worker_notify(mail->search_worker, account, mailbox);
}

void sp_mail_set_notify(struct sp_mail *mail, sp_mail_notify *notify, void *context)
{
    pthread_mutex_lock(&mail->notify_lock);
    mail->notify = notify;
    mail->notify_context = context;
    pthread_mutex_unlock(&mail->notify_lock);
}

/* Without it everything works, but slower. */
static void open_search(struct sp_mail *mail)
{
    const struct sp_mail_config *config = &mail->config;
    struct sp_error error = {0};
    if (!config->search_path)
        return;
    enum sp_status status =
        sp_search_file_open(config->search_path, &config->volume_id, config->search_bytes_max,
                            &mail->search_file, &error);
    if (status == SP_OK) {
        status = sp_search_worker_start(mail, config->search_rate, &mail->search_worker);
        if (status == SP_OK)
            return;
        sp_search_file_close(mail->search_file);
        mail->search_file = NULL;
    }
    sp_log(SP_LOG_WARN, "search.none", "status=%s why=%s", sp_status_name(status),
           SP_LOG_QUOTED(error.why));
}

enum sp_status sp_mail_open(const struct sp_mail_config *config, struct sp_mail **ret_mail,
                            struct sp_error *error)
{
    sp_assert(config->volume);
    struct sp_mail *mail = calloc(1, sizeof *mail);
    if (!mail)
        return sp_error_set(error, SP_NO_MEMORY, "mail", "out of memory");
    mail->config = *config;
    mail->volume = config->volume;
    mail->index = sp_volume_index(config->volume);
    pthread_mutex_init(&mail->lock, NULL);
    pthread_mutex_init(&mail->notify_lock, NULL);
    pthread_cond_init(&mail->idle, NULL);
    sp_random_bytes(mail->rest_secret, sizeof mail->rest_secret);
    sp_random_bytes(mail->scram_secret, sizeof mail->scram_secret);

    enum sp_status status = sp_bodies_new(config, &mail->bodies);
    if (status == SP_OK)
        status = sp_auth_new(config, &mail->auth);
    mail->maildrops = sp_maildrops_new();
    if (status == SP_OK && !mail->maildrops)
        status = SP_NO_MEMORY;
    if (status) {
        sp_mail_close(mail);
        return sp_error_set(error, status, "mail",
                            "the threads or the memory to hash passwords cannot be had");
    }
    open_search(mail);
    sp_volume_set_notify(mail->volume, changed, mail);
    *ret_mail = mail;
    return SP_OK;
}

void sp_mail_close(struct sp_mail *mail)
{
    if (!mail)
        return;
    pthread_mutex_lock(&mail->lock);
    while (mail->ops)
        pthread_cond_wait(&mail->idle, &mail->lock);
    pthread_mutex_unlock(&mail->lock);
    sp_volume_set_notify(mail->volume, NULL, NULL);
    sp_search_worker_stop(mail->search_worker);
    sp_search_file_close(mail->search_file);
    sp_auth_free(mail->auth);
    sp_bodies_free(mail->bodies);
    sp_maildrops_free(mail->maildrops);
    for (uint32_t i = 0; i < mail->readers_count; i++)
        sp_reader_free(mail->readers[i]);
    pthread_cond_destroy(&mail->idle);
    pthread_mutex_destroy(&mail->notify_lock);
    pthread_mutex_destroy(&mail->lock);
    free(mail);
}

void sp_mail_session_ended(struct sp_mail *mail, uint64_t session)
{
    sp_bodies_forget_session(mail->bodies, session);
    sp_maildrops_forget_session(mail->maildrops, session);
}

struct sp_reader *sp_mail_take_reader(struct sp_mail *mail)
{
    struct sp_reader *reader = NULL;
    pthread_mutex_lock(&mail->lock);
    if (mail->readers_count)
        reader = mail->readers[--mail->readers_count];
    pthread_mutex_unlock(&mail->lock);
    return reader ? reader : sp_reader_new(mail->volume);
}

void sp_mail_give_reader(struct sp_mail *mail, struct sp_reader *reader)
{
    if (!reader)
        return;
    pthread_mutex_lock(&mail->lock);
    if (mail->readers_count < SP_READERS_MAX) {
        mail->readers[mail->readers_count++] = reader;
        reader = NULL;
    }
    pthread_mutex_unlock(&mail->lock);
    sp_reader_free(reader);
}
