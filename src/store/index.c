#include "base/endian.h"
#include "base/log.h"
#include "store/breakage.h"
#include "store/checkpoint.h"
#include "store/index_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_BYTES_DEFAULT ((size_t)64 << 30)
#define READERS_MAX       512U
#define MESSAGE_HEAD      16U /* LSN and time before the payload */

static const char position_key[] = "position";

enum sp_status sp_mdb_status(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return SP_OK;
    case MDB_NOTFOUND:
        return SP_NOT_FOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
        return SP_NO_SPACE;
    case MDB_TXN_FULL:
    case ENOMEM:
        return SP_NO_MEMORY;
    default:
        return SP_IO;
    }
}

struct sp_key sp_key_mailbox(const struct sp_uuid *account, uint32_t mailbox)
{
    struct sp_key key = {.len = 20};
    memcpy(key.bytes, account->bytes, 16);
    sp_put_u32be(key.bytes + 16, mailbox);
    return key;
}

struct sp_key sp_key_u32(const struct sp_uuid *account, uint32_t mailbox, uint32_t number)
{
    struct sp_key key = sp_key_mailbox(account, mailbox);
    sp_put_u32be(key.bytes + 20, number);
    key.len = 24;
    return key;
}

struct sp_key sp_key_u64(const struct sp_uuid *account, uint32_t mailbox, uint64_t number)
{
    struct sp_key key = sp_key_mailbox(account, mailbox);
    sp_put_u64be(key.bytes + 20, number);
    key.len = 28;
    return key;
}

struct sp_key sp_key_path(const struct sp_uuid *account, struct sp_slice path)
{
    struct sp_key key = {.len = 32};
    struct sp_digest digest;
    sp_digest(path, &digest);
    memcpy(key.bytes, account->bytes, 16);
    memcpy(key.bytes + 16, digest.bytes, 16);
    return key;
}

struct sp_key sp_key_lsn(uint64_t lsn)
{
    struct sp_key key = {.len = 8};
    sp_put_u64be(key.bytes, lsn);
    return key;
}

struct sp_key sp_key_segment(uint64_t segment, uint32_t generation)
{
    struct sp_key key = sp_key_lsn(segment);
    sp_put_u32be(key.bytes + 8, generation);
    key.len = 12;
    return key;
}

/* ---- Opening ---- */

static int open_tables(struct sp_index *index)
{
    struct {
        const char *name;
        MDB_dbi *dbi;
    } tables[] = {
        {"meta", &index->meta},
        {"accounts", &index->accounts},
        {"addresses", &index->addresses},
        {"domains", &index->domains},
        {"mailboxes", &index->mailboxes},
        {"names", &index->names},
        {"subscribed", &index->subscribed},
        {"flags", &index->flags},
        {"messages", &index->messages},
        {"bodies", &index->bodies},
        {"tombstones", &index->tombstones},
        {"segments", &index->segments},
        {"guard", &index->guard},
        {"held", &index->held},
        {"retired", &index->retired},
        {"generations", &index->generations},
        {"acl", &index->acl},
        {"shared", &index->shared},
    };
    MDB_txn *txn;
    int rc = mdb_txn_begin(index->env, NULL, 0, &txn);
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof tables / sizeof *tables && !rc; i++)
        rc = mdb_dbi_open(txn, tables[i].name, MDB_CREATE, tables[i].dbi);
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static void free_index(struct sp_index *index)
{
    if (!index)
        return;
    if (index->env)
        mdb_env_close(index->env);
    if (index->dir_fd >= 0)
        close(index->dir_fd);
    free(index);
}

/* ---- Whether the file may be believed ---- */

#define MARK_BYTES 80U

static void mark_text(enum sp_mark mark, char ret[MARK_BYTES])
{
    static const char *const words[] = {[SP_MARK_NONE] = "none",
                                        [SP_MARK_DOUBTFUL] = "boot none",
                                        [SP_MARK_CLOSED] = "closed in good order"};
    char boot[37] = "";
    int fd =
        mark == SP_MARK_BOOT ? open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        ssize_t n = read(fd, boot, 36);
        boot[n > 0 ? n : 0] = '\0';
        close(fd);
    }
    if (mark == SP_MARK_BOOT)
        snprintf(ret, MARK_BYTES, "schema %u\nboot %s\n", SP_INDEX_SCHEMA, boot[0] ? boot : "none");
    else
        snprintf(ret, MARK_BYTES, "schema %u\n%s\n", SP_INDEX_SCHEMA, words[mark]);
}

