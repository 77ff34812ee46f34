/* Operations of the guard. */
#include "cmd/operation_internal.h"

#include "cmd/control.h"

#include "guard/guard.h"

#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

/* ---- Who asks ---- */

static _Thread_local bool user_known;
static _Thread_local uint32_t user_uid;

void sp_operation_set_user(uint32_t uid)
{
    user_uid = uid;
    user_known = true;
}

static struct sp_guard_who who_asks(void)
{
    struct passwd entry, *found = NULL;
    char scratch[4096];
    struct sp_guard_who who = {.uid = user_known ? user_uid : getuid()};
    if (getpwuid_r(who.uid, &entry, scratch, sizeof scratch, &found) == 0 && found)
        snprintf(who.name, sizeof who.name, "%.63s", found->pw_name);
    else
        snprintf(who.name, sizeof who.name, "%u", who.uid);
    return who;
}

bool sp_operation_is_approvers(const struct sp_platform *platform, const char *name, uint32_t uid)
{
    static const char *const theirs[] = {"guard.approve", "guard.list", "guard.undo"};
    for (size_t i = 0; i < sizeof theirs / sizeof theirs[0]; i++)
        if (strcmp(theirs[i], name) == 0)
            return sp_guard_is_approver(platform->guard, uid);
    return false;
}

/* ---- Checking ---- */

static enum sp_status take_operation(const json_t *parameters, uint8_t *ret_operation,
                                     const char **ret_subject, struct sp_error *error)
{
    const char *name;
    enum sp_status status = sp_operation_text(parameters, "operation", &name, error);
    if (!status)
        status = sp_operation_text(parameters, "subject", ret_subject, error);
    return status ? status : sp_guard_operation_find(name, ret_operation, error);
}

enum sp_status sp_operation_guard_check(struct sp_platform *platform, const json_t *parameters,
                                        json_t **ret_result, struct sp_error *error)
{
    uint8_t operation;
    const char *subject;
    enum sp_status status = take_operation(parameters, &operation, &subject, error);
    if (!status)
        status = sp_guard_check_begin(platform->guard, operation, subject, error);
    if (!status && !(*ret_result = json_object()))
        status = sp_operation_memory(error);
    return status;
}

enum sp_status sp_operation_guard_look(struct sp_platform *platform, const json_t *parameters,
                                       json_t **ret_result, struct sp_error *error)
{
    struct sp_guard_check check;
    const struct sp_config *config = platform->config;
    (void)parameters;
    sp_guard_check_look(platform->guard, &check);
    json_t *result =
        json_pack("{s:b,s:I,s:I,s:s,s:s,s:s,s:s,s:I,s:i,s:b}", "running", (int)check.running,
                  "done_bytes", (json_int_t)check.done_bytes, "total_bytes",
                  (json_int_t)check.total_bytes, "status", sp_status_name(check.status), "subject",
                  check.subject, "confirm", check.confirm, "facts", check.facts, "cooling_off_s",
                  (json_int_t)config->guard_cooling_s, "approvals", (int)config->guard_approvals,
                  "shared_domain_allowed", (int)config->volume.allow_shared_domain);
    if (!result)
        return sp_operation_memory(error);
    if (!check.running && check.status != SP_OK)
        json_object_set_new(result, "error", sp_control_error_json(&check.error));
    *ret_result = result;
    return SP_OK;
}

/* ---- Requests ---- */

static const char *state_name(const struct sp_guard_row *row)
{
    switch (row->event) {
    case SP_GUARD_UNDONE:
        return "undone";
    case SP_GUARD_DONE:
        return "done";
    case SP_GUARD_REFUSED:
        return "refused";
    default:
        return row->finished_ns ? "unknown" : "pending";
    }
}

static json_t *text_json(struct sp_slice text)
{
    json_t *json = json_stringn((const char *)text.ptr, text.len);
    return json ? json : json_string("");
}

static json_t *request_json(const struct sp_guard_view *view)
{
    char id[SP_UUID_TEXT], subject_id[SP_UUID_TEXT];
    const struct sp_guard_row *row = &view->request.row;
    const char *operation = sp_guard_operation_name(row->operation);
    sp_uuid_text(&view->request.id, id);
    sp_uuid_text(&row->subject_id, subject_id);
    json_t *json = json_pack(
        "{s:s,s:s,s:o,s:s,s:o,s:i,s:I,s:I,s:i,s:i,s:o}", "id", id, "operation",
        operation ? operation : "unknown", "subject", text_json(view->request.subject), "state",
        state_name(row), "who", text_json(view->request.who), "uid", (int)row->uid, "requested",
        (json_int_t)(row->requested_ns / 1000000000U), "cooling_off_s",
        (json_int_t)(row->cooling_ms / 1000), "approvals", (int)row->approvals, "approvals_needed",
        (int)row->approvals_needed, "text", text_json(view->request.text));
    if (!sp_uuid_is_nil(&row->subject_id))
        json_object_set_new(json, "subject_id", json_string(subject_id));
    if (row->finished_ns) {
        json_object_set_new(json, "finished",
                            json_integer((json_int_t)(row->finished_ns / 1000000000U)));
    } else {
        json_object_set_new(json, "waits_s",
                            json_integer((json_int_t)((view->waits_ms + 999) / 1000)));
        json_object_set_new(json, "trouble", json_string(view->trouble));
    }
    return json;
}

