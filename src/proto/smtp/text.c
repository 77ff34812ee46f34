#include "proto/smtp/text.h"

static void keep(struct sp_smtp_text *text, struct sp_buf *out, const uint8_t *from,
                 const uint8_t *to)
{
    if (out && !text->bare)
        sp_buf_add(out, sp_slice(from, (size_t)(to - from)));
}

/* What a byte means after CR, DOT or DOT_CR; true when it was taken, otherwise it is looked at
 * again in the new state. */
static bool step(struct sp_smtp_text *text, uint8_t byte, struct sp_buf *out)
{
    static const uint8_t lf = '\n';
    switch (text->state) {
    case SP_SMTP_TEXT_CR:
        if (byte == '\n') {
            keep(text, out, &lf, &lf + 1);
            text->state = SP_SMTP_TEXT_LINE;
            return true;
        }
        text->bare = true;
        text->state = SP_SMTP_TEXT_INSIDE;
        return false;
    case SP_SMTP_TEXT_DOT:
        text->state = byte == '\r' ? SP_SMTP_TEXT_DOT_CR : SP_SMTP_TEXT_INSIDE;
        return byte == '\r';
    case SP_SMTP_TEXT_DOT_CR:
        if (byte == '\n') {
            text->state = SP_SMTP_TEXT_END;
            return true;
        }
        text->bare = true;
        text->state = SP_SMTP_TEXT_INSIDE;
        return false;
    default:
        return false;
    }
}

/* From within a line to the beginning of the next, or to the end of the bytes. Each byte is looked
 * at once for LF and once for CR, however many of either there are. */
static const uint8_t *scan_line(struct sp_smtp_text *text, const uint8_t *at, const uint8_t *end)
{
    const uint8_t *lf = memchr(at, '\n', (size_t)(end - at));
    const uint8_t *stop = lf ? lf : end;
    bool cr = stop > at && stop[-1] == '\r';
    if (!text->bare)
        text->bare = (lf && !cr) || memchr(at, '\r', (size_t)(stop - at) - cr);
    if (lf)
        text->state = cr ? SP_SMTP_TEXT_LINE : SP_SMTP_TEXT_INSIDE;
    else
        text->state = cr ? SP_SMTP_TEXT_CR : SP_SMTP_TEXT_INSIDE;
    return lf ? lf + 1 : end;
}

size_t sp_smtp_text_scan(struct sp_smtp_text *text, struct sp_slice bytes, struct sp_buf *out)
{
    const uint8_t *at = bytes.ptr, *end = at + bytes.len;
    const uint8_t *kept = at; /* what lies from here to `at` is to be kept */
    while (at < end && text->state != SP_SMTP_TEXT_END) {
        if (text->state == SP_SMTP_TEXT_LINE && text->dots && *at == '.') {
            keep(text, out, kept, at);
            kept = ++at;
            text->state = SP_SMTP_TEXT_DOT;
        } else if (text->state <= SP_SMTP_TEXT_INSIDE) {
            at = scan_line(text, at, end);
        } else {
            /* A CR was kept when it came; a dot never is. */
            at += step(text, *at, out);
            kept = at;
        }
    }
    keep(text, out, kept, at);
    return (size_t)(at - bytes.ptr);
}

void sp_smtp_hops_scan(struct sp_smtp_hops *hops, struct sp_slice bytes)
{
    static const char name[] = "received";
    const uint8_t *at = bytes.ptr, *end = at + bytes.len;
    while (at < end && !hops->body) {
        if (hops->skip) {
            at = memchr(at, '\n', (size_t)(end - at));
            if (!at)
                return;
            at++;
            hops->skip = false;
            hops->column = 0;
            continue;
        }
        uint8_t c = *at;
        if (hops->column == sizeof name - 1 && (c == ':' || c == ' ' || c == '\t')) {
            hops->count++;
            hops->skip = true;
        } else if (hops->column < sizeof name - 1 && sp_ascii_lower(c) == name[hops->column]) {
            hops->column++;
            at++;
        } else {
            hops->body = hops->column == 0 && c == '\r';
            hops->skip = true;
        }
    }
}
