/* FETCH: rows from a short snapshot, then the sections' bytes, read after it has ended. */
#include "mail/decoded.h"
#include "mail/derive.h"
#include "mail/mailbox.h"
#include "mail/rest.h"

#define SECTIONS_MAX  256U
#define ROW_COST      16U   /* what a row counts towards SP_FETCH_REPLY_BYTES besides its texts */
#define FIELDS_COST   1024U /* what HEADER.FIELDS is taken to yield before it is known */
#define SCRATCH_BYTES (16U << 20)
#define DECODED_PER_COST                                                                           \
    16U /* bytes that are decoded cost so much less than bytes in the reply                        \
         */

/* Where a section lies in the message; of fields: the header they are in. */
struct place {
    enum sp_status status;
    uint64_t offset, bytes;
    enum sp_mime_encoding encoding; /* BINARY */
    struct sp_preview_texts *texts; /* PREVIEW */
};

struct fetch {
    struct sp_op *op;
    struct sp_row *rows;
    struct fetch_body {
        struct sp_item item;
        struct place *places; /* one for each section */
    } * bodies;               /* NULL: no sections are wanted */
    uint32_t count, rows_capacity, bodies_capacity;
    uint64_t cost;
    bool more;
    struct sp_decoded decoded; /* BINARY: of the part at hand */
    struct sp_arena scratch;   /* for reading one message's record */
};

static bool is_fields(const struct sp_section *section)
{
    return section->kind == SP_SECTION_FIELDS || section->kind == SP_SECTION_FIELDS_NOT;
}

static bool is_decoded(const struct sp_section *section)
{
    return section->kind == SP_SECTION_BINARY || section->kind == SP_SECTION_BINARY_SIZE;
}

/* ---- Within the snapshot ---- */

static enum sp_status find_place(const struct sp_message *message, const struct sp_section *section,
                                 struct sp_mime_message *parts, struct sp_arena *arena,
                                 struct sp_arena *kept, struct place *ret)
{
    static const enum sp_mime_section kinds[] = {[SP_SECTION_ALL] = SP_MIME_SECTION_ALL,
                                                 [SP_SECTION_HEADER] = SP_MIME_SECTION_HEADER,
                                                 [SP_SECTION_FIELDS] = SP_MIME_SECTION_HEADER,
                                                 [SP_SECTION_FIELDS_NOT] = SP_MIME_SECTION_HEADER,
                                                 [SP_SECTION_TEXT] = SP_MIME_SECTION_TEXT,
                                                 [SP_SECTION_MIME] = SP_MIME_SECTION_MIME,
                                                 [SP_SECTION_BINARY] = SP_MIME_SECTION_ALL,
                                                 [SP_SECTION_BINARY_SIZE] = SP_MIME_SECTION_ALL,
                                                 [SP_SECTION_THREAD_ID] = SP_MIME_SECTION_HEADER};
    *ret = (struct place){SP_OK, 0, message->header_bytes, SP_MIME_ENCODING_NONE, NULL};
    if (section->path_len == 0 && section->kind != SP_SECTION_MIME &&
        section->kind != SP_SECTION_PREVIEW) {
        /* Of the message itself: no need to look at the part table. */
        if (section->kind == SP_SECTION_ALL || is_decoded(section))
            ret->bytes = message->size;
        else if (section->kind == SP_SECTION_TEXT)
            *ret =
                (struct place){SP_OK, message->header_bytes, message->size - message->header_bytes,
                               SP_MIME_ENCODING_NONE, NULL};
        return SP_OK;
    }
    if (!parts->parts) {
        enum sp_status status = sp_mime_read_parts(message->parts, arena, parts);
        if (status)
            return status;
    }
    if (section->kind == SP_SECTION_PREVIEW) {
        ret->texts = sp_arena_alloc(kept, sizeof *ret->texts);
        return ret->texts ? sp_preview_find(parts, kept, ret->texts) : SP_NO_MEMORY;
    }
    ret->status = sp_mime_section_range(parts, section->path, section->path_len,
                                        kinds[section->kind], &ret->offset, &ret->bytes);
    if (ret->status == SP_OK && is_decoded(section)) {
        const struct sp_mime_part *part =
            sp_mime_section_part(parts, section->path, section->path_len);
        if (part && part->kind == SP_MIME_LEAF)
            ret->encoding = sp_mime_encoding_of(part->encoding);
        if (ret->encoding == SP_MIME_ENCODING_UNKNOWN)
            ret->status = SP_UNSUPPORTED;
    }
    return SP_OK;
}

