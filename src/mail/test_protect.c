/* What clients see when something is lost: never less than there was. */
#include "mail/test_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#define MESSAGE SP_S("Subject: x\r\n\r\nbody\r\n")

/* Applies a record whose chain does not hold, as a replay of a damaged log does. */
static void break_chain(struct world *world, enum sp_record_type type,
                        const struct sp_uuid *account, uint32_t mailbox,
                        const struct sp_buf *payload)
{
    struct sp_apply apply;
    assert_int_equal(sp_apply_begin(sp_volume_index(world->volume), true, &apply), SP_OK);
    struct sp_record record = {.type = (uint8_t)type,
                               .flags = SP_RECORD_CHAINED,
                               .lsn = apply.position.end.lsn,
                               .time_ns = apply.position.time_ns,
                               .account = *account,
                               .mailbox = mailbox,
                               .previous = 0, /* although the chain has begun */
                               .payload = sp_buf_slice(payload)};
    struct sp_log_end end = apply.position.end;
    assert_int_equal(sp_apply_record(&apply, &record, &(struct sp_place){0}), SP_OK);
    assert_int_equal(sp_apply_commit(&apply, &end), SP_OK);
}

static uint64_t open_modseq(struct world *world)
{
    struct sp_request *request = request_new(world, SP_REQ_MAILBOX_STATUS);
    request->name = text(request, "INBOX");
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    uint64_t modseq = reply->mailboxes[0].highestmodseq;
    sp_reply_free(reply);
    return modseq;
}

static void assert_vanished(struct world *world, uint64_t since, const char *gone)
{
    struct sp_request *request = on_mailbox(world, SP_REQ_SYNC, "INBOX", 1, 1);
    request->sync.since_modseq = since;
    request->sync.uidnext = 8;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    assert_ranges(reply->gone, gone);
    sp_reply_free(reply);
}

/* How many messages have flags that changed since. */
static void assert_changed(struct world *world, uint64_t since, uint32_t count)
{
    struct sp_request *request = on_mailbox(world, SP_REQ_FETCH, "INBOX", 1, UINT32_MAX);
    request->fetch.want = SP_WANT_FLAGS;
    request->fetch.changed_since = since;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    assert_int_equal(reply->rows_count, count);
    sp_reply_free(reply);
}

static enum sp_status ask_named(struct world *world, enum sp_request_type type, const char *name)
{
    struct sp_request *request = request_new(world, type);
    request->name = text(request, name);
    if (type == SP_REQ_MAILBOX_RENAME)
        request->new_name = SP_S("elsewhere");
    return ask_status(world, request);
}

static enum sp_status deliver(struct world *world, const char *recipient)
{
    struct sp_request *request = request_new(world, SP_REQ_DELIVER);
    struct sp_slice to = sp_slice_str(recipient);
    request->deliver.message.bytes = MESSAGE;
    request->deliver.recipients = &to;
    request->deliver.recipients_count = 1;
    struct sp_reply *reply = ask(world, request);
    enum sp_status status = reply->status ? reply->status : reply->recipients[0];
    sp_reply_free(reply);
    return status;
}

static enum sp_status resolve(struct world *world, const char *address)
{
    struct sp_request *request = request_new(world, SP_REQ_RESOLVE);
    request->resolve.address = text(request, address);
    return ask_status(world, request);
}

static void test_mailbox(void **state)
{
    static const enum sp_request_type refused[] = {SP_REQ_FETCH, SP_REQ_STORE,  SP_REQ_EXPUNGE,
                                                   SP_REQ_SYNC,  SP_REQ_SEARCH, SP_REQ_COPY};
    struct world *world = *state;
    struct sp_search_node all = {.op = SP_SEARCH_ALL};
    append(world, "INBOX", MESSAGE, 0, NULL, 0);
    append(world, "Sent", MESSAGE, 0, NULL, 0);
    struct sp_mailbox_ref inbox = open_mailbox(world, "INBOX");
    struct sp_buf payload;
    sp_buf_init(&payload, 1000);
    sp_flags_change_write(&(struct sp_flags_change){.modseq = 1}, &payload);
    break_chain(world, SP_RECORD_FLAGS, &world->alice, inbox.mailbox, &payload);
    sp_buf_release(&payload);

    for (int i = 0; i < 2; i++) {
        struct sp_request *request =
            request_new(world, i ? SP_REQ_MAILBOX_STATUS : SP_REQ_MAILBOX_OPEN);
        request->name = SP_S("INBOX");
        struct sp_reply *reply = ask(world, request);
        assert_int_equal(reply->status, SP_UNAVAILABLE);
        assert_int_equal(reply->mailboxes_count, 1);
        assert_true(reply->mailboxes->protected_);
        sp_reply_free(reply);
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct sp_request *request = request_new(world, refused[i]);
        request->mailbox = inbox;
        request->ranges = range(request, 1, 1);
        if (refused[i] == SP_REQ_SEARCH) {
            request->search.nodes = &all;
            request->search.nodes_count = 1;
        }
        request->name = SP_S("Sent");
        assert_int_equal(ask_status(world, request), SP_UNAVAILABLE);
    }
    assert_int_equal(ask_named(world, SP_REQ_MAILBOX_RENAME, "INBOX"), SP_UNAVAILABLE);
    /* The others are as they were, the list too; and mail comes in. */
    assert_int_equal(ask_named(world, SP_REQ_MAILBOX_OPEN, "Sent"), SP_OK);
    assert_int_equal(ask_status(world, request_new(world, SP_REQ_MAILBOX_LIST)), SP_OK);
    assert_int_equal(deliver(world, ALICE), SP_OK);
}

