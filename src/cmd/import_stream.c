/* The command's side of an import. */
#include "cmd/import_stream.h"

#include "mail/account.h"

#include <stdio.h>
#include <stdlib.h>

static enum sp_status lost_server(enum sp_status status, struct sp_error *error)
{
    enum sp_status told = status == SP_EOF ? SP_SHUTDOWN : status;
    sp_error_set(error, told, "server", "the connection was lost (%s)", sp_status_name(status));
    sp_error_todo(error,
                  "run the import again when the server is there: it goes on where it stopped");
    return told;
}

/* An answer: its result (borrowed from *ret_reply, which is the caller's), or the server's error.
 */
static enum sp_status read_answer(struct sp_import_target *target, json_int_t *ret_result,
                                  struct sp_error *error)
{
    json_t *reply;
    enum sp_status status = sp_line_stream_json(target->stream, SP_IMPORT_LINE_MAX, &reply);
    if (status)
        return lost_server(status, error);
    const json_t *problem = json_object_get(reply, "error");
    if (problem) {
        sp_control_error_read(problem, error);
        status = error->status;
    } else {
        *ret_result = json_integer_value(json_object_get(reply, "result"));
    }
    json_decref(reply);
    return status;
}

enum sp_status sp_import_target_open(const struct sp_config *config, const char *address,
                                     struct sp_import_target *ret_target, struct sp_error *error)
{
    struct sp_import_target target = {0};
    enum sp_status status = sp_access_open(config, &target.access, error);
    if (status)
        return status;
    if (target.access.open) {
        status = sp_operation_find_account(&target.access.platform, sp_slice_str(address),
                                           &target.account, error);
    } else {
        json_t *parameters = json_pack("{s:s}", "address", address), *result = NULL;
        target.stream = malloc(sizeof *target.stream);
        if (!parameters || !target.stream) {
            status = sp_error_set(error, SP_NO_MEMORY, "import", "no memory");
        } else {
            sp_line_stream_init(target.stream, target.access.control_fd);
            status =
                sp_control_call(target.access.control_fd, "import", parameters, &result, error);
        }
        json_decref(parameters);
        json_decref(result);
    }
    if (status)
        sp_import_target_close(&target);
    else
        *ret_target = target;
    return status;
}

void sp_import_target_close(struct sp_import_target *target)
{
    free(target->stream);
    target->stream = NULL;
    sp_access_close(&target->access);
}

struct collect {
    struct sp_import_keys *known;
    enum sp_status status;
};

static void collect_origin(void *context, struct sp_slice origin_id)
{
    struct collect *collect = context;
    struct sp_import_key key;
    uint32_t before;
    if (collect->status || origin_id.len != sizeof key.bytes)
        return;
    memcpy(key.bytes, origin_id.ptr, sizeof key.bytes);
    collect->status = sp_import_keys_add(collect->known, &key, &before);
}

static enum sp_status remote_origins(struct sp_import_target *target, struct collect *collect,
                                     struct sp_error *error)
{
    json_int_t count = 0;
    json_t *request = json_pack("{s:s}", "mailbox", target->mailbox);
    enum sp_status status =
        request ? sp_line_stream_write_json(target->access.control_fd, request) : SP_NO_MEMORY;
    json_decref(request);
    if (status)
        return lost_server(status, error);
    status = read_answer(target, &count, error);
    for (json_int_t i = 0; i < count && !status; i++) {
        uint8_t id[SP_IMPORT_KEY_BYTES];
        status = sp_line_stream_bytes(target->stream, id, sizeof id);
        if (status)
            return lost_server(status, error);
        collect_origin(collect, sp_slice(id, sizeof id));
    }
    return status;
}

enum sp_status sp_import_target_mailbox(struct sp_import_target *target, const char *mailbox,
                                        struct sp_import_keys *known, struct sp_error *error)
{
    struct collect collect = {.known = known};
    if ((size_t)snprintf(target->mailbox, sizeof target->mailbox, "%s", mailbox) >=
        sizeof target->mailbox)
        return sp_error_set(error, SP_INVALID, "import", "the name of a mailbox is too long");
    enum sp_status status;
    if (target->access.open)
        status = sp_import_origins(target->access.platform.volume, &target->account,
                                   sp_slice_str(mailbox), collect_origin, &collect, error);
    else
        status = remote_origins(target, &collect, error);
    if (!status && collect.status)
        status = sp_error_set(error, collect.status, "import", "no memory");
    return status;
}

static json_t *message_json(const struct sp_import_message *message)
{
    char origin[2 * SP_IMPORT_KEY_BYTES + 1];
    sp_assert(message->origin_id.len == SP_IMPORT_KEY_BYTES);
    sodium_bin2hex(origin, sizeof origin, message->origin_id.ptr, message->origin_id.len);
    json_t *json =
        json_pack("{s:I,s:i,s:I,s:i,s:s}", "bytes", (json_int_t)message->bytes.len, "flags",
                  (int)message->flags.system, "date", (json_int_t)message->date.unix_s, "zone",
                  (int)message->date.zone_min, "origin", origin);
    if (json && message->flags.keywords_count) {
        json_t *keywords = json_array();
        for (uint32_t i = 0; i < message->flags.keywords_count; i++) {
            struct sp_slice keyword = message->flags.keywords[i];
            json_array_append_new(keywords, json_stringn((const char *)keyword.ptr, keyword.len));
        }
        json_object_set_new(json, "keywords", keywords);
    }
    return json;
}

static enum sp_status remote_put(struct sp_import_target *target,
                                 const struct sp_import_message *messages, uint32_t count,
                                 struct sp_error *error)
{
    json_int_t taken = 0;
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(list, message_json(&messages[i]));
    json_t *request = json_array_size(list) == count ? json_pack("{s:O}", "messages", list) : NULL;
    enum sp_status status =
        request ? sp_line_stream_write_json(target->access.control_fd, request) : SP_NO_MEMORY;
    for (uint32_t i = 0; i < count && !status; i++)
        status = sp_line_stream_write(target->access.control_fd, messages[i].bytes);
    json_decref(list);
    json_decref(request);
    return status ? lost_server(status, error) : read_answer(target, &taken, error);
}

enum sp_status sp_import_target_put(struct sp_import_target *target,
                                    const struct sp_import_message *messages, uint32_t count,
                                    struct sp_error *error)
{
    if (!target->access.open)
        return remote_put(target, messages, count, error);
    return sp_import_messages(target->access.platform.volume, &target->account,
                              sp_slice_str(target->mailbox), messages, count, error);
}
