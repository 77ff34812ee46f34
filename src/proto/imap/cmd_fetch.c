/* FETCH (RFC 3501, 6.4.5 and 7.4.2), and the flags that STORE reports.
 *
 * One request is under way at a time. `mail` answers with some rows and says whether there are
 * more; they are asked for when the output has nearly been sent. Of a section above
 * SP_SECTION_PIECE_MAX the reply has the first piece alone. What comes behind it in the output is
 * kept aside, with a gap where the rest belongs:
 *
 *     out:  ... BODY[] {200000}\r\n<65536 bytes>
 *     held: )\r\n* 8 FETCH (BODY[] {70000}\r\n<65536 bytes> )\r\n* 9 FETCH ...
 *           ^ gap 0: 134464 bytes                         ^ gap 1: 4464 bytes
 *
 * The rest is asked for a few pieces at a time and goes out directly; then follows what was held up
 * to the next gap.
 *
 * Messages whose \Seen this FETCH sets are collected from each reply, and stored when it has gone
 * out. */
#include "proto/imap/state.h"

#include "mime/mime.h"
#include "proto/imap/respond.h"

#include <stdlib.h>

#define PIECES_AT_ONCE 4U
#define REST_BYTES_MAX (2U << 20)
#define ROW_BYTES      384U /* of a row without its strings and keywords, at most */

/* What makes a response worth its while without any string. */
#define SMALL_ITEMS                                                                                \
    (SP_IMAP_ITEM_FLAGS | SP_IMAP_ITEM_MODSEQ | SP_IMAP_ITEM_INTERNALDATE | SP_IMAP_ITEM_SIZE |    \
     SP_IMAP_ITEM_EMAILID | SP_IMAP_ITEM_SAVEDATE)

struct gap {
    size_t at; /* in held */
    uint32_t uid;
    uint32_t section;
    uint64_t done, left; /* bytes of the literal */
    struct sp_buf rest;  /* with which `mail` finds them, also when the message is gone */
};

struct read_row {
    uint32_t uid;
    uint64_t flags;
};

enum fetch_step {
    STEP_WAITS, /* for a reply */
    STEP_ROWS,  /* there are more rows to ask for */
    STEP_SEEN,  /* \Seen is to be stored */
    STEP_END,
};

struct sp_imap_fetch {
    unsigned items;
    const struct sp_imap_fetch_args *args; /* NULL: a report, whose response is prepared */
    uint64_t changed_since;
    struct sp_uid_ranges ranges; /* what is still to be asked for */
    uint64_t modseq;             /* of the change that is reported */
    uint32_t rows_missing; /* of a sequence set: messages that have not been seen in a reply */
    bool unavailable;      /* something could not be had */
    bool unknown_cte;      /* ... since nobody knows its transfer encoding */
    bool more;
    enum fetch_step step;
    /* Behind an unfinished literal. */
    struct sp_buf held;
    size_t held_sent;
    struct gap *gaps; /* heap */
    uint32_t gaps_count, gaps_next, gaps_capacity;
    struct read_row *read; /* heap: rows that this reply set \Seen of, or will */
    uint32_t read_count, read_capacity;
};

void sp_imap_fetch_release(struct sp_imap *s)
{
    struct sp_imap_fetch *fetch = s->fetch;
    if (!fetch)
        return;
    sp_buf_release(&fetch->held);
    for (uint32_t i = 0; i < fetch->gaps_count; i++)
        sp_buf_release(&fetch->gaps[i].rest);
    free(fetch->gaps);
    free(fetch->read);
    s->fetch = NULL;
}

bool sp_imap_in_literal(const struct sp_imap *s)
{
    return s->fetch && s->fetch->gaps_next < s->fetch->gaps_count;
}

/* ---- Rows ---- */

static uint8_t *put_item(uint8_t *at, const char *name)
{
    return sp_imap_put(at, sp_slice_str(name));
}

