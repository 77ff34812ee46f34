#include "base/log.h"
#include "base/time.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic int log_level = SP_LOG_INFO;

void sp_log_set_level(enum sp_log_level level)
{
    atomic_store(&log_level, level);
}

void sp_log(enum sp_log_level level, const char *event, const char *format, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if ((int)level < atomic_load(&log_level))
        return;
    char line[2048];
    uint64_t now = sp_wall_ns();
    struct sp_civil t;
    sp_unix_to_civil((int64_t)(now / 1000000000U), &t);
    int len =
        snprintf(line, sizeof line, "time=%04d-%02d-%02dT%02d:%02d:%02d.%03uZ level=%s event=%s ",
                 t.year, t.month, t.day, t.hour, t.minute, t.second,
                 (unsigned)(now / 1000000U % 1000U), names[level], event);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + len, sizeof line - (size_t)len - 1, format, args);
    va_end(args);
    len += more < 0 ? 0 : more;
    if (len > (int)sizeof line - 2)
        len = (int)sizeof line - 2;
    line[len++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)len);
    (void)ignored;
}

const char *sp_log_quote(struct sp_slice value, char *ret_text, size_t size)
{
    size_t at = 0;
    sp_assert(size >= 8);
    ret_text[at++] = '"';
    for (size_t i = 0; i < value.len && at + 6 < size; i++) {
        uint8_t c = value.ptr[i];
        if (c == '"' || c == '\\') {
            ret_text[at++] = '\\';
            ret_text[at++] = (char)c;
        } else if (c < 32 || c == 127) {
            at += (size_t)snprintf(ret_text + at, size - at, "\\x%02x", c);
        } else {
            ret_text[at++] = (char)c;
        }
    }
    ret_text[at++] = '"';
    ret_text[at] = '\0';
    return ret_text;
}
