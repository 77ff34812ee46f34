/* A little mail on a store, and a model in memory to hold it against. For tests of the store. */
#ifndef SP_STORE_TEST_MODEL_H
#define SP_STORE_TEST_MODEL_H

#include "store/volume.h"
#include "unit/sim.h"

#define MODEL_MAILBOXES 3U
#define MODEL_UIDS      1024U

enum model_state { MODEL_NONE, MODEL_PRESENT, MODEL_GONE };

struct model_message {
    enum model_state state;
    uint32_t seed; /* of its body */
    uint32_t flags;
};

struct model_mailbox {
    struct model_message messages[MODEL_UIDS]; /* by model_slot of their UIDs */
    uint32_t uid_highest;                      /* ever acknowledged */
};

struct model {
    struct sp_uuid account;
    bool account_made;
    bool protected_; /* all of it is */
    struct model_mailbox mailboxes[MODEL_MAILBOXES];
};

/* UIDs that leapt by 2^20 have their place behind the others. */
uint32_t model_slot(uint32_t uid);

/* One step of a workload: what to do, and what the model is afterwards if it is acknowledged. */
enum step_type { STEP_ACCOUNT, STEP_DELIVER, STEP_FLAGS, STEP_EXPUNGE };
struct step {
    enum step_type type;
    uint32_t mailbox; /* 0 .. */
    uint32_t uid;     /* FLAGS, EXPUNGE; DELIVER: out, the UID it got */
    uint32_t seed;    /* DELIVER */
    uint32_t body_bytes;
    uint32_t flags;
};

/* The plan that carries out a step; context is a struct step_context. */
struct step_context {
    struct model *model;
    struct step *step;
};
enum sp_status step_plan(struct sp_plan *plan, void *context);
/* A step that waits in the volume's queue with others, and its outcome. */
struct waiting {
    struct sp_commit commit; /* first: the two are cast */
    struct step_context context;
    enum sp_status status;
    bool answered;
};
enum sp_status waiting_plan(struct sp_plan *plan, struct sp_commit *commit);
void waiting_done(struct sp_commit *commit, enum sp_status status, const char *why);

/* What an acknowledged step does to the model. */
void step_done(struct model *model, const struct step *step);

/* Holds the volume against the model: everything acknowledged is there, byte for byte, nothing else
 * is, but for the effect of `maybe` (may be NULL), which is there wholly or not at all; then the
 * model takes it over. */
void model_check(struct sp_volume *volume, struct model *model, const struct step *maybe,
                 uint32_t maybe_count);

/* A body's bytes from its seed. */
void model_body(uint32_t seed, uint32_t bytes, uint8_t *ret_body);

/* Three sim disks as units a, b (replicas) and c (spare), opened into a configuration. */
void sim_config(struct sp_sim_world *world, const struct sp_uuid *volume, const char *index_path,
                struct sp_volume_config *ret_config);

#endif