/* The items that have a small, known size. */
static void add_small_items(const struct sp_imap *s, struct sp_buf *to, const struct sp_row *row,
                            unsigned items, uint32_t seq)
{
    const struct sp_imap_selected *selected = s->selected;
    if (!sp_buf_reserve(to, ROW_BYTES + selected->keywords_bytes))
        return;
    uint8_t *start = to->ptr + to->len, *at = put_item(start, "* ");
    at = sp_imap_put_decimal(at, s->uidonly ? row->uid : seq);
    at = put_item(at, s->uidonly ? " UIDFETCH (" : " FETCH (");
    if (items & SP_IMAP_ITEM_UID) {
        at = put_item(at, "UID ");
        at = sp_imap_put_decimal(at, row->uid);
        *at++ = ' ';
    }
    if (items & SP_IMAP_ITEM_FLAGS) {
        at = put_item(at, "FLAGS ");
        at = sp_imap_put_flags(at, row->flags, selected->keywords, selected->keywords_count);
        *at++ = ' ';
    }
    if (items & SP_IMAP_ITEM_MODSEQ) {
        at = put_item(at, "MODSEQ (");
        at = sp_imap_put_decimal(at, row->modseq);
        at = put_item(at, ") ");
    }
    if (items & SP_IMAP_ITEM_INTERNALDATE) {
        at = put_item(at, "INTERNALDATE ");
        at = sp_imap_put_date(at, row->date);
        *at++ = ' ';
    }
    if (items & SP_IMAP_ITEM_SIZE) {
        at = put_item(at, "RFC822.SIZE ");
        at = sp_imap_put_decimal(at, row->size);
        *at++ = ' ';
    }
    if (items & SP_IMAP_ITEM_EMAILID) {
        at = put_item(at, "EMAILID (");
        at = sp_imap_put_object_id(at, 'M', row->email_id);
        at = put_item(at, ") ");
    }
    if (items & SP_IMAP_ITEM_SAVEDATE) {
        at = put_item(at, "SAVEDATE ");
        at = sp_imap_put_date(at, (struct sp_date){row->saved_s, 0});
        *at++ = ' ';
    }
    to->len += (size_t)(at - start);
}

/* A string that `mail` keeps in IMAP's form. False: it is not there. */
static bool add_stored(struct sp_buf *to, const char *name, struct sp_slice wire)
{
    if (!wire.len)
        return false;
    sp_buf_add_str(to, name);
    sp_buf_add(to, wire);
    sp_buf_add_byte(to, ' ');
    return true;
}

static bool add_body(struct sp_buf *to, struct sp_slice bodystructure)
{
    size_t start = to->len;
    sp_buf_add_str(to, "BODY ");
    if (sp_mime_write_body(bodystructure, to) != SP_OK) {
        to->len = start;
        return false;
    }
    sp_buf_add_byte(to, ' ');
    return true;
}

static bool add_gap(struct sp_imap_fetch *fetch, uint32_t uid, uint32_t section,
                    const struct sp_fetch_section *part)
{
    if (fetch->gaps_count == fetch->gaps_capacity) {
        uint32_t capacity = fetch->gaps_capacity ? fetch->gaps_capacity * 2 : 4;
        struct gap *gaps = realloc(fetch->gaps, capacity * sizeof *gaps);
        if (!gaps)
            return false;
        fetch->gaps = gaps;
        fetch->gaps_capacity = capacity;
    }
    struct gap *gap = &fetch->gaps[fetch->gaps_count++];
    *gap = (struct gap){
        .at = fetch->held.len,
        .uid = uid,
        .section = section,
        .done = part->bytes.len,
        .left = part->size - part->bytes.len,
    };
    sp_buf_init(&gap->rest, REST_BYTES_MAX);
    sp_buf_add(&gap->rest, part->rest);
    return !sp_buf_failed(&gap->rest);
}

/* Where what comes next is to be written. */
static struct sp_buf *target(struct sp_imap *s)
{
    return s->fetch->gaps_count ? &s->fetch->held : &s->out;
}

static void add_thread_id(struct sp_buf *to, struct sp_slice id)
{
    sp_assert(id.len == SP_OBJECT_ID_BYTES);
    sp_buf_add(to, SP_S(" ("));
    sp_imap_add_object_id(to, 'T', id.ptr);
    sp_buf_add(to, SP_S(") "));
}

/* RFC 8970, 3.2: NIL only where the client said that it can do without. */
static bool add_preview(struct sp_buf *to, const struct sp_fetch_section *part, bool lazy)
{
    if (part->status != SP_OK && !lazy)
        return false;
    sp_buf_add(to, SP_S("PREVIEW "));
    if (part->status == SP_OK)
        sp_imap_add_string(to, part->bytes);
    else
        sp_buf_add(to, SP_S("NIL"));
    sp_buf_add_byte(to, ' ');
    return true;
}

