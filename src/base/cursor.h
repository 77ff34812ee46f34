/* Reading fields from a slice of bytes, little-endian, with a sticky failure: a reader may take
 * many fields and check once. After a failure every getter returns zero or an empty slice. */
#ifndef SP_BASE_CURSOR_H
#define SP_BASE_CURSOR_H

#include "base/slice.h"

struct sp_cursor {
    struct sp_slice rest;
    bool failed;
};

static inline struct sp_cursor sp_cursor(struct sp_slice slice)
{
    return (struct sp_cursor){slice, false};
}
uint8_t sp_cursor_u8(struct sp_cursor *cursor);
uint16_t sp_cursor_u16(struct sp_cursor *cursor);
uint32_t sp_cursor_u32(struct sp_cursor *cursor);
uint64_t sp_cursor_u64(struct sp_cursor *cursor);
/* LEB128; more than 10 bytes or more than 64 bits is a failure. */
uint64_t sp_cursor_varint(struct sp_cursor *cursor);
/* A varint that must not exceed max. */
uint64_t sp_cursor_count(struct sp_cursor *cursor, uint64_t max);
/* The next len bytes, a view of the source. */
struct sp_slice sp_cursor_take(struct sp_cursor *cursor, size_t len);
/* A varint of the length, then the bytes: a view of the source. */
struct sp_slice sp_cursor_bytes(struct sp_cursor *cursor);

#endif
