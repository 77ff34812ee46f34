/* An IMAP session, fed by somebody who wishes it ill, over a store that fails at times.
 *
 * The first byte says whether the client has logged in and selected a mailbox, and how the input is
 * cut; the second what fails and how the replies are cut; the rest is what the client sends. Bytes
 * from 0xf0 on are events: news, replies that come late, time.
 *
 * Checked: the output is made of whole responses, with literals as long as they say; there are not
 * more tagged ones than lines were sent, and after a command that is surely one there is exactly
 * one more; EXPUNGE, VANISHED and FETCH name messages that exist; after BYE there is at most
 * LOGOUT's response; a session that wants to close has nothing to say or to ask; bodies that were
 * put are used or dropped. */
#include "proto/imap/fake_mail.h"
#include "proto/imap/imap.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HELD_MAX 8U

struct watcher {
    struct sp_buf line;    /* of output that is not a whole response yet */
    uint64_t literal_left; /* of it */
    uint64_t exists;
    uint64_t tagged; /* responses that were not untagged */
    bool bye;
    uint64_t after_bye;
};

struct world {
    void *session;
    struct sp_fake_mail mail;
    struct watcher watcher;
    struct sp_reply *held[HELD_MAX];
    uint32_t held_count;
    bool late;
    bool disturbed; /* a reply was late, or a request failed */
    uint64_t now_ms;
    uint64_t lines; /* sent */
};

static uint64_t wall_ns(void)
{
    return 1764000000000000000U;
}

/* ---- Output ---- */

static bool number_at(struct sp_slice *line, uint64_t *ret)
{
    size_t n = 0;
    while (n < line->len && line->ptr[n] >= '0' && line->ptr[n] <= '9')
        n++;
    if (!n || sp_slice_u64(sp_slice_sub(*line, 0, n), UINT64_MAX, ret) != SP_OK)
        return false;
    *line = sp_slice_from(*line, n);
    return true;
}

/* "1:3,5": how many numbers. */
static uint64_t count_set(struct sp_slice set)
{
    uint64_t count = 0, first, last, before = 0;
    do {
        sp_assert(number_at(&set, &first) && first > before);
        last = first;
        if (set.len && set.ptr[0] == ':') {
            set = sp_slice_from(set, 1);
            sp_assert(number_at(&set, &last) && last > first);
        }
        count += last - first + 1;
        before = last;
        bool more = set.len && set.ptr[0] == ',';
        set = sp_slice_from(set, more);
        sp_assert(more || !set.len);
    } while (set.len);
    return count;
}

static void watch_vanished(struct watcher *w, struct sp_slice set)
{
    if (sp_slice_starts_nocase(set, SP_S("(EARLIER) "))) {
        (void)count_set(sp_slice_from(set, 10));
        return;
    }
    uint64_t count = count_set(set);
    sp_assert(count <= w->exists);
    w->exists -= count;
}

static void watch_response(struct watcher *w, struct sp_slice line)
{
    uint64_t number;
    sp_assert(line.len >= 2);
    w->after_bye += w->bye;
    sp_assert(w->after_bye <= 1);
    if (line.ptr[0] == '+' && line.ptr[1] == ' ')
        return;
    if (line.ptr[0] != '*' || line.ptr[1] != ' ') {
        w->tagged++;
        return;
    }
    line = sp_slice_from(line, 2);
    w->bye = w->bye || sp_slice_starts_nocase(line, SP_S("BYE "));
    if (sp_slice_starts_nocase(line, SP_S("VANISHED ")))
        watch_vanished(w, sp_slice_from(line, 9));
    if (!number_at(&line, &number))
        return;
    if (sp_slice_eq(line, SP_S(" EXISTS"))) {
        w->exists = number;
    } else if (sp_slice_eq(line, SP_S(" EXPUNGE"))) {
        sp_assert(number >= 1 && number <= w->exists);
        w->exists--;
    } else if (sp_slice_starts_nocase(line, SP_S(" UIDFETCH ("))) {
        sp_assert(number && line.ptr[line.len - 1] == ')' && line.len > 12);
    } else if (sp_slice_starts_nocase(line, SP_S(" FETCH ("))) {
        sp_assert(number >= 1 && number <= w->exists);
        sp_assert(line.ptr[line.len - 1] == ')' && line.len > 9);
    } else {
        sp_assert(sp_slice_eq(line, SP_S(" RECENT")) && number == 0);
    }
}

