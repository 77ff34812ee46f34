/* The assembler: where one command ends (RFC 3501, 2.2.1 and 7.5; RFC 7888).
 *
 * Looks at input that begins with a command and grows at its end, and says when the command is
 * whole: its lines, each but the last announcing a literal, and the literals between them. It looks
 * at each byte once and holds no memory. A line that announces the message of an APPEND ends its
 * work: those bytes are streamed, never gathered. Lines end in CRLF; a lone LF is taken as well.
 */
#ifndef SP_PROTO_IMAP_ASSEMBLE_H
#define SP_PROTO_IMAP_ASSEMBLE_H

#include "base/slice.h"

struct sp_imap_assembler {
    size_t scanned; /* the input up to here has been looked at; may lie ahead of it, at the end of a
                       literal */
};

enum sp_imap_assembly {
    SP_IMAP_MORE,     /* more input is needed */
    SP_IMAP_CONTINUE, /* ... and the client waits to be told so: send a continuation request, call
                         again */
    SP_IMAP_WHOLE,    /* the command is whole */
    SP_IMAP_MESSAGE,  /* APPEND: the text so far is whole, the message follows */
    SP_IMAP_TOO_LONG, /* beyond the limits */
};

struct sp_imap_limits {
    size_t command_bytes_max; /* with literals */
    size_t literal_bytes_max; /* of each */
    bool append;              /* APPEND messages are streamed */
};

struct sp_imap_extent {
    struct sp_slice text; /* the command without its last line end; MESSAGE: without the
                             announcement; TOO_LONG: its beginning */
    size_t bytes;         /* of input, last line end included */
    uint64_t literal;     /* MESSAGE: its size */
    bool binary;          /* MESSAGE: it is a literal8 */
    bool waits; /* MESSAGE, TOO_LONG at a literal: the client waits for a continuation request */
};

/* input is the same from call to call but for what was added; start with a zeroed assembler.
 * *ret_extent is set for WHOLE, MESSAGE and TOO_LONG. */
enum sp_imap_assembly sp_imap_assemble(struct sp_imap_assembler *assembler, struct sp_slice input,
                                       const struct sp_imap_limits *limits,
                                       struct sp_imap_extent *ret_extent);

/* Whether a line ends in a literal's announcement, `{12}` or `{12+}`, or that of a literal8 (RFC
 * 3516), `~{12}`. On true, *ret_start is where it begins. */
bool sp_imap_line_announces(struct sp_slice line, size_t *ret_start, uint64_t *ret_bytes,
                            bool *ret_waits);

#endif
