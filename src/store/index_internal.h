/* What index.c (lookups) and apply.c (changes) share: tables and keys. Not for others. */
#ifndef SP_STORE_INDEX_INTERNAL_H
#define SP_STORE_INDEX_INTERNAL_H

#include "store/index.h"

#define SP_INDEX_SCHEMA 6U

/* UIDs that share a row of the flags table. */
#define SP_CHUNK_SHIFT 6U
#define SP_CHUNK_UIDS  (1U << SP_CHUNK_SHIFT)

/* What the file `mark` says of data.mdb. */
enum sp_mark {
    SP_MARK_NONE,     /* nothing, or that another program wrote it: it is thrown away */
    SP_MARK_DOUBTFUL, /* last opened in another boot, or a sync failed: put back to its checkpoint
                       */
    SP_MARK_BOOT,     /* last opened in this boot: what the kernel has of it is whole */
    SP_MARK_CLOSED,   /* closed in good order */
};
/* Durable when it returns 0; otherwise an errno. */
int sp_index_mark(int dir_fd, enum sp_mark mark);

struct sp_index {
    int dir_fd;
    MDB_env *env;
    struct sp_checkpoint *checkpoint;
    MDB_dbi meta, accounts, addresses, domains, mailboxes, names, subscribed, flags, messages,
        bodies, tombstones, guard, segments, held, retired, generations, acl, shared;
};

/* account, mailbox, one more number: the keys of mailboxes, flags, messages, tombstones are
 * prefixes of this. */
struct sp_key {
    uint8_t bytes[40];
    size_t len;
};
struct sp_key sp_key_mailbox(const struct sp_uuid *account, uint32_t mailbox);
struct sp_key sp_key_u32(const struct sp_uuid *account, uint32_t mailbox, uint32_t number);
struct sp_key sp_key_u64(const struct sp_uuid *account, uint32_t mailbox, uint64_t number);
/* account and the hash of a path. */
struct sp_key sp_key_path(const struct sp_uuid *account, struct sp_slice path);
struct sp_key sp_key_lsn(uint64_t lsn);
struct sp_key sp_key_segment(uint64_t segment, uint32_t generation);

static inline MDB_val sp_val(const void *ptr, size_t len)
{
    return (MDB_val){len, (void *)(uintptr_t)ptr};
}
static inline MDB_val sp_key_val(const struct sp_key *key)
{
    return sp_val(key->bytes, key->len);
}
enum sp_status sp_mdb_status(int rc);

/* A flags chunk: greatest MODSEQ, then rows. */
#define SP_CHUNK_HEAD_BYTES 8U

#endif