/* A literal has no NUL (RFC 3501, 9: CHAR8): where a message has one, it is 0x80. BINARY shows it.
 */
static void add_bytes(struct sp_buf *to, struct sp_slice bytes, enum sp_section_kind kind)
{
    size_t start = to->len;
    sp_buf_add(to, bytes);
    if (kind == SP_SECTION_BINARY || sp_buf_failed(to))
        return;
    uint8_t *at = bytes.len ? memchr(to->ptr + start, 0, bytes.len) : NULL;
    while (at) {
        *at++ = 0x80;
        at = memchr(at, 0, (size_t)(to->ptr + to->len - at));
    }
}

/* One body section. False: it cannot be had. A literal that cannot be completed closes the session.
 */
static bool add_section(struct sp_imap *s, uint32_t uid, uint32_t index,
                        const struct sp_fetch_section *part)
{
    struct sp_buf *to = target(s);
    enum sp_section_kind kind = s->fetch->args->sections[index].kind;
    bool missing = part->status == SP_NOT_FOUND;
    if (kind == SP_SECTION_PREVIEW) {
        bool lazy = (s->fetch->args->lazy >> index) & 1;
        return add_preview(to, part, lazy);
    }
    if ((part->status != SP_OK && !missing) || part->bytes.len > part->size)
        return false;
    sp_buf_add(to, s->fetch->args->labels[index]);
    if (kind == SP_SECTION_BINARY_SIZE) {
        sp_buf_add_byte(to, ' ');
        sp_buf_add_decimal(to, missing ? 0 : part->size);
        sp_buf_add_byte(to, ' ');
        return true;
    }
    if (!missing && kind == SP_SECTION_THREAD_ID) {
        add_thread_id(to, part->bytes);
        return true;
    }
    if (missing) {
        sp_buf_add(to, SP_S(" NIL "));
        return true;
    }
    sp_buf_add(to, kind == SP_SECTION_BINARY && part->nul ? SP_S(" ~{") : SP_S(" {"));
    sp_buf_add_decimal(to, part->size);
    sp_buf_add(to, SP_S("}\r\n"));
    add_bytes(to, part->bytes, kind);
    if (part->bytes.len < part->size && !add_gap(s->fetch, uid, index, part)) {
        sp_imap_abort(s);
        return false;
    }
    sp_buf_add_byte(target(s), ' ');
    return true;
}

static bool will_read(struct sp_imap_fetch *fetch, const struct sp_row *row)
{
    if (fetch->read_count == fetch->read_capacity) {
        uint32_t capacity = fetch->read_capacity ? fetch->read_capacity * 2 : 16;
        struct read_row *read = realloc(fetch->read, capacity * sizeof *read);
        if (!read)
            return false;
        fetch->read = read;
        fetch->read_capacity = capacity;
    }
    fetch->read[fetch->read_count++] = (struct read_row){row->uid, row->flags};
    return true;
}

