#include "web/metrics.h"

#include "base/log.h"
#include "base/time.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* What was seen in one look. */
struct view {
    const struct sp_metrics_source *source;
    struct sp_volume_status volume;
    struct sp_server_counters server;
    uint64_t guard[4]; /* requests, by guard_states */
    uint64_t guard_unapproved;
    uint64_t now_ns;
};

enum type { COUNTER, GAUGE, HISTOGRAM };
static const char *const type_names[] = {"counter", "gauge", "histogram"};

enum scope { OF_PROGRAM, OF_VOLUME, OF_UNIT, OF_PROTOCOL };

/* One line for each metric. The value is a field (of what its scope says), or what `get` returns;
 * with `label` there is one for each of `values`, and `get` is told which. Of a histogram `which`
 * says of what, and the powers of two that get a bucket; its values are multiplied by `scale`. */
struct metric {
    const char *name, *help;
    enum type type;
    enum scope scope;
    size_t offset, bytes; /* the field; bytes 0: none */
    double (*get)(const struct view *view, uint32_t i, uint32_t value);
    const char *label;
    const char *const *values; /* ends in NULL */
    double scale;              /* 0: 1 */
    enum sp_volume_distribution which;
    uint32_t power_first, power_last;
};

/* ---- Values that are no field ---- */

static const char *const unit_states[] = {"replica", "spare",  "witness", "ejected",
                                          "stale",   "absent", NULL};
static const char *const guard_states[] = {"waiting", "done", "undone", "refused", NULL};
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const answer_classes[] = {"temporary", "permanent", NULL};
static const char *const versions[] = {SP_VERSION, NULL};

static double one(const struct view *view, uint32_t i, uint32_t value)
{
    (void)view, (void)i, (void)value;
    return 1;
}

static double started(const struct view *view, uint32_t i, uint32_t value)
{
    (void)i, (void)value;
    return (double)view->source->started_ns / 1e9;
}

static double log_lines(const struct view *view, uint32_t i, uint32_t value)
{
    (void)view, (void)i;
    return (double)sp_log_lines((enum sp_log_level)value);
}

static double log_left_out(const struct view *view, uint32_t i, uint32_t value)
{
    (void)view, (void)i, (void)value;
    return (double)sp_log_left_out();
}

static double unit_state(const struct view *view, uint32_t i, uint32_t value)
{
    return (uint32_t)view->volume.units[i].state == value;
}

static double guard_requests(const struct view *view, uint32_t i, uint32_t value)
{
    (void)i;
    return (double)view->guard[value];
}

static double guard_unapproved(const struct view *view, uint32_t i, uint32_t value)
{
    (void)i, (void)value;
    return (double)view->guard_unapproved;
}

static double scrub_progress(const struct view *view, uint32_t i, uint32_t value)
{
    (void)i, (void)value;
    const struct sp_volume_status *v = &view->volume;
    return v->scrub_total_blocks ? (double)v->scrub_done_blocks / (double)v->scrub_total_blocks : 0;
}

static const struct sp_session_counts *counts_of(const struct view *view, uint32_t i)
{
    const char *name;
    return sp_server_session_counts(view->source->server, i, &name);
}

#define SESSION(field)                                                                             \
    static double session_##field(const struct view *view, uint32_t i, uint32_t value)             \
    {                                                                                              \
        (void)value;                                                                               \
        return (double)atomic_load(&counts_of(view, i)->field);                                    \
    }
SESSION(sessions)
SESSION(sessions_now)
SESSION(logins)
SESSION(logins_denied)
SESSION(messages)
SESSION(copies)

static double answers(const struct view *view, uint32_t i, uint32_t value)
{
    const struct sp_session_counts *counts = counts_of(view, i);
    return (double)(value == 0 ? atomic_load(&counts->answers_temporary)
                               : atomic_load(&counts->answers_permanent));
}

/* ---- The table ---- */

#define FIELD(type, field) .offset = offsetof(type, field), .bytes = sizeof(((type *)0)->field)
#define VOLUME(field)      OF_VOLUME, FIELD(struct sp_volume_status, field)
#define UNIT(field)        OF_UNIT, FIELD(struct sp_volume_unit_status, field)
#define SERVER(field)      OF_PROGRAM, FIELD(struct sp_server_counters, field)
#define NS                 .scale = 1e-9
#define US                 .scale = 1e-6

