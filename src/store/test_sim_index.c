/* The index in the simulation. LMDB itself is real, in a folder in memory; its calls are wrapped by
 * the linker, so that they can be made to fail. */
#include "base/checksum.h"
#include "store/index_internal.h"
#include "store/test_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Failing ---- */

static uint32_t commit_in, put_in, commits_failed, puts_failed;

int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);
int __real_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned int flags);
int __wrap_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned int flags);

int __wrap_mdb_txn_commit(MDB_txn *txn)
{
    if (!commit_in || --commit_in)
        return __real_mdb_txn_commit(txn);
    commits_failed++;
    mdb_txn_abort(txn); /* as LMDB does when it cannot write */
    return EIO;
}

int __wrap_mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned int flags)
{
    if (!put_in || --put_in)
        return __real_mdb_put(txn, dbi, key, data, flags);
    puts_failed++;
    return MDB_MAP_FULL;
}

void sim_fail_index_commit(uint32_t n)
{
    commit_in = n;
}

void sim_fail_index_put(uint32_t n)
{
    put_in = n;
}

uint32_t sim_index_commits_failed(void)
{
    uint32_t count = commits_failed;
    commits_failed = 0;
    return count;
}

uint32_t sim_index_puts_failed(void)
{
    uint32_t count = puts_failed;
    puts_failed = 0;
    return count;
}

/* ---- Damage ---- */

#define PAGE 4096

/* The mark as it was when the power failed, in an earlier boot. */
static void age_mark(int dir)
{
    char text[128];
    int n = snprintf(text, sizeof text, "schema %u\nboot 00000000-0000-0000-0000-000000000000\n",
                     SP_INDEX_SCHEMA);
    int fd = openat(dir, "mark", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    sp_assert(fd >= 0 && write(fd, text, (size_t)n) == n);
    close(fd);
}

/* Some pages are of earlier, and some are zeros; then the checkpoint is lost as well, since no
 * power cut touches the pages that it holds (test_checkpoint.c). Or all pages are as they were, and
 * the checkpoint has to do. Only after a power cut: an index that was closed in good order was
 * synced.
 */
void sim_spoil_index(struct sim *s)
{
    struct stat st;
    uint8_t page[PAGE] = {0};
    if (!s->power_cut)
        return;
    int dir = open(sim_options->index_path, O_RDONLY | O_DIRECTORY);
    int fd = dir >= 0 ? openat(dir, "data.mdb", O_RDWR) : -1;
    bool spoilt = sim_one_in(s, 2);
    if (spoilt && fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 3 * PAGE) {
        sp_assert(unlinkat(dir, "checkpoint", 0) == 0 || errno == ENOENT);
        uint32_t pages = (uint32_t)(st.st_size / PAGE) - 2; /* but the two that LMDB begins with */
        for (uint32_t i = 0; i < 1 + pages / 4; i++) {
            off_t to = (off_t)(2 + sim_random(s, pages)) * PAGE;
            off_t from = (off_t)(2 + sim_random(s, pages)) * PAGE;
            if (sim_one_in(s, 2) && pread(fd, page, PAGE, from) != PAGE)
                memset(page, 0, PAGE);
            sp_assert(pwrite(fd, page, PAGE, to) == PAGE);
        }
        SIM_SAY("  the power cut spoils the index\n");
        s->counts[SIM_POWER_CUT]++;
    }
    if (dir >= 0)
        age_mark(dir);
    if (fd >= 0)
        close(fd);
    if (dir >= 0)
        close(dir);
}

/* ---- Comparing ---- */

static void add(struct sp_buf *all, const void *bytes, size_t len)
{
    sp_buf_add(all, sp_slice(bytes, len));
    sp_assert(!sp_buf_failed(all));
}

/* The mailbox's row without what the log says of itself, which goes on at each stop, and without
 * what is dropped, which is counted where the log is read anew. */
static void add_mailbox(struct sp_buf *all, MDB_val value)
{
    struct sp_mailbox_row row;
    sp_assert(value.mv_size >= sizeof row);
    memcpy(&row, value.mv_data, sizeof row);
    row.tail = row.catalogue_lsn = row.catalogue_modseq = 0;
    row.catalogue_uidnext = row.dropped = 0;
    add(all, &row, sizeof row);
    add(all, (const uint8_t *)value.mv_data + sizeof row, value.mv_size - sizeof row);
}

/* A chunk of flags without the bound of its MODSEQs, which is at least their highest: of what was
 * expunged and is dropped, an index that is made anew knows nothing. */
static void add_flags(struct sp_buf *all, MDB_val value)
{
    const uint8_t *bytes = value.mv_data;
    uint64_t bound;
    sp_assert(value.mv_size >= sizeof bound &&
              (value.mv_size - sizeof bound) % sizeof(struct sp_flag_row) == 0);
    memcpy(&bound, bytes, sizeof bound);
    for (size_t at = sizeof bound; at < value.mv_size; at += sizeof(struct sp_flag_row)) {
        struct sp_flag_row row;
        memcpy(&row, bytes + at, sizeof row);
        sp_assert(row.modseq <= bound);
    }
    add(all, bytes + sizeof bound, value.mv_size - sizeof bound);
}

void sim_digest_index(struct sp_index *index, struct sp_digest *ret_digest)
{
    const MDB_dbi tables[] = {
        index->accounts,   index->addresses, index->domains,  index->mailboxes,  index->names,
        index->subscribed, index->flags,     index->messages, index->tombstones, index->shared};
    struct sp_read read;
    struct sp_buf all;
    sp_buf_init(&all, 64U << 20);
    sp_assert(sp_read_begin(index, &read) == SP_OK);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        MDB_cursor *cursor;
        MDB_val key, value;
        sp_assert(mdb_cursor_open(read.txn, tables[i], &cursor) == 0);
        while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
            add(&all, key.mv_data, key.mv_size);
            if (tables[i] == index->mailboxes)
                add_mailbox(&all, value);
            else if (tables[i] == index->flags)
                add_flags(&all, value);
            else
                add(&all, value.mv_data, value.mv_size);
        }
        mdb_cursor_close(cursor);
    }
    sp_read_end(&read);
    sp_digest(sp_buf_slice(&all), ret_digest);
    sp_buf_release(&all);
}

