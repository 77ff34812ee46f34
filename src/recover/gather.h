/* The surviving records of one segment, in order.
 *
 * Those of its data blocks; for blocks that are lost, what the footer's table holds (everything but
 * message bytes); and for bodies in lost blocks, an older generation of the segment, as far as the
 * footer says that the body still belongs to it. (Without that word an older generation is not
 * asked: what a rewriting dropped must not come back.)
 */
#ifndef SP_RECOVER_GATHER_H
#define SP_RECOVER_GATHER_H

#include "recover/relic.h"

struct sp_healed {
    struct sp_record record; /* payload: malloc'ed */
};

struct sp_gathered {
    const struct sp_image *image;
    uint32_t walk_blocks;     /* of the image */
    struct sp_healed *healed; /* ascending by LSN; none of them is in the data blocks */
    uint32_t healed_count;
    bool whole;             /* every data block is there, and the chain holds to the end */
    bool footer_sound;      /* the footer that is there matches the data blocks */
    uint32_t sealed_blocks; /* with that footer */
};

enum sp_status sp_gather(const struct sp_relics *relics, const struct sp_relic *relic,
                         const struct sp_image *image,
                         struct sp_gathered *ret_gathered) SP_MUST_USE;
/* Calls back with each record; payload lives until the callback returns. */
enum sp_status sp_gathered_each(const struct sp_gathered *gathered,
                                enum sp_status (*each)(void *context,
                                                       const struct sp_record *record,
                                                       const struct sp_place *place),
                                void *context) SP_MUST_USE;
void sp_gathered_release(struct sp_gathered *gathered);

#endif
