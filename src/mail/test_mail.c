/* Requests on a whole volume: mailboxes, messages, delivery, passwords. */
#include "mail/import.h"
#include "mail/internal.h"
#include "mail/test_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

static const char hello[] = "From: Bob <bob@example.net>\r\n"
                            "To: alice@example.org\r\n"
                            "Subject: Hello\r\n"
                            "Date: Tue, 5 Mar 2024 10:00:00 +0100\r\n"
                            "Message-ID: <1@example.net>\r\n"
                            "\r\n"
                            "How are you?\r\n";
#define HELLO sp_slice(hello, sizeof hello - 1)

/* ---- Accounts and passwords ---- */

static enum sp_status login(struct world *world, const char *user, const char *password)
{
    struct sp_request *request = request_new(world, SP_REQ_AUTHENTICATE);
    request->authenticate.user = text(request, user);
    request->authenticate.password = text(request, password);
    struct sp_reply *reply = ask(world, request);
    enum sp_status status = reply->status;
    if (status == SP_OK)
        assert_true(sp_uuid_eq(&reply->account, &world->alice));
    else
        assert_true(sp_uuid_is_nil(&reply->account));
    sp_reply_free(reply);
    return status;
}

static void test_authenticate(void **state)
{
    struct world *world = *state;
    struct sp_error error;
    assert_int_equal(login(world, ALICE, PASSWORD), SP_OK);
    assert_int_equal(login(world, "ALICE@example.ORG", PASSWORD), SP_OK); /* remembered */
    assert_int_equal(login(world, ALICE, "wrong"), SP_DENIED);
    assert_int_equal(login(world, ALICE, ""), SP_DENIED);
    assert_int_equal(login(world, "nobody@example.org", PASSWORD), SP_DENIED);
    assert_int_equal(login(world, "", PASSWORD), SP_DENIED);
    assert_int_equal(sp_account_set_password(world->volume, SP_S(ALICE), SP_S("another"), &error),
                     SP_OK);
    assert_int_equal(login(world, ALICE, PASSWORD), SP_DENIED);
    assert_int_equal(login(world, ALICE, "another"), SP_OK);
    world_restart(world, true);
    assert_int_equal(login(world, ALICE, "another"), SP_OK);
}

/* However its letters are composed; and what cannot be prepared is taken as it is. */
static void test_passwords_are_prepared(void **state)
{
    static const struct {
        const char *set, *given;
        bool same;
    } cases[] = {
        {"\xc3\xa4", "a\xcc\x88", true}, /* NFKC */
        {"a\xcc\x88", "\xc3\xa4", true},
        {"I\xc2\xadX", "IX", true}, /* RFC 4013 3: mapped to nothing */
        {"\xe2\x85\xa8", "IX", true},
        {"a\xc2\xa0"
         "b",
         "a b", true}, /* a blank is a blank */
        {"user", "USER", false},
        {"\x07", "\x07", true},                 /* prohibited */
        {"\xc3\xa4\xff", "\xc3\xa4\xff", true}, /* no UTF-8 */
        {"\xc3\xa4\xff", "a\xcc\x88\xff", false},
        {"\xf0\x9f\x90\x8e", "\xf0\x9f\x90\x8e", true}, /* unassigned in Unicode 3.2 */
        {"\xc2\xad", "\xc2\xad", true},                 /* nothing would be left */
    };
    struct world *world = *state;
    struct sp_error error;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(
            sp_account_set_password(world->volume, SP_S(ALICE), sp_slice_str(cases[i].set), &error),
            SP_OK);
        if (login(world, ALICE, cases[i].given) != (cases[i].same ? SP_OK : SP_DENIED))
            fail_msg("case %zu", i);
    }
}

/* ---- More logins than can wait ---- */

struct logins {
    struct world *world;
    uint32_t right, refused;
};

static void login_done(void *context, struct sp_request *request, struct sp_reply *reply)
{
    struct logins *logins = context;
    pthread_mutex_lock(&logins->world->lock);
    logins->right += reply->status == SP_OK;
    logins->refused += reply->status == SP_UNAVAILABLE;
    pthread_cond_broadcast(&logins->world->answered);
    pthread_mutex_unlock(&logins->world->lock);
    sp_request_free(request);
    sp_reply_free(reply);
}

static void test_login_queue(void **state)
{
    struct world *world = *state;
    struct logins logins = {.world = world};
    for (int i = 0; i < 8; i++) {
        struct sp_request *request = request_new(world, SP_REQ_AUTHENTICATE);
        request->authenticate.user = text(request, ALICE);
        request->authenticate.password = text(request, PASSWORD);
        sp_mail_execute(world->mail, request, login_done, &logins);
    }
    pthread_mutex_lock(&world->lock);
    while (logins.right + logins.refused < 8)
        pthread_cond_wait(&world->answered, &world->lock);
    pthread_mutex_unlock(&world->lock);
    assert_true(logins.right >= 2);
    assert_true(logins.refused >= 1);
}

