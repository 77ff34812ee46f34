/* RFC 5322 date-times (3.3, 4.3), and the order of asctime, which some mailers write. */
#include "base/time.h"
#include "mime/internal.h"

struct date_reader {
    struct sp_slice text;
    size_t at;
};

static void skip(struct date_reader *reader)
{
    reader->at = sp_mime_skip_cfws(reader->text, reader->at);
}

static bool take_byte(struct date_reader *reader, uint8_t c)
{
    if (reader->at == reader->text.len || reader->text.ptr[reader->at] != c)
        return false;
    reader->at++;
    return true;
}

static struct sp_slice take_alpha(struct date_reader *reader)
{
    skip(reader);
    size_t start = reader->at;
    while (reader->at < reader->text.len && sp_mime_is_alpha(reader->text.ptr[reader->at]))
        reader->at++;
    return sp_slice_sub(reader->text, start, reader->at);
}

/* A number of at most max_digits; false when there is none. */
static bool take_number(struct date_reader *reader, size_t max_digits, int *ret_value,
                        size_t *ret_digits)
{
    skip(reader);
    size_t start = reader->at;
    int value = 0;
    while (reader->at < reader->text.len && reader->at - start < max_digits &&
           sp_mime_is_digit(reader->text.ptr[reader->at]))
        value = value * 10 + (reader->text.ptr[reader->at++] - '0');
    if (reader->at == start ||
        (reader->at < reader->text.len && sp_mime_is_digit(reader->text.ptr[reader->at])))
        return false;
    *ret_value = value;
    if (ret_digits)
        *ret_digits = reader->at - start;
    return true;
}

/* Month names by their first three letters ("Sept", "June"): 1 .. 12, or 0. */
static int month_of(struct sp_slice name)
{
    for (int i = 0; i < 12 && name.len >= 3; i++)
        if (sp_slice_eq_nocase(sp_slice_sub(name, 0, 3), sp_slice_str(sp_month_names[i])))
            return i + 1;
    return 0;
}

static bool take_year(struct date_reader *reader, int *ret_year)
{
    size_t digits;
    int year;
    if (!take_number(reader, 4, &year, &digits) || digits < 2)
        return false;
    if (digits == 2)
        year += year < 50 ? 2000 : 1900;
    else if (digits == 3)
        year += 1900;
    *ret_year = year;
    return true;
}

static bool take_time(struct date_reader *reader, struct sp_civil *civil)
{
    if (!take_number(reader, 2, &civil->hour, NULL))
        return false;
    skip(reader);
    if (!take_byte(reader, ':') || !take_number(reader, 2, &civil->minute, NULL))
        return false;
    skip(reader);
    civil->second = 0;
    if (take_byte(reader, ':') && !take_number(reader, 2, &civil->second, NULL))
        return false;
    return civil->hour < 24 && civil->minute < 60 && civil->second <= 60;
}

/* +hhmm, a name of RFC 822, or one that means nothing (4.3: then as -0000). False: malformed. */
static bool take_zone(struct date_reader *reader, int *ret_minutes)
{
    static const struct {
        char name[4];
        int hours;
    } names[] = {{"EST", -5}, {"EDT", -4}, {"CST", -6}, {"CDT", -5},
                 {"MST", -7}, {"MDT", -6}, {"PST", -8}, {"PDT", -7}};
    *ret_minutes = 0;
    struct sp_slice name = take_alpha(reader);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (sp_slice_eq_nocase(name, sp_slice_str(names[i].name)))
            *ret_minutes = names[i].hours * 60;
    skip(reader);
    if (reader->at == reader->text.len)
        return true;
    bool west = reader->text.ptr[reader->at] == '-';
    if (!west && reader->text.ptr[reader->at] != '+')
        return name.len > 0; /* what follows a named zone is not ours */
    reader->at++;
    int value;
    size_t digits;
    if (!take_number(reader, 4, &value, &digits))
        return false;
    if (digits == 2 && take_byte(reader, ':')) {
        int minutes;
        if (!take_number(reader, 2, &minutes, NULL))
            return false;
        value = value * 100 + minutes;
    } else if (digits <= 2) {
        value *= 100;
    }
    if (value % 100 >= 60)
        return false;
    value = value / 100 * 60 + value % 100;
    *ret_minutes = west ? -value : value;
    return true;
}

static bool is_leap(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

enum sp_status sp_mime_parse_date(struct sp_slice date, int64_t *ret_unix, int *ret_zone_minutes)
{
    static const int month_days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    struct date_reader reader = {.text = sp_slice_trim(date)};
    struct sp_civil civil = {0};
    int zone = 0;
    struct sp_slice word = take_alpha(&reader);
    bool weekday = word.len && !month_of(word);
    if (weekday) { /* of any language; it says nothing new */
        take_byte(&reader, '.');
        skip(&reader);
        take_byte(&reader, ',');
        word = take_alpha(&reader);
    }
    if (word.len) {
        /* asctime: Jan  2 15:04:05 [zone] 2006 */
        civil.month = month_of(word);
        if (!civil.month || !take_number(&reader, 2, &civil.day, NULL) ||
            !take_time(&reader, &civil))
            return SP_INVALID;
        skip(&reader);
        size_t at = reader.at;
        if (!take_year(&reader, &civil.year)) {
            reader.at = at;
            if (!take_zone(&reader, &zone) || !take_year(&reader, &civil.year))
                return SP_INVALID;
        } else if (!take_zone(&reader, &zone)) {
            return SP_INVALID;
        }
    } else {
        if (!take_number(&reader, 2, &civil.day, NULL))
            return SP_INVALID;
        skip(&reader);
        take_byte(&reader, '-');
        civil.month = month_of(take_alpha(&reader));
        skip(&reader);
        take_byte(&reader, '.');
        take_byte(&reader, '-');
        if (!civil.month || !take_year(&reader, &civil.year) || !take_time(&reader, &civil) ||
            !take_zone(&reader, &zone))
            return SP_INVALID;
    }
    int days = month_days[civil.month - 1] + (civil.month == 2 && is_leap(civil.year));
    if (civil.day < 1 || civil.day > days)
        return SP_INVALID;
    *ret_unix = sp_civil_to_unix(civil.year, civil.month, civil.day, civil.hour, civil.minute,
                                 civil.second) -
                zone * 60;
    *ret_zone_minutes = zone;
    return SP_OK;
}
