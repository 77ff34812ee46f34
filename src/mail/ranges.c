/* Ranges of UIDs being made, and walks over the messages within them. */
#include "mail/internal.h"

void *sp_arena_grow(struct sp_arena *arena, void *array, uint32_t count, uint32_t *capacity,
                    size_t size)
{
    if (count < *capacity)
        return array;
    uint32_t larger = *capacity ? *capacity * 2 : 16;
    void *grown = larger > *capacity ? sp_arena_array(arena, larger, size) : NULL;
    if (!grown)
        return NULL;
    if (count)
        memcpy(grown, array, count * size);
    *capacity = larger;
    return grown;
}

uint64_t sp_uid_ranges_count(struct sp_uid_ranges ranges)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < ranges.count; i++)
        count += (uint64_t)ranges.ptr[i].last - ranges.ptr[i].first + 1;
    return count;
}

void sp_uid_list_add(struct sp_uid_list *list, uint32_t first, uint32_t last)
{
    sp_assert(first && first <= last);
    if (list->failed)
        return;
    list->uids += (uint64_t)last - first + 1;
    if (list->count) {
        struct sp_uid_range *range = &list->ptr[list->count - 1];
        sp_assert(first > range->last);
        if (first == range->last + 1) {
            range->last = last;
            return;
        }
    }
    struct sp_uid_range *grown =
        sp_arena_grow(list->arena, list->ptr, list->count, &list->capacity, sizeof *list->ptr);
    if (!grown) {
        list->failed = true;
        return;
    }
    list->ptr = grown;
    list->ptr[list->count++] = (struct sp_uid_range){first, last};
}

bool sp_uid_list_spans(const struct sp_uid_list *list, struct sp_arena *arena,
                       struct sp_span_list *ret_spans)
{
    struct sp_span *spans = sp_arena_array(arena, list->count, sizeof *spans);
    if (!spans || list->failed)
        return false;
    for (uint32_t i = 0; i < list->count; i++)
        spans[i] = (struct sp_span){list->ptr[i].first, list->ptr[i].last};
    *ret_spans = (struct sp_span_list){spans, list->count};
    return true;
}

void sp_range_walk_init(struct sp_range_walk *walk, struct sp_read *read,
                        const struct sp_mailbox *mailbox, struct sp_uid_ranges ranges,
                        uint64_t since_modseq)
{
    *walk = (struct sp_range_walk){.ranges = ranges,
                                   .read = read,
                                   .account = mailbox->account,
                                   .mailbox = mailbox->row.id,
                                   .since_modseq = since_modseq};
}

/* A cursor is moved to a range that lies ahead only by being opened anew; ranges that lie close
 * together are reached by walking on. */
#define WALK_ON_UIDS 256U

enum sp_status sp_range_walk_next(struct sp_range_walk *walk, struct sp_flag_row *ret_row)
{
    struct sp_flag_row row;
    while (walk->at < walk->ranges.count) {
        const struct sp_uid_range *range = &walk->ranges.ptr[walk->at];
        if (!walk->open) {
            enum sp_status status =
                sp_flag_cursor_open(walk->read, &walk->account, walk->mailbox,
                                    range->first > walk->from ? range->first : walk->from,
                                    walk->since_modseq, &walk->cursor);
            if (status)
                return status;
            walk->open = true;
        }
        enum sp_status status = sp_flag_cursor_next(&walk->cursor, &row);
        if (status)
            return status;
        while (walk->at < walk->ranges.count && row.uid > walk->ranges.ptr[walk->at].last)
            walk->at++;
        if (walk->at == walk->ranges.count)
            break;
        range = &walk->ranges.ptr[walk->at];
        if (row.uid >= range->first) {
            *ret_row = row;
            return SP_OK;
        }
        if (range->first - row.uid > WALK_ON_UIDS)
            sp_range_walk_end(walk);
    }
    return SP_EOF;
}

void sp_range_walk_end(struct sp_range_walk *walk)
{
    if (walk->open)
        sp_flag_cursor_close(&walk->cursor);
    walk->open = false;
}