/* Who guesses does not lock out others. */
static void test_login_share(void **state)
{
    struct world *world = *state;
    struct logins greedy = {.world = world}, other = {.world = world};
    for (int i = 0; i < 9; i++) {
        struct sp_request *request = request_new(world, SP_REQ_AUTHENTICATE);
        request->authenticate.user = text(request, ALICE);
        request->authenticate.password = text(request, PASSWORD);
        request->peer[15] = i < 8 ? 1 : 2;
        sp_mail_execute(world->mail, request, login_done, i < 8 ? &greedy : &other);
    }
    pthread_mutex_lock(&world->lock);
    while (greedy.right + greedy.refused < 8 || other.right + other.refused < 1)
        pthread_cond_wait(&world->answered, &world->lock);
    pthread_mutex_unlock(&world->lock);
    assert_int_equal(other.right, 1);
    assert_true(greedy.right >= 4);
    assert_true(greedy.refused >= 1);
}

static void count_account(void *context, const struct sp_account_summary *summary)
{
    uint32_t *count = context;
    assert_int_equal(summary->mailboxes, 6);
    assert_false(summary->protected_);
    (*count)++;
}

static void test_accounts(void **state)
{
    static const char *const bad[] = {"alice",
                                      "@example.org",
                                      "a b@example.org",
                                      ".a@example.org",
                                      "a..b@example.org",
                                      "a@-x.org",
                                      "a@x..org",
                                      "a@b@c",
                                      "a@"};
    struct world *world = *state;
    struct sp_error error;
    uint32_t count = 0;
    assert_int_equal(sp_account_add(world->volume, SP_S(ALICE), SP_S("x"), NULL, &error),
                     SP_EXISTS);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(
            sp_account_add(world->volume, sp_slice_str(bad[i]), SP_S("x"), NULL, &error),
            SP_INVALID);
    assert_int_equal(sp_account_add(world->volume, SP_S("bob@example.net"), SP_S(""), NULL, &error),
                     SP_INVALID);
    assert_int_equal(
        sp_account_add(world->volume, SP_S("bob@example.net"), SP_S("x"), NULL, &error), SP_OK);
    assert_int_equal(sp_account_list(world->volume, count_account, &count, &error), SP_OK);
    assert_int_equal(count, 2);
    assert_int_equal(sp_account_remove(world->volume, SP_S("bob@example.net"), &error), SP_OK);
    assert_int_equal(sp_account_remove(world->volume, SP_S("bob@example.net"), &error),
                     SP_NOT_FOUND);
    assert_int_equal(
        sp_account_set_password(world->volume, SP_S("bob@example.net"), SP_S("x"), &error),
        SP_NOT_FOUND);
}

static void test_resolve(void **state)
{
    static const struct {
        const char *address;
        enum sp_status status;
    } cases[] = {
        {"alice@example.org", SP_OK},
        {"Alice@EXAMPLE.org", SP_OK},
        {"alice+list@example.org", SP_OK},
        {"bob@example.org", SP_NOT_FOUND},
        {"+alice@example.org", SP_NOT_FOUND},
        {"alice@example.net", SP_DENIED},
        {"alice", SP_INVALID},
        /* Postmaster is Alice, everywhere that is ours. */
        {"postmaster@example.org", SP_OK},
        {"PostMaster@Example.ORG", SP_OK},
        {"postmaster@mx.example.net", SP_OK},
        {"postmaster@example.net", SP_DENIED},
        {"postmasters@example.org", SP_NOT_FOUND},
        {"alice@mx.example.net", SP_DENIED},
    };
    struct world *world = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_request *request = request_new(world, SP_REQ_RESOLVE);
        request->resolve.address = text(request, cases[i].address);
        struct sp_reply *reply = ask(world, request);
        assert_int_equal(reply->status, cases[i].status);
        if (!reply->status)
            assert_true(sp_uuid_eq(&reply->account, &world->alice));
        sp_reply_free(reply);
    }
}

/* ---- Mailboxes ---- */

static enum sp_status manage(struct world *world, enum sp_request_type type, const char *name,
                             const char *new_name)
{
    struct sp_request *request = request_new(world, type);
    request->name = text(request, name);
    if (new_name)
        request->new_name = text(request, new_name);
    return ask_status(world, request);
}

static enum sp_status subscribe(struct world *world, const char *name, bool subscribed)
{
    struct sp_request *request = request_new(world, SP_REQ_SUBSCRIBE);
    request->name = text(request, name);
    request->manage.subscribe = subscribed;
    return ask_status(world, request);
}

