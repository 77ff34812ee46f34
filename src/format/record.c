#include "format/record.h"
#include "base/checksum.h"
#include "base/endian.h"

enum {
    AT_MAGIC = 0,
    AT_TYPE = 2,
    AT_FLAGS = 3,
    AT_PAYLOAD_BYTES = 4,
    AT_LSN = 8,
    AT_TIME = 16,
    AT_ACCOUNT = 24,
    AT_PREVIOUS = 40,
    AT_MAILBOX = 48,
    AT_RESERVED = 52, /* 8 bytes, zero */
    AT_CRC = 60,
};

static const uint8_t magic[2] = {'S', 'R'};

const char *sp_record_type_name(unsigned type)
{
    switch (type) {
    case SP_RECORD_BODY:
        return "body";
    case SP_RECORD_BODY_CHUNK:
        return "body-chunk";
    case SP_RECORD_MESSAGE:
        return "message";
    case SP_RECORD_FLAGS:
        return "flags";
    case SP_RECORD_EXPUNGE:
        return "expunge";
    case SP_RECORD_CATALOGUE:
        return "catalogue";
    case SP_RECORD_UNPROTECT:
        return "unprotect";
    case SP_RECORD_MAILBOX:
        return "mailbox";
    case SP_RECORD_MAILBOX_RENAME:
        return "mailbox-rename";
    case SP_RECORD_MAILBOX_DELETE:
        return "mailbox-delete";
    case SP_RECORD_SUBSCRIBE:
        return "subscribe";
    case SP_RECORD_CREDENTIAL:
        return "credential";
    case SP_RECORD_ACL:
        return "acl";
    case SP_RECORD_ACCOUNT:
        return "account";
    case SP_RECORD_ACCOUNT_REMOVE:
        return "account-remove";
    case SP_RECORD_DOMAIN:
        return "domain";
    case SP_RECORD_MANIFEST:
        return "manifest";
    case SP_RECORD_GAP:
        return "gap";
    case SP_RECORD_TAILS:
        return "tails";
    case SP_RECORD_GUARD:
        return "guard";
    case SP_RECORD_MERGE:
        return "merge";
    case SP_RECORD_DROPPED:
        return "dropped";
    case SP_RECORD_CLOCK:
        return "clock";
    case SP_RECORD_ERASE:
        return "erase";
    default:
        return "unknown";
    }
}

static uint32_t record_crc(const uint8_t *header, struct sp_slice payload)
{
    return sp_crc32c(sp_crc32c(0, sp_slice(header, AT_CRC)), payload);
}

void sp_record_write_header(const struct sp_record *record,
                            uint8_t ret_header[SP_RECORD_HEADER_BYTES])
{
    sp_assert(record->payload.len <= SP_RECORD_PAYLOAD_MAX && record->lsn &&
              record->lsn <= INT64_MAX && record->previous < record->lsn);
    memset(ret_header, 0, SP_RECORD_HEADER_BYTES);
    memcpy(ret_header + AT_MAGIC, magic, 2);
    ret_header[AT_TYPE] = record->type;
    ret_header[AT_FLAGS] = record->flags;
    sp_put_u32(ret_header + AT_PAYLOAD_BYTES, (uint32_t)record->payload.len);
    sp_put_u64(ret_header + AT_LSN, record->lsn);
    sp_put_u64(ret_header + AT_TIME, record->time_ns);
    memcpy(ret_header + AT_ACCOUNT, record->account.bytes, 16);
    sp_put_u64(ret_header + AT_PREVIOUS, record->previous);
    sp_put_u32(ret_header + AT_MAILBOX, record->mailbox);
    sp_put_u32(ret_header + AT_CRC, record_crc(ret_header, record->payload));
}

enum sp_status sp_record_read_header(const uint8_t header[SP_RECORD_HEADER_BYTES],
                                     struct sp_record *ret_record, uint32_t *ret_crc)
{
    struct sp_record record = {
        .type = header[AT_TYPE],
        .flags = header[AT_FLAGS],
        .lsn = sp_get_u64(header + AT_LSN),
        .time_ns = sp_get_u64(header + AT_TIME),
        .previous = sp_get_u64(header + AT_PREVIOUS),
        .mailbox = sp_get_u32(header + AT_MAILBOX),
        .payload_bytes = sp_get_u32(header + AT_PAYLOAD_BYTES),
    };
    if (memcmp(header + AT_MAGIC, magic, 2) != 0 || record.payload_bytes > SP_RECORD_PAYLOAD_MAX ||
        record.lsn == 0 || record.lsn > INT64_MAX || record.previous >= record.lsn)
        return SP_CORRUPT;
    memcpy(record.account.bytes, header + AT_ACCOUNT, 16);
    *ret_record = record;
    *ret_crc = sp_get_u32(header + AT_CRC);
    return SP_OK;
}

bool sp_record_check(const uint8_t header[SP_RECORD_HEADER_BYTES], struct sp_slice payload)
{
    return sp_get_u32(header + AT_CRC) == record_crc(header, payload);
}
