/* What is asked of the guard, in the log. */
#include "guard/internal.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- Writing ---- */

struct writing {
    const struct sp_guard_record *record;
    bool must_pend;
    /* A request: nothing else may be pending for the same. */
    bool must_be_new;
};

static enum sp_status is_new(struct sp_read *read, const struct sp_guard_record *record)
{
    struct sp_guard_request request = {0};
    enum sp_status status;
    while ((status = sp_index_next_guard(read, &request)) == SP_OK)
        if (!request.row.finished_ns && request.row.operation == record->operation &&
            sp_uuid_eq(&request.row.subject_id, &record->subject_id) &&
            sp_slice_eq(request.subject, record->subject))
            return SP_EXISTS;
    return status == SP_EOF ? SP_OK : status;
}

static enum sp_status plan(struct sp_plan *p, void *context)
{
    const struct writing *w = context;
    struct sp_guard_request request;
    enum sp_status status = SP_OK;
    if (w->must_pend) {
        status = sp_index_guard(sp_plan_read(p), &w->record->id, &request);
        if (status == SP_OK && request.row.finished_ns)
            status = SP_CONFLICT;
    }
    if (status == SP_OK && w->must_be_new)
        status = is_new(sp_plan_read(p), w->record);
    if (status != SP_OK)
        return status;
    struct sp_buf *buf = sp_plan_buf(p);
    sp_guard_record_write(w->record, buf);
    if (sp_buf_failed(buf))
        return SP_NO_MEMORY;
    return sp_plan_emit(p, SP_RECORD_GUARD, NULL, 0, sp_buf_slice(buf), NULL);
}

static enum sp_status write_event(struct sp_guard *g, struct writing *w, struct sp_error *error)
{
    char id[SP_UUID_TEXT];
    enum sp_status status = sp_volume_commit_from_reserve(g->config.volume, plan, w, error);
    sp_uuid_text(&w->record->id, id);
    if (status == SP_NOT_FOUND)
        return sp_error_set(error, status, id, "there is no such request");
    if (status == SP_CONFLICT)
        return sp_error_set(error, status, id, "it is not pending any more");
    if (status == SP_EXISTS)
        return sp_error_set(error, status, "guard", "the same is requested already");
    if (status == SP_OK && w->record->event != SP_GUARD_WAITED)
        sp_log(SP_LOG_WARN, "guard.event", "id=%s event=%u operation=%s uid=%" PRIu32, id,
               w->record->event, sp_guard_operation_name(w->record->operation), w->record->uid);
    return status;
}

enum sp_status sp_guard_write(struct sp_guard *g, const struct sp_guard_record *record,
                              bool must_pend, struct sp_error *error)
{
    struct writing w = {.record = record, .must_pend = must_pend};
    return write_event(g, &w, error);
}

/* ---- Reading ---- */

static void copy_text(struct sp_slice text, char *ret, size_t size)
{
    snprintf(ret, size, "%.*s", (int)(text.len < size ? text.len : size - 1),
             text.len ? (const char *)text.ptr : "");
}

static void copy_request(const struct sp_guard_request *request, struct sp_guard_copy *ret)
{
    ret->id = request->id;
    ret->row = request->row;
    copy_text(request->subject, ret->subject, sizeof ret->subject);
    copy_text(request->who, ret->who, sizeof ret->who);
}

enum sp_status sp_guard_get(struct sp_guard *g, const struct sp_uuid *id, struct sp_guard_copy *ret,
                            struct sp_error *error)
{
    struct sp_guard_request request;
    struct sp_read read;
    char text[SP_UUID_TEXT];
    enum sp_status status = sp_read_begin(sp_volume_index(g->config.volume), &read);
    if (status == SP_OK) {
        status = sp_index_guard(&read, id, &request);
        if (status == SP_OK)
            copy_request(&request, ret);
        sp_read_end(&read);
    }
    sp_uuid_text(id, text);
    if (status == SP_NOT_FOUND) {
        sp_error_set(error, status, text, "there is no such request");
        sp_error_todo(error, "see `sternpost guard list --all`");
    } else if (status != SP_OK) {
        sp_error_set(error, status, text, "%s", sp_status_name(status));
    }
    return status;
}

enum sp_status sp_guard_pending(struct sp_guard *g, struct sp_guard_copy *ret_list, uint32_t max,
                                uint32_t *ret_count, struct sp_error *error)
{
    struct sp_guard_request request = {0};
    struct sp_read read;
    uint32_t count = 0;
    enum sp_status status = sp_read_begin(sp_volume_index(g->config.volume), &read);
    if (status == SP_OK) {
        while (count < max && (status = sp_index_next_guard(&read, &request)) == SP_OK)
            if (!request.row.finished_ns)
                copy_request(&request, &ret_list[count++]);
        sp_read_end(&read);
    }
    if (status != SP_OK && status != SP_EOF)
        return sp_error_set(error, status, "guard", "%s", sp_status_name(status));
    *ret_count = count;
    return SP_OK;
}