/* Names in order; '+' subscribed, '-' not there. */
static void assert_list(struct world *world, const char *expected)
{
    char got[1024] = "";
    size_t at = 0;
    struct sp_reply *reply = ask(world, request_new(world, SP_REQ_MAILBOX_LIST));
    assert_int_equal(reply->status, SP_OK);
    for (uint32_t i = 0; i < reply->mailboxes_count; i++) {
        const struct sp_mailbox_info *info = &reply->mailboxes[i];
        at += (size_t)snprintf(got + at, sizeof got - at, "%s%s%s%.*s", i ? " " : "",
                               info->subscribed ? "+" : "", info->exists ? "" : "-",
                               SP_FMT(info->name));
    }
    assert_string_equal(got, expected);
    sp_reply_free(reply);
}

static void test_mailboxes(void **state)
{
    static const char *const bad[] = {"", "/a", "a/", "a//b", "a\tb", "a\xff"};
    struct world *world = *state;
    assert_list(world, "+Archive +Drafts +INBOX +Junk +Sent +Trash");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, bad[i], NULL), SP_INVALID);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, "a/b/c", NULL), SP_OK);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, "a/b", NULL), SP_EXISTS);
    assert_list(world, "+Archive +Drafts +INBOX +Junk +Sent +Trash a a/b a/b/c");

    struct sp_mailbox_ref before = open_mailbox(world, "a/b/c");
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "a/b", "x/y"), SP_OK);
    assert_list(world, "+Archive +Drafts +INBOX +Junk +Sent +Trash a x x/y x/y/c");
    struct sp_mailbox_ref after = open_mailbox(world, "x/y/c");
    assert_int_equal(before.mailbox, after.mailbox);
    assert_int_equal(before.uidvalidity, after.uidvalidity);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "x", "x/z"), SP_INVALID);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "x", "a"), SP_EXISTS);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "nothing", "b"), SP_NOT_FOUND);

    assert_int_equal(manage(world, SP_REQ_MAILBOX_DELETE, "x/y", NULL), SP_OK);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_DELETE, "x/y", NULL), SP_NOT_FOUND);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_DELETE, "INBOX", NULL), SP_DENIED);
    assert_list(world, "+Archive +Drafts +INBOX +Junk +Sent +Trash a x x/y/c");
    /* A name without a mailbox moves what is below it; one that comes free is taken by the next. */
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "x/y", "a/q"), SP_OK);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, "t/u/u", NULL), SP_OK);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_DELETE, "t", NULL), SP_OK);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "t/u", "t"), SP_OK);
    assert_list(world, "+Archive +Drafts +INBOX +Junk +Sent +Trash a a/q/c t t/u x");

    assert_int_equal(subscribe(world, "x", true), SP_OK);
    assert_int_equal(subscribe(world, "x", true), SP_OK);
    assert_int_equal(subscribe(world, "ghost", true), SP_OK);
    assert_int_equal(subscribe(world, "Junk", false), SP_OK);
    assert_list(world, "+Archive +Drafts +INBOX Junk +Sent +Trash a a/q/c t t/u +x +-ghost");
    world_restart(world, true);
    assert_list(world, "+Archive +Drafts +INBOX Junk +Sent +Trash a a/q/c t t/u +x +-ghost");

    /* Made anew, a mailbox is another one. */
    before = open_mailbox(world, "t");
    assert_int_equal(manage(world, SP_REQ_MAILBOX_DELETE, "t", NULL), SP_OK);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, "t", NULL), SP_OK);
    after = open_mailbox(world, "t");
    assert_true(after.uidvalidity > before.uidvalidity && after.mailbox != before.mailbox);
    struct sp_request *request = request_new(world, SP_REQ_FETCH);
    request->mailbox = before;
    assert_int_equal(ask_status(world, request), SP_CONFLICT);
}

/* "a/a/a", of so many levels. */
static const char *deep(char first, uint32_t levels, char *path)
{
    for (uint32_t i = 0; i < levels; i++)
        snprintf(path + 2 * i, 3, "%c/", first);
    path[2 * levels - 1] = 0;
    return path;
}

static void test_deep_mailboxes(void **state)
{
    struct world *world = *state;
    char path[256];
    assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, deep('a', 51, path), NULL), SP_INVALID);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, deep('a', 50, path), NULL), SP_OK);
    assert_int_equal(subscribe(world, deep('a', 51, path), true), SP_INVALID);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "a", "b"), SP_OK);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "b", "b2/b"), SP_INVALID);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "Junk", deep('c', 51, path)), SP_INVALID);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "Junk", deep('c', 50, path)), SP_OK);
}

