#include "proto/imap/status_items.h"

#include "proto/imap/command.h"
#include "proto/imap/respond.h"

void sp_imap_add_status(struct sp_buf *buf, struct sp_slice name,
                        const struct sp_mailbox_info *info, unsigned items, uint64_t append_limit,
                        bool utf8)
{
    const struct {
        unsigned item;
        const char *name;
        uint64_t value;
    } all[] = {
        {SP_IMAP_STATUS_MESSAGES, "MESSAGES ", info->messages},
        {SP_IMAP_STATUS_RECENT, "RECENT ", 0},
        {SP_IMAP_STATUS_UIDNEXT, "UIDNEXT ", info->uidnext},
        {SP_IMAP_STATUS_UIDVALIDITY, "UIDVALIDITY ", info->uidvalidity},
        {SP_IMAP_STATUS_UNSEEN, "UNSEEN ", info->unseen},
        {SP_IMAP_STATUS_HIGHESTMODSEQ, "HIGHESTMODSEQ ",
         info->highestmodseq ? info->highestmodseq : 1},
        {SP_IMAP_STATUS_DELETED, "DELETED ", info->deleted},
        {SP_IMAP_STATUS_SIZE, "SIZE ", info->size},
        {SP_IMAP_STATUS_APPENDLIMIT, "APPENDLIMIT ", append_limit},
    };
    const char *separator = " (";
    sp_buf_add(buf, SP_S("* STATUS "));
    sp_imap_add_name(buf, name, utf8);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (!(items & all[i].item))
            continue;
        sp_buf_add_str(buf, separator);
        sp_buf_add_str(buf, all[i].name);
        sp_buf_add_decimal(buf, all[i].value);
        separator = " ";
    }
    if (items & SP_IMAP_STATUS_MAILBOXID) {
        sp_buf_add_str(buf, separator);
        sp_buf_add(buf, SP_S("MAILBOXID ("));
        sp_imap_add_object_id(buf, 'F', info->object_id);
        sp_buf_add_byte(buf, ')');
    }
    sp_buf_add(buf, SP_S(")\r\n"));
}
