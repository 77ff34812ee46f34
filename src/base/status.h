/* Outcomes.
 *
 * Every fallible function returns an enum sp_status. 0 (SP_OK) is success; everything else leaves
 * the out-parameters untouched. A peer's mistake (bad syntax, too long a line) is not a status: it
 * is an event with a reply in the session that met it. A programmer's mistake hits sp_assert, which
 * stays on in production.
 *
 * What a person will read is put into a struct sp_error: what failed, why, and what to do about it.
 * It is filled by the function that knows, and carried upwards unchanged.
 */
#ifndef SP_BASE_STATUS_H
#define SP_BASE_STATUS_H

#include <stdbool.h>
#include <stddef.h>

#define SP_MUST_USE     __attribute__((warn_unused_result))
#define SP_PRINTF(f, a) __attribute__((format(printf, f, a)))

enum sp_status {
    SP_OK = 0,
    SP_MORE,        /* a parser needs more input; not an error */
    SP_EOF,         /* the end of a sequence; not an error */
    SP_NOT_FOUND,   /* the thing asked for does not exist */
    SP_EXISTS,      /* the thing to be made exists already */
    SP_INVALID,     /* malformed input or arguments out of range */
    SP_LIMIT,       /* a stated limit (size, count, time) was exceeded */
    SP_DENIED,      /* wrong password, missing right */
    SP_CONFLICT,    /* a precondition no longer holds */
    SP_UNAVAILABLE, /* not now: protected, degraded, overloaded; try again later */
    SP_NO_SPACE,    /* the disk, the map or the quota is full */
    SP_NO_MEMORY,   /* an allocation failed or an arena reached its cap */
    SP_IO,          /* an operating system call failed */
    SP_TIMEOUT,     /* a deadline passed */
    SP_CORRUPT,     /* stored bytes fail their check; the error names unit, segment and block */
    SP_UNSUPPORTED, /* a format version, record type or algorithm this build does not know */
    SP_SHUTDOWN,    /* the server is stopping */
};

/* The name of a status, for logs ("corrupt"); never NULL. */
const char *sp_status_name(enum sp_status status);

struct sp_error {
    enum sp_status status;
    char what[256]; /* what was being done: "unit a" */
    char why[512];  /* what went wrong: "unit.id is missing in /srv/mail-a" */
    char todo[512]; /* what the reader can do: "mount the disk, or ..."; may be empty */
};

/* Fills *error (which may be NULL) and returns status, so that a function can `return
 * sp_error_set(...)`. */
enum sp_status sp_error_set(struct sp_error *error, enum sp_status status, const char *what,
                            const char *why_format, ...) SP_PRINTF(4, 5);
/* Adds the advice; keeps the rest. */
void sp_error_todo(struct sp_error *error, const char *format, ...) SP_PRINTF(2, 3);
/* Writes "sternpost: what: why: todo\n" to stderr. */
void sp_error_print(const struct sp_error *error);

_Noreturn void sp_assert_failed(const char *expression, const char *file, int line);
#define sp_assert(expression)                                                                      \
    do {                                                                                           \
        if (__builtin_expect(!(expression), 0))                                                    \
            sp_assert_failed(#expression, __FILE__, __LINE__);                                     \
    } while (0)

#endif
