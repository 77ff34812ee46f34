#include "recover/place.h"
#include "recover/recover.h"
#include "format/spans.h"
#include "recover/test_log.h"
#include "recover/test_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEEDS 6

/* ---- Ruined disks ---- */

struct disk {
    struct world *w;
    uint8_t *bytes;
    size_t len, capacity;
};

static void put(struct disk *disk, const void *bytes, size_t len)
{
    if (disk->len + len > disk->capacity) {
        disk->capacity = (disk->len + len) * 2;
        disk->bytes = realloc(disk->bytes, disk->capacity);
        assert_non_null(disk->bytes);
    }
    memcpy(disk->bytes + disk->len, bytes, len);
    disk->len += len;
}

static void put_garbage(struct disk *disk, unsigned sectors)
{
    uint8_t sector[512];
    while (sectors--) {
        for (unsigned i = 0; i < sizeof sector; i++)
            sector[i] = (uint8_t)world_random(disk->w);
        if (world_random(disk->w) % 4 == 0)
            memcpy(sector, SP_BLOCK_MAGIC, 4);
        put(disk, sector, sizeof sector);
    }
}

/* Which blocks of the world are on no disk. */
struct lost {
    bool blocks[WORLD_SEGMENTS][4096];
};

/* All blocks but the lost ones, in pieces, shuffled, with garbage between. */
static void scatter(struct disk *disk, const struct lost *lost)
{
    struct world *w = disk->w;
    struct {
        uint32_t segment, first, count;
    } pieces[8192];
    uint32_t count = 0;
    for (uint32_t s = 0; s < w->segments_count; s++)
        for (uint32_t at = 0; at < w->segments[s].count;) {
            uint32_t n = 1 + (uint32_t)(world_random(w) % 60), left = w->segments[s].count - at;
            n = n < left ? n : left;
            assert_true(count < 8192);
            pieces[count].segment = s;
            pieces[count].first = at;
            pieces[count++].count = n;
            at += n;
        }
    for (uint32_t i = count; i-- > 1;) {
        uint32_t j = (uint32_t)(world_random(w) % (i + 1));
        __typeof__(pieces[0]) swap = pieces[i];
        pieces[i] = pieces[j];
        pieces[j] = swap;
    }
    for (uint32_t i = 0; i < count; i++) {
        put_garbage(disk, (unsigned)(world_random(w) % 5));
        for (uint32_t k = 0; k < pieces[i].count; k++) {
            uint32_t index = pieces[i].first + k;
            uint8_t block[SP_BLOCK_BYTES];
            memcpy(block, w->segments[pieces[i].segment].blocks + (size_t)index * SP_BLOCK_BYTES,
                   sizeof block);
            if (lost && lost->blocks[pieces[i].segment][index])
                block[world_random(w) % SP_BLOCK_BYTES] ^= (uint8_t)(1 + world_random(w) % 255);
            put(disk, block, sizeof block);
        }
    }
}

static void save(struct disk *disk, const char *path)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(disk->bytes, 1, disk->len, file), disk->len);
    assert_int_equal(fclose(file), 0);
    free(disk->bytes);
    *disk = (struct disk){0};
}

static void scan(const char *const *sources, size_t count, const char *out,
                 struct sp_recover_scan_report *report)
{
    struct sp_error error = {0};
    enum sp_status status = sp_recover_scan(sources, count, out, NULL, report, &error);
    if (status != SP_OK)
        sp_error_print(&error);
    assert_int_equal(status, SP_OK);
}

static void rebuild(const char *out, const char *dir, bool accept, struct sp_recover_report *report)
{
    struct sp_error error = {0};
    struct sp_recover_rebuild_options options = {.accept_loss = accept};
    enum sp_status status = sp_recover_rebuild(out, dir, &options, report, &error);
    if (status != SP_OK)
        sp_error_print(&error);
    assert_int_equal(status, SP_OK);
}

/* ---- Tests ---- */

/* Everything that the model says must be there is there, and nothing else. `lost`: NULL when
 * nothing is. Returns how many are missing. */
