#include "mail/body.h"

#include <stdlib.h>
#include <zstd.h>

struct sp_body {
    uint64_t handle; /* 0: belongs to no session */
    uint64_t session;
    uint8_t peer[SP_PEER_BYTES];
    bool stranger;
    bool busy, doomed; /* an operation has it; it is to be freed afterwards */
    struct sp_arena arena;
    struct sp_mime_parser *parser;
    struct sp_digest_state digest;
    uint64_t size;
    struct sp_buf piece;
    uint64_t *lsns;
    uint32_t lsns_count, lsns_capacity;
};

#define HANDLE_SLOT_BITS 20U
#define BODIES_MAX       (1U << HANDLE_SLOT_BITS)

struct sp_bodies {
    pthread_mutex_t lock;
    struct sp_body **slots;
    uint32_t slots_count, used;
    uint64_t next; /* distinguishes handles of one slot */
    uint64_t message_bytes_max;
};

/* ---- One body ---- */

struct sp_body *sp_body_new(void)
{
    /* The digest's state wants more than malloc's alignment. */
    struct sp_body *body = aligned_alloc(_Alignof(struct sp_body), sizeof *body);
    if (!body)
        return NULL;
    memset(body, 0, sizeof *body);
    sp_arena_init(&body->arena, SP_MIME_ARENA_BYTES);
    sp_buf_init(&body->piece, SP_BODY_PIECE_MAX);
    sp_digest_init(&body->digest);
    body->parser = sp_mime_parser_new(&body->arena);
    if (!body->parser) {
        sp_body_free(body);
        return NULL;
    }
    return body;
}

void sp_body_free(struct sp_body *body)
{
    if (!body)
        return;
    sp_arena_release(&body->arena);
    sp_buf_release(&body->piece);
    free(body->lsns);
    free(body);
}

uint64_t sp_body_size(const struct sp_body *body)
{
    return body->size;
}

bool sp_body_add_lsn(struct sp_body *body, uint64_t lsn)
{
    if (body->lsns_count == body->lsns_capacity) {
        uint32_t capacity = body->lsns_capacity ? body->lsns_capacity * 2 : 16;
        uint64_t *grown = realloc(body->lsns, capacity * sizeof *grown);
        if (!grown)
            return false;
        body->lsns = grown;
        body->lsns_capacity = capacity;
    }
    body->lsns[body->lsns_count++] = lsn;
    return true;
}

/* Appends zstd's form of raw to buf if that pays. */
static bool compress(struct sp_slice raw, struct sp_buf *buf)
{
    size_t before = buf->len, most = raw.len - raw.len / 4;
    uint8_t *room = raw.len >= SP_BODY_ZSTD_MIN ? sp_buf_extend(buf, most) : NULL;
    if (!room)
        return false;
    size_t len = ZSTD_compress(room, most, raw.ptr, raw.len, SP_BODY_ZSTD_LEVEL);
    buf->len = before + (ZSTD_isError(len) ? 0 : len);
    return buf->len > before;
}

/* The payload of a body's record. digest: of a whole body; NULL for chunks. */
static enum sp_status code(struct sp_slice raw, const struct sp_digest *digest, struct sp_buf *buf)
{
    sp_buf_init(buf, SP_BODY_HEAD_BYTES + SP_BODY_PIECE_MAX);
    struct sp_body_head head = {.codec = SP_CODEC_RAW, .raw_bytes = raw.len};
    if (digest)
        head.digest = *digest;
    if (!sp_buf_reserve(buf, SP_BODY_HEAD_BYTES + raw.len) ||
        !sp_buf_extend(buf, SP_BODY_HEAD_BYTES))
        return SP_NO_MEMORY;
    if (compress(raw, buf))
        head.codec = SP_CODEC_ZSTD;
    else
        sp_buf_add(buf, raw);
    if (sp_buf_failed(buf))
        return SP_NO_MEMORY;
    sp_body_head_write(&head, buf->ptr);
    return SP_OK;
}

enum sp_status sp_body_add(struct sp_body *body, struct sp_slice bytes, struct sp_buf *chunk,
                           bool *ret_chunk)
{
    sp_assert(bytes.len <= SP_BODY_PIECE_MAX);
    bool full = false;
    enum sp_status status = sp_mime_parser_feed(body->parser, bytes);
    if (status)
        return status;
    sp_digest_update(&body->digest, bytes);
    body->size += bytes.len;
    size_t room = SP_BODY_PIECE_MAX - body->piece.len;
    if (bytes.len > room) {
        sp_buf_add(&body->piece, sp_slice_sub(bytes, 0, room));
        if (sp_buf_failed(&body->piece))
            return SP_NO_MEMORY;
        status = code(sp_buf_slice(&body->piece), NULL, chunk);
        if (status) {
            sp_buf_release(chunk);
            return status;
        }
        full = true;
        sp_buf_reset(&body->piece);
        bytes = sp_slice_from(bytes, room);
    }
    sp_buf_reserve(&body->piece, bytes.len);
    sp_buf_add(&body->piece, bytes);
    if (sp_buf_failed(&body->piece)) {
        if (full)
            sp_buf_release(chunk);
        return SP_NO_MEMORY;
    }
    *ret_chunk = full;
    return SP_OK;
}

