#include "cmd/progress.h"

#include "base/time.h"
#include "cmd/cmd.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

void sp_progress_begin(struct sp_progress *progress, const char *what)
{
    *progress = (struct sp_progress){
        .what = what, .terminal = isatty(STDERR_FILENO), .begun_ms = sp_now_ms()};
    progress->next_ms = progress->begun_ms + 300;
}

void sp_progress_show(struct sp_progress *progress, uint64_t done_bytes, uint64_t total_bytes,
                      uint64_t items, const char *items_name)
{
    uint64_t now = sp_now_ms();
    char line[200], done[32], rate[32];
    if (!progress->terminal || now < progress->next_ms)
        return;
    progress->next_ms = now + 200;
    progress->shown = true;
    double seconds = (double)(now - progress->begun_ms) / 1000;
    double per_second = (double)done_bytes / seconds;
    int at = snprintf(line, sizeof line, "%s:", progress->what);
    if (total_bytes)
        at += snprintf(line + at, sizeof line - (size_t)at, " %3.0f %%",
                       100.0 * (double)done_bytes / (double)total_bytes);
    if (items_name)
        at += snprintf(line + at, sizeof line - (size_t)at, " %" PRIu64 " %s,", items, items_name);
    at += snprintf(line + at, sizeof line - (size_t)at, " %s, %s/s",
                   sp_bytes_text(done_bytes, done), sp_bytes_text((uint64_t)per_second, rate));
    if (total_bytes > done_bytes && per_second > 1) {
        unsigned left = (unsigned)((double)(total_bytes - done_bytes) / per_second);
        snprintf(line + at, sizeof line - (size_t)at, ", %u:%02u:%02u left", left / 3600,
                 left / 60 % 60, left % 60);
    }
    fprintf(stderr, "\r%-78s", line);
    fflush(stderr);
}

void sp_progress_end(struct sp_progress *progress)
{
    if (progress->shown)
        fprintf(stderr, "\r%78s\r", "");
    progress->shown = false;
}
