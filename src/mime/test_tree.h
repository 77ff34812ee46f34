/* For the tests of this layer and its fuzz target: messages parsed in pieces, and trees as text. */
#ifndef SP_MIME_TEST_TREE_H
#define SP_MIME_TEST_TREE_H

#include "mime/mime.h"

/* Parses bytes, fed in pieces of the lengths that stand in pieces, over and over (none: all at
 * once; 0 counts as 1). Memory of its own for each piece, so that reading on, or back, is noticed.
 */
enum sp_status sp_test_parse(struct sp_slice bytes, const uint8_t *pieces, size_t pieces_count,
                             struct sp_arena *arena, struct sp_mime_message *ret_message);

/* Whether all of the parts is the same, what their slices hold included. */
bool sp_test_same(const struct sp_mime_message *a, const struct sp_mime_message *b);

/* The tree with all bytes of the message, each in its place and once, so that what is shown is what
 * the offsets say; line ends (LF or CRLF) as '|':
 *
 *      text/plain 1 'Subject: x||' 'the body|'
 *      multipart/mixed 3 'header||' ('--b|' text/plain 0 '|' 'one' '|--b--|')
 *
 * The number is that of lines; what stands between a multipart's parts are its boundaries. */
void sp_test_show(const struct sp_mime_message *message, struct sp_slice bytes, struct sp_buf *buf);

/* text with each '|' made a line end. */
void sp_test_lines(const char *text, const char *eol, struct sp_buf *buf);

#endif
