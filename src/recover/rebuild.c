#include "recover/gather.h"
#include "recover/losses.h"
#include "recover/output.h"
#include "recover/relic.h"
#include "base/time.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#define SEGMENT_BYTES (64U << 20)
#define MIN_COPIES    2U
#define GAP_SPANS     100000U /* in one GAP record */

struct rebuild {
    const struct sp_recover_rebuild_options *options;
    struct sp_relics relics;
    struct sp_losses losses;
    struct sp_output output;
    struct sp_recover_report *report;
    struct sp_error *error;
};

static enum sp_status no_memory(const struct rebuild *r)
{
    return sp_error_set(r->error, SP_NO_MEMORY, "rebuild", "out of memory");
}

/* ---- Which volume ---- */

static enum sp_status choose_volume(const char *scan_dir, const struct sp_uuid *wanted,
                                    struct sp_uuid *ret_volume, struct sp_error *error)
{
    unsigned count = 0;
    char names[400] = "";
    if (wanted) {
        *ret_volume = *wanted;
        return SP_OK;
    }
    DIR *dir = opendir(scan_dir);
    if (!dir)
        return sp_error_set(error, SP_NOT_FOUND, scan_dir, "cannot be opened: %s", strerror(errno));
    for (struct dirent *e; (e = readdir(dir));) {
        struct sp_uuid volume;
        if (strncmp(e->d_name, "volume-", 7) != 0 ||
            sp_uuid_parse(sp_slice_str(e->d_name + 7), &volume) != SP_OK)
            continue;
        *ret_volume = volume;
        size_t len = strlen(names);
        snprintf(names + len, sizeof names - len, "%s%s", count++ ? ", " : "", e->d_name + 7);
    }
    closedir(dir);
    if (count == 1)
        return SP_OK;
    if (count == 0) {
        sp_error_set(error, SP_NOT_FOUND, scan_dir, "no volume was found there");
        sp_error_todo(error, "scan first, or scan more disks");
        return SP_NOT_FOUND;
    }
    sp_error_set(error, SP_INVALID, scan_dir, "it holds %u volumes: %s", count, names);
    sp_error_todo(error, "say which one");
    return SP_INVALID;
}

/* ---- Segment after segment ---- */

static void take_members(const struct rebuild *r, struct sp_segment_head *head)
{
    for (uint32_t i = 0; i < r->relics.count; i++) {
        const struct sp_relic *relic = &r->relics.relics[i];
        if (!relic->has_head || relic->epoch_id != head->epoch_id)
            continue;
        memcpy(head->members, relic->head.members, sizeof head->members);
        head->members_count = relic->head.members_count;
        head->min_copies = relic->head.min_copies;
        head->segment_bytes = relic->head.segment_bytes;
        return;
    }
}

/* A head for a segment whose own is lost. It follows what was written last. */
static struct sp_segment_head make_head(const struct rebuild *r, uint64_t segment,
                                        uint32_t generation, uint64_t epoch_id,
                                        uint32_t epoch_counter)
{
    const struct sp_log_end *end = &r->output.end;
    struct sp_segment_head head = {.volume = r->relics.volume,
                                   .epoch_id = epoch_id,
                                   .epoch_counter = epoch_counter,
                                   .segment = segment,
                                   .generation = generation,
                                   .epoch_begins = end->epoch_id != epoch_id,
                                   .time_ns = r->losses.last_time_ns,
                                   .next_lsn = end->lsn + 1,
                                   .batch = end->batch + 1,
                                   .min_copies = MIN_COPIES,
                                   .segment_bytes = SEGMENT_BYTES,
                                   .previous = *end};
    take_members(r, &head);
    return head;
}

