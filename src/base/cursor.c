#include "base/cursor.h"
#include "base/endian.h"

struct sp_slice sp_cursor_take(struct sp_cursor *cursor, size_t len)
{
    if (cursor->failed || len > cursor->rest.len) {
        cursor->failed = true;
        return (struct sp_slice){NULL, 0};
    }
    struct sp_slice taken = sp_slice_sub(cursor->rest, 0, len);
    cursor->rest = sp_slice_from(cursor->rest, len);
    return taken;
}

uint8_t sp_cursor_u8(struct sp_cursor *cursor)
{
    struct sp_slice s = sp_cursor_take(cursor, 1);
    return s.len ? s.ptr[0] : 0;
}

uint16_t sp_cursor_u16(struct sp_cursor *cursor)
{
    struct sp_slice s = sp_cursor_take(cursor, 2);
    return s.len ? sp_get_u16(s.ptr) : 0;
}

uint32_t sp_cursor_u32(struct sp_cursor *cursor)
{
    struct sp_slice s = sp_cursor_take(cursor, 4);
    return s.len ? sp_get_u32(s.ptr) : 0;
}

uint64_t sp_cursor_u64(struct sp_cursor *cursor)
{
    struct sp_slice s = sp_cursor_take(cursor, 8);
    return s.len ? sp_get_u64(s.ptr) : 0;
}

uint64_t sp_cursor_varint(struct sp_cursor *cursor)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = sp_cursor_u8(cursor);
        if (cursor->failed)
            return 0;
        if (shift == 63 && byte > 1)
            break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return value;
    }
    cursor->failed = true;
    return 0;
}

uint64_t sp_cursor_count(struct sp_cursor *cursor, uint64_t max)
{
    uint64_t value = sp_cursor_varint(cursor);
    if (value > max)
        cursor->failed = true;
    return cursor->failed ? 0 : value;
}

struct sp_slice sp_cursor_bytes(struct sp_cursor *cursor)
{
    uint64_t len = sp_cursor_count(cursor, cursor->rest.len);
    return sp_cursor_take(cursor, len);
}
