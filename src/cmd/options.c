#include "cmd/cmd.h"

#include <stdarg.h>
#include <stdio.h>

static void print_common(FILE *out, bool facts, bool config)
{
    if (config)
        fprintf(out, "  -c, --config FILE     the configuration (./sternpost.conf, then "
                     "/etc/sternpost/sternpost.conf)\n");
    if (facts)
        fprintf(out, "      --json            print facts as JSON\n");
    fprintf(out, "  -h, --help            this text\n");
}

static void print_overview(const struct sp_verb *verbs, FILE *out)
{
    fprintf(
        out,
        "Sternpost %s: a mail platform that does not lose mail.\n\nusage: sternpost VERB [...]\n\n",
        SP_VERSION);
    for (const struct sp_verb *v = verbs; v->name; v++)
        fprintf(out, "  %-18s %s\n", v->name, v->summary);
    fprintf(out, "\n");
    print_common(out, false, true);
    fprintf(out,
            "      --version         the version\n\n`sternpost VERB --help` tells more of one.\n");
}

static void print_group(const struct sp_verb *verbs, const char *group, FILE *out)
{
    size_t len = strlen(group);
    fprintf(out, "usage: sternpost %s VERB [...]\n\n", group);
    for (const struct sp_verb *v = verbs; v->name; v++)
        if (strncmp(v->name, group, len) == 0 && v->name[len] == ' ')
            fprintf(out, "  %-18s %s\n", v->name, v->summary);
    fprintf(out, "\n`sternpost %s VERB --help` tells more of one.\n", group);
}

static void print_verb(const struct sp_verb *verb, FILE *out)
{
    fprintf(out, "usage: sternpost %s%s%s [options]\n\n%s.\n", verb->name,
            *verb->arguments ? " " : "", verb->arguments, verb->summary);
    if (verb->details)
        fprintf(out, "\n%s\n", verb->details);
    fprintf(out, "\n");
    for (const struct sp_verb_option *o = verb->options; o->name; o++) {
        char form[64];
        snprintf(form, sizeof form, "--%s%s%s", o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        fprintf(out, "      %-17s %s\n", form, o->help);
    }
    print_common(out, verb->facts, !verb->no_config);
}

static enum sp_status misuse(const char *what, const char *format, ...) SP_PRINTF(2, 3);
static enum sp_status misuse(const char *what, const char *format, ...)
{
    struct sp_error error;
    char why[512];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    sp_error_set(&error, SP_INVALID, what, "%s", why);
    sp_error_todo(&error, "see `sternpost%s%s --help`",
                  strcmp(what, "command line") == 0 ? "" : " ",
                  strcmp(what, "command line") == 0 ? "" : what);
    sp_error_print(&error);
    return SP_INVALID;
}

/* The command line as it is being taken apart. */
struct line {
    const struct sp_verb *verbs;
    int argc, at;
    char **argv;
    const char *first;            /* the verb's first word, while the second is awaited */
    bool help, version, verbatim; /* verbatim: after -- */
    struct sp_call *call;
};

static const char *where(const struct line *line)
{
    return line->call->verb ? line->call->verb->name : line->first ? line->first : "command line";
}

/* The value of an option: what follows the `=`, or the next word. */
static enum sp_status take_value(struct line *line, const char *option, const char *inline_value,
                                 const char **ret_value)
{
    if (inline_value) {
        *ret_value = inline_value;
        return SP_OK;
    }
    if (line->at + 1 >= line->argc)
        return misuse(where(line), "%s needs a value", option);
    *ret_value = line->argv[++line->at];
    return SP_OK;
}

/* --json after the verb must be known to it; before the verb this is seen when all is read. */
static enum sp_status take_option(struct line *line)
{
    const char *word = line->argv[line->at];
    struct sp_call *call = line->call;
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
        line->help = true;
        return SP_OK;
    }
    if (strcmp(word, "--version") == 0 && !call->verb) {
        line->version = true;
        return SP_OK;
    }
    if (strcmp(word, "--json") == 0) {
        call->json = true;
        return SP_OK;
    }
    if (strncmp(word, "-c", 2) == 0)
        return take_value(line, "-c", word[2] ? word + 2 : NULL, &call->config_path);
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    const char *inline_value = equals ? equals + 1 : NULL;
    if (len == 8 && strncmp(word, "--config", 8) == 0)
        return take_value(line, "--config", inline_value, &call->config_path);
    for (unsigned i = 0; call->verb && call->verb->options[i].name; i++) {
        const struct sp_verb_option *option = &call->verb->options[i];
        if (strncmp(word, "--", 2) != 0 || len != strlen(option->name) + 2 ||
            strncmp(word + 2, option->name, len - 2) != 0)
            continue;
        if (option->value)
            return take_value(line, word, inline_value, &call->options[i]);
        if (inline_value)
            return misuse(where(line), "--%s takes no value", option->name);
        call->options[i] = "";
        return SP_OK;
    }
    return misuse(where(line), "%s: unknown option", word);
}

static enum sp_status take_verb_word(struct line *line, const char *word)
{
    char name[128];
    if (line->first)
        snprintf(name, sizeof name, "%s %s", line->first, word);
    else
        snprintf(name, sizeof name, "%s", word);
    size_t len = strlen(name);
    for (const struct sp_verb *v = line->verbs; v->name; v++) {
        if (strcmp(v->name, name) == 0) {
            line->call->verb = v;
            return SP_OK;
        }
        if (!line->first && strncmp(v->name, name, len) == 0 && v->name[len] == ' ') {
            line->first = word;
            return SP_OK;
        }
    }
    return misuse(where(line), "%s: unknown verb", word);
}

static enum sp_status take_word(struct line *line)
{
    struct sp_call *call = line->call;
    const char *word = line->argv[line->at];
    if (!line->verbatim && strcmp(word, "--") == 0) {
        line->verbatim = true;
        return SP_OK;
    }
    if (!line->verbatim && word[0] == '-' && word[1])
        return take_option(line);
    if (!call->verb)
        return take_verb_word(line, word);
    if (call->arguments_count == call->verb->arguments_max ||
        call->arguments_count == SP_VERB_ARGUMENTS_MAX)
        return misuse(call->verb->name, "%s: one argument too many", word);
    call->arguments[call->arguments_count++] = word;
    return SP_OK;
}

enum sp_status sp_call_parse(const struct sp_verb *verbs, int argc, char **argv,
                             struct sp_call *ret_call)
{
    struct line line = {.verbs = verbs, .argc = argc, .argv = argv, .call = ret_call};
    memset(ret_call, 0, sizeof *ret_call);
    for (line.at = 1; line.at < argc; line.at++) {
        enum sp_status status = take_word(&line);
        if (status)
            return status;
    }
    const struct sp_verb *verb = ret_call->verb;
    if (line.version && !verb) {
        printf("sternpost %s\n", SP_VERSION);
        return SP_EOF;
    }
    if (line.help) {
        if (verb)
            print_verb(verb, stdout);
        else if (line.first)
            print_group(verbs, line.first, stdout);
        else
            print_overview(verbs, stdout);
        return SP_EOF;
    }
    if (!verb) {
        if (line.first)
            print_group(verbs, line.first, stderr);
        else
            print_overview(verbs, stderr);
        return SP_INVALID;
    }
    if (ret_call->json && !verb->facts)
        return misuse(verb->name, "--json: it prints no facts");
    if (ret_call->arguments_count < verb->arguments_min)
        return misuse(verb->name, "an argument is missing: %s", verb->arguments);
    return SP_OK;
}
