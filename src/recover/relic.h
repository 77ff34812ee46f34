/* Relics: what a scan found of each segment, and which of it is the log.
 *
 * A relic is all blocks of one (segment, generation, epoch), from one file of OUT or, where
 * different blocks claimed the same place, from several. Which relics belong to the log follows
 * from the segment heads alone (docs/format.md, "Which blocks are the log"): beginning with the
 * newest epoch, each epoch's first head names the exact end of what counts before it. Where such a
 * head is lost, order is inferred from epoch counters, segment and batch numbers.
 */
#ifndef SP_RECOVER_RELIC_H
#define SP_RECOVER_RELIC_H

#include "format/segment.h"
#include "recover/recover.h"

#define SP_RELIC_FILES_MAX 8U

enum sp_relic_state {
    SP_RELIC_VOID,    /* of an epoch or beyond an end that the log does not count */
    SP_RELIC_OLD,     /* an older generation of a live segment */
    SP_RELIC_RETIRED, /* its records are in a later segment's higher generation */
    SP_RELIC_LIVE,
};

struct sp_relic {
    uint64_t segment, epoch_id;
    uint32_t epoch_counter, generation;
    uint32_t versions[SP_RELIC_FILES_MAX]; /* of the files that hold its blocks */
    uint32_t files_count;
    uint32_t data_blocks; /* found, each place counted once for each file */
    uint32_t data_end;    /* one more than the highest index of a data block */
    uint32_t end;         /* likewise with the footer */
    uint64_t first_batch; /* least batch number found; UINT64_MAX: none */
    bool has_head, has_trailer;
    struct sp_segment_head head;
    struct sp_block_header trailer_header;
    struct sp_trailer trailer;

    enum sp_relic_state state;
    /* Of a live one: what a later head declares to be its end, and the first batch number that is
     * void. */
    bool declared;
    struct sp_log_end end_declared;
    uint64_t batch_cap;
};

struct sp_relics {
    char *dir; /* of the scan */
    struct sp_uuid volume;
    struct sp_relic *relics; /* by epoch counter, epoch, segment, generation */
    uint32_t count;
    uint32_t *live; /* in the order of the log */
    uint32_t live_count;
    struct sp_recover_report *report; /* for notes */
    struct sp_error *error;
};

/* Looks at every file of the volume. */
enum sp_status sp_relics_load(struct sp_relics *relics, const char *scan_dir,
                              const struct sp_uuid *volume, struct sp_recover_report *report,
                              struct sp_error *error) SP_MUST_USE;
/* Decides state, declared ends and `live`. */
enum sp_status sp_relics_sort_out(struct sp_relics *relics) SP_MUST_USE;
void sp_relics_release(struct sp_relics *relics);
/* A sentence for the report. */
void sp_recover_note(struct sp_recover_report *report, const char *format, ...) SP_PRINTF(2, 3);

/* The blocks of a relic in their places; what is missing is zeros. Where two claimed a place, the
 * chain decides. */
struct sp_image {
    uint8_t *blocks; /* aligned to SP_BLOCK_BYTES */
    uint32_t count;
    struct sp_segment_id id;
    uint32_t end;     /* data blocks that count (as far as can be told); those that may be missing
                         included */
    uint32_t present; /* of these */
    uint32_t void_blocks;
};
enum sp_status sp_image_load(const struct sp_relics *relics, const struct sp_relic *relic,
                             bool is_last, struct sp_image *ret_image) SP_MUST_USE;
void sp_image_release(struct sp_image *image);

#endif
