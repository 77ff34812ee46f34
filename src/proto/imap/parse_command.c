#include "proto/imap/command.h"
#include "proto/imap/rights.h"

#define ANY      (SP_IMAP_IN_NOT_AUTHENTICATED | SP_IMAP_IN_AUTHENTICATED | SP_IMAP_IN_SELECTED)
#define NOT_AUTH SP_IMAP_IN_NOT_AUTHENTICATED
#define AUTH     (SP_IMAP_IN_AUTHENTICATED | SP_IMAP_IN_SELECTED)
#define SELECTED SP_IMAP_IN_SELECTED

static bool parse_append(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    /* The text goes up to the message. */
    command->append.message = sp_arena_alloc(p->arena, sizeof *command->append.message);
    if (!command->append.message)
        return sp_imap_no_memory(p);
    return sp_imap_take_space(p) && sp_imap_take_mailbox(p, &command->append.name) &&
           sp_imap_take_space(p) && sp_imap_parse_append_message(p, command->append.message);
}

/* RFC 8508, 6: one message, by its number or UID, then what APPEND has. */
static bool parse_replace(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    struct sp_imap_set set;
    if (!sp_imap_take_space(p) || !sp_imap_take_set(p, &set))
        return false;
    if (set.count != 1 || set.ptr[0].first != set.ptr[0].last)
        return sp_imap_wrong(p, "REPLACE wants one message");
    command->append.replaced = set;
    return parse_append(p, command);
}

static bool parse_authenticate(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    if (!sp_imap_take_space(p) || !sp_imap_take_word(p, &command->authenticate.mechanism))
        return false;
    if (sp_imap_skip(p, ' ')) {
        command->authenticate.has_initial = true;
        command->authenticate.initial = p->rest;
        p->rest = sp_slice_from(p->rest, p->rest.len);
    }
    return true;
}

static bool parse_nothing(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    return true;
}

static bool parse_copy(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    return sp_imap_take_space(p) && sp_imap_take_set(p, &command->copy.set) &&
           sp_imap_take_space(p) && sp_imap_take_mailbox(p, &command->copy.name);
}

static bool parse_mailbox(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    return sp_imap_take_space(p) && sp_imap_take_mailbox(p, &command->mailbox.name);
}

/* (USE (\Drafts ...)), RFC 6154, 3 */
static bool parse_create(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    struct sp_slice name;
    if (!parse_mailbox(p, command))
        return false;
    if (sp_imap_at_end(p))
        return true;
    if (!sp_imap_take_space(p) || !sp_imap_take(p, '('))
        return false;
    if (!sp_imap_skip_word(p, "USE"))
        return sp_imap_wrong(p, "Unknown CREATE parameter");
    if (!sp_imap_take_space(p) || !sp_imap_take(p, '('))
        return false;
    while (!sp_imap_skip(p, ')')) {
        const uint8_t *start = p->rest.ptr;
        if (!sp_imap_take(p, '\\') || !sp_imap_take_atom(p, &name))
            return false;
        uint32_t use = sp_imap_special_use(sp_slice(start, name.len + 1));
        if (!use) {
            p->bad_use = true;
            return sp_imap_wrong(p, "Unknown special use");
        }
        command->mailbox.special_use |= use;
        (void)sp_imap_skip(p, ' ');
    }
    return sp_imap_take(p, ')');
}

const char *const sp_imap_enable_names[SP_IMAP_ENABLE_COUNT] = {"CONDSTORE", "QRESYNC", "IMAP4rev2",
                                                                "UTF8=ACCEPT", "UIDONLY"};

static bool parse_enable(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    struct sp_slice name;
    do {
        if (!sp_imap_take_space(p) || !sp_imap_take_atom(p, &name))
            return false;
        for (unsigned i = 0; i < SP_IMAP_ENABLE_COUNT; i++)
            if (sp_slice_eq_nocase(name, sp_slice_str(sp_imap_enable_names[i])))
                command->enable |= 1U << i;
    } while (sp_imap_at(p, ' '));
    return true;
}

static bool parse_expunge(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    return !command->uid || (sp_imap_take_space(p) && sp_imap_take_set(p, &command->copy.set));
}

/* What a client says of itself is read and forgotten. */
static bool parse_id(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    struct sp_slice string;
    if (!sp_imap_take_space(p) || sp_imap_skip_word(p, "NIL"))
        return !p->error;
    if (!sp_imap_take(p, '('))
        return false;
    while (!sp_imap_skip(p, ')')) {
        if (!sp_imap_take_string(p, &string) || !sp_imap_take_space(p) ||
            !sp_imap_take_nstring(p, &string))
            return false;
        (void)sp_imap_skip(p, ' ');
    }
    return true;
}

static bool parse_login(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    return sp_imap_take_space(p) && sp_imap_take_astring(p, &command->login.user) &&
           sp_imap_take_space(p) && sp_imap_take_astring(p, &command->login.password);
}

