#include "recover/classify.h"
#include "recover/place.h"
#include "recover/sidecar.h"
#include "recover/source.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define HOLES_MAX      1000U
#define PROGRESS_BYTES (64U << 20)

struct scan {
    struct sp_places places;
    struct sp_sidecars sidecars;
    struct sp_classifier classifier;
    struct sp_recover_source *source;
    const struct sp_recover_scan_options *options;
    uint64_t told_bytes;
    /* Blocks that follow one another here and in their segment are written at once. */
    const uint8_t *run;
    struct sp_block_header run_first;
    uint32_t run_count;
    uint8_t rest[SP_BLOCK_BYTES]; /* of the piece before */
    size_t rest_len;
    enum sp_status status;
};

static void flush(struct scan *scan)
{
    if (scan->run_count && scan->status == SP_OK)
        scan->status = sp_places_put(&scan->places, &scan->run_first, scan->run, scan->run_count);
    scan->run_count = 0;
}

static void found(void *context, const uint8_t *block, const struct sp_block_header *header)
{
    struct scan *scan = context;
    const struct sp_block_header *first = &scan->run_first;
    if (scan->run_count && block == scan->run + (size_t)scan->run_count * SP_BLOCK_BYTES &&
        header->index == (uint64_t)first->index + scan->run_count &&
        header->segment == first->segment && header->generation == first->generation &&
        header->epoch_id == first->epoch_id && sp_uuid_eq(&header->volume, &first->volume)) {
        scan->run_count++;
        return;
    }
    flush(scan);
    scan->run = block;
    scan->run_first = *header;
    scan->run_count = 1;
}

static void found_parity(void *context, const uint8_t *block, const struct sp_parity_header *header)
{
    struct scan *scan = context;
    if (scan->status == SP_OK)
        scan->status = sp_sidecars_put(&scan->sidecars, header, block);
}

static enum sp_status look(void *context, const struct sp_piece *piece)
{
    struct scan *scan = context;
    uint8_t *bytes = piece->bytes - scan->rest_len;
    size_t len = scan->rest_len + piece->len;
    memcpy(bytes, scan->rest, scan->rest_len);
    size_t settled = sp_classify(&scan->classifier, bytes, len);
    flush(scan);
    scan->rest_len = len - settled;
    memcpy(scan->rest, bytes + settled, scan->rest_len);
    const struct sp_recover_scan_options *options = scan->options;
    if (options && options->progress && piece->end - scan->told_bytes >= PROGRESS_BYTES) {
        scan->told_bytes = piece->end;
        options->progress(options->context, scan->source->path, piece->end,
                          scan->source->size_bytes);
    }
    return scan->status;
}

static enum sp_status scan_source(struct scan *scan, struct sp_recover_source *source,
                                  struct sp_error *error)
{
    scan->source = source;
    scan->classifier =
        (struct sp_classifier){.each = found, .parity = found_parity, .context = scan};
    scan->rest_len = 0;
    scan->told_bytes = 0;
    enum sp_status status =
        sp_source_read(source, scan->options ? scan->options->read_at : NULL, look, scan, error);
    source->blocks = scan->classifier.blocks;
    source->parity_blocks = scan->classifier.parity_blocks;
    source->bad_blocks = scan->classifier.bad;
    source->later_blocks = scan->classifier.later;
    return status;
}

static bool holes(const struct sp_place_file *file, struct sp_span_list *ret_list)
{
    struct sp_span_list list = {0};
    for (uint32_t i = 0; i < file->end && list.count < HOLES_MAX; i++) {
        if (sp_place_file_has(file, i))
            continue;
        if (list.count && list.ptr[list.count - 1].last + 1 == i) {
            list.ptr[list.count - 1].last = i;
            continue;
        }
        struct sp_span *grown = realloc(list.ptr, (list.count + 1) * sizeof *grown);
        if (!grown) {
            free(list.ptr);
            return false;
        }
        list.ptr = grown;
        list.ptr[list.count++] = (struct sp_span){i, i};
    }
    *ret_list = list;
    return true;
}

static int by_place(const void *left, const void *right)
{
    const struct sp_recover_segment *a = left, *b = right;
    int order = memcmp(a->volume.bytes, b->volume.bytes, 16);
    if (order == 0)
        order = a->segment < b->segment ? -1 : a->segment > b->segment;
    if (order == 0)
        order = a->generation < b->generation ? -1 : a->generation > b->generation;
    return order ? order : (a->version > b->version) - (a->version < b->version);
}

