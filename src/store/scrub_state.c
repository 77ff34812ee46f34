/* What a restart must not forget of the scrub: when the copies were last verified whole, how far
 * the scrub under way is, and since when one is owed at all.
 *
 * It is kept in a small file of the state directory. Not in the log: a position every minute would
 * be records for ever of what nobody needs the day after. Not in the index: after a power cut the
 * index is thrown away, and a scrub of days would begin from nothing just then. What the file says
 * is about copies, not about mail: without it the copies count as never verified, which is the
 * safe thing to believe.
 *
 *     Sternpost scrub, format 1
 *     volume UUID
 *     since NS            when this file was begun: age counts from then until a scrub has ended
 *     finished NS         when the last whole scrub ended; 0: none has
 *     unit UUID NS        when a scrub last read all of this unit's copies; one line for each
 *     running SEGMENT ASKED MENDED UNMENDABLE SKIPPED UNIT
 *                         a scrub is under way, and has seen all copies of what comes before
 *                         SEGMENT; UNIT: of that unit alone, or the nil UUID
 *
 * It is replaced as a whole. A file that is not exactly of this form is no file.
 */
#include "base/buf.h"
#include "base/log.h"
#include "base/time.h"
#include "store/volume_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FIRST_LINE  "Sternpost scrub, format 1"
#define SAVE_MS     60000U
#define WARN_MS     (24U * 3600U * 1000U)
#define LINES_MAX   (SP_VOLUME_UNITS_MAX + 6U)
#define NS_PER_S    1000000000U
#define STATE_BYTES 4096U

/* ---- The text ---- */

/* The next word of a line, up to a blank; false: there is none. */
static bool word(struct sp_slice *line, struct sp_slice *ret)
{
    if (line->len == 0)
        return false;
    size_t end = sp_slice_find(*line, ' ');
    *ret = sp_slice_sub(*line, 0, end);
    *line = end == SIZE_MAX ? (struct sp_slice){NULL, 0} : sp_slice_from(*line, end + 1);
    return ret->len > 0;
}

static bool number(struct sp_slice *line, uint64_t max, uint64_t *ret)
{
    struct sp_slice text;
    return word(line, &text) && sp_slice_u64(text, max, ret) == SP_OK;
}

static bool uuid(struct sp_slice *line, struct sp_uuid *ret)
{
    struct sp_slice text;
    return word(line, &text) && sp_uuid_parse(text, ret) == SP_OK;
}

static bool take_line(struct sp_scrub_state *state, struct sp_slice line)
{
    struct sp_slice key;
    uint64_t asked = 0;
    bool good = word(&line, &key);
    if (good && sp_slice_eq(key, SP_S("volume"))) {
        good = uuid(&line, &state->volume);
    } else if (good && sp_slice_eq(key, SP_S("since"))) {
        good = number(&line, UINT64_MAX, &state->since_ns);
    } else if (good && sp_slice_eq(key, SP_S("finished"))) {
        good = number(&line, UINT64_MAX, &state->finished_ns);
    } else if (good && sp_slice_eq(key, SP_S("unit")) && state->units_count < SP_VOLUME_UNITS_MAX) {
        good = uuid(&line, &state->units[state->units_count].id) &&
               number(&line, UINT64_MAX, &state->units[state->units_count].scrubbed_ns);
        state->units_count++;
    } else if (good && sp_slice_eq(key, SP_S("running"))) {
        good = number(&line, UINT64_MAX, &state->segment) && number(&line, 1, &asked) &&
               number(&line, UINT64_MAX, &state->mended) &&
               number(&line, UINT64_MAX, &state->unmendable) &&
               number(&line, UINT64_MAX, &state->skipped) && uuid(&line, &state->only);
        state->running = true;
        state->asked = asked;
    } else {
        good = false;
    }
    return good && line.len == 0;
}