/* Levels count as the mailboxes that they are. */
static void test_mailboxes_limit(void **state)
{
    struct world *world = *state;
    char path[256];
    uint32_t count = 16; /* with those that an account begins with */
    assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, deep('w', 10, path), NULL), SP_OK);
    for (uint32_t i = 0; count + 51 <= SP_MAILBOXES_MAX; i++, count += 51) {
        size_t at = (size_t)snprintf(path, sizeof path, "%u/", i);
        (void)deep('a', 49, path + at);
        assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, path, NULL), SP_OK);
        snprintf(path, sizeof path, "%u/b", i);
        assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, path, NULL), SP_OK);
    }
    uint32_t room = SP_MAILBOXES_MAX - count;
    assert_true(room > 1 && room < 48);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, deep('x', room + 1, path), NULL),
                     SP_LIMIT);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "Junk", deep('x', room + 2, path)),
                     SP_LIMIT);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "Junk", deep('x', room, path)), SP_OK);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, "y/y", NULL), SP_LIMIT);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, "y", NULL), SP_OK);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_CREATE, "z", NULL), SP_LIMIT);
}

static void test_special_use(void **state)
{
    struct world *world = *state;
    struct sp_request *request = request_new(world, SP_REQ_MAILBOX_CREATE);
    request->name = text(request, "Everything");
    request->manage.special_use = SP_USE_ALL;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    assert_int_equal(reply->mailboxes->special_use, SP_USE_ALL);
    assert_int_equal(reply->mailboxes->uidnext, 1);
    sp_reply_free(reply);
    request = request_new(world, SP_REQ_MAILBOX_STATUS);
    request->name = text(request, "Drafts");
    reply = ask(world, request);
    assert_int_equal(reply->mailboxes->special_use, SP_USE_DRAFTS);
    sp_reply_free(reply);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_STATUS, "nothing", NULL), SP_NOT_FOUND);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_OPEN, "nothing", NULL), SP_NOT_FOUND);
}

static void test_rename_inbox(void **state)
{
    struct world *world = *state;
    append(world, "INBOX", HELLO, SP_FLAG_SEEN, "$Important", 0);
    append(world, "INBOX", HELLO, 0, NULL, 0);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_RENAME, "INBOX", "old/mail"), SP_OK);
    struct sp_request *request = request_new(world, SP_REQ_MAILBOX_OPEN);
    request->name = text(request, "INBOX");
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->mailboxes->messages, 0);
    assert_int_equal(reply->mailboxes->uidnext, 3);
    sp_reply_free(reply);
    request = request_new(world, SP_REQ_MAILBOX_OPEN);
    request->name = text(request, "old/mail");
    reply = ask(world, request);
    assert_ranges(reply->ranges, "1:2");
    assert_int_equal(reply->first_unseen_uid, 2);
    assert_int_equal(reply->keywords_count, 1);
    sp_reply_free(reply);
    assert_int_equal(flags_of(world, "old/mail", 1), SP_FLAG_SEEN | 1U << SP_FLAG_KEYWORD_0);
}

/* ---- Delivery and bodies ---- */

static struct sp_request *delivery(struct world *world, uint64_t body, struct sp_slice bytes,
                                   const char *const *recipients, uint32_t count)
{
    struct sp_request *request = request_new(world, SP_REQ_DELIVER);
    request->deliver.message = (struct sp_incoming){body, sp_arena_copy(&request->arena, bytes)};
    request->deliver.recipients = sp_arena_array(&request->arena, count, sizeof(struct sp_slice));
    request->deliver.recipients_count = count;
    for (uint32_t i = 0; i < count; i++)
        request->deliver.recipients[i] = text(request, recipients[i]);
    return request;
}

static struct sp_reply *deliver(struct world *world, uint64_t body, struct sp_slice bytes,
                                const char *const *recipients, uint32_t count)
{
    return ask(world, delivery(world, body, bytes, recipients, count));
}

