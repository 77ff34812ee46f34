/* Operations on space: compaction, bringing back. */
#include "cmd/operation_internal.h"

#include "mail/undelete.h"

#include <stdlib.h>

enum sp_status sp_operation_compact(struct sp_platform *platform, const json_t *parameters,
                                    json_t **ret_result, struct sp_error *error)
{
    (void)parameters;
    sp_volume_compact_now(platform->volume);
    *ret_result = json_object();
    return *ret_result ? SP_OK : sp_operation_memory(error);
}

enum sp_status sp_operation_compaction(struct sp_platform *platform, const json_t *parameters,
                                       json_t **ret_result, struct sp_error *error)
{
    struct sp_retired_segment *list = NULL;
    struct sp_volume_status status;
    size_t count = 0, past = 0;
    uint64_t bytes = 0;
    (void)parameters;
    enum sp_status outcome = sp_volume_retired(platform->volume, &list, &count, error);
    if (outcome)
        return outcome;
    for (size_t i = 0; i < count; i++) {
        bytes += list[i].bytes;
        past += list[i].past_hold;
    }
    free(list);
    sp_volume_status(platform->volume, &status);
    *ret_result = json_pack(
        "{s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "running", (int)status.compact_running,
        "done_segments", (json_int_t)status.compact_done_segments, "total_segments",
        (json_int_t)status.compact_total_segments, "merged", (json_int_t)status.compact_merged,
        "dropped_bytes", (json_int_t)status.compact_dropped_bytes, "finished",
        (json_int_t)(status.compact_finished_ns / 1000000000U), "segments",
        (json_int_t)status.segments, "retired_segments", (json_int_t)count, "retired_past_hold",
        (json_int_t)past, "retired_bytes", (json_int_t)bytes);
    return *ret_result ? SP_OK : sp_operation_memory(error);
}

static struct sp_slice optional_text(const json_t *parameters, const char *name)
{
    const char *text = json_string_value(json_object_get(parameters, name));
    return text ? sp_slice_str(text) : (struct sp_slice){NULL, 0};
}

enum sp_status sp_operation_undelete(struct sp_platform *platform, const json_t *parameters,
                                     json_t **ret_result, struct sp_error *error)
{
    struct sp_undelete undelete = {.mailbox = optional_text(parameters, "mailbox")};
    struct sp_undelete_outcome outcome;
    const char *address;
    json_int_t since_s = json_integer_value(json_object_get(parameters, "since"));
    enum sp_status status = sp_operation_text(parameters, "address", &address, error);
    if (!status)
        status =
            sp_operation_find_account(platform, sp_slice_str(address), &undelete.account, error);
    if (since_s > 0)
        undelete.since_ns = (uint64_t)since_s * 1000000000U;
    if (!status)
        status = sp_mail_undelete(platform->volume, &undelete, &outcome, error);
    if (status)
        return status;
    *ret_result = json_pack("{s:I,s:I,s:I,s:i}", "messages", (json_int_t)outcome.messages,
                            "passed_over", (json_int_t)outcome.passed_over, "gone",
                            (json_int_t)outcome.gone, "mailboxes", (int)outcome.mailboxes);
    return *ret_result ? SP_OK : sp_operation_memory(error);
}
