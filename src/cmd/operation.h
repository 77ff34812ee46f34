/* Operations: what a command asks of the platform, in JSON, wherever the platform is.
 *
 * Model. An operation has a name ("account.add"), parameters (a JSON object) and a result (JSON) or
 * an error. A command calls sp_operation_run: if a server has the platform open, the operation
 * travels through its control socket and is carried out there; if none does, the platform is opened
 * here for as long as it takes.
 *
 *     account.add      address, password    -> {id, address}
 *     account.list                          -> [{id, address, mailboxes, messages, bytes,
 * protected}]
 *     account.passwd   address, password    -> {id, address}
 *     guard.check      operation, subject   -> {}; guard.look tells how far it is
 *     guard.look                            -> {running, status, confirm, facts, ...}
 *     guard.request    operation, subject, confirm  -> as in guard.list
 *     guard.approve    id                   -> as in guard.list; guard.undo likewise
 *     guard.list       all                  -> [{id, operation, subject, state, ...}]
 *     guard.policy.end operation            -> {}
 *     guard.tell       subject, id, text    -> {}: a unit was initialised
 *     mail.undelete    address, since, mailbox     -> {messages, passed_over, gone, mailboxes}
 *     volume.compact                        -> {}; volume.compaction tells how far it is
 *     volume.compaction                     -> {running, ..., retired_segments, retired_bytes}
 *     unit.add         name, init           -> as in volume.status
 *     unit.show        name                 -> as in volume.status, with its vote
 *     volume.scrub     unit (may be absent) -> {}; volume.status tells how far it is
 *     volume.status                         -> {name, id, ..., scrub: {...}, units: [...]}
 */
#ifndef SP_CMD_OPERATION_H
#define SP_CMD_OPERATION_H

#include "cmd/platform.h"

#include <jansson.h>

/* Carries it out on an open platform; any thread. Parameters are borrowed. The result is the
 * caller's (json_decref). SP_UNSUPPORTED: no such operation. */
enum sp_status sp_operation_execute(struct sp_platform *platform, const char *name,
                                    const json_t *parameters, json_t **ret_result,
                                    struct sp_error *error) SP_MUST_USE;

/* In the server or here. parameters: taken over, may be NULL. */
enum sp_status sp_operation_run(const struct sp_config *config, const char *name,
                                json_t *parameters, json_t **ret_result,
                                struct sp_error *error) SP_MUST_USE;

/* A connection to the server that has the platform, or the platform itself, whichever can be had;
 * waits up to 10 s for one that is starting or stopping. */
struct sp_access {
    int control_fd; /* -1: none */
    bool open;      /* platform is */
    struct sp_platform platform;
};
enum sp_status sp_access_open(const struct sp_config *config, struct sp_access *ret_access,
                              struct sp_error *error) SP_MUST_USE;
void sp_access_close(struct sp_access *access);

/* Who asks, on this thread: the Unix user at the other end of the control socket. Until it is said,
 * the one that this process runs as. */
void sp_operation_set_user(uint32_t uid);
/* Whether a user who is not the server's own, nor root, may ask for this: those who approve may
 * look, approve and undo. */
bool sp_operation_is_approvers(const struct sp_platform *platform, const char *name, uint32_t uid);

/* The account whose address this is. SP_NOT_FOUND with an error that says so. */
enum sp_status sp_operation_find_account(struct sp_platform *platform, struct sp_slice address,
                                         struct sp_uuid *ret_id,
                                         struct sp_error *error) SP_MUST_USE;

/* JSON values may hold passwords: from here on their memory is wiped when it is freed.
 * Called once, by main. */
void sp_operation_wipe_json(void);

#endif
