/* A table of 16-byte keys, each with a count: which items are known, how often a digest was seen.
 * Keys are digests, so their bytes serve as their hash. Grows by doubling; 40 bytes for each key at
 * worst. */
#ifndef SP_CMD_IMPORT_KEYS_H
#define SP_CMD_IMPORT_KEYS_H

#include "base/slice.h"

#define SP_IMPORT_KEY_BYTES 16U

struct sp_import_key {
    uint8_t bytes[SP_IMPORT_KEY_BYTES];
};
struct sp_import_keys {
    struct sp_import_key *keys;
    uint32_t *counts; /* 0: free */
    size_t capacity, used;
};
/* Frees everything; the table is empty and usable again. A zeroed one is an empty one. */
void sp_import_keys_release(struct sp_import_keys *table);
/* Counts the key once more; *ret_count is how often it was counted before. SP_NO_MEMORY. */
enum sp_status sp_import_keys_add(struct sp_import_keys *table, const struct sp_import_key *key,
                                  uint32_t *ret_count) SP_MUST_USE;
/* How often it was counted. */
uint32_t sp_import_keys_count(const struct sp_import_keys *table, const struct sp_import_key *key);

#endif
