/* Checkpoints: what the index is put back to after a power cut, instead of being made again.
 *
 * LMDB writes here without syncs, so that no commit waits for the index. After a power cut its file
 * is a mixture of old and new pages. A checkpoint is a snapshot T of which every page is on the
 * disk, and stays as it is until a later checkpoint has taken its place. It is made in this order:
 *
 *   1. right after a commit, by the only writer: a read transaction is opened, which holds T; both
 *      meta pages are read from the file (no commit runs, so the newer one names T)
 *   2. the file is synced, by a thread of its own; commits go on
 *   3. the meta pages are written, with what identifies the file, into `checkpoint`, durably
 *   4. only then the read transaction of the checkpoint before is ended
 *
 * After a power cut both meta pages are written back and synced, and the index stands at T, from
 * where the log is rolled forward. That may be done any number of times.
 *
 * Why T is whole (LMDB 0.9, without MDB_WRITEMAP):
 *
 *   - A snapshot is the meta page and the pages that it reaches, those of the list of free pages
 *     among them. A transaction changes none of them: it writes a copy elsewhere (mdb_page_touch)
 *     and puts the old page's number on its own list of freed pages, which is kept in the file
 * under its transaction's number. A value on overflow pages is written anew as a whole, unless the
 *     same transaction wrote it. Pages that a transaction spills before it commits, or takes and
 *     gives back (loose pages), are pages that it took itself.
 *   - A transaction takes pages from behind the end of the file, or such as were freed by a
 *     transaction K with K < oldest, where `oldest` is the oldest snapshot that any reader holds,
 * or else the one before its own (mdb_find_oldest in mdb_page_alloc). While T is held, K < T: what
 *     K freed is not reached from K, nor from T. The lists that were taken over in memory are
 *     dropped at the end of each transaction. `oldest` is remembered between transactions, which is
 *     safe since a reader that comes later holds a later snapshot.
 *   - So from step 1 to step 4 of the next checkpoint no page of T is written again. By step 2 all
 *     are on the disk as they were at T. Whatever mixture a power cut leaves, it is one of other
 *     pages, and of the two meta pages, which are put back.
 *   - The first transaction after T reuses nothing that T reaches even when no reader holds T
 *     (oldest is T). So there is time to take hold of T when the index is opened, or put back.
 *   - Readers live in lock.mdb, a table of processes. Nobody else opens the index (its units are
 *     locked), and a table from before a crash is made anew by the one that opens it alone; before
 *     meta pages are put back the file is deleted.
 *
 * A kill ends the hold, and the kernel keeps the newer file. So when an index is opened that stands
 * elsewhere than its checkpoint, it is synced and gets a new one before anything is written to it.
 * And the file `checkpoint` is deleted, durably, before a data file is, so that it never outlives
 * the one that it was made of.
 *
 * A failed sync is final (the kernel may have dropped what it could not write): the index takes no
 * more changes, and is put back at the next start even if that is in the same boot.
 *
 * Cost. Pages that were replaced since the checkpoint are not used again until the next but one is
 * durable. So the file is larger by what is written to it between three checkpoints: they are made
 * every SP_CHECKPOINT_BYTES of log, SP_CHECKPOINT_COMMITS commits or SP_CHECKPOINT_MS, whichever is
 * first. A commit that changes one mailbox writes about 20 pages, one of a thousand messages to
 * different mailboxes some thousand; 4096 small ones hold 320 MiB back, twice that with those of
 * the checkpoint that is being made. Each page that is written reaches the disk once.
 *
 * Threads. begin, step and close are the writer's; the sync runs on a thread of the checkpoint's.
 */
#ifndef SP_STORE_CHECKPOINT_H
#define SP_STORE_CHECKPOINT_H

#include "store/index.h"

#define SP_CHECKPOINT_BYTES   (UINT64_C(64) << 20) /* of log */
#define SP_CHECKPOINT_COMMITS 4096U
#define SP_CHECKPOINT_MS      60000U

struct sp_checkpoint;

/* ---- While the index is not open ---- */

/* Puts data.mdb back to its checkpoint, durably; *ret_end: where the index must stand then.
 * SP_NOT_FOUND: there is no checkpoint, a damaged one, or one of another file. SP_IO. */
enum sp_status sp_checkpoint_restore(int dir_fd, struct sp_log_end *ret_end) SP_MUST_USE;
/* Durable when it returns 0; otherwise an errno. */
int sp_checkpoint_remove(int dir_fd) SP_MUST_USE;

/* ---- While it is ---- */

/* For an index that was just opened: takes hold of its checkpoint; if it stands elsewhere, makes
 * one of where it stands. An index without a position gets none yet. SP_NO_MEMORY, SP_IO. */
enum sp_status sp_checkpoint_open(struct sp_index *index,
                                  struct sp_checkpoint **ret_checkpoint) SP_MUST_USE;
/* Between two transactions of the writer: begins a checkpoint when one is due. log_bytes: a counter
 * of what was appended. background: the sync is left to a thread; otherwise it is done on return.
 * SP_IO: a sync failed, now or before, and the index must not be written to any more. A checkpoint
 * that failed for another reason is tried again. */
enum sp_status sp_checkpoint_step(struct sp_checkpoint *checkpoint, uint64_t log_bytes,
                                  bool background) SP_MUST_USE;
/* The two halves of a checkpoint, for whoever must do something in between. begin: SP_NOT_FOUND:
 * there is nothing new; SP_CONFLICT: one is under way. */
enum sp_status sp_checkpoint_begin(struct sp_checkpoint *checkpoint) SP_MUST_USE;
enum sp_status sp_checkpoint_finish(struct sp_checkpoint *checkpoint);
/* Ends the thread and the hold. clean: makes a last one first, so that the next start finds file
 * and checkpoint agreeing. SP_IO: a sync failed at some time, and the file is not to be believed.
 * NULL is fine. */
enum sp_status sp_checkpoint_close(struct sp_checkpoint *checkpoint, bool clean);

#endif
