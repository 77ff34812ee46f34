/* Putting blocks into their places: the sparse files of a scan.
 *
 * Each file holds blocks of one (volume, segment, generation, epoch). A place that is taken by an
 * equal block has found a twin. One that is taken by another valid block keeps both: the newcomer
 * goes to the next version of the file (.alt). Which of them the log means is decided by rebuild,
 * not here.
 */
#ifndef SP_RECOVER_PLACE_H
#define SP_RECOVER_PLACE_H

#include "format/block.h"

#define SP_PLACES_INDEX_MAX                                                                        \
    (1U << 24) /* blocks in a segment: 64 GiB; beyond it a block is dropped */
#define SP_PLACES_VERSION_MAX 99U

struct sp_place_file {
    struct sp_uuid volume;
    uint64_t segment, epoch_id;
    uint32_t generation, epoch_counter, version;
    int fd;            /* -1: closed for now */
    uint64_t used;     /* when, for closing the least recently used */
    uint64_t *present; /* a bit for each block */
    uint32_t present_words;
    uint32_t blocks, end;
    uint64_t twins, conflicts;
    uint32_t next; /* in its hash bucket: index + 1 */
};

struct sp_places {
    char *out_dir;
    struct sp_place_file *files;
    uint32_t files_count, files_capacity;
    uint32_t *buckets;
    uint32_t buckets_count; /* a power of two */
    uint32_t open_count;
    uint64_t clock;
    uint64_t blocks, twins, conflicts, dropped;
    uint8_t *compare; /* for reading back */
    struct sp_error *error;
};

/* out_dir is made when missing. What an earlier scan left there is taken up; anything else in it is
 * SP_EXISTS. */
enum sp_status sp_places_open(struct sp_places *places, const char *out_dir,
                              struct sp_error *error) SP_MUST_USE;
/* Puts `count` valid blocks of consecutive index, which follow one another in memory. */
enum sp_status sp_places_put(struct sp_places *places, const struct sp_block_header *first,
                             const uint8_t *blocks, uint32_t count) SP_MUST_USE;
enum sp_status sp_places_sync(struct sp_places *places) SP_MUST_USE;
void sp_places_close(struct sp_places *places);

static inline bool sp_place_file_has(const struct sp_place_file *file, uint32_t index)
{
    return index / 64 < file->present_words && (file->present[index / 64] >> (index % 64) & 1);
}

/* The path of a file below out_dir. */
void sp_place_path(const char *out_dir, const struct sp_uuid *volume, uint64_t segment,
                   uint32_t generation, uint32_t version, char *ret_path, size_t size);
/* Understands "SSSSSSSSSSSSSSSS.GGGGGGGG.seg" and "...NN.alt". */
bool sp_place_parse(const char *name, uint64_t *ret_segment, uint32_t *ret_generation,
                    uint32_t *ret_version);

#endif
