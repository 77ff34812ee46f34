/* The parts of the server that need no server: addresses, timers, peers, watches, workers. */
#include "net/address.h"
#include "net/peers.h"
#include "net/thread.h"
#include "net/watch.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include <setjmp.h>
#include <cmocka.h>

/* ---- addresses ---- */

static void test_address_parse(void **state)
{
    static const struct {
        const char *text;
        enum sp_status status;
        const char *literal;
        uint16_t port;
        bool any, loopback;
    } rows[] = {
        {"127.0.0.1:2525", SP_OK, "127.0.0.1", 2525, false, true},
        {"127.9.9.9:1", SP_OK, "127.9.9.9", 1, false, true},
        {"192.0.2.1:0", SP_OK, "192.0.2.1", 0, false, false},
        {"[::1]:25", SP_OK, "IPv6:::1", 25, false, true},
        {"[2001:db8::1]:65535", SP_OK, "IPv6:2001:db8::1", 65535, false, false},
        {"[::ffff:192.0.2.7]:25", SP_OK, "192.0.2.7", 25, false, false},
        {"[::]:25", SP_OK, "IPv6:::", 25, false, false},
        {":25", SP_OK, "IPv6:::", 25, true, false},
        {"", SP_INVALID, NULL, 0, false, false},
        {"25", SP_INVALID, NULL, 0, false, false},
        {"127.0.0.1", SP_INVALID, NULL, 0, false, false},
        {"127.0.0.1:", SP_INVALID, NULL, 0, false, false},
        {"127.0.0.1:65536", SP_INVALID, NULL, 0, false, false},
        {"127.0.0.1:-1", SP_INVALID, NULL, 0, false, false},
        {"127.0.0.1:25x", SP_INVALID, NULL, 0, false, false},
        {"[::1:25", SP_INVALID, NULL, 0, false, false},
        {"::1:25", SP_INVALID, NULL, 0, false, false},
        {"[]:25", SP_INVALID, NULL, 0, false, false},
        {"[127.0.0.1]:25", SP_INVALID, NULL, 0, false, false},
        {"localhost:25", SP_INVALID, NULL, 0, false, false},
        {"[2001:0db8:0000:0000:0000:0000:0000:0001:0000:0000:0001]:25", SP_INVALID, NULL, 0, false,
         false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sp_address address = {0};
        bool any = false;
        enum sp_status status = sp_address_parse(rows[i].text, &address, &any);
        if (status != rows[i].status)
            fail_msg("%s: %s", rows[i].text, sp_status_name(status));
        if (status)
            continue;
        char literal[SP_ADDRESS_TEXT];
        sp_address_literal(&address, literal);
        assert_string_equal(literal, rows[i].literal);
        assert_int_equal(address.port, rows[i].port);
        assert_int_equal(any, rows[i].any);
        assert_int_equal(sp_address_is_loopback(&address), rows[i].loopback);
        struct sockaddr_storage sockaddr;
        assert_true(sp_address_to(&address, &sockaddr) > 0);
        struct sp_address again = sp_address_from(&sockaddr);
        assert_memory_equal(again.ip, address.ip, 16);
        assert_int_equal(again.port, address.port);
    }
}

/* ---- timers ---- */

#define TIMERS 500

static void test_timers(void **state)
{
    (void)state;
    static struct sp_timer timers[TIMERS];
    uint64_t now = 0;
    struct sp_timers heap;
    sp_timers_init(&heap);
    srand(11);
    for (int i = 0; i < TIMERS; i++)
        assert_true(sp_timers_reserve(&heap));
    assert_true(sp_timers_next(&heap) == SP_TIMER_NEVER);
    assert_null(sp_timers_pop(&heap, UINT64_MAX - 1));
    for (int round = 0; round < 20000; round++) {
        struct sp_timer *timer = &timers[rand() % TIMERS];
        sp_timers_set(&heap, timer,
                      rand() % 4 ? now + 1 + (uint64_t)(rand() % 1000) : SP_TIMER_NEVER);
        assert_int_equal(timer->place != 0, timer->at_ms != SP_TIMER_NEVER);
        if (rand() % 8)
            continue;
        now += (uint64_t)(rand() % 50);
        uint64_t before = 0;
        for (struct sp_timer *due; (due = sp_timers_pop(&heap, now));)
            assert_int_equal(due->place, 0);
        for (int i = 0; i < TIMERS; i++) {
            assert_true(!timers[i].place || timers[i].at_ms > now);
            before += timers[i].place != 0;
        }
        assert_int_equal(before, heap.count);
    }
    uint64_t last = 0;
    while (heap.count) {
        uint64_t next = sp_timers_next(&heap);
        assert_true(next >= last);
        last = next;
        assert_non_null(sp_timers_pop(&heap, next));
    }
    for (int i = 0; i < TIMERS; i++)
        sp_timers_unreserve(&heap, &timers[i]);
    assert_int_equal(heap.reserved, 0);
    sp_timers_release(&heap);
}

/* ---- peers ---- */

static struct sp_address address_of(const char *text)
{
    struct sp_address address;
    bool any;
    assert_int_equal(sp_address_parse(text, &address, &any), SP_OK);
    return address;
}

static void test_peers(void **state)
{
    (void)state;
    struct sp_peers peers = {0};
    sp_peers_release(&peers);
    assert_int_equal(sp_peers_init(&peers, 6, 2, true, NULL), SP_OK);
    struct sp_address a = address_of("192.0.2.1:1"), b = address_of("192.0.2.2:1");
    struct sp_address c = address_of("[2001:db8:1:2::1]:1"),
                      d = address_of("[2001:db8:1:2:3::9]:7");
    struct sp_address e = address_of("[2001:db8:1:3::1]:1"), local = address_of("127.0.0.1:9");
    assert_null(sp_peers_enter(&peers, &a));
    assert_null(sp_peers_enter(&peers, &a));
    assert_string_equal(sp_peers_enter(&peers, &a), "too many connections of this peer");
    assert_null(sp_peers_enter(&peers, &b));
    sp_peers_leave(&peers, &a);
    assert_null(sp_peers_enter(&peers, &a));
    sp_peers_leave(&peers, &a);
    sp_peers_leave(&peers, &a);
    sp_peers_leave(&peers, &b);
    /* one /64 is one peer */
    assert_null(sp_peers_enter(&peers, &c));
    assert_null(sp_peers_enter(&peers, &d));
    assert_non_null(sp_peers_enter(&peers, &c));
    assert_null(sp_peers_enter(&peers, &e));
    /* loopback counts only in all */
    for (int i = 0; i < 3; i++)
        assert_null(sp_peers_enter(&peers, &local));
    assert_string_equal(sp_peers_enter(&peers, &local), "too many connections");
    assert_int_equal(peers.refused, 3);
    for (int i = 0; i < 3; i++)
        sp_peers_leave(&peers, &local);
    sp_peers_leave(&peers, &c);
    sp_peers_leave(&peers, &d);
    sp_peers_leave(&peers, &e);
    sp_peers_release(&peers);
}

/* ---- workers ---- */

struct load {
    struct sp_task task;
    _Atomic int *ran;
    _Atomic bool *gate;
};

static void run_load(struct sp_task *task)
{
    struct load *load = sp_owner(task, struct load, task);
    while (load->gate && !atomic_load(load->gate))
        usleep(500);
    atomic_fetch_add(load->ran, 1);
}

static void test_workers(void **state)
{
    (void)state;
    static struct load loads[1000];
    _Atomic int ran = 0;
    _Atomic bool gate = false;
    struct sp_workers *workers;
    assert_int_equal(sp_workers_start(3, 10, &workers, NULL), SP_OK);
    /* three are taken by threads, ten wait, the next is refused */
    for (int i = 0; i < 3; i++) {
        loads[i] = (struct load){.task.run = run_load, .ran = &ran, .gate = &gate};
        assert_true(sp_workers_submit(workers, &loads[i].task));
    }
    while (sp_workers_waiting(workers))
        usleep(500);
    for (int i = 3; i < 13; i++) {
        loads[i] = (struct load){.task.run = run_load, .ran = &ran};
        assert_true(sp_workers_submit(workers, &loads[i].task));
    }
    loads[13] = (struct load){.task.run = run_load, .ran = &ran};
    assert_false(sp_workers_submit(workers, &loads[13].task));
    assert_true(sp_workers_crowded(workers));
    atomic_store(&gate, true);
    int refused = 0;
    for (int i = 13; i < 1000; i++) {
        loads[i] = (struct load){.task.run = run_load, .ran = &ran};
        for (; !sp_workers_submit(workers, &loads[i].task); refused++)
            usleep(50);
    }
    sp_workers_stop(workers); /* runs what is queued */
    assert_int_equal(atomic_load(&ran), 1000);
    sp_workers_stop(NULL);
}

struct long_load {
    struct sp_long_task work;
    _Atomic int *running, *most, *ran;
    _Atomic int *of_account;
};

static void run_long_load(struct sp_task *task)
{
    struct long_load *load = sp_owner(task, struct long_load, work.task);
    int now = atomic_fetch_add(load->running, 1) + 1, most = atomic_load(load->most);
    while (now > most && !atomic_compare_exchange_weak(load->most, &most, now))
        continue;
    assert_int_equal(atomic_fetch_add(load->of_account, 1), 0);
    usleep(200);
    atomic_fetch_sub(load->of_account, 1);
    atomic_fetch_sub(load->running, 1);
    atomic_fetch_add(load->ran, 1);
}

static void test_long_tasks(void **state)
{
    (void)state;
    static struct long_load longs[301];
    static struct load loads[100];
    _Atomic int running = 0, most = 0, ran = 0, of_account[3] = {0};
    struct sp_workers *workers;
    assert_int_equal(sp_workers_start(5, 600, &workers, NULL), SP_OK);
    for (int i = 0; i < 300; i++) {
        /* The first hundred are of one account: the others do not wait for them. */
        int account = i < 100 ? 0 : i % 3;
        longs[i] = (struct long_load){.work = {{.run = run_long_load}, {{(uint8_t)account}}},
                                      .running = &running,
                                      .most = &most,
                                      .ran = &ran,
                                      .of_account = &of_account[account]};
        assert_true(sp_workers_submit_long(workers, &longs[i].work));
        if (i < 100) {
            loads[i] = (struct load){.task.run = run_load, .ran = &ran};
            assert_true(sp_workers_submit(workers, &loads[i].task));
        }
    }
    sp_workers_stop(workers); /* runs what is queued */
    assert_int_equal(atomic_load(&ran), 400);
    assert_int_equal(atomic_load(&most), 2);

    /* Half of the queue is for them, and one thread takes them too. */
    _Atomic bool gate = false;
    ran = 0;
    assert_int_equal(sp_workers_start(1, 4, &workers, NULL), SP_OK);
    loads[0] = (struct load){.task.run = run_load, .ran = &ran, .gate = &gate};
    assert_true(sp_workers_submit(workers, &loads[0].task));
    for (int i = 0; i < 3; i++)
        assert_true(sp_workers_submit_long(workers, &longs[i].work));
    assert_false(sp_workers_submit_long(workers, &longs[3].work));
    assert_false(sp_workers_crowded(workers));
    atomic_store(&gate, true);
    sp_workers_stop(workers);
    assert_int_equal(atomic_load(&ran), 4);
}

/* ---- watches, on a loop driven by hand ---- */

static int told;

static void tell(struct sp_watcher *watcher)
{
    assert_non_null(watcher->entry);
    told++;
}

/* As a turn of the loop does, without sockets. */
static int turn(struct sp_loop *loop)
{
    told = 0;
    pthread_mutex_lock(&loop->lock);
    struct sp_task_list inbox = loop->inbox;
    loop->inbox.first = NULL;
    pthread_mutex_unlock(&loop->lock);
    for (struct sp_task *task; (task = sp_task_pop(&inbox));)
        task->run(task);
    for (struct sp_timer *timer; (timer = sp_timers_pop(&loop->timers, loop->now_ms));)
        timer->fire(timer);
    loop->now_ms++;
    return told;
}

static struct sp_watch watch_of(uint32_t mailbox)
{
    return (struct sp_watch){.active = true, .account.bytes = {1}, .mailbox = mailbox};
}

#define WATCHERS 300

static void test_watches(void **state)
{
    (void)state;
    static struct sp_watcher watchers[WATCHERS];
    struct sp_loop loop;
    struct sp_watches watches;
    struct sp_workers *workers;
    struct sp_watch none = {0}, one = watch_of(1), two = watch_of(2);
    assert_int_equal(sp_workers_start(1, 10, &workers, NULL), SP_OK);
    assert_int_equal(sp_loop_init(&loop, NULL), SP_OK);
    assert_int_equal(sp_watches_init(&watches, &loop, workers, tell, NULL), SP_OK);

    sp_watches_post(&watches, &one.account, 1);
    assert_null(loop.inbox.first); /* nobody watches */
    sp_watches_set(&watches, &watchers[0], &none);
    sp_watches_set(&watches, &watchers[0], &one);
    assert_int_equal(turn(&loop), 1); /* the first time, unasked */
    assert_int_equal(turn(&loop), 0);
    sp_watches_set(&watches, &watchers[0], &one);
    assert_int_equal(turn(&loop), 0); /* no change */

    /* posted often, told once; others are not told */
    sp_watches_set(&watches, &watchers[1], &two);
    assert_int_equal(turn(&loop), 1);
    for (int i = 0; i < 5; i++)
        sp_watches_post(&watches, &one.account, 1);
    sp_watches_post(&watches, &one.account, 3);
    assert_int_equal(turn(&loop), 1);
    assert_int_equal(turn(&loop), 0);

    /* both marked, one leaves before the loop gets there, the other moves: told of the new one only
     */
    sp_watches_post(&watches, &one.account, 1);
    sp_watches_post(&watches, &two.account, 2);
    sp_watches_set(&watches, &watchers[0], &none);
    sp_watches_set(&watches, &watchers[1], &one);
    assert_int_equal(turn(&loop), 1);
    assert_int_equal(turn(&loop), 0);
    /* told already when it leaves */
    sp_watches_post(&watches, &one.account, 1);
    watches.task.run(&watches.task);
    sp_watches_set(&watches, &watchers[1], &none);
    assert_int_equal(turn(&loop), 0);

    /* many of one mailbox: a few in each turn */
    for (int i = 0; i < WATCHERS; i++)
        sp_watches_set(&watches, &watchers[i], &one);
    int most = 0, sum = 0;
    for (int i = 0; i < 50; i++) {
        int n = turn(&loop);
        most = n > most ? n : most;
        sum += n;
    }
    assert_int_equal(sum, WATCHERS);
    assert_true(most < WATCHERS);

    /* many mailboxes: the table grows */
    for (uint32_t i = 0; i < WATCHERS; i++) {
        struct sp_watch own = watch_of(1000 + i);
        sp_watches_set(&watches, &watchers[i], &own);
    }
    for (int i = 0; i < 50; i++)
        turn(&loop);
    for (uint32_t i = 0; i < WATCHERS; i += 3)
        sp_watches_post(&watches, &one.account, 1000 + i);
    for (sum = 0, most = 0; most < 50; most++)
        sum += turn(&loop);
    assert_int_equal(sum, WATCHERS / 3);
    for (int i = 0; i < WATCHERS; i++)
        sp_watches_set(&watches, &watchers[i], &none);
    assert_int_equal(watches.entries_count, 0);

    sp_watches_release(&watches);
    sp_loop_release(&loop);
    sp_workers_stop(workers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address_parse), cmocka_unit_test(test_timers),
        cmocka_unit_test(test_peers),         cmocka_unit_test(test_workers),
        cmocka_unit_test(test_long_tasks),    cmocka_unit_test(test_watches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
