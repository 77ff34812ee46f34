/* Structured log lines (logfmt) on stderr: `time=... level=info event=unit.eject unit=a segment=12
 * why="..."`. One line a call, written whole. Values are quoted where they need it. Secrets and
 * bodies never go in. docs/log-events.md lists the events.
 *
 * Warnings and errors that say the same again and again (but for numbers) are limited: of those
 * that agree in event, volume, unit and words, SP_LOG_BURST are written, then one every
 * SP_LOG_AGAIN_S, with repeated=N: how many were left out before it. */
#ifndef SP_BASE_LOG_H
#define SP_BASE_LOG_H

#include "base/slice.h"

#define SP_LOG_BURST   20U
#define SP_LOG_AGAIN_S 600U

enum sp_log_level { SP_LOG_DEBUG, SP_LOG_INFO, SP_LOG_WARN, SP_LOG_ERROR };

/* Lines below this level are dropped; INFO at the start. */
void sp_log_set_level(enum sp_log_level level);
/* event is a dotted name; the rest is `key=value` text in printf form, values already quoted with
 * %s of sp_log_quote where they may hold spaces. Example: sp_log(SP_LOG_WARN, "unit.eject",
 * "unit=%s lsn=%" PRIu64, name, lsn) */
void sp_log(enum sp_log_level level, const char *event, const char *format, ...) SP_PRINTF(3, 4);
/* Whether a line is to be written, by what was said above; *ret_repeated: how many like it were
 * left out before it. For sp_log and tests. */
bool sp_log_limit(const char *event, const char *text, uint64_t now_ms, uint32_t *ret_repeated);
/* Lines written at a level, since the beginning; and those that were left out. */
uint64_t sp_log_lines(enum sp_log_level level);
uint64_t sp_log_left_out(void);
/* A string quoted, as an argument of sp_log: it lives until the end of the block. */
#define SP_LOG_QUOTED_MAX 320U
#define SP_LOG_QUOTED(string)                                                                      \
    sp_log_quote(sp_slice_str(string), (char[SP_LOG_QUOTED_MAX]){0}, SP_LOG_QUOTED_MAX)
/* Quotes a value for logfmt into ret_text (always NUL-terminated, cut to fit); returns ret_text. */
const char *sp_log_quote(struct sp_slice value, char *ret_text, size_t size);

#endif
