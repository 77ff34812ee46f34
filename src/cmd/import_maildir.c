#include "cmd/import_source.h"

#include "mime/mime.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYWORDS_MAX     26U
#define FOLDER_DEPTH_MAX 20U /* below which folders are not looked for */

struct file {
    char *name;
    bool fresh; /* in `new` */
};

struct maildir {
    uint64_t message_bytes_max;
    const struct sp_import_visitor *visitor;
    uint64_t done_bytes, total_bytes;
    struct sp_buf mail;
    bool any; /* cur or new was found */
};

static enum sp_status path_error(const char *path, struct sp_error *error)
{
    enum sp_status status = errno == ENOENT ? SP_NOT_FOUND : errno == ENOMEM ? SP_NO_MEMORY : SP_IO;
    bool denied = errno == EACCES;
    sp_error_set(error, status, path, "%s", strerror(errno));
    sp_error_todo(error,
                  denied ? "make it readable for this user" : "name a Maildir that can be read");
    return status;
}

/* ---- Folders ---- */

/* Modified UTF-7, or UTF-8, which some programs write and the other has no room for. */
static bool decode_name(struct sp_slice raw, struct sp_buf *name)
{
    bool plain = true;
    for (size_t i = 0; i < raw.len; i++)
        plain = plain && raw.ptr[i] < 0x80;
    if (plain)
        return sp_mime_utf7_to_utf8(raw, name) == SP_OK && !sp_buf_failed(name);
    sp_buf_add(name, raw);
    return sp_mime_is_utf8(raw) && !sp_buf_failed(name);
}

/* `.A.B` is A/B, and `A.B` itself, below the mailbox `above`, if that has a name. false: a name
 * that cannot be one of ours. */
static bool mailbox_of_folder(const char *above, const char *folder, char *ret_mailbox, size_t size)
{
    struct sp_buf name;
    const bool dotted = folder[0] == '.';
    sp_buf_init(&name, size - 1);
    bool ok = decode_name(sp_slice_str(folder + dotted), &name) && name.len > 0;
    for (size_t i = 0; ok && i < name.len; i++) {
        const bool separates = dotted && name.ptr[i] == '.';
        /* A slash within a level would become two levels, an empty level has no name. */
        if (name.ptr[i] == '/' || name.ptr[i] < 32 || name.ptr[i] == 127 ||
            (separates && (i == 0 || i + 1 == name.len || name.ptr[i - 1] == '/')))
            ok = false;
        if (separates)
            name.ptr[i] = '/';
    }
    int len = snprintf(ret_mailbox, size, "%s%s%.*s", above, *above ? "/" : "", (int)name.len,
                       (const char *)name.ptr);
    sp_buf_release(&name);
    return ok && (size_t)len < size;
}

