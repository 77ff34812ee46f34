/* The arguments of SEARCH (RFC 3501, 6.4.4; RFC 4731; RFC 5032; RFC 5182; RFC 8474, 6; RFC
 * 8514, 4.3; RFC 7162, 3.1.5; RFC 9394), SORT (with RFC 5267, 3) and THREAD (RFC 5256). */
#include "proto/imap/command.h"

#include "mime/mime.h"

#include <sodium.h>

enum key_kind {
    KEY_FLAG, /* number: the system flag */
    KEY_NOT_FLAG,
    KEY_NOTHING, /* what never is: RECENT, NEW */
    KEY_EVERYTHING,
    KEY_KEYWORD,
    KEY_NOT_KEYWORD,
    KEY_TEXT,
    KEY_DATE,
    KEY_NUMBER,
    KEY_SECONDS,
    KEY_HEADER,
    KEY_UID,
    KEY_MODSEQ,
    KEY_OBJECT_ID,
    KEY_NOT,
    KEY_OR,
};

static const struct {
    const char *name;
    enum key_kind kind;
    enum sp_search_op op;
    uint32_t flag; /* of an object id: its letter */
} keys[] = {
    {"ALL", KEY_EVERYTHING, SP_SEARCH_ALL, 0},
    {"ANSWERED", KEY_FLAG, SP_SEARCH_FLAGS, SP_FLAG_ANSWERED},
    {"BCC", KEY_TEXT, SP_SEARCH_BCC, 0},
    {"BEFORE", KEY_DATE, SP_SEARCH_BEFORE, 0},
    {"BODY", KEY_TEXT, SP_SEARCH_BODY, 0},
    {"CC", KEY_TEXT, SP_SEARCH_CC, 0},
    {"DELETED", KEY_FLAG, SP_SEARCH_FLAGS, SP_FLAG_DELETED},
    {"DRAFT", KEY_FLAG, SP_SEARCH_FLAGS, SP_FLAG_DRAFT},
    {"EMAILID", KEY_OBJECT_ID, SP_SEARCH_EMAIL_ID, 'M'},
    {"FLAGGED", KEY_FLAG, SP_SEARCH_FLAGS, SP_FLAG_FLAGGED},
    {"FROM", KEY_TEXT, SP_SEARCH_FROM, 0},
    {"HEADER", KEY_HEADER, SP_SEARCH_HEADER, 0},
    {"KEYWORD", KEY_KEYWORD, SP_SEARCH_KEYWORD, 0},
    {"LARGER", KEY_NUMBER, SP_SEARCH_LARGER, 0},
    {"MODSEQ", KEY_MODSEQ, SP_SEARCH_MODSEQ, 0},
    {"NEW", KEY_NOTHING, SP_SEARCH_ALL, 0},
    {"NOT", KEY_NOT, SP_SEARCH_NOT, 0},
    {"OLD", KEY_EVERYTHING, SP_SEARCH_ALL, 0},
    {"OLDER", KEY_SECONDS, SP_SEARCH_OLDER, 0},
    {"ON", KEY_DATE, SP_SEARCH_ON, 0},
    {"OR", KEY_OR, SP_SEARCH_OR, 0},
    {"RECENT", KEY_NOTHING, SP_SEARCH_ALL, 0},
    {"SAVEDATESUPPORTED", KEY_EVERYTHING, SP_SEARCH_ALL, 0},
    {"SAVEDBEFORE", KEY_DATE, SP_SEARCH_SAVEDBEFORE, 0},
    {"SAVEDON", KEY_DATE, SP_SEARCH_SAVEDON, 0},
    {"SAVEDSINCE", KEY_DATE, SP_SEARCH_SAVEDSINCE, 0},
    {"SEEN", KEY_FLAG, SP_SEARCH_FLAGS, SP_FLAG_SEEN},
    {"SENTBEFORE", KEY_DATE, SP_SEARCH_SENTBEFORE, 0},
    {"SENTON", KEY_DATE, SP_SEARCH_SENTON, 0},
    {"SENTSINCE", KEY_DATE, SP_SEARCH_SENTSINCE, 0},
    {"SINCE", KEY_DATE, SP_SEARCH_SINCE, 0},
    {"SMALLER", KEY_NUMBER, SP_SEARCH_SMALLER, 0},
    {"SUBJECT", KEY_TEXT, SP_SEARCH_SUBJECT, 0},
    {"TEXT", KEY_TEXT, SP_SEARCH_TEXT, 0},
    {"THREADID", KEY_OBJECT_ID, SP_SEARCH_THREAD_ID, 'T'},
    {"TO", KEY_TEXT, SP_SEARCH_TO, 0},
    {"UID", KEY_UID, SP_SEARCH_UIDS, 0},
    {"UNANSWERED", KEY_NOT_FLAG, SP_SEARCH_FLAGS, SP_FLAG_ANSWERED},
    {"UNDELETED", KEY_NOT_FLAG, SP_SEARCH_FLAGS, SP_FLAG_DELETED},
    {"UNDRAFT", KEY_NOT_FLAG, SP_SEARCH_FLAGS, SP_FLAG_DRAFT},
    {"UNFLAGGED", KEY_NOT_FLAG, SP_SEARCH_FLAGS, SP_FLAG_FLAGGED},
    {"UNKEYWORD", KEY_NOT_KEYWORD, SP_SEARCH_KEYWORD, 0},
    {"UNSEEN", KEY_NOT_FLAG, SP_SEARCH_FLAGS, SP_FLAG_SEEN},
    {"YOUNGER", KEY_SECONDS, SP_SEARCH_YOUNGER, 0},
};

