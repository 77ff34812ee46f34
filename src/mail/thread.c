/* THREAD: ORDEREDSUBJECT and REFERENCES (RFC 5256, 3). Numbers in brackets are the RFC's steps of
 * REFERENCES.
 *
 * Message ids come from strangers: chains may be long, so nothing here recurses; the table hashes
 * with a key of its own.
 */
#include "mail/search.h"

#include <stdlib.h>

/* A message, or a dummy for one that is only referred to. */
struct node {
    const struct sp_sort_entry *entry; /* NULL: a dummy */
    struct node *parent, *first, *last, *prev, *next;
    struct node *all;   /* every node, in the order of their making */
    uint32_t top_index; /* in top */
};

struct slot {
    struct sp_slice key;
    struct node *node; /* NULL: free */
};
struct table {
    struct slot *slots;
    uint32_t used, size; /* a power of two */
};

struct threads {
    struct sp_op *op;
    struct sp_arena *arena;
    uint8_t hash_key[crypto_shorthash_KEYBYTES];
    struct table ids;
    struct node *all, **all_end;
    struct node **top; /* the children of the root; NULL: merged into another */
    uint32_t top_count, top_capacity;
};

/* ---- The table of message ids, and of subjects ---- */

static struct slot *find_slot(const struct threads *threads, const struct table *table,
                              struct sp_slice key)
{
    uint64_t hash;
    static const uint8_t nothing[1];
    crypto_shorthash((uint8_t *)&hash, key.len ? key.ptr : nothing, key.len, threads->hash_key);
    for (uint32_t at = (uint32_t)hash & (table->size - 1);; at = (at + 1) & (table->size - 1)) {
        struct slot *slot = &table->slots[at];
        if (!slot->node || sp_slice_eq(slot->key, key))
            return slot;
    }
}

/* The slot of a key, which may be free: whoever fills it adds one to `used`. NULL: no memory. */
static struct slot *table_slot(struct threads *threads, struct table *table, struct sp_slice key)
{
    if ((table->used + 1) * 2 > table->size) {
        struct table larger = {.size = table->size ? table->size * 2 : 256, .used = table->used};
        larger.slots = sp_arena_array(threads->arena, larger.size, sizeof *larger.slots);
        if (!larger.slots)
            return NULL;
        for (uint32_t i = 0; i < table->size; i++)
            if (table->slots[i].node)
                *find_slot(threads, &larger, table->slots[i].key) = table->slots[i];
        *table = larger;
    }
    return find_slot(threads, table, key);
}

/* ---- The tree ---- */

static struct node *new_node(struct threads *threads, const struct sp_sort_entry *entry)
{
    struct node *node = sp_arena_alloc(threads->arena, sizeof *node);
    if (!node)
        return NULL;
    node->entry = entry;
    *threads->all_end = node;
    threads->all_end = &node->all;
    return node;
}

static void unlink_node(struct node *node)
{
    struct node *parent = node->parent;
    if (!parent)
        return;
    *(node->prev ? &node->prev->next : &parent->first) = node->next;
    *(node->next ? &node->next->prev : &parent->last) = node->prev;
    node->parent = node->prev = node->next = NULL;
}

static void link_node(struct node *parent, struct node *node)
{
    node->parent = parent;
    node->prev = parent->last;
    node->next = NULL;
    *(parent->last ? &parent->last->next : &parent->first) = node;
    parent->last = node;
}

static bool is_ancestor(const struct node *node, const struct node *of)
{
    if (!node->first)
        return node == of;
    for (; of; of = of->parent)
        if (of == node)
            return true;
    return false;
}

static struct node *node_of_id(struct threads *threads, struct sp_slice id)
{
    struct slot *slot = table_slot(threads, &threads->ids, id);
    if (slot && !slot->node) {
        slot->key = id;
        slot->node = new_node(threads, NULL);
        threads->ids.used += slot->node != NULL;
    }
    return slot ? slot->node : NULL;
}

/* The message's own node. One whose id is missing, or is another message's already, stands alone.
 */
static struct node *node_of_entry(struct threads *threads, const struct sp_sort_entry *entry)
{
    if (entry->id.len) {
        struct node *node = node_of_id(threads, entry->id);
        if (!node)
            return NULL;
        if (!node->entry) {
            node->entry = entry;
            return node;
        }
    }
    return new_node(threads, entry);
}

/* (1) False: no memory. */
static bool add_message(struct threads *threads, const struct sp_sort_entry *entry)
{
    struct node *before = NULL, *node = node_of_entry(threads, entry);
    if (!node)
        return false;
    for (size_t at = 0; at < entry->references.len; at += SP_SORT_ID_BYTES) {
        struct node *reference =
            node_of_id(threads, sp_slice_sub(entry->references, at, at + SP_SORT_ID_BYTES));
        if (!reference)
            return false;
        if (before && !reference->parent && !is_ancestor(reference, before)) /* (1)(A) */
            link_node(before, reference);
        before = reference;
    }
    /* (1)(B) What other messages made it a child of is given up even where its own references would
     * close a loop: then it has no parent. */
    bool loop = before && is_ancestor(node, before);
    unlink_node(node);
    if (before && !loop)
        link_node(before, node);
    return true;
}

