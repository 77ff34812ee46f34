#include "recover/classify.h"

static enum sp_status look(struct sp_classifier *classifier, const uint8_t *bytes)
{
    struct sp_block_header header;
    struct sp_parity_header parity;
    enum sp_status status = sp_block_read(bytes, &header);
    if (status == SP_OK) {
        classifier->blocks++;
        classifier->each(classifier->context, bytes, &header);
    }
    if (status != SP_NOT_FOUND)
        return status;
    status = sp_parity_block_read(bytes, &parity);
    if (status == SP_OK) {
        classifier->parity_blocks++;
        classifier->parity(classifier->context, bytes, &parity);
    }
    return status;
}

size_t sp_classify(struct sp_classifier *classifier, const uint8_t *bytes, size_t len)
{
    size_t at = 0;
    for (;;) {
        while (at + 4 <= len && !sp_has_magic(bytes + at))
            at += SP_SECTOR_BYTES;
        if (at + SP_BLOCK_BYTES > len)
            return at < len ? at : len;
        switch (look(classifier, bytes + at)) {
        case SP_OK:
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