/* Whether the line announces a literal. */
static bool announces(struct sp_slice line, uint64_t *ret_bytes)
{
    size_t start = line.len;
    if (!line.len || line.ptr[line.len - 1] != '}')
        return false;
    while (start && line.ptr[start - 1] != '{')
        start--;
    return start &&
           sp_slice_u64(sp_slice_sub(line, start, line.len - 1), UINT32_MAX, ret_bytes) == SP_OK;
}

static void watch_output(struct watcher *w, struct sp_slice bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        if (w->literal_left) {
            w->literal_left--;
            continue;
        }
        sp_buf_add_byte(&w->line, bytes.ptr[i]);
        if (w->line.len < 2 || bytes.ptr[i] != '\n')
            continue;
        sp_assert(w->line.ptr[w->line.len - 2] == '\r');
        w->line.len -= 2;
        if (announces(sp_buf_slice(&w->line), &w->literal_left))
            continue;
        watch_response(w, sp_buf_slice(&w->line));
        sp_buf_reset(&w->line);
    }
    sp_assert(!sp_buf_failed(&w->line));
}

/* ---- The driver ---- */

static void complete(struct world *world, struct sp_reply *reply)
{
    sp_imap_ops.complete(world->session, reply, world->now_ms);
    sp_reply_free(reply);
}

static void release(struct world *world)
{
    uint32_t count = world->held_count;
    world->held_count = 0;
    for (uint32_t i = 0; i < count; i++)
        complete(world, world->held[i]);
}

/* Goes on until the session wants nothing but input. */
static void drive(struct world *world)
{
    struct sp_request *request;
    for (;;) {
        bool moved = false;
        while ((request = sp_imap_ops.next(world->session))) {
            struct sp_reply *reply = sp_fake_mail_answer(&world->mail, request);
            bool hold = world->late && world->held_count < HELD_MAX;
            sp_request_free(request);
            if (hold)
                world->held[world->held_count++] = reply;
            else
                complete(world, reply);
            moved = true;
        }
        struct sp_slice out = sp_imap_ops.send_buf(world->session);
        unsigned want = sp_imap_ops.want(world->session);
        sp_assert(!(want & SP_WANT_WRITE) == !out.len);
        if (out.len) {
            watch_output(&world->watcher, out);
            sp_imap_ops.send_ack(world->session, out.len, world->now_ms);
            moved = true;
        }
        if (want & SP_WANT_TLS) {
            sp_imap_ops.tls_done(world->session, world->now_ms);
            moved = true;
        }
        if (!moved)
            return;
    }
}

static bool is_open(struct world *world)
{
    return !(sp_imap_ops.want(world->session) & SP_WANT_CLOSE);
}

static void send(struct world *world, struct sp_slice bytes, size_t step)
{
    while (bytes.len && is_open(world)) {
        struct sp_slice_mut room = sp_imap_ops.recv_buf(world->session);
        sp_assert(!room.len == !(sp_imap_ops.want(world->session) & SP_WANT_READ));
        if (!room.len) {
            if (!world->held_count)
                return;
            release(world);
            drive(world);
            continue;
        }
        size_t n = bytes.len < room.len ? bytes.len : room.len;
        n = n < step ? n : step;
        memcpy(room.ptr, bytes.ptr, n);
        for (size_t i = 0; i < n; i++)
            world->lines += bytes.ptr[i] == '\n';
        sp_imap_ops.recv_ack(world->session, n, world->now_ms);
        bytes = sp_slice_from(bytes, n);
        drive(world);
    }
}

