#include "cmd/cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

int sp_fail(const struct sp_error *error)
{
    sp_error_print(error);
    return SP_EXIT_FAILED;
}

int sp_misuse(const struct sp_call *call, const char *format, ...)
{
    struct sp_error error;
    char why[512];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    sp_error_set(&error, SP_INVALID, call->verb->name, "%s", why);
    sp_error_todo(&error, "see `sternpost %s --help`", call->verb->name);
    sp_error_print(&error);
    return SP_EXIT_MISUSE;
}

int sp_finish(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    struct sp_error error;
    sp_error_set(&error, SP_IO, "output", "%s", strerror(errno));
    return sp_fail(&error);
}

void sp_print_json(const json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    putchar('\n');
}

const char *sp_bytes_text(uint64_t bytes, char ret_text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    while (value >= 1024 && unit < 6) {
        value /= 1024;
        unit++;
    }
    snprintf(ret_text, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return ret_text;
}

static const char *cell_text(const json_t *row, const struct sp_column *column, char *scratch,
                             size_t size)
{
    const json_t *value = json_object_get(row, column->key);
    if (json_is_string(value) && *json_string_value(value))
        return json_string_value(value);
    if (json_is_boolean(value))
        return json_is_true(value) ? "yes" : "no";
    if (!json_is_integer(value))
        return "-";
    if (column->form == SP_COLUMN_BYTES)
        return sp_bytes_text((uint64_t)json_integer_value(value), scratch);
    snprintf(scratch, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    return scratch;
}

/* Columns a terminal gives to UTF-8: one for each code point is near enough for names and
 * addresses. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

void sp_print_table(const json_t *rows, const struct sp_column *columns)
{
    int widths[16] = {0};
    unsigned count = 0;
    char scratch[64];
    size_t i;
    const json_t *row;
    for (; columns[count].title; count++) {
        sp_assert(count < 16);
        widths[count] = width_of(columns[count].title);
        json_array_foreach(rows, i, row)
        {
            int width = width_of(cell_text(row, &columns[count], scratch, sizeof scratch));
            if (width > widths[count])
                widths[count] = width;
        }
    }
    for (size_t line = 0; line <= json_array_size(rows); line++) {
        for (unsigned c = 0; c < count; c++) {
            const char *text = line == 0 ? columns[c].title
                                         : cell_text(json_array_get(rows, line - 1), &columns[c],
                                                     scratch, sizeof scratch);
            int pad = widths[c] - width_of(text);
            bool right = columns[c].form != SP_COLUMN_TEXT, last = c + 1 == count;
            printf("%*s%s%*s", right ? pad : 0, "", text, right || last ? 0 : pad, "");
            fputs(last ? "\n" : "  ", stdout);
        }
    }
}

enum sp_status sp_read_line(const char *prompt, bool secret, char **ret_line)
{
    enum { MAX = 1000 };
    struct termios before, quiet;
    bool terminal = isatty(STDIN_FILENO), hidden = false;
    if (terminal) {
        fprintf(stderr, "%s", prompt);
        if (secret && tcgetattr(STDIN_FILENO, &before) == 0) {
            quiet = before;
            quiet.c_lflag &= ~(tcflag_t)ECHO;
            hidden = tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet) == 0;
        }
    }
    enum sp_status status = SP_OK;
    char *line = calloc(1, MAX + 2);
    size_t len = 0;
    ssize_t n = 0;
    /* Byte by byte, without stdio: nothing of a secret stays in a buffer, and what follows the line
     * is left there. */
    while (line && len <= MAX && (n = read(STDIN_FILENO, line + len, 1)) == 1 && line[len] != '\n')
        len++;
    if (!line)
        status = SP_NO_MEMORY;
    else if (len > MAX)
        status = SP_LIMIT;
    else if (n < 0)
        status = SP_IO;
    else if (n == 0 && len == 0)
        status = SP_EOF;
    if (hidden) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    if (status) {
        if (line)
            explicit_bzero(line, MAX + 2);
        free(line);
        return status;
    }
    line[len] = '\0';
    if (len && line[len - 1] == '\r')
        line[len - 1] = '\0';
    *ret_line = line;
    return SP_OK;
}
