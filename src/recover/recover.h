/* Recovery: from raw bytes back to a volume that serves mail.
 *
 * Two steps. *Scan* reads sources (disk images, block devices, files, directories of files), finds
 * every valid block at any 512-byte boundary, and puts each into its place in sparse files:
 *
 *   OUT/volume-UUID/SSSSSSSSSSSSSSSS.GGGGGGGG.seg       hexadecimal segment and generation
 *   OUT/volume-UUID/SSSSSSSSSSSSSSSS.GGGGGGGG.*.par     parity blocks (recover/sidecar.h)
 *   OUT/volume-UUID/SSSSSSSSSSSSSSSS.GGGGGGGG.NN.alt    other blocks that claim the same places
 * (void tails, forgeries) OUT/scan.json                                      what was read and
 * found
 *
 * *Rebuild* works out from OUT which blocks are of the log and which are void, and writes three
 * units, a configuration and an honest account of what is missing. Nothing in OUT is changed by it:
 * what is not put in place stays there.
 *
 * Every source is opened read-only and never written. No file system, unit or index is needed.
 * Scanning again into the same OUT adds to it.
 *
 * Memory. Scan: a few buffers and one bit for each block. Rebuild: the data of one segment, and for
 * each mailbox its UIDs as runs; bodies are not kept.
 *
 * Threads: a call uses one thread of its own; different calls share nothing.
 *
 * Errors. SP_INVALID (arguments; OUT lies on a source), SP_EXISTS (the place to write to is not
 * empty), SP_NOT_FOUND (no blocks, no such volume), SP_NO_SPACE, SP_IO (writing failed: a source
 * that cannot be read is noted in the report and is no error), SP_NO_MEMORY.
 */
#ifndef SP_RECOVER_RECOVER_H
#define SP_RECOVER_RECOVER_H

#include "base/uuid.h"
#include "format/payload.h"

#include <jansson.h>
#include <stdio.h>
#include <sys/types.h>

/* ---- Scan ---- */

#define SP_RECOVER_BAD_RANGES_MAX 1000U /* named for each source; all are counted */

