/* The text of a message on its way in: where it ends, whether its lines end as they must, how often
 * it has been passed on. Pure; state between pieces of any size is a few bytes.
 *
 * With dots (DATA, RFC 5321 4.5.2): a dot that begins a line is dropped, CRLF.CRLF is the end (the
 * CRLF of the DATA command counts as the first). Without (BDAT): the end is elsewhere.
 *
 * Speed: one pass, memchr from line to line and one copy of what lies between two dots. */
#ifndef SP_PROTO_SMTP_TEXT_H
#define SP_PROTO_SMTP_TEXT_H

#include "base/buf.h"

enum sp_smtp_text_state {
    SP_SMTP_TEXT_LINE,   /* at the beginning of a line: after CRLF */
    SP_SMTP_TEXT_INSIDE, /* within one */
    SP_SMTP_TEXT_CR,     /* after a CR, whose LF should follow */
    SP_SMTP_TEXT_DOT,    /* after a dot that began a line */
    SP_SMTP_TEXT_DOT_CR, /* ... and a CR */
    SP_SMTP_TEXT_END,    /* after CRLF.CRLF */
};

struct sp_smtp_text {
    enum sp_smtp_text_state state;
    bool dots; /* to be set before the first scan */
    bool bare; /* a CR without LF or an LF without CR was seen */
};

/* Scans bytes up to the end of the message or of bytes and returns how many it took; appends to out
 * what belongs to the message, never more than it took. From a bare CR or LF on (its line included)
 * it only looks for the end. out may be NULL: then nothing is kept. */
size_t sp_smtp_text_scan(struct sp_smtp_text *text, struct sp_slice bytes, struct sp_buf *out);

/* Counts the Received fields of the header. */
struct sp_smtp_hops {
    uint32_t count;
    uint8_t column; /* in the line, as far as it is of interest */
    bool skip;      /* the rest of the line is not */
    bool body;      /* the header is over */
};
void sp_smtp_hops_scan(struct sp_smtp_hops *hops, struct sp_slice bytes);

#endif
