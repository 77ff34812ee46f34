#include "recover/recover.h"

#include <inttypes.h>
#include <stdlib.h>

#define PRINTED_MAX 50U /* rows of each kind for people; the JSON has them all */

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* Names come from raw disks: what is not UTF-8 is shown as far as it is. */
static json_t *words(const char *text)
{
    if (!text)
        return json_null();
    json_t *json = json_string(text);
    if (json)
        return json;
    char *copy = strdup(text);
    if (!copy)
        return NULL;
    for (char *c = copy; *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    json = json_string(copy);
    free(copy);
    return json;
}

static json_t *uuid(const struct sp_uuid *id)
{
    char text[SP_UUID_TEXT];
    sp_uuid_text(id, text);
    return json_string(text);
}

static json_t *epoch(uint64_t id)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, id);
    return json_string(text);
}

/* Pairs, both ends included. */
static json_t *spans(struct sp_span_list list)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < list.count && array; i++)
        json_array_append_new(
            array, json_pack("[o,o]", number(list.ptr[i].first), number(list.ptr[i].last)));
    return array;
}

json_t *sp_recover_scan_report_json(const struct sp_recover_scan_report *report)
{
    json_t *sources = json_array(), *segments = json_array();
    for (uint32_t i = 0; i < report->sources_count; i++) {
        const struct sp_recover_source *s = &report->sources[i];
        json_array_append_new(
            sources,
            json_pack("{so,so,so,so,so,so,so,so,so,so}", "path", words(s->path), "size_bytes",
                      number(s->size_bytes), "read_bytes", number(s->read_bytes), "blocks",
                      number(s->blocks), "parity_blocks", number(s->parity_blocks), "bad_blocks",
                      number(s->bad_blocks), "later_blocks", number(s->later_blocks),
                      "unread_bytes", number(s->unread_bytes), "unread",
                      spans((struct sp_span_list){s->bad, s->bad_count}), "note",
                      words(s->note[0] ? s->note : NULL)));
    }
    for (uint32_t i = 0; i < report->segments_count; i++) {
        const struct sp_recover_segment *s = &report->segments[i];
        json_array_append_new(
            segments, json_pack("{so,so,so,so,so,so,so,so,so,so,so}", "volume", uuid(&s->volume),
                                "segment", number(s->segment), "generation", number(s->generation),
                                "epoch", epoch(s->epoch_id), "epoch_counter",
                                number(s->epoch_counter), "version", number(s->version), "blocks",
                                number(s->blocks), "end", number(s->end), "twins", number(s->twins),
                                "conflicts", number(s->conflicts), "holes", spans(s->holes)));
    }
    return json_pack("{so,so,so,so,so,so,so,so,so,sf,so,so}", "volumes",
                     number(report->volumes_count), "parity_blocks", number(report->parity_blocks),
                     "rebuilt", number(report->rebuilt), "read_bytes", number(report->read_bytes),
                     "blocks", number(report->blocks), "bad_blocks", number(report->bad_blocks),
                     "twins", number(report->twins), "conflicts", number(report->conflicts),
                     "dropped", number(report->dropped), "seconds", report->seconds, "sources",
                     sources, "segments", segments);
}

static void print_plural(FILE *file, uint64_t count, const char *one, const char *many)
{
    fprintf(file, "%" PRIu64 " %s", count, count == 1 ? one : many);
}

