#include "net/backend_mail.h"

static void execute(void *context, struct sp_request *request, sp_backend_done *done,
                    void *done_context)
{
    sp_mail_execute(context, request, done, done_context);
}

static bool is_quick(void *context, const struct sp_request *request)
{
    (void)context;
    return sp_mail_is_quick(request);
}

static bool is_long(void *context, const struct sp_request *request)
{
    (void)context;
    return sp_mail_is_long(request);
}

static void session_ended(void *context, uint64_t session)
{
    sp_mail_session_ended(context, session);
}

static void set_notify(void *context, sp_backend_notify *notify, void *notify_context)
{
    sp_mail_set_notify(context, notify, notify_context);
}

struct sp_backend sp_backend_mail(struct sp_mail *mail)
{
    return (struct sp_backend){mail, execute, is_quick, is_long, session_ended, set_notify};
}
