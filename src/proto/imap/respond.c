#include "proto/imap/respond.h"

#include "base/time.h"
#include "mime/mime.h"

#define TEXT_MAX 500U

void sp_imap_add_text(struct sp_buf *buf, struct sp_slice text)
{
    if (text.len > TEXT_MAX)
        text.len = TEXT_MAX;
    for (size_t i = 0; i < text.len; i++)
        sp_buf_add_byte(buf, text.ptr[i] < 0x20 || text.ptr[i] > 0x7e ? '?' : text.ptr[i]);
}

static void add_quoted(struct sp_buf *buf, struct sp_slice text)
{
    sp_buf_add_byte(buf, '"');
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '"' || text.ptr[i] == '\\')
            sp_buf_add_byte(buf, '\\');
        sp_buf_add_byte(buf, text.ptr[i]);
    }
    sp_buf_add_byte(buf, '"');
}

void sp_imap_add_mailbox(struct sp_buf *buf, struct sp_slice name)
{
    struct sp_buf wire;
    sp_buf_init(&wire, 8U * SP_MAILBOX_NAME_MAX);
    if (sp_mime_utf8_to_utf7(name, &wire) == SP_OK && !sp_buf_failed(&wire))
        add_quoted(buf, sp_buf_slice(&wire));
    else
        buf->failed = true; /* a name that cannot be told must not be told wrongly */
    sp_buf_release(&wire);
}

void sp_imap_add_name(struct sp_buf *buf, struct sp_slice name, bool utf8)
{
    if (utf8)
        add_quoted(buf, name);
    else
        sp_imap_add_mailbox(buf, name);
}

void sp_imap_add_ranges(struct sp_buf *buf, struct sp_uid_ranges ranges)
{
    for (uint32_t i = 0; i < ranges.count; i++) {
        if (!sp_buf_reserve(buf, 24))
            return;
        uint8_t *start = buf->ptr + buf->len, *at = start;
        if (i)
            *at++ = ',';
        at = sp_imap_put_decimal(at, ranges.ptr[i].first);
        if (ranges.ptr[i].last != ranges.ptr[i].first) {
            *at++ = ':';
            at = sp_imap_put_decimal(at, ranges.ptr[i].last);
        }
        buf->len += (size_t)(at - start);
    }
}

void sp_imap_add_count(struct sp_buf *buf, uint32_t count, const char *name)
{
    sp_buf_add(buf, SP_S("* "));
    sp_buf_add_decimal(buf, count);
    sp_buf_add_byte(buf, ' ');
    sp_buf_add_str(buf, name);
    sp_buf_add(buf, SP_S("\r\n"));
}

uint8_t *sp_imap_put_decimal(uint8_t *at, uint64_t value)
{
    uint8_t digits[20];
    size_t n = sizeof digits;
    do {
        digits[--n] = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value);
    memcpy(at, digits + n, sizeof digits - n);
    return at + (sizeof digits - n);
}

uint8_t *sp_imap_put_flags(uint8_t *at, uint64_t flags, const struct sp_slice *keywords,
                           uint32_t keywords_count)
{
    *at++ = '(';
    const uint8_t *first = at;
    if (flags & SP_FLAG_SEEN)
        at = sp_imap_put(at, SP_S("\\Seen "));
    if (flags & SP_FLAG_ANSWERED)
        at = sp_imap_put(at, SP_S("\\Answered "));
    if (flags & SP_FLAG_FLAGGED)
        at = sp_imap_put(at, SP_S("\\Flagged "));
    if (flags & SP_FLAG_DELETED)
        at = sp_imap_put(at, SP_S("\\Deleted "));
    if (flags & SP_FLAG_DRAFT)
        at = sp_imap_put(at, SP_S("\\Draft "));
    uint64_t bits = flags >> SP_FLAG_KEYWORD_0;
    for (uint32_t i = 0; bits && i < keywords_count; i++, bits >>= 1) {
        if (bits & 1) {
            at = sp_imap_put(at, keywords[i]);
            *at++ = ' ';
        }
    }
    if (at != first)
        at--;
    *at++ = ')';
    return at;
}

static uint8_t *put_two(uint8_t *at, int number)
{
    at[0] = (uint8_t)('0' + number / 10 % 10);
    at[1] = (uint8_t)('0' + number % 10);
    return at + 2;
}

uint8_t *sp_imap_put_date(uint8_t *at, struct sp_date date)
{
    /* Beyond the years 1 to 9999 IMAP cannot write a date: the nearest it can stands for it. */
    static const int64_t year_1 = -62135510400, year_9999 = 253402214400;
    struct sp_civil civil;
    int zone = date.zone_min < 0 ? -date.zone_min : date.zone_min;
    int64_t local = date.unix_s < year_1      ? year_1
                    : date.unix_s > year_9999 ? year_9999
                                              : date.unix_s;
    sp_unix_to_civil(local + (int64_t)date.zone_min * 60, &civil);
    *at++ = '"';
    at = put_two(at, civil.day);
    if (at[-2] == '0')
        at[-2] = ' ';
    *at++ = '-';
    at = sp_imap_put(at, sp_slice(sp_month_names[civil.month - 1], 3));
    *at++ = '-';
    at = put_two(put_two(at, civil.year / 100), civil.year % 100);
    *at++ = ' ';
    at = put_two(at, civil.hour);
    *at++ = ':';
    at = put_two(at, civil.minute);
    *at++ = ':';
    at = put_two(at, civil.second);
    *at++ = ' ';
    *at++ = date.zone_min < 0 ? '-' : '+';
    at = put_two(put_two(at, zone / 60), zone % 60);
    *at++ = '"';
    return at;
}

uint8_t *sp_imap_put_object_id(uint8_t *at, char kind, const uint8_t id[SP_OBJECT_ID_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    *at++ = (uint8_t)kind;
    for (size_t i = 0; i < SP_OBJECT_ID_BYTES; i++) {
        *at++ = (uint8_t)digits[id[i] >> 4];
        *at++ = (uint8_t)digits[id[i] & 15];
    }
    return at;
}

void sp_imap_add_object_id(struct sp_buf *buf, char kind, const uint8_t id[SP_OBJECT_ID_BYTES])
{
    uint8_t text[SP_IMAP_OBJECT_ID_BYTES];
    sp_imap_put_object_id(text, kind, id);
    sp_buf_add(buf, sp_slice(text, sizeof text));
}

void sp_imap_add_string(struct sp_buf *buf, struct sp_slice string)
{
    bool quoted = true;
    for (size_t i = 0; i < string.len; i++) {
        uint8_t c = string.ptr[i];
        quoted = quoted && c >= ' ' && c < 0x7f && c != '"' && c != '\\';
    }
    if (quoted)
        sp_buf_add_byte(buf, '"');
    else
        sp_buf_addf(buf, "{%zu}\r\n", string.len);
    sp_buf_add(buf, string);
    if (quoted)
        sp_buf_add_byte(buf, '"');
}
