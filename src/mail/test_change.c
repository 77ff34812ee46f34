/* What changes messages: STORE, EXPUNGE, COPY, MOVE, APPEND; and SYNC, which tells of it. */
#include "mail/test_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#define MESSAGE    SP_S("Subject: x\r\n\r\nbody\r\n")
#define KEYWORD(i) (1ULL << (SP_FLAG_KEYWORD_0 + (i)))

static void fill(struct world *world, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        append(world, "INBOX", MESSAGE, 0, NULL, 0);
}

static struct sp_request *store_request(struct world *world, enum sp_store_op op, uint32_t first,
                                        uint32_t last, uint32_t system, const char *keyword)
{
    struct sp_request *request = on_mailbox(world, SP_REQ_STORE, "INBOX", first, last);
    request->store.op = op;
    request->store.flags.system = system;
    if (keyword) {
        request->store.flags.keywords = sp_arena_alloc(&request->arena, sizeof(struct sp_slice));
        request->store.flags.keywords[0] = text(request, keyword);
        request->store.flags.keywords_count = 1;
    }
    return request;
}

/* The MODSEQ of the change, 0 for none. */
static uint64_t store(struct world *world, enum sp_store_op op, uint32_t first, uint32_t last,
                      uint32_t system, const char *keyword)
{
    struct sp_reply *reply = ask(world, store_request(world, op, first, last, system, keyword));
    uint64_t modseq = reply->modseq;
    free_ok(reply);
    return modseq;
}

static struct sp_mailbox_info status_of(struct world *world, const char *mailbox)
{
    struct sp_request *request = request_new(world, SP_REQ_MAILBOX_STATUS);
    request->name = text(request, mailbox);
    struct sp_reply *reply = ask(world, request);
    struct sp_mailbox_info info = *reply->mailboxes;
    info.name = (struct sp_slice){NULL, 0};
    free_ok(reply);
    return info;
}

static void test_store(void **state)
{
    struct world *world = *state;
    fill(world, 5);
    uint64_t first = store(world, SP_STORE_ADD, 1, 5, SP_FLAG_SEEN, NULL);
    assert_true(first > 0);
    assert_int_equal(store(world, SP_STORE_ADD, 1, 5, SP_FLAG_SEEN, NULL), 0);
    assert_int_equal(store(world, SP_STORE_ADD, 9, 12, SP_FLAG_SEEN, NULL), 0);
    assert_int_equal(status_of(world, "INBOX").unseen, 0);
    assert_int_equal(store(world, SP_STORE_ADD, 2, 3, 0, "Work"), first + 1);
    assert_int_equal(store(world, SP_STORE_ADD, 3, 3, SP_FLAG_DELETED, "work"), first + 2);
    assert_int_equal(flags_of(world, "INBOX", 3), SP_FLAG_SEEN | SP_FLAG_DELETED | KEYWORD(0));
    assert_int_equal(store(world, SP_STORE_REMOVE, 1, 5, 0, "unknown"), 0);
    assert_int_equal(store(world, SP_STORE_REMOVE, 1, 5, SP_FLAG_SEEN, "WORK"), first + 3);
    assert_int_equal(flags_of(world, "INBOX", 3), SP_FLAG_DELETED);
    assert_int_equal(store(world, SP_STORE_REPLACE, 1, 5, SP_FLAG_DRAFT, "two"), first + 4);
    for (uint32_t uid = 1; uid <= 5; uid++)
        assert_int_equal(flags_of(world, "INBOX", uid), SP_FLAG_DRAFT | KEYWORD(1));
    assert_int_equal(store(world, SP_STORE_REPLACE, 1, 5, SP_FLAG_DRAFT, "two"), 0);
    assert_int_equal(store(world, SP_STORE_REPLACE, 4, 4, 0, NULL), first + 5);
    assert_int_equal(status_of(world, "INBOX").highestmodseq, first + 5);
    assert_int_equal(status_of(world, "INBOX").unseen, 5);
    assert_int_equal(ask_status(world, store_request(world, SP_STORE_ADD, 1, 1, 0, "a b")),
                     SP_INVALID);
    world_restart(world, true);
    assert_int_equal(flags_of(world, "INBOX", 5), SP_FLAG_DRAFT | KEYWORD(1));
    assert_int_equal(flags_of(world, "INBOX", 4), 0);
}

