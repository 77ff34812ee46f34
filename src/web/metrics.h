/* Metrics: what monitoring asks for, in Prometheus' text format.
 *
 * Model. One table (metrics.c) names every metric: name, help, type, what it is of (the program,
 * the volume, each unit, each protocol), and where its value comes from: a field of a status, or a
 * function. To add one is to add a line there, and a row to docs/metrics.md, which a test compares.
 *
 * Reading. sp_metrics_write takes one look at everything (sp_volume_status, counters), so the
 * values of one answer belong together, and writes them. Nothing is kept between two looks.
 * Counters begin at zero with the program; those of a unit also when it is taken back.
 *
 * Format: Prometheus text exposition 0.0.4.
 */
#ifndef SP_WEB_METRICS_H
#define SP_WEB_METRICS_H

#include "base/buf.h"
#include "net/server.h"
#include "store/volume.h"

#define SP_METRICS_BYTES_MAX    (4U << 20)
#define SP_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* What is looked at; borrowed. */
struct sp_metrics_source {
    const char *volume_name;
    struct sp_volume *volume;
    struct sp_server *server; /* NULL: no protocols */
    uint64_t started_ns;      /* wall clock */
};

/* SP_NO_MEMORY; SP_LIMIT: more than the buffer may hold. Any thread. */
enum sp_status sp_metrics_write(const struct sp_metrics_source *source,
                                struct sp_buf *buf) SP_MUST_USE;

#endif
