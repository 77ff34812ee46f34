/* Where imported messages come from: Maildirs and mbox files.
 *
 * Model. A source calls back once for each message, in the source's order, with the message in CRLF
 * form and what the source says of it; and once for each thing that it cannot make a message of. It
 * changes nothing in the source.
 *
 * Maildir. `cur` and `new` of PATH and of the folders below it that have them: `.A.B`, as Maildir++
 * has it, or plainly A/B; both are the mailbox A/B. Names are in modified UTF-7, or in UTF-8. Flags
 * are the letters after `:2,`; small letters are keywords, named in `dovecot-keywords`. Internal
 * date: the file's mtime. Order: by file name, which begins with the time of delivery.
 *
 * mbox. A message begins with a line `From address date` at the start of the file or after an empty
 * line; lengths (Content-Length, Lines) are not believed. `>From ` and `>>From ` lose one `>`
 * (mboxrd). Status, X-Status, X-Keywords and the like, which the format's programs rewrite as they
 * go, become flags and are left out. Internal date: that of the From line, UTC unless it names a
 * zone.
 *
 * Limits: a message of message_bytes_max, a mailbox name of SP_MAILBOX_NAME_MAX bytes; a file's
 * list of names is held in memory.
 */
#ifndef SP_CMD_IMPORT_SOURCE_H
#define SP_CMD_IMPORT_SOURCE_H

#include "base/buf.h"
#include "mail/request.h"

#include <stdio.h>

struct sp_import_item {
    const char *source;  /* what it is, for a person: "cur/1700000000.1.host:2,S" or "inbox.mbox,
                            byte 1234" */
    const char *mailbox; /* path, UTF-8 */
    uint32_t system_flags;
    struct sp_slice *keywords;
    uint32_t keywords_count;
    struct sp_date date;
    struct sp_slice bytes;
};

/* All that is lent to a callback is valid for that call. */
struct sp_import_visitor {
    void *context;
    /* Before a mailbox's messages; again for the next. SP_OK or what ends the import. */
    enum sp_status (*mailbox)(void *context, const char *mailbox, struct sp_error *error);
    /* SP_OK or what ends the import. */
    enum sp_status (*message)(void *context, const struct sp_import_item *item,
                              struct sp_error *error);
    /* Something that is left out, and why. */
    void (*skip)(void *context, const char *source, const char *why);
    /* Bytes of the source dealt with so far, of how many. */
    void (*progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);
};

/* inbox: the mailbox for the Maildir's own messages, and for those of an mbox. SP_NOT_FOUND, SP_IO,
 * SP_INVALID (not a Maildir, not an mbox), SP_NO_MEMORY, or what a callback returned. */
enum sp_status sp_import_maildir(const char *path, const char *inbox, uint64_t message_bytes_max,
                                 const struct sp_import_visitor *visitor,
                                 struct sp_error *error) SP_MUST_USE;
enum sp_status sp_import_mbox(const char *path, const char *inbox, uint64_t message_bytes_max,
                              const struct sp_import_visitor *visitor,
                              struct sp_error *error) SP_MUST_USE;
/* The same from an open file; name is for messages. */
enum sp_status sp_import_mbox_file(FILE *file, const char *name, const char *inbox,
                                   uint64_t message_bytes_max,
                                   const struct sp_import_visitor *visitor,
                                   struct sp_error *error) SP_MUST_USE;

/* ---- Parts, for tests ---- */

/* Appends text with each LF that no CR precedes as CRLF. *previous: the byte before, 0 at the
 * beginning; is set to the last. */
void sp_import_add_crlf(struct sp_buf *buf, struct sp_slice text, uint8_t *previous);
/* Whether line (with or without its line end) separates messages of an mbox, and its date. */
bool sp_import_from_line(struct sp_slice line, struct sp_date *ret_date);

#endif