/* False: the session has ended. */
static bool add_row(struct sp_imap *s, const struct sp_row *row, uint32_t seq)
{
    struct sp_imap_fetch *fetch = s->fetch;
    const struct sp_imap_fetch_args *args = fetch->args;
    struct sp_buf *to = target(s);
    size_t start = to->len;
    bool whole = true, left_out = false, reads = false;
    add_small_items(s, to, row, fetch->items, seq);
    size_t empty = to->len;
    if (fetch->items & SP_IMAP_ITEM_ENVELOPE)
        whole &= add_stored(to, "ENVELOPE ", row->envelope);
    if (fetch->items & SP_IMAP_ITEM_BODYSTRUCTURE)
        whole &= add_stored(to, "BODYSTRUCTURE ", row->bodystructure);
    if (fetch->items & SP_IMAP_ITEM_BODY)
        whole &= row->bodystructure.len && add_body(to, row->bodystructure);
    uint32_t sections = !args ? 0 : row->sections ? args->sections_count : 0;
    whole &= !args || row->sections || !args->sections_count;
    for (uint32_t i = 0; i < sections; i++) {
        bool added = add_section(s, row->uid, i, &row->sections[i]);
        if (s->phase == SP_IMAP_CLOSED)
            return false;
        /* RFC 3516, 4.3 */
        bool unknown = row->sections[i].status == SP_UNSUPPORTED;
        fetch->unknown_cte |= unknown;
        left_out |= unknown;
        whole &= added || unknown;
        reads |= added && ((args->reads >> i) & 1);
    }
    fetch->unavailable |= !whole;
    struct sp_buf *end = target(s);
    if ((!whole || left_out) && end == to && to->len == empty && !(fetch->items & SMALL_ITEMS)) {
        to->len = start; /* nothing of it could be had */
        return true;
    }
    if (sp_buf_failed(to) || sp_buf_failed(end)) {
        sp_imap_abort(s);
        return false;
    }
    if (end->len && end->ptr[end->len - 1] == ' ')
        end->len--;
    sp_buf_add(end, SP_S(")\r\n"));
    /* Who may not set \Seen may read all the same (RFC 4314, 4). */
    bool may = !s->selected->read_only && s->selected->rights & SP_RIGHT_SEEN;
    if (reads && !(row->flags & SP_FLAG_SEEN) && may && !will_read(fetch, row))
        fetch->unavailable = true;
    return true;
}

/* ---- Asking ---- */

static unsigned wants(unsigned items)
{
    unsigned want = SP_WANT_FLAGS;
    if (items & (SP_IMAP_ITEM_INTERNALDATE | SP_IMAP_ITEM_SIZE | SP_IMAP_ITEM_EMAILID |
                 SP_IMAP_ITEM_SAVEDATE))
        want |= SP_WANT_META;
    if (items & SP_IMAP_ITEM_ENVELOPE)
        want |= SP_WANT_ENVELOPE;
    if (items & (SP_IMAP_ITEM_BODY | SP_IMAP_ITEM_BODYSTRUCTURE))
        want |= SP_WANT_BODYSTRUCTURE;
    return want;
}

/* A section as the client named it, its fields copied to the request. */
static bool copy_section(struct sp_arena *arena, const struct sp_section *from,
                         struct sp_section *ret_to)
{
    *ret_to = *from;
    ret_to->fields = sp_arena_array(arena, from->fields_count, sizeof *from->fields);
    if (!ret_to->fields)
        return false;
    for (uint32_t i = 0; i < from->fields_count; i++) {
        ret_to->fields[i] = sp_arena_copy(arena, from->fields[i]);
        if (!ret_to->fields[i].ptr && from->fields[i].len)
            return false;
    }
    return true;
}

static void on_rows(struct sp_imap *s, const struct sp_reply *reply);
static void on_pieces(struct sp_imap *s, const struct sp_reply *reply);
static void on_seen(struct sp_imap *s, const struct sp_reply *reply);

static void ask_for_rows(struct sp_imap *s)
{
    struct sp_imap_fetch *fetch = s->fetch;
    const struct sp_imap_fetch_args *args = fetch->args;
    struct sp_request *request = sp_imap_request(s, SP_REQ_FETCH);
    if (!request)
        return;
    bool copied = sp_imap_request_ranges(request, fetch->ranges);
    request->fetch.want = wants(fetch->items);
    request->fetch.changed_since = fetch->changed_since;
    if (args) {
        request->fetch.sections =
            sp_arena_array(&request->arena, args->sections_count, sizeof *args->sections);
        request->fetch.sections_count = args->sections_count;
        copied = copied && request->fetch.sections;
        for (uint32_t i = 0; copied && i < args->sections_count; i++)
            copied = copy_section(&request->arena, &args->sections[i], &request->fetch.sections[i]);
    }
    if (!copied) {
        sp_imap_abandon(s, request);
        return;
    }
    fetch->step = STEP_WAITS;
    sp_imap_submit(s, request, on_rows);
}

