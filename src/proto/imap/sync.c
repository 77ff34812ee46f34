/* The selected mailbox: what is known of it, and telling the client what changed. */
#include "proto/imap/state.h"

#include "proto/imap/respond.h"

#include <stdlib.h>

void sp_imap_unselect(struct sp_imap *s)
{
    struct sp_imap_selected *selected = s->selected;
    if (!selected)
        return;
    sp_imap_uidmap_release(&selected->map);
    free(selected->gone);
    free(selected->saved);
    free(selected->keywords);
    free(selected);
    s->selected = NULL;
}

/* ---- Flags ---- */

static void add_flag_names(struct sp_imap *s, bool permanent)
{
    const struct sp_imap_selected *selected = s->selected;
    uint32_t rights = permanent ? selected->rights : SP_RIGHTS_ALL;
    bool write = rights & SP_RIGHT_WRITE;
    size_t start = s->out.len;
    sp_buf_add_str(&s->out, write ? " \\Answered \\Flagged" : "");
    sp_buf_add_str(&s->out, rights & SP_RIGHT_DELETED ? " \\Deleted" : "");
    sp_buf_add_str(&s->out, rights & SP_RIGHT_SEEN ? " \\Seen" : "");
    sp_buf_add_str(&s->out, write ? " \\Draft" : "");
    for (uint32_t i = 0; write && i < selected->keywords_count; i++) {
        sp_buf_add_byte(&s->out, ' ');
        sp_buf_add(&s->out, selected->keywords[i]);
    }
    if (permanent && write && selected->keywords_count < SP_KEYWORDS_MAX)
        sp_buf_add(&s->out, SP_S(" \\*"));
    if (s->out.len > start)
        s->out.ptr[start] = '(';
    else
        sp_buf_add_byte(&s->out, '(');
    sp_buf_add_byte(&s->out, ')');
}

void sp_imap_tell_flags(struct sp_imap *s)
{
    sp_buf_add(&s->out, SP_S("* FLAGS "));
    add_flag_names(s, false);
    sp_buf_add(&s->out, SP_S("\r\n* OK [PERMANENTFLAGS "));
    if (s->selected->read_only)
        sp_buf_add(&s->out, SP_S("()"));
    else
        add_flag_names(s, true);
    sp_buf_add(&s->out, SP_S("] Flags that are kept\r\n"));
}

/* A keyword is an atom, or the response would not be understood. */
static bool are_atoms(const struct sp_reply *reply)
{
    for (uint32_t i = 0; i < reply->keywords_count; i++) {
        if (!reply->keywords[i].len || reply->keywords[i].len > SP_KEYWORD_MAX)
            return false;
        for (size_t k = 0; k < reply->keywords[i].len; k++)
            if (!sp_imap_is_atom_char(reply->keywords[i].ptr[k]))
                return false;
    }
    return true;
}

bool sp_imap_learn_keywords(struct sp_imap *s, const struct sp_reply *reply, bool tell)
{
    struct sp_imap_selected *selected = s->selected;
    uint32_t count = reply->keywords_count;
    size_t bytes = 0;
    if (count <= selected->keywords_count)
        return true;
    if (count > SP_KEYWORDS_MAX || !are_atoms(reply)) {
        sp_imap_bye(s, "[UNAVAILABLE] Internal error in the mailbox's keywords");
        return false;
    }
    for (uint32_t i = 0; i < count; i++)
        bytes += reply->keywords[i].len;
    struct sp_slice *keywords = malloc(count * sizeof *keywords + bytes);
    if (!keywords) {
        sp_imap_bye(s, "[UNAVAILABLE] Out of memory");
        return false;
    }
    uint8_t *at = (uint8_t *)(keywords + count);
    for (uint32_t i = 0; i < count; i++) {
        keywords[i] = sp_slice(at, reply->keywords[i].len);
        at = sp_imap_put(at, reply->keywords[i]);
    }
    free(selected->keywords);
    selected->keywords = keywords;
    selected->keywords_count = count;
    selected->keywords_bytes = (uint32_t)bytes + count;
    if (tell)
        sp_imap_tell_flags(s);
    return true;
}

void sp_imap_enable_condstore(struct sp_imap *s)
{
    if (s->condstore)
        return;
    s->condstore = true;
    if (s->selected) /* RFC 7162, 3.1.2 */
        sp_buf_addf(&s->out, "* OK [HIGHESTMODSEQ %llu] Highest\r\n",
                    (unsigned long long)s->selected->modseq);
}

