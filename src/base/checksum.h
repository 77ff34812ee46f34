/* Checksums and digests.
 *
 * CRC-32C (Castagnoli, RFC 3720 B.4) protects blocks and records; CRC-64/XZ (ECMA-182, reflected)
 * chains blocks; BLAKE2b-256 (RFC 7693, libsodium's crypto_generichash without key) names bodies
 * and segments. */
#ifndef SP_BASE_CHECKSUM_H
#define SP_BASE_CHECKSUM_H

#include "base/slice.h"

#include <sodium.h>

#define SP_DIGEST_BYTES 32U

struct sp_digest {
    uint8_t bytes[SP_DIGEST_BYTES];
};

/* CRC-32C with initial value and final xor 0xffffffff: crc32c("123456789") is 0xe3069283. To
 * continue, pass the previous result as seed; to begin, 0. */
uint32_t sp_crc32c(uint32_t seed, struct sp_slice bytes);
/* CRC-64/XZ: crc64("123456789") is 0x995dc9bbdf1939fa. */
uint64_t sp_crc64(struct sp_slice bytes);

struct sp_digest_state {
    crypto_generichash_state state;
};
void sp_digest_init(struct sp_digest_state *state);
void sp_digest_update(struct sp_digest_state *state, struct sp_slice bytes);
void sp_digest_final(struct sp_digest_state *state, struct sp_digest *ret_digest);
void sp_digest(struct sp_slice bytes, struct sp_digest *ret_digest);

#endif
