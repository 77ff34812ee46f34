#include "base/buf.h"
#include "base/endian.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_BYTES 256U

void sp_buf_init(struct sp_buf *buf, size_t cap_bytes)
{
    *buf = (struct sp_buf){.cap_bytes = cap_bytes};
}

void sp_buf_release(struct sp_buf *buf)
{
    free(buf->ptr);
    sp_buf_init(buf, buf->cap_bytes);
}

void sp_buf_reset(struct sp_buf *buf)
{
    buf->len = 0;
    buf->failed = false;
}

bool sp_buf_reserve(struct sp_buf *buf, size_t len)
{
    size_t need;
    if (buf->failed)
        return false;
    if (__builtin_add_overflow(buf->len, len, &need) || need > buf->cap_bytes) {
        buf->failed = true;
        return false;
    }
    if (need <= buf->capacity)
        return true;
    size_t capacity = buf->capacity ? buf->capacity : FIRST_BYTES;
    while (capacity < need)
        capacity = capacity > SIZE_MAX / 2 ? need : capacity * 2;
    if (capacity > buf->cap_bytes)
        capacity = buf->cap_bytes;
    uint8_t *grown = realloc(buf->ptr, capacity);
    if (!grown) {
        buf->failed = true;
        return false;
    }
    buf->ptr = grown;
    buf->capacity = capacity;
    return true;
}

uint8_t *sp_buf_extend(struct sp_buf *buf, size_t len)
{
    if (!sp_buf_reserve(buf, len))
        return NULL;
    uint8_t *at = buf->ptr + buf->len;
    buf->len += len;
    return at;
}

void sp_buf_add(struct sp_buf *buf, struct sp_slice slice)
{
    if (!slice.len)
        return;
    uint8_t *at = sp_buf_extend(buf, slice.len);
    if (at)
        memcpy(at, slice.ptr, slice.len);
}

void sp_buf_add_str(struct sp_buf *buf, const char *string)
{
    sp_buf_add(buf, sp_slice_str(string));
}

void sp_buf_add_byte(struct sp_buf *buf, uint8_t byte)
{
    uint8_t *at = sp_buf_extend(buf, 1);
    if (at)
        *at = byte;
}

void sp_buf_add_u16(struct sp_buf *buf, uint16_t value)
{
    uint8_t *at = sp_buf_extend(buf, 2);
    if (at)
        sp_put_u16(at, value);
}

void sp_buf_add_u32(struct sp_buf *buf, uint32_t value)
{
    uint8_t *at = sp_buf_extend(buf, 4);
    if (at)
        sp_put_u32(at, value);
}

void sp_buf_add_u64(struct sp_buf *buf, uint64_t value)
{
    uint8_t *at = sp_buf_extend(buf, 8);
    if (at)
        sp_put_u64(at, value);
}

void sp_buf_add_varint(struct sp_buf *buf, uint64_t value)
{
    uint8_t bytes[10];
    size_t n = 0;
    while (value >= 0x80) {
        bytes[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[n++] = (uint8_t)value;
    sp_buf_add(buf, sp_slice(bytes, n));
}

void sp_buf_add_bytes(struct sp_buf *buf, struct sp_slice slice)
{
    sp_buf_add_varint(buf, slice.len);
    sp_buf_add(buf, slice);
}

void sp_buf_add_decimal(struct sp_buf *buf, uint64_t value)
{
    uint8_t digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value);
    sp_buf_add(buf, sp_slice(digits + at, sizeof digits - at));
}

void sp_buf_addf(struct sp_buf *buf, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (need < 0) {
        buf->failed = true;
    } else if (sp_buf_reserve(buf, (size_t)need + 1)) {
        vsnprintf((char *)buf->ptr + buf->len, (size_t)need + 1, format, again);
        buf->len += (size_t)need;
    }
    va_end(again);
}

void sp_buf_consume(struct sp_buf *buf, size_t n)
{
    sp_assert(n <= buf->len);
    if (n == 0)
        return;
    buf->len -= n;
    if (buf->len)
        memmove(buf->ptr, buf->ptr + n, buf->len);
}