static struct sp_recover_fate_row *add_row(struct rebuild *r)
{
    struct sp_recover_report *report = r->report;
    if ((report->segments_count & (report->segments_count - 1)) == 0) {
        uint32_t capacity = report->segments_count ? report->segments_count * 2 : 1;
        struct sp_recover_fate_row *grown = realloc(report->segments, capacity * sizeof *grown);
        if (!grown)
            return NULL;
        report->segments = grown;
    }
    struct sp_recover_fate_row *row = &report->segments[report->segments_count++];
    *row = (struct sp_recover_fate_row){0};
    return row;
}

/* The segment that a head names as the one before it, when nothing is left of that one. */
static enum sp_status stand_in(struct rebuild *r, const struct sp_log_end *lost)
{
    struct sp_segment_head head =
        make_head(r, lost->segment, lost->generation + 1, lost->epoch_id, lost->epoch_counter);
    head.next_lsn = lost->lsn + 1;
    head.batch = lost->batch + 1;
    struct sp_recover_fate_row *row = add_row(r);
    if (!row)
        return no_memory(r);
    *row = (struct sp_recover_fate_row){.segment = lost->segment,
                                        .epoch_id = lost->epoch_id,
                                        .epoch_counter = lost->epoch_counter,
                                        .generation = lost->generation,
                                        .written_generation = head.generation,
                                        .fate = SP_RECOVER_EMPTY,
                                        .data_blocks = lost->blocks,
                                        .missing_blocks = lost->blocks};
    return sp_output_rewritten(&r->output, &head, NULL, 1);
}

static enum sp_status note_record(void *context, const struct sp_record *record,
                                  const struct sp_place *place)
{
    (void)place;
    sp_losses_record(context, record);
    return SP_OK;
}

/* How many batch numbers there are for a segment before those of the next begin. */
static uint64_t batch_room(const struct rebuild *r, uint32_t at, uint64_t batch)
{
    if (at + 1 == r->relics.live_count)
        return UINT64_MAX;
    const struct sp_relic *next = &r->relics.relics[r->relics.live[at + 1]];
    if (!next->has_head)
        return next->first_batch > batch && next->first_batch != UINT64_MAX
                   ? next->first_batch - batch
                   : UINT64_MAX;
    return next->head.previous.batch + 1 > batch ? next->head.previous.batch + 1 - batch : 1;
}

static enum sp_status write_segment(struct rebuild *r, uint32_t at, const struct sp_relic *relic,
                                    const struct sp_gathered *gathered,
                                    struct sp_recover_fate_row *row)
{
    if (gathered->whole) {
        row->fate = SP_RECOVER_VERBATIM;
        row->written_generation = relic->generation;
        row->footer_kept = gathered->footer_sound;
        return sp_output_verbatim(&r->output, gathered);
    }
    struct sp_segment_head head = relic->head;
    if (!relic->has_head)
        head = make_head(r, relic->segment, 0, relic->epoch_id, relic->epoch_counter);
    head.generation = relic->generation + 1;
    row->fate = row->records ? SP_RECOVER_REWRITTEN : SP_RECOVER_EMPTY;
    row->written_generation = head.generation;
    return sp_output_rewritten(&r->output, &head, gathered, batch_room(r, at, head.batch));
}

