/* The arguments of LIST (RFC 5258, 5819, 6154), LSUB and STATUS. */
#include "proto/imap/command.h"

static const char *const status_names[] = {"MESSAGES",    "RECENT",      "UIDNEXT",
                                           "UIDVALIDITY", "UNSEEN",      "HIGHESTMODSEQ",
                                           "SIZE",        "APPENDLIMIT", "MAILBOXID"};

/* The bit of the name that is next. */
static bool take_name(struct sp_imap_parse *p, const char *const *names, size_t count,
                      unsigned *bits)
{
    for (size_t i = 0; i < count; i++) {
        if (sp_imap_skip_word(p, names[i])) {
            *bits |= 1U << i;
            return true;
        }
    }
    return sp_imap_wrong(p, "Unknown item");
}

static bool take_status_items(struct sp_imap_parse *p, unsigned *ret_items)
{
    if (!sp_imap_take(p, '('))
        return false;
    do {
        if (sp_imap_skip_word(p, "DELETED")) /* RFC 9051, 6.3.11 */
            *ret_items |= SP_IMAP_STATUS_DELETED;
        else if (!take_name(p, status_names, sizeof status_names / sizeof status_names[0],
                            ret_items))
            return false;
    } while (sp_imap_skip(p, ' '));
    return sp_imap_take(p, ')');
}

bool sp_imap_parse_status(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    return sp_imap_take_space(p) && sp_imap_take_mailbox(p, &command->mailbox.name) &&
           sp_imap_take_space(p) && take_status_items(p, &command->mailbox.status);
}

static bool take_selection(struct sp_imap_parse *p, struct sp_imap_list_args *list)
{
    static const char *const names[] = {"SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"};
    while (!sp_imap_skip(p, ')')) {
        if (!take_name(p, names, 4, &list->select))
            return false;
        (void)sp_imap_skip(p, ' ');
    }
    /* RFC 5258, 3: it modifies another option and means nothing alone. */
    if ((list->select & SP_IMAP_SELECT_RECURSIVEMATCH) &&
        !(list->select & (SP_IMAP_SELECT_SUBSCRIBED | SP_IMAP_SELECT_SPECIAL_USE)))
        return sp_imap_wrong(p, "RECURSIVEMATCH wants another selection option");
    return sp_imap_take_space(p);
}

static bool take_patterns(struct sp_imap_parse *p, struct sp_imap_list_args *list)
{
    bool many = sp_imap_skip(p, '(');
    do {
        if (list->patterns_count == SP_IMAP_PATTERNS_MAX)
            return sp_imap_wrong(p, "Too many patterns");
        if (!sp_imap_take_pattern(p, &list->patterns[list->patterns_count]))
            return false;
        list->patterns_count++;
    } while (many && sp_imap_skip(p, ' '));
    return !many || sp_imap_take(p, ')');
}

static bool take_returns(struct sp_imap_parse *p, struct sp_imap_list_args *list)
{
    static const char *const names[] = {"SUBSCRIBED", "CHILDREN", "SPECIAL-USE", "MYRIGHTS"};
    if (!sp_imap_skip_word(p, "RETURN"))
        return sp_imap_wrong(p, "Unexpected argument");
    if (!sp_imap_take_space(p) || !sp_imap_take(p, '('))
        return false;
    while (!sp_imap_skip(p, ')')) {
        if (sp_imap_skip_word(p, "STATUS")) {
            list->returns |= SP_IMAP_RETURN_STATUS;
            if (!sp_imap_take_space(p) || !take_status_items(p, &list->status))
                return false;
        } else if (!take_name(p, names, 4, &list->returns)) {
            return false;
        }
        (void)sp_imap_skip(p, ' ');
    }
    return true;
}

bool sp_imap_parse_list(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    struct sp_imap_list_args *list = sp_arena_alloc(p->arena, sizeof *list);
    if (!list)
        return sp_imap_no_memory(p);
    command->list = list;
    bool extended = command->verb == SP_IMAP_LIST;
    if (!sp_imap_take_space(p) || (extended && sp_imap_skip(p, '(') && !take_selection(p, list)))
        return false;
    if (!sp_imap_take_pattern(p, &list->reference) || !sp_imap_take_space(p))
        return false;
    if (!extended && sp_imap_at(p, '('))
        return sp_imap_wrong(p, "LSUB wants one pattern");
    if (!take_patterns(p, list))
        return false;
    return !extended || !sp_imap_skip(p, ' ') || sp_imap_at_end(p) || take_returns(p, list);
}
