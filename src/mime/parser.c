/* The push parser.
 *
 * Input is taken line by line. Lines of a body are only counted; but a line of a header, and a line
 * that begins with
 * '-' while some boundary is open, is *kept*: gathered in `text` until its end is there, however
 * the input is cut. `text` holds the header field at hand and after it the line at hand, whose
 * nature (continuation, next field, blank line, boundary) decides what becomes of the field.
 *
 *      stack:  [0] the message, multipart, boundary A
 *              [1] its part, message/rfc822
 *              [2] the enclosed message, multipart, boundary B
 *              [3] its part, a leaf: where the input is now
 *
 * A boundary line of A closes 3, 2 and 1, all at the same byte.
 */
#include "mime/internal.h"

#define LINE_KEEP_BYTES                                                                            \
    (SP_MIME_BOUNDARY_MAX + 8U) /* of a line of which only the beginning matters */
#define TEXT_FIRST_BYTES 1024U
#define PARTS_FIRST      4U

struct level {
    uint32_t part;
    uint64_t lines;           /* line ends before the body */
    struct sp_slice boundary; /* empty: not a multipart, or closed by its last boundary */
};

struct sp_mime_parser {
    struct sp_arena *arena;
    enum sp_status status; /* sticky */

    uint64_t offset;      /* of the next byte */
    uint64_t line_offset; /* where the line at hand begins */
    uint64_t lines;       /* line ends before the line at hand */
    unsigned eol_bytes;   /* of the line end before the line at hand: 0, 1, 2 */
    uint8_t last;         /* the byte before offset */

    bool in_header;  /* of the part at the top of the stack */
    bool keeping;    /* the line at hand is gathered in text */
    bool line_cut;   /* ... but it is longer than what is gathered */
    bool line_blank; /* ... and what was cut off is blank */
    uint8_t *text;
    size_t text_len, text_capacity;
    size_t field_len;               /* of text: the field; after it the line */
    const struct field_kind *field; /* NULL: none, or one that is not looked at */
    bool field_open;                /* a continuation line may follow */

    struct sp_mime_part *parts;
    uint32_t parts_count, parts_capacity;
    struct level stack[SP_MIME_DEPTH_MAX];
    uint32_t depth;
    size_t kept_bytes;
};

/* ---- The fields that are looked at ---- */

enum field_place { IN_PART, IN_ENVELOPE, IN_ENVELOPE_JOINED };

struct field_kind {
    struct sp_slice name;
    enum field_place place;
    size_t slice_offset; /* of the struct sp_slice in the part or the envelope */
};

#define NAME(literal)                                                                              \
    {                                                                                              \
        (const uint8_t *)(literal), sizeof(literal) - 1                                            \
    }
#define PART(literal, member)                                                                      \
    {                                                                                              \
        NAME(literal), IN_PART, offsetof(struct sp_mime_part, member)                              \
    }
#define ENVELOPE(literal, member)                                                                  \
    {                                                                                              \
        NAME(literal), IN_ENVELOPE, offsetof(struct sp_mime_envelope, member)                      \
    }
#define JOINED(literal, member)                                                                    \
    {                                                                                              \
        NAME(literal), IN_ENVELOPE_JOINED, offsetof(struct sp_mime_envelope, member)               \
    }

static const struct field_kind field_kinds[] = {
    PART("Content-Type", type),
    PART("Content-Disposition", disposition),
    PART("Content-Transfer-Encoding", encoding),
    PART("Content-ID", id),
    PART("Content-Description", description),
    PART("Content-MD5", md5),
    PART("Content-Language", language),
    PART("Content-Location", location),
    ENVELOPE("Date", date),
    ENVELOPE("Subject", subject),
    ENVELOPE("From", from),
    ENVELOPE("Sender", sender),
    ENVELOPE("Reply-To", reply_to),
    JOINED("To", to),
    JOINED("Cc", cc),
    JOINED("Bcc", bcc),
    ENVELOPE("In-Reply-To", in_reply_to),
    ENVELOPE("Message-ID", message_id),
    ENVELOPE("References", references),
};

static const struct field_kind *field_kind_of(struct sp_slice name)
{
    for (size_t i = 0; name.len && i < sizeof field_kinds / sizeof *field_kinds; i++)
        if (sp_slice_eq_nocase(name, field_kinds[i].name))
            return &field_kinds[i];
    return NULL;
}

/* ---- Memory ---- */