static enum sp_status take_stock(const struct scan *scan, struct sp_recover_scan_report *report)
{
    report->segments =
        calloc(scan->places.files_count ? scan->places.files_count : 1, sizeof *report->segments);
    if (!report->segments)
        return SP_NO_MEMORY;
    for (uint32_t i = 0; i < scan->places.files_count; i++) {
        const struct sp_place_file *file = &scan->places.files[i];
        struct sp_recover_segment *segment = &report->segments[report->segments_count++];
        *segment = (struct sp_recover_segment){.volume = file->volume,
                                               .segment = file->segment,
                                               .epoch_id = file->epoch_id,
                                               .generation = file->generation,
                                               .epoch_counter = file->epoch_counter,
                                               .version = file->version,
                                               .blocks = file->blocks,
                                               .end = file->end,
                                               .twins = file->twins,
                                               .conflicts = file->conflicts};
        if (!holes(file, &segment->holes))
            return SP_NO_MEMORY;
    }
    qsort(report->segments, report->segments_count, sizeof *report->segments, by_place);
    for (uint32_t i = 0; i < report->segments_count; i++)
        report->volumes_count +=
            i == 0 || !sp_uuid_eq(&report->segments[i].volume, &report->segments[i - 1].volume);
    for (uint32_t i = 0; i < report->sources_count; i++) {
        report->read_bytes += report->sources[i].read_bytes;
        report->bad_blocks += report->sources[i].bad_blocks;
        report->blocks += report->sources[i].blocks;
    }
    report->parity_blocks = scan->sidecars.blocks;
    report->rebuilt = scan->sidecars.rebuilt;
    report->twins = scan->places.twins;
    report->conflicts = scan->places.conflicts;
    report->dropped = scan->places.dropped;
    return SP_OK;
}

static enum sp_status write_inventory(const struct sp_recover_scan_report *report,
                                      const char *out_dir, struct sp_error *error)
{
    char path[4096], temporary[4096];
    enum sp_status status = SP_OK;
    snprintf(path, sizeof path, "%s/scan.json", out_dir);
    snprintf(temporary, sizeof temporary, "%s/scan.json.tmp", out_dir);
    json_t *json = sp_recover_scan_report_json(report);
    if (!json)
        return sp_error_set(error, SP_NO_MEMORY, path, "out of memory");
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || json_dumpfd(json, fd, JSON_INDENT(2)) != 0 || fsync(fd) != 0 ||
        rename(temporary, path) != 0)
        status = sp_error_set(error, errno == ENOSPC ? SP_NO_SPACE : SP_IO, path,
                              "cannot be written: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    json_decref(json);
    return status;
}

enum sp_status sp_recover_scan(const char *const *sources, size_t sources_count,
                               const char *out_dir, const struct sp_recover_scan_options *options,
                               struct sp_recover_scan_report *ret_report, struct sp_error *error)
{
    struct scan *scan = calloc(1, sizeof *scan);
    uint64_t begun_us = sp_now_us();
    *ret_report = (struct sp_recover_scan_report){0};
    if (!scan)
        return sp_error_set(error, SP_NO_MEMORY, "scan", "out of memory");
    scan->options = options;
    enum sp_status status = sp_sources_list(sources, sources_count, out_dir, &ret_report->sources,
                                            &ret_report->sources_count, error);
    sp_sidecars_init(&scan->sidecars, out_dir, error);
    if (status == SP_OK)
        status = sp_places_open(&scan->places, out_dir, error);
    for (uint32_t i = 0; status == SP_OK && i < ret_report->sources_count; i++)
        status = scan_source(scan, &ret_report->sources[i], error);
    if (status == SP_OK)
        status = sp_sidecars_mend(&scan->sidecars, &scan->places);
    ret_report->seconds = (double)(sp_now_us() - begun_us) / 1e6;
    if (status == SP_OK)
        status = sp_places_sync(&scan->places);
    if (status == SP_OK && take_stock(scan, ret_report) != SP_OK)
        status = sp_error_set(error, SP_NO_MEMORY, "scan", "out of memory");
    if (status == SP_OK)
        status = write_inventory(ret_report, out_dir, error);
    sp_places_close(&scan->places);
    sp_sidecars_close(&scan->sidecars);
    free(scan);
    return status;
}

void sp_recover_scan_report_release(struct sp_recover_scan_report *report)
{
    for (uint32_t i = 0; i < report->sources_count; i++) {
        free(report->sources[i].path);
        free(report->sources[i].bad);
    }
    for (uint32_t i = 0; i < report->segments_count; i++)
        free(report->segments[i].holes.ptr);
    free(report->sources);
    free(report->segments);
    *report = (struct sp_recover_scan_report){0};
}
