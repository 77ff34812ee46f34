#include "proto/imap/parse.h"

#include "base/time.h"
#include "mime/mime.h"
#include "proto/imap/imap.h"

#include <stdlib.h>

const char *const sp_imap_special_use_names[7] = {"\\Drafts",  "\\Sent", "\\Trash",  "\\Junk",
                                                  "\\Archive", "\\All",  "\\Flagged"};

bool sp_imap_wrong(struct sp_imap_parse *p, const char *error)
{
    if (!p->error)
        p->error = error;
    return false;
}

bool sp_imap_no_memory(struct sp_imap_parse *p)
{
    return sp_imap_wrong(p, "Command is too large");
}

bool sp_imap_is_atom_char(uint8_t c)
{
    return c > 0x20 && c < 0x7f && !memchr("(){%*\"\\]", c, 8);
}

static bool is_astring_char(uint8_t c)
{
    return sp_imap_is_atom_char(c) || c == ']';
}

static bool is_pattern_char(uint8_t c)
{
    return is_astring_char(c) || c == '%' || c == '*';
}

static bool is_tag_char(uint8_t c)
{
    return is_astring_char(c) && c != '+';
}

static bool is_word_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '=';
}

/* ---- Small steps ---- */

static void advance(struct sp_imap_parse *p, size_t n)
{
    p->rest = sp_slice_from(p->rest, n);
}

bool sp_imap_at(const struct sp_imap_parse *p, uint8_t byte)
{
    return p->rest.len && p->rest.ptr[0] == byte;
}

bool sp_imap_at_end(const struct sp_imap_parse *p)
{
    return !p->rest.len;
}

bool sp_imap_skip(struct sp_imap_parse *p, uint8_t byte)
{
    if (!sp_imap_at(p, byte))
        return false;
    advance(p, 1);
    return true;
}

bool sp_imap_skip_word(struct sp_imap_parse *p, const char *word)
{
    size_t len = strlen(word);
    if (!sp_slice_starts_nocase(p->rest, sp_slice_str(word)) ||
        (p->rest.len > len && is_word_char(p->rest.ptr[len])))
        return false;
    advance(p, len);
    return true;
}

bool sp_imap_take(struct sp_imap_parse *p, uint8_t byte)
{
    if (sp_imap_skip(p, byte))
        return true;
    switch (byte) {
    case ' ':
        return sp_imap_wrong(p, "Missing argument");
    case '(':
        return sp_imap_wrong(p, "Missing (");
    case ')':
        return sp_imap_wrong(p, "Missing )");
    case ']':
        return sp_imap_wrong(p, "Missing ]");
    default:
        return sp_imap_wrong(p, "Syntax error");
    }
}

bool sp_imap_take_space(struct sp_imap_parse *p)
{
    return sp_imap_take(p, ' ');
}

bool sp_imap_take_end(struct sp_imap_parse *p)
{
    while (sp_imap_skip(p, ' '))
        ;
    return sp_imap_at_end(p) || sp_imap_wrong(p, "Unexpected argument");
}

static bool take_while(struct sp_imap_parse *p, bool (*is)(uint8_t), struct sp_slice *ret)
{
    size_t n = 0;
    while (n < p->rest.len && is(p->rest.ptr[n]))
        n++;
    if (!n)
        return false;
    *ret = sp_slice_sub(p->rest, 0, n);
    advance(p, n);
    return true;
}

bool sp_imap_take_tag(struct sp_imap_parse *p, struct sp_slice *ret_tag)
{
    if (!take_while(p, is_tag_char, ret_tag))
        return sp_imap_wrong(p, "Missing tag");
    return ret_tag->len <= SP_IMAP_TAG_MAX || sp_imap_wrong(p, "Tag is too long");
}

bool sp_imap_take_atom(struct sp_imap_parse *p, struct sp_slice *ret_atom)
{
    return take_while(p, sp_imap_is_atom_char, ret_atom) || sp_imap_wrong(p, "Missing atom");
}

bool sp_imap_take_word(struct sp_imap_parse *p, struct sp_slice *ret_word)
{
    return take_while(p, is_word_char, ret_word) || sp_imap_wrong(p, "Missing name");
}

/* ---- Strings ---- */