static uint32_t compare(const struct world *w, const struct log *log, const struct lost *lost,
                        bool footers)
{
    uint32_t missing = 0, extra = log->count;
    for (uint32_t i = 0; i < w->records_count; i++) {
        const struct world_record *r = &w->records[i];
        bool touched = false;
        for (uint32_t b = r->first_block; b <= r->last_block && lost; b++)
            touched = touched || lost->blocks[r->segment][b];
        int at = log_find(log, r->lsn);
        bool healed = footers && w->segments[r->segment].sealed && !sp_record_is_body(r->type);
        if (!touched || healed)
            assert_true(at >= 0);
        if (at >= 0) {
            assert_memory_equal(&log->digests[at], &r->digest, sizeof r->digest);
            extra--;
        } else {
            missing++;
        }
    }
    /* What is more is of the new epoch. */
    for (uint32_t i = log->count - extra; i < log->count; i++)
        assert_true(log->types[i] == SP_RECORD_GAP || log->types[i] == SP_RECORD_UNPROTECT);
    assert_true(extra >= 1);
    return missing;
}

static void test_spans(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct world w;
        struct sp_spans set = {0}, other = {0};
        bool model[64] = {0}, except[64] = {0};
        world_init(&w, seed);
        for (unsigned i = 0; i < 60; i++) {
            uint64_t first = world_random(&w) % 64, last = first + world_random(&w) % (64 - first);
            unsigned op = (unsigned)(world_random(&w) % 4);
            if (op == 0) {
                assert_true(sp_spans_add(&other, first, first));
                except[first] = true;
            } else if (op == 1) {
                assert_true(sp_spans_remove(&set, first, last));
            } else if (op == 2) {
                assert_true(sp_spans_add(&set, first, last));
            } else {
                assert_true(sp_spans_add_except(&set, first, last, &other));
            }
            for (uint64_t v = first; v <= last && op; v++)
                model[v] = op == 1 ? false : op == 2 ? true : model[v] || !except[v];
            uint64_t total = 0;
            for (uint64_t v = 0; v < 64; v++) {
                assert_int_equal(sp_spans_has(&set, v), model[v]);
                total += v >= first && model[v];
            }
            assert_int_equal(sp_spans_total(&set, first), total);
            for (uint32_t k = 1; k < set.count; k++)
                assert_true(set.ptr[k].first > set.ptr[k - 1].last + 1);
        }
        sp_spans_release(&set);
        sp_spans_release(&other);
        world_release(&w);
    }
}

/* Two damaged copies that have every block between them: nothing is lost. */
static void test_two_halves(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct world w;
        char first[512], second[512], out[512], dir[512];
        static struct lost lost[2];
        struct sp_recover_scan_report scanned;
        struct sp_recover_report report;
        struct log log;
        world_init(&w, seed);
        world_fill(&w);
        memset(lost, 0, sizeof lost);
        for (uint32_t s = 0; s < w.segments_count; s++)
            for (uint32_t b = 0; b < w.segments[s].count; b++)
                if (world_random(&w) % 3 == 0)
                    lost[world_random(&w) % 2].blocks[s][b] = true;
        struct disk disk = {.w = &w};
        scatter(&disk, &lost[0]);
        save(&disk, world_fresh(first, "disk"));
        disk = (struct disk){.w = &w};
        put_garbage(&disk, 3);
        scatter(&disk, &lost[1]);
        save(&disk, world_fresh(second, "disk"));
        const char *sources[] = {first, second};
        world_fresh(out, "out");
        scan(sources, 2, out, &scanned);
        assert_int_equal(scanned.volumes_count, 1);
        assert_int_equal(scanned.segments_count, 3);
        assert_true(scanned.twins > 0 && scanned.bad_blocks > 0 && scanned.conflicts == 0);
        for (uint32_t i = 0; i < 3; i++)
            assert_int_equal(scanned.segments[i].blocks, w.segments[i].count);
        sp_recover_scan_report_release(&scanned);
        rebuild(out, world_fresh(dir, "dir"), false, &report);
        assert_int_equal(report.lost_lsns, 0);
        assert_int_equal(report.broken_count, 0);
        assert_int_equal(report.segments_count, 3);
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(report.segments[i].fate, SP_RECOVER_VERBATIM);
            assert_int_equal(report.segments[i].footer_kept, w.segments[i].sealed);
        }
        read_log(dir, &w.volume, &log);
        assert_int_equal(compare(&w, &log, NULL, true), 0);
        assert_int_equal(log.gap.lsns.count, 0);
        assert_true(log.gap.modseq_skip == SP_RECOVER_MODSEQ_SKIP &&
                    log.gap.uidnext_skip == SP_RECOVER_UIDNEXT_SKIP);
        assert_true(report.gap_lsn == w.lsn + SP_RECOVER_LSN_SKIP);
        log_release(&log);
        sp_recover_report_release(&report);
        world_release(&w);
    }
}

