#include "mail/search_file.h"

#include "base/endian.h"
#include "base/log.h"
#include "mail/search.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READERS_MAX       1024U
#define MAP_BYTES_DEFAULT (64ULL << 30)
#define CHUNK_BYTES_MAX   (8U << 20)
#define COUNT_BYTES       4U

static enum sp_status status_of(int rc)
{
    switch (rc) {
    case 0:
        return SP_OK;
    case MDB_NOTFOUND:
        return SP_NOT_FOUND;
    case ENOMEM:
        return SP_NO_MEMORY;
    case MDB_MAP_FULL:
    case ENOSPC:
        return SP_NO_SPACE;
    default:
        return SP_IO;
    }
}

struct key {
    uint8_t bytes[24];
    size_t len;
};

static struct key key_of(const struct sp_uuid *account, uint32_t mailbox)
{
    struct key key = {.len = 20};
    memcpy(key.bytes, account->bytes, 16);
    sp_put_u32be(key.bytes + 16, mailbox);
    return key;
}

static struct key key_of_number(const struct sp_uuid *account, uint32_t mailbox, uint32_t number)
{
    struct key key = key_of(account, mailbox);
    sp_put_u32be(key.bytes + 20, number);
    key.len = 24;
    return key;
}

static MDB_val val(const void *ptr, size_t len)
{
    return (MDB_val){len, (void *)(uintptr_t)ptr};
}

static MDB_val head_key(void)
{
    return val("head", 4);
}

/* ---- Opening ---- */

static const char *const files[] = {"data.mdb", "lock.mdb"};

enum sp_status sp_search_file_destroy(const char *path, struct sp_error *error)
{
    char name[4096];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int n = snprintf(name, sizeof name, "%s/%s", path, files[i]);
        if (n < 0 || (size_t)n >= sizeof name)
            return sp_error_set(error, SP_LIMIT, path, "the path is too long");
        if (unlink(name) != 0 && errno != ENOENT && errno != ENOTDIR)
            return sp_error_set(error, SP_IO, name, "cannot be removed: %s", strerror(errno));
    }
    if (rmdir(path) != 0 && errno != ENOENT)
        return sp_error_set(error, SP_IO, path, "cannot be removed: %s", strerror(errno));
    return SP_OK;
}

/* What there is is believed if it says that it is what we want. MDB_INVALID: it does not. */
static int open_tables(struct sp_search_file *file, const struct sp_uuid *volume)
{
    MDB_txn *txn;
    MDB_val key = head_key(), value;
    struct sp_search_head head = {.schema = SP_SEARCH_SCHEMA, .volume = *volume};
    int rc = mdb_txn_begin(file->env, NULL, 0, &txn);
    if (rc)
        return rc;
    rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &file->meta);
    if (!rc)
        rc = mdb_dbi_open(txn, "done", MDB_CREATE, &file->done);
    if (!rc)
        rc = mdb_dbi_open(txn, "sort", MDB_CREATE, &file->sort);
    if (!rc)
        rc = mdb_get(txn, file->meta, &key, &value);
    if (rc == MDB_NOTFOUND) {
        value = val(&head, sizeof head);
        rc = mdb_put(txn, file->meta, &key, &value, 0);
    } else if (!rc) {
        bool good = value.mv_size == sizeof head;
        if (good)
            memcpy(&head, value.mv_data, sizeof head);
        if (!good || head.schema != SP_SEARCH_SCHEMA || !sp_uuid_eq(&head.volume, volume))
            rc = MDB_INVALID;
    }
    if (rc) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

static int open_file(struct sp_search_file *file, const char *path, const struct sp_uuid *volume,
                     uint64_t max_bytes)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return errno;
    int rc = mdb_env_create(&file->env);
    if (!rc)
        rc = mdb_env_set_maxdbs(file->env, 8);
    if (!rc)
        rc = mdb_env_set_maxreaders(file->env, READERS_MAX);
    if (!rc)
        rc = mdb_env_set_mapsize(file->env, max_bytes ? max_bytes : MAP_BYTES_DEFAULT);
    if (!rc)
        rc = mdb_env_open(file->env, path, MDB_NOTLS | MDB_NORDAHEAD | MDB_NOMETASYNC, 0600);
    if (!rc)
        rc = open_tables(file, volume);
    if (rc) {
        mdb_env_close(file->env);
        file->env = NULL;
    }
    return rc;
}