/* ---- Requesting ---- */

/* The check that the request rests on; its confirmation. */
static enum sp_status was_checked(struct sp_guard *g, uint8_t operation, const char *subject,
                                  const char *typed, struct sp_guard_check *ret,
                                  struct sp_error *error)
{
    pthread_mutex_lock(&g->lock);
    *ret = g->check;
    uint64_t age = sp_guard_mono_ms(g) - g->checked_ms;
    pthread_mutex_unlock(&g->lock);
    if (ret->operation != operation || strcmp(ret->subject, subject) != 0 || ret->running ||
        age > SP_GUARD_FRESH_MS) {
        sp_error_set(error, SP_CONFLICT, subject, "it was not checked in the last hour");
        sp_error_todo(error, "ask again");
        return SP_CONFLICT;
    }
    if (ret->status != SP_OK) {
        *error = ret->error;
        return ret->status;
    }
    if (strcmp(ret->confirm, typed) != 0) {
        sp_error_set(error, SP_DENIED, subject, "not confirmed; nothing was changed");
        sp_error_todo(error, "type exactly: %s", ret->confirm);
        return SP_DENIED;
    }
    return SP_OK;
}

enum sp_status sp_guard_request(struct sp_guard *g, uint8_t operation, const char *subject_text,
                                const char *typed, const struct sp_guard_who *who,
                                struct sp_uuid *ret_id, struct sp_error *error)
{
    const struct sp_guard_kind *kind = sp_guard_kind_of(operation);
    struct sp_guard_copy pending[SP_GUARD_PENDING_MAX];
    struct sp_guard_check check;
    struct sp_guard_subject subject = {0};
    uint32_t count;
    if (!kind)
        return sp_error_set(error, SP_NOT_FOUND, "guard", "there is no such operation");
    enum sp_status status = was_checked(g, operation, subject_text, typed, &check, error);
    if (status == SP_OK)
        status = kind->find(g, subject_text, &subject, error);
    if (status == SP_OK)
        status = sp_guard_pending(g, pending, SP_GUARD_PENDING_MAX, &count, error);
    if (status != SP_OK)
        return status;
    if (count == SP_GUARD_PENDING_MAX)
        return sp_error_set(error, SP_LIMIT, "guard", "%u requests are pending already", count);
    struct sp_guard_record record = {.event = SP_GUARD_REQUESTED,
                                     .operation = operation,
                                     .approvals = (uint8_t)g->config.approvals,
                                     .uid = who->uid,
                                     .cooling_ms = g->config.cooling_ms,
                                     .subject_id = subject.id,
                                     .who = sp_slice_str(who->name),
                                     .subject = sp_slice_str(subject.name),
                                     .text = sp_slice_str(check.facts)};
    sp_uuid_make(&record.id);
    struct writing w = {.record = &record, .must_be_new = true};
    status = write_event(g, &w, error);
    if (status != SP_OK)
        return status;
    *ret_id = record.id;
    if (!record.cooling_ms && !record.approvals)
        sp_guard_carry_out(g, &record.id);
    return SP_OK;
}

/* ---- Approving, undoing ---- */

bool sp_guard_is_approver(const struct sp_guard *g, uint32_t uid)
{
    for (uint32_t i = 0; i < g->config.approvers_count; i++)
        if (g->config.approvers[i] == uid)
            return true;
    return false;
}

static struct sp_guard_record event_of(const struct sp_guard_copy *request, uint8_t event,
                                       const struct sp_guard_who *who)
{
    return (struct sp_guard_record){.id = request->id,
                                    .event = event,
                                    .operation = request->row.operation,
                                    .uid = who->uid,
                                    .subject_id = request->row.subject_id,
                                    .who = sp_slice_str(who->name),
                                    .subject = sp_slice_str(request->subject)};
}

enum sp_status sp_guard_approve(struct sp_guard *g, const struct sp_uuid *id,
                                const struct sp_guard_who *who, struct sp_error *error)
{
    struct sp_guard_copy request;
    enum sp_status status = sp_guard_get(g, id, &request, error);
    if (status != SP_OK)
        return status;
    if (who->uid == request.row.uid) {
        sp_error_set(error, SP_DENIED, who->name, "who asks cannot approve");
        sp_error_todo(error, "somebody else of [guard] approvers must");
        return SP_DENIED;
    }
    if (!sp_guard_is_approver(g, who->uid)) {
        sp_error_set(error, SP_DENIED, who->name, "is not among [guard] approvers");
        return SP_DENIED;
    }
    for (uint32_t i = 0; i < request.row.approvals; i++)
        if (request.row.approvers[i] == who->uid)
            return sp_error_set(error, SP_EXISTS, who->name, "has approved already");
    struct sp_guard_record record = event_of(&request, SP_GUARD_APPROVED, who);
    status = sp_guard_write(g, &record, true, error);
    if (status == SP_OK && !request.row.cooling_ms &&
        request.row.approvals + 1 >= request.row.approvals_needed)
        sp_guard_carry_out(g, id);
    return status;
}