/* What a session needs to know of a STORE beside its MODSEQ. */
static void test_store_reply(void **state)
{
    struct world *world = *state;
    fill(world, 4);
    uint64_t before = status_of(world, "INBOX").highestmodseq;
    append(world, "Sent", MESSAGE, 0, NULL, 0);
    struct sp_reply *reply =
        ask(world, store_request(world, SP_STORE_ADD, 3, 6, SP_FLAG_SEEN, NULL));
    assert_int_equal(reply->previous_modseq, before);
    assert_int_equal(reply->modseq, before + 2);
    assert_int_equal(reply->missing, 2);
    free_ok(reply);
}

static void test_unchanged_since(void **state)
{
    struct world *world = *state;
    fill(world, 4);
    uint64_t before = status_of(world, "INBOX").highestmodseq;
    store(world, SP_STORE_ADD, 2, 3, SP_FLAG_FLAGGED, NULL);
    struct sp_request *request = store_request(world, SP_STORE_ADD, 1, 9, SP_FLAG_SEEN, NULL);
    request->store.has_unchanged_since = true;
    request->store.unchanged_since = before;
    struct sp_reply *reply = ask(world, request);
    assert_ranges(reply->failed, "2:3");
    assert_int_equal(reply->modseq, before + 2);
    free_ok(reply);
    assert_int_equal(flags_of(world, "INBOX", 1), SP_FLAG_SEEN);
    assert_int_equal(flags_of(world, "INBOX", 2), SP_FLAG_FLAGGED);
    request = store_request(world, SP_STORE_ADD, 1, 9, SP_FLAG_DELETED, NULL);
    request->store.has_unchanged_since = true;
    reply = ask(world, request);
    assert_ranges(reply->failed, "1:4");
    assert_int_equal(reply->modseq, 0);
    free_ok(reply);
}

static void test_keywords_limit(void **state)
{
    struct world *world = *state;
    char name[16];
    fill(world, 1);
    for (uint32_t i = 0; i < SP_KEYWORDS_MAX; i++) {
        snprintf(name, sizeof name, "k%u", i);
        assert_true(store(world, SP_STORE_ADD, 1, 1, 0, name) > 0);
    }
    assert_int_equal(flags_of(world, "INBOX", 1), ~0ULL << SP_FLAG_KEYWORD_0);
    assert_int_equal(ask_status(world, store_request(world, SP_STORE_ADD, 1, 1, 0, "more")),
                     SP_LIMIT);
    assert_true(store(world, SP_STORE_REPLACE, 1, 1, 0, "K55") > 0);
    assert_int_equal(flags_of(world, "INBOX", 1), KEYWORD(55));
    /* A copy brings only those that are set. */
    struct sp_request *request = on_mailbox(world, SP_REQ_COPY, "INBOX", 1, 1);
    request->name = text(request, "Sent");
    free_ok(ask(world, request));
    assert_int_equal(flags_of(world, "Sent", 1), KEYWORD(0));
    append(world, "Trash", MESSAGE, 0, "mine", 0);
    for (uint32_t i = 0; i < SP_KEYWORDS_MAX; i++) {
        snprintf(name, sizeof name, "k%u", i);
        store(world, SP_STORE_ADD, 1, 1, 0, name);
    }
    /* With one of its own the target has no room for all: the last one is left out. So it is with
     * what arrives. */
    for (uint32_t i = 0; i < 2; i++) {
        request = on_mailbox(world, SP_REQ_COPY, "INBOX", 1, 1);
        request->name = text(request, "Trash");
        request->copy.move = i == 1;
        free_ok(ask(world, request));
    }
    assert_int_equal(append(world, "Trash", MESSAGE, SP_FLAG_SEEN, "more", 0), 4);
    assert_int_equal(append(world, "Trash", MESSAGE, 0, "K3", 0), 5);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(flags_of(world, "Trash", 1), KEYWORD(0));
        assert_int_equal(flags_of(world, "Trash", 2), ~0ULL << (SP_FLAG_KEYWORD_0 + 1));
        assert_int_equal(flags_of(world, "Trash", 3), ~0ULL << (SP_FLAG_KEYWORD_0 + 1));
        assert_int_equal(flags_of(world, "Trash", 4), SP_FLAG_SEEN);
        assert_int_equal(flags_of(world, "Trash", 5), KEYWORD(4));
        world_restart(world, true);
    }
}

