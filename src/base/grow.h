/* Arrays on the heap that grow. For those whose lifetime is an arena's, see the arena. */
#ifndef SP_BASE_GROW_H
#define SP_BASE_GROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Room for one more item behind the first `count`. list: the address of the pointer to them (NULL
 * at first, with *capacity 0), which the caller frees. false: no memory, and all is as it was. */
static inline bool sp_grow(void *list, size_t count, size_t *capacity, size_t item_bytes)
{
    void *items;
    if (count < *capacity)
        return true;
    size_t wanted = *capacity ? *capacity * 2 : 64;
    memcpy(&items, list, sizeof items);
    items = wanted <= SIZE_MAX / item_bytes ? realloc(items, wanted * item_bytes) : NULL;
    if (!items)
        return false;
    memcpy(list, &items, sizeof items);
    *capacity = wanted;
    return true;
}

#endif
