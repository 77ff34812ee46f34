#include "unit/dir_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* unit.id is exactly this, with both UUIDs in lower case. */
#define ID_BEGINS     "Sternpost storage unit, format "
#define ID_FORMAT     "1"
#define ID_TEXT       ID_BEGINS ID_FORMAT "\nunit %s\nvolume %s\n"
#define ID_TEXT_BYTES 256U

static size_t id_text(const struct sp_uuid *unit, const struct sp_uuid *volume,
                      char ret_text[ID_TEXT_BYTES])
{
    char u[SP_UUID_TEXT], v[SP_UUID_TEXT];
    sp_uuid_text(unit, u);
    sp_uuid_text(volume, v);
    return (size_t)snprintf(ret_text, ID_TEXT_BYTES, ID_TEXT, u, v);
}

/* The rest of text after a prefix; false when it does not begin so. */
static bool skip(struct sp_slice *text, struct sp_slice prefix)
{
    if (!sp_slice_eq(sp_slice_sub(*text, 0, prefix.len), prefix))
        return false;
    *text = sp_slice_from(*text, prefix.len);
    return true;
}

static bool take_uuid(struct sp_slice *text, struct sp_uuid *ret_uuid)
{
    struct sp_slice uuid = sp_slice_sub(*text, 0, SP_UUID_TEXT - 1);
    *text = sp_slice_from(*text, SP_UUID_TEXT - 1);
    return sp_uuid_parse(uuid, ret_uuid) == SP_OK && !sp_uuid_is_nil(ret_uuid);
}

enum sp_status sp_dir_parse_id(struct sp_slice text, struct sp_uuid *ret_unit,
                               struct sp_uuid *ret_volume, const char **ret_why)
{
    char again[ID_TEXT_BYTES];
    struct sp_uuid unit, volume;
    struct sp_slice rest = text;
    *ret_why = "is not that of a unit";
    if (!skip(&rest, SP_S(ID_BEGINS)))
        return SP_INVALID;
    *ret_why = "is of a later format, or damaged";
    if (!skip(&rest, SP_S(ID_FORMAT "\n")))
        return SP_UNSUPPORTED;
    *ret_why = "is damaged";
    if (!skip(&rest, SP_S("unit ")) || !take_uuid(&rest, &unit) ||
        !skip(&rest, SP_S("\nvolume ")) || !take_uuid(&rest, &volume) ||
        !sp_slice_eq(text, sp_slice(again, id_text(&unit, &volume, again))))
        return SP_INVALID;
    *ret_unit = unit;
    *ret_volume = volume;
    return SP_OK;
}

enum sp_status sp_dir_read_id(struct sp_dir *dir, struct sp_error *error)
{
    char text[ID_TEXT_BYTES], what[80];
    const char *why;
    ssize_t n = pread(dir->id_fd, text, sizeof text, 0);
    if (n < 0)
        return sp_dir_fail(dir, error, errno, "cannot read", "unit.id");
    snprintf(what, sizeof what, "unit %s", dir->unit.name);
    enum sp_status status =
        sp_dir_parse_id(sp_slice(text, (size_t)n), &dir->unit.id, &dir->unit.volume, &why);
    return status ? sp_error_set(error, status, what, "%s/unit.id %s", dir->path, why) : SP_OK;
}