static int is_folder(const struct dirent *entry)
{
    static const char *const others[] = {".", "..", "cur", "new", "tmp"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (strcmp(entry->d_name, others[i]) == 0)
            return 0;
    return 1;
}

static int is_message(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

static void free_files(struct file *files, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(files[i].name);
    free(files);
}

/* Adds the names in `cur` or `new`; a folder that lacks one of them just has no messages there. */
static enum sp_status list_add(struct maildir *m, const char *folder, bool fresh,
                               struct file **files, size_t *count, struct sp_error *error)
{
    char path[8192];
    struct dirent **entries;
    snprintf(path, sizeof path, "%s/%s", folder, fresh ? "new" : "cur");
    int n = scandir(path, &entries, is_message, NULL);
    if (n < 0)
        return errno == ENOENT ? SP_OK : path_error(path, error);
    m->any = true;
    struct file *grown = realloc(*files, (*count + (size_t)n + 1) * sizeof **files);
    enum sp_status status = grown ? SP_OK : sp_error_set(error, SP_NO_MEMORY, path, "no memory");
    if (grown)
        *files = grown;
    for (int i = 0; i < n; i++) {
        char *name = status ? NULL : strdup(entries[i]->d_name);
        if (name)
            (*files)[(*count)++] = (struct file){name, fresh};
        else if (!status)
            status = sp_error_set(error, SP_NO_MEMORY, path, "no memory");
        free(entries[i]);
    }
    free(entries);
    return status;
}

static enum sp_status list(struct maildir *m, const char *folder, struct file **ret_files,
                           size_t *ret_count, struct sp_error *error)
{
    struct file *files = NULL;
    size_t count = 0;
    enum sp_status status = list_add(m, folder, false, &files, &count, error);
    if (!status)
        status = list_add(m, folder, true, &files, &count, error);
    if (status) {
        free_files(files, count);
        return status;
    }
    if (count)
        qsort(files, count, sizeof *files, by_name);
    *ret_files = files;
    *ret_count = count;
    return SP_OK;
}

/* ---- Flags ---- */

struct keywords {
    struct sp_slice names[KEYWORDS_MAX];
    struct sp_buf text; /* what the names are in */
};

/* dovecot-keywords: lines `NUMBER NAME`; letter a is number 0. */
static void keywords_read(struct keywords *keywords, const char *folder)
{
    char path[8192];
    memset(keywords, 0, sizeof *keywords);
    sp_buf_init(&keywords->text, 65536);
    snprintf(path, sizeof path, "%s/dovecot-keywords", folder);
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    uint8_t piece[4096];
    for (size_t n; (n = fread(piece, 1, sizeof piece, file)) > 0;)
        sp_buf_add(&keywords->text, sp_slice(piece, n));
    fclose(file);
    for (struct sp_slice rest = sp_buf_slice(&keywords->text); rest.len;) {
        size_t end = sp_slice_find(rest, '\n');
        struct sp_slice line = sp_slice_trim(sp_slice_sub(rest, 0, end));
        rest = end == SIZE_MAX ? (struct sp_slice){NULL, 0} : sp_slice_from(rest, end + 1);
        size_t blank = sp_slice_find(line, ' ');
        uint64_t number;
        if (blank != SIZE_MAX &&
            sp_slice_u64(sp_slice_sub(line, 0, blank), KEYWORDS_MAX - 1, &number) == SP_OK)
            keywords->names[number] = sp_slice_trim(sp_slice_from(line, blank));
    }
}

static void flags_of(const char *name, const struct keywords *keywords,
                     struct sp_slice words[KEYWORDS_MAX + 1], struct sp_import_item *item)
{
    const char *letters = strstr(name, ":2,");
    item->keywords = words;
    for (letters = letters ? letters + 3 : ""; *letters; letters++) {
        switch (*letters) {
        case 'S':
            item->system_flags |= SP_FLAG_SEEN;
            break;
        case 'R':
            item->system_flags |= SP_FLAG_ANSWERED;
            break;
        case 'F':
            item->system_flags |= SP_FLAG_FLAGGED;
            break;
        case 'T':
            item->system_flags |= SP_FLAG_DELETED;
            break;
        case 'D':
            item->system_flags |= SP_FLAG_DRAFT;
            break;
        case 'P':
            words[item->keywords_count++] = SP_S("$Forwarded");
            break;
        default:
            break;
        }
        if (*letters >= 'a' && *letters <= 'z') {
            struct sp_slice word = keywords->names[*letters - 'a'];
            if (word.len && word.len <= SP_KEYWORD_MAX)
                words[item->keywords_count++] = word;
        }
        if (item->keywords_count > KEYWORDS_MAX)
            return;
    }
}

/* ---- Messages ---- */

/* Reads the file into m->mail. NULL, or why it is to be left out. */
static const char *read_message(struct maildir *m, const char *path, struct sp_date *ret_date)
{
    const char *why = NULL;
    struct stat facts;
    uint8_t previous = 0;
    sp_buf_reset(&m->mail);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &facts)) {
        why = strerror(errno);
    } else if (!S_ISREG(facts.st_mode)) {
        why = "not a file";
    } else if ((uint64_t)facts.st_size > m->message_bytes_max) {
        why = "longer than message_bytes_max";
    } else {
        *ret_date = (struct sp_date){.unix_s = facts.st_mtime};
        for (;;) {
            uint8_t piece[65536];
            ssize_t n = read(fd, piece, sizeof piece);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0)
                why = strerror(errno);
            if (n <= 0)
                break;
            sp_import_add_crlf(&m->mail, sp_slice(piece, (size_t)n), &previous);
            m->done_bytes += (uint64_t)n;
        }
    }
    if (!why && sp_buf_failed(&m->mail))
        why = "longer than message_bytes_max, or no memory for it";
    else if (!why && m->mail.len == 0)
        why = "no message: it is empty";
    if (fd >= 0)
        close(fd);
    return why;
}

static bool is_directory(const char *path, bool follow)
{
    struct stat facts;
    return (follow ? stat(path, &facts) : lstat(path, &facts)) == 0 && S_ISDIR(facts.st_mode);
}

/* Or could have: it is a Maildir. */
static bool has_messages(const char *folder)
{
    char path[8192];
    snprintf(path, sizeof path, "%s/cur", folder);
    if (is_directory(path, true))
        return true;
    snprintf(path, sizeof path, "%s/new", folder);
    return is_directory(path, true);
}

