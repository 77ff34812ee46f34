/* Messages and what is made of them: the first byte selects what is exercised with the rest. */
#include "mime/test_tree.h"

#define ARENA_BYTES (64U << 20)
#define BUF_BYTES   (64U << 20)
#define PIECES_MAX  15U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Takes the first byte off the input, 0 at its end. */
static uint8_t take_byte(struct sp_slice *input)
{
    uint8_t byte = input->len ? input->ptr[0] : 0;
    *input = sp_slice_from(*input, 1);
    return byte;
}

/* ---- Messages ---- */

/* Sections lie within the message. */
static void check_sections(const struct sp_mime_message *message, struct sp_slice path_bytes)
{
    uint32_t path[SP_MIME_DEPTH_MAX + 2];
    uint64_t offset, bytes;
    for (size_t len = 0; len <= path_bytes.len && len <= sizeof path / sizeof *path; len++) {
        if (len)
            path[len - 1] = path_bytes.ptr[len - 1] % 4U;
        for (int section = SP_MIME_SECTION_ALL; section <= SP_MIME_SECTION_MIME; section++)
            if (sp_mime_section_range(message, path, len, (enum sp_mime_section)section, &offset,
                                      &bytes) == SP_OK)
                sp_assert(offset <= message->size && bytes <= message->size - offset);
    }
}

/* A table that was read is written, and the same is read again. */
static void check_table(const struct sp_mime_message *message)
{
    struct sp_arena arena;
    struct sp_buf first, second;
    struct sp_mime_message read;
    sp_arena_init(&arena, ARENA_BYTES);
    sp_buf_init(&first, BUF_BYTES);
    sp_buf_init(&second, BUF_BYTES);
    sp_mime_write_parts(message, &first);
    sp_assert(!sp_buf_failed(&first));
    sp_assert(sp_mime_read_parts(sp_buf_slice(&first), &arena, &read) == SP_OK);
    sp_assert(read.parts_count == message->parts_count && read.size == message->size);
    sp_mime_write_parts(&read, &second);
    sp_assert(sp_slice_eq(sp_buf_slice(&first), sp_buf_slice(&second)));
    sp_buf_release(&second);
    sp_buf_release(&first);
    sp_arena_release(&arena);
}

/* What is written for IMAP is read back. */
static void check_imap(const struct sp_mime_message *message)
{
    struct sp_arena arena;
    struct sp_buf written, body;
    struct sp_mime_envelope_wire envelope;
    sp_arena_init(&arena, ARENA_BYTES);
    sp_buf_init(&written, BUF_BYTES);
    sp_buf_init(&body, BUF_BYTES);
    sp_mime_write_envelope(message, &written);
    sp_assert(!sp_buf_failed(&written));
    sp_assert(sp_mime_read_envelope(sp_buf_slice(&written), &arena, &envelope) == SP_OK);
    sp_buf_reset(&written);
    sp_mime_write_bodystructure(message, &written);
    sp_assert(!sp_buf_failed(&written));
    sp_assert(sp_mime_write_body(sp_buf_slice(&written), &body) == SP_OK);
    sp_assert(body.len && body.len < written.len);
    sp_buf_release(&body);
    sp_buf_release(&written);
    sp_arena_release(&arena);
}

static void check_params(const struct sp_mime_message *message)
{
    struct sp_buf buf;
    sp_buf_init(&buf, BUF_BYTES);
    for (uint32_t i = 0; i < message->parts_count && i < 20; i++) {
        const struct sp_mime_part *part = &message->parts[i];
        sp_mime_param_decode(part->params, part->params_count, SP_S("name"), &buf);
        sp_mime_param_decode(part->disposition_params, part->disposition_params_count,
                             SP_S("filename"), &buf);
    }
    sp_assert(!sp_buf_failed(&buf) && sp_mime_is_utf8(sp_buf_slice(&buf)));
    sp_buf_release(&buf);
}