static bool take_literal(struct sp_imap_parse *p, struct sp_slice *ret_string)
{
    size_t n = 1;
    uint64_t len;
    while (n < p->rest.len && p->rest.ptr[n] >= '0' && p->rest.ptr[n] <= '9')
        n++;
    if (sp_slice_u64(sp_slice_sub(p->rest, 1, n), SP_IMAP_COMMAND_MAX, &len) != SP_OK)
        return sp_imap_wrong(p, "Malformed literal");
    advance(p, n);
    (void)sp_imap_skip(p, '+');
    if (!sp_imap_skip(p, '}'))
        return sp_imap_wrong(p, "Malformed literal");
    (void)sp_imap_skip(p, '\r');
    if (!sp_imap_skip(p, '\n') || p->rest.len < len)
        return sp_imap_wrong(p, "Malformed literal");
    *ret_string = sp_slice_sub(p->rest, 0, (size_t)len);
    if (len && memchr(ret_string->ptr, 0, (size_t)len))
        return sp_imap_wrong(p, "NUL in a literal");
    advance(p, (size_t)len);
    return true;
}

/* Bytes above 127 pass: what they mean is decided where they are used. */
static bool take_quoted(struct sp_imap_parse *p, struct sp_slice *ret_string)
{
    size_t n = 1, escapes = 0;
    for (;; n++) {
        if (n >= p->rest.len || p->rest.ptr[n] == '\r' || p->rest.ptr[n] == '\n' ||
            p->rest.ptr[n] == 0)
            return sp_imap_wrong(p, "Quoted string does not end");
        if (p->rest.ptr[n] == '"')
            break;
        if (p->rest.ptr[n] != '\\')
            continue;
        n++;
        escapes++;
        if (n >= p->rest.len || (p->rest.ptr[n] != '"' && p->rest.ptr[n] != '\\'))
            return sp_imap_wrong(p, "Bad escape in a quoted string");
    }
    struct sp_slice inside = sp_slice_sub(p->rest, 1, n);
    advance(p, n + 1);
    if (escapes) {
        uint8_t *copy = sp_arena_alloc(p->arena, inside.len);
        if (!copy)
            return sp_imap_no_memory(p);
        size_t len = 0;
        for (size_t i = 0; i < inside.len; i++) {
            if (inside.ptr[i] == '\\')
                i++;
            copy[len++] = inside.ptr[i];
        }
        inside = sp_slice(copy, len);
    }
    *ret_string = inside;
    return true;
}

bool sp_imap_take_string(struct sp_imap_parse *p, struct sp_slice *ret_string)
{
    if (sp_imap_at(p, '"'))
        return take_quoted(p, ret_string);
    if (sp_imap_at(p, '{'))
        return take_literal(p, ret_string);
    return sp_imap_wrong(p, "Missing string");
}

bool sp_imap_take_astring(struct sp_imap_parse *p, struct sp_slice *ret_string)
{
    return take_while(p, is_astring_char, ret_string) || sp_imap_take_string(p, ret_string);
}

bool sp_imap_take_nstring(struct sp_imap_parse *p, struct sp_slice *ret_string)
{
    if (sp_imap_skip_word(p, "NIL")) {
        *ret_string = (struct sp_slice){0};
        return true;
    }
    return sp_imap_take_string(p, ret_string);
}

bool sp_imap_take_number(struct sp_imap_parse *p, uint64_t min, uint64_t max, uint64_t *ret_number)
{
    size_t n = 0;
    uint64_t number;
    while (n < p->rest.len && p->rest.ptr[n] >= '0' && p->rest.ptr[n] <= '9')
        n++;
    if (!n)
        return sp_imap_wrong(p, "Missing number");
    if (sp_slice_u64(sp_slice_sub(p->rest, 0, n), max, &number) != SP_OK || number < min)
        return sp_imap_wrong(p, "Number out of range");
    advance(p, n);
    *ret_number = number;
    return true;
}

/* ---- Sequence sets ---- */

static bool take_set_number(struct sp_imap_parse *p, uint32_t *ret_number)
{
    uint64_t number = 0;
    if (!sp_imap_skip(p, '*') && !sp_imap_take_number(p, 1, UINT32_MAX, &number))
        return false;
    *ret_number = (uint32_t)number;
    return true;
}