/* ---- (2), (3): the root, and dummies that are of no use ---- */

static bool add_top(struct threads *threads, struct node *node)
{
    threads->top = sp_arena_grow(threads->arena, threads->top, threads->top_count,
                                 &threads->top_capacity, sizeof(struct node *));
    if (!threads->top)
        return false;
    threads->top[threads->top_count++] = node;
    return true;
}

static void promote_children(struct node *dummy)
{
    struct node *parent = dummy->parent;
    while (dummy->first) {
        struct node *child = dummy->first;
        unlink_node(child);
        link_node(parent, child);
    }
    unlink_node(dummy);
}

static bool prune(struct threads *threads)
{
    for (struct node *node = threads->all; node; node = node->all)
        if (!node->entry && node->parent)
            promote_children(node);
    for (struct node *node = threads->all; node; node = node->all)
        if (!node->parent && (node->entry || node->first) && !add_top(threads, node))
            return false;
    /* A dummy with one child gives it its place. */
    for (uint32_t i = 0; i < threads->top_count; i++) {
        struct node *node = threads->top[i];
        if (!node->entry && node->first == node->last) {
            threads->top[i] = node->first;
            unlink_node(node->first);
        }
    }
    return true;
}

/* ---- Order ---- */

static const struct sp_sort_entry *entry_of(const struct node *node)
{
    return node->entry ? node->entry : node->first->entry;
}

static int by_sent(const void *a, const void *b)
{
    const struct sp_sort_entry *x = entry_of(*(struct node *const *)a),
                               *y = entry_of(*(struct node *const *)b);
    if (x->sent != y->sent)
        return x->sent < y->sent ? -1 : 1;
    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

/* Sorts the children by date; false: no memory. */
static bool sort_children(struct threads *threads, struct node *node)
{
    uint32_t count = 0;
    bool sorted = true;
    for (struct node *child = node->first; child; child = child->next) {
        count++;
        sorted = sorted && (!child->next || by_sent(&child, &child->next) <= 0);
    }
    if (sorted)
        return true;
    struct node **list = sp_arena_array(threads->arena, count, sizeof(struct node *));
    if (!list)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        list[i] = node->first;
        unlink_node(node->first);
    }
    qsort(list, count, sizeof(struct node *), by_sent);
    for (uint32_t i = 0; i < count; i++)
        link_node(node, list[i]);
    return true;
}

/* (4), and at the end (6): the top, dummies by their first child. */
static bool sort_top(struct threads *threads)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < threads->top_count; i++)
        if (threads->top[i])
            threads->top[kept++] = threads->top[i];
    threads->top_count = kept;
    for (uint32_t i = 0; i < kept; i++)
        if (!threads->top[i]->entry && !sort_children(threads, threads->top[i]))
            return false;
    if (kept)
        qsort(threads->top, kept, sizeof(struct node *), by_sent);
    for (uint32_t i = 0; i < kept; i++)
        threads->top[i]->top_index = i;
    return true;
}

/* ---- (5): threads with one base subject ---- */

static bool is_reply(const struct node *node)
{
    return node->entry && node->entry->reply;
}

/* (5)(C): current joins the thread that stands for its subject. */
static bool merge(struct threads *threads, struct slot *slot, struct node *current)
{
    struct node *stands = slot->node;
    threads->top[current->top_index] = NULL;
    if (!stands->entry && !current->entry) {
        while (current->first) {
            struct node *child = current->first;
            unlink_node(child);
            link_node(stands, child);
        }
        return true;
    }
    if (!stands->entry || (is_reply(current) && !is_reply(stands))) {
        link_node(stands, current);
        return true;
    }
    struct node *dummy = new_node(threads, NULL);
    if (!dummy)
        return false;
    dummy->top_index = stands->top_index;
    threads->top[dummy->top_index] = dummy;
    link_node(dummy, stands);
    link_node(dummy, current);
    slot->node = dummy;
    return true;
}

static bool merge_subjects(struct threads *threads)
{
    struct table subjects = {0};
    for (uint32_t i = 0; i < threads->top_count; i++) { /* (5)(B) */
        struct node *node = threads->top[i];
        struct sp_slice subject = entry_of(node)->subject;
        if (!subject.len)
            continue;
        struct slot *slot = table_slot(threads, &subjects, subject);
        if (!slot)
            return false;
        if (!slot->node) {
            subjects.used++;
            *slot = (struct slot){subject, node};
        } else if (slot->node->entry &&
                   (!node->entry || (is_reply(slot->node) && !is_reply(node)))) {
            slot->node = node;
        }
    }
    for (uint32_t i = 0; i < threads->top_count; i++) {
        struct node *node = threads->top[i];
        if (!node || !entry_of(node)->subject.len)
            continue;
        struct slot *slot = find_slot(threads, &subjects, entry_of(node)->subject);
        if (slot->node != node && !merge(threads, slot, node))
            return false;
    }
    return true;
}

