#include "unit/domain.h"

#include "base/slice.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WORDS_MAX   64U
#define WORD_BYTES  64U
#define DEPTH_MAX   16U
#define LINE_BYTES  8192U
#define FIELD_BYTES 4096U
#define MANY        "many" /* of a set that is too long: it shares with every other such */

static struct sp_slice next_word(struct sp_slice *rest)
{
    struct sp_slice word = sp_slice_sub(*rest, 0, sp_slice_find(*rest, ' '));
    *rest = word.len < rest->len ? sp_slice_from(*rest, word.len + 1) : (struct sp_slice){NULL, 0};
    return word;
}

bool sp_unit_domains_shared(const char *a, const char *b)
{
    for (struct sp_slice left = sp_slice_str(a); left.len;) {
        struct sp_slice word = next_word(&left);
        for (struct sp_slice right = sp_slice_str(b); word.len && right.len;)
            if (sp_slice_eq(word, next_word(&right)))
                return true;
    }
    return false;
}

/* ---- The set of words ---- */

struct finding {
    const struct sp_domain_view *view;
    char words[WORDS_MAX][WORD_BYTES];
    uint32_t count;
    uint32_t depth;
    bool too_many;
};

/* Blanks part words, so there are none in them. */
static void add(struct finding *f, const char *kind, const char *name)
{
    char word[WORD_BYTES];
    snprintf(word, sizeof word, "%s%s%.50s", kind, *name ? ":" : "", name);
    for (char *c = word; *c; c++)
        if (*c <= ' ')
            *c = '_';
    for (uint32_t i = 0; i < f->count; i++)
        if (strcmp(f->words[i], word) == 0)
            return;
    if (f->count == WORDS_MAX)
        f->too_many = true;
    else
        memcpy(f->words[f->count++], word, sizeof word);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* ---- /sys ---- */

/* The first line of a file below /sys; false: it is not there. */
static bool read_line(const char *path, char *ret, size_t size)
{
    FILE *file = fopen(path, "re");
    bool good = file && fgets(ret, (int)size, file);
    if (file)
        fclose(file);
    if (good)
        ret[strcspn(ret, "\n")] = '\0';
    return good;
}

static void add_path(struct finding *f, const char *path);
static void add_device(struct finding *f, const char *number);

/* Every device that the folder names; false: none. */
static bool add_listed(struct finding *f, const char *folder)
{
    char path[FIELD_BYTES], number[32];
    bool any = false;
    DIR *listing = opendir(folder);
    if (!listing)
        return false;
    for (const struct dirent *entry; (entry = readdir(listing));) {
        if (entry->d_name[0] == '.' ||
            (size_t)snprintf(path, sizeof path, "%s/%s/dev", folder, entry->d_name) >=
                sizeof path ||
            !read_line(path, number, sizeof number))
            continue;
        any = true;
        add_device(f, number);
    }
    closedir(listing);
    return any;
}

/* What a block device lies on. number: "8:1". */
static void add_device(struct finding *f, const char *number)
{
    char path[FIELD_BYTES], line[FIELD_BYTES];
    const char *sys = f->view->sys;
    unsigned major_number, minor_number;
    if (sscanf(number, "%u:%u", &major_number, &minor_number) != 2)
        return;
    if (++f->depth > DEPTH_MAX) {
        add(f, "disk", number);
        f->depth--;
        return;
    }
    snprintf(path, sizeof path, "%s/dev/block/%u:%u/partition", sys, major_number, minor_number);
    bool partition = access(path, F_OK) == 0;
    snprintf(path, sizeof path, "%s/dev/block/%u:%u/../dev", sys, major_number, minor_number);
    if (partition && read_line(path, line, sizeof line)) {
        add_device(f, line);
        f->depth--;
        return;
    }
    snprintf(path, sizeof path, "%s/dev/block/%u:%u/slaves", sys, major_number, minor_number);
    if (!add_listed(f, path)) {
        snprintf(path, sizeof path, "%s/dev/block/%u:%u/loop/backing_file", sys, major_number,
                 minor_number);
        if (read_line(path, line, sizeof line) && line[0] == '/')
            add_path(f, line);
        else if (major_number == 1) /* a disk in memory */
            add(f, "memory", "");
        else
            add(f, "disk", number);
    }
    f->depth--;
}

/* ---- Mounts ---- */

struct mount {
    char device[32];
    char point[FIELD_BYTES], type[64], source[FIELD_BYTES], options[FIELD_BYTES];
};

/* \040 and its like, in place. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] && from[3]) {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

static bool parse_mount(char *line, struct mount *ret)
{
    char *separator = strstr(line, " - ");
    if (!separator)
        return false;
    *separator = '\0';
    if (sscanf(line, "%*s %*s %31s %*s %4095s", ret->device, ret->point) != 2 ||
        sscanf(separator + 3, "%63s %4095s %4095s", ret->type, ret->source, ret->options) != 3)
        return false;
    unescape(ret->point);
    unescape(ret->source);
    unescape(ret->options);
    return true;
}

static bool is_below(const char *path, const char *point)
{
    size_t len = strlen(point);
    while (len && point[len - 1] == '/')
        len--;
    return strncmp(path, point, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* The mount that the path lies in: the deepest; of several at one place the last, which hides the
 * others. */
static bool find_mount(const struct finding *f, const char *path, struct mount *ret)
{
    FILE *file = fopen(f->view->mountinfo, "re");
    char *line = malloc(LINE_BYTES * 4);
    struct mount *mount = malloc(sizeof *mount);
    bool found = false;
    size_t deepest = 0;
    while (file && line && mount && fgets(line, LINE_BYTES * 4, file)) {
        if (!parse_mount(line, mount) || !is_below(path, mount->point) ||
            (found && strlen(mount->point) < deepest))
            continue;
        *ret = *mount;
        deepest = strlen(mount->point);
        found = true;
    }
    if (file)
        fclose(file);
    free(line);
    free(mount);
    return found;
}

/* The value of an option: "addr=192.0.2.7"; false: it has none. */
static bool option(const struct mount *mount, const char *name, char *ret, size_t size)
{
    size_t len = strlen(name);
    for (const char *at = mount->options; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, len) != 0 || at[len] != '=')
            continue;
        const char *value = at + len + 1;
        snprintf(ret, size, "%.*s", (int)strcspn(value, ","), value);
        return true;
    }
    return false;
}

