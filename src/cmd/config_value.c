#include "cmd/config_value.h"

#include <stdio.h>

static bool is_alnum(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Digits, blanks, and a unit of which the table knows the factor. */
struct scale {
    const char *unit;
    uint64_t factor;
};
static enum sp_status scaled(struct sp_slice text, const struct scale *scales, uint64_t *ret_value)
{
    size_t digits = 0;
    while (digits < text.len && text.ptr[digits] >= '0' && text.ptr[digits] <= '9')
        digits++;
    uint64_t value, factor = 0;
    enum sp_status status = sp_slice_u64(sp_slice_sub(text, 0, digits), UINT64_MAX, &value);
    if (status)
        return status;
    struct sp_slice unit = sp_slice_trim(sp_slice_from(text, digits));
    for (const struct scale *s = scales; s->unit; s++)
        if (sp_slice_eq_nocase(unit, sp_slice_str(s->unit)))
            factor = s->factor;
    if (!factor)
        return SP_INVALID;
    return __builtin_mul_overflow(value, factor, ret_value) ? SP_LIMIT : SP_OK;
}

enum sp_status sp_config_size(struct sp_slice text, uint64_t *ret_bytes)
{
    static const struct scale scales[] = {
        {"", 1},           {"B", 1},
        {"K", 1U << 10},   {"KiB", 1U << 10},
        {"M", 1U << 20},   {"MiB", 1U << 20},
        {"G", 1U << 30},   {"GiB", 1U << 30},
        {"T", 1ULL << 40}, {"TiB", 1ULL << 40},
        {NULL, 0},
    };
    uint64_t value;
    enum sp_status status = scaled(text, scales, &value);
    if (!status)
        *ret_bytes = value;
    return status;
}

enum sp_status sp_config_duration_ms(struct sp_slice text, uint64_t *ret_ms)
{
    /* A bare number would be read as seconds by one person and as milliseconds by another: only 0
     * may stand alone. */
    static const struct scale scales[] = {
        {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0},
    };
    uint64_t value;
    if (sp_slice_eq(text, SP_S("0"))) {
        *ret_ms = 0;
        return SP_OK;
    }
    enum sp_status status = scaled(text, scales, &value);
    if (!status)
        *ret_ms = value;
    return status;
}

enum sp_status sp_config_parity(struct sp_slice text, struct sp_parity_shape *ret)
{
    uint64_t data_rows, parity_rows;
    size_t plus = sp_slice_find(text, '+');
    if (sp_slice_eq(text, SP_S("off"))) {
        *ret = (struct sp_parity_shape){0};
        return SP_OK;
    }
    if (plus == SIZE_MAX)
        return SP_INVALID;
    enum sp_status status =
        sp_slice_u64(sp_slice_trim(sp_slice_sub(text, 0, plus)), UINT64_MAX, &data_rows);
    if (!status)
        status =
            sp_slice_u64(sp_slice_trim(sp_slice_from(text, plus + 1)), UINT64_MAX, &parity_rows);
    if (status)
        return status;
    if (!data_rows || data_rows > SP_PARITY_DATA_MAX || !parity_rows ||
        parity_rows > SP_PARITY_ROWS_MAX)
        return SP_LIMIT;
    *ret = (struct sp_parity_shape){(uint8_t)data_rows, (uint8_t)parity_rows};
    return SP_OK;
}

bool sp_config_name_ok(struct sp_slice name)
{
    if (name.len == 0 || name.len > SP_CONFIG_NAME_MAX || name.ptr[0] == '-')
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (!is_alnum(name.ptr[i]) && name.ptr[i] != '-' && name.ptr[i] != '_')
            return false;
    return true;
}

bool sp_config_hostname_ok(struct sp_slice name)
{
    if (name.len == 0 || name.len > 253)
        return false;
    if (name.ptr[0] == '[')
        return name.len > 2 && name.ptr[name.len - 1] == ']';
    size_t label = 0;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        bool edge = label == 0 || i + 1 == name.len || name.ptr[i + 1] == '.';
        if (c == '.' && label > 0 && i + 1 < name.len)
            label = 0;
        else if ((is_alnum(c) || (c == '-' && !edge)) && ++label <= 63)
            continue;
        else
            return false;
    }
    return true;
}

const char *sp_config_path(struct sp_arena *arena, const char *folder, struct sp_slice path)
{
    if (path.len > 0 && path.ptr[0] == '/')
        return sp_arena_str(arena, path);
    size_t folder_len = strlen(folder);
    while (folder_len > 1 && folder[folder_len - 1] == '/')
        folder_len--;
    char *joined = sp_arena_alloc(arena, folder_len + path.len + 2);
    if (!joined)
        return NULL;
    memcpy(joined, folder, folder_len);
    joined[folder_len] = '/';
    memcpy(joined + folder_len + 1, path.ptr, path.len);
    return joined;
}

/* Edits (insert, delete, replace, swap of neighbours) from a to b. Both are short. */
static unsigned distance(struct sp_slice a, struct sp_slice b)
{
    enum { MAX = 40 };
    unsigned rows[3][MAX + 1];
    if (a.len > MAX || b.len > MAX)
        return MAX;
    for (unsigned j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];
        uint8_t ai = sp_ascii_lower(a.ptr[i - 1]);
        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            uint8_t bj = sp_ascii_lower(b.ptr[j - 1]);
            unsigned best = above[j - 1] + (ai != bj);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && ai == sp_ascii_lower(b.ptr[j - 2]) &&
                sp_ascii_lower(a.ptr[i - 2]) == bj && above2[j - 2] + 1 < best)
                best = above2[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[a.len % 3][b.len];
}

const char *sp_config_nearest(struct sp_slice word, const char *const *words)
{
    const char *nearest = NULL;
    unsigned least = 3;
    for (; *words; words++) {
        unsigned d = distance(word, sp_slice_str(*words));
        /* Most of the word must be right: two edits turn any word of two letters into any other. */
        if (d < least && 2 * d < strlen(*words)) {
            least = d;
            nearest = *words;
        }
    }
    return nearest;
}
