/* Which thread a message belongs to, by what its own header says (RFC 5322, 3.6.4). */
#include "mime/internal.h"

/* The first "<...>" of a field body; folding inside it is malformed and ends the search. */
static bool first_id(struct sp_slice body, struct sp_slice *ret_id)
{
    size_t at = 0;
    while (at < body.len) {
        if (body.ptr[at] != '<') {
            at = body.ptr[at] == '(' ? sp_mime_skip_comment(body, at) : at + 1;
            continue;
        }
        size_t end = at + 1;
        while (end < body.len && body.ptr[end] != '>' && !sp_mime_is_space(body.ptr[end]))
            end++;
        if (end < body.len && body.ptr[end] == '>' && end > at + 1) {
            *ret_id = sp_slice_sub(body, at + 1, end);
            return true;
        }
        at = end;
    }
    return false;
}

bool sp_mime_thread_root(struct sp_slice header, struct sp_slice *ret_id)
{
    static const char *const names[] = {"References", "In-Reply-To", "Message-ID"};
    struct sp_slice found[3] = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    struct sp_mime_field field;
    while (sp_mime_next_field(&header, &field))
        for (size_t i = 0; i < 3; i++)
            if (!found[i].len && sp_slice_eq_nocase(field.name, sp_slice_str(names[i])))
                (void)first_id(field.body, &found[i]);
    for (size_t i = 0; i < 3; i++) {
        if (found[i].len) {
            *ret_id = found[i];
            return true;
        }
    }
    return false;
}