void sp_recover_scan_report_print(const struct sp_recover_scan_report *report, FILE *file)
{
    for (uint32_t i = 0; i < report->sources_count; i++) {
        const struct sp_recover_source *s = &report->sources[i];
        if (!s->blocks && !s->parity_blocks && !s->bad_blocks && !s->unread_bytes &&
            !s->later_blocks && !s->note[0])
            continue;
        fprintf(file, "%s: ", s->path);
        print_plural(file, s->blocks, "block", "blocks");
        if (s->parity_blocks)
            fprintf(file, ", %" PRIu64 " of parity", s->parity_blocks);
        if (s->bad_blocks)
            fprintf(file, ", %" PRIu64 " damaged", s->bad_blocks);
        if (s->later_blocks)
            fprintf(file, ", %" PRIu64 " of a later format", s->later_blocks);
        if (s->unread_bytes)
            fprintf(file, ", %" PRIu64 " bytes could not be read", s->unread_bytes);
        fprintf(file, "%s%s\n", s->note[0] ? "; " : "", s->note);
        for (uint32_t k = 0; k < s->bad_count && k < PRINTED_MAX; k++)
            fprintf(file, "  unread: bytes %" PRIu64 " to %" PRIu64 "\n", s->bad[k].first,
                    s->bad[k].last);
    }
    const struct sp_recover_segment *before = NULL;
    for (uint32_t i = 0; i < report->segments_count; i++) {
        const struct sp_recover_segment *s = &report->segments[i];
        char text[SP_UUID_TEXT];
        if (!before || !sp_uuid_eq(&before->volume, &s->volume)) {
            sp_uuid_text(&s->volume, text);
            fprintf(file, "Volume %s\n", text);
        }
        before = s;
        uint64_t missing = s->end - s->blocks;
        if (!missing && !s->version && !s->conflicts)
            continue;
        fprintf(file, "  segment %" PRIu64 " generation %u%s: %u of %u blocks", s->segment,
                s->generation, s->version ? " (other blocks for its places)" : "", s->blocks,
                s->end);
        if (s->conflicts)
            fprintf(file, ", %" PRIu64 " in dispute", s->conflicts);
        fputc('\n', file);
    }
    double seconds = report->seconds > 0 ? report->seconds : 1e-9;
    fprintf(file, "Read %.1f MB in %.1f s (%.0f MB/s): ", (double)report->read_bytes / 1e6, seconds,
            (double)report->read_bytes / 1e6 / seconds);
    print_plural(file, report->volumes_count, "volume", "volumes");
    fprintf(file, ", ");
    print_plural(file, report->blocks, "block", "blocks");
    fprintf(file, " (%" PRIu64 " of them twice or more), %" PRIu64 " damaged.\n", report->twins,
            report->bad_blocks);
    if (report->rebuilt)
        fprintf(file, "%" PRIu64 " blocks that were found nowhere are rebuilt from parity.\n",
                report->rebuilt);
    if (report->dropped)
        fprintf(file,
                "%" PRIu64 " blocks were not kept: too many different ones claim their places.\n",
                report->dropped);
}

static const char *fate_name(enum sp_recover_fate fate)
{
    switch (fate) {
    case SP_RECOVER_VERBATIM:
        return "verbatim";
    case SP_RECOVER_REWRITTEN:
        return "rewritten";
    case SP_RECOVER_EMPTY:
        return "empty";
    case SP_RECOVER_VOID:
        return "void";
    }
    return "unknown";
}

json_t *sp_recover_report_json(const struct sp_recover_report *report)
{
    json_t *segments = json_array(), *broken = json_array(), *bodiless = json_array(),
           *notes = json_array();
    for (uint32_t i = 0; i < report->segments_count; i++) {
        const struct sp_recover_fate_row *s = &report->segments[i];
        json_array_append_new(
            segments,
            json_pack("{so,so,so,so,so,ss,so,so,so,so,so,sb}", "segment", number(s->segment),
                      "epoch", epoch(s->epoch_id), "epoch_counter", number(s->epoch_counter),
                      "generation", number(s->generation), "written_generation",
                      number(s->written_generation), "fate", fate_name(s->fate), "data_blocks",
                      number(s->data_blocks), "missing_blocks", number(s->missing_blocks),
                      "void_blocks", number(s->void_blocks), "records", number(s->records),
                      "healed_records", number(s->healed_records), "footer_kept", s->footer_kept));
    }
    for (uint32_t i = 0; i < report->broken_count; i++) {
        const struct sp_recover_broken *b = &report->broken[i];
        json_array_append_new(broken,
                              json_pack("{so,so,so,so,so,so,so,so}", "account", uuid(&b->account),
                                        "address", words(b->address), "mailbox", number(b->mailbox),
                                        "path", words(b->path), "last_lsn", number(b->last_lsn),
                                        "breaks", number(b->breaks), "missing_messages",
                                        number(b->missing_uids), "missing_uids", spans(b->uids)));
    }
    for (uint32_t i = 0; i < report->bodiless_count; i++) {
        const struct sp_recover_bodiless *b = &report->bodiless[i];
        json_array_append_new(
            bodiless, json_pack("{so,so,so,so,so,so,so,so}", "account", uuid(&b->account),
                                "address", words(b->address), "mailbox", number(b->mailbox), "path",
                                words(b->path), "uid", number(b->uid), "subject", words(b->subject),
                                "size", number(b->size), "lsn", number(b->lsn)));
    }
    for (uint32_t i = 0; i < report->notes_count; i++)
        json_array_append_new(notes, words(report->notes[i]));
    return json_pack("{so,so,so,so,so,so,so,so,so,so,sb,so,so,so,so,so}", "volume",
                     uuid(&report->volume), "records", number(report->records), "messages",
                     number(report->messages), "lost_lsns", number(report->lost_lsns), "lost",
                     spans(report->lost), "lost_tail_lsns", number(report->lost_tail_lsns),
                     "last_lsn", number(report->last_lsn), "gap_lsn", number(report->gap_lsn),
                     "new_segment", number(report->new_segment), "new_epoch_counter",
                     number(report->new_epoch_counter), "accepted_loss", report->accepted_loss,
                     "segments", segments, "broken", broken, "bodiless_messages",
                     number(report->bodiless_total), "bodiless", bodiless, "notes", notes);
}

