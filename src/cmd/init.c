/* `sternpost init DIR`: a platform to try, on one disk. */
#include "cmd/cmd.h"
#include "cmd/config_value.h"

#include "unit/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PORTS 4U /* in the order of the command's options */

static const char template[] =
    "# Sternpost, %s\n"
    "#\n"
    "# Relative paths start from this file's folder. `sternpost serve` reads this once, at its "
    "start; only the\n"
    "# certificate is read again, on SIGHUP.\n"
    "\n"
    "[server]\n"
    "# The name other servers know this one by.\n"
    "hostname = %s\n"
    "# Index and control socket; all of it can be made again from the units.\n"
    "state = state\n"
    "# The account that gets mail for postmaster, which every domain must take: one that exists.\n"
    "# postmaster = you@example.com\n"
    "\n"
    "# ADDRESS:PORT, [ADDRESS]:PORT or :PORT (every address), several separated by blanks.\n"
    "# Passwords in the clear are taken on loopback connections and under TLS, nowhere else.\n"
    "[listen]\n"
    "smtp = 127.0.0.1:%u\n"
    "lmtp = 127.0.0.1:%u\n"
    "imap = 127.0.0.1:%u\n"
    "pop3 = 127.0.0.1:%u\n"
    "# What monitoring asks for, in Prometheus' format: on loopback, or a socket "
    "(unix:metrics.sock).\n"
    "# metrics = 127.0.0.1:9187\n"
    "# smtps, imaps and pop3s begin with TLS; with [tls] there, the others offer it\n"
    "\n"
    "# [tls]\n"
    "# cert = fullchain.pem\n"
    "# key = privkey.pem\n"
    "\n"
    "# [limits]\n"
    "# message_bytes_max = 100M\n"
    "# connections = 10000\n"
    "# connections_per_peer = 500\n"
    "\n"
    "# What destroys data (units retired or wiped, accounts removed) is proven to lose nothing, "
    "typed, and then waits so\n"
    "# long, in which `sternpost guard undo` takes it back: 24h where mail matters, 0 for a trial. "
    "With approvals, so many\n"
    "# other Unix users of those named must approve: `sternpost guard approve`.\n"
    "[guard]\n"
    "cooling_off = 0\n"
    "# approvers = alice bob\n"
    "# approvals = 1\n"
    "\n"
    "# A unit keeps segments of the log: a folder on a disk of its own. Its unit.id marks it; a "
    "path without one is an\n"
    "# absent unit (a disk that is not mounted), never an empty one.\n"
    "[unit a]\n"
    "kind = dir\n"
    "path = a\n"
    "# Mends from itself up to 2/18 of each sealed segment, for so much more room.\n"
    "# parity = 16+2\n"
    "\n"
    "[unit b]\n"
    "kind = dir\n"
    "path = b\n"
    "\n"
    "# A spare takes the place of a unit that fails, at once.\n"
    "[unit c]\n"
    "kind = dir\n"
    "path = c\n"
    "role = spare\n"
    "\n"
    "[volume main]\n"
    "id = %s\n"
    "units = a b c\n"
    "# A message is acknowledged when it is synced on this many units.\n"
    "min_copies = 2\n"
    "# With fewer units than that: defer (mail waits at its sender, reading goes on), or accept "
    "with one copy.\n"
    "degraded = defer\n"
    "# Bytes a second at which copies are brought to a new replica, and at which all copies are "
    "read "
    "and mended.\n"
    "# resilver_rate = 64M\n"
    "# Kept free on every unit, so that a failed one can be left behind when disks are full; two "
    "segments.\n"
    "# reserve = 128M\n"
    "# scrub_rate = 4M\n"
    "# After that time without a whole scrub it is overdue, and told of.\n"
    "# scrub_max_age = 30d\n"
    "# How long what was expunged can be brought back (sternpost undelete). Afterwards segments "
    "with a smaller\n"
    "# percentage of live bytes are written anew, at so many bytes a second.\n"
    "# hold = 14d\n"
    "# compact_below = 60\n"
    "# compact_rate = 8M\n"
    "# These units share a disk: well for a trial, but one failure takes them all. Remove this "
    "line where mail matters,\n"
    "# and put each unit on a disk of its own.\n"
    "allow_shared_domain = yes\n";

static enum sp_status path_error(const char *path, const char *todo, struct sp_error *error)
{
    enum sp_status status = errno == ENOSPC ? SP_NO_SPACE : SP_IO;
    sp_error_set(error, status, path, "%s", strerror(errno));
    sp_error_todo(error, "%s", errno == ENOSPC ? "make room on its disk" : todo);
    return status;
}

