#include "mail/derive.h"

#include "base/checksum.h"

enum sp_status sp_thread_id(struct sp_bytes *bytes, const struct sp_item *item,
                            uint8_t ret_id[SP_OBJECT_ID_BYTES])
{
    struct sp_slice header, root;
    struct sp_digest digest;
    uint64_t len = item->header_bytes < SP_BYTES_MAX ? item->header_bytes : SP_BYTES_MAX;
    enum sp_status status = sp_bytes_get(bytes, item, 0, len, &header);
    if (status)
        return status;
    if (!sp_mime_thread_root(header, &root))
        return SP_NOT_FOUND;
    sp_digest(root, &digest);
    memcpy(ret_id, digest.bytes, SP_OBJECT_ID_BYTES);
    return SP_OK;
}