enum sp_status sp_search_file_open(const char *path, const struct sp_uuid *volume,
                                   uint64_t max_bytes, struct sp_search_file **ret_file,
                                   struct sp_error *error)
{
    struct sp_search_file *file = calloc(1, sizeof *file);
    if (!file)
        return sp_error_set(error, SP_NO_MEMORY, path, "out of memory");
    int rc = open_file(file, path, volume, max_bytes);
    if (rc == MDB_INVALID || rc == MDB_CORRUPTED || rc == MDB_VERSION_MISMATCH ||
        rc == MDB_PAGE_NOTFOUND || rc == MDB_INCOMPATIBLE) {
        sp_log(SP_LOG_WARN, "search.renew", "why=%s", SP_LOG_QUOTED(mdb_strerror(rc)));
        enum sp_status status = sp_search_file_destroy(path, error);
        if (status) {
            free(file);
            return status;
        }
        rc = open_file(file, path, volume, max_bytes);
    }
    if (rc) {
        free(file);
        return sp_error_set(error, status_of(rc), path, "cannot be opened: %s", mdb_strerror(rc));
    }
    *ret_file = file;
    return SP_OK;
}

void sp_search_file_close(struct sp_search_file *file)
{
    if (!file)
        return;
    mdb_env_close(file->env);
    free(file);
}

/* ---- Reading ---- */

void sp_search_read_begin(struct sp_search_file *file, const struct sp_uuid *account,
                          uint32_t mailbox, uint32_t uidvalidity, struct sp_search_read *ret_read)
{
    struct sp_search_read read = {.file = file, .account = *account, .mailbox = mailbox};
    struct sp_search_done done;
    struct key key = key_of(account, mailbox);
    MDB_val k = val(key.bytes, key.len), value;
    if (file && mdb_txn_begin(file->env, NULL, MDB_RDONLY, &read.txn) == 0) {
        if (mdb_get(read.txn, file->done, &k, &value) == 0 && value.mv_size == sizeof done) {
            memcpy(&done, value.mv_data, sizeof done);
            read.there = done.uidvalidity == uidvalidity &&
                         mdb_cursor_open(read.txn, file->sort, &read.sort) == 0;
        }
    } else {
        read.txn = NULL;
    }
    *ret_read = read;
}

void sp_search_read_end(struct sp_search_read *read)
{
    if (read->sort)
        mdb_cursor_close(read->sort);
    if (read->txn)
        mdb_txn_abort(read->txn);
    *read = (struct sp_search_read){0};
}

/* ---- Sort rows ---- */

static uint32_t rows_of(struct sp_slice chunk)
{
    uint32_t count = 0;
    if (chunk.len >= COUNT_BYTES)
        memcpy(&count, chunk.ptr, COUNT_BYTES);
    if (count > SP_SEARCH_CHUNK || chunk.len < COUNT_BYTES + count * sizeof(struct sp_sort_row))
        return 0;
    return count;
}

static struct sp_sort_row row_at(struct sp_slice chunk, uint32_t i)
{
    struct sp_sort_row row;
    memcpy(&row, chunk.ptr + COUNT_BYTES + i * sizeof row, sizeof row);
    return row;
}

static size_t texts_bytes(const struct sp_sort_row *row)
{
    return (size_t)row->subject_len + row->from_len + row->to_len + row->cc_len +
           ((size_t)row->has_id + row->references) * SP_SORT_ID_BYTES;
}

/* A row's texts; false: they are not within the chunk. */
static bool texts_of(struct sp_slice chunk, uint32_t rows, const struct sp_sort_row *row,
                     struct sp_slice *ret)
{
    struct sp_slice heap = sp_slice_from(chunk, COUNT_BYTES + rows * sizeof *row);
    size_t len = texts_bytes(row);
    if (row->texts > heap.len || len > heap.len - row->texts)
        return false;
    *ret = sp_slice_sub(heap, row->texts, row->texts + len);
    return true;
}

static struct sp_slice take(struct sp_slice *rest, size_t len)
{
    struct sp_slice taken = sp_slice_sub(*rest, 0, len);
    *rest = sp_slice_from(*rest, len);
    return taken;
}

/* The rows of a UID's chunk; empty: there are none. */
static struct sp_slice find_chunk(struct sp_search_read *read, uint32_t uid)
{
    uint32_t number = uid >> SP_SEARCH_CHUNK_BITS;
    struct key key = key_of_number(&read->account, read->mailbox, number);
    MDB_val k = val(key.bytes, key.len), value;
    if (read->chunk_number == number + 1)
        return read->chunk;
    read->chunk = mdb_cursor_get(read->sort, &k, &value, MDB_SET_KEY) == 0
                      ? sp_slice(value.mv_data, value.mv_size)
                      : (struct sp_slice){NULL, 0};
    read->chunk_number = number + 1;
    return read->chunk;
}

