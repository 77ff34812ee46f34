#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sp_status_name(enum sp_status status)
{
    switch (status) {
    case SP_OK:
        return "ok";
    case SP_MORE:
        return "more";
    case SP_EOF:
        return "eof";
    case SP_NOT_FOUND:
        return "not-found";
    case SP_EXISTS:
        return "exists";
    case SP_INVALID:
        return "invalid";
    case SP_LIMIT:
        return "limit";
    case SP_DENIED:
        return "denied";
    case SP_CONFLICT:
        return "conflict";
    case SP_UNAVAILABLE:
        return "unavailable";
    case SP_NO_SPACE:
        return "no-space";
    case SP_NO_MEMORY:
        return "no-memory";
    case SP_IO:
        return "io";
    case SP_TIMEOUT:
        return "timeout";
    case SP_CORRUPT:
        return "corrupt";
    case SP_UNSUPPORTED:
        return "unsupported";
    case SP_SHUTDOWN:
        return "shutdown";
    }
    return "unknown";
}

enum sp_status sp_error_set(struct sp_error *error, enum sp_status status, const char *what,
                            const char *why_format, ...)
{
    if (!error)
        return status;
    error->status = status;
    error->todo[0] = '\0';
    snprintf(error->what, sizeof error->what, "%s", what);
    va_list args;
    va_start(args, why_format);
    vsnprintf(error->why, sizeof error->why, why_format, args);
    va_end(args);
    return status;
}

void sp_error_todo(struct sp_error *error, const char *format, ...)
{
    if (!error)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(error->todo, sizeof error->todo, format, args);
    va_end(args);
}

void sp_error_print(const struct sp_error *error)
{
    fprintf(stderr, "sternpost: %s: %s%s%s\n", error->what, error->why, error->todo[0] ? ": " : "",
            error->todo);
}

_Noreturn void sp_assert_failed(const char *expression, const char *file, int line)
{
    fprintf(stderr, "sternpost: assertion failed: %s (%s:%d)\n", expression, file, line);
    abort();
}