/* One copy with holes: every record that touches none of them is there, and what the footers hold.
 * The account of the losses is exact. A second rebuild gives the same records. */
static void test_damage(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4 * SEEDS; seed++) {
        struct world w;
        char image[512], out[512], dir[512];
        static struct lost lost;
        struct sp_recover_scan_report scanned;
        struct sp_recover_report report;
        struct log log, again;
        bool footers = seed % 2;
        world_init(&w, seed);
        world_fill(&w);
        memset(&lost, 0, sizeof lost);
        for (uint32_t s = 0; s < w.segments_count; s++) {
            struct world_segment *segment = &w.segments[s];
            for (uint32_t b = 0; b < segment->end.blocks; b++)
                lost.blocks[s][b] = world_random(&w) % (5 + seed) == 0;
            /* An unfinished batch at the very end is void: keep the end whole here. */
            if (!segment->sealed)
                lost.blocks[s][segment->end.blocks - 1] = false;
            for (uint32_t b = segment->end.blocks; b < segment->count && !footers; b++)
                lost.blocks[s][b] = b == segment->count - 1 || world_random(&w) % 2;
        }
        struct disk disk = {.w = &w};
        scatter(&disk, &lost);
        save(&disk, world_fresh(image, "disk"));
        const char *sources[] = {image};
        scan(sources, 1, world_fresh(out, "out"), &scanned);
        sp_recover_scan_report_release(&scanned);
        rebuild(out, world_fresh(dir, "dir"), seed % 3 == 0, &report);
        read_log(dir, &w.volume, &log);
        uint32_t missing = compare(&w, &log, &lost, footers);
        /* A tail after the last surviving record cannot be known. */
        uint64_t beyond = 0, bodiless = 0;
        for (uint64_t lsn = w.lsn; lsn && log_find(&log, lsn) < 0; lsn--)
            beyond++;
        assert_int_equal(report.lost_lsns, missing - beyond);
        for (uint32_t i = 0; i < w.records_count; i++) {
            const struct world_record *r = &w.records[i];
            bodiless += r->type == SP_RECORD_MESSAGE && log_find(&log, r->lsn) >= 0 &&
                        log_find(&log, r->body) < 0;
        }
        assert_int_equal(report.bodiless_total, bodiless);
        for (uint32_t i = 0; i < report.bodiless_count; i++) {
            char subject[32];
            snprintf(subject, sizeof subject, "Subject %u", report.bodiless[i].uid);
            assert_string_equal(report.bodiless[i].subject, subject);
        }
        uint64_t declared = 0;
        for (uint32_t i = 0; i < log.gap.lsns.count; i++)
            declared += log.gap.lsns.ptr[i].last - log.gap.lsns.ptr[i].first + 1;
        assert_int_equal(declared, report.lost_lsns);
        assert_int_equal(log.unprotects, report.accepted_loss ? report.broken_count : 0);
        /* Named UIDs are such as lack their record, and all of them that a later record of the
         * mailbox follows. */
        for (uint32_t i = 0; i < w.records_count; i++) {
            const struct world_record *r = &w.records[i];
            bool named = false, later = false;
            if (r->type != SP_RECORD_MESSAGE)
                continue;
            for (uint32_t k = 0; k < report.broken_count; k++)
                for (uint32_t u = 0; u < report.broken[k].uids.count; u++)
                    named =
                        named || (sp_uuid_eq(&report.broken[k].account, &w.accounts[r->account]) &&
                                  report.broken[k].mailbox == 1 &&
                                  report.broken[k].uids.ptr[u].first <= r->uid &&
                                  report.broken[k].uids.ptr[u].last >= r->uid);
            for (uint32_t k = i + 1; k < w.records_count; k++)
                later = later || (w.records[k].type == SP_RECORD_MESSAGE &&
                                  w.records[k].account == r->account &&
                                  log_find(&log, w.records[k].lsn) >= 0);
            if (log_find(&log, r->lsn) >= 0)
                assert_false(named);
            else if (later)
                assert_true(named);
        }
        json_t *json = sp_recover_report_json(&report);
        assert_non_null(json);
        json_decref(json);
        FILE *null = fopen("/dev/null", "w");
        sp_recover_report_print(&report, null);
        fclose(null);
        sp_recover_report_release(&report);

        rebuild(out, world_fresh(dir, "dir"), false, &report);
        read_log(dir, &w.volume, &again);
        for (uint32_t i = 0; i < log.count && log.lsns[i] <= w.lsn; i++)
            assert_true(again.lsns[i] == log.lsns[i] &&
                        memcmp(&again.digests[i], &log.digests[i], sizeof log.digests[i]) == 0);
        sp_recover_report_release(&report);
        log_release(&again);

        /* What was rebuilt can be lost and rebuilt again: the losses that were declared are not new
         * ones. */
        char unit[600], out_again[512], dir_again[512];
        snprintf(unit, sizeof unit, "%s/unit-a", dir);
        const char *units[] = {unit};
        scan(units, 1, world_fresh(out_again, "out"), &scanned);
        sp_recover_scan_report_release(&scanned);
        rebuild(out_again, world_fresh(dir_again, "dir"), false, &report);
        assert_int_equal(report.lost_lsns, 0);
        read_log(dir_again, &w.volume, &again);
        compare(&w, &again, &lost, footers);
        sp_recover_report_release(&report);
        log_release(&again);
        log_release(&log);
        world_release(&w);
    }
}

