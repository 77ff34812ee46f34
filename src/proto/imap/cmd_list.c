/* LIST with its extensions (RFC 5258, RFC 5819, RFC 6154) and LSUB.
 *
 * `mail` answers with all mailboxes and subscriptions of the account. They are sorted; levels that
 * only exist as part of a deeper name are added, since a client that walks the tree with `%` must
 * see them; then each name is matched. */
#include "proto/imap/state.h"

#include "proto/imap/list_match.h"
#include "proto/imap/respond.h"
#include "proto/imap/rights.h"
#include "proto/imap/status_items.h"

#include <stdlib.h>

struct entry {
    struct sp_slice name;
    const struct sp_mailbox_info *info; /* NULL: a level without a mailbox of its own */
    bool matches;                       /* a pattern */
    bool selected;                      /* the selection options (without RECURSIVEMATCH) */
    bool has_children;
    bool child_selected; /* something below is selected, and would not be listed itself */
};

struct entries {
    struct entry *ptr;
    uint32_t count;
};

static bool exists(const struct entry *entry)
{
    return entry->info && entry->info->exists;
}

static int compare_entries(const void *a, const void *b)
{
    return sp_slice_cmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static struct entry *find(struct entries all, struct sp_slice name)
{
    struct entry key = {.name = name};
    uint32_t low = 0, high = all.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = sp_slice_cmp(all.ptr[middle].name, key.name);
        if (!order)
            return &all.ptr[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* The levels above the i-th of the sorted names that no name stands for, and that the name before
 * it has not brought: added to ret, if that is not NULL. Returns how many. */
static uint32_t add_parents(struct entries names, uint32_t i, struct entry *ret)
{
    struct sp_slice name = names.ptr[i].name,
                    before = i ? names.ptr[i - 1].name : (struct sp_slice){0};
    uint32_t count = 0;
    for (size_t at = 1; at < name.len; at++) {
        struct sp_slice parent = sp_slice_sub(name, 0, at);
        if (name.ptr[at] != '/' ||
            sp_slice_eq(sp_slice_sub(before, 0, at + 1), sp_slice_sub(name, 0, at + 1)) ||
            find(names, parent))
            continue;
        if (ret)
            ret[count] = (struct entry){.name = parent};
        count++;
    }
    return count;
}

/* All names and the levels above them, sorted, each once. */
static bool gather(const struct sp_reply *reply, struct sp_arena *arena,
                   struct entries *ret_entries)
{
    struct entries names = {sp_arena_array(arena, reply->mailboxes_count, sizeof *names.ptr),
                            reply->mailboxes_count};
    if (!names.ptr)
        return false;
    for (uint32_t i = 0; i < names.count; i++)
        names.ptr[i] =
            (struct entry){.name = reply->mailboxes[i].name, .info = &reply->mailboxes[i]};
    if (names.count)
        qsort(names.ptr, names.count, sizeof *names.ptr, compare_entries);
    size_t total = names.count;
    for (uint32_t i = 0; i < names.count; i++)
        total += add_parents(names, i, NULL);
    struct entries all = {sp_arena_array(arena, total, sizeof *all.ptr), names.count};
    if (!all.ptr)
        return false;
    if (names.count)
        memcpy(all.ptr, names.ptr, names.count * sizeof *names.ptr);
    for (uint32_t i = 0; i < names.count; i++)
        all.count += add_parents(names, i, all.ptr + all.count);
    if (all.count)
        qsort(all.ptr, all.count, sizeof *all.ptr, compare_entries);
    *ret_entries = all;
    return true;
}

static bool is_selected(const struct entry *entry, const struct sp_imap_list_args *list)
{
    bool subscribed = entry->info && entry->info->subscribed;
    if ((list->select & SP_IMAP_SELECT_SUBSCRIBED) && !subscribed)
        return false;
    if ((list->select & SP_IMAP_SELECT_SPECIAL_USE) && !(exists(entry) && entry->info->special_use))
        return false;
    return true;
}

/* Marks each entry; what a child is, its parents at all levels learn. */
static void mark(struct entries all, const struct sp_imap_list_args *list,
                 const struct sp_slice *patterns)
{
    for (uint32_t i = 0; i < all.count; i++) {
        struct entry *entry = &all.ptr[i];
        for (uint32_t p = 0; p < list->patterns_count && !entry->matches; p++)
            entry->matches = sp_imap_list_match(patterns[p], entry->name);
        entry->selected = is_selected(entry, list);
        for (size_t at = 1; at < entry->name.len; at++) {
            if (entry->name.ptr[at] != '/')
                continue;
            struct entry *parent = find(all, sp_slice_sub(entry->name, 0, at));
            parent->has_children |= exists(entry);
            parent->child_selected |= entry->info && entry->selected && !entry->matches;
        }
    }
}

static void add_attributes(struct sp_buf *out, const struct entry *entry,
                           const struct sp_imap_list_args *list)
{
    const struct sp_mailbox_info *info = entry->info;
    bool subscribed =
        (list->select & SP_IMAP_SELECT_SUBSCRIBED) || (list->returns & SP_IMAP_RETURN_SUBSCRIBED);
    if (!exists(entry))
        sp_buf_add_str(out, list->select || list->returns ? "\\NonExistent " : "\\Noselect ");
    if (subscribed && info && info->subscribed)
        sp_buf_add_str(out, "\\Subscribed ");
    sp_buf_add_str(out, entry->has_children ? "\\HasChildren" : "\\HasNoChildren");
    for (unsigned i = 0; exists(entry) && i < 7; i++) {
        if (info->special_use & (1U << i)) {
            sp_buf_add_byte(out, ' ');
            sp_buf_add_str(out, sp_imap_special_use_names[i]);
        }
    }
}

static void tell_list(struct sp_imap *s, const struct entry *entry)
{
    const struct sp_imap_list_args *list = s->command.list;
    bool recursive = (list->select & SP_IMAP_SELECT_RECURSIVEMATCH) != 0;
    bool below = recursive && entry->child_selected;
    bool plain = !list->select && (exists(entry) || entry->has_children);
    if (!entry->matches || !(list->select ? (entry->info && entry->selected) || below : plain))
        return;
    sp_buf_add(&s->out, SP_S("* LIST ("));
    add_attributes(&s->out, entry, list);
    sp_buf_add(&s->out, SP_S(") \"/\" "));
    sp_imap_add_name(&s->out, entry->name, s->utf8);
    if (below && (list->select & SP_IMAP_SELECT_SUBSCRIBED))
        sp_buf_add(&s->out, SP_S(" (\"CHILDINFO\" (\"SUBSCRIBED\"))"));
    sp_buf_add(&s->out, SP_S("\r\n"));
    /* RFC 8440, 4 */
    if ((list->returns & SP_IMAP_RETURN_MYRIGHTS) && exists(entry))
        sp_imap_add_myrights(&s->out, entry->name, entry->info->rights, s->utf8);
    if ((list->returns & SP_IMAP_RETURN_STATUS) && exists(entry) && !entry->info->protected_ &&
        entry->info->rights & SP_RIGHT_READ)
        sp_imap_add_status(&s->out, entry->name, entry->info, list->status,
                           s->env->message_bytes_max, s->utf8);
}

/* A name that is not subscribed is shown for what is subscribed below it and not shown (RFC
 * 3501, 6.3.9). */
static void tell_lsub(struct sp_imap *s, const struct entry *entry)
{
    bool subscribed = entry->info && entry->info->subscribed;
    if (!entry->matches || (!subscribed && !entry->child_selected))
        return;
    sp_buf_add_str(&s->out, subscribed ? "* LSUB () \"/\" " : "* LSUB (\\Noselect) \"/\" ");
    sp_imap_add_name(&s->out, entry->name, s->utf8);
    sp_buf_add(&s->out, SP_S("\r\n"));
}

/* The reference is put in front: names are not rooted, so none can escape it. */
static bool full_patterns(struct sp_imap *s, struct sp_slice *ret_patterns)
{
    const struct sp_imap_list_args *list = s->command.list;
    for (uint32_t i = 0; i < list->patterns_count; i++) {
        struct sp_slice pattern = list->patterns[i];
        uint8_t *bytes = sp_arena_alloc(&s->arena, list->reference.len + pattern.len);
        if (!bytes)
            return false;
        ret_patterns[i] = sp_slice(bytes, list->reference.len + pattern.len);
        bytes = sp_imap_put(bytes, list->reference);
        (void)sp_imap_put(bytes, pattern);
    }
    return true;
}

/* Whether a pattern could show a mailbox of another user: what is missing there must not look as if
 * it had been deleted. Compared is what stands before the first wildcard. */
static bool asks_for_others(const struct sp_imap_list_args *list, const struct sp_slice *patterns)
{
    struct sp_slice root = SP_S(SP_OTHER_USERS "/");
    for (uint32_t i = 0; i < list->patterns_count; i++) {
        size_t len = 0;
        while (len < patterns[i].len && len < root.len && patterns[i].ptr[len] == root.ptr[len])
            len++;
        if (len == root.len || len == patterns[i].len || patterns[i].ptr[len] == '%' ||
            patterns[i].ptr[len] == '*')
            return true;
    }
    return false;
}

static void on_list(struct sp_imap *s, const struct sp_reply *reply)
{
    struct sp_slice patterns[SP_IMAP_PATTERNS_MAX];
    struct entries all;
    bool lsub = s->command.verb == SP_IMAP_LSUB;
    if (reply->status != SP_OK) {
        sp_imap_refuse(s, reply, "NONEXISTENT");
        return;
    }
    if (!full_patterns(s, patterns) || !gather(reply, &s->arena, &all)) {
        sp_imap_abandon(s, NULL);
        return;
    }
    if (reply->others_unavailable && asks_for_others(s->command.list, patterns)) {
        sp_imap_finish(s, "NO [UNAVAILABLE] The list of another user's mailboxes is being "
                          "recovered, please wait");
        return;
    }
    if (lsub)
        s->command.list->select = SP_IMAP_SELECT_SUBSCRIBED;
    mark(all, s->command.list, patterns);
    if ((s->command.list->returns & SP_IMAP_RETURN_STATUS) &&
        (s->command.list->status & SP_IMAP_STATUS_HIGHESTMODSEQ))
        sp_imap_enable_condstore(s);
    for (uint32_t i = 0; i < all.count; i++) {
        if (lsub)
            tell_lsub(s, &all.ptr[i]);
        else
            tell_list(s, &all.ptr[i]);
    }
    sp_imap_finish_ok(s);
}

void sp_imap_run_list(struct sp_imap *s)
{
    const struct sp_imap_list_args *list = s->command.list;
    /* An empty pattern asks for the separator. */
    if (list->patterns_count == 1 && !list->patterns[0].len && !list->select) {
        sp_buf_add_str(&s->out, s->command.verb == SP_IMAP_LSUB
                                    ? "* LSUB (\\Noselect) \"/\" \"\"\r\n"
                                    : "* LIST (\\Noselect) \"/\" \"\"\r\n");
        sp_imap_finish_ok(s);
        return;
    }
    struct sp_request *request = sp_imap_request(s, SP_REQ_MAILBOX_LIST);
    if (request)
        sp_imap_submit(s, request, on_list);
}