static void *take(struct sp_mime_parser *parser, size_t count, size_t size_bytes)
{
    void *memory = sp_arena_array(parser->arena, count, size_bytes);
    if (!memory)
        parser->status = SP_NO_MEMORY;
    return memory;
}

/* Memory for what strangers write; NULL also beyond the limit, and then all goes on without it. */
static void *take_kept(struct sp_mime_parser *parser, size_t count, size_t size_bytes)
{
    size_t bytes = count * size_bytes; /* both small: a field's */
    if (bytes > SP_MIME_KEPT_BYTES_MAX - parser->kept_bytes)
        return NULL;
    parser->kept_bytes += bytes;
    return take(parser, count, size_bytes);
}

static bool text_reserve(struct sp_mime_parser *parser, size_t len)
{
    size_t need = parser->text_len + len, capacity = parser->text_capacity;
    if (need <= capacity)
        return true;
    while (capacity < need)
        capacity = capacity ? capacity * 2 : TEXT_FIRST_BYTES;
    uint8_t *text = take(parser, capacity, 1);
    if (!text)
        return false;
    if (parser->text_len)
        memcpy(text, parser->text, parser->text_len);
    parser->text = text;
    parser->text_capacity = capacity;
    return true;
}

/* ---- Opening and closing parts ---- */

static struct sp_mime_part *top_part(struct sp_mime_parser *parser)
{
    return &parser->parts[parser->stack[parser->depth - 1].part];
}

static bool may_open(const struct sp_mime_parser *parser)
{
    return parser->parts_count < SP_MIME_PARTS_MAX && parser->depth < SP_MIME_DEPTH_MAX;
}

/* A part whose header begins at offset, below the top of the stack. */
static void open_part(struct sp_mime_parser *parser, uint64_t offset)
{
    sp_assert(may_open(parser));
    if (parser->parts_count == parser->parts_capacity) {
        uint32_t capacity = parser->parts_capacity ? parser->parts_capacity * 2 : PARTS_FIRST;
        struct sp_mime_part *parts = take(parser, capacity, sizeof *parts);
        if (!parts)
            return;
        if (parser->parts_count)
            memcpy(parts, parser->parts, parser->parts_count * sizeof *parts);
        parser->parts = parts;
        parser->parts_capacity = capacity;
    }
    uint32_t index = parser->parts_count;
    struct sp_mime_part *part = &parser->parts[index];
    bool is_message = true;
    *part = (struct sp_mime_part){.header_offset = offset};
    if (parser->depth) {
        part->parent = parser->stack[parser->depth - 1].part;
        parser->parts[part->parent].child_count++;
        is_message = parser->parts[part->parent].kind == SP_MIME_MESSAGE;
    }
    if (is_message && !(part->envelope = take(parser, 1, sizeof *part->envelope)))
        return;
    parser->parts_count++;
    parser->stack[parser->depth++] = (struct level){.part = index};
    parser->in_header = true;
    parser->field = NULL;
    parser->field_open = false;
}

/* What cannot be shown as what it says it is. A multipart without parts (no boundary, none found,
 * nested too deep) is mostly text whose parts were lost, and clients can show it so. An enclosed
 * message that cannot be looked into (encoded, nested too deep) must not be called one: clients
 * then expect its envelope. */
static void make_leaf(struct sp_mime_parser *parser, struct sp_mime_part *part)
{
    static const struct sp_mime_param us_ascii = {NAME("charset"), NAME("us-ascii")};
    if (sp_slice_eq_nocase(part->type, SP_S("multipart"))) {
        part->type = SP_S("text");
        part->subtype = SP_S("plain");
        part->params = take(parser, 1, sizeof us_ascii);
        part->params_count = part->params ? 1 : 0;
        if (part->params)
            part->params[0] = us_ascii;
    } else if (sp_slice_eq_nocase(part->type, SP_S("message")) &&
               (sp_slice_eq_nocase(part->subtype, SP_S("rfc822")) ||
                sp_slice_eq_nocase(part->subtype, SP_S("global")))) {
        part->type = SP_S("application");
        part->subtype = SP_S("octet-stream");
    }
    part->kind = SP_MIME_LEAF;
}