enum sp_status sp_guard_undo(struct sp_guard *g, const struct sp_uuid *id,
                             const struct sp_guard_who *who, struct sp_error *error)
{
    struct sp_guard_copy request;
    pthread_mutex_lock(&g->act_lock);
    enum sp_status status = sp_guard_get(g, id, &request, error);
    if (status == SP_OK) {
        struct sp_guard_record record = event_of(&request, SP_GUARD_UNDONE, who);
        status = sp_guard_write(g, &record, true, error);
    }
    pthread_mutex_unlock(&g->act_lock);
    return status;
}

enum sp_status sp_guard_policy_end(struct sp_guard *g, uint8_t operation,
                                   const struct sp_guard_who *who, struct sp_error *error)
{
    struct sp_guard_request policy;
    struct sp_read read;
    enum sp_status status = sp_read_begin(sp_volume_index(g->config.volume), &read);
    if (status == SP_OK) {
        status = sp_index_guard_policy(&read, operation, &policy);
        sp_read_end(&read);
    }
    if (status != SP_OK)
        return sp_error_set(error, status, "guard", "%s",
                            status == SP_NOT_FOUND ? "there is no such policy"
                                                   : sp_status_name(status));
    struct sp_guard_record record = {.event = SP_GUARD_POLICY_ENDS,
                                     .operation = operation,
                                     .uid = who->uid,
                                     .who = sp_slice_str(who->name)};
    return sp_guard_write(g, &record, false, error);
}

enum sp_status sp_guard_tell(struct sp_guard *g, uint8_t operation, const char *subject,
                             const struct sp_uuid *subject_id, const char *text,
                             const struct sp_guard_who *who, struct sp_error *error)
{
    struct sp_guard_record record = {.event = SP_GUARD_DONE,
                                     .operation = operation,
                                     .uid = who->uid,
                                     .subject_id = *subject_id,
                                     .who = sp_slice_str(who->name),
                                     .subject = sp_slice_str(subject),
                                     .text = sp_slice_str(text)};
    sp_uuid_make(&record.id);
    return sp_guard_write(g, &record, false, error);
}

/* ---- Telling ---- */

static int by_age(const void *a, const void *b)
{
    const struct sp_guard_request *left = a, *right = b;
    return (left->row.requested_ns > right->row.requested_ns) -
           (left->row.requested_ns < right->row.requested_ns);
}

enum sp_status sp_guard_list(struct sp_guard *g, bool all,
                             void (*each)(void *context, const struct sp_guard_view *view),
                             void *context, struct sp_error *error)
{
    struct sp_guard_request request = {0}, *list = NULL;
    struct sp_read read;
    size_t count = 0, capacity = 0;
    enum sp_status status = sp_read_begin(sp_volume_index(g->config.volume), &read);
    if (status != SP_OK)
        return sp_error_set(error, status, "guard", "%s", sp_status_name(status));
    while (status == SP_OK && (status = sp_index_next_guard(&read, &request)) == SP_OK) {
        if (!all && request.row.finished_ns)
            continue;
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 16;
            struct sp_guard_request *grown = realloc(list, capacity * sizeof *grown);
            if (!grown) {
                status = SP_NO_MEMORY;
                break;
            }
            list = grown;
        }
        list[count++] = request;
    }
    if (status == SP_EOF && count)
        qsort(list, count, sizeof *list, by_age);
    for (size_t i = 0; status == SP_EOF && i < count; i++) {
        struct sp_guard_view view = {.request = list[i], .trouble = ""};
        struct sp_guard_row *row = &view.request.row;
        char trouble[256] = "";
        if (!row->finished_ns) {
            view.waits_ms = sp_guard_waits_ms(g, row, &list[i].id);
            view.approvals_left = row->approvals_needed > row->approvals
                                      ? (uint32_t)(row->approvals_needed - row->approvals)
                                      : 0;
            pthread_mutex_lock(&g->lock);
            const struct sp_guard_waiting *w = sp_guard_waiting_of(g, &list[i].id);
            if (w)
                memcpy(trouble, w->trouble, sizeof trouble);
            pthread_mutex_unlock(&g->lock);
            view.trouble = trouble;
        }
        each(context, &view);
    }
    free(list);
    sp_read_end(&read);
    return status == SP_EOF ? SP_OK
                            : sp_error_set(error, status, "guard", "%s", sp_status_name(status));
}