static bool write_id(int root_fd, const struct sp_uuid *unit, const struct sp_uuid *volume)
{
    static const char passing[] = "unit.id.tmp";
    char text[ID_TEXT_BYTES];
    size_t len = id_text(unit, volume, text);
    int fd = openat(root_fd, passing, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    errno = ENOSPC; /* what a short write means */
    bool good = write(fd, text, len) == (ssize_t)len && fsync(fd) == 0 &&
                renameat(root_fd, passing, root_fd, "unit.id") == 0 && fsync(root_fd) == 0;
    int saved = errno;
    close(fd);
    if (!good)
        unlinkat(root_fd, passing, 0);
    errno = saved;
    return good;
}

/* Whether a directory has no entries; errno is 0 when it has some. */
static bool is_empty(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry = NULL;
    if (!listing) {
        int saved = errno;
        if (fd >= 0)
            close(fd);
        errno = saved;
        return false;
    }
    do {
        errno = 0;
        entry = readdir(listing);
    } while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    int saved = entry ? 0 : errno;
    bool empty = !entry && !saved;
    closedir(listing);
    errno = saved;
    return empty;
}

/* So that the directory's own name is on disk. */
static bool sync_parent(int root_fd)
{
    int fd = openat(root_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES; /* a parent that we may not read was not made by us */
    bool good = fsync(fd) == 0;
    int saved = errno;
    close(fd);
    errno = saved;
    return good;
}

static enum sp_status fail(struct sp_error *error, const char *path, int number)
{
    char text[128];
    enum sp_status status = number == ENOSPC || number == EDQUOT ? SP_NO_SPACE : SP_IO;
    return sp_error_set(error, status, path, "cannot make a unit here: %s",
                        strerror_r(number, text, sizeof text));
}

/* Whether the folder may become a unit. over: beside what is in it. */
static enum sp_status check_room(const char *path, int root_fd, bool over, struct sp_error *error)
{
    static const char *const names[] = {"unit.id", "vote", "segments"};
    if (over) {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            if (faccessat(root_fd, names[i], F_OK, AT_SYMLINK_NOFOLLOW) != 0)
                continue;
            sp_error_set(error, SP_EXISTS, path, "there is %s in it; nothing was changed",
                         names[i]);
            sp_error_todo(error, "give another directory");
            return SP_EXISTS;
        }
        return SP_OK;
    }
    if (is_empty(root_fd))
        return SP_OK;
    if (errno)
        return fail(error, path, errno);
    sp_error_set(error, SP_EXISTS, path, "is not empty; nothing was changed");
    sp_error_todo(error, "give a new or empty directory; on a disk of its own (which holds "
                         "lost+found) make one below the mount point");
    return SP_EXISTS;
}

static enum sp_status init(const char *path, const struct sp_uuid *volume, bool over,
                           struct sp_uuid *ret_unit, struct sp_error *error)
{
    struct sp_uuid id;
    sp_assert(!sp_uuid_is_nil(volume));
    bool made_root = mkdir(path, 0700) == 0, made_segments = false;
    if (!made_root && errno != EEXIST)
        return fail(error, path, errno);
    enum sp_status status;
    int root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0 && errno == ENOTDIR)
        return sp_error_set(error, SP_EXISTS, path, "is not a directory");
    if (root_fd < 0)
        return fail(error, path, errno);
    status = check_room(path, root_fd, over, error);
    if (status != SP_OK)
        goto out;
    sp_uuid_make(&id);
    made_segments = mkdirat(root_fd, "segments", 0700) == 0;
    if (!made_segments || !write_id(root_fd, &id, volume) || !sync_parent(root_fd)) {
        int number = errno;
        /* Only what is ours: had somebody else begun a unit here, mkdir would have failed. */
        if (made_segments) {
            unlinkat(root_fd, "unit.id", 0);
            unlinkat(root_fd, "segments", AT_REMOVEDIR);
        }
        status = fail(error, path, number);
        goto out;
    }
    *ret_unit = id;
    status = SP_OK;
out:
    close(root_fd);
    if (status != SP_OK && made_root)
        rmdir(path);
    return status;
}

enum sp_status sp_unit_dir_init(const char *path, const struct sp_uuid *volume,
                                struct sp_uuid *ret_unit, struct sp_error *error)
{
    return init(path, volume, false, ret_unit, error);
}

enum sp_status sp_unit_dir_init_over(const char *path, const struct sp_uuid *volume,
                                     struct sp_uuid *ret_unit, struct sp_error *error)
{
    return init(path, volume, true, ret_unit, error);
}