/* Only if it follows directly on what was known of the mailbox: between the two somebody else may
 * have changed the same messages, and their MODSEQ, being that of the last change, would not show
 * it. Otherwise the change is told as news, harmlessly. */
void sp_imap_own_change(struct sp_imap_selected *selected, const struct sp_reply *reply)
{
    if (reply->modseq > selected->modseq && reply->previous_modseq <= selected->modseq)
        selected->modseq = reply->modseq;
}

void sp_imap_told(struct sp_imap_selected *selected, uint64_t modseq)
{
    if (modseq <= selected->modseq)
        return;
    if (modseq != selected->told_last + 1)
        selected->told_first = modseq;
    selected->told_last = modseq;
}

/* ---- Messages that are gone ---- */

/* RFC 3501, 7.4.1: the client counts on sequence numbers while these run. */
static bool may_expunge(const struct sp_imap *s)
{
    switch (s->command.verb) {
    case SP_IMAP_FETCH:
    case SP_IMAP_STORE:
    case SP_IMAP_SEARCH:
    case SP_IMAP_SORT:
    case SP_IMAP_THREAD:
        return s->command.uid;
    default:
        return true;
    }
}

static void tell_expunge(void *context, uint32_t seq, uint32_t count)
{
    struct sp_buf *out = context;
    uint8_t line[32], *at = sp_imap_put(line, SP_S("* "));
    at = sp_imap_put_decimal(at, seq);
    at = sp_imap_put(at, SP_S(" EXPUNGE\r\n"));
    while (count--)
        sp_buf_add(out, sp_slice(line, (size_t)(at - line)));
}

static void tell_nothing(void *context, uint32_t seq, uint32_t count)
{
}

static bool out_of_memory(struct sp_imap *s)
{
    sp_imap_bye(s, "[UNAVAILABLE] Out of memory");
    return false;
}

/* Adds UIDs to those that wait to be told. */
static bool keep_gone(struct sp_imap *s, struct sp_uid_ranges ranges)
{
    struct sp_imap_selected *selected = s->selected;
    struct sp_uid_range *gone = selected->gone;
    uint32_t known = 0, fresh = 0, count = 0, total = selected->gone_count + ranges.count;
    if (!ranges.count)
        return true;
    struct sp_uid_range *merged = malloc(total * sizeof *merged);
    if (!merged)
        return out_of_memory(s);
    while (known < selected->gone_count || fresh < ranges.count) {
        bool first = fresh == ranges.count ||
                     (known < selected->gone_count && gone[known].first <= ranges.ptr[fresh].first);
        struct sp_uid_range next = first ? gone[known++] : ranges.ptr[fresh++];
        if (count && next.first - 1 <= merged[count - 1].last) {
            if (next.last > merged[count - 1].last)
                merged[count - 1].last = next.last;
        } else {
            merged[count++] = next;
        }
    }
    free(gone);
    selected->gone = merged;
    selected->gone_count = count;
    return true;
}

static bool tell_gone(struct sp_imap *s)
{
    struct sp_imap_selected *selected = s->selected;
    struct sp_uid_ranges gone = {selected->gone, selected->gone_count};
    bool vanished = s->qresync || s->uidonly;
    if (vanished && !sp_imap_tell_vanished(s, gone))
        return out_of_memory(s);
    if (sp_imap_uidmap_remove(&selected->map, gone, vanished ? tell_nothing : tell_expunge,
                              &s->out) != SP_OK)
        return out_of_memory(s);
    free(selected->gone);
    selected->gone = NULL;
    selected->gone_count = 0;
    return true;
}

static bool is_sane(struct sp_uid_ranges ranges)
{
    uint32_t last = 0;
    for (uint32_t i = 0; i < ranges.count; i++) {
        if (ranges.ptr[i].first <= last || ranges.ptr[i].last < ranges.ptr[i].first)
            return false;
        last = ranges.ptr[i].last;
    }
    return true;
}

static bool learn_gone(struct sp_imap *s, struct sp_uid_ranges ranges)
{
    if (!is_sane(ranges)) {
        sp_imap_bye(s, "[UNAVAILABLE] Internal error in the mailbox's UIDs");
        return false;
    }
    return keep_gone(s, ranges);
}

bool sp_imap_expunged(struct sp_imap *s, struct sp_uid_ranges ranges)
{
    return learn_gone(s, ranges) && tell_gone(s);
}

/* ---- News ---- */