/* clang-format off */
static const struct metric metrics[] = {
    {"sternpost_build_info", "The program's version, as a label.", GAUGE, OF_PROGRAM, .get = one, .label = "version", .values = versions},
    {"sternpost_start_time_seconds", "When the server started, in seconds since 1970.", GAUGE, OF_PROGRAM, .get = started},
    {"sternpost_log_lines_total", "Lines written to the log.", COUNTER, OF_PROGRAM, .get = log_lines, .label = "level", .values = log_levels},
    {"sternpost_log_lines_left_out_total", "Warnings and errors that said the same again and again.", COUNTER, OF_PROGRAM, .get = log_left_out},

    {"sternpost_connections", "Connections now.", GAUGE, SERVER(connections_now)},
    {"sternpost_connections_total", "Connections accepted.", COUNTER, SERVER(connections_total)},
    {"sternpost_connections_refused_total", "Connections beyond a limit.", COUNTER, SERVER(refused)},
    {"sternpost_received_bytes_total", "Bytes from clients, on the wire.", COUNTER, SERVER(bytes_in)},
    {"sternpost_sent_bytes_total", "Bytes to clients, on the wire.", COUNTER, SERVER(bytes_out)},
    {"sternpost_requests_total", "Requests of sessions to the store.", COUNTER, SERVER(requests)},
    {"sternpost_requests_refused_total", "Requests refused because too many waited.", COUNTER, SERVER(requests_refused)},
    {"sternpost_requests_waiting", "Requests that wait for a worker now.", GAUGE, SERVER(requests_waiting)},
    {"sternpost_tls_handshakes_total", "TLS handshakes that were completed.", COUNTER, SERVER(tls_handshakes)},
    {"sternpost_tls_handshakes_failed_total", "TLS handshakes that failed.", COUNTER, SERVER(tls_failed)},

    {"sternpost_sessions", "Sessions now.", GAUGE, OF_PROTOCOL, .get = session_sessions_now},
    {"sternpost_sessions_total", "Sessions begun.", COUNTER, OF_PROTOCOL, .get = session_sessions},
    {"sternpost_logins_total", "Logins that succeeded.", COUNTER, OF_PROTOCOL, .get = session_logins},
    {"sternpost_logins_denied_total", "Logins with a wrong user name or password.", COUNTER, OF_PROTOCOL, .get = session_logins_denied},
    {"sternpost_messages_total", "Messages taken and stored.", COUNTER, OF_PROTOCOL, .get = session_messages},
    {"sternpost_message_copies_total", "The same, one for each mailbox that got it.", COUNTER, OF_PROTOCOL, .get = session_copies},
    {"sternpost_answers_refused_total", "Answers that said no: temporary is SMTP 4xx, IMAP NO [UNAVAILABLE], POP3 -ERR [SYS/TEMP]; permanent is any other.", COUNTER, OF_PROTOCOL, .get = answers, .label = "class", .values = answer_classes},

    {"sternpost_volume_copies", "Replicas that are written to.", GAUGE, VOLUME(copies)},
    {"sternpost_volume_min_copies", "Replicas that an acknowledged change is on.", GAUGE, VOLUME(min_copies)},
    {"sternpost_volume_deferring", "1: nothing can be written; mail waits at its senders.", GAUGE, VOLUME(deferring)},
    {"sternpost_volume_shared_domain", "1: replicas share a failure domain.", GAUGE, VOLUME(shared_domain)},
    {"sternpost_volume_lsn", "LSN of the last record.", GAUGE, VOLUME(end.lsn)},
    {"sternpost_volume_thin_lsn", "LSNs up to this one are on fewer than min_copies replicas; 0: none are.", GAUGE, VOLUME(thin_lsn)},
    {"sternpost_volume_epoch", "Counter of the epoch.", GAUGE, VOLUME(epoch_counter)},
    {"sternpost_volume_segments", "Segments of the log.", GAUGE, VOLUME(segments)},
    {"sternpost_volume_commits_total", "Changes made durable and acknowledged.", COUNTER, VOLUME(commits)},
    {"sternpost_volume_batches_total", "Batches written.", COUNTER, VOLUME(batches)},
    {"sternpost_volume_written_bytes_total", "Bytes of the log written, on each replica.", COUNTER, VOLUME(bytes)},
    {"sternpost_volume_queue_commits", "Changes that wait to be written now.", GAUGE, VOLUME(queue_commits)},
    {"sternpost_volume_queue_bytes", "The memory these take.", GAUGE, VOLUME(queue_bytes)},
    {"sternpost_volume_commit_seconds", "From when a change is handed over until it is acknowledged.", HISTOGRAM, OF_VOLUME, US, .which = SP_OF_COMMIT_US, .power_first = 7, .power_last = 25},
    {"sternpost_volume_batch_commits", "Changes in a batch.", HISTOGRAM, OF_VOLUME, .which = SP_OF_BATCH_COMMITS, .power_first = 0, .power_last = 10},
    {"sternpost_volume_batch_bytes", "Bytes of records in a batch.", HISTOGRAM, OF_VOLUME, .which = SP_OF_BATCH_BYTES, .power_first = 8, .power_last = 24},
    {"sternpost_volume_index_bytes", "Bytes the index uses.", GAUGE, VOLUME(index_bytes)},
    {"sternpost_volume_index_max_bytes", "Bytes the index may use.", GAUGE, VOLUME(index_map_bytes)},
    {"sternpost_volume_ejections_total", "Units ejected.", COUNTER, VOLUME(ejections)},
    {"sternpost_volume_recruits_total", "Spares that became replicas.", COUNTER, VOLUME(recruits)},
    {"sternpost_volume_blocks_bad_total", "Blocks that a reader found bad and was served from a twin.", COUNTER, VOLUME(blocks_bad)},
    {"sternpost_volume_blocks_misdirected_total", "Blocks found that were sound, but another place's.", COUNTER, VOLUME(blocks_misdirected)},
    {"sternpost_volume_blocks_mended_total", "Blocks mended from a twin.", COUNTER, VOLUME(blocks_mended)},
    {"sternpost_volume_blocks_unmendable_total", "Blocks that no unit has sound.", COUNTER, VOLUME(blocks_unmendable)},
    {"sternpost_volume_resilvered_bytes_total", "Bytes brought to units that lacked them.", COUNTER, VOLUME(resilvered_bytes)},
    {"sternpost_volume_blocks_rebuilt_total", "Blocks rebuilt from parity, since no unit had them sound.", COUNTER, VOLUME(blocks_rebuilt)},
    {"sternpost_volume_parity_blocks_mended_total", "Blocks of sidecars found bad and made again.", COUNTER, VOLUME(parity_mended)},
    {"sternpost_volume_short_of_space", "1: a unit has less room than is kept in reserve.", GAUGE, VOLUME(short_of_space)},
    {"sternpost_compaction_running", "1: a compaction is under way.", GAUGE, VOLUME(compact_running)},
    {"sternpost_compaction_merged_segments_total", "Segments written anew by compaction.", COUNTER, VOLUME(compact_merged)},
    {"sternpost_compaction_dropped_bytes_total", "Bytes of the log that it left out.", COUNTER, VOLUME(compact_dropped_bytes)},
    {"sternpost_volume_verified_bytes_total", "Bytes that scrubbing, mending and resilvering have looked at.", COUNTER, VOLUME(tended_bytes)},

    {"sternpost_scrub_running", "1: a scrub is under way.", GAUGE, VOLUME(scrub_running)},
    {"sternpost_scrub_progress_ratio", "How much of the scrub under way, or of the last, is done.", GAUGE, OF_VOLUME, .get = scrub_progress},
    {"sternpost_scrub_age_seconds", "Since the last whole scrub ended, or since the first is owed.", GAUGE, VOLUME(scrub_age_s)},
    {"sternpost_scrub_max_age_seconds", "At which age it is overdue (scrub_max_age); 0: never.", GAUGE, VOLUME(scrub_max_age_s)},
    {"sternpost_scrub_overdue", "1: the scrub is overdue.", GAUGE, VOLUME(scrub_overdue)},
    {"sternpost_scrub_blocks_mended", "Blocks mended by the scrub under way, or by the last.", GAUGE, VOLUME(scrub_mended)},
    {"sternpost_scrub_blocks_unmendable", "Blocks that it found and no unit has sound.", GAUGE, VOLUME(scrub_unmendable)},

    {"sternpost_guard_requests", "What was asked of the guard since the volume was made, by what became of it.", GAUGE, OF_VOLUME, .get = guard_requests, .label = "state", .values = guard_states},
    {"sternpost_guard_unapproved", "Of those that wait, the ones that lack approvals.", GAUGE, OF_VOLUME, .get = guard_unapproved},
    {"sternpost_merge_records_total", "Records of histories that were left behind, merged.", COUNTER, VOLUME(merge_records)},
    {"sternpost_merge_conflicts_total", "Of these, those that came to something else here, or to nothing: see merge.conflict in the log.", COUNTER, VOLUME(merge_conflicts)},

    {"sternpost_unit_state", "1 for the state that the unit is in.", GAUGE, OF_UNIT, .get = unit_state, .label = "state", .values = unit_states},
    {"sternpost_unit_since_seconds", "When it took that state, in seconds since 1970; or when the server started.", GAUGE, UNIT(since_ns), NS},
    {"sternpost_unit_free_bytes", "Bytes that can still be written.", GAUGE, UNIT(free_bytes)},
    {"sternpost_unit_writes_total", "Writes made durable, each with a sync of its own.", COUNTER, UNIT(writes)},
    {"sternpost_unit_written_bytes_total", "Bytes of these.", COUNTER, UNIT(bytes_written)},
    {"sternpost_unit_write_seconds", "How long a write and its sync take.", HISTOGRAM, OF_UNIT, US, .which = SP_OF_UNIT_WRITE_US, .power_first = 5, .power_last = 25},
    {"sternpost_unit_blocks_bad_total", "Blocks found bad or unreadable, by readers and scrubs.", COUNTER, UNIT(counts.blocks_bad)},
    {"sternpost_unit_blocks_misdirected_total", "Of these, sound ones that are another place's.", COUNTER, UNIT(counts.blocks_misdirected)},
    {"sternpost_unit_blocks_served_total", "Of these, those for which a reader was served by a twin.", COUNTER, UNIT(counts.blocks_served)},
    {"sternpost_unit_blocks_mended_total", "Blocks of this unit mended from a twin.", COUNTER, UNIT(counts.blocks_mended)},
    {"sternpost_unit_blocks_unmendable_total", "Blocks of this unit that no other has sound.", COUNTER, UNIT(counts.blocks_unmendable)},
    {"sternpost_unit_resilvered_bytes_total", "Bytes brought to it because it lacked them.", COUNTER, UNIT(counts.resilvered_bytes)},
    {"sternpost_unit_lacks_segments", "Segments still to be brought to it.", GAUGE, UNIT(lacks_segments)},
    {"sternpost_unit_sole_lsn", "Of one that was ejected: LSNs up to this one are on no replica; 0: none are.", GAUGE, UNIT(sole_lsn)},
    {"sternpost_unit_lacks_parity", "Segments whose sidecar is still to be made.", GAUGE, UNIT(lacks_parity)},
    {"sternpost_unit_resilver_remaining_bytes", "Bytes of these.", GAUGE, UNIT(lacks_bytes)},
    {"sternpost_unit_resilver_rate_bytes", "Bytes a second that are being brought to it.", GAUGE, UNIT(resilver_rate)},
    {"sternpost_unit_scrubbed_timestamp_seconds", "When a scrub had last read all of its copies; 0: never.", GAUGE, UNIT(scrubbed_ns), NS},
};
/* clang-format on */

