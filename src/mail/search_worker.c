#include "mail/search_worker.h"

#include "base/log.h"
#include "base/time.h"
#include "mail/body_read.h"
#include "mail/search.h"

#include <stdlib.h>
#include <time.h>

#define REPORTED_MAX  1024U       /* mailboxes that wait; beyond, all are looked at */
#define STEP_MESSAGES 128U        /* taken out of the index at a time */
#define STEP_BYTES    (4U << 20)  /* ... and of their records */
#define ARENA_BYTES   (64U << 20) /* of a step */
#define SCRATCH_BYTES (16U << 20) /* of a message */
#define RATE_BYTES    (16U << 20) /* a second, unless told otherwise */
#define MESSAGE_BYTES 2048U       /* what a message costs at least, in bytes of the rate */
#define SETTLE_MS     200U        /* from news until it is looked at: more may come */

struct place {
    struct sp_uuid account;
    uint32_t mailbox;
};

struct sp_search_worker {
    struct sp_mail *mail;
    struct sp_search_file *file;
    uint64_t rate;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t work, rest;
    struct place reported[REPORTED_MAX];
    uint32_t reported_count;
    bool all, stopping, failed, busy, hurry;

    /* The thread's own. */
    struct sp_sort_maker maker;
    struct sp_bytes bytes;
    struct sp_arena arena, scratch;
};

static bool is_stopping(struct sp_search_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    bool stopping = worker->stopping;
    pthread_mutex_unlock(&worker->lock);
    return stopping;
}

/* Sleeps as long as so many bytes may take. */
static void pause_for(struct sp_search_worker *worker, uint64_t bytes)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = bytes * 1000000000U / worker->rate + (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(ns / 1000000000U);
    until.tv_nsec = (long)(ns % 1000000000U);
    pthread_mutex_lock(&worker->lock);
    while (!worker->stopping && !worker->hurry &&
           pthread_cond_timedwait(&worker->work, &worker->lock, &until) == 0)
        continue;
    pthread_mutex_unlock(&worker->lock);
}

/* ---- A step: messages of one mailbox ---- */

struct step {
    struct sp_sort_entry entries[STEP_MESSAGES];
    struct sp_slice payloads[STEP_MESSAGES];
    struct sp_item items[STEP_MESSAGES];
    uint32_t count;
    uint64_t bytes;
};

/* Copies out what is new from UID `from` on. SP_EOF: that was the last. */
static enum sp_status collect(struct sp_search_worker *worker, struct sp_read *read,
                              const struct sp_mailbox *mailbox, uint64_t since, uint32_t *from,
                              struct step *step)
{
    struct sp_flag_cursor flags;
    struct sp_flag_row row;
    struct sp_search_read kept;
    struct sp_sort_entry there;
    enum sp_status status =
        sp_flag_cursor_open(read, &mailbox->account, mailbox->row.id, *from, since, &flags);
    if (status)
        return status;
    sp_search_read_begin(worker->file, &mailbox->account, mailbox->row.id, mailbox->row.uidvalidity,
                         &kept);
    while (step->count < STEP_MESSAGES && step->bytes < STEP_BYTES) {
        struct sp_message message;
        struct sp_slice payload;
        uint64_t lsn, time_ns;
        uint32_t i = step->count;
        status = sp_flag_cursor_next(&flags, &row);
        if (status)
            break;
        *from = row.uid + 1;
        if (!sp_search_sort_get(&kept, row.uid, &there)) {
            status = sp_index_message(read, &mailbox->account, mailbox->row.id, row.uid, &payload,
                                      &lsn, &time_ns);
            if (status)
                break;
            step->payloads[i] = sp_arena_copy(&worker->arena, payload);
            if (!step->payloads[i].ptr ||
                sp_message_read(step->payloads[i], &worker->arena, &message) != SP_OK ||
                sp_item_load(read, &message, &worker->arena, &step->items[i]) != SP_OK) {
                status = SP_NO_MEMORY;
                break;
            }
            step->entries[i] = (struct sp_sort_entry){.uid = row.uid};
            step->bytes += payload.len;
            step->count++;
        }
        if (row.uid == UINT32_MAX) {
            status = SP_EOF;
            break;
        }
    }
    sp_search_read_end(&kept);
    sp_flag_cursor_close(&flags);
    return status;
}

