/* SORT, and the keys that SORT and THREAD need (RFC 5256). */
#include "mail/body_read.h"
#include "mail/match.h"
#include "mail/search.h"

#include <stdlib.h>

#define BATCH_MESSAGES 512U
#define SCRATCH_BYTES  (16U << 20)

struct collect {
    struct sp_op *op;
    unsigned need;
    struct sp_uid_ranges ranges;
    uint32_t next_uid;
    struct sp_arena scratch; /* of a batch */
    struct sp_buf decoded, base, folded;
    struct sp_bytes bytes;
    struct sp_sort_entry *entries;
    uint32_t count, capacity;
    struct sp_item *items; /* of this batch: whose headers are to be read */
};

/* Decoded and folded, in the operation's arena. False: no memory. */
static bool keep_folded(struct collect *collect, struct sp_slice utf8, struct sp_slice *ret)
{
    sp_buf_reset(&collect->folded);
    sp_mime_fold(utf8, &collect->folded);
    *ret = sp_arena_copy(&collect->op->arena, sp_buf_slice(&collect->folded));
    return ret->ptr || !collect->folded.len;
}

static struct sp_slice decode(struct collect *collect, struct sp_slice raw)
{
    if (sp_is_ascii(raw) && (raw.len < 2 || !memmem(raw.ptr, raw.len, "=?", 2)))
        return raw;
    sp_buf_reset(&collect->decoded);
    sp_mime_decode_header(raw, &collect->decoded);
    return sp_buf_slice(&collect->decoded);
}

static bool keep_subject(struct collect *collect, struct sp_slice raw, struct sp_sort_entry *entry)
{
    sp_buf_reset(&collect->base);
    sp_mime_base_subject(decode(collect, raw), &collect->base, &entry->reply);
    return keep_folded(collect, sp_buf_slice(&collect->base), &entry->subject);
}

static bool keep_address(struct collect *collect, const struct sp_mime_address *list,
                         uint32_t count, struct sp_slice *ret)
{
    return !count || keep_folded(collect, decode(collect, list[0].mailbox), ret);
}

static bool keep_raw(struct collect *collect, struct sp_slice raw, struct sp_slice *ret)
{
    *ret = sp_arena_copy(&collect->op->arena, raw);
    return ret->ptr || !raw.len;
}

static enum sp_status fill_entry(struct collect *collect, const struct sp_message *message,
                                 struct sp_sort_entry *entry)
{
    struct sp_mime_envelope_wire envelope;
    int64_t sent;
    int zone;
    bool kept = true;
    entry->arrival = entry->sent = message->date_s;
    entry->size = message->size;
    if (!collect->need)
        return SP_OK;
    enum sp_status status =
        collect->need & SP_NEED_ADDRESSES
            ? sp_mime_read_envelope(message->envelope, &collect->scratch, &envelope)
            : sp_mime_read_envelope_text(message->envelope, &collect->scratch, &envelope);
    if (status)
        return status;
    if (collect->need & SP_NEED_SENT && sp_mime_parse_date(envelope.date, &sent, &zone) == SP_OK)
        entry->sent = sent;
    if (collect->need & SP_NEED_SUBJECT)
        kept = keep_subject(collect, envelope.subject, entry);
    if (kept && collect->need & SP_NEED_ADDRESSES)
        kept = keep_address(collect, envelope.from, envelope.from_count, &entry->from) &&
               keep_address(collect, envelope.to, envelope.to_count, &entry->to) &&
               keep_address(collect, envelope.cc, envelope.cc_count, &entry->cc);
    if (kept && collect->need & SP_NEED_REFERENCES) {
        size_t end = sp_slice_find(envelope.in_reply_to, '>'); /* only its first id counts */
        struct sp_slice first =
            sp_slice_sub(envelope.in_reply_to, 0, end == SIZE_MAX ? 0 : end + 1);
        kept = keep_raw(collect, envelope.message_id, &entry->message_id) &&
               keep_raw(collect, first, &entry->references);
    }
    return kept ? SP_OK : SP_NO_MEMORY;
}

