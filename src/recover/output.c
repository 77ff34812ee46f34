#include "recover/output.h"
#include "format/vote.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BLOCKS 1024U
#define BATCH_BYTES  (1U << 20)
#define WAIT_MS      1000U
#define REPLICAS     2U

static const char *const unit_names[SP_OUTPUT_UNITS] = {"a", "b", "c"};

static enum sp_status no_memory(const struct sp_output *output)
{
    return sp_error_set(output->error, SP_NO_MEMORY, "rebuild", "out of memory");
}

/* ---- Units ---- */

/* A scan's own files may be there already: the platform is then made beside them. */
static bool made_by_scan(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "scan.json") == 0 ||
           strncmp(name, "volume-", 7) == 0;
}

static enum sp_status make_dir(const char *path, struct sp_error *error)
{
    if (mkdir(path, 0700) == 0)
        return SP_OK;
    if (errno != EEXIST)
        return sp_error_set(error, errno == ENOSPC ? SP_NO_SPACE : SP_IO, path,
                            "cannot be made: %s", strerror(errno));
    DIR *dir = opendir(path);
    if (!dir)
        return sp_error_set(error, SP_IO, path, "cannot be opened: %s", strerror(errno));
    enum sp_status status = SP_OK;
    for (struct dirent *e; status == SP_OK && (e = readdir(dir));) {
        if (made_by_scan(e->d_name))
            continue;
        status = sp_error_set(error, SP_EXISTS, path, "it holds %s already", e->d_name);
        sp_error_todo(error, "nothing is ever rebuilt over something else: move it away (units of "
                             "an interrupted rebuild too), or name another folder with --to");
    }
    closedir(dir);
    return status;
}

enum sp_status sp_output_open(struct sp_output *output, const char *dir,
                              const struct sp_uuid *volume, struct sp_error *error)
{
    *output =
        (struct sp_output){.volume = *volume, .error = error, .builder = sp_footer_builder_new()};
    if (!output->builder)
        return no_memory(output);
    enum sp_status status = make_dir(dir, error);
    for (unsigned i = 0; i < SP_OUTPUT_UNITS && status == SP_OK; i++) {
        char path[4096];
        struct sp_uuid id;
        snprintf(path, sizeof path, "%s/unit-%s", dir, unit_names[i]);
        status = sp_unit_dir_init(path, volume, &id, error);
        if (status == SP_OK)
            status = sp_unit_dir_open(path, unit_names[i], &id, &output->units[i], error);
    }
    return status;
}

void sp_output_close(struct sp_output *output)
{
    for (unsigned i = 0; i < SP_OUTPUT_UNITS; i++)
        if (output->units[i])
            output->units[i]->ops->close(output->units[i]);
    sp_footer_builder_free(output->builder);
    *output = (struct sp_output){0};
}

static enum sp_status create(struct sp_output *output, uint64_t segment, uint32_t generation)
{
    enum sp_status status = SP_OK;
    for (unsigned i = 0; i < REPLICAS && status == SP_OK; i++)
        status =
            output->units[i]->ops->create(output->units[i], segment, generation, 0, output->error);
    return status;
}

/* Writes onto both replicas at once. blocks: aligned. */
static enum sp_status put(struct sp_output *output, uint64_t segment, uint32_t generation,
                          uint32_t first, const uint8_t *blocks, uint32_t count)
{
    enum sp_status status = SP_OK;
    for (uint32_t done = 0; done < count && status == SP_OK; done += PIECE_BLOCKS) {
        uint32_t n = count - done < PIECE_BLOCKS ? count - done : PIECE_BLOCKS;
        for (unsigned i = 0; i < REPLICAS; i++)
            output->units[i]->ops->write_start(output->units[i], segment, generation, first + done,
                                               blocks + (size_t)done * SP_BLOCK_BYTES, n);
        for (unsigned i = 0; i < REPLICAS; i++) {
            enum sp_status one;
            do
                one = output->units[i]->ops->wait(output->units[i], WAIT_MS,
                                                  status == SP_OK ? output->error : NULL);
            while (one == SP_TIMEOUT); /* there is no other unit to turn to */
            if (status == SP_OK)
                status = one;
        }
    }
    return status;
}

static enum sp_status seal(struct sp_output *output, uint64_t segment, uint32_t generation,
                           uint32_t blocks)
{
    enum sp_status status = SP_OK;
    for (unsigned i = 0; i < REPLICAS && status == SP_OK; i++)
        status = output->units[i]->ops->seal(output->units[i], segment, generation, blocks,
                                             output->error);
    return status;
}

/* Makes the footer from what the builder was told, writes it and seals the segment. */
static enum sp_status finish(struct sp_output *output, const struct sp_block_header *last,
                             uint32_t data_blocks)
{
    uint8_t *blocks;
    uint32_t count;
    struct sp_trailer trailer;
    if (sp_footer_builder_finish(output->builder, last, output->end.chain, &blocks, &count,
                                 &trailer) != SP_OK)
        return no_memory(output);
    sp_assert(trailer.data_blocks == data_blocks);
    enum sp_status status =
        put(output, last->segment, last->generation, data_blocks, blocks, count);
    free(blocks);
    return status == SP_OK ? seal(output, last->segment, last->generation, data_blocks + count)
                           : status;
}

