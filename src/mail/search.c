/* SEARCH: a program evaluated for each message, the cheap keys first.
 *
 * Keys are known by what they cost: flags, the message's record, its envelope, its header, its
 * body. Within the snapshot everything up to the envelope is evaluated, with "later" as a third
 * truth value for the rest; what remains undecided is copied out in batches, and its bytes are read
 * when the snapshot has ended. So a search never holds a transaction while it waits for a disk, and
 * only reads bodies where the other keys leave a doubt. A header or part that is looked at is read
 * and decoded once, for all keys of the program: their number costs little.
 */
#include "mail/search.h"
#include "base/time.h"
#include "mail/body_read.h"
#include "mail/derive.h"
#include "mail/match.h"
#include "mail/plan.h"

#include <stdlib.h>

#define PENDING_MAX   256U        /* undecided messages in a batch */
#define PENDING_BYTES (8U << 20)  /* ... and of their records */
#define BATCH_BYTES   (64U << 20) /* of a batch's memory */
#define SCRATCH_BYTES (16U << 20)
#define OVERLAP_BYTES 8192U /* of the windows in which a long part is searched */
#define DAY_S         86400

enum cost { COST_FLAGS, COST_RECORD, COST_ENVELOPE, COST_HEADER, COST_BODY };
enum verdict { NO, YES, LATER };

struct node {
    const struct sp_search_node *is;
    enum cost cost;
    struct node **operands; /* cheapest first */
    uint32_t operands_count;
    struct sp_needle needle;
    uint64_t keyword;  /* its bit; 0: the mailbox does not have it */
    struct node *next; /* in search->headers or search->texts */
    bool found;        /* in the message at hand, of these */
};

/* A message while it is looked at. */
struct candidate {
    struct sp_flag_row row;
    uint64_t time_ns; /* of its record */
    bool loaded;      /* message is set */
    struct sp_message message;
    bool has_envelope;
    struct sp_mime_envelope_wire envelope;
    struct sp_item item;           /* after the snapshot */
    bool headers_done, texts_done; /* the nodes of these say what was found */
    struct sp_slice payload;
};

struct search {
    struct sp_op *op;
    struct node *root;
    struct node *headers, *texts; /* HEADER; BODY and TEXT */
    struct sp_uid_ranges ranges;  /* where it looks */
    uint64_t since_modseq;
    int64_t now_s;
    struct sp_matcher matcher;
    struct sp_arena scratch;          /* of the message at hand */
    struct sp_message_cursor *cursor; /* within the snapshot */
    struct sp_bytes bytes;            /* after it */
    enum sp_status status;            /* what went wrong */

    struct sp_uid_list found;
    uint64_t modseq;
    uint32_t next_uid; /* where the next batch begins; 0: at the start */
};

/* ---- The program ---- */

static enum cost cost_of(const struct sp_search_node *node)
{
    switch (node->op) {
    case SP_SEARCH_LARGER:
    case SP_SEARCH_SMALLER:
    case SP_SEARCH_BEFORE:
    case SP_SEARCH_ON:
    case SP_SEARCH_SINCE:
    case SP_SEARCH_OLDER:
    case SP_SEARCH_YOUNGER:
    case SP_SEARCH_SAVEDBEFORE:
    case SP_SEARCH_SAVEDON:
    case SP_SEARCH_SAVEDSINCE:
    case SP_SEARCH_EMAIL_ID:
        return COST_RECORD;
    case SP_SEARCH_SENTBEFORE:
    case SP_SEARCH_SENTON:
    case SP_SEARCH_SENTSINCE:
    case SP_SEARCH_FROM:
    case SP_SEARCH_TO:
    case SP_SEARCH_CC:
    case SP_SEARCH_BCC:
    case SP_SEARCH_SUBJECT:
        return COST_ENVELOPE;
    case SP_SEARCH_HEADER:
    case SP_SEARCH_THREAD_ID:
        return COST_HEADER;
    case SP_SEARCH_BODY:
    case SP_SEARCH_TEXT:
        return COST_BODY;
    default:
        return COST_FLAGS;
    }
}

static int by_cost(const void *a, const void *b)
{
    const struct node *x = *(struct node *const *)a, *y = *(struct node *const *)b;
    return (int)x->cost - (int)y->cost;
}

