/* The search file of a volume: what SORT, THREAD and SEARCH need of each message, taken out of it
 * once and kept (LMDB, in a folder of its own beside the index). Derived and disposable: whoever
 * finds no row in it reads the message, so what it lacks costs time, never an answer.
 *
 * Model. A UID in a mailbox with its UIDVALIDITY names the same message for ever (RFC 3501,
 * 2.3.1.1), and a message never changes: so a row is right as long as it is there.
 *
 *   table   key                        value
 *   meta    "head"                     struct sp_search_head
 *   done    account, mailbox           struct sp_search_done
 *   sort    account, mailbox, UID >> 6 the sort rows of up to 64 messages, see below
 *
 * Threads. One thread writes (mail/search_worker.h); any may read, each with a transaction of its
 * own that ends with the request. Each commit is synced: the file survives a crash, or loses its
 * last commits.
 */
#ifndef SP_MAIL_SEARCH_FILE_H
#define SP_MAIL_SEARCH_FILE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/status.h"
#include "base/uuid.h"

#include <lmdb.h>

#define SP_SEARCH_SCHEMA     1U
#define SP_SEARCH_CHUNK_BITS 6U
#define SP_SEARCH_CHUNK      (1U << SP_SEARCH_CHUNK_BITS)

struct sp_search_file {
    MDB_env *env;
    MDB_dbi meta, done, sort;
};

struct sp_search_head {
    uint32_t schema, reserved;
    struct sp_uuid volume;
    uint64_t erase_lsn; /* of the last ERASE that was heeded */
};

/* How far a mailbox has been gone through. */
struct sp_search_done {
    uint32_t uidvalidity, reserved;
    uint64_t modseq; /* whatever changed up to this one */
};

/* Opens it, or makes it: one that is damaged, of another schema or of another volume is thrown away
 * first. SP_IO, SP_NO_MEMORY. */
enum sp_status sp_search_file_open(const char *path, const struct sp_uuid *volume,
                                   uint64_t max_bytes, struct sp_search_file **ret_file,
                                   struct sp_error *error) SP_MUST_USE;
void sp_search_file_close(struct sp_search_file *file); /* NULL is fine */
/* Deletes the files of one that is not open. One that is not there is fine. */
enum sp_status sp_search_file_destroy(const char *path, struct sp_error *error) SP_MUST_USE;

/* ---- Reading ---- */

/* A transaction and a mailbox. `there` is false where the file has nothing to say of it: then every
 * look-up finds nothing. */
struct sp_search_read {
    struct sp_search_file *file;
    MDB_txn *txn;
    MDB_cursor *sort;
    struct sp_uuid account;
    uint32_t mailbox;
    bool there;
    uint32_t chunk_number; /* + 1; 0: none is at hand */
    struct sp_slice chunk;
};
/* file may be NULL. Never fails: what cannot be read is not there. */
void sp_search_read_begin(struct sp_search_file *file, const struct sp_uuid *account,
                          uint32_t mailbox, uint32_t uidvalidity, struct sp_search_read *ret_read);
void sp_search_read_end(struct sp_search_read *read);

/* ---- Sort rows ----
 *
 * A chunk is a u32 count, so many rows by ascending UID, and behind them their texts, each row's in
 * the order of its lengths: subject, from, to, cc, the hash of the Message-ID if has_id, and those
 * of the references. In the machine's own layout, as the index. */

#define SP_SORT_TEXT_MAX 1000U /* a message with a longer one has no row */
#define SP_SORT_ID_BYTES 16U
#define SP_SORT_IDS_MAX  500U /* references of one message; the last ones count */

struct sp_sort_row {
    uint32_t uid;
    uint32_t texts; /* where they begin, from the first byte behind the rows */
    int64_t arrival, sent;
    uint64_t size;
    uint16_t subject_len, from_len, to_len, cc_len;
    uint16_t references; /* how many */
    uint8_t reply, has_id;
    uint32_t reserved;
};
/* Keys of a message: see struct sp_sort_entry. */
struct sp_sort_entry;
/* A row's keys, whose slices point into the map. Cheap by ascending UIDs. False: it has no row. */
bool sp_search_sort_get(struct sp_search_read *read, uint32_t uid, struct sp_sort_entry *ret_entry);
/* Whether an entry is small enough for a row. */
bool sp_sort_row_fits(const struct sp_sort_entry *entry);

/* ---- Writing ---- */

struct sp_search_write {
    struct sp_search_file *file;
    MDB_txn *txn;
};
enum sp_status sp_search_write_begin(struct sp_search_file *file,
                                     struct sp_search_write *ret_write) SP_MUST_USE;
/* SP_NO_SPACE: the file is as large as it may be. */
enum sp_status sp_search_write_commit(struct sp_search_write *write) SP_MUST_USE;
void sp_search_write_abort(struct sp_search_write *write);

enum sp_status sp_search_get_head(struct sp_search_write *write,
                                  struct sp_search_head *ret_head) SP_MUST_USE;
enum sp_status sp_search_put_head(struct sp_search_write *write,
                                  const struct sp_search_head *head) SP_MUST_USE;
/* SP_NOT_FOUND. */
enum sp_status sp_search_get_done(struct sp_search_write *write, const struct sp_uuid *account,
                                  uint32_t mailbox, struct sp_search_done *ret_done) SP_MUST_USE;
enum sp_status sp_search_put_done(struct sp_search_write *write, const struct sp_uuid *account,
                                  uint32_t mailbox, const struct sp_search_done *done) SP_MUST_USE;
/* Every mailbox that was gone through, even in part: *account and *mailbox are the last one seen
 * (nil, 0 to begin); SP_EOF. */
enum sp_status sp_search_next_done(struct sp_search_write *write, struct sp_uuid *account,
                                   uint32_t *mailbox) SP_MUST_USE;

/* Puts the rows of messages by ascending UID. Entries that do not fit a row are passed over. */
enum sp_status sp_search_put_sort(struct sp_search_write *write, const struct sp_uuid *account,
                                  uint32_t mailbox, const struct sp_sort_entry *entries,
                                  uint32_t count) SP_MUST_USE;
/* Forgets messages of a mailbox: those of [first, last] for which `keep` does not say true (NULL:
 * all of them). */
enum sp_status sp_search_forget(struct sp_search_write *write, const struct sp_uuid *account,
                                uint32_t mailbox, uint32_t first, uint32_t last,
                                bool (*keep)(void *context, uint32_t uid),
                                void *context) SP_MUST_USE;
/* Forgets a mailbox altogether. */
enum sp_status sp_search_forget_mailbox(struct sp_search_write *write,
                                        const struct sp_uuid *account,
                                        uint32_t mailbox) SP_MUST_USE;

#endif
