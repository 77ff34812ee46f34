/* UUIDs (RFC 9562): 16 bytes, version 4. The nil UUID names nothing. */
#ifndef SP_BASE_UUID_H
#define SP_BASE_UUID_H

#include "base/slice.h"

struct sp_uuid {
    uint8_t bytes[16];
};

#define SP_UUID_TEXT 37 /* with the NUL */

/* Random, from the kernel. */
void sp_uuid_make(struct sp_uuid *ret_uuid);
void sp_uuid_text(const struct sp_uuid *uuid, char ret_text[SP_UUID_TEXT]);
/* The 36-character form, either case; SP_INVALID otherwise. */
enum sp_status sp_uuid_parse(struct sp_slice text, struct sp_uuid *ret_uuid) SP_MUST_USE;
bool sp_uuid_is_nil(const struct sp_uuid *uuid);
static inline bool sp_uuid_eq(const struct sp_uuid *a, const struct sp_uuid *b)
{
    return memcmp(a->bytes, b->bytes, 16) == 0;
}
/* 64 random bits from the kernel. */
uint64_t sp_random_u64(void);
void sp_random_bytes(void *ret_bytes, size_t len);

#endif
