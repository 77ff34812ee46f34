#include "cmd/operation.h"

#include "base/log.h"
#include "base/time.h"
#include "cmd/control.h"
#include "cmd/operation_internal.h"

#include "unit/dir.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum sp_status sp_operation_memory(struct sp_error *error)
{
    return sp_error_set(error, SP_NO_MEMORY, "operation", "no memory");
}

enum sp_status sp_operation_text(const json_t *parameters, const char *name, const char **ret_text,
                                 struct sp_error *error)
{
    const char *text = json_string_value(json_object_get(parameters, name));
    if (!text)
        return sp_error_set(error, SP_INVALID, "operation", "the parameter %s is missing", name);
    *ret_text = text;
    return SP_OK;
}

/* ---- volume.status ---- */

json_t *sp_status_unit(const struct sp_config *config, const struct sp_volume_unit_status *unit)
{
    static const char *const states[] = {"replica", "spare", "witness",
                                         "ejected", "stale", "absent"};
    char id[SP_UUID_TEXT], witness[4096];
    const char *path = NULL;
    sp_platform_witness_path(config, witness, sizeof witness);
    if (strcmp(unit->name, SP_PLATFORM_WITNESS) == 0)
        path = witness;
    for (uint32_t i = 0; i < config->units_count; i++)
        if (strcmp(config->units[i].name, unit->name) == 0)
            path = config->units[i].path;
    json_t *row =
        json_pack("{s:s,s:s,s:s,s:s*,s:s}", "name", unit->name, "volume", config->volume.name,
                  "state", states[unit->state], "path", path, "why", unit->why);
    if (!sp_uuid_is_nil(&unit->id)) {
        sp_uuid_text(&unit->id, id);
        json_object_set_new(row, "id", json_string(id));
    }
    if (unit->lacks_segments)
        json_object_set_new(row, "lacks_segments", json_integer(unit->lacks_segments));
    if (unit->parity.data_rows) {
        json_object_set_new(
            row, "parity", json_sprintf("%u+%u", unit->parity.data_rows, unit->parity.parity_rows));
        json_object_set_new(row, "lacks_parity", json_integer(unit->lacks_parity));
    }
    if (unit->sole_lsn) {
        json_object_set_new(row, "sole_lsn", json_integer((json_int_t)unit->sole_lsn));
        json_object_set_new(row, "why",
                            json_sprintf("%s; LSNs up to %" PRIu64 " are on no replica, and read "
                                         "from here",
                                         unit->why, unit->sole_lsn));
    }
    if (unit->state != SP_UNIT_ABSENT) {
        json_object_set_new(row, "domain", json_string(unit->domain));
        json_object_set_new(row, "free_bytes", json_integer((json_int_t)unit->free_bytes));
    }
    sp_status_unit_json(row, unit);
    return row;
}

/* ---- unit.add ---- */

struct add_context {
    struct sp_platform *platform;
    const struct sp_config_unit *unit;
    bool init;
};

/* Two in one failure domain are no two copies: as at the start of a platform. */
static enum sp_status check_domain(const struct add_context *add, const struct sp_unit *unit,
                                   struct sp_error *error)
{
    struct sp_volume_status status;
    if (add->platform->config->volume.allow_shared_domain)
        return SP_OK;
    sp_volume_status(add->platform->volume, &status);
    for (uint32_t i = 0; i < status.units_count; i++) {
        const struct sp_volume_unit_status *other = &status.units[i];
        if (other->state > SP_UNIT_WITNESS || strcmp(other->name, add->unit->name) == 0 ||
            !sp_unit_domains_shared(other->domain, unit->domain))
            continue;
        sp_error_set(error, SP_INVALID, add->unit->name,
                     "it is in one failure domain with unit %s (%s)", other->name, unit->domain);
        sp_error_todo(error, "is its disk mounted? Otherwise give it another disk");
        return SP_INVALID;
    }
    return SP_OK;
}

static enum sp_status open_added(void *context, const char *name, struct sp_unit **ret_unit,
                                 struct sp_error *error)
{
    const struct add_context *add = context;
    const struct sp_config_unit *unit = add->unit;
    const struct sp_uuid *expected = unit->has_id ? &unit->id : NULL;
    struct sp_uuid id;
    enum sp_status status = sp_unit_dir_open(unit->path, name, expected, ret_unit, error);
    if (status == SP_UNAVAILABLE && add->init) {
        status = sp_unit_dir_init(unit->path, &add->platform->volume_id, &id, error);
        if (status == SP_OK)
            status = sp_unit_dir_open(unit->path, name, expected, ret_unit, error);
    }
    if (status == SP_OK && (status = check_domain(add, *ret_unit, error)) != SP_OK)
        (*ret_unit)->ops->close(*ret_unit);
    return status;
}