/* Bytes of [0, bytes) that a section's offset and length leave. */
static uint64_t wanted_bytes(const struct sp_section *section, uint64_t bytes)
{
    uint64_t rest = section->offset < bytes ? bytes - section->offset : 0;
    return section->length < rest ? section->length : rest;
}

static enum sp_status note_body(struct fetch *fetch, struct sp_read *read,
                                const struct sp_message *message)
{
    const struct sp_request *request = fetch->op->request;
    uint32_t sections = request->fetch.sections_count;
    struct sp_arena *arena = &fetch->op->arena;
    struct sp_mime_message parts = {0};
    fetch->bodies = sp_arena_grow(arena, fetch->bodies, fetch->count, &fetch->bodies_capacity,
                                  sizeof *fetch->bodies);
    if (!fetch->bodies)
        return SP_NO_MEMORY;
    struct fetch_body *body = &fetch->bodies[fetch->count];
    body->places = sp_arena_array(arena, sections, sizeof *body->places);
    if (!body->places)
        return SP_NO_MEMORY;
    enum sp_status status = sp_item_load(read, message, arena, &body->item);
    for (uint32_t i = 0; status == SP_OK && i < sections; i++) {
        const struct sp_section *section = &request->fetch.sections[i];
        status = find_place(message, section, &parts, &fetch->scratch, arena, &body->places[i]);
        if (status || body->places[i].status)
            continue;
        uint64_t bytes = wanted_bytes(section, body->places[i].bytes);
        uint64_t most = is_fields(section) ? FIELDS_COST : SP_SECTION_PIECE_MAX;
        fetch->cost += bytes < most ? bytes : most;
    }
    return status;
}

static bool copy_text(struct fetch *fetch, struct sp_slice text, struct sp_slice *ret)
{
    *ret = sp_arena_copy(&fetch->op->reply->arena, text);
    fetch->cost += text.len;
    return ret->ptr || !text.len;
}

static enum sp_status note_message(struct fetch *fetch, struct sp_read *read,
                                   struct sp_message_cursor *cursor, struct sp_row *row)
{
    unsigned want = fetch->op->request->fetch.want;
    struct sp_message message;
    struct sp_slice payload;
    uint64_t lsn, time_ns;
    enum sp_status status = sp_message_cursor_get(cursor, row->uid, &payload, &lsn, &time_ns);
    if (status == SP_OK)
        status = sp_message_read(payload, &fetch->scratch, &message);
    if (status)
        return status == SP_NOT_FOUND ? SP_CORRUPT : status;
    row->date = (struct sp_date){message.date_s, message.zone_min};
    row->size = message.size;
    memcpy(row->email_id, message.digest.bytes, sizeof row->email_id);
    row->saved_s = (int64_t)(time_ns / 1000000000U);
    if ((want & SP_WANT_ENVELOPE && !copy_text(fetch, message.envelope, &row->envelope)) ||
        (want & SP_WANT_BODYSTRUCTURE &&
         !copy_text(fetch, message.bodystructure, &row->bodystructure)))
        return SP_NO_MEMORY;
    return fetch->op->request->fetch.sections_count ? note_body(fetch, read, &message) : SP_OK;
}

