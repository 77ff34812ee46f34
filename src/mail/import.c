#include "mail/import.h"
#include "mail/deliver.h"
#include "mail/mailbox.h"

#include <stdlib.h>

struct import {
    struct sp_uuid account;
    struct sp_slice path;
    struct sp_arrival *arrivals;
    uint32_t count;
};

static enum sp_status import_plan(struct sp_plan *plan, void *context)
{
    const struct import *import = context;
    struct sp_mailbox mailbox = {0};
    uint32_t first;
    enum sp_status status =
        sp_index_mailbox_by_path(sp_plan_read(plan), &import->account, import->path, &mailbox);
    bool create = status == SP_NOT_FOUND;
    if (status == SP_OK)
        status = sp_plan_keep_mailbox(plan, &mailbox);
    else if (!create)
        return status;
    else
        mailbox.row.uidnext = 1;
    if (status == SP_OK || create)
        status = sp_plan_check_arrivals(&mailbox, import->arrivals, import->count);
    if (status == SP_OK && create)
        status = sp_plan_create_path(plan, &import->account, import->path, 0, &mailbox);
    if (status || !import->count)
        return status;
    return sp_plan_emit_arrivals(plan, &mailbox, import->arrivals, import->count, &first);
}

struct chunk {
    struct sp_slice payload;
    uint64_t lsn;
};

static enum sp_status chunk_plan(struct sp_plan *plan, void *context)
{
    static const struct sp_uuid nobody;
    struct chunk *chunk = context;
    return sp_plan_emit(plan, SP_RECORD_BODY_CHUNK, &nobody, 0, chunk->payload, &chunk->lsn);
}

/* Parses, digests and codes a message; the pieces of a long one go into the log at once. */
static enum sp_status prepare(struct sp_volume *volume, struct sp_slice bytes,
                              struct sp_prepared *ret_prepared, struct sp_error *error)
{
    struct sp_body *body = bytes.len <= UINT32_MAX ? sp_body_new() : NULL;
    if (!body)
        return bytes.len <= UINT32_MAX ? SP_NO_MEMORY : SP_LIMIT;
    enum sp_status status = SP_OK;
    while (status == SP_OK && bytes.len > SP_BODY_PIECE_MAX) {
        struct sp_buf payload;
        bool full = false;
        status = sp_body_add(body, sp_slice_sub(bytes, 0, SP_BODY_PIECE_MAX), &payload, &full);
        bytes = sp_slice_from(bytes, SP_BODY_PIECE_MAX);
        if (status || !full)
            continue;
        struct chunk chunk = {.payload = sp_buf_slice(&payload)};
        status = sp_volume_commit(volume, chunk_plan, &chunk, error);
        sp_buf_release(&payload);
        if (status == SP_OK && !sp_body_add_lsn(body, chunk.lsn))
            status = SP_NO_MEMORY;
    }
    if (status == SP_OK)
        status = sp_body_finish(body, bytes, ret_prepared);
    sp_body_free(body);
    return status;
}

/* A plan's refusal comes back with its status for a reason. */
static bool unexplained(enum sp_status status, const struct sp_error *error)
{
    return error && (!error->why[0] || strcmp(error->why, sp_status_name(status)) == 0);
}

static enum sp_status explain(enum sp_status status, struct sp_error *error)
{
    if (!status || !unexplained(status, error))
        return status;
    return sp_error_set(error, status, "import", "%s",
                        status == SP_NOT_FOUND ? "there is no such account"
                        : status == SP_INVALID
                            ? "that is no name for a mailbox, no keyword, or too long an origin id"
                        : status == SP_LIMIT ? "too long a message"
                                             : sp_status_name(status));
}

enum sp_status sp_import_messages(struct sp_volume *volume, const struct sp_uuid *account,
                                  struct sp_slice path, const struct sp_import_message *messages,
                                  uint32_t count, struct sp_error *error)
{
    struct import import = {.account = *account, .path = path};
    if (error)
        *error = (struct sp_error){0};
    if (!sp_mailbox_path_ok(path) || count > SP_IMPORT_MESSAGES_MAX)
        return explain(SP_INVALID, error);
    import.arrivals = calloc(count + 1, sizeof *import.arrivals);
    enum sp_status status = import.arrivals ? SP_OK : SP_NO_MEMORY;
    while (status == SP_OK && import.count < count) {
        const struct sp_import_message *message = &messages[import.count];
        struct sp_arrival *arrival = &import.arrivals[import.count];
        if (message->origin_id.len > SP_IMPORT_ORIGIN_ID_MAX) {
            status = SP_INVALID;
            break;
        }
        status = prepare(volume, message->bytes, &arrival->prepared, error);
        if (status)
            break;
        arrival->flags = &message->flags;
        arrival->date = message->date;
        arrival->has_date = message->has_date;
        arrival->origin = SP_ORIGIN_IMPORT;
        arrival->origin_id = message->origin_id;
        import.count++;
    }
    if (status == SP_OK)
        status = sp_volume_commit(volume, import_plan, &import, error);
    if (import.arrivals)
        sp_arrivals_release(import.arrivals, import.count);
    free(import.arrivals);
    return explain(status, error);
}

static enum sp_status list_origins(struct sp_read *read, const struct sp_mailbox *mailbox,
                                   void (*each)(void *context, struct sp_slice origin_id),
                                   void *context)
{
    struct sp_flag_cursor flags;
    struct sp_message_cursor cursor = {0};
    struct sp_flag_row row;
    struct sp_arena arena;
    enum sp_status status =
        sp_flag_cursor_open(read, &mailbox->account, mailbox->row.id, 1, 0, &flags);
    if (status)
        return status;
    status = sp_message_cursor_open(read, &mailbox->account, mailbox->row.id, &cursor);
    sp_arena_init(&arena, 1U << 20);
    while (status == SP_OK && (status = sp_flag_cursor_next(&flags, &row)) == SP_OK) {
        struct sp_slice payload;
        struct sp_message message;
        uint64_t lsn, time_ns;
        status = sp_message_cursor_get(&cursor, row.uid, &payload, &lsn, &time_ns);
        if (status == SP_OK)
            status = sp_message_read(payload, &arena, &message);
        if (status == SP_OK && message.origin_id.len)
            each(context, message.origin_id);
        sp_arena_release(&arena);
    }
    sp_message_cursor_close(&cursor);
    sp_flag_cursor_close(&flags);
    return status == SP_EOF ? SP_OK : status;
}

enum sp_status sp_import_origins(struct sp_volume *volume, const struct sp_uuid *account,
                                 struct sp_slice path,
                                 void (*each)(void *context, struct sp_slice origin_id),
                                 void *context, struct sp_error *error)
{
    struct sp_read read;
    struct sp_mailbox mailbox;
    enum sp_status status = sp_read_begin(sp_volume_index(volume), &read);
    if (status == SP_OK) {
        status = sp_index_mailbox_by_path(&read, account, path, &mailbox);
        status = status == SP_OK          ? list_origins(&read, &mailbox, each, context)
                 : status == SP_NOT_FOUND ? SP_OK
                                          : status;
        sp_read_end(&read);
    }
    return status ? sp_error_set(error, status, "import", "the index cannot be read") : SP_OK;
}
