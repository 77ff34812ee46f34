#include "cmd/config.h"

#include "cmd/config_internal.h"
#include "cmd/config_value.h"

#include "base/buf.h"
#include "net/address.h"

#include <ini.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* inih is built with lines of 200 bytes, end of line and NUL included. */
#define LINE_BYTES_MAX 198U

enum section {
    IN_NOTHING,
    IN_SERVER,
    IN_LISTEN,
    IN_TLS,
    IN_LIMITS,
    IN_GUARD,
    IN_UNIT,
    IN_VOLUME,
    SECTIONS
};
static const char *const section_names[] = {"",      "server", "listen", "tls", "limits",
                                            "guard", "unit",   "volume", NULL};

/* How a value is read, and where it goes. */
enum kind {
    HOSTNAME,
    MAIL_ADDRESS,
    PATH,
    LISTENERS, /* offset: the protocol */
    METRICS,
    SIZE,
    COUNT,       /* uint32_t */
    DURATION_MS, /* uint32_t */
    DURATION_S,  /* uint64_t */
    YES_NO,
    UNIT_KIND,
    PARITY,
    ROLE,
    UUID,  /* struct sp_uuid; the flag that it is there is set by name */
    WORDS, /* kept as text for the checks at the end */
    USERS, /* kept as text: only the system knows who they are */
    DEGRADED,
};
struct key {
    enum section section;
    const char *name;
    enum kind kind;
    size_t offset; /* in sp_config, sp_config_unit or sp_config_volume, by section */
    uint64_t min, max;
};

