#include "cmd/platform.h"

#include "base/log.h"
#include "unit/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- The lock ---- */

static enum sp_status state_error(const struct sp_config *config, struct sp_error *error)
{
    int code = errno;
    enum sp_status status = code == ENOSPC ? SP_NO_SPACE : SP_IO;
    sp_error_set(error, status, config->state, "%s", strerror(code));
    sp_error_todo(error, "%s",
                  code == ENOENT ? "make the folder above it, or change [server] state"
                  : code == ENOSPC
                      ? "make room on its disk"
                      : "make the folder writable for this user, or change [server] state");
    return status;
}

/* Who has it, for the message. */
static long lock_holder(int fd)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    return n > 0 ? strtol(text, NULL, 10) : 0;
}

enum sp_status sp_platform_lock(const struct sp_config *config, int *ret_fd, struct sp_error *error)
{
    char path[4096], pid[32];
    if (mkdir(config->state, 0700) && errno != EEXIST)
        return state_error(config, error);
    if (snprintf(path, sizeof path, "%s/lock", config->state) >= (int)sizeof path)
        return sp_error_set(error, SP_LIMIT, config->state, "the path is too long");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return state_error(config, error);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        bool held = errno == EWOULDBLOCK;
        enum sp_status status = SP_CONFLICT;
        if (held) {
            sp_error_set(error, status, config->state, "in use by process %ld", lock_holder(fd));
            sp_error_todo(error, "wait until it has ended, or stop it");
        } else {
            status = state_error(config, error);
        }
        close(fd);
        return status;
    }
    /* The pid is for people; a write that fails takes nothing from the lock. */
    int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) == 0 && pwrite(fd, pid, (size_t)len, 0) != len)
        sp_log(SP_LOG_WARN, "lock.pid", "why=%s", SP_LOG_QUOTED(strerror(errno)));
    *ret_fd = fd;
    return SP_OK;
}

/* ---- Units ---- */

static bool same_domain(const struct sp_volume_unit *a, const struct sp_volume_unit *b)
{
    return a->unit && b->unit && sp_unit_domains_shared(a->unit->domain, b->unit->domain);
}

static enum sp_status check_domains(const struct sp_config *config,
                                    const struct sp_volume_config *volume, struct sp_error *error)
{
    for (uint32_t i = 0; i < volume->units_count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            const struct sp_volume_unit *a = &volume->units[j], *b = &volume->units[i];
            char what[128];
            if (!same_domain(a, b))
                continue;
            snprintf(what, sizeof what, "volume %s", volume->name);
            if (config->volume.allow_shared_domain) {
                sp_log(SP_LOG_WARN, "volume.shared_domain", "volume=%s unit=%s other=%s domain=%s",
                       volume->name, a->name, b->name, SP_LOG_QUOTED(b->unit->domain));
                continue;
            }
            sp_error_set(error, SP_INVALID, what,
                         "units %s and %s are in one failure domain (%s), so that one "
                         "failure takes both",
                         a->name, b->name, b->unit->domain);
            sp_error_todo(error,
                          "move one to another disk; for a trial write allow_shared_domain = yes "
                          "in [volume %s]",
                          volume->name);
            return SP_INVALID;
        }
    }
    return SP_OK;
}

static void close_units(struct sp_volume_config *volume)
{
    for (uint32_t i = 0; i < volume->units_count; i++)
        if (volume->units[i].unit)
            volume->units[i].unit->ops->close(volume->units[i].unit);
}

/* SP_OK also for a unit that is absent. */
static enum sp_status open_unit(const char *volume, const struct sp_config_unit *unit,
                                struct sp_volume_unit *ret, struct sp_error *error)
{
    snprintf(ret->name, sizeof ret->name, "%s", unit->name);
    ret->spare = unit->role == SP_ROLE_SPARE;
    ret->witness = unit->role == SP_ROLE_WITNESS;
    ret->parity = unit->parity;
    enum sp_status status = sp_unit_dir_open(
        unit->path, unit->name, unit->has_id ? &unit->id : NULL, &ret->unit, &ret->why);
    if (status == SP_OK)
        return SP_OK;
    ret->unit = NULL;
    if (status == SP_INVALID || status == SP_CONFLICT || status == SP_NO_MEMORY) {
        *error = ret->why;
        return status;
    }
    sp_log(SP_LOG_WARN, "unit.absent", "volume=%s unit=%s path=%s why=%s", volume, unit->name,
           SP_LOG_QUOTED(unit->path), SP_LOG_QUOTED(ret->why.why));
    return SP_OK;
}

