/* The server's side of an import. What comes over the control socket comes from the operator, and
 * is checked all the same: a mistake of the command must not become one of the server. */
#include "cmd/import_stream.h"

#include "base/log.h"
#include "mail/account.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* One import at a time: two would not know of each other's messages. One whose command was killed
 * ends when what it sent last is stored; whoever runs the command again at once waits for that. */
#define PATIENCE_S 3

static pthread_mutex_t importing_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t import_ended = PTHREAD_COND_INITIALIZER;
static bool importing;

static bool begin_alone(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&importing_lock);
    while (importing && pthread_cond_timedwait(&import_ended, &importing_lock, &until) == 0)
        ;
    bool alone = !importing;
    importing = true;
    pthread_mutex_unlock(&importing_lock);
    return alone;
}

static void end_alone(void)
{
    pthread_mutex_lock(&importing_lock);
    importing = false;
    pthread_cond_signal(&import_ended);
    pthread_mutex_unlock(&importing_lock);
}

struct import {
    struct sp_platform *platform;
    struct sp_line_stream *stream;
    struct sp_uuid account;
    char mailbox[SP_MAILBOX_NAME_MAX + 1];
    struct sp_buf bytes; /* of the batch */
    struct sp_arena arena;
    struct sp_import_message messages[SP_IMPORT_BATCH_MESSAGES];
    uint8_t origins[SP_IMPORT_BATCH_MESSAGES][SP_IMPORT_KEY_BYTES];
    uint32_t count;
    uint64_t imported;
};

/* The outcome of one request; false: the connection is of no more use. */
static bool answer(const struct import *import, enum sp_status status, json_int_t result,
                   const struct sp_error *error)
{
    json_t *reply = status ? sp_control_error_json(error) : json_pack("{s:I}", "result", result);
    bool sent = reply && sp_line_stream_write_json(import->stream->fd, reply) == SP_OK;
    json_decref(reply);
    return sent;
}

static void add_origin(void *context, struct sp_slice origin_id)
{
    if (origin_id.len == SP_IMPORT_KEY_BYTES)
        sp_buf_add(context, origin_id);
}

static bool take_mailbox(struct import *import, const char *mailbox)
{
    struct sp_error error = {0};
    struct sp_buf origins;
    sp_buf_init(&origins, 1U << 30);
    enum sp_status status = SP_OK;
    if (strlen(mailbox) > SP_MAILBOX_NAME_MAX) {
        status = sp_error_set(&error, SP_INVALID, "import", "the name of a mailbox is too long");
    } else {
        memcpy(import->mailbox, mailbox, strlen(mailbox) + 1);
        status = sp_import_origins(import->platform->volume, &import->account,
                                   sp_slice_str(mailbox), add_origin, &origins, &error);
    }
    if (!status && sp_buf_failed(&origins))
        status = sp_error_set(&error, SP_NO_MEMORY, "import", "no memory");
    bool good = answer(import, status, (json_int_t)(origins.len / SP_IMPORT_KEY_BYTES), &error);
    if (good && !status)
        good = sp_line_stream_write(import->stream->fd, sp_buf_slice(&origins)) == SP_OK;
    sp_buf_release(&origins);
    return good;
}

static bool take_keywords(struct import *import, const json_t *list, struct sp_flag_set *flags)
{
    size_t count = json_array_size(list);
    if (count > SP_KEYWORDS_MAX)
        return false;
    flags->keywords = sp_arena_array(&import->arena, count + 1, sizeof *flags->keywords);
    for (size_t i = 0; flags->keywords && i < count; i++) {
        const json_t *word = json_array_get(list, i);
        flags->keywords[i] = sp_arena_copy(
            &import->arena, sp_slice(json_string_value(word), json_string_length(word)));
        if (!flags->keywords[i].ptr)
            return false;
    }
    flags->keywords_count = (uint32_t)count;
    return flags->keywords;
}