/* The next pieces of the literal that the output ends in. */
static void ask_for_pieces(struct sp_imap *s)
{
    struct sp_imap_fetch *fetch = s->fetch;
    const struct gap *gap = &fetch->gaps[fetch->gaps_next];
    const struct sp_section *section = &fetch->args->sections[gap->section];
    struct sp_uid_range uid = {gap->uid, gap->uid};
    struct sp_request *request = sp_imap_request(s, SP_REQ_FETCH);
    if (!request)
        return;
    bool copied = sp_imap_request_ranges(request, (struct sp_uid_ranges){&uid, 1});
    request->fetch.rest = sp_arena_copy(&request->arena, sp_buf_slice(&gap->rest));
    copied = copied && (request->fetch.rest.ptr || !gap->rest.len);
    request->fetch.sections = sp_arena_array(&request->arena, PIECES_AT_ONCE, sizeof *section);
    copied = copied && request->fetch.sections;
    uint64_t left = gap->left, at = section->offset + gap->done;
    for (uint32_t i = 0; copied && left && i < PIECES_AT_ONCE; i++) {
        struct sp_section *piece = &request->fetch.sections[i];
        copied = copy_section(&request->arena, section, piece);
        piece->offset = at;
        piece->length = left < SP_SECTION_PIECE_MAX ? left : SP_SECTION_PIECE_MAX;
        at += piece->length;
        left -= piece->length;
        request->fetch.sections_count++;
    }
    if (!copied) {
        sp_imap_abandon(s, request);
        return;
    }
    request->fetch.want = SP_WANT_FLAGS;
    fetch->step = STEP_WAITS;
    sp_imap_submit(s, request, on_pieces);
}

static void ask_for_seen(struct sp_imap *s)
{
    struct sp_imap_fetch *fetch = s->fetch;
    struct sp_request *request = sp_imap_request(s, SP_REQ_STORE);
    if (!request)
        return;
    struct sp_uid_range *uids = sp_arena_array(&request->arena, fetch->read_count, sizeof *uids);
    if (!uids) {
        sp_imap_abandon(s, request);
        return;
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < fetch->read_count; i++) {
        uint32_t uid = fetch->read[i].uid;
        if (count && uids[count - 1].last + 1 == uid)
            uids[count - 1].last = uid;
        else
            uids[count++] = (struct sp_uid_range){uid, uid};
    }
    request->ranges = (struct sp_uid_ranges){uids, count};
    request->store.op = SP_STORE_ADD;
    request->store.flags.system = SP_FLAG_SEEN;
    fetch->step = STEP_WAITS;
    sp_imap_submit(s, request, on_seen);
}

/* ---- Replies ---- */

static void end_fetch(struct sp_imap *s)
{
    bool report = !s->fetch->args, unavailable = s->fetch->unavailable;
    bool unknown_cte = s->fetch->unknown_cte;
    if (report && (s->fetch->items & SP_IMAP_ITEM_FLAGS))
        sp_imap_told(s->selected, s->fetch->modseq);
    bool missing = !report && s->fetch->rows_missing && !s->fetch->args->has_changed_since;
    sp_imap_fetch_release(s);
    if (report)
        sp_imap_end(s); /* the response is there already */
    else if (unavailable)
        sp_imap_finish(s,
                       "NO [UNAVAILABLE] Some of what was asked for is not available at present");
    else if (unknown_cte)
        sp_imap_finish(s, "NO [UNKNOWN-CTE] The transfer encoding of a part is not known");
    else if (missing)
        sp_imap_finish(s, "NO [EXPUNGEISSUED] Some of the messages no longer exist");
    else
        sp_imap_finish_ok(s);
}

/* A reply has been written; what comes next, once it has gone out. */
static void next_step(struct sp_imap_fetch *fetch)
{
    fetch->step = fetch->read_count ? STEP_SEEN : fetch->more ? STEP_ROWS : STEP_END;
}

static void drop_ranges_through(struct sp_uid_ranges *ranges, uint32_t uid)
{
    uint32_t passed = 0;
    while (passed < ranges->count && ranges->ptr[passed].last <= uid)
        passed++;
    ranges->ptr += passed;
    ranges->count -= passed;
    if (ranges->count && ranges->ptr[0].first <= uid)
        ranges->ptr[0].first = uid + 1;
}

