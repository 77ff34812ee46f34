/* The structure of a message (RFC 5322, RFC 2045-2047, RFC 2231), found in one pass over its bytes.
 *
 * A push parser: bytes in, in pieces of any size, in order; at the end, the tree of parts with byte
 * offsets and the header fields that ENVELOPE needs. Pure: no I/O, no clock. Memory comes from the
 * caller's arena and is bounded by the limits below, never by the message: a 100 MB message is
 * parsed in some kilobytes. Any byte string is a message: there is no parse error, only
 * SP_NO_MEMORY; what goes beyond a limit is kept as an opaque leaf.
 *
 * Line ends: CRLF is the line end of stored mail; a lone LF counts as one too (offsets stay exact).
 */
#ifndef SP_MIME_MIME_H
#define SP_MIME_MIME_H

#include "base/arena.h"
#include "base/buf.h"

/* Limits: beyond them a part is a leaf, a header line is not looked at. */
#define SP_MIME_PARTS_MAX        1000U    /* parts in a message */
#define SP_MIME_DEPTH_MAX        50U      /* nesting */
#define SP_MIME_FIELD_BYTES_MAX  65536U   /* of one structural header field that is kept */
#define SP_MIME_HEADER_BYTES_MAX 1048576U /* of a header that is looked at for fields */
#define SP_MIME_BOUNDARY_MAX     256U     /* RFC 2046 allows 70; real mail is more generous */
#define SP_MIME_PARAMS_MAX       100U     /* parameters of one field */
#define SP_MIME_KEPT_BYTES_MAX                                                                     \
    1048576U /* of all fields together that are kept; later ones count as absent */

enum sp_mime_kind {
    SP_MIME_LEAF,
    SP_MIME_MULTIPART, /* children: its body parts */
    SP_MIME_MESSAGE,   /* message/rfc822 or message/global: one child, the enclosed message */
};

/* One part. Parts stand in an array in pre-order; the message itself is part 0. Offsets count from
 * the first byte of the message. header: from the first header byte to the blank line, inclusive.
 * body: what follows; of a body part it ends before the line end that belongs to the boundary. */
struct sp_mime_part {
    enum sp_mime_kind kind;
    uint32_t parent;      /* index; of part 0: 0 */
    uint32_t child_count; /* children follow in pre-order */
    uint64_t header_offset, header_bytes;
    uint64_t body_offset, body_bytes;
    uint64_t body_lines;
    /* What BODYSTRUCTURE needs; NULL/empty where absent. In the arena. Defaults are applied
     * (text/plain us-ascii, in multipart/digest message/rfc822). */
    struct sp_slice type, subtype;                     /* as written */
    struct sp_slice id, description, encoding, md5;    /* Content-*, raw */
    struct sp_slice disposition, language, location;   /* disposition: the token alone */
    struct sp_mime_param *params, *disposition_params; /* Content-Type's, Content-Disposition's */
    uint32_t params_count, disposition_params_count;
    struct sp_mime_envelope *envelope; /* of part 0 and of each enclosed message; else NULL */
};

struct sp_mime_param {
    struct sp_slice name, value; /* unquoted */
};

/* Raw field bodies (unfolded, trimmed), the last word on what ENVELOPE shows. Absent: ptr is NULL.
 * There but empty: ptr is not NULL (ENVELOPE tells NIL from ""). Of a field that stands more than
 * once the first counts, but To, Cc and Bcc are joined (RFC 5322, 4.5.3). */
struct sp_mime_envelope {
    struct sp_slice date, subject, from, sender, reply_to, to, cc, bcc, in_reply_to, message_id,
        references;
};

struct sp_mime_message {
    struct sp_mime_part *parts;
    uint32_t parts_count; /* at least 1 */
    uint64_t size;
};

struct sp_mime_parser;

/* An arena of this size is never exhausted by any message. */
#define SP_MIME_ARENA_BYTES (8U << 20)

/* A parser whose memory, and that of its result, is in arena. NULL: no memory. Nothing to free. */
struct sp_mime_parser *sp_mime_parser_new(struct sp_arena *arena) SP_MUST_USE;
enum sp_status sp_mime_parser_feed(struct sp_mime_parser *parser,
                                   struct sp_slice bytes) SP_MUST_USE;
