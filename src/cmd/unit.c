/* `sternpost unit list`, `unit add` and `volume list`. With a server running they tell what it
 * sees. Without one they look at the units alone: opening the volume would begin a new epoch, and
 * might be impossible just when one wants to look. */
#include "cmd/cmd.h"
#include "cmd/control.h"
#include "cmd/operation.h"
#include "cmd/unit_look.h"

#include "unit/dir.h"

#include "format/vote.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const role_names[] = {"replica", "spare", "witness"};

/* What the unit's vote says: which epoch it knows of, and what it had of the log when that began.
 */
static void add_vote(json_t *row, struct sp_unit *unit)
{
    uint8_t *bytes = NULL;
    size_t len = 0;
    struct sp_vote vote;
    if (unit->ops->vote_read(unit, &bytes, &len, NULL) != SP_OK)
        return;
    enum sp_status status = sp_vote_parse(sp_slice(bytes, len), &vote);
    free(bytes);
    if (status != SP_OK) {
        json_object_set_new(row, "why", json_string("its vote is damaged"));
        return;
    }
    json_object_set_new(row, "vote",
                        json_pack("{s:I,s:I}", "promised", (json_int_t)vote.promised_counter,
                                  "epoch",
                                  (json_int_t)(vote.accepted ? vote.head.epoch_counter : 0)));
    for (uint32_t i = 0; vote.accepted && i < vote.head.members_count; i++) {
        const struct sp_member *member = &vote.head.members[i];
        if (!sp_uuid_eq(&member->unit, &unit->id) || !member->ranges_count)
            continue;
        json_object_set_new(row, "lsn_first", json_integer((json_int_t)member->ranges[0].first));
        json_object_set_new(row, "lsn_last", json_integer((json_int_t)member->ranges[0].last));
    }
}

/* What can be said of a unit without its volume. */
json_t *sp_unit_at_rest(const struct sp_config *config, const struct sp_config_unit *configured)
{
    struct sp_unit *unit = NULL;
    struct sp_error error = {0};
    char id[SP_UUID_TEXT], volume[SP_UUID_TEXT];
    json_t *row =
        json_pack("{s:s,s:s,s:s,s:s}", "name", configured->name, "volume", config->volume.name,
                  "role", role_names[configured->role], "path", configured->path);
    if (row && configured->parity.data_rows)
        json_object_set_new(
            row, "parity",
            json_sprintf("%u+%u", configured->parity.data_rows, configured->parity.parity_rows));
    enum sp_status status =
        sp_unit_dir_open(configured->path, configured->name,
                         configured->has_id ? &configured->id : NULL, &unit, &error);
    if (status || !row) {
        json_object_set_new(
            row, "state",
            json_string(status == SP_UNAVAILABLE ? "absent" : sp_status_name(status)));
        json_object_set_new(row, "why", json_string(error.why));
        return row;
    }
    uint64_t free_bytes;
    sp_uuid_text(&unit->id, id);
    sp_uuid_text(&unit->volume, volume);
    json_object_set_new(row, "state", json_string("present"));
    json_object_set_new(row, "id", json_string(id));
    json_object_set_new(row, "volume_id", json_string(volume));
    json_object_set_new(row, "domain", json_string(unit->domain));
    if (unit->ops->space(unit, &free_bytes, &error) == SP_OK)
        json_object_set_new(row, "free_bytes", json_integer((json_int_t)free_bytes));
    add_vote(row, unit);
    unit->ops->close(unit);
    return row;
}

/* At rest: by what the units say. */
static bool any_shared(const json_t *units)
{
    for (size_t i = 0; i < json_array_size(units); i++)
        for (size_t k = 0; k < i; k++) {
            const char *a = json_string_value(json_object_get(json_array_get(units, i), "domain"));
            const char *b = json_string_value(json_object_get(json_array_get(units, k), "domain"));
            if (a && b && sp_unit_domains_shared(a, b))
                return true;
        }
    return false;
}