/* ---- Writing ---- */

static void add_number(struct sp_buf *buf, double value)
{
    if (value == floor(value) && fabs(value) < 9007199254740992.0)
        sp_buf_addf(buf, "%.0f\n", value);
    else
        sp_buf_addf(buf, "%.9g\n", value);
}

static void add_label(struct sp_buf *buf, const char *name, const char *value, bool *first)
{
    sp_buf_addf(buf, "%s%s=\"", *first ? "{" : ",", name);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            sp_buf_add_byte(buf, '\\');
        if (*value == '\n')
            sp_buf_add_str(buf, "\\n");
        else
            sp_buf_add_byte(buf, (uint8_t)*value);
    }
    sp_buf_add_byte(buf, '"');
    *first = false;
}

/* name{labels} and a blank; `label` may be NULL. */
static void add_name(struct sp_buf *buf, const struct view *view, const struct metric *m,
                     const char *suffix, uint32_t i, const char *label, const char *value)
{
    bool first = true;
    sp_buf_addf(buf, "%s%s", m->name, suffix);
    if (m->scope == OF_VOLUME || m->scope == OF_UNIT)
        add_label(buf, "volume", view->source->volume_name, &first);
    if (m->scope == OF_UNIT)
        add_label(buf, "unit", view->volume.units[i].name, &first);
    if (m->scope == OF_PROTOCOL) {
        const char *name;
        (void)sp_server_session_counts(view->source->server, i, &name);
        add_label(buf, "protocol", name, &first);
        /* A protocol can listen on several addresses. */
        char text[16];
        snprintf(text, sizeof text, "%u", i);
        add_label(buf, "listener", text, &first);
    }
    if (label && value)
        add_label(buf, label, value, &first);
    sp_buf_add_str(buf, first ? " " : "} ");
}