static void test_deliver(void **state)
{
    static const char *const recipients[] = {"alice+x@example.org", "nobody@example.org",
                                             "Bob@example.org", ALICE, "x@elsewhere.org"};
    struct world *world = *state;
    struct sp_error error;
    struct sp_uuid bob, alice = world->alice;
    assert_int_equal(
        sp_account_add(world->volume, SP_S("bob@example.org"), SP_S("x"), &bob, &error), SP_OK);
    struct sp_volume_status before, after;
    sp_volume_status(world->volume, &before);
    struct sp_reply *reply = deliver(world, 0, HELLO, recipients, 5);
    assert_int_equal(reply->status, SP_OK);
    assert_int_equal(reply->recipients[0], SP_OK);
    assert_int_equal(reply->recipients[1], SP_NOT_FOUND);
    assert_int_equal(reply->recipients[2], SP_OK);
    assert_int_equal(reply->recipients[3], SP_OK);
    assert_int_equal(reply->recipients[4], SP_NOT_FOUND);
    sp_reply_free(reply);
    /* One body, one message for each account. */
    sp_volume_status(world->volume, &after);
    assert_int_equal(after.end.lsn, before.end.lsn + 3);
    for (int i = 0; i < 2; i++) {
        world->alice = i ? bob : alice;
        struct sp_request *request = on_mailbox(world, SP_REQ_FETCH, "INBOX", 1, UINT32_MAX);
        struct sp_section section = {.kind = SP_SECTION_ALL, .length = UINT64_MAX};
        request->fetch.want = SP_WANT_META;
        request->fetch.sections = &section;
        request->fetch.sections_count = 1;
        reply = ask(world, request);
        assert_int_equal(reply->rows_count, 1);
        assert_int_equal(reply->rows[0].size, sizeof hello - 1);
        assert_int_equal(reply->rows[0].flags, 0);
        assert_true(sp_slice_eq(reply->rows[0].sections[0].bytes, HELLO));
        sp_reply_free(reply);
    }
    world->alice = alice;
    /* Nobody of ours: nothing is written. */
    sp_volume_status(world->volume, &before);
    reply = deliver(world, 0, HELLO, &recipients[1], 1);
    assert_int_equal(reply->status, SP_OK);
    assert_int_equal(reply->recipients[0], SP_NOT_FOUND);
    sp_reply_free(reply);
    sp_volume_status(world->volume, &after);
    assert_int_equal(after.end.lsn, before.end.lsn);
    assert_true(world->notified > 0);
}

/* Every recipient or none, when that is asked. */
static void test_deliver_all(void **state)
{
    static const struct {
        const char *recipients[3];
        uint32_t count;
        enum sp_status status, first; /* of the reply, of its first recipient */
        uint32_t records;
    } cases[] = {
        {{ALICE, "alice+x@example.org", "postmaster@example.org"}, 3, SP_OK, SP_OK, 2},
        {{ALICE, "nobody@example.org"}, 2, SP_UNAVAILABLE, SP_OK, 0},
        {{"nobody@example.org", ALICE}, 2, SP_UNAVAILABLE, SP_NOT_FOUND, 0},
        {{"nobody@example.org", "x@elsewhere.org"}, 2, SP_OK, SP_NOT_FOUND, 0},
    };
    struct world *world = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_volume_status before, after;
        struct sp_request *request = delivery(world, 0, HELLO, cases[i].recipients, cases[i].count);
        request->deliver.all = true;
        sp_volume_status(world->volume, &before);
        struct sp_reply *reply = ask(world, request);
        assert_int_equal(reply->status, cases[i].status);
        assert_int_equal(reply->recipients[0], cases[i].first);
        sp_reply_free(reply);
        sp_volume_status(world->volume, &after);
        assert_int_equal(after.end.lsn, before.end.lsn + cases[i].records);
    }
}

#define LONG_HEAD                                                                                  \
    "Subject: long\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
#define LONG_PARTS                                                                                 \
    "--b\r\nContent-Type: text/plain\r\n\r\nshort\r\n"                                             \
    "--b\r\nContent-Type: application/octet-stream\r\n\r\n"
#define LONG_TAIL   "\r\n--b--\r\n"
#define LONG_HEADER strlen(LONG_HEAD)
#define LONG_PART_2 strlen(LONG_HEAD LONG_PARTS)

/* A message of many pieces, compressible here and not there. */
static uint8_t *make_long(size_t len)
{
    uint8_t *bytes = malloc(len);
    uint32_t x = 1;
    for (size_t i = 0; i < len; i++) {
        x = x * 1664525U + 1013904223U;
        bytes[i] = (i / 300000) % 2 ? 'x' : (uint8_t)('a' + x % 26 * (x >> 28) % 26);
        if (i % 78 == 77)
            bytes[i] = '\n';
    }
    memcpy(bytes, LONG_HEAD LONG_PARTS, LONG_PART_2);
    memcpy(bytes + len - strlen(LONG_TAIL), LONG_TAIL, strlen(LONG_TAIL));
    return bytes;
}

static uint64_t put(struct world *world, uint64_t body, struct sp_slice bytes,
                    enum sp_status expected)
{
    struct sp_request *request = request_new(world, SP_REQ_BODY_PUT);
    request->body = (struct sp_incoming){body, sp_arena_copy(&request->arena, bytes)};
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, expected);
    uint64_t got = reply->body;
    sp_reply_free(reply);
    return got;
}

