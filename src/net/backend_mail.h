/* `mail` as the backend of the server. */
#ifndef SP_NET_BACKEND_MAIL_H
#define SP_NET_BACKEND_MAIL_H

#include "mail/mail.h"
#include "net/backend.h"

/* The mail object is borrowed: it outlives the server. */
struct sp_backend sp_backend_mail(struct sp_mail *mail);

#endif