/* Takes one key with its operands from the program. NULL: search->status says why. */
static struct node *compile(struct search *search, uint32_t *at)
{
    const struct sp_request *request = search->op->request;
    struct sp_arena *arena = &search->op->arena;
    if (*at >= request->search.nodes_count) {
        search->status = SP_INVALID;
        return NULL;
    }
    const struct sp_search_node *is = &request->search.nodes[(*at)++];
    struct node *node = sp_arena_alloc(arena, sizeof *node);
    if (!node) {
        search->status = SP_NO_MEMORY;
        return NULL;
    }
    node->is = is;
    node->cost = cost_of(is);
    node->operands_count = is->op == SP_SEARCH_NOT                             ? 1
                           : is->op == SP_SEARCH_AND || is->op == SP_SEARCH_OR ? is->count
                                                                               : 0;
    if (node->operands_count > request->search.nodes_count) {
        search->status = SP_INVALID;
        return NULL;
    }
    if ((search->status = sp_needle_init(&node->needle, is->text, arena)))
        return NULL;
    struct node **list = is->op == SP_SEARCH_HEADER                             ? &search->headers
                         : is->op == SP_SEARCH_BODY || is->op == SP_SEARCH_TEXT ? &search->texts
                                                                                : NULL;
    if (list) {
        node->next = *list;
        *list = node;
    }
    node->operands = sp_arena_array(arena, node->operands_count, sizeof(struct node *));
    if (!node->operands) {
        search->status = SP_NO_MEMORY;
        return NULL;
    }
    for (uint32_t i = 0; i < node->operands_count; i++) {
        node->operands[i] = compile(search, at);
        if (!node->operands[i])
            return NULL;
        if (node->cost < node->operands[i]->cost)
            node->cost = node->operands[i]->cost;
    }
    if (node->operands_count > 1)
        qsort(node->operands, node->operands_count, sizeof(struct node *), by_cost);
    return node;
}

/* Where the program can match at all: the UIDs and the MODSEQ that it demands at its top. */
static void narrow(struct search *search, const struct node *node)
{
    if (node->is->op == SP_SEARCH_UIDS)
        search->ranges = node->is->ranges;
    else if (node->is->op == SP_SEARCH_MODSEQ && node->is->number > search->since_modseq)
        search->since_modseq = node->is->number - 1;
    for (uint32_t i = 0; node->is->op == SP_SEARCH_AND && i < node->operands_count; i++)
        narrow(search, node->operands[i]);
}

static void find_keywords(struct node *node, const struct sp_keywords *keywords)
{
    if (node->is->op == SP_SEARCH_KEYWORD) {
        unsigned bit = sp_keywords_find(keywords, node->is->text);
        node->keyword = bit ? 1ULL << bit : 0;
    }
    for (uint32_t i = 0; i < node->operands_count; i++)
        find_keywords(node->operands[i], keywords);
}

/* ---- Keys ---- */

static bool in_ranges(struct sp_uid_ranges ranges, uint32_t uid)
{
    uint32_t low = 0, high = ranges.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ranges.ptr[middle].last < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < ranges.count && ranges.ptr[low].first <= uid;
}

static int64_t day_of(int64_t unix_s, int zone_min)
{
    int64_t local = unix_s + (int64_t)zone_min * 60;
    return local >= 0 ? local / DAY_S : -((-local + DAY_S - 1) / DAY_S);
}

static bool compare_day(enum sp_search_op op, int64_t day, uint64_t number)
{
    int64_t other = number > INT64_MAX ? INT64_MAX : (int64_t)number;
    switch (op) {
    case SP_SEARCH_BEFORE:
    case SP_SEARCH_SENTBEFORE:
    case SP_SEARCH_SAVEDBEFORE:
        return day < other;
    case SP_SEARCH_ON:
    case SP_SEARCH_SENTON:
    case SP_SEARCH_SAVEDON:
        return day == other;
    default:
        return day >= other;
    }
}

/* The message's record, within the snapshot. */
static bool load_record(struct search *search, struct candidate *c)
{
    uint64_t lsn;
    if (c->loaded)
        return true;
    enum sp_status status =
        sp_message_cursor_get(search->cursor, c->row.uid, &c->payload, &lsn, &c->time_ns);
    if (status == SP_OK)
        status = sp_message_read(c->payload, &search->scratch, &c->message);
    if (status)
        search->status = status == SP_NOT_FOUND ? SP_CORRUPT : status;
    c->loaded = status == SP_OK;
    return c->loaded;
}