/* Unit b was ejected and wrote on; the log went on elsewhere from a declared end. What b had beyond
 * never comes back. */
static void test_void_tail(void **state)
{
    (void)state;
    for (unsigned lose_head = 0; lose_head < 2; lose_head++) {
        struct world w;
        char image[512], out[512], dir[512];
        static struct lost lost;
        struct sp_recover_scan_report scanned;
        struct sp_recover_report report;
        struct log log;
        world_init(&w, 77);
        world_fill(&w);
        struct world_segment *last = &w.segments[w.segments_count - 1];
        struct sp_log_end end = last->end;
        uint64_t batch = w.batch, tails[WORLD_ACCOUNTS], volume_tail = w.volume_tail;
        uint32_t records = w.records_count, uids[WORLD_ACCOUNTS], counter = w.epoch_counter;
        memcpy(tails, w.mailbox_tails, sizeof tails);
        memcpy(uids, w.uidnext, sizeof uids);
        uint64_t epoch = w.epoch_id;
        for (unsigned i = 0; i < 5; i++) { /* b alone, not acknowledged */
            world_message(&w, i % WORLD_ACCOUNTS, 5000);
            world_commit(&w);
        }
        world_begin_segment(&w, false); /* and even a segment more */
        struct world_segment ghost = w.segments[--w.segments_count];
        w.segments[w.segments_count] = (struct world_segment){0};
        /* The true course of things. */
        world_forget(&w, records);
        w.batch = batch;
        w.volume_tail = volume_tail;
        memcpy(w.mailbox_tails, tails, sizeof tails);
        memcpy(w.uidnext, uids, sizeof uids);
        memcpy(w.listed, uids, sizeof uids);
        last->end = end;
        last->sealed = true; /* its footer is b's, over blocks that do not count */
        world_begin_epoch(&w);
        assert_true(w.epoch_id != epoch && w.epoch_counter == counter + 1);
        world_begin_segment(&w, true);
        for (unsigned i = 0; i < 20; i++) {
            world_message(&w, i % WORLD_ACCOUNTS, 3000);
            world_commit(&w);
        }
        memset(&lost, 0, sizeof lost);
        lost.blocks[3][0] = lose_head;
        struct disk disk = {.w = &w};
        scatter(&disk, &lost);
        put(&disk, ghost.blocks, (size_t)ghost.count * SP_BLOCK_BYTES);
        save(&disk, world_fresh(image, "disk"));
        free(ghost.blocks);
        const char *sources[] = {image};
        scan(sources, 1, world_fresh(out, "out"), &scanned);
        assert_int_equal(scanned.segments_count, 5);
        assert_int_equal(scanned.segments[3].segment, scanned.segments[4].segment);
        assert_true(scanned.segments[3].epoch_id != scanned.segments[4].epoch_id);
        sp_recover_scan_report_release(&scanned);
        rebuild(out, world_fresh(dir, "dir"), false, &report);
        assert_int_equal(report.segments_count, 5);
        assert_int_equal(report.segments[4].fate, SP_RECOVER_VOID);
        assert_true(report.segments[2].void_blocks > 0 && !report.segments[2].footer_kept);
        assert_int_equal(report.segments[3].fate,
                         lose_head ? SP_RECOVER_REWRITTEN : SP_RECOVER_VERBATIM);
        assert_int_equal(report.lost_lsns, 0);
        read_log(dir, &w.volume, &log);
        assert_int_equal(compare(&w, &log, NULL, false), 0);
        assert_int_equal(log.count, w.records_count + 1);
        log_release(&log);
        sp_recover_report_release(&report);
        world_release(&w);
    }
}

