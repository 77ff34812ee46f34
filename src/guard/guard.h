/* The guard: through it passes everything that destroys data.
 *
 * Model. An operation (a row of the table in operation.c) has a kind, a subject, a check and a
 * deed. It is
 *
 *   1. checked: that every live record is safe without what goes (store/proof.h: enough copies
 *      elsewhere, in failure domains of their own, read back in this very check);
 *   2. refused, with all that is missing, if that cannot be proven;
 *   3. requested, by somebody who types what the check shows;
 *   4. approved, by as many others as the configuration says, of those it names;
 *   5. pending for the cooling-off time, in which it can be undone;
 *   6. checked once more, and carried out, by whoever runs the server then.
 *
 * All of it is in the log (GUARD records), so it survives restarts; the index has the requests.
 *
 * Time. Cooling-off has passed when the wall clock says so *and* the server has run for so long
 * since the request, counted by the monotonic clock and written to the log now and then: a clock
 * that leaps ahead destroys nothing, nor does a machine that was off.
 *
 * Persons. A person is a Unix user, as the kernel tells of whoever is at the other end of the
 * control socket. That guards against mistakes, haste, and one operator's account; not against
 * root, who can be anybody.
 *
 * Policies. Segments are deleted all the time, after `hold`: that is confirmed once, as a request
 * like any other, and then allowed by a policy in the index (sp_index_guard_policy), which whoever
 * deletes segments must ask.
 *
 * To add an operation: a number in guard_operation (docs/format.md, GUARD), and a row in the table.
 *
 * Threads. Any, at any time; but for sp_guard_step, which is called by one.
 */
#ifndef SP_GUARD_GUARD_H
#define SP_GUARD_GUARD_H

#include "store/volume.h"

#define SP_GUARD_APPROVERS_CONFIG_MAX SP_GUARD_APPROVERS_MAX

enum sp_guard_operation {
    SP_GUARD_UNIT_RETIRE = 1,
    SP_GUARD_UNIT_WIPE = 2,
    SP_GUARD_UNIT_INIT = 3, /* only told of: it is asked and done where no volume may be open */
    SP_GUARD_ACCOUNT_REMOVE = 4,
    SP_GUARD_SEGMENTS_DELETE = 5, /* a policy */
    SP_GUARD_ERASE = 6,           /* of what a text says: see below */
    SP_GUARD_UNPROTECT = 7,       /* of an account, or of SP_GUARD_ALL_ACCOUNTS */
};
#define SP_GUARD_ALL_ACCOUNTS  "all accounts"
#define SP_GUARD_SUBJECT_BYTES 1024U /* a subject with its terminating zero */

/* The subject of SP_GUARD_ERASE is a text: the address, or "removed:" and the UUID of an account
 * that was removed; then, each if there is one, ";MAILBOX=" a name, ";UID=" ascending UIDs of it as
 * in "3:9,12", ";WHY=" the reason. Octets of address, name and reason other than letters, digits
 * and .@_+-:/ are written %XX. In the record the guard adds ";NUMBERS=" and the numbers of the
 * mailboxes that have the name then: another may have it when the request is carried out. */

struct sp_guard;
struct sp_guard_who {
    uint32_t uid;
    char name[64];
};
struct sp_guard_config {
    struct sp_volume *volume;
    uint64_t cooling_ms;
    uint32_t approvals; /* how many a request needs */
    uint32_t approvers[SP_GUARD_APPROVERS_CONFIG_MAX];
    uint32_t approvers_count;
    bool shared_ok; /* copies in one failure domain count each */
    /* Deletes what a unit keeps; it is not open. *ret_segments: how many there were. */
    enum sp_status (*wipe)(void *context, const char *name, const struct sp_uuid *unit,
                           uint64_t *ret_segments, struct sp_error *error);
    void *context;
    bool serving;              /* has a thread of its own that carries out what is due */
    uint64_t (*wall_ns)(void); /* NULL: the clocks */
    uint64_t (*mono_ms)(void);
};