static struct sp_reply *fetch_text(struct world *world, uint32_t uid, uint64_t offset,
                                   struct sp_slice rest)
{
    static struct sp_section section = {.kind = SP_SECTION_TEXT, .length = UINT64_MAX};
    struct sp_request *request = on_mailbox(world, SP_REQ_FETCH, "INBOX", uid, uid);
    section.offset = offset;
    request->fetch.sections = &section;
    request->fetch.sections_count = 1;
    request->fetch.rest = rest;
    return ask(world, request);
}

/* The first piece of a section is on its way to a client when the message is expunged. */
static void test_rest_of_what_is_gone(void **state)
{
    static const struct {
        uint32_t uid;
        bool changed;
        enum sp_status status;
    } table[] = {{1, false, SP_OK}, {1, true, SP_INVALID}, {2, false, SP_INVALID}};
    static uint8_t bytes[200000], kept[4096];
    const char header[] = "Subject: x\r\n\r\n";
    struct world *world = *state;
    sp_random_bytes(bytes, sizeof bytes);
    memcpy(bytes, header, strlen(header));
    for (int i = 0; i < 2; i++)
        append(world, "INBOX", sp_slice(bytes, sizeof bytes), 0, NULL, 0);
    struct sp_reply *reply = fetch_text(world, 1, 0, (struct sp_slice){NULL, 0});
    assert_int_equal(reply->rows_count, 1);
    struct sp_slice rest = reply->rows[0].sections->rest;
    assert_true(rest.len && rest.len <= sizeof kept);
    memcpy(kept, rest.ptr, rest.len);
    rest.ptr = kept;
    sp_reply_free(reply);
    free_ok(ask(world, on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 1, 2)));

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        kept[20] ^= table[i].changed;
        reply = fetch_text(world, table[i].uid, 100000, rest);
        assert_int_equal(reply->status, table[i].status);
        assert_int_equal(reply->rows_count, table[i].status == SP_OK);
        if (table[i].status == SP_OK)
            assert_true(
                sp_slice_eq(reply->rows[0].sections->bytes,
                            sp_slice(bytes + strlen(header) + 100000, SP_SECTION_PIECE_MAX)));
        sp_reply_free(reply);
        kept[20] ^= table[i].changed;
    }
    /* Without it, the message is just not there. */
    reply = fetch_text(world, 1, 100000, (struct sp_slice){NULL, 0});
    assert_int_equal(reply->rows_count, 0);
    free_ok(reply);
}

static void test_expunge(void **state)
{
    struct world *world = *state;
    fill(world, 8);
    store(world, SP_STORE_ADD, 2, 3, SP_FLAG_DELETED, NULL);
    store(world, SP_STORE_ADD, 7, 7, SP_FLAG_DELETED, NULL);
    assert_int_equal(status_of(world, "INBOX").deleted, 3);
    struct sp_request *request = on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 1, 6);
    request->expunge.deleted_only = true;
    struct sp_reply *reply = ask(world, request);
    assert_ranges(reply->ranges, "2:3");
    uint64_t modseq = reply->modseq;
    free_ok(reply);
    request = on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 1, 6);
    request->expunge.deleted_only = true;
    reply = ask(world, request);
    assert_ranges(reply->ranges, "");
    assert_int_equal(reply->modseq, 0);
    free_ok(reply);
    reply = ask(world, on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 6, UINT32_MAX));
    assert_ranges(reply->ranges, "6:8");
    assert_int_equal(reply->modseq, modseq + 1);
    free_ok(reply);
    struct sp_mailbox_info info = status_of(world, "INBOX");
    assert_int_equal(info.messages, 3);
    assert_int_equal(info.size, 3 * MESSAGE.len);
    assert_int_equal(info.uidnext, 9);
    world_restart(world, true);
    info = status_of(world, "INBOX");
    assert_int_equal(info.messages, 3);
    assert_int_equal(append(world, "INBOX", MESSAGE, 0, NULL, 0), 9);
}