/* Makes it if it is missing, and refuses it if there is anything in it. */
static enum sp_status take_folder(const char *path, struct sp_error *error)
{
    if (mkdir(path, 0700) && errno != EEXIST)
        return path_error(path, "make the folder above it, or name another", error);
    DIR *folder = opendir(path);
    if (!folder)
        return path_error(path, "name a folder that can be written", error);
    enum sp_status status = SP_OK;
    for (const struct dirent *e; !status && (e = readdir(folder));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        status =
            sp_error_set(error, SP_EXISTS, path, "it is not empty (there is %s in it)", e->d_name);
        sp_error_todo(error, "name a folder that is empty or does not exist; nothing was changed");
    }
    closedir(folder);
    return status;
}

static enum sp_status write_config(const char *path, const char *hostname,
                                   const unsigned ports[PORTS], const struct sp_uuid *volume,
                                   struct sp_error *error)
{
    char id[SP_UUID_TEXT];
    sp_uuid_text(volume, id);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!file)
        return path_error(path, "name a folder that can be written", error);
    fprintf(file, template, "as `sternpost init` wrote it", hostname, ports[0], ports[1], ports[2],
            ports[3], id);
    if (fflush(file) || fsync(fd)) {
        enum sp_status status = path_error(path, "name a folder that can be written", error);
        fclose(file);
        return status;
    }
    fclose(file);
    return SP_OK;
}

static enum sp_status init(const char *folder, const char *hostname, const unsigned ports[PORTS],
                           json_t *units, struct sp_uuid *ret_volume, struct sp_error *error)
{
    static const char *const names[] = {"a", "b", "c"};
    char path[4096];
    enum sp_status status = take_folder(folder, error);
    if (status)
        return status;
    sp_uuid_make(ret_volume);
    for (unsigned i = 0; i < 3; i++) {
        struct sp_uuid id;
        char id_text[SP_UUID_TEXT];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        status = sp_unit_dir_init(path, ret_volume, &id, error);
        if (status)
            return status;
        sp_uuid_text(&id, id_text);
        if (json_array_append_new(units,
                                  json_pack("{s:s,s:s,s:s,s:s}", "name", names[i], "id", id_text,
                                            "role", i == 2 ? "spare" : "replica", "path", path)))
            return sp_error_set(error, SP_NO_MEMORY, folder, "no memory");
    }
    snprintf(path, sizeof path, "%s/state", folder);
    if (mkdir(path, 0700))
        return path_error(path, "name a folder that can be written", error);
    /* Last, so that a platform that has its configuration is whole. */
    snprintf(path, sizeof path, "%s/sternpost.conf", folder);
    return write_config(path, hostname, ports, ret_volume, error);
}

int sp_cmd_init(struct sp_call *call)
{
    const char *hostname = call->options[0] ? call->options[0] : "localhost";
    unsigned ports[PORTS] = {2525, 2424, 1143, 1110};
    char folder[4000], id[SP_UUID_TEXT];
    struct sp_uuid volume;
    struct sp_error error = {0};
    for (unsigned i = 0; i < PORTS; i++) {
        uint64_t port;
        if (!call->options[i + 1])
            continue;
        if (sp_slice_u64(sp_slice_str(call->options[i + 1]), 65535, &port))
            return sp_misuse(call, "--%s %s: not a port", call->verb->options[i + 1].name,
                             call->options[i + 1]);
        ports[i] = (unsigned)port;
    }
    if (!sp_config_hostname_ok(sp_slice_str(hostname)))
        return sp_misuse(call, "--hostname %s: not a host name", hostname);
    size_t len = strlen(call->arguments[0]);
    while (len > 1 && call->arguments[0][len - 1] == '/')
        len--;
    if (len >= sizeof folder - 32)
        return sp_misuse(call, "the path is too long");
    memcpy(folder, call->arguments[0], len);
    folder[len] = '\0';
    json_t *units = json_array();
    if (!units || init(folder, hostname, ports, units, &volume, &error)) {
        json_decref(units);
        return sp_fail(&error);
    }
    sp_uuid_text(&volume, id);
    if (call->json) {
        json_t *facts = json_pack("{s:s+,s:{s:s,s:s},s:O}", "config", folder, "/sternpost.conf",
                                  "volume", "name", "main", "id", id, "units", units);
        sp_print_json(facts);
        json_decref(facts);
    } else {
        printf(
            "%s/sternpost.conf: a platform with the units a and b, and c as a spare\n\n"
            "  sternpost -c %s/sternpost.conf account add you@example.com\n"
            "  sternpost -c %s/sternpost.conf serve\n\n"
            "All units are on one disk: right for a trial; see allow_shared_domain in the file.\n",
            folder, folder, folder);
    }
    json_decref(units);
    return SP_EXIT_OK;
}
