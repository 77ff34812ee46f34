/* The search file: rows, and that with it SORT and THREAD say what they say without. */
#include "mail/internal.h"
#include "mail/search.h"
#include "mail/search_worker.h"
#include "mail/test_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char search_path[160];

static int setup(void **state)
{
    if (world_setup(state) != 0)
        return -1;
    struct world *world = *state;
    snprintf(search_path, sizeof search_path, "%s-search", world->index_path);
    world->search_path = search_path;
    world_restart(world, false);
    return 0;
}

static int teardown(void **state)
{
    struct sp_error error;
    int rc = world_teardown(state);
    assert_int_equal(sp_search_file_destroy(search_path, &error), SP_OK);
    return rc;
}

static bool has_row(struct world *world, const char *mailbox, uint32_t uid)
{
    struct sp_mailbox_ref ref = open_mailbox(world, mailbox);
    struct sp_search_read read;
    struct sp_sort_entry entry;
    sp_search_read_begin(world->mail->search_file, &ref.account, ref.mailbox, ref.uidvalidity,
                         &read);
    bool found = sp_search_sort_get(&read, uid, &entry);
    sp_search_read_end(&read);
    return found;
}

static void catch_up(struct world *world)
{
    assert_non_null(world->mail->search_worker);
    assert_true(sp_search_worker_wait(world->mail->search_worker));
}

/* Answers of every kind, as text. With the file, or as if there were none. */
static void ask_all(struct world *world, bool with, struct sp_buf *ret)
{
    struct sp_search_file *file = world->mail->search_file;
    static struct sp_search_node all = {.op = SP_SEARCH_ALL};
    if (!with)
        world->mail->search_file = NULL;
    for (unsigned kind = 0; kind < 9; kind++) {
        struct sp_request *request = request_new(world, SP_REQ_SEARCH);
        request->mailbox = open_mailbox(world, "INBOX");
        request->search.nodes = &all;
        request->search.nodes_count = 1;
        if (kind < 7) {
            request->search.sort[0] = (uint8_t)kind;
            request->search.sort[1] = SP_SORT_ARRIVAL | SP_SORT_REVERSE;
            request->search.sort_count = 2;
        } else {
            request->search.thread = kind == 7 ? SP_THREAD_REFERENCES : SP_THREAD_ORDEREDSUBJECT;
        }
        struct sp_reply *reply = ask(world, request);
        assert_int_equal(reply->status, SP_OK);
        for (uint32_t i = 0; i < reply->uids_count; i++)
            sp_buf_addf(ret, "%u ", reply->uids[i]);
        for (uint32_t i = 0; i < reply->threads_count; i++)
            sp_buf_addf(ret, "%u:%u ", reply->threads[i].depth, reply->threads[i].uid);
        sp_buf_addf(ret, "\n");
        sp_reply_free(reply);
    }
    world->mail->search_file = file;
}

static void assert_same(struct world *world)
{
    struct sp_buf with, without;
    sp_buf_init(&with, 1U << 20);
    sp_buf_init(&without, 1U << 20);
    ask_all(world, true, &with);
    ask_all(world, false, &without);
    assert_int_equal(with.len, without.len);
    assert_memory_equal(with.ptr, without.ptr, with.len);
    sp_buf_release(&with);
    sp_buf_release(&without);
}

static const char *pick(unsigned *seed, const char *const *words, size_t count)
{
    *seed = *seed * 1103515245U + 12345U;
    return words[(*seed >> 16) % count];
}
#define PICK(seed, words) pick(seed, words, sizeof(words) / sizeof *(words))

