/* Any bytes as an mbox file: what comes out are messages in CRLF form, within the limit, none of
 * which is empty. */
#include "cmd/import_source.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LIMIT 4096U

static enum sp_status on_mailbox(void *context, const char *mailbox, struct sp_error *error)
{
    sp_assert(strcmp(mailbox, "INBOX") == 0);
    return SP_OK;
}

static enum sp_status on_message(void *context, const struct sp_import_item *item,
                                 struct sp_error *error)
{
    size_t *total = context;
    *total += item->bytes.len;
    sp_assert(item->bytes.len > 0 && item->bytes.len <= LIMIT);
    sp_assert(item->keywords_count <= SP_KEYWORDS_MAX &&
              (item->system_flags & ~SP_FLAG_SYSTEM) == 0);
    for (size_t i = 0; i < item->bytes.len; i++)
        sp_assert(item->bytes.ptr[i] != '\n' || (i > 0 && item->bytes.ptr[i - 1] == '\r'));
    return SP_OK;
}

static void on_skip(void *context, const char *source, const char *why)
{
    sp_assert(*source && *why);
}

static void on_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sp_error error = {0};
    size_t total = 0;
    const struct sp_import_visitor visitor = {&total, on_mailbox, on_message, on_skip, on_progress};
    FILE *file = size ? fmemopen((void *)(uintptr_t)data, size, "r") : NULL;
    if (!file)
        return 0;
    enum sp_status status = sp_import_mbox_file(file, "f", "INBOX", LIMIT, &visitor, &error);
    fclose(file);
    sp_assert(status == SP_OK || status == SP_INVALID);
    /* Every LF may have got a CR, and every message an empty line; nothing else is added. */
    sp_assert(total <= 2 * size + 2);
    return 0;
}
