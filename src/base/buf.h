/* Growing byte buffers with a hard cap.
 *
 * A buffer that would grow past its cap, or for which the heap is exhausted, becomes *failed*: it
 * keeps what it has, ignores further appends, and says so in sp_buf_failed. So a writer may append
 * many times and check once. Multi-byte integers are written little-endian (the log's byte order).
 */
#ifndef SP_BASE_BUF_H
#define SP_BASE_BUF_H

#include "base/slice.h"

struct sp_buf {
    uint8_t *ptr;
    size_t len;
    size_t capacity;
    size_t cap_bytes; /* the limit */
    bool failed;
};

void sp_buf_init(struct sp_buf *buf, size_t cap_bytes);
/* Frees the memory; the buffer is empty and usable again. */
void sp_buf_release(struct sp_buf *buf);
/* Empties it, keeps the memory, clears the failure. */
void sp_buf_reset(struct sp_buf *buf);

static inline bool sp_buf_failed(const struct sp_buf *buf)
{
    return buf->failed;
}
/* A view of the content; valid until the next call that changes the buffer. */
static inline struct sp_slice sp_buf_slice(const struct sp_buf *buf)
{
    return (struct sp_slice){buf->ptr, buf->len};
}

/* Room for len more bytes at the end, or NULL (the buffer is then failed). The bytes count as
 * content at once and are not initialised. */
uint8_t *sp_buf_extend(struct sp_buf *buf, size_t len) SP_MUST_USE;
/* Makes sure that len more bytes fit without another allocation; false when they cannot. */
bool sp_buf_reserve(struct sp_buf *buf, size_t len);
void sp_buf_add(struct sp_buf *buf, struct sp_slice slice);
void sp_buf_add_str(struct sp_buf *buf, const char *string);
void sp_buf_add_byte(struct sp_buf *buf, uint8_t byte);
void sp_buf_add_u16(struct sp_buf *buf, uint16_t value);
void sp_buf_add_u32(struct sp_buf *buf, uint32_t value);
void sp_buf_add_u64(struct sp_buf *buf, uint64_t value);
/* LEB128, at most 10 bytes. */
void sp_buf_add_varint(struct sp_buf *buf, uint64_t value);
/* A varint of the length, then the bytes. */
void sp_buf_add_bytes(struct sp_buf *buf, struct sp_slice slice);
/* Decimal digits. */
void sp_buf_add_decimal(struct sp_buf *buf, uint64_t value);
void sp_buf_addf(struct sp_buf *buf, const char *format, ...) SP_PRINTF(2, 3);
/* Drops n bytes at the front (moves the rest down). */
void sp_buf_consume(struct sp_buf *buf, size_t n);

#endif
