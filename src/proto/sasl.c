#include "proto/sasl.h"

#include <sodium.h>

enum sp_status sp_sasl_plain_read(struct sp_slice base64, struct sp_sasl_plain *ret)
{
    size_t len = 0;
    if (sodium_base642bin(ret->bytes, sizeof ret->bytes, (const char *)base64.ptr, base64.len, NULL,
                          &len, NULL, sodium_base64_VARIANT_ORIGINAL) != 0)
        return SP_INVALID;
    struct sp_slice text = sp_slice(ret->bytes, len);
    size_t first = sp_slice_find(text, 0);
    struct sp_slice rest = sp_slice_from(text, first == SIZE_MAX ? len : first + 1);
    size_t second = sp_slice_find(rest, 0);
    if (first == SIZE_MAX || second == SIZE_MAX)
        return SP_INVALID;
    struct sp_slice other = sp_slice_sub(text, 0, first);
    ret->user = sp_slice_sub(rest, 0, second);
    ret->password = sp_slice_from(rest, second + 1);
    if (sp_slice_find(ret->password, 0) != SIZE_MAX)
        return SP_INVALID;
    return other.len && !sp_slice_eq(other, ret->user) ? SP_UNSUPPORTED : SP_OK;
}

void sp_sasl_plain_wipe(struct sp_sasl_plain *plain)
{
    sodium_memzero(plain, sizeof *plain);
}