#define CONFIG(field) offsetof(struct sp_config, field)
#define UNIT(field)   offsetof(struct sp_config_unit, field)
#define VOLUME(field) offsetof(struct sp_config_volume, field)
static const struct key keys[] = {
    {IN_SERVER, "hostname", HOSTNAME, CONFIG(hostname), 0, 0},
    {IN_SERVER, "state", PATH, CONFIG(state), 0, 0},
    {IN_SERVER, "postmaster", MAIL_ADDRESS, CONFIG(postmaster), 0, 0},
    {IN_LISTEN, "smtp", LISTENERS, SP_PROTOCOL_SMTP, 0, 0},
    {IN_LISTEN, "smtps", LISTENERS, SP_PROTOCOL_SMTPS, 0, 0},
    {IN_LISTEN, "lmtp", LISTENERS, SP_PROTOCOL_LMTP, 0, 0},
    {IN_LISTEN, "imap", LISTENERS, SP_PROTOCOL_IMAP, 0, 0},
    {IN_LISTEN, "imaps", LISTENERS, SP_PROTOCOL_IMAPS, 0, 0},
    {IN_LISTEN, "submission", LISTENERS, SP_PROTOCOL_SUBMISSION, 0, 0},
    {IN_LISTEN, "submissions", LISTENERS, SP_PROTOCOL_SUBMISSIONS, 0, 0},
    {IN_LISTEN, "pop3", LISTENERS, SP_PROTOCOL_POP3, 0, 0},
    {IN_LISTEN, "pop3s", LISTENERS, SP_PROTOCOL_POP3S, 0, 0},
    {IN_LISTEN, "http", LISTENERS, SP_PROTOCOL_HTTP, 0, 0},
    {IN_LISTEN, "https", LISTENERS, SP_PROTOCOL_HTTPS, 0, 0},
    {IN_LISTEN, "metrics", METRICS, CONFIG(metrics), 0, 0},
    {IN_LISTEN, "metrics_anywhere", YES_NO, CONFIG(metrics_anywhere), 0, 0},
    {IN_TLS, "cert", PATH, CONFIG(tls_cert), 0, 0},
    {IN_TLS, "key", PATH, CONFIG(tls_key), 0, 0},
    {IN_LIMITS, "message_bytes_max", SIZE, CONFIG(message_bytes_max), 65536,
     (1ULL << 32) - 65536}, /* IMAP's sizes have 32 bits, and SMTP adds a little */
    {IN_LIMITS, "connections", COUNT, CONFIG(connections_max), 1, 1000000},
    {IN_LIMITS, "connections_per_peer", COUNT, CONFIG(connections_per_peer_max), 0, 1000000},
    {IN_LIMITS, "incoming_bodies", COUNT, CONFIG(incoming_bodies_max), 1, 100000},
    /* One alone could be kept by a search for as long as that takes. */
    {IN_LIMITS, "workers", COUNT, CONFIG(workers), 2, 256},
    {IN_LIMITS, "hash_threads", COUNT, CONFIG(hash_threads), 1, 64},
    {IN_GUARD, "cooling_off", DURATION_S, CONFIG(guard_cooling_s), 0, 366ULL * 86400},
    {IN_GUARD, "approvers", USERS, CONFIG(guard_approvers), 0, 0},
    {IN_GUARD, "approvals", COUNT, CONFIG(guard_approvals), 0, SP_CONFIG_APPROVERS_MAX},
    {IN_UNIT, "kind", UNIT_KIND, 0, 0, 0},
    {IN_UNIT, "path", PATH, UNIT(path), 0, 0},
    {IN_UNIT, "role", ROLE, UNIT(role), 0, 0},
    {IN_UNIT, "id", UUID, UNIT(id), 0, 0},
    {IN_UNIT, "parity", PARITY, UNIT(parity), 0, 0},
    {IN_VOLUME, "units", WORDS, 0, 0, 0},
    {IN_VOLUME, "min_copies", COUNT, VOLUME(min_copies), 1, SP_CONFIG_UNITS_MAX},
    {IN_VOLUME, "id", UUID, VOLUME(id), 0, 0},
    {IN_VOLUME, "degraded", DEGRADED, VOLUME(degraded_accept), 0, 0},
    {IN_VOLUME, "segment_size", SIZE, VOLUME(segment_bytes), 1U << 20, 1ULL << 32},
    {IN_VOLUME, "reserve", SIZE, VOLUME(reserve_bytes), 0, 1ULL << 40},
    {IN_VOLUME, "unit_timeout", DURATION_MS, VOLUME(unit_timeout_ms), 100, 600000},
    {IN_VOLUME, "resilver_rate", SIZE, VOLUME(resilver_rate), 1U << 20, 1ULL << 40},
    {IN_VOLUME, "scrub_rate", SIZE, VOLUME(scrub_rate), 0, 1ULL << 40},
    {IN_VOLUME, "scrub_max_age", DURATION_S, VOLUME(scrub_max_age_s), 0, 100ULL * 366 * 86400},
    {IN_VOLUME, "hold", DURATION_S, VOLUME(hold_s), 0, 100ULL * 366 * 86400},
    {IN_VOLUME, "compact_below", COUNT, VOLUME(compact_below), 1, 100},
    {IN_VOLUME, "compact_rate", SIZE, VOLUME(compact_rate), 0, 1ULL << 40},
    {IN_VOLUME, "allow_shared_domain", YES_NO, VOLUME(allow_shared_domain), 0, 0},
};
#define KEYS (sizeof keys / sizeof keys[0])

const char *sp_protocol_name(enum sp_protocol protocol)
{
    for (size_t i = 0; i < KEYS; i++)
        if (keys[i].kind == LISTENERS && keys[i].offset == (size_t)protocol)
            return keys[i].name;
    return "unknown";
}

struct parser {
    struct sp_config *config;
    struct sp_error *error;
    struct sp_slice rest; /* of the text */
    unsigned line;
    bool failed; /* the first error stays */
    enum section section;
    char title[SP_CONFIG_NAME_MAX + 16]; /* "unit a", for messages */
    struct sp_config_unit *unit;         /* IN_UNIT */
    unsigned seen_sections[SECTIONS];    /* line; of [unit] and [volume] not kept here */
    unsigned seen_keys[KEYS];            /* line in this section */
    struct sp_slice volume_units;        /* `units` of the volume, and where */
    unsigned volume_units_line;
};

/* ---- Errors: FILE:LINE: [section] key: why: what would be right ---- */

static void fail(struct parser *p, enum sp_status status, const char *key, const char *why,
                 const char *todo)
{
    if (p->failed)
        return;
    p->failed = true;
    char what[256];
    snprintf(what, sizeof what, "%s:%u", p->config->path, p->line);
    sp_error_set(p->error, status, what, "%s%s%s%s%s%s%s", p->section ? "[" : "", p->title,
                 p->section ? "]" : "", key && p->section ? " " : "", key ? key : "",
                 p->section || key ? ": " : "", why);
    if (todo)
        sp_error_todo(p->error, "%s", todo);
}

