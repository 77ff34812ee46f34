/* The program's verbs: how one is described, called, and answers.
 *
 * Model. A verb is a table entry (main.c) and a function. The words of the command line are taken
 * apart by options.c from that entry, which is also what --help prints. A verb returns an exit
 * code: 0 done, 1 failed (it has printed the error), 2 misuse. Facts go to stdout, as text or with
 * --json as JSON; everything else goes to stderr.
 *
 * What needs the store goes through operations (operation.h): in the running server, if there is
 * one, else right here.
 */
#ifndef SP_CMD_CMD_H
#define SP_CMD_CMD_H

#include "cmd/config.h"

#include <jansson.h>

#define SP_EXIT_OK     0
#define SP_EXIT_FAILED 1
#define SP_EXIT_MISUSE 2

#define SP_VERB_OPTIONS_MAX   8U
#define SP_VERB_ARGUMENTS_MAX 256U

struct sp_verb_option {
    const char *name;  /* "mailbox": --mailbox */
    const char *value; /* "NAME"; NULL: a flag */
    const char *help;
};

struct sp_call;
struct sp_verb {
    const char *name;      /* "account add": one or two words */
    const char *arguments; /* "ADDRESS"; "" when it takes none */
    const char *summary;   /* one line */
    const char *details;   /* further text for --help; may be NULL */
    unsigned arguments_min, arguments_max;
    bool no_config;                                     /* it does not read the configuration */
    bool facts;                                         /* it knows --json */
    struct sp_verb_option options[SP_VERB_OPTIONS_MAX]; /* ends in one without a name */
    int (*run)(struct sp_call *call);
};

struct sp_call {
    const struct sp_verb *verb;
    const char *config_path; /* as given with -c; NULL */
    bool json;
    const char *arguments[SP_VERB_ARGUMENTS_MAX];
    unsigned arguments_count;
    const char *options[SP_VERB_OPTIONS_MAX]; /* as verb->options: NULL: not given; a flag: "" */
    struct sp_config config;                  /* unless verb->no_config */
};

int sp_cmd_init(struct sp_call *call);
int sp_cmd_serve(struct sp_call *call);
int sp_cmd_unit_list(struct sp_call *call);
int sp_cmd_unit_add(struct sp_call *call);
int sp_cmd_unit_show(struct sp_call *call);
int sp_cmd_unit_init(struct sp_call *call);
int sp_cmd_unit_retire(struct sp_call *call);
int sp_cmd_unit_wipe(struct sp_call *call);
int sp_cmd_guard_list(struct sp_call *call);
int sp_cmd_guard_approve(struct sp_call *call);
int sp_cmd_guard_undo(struct sp_call *call);
int sp_cmd_guard_policy(struct sp_call *call);
int sp_cmd_volume_list(struct sp_call *call);
int sp_cmd_volume_show(struct sp_call *call);
int sp_cmd_scrub(struct sp_call *call);
int sp_cmd_compact(struct sp_call *call);
int sp_cmd_undelete(struct sp_call *call);
int sp_cmd_erase(struct sp_call *call);
int sp_cmd_account_add(struct sp_call *call);
int sp_cmd_account_list(struct sp_call *call);
int sp_cmd_account_passwd(struct sp_call *call);
int sp_cmd_account_remove(struct sp_call *call);
int sp_cmd_account_unprotect(struct sp_call *call);
int sp_cmd_index_rebuild(struct sp_call *call);
int sp_cmd_import_maildir(struct sp_call *call);
int sp_cmd_import_mbox(struct sp_call *call);
int sp_cmd_recover_scan(struct sp_call *call);
int sp_cmd_recover_rebuild(struct sp_call *call);
int sp_cmd_recover_dump(struct sp_call *call);

/* What destroys data goes this way (guard.c): it is checked, what was found is shown, and what the
 * operator types, or confirm says, is requested. confirm: NULL: it is typed, on a terminal. Returns
 * the exit code. */
int sp_guard_ask(struct sp_call *call, const char *operation, const char *subject,
                 const char *confirm);
/* The text typed on a terminal for `wanted`, or confirm. SP_DENIED: not the same, or no terminal.
 */
enum sp_status sp_guard_confirm(const char *subject, const char *wanted, const char *confirm,
                                struct sp_error *error) SP_MUST_USE;

/* ---- The command line (options.c) ---- */

/* Finds the verb and fills *ret_call; verbs ends in one without a name. SP_OK; SP_EOF: help or
 * version was printed, exit with 0; SP_INVALID: misuse, said on stderr. */
enum sp_status sp_call_parse(const struct sp_verb *verbs, int argc, char **argv,
                             struct sp_call *ret_call) SP_MUST_USE;

/* ---- Answers (print.c) ---- */

/* Prints the error and returns the exit code for it. */
int sp_fail(const struct sp_error *error);
/* Prints `sternpost: ...` for misuse and a hint at --help; returns SP_EXIT_MISUSE. */
int sp_misuse(const struct sp_call *call, const char *format, ...) SP_PRINTF(2, 3);
/* Flushes stdout; SP_EXIT_FAILED, with an error, when what was printed could not be written. */
int sp_finish(int code);
/* To stdout, indented. */
void sp_print_json(const json_t *value);

/* Rows of objects as a table with aligned columns. */
enum sp_column_form { SP_COLUMN_TEXT, SP_COLUMN_NUMBER, SP_COLUMN_BYTES };
struct sp_column {
    const char *title;
    const char *key; /* in each row */
    enum sp_column_form form;
};
/* columns ends in one without a title. A value that is absent or null is shown as "-". */
void sp_print_table(const json_t *rows, const struct sp_column *columns);

/* "12.3 MiB". */
const char *sp_bytes_text(uint64_t bytes, char ret_text[32]);

/* A line of input, such as a password: from a terminal with a prompt and, if secret, without echo;
 * otherwise the first line of stdin. Without its line end; malloc'ed, wipe it when it was secret.
 * SP_EOF: nothing there; SP_LIMIT: more than 1000 bytes; SP_IO. */
enum sp_status sp_read_line(const char *prompt, bool secret, char **ret_line) SP_MUST_USE;

#endif
