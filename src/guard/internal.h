/* What the parts of the guard share. Not for others.
 *
 *   guard.c      opening, the thread, the clocks, carrying out
 *   request.c    records in the log: request, approve, undo, policies, list
 *   check.c      checks in the background
 *   operation.c  the table of operations
 *   erasure.c    one of them: what a request to erase says
 *   retired.c    deleting what compaction has replaced
 */
#ifndef SP_GUARD_INTERNAL_H
#define SP_GUARD_INTERNAL_H

#include "guard/guard.h"
#include "store/proof.h"

#include <pthread.h>
#include <stdatomic.h>

#define SP_GUARD_PENDING_MAX 64U
#define SP_GUARD_FRESH_MS    (60U * 60U * 1000U) /* a check is good for so long */

/* What a request is about. */
struct sp_guard_subject {
    char name[SP_GUARD_SUBJECT_BYTES];
    struct sp_uuid id; /* nil: it has none */
    char confirm[320];
    char who[64]; /* asked for it; "" while it is being checked */
};

struct sp_guard_kind {
    uint8_t operation;
    const char *name;
    const char *effect; /* for people: what it does */
    bool policy;        /* carrying it out makes a policy */
    /* Finds the subject and what must be typed. */
    enum sp_status (*find)(struct sp_guard *g, const char *text, struct sp_guard_subject *ret,
                           struct sp_error *error);
    /* Proves that nothing is lost; adds what it found to `facts`, whatever comes of it. May take
     * hours. NULL: there is nothing to prove. SP_DENIED: it is not so. */
    enum sp_status (*check)(struct sp_guard *g, const struct sp_guard_subject *subject,
                            struct sp_buf *facts, struct sp_error *error);
    /* Does it; done twice it changes nothing. text: for the record. NULL: a policy. */
    enum sp_status (*carry_out)(struct sp_guard *g, const struct sp_guard_subject *subject,
                                struct sp_buf *text, struct sp_error *error);
};
/* NULL: there is no such. */
const struct sp_guard_kind *sp_guard_kind_of(unsigned operation);

/* erasure.c */
enum sp_status sp_guard_find_erasure(struct sp_guard *g, const char *text,
                                     struct sp_guard_subject *ret,
                                     struct sp_error *error) SP_MUST_USE;
enum sp_status sp_guard_check_erasure(struct sp_guard *g, const struct sp_guard_subject *subject,
                                      struct sp_buf *facts, struct sp_error *error) SP_MUST_USE;
enum sp_status sp_guard_erase(struct sp_guard *g, const struct sp_guard_subject *subject,
                              struct sp_buf *text, struct sp_error *error) SP_MUST_USE;

/* How long a pending request has waited, of the time that this process has run. */
struct sp_guard_waiting {
    struct sp_uuid id;
    uint64_t waited_ms, logged_ms;
    uint64_t retry_ms; /* not before this, of the monotonic clock */
    char trouble[256];
};

struct sp_guard {
    struct sp_guard_config config;
    struct sp_proof *proof; /* the checker's, one at a time: under prove_lock */
    pthread_mutex_t prove_lock;
    /* Held from the last look at a request's state to the record that ends it. */
    pthread_mutex_t act_lock;

    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t wake;
    struct sp_guard_check check;
    uint64_t checked_ms; /* when it ended */
    bool checking;       /* its thread must be joined */
    pthread_t checker;
    struct sp_guard_waiting waiting[SP_GUARD_PENDING_MAX];
    uint32_t waiting_count;
    uint64_t stepped_ms, swept_ms;
    bool stopping;
    pthread_t thread;
    bool thread_running;
    _Atomic bool stop;
};

/* Until then, or until the guard is closed. */
void sp_guard_sleep(struct sp_guard *g, uint32_t ms);
uint64_t sp_guard_mono_ms(const struct sp_guard *g);
uint64_t sp_guard_wall_ns(const struct sp_guard *g);

/* request.c: writes an event to the log. must_pend: only while the request is pending (SP_CONFLICT,
 * SP_NOT_FOUND). */
enum sp_status sp_guard_write(struct sp_guard *g, const struct sp_guard_record *record,
                              bool must_pend, struct sp_error *error) SP_MUST_USE;
/* The request, its texts copied into buffers of the caller's. */
struct sp_guard_copy {
    struct sp_uuid id;
    struct sp_guard_row row;
    char subject[SP_GUARD_SUBJECT_BYTES], who[64];
};
/* Every pending request. */
enum sp_status sp_guard_pending(struct sp_guard *g, struct sp_guard_copy *ret_list, uint32_t max,
                                uint32_t *ret_count, struct sp_error *error) SP_MUST_USE;
enum sp_status sp_guard_get(struct sp_guard *g, const struct sp_uuid *id, struct sp_guard_copy *ret,
                            struct sp_error *error) SP_MUST_USE;
/* Under `lock`: how long a request has waited; NULL: nothing is known of it. */
struct sp_guard_waiting *sp_guard_waiting_of(struct sp_guard *g, const struct sp_uuid *id);
/* What is still wanting, in milliseconds by whichever clock says more. */
uint64_t sp_guard_waits_ms(struct sp_guard *g, const struct sp_guard_row *row,
                           const struct sp_uuid *id);

/* guard.c: if it is due. */
void sp_guard_carry_out(struct sp_guard *g, const struct sp_uuid *id);

/* retired.c: deletes what may go; `now`: and not only every ten seconds. */
void sp_guard_sweep(struct sp_guard *g, bool now);

/* check.c */
/* A moment, while copies are brought to a unit; false: stopped. */
bool sp_guard_wait_for_copies(struct sp_guard *g);
void sp_guard_check_stop(struct sp_guard *g);

#endif
