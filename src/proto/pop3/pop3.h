/* The server's side of POP3: mail is fetched, and perhaps deleted.
 *
 * RFC 1939 (POP3), RFC 2449 (CAPA, response codes, pipelining), RFC 2595 (STLS), RFC 3206 (SYS and
 * AUTH response codes), RFC 5034 (AUTH), RFC 4616 (PLAIN), RFC 6856 (UTF8, LANG).
 *
 * Model. A session logs in, takes the lock on the account's maildrop, and learns once what INBOX
 * holds: for each message UID, size and the first half of its digest. From then on message numbers
 * are fixed. DELE only marks; the marked messages are expunged at QUIT, and at nothing else: a
 * connection that breaks deletes nothing. The session is driven through proto/session.h. Of mail it
 * asks:
 *
 *     PASS, AUTH   SP_REQ_AUTHENTICATE, SP_REQ_MAILDROP (the lock), SP_REQ_MAILBOX_OPEN,
 *                  SP_REQ_FETCH until all messages are known
 *     RETR, TOP    SP_REQ_FETCH, a few pieces at a time, when the output has nearly been sent
 *     QUIT         SP_REQ_STORE (\Seen of what was fetched whole), SP_REQ_EXPUNGE, SP_REQ_MAILDROP
 *                  (the lock is given back)
 *
 * One of them is under way at a time. The lock of a session that ends in another way is given back
 * by the driver, who tells mail that the session is over.
 *
 * UIDL. The unique-id of a message is the first half of its digest: it says the same after raw
 * recovery, after an import, on another server. Copies of one message, byte for byte the same, have
 * the same unique-id, which RFC 1939 section 7 allows.
 *
 * A protected mailbox answers `-ERR [SYS/TEMP]` to the login: a client that saw an emptied maildrop
 * would delete its own copies. What another session expunges meanwhile keeps its number; RETR then
 * says that it is gone.
 *
 * Line ends. Messages are sent as they are stored, dots stuffed; an LF alone is sent as CRLF, or a
 * client could take what follows it for the end. A message that does not end in a line end gets
 * one. So RETR of such a message has a few octets more than LIST said.
 *
 * Memory. Before login one struct below SP_POP3_SESSION_BYTES and buffers while there is something
 * in them; after it SP_POP3_MESSAGE_BYTES for each message, of at most SP_POP3_MESSAGES_MAX.
 */
#ifndef SP_PROTO_POP3_POP3_H
#define SP_PROTO_POP3_POP3_H

#include "proto/session.h"

#define SP_POP3_SESSION_BYTES 512U
#define SP_POP3_MESSAGE_BYTES 32U
#define SP_POP3_MESSAGES_MAX  1000000U
#define SP_POP3_LINE_MAX      2048U  /* a command, or what answers an AUTH, with CRLF */
#define SP_POP3_OUTPUT_PAUSE  65536U /* with so much unsent output nothing more is made */
/* Beyond these a session ends. */
#define SP_POP3_ERRORS_MAX        20U
#define SP_POP3_FAILED_LOGINS_MAX 3U
#define SP_POP3_IDLE_MS           600000U /* RFC 1939 section 3 */
#define SP_POP3_LOGIN_MS          60000U /* until the login; unless the environment says otherwise */
#define SP_POP3_REPLY_MS          600000U /* for an answer of mail */
#define SP_POP3_CLOSE_MS          60000U  /* for the client to read the last answer */

extern const struct sp_session_ops sp_pop3_ops;

/* A session; it has its greeting ready. env is borrowed and outlives it, peer is copied. NULL: no
 * memory. */
void *sp_pop3_new(const struct sp_session_env *env, const struct sp_session_peer *peer,
                  uint64_t now_ms) SP_MUST_USE;

#endif