/* ---- A whole message ---- */

static enum sp_status describe(struct sp_body *body, struct sp_prepared *prepared)
{
    struct sp_mime_message message;
    enum sp_status status = sp_mime_parser_finish(body->parser, &message);
    if (status)
        return status;
    struct sp_buf *text = &prepared->text;
    sp_mime_write_envelope(&message, text);
    size_t envelope_end = text->len;
    sp_mime_write_bodystructure(&message, text);
    size_t bodystructure_end = text->len;
    sp_mime_write_parts(&message, text);
    if (sp_buf_failed(text))
        return SP_LIMIT;
    struct sp_slice all = sp_buf_slice(text);
    prepared->envelope = sp_slice_sub(all, 0, envelope_end);
    prepared->bodystructure = sp_slice_sub(all, envelope_end, bodystructure_end);
    prepared->parts = sp_slice_from(all, bodystructure_end);
    prepared->header_bytes = (uint32_t)message.parts[0].header_bytes;
    prepared->size = body->size;
    sp_digest_final(&body->digest, &prepared->digest);
    return SP_OK;
}

enum sp_status sp_body_finish(struct sp_body *body, struct sp_slice bytes,
                              struct sp_prepared *ret_prepared)
{
    struct sp_prepared prepared = {0};
    bool chunk = false;
    sp_buf_init(&prepared.text, SP_BODY_TEXT_MAX);
    enum sp_status status = sp_body_add(body, bytes, &prepared.records[0], &chunk);
    if (status)
        goto out;
    prepared.records_count = chunk;
    status = describe(body, &prepared);
    if (status)
        goto out;
    prepared.whole = !chunk && !body->lsns_count;
    status = code(sp_buf_slice(&body->piece), prepared.whole ? &prepared.digest : NULL,
                  &prepared.records[prepared.records_count]);
    prepared.records_count++;
    prepared.chunks = body->lsns;
    prepared.chunks_count = body->lsns_count;
    body->lsns = NULL;
    body->lsns_count = body->lsns_capacity = 0;
out:
    if (status)
        sp_prepared_release(&prepared);
    else
        *ret_prepared = prepared;
    return status;
}

void sp_prepared_release(struct sp_prepared *prepared)
{
    if (!prepared)
        return;
    for (uint32_t i = 0; i < prepared->records_count; i++)
        sp_buf_release(&prepared->records[i]);
    prepared->records_count = 0;
    sp_buf_release(&prepared->text);
    free(prepared->chunks);
    prepared->chunks = NULL;
}

size_t sp_prepared_message_bytes(const struct sp_prepared *prepared)
{
    return 512 + SP_MAILBOX_NAME_MAX + prepared->text.len + 10 * (size_t)prepared->chunks_count;
}

size_t sp_prepared_body_bytes(const struct sp_prepared *prepared)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < prepared->records_count; i++)
        bytes += prepared->records[i].len;
    return bytes;
}

enum sp_status sp_prepared_emit(struct sp_plan *plan, const struct sp_prepared *prepared,
                                struct sp_lsn_list *ret_bodies)
{
    static const struct sp_uuid nobody;
    uint32_t count = prepared->chunks_count;
    uint64_t *lsns =
        sp_arena_array(sp_plan_arena(plan), count + prepared->records_count, sizeof *lsns);
    if (!lsns)
        return SP_NO_MEMORY;
    if (count)
        memcpy(lsns, prepared->chunks, count * sizeof *lsns);
    for (uint32_t i = 0; i < prepared->records_count; i++) {
        enum sp_status status =
            sp_plan_emit(plan, prepared->whole ? SP_RECORD_BODY : SP_RECORD_BODY_CHUNK, &nobody, 0,
                         sp_buf_slice(&prepared->records[i]), &lsns[count]);
        if (status)
            return status;
        count++;
    }
    *ret_bodies = (struct sp_lsn_list){lsns, count};
    return SP_OK;
}

/* ---- The table ---- */

