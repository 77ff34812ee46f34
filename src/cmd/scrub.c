/* `sternpost scrub`: in the server, or, when none runs, on the platform opened here. */
#include "cmd/cmd.h"
#include "cmd/operation.h"
#include "cmd/progress.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LOOK_EVERY_US 200000

/* parameters: taken over, may be NULL. An operation on the platform if it is open here, and else in
 * the server that has it. */
static enum sp_status ask(const struct sp_config *config, struct sp_access *access,
                          const char *operation, json_t *parameters, json_t **ret_result,
                          struct sp_error *error)
{
    if (!access->open)
        return sp_operation_run(config, operation, parameters, ret_result, error);
    enum sp_status status =
        sp_operation_execute(&access->platform, operation, parameters, ret_result, error);
    json_decref(parameters);
    return status;
}

/* The "scrub" of volume.status; a new reference. */
static enum sp_status look(const struct sp_config *config, struct sp_access *access,
                           json_t **ret_scrub, struct sp_error *error)
{
    json_t *volume = NULL;
    enum sp_status status = ask(config, access, "volume.status", NULL, &volume, error);
    if (status)
        return status;
    *ret_scrub = json_incref(json_object_get(volume, "scrub"));
    json_decref(volume);
    return SP_OK;
}

static json_int_t number(const json_t *scrub, const char *name)
{
    return json_integer_value(json_object_get(scrub, name));
}

static enum sp_status wait_for_end(const struct sp_config *config, struct sp_access *access,
                                   json_t **ret_scrub, struct sp_error *error)
{
    struct sp_progress progress;
    enum sp_status status;
    sp_progress_begin(&progress, "scrubbing");
    while ((status = look(config, access, ret_scrub, error)) == SP_OK &&
           json_is_true(json_object_get(*ret_scrub, "running"))) {
        sp_progress_show(&progress, (uint64_t)number(*ret_scrub, "done_bytes"),
                         (uint64_t)number(*ret_scrub, "total_bytes"), 0, NULL);
        json_decref(*ret_scrub);
        usleep(LOOK_EVERY_US);
    }
    sp_progress_end(&progress);
    return status;
}

static void print_scrub(const json_t *scrub)
{
    char done[32], total[32], when[64] = "never";
    time_t finished = (time_t)number(scrub, "finished");
    struct tm parts;
    if (finished && gmtime_r(&finished, &parts))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", &parts);
    printf("running     %s, %s of %s\nfinished    %s\nmended      %" JSON_INTEGER_FORMAT
           " blocks\nunmendable  %" JSON_INTEGER_FORMAT " blocks\n",
           json_is_true(json_object_get(scrub, "running")) ? "yes" : "no",
           sp_bytes_text((uint64_t)number(scrub, "done_bytes"), done),
           sp_bytes_text((uint64_t)number(scrub, "total_bytes"), total), when,
           number(scrub, "mended"), number(scrub, "unmendable"));
    if (json_is_true(json_object_get(scrub, "overdue")))
        printf("overdue     for %" JSON_INTEGER_FORMAT " days (scrub_max_age)\n",
               (number(scrub, "age_s") - number(scrub, "max_age_s")) / 86400);
}

int sp_cmd_scrub(struct sp_call *call)
{
    struct sp_error error = {0};
    struct sp_access access;
    json_t *scrub = NULL, *begun = NULL;
    bool now = call->options[0];
    const char *unit = call->options[1];
    if (unit && !now)
        return sp_misuse(call, "--unit goes with --now");
    enum sp_status status = sp_access_open(&call->config, &access, &error);
    if (status)
        return sp_fail(&error);
    if (now)
        status = ask(&call->config, &access, "volume.scrub",
                     unit ? json_pack("{s:s}", "unit", unit) : NULL, &begun, &error);
    json_decref(begun);
    if (!status)
        status = now ? wait_for_end(&call->config, &access, &scrub, &error)
                     : look(&call->config, &access, &scrub, &error);
    sp_access_close(&access);
    if (status)
        return sp_fail(&error);
    int code = now && number(scrub, "unmendable") ? SP_EXIT_FAILED : SP_EXIT_OK;
    if (call->json)
        sp_print_json(scrub);
    else
        print_scrub(scrub);
    json_decref(scrub);
    return code;
}