/* A segment of which nothing is left; then also the one before it. */
static void test_lost_segment(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 3; n++) {
        struct world w;
        char image[512], out[512], dir[512];
        static struct lost lost;
        struct sp_recover_scan_report scanned;
        struct sp_recover_report report;
        struct log log;
        world_init(&w, 5);
        world_fill(&w);
        memset(&lost, 0, sizeof lost);
        for (uint32_t s = n == 3 ? 0 : 1; s < (n == 1 ? 2U : n == 2 ? 2U : 2U); s++)
            memset(lost.blocks[s], 1, sizeof lost.blocks[s]);
        if (n == 2) /* and the head that names it */
            lost.blocks[2][0] = true;
        struct disk disk = {.w = &w};
        scatter(&disk, &lost);
        save(&disk, world_fresh(image, "disk"));
        const char *sources[] = {image};
        scan(sources, 1, world_fresh(out, "out"), &scanned);
        sp_recover_scan_report_release(&scanned);
        rebuild(out, world_fresh(dir, "dir"), true, &report);
        bool stands_in = false;
        for (uint32_t i = 0; i < report.segments_count; i++)
            stands_in = stands_in || (report.segments[i].fate == SP_RECOVER_EMPTY &&
                                      report.segments[i].segment == 2);
        assert_int_equal(stands_in, n != 2);
        read_log(dir, &w.volume, &log);
        assert_int_equal(compare(&w, &log, &lost, false), report.lost_lsns);
        assert_true(report.broken_count >= WORLD_ACCOUNTS);
        log_release(&log);
        sp_recover_report_release(&report);
        world_release(&w);
    }
}

/* Another valid block claims a place: both are kept, and the chain says which is the log's. */
static void test_conflict(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 2; first++) {
        struct world w;
        char image[512], forged[512], out[512], dir[512];
        struct sp_recover_scan_report scanned;
        struct sp_recover_report report;
        struct log log;
        struct sp_block_header h;
        uint8_t block[SP_BLOCK_BYTES];
        world_init(&w, 9);
        world_fill(&w);
        struct disk disk = {.w = &w};
        scatter(&disk, NULL);
        save(&disk, world_fresh(image, "disk"));
        disk = (struct disk){.w = &w};
        for (uint32_t index = 3; index < 9; index += 2) {
            memcpy(block, w.segments[1].blocks + index * SP_BLOCK_BYTES, sizeof block);
            assert_int_equal(sp_block_read(block, &h), SP_OK);
            block[SP_BLOCK_HEADER_BYTES + 70] ^= 1;
            h.chain ^= 1;
            sp_block_write(block, &h);
            put(&disk, block, sizeof block);
        }
        save(&disk, world_fresh(forged, "disk"));
        const char *sources[] = {first ? forged : image, first ? image : forged};
        scan(sources, 2, world_fresh(out, "out"), &scanned);
        assert_int_equal(scanned.segments_count, 4);
        assert_int_equal(scanned.conflicts, 3);
        sp_recover_scan_report_release(&scanned);
        rebuild(out, world_fresh(dir, "dir"), false, &report);
        assert_int_equal(report.segments[1].fate, SP_RECOVER_VERBATIM);
        read_log(dir, &w.volume, &log);
        assert_int_equal(compare(&w, &log, NULL, true), 0);
        log_release(&log);
        sp_recover_report_release(&report);
        /* The same sources once more: all twins, nothing new. */
        scan(sources, 2, out, &scanned);
        assert_int_equal(scanned.segments_count, 4);
        assert_int_equal(scanned.twins, scanned.blocks);
        sp_recover_scan_report_release(&scanned);
        world_release(&w);
    }
}

