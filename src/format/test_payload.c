/* Each payload: there and back, and cut short at every length. */
#include "format/payload.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

static struct sp_slice keywords[] = {{(const uint8_t *)"$Junk", 5}, {(const uint8_t *)"", 0}};
static struct sp_span spans[] = {{1, 1}, {2, 9}, {11, 4294967295}, {1ULL << 62, INT64_MAX}};
static uint64_t lsns[] = {1, 300, INT64_MAX};

/* Writes the sample into buf when payload is NULL; else reads payload and writes what was read. */
typedef enum sp_status pass(const struct sp_slice *payload, struct sp_arena *arena,
                            struct sp_buf *buf);

/* static enum sp_status pass_NAME for a struct whose reader takes an arena, or not. */
#define PASS_ARENA(name, type, ...)                                                                \
    static enum sp_status pass_##name(const struct sp_slice *payload, struct sp_arena *arena,      \
                                      struct sp_buf *buf)                                          \
    {                                                                                              \
        struct type value = __VA_ARGS__;                                                           \
        enum sp_status status = payload ? type##_read(*payload, arena, &value) : SP_OK;            \
        if (status == SP_OK)                                                                       \
            type##_write(&value, buf);                                                             \
        return status;                                                                             \
    }
#define PASS(name, type, ...)                                                                      \
    static enum sp_status pass_##name(const struct sp_slice *payload, struct sp_arena *arena,      \
                                      struct sp_buf *buf)                                          \
    {                                                                                              \
        struct type value = __VA_ARGS__;                                                           \
        enum sp_status status = payload ? type##_read(*payload, &value) : SP_OK;                   \
        (void)arena;                                                                               \
        if (status == SP_OK)                                                                       \
            type##_write(&value, buf);                                                             \
        return status;                                                                             \
    }

PASS_ARENA(message, sp_message,
           {.uid = UINT32_MAX,
            .uidvalidity = 7,
            .modseq = INT64_MAX,
            .date_s = -12345678901,
            .zone_min = -720,
            .origin = SP_ORIGIN_IMPORT,
            .system_flags = 0x80000001,
            .keywords = {keywords, 2},
            .size = 1ULL << 40,
            .header_bytes = UINT32_MAX,
            .digest = {{1, 2, 3}},
            .bodies = {lsns, 3},
            .origin_id = SP_S("mbox:17"),
            .address = SP_S("anna@example.org"),
            .path = SP_S("INBOX/\xc3\x84"),
            .envelope = SP_S("(envelope)"),
            .bodystructure = SP_S("(bodystructure)"),
            .parts = SP_S("parts")})
PASS_ARENA(bare_message, sp_message, {.uid = 1})
PASS_ARENA(flags, sp_flags_change,
           {.modseq = 9,
            .op = SP_FLAGS_REPLACE,
            .system_flags = 31,
            .keywords = {keywords, 2},
            .uids = {spans, 4}})
PASS_ARENA(expunge, sp_expunge, {.modseq = 12, .uids = {spans + 1, 2}})
PASS_ARENA(catalogue, sp_catalogue,
           {.base = true,
            .uidvalidity = 3,
            .uidnext = UINT32_MAX,
            .highestmodseq = 1ULL << 60,
            .messages = 1000000,
            .path = SP_S("Sent"),
            .present = {spans, 4},
            .gone = {spans, 1}})
PASS(mailbox, sp_mailbox_record,
     {.id = 5,
      .uidvalidity = 6,
      .modseq = 7,
      .special_use = 8,
      .path = SP_S("new"),
      .old_path = SP_S("old"),
      .lead = 100})
PASS(subscribe, sp_subscribe, {.subscribed = true, .path = SP_S("Lists/a")})
PASS(acl, sp_acl_record,
     {.mailbox = 4,
      .grantee = {{7}},
      .negative = true,
      .merged = true,
      .rights = 0x7ff,
      .address = SP_S("bob@example.org")})
PASS(credential, sp_credential,
     {.argon2id = SP_S("$argon2id$v=19$..."),
      .scram_iterations = 4096,
      .scram_salt = SP_S("0123456789abcdef"),
      .scram_stored_key = SP_S("k"),
      .scram_server_key = SP_S("s")})
PASS(account, sp_account_record, {.id = {{1}}, .address = SP_S("anna@example.org"), .merged = true})
PASS(merge, sp_merge_record,
     {.gap = 1ULL << 40,
      .unit = {{3}},
      .branch = 10,
      .epoch_id = 9,
      .epoch_counter = 8,
      .lsn = 77,
      .complete = true})
