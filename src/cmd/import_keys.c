#include "cmd/import_keys.h"

#include <stdlib.h>

void sp_import_keys_release(struct sp_import_keys *table)
{
    free(table->keys);
    free(table->counts);
    memset(table, 0, sizeof *table);
}

/* Where the key is, or where it would go. The table is never full. */
static size_t find(const struct sp_import_keys *table, const struct sp_import_key *key)
{
    uint64_t hash;
    memcpy(&hash, key->bytes, sizeof hash);
    size_t at = (size_t)hash & (table->capacity - 1);
    while (table->counts[at] && memcmp(table->keys[at].bytes, key->bytes, SP_IMPORT_KEY_BYTES) != 0)
        at = (at + 1) & (table->capacity - 1);
    return at;
}

static enum sp_status grow(struct sp_import_keys *table)
{
    struct sp_import_keys larger = {.capacity = table->capacity ? table->capacity * 2 : 1024,
                                    .used = table->used};
    larger.keys = calloc(larger.capacity, sizeof *larger.keys);
    larger.counts = calloc(larger.capacity, sizeof *larger.counts);
    if (!larger.keys || !larger.counts) {
        sp_import_keys_release(&larger);
        return SP_NO_MEMORY;
    }
    for (size_t i = 0; i < table->capacity; i++) {
        if (!table->counts[i])
            continue;
        size_t at = find(&larger, &table->keys[i]);
        larger.keys[at] = table->keys[i];
        larger.counts[at] = table->counts[i];
    }
    sp_import_keys_release(table);
    *table = larger;
    return SP_OK;
}

enum sp_status sp_import_keys_add(struct sp_import_keys *table, const struct sp_import_key *key,
                                  uint32_t *ret_count)
{
    if (table->used * 2 >= table->capacity) {
        enum sp_status status = grow(table);
        if (status)
            return status;
    }
    size_t at = find(table, key);
    *ret_count = table->counts[at];
    if (!table->counts[at]) {
        table->keys[at] = *key;
        table->used++;
    }
    table->counts[at]++;
    return SP_OK;
}

uint32_t sp_import_keys_count(const struct sp_import_keys *table, const struct sp_import_key *key)
{
    return table->capacity ? table->counts[find(table, key)] : 0;
}