static void test_mailbox_list(void **state)
{
    struct world *world = *state;
    struct sp_buf payload;
    sp_buf_init(&payload, 1000);
    sp_subscribe_write(&(struct sp_subscribe){true, SP_S("x")}, &payload);
    break_chain(world, SP_RECORD_SUBSCRIBE, &world->alice, 0, &payload);
    sp_buf_release(&payload);

    assert_int_equal(ask_status(world, request_new(world, SP_REQ_MAILBOX_LIST)), SP_UNAVAILABLE);
    assert_int_equal(ask_named(world, SP_REQ_MAILBOX_OPEN, "INBOX"), SP_OK);
    /* It may be one that is lost. */
    assert_int_equal(ask_named(world, SP_REQ_MAILBOX_OPEN, "unknown"), SP_UNAVAILABLE);
    assert_int_equal(ask_named(world, SP_REQ_MAILBOX_STATUS, "unknown"), SP_UNAVAILABLE);
    assert_int_equal(ask_named(world, SP_REQ_MAILBOX_CREATE, "unknown"), SP_UNAVAILABLE);
    assert_int_equal(ask_named(world, SP_REQ_MAILBOX_DELETE, "unknown"), SP_UNAVAILABLE);
    assert_int_equal(ask_named(world, SP_REQ_MAILBOX_RENAME, "unknown"), SP_UNAVAILABLE);
    assert_int_equal(deliver(world, ALICE), SP_OK);
}

/* INBOX may be among what is lost: RCPT says so already, and nobody gets what all were to get. */
static void test_no_inbox(void **state)
{
    struct world *world = *state;
    struct sp_error error;
    struct sp_buf payload;
    assert_int_equal(
        sp_account_add(world->volume, SP_S("bob@example.org"), SP_S("x"), NULL, &error), SP_OK);
    struct sp_mailbox_ref inbox = open_mailbox(world, "INBOX");
    sp_buf_init(&payload, 1000);
    sp_mailbox_record_write(&(struct sp_mailbox_record){.id = inbox.mailbox,
                                                        .uidvalidity = inbox.uidvalidity,
                                                        .path = SP_S("elsewhere")},
                            &payload);
    break_chain(world, SP_RECORD_MAILBOX_RENAME, &world->alice, 0, &payload);
    sp_buf_release(&payload);

    assert_int_equal(resolve(world, ALICE), SP_UNAVAILABLE);
    assert_int_equal(resolve(world, "bob@example.org"), SP_OK);
    for (int all = 1; all >= 0; all--) {
        struct sp_slice to[] = {SP_S("bob@example.org"), SP_S(ALICE)};
        struct sp_request *request = request_new(world, SP_REQ_DELIVER);
        request->deliver.message.bytes = MESSAGE;
        request->deliver.recipients = to;
        request->deliver.recipients_count = 2;
        request->deliver.all = all;
        struct sp_reply *reply = ask(world, request);
        assert_int_equal(reply->status, all ? SP_UNAVAILABLE : SP_OK);
        assert_int_equal(reply->recipients[0], SP_OK);
        assert_int_equal(reply->recipients[1], SP_UNAVAILABLE);
        sp_reply_free(reply);
    }
}

/* What alice shares with bob while her list has a gap: a record that took it back may be missing,
 * and so may one that gave more. Bob's programs must neither read on nor think that it was deleted.
 */
