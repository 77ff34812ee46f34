/* `sternpost compact`, `undelete`, `erase`: in the server, or, when none runs, on the platform
 * opened here. */
#include "base/time.h"
#include "cmd/cmd.h"
#include "cmd/operation.h"
#include "cmd/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LOOK_EVERY_US 200000

static json_int_t number(const json_t *facts, const char *name)
{
    return json_integer_value(json_object_get(facts, name));
}

/* ---- compact ---- */

/* An operation on the platform if it is open here, and else in the server that has it. */
static enum sp_status ask(const struct sp_config *config, struct sp_access *access,
                          const char *operation, json_t **ret_result, struct sp_error *error)
{
    return access->open
               ? sp_operation_execute(&access->platform, operation, NULL, ret_result, error)
               : sp_operation_run(config, operation, NULL, ret_result, error);
}

static enum sp_status wait_for_end(const struct sp_config *config, struct sp_access *access,
                                   json_t **ret_facts, struct sp_error *error)
{
    struct sp_progress progress;
    enum sp_status status;
    sp_progress_begin(&progress, "surveying");
    while ((status = ask(config, access, "volume.compaction", ret_facts, error)) == SP_OK &&
           json_is_true(json_object_get(*ret_facts, "running"))) {
        sp_progress_show(&progress, (uint64_t)number(*ret_facts, "done_segments"),
                         (uint64_t)number(*ret_facts, "total_segments"), 0, NULL);
        json_decref(*ret_facts);
        usleep(LOOK_EVERY_US);
    }
    sp_progress_end(&progress);
    return status;
}

static void print_compaction(const json_t *facts)
{
    char dropped[32], retired[32], when[64] = "not since the volume was opened";
    time_t finished = (time_t)number(facts, "finished");
    struct tm parts;
    if (finished && gmtime_r(&finished, &parts))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", &parts);
    printf("running   %s\nfinished  %s\nmerged    %" JSON_INTEGER_FORMAT
           " segments, which leaves %s out\nretired   %" JSON_INTEGER_FORMAT
           " segments, %s on all units; %" JSON_INTEGER_FORMAT " of them are past their hold\n",
           json_is_true(json_object_get(facts, "running")) ? "yes" : "no", when,
           number(facts, "merged"),
           sp_bytes_text((uint64_t)number(facts, "dropped_bytes"), dropped),
           number(facts, "retired_segments"),
           sp_bytes_text((uint64_t)number(facts, "retired_bytes"), retired),
           number(facts, "retired_past_hold"));
}

int sp_cmd_compact(struct sp_call *call)
{
    struct sp_error error = {0};
    struct sp_access access;
    json_t *facts = NULL, *begun = NULL;
    bool now = call->options[0];
    enum sp_status status = sp_access_open(&call->config, &access, &error);
    if (status)
        return sp_fail(&error);
    if (now)
        status = ask(&call->config, &access, "volume.compact", &begun, &error);
    json_decref(begun);
    if (!status)
        status = now ? wait_for_end(&call->config, &access, &facts, &error)
                     : ask(&call->config, &access, "volume.compaction", &facts, &error);
    sp_access_close(&access);
    if (status)
        return sp_fail(&error);
    if (call->json)
        sp_print_json(facts);
    else
        print_compaction(facts);
    json_decref(facts);
    return SP_EXIT_OK;
}

/* ---- undelete ---- */

/* "2026-01-31", "2026-01-31T12:00:00Z", or "3d": so long ago. */
static bool parse_time(const char *text, int64_t *ret_s)
{
    int year, month, day, hour = 0, minute = 0, second = 0, used = 0;
    if (sscanf(text, "%4d-%2d-%2d%n", &year, &month, &day, &used) == 3 && used == 10) {
        const char *rest = text + used;
        if (*rest && (sscanf(rest, "T%2d:%2d:%2dZ%n", &hour, &minute, &second, &used) != 3 ||
                      used != 10 || rest[used]))
            return false;
        if (month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 ||
            second > 60 || hour < 0 || minute < 0 || second < 0)
            return false;
        *ret_s = sp_civil_to_unix(year, month, day, hour, minute, second);
        return true;
    }
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char *end;
    errno = 0;
    long count = strtol(text, &end, 10);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (end != text && !errno && count >= 0 && count < 100000000 && end[0] == units[i].unit &&
            !end[1]) {
            *ret_s = (int64_t)(sp_wall_ns() / 1000000000U) - count * units[i].seconds;
            return true;
        }
    return false;
}