static enum sp_status unit_add(struct sp_platform *platform, const json_t *parameters,
                               json_t **ret_result, struct sp_error *error)
{
    struct add_context add = {.platform = platform,
                              .init = json_is_true(json_object_get(parameters, "init"))};
    const char *name;
    struct sp_volume_status volume;
    enum sp_status status = sp_operation_text(parameters, "name", &name, error);
    for (uint32_t i = 0; !status && i < platform->config->volume.units_count; i++)
        if (strcmp(platform->config->volume.units[i]->name, name) == 0)
            add.unit = platform->config->volume.units[i];
    if (!status && !add.unit) {
        status = sp_error_set(error, SP_NOT_FOUND, name, "the configuration has no such unit");
        sp_error_todo(error, "add it to the file, and restart the server");
    }
    if (!status)
        status = sp_volume_add_unit(platform->volume, name, open_added, &add, error);
    if (status)
        return status;
    sp_volume_status(platform->volume, &volume);
    for (uint32_t i = 0; i < volume.units_count; i++)
        if (strcmp(volume.units[i].name, name) == 0)
            *ret_result = sp_status_unit(platform->config, &volume.units[i]);
    return *ret_result ? SP_OK : sp_operation_memory(error);
}

/* ---- volume.scrub, volume.status ---- */

static json_t *scrub_json(const struct sp_volume_status *status)
{
    return json_pack("{s:b,s:I,s:I,s:I,s:I,s:I}", "running", (int)status->scrub_running,
                     "done_bytes", (json_int_t)(status->scrub_done_blocks * SP_BLOCK_BYTES),
                     "total_bytes", (json_int_t)(status->scrub_total_blocks * SP_BLOCK_BYTES),
                     "mended", (json_int_t)status->scrub_mended, "unmendable",
                     (json_int_t)status->scrub_unmendable, "finished",
                     (json_int_t)(status->scrub_finished_ns / 1000000000U));
}

/* Begins it: how far it is, volume.status tells. */
static enum sp_status volume_scrub(struct sp_platform *platform, const json_t *parameters,
                                   json_t **ret_result, struct sp_error *error)
{
    const char *unit = json_string_value(json_object_get(parameters, "unit"));
    enum sp_status status = SP_OK;
    if (unit)
        status = sp_volume_scrub_unit(platform->volume, unit, error);
    else
        sp_volume_scrub_now(platform->volume);
    if (status)
        return status;
    *ret_result = json_object();
    return *ret_result ? SP_OK : sp_operation_memory(error);
}

/* Losses that were accepted, and of which not all has been merged back. */
static uint32_t open_losses(struct sp_platform *platform)
{
    struct sp_read read;
    struct sp_position position = {0};
    uint32_t count = 0;
    if (sp_read_begin(sp_volume_index(platform->volume), &read) != SP_OK)
        return 0;
    if (sp_index_position(&read, &position) == SP_OK)
        for (uint32_t i = 0; i < position.forks_count; i++)
            count += position.forks[i].branch == 0 && !position.forks[i].complete;
    sp_read_end(&read);
    return count;
}

static enum sp_status volume_status(struct sp_platform *platform, const json_t *parameters,
                                    json_t **ret_result, struct sp_error *error)
{
    struct sp_volume_status status;
    char id[SP_UUID_TEXT];
    sp_volume_status(platform->volume, &status);
    sp_uuid_text(&platform->volume_id, id);
    json_t *units = json_array();
    for (uint32_t i = 0; i < status.units_count; i++)
        json_array_append_new(units, sp_status_unit(platform->config, &status.units[i]));
    json_t *result = json_pack(
        "{s:s,s:s,s:s,s:i,s:i,s:I,s:I,s:I,s:b,s:I,s:I,s:I,s:I,s:I,s:o}", "name",
        platform->config->volume.name, "id", id, "state",
        status.deferring                                       ? "deferring"
        : status.copies < status.min_copies || status.thin_lsn ? "degraded"
                                                               : "healthy",
        "copies", (int)status.copies, "min_copies", (int)status.min_copies, "epoch",
        (json_int_t)status.epoch_counter, "lsn", (json_int_t)status.end.lsn, "thin_lsn",
        (json_int_t)status.thin_lsn, "shared_domain", (int)status.shared_domain, "commits",
        (json_int_t)status.commits, "batches", (json_int_t)status.batches, "bytes_written",
        (json_int_t)status.bytes, "blocks_bad", (json_int_t)status.blocks_bad, "ejections",
        (json_int_t)status.ejections, "units", units);
    if (!result)
        return sp_operation_memory(error);
    json_object_set_new(result, "short_of_space", json_boolean(status.short_of_space));
    json_object_set_new(result, "open_losses", json_integer(open_losses(platform)));
    json_object_set_new(result, "segments", json_integer((json_int_t)status.segments));
    json_object_set_new(result, "blocks_mended", json_integer((json_int_t)status.blocks_mended));
    json_object_set_new(result, "blocks_unmendable",
                        json_integer((json_int_t)status.blocks_unmendable));
    json_object_set_new(result, "tended_bytes", json_integer((json_int_t)status.tended_bytes));
    json_object_set_new(result, "blocks_rebuilt", json_integer((json_int_t)status.blocks_rebuilt));
    json_object_set_new(result, "parity_written", json_integer((json_int_t)status.parity_written));
    json_object_set_new(result, "parity_mended", json_integer((json_int_t)status.parity_mended));
    json_object_set_new(result, "scrub", scrub_json(&status));
    sp_status_volume_json(result, &status);
    *ret_result = result;
    return SP_OK;
}

