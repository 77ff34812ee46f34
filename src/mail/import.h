/* Import: mail from elsewhere put into a mailbox, for commands.
 *
 * Like APPEND with the origin noted: each message carries a name for its source item (a maildir
 * file name, an mbox offset with a digest), so that an import that was interrupted is run again and
 * takes only what is missing. Which items are there is asked once at the beginning: one importer
 * for an account at a time.
 *
 * The functions commit and wait: not from a plan, a callback or an event loop.
 */
#ifndef SP_MAIL_IMPORT_H
#define SP_MAIL_IMPORT_H

#include "mail/request.h"
#include "store/volume.h"

#define SP_IMPORT_MESSAGES_MAX  1000U /* in one call */
#define SP_IMPORT_ORIGIN_ID_MAX 1000U /* bytes */

struct sp_import_message {
    struct sp_slice bytes; /* all of it; a file's map, say */
    struct sp_flag_set flags;
    struct sp_date date;
    bool has_date; /* otherwise: now */
    struct sp_slice origin_id;
};
/* All or none, in one commit (pieces of long messages before). The mailbox and its parents are made
 * when missing, also for no messages. SP_NOT_FOUND: no such account; SP_INVALID: no name for a
 * mailbox, too long an origin id; SP_LIMIT: keywords, size; SP_UNAVAILABLE ... */
enum sp_status sp_import_messages(struct sp_volume *volume, const struct sp_uuid *account,
                                  struct sp_slice path, const struct sp_import_message *messages,
                                  uint32_t count, struct sp_error *error) SP_MUST_USE;
/* Calls back with the origin id of each message that has one. A mailbox that is not there has none.
 */
enum sp_status sp_import_origins(struct sp_volume *volume, const struct sp_uuid *account,
                                 struct sp_slice path,
                                 void (*each)(void *context, struct sp_slice origin_id),
                                 void *context, struct sp_error *error) SP_MUST_USE;

#endif
