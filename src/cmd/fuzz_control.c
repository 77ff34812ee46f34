/* What comes over the control socket: lines of JSON, and an import with its messages.
 *
 * The first byte says in which pieces the bytes arrive; the rest are they. The first line is a
 * request: its parameters begin an import, over a mail that refuses some mailboxes. Checked: mail
 * gets only what keeps to the limits; the output is made of answers, not more than lines came in;
 * an error that was read can be written, whatever it says. */
#include "cmd/import_stream.h"

#include "base/log.h"

#include <sys/socket.h>

#define MESSAGE_MAX 2000U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sp_slice input;
static size_t piece;
static struct sp_buf output;

/* ---- The socket ---- */

ssize_t __wrap_recv(int fd, void *bytes, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t len, int flags);

ssize_t __wrap_recv(int fd, void *bytes, size_t len, int flags)
{
    size_t n = input.len < piece ? input.len : piece;
    n = n < len ? n : len;
    if (n)
        memcpy(bytes, input.ptr, n);
    input = sp_slice_from(input, n);
    return (ssize_t)n;
}

ssize_t __wrap_send(int fd, const void *bytes, size_t len, int flags)
{
    sp_buf_add(&output, sp_slice(bytes, len));
    return (ssize_t)len;
}

/* ---- Mail ---- */

enum sp_status sp_operation_find_account(struct sp_platform *platform, struct sp_slice address,
                                         struct sp_uuid *ret_id, struct sp_error *error)
{
    *ret_id = (struct sp_uuid){{1}};
    return address.len ? SP_OK : sp_error_set(error, SP_NOT_FOUND, "account", "no such account");
}

enum sp_status sp_import_origins(struct sp_volume *volume, const struct sp_uuid *account,
                                 struct sp_slice path,
                                 void (*each)(void *context, struct sp_slice origin_id),
                                 void *context, struct sp_error *error)
{
    sp_assert(path.len <= SP_MAILBOX_NAME_MAX);
    each(context, SP_S("an id of other length"));
    return sp_slice_starts_nocase(path, SP_S("no"))
               ? sp_error_set(error, SP_INVALID, "import", "%.*s", (int)path.len, path.ptr)
               : SP_OK;
}

enum sp_status sp_import_messages(struct sp_volume *volume, const struct sp_uuid *account,
                                  struct sp_slice path, const struct sp_import_message *messages,
                                  uint32_t count, struct sp_error *error)
{
    size_t bytes = 0;
    sp_assert(path.len <= SP_MAILBOX_NAME_MAX && count <= SP_IMPORT_BATCH_MESSAGES);
    for (uint32_t i = 0; i < count; i++) {
        const struct sp_import_message *message = &messages[i];
        sp_assert(message->bytes.len && message->bytes.len <= MESSAGE_MAX);
        sp_assert(message->origin_id.len == SP_IMPORT_KEY_BYTES);
        sp_assert(message->date.zone_min >= -1440 && message->date.zone_min <= 1440);
        sp_assert((message->flags.system & ~SP_FLAG_SYSTEM) == 0);
        sp_assert(message->flags.keywords_count <= SP_KEYWORDS_MAX);
        for (uint32_t k = 0; k < message->flags.keywords_count; k++)
            bytes += sp_crc32c(0, message->flags.keywords[k]) & 1U; /* they can be read */
        bytes += sp_crc32c(sp_crc32c(0, message->origin_id), message->bytes) & 1U;
    }
    sp_assert(bytes <= (SP_KEYWORDS_MAX + 1U) * (size_t)count);
    return sp_slice_starts_nocase(path, SP_S("no"))
               ? sp_error_set(error, SP_LIMIT, "import", "too long a message")
               : SP_OK;
}

/* ---- What is checked ---- */

static void check_error(const json_t *json)
{
    struct sp_error error, again;
    sp_control_error_read(json, &error);
    sp_assert(error.status);
    json_t *written = sp_control_error_json(&error);
    sp_assert(written); /* whatever the error says: an answer must come */
    sp_control_error_read(json_object_get(written, "error"), &again);
    /* A text that was cut within a character has other bytes, and as many. */
    sp_assert(again.status == error.status && strlen(again.what) == strlen(error.what) &&
              strlen(again.why) == strlen(error.why) && strlen(again.todo) == strlen(error.todo));
    json_decref(written);
}

static size_t count_lines(struct sp_slice bytes)
{
    size_t lines = 0;
    for (size_t i = 0; i < bytes.len; i++)
        lines += bytes.ptr[i] == '\n';
    return lines;
}

static void check_output(size_t most)
{
    struct sp_slice rest = sp_buf_slice(&output);
    sp_assert(!sp_buf_failed(&output) && count_lines(rest) <= most);
    while (rest.len) {
        size_t end = sp_slice_find(rest, '\n');
        sp_assert(end != SIZE_MAX);
        json_t *answer = json_loadb((const char *)rest.ptr, end, JSON_REJECT_DUPLICATES, NULL);
        sp_assert(json_object_size(answer) == 1);
        sp_assert(json_is_integer(json_object_get(answer, "result")) ||
                  json_is_object(json_object_get(answer, "error")));
        json_decref(answer);
        rest = sp_slice_from(rest, end + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sp_line_stream stream;
    static const struct sp_config config = {.message_bytes_max = MESSAGE_MAX};
    struct sp_platform platform = {.config = &config};
    json_t *request = NULL;
    if (!size)
        return 0;
    sp_log_set_level(SP_LOG_ERROR);
    input = sp_slice(data + 1, size - 1);
    piece = (size_t)data[0] * data[0] + 1;
    sp_buf_init(&output, 64U << 20);
    size_t most = count_lines(input);
    sp_line_stream_init(&stream, 0);
    if (sp_line_stream_json(&stream, SP_CONTROL_REQUEST_MAX, &request) == SP_OK) {
        check_error(request);
        sp_import_serve(&platform, &stream, json_object_get(request, "parameters"));
        json_decref(request);
    }
    check_output(most);
    sp_buf_release(&output);
    return 0;
}