enum sp_status sp_scrub_state_parse(struct sp_slice text, struct sp_scrub_state *ret_state)
{
    struct sp_scrub_state state = {0};
    for (unsigned lines = 0; text.len; lines++) {
        size_t end = sp_slice_find(text, '\n');
        struct sp_slice line = sp_slice_sub(text, 0, end);
        if (end == SIZE_MAX || lines >= LINES_MAX ||
            (lines == 0 ? !sp_slice_eq(line, SP_S(FIRST_LINE)) : !take_line(&state, line)))
            return SP_CORRUPT;
        text = sp_slice_from(text, end + 1);
    }
    if (sp_uuid_is_nil(&state.volume) || state.since_ns == 0)
        return SP_CORRUPT;
    *ret_state = state;
    return SP_OK;
}

void sp_scrub_state_write(const struct sp_scrub_state *state, struct sp_buf *buf)
{
    char id[SP_UUID_TEXT];
    sp_uuid_text(&state->volume, id);
    sp_buf_addf(buf, FIRST_LINE "\nvolume %s\nsince %" PRIu64 "\nfinished %" PRIu64 "\n", id,
                state->since_ns, state->finished_ns);
    for (uint32_t i = 0; i < state->units_count; i++) {
        sp_uuid_text(&state->units[i].id, id);
        sp_buf_addf(buf, "unit %s %" PRIu64 "\n", id, state->units[i].scrubbed_ns);
    }
    sp_uuid_text(&state->only, id);
    if (state->running)
        sp_buf_addf(buf, "running %" PRIu64 " %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n",
                    state->segment, state->asked, state->mended, state->unmendable, state->skipped,
                    id);
}

/* ---- The file ---- */