struct program {
    struct sp_imap_search_args *search;
    uint32_t capacity;
};

/* Adds a node; the index of it, or UINT32_MAX with an error set. */
static uint32_t add_node(struct sp_imap_parse *p, struct program *program, enum sp_search_op op)
{
    struct sp_imap_search_args *search = program->search;
    if (search->nodes_count == SP_SEARCH_NODES_MAX) {
        sp_imap_wrong(p, "Too many search keys");
        return UINT32_MAX;
    }
    if (search->nodes_count == program->capacity) {
        uint32_t capacity = program->capacity ? program->capacity * 2 : 8;
        struct sp_search_node *nodes = sp_arena_array(p->arena, capacity, sizeof *nodes);
        if (!nodes) {
            sp_imap_no_memory(p);
            return UINT32_MAX;
        }
        if (search->nodes_count)
            memcpy(nodes, search->nodes, search->nodes_count * sizeof *nodes);
        search->nodes = nodes;
        program->capacity = capacity;
    }
    search->nodes[search->nodes_count].op = op;
    return search->nodes_count++;
}

/* What is searched for. Without CHARSET it should be ASCII; UTF-8 is taken for what it is. */
static bool take_text(struct sp_imap_parse *p, struct sp_slice *ret_text)
{
    if (!sp_imap_take_space(p) || !sp_imap_take_astring(p, ret_text))
        return false;
    if (!sp_mime_is_utf8(*ret_text)) {
        p->bad_charset = true;
        return sp_imap_wrong(p, "Search text is not UTF-8");
    }
    return true;
}

/* [entry-name entry-type] mod-sequence: RFC 7162, 3.1.5. All flags share one MODSEQ, so the entry
 * says nothing. */
static bool take_modseq(struct sp_imap_parse *p, uint64_t *ret_modseq)
{
    struct sp_slice entry;
    if (!sp_imap_take_space(p))
        return false;
    if (sp_imap_at(p, '"')) {
        if (!sp_imap_take_string(p, &entry) || !sp_imap_take_space(p))
            return false;
        if (!sp_imap_skip_word(p, "PRIV") && !sp_imap_skip_word(p, "SHARED") &&
            !sp_imap_skip_word(p, "ALL"))
            return sp_imap_wrong(p, "Unknown entry type");
        if (!sp_imap_take_space(p))
            return false;
    }
    return sp_imap_take_number(p, 0, INT64_MAX, ret_modseq);
}

/* An id that we did not give out is nobody's: it stays empty, and finds nothing (RFC 8474, 6). */
static bool take_object_id(struct sp_imap_parse *p, uint32_t letter, struct sp_slice *ret_id)
{
    struct sp_slice text;
    size_t len = 0;
    if (!sp_imap_take_space(p) || !sp_imap_take_astring(p, &text))
        return false;
    uint8_t *id = sp_arena_alloc(p->arena, SP_OBJECT_ID_BYTES);
    if (!id)
        return sp_imap_no_memory(p);
    if (text.len == 1 + 2 * SP_OBJECT_ID_BYTES && text.ptr[0] == letter &&
        sodium_hex2bin(id, SP_OBJECT_ID_BYTES, (const char *)text.ptr + 1, text.len - 1, NULL, &len,
                       NULL) == 0 &&
        len == SP_OBJECT_ID_BYTES)
        *ret_id = sp_slice(id, SP_OBJECT_ID_BYTES);
    return true;
}

static bool take_set_node(struct sp_imap_parse *p, struct program *program, bool sequence)
{
    struct sp_imap_set set;
    if (!sp_imap_take_set(p, &set))
        return false;
    uint32_t node = add_node(p, program, SP_SEARCH_UIDS);
    if (node == UINT32_MAX)
        return false;
    program->search->nodes[node].number = set.saved ? 2 : sequence;
    program->search->has_numbers |= sequence && !set.saved;
    program->search->nodes[node].ranges = (struct sp_uid_ranges){set.ptr, set.count};
    return true;
}

