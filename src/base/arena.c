#include "base/arena.h"

#include <stdlib.h>

#define CHUNK_MIN_BYTES 1024U
#define CHUNK_MAX_BYTES 65536U
#define ALIGN           16U

struct sp_arena_chunk {
    struct sp_arena_chunk *next;
    size_t size_bytes; /* of data */
    size_t used_bytes;
    _Alignas(ALIGN) uint8_t data[];
};

void sp_arena_init(struct sp_arena *arena, size_t cap_bytes)
{
    *arena = (struct sp_arena){.cap_bytes = cap_bytes};
}

void sp_arena_release(struct sp_arena *arena)
{
    struct sp_arena_chunk *chunk = arena->chunks;
    while (chunk) {
        struct sp_arena_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    arena->chunks = NULL;
    arena->used_bytes = 0;
}

void *sp_arena_alloc(struct sp_arena *arena, size_t size_bytes)
{
    if (size_bytes > SIZE_MAX - ALIGN)
        return NULL;
    size_t need = (size_bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (need == 0)
        need = ALIGN;
    if (need > arena->cap_bytes || arena->used_bytes > arena->cap_bytes - need)
        return NULL;
    struct sp_arena_chunk *chunk = arena->chunks;
    if (!chunk || chunk->size_bytes - chunk->used_bytes < need) {
        size_t size = chunk ? chunk->size_bytes * 2 : CHUNK_MIN_BYTES;
        if (size > CHUNK_MAX_BYTES)
            size = CHUNK_MAX_BYTES;
        if (size < need)
            size = need;
        struct sp_arena_chunk *fresh = malloc(sizeof *fresh + size);
        if (!fresh)
            return NULL;
        fresh->size_bytes = size;
        fresh->used_bytes = 0;
        /* A chunk made for one large object goes second, so that the current one stays in use. */
        if (chunk && size == need && size > CHUNK_MAX_BYTES) {
            fresh->next = chunk->next;
            chunk->next = fresh;
        } else {
            fresh->next = chunk;
            arena->chunks = fresh;
        }
        chunk = fresh;
    }
    void *memory = chunk->data + chunk->used_bytes;
    chunk->used_bytes += need;
    arena->used_bytes += need;
    memset(memory, 0, need);
    return memory;
}

void *sp_arena_array(struct sp_arena *arena, size_t count, size_t size_bytes)
{
    size_t total;
    if (__builtin_mul_overflow(count, size_bytes, &total))
        return NULL;
    return sp_arena_alloc(arena, total);
}

struct sp_slice sp_arena_copy(struct sp_arena *arena, struct sp_slice slice)
{
    if (!slice.len)
        return (struct sp_slice){NULL, 0};
    uint8_t *memory = sp_arena_alloc(arena, slice.len);
    if (memory)
        memcpy(memory, slice.ptr, slice.len);
    return (struct sp_slice){memory, slice.len};
}

char *sp_arena_str(struct sp_arena *arena, struct sp_slice slice)
{
    char *memory = sp_arena_alloc(arena, slice.len + 1);
    if (memory && slice.len)
        memcpy(memory, slice.ptr, slice.len);
    return memory;
}