/* Closes the parts above `depth` at the byte `end`, before which there are `lines` line ends. */
static void close_parts(struct sp_mime_parser *parser, uint32_t depth, uint64_t end, uint64_t lines)
{
    while (parser->depth > depth) {
        const struct level *level = &parser->stack[--parser->depth];
        struct sp_mime_part *part = &parser->parts[level->part];
        part->body_bytes = end - part->body_offset;
        part->body_lines = lines - level->lines;
        if (part->kind == SP_MIME_MULTIPART && !part->child_count)
            make_leaf(parser, part);
    }
}

/* ---- Headers ---- */

static void apply_defaults(struct sp_mime_parser *parser, struct sp_mime_part *part)
{
    static const struct sp_mime_param us_ascii = {NAME("charset"), NAME("us-ascii")};
    const struct sp_mime_part *parent = &parser->parts[part->parent];
    if (!part->type.len || !part->subtype.len) {
        bool in_digest = part != parent && parent->kind == SP_MIME_MULTIPART &&
                         sp_slice_eq_nocase(parent->subtype, SP_S("digest"));
        part->type = in_digest ? SP_S("message") : SP_S("text");
        part->subtype = in_digest ? SP_S("rfc822") : SP_S("plain");
    }
    if (sp_slice_eq_nocase(part->type, SP_S("text")) &&
        sp_slice_eq_nocase(part->subtype, SP_S("plain")) &&
        !sp_mime_param_find(part->params, part->params_count, SP_S("charset")) &&
        !sp_mime_param_find(part->params, part->params_count, SP_S("charset*"))) {
        struct sp_mime_param *params = take(parser, part->params_count + 1U, sizeof *params);
        if (!params)
            return;
        if (part->params_count)
            memcpy(params, part->params, part->params_count * sizeof *params);
        params[part->params_count] = us_ascii;
        part->params = params;
        part->params_count++;
    }
}

/* The boundary of a multipart; empty when it has none that can be used. */
static struct sp_slice boundary_of(struct sp_mime_parser *parser, const struct sp_mime_part *part)
{
    struct sp_slice boundary = {NULL, 0}, charset;
    const struct sp_mime_param *param =
        sp_mime_param_find(part->params, part->params_count, SP_S("boundary"));
    if (param) {
        boundary = param->value;
    } else {
        struct sp_buf buf;
        sp_buf_init(&buf, SP_MIME_FIELD_BYTES_MAX);
        uint8_t *copy;
        if (sp_mime_param_bytes(part->params, part->params_count, SP_S("boundary"), &buf,
                                &charset) &&
            buf.len && (copy = take_kept(parser, buf.len, 1))) {
            memcpy(copy, buf.ptr, buf.len);
            boundary = sp_slice(copy, buf.len);
        }
        sp_buf_release(&buf);
    }
    /* Boundary lines are compared without what is blank at their end. */
    while (boundary.len && sp_mime_is_space(boundary.ptr[boundary.len - 1]))
        boundary.len--;
    return boundary.len <= SP_MIME_BOUNDARY_MAX ? boundary : (struct sp_slice){NULL, 0};
}

static bool is_encoded(struct sp_slice encoding)
{
    return sp_slice_eq_nocase(encoding, SP_S("base64")) ||
           sp_slice_eq_nocase(encoding, SP_S("quoted-printable"));
}

/* The header of the part at the top ends at the byte `end`, before which there are `lines` line
 * ends. */
static void end_header(struct sp_mime_parser *parser, uint64_t end, uint64_t lines)
{
    struct level *level = &parser->stack[parser->depth - 1];
    struct sp_mime_part *part = &parser->parts[level->part];
    part->header_bytes = end - part->header_offset;
    part->body_offset = end;
    level->lines = lines;
    parser->in_header = false;
    apply_defaults(parser, part);

    if (sp_slice_eq_nocase(part->type, SP_S("multipart"))) {
        level->boundary = boundary_of(parser, part);
        if (level->boundary.len && may_open(parser))
            part->kind = SP_MIME_MULTIPART;
        else
            make_leaf(parser, part);
        if (part->kind == SP_MIME_LEAF)
            level->boundary.len = 0;
    } else if (sp_slice_eq_nocase(part->type, SP_S("message")) &&
               (sp_slice_eq_nocase(part->subtype, SP_S("rfc822")) ||
                sp_slice_eq_nocase(part->subtype, SP_S("global")))) {
        if (!is_encoded(part->encoding) && may_open(parser)) {
            part->kind = SP_MIME_MESSAGE;
            open_part(parser, end);
        } else {
            make_leaf(parser, part);
        }
    }
}