/* Room for as many rows as there will be, when they are many and cost nothing else. */
static void expect_rows(struct fetch *fetch, const struct sp_mailbox *mailbox)
{
    struct sp_uid_ranges ranges = fetch->op->request->ranges;
    uint64_t uids = 0, most = SP_FETCH_REPLY_BYTES / ROW_COST + 1;
    for (uint32_t i = 0; i < ranges.count && ranges.ptr[i].first < mailbox->row.uidnext; i++)
        uids += (uint64_t)ranges.ptr[i].last - ranges.ptr[i].first + 1;
    if (most > uids)
        most = uids;
    if (most > mailbox->row.messages)
        most = mailbox->row.messages;
    fetch->rows = sp_arena_array(&fetch->op->reply->arena, most, sizeof *fetch->rows);
    fetch->rows_capacity = fetch->rows ? (uint32_t)most : 0;
}

static enum sp_status note_rows(struct fetch *fetch, struct sp_read *read,
                                const struct sp_mailbox *mailbox)
{
    const struct sp_request *request = fetch->op->request;
    bool messages = (request->fetch.want & ~SP_WANT_FLAGS) || request->fetch.sections_count;
    struct sp_message_cursor cursor = {0};
    struct sp_range_walk walk;
    struct sp_flag_row flags;
    enum sp_status status = SP_OK;
    if (messages)
        status = sp_message_cursor_open(read, &mailbox->account, mailbox->row.id, &cursor);
    if (status)
        return status;
    /* What was given up may have been flags that the client knows: it is told all. */
    uint64_t since = request->fetch.changed_since;
    if (since < mailbox->row.vanished_modseq)
        since = 0;
    sp_range_walk_init(&walk, read, mailbox, request->ranges, since);
    if (!messages && !since)
        expect_rows(fetch, mailbox);
    while ((status = sp_range_walk_next(&walk, &flags)) == SP_OK) {
        if (fetch->cost > SP_FETCH_REPLY_BYTES) {
            fetch->more = true;
            status = SP_EOF;
            break;
        }
        fetch->rows = sp_arena_grow(&fetch->op->reply->arena, fetch->rows, fetch->count,
                                    &fetch->rows_capacity, sizeof *fetch->rows);
        if (!fetch->rows) {
            status = SP_NO_MEMORY;
            break;
        }
        struct sp_row *row = &fetch->rows[fetch->count];
        *row = (struct sp_row){.uid = flags.uid, .flags = flags.flags, .modseq = flags.modseq};
        fetch->cost += ROW_COST;
        if (messages)
            status = note_message(fetch, read, &cursor, row);
        if (status)
            break;
        if (++fetch->count % 256 == 0)
            sp_arena_release(&fetch->scratch);
    }
    sp_range_walk_end(&walk);
    sp_message_cursor_close(&cursor);
    return status == SP_EOF ? SP_OK : status;
}

/* The message is gone, but the session has begun to send it: a row that has these sections alone.
 */
static enum sp_status note_gone(struct fetch *fetch)
{
    const struct sp_request *request = fetch->op->request;
    struct sp_arena *arena = &fetch->op->arena;
    uint32_t sections = request->fetch.sections_count;
    struct sp_rest rest;
    if (request->ranges.count != 1 || request->ranges.ptr[0].first != request->ranges.ptr[0].last)
        return SP_INVALID;
    uint32_t uid = request->ranges.ptr[0].first;
    enum sp_status status =
        sp_rest_read(fetch->op->mail, &request->mailbox, uid, request->fetch.rest, arena, &rest);
    if (status)
        return status;
    fetch->rows = sp_arena_array(&fetch->op->reply->arena, 1, sizeof *fetch->rows);
    fetch->bodies = sp_arena_array(arena, 1, sizeof *fetch->bodies);
    struct place *places = sp_arena_array(arena, sections, sizeof *places);
    if (!fetch->rows || !fetch->bodies || !places)
        return SP_NO_MEMORY;
    for (uint32_t i = 0; i < sections; i++)
        places[i] =
            (struct place){SP_OK, rest.offset, rest.bytes, rest.decoding.decoder.encoding, NULL};
    fetch->rows[0] = (struct sp_row){.uid = uid};
    fetch->bodies[0] = (struct fetch_body){rest.item, places};
    fetch->count = 1;
    return SP_OK;
}