static uint64_t put_all(struct world *world, struct sp_slice bytes, size_t step,
                        struct sp_slice *ret_rest)
{
    uint64_t body = 0;
    for (; bytes.len > step; bytes = sp_slice_from(bytes, step)) {
        uint64_t got = put(world, body, sp_slice_sub(bytes, 0, step), SP_OK);
        assert_true(got && (!body || got == body));
        body = got;
    }
    *ret_rest = bytes;
    return body;
}

static void assert_section(struct world *world, const char *mailbox, uint32_t uid,
                           struct sp_section section, struct sp_slice expected)
{
    uint64_t done = 0;
    section.offset = 0;
    section.length = UINT64_MAX;
    do {
        struct sp_request *request = on_mailbox(world, SP_REQ_FETCH, mailbox, uid, uid);
        section.offset = done;
        request->fetch.sections = &section;
        request->fetch.sections_count = 1;
        struct sp_reply *reply = ask(world, request);
        assert_int_equal(reply->status, SP_OK);
        assert_int_equal(reply->rows_count, 1);
        const struct sp_fetch_section *got = reply->rows[0].sections;
        assert_int_equal(got->status, SP_OK);
        assert_int_equal(got->size, expected.len - done);
        assert_true(
            sp_slice_eq(got->bytes, sp_slice_sub(expected, done, done + SP_SECTION_PIECE_MAX)));
        done += got->bytes.len;
        sp_reply_free(reply);
    } while (done < expected.len);
}

static void test_long_message(void **state)
{
    static const size_t steps[] = {SP_BODY_PIECE_MAX, 100000, 262143};
    static const char *const alice[] = {ALICE};
    struct world *world = *state;
    size_t len = 1500000;
    uint8_t *bytes = make_long(len);
    struct sp_slice whole = sp_slice(bytes, len), rest;
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t body = put_all(world, whole, steps[i], &rest);
        struct sp_reply *reply = deliver(world, body, rest, alice, 1);
        assert_int_equal(reply->status, SP_OK);
        free_ok(reply);
    }
    for (int round = 0; round < 2; round++) {
        for (uint32_t uid = 1; uid <= 3; uid++) {
            struct sp_slice header = sp_slice_sub(whole, 0, LONG_HEADER);
            assert_section(world, "INBOX", uid, (struct sp_section){.kind = SP_SECTION_ALL}, whole);
            assert_section(world, "INBOX", uid, (struct sp_section){.kind = SP_SECTION_HEADER},
                           header);
            assert_section(world, "INBOX", uid, (struct sp_section){.kind = SP_SECTION_TEXT},
                           sp_slice_from(whole, header.len));
            assert_section(world, "INBOX", uid,
                           (struct sp_section){.kind = SP_SECTION_ALL, .path = {1}, .path_len = 1},
                           SP_S("short"));
            assert_section(world, "INBOX", uid,
                           (struct sp_section){.kind = SP_SECTION_ALL, .path = {2}, .path_len = 1},
                           sp_slice_sub(whole, LONG_PART_2, len - strlen(LONG_TAIL)));
        }
        world_restart(world, round == 0);
    }
    free(bytes);
}

static void test_bodies(void **state)
{
    static const char *const alice[] = {ALICE};
    struct world *world = *state;
    uint64_t body = put(world, 0, HELLO, SP_OK);
    world->session = 2;
    put(world, body, HELLO, SP_NOT_FOUND); /* another session's */
    struct sp_reply *reply = deliver(world, body, HELLO, alice, 1);
    assert_int_equal(reply->status, SP_NOT_FOUND);
    sp_reply_free(reply);
    /* 48 at once, no more; a session that ends makes room. */
    for (int i = 0; i < 47; i++)
        put(world, 0, HELLO, SP_OK);
    put(world, 0, HELLO, SP_UNAVAILABLE);
    sp_mail_session_ended(world->mail, 2);
    put(world, 0, HELLO, SP_OK);
    world->session = 1;
    struct sp_request *request = request_new(world, SP_REQ_BODY_DROP);
    request->body.body = body;
    assert_int_equal(ask_status(world, request), SP_OK);
    put(world, body, HELLO, SP_NOT_FOUND);
    /* Too long, at once and in pieces. */
    uint8_t *bytes = make_long(4U << 20);
    put(world, 0, sp_slice(bytes, SP_BODY_PIECE_MAX + 1), SP_LIMIT);
    body = 0;
    for (size_t at = 0; at < 12; at++)
        body = put(world, body, sp_slice(bytes + at * SP_BODY_PIECE_MAX, SP_BODY_PIECE_MAX), SP_OK);
    /* What SMTP adds comes on top of the limit. */
    body = put(world, body, sp_slice(bytes, SP_TRACE_BYTES_MAX), SP_OK);
    put(world, body, SP_S("x"), SP_LIMIT);
    put(world, body, SP_S("x"), SP_NOT_FOUND);
    free(bytes);
}

