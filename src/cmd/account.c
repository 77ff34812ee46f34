/* `sternpost account add|list|passwd|remove|unprotect`. */
#include "cmd/cmd.h"
#include "cmd/operation.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void wipe(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

/* From a terminal it is asked for twice. */
static enum sp_status read_password(const char *address, char **ret_password,
                                    struct sp_error *error)
{
    char prompt[400], *again = NULL, *password = NULL;
    snprintf(prompt, sizeof prompt, "Password for %.300s: ", address);
    enum sp_status status = sp_read_line(prompt, true, &password);
    if (!status && !*password)
        status = SP_EOF;
    if (!status && isatty(STDIN_FILENO)) {
        status = sp_read_line("Again: ", true, &again);
        if (!status && strcmp(password, again) != 0)
            status = SP_CONFLICT;
        wipe(again);
    }
    if (!status) {
        *ret_password = password;
        return SP_OK;
    }
    wipe(password);
    sp_error_set(error, status, "password",
                 status == SP_EOF        ? "none was given"
                 : status == SP_LIMIT    ? "longer than 1000 bytes"
                 : status == SP_CONFLICT ? "the two are not the same"
                                         : "cannot be read");
    sp_error_todo(error, "%s",
                  "write it on the first line of standard input, or type it when asked");
    return status;
}

/* add and passwd differ in their name alone. */
static int set_password(struct sp_call *call, const char *operation, const char *done)
{
    struct sp_error error = {0};
    const char *address = call->arguments[0];
    char *password = NULL;
    json_t *result;
    if (read_password(address, &password, &error))
        return sp_fail(&error);
    json_t *parameters = json_pack("{s:s,s:s}", "address", address, "password", password);
    wipe(password);
    if (!parameters) {
        sp_error_set(&error, SP_INVALID, address, "address and password must be UTF-8");
        return sp_fail(&error);
    }
    if (sp_operation_run(&call->config, operation, parameters, &result, &error))
        return sp_fail(&error);
    if (call->json)
        sp_print_json(result);
    else
        printf("%s: %s\n", json_string_value(json_object_get(result, "address")), done);
    json_decref(result);
    return SP_EXIT_OK;
}

int sp_cmd_account_add(struct sp_call *call)
{
    return set_password(call, "account.add", "added");
}

int sp_cmd_account_passwd(struct sp_call *call)
{
    return set_password(call, "account.passwd", "the password is changed");
}

int sp_cmd_account_list(struct sp_call *call)
{
    static const struct sp_column columns[] = {
        {"ADDRESS", "address", SP_COLUMN_TEXT},
        {"MAILBOXES", "mailboxes", SP_COLUMN_NUMBER},
        {"MESSAGES", "messages", SP_COLUMN_NUMBER},
        {"SIZE", "bytes", SP_COLUMN_BYTES},
        {"PROTECTED", "protected", SP_COLUMN_TEXT},
        {"ID", "id", SP_COLUMN_TEXT},
        {NULL, NULL, SP_COLUMN_TEXT},
    };
    struct sp_error error = {0};
    json_t *accounts;
    if (sp_operation_run(&call->config, "account.list", NULL, &accounts, &error))
        return sp_fail(&error);
    if (call->json)
        sp_print_json(accounts);
    else
        sp_print_table(accounts, columns);
    json_decref(accounts);
    return SP_EXIT_OK;
}

int sp_cmd_account_remove(struct sp_call *call)
{
    return sp_guard_ask(call, "account.remove", call->arguments[0], call->options[0]);
}

int sp_cmd_account_unprotect(struct sp_call *call)
{
    struct sp_error error = {0};
    bool all = call->options[0] != NULL;
    const char *typed = call->options[1];
    const char *what = all ? call->config.volume.name : call->arguments[0];
    char prompt[600], *line = NULL;
    json_t *result;
    if (all == (call->arguments_count == 1))
        return sp_misuse(call, "give an address, or --all");
    if (!typed) {
        snprintf(prompt, sizeof prompt,
                 "Clients will see what there is, and may delete their own copies of what is "
                 "missing.\nType %s%.300s to confirm: ",
                 all ? "the volume's name, " : "", what);
        if (sp_read_line(prompt, false, &line) == SP_OK)
            typed = line;
    }
    bool confirmed = typed && strcmp(typed, what) == 0;
    free(line);
    if (!confirmed) {
        sp_error_set(&error, SP_DENIED, what, "not confirmed; nothing was changed");
        sp_error_todo(&error, "type %s when asked (or on standard input), or give --confirm %s",
                      what, what);
        return sp_fail(&error);
    }
    json_t *parameters = all ? NULL : json_pack("{s:s}", "address", what);
    if (sp_operation_run(&call->config, "account.unprotect", parameters, &result, &error))
        return sp_fail(&error);
    if (call->json)
        sp_print_json(result);
    else
        printf("%s: %" JSON_INTEGER_FORMAT " protections ended\n", what,
               json_integer_value(json_object_get(result, "unprotected")));
    json_decref(result);
    return SP_EXIT_OK;
}
