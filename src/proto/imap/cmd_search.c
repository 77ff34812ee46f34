/* SEARCH (RFC 3501, 6.4.4), SORT and THREAD (RFC 5256): `mail` searches, and answers in UIDs. What
 * RETURN asks for is told in esearch.c. */
#include "proto/imap/state.h"

#include "proto/imap/respond.h"

#define NUMBER_BYTES 24U

/* ---- Numbers ---- */

/* Found UIDs, without those that the client has not been told of. */
static bool known(struct sp_imap *s, struct sp_uid_ranges uids, struct sp_uid_ranges *ret_known)
{
    uint32_t last = sp_imap_uidmap_last(&s->selected->map);
    struct sp_uid_ranges known = {sp_arena_array(&s->arena, uids.count, sizeof *known.ptr),
                                  uids.count};
    if (!known.ptr)
        return false;
    if (uids.count)
        memcpy(known.ptr, uids.ptr, uids.count * sizeof *known.ptr);
    while (known.count && known.ptr[known.count - 1].first > last)
        known.count--;
    if (known.count && known.ptr[known.count - 1].last > last)
        known.ptr[known.count - 1].last = last;
    *ret_known = known;
    return true;
}

/* As the client will see them: UIDs, or sequence numbers. */
static bool to_numbers(struct sp_imap *s, struct sp_uid_ranges uids,
                       struct sp_uid_ranges *ret_numbers)
{
    if (!s->command.uid)
        return sp_imap_uidmap_seqs(&s->selected->map, uids, &s->arena, ret_numbers) == SP_OK;
    *ret_numbers = uids;
    return true;
}

/* One of them; 0: not known. */
static uint32_t to_number(const struct sp_imap *s, uint32_t uid)
{
    uint32_t seq = sp_imap_uidmap_seq(&s->selected->map, uid);
    return s->command.uid && seq ? uid : seq;
}

static void add_number(struct sp_buf *out, uint32_t number)
{
    if (!sp_buf_reserve(out, NUMBER_BYTES))
        return;
    uint8_t *start = out->ptr + out->len, *at = start;
    *at++ = ' ';
    at = sp_imap_put_decimal(at, number);
    out->len += (size_t)(at - start);
}

/* ---- SEARCH ---- */

static void add_modseq(struct sp_buf *out, uint64_t modseq)
{
    sp_buf_add(out, SP_S(" (MODSEQ "));
    sp_buf_add_decimal(out, modseq);
    sp_buf_add_byte(out, ')');
}

static void tell_search(struct sp_imap *s, struct sp_uid_ranges numbers, uint64_t modseq)
{
    sp_buf_add(&s->out, SP_S("* SEARCH"));
    for (uint32_t i = 0; i < numbers.count && !sp_buf_failed(&s->out); i++)
        for (uint64_t n = numbers.ptr[i].first; n <= numbers.ptr[i].last && !sp_buf_failed(&s->out);
             n++)
            add_number(&s->out, (uint32_t)n);
    if (modseq && numbers.count)
        add_modseq(&s->out, modseq);
    sp_buf_add(&s->out, SP_S("\r\n"));
}

/* ---- THREAD ---- */

/* A node while the tree is written. */
struct branch {
    uint32_t parent;   /* index; its own for a root */
    uint32_t number;   /* as the client sees it; 0: a dummy */
    uint32_t children; /* that are shown */
    bool shown;        /* it or something below has a number */
};

/* Fills branches; `path` has room for as many. False: depths that do not make a tree. */
static bool grow(const struct sp_imap *s, const struct sp_reply *reply, struct branch *branches,
                 uint32_t *path)
{
    uint32_t depth = 0;
    for (uint32_t i = 0; i < reply->threads_count; i++) {
        const struct sp_thread_node *node = &reply->threads[i];
        if (node->depth > (i ? depth + 1 : 0))
            return false;
        depth = node->depth;
        path[depth] = i;
        branches[i].parent = depth ? path[depth - 1] : i;
        branches[i].number = node->uid ? to_number(s, node->uid) : 0;
    }
    for (uint32_t i = reply->threads_count; i-- > 0;) {
        branches[i].shown |= branches[i].number != 0;
        if (branches[i].shown && branches[i].parent != i) {
            branches[branches[i].parent].shown = true;
            branches[branches[i].parent].children++;
        }
    }
    return true;
}

