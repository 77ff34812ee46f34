/* `sternpost compact`, `undelete`, `erase`: in the server, or, when none runs, on the platform
 * opened here. */
#include "base/buf.h"
#include "base/time.h"
#include "cmd/cmd.h"
#include "cmd/operation.h"
#include "cmd/progress.h"
#include "guard/guard.h"

#include <errno.h>
#include <inttypes.h>
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

/* Adds `;NAME=` and the text; what might be taken for something else is written %XX. */
static void add_field(struct sp_buf *subject, const char *name, const char *text)
{
    static const char plain[] = ".@_+-:/";
    sp_buf_add_str(subject, name);
    for (; *text; text++) {
        char c = *text;
        bool as_is = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr(plain, c);
        sp_buf_addf(subject, as_is ? "%c" : "%%%02X", (unsigned char)c);
    }
}

int sp_cmd_erase(struct sp_call *call)
{
    struct sp_error error = {0};
    const char *address = call->options[0], *mailbox = call->options[1], *uid = call->options[2],
               *removed = call->options[3], *why = call->options[4], *confirm = call->options[5];
    struct sp_buf subject;
    if ((!address && !removed) || (address && removed))
        return sp_misuse(call, "whose mail? give either --account or --removed-account");
    if (removed && (mailbox || uid))
        return sp_misuse(call, "of a removed account everything is erased, and not a part");
    if (uid && !mailbox)
        return sp_misuse(call, "--uid: of which mailbox? give --mailbox");
    if (uid && (!*uid || strspn(uid, "0123456789:,") != strlen(uid)))
        return sp_misuse(call, "--uid %s: this is no ascending set of UIDs, such as 3:9,12", uid);
    sp_buf_init(&subject, SP_GUARD_SUBJECT_BYTES);
    add_field(&subject, removed ? "removed:" : "", removed ? removed : address);
    if (mailbox)
        add_field(&subject, ";MAILBOX=", mailbox);
    if (uid)
        sp_buf_addf(&subject, ";UID=%s", uid);
    if (why)
        add_field(&subject, ";WHY=", why);
    sp_buf_add(&subject, sp_slice("", 1));
    if (sp_buf_failed(&subject)) {
        sp_buf_release(&subject);
        sp_error_set(&error, SP_LIMIT, "erase", "this is too much for one request");
        sp_error_todo(&error, "%s", "give fewer UIDs at a time, or a shorter reason");
        return sp_fail(&error);
    }
    int code = sp_guard_ask(call, "erase", (const char *)sp_buf_slice(&subject).ptr, confirm);
    sp_buf_release(&subject);
    return code;
}
