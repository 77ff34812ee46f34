/* The arguments of FETCH (RFC 3501, 6.4.5; RFC 3516; RFC 7162, 3.1.4). */
#include "proto/imap/command.h"

#include "base/buf.h"

#define LABEL_MAX 32768U

static const struct {
    const char *name;
    unsigned items;
} simple[] = {
    {"FLAGS", SP_IMAP_ITEM_FLAGS},       {"UID", SP_IMAP_ITEM_UID},
    {"RFC822.SIZE", SP_IMAP_ITEM_SIZE},  {"INTERNALDATE", SP_IMAP_ITEM_INTERNALDATE},
    {"ENVELOPE", SP_IMAP_ITEM_ENVELOPE}, {"BODYSTRUCTURE", SP_IMAP_ITEM_BODYSTRUCTURE},
    {"MODSEQ", SP_IMAP_ITEM_MODSEQ},     {"EMAILID", SP_IMAP_ITEM_EMAILID},
    {"SAVEDATE", SP_IMAP_ITEM_SAVEDATE},
};
#define FAST (SP_IMAP_ITEM_FLAGS | SP_IMAP_ITEM_INTERNALDATE | SP_IMAP_ITEM_SIZE)
static const struct {
    const char *name;
    unsigned items;
} macros[] = {
    {"ALL", FAST | SP_IMAP_ITEM_ENVELOPE},
    {"FAST", FAST},
    {"FULL", FAST | SP_IMAP_ITEM_ENVELOPE | SP_IMAP_ITEM_BODY},
};
static const struct {
    const char *name;
    enum sp_section_kind kind;
    bool reads;
} whole[] = {
    {"RFC822", SP_SECTION_ALL, true},       {"RFC822.HEADER", SP_SECTION_HEADER, false},
    {"RFC822.TEXT", SP_SECTION_TEXT, true}, {"THREADID", SP_SECTION_THREAD_ID, false},
    {"PREVIEW", SP_SECTION_PREVIEW, false},
};

/* Room for one more section; NULL: an error is set. */
static struct sp_section *add_section(struct sp_imap_parse *p, struct sp_imap_fetch_args *fetch)
{
    if (fetch->sections_count == SP_IMAP_SECTIONS_MAX) {
        sp_imap_wrong(p, "Too many body sections");
        return NULL;
    }
    if (fetch->sections_count == fetch->sections_capacity) {
        uint32_t capacity = fetch->sections_capacity ? SP_IMAP_SECTIONS_MAX : 4;
        struct sp_section *sections = sp_arena_array(p->arena, capacity, sizeof *sections);
        struct sp_slice *labels = sp_arena_array(p->arena, capacity, sizeof *labels);
        if (!sections || !labels) {
            sp_imap_no_memory(p);
            return NULL;
        }
        for (uint32_t i = 0; i < fetch->sections_count; i++) {
            sections[i] = fetch->sections[i];
            labels[i] = fetch->labels[i];
        }
        fetch->sections = sections;
        fetch->labels = labels;
        fetch->sections_capacity = capacity;
    }
    struct sp_section *section = &fetch->sections[fetch->sections_count];
    section->length = UINT64_MAX;
    return section;
}

static bool take_fields(struct sp_imap_parse *p, struct sp_section *section)
{
    struct sp_slice names[SP_IMAP_FIELDS_MAX];
    uint32_t count = 0;
    if (!sp_imap_take_space(p) || !sp_imap_take(p, '('))
        return false;
    do {
        if (count == SP_IMAP_FIELDS_MAX)
            return sp_imap_wrong(p, "Too many header fields");
        if (!sp_imap_take_astring(p, &names[count]))
            return false;
        count++;
    } while (sp_imap_skip(p, ' '));
    if (!sp_imap_take(p, ')'))
        return false;
    section->fields = sp_arena_array(p->arena, count, sizeof names[0]);
    if (!section->fields)
        return sp_imap_no_memory(p);
    memcpy(section->fields, names, count * sizeof names[0]);
    section->fields_count = count;
    return true;
}

/* What stands between the brackets. */
static bool take_section(struct sp_imap_parse *p, struct sp_section *section)
{
    uint64_t number;
    bool dot = true;
    while (dot && p->rest.len && p->rest.ptr[0] >= '0' && p->rest.ptr[0] <= '9') {
        if (section->path_len == SP_SECTION_DEPTH_MAX)
            return sp_imap_wrong(p, "Body section is nested too deeply");
        if (!sp_imap_take_number(p, 1, UINT32_MAX, &number))
            return false;
        section->path[section->path_len++] = (uint32_t)number;
        dot = sp_imap_skip(p, '.');
    }
    if (section->path_len ? !dot : sp_imap_at(p, ']')) {
        section->kind = SP_SECTION_ALL;
        return true;
    }
    if (sp_imap_skip_word(p, "HEADER"))
        section->kind = SP_SECTION_HEADER;
    else if (sp_imap_skip_word(p, "TEXT"))
        section->kind = SP_SECTION_TEXT;
    else if (section->path_len && sp_imap_skip_word(p, "MIME"))
        section->kind = SP_SECTION_MIME;
    else if (sp_imap_skip_word(p, "HEADER.FIELDS"))
        section->kind = SP_SECTION_FIELDS;
    else if (sp_imap_skip_word(p, "HEADER.FIELDS.NOT"))
        section->kind = SP_SECTION_FIELDS_NOT;
    else
        return sp_imap_wrong(p, "Unknown body section");
    bool fields = section->kind == SP_SECTION_FIELDS || section->kind == SP_SECTION_FIELDS_NOT;
    return !fields || take_fields(p, section);
}

