/* Who is connected, and how often: the limits on connections, in all and per peer. A peer is an
 * IPv4 address or an IPv6 /64, since a host is commonly given a whole one. Any thread. */
#ifndef SP_NET_PEERS_H
#define SP_NET_PEERS_H

#include "net/address.h"

#include <pthread.h>

struct sp_peer_count;

struct sp_peers {
    pthread_mutex_t lock;
    uint32_t connections_max;
    uint32_t per_peer_max; /* 0: not counted */
    bool loopback_exempt;
    uint32_t connections;
    uint64_t connections_total, refused;
    uint64_t seed; /* a peer cannot choose its bucket */
    uint32_t mask;
    struct sp_peer_count **buckets;
};

enum sp_status sp_peers_init(struct sp_peers *peers, uint32_t connections_max,
                             uint32_t per_peer_max, bool loopback_exempt,
                             struct sp_error *error) SP_MUST_USE;
/* Everybody has left, or init was never called on the zeroed struct. */
void sp_peers_release(struct sp_peers *peers);

/* NULL: come in; otherwise why not. */
const char *sp_peers_enter(struct sp_peers *peers, const struct sp_address *address);
/* A peer as requests name it: all zero for one that is exempt. */
void sp_peers_name(const struct sp_peers *peers, const struct sp_address *address,
                   uint8_t ret_name[16]);
void sp_peers_leave(struct sp_peers *peers, const struct sp_address *address);

#endif