static void test_shared_with_others(void **state)
{
    struct world *world = *state;
    struct sp_uuid alice = world->alice, bob;
    struct sp_error error;
    struct sp_buf payload;
    static const char shared[] = "Other Users/" ALICE "/Sent";
    assert_int_equal(
        sp_account_add(world->volume, SP_S("bob@example.org"), SP_S("x"), &bob, &error), SP_OK);
    struct sp_request *request = request_new(world, SP_REQ_ACL_SET);
    request->name = SP_S("Sent");
    request->acl.identifier = SP_S("Bob@example.org");
    request->acl.rights = SP_RIGHT_LOOKUP | SP_RIGHT_READ;
    assert_int_equal(ask_status(world, request), SP_OK);
    struct sp_mailbox_ref sent = open_mailbox(world, "Sent");

    for (int broken = 0; broken < 2; broken++) {
        world->alice = bob; /* who asks */
        struct sp_reply *reply = ask(world, request_new(world, SP_REQ_MAILBOX_LIST));
        bool listed = false;
        for (uint32_t i = 0; i < reply->mailboxes_count; i++)
            listed |= sp_slice_eq(reply->mailboxes[i].name, sp_slice_str(shared));
        assert_int_equal(listed, !broken);
        assert_int_equal(reply->others_unavailable, broken);
        free_ok(reply);
        enum sp_status expected = broken ? SP_UNAVAILABLE : SP_OK;
        assert_int_equal(ask_named(world, SP_REQ_MAILBOX_OPEN, shared), expected);
        assert_int_equal(ask_named(world, SP_REQ_MAILBOX_STATUS, shared), expected);
        request = request_new(world, SP_REQ_SYNC);
        request->mailbox = sent;
        assert_int_equal(ask_status(world, request), expected);
        assert_int_equal(ask_named(world, SP_REQ_MAILBOX_OPEN, "INBOX"), SP_OK);
        world->alice = alice;
        if (broken)
            break;
        sp_buf_init(&payload, 1000);
        sp_acl_record_write(
            &(struct sp_acl_record){.mailbox = sent.mailbox, .grantee = bob, .rights = 0x7ff},
            &payload);
        break_chain(world, SP_RECORD_ACL, &world->alice, 0, &payload);
        sp_buf_release(&payload);
    }
    assert_int_equal(ask_named(world, SP_REQ_MAILBOX_OPEN, "Sent"), SP_OK);
}

static void test_account_list(void **state)
{
    struct world *world = *state;
    static const struct sp_uuid nobody;
    struct sp_error error;
    struct sp_buf payload;
    sp_buf_init(&payload, 1000);
    sp_domain_record_write(&(struct sp_domain_record){SP_S("example.com")}, &payload);
    break_chain(world, SP_RECORD_DOMAIN, &nobody, 0, &payload);
    sp_buf_release(&payload);

    assert_int_equal(resolve(world, ALICE), SP_OK);
    assert_int_equal(resolve(world, "unknown@example.org"), SP_UNAVAILABLE);
    assert_int_equal(resolve(world, "unknown@unknown.org"), SP_UNAVAILABLE);
    assert_int_equal(deliver(world, "unknown@example.org"), SP_UNAVAILABLE);
    struct sp_request *request = request_new(world, SP_REQ_AUTHENTICATE);
    request->authenticate.user = text(request, "unknown@example.org");
    request->authenticate.password = text(request, "x");
    assert_int_equal(ask_status(world, request), SP_UNAVAILABLE);
    assert_int_equal(
        sp_account_add(world->volume, SP_S("unknown@example.org"), SP_S("x"), NULL, &error),
        SP_UNAVAILABLE);
}

