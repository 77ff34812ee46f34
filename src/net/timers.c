#include "net/timers.h"

#include <stdlib.h>

void sp_timers_init(struct sp_timers *timers)
{
    *timers = (struct sp_timers){0};
}

void sp_timers_release(struct sp_timers *timers)
{
    sp_assert(timers->count == 0);
    free(timers->heap);
    sp_timers_init(timers);
}

bool sp_timers_reserve(struct sp_timers *timers)
{
    if (timers->reserved == timers->capacity) {
        sp_assert(timers->capacity <= UINT32_MAX / 4);
        uint32_t capacity = timers->capacity ? timers->capacity * 2 : 64;
        struct sp_timer **grown = realloc(timers->heap, capacity * sizeof(struct sp_timer *));
        if (!grown)
            return false;
        timers->heap = grown;
        timers->capacity = capacity;
    }
    timers->reserved++;
    return true;
}

void sp_timers_unreserve(struct sp_timers *timers, struct sp_timer *timer)
{
    sp_assert(timers->reserved > 0);
    sp_timers_set(timers, timer, SP_TIMER_NEVER);
    timers->reserved--;
}

static void put(struct sp_timers *timers, uint32_t at, struct sp_timer *timer)
{
    timers->heap[at] = timer;
    timer->place = at + 1;
}

static void sift_up(struct sp_timers *timers, uint32_t at, struct sp_timer *timer)
{
    while (at > 0) {
        uint32_t parent = (at - 1) / 2;
        if (timers->heap[parent]->at_ms <= timer->at_ms)
            break;
        put(timers, at, timers->heap[parent]);
        at = parent;
    }
    put(timers, at, timer);
}

static void sift_down(struct sp_timers *timers, uint32_t at, struct sp_timer *timer)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= timers->count)
            break;
        if (child + 1 < timers->count &&
            timers->heap[child + 1]->at_ms < timers->heap[child]->at_ms)
            child++;
        if (timers->heap[child]->at_ms >= timer->at_ms)
            break;
        put(timers, at, timers->heap[child]);
        at = child;
    }
    put(timers, at, timer);
}

/* Puts a timer where it belongs, from a place where it may be too high or too low. */
static void settle(struct sp_timers *timers, uint32_t at, struct sp_timer *timer)
{
    if (at > 0 && timers->heap[(at - 1) / 2]->at_ms > timer->at_ms)
        sift_up(timers, at, timer);
    else
        sift_down(timers, at, timer);
}

static void take_out(struct sp_timers *timers, struct sp_timer *timer)
{
    uint32_t at = timer->place - 1;
    struct sp_timer *last = timers->heap[--timers->count];
    timer->place = 0;
    if (last != timer)
        settle(timers, at, last);
}

void sp_timers_set(struct sp_timers *timers, struct sp_timer *timer, uint64_t at_ms)
{
    timer->at_ms = at_ms;
    if (at_ms == SP_TIMER_NEVER) {
        if (timer->place)
            take_out(timers, timer);
    } else if (timer->place) {
        settle(timers, timer->place - 1, timer);
    } else {
        sp_assert(timers->count < timers->reserved);
        sift_up(timers, timers->count++, timer);
    }
}

uint64_t sp_timers_next(const struct sp_timers *timers)
{
    return timers->count ? timers->heap[0]->at_ms : SP_TIMER_NEVER;
}

struct sp_timer *sp_timers_pop(struct sp_timers *timers, uint64_t now_ms)
{
    if (sp_timers_next(timers) > now_ms)
        return NULL;
    struct sp_timer *timer = timers->heap[0];
    take_out(timers, timer);
    timer->at_ms = SP_TIMER_NEVER;
    return timer;
}
