/* `sternpost import maildir|mbox`.
 *
 * No message comes twice. What names a message of the source is its digest, the mailbox it goes to,
 * and how often the same message was met in that folder before: BLAKE2b-16 of these is its origin
 * id, which its record carries. Ids that the mailbox has are passed over. So an import that was
 * interrupted is simply run again, and a source that has grown brings what is new; file names and
 * offsets, which mail programs change at will, play no part. */
#include "cmd/cmd.h"
#include "cmd/import_source.h"
#include "cmd/import_stream.h"
#include "cmd/progress.h"

#include "base/checksum.h"
#include "base/endian.h"
#include "base/time.h"
#include "mail/mailbox.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SKIPPED_NAMED_MAX 10000U /* in JSON; all are counted, and printed as they come */

/* A message that waits for its batch. */
struct waiting {
    size_t at, len; /* in bytes */
    struct sp_import_message message;
    struct sp_import_key origin;
    char *source;
};

struct import {
    const struct sp_call *call;
    struct sp_import_target target;
    struct sp_import_keys known; /* origin ids that the mailbox has */
    struct sp_import_keys seen;  /* digests of this folder */
    char mailbox[SP_MAILBOX_NAME_MAX + 1];

    struct sp_buf bytes;
    struct sp_arena arena; /* of keywords and sources */
    struct waiting waiting[SP_IMPORT_BATCH_MESSAGES];
    uint32_t waiting_count;

    struct sp_progress progress;
    uint64_t imported, imported_bytes, passed_over, skipped, mailboxes;
    json_t *skipped_list;
};

static void on_skip(void *context, const char *source, const char *why)
{
    struct import *import = context;
    import->skipped++;
    if (json_array_size(import->skipped_list) < SKIPPED_NAMED_MAX) {
        json_t *row = json_pack("{s:s,s:s}", "source", source, "why", why);
        /* A file name need not be UTF-8; JSON is. */
        json_array_append_new(import->skipped_list,
                              row ? row : json_pack("{s:s,s:s}", "source", "?", "why", why));
    }
    if (!import->call->json) {
        sp_progress_end(&import->progress);
        fprintf(stderr, "sternpost: %s: left out: %s\n", source, why);
    }
}

/* ---- Batches ---- */

static enum sp_status put_one(struct import *import, struct waiting *w, struct sp_error *error)
{
    enum sp_status status = sp_import_target_put(&import->target, &w->message, 1, error);
    if ((status == SP_LIMIT || status == SP_INVALID) && w->message.flags.keywords_count) {
        /* Better without its keywords (a mailbox has only so many) than not at all. */
        w->message.flags.keywords_count = 0;
        status = sp_import_target_put(&import->target, &w->message, 1, error);
    }
    if (status == SP_LIMIT || status == SP_INVALID) {
        on_skip(import, w->source, error->why);
        return SP_OK;
    }
    if (!status) {
        import->imported++;
        import->imported_bytes += w->len;
    }
    return status;
}

static enum sp_status flush(struct import *import, struct sp_error *error)
{
    struct sp_import_message messages[SP_IMPORT_BATCH_MESSAGES];
    for (uint32_t i = 0; i < import->waiting_count; i++) {
        struct waiting *w = &import->waiting[i];
        w->message.bytes = sp_slice_sub(sp_buf_slice(&import->bytes), w->at, w->at + w->len);
        w->message.origin_id = sp_slice(w->origin.bytes, sizeof w->origin.bytes);
        messages[i] = w->message;
    }
    enum sp_status status = SP_OK;
    if (import->waiting_count)
        status = sp_import_target_put(&import->target, messages, import->waiting_count, error);
    if (status == SP_LIMIT || status == SP_INVALID) {
        status = SP_OK;
        for (uint32_t i = 0; i < import->waiting_count && !status; i++)
            status = put_one(import, &import->waiting[i], error);
    } else if (!status) {
        import->imported += import->waiting_count;
        import->imported_bytes += import->bytes.len;
    }
    import->waiting_count = 0;
    sp_buf_reset(&import->bytes);
    sp_arena_release(&import->arena);
    return status;
}

