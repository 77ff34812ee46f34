/* What the log says of itself: catalogues and tails. Whoever reads the log from its beginning must
 * find each of them true at the place where it stands. */
#include "store/test_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define MAILBOX_MAX 16U

/* A reader of the log that keeps its own account of one account's mailboxes. */
struct reader {
    bool present[MAILBOX_MAX][MODEL_UIDS];
    bool said[MAILBOX_MAX][MODEL_UIDS]; /* what the catalogues so far add up to */
    uint32_t uidnext[MAILBOX_MAX];
    uint64_t tails[MAILBOX_MAX], account_tail;
    uint32_t bases, deltas, delta_uids, gone_uids, statements;
    bool tails_last; /* nothing but housekeeping came after the last statement */
};

static void set(bool *uids, struct sp_span_list list, bool value, uint32_t *count)
{
    for (uint32_t i = 0; i < list.count; i++)
        for (uint64_t uid = list.ptr[i].first; uid <= list.ptr[i].last; uid++) {
            assert_true(uid < MODEL_UIDS);
            assert_true(uids[uid] != value); /* a delta says nothing twice */
            uids[uid] = value;
            *count += 1;
        }
}

static void read_catalogue(struct reader *r, const struct sp_record *record, struct sp_arena *arena)
{
    struct sp_catalogue k;
    uint32_t n = record->mailbox, messages = 0, ignored = 0;
    assert_int_equal(sp_catalogue_read(record->payload, arena, &k), SP_OK);
    if (k.base) {
        memset(r->said[n], 0, sizeof r->said[n]);
        assert_int_equal(k.gone.count, 0);
        set(r->said[n], k.present, true, &ignored);
        r->bases++;
    } else {
        set(r->said[n], k.present, true, &r->delta_uids);
        /* What came and went in between was never said to be there. */
        for (uint32_t i = 0; i < k.gone.count; i++)
            for (uint64_t uid = k.gone.ptr[i].first; uid <= k.gone.ptr[i].last; uid++) {
                r->gone_uids += r->said[n][uid];
                r->said[n][uid] = false;
            }
        r->deltas++;
    }
    assert_memory_equal(r->said[n], r->present[n], sizeof r->said[n]);
    for (uint32_t uid = 0; uid < MODEL_UIDS; uid++)
        messages += r->present[n][uid];
    assert_int_equal(k.messages, messages);
    assert_int_equal(k.uidnext, r->uidnext[n]);
}

static void read_tails(struct reader *r, const struct sp_record *record, struct sp_arena *arena)
{
    struct sp_tails t;
    uint32_t mailboxes = 0;
    assert_int_equal(sp_tails_read(record->payload, arena, &t), SP_OK);
    assert_true(t.begins && t.ends);
    for (uint32_t i = 0; i < t.count; i++) {
        const struct sp_tail *tail = &t.list[i];
        assert_true(tail->mailbox < MAILBOX_MAX);
        assert_int_equal(tail->lsn, tail->mailbox ? r->tails[tail->mailbox] : r->account_tail);
        if (tail->mailbox)
            assert_int_equal(tail->uidnext, r->uidnext[tail->mailbox]);
        mailboxes += tail->mailbox != 0;
    }
    for (uint32_t n = 1; n < MAILBOX_MAX; n++)
        mailboxes -= r->tails[n] != 0;
    assert_int_equal(mailboxes, 0);
    r->statements++;
    r->tails_last = true;
}

static void read_record(struct reader *r, const struct sp_record *record, struct sp_arena *arena)
{
    struct sp_message m;
    struct sp_expunge e;
    uint32_t n = record->mailbox, ignored = 0;
    assert_true(n < MAILBOX_MAX);
    if (record->type == SP_RECORD_CATALOGUE)
        read_catalogue(r, record, arena);
    else if (record->type == SP_RECORD_TAILS)
        read_tails(r, record, arena);
    else if (record->type != SP_RECORD_MANIFEST)
        r->tails_last = false;
    if (record->type == SP_RECORD_MESSAGE) {
        assert_int_equal(sp_message_read(record->payload, arena, &m), SP_OK);
        r->present[n][m.uid] = true;
        r->uidnext[n] = m.uid + 1;
    } else if (record->type == SP_RECORD_EXPUNGE) {
        assert_int_equal(sp_expunge_read(record->payload, arena, &e), SP_OK);
        set(r->present[n], e.uids, false, &ignored);
    } else if (record->type == SP_RECORD_MAILBOX) {
        struct sp_mailbox_record box;
        assert_int_equal(sp_mailbox_record_read(record->payload, &box), SP_OK);
        r->uidnext[box.id] = 1;
    }
    if (n)
        r->tails[n] = record->lsn;
    else if (!sp_uuid_is_nil(&record->account))
        r->account_tail = record->lsn;
}

