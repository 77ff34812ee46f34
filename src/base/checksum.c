#include "base/checksum.h"

#include <isa-l/crc.h>
#include <isa-l/crc64.h>

uint32_t sp_crc32c(uint32_t seed, struct sp_slice bytes)
{
    /* ISA-L's crc32_iscsi takes a non-const pointer and an int length, and does no final xor. */
    uint32_t crc = ~seed;
    while (bytes.len) {
        size_t n = bytes.len < (1U << 30) ? bytes.len : 1U << 30;
        crc = crc32_iscsi((unsigned char *)(uintptr_t)bytes.ptr, (int)n, crc);
        bytes = sp_slice_from(bytes, n);
    }
    return ~crc;
}

uint64_t sp_crc64(struct sp_slice bytes)
{
    return crc64_ecma_refl(0, bytes.ptr, bytes.len);
}

void sp_digest_init(struct sp_digest_state *state)
{
    crypto_generichash_init(&state->state, NULL, 0, SP_DIGEST_BYTES);
}

void sp_digest_update(struct sp_digest_state *state, struct sp_slice bytes)
{
    crypto_generichash_update(&state->state, bytes.ptr, bytes.len);
}

void sp_digest_final(struct sp_digest_state *state, struct sp_digest *ret_digest)
{
    crypto_generichash_final(&state->state, ret_digest->bytes, SP_DIGEST_BYTES);
}

void sp_digest(struct sp_slice bytes, struct sp_digest *ret_digest)
{
    crypto_generichash(ret_digest->bytes, SP_DIGEST_BYTES, bytes.ptr, bytes.len, NULL, 0);
}