static void list_one(void *context, const struct sp_guard_view *view)
{
    json_array_append_new(context, request_json(view));
}

enum sp_status sp_operation_guard_list(struct sp_platform *platform, const json_t *parameters,
                                       json_t **ret_result, struct sp_error *error)
{
    json_t *rows = json_array();
    bool all = json_is_true(json_object_get(parameters, "all"));
    enum sp_status status = sp_guard_list(platform->guard, all, list_one, rows, error);
    if (!status && !rows)
        status = sp_operation_memory(error);
    if (status)
        json_decref(rows);
    else
        *ret_result = rows;
    return status;
}

struct finding {
    struct sp_uuid id;
    json_t *found;
};

static void find_one(void *context, const struct sp_guard_view *view)
{
    struct finding *f = context;
    if (!f->found && sp_uuid_eq(&view->request.id, &f->id))
        f->found = request_json(view);
}

static enum sp_status answer_request(struct sp_platform *platform, const struct sp_uuid *id,
                                     json_t **ret_result, struct sp_error *error)
{
    struct finding f = {.id = *id};
    enum sp_status status = sp_guard_list(platform->guard, true, find_one, &f, error);
    if (!status && !f.found)
        status = sp_operation_memory(error);
    if (!status)
        *ret_result = f.found;
    return status;
}

enum sp_status sp_operation_guard_request(struct sp_platform *platform, const json_t *parameters,
                                          json_t **ret_result, struct sp_error *error)
{
    uint8_t operation;
    const char *subject, *confirm;
    struct sp_uuid id;
    struct sp_guard_who who = who_asks();
    enum sp_status status = take_operation(parameters, &operation, &subject, error);
    if (!status)
        status = sp_operation_text(parameters, "confirm", &confirm, error);
    if (!status)
        status = sp_guard_request(platform->guard, operation, subject, confirm, &who, &id, error);
    return status ? status : answer_request(platform, &id, ret_result, error);
}

static enum sp_status take_id(const json_t *parameters, struct sp_uuid *ret_id,
                              struct sp_error *error)
{
    const char *text;
    enum sp_status status = sp_operation_text(parameters, "id", &text, error);
    if (!status && sp_uuid_parse(sp_slice_str(text), ret_id)) {
        status = sp_error_set(error, SP_INVALID, text, "this is no id of a request");
        sp_error_todo(error, "see `sternpost guard list`");
    }
    return status;
}

enum sp_status sp_operation_guard_approve(struct sp_platform *platform, const json_t *parameters,
                                          json_t **ret_result, struct sp_error *error)
{
    struct sp_uuid id;
    struct sp_guard_who who = who_asks();
    enum sp_status status = take_id(parameters, &id, error);
    if (!status)
        status = sp_guard_approve(platform->guard, &id, &who, error);
    return status ? status : answer_request(platform, &id, ret_result, error);
}

enum sp_status sp_operation_guard_undo(struct sp_platform *platform, const json_t *parameters,
                                       json_t **ret_result, struct sp_error *error)
{
    struct sp_uuid id;
    struct sp_guard_who who = who_asks();
    enum sp_status status = take_id(parameters, &id, error);
    if (!status)
        status = sp_guard_undo(platform->guard, &id, &who, error);
    return status ? status : answer_request(platform, &id, ret_result, error);
}

enum sp_status sp_operation_guard_policy_end(struct sp_platform *platform, const json_t *parameters,
                                             json_t **ret_result, struct sp_error *error)
{
    const char *name;
    uint8_t operation;
    struct sp_guard_who who = who_asks();
    enum sp_status status = sp_operation_text(parameters, "operation", &name, error);
    if (!status)
        status = sp_guard_operation_find(name, &operation, error);
    if (!status)
        status = sp_guard_policy_end(platform->guard, operation, &who, error);
    if (!status && !(*ret_result = json_object()))
        status = sp_operation_memory(error);
    return status;
}

enum sp_status sp_operation_guard_tell(struct sp_platform *platform, const json_t *parameters,
                                       json_t **ret_result, struct sp_error *error)
{
    const char *subject, *text;
    struct sp_uuid id;
    struct sp_guard_who who = who_asks();
    enum sp_status status = sp_operation_text(parameters, "subject", &subject, error);
    if (!status)
        status = sp_operation_text(parameters, "text", &text, error);
    if (!status)
        status = take_id(parameters, &id, error);
    if (!status)
        status =
            sp_guard_tell(platform->guard, SP_GUARD_UNIT_INIT, subject, &id, text, &who, error);
    if (!status && !(*ret_result = json_object()))
        status = sp_operation_memory(error);
    return status;
}
