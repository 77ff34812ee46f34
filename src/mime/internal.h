/* What the files of this layer share with each other and with nobody else. */
#ifndef SP_MIME_INTERNAL_H
#define SP_MIME_INTERNAL_H

#include "mime/mime.h"

static inline bool sp_mime_is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}
static inline bool sp_mime_is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}
static inline bool sp_mime_is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}
static inline bool sp_mime_is_alpha(uint8_t c)
{
    return sp_ascii_lower(c) >= 'a' && sp_ascii_lower(c) <= 'z';
}

/* ---- header.c ---- */

/* The name of the field that begins with `line`, empty when it begins none; *ret_colon is the
 * colon's index. */
struct sp_slice sp_mime_field_name(struct sp_slice line, size_t *ret_colon);
/* Takes the line ends out of text, in place; returns what is left, trimmed. */
struct sp_slice_mut sp_mime_unfold(uint8_t *text, size_t len);
/* The index after white space and (nested) comments from `at` on. */
size_t sp_mime_skip_cfws(struct sp_slice text, size_t at);
/* The index after the comment that begins at text[at]; an unclosed one goes to the end. */
size_t sp_mime_skip_comment(struct sp_slice text, size_t at);
/* Parses what follows a media type or a disposition, from the first ';' on. Values are unquoted in
 * place: the parameters are slices of text. Returns their number. */
uint32_t sp_mime_parse_params(struct sp_slice_mut text,
                              struct sp_mime_param ret_params[SP_MIME_PARAMS_MAX]);
/* The parameter of that exact name, any case; NULL when there is none. */
const struct sp_mime_param *sp_mime_param_find(const struct sp_mime_param *params, uint32_t count,
                                               struct sp_slice name);
/* Appends the value of a parameter, put together from its RFC 2231 pieces but in its own charset
 * (*ret_charset, a slice of the parameter; empty when unstated). False when there is none. */
bool sp_mime_param_bytes(const struct sp_mime_param *params, uint32_t count, struct sp_slice name,
                         struct sp_buf *buf, struct sp_slice *ret_charset);

/* ---- address.c: one address after the other out of a field body ---- */

struct sp_mime_address_reader {
    struct sp_slice text;
    size_t at;
    bool in_group;
    /* Scratch for the address at hand. */
    struct sp_buf phrase, local, host, route, comment;
    size_t name_len; /* of phrase: what stands before the local part */
};

void sp_mime_address_reader_init(struct sp_mime_address_reader *reader);
void sp_mime_address_reader_release(struct sp_mime_address_reader *reader);
void sp_mime_address_reader_start(struct sp_mime_address_reader *reader, struct sp_slice text);
/* False at the end. The slices live until the next call. A group is an address with a NULL host,
 * its members, and an address with a NULL mailbox. */
bool sp_mime_address_next(struct sp_mime_address_reader *reader,
                          struct sp_mime_address *ret_address);

/* ---- charset.c ---- */

/* Bytes of one charset on their way to UTF-8. */
struct sp_mime_converter {
    struct UConverter *from, *to;
    struct sp_buf *buf;
    uint16_t pivot[512];
    uint16_t *pivot_source, *pivot_target;
};
/* An unknown or empty charset is taken for UTF-8. False: no memory. */
bool sp_mime_converter_open(struct sp_mime_converter *converter, struct sp_slice charset,
                            struct sp_buf *buf) SP_MUST_USE;
/* last: no bytes follow; what is left incomplete becomes U+FFFD. */
void sp_mime_converter_feed(struct sp_mime_converter *converter, struct sp_slice bytes, bool last);
void sp_mime_converter_close(struct sp_mime_converter *converter);
/* All at once. */
void sp_mime_to_utf8(struct sp_slice bytes, struct sp_slice charset, struct sp_buf *buf);

/* ---- encoded_word.c ---- */

struct sp_mime_encoded_word {
    struct sp_slice charset, text;
    uint8_t encoding; /* 'q' or 'b' */
};
/* The length of the encoded word (RFC 2047) at the start of text, 0 when there is none. */
size_t sp_mime_encoded_word(struct sp_slice text, struct sp_mime_encoded_word *ret_word);

/* ---- transfer.c ---- */

/* The value of a base64 digit, or -1. */
int sp_mime_base64_value(uint8_t c);
int sp_mime_hex_value(uint8_t c);
/* Decodes into the converter; ends it. */
void sp_mime_feed_base64(struct sp_mime_converter *converter, struct sp_slice content, bool last);
void sp_mime_feed_quoted_printable(struct sp_mime_converter *converter, struct sp_slice content);

#endif
