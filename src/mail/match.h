/* Finding a text in texts, without regard to case (i;unicode-casemap, near enough).
 *
 * A needle is made once for a search. Most mail is ASCII, and so are most needles: then no text is
 * decoded or folded, but searched as it lies there. Everything else goes through ICU.
 */
#ifndef SP_MAIL_MATCH_H
#define SP_MAIL_MATCH_H

#include "mime/mime.h"

#define SP_MATCH_TEXT_MAX                                                                          \
    (4U << 20) /* of one decoded part that is looked at; what lies beyond is not searched */

struct sp_needle {
    struct sp_slice text;   /* as given */
    struct sp_slice folded; /* in the arena */
    bool ascii;
    bool blank;        /* holds white space: a folded header line could divide it */
    bool plain;        /* letters and digits alone */
    uint8_t skip[256]; /* how far to move when this byte stands under the needle's last */
};
/* SP_NO_MEMORY. The arena keeps what the needle points to. */
enum sp_status sp_needle_init(struct sp_needle *needle, struct sp_slice utf8,
                              struct sp_arena *arena) SP_MUST_USE;

bool sp_is_ascii(struct sp_slice bytes);
/* In ASCII text, by an ASCII needle: case-insensitive. */
bool sp_needle_in_ascii(const struct sp_needle *needle, struct sp_slice text);

/* Buffers for decoding, and the text in them; one for each thread that searches. */
struct sp_matcher {
    struct sp_buf decoded, folded;
};
void sp_matcher_init(struct sp_matcher *matcher);
void sp_matcher_release(struct sp_matcher *matcher);
/* A text made ready once for any number of needles: ASCII as it is, everything else folded. Valid
 * until the matcher is used again. */
struct sp_text {
    struct sp_slice bytes;
    bool ascii;
};
struct sp_text sp_text_of_utf8(struct sp_matcher *matcher, struct sp_slice utf8);
/* A header field's body (encoded words, folding undone). */
struct sp_text sp_text_of_field(struct sp_matcher *matcher, struct sp_slice body);
/* A part's content (transfer encoding and charset undone). */
struct sp_text sp_text_of_part(struct sp_matcher *matcher, struct sp_slice content,
                               struct sp_slice encoding, struct sp_slice charset);
bool sp_needle_in_text(const struct sp_needle *needle, const struct sp_text *text);
/* Whether nothing in a header needs decoding, so that it can be searched as it lies there. */
bool sp_header_is_plain(struct sp_slice header);

/* In UTF-8. */
bool sp_needle_in_utf8(const struct sp_needle *needle, struct sp_matcher *matcher,
                       struct sp_slice utf8);
/* In a header field's body as it stands (encoded words, folding). */
bool sp_needle_in_field(const struct sp_needle *needle, struct sp_matcher *matcher,
                        struct sp_slice body);
/* In any field of a header, its name included. */
bool sp_needle_in_header(const struct sp_needle *needle, struct sp_matcher *matcher,
                         struct sp_slice header);
/* In a part's content, its transfer encoding and charset undone. */
bool sp_needle_in_part(const struct sp_needle *needle, struct sp_matcher *matcher,
                       struct sp_slice content, struct sp_slice encoding, struct sp_slice charset);

#endif