static void test_copy(void **state)
{
    struct world *world = *state;
    for (uint32_t i = 0; i < 4; i++)
        append(world, "INBOX", MESSAGE, i % 2 ? SP_FLAG_SEEN : 0, i == 1 ? "Work" : NULL, 1000 + i);
    append(world, "Archive", MESSAGE, 0, "Other", 0);
    struct sp_request *request = on_mailbox(world, SP_REQ_COPY, "INBOX", 2, 9);
    request->name = text(request, "Archive");
    struct sp_volume_status before, after;
    sp_volume_status(world->volume, &before);
    struct sp_reply *reply = ask(world, request);
    assert_ranges(reply->ranges, "2:4");
    assert_ranges(reply->new_ranges, "2:4");
    assert_int_equal(reply->uidvalidity, status_of(world, "Archive").uidvalidity);
    free_ok(reply);
    sp_volume_status(world->volume, &after);
    assert_int_equal(after.end.lsn, before.end.lsn + 3); /* messages alone: the bodies are shared */
    assert_int_equal(flags_of(world, "Archive", 2), SP_FLAG_SEEN | KEYWORD(1));
    assert_int_equal(status_of(world, "INBOX").messages, 4);

    request = on_mailbox(world, SP_REQ_COPY, "INBOX", 1, 2);
    request->name = text(request, "Archive");
    request->copy.move = true;
    reply = ask(world, request);
    assert_ranges(reply->new_ranges, "5:6");
    free_ok(reply);
    assert_int_equal(status_of(world, "INBOX").messages, 2);
    /* Onto itself. */
    request = on_mailbox(world, SP_REQ_COPY, "INBOX", 1, 9);
    request->name = text(request, "INBOX");
    request->copy.move = true;
    reply = ask(world, request);
    assert_ranges(reply->ranges, "3:4");
    assert_ranges(reply->new_ranges, "5:6");
    free_ok(reply);

    request = on_mailbox(world, SP_REQ_FETCH, "Archive", 6, 6);
    struct sp_section section = {.kind = SP_SECTION_ALL, .length = UINT64_MAX};
    request->fetch.want = SP_WANT_META;
    request->fetch.sections = &section;
    request->fetch.sections_count = 1;
    reply = ask(world, request);
    assert_int_equal(reply->rows[0].date.unix_s, 1001);
    assert_int_equal(reply->rows[0].date.zone_min, 60);
    assert_true(sp_slice_eq(reply->rows[0].sections->bytes, MESSAGE));
    free_ok(reply);

    request = on_mailbox(world, SP_REQ_COPY, "INBOX", 5, 6);
    request->name = text(request, "nowhere");
    assert_int_equal(ask_status(world, request), SP_NOT_FOUND);
    request = on_mailbox(world, SP_REQ_COPY, "INBOX", 5, 6);
    request->name = text(request, "no//where");
    assert_int_equal(ask_status(world, request), SP_INVALID);
    for (uint32_t first = 4; first <= 5; first++) { /* 4 is gone */
        request = on_mailbox(world, SP_REQ_COPY, "INBOX", first, 6);
        request->name = text(request, "Drafts");
        request->copy.whole = true;
        reply = ask(world, request);
        assert_int_equal(reply->missing, first == 4);
        free_ok(reply);
        assert_int_equal(status_of(world, "Drafts").messages, first == 4 ? 0 : 2);
    }
    request = on_mailbox(world, SP_REQ_COPY, "INBOX", 1, 2);
    request->name = text(request, "Archive");
    reply = ask(world, request);
    assert_ranges(reply->new_ranges, "");
    free_ok(reply);
    request = on_mailbox(world, SP_REQ_COPY, "INBOX", 5, 5);
    request->mailbox.uidvalidity++;
    request->name = text(request, "Archive");
    assert_int_equal(ask_status(world, request), SP_CONFLICT);
}

