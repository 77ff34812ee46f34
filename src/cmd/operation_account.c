/* Operations on accounts. */
#include "cmd/operation_internal.h"

#include "base/log.h"
#include "mail/account.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static enum sp_status account_json(const struct sp_uuid *id, struct sp_slice address,
                                   json_t **ret_result, struct sp_error *error)
{
    char text[SP_UUID_TEXT], lower[SP_ADDRESS_MAX + 1];
    size_t len = address.len < SP_ADDRESS_MAX ? address.len : SP_ADDRESS_MAX;
    for (size_t i = 0; i < len; i++)
        lower[i] = (char)sp_ascii_lower(address.ptr[i]);
    sp_uuid_text(id, text);
    json_t *result = json_pack("{s:s,s:s%}", "id", text, "address", lower, len);
    if (!result)
        return sp_operation_memory(error);
    *ret_result = result;
    return SP_OK;
}

enum sp_status sp_operation_find_account(struct sp_platform *platform, struct sp_slice address,
                                         struct sp_uuid *ret_id, struct sp_error *error)
{
    struct sp_read read;
    enum sp_status status = sp_read_begin(sp_volume_index(platform->volume), &read);
    if (!status) {
        status = sp_account_resolve(&read, address, ret_id);
        sp_read_end(&read);
    }
    if (!status)
        return SP_OK;
    char what[SP_ADDRESS_MAX + 1];
    snprintf(what, sizeof what, "%.*s",
             (int)(address.len < SP_ADDRESS_MAX ? address.len : SP_ADDRESS_MAX),
             (const char *)address.ptr);
    sp_error_set(error, status, what, "%s",
                 status == SP_NOT_FOUND || status == SP_DENIED ? "there is no such account"
                 : status == SP_INVALID                        ? "this is no address"
                                                               : sp_status_name(status));
    sp_error_todo(error, "%s", "see `sternpost account list`");
    return status;
}

enum sp_status sp_operation_account_add(struct sp_platform *platform, const json_t *parameters,
                                        json_t **ret_result, struct sp_error *error)
{
    const char *address, *password;
    struct sp_uuid id;
    enum sp_status status = sp_operation_text(parameters, "address", &address, error);
    if (!status)
        status = sp_operation_text(parameters, "password", &password, error);
    if (!status)
        status = sp_account_add(platform->volume, sp_slice_str(address), sp_slice_str(password),
                                &id, error);
    return status ? status : account_json(&id, sp_slice_str(address), ret_result, error);
}

enum sp_status sp_operation_account_passwd(struct sp_platform *platform, const json_t *parameters,
                                           json_t **ret_result, struct sp_error *error)
{
    const char *address, *password;
    struct sp_uuid id;
    enum sp_status status = sp_operation_text(parameters, "address", &address, error);
    if (!status)
        status = sp_operation_text(parameters, "password", &password, error);
    if (!status)
        status = sp_operation_find_account(platform, sp_slice_str(address), &id, error);
    if (!status)
        status = sp_account_set_password(platform->volume, sp_slice_str(address),
                                         sp_slice_str(password), error);
    return status ? status : account_json(&id, sp_slice_str(address), ret_result, error);
}

static void list_one(void *context, const struct sp_account_summary *summary)
{
    char id[SP_UUID_TEXT];
    sp_uuid_text(&summary->id, id);
    json_array_append_new(
        context,
        json_pack("{s:s%,s:s,s:i,s:I,s:I,s:b}", "address", (const char *)summary->address.ptr,
                  summary->address.len, "id", id, "mailboxes", (int)summary->mailboxes, "messages",
                  (json_int_t)summary->messages, "bytes", (json_int_t)summary->bytes, "protected",
                  summary->protected_ || summary->mailboxes_protected > 0));
}

static int by_address(const void *a, const void *b)
{
    return strcmp(json_string_value(json_object_get(*(json_t *const *)a, "address")),
                  json_string_value(json_object_get(*(json_t *const *)b, "address")));
}

static json_t *sorted(const json_t *rows)
{
    size_t count = json_array_size(rows);
    json_t **list = calloc(count + 1, sizeof(json_t *)), *result = json_array();
    for (size_t i = 0; list && i < count; i++)
        list[i] = json_array_get(rows, i);
    if (list)
        qsort(list, count, sizeof(json_t *), by_address);
    for (size_t i = 0; list && i < count; i++)
        json_array_append(result, list[i]);
    free(list);
    return result;
}

enum sp_status sp_operation_account_list(struct sp_platform *platform, const json_t *parameters,
                                         json_t **ret_result, struct sp_error *error)
{
    json_t *rows = json_array();
    enum sp_status status = sp_account_list(platform->volume, list_one, rows, error);
    json_t *result = status ? NULL : sorted(rows);
    if (!status && !result)
        status = sp_operation_memory(error);
    if (!status)
        *ret_result = result;
    json_decref(rows);
    return status;
}