/* A batch that was begun at the end of the log and not finished never was. */
static void test_unfinished(void **state)
{
    (void)state;
    struct world w;
    char image[512], out[512], dir[512];
    struct sp_recover_scan_report scanned;
    struct sp_recover_report report;
    struct log log;
    world_init(&w, 21);
    world_fill(&w);
    uint32_t records = w.records_count;
    struct world_segment *last = &w.segments[w.segments_count - 1];
    for (unsigned i = 0; i < 10; i++)
        world_message(&w, 0, 3000);
    world_commit(&w);
    last->count -= 2;
    world_forget(&w, records);
    struct disk disk = {.w = &w};
    scatter(&disk, NULL);
    save(&disk, world_fresh(image, "disk"));
    const char *sources[] = {image};
    scan(sources, 1, world_fresh(out, "out"), &scanned);
    sp_recover_scan_report_release(&scanned);
    rebuild(out, world_fresh(dir, "dir"), false, &report);
    assert_true(report.segments[2].void_blocks > 0);
    assert_int_equal(report.segments[2].fate, SP_RECOVER_VERBATIM);
    read_log(dir, &w.volume, &log);
    assert_int_equal(compare(&w, &log, NULL, true), 0);
    assert_int_equal(log.count, records + 1);
    log_release(&log);
    sp_recover_report_release(&report);
    world_release(&w);
}

/* Two volumes on one disk are kept apart; rebuild asks which. */
static void test_two_volumes(void **state)
{
    (void)state;
    struct world w[2];
    char image[512], out[512], dir[512];
    struct sp_recover_scan_report scanned;
    struct sp_recover_report report;
    struct sp_error error;
    struct disk disk = {0};
    for (unsigned i = 0; i < 2; i++) {
        world_init(&w[i], 30 + i);
        world_fill(&w[i]);
        disk.w = &w[i];
        scatter(&disk, NULL);
    }
    save(&disk, world_fresh(image, "disk"));
    const char *sources[] = {image};
    scan(sources, 1, world_fresh(out, "out"), &scanned);
    assert_int_equal(scanned.volumes_count, 2);
    json_t *json = sp_recover_scan_report_json(&scanned);
    assert_int_equal(json_array_size(json_object_get(json, "segments")), 6);
    json_decref(json);
    sp_recover_scan_report_release(&scanned);
    assert_int_equal(sp_recover_rebuild(out, world_fresh(dir, "dir"), NULL, &report, &error),
                     SP_INVALID);
    sp_recover_report_release(&report);
    for (unsigned i = 0; i < 2; i++) {
        struct sp_recover_rebuild_options options = {.volume = &w[i].volume};
        struct log log;
        assert_int_equal(
            sp_recover_rebuild(out, world_fresh(dir, "dir"), &options, &report, &error), SP_OK);
        sp_recover_report_release(&report);
        read_log(dir, &w[i].volume, &log);
        assert_int_equal(compare(&w[i], &log, NULL, true), 0);
        log_release(&log);
        /* Never over something else. */
        assert_int_equal(sp_recover_rebuild(out, dir, &options, &report, &error), SP_EXISTS);
        sp_recover_report_release(&report);
        world_release(&w[i]);
    }
}