static bool load_envelope(struct search *search, struct candidate *c)
{
    if (c->has_envelope)
        return true;
    enum sp_status status =
        sp_mime_read_envelope(c->message.envelope, &search->scratch, &c->envelope);
    if (status)
        search->status = status;
    c->has_envelope = status == SP_OK;
    return c->has_envelope;
}

static bool match_sent(struct search *search, struct candidate *c,
                       const struct sp_search_node *node)
{
    int64_t unix_s;
    int zone;
    if (!load_envelope(search, c) || sp_mime_parse_date(c->envelope.date, &unix_s, &zone) != SP_OK)
        return false;
    return compare_day(node->op, day_of(unix_s, zone), node->number);
}

bool sp_envelope_subject(struct sp_slice envelope, struct sp_slice *ret_subject)
{
    size_t at = 1;
    struct sp_slice found = {NULL, 0};
    /* date SP subject: each NIL, or quoted without a backslash. */
    for (int i = 0; i < 2; i++) {
        if (at + 3 <= envelope.len && memcmp(envelope.ptr + at, "NIL", 3) == 0) {
            found = (struct sp_slice){NULL, 0};
            at += 4;
            continue;
        }
        if (at >= envelope.len || envelope.ptr[at] != '"')
            return false;
        size_t len = sp_slice_find(sp_slice_from(envelope, at + 1), '"');
        if (len == SIZE_MAX)
            return false;
        found = sp_slice_sub(envelope, at + 1, at + 1 + len);
        if (sp_slice_find(found, '\\') != SIZE_MAX)
            return false;
        at += len + 3;
    }
    *ret_subject = found;
    return true;
}

static bool match_subject(struct search *search, struct candidate *c, const struct node *node)
{
    struct sp_slice subject;
    if (!sp_envelope_subject(c->message.envelope, &subject)) {
        if (!load_envelope(search, c))
            return false;
        subject = c->envelope.subject;
    }
    return subject.ptr && sp_needle_in_field(&node->needle, &search->matcher, subject);
}

/* An address as a person would write it. */
static bool match_address(struct search *search, const struct sp_mime_address *address,
                          const struct sp_needle *needle)
{
    struct sp_buf text;
    sp_buf_init(&text, SP_MIME_FIELD_BYTES_MAX * 2);
    sp_buf_add(&text, address->mailbox);
    if (address->host.ptr) {
        sp_buf_add_byte(&text, '@');
        sp_buf_add(&text, address->host);
    }
    bool found = sp_needle_in_utf8(needle, &search->matcher, sp_buf_slice(&text)) ||
                 sp_needle_in_field(needle, &search->matcher, address->name);
    if (!found && needle->blank && address->name.len) {
        struct sp_buf whole;
        sp_buf_init(&whole, SP_MIME_FIELD_BYTES_MAX * 4);
        sp_mime_decode_header(address->name, &whole);
        sp_buf_add(&whole, SP_S(" <"));
        sp_buf_add(&whole, sp_buf_slice(&text));
        sp_buf_add_byte(&whole, '>');
        found = sp_needle_in_utf8(needle, &search->matcher, sp_buf_slice(&whole));
        sp_buf_release(&whole);
    }
    sp_buf_release(&text);
    return found;
}

static bool match_addresses(struct search *search, struct candidate *c, const struct node *node)
{
    struct sp_slice wire = c->message.envelope;
    /* What is nowhere in the envelope is not in its addresses; only what the envelope splits or
     * codes needs care. */
    if (node->needle.plain && node->needle.folded.len && sp_is_ascii(wire) &&
        !memmem(wire.ptr, wire.len, "=?", 2) && sp_slice_find(wire, '\\') == SIZE_MAX &&
        !sp_needle_in_ascii(&node->needle, wire))
        return false;
    if (!load_envelope(search, c))
        return false;
    const struct sp_mime_envelope_wire *e = &c->envelope;
    const struct sp_mime_address *list = node->is->op == SP_SEARCH_FROM ? e->from
                                         : node->is->op == SP_SEARCH_TO ? e->to
                                         : node->is->op == SP_SEARCH_CC ? e->cc
                                                                        : e->bcc;
    uint32_t count = node->is->op == SP_SEARCH_FROM ? e->from_count
                     : node->is->op == SP_SEARCH_TO ? e->to_count
                     : node->is->op == SP_SEARCH_CC ? e->cc_count
                                                    : e->bcc_count;
    for (uint32_t i = 0; i < count; i++)
        if (match_address(search, &list[i], &node->needle))
            return true;
    return false;
}

