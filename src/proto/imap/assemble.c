#include "proto/imap/assemble.h"

#include "proto/imap/parse.h"

#define DIGITS_MAX 18U

bool sp_imap_line_announces(struct sp_slice line, size_t *ret_start, uint64_t *ret_bytes,
                            bool *ret_waits)
{
    size_t end = line.len;
    if (end < 3 || line.ptr[end - 1] != '}')
        return false;
    end--;
    bool waits = line.ptr[end - 1] != '+';
    if (!waits)
        end--;
    size_t start = end;
    while (start > 0 && end - start < DIGITS_MAX && line.ptr[start - 1] >= '0' &&
           line.ptr[start - 1] <= '9')
        start--;
    if (start == 0 || line.ptr[start - 1] != '{' ||
        sp_slice_u64(sp_slice_sub(line, start, end), INT64_MAX, ret_bytes) != SP_OK)
        return false;
    start--;
    if (start > 1 && line.ptr[start - 1] == '~' && line.ptr[start - 2] == ' ')
        start--; /* a literal8; an argument cannot begin so */
    *ret_start = start;
    *ret_waits = waits;
    return true;
}

enum sp_imap_assembly sp_imap_assemble(struct sp_imap_assembler *assembler, struct sp_slice input,
                                       const struct sp_imap_limits *limits,
                                       struct sp_imap_extent *ret_extent)
{
    struct sp_imap_extent extent = {0};
    size_t start;
    while (assembler->scanned < input.len) {
        const uint8_t *found =
            memchr(input.ptr + assembler->scanned, '\n', input.len - assembler->scanned);
        if (!found) {
            assembler->scanned = input.len;
            break;
        }
        extent.bytes = (size_t)(found - input.ptr) + 1;
        size_t text = extent.bytes - 1;
        if (text > 0 && input.ptr[text - 1] == '\r')
            text--;
        extent.text = sp_slice_sub(input, 0, text);
        if (extent.bytes > limits->command_bytes_max)
            goto too_long;
        if (!sp_imap_line_announces(extent.text, &start, &extent.literal, &extent.waits)) {
            *ret_extent = extent;
            return SP_IMAP_WHOLE;
        }
        if (limits->append && sp_imap_is_append_text(sp_slice_sub(input, 0, start))) {
            extent.text = sp_slice_sub(input, 0, start);
            extent.binary = input.ptr[start] == '~';
            *ret_extent = extent;
            return SP_IMAP_MESSAGE;
        }
        if (extent.literal > limits->literal_bytes_max ||
            extent.literal > limits->command_bytes_max - extent.bytes)
            goto too_long;
        assembler->scanned = extent.bytes + (size_t)extent.literal;
        if (extent.waits)
            return SP_IMAP_CONTINUE;
    }
    if (input.len <= limits->command_bytes_max)
        return SP_IMAP_MORE;
    extent = (struct sp_imap_extent){.text = input, .bytes = input.len};
too_long:
    *ret_extent = extent;
    return SP_IMAP_TOO_LONG;
}