/* body: in the arena, ours to change. Sets the tokens and the parameters of Content-Type or
 * Content-Disposition. */
static void parse_tokens(struct sp_mime_parser *parser, struct sp_slice_mut body,
                         struct sp_slice *ret_token, struct sp_slice *ret_subtype,
                         struct sp_mime_param **ret_params, uint32_t *ret_count)
{
    struct sp_slice view = {body.ptr, body.len};
    size_t start = sp_mime_skip_cfws(view, 0), at = start;
    while (at < body.len && !sp_mime_is_space(body.ptr[at]) && body.ptr[at] != '/' &&
           body.ptr[at] != ';' && body.ptr[at] != '(')
        at++;
    *ret_token = sp_slice_sub(view, start, at);
    at = sp_mime_skip_cfws(view, at);
    if (ret_subtype && at < body.len && body.ptr[at] == '/') {
        start = at = sp_mime_skip_cfws(view, at + 1);
        while (at < body.len && !sp_mime_is_space(body.ptr[at]) && body.ptr[at] != ';' &&
               body.ptr[at] != '(')
            at++;
        *ret_subtype = sp_slice_sub(view, start, at);
    }
    struct sp_mime_param params[SP_MIME_PARAMS_MAX];
    uint32_t count =
        sp_mime_parse_params((struct sp_slice_mut){body.ptr + at, body.len - at}, params);
    if (count && (*ret_params = take_kept(parser, count, sizeof *params))) {
        memcpy(*ret_params, params, count * sizeof *params);
        *ret_count = count;
    }
}

/* Keeps the field body in *slot. */
static struct sp_slice_mut keep_body(struct sp_mime_parser *parser, const struct field_kind *kind,
                                     struct sp_slice_mut body, struct sp_slice *slot)
{
    static const char separator[2] = ", ";
    struct sp_slice before = {NULL, 0};
    if (slot->ptr) {
        if (kind->place != IN_ENVELOPE_JOINED || !body.len ||
            slot->len + body.len + sizeof separator > SP_MIME_FIELD_BYTES_MAX)
            return (struct sp_slice_mut){NULL, 0};
        before = *slot;
    }
    size_t gap = before.len ? sizeof separator : 0;
    uint8_t *copy = take_kept(parser, before.len + gap + body.len + 1, 1); /* +1: "" is not NULL */
    if (!copy)
        return (struct sp_slice_mut){NULL, 0};
    if (before.len) {
        memcpy(copy, before.ptr, before.len);
        memcpy(copy + before.len, separator, gap);
    }
    if (body.len)
        memcpy(copy + before.len + gap, body.ptr, body.len);
    *slot = sp_slice(copy, before.len + gap + body.len);
    return (struct sp_slice_mut){copy, slot->len};
}

/* The field in text is complete. */
static void end_field(struct sp_mime_parser *parser)
{
    const struct field_kind *kind = parser->field;
    size_t colon;
    parser->field = NULL;
    parser->field_open = false;
    if (!kind)
        return;
    struct sp_mime_part *part = top_part(parser);
    if (kind->place != IN_PART && !part->envelope)
        return;
    uint8_t *base = kind->place == IN_PART ? (uint8_t *)part : (uint8_t *)part->envelope;
    struct sp_slice *slot = (struct sp_slice *)(void *)(base + kind->slice_offset);

    sp_mime_field_name(sp_slice(parser->text, parser->field_len), &colon);
    struct sp_slice_mut body =
        sp_mime_unfold(parser->text + colon + 1, parser->field_len - colon - 1);
    body = keep_body(parser, kind, body, slot);
    if (!body.ptr)
        return;
    if (slot == &part->type) {
        parse_tokens(parser, body, &part->type, &part->subtype, &part->params, &part->params_count);
    } else if (slot == &part->disposition) {
        parse_tokens(parser, body, &part->disposition, NULL, &part->disposition_params,
                     &part->disposition_params_count);
    } else if (slot == &part->encoding) {
        size_t at = sp_mime_skip_cfws(*slot, 0), end = at;
        while (end < slot->len && slot->ptr[end] != '(' && slot->ptr[end] != ';')
            end++;
        *slot = sp_slice_trim(sp_slice_sub(*slot, at, end));
    }
}

