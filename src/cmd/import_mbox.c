#include "cmd/import_source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define PIECE_BYTES  262144U
#define KEYWORDS_MAX SP_KEYWORDS_MAX

/* The file as lines; a line that is longer than a piece comes in several. */
struct lines {
    FILE *file;
    uint8_t *bytes; /* PIECE_BYTES */
    size_t from, to;
    uint64_t offset; /* of bytes[from] in the file */
    bool at_start;   /* of a line */
    bool ended;
};

static struct sp_slice next_line(struct lines *lines, bool *ret_starts)
{
    struct sp_slice unread = sp_slice(lines->bytes + lines->from, lines->to - lines->from);
    size_t end = sp_slice_find(unread, '\n');
    if (end == SIZE_MAX && !lines->ended) {
        memmove(lines->bytes, lines->bytes + lines->from, unread.len);
        lines->from = 0;
        lines->to = unread.len;
        while (lines->to < PIECE_BYTES && !lines->ended) {
            size_t n = fread(lines->bytes + lines->to, 1, PIECE_BYTES - lines->to, lines->file);
            lines->ended = n == 0;
            lines->to += n;
        }
        unread = sp_slice(lines->bytes, lines->to);
        end = sp_slice_find(unread, '\n');
    }
    struct sp_slice line = sp_slice_sub(unread, 0, end == SIZE_MAX ? unread.len : end + 1);
    lines->from += line.len;
    lines->offset += line.len;
    *ret_starts = lines->at_start;
    lines->at_start = end != SIZE_MAX;
    return line;
}

/* The message that is being read. */
struct message {
    struct sp_buf bytes;
    uint8_t previous;                      /* byte, for CRLF */
    uint64_t offset;                       /* of its From line */
    bool open, header, too_long, internal; /* internal: the format's own data, not a message */
    bool body;                             /* the empty line after the header was added */
    bool dropping; /* a field that is left out, with its continuation lines */
    bool blank;    /* an empty line that was not added yet: it belongs to the format if a From line
                      follows */
    uint32_t flags;
    struct sp_date date;
    struct sp_slice keywords[KEYWORDS_MAX];
    uint32_t keywords_count;
    struct sp_arena arena; /* of keywords */
};

static void flags_from(struct message *m, struct sp_slice letters)
{
    for (size_t i = 0; i < letters.len; i++) {
        switch (letters.ptr[i]) {
        case 'R':
            m->flags |= SP_FLAG_SEEN;
            break;
        case 'A':
            m->flags |= SP_FLAG_ANSWERED;
            break;
        case 'F':
            m->flags |= SP_FLAG_FLAGGED;
            break;
        case 'D':
            m->flags |= SP_FLAG_DELETED;
            break;
        case 'T':
            m->flags |= SP_FLAG_DRAFT;
            break;
        default:
            break;
        }
    }
}

static void keywords_from(struct message *m, struct sp_slice words)
{
    while (words.len && m->keywords_count < KEYWORDS_MAX) {
        size_t end = 0;
        while (end < words.len && words.ptr[end] != ' ' && words.ptr[end] != '\t')
            end++;
        struct sp_slice word = sp_slice_sub(words, 0, end);
        words = sp_slice_trim(sp_slice_from(words, end));
        struct sp_slice copy = sp_arena_copy(&m->arena, word);
        if (copy.len && copy.ptr && copy.len <= SP_KEYWORD_MAX)
            m->keywords[m->keywords_count++] = copy;
    }
}

/* Whether the line of the header is of a field that is no part of the message. */
static bool take_field(struct message *m, struct sp_slice line)
{
    static const struct sp_slice internal[] = {{(const uint8_t *)"X-UID:", 6},
                                               {(const uint8_t *)"X-IMAPbase:", 11},
                                               {(const uint8_t *)"X-IMAP:", 7}};
    const struct sp_slice status = SP_S("Status:"), x_status = SP_S("X-Status:"),
                          keywords = SP_S("X-Keywords:");
    if (sp_slice_starts_nocase(line, status)) {
        /* R: read. O: old, which no client of ours is told of. */
        if (sp_slice_find(sp_slice_from(line, status.len), 'R') != SIZE_MAX)
            m->flags |= SP_FLAG_SEEN;
        return true;
    }
    if (sp_slice_starts_nocase(line, x_status)) {
        flags_from(m, sp_slice_from(line, x_status.len));
        return true;
    }
    if (sp_slice_starts_nocase(line, keywords)) {
        keywords_from(m, sp_slice_trim(sp_slice_from(line, keywords.len)));
        return true;
    }
    for (size_t i = 0; i < sizeof internal / sizeof internal[0]; i++)
        if (sp_slice_starts_nocase(line, internal[i]))
            return true;
    if (sp_slice_starts_nocase(line,
                               SP_S("Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA")))
        m->internal = true;
    return false;
}

static void add_bytes(struct message *m, struct sp_slice bytes)
{
    if (!m->too_long)
        sp_import_add_crlf(&m->bytes, bytes, &m->previous);
    if (sp_buf_failed(&m->bytes)) {
        sp_buf_reset(&m->bytes);
        m->too_long = true;
    }
}

/* A line with a blank in it is not empty. */
static bool is_empty(struct sp_slice line)
{
    return sp_slice_eq(line, SP_S("\n")) || sp_slice_eq(line, SP_S("\r\n"));
}