static enum sp_status read_file(const char *path, struct sp_scrub_state *ret_state)
{
    char text[STATE_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? SP_NOT_FOUND : SP_IO;
    size_t len = 0;
    ssize_t n;
    while (len < sizeof text && (n = read(fd, text + len, sizeof text - len)) > 0)
        len += (size_t)n;
    close(fd);
    return len == sizeof text ? SP_CORRUPT : sp_scrub_state_parse(sp_slice(text, len), ret_state);
}

static bool sync_folder(const char *path)
{
    char copy[4096];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

static bool replace_file(const char *path, struct sp_slice text)
{
    char fresh[4096];
    if (snprintf(fresh, sizeof fresh, "%s.new", path) >= (int)sizeof fresh)
        return false;
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool good = write(fd, text.ptr, text.len) == (ssize_t)text.len && fsync(fd) == 0;
    close(fd);
    return good && rename(fresh, path) == 0 && sync_folder(path);
}

/* ---- The volume's ---- */

static struct sp_scrub_state state_of(const struct sp_volume *v)
{
    const struct sp_scrub *scrub = &v->scrub;
    struct sp_scrub_state state = {.volume = v->id,
                                   .since_ns = scrub->since_ns,
                                   .finished_ns = scrub->finished_ns,
                                   .running = scrub->running,
                                   .asked = scrub->asked,
                                   .mended = scrub->mended,
                                   .unmendable = scrub->unmendable,
                                   .skipped = scrub->skipped};
    for (uint32_t i = 0; i < v->members_count; i++)
        if (!sp_uuid_is_nil(&v->members[i].id) && v->members[i].scrubbed_ns) {
            state.units[state.units_count].id = v->members[i].id;
            state.units[state.units_count++].scrubbed_ns = v->members[i].scrubbed_ns;
        }
    if (scrub->running && scrub->segment < v->segments_count)
        state.segment = v->segments[scrub->segment].segment;
    if (scrub->running && scrub->only < v->members_count)
        state.only = v->members[scrub->only].id;
    return state;
}

void sp_scrub_save(struct sp_volume *v)
{
    char quoted[160];
    struct sp_buf text;
    if (!v->scrub_path)
        return;
    struct sp_scrub_state state = state_of(v);
    sp_buf_init(&text, STATE_BYTES - 1);
    sp_scrub_state_write(&state, &text);
    if (sp_buf_failed(&text) || !replace_file(v->scrub_path, sp_buf_slice(&text)))
        sp_log(SP_LOG_WARN, "scrub.state", "volume=%s what=write why=%s", v->name,
               sp_log_quote(sp_slice_str(strerror(errno)), quoted, sizeof quoted));
    sp_buf_release(&text);
}

/* The scrub that was under way goes on, with all copies of the segment it had come to. */
static void resume(struct sp_volume *v, const struct sp_scrub_state *state)
{
    struct sp_scrub *scrub = &v->scrub;
    uint32_t only = UINT32_MAX;
    for (uint32_t i = 0; i < v->members_count && !sp_uuid_is_nil(&state->only); i++)
        if (sp_uuid_eq(&v->members[i].id, &state->only))
            only = i;
    if (!sp_uuid_is_nil(&state->only) && only == UINT32_MAX)
        return; /* that unit is not here any more */
    sp_scrub_begin(v, state->asked, only);
    while (scrub->segment + 1 < v->segments_count &&
           v->segments[scrub->segment].segment < state->segment) {
        scrub->done_blocks += sp_scrub_blocks(v, scrub->segment);
        scrub->segment++;
    }
    scrub->mended = state->mended;
    scrub->unmendable = state->unmendable;
    scrub->skipped = (uint32_t)(state->skipped < UINT32_MAX ? state->skipped : UINT32_MAX);
}

void sp_scrub_load(struct sp_volume *v)
{
    struct sp_scrub_state state;
    v->scrub.since_ns = sp_wall_ns();
    v->scrub.only = UINT32_MAX;
    if (!v->scrub_path)
        return;
    enum sp_status status = read_file(v->scrub_path, &state);
    if (status == SP_OK && !sp_uuid_eq(&state.volume, &v->id))
        status = SP_CONFLICT;
    if (status != SP_OK) {
        if (status != SP_NOT_FOUND)
            sp_log(SP_LOG_WARN, "scrub.state", "volume=%s what=read why=%s", v->name,
                   sp_status_name(status));
        sp_scrub_save(v);
        return;
    }
    v->scrub.since_ns = state.since_ns;
    v->scrub.finished_ns = state.finished_ns;
    for (uint32_t i = 0; i < state.units_count; i++)
        for (uint32_t k = 0; k < v->members_count; k++)
            if (sp_uuid_eq(&v->members[k].id, &state.units[i].id))
                v->members[k].scrubbed_ns = state.units[i].scrubbed_ns;
    if (state.running)
        resume(v, &state);
}

/* ---- Its age ---- */

uint64_t sp_scrub_age_s(const struct sp_volume *v, uint64_t wall_ns)
{
    uint64_t from = v->scrub.finished_ns ? v->scrub.finished_ns : v->scrub.since_ns;
    return wall_ns > from ? (wall_ns - from) / NS_PER_S : 0;
}

void sp_scrub_watch(struct sp_volume *v, uint64_t now)
{
    struct sp_scrub *scrub = &v->scrub;
    if (scrub->running && now - scrub->saved_ms >= SAVE_MS) {
        scrub->saved_ms = now;
        sp_scrub_save(v);
    }
    uint64_t age_s = sp_scrub_age_s(v, sp_wall_ns());
    if (v->scrub_max_age_s == 0 || age_s <= v->scrub_max_age_s ||
        (scrub->warned_ms && now - scrub->warned_ms < WARN_MS))
        return;
    scrub->warned_ms = now ? now : 1;
    sp_log(SP_LOG_WARN, "scrub.overdue",
           "volume=%s age_s=%" PRIu64 " max_age_s=%" PRIu64 " running=%s", v->name, age_s,
           v->scrub_max_age_s, scrub->running ? "yes" : "no");
}
