/* The `dir` unit: a directory on a file system.
 *
 *   PATH/unit.id                       text: the unit's and its volume's UUID; locked (flock) while
 * open PATH/vote                          replaced by rename
 *   PATH/segments/SSSSSSSSSSSSSSSS.GGGG.seg   hexadecimal segment and generation
 *   PATH/segments/NAME.tmp              being prepared; removed at open
 *
 * Segments are prepared with zeros before use, and written with O_DIRECT and RWF_DSYNC where the
 * file system has them (otherwise write + fdatasync), so that a commit is one device write that
 * touches no metadata. A segment that is created before its preparation has finished begins with a
 * short prepared stretch, which writes extend by 1 MiB at a time: so `blocks` in a list may be less
 * or more than was asked for.
 *
 * A disk that hangs holds up the unit's own thread, never its caller: wait answers SP_TIMEOUT,
 * other calls SP_IO after ten seconds, and close returns at once. Such a unit stays locked
 * (SP_CONFLICT) until the kernel gives the write back, so that nobody writes where an old write may
 * still land.
 */
#ifndef SP_UNIT_DIR_H
#define SP_UNIT_DIR_H

#include "unit/unit.h"

/* Makes PATH a unit of the volume. PATH may be missing or empty; anything else in it: SP_EXISTS,
 * and nothing is touched. */
enum sp_status sp_unit_dir_init(const char *path, const struct sp_uuid *volume,
                                struct sp_uuid *ret_unit, struct sp_error *error) SP_MUST_USE;
/* What is in a folder that is to become a unit. */
#define SP_DIR_EXAMPLES 3U
struct sp_dir_found {
    bool exists, directory, mount_point;
    bool unit;                      /* it has a unit.id */
    struct sp_uuid unit_id, volume; /* nil: unit.id cannot be read */
    uint64_t entries;
    char examples[SP_DIR_EXAMPLES][64]; /* names of some; cut when long */
};
enum sp_status sp_unit_dir_look(const char *path, struct sp_dir_found *ret_found,
                                struct sp_error *error) SP_MUST_USE;
/* As sp_unit_dir_init, in a folder that holds other files: they stay as they are. SP_EXISTS: it
 * holds a unit, or names that a unit needs. Asking whether that is meant is the caller's. */
enum sp_status sp_unit_dir_init_over(const char *path, const struct sp_uuid *volume,
                                     struct sp_uuid *ret_unit, struct sp_error *error) SP_MUST_USE;
/* Deletes all that makes PATH a unit, unit.id last: cut off, it is done again. Only the unit with
 * this id, which must not be open (SP_CONFLICT). Files that are not a unit's stay, and are named in
 * the error (SP_EXISTS). SP_NOT_FOUND: there is no unit. */
enum sp_status sp_unit_dir_wipe(const char *path, const struct sp_uuid *unit,
                                uint64_t *ret_segments, struct sp_error *error) SP_MUST_USE;
/* Opens it. expected_id: NULL or what unit.id must say (SP_INVALID otherwise). A path without
 * unit.id or without segments is an absent unit: SP_UNAVAILABLE. Locked by another process:
 * SP_CONFLICT. */
enum sp_status sp_unit_dir_open(const char *path, const char *name,
                                const struct sp_uuid *expected_id, struct sp_unit **ret_unit,
                                struct sp_error *error) SP_MUST_USE;

#endif