static void test_append(void **state)
{
    struct world *world = *state;
    for (int i = 0; i < 2; i++) {
        struct sp_request *request = request_new(world, SP_REQ_APPEND);
        struct sp_append *messages = sp_arena_array(&request->arena, 3, sizeof *messages);
        struct sp_slice keyword = SP_S("bad keyword");
        for (int k = 0; k < 3; k++)
            messages[k].message.bytes = MESSAGE;
        if (i == 0) /* the last one is refused: none is there */
            messages[2].flags = (struct sp_flag_set){0, &keyword, 1};
        request->name = text(request, "Sent");
        request->append.messages = messages;
        request->append.messages_count = 3;
        struct sp_reply *reply = ask(world, request);
        assert_int_equal(reply->status, i == 0 ? SP_INVALID : SP_OK);
        if (i)
            assert_ranges(reply->new_ranges, "1:3");
        sp_reply_free(reply);
        assert_int_equal(status_of(world, "Sent").messages, i == 0 ? 0 : 3);
    }
    struct sp_request *request = request_new(world, SP_REQ_APPEND);
    struct sp_append message = {.message.bytes = MESSAGE};
    request->name = text(request, "nowhere");
    request->append.messages = &message;
    request->append.messages_count = 1;
    assert_int_equal(ask_status(world, request), SP_NOT_FOUND);
    request = request_new(world, SP_REQ_APPEND);
    request->name = text(request, "no//where");
    request->append.messages = &message;
    request->append.messages_count = 1;
    assert_int_equal(ask_status(world, request), SP_INVALID);
}

/* ---- SYNC ---- */

struct known {
    uint64_t modseq;
    uint32_t uidnext;
};

/* Asks what is new since, holds it against what is expected, and takes it over. changed: "uid:flags
 * ..." */
static void assert_sync(struct world *world, struct known *known, const char *fresh,
                        const char *changed, const char *gone)
{
    char rows[256] = "";
    size_t at = 0;
    struct sp_request *request = request_new(world, SP_REQ_SYNC);
    request->mailbox = open_mailbox(world, "INBOX");
    request->sync.since_modseq = known->modseq;
    request->sync.uidnext = known->uidnext;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    assert_ranges(reply->ranges, fresh);
    assert_ranges(reply->gone, gone);
    for (uint32_t i = 0; i < reply->rows_count; i++)
        at += (size_t)snprintf(rows + at, sizeof rows - at, "%s%u:%llx", i ? " " : "",
                               reply->rows[i].uid, (unsigned long long)reply->rows[i].flags);
    assert_string_equal(rows, changed);
    assert_false(reply->more);
    known->modseq = reply->mailboxes->highestmodseq;
    known->uidnext = reply->mailboxes->uidnext;
    sp_reply_free(reply);
}

static void test_sync(void **state)
{
    struct world *world = *state;
    struct sp_mailbox_info info = status_of(world, "INBOX");
    struct known known = {info.highestmodseq, info.uidnext}, start = known;
    assert_sync(world, &known, "", "", "");
    fill(world, 200);
    assert_sync(world, &known, "1:200", "", "");
    assert_sync(world, &known, "", "", "");
    store(world, SP_STORE_ADD, 70, 71, SP_FLAG_SEEN, NULL);
    store(world, SP_STORE_ADD, 150, 150, 0, "Work");
    assert_sync(world, &known, "", "70:1 71:1 150:100", "");
    free_ok(ask(world, on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 100, 199)));
    free_ok(ask(world, on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 2, 3)));
    free_ok(ask(world, on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 4, 4)));
    fill(world, 2);
    store(world, SP_STORE_ADD, 202, 202, SP_FLAG_SEEN, NULL);
    free_ok(ask(world, on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 201, 201)));
    assert_sync(world, &known, "202", "", "2:4,100:199");
    assert_sync(world, &known, "", "", "");
    store(world, SP_STORE_REPLACE, 1, 1, SP_FLAG_DRAFT, NULL);
    world_restart(world, true);
    assert_sync(world, &known, "", "1:10", "");
    assert_sync(world, &start, "1,5:99,200,202", "", "");
}

