/* Sets of numbers as sorted runs: UIDs and LSNs come in long ones. */
#ifndef SP_FORMAT_SPANS_H
#define SP_FORMAT_SPANS_H

#include "format/payload.h"

struct sp_spans {
    struct sp_span *ptr; /* ascending, disjoint, not adjacent */
    uint32_t count, capacity;
};

/* false: out of memory. */
bool sp_spans_add(struct sp_spans *set, uint64_t first, uint64_t last);
bool sp_spans_remove(struct sp_spans *set, uint64_t first, uint64_t last);
bool sp_spans_has(const struct sp_spans *set, uint64_t value);
/* Adds to `set` what of [first, last] is not in `but`. */
bool sp_spans_add_except(struct sp_spans *set, uint64_t first, uint64_t last,
                         const struct sp_spans *but);
/* How many numbers from `from` on. */
uint64_t sp_spans_total(const struct sp_spans *set, uint64_t from);
void sp_spans_release(struct sp_spans *set);

#endif
