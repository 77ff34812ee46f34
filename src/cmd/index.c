/* `sternpost index rebuild`: the index is derived from the log, and can always be made again. */
#include "cmd/cmd.h"
#include "cmd/platform.h"
#include "cmd/progress.h"

#include "base/log.h"
#include "base/time.h"

#include <stdio.h>

static void show(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    sp_progress_show(context, done_bytes, total_bytes, 0, NULL);
}

int sp_cmd_index_rebuild(struct sp_call *call)
{
    struct sp_error error = {0};
    struct sp_platform platform;
    struct sp_progress progress;
    struct sp_volume_status facts;
    int lock_fd;
    enum sp_status status = sp_platform_lock(&call->config, &lock_fd, &error);
    if (status == SP_CONFLICT)
        sp_error_todo(&error, "stop the server: its index cannot be taken from under it");
    if (status)
        return sp_fail(&error);
    sp_log_set_level(SP_LOG_ERROR);
    sp_progress_begin(&progress, "rebuilding the index");
    const struct sp_platform_options options = {
        .index_rebuild = true, .progress = show, .progress_context = &progress};
    status = sp_platform_open(&call->config, lock_fd, &options, &platform, &error);
    sp_progress_end(&progress);
    if (status)
        return sp_fail(&error);
    double seconds = (double)(sp_now_ms() - progress.begun_ms) / 1000;
    sp_volume_status(platform.volume, &facts);
    sp_platform_close(&platform);
    if (call->json) {
        json_t *json = json_pack("{s:s,s:I,s:f}", "volume", call->config.volume.name, "lsn",
                                 (json_int_t)facts.end.lsn, "seconds", seconds);
        sp_print_json(json);
        json_decref(json);
    } else {
        printf("volume %s: the index is rebuilt up to LSN %llu, in %.1f s\n",
               call->config.volume.name, (unsigned long long)facts.end.lsn, seconds);
    }
    return SP_EXIT_OK;
}