enum sp_status sp_bodies_new(const struct sp_mail_config *config, struct sp_bodies **ret_bodies)
{
    struct sp_bodies *bodies = calloc(1, sizeof *bodies);
    if (!bodies)
        return SP_NO_MEMORY;
    bodies->slots_count =
        config->incoming_bodies_max < BODIES_MAX ? config->incoming_bodies_max : BODIES_MAX;
    bodies->slots = calloc(bodies->slots_count + 1, sizeof(struct sp_body *));
    /* IMAP's numbers end there. */
    uint64_t max = config->message_bytes_max + SP_TRACE_BYTES_MAX;
    bodies->message_bytes_max = max < UINT32_MAX ? max : UINT32_MAX;
    pthread_mutex_init(&bodies->lock, NULL);
    if (!bodies->slots) {
        sp_bodies_free(bodies);
        return SP_NO_MEMORY;
    }
    *ret_bodies = bodies;
    return SP_OK;
}

void sp_bodies_free(struct sp_bodies *bodies)
{
    if (!bodies)
        return;
    for (uint32_t i = 0; bodies->slots && i < bodies->slots_count; i++)
        sp_body_free(bodies->slots[i]);
    free(bodies->slots);
    pthread_mutex_destroy(&bodies->lock);
    free(bodies);
}

/* Whether a stranger may have another one; the lock is held. */
static bool has_share(const struct sp_bodies *bodies, const uint8_t peer[SP_PEER_BYTES])
{
    static const uint8_t nobody[SP_PEER_BYTES];
    uint32_t strangers = 0, of_peer = 0;
    for (uint32_t i = 0; i < bodies->slots_count; i++) {
        const struct sp_body *body = bodies->slots[i];
        if (!body || !body->stranger)
            continue;
        strangers++;
        of_peer += memcmp(body->peer, peer, SP_PEER_BYTES) == 0;
    }
    return strangers < bodies->slots_count - bodies->slots_count / 4 &&
           (of_peer < SP_BODIES_PER_PEER || memcmp(peer, nobody, SP_PEER_BYTES) == 0);
}

/* A new body at work for this request's session; NULL with the reason in the status. */
static enum sp_status begin(struct sp_bodies *bodies, const struct sp_request *request,
                            struct sp_body **ret_body)
{
    struct sp_body *body = sp_body_new();
    if (!body)
        return SP_NO_MEMORY;
    enum sp_status status = SP_UNAVAILABLE;
    pthread_mutex_lock(&bodies->lock);
    bool room = bodies->used < bodies->slots_count &&
                (!request->stranger || has_share(bodies, request->peer));
    for (uint32_t i = 0; room && i < bodies->slots_count; i++) {
        if (bodies->slots[i])
            continue;
        body->handle = ++bodies->next << HANDLE_SLOT_BITS | i;
        body->session = request->session;
        body->stranger = request->stranger;
        memcpy(body->peer, request->peer, SP_PEER_BYTES);
        body->busy = true;
        bodies->slots[i] = body;
        bodies->used++;
        status = SP_OK;
        break;
    }
    pthread_mutex_unlock(&bodies->lock);
    if (status)
        sp_body_free(body);
    else
        *ret_body = body;
    return status;
}

static struct sp_body **slot_of(struct sp_bodies *bodies, uint64_t handle)
{
    return &bodies->slots[handle & (BODIES_MAX - 1)];
}

/* Takes out of the table; the lock is held. */
static void unlink_body(struct sp_bodies *bodies, struct sp_body *body)
{
    *slot_of(bodies, body->handle) = NULL;
    bodies->used--;
}

/* The body that the session calls `handle`, for this operation alone; take: out of the table too.
 */
static enum sp_status acquire(struct sp_bodies *bodies, uint64_t session, uint64_t handle,
                              bool take, struct sp_body **ret_body)
{
    enum sp_status status = SP_NOT_FOUND;
    pthread_mutex_lock(&bodies->lock);
    if ((handle & (BODIES_MAX - 1)) < bodies->slots_count) {
        struct sp_body *body = *slot_of(bodies, handle);
        if (body && body->handle == handle && body->session == session) {
            status = body->busy ? SP_CONFLICT : SP_OK;
            if (status == SP_OK) {
                body->busy = true;
                if (take)
                    unlink_body(bodies, body);
                *ret_body = body;
            }
        }
    }
    pthread_mutex_unlock(&bodies->lock);
    return status;
}

static void give_back(struct sp_bodies *bodies, struct sp_body *body, bool drop)
{
    pthread_mutex_lock(&bodies->lock);
    body->busy = false;
    drop = drop || body->doomed;
    if (drop)
        unlink_body(bodies, body);
    pthread_mutex_unlock(&bodies->lock);
    if (drop)
        sp_body_free(body);
}