/* ---- After it ---- */

static enum sp_status fill_fields(struct sp_bytes *bytes, const struct sp_item *item,
                                  const struct place *place, const struct sp_section *section,
                                  struct sp_buf *buf, struct sp_slice *ret)
{
    struct sp_slice header;
    uint64_t len = place->bytes < SP_BYTES_MAX ? place->bytes : SP_BYTES_MAX;
    enum sp_status status = sp_bytes_get(bytes, item, place->offset, len, &header);
    if (status)
        return status;
    sp_buf_reset(buf);
    sp_mime_write_fields(header, section->fields, section->fields_count,
                         section->kind == SP_SECTION_FIELDS_NOT, buf);
    *ret = sp_buf_slice(buf);
    return sp_buf_failed(buf) ? SP_NO_MEMORY : SP_OK;
}

static bool note_rest(struct fetch *fetch, uint32_t uid, const struct fetch_body *body,
                      const struct place *place, struct sp_fetch_section *ret)
{
    const struct sp_request *request = fetch->op->request;
    struct sp_rest rest = {.offset = place->offset, .bytes = place->bytes, .item = body->item};
    if (ret->bytes.len == ret->size || request->fetch.rest.len)
        return true; /* all of it, or asked for with what was said before */
    ret->rest =
        sp_rest_write(fetch->op->mail, &request->mailbox, uid, &rest, &fetch->op->reply->arena);
    fetch->cost += ret->rest.len;
    return ret->rest.ptr;
}

/* Where decoding stands for this request: what the session gave back, or the beginning. Pieces
 * that are asked for together go on from one to the next. */
static enum sp_status begin_decoding(struct fetch *fetch, struct sp_bytes *bytes, uint32_t uid,
                                     const struct fetch_body *body, const struct place *place)
{
    const struct sp_request *request = fetch->op->request;
    struct sp_decoded *decoded = &fetch->decoded;
    if (request->fetch.rest.len && decoded->item)
        return SP_OK;
    *decoded = (struct sp_decoded){.op = fetch->op,
                                   .bytes = bytes,
                                   .item = &body->item,
                                   .offset = place->offset,
                                   .part_bytes = place->bytes};
    decoded->at =
        (struct sp_decoding){.decoder = {.encoding = place->encoding}, .size = UINT64_MAX};
    if (!request->fetch.rest.len)
        return SP_OK;
    struct sp_rest *rest = sp_arena_alloc(&fetch->op->arena, sizeof *rest);
    if (!rest)
        return SP_NO_MEMORY;
    enum sp_status status = sp_rest_read(fetch->op->mail, &request->mailbox, uid,
                                         request->fetch.rest, &fetch->op->arena, rest);
    if (status)
        return status;
    decoded->item = &rest->item;
    decoded->offset = rest->offset;
    decoded->part_bytes = rest->bytes;
    decoded->at = rest->decoding;
    return SP_OK;
}

/* A part without its transfer encoding, or the size of that. */
static enum sp_status fill_decoded(struct fetch *fetch, struct sp_bytes *bytes, uint32_t uid,
                                   const struct fetch_body *body, uint32_t index,
                                   struct sp_fetch_section *ret)
{
    const struct sp_section *section = &fetch->op->request->fetch.sections[index];
    struct sp_arena *arena = &fetch->op->reply->arena;
    struct sp_decoded *decoded = &fetch->decoded;
    enum sp_status status = begin_decoding(fetch, bytes, uid, body, &body->places[index]);
    if (status == SP_OK && decoded->at.size == UINT64_MAX)
        status = sp_decoded_count(decoded, &ret->nul);
    if (status)
        return status;
    ret->size = wanted_bytes(section, decoded->at.size);
    size_t len = ret->size < SP_SECTION_PIECE_MAX ? (size_t)ret->size : SP_SECTION_PIECE_MAX, got;
    if (section->kind == SP_SECTION_BINARY && len) {
        uint8_t *room = sp_arena_alloc(arena, len);
        if (!room)
            return SP_NO_MEMORY;
        status = sp_decoded_read(decoded, section->offset, (struct sp_slice_mut){room, len}, &got);
        if (status)
            return status;
        sp_assert(got == len);
        ret->bytes = sp_slice(room, len);
        struct sp_rest rest = {decoded->offset, decoded->part_bytes, *decoded->item, decoded->at};
        ret->rest = sp_rest_write(fetch->op->mail, &fetch->op->request->mailbox, uid, &rest, arena);
        if (!ret->rest.ptr)
            return SP_NO_MEMORY;
    }
    /* What it costs is above all what was decoded, to be counted and to get there. */
    fetch->cost += ret->bytes.len + ret->rest.len + decoded->work / DECODED_PER_COST;
    decoded->work = 0;
    return SP_OK;
}