static void fail_names(struct parser *p, const char *key, const char *why, struct sp_slice word,
                       const char *const *names)
{
    char todo[512];
    const char *nearest = sp_config_nearest(word, names);
    if (nearest) {
        snprintf(todo, sizeof todo, "did you mean %s?", nearest);
    } else {
        size_t at = (size_t)snprintf(todo, sizeof todo, "it may be");
        for (const char *const *n = names; *n && at < sizeof todo; n++)
            at += (size_t)snprintf(todo + at, sizeof todo - at, "%s %s",
                                   n == names ? ""
                                   : n[1]     ? ","
                                              : " or",
                                   *n);
    }
    fail(p, SP_INVALID, key, why, todo);
}

static void fail_memory(struct parser *p)
{
    fail(p, SP_NO_MEMORY, NULL, "no memory, or a file of unreasonable length", NULL);
}

/* ---- Sections ---- */

static bool unit_begin(struct parser *p, struct sp_slice name)
{
    struct sp_config *config = p->config;
    for (uint32_t i = 0; i < config->units_count; i++) {
        if (!sp_slice_eq(name, sp_slice_str(config->units[i].name)))
            continue;
        char why[64];
        snprintf(why, sizeof why, "given before, in line %u", config->units[i].line);
        fail(p, SP_INVALID, NULL, why, "give each unit a name of its own");
        return false;
    }
    if (config->units_count == SP_CONFIG_UNITS_MAX) {
        fail(p, SP_LIMIT, NULL, "more than 16 units", "a volume has at most 16: remove one");
        return false;
    }
    p->unit = &config->units[config->units_count++];
    p->unit->name = sp_arena_str(&config->arena, name);
    p->unit->line = p->line;
    if (!p->unit->name)
        fail_memory(p);
    return p->unit->name;
}

static bool volume_begin(struct parser *p, struct sp_slice name)
{
    struct sp_config_volume *volume = &p->config->volume;
    if (volume->name) {
        bool same = sp_slice_eq(name, sp_slice_str(volume->name));
        char why[64];
        snprintf(why, sizeof why, "%s in line %u",
                 same ? "given before," : "there is a volume already,", volume->line);
        fail(p, SP_INVALID, NULL, why, "keep one: a server has one volume");
        return false;
    }
    volume->name = sp_arena_str(&p->config->arena, name);
    volume->line = p->line;
    if (!volume->name)
        fail_memory(p);
    return volume->name;
}

/* A line `[...]`, trimmed. */
static void section_begin(struct parser *p, struct sp_slice line)
{
    size_t end = sp_slice_find(line, ']');
    if (end == SIZE_MAX)
        return; /* inih will say so */
    struct sp_slice inside = sp_slice_trim(sp_slice_sub(line, 1, end));
    size_t blank = sp_slice_find(inside, ' ');
    struct sp_slice word = sp_slice_sub(inside, 0, blank);
    struct sp_slice name = blank == SIZE_MAX ? (struct sp_slice){NULL, 0}
                                             : sp_slice_trim(sp_slice_from(inside, blank));
    p->section = IN_NOTHING;
    for (unsigned s = IN_SERVER; s < SECTIONS; s++)
        if (sp_slice_eq(word, sp_slice_str(section_names[s])))
            p->section = (enum section)s;
    memset(p->seen_keys, 0, sizeof p->seen_keys);
    p->unit = NULL;
    if (p->section == IN_NOTHING) {
        char why[96];
        snprintf(why, sizeof why, "[%.*s]: unknown section", (int)(word.len < 64 ? word.len : 64),
                 (const char *)word.ptr);
        p->title[0] = '\0';
        fail_names(p, NULL, why, word, section_names + 1);
        return;
    }
    bool named = p->section == IN_UNIT || p->section == IN_VOLUME;
    snprintf(p->title, sizeof p->title, "%s", section_names[p->section]);
    if (!named) {
        if (name.len)
            fail(p, SP_INVALID, NULL, "this section has no name",
                 "write only the word in brackets");
        else if (p->seen_sections[p->section]) {
            char why[64];
            snprintf(why, sizeof why, "given before, in line %u", p->seen_sections[p->section]);
            fail(p, SP_INVALID, NULL, why, "put all its keys into one section");
        }
        p->seen_sections[p->section] = p->line;
        return;
    }
    if (!sp_config_name_ok(name)) {
        fail(p, SP_INVALID, NULL, name.len ? "not a name" : "the name is missing",
             p->section == IN_UNIT ? "write [unit NAME]: letters, digits, - and _, at most 32"
                                   : "write [volume NAME]: letters, digits, - and _, at most 32");
        return;
    }
    snprintf(p->title, sizeof p->title, "%s %.*s", section_names[p->section], SP_FMT(name));
    if (p->section == IN_UNIT)
        unit_begin(p, name);
    else
        volume_begin(p, name);
}