void sp_bodies_forget_session(struct sp_bodies *bodies, uint64_t session)
{
    pthread_mutex_lock(&bodies->lock);
    for (uint32_t i = 0; bodies->used && i < bodies->slots_count; i++) {
        struct sp_body *body = bodies->slots[i];
        if (!body || body->session != session)
            continue;
        body->doomed = true;
        if (!body->busy) {
            unlink_body(bodies, body);
            sp_body_free(body);
        }
    }
    pthread_mutex_unlock(&bodies->lock);
}

/* ---- Requests ---- */

struct put {
    struct sp_body *body;
    struct sp_buf chunk;
    uint64_t lsn;
};

static enum sp_status put_plan(struct sp_plan *plan, struct sp_op *op)
{
    static const struct sp_uuid nobody;
    struct put *put = op->state;
    return sp_plan_emit(plan, SP_RECORD_BODY_CHUNK, &nobody, 0, sp_buf_slice(&put->chunk),
                        &put->lsn);
}

/* Runs when the chunk is in the log, or the commit failed: the reply's status says which. */
static void put_release(struct sp_op *op)
{
    struct put *put = op->state;
    bool good = op->reply->status == SP_OK && sp_body_add_lsn(put->body, put->lsn);
    if (!good && op->reply->status == SP_OK)
        op->reply->status = sp_op_refuse(op, SP_NO_MEMORY, "out of memory, please try again later");
    if (!good)
        op->reply->body = 0;
    sp_buf_release(&put->chunk);
    give_back(op->mail->bodies, put->body, !good);
}

static enum sp_status too_long(struct sp_op *op)
{
    return sp_op_refuse(op, SP_LIMIT, "the message is longer than this server takes");
}

static enum sp_status no_body(struct sp_op *op, enum sp_status status)
{
    if (status == SP_UNAVAILABLE)
        return sp_op_refuse(op, status,
                            "too many messages are being received, please try again later");
    return sp_op_refuse(
        op, status, status == SP_CONFLICT ? "the message is at work" : "there is no such message");
}

void sp_op_body_put(struct sp_op *op)
{
    struct sp_bodies *bodies = op->mail->bodies;
    const struct sp_incoming *in = &op->request->body;
    struct sp_body *body;
    if (in->bytes.len > SP_BODY_PIECE_MAX) {
        sp_op_finish(op, too_long(op));
        return;
    }
    enum sp_status status = in->body ? acquire(bodies, op->request->session, in->body, false, &body)
                                     : begin(bodies, op->request, &body);
    if (status) {
        sp_op_finish(op, no_body(op, status));
        return;
    }
    struct put *put = sp_arena_alloc(&op->arena, sizeof *put);
    bool chunk = false;
    if (!put)
        status = SP_NO_MEMORY;
    else if (in->bytes.len > bodies->message_bytes_max - body->size)
        status = too_long(op);
    else
        status = sp_body_add(body, in->bytes, &put->chunk, &chunk);
    op->reply->body = status ? 0 : body->handle;
    if (status || !chunk) {
        give_back(bodies, body, status != SP_OK);
        sp_op_finish(op, status);
        return;
    }
    put->body = body;
    op->state = put;
    op->release = put_release;
    sp_op_submit(op, put_plan, put->chunk.len);
}

void sp_op_body_drop(struct sp_op *op)
{
    struct sp_bodies *bodies = op->mail->bodies;
    uint64_t handle = op->request->body.body;
    struct sp_body *body = NULL;
    pthread_mutex_lock(&bodies->lock);
    if ((handle & (BODIES_MAX - 1)) < bodies->slots_count)
        body = *slot_of(bodies, handle);
    if (body && (body->handle != handle || body->session != op->request->session))
        body = NULL;
    if (body && body->busy) {
        body->doomed = true;
        body = NULL;
    }
    if (body)
        unlink_body(bodies, body);
    pthread_mutex_unlock(&bodies->lock);
    sp_body_free(body);
    sp_op_finish(op, SP_OK); /* one that is gone already is dropped well enough */
}

enum sp_status sp_op_prepare(struct sp_op *op, const struct sp_incoming *incoming,
                             struct sp_prepared *ret_prepared)
{
    struct sp_bodies *bodies = op->mail->bodies;
    struct sp_body *body;
    enum sp_status status = SP_OK;
    if (incoming->body)
        status = acquire(bodies, op->request->session, incoming->body, true, &body);
    else if (!(body = sp_body_new()))
        return SP_NO_MEMORY;
    if (status)
        return no_body(op, status);
    if (incoming->bytes.len > SP_BODY_PIECE_MAX ||
        incoming->bytes.len > bodies->message_bytes_max - body->size)
        status = too_long(op);
    else
        status = sp_body_finish(body, incoming->bytes, ret_prepared);
    if (status == SP_LIMIT && !op->reply->text.len)
        sp_op_refuse(op, SP_LIMIT, "the message's header fields are too many or too long");
    sp_body_free(body);
    return status;
}