static void put_as(struct world *world, uint8_t peer, bool stranger, uint32_t count,
                   enum sp_status expected)
{
    for (uint32_t i = 0; i < count; i++) {
        struct sp_request *request = request_new(world, SP_REQ_BODY_PUT);
        request->body.bytes = HELLO;
        request->peer[15] = peer;
        request->stranger = stranger;
        assert_int_equal(ask_status(world, request), expected);
    }
}

/* 48 at once: strangers have three quarters of them, and one peer 32. */
static void test_shares_of_bodies(void **state)
{
    struct world *world = *state;
    put_as(world, 1, true, 32, SP_OK);
    put_as(world, 1, true, 1, SP_UNAVAILABLE);
    put_as(world, 2, true, 4, SP_OK);
    put_as(world, 3, true, 1, SP_UNAVAILABLE);
    put_as(world, 1, false, 12, SP_OK);
    put_as(world, 1, false, 1, SP_UNAVAILABLE);
    sp_mail_session_ended(world->mail, world->session);
    put_as(world, 0, true, 36, SP_OK); /* an exempt peer */
    put_as(world, 0, true, 1, SP_UNAVAILABLE);
}

/* ---- FETCH ---- */

static void test_fetch(void **state)
{
    struct world *world = *state;
    append(world, "INBOX", HELLO, SP_FLAG_FLAGGED, "$Label", 1700000000);
    append(world, "INBOX", SP_S("no header at all"), 0, NULL, 1700000001);
    append(world, "INBOX", SP_S(""), 0, NULL, 1700000002);
    struct sp_slice fields[] = {SP_S("subject"), SP_S("TO")};
    struct sp_section sections[] = {
        {.kind = SP_SECTION_FIELDS, .fields = fields, .fields_count = 2, .length = UINT64_MAX},
        {.kind = SP_SECTION_FIELDS, .fields = fields, .fields_count = 2, .offset = 4, .length = 7},
        {.kind = SP_SECTION_TEXT, .offset = 4, .length = 3},
        {.kind = SP_SECTION_TEXT, .offset = 1000, .length = 3},
        {.kind = SP_SECTION_MIME, .path = {1}, .path_len = 1, .length = UINT64_MAX},
        {.kind = SP_SECTION_ALL, .path = {7}, .path_len = 1, .length = UINT64_MAX},
        {.kind = SP_SECTION_ALL, .length = 0},
    };
    struct sp_request *request = on_mailbox(world, SP_REQ_FETCH, "INBOX", 1, UINT32_MAX);
    request->fetch.want = SP_WANT_FLAGS | SP_WANT_META | SP_WANT_ENVELOPE | SP_WANT_BODYSTRUCTURE;
    request->fetch.sections = sections;
    request->fetch.sections_count = sizeof sections / sizeof *sections;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    assert_int_equal(reply->rows_count, 3);
    assert_false(reply->more);
    assert_int_equal(reply->keywords_count, 1);
    assert_true(sp_slice_eq(reply->keywords[0], SP_S("$Label")));
    const struct sp_row *row = &reply->rows[0];
    assert_int_equal(row->flags, SP_FLAG_FLAGGED | 1U << SP_FLAG_KEYWORD_0);
    assert_int_equal(row->size, sizeof hello - 1);
    assert_int_equal(row->date.unix_s, 1700000000);
    assert_int_equal(row->date.zone_min, 60);
    assert_true(sp_slice_starts_nocase(row->envelope,
                                       SP_S("(\"Tue, 5 Mar 2024 10:00:00 +0100\" \"Hello\" ")));
    assert_true(sp_slice_starts_nocase(row->bodystructure, SP_S("(\"text\" \"plain\"")));
    assert_true(sp_slice_eq(row->sections[0].bytes,
                            SP_S("To: alice@example.org\r\nSubject: Hello\r\n\r\n")));
    assert_true(sp_slice_eq(row->sections[1].bytes, SP_S("alice@e")));
    assert_int_equal(row->sections[1].size, 7);
    assert_true(sp_slice_eq(row->sections[2].bytes, SP_S("are")));
    assert_int_equal(row->sections[3].status, SP_OK);
    assert_int_equal(row->sections[3].size, 0);
    assert_int_equal(row->sections[4].status, SP_OK);
    assert_int_equal(row->sections[4].size, sizeof hello - 1 - strlen("How are you?\r\n"));
    assert_int_equal(row->sections[5].status, SP_NOT_FOUND);
    assert_int_equal(row->sections[6].size, 0);
    assert_int_equal(reply->rows[2].size, 0);
    uint64_t modseq = row->modseq;
    sp_reply_free(reply);

    request = on_mailbox(world, SP_REQ_FETCH, "INBOX", 1, UINT32_MAX);
    request->fetch.changed_since = modseq;
    reply = ask(world, request);
    assert_int_equal(reply->rows_count, 2);
    free_ok(reply);
    request = on_mailbox(world, SP_REQ_FETCH, "INBOX", 3, 2);
    assert_int_equal(ask_status(world, request), SP_INVALID);
}

