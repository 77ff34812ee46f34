/* Prints where the parts of the message on standard input lie, for tests/test_mime_offsets.py: one
 * part a line, in pre-order: depth, type/subtype, the offsets of header, body and end, lines. */
#include "mime/test_tree.h"

#include <stdio.h>
#include <stdlib.h>

#define MESSAGE_BYTES_MAX (64U << 20)

int main(void)
{
    static const uint8_t pieces[] = {255, 80, 1, 200};
    struct sp_buf bytes;
    struct sp_arena arena;
    struct sp_mime_message message;
    char chunk[4096];
    size_t n;
    sp_buf_init(&bytes, MESSAGE_BYTES_MAX);
    sp_arena_init(&arena, SP_MIME_ARENA_BYTES);
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0)
        sp_buf_add(&bytes, sp_slice(chunk, n));
    sp_assert(!ferror(stdin) && !sp_buf_failed(&bytes));
    sp_assert(sp_test_parse(sp_buf_slice(&bytes), pieces, sizeof pieces, &arena, &message) ==
              SP_OK);
    for (uint32_t i = 0; i < message.parts_count; i++) {
        const struct sp_mime_part *part = &message.parts[i];
        unsigned depth = 0;
        for (uint32_t p = i; p; p = message.parts[p].parent)
            depth++;
        printf("%u %.*s/%.*s %llu %llu %llu %llu\n", depth, SP_FMT(part->type),
               SP_FMT(part->subtype), (unsigned long long)part->header_offset,
               (unsigned long long)part->body_offset,
               (unsigned long long)(part->body_offset + part->body_bytes),
               (unsigned long long)part->body_lines);
    }
    sp_arena_release(&arena);
    sp_buf_release(&bytes);
    return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