static void on_rows(struct sp_imap *s, const struct sp_reply *reply)
{
    struct sp_imap_fetch *fetch = s->fetch;
    uint32_t run = 0;
    if (reply->status != SP_OK && !fetch->args && fetch->changed_since) {
        sp_imap_resync_failed(s, reply);
        return;
    }
    if (reply->status != SP_OK && !fetch->args) {
        sp_imap_end(s); /* what was stored is stored; only the report is missing */
        return;
    }
    if (reply->status != SP_OK) {
        sp_imap_refuse_selected(s, reply);
        return;
    }
    if (!sp_imap_learn_keywords(s, reply, true))
        return;
    for (uint32_t i = 0; i < reply->rows_count; i++) {
        uint32_t seq = sp_imap_uidmap_next_seq(&s->selected->map, &run, reply->rows[i].uid);
        if (!seq)
            continue; /* not told of yet */
        if (!add_row(s, &reply->rows[i], seq))
            return;
        if (fetch->rows_missing)
            fetch->rows_missing--;
    }
    fetch->more = reply->more && reply->rows_count;
    if (fetch->more) {
        drop_ranges_through(&fetch->ranges, reply->rows[reply->rows_count - 1].uid);
        fetch->more = fetch->ranges.count > 0;
    }
    next_step(fetch);
}

/* The next gap is filled: what was held up to the one behind it may go out. */
static void close_gap(struct sp_imap *s)
{
    struct sp_imap_fetch *fetch = s->fetch;
    sp_buf_release(&fetch->gaps[fetch->gaps_next].rest);
    fetch->gaps_next++;
    bool last = fetch->gaps_next == fetch->gaps_count;
    size_t to = last ? fetch->held.len : fetch->gaps[fetch->gaps_next].at;
    sp_buf_add(&s->out, sp_slice_sub(sp_buf_slice(&fetch->held), fetch->held_sent, to));
    fetch->held_sent = to;
    if (last) {
        sp_buf_release(&fetch->held);
        fetch->held_sent = 0;
        fetch->gaps_count = fetch->gaps_next = 0;
    }
}

static void on_pieces(struct sp_imap *s, const struct sp_reply *reply)
{
    struct sp_imap_fetch *fetch = s->fetch;
    struct gap *gap = &fetch->gaps[fetch->gaps_next];
    const struct sp_section *section = &fetch->args->sections[gap->section];
    uint64_t left = gap->left;
    bool good = reply->status == SP_OK && reply->rows_count == 1 &&
                reply->rows[0].uid == gap->uid && reply->rows[0].sections;
    for (uint32_t i = 0; good && left && i < PIECES_AT_ONCE; i++) {
        const struct sp_fetch_section *piece = &reply->rows[0].sections[i];
        uint64_t expected = left < SP_SECTION_PIECE_MAX ? left : SP_SECTION_PIECE_MAX;
        good = piece->status == SP_OK && piece->bytes.len == expected;
        if (good)
            add_bytes(&s->out, piece->bytes, section->kind);
        if (good && piece->rest.len) {
            sp_buf_reset(&gap->rest);
            sp_buf_add(&gap->rest, piece->rest);
            good = !sp_buf_failed(&gap->rest);
        }
        left -= expected;
    }
    if (!good) {
        sp_imap_bye(s, ""); /* the client was promised these bytes */
        return;
    }
    gap->done += gap->left - left;
    gap->left = left;
    if (!left)
        close_gap(s);
    next_step(fetch);
}

/* Whether it could be stored or not, the messages were sent: a failure only leaves them unread. */
static void on_seen(struct sp_imap *s, const struct sp_reply *reply)
{
    struct sp_imap_fetch *fetch = s->fetch;
    unsigned items = SP_IMAP_ITEM_FLAGS | (fetch->items & SP_IMAP_ITEM_UID);
    uint32_t run = 0;
    bool changed =
        reply->status == SP_OK && reply->modseq; /* or somebody else was faster, and it is news */
    if (changed)
        sp_imap_own_change(s->selected, reply);
    if (s->condstore)
        items |= SP_IMAP_ITEM_MODSEQ | (s->uidonly ? 0 : SP_IMAP_ITEM_UID);
    for (uint32_t i = 0; changed && i < fetch->read_count; i++) {
        struct sp_row row = {.uid = fetch->read[i].uid,
                             .flags = fetch->read[i].flags | SP_FLAG_SEEN,
                             .modseq = reply->modseq};
        uint32_t seq = sp_imap_uidmap_next_seq(&s->selected->map, &run, row.uid);
        add_small_items(s, &s->out, &row, items, seq);
        if (sp_buf_failed(&s->out))
            return; /* the session sees it */
        s->out.len--;
        sp_buf_add(&s->out, SP_S(")\r\n"));
    }
    fetch->read_count = 0;
    next_step(fetch);
}