/* All units must say the same volume, and the one the configuration names. */
static enum sp_status agree_on_volume(const struct sp_config *config,
                                      const struct sp_volume_config *volume, struct sp_uuid *ret_id,
                                      struct sp_error *error)
{
    struct sp_uuid id = config->volume.id;
    const char *said_by = "the configuration";
    bool known = config->volume.has_id, present = false;
    char what[128], here[SP_UUID_TEXT], there[SP_UUID_TEXT], first[80];
    for (uint32_t i = 0; i < volume->units_count; i++) {
        const struct sp_unit *unit = volume->units[i].unit;
        if (!unit)
            continue;
        present = true;
        if (!known) {
            id = unit->volume;
            snprintf(first, sizeof first, "unit %s", volume->units[i].name);
            said_by = first;
            known = true;
        } else if (!sp_uuid_eq(&id, &unit->volume)) {
            sp_uuid_text(&unit->volume, here);
            sp_uuid_text(&id, there);
            snprintf(what, sizeof what, "unit %s", volume->units[i].name);
            sp_error_set(error, SP_INVALID, what, "belongs to volume %s, but %s says %s", here,
                         said_by, there);
            sp_error_todo(error, "correct the unit's path or the volume's id; nothing was changed");
            return SP_INVALID;
        }
    }
    snprintf(what, sizeof what, "volume %s", volume->name);
    if (!present) {
        sp_error_set(error, SP_NOT_FOUND, what, "none of its units is there (unit %s: %s)",
                     volume->units[0].name, volume->units[0].why.why);
        sp_error_todo(error, "mount their disks and check their paths");
        return SP_NOT_FOUND;
    }
    *ret_id = id;
    return SP_OK;
}

/* ---- The state folder as a voter ---- */

void sp_platform_witness_path(const struct sp_config *config, char *ret_path, size_t size)
{
    snprintf(ret_path, size, "%s/witness", config->state);
}

/* With fewer than three units the state folder votes, which costs nothing and breaks the tie. Where
 * it has voted it goes on: a voter that is missing is worse than one too many. */
static enum sp_status open_witness(const struct sp_config *config, struct sp_volume_config *volume,
                                   struct sp_error *error)
{
    struct sp_volume_unit *witness = &volume->units[volume->units_count];
    struct sp_dir_found found;
    struct sp_uuid id;
    char path[4096];
    sp_platform_witness_path(config, path, sizeof path);
    enum sp_status status = sp_unit_dir_look(path, &found, error);
    if (status || (volume->units_count >= 3 && !found.unit) ||
        volume->units_count == SP_VOLUME_UNITS_MAX)
        return status;
    if (!found.unit && (status = sp_unit_dir_init(path, &volume->id, &id, error)) != SP_OK)
        return status;
    *witness = (struct sp_volume_unit){.witness = true, .makeshift = true};
    snprintf(witness->name, sizeof witness->name, "%s", SP_PLATFORM_WITNESS);
    status = sp_unit_dir_open(path, witness->name, NULL, &witness->unit, error);
    if (status)
        return status;
    if (!sp_uuid_eq(&witness->unit->volume, &volume->id)) {
        witness->unit->ops->close(witness->unit);
        sp_error_set(error, SP_INVALID, path, "it is of another volume");
        sp_error_todo(error, "give this volume a state folder of its own");
        return SP_INVALID;
    }
    volume->units_count++;
    return SP_OK;
}