/* ---- Visiting the source ---- */

static enum sp_status on_mailbox(void *context, const char *mailbox, struct sp_error *error)
{
    struct import *import = context;
    enum sp_status status = flush(import, error);
    if (status)
        return status;
    sp_import_keys_release(&import->known);
    sp_import_keys_release(&import->seen);
    snprintf(import->mailbox, sizeof import->mailbox, "%s", mailbox);
    /* INBOX is one mailbox however it is written (RFC 3501, 5.1), and so is what lies below it. */
    if (sp_slice_eq_nocase(sp_slice_sub(sp_slice_str(mailbox), 0, strcspn(mailbox, "/")),
                           SP_S("INBOX")))
        memcpy(import->mailbox, "INBOX", 5);
    import->mailboxes++;
    status = sp_import_target_mailbox(&import->target, import->mailbox, &import->known, error);
    /* It is made also if nothing comes: people keep empty folders for mail to come. */
    return status ? status : sp_import_target_put(&import->target, NULL, 0, error);
}

static enum sp_status origin_of(struct import *import, const struct sp_import_item *item,
                                struct sp_import_key *ret_origin)
{
    struct sp_import_key digest;
    crypto_generichash_state state;
    uint32_t occurrence;
    uint8_t number[4];
    crypto_generichash(digest.bytes, sizeof digest.bytes, item->bytes.ptr, item->bytes.len, NULL,
                       0);
    enum sp_status status = sp_import_keys_add(&import->seen, &digest, &occurrence);
    if (status)
        return status;
    sp_put_u32(number, occurrence);
    crypto_generichash_init(&state, NULL, 0, sizeof ret_origin->bytes);
    crypto_generichash_update(&state, (const uint8_t *)import->mailbox,
                              strlen(import->mailbox) + 1);
    crypto_generichash_update(&state, digest.bytes, sizeof digest.bytes);
    crypto_generichash_update(&state, number, sizeof number);
    crypto_generichash_final(&state, ret_origin->bytes, sizeof ret_origin->bytes);
    return SP_OK;
}

/* An IMAP flag-keyword (RFC 3501, 9): other programs keep words that are none. */
static bool keyword_ok(struct sp_slice word)
{
    for (size_t i = 0; i < word.len; i++)
        if (word.ptr[i] <= ' ' || word.ptr[i] >= 127 || strchr("(){%*\"\\]", word.ptr[i]))
            return false;
    return word.len > 0 && word.len <= SP_KEYWORD_MAX;
}

static enum sp_status keep(struct import *import, const struct sp_import_item *item,
                           const struct sp_import_key *origin)
{
    struct waiting *w = &import->waiting[import->waiting_count];
    *w = (struct waiting){.at = import->bytes.len, .len = item->bytes.len, .origin = *origin};
    w->message.flags.system = item->system_flags;
    w->message.flags.keywords = sp_arena_array(&import->arena, item->keywords_count + 1U,
                                               sizeof *w->message.flags.keywords);
    w->source = sp_arena_str(&import->arena, sp_slice_str(item->source));
    w->message.date = item->date;
    w->message.has_date = true;
    sp_buf_add(&import->bytes, item->bytes);
    if (!w->source || !w->message.flags.keywords || sp_buf_failed(&import->bytes))
        return SP_NO_MEMORY;
    for (uint32_t i = 0; i < item->keywords_count; i++) {
        struct sp_slice copy = sp_arena_copy(&import->arena, item->keywords[i]);
        if (copy.ptr && keyword_ok(copy))
            w->message.flags.keywords[w->message.flags.keywords_count++] = copy;
    }
    import->waiting_count++;
    return SP_OK;
}