static void tell_row(struct sp_imap *s, const struct sp_row *row, uint32_t seq)
{
    const struct sp_imap_selected *selected = s->selected;
    if (!sp_buf_reserve(&s->out, 160U + SP_IMAP_SYSTEM_FLAGS_BYTES + selected->keywords_bytes))
        return;
    uint8_t *start = s->out.ptr + s->out.len, *at = sp_imap_put(start, SP_S("* "));
    at = sp_imap_put_decimal(at, s->uidonly ? row->uid : seq);
    at = sp_imap_put(at, s->uidonly ? SP_S(" UIDFETCH (") : SP_S(" FETCH ("));
    if (!s->uidonly && (s->command.uid || s->condstore)) {
        at = sp_imap_put(at, SP_S("UID "));
        at = sp_imap_put_decimal(at, row->uid);
        *at++ = ' ';
    }
    at = sp_imap_put(at, SP_S("FLAGS "));
    at = sp_imap_put_flags(at, row->flags, selected->keywords, selected->keywords_count);
    if (s->condstore) {
        at = sp_imap_put(at, SP_S(" MODSEQ ("));
        at = sp_imap_put_decimal(at, row->modseq);
        *at++ = ')';
    }
    at = sp_imap_put(at, SP_S(")\r\n"));
    s->out.len += (size_t)(at - start);
}

static bool ask_for_news(struct sp_imap *s, uint32_t after_uid);

/* One page of news. False: the session has ended. */
static bool learn(struct sp_imap *s, const struct sp_reply *reply)
{
    struct sp_imap_selected *selected = s->selected;
    const struct sp_mailbox_info *info = reply->mailboxes_count ? reply->mailboxes : NULL;
    uint32_t run = 0, exists = sp_imap_uidmap_exists(&selected->map);
    if (info && info->protected_) {
        sp_imap_bye(s, "[UNAVAILABLE] The mailbox is protected while it is being repaired");
        return false;
    }
    if (!sp_imap_learn_keywords(s, reply, true))
        return false;
    if (info && info->rights != selected->rights) {
        selected->rights = info->rights;
        sp_imap_tell_flags(s);
    }
    for (uint32_t i = 0; i < reply->rows_count; i++) {
        const struct sp_row *row = &reply->rows[i];
        uint32_t seq = sp_imap_uidmap_next_seq(&selected->map, &run, row->uid);
        bool told = row->modseq >= selected->told_first && row->modseq <= selected->told_last;
        /* A client fetches the flags of new messages itself. */
        if (seq && row->uid < s->sync_uidnext && !told)
            tell_row(s, row, seq);
    }
    if (!learn_gone(s, reply->gone))
        return false;
    if (sp_imap_uidmap_append(&selected->map, reply->ranges) != SP_OK) {
        sp_imap_bye(s, "[UNAVAILABLE] The mailbox's news could not be taken in");
        return false;
    }
    bool grown = sp_imap_uidmap_exists(&selected->map) > exists;
    if (may_expunge(s) && !tell_gone(s))
        return false;
    if (grown)
        sp_imap_add_count(&s->out, sp_imap_uidmap_exists(&selected->map), "EXISTS");
    uint32_t last = sp_imap_uidmap_last(&selected->map);
    if (last != UINT32_MAX && selected->uidnext <= last)
        selected->uidnext = last + 1;
    if (info && info->uidnext > selected->uidnext)
        selected->uidnext = info->uidnext;
    if (info && !s->sync_modseq)
        s->sync_modseq = info->highestmodseq;
    return true;
}

/* The command's end, or on in IDLE. */
static void go_on(struct sp_imap *s)
{
    if (s->phase != SP_IMAP_IDLING && s->idle_done && !s->final.len) {
        struct sp_buf *final = sp_imap_final(s);
        sp_buf_add(final, SP_S("OK IDLE completed\r\n"));
    }
    if (s->phase != SP_IMAP_IDLING)
        sp_imap_conclude(s);
}

static void on_news(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status == SP_CONFLICT || reply->status == SP_NOT_FOUND) {
        sp_imap_bye(s, "The selected mailbox is no longer there");
        return;
    }
    if (reply->status == SP_SHUTDOWN) {
        sp_imap_bye(s, "Server is shutting down");
        return;
    }
    if (reply->status != SP_OK) {
        s->selected->news = true; /* there will be another occasion, in IDLE after a pause */
        s->selected->retry_ms = s->active_ms + SP_IMAP_NEWS_RETRY_MS;
        go_on(s);
        return;
    }
    if (!learn(s, reply))
        return;
    if (reply->more && reply->rows_count && ask_for_news(s, reply->rows[reply->rows_count - 1].uid))
        return;
    if (!reply->more && s->selected->modseq < s->sync_modseq)
        s->selected->modseq = s->sync_modseq;
    if (s->phase == SP_IMAP_IDLING)
        sp_imap_idle_news(s);
    else
        go_on(s);
}

