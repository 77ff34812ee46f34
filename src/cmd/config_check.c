#include "cmd/config_internal.h"
#include "cmd/config_value.h"
#include "net/address.h"

#include <stdarg.h>
#include <stdio.h>

/* line 0: the error is about the whole file. `why` and `todo` are texts for a person. */
static enum sp_status refuse(const struct sp_config *config, struct sp_error *error, unsigned line,
                             const char *why, const char *todo)
{
    char what[256];
    if (line)
        snprintf(what, sizeof what, "%s:%u", config->path, line);
    else
        snprintf(what, sizeof what, "%s", config->path);
    sp_error_set(error, SP_INVALID, what, "%s", why);
    sp_error_todo(error, "%s", todo);
    return SP_INVALID;
}

static struct sp_config_unit *unit_named(const struct sp_config *config, struct sp_slice name)
{
    for (uint32_t i = 0; i < config->units_count; i++)
        if (sp_slice_eq(name, sp_slice_str(config->units[i].name)))
            return &config->units[i];
    return NULL;
}

static enum sp_status check_server(const struct sp_config *config, struct sp_error *error)
{
    if (!config->hostname)
        return refuse(config, error, 0, "[server] hostname: missing",
                      "add the name other servers know this one by: hostname = mail.example.org");
    if (!config->state)
        return refuse(
            config, error, 0, "[server] state: missing",
            "add a folder for the index and the control socket: state = /var/lib/sternpost");
    struct sp_address address;
    bool any = false;
    if (config->metrics && !config->metrics_anywhere && strncmp(config->metrics, "unix:", 5) != 0 &&
        (sp_address_parse(config->metrics, &address, &any) || any ||
         !sp_address_is_loopback(&address)))
        return refuse(config, error, config->metrics_line,
                      "[listen] metrics: not a loopback address, and it asks for no password",
                      "write 127.0.0.1:9187 or unix:PATH, or say metrics_anywhere = yes as well");
    if (!config->tls_cert != !config->tls_key)
        return refuse(config, error, 0,
                      config->tls_cert ? "[tls] key: missing" : "[tls] cert: missing",
                      "give both cert and key, as PEM files, or neither");
    for (uint32_t i = 0; i < config->listeners_count; i++) {
        enum sp_protocol protocol = config->listeners[i].protocol;
        bool implicit = protocol == SP_PROTOCOL_SMTPS || protocol == SP_PROTOCOL_IMAPS ||
                        protocol == SP_PROTOCOL_POP3S;
        if (implicit && !config->tls_cert) {
            char why[96];
            snprintf(why, sizeof why, "[listen] %s: needs a certificate",
                     sp_protocol_name(protocol));
            return refuse(config, error, 0, why, "add [tls] with cert and key, or remove the line");
        }
    }
    return SP_OK;
}

/* Each must be able to be met by somebody: one who asks does not approve. */
static enum sp_status check_guard(const struct sp_config *config, struct sp_error *error)
{
    uint32_t users = 0;
    struct sp_slice rest =
        sp_slice_trim(sp_slice_str(config->guard_approvers ? config->guard_approvers : ""));
    while (rest.len) {
        size_t end = sp_slice_find(rest, ' ');
        rest =
            end == SIZE_MAX ? (struct sp_slice){NULL, 0} : sp_slice_trim(sp_slice_from(rest, end));
        users++;
    }
    if (users > SP_CONFIG_APPROVERS_MAX)
        return refuse(config, error, 0, "[guard] approvers: more than 8", "name fewer");
    if (config->guard_approvals > users)
        return refuse(config, error, 0, "[guard] approvals: more than there are approvers",
                      "name the Unix users who may approve: approvers = alice bob");
    return SP_OK;
}

/* Whether b is a or lies within it. */
static bool path_covers(const char *a, const char *b)
{
    size_t len = strlen(a);
    while (len > 1 && a[len - 1] == '/')
        len--;
    return strncmp(a, b, len) == 0 && (b[len] == '\0' || b[len] == '/' || len == 1);
}

