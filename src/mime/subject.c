/* The base subject (RFC 5256, 2.1). Step numbers are the RFC's. */
#include "mime/internal.h"

static struct sp_slice trim_start(struct sp_slice text)
{
    while (text.len && text.ptr[0] == ' ')
        text = sp_slice_from(text, 1);
    return text;
}

static struct sp_slice trim_end(struct sp_slice text)
{
    while (text.len && text.ptr[text.len - 1] == ' ')
        text.len--;
    return text;
}

/* subj-blob: "[" without brackets inside "]" and blanks; the index after it, or at. */
static size_t skip_blob(struct sp_slice text, size_t at)
{
    size_t end = at + 1;
    if (at >= text.len || text.ptr[at] != '[')
        return at;
    while (end < text.len && text.ptr[end] != '[' && text.ptr[end] != ']')
        end++;
    if (end >= text.len || text.ptr[end] != ']')
        return at;
    for (end++; end < text.len && text.ptr[end] == ' ';)
        end++;
    return end;
}

/* subj-refwd: "re", "fw" or "fwd", blanks, a blob perhaps, ":"; the index after it, or at. */
static size_t skip_refwd(struct sp_slice text, size_t at)
{
    struct sp_slice rest = sp_slice_from(text, at);
    size_t end = at;
    if (sp_slice_starts_nocase(rest, SP_S("fwd")))
        end += 3;
    else if (sp_slice_starts_nocase(rest, SP_S("re")) || sp_slice_starts_nocase(rest, SP_S("fw")))
        end += 2;
    else
        return at;
    while (end < text.len && text.ptr[end] == ' ')
        end++;
    end = skip_blob(text, end);
    return end < text.len && text.ptr[end] == ':' ? end + 1 : at;
}

/* Step 2: subj-trailer. */
static struct sp_slice remove_trailer(struct sp_slice text, bool *reply)
{
    for (;;) {
        text = trim_end(text);
        if (text.len < 5 || !sp_slice_eq_nocase(sp_slice_from(text, text.len - 5), SP_S("(fwd)")))
            return text;
        text.len -= 5;
        *reply = true;
    }
}

/* Step 3: subj-leader, (*subj-blob subj-refwd) / blank. False: there is none. */
static bool remove_leader(struct sp_slice *text, bool *reply)
{
    size_t at = 0, next;
    if (text->len && text->ptr[0] == ' ') {
        *text = trim_start(*text);
        return true;
    }
    while ((next = skip_blob(*text, at)) > at)
        at = next;
    next = skip_refwd(*text, at);
    if (next == at)
        return false;
    *text = sp_slice_from(*text, next);
    *reply = true;
    return true;
}

void sp_mime_base_subject(struct sp_slice utf8, struct sp_buf *buf, bool *ret_reply)
{
    /* Step 1: tabs and line ends are blanks, and several are one. */
    struct sp_buf single;
    sp_buf_init(&single, utf8.len + 1);
    for (size_t i = 0; i < utf8.len; i++) {
        uint8_t c = sp_mime_is_space(utf8.ptr[i]) ? ' ' : utf8.ptr[i];
        if (c != ' ' || !single.len || single.ptr[single.len - 1] != ' ')
            sp_buf_add_byte(&single, c);
    }
    struct sp_slice text = sp_buf_slice(&single);
    bool reply = false;
    for (;;) {
        text = remove_trailer(text, &reply);
        for (;;) {
            if (remove_leader(&text, &reply))
                continue;
            /* Step 4: a blob goes unless it is all there is; step 5: again. */
            size_t blob = skip_blob(text, 0);
            if (!blob || blob == text.len)
                break;
            text = sp_slice_from(text, blob);
        }
        /* Step 6: [fwd: ...], and all over again. */
        if (!sp_slice_starts_nocase(text, SP_S("[fwd:")) || text.ptr[text.len - 1] != ']')
            break;
        text = sp_slice_sub(text, 5, text.len - 1);
        reply = true;
    }
    if (single.failed)
        buf->failed = true;
    sp_buf_add(buf, text);
    sp_buf_release(&single);
    *ret_reply = reply;
}
