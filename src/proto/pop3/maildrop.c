/* What is in the maildrop, and what goes out of it at QUIT. */
#include "proto/pop3/internal.h"

bool pop3_number(struct sp_pop3 *s, struct sp_slice digits, uint32_t *ret_number)
{
    uint64_t number = 0;
    if (sp_slice_u64(sp_slice_trim(digits), UINT32_MAX, &number) != SP_OK || number == 0 ||
        number > s->drop->count) {
        pop3_error(s, "There is no such message");
        return false;
    }
    if (s->drop->messages[number - 1].deleted) {
        pop3_error(s, "The message is deleted");
        return false;
    }
    *ret_number = (uint32_t)number - 1;
    return true;
}

void pop3_stat(struct sp_pop3 *s, struct sp_slice args)
{
    (void)args;
    pop3_say(s, "+OK %u %llu", (unsigned)s->drop->left, (unsigned long long)s->drop->left_bytes);
}

/* ---- LIST and UIDL ---- */

static void add_line(struct sp_pop3 *s, uint32_t number, bool uidl)
{
    static const char hex[] = "0123456789abcdef";
    const struct pop3_message *message = &s->drop->messages[number];
    sp_buf_add_decimal(&s->out, number + 1);
    sp_buf_add_byte(&s->out, ' ');
    if (!uidl) {
        sp_buf_add_decimal(&s->out, message->size);
    } else {
        for (size_t i = 0; i < sizeof message->id; i++) {
            sp_buf_add_byte(&s->out, (uint8_t)hex[message->id[i] >> 4]);
            sp_buf_add_byte(&s->out, (uint8_t)hex[message->id[i] & 15]);
        }
    }
    sp_buf_add(&s->out, SP_S("\r\n"));
}

void pop3_list_more(struct sp_pop3 *s)
{
    struct pop3_drop *drop = s->drop;
    while (drop->at < drop->count && s->out.len - s->out_at < SP_POP3_OUTPUT_PAUSE) {
        if (!drop->messages[drop->at].deleted)
            add_line(s, drop->at, drop->uidl);
        drop->at++;
    }
    if (drop->at < drop->count)
        return;
    pop3_say(s, ".");
    s->mode = MODE_COMMAND;
}

static void list(struct sp_pop3 *s, struct sp_slice args, bool uidl)
{
    uint32_t number;
    if (sp_slice_trim(args).len) {
        if (!pop3_number(s, args, &number))
            return;
        sp_buf_add(&s->out, SP_S("+OK "));
        add_line(s, number, uidl);
        return;
    }
    if (uidl)
        pop3_say(s, "+OK Unique-id listing follows");
    else
        pop3_say(s, "+OK %u messages (%llu octets)", (unsigned)s->drop->left,
                 (unsigned long long)s->drop->left_bytes);
    s->drop->at = 0;
    s->drop->uidl = uidl;
    s->mode = MODE_LIST;
}

void pop3_list(struct sp_pop3 *s, struct sp_slice args)
{
    list(s, args, false);
}

void pop3_uidl(struct sp_pop3 *s, struct sp_slice args)
{
    list(s, args, true);
}

/* ---- Deleting ---- */

void pop3_dele(struct sp_pop3 *s, struct sp_slice args)
{
    uint32_t number;
    if (!pop3_number(s, args, &number))
        return;
    struct pop3_message *message = &s->drop->messages[number];
    message->deleted = true;
    s->drop->left--;
    s->drop->left_bytes -= message->size;
    pop3_say(s, "+OK Deleted at QUIT");
}

void pop3_rset(struct sp_pop3 *s, struct sp_slice args)
{
    struct pop3_drop *drop = s->drop;
    (void)args;
    drop->left = drop->count;
    drop->left_bytes = 0;
    for (uint32_t i = 0; i < drop->count; i++) {
        drop->messages[i].deleted = false;
        drop->left_bytes += drop->messages[i].size;
    }
    pop3_say(s, "+OK Maildrop has %u messages (%llu octets)", (unsigned)drop->left,
             (unsigned long long)drop->left_bytes);
}