static json_t *volume_at_rest(const struct sp_config *config)
{
    char id[SP_UUID_TEXT];
    json_t *units = json_array();
    struct sp_uuid volume_id = config->volume.id;
    bool known = config->volume.has_id;
    for (uint32_t i = 0; i < config->volume.units_count; i++) {
        json_t *row = sp_unit_at_rest(config, config->volume.units[i]);
        const char *said = json_string_value(json_object_get(row, "volume_id"));
        if (!known && said)
            known = sp_uuid_parse(sp_slice_str(said), &volume_id) == SP_OK;
        json_array_append_new(units, row);
    }
    struct sp_config_unit witness = {.name = SP_PLATFORM_WITNESS, .role = SP_ROLE_WITNESS};
    struct sp_dir_found found;
    char path[4096];
    sp_platform_witness_path(config, path, sizeof path);
    witness.path = path;
    if (sp_unit_dir_look(path, &found, NULL) == SP_OK && found.unit)
        json_array_append_new(units, sp_unit_at_rest(config, &witness));
    json_t *volume = json_pack("{s:s,s:s,s:i,s:o}", "name", config->volume.name, "state", "stopped",
                               "min_copies", (int)config->volume.min_copies, "units", units);
    json_object_set_new(volume, "shared_domain", json_boolean(any_shared(units)));
    if (known) {
        sp_uuid_text(&volume_id, id);
        json_object_set_new(volume, "id", json_string(id));
    }
    return volume;
}

/* The volume with its units, as the server sees it or at rest. */
enum sp_status sp_unit_look(const struct sp_config *config, json_t **ret_volume,
                            struct sp_error *error)
{
    int fd;
    enum sp_status status = sp_control_connect(config, &fd, error);
    if (status == SP_NOT_FOUND) {
        *ret_volume = volume_at_rest(config);
        return *ret_volume ? SP_OK : sp_error_set(error, SP_NO_MEMORY, "units", "no memory");
    }
    if (status)
        return status;
    status = sp_control_call(fd, "volume.status", NULL, ret_volume, error);
    close(fd);
    return status;
}

/* Two copies in one failure domain are one: whoever looks is told. */
static void say_shared(const struct sp_config *config, const json_t *volume)
{
    if (json_is_true(json_object_get(volume, "shared_domain")))
        printf("\n%s: units share a failure domain (allow_shared_domain): one failure can take "
               "several copies\n",
               config->volume.name);
}

int sp_cmd_unit_list(struct sp_call *call)
{
    static const struct sp_column columns[] = {
        {"UNIT", "name", SP_COLUMN_TEXT},
        {"VOLUME", "volume", SP_COLUMN_TEXT},
        {"STATE", "state", SP_COLUMN_TEXT},
        {"LACKS", "lacks_segments", SP_COLUMN_NUMBER},
        {"FREE", "free_bytes", SP_COLUMN_BYTES},
        {"DOMAIN", "domain", SP_COLUMN_TEXT},
        {"PATH", "path", SP_COLUMN_TEXT},
        {"REMARK", "why", SP_COLUMN_TEXT},
        {NULL, NULL, SP_COLUMN_TEXT},
    };
    struct sp_error error = {0};
    json_t *volume;
    if (call->options[0])
        return sp_unit_watch(call);
    if (sp_unit_look(&call->config, &volume, &error))
        return sp_fail(&error);
    const json_t *units = json_object_get(volume, "units");
    if (call->json)
        sp_print_json(units);
    else
        sp_print_table(units, columns);
    if (!call->json)
        say_shared(&call->config, volume);
    json_decref(volume);
    return SP_EXIT_OK;
}

int sp_cmd_unit_add(struct sp_call *call)
{
    struct sp_error error = {0};
    json_t *unit = NULL;
    json_t *parameters =
        json_pack("{s:s,s:b}", "name", call->arguments[0], "init", call->options[0] != NULL);
    if (sp_operation_run(&call->config, "unit.add", parameters, &unit, &error))
        return sp_fail(&error);
    json_int_t lacks = json_integer_value(json_object_get(unit, "lacks_segments"));
    const char *why = json_string_value(json_object_get(unit, "why"));
    if (call->json)
        sp_print_json(unit);
    else if (lacks)
        printf("%s: a replica again; %" JSON_INTEGER_FORMAT " segments are brought to it\n",
               call->arguments[0], lacks);
    else
        printf("%s: %s%s%s\n", call->arguments[0],
               json_string_value(json_object_get(unit, "state")), why && *why ? ": " : "",
               why ? why : "");
    json_decref(unit);
    return SP_EXIT_OK;
}
