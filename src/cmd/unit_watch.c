/* `sternpost unit list --watch`: how far the units are that are being resilvered.
 *
 * On a terminal one bar for each, drawn again every second; elsewhere a line for each whenever
 * something has changed. It ends when no unit lacks anything, or with Ctrl-C. */
#include "cmd/unit_look.h"

#include <stdio.h>
#include <unistd.h>

#define UNITS_MAX 16U
#define BAR       30

struct watch {
    bool terminal;
    unsigned drawn; /* lines on the terminal that are to be drawn over */
    struct {
        char name[64];
        json_int_t most; /* bytes it lacked when it was first seen */
        json_int_t said; /* the last that was printed */
    } units[UNITS_MAX];
    unsigned count;
};

static unsigned find(struct watch *w, const char *name)
{
    for (unsigned i = 0; i < w->count; i++)
        if (strcmp(w->units[i].name, name) == 0)
            return i;
    if (w->count == UNITS_MAX)
        return UNITS_MAX;
    snprintf(w->units[w->count].name, sizeof w->units[0].name, "%s", name);
    w->units[w->count].said = -1;
    return w->count++;
}

static void eta_text(const json_t *unit, char *text, size_t size)
{
    json_int_t left = sp_number(unit, "resilver_eta_s");
    char rate[32];
    if (!sp_number(unit, "resilver_rate")) {
        snprintf(text, size, "waiting");
        return;
    }
    snprintf(text, size, "%s/s, %" JSON_INTEGER_FORMAT ":%02d:%02d left",
             sp_bytes_text((uint64_t)sp_number(unit, "resilver_rate"), rate), left / 3600,
             (int)(left / 60 % 60), (int)(left % 60));
}

static void draw(struct watch *w, unsigned k, const json_t *unit)
{
    char bar[BAR + 1], left[32], eta[96];
    json_int_t lacks = sp_number(unit, "lacks_bytes");
    if (lacks > w->units[k].most)
        w->units[k].most = lacks;
    double done = w->units[k].most ? 1 - (double)lacks / (double)w->units[k].most : 0;
    int full = (int)(done * BAR);
    for (int i = 0; i < BAR; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR] = '\0';
    eta_text(unit, eta, sizeof eta);
    sp_bytes_text((uint64_t)lacks, left);
    if (w->terminal) {
        printf("\033[K%-12s [%s] %3.0f %%  %s to bring, %s\n", w->units[k].name, bar, done * 100,
               left, eta);
        w->drawn++;
    } else if (lacks != w->units[k].said) {
        printf("%s: %.0f %%, %s to bring, %s\n", w->units[k].name, done * 100, left, eta);
    }
    w->units[k].said = lacks;
}

/* How many units lack something. */
static unsigned show(struct watch *w, const json_t *units)
{
    size_t i;
    const json_t *unit;
    unsigned lacking = 0;
    if (w->drawn)
        printf("\033[%uA\033[J", w->drawn);
    w->drawn = 0;
    json_array_foreach(units, i, unit)
    {
        const char *name = json_string_value(json_object_get(unit, "name"));
        if (!sp_number(unit, "lacks_segments") || !name)
            continue;
        lacking++;
        unsigned k = find(w, name);
        if (k < UNITS_MAX)
            draw(w, k, unit);
    }
    fflush(stdout);
    return lacking;
}

int sp_unit_watch(struct sp_call *call)
{
    struct watch w = {.terminal = isatty(STDOUT_FILENO)};
    struct sp_error error = {0};
    if (call->json)
        return sp_misuse(call, "--watch is for people: ask for --json again and again");
    for (;;) {
        json_t *volume;
        if (sp_unit_look(&call->config, &volume, &error))
            return sp_fail(&error);
        const char *state = json_string_value(json_object_get(volume, "state"));
        bool stopped = state && strcmp(state, "stopped") == 0;
        unsigned lacking = show(&w, json_object_get(volume, "units"));
        json_decref(volume);
        if (stopped) {
            sp_error_set(&error, SP_UNAVAILABLE, "unit list", "no server runs, so nothing is done");
            sp_error_todo(&error, "start it: sternpost serve");
            return sp_fail(&error);
        }
        if (!lacking)
            break;
        sleep(1);
    }
    for (unsigned i = 0; i < w.count; i++)
        printf("%s: whole\n", w.units[i].name);
    if (w.count == 0)
        printf("no unit lacks anything\n");
    return SP_EXIT_OK;
}