/* False: nothing is to be kept of it, and whoever needs its keys reads it. */
static bool make_entry(struct sp_search_worker *worker, const struct step *step, uint32_t i,
                       struct sp_sort_entry *entry)
{
    struct sp_message message;
    struct sp_slice header;
    const struct sp_item *item = &step->items[i];
    uint64_t len = item->header_bytes < SP_BYTES_MAX ? item->header_bytes : SP_BYTES_MAX;
    return sp_message_read(step->payloads[i], &worker->scratch, &message) == SP_OK &&
           sp_sort_make(&worker->maker, &message,
                        SP_NEED_SENT | SP_NEED_SUBJECT | SP_NEED_ADDRESSES | SP_NEED_REFERENCES,
                        &worker->scratch, &worker->arena, entry) == SP_OK &&
           !worker->maker.doubtful &&
           sp_bytes_get(&worker->bytes, item, 0, len, &header) == SP_OK &&
           sp_sort_make_references(header, &worker->arena, entry) == SP_OK;
}

/* Reads them and keeps only the entries that can be kept. */
static void make_entries(struct sp_search_worker *worker, struct step *step)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < step->count && !is_stopping(worker); i++) {
        struct sp_sort_entry entry = step->entries[i];
        if (make_entry(worker, step, i, &entry))
            step->entries[kept++] = entry;
        step->bytes += MESSAGE_BYTES + step->items[i].header_bytes;
        sp_arena_release(&worker->scratch);
    }
    step->count = kept;
}

/* ---- A mailbox ---- */

struct forgetting {
    struct sp_search_write *write;
    const struct sp_mailbox *mailbox;
};

static enum sp_status forget_run(void *context, struct sp_uid_pair run)
{
    struct forgetting *f = context;
    return sp_search_forget(f->write, &f->mailbox->account, f->mailbox->row.id, run.first, run.last,
                            NULL, NULL);
}

/* Puts what was made, forgets what was expunged since, and says how far that is. */
static enum sp_status write_step(struct sp_search_worker *worker, struct sp_read *read,
                                 const struct sp_mailbox *mailbox, const struct step *step,
                                 const struct sp_search_done *before,
                                 const struct sp_search_done *after)
{
    struct sp_search_write write;
    enum sp_status status = sp_search_write_begin(worker->file, &write);
    if (status)
        return status;
    struct forgetting forgetting = {&write, mailbox};
    status =
        sp_search_put_sort(&write, &mailbox->account, mailbox->row.id, step->entries, step->count);
    /* Of what was put just now, something may have been expunged meanwhile: it is seen here. */
    if (status == SP_OK)
        status = sp_index_expunged(read, &mailbox->account, mailbox->row.id, before->modseq,
                                   forget_run, &forgetting);
    if (status == SP_OK)
        status = sp_search_put_done(&write, &mailbox->account, mailbox->row.id, after);
    if (status == SP_OK)
        return sp_search_write_commit(&write);
    sp_search_write_abort(&write);
    return status;
}

static enum sp_status forget_mailbox(struct sp_search_worker *worker, const struct place *place)
{
    struct sp_search_write write;
    enum sp_status status = sp_search_write_begin(worker->file, &write);
    if (status)
        return status;
    status = sp_search_forget_mailbox(&write, &place->account, place->mailbox);
    if (status == SP_OK)
        return sp_search_write_commit(&write);
    sp_search_write_abort(&write);
    return status;
}

