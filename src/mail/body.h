/* Messages being received: bytes in, piece by piece; out, what a MESSAGE record says of them, and
 * records for the bytes.
 *
 * Model. As bytes arrive they are parsed and digested. Up to SP_BODY_PIECE_MAX are held; when more
 * come, each full piece is coded and committed as a BODY_CHUNK record at once, which nothing refers
 * to until a MESSAGE record does. So a message takes its piece and some kilobytes of parser,
 * however long it is. All chunks but the last hold exactly SP_BODY_PIECE_MAX bytes: where a byte
 * lies is found by division.
 *
 * Bodies of sessions stand in a table of fixed size under a handle that only their session may
 * name. DELIVER and APPEND take a body out of the table, whatever becomes of it; a PUT that fails
 * drops it. An operation has its body for itself until it ends (SP_CONFLICT for a second one).
 * Strangers (request->stranger: whoever speaks SMTP) together have three quarters of the table, and
 * each peer of theirs SP_BODIES_PER_PEER: they cannot keep out users and LMTP, nor one all others.
 *
 * Coding. zstd from SP_BODY_ZSTD_MIN bytes on, and kept only if it saves a quarter: smaller bodies
 * share their blocks with their neighbours anyway, and are what clients fetch by the thousand.
 */
#ifndef SP_MAIL_BODY_H
#define SP_MAIL_BODY_H

#include "mail/internal.h"
#include "mime/mime.h"

#define SP_BODIES_PER_PEER 32U
#define SP_BODY_ZSTD_MIN   8192U
#define SP_BODY_ZSTD_LEVEL 1
#define SP_BODY_TEXT_MAX                                                                           \
    (3U << 20) /* ENVELOPE, BODYSTRUCTURE and part table: they must fit a record */

struct sp_body;
/* A body that belongs to no session, begun and ended by its user. NULL: no memory. */
struct sp_body *sp_body_new(void) SP_MUST_USE;
void sp_body_free(struct sp_body *body);
/* Adds at most SP_BODY_PIECE_MAX bytes. When they do not fit the piece any more, the full one is
 * written to *chunk (the payload of a BODY_CHUNK) and *ret_chunk is true: commit it and name its
 * LSN before adding more. SP_NO_MEMORY. */
enum sp_status sp_body_add(struct sp_body *body, struct sp_slice bytes, struct sp_buf *chunk,
                           bool *ret_chunk) SP_MUST_USE;
bool sp_body_add_lsn(struct sp_body *body, uint64_t lsn) SP_MUST_USE; /* false: no memory */
uint64_t sp_body_size(const struct sp_body *body);

/* A whole message, ready for a plan. */
struct sp_prepared {
    struct sp_digest digest;
    uint64_t size;
    uint32_t header_bytes;
    struct sp_slice envelope, bodystructure, parts; /* in text */
    struct sp_buf text;
    uint64_t *chunks; /* LSNs of those that are in the log */
    uint32_t chunks_count;
    struct sp_buf
        records[2]; /* payloads that come with the message: the BODY, or the last chunks */
    uint32_t records_count;
    bool whole; /* one BODY */
};
/* What the body and the last bytes make. SP_NO_MEMORY; SP_LIMIT: its structure does not fit a
 * record. */
enum sp_status sp_body_finish(struct sp_body *body, struct sp_slice bytes,
                              struct sp_prepared *ret_prepared) SP_MUST_USE;
void sp_prepared_release(struct sp_prepared *prepared);
/* About how many bytes its MESSAGE record takes, and how many its body's records. */
size_t sp_prepared_message_bytes(const struct sp_prepared *prepared);
size_t sp_prepared_body_bytes(const struct sp_prepared *prepared);
/* In a plan: emits the body's records. LSNs of the whole in the plan's arena. */
enum sp_status sp_prepared_emit(struct sp_plan *plan, const struct sp_prepared *prepared,
                                struct sp_lsn_list *ret_bodies) SP_MUST_USE;

/* ---- Of sessions ---- */

enum sp_status sp_bodies_new(const struct sp_mail_config *config,
                             struct sp_bodies **ret_bodies) SP_MUST_USE;
void sp_bodies_free(struct sp_bodies *bodies);
void sp_bodies_forget_session(struct sp_bodies *bodies, uint64_t session);
/* Takes the body out of the table and finishes it. SP_NOT_FOUND: no such body of this session;
 * SP_CONFLICT: it is at work; SP_LIMIT: longer than a message may be; and as sp_body_finish. Says
 * why in the reply. */
enum sp_status sp_op_prepare(struct sp_op *op, const struct sp_incoming *incoming,
                             struct sp_prepared *ret_prepared) SP_MUST_USE;

#endif
