#include "recover/classify.h"

size_t sp_classify(struct sp_classifier *classifier, const uint8_t *bytes, size_t len)
{
    size_t at = 0;
    for (;;) {
        struct sp_block_header header;
        while (at + 4 <= len && !sp_has_magic(bytes + at))
            at += SP_SECTOR_BYTES;
        if (at + SP_BLOCK_BYTES > len)
            return at < len ? at : len;
        switch (sp_block_read(bytes + at, &header)) {
        case SP_OK:
            classifier->blocks++;
            classifier->each(classifier->context, bytes + at, &header);
            at += SP_BLOCK_BYTES;
            continue;
        case SP_UNSUPPORTED:
            classifier->later++;
            break;
        default:
            classifier->bad++;
            break;
        }
        at += SP_SECTOR_BYTES;
    }
}

bool sp_any_magic(const uint8_t *bytes, size_t len)
{
    for (size_t at = 0; at + 4 <= len; at += SP_SECTOR_BYTES)
        if (sp_has_magic(bytes + at))
            return true;
    return false;
}
