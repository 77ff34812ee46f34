/* What transcripts do not show: who waits for whom, and how long. */
#include "base/log.h"
#include "proto/smtp/test_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static void feed(void *s, const char *text, size_t len)
{
    while (len) {
        struct sp_slice_mut room = sp_smtp_ops.recv_buf(s);
        if (!room.len)
            return;
        size_t n = len < room.len ? len : room.len;
        memcpy(room.ptr, text, n);
        sp_smtp_ops.recv_ack(s, n, 0);
        text += n;
        len -= n;
    }
}

static void test_back_pressure(void **state)
{
    struct fake fake = fake_make(SP_SMTP_MX);
    fake.env.message_bytes_max = 3 * SP_BODY_PIECE_MAX;
    void *s = fake_session(&fake, 0);
    static const char hello[] = "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\nDATA\r\n";
    feed(s, hello, sizeof hello - 1);
    struct sp_request *request = sp_smtp_ops.next(s);
    assert_non_null(request);
    struct sp_reply *reply = fake_answer(&fake, request);
    sp_smtp_ops.complete(s, reply, 0);
    sp_reply_free(reply);
    sp_request_free(request);

    /* Two pieces and the input buffer, then nothing more is read. */
    char *text = malloc(3 * SP_BODY_PIECE_MAX);
    assert_non_null(text);
    memset(text, 'x', 3 * SP_BODY_PIECE_MAX);
    feed(s, text, 3 * SP_BODY_PIECE_MAX);
    assert_int_equal(sp_smtp_ops.recv_buf(s).len, 0);
    assert_int_equal(sp_smtp_ops.want(s) & SP_WANT_READ, 0);
    request = sp_smtp_ops.next(s);
    assert_int_equal(request->type, SP_REQ_BODY_PUT);
    assert_int_equal(request->body.bytes.len, SP_BODY_PIECE_MAX);
    assert_null(sp_smtp_ops.next(s));
    reply = fake_answer(&fake, request);
    sp_smtp_ops.complete(s, reply, 0);
    sp_reply_free(reply);
    sp_request_free(request);
    assert_true(sp_smtp_ops.recv_buf(s).len > 0);
    sp_smtp_ops.free(s); /* with a request that nobody fetched, and a body: not lost, see smtp.h */
    free(text);
}

/* A request that nobody has fetched when the session ends is not made. */
static void test_unfetched_request(void **state)
{
    struct fake fake = fake_make(SP_SMTP_MX);
    void *s = fake_session(&fake, 0);
    static const char start[] = "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\n";
    feed(s, start, sizeof start - 1);
    sp_smtp_ops.shutdown(s, 0);
    assert_null(sp_smtp_ops.next(s));
    assert_int_equal(sp_smtp_ops.want(s), SP_WANT_WRITE | SP_WANT_CLOSE);
    assert_false(sp_smtp_ops.watch(s).active);
    sp_smtp_ops.free(s);
}

/* Replies that nobody reads stop the commands, not the server. */
static void test_unread_replies(void **state)
{
    struct fake fake = fake_make(SP_LMTP);
    void *s = fake_session(&fake, 0);
    static const char start[] = "LHLO x\r\nMAIL FROM:<>\r\n";
    feed(s, start, sizeof start - 1);
    /* Each is refused without a question to mail, and is not an error of the client's. */
    size_t sent = 0;
    for (size_t i = 0; i < 100000 && sp_smtp_ops.want(s) & SP_WANT_READ; i++) {
        static const char chunk[] = "BDAT 1\r\nx";
        feed(s, chunk, sizeof chunk - 1);
        sent = i;
    }
    assert_true(sent < 2000);
    assert_true(sp_smtp_ops.send_buf(s).len < SP_SMTP_OUTPUT_PAUSE + 512);
    sp_smtp_ops.tick(s, SP_SMTP_COMMAND_MS);
    assert_true(sp_smtp_ops.want(s) & SP_WANT_CLOSE);
    sp_smtp_ops.tick(s, SP_SMTP_COMMAND_MS + SP_SMTP_CLOSE_MS);
    assert_int_equal(sp_smtp_ops.want(s), SP_WANT_CLOSE);
    assert_int_equal(sp_smtp_ops.deadline_ms(s), UINT64_MAX);
    sp_smtp_ops.free(s);
}

/* The whole of the data must come within SP_SMTP_DATA_MS, however often a piece comes. */
static void test_trickle(void **state)
{
    for (int chunks = 0; chunks < 2; chunks++) {
        struct fake fake = fake_make(SP_SMTP_MX);
        void *s = fake_session(&fake, 0);
        static const char start[] = "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@example.org>\r\n";
        feed(s, start, sizeof start - 1);
        struct sp_request *request = sp_smtp_ops.next(s);
        struct sp_reply *reply = fake_answer(&fake, request);
        sp_smtp_ops.complete(s, reply, 0);
        sp_reply_free(reply);
        sp_request_free(request);
        feed(s, chunks ? "BDAT 9\r\n" : "DATA\r\nx", chunks ? 8 : 7);
        uint64_t now_ms = 0;
        while (!(sp_smtp_ops.want(s) & SP_WANT_CLOSE)) {
            now_ms += SP_SMTP_BLOCK_MS - 1;
            assert_true(now_ms < SP_SMTP_DATA_MS + SP_SMTP_BLOCK_MS);
            if (sp_smtp_ops.deadline_ms(s) <= now_ms) {
                sp_smtp_ops.tick(s, now_ms);
                continue;
            }
            static const char piece[] = "x23456789BDAT 9\r\n";
            struct sp_slice_mut room = sp_smtp_ops.recv_buf(s);
            size_t n = chunks ? sizeof piece - 1 : 1;
            memcpy(room.ptr, piece, n);
            sp_smtp_ops.recv_ack(s, n, now_ms);
            sp_smtp_ops.send_ack(s, sp_smtp_ops.send_buf(s).len, now_ms);
        }
        sp_smtp_ops.free(s);
    }
}

int main(void)
{
    sp_log_set_level(SP_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_unfetched_request),
        cmocka_unit_test(test_unread_replies),
        cmocka_unit_test(test_trickle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
