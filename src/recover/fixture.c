/* Writes segment files of a made-up volume into a directory, some of them damaged, and beside each
 * (NAME.json) what the C reader finds in it: material for the independent reader in tests/. */
#include "recover/test_world.h"

#include <stdio.h>
#include <stdlib.h>

static void save(const char *dir, const char *name, const uint8_t *bytes, size_t len)
{
    char path[4096];
    struct sp_error error;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    sp_assert(file && fwrite(bytes, 1, len, file) == len);
    sp_assert(fclose(file) == 0);
    char json[4200];
    snprintf(json, sizeof json, "%s.json", path);
    file = fopen(json, "w");
    sp_assert(file && sp_recover_dump(path, file, &error) == SP_OK && fclose(file) == 0);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: recover_fixture DIR\n");
        return 2;
    }
    struct world w;
    world_init(&w, 1234);
    world_fill(&w);
    world_expunge(&w, 1, 2);
    world_commit(&w);
    world_begin_epoch(&w);
    world_begin_segment(&w, true);
    world_message(&w, 0, 100000);
    world_commit(&w);
    for (uint32_t i = 0; i < w.segments_count; i++) {
        struct world_segment *s = &w.segments[i];
        char name[64];
        size_t len = (size_t)s->count * SP_BLOCK_BYTES;
        snprintf(name, sizeof name, "%016llx.%04x.seg", (unsigned long long)s->id.segment,
                 s->id.generation);
        save(argv[1], name, s->blocks, len);
        for (unsigned flips = 0; flips < 6; flips++)
            s->blocks[world_random(&w) % len] ^= 4;
        snprintf(name, sizeof name, "damaged-%u.seg", i);
        save(argv[1], name, s->blocks, len);
    }
    world_release(&w);
    return 0;
}
