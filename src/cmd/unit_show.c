/* `sternpost unit show`: all that is known of one unit. */
#include "cmd/control.h"
#include "cmd/unit_look.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define N "%" JSON_INTEGER_FORMAT

json_int_t sp_number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

const char *sp_time_text(json_int_t seconds, char ret_text[32])
{
    time_t when = (time_t)seconds;
    struct tm parts;
    if (!seconds || !gmtime_r(&when, &parts) ||
        strftime(ret_text, 32, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
        snprintf(ret_text, 32, "-");
    return ret_text;
}

void sp_print_fact(const char *name, const char *format, ...)
{
    va_list args;
    printf("  %-12s ", name);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

const char *sp_latency_text(const json_t *latency, char ret_text[120])
{
    if (sp_number(latency, "count") == 0)
        snprintf(ret_text, 120, "nothing in the last minute");
    else
        snprintf(ret_text, 120, "p50 %.1f ms, p99 %.1f ms, max %.1f ms (" N " in the last minute)",
                 (double)sp_number(latency, "p50") / 1000, (double)sp_number(latency, "p99") / 1000,
                 (double)sp_number(latency, "max") / 1000, sp_number(latency, "count"));
    return ret_text;
}

static void print_text(const json_t *unit, const char *key, const char *name)
{
    const char *text = json_string_value(json_object_get(unit, key));
    if (text && *text)
        sp_print_fact(name, "%s", text);
}

static void print_lacks(const json_t *unit)
{
    char bytes[32], rate[32];
    json_int_t left = sp_number(unit, "resilver_eta_s");
    if (!sp_number(unit, "lacks_segments"))
        return;
    sp_bytes_text((uint64_t)sp_number(unit, "lacks_bytes"), bytes);
    sp_bytes_text((uint64_t)sp_number(unit, "resilver_rate"), rate);
    if (sp_number(unit, "resilver_rate"))
        sp_print_fact("lacks", N " segments, %s; %s/s, " N ":%02d:%02d left",
                      sp_number(unit, "lacks_segments"), bytes, rate, left / 3600,
                      (int)(left / 60 % 60), (int)(left % 60));
    else
        sp_print_fact("lacks", N " segments, %s", sp_number(unit, "lacks_segments"), bytes);
}

static void print_activity(const json_t *unit)
{
    char text[120], written[32], resilvered[32], when[32];
    sp_print_fact("written", N " writes, each synced; %s (since the server started)",
                  sp_number(unit, "writes"),
                  sp_bytes_text((uint64_t)sp_number(unit, "bytes_written"), written));
    sp_print_fact("latency", "%s",
                  sp_latency_text(json_object_get(unit, "write_latency_us"), text));
    sp_print_fact("bad blocks",
                  N " found (" N " misdirected), " N " served by a twin, " N " mended, " N
                    " unmendable",
                  sp_number(unit, "blocks_bad"), sp_number(unit, "blocks_misdirected"),
                  sp_number(unit, "blocks_served"), sp_number(unit, "blocks_mended"),
                  sp_number(unit, "blocks_unmendable"));
    sp_print_fact("resilvered", "%s",
                  sp_bytes_text((uint64_t)sp_number(unit, "resilvered_bytes"), resilvered));
    sp_print_fact("scrubbed", "%s",
                  sp_number(unit, "scrubbed") ? sp_time_text(sp_number(unit, "scrubbed"), when)
                                              : "never");
}

static void print_unit(const json_t *unit)
{
    char when[32], bytes[32];
    const json_t *vote = json_object_get(unit, "vote");
    printf("unit %s\n", json_string_value(json_object_get(unit, "name")));
    print_text(unit, "volume", "volume");
    if (json_object_get(unit, "since"))
        sp_print_fact("state", "%s, since %s", json_string_value(json_object_get(unit, "state")),
                      sp_time_text(sp_number(unit, "since"), when));
    else
        print_text(unit, "state", "state");
    print_text(unit, "why", "why");
    print_text(unit, "role", "role");
    print_text(unit, "id", "id");
    print_text(unit, "path", "path");
    print_text(unit, "domain", "domain");
    if (json_object_get(unit, "free_bytes"))
        sp_print_fact("free", "%s", sp_bytes_text((uint64_t)sp_number(unit, "free_bytes"), bytes));
    if (sp_number(unit, "lsn_last"))
        sp_print_fact("holds", "LSN " N " to " N, sp_number(unit, "lsn_first"),
                      sp_number(unit, "lsn_last"));
    print_lacks(unit);
    if (vote)
        sp_print_fact("vote", "epoch " N " (promised " N ")", sp_number(vote, "epoch"),
                      sp_number(vote, "promised"));
    if (json_object_get(unit, "writes"))
        print_activity(unit);
}

/* In the server, or as the unit lies there. */
static enum sp_status look_at(const struct sp_config *config, const char *name, json_t **ret_unit,
                              struct sp_error *error)
{
    int fd;
    enum sp_status status = sp_control_connect(config, &fd, error);
    if (status == SP_OK) {
        json_t *parameters = json_pack("{s:s}", "name", name);
        status = sp_control_call(fd, "unit.show", parameters, ret_unit, error);
        json_decref(parameters);
        close(fd);
        return status;
    }
    if (status != SP_NOT_FOUND)
        return status;
    for (uint32_t i = 0; i < config->volume.units_count; i++) {
        if (strcmp(config->volume.units[i]->name, name) != 0)
            continue;
        *ret_unit = sp_unit_at_rest(config, config->volume.units[i]);
        return *ret_unit ? SP_OK : sp_error_set(error, SP_NO_MEMORY, name, "no memory");
    }
    sp_error_set(error, SP_NOT_FOUND, name, "the volume has no such unit");
    sp_error_todo(error, "`sternpost unit list` shows those it has");
    return SP_NOT_FOUND;
}

int sp_cmd_unit_show(struct sp_call *call)
{
    struct sp_error error = {0};
    json_t *unit = NULL;
    if (look_at(&call->config, call->arguments[0], &unit, &error))
        return sp_fail(&error);
    if (call->json)
        sp_print_json(unit);
    else
        print_unit(unit);
    json_decref(unit);
    return SP_EXIT_OK;
}
