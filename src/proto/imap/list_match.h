/* The wildcards of LIST (RFC 3501, 6.3.8): `*` is any run of bytes, `%` any run without '/'. Both
 * sides are UTF-8; the INBOX at the front of a name matches in any case. */
#ifndef SP_PROTO_IMAP_LIST_MATCH_H
#define SP_PROTO_IMAP_LIST_MATCH_H

#include "base/slice.h"

bool sp_imap_list_match(struct sp_slice pattern, struct sp_slice name);

#endif