/* ---- Values ---- */

static void listeners_add(struct parser *p, const struct key *key, struct sp_slice value)
{
    struct sp_config *config = p->config;
    while (value.len && !p->failed) {
        size_t end = 0;
        while (end < value.len && value.ptr[end] != ' ' && value.ptr[end] != '\t')
            end++;
        struct sp_slice word = sp_slice_sub(value, 0, end);
        value = sp_slice_trim(sp_slice_from(value, end));
        struct sp_address address;
        bool any;
        char *text = sp_arena_str(&config->arena, word);
        if (!text)
            fail_memory(p);
        else if (sp_address_parse(text, &address, &any))
            fail(p, SP_INVALID, key->name, "not an address with a port",
                 "write 127.0.0.1:2525, [::1]:2525, or :2525 for every address");
        else if (config->listeners_count == SP_CONFIG_LISTENERS_MAX)
            fail(p, SP_LIMIT, key->name, "more than 64 addresses to listen on", "remove some");
        else
            config->listeners[config->listeners_count++] =
                (struct sp_config_listener){(enum sp_protocol)key->offset, text};
    }
}

/* An address with a port, or unix:PATH. Whether it may be that address is checked at the end. */
static void metrics_set(struct parser *p, const struct key *key, struct sp_slice value)
{
    struct sp_arena *arena = &p->config->arena;
    struct sp_address address;
    bool any;
    const char *text = sp_arena_str(arena, value);
    if (value.len > 5 && memcmp(value.ptr, "unix:", 5) == 0) {
        const char *path = sp_config_path(arena, p->config->folder, sp_slice_from(value, 5));
        size_t size = path ? strlen(path) + 6 : 0;
        char *whole = path ? sp_arena_alloc(arena, size) : NULL;
        if (whole)
            snprintf(whole, size, "unix:%s", path);
        text = whole;
        if (whole && size > 5 + 108)
            fail(p, SP_LIMIT, key->name, "a socket's path has at most 107 bytes",
                 "choose a shorter one, such as unix:/run/sternpost/metrics.sock");
    } else if (text && sp_address_parse(text, &address, &any)) {
        fail(p, SP_INVALID, key->name, "neither an address with a port nor unix:PATH",
             "write 127.0.0.1:9187, or unix:/run/sternpost/metrics.sock");
    }
    if (!text)
        fail_memory(p);
    p->config->metrics = text;
    p->config->metrics_line = p->line;
}

static void number_set(struct parser *p, const struct key *key, struct sp_slice value, void *at)
{
    uint64_t n = 0;
    enum sp_status status;
    const char *form;
    switch (key->kind) {
    case SIZE:
        status = sp_config_size(value, &n);
        form = "a size: bytes, or with K, M, G, T";
        break;
    case COUNT:
        status = sp_slice_u64(value, UINT32_MAX, &n);
        form = "a number";
        break;
    default:
        status = sp_config_duration_ms(value, &n);
        form = "a time with its unit: 500ms, 2s, 10min, 1h, 14d";
        if (key->kind == DURATION_S)
            n /= 1000;
        break;
    }
    char todo[160];
    if (status == SP_INVALID) {
        snprintf(todo, sizeof todo, "write %s", form);
        fail(p, SP_INVALID, key->name, "not a value of this kind", todo);
        return;
    }
    if (status || n < key->min || n > key->max) {
        const char *unit = key->kind == SIZE          ? " bytes"
                           : key->kind == DURATION_S  ? " s"
                           : key->kind == DURATION_MS ? " ms"
                                                      : "";
        snprintf(todo, sizeof todo, "it may be %llu to %llu%s", (unsigned long long)key->min,
                 (unsigned long long)key->max, unit);
        fail(p, SP_INVALID, key->name, "out of range", todo);
        return;
    }
    if (key->kind == SIZE || key->kind == DURATION_S)
        memcpy(at, &n, sizeof n);
    else
        memcpy(at, &(uint32_t){(uint32_t)n}, sizeof(uint32_t));
}