/* A count, the lengths of so many pieces, the message. */
static void fuzz_message(struct sp_slice input)
{
    size_t count = take_byte(&input) % (PIECES_MAX + 1U);
    struct sp_slice pieces = sp_slice_sub(input, 0, count);
    struct sp_slice bytes = sp_slice_from(input, count);
    struct sp_arena arena, again, small;
    struct sp_mime_message whole, split;
    struct sp_buf shown;
    sp_arena_init(&arena, SP_MIME_ARENA_BYTES);
    sp_arena_init(&again, SP_MIME_ARENA_BYTES);
    sp_buf_init(&shown, BUF_BYTES);
    sp_assert(sp_test_parse(bytes, NULL, 0, &arena, &whole) == SP_OK);
    sp_assert(sp_test_parse(bytes, pieces.ptr, pieces.len, &again, &split) == SP_OK);
    sp_assert(sp_test_same(&whole, &split));
    sp_test_show(&whole, bytes, &shown);
    check_sections(&whole, pieces);
    check_table(&whole);
    check_imap(&whole);
    check_params(&whole);
    sp_arena_init(&small, arena.used_bytes - 1);
    sp_assert(sp_test_parse(bytes, NULL, 0, &small, &split) == SP_NO_MEMORY);
    sp_arena_release(&small);
    sp_buf_release(&shown);
    sp_arena_release(&again);
    sp_arena_release(&arena);
}

/* ---- What was stored, and may be anything ---- */

static void fuzz_read_envelope(struct sp_slice input)
{
    struct sp_arena arena;
    struct sp_mime_envelope_wire envelope;
    sp_arena_init(&arena, ARENA_BYTES);
    (void)!sp_mime_read_envelope(input, &arena, &envelope);
    sp_arena_release(&arena);
}

static void fuzz_read_parts(struct sp_slice input)
{
    struct sp_arena arena;
    struct sp_mime_message message;
    sp_arena_init(&arena, ARENA_BYTES);
    if (sp_mime_read_parts(input, &arena, &message) == SP_OK) {
        check_sections(&message, input);
        check_table(&message);
    }
    sp_arena_release(&arena);
}

static void fuzz_write_body(struct sp_slice input)
{
    struct sp_buf body, again;
    sp_buf_init(&body, BUF_BYTES);
    sp_buf_init(&again, BUF_BYTES);
    if (sp_mime_write_body(input, &body) == SP_OK) {
        sp_assert(body.len <= input.len);
        /* Without extension data there is nothing to leave out. */
        sp_assert(sp_mime_write_body(sp_buf_slice(&body), &again) == SP_OK);
        sp_assert(sp_slice_eq(sp_buf_slice(&body), sp_buf_slice(&again)));
    } else {
        sp_assert(body.len == 0);
    }
    sp_buf_release(&again);
    sp_buf_release(&body);
}

/* ---- Headers and text ---- */

static void fuzz_fields(struct sp_slice input)
{
    static const struct sp_slice names[] = {{(const uint8_t *)"To", 2}, {(const uint8_t *)"a", 1}};
    struct sp_slice rest = input;
    struct sp_mime_field field;
    struct sp_buf buf;
    while (sp_mime_next_field(&rest, &field)) {
        int64_t unix_s;
        int zone;
        sp_assert(field.raw.len &&
                  field.raw.ptr + field.raw.len == input.ptr + input.len - rest.len);
        sp_assert(field.name.len + field.body.len <= field.raw.len);
        if (sp_mime_parse_date(field.body, &unix_s, &zone) == SP_OK)
            sp_assert(zone > -6000 && zone < 6000);
    }
    sp_buf_init(&buf, BUF_BYTES);
    sp_mime_write_fields(input, names, 2, false, &buf);
    sp_mime_write_fields(input, names, 2, true, &buf);
    /* Each field in the one or the other; two blank lines, and a line end that was missing. */
    size_t fields = input.len - rest.len;
    sp_assert(buf.len == fields + 4 || buf.len == fields + 6);
    sp_buf_release(&buf);
}