/* What was expunged after a MODSEQ, of the UIDs below uidnext. */
static void assert_gone(struct world *world, uint64_t since, uint32_t uidnext, const char *gone)
{
    struct sp_request *request = request_new(world, SP_REQ_SYNC);
    request->mailbox = open_mailbox(world, "INBOX");
    request->sync.since_modseq = since;
    request->sync.uidnext = uidnext;
    request->sync.after_uid = UINT32_MAX;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    assert_int_equal(reply->rows_count, 0);
    assert_ranges(reply->gone, gone);
    sp_reply_free(reply);
}

/* RFC 7162, 3.2: each expunge has its MODSEQ, also in an index that was made from the log. */
static void test_vanished(void **state)
{
    struct world *world = *state;
    uint64_t modseq[4];
    fill(world, 20);
    modseq[0] = status_of(world, "INBOX").highestmodseq;
    for (uint32_t i = 1; i < 4; i++) {
        store(world, SP_STORE_ADD, 20, 20, i, NULL);
        free_ok(ask(world, on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 15 - 4 * i, 16 - 4 * i)));
        modseq[i] = status_of(world, "INBOX").highestmodseq;
    }
    for (int round = 0; round < 3; round++) {
        assert_gone(world, 1, 21, "3:4,7:8,11:12");
        assert_gone(world, modseq[0], 21, "3:4,7:8,11:12");
        assert_gone(world, modseq[1] - 1, 21, "3:4,7:8,11:12");
        assert_gone(world, modseq[1], 21, "3:4,7:8");
        assert_gone(world, modseq[1], 8, "3:4,7");
        assert_gone(world, modseq[2], 21, "3:4");
        assert_gone(world, modseq[3], 21, "");
        assert_gone(world, INT64_MAX, 21, "");
        world_restart(world, round > 0);
    }
}

/* So many messages, a multiple of 500. */
static void append_many(struct world *world, uint32_t total)
{
    for (uint32_t done = 0; done < total; done += 500) {
        struct sp_request *request = request_new(world, SP_REQ_APPEND);
        request->name = text(request, "INBOX");
        request->append.messages = sp_arena_array(&request->arena, 500, sizeof(struct sp_append));
        request->append.messages_count = 500;
        for (uint32_t i = 0; i < 500; i++)
            request->append.messages[i].message.bytes = MESSAGE;
        free_ok(ask(world, request));
    }
}

/* Too many to name one by one: what is not there is named, whatever the client asks for. */
static void test_vanished_too_many(void **state)
{
    struct world *world = *state;
    const uint32_t total = 17000;
    append_many(world, total);
    free_ok(ask(world, on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 1, 100)));
    uint64_t since = status_of(world, "INBOX").highestmodseq;
    struct sp_request *request = on_mailbox(world, SP_REQ_EXPUNGE, "INBOX", 1, 1);
    request->ranges.ptr = sp_arena_array(&request->arena, total, sizeof *request->ranges.ptr);
    request->ranges.count = 0;
    for (uint32_t uid = 200; uid <= total; uid += 2)
        request->ranges.ptr[request->ranges.count++] = (struct sp_uid_range){uid, uid};
    free_ok(ask(world, request));
    request = request_new(world, SP_REQ_SYNC);
    request->mailbox = open_mailbox(world, "INBOX");
    request->sync.since_modseq = since;
    request->sync.uidnext = total + 1;
    request->sync.after_uid = UINT32_MAX;
    struct sp_reply *reply = ask(world, request);
    assert_int_equal(reply->status, SP_OK);
    assert_int_equal(reply->gone.count, 1 + (total - 198) / 2);
    assert_int_equal(reply->gone.ptr[0].last, 100);
    assert_int_equal(reply->gone.ptr[1].first, 200);
    assert_int_equal(reply->gone.ptr[reply->gone.count - 1].last, total);
    sp_reply_free(reply);
    assert_gone(world, status_of(world, "INBOX").highestmodseq, total + 1, "");
}

