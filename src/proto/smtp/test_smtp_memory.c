/* A whole conversation for each allocation in it, with that one failing: nothing leaks, nothing is
 * answered 250 that was not delivered, nothing is refused for good, what was put is dropped. */
#include "base/buf.h"
#include "base/log.h"
#include "proto/smtp/smtp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#define ALLOCATIONS_MAX 1000U

/* ---- The heap (the linker wraps it: see meson.build) ---- */

static bool counting;
static unsigned allocations, failing;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static bool fails(void)
{
    return counting && allocations++ == failing;
}
void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}
void *__wrap_realloc(void *memory, size_t size)
{
    return fails() ? NULL : __real_realloc(memory, size);
}

/* ---- The driver ---- */

struct outcome {
    unsigned delivered, said_delivered;
    int bodies; /* put, and neither delivered nor dropped */
};

static void answer(void *s, struct sp_request *request, struct outcome *outcome)
{
    counting = false; /* the memory of mail is another's */
    struct sp_reply *reply = sp_reply_new(request);
    assert_non_null(reply);
    if (request->type == SP_REQ_BODY_PUT) {
        reply->body = 1;
        outcome->bodies += !request->body.body;
    } else if (request->type == SP_REQ_BODY_DROP) {
        outcome->bodies--;
    } else if (request->type == SP_REQ_DELIVER) {
        reply->recipients = sp_arena_array(&reply->arena, request->deliver.recipients_count,
                                           sizeof *reply->recipients);
        assert_non_null(reply->recipients);
        outcome->bodies -= request->deliver.message.body != 0;
        outcome->delivered++;
    }
    counting = true;
    sp_smtp_ops.complete(s, reply, 0);
    sp_reply_free(reply);
    sp_request_free(request);
}

static void read_replies(struct sp_slice out, struct outcome *outcome)
{
    while (out.len) {
        size_t lf = sp_slice_find(out, '\n');
        assert_int_not_equal(lf, SIZE_MAX);
        outcome->said_delivered += sp_slice_starts_nocase(out, SP_S("250 2.0.0 Ok: stored"));
        /* Our trouble is 4xx. 500, 503 and 554 go to what was sent ahead of a 4xx. */
        assert_true(out.ptr[0] != '5' || sp_slice_starts_nocase(out, SP_S("500 5.5.")) ||
                    sp_slice_starts_nocase(out, SP_S("503 5.5.1 ")) ||
                    sp_slice_starts_nocase(out, SP_S("554 5.5.1 No valid recipients")));
        out = sp_slice_from(out, lf + 1);
    }
}

static void converse(void *s, struct sp_slice input, struct outcome *outcome)
{
    for (;;) {
        struct sp_request *request;
        while ((request = sp_smtp_ops.next(s)))
            answer(s, request, outcome);
        struct sp_slice out = sp_smtp_ops.send_buf(s);
        if (out.len) {
            read_replies(out, outcome);
            sp_smtp_ops.send_ack(s, out.len, 0);
            continue;
        }
        struct sp_slice_mut room = sp_smtp_ops.recv_buf(s);
        if (!room.len || !input.len)
            break;
        size_t n = input.len < room.len ? input.len : room.len;
        n = n > 3000 ? 3000 : n;
        memcpy(room.ptr, input.ptr, n);
        input = sp_slice_from(input, n);
        sp_smtp_ops.recv_ack(s, n, 0);
    }
    sp_smtp_ops.recv_eof(s, 0);
    struct sp_request *request;
    while ((request = sp_smtp_ops.next(s)))
        answer(s, request, outcome);
}

static struct sp_slice make_input(struct sp_buf *buf)
{
    static const char transaction[] = "MAIL FROM:<s@example.net>\r\nRCPT TO:<a@example.org>\r\n";
    sp_buf_add_str(buf, "EHLO client.example.net\r\n");
    for (int i = 0; i < 3; i++) {
        size_t len = i == 1 ? 300000 : 300;
        sp_buf_add_str(buf, transaction);
        if (i == 2)
            sp_buf_add_str(buf, "BDAT 300 LAST\r\n");
        else
            sp_buf_add_str(buf, "DATA\r\n");
        uint8_t *text = sp_buf_extend(buf, len);
        assert_non_null(text);
        memset(text, 'x', len);
        if (i < 2)
            sp_buf_add_str(buf, "\r\n.\r\n");
    }
    return sp_buf_slice(buf);
}

static uint64_t wall_ns(void)
{
    return 1764000000000000000U;
}

static void every_allocation_fails(void **state)
{
    static const struct sp_session_env env = {.hostname = "mx.example.org",
                                              .software = "Sternpost",
                                              .message_bytes_max = 1000000,
                                              .wall_ns = wall_ns};
    static const struct sp_session_peer peer = {.id = 1, .address = "192.0.2.1"};
    struct sp_buf buf;
    sp_buf_init(&buf, 1U << 20);
    struct sp_slice input = make_input(&buf);
    for (failing = 0;; failing++) {
        struct outcome outcome = {0};
        assert_true(failing < ALLOCATIONS_MAX);
        allocations = 0;
        counting = true;
        void *s = sp_smtp_new(SP_SMTP_MX, &env, &peer, 0);
        if (s) {
            converse(s, input, &outcome);
            sp_smtp_ops.free(s);
        }
        counting = false;
        assert_true(outcome.said_delivered <= outcome.delivered);
        assert_int_equal(outcome.bodies, 0);
        if (allocations <= failing) {
            assert_int_equal(outcome.said_delivered, 3);
            break;
        }
    }
    assert_true(failing > 20);
    sp_buf_release(&buf);
}

int main(void)
{
    sp_log_set_level(SP_LOG_ERROR);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