static const void *record_of(const struct view *view, const struct metric *m, uint32_t i)
{
    return m->scope == OF_UNIT     ? (const void *)&view->volume.units[i]
           : m->scope == OF_VOLUME ? (const void *)&view->volume
                                   : (const void *)&view->server;
}

static double field_of(const struct view *view, const struct metric *m, uint32_t i)
{
    const uint8_t *at = (const uint8_t *)record_of(view, m, i) + m->offset;
    uint64_t wide;
    uint32_t narrow;
    bool yes;
    switch (m->bytes) {
    case sizeof wide:
        memcpy(&wide, at, sizeof wide);
        return (double)wide;
    case sizeof narrow:
        memcpy(&narrow, at, sizeof narrow);
        return narrow;
    default:
        sp_assert(m->bytes == sizeof yes);
        memcpy(&yes, at, sizeof yes);
        return yes;
    }
}

static void add_histogram(struct sp_buf *buf, const struct view *view, const struct metric *m,
                          uint32_t i)
{
    struct sp_totals totals;
    char bound[32];
    double scale = m->scale != 0 ? m->scale : 1;
    if (!sp_volume_totals(view->source->volume, m->which, i, &totals))
        return;
    for (uint32_t power = m->power_first; power <= m->power_last; power++) {
        snprintf(bound, sizeof bound, "%.9g", (double)(1ULL << power) * scale);
        add_name(buf, view, m, "_bucket", i, "le", bound);
        add_number(buf, (double)totals.at_most[power]);
    }
    add_name(buf, view, m, "_bucket", i, "le", "+Inf");
    add_number(buf, (double)totals.count);
    add_name(buf, view, m, "_sum", i, NULL, NULL);
    add_number(buf, (double)totals.sum * scale);
    add_name(buf, view, m, "_count", i, NULL, NULL);
    add_number(buf, (double)totals.count);
}

