/* Progress on a terminal: one line on stderr, with rate and time left. Without a terminal it writes
 * nothing. */
#ifndef SP_CMD_PROGRESS_H
#define SP_CMD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct sp_progress {
    const char *what; /* "importing"; borrowed */
    bool terminal, shown;
    uint64_t begun_ms, next_ms;
};
void sp_progress_begin(struct sp_progress *progress, const char *what);
/* total_bytes 0: unknown. items and its name ("messages") may be 0 and NULL. */
void sp_progress_show(struct sp_progress *progress, uint64_t done_bytes, uint64_t total_bytes,
                      uint64_t items, const char *items_name);
/* Wipes the line. */
void sp_progress_end(struct sp_progress *progress);

#endif
