/* Fixed-width integers in bytes: little-endian in the log, big-endian where keys must sort. */
#ifndef SP_BASE_ENDIAN_H
#define SP_BASE_ENDIAN_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t sp_get_u16(const uint8_t *at)
{
    uint16_t v;
    memcpy(&v, at, 2);
    return le16toh(v);
}
static inline uint32_t sp_get_u32(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, 4);
    return le32toh(v);
}
static inline uint64_t sp_get_u64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, 8);
    return le64toh(v);
}
static inline void sp_put_u16(uint8_t *at, uint16_t v)
{
    v = htole16(v);
    memcpy(at, &v, 2);
}
static inline void sp_put_u32(uint8_t *at, uint32_t v)
{
    v = htole32(v);
    memcpy(at, &v, 4);
}
static inline void sp_put_u64(uint8_t *at, uint64_t v)
{
    v = htole64(v);
    memcpy(at, &v, 8);
}
static inline uint32_t sp_get_u32be(const uint8_t *at)
{
    uint32_t v;
    memcpy(&v, at, 4);
    return be32toh(v);
}
static inline uint64_t sp_get_u64be(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, 8);
    return be64toh(v);
}
static inline void sp_put_u32be(uint8_t *at, uint32_t v)
{
    v = htobe32(v);
    memcpy(at, &v, 4);
}
static inline void sp_put_u64be(uint8_t *at, uint64_t v)
{
    v = htobe64(v);
    memcpy(at, &v, 8);
}

#endif
