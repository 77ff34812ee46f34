#include "base/log.h"
#include "base/time.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Atomic int log_level = SP_LOG_INFO;
static _Atomic uint64_t lines[SP_LOG_ERROR + 1], left_out;

void sp_log_set_level(enum sp_log_level level)
{
    atomic_store(&log_level, level);
}

uint64_t sp_log_lines(enum sp_log_level level)
{
    return atomic_load(&lines[level]);
}

uint64_t sp_log_left_out(void)
{
    return atomic_load(&left_out);
}

/* ---- The same again and again ---- */

#define SLOTS 256U

/* One for what hashes there; another that comes takes it over. */
static struct slot {
    uint64_t hash;
    uint64_t begun_ms; /* of the time that `written` counts in */
    uint32_t written, left_out;
} slots[SLOTS];
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t hash_more(uint64_t hash, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) /* FNV-1a */
        hash = (hash ^ (uint8_t)text[i]) * 1099511628211U;
    return hash;
}

/* Whether a value is only a number or a range of them, which may differ from time to time. */
static bool is_number(const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((value[i] < '0' || value[i] > '9') && value[i] != '-' && value[i] != '.')
            return false;
    return len > 0;
}

static bool is_name(const char *key, size_t len)
{
    return (len == 4 && memcmp(key, "unit", 4) == 0) || (len == 6 && memcmp(key, "volume", 6) == 0);
}

/* What lines have in common that say the same: all of it but numbers. */
static uint64_t sameness(const char *event, const char *text)
{
    uint64_t hash = hash_more(14695981039346656037U, event, strlen(event));
    while (*text) {
        size_t key = strcspn(text, "= ");
        hash = hash_more(hash, text, key);
        text += key;
        if (*text != '=') {
            text += *text == ' ';
            continue;
        }
        const char *value = ++text;
        bool quoted = *text == '"';
        for (text += quoted; *text && *text != (quoted ? '"' : ' '); text++)
            text += *text == '\\' && text[1];
        text += *text == '"';
        size_t len = (size_t)(text - value);
        if (is_name(value - 1 - key, key) || !is_number(value, len))
            hash = hash_more(hash, value, len);
    }
    return hash ? hash : 1;
}

bool sp_log_limit(const char *event, const char *text, uint64_t now_ms, uint32_t *ret_repeated)
{
    uint64_t hash = sameness(event, text);
    pthread_mutex_lock(&slots_lock);
    struct slot *slot = &slots[hash % SLOTS];
    if (slot->hash != hash)
        *slot = (struct slot){.hash = hash, .begun_ms = now_ms};
    uint64_t passed_s = (now_ms - slot->begun_ms) / 1000;
    bool again = slot->written >= SP_LOG_BURST && passed_s >= SP_LOG_AGAIN_S;
    bool may = slot->written < SP_LOG_BURST || again;
    if (slot->written < SP_LOG_BURST && passed_s >= SP_LOG_AGAIN_S)
        slot->written = 0; /* a burst is one that comes within that time */
    if (slot->written == 0 || again)
        slot->begun_ms = now_ms;
    if (may) {
        slot->written += !again;
        *ret_repeated = slot->left_out;
        slot->left_out = 0;
    } else {
        slot->left_out++;
    }
    pthread_mutex_unlock(&slots_lock);
    return may;
}

/* ---- A line ---- */

void sp_log(enum sp_log_level level, const char *event, const char *format, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if ((int)level < atomic_load(&log_level))
        return;
    char line[2048], repeated_text[32] = "";
    uint32_t repeated = 0;
    uint64_t now = sp_wall_ns();
    struct sp_civil t;
    sp_unix_to_civil((int64_t)(now / 1000000000U), &t);
    int len =
        snprintf(line, sizeof line, "time=%04d-%02d-%02dT%02d:%02d:%02d.%03uZ level=%s event=%s ",
                 t.year, t.month, t.day, t.hour, t.minute, t.second,
                 (unsigned)(now / 1000000U % 1000U), names[level], event);
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + len, sizeof line - (size_t)len - 1, format, args);
    va_end(args);
    if (level >= SP_LOG_WARN && !sp_log_limit(event, line + len, sp_now_ms(), &repeated)) {
        atomic_fetch_add(&left_out, 1);
        return;
    }
    len += more < 0 ? 0 : more;
    if (len > (int)sizeof line - 2)
        len = (int)sizeof line - 2;
    if (repeated) {
        int extra = snprintf(repeated_text, sizeof repeated_text, " repeated=%u", repeated);
        if (len + extra > (int)sizeof line - 2)
            len = (int)sizeof line - 2 - extra;
        memcpy(line + len, repeated_text, (size_t)extra);
        len += extra;
    }
    line[len++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)len);
    (void)ignored;
    atomic_fetch_add(&lines[level], 1);
}

const char *sp_log_quote(struct sp_slice value, char *ret_text, size_t size)
{
    size_t at = 0;
    sp_assert(size >= 8);
    ret_text[at++] = '"';
    for (size_t i = 0; i < value.len && at + 6 < size; i++) {
        uint8_t c = value.ptr[i];
        if (c == '"' || c == '\\') {
            ret_text[at++] = '\\';
            ret_text[at++] = (char)c;
        } else if (c < 32 || c == 127) {
            at += (size_t)snprintf(ret_text + at, size - at, "\\x%02x", c);
        } else {
            ret_text[at++] = (char)c;
        }
    }
    ret_text[at++] = '"';
    ret_text[at] = '\0';
    return ret_text;
}
