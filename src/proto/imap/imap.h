/* The IMAP server session: IMAP4rev1 as a state machine over bytes (proto/session.h).
 *
 * Model. Input is gathered by the assembler until one whole command with its literals is there (the
 * bytes of an APPEND message excepted, which are streamed); a pure parser makes a struct
 * sp_imap_command of it; the command runs, asks `mail` for what it needs, and ends in one tagged
 * response. Commands that were pipelined run in order, one at a time: while one runs nothing is
 * read. Of the selected mailbox the session knows its name for `mail`, the MODSEQ it has heard of,
 * and which UIDs stand behind the sequence numbers (uidmap.h).
 *
 * News. notify() says only that there is some. At the end of a command, or at once in IDLE, the
 * session pulls it with SP_REQ_SYNC, tells the client, and forgets. When it cannot be had, it is
 * asked for again at the end of the next command, in IDLE after a pause. Messages that are gone
 * keep their sequence number until EXPUNGE may be sent (RFC 3501, 7.4.1): not in FETCH, STORE,
 * SEARCH, SORT, THREAD, though in their UID forms. Without news NOOP is answered without asking
 * anyone.
 *
 * \Recent is not kept: it cannot be told truly to more than one session, and RFC 9051 has dropped
 * it. `0 RECENT` is what a client hears; SEARCH RECENT and NEW find nothing, OLD everything.
 *
 * QRESYNC. SELECT and UID FETCH ask SP_REQ_SYNC for what was expunged since, and FETCH for what
 * changed (qresync.c). Expunges are then told by UID, and a MODSEQ in a tagged response is never
 * beyond what the client has been told.
 *
 * The end. When the server stops, or the selected mailbox has been deleted by somebody else, BYE
 * comes behind the tagged response of the command that runs: a client that is not told that its
 * APPEND succeeded would do it again.
 *
 * Back-pressure. News in IDLE waits while the client does not read. FETCH asks for the next part of
 * its answer when the last has nearly been sent. A literal above SP_SECTION_PIECE_MAX is sent in
 * pieces; when one of them cannot be had the connection is closed, since a literal cannot be taken
 * back. A body that is missing as a whole is left out, and the tagged response is NO [UNAVAILABLE].
 *
 * What is read sets \Seen after it has been sent, not before: the flags follow in a FETCH response
 * of their own, before the tagged one. A client that was refused a body, or lost its connection,
 * finds the message unread.
 *
 * Memory. Idle, authenticated, a mailbox selected, in IDLE or not: less than 4 KiB in all, plus 12
 * bytes for each run of consecutive UIDs, 8 for each stretch of a result that SEARCH saved (64 KiB
 * at most), and the names of the mailbox's keywords. Buffers exist only while they hold something.
 * At work: the limits below.
 *
 * Implements RFC 3501, and of RFC 9051 what ENABLE IMAP4rev2 switches, with RFC 2177 IDLE, 2342
 * NAMESPACE, 2971 ID, 3348 CHILDREN, 3502 MULTIAPPEND, 3691 UNSELECT, 4315 UIDPLUS, 4731 ESEARCH,
 * 4959 SASL-IR, 5032 WITHIN, 5161 ENABLE, 5182 SEARCHRES, 5256 SORT and THREAD, 5267 ESORT, 5258
 * LIST-EXTENDED, 5530 response codes, 5819 LIST-STATUS, 6154 SPECIAL-USE, 6851 MOVE, 7162 CONDSTORE
 * and QRESYNC, 6855 UTF8=ACCEPT, 7888 LITERAL+, 7889 APPENDLIMIT, 8438 STATUS=SIZE, 9394 PARTIAL,
 * 9585 INPROGRESS, 9586 UIDONLY. SASL: PLAIN (RFC 4616).
 * Of messages: RFC 3516 BINARY, 8474 OBJECTID, 8508 REPLACE (and 8437 UNAUTHENTICATE), 8514
 * SAVEDATE, 8970 PREVIEW.
 */
#ifndef SP_PROTO_IMAP_IMAP_H
#define SP_PROTO_IMAP_IMAP_H

#include "proto/session.h"

/* What a client may send. Beyond it: BAD or NO where the session can go on in step with the client,
 * BYE otherwise. */
#define SP_IMAP_COMMAND_MAX                                                                        \
    65536U /* bytes of a command with its literals, APPEND messages not counted */
#define SP_IMAP_COMMAND_PREAUTH_MAX 36864U /* ... before authentication: an ID (RFC 2971, 3.3) */
#define SP_IMAP_LITERAL_PREAUTH_MAX 1024U  /* bytes of a literal before authentication */
#define SP_IMAP_TAG_MAX             128U   /* bytes of a tag: each answer repeats it */
#define SP_IMAP_NESTING_MAX         50U    /* SEARCH keys within keys */
#define SP_IMAP_SET_ITEMS_MAX       10000U /* of a sequence set */
#define SP_IMAP_SAVED_MAX           8192U  /* stretches of UIDs that SEARCH saves (64 KiB) */
#define SP_IMAP_SECTIONS_MAX        50U    /* BODY[...] items in one FETCH */
#define SP_IMAP_FIELDS_MAX          200U   /* names in one HEADER.FIELDS */
#define SP_IMAP_PATTERNS_MAX        20U    /* patterns in one LIST */
#define SP_IMAP_APPEND_MESSAGES_MAX 500U   /* in one APPEND (RFC 3502) */
#define SP_IMAP_BAD_PREAUTH_MAX     10U    /* failed commands before authentication, then BYE */
#define SP_IMAP_BAD_MAX             100U   /* BAD commands in a row after it, then BYE */

/* What a session may hold. */
#define SP_IMAP_ARENA_BYTES (8U << 20)  /* of one command: what was parsed, the UIDs it names */
#define SP_IMAP_OUT_MAX     (64U << 20) /* unsent output: one reply of `mail` in IMAP's form */
#define SP_IMAP_OUT_LOW                                                                            \
    65536U /* unsent bytes below which more is asked for, and the next command begins */

/* Times. Before authentication the time counts from the start of the connection, afterwards from
 * the last byte in either direction. RFC 3501, 5.4 wants at least 30 minutes. */
#define SP_IMAP_PREAUTH_TIMEOUT_MS 180000U
#define SP_IMAP_IDLE_TIMEOUT_MS    1800000U
#define SP_IMAP_PROGRESS_MS        15000U /* a command that takes so long is said to be in progress */
#define SP_IMAP_NEWS_RETRY_MS      1000U /* in IDLE, after news that could not be had */

/* A session that has its greeting ready to send; NULL: no memory. env is borrowed and outlives it;
 * peer is copied. */
void *sp_imap_new(const struct sp_session_env *env, const struct sp_session_peer *peer,
                  uint64_t now_ms) SP_MUST_USE;
extern const struct sp_session_ops sp_imap_ops;

#endif