/* ---- Whole segments ---- */

static enum sp_status list_record(void *context, const struct sp_record *record,
                                  const struct sp_place *place)
{
    sp_footer_builder_record(context, record, place);
    return SP_OK;
}

enum sp_status sp_output_verbatim(struct sp_output *output, const struct sp_gathered *gathered)
{
    const struct sp_image *image = gathered->image;
    const struct sp_segment_id *id = &image->id;
    uint32_t count = gathered->footer_sound ? gathered->sealed_blocks : image->end;
    sp_segment_sound_end(image->blocks, image->end, id, &output->end);
    if (output->end.lsn > output->last_lsn)
        output->last_lsn = output->end.lsn;
    enum sp_status status = create(output, id->segment, id->generation);
    if (status == SP_OK)
        status = put(output, id->segment, id->generation, 0, image->blocks, count);
    if (status != SP_OK)
        return status;
    if (gathered->footer_sound)
        return seal(output, id->segment, id->generation, count);
    struct sp_block_header last;
    sp_footer_builder_reset(output->builder);
    sp_footer_builder_blocks(output->builder, image->blocks, image->end);
    status = sp_gathered_each(gathered, list_record, output->builder);
    if (status != SP_OK ||
        sp_block_read(image->blocks + (size_t)(image->end - 1) * SP_BLOCK_BYTES, &last) != SP_OK)
        return status;
    return finish(output, &last, image->end);
}

/* ---- Segments written anew ---- */

struct writing {
    struct sp_output *output;
    struct sp_batch batch;
    struct sp_block_header last; /* of what is written */
    uint64_t batches_left, target_bytes;
    bool footer;
};

static enum sp_status flush(struct writing *w)
{
    uint32_t count = sp_batch_blocks(&w->batch);
    struct sp_output *output = w->output;
    struct sp_record record;
    struct sp_place place;
    struct sp_buf scratch;
    uint64_t cursor = 0;
    if (count == 0)
        return SP_OK;
    struct sp_block_header first = w->last;
    first.index = output->end.blocks;
    first.batch = output->end.batch + 1;
    first.chain = output->end.chain;
    output->end.chain = sp_batch_finish(&w->batch, &first);
    sp_buf_init(&scratch, SP_RECORD_PAYLOAD_MAX + SP_BLOCK_BYTES);
    while (w->footer && sp_batch_next(&w->batch, &cursor, &scratch, &record, &place)) {
        place.segment = first.segment;
        place.generation = first.generation;
        place.block += first.index;
        sp_footer_builder_record(output->builder, &record, &place);
    }
    sp_buf_release(&scratch);
    if (w->footer)
        sp_footer_builder_blocks(output->builder, w->batch.blocks, count);
    enum sp_status status =
        put(output, first.segment, first.generation, first.index, w->batch.blocks, count);
    output->end.blocks += count;
    output->end.batch = first.batch;
    output->end.lsn = w->batch.last_lsn;
    w->last = first;
    if (w->batches_left > 1)
        w->batches_left--;
    sp_batch_reset(&w->batch);
    return status;
}

static enum sp_status write_record(void *context, const struct sp_record *record,
                                   const struct sp_place *place)
{
    struct writing *w = context;
    (void)place;
    if (record->lsn <= w->output->last_lsn)
        return SP_OK; /* a forgery, or a twin under another place */
    uint64_t len = SP_RECORD_HEADER_BYTES + record->payload.len;
    bool full = w->batches_left > 1 ? w->batch.stream_bytes + len > w->target_bytes
                                    : w->batch.stream_bytes + len > SP_BATCH_BYTES_MAX;
    if (w->batch.stream_bytes && full) {
        enum sp_status status = flush(w);
        if (status != SP_OK)
            return status;
    }
    sp_batch_add(&w->batch, record);
    w->output->last_lsn = record->lsn;
    if (record->time_ns > w->output->end_time_ns)
        w->output->end_time_ns = record->time_ns;
    return w->batch.failed ? no_memory(w->output) : SP_OK;
}

static enum sp_status write_head(struct writing *w, const struct sp_segment_head *head,
                                 uint8_t *block)
{
    struct sp_output *output = w->output;
    sp_batch_init(&w->batch);
    sp_segment_head_write(head, block);
    output->end = (struct sp_log_end){.epoch_id = head->epoch_id,
                                      .epoch_counter = head->epoch_counter,
                                      .segment = head->segment,
                                      .generation = head->generation,
                                      .blocks = 1,
                                      .lsn = head->next_lsn - 1,
                                      .batch = head->batch - 1,
                                      .chain = sp_block_chain(block)};
    if (sp_block_read(block, &w->last) != SP_OK)
        return sp_error_set(output->error, SP_CORRUPT, "rebuild",
                            "a head that was just made does not check");
    w->last.first_offset = SP_NO_RECORD;
    if (w->footer) {
        sp_footer_builder_reset(output->builder);
        sp_footer_builder_blocks(output->builder, block, 1);
    }
    enum sp_status status = create(output, head->segment, head->generation);
    return status == SP_OK ? put(output, head->segment, head->generation, 0, block, 1) : status;
}