/* A stretch of the message; missing bytes match nothing. */
static bool get_bytes(struct search *search, struct candidate *c, uint64_t offset, uint64_t len,
                      struct sp_slice *ret)
{
    enum sp_status status = sp_bytes_get(&search->bytes, &c->item, offset, len, ret);
    if (status == SP_NO_MEMORY)
        search->status = status;
    return status == SP_OK;
}

static bool get_header(struct search *search, struct candidate *c, uint64_t offset, uint64_t len,
                       struct sp_slice *ret)
{
    return get_bytes(search, c, offset, len < SP_BYTES_MAX ? len : SP_BYTES_MAX, ret);
}

/* Looks for all HEADER keys. */
static void look_at_fields(struct search *search, struct candidate *c)
{
    struct sp_slice header;
    struct sp_mime_field field;
    for (struct node *node = search->headers; node; node = node->next)
        node->found = false;
    if (!get_header(search, c, 0, c->message.header_bytes, &header))
        return;
    while (sp_mime_next_field(&header, &field)) {
        struct sp_text text = {.bytes = {NULL, 0}};
        bool ready = false;
        for (struct node *node = search->headers; node; node = node->next) {
            if (node->found || !sp_slice_eq_nocase(field.name, node->is->field))
                continue;
            if (!ready)
                text = sp_text_of_field(&search->matcher, field.body);
            ready = true;
            node->found = sp_needle_in_text(&node->needle, &text);
        }
    }
}

static bool match_header(struct search *search, struct candidate *c, const struct node *node)
{
    if (!c->headers_done)
        look_at_fields(search, c);
    c->headers_done = true;
    return node->found;
}

static bool match_thread(struct search *search, struct candidate *c, struct sp_slice wanted)
{
    uint8_t id[SP_OBJECT_ID_BYTES];
    enum sp_status status = sp_thread_id(&search->bytes, &c->item, id);
    if (status == SP_NO_MEMORY)
        search->status = status;
    return status == SP_OK && wanted.len == sizeof id && memcmp(wanted.ptr, id, sizeof id) == 0;
}

/* The BODY and TEXT keys that have not been found yet, in a text. False: all have been. */
static bool look_in_text(struct search *search, const struct sp_text *text, bool body_too)
{
    bool more = false;
    for (struct node *node = search->texts; node; node = node->next) {
        if (!node->found && (body_too || node->is->op == SP_SEARCH_TEXT))
            node->found = sp_needle_in_text(&node->needle, text);
        more = more || !node->found;
    }
    return more;
}

/* The same in a header, the names of fields included: as it lies there, and where that can miss
 * something field by field. */
static bool look_in_header(struct search *search, struct sp_slice header, bool body_too)
{
    struct sp_mime_field field;
    bool plain = sp_header_is_plain(header), more = true;
    if (plain) {
        struct sp_text whole = {header, true};
        more = look_in_text(search, &whole, body_too);
        bool blank = false;
        for (struct node *node = search->texts; node; node = node->next)
            blank = blank || (!node->found && node->needle.blank);
        if (!blank)
            return more;
    }
    while (more && sp_mime_next_field(&header, &field)) {
        struct sp_text text = sp_text_of_field(&search->matcher, sp_slice_trim(field.raw));
        more = look_in_text(search, &text, body_too);
    }
    return more;
}

/* A part in windows that overlap: a long one is never held whole. A window begins with a line, so
 * that base64 does. */