PASS(domain, sp_domain_record, {.name = SP_S("example.org")})
PASS_ARENA(gap, sp_gap,
           {.lsns = {spans, 4},
            .modseq_skip = 1ULL << 40,
            .uidnext_skip = 1U << 20,
            .reason = SP_S("both disks lost"),
            .protects = true})

static struct sp_manifest_segment live[] = {{1, 0, 100, 1, 500, {{9}}},
                                            {2, 7, UINT32_MAX, 501, INT64_MAX, {{8}}}};
static struct sp_uuid erased[] = {{{1}}, {{2}}};
PASS_ARENA(manifest, sp_manifest,
           {.base = true,
            .live = live,
            .live_count = 2,
            .retired = live,
            .retired_count = 1,
            .erased = erased,
            .erased_count = 2})

PASS(guard, sp_guard_record,
     {.id = {{1}},
      .event = SP_GUARD_REQUESTED,
      .operation = 2,
      .approvals = 1,
      .uid = 1000,
      .cooling_ms = 86400000,
      .waited_ms = INT64_MAX,
      .subject_id = {{3}},
      .who = SP_S("alice"),
      .subject = SP_S("a"),
      .text = SP_S("12 segments on 2 other units")})

static struct sp_tail tails[] = {{{{1}}, 0, 0, 0, 7}, {{{1}}, 1, UINT32_MAX, 12, INT64_MAX}};
PASS_ARENA(tails, sp_tails, {.begins = true, .ends = true, .list = tails, .count = 2})

PASS_ARENA(dropped, sp_dropped,
           {.modseq = 1ULL << 50, .uidnext = 10, .uids = {spans, 2}, .lsns = {spans, 4}})
PASS(clock, sp_clock_record, {.elapsed_ms = 3600000})
PASS_ARENA(erase, sp_erase,
           {.account = {{1}},
            .mailbox = 3,
            .uids = {spans, 3},
            .who = SP_S("root"),
            .why = SP_S("court order 17")})

static const struct {
    const char *name;
    pass *pass;
    bool arrays;
    size_t later; /* bytes at the end that the first writers did not write */
} types[] = {
    {"message", pass_message, true, 0},
    {"bare message", pass_bare_message, false, 0},
    {"flags", pass_flags, true, 0},
    {"expunge", pass_expunge, true, 0},
    {"catalogue", pass_catalogue, true, 0},
    {"mailbox", pass_mailbox, false, 1},
    {"subscribe", pass_subscribe, false, 0},
    {"credential", pass_credential, false, 0},
    {"account", pass_account, false, 1},
    {"domain", pass_domain, false, 0},
    {"manifest", pass_manifest, true, 0},
    {"gap", pass_gap, true, 1},
    {"tails", pass_tails, true, 0},
    {"merge", pass_merge, false, 0},
    {"guard", pass_guard, false, 0},
    {"dropped", pass_dropped, true, 0},
    {"clock", pass_clock, false, 0},
    {"erase", pass_erase, true, 0},
    {"acl", pass_acl, false, 0},
};

static void test_round_trips(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct sp_buf sample, again;
        struct sp_arena arena;
        sp_buf_init(&sample, 10000);
        sp_buf_init(&again, 10000);
        sp_arena_init(&arena, 1U << 20);
        assert_int_equal(types[i].pass(NULL, &arena, &sample), SP_OK);
        struct sp_slice payload = sp_buf_slice(&sample);
        assert_int_equal(types[i].pass(&payload, &arena, &again), SP_OK);
        assert_true(sp_slice_eq(sp_buf_slice(&again), payload));

        /* Fields of a later version are passed over. */
        sp_buf_add_str(&sample, "later");
        payload = sp_buf_slice(&sample);
        sp_buf_reset(&again);
        assert_int_equal(types[i].pass(&payload, &arena, &again), SP_OK);
        payload.len -= 5;
        assert_true(sp_slice_eq(sp_buf_slice(&again), payload));

        /* Cut at every length; memory of just that size, so that reading on would be noticed. */
        for (size_t len = 0; len < payload.len; len++) {
            uint8_t *exact = malloc(len ? len : 1);
            assert_non_null(exact);
            memcpy(exact, payload.ptr, len);
            struct sp_slice cut = sp_slice(exact, len);
            assert_int_equal(types[i].pass(&cut, &arena, &again),
                             types[i].later && len == payload.len - types[i].later ? SP_OK
                                                                                   : SP_CORRUPT);
            free(exact);
        }

        /* No room for the arrays. */
        struct sp_arena none;
        sp_arena_init(&none, 0);
        assert_int_equal(types[i].pass(&payload, &none, &again),
                         types[i].arrays ? SP_NO_MEMORY : SP_OK);
        sp_arena_release(&none);
        sp_arena_release(&arena);
        sp_buf_release(&sample);
        sp_buf_release(&again);
    }
}

