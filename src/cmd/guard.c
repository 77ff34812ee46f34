/* `sternpost guard list|approve|undo|policy`, and the way on which whatever destroys data goes. */
#include "cmd/cmd.h"
#include "cmd/control.h"
#include "cmd/operation.h"
#include "cmd/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LOOK_EVERY_US 100000U

static const char *text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));
    return text ? text : "";
}

static json_int_t number_of(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json, name));
}

/* "1 h 30 min"; the two largest parts. */
static const char *time_text(json_int_t seconds, char ret[64])
{
    if (seconds >= 86400)
        snprintf(ret, 64, "%lld d %lld h", (long long)(seconds / 86400),
                 (long long)(seconds % 86400 / 3600));
    else if (seconds >= 3600)
        snprintf(ret, 64, "%lld h %lld min", (long long)(seconds / 3600),
                 (long long)(seconds % 3600 / 60));
    else if (seconds >= 60)
        snprintf(ret, 64, "%lld min %lld s", (long long)(seconds / 60), (long long)(seconds % 60));
    else
        snprintf(ret, 64, "%lld s", (long long)seconds);
    return ret;
}

/* One operation, in the server or here, on an access that stays open: a check lives in the process
 * that makes it. A server answers one request a connection. */
static enum sp_status ask(const struct sp_config *config, struct sp_access *access,
                          const char *name, json_t *parameters, json_t **ret_result,
                          struct sp_error *error)
{
    enum sp_status status = SP_OK;
    if (!access->open && access->control_fd < 0)
        status = sp_control_connect(config, &access->control_fd, error);
    if (!status && access->open)
        status = sp_operation_execute(&access->platform, name, parameters, ret_result, error);
    else if (!status)
        status = sp_control_call(access->control_fd, name, parameters, ret_result, error);
    if (!access->open && access->control_fd >= 0) {
        close(access->control_fd);
        access->control_fd = -1;
    }
    json_decref(parameters);
    return status;
}

/* ---- Confirming ---- */

enum sp_status sp_guard_confirm(const char *subject, const char *wanted, const char *confirm,
                                struct sp_error *error)
{
    char prompt[500], *typed = NULL;
    if (!confirm && !isatty(STDIN_FILENO)) {
        sp_error_set(error, SP_DENIED, subject,
                     "not confirmed, since standard input is no terminal; nothing was changed");
        sp_error_todo(error, "if this is meant, give --confirm '%s'", wanted);
        return SP_DENIED;
    }
    snprintf(prompt, sizeof prompt, "Type `%.320s` to confirm: ", wanted);
    enum sp_status status = confirm ? SP_OK : sp_read_line(prompt, false, &typed);
    if (!status && strcmp(confirm ? confirm : typed, wanted) != 0)
        status = SP_DENIED;
    free(typed);
    if (status) {
        sp_error_set(error, status, subject, "not confirmed; nothing was changed");
        sp_error_todo(error, "if this is meant, type exactly: %s", wanted);
    }
    return status;
}

/* ---- Asking ---- */

static enum sp_status check(const struct sp_config *config, struct sp_access *access,
                            const char *operation, const char *subject, json_t **ret_look,
                            struct sp_error *error)
{
    struct sp_progress progress;
    json_t *begun = NULL, *look = NULL;
    enum sp_status status =
        ask(config, access, "guard.check",
            json_pack("{s:s,s:s}", "operation", operation, "subject", subject), &begun, error);
    json_decref(begun);
    if (status)
        return status;
    sp_progress_begin(&progress, "reading back the other copies");
    while ((status = ask(config, access, "guard.look", NULL, &look, error)) == SP_OK &&
           json_is_true(json_object_get(look, "running"))) {
        sp_progress_show(&progress, (uint64_t)number_of(look, "done_bytes"),
                         (uint64_t)number_of(look, "total_bytes"), 0, NULL);
        json_decref(look);
        usleep(LOOK_EVERY_US);
    }
    sp_progress_end(&progress);
    if (status)
        return status;
    if (json_object_get(look, "error")) {
        json_t *said = json_object_get(look, "error");
        sp_control_error_read(
            json_object_get(said, "error") ? json_object_get(said, "error") : said, error);
        fputs(text_of(look, "facts"), stderr);
        json_decref(look);
        return error->status;
    }
    *ret_look = look;
    return SP_OK;
}

static void say_terms(const json_t *look)
{
    char cooling[64];
    json_int_t seconds = number_of(look, "cooling_off_s"), approvals = number_of(look, "approvals");
    fputs(text_of(look, "facts"), stderr);
    if (seconds)
        fprintf(stderr, "It will wait for %s, in which `sternpost guard undo` takes it back.\n",
                time_text(seconds, cooling));
    else
        fprintf(stderr, "There is no time in which it could be undone: cooling_off = 0.\n");
    if (approvals)
        fprintf(stderr, "It needs the approval of %lld of [guard] approvers.\n",
                (long long)approvals);
}

