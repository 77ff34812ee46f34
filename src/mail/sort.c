/* SORT, and the keys that SORT and THREAD need (RFC 5256): as the search file has them, or computed
 * where it has none yet. */
#include "mail/body_read.h"
#include "mail/search.h"

#include <stdlib.h>

#define BATCH_MESSAGES 512U  /* whose keys are computed between two looks at the index */
#define BATCH_WALKED   8192U /* ... and gone through */
#define SCRATCH_BYTES  (16U << 20)

struct collect {
    struct sp_op *op;
    unsigned need;
    struct sp_uid_ranges ranges;
    uint32_t next_uid;
    struct sp_arena scratch; /* of a batch */
    struct sp_sort_maker maker;
    struct sp_bytes bytes;
    struct sp_sort_entry *entries;
    uint32_t count, capacity;
    struct todo { /* of this batch: whose headers are to be read */
        uint32_t entry;
        struct sp_item item;
    } * todo;
    uint32_t todo_count;
};

static bool keep(struct collect *collect, bool wanted, struct sp_slice *slice)
{
    if (!wanted || !slice->len) {
        *slice = (struct sp_slice){NULL, 0};
        return true;
    }
    *slice = sp_arena_copy(&collect->op->arena, *slice);
    return slice->ptr != NULL;
}

/* What the search file says, copied out of its map. False: no memory. */
static bool keep_entry(struct collect *collect, struct sp_sort_entry *entry)
{
    bool addresses = collect->need & SP_NEED_ADDRESSES,
         references = collect->need & SP_NEED_REFERENCES;
    return keep(collect, collect->need & SP_NEED_SUBJECT, &entry->subject) &&
           keep(collect, addresses, &entry->from) && keep(collect, addresses, &entry->to) &&
           keep(collect, addresses, &entry->cc) && keep(collect, references, &entry->id) &&
           keep(collect, references, &entry->references);
}

static enum sp_status make_entry(struct collect *collect, struct sp_read *read,
                                 struct sp_message_cursor *cursor, struct sp_sort_entry *entry)
{
    struct sp_message message;
    struct sp_slice payload;
    uint64_t lsn, time_ns;
    enum sp_status status = sp_message_cursor_get(cursor, entry->uid, &payload, &lsn, &time_ns);
    if (status == SP_OK)
        status = sp_message_read(payload, &collect->scratch, &message);
    if (status)
        return status == SP_NOT_FOUND ? SP_CORRUPT : status;
    status = sp_sort_make(&collect->maker, &message, collect->need, &collect->scratch,
                          &collect->op->arena, entry);
    struct todo *todo = &collect->todo[collect->todo_count++];
    todo->entry = collect->count - 1;
    if (status == SP_OK && collect->need & SP_NEED_REFERENCES)
        status = sp_item_load(read, &message, &collect->scratch, &todo->item);
    return status;
}

static enum sp_status add_entry(struct collect *collect, struct sp_read *read,
                                struct sp_search_read *kept, struct sp_message_cursor *cursor,
                                uint32_t uid)
{
    collect->entries = sp_arena_grow(&collect->op->arena, collect->entries, collect->count,
                                     &collect->capacity, sizeof *collect->entries);
    if (!collect->entries)
        return SP_NO_MEMORY;
    struct sp_sort_entry *entry = &collect->entries[collect->count++];
    /* What is shown of addresses is not kept. */
    if (!(collect->need & SP_NEED_DISPLAY) && sp_search_sort_get(kept, uid, entry))
        return keep_entry(collect, entry) ? SP_OK : SP_NO_MEMORY;
    *entry = (struct sp_sort_entry){.uid = uid};
    return make_entry(collect, read, cursor, entry);
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
    struct sp_search_read kept;
    struct sp_range_walk walk;
    struct sp_flag_row row;
    enum sp_status status = sp_op_mailbox(collect->op, read, 0, &mailbox);
    if (status == SP_OK)
        status = sp_message_cursor_open(read, &mailbox.account, mailbox.row.id, &cursor);
    if (status)
        return status;
    if (!collect->entries)
        make_room(collect, mailbox.row.messages);
    sp_search_read_begin(collect->op->mail->search_file, &mailbox.account, mailbox.row.id,
                         mailbox.row.uidvalidity, &kept);
    sp_range_walk_init(&walk, read, &mailbox, collect->ranges, 0);
    walk.from = collect->next_uid;
    for (uint32_t i = 0;
         status == SP_OK && i < BATCH_WALKED && collect->todo_count < BATCH_MESSAGES; i++) {
        status = sp_range_walk_next(&walk, &row);
        if (status == SP_OK)
            status = add_entry(collect, read, &kept, &cursor, row.uid);
        if (status == SP_OK && row.uid == UINT32_MAX)
            status = SP_EOF;
        else if (status == SP_OK)
            collect->next_uid = row.uid + 1;
    }
    sp_range_walk_end(&walk);
    sp_search_read_end(&kept);
    sp_message_cursor_close(&cursor);
    return status;
}

