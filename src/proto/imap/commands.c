/* Which function runs a command, and the commands that need no more than a line. */
#include "proto/imap/state.h"

#include "proto/imap/respond.h"

static bool may_log_in(const struct sp_imap *s)
{
    return s->peer.tls || s->peer.cleartext_ok;
}

void sp_imap_add_capability(const struct sp_imap *s, struct sp_buf *buf)
{
    sp_buf_add_str(buf, " IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE");
    if (!s->authenticated) {
        if (s->env->tls_available && !s->peer.tls)
            sp_buf_add_str(buf, " STARTTLS");
        sp_buf_add_str(buf, may_log_in(s) ? " AUTH=PLAIN AUTH=SCRAM-SHA-256" : " LOGINDISABLED");
        if (may_log_in(s) && sp_scram_can_bind(&s->peer))
            sp_buf_add_str(buf, " AUTH=SCRAM-SHA-256-PLUS");
        return;
    }
    sp_buf_add_str(buf,
                   " NAMESPACE CHILDREN UIDPLUS UNSELECT MOVE MULTIAPPEND CONDSTORE QRESYNC "
                   "ESEARCH WITHIN SORT"
                   " THREAD=ORDEREDSUBJECT THREAD=REFERENCES LIST-EXTENDED LIST-STATUS SPECIAL-USE"
                   " CREATE-SPECIAL-USE STATUS=SIZE"
                   " SEARCHRES ESORT PARTIAL UTF8=ACCEPT UIDONLY INPROGRESS SORT=DISPLAY"
                   " OBJECTID SAVEDATE BINARY PREVIEW REPLACE UNAUTHENTICATE"
                   " ACL RIGHTS=texk LIST-MYRIGHTS"
                   " APPENDLIMIT=");
    sp_buf_add_decimal(buf, s->env->message_bytes_max);
}

static void run_capability(struct sp_imap *s)
{
    sp_buf_add(&s->out, SP_S("* CAPABILITY"));
    sp_imap_add_capability(s, &s->out);
    sp_buf_add(&s->out, SP_S("\r\n"));
    sp_imap_finish_ok(s);
}

static void run_enable(struct sp_imap *s)
{
    unsigned fresh = s->command.enable;
    if (s->condstore)
        fresh &= ~SP_IMAP_ENABLE_CONDSTORE;
    fresh &= ~s->enabled;
    s->enabled |= fresh;
    sp_buf_add_str(&s->out, "* ENABLED");
    for (unsigned i = 0; i < SP_IMAP_ENABLE_COUNT; i++) {
        if (fresh & (1U << i)) {
            sp_buf_add_byte(&s->out, ' ');
            sp_buf_add_str(&s->out, sp_imap_enable_names[i]);
        }
    }
    sp_buf_add_str(&s->out, "\r\n");
    s->rev2 = (s->enabled & SP_IMAP_ENABLE_REV2) != 0;
    s->uidonly = (s->enabled & SP_IMAP_ENABLE_UIDONLY) != 0;
    s->utf8 = (s->enabled & (SP_IMAP_ENABLE_REV2 | SP_IMAP_ENABLE_UTF8)) != 0;
    s->qresync = (s->enabled & SP_IMAP_ENABLE_QRESYNC) != 0;
    if (fresh & (SP_IMAP_ENABLE_CONDSTORE | SP_IMAP_ENABLE_QRESYNC)) /* RFC 7162, 3.2.3 */
        sp_imap_enable_condstore(s);
    sp_imap_finish_ok(s);
}

/* env->software is "Name version". */
static void run_id(struct sp_imap *s)
{
    struct sp_slice software = sp_slice_str(s->env->software);
    size_t blank = sp_slice_find(software, ' ');
    sp_buf_add(&s->out, SP_S("* ID (\"name\" \""));
    sp_imap_add_text(&s->out, sp_slice_sub(software, 0, blank));
    if (blank != SIZE_MAX) {
        sp_buf_add(&s->out, SP_S("\" \"version\" \""));
        sp_imap_add_text(&s->out, sp_slice_from(software, blank + 1));
    }
    sp_buf_add(&s->out, SP_S("\")\r\n"));
    sp_imap_finish_ok(s);
}

static void run_idle(struct sp_imap *s)
{
    sp_buf_add(&s->out, SP_S("+ idling\r\n"));
    sp_imap_read_on(s, SP_IMAP_IDLING);
    sp_imap_idle_news(s);
}

static void run_logout(struct sp_imap *s)
{
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add(final, SP_S("OK LOGOUT completed\r\n"));
    sp_buf_add(&s->out, SP_S("* BYE Logging out\r\n"));
    sp_imap_conclude(s);
    sp_buf_release(&s->in);
    s->phase = SP_IMAP_CLOSED;
}

static void run_namespace(struct sp_imap *s)
{
    sp_buf_add(&s->out,
               SP_S("* NAMESPACE ((\"\" \"/\")) ((\"" SP_OTHER_USERS "/\" \"/\")) NIL\r\n"));
    sp_imap_finish_ok(s);
}

/* RFC 8437, 2: as before the login, but for TLS. Nothing is expunged, and what was enabled is not
 * any more. */