/* Up to the first of `ends`. */
static void add_part(struct finding *f, const char *kind, const char *text, const char *ends)
{
    char part[256];
    snprintf(part, sizeof part, "%.*s", (int)strcspn(text, ends), text);
    add(f, kind, part);
}

/* A file system may lie on several disks and have no device number of its own. */
static bool add_btrfs(struct finding *f, const char *device_name)
{
    char path[FIELD_BYTES];
    bool any = false;
    snprintf(path, sizeof path, "%s/fs/btrfs", f->view->sys);
    DIR *listing = opendir(path);
    if (!listing)
        return false;
    for (const struct dirent *entry; !any && (entry = readdir(listing));) {
        if (entry->d_name[0] == '.' ||
            (size_t)snprintf(path, sizeof path, "%s/fs/btrfs/%s/devices/%s", f->view->sys,
                             entry->d_name, device_name) >= sizeof path ||
            access(path, F_OK) != 0)
            continue;
        snprintf(path, sizeof path, "%s/fs/btrfs/%s/devices", f->view->sys, entry->d_name);
        any = add_listed(f, path);
    }
    closedir(listing);
    return any;
}

/* By the name of a device: "/dev/sda1". */
static bool add_source(struct finding *f, const struct mount *mount)
{
    char path[FIELD_BYTES], number[32], real[FIELD_BYTES];
    if (strncmp(mount->source, "/dev/", 5) != 0)
        return false;
    /* /dev/mapper/x is a link to /dev/dm-0. */
    ssize_t n = readlink(mount->source, real, sizeof real - 1);
    real[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(n > 0 ? real : mount->source, '/');
    const char *name = slash ? slash + 1 : real;
    if (strcmp(mount->type, "btrfs") == 0 && add_btrfs(f, name))
        return true;
    if ((size_t)snprintf(path, sizeof path, "%s/class/block/%s/dev", f->view->sys, name) >=
            sizeof path ||
        !read_line(path, number, sizeof number))
        return false;
    add_device(f, number);
    return true;
}

static void add_mount(struct finding *f, const struct mount *mount)
{
    char value[FIELD_BYTES];
    const char *type = mount->type;
    if (strcmp(type, "tmpfs") == 0 || strcmp(type, "ramfs") == 0)
        add(f, "memory", "");
    else if (strncmp(type, "nfs", 3) == 0 && option(mount, "addr", value, sizeof value))
        add(f, "nfs", value);
    else if (strncmp(type, "nfs", 3) == 0)
        add_part(f, "nfs", mount->source, ":");
    else if (strcmp(type, "cifs") == 0 || strcmp(type, "smb3") == 0)
        add_part(f, "smb", mount->source + strspn(mount->source, "/"), "/");
    else if (strcmp(type, "zfs") == 0)
        add_part(f, "zfs", mount->source, "/");
    else if (strcmp(type, "overlay") == 0 && option(mount, "upperdir", value, sizeof value))
        add_path(f, value);
    else if (strncmp(mount->device, "0:", 2) != 0)
        add_device(f, mount->device);
    else if (!add_source(f, mount))
        add(f, "fs", mount->device);
}

static void add_path(struct finding *f, const char *path)
{
    struct mount *mount = malloc(sizeof *mount);
    if (mount && find_mount(f, path, mount)) {
        /* An overlay's upper folder may be out of sight, and then seem to lie in the overlay
         * itself. */
        if (++f->depth > DEPTH_MAX)
            add(f, "fs", mount->device);
        else
            add_mount(f, mount);
        f->depth--;
    } else {
        add(f, "path", path);
    }
    free(mount);
}

void sp_unit_domain_of(const struct sp_domain_view *view, const char *path,
                       char ret_domain[SP_UNIT_DOMAIN_MAX])
{
    struct finding f = {.view = view};
    size_t len = 0;
    add_path(&f, path);
    qsort(f.words, f.count, WORD_BYTES, by_name);
    ret_domain[0] = '\0';
    for (uint32_t i = 0; i < f.count; i++) {
        size_t more = strlen(f.words[i]) + 1;
        if (len + more + sizeof MANY + 1 > SP_UNIT_DOMAIN_MAX) {
            f.too_many = true;
            break;
        }
        len += (size_t)snprintf(ret_domain + len, SP_UNIT_DOMAIN_MAX - len, "%s%s", len ? " " : "",
                                f.words[i]);
    }
    if (f.too_many)
        snprintf(ret_domain + len, SP_UNIT_DOMAIN_MAX - len, "%s%s", len ? " " : "", MANY);
}