/* A disk with a bad stretch: 8192 bytes at 64 KiB. */
static ssize_t bad_read(int fd, void *bytes, size_t len, off_t offset)
{
    if (offset < 73728 && offset + (off_t)len > 65536) {
        errno = EIO;
        return -1;
    }
    return pread(fd, bytes, len, offset);
}

static void test_sources(void **state)
{
    (void)state;
    struct world w;
    char image[512], out[512], below[600], path[512];
    struct sp_recover_scan_report scanned;
    struct sp_error error;
    world_init(&w, 40);
    world_fill(&w);
    struct disk disk = {.w = &w};
    put(&disk, w.segments[0].blocks, (size_t)w.segments[0].count * SP_BLOCK_BYTES);
    save(&disk, world_fresh(image, "disk"));
    const char *sources[] = {image};
    struct sp_recover_scan_options options = {.read_at = bad_read};
    assert_int_equal(
        sp_recover_scan(sources, 1, world_fresh(out, "out"), &options, &scanned, &error), SP_OK);
    assert_int_equal(scanned.sources[0].unread_bytes, 8192);
    assert_int_equal(scanned.sources[0].bad_count, 1);
    assert_int_equal(scanned.sources[0].bad[0].first, 65536);
    assert_int_equal(scanned.sources[0].bad[0].last, 73727);
    assert_int_equal(scanned.sources[0].blocks, w.segments[0].count - 2);
    assert_int_equal(scanned.segments[0].holes.count, 1);
    assert_int_equal(scanned.segments[0].holes.ptr[0].first, 16);
    sp_recover_scan_report_release(&scanned);
    /* Nothing is written onto a source. */
    snprintf(below, sizeof below, "%s/volume-x", out);
    const char *self[] = {out};
    assert_int_equal(sp_recover_scan(self, 1, out, NULL, &scanned, &error), SP_INVALID);
    sp_recover_scan_report_release(&scanned);
    assert_int_equal(sp_recover_scan(self, 1, below, NULL, &scanned, &error), SP_INVALID);
    sp_recover_scan_report_release(&scanned);
    /* Nor into a directory that holds something else. */
    world_fresh(path, "other");
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(below, sizeof below, "%s/precious", path);
    assert_int_equal(mkdir(below, 0700), 0);
    assert_int_equal(sp_recover_scan(sources, 1, path, NULL, &scanned, &error), SP_EXISTS);
    sp_recover_scan_report_release(&scanned);
    const char *absent[] = {"/nonexistent/disk"};
    assert_int_equal(sp_recover_scan(absent, 1, out, NULL, &scanned, &error), SP_INVALID);
    sp_recover_scan_report_release(&scanned);
    world_release(&w);
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool good;
        uint64_t segment;
        uint32_t generation, version;
    } rows[] = {
        {"000000000000000a.0000000b.seg", true, 10, 11, 0},
        {"000000000000000a.0000000b.07.alt", true, 10, 11, 7},
        {"ffffffffffffffff.ffffffff.seg", true, UINT64_MAX, UINT32_MAX, 0},
        {"000000000000000a.0000000b.00.alt", false, 0, 0, 0},
        {"a.b.seg", false, 0, 0, 0},
        {"000000000000000a.0000000b.segx", false, 0, 0, 0},
        {"000000000000000A.0000000b.seg", false, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t segment = 0;
        uint32_t generation = 0, version = 0;
        assert_int_equal(sp_place_parse(rows[i].name, &segment, &generation, &version),
                         rows[i].good);
        assert_true(segment == rows[i].segment && generation == rows[i].generation &&
                    version == rows[i].version);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans),       cmocka_unit_test(test_names),
        cmocka_unit_test(test_two_halves),  cmocka_unit_test(test_damage),
        cmocka_unit_test(test_void_tail),   cmocka_unit_test(test_lost_segment),
        cmocka_unit_test(test_conflict),    cmocka_unit_test(test_unfinished),
        cmocka_unit_test(test_two_volumes), cmocka_unit_test(test_sources),
    };
    return cmocka_run_group_tests(tests, world_scratch, world_scratch_end);
}