/* One of several words; the index of the one given, or -1. */
static int choice(struct parser *p, const struct key *key, struct sp_slice value,
                  const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (sp_slice_eq(value, sp_slice_str(words[i])))
            return i;
    fail_names(p, key->name, "not one of its values", value, words);
    return -1;
}

static void id_set(struct parser *p, const struct key *key, struct sp_slice value)
{
    struct sp_uuid id;
    if (sp_uuid_parse(value, &id) || sp_uuid_is_nil(&id)) {
        fail(p, SP_INVALID, key->name, "not a UUID",
             p->section == IN_UNIT
                 ? "write what unit.id says, or leave the line out"
                 : "write what `sternpost volume list` shows, or leave the line out");
    } else if (p->section == IN_UNIT) {
        p->unit->id = id;
        p->unit->has_id = true;
    } else {
        p->config->volume.id = id;
        p->config->volume.has_id = true;
    }
}

static void parity_set(struct parser *p, const struct key *key, struct sp_slice value)
{
    struct sp_parity_shape parity;
    enum sp_status status = sp_config_parity(value, &parity);
    if (status)
        fail(p, SP_INVALID, key->name,
             status == SP_LIMIT ? "out of range: it may be 1+1 to 128+32" : "not a parity",
             "write data rows + parity rows: 16+2, with which 2/18 of a segment may be lost; or "
             "off");
    else
        p->unit->parity = parity;
}

static void word_set(struct parser *p, const struct key *key, struct sp_slice value, void *at)
{
    static const char *const yes_no[] = {"no", "yes", NULL};
    static const char *const kinds[] = {"dir", NULL};
    static const char *const roles[] = {"replica", "spare", "witness", NULL};
    static const char *const degraded[] = {"defer", "accept", NULL};
    int chosen;
    switch (key->kind) {
    case YES_NO:
        chosen = choice(p, key, value, yes_no);
        memcpy(at, &(bool){chosen == 1}, sizeof(bool));
        return;
    case UNIT_KIND:
        choice(p, key, value, kinds);
        return;
    case ROLE:
        chosen = choice(p, key, value, roles);
        if (chosen >= 0)
            p->unit->role = (enum sp_config_role)chosen;
        return;
    case DEGRADED:
        chosen = choice(p, key, value, degraded);
        memcpy(at, &(bool){chosen == 1}, sizeof(bool));
        return;
    default:
        sp_assert(false);
    }
}

static void text_set(struct parser *p, const struct key *key, struct sp_slice value, void *at)
{
    const char *text = NULL;
    if (key->kind == HOSTNAME && !sp_config_hostname_ok(value)) {
        fail(p, SP_INVALID, key->name, "not a host name",
             "write the name other servers know this one by: mail.example.org");
        return;
    }
    size_t local = sp_slice_find(value, '@');
    if (key->kind == MAIL_ADDRESS && (local == 0 || local == SIZE_MAX ||
                                      !sp_config_hostname_ok(sp_slice_from(value, local + 1)))) {
        fail(p, SP_INVALID, key->name, "not an address",
             "write the address of an account: admin@example.org");
        return;
    }
    text = key->kind == PATH ? sp_config_path(&p->config->arena, p->config->folder, value)
                             : sp_arena_str(&p->config->arena, value);
    if (text)
        memcpy(at, &text, sizeof text);
    else
        fail_memory(p);
}

