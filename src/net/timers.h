/* Timers of one loop: a binary heap of pointers to timers that live in their owners.
 *
 * Timers are meant to be set lazily: an owner whose deadline moves later leaves its timer alone and
 * looks at its true deadline when the timer fires. So a busy connection never touches the heap.
 *
 * Room is reserved beforehand (sp_timers_reserve, once for each timer), so that setting one cannot
 * fail. One thread.
 */
#ifndef SP_NET_TIMERS_H
#define SP_NET_TIMERS_H

#include "base/status.h"

#include <stdint.h>

#define SP_TIMER_NEVER UINT64_MAX

struct sp_timer {
    uint64_t at_ms;
    uint32_t place; /* in the heap, from 1; 0: not set */
    void (*fire)(struct sp_timer *timer);
};

struct sp_timers {
    struct sp_timer **heap;
    uint32_t count, capacity, reserved;
};

void sp_timers_init(struct sp_timers *timers);
/* No timer may be set any more. */
void sp_timers_release(struct sp_timers *timers);
/* Room for one timer more; false: no memory. */
bool sp_timers_reserve(struct sp_timers *timers) SP_MUST_USE;
/* Clears the timer and gives its room back. */
void sp_timers_unreserve(struct sp_timers *timers, struct sp_timer *timer);

/* Sets or moves; SP_TIMER_NEVER clears. */
void sp_timers_set(struct sp_timers *timers, struct sp_timer *timer, uint64_t at_ms);
/* When the first fires. */
uint64_t sp_timers_next(const struct sp_timers *timers);
/* Takes out the first one that is due; NULL: none. */
struct sp_timer *sp_timers_pop(struct sp_timers *timers, uint64_t now_ms);

#endif
