/* Which UID stands behind which sequence number, run-length coded.
 *
 * A run is a stretch of consecutive UIDs; `before` counts the messages in front of it. So a mailbox
 * of 20,000 messages from which nothing was expunged costs 12 bytes, and either number is found by
 * binary search, or, for ascending UIDs, by moving along.
 *
 *     UIDs 3 4 5 9 10      runs {3, 5, before 0} {9, 10, before 3}
 */
#ifndef SP_PROTO_IMAP_UIDMAP_H
#define SP_PROTO_IMAP_UIDMAP_H

#include "mail/request.h"

struct sp_imap_run {
    uint32_t first, last; /* inclusive */
    uint32_t before;
};

struct sp_imap_uidmap {
    struct sp_imap_run *runs;
    uint32_t count;
};

void sp_imap_uidmap_init(struct sp_imap_uidmap *map);
void sp_imap_uidmap_release(struct sp_imap_uidmap *map);

/* Adds new messages; what lies at or below the last UID is known already and passed over.
 * SP_INVALID when ranges is not an ascending list, SP_NO_MEMORY; the map is then as it was. */
enum sp_status sp_imap_uidmap_append(struct sp_imap_uidmap *map,
                                     struct sp_uid_ranges ranges) SP_MUST_USE;

/* How many messages. */
uint32_t sp_imap_uidmap_exists(const struct sp_imap_uidmap *map);
/* The highest UID; 0: the map is empty. */
uint32_t sp_imap_uidmap_last(const struct sp_imap_uidmap *map);
/* The sequence number; 0: no such UID. */
uint32_t sp_imap_uidmap_seq(const struct sp_imap_uidmap *map, uint32_t uid);
/* The UID; seq must be within 1..exists. */
uint32_t sp_imap_uidmap_uid(const struct sp_imap_uidmap *map, uint32_t seq);
/* As sp_imap_uidmap_seq for UIDs that ascend from call to call: *run starts at 0 and is kept by the
 * caller. */
static inline uint32_t sp_imap_uidmap_next_seq(const struct sp_imap_uidmap *map, uint32_t *run,
                                               uint32_t uid)
{
    while (*run < map->count && map->runs[*run].last < uid)
        (*run)++;
    if (*run == map->count || map->runs[*run].first > uid)
        return 0;
    return map->runs[*run].before + (uid - map->runs[*run].first) + 1;
}

/* Takes out the messages among ranges (UIDs; others are passed over). For each stretch of them
 * visit is called, in ascending order, with the number that each has at its turn: `count` EXPUNGE
 * responses for `seq`. SP_NO_MEMORY: nothing was taken out and nothing visited. */
enum sp_status sp_imap_uidmap_remove(struct sp_imap_uidmap *map, struct sp_uid_ranges ranges,
                                     void (*visit)(void *context, uint32_t seq, uint32_t count),
                                     void *context) SP_MUST_USE;

/* The UIDs of ascending ranges of sequence numbers within 1..exists. The result is in the arena. */
enum sp_status sp_imap_uidmap_uids(const struct sp_imap_uidmap *map, struct sp_uid_ranges seqs,
                                   struct sp_arena *arena,
                                   struct sp_uid_ranges *ret_uids) SP_MUST_USE;
/* The sequence numbers of the messages among ascending ranges of UIDs, as ascending ranges in the
 * arena. */
enum sp_status sp_imap_uidmap_seqs(const struct sp_imap_uidmap *map, struct sp_uid_ranges uids,
                                   struct sp_arena *arena,
                                   struct sp_uid_ranges *ret_seqs) SP_MUST_USE;
/* Of ascending ranges of UIDs the part that is in the map, or the part that is not, to ret_part,
 * which has room for uids.count + map->count ranges. Returns how many there are. */
uint32_t sp_imap_uidmap_part(const struct sp_imap_uidmap *map, struct sp_uid_ranges uids,
                             bool present, struct sp_uid_range *ret_part);
/* How many messages ranges of UIDs name. */
uint32_t sp_imap_uidmap_count(const struct sp_imap_uidmap *map, struct sp_uid_ranges uids);

#endif