static enum sp_status add_entry(struct collect *collect, struct sp_read *read,
                                struct sp_message_cursor *cursor, uint32_t uid, uint32_t in_batch)
{
    struct sp_message message;
    struct sp_slice payload;
    uint64_t lsn, time_ns;
    enum sp_status status = sp_message_cursor_get(cursor, uid, &payload, &lsn, &time_ns);
    if (status == SP_OK)
        status = sp_message_read(payload, &collect->scratch, &message);
    if (status)
        return status == SP_NOT_FOUND ? SP_CORRUPT : status;
    collect->entries = sp_arena_grow(&collect->op->arena, collect->entries, collect->count,
                                     &collect->capacity, sizeof *collect->entries);
    if (!collect->entries)
        return SP_NO_MEMORY;
    struct sp_sort_entry *entry = &collect->entries[collect->count++];
    *entry = (struct sp_sort_entry){.uid = uid};
    status = fill_entry(collect, &message, entry);
    if (status == SP_OK && collect->need & SP_NEED_REFERENCES)
        status = sp_item_load(read, &message, &collect->scratch, &collect->items[in_batch]);
    return status;
}

/* For as many as there can be, at once. What does not fit after all, for want of memory, is found
 * when it is added. */
static void make_room(struct collect *collect, uint32_t messages)
{
    uint64_t found = 0;
    for (uint32_t i = 0; i < collect->ranges.count; i++)
        found += (uint64_t)collect->ranges.ptr[i].last - collect->ranges.ptr[i].first + 1;
    collect->capacity = found < messages ? (uint32_t)found : messages;
    collect->entries =
        sp_arena_array(&collect->op->arena, collect->capacity, sizeof *collect->entries);
    if (!collect->entries)
        collect->capacity = 0;
}

/* SP_EOF: that was the last. */
static enum sp_status walk_batch(struct collect *collect, struct sp_read *read)
{
    struct sp_mailbox mailbox;
    struct sp_message_cursor cursor;
    struct sp_range_walk walk;
    struct sp_flag_row row;
    enum sp_status status = sp_op_mailbox(collect->op, read, 0, &mailbox);
    if (status == SP_OK)
        status = sp_message_cursor_open(read, &mailbox.account, mailbox.row.id, &cursor);
    if (status)
        return status;
    if (!collect->entries)
        make_room(collect, mailbox.row.messages);
    sp_range_walk_init(&walk, read, &mailbox, collect->ranges, 0);
    walk.from = collect->next_uid;
    for (uint32_t i = 0; status == SP_OK && i < BATCH_MESSAGES; i++) {
        status = sp_range_walk_next(&walk, &row);
        if (status == SP_OK)
            status = add_entry(collect, read, &cursor, row.uid, i);
        if (status == SP_OK && row.uid == UINT32_MAX)
            status = SP_EOF;
        else if (status == SP_OK)
            collect->next_uid = row.uid + 1;
    }
    sp_range_walk_end(&walk);
    sp_message_cursor_close(&cursor);
    return status;
}

/* The References field is in no ENVELOPE. A header that cannot be read has none. */
static enum sp_status read_references(struct collect *collect, const struct sp_item *item,
                                      struct sp_sort_entry *entry)
{
    struct sp_slice header;
    struct sp_mime_field field;
    uint64_t len = item->header_bytes < SP_BYTES_MAX ? item->header_bytes : SP_BYTES_MAX;
    enum sp_status status = sp_bytes_get(&collect->bytes, item, 0, len, &header);
    if (status)
        return status == SP_NO_MEMORY ? status : SP_OK;
    while (sp_mime_next_field(&header, &field)) {
        if (!sp_slice_eq_nocase(field.name, SP_S("References")) ||
            sp_slice_find(field.body, '<') == SIZE_MAX)
            continue;
        return keep_raw(collect, field.body, &entry->references) ? SP_OK : SP_NO_MEMORY;
    }
    return SP_OK;
}

static enum sp_status run_batch(struct collect *collect, bool *ret_last)
{
    struct sp_read read;
    uint32_t first = collect->count;
    collect->items = sp_arena_array(&collect->scratch, BATCH_MESSAGES, sizeof *collect->items);
    if (!collect->items)
        return SP_NO_MEMORY;
    enum sp_status status = sp_read_begin(collect->op->mail->index, &read);
    if (status)
        return status;
    status = walk_batch(collect, &read);
    sp_read_end(&read);
    *ret_last = status == SP_EOF;
    if (status == SP_EOF)
        status = SP_OK;
    for (uint32_t i = first;
         status == SP_OK && collect->need & SP_NEED_REFERENCES && i < collect->count; i++)
        status = read_references(collect, &collect->items[i - first], &collect->entries[i]);
    sp_arena_release(&collect->scratch);
    return status;
}

