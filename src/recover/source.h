/* Reading sources: sequential, read-only, past what cannot be read.
 *
 * A thread of its own reads ahead into a ring of buffers, and looks for the magic while the bytes
 * are still in its cache: most pieces of most disks hold nothing, and are not handed over at all.
 * Sectors that cannot be read are tried one page at a time, noted, and given as zeros, so that what
 * follows keeps its place.
 */
#ifndef SP_RECOVER_SOURCE_H
#define SP_RECOVER_SOURCE_H

#include "recover/recover.h"

/* All the files that the arguments mean: themselves, or the regular files below a directory.
 * Refuses (SP_INVALID) an out_dir that lies on one of them. Appends to *ret_sources, which the
 * caller frees also on failure. */
enum sp_status sp_sources_list(const char *const *arguments, size_t count, const char *out_dir,
                               struct sp_recover_source **ret_sources, uint32_t *ret_count,
                               struct sp_error *error) SP_MUST_USE;

struct sp_piece {
    uint8_t *bytes; /* SP_PIECE_HEADROOM bytes before it may be written by the caller */
    size_t len;
    uint64_t end; /* in the source: where it ends */
};
#define SP_PIECE_BYTES    (256U << 10)
#define SP_PIECE_HEADROOM 4096U

/* Reads a source to its end: calls `each` for every piece in which a block may begin, and the one
 * after it, in order, on the caller's thread, until one returns something else than SP_OK. Trouble
 * with the source is noted in it and is no failure. */
enum sp_status sp_source_read(struct sp_recover_source *source,
                              ssize_t (*read_at)(int fd, void *bytes, size_t len, off_t offset),
                              enum sp_status (*each)(void *context, const struct sp_piece *piece),
                              void *context, struct sp_error *error) SP_MUST_USE;

#endif
