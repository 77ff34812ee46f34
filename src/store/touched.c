/* The set of mailboxes that the segment being written has changed: open addressing over an array in
 * order. */
#include "base/checksum.h"
#include "store/volume_internal.h"

#include <stdlib.h>

struct sp_touched_set {
    struct sp_touched *items;
    size_t count, capacity;
    uint32_t *slots; /* index + 1; 0: free. A power of two, at least twice the capacity */
    size_t slots_count;
};

struct sp_touched_set *sp_touched_set_new(void)
{
    return calloc(1, sizeof(struct sp_touched_set));
}

void sp_touched_set_free(struct sp_touched_set *set)
{
    if (!set)
        return;
    free(set->items);
    free(set->slots);
    free(set);
}

static size_t slot_of(const struct sp_touched_set *set, const struct sp_touched *mailbox)
{
    uint32_t hash = sp_crc32c(mailbox->mailbox, sp_slice(mailbox->account.bytes, 16));
    size_t at = hash & (set->slots_count - 1);
    while (set->slots[at]) {
        const struct sp_touched *item = &set->items[set->slots[at] - 1];
        if (item->mailbox == mailbox->mailbox && sp_uuid_eq(&item->account, &mailbox->account))
            break;
        at = (at + 1) & (set->slots_count - 1);
    }
    return at;
}

static bool grow(struct sp_touched_set *set)
{
    size_t capacity = set->capacity ? set->capacity * 2 : 64, slots_count = capacity * 2;
    struct sp_touched *items = realloc(set->items, capacity * sizeof *items);
    if (!items)
        return false;
    set->items = items;
    uint32_t *slots = calloc(slots_count, sizeof *slots);
    if (!slots)
        return false;
    free(set->slots);
    set->slots = slots;
    set->slots_count = slots_count;
    set->capacity = capacity;
    for (size_t i = 0; i < set->count; i++)
        set->slots[slot_of(set, &set->items[i])] = (uint32_t)i + 1;
    return true;
}

enum sp_status sp_touched_set_add(struct sp_touched_set *set, const struct sp_touched *mailbox)
{
    if (set->count == set->capacity && !grow(set))
        return SP_NO_MEMORY;
    size_t at = slot_of(set, mailbox);
    if (set->slots[at])
        return SP_OK;
    set->items[set->count++] = *mailbox;
    set->slots[at] = (uint32_t)set->count;
    return SP_OK;
}

size_t sp_touched_set_count(const struct sp_touched_set *set)
{
    return set->count;
}

const struct sp_touched *sp_touched_set_at(const struct sp_touched_set *set, size_t i)
{
    return &set->items[i];
}

size_t sp_touched_set_find(const struct sp_touched_set *set, const struct sp_touched *mailbox)
{
    if (!set->count)
        return SIZE_MAX;
    uint32_t slot = set->slots[slot_of(set, mailbox)];
    return slot ? slot - 1 : SIZE_MAX;
}