static enum sp_status get_done(struct sp_search_worker *worker, const struct place *place,
                               struct sp_search_done *ret)
{
    struct sp_search_write write;
    enum sp_status status = sp_search_write_begin(worker->file, &write);
    if (status)
        return status;
    status = sp_search_get_done(&write, &place->account, place->mailbox, ret);
    sp_search_write_abort(&write);
    return status;
}

/* Goes through what changed in a mailbox since it was gone through last. */
static enum sp_status go_through(struct sp_search_worker *worker, const struct place *place)
{
    struct sp_search_done before = {0}, after = {0};
    struct step *step = calloc(1, sizeof *step);
    struct sp_mailbox mailbox;
    struct sp_read read = {0};
    uint32_t from = 1;
    bool last = false, first = true;
    enum sp_status status = step ? get_done(worker, place, &before) : SP_NO_MEMORY;
    if (status == SP_NOT_FOUND)
        status = SP_OK;
    while (status == SP_OK && !last && !is_stopping(worker)) {
        step->count = 0;
        step->bytes = 0;
        status = sp_read_begin(worker->mail->index, &read);
        if (status == SP_OK)
            status = sp_index_mailbox(&read, &place->account, place->mailbox, &mailbox);
        if (status)
            break;
        if (first && before.uidvalidity == mailbox.row.uidvalidity &&
            before.modseq == mailbox.row.highestmodseq)
            break;
        /* Of another history, or never seen: everything anew. */
        if (first && (before.uidvalidity != mailbox.row.uidvalidity ||
                      before.modseq > mailbox.row.highestmodseq)) {
            before = (struct sp_search_done){.uidvalidity = mailbox.row.uidvalidity};
            status = forget_mailbox(worker, place);
        }
        if (first)
            after = (struct sp_search_done){.uidvalidity = mailbox.row.uidvalidity,
                                            .modseq = mailbox.row.highestmodseq};
        first = false;
        if (status == SP_OK)
            status = collect(worker, &read, &mailbox, before.modseq, &from, step);
        last = status == SP_EOF;
        if (status && !last)
            break;
        sp_read_end(&read);
        make_entries(worker, step);
        if (is_stopping(worker))
            break;
        status = sp_read_begin(worker->mail->index, &read);
        if (status == SP_OK)
            status = sp_index_mailbox(&read, &place->account, place->mailbox, &mailbox);
        if (status == SP_OK)
            status = write_step(worker, &read, &mailbox, step, &before, last ? &after : &before);
        sp_read_end(&read);
        sp_arena_release(&worker->arena);
        pause_for(worker, step->bytes);
    }
    sp_read_end(&read);
    sp_arena_release(&worker->arena);
    free(step);
    return status == SP_NOT_FOUND ? forget_mailbox(worker, place) : status;
}

/* ---- All mailboxes ---- */

static enum sp_status go_through_account(struct sp_search_worker *worker,
                                         const struct sp_uuid *account)
{
    struct sp_mailbox mailbox = {0};
    enum sp_status status = SP_OK;
    while (status == SP_OK && !is_stopping(worker)) {
        struct sp_read read;
        status = sp_read_begin(worker->mail->index, &read);
        if (status)
            return status;
        status = sp_index_next_mailbox(&read, account, &mailbox);
        struct place place = {*account, mailbox.row.id};
        sp_read_end(&read);
        if (status == SP_OK)
            status = go_through(worker, &place);
    }
    return status == SP_EOF ? SP_OK : status;
}

struct looking {
    struct sp_read read;
    struct place place;
    bool failed;
};

static bool is_there(void *context, uint32_t uid)
{
    struct looking *looking = context;
    struct sp_slice payload;
    uint64_t lsn, time_ns;
    enum sp_status status = sp_index_message(&looking->read, &looking->place.account,
                                             looking->place.mailbox, uid, &payload, &lsn, &time_ns);
    looking->failed = looking->failed || (status != SP_OK && status != SP_NOT_FOUND);
    return status == SP_OK;
}