static void key_set(struct parser *p, const struct key *key, struct sp_slice value)
{
    uint8_t *base = key->section == IN_UNIT     ? (uint8_t *)p->unit
                    : key->section == IN_VOLUME ? (uint8_t *)&p->config->volume
                                                : (uint8_t *)p->config;
    switch (key->kind) {
    case HOSTNAME:
    case MAIL_ADDRESS:
    case PATH:
    case USERS:
        text_set(p, key, value, base + key->offset);
        return;
    case LISTENERS:
        listeners_add(p, key, value);
        return;
    case METRICS:
        metrics_set(p, key, value);
        return;
    case SIZE:
    case COUNT:
    case DURATION_MS:
    case DURATION_S:
        number_set(p, key, value, base + key->offset);
        return;
    case UUID:
        id_set(p, key, value);
        return;
    case PARITY:
        parity_set(p, key, value);
        return;
    case WORDS:
        p->volume_units = sp_arena_copy(&p->config->arena, value);
        p->volume_units_line = p->line;
        return;
    default:
        word_set(p, key, value, base + key->offset);
        return;
    }
}

/* ---- Lines ---- */

static int on_key(void *context, const char *section, const char *name, const char *value)
{
    struct parser *p = context;
    const char *names[KEYS + 1];
    size_t count = 0;
    if (p->failed)
        return 1;
    if (p->section == IN_NOTHING) {
        fail(p, SP_INVALID, name, "stands before the first section", "begin with [server]");
        return 1;
    }
    for (size_t i = 0; i < KEYS; i++) {
        if (keys[i].section != p->section)
            continue;
        if (strcmp(keys[i].name, name) != 0) {
            names[count++] = keys[i].name;
            continue;
        }
        if (p->seen_keys[i]) {
            char why[64];
            snprintf(why, sizeof why, "given before, in line %u", p->seen_keys[i]);
            fail(p, SP_INVALID, name, why, "keep one of the two");
        } else if (!*value) {
            fail(p, SP_INVALID, name, "no value", "write one after the =, or remove the line");
        } else {
            p->seen_keys[i] = p->line;
            key_set(p, &keys[i], sp_slice_str(value));
        }
        return 1;
    }
    names[count] = NULL;
    fail_names(p, name, "unknown key", sp_slice_str(name), names);
    return 1;
}

/* inih's fgets. It takes an indented line for the last key's continuation, cuts long names, and
 * passes over sections without keys: so lines come to it without the blanks in front, and sections
 * are taken note of here. */
static char *next_line(char *ret_line, int size, void *context)
{
    struct parser *p = context;
    if (p->failed || p->rest.len == 0)
        return NULL;
    size_t end = sp_slice_find(p->rest, '\n');
    struct sp_slice line = sp_slice_sub(p->rest, 0, end);
    p->rest = end == SIZE_MAX ? (struct sp_slice){NULL, 0} : sp_slice_from(p->rest, end + 1);
    p->line++;
    if (p->line == 1 && line.len >= 3 && memcmp(line.ptr, "\xef\xbb\xbf", 3) == 0)
        line = sp_slice_from(line, 3);
    line = sp_slice_trim(line);
    if (line.len && (line.ptr[0] == '#' || line.ptr[0] == ';'))
        line.len = 0;
    if (sp_slice_find(line, '\0') != SIZE_MAX) {
        fail(p, SP_INVALID, NULL, "a NUL byte", "is this the right file?");
        return NULL;
    }
    if (line.len > LINE_BYTES_MAX || line.len + 2 > (size_t)size) {
        fail(p, SP_LIMIT, NULL, "a line of more than 198 bytes",
             "make it shorter, for example with a relative path");
        return NULL;
    }
    if (line.len && line.ptr[0] == '[')
        section_begin(p, line);
    if (line.len)
        memcpy(ret_line, line.ptr, line.len);
    ret_line[line.len] = '\n';
    ret_line[line.len + 1] = '\0';
    return ret_line;
}

static void defaults_set(struct sp_config *config)
{
    config->message_bytes_max = 100U << 20;
    config->connections_max = 10000;
    config->connections_per_peer_max = 500;
    config->incoming_bodies_max = 1000;
    config->hash_threads = 2;
    config->guard_cooling_s = 86400;
    config->volume.min_copies = 2;
    config->volume.segment_bytes = 64U << 20;
    config->volume.reserve_bytes = UINT64_MAX;
    config->volume.unit_timeout_ms = 2000;
    config->volume.resilver_rate = 64U << 20;
    config->volume.scrub_rate = 4U << 20;
    config->volume.scrub_max_age_s = 30U * 86400U;
    config->volume.hold_s = 14U * 86400U;
    config->volume.compact_below = 60;
    config->volume.compact_rate = 8U << 20;
}