bool sp_imap_take_set(struct sp_imap_parse *p, struct sp_imap_set *ret_set)
{
    struct sp_imap_set set = {0};
    size_t items = 1, n = 0;
    if (sp_imap_skip(p, '$')) {
        *ret_set = (struct sp_imap_set){.saved = true};
        return true;
    }
    while (n < p->rest.len && (memchr("0123456789:,*", p->rest.ptr[n], 13)))
        items += p->rest.ptr[n++] == ',';
    if (!n)
        return sp_imap_wrong(p, "Missing message set");
    if (items > SP_IMAP_SET_ITEMS_MAX)
        return sp_imap_wrong(p, "Message set has too many parts");
    if (!(set.ptr = sp_arena_array(p->arena, items, sizeof *set.ptr)))
        return sp_imap_no_memory(p);
    do {
        struct sp_uid_range *item = &set.ptr[set.count++];
        if (!take_set_number(p, &item->first))
            return false;
        item->last = item->first;
        if (sp_imap_skip(p, ':') && !take_set_number(p, &item->last))
            return false;
    } while (sp_imap_skip(p, ','));
    *ret_set = set;
    return true;
}

static int compare_ranges(const void *a, const void *b)
{
    uint32_t x = ((const struct sp_uid_range *)a)->first,
             y = ((const struct sp_uid_range *)b)->first;
    return x < y ? -1 : x > y;
}

bool sp_imap_set_resolve(struct sp_imap_set set, uint32_t last, struct sp_arena *arena,
                         struct sp_uid_ranges *ret_ranges)
{
    struct sp_uid_range *ranges = sp_arena_array(arena, set.count, sizeof *ranges);
    uint32_t count = 0, merged = 0;
    if (!ranges)
        return false;
    for (uint32_t i = 0; i < set.count; i++) {
        uint32_t a = set.ptr[i].first ? set.ptr[i].first : last,
                 b = set.ptr[i].last ? set.ptr[i].last : last;
        if (a && b)
            ranges[count++] = a < b ? (struct sp_uid_range){a, b} : (struct sp_uid_range){b, a};
    }
    if (count)
        qsort(ranges, count, sizeof *ranges, compare_ranges);
    for (uint32_t i = 1; i < count; i++) {
        if (ranges[merged].last == UINT32_MAX || ranges[i].first <= ranges[merged].last + 1) {
            if (ranges[i].last > ranges[merged].last)
                ranges[merged].last = ranges[i].last;
        } else {
            ranges[++merged] = ranges[i];
        }
    }
    *ret_ranges = (struct sp_uid_ranges){ranges, count ? merged + 1 : 0};
    return true;
}

/* ---- Mailbox names ---- */

/* RFC 6855, 3: without control characters. */
static bool take_utf8_name(struct sp_imap_parse *p, struct sp_slice wire, struct sp_slice *ret_name)
{
    bool good = wire.len <= SP_MAILBOX_NAME_MAX && sp_mime_is_utf8(wire);
    for (size_t i = 0; good && i < wire.len; i++)
        good = wire.ptr[i] >= 0x20 && wire.ptr[i] != 0x7f;
    if (!good) {
        p->bad_name = true;
        return sp_imap_wrong(p, "Mailbox name is too long, or not UTF-8");
    }
    *ret_name = sp_arena_copy(p->arena, wire);
    return ret_name->ptr || !wire.len || sp_imap_no_memory(p);
}

static bool name_to_utf8(struct sp_imap_parse *p, struct sp_slice wire, struct sp_slice *ret_name)
{
    if (p->utf8)
        return take_utf8_name(p, wire, ret_name);
    struct sp_buf buf;
    sp_buf_init(&buf, SP_MAILBOX_NAME_MAX * 2);
    enum sp_status status = sp_mime_utf7_to_utf8(wire, &buf);
    bool fits = status == SP_OK && !sp_buf_failed(&buf) && buf.len <= SP_MAILBOX_NAME_MAX;
    struct sp_slice name =
        fits ? sp_arena_copy(p->arena, sp_buf_slice(&buf)) : (struct sp_slice){0};
    bool copied = fits && (name.ptr || !name.len);
    sp_buf_release(&buf);
    if (!fits) {
        p->bad_name = true;
        return sp_imap_wrong(p, status == SP_OK ? "Mailbox name is too long"
                                                : "Mailbox name is not modified UTF-7");
    }
    *ret_name = name;
    return copied || sp_imap_no_memory(p);
}