static enum sp_status check_units(const struct sp_config *config, struct sp_error *error)
{
    char why[256];
    for (uint32_t i = 0; i < config->units_count; i++) {
        const struct sp_config_unit *unit = &config->units[i];
        if (strcmp(unit->name, "state") == 0)
            return refuse(config, error, unit->line, "[unit state]: the state folder has this name",
                          "give it another name");
        if (!unit->path) {
            snprintf(why, sizeof why, "[unit %s] path: missing", unit->name);
            return refuse(config, error, unit->line, why,
                          "add the folder where it keeps its segments: path = /srv/mail");
        }
        if (path_covers(unit->path, config->state)) {
            snprintf(why, sizeof why, "[unit %s] path: the state folder lies in it", unit->name);
            return refuse(config, error, unit->line, why, "give each a folder of its own");
        }
        for (uint32_t j = 0; j < config->units_count; j++) {
            const struct sp_config_unit *other = &config->units[j];
            if (j == i || !other->path)
                continue;
            if (path_covers(other->path, unit->path)) {
                snprintf(why, sizeof why, "[unit %s] path: lies in that of unit %s", unit->name,
                         other->name);
                return refuse(config, error, unit->line, why,
                              "give each unit a folder, and a disk, of its own");
            }
            if (unit->has_id && other->has_id && sp_uuid_eq(&unit->id, &other->id)) {
                snprintf(why, sizeof why, "[unit %s] id: that of unit %s", unit->name, other->name);
                return refuse(config, error, unit->line, why,
                              "write what unit.id in its folder says");
            }
        }
    }
    return SP_OK;
}

static enum sp_status volume_take_units(struct sp_config *config, struct sp_slice words,
                                        unsigned line, struct sp_error *error)
{
    struct sp_config_volume *volume = &config->volume;
    char why[256], todo[256];
    while (words.len) {
        size_t end = 0;
        while (end < words.len && words.ptr[end] != ' ' && words.ptr[end] != '\t')
            end++;
        struct sp_slice word = sp_slice_sub(words, 0, end);
        words = sp_slice_trim(sp_slice_from(words, end));
        struct sp_config_unit *unit = unit_named(config, word);
        if (!unit) {
            const char *names[SP_CONFIG_UNITS_MAX + 1] = {0};
            for (uint32_t i = 0; i < config->units_count; i++)
                names[i] = config->units[i].name;
            const char *nearest = sp_config_nearest(word, names);
            snprintf(why, sizeof why, "[volume %s] units: there is no unit %.*s", volume->name,
                     (int)(word.len < 64 ? word.len : 64), (const char *)word.ptr);
            if (nearest)
                snprintf(todo, sizeof todo, "did you mean %s?", nearest);
            else
                snprintf(todo, sizeof todo,
                         "add a section [unit NAME] with its path; separate names by blanks");
            return refuse(config, error, line, why, todo);
        }
        if (unit->used) {
            snprintf(why, sizeof why, "[volume %s] units: %s is named twice", volume->name,
                     unit->name);
            return refuse(config, error, line, why,
                          "name each unit once: twice the same is not two copies");
        }
        unit->used = true;
        volume->units[volume->units_count++] = unit; /* fewer than 16: each was used once */
    }
    return SP_OK;
}

static enum sp_status check_volume(struct sp_config *config, struct sp_slice units,
                                   unsigned units_line, struct sp_error *error)
{
    struct sp_config_volume *volume = &config->volume;
    char why[256];
    if (!volume->name)
        return refuse(config, error, 0, "there is no volume",
                      "add [volume main] with units = a b c");
    if (!units_line) {
        snprintf(why, sizeof why, "[volume %s] units: missing", volume->name);
        return refuse(config, error, volume->line, why, "name its units: units = a b c");
    }
    enum sp_status status = volume_take_units(config, units, units_line, error);
    if (status)
        return status;
    uint32_t replicas = 0;
    for (uint32_t i = 0; i < volume->units_count; i++)
        replicas += volume->units[i]->role == SP_ROLE_REPLICA;
    if (replicas < 2 || replicas < volume->min_copies) {
        snprintf(why, sizeof why, "[volume %s] has %u replica%s, and needs %u", volume->name,
                 replicas, replicas == 1 ? "" : "s",
                 volume->min_copies > 2 ? volume->min_copies : 2);
        return refuse(config, error, units_line, why,
                      "add units, or make a spare a replica (leave out its role)");
    }
    for (uint32_t i = 0; i < config->units_count; i++) {
        if (config->units[i].used)
            continue;
        snprintf(why, sizeof why, "[unit %s] belongs to no volume", config->units[i].name);
        return refuse(config, error, config->units[i].line, why,
                      "name it in the volume's units, or remove it");
    }
    return SP_OK;
}

enum sp_status sp_config_check(struct sp_config *config, struct sp_slice units, unsigned units_line,
                               struct sp_error *error)
{
    enum sp_status status = check_server(config, error);
    if (!status)
        status = check_guard(config, error);
    if (!status)
        status = check_units(config, error);
    if (!status)
        status = check_volume(config, units, units_line, error);
    return status;
}
