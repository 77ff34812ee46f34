#include "recover/recover.h"
#include "format/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void print(json_t *json, FILE *file)
{
    if (!json)
        return;
    json_dumpf(json, file, JSON_COMPACT | JSON_SORT_KEYS);
    fputc('\n', file);
    json_decref(json);
}

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* Chain values and epochs use all 64 bits, which JSON's numbers do not hold. */
static json_t *hex(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    char text[2 * 32 + 1] = "";
    for (size_t i = 0; i < len; i++)
        snprintf(text + 2 * i, 3, "%02x", at[i]);
    return json_string(text);
}

static json_t *hex64(uint64_t value)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, value);
    return json_string(text);
}

static json_t *end_json(const struct sp_log_end *end)
{
    return json_pack("{so,so,so,so,so,so,so,so}", "epoch_id", hex64(end->epoch_id), "epoch_counter",
                     number(end->epoch_counter), "segment", number(end->segment), "generation",
                     number(end->generation), "blocks", number(end->blocks), "lsn",
                     number(end->lsn), "batch", number(end->batch), "chain", hex64(end->chain));
}

static void print_head(const uint8_t *block, FILE *file)
{
    struct sp_segment_head h;
    if (sp_segment_head_read(block, &h) != SP_OK)
        return;
    print(json_pack("{ss,so,so,so,sb,so,so,so,so,so,so,so,so}", "kind", "head", "segment",
                    number(h.segment), "generation", number(h.generation), "epoch_id",
                    hex64(h.epoch_id), "epoch_begins", h.epoch_begins, "epoch_counter",
                    number(h.epoch_counter), "time", number(h.time_ns), "next_lsn",
                    number(h.next_lsn), "batch", number(h.batch), "min_copies",
                    number(h.min_copies), "segment_bytes", number(h.segment_bytes), "members",
                    number(h.members_count), "previous", end_json(&h.previous)),
          file);
}

static void print_record(const struct sp_record *record, const struct sp_place *place, FILE *file)
{
    struct sp_digest digest;
    struct sp_arena arena;
    struct sp_message m;
    sp_digest(record->payload, &digest);
    json_t *json = json_pack(
        "{ss,so,ss,so,so,so,so,so,so,so,so,so}", "kind", "record", "lsn", number(record->lsn),
        "type", sp_record_type_name(record->type), "flags", number(record->flags), "time",
        number(record->time_ns), "account", hex(record->account.bytes, 16), "mailbox",
        number(record->mailbox), "previous", number(record->previous), "payload_bytes",
        number(record->payload_bytes), "block", number(place->block), "offset",
        number(place->offset), "digest", hex(digest.bytes, sizeof digest.bytes));
    sp_arena_init(&arena, 64U << 20);
    if (json && record->type == SP_RECORD_MESSAGE &&
        sp_message_read(record->payload, &arena, &m) == SP_OK) {
        json_object_set_new(json, "uid", number(m.uid));
        json_object_set_new(json, "uidvalidity", number(m.uidvalidity));
        json_object_set_new(json, "modseq", number(m.modseq));
        json_object_set_new(json, "size", number(m.size));
        json_object_set_new(json, "bodies", number(m.bodies.count));
    }
    sp_arena_release(&arena);
    print(json, file);
}

static void print_trailer(const uint8_t *blocks, uint32_t count, const struct sp_segment_id *id,
                          FILE *file)
{
    for (uint32_t i = count; i-- > 0;) {
        struct sp_block_header h;
        struct sp_trailer t;
        if (sp_trailer_read(blocks + (size_t)i * SP_BLOCK_BYTES, &h, &t) != SP_OK || h.index != i ||
            h.segment != id->segment)
            continue;
        print(json_pack("{ss,so,so,so,so,so,so,so,so}", "kind", "trailer", "first_lsn",
                        number(t.first_lsn), "last_lsn", number(t.last_lsn), "records",
                        number(t.records), "data_blocks", number(t.data_blocks), "table_blocks",
                        number(t.table_blocks), "table_bytes", number(t.table_bytes),
                        "table_raw_bytes", number(t.table_raw_bytes), "digest",
                        hex(t.digest.bytes, sizeof t.digest.bytes)),
              file);
        return;
    }
}

static void dump(const uint8_t *blocks, uint32_t count, const struct sp_segment_id *id, FILE *file)
{
    struct sp_walker walker;
    struct sp_record record;
    struct sp_place place;
    struct sp_log_end end;
    print_head(blocks, file);
    sp_walker_init(&walker, blocks, count, 0, id);
    while (sp_walker_next(&walker, &record, &place))
        print_record(&record, &place, file);
    sp_walker_release(&walker);
    print_trailer(blocks, count, id, file);
    sp_segment_sound_end(blocks, count, id, &end);
    print(json_pack("{ss,so}", "kind", "end", "end", end_json(&end)), file);
}

enum sp_status sp_recover_dump(const char *path, FILE *file, struct sp_error *error)
{
    struct stat st;
    void *blocks = NULL;
    enum sp_status status = SP_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        status = sp_error_set(error, SP_IO, path, "%s", strerror(errno));
        goto out;
    }
    uint64_t count = (uint64_t)st.st_size / SP_BLOCK_BYTES;
    size_t len = (size_t)count * SP_BLOCK_BYTES, done = 0;
    if (count > UINT32_MAX || posix_memalign(&blocks, SP_BLOCK_BYTES, len + SP_BLOCK_BYTES) != 0) {
        blocks = NULL;
        status = sp_error_set(error, SP_NO_MEMORY, path, "it does not fit into memory");
        goto out;
    }
    while (done < len) {
        ssize_t n = pread(fd, (uint8_t *)blocks + done, len - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            status = sp_error_set(error, SP_IO, path, "cannot be read: %s", strerror(errno));
            goto out;
        }
        done += (size_t)n;
    }
    /* The first block that is valid says which segment it is. */
    status = SP_CORRUPT;
    for (uint32_t i = 0; i < count && status != SP_OK; i++) {
        struct sp_block_header h;
        if (sp_block_read((uint8_t *)blocks + (size_t)i * SP_BLOCK_BYTES, &h) != SP_OK)
            continue;
        struct sp_segment_id id = {h.volume, h.segment, h.generation};
        dump(blocks, (uint32_t)count, &id, file);
        status = SP_OK;
    }
    if (status != SP_OK)
        sp_error_set(error, status, path, "there is no valid block in it");
out:
    if (fd >= 0)
        close(fd);
    free(blocks);
    return status;
}
