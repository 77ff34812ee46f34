/* GETACL, SETACL, DELETEACL, LISTRIGHTS, MYRIGHTS (RFC 4314). */
#include "proto/imap/state.h"

#include "proto/imap/respond.h"
#include "proto/imap/rights.h"

/* An address or "anyone", which have neither quotes nor backslashes in them. */
static void add_identifier(struct sp_buf *out, struct sp_slice identifier)
{
    sp_buf_add_str(out, " \"");
    sp_buf_add(out, identifier);
    sp_buf_add_str(out, "\" ");
}

static void tell_acl(struct sp_imap *s, const struct sp_reply *reply)
{
    sp_buf_add_str(&s->out, "* ACL ");
    sp_imap_add_name(&s->out, s->command.acl.name, s->utf8);
    for (uint32_t i = 0; i < reply->acl_count; i++) {
        add_identifier(&s->out, reply->acl[i].identifier);
        sp_imap_add_rights(&s->out, reply->acl[i].rights);
    }
    sp_buf_add_str(&s->out, "\r\n");
}

/* Of the owner all are there for good; anybody else may have any or none. */
static void tell_listrights(struct sp_imap *s, const struct sp_reply *reply)
{
    bool owner = reply->acl_count && reply->acl[0].owner;
    sp_buf_add_str(&s->out, "* LISTRIGHTS ");
    sp_imap_add_name(&s->out, s->command.acl.name, s->utf8);
    if (reply->acl_count)
        add_identifier(&s->out, reply->acl[0].identifier);
    if (owner)
        sp_imap_add_rights(&s->out, SP_RIGHTS_ALL);
    else
        sp_buf_add_str(&s->out, "\"\" l r s w i p k x t e c d a");
    sp_buf_add_str(&s->out, "\r\n");
}

static void on_acl(struct sp_imap *s, const struct sp_reply *reply)
{
    if (reply->status != SP_OK) {
        sp_imap_refuse(s, reply, "NONEXISTENT");
        return;
    }
    if (s->command.verb == SP_IMAP_GETACL)
        tell_acl(s, reply);
    else if (s->command.verb == SP_IMAP_LISTRIGHTS)
        tell_listrights(s, reply);
    else if (s->command.verb == SP_IMAP_MYRIGHTS && reply->mailboxes_count)
        sp_imap_add_myrights(&s->out, s->command.acl.name, reply->mailboxes[0].rights, s->utf8);
    sp_imap_finish_ok(s);
}

void sp_imap_run_acl(struct sp_imap *s)
{
    enum sp_imap_verb verb = s->command.verb;
    bool set = verb == SP_IMAP_SETACL || verb == SP_IMAP_DELETEACL;
    struct sp_slice name = s->command.acl.name, identifier = s->command.acl.identifier;
    if (!name.len) {
        sp_imap_finish(s, "NO [CANNOT] A mailbox must have a name");
        return;
    }
    struct sp_request *request = sp_imap_request(s, set ? SP_REQ_ACL_SET : SP_REQ_ACL_GET);
    if (!request)
        return;
    request->name = sp_arena_copy(&request->arena, name);
    request->acl.identifier = sp_arena_copy(&request->arena, identifier);
    request->acl.want = verb == SP_IMAP_GETACL       ? SP_ACL_ALL
                        : verb == SP_IMAP_LISTRIGHTS ? SP_ACL_ONE
                                                     : SP_ACL_MINE;
    request->acl.op = s->command.acl.op;
    request->acl.rights = s->command.acl.rights;
    if (request->name.ptr && (request->acl.identifier.ptr || !identifier.len))
        sp_imap_submit(s, request, on_acl);
    else
        sp_imap_abandon(s, request);
}