bool sp_search_sort_get(struct sp_search_read *read, uint32_t uid, struct sp_sort_entry *ret_entry)
{
    struct sp_sort_row row;
    struct sp_slice texts;
    if (!read->there)
        return false;
    struct sp_slice chunk = find_chunk(read, uid);
    uint32_t rows = rows_of(chunk), low = 0, high = rows;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (row_at(chunk, middle).uid < uid)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == rows)
        return false;
    row = row_at(chunk, low);
    if (row.uid != uid || !texts_of(chunk, rows, &row, &texts))
        return false;
    *ret_entry = (struct sp_sort_entry){
        .uid = uid, .arrival = row.arrival, .sent = row.sent, .size = row.size, .reply = row.reply};
    ret_entry->subject = take(&texts, row.subject_len);
    ret_entry->from = take(&texts, row.from_len);
    ret_entry->to = take(&texts, row.to_len);
    ret_entry->cc = take(&texts, row.cc_len);
    ret_entry->id = take(&texts, row.has_id ? SP_SORT_ID_BYTES : 0);
    ret_entry->references = texts;
    return true;
}

bool sp_sort_row_fits(const struct sp_sort_entry *entry)
{
    return entry->subject.len <= SP_SORT_TEXT_MAX && entry->from.len <= SP_SORT_TEXT_MAX &&
           entry->to.len <= SP_SORT_TEXT_MAX && entry->cc.len <= SP_SORT_TEXT_MAX &&
           entry->references.len <= SP_SORT_IDS_MAX * SP_SORT_ID_BYTES;
}

/* ---- Writing ---- */

enum sp_status sp_search_write_begin(struct sp_search_file *file, struct sp_search_write *ret_write)
{
    struct sp_search_write write = {.file = file};
    int rc = mdb_txn_begin(file->env, NULL, 0, &write.txn);
    if (!rc)
        *ret_write = write;
    return status_of(rc);
}

enum sp_status sp_search_write_commit(struct sp_search_write *write)
{
    MDB_txn *txn = write->txn;
    write->txn = NULL;
    return status_of(mdb_txn_commit(txn));
}

void sp_search_write_abort(struct sp_search_write *write)
{
    if (write->txn)
        mdb_txn_abort(write->txn);
    write->txn = NULL;
}

enum sp_status sp_search_get_head(struct sp_search_write *write, struct sp_search_head *ret_head)
{
    MDB_val key = head_key(), value;
    int rc = mdb_get(write->txn, write->file->meta, &key, &value);
    if (!rc && value.mv_size != sizeof *ret_head)
        return SP_CORRUPT;
    if (!rc)
        memcpy(ret_head, value.mv_data, sizeof *ret_head);
    return status_of(rc);
}

enum sp_status sp_search_put_head(struct sp_search_write *write, const struct sp_search_head *head)
{
    MDB_val key = head_key(), value = val(head, sizeof *head);
    return status_of(mdb_put(write->txn, write->file->meta, &key, &value, 0));
}

enum sp_status sp_search_get_done(struct sp_search_write *write, const struct sp_uuid *account,
                                  uint32_t mailbox, struct sp_search_done *ret_done)
{
    struct key key = key_of(account, mailbox);
    MDB_val k = val(key.bytes, key.len), value;
    int rc = mdb_get(write->txn, write->file->done, &k, &value);
    if (!rc && value.mv_size != sizeof *ret_done)
        return SP_CORRUPT;
    if (!rc)
        memcpy(ret_done, value.mv_data, sizeof *ret_done);
    return status_of(rc);
}

enum sp_status sp_search_put_done(struct sp_search_write *write, const struct sp_uuid *account,
                                  uint32_t mailbox, const struct sp_search_done *done)
{
    struct key key = key_of(account, mailbox);
    MDB_val k = val(key.bytes, key.len), value = val(done, sizeof *done);
    return status_of(mdb_put(write->txn, write->file->done, &k, &value, 0));
}