static void fuzz_subject(struct sp_slice input)
{
    struct sp_buf text, base, again, folded;
    bool reply;
    sp_buf_init(&text, BUF_BYTES);
    sp_buf_init(&base, BUF_BYTES);
    sp_buf_init(&again, BUF_BYTES);
    sp_buf_init(&folded, BUF_BYTES);
    sp_mime_decode_header(input, &text);
    sp_assert(!sp_buf_failed(&text) && sp_mime_is_utf8(sp_buf_slice(&text)));
    sp_mime_base_subject(sp_buf_slice(&text), &base, &reply);
    sp_assert(!sp_buf_failed(&base) && base.len <= text.len);
    sp_mime_base_subject(sp_buf_slice(&base), &again, &reply);
    sp_assert(!reply && sp_slice_eq(sp_buf_slice(&base), sp_buf_slice(&again)));
    sp_mime_fold(sp_buf_slice(&text), &folded);
    sp_assert(!sp_buf_failed(&folded) && sp_mime_is_utf8(sp_buf_slice(&folded)));
    sp_buf_reset(&folded);
    sp_mime_fold(input, &folded);
    sp_assert(!sp_buf_failed(&folded) && sp_mime_is_utf8(sp_buf_slice(&folded)));
    sp_buf_release(&folded);
    sp_buf_release(&again);
    sp_buf_release(&base);
    sp_buf_release(&text);
}

/* The encoding, the cap, the charset, a NUL, the content. */
static void fuzz_text(struct sp_slice input)
{
    static const char *const encodings[] = {"base64", "quoted-printable", "8bit"};
    const char *encoding = encodings[take_byte(&input) % 3];
    size_t cap = take_byte(&input), nul = sp_slice_find(input, 0);
    struct sp_slice charset = sp_slice_sub(input, 0, nul);
    struct sp_slice content = nul == SIZE_MAX ? input : sp_slice_from(input, nul + 1);
    struct sp_buf text, small;
    sp_buf_init(&text, BUF_BYTES);
    sp_buf_init(&small, cap);
    sp_mime_decode_text(content, sp_slice_str(encoding), charset, &text);
    sp_mime_decode_text(content, sp_slice_str(encoding), charset, &small);
    sp_assert(!sp_buf_failed(&text) && sp_mime_is_utf8(sp_buf_slice(&text)));
    sp_assert(small.len <= cap && sp_buf_failed(&small) == (text.len > cap));
    sp_assert(sp_slice_eq(sp_buf_slice(&small), sp_slice_sub(sp_buf_slice(&text), 0, small.len)));
    sp_buf_release(&small);
    sp_buf_release(&text);
}

/* A name has one form in each encoding. */
static void fuzz_utf7(struct sp_slice input)
{
    struct sp_buf there, back;
    sp_buf_init(&there, BUF_BYTES);
    sp_buf_init(&back, BUF_BYTES);
    if (sp_mime_utf7_to_utf8(input, &there) == SP_OK) {
        sp_assert(sp_mime_is_utf8(sp_buf_slice(&there)));
        sp_assert(sp_mime_utf8_to_utf7(sp_buf_slice(&there), &back) == SP_OK);
        sp_assert(sp_slice_eq(sp_buf_slice(&back), input));
    }
    sp_buf_reset(&there);
    sp_buf_reset(&back);
    bool valid = sp_mime_utf8_to_utf7(input, &there) == SP_OK;
    sp_assert(valid == sp_mime_is_utf8(input));
    if (valid) {
        sp_assert(sp_mime_utf7_to_utf8(sp_buf_slice(&there), &back) == SP_OK);
        sp_assert(sp_slice_eq(sp_buf_slice(&back), input));
    }
    sp_buf_release(&back);
    sp_buf_release(&there);
}

static void (*const targets[])(struct sp_slice input) = {
    fuzz_message, fuzz_read_envelope, fuzz_read_parts, fuzz_write_body,
    fuzz_fields,  fuzz_subject,       fuzz_text,       fuzz_utf7,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size)
        targets[data[0] % (sizeof targets / sizeof *targets)](sp_slice(data + 1, size - 1));
    return 0;
}