enum sp_status sp_guard_open(const struct sp_guard_config *config, struct sp_guard **ret_guard,
                             struct sp_error *error) SP_MUST_USE;
/* Ends what is being checked; what was requested stays. Before the volume is closed. NULL is fine.
 */
void sp_guard_close(struct sp_guard *guard);

/* "unit.retire" and so on; NULL: there is no such. SP_NOT_FOUND. */
const char *sp_guard_operation_name(unsigned operation);
enum sp_status sp_guard_operation_find(const char *name, uint8_t *ret_operation,
                                       struct sp_error *error) SP_MUST_USE;

/* Whether the user is one of those who may approve. */
bool sp_guard_is_approver(const struct sp_guard *guard, uint32_t uid);

/* ---- Checking ---- */

struct sp_guard_check {
    bool running;
    uint64_t done_bytes, total_bytes;
    enum sp_status status; /* of one that has ended: SP_OK: it may be requested */
    struct sp_error error;
    uint8_t operation;
    char subject[SP_GUARD_SUBJECT_BYTES];
    char confirm[320];             /* what must be typed */
    char facts[SP_GUARD_TEXT_MAX]; /* lines for people: what it does, what was proven or is missing
                                    */
};
/* Begins a check, which goes on in the background. SP_UNAVAILABLE: another is under way. */
enum sp_status sp_guard_check_begin(struct sp_guard *guard, uint8_t operation, const char *subject,
                                    struct sp_error *error) SP_MUST_USE;
/* The last one. */
void sp_guard_check_look(struct sp_guard *guard, struct sp_guard_check *ret_check);
/* Does it here and now. */
enum sp_status sp_guard_check_now(struct sp_guard *guard, uint8_t operation, const char *subject,
                                  struct sp_guard_check *ret_check) SP_MUST_USE;

/* ---- Requests ---- */

/* Requests what the last check was about, which must have ended well less than an hour ago. typed:
 * as its `confirm`. What needs neither approval nor time is carried out at once. SP_DENIED: not
 * confirmed; SP_CONFLICT: not what was checked, or it is requested already. */
enum sp_status sp_guard_request(struct sp_guard *guard, uint8_t operation, const char *subject,
                                const char *typed, const struct sp_guard_who *who,
                                struct sp_uuid *ret_id, struct sp_error *error) SP_MUST_USE;
/* SP_DENIED: not one of the approvers, or the one who asked. SP_NOT_FOUND; SP_CONFLICT: it is not
 * pending. */
enum sp_status sp_guard_approve(struct sp_guard *guard, const struct sp_uuid *id,
                                const struct sp_guard_who *who, struct sp_error *error) SP_MUST_USE;
enum sp_status sp_guard_undo(struct sp_guard *guard, const struct sp_uuid *id,
                             const struct sp_guard_who *who, struct sp_error *error) SP_MUST_USE;
/* Ends a policy. SP_NOT_FOUND: there is none. */
enum sp_status sp_guard_policy_end(struct sp_guard *guard, uint8_t operation,
                                   const struct sp_guard_who *who,
                                   struct sp_error *error) SP_MUST_USE;
/* Writes to the log that something was done that no request preceded (unit.init). */
enum sp_status sp_guard_tell(struct sp_guard *guard, uint8_t operation, const char *subject,
                             const struct sp_uuid *subject_id, const char *text,
                             const struct sp_guard_who *who, struct sp_error *error) SP_MUST_USE;

/* Counts the time that passed since the last call, and carries out what is due. */
void sp_guard_step(struct sp_guard *guard);

/* What is still wanting until a pending request is carried out; texts are valid in the call. */
struct sp_guard_view {
    struct sp_guard_request request;
    uint64_t waits_ms; /* by both clocks */
    uint32_t approvals_left;
    const char *trouble; /* why it was not carried out although it was due; "" */
};
/* Calls back for each request, by age; all: those too that are done or were undone or refused. */
enum sp_status sp_guard_list(struct sp_guard *guard, bool all,
                             void (*each)(void *context, const struct sp_guard_view *view),
                             void *context, struct sp_error *error) SP_MUST_USE;

#endif
