/* The platform: units, volume and mail of one configuration, open in this process.
 *
 * Model. Only one process has the platform open: it holds a lock on STATE/lock (beside the lock
 * that each unit has of its own), with its process id in it. A unit whose path has no unit.id, or
 * that cannot be read, is absent: the volume decides whether it can start without it. A unit that
 * belongs to another volume, or is not the one the configuration names, is an error, and nothing is
 * touched.
 *
 * Two units in one failure domain never count as two copies, unless the configuration says
 * allow_shared_domain.
 */
#ifndef SP_CMD_PLATFORM_H
#define SP_CMD_PLATFORM_H

#include "cmd/config.h"
#include "guard/guard.h"
#include "mail/mail.h"
#include "store/volume.h"

struct sp_platform {
    const struct sp_config *config; /* borrowed */
    int lock_fd;
    struct sp_uuid volume_id;
    struct sp_volume *volume;
    struct sp_mail *mail;
    struct sp_guard *guard;
};

struct sp_platform_options {
    bool serving; /* what the guard has pending is carried out when it is due */
    bool index_rebuild;
    bool accept_loss; /* see sp_volume_open */
    void (*progress)(void *context, uint64_t done_bytes,
                     uint64_t total_bytes); /* of a rebuild; may be NULL */
    void *progress_context;
};

/* The name of the state folder where it votes, and its place in it. */
#define SP_PLATFORM_WITNESS "state"
void sp_platform_witness_path(const struct sp_config *config, char *ret_path, size_t size);

/* Takes the lock: SP_CONFLICT when another process has it. Makes the state folder if it is missing.
 */
enum sp_status sp_platform_lock(const struct sp_config *config, int *ret_fd,
                                struct sp_error *error) SP_MUST_USE;
/* Opens all of it; options may be NULL. lock_fd is the platform's from here on, also on failure. */
enum sp_status sp_platform_open(const struct sp_config *config, int lock_fd,
                                const struct sp_platform_options *options,
                                struct sp_platform *ret_platform,
                                struct sp_error *error) SP_MUST_USE;
void sp_platform_close(struct sp_platform *platform);

/* The volume's id: as configured, or as its units say. SP_NOT_FOUND: no unit says. */
enum sp_status sp_platform_volume_id(const struct sp_config *config, struct sp_uuid *ret_id,
                                     struct sp_error *error) SP_MUST_USE;

#endif