static bool take_key(struct sp_imap_parse *p, struct program *program);

/* Keys up to the end, or the closing parenthesis, which must all hold. */
static bool take_keys(struct sp_imap_parse *p, struct program *program)
{
    uint32_t node = add_node(p, program, SP_SEARCH_AND), count = 0;
    if (node == UINT32_MAX)
        return false;
    do {
        if (!take_key(p, program))
            return false;
        count++;
    } while (sp_imap_skip(p, ' ') && !sp_imap_at_end(p));
    program->search->nodes[node].count = count;
    return true;
}

/* The argument of a key that has one value; the node is there already. */
static bool take_value(struct sp_imap_parse *p, enum key_kind kind, struct sp_search_node *node)
{
    switch (kind) {
    case KEY_TEXT:
        return take_text(p, &node->text);
    case KEY_HEADER:
        return sp_imap_take_space(p) && sp_imap_take_astring(p, &node->field) &&
               take_text(p, &node->text);
    case KEY_KEYWORD:
    case KEY_NOT_KEYWORD:
        return sp_imap_take_space(p) && sp_imap_take_atom(p, &node->text);
    case KEY_DATE:
        return sp_imap_take_space(p) && sp_imap_take_date(p, &node->number);
    case KEY_NUMBER:
        return sp_imap_take_space(p) && sp_imap_take_number(p, 0, INT64_MAX, &node->number);
    case KEY_SECONDS:
        return sp_imap_take_space(p) && sp_imap_take_number(p, 1, UINT32_MAX, &node->number);
    case KEY_MODSEQ:
        return take_modseq(p, &node->number);
    default:
        return true;
    }
}

static bool take_named_key(struct sp_imap_parse *p, struct program *program, size_t key)
{
    enum key_kind kind = keys[key].kind;
    if (kind == KEY_UID)
        return sp_imap_take_space(p) && take_set_node(p, program, false);
    bool negated = kind == KEY_NOT_FLAG || kind == KEY_NOT_KEYWORD || kind == KEY_NOTHING;
    if (negated && add_node(p, program, SP_SEARCH_NOT) == UINT32_MAX)
        return false;
    uint32_t node = add_node(p, program, keys[key].op);
    if (node == UINT32_MAX)
        return false;
    if (kind == KEY_NOT)
        return sp_imap_take_space(p) && take_key(p, program);
    if (kind == KEY_OR) {
        program->search->nodes[node].count = 2;
        return sp_imap_take_space(p) && take_key(p, program) && sp_imap_take_space(p) &&
               take_key(p, program);
    }
    if (kind == KEY_FLAG || kind == KEY_NOT_FLAG)
        program->search->nodes[node].number = keys[key].flag;
    program->search->has_modseq |= kind == KEY_MODSEQ;
    if (kind == KEY_OBJECT_ID) {
        struct sp_slice id = {NULL, 0};
        bool taken = take_object_id(p, keys[key].flag, &id);
        program->search->nodes[node].field = id;
        return taken;
    }
    return take_value(p, kind, &program->search->nodes[node]);
}

static bool take_key(struct sp_imap_parse *p, struct program *program)
{
    bool done = false;
    if (++p->depth > SP_IMAP_NESTING_MAX)
        return sp_imap_wrong(p, "Search keys are nested too deeply");
    if (sp_imap_skip(p, '(')) {
        done = take_keys(p, program) && sp_imap_take(p, ')');
    } else if (p->rest.len && memchr("0123456789*$", p->rest.ptr[0], 12)) {
        done = take_set_node(p, program, true);
    } else {
        size_t key = 0;
        while (key < sizeof keys / sizeof keys[0] && !sp_imap_skip_word(p, keys[key].name))
            key++;
        done = key < sizeof keys / sizeof keys[0] ? take_named_key(p, program, key)
                                                  : sp_imap_wrong(p, "Unknown search key");
    }
    p->depth--;
    return done;
}

static bool take_charset(struct sp_imap_parse *p)
{
    struct sp_slice name;
    if (!sp_imap_take_astring(p, &name))
        return false;
    if (sp_slice_eq_nocase(name, SP_S("UTF-8")) || sp_slice_eq_nocase(name, SP_S("US-ASCII")))
        return true;
    p->bad_charset = true;
    return sp_imap_wrong(p, "Charset is not supported");
}

bool sp_imap_parse_partial(struct sp_imap_parse *p, struct sp_imap_partial *ret_partial)
{
    struct sp_imap_partial partial = {.from_end = sp_imap_skip(p, '-')};
    uint64_t a, b;
    if (!sp_imap_take_number(p, 1, UINT32_MAX, &a) || !sp_imap_take(p, ':') ||
        (partial.from_end && !sp_imap_take(p, '-')) || !sp_imap_take_number(p, 1, UINT32_MAX, &b))
        return false;
    partial.first = (uint32_t)(a < b ? a : b);
    partial.last = (uint32_t)(a < b ? b : a);
    *ret_partial = partial;
    return true;
}