static void run_unauthenticate(struct sp_imap *s)
{
    sp_imap_unselect(s);
    s->authenticated = s->condstore = s->qresync = s->rev2 = s->utf8 = s->uidonly = false;
    s->enabled = 0;
    s->account = (struct sp_uuid){0};
    s->started_ms = s->active_ms;
    struct sp_buf *final = sp_imap_final(s);
    sp_buf_add(final, SP_S("OK [CAPABILITY"));
    sp_imap_add_capability(s, final);
    sp_buf_add(final, SP_S("] UNAUTHENTICATE completed\r\n"));
    sp_imap_end(s);
}

static const char *refusal(const struct sp_imap *s)
{
    unsigned states = sp_imap_verb_states(s->command.verb);
    if (!s->authenticated)
        return states & SP_IMAP_IN_NOT_AUTHENTICATED ? NULL : "Log in first";
    if (!(states & (SP_IMAP_IN_AUTHENTICATED | SP_IMAP_IN_SELECTED)))
        return "Already logged in";
    return s->selected || (states & SP_IMAP_IN_AUTHENTICATED) ? NULL : "Select a mailbox first";
}

/* RFC 9586, 3: what names messages by number, or would be answered with numbers. */
static bool wants_uids(const struct sp_imap *s)
{
    const struct sp_imap_command *command = &s->command;
    switch (command->verb) {
    case SP_IMAP_COPY:
    case SP_IMAP_FETCH:
    case SP_IMAP_MOVE:
    case SP_IMAP_STORE:
        return !command->uid;
    case SP_IMAP_SEARCH:
    case SP_IMAP_SORT:
    case SP_IMAP_THREAD:
        return !command->uid || command->search->has_numbers;
    case SP_IMAP_SELECT:
    case SP_IMAP_EXAMINE:
        return command->mailbox.resync && command->mailbox.resync->match_seqs.count;
    default:
        return false;
    }
}

void sp_imap_run(struct sp_imap *s)
{
    static void (*const runners[SP_IMAP_VERBS])(struct sp_imap *) = {
        [SP_IMAP_AUTHENTICATE] = sp_imap_run_authenticate,
        [SP_IMAP_CAPABILITY] = run_capability,
        [SP_IMAP_CHECK] = sp_imap_finish_ok,
        [SP_IMAP_CLOSE] = sp_imap_run_close,
        [SP_IMAP_COPY] = sp_imap_run_copy,
        [SP_IMAP_CREATE] = sp_imap_run_manage,
        [SP_IMAP_DELETE] = sp_imap_run_manage,
        [SP_IMAP_DELETEACL] = sp_imap_run_acl,
        [SP_IMAP_ENABLE] = run_enable,
        [SP_IMAP_EXAMINE] = sp_imap_run_select,
        [SP_IMAP_EXPUNGE] = sp_imap_run_expunge,
        [SP_IMAP_FETCH] = sp_imap_run_fetch,
        [SP_IMAP_GETACL] = sp_imap_run_acl,
        [SP_IMAP_ID] = run_id,
        [SP_IMAP_IDLE] = run_idle,
        [SP_IMAP_LIST] = sp_imap_run_list,
        [SP_IMAP_LISTRIGHTS] = sp_imap_run_acl,
        [SP_IMAP_LOGIN] = sp_imap_run_login,
        [SP_IMAP_LOGOUT] = run_logout,
        [SP_IMAP_LSUB] = sp_imap_run_list,
        [SP_IMAP_MOVE] = sp_imap_run_copy,
        [SP_IMAP_MYRIGHTS] = sp_imap_run_acl,
        [SP_IMAP_NAMESPACE] = run_namespace,
        [SP_IMAP_NOOP] = sp_imap_finish_ok,
        [SP_IMAP_RENAME] = sp_imap_run_manage,
        [SP_IMAP_SEARCH] = sp_imap_run_search,
        [SP_IMAP_SELECT] = sp_imap_run_select,
        [SP_IMAP_SETACL] = sp_imap_run_acl,
        [SP_IMAP_SORT] = sp_imap_run_search,
        [SP_IMAP_STARTTLS] = sp_imap_run_starttls,
        [SP_IMAP_STATUS] = sp_imap_run_status,
        [SP_IMAP_STORE] = sp_imap_run_store,
        [SP_IMAP_SUBSCRIBE] = sp_imap_run_manage,
        [SP_IMAP_THREAD] = sp_imap_run_search,
        [SP_IMAP_UNAUTHENTICATE] = run_unauthenticate,
        [SP_IMAP_UNSELECT] = sp_imap_run_unselect,
        [SP_IMAP_UNSUBSCRIBE] = sp_imap_run_manage,
    };
    const char *why = refusal(s);
    if (why)
        sp_imap_bad(s, why);
    else if (s->uidonly && wants_uids(s))
        sp_imap_bad(s, "[UIDREQUIRED] Only UIDs can be used");
    else if (runners[s->command.verb])
        runners[s->command.verb](s);
    else
        sp_imap_bad(s, "APPEND wants a literal"); /* only the assembler begins an APPEND */
}
