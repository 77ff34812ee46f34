/* Slices: borrowed, read-only views of bytes, passed by value. Never NUL-terminated. A slice owns
 * nothing; the function that hands one out states how long the bytes live. {NULL, 0} is the empty
 * slice. */
#ifndef SP_BASE_SLICE_H
#define SP_BASE_SLICE_H

#include "base/status.h"

#include <stdint.h>
#include <string.h>

struct sp_slice {
    const uint8_t *ptr;
    size_t len;
};

struct sp_slice_mut {
    uint8_t *ptr;
    size_t len;
};

/* A slice of a string literal. */
#define SP_S(literal) ((struct sp_slice){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline struct sp_slice sp_slice(const void *ptr, size_t len)
{
    return (struct sp_slice){(const uint8_t *)ptr, len};
}
static inline struct sp_slice sp_slice_str(const char *string)
{
    return (struct sp_slice){(const uint8_t *)string, strlen(string)};
}
/* slice[from, to), both clamped to the slice. */
static inline struct sp_slice sp_slice_sub(struct sp_slice slice, size_t from, size_t to)
{
    if (to > slice.len)
        to = slice.len;
    if (from > to)
        from = to;
    return (struct sp_slice){slice.ptr ? slice.ptr + from : NULL, to - from};
}
static inline struct sp_slice sp_slice_from(struct sp_slice slice, size_t from)
{
    return sp_slice_sub(slice, from, slice.len);
}
static inline bool sp_slice_eq(struct sp_slice a, struct sp_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
/* ASCII case-insensitive equality; no locale. */
bool sp_slice_eq_nocase(struct sp_slice a, struct sp_slice b);
bool sp_slice_starts_nocase(struct sp_slice slice, struct sp_slice prefix);
/* Byte order as memcmp, shorter first on a tie. */
int sp_slice_cmp(struct sp_slice a, struct sp_slice b);
/* Index of the first such byte or SIZE_MAX. */
size_t sp_slice_find(struct sp_slice slice, uint8_t byte);
/* Without spaces and tabs (and CR, LF) at both ends. */
struct sp_slice sp_slice_trim(struct sp_slice slice);
/* Decimal digits only, no sign, no overflow, at least one digit: SP_INVALID otherwise. */
enum sp_status sp_slice_u64(struct sp_slice digits, uint64_t max, uint64_t *ret_value) SP_MUST_USE;

static inline uint8_t sp_ascii_lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}
static inline uint8_t sp_ascii_upper(uint8_t c)
{
    return c >= 'a' && c <= 'z' ? (uint8_t)(c - 32) : c;
}

/* printf("%.*s", SP_FMT(slice)) */
#define SP_FMT(slice) (int)(slice).len, (const char *)(slice).ptr

#endif