/* Reads the whole log of disk 0 in order. */
static void read_log(struct sp_sim_world *world, const struct sp_uuid *volume, struct reader *r)
{
    struct sp_unit *unit;
    struct sp_unit_segment *list;
    struct sp_error error;
    struct sp_arena arena;
    size_t count;
    memset(r, 0, sizeof *r);
    assert_int_equal(sp_sim_unit_open(world, 0, "a", &unit, &error), SP_OK);
    assert_int_equal(unit->ops->list(unit, &list, &count, &error), SP_OK);
    sp_arena_init(&arena, 16U << 20);
    for (size_t i = 0; i < count; i++) {
        struct sp_walker walker;
        struct sp_record record;
        struct sp_place place;
        struct sp_segment_id id = {*volume, list[i].segment, list[i].generation};
        void *blocks;
        assert_int_equal(
            posix_memalign(&blocks, SP_UNIT_BLOCK_BYTES, (size_t)list[i].blocks * 4096), 0);
        assert_int_equal(unit->ops->read(unit, list[i].segment, list[i].generation, 0, blocks,
                                         list[i].blocks, &error),
                         SP_OK);
        sp_walker_init(&walker, blocks, list[i].blocks, 0, &id);
        while (sp_walker_next(&walker, &record, &place)) {
            read_record(r, &record, &arena);
            sp_arena_release(&arena);
        }
        sp_walker_release(&walker);
        free(blocks);
    }
    sp_arena_release(&arena);
    free(list);
    unit->ops->close(unit);
}

/* What is due comes with a batch of its own when nobody waits. */
static void run(struct bench *b, struct step step)
{
    assert_int_equal(bench_run(b, step), SP_OK);
    while (sp_volume_run_once(b->volume))
        ;
}

/* Deliveries to all mailboxes, and an expunge after every third. */
static void some_mail(struct bench *b, uint32_t count, uint32_t body_bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        struct step step = {.type = STEP_DELIVER,
                            .mailbox = i % MODEL_MAILBOXES,
                            .seed = i + 1,
                            .body_bytes = body_bytes};
        run(b, step);
        struct model_mailbox *box = &b->model.mailboxes[step.mailbox];
        uint32_t victim = 1 + i * 7 % box->uid_highest;
        if (i % 3 == 2 && box->messages[victim].state == MODEL_PRESENT)
            run(b, (struct step){.type = STEP_EXPUNGE, .mailbox = step.mailbox, .uid = victim});
    }
}

/* One large segment: bases when it is closed, deltas after every few MiB before. */
static void test_catalogues_within_a_segment(void **state)
{
    (void)state;
    struct reader *r = calloc(1, sizeof *r);
    struct bench *b = bench_begin(64U << 20, 0);
    some_mail(b, 200, 100000);
    bench_stop(b);
    read_log(b->world, &b->id, r);
    assert_true(r->deltas >= 6 && r->delta_uids > 0 && r->gone_uids > 0);
    assert_true(r->bases >= MODEL_MAILBOXES);
    assert_true(r->statements == 1 && r->tails_last);
    free(r);
    bench_end(b);
}

/* Many small segments: bases at each, a statement of all tails every so many. */
static void test_tails_now_and_then(void **state)
{
    struct sp_error error;
    (void)state;
    struct reader *r = calloc(1, sizeof *r);
    struct bench *b = bench_begin(1U << 20, 0);
    some_mail(b, 400, 100000);
    bench_stop(b);
    read_log(b->world, &b->id, r);
    assert_true(r->bases > 60 && r->statements >= 3 && r->tails_last);
    /* And again after a start, which reads what it needs from the log. */
    assert_int_equal(bench_open(b, 0, false, &error), SP_OK);
    some_mail(b, 10, 1000);
    model_check(b->volume, &b->model, NULL, 0);
    bench_stop(b);
    read_log(b->world, &b->id, r);
    assert_true(r->tails_last);
    free(r);
    bench_end(b);
}

static int tests(void)
{
    const struct CMUnitTest list[] = {
        cmocka_unit_test(test_catalogues_within_a_segment),
        cmocka_unit_test(test_tails_now_and_then),
    };
    return cmocka_run_group_tests(list, NULL, NULL);
}

int main(void)
{
    return bench_main(tests);
}