/* Forgets every row whose message is not in the index, if anything was erased, and mailboxes that
 * are gone. */
static enum sp_status forget_gone(struct sp_search_worker *worker)
{
    struct looking looking = {0};
    struct sp_search_write write;
    struct sp_search_head head;
    struct sp_position position;
    struct sp_mailbox mailbox;
    enum sp_status status = sp_read_begin(worker->mail->index, &looking.read);
    if (status)
        return status;
    status = sp_search_write_begin(worker->file, &write);
    if (status) {
        sp_read_end(&looking.read);
        return status;
    }
    status = sp_index_position(&looking.read, &position);
    if (status == SP_OK)
        status = sp_search_get_head(&write, &head);
    bool erased = status == SP_OK && head.erase_lsn != position.erase_lsn;
    while (status == SP_OK && !looking.failed) {
        struct place *place = &looking.place;
        status = sp_search_next_done(&write, &place->account, &place->mailbox);
        if (status)
            break;
        enum sp_status there =
            sp_index_mailbox(&looking.read, &place->account, place->mailbox, &mailbox);
        if (there == SP_NOT_FOUND)
            status = sp_search_forget_mailbox(&write, &place->account, place->mailbox);
        else if (there)
            status = there;
        else if (erased)
            status = sp_search_forget(&write, &place->account, place->mailbox, 0, UINT32_MAX,
                                      is_there, &looking);
    }
    status = looking.failed ? SP_IO : status == SP_EOF ? SP_OK : status;
    if (status == SP_OK && erased) {
        head.erase_lsn = position.erase_lsn;
        status = sp_search_put_head(&write, &head);
    }
    sp_read_end(&looking.read);
    if (status == SP_OK)
        return sp_search_write_commit(&write);
    sp_search_write_abort(&write);
    return status;
}

static enum sp_status go_through_all(struct sp_search_worker *worker)
{
    struct sp_account account = {0};
    enum sp_status status = forget_gone(worker);
    while (status == SP_OK && !is_stopping(worker)) {
        struct sp_read read;
        status = sp_read_begin(worker->mail->index, &read);
        if (status)
            return status;
        status = sp_index_next_account(&read, &account);
        sp_read_end(&read);
        if (status == SP_OK)
            status = go_through_account(worker, &account.id);
    }
    return status == SP_EOF ? SP_OK : status;
}

/* Whether an ERASE came since the last one that was heeded. */
static bool was_erased(struct sp_search_worker *worker)
{
    struct sp_read read;
    struct sp_position position = {0};
    struct sp_search_write write;
    struct sp_search_head head = {0};
    if (sp_read_begin(worker->mail->index, &read) != SP_OK)
        return false;
    bool good = sp_index_position(&read, &position) == SP_OK;
    sp_read_end(&read);
    if (!good || sp_search_write_begin(worker->file, &write) != SP_OK)
        return false;
    good = sp_search_get_head(&write, &head) == SP_OK;
    sp_search_write_abort(&write);
    return good && head.erase_lsn != position.erase_lsn;
}

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int order = memcmp(x->account.bytes, y->account.bytes, 16);
    return order ? order : (x->mailbox > y->mailbox) - (x->mailbox < y->mailbox);
}

static enum sp_status go_through_reported(struct sp_search_worker *worker, struct place *places,
                                          uint32_t count)
{
    enum sp_status status = was_erased(worker) ? forget_gone(worker) : SP_OK;
    qsort(places, count, sizeof *places, by_place);
    for (uint32_t i = 0; i < count && status == SP_OK; i++)
        if (i == 0 || by_place(&places[i - 1], &places[i]) != 0)
            status = go_through(worker, &places[i]);
    return status;
}

/* ---- The thread ---- */

static void settle(struct sp_search_worker *worker)
{
    pause_for(worker, worker->rate * SETTLE_MS / 1000);
}