static enum sp_status do_segment(struct rebuild *r, uint32_t at)
{
    const struct sp_relic *relic = &r->relics.relics[r->relics.live[at]];
    const struct sp_log_end *before = &relic->head.previous;
    enum sp_status status = SP_OK;
    struct sp_image image = {0};
    struct sp_gathered gathered = {0};
    if (relic->has_head && before->segment && r->output.end.segment != before->segment)
        status = stand_in(r, before);
    if (status == SP_OK)
        status = sp_image_load(&r->relics, relic, at + 1 == r->relics.live_count, &image);
    if (status == SP_OK)
        status = sp_gather(&r->relics, relic, &image, &gathered);
    if (status != SP_OK)
        goto out;
    struct sp_recover_fate_row *row = add_row(r);
    if (!row) {
        status = no_memory(r);
        goto out;
    }
    *row = (struct sp_recover_fate_row){.segment = relic->segment,
                                        .epoch_id = relic->epoch_id,
                                        .epoch_counter = relic->epoch_counter,
                                        .generation = relic->generation,
                                        .data_blocks = image.end,
                                        .missing_blocks = image.end - image.present,
                                        .void_blocks = image.void_blocks,
                                        .healed_records = gathered.healed_count};
    uint64_t records = r->report->records;
    sp_losses_segment(&r->losses, relic->has_head ? &relic->head : NULL);
    status = sp_gathered_each(&gathered, note_record, &r->losses);
    row->records = r->report->records - records;
    /* Its end may be known although it is lost. */
    if (relic->declared)
        sp_losses_up_to(&r->losses, relic->end_declared.lsn);
    else if (relic->has_trailer && relic->trailer.data_blocks == image.end)
        sp_losses_up_to(&r->losses, relic->trailer.last_lsn);
    if (status == SP_OK && r->losses.failed)
        status = no_memory(r);
    if (status == SP_OK)
        status = write_segment(r, at, relic, &gathered, row);
out:
    sp_gathered_release(&gathered);
    sp_image_release(&image);
    return status;
}

static enum sp_status list_void(struct rebuild *r)
{
    for (uint32_t i = 0; i < r->relics.count; i++) {
        const struct sp_relic *relic = &r->relics.relics[i];
        if (relic->state == SP_RELIC_LIVE)
            continue;
        struct sp_recover_fate_row *row = add_row(r);
        if (!row)
            return no_memory(r);
        row->segment = relic->segment;
        row->epoch_id = relic->epoch_id;
        row->epoch_counter = relic->epoch_counter;
        row->generation = relic->generation;
        row->fate = SP_RECOVER_VOID;
        row->void_blocks = relic->data_blocks;
    }
    return SP_OK;
}

/* Where a loss was accepted, what the units that were not there had more is another history: void
 * here, and perhaps all that is left of it. */
static void note_left(struct rebuild *r)
{
    for (uint32_t i = 0; i < r->relics.live_count; i++) {
        const struct sp_relic *live = &r->relics.relics[r->relics.live[i]];
        const struct sp_segment_head *head = &live->head;
        uint64_t blocks = 0;
        if (!live->has_head || !head->epoch_begins || !head->previous.segment ||
            head->next_lsn <= head->previous.lsn + 1 ||
            sp_spans_has(&r->losses.merged, head->next_lsn))
            continue;
        for (uint32_t k = 0; k < r->relics.count; k++) {
            const struct sp_relic *relic = &r->relics.relics[k];
            if (relic->state == SP_RELIC_VOID && relic->data_blocks > 1 &&
                relic->epoch_counter >= head->previous.epoch_counter &&
                relic->epoch_counter < head->epoch_counter)
                blocks += relic->data_blocks;
        }
        if (blocks)
            sp_recover_note(r->report,
                            "Epoch %u was begun without all that came before it (a loss was "
                            "accepted, or a raw recovery). Another history went on from segment "
                            "%llu: %llu blocks of it are here, are not in this log, and were never "
                            "wholly merged into it. Keep its units: `sternpost unit add` in the "
                            "rebuilt platform merges them; or rebuild them alone, for themselves.",
                            head->epoch_counter, (unsigned long long)head->previous.segment,
                            (unsigned long long)blocks);
    }
}

/* ---- The new epoch ---- */