/* It must not fail together with a unit, where it is needed. */
static enum sp_status check_witness(const struct sp_config *config,
                                    const struct sp_volume_config *volume, struct sp_error *error)
{
    const struct sp_volume_unit *witness = &volume->units[volume->units_count - 1];
    char what[128];
    if (!witness->makeshift)
        return SP_OK;
    snprintf(what, sizeof what, "volume %s", volume->name);
    for (uint32_t i = 0; i + 1 < volume->units_count; i++) {
        const struct sp_volume_unit *unit = &volume->units[i];
        if (!same_domain(unit, witness))
            continue;
        sp_log(SP_LOG_WARN, "volume.shared_domain", "volume=%s units=\"%s %s\" domain=\"%s\"",
               volume->name, unit->name, witness->name, witness->unit->domain);
        if (config->volume.allow_shared_domain || volume->units_count > 3)
            continue;
        sp_error_set(error, SP_INVALID, what,
                     "it has 2 units that vote, and needs 3; the state folder, which could be the "
                     "third, is in one failure domain with unit %s (%.200s)",
                     unit->name, witness->unit->domain);
        sp_error_todo(error, "add a unit with role = spare or witness, or put [server] state on "
                             "another disk");
        return SP_INVALID;
    }
    return SP_OK;
}

static enum sp_status open_units(const struct sp_config *config,
                                 struct sp_volume_config *ret_volume, struct sp_error *error)
{
    enum sp_status status = SP_OK;
    snprintf(ret_volume->name, sizeof ret_volume->name, "%s", config->volume.name);
    ret_volume->units_count = 0;
    for (uint32_t i = 0; i < config->volume.units_count && !status; i++) {
        status =
            open_unit(config->volume.name, config->volume.units[i], &ret_volume->units[i], error);
        if (!status)
            ret_volume->units_count++;
    }
    if (!status)
        status = agree_on_volume(config, ret_volume, &ret_volume->id, error);
    if (!status)
        status = check_domains(config, ret_volume, error);
    if (!status)
        status = open_witness(config, ret_volume, error);
    if (!status)
        status = check_witness(config, ret_volume, error);
    if (status)
        close_units(ret_volume);
    return status;
}

enum sp_status sp_platform_volume_id(const struct sp_config *config, struct sp_uuid *ret_id,
                                     struct sp_error *error)
{
    struct sp_volume_config volume = {0};
    if (config->volume.has_id) {
        *ret_id = config->volume.id;
        return SP_OK;
    }
    enum sp_status status = open_units(config, &volume, error);
    if (!status) {
        *ret_id = volume.id;
        close_units(&volume);
    }
    return status;
}

/* ---- The guard ---- */

static enum sp_status wipe_unit(void *context, const char *name, const struct sp_uuid *unit,
                                uint64_t *ret_segments, struct sp_error *error)
{
    const struct sp_config *config = context;
    for (uint32_t i = 0; i < config->units_count; i++) {
        struct sp_dir_found found;
        const char *path = config->units[i].path;
        bool meant = strcmp(config->units[i].name, name) == 0 ||
                     (sp_unit_dir_look(path, &found, error) == SP_OK &&
                      sp_uuid_eq(&found.unit_id, unit)); /* named by its UUID */
        if (meant)
            return sp_unit_dir_wipe(path, unit, ret_segments, error);
    }
    char path[4096];
    sp_platform_witness_path(config, path, sizeof path);
    if (strcmp(name, SP_PLATFORM_WITNESS) == 0)
        return sp_unit_dir_wipe(path, unit, ret_segments, error);
    sp_error_set(error, SP_INVALID, name, "nobody knows where it is");
    sp_error_todo(error, "put it into the configuration, with its path, and restart the server");
    return SP_INVALID;
}

static enum sp_status user_id(const char *name, uint32_t *ret_uid, struct sp_error *error)
{
    struct passwd entry, *found = NULL;
    char scratch[4096];
    uint64_t number;
    if (sp_slice_u64(sp_slice_str(name), UINT32_MAX - 1, &number) == SP_OK) {
        *ret_uid = (uint32_t)number;
        return SP_OK;
    }
    if (getpwnam_r(name, &entry, scratch, sizeof scratch, &found) == 0 && found) {
        *ret_uid = found->pw_uid;
        return SP_OK;
    }
    sp_error_set(error, SP_INVALID, "[guard] approvers", "this system has no user %s", name);
    sp_error_todo(error, "name Unix users, or their numbers");
    return SP_INVALID;
}

