/* What volume.status and unit.show say beyond the simplest. README.md and docs/status.md name the
 * fields: they stay what they are. */
#include "cmd/operation_internal.h"

static void set(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static void set_recent(json_t *object, const char *name, const struct sp_recent *recent)
{
    json_object_set_new(object, name,
                        json_pack("{s:I,s:I,s:I,s:I}", "count", (json_int_t)recent->count, "p50",
                                  (json_int_t)recent->p50, "p99", (json_int_t)recent->p99, "max",
                                  (json_int_t)recent->max));
}

void sp_status_unit_json(json_t *row, const struct sp_volume_unit_status *unit)
{
    const struct sp_unit_counts *counts = &unit->counts;
    set(row, "since", unit->since_ns / 1000000000U);
    if (unit->lsn_last) {
        set(row, "lsn_first", unit->lsn_first);
        set(row, "lsn_last", unit->lsn_last);
    }
    if (unit->lacks_segments) {
        set(row, "lacks_bytes", unit->lacks_bytes);
        set(row, "resilver_rate", unit->resilver_rate);
        if (unit->resilver_rate)
            set(row, "resilver_eta_s", unit->lacks_bytes / unit->resilver_rate);
    }
    set(row, "resilvered_bytes", counts->resilvered_bytes);
    set(row, "blocks_bad", counts->blocks_bad);
    set(row, "blocks_misdirected", counts->blocks_misdirected);
    set(row, "blocks_served", counts->blocks_served);
    set(row, "blocks_mended", counts->blocks_mended);
    set(row, "blocks_unmendable", counts->blocks_unmendable);
    set(row, "writes", unit->writes);
    set(row, "bytes_written", unit->bytes_written);
    set_recent(row, "write_latency_us", &unit->write_us);
    set(row, "scrubbed", unit->scrubbed_ns / 1000000000U);
}

void sp_status_volume_json(json_t *volume, const struct sp_volume_status *status)
{
    if (status->deferring)
        json_object_set_new(volume, "why", json_string(status->why));
    set(volume, "recruits", status->recruits);
    set(volume, "blocks_misdirected", status->blocks_misdirected);
    set(volume, "resilvered_bytes", status->resilvered_bytes);
    set(volume, "queue_commits", status->queue_commits);
    set(volume, "queue_bytes", status->queue_bytes);
    set(volume, "index_bytes", status->index_bytes);
    set(volume, "index_max_bytes", status->index_map_bytes);
    set_recent(volume, "commit_latency_us", &status->commit_us);
    json_t *scrub = json_object_get(volume, "scrub");
    set(scrub, "age_s", status->scrub_age_s);
    set(scrub, "max_age_s", status->scrub_max_age_s);
    json_object_set_new(scrub, "overdue", json_boolean(status->scrub_overdue));
}

enum sp_status sp_operation_unit_show(struct sp_platform *platform, const json_t *parameters,
                                      json_t **ret_result, struct sp_error *error)
{
    const char *name;
    struct sp_volume_status volume;
    enum sp_status status = sp_operation_text(parameters, "name", &name, error);
    if (status)
        return status;
    sp_volume_status(platform->volume, &volume);
    for (uint32_t i = 0; i < volume.units_count; i++) {
        uint64_t promised;
        uint32_t accepted;
        if (strcmp(volume.units[i].name, name) != 0)
            continue;
        json_t *row = sp_status_unit(platform->config, &volume.units[i]);
        if (!row)
            return sp_operation_memory(error);
        set(row, "epoch", volume.epoch_counter);
        if (sp_volume_unit_vote(platform->volume, i, &promised, &accepted, NULL) == SP_OK)
            json_object_set_new(row, "vote",
                                json_pack("{s:I,s:I}", "promised", (json_int_t)promised, "epoch",
                                          (json_int_t)accepted));
        *ret_result = row;
        return SP_OK;
    }
    sp_error_set(error, SP_NOT_FOUND, name, "the volume has no such unit");
    sp_error_todo(error, "`sternpost unit list` shows those it has");
    return SP_NOT_FOUND;
}