/* Ends the message. *ret_message lives as long as the arena. */
enum sp_status sp_mime_parser_finish(struct sp_mime_parser *parser,
                                     struct sp_mime_message *ret_message) SP_MUST_USE;

/* ---- IMAP's forms (RFC 3501, 7.4.2), written once at delivery and stored ---- */

/* ENVELOPE and BODYSTRUCTURE with their parentheses, without the item's name. Strings are quoted
 * where they can be and literals otherwise; never more than buf's cap (then buf is failed). Bytes
 * above 127 in headers are kept raw (in literals). */
void sp_mime_write_envelope(const struct sp_mime_message *message, struct sp_buf *buf);
void sp_mime_write_bodystructure(const struct sp_mime_message *message, struct sp_buf *buf);
/* BODY (no extension data) from a stored BODYSTRUCTURE. SP_INVALID when it is not one that we
 * wrote. */
enum sp_status sp_mime_write_body(struct sp_slice bodystructure, struct sp_buf *buf) SP_MUST_USE;

/* A stored ENVELOPE read back. Slices: into `wire` or, where quoting had to be undone, the arena.
 * NIL is empty. */
struct sp_mime_address {
    /* Raw: name may hold encoded words. NIL has a NULL ptr. Group start: mailbox is its name, host
     * NULL. Group end: mailbox NULL. An address without a domain ("root") has an empty host that is
     * not NULL. */
    struct sp_slice name, adl, mailbox, host;
};
struct sp_mime_envelope_wire {
    struct sp_slice date, subject, in_reply_to, message_id;
    struct sp_mime_address *from, *sender, *reply_to, *to, *cc, *bcc;
    uint32_t from_count, sender_count, reply_to_count, to_count, cc_count, bcc_count;
};
enum sp_status sp_mime_read_envelope(struct sp_slice wire, struct sp_arena *arena,
                                     struct sp_mime_envelope_wire *ret_envelope) SP_MUST_USE;
/* The same without the addresses, which are left empty: in less time. */
enum sp_status sp_mime_read_envelope_text(struct sp_slice wire, struct sp_arena *arena,
                                          struct sp_mime_envelope_wire *ret_envelope) SP_MUST_USE;

/* ---- The part table: offsets alone, small, stored with each message so that a section is found
 * without parsing ---- */

void sp_mime_write_parts(const struct sp_mime_message *message, struct sp_buf *buf);
/* The parts (kind, tree, offsets, lines, type, subtype, encoding and the charset as a "charset"
 * param; nothing else is set). Slices: into table. SP_CORRUPT when malformed. */
enum sp_status sp_mime_read_parts(struct sp_slice table, struct sp_arena *arena,
                                  struct sp_mime_message *ret_message) SP_MUST_USE;

/* Where a section of FETCH lies (RFC 3501, 6.4.5; RFC 9051). path: part numbers from 1, none for
 * the message itself. BODY[1] of a message that is not multipart is its text. SP_NOT_FOUND when
 * there is no such part. */
enum sp_mime_section {
    SP_MIME_SECTION_ALL,    /* [] or [1.2]: the part's content (with [] the whole message) */
    SP_MIME_SECTION_HEADER, /* HEADER: of the message, or of an enclosed message */
    SP_MIME_SECTION_TEXT,   /* TEXT: likewise its body */
    SP_MIME_SECTION_MIME,   /* MIME: the part's own header */
};
enum sp_status sp_mime_section_range(const struct sp_mime_message *message, const uint32_t *path,
                                     size_t path_len, enum sp_mime_section section,
                                     uint64_t *ret_offset, uint64_t *ret_bytes) SP_MUST_USE;

/* The part that SP_MIME_SECTION_ALL of a path is the content of; NULL: no such part, or the message
 * itself, which is none. */
const struct sp_mime_part *sp_mime_section_part(const struct sp_mime_message *message,
                                                const uint32_t *path, size_t path_len);

/* ---- Header fields ---- */

struct sp_mime_field {
    struct sp_slice raw; /* the whole field with its line end(s) */
    struct sp_slice
        name; /* before the colon, without trailing blanks; empty for a line that is no field */
    struct sp_slice body; /* after the colon, folded as it stands, without the last line end */
};
/* Takes the next field off *header (which may end with the blank line); false at the end. */
bool sp_mime_next_field(struct sp_slice *header, struct sp_mime_field *ret_field);
/* HEADER.FIELDS (or .NOT): the matching fields in order, then the blank line. names: without
 * colons, any case. */