static struct sp_segment_head new_epoch(const struct rebuild *r, uint64_t gap_lsn, uint64_t time_ns)
{
    static const uint8_t roles[SP_OUTPUT_UNITS] = {SP_MEMBER_REPLICA, SP_MEMBER_REPLICA,
                                                   SP_MEMBER_SPARE};
    const struct sp_segment_head *last = NULL;
    uint32_t counter = 0;
    for (uint32_t i = 0; i < r->relics.count; i++)
        if (r->relics.relics[i].epoch_counter > counter)
            counter = r->relics.relics[i].epoch_counter;
    for (uint32_t i = 0; i < r->relics.live_count; i++)
        if (r->relics.relics[r->relics.live[i]].has_head)
            last = &r->relics.relics[r->relics.live[i]].head;
    struct sp_segment_head head = {.volume = r->relics.volume,
                                   .epoch_id = sp_random_u64(),
                                   .epoch_counter = counter + 1,
                                   .segment = r->output.end.segment + 1,
                                   .epoch_begins = true,
                                   .time_ns = time_ns,
                                   .next_lsn = gap_lsn,
                                   .batch = r->output.end.batch + 1,
                                   .min_copies = MIN_COPIES,
                                   .segment_bytes = last ? last->segment_bytes : SEGMENT_BYTES,
                                   .previous = r->output.end,
                                   .members_count = SP_OUTPUT_UNITS};
    const struct sp_spans lost = {.ptr = r->report->lost.ptr, .count = r->report->lost.count};
    if (last && !sp_spans_has(&lost, last->manifest_lsn)) {
        head.manifest_segment = last->manifest_segment;
        head.manifest_lsn = last->manifest_lsn;
    }
    for (unsigned i = 0; i < SP_OUTPUT_UNITS; i++) {
        head.members[i].unit = r->output.units[i]->id;
        head.members[i].role = roles[i];
        if (roles[i] == SP_MEMBER_REPLICA && r->output.last_lsn) {
            head.members[i].ranges_count = 1;
            head.members[i].ranges[0].first = 1;
            head.members[i].ranges[0].last = r->output.last_lsn;
        }
    }
    return head;
}

static enum sp_status add_gaps(const struct rebuild *r, uint64_t lsn, uint64_t time_ns,
                               struct sp_record *records, struct sp_buf *payloads, uint32_t count)
{
    const struct sp_recover_report *report = r->report;
    static const struct sp_uuid nil;
    uint64_t previous = sp_losses_tail(&r->losses, &nil, 0);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from = i * GAP_SPANS, n = report->lost.count - from;
        struct sp_gap gap = {
            .lsns = {report->lost.ptr ? report->lost.ptr + from : NULL,
                     n < GAP_SPANS ? n : GAP_SPANS},
            .modseq_skip = i ? 0 : SP_RECOVER_MODSEQ_SKIP,
            .uidnext_skip = i ? 0 : SP_RECOVER_UIDNEXT_SKIP,
            .reason = SP_S("rebuilt from raw blocks: the end of the log cannot be proven")};
        sp_buf_init(&payloads[i], SP_RECORD_PAYLOAD_MAX);
        sp_gap_write(&gap, &payloads[i]);
        if (sp_buf_failed(&payloads[i]))
            return no_memory(r);
        records[i] = (struct sp_record){.type = SP_RECORD_GAP,
                                        .flags = SP_RECORD_CHAINED,
                                        .lsn = lsn + i,
                                        .time_ns = time_ns,
                                        .previous = i ? lsn + i - 1 : previous,
                                        .payload = sp_buf_slice(&payloads[i])};
    }
    return SP_OK;
}

