/* Rights as IMAP writes them (RFC 4314, 2.1): letters, and the obsolete `c` and `d` that stand for
 * several (2.1.1). Pure. */
#ifndef SP_PROTO_IMAP_RIGHTS_H
#define SP_PROTO_IMAP_RIGHTS_H

#include "base/buf.h"
#include "proto/imap/command.h"

/* "lrswipkxtecda", or "" in quotes when there are none. */
void sp_imap_add_rights(struct sp_buf *buf, uint32_t rights);
/* The MYRIGHTS response. */
void sp_imap_add_myrights(struct sp_buf *buf, struct sp_slice name, uint32_t rights, bool utf8);

/* The arguments of the five commands, from the blank before them on. */
bool sp_imap_parse_acl(struct sp_imap_parse *p, struct sp_imap_command *command);

#endif
