/* RETR and TOP: a message goes out a few pieces at a time, as the client takes it. */
#include "proto/pop3/internal.h"

#define PIECES_AT_ONCE 4U

/* ---- Octets into lines ---- */

/* A line of the message has ended. */
static void end_line(struct pop3_send *send)
{
    if (send->in_body && !send->whole && send->lines-- <= 1)
        send->enough = true;
    if (!send->in_body && send->blank) {
        send->in_body = true;
        send->enough = !send->whole && send->lines == 0;
    }
    send->line_begins = send->blank = true;
}

static void add_octets(struct sp_pop3 *s, struct sp_slice bytes)
{
    struct pop3_send *send = &s->send;
    size_t i = 0;
    while (i < bytes.len && !send->enough) {
        const uint8_t *lf = memchr(bytes.ptr + i, '\n', bytes.len - i);
        size_t end = lf ? (size_t)(lf - bytes.ptr) : bytes.len; /* of this line, without LF */
        size_t len = end - i;
        if (len && send->line_begins && bytes.ptr[i] == '.')
            sp_buf_add_byte(&s->out, '.');
        if (len) {
            sp_buf_add(&s->out, sp_slice(bytes.ptr + i, len));
            send->line_begins = false;
            send->cr = bytes.ptr[end - 1] == '\r';
            send->blank = send->blank && len == 1 && send->cr;
        }
        if (!lf)
            return;
        if (!send->cr)
            sp_buf_add_byte(&s->out, '\r');
        sp_buf_add_byte(&s->out, '\n');
        send->cr = false;
        end_line(send);
        i = end + 1;
    }
}

static void end_message(struct sp_pop3 *s)
{
    struct pop3_send *send = &s->send;
    if (!send->line_begins && !send->enough)
        sp_buf_add(&s->out, send->cr ? SP_S("\n") : SP_S("\r\n"));
    sp_buf_add(&s->out, SP_S(".\r\n"));
    s->drop->messages[send->number].fetched |= send->whole;
    s->mode = MODE_COMMAND;
}

/* ---- Asking ---- */

/* Before its first line went out there is an answer to give; later the connection has to end, or
 * the client would take a part for the whole. */
static void fail_message(struct sp_pop3 *s, const struct sp_reply *reply)
{
    if (s->send.begun) {
        pop3_close(s, NULL);
        return;
    }
    s->mode = MODE_COMMAND;
    if (reply->status == SP_OK || reply->status == SP_NOT_FOUND)
        pop3_say(s, "-ERR The message is gone, another session has expunged it");
    else
        pop3_refuse(s, reply);
}

static void begin_message(struct sp_pop3 *s, uint64_t size)
{
    s->send.size = size;
    s->send.begun = true;
    if (s->send.whole)
        pop3_say(s, "+OK %llu octets", (unsigned long long)size);
    else
        pop3_say(s, "+OK Top of message follows");
}

static void on_pieces(struct sp_pop3 *s, const struct sp_reply *reply)
{
    struct pop3_send *send = &s->send;
    if (reply->status != SP_OK || reply->rows_count != 1 || !reply->rows[0].sections) {
        fail_message(s, reply);
        return;
    }
    for (uint32_t i = 0; i < PIECES_AT_ONCE && !send->enough; i++) {
        const struct sp_fetch_section *piece = &reply->rows[0].sections[i];
        if (i && send->done >= send->size)
            break;
        if (piece->status == SP_OK && !send->begun)
            begin_message(s, s->drop->messages[send->number].size);
        uint64_t expected = send->size - send->done;
        if (expected > SP_SECTION_PIECE_MAX)
            expected = SP_SECTION_PIECE_MAX;
        if (piece->status != SP_OK || piece->bytes.len != expected) {
            if (!send->begun)
                pop3_say(s, "-ERR [SYS/TEMP] The message is not available at present");
            if (!send->begun)
                s->mode = MODE_COMMAND;
            else
                pop3_close(s, NULL);
            return;
        }
        add_octets(s, piece->bytes);
        send->done += piece->bytes.len;
    }
    if (send->enough || send->done >= send->size)
        end_message(s);
}

void pop3_send_more(struct sp_pop3 *s)
{
    struct sp_request *request = pop3_request(s, SP_REQ_FETCH);
    if (!request)
        return;
    struct sp_uid_range *uid = sp_arena_alloc(&request->arena, sizeof *uid);
    struct sp_section *pieces = sp_arena_array(&request->arena, PIECES_AT_ONCE, sizeof *pieces);
    if (!uid || !pieces) {
        pop3_give_up(s, request);
        return;
    }
    const struct pop3_message *message = &s->drop->messages[s->send.number];
    *uid = (struct sp_uid_range){message->uid, message->uid};
    for (uint32_t i = 0; i < PIECES_AT_ONCE; i++)
        pieces[i] = (struct sp_section){.kind = SP_SECTION_ALL,
                                        .offset = s->send.done + i * SP_SECTION_PIECE_MAX,
                                        .length = SP_SECTION_PIECE_MAX};
    request->mailbox = s->drop->mailbox;
    request->account = s->drop->mailbox.account;
    request->ranges = (struct sp_uid_ranges){uid, 1};
    request->fetch.want = SP_WANT_FLAGS;
    request->fetch.sections = pieces;
    request->fetch.sections_count = PIECES_AT_ONCE;
    pop3_ask(s, request, on_pieces);
}

/* ---- The commands ---- */

static void begin(struct sp_pop3 *s, uint32_t number, bool whole, uint64_t lines)
{
    s->send = (struct pop3_send){
        .number = number, .whole = whole, .lines = lines, .line_begins = true, .blank = true};
    s->mode = MODE_SEND;
}

void pop3_retr(struct sp_pop3 *s, struct sp_slice args)
{
    uint32_t number;
    if (pop3_number(s, args, &number))
        begin(s, number, true, 0);
}

void pop3_top(struct sp_pop3 *s, struct sp_slice args)
{
    uint32_t number;
    uint64_t lines = 0;
    args = sp_slice_trim(args);
    size_t end = sp_slice_find(args, ' ');
    if (end == SIZE_MAX ||
        sp_slice_u64(sp_slice_trim(sp_slice_from(args, end + 1)), UINT32_MAX, &lines) != SP_OK) {
        pop3_error(s, "TOP takes a message and a number of lines");
        return;
    }
    if (pop3_number(s, sp_slice_sub(args, 0, end), &number))
        begin(s, number, false, lines);
}