static void test_fetch_pages(void **state)
{
    struct world *world = *state;
    uint8_t *bytes = make_long(100000);
    for (uint32_t i = 0; i < 12; i++)
        append(world, "INBOX", sp_slice(bytes, 100000), 0, NULL, 0);
    uint32_t next = 1, pages = 0;
    bool more = true;
    while (more) {
        struct sp_section section = {.kind = SP_SECTION_ALL, .length = UINT64_MAX};
        struct sp_request *request = on_mailbox(world, SP_REQ_FETCH, "INBOX", next, UINT32_MAX);
        request->fetch.sections = &section;
        request->fetch.sections_count = 1;
        struct sp_reply *reply = ask(world, request);
        more = reply->more;
        assert_true(reply->rows_count > 0);
        for (uint32_t i = 0; i < reply->rows_count; i++) {
            assert_int_equal(reply->rows[i].uid, next++);
            assert_int_equal(reply->rows[i].sections->size, 100000);
            assert_true(
                sp_slice_eq(reply->rows[i].sections->bytes, sp_slice(bytes, SP_SECTION_PIECE_MAX)));
        }
        pages++;
        free_ok(reply);
    }
    assert_int_equal(next, 13);
    assert_int_equal(pages, 3);
    free(bytes);
}

static void each_origin(void *context, struct sp_slice origin_id)
{
    uint32_t *seen = context;
    *seen = *seen * 10 + (uint32_t)(origin_id.ptr[0] - '0');
}

static void test_import(void **state)
{
    struct world *world = *state;
    struct sp_error error;
    uint32_t seen = 0;
    uint8_t *bytes = make_long(700000);
    struct sp_slice keyword = SP_S("old");
    struct sp_import_message messages[] = {
        {.bytes = HELLO, .flags = {SP_FLAG_SEEN, &keyword, 1}, .origin_id = SP_S("1")},
        {.bytes = sp_slice(bytes, 700000),
         .origin_id = SP_S("2"),
         .date = {5, 0},
         .has_date = true},
    };
    assert_int_equal(
        sp_import_origins(world->volume, &world->alice, SP_S("in/old"), each_origin, &seen, &error),
        SP_OK);
    assert_int_equal(
        sp_import_messages(world->volume, &world->alice, SP_S("in/old"), messages, 2, &error),
        SP_OK);
    messages[0].origin_id = SP_S("3");
    assert_int_equal(
        sp_import_messages(world->volume, &world->alice, SP_S("in/old"), messages, 1, &error),
        SP_OK);
    assert_int_equal(
        sp_import_origins(world->volume, &world->alice, SP_S("in/old"), each_origin, &seen, &error),
        SP_OK);
    assert_int_equal(seen, 123);
    assert_section(world, "in/old", 2, (struct sp_section){.kind = SP_SECTION_ALL},
                   sp_slice(bytes, 700000));
    assert_int_equal(flags_of(world, "in/old", 3), SP_FLAG_SEEN | 1U << SP_FLAG_KEYWORD_0);
    keyword = SP_S("not an atom");
    assert_int_equal(
        sp_import_messages(world->volume, &world->alice, SP_S("new"), messages, 1, &error),
        SP_INVALID);
    assert_int_equal(manage(world, SP_REQ_MAILBOX_STATUS, "new", NULL), SP_NOT_FOUND);
    struct sp_uuid nobody = {{1}};
    assert_int_equal(
        sp_import_messages(world->volume, &nobody, SP_S("new"), messages + 1, 1, &error),
        SP_NOT_FOUND);
    free(bytes);
}

#define ON_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_WORLD(test_authenticate),
        ON_WORLD(test_login_queue),
        ON_WORLD(test_accounts),
        ON_WORLD(test_resolve),
        ON_WORLD(test_mailboxes),
        ON_WORLD(test_deep_mailboxes),
        ON_WORLD(test_mailboxes_limit),
        ON_WORLD(test_special_use),
        ON_WORLD(test_rename_inbox),
        ON_WORLD(test_deliver),
        ON_WORLD(test_long_message),
        ON_WORLD(test_bodies),
        ON_WORLD(test_fetch),
        ON_WORLD(test_fetch_pages),
        ON_WORLD(test_import),
        ON_WORLD(test_login_share),
        ON_WORLD(test_deliver_all),
        ON_WORLD(test_shares_of_bodies),
        ON_WORLD(test_passwords_are_prepared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