struct sp_recover_scan_options {
    /* Called about every 64 MiB; may be NULL. */
    void (*progress)(void *context, const char *source, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
    ssize_t (*read_at)(int fd, void *bytes, size_t len,
                       off_t offset); /* NULL: pread; tests make it fail */
};

struct sp_recover_source {
    char *path;
    uint64_t size_bytes, read_bytes;
    uint64_t blocks; /* valid blocks found in it */
    uint64_t parity_blocks;
    uint64_t bad_blocks;   /* the magic was there, the rest did not check */
    uint64_t later_blocks; /* of a later format version: left alone */
    uint64_t unread_bytes; /* read errors */
    struct sp_span *bad;   /* byte ranges that could not be read */
    uint32_t bad_count;
    char note[256]; /* why it was not read to its end; empty: it was */
};

struct sp_recover_segment {
    struct sp_uuid volume;
    uint64_t segment, epoch_id;
    uint32_t generation, epoch_counter;
    uint32_t version; /* 0: the .seg file; else the number of the .alt file */
    uint32_t blocks;  /* in the file */
    uint32_t end;     /* one more than the highest index */
    uint64_t twins;   /* equal blocks that were found again */
    uint64_t
        conflicts; /* different blocks for places that were taken; they went to the next version */
    struct sp_span_list holes; /* indices that are missing below `end`; the first 1000 */
};

struct sp_recover_scan_report {
    struct sp_recover_source *sources;
    uint32_t sources_count;
    struct sp_recover_segment *segments; /* by volume, segment, generation, version */
    uint32_t segments_count;
    uint32_t volumes_count;
    uint64_t read_bytes, blocks, bad_blocks, twins, conflicts, dropped;
    uint64_t parity_blocks, rebuilt; /* blocks found nowhere, and rebuilt from parity */
    double seconds;
};

/* Scans sources into out_dir, which is made when missing. The report is filled as far as it came,
 * also on failure. */
enum sp_status sp_recover_scan(const char *const *sources, size_t sources_count,
                               const char *out_dir, const struct sp_recover_scan_options *options,
                               struct sp_recover_scan_report *ret_report,
                               struct sp_error *error) SP_MUST_USE;
void sp_recover_scan_report_release(struct sp_recover_scan_report *report);
/* A new reference, or NULL without memory. */
json_t *sp_recover_scan_report_json(const struct sp_recover_scan_report *report);
void sp_recover_scan_report_print(const struct sp_recover_scan_report *report, FILE *file);

/* Prints a segment file, as far as its blocks are in their places, as lines of JSON: its head, each
 * record, its trailer, and where it is sound to. SP_IO, SP_NO_MEMORY, SP_CORRUPT (there is no valid
 * block in it). */
enum sp_status sp_recover_dump(const char *path, FILE *file, struct sp_error *error) SP_MUST_USE;

/* ---- Rebuild ---- */

#define SP_RECOVER_LSN_SKIP     (1ULL << 40)
#define SP_RECOVER_MODSEQ_SKIP  (1ULL << 40)
#define SP_RECOVER_UIDNEXT_SKIP (1U << 20)
#define SP_RECOVER_NAMED_MAX    100000U /* messages named one by one; all are counted */

struct sp_recover_rebuild_options {
    const struct sp_uuid *volume; /* NULL: the only one */
    bool accept_loss;             /* opens the mailboxes whose chains are broken */
    void (*progress)(void *context, uint64_t done_segments, uint64_t total_segments);
    void *context;
};

enum sp_recover_fate {
    SP_RECOVER_VERBATIM,  /* every data block was there */
    SP_RECOVER_REWRITTEN, /* damaged: what is left was written anew as the next generation */
    SP_RECOVER_EMPTY,     /* nothing is left of it: a head alone */
    SP_RECOVER_VOID,      /* not of the log: left in OUT */
};

struct sp_recover_fate_row {
    uint64_t segment, epoch_id;
    uint32_t generation, written_generation, epoch_counter;
    enum sp_recover_fate fate;
    uint32_t data_blocks, missing_blocks; /* of those that count */
    uint32_t void_blocks;                 /* beyond the end, left in OUT */
    uint64_t records, healed_records;     /* healed: from the footer or an older generation */
    bool footer_kept;                     /* it was sound; otherwise it was made anew */
};

/* A mailbox (or an account's list of mailboxes: mailbox 0; or the list of accounts: account nil)
 * with records lost. */
struct sp_recover_broken {
    struct sp_uuid account;
    uint32_t mailbox;
    char *address, *path; /* NULL: not known */
    uint64_t last_lsn;    /* of the chain's surviving records */
    uint32_t breaks;
    uint64_t missing_uids;    /* how many messages lack their record, as far as can be told */
    struct sp_span_list uids; /* which */
};

/* A message whose record is there and whose bytes are not. */
struct sp_recover_bodiless {
    struct sp_uuid account;
    uint32_t mailbox, uid;
    char *address, *path, *subject; /* as the ENVELOPE has it; NULL: none */
    uint64_t size, lsn;
};

struct sp_recover_report {
    struct sp_uuid volume;
    struct sp_recover_fate_row *segments;
    uint32_t segments_count;
    struct sp_span_list lost; /* LSNs; new, i.e. not declared by an earlier rebuild */
    uint64_t lost_lsns;
    uint64_t lost_tail_lsns; /* of these, after the last whole TAILS: nothing later says for certain
                                whose they were */
    struct sp_recover_broken *broken;
    uint32_t broken_count;
    struct sp_recover_bodiless *bodiless;
    uint32_t bodiless_count;
    uint64_t bodiless_total;
    uint64_t records, messages; /* put in place */
    uint64_t last_lsn, gap_lsn;
    uint64_t new_segment, new_epoch_id;
    uint32_t new_epoch_counter;
    bool accepted_loss;
    char **notes; /* sentences about what had to be inferred */
    uint32_t notes_count;
};

/* Rebuilds a volume from scan_dir into dir, which is missing, empty, or scan_dir itself:
 * dir/unit-a, unit-b, unit-c and, last, sternpost.conf. SP_EXISTS: there is something else in dir.
 */
enum sp_status sp_recover_rebuild(const char *scan_dir, const char *dir,
                                  const struct sp_recover_rebuild_options *options,
                                  struct sp_recover_report *ret_report,
                                  struct sp_error *error) SP_MUST_USE;
void sp_recover_report_release(struct sp_recover_report *report);
json_t *sp_recover_report_json(const struct sp_recover_report *report);
void sp_recover_report_print(const struct sp_recover_report *report, FILE *file);

#endif