static void add_value(struct sp_buf *buf, const struct view *view, const struct metric *m,
                      uint32_t i)
{
    double scale = m->scale != 0 ? m->scale : 1;
    if (m->type == HISTOGRAM) {
        add_histogram(buf, view, m, i);
        return;
    }
    if (!m->label) {
        add_name(buf, view, m, "", i, NULL, NULL);
        add_number(buf, (m->get ? m->get(view, i, 0) : field_of(view, m, i)) * scale);
        return;
    }
    for (uint32_t k = 0; m->values[k]; k++) {
        add_name(buf, view, m, "", i, m->label, m->values[k]);
        add_number(buf, m->get(view, i, k) * scale);
    }
}

static uint32_t count_of(const struct view *view, enum scope scope)
{
    switch (scope) {
    case OF_UNIT:
        return view->volume.units_count;
    case OF_PROTOCOL:
        return view->source->server ? sp_server_listeners(view->source->server) : 0;
    default:
        return 1;
    }
}

static void count_guard(struct view *view)
{
    struct sp_guard_request request = {0};
    struct sp_read read;
    if (sp_read_begin(sp_volume_index(view->source->volume), &read) != SP_OK)
        return;
    while (sp_index_next_guard(&read, &request) == SP_OK) {
        const struct sp_guard_row *row = &request.row;
        uint8_t event = row->event;
        view->guard[!row->finished_ns           ? 0
                    : event == SP_GUARD_UNDONE  ? 2
                    : event == SP_GUARD_REFUSED ? 3
                                                : 1]++;
        view->guard_unapproved += !row->finished_ns && row->approvals < row->approvals_needed;
    }
    sp_read_end(&read);
}

enum sp_status sp_metrics_write(const struct sp_metrics_source *source, struct sp_buf *buf)
{
    struct view *view = calloc(1, sizeof *view);
    if (!view)
        return SP_NO_MEMORY;
    view->source = source;
    view->now_ns = sp_wall_ns();
    sp_volume_status(source->volume, &view->volume);
    count_guard(view);
    if (source->server)
        sp_server_counters(source->server, &view->server);
    for (size_t k = 0; k < sizeof metrics / sizeof metrics[0]; k++) {
        const struct metric *m = &metrics[k];
        uint32_t count = count_of(view, m->scope);
        if (count == 0)
            continue;
        sp_buf_addf(buf, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name,
                    type_names[m->type]);
        for (uint32_t i = 0; i < count; i++)
            add_value(buf, view, m, i);
    }
    free(view);
    return sp_buf_failed(buf) ? SP_LIMIT : SP_OK;
}
