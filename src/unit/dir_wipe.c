/* Folders that are to become units, or to be units no more. */
#include "unit/dir_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID_BYTES 256U

static enum sp_status failed(struct sp_error *error, const char *path, const char *action,
                             int number)
{
    char text[128];
    return sp_error_set(error, number == ENOENT ? SP_NOT_FOUND : SP_IO, path, "cannot %s: %s",
                        action, strerror_r(number, text, sizeof text));
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static enum sp_status read_id(const char *path, int fd, struct sp_uuid *ret_unit,
                              struct sp_uuid *ret_volume, struct sp_error *error)
{
    char text[ID_BYTES];
    const char *why;
    ssize_t n = pread(fd, text, sizeof text, 0);
    if (n < 0)
        return failed(error, path, "read unit.id", errno);
    enum sp_status status = sp_dir_parse_id(sp_slice(text, (size_t)n), ret_unit, ret_volume, &why);
    return status ? sp_error_set(error, status, path, "its unit.id %s", why) : SP_OK;
}

/* ---- Looking ---- */

static enum sp_status count_entries(const char *path, int root_fd, struct sp_dir_found *found,
                                    struct sp_error *error)
{
    int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = fd >= 0 ? fdopendir(fd) : NULL;
    if (!listing) {
        enum sp_status status = failed(error, path, "list it", errno);
        if (fd >= 0)
            close(fd);
        return status;
    }
    errno = 0;
    for (const struct dirent *entry; (entry = readdir(listing));) {
        if (is_dots(entry->d_name))
            continue;
        if (found->entries < SP_DIR_EXAMPLES)
            snprintf(found->examples[found->entries], sizeof found->examples[0], "%.63s",
                     entry->d_name);
        found->entries++;
    }
    int number = errno;
    closedir(listing);
    return number ? failed(error, path, "list it", number) : SP_OK;
}

enum sp_status sp_unit_dir_look(const char *path, struct sp_dir_found *ret_found,
                                struct sp_error *error)
{
    struct sp_dir_found found = {0};
    struct sp_error scratch;
    struct stat here, above;
    if (stat(path, &here) != 0) {
        if (errno != ENOENT)
            return failed(error, path, "look at it", errno);
        *ret_found = found;
        return SP_OK;
    }
    found.exists = true;
    found.directory = S_ISDIR(here.st_mode);
    int root_fd = found.directory ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (root_fd < 0) {
        if (found.directory)
            return failed(error, path, "open it", errno);
        *ret_found = found;
        return SP_OK;
    }
    found.mount_point = fstatat(root_fd, "..", &above, 0) == 0 && above.st_dev != here.st_dev;
    int id_fd = openat(root_fd, "unit.id", O_RDONLY | O_CLOEXEC);
    found.unit = id_fd >= 0 || errno != ENOENT;
    if (id_fd >= 0) {
        if (read_id(path, id_fd, &found.unit_id, &found.volume, &scratch) != SP_OK)
            found.unit_id = found.volume = (struct sp_uuid){{0}};
        close(id_fd);
    }
    enum sp_status status = count_entries(path, root_fd, &found, error);
    close(root_fd);
    if (status == SP_OK)
        *ret_found = found;
    return status;
}

/* ---- Wiping ---- */

/* Whether the name is one of those that a unit gives: of a segment, or of what belongs to one. */
static bool is_ours(const char *name)
{
    size_t hex = strspn(name, "0123456789abcdef");
    if (hex != 16 || name[16] != '.')
        return false;
    hex = strspn(name + 17, "0123456789abcdef");
    return hex >= 4 && hex <= 8 && name[17 + hex] == '.';
}

static enum sp_status wipe_segments(const char *path, int root_fd, uint64_t *ret_segments,
                                    struct sp_error *error)
{
    uint64_t segments = 0, foreign = 0;
    char example[64] = "";
    enum sp_status status = SP_OK;
    int fd = openat(root_fd, "segments", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return SP_OK; /* an attempt before got so far */
    int list_fd = fd >= 0 ? openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *listing = list_fd >= 0 ? fdopendir(list_fd) : NULL;
    if (!listing) {
        status = failed(error, path, "list segments", errno);
        if (list_fd >= 0)
            close(list_fd);
        if (fd >= 0)
            close(fd);
        return status;
    }
    for (const struct dirent *entry; !status && (entry = readdir(listing));) {
        if (is_dots(entry->d_name))
            continue;
        if (!is_ours(entry->d_name)) {
            snprintf(example, sizeof example, "%.63s", entry->d_name);
            foreign++;
        } else if (unlinkat(fd, entry->d_name, 0) == 0) {
            segments += strstr(entry->d_name, ".seg") != NULL;
        } else {
            status = failed(error, path, "delete a segment", errno);
        }
    }
    closedir(listing);
    if (!status && fsync(fd) != 0)
        status = failed(error, path, "sync segments", errno);
    close(fd);
    if (status)
        return status;
    *ret_segments = segments;
    if (foreign) {
        sp_error_set(error, SP_EXISTS, path,
                     "its segments are deleted; but segments/ holds %llu files that are not a "
                     "unit's, such as %s",
                     (unsigned long long)foreign, example);
        sp_error_todo(error, "move them away, and wipe it again");
        return SP_EXISTS;
    }
    return unlinkat(root_fd, "segments", AT_REMOVEDIR) == 0 || errno == ENOENT
               ? SP_OK
               : failed(error, path, "remove segments", errno);
}

static enum sp_status wipe(const char *path, int root_fd, int id_fd, const struct sp_uuid *unit,
                           uint64_t *ret_segments, struct sp_error *error)
{
    struct sp_uuid id, volume;
    char text[SP_UUID_TEXT];
    if (flock(id_fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK
                   ? sp_error_set(error, SP_CONFLICT, path, "it is in use by another process")
                   : failed(error, path, "lock unit.id", errno);
    enum sp_status status = read_id(path, id_fd, &id, &volume, error);
    if (status)
        return status;
    if (!sp_uuid_eq(&id, unit)) {
        sp_uuid_text(&id, text);
        return sp_error_set(error, SP_INVALID, path, "another unit is there, %s", text);
    }
    status = wipe_segments(path, root_fd, ret_segments, error);
    if (status)
        return status;
    if ((unlinkat(root_fd, "vote", 0) != 0 && errno != ENOENT) || fsync(root_fd) != 0 ||
        unlinkat(root_fd, "unit.id", 0) != 0 || fsync(root_fd) != 0)
        return failed(error, path, "delete vote and unit.id", errno);
    return SP_OK;
}

enum sp_status sp_unit_dir_wipe(const char *path, const struct sp_uuid *unit,
                                uint64_t *ret_segments, struct sp_error *error)
{
    enum sp_status status;
    *ret_segments = 0;
    int root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), id_fd = -1;
    if (root_fd >= 0)
        id_fd = openat(root_fd, "unit.id", O_RDONLY | O_CLOEXEC);
    status = id_fd >= 0 ? wipe(path, root_fd, id_fd, unit, ret_segments, error)
                        : failed(error, path, "open unit.id", errno);
    if (id_fd >= 0)
        close(id_fd);
    if (root_fd >= 0)
        close(root_fd);
    return status;
}