static enum sp_status begin_epoch(struct rebuild *r)
{
    const struct sp_recover_report *report = r->report;
    uint64_t last =
        r->losses.next_lsn - 1 > r->output.end.lsn ? r->losses.next_lsn - 1 : r->output.end.lsn;
    uint64_t lsn = last + SP_RECOVER_LSN_SKIP, time_ns = sp_wall_ns();
    uint32_t gaps = report->lost.count / GAP_SPANS + 1, count = gaps;
    if (lsn > (uint64_t)INT64_MAX - report->broken_count - gaps)
        return sp_error_set(r->error, SP_LIMIT, "rebuild", "there are no LSNs left for a gap");
    if (time_ns < r->losses.last_time_ns)
        time_ns = r->losses.last_time_ns;
    struct sp_record *records = calloc((size_t)gaps + report->broken_count, sizeof *records);
    struct sp_buf *payloads = calloc(gaps, sizeof *payloads);
    enum sp_status status =
        records && payloads ? add_gaps(r, lsn, time_ns, records, payloads, gaps) : no_memory(r);
    for (uint32_t i = 0; status == SP_OK && report->accepted_loss && i < report->broken_count;
         i++) {
        const struct sp_recover_broken *b = &report->broken[i];
        bool is_volume = sp_uuid_is_nil(&b->account) && b->mailbox == 0;
        records[count] = (struct sp_record){.type = SP_RECORD_UNPROTECT,
                                            .flags = SP_RECORD_CHAINED,
                                            .lsn = lsn + count,
                                            .time_ns = time_ns,
                                            .account = b->account,
                                            .mailbox = b->mailbox,
                                            .previous = is_volume ? lsn + gaps - 1 : b->last_lsn};
        count++;
    }
    if (status == SP_OK) {
        struct sp_segment_head head = new_epoch(r, lsn, time_ns);
        uint8_t block[SP_BLOCK_BYTES];
        r->report->gap_lsn = lsn;
        r->report->new_segment = head.segment;
        r->report->new_epoch_id = head.epoch_id;
        r->report->new_epoch_counter = head.epoch_counter;
        status = sp_output_open_segment(&r->output, &head, records, count, block);
        if (status == SP_OK)
            status = sp_output_vote(&r->output, &head, block);
    }
    for (uint32_t i = 0; payloads && i < gaps; i++)
        sp_buf_release(&payloads[i]);
    free(payloads);
    free(records);
    return status;
}

/* ---- The whole ---- */

enum sp_status sp_recover_rebuild(const char *scan_dir, const char *dir,
                                  const struct sp_recover_rebuild_options *options,
                                  struct sp_recover_report *ret_report, struct sp_error *error)
{
    struct rebuild r = {.options = options, .report = ret_report, .error = error};
    *ret_report = (struct sp_recover_report){.accepted_loss = options && options->accept_loss};
    enum sp_status status =
        choose_volume(scan_dir, options ? options->volume : NULL, &ret_report->volume, error);
    if (status == SP_OK)
        status = sp_relics_load(&r.relics, scan_dir, &ret_report->volume, ret_report, error);
    if (status == SP_OK)
        status = sp_relics_sort_out(&r.relics);
    if (status == SP_OK && !sp_losses_init(&r.losses, ret_report))
        status = no_memory(&r);
    if (status == SP_OK)
        status = sp_output_open(&r.output, dir, &ret_report->volume, error);
    for (uint32_t i = 0; status == SP_OK && i < r.relics.live_count; i++) {
        status = do_segment(&r, i);
        if (status == SP_OK && options && options->progress)
            options->progress(options->context, i + 1, r.relics.live_count);
    }
    if (status == SP_OK)
        status = list_void(&r);
    if (status == SP_OK)
        note_left(&r);
    if (status == SP_OK && !sp_losses_finish(&r.losses))
        status = no_memory(&r);
    if (status == SP_OK)
        status = begin_epoch(&r);
    if (status == SP_OK)
        status = sp_output_config(&r.output, dir);
    sp_output_close(&r.output);
    sp_losses_release(&r.losses);
    sp_relics_release(&r.relics);
    return status;
}

void sp_recover_report_release(struct sp_recover_report *report)
{
    for (uint32_t i = 0; i < report->broken_count; i++) {
        free(report->broken[i].address);
        free(report->broken[i].path);
        free(report->broken[i].uids.ptr);
    }
    for (uint32_t i = 0; i < report->bodiless_count; i++) {
        free(report->bodiless[i].address);
        free(report->bodiless[i].path);
        free(report->bodiless[i].subject);
    }
    for (uint32_t i = 0; i < report->notes_count; i++)
        free(report->notes[i]);
    free(report->segments);
    free(report->lost.ptr);
    free(report->broken);
    free(report->bodiless);
    free(report->notes);
    *report = (struct sp_recover_report){0};
}