static bool ask_for_news(struct sp_imap *s, uint32_t after_uid)
{
    struct sp_imap_selected *selected = s->selected;
    struct sp_request *request = sp_imap_request_new(s, SP_REQ_SYNC);
    if (!request) {
        selected->news = true;
        return false;
    }
    if (!after_uid) {
        selected->news = false;
        selected->retry_ms = 0;
        s->sync_uidnext = selected->uidnext;
        s->sync_modseq = 0;
    }
    request->sync.since_modseq = selected->modseq;
    request->sync.uidnext = selected->uidnext;
    request->sync.after_uid = after_uid;
    sp_imap_submit(s, request, on_news);
    return true;
}

void sp_imap_news(struct sp_imap *s)
{
    if (s->selected->gone_count && may_expunge(s) && !tell_gone(s))
        return;
    if (!s->selected->news || !ask_for_news(s, 0))
        sp_imap_conclude(s);
}

void sp_imap_idle_news(struct sp_imap *s)
{
    if (!s->selected || s->handler || s->phase != SP_IMAP_IDLING)
        return;
    /* For a client that does not read the news waits: it would pile up here. */
    if (sp_imap_unsent(s) >= SP_IMAP_OUT_LOW)
        return;
    if (s->selected->gone_count && !tell_gone(s))
        return;
    if (s->selected->news && !s->selected->retry_ms)
        (void)ask_for_news(s, 0);
}

/* ---- Sets ---- */

bool sp_imap_resolve_set(struct sp_imap *s, struct sp_imap_set set, bool sequence,
                         struct sp_uid_ranges *ret_uids, const char **ret_error)
{
    const struct sp_imap_uidmap *map = &s->selected->map;
    uint32_t last = sequence ? sp_imap_uidmap_exists(map) : sp_imap_uidmap_last(map);
    struct sp_uid_ranges ranges;
    if (set.saved) { /* those that are still there: RFC 5182, 2.1 */
        struct sp_uid_ranges saved = {s->selected->saved, s->selected->saved_count};
        ranges.ptr =
            sp_arena_array(&s->arena, (size_t)saved.count + map->count, sizeof *ranges.ptr);
        if (!ranges.ptr)
            return false;
        ranges.count = sp_imap_uidmap_part(map, saved, true, ranges.ptr);
        *ret_uids = ranges;
        return true;
    }
    if (sequence && !last) {
        /* `1:*` of an empty mailbox is what every client asks for: it names nothing, and is no
         * mistake. */
        for (uint32_t i = 0; i < set.count; i++)
            if (set.ptr[i].first && set.ptr[i].last)
                *ret_error = "No such message";
        *ret_uids = (struct sp_uid_ranges){0};
        return !*ret_error;
    }
    if (!sp_imap_set_resolve(set, last, &s->arena, &ranges))
        return false;
    if (sequence) {
        if (ranges.ptr[ranges.count - 1].last > last) {
            *ret_error = "No such message";
            return false;
        }
        return sp_imap_uidmap_uids(map, ranges, &s->arena, ret_uids) == SP_OK;
    }
    /* What the client has not been told of has no number yet. */
    while (ranges.count && ranges.ptr[ranges.count - 1].first > last)
        ranges.count--;
    if (ranges.count && ranges.ptr[ranges.count - 1].last > last)
        ranges.ptr[ranges.count - 1].last = last;
    *ret_uids = ranges;
    return true;
}

bool sp_imap_resolve(struct sp_imap *s, struct sp_imap_set set, struct sp_uid_ranges *ret_uids)
{
    const char *error = NULL;
    if (sp_imap_resolve_set(s, set, !s->command.uid, ret_uids, &error))
        return true;
    if (error)
        sp_imap_bad(s, error);
    else
        sp_imap_abandon(s, NULL);
    return false;
}

bool sp_imap_request_ranges(struct sp_request *request, struct sp_uid_ranges ranges)
{
    struct sp_uid_range *copy = sp_arena_array(&request->arena, ranges.count, sizeof *copy);
    if (!copy)
        return false;
    if (ranges.count)
        memcpy(copy, ranges.ptr, ranges.count * sizeof *copy);
    request->ranges = (struct sp_uid_ranges){copy, ranges.count};
    return true;
}
