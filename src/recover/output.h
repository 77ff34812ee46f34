/* Writing a rebuilt volume: the same segments onto two units, and the votes of three. */
#ifndef SP_RECOVER_OUTPUT_H
#define SP_RECOVER_OUTPUT_H

#include "format/batch.h"
#include "format/segment.h"
#include "recover/gather.h"
#include "unit/dir.h"

#define SP_OUTPUT_UNITS 3U /* two replicas, then a spare */

struct sp_output {
    struct sp_unit *units[SP_OUTPUT_UNITS];
    struct sp_uuid volume;
    struct sp_footer_builder *builder;
    struct sp_log_end end; /* of what was written last */
    uint64_t last_lsn;     /* of all records written */
    uint64_t end_time_ns;  /* the newest time of those that were written anew */
    struct sp_error *error;
};

/* Makes dir (missing or empty), its units and opens them. */
enum sp_status sp_output_open(struct sp_output *output, const char *dir,
                              const struct sp_uuid *volume, struct sp_error *error) SP_MUST_USE;
void sp_output_close(struct sp_output *output);

/* Writes a whole segment as it is, with the footer that it has or a new one. */
enum sp_status sp_output_verbatim(struct sp_output *output,
                                  const struct sp_gathered *gathered) SP_MUST_USE;
/* Writes a segment anew: head, the records, a footer. batches: how many batch numbers there are for
 * it. */
enum sp_status sp_output_rewritten(struct sp_output *output, const struct sp_segment_head *head,
                                   const struct sp_gathered *gathered,
                                   uint64_t batches) SP_MUST_USE;
/* Begins a segment that stays open: head and one or more batches of these records. */
enum sp_status sp_output_open_segment(struct sp_output *output, const struct sp_segment_head *head,
                                      const struct sp_record *records, size_t count,
                                      uint8_t ret_head_block[SP_BLOCK_BYTES]) SP_MUST_USE;
enum sp_status sp_output_vote(struct sp_output *output, const struct sp_segment_head *head,
                              const uint8_t head_block[SP_BLOCK_BYTES]) SP_MUST_USE;
/* dir/sternpost.conf */
enum sp_status sp_output_config(const struct sp_output *output, const char *dir) SP_MUST_USE;

#endif
