/* Imported messages on their way into the volume: straight, or through the control socket of a
 * running server.
 *
 * On the socket, after {"operation": "import", "parameters": {"address": "..."}} and its result,
 * the command sends any number of these, one after the other, and waits for each answer:
 *
 *     -> {"mailbox": "A/B"}
 *     <- {"result": COUNT}, then COUNT origin ids of 16 bytes: what of that mailbox was imported
 * before
 *     -> {"messages": [{"bytes": N, "flags": F, "keywords": [...], "date": S, "zone": MIN,
 * "origin": "hex"}, ...]}, then the bytes of all of them
 *     <- {"result": COUNT} or {"error": {...}}: all of them or none
 *
 * Limits: SP_IMPORT_LINE_MAX, SP_IMPORT_BATCH_MESSAGES, SP_IMPORT_BATCH_BYTES and one message of
 * message_bytes_max. One import at a time in a server.
 */
#ifndef SP_CMD_IMPORT_STREAM_H
#define SP_CMD_IMPORT_STREAM_H

#include "cmd/control.h"
#include "cmd/import_keys.h"
#include "cmd/operation.h"
#include "mail/import.h"

#define SP_IMPORT_LINE_MAX       (4U << 20)
#define SP_IMPORT_BATCH_MESSAGES 256U
#define SP_IMPORT_BATCH_BYTES    (8U << 20)

struct sp_import_target {
    struct sp_access access;
    struct sp_line_stream *stream; /* of the control socket */
    struct sp_uuid account;        /* without a server */
    char mailbox[SP_MAILBOX_NAME_MAX + 1];
};
/* Finds the account. SP_NOT_FOUND, SP_UNAVAILABLE (an import runs) ... */
enum sp_status sp_import_target_open(const struct sp_config *config, const char *address,
                                     struct sp_import_target *ret_target,
                                     struct sp_error *error) SP_MUST_USE;
void sp_import_target_close(struct sp_import_target *target);
/* Goes on with this mailbox; puts the ids of what was imported into it into *known. */
enum sp_status sp_import_target_mailbox(struct sp_import_target *target, const char *mailbox,
                                        struct sp_import_keys *known,
                                        struct sp_error *error) SP_MUST_USE;
/* All or none. SP_INVALID, SP_LIMIT: one of them cannot be taken. Anything else: the import cannot
 * go on. */
enum sp_status sp_import_target_put(struct sp_import_target *target,
                                    const struct sp_import_message *messages, uint32_t count,
                                    struct sp_error *error) SP_MUST_USE;

/* The server's side: answers the request and whatever follows, until the command closes the
 * connection. */
void sp_import_serve(struct sp_platform *platform, struct sp_line_stream *stream,
                     const json_t *parameters);

#endif
