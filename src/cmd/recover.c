/* `sternpost recover scan`, `rebuild` and `dump`: from raw disks back to a platform, and a look at
 * a segment. They need no configuration, no unit and no index, and open what they are given
 * read-only. */
#include "cmd/cmd.h"
#include "cmd/platform.h"
#include "cmd/progress.h"

#include "base/log.h"
#include "recover/recover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* ---- scan ---- */

struct scan_progress {
    struct sp_progress progress;
    const char *source;
};

static void show_scan(void *context, const char *source, uint64_t done_bytes, uint64_t total_bytes)
{
    struct scan_progress *scan = context;
    if (scan->source != source) {
        sp_progress_end(&scan->progress);
        sp_progress_begin(&scan->progress, source);
        scan->source = source;
    }
    sp_progress_show(&scan->progress, done_bytes, total_bytes, 0, NULL);
}

static void print_scan(const struct sp_call *call, const struct sp_recover_scan_report *report)
{
    if (!call->json) {
        sp_recover_scan_report_print(report, stdout);
        return;
    }
    json_t *json = sp_recover_scan_report_json(report);
    sp_print_json(json);
    json_decref(json);
}

int sp_cmd_recover_scan(struct sp_call *call)
{
    const char *out_dir = call->options[0];
    struct sp_error error = {0};
    struct sp_recover_scan_report report;
    struct scan_progress scan = {0};
    if (!out_dir)
        return sp_misuse(call, "--out is missing: where the blocks that are found are to go");
    sp_progress_begin(&scan.progress, "scanning");
    const struct sp_recover_scan_options options = {.progress = show_scan, .context = &scan};
    enum sp_status status =
        sp_recover_scan(call->arguments, call->arguments_count, out_dir, &options, &report, &error);
    sp_progress_end(&scan.progress);
    /* What was found before a failure is worth knowing too. */
    if (!status || report.blocks)
        print_scan(call, &report);
    bool unread = false;
    for (uint32_t i = 0; i < report.sources_count; i++)
        unread = unread || report.sources[i].unread_bytes || report.sources[i].note[0];
    if (!status && !report.blocks) {
        status = sp_error_set(&error, SP_NOT_FOUND, call->arguments[0],
                              "there is no block of Sternpost's in what was read");
        sp_error_todo(&error, "scan the disks on which the units were");
    } else if (!status && unread) {
        status = sp_error_set(&error, SP_IO, out_dir, "some of the sources could not be read");
        sp_error_todo(&error, "see the report above; rebuild with what there is, or scan copies of "
                              "these disks into the same folder first");
    } else if (!status && !call->json) {
        printf("Next: sternpost recover rebuild %s\n", out_dir);
    }
    sp_recover_scan_report_release(&report);
    return status ? sp_fail(&error) : SP_EXIT_OK;
}

/* ---- rebuild ---- */

static void show_segments(void *context, uint64_t done_segments, uint64_t total_segments)
{
    struct sp_progress *progress = context;
    char what[64];
    snprintf(what, sizeof what, "segment %llu of %llu", (unsigned long long)done_segments,
             (unsigned long long)total_segments);
    progress->what = what;
    sp_progress_show(progress, 0, 0, 0, NULL);
    progress->what = "rebuilding";
}

static void show_index(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    sp_progress_show(context, done_bytes, total_bytes, 0, NULL);
}

/* The account of what was lost stays beside the units: for people and for programs. */
static enum sp_status keep_account(const struct sp_recover_report *report, const json_t *json,
                                   const char *dir, struct sp_error *error)
{
    static const char *const names[] = {"rebuild.txt", "rebuild.json"};
    char path[4096];
    for (unsigned i = 0; i < 2; i++) {
        if (snprintf(path, sizeof path, "%s/%s", dir, names[i]) >= (int)sizeof path)
            return sp_error_set(error, SP_LIMIT, dir, "the path is too long");
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
        if (!file) {
            enum sp_status status = sp_error_set(error, SP_IO, path, "%s", strerror(errno));
            if (fd >= 0)
                close(fd);
            return status;
        }
        bool good = true;
        if (i == 0)
            sp_recover_report_print(report, file);
        else
            good = json_dumpf(json, file, JSON_INDENT(2) | JSON_PRESERVE_ORDER) == 0;
        good = fflush(file) == 0 && !ferror(file) && fsync(fd) == 0 && good;
        int code = errno;
        if (fclose(file) || !good)
            return sp_error_set(error, code == ENOSPC ? SP_NO_SPACE : SP_IO, path, "%s",
                                strerror(code));
    }
    return SP_OK;
}

/* Opens what was rebuilt as `serve` will, and makes its index: what cannot be served is found here,
 * not on Monday morning. */
static enum sp_status make_index(const char *dir, struct sp_error *error)
{
    char path[4096];
    struct sp_config config;
    struct sp_platform platform;
    struct sp_progress progress;
    int lock_fd;
    if (snprintf(path, sizeof path, "%s/sternpost.conf", dir) >= (int)sizeof path)
        return sp_error_set(error, SP_LIMIT, dir, "the path is too long");
    enum sp_status status = sp_config_read(path, &config, error);
    if (status)
        return status;
    status = sp_platform_lock(&config, &lock_fd, error);
    if (!status) {
        sp_progress_begin(&progress, "building the index");
        const struct sp_platform_options options = {
            .index_rebuild = true, .progress = show_index, .progress_context = &progress};
        status = sp_platform_open(&config, lock_fd, &options, &platform, error);
        sp_progress_end(&progress);
    }
    if (!status)
        sp_platform_close(&platform);
    sp_config_release(&config);
    return status;
}

int sp_cmd_recover_rebuild(struct sp_call *call)
{
    const char *scan_dir = call->arguments[0];
    const char *dir = call->options[0] ? call->options[0] : scan_dir;
    struct sp_error error = {0};
    struct sp_uuid volume;
    struct sp_recover_report report;
    struct sp_progress progress;
    struct sp_recover_rebuild_options options = {
        .accept_loss = call->options[2] != NULL, .progress = show_segments, .context = &progress};
    if (call->options[1]) {
        if (sp_uuid_parse(sp_slice_str(call->options[1]), &volume))
            return sp_misuse(call, "--volume %s: not a UUID", call->options[1]);
        options.volume = &volume;
    }
    sp_log_set_level(SP_LOG_ERROR);
    sp_progress_begin(&progress, "rebuilding");
    enum sp_status status = sp_recover_rebuild(scan_dir, dir, &options, &report, &error);
    sp_progress_end(&progress);
    json_t *json = status ? NULL : sp_recover_report_json(&report);
    if (!status && !json)
        status = sp_error_set(&error, SP_NO_MEMORY, "rebuild", "no memory");
    if (!status)
        status = keep_account(&report, json, dir, &error);
    if (!status)
        status = make_index(dir, &error);
    if (!status && call->json) {
        sp_print_json(json);
    } else if (!status) {
        sp_recover_report_print(&report, stdout);
        printf("This account is kept in %s/rebuild.txt and rebuild.json.\n"
               "Next: sternpost -c %s/sternpost.conf serve\n",
               dir, dir);
    }
    json_decref(json);
    sp_recover_report_release(&report);
    return status ? sp_fail(&error) : SP_EXIT_OK;
}

/* ---- dump ---- */

int sp_cmd_recover_dump(struct sp_call *call)
{
    struct sp_error error = {0};
    enum sp_status status = sp_recover_dump(call->arguments[0], stdout, &error);
    return status ? sp_fail(&error) : SP_EXIT_OK;
}
