/* The STATUS response (RFC 3501, 7.2.4; RFC 7162; RFC 7889; RFC 8438; RFC 8474). */
#ifndef SP_PROTO_IMAP_STATUS_ITEMS_H
#define SP_PROTO_IMAP_STATUS_ITEMS_H

#include "base/buf.h"
#include "mail/request.h"

/* items: SP_IMAP_STATUS_*. */
void sp_imap_add_status(struct sp_buf *buf, struct sp_slice name,
                        const struct sp_mailbox_info *info, unsigned items, uint64_t append_limit,
                        bool utf8);

#endif