static void print_undelete(const char *address, const json_t *facts)
{
    printf("%s: %" JSON_INTEGER_FORMAT " messages are back", address, number(facts, "messages"));
    if (number(facts, "mailboxes"))
        printf(", %" JSON_INTEGER_FORMAT " mailboxes were made again", number(facts, "mailboxes"));
    if (number(facts, "passed_over"))
        printf(", %" JSON_INTEGER_FORMAT " were passed over, since there is a copy",
               number(facts, "passed_over"));
    if (number(facts, "gone"))
        printf(", %" JSON_INTEGER_FORMAT " are past their hold and gone", number(facts, "gone"));
    printf("\n");
}

int sp_cmd_undelete(struct sp_call *call)
{
    struct sp_error error = {0};
    const char *address = call->options[0], *since = call->options[1], *mailbox = call->options[2];
    int64_t since_s = 0;
    json_t *facts;
    if (!address)
        return sp_misuse(call, "whose mail? give --account");
    if (since && !parse_time(since, &since_s))
        return sp_misuse(call, "--since %s: neither a date nor how long ago", since);
    json_t *parameters = json_pack("{s:s,s:I,s:s*}", "address", address, "since",
                                   (json_int_t)since_s, "mailbox", mailbox);
    if (!parameters) {
        sp_error_set(&error, SP_INVALID, address, "address and mailbox must be UTF-8");
        return sp_fail(&error);
    }
    if (sp_operation_run(&call->config, "mail.undelete", parameters, &facts, &error))
        return sp_fail(&error);
    bool gone = number(facts, "gone") && !number(facts, "messages");
    if (call->json)
        sp_print_json(facts);
    else
        print_undelete(address, facts);
    json_decref(facts);
    return gone ? SP_EXIT_FAILED : SP_EXIT_OK;
}

/* ---- erase ---- */

/* "3:9,12", ascending; NULL: it is no such set. */
static json_t *parse_uids(const char *text)
{
    json_t *list = json_array();
    unsigned long after = 0;
    for (const char *at = text; list; at++) {
        char *end;
        errno = 0;
        unsigned long first = strtoul(at, &end, 10), last = first;
        bool good = end != at && *at >= '0' && *at <= '9';
        if (good && *end == ':') {
            at = end + 1;
            last = strtoul(at, &end, 10);
            good = end != at && *at >= '0' && *at <= '9';
        }
        if (!good || errno || first <= after || last < first || last > UINT32_MAX ||
            (*end && *end != ',')) {
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, json_pack("[I,I]", (json_int_t)first, (json_int_t)last));
        after = last;
        if (!*end)
            return list;
        at = end;
    }
    return NULL;
}

static void who_am_i(char *ret_who, size_t size)
{
    char host[200] = "?";
    const struct passwd *user = getpwuid(getuid());
    if (gethostname(host, sizeof host - 1) != 0)
        snprintf(host, sizeof host, "?");
    snprintf(ret_who, size, "%s@%s", user ? user->pw_name : "?", host);
}

int sp_cmd_erase(struct sp_call *call)
{
    struct sp_error error = {0};
    const char *address = call->options[0], *mailbox = call->options[1], *uid = call->options[2],
               *removed = call->options[3], *why = call->options[4], *confirm = call->options[5];
    const char *whom = address ? address : removed;
    char who[512];
    json_t *uids = NULL, *facts;
    if (!whom || (address && removed))
        return sp_misuse(call, "whose mail? give either --account or --removed-account");
    if (removed && (mailbox || uid))
        return sp_misuse(call, "of a removed account everything is erased, and not a part");
    if (uid && !mailbox)
        return sp_misuse(call, "--uid: of which mailbox? give --mailbox");
    if (uid && !(uids = parse_uids(uid)))
        return sp_misuse(call, "--uid %s: this is no ascending set of UIDs, such as 3:9,12", uid);
    if (!confirm || strcmp(confirm, whom) != 0) {
        json_decref(uids);
        sp_error_set(&error, SP_DENIED, whom, "not confirmed; nothing was changed");
        sp_error_todo(&error, "this cannot be taken back: give --confirm %s to do it", whom);
        return sp_fail(&error);
    }
    who_am_i(who, sizeof who);
    json_t *parameters =
        json_pack("{s:s*,s:s*,s:s*,s:o*,s:s,s:s*}", "address", address, "removed", removed,
                  "mailbox", mailbox, "uids", uids, "who", who, "why", why);
    if (!parameters) {
        sp_error_set(&error, SP_INVALID, whom, "what is said must be UTF-8");
        return sp_fail(&error);
    }
    if (sp_operation_run(&call->config, "mail.erase", parameters, &facts, &error))
        return sp_fail(&error);
    if (call->json)
        sp_print_json(facts);
    else
        printf("%s: held no longer; %" JSON_INTEGER_FORMAT " messages were still there\n", whom,
               number(facts, "expunged"));
    json_decref(facts);
    return SP_EXIT_OK;
}