static bool parse_rename(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    return parse_mailbox(p, command) && sp_imap_take_space(p) &&
           sp_imap_take_mailbox(p, &command->mailbox.new_name);
}

/* (CONDSTORE QRESYNC (...)), RFC 7162, 3.1.8 and 3.2.5 */
static bool parse_select(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    if (!parse_mailbox(p, command))
        return false;
    if (sp_imap_at_end(p))
        return true;
    if (!sp_imap_take_space(p) || !sp_imap_take(p, '('))
        return false;
    do {
        if (sp_imap_skip_word(p, "CONDSTORE"))
            command->mailbox.condstore = true;
        else if (!sp_imap_skip_word(p, "QRESYNC"))
            return sp_imap_wrong(p, "Unknown SELECT parameter");
        else if (!sp_imap_parse_resync(p, &command->mailbox.resync))
            return false;
    } while (sp_imap_skip(p, ' '));
    return sp_imap_take(p, ')');
}

/* [(UNCHANGEDSINCE n)] FLAGS list, RFC 7162, 3.1.3 */
static bool parse_store(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    struct sp_imap_store_args *store = sp_arena_alloc(p->arena, sizeof *store);
    if (!store)
        return sp_imap_no_memory(p);
    command->store = store;
    if (!sp_imap_take_space(p) || !sp_imap_take_set(p, &store->set) || !sp_imap_take_space(p))
        return false;
    if (sp_imap_skip(p, '(')) {
        if (!sp_imap_skip_word(p, "UNCHANGEDSINCE"))
            return sp_imap_wrong(p, "Unknown STORE modifier");
        store->has_unchanged_since = true;
        if (!sp_imap_take_space(p) ||
            !sp_imap_take_number(p, 0, INT64_MAX, &store->unchanged_since) ||
            !sp_imap_take(p, ')') || !sp_imap_take_space(p))
            return false;
    }
    store->op = sp_imap_skip(p, '+')   ? SP_STORE_ADD
                : sp_imap_skip(p, '-') ? SP_STORE_REMOVE
                                       : SP_STORE_REPLACE;
    store->silent = sp_imap_skip_word(p, "FLAGS.SILENT");
    if (!store->silent && !sp_imap_skip_word(p, "FLAGS"))
        return sp_imap_wrong(p, "Unknown STORE item");
    return sp_imap_take_space(p) && sp_imap_take_flags(p, true, &store->flags);
}

/* In alphabetical order, as in the enum. */
static const struct {
    const char *name;
    unsigned states;
    bool has_uid_form;
    bool (*parse)(struct sp_imap_parse *p, struct sp_imap_command *command);
} verbs[SP_IMAP_VERBS] = {
    [SP_IMAP_APPEND] = {"APPEND", AUTH, false, parse_append},
    [SP_IMAP_AUTHENTICATE] = {"AUTHENTICATE", NOT_AUTH, false, parse_authenticate},
    [SP_IMAP_CAPABILITY] = {"CAPABILITY", ANY, false, parse_nothing},
    [SP_IMAP_CHECK] = {"CHECK", SELECTED, false, parse_nothing},
    [SP_IMAP_CLOSE] = {"CLOSE", SELECTED, false, parse_nothing},
    [SP_IMAP_COPY] = {"COPY", SELECTED, true, parse_copy},
    [SP_IMAP_CREATE] = {"CREATE", AUTH, false, parse_create},
    [SP_IMAP_DELETE] = {"DELETE", AUTH, false, parse_mailbox},
    [SP_IMAP_DELETEACL] = {"DELETEACL", AUTH, false, sp_imap_parse_acl},
    [SP_IMAP_ENABLE] = {"ENABLE", AUTH, false, parse_enable},
    [SP_IMAP_EXAMINE] = {"EXAMINE", AUTH, false, parse_select},
    [SP_IMAP_EXPUNGE] = {"EXPUNGE", SELECTED, true, parse_expunge},
    [SP_IMAP_FETCH] = {"FETCH", SELECTED, true, sp_imap_parse_fetch},
    [SP_IMAP_GETACL] = {"GETACL", AUTH, false, sp_imap_parse_acl},
    [SP_IMAP_ID] = {"ID", ANY, false, parse_id},
    [SP_IMAP_IDLE] = {"IDLE", AUTH, false, parse_nothing},
    [SP_IMAP_LIST] = {"LIST", AUTH, false, sp_imap_parse_list},
    [SP_IMAP_LISTRIGHTS] = {"LISTRIGHTS", AUTH, false, sp_imap_parse_acl},
    [SP_IMAP_LOGIN] = {"LOGIN", NOT_AUTH, false, parse_login},
    [SP_IMAP_LOGOUT] = {"LOGOUT", ANY, false, parse_nothing},
    [SP_IMAP_LSUB] = {"LSUB", AUTH, false, sp_imap_parse_list},
    [SP_IMAP_MOVE] = {"MOVE", SELECTED, true, parse_copy},
    [SP_IMAP_MYRIGHTS] = {"MYRIGHTS", AUTH, false, sp_imap_parse_acl},
    [SP_IMAP_NAMESPACE] = {"NAMESPACE", AUTH, false, parse_nothing},
    [SP_IMAP_NOOP] = {"NOOP", ANY, false, parse_nothing},
    [SP_IMAP_RENAME] = {"RENAME", AUTH, false, parse_rename},
    [SP_IMAP_REPLACE] = {"REPLACE", SELECTED, true, parse_replace},
    [SP_IMAP_SEARCH] = {"SEARCH", SELECTED, true, sp_imap_parse_search},
    [SP_IMAP_SELECT] = {"SELECT", AUTH, false, parse_select},
    [SP_IMAP_SETACL] = {"SETACL", AUTH, false, sp_imap_parse_acl},
    [SP_IMAP_SORT] = {"SORT", SELECTED, true, sp_imap_parse_search},
    [SP_IMAP_STARTTLS] = {"STARTTLS", NOT_AUTH, false, parse_nothing},
    [SP_IMAP_STATUS] = {"STATUS", AUTH, false, sp_imap_parse_status},
    [SP_IMAP_STORE] = {"STORE", SELECTED, true, parse_store},
    [SP_IMAP_SUBSCRIBE] = {"SUBSCRIBE", AUTH, false, parse_mailbox},
    [SP_IMAP_THREAD] = {"THREAD", SELECTED, true, sp_imap_parse_search},
    [SP_IMAP_UNAUTHENTICATE] = {"UNAUTHENTICATE", AUTH, false, parse_nothing},
    [SP_IMAP_UNSELECT] = {"UNSELECT", SELECTED, false, parse_nothing},
    [SP_IMAP_UNSUBSCRIBE] = {"UNSUBSCRIBE", AUTH, false, parse_mailbox},
};