/* ---- QUIT ---- */

static bool is_marked(const struct pop3_message *message, bool deleted)
{
    return deleted ? message->deleted : message->fetched && !message->deleted;
}

/* The UIDs of the messages so marked, as ranges in the request; false: no memory. */
static bool mark_ranges(const struct pop3_drop *drop, bool deleted, struct sp_request *request)
{
    uint32_t runs = 0;
    bool before = false;
    for (uint32_t i = 0; i < drop->count; i++) {
        bool now = is_marked(&drop->messages[i], deleted);
        runs += now && !before;
        before = now;
    }
    /* A run of messages may have gaps between its UIDs: these name nothing that is there, or what
     * came after the login and is not ours to touch. So a gap ends a range, too. */
    for (uint32_t i = 1; i < drop->count; i++)
        runs += is_marked(&drop->messages[i - 1], deleted) &&
                is_marked(&drop->messages[i], deleted) &&
                drop->messages[i].uid != drop->messages[i - 1].uid + 1;
    struct sp_uid_range *ranges = sp_arena_array(&request->arena, runs, sizeof *ranges);
    if (runs && !ranges)
        return false;
    uint32_t count = 0;
    for (uint32_t i = 0; i < drop->count; i++) {
        uint32_t uid = drop->messages[i].uid;
        if (!is_marked(&drop->messages[i], deleted))
            continue;
        if (count && ranges[count - 1].last + 1 == uid)
            ranges[count - 1].last = uid;
        else
            ranges[count++] = (struct sp_uid_range){uid, uid};
    }
    request->mailbox = drop->mailbox;
    request->account = drop->mailbox.account;
    request->ranges = (struct sp_uid_ranges){ranges, count};
    return true;
}

static void quit_step(struct sp_pop3 *s);

/* Whether they could be marked as read or not: only a convenience. */
static void on_seen(struct sp_pop3 *s, const struct sp_reply *reply)
{
    (void)reply;
    quit_step(s);
}

static void on_removed(struct sp_pop3 *s, const struct sp_reply *reply)
{
    s->drop->remove_failed = reply->status != SP_OK;
    quit_step(s);
}

static void on_lock_given_back(struct sp_pop3 *s, const struct sp_reply *reply)
{
    (void)reply; /* the end of the session gives it back as well */
    pop3_close(s, s->drop->remove_failed ? "-ERR [SYS/TEMP] Some deleted messages were not removed"
                                         : "+OK Bye");
}

static uint32_t marked(const struct pop3_drop *drop, bool deleted)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < drop->count; i++)
        count += is_marked(&drop->messages[i], deleted);
    return count;
}

/* What is still to be done before the last answer, one request after another. */
static void quit_step(struct sp_pop3 *s)
{
    struct pop3_drop *drop = s->drop;
    bool seen = !drop->unseen_done && marked(drop, false);
    bool remove = !seen && !drop->removed && marked(drop, true);
    struct sp_request *request = pop3_request(s, seen     ? SP_REQ_STORE
                                                 : remove ? SP_REQ_EXPUNGE
                                                          : SP_REQ_MAILDROP);
    if (!request)
        return;
    drop->unseen_done = true;
    if (seen || remove) {
        if (!mark_ranges(drop, remove, request)) {
            pop3_give_up(s, request);
            return;
        }
    }
    if (seen) {
        request->store.op = SP_STORE_ADD;
        request->store.flags.system = SP_FLAG_SEEN;
        pop3_ask(s, request, on_seen);
    } else if (remove) {
        drop->removed = true;
        pop3_ask(s, request, on_removed);
    } else {
        request->account = drop->mailbox.account;
        request->maildrop.hold = false;
        pop3_ask(s, request, on_lock_given_back);
    }
}

void pop3_quit(struct sp_pop3 *s, struct sp_slice args)
{
    (void)args;
    if (s->drop)
        quit_step(s);
    else
        pop3_close(s, "+OK Bye");
}
