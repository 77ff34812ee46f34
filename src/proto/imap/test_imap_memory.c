/* What a session holds when idle; and a whole conversation for each allocation in it, with that one
 * failing: nothing is leaked, no command is answered twice, no message said to be stored that is
 * not. */
#include "proto/imap/fake_mail.h"
#include "proto/imap/imap.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#define ALLOCATIONS_MAX 2000U

/* ---- The heap (the linker wraps it: see meson.build) ---- */

static bool counting; /* in the session, not in the test or the fake store */
static unsigned allocations, failing;
static size_t live_bytes;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);

static bool fails(void)
{
    return counting && allocations++ == failing;
}

static void *live(void *memory)
{
    live_bytes += memory ? malloc_usable_size(memory) : 0;
    return memory;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : live(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : live(__real_calloc(count, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
    if (fails())
        return NULL;
    live_bytes -= memory ? malloc_usable_size(memory) : 0;
    return live(__real_realloc(memory, size));
}

void __wrap_free(void *memory)
{
    live_bytes -= memory ? malloc_usable_size(memory) : 0;
    __real_free(memory);
}

/* ---- The driver ---- */

static uint64_t wall_ns(void)
{
    return 1764000000000000000U;
}

static const struct sp_session_env env = {.hostname = "mx.example.org",
                                          .software = "Sternpost 0.1",
                                          .tls_available = true,
                                          .message_bytes_max = 600000,
                                          .wall_ns = wall_ns};
static const struct sp_session_peer peer = {.id = 1, .address = "127.0.0.1", .cleartext_ok = true};

/* Goes on until the session wants nothing but input; what it says is added to said. */
static void drive(void *session, struct sp_fake_mail *mail, struct sp_buf *said)
{
    for (bool moved = true; moved;) {
        moved = false;
        counting = true;
        struct sp_request *request = sp_imap_ops.next(session);
        counting = false;
        if (request) {
            struct sp_reply *reply = sp_fake_mail_answer(mail, request);
            sp_request_free(request);
            counting = true;
            sp_imap_ops.complete(session, reply, 0);
            counting = false;
            sp_reply_free(reply);
            moved = true;
        }
        struct sp_slice out = sp_imap_ops.send_buf(session);
        if (out.len) {
            sp_buf_add(said, out);
            counting = true;
            sp_imap_ops.send_ack(session, out.len, 0);
            counting = false;
            moved = true;
        }
    }
}

static void say(void *session, struct sp_fake_mail *mail, struct sp_slice text, struct sp_buf *said)
{
    while (text.len && !(sp_imap_ops.want(session) & SP_WANT_CLOSE)) {
        counting = true;
        struct sp_slice_mut room = sp_imap_ops.recv_buf(session);
        size_t n = text.len < room.len ? text.len : room.len;
        if (n) {
            memcpy(room.ptr, text.ptr, n);
            sp_imap_ops.recv_ack(session, n, 0);
        }
        counting = false;
        text = sp_slice_from(text, n);
        drive(session, mail, said);
    }
}

/* ---- Tests ---- */

static void test_idle(void **state)
{
    static const char commands[] =
        "a LOGIN alice@example.org secret\r\nb SELECT INBOX\r\nc FETCH 1:* FULL\r\n"
        "d NOOP\r\ne IDLE\r\n";
    struct sp_fake_mail mail;
    struct sp_buf said;
    size_t held = 0;
    failing = UINT32_MAX;
    sp_fake_mail_init(&mail);
    sp_fake_mail_reset(&mail);
    sp_buf_init(&said, 1U << 20);
    assert_true(sp_buf_reserve(&said, 100000));
    /* The first session makes the fake store parse its messages. */
    for (int round = 0; round < 2; round++) {
        size_t before = live_bytes;
        void *session = sp_imap_new(&env, &peer, 0);
        sp_buf_reset(&said);
        drive(session, &mail, &said);
        say(session, &mail, sp_slice(commands, sizeof commands - 9), &said);
        size_t selected = live_bytes - before;
        say(session, &mail, sp_slice(commands + sizeof commands - 9, 8), &said);
        held = live_bytes - before;
        if (round == 1) {
            print_message("idle: %zu bytes, in IDLE: %zu bytes\n", selected, held);
            assert_true(selected < 4096 && held < 4096);
        }
        sp_imap_ops.free(session);
    }
    sp_buf_release(&said);
    sp_fake_mail_release(&mail);
}

/* Of a client in IDLE that does not read: news stops coming to it, and comes when it reads again.
 */
static void test_idle_unread(void **state)
{
    static const char commands[] =
        "a LOGIN alice@example.org secret\r\nb SELECT INBOX\r\ne IDLE\r\n";
    struct sp_fake_mail mail;
    struct sp_buf said;
    failing = UINT32_MAX;
    sp_fake_mail_init(&mail);
    sp_fake_mail_reset(&mail);
    sp_buf_init(&said, 4U << 20);
    void *session = sp_imap_new(&env, &peer, 0);
    drive(session, &mail, &said);
    say(session, &mail, SP_S(commands), &said);
    for (unsigned i = 0; i < 10000; i++) {
        sp_fake_set_flags(&mail, sp_fake_mailbox(&mail, "INBOX"), 4, i % 2 ? 0 : SP_FLAG_DRAFT);
        sp_imap_ops.notify(session, 0);
        for (struct sp_request *request; (request = sp_imap_ops.next(session));) {
            struct sp_reply *reply = sp_fake_mail_answer(&mail, request);
            sp_request_free(request);
            sp_imap_ops.complete(session, reply, 0);
            sp_reply_free(reply);
        }
        assert_true(sp_imap_ops.send_buf(session).len < 2 * SP_IMAP_OUT_LOW);
    }
    sp_fake_set_flags(&mail, sp_fake_mailbox(&mail, "INBOX"), 4, SP_FLAG_ANSWERED);
    sp_imap_ops.notify(session, 0);
    sp_buf_reset(&said);
    drive(session, &mail, &said);
    struct sp_slice last = SP_S("* 2 FETCH (FLAGS (\\Answered))\r\n");
    assert_true(said.len > SP_IMAP_OUT_LOW);
    assert_true(sp_slice_eq(sp_slice_from(sp_buf_slice(&said), said.len - last.len), last));
    say(session, &mail, SP_S("DONE\r\n"), &said);
    last = SP_S("e OK IDLE completed\r\n");
    assert_true(sp_slice_eq(sp_slice_from(sp_buf_slice(&said), said.len - last.len), last));
    sp_imap_ops.free(session);
    sp_buf_release(&said);
    sp_fake_mail_release(&mail);
}

static unsigned count(struct sp_slice text, struct sp_slice what)
{
    unsigned n = 0;
    for (size_t at = 0; at + what.len <= text.len; at++)
        n += memcmp(text.ptr + at, what.ptr, what.len) == 0;
    return n;
}

/* LIST of very many levels: what each mailbox is below of is not kept once for each. */
static void test_deep_list(void **state)
{
    static const char commands[] = "a LOGIN alice@example.org secret\r\nb LIST \"\" %\r\n";
    struct sp_fake_mail mail;
    struct sp_buf said;
    failing = UINT32_MAX;
    sp_fake_mail_init(&mail);
    sp_fake_mail_reset(&mail);
    sp_buf_init(&said, 1U << 20);
    for (uint8_t name = 'x'; name <= 'z'; name++) {
        uint8_t path[SP_MAILBOX_NAME_MAX];
        for (size_t len = 0; len + 2 < sizeof path; len += 2) {
            path[len] = name;
            path[len + 1] = '/';
            sp_fake_add_mailbox(&mail, sp_slice(path, len + 1));
        }
    }
    void *session = sp_imap_new(&env, &peer, 0);
    drive(session, &mail, &said);
    say(session, &mail, SP_S(commands), &said);
    assert_int_equal(count(sp_buf_slice(&said), SP_S("* LIST (\\HasChildren) \"/\" \"z\"\r\n")), 1);
    assert_int_equal(count(sp_buf_slice(&said), SP_S("b OK LIST completed\r\n")), 1);
    sp_imap_ops.free(session);
    sp_buf_release(&said);
    sp_fake_mail_release(&mail);
}

/* Each allocation fails once: every command is answered once at most, and nothing leaks. */
static void fail_each(const char *commands, int large_messages)
{
    static uint8_t large[SP_SECTION_PIECE_MAX + 10];
    struct sp_fake_mail mail;
    struct sp_buf said;
    bool done = false;
    memset(large, '\n', sizeof large);
    sp_fake_mail_init(&mail);
    sp_buf_init(&said, 1U << 20);
    for (failing = 0; failing < ALLOCATIONS_MAX && !done; failing++) {
        sp_fake_mail_reset(&mail);
        for (int i = 0; i < large_messages; i++) /* with literals that come in pieces */
            sp_fake_add_message(&mail, sp_fake_mailbox(&mail, "INBOX"),
                                sp_slice(large, sizeof large), 0, (struct sp_date){0});
        sp_buf_reset(&said);
        allocations = 0;
        counting = true;
        void *session = sp_imap_new(&env, &peer, 0);
        counting = false;
        if (!session)
            continue;
        drive(session, &mail, &said);
        say(session, &mail, sp_slice_str(commands), &said);
        for (uint8_t series = 't'; series <= 'v'; series++) {
            for (uint8_t number = '1'; number <= '9'; number++) {
                uint8_t tag[] = {'\n', series, number, ' '};
                assert_true(count(sp_buf_slice(&said), sp_slice(tag, sizeof tag)) <= 1);
            }
        }
        done = allocations <= failing;
        if (done)
            assert_int_equal(count(sp_buf_slice(&said), SP_S(" NO [")), 0);
        sp_imap_ops.free(session);
    }
    assert_true(done);
    sp_buf_release(&said);
    sp_fake_mail_release(&mail);
}

static void test_each_failure(void **state)
{
    static const char commands[] =
        "t1 LOGIN alice@example.org secret\r\nt2 SELECT INBOX\r\n"
        "t3 FETCH 1:* (FULL BODY[HEADER.FIELDS (Subject)] BODY[TEXT] BODYSTRUCTURE)\r\n"
        "t4 STORE 1:2 +FLAGS ($New \\Deleted)\r\nt5 UID STORE 7 (UNCHANGEDSINCE 1) FLAGS.SILENT "
        "(\\Seen)\r\n"
        "t6 SEARCH RETURN (ALL) OR 1 SUBJECT \"a\\\"\"\r\nt7 UID SORT (DATE) UTF-8 ALL\r\n"
        "t8 THREAD REFERENCES UTF-8 1:2\r\nt9 COPY 1:2 Work\r\nu1 APPEND INBOX ($Other) "
        "{5+}\r\nhello\r\n"
        "u2 APPEND INBOX {3+}\r\nabc (\\Seen) {2+}\r\nxy\r\nu3 EXPUNGE\r\nu4 MOVE 1 Work\r\n"
        "u5 LIST \"\" (* %) RETURN (STATUS (MESSAGES))\r\nu6 LSUB \"\" *\r\nu7 STATUS Work "
        "(MESSAGES)\r\n"
        "u8 CREATE New (USE (\\Sent))\r\nu9 NOOP\r\nv3 FETCH 1:* BODY.PEEK[]\r\nv1 CLOSE\r\nv2 "
        "LOGOUT\r\n";
    fail_each(commands, 6);
}

static void test_each_failure_of_extensions(void **state)
{
    static const char commands[] =
        "t1 LOGIN alice@example.org secret\r\nt2 ENABLE QRESYNC UTF8=ACCEPT\r\n"
        "t3 SELECT INBOX (QRESYNC (1001 1 1:9 (1:2 3:4)))\r\nt4 SEARCH RETURN (SAVE) ALL\r\n"
        "t5 UID SORT RETURN (MIN MAX PARTIAL -1:-2) (DATE) UTF-8 MODSEQ 1\r\n"
        "t6 UID FETCH $ (FLAGS) (CHANGEDSINCE 1 VANISHED PARTIAL 1:2)\r\n"
        "t7 UID STORE 3 +FLAGS (\\Deleted)\r\nt8 UID EXPUNGE $\r\n"
        "t9 APPEND INBOX UTF8 (~{5+}\r\nhello)\r\nu1 SEARCH RETURN (ALL COUNT) $\r\n"
        "u2 ENABLE UIDONLY IMAP4rev2\r\nu3 UID FETCH 1:* (UID BODY[TEXT])\r\n"
        "u4 CREATE \"\xc3\xa9\"\r\nu5 LIST \"\" * RETURN (STATUS (DELETED))\r\n"
        "u6 UID SEARCH ALL\r\nu7 UID MOVE 4 Work\r\nu8 CLOSE\r\nu9 LOGOUT\r\n";
    fail_each(commands, 0);
}

/* What SEARCH saves is bounded, and small where it is in few pieces. */
static void test_saved(void **state)
{
    struct sp_fake_mail mail;
    struct sp_buf said;
    failing = UINT32_MAX;
    sp_fake_mail_init(&mail);
    sp_fake_mail_reset(&mail);
    struct sp_fake_mailbox *inbox = sp_fake_mailbox(&mail, "INBOX");
    for (uint32_t i = 0; i < SP_IMAP_SAVED_MAX + 1000; i++) {
        inbox->uidnext = 101 + 2 * i;
        sp_fake_add_message(&mail, inbox, SP_S("\r\n"), 0, (struct sp_date){0});
    }
    sp_buf_init(&said, 4U << 20);
    void *session = sp_imap_new(&env, &peer, 0);
    drive(session, &mail, &said);
    say(session, &mail, SP_S("a LOGIN alice@example.org secret\r\nb SELECT INBOX\r\n"), &said);
    say(session, &mail, SP_S("x SEARCH ALL\r\n"), &said); /* the fake store parses its messages */
    size_t before = live_bytes;
    say(session, &mail, SP_S("c SEARCH RETURN (SAVE) UID 101:9099\r\n"), &said);
    size_t saved = live_bytes - before;
    print_message("saved: %zu bytes\n", saved);
    assert_true(saved >= 4500 * sizeof(struct sp_uid_range) && saved < 40000);
    say(session, &mail, SP_S("d SEARCH RETURN (SAVE) ALL\r\n"), &said);
    assert_int_equal(count(sp_buf_slice(&said), SP_S("\nd NO [NOTSAVED] ")), 1);
    assert_true(live_bytes <= before);
    say(session, &mail, SP_S("e SEARCH RETURN (SAVE) 1:3\r\nf UID FETCH $ UID\r\n"), &said);
    assert_true(live_bytes < before + 256);
    assert_int_equal(count(sp_buf_slice(&said), SP_S(" FETCH (UID ")), 3);
    sp_imap_ops.free(session);
    sp_buf_release(&said);
    sp_fake_mail_release(&mail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle),         cmocka_unit_test(test_idle_unread),
        cmocka_unit_test(test_deep_list),    cmocka_unit_test(test_saved),
        cmocka_unit_test(test_each_failure), cmocka_unit_test(test_each_failure_of_extensions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