/* The line at hand, in text after the field, is one of a header and no boundary. */
static void header_line(struct sp_mime_parser *parser, struct sp_slice line)
{
    size_t line_bytes = parser->text_len - parser->field_len;
    bool too_long = parser->line_cut || parser->text_len > SP_MIME_FIELD_BYTES_MAX ||
                    parser->offset - top_part(parser)->header_offset > SP_MIME_HEADER_BYTES_MAX;
    if (line.len && sp_mime_is_blank(line.ptr[0]) && parser->field_open) {
        if (too_long) /* the field is beyond the limits: as if absent */
            parser->field = NULL;
        parser->field_len = parser->text_len;
    } else {
        end_field(parser);
        if (line_bytes)
            memmove(parser->text, parser->text + parser->field_len, line_bytes);
        parser->field_len = parser->text_len = line_bytes;
        size_t colon;
        parser->field_open = true;
        if (!too_long)
            parser->field =
                field_kind_of(sp_mime_field_name(sp_slice(parser->text, line_bytes), &colon));
    }
    if (!parser->field)
        parser->field_len = parser->text_len = 0;
}

/* ---- Lines ---- */

/* The level whose boundary this line is, or SP_MIME_DEPTH_MAX. */
static uint32_t find_boundary(const struct sp_mime_parser *parser, struct sp_slice line,
                              bool *ret_last)
{
    if (line.len < 3 || line.ptr[0] != '-' || line.ptr[1] != '-' ||
        (parser->line_cut && !parser->line_blank))
        return SP_MIME_DEPTH_MAX;
    while (line.len && sp_mime_is_space(line.ptr[line.len - 1]))
        line.len--;
    line = sp_slice_from(line, 2);
    bool dashes = line.len > 2 && line.ptr[line.len - 1] == '-' && line.ptr[line.len - 2] == '-';
    struct sp_slice inner = sp_slice_sub(line, 0, line.len - (dashes ? 2 : 0));
    for (uint32_t i = parser->depth; i-- > 0;) {
        struct sp_slice boundary = parser->stack[i].boundary;
        if (!boundary.len)
            continue;
        bool last = dashes && sp_slice_eq(inner, boundary);
        if (!last && !sp_slice_eq(line, boundary))
            continue;
        if (!last && parser->parts_count == SP_MIME_PARTS_MAX)
            continue; /* no more parts: what follows belongs to the last one */
        *ret_last = last;
        return i;
    }
    return SP_MIME_DEPTH_MAX;
}

/* The line at hand is a boundary line of stack[index]. The line end before it is part of it; but
 * not when that is the blank line of a header, or a boundary's own, so that what it closes is never
 * less than empty. */
static void boundary_line(struct sp_mime_parser *parser, uint32_t index, bool last,
                          uint64_t next_line_offset)
{
    const struct sp_mime_part *top = top_part(parser);
    uint64_t start = parser->in_header ? top->header_offset : top->body_offset;
    uint64_t end = parser->line_offset - parser->eol_bytes, lines = parser->lines;
    if (end < start)
        end = start;
    if (end < parser->line_offset)
        lines--;
    if (parser->in_header)
        end_field(parser);
    while (parser->in_header && !parser->status) /* again for an enclosed message, an empty one */
        end_header(parser, end, lines);
    if (parser->status)
        return;
    close_parts(parser, index + 1, end, lines);
    if (last)
        parser->stack[index].boundary.len = 0;
    else if (parser->parts_count < SP_MIME_PARTS_MAX)
        open_part(parser, next_line_offset);
}

/* The line at hand is complete; offset is behind its line end of eol_bytes (0 at the end of the
 * message). */
static void end_line(struct sp_mime_parser *parser, unsigned eol_bytes)
{
    if (parser->keeping) {
        struct sp_slice line =
            sp_slice(parser->text + parser->field_len, parser->text_len - parser->field_len);
        if (!parser->line_cut)
            line.len -= eol_bytes;
        bool last;
        uint32_t index = find_boundary(parser, line, &last);
        if (index < parser->depth) {
            boundary_line(parser, index, last, parser->offset);
            parser->text_len = parser->field_len = 0;
        } else if (!parser->in_header) {
            parser->text_len = 0;
        } else if (!line.len && eol_bytes) {
            end_field(parser);
            parser->text_len = parser->field_len = 0;
            end_header(parser, parser->offset, parser->lines + 1);
        } else {
            header_line(parser, line);
        }
    }
    parser->keeping = false;
    parser->line_offset = parser->offset;
    parser->eol_bytes = eol_bytes;
    parser->lines += eol_bytes > 0;
}