static enum sp_status fill_thread_id(struct fetch *fetch, struct sp_bytes *bytes,
                                     const struct sp_item *item, struct sp_fetch_section *ret)
{
    uint8_t *id = sp_arena_alloc(&fetch->op->reply->arena, SP_OBJECT_ID_BYTES);
    if (!id)
        return SP_NO_MEMORY;
    enum sp_status status = sp_thread_id(bytes, item, id);
    ret->bytes = sp_slice(id, status == SP_OK ? SP_OBJECT_ID_BYTES : 0);
    ret->size = ret->bytes.len;
    return status;
}

static enum sp_status fill_preview(struct fetch *fetch, struct sp_bytes *bytes,
                                   const struct sp_item *item, const struct place *place,
                                   struct sp_buf *buf, struct sp_fetch_section *ret)
{
    enum sp_status status = sp_preview(bytes, item, place->texts, buf);
    if (status)
        return status;
    ret->bytes = sp_arena_copy(&fetch->op->reply->arena, sp_buf_slice(buf));
    ret->size = ret->bytes.len;
    return ret->bytes.ptr || !buf->len ? SP_OK : SP_NO_MEMORY;
}

/* What is worked out of a message. */
static enum sp_status fill_derived(struct fetch *fetch, struct sp_bytes *bytes, struct sp_buf *buf,
                                   uint32_t uid, const struct fetch_body *body, uint32_t index,
                                   struct sp_fetch_section *ret)
{
    const struct sp_section *section = &fetch->op->request->fetch.sections[index];
    if (is_decoded(section))
        return fill_decoded(fetch, bytes, uid, body, index, ret);
    if (section->kind == SP_SECTION_THREAD_ID)
        return fill_thread_id(fetch, bytes, &body->item, ret);
    return body->places[index].texts
               ? fill_preview(fetch, bytes, &body->item, &body->places[index], buf, ret)
               : SP_INVALID;
}

/* One section of one message, its bytes copied into the reply. */
static enum sp_status fill_section(struct fetch *fetch, struct sp_bytes *bytes, struct sp_buf *buf,
                                   uint32_t uid, const struct fetch_body *body, uint32_t index,
                                   struct sp_fetch_section *ret)
{
    const struct sp_section *section = &fetch->op->request->fetch.sections[index];
    const struct place *place = &body->places[index];
    struct sp_slice found = {NULL, 0};
    uint64_t size = 0;
    enum sp_status status = place->status;
    if (status == SP_OK && (section->kind >= SP_SECTION_BINARY)) {
        status = fill_derived(fetch, bytes, buf, uid, body, index, ret);
        if (status == SP_NO_MEMORY)
            return status;
        ret->status = status == SP_OK || status == SP_NOT_FOUND ? status : SP_UNAVAILABLE;
        return SP_OK;
    }
    if (status == SP_OK && is_fields(section)) {
        status = fill_fields(bytes, &body->item, place, section, buf, &found);
        size = wanted_bytes(section, found.len);
        found = sp_slice_sub(found, section->offset, section->offset + size);
        found = sp_slice_sub(found, 0, SP_SECTION_PIECE_MAX);
    } else if (status == SP_OK) {
        size = wanted_bytes(section, place->bytes);
        uint64_t len = size < SP_SECTION_PIECE_MAX ? size : SP_SECTION_PIECE_MAX;
        if (len)
            status = sp_bytes_get(bytes, &body->item, place->offset + section->offset, len, &found);
    }
    if (status == SP_NO_MEMORY)
        return status;
    if (status == SP_OK) {
        ret->size = size;
        ret->bytes = sp_arena_copy(&fetch->op->reply->arena, found);
        if ((found.len && !ret->bytes.ptr) || !note_rest(fetch, uid, body, place, ret))
            return SP_NO_MEMORY;
        fetch->cost += found.len;
    }
    /* What a message's bytes fail with is this section's matter: the other items are served. */
    ret->status = status == SP_OK || status == SP_NOT_FOUND || status == SP_UNSUPPORTED
                      ? status
                      : SP_UNAVAILABLE;
    return SP_OK;
}