/* A body that no unit has sound: everything else of the message is served. */
static void test_missing_body(void **state)
{
    struct world *world = *state;
    static uint8_t bytes[60000];
    sp_random_bytes(bytes, sizeof bytes); /* no codec makes it smaller */
    append(world, "INBOX", sp_slice(bytes, sizeof bytes), 0, NULL, 0);
    append(world, "INBOX", MESSAGE, 0, NULL, 0);

    struct sp_mailbox_ref inbox = open_mailbox(world, "INBOX");
    struct sp_read read;
    struct sp_arena arena;
    struct sp_slice payload;
    struct sp_message message;
    struct sp_body_row row;
    uint64_t lsn, time_ns;
    sp_arena_init(&arena, 65536);
    assert_int_equal(sp_read_begin(sp_volume_index(world->volume), &read), SP_OK);
    assert_int_equal(
        sp_index_message(&read, &world->alice, inbox.mailbox, 1, &payload, &lsn, &time_ns), SP_OK);
    assert_int_equal(sp_message_read(payload, &arena, &message), SP_OK);
    assert_int_equal(sp_index_body(&read, message.bodies.ptr[0], &row), SP_OK);
    sp_read_end(&read);
    sp_arena_release(&arena);
    for (uint32_t disk = 0; disk < 2; disk++)
        assert_true(sp_sim_rot(world->disks, disk, row.place.segment, row.place.generation,
                               row.place.block + 1));

    struct sp_section section = {.kind = SP_SECTION_ALL, .length = UINT64_MAX};
    struct sp_request *request = on_mailbox(world, SP_REQ_FETCH, "INBOX", 1, 2);
    request->fetch.want = SP_WANT_META | SP_WANT_ENVELOPE;
    request->fetch.sections = &section;
    request->fetch.sections_count = 1;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    assert_int_equal(reply->rows_count, 2);
    assert_int_equal(reply->rows[0].size, sizeof bytes);
    assert_true(reply->rows[0].envelope.len > 0);
    assert_int_equal(reply->rows[0].sections->status, SP_UNAVAILABLE);
    assert_int_equal(reply->rows[1].sections->status, SP_OK);
    assert_true(sp_slice_eq(reply->rows[1].sections->bytes, MESSAGE));
    sp_reply_free(reply);

    struct sp_search_node node = {.op = SP_SEARCH_BODY, .text = SP_S("body")};
    request = on_mailbox(world, SP_REQ_SEARCH, "INBOX", 1, 2);
    request->search.nodes = &node;
    request->search.nodes_count = 1;
    reply = ask(world, request);
    assert_ranges(reply->ranges, "2");
    free_ok(reply);
}

/* A loss that was given up may have had expunges in it: who was away since before it is told of
 * every UID that is not there (RFC 7162, 3.2.5.2). */
static void test_given_up(void **state)
{
    struct world *world = *state;
    struct sp_buf payload;
    for (int i = 0; i < 6; i++)
        append(world, "INBOX", MESSAGE, 0, NULL, 0);
    uint64_t before = open_modseq(world);
    free_ok(ask(world, on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 2, 2)));
    assert_vanished(world, 1, "2");
    struct sp_mailbox_ref inbox = open_mailbox(world, "INBOX");
    struct sp_span one = {1, 1};
    sp_buf_init(&payload, 1024);
    sp_flags_change_write(
        &(struct sp_flags_change){.modseq = before + 5, .uids = {&one, 1}, .op = SP_FLAGS_ADD},
        &payload);
    break_chain(world, SP_RECORD_FLAGS, &world->alice, inbox.mailbox, &payload);
    assert_int_equal(ask_named(world, SP_REQ_MAILBOX_CREATE, "later"), SP_OK);
    sp_buf_reset(&payload);
    break_chain(world, SP_RECORD_UNPROTECT, &world->alice, inbox.mailbox, &payload);
    sp_buf_release(&payload);
    /* Above every MODSEQ of the account: what was lost may have told any below. */
    uint64_t after = open_modseq(world);
    assert_true(after > before + 5);
    assert_changed(world, after - 1, 5);
    assert_changed(world, after, 0);
    append(world, "INBOX", MESSAGE, 0, NULL, 0);
    free_ok(ask(world, on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 5, 5)));
    assert_vanished(world, 1, "2,5");
    assert_vanished(world, after - 1, "2,5");
    assert_vanished(world, after, "5");
}

/* Two of three disks are gone: nothing can be written, and what needs no writing goes on. */
static void test_deferring(void **state)
{
    struct world *world = *state;
    append(world, "INBOX", MESSAGE, 0, NULL, 0);
    for (uint32_t disk = 1; disk < 3; disk++)
        sp_sim_set_fault(world->disks, disk, SP_SIM_GONE);
    assert_int_equal(deliver(world, ALICE), SP_UNAVAILABLE);
    struct sp_request *request = on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 1, UINT32_MAX);
    request->expunge.deleted_only = true;
    assert_int_equal(ask_status(world, request), SP_OK);
    request = on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 1, UINT32_MAX);
    assert_int_equal(ask_status(world, request), SP_UNAVAILABLE);
    request = on_mailbox(world, SP_REQ_FETCH, "INBOX", 1, UINT32_MAX);
    request->fetch.want = SP_WANT_META;
    assert_int_equal(ask_status(world, request), SP_OK);
}

#define ON_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_WORLD(test_mailbox),      ON_WORLD(test_mailbox_list),       ON_WORLD(test_no_inbox),
        ON_WORLD(test_account_list), ON_WORLD(test_missing_body),       ON_WORLD(test_given_up),
        ON_WORLD(test_deferring),    ON_WORLD(test_shared_with_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
