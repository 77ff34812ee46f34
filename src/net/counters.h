/* What one loop counts. Written by its thread alone, read by any: no locked instruction is needed.
 */
#ifndef SP_NET_COUNTERS_H
#define SP_NET_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

struct sp_counters {
    _Atomic uint64_t bytes_in, bytes_out;
    _Atomic uint64_t requests, requests_refused, denied_held;
    _Atomic uint64_t tls_handshakes, tls_failed;
};

static inline void sp_count(_Atomic uint64_t *counter, uint64_t more)
{
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + more, memory_order_relaxed);
}

static inline uint64_t sp_counted(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
