#include "net/peers.h"

#include "base/endian.h"
#include "base/uuid.h"

#include <stdlib.h>

#define BUCKETS_MAX 65536U

struct sp_peer_count {
    struct sp_peer_count *next;
    uint64_t high, low;
    uint32_t connections;
};

struct peer_key {
    uint64_t high, low;
};

static struct peer_key key_of(const struct sp_address *address)
{
    struct peer_key key = {sp_get_u64(address->ip), sp_get_u64(address->ip + 8)};
    if (!sp_address_is_v4(address))
        key.low = 0;
    return key;
}

static struct sp_peer_count **bucket_of(struct sp_peers *peers, struct peer_key key)
{
    uint64_t mix = (key.high ^ peers->seed) * 0x9e3779b97f4a7c15U;
    mix = (mix ^ (mix >> 32) ^ key.low ^ (peers->seed >> 7)) * 0xbf58476d1ce4e5b9U;
    return &peers->buckets[(mix >> 40) & peers->mask];
}

/* The link that leads to the peer's count, or to the NULL at the end of its bucket. */
static struct sp_peer_count **find(struct sp_peers *peers, struct peer_key key)
{
    struct sp_peer_count **link = bucket_of(peers, key);
    while (*link && ((*link)->high != key.high || (*link)->low != key.low))
        link = &(*link)->next;
    return link;
}

enum sp_status sp_peers_init(struct sp_peers *peers, uint32_t connections_max,
                             uint32_t per_peer_max, bool loopback_exempt, struct sp_error *error)
{
    uint32_t buckets = 64;
    while (per_peer_max && buckets < connections_max && buckets < BUCKETS_MAX)
        buckets *= 2;
    struct sp_peer_count **table = calloc(buckets, sizeof(struct sp_peer_count *));
    if (!table)
        return sp_error_set(error, SP_NO_MEMORY, "server", "no memory for %u connections",
                            connections_max);
    *peers = (struct sp_peers){.connections_max = connections_max,
                               .per_peer_max = per_peer_max,
                               .loopback_exempt = loopback_exempt,
                               .seed = sp_random_u64(),
                               .mask = buckets - 1,
                               .buckets = table};
    pthread_mutex_init(&peers->lock, NULL);
    return SP_OK;
}

void sp_peers_release(struct sp_peers *peers)
{
    if (!peers->buckets)
        return;
    sp_assert(peers->connections == 0);
    free(peers->buckets);
    peers->buckets = NULL;
    pthread_mutex_destroy(&peers->lock);
}

static bool is_exempt(const struct sp_peers *peers, const struct sp_address *address)
{
    return peers->loopback_exempt && sp_address_is_loopback(address);
}

static bool is_counted(const struct sp_peers *peers, const struct sp_address *address)
{
    return peers->per_peer_max && !is_exempt(peers, address);
}

void sp_peers_name(const struct sp_peers *peers, const struct sp_address *address,
                   uint8_t ret_name[16])
{
    memset(ret_name, 0, 16);
    if (is_exempt(peers, address))
        return;
    memcpy(ret_name, address->ip, sp_address_is_v4(address) ? 16 : 8);
    if (!sp_address_is_v4(address))
        ret_name[15] = 1; /* of ::/64, too, not all is zero */
}

static const char *count_in(struct sp_peers *peers, const struct sp_address *address)
{
    struct peer_key key = key_of(address);
    struct sp_peer_count **link = find(peers, key), *count = *link;
    if (!count) {
        count = calloc(1, sizeof *count);
        if (!count)
            return "no memory";
        count->high = key.high;
        count->low = key.low;
        *link = count;
    }
    if (count->connections >= peers->per_peer_max)
        return "too many connections of this peer";
    count->connections++;
    return NULL;
}

const char *sp_peers_enter(struct sp_peers *peers, const struct sp_address *address)
{
    const char *why = NULL;
    pthread_mutex_lock(&peers->lock);
    if (peers->connections >= peers->connections_max)
        why = "too many connections";
    else if (is_counted(peers, address))
        why = count_in(peers, address);
    if (why) {
        peers->refused++;
    } else {
        peers->connections++;
        peers->connections_total++;
    }
    pthread_mutex_unlock(&peers->lock);
    return why;
}

void sp_peers_leave(struct sp_peers *peers, const struct sp_address *address)
{
    pthread_mutex_lock(&peers->lock);
    sp_assert(peers->connections > 0);
    peers->connections--;
    if (is_counted(peers, address)) {
        struct sp_peer_count **link = find(peers, key_of(address)), *count = *link;
        sp_assert(count && count->connections > 0);
        if (--count->connections == 0) {
            *link = count->next;
            free(count);
        }
    }
    pthread_mutex_unlock(&peers->lock);
}