/* ---- All of them ---- */

static const struct {
    const char *name;
    sp_operation_function *run;
} operations[] = {
    {"account.add", sp_operation_account_add},
    {"account.list", sp_operation_account_list},
    {"account.passwd", sp_operation_account_passwd},
    {"guard.approve", sp_operation_guard_approve},
    {"guard.check", sp_operation_guard_check},
    {"guard.list", sp_operation_guard_list},
    {"guard.look", sp_operation_guard_look},
    {"guard.policy.end", sp_operation_guard_policy_end},
    {"guard.request", sp_operation_guard_request},
    {"guard.tell", sp_operation_guard_tell},
    {"guard.undo", sp_operation_guard_undo},
    {"mail.undelete", sp_operation_undelete},
    {"unit.add", unit_add},
    {"unit.show", sp_operation_unit_show},
    {"volume.compact", sp_operation_compact},
    {"volume.compaction", sp_operation_compaction},
    {"volume.scrub", volume_scrub},
    {"volume.status", volume_status},
};

enum sp_status sp_operation_execute(struct sp_platform *platform, const char *name,
                                    const json_t *parameters, json_t **ret_result,
                                    struct sp_error *error)
{
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++)
        if (strcmp(operations[i].name, name) == 0)
            return operations[i].run(platform, parameters, ret_result, error);
    sp_error_set(error, SP_UNSUPPORTED, "server", "it does not know the operation %s", name);
    sp_error_todo(error, "server and command are of different versions: restart the server");
    return SP_UNSUPPORTED;
}

/* ---- Here or there ---- */

enum sp_status sp_access_open(const struct sp_config *config, struct sp_access *ret_access,
                              struct sp_error *error)
{
    const uint64_t deadline = sp_now_ms() + 10000;
    memset(ret_access, 0, sizeof *ret_access);
    for (;;) {
        enum sp_status status = sp_control_connect(config, &ret_access->control_fd, error);
        if (status != SP_NOT_FOUND)
            return status;
        ret_access->control_fd = -1;
        int lock_fd;
        status = sp_platform_lock(config, &lock_fd, error);
        if (status == SP_OK) {
            /* A command prints what it was asked for, and errors; what the store does is for the
             * server's log. */
            sp_log_set_level(SP_LOG_ERROR);
            status = sp_platform_open(config, lock_fd, NULL, &ret_access->platform, error);
            ret_access->open = status == SP_OK;
            return status;
        }
        if (status != SP_CONFLICT || sp_now_ms() >= deadline)
            return status;
        usleep(50000); /* a server that is starting or stopping, or another command */
    }
}

void sp_access_close(struct sp_access *access)
{
    if (access->control_fd >= 0)
        close(access->control_fd);
    if (access->open)
        sp_platform_close(&access->platform);
    access->control_fd = -1;
    access->open = false;
}

enum sp_status sp_operation_run(const struct sp_config *config, const char *name,
                                json_t *parameters, json_t **ret_result, struct sp_error *error)
{
    struct sp_access access;
    enum sp_status status = sp_access_open(config, &access, error);
    if (!status) {
        status = access.open
                     ? sp_operation_execute(&access.platform, name, parameters, ret_result, error)
                     : sp_control_call(access.control_fd, name, parameters, ret_result, error);
        sp_access_close(&access);
    }
    json_decref(parameters);
    return status;
}

static void wiping_free(void *memory)
{
    if (memory)
        explicit_bzero(memory, malloc_usable_size(memory));
    free(memory);
}

void sp_operation_wipe_json(void)
{
    json_set_alloc_funcs(malloc, wiping_free);
}