static bool take_message(struct import *import, const json_t *json, uint64_t *ret_bytes)
{
    const char *origin = json_string_value(json_object_get(json, "origin"));
    json_int_t bytes = json_integer_value(json_object_get(json, "bytes"));
    json_int_t flags = json_integer_value(json_object_get(json, "flags"));
    json_int_t zone = json_integer_value(json_object_get(json, "zone"));
    uint8_t *id = import->origins[import->count];
    struct sp_import_message *message = &import->messages[import->count];
    size_t len = 0;
    if (bytes <= 0 || (uint64_t)bytes > import->platform->config->message_bytes_max || flags < 0 ||
        flags > (json_int_t)SP_FLAG_SYSTEM || zone < -1440 || zone > 1440 || !origin ||
        sodium_hex2bin(id, SP_IMPORT_KEY_BYTES, origin, strlen(origin), NULL, &len, NULL) ||
        len != SP_IMPORT_KEY_BYTES)
        return false;
    *message = (struct sp_import_message){
        .flags.system = (uint32_t)flags,
        .date = {json_integer_value(json_object_get(json, "date")), (int16_t)zone},
        .has_date = true,
        .origin_id = sp_slice(id, SP_IMPORT_KEY_BYTES),
    };
    message->bytes.len = (size_t)bytes;
    *ret_bytes += (uint64_t)bytes;
    import->count++;
    return take_keywords(import, json_object_get(json, "keywords"), &message->flags);
}

/* Reads what the line announces. false: it makes no sense, or the connection is lost. */
static bool read_batch(struct import *import, const json_t *list)
{
    uint64_t total = 0;
    import->count = 0;
    sp_arena_release(&import->arena);
    sp_buf_reset(&import->bytes);
    if (json_array_size(list) > SP_IMPORT_BATCH_MESSAGES)
        return false;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!take_message(import, json_array_get(list, i), &total))
            return false;
    if (!total)
        return true; /* a mailbox is to be made that holds nothing */
    uint8_t *bytes =
        total <= import->bytes.cap_bytes ? sp_buf_extend(&import->bytes, (size_t)total) : NULL;
    if (!bytes || sp_line_stream_bytes(import->stream, bytes, (size_t)total))
        return false;
    for (uint32_t i = 0; i < import->count; i++) {
        import->messages[i].bytes.ptr = bytes;
        bytes += import->messages[i].bytes.len;
    }
    return true;
}

static bool take_messages(struct import *import, const json_t *list)
{
    struct sp_error error = {0};
    if (!read_batch(import, list))
        return false;
    enum sp_status status =
        sp_import_messages(import->platform->volume, &import->account,
                           sp_slice_str(import->mailbox), import->messages, import->count, &error);
    if (!status)
        import->imported += import->count;
    return answer(import, status, (json_int_t)import->count, &error);
}

static void run(struct import *import)
{
    bool good = true;
    while (good) {
        json_t *request;
        if (sp_line_stream_json(import->stream, SP_IMPORT_LINE_MAX, &request))
            return; /* the command has ended, or is gone: what it was told of is there */
        const char *mailbox = json_string_value(json_object_get(request, "mailbox"));
        const json_t *messages = json_object_get(request, "messages");
        if (mailbox)
            good = take_mailbox(import, mailbox);
        else
            good = json_is_array(messages) && take_messages(import, messages);
        json_decref(request);
    }
    sp_log(SP_LOG_WARN, "import.broken", "why=\"the command sent nonsense, or is gone\"");
}

void sp_import_serve(struct sp_platform *platform, struct sp_line_stream *stream,
                     const json_t *parameters)
{
    struct sp_error error = {0};
    const char *address = json_string_value(json_object_get(parameters, "address"));
    struct import *import = calloc(1, sizeof *import);
    enum sp_status status =
        import ? SP_OK : sp_error_set(&error, SP_NO_MEMORY, "import", "no memory");
    bool mine = !status && begin_alone();
    if (!status && !mine) {
        status = sp_error_set(&error, SP_UNAVAILABLE, "import", "another import is under way");
        sp_error_todo(&error, "run this again when it has ended");
    }
    if (!status) {
        import->platform = platform;
        import->stream = stream;
        sp_arena_init(&import->arena, 16U << 20);
        sp_buf_init(&import->bytes, SP_IMPORT_BATCH_BYTES + platform->config->message_bytes_max);
        status = sp_operation_find_account(platform, sp_slice_str(address ? address : ""),
                                           &import->account, &error);
    }
    if (status) {
        struct import refused = {.stream = stream};
        (void)answer(&refused, status, 0, &error);
    } else if (answer(import, SP_OK, 0, NULL)) {
        run(import);
        sp_log(SP_LOG_INFO, "import.ended", "address=%s messages=%llu", address,
               (unsigned long long)import->imported);
    }
    if (import) {
        sp_buf_release(&import->bytes);
        sp_arena_release(&import->arena);
    }
    if (mine)
        end_alone();
    free(import);
}