/* Text from raw disks goes to a terminal without its control characters. */
static void print_text(FILE *file, const char *text)
{
    for (const char *c = text ? text : "?"; *c; c++)
        fputc((unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c, file);
}

static void print_broken(const struct sp_recover_report *report, FILE *file)
{
    for (uint32_t i = 0; i < report->broken_count && i < PRINTED_MAX; i++) {
        const struct sp_recover_broken *b = &report->broken[i];
        fputs("  ", file);
        if (sp_uuid_is_nil(&b->account)) {
            fputs("the list of accounts", file);
        } else {
            print_text(file, b->address);
            fputs(b->mailbox ? ", " : ", its list of mailboxes", file);
            if (b->mailbox)
                print_text(file, b->path);
        }
        if (b->missing_uids) {
            fputs(": ", file);
            print_plural(file, b->missing_uids, "message lacks its record: UID ",
                         "messages lack their records: UIDs ");
            for (uint32_t k = 0; k < b->uids.count && k < PRINTED_MAX; k++) {
                fprintf(file, "%s%" PRIu64, k ? ", " : "", b->uids.ptr[k].first);
                if (b->uids.ptr[k].last != b->uids.ptr[k].first)
                    fprintf(file, "-%" PRIu64, b->uids.ptr[k].last);
            }
            if (b->uids.count > PRINTED_MAX)
                fputs(", ...", file);
        }
        fputc('\n', file);
    }
    if (report->broken_count > PRINTED_MAX)
        fprintf(file, "  and %u more (--json names them all)\n",
                report->broken_count - PRINTED_MAX);
}

static void print_bodiless(const struct sp_recover_report *report, FILE *file)
{
    for (uint32_t i = 0; i < report->bodiless_count && i < PRINTED_MAX; i++) {
        const struct sp_recover_bodiless *b = &report->bodiless[i];
        fputs("  ", file);
        print_text(file, b->address);
        fputs(", ", file);
        print_text(file, b->path);
        fprintf(file, ", UID %u, %" PRIu64 " bytes: ", b->uid, b->size);
        print_text(file, b->subject ? b->subject : "(no subject)");
        fputc('\n', file);
    }
    if (report->bodiless_total > PRINTED_MAX)
        fprintf(file, "  and %" PRIu64 " more\n", report->bodiless_total - PRINTED_MAX);
}

void sp_recover_report_print(const struct sp_recover_report *report, FILE *file)
{
    uint32_t counts[4] = {0};
    char text[SP_UUID_TEXT];
    sp_uuid_text(&report->volume, text);
    for (uint32_t i = 0; i < report->segments_count; i++)
        counts[report->segments[i].fate]++;
    fprintf(file, "Volume %s: %" PRIu64 " records, ", text, report->records);
    print_plural(file, report->messages, "message", "messages");
    fprintf(file,
            ".\nSegments: %u whole, %u damaged and written anew, %u with nothing left; %u void, "
            "left in the scan.\n",
            counts[SP_RECOVER_VERBATIM], counts[SP_RECOVER_REWRITTEN], counts[SP_RECOVER_EMPTY],
            counts[SP_RECOVER_VOID]);
    if (report->lost_lsns == 0) {
        fputs("No record is missing up to the last one that was found.\n", file);
    } else {
        fprintf(file, "Records missing: %" PRIu64 ", LSNs ", report->lost_lsns);
        for (uint32_t i = 0; i < report->lost.count && i < PRINTED_MAX; i++) {
            fprintf(file, "%s%" PRIu64, i ? ", " : "", report->lost.ptr[i].first);
            if (report->lost.ptr[i].last != report->lost.ptr[i].first)
                fprintf(file, "-%" PRIu64, report->lost.ptr[i].last);
        }
        fputs(report->lost.count > PRINTED_MAX ? ", ...\n" : "\n", file);
    }
    if (report->lost_tail_lsns)
        fprintf(file,
                "%" PRIu64 " of them come after the last full account in the log: whose they were "
                "is known only where a later record of the same mailbox is left.\n",
                report->lost_tail_lsns);
    if (report->broken_count) {
        fprintf(file, "Incomplete%s:\n",
                report->accepted_loss ? " (the loss was accepted: they are open)"
                                      : " and protected until the loss is accepted");
        print_broken(report, file);
    }
    if (report->bodiless_total) {
        fputs("Messages that are listed and whose text is lost:\n", file);
        print_bodiless(report, file);
    }
    for (uint32_t i = 0; i < report->notes_count; i++)
        fprintf(file, "Note: %s\n", report->notes[i]);
    fprintf(file,
            "Whether the log once went further than LSN %" PRIu64
            " cannot be proven from raw blocks. It goes on with "
            "LSN %" PRIu64 "; MODSEQs and UIDs lead as far ahead.\n",
            report->last_lsn, report->gap_lsn);
}