enum sp_status sp_sort_entries(struct sp_op *op, struct sp_uid_ranges ranges, unsigned need,
                               struct sp_sort_entry **ret_entries, uint32_t *ret_count)
{
    struct collect collect = {.op = op, .need = need, .ranges = ranges};
    enum sp_status status = SP_OK;
    bool last = false;
    sp_arena_init(&collect.scratch, SCRATCH_BYTES);
    sp_buf_init(&collect.decoded, SP_MATCH_TEXT_MAX);
    sp_buf_init(&collect.base, SP_MATCH_TEXT_MAX);
    sp_buf_init(&collect.folded, 4 * SP_MATCH_TEXT_MAX);
    sp_bytes_init(&collect.bytes, op->mail);
    while (status == SP_OK && !last)
        status = sp_op_cancelled(op) ? SP_UNAVAILABLE : run_batch(&collect, &last);
    sp_bytes_release(&collect.bytes);
    sp_buf_release(&collect.folded);
    sp_buf_release(&collect.base);
    sp_buf_release(&collect.decoded);
    sp_arena_release(&collect.scratch);
    *ret_entries = collect.entries;
    *ret_count = collect.count;
    return status;
}

/* ---- SORT ---- */

static int compare_numbers(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_times(int64_t a, int64_t b)
{
    return a < b ? -1 : a > b;
}

static uint8_t upper(uint8_t c)
{
    return c >= 'a' && c <= 'z' ? (uint8_t)(c - 'a' + 'A') : c;
}

/* The keys are folded to small letters, the collation orders by capital ones: "_" and "[" come
 * after the letters (RFC 4790, 9.2; RFC 5051, 2). */
static int compare_text(struct sp_slice a, struct sp_slice b)
{
    for (size_t i = 0; i < a.len && i < b.len; i++) {
        if (a.ptr[i] != b.ptr[i])
            return upper(a.ptr[i]) < upper(b.ptr[i]) ? -1 : 1;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

static int compare_key(enum sp_sort_key key, const struct sp_sort_entry *a,
                       const struct sp_sort_entry *b)
{
    switch (key) {
    case SP_SORT_ARRIVAL:
        return compare_times(a->arrival, b->arrival);
    case SP_SORT_CC:
        return compare_text(a->cc, b->cc);
    case SP_SORT_DATE:
        return compare_times(a->sent, b->sent);
    case SP_SORT_FROM:
        return compare_text(a->from, b->from);
    case SP_SORT_SIZE:
        return compare_numbers(a->size, b->size);
    case SP_SORT_SUBJECT:
        return compare_text(a->subject, b->subject);
    case SP_SORT_TO:
        return compare_text(a->to, b->to);
    }
    return 0;
}

static int compare_entries(const void *a, const void *b, void *context)
{
    const struct sp_request *request = context;
    const struct sp_sort_entry *x = a, *y = b;
    for (uint32_t i = 0; i < request->search.sort_count; i++) {
        uint8_t key = request->search.sort[i];
        int order = compare_key((enum sp_sort_key)(key & ~SP_SORT_REVERSE), x, y);
        if (order)
            return key & SP_SORT_REVERSE ? -order : order;
    }
    return compare_numbers(x->uid, y->uid);
}

enum sp_status sp_op_sort(struct sp_op *op, struct sp_uid_ranges found)
{
    static const unsigned needs[] = {[SP_SORT_ARRIVAL] = 0,
                                     [SP_SORT_CC] = SP_NEED_ADDRESSES,
                                     [SP_SORT_DATE] = SP_NEED_SENT,
                                     [SP_SORT_FROM] = SP_NEED_ADDRESSES,
                                     [SP_SORT_SIZE] = 0,
                                     [SP_SORT_SUBJECT] = SP_NEED_SUBJECT,
                                     [SP_SORT_TO] = SP_NEED_ADDRESSES};
    struct sp_request *request = op->request;
    struct sp_sort_entry *entries;
    uint32_t count;
    unsigned need = 0;
    for (uint32_t i = 0; i < request->search.sort_count; i++) {
        unsigned key = request->search.sort[i] & ~SP_SORT_REVERSE;
        if (key >= sizeof needs / sizeof *needs)
            return SP_INVALID;
        need |= needs[key];
    }
    enum sp_status status = sp_sort_entries(op, found, need, &entries, &count);
    if (status)
        return status;
    if (count)
        qsort_r(entries, count, sizeof *entries, compare_entries, request);
    op->reply->uids = sp_arena_array(&op->reply->arena, count, sizeof *op->reply->uids);
    if (!op->reply->uids)
        return SP_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        op->reply->uids[i] = entries[i].uid;
    op->reply->uids_count = count;
    return SP_OK;
}