/* Gathers bytes of the line at hand, up to what matters of it. */
static void keep_line(struct sp_mime_parser *parser, struct sp_slice bytes)
{
    size_t have = parser->text_len - parser->field_len, max = LINE_KEEP_BYTES;
    if (parser->in_header && SP_MIME_FIELD_BYTES_MAX - parser->field_len > max)
        max = SP_MIME_FIELD_BYTES_MAX - parser->field_len;
    size_t n = bytes.len < max - have ? bytes.len : max - have;
    if (!text_reserve(parser, n))
        return;
    memcpy(parser->text + parser->text_len, bytes.ptr, n);
    parser->text_len += n;
    if (n < bytes.len) {
        parser->line_cut = true;
        for (size_t i = n; i < bytes.len && parser->line_blank; i++)
            parser->line_blank = sp_mime_is_space(bytes.ptr[i]);
    }
}

static bool has_boundary(const struct sp_mime_parser *parser)
{
    for (uint32_t i = parser->depth; i-- > 0;)
        if (parser->stack[i].boundary.len)
            return true;
    return false;
}

/* ---- The interface ---- */

struct sp_mime_parser *sp_mime_parser_new(struct sp_arena *arena)
{
    struct sp_mime_parser *parser = sp_arena_alloc(arena, sizeof *parser);
    if (!parser)
        return NULL;
    parser->arena = arena;
    open_part(parser, 0);
    return parser->status ? NULL : parser;
}

/* Passes over lines of a body that need no look, from the start of one; returns the first byte of
 * the first line that does, or that is not whole. */
static const uint8_t *skip_lines(struct sp_mime_parser *parser, const uint8_t *at,
                                 const uint8_t *end, bool boundaries)
{
    const uint8_t *start = at;
    uint64_t lines = 0;
    while (at < end && !(boundaries && *at == '-')) {
        const uint8_t *lf = memchr(at, '\n', (size_t)(end - at));
        if (!lf)
            break;
        at = lf + 1;
        lines++;
    }
    if (lines) {
        /* The byte before the last line end; at is behind it. */
        uint8_t before = at - start > 1 ? at[-2] : '\n';
        parser->eol_bytes = before == '\r' ? 2 : 1;
        parser->last = '\n';
        parser->lines += lines;
        parser->offset += (uint64_t)(at - start);
        parser->line_offset = parser->offset;
    }
    return at;
}

enum sp_status sp_mime_parser_feed(struct sp_mime_parser *parser, struct sp_slice bytes)
{
    const uint8_t *at = bytes.ptr, *end = bytes.len ? at + bytes.len : at;
    while (at < end && !parser->status) {
        if (parser->offset == parser->line_offset) {
            bool boundaries = has_boundary(parser);
            if (!parser->in_header) {
                at = skip_lines(parser, at, end, boundaries);
                if (at == end)
                    break;
            }
            parser->keeping = parser->in_header || (boundaries && *at == '-');
            parser->line_cut = false;
            parser->line_blank = true;
        }
        const uint8_t *lf = memchr(at, '\n', (size_t)(end - at));
        size_t n = lf ? (size_t)(lf - at) + 1 : (size_t)(end - at);
        uint8_t before = n > 1 ? at[n - 2] : parser->last;
        if (n == 1 && parser->offset == parser->line_offset)
            before = '\n'; /* an empty line */
        if (parser->keeping)
            keep_line(parser, sp_slice(at, n));
        at += n;
        parser->offset += n;
        parser->last = at[-1];
        if (lf && !parser->status)
            end_line(parser, before == '\r' ? 2 : 1);
    }
    return parser->status;
}

enum sp_status sp_mime_parser_finish(struct sp_mime_parser *parser,
                                     struct sp_mime_message *ret_message)
{
    if (!parser->status && parser->offset > parser->line_offset)
        end_line(parser, 0);
    if (!parser->status && parser->in_header)
        end_field(parser);
    while (!parser->status && parser->in_header)
        end_header(parser, parser->offset, parser->lines);
    if (!parser->status)
        close_parts(parser, 0, parser->offset, parser->lines);
    if (parser->status)
        return parser->status;
    *ret_message = (struct sp_mime_message){
        .parts = parser->parts, .parts_count = parser->parts_count, .size = parser->offset};
    return SP_OK;
}
