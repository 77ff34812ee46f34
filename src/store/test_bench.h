/* A volume on three simulated disks with a model beside it, to do things to. For tests of the
 * store. */
#ifndef SP_STORE_TEST_BENCH_H
#define SP_STORE_TEST_BENCH_H

#include "store/test_model.h"

struct bench {
    struct sp_sim_world *world;
    struct sp_uuid id;
    struct sp_volume *volume; /* NULL: not open */
    struct model model;
    uint32_t seed;
    uint32_t body_bytes;              /* of what is delivered */
    uint64_t segment_bytes;           /* 0: those of sim_config */
    struct sp_parity_shape parity[3]; /* of each disk */
    bool witness;                     /* disk c votes only, and is no spare */
    const char *scrub_path;           /* NULL: its state is kept nowhere */
    uint64_t scrub_max_age_s;
    uint64_t reserve_bytes;
    struct model kept; /* for the test */
    bool accept_loss;  /* of the next bench_open */
    uint64_t hold_ms;
    bool rebuild; /* the index, at the next opening */
    bool clocked; /* the volume goes by these clocks, and not by the machine's */
    uint64_t wall_ns, ms;
};

extern char bench_index_path[64]; /* set by bench_main */

/* A volume, open, with an account and so many messages. */
struct bench *bench_begin(uint64_t segment_bytes, uint32_t messages);
/* The same with c as a witness: so that a or b can be all there is. */
struct bench *bench_begin_with_witness(uint64_t segment_bytes, uint32_t messages);
/* Holds it against the model and frees it. */
void bench_end(struct bench *b);
/* absent: a bit for each disk that is not there. */
enum sp_status bench_open(struct bench *b, uint32_t absent, bool accept, struct sp_error *error);
/* Closes the volume; the disks stay as they are. */
void bench_stop(struct bench *b);
enum sp_status bench_run(struct bench *b, struct step step);
enum sp_status bench_deliver(struct bench *b);
/* Has the log compacted, and waits for the end of it; false: it was put off. */
bool bench_compact(struct bench *b);
/* An opener for sp_volume_add_unit; context is the bench. */
enum sp_status bench_open_disk(void *context, const char *name, struct sp_unit **ret_unit,
                               struct sp_error *error);
enum sp_unit_state bench_state(struct bench *b, uint32_t disk);
struct sp_volume_status bench_status(struct bench *b);
/* Until there is nothing left to do. */
void bench_tend_all(struct bench *b);
/* A block that is there goes bad. */
void bench_rot(struct bench *b, uint32_t disk, uint64_t segment, uint32_t block);

/* Runs what `tests` runs with bench_index_path set, and removes the index afterwards. */
int bench_main(int (*tests)(void));

#endif