static enum sp_status add_bytes(void *context, const struct sp_record *record,
                                const struct sp_place *place)
{
    (void)place;
    *(uint64_t *)context += SP_RECORD_HEADER_BYTES + record->payload.len;
    return SP_OK;
}

enum sp_status sp_output_rewritten(struct sp_output *output, const struct sp_segment_head *head,
                                   const struct sp_gathered *gathered, uint64_t batches)
{
    struct writing w = {
        .output = output, .batches_left = batches, .footer = true, .target_bytes = BATCH_BYTES};
    uint64_t bytes = 0;
    void *block;
    if (posix_memalign(&block, SP_BLOCK_BYTES, SP_BLOCK_BYTES) != 0)
        return no_memory(output);
    enum sp_status status = gathered ? sp_gathered_each(gathered, add_bytes, &bytes) : SP_OK;
    /* Enough into each batch that their numbers stay below those of the next segment. */
    if (batches && bytes / batches + bytes / batches / 8 > w.target_bytes)
        w.target_bytes = bytes / batches + bytes / batches / 8;
    if (w.target_bytes > SP_BATCH_BYTES_MAX)
        w.target_bytes = SP_BATCH_BYTES_MAX;
    if (status == SP_OK)
        status = write_head(&w, head, block);
    if (status == SP_OK && gathered)
        status = sp_gathered_each(gathered, write_record, &w);
    if (status == SP_OK)
        status = flush(&w);
    if (status == SP_OK) {
        w.last.flags = 0;
        status = finish(output, &w.last, output->end.blocks);
    }
    sp_batch_release(&w.batch);
    free(block);
    return status;
}

enum sp_status sp_output_open_segment(struct sp_output *output, const struct sp_segment_head *head,
                                      const struct sp_record *records, size_t count,
                                      uint8_t ret_head_block[SP_BLOCK_BYTES])
{
    struct writing w = {.output = output, .batches_left = UINT64_MAX, .target_bytes = BATCH_BYTES};
    void *block;
    if (posix_memalign(&block, SP_BLOCK_BYTES, SP_BLOCK_BYTES) != 0)
        return no_memory(output);
    enum sp_status status = write_head(&w, head, block);
    for (size_t i = 0; i < count && status == SP_OK; i++)
        status = write_record(&w, &records[i], NULL);
    if (status == SP_OK)
        status = flush(&w);
    if (status == SP_OK)
        memcpy(ret_head_block, block, SP_BLOCK_BYTES);
    sp_batch_release(&w.batch);
    free(block);
    return status;
}

/* ---- What makes it a volume ---- */

enum sp_status sp_output_vote(struct sp_output *output, const struct sp_segment_head *head,
                              const uint8_t head_block[SP_BLOCK_BYTES])
{
    uint8_t vote[SP_VOTE_BYTES_MAX];
    size_t len = sp_vote_write(head->epoch_counter, head->epoch_id, head_block, vote);
    enum sp_status status = SP_OK;
    for (unsigned i = 0; i < SP_OUTPUT_UNITS && status == SP_OK; i++)
        status =
            output->units[i]->ops->vote_write(output->units[i], sp_slice(vote, len), output->error);
    return status;
}

enum sp_status sp_output_config(const struct sp_output *output, const char *dir)
{
    char path[4096], id[SP_UUID_TEXT];
    snprintf(path, sizeof path, "%s/sternpost.conf", dir);
    sp_uuid_text(&output->volume, id);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    bool good = file;
    if (good)
        fprintf(
            file,
            "# Written by `sternpost recover rebuild`. All three units are in one directory: move "
            "them to\n"
            "# disks of their own before relying on them, and take allow_shared_domain out again.\n"
            "[server]\nhostname = localhost\nstate = state\n\n"
            "[listen]\nsmtp = 127.0.0.1:2525\nlmtp = 127.0.0.1:2424\nimap = 127.0.0.1:1143\n\n"
            "[unit a]\nkind = dir\npath = unit-a\n\n"
            "[unit b]\nkind = dir\npath = unit-b\n\n"
            "[unit c]\nkind = dir\npath = unit-c\nrole = spare\n\n"
            "[volume main]\nid = %s\nunits = a b c\nmin_copies = 2\nallow_shared_domain = yes\n",
            id);
    good = good && fflush(file) == 0 && fsync(fd) == 0;
    int code = errno;
    if (file)
        fclose(file);
    else if (fd >= 0)
        close(fd);
    for (unsigned up = 0; good && up < 2; up++) {
        snprintf(path, sizeof path, "%s%s", dir, up ? "/.." : "");
        int dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        good = dir_fd >= 0 && fsync(dir_fd) == 0;
        code = errno;
        if (dir_fd >= 0)
            close(dir_fd);
    }
    return good ? SP_OK
                : sp_error_set(output->error, code == ENOSPC ? SP_NO_SPACE : SP_IO, path,
                               "cannot be written: %s", strerror(code));
}
