/* The program: finds the verb, reads the configuration, calls it. */
#include "cmd/cmd.h"
#include "cmd/operation.h"

#include <locale.h>
#include <sodium.h>
#include <stdio.h>

#define COMMON_IMPORT                                                                              \
    "Messages that were imported before are passed over: an import that was interrupted is "       \
    "simply run again, and a\n"                                                                    \
    "second run brings only what is new. What cannot be imported is named and left out; the exit " \
    "code is then 1."

#define GUARDED                                                                                    \
    "It passes the guard: nothing happens that is not proven to lose nothing else, typed, and "    \
    "has waited for\n[guard] cooling_off; until then `sternpost guard undo` takes it back."
#define CONFIRM                                                                                    \
    {                                                                                              \
        "confirm", "TEXT", "what would be typed on a terminal"                                     \
    }

static const struct sp_verb verbs[] = {
    {
        .name = "init",
        .arguments = "DIR",
        .summary = "Makes a platform to try in DIR: configuration, two units and a spare",
        .details = "DIR must be empty or not exist. Everything in it is on one disk: for mail that "
                   "matters, put the units "
                   "on\ndisks of their own (see the comments in DIR/sternpost.conf).",
        .arguments_min = 1,
        .arguments_max = 1,
        .no_config = true,
        .facts = true,
        .options = {{"hostname", "NAME", "the server's name (localhost)"},
                    {"smtp", "PORT", "port for SMTP (2525)"},
                    {"lmtp", "PORT", "port for LMTP (2424)"},
                    {"imap", "PORT", "port for IMAP (1143)"},
                    {"pop3", "PORT", "port for POP3 (1110)"}},
        .run = sp_cmd_init,
    },
    {
        .name = "serve",
        .arguments = "",
        .summary = "Runs the server until SIGTERM or SIGINT",
        .details =
            "Logs on stderr. Stops in good order on the first signal, at once on the "
            "second. SIGHUP reads the\n"
            "certificate again.\n\n"
            "--accept-loss is for the day on which units are lost and a start is refused, "
            "naming what is lacking:\n"
            "the server goes on with what is here. All mailboxes that there are then are "
            "refused to clients, while\n"
            "mail is still taken in, until the missing units come back (`unit add`) and what "
            "only they have is merged,\n"
            "or until you give it up with `account unprotect`. Never start the missing units "
            "by themselves afterwards.\n"
            "It counts for this start only, and does nothing when nothing is lacking.",
        .options = {{"accept-loss", "VOLUME", "start VOLUME without what is lacking"}},
        .run = sp_cmd_serve,
    },
    {
        .name = "account add",
        .arguments = "ADDRESS",
        .summary = "Adds an account; its domain becomes one of ours",
        .details =
            "The password is the first line of standard input, or is asked for on a terminal.",
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .run = sp_cmd_account_add,
    },
    {
        .name = "account list",
        .arguments = "",
        .summary = "Lists accounts with their number of messages and size",
        .facts = true,
        .run = sp_cmd_account_list,
    },
    {
        .name = "account passwd",
        .arguments = "ADDRESS",
        .summary = "Changes an account's password",
        .details =
            "The password is the first line of standard input, or is asked for on a terminal.",
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .run = sp_cmd_account_passwd,
    },
    {
        .name = "account unprotect",
        .arguments = "[ADDRESS]",
        .summary = "Shows clients what there is although something is missing",
        .details =
            "A mailbox with records missing, or after a start with --accept-loss any, is "
            "refused to clients, lest\nthey delete their own copies of what is missing. This "
            "ends it for the account, or with --all for\nall accounts and their list. By way of "
            "the "
            "guard: the address has to be typed (for --all the\nvolume's name). What is merged "
            "back "
            "later comes under new UIDs.",
        .arguments_max = 1,
        .facts = true,
        .options = {{"all", NULL, "all accounts"},
                    {"confirm", "TEXT", "the address or the volume's name: do not ask"}},
        .run = sp_cmd_account_unprotect,
    },
    {
        .name = "account remove",
        .arguments = "ADDRESS",
        .summary = "Removes an account and all its mail",
        .details = GUARDED,
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .options = {CONFIRM},
        .run = sp_cmd_account_remove,
    },
    {
        .name = "unit list",
        .arguments = "",
        .summary = "Lists units with their state, failure domain and free space",
        .details =
            "With --watch: how far the units are that lack segments, each second, until they "
            "are whole (or Ctrl-C).",
        .facts = true,
        .options = {{"watch", NULL, "show the progress of resilvering until it has ended"}},
        .run = sp_cmd_unit_list,
    },
    {
        .name = "unit show",
        .arguments = "NAME",
        .summary = "Tells of one unit: what it holds and lacks, what was found bad, how fast it is",
        .details = "Latencies are those of the last minute or two; counters begin when the server "
                   "starts. docs/status.md\nnames the fields of --json.",
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .run = sp_cmd_unit_show,
    },
    {
        .name = "unit add",
        .arguments = "NAME",
        .summary =
            "Takes a unit back that was ejected or is new, as a spare or where one is wanted",
        .details = "NAME is that of its section in the configuration. What it still has of the log "
                   "is verified and kept; what it\nlacks is brought to it when it becomes a "
                   "replica. Nothing is written over: with --init a folder that is empty\nor "
                   "missing becomes a new unit, and anything else is refused.",
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .options = {{"init", NULL, "make a new unit of its folder, which must be empty"}},
        .run = sp_cmd_unit_add,
    },
    {
        .name = "unit init",
        .arguments = "NAME",
        .summary = "Makes a new, empty unit of the folder that the configuration names",
        .details = "Beside other files only when it is confirmed; never where a unit is: what that "
                   "keeps is let go with `unit\nretire` and deleted with `unit wipe`.",
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .options = {CONFIRM},
        .run = sp_cmd_unit_init,
    },
    {
        .name = "unit retire",
        .arguments = "NAME",
        .summary = "Takes a unit out of the volume for good",
        .details = "A spare takes its place first, and is brought all that it lacks. NAME may be "
                   "the UUID of a unit that is absent.\n" GUARDED,
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .options = {CONFIRM},
        .run = sp_cmd_unit_retire,
    },
    {
        .name = "unit wipe",
        .arguments = "NAME",
        .summary = "Deletes all that a unit keeps which was retired",
        .details = GUARDED,
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .options = {CONFIRM},
        .run = sp_cmd_unit_wipe,
    },
    {
        .name = "guard list",
        .arguments = "",
        .summary = "Lists what is requested of the guard and waits",
        .facts = true,
        .options = {{"all", NULL, "what was done, undone or refused as well"}},
        .run = sp_cmd_guard_list,
    },
    {
        .name = "guard approve",
        .arguments = "ID",
        .summary = "Approves of a request of somebody else",
        .details = "For the users that [guard] approvers names. They are known by the Unix user "
                   "that runs this command.",
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .run = sp_cmd_guard_approve,
    },
    {
        .name = "guard undo",
        .arguments = "ID",
        .summary = "Takes a request back that has not been carried out yet",
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .run = sp_cmd_guard_undo,
    },
    {
        .name = "guard policy",
        .arguments = "OPERATION",
        .summary = "Allows an operation from then on, without a request for each",
        .details = "segments.delete: that segments are deleted which compaction has replaced, when "
                   "`hold` has passed.\n" GUARDED,
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .options = {CONFIRM, {"end", NULL, "end it, at once"}},
        .run = sp_cmd_guard_policy,
    },
    {
        .name = "volume list",
        .arguments = "",
        .summary = "Lists volumes with their state and number of copies",
        .facts = true,
        .run = sp_cmd_volume_list,
    },
    {
        .name = "volume show",
        .arguments = "",
        .summary = "Tells of the volume: copies, scrub, what was found bad, how fast it is",
        .facts = true,
        .run = sp_cmd_volume_show,
    },
    {
        .name = "scrub",
        .arguments = "",
        .summary = "Tells of the scrub: how far it is, what was found and mended",
        .details = "Every copy of every segment is read from time to time (scrub_rate), verified, "
                   "and mended from another\nunit. With --now that is done from the beginning, as "
                   "fast as the disks allow, and waited for; the exit code\nis 1 when something "
                   "could not be mended.",
        .facts = true,
        .options = {{"now", NULL, "do it now, and wait until it has ended"},
                    {"unit", "NAME", "with --now: of that unit's copies alone"}},
        .run = sp_cmd_scrub,
    },
    {
        .name = "compact",
        .arguments = "",
        .summary = "Tells of compaction: what was given back, and what waits to be deleted",
        .details = "Segments in which little is still needed are written anew without the rest, "
                   "once it is past its hold. What\nthey replace is retired: its files wait for "
                   "the guard. With --now that is done at once, and waited for.",
        .facts = true,
        .options = {{"now", NULL, "do it now, and wait until it has ended"}},
        .run = sp_cmd_compact,
    },
    {
        .name = "undelete",
        .arguments = "",
        .summary = "Brings back mail that was expunged, as long as it is held",
        .details = "It comes back into the mailbox that it was in, which is made again if it was "
                   "deleted, under new UIDs, with\nits flags and dates. Messages of which the "
                   "account still has a copy (they were moved) are passed over.\nTIME is a date "
                   "(2026-01-31, 2026-01-31T12:00:00Z) or how long ago (90m, 12h, 3d).",
        .facts = true,
        .options = {{"account", "ADDRESS", "whose"},
                    {"since", "TIME", "only what was expunged since then"},
                    {"mailbox", "NAME", "only what was in this mailbox"}},
        .run = sp_cmd_undelete,
    },
    {
        .name = "erase",
        .arguments = "",
        .summary = "Has expunged mail held no longer: it cannot be brought back, and is dropped",
        .details = "For what the law wants erased. It takes what has been expunged, and with "
                   "--uid also what has not. A record of\nit stays in the log: who, when, why, "
                   "and of what. The segments that still have it are written anew at once;\n"
                   "the files that these replace wait for the guard. It passes the guard itself: "
                   "`sternpost guard`.",
        .facts = true,
        .options = {{"account", "ADDRESS", "whose"},
                    {"mailbox", "NAME", "only what was in this mailbox"},
                    {"uid", "SET", "these messages, expunged or not: 17 or 3:9,12"},
                    {"removed-account", "UUID", "all of an account that was removed"},
                    {"why", "TEXT", "the reason, for the record"},
                    {"confirm", "WHAT", "the address (or UUID) once more"}},
        .run = sp_cmd_erase,
    },
    {
        .name = "import maildir",
        .arguments = "PATH",
        .summary = "Imports a Maildir with its folders, flags and keywords",
        .details = COMMON_IMPORT,
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .options = {{"account", "ADDRESS", "whose mail it becomes"},
                    {"mailbox", "NAME",
                     "what the Maildir's own inbox becomes (INBOX); its folders keep their names"}},
        .run = sp_cmd_import_maildir,
    },
    {
        .name = "import mbox",
        .arguments = "PATH",
        .summary = "Imports an mbox file",
        .details = COMMON_IMPORT,
        .arguments_min = 1,
        .arguments_max = 1,
        .facts = true,
        .options = {{"account", "ADDRESS", "whose mail it becomes"},
                    {"mailbox", "NAME", "where it goes (INBOX)"}},
        .run = sp_cmd_import_mbox,
    },
    {
        .name = "index rebuild",
        .arguments = "",
        .summary = "Throws the index away and makes it again from the log",
        .details = "Needs the server to be stopped. Not needed in ordinary life: a damaged index "
                   "is rebuilt at start.",
        .facts = true,
        .run = sp_cmd_index_rebuild,
    },
    {
        .name = "recover scan",
        .arguments = "SOURCE...",
        .summary = "Finds every block on raw disks, images or files, whatever is left of them",
        .details = "A SOURCE is a block device, a disk image, a file, or a folder of files. It is "
                   "opened read-only and never\nwritten; no file system is needed. What is found "
                   "goes to the folder that --out names, which must not be\non a source. Scanning "
                   "again into the same folder adds to it.",
        .arguments_min = 1,
        .arguments_max = SP_VERB_ARGUMENTS_MAX,
        .no_config = true,
        .facts = true,
        .options = {{"out", "DIR", "where the blocks go; made if it is missing"}},
        .run = sp_cmd_recover_scan,
    },
    {
        .name = "recover rebuild",
        .arguments = "DIR",
        .summary = "Makes a platform from what a scan found, and says what is missing",
        .details = "DIR is where `recover scan` put the blocks; they stay as they are. Beside them "
                   "come three units, an index,\nDIR/sternpost.conf for `serve`, and the account "
                   "of what is missing (rebuild.txt, rebuild.json). A mailbox\nwith records "
                   "missing is refused to clients, lest they delete their own copies to match it.",
        .arguments_min = 1,
        .arguments_max = 1,
        .no_config = true,
        .facts = true,
        .options = {{"to", "DIR", "make the platform there, not in the scan's own folder"},
                    {"volume", "UUID", "which volume, if the scan found several"},
                    {"accept-loss", NULL, "open incomplete mailboxes as they are"}},
        .run = sp_cmd_recover_rebuild,
    },
    {
        .name = "recover dump",
        .arguments = "FILE",
        .summary = "Prints a segment file as lines of JSON: head, records, trailer, sound end",
        .details = "Also of a damaged one, as far as its blocks are in their places. "
                   "docs/format.md says what the fields mean.",
        .arguments_min = 1,
        .arguments_max = 1,
        .no_config = true,
        .run = sp_cmd_recover_dump,
    },
    {.name = NULL},
};

int main(int argc, char **argv)
{
    struct sp_call call;
    struct sp_error error = {0};
    setlocale(LC_CTYPE, "C.UTF-8");
    if (sodium_init() < 0) {
        sp_error_set(&error, SP_IO, "libsodium", "cannot be initialised");
        return sp_fail(&error);
    }
    sp_operation_wipe_json();
    enum sp_status status = sp_call_parse(verbs, argc, argv, &call);
    if (status == SP_EOF)
        return sp_finish(SP_EXIT_OK);
    if (status)
        return SP_EXIT_MISUSE;
    if (!call.verb->no_config) {
        const char *path;
        if (sp_config_find(call.config_path, &path, &error) ||
            sp_config_read(path, &call.config, &error))
            return sp_fail(&error);
    }
    int code = call.verb->run(&call);
    if (!call.verb->no_config)
        sp_config_release(&call.config);
    return sp_finish(code);
}
