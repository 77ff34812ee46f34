/* The state of the scrub, from a file: what is taken is written again, and then says the same. */
#include "store/volume_internal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sp_scrub_state state, again;
    struct sp_buf text;
    uint8_t *bytes = calloc(1, size + !size); /* exact: an overrun shows */
    sp_assert(bytes);
    if (size)
        memcpy(bytes, data, size);
    if (sp_scrub_state_parse(sp_slice(bytes, size), &state) == SP_OK) {
        sp_buf_init(&text, 8192);
        sp_scrub_state_write(&state, &text);
        sp_assert(!sp_buf_failed(&text) && state.units_count <= SP_VOLUME_UNITS_MAX);
        sp_assert(sp_scrub_state_parse(sp_buf_slice(&text), &again) == SP_OK);
        sp_assert(
            state.since_ns == again.since_ns && state.finished_ns == again.finished_ns &&
            state.running == again.running && state.units_count == again.units_count &&
            (!state.running || (state.segment == again.segment && state.skipped == again.skipped)));
        sp_buf_release(&text);
    }
    free(bytes);
    return 0;
}