static enum sp_status fill_sections(struct fetch *fetch)
{
    uint32_t sections = fetch->op->request->fetch.sections_count;
    struct sp_bytes bytes;
    struct sp_buf buf;
    enum sp_status status = SP_OK;
    sp_bytes_init(&bytes, fetch->op->mail);
    sp_buf_init(&buf, SP_BYTES_MAX + 4);
    fetch->cost = 0;
    for (uint32_t i = 0; status == SP_OK && i < fetch->count; i++) {
        struct sp_row *row = &fetch->rows[i];
        if (fetch->cost > SP_FETCH_REPLY_BYTES) {
            fetch->count = i;
            fetch->more = true;
            break;
        }
        fetch->cost += ROW_COST + row->envelope.len + row->bodystructure.len;
        row->sections = sp_arena_array(&fetch->op->reply->arena, sections, sizeof *row->sections);
        if (!row->sections)
            status = SP_NO_MEMORY;
        for (uint32_t k = 0; status == SP_OK && k < sections; k++)
            status = fill_section(fetch, &bytes, &buf, row->uid, &fetch->bodies[i], k,
                                  &row->sections[k]);
    }
    sp_buf_release(&buf);
    sp_bytes_release(&bytes);
    return status;
}

/* ---- The request ---- */

static enum sp_status check(struct sp_op *op)
{
    const struct sp_request *request = op->request;
    if (request->fetch.sections_count > SECTIONS_MAX)
        return sp_op_refuse(op, SP_LIMIT, "too many sections at once");
    for (uint32_t i = 0; i < request->fetch.sections_count; i++)
        if (request->fetch.sections[i].path_len > SP_SECTION_DEPTH_MAX ||
            request->fetch.sections[i].kind >= SP_SECTION_KINDS)
            return SP_INVALID;
    return SP_OK;
}

void sp_op_fetch(struct sp_op *op)
{
    struct fetch fetch = {.op = op};
    struct sp_read read;
    struct sp_mailbox mailbox;
    enum sp_status status = check(op);
    sp_arena_init(&fetch.scratch, SCRATCH_BYTES);
    if (status == SP_OK)
        status = sp_read_begin(op->mail->index, &read);
    if (status == SP_OK) {
        status = sp_op_mailbox(op, &read, 0, &mailbox);
        if (status == SP_OK)
            status = sp_op_describe_keywords(op, &mailbox);
        if (status == SP_OK)
            status = note_rows(&fetch, &read, &mailbox);
        sp_read_end(&read);
    }
    if (status == SP_OK && !fetch.count && op->request->fetch.rest.len)
        status = note_gone(&fetch);
    sp_arena_release(&fetch.scratch);
    if (status == SP_OK && op->request->fetch.sections_count)
        status = fill_sections(&fetch);
    op->reply->rows = fetch.rows;
    op->reply->rows_count = status ? 0 : fetch.count;
    op->reply->more = fetch.more;
    sp_op_finish(op, status);
}