void sim_compare_index(struct sim *s)
{
    char path[512];
    struct sp_volume *v = s->volume;
    struct sp_index *own = v->index;
    struct sp_index_start start;
    struct sp_error error = {0};
    struct sp_digest rolled, rebuilt;
    sim_fail_index_commit(0);
    sim_fail_index_put(0);
    snprintf(path, sizeof path, "%s.again", sim_options->index_path);
    v->index = NULL;
    const struct sp_volume_config config = {
        .index_path = path, .index_map_bytes = 8U << 20, .index_rebuild = true};
    enum sp_status status = sp_volume_open_index(v, &config, &start, &error);
    if (status == SP_OK)
        status = sp_volume_place_index(v, &start, &error);
    if (status == SP_OK)
        status = sp_volume_roll_index(v, &start, &error);
    sp_assert(status == SP_OK);
    sim_digest_index(own, &rolled);
    sim_digest_index(v->index, &rebuilt);
    sp_index_close(v->index, false);
    v->index = own;
    sp_assert(sp_index_destroy(path, NULL) == SP_OK);
    rmdir(path);
    sp_assert(memcmp(&rolled, &rebuilt, sizeof rolled) == 0);
    s->counts[SIM_COMPARED]++;
}

void sim_step_compare(struct sim *s)
{
    for (uint32_t i = 0; i < s->units_count; i++)
        if (s->faults[i] == SP_SIM_FAIL_ALL || s->faults[i] == SP_SIM_GONE)
            return;
    if (!sp_sim_crashed(s->world) && s->settled && !s->lacking && !s->volume->index_failed)
        sim_compare_index(s);
}
