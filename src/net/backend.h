/* The backend: who carries out the requests of sessions. In the server it is `mail`
 * (net/backend_mail.h); tests bring their own. */
#ifndef SP_NET_BACKEND_H
#define SP_NET_BACKEND_H

#include "mail/request.h"

/* Owns request and reply after the call: must free both. A NULL reply means no memory. */
typedef void sp_backend_done(void *done_context, struct sp_request *request,
                             struct sp_reply *reply);
typedef void sp_backend_notify(void *notify_context, const struct sp_uuid *account,
                               uint32_t mailbox);

/* Every function may be called by any thread. */
struct sp_backend {
    void *context;
    /* Takes the request and calls done exactly once, now or later, on any thread. May block on a
     * disk. */
    void (*execute)(void *context, struct sp_request *request, sp_backend_done *done,
                    void *done_context);
    /* May execute be called on an event loop for this one? */
    bool (*is_quick)(void *context, const struct sp_request *request);
    /* May it take so long that only few should be executed at once, and one for an account
     * (request->mailbox.account)? Not asked of what is quick. */
    bool (*is_long)(void *context, const struct sp_request *request);
    /* The session is gone and all its requests have been answered. Called for sessions that made
     * any; never blocks for long. */
    void (*session_ended)(void *context, uint64_t session);
    /* Who is told of changed mailboxes; notify NULL: nobody, and when the call returns no
     * notification is under way. */
    void (*set_notify)(void *context, sp_backend_notify *notify, void *notify_context);
};

#endif
