#include "proto/imap/list_match.h"

/* Bytes at the front of name that match in any case. */
static size_t inbox_bytes(struct sp_slice name)
{
    bool inbox =
        sp_slice_starts_nocase(name, SP_S("INBOX")) && (name.len == 5 || name.ptr[5] == '/');
    return inbox ? 5 : 0;
}

/* Of each kind of wildcard only the last one seen can have to give way: what an earlier one could
 * still take, the later one can take as well, unless a '/' stands between, and there an earlier `%`
 * could not go further either. A `*` makes every `%` before it final. */
bool sp_imap_list_match(struct sp_slice pattern, struct sp_slice name)
{
    size_t p = 0, n = 0, any_case = inbox_bytes(name);
    size_t star_p = SIZE_MAX, star_n = 0;       /* after the last `*`, and where its run ends now */
    size_t percent_p = SIZE_MAX, percent_n = 0; /* likewise for `%` */
    while (n < name.len || p < pattern.len) {
        if (p < pattern.len) {
            uint8_t c = pattern.ptr[p];
            if (c == '*') {
                star_p = ++p;
                star_n = n;
                percent_p = SIZE_MAX;
                continue;
            }
            if (c == '%') {
                percent_p = ++p;
                percent_n = n;
                continue;
            }
            if (n < name.len && (name.ptr[n] == c || (n < any_case && sp_ascii_lower(name.ptr[n]) ==
                                                                          sp_ascii_lower(c)))) {
                p++;
                n++;
                continue;
            }
        }
        if (percent_p != SIZE_MAX && percent_n < name.len && name.ptr[percent_n] != '/') {
            p = percent_p;
            n = ++percent_n;
        } else if (star_p != SIZE_MAX && star_n < name.len) {
            p = star_p;
            n = ++star_n;
            percent_p = SIZE_MAX;
        } else {
            return false;
        }
    }
    return true;
}