bool sp_imap_take_mailbox(struct sp_imap_parse *p, struct sp_slice *ret_name)
{
    struct sp_slice wire, name;
    if (!sp_imap_take_astring(p, &wire) || !name_to_utf8(p, wire, &name))
        return false;
    if (name.len && name.ptr[name.len - 1] == '/')
        name.len--;
    if (sp_slice_starts_nocase(name, SP_S("INBOX")) && (name.len == 5 || name.ptr[5] == '/')) {
        uint8_t *copy = sp_arena_alloc(p->arena, name.len);
        if (!copy)
            return sp_imap_no_memory(p);
        memcpy(copy, name.ptr, name.len);
        memcpy(copy, "INBOX", 5);
        name.ptr = copy;
    }
    *ret_name = name;
    return true;
}

bool sp_imap_take_pattern(struct sp_imap_parse *p, struct sp_slice *ret_pattern)
{
    struct sp_slice wire;
    if (!take_while(p, is_pattern_char, &wire) && !sp_imap_take_string(p, &wire))
        return false;
    if (name_to_utf8(p, wire, ret_pattern))
        return true;
    if (!p->bad_name || wire.len > SP_MAILBOX_NAME_MAX)
        return false;
    /* No name has this form, so it matches none, which is not an error (RFC 3501, 6.3.8). Names are
     * UTF-8: this byte is in none of them. */
    p->bad_name = false;
    p->error = NULL;
    *ret_pattern = SP_S("\xff");
    return true;
}

uint32_t sp_imap_special_use(struct sp_slice name)
{
    for (uint32_t i = 0; i < 7; i++)
        if (sp_slice_eq_nocase(name, sp_slice_str(sp_imap_special_use_names[i])))
            return 1U << i;
    return 0;
}

/* ---- Flags ---- */

static bool take_system_flag(struct sp_imap_parse *p, struct sp_flag_set *flags)
{
    static const struct {
        const char *name;
        uint32_t bit;
    } names[] = {{"Seen", SP_FLAG_SEEN},       {"Answered", SP_FLAG_ANSWERED},
                 {"Flagged", SP_FLAG_FLAGGED}, {"Deleted", SP_FLAG_DELETED},
                 {"Draft", SP_FLAG_DRAFT},     {"Recent", 0}};
    struct sp_slice name;
    if (!sp_imap_take_atom(p, &name))
        return false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (sp_slice_eq_nocase(name, sp_slice_str(names[i].name))) {
            flags->system |= names[i].bit;
            return true;
        }
    }
    return sp_imap_wrong(p, "Unknown system flag");
}

static bool take_keyword(struct sp_imap_parse *p, struct sp_flag_set *flags)
{
    struct sp_slice name;
    if (!sp_imap_take_atom(p, &name))
        return false;
    if (name.len > SP_KEYWORD_MAX)
        return sp_imap_wrong(p, "Keyword is too long");
    for (uint32_t i = 0; i < flags->keywords_count; i++)
        if (sp_slice_eq_nocase(flags->keywords[i], name))
            return true;
    if (flags->keywords_count == SP_KEYWORDS_MAX)
        return sp_imap_wrong(p, "Too many keywords");
    if (!flags->keywords &&
        !(flags->keywords = sp_arena_array(p->arena, SP_KEYWORDS_MAX, sizeof *flags->keywords)))
        return sp_imap_no_memory(p);
    struct sp_slice copy = sp_arena_copy(p->arena, name);
    if (!copy.ptr)
        return sp_imap_no_memory(p);
    flags->keywords[flags->keywords_count++] = copy;
    return true;
}

bool sp_imap_take_flags(struct sp_imap_parse *p, bool bare, struct sp_flag_set *ret_flags)
{
    struct sp_flag_set flags = {0};
    bool list = sp_imap_skip(p, '(');
    if (!list && !bare)
        return sp_imap_wrong(p, "Missing (");
    if (!list || !sp_imap_skip(p, ')')) {
        do {
            bool done =
                sp_imap_skip(p, '\\') ? take_system_flag(p, &flags) : take_keyword(p, &flags);
            if (!done)
                return false;
        } while (sp_imap_skip(p, ' '));
        if (list && !sp_imap_take(p, ')'))
            return false;
    }
    *ret_flags = flags;
    return true;
}

/* ---- Dates ---- */

