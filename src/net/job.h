/* A request on its way to the backend and its reply on the way back. One at a time of a
 * connection's loop, a worker and whatever thread the backend answers on owns it; the lists of the
 * workers and of the loop's inbox hand it over. */
#ifndef SP_NET_JOB_H
#define SP_NET_JOB_H

#include "net/conn.h"

/* Everything the session asks for now. True: some of it was answered at once (refused), so the
 * session may have more to say. */
bool sp_jobs_start(struct sp_conn *conn);
/* Gives the session the replies that were held back, if their time has come. */
void sp_jobs_release_held(struct sp_conn *conn, bool at_once);
/* The session is gone: forgets the replies that were held back. */
void sp_jobs_drop_held(struct sp_conn *conn);
/* ... and lets what is under way know that nobody waits for it. */
void sp_jobs_cancel(struct sp_conn *conn);

#endif
