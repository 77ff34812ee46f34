/* Records: the facts of the log (docs/format.md, "Record").
 *
 * A record is a 64-byte header and a payload whose layout its type names. Records follow one
 * another without padding in the payload stream of a batch's blocks. Every record but bodies
 * belongs to one *chain*: (account, mailbox), where mailbox 0 is the account's own chain (its
 * mailbox list, credentials) and the nil account's is the volume's (accounts, domains, manifest).
 * `previous` names the LSN of the chain's record before it, so that a gap shows whose it is.
 */
#ifndef SP_FORMAT_RECORD_H
#define SP_FORMAT_RECORD_H

#include "base/uuid.h"

#define SP_RECORD_HEADER_BYTES 64U
#define SP_RECORD_PAYLOAD_MAX  (4U << 20) /* no record's payload is longer */

enum sp_record_type {
    SP_RECORD_BODY = 1,       /* a whole message's bytes */
    SP_RECORD_BODY_CHUNK = 2, /* a piece of a long one's */
    SP_RECORD_MESSAGE = 3,    /* gives an account a body */
    SP_RECORD_FLAGS = 4,
    SP_RECORD_EXPUNGE = 5,
    SP_RECORD_CATALOGUE = 6, /* what a mailbox holds */
    SP_RECORD_UNPROTECT = 7, /* the operator opened a protected mailbox or list */
    SP_RECORD_MAILBOX = 16,  /* a mailbox was made */
    SP_RECORD_MAILBOX_RENAME = 17,
    SP_RECORD_MAILBOX_DELETE = 18,
    SP_RECORD_SUBSCRIBE = 19,
    SP_RECORD_CREDENTIAL = 20,
    SP_RECORD_ACL = 22,     /* who may do what with a mailbox */
    SP_RECORD_ACCOUNT = 32, /* an account was made */
    SP_RECORD_ACCOUNT_REMOVE = 33,
    SP_RECORD_DOMAIN = 34,
    SP_RECORD_MANIFEST = 48,
    SP_RECORD_GAP = 49,     /* LSNs declared lost */
    SP_RECORD_TAILS = 50,   /* where every chain stands */
    SP_RECORD_DROPPED = 51, /* stands for records that compaction left out */
    SP_RECORD_CLOCK = 52,   /* how long the volume was open */
    SP_RECORD_GUARD = 53,   /* what was asked of the guard, and what became of it */
    SP_RECORD_ERASE = 54,   /* what was expunged is no longer held */
    SP_RECORD_MERGE = 55,   /* how far another history has been merged into this one */
};
/* "message"; "unknown" for others. */
const char *sp_record_type_name(unsigned type);

#define SP_RECORD_OPTIONAL 0x01U /* a reader that does not know the type skips it */
#define SP_RECORD_CHAINED  0x02U

struct sp_record {
    uint8_t type, flags;
    uint64_t lsn;     /* 1 .. 2^63-1 */
    uint64_t time_ns; /* wall clock; never less than its predecessor's */
    struct sp_uuid account;
    uint32_t mailbox;
    uint64_t previous;      /* LSN of the chain's record before this; 0: it is the first */
    uint32_t payload_bytes; /* as the header states */
    struct sp_slice
        payload; /* all of it, or in a footer's table the first part (bodies: the head alone) */
};

/* Where a record lies: its header's first byte. */
struct sp_place {
    uint64_t segment;
    uint32_t generation;
    uint32_t block;
    uint16_t offset; /* in that block's payload */
};

/* Writes the header for record (payload and its CRC included; payload itself is not copied). */
void sp_record_write_header(const struct sp_record *record,
                            uint8_t ret_header[SP_RECORD_HEADER_BYTES]);
/* Reads a header: SP_CORRUPT when its fields make no sense. Sets everything but payload; *ret_crc
 * is for sp_record_check. */
enum sp_status sp_record_read_header(const uint8_t header[SP_RECORD_HEADER_BYTES],
                                     struct sp_record *ret_record, uint32_t *ret_crc) SP_MUST_USE;
/* Whether header and whole payload match the CRC. */
bool sp_record_check(const uint8_t header[SP_RECORD_HEADER_BYTES], struct sp_slice payload);

/* Records that hold message bytes start their payload with this head (48 bytes); the rest is the
 * bytes, coded. */
#define SP_BODY_HEAD_BYTES 48U
#define SP_CODEC_RAW       0U
#define SP_CODEC_ZSTD      1U /* one frame */
static inline bool sp_record_is_body(unsigned type)
{
    return type == SP_RECORD_BODY || type == SP_RECORD_BODY_CHUNK;
}

#endif