static void *work(void *context)
{
    struct sp_search_worker *worker = context;
    struct place *places = calloc(REPORTED_MAX, sizeof *places);
    enum sp_status status = places ? SP_OK : SP_NO_MEMORY;
    pthread_mutex_lock(&worker->lock);
    while (status == SP_OK && !worker->stopping) {
        if (!worker->all && !worker->reported_count) {
            worker->busy = false;
            pthread_cond_broadcast(&worker->rest);
            pthread_cond_wait(&worker->work, &worker->lock);
            continue;
        }
        worker->busy = true;
        pthread_mutex_unlock(&worker->lock);
        settle(worker);
        pthread_mutex_lock(&worker->lock);
        bool all = worker->all;
        uint32_t count = worker->reported_count;
        memcpy(places, worker->reported, count * sizeof *places);
        worker->all = false;
        worker->reported_count = 0;
        pthread_mutex_unlock(&worker->lock);
        status = all ? go_through_all(worker) : go_through_reported(worker, places, count);
        pthread_mutex_lock(&worker->lock);
    }
    if (status) {
        worker->failed = true;
        sp_log(SP_LOG_WARN, "search.stopped", "status=%s", sp_status_name(status));
    }
    worker->busy = false;
    pthread_cond_broadcast(&worker->rest);
    pthread_mutex_unlock(&worker->lock);
    free(places);
    return NULL;
}

enum sp_status sp_search_worker_start(struct sp_mail *mail, uint64_t bytes_per_s,
                                      struct sp_search_worker **ret_worker)
{
    struct sp_search_worker *worker = calloc(1, sizeof *worker);
    pthread_condattr_t attributes;
    if (!worker)
        return SP_NO_MEMORY;
    worker->mail = mail;
    worker->file = mail->search_file;
    worker->rate = bytes_per_s ? bytes_per_s : RATE_BYTES;
    worker->all = worker->busy = true;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&worker->work, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_cond_init(&worker->rest, NULL);
    sp_sort_maker_init(&worker->maker);
    sp_bytes_init(&worker->bytes, mail);
    sp_arena_init(&worker->arena, ARENA_BYTES);
    sp_arena_init(&worker->scratch, SCRATCH_BYTES);
    if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
        worker->stopping = true;
        pthread_cond_destroy(&worker->work);
        pthread_cond_destroy(&worker->rest);
        pthread_mutex_destroy(&worker->lock);
        free(worker);
        return SP_IO;
    }
    *ret_worker = worker;
    return SP_OK;
}

void sp_search_worker_stop(struct sp_search_worker *worker)
{
    if (!worker)
        return;
    pthread_mutex_lock(&worker->lock);
    worker->stopping = true;
    pthread_cond_broadcast(&worker->work);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    sp_bytes_release(&worker->bytes);
    sp_sort_maker_release(&worker->maker);
    sp_arena_release(&worker->arena);
    sp_arena_release(&worker->scratch);
    pthread_cond_destroy(&worker->work);
    pthread_cond_destroy(&worker->rest);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}

void sp_search_worker_notify(struct sp_search_worker *worker, const struct sp_uuid *account,
                             uint32_t mailbox)
{
    struct place place = {*account, mailbox};
    pthread_mutex_lock(&worker->lock);
    uint32_t count = worker->reported_count;
    if (!count || by_place(&worker->reported[count - 1], &place) != 0) {
        if (count < REPORTED_MAX)
            worker->reported[worker->reported_count++] = place;
        else
            worker->all = true;
    }
    if (!worker->busy)
        pthread_cond_broadcast(&worker->work);
    pthread_mutex_unlock(&worker->lock);
}

bool sp_search_worker_wait(struct sp_search_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    worker->hurry = true;
    pthread_cond_broadcast(&worker->work);
    while (!worker->failed && (worker->busy || worker->all || worker->reported_count))
        pthread_cond_wait(&worker->rest, &worker->lock);
    bool good = !worker->failed;
    worker->hurry = false;
    pthread_mutex_unlock(&worker->lock);
    return good;
}