/* ---- The reply ---- */

static struct sp_thread_node *next_row(struct sp_reply *reply, uint32_t *capacity)
{
    struct sp_thread_node *grown = sp_arena_grow(
        &reply->arena, reply->threads, reply->threads_count, capacity, sizeof *reply->threads);
    if (!grown)
        return NULL;
    reply->threads = grown;
    return &grown[reply->threads_count++];
}

/* One thread in pre-order. */
static bool write_thread(struct sp_reply *reply, uint32_t *capacity, const struct node *top)
{
    const struct node *node = top;
    uint32_t depth = 0;
    for (;;) {
        struct sp_thread_node *row = next_row(reply, capacity);
        if (!row)
            return false;
        *row = (struct sp_thread_node){node->entry ? node->entry->uid : 0, depth};
        if (node->first) {
            node = node->first;
            depth++;
            continue;
        }
        while (node != top && !node->next) {
            node = node->parent;
            depth--;
        }
        if (node == top)
            return true;
        node = node->next;
    }
}

static enum sp_status thread_references(struct sp_op *op, const struct sp_sort_entry *entries,
                                        uint32_t count)
{
    struct threads threads = {.op = op, .arena = &op->arena};
    uint32_t capacity = 0;
    bool ok = true;
    threads.all_end = &threads.all;
    sp_random_bytes(threads.hash_key, sizeof threads.hash_key);
    for (uint32_t i = 0; ok && i < count; i++)
        ok = add_message(&threads, &entries[i]);
    ok = ok && prune(&threads) && sort_top(&threads) && merge_subjects(&threads);
    for (struct node *node = threads.all; ok && node; node = node->all)
        ok = sort_children(&threads, node);
    ok = ok && sort_top(&threads);
    for (uint32_t i = 0; ok && i < threads.top_count; i++)
        ok = write_thread(op->reply, &capacity, threads.top[i]);
    return ok ? SP_OK : SP_NO_MEMORY;
}

/* ---- ORDEREDSUBJECT ---- */

static int by_subject(const void *a, const void *b)
{
    const struct sp_sort_entry *x = a, *y = b;
    int order = sp_slice_cmp(x->subject, y->subject);
    if (order)
        return order;
    if (x->sent != y->sent)
        return x->sent < y->sent ? -1 : 1;
    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

/* Messages of one subject: where they stand in the sorted entries. */
struct group {
    const struct sp_sort_entry *first;
    uint32_t count;
};

static int by_first_sent(const void *a, const void *b)
{
    const struct sp_sort_entry *x = ((const struct group *)a)->first,
                               *y = ((const struct group *)b)->first;
    if (x->sent != y->sent)
        return x->sent < y->sent ? -1 : 1;
    return x->uid < y->uid ? -1 : x->uid > y->uid;
}

static enum sp_status thread_subjects(struct sp_op *op, struct sp_sort_entry *entries,
                                      uint32_t count)
{
    struct group *groups = NULL;
    uint32_t groups_count = 0, groups_capacity = 0, capacity = 0;
    if (count)
        qsort(entries, count, sizeof *entries, by_subject);
    for (uint32_t i = 0; i < count; i++) {
        if (groups_count &&
            sp_slice_eq(groups[groups_count - 1].first->subject, entries[i].subject)) {
            groups[groups_count - 1].count++;
            continue;
        }
        groups = sp_arena_grow(&op->arena, groups, groups_count, &groups_capacity, sizeof *groups);
        if (!groups)
            return SP_NO_MEMORY;
        groups[groups_count++] = (struct group){&entries[i], 1};
    }
    if (groups_count)
        qsort(groups, groups_count, sizeof *groups, by_first_sent);
    for (uint32_t g = 0; g < groups_count; g++) {
        for (uint32_t i = 0; i < groups[g].count; i++) {
            struct sp_thread_node *row = next_row(op->reply, &capacity);
            if (!row)
                return SP_NO_MEMORY;
            *row = (struct sp_thread_node){groups[g].first[i].uid, i > 0};
        }
    }
    return SP_OK;
}

enum sp_status sp_op_thread(struct sp_op *op, struct sp_uid_ranges found)
{
    bool references = op->request->search.thread == SP_THREAD_REFERENCES;
    struct sp_sort_entry *entries;
    uint32_t count;
    if (op->request->search.thread > SP_THREAD_REFERENCES)
        return SP_INVALID;
    enum sp_status status = sp_sort_entries(
        op, found, SP_NEED_SENT | SP_NEED_SUBJECT | (references ? SP_NEED_REFERENCES : 0), &entries,
        &count);
    if (status)
        return status;
    return references ? thread_references(op, entries, count) : thread_subjects(op, entries, count);
}
