#include "proto/imap/rights.h"

#include "proto/imap/respond.h"

static const struct {
    char letter;
    uint32_t rights;
} letters[] = {
    {'l', SP_RIGHT_LOOKUP},
    {'r', SP_RIGHT_READ},
    {'s', SP_RIGHT_SEEN},
    {'w', SP_RIGHT_WRITE},
    {'i', SP_RIGHT_INSERT},
    {'p', SP_RIGHT_POST},
    {'k', SP_RIGHT_CREATE},
    {'x', SP_RIGHT_REMOVE},
    {'t', SP_RIGHT_DELETED},
    {'e', SP_RIGHT_EXPUNGE},
    {'c', SP_RIGHT_CREATE | SP_RIGHT_REMOVE}, /* shown when any of them is there */
    {'d', SP_RIGHT_DELETED | SP_RIGHT_EXPUNGE},
    {'a', SP_RIGHT_ADMIN},
};
#define LETTERS (sizeof letters / sizeof letters[0])

void sp_imap_add_rights(struct sp_buf *buf, uint32_t rights)
{
    if (!(rights & SP_RIGHTS_ALL))
        sp_buf_add_str(buf, "\"\"");
    for (size_t i = 0; i < LETTERS; i++)
        if (rights & letters[i].rights)
            sp_buf_add_byte(buf, (uint8_t)letters[i].letter);
}

void sp_imap_add_myrights(struct sp_buf *buf, struct sp_slice name, uint32_t rights, bool utf8)
{
    sp_buf_add_str(buf, "* MYRIGHTS ");
    sp_imap_add_name(buf, name, utf8);
    sp_buf_add_byte(buf, ' ');
    sp_imap_add_rights(buf, rights);
    sp_buf_add_str(buf, "\r\n");
}

/* mod-rights: "+", "-" or nothing, then letters. What is no right is BAD (3.1). */
static bool take_rights(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    struct sp_slice text;
    if (!sp_imap_take_astring(p, &text))
        return false;
    command->acl.op = SP_ACL_REPLACE;
    if (text.len && (text.ptr[0] == '+' || text.ptr[0] == '-')) {
        command->acl.op = text.ptr[0] == '+' ? SP_ACL_ADD : SP_ACL_REMOVE;
        text = sp_slice_from(text, 1);
    }
    for (size_t i = 0; i < text.len; i++) {
        size_t k = 0;
        while (k < LETTERS && text.ptr[i] != letters[k].letter)
            k++;
        if (k == LETTERS)
            return sp_imap_wrong(p, "Unknown right");
        command->acl.rights |= letters[k].rights;
    }
    return true;
}

static bool take_identifier(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    return sp_imap_take_space(p) && sp_imap_take_astring(p, &command->acl.identifier);
}

bool sp_imap_parse_acl(struct sp_imap_parse *p, struct sp_imap_command *command)
{
    if (!sp_imap_take_space(p) || !sp_imap_take_mailbox(p, &command->acl.name))
        return false;
    switch (command->verb) {
    case SP_IMAP_SETACL:
        return take_identifier(p, command) && sp_imap_take_space(p) && take_rights(p, command);
    case SP_IMAP_DELETEACL: /* no rights any more */
    case SP_IMAP_LISTRIGHTS:
        return take_identifier(p, command);
    default:
        return true;
    }
}