/* A thread is parenthesised, and so is each child that has siblings; an only child stands behind
 * its parent (RFC 5256, 5). opened: for each depth, whether the node there has a parenthesis open.
 */
static void tell_thread(struct sp_imap *s, const struct sp_reply *reply,
                        const struct branch *branches, uint8_t *opened)
{
    struct sp_buf *out = &s->out;
    uint32_t depth = 0; /* of open nodes */
    sp_buf_add(out, SP_S("* THREAD"));
    if (sp_buf_failed(out))
        return;
    for (uint32_t i = 0; i < reply->threads_count; i++) {
        const struct branch *branch = &branches[i];
        if (!branch->shown)
            continue;
        while (depth > reply->threads[i].depth)
            if (opened[--depth])
                sp_buf_add_byte(out, ')');
        bool root = branch->parent == i;
        opened[depth] = root || branches[branch->parent].children > 1;
        if (!memchr("() ", out->ptr[out->len - 1], 3)) /* behind a number, or at the start */
            sp_buf_add_byte(out, ' ');
        if (opened[depth])
            sp_buf_add_byte(out, '(');
        depth++;
        if (branch->number)
            sp_buf_add_decimal(out, branch->number);
    }
    while (depth > 0)
        if (opened[--depth])
            sp_buf_add_byte(out, ')');
    sp_buf_add(out, SP_S("\r\n"));
}

/* ---- Replies ---- */

static void on_thread(struct sp_imap *s, const struct sp_reply *reply)
{
    struct branch *branches = sp_arena_array(&s->arena, reply->threads_count, sizeof *branches);
    uint32_t *path = sp_arena_array(&s->arena, reply->threads_count, sizeof *path);
    uint8_t *opened = sp_arena_array(&s->arena, reply->threads_count, sizeof *opened);
    if (reply->status != SP_OK) {
        sp_imap_refuse_selected(s, reply);
    } else if (!branches || !path || !opened) {
        sp_imap_abandon(s, NULL);
    } else if (!grow(s, reply, branches, path)) {
        sp_imap_finish(s, "NO [SERVERBUG] Threads could not be understood");
    } else {
        tell_thread(s, reply, branches, opened);
        sp_imap_finish_ok(s);
    }
}

/* RFC 5267, 3: the same in order, told as SEARCH's are. */
static void extended_sort(struct sp_imap *s, const struct sp_reply *reply)
{
    struct sp_uid_ranges uids = {sp_arena_array(&s->arena, reply->uids_count, sizeof *uids.ptr), 0};
    if (!uids.ptr) {
        sp_imap_abandon(s, NULL);
        return;
    }
    for (uint32_t i = 0; i < reply->uids_count; i++)
        if (sp_imap_uidmap_seq(&s->selected->map, reply->uids[i]))
            sp_imap_add_run(&uids, reply->uids[i], reply->uids[i]);
    sp_imap_esearch(s, uids, s->command.search->has_modseq ? reply->modseq : 0);
}

static void on_sort(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status != SP_OK) {
        sp_imap_refuse_selected(s, reply);
        return;
    }
    if (s->command.search->extended) {
        extended_sort(s, reply);
        return;
    }
    bool any = false;
    sp_buf_add(&s->out, SP_S("* SORT"));
    for (uint32_t i = 0; i < reply->uids_count; i++) {
        uint32_t number = to_number(s, reply->uids[i]);
        if (number)
            add_number(&s->out, number);
        any |= number != 0;
    }
    if (any && s->command.search->has_modseq && reply->modseq)
        add_modseq(&s->out, reply->modseq);
    sp_buf_add(&s->out, SP_S("\r\n"));
    sp_imap_finish_ok(s);
}