static enum sp_status on_message(void *context, const struct sp_import_item *item,
                                 struct sp_error *error)
{
    struct import *import = context;
    struct sp_import_key origin;
    enum sp_status status = origin_of(import, item, &origin);
    if (!status && sp_import_keys_count(&import->known, &origin)) {
        import->passed_over++;
        return SP_OK;
    }
    if (!status && (import->waiting_count == SP_IMPORT_BATCH_MESSAGES ||
                    import->bytes.len + item->bytes.len > SP_IMPORT_BATCH_BYTES)) {
        status = flush(import, error);
        if (status)
            return status;
    }
    if (!status)
        status = keep(import, item, &origin);
    return status ? sp_error_set(error, status, "import", "no memory") : SP_OK;
}

static void on_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct import *import = context;
    sp_progress_show(&import->progress, done_bytes, total_bytes,
                     import->imported + import->passed_over, "messages");
}

/* ---- The command ---- */

static void report(const struct import *import, const char *address)
{
    double seconds = (double)(sp_now_ms() - import->progress.begun_ms) / 1000;
    char size[32];
    if (import->call->json) {
        json_t *facts =
            json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:f,s:O}", "account", address, "mailboxes",
                      (json_int_t)import->mailboxes, "imported", (json_int_t)import->imported,
                      "bytes", (json_int_t)import->imported_bytes, "already_there",
                      (json_int_t)import->passed_over, "left_out", (json_int_t)import->skipped,
                      "seconds", seconds, "left_out_items", import->skipped_list);
        sp_print_json(facts);
        json_decref(facts);
        return;
    }
    printf("%s: %" PRIu64 " messages imported (%s) in %.1f s", address, import->imported,
           sp_bytes_text(import->imported_bytes, size), seconds);
    if (import->passed_over)
        printf(", %" PRIu64 " were there already", import->passed_over);
    if (import->skipped)
        printf(", %" PRIu64 " left out", import->skipped);
    printf("\n");
}

typedef enum sp_status source_function(const char *path, const char *inbox,
                                       uint64_t message_bytes_max,
                                       const struct sp_import_visitor *visitor,
                                       struct sp_error *error);

static int import_from(struct sp_call *call, source_function *source)
{
    const char *address = call->options[0], *inbox = call->options[1] ? call->options[1] : "INBOX";
    struct sp_error error = {0};
    if (!address)
        return sp_misuse(call, "--account is missing");
    if (!sp_mailbox_path_ok(sp_slice_str(inbox)))
        return sp_misuse(call, "--mailbox: that is no name for a mailbox");
    struct import *import = calloc(1, sizeof *import);
    json_t *skipped_list = json_array();
    if (!import || !skipped_list) {
        free(import);
        json_decref(skipped_list);
        sp_error_set(&error, SP_NO_MEMORY, "import", "no memory");
        return sp_fail(&error);
    }
    import->call = call;
    import->skipped_list = skipped_list;
    sp_buf_init(&import->bytes, SP_IMPORT_BATCH_BYTES + call->config.message_bytes_max);
    sp_arena_init(&import->arena, 16U << 20);
    const struct sp_import_visitor visitor = {import, on_mailbox, on_message, on_skip, on_progress};
    enum sp_status status = sp_import_target_open(&call->config, address, &import->target, &error);
    sp_progress_begin(&import->progress, "importing");
    if (!status) {
        status =
            source(call->arguments[0], inbox, call->config.message_bytes_max, &visitor, &error);
        if (!status)
            status = flush(import, &error);
        sp_progress_end(&import->progress);
        sp_import_target_close(&import->target);
        if (!status || import->imported)
            report(import, address);
    }
    bool all = import->skipped == 0;
    sp_import_keys_release(&import->known);
    sp_import_keys_release(&import->seen);
    sp_buf_release(&import->bytes);
    sp_arena_release(&import->arena);
    json_decref(skipped_list);
    free(import);
    return status ? sp_fail(&error) : all ? SP_EXIT_OK : SP_EXIT_FAILED;
}

int sp_cmd_import_maildir(struct sp_call *call)
{
    return import_from(call, sp_import_maildir);
}

int sp_cmd_import_mbox(struct sp_call *call)
{
    return import_from(call, sp_import_mbox);
}
