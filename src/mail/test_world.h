/* A volume on simulated disks with one account, and requests that wait for their reply. For tests
 * of `mail`. */
#ifndef SP_MAIL_TEST_WORLD_H
#define SP_MAIL_TEST_WORLD_H

#include "mail/account.h"
#include "mail/mail.h"
#include "unit/sim.h"

#include <pthread.h>

#define ALICE    "alice@example.org"
#define PASSWORD "correct horse"

struct world {
    struct sp_sim_world *disks;
    struct sp_uuid volume_id;
    struct sp_volume *volume;
    struct sp_mail *mail;
    struct sp_uuid alice;
    char index_path[128];
    pthread_mutex_t lock;
    pthread_cond_t answered;
    uint64_t session; /* of the requests to come */
    uint32_t notified;
    const char *search_path; /* NULL: mail is opened without a search file */
};
int world_setup(void **state);
int world_teardown(void **state);
/* Closes and opens everything, as a restart does; rebuild: with the index thrown away. */
void world_restart(struct world *world, bool rebuild);

/* A request of the account; strings are copied into its arena. */
struct sp_request *request_new(struct world *world, enum sp_request_type type);
struct sp_slice text(struct sp_request *request, const char *string);
struct sp_uid_ranges range(struct sp_request *request, uint32_t first, uint32_t last);
/* Executes it, frees it, and returns the reply, which is the caller's. */
struct sp_reply *ask(struct world *world, struct sp_request *request);
/* The same for those of whose reply only the status matters. */
enum sp_status ask_status(struct world *world, struct sp_request *request);

struct sp_mailbox_ref open_mailbox(struct world *world, const char *name);
/* Appends and returns the UID. keyword may be NULL. */
uint32_t append(struct world *world, const char *mailbox, struct sp_slice message, uint32_t flags,
                const char *keyword, int64_t date_s);
uint64_t flags_of(struct world *world, const char *mailbox, uint32_t uid);
/* A request that names messages of a mailbox. */
struct sp_request *on_mailbox(struct world *world, enum sp_request_type type, const char *mailbox,
                              uint32_t first, uint32_t last);
/* The reply is freed; its status must be OK. */
void free_ok(struct sp_reply *reply);
/* "1:3,5" */
void assert_ranges(struct sp_uid_ranges ranges, const char *expected);

#endif