static void on_search(struct sp_imap *s, const struct sp_reply *reply)
{
    const struct sp_imap_search_args *search = s->command.search;
    struct sp_uid_ranges uids, numbers;
    if (reply->status != SP_OK) {
        sp_imap_refuse_selected(s, reply);
        return;
    }
    uint64_t modseq = search->has_modseq ? reply->modseq : 0;
    if (!known(s, reply->ranges, &uids)) {
        sp_imap_abandon(s, NULL);
    } else if (search->extended) {
        sp_imap_esearch(s, uids, modseq);
    } else if (!to_numbers(s, uids, &numbers)) {
        sp_imap_abandon(s, NULL);
    } else {
        tell_search(s, numbers, modseq);
        sp_imap_finish_ok(s);
    }
}

/* ---- The request ---- */

/* The program, with sets turned into UIDs. False: the command has ended. */
static bool copy_program(struct sp_imap *s, struct sp_request *request)
{
    const struct sp_imap_search_args *search = s->command.search;
    struct sp_search_node *nodes =
        sp_arena_array(&request->arena, search->nodes_count, sizeof *nodes);
    const char *error = NULL;
    bool copied = nodes != NULL;
    for (uint32_t i = 0; copied && i < search->nodes_count; i++) {
        nodes[i] = search->nodes[i];
        nodes[i].text = sp_arena_copy(&request->arena, search->nodes[i].text);
        nodes[i].field = sp_arena_copy(&request->arena, search->nodes[i].field);
        copied = (nodes[i].text.ptr || !nodes[i].text.len) &&
                 (nodes[i].field.ptr || !nodes[i].field.len);
        if (!copied || nodes[i].op != SP_SEARCH_UIDS)
            continue;
        struct sp_imap_set set = {nodes[i].ranges.ptr, nodes[i].ranges.count,
                                  .saved = nodes[i].number == 2};
        struct sp_uid_ranges uids;
        copied = sp_imap_resolve_set(s, set, nodes[i].number == 1, &uids, &error);
        if (!copied)
            break;
        nodes[i].number = 0;
        nodes[i].ranges.ptr = sp_arena_array(&request->arena, uids.count, sizeof *uids.ptr);
        nodes[i].ranges.count = uids.count;
        copied = nodes[i].ranges.ptr != NULL;
        if (copied && uids.count)
            memcpy(nodes[i].ranges.ptr, uids.ptr, uids.count * sizeof *uids.ptr);
    }
    if (copied) {
        request->search.nodes = nodes;
        request->search.nodes_count = search->nodes_count;
        return true;
    }
    if (!error) {
        sp_imap_abandon(s, request);
    } else {
        sp_request_free(request);
        sp_imap_bad(s, error);
    }
    return false;
}

void sp_imap_run_search(struct sp_imap *s)
{
    struct sp_imap_search_args *search = s->command.search;
    if (search->has_charset && (s->enabled & SP_IMAP_ENABLE_UTF8)) { /* RFC 6855, 3 */
        sp_imap_bad(s, "All strings are UTF-8: CHARSET is not to be given");
        return;
    }
    if (search->has_modseq)
        sp_imap_enable_condstore(s);
    if (s->rev2 && s->command.verb == SP_IMAP_SEARCH && !search->extended) { /* RFC 9051, 6.4.4 */
        search->extended = true;
        search->returns = SP_IMAP_ESEARCH_ALL;
    }
    struct sp_request *request = sp_imap_request(s, SP_REQ_SEARCH);
    if (!request || !copy_program(s, request))
        return;
    /* Its own `$` is in the program; if it fails, nothing is saved (RFC 5182, 2.1). */
    if (search->returns & SP_IMAP_ESEARCH_SAVE)
        sp_imap_forget_saved(s);
    memcpy(request->search.sort, search->sort, sizeof search->sort);
    request->search.sort_count = search->sort_count;
    request->search.thread = search->thread;
    sp_imap_submit(s, request,
                   s->command.verb == SP_IMAP_THREAD ? on_thread
                   : s->command.verb == SP_IMAP_SORT ? on_sort
                                                     : on_search);
}