/* A whole line, or a piece of one (starts: the first). */
static void add_line(struct message *m, struct sp_slice line, bool starts)
{
    bool empty = starts && is_empty(line);
    if (m->blank) {
        add_bytes(m, SP_S("\n"));
        m->blank = false;
        m->body = true;
    }
    if (empty) {
        m->header = m->dropping = false;
        m->blank = true;
        return;
    }
    if (m->header && starts) {
        bool continued = line.ptr[0] == ' ' || line.ptr[0] == '\t';
        m->dropping = continued ? m->dropping : take_field(m, line);
    }
    if (m->dropping)
        return;
    size_t quotes = 0;
    while (starts && quotes < line.len && line.ptr[quotes] == '>')
        quotes++;
    if (quotes && sp_slice_starts_nocase(sp_slice_from(line, quotes), SP_S("From ")) &&
        line.ptr[quotes] == 'F')
        line = sp_slice_from(line, 1);
    add_bytes(m, line);
}

static void begin(struct message *m, uint64_t offset, struct sp_date date)
{
    sp_buf_reset(&m->bytes);
    sp_arena_release(&m->arena);
    m->open = m->header = true;
    m->offset = offset;
    m->previous = 0;
    m->too_long = m->internal = m->dropping = m->blank = m->body = false;
    m->flags = 0;
    m->date = date;
    m->keywords_count = 0;
}

static enum sp_status finish(struct message *m, const char *name, const char *mailbox,
                             const struct sp_import_visitor *visitor, struct sp_error *error)
{
    char source[4200];
    if (!m->open || m->internal)
        return SP_OK;
    m->open = false;
    snprintf(source, sizeof source, "%.4000s, byte %" PRIu64, name, m->offset);
    if (m->too_long || m->bytes.len == 0) {
        visitor->skip(visitor->context, source,
                      m->too_long ? "longer than message_bytes_max, or no memory for it"
                                  : "no message: it is empty");
        return SP_OK;
    }
    if (!m->body) /* the empty line that ends a header belongs to the message, even where the
                     format's is the only one */
        add_bytes(m, SP_S("\n"));
    struct sp_import_item item = {
        .source = source,
        .mailbox = mailbox,
        .system_flags = m->flags,
        .keywords = m->keywords,
        .keywords_count = m->keywords_count,
        .date = m->date,
        .bytes = sp_buf_slice(&m->bytes),
    };
    return visitor->message(visitor->context, &item, error);
}

static enum sp_status not_mbox(const char *name, struct sp_error *error)
{
    sp_error_set(error, SP_INVALID, name,
                 "not an mbox file: it does not begin with a line `From address date`");
    sp_error_todo(error, "for a folder of files use `sternpost import maildir`");
    return SP_INVALID;
}

static enum sp_status read_messages(struct lines *lines, struct message *m, const char *name,
                                    const char *mailbox, uint64_t total,
                                    const struct sp_import_visitor *visitor, struct sp_error *error)
{
    bool after_blank = true, first = true;
    for (;;) {
        bool starts;
        uint64_t offset = lines->offset;
        struct sp_date date;
        struct sp_slice line = next_line(lines, &starts);
        if (line.len == 0)
            break;
        if (starts && after_blank && sp_import_from_line(line, &date)) {
            enum sp_status status = finish(m, name, mailbox, visitor, error);
            if (status)
                return status;
            visitor->progress(visitor->context, offset, total);
            begin(m, offset, date);
            first = after_blank = false;
            continue;
        }
        bool blank = starts && is_empty(line);
        if (first && !blank)
            return not_mbox(name, error);
        after_blank = blank;
        if (m->open)
            add_line(m, line, starts);
    }
    return finish(m, name, mailbox, visitor, error);
}

enum sp_status sp_import_mbox_file(FILE *file, const char *name, const char *inbox,
                                   uint64_t message_bytes_max,
                                   const struct sp_import_visitor *visitor, struct sp_error *error)
{
    struct lines lines = {.file = file, .bytes = malloc(PIECE_BYTES), .at_start = true};
    struct message message = {0};
    struct stat facts;
    uint64_t total =
        fileno(file) >= 0 && fstat(fileno(file), &facts) == 0 ? (uint64_t)facts.st_size : 0;
    sp_buf_init(&message.bytes, message_bytes_max);
    sp_arena_init(&message.arena, 65536);
    enum sp_status status =
        lines.bytes ? SP_OK : sp_error_set(error, SP_NO_MEMORY, name, "no memory");
    if (!status)
        status = visitor->mailbox(visitor->context, inbox, error);
    if (!status)
        status = read_messages(&lines, &message, name, inbox, total, visitor, error);
    if (!status && ferror(file)) {
        status = sp_error_set(error, SP_IO, name, "%s", strerror(errno));
        sp_error_todo(error,
                      "what comes before byte %" PRIu64
                      " is imported; run this again when it can be read",
                      lines.offset);
    }
    if (!status)
        visitor->progress(visitor->context, total, total);
    free(lines.bytes);
    sp_buf_release(&message.bytes);
    sp_arena_release(&message.arena);
    return status;
}

enum sp_status sp_import_mbox(const char *path, const char *inbox, uint64_t message_bytes_max,
                              const struct sp_import_visitor *visitor, struct sp_error *error)
{
    struct stat facts;
    FILE *file = fopen(path, "re");
    if (!file || fstat(fileno(file), &facts)) {
        sp_error_set(error, errno == ENOENT ? SP_NOT_FOUND : SP_IO, path, "%s", strerror(errno));
        sp_error_todo(error, "name an mbox file that can be read");
        if (file)
            fclose(file);
        return error->status;
    }
    enum sp_status status;
    if (S_ISDIR(facts.st_mode))
        status = not_mbox(path, error);
    else
        status = sp_import_mbox_file(file, path, inbox, message_bytes_max, visitor, error);
    fclose(file);
    return status;
}