enum sp_status sp_search_next_done(struct sp_search_write *write, struct sp_uuid *account,
                                   uint32_t *mailbox)
{
    MDB_cursor *cursor;
    struct key key = key_of(account, *mailbox);
    MDB_val k = val(key.bytes, key.len), value;
    int rc = mdb_cursor_open(write->txn, write->file->done, &cursor);
    if (rc)
        return status_of(rc);
    rc = mdb_cursor_get(cursor, &k, &value, MDB_SET_RANGE);
    if (!rc && k.mv_size == key.len && memcmp(k.mv_data, key.bytes, key.len) == 0)
        rc = mdb_cursor_get(cursor, &k, &value, MDB_NEXT);
    if (!rc && k.mv_size == 20) {
        memcpy(account->bytes, k.mv_data, 16);
        *mailbox = sp_get_u32be((const uint8_t *)k.mv_data + 16);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? SP_EOF : status_of(rc);
}

/* ---- Chunks of sort rows, being changed ---- */

/* Rows and texts of what a chunk becomes; kept apart until both are complete. */
struct chunk_writer {
    struct sp_buf rows, texts;
    uint32_t count;
};

static void writer_init(struct chunk_writer *writer)
{
    sp_buf_init(&writer->rows, SP_SEARCH_CHUNK * sizeof(struct sp_sort_row));
    sp_buf_init(&writer->texts, CHUNK_BYTES_MAX);
    writer->count = 0;
}

static void writer_release(struct chunk_writer *writer)
{
    sp_buf_release(&writer->rows);
    sp_buf_release(&writer->texts);
}

static void writer_reset(struct chunk_writer *writer)
{
    sp_buf_reset(&writer->rows);
    sp_buf_reset(&writer->texts);
    writer->count = 0;
}

static void add_row(struct chunk_writer *writer, struct sp_sort_row row)
{
    row.texts = (uint32_t)writer->texts.len;
    sp_buf_add(&writer->rows, sp_slice(&row, sizeof row));
    writer->count++;
}

static void keep_row(struct chunk_writer *writer, struct sp_slice chunk, uint32_t rows,
                     const struct sp_sort_row *row)
{
    struct sp_slice texts;
    if (!texts_of(chunk, rows, row, &texts))
        return;
    add_row(writer, *row);
    sp_buf_add(&writer->texts, texts);
}

static void put_entry(struct chunk_writer *writer, const struct sp_sort_entry *entry)
{
    struct sp_sort_row row;
    memset(&row, 0, sizeof row);
    row.uid = entry->uid;
    row.arrival = entry->arrival;
    row.sent = entry->sent;
    row.size = entry->size;
    row.subject_len = (uint16_t)entry->subject.len;
    row.from_len = (uint16_t)entry->from.len;
    row.to_len = (uint16_t)entry->to.len;
    row.cc_len = (uint16_t)entry->cc.len;
    row.references = (uint16_t)(entry->references.len / SP_SORT_ID_BYTES);
    row.reply = entry->reply;
    row.has_id = entry->id.len == SP_SORT_ID_BYTES;
    add_row(writer, row);
    sp_buf_add(&writer->texts, entry->subject);
    sp_buf_add(&writer->texts, entry->from);
    sp_buf_add(&writer->texts, entry->to);
    sp_buf_add(&writer->texts, entry->cc);
    sp_buf_add(&writer->texts, entry->id);
    sp_buf_add(&writer->texts, entry->references);
}

static enum sp_status put_chunk(struct sp_search_write *write, const struct key *key,
                                const struct chunk_writer *writer)
{
    MDB_val k = val(key->bytes, key->len), value;
    if (sp_buf_failed(&writer->rows) || sp_buf_failed(&writer->texts))
        return SP_NO_MEMORY;
    value = val(NULL, COUNT_BYTES + writer->rows.len + writer->texts.len);
    int rc = mdb_put(write->txn, write->file->sort, &k, &value, MDB_RESERVE);
    if (rc)
        return status_of(rc);
    uint8_t *at = value.mv_data;
    memcpy(at, &writer->count, COUNT_BYTES);
    memcpy(at + COUNT_BYTES, writer->rows.ptr, writer->rows.len);
    if (writer->texts.len)
        memcpy(at + COUNT_BYTES + writer->rows.len, writer->texts.ptr, writer->texts.len);
    return SP_OK;
}

/* Merges entries of one chunk with the rows that it has. */
static enum sp_status merge_chunk(struct sp_search_write *write, const struct key *key,
                                  const struct sp_sort_entry *entries, uint32_t count,
                                  struct chunk_writer *writer)
{
    MDB_val k = val(key->bytes, key->len), value;
    int rc = mdb_get(write->txn, write->file->sort, &k, &value);
    if (rc && rc != MDB_NOTFOUND)
        return status_of(rc);
    struct sp_slice chunk =
        rc ? (struct sp_slice){NULL, 0} : sp_slice(value.mv_data, value.mv_size);
    uint32_t rows = rows_of(chunk), at = 0;
    writer_reset(writer);
    for (uint32_t i = 0; i < count; i++) {
        struct sp_sort_row row;
        for (; at < rows && (row = row_at(chunk, at)).uid <= entries[i].uid; at++)
            if (row.uid < entries[i].uid)
                keep_row(writer, chunk, rows, &row);
        if (sp_sort_row_fits(&entries[i]))
            put_entry(writer, &entries[i]);
    }
    for (; at < rows; at++) {
        struct sp_sort_row row = row_at(chunk, at);
        keep_row(writer, chunk, rows, &row);
    }
    return writer->count ? put_chunk(write, key, writer) : SP_OK;
}

enum sp_status sp_search_put_sort(struct sp_search_write *write, const struct sp_uuid *account,
                                  uint32_t mailbox, const struct sp_sort_entry *entries,
                                  uint32_t count)
{
    struct chunk_writer writer;
    enum sp_status status = SP_OK;
    writer_init(&writer);
    for (uint32_t i = 0, n; i < count && status == SP_OK; i += n) {
        uint32_t number = entries[i].uid >> SP_SEARCH_CHUNK_BITS;
        for (n = 1; i + n < count && entries[i + n].uid >> SP_SEARCH_CHUNK_BITS == number;)
            n++;
        struct key key = key_of_number(account, mailbox, number);
        status = merge_chunk(write, &key, entries + i, n, &writer);
    }
    writer_release(&writer);
    return status;
}

/* ---- Forgetting ---- */

/* What is left of a chunk in writer->rows; *ret_changed: something went. */
static void filter_chunk(struct sp_slice chunk, uint32_t first, uint32_t last,
                         bool (*keep)(void *context, uint32_t uid), void *context,
                         struct chunk_writer *writer, bool *ret_changed)
{
    uint32_t rows = rows_of(chunk);
    writer_reset(writer);
    for (uint32_t i = 0; i < rows; i++) {
        struct sp_sort_row row = row_at(chunk, i);
        if (row.uid < first || row.uid > last || (keep && keep(context, row.uid)))
            keep_row(writer, chunk, rows, &row);
    }
    *ret_changed = writer->count != rows || !rows;
}

enum sp_status sp_search_forget(struct sp_search_write *write, const struct sp_uuid *account,
                                uint32_t mailbox, uint32_t first, uint32_t last,
                                bool (*keep)(void *context, uint32_t uid), void *context)
{
    struct chunk_writer writer;
    MDB_cursor *cursor;
    struct key key = key_of_number(account, mailbox, first >> SP_SEARCH_CHUNK_BITS);
    MDB_val k = val(key.bytes, key.len), value;
    enum sp_status status = SP_OK;
    int rc = mdb_cursor_open(write->txn, write->file->sort, &cursor);
    if (rc)
        return status_of(rc);
    writer_init(&writer);
    rc = mdb_cursor_get(cursor, &k, &value, MDB_SET_RANGE);
    while (!rc && status == SP_OK && k.mv_size == 24 && memcmp(k.mv_data, key.bytes, 20) == 0) {
        uint32_t number = sp_get_u32be((const uint8_t *)k.mv_data + 20);
        struct key here = key_of_number(account, mailbox, number);
        bool changed;
        if (number > last >> SP_SEARCH_CHUNK_BITS)
            break;
        filter_chunk(sp_slice(value.mv_data, value.mv_size), first, last, keep, context, &writer,
                     &changed);
        if (changed && !writer.count)
            rc = mdb_cursor_del(cursor, 0);
        else if (changed)
            status = put_chunk(write, &here, &writer);
        /* The cursor is set anew: writing may have moved what it stood on. */
        k = val(here.bytes, here.len);
        if (!rc)
            rc = mdb_cursor_get(cursor, &k, &value, MDB_SET_RANGE);
        if (!rc && k.mv_size == here.len && memcmp(k.mv_data, here.bytes, here.len) == 0)
            rc = mdb_cursor_get(cursor, &k, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    writer_release(&writer);
    return status ? status : rc == MDB_NOTFOUND ? SP_OK : status_of(rc);
}

enum sp_status sp_search_forget_mailbox(struct sp_search_write *write,
                                        const struct sp_uuid *account, uint32_t mailbox)
{
    struct key key = key_of(account, mailbox);
    MDB_val k = val(key.bytes, key.len);
    enum sp_status status = sp_search_forget(write, account, mailbox, 0, UINT32_MAX, NULL, NULL);
    if (status)
        return status;
    int rc = mdb_del(write->txn, write->file->done, &k, NULL);
    return rc == MDB_NOTFOUND ? SP_OK : status_of(rc);
}