static void test_sync_pages(void **state)
{
    struct world *world = *state;
    const uint32_t total = 9000;
    struct sp_mailbox_info info = status_of(world, "INBOX");
    append_many(world, total);
    uint64_t since = status_of(world, "INBOX").highestmodseq;
    store(world, SP_STORE_ADD, 1, total, SP_FLAG_SEEN, NULL);
    uint32_t next = 1, pages = 0;
    bool more = true;
    while (more) {
        struct sp_request *request = request_new(world, SP_REQ_SYNC);
        request->mailbox = open_mailbox(world, "INBOX");
        request->sync.since_modseq = since;
        request->sync.uidnext = total + 1;
        request->sync.after_uid = next - 1;
        struct sp_reply *reply = ask(world, request);
        for (uint32_t i = 0; i < reply->rows_count; i++)
            assert_int_equal(reply->rows[i].uid, next++);
        more = reply->more;
        pages++;
        free_ok(reply);
    }
    assert_int_equal(next, total + 1);
    assert_int_equal(pages, 2);
    assert_true(info.highestmodseq < since);
}

/* ---- Many at once ---- */

#define THREADS 3U
#define ROUNDS  25U

static void *work(void *context)
{
    struct world *world = context;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t uid = append(world, "INBOX", MESSAGE, 0, "mine", 0);
        store(world, SP_STORE_ADD, uid, uid, SP_FLAG_SEEN, NULL);
        struct sp_request *request = on_mailbox(world, SP_REQ_COPY, "INBOX", uid, uid);
        request->name = text(request, "Archive");
        request->copy.move = i % 2;
        free_ok(ask(world, request));
        struct sp_section section = {.kind = SP_SECTION_ALL, .length = UINT64_MAX};
        request = on_mailbox(world, SP_REQ_FETCH, "INBOX", 1, UINT32_MAX);
        request->fetch.sections = &section;
        request->fetch.sections_count = 1;
        struct sp_reply *reply = ask(world, request);
        for (uint32_t k = 0; k < reply->rows_count; k++)
            assert_true(sp_slice_eq(reply->rows[k].sections->bytes, MESSAGE));
        free_ok(reply);
    }
    return NULL;
}

static void test_concurrent(void **state)
{
    struct world *world = *state;
    pthread_t threads[THREADS];
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, world), 0);
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        struct sp_mailbox_info inbox = status_of(world, "INBOX"),
                               archive = status_of(world, "Archive");
        assert_int_equal(inbox.uidnext, THREADS * ROUNDS + 1);
        assert_int_equal(inbox.messages, THREADS * (ROUNDS - ROUNDS / 2));
        assert_int_equal(inbox.unseen, 0);
        assert_int_equal(archive.messages, THREADS * ROUNDS);
        world_restart(world, true);
    }
}

#define ON_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_WORLD(test_store),
        ON_WORLD(test_store_reply),
        ON_WORLD(test_unchanged_since),
        ON_WORLD(test_keywords_limit),
        ON_WORLD(test_expunge),
        ON_WORLD(test_rest_of_what_is_gone),
        ON_WORLD(test_copy),
        ON_WORLD(test_append),
        ON_WORLD(test_sync),
        ON_WORLD(test_vanished),
        ON_WORLD(test_vanished_too_many),
        ON_WORLD(test_sync_pages),
        ON_WORLD(test_concurrent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
