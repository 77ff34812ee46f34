/* Segments that compaction has replaced are deleted here, and nowhere else: under a policy that was
 * requested and confirmed like any other operation, when `hold` has passed since they were retired,
 * by both clocks, or at once where an erasure has emptied them. What replaced each is read back
 * from every replica before its files go (sp_volume_delete_retired); each deletion is in the log.
 */
#include "guard/internal.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SWEEP_MS 10000U

static bool is_allowed(struct sp_guard *g)
{
    struct sp_read read;
    struct sp_guard_request policy;
    if (sp_read_begin(sp_volume_index(g->config.volume), &read) != SP_OK)
        return false;
    enum sp_status status = sp_index_guard_policy(&read, SP_GUARD_SEGMENTS_DELETE, &policy);
    sp_read_end(&read);
    return status == SP_OK;
}

/* False: nothing more is to be tried now. */
static bool delete_one(struct sp_guard *g, const struct sp_retired_segment *retired)
{
    static const struct sp_guard_who nobody = {.uid = SP_GUARD_NOBODY};
    static const struct sp_uuid nil;
    char subject[64], text[160];
    struct sp_error error = {0};
    enum sp_status status =
        sp_volume_delete_retired(g->config.volume, retired->segment, retired->generation, &error);
    if (status != SP_OK) {
        sp_log(SP_LOG_WARN, "guard.retired", "segment=%" PRIu64 " generation=%u why=%s",
               retired->segment, retired->generation, SP_LOG_QUOTED(error.why));
        return status == SP_CONFLICT;
    }
    snprintf(subject, sizeof subject, "segment %" PRIu64 ".%u", retired->segment,
             retired->generation);
    snprintf(text, sizeof text,
             "its %" PRIu64 " bytes on %u units went; what replaced it was read back\n",
             retired->bytes, retired->units);
    return sp_guard_tell(g, SP_GUARD_SEGMENTS_DELETE, subject, &nil, text, &nobody, &error) ==
           SP_OK;
}

void sp_guard_sweep(struct sp_guard *g, bool now)
{
    struct sp_retired_segment *list = NULL;
    size_t count = 0;
    struct sp_error error;
    uint64_t now_ms = sp_guard_mono_ms(g);
    if ((!now && now_ms - g->swept_ms < SWEEP_MS) || !is_allowed(g))
        return;
    g->swept_ms = now_ms;
    if (sp_volume_retired(g->config.volume, &list, &count, &error) != SP_OK)
        return;
    for (size_t i = 0; i < count && !atomic_load(&g->stop); i++)
        if (list[i].units && (list[i].past_hold || list[i].erased) && !delete_one(g, &list[i]))
            break;
    free(list);
}