static void add_random(struct world *world, unsigned *seed, unsigned number)
{
    static const char *const subjects[] = {"plan",
                                           "Re: plan",
                                           "Fwd: [list] plan",
                                           "=?utf-8?Q?=C3=84hre?=",
                                           "Re: =?utf-8?Q?=C3=84hre?=",
                                           "",
                                           "APPLE",
                                           "apple (fwd)",
                                           "a",
                                           "plan for the long winter of the next year"};
    static const char *const people[] = {
        "A <a@x>", "=?utf-8?Q?J=C3=BC?= <ju@x>", "b@y, c@z", "group: d@x;", "<>", "Z@A"};
    static const char *const dates[] = {"Tue, 5 Mar 2024 10:00:00 +0000",
                                        "Tue, 5 Mar 2024 10:00:00 -0300", "nonsense",
                                        "6 Mar 2023 01:00:00 +0100"};
    static const char *const ids[] = {
        "<1@x>", "<2@x>", "<3@x>", "< 4@x >", "<5@x> <6@x>", "<7@x>\r\n <1@x> <2@x>", "none", "<>"};
    char message[2048];
    int n =
        snprintf(message, sizeof message, "Subject: %s\r\nFrom: %s\r\nTo: %s\r\nCc: %s\r\n",
                 PICK(seed, subjects), PICK(seed, people), PICK(seed, people), PICK(seed, people));
    n += snprintf(message + n, sizeof message - (size_t)n, "Date: %s\r\n%s: %s\r\n",
                  PICK(seed, dates), number % 3 ? "References" : "In-Reply-To", PICK(seed, ids));
    snprintf(message + n, sizeof message - (size_t)n, "Message-ID: %s\r\n\r\nbody %.*s\r\n",
             PICK(seed, ids), (int)(number % 40), "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
    append(world, "INBOX", sp_slice_str(message), 0, NULL, (int64_t)(number * 7919 % 1000));
}

static void expunge(struct world *world, const char *mailbox, uint32_t first, uint32_t last)
{
    struct sp_request *request = on_mailbox(world, SP_REQ_STORE, mailbox, first, last);
    request->store.op = SP_STORE_ADD;
    request->store.flags.system = SP_FLAG_DELETED;
    free_ok(ask(world, request));
    free_ok(ask(world, on_mailbox(world, SP_REQ_EXPUNGE, mailbox, first, last)));
}

/* RFC 5256: the order is the messages', whether their keys were kept or not: before the worker has
 * come to them, half-way, after it, after a restart, and with the index made anew. */
static void test_same_answers(void **state)
{
    struct world *world = *state;
    unsigned seed = 4711;
    for (unsigned i = 0; i < 300; i++) {
        add_random(world, &seed, i);
        if (i % 75 == 0)
            assert_same(world);
    }
    catch_up(world);
    assert_true(has_row(world, "INBOX", 1));
    assert_true(has_row(world, "INBOX", 300));
    assert_false(has_row(world, "INBOX", 301));
    assert_same(world);
    expunge(world, "INBOX", 60, 140);
    assert_same(world);
    catch_up(world);
    assert_same(world);
    for (int rebuild = 0; rebuild < 2; rebuild++) {
        world_restart(world, rebuild);
        add_random(world, &seed, 301 + (unsigned)rebuild);
        assert_same(world);
        catch_up(world);
        assert_same(world);
    }
}

/* What is gone from the mailbox is gone from the file. */
static void test_forgets(void **state)
{
    struct world *world = *state;
    unsigned seed = 1;
    for (unsigned i = 0; i < 150; i++)
        add_random(world, &seed, i);
    catch_up(world);
    expunge(world, "INBOX", 10, 70);
    expunge(world, "INBOX", 150, 150);
    catch_up(world);
    for (uint32_t uid = 1; uid <= 150; uid++)
        assert_int_equal(has_row(world, "INBOX", uid), (uid < 10 || uid > 70) && uid < 150);
}

/* A message with keys too long for a row is there nevertheless. */
static void test_long_keys(void **state)
{
    struct world *world = *state;
    char message[4096];
    snprintf(message, sizeof message, "Subject: %0*d\r\n\r\nx\r\n", (int)SP_SORT_TEXT_MAX + 1, 7);
    append(world, "INBOX", sp_slice_str(message), 0, NULL, 0);
    append(world, "INBOX", SP_S("Subject: 00\r\n\r\nx\r\n"), 0, NULL, 0);
    catch_up(world);
    assert_false(has_row(world, "INBOX", 1));
    assert_true(has_row(world, "INBOX", 2));
    assert_same(world);
}

/* One that is no search file, or another volume's, is made anew. */
static void test_made_anew(void **state)
{
    struct world *world = *state;
    struct sp_search_file *file;
    struct sp_error error;
    struct sp_uuid other;
    unsigned seed = 2;
    char name[200];
    add_random(world, &seed, 0);
    catch_up(world);
    world->search_path = NULL;
    world_restart(world, false);

    sp_uuid_make(&other);
    assert_int_equal(sp_search_file_open(search_path, &other, 16U << 20, &file, &error), SP_OK);
    struct sp_mailbox_ref ref = open_mailbox(world, "INBOX");
    struct sp_search_read read;
    sp_search_read_begin(file, &ref.account, ref.mailbox, ref.uidvalidity, &read);
    assert_false(read.there);
    sp_search_read_end(&read);
    sp_search_file_close(file);

    snprintf(name, sizeof name, "%s/data.mdb", search_path);
    FILE *data = fopen(name, "w");
    for (int i = 0; i < 100000; i++)
        fputc('x', data);
    fclose(data);
    world->search_path = search_path;
    world_restart(world, false);
    catch_up(world);
    assert_true(has_row(world, "INBOX", 1));
    assert_same(world);
}

#define ON_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_WORLD(test_same_answers),
        ON_WORLD(test_forgets),
        ON_WORLD(test_long_keys),
        ON_WORLD(test_made_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
