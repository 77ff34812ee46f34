/* Line ends, and the line that separates messages of an mbox. */
#include "cmd/import_source.h"

#include "base/time.h"

void sp_import_add_crlf(struct sp_buf *buf, struct sp_slice text, uint8_t *previous)
{
    while (text.len) {
        size_t end = sp_slice_find(text, '\n');
        struct sp_slice line = sp_slice_sub(text, 0, end);
        sp_buf_add(buf, line);
        if (line.len)
            *previous = line.ptr[line.len - 1];
        if (end == SIZE_MAX)
            return;
        sp_buf_add(buf, *previous == '\r' ? SP_S("\n") : SP_S("\r\n"));
        *previous = '\n';
        text = sp_slice_from(text, end + 1);
    }
}

/* The next word; words are separated by blanks and tabs. */
static struct sp_slice take_word(struct sp_slice *rest)
{
    *rest = sp_slice_trim(*rest);
    size_t end = 0;
    while (end < rest->len && rest->ptr[end] != ' ' && rest->ptr[end] != '\t')
        end++;
    struct sp_slice word = sp_slice_sub(*rest, 0, end);
    *rest = sp_slice_from(*rest, end);
    return word;
}

static int name_index(struct sp_slice word, const char *const *names, int count)
{
    for (int i = 0; i < count; i++)
        if (sp_slice_eq_nocase(word, sp_slice_str(names[i])))
            return i;
    return -1;
}

/* hh:mm or hh:mm:ss */
static bool read_clock(struct sp_slice word, int ret_clock[3])
{
    uint64_t part[3] = {0};
    static const uint64_t max[3] = {23, 59, 60};
    unsigned i = 0;
    for (; i < 3; i++) {
        size_t colon = sp_slice_find(word, ':');
        struct sp_slice digits = sp_slice_sub(word, 0, colon);
        if (digits.len > 2 || sp_slice_u64(digits, max[i], &part[i]))
            return false;
        ret_clock[i] = (int)part[i];
        if (colon == SIZE_MAX)
            break;
        word = sp_slice_from(word, colon + 1);
    }
    if (i < 1 || i > 2)
        return false;
    if (i == 1)
        ret_clock[2] = 0;
    return true;
}

/* +hhmm or -hhmm, in minutes. */
static bool read_zone(struct sp_slice word, int16_t *ret_zone_min)
{
    uint64_t n;
    if (word.len != 5 || (word.ptr[0] != '+' && word.ptr[0] != '-') ||
        sp_slice_u64(sp_slice_from(word, 1), 2359, &n) || n % 100 > 59)
        return false;
    int minutes = (int)(n / 100 * 60 + n % 100);
    *ret_zone_min = (int16_t)(word.ptr[0] == '-' ? -minutes : minutes);
    return true;
}

/* What follows the weekday: `Jan  2 15:04:05 2006`, with a zone (name or offset) before or after
 * the year. */
static bool read_date(struct sp_slice rest, struct sp_date *ret_date)
{
    int clock[3];
    uint64_t day, year = 0;
    int16_t zone = 0;
    int month = name_index(take_word(&rest), sp_month_names, 12);
    if (month < 0 || sp_slice_u64(take_word(&rest), 31, &day) || day == 0 ||
        !read_clock(take_word(&rest), clock))
        return false;
    for (unsigned words = 0; words < 3; words++) {
        struct sp_slice word = take_word(&rest);
        uint64_t number;
        if (word.len == 4 && sp_slice_u64(word, 9999, &number) == SP_OK && number >= 1970)
            year = number;
        else
            (void)read_zone(word, &zone);
    }
    if (!year || sp_slice_trim(rest).len)
        return false;
    *ret_date = (struct sp_date){
        .unix_s = sp_civil_to_unix((int)year, month + 1, (int)day, clock[0], clock[1], clock[2]) -
                  zone * 60,
        .zone_min = zone,
    };
    return true;
}

bool sp_import_from_line(struct sp_slice line, struct sp_date *ret_date)
{
    if (line.len < 5 || memcmp(line.ptr, "From ", 5) != 0)
        return false;
    /* The address may hold blanks, so look for the weekday. It may look like a weekday too: try
     * each. */
    struct sp_slice rest = sp_slice_from(line, 5);
    while (rest.len) {
        struct sp_slice word = take_word(&rest);
        if (word.len == 0)
            return false;
        if (name_index(word, sp_weekday_names, 7) >= 0 && read_date(rest, ret_date))
            return true;
    }
    return false;
}