static bool take_digits(struct sp_imap_parse *p, size_t min, size_t max, int *ret_number)
{
    size_t n = 0;
    int number = 0;
    while (n < max && n < p->rest.len && p->rest.ptr[n] >= '0' && p->rest.ptr[n] <= '9')
        number = number * 10 + (p->rest.ptr[n++] - '0');
    if (n < min)
        return sp_imap_wrong(p, "Malformed date");
    advance(p, n);
    *ret_number = number;
    return true;
}

static bool take_mark(struct sp_imap_parse *p, uint8_t byte)
{
    return sp_imap_skip(p, byte) || sp_imap_wrong(p, "Malformed date");
}

/* d-Mon-yyyy: a day that the calendar has */
static bool take_day(struct sp_imap_parse *p, int *ret_year, int *ret_month, int *ret_day)
{
    int month = 0;
    if (!take_digits(p, 1, 2, ret_day) || !take_mark(p, '-'))
        return false;
    for (int i = 0; i < 12 && !month; i++)
        if (sp_slice_starts_nocase(p->rest, sp_slice_str(sp_month_names[i])))
            month = i + 1;
    if (!month || *ret_day < 1 || *ret_day > 31)
        return sp_imap_wrong(p, "Malformed date");
    advance(p, 3);
    *ret_month = month;
    if (!take_mark(p, '-') || !take_digits(p, 4, 4, ret_year))
        return false;
    struct sp_civil civil;
    sp_unix_to_civil(sp_civil_to_unix(*ret_year, month, *ret_day, 0, 0, 0), &civil);
    return civil.day == *ret_day || sp_imap_wrong(p, "Malformed date");
}

bool sp_imap_take_date(struct sp_imap_parse *p, uint64_t *ret_days)
{
    int year, month, day;
    bool quoted = sp_imap_skip(p, '"');
    if (!take_day(p, &year, &month, &day) || (quoted && !take_mark(p, '"')))
        return false;
    int64_t days = sp_civil_to_unix(year, month, day, 0, 0, 0) / 86400;
    *ret_days = days > 0 ? (uint64_t)days : 0;
    return true;
}

bool sp_imap_take_date_time(struct sp_imap_parse *p, struct sp_date *ret_date)
{
    int year, month, day, hour, minute, second, zone;
    if (!take_mark(p, '"'))
        return false;
    (void)sp_imap_skip(p, ' ');
    if (!take_day(p, &year, &month, &day) || !take_mark(p, ' ') || !take_digits(p, 2, 2, &hour) ||
        !take_mark(p, ':') || !take_digits(p, 2, 2, &minute) || !take_mark(p, ':') ||
        !take_digits(p, 2, 2, &second) || !take_mark(p, ' '))
        return false;
    bool west = sp_imap_skip(p, '-');
    if ((!west && !take_mark(p, '+')) || !take_digits(p, 4, 4, &zone) || !take_mark(p, '"'))
        return false;
    if (hour > 23 || minute > 59 || second > 60 || zone % 100 > 59 || zone > 2359)
        return sp_imap_wrong(p, "Malformed date");
    int zone_min = (zone / 100 * 60 + zone % 100) * (west ? -1 : 1);
    ret_date->unix_s =
        sp_civil_to_unix(year, month, day, hour, minute, second) - (int64_t)zone_min * 60;
    ret_date->zone_min = (int16_t)zone_min;
    return true;
}

bool sp_imap_is_append_text(struct sp_slice text)
{
    struct sp_arena arena;
    struct sp_slice word;
    sp_arena_init(&arena, SP_IMAP_COMMAND_MAX + 64);
    struct sp_imap_parse p = {.rest = text, .arena = &arena};
    bool is = sp_imap_take_tag(&p, &word) && sp_imap_take_space(&p);
    if (is && !(sp_imap_skip_word(&p, "APPEND") && sp_imap_take_space(&p)))
        is = (!sp_imap_skip_word(&p, "UID") || sp_imap_take_space(&p)) &&
             sp_imap_skip_word(&p, "REPLACE") && sp_imap_take_space(&p) &&
             sp_imap_take_word(&p, &word) && sp_imap_take_space(&p);
    is = is && sp_imap_take_astring(&p, &word) && sp_imap_take_space(&p);
    sp_arena_release(&arena);
    return is;
}
