/* Transcripts: tests of protocol sessions, written down as the conversation they are.
 *
 * Model. A transcript is text, one step a line; blank lines and lines that begin with `#` are
 * skipped:
 *
 *     C: text      the client sends text and CRLF, nothing in it is special
 *     C= text      the client sends text with escapes and without CRLF
 *     Cx N text    the client sends `text CRLF` N times
 *     S: text      the server sends exactly text and CRLF
 *     S* text      likewise, but each `*` in text stands for any run of bytes within the line
 *     S= text      the server sends exactly text with escapes, without CRLF: a part of a line, a
 *                  literal's content
 *     Sx N text    the server sends `text CRLF` N times
 *     R: text      a request that the session made, as `describe` writes it; R* with wildcards.
 *                  If a transcript has any R line, then its R lines are all the requests of the
 *                  conversation, in order
 *     ! wait       the client waits here for all output so far (see below)
 *     ! tls        the session wants TLS with nothing left to send; the handshake is done.
 *                  Plaintext that the session has not read by then is thrown away
 *     ! close      the session wants to close
 *     ! open       the session does not want to close
 *     ! eof        the client closes its side
 *     ! tick MS    MS milliseconds pass; ops->tick is called if the deadline has passed
 *     ! notify     ops->notify
 *     ! shutdown   ops->shutdown
 *     ! hold       from here on the fake mail does not answer
 *     ! release    it answers all that it holds, and further requests at once again
 *     ! hook NAME  calls mail->hook with NAME: to change what the fake mail will answer
 *
 * Escapes: \r \n \t \0 \\ \xHH, and \{N}c for N times the byte c (which may be an escape).
 *
 * The transcript runs many times, each time with a new session, and must have the same output and
 * the same requests:
 *
 *     turns        each run of C lines in one piece; the output is checked before the next C line
 *     pipelined    all C lines up to the next `!` line in one piece
 *     bytes        likewise one byte at a time, and the output taken one byte at a time
 *     splits       likewise in two pieces, for each place where the whole input can be cut (for at
 *                  most SP_TRANSCRIPT_SPLITS_MAX of them, and fewer when the input is very long)
 *
 * `!` lines are thus the places where pipelining ends; `! wait` is there for nothing else. All that
 * is expected before a `!` line must have been sent when it is reached, and nothing more.
 *
 * What a driver may rely on is checked along the way: recv_buf is never NULL with room,
 * SP_WANT_READ means that there is room (and room means SP_WANT_READ), SP_WANT_WRITE that there is
 * something to send.
 *
 * A failure is described on stderr with the run, the line and both texts; sp_transcript_run then
 * returns false.
 */
#ifndef SP_PROTO_TRANSCRIPT_H
#define SP_PROTO_TRANSCRIPT_H

#include "base/buf.h"
#include "proto/session.h"

#define SP_TRANSCRIPT_SPLITS_MAX 2000U

/* How a test makes sessions and answers them. */
struct sp_transcript_mail {
    void *user; /* handed to every function */
    const struct sp_session_ops *ops;
    /* A fresh session; called at the start of each run. */
    void *(*session_new)(void *user, uint64_t now_ms);
    /* The fake mail forgets everything; called before session_new. May be NULL. */
    void (*reset)(void *user);
    /* The reply (sp_reply_new) to a request, the caller's. */
    struct sp_reply *(*answer)(void *user, const struct sp_request *request);
    /* Writes the request as one line of text, without line end. NULL: only types are compared. */
    void (*describe)(void *user, const struct sp_request *request, struct sp_buf *log);
    /* `! hook NAME`; may be NULL when no transcript has one. */
    void (*hook)(void *user, struct sp_slice name);
};

/* Runs the transcript in all ways; name is for messages. Use as
 * assert_true(sp_transcript_run(...)). */
bool sp_transcript_run(const struct sp_transcript_mail *mail, const char *name,
                       const char *text) SP_MUST_USE;

#endif