static bool look_in_part(struct search *search, struct candidate *c,
                         const struct sp_mime_part *part)
{
    struct sp_slice charset =
        part->params_count ? part->params[0].value : (struct sp_slice){NULL, 0};
    bool more = true;
    uint64_t at = 0;
    while (more && at < part->body_bytes && !sp_op_cancelled(search->op)) {
        struct sp_slice window;
        uint64_t len = part->body_bytes - at < SP_BYTES_MAX ? part->body_bytes - at : SP_BYTES_MAX;
        if (!get_bytes(search, c, part->body_offset + at, len, &window))
            break;
        struct sp_text text = sp_text_of_part(&search->matcher, window, part->encoding, charset);
        more = look_in_text(search, &text, true);
        if (at + len == part->body_bytes)
            break;
        size_t line = sp_slice_find(sp_slice_from(window, window.len - OVERLAP_BYTES), '\n');
        at += len - OVERLAP_BYTES + (line == SIZE_MAX ? 0 : line + 1);
    }
    return more;
}

/* Looks for all BODY and TEXT keys: in the decoded text parts and the headers of enclosed messages,
 * TEXT in the message's own header too. */
static void look_at_texts(struct search *search, struct candidate *c)
{
    struct sp_mime_message parts;
    struct sp_slice header;
    enum sp_status status = sp_mime_read_parts(c->message.parts, &search->scratch, &parts);
    if (status) {
        search->status = status;
        return;
    }
    bool more = false;
    for (struct node *node = search->texts; node; node = node->next) {
        node->found = node->needle.folded.len == 0;
        more = more || !node->found;
    }
    if (more && get_header(search, c, 0, c->message.header_bytes, &header))
        more = look_in_header(search, header, false);
    for (uint32_t i = 0; more && i < parts.parts_count; i++) {
        const struct sp_mime_part *part = &parts.parts[i];
        bool enclosed = i && parts.parts[part->parent].kind == SP_MIME_MESSAGE;
        if (enclosed && get_header(search, c, part->header_offset, part->header_bytes, &header))
            more = look_in_header(search, header, true);
        if (more && part->kind == SP_MIME_LEAF &&
            (!part->type.len || sp_slice_eq_nocase(part->type, SP_S("text"))))
            more = look_in_part(search, c, part);
    }
}

static bool match_text(struct search *search, struct candidate *c, const struct node *node)
{
    if (!c->texts_done)
        look_at_texts(search, c);
    c->texts_done = true;
    return node->found;
}

static bool match_key(struct search *search, struct candidate *c, const struct node *node)
{
    const struct sp_search_node *is = node->is;
    if (node->cost >= COST_RECORD && !load_record(search, c))
        return false;
    const struct sp_message *m = &c->message;
    switch (is->op) {
    case SP_SEARCH_ALL:
        return true;
    case SP_SEARCH_UIDS:
        return in_ranges(is->ranges, c->row.uid);
    case SP_SEARCH_FLAGS:
        return (c->row.flags & is->number) == is->number;
    case SP_SEARCH_KEYWORD:
        return node->keyword && (c->row.flags & node->keyword);
    case SP_SEARCH_MODSEQ:
        return c->row.modseq >= is->number;
    case SP_SEARCH_LARGER:
        return m->size > is->number;
    case SP_SEARCH_SMALLER:
        return m->size < is->number;
    case SP_SEARCH_BEFORE:
    case SP_SEARCH_ON:
    case SP_SEARCH_SINCE:
        return compare_day(is->op, day_of(m->date_s, m->zone_min), is->number);
    case SP_SEARCH_SAVEDBEFORE:
    case SP_SEARCH_SAVEDON:
    case SP_SEARCH_SAVEDSINCE:
        return compare_day(is->op, day_of((int64_t)(c->time_ns / 1000000000U), 0), is->number);
    case SP_SEARCH_EMAIL_ID:
        return is->field.len == SP_OBJECT_ID_BYTES &&
               memcmp(is->field.ptr, m->digest.bytes, SP_OBJECT_ID_BYTES) == 0;
    case SP_SEARCH_THREAD_ID:
        return match_thread(search, c, is->field);
    case SP_SEARCH_OLDER:
        return is->number <= INT64_MAX && m->date_s <= search->now_s - (int64_t)is->number;
    case SP_SEARCH_YOUNGER:
        return is->number > INT64_MAX || m->date_s >= search->now_s - (int64_t)is->number;
    case SP_SEARCH_SENTBEFORE:
    case SP_SEARCH_SENTON:
    case SP_SEARCH_SENTSINCE:
        return match_sent(search, c, is);
    case SP_SEARCH_SUBJECT:
        return match_subject(search, c, node);
    case SP_SEARCH_FROM:
    case SP_SEARCH_TO:
    case SP_SEARCH_CC:
    case SP_SEARCH_BCC:
        return match_addresses(search, c, node);
    case SP_SEARCH_HEADER:
        return match_header(search, c, node);
    case SP_SEARCH_BODY:
    case SP_SEARCH_TEXT:
        return match_text(search, c, node);
    case SP_SEARCH_AND:
    case SP_SEARCH_OR:
    case SP_SEARCH_NOT:
        break;
    }
    search->status = SP_INVALID;
    return false;
}

