#include "base/slice.h"

bool sp_slice_eq_nocase(struct sp_slice a, struct sp_slice b)
{
    return a.len == b.len && sp_slice_starts_nocase(a, b);
}

bool sp_slice_starts_nocase(struct sp_slice slice, struct sp_slice prefix)
{
    if (slice.len < prefix.len)
        return false;
    for (size_t i = 0; i < prefix.len; i++)
        if (sp_ascii_lower(slice.ptr[i]) != sp_ascii_lower(prefix.ptr[i]))
            return false;
    return true;
}

int sp_slice_cmp(struct sp_slice a, struct sp_slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n ? memcmp(a.ptr, b.ptr, n) : 0;
    if (order)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

size_t sp_slice_find(struct sp_slice slice, uint8_t byte)
{
    const uint8_t *at = slice.len ? memchr(slice.ptr, byte, slice.len) : NULL;
    return at ? (size_t)(at - slice.ptr) : SIZE_MAX;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct sp_slice sp_slice_trim(struct sp_slice slice)
{
    while (slice.len && is_space(slice.ptr[0])) {
        slice.ptr++;
        slice.len--;
    }
    while (slice.len && is_space(slice.ptr[slice.len - 1]))
        slice.len--;
    return slice;
}

enum sp_status sp_slice_u64(struct sp_slice digits, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (!digits.len)
        return SP_INVALID;
    for (size_t i = 0; i < digits.len; i++) {
        uint8_t c = digits.ptr[i];
        if (c < '0' || c > '9')
            return SP_INVALID;
        if (__builtin_mul_overflow(value, 10U, &value) ||
            __builtin_add_overflow(value, (uint64_t)(c - '0'), &value) || value > max)
            return SP_INVALID;
    }
    *ret_value = value;
    return SP_OK;
}