static enum sp_mark read_mark(int dir_fd)
{
    char text[MARK_BYTES] = "", closed[MARK_BYTES], boot[MARK_BYTES], doubtful[MARK_BYTES];
    int fd = openat(dir_fd, "mark", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return SP_MARK_NONE;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    mark_text(SP_MARK_CLOSED, closed);
    mark_text(SP_MARK_BOOT, boot);
    mark_text(SP_MARK_DOUBTFUL, doubtful);
    if (n <= 0)
        return SP_MARK_NONE;
    if (strcmp(text, closed) == 0)
        return SP_MARK_CLOSED;
    /* Without a boot id (no /proc) nothing can be said of the boot. */
    if (strcmp(text, boot) == 0 && strcmp(text, doubtful) != 0)
        return SP_MARK_BOOT;
    size_t same = strlen(doubtful) - strlen("none\n"); /* of any boot, but this schema */
    return strncmp(text, doubtful, same) == 0 ? SP_MARK_DOUBTFUL : SP_MARK_NONE;
}

int sp_index_mark(int dir_fd, enum sp_mark mark)
{
    char text[MARK_BYTES];
    mark_text(mark, text);
    int fd = openat(dir_fd, "mark.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    ssize_t n = write(fd, text, strlen(text));
    int rc = n == (ssize_t)strlen(text) && fsync(fd) == 0 ? 0 : n < 0 || errno ? errno : EIO;
    close(fd);
    if (!rc && (renameat(dir_fd, "mark.tmp", dir_fd, "mark") != 0 || fsync(dir_fd) != 0))
        rc = errno;
    return rc;
}

static int remove_files(int dir_fd)
{
    static const char *const files[] = {"data.mdb", "lock.mdb", "mark", "checkpoint.tmp",
                                        "mark.tmp"};
    int rc = sp_checkpoint_remove(dir_fd); /* never outlives its data file */
    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (unlinkat(dir_fd, files[i], 0) != 0 && errno != ENOENT)
            return errno;
    return 0;
}

/* Whether there is a file that may be opened: as it stands, or put back to its checkpoint (then
 * *ret_end says where it must stand). *ret_rc: an errno. */
static bool have_file(int dir_fd, struct sp_log_end *ret_end, int *ret_rc)
{
    struct stat st;
    *ret_end = (struct sp_log_end){0};
    *ret_rc = 0;
    if (fstatat(dir_fd, "data.mdb", &st, 0) == 0) {
        enum sp_mark mark = read_mark(dir_fd);
        if (mark >= SP_MARK_BOOT || SP_BREAK(index_unmarked))
            return true;
        if (mark == SP_MARK_DOUBTFUL && sp_checkpoint_restore(dir_fd, ret_end) == SP_OK) {
            sp_log(SP_LOG_INFO, "index.restored", "segment=%" PRIu64 " lsn=%" PRIu64,
                   ret_end->segment, ret_end->lsn);
            return true;
        }
    }
    *ret_rc = remove_files(dir_fd);
    return false;
}

static int open_env(struct sp_index *index, const char *path, size_t map_bytes)
{
    int rc = mdb_env_create(&index->env);
    if (!rc)
        rc = mdb_env_set_maxdbs(index->env, 24);
    if (!rc)
        rc = mdb_env_set_maxreaders(index->env, READERS_MAX);
    if (!rc)
        rc = mdb_env_set_mapsize(index->env, map_bytes ? map_bytes : MAP_BYTES_DEFAULT);
    if (!rc)
        rc = mdb_env_open(index->env, path, MDB_NOSYNC | MDB_NOTLS | MDB_NORDAHEAD | MDB_NOMEMINIT,
                          0600);
    return rc ? rc : open_tables(index);
}

/* Whether it stands where its checkpoint says. */
static bool stands_at(struct sp_index *index, const struct sp_log_end *end)
{
    struct sp_read read;
    struct sp_position position;
    if (sp_read_begin(index, &read) != SP_OK)
        return false;
    bool good = sp_index_position(&read, &position) == SP_OK &&
                position.end.epoch_id == end->epoch_id && position.end.lsn == end->lsn &&
                position.end.segment == end->segment && position.end.chain == end->chain;
    sp_read_end(&read);
    return good;
}

static int open_or_make(struct sp_index *index, const char *path, size_t map_bytes, bool *ret_fresh)
{
    struct sp_log_end end;
    int rc;
    *ret_fresh = !have_file(index->dir_fd, &end, &rc);
    if (!rc)
        rc = sp_index_mark(index->dir_fd, SP_MARK_BOOT);
    if (!rc)
        rc = open_env(index, path, map_bytes);
    if (!*ret_fresh && end.segment && (rc || !stands_at(index, &end))) {
        sp_log(SP_LOG_WARN, "index.damaged", "why=\"it does not stand where its checkpoint says\"");
        if (index->env)
            mdb_env_close(index->env);
        index->env = NULL;
        *ret_fresh = true;
        rc = remove_files(index->dir_fd);
        if (!rc)
            rc = sp_index_mark(index->dir_fd, SP_MARK_BOOT);
        if (!rc)
            rc = open_env(index, path, map_bytes);
    }
    if (rc)
        return rc;
    enum sp_status status = sp_checkpoint_open(index, &index->checkpoint);
    return status == SP_NO_MEMORY ? ENOMEM : status == SP_OK ? 0 : EIO;
}

enum sp_status sp_index_open(const char *path, size_t map_bytes, struct sp_index **ret_index,
                             bool *ret_fresh, struct sp_error *error)
{
    struct sp_index *index = calloc(1, sizeof *index);
    int rc = index ? 0 : ENOMEM;
    bool fresh = false;
    if (index)
        index->dir_fd = -1;
    if (!rc && mkdir(path, 0700) != 0 && errno != EEXIST)
        rc = errno;
    if (!rc && (index->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        rc = errno;
    if (!rc)
        rc = open_or_make(index, path, map_bytes, &fresh);
    if (rc) {
        free_index(index);
        sp_error_set(error, sp_mdb_status(rc) == SP_NOT_FOUND ? SP_CORRUPT : sp_mdb_status(rc),
                     "index", "%s: %s", path, mdb_strerror(rc));
        sp_error_todo(
            error,
            "make room or repair access to the state directory; the index can always be rebuilt");
        return error ? error->status : sp_mdb_status(rc);
    }
    *ret_index = index;
    *ret_fresh = fresh;
    return SP_OK;
}

void sp_index_close(struct sp_index *index, bool clean)
{
    if (!index)
        return;
    /* First everything must be on the disk, then the mark that says so. */
    bool sound = sp_checkpoint_close(index->checkpoint, clean) == SP_OK;
    if (clean && sound && mdb_env_sync(index->env, 1) == 0)
        (void)sp_index_mark(index->dir_fd, SP_MARK_CLOSED);
    free_index(index);
}

enum sp_status sp_index_checkpoint(struct sp_index *index, uint64_t log_bytes, bool background)
{
    return sp_checkpoint_step(index->checkpoint, log_bytes, background);
}

enum sp_status sp_index_destroy(const char *path, struct sp_error *error)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return SP_OK;
    int rc = fd < 0 ? errno : remove_files(fd);
    if (fd >= 0)
        close(fd);
    return rc ? sp_error_set(error, SP_IO, "index", "cannot remove the files in %s: %s", path,
                             strerror(rc))
              : SP_OK;
}

/* ---- Snapshots and lookups ---- */

enum sp_status sp_read_begin(struct sp_index *index, struct sp_read *ret_read)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(index->env, NULL, MDB_RDONLY, &txn);
    if (rc)
        return rc == MDB_READERS_FULL ? SP_UNAVAILABLE : sp_mdb_status(rc);
    *ret_read = (struct sp_read){index, txn};
    return SP_OK;
}

void sp_read_end(struct sp_read *read)
{
    if (read->txn)
        mdb_txn_abort(read->txn);
    read->txn = NULL;
}

static enum sp_status get(struct sp_read *read, MDB_dbi table, MDB_val key, MDB_val *ret_value)
{
    return sp_mdb_status(mdb_get(read->txn, table, &key, ret_value));
}

enum sp_status sp_index_position(struct sp_read *read, struct sp_position *ret)
{
    MDB_val value;
    enum sp_status status =
        get(read, read->index->meta, sp_val(position_key, sizeof position_key), &value);
    if (status != SP_OK)
        return status;
    if (value.mv_size != sizeof *ret)
        return SP_CORRUPT;
    memcpy(ret, value.mv_data, sizeof *ret);
    return SP_OK;
}

static enum sp_status account_value(MDB_val value, struct sp_account *ret)
{
    if (value.mv_size < sizeof ret->row)
        return SP_CORRUPT;
    memcpy(&ret->row, value.mv_data, sizeof ret->row);
    if (value.mv_size != sizeof ret->row + ret->row.address_len + ret->row.credential_len)
        return SP_CORRUPT;
    const uint8_t *at = (const uint8_t *)value.mv_data + sizeof ret->row;
    ret->address = sp_slice(at, ret->row.address_len);
    ret->credential = sp_slice(at + ret->row.address_len, ret->row.credential_len);
    return SP_OK;
}

enum sp_status sp_index_account(struct sp_read *read, const struct sp_uuid *id,
                                struct sp_account *ret)
{
    MDB_val value;
    enum sp_status status = get(read, read->index->accounts, sp_val(id->bytes, 16), &value);
    if (status == SP_OK) {
        ret->id = *id;
        status = account_value(value, ret);
    }
    return status;
}

enum sp_status sp_index_address(struct sp_read *read, struct sp_slice address,
                                struct sp_uuid *ret_id)
{
    MDB_val value;
    if (address.len == 0 || address.len > 500)
        return SP_NOT_FOUND;
    enum sp_status status =
        get(read, read->index->addresses, sp_val(address.ptr, address.len), &value);
    if (status == SP_OK && value.mv_size != 16)
        return SP_CORRUPT;
    if (status == SP_OK)
        memcpy(ret_id->bytes, value.mv_data, 16);
    return status;
}

enum sp_status sp_index_domain(struct sp_read *read, struct sp_slice name)
{
    MDB_val value;
    if (name.len == 0 || name.len > 500)
        return SP_NOT_FOUND;
    return get(read, read->index->domains, sp_val(name.ptr, name.len), &value);
}

/* The first entry with a key above `after` (its exact match is passed over). */
static enum sp_status next_entry(struct sp_read *read, MDB_dbi table, MDB_val after,
                                 MDB_val *ret_key, MDB_val *ret_value)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(read->txn, table, &cursor);
    if (rc)
        return sp_mdb_status(rc);
    *ret_key = after;
    rc = mdb_cursor_get(cursor, ret_key, ret_value, MDB_SET_RANGE);
    if (!rc && ret_key->mv_size == after.mv_size &&
        memcmp(ret_key->mv_data, after.mv_data, after.mv_size) == 0)
        rc = mdb_cursor_get(cursor, ret_key, ret_value, MDB_NEXT);
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? SP_EOF : sp_mdb_status(rc);
}

enum sp_status sp_index_next_account(struct sp_read *read, struct sp_account *account)
{
    MDB_val key, value;
    struct sp_uuid last = account->id;
    enum sp_status status =
        next_entry(read, read->index->accounts, sp_val(last.bytes, 16), &key, &value);
    if (status != SP_OK)
        return status;
    memcpy(account->id.bytes, key.mv_data, 16);
    return account_value(value, account);
}

static enum sp_status mailbox_value(const struct sp_uuid *account, MDB_val value,
                                    struct sp_mailbox *ret)
{
    const uint8_t *at = value.mv_data, *end = at + value.mv_size;
    if (value.mv_size < sizeof ret->row)
        return SP_CORRUPT;
    memcpy(&ret->row, at, sizeof ret->row);
    at += sizeof ret->row;
    if ((size_t)(end - at) < ret->row.path_len || ret->row.keywords_count > SP_INDEX_KEYWORDS_MAX)
        return SP_CORRUPT;
    ret->account = *account;
    ret->path = sp_slice(at, ret->row.path_len);
    at += ret->row.path_len;
    for (size_t i = 0; i < ret->row.keywords_count; i++) {
        if (at == end || (size_t)(end - at) < 1U + *at)
            return SP_CORRUPT;
        ret->keywords[i] = sp_slice(at + 1, *at);
        at += 1 + *at;
    }
    return SP_OK;
}

enum sp_status sp_index_mailbox(struct sp_read *read, const struct sp_uuid *account,
                                uint32_t mailbox, struct sp_mailbox *ret)
{
    MDB_val value;
    struct sp_key key = sp_key_mailbox(account, mailbox);
    enum sp_status status = get(read, read->index->mailboxes, sp_key_val(&key), &value);
    return status == SP_OK ? mailbox_value(account, value, ret) : status;
}

enum sp_status sp_index_mailbox_by_path(struct sp_read *read, const struct sp_uuid *account,
                                        struct sp_slice path, struct sp_mailbox *ret)
{
    MDB_val value;
    uint32_t mailbox;
    struct sp_key key = sp_key_path(account, path);
    enum sp_status status = get(read, read->index->names, sp_key_val(&key), &value);
    if (status != SP_OK)
        return status;
    if (value.mv_size != sizeof mailbox)
        return SP_CORRUPT;
    memcpy(&mailbox, value.mv_data, sizeof mailbox);
    return sp_index_mailbox(read, account, mailbox, ret);
}

enum sp_status sp_index_next_mailbox(struct sp_read *read, const struct sp_uuid *account,
                                     struct sp_mailbox *mailbox)
{
    MDB_val key, value;
    struct sp_key after = sp_key_mailbox(account, mailbox->row.id);
    enum sp_status status =
        next_entry(read, read->index->mailboxes, sp_key_val(&after), &key, &value);
    if (status != SP_OK)
        return status;
    if (key.mv_size != 20 || memcmp(key.mv_data, account->bytes, 16) != 0)
        return SP_EOF;
    return mailbox_value(account, value, mailbox);
}

enum sp_status sp_index_next_subscription(struct sp_read *read, const struct sp_uuid *account,
                                          struct sp_slice *path)
{
    MDB_val key, value;
    struct sp_key after = {.len = 16};
    memcpy(after.bytes, account->bytes, 16);
    if (path->len)
        after = sp_key_path(account, *path);
    enum sp_status status =
        next_entry(read, read->index->subscribed, sp_key_val(&after), &key, &value);
    if (status != SP_OK)
        return status;
    if (key.mv_size != 32 || memcmp(key.mv_data, account->bytes, 16) != 0)
        return SP_EOF;
    *path = sp_slice(value.mv_data, value.mv_size);
    return SP_OK;
}

enum sp_status sp_index_next_held(struct sp_read *read, const struct sp_uuid *account,
                                  struct sp_held *held)
{
    MDB_val key, value;
    struct sp_key after = sp_key_u32(account, held->mailbox, held->uid);
    enum sp_status status = next_entry(read, read->index->held, sp_key_val(&after), &key, &value);
    if (status != SP_OK)
        return status;
    if (key.mv_size != 24 || memcmp(key.mv_data, account->bytes, 16) != 0)
        return SP_EOF;
    if (value.mv_size < sizeof held->row)
        return SP_CORRUPT;
    memcpy(&held->row, value.mv_data, sizeof held->row);
    const uint8_t *at = (const uint8_t *)value.mv_data + sizeof held->row;
    size_t rest = value.mv_size - sizeof held->row;
    if (rest < (size_t)held->row.path_len + held->row.keywords_len)
        return SP_CORRUPT;
    held->mailbox = sp_get_u32be((const uint8_t *)key.mv_data + 16);
    held->uid = sp_get_u32be((const uint8_t *)key.mv_data + 20);
    held->path = sp_slice(at, held->row.path_len);
    held->keywords = sp_slice(at + held->row.path_len, held->row.keywords_len);
    held->payload =
        sp_slice_from(sp_slice(at, rest), (size_t)held->row.path_len + held->row.keywords_len);
    return SP_OK;
}

enum sp_status sp_index_next_retired(struct sp_read *read, struct sp_retired *retired)
{
    MDB_val key, value;
    struct sp_key after = sp_key_segment(retired->segment, retired->generation);
    enum sp_status status =
        next_entry(read, read->index->retired, sp_key_val(&after), &key, &value);
    if (status != SP_OK)
        return status;
    if (key.mv_size != 12 || value.mv_size != sizeof retired->row)
        return SP_CORRUPT;
    retired->segment = sp_get_u64be(key.mv_data);
    retired->generation = sp_get_u32be((const uint8_t *)key.mv_data + 8);
    memcpy(&retired->row, value.mv_data, sizeof retired->row);
    return SP_OK;
}

enum sp_status sp_index_body(struct sp_read *read, uint64_t lsn, struct sp_body_row *ret)
{
    MDB_val value;
    struct sp_key key = sp_key_lsn(lsn);
    enum sp_status status = get(read, read->index->bodies, sp_key_val(&key), &value);
    if (status == SP_OK && value.mv_size != sizeof *ret)
        return SP_CORRUPT;
    if (status == SP_OK)
        memcpy(ret, value.mv_data, sizeof *ret);
    return status;
}

static enum sp_status message_value(MDB_val value, struct sp_slice *ret_payload, uint64_t *ret_lsn,
                                    uint64_t *ret_time_ns)
{
    if (value.mv_size < MESSAGE_HEAD)
        return SP_CORRUPT;
    *ret_lsn = sp_get_u64(value.mv_data);
    *ret_time_ns = sp_get_u64((const uint8_t *)value.mv_data + 8);
    *ret_payload =
        sp_slice((const uint8_t *)value.mv_data + MESSAGE_HEAD, value.mv_size - MESSAGE_HEAD);
    return SP_OK;
}

enum sp_status sp_index_message(struct sp_read *read, const struct sp_uuid *account,
                                uint32_t mailbox, uint32_t uid, struct sp_slice *ret_payload,
                                uint64_t *ret_lsn, uint64_t *ret_time_ns)
{
    MDB_val value;
    struct sp_key key = sp_key_u32(account, mailbox, uid);
    enum sp_status status = get(read, read->index->messages, sp_key_val(&key), &value);
    return status == SP_OK ? message_value(value, ret_payload, ret_lsn, ret_time_ns) : status;
}

/* ---- Cursors ---- */

enum sp_status sp_flag_cursor_open(struct sp_read *read, const struct sp_uuid *account,
                                   uint32_t mailbox, uint32_t from, uint64_t since_modseq,
                                   struct sp_flag_cursor *ret)
{
    struct sp_flag_cursor cursor = {
        .account = *account, .mailbox = mailbox, .from = from, .since_modseq = since_modseq};
    int rc = mdb_cursor_open(read->txn, read->index->flags, &cursor.cursor);
    if (rc)
        return sp_mdb_status(rc);
    *ret = cursor;
    return SP_OK;
}

/* Steps to the next chunk of the mailbox that may hold something new. */
static enum sp_status next_chunk(struct sp_flag_cursor *c)
{
    struct sp_key start = sp_key_u32(&c->account, c->mailbox, c->from >> SP_CHUNK_SHIFT);
    MDB_val key = sp_key_val(&start), value;
    int rc = mdb_cursor_get(c->cursor, &key, &value, c->begun ? MDB_NEXT : MDB_SET_RANGE);
    c->begun = true;
    for (;; rc = mdb_cursor_get(c->cursor, &key, &value, MDB_NEXT)) {
        uint64_t newest;
        if (rc == MDB_NOTFOUND)
            return SP_EOF;
        if (rc)
            return sp_mdb_status(rc);
        if (key.mv_size != 24 || memcmp(key.mv_data, start.bytes, 20) != 0)
            return SP_EOF;
        if (value.mv_size < SP_CHUNK_HEAD_BYTES ||
            (value.mv_size - SP_CHUNK_HEAD_BYTES) % sizeof(struct sp_flag_row) != 0)
            return SP_CORRUPT;
        memcpy(&newest, value.mv_data, sizeof newest);
        if (newest <= c->since_modseq)
            continue;
        c->row = (const struct sp_flag_row *)((const uint8_t *)value.mv_data + SP_CHUNK_HEAD_BYTES);
        c->end = (const struct sp_flag_row *)((const uint8_t *)value.mv_data + value.mv_size);
        return SP_OK;
    }
}

enum sp_status sp_flag_cursor_next(struct sp_flag_cursor *c, struct sp_flag_row *ret_row)
{
    for (;;) {
        while (c->row != c->end) {
            memcpy(ret_row, c->row++, sizeof *ret_row); /* LMDB aligns values to 2 bytes only */
            if (ret_row->uid >= c->from && ret_row->modseq > c->since_modseq)
                return SP_OK;
        }
        enum sp_status status = next_chunk(c);
        if (status != SP_OK)
            return status;
    }
}

void sp_flag_cursor_close(struct sp_flag_cursor *cursor)
{
    if (cursor->cursor)
        mdb_cursor_close(cursor->cursor);
    cursor->cursor = NULL;
}

enum sp_status sp_message_cursor_open(struct sp_read *read, const struct sp_uuid *account,
                                      uint32_t mailbox, struct sp_message_cursor *ret)
{
    struct sp_message_cursor cursor = {.account = *account, .mailbox = mailbox};
    int rc = mdb_cursor_open(read->txn, read->index->messages, &cursor.cursor);
    if (rc)
        return sp_mdb_status(rc);
    *ret = cursor;
    return SP_OK;
}

enum sp_status sp_message_cursor_get(struct sp_message_cursor *c, uint32_t uid,
                                     struct sp_slice *ret_payload, uint64_t *ret_lsn,
                                     uint64_t *ret_time_ns)
{
    struct sp_key want = sp_key_u32(&c->account, c->mailbox, uid);
    MDB_val key, value;
    int rc = MDB_NOTFOUND;
    if (c->uid && uid == c->uid + 1) {
        rc = mdb_cursor_get(c->cursor, &key, &value, MDB_NEXT);
        if (!rc && (key.mv_size != want.len || memcmp(key.mv_data, want.bytes, want.len) != 0))
            rc = MDB_NOTFOUND;
    }
    if (rc == MDB_NOTFOUND) {
        key = sp_key_val(&want);
        rc = mdb_cursor_get(c->cursor, &key, &value, MDB_SET_KEY);
    }
    c->uid = rc ? 0 : uid;
    return rc ? sp_mdb_status(rc) : message_value(value, ret_payload, ret_lsn, ret_time_ns);
}

void sp_message_cursor_close(struct sp_message_cursor *cursor)
{
    if (cursor->cursor)
        mdb_cursor_close(cursor->cursor);
    cursor->cursor = NULL;
}

enum sp_status sp_index_expunged(struct sp_read *read, const struct sp_uuid *account,
                                 uint32_t mailbox, uint64_t since_modseq,
                                 enum sp_status (*each)(void *context, struct sp_uid_pair run),
                                 void *context)
{
    MDB_cursor *cursor;
    struct sp_key start = sp_key_u64(account, mailbox, since_modseq + 1);
    MDB_val key = sp_key_val(&start), value;
    enum sp_status status = SP_OK;
    int rc = mdb_cursor_open(read->txn, read->index->tombstones, &cursor);
    if (rc)
        return sp_mdb_status(rc);
    for (rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE); !rc && status == SP_OK;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (key.mv_size != 28 || memcmp(key.mv_data, start.bytes, 20) != 0)
            break;
        for (size_t at = 0; at + sizeof(struct sp_uid_pair) <= value.mv_size && status == SP_OK;
             at += sizeof(struct sp_uid_pair)) {
            struct sp_uid_pair run;
            memcpy(&run, (const uint8_t *)value.mv_data + at, sizeof run);
            status = each(context, run);
        }
    }
    mdb_cursor_close(cursor);
    return rc && rc != MDB_NOTFOUND ? sp_mdb_status(rc) : status;
}

void sp_index_bytes(struct sp_index *index, uint64_t *ret_used, uint64_t *ret_most)
{
    MDB_envinfo info = {0};
    MDB_stat stat = {0};
    if (mdb_env_info(index->env, &info) || mdb_env_stat(index->env, &stat))
        return;
    *ret_used = (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
    *ret_most = info.me_mapsize;
}