/* Keys that cost more than `most` are for later. */
static enum verdict evaluate(struct search *search, struct candidate *c, const struct node *node,
                             enum cost most)
{
    bool is_or = node->is->op == SP_SEARCH_OR;
    if (node->is->op == SP_SEARCH_NOT) {
        enum verdict verdict = evaluate(search, c, node->operands[0], most);
        return verdict == LATER ? LATER : verdict == YES ? NO : YES;
    }
    if (!is_or && node->is->op != SP_SEARCH_AND)
        return node->cost > most ? LATER : match_key(search, c, node) ? YES : NO;
    enum verdict verdict = is_or ? NO : YES;
    for (uint32_t i = 0; i < node->operands_count && !search->status; i++) {
        enum verdict one = evaluate(search, c, node->operands[i], most);
        if (one == (is_or ? YES : NO))
            return one;
        if (one == LATER)
            verdict = LATER;
    }
    return verdict;
}

/* ---- Batches ---- */

static void add_found(struct search *search, const struct sp_flag_row *row)
{
    sp_uid_list_add(&search->found, row->uid, row->uid);
    if (search->modseq < row->modseq)
        search->modseq = row->modseq;
}

/* Asked for each message. */
static bool goes_on(struct search *search)
{
    if (!search->status && sp_op_cancelled(search->op))
        search->status = SP_UNAVAILABLE;
    return !search->status;
}

/* Messages after the first undecided one of a batch, in order. */
struct batch {
    struct sp_arena arena;
    struct sp_flag_row *rows;
    struct candidate **undecided; /* NULL: found already */
    uint32_t count, rows_capacity, undecided_capacity;
    uint32_t pending;
    size_t bytes;
};

static bool batch_add(struct search *search, struct sp_read *read, struct batch *batch,
                      const struct candidate *c, bool later)
{
    struct candidate *copy = NULL;
    batch->rows = sp_arena_grow(&batch->arena, batch->rows, batch->count, &batch->rows_capacity,
                                sizeof *batch->rows);
    batch->undecided = sp_arena_grow(&batch->arena, batch->undecided, batch->count,
                                     &batch->undecided_capacity, sizeof *batch->undecided);
    if (!batch->rows || !batch->undecided)
        return false;
    if (later) {
        copy = sp_arena_alloc(&batch->arena, sizeof *copy);
        if (!copy)
            return false;
        copy->row = c->row;
        copy->time_ns = c->time_ns;
        copy->payload = sp_arena_copy(&batch->arena, c->payload);
        if (!copy->payload.ptr ||
            sp_message_read(copy->payload, &batch->arena, &copy->message) != SP_OK ||
            sp_item_load(read, &copy->message, &batch->arena, &copy->item) != SP_OK)
            return false;
        copy->loaded = true;
        batch->pending++;
        batch->bytes += c->payload.len;
    }
    batch->rows[batch->count] = c->row;
    batch->undecided[batch->count++] = copy;
    return true;
}

