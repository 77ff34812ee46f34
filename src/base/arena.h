/* Arenas: memory that is given back all at once.
 *
 * Named by lifetime (process, connection, command, request) and passed explicitly. The cap of an
 * arena is the limit on what a peer can make us hold: an allocation beyond it fails, it never grows
 * past. Not thread-safe: one owner at a time; an arena may move between threads with the request it
 * belongs to.
 */
#ifndef SP_BASE_ARENA_H
#define SP_BASE_ARENA_H

#include "base/slice.h"

struct sp_arena_chunk;

struct sp_arena {
    struct sp_arena_chunk *chunks; /* newest first */
    size_t used_bytes;             /* handed out, with padding */
    size_t cap_bytes;
};

/* An empty arena; holds no memory until something is allocated. */
void sp_arena_init(struct sp_arena *arena, size_t cap_bytes);
/* Gives everything back; the arena may be used again (same cap). */
void sp_arena_release(struct sp_arena *arena);

/* size_bytes of zeroed memory aligned to 16; NULL when the cap or the heap is exhausted. Lives
 * until release. */
void *sp_arena_alloc(struct sp_arena *arena, size_t size_bytes) SP_MUST_USE;
/* count * size with an overflow check. */
void *sp_arena_array(struct sp_arena *arena, size_t count, size_t size_bytes) SP_MUST_USE;
/* A copy. On failure ptr is NULL while slice.len > 0: check with sp_arena_ok. An empty slice copies
 * to {NULL, 0}. */
struct sp_slice sp_arena_copy(struct sp_arena *arena, struct sp_slice slice);
/* A NUL-terminated copy or NULL. */
char *sp_arena_str(struct sp_arena *arena, struct sp_slice slice) SP_MUST_USE;

#endif