static void event(struct world *world, uint8_t which)
{
    static const enum sp_status statuses[] = {SP_OK,       SP_UNAVAILABLE, SP_NO_SPACE,
                                              SP_CONFLICT, SP_NOT_FOUND,   SP_DENIED,
                                              SP_LIMIT,    SP_INVALID};
    struct sp_fake_mailbox *inbox = sp_fake_mailbox(&world->mail, "INBOX");
    world->disturbed |= (which & 15) == 1 || (which & 15) > 9;
    static const char text[] = "Subject: new\r\nContent-Type: multipart/mixed; "
                               "boundary=x\r\n\r\n--x\r\n\r\none\r\n--x--\r\n";
    switch (which & 15) {
    case 0:
        sp_imap_ops.notify(world->session, world->now_ms);
        break;
    case 1:
        world->late = true;
        break;
    case 2:
        world->late = false;
        release(world);
        break;
    case 3:
        world->now_ms += 60000;
        sp_imap_ops.tick(world->session, world->now_ms);
        break;
    case 4:
        if (inbox && inbox->messages_count < 50)
            sp_fake_add_message(&world->mail, inbox, SP_S(text), 0, (struct sp_date){0});
        break;
    case 5:
        if (inbox && inbox->messages_count)
            sp_fake_expunge(&world->mail, inbox, inbox->messages[0].uid);
        break;
    case 6:
        if (inbox && inbox->messages_count)
            sp_fake_set_flags(&world->mail, inbox, inbox->messages[inbox->messages_count - 1].uid,
                              SP_FLAG_ANSWERED);
        break;
    case 7:
        for (unsigned i = 0; i < SP_REQ_TYPES; i++)
            world->mail.fail[i] = SP_OK;
        break;
    case 8:
        sp_imap_ops.shutdown(world->session, world->now_ms);
        break;
    case 9:
        world->mail.rows_max = 1;
        break;
    default:
        world->mail.fail[world->now_ms % SP_REQ_TYPES] = statuses[which & 7];
        break;
    }
    world->now_ms++;
    drive(world);
}

/* Whatever was begun is ended, unless it is a literal that is longer than this; then NOOP has one
 * response. */
static void end_command(struct world *world)
{
    send(world, SP_S("\r\nDONE\r\n*\r\n"), 100);
    drive(world);
    uint64_t tagged = world->watcher.tagged;
    send(world, SP_S("z1 NOOP\r\n"), 100);
    drive(world);
    bool literal = world->watcher.tagged == tagged;
    send(world, SP_S("z2 NOOP\r\n"), 100);
    drive(world);
    sp_assert(literal || !is_open(world) || world->watcher.tagged == tagged + 2);
}

static bool is_event(uint8_t byte)
{
    return byte >= 0xf0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[] = {1, 7, 1000, 100000};
    struct sp_session_env env = {.hostname = "mx.example.org",
                                 .software = "Sternpost 0.1",
                                 .tls_available = true,
                                 .message_bytes_max = 400000,
                                 .wall_ns = wall_ns};
    struct sp_session_peer peer = {.id = 1, .address = "192.0.2.1", .cleartext_ok = true};
    struct world world = {.now_ms = 1000};
    if (size < 2)
        return 0;
    sp_fake_mail_init(&world.mail);
    sp_fake_mail_reset(&world.mail);
    sp_buf_init(&world.watcher.line, 64U << 20);
    world.session = sp_imap_new(&env, &peer, world.now_ms);
    sp_assert(world.session);
    drive(&world);
    size_t step = steps[data[0] >> 1 & 3];
    if (data[0] & 1)
        send(&world, SP_S("a LOGIN alice@example.org secret\r\nb SELECT INBOX\r\n"), step);
    if (data[0] & 8)
        send(&world, SP_S("c ENABLE CONDSTORE\r\n"), step);
    if (data[1])
        world.mail.rows_max = data[1] & 3;
    if (data[1] & 4)
        sp_fake_mailbox(&world.mail, "INBOX")->messages[1].lost = true;
    if (data[1] & 8) {
        static uint8_t large[200000];
        memset(large, '\n', sizeof large);
        for (int i = 0; i < 2; i++)
            sp_fake_add_message(&world.mail, sp_fake_mailbox(&world.mail, "INBOX"),
                                sp_slice(large, sizeof large), 0, (struct sp_date){0});
        world.mail.pieces_until_lost = data[1] >> 4;
    }
    for (size_t at = 2; at < size && is_open(&world);) {
        size_t end = at;
        if (is_event(data[at])) {
            event(&world, data[at++]);
            continue;
        }
        while (end < size && !is_event(data[end]))
            end++;
        send(&world, sp_slice(data + at, end - at), step);
        at = end;
    }
    world.late = false;
    release(&world);
    drive(&world);
    sp_assert(world.watcher.tagged <=
              world.lines + 1); /* a line that is too long is answered before its end */
    end_command(&world);
    /* However it stands, the session can be brought to an end. */
    sp_imap_ops.recv_eof(world.session, world.now_ms);
    drive(&world);
    sp_assert(!is_open(&world));
    sp_assert(!sp_imap_ops.send_buf(world.session).len && !sp_imap_ops.next(world.session));
    sp_assert(world.disturbed || !sp_fake_bodies(&world.mail));
    sp_imap_ops.free(world.session);
    sp_buf_release(&world.watcher.line);
    sp_fake_mail_release(&world.mail);
    return 0;
}