const char *sp_imap_verb_name(enum sp_imap_verb verb)
{
    return verbs[verb].name;
}

unsigned sp_imap_verb_states(enum sp_imap_verb verb)
{
    return verbs[verb].states;
}

static bool find_verb(struct sp_slice word, enum sp_imap_verb *ret_verb)
{
    for (unsigned i = 0; i < SP_IMAP_VERBS; i++) {
        if (sp_slice_eq_nocase(word, sp_slice_str(verbs[i].name))) {
            *ret_verb = (enum sp_imap_verb)i;
            return true;
        }
    }
    return false;
}

bool sp_imap_parse_command(struct sp_imap_parse *p, struct sp_slice text,
                           struct sp_imap_command *ret_command)
{
    struct sp_imap_command *command = ret_command;
    struct sp_slice word;
    *command = (struct sp_imap_command){0};
    p->rest = text;
    if (!sp_imap_take_tag(p, &word))
        return false;
    if (!sp_imap_at(p, ' '))
        return sp_imap_wrong(p, "Missing command");
    /* The tag outlives the input where a command reads on (IDLE, AUTHENTICATE). */
    command->tag = sp_arena_copy(p->arena, word);
    if (!command->tag.ptr) {
        command->tag.len = 0;
        return sp_imap_no_memory(p);
    }
    if (!sp_imap_take_space(p) || !sp_imap_take_word(p, &word))
        return false;
    command->uid = sp_slice_eq_nocase(word, SP_S("UID"));
    if (command->uid && (!sp_imap_take_space(p) || !sp_imap_take_word(p, &word)))
        return false;
    if (!find_verb(word, &command->verb) || (command->uid && !verbs[command->verb].has_uid_form))
        return sp_imap_wrong(p, "Unknown command");
    return verbs[command->verb].parse(p, command) && sp_imap_take_end(p);
}

bool sp_imap_parse_append_message(struct sp_imap_parse *p, struct sp_append *ret_message)
{
    struct sp_append message = {0};
    if (sp_imap_at(p, '(')) {
        if (!sp_imap_take_flags(p, false, &message.flags) || !sp_imap_take_space(p))
            return false;
    }
    if (sp_imap_at(p, '"')) {
        if (!sp_imap_take_date_time(p, &message.date) || !sp_imap_take_space(p))
            return false;
        message.has_date = true;
    }
    if (p->utf8 && sp_imap_skip_word(p, "UTF8")) { /* RFC 6855, 4: UTF8 (~{n} ... ) */
        if (!sp_imap_take_space(p) || !sp_imap_take(p, '(') || !sp_imap_take(p, '~'))
            return false;
        p->utf8_message = true;
    }
    if (!sp_imap_at_end(p))
        return sp_imap_wrong(p, "APPEND wants a literal");
    *ret_message = message;
    return true;
}
