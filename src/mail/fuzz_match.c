/* Text matching, and the shortcut to an ENVELOPE's subject, each held against the plain way. */
#include "mail/match.h"
#include "mail/search.h"

#include <stddef.h>

static bool plain_search(struct sp_slice needle, struct sp_slice text)
{
    for (size_t at = 0; at + needle.len <= text.len; at++)
        if (sp_slice_eq_nocase(needle, sp_slice_sub(text, at, at + needle.len)))
            return true;
    return false;
}

static void check_search(struct sp_slice needle_text, struct sp_slice text, struct sp_arena *arena,
                         struct sp_matcher *matcher)
{
    struct sp_needle needle;
    if (sp_needle_init(&needle, needle_text, arena) != SP_OK)
        return;
    /* Whatever the bytes are, nothing of it may crash, and a needle is found in itself. */
    sp_needle_in_field(&needle, matcher, text);
    sp_needle_in_header(&needle, matcher, text);
    sp_needle_in_part(&needle, matcher, text, SP_S("quoted-printable"), SP_S("utf-8"));
    sp_needle_in_part(&needle, matcher, text, SP_S("base64"), SP_S("iso-8859-1"));
    sp_assert(sp_needle_in_utf8(&needle, matcher, needle_text));
    bool found = sp_needle_in_utf8(&needle, matcher, text);
    if (!needle.ascii || !sp_is_ascii(text))
        return;
    sp_assert(found == plain_search(needle_text, text));
    sp_assert(sp_needle_in_part(&needle, matcher, text, SP_S("7bit"), SP_S("us-ascii")) == found);
}

static void check_subject(struct sp_slice envelope, struct sp_arena *arena)
{
    struct sp_mime_envelope_wire wire;
    struct sp_slice subject;
    if (sp_mime_read_envelope(envelope, arena, &wire) != SP_OK ||
        !sp_envelope_subject(envelope, &subject))
        return;
    sp_assert(sp_slice_eq(subject, wire.subject));
    sp_assert(!subject.ptr == !wire.subject.ptr);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sp_arena arena;
    struct sp_matcher matcher;
    if (!size)
        return 0;
    struct sp_slice all = sp_slice(data + 1, size - 1);
    sp_arena_init(&arena, 16U << 20);
    sp_matcher_init(&matcher);
    check_search(sp_slice_sub(all, 0, data[0]), sp_slice_from(all, data[0]), &arena, &matcher);
    check_subject(all, &arena);
    sp_matcher_release(&matcher);
    sp_arena_release(&arena);
    return 0;
}
