#include "net/job.h"

#include <stdlib.h>

#define STARTS_PER_RUN 64U

struct sp_job {
    struct sp_long_task work; /* the account is only set for long ones */
    LIST_ENTRY(sp_job) link;  /* of its connection's jobs */
    struct sp_job *held_next;
    struct sp_conn *conn;
    struct sp_request *request; /* until the reply is back on the loop: it may be cancelled */
    struct sp_reply *reply;     /* NULL: no memory */
    enum sp_request_type type;
    uint64_t op;
};

/* An answer that costs nothing, for when there is nothing left to spend. */
static void refuse(struct sp_conn *conn, uint64_t op, enum sp_request_type type,
                   enum sp_status status, struct sp_slice text)
{
    struct sp_reply reply = {.op = op, .type = type, .status = status, .text = text};
    sp_arena_init(&reply.arena, 0);
    conn->listener->ops->complete(conn->session, &reply, conn->conns->loop.now_ms);
}

static void free_job(struct sp_job *job)
{
    LIST_REMOVE(job, link);
    sp_request_free(job->request);
    sp_reply_free(job->reply);
    free(job);
}

static void give_reply(struct sp_job *job)
{
    struct sp_conn *conn = job->conn;
    conn->under_way--;
    if (conn->session) {
        if (job->reply)
            conn->listener->ops->complete(conn->session, job->reply, conn->conns->loop.now_ms);
        else
            refuse(conn, job->op, job->type, SP_NO_MEMORY, SP_S("no memory"));
        sp_conn_ready(conn);
    }
    free_job(job);
}

/* Slows the guessing of passwords. A session logs in with one request at a time, so one moment
 * serves all it has. */
static bool hold_back(struct sp_job *job)
{
    struct sp_conn *conn = job->conn;
    struct sp_conns *conns = conn->conns;
    const struct sp_server_config *config = &conns->net->config;
    bool denied = job->type == SP_REQ_AUTHENTICATE && job->reply && job->reply->status == SP_DENIED;
    if (!denied || !conn->session || conns->stopping || conns->held >= config->denied_held_max)
        return false;
    job->held_next = conn->held;
    conn->held = job;
    conn->held_until_ms = conns->loop.now_ms + config->denied_delay_ms;
    conns->held++;
    sp_count(&conns->counters.denied_held, 1);
    sp_conn_ready(conn); /* to set its timer */
    return true;
}

/* What a session has come to shows in what it asked for and was given. */
static void count_reply(const struct sp_job *job)
{
    struct sp_session_counts *counts = sp_conn_counts(job->conn);
    const struct sp_reply *reply = job->reply;
    uint32_t copies = 0;
    if (!reply)
        return;
    switch (job->type) {
    case SP_REQ_AUTHENTICATE:
        if (reply->status == SP_OK)
            atomic_fetch_add(&counts->logins, 1);
        else if (reply->status == SP_DENIED)
            atomic_fetch_add(&counts->logins_denied, 1);
        break;
    case SP_REQ_DELIVER:
        for (uint32_t i = 0; reply->status == SP_OK && reply->recipients &&
                             i < job->request->deliver.recipients_count;
             i++)
            copies += reply->recipients[i] == SP_OK;
        atomic_fetch_add(&counts->messages, copies > 0);
        atomic_fetch_add(&counts->copies, copies);
        break;
    case SP_REQ_APPEND:
        if (reply->status != SP_OK)
            break;
        atomic_fetch_add(&counts->messages, job->request->append.messages_count);
        atomic_fetch_add(&counts->copies, job->request->append.messages_count);
        break;
    default:
        break;
    }
}

static void on_answered(struct sp_task *task)
{
    struct sp_job *job = sp_owner(task, struct sp_job, work.task);
    struct sp_conn *conn = job->conn;
    count_reply(job);
    sp_request_free(job->request);
    job->request = NULL;
    if (!hold_back(job)) {
        give_reply(job);
        sp_conn_settle(conn);
    }
}

/* On any thread, and perhaps within execute. */
static void on_done(void *context, struct sp_request *request, struct sp_reply *reply)
{
    struct sp_job *job = context;
    sp_assert(request == job->request);
    job->reply = reply;
    job->work.task.run = on_answered;
    sp_loop_post(&job->conn->conns->loop, &job->work.task);
}

static void execute(struct sp_task *task)
{
    struct sp_job *job = sp_owner(task, struct sp_job, work.task);
    const struct sp_backend *backend = &job->conn->conns->net->config.backend;
    backend->execute(backend->context, job->request, on_done, job);
}

static bool submit(struct sp_net *net, struct sp_job *job)
{
    const struct sp_backend *backend = &net->config.backend;
    if (!backend->is_long(backend->context, job->request))
        return sp_workers_submit(net->workers, &job->work.task);
    job->work.account = job->request->mailbox.account;
    return sp_workers_submit_long(net->workers, &job->work);
}

/* False: refused. */
static bool start(struct sp_conn *conn, struct sp_request *request)
{
    struct sp_net *net = conn->conns->net;
    struct sp_job *job = malloc(sizeof *job);
    if (!job) {
        refuse(conn, request->op, request->type, SP_NO_MEMORY, SP_S("no memory"));
        sp_request_free(request);
        return false;
    }
    sp_peers_name(&net->peers, &conn->peer, request->peer);
    *job = (struct sp_job){.work.task.run = execute,
                           .conn = conn,
                           .request = request,
                           .type = request->type,
                           .op = request->op};
    LIST_INSERT_HEAD(&conn->jobs, job, link);
    conn->under_way++;
    conn->requests++;
    if (net->config.backend.is_quick(net->config.backend.context, request)) {
        execute(&job->work.task);
    } else if (!submit(net, job)) {
        conn->under_way--;
        sp_count(&conn->conns->counters.requests_refused, 1);
        refuse(conn, job->op, job->type, SP_UNAVAILABLE,
               SP_S("the server is busy; try again later"));
        free_job(job);
        return false;
    }
    sp_count(&conn->conns->counters.requests, 1);
    return true;
}

bool sp_jobs_start(struct sp_conn *conn)
{
    bool refused = false;
    for (unsigned i = 0; i < STARTS_PER_RUN; i++) {
        struct sp_request *request = conn->listener->ops->next(conn->session);
        if (!request)
            return refused;
        refused |= !start(conn, request);
    }
    sp_conn_ready(conn);
    return false;
}

static struct sp_job *take_held(struct sp_conn *conn)
{
    struct sp_job *job = conn->held;
    conn->held = job->held_next;
    conn->conns->held--;
    return job;
}

void sp_jobs_release_held(struct sp_conn *conn, bool at_once)
{
    if (!at_once && conn->held_until_ms > conn->conns->loop.now_ms)
        return;
    while (conn->held)
        give_reply(take_held(conn));
}

void sp_jobs_drop_held(struct sp_conn *conn)
{
    while (conn->held) {
        struct sp_job *job = take_held(conn);
        conn->under_way--;
        free_job(job);
    }
}

void sp_jobs_cancel(struct sp_conn *conn)
{
    struct sp_job *job;
    LIST_FOREACH(job, &conn->jobs, link)
    {
        if (job->request)
            atomic_store_explicit(&job->request->cancelled, true, memory_order_relaxed);
    }
}
