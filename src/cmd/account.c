/* `sternpost account add|list|passwd|remove|unprotect`. */
#include "cmd/cmd.h"
#include "cmd/operation.h"
#include "guard/guard.h"

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
    bool all = call->options[0] != NULL;
    if (all == (call->arguments_count == 1))
        return sp_misuse(call, "give an address, or --all");
    return sp_guard_ask(call, "account.unprotect", all ? SP_GUARD_ALL_ACCOUNTS : call->arguments[0],
                        call->options[1]);
}