/* Walks on from search->next_uid until the batch is full; SP_EOF: that was the last. */
static enum sp_status walk_batch(struct search *search, struct sp_read *read,
                                 const struct sp_mailbox *mailbox, struct batch *batch)
{
    struct sp_message_cursor cursor;
    struct sp_range_walk walk;
    struct candidate c = {0};
    uint32_t seen = 0;
    enum sp_status status =
        sp_message_cursor_open(read, &mailbox->account, mailbox->row.id, &cursor);
    if (status)
        return status;
    search->cursor = &cursor;
    sp_range_walk_init(&walk, read, mailbox, search->ranges, search->since_modseq);
    walk.from = search->next_uid;
    while (status == SP_OK && batch->pending < PENDING_MAX && batch->bytes < PENDING_BYTES) {
        c = (struct candidate){0};
        status = goes_on(search) ? sp_range_walk_next(&walk, &c.row) : search->status;
        if (status)
            break;
        enum verdict verdict = evaluate(search, &c, search->root, COST_ENVELOPE);
        if (!search->status && verdict == LATER)
            load_record(search, &c);
        if (!search->status && verdict == YES && !batch->pending)
            add_found(search, &c.row);
        else if (!search->status && verdict != NO &&
                 !batch_add(search, read, batch, &c, verdict == LATER))
            search->status = SP_NO_MEMORY;
        status = search->status;
        search->next_uid = c.row.uid + 1;
        if (++seen % 256 == 0)
            sp_arena_release(&search->scratch);
    }
    sp_range_walk_end(&walk);
    sp_message_cursor_close(&cursor);
    sp_arena_release(&search->scratch);
    search->cursor = NULL;
    return c.row.uid == UINT32_MAX && status == SP_OK ? SP_EOF : status;
}

static enum sp_status decide_batch(struct search *search, const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count && goes_on(search); i++) {
        struct candidate *c = batch->undecided[i];
        if (!c || evaluate(search, c, search->root, COST_BODY) == YES)
            add_found(search, &batch->rows[i]);
        sp_arena_release(&search->scratch);
    }
    return search->status;
}

static enum sp_status run_batch(struct search *search, bool *ret_last)
{
    struct batch batch = {0};
    struct sp_mailbox mailbox;
    struct sp_keywords keywords;
    struct sp_read read;
    bool last = false;
    enum sp_status status = sp_read_begin(search->op->mail->index, &read);
    if (status)
        return status;
    sp_arena_init(&batch.arena, BATCH_BYTES);
    status = sp_op_mailbox(search->op, &read, 0, &mailbox);
    if (status == SP_OK) {
        sp_keywords_init(&keywords, &mailbox);
        find_keywords(search->root, &keywords);
        status = walk_batch(search, &read, &mailbox, &batch);
        last = status == SP_EOF;
    }
    sp_read_end(&read);
    if (status == SP_OK || last)
        status = decide_batch(search, &batch);
    sp_arena_release(&batch.arena);
    *ret_last = last;
    return status;
}

/* ---- The request ---- */

static enum sp_status run(struct search *search)
{
    static struct sp_uid_range all = {1, UINT32_MAX};
    const struct sp_request *request = search->op->request;
    uint32_t at = 0;
    bool last = false;
    if (!request->search.nodes_count || request->search.nodes_count > SP_SEARCH_NODES_MAX ||
        request->search.sort_count > SP_SORT_KEYS_MAX)
        return SP_INVALID;
    search->root = compile(search, &at);
    if (!search->root || at != request->search.nodes_count)
        return search->status ? search->status : SP_INVALID;
    search->ranges = (struct sp_uid_ranges){&all, 1};
    narrow(search, search->root);
    enum sp_status status = SP_OK;
    while (status == SP_OK && !last)
        status = run_batch(search, &last);
    return status == SP_OK && search->found.failed ? SP_NO_MEMORY : status;
}

void sp_op_search(struct sp_op *op)
{
    struct search search = {.op = op, .now_s = (int64_t)(sp_wall_ns() / 1000000000U)};
    const struct sp_request *request = op->request;
    bool ordered = request->search.sort_count || request->search.thread;
    search.found = sp_uid_list(ordered ? &op->arena : &op->reply->arena);
    sp_matcher_init(&search.matcher);
    sp_bytes_init(&search.bytes, op->mail);
    sp_arena_init(&search.scratch, SCRATCH_BYTES);
    enum sp_status status = run(&search);
    sp_arena_release(&search.scratch);
    sp_bytes_release(&search.bytes);
    sp_matcher_release(&search.matcher);

    struct sp_uid_ranges found = sp_uid_list_ranges(&search.found);
    if (status == SP_OK) {
        op->reply->modseq = search.modseq;
        if (request->search.thread)
            status = sp_op_thread(op, found);
        else if (request->search.sort_count)
            status = sp_op_sort(op, found);
        else
            op->reply->ranges = found;
    }
    sp_op_finish(op, status);
}
