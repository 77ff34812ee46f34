/* Operations on space: compaction, bringing back, erasing. */
#include "cmd/operation_internal.h"

#include "mail/undelete.h"

#include <stdlib.h>

#define UIDS_MAX 10000U /* spans in one erasure */

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

/* [[first, last], ...], ascending. */
static enum sp_status read_uids(const json_t *list, struct sp_span *spans, uint32_t *ret_count,
                                struct sp_error *error)
{
    size_t count = json_array_size(list);
    uint64_t after = 0;
    if (count > UIDS_MAX)
        return sp_error_set(error, SP_LIMIT, "operation", "more than %u ranges of UIDs", UIDS_MAX);
    for (size_t i = 0; i < count; i++) {
        const json_t *range = json_array_get(list, i);
        json_int_t first = json_integer_value(json_array_get(range, 0));
        json_int_t last = json_integer_value(json_array_get(range, 1));
        if (first < 1 || last < first || last > UINT32_MAX || (uint64_t)first <= after)
            return sp_error_set(error, SP_INVALID, "operation", "the UIDs are no ascending ranges");
        spans[i] = (struct sp_span){(uint64_t)first, (uint64_t)last};
        after = (uint64_t)last;
    }
    *ret_count = (uint32_t)count;
    return SP_OK;
}

static enum sp_status whose(struct sp_platform *platform, const json_t *parameters,
                            struct sp_erasure *erasure, struct sp_error *error)
{
    struct sp_slice removed = optional_text(parameters, "removed");
    const char *address;
    if (removed.len) {
        erasure->removed = true;
        return sp_uuid_parse(removed, &erasure->account) == SP_OK
                   ? SP_OK
                   : sp_error_set(error, SP_INVALID, "removed account", "this is no UUID");
    }
    enum sp_status status = sp_operation_text(parameters, "address", &address, error);
    return status ? status
                  : sp_operation_find_account(platform, sp_slice_str(address), &erasure->account,
                                              error);
}

enum sp_status sp_operation_erase(struct sp_platform *platform, const json_t *parameters,
                                  json_t **ret_result, struct sp_error *error)
{
    struct sp_erasure erasure = {.mailbox = optional_text(parameters, "mailbox"),
                                 .who = optional_text(parameters, "who"),
                                 .why = optional_text(parameters, "why")};
    uint64_t expunged = 0;
    struct sp_span *spans = calloc(UIDS_MAX, sizeof *spans);
    if (!spans)
        return sp_operation_memory(error);
    erasure.uids.ptr = spans;
    enum sp_status status =
        read_uids(json_object_get(parameters, "uids"), spans, &erasure.uids.count, error);
    if (!status && erasure.uids.count && !erasure.mailbox.len)
        status = sp_error_set(error, SP_INVALID, "operation", "UIDs are of a mailbox: name it");
    if (!status && (erasure.who.len > 1000 || erasure.why.len > 10000))
        status = sp_error_set(error, SP_LIMIT, "operation", "the reason is too long");
    if (!status)
        status = whose(platform, parameters, &erasure, error);
    if (!status)
        status = sp_mail_erase(platform->volume, &erasure, &expunged, error);
    free(spans);
    if (status)
        return status;
    *ret_result = json_pack("{s:I}", "expunged", (json_int_t)expunged);
    return *ret_result ? SP_OK : sp_operation_memory(error);
}