static void test_message_fields(void **state)
{
    (void)state;
    struct sp_buf buf;
    struct sp_arena arena;
    struct sp_message m;
    sp_buf_init(&buf, 10000);
    sp_arena_init(&arena, 10000);
    assert_int_equal(pass_message(NULL, &arena, &buf), SP_OK);
    assert_int_equal(sp_message_read(sp_buf_slice(&buf), &arena, &m), SP_OK);
    assert_true(m.uid == UINT32_MAX && m.uidvalidity == 7 && m.modseq == INT64_MAX &&
                m.date_s == -12345678901 && m.zone_min == -720 && m.origin == SP_ORIGIN_IMPORT &&
                m.system_flags == 0x80000001 && m.size == 1ULL << 40 &&
                m.header_bytes == UINT32_MAX);
    assert_int_equal(m.bodies.count, 3);
    assert_memory_equal(m.bodies.ptr, lsns, sizeof lsns);
    assert_int_equal(m.keywords.count, 2);
    assert_true(sp_slice_eq(m.keywords.ptr[0], SP_S("$Junk")) && m.keywords.ptr[1].len == 0);
    assert_true(sp_slice_eq(m.address, SP_S("anna@example.org")));
    assert_true(sp_slice_eq(m.envelope, SP_S("(envelope)")));
    assert_true(sp_slice_eq(m.bodystructure, SP_S("(bodystructure)")));
    assert_true(sp_slice_eq(m.parts, SP_S("parts")) && sp_slice_eq(m.origin_id, SP_S("mbox:17")));
    sp_arena_release(&arena);
    sp_buf_release(&buf);
}

static void test_spans(void **state)
{
    (void)state;
    static const struct {
        struct sp_slice bytes; /* after the modseq */
        enum sp_status status;
    } cases[] = {
        {SP_S("\0"), SP_OK},
        {SP_S("\1\0\0"), SP_OK},
        {SP_S("\2\1\0\1\0"), SP_OK},
        {SP_S("\2\1\5\0\0"), SP_CORRUPT}, /* overlaps */
        {SP_S("\1\1\xff\xff\xff\xff\xff\xff\xff\xff\xff\1"), SP_CORRUPT},
        {SP_S("\2\1\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x81\x80\x80\x80\x80\x80\x80\x80\x80\1\0"),
         SP_CORRUPT},
        {SP_S("\xff\xff\xff\xff\x0f"), SP_CORRUPT}, /* a count that lies */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sp_buf buf;
        struct sp_arena arena;
        struct sp_expunge expunge;
        sp_buf_init(&buf, 1000);
        sp_arena_init(&arena, 1000);
        sp_buf_add_u64(&buf, 1);
        sp_buf_add(&buf, cases[i].bytes);
        assert_int_equal(sp_expunge_read(sp_buf_slice(&buf), &arena, &expunge), cases[i].status);
        sp_arena_release(&arena);
        sp_buf_release(&buf);
    }
}

static void test_body_head(void **state)
{
    (void)state;
    uint8_t bytes[SP_BODY_HEAD_BYTES];
    struct sp_body_head want = {.codec = SP_CODEC_ZSTD,
                                .raw_bytes = 0x0102030405060708,
                                .digest = {{5, 6, 7}}},
                        got;
    sp_body_head_write(&want, bytes);
    assert_int_equal(sp_body_head_read(sp_slice(bytes, sizeof bytes), &got), SP_OK);
    assert_true(got.codec == want.codec && got.cipher == 0 && got.raw_bytes == want.raw_bytes);
    assert_memory_equal(got.digest.bytes, want.digest.bytes, SP_DIGEST_BYTES);
    for (size_t len = 0; len < sizeof bytes; len++)
        assert_int_equal(sp_body_head_read(sp_slice(bytes, len), &got), SP_CORRUPT);
    bytes[0] = 2;
    assert_int_equal(sp_body_head_read(sp_slice(bytes, sizeof bytes), &got), SP_UNSUPPORTED);
    bytes[0] = 0;
    bytes[1] = 1;
    assert_int_equal(sp_body_head_read(sp_slice(bytes, sizeof bytes), &got), SP_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_message_fields),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_body_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
