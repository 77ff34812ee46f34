/* The server's side of SMTP and LMTP: mail comes in.
 *
 * RFC 5321 (SMTP), RFC 2033 (LMTP), RFC 1870 (SIZE), RFC 2034 and 3463 (enhanced status codes), RFC
 * 2920 (PIPELINING), RFC 3030 (CHUNKING, without BINARYMIME), RFC 3207 (STARTTLS), RFC 3848 and
 * 6531 4.3 (the `with` of Received), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8).
 *
 * Model. A session is a greeting and a sequence of commands; between MAIL and the end of the data
 * there is a transaction, an object of its own that is made by MAIL and gone after the reply. The
 * session is driven through proto/session.h. Of mail it asks:
 *
 *     RCPT            SP_REQ_RESOLVE
 *     data            SP_REQ_BODY_PUT each time that SP_BODY_PIECE_MAX bytes have come together
 *     end of data     SP_REQ_DELIVER, with the rest of the bytes
 *     aborted data    SP_REQ_BODY_DROP, if anything was put; its reply is of no interest
 *
 * One of the first three is under way at a time; later commands wait in the input buffer, so that a
 * client may pipeline everything. Data is read on while a piece is put, until the next is full. A
 * DELIVER that fails as a whole leaves the body with the session, which drops it; one that succeeds
 * takes it. What a session had put when it is freed belongs to request->session: the driver tells
 * mail that the session is over.
 *
 * 250 after the data is sent only after DELIVER has said SP_OK. SMTP has one reply for all
 * recipients, and nothing here sends bounces: so DELIVER is asked to give the message to all of
 * them or to nobody. When one can no longer have it, the reply is 451; at the next attempt RCPT
 * says which one it is. LMTP has one reply for each accepted RCPT, in order. Troubles of ours are
 * 4xx, never 5xx, so that the sender keeps the message; what is too big for mail is 552.
 *
 * What is stored: a Return-Path field, a Received field, then the client's octets, all of them and
 * nothing else (dots of transparency undone). Only before a message that begins with a blank stands
 * an empty line, or its first line would continue our Received field.
 *
 * Line ends. Data ends with CRLF.CRLF and with nothing else. A CR or LF that is not part of a CRLF
 * is refused wherever it stands in the message, by DATA and BDAT alike: servers that disagree about
 * what ends a line let one message be read as two (SMTP smuggling), and no repair of ours could
 * tell what the sender meant. The rest is swallowed up to the real end, then the reply is
 * 550 5.6.11. A BDAT is refused at the end of the chunk where that was noticed; the transaction is
 * then over, and the chunks that still come are swallowed with 503. Lines in the data may be of any
 * length up to the size of the message. NUL is an octet like any other: RFC 5321 4.1.1.4 lets the
 * data hold each character of ASCII, and nothing here ends at one.
 *
 * STARTTLS throws away what was read after it, and the name that the client gave.
 *
 * Memory. An idle session is one struct below SP_SMTP_SESSION_BYTES and its HELO name; buffers
 * exist while there is something in them or a transaction is open. The input buffer comes with
 * recv_buf: a driver that asks for it only when there is something to read keeps idle sessions
 * small. Within a transaction: at most SP_SMTP_INPUT_MAX of input, SP_BODY_PIECE_MAX of data, the
 * same again while it is in a request, and the addresses.
 */
#ifndef SP_PROTO_SMTP_SMTP_H
#define SP_PROTO_SMTP_SMTP_H

#include "proto/session.h"

#define SP_SMTP_SESSION_BYTES 512U
#define SP_SMTP_LINE_MAX      2048U   /* a command with CRLF; 500 5.5.2 */
#define SP_SMTP_INPUT_FIRST   4096U   /* input buffer for commands */
#define SP_SMTP_INPUT_MAX     32768U  /* ... for data */
#define SP_SMTP_OUTPUT_PAUSE  16384U  /* with so much unsent output no further command is read */
#define SP_SMTP_HELO_MAX      255U    /* octets of a name */
#define SP_SMTP_ADDRESSES_MAX 524288U /* bytes of all addresses of a transaction */
#define SP_SMTP_HOPS_MAX      100U    /* Received fields; 554 5.4.6 */
/* Beyond these a session ends with 421. */
#define SP_SMTP_ERRORS_MAX         20U  /* replies of 5xx to commands other than RCPT */
#define SP_SMTP_BAD_RECIPIENTS_MAX 100U /* of a session; for LMTP since the last message */
#define SP_SMTP_IDLE_COMMANDS_MAX  200U /* commands that move no message, since the last message */
/* RFC 5321 4.5.3.2. A client that was refused in the middle of its data may send on for as many
 * octets as a message may have; then it gets its reply and a 421. */
#define SP_SMTP_COMMAND_MS 300000U  /* unless env->idle_timeout_ms says otherwise */
#define SP_SMTP_BLOCK_MS   180000U  /* between two pieces of data */
#define SP_SMTP_DATA_MS    7200000U /* for all data of a message */
#define SP_SMTP_REPLY_MS   600000U  /* for an answer of mail */
#define SP_SMTP_CLOSE_MS   60000U   /* for the client to read the last reply */

enum sp_smtp_flavour {
    SP_SMTP_MX,
    SP_LMTP,
};

extern const struct sp_session_ops sp_smtp_ops, sp_lmtp_ops;

/* A session for either table, which must fit the flavour; it has its greeting ready. env is
 * borrowed and outlives it, peer is copied. env->message_bytes_max is not 0. NULL: no memory. */
void *sp_smtp_new(enum sp_smtp_flavour flavour, const struct sp_session_env *env,
                  const struct sp_session_peer *peer, uint64_t now_ms) SP_MUST_USE;

#endif
