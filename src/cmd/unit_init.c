/* `sternpost unit init NAME`. It works on the folder alone: there may be no volume yet, or none
 * that can be opened. Where a server runs, what was done is written to the log. */
#include "cmd/cmd.h"
#include "cmd/control.h"
#include "cmd/operation.h"

#include "unit/dir.h"

#include <stdio.h>
#include <unistd.h>

static const struct sp_config_unit *unit_named(const struct sp_config *config, const char *name)
{
    for (uint32_t i = 0; i < config->volume.units_count; i++)
        if (strcmp(config->volume.units[i]->name, name) == 0)
            return config->volume.units[i];
    return NULL;
}

/* As configured, or as the units say that are there. */
static enum sp_status find_volume(const struct sp_config *config, struct sp_uuid *ret_id,
                                  struct sp_error *error)
{
    struct sp_dir_found found;
    if (config->volume.has_id) {
        *ret_id = config->volume.id;
        return SP_OK;
    }
    for (uint32_t i = 0; i < config->volume.units_count; i++)
        if (sp_unit_dir_look(config->volume.units[i]->path, &found, error) == SP_OK &&
            !sp_uuid_is_nil(&found.volume)) {
            *ret_id = found.volume;
            return SP_OK;
        }
    sp_error_set(error, SP_NOT_FOUND, config->volume.name, "nobody says which volume it is");
    sp_error_todo(error, "write its id into the configuration, or mount one of its units");
    return SP_NOT_FOUND;
}

static enum sp_status refuse_unit(const struct sp_config_unit *unit,
                                  const struct sp_dir_found *found, struct sp_error *error)
{
    char id[SP_UUID_TEXT], volume[SP_UUID_TEXT];
    sp_uuid_text(&found->unit_id, id);
    sp_uuid_text(&found->volume, volume);
    if (sp_uuid_is_nil(&found->unit_id))
        sp_error_set(error, SP_DENIED, unit->path,
                     "there is a unit.id in it, which cannot be read; nothing was changed");
    else
        sp_error_set(error, SP_DENIED, unit->path,
                     "it is unit %s of volume %s, whose mail may be in it; nothing was changed", id,
                     volume);
    sp_error_todo(error,
                  "to take it (back) in: `sternpost unit add %s`; to be rid of what it keeps: "
                  "`sternpost unit retire`, then `unit wipe`",
                  unit->name);
    return SP_DENIED;
}

/* What is in the folder, for the eyes of whoever confirms. */
static enum sp_status confirm_over(const struct sp_config_unit *unit,
                                   const struct sp_dir_found *found, const char *confirm,
                                   struct sp_error *error)
{
    fprintf(stderr, "%s is not empty: it holds %llu files and folders", unit->path,
            (unsigned long long)found->entries);
    for (uint64_t i = 0; i < found->entries && i < SP_DIR_EXAMPLES; i++)
        fprintf(stderr, "%s%s", i ? ", " : ", such as ", found->examples[i]);
    fprintf(stderr, "%s.\nThey would stay as they are, and the unit be put beside them.\n",
            found->mount_point ? "; a disk is mounted there" : "; no disk is mounted there");
    return sp_guard_confirm(unit->path, unit->path, confirm, error);
}

static void tell(const struct sp_config *config, const char *name, const char *id,
                 const struct sp_dir_found *found)
{
    struct sp_error error = {0};
    char text[200];
    json_t *result = NULL;
    int fd;
    if (sp_control_connect(config, &fd, &error))
        return; /* no server, no log */
    snprintf(text, sizeof text, "the folder held %llu other files",
             (unsigned long long)found->entries);
    json_t *parameters = json_pack("{s:s,s:s,s:s}", "subject", name, "id", id, "text", text);
    if (sp_control_call(fd, "guard.tell", parameters, &result, &error))
        sp_error_print(&error); /* the unit is made all the same */
    json_decref(result);
    json_decref(parameters);
    close(fd);
}

int sp_cmd_unit_init(struct sp_call *call)
{
    struct sp_error error = {0};
    struct sp_dir_found found;
    struct sp_uuid volume, id;
    char text[SP_UUID_TEXT];
    const struct sp_config_unit *unit = unit_named(&call->config, call->arguments[0]);
    if (!unit) {
        sp_error_set(&error, SP_NOT_FOUND, call->arguments[0],
                     "the configuration has no such unit");
        sp_error_todo(&error, "add a section [unit %s] to the file", call->arguments[0]);
        return sp_fail(&error);
    }
    enum sp_status status = sp_unit_dir_look(unit->path, &found, &error);
    if (!status && found.exists && !found.directory)
        status = sp_error_set(&error, SP_EXISTS, unit->path, "it is no folder");
    if (!status && found.unit)
        status = refuse_unit(unit, &found, &error);
    if (!status)
        status = find_volume(&call->config, &volume, &error);
    if (!status && found.entries)
        status = confirm_over(unit, &found, call->options[0], &error);
    if (!status)
        status = found.entries ? sp_unit_dir_init_over(unit->path, &volume, &id, &error)
                               : sp_unit_dir_init(unit->path, &volume, &id, &error);
    if (status)
        return sp_fail(&error);
    sp_uuid_text(&id, text);
    tell(&call->config, unit->name, text, &found);
    if (call->json) {
        json_t *facts =
            json_pack("{s:s,s:s,s:s}", "name", unit->name, "id", text, "path", unit->path);
        sp_print_json(facts);
        json_decref(facts);
    } else {
        printf("%s: unit %s; `sternpost unit add %s` takes it in\n", unit->path, text, unit->name);
    }
    return SP_EXIT_OK;
}
