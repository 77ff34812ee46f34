/* Mail: carries out requests on a volume.
 *
 * Model. sp_mail_execute takes a request and, some time later, gives its reply to a callback, once,
 * on whatever thread finished it: the caller's own for reads, the volume's committer for changes
 * (after the sync), a hashing thread for passwords. Everything a request needs is in it; nothing of
 * the store leaves this layer.
 *
 * Threads. Every function may be called by any thread. sp_mail_execute may block on the disk for
 * reads (never on a commit), so it is called from a worker, not from an event loop, unless
 * sp_mail_is_quick says so.
 */
#ifndef SP_MAIL_MAIL_H
#define SP_MAIL_MAIL_H

#include "mail/request.h"

struct sp_volume;
struct sp_mail;

struct sp_mail_config {
    struct sp_volume *volume;     /* borrowed; outlives the mail object */
    uint64_t message_bytes_max;   /* without what SMTP puts in front (SP_TRACE_BYTES_MAX) */
    uint32_t incoming_bodies_max; /* messages being received piece by piece at once */
    uint32_t hash_threads;        /* Argon2id threads; each takes 64 MiB while at work */
    uint32_t hash_queue_max;      /* logins that may wait for one; beyond: SP_UNAVAILABLE */
    /* Who gets what is for postmaster at a domain of ours, or at our host name, where there is no
     * such account (RFC 5321 4.5.1). Borrowed; NULL: nobody. */
    const char *postmaster;
    const char *hostname; /* borrowed; used with postmaster only */
    /* The folder of the search file (mail/search_file.h). NULL: nothing is kept for SORT and
     * THREAD. One that cannot be opened is done without, and the log says so. */
    const char *search_path;
    struct sp_uuid volume_id;
    uint64_t search_bytes_max; /* how large its file may grow; 0: 64 GiB */
    uint64_t search_rate;      /* bytes of mail a second that are gone through; 0: 16 MiB */
};

/* Owns request and reply after the call: must free both. reply is NULL when there was no memory for
 * one. */
typedef void sp_mail_done(void *context, struct sp_request *request, struct sp_reply *reply);
/* A mailbox changed. Called by the committer, once for each mailbox and batch, after the sync; must
 * not block. */
typedef void sp_mail_notify(void *context, const struct sp_uuid *account, uint32_t mailbox);

enum sp_status sp_mail_open(const struct sp_mail_config *config, struct sp_mail **ret_mail,
                            struct sp_error *error) SP_MUST_USE;
/* Waits for what is under way. The volume must still be running. NULL is fine. */
void sp_mail_close(struct sp_mail *mail);

void sp_mail_execute(struct sp_mail *mail, struct sp_request *request, sp_mail_done *done,
                     void *context);
/* True for types that neither block nor take long: they may be executed on an event loop. */
bool sp_mail_is_quick(const struct sp_request *request);
/* True for types that may take very long: few should be executed at once, and one for an account
 * (request->mailbox.account), or others wait for all workers. */
bool sp_mail_is_long(const struct sp_request *request);
/* The session is gone: bodies it had put and not delivered are forgotten. */
void sp_mail_session_ended(struct sp_mail *mail, uint64_t session);
/* One listener for the process; NULL removes it, and then none is being called when this returns.
 * Not from the listener itself. */
void sp_mail_set_notify(struct sp_mail *mail, sp_mail_notify *notify, void *context);

#endif