static enum sp_status take_folder(struct maildir *m, const char *folder, const char *mailbox,
                                  struct sp_error *error)
{
    struct file *files = NULL;
    size_t count = 0;
    struct keywords keywords;
    enum sp_status status = list(m, folder, &files, &count, error);
    if (status || !has_messages(folder))
        return status; /* folders lie below it, or it is no Maildir */
    keywords_read(&keywords, folder);
    status = m->visitor->mailbox(m->visitor->context, mailbox, error);
    for (size_t i = 0; i < count && !status; i++) {
        char path[8192];
        struct sp_slice words[KEYWORDS_MAX + 1];
        struct sp_import_item item = {.source = path, .mailbox = mailbox};
        snprintf(path, sizeof path, "%s/%s/%s", folder, files[i].fresh ? "new" : "cur",
                 files[i].name);
        const char *why = read_message(m, path, &item.date);
        if (why) {
            m->visitor->skip(m->visitor->context, path, why);
            continue;
        }
        flags_of(files[i].name, &keywords, words, &item);
        item.bytes = sp_buf_slice(&m->mail);
        status = m->visitor->message(m->visitor->context, &item, error);
        m->visitor->progress(m->visitor->context, m->done_bytes, m->total_bytes);
    }
    sp_buf_release(&keywords.text);
    free_files(files, count);
    return status;
}

/* What there is to read, for the progress alone. */
static uint64_t count_bytes(const char *folder)
{
    static const char *const names[] = {"cur", "new"};
    uint64_t bytes = 0;
    for (unsigned i = 0; i < 2; i++) {
        char path[8192];
        struct stat facts;
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        DIR *dir = opendir(path);
        for (const struct dirent *e; dir && (e = readdir(dir));)
            if (is_message(e) && fstatat(dirfd(dir), e->d_name, &facts, 0) == 0)
                bytes += (uint64_t)facts.st_size;
        if (dir)
            closedir(dir);
    }
    return bytes;
}

static enum sp_status count_folder(struct maildir *m, const char *path, const char *mailbox,
                                   struct sp_error *error)
{
    m->total_bytes += count_bytes(path);
    return SP_OK;
}

/* ---- Folders below folders ---- */

typedef enum sp_status folder_function(struct maildir *m, const char *path, const char *mailbox,
                                       struct sp_error *error);

static void leave_out(struct maildir *m, folder_function *each, const char *path, const char *why)
{
    if (each == take_folder)
        m->visitor->skip(m->visitor->context, path, why);
}

static enum sp_status walk(struct maildir *m, const char *folder, const char *above, unsigned depth,
                           folder_function *each, struct sp_error *error)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, is_folder, alphasort);
    if (count < 0) {
        leave_out(m, each, folder, strerror(errno));
        return SP_OK;
    }
    enum sp_status status = SP_OK;
    for (int i = 0; i < count && !status; i++) {
        const char *name = entries[i]->d_name;
        char path[4400], mailbox[SP_MAILBOX_NAME_MAX + 1];
        if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
            continue;
        const bool here = has_messages(path);
        /* A link could lead back up. Maildir++ has one level, where links do no harm. */
        if (!is_directory(path, name[0] == '.' && depth == 0)) {
            if (here)
                leave_out(m, each, path, "a link; import the folder that it leads to");
        } else if (mailbox_of_folder(above, name, mailbox, sizeof mailbox)) {
            if (here)
                status = each(m, path, mailbox, error);
            if (!status && depth < FOLDER_DEPTH_MAX)
                status = walk(m, path, mailbox, depth + 1, each, error);
        } else if (here) {
            leave_out(m, each, path,
                      "its name cannot be that of a mailbox; rename it and import again");
        }
    }
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    return status;
}

enum sp_status sp_import_maildir(const char *path, const char *inbox, uint64_t message_bytes_max,
                                 const struct sp_import_visitor *visitor, struct sp_error *error)
{
    struct maildir m = {.message_bytes_max = message_bytes_max, .visitor = visitor};
    DIR *dir = opendir(path);
    if (!dir)
        return path_error(path, error);
    closedir(dir);
    sp_buf_init(&m.mail, message_bytes_max);
    (void)count_folder(&m, path, inbox, error);
    (void)walk(&m, path, "", 0, count_folder, error);
    enum sp_status status = take_folder(&m, path, inbox, error);
    if (!status)
        status = walk(&m, path, "", 0, take_folder, error);
    if (!status && !m.any) {
        status = sp_error_set(error, SP_INVALID, path, "not a Maildir: it has neither cur nor new");
        sp_error_todo(error, "name the folder that holds cur, new and tmp");
    }
    sp_buf_release(&m.mail);
    return status;
}