enum sp_status sp_config_parse(struct sp_slice text, const char *path, const char *folder,
                               struct sp_config *ret_config, struct sp_error *error)
{
    struct sp_config config = {0};
    struct parser p = {.config = &config, .error = error, .rest = text};
    struct sp_error scratch;
    if (!error)
        p.error = &scratch;
    sp_arena_init(&config.arena, 4U << 20);
    defaults_set(&config);
    config.path = sp_arena_str(&config.arena, sp_slice_str(path));
    config.folder = sp_arena_str(&config.arena, sp_slice_str(folder));
    config.units = sp_arena_array(&config.arena, SP_CONFIG_UNITS_MAX, sizeof *config.units);
    if (!config.path || !config.folder || !config.units) {
        sp_arena_release(&config.arena);
        return sp_error_set(error, SP_NO_MEMORY, path, "no memory");
    }
    int bad_line = ini_parse_stream(next_line, &p, on_key, &p);
    if (bad_line > 0 && !p.failed) {
        p.line = (unsigned)bad_line;
        p.section = IN_NOTHING;
        p.title[0] = '\0';
        fail(&p, SP_INVALID, NULL, "neither a section nor `key = value`",
             "see the comments that `sternpost init` writes");
    }
    enum sp_status status = p.failed ? p.error->status : SP_OK;
    if (!status)
        status = sp_config_check(&config, p.volume_units, p.volume_units_line, p.error);
    if (status)
        sp_arena_release(&config.arena);
    else
        *ret_config = config;
    return status;
}

void sp_config_release(struct sp_config *config)
{
    sp_arena_release(&config->arena);
    memset(config, 0, sizeof *config);
}

/* ---- Files ---- */

static enum sp_status file_error(struct sp_error *error, const char *path)
{
    enum sp_status status = errno == ENOENT ? SP_NOT_FOUND : errno == ENOMEM ? SP_NO_MEMORY : SP_IO;
    sp_error_set(error, status, path, "%s", strerror(errno));
    sp_error_todo(error, "%s",
                  status == SP_NOT_FOUND
                      ? "name the file with -c FILE, or make one with `sternpost init DIR`"
                      : "make it readable for this user");
    return status;
}

enum sp_status sp_config_read(const char *path, struct sp_config *ret_config,
                              struct sp_error *error)
{
    char *real = realpath(path, NULL);
    struct sp_buf text;
    sp_buf_init(&text, SP_CONFIG_FILE_MAX);
    enum sp_status status;
    FILE *file = real ? fopen(real, "re") : NULL;
    if (!file) {
        status = file_error(error, path);
        goto out;
    }
    size_t n;
    do {
        uint8_t piece[4096];
        n = fread(piece, 1, sizeof piece, file);
        sp_buf_add(&text, sp_slice(piece, n));
    } while (n && !sp_buf_failed(&text));
    if (ferror(file)) {
        status = file_error(error, path);
        goto out;
    }
    if (sp_buf_failed(&text)) {
        status = sp_error_set(error, SP_LIMIT, path, "more than 1 MiB long");
        sp_error_todo(error, "is this the right file?");
        goto out;
    }
    *strrchr(real, '/') = '\0';
    status = sp_config_parse(sp_buf_slice(&text), path, *real ? real : "/", ret_config, error);
out:
    if (file)
        fclose(file);
    free(real);
    sp_buf_release(&text);
    return status;
}

enum sp_status sp_config_find(const char *given, const char **ret_path, struct sp_error *error)
{
    static const char *const places[] = {"sternpost.conf", "/etc/sternpost/sternpost.conf"};
    if (given) {
        *ret_path = given;
        return SP_OK;
    }
    for (size_t i = 0; i < 2; i++) {
        if (access(places[i], F_OK) == 0) {
            *ret_path = places[i];
            return SP_OK;
        }
    }
    sp_error_set(error, SP_NOT_FOUND, "configuration", "neither ./sternpost.conf nor %s is there",
                 places[1]);
    sp_error_todo(error, "name the file with -c FILE, or make one with `sternpost init DIR`");
    return SP_NOT_FOUND;
}
