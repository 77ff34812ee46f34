/* Keeps the search file (mail/search_file.h) up to the index: a thread that goes through mailboxes
 * that changed, takes out of each new message what is kept of it, and forgets what was expunged.
 *
 * Model. Of each mailbox the file knows up to which MODSEQ it was gone through; what has a greater
 * one is new (or old with other flags: then its row is there). So nothing need be remembered of
 * what was reported and not done yet when the program ends; at its start all mailboxes are looked
 * at, which of those that did not change is one look-up. An ERASE has every row looked for in the
 * index, and forgotten where the message is gone.
 *
 * It works at a bounded rate, with a few MiB of memory, and holds no snapshot while it reads
 * messages. When the file cannot be written it stops for good, and says so: everything goes on
 * without what it lacks.
 */
#ifndef SP_MAIL_SEARCH_WORKER_H
#define SP_MAIL_SEARCH_WORKER_H

#include "mail/internal.h"

struct sp_search_worker;

/* Takes mail->search_file, which is the caller's, for granted. SP_NO_MEMORY, SP_IO. */
enum sp_status sp_search_worker_start(struct sp_mail *mail, uint64_t bytes_per_s,
                                      struct sp_search_worker **ret_worker) SP_MUST_USE;
/* Stops it, wherever it is. NULL is fine. */
void sp_search_worker_stop(struct sp_search_worker *worker);
/* A mailbox changed. Called by the committer; cheap. */
void sp_search_worker_notify(struct sp_search_worker *worker, const struct sp_uuid *account,
                             uint32_t mailbox);
/* Waits until all that was reported is done; false: it has stopped. For tests. */
bool sp_search_worker_wait(struct sp_search_worker *worker);

#endif
