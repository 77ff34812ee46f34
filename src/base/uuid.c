#include "base/uuid.h"

#include <stdio.h>
#include <sys/random.h>

void sp_random_bytes(void *ret_bytes, size_t len)
{
    uint8_t *at = ret_bytes;
    while (len) {
        ssize_t n = getrandom(at, len, 0);
        sp_assert(n > 0);
        at += n;
        len -= (size_t)n;
    }
}

uint64_t sp_random_u64(void)
{
    uint64_t value;
    sp_random_bytes(&value, sizeof value);
    return value;
}

void sp_uuid_make(struct sp_uuid *ret_uuid)
{
    sp_random_bytes(ret_uuid->bytes, 16);
    ret_uuid->bytes[6] = (uint8_t)((ret_uuid->bytes[6] & 0x0f) | 0x40);
    ret_uuid->bytes[8] = (uint8_t)((ret_uuid->bytes[8] & 0x3f) | 0x80);
}

void sp_uuid_text(const struct sp_uuid *uuid, char ret_text[SP_UUID_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            ret_text[at++] = '-';
        ret_text[at++] = digits[uuid->bytes[i] >> 4];
        ret_text[at++] = digits[uuid->bytes[i] & 15];
    }
    ret_text[at] = '\0';
}

static int hex_digit(uint8_t c)
{
    c = sp_ascii_lower(c);
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum sp_status sp_uuid_parse(struct sp_slice text, struct sp_uuid *ret_uuid)
{
    struct sp_uuid uuid;
    size_t at = 0;
    if (text.len != SP_UUID_TEXT - 1)
        return SP_INVALID;
    for (size_t i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && text.ptr[at++] != '-')
            return SP_INVALID;
        int high = hex_digit(text.ptr[at]), low = hex_digit(text.ptr[at + 1]);
        if (high < 0 || low < 0)
            return SP_INVALID;
        uuid.bytes[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    *ret_uuid = uuid;
    return SP_OK;
}

bool sp_uuid_is_nil(const struct sp_uuid *uuid)
{
    static const struct sp_uuid nil;
    return sp_uuid_eq(uuid, &nil);
}