/* RETURN (MIN MAX ALL COUNT SAVE PARTIAL range): RFC 4731, 3.1; RFC 5182, 2.1; RFC 9394, 3.1 */
static bool take_return(struct sp_imap_parse *p, struct sp_imap_search_args *search)
{
    static const char *const names[] = {"MIN", "MAX", "ALL", "COUNT", "SAVE", "PARTIAL"};
    search->extended = true;
    if (!sp_imap_take_space(p) || !sp_imap_take(p, '('))
        return false;
    while (!sp_imap_skip(p, ')')) {
        unsigned i = 0, option;
        while (i < 6 && !sp_imap_skip_word(p, names[i]))
            i++;
        if (i == 6)
            return sp_imap_wrong(p, "Unknown SEARCH return option");
        option = 1U << i;
        if (option == SP_IMAP_ESEARCH_PARTIAL) {
            if (search->returns & option)
                return sp_imap_wrong(p, "PARTIAL can be given once");
            if (!sp_imap_take_space(p) || !sp_imap_parse_partial(p, &search->partial))
                return false;
        }
        search->returns |= option;
        (void)sp_imap_skip(p, ' ');
    }
    if (!search->returns)
        search->returns = SP_IMAP_ESEARCH_ALL;
    if ((search->returns & SP_IMAP_ESEARCH_ALL) && (search->returns & SP_IMAP_ESEARCH_PARTIAL))
        return sp_imap_wrong(p, "PARTIAL and ALL exclude each other");
    return sp_imap_take_space(p);
}

static bool take_sort(struct sp_imap_parse *p, struct sp_imap_search_args *search)
{
    static const struct {
        const char *name;
        uint8_t key;
    } names[] = {{"ARRIVAL", SP_SORT_ARRIVAL},
                 {"CC", SP_SORT_CC},
                 {"DATE", SP_SORT_DATE},
                 {"FROM", SP_SORT_FROM},
                 {"SIZE", SP_SORT_SIZE},
                 {"SUBJECT", SP_SORT_SUBJECT},
                 {"TO", SP_SORT_TO},
                 {"DISPLAYFROM", SP_SORT_DISPLAYFROM}, /* RFC 5957 */
                 {"DISPLAYTO", SP_SORT_DISPLAYTO}};
    if (!sp_imap_take(p, '('))
        return false;
    do {
        bool reverse = sp_imap_skip_word(p, "REVERSE");
        if (reverse && !sp_imap_take_space(p))
            return false;
        size_t i = 0;
        while (i < sizeof names / sizeof names[0] && !sp_imap_skip_word(p, names[i].name))
            i++;
        if (i == sizeof names / sizeof names[0])
            return sp_imap_wrong(p, "Unknown sort key");
        if (search->sort_count == SP_SORT_KEYS_MAX)
            return sp_imap_wrong(p, "Too many sort keys");
        search->sort[search->sort_count++] =
            (uint8_t)(names[i].key | (reverse ? SP_SORT_REVERSE : 0U));
    } while (sp_imap_skip(p, ' '));
    return sp_imap_take(p, ')') && sp_imap_take_space(p);
}

static bool take_thread(struct sp_imap_parse *p, struct sp_imap_search_args *search)
{
    if (sp_imap_skip_word(p, "ORDEREDSUBJECT"))
        search->thread = SP_THREAD_ORDEREDSUBJECT;
    else if (sp_imap_skip_word(p, "REFERENCES"))
        search->thread = SP_THREAD_REFERENCES;
    else
        return sp_imap_wrong(p, "Unknown threading algorithm");
    return sp_imap_take_space(p);
}

bool sp_imap_parse_search(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    struct sp_imap_search_args *search = sp_arena_alloc(p->arena, sizeof *search);
    if (!search)
        return sp_imap_no_memory(p);
    command->search = search;
    struct program program = {.search = search};
    if (!sp_imap_take_space(p))
        return false;
    if (command->verb == SP_IMAP_SEARCH) {
        if (sp_imap_skip_word(p, "RETURN") && !take_return(p, search))
            return false;
        search->has_charset = sp_imap_skip_word(p, "CHARSET");
        if (search->has_charset &&
            (!sp_imap_take_space(p) || !take_charset(p) || !sp_imap_take_space(p)))
            return false;
    } else {
        bool sort = command->verb == SP_IMAP_SORT;
        if (sort && sp_imap_skip_word(p, "RETURN") && !take_return(p, search)) /* RFC 5267, 3.1 */
            return false;
        bool options = sort ? take_sort(p, search) : take_thread(p, search);
        if (!options || !take_charset(p) || !sp_imap_take_space(p))
            return false;
    }
    return take_keys(p, &program);
}