static enum sp_status open_guard(const struct sp_config *config, bool serving,
                                 struct sp_platform *platform, struct sp_error *error)
{
    struct sp_guard_config guard = {
        .volume = platform->volume,
        .cooling_ms = config->guard_cooling_s * 1000,
        .approvals = config->guard_approvals,
        .shared_ok = config->volume.allow_shared_domain,
        .wipe = wipe_unit,
        .context = (void *)(uintptr_t)config,
        .serving = serving,
    };
    char names[256], *rest = NULL;
    snprintf(names, sizeof names, "%s", config->guard_approvers ? config->guard_approvers : "");
    for (char *at = names; (rest = strsep(&at, " \t"));) {
        if (!*rest)
            continue;
        enum sp_status status = user_id(rest, &guard.approvers[guard.approvers_count], error);
        if (status)
            return status;
        guard.approvers_count++; /* at most so many: the configuration was checked */
    }
    return sp_guard_open(&guard, &platform->guard, error);
}

/* ---- All of it ---- */

enum sp_status sp_platform_open(const struct sp_config *config, int lock_fd,
                                const struct sp_platform_options *options,
                                struct sp_platform *ret_platform, struct sp_error *error)
{
    char index_path[4096], scrub_path[4096], search_path[4096];
    struct sp_platform platform = {.config = config, .lock_fd = lock_fd};
    struct sp_volume_config volume = {
        .min_copies = config->volume.min_copies,
        .degraded_accept = config->volume.degraded_accept,
        .segment_bytes = config->volume.segment_bytes,
        .reserve_bytes = config->volume.reserve_bytes == UINT64_MAX
                             ? 2 * config->volume.segment_bytes
                             : config->volume.reserve_bytes,
        .unit_timeout_ms = config->volume.unit_timeout_ms,
        .resilver_rate = config->volume.resilver_rate,
        .scrub_rate = config->volume.scrub_rate,
        .scrub_max_age_s = config->volume.scrub_max_age_s,
        .scrub_path = scrub_path,
        .hold_ms = config->volume.hold_s * 1000,
        .compact_below = config->volume.compact_below,
        .compact_rate = config->volume.compact_rate,
        .index_path = index_path,
        .threaded = true,
    };
    if (options) {
        volume.index_rebuild = options->index_rebuild;
        volume.accept_loss = options->accept_loss;
        volume.progress = options->progress;
        volume.progress_context = options->progress_context;
    }
    enum sp_status status = SP_OK;
    if (snprintf(index_path, sizeof index_path, "%s/index-%s", config->state,
                 config->volume.name) >= (int)sizeof index_path ||
        snprintf(scrub_path, sizeof scrub_path, "%s/scrub-%s", config->state,
                 config->volume.name) >= (int)sizeof scrub_path ||
        snprintf(search_path, sizeof search_path, "%s/search-%s", config->state,
                 config->volume.name) >= (int)sizeof search_path)
        status = sp_error_set(error, SP_LIMIT, config->state, "the path is too long");
    if (!status)
        status = open_units(config, &volume, error);
    if (!status) {
        platform.volume_id = volume.id;
        status =
            sp_volume_open(&volume, &platform.volume, error); /* closes the units when it fails */
    }
    if (!status) {
        struct sp_mail_config mail = {
            .volume = platform.volume,
            .message_bytes_max = config->message_bytes_max,
            .incoming_bodies_max = config->incoming_bodies_max,
            .hash_threads = config->hash_threads,
            .hash_queue_max = 1000,
            .postmaster = config->postmaster,
            .hostname = config->hostname,
            /* Commands that come and go need none of it. */
            .search_path = options && options->serving ? search_path : NULL,
            .volume_id = platform.volume_id,
        };
        status = sp_mail_open(&mail, &platform.mail, error);
    }
    if (!status)
        status = open_guard(config, options && options->serving, &platform, error);
    if (status)
        sp_platform_close(&platform);
    else
        *ret_platform = platform;
    return status;
}

void sp_platform_close(struct sp_platform *platform)
{
    sp_guard_close(platform->guard);
    sp_mail_close(platform->mail);
    sp_volume_close(platform->volume);
    if (platform->lock_fd >= 0)
        close(platform->lock_fd);
    platform->guard = NULL;
    platform->mail = NULL;
    platform->volume = NULL;
    platform->lock_fd = -1;
}