void sp_mime_write_fields(struct sp_slice header, const struct sp_slice *names, size_t names_count,
                          bool negate, struct sp_buf *buf);
/* The date of an RFC 5322 date-time (obsolete zones included) as UTC seconds, and the zone in
 * minutes. */
enum sp_status sp_mime_parse_date(struct sp_slice date, int64_t *ret_unix,
                                  int *ret_zone_minutes) SP_MUST_USE;

/* The message that began the thread, as far as a header says: the first of References, else of
 * In-Reply-To, else Message-ID itself; without the angle brackets, a slice of the header. False: it
 * names none. */
bool sp_mime_thread_root(struct sp_slice header, struct sp_slice *ret_id);

/* The value of a parameter (a file name, say) in UTF-8, put together from its RFC 2231 pieces.
 * False when absent. */
bool sp_mime_param_decode(const struct sp_mime_param *params, uint32_t count, struct sp_slice name,
                          struct sp_buf *buf);

/* ---- Text: decoding for SEARCH, SORT, previews (ICU) ---- */

/* A header field body: unfolded, encoded words (RFC 2047) decoded, to UTF-8. Undecodable bytes
 * become U+FFFD. */
void sp_mime_decode_header(struct sp_slice body, struct sp_buf *buf);
/* A leaf's content: its transfer encoding (base64, quoted-printable, 7bit, 8bit, binary) removed,
 * its charset to UTF-8. Unknown ones pass through. */
void sp_mime_decode_text(struct sp_slice content, struct sp_slice encoding, struct sp_slice charset,
                         struct sp_buf *buf);
/* The beginning of a text as one line: white space is one blank, characters that cannot be seen are
 * left out, at most chars_max characters stay; of HTML what a person would see. UTF-8 in, as
 * sp_mime_decode_text leaves it, and out. */
void sp_mime_preview(struct sp_slice utf8, bool html, size_t chars_max, struct sp_buf *buf);

/* Transfer encodings, undone piece by piece (RFC 2045, 6). The state is four small numbers, so that
 * decoding can stop anywhere, be written down, and go on later. */
enum sp_mime_encoding {
    SP_MIME_ENCODING_NONE, /* 7bit, 8bit, binary, or unstated */
    SP_MIME_ENCODING_BASE64,
    SP_MIME_ENCODING_QUOTED_PRINTABLE,
    SP_MIME_ENCODING_UNKNOWN,
};
enum sp_mime_encoding sp_mime_encoding_of(struct sp_slice name);
struct sp_mime_decoder {
    enum sp_mime_encoding encoding;
    uint32_t bits;  /* base64: not written yet */
    uint32_t count; /* ... how many; quoted-printable: 1 within blanks that stay */
};
#define SP_MIME_DECODE_AHEAD 1024U /* a decoder with so much input and room goes on */
/* Decodes what it can of `in` to `out`; returns how much it has taken: what it has not is to be
 * given again, with what follows. last: nothing follows. However the input is cut, the result is
 * the same, and that of sp_mime_decode_text but for blanks by the thousand at the end of a line,
 * which stay. Unknown encodings pass through. */
size_t sp_mime_decode(struct sp_mime_decoder *decoder, struct sp_slice in, bool last,
                      struct sp_slice_mut out, size_t *ret_len);

/* i;unicode-casemap (RFC 5051), near enough for matching: full case folding and NFKC by ICU. UTF-8
 * in and out. */
void sp_mime_fold(struct sp_slice utf8, struct sp_buf *buf);
/* The base subject of RFC 5256, 2.1, from a decoded subject; *ret_reply says whether something was
 * removed. */
void sp_mime_base_subject(struct sp_slice utf8, struct sp_buf *buf, bool *ret_reply);
/* Modified UTF-7 of mailbox names (RFC 3501, 5.1.3) to and from UTF-8. SP_INVALID when malformed.
 */
enum sp_status sp_mime_utf7_to_utf8(struct sp_slice name, struct sp_buf *buf) SP_MUST_USE;
enum sp_status sp_mime_utf8_to_utf7(struct sp_slice name, struct sp_buf *buf) SP_MUST_USE;
bool sp_mime_is_utf8(struct sp_slice bytes);

#endif