/* A header that cannot be read has no References. */
static enum sp_status read_references(struct collect *collect, const struct sp_item *item,
                                      struct sp_sort_entry *entry)
{
    struct sp_slice header;
    uint64_t len = item->header_bytes < SP_BYTES_MAX ? item->header_bytes : SP_BYTES_MAX;
    enum sp_status status = sp_bytes_get(&collect->bytes, item, 0, len, &header);
    if (status)
        return status == SP_NO_MEMORY ? status : SP_OK;
    return sp_sort_make_references(header, &collect->op->arena, entry);
}

static enum sp_status run_batch(struct collect *collect, bool *ret_last)
{
    struct sp_read read;
    collect->todo = sp_arena_array(&collect->scratch, BATCH_MESSAGES, sizeof *collect->todo);
    collect->todo_count = 0;
    if (!collect->todo)
        return SP_NO_MEMORY;
    enum sp_status status = sp_read_begin(collect->op->mail->index, &read);
    if (status)
        return status;
    status = walk_batch(collect, &read);
    sp_read_end(&read);
    *ret_last = status == SP_EOF;
    if (status == SP_EOF)
        status = SP_OK;
    for (uint32_t i = 0;
         status == SP_OK && collect->need & SP_NEED_REFERENCES && i < collect->todo_count; i++)
        status = read_references(collect, &collect->todo[i].item,
                                 &collect->entries[collect->todo[i].entry]);
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
    sp_sort_maker_init(&collect.maker);
    sp_bytes_init(&collect.bytes, op->mail);
    while (status == SP_OK && !last)
        status = sp_op_cancelled(op) ? SP_UNAVAILABLE : run_batch(&collect, &last);
    sp_bytes_release(&collect.bytes);
    sp_sort_maker_release(&collect.maker);
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
    case SP_SORT_DISPLAYFROM:
        return compare_text(a->display_from, b->display_from);
    case SP_SORT_DISPLAYTO:
        return compare_text(a->display_to, b->display_to);
    }
    return 0;
}

/* What most comparisons are decided by: the beginning of the first key, as a number. */
struct sorted {
    uint64_t prefix;
    const struct sp_sort_entry *entry;
};

/* As compare_text orders. */
static uint64_t prefix_of_text(struct sp_slice text)
{
    uint64_t prefix = 0;
    for (size_t i = 0; i < 8; i++)
        prefix = prefix << 8 | (i < text.len ? upper(text.ptr[i]) : 0);
    return prefix;
}

static uint64_t prefix_of(uint8_t key, const struct sp_sort_entry *entry)
{
    const uint64_t sign = 1ULL << 63;
    uint64_t prefix = 0;
    switch ((enum sp_sort_key)(key & ~SP_SORT_REVERSE)) {
    case SP_SORT_ARRIVAL:
        prefix = (uint64_t)entry->arrival ^ sign;
        break;
    case SP_SORT_DATE:
        prefix = (uint64_t)entry->sent ^ sign;
        break;
    case SP_SORT_SIZE:
        prefix = entry->size;
        break;
    case SP_SORT_CC:
        prefix = prefix_of_text(entry->cc);
        break;
    case SP_SORT_FROM:
        prefix = prefix_of_text(entry->from);
        break;
    case SP_SORT_SUBJECT:
        prefix = prefix_of_text(entry->subject);
        break;
    case SP_SORT_TO:
        prefix = prefix_of_text(entry->to);
        break;
    case SP_SORT_DISPLAYFROM:
        prefix = prefix_of_text(entry->display_from);
        break;
    case SP_SORT_DISPLAYTO:
        prefix = prefix_of_text(entry->display_to);
        break;
    }
    return key & SP_SORT_REVERSE ? ~prefix : prefix;
}

static int compare_entries(const void *a, const void *b, void *context)
{
    const struct sp_request *request = context;
    const struct sorted *left = a, *right = b;
    const struct sp_sort_entry *x = left->entry, *y = right->entry;
    if (left->prefix != right->prefix)
        return left->prefix < right->prefix ? -1 : 1;
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
                                     [SP_SORT_TO] = SP_NEED_ADDRESSES,
                                     [SP_SORT_DISPLAYFROM] = SP_NEED_DISPLAY,
                                     [SP_SORT_DISPLAYTO] = SP_NEED_DISPLAY};
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
    struct sorted *sorted = sp_arena_array(&op->arena, count, sizeof *sorted);
    if (!sorted)
        return SP_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = (struct sorted){prefix_of(request->search.sort[0], &entries[i]), &entries[i]};
    if (count)
        qsort_r(sorted, count, sizeof *sorted, compare_entries, request);
    op->reply->uids = sp_arena_array(&op->reply->arena, count, sizeof *op->reply->uids);
    if (!op->reply->uids)
        return SP_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        op->reply->uids[i] = sorted[i].entry->uid;
    op->reply->uids_count = count;
    return SP_OK;
}