/* ---- Beginning, and going on ---- */

void sp_imap_fetch_more(struct sp_imap *s)
{
    if (s->fetch->step == STEP_WAITS)
        return;
    if (sp_imap_in_literal(s))
        ask_for_pieces(s);
    else if (s->fetch->step == STEP_SEEN)
        ask_for_seen(s);
    else if (s->fetch->step == STEP_ROWS)
        ask_for_rows(s);
    else
        end_fetch(s);
}

static struct sp_imap_fetch *new_fetch(struct sp_imap *s, struct sp_uid_ranges uids, unsigned items)
{
    struct sp_imap_fetch *fetch = sp_arena_alloc(&s->arena, sizeof *fetch);
    if (!fetch) {
        sp_imap_abandon(s, NULL);
        return NULL;
    }
    fetch->items = items;
    fetch->ranges = uids;
    sp_buf_init(&fetch->held, SP_IMAP_OUT_MAX);
    s->fetch = fetch;
    return fetch;
}

void sp_imap_run_fetch(struct sp_imap *s)
{
    const struct sp_imap_fetch_args *args = s->command.fetch;
    if (args->vanished && !s->qresync) {
        sp_imap_bad(s, "ENABLE QRESYNC comes first");
        return;
    }
    if (args->items & SP_IMAP_ITEM_MODSEQ)
        sp_imap_enable_condstore(s);
    if (args->vanished)
        sp_imap_fetch_vanished(s);
    else
        sp_imap_begin_fetch(s);
}

/* Of the messages that are there only those that PARTIAL names (RFC 9394, 3.3). False: the command
 * has ended. */
static bool cut(struct sp_imap *s, struct sp_uid_ranges *uids)
{
    const struct sp_imap_uidmap *map = &s->selected->map;
    struct sp_uid_ranges there = {0};
    size_t room = (size_t)uids->count + map->count;
    there.ptr = sp_arena_array(&s->arena, room, sizeof *there.ptr);
    if (!there.ptr) {
        sp_imap_abandon(s, NULL);
        return false;
    }
    there.count = sp_imap_uidmap_part(map, *uids, true, there.ptr);
    *uids = sp_imap_partial_of(there, s->command.fetch->partial, there.ptr);
    return true;
}

void sp_imap_begin_fetch(struct sp_imap *s)
{
    const struct sp_imap_fetch_args *args = s->command.fetch;
    struct sp_uid_ranges uids;
    if (!sp_imap_resolve(s, args->set, &uids) || (args->has_partial && !cut(s, &uids)))
        return;
    if (!uids.count) {
        sp_imap_finish_ok(s);
        return;
    }
    struct sp_imap_fetch *fetch = new_fetch(s, uids, args->items);
    if (!fetch)
        return;
    /* UIDFETCH begins with the UID: RFC 9586, 3.4. */
    if (s->uidonly && (args->items != SP_IMAP_ITEM_UID || args->sections_count))
        fetch->items &= ~SP_IMAP_ITEM_UID;
    fetch->args = args;
    fetch->changed_since = args->changed_since;
    if (!s->command.uid)
        fetch->rows_missing = sp_imap_uidmap_count(&s->selected->map, uids);
    ask_for_rows(s);
}

void sp_imap_report_flags(struct sp_imap *s, struct sp_uid_ranges uids, unsigned items,
                          uint64_t modseq)
{
    if ((s->command.uid || s->condstore) && !s->uidonly)
        items |= SP_IMAP_ITEM_UID;
    struct sp_imap_fetch *fetch = new_fetch(s, uids, items);
    if (!fetch)
        return;
    fetch->modseq = modseq;
    ask_for_rows(s);
}

void sp_imap_report_changed(struct sp_imap *s, struct sp_uid_ranges uids, uint64_t since)
{
    struct sp_imap_fetch *fetch = new_fetch(
        s, uids, (s->uidonly ? 0 : SP_IMAP_ITEM_UID) | SP_IMAP_ITEM_FLAGS | SP_IMAP_ITEM_MODSEQ);
    if (!fetch)
        return;
    fetch->changed_since = since;
    ask_for_rows(s);
}