static bool take_partial(struct sp_imap_parse *p, struct sp_section *section)
{
    return sp_imap_take_number(p, 0, INT64_MAX, &section->offset) && sp_imap_take(p, '.') &&
           sp_imap_take_number(p, 1, INT64_MAX, &section->length) && sp_imap_take(p, '>');
}

/* A header field name as the response repeats it. */
static void add_field_name(struct sp_buf *buf, struct sp_slice name)
{
    bool atom = name.len > 0;
    for (size_t i = 0; i < name.len; i++)
        atom = atom && (sp_imap_is_atom_char(name.ptr[i]));
    if (atom) {
        sp_buf_add(buf, name);
        return;
    }
    sp_buf_add_byte(buf, '"');
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        if (c == '"' || c == '\\')
            sp_buf_add_byte(buf, '\\');
        sp_buf_add_byte(buf, c < 0x20 || c > 0x7e ? '?' : c);
    }
    sp_buf_add_byte(buf, '"');
}

static void add_label(struct sp_buf *buf, const struct sp_section *section, bool partial)
{
    static const char *const kinds[] = {
        "", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME", "", ""};
    sp_buf_add_str(buf, section->kind == SP_SECTION_BINARY        ? "BINARY["
                        : section->kind == SP_SECTION_BINARY_SIZE ? "BINARY.SIZE["
                                                                  : "BODY[");
    for (uint32_t i = 0; i < section->path_len; i++) {
        if (i)
            sp_buf_add_byte(buf, '.');
        sp_buf_add_decimal(buf, section->path[i]);
    }
    if (section->path_len && kinds[section->kind][0])
        sp_buf_add_byte(buf, '.');
    sp_buf_add_str(buf, kinds[section->kind]);
    for (uint32_t i = 0; i < section->fields_count; i++) {
        sp_buf_add_str(buf, i ? " " : " (");
        add_field_name(buf, section->fields[i]);
    }
    sp_buf_add_str(buf, section->fields_count ? ")]" : "]");
    if (partial) {
        sp_buf_add_byte(buf, '<');
        sp_buf_add_decimal(buf, section->offset);
        sp_buf_add_byte(buf, '>');
    }
}

/* The section is whole: its label is written, and it counts. */
static bool finish_section(struct sp_imap_parse *p, struct sp_imap_fetch_args *fetch,
                           const struct sp_section *section, bool partial, bool reads)
{
    struct sp_buf label;
    sp_buf_init(&label, LABEL_MAX);
    add_label(&label, section, partial);
    struct sp_slice copy = sp_arena_copy(p->arena, sp_buf_slice(&label));
    bool fits = !sp_buf_failed(&label) && copy.ptr;
    sp_buf_release(&label);
    if (!fits)
        return sp_imap_no_memory(p);
    fetch->labels[fetch->sections_count] = copy;
    if (reads)
        fetch->reads |= UINT64_C(1) << fetch->sections_count;
    fetch->sections_count++;
    return true;
}

/* The rest of BODY[...] or BODY.PEEK[...], after the bracket. */
static bool take_body(struct sp_imap_parse *p, struct sp_imap_fetch_args *fetch, bool peek)
{
    struct sp_section *section = add_section(p, fetch);
    if (!section || !take_section(p, section) || !sp_imap_take(p, ']'))
        return false;
    bool partial = sp_imap_skip(p, '<');
    if (partial && !take_partial(p, section))
        return false;
    return finish_section(p, fetch, section, partial, !peek);
}

/* The rest of BINARY[...], BINARY.PEEK[...] or BINARY.SIZE[...], after the bracket (RFC 3516, 4.2):
 * part numbers alone. */
static bool take_binary(struct sp_imap_parse *p, struct sp_imap_fetch_args *fetch,
                        enum sp_section_kind kind, bool reads)
{
    struct sp_section *section = add_section(p, fetch);
    if (!section || !take_section(p, section) || !sp_imap_take(p, ']'))
        return false;
    if (section->kind != SP_SECTION_ALL)
        return sp_imap_wrong(p, "BINARY wants part numbers alone");
    bool partial = kind == SP_SECTION_BINARY && sp_imap_skip(p, '<');
    if (partial && !take_partial(p, section))
        return false;
    section->kind = kind;
    return finish_section(p, fetch, section, partial, reads);
}

/* " (LAZY)", behind PREVIEW (RFC 8970, 3.1). What else stands in parentheses there is FETCH's. */
static bool skip_lazy(struct sp_imap_parse *p)
{
    struct sp_slice lazy = SP_S(" (LAZY)");
    if (!sp_slice_starts_nocase(p->rest, lazy))
        return false;
    p->rest = sp_slice_from(p->rest, lazy.len);
    return true;
}

static bool take_item(struct sp_imap_parse *p, struct sp_imap_fetch_args *fetch)
{
    static const struct {
        const char *name;
        enum sp_section_kind kind;
        bool reads;
    } binary[] = {
        {"BINARY", SP_SECTION_BINARY, true},
        {"BINARY.PEEK", SP_SECTION_BINARY, false},
        {"BINARY.SIZE", SP_SECTION_BINARY_SIZE, false},
    };
    for (size_t i = 0; i < sizeof simple / sizeof simple[0]; i++) {
        if (sp_imap_skip_word(p, simple[i].name)) {
            fetch->items |= simple[i].items;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        if (sp_imap_skip_word(p, whole[i].name)) {
            struct sp_section *section = add_section(p, fetch);
            if (!section)
                return false;
            section->kind = whole[i].kind;
            fetch->labels[fetch->sections_count] = sp_slice_str(whole[i].name);
            if (whole[i].reads)
                fetch->reads |= UINT64_C(1) << fetch->sections_count;
            if (whole[i].kind == SP_SECTION_PREVIEW && skip_lazy(p))
                fetch->lazy |= UINT64_C(1) << fetch->sections_count;
            fetch->sections_count++;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof binary / sizeof binary[0]; i++)
        if (sp_imap_skip_word(p, binary[i].name))
            return sp_imap_take(p, '[') && take_binary(p, fetch, binary[i].kind, binary[i].reads);
    bool peek = sp_imap_skip_word(p, "BODY.PEEK");
    if (peek || sp_imap_skip_word(p, "BODY")) {
        if (sp_imap_skip(p, '['))
            return take_body(p, fetch, peek);
        fetch->items |= SP_IMAP_ITEM_BODY;
        return !peek || sp_imap_wrong(p, "BODY.PEEK wants a section");
    }
    return sp_imap_wrong(p, "Unknown FETCH item");
}

static bool take_items(struct sp_imap_parse *p, struct sp_imap_fetch_args *fetch)
{
    if (sp_imap_skip(p, '(')) {
        do {
            if (!take_item(p, fetch))
                return false;
        } while (sp_imap_skip(p, ' '));
        return sp_imap_take(p, ')');
    }
    for (size_t i = 0; i < sizeof macros / sizeof macros[0]; i++) {
        if (sp_imap_skip_word(p, macros[i].name)) {
            fetch->items |= macros[i].items;
            return true;
        }
    }
    return take_item(p, fetch);
}

static bool take_modifiers(struct sp_imap_parse *p, struct sp_imap_fetch_args *fetch)
{
    if (!sp_imap_take_space(p) || !sp_imap_take(p, '('))
        return false;
    do {
        if (sp_imap_skip_word(p, "VANISHED")) {
            fetch->vanished = true;
        } else if (sp_imap_skip_word(p, "CHANGEDSINCE")) {
            fetch->has_changed_since = true;
            fetch->items |= SP_IMAP_ITEM_MODSEQ;
            if (!sp_imap_take_space(p) ||
                !sp_imap_take_number(p, 0, INT64_MAX, &fetch->changed_since))
                return false;
        } else if (sp_imap_skip_word(p, "PARTIAL")) {
            fetch->has_partial = true;
            if (!sp_imap_take_space(p) || !sp_imap_parse_partial(p, &fetch->partial))
                return false;
        } else {
            return sp_imap_wrong(p, "Unknown FETCH modifier");
        }
    } while (sp_imap_skip(p, ' '));
    return sp_imap_take(p, ')');
}

bool sp_imap_parse_fetch(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    struct sp_imap_fetch_args *fetch = sp_arena_alloc(p->arena, sizeof *fetch);
    if (!fetch)
        return sp_imap_no_memory(p);
    command->fetch = fetch;
    if (!sp_imap_take_space(p) || !sp_imap_take_set(p, &fetch->set) || !sp_imap_take_space(p) ||
        !take_items(p, fetch))
        return false;
    if (command->uid)
        fetch->items |= SP_IMAP_ITEM_UID;
    if (!sp_imap_at_end(p) && !take_modifiers(p, fetch))
        return false;
    if (fetch->has_partial && !command->uid) /* RFC 9394, 3.3 */
        return sp_imap_wrong(p, "PARTIAL wants UID FETCH");
    /* RFC 7162, 3.2.6 */
    return !fetch->vanished || (command->uid && fetch->has_changed_since) ||
           sp_imap_wrong(p, "VANISHED wants UID FETCH and CHANGEDSINCE");
}
