/* Where the rest of a long section is, for a session that has sent the beginning of it.
 *
 * A literal's length is promised before its bytes are read, and another session may expunge the
 * message in between. The log still has its bytes, but the index no longer knows where. So a reply
 * that has the first piece of a section alone says where the rest lies, in bytes that mean nothing
 * to the session, and are given back when it asks for it. They are signed with a secret of this
 * process, and name account, mailbox and UID: nobody can make them up, and nobody can read with
 * them what he was not reading.
 */
#ifndef SP_MAIL_REST_H
#define SP_MAIL_REST_H

#include "mail/decoded.h"

struct sp_rest {
    uint64_t offset, bytes; /* of the whole section in the message; of fields: of the header */
    struct sp_item item;
    struct sp_decoding decoding; /* of a part that is decoded: where that stands */
};

/* Into arena; ptr NULL: no memory. */
struct sp_slice sp_rest_write(const struct sp_mail *mail, const struct sp_mailbox_ref *mailbox,
                              uint32_t uid, const struct sp_rest *rest, struct sp_arena *arena);
/* The item's bodies lie in arena. SP_INVALID: it is not of this process, or of another message. */
enum sp_status sp_rest_read(const struct sp_mail *mail, const struct sp_mailbox_ref *mailbox,
                            uint32_t uid, struct sp_slice bytes, struct sp_arena *arena,
                            struct sp_rest *ret_rest) SP_MUST_USE;

#endif
