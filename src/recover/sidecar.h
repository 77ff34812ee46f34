/* Parity blocks that a scan finds, and what they are good for: blocks of sealed segments that were
 * found nowhere are rebuilt, and put into their places as if they had been found.
 *
 * A parity block says where it belongs (format/parity.h). Those of one sidecar are kept in a sparse
 * file beside the segment's:
 *
 *   OUT/volume-UUID/SSSSSSSSSSSSSSSS.GGGGGGGG.EEEEEEEEEEEEEEEE.K+M.D+F.par
 *
 * segment, generation and epoch in hexadecimal; k, m, data blocks and footer blocks in decimal. All
 * that makes a parity block belong to the others is in the name. So a later scan into the same OUT
 * goes on with what an earlier one found.
 *
 * A rebuilt block proves itself by its own checksum (sp_parity_unmask). Where a place is claimed by
 * several found blocks, the first is reckoned with.
 */
#ifndef SP_RECOVER_SIDECAR_H
#define SP_RECOVER_SIDECAR_H

#include "format/parity.h"
#include "recover/place.h"

struct sp_sidecars {
    const char *out_dir;          /* the caller's */
    struct sp_parity_header last; /* whose file is open */
    int fd;                       /* -1: none */
    uint64_t blocks, rebuilt;
    struct sp_error *error;
};

void sp_sidecars_init(struct sp_sidecars *sidecars, const char *out_dir, struct sp_error *error);
/* Keeps a valid parity block. SP_IO, SP_NO_SPACE. */
enum sp_status sp_sidecars_put(struct sp_sidecars *sidecars, const struct sp_parity_header *header,
                               const uint8_t *block) SP_MUST_USE;
/* Rebuilds what it can of what `places` lacks. SP_IO, SP_NO_SPACE, SP_NO_MEMORY. */
enum sp_status sp_sidecars_mend(struct sp_sidecars *sidecars, struct sp_places *places) SP_MUST_USE;
void sp_sidecars_close(struct sp_sidecars *sidecars);

#endif