/* The exit code: refused is a failure. */
static int say_request(const struct sp_call *call, const json_t *request)
{
    char waits[64];
    const char *state = text_of(request, "state"), *id = text_of(request, "id");
    json_int_t left = number_of(request, "approvals_needed") - number_of(request, "approvals");
    bool refused = strcmp(state, "refused") == 0;
    if (call->json) {
        sp_print_json(request);
    } else if (strcmp(state, "pending") == 0) {
        printf("%s: pending: %s %s", id, text_of(request, "operation"),
               text_of(request, "subject"));
        if (number_of(request, "cooling_off_s"))
            printf(", waits for %s", time_text(number_of(request, "waits_s"), waits));
        if (left > 0)
            printf(", needs %lld approvals", (long long)left);
        if (*text_of(request, "trouble"))
            printf("\n%s", text_of(request, "trouble"));
        printf("\n  sternpost guard undo %s\n", id);
    } else {
        printf("%s: %s: %s %s\n%s", id, state, text_of(request, "operation"),
               text_of(request, "subject"), text_of(request, "text"));
        if (number_of(request, "cooling_off_s") == 0)
            printf("(cooling_off = 0: nothing could be undone)\n");
    }
    return refused ? SP_EXIT_FAILED : SP_EXIT_OK;
}

int sp_guard_ask(struct sp_call *call, const char *operation, const char *subject,
                 const char *confirm)
{
    struct sp_error error = {0};
    struct sp_access access;
    json_t *look = NULL, *request = NULL;
    enum sp_status status = sp_access_open(&call->config, &access, &error);
    if (status)
        return sp_fail(&error);
    status = check(&call->config, &access, operation, subject, &look, &error);
    if (!status) {
        say_terms(look);
        status = sp_guard_confirm(subject, text_of(look, "confirm"), confirm, &error);
    }
    if (!status)
        status = ask(&call->config, &access, "guard.request",
                     json_pack("{s:s,s:s,s:s}", "operation", operation, "subject", subject,
                               "confirm", text_of(look, "confirm")),
                     &request, &error);
    sp_access_close(&access);
    json_decref(look);
    if (status)
        return sp_fail(&error);
    int code = say_request(call, request);
    json_decref(request);
    return code;
}

/* ---- Verbs ---- */

int sp_cmd_unit_retire(struct sp_call *call)
{
    return sp_guard_ask(call, "unit.retire", call->arguments[0], call->options[0]);
}

int sp_cmd_unit_wipe(struct sp_call *call)
{
    return sp_guard_ask(call, "unit.wipe", call->arguments[0], call->options[0]);
}

/* On one request: approve and undo. */
static int on_request(struct sp_call *call, const char *operation)
{
    struct sp_error error = {0};
    json_t *request = NULL;
    if (sp_operation_run(&call->config, operation, json_pack("{s:s}", "id", call->arguments[0]),
                         &request, &error))
        return sp_fail(&error);
    int code = say_request(call, request);
    json_decref(request);
    return code;
}

int sp_cmd_guard_approve(struct sp_call *call)
{
    return on_request(call, "guard.approve");
}

int sp_cmd_guard_undo(struct sp_call *call)
{
    return on_request(call, "guard.undo");
}

int sp_cmd_guard_policy(struct sp_call *call)
{
    struct sp_error error = {0};
    json_t *result = NULL;
    if (!call->options[1])
        return sp_guard_ask(call, call->arguments[0], "", call->options[0]);
    if (sp_operation_run(&call->config, "guard.policy.end",
                         json_pack("{s:s}", "operation", call->arguments[0]), &result, &error))
        return sp_fail(&error);
    if (call->json)
        sp_print_json(result);
    else
        printf("%s: not allowed any more\n", call->arguments[0]);
    json_decref(result);
    return SP_EXIT_OK;
}

/* For people: when it was asked, and what it waits for. */
static void add_texts(json_t *request)
{
    char text[200] = "", when[32] = "", waits[64];
    time_t asked = (time_t)number_of(request, "requested");
    struct tm parts;
    json_int_t left = number_of(request, "approvals_needed") - number_of(request, "approvals");
    if (gmtime_r(&asked, &parts))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M", &parts);
    json_object_set_new(request, "asked", json_string(when));
    if (strcmp(text_of(request, "state"), "pending") == 0)
        snprintf(text, sizeof text, "%s%s%.100s", time_text(number_of(request, "waits_s"), waits),
                 left > 0 ? ", approvals wanting" : "", text_of(request, "trouble"));
    json_object_set_new(request, "waits", json_string(*text ? text : "-"));
}

int sp_cmd_guard_list(struct sp_call *call)
{
    static const struct sp_column columns[] = {
        {"ID", "id", SP_COLUMN_TEXT},
        {"OPERATION", "operation", SP_COLUMN_TEXT},
        {"SUBJECT", "subject", SP_COLUMN_TEXT},
        {"STATE", "state", SP_COLUMN_TEXT},
        {"ASKED (UTC)", "asked", SP_COLUMN_TEXT},
        {"BY", "who", SP_COLUMN_TEXT},
        {"WAITS", "waits", SP_COLUMN_TEXT},
        {NULL, NULL, SP_COLUMN_TEXT},
    };
    struct sp_error error = {0};
    json_t *list = NULL, *request;
    size_t i;
    if (sp_operation_run(&call->config, "guard.list",
                         json_pack("{s:b}", "all", call->options[0] != NULL), &list, &error))
        return sp_fail(&error);
    if (call->json) {
        sp_print_json(list);
    } else {
        json_array_foreach(list, i, request) add_texts(request);
        sp_print_table(list, columns);
        if (call->config.guard_cooling_s == 0)
            printf("\ncooling_off = 0: what is asked is carried out at once\n");
    }
    json_decref(list);
    return SP_EXIT_OK;
}
