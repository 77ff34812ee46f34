/* `sternpost volume list` and `volume show`. */
#include "cmd/unit_look.h"

#include <stdio.h>

#define N "%" JSON_INTEGER_FORMAT

static bool is_true(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

/* What an operator must know whatever was asked. */
static void print_warnings(const char *name, const json_t *volume)
{
    const json_t *scrub = json_object_get(volume, "scrub");
    json_int_t thin = sp_number(volume, "thin_lsn");
    const char *why = json_string_value(json_object_get(volume, "why"));
    if (why && *why)
        printf("\n%s: nothing can be written: %s\n", name, why);
    if (thin)
        printf("\n%s: what came before LSN " N " is on fewer than " N " units\n", name, thin + 1,
               sp_number(volume, "min_copies"));
    if (sp_number(volume, "open_losses"))
        printf("\n%s: a loss was accepted; what was there then is refused to clients until the "
               "missing units are merged (unit add), or account unprotect\n",
               name);
    if (is_true(volume, "shared_domain"))
        printf("\n%s: units share a failure domain (allow_shared_domain): one failure can take "
               "several copies\n",
               name);
    if (is_true(scrub, "overdue"))
        printf("\n%s: the scrub is overdue: its last is " N " days old, and scrub_max_age is " N
               " days; see `sternpost scrub`\n",
               name, sp_number(scrub, "age_s") / 86400, sp_number(scrub, "max_age_s") / 86400);
}

int sp_cmd_volume_list(struct sp_call *call)
{
    static const struct sp_column columns[] = {
        {"VOLUME", "name", SP_COLUMN_TEXT},     {"STATE", "state", SP_COLUMN_TEXT},
        {"COPIES", "copies", SP_COLUMN_NUMBER}, {"OF", "min_copies", SP_COLUMN_NUMBER},
        {"EPOCH", "epoch", SP_COLUMN_NUMBER},   {"LAST LSN", "lsn", SP_COLUMN_NUMBER},
        {"ID", "id", SP_COLUMN_TEXT},           {NULL, NULL, SP_COLUMN_TEXT},
    };
    struct sp_error error = {0};
    json_t *volume;
    if (sp_unit_look(&call->config, &volume, &error))
        return sp_fail(&error);
    json_t *volumes = json_pack("[o]", volume);
    if (call->json) {
        sp_print_json(volumes);
    } else {
        sp_print_table(volumes, columns);
        print_warnings(call->config.volume.name, volume);
    }
    json_decref(volumes);
    return SP_EXIT_OK;
}

static void print_scrub(const json_t *scrub)
{
    char when[32], done[32], total[32];
    if (is_true(scrub, "running"))
        sp_print_fact("scrub", "running, %s of %s",
                      sp_bytes_text((uint64_t)sp_number(scrub, "done_bytes"), done),
                      sp_bytes_text((uint64_t)sp_number(scrub, "total_bytes"), total));
    sp_print_fact("last scrub", "%s",
                  sp_number(scrub, "finished") ? sp_time_text(sp_number(scrub, "finished"), when)
                                               : "never");
}

static void print_volume(const json_t *volume)
{
    char text[120], bytes[32], most[32];
    printf("volume %s\n", json_string_value(json_object_get(volume, "name")));
    sp_print_fact("state", "%s", json_string_value(json_object_get(volume, "state")));
    if (json_object_get(volume, "id"))
        sp_print_fact("id", "%s", json_string_value(json_object_get(volume, "id")));
    if (!json_object_get(volume, "lsn")) {
        sp_print_fact("copies", "at least " N, sp_number(volume, "min_copies"));
        return; /* no server runs: its units say the rest */
    }
    sp_print_fact("copies", N " (at least " N ")", sp_number(volume, "copies"),
                  sp_number(volume, "min_copies"));
    sp_print_fact("epoch", N, sp_number(volume, "epoch"));
    sp_print_fact("log", "LSN " N ", " N " segments", sp_number(volume, "lsn"),
                  sp_number(volume, "segments"));
    sp_print_fact("written", N " commits in " N " batches, %s (since the server started)",
                  sp_number(volume, "commits"), sp_number(volume, "batches"),
                  sp_bytes_text((uint64_t)sp_number(volume, "bytes_written"), bytes));
    sp_print_fact("latency", "%s",
                  sp_latency_text(json_object_get(volume, "commit_latency_us"), text));
    sp_print_fact("waiting", N " commits", sp_number(volume, "queue_commits"));
    sp_print_fact("index", "%s of %s",
                  sp_bytes_text((uint64_t)sp_number(volume, "index_bytes"), bytes),
                  sp_bytes_text((uint64_t)sp_number(volume, "index_max_bytes"), most));
    sp_print_fact("faults", N " units ejected, " N " spares recruited",
                  sp_number(volume, "ejections"), sp_number(volume, "recruits"));
    sp_print_fact("bad blocks",
                  N " served by a twin, " N " misdirected, " N " mended, " N " unmendable",
                  sp_number(volume, "blocks_bad"), sp_number(volume, "blocks_misdirected"),
                  sp_number(volume, "blocks_mended"), sp_number(volume, "blocks_unmendable"));
    print_scrub(json_object_get(volume, "scrub"));
}

int sp_cmd_volume_show(struct sp_call *call)
{
    struct sp_error error = {0};
    json_t *volume;
    if (sp_unit_look(&call->config, &volume, &error))
        return sp_fail(&error);
    if (call->json) {
        sp_print_json(volume);
    } else {
        print_volume(volume);
        print_warnings(call->config.volume.name, volume);
    }
    json_decref(volume);
    return SP_EXIT_OK;
}
