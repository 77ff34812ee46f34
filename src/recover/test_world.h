/* A small volume in memory, for tests: segments with accounts, messages, catalogues and footers,
 * and a model of every record that says in which blocks it lies. */
#ifndef SP_RECOVER_TEST_WORLD_H
#define SP_RECOVER_TEST_WORLD_H

#include "format/batch.h"
#include "format/segment.h"
#include "recover/recover.h"

#define WORLD_SEGMENTS 16U
#define WORLD_ACCOUNTS 3U

struct world_record {
    uint8_t type;
    uint64_t lsn;
    uint32_t segment; /* in world->segments */
    uint32_t first_block, last_block;
    struct sp_digest digest; /* of header fields and payload */
    uint64_t body;           /* of a message: the LSN of its body */
    uint32_t account, uid;
};

struct world_segment {
    struct sp_segment_id id;
    struct sp_segment_head head;
    uint8_t *blocks;
    uint32_t count, capacity; /* with the footer once it is sealed */
    struct sp_log_end end;
    bool sealed;
};

struct world {
    uint64_t seed;
    struct sp_uuid volume, accounts[WORLD_ACCOUNTS];
    uint64_t epoch_id;
    uint32_t epoch_counter;
    struct world_segment segments[WORLD_SEGMENTS];
    uint32_t segments_count;
    struct world_record *records;
    uint32_t records_count;
    uint64_t lsn, batch, time_ns;
    struct sp_batch building;
    uint32_t building_from; /* records */
    uint64_t volume_tail, account_tails[WORLD_ACCOUNTS], mailbox_tails[WORLD_ACCOUNTS];
    uint32_t uidnext[WORLD_ACCOUNTS], listed[WORLD_ACCOUNTS];
};

void world_init(struct world *w, uint64_t seed);
void world_release(struct world *w);
uint64_t world_random(struct world *w);

void world_begin_epoch(struct world *w);
/* Seals the segment before (footer), if it is not. Begins with a catalogue of each mailbox. */
void world_begin_segment(struct world *w, bool epoch_begins);
void world_seal(struct world *w);
void world_commit(struct world *w);
/* Account, its list, its mailbox. */
void world_accounts(struct world *w);
/* Delivers a message with a body of so many bytes, not yet committed. */
void world_message(struct world *w, uint32_t account, uint32_t body_bytes);
void world_expunge(struct world *w, uint32_t account, uint32_t uid);
/* Forgets the last n records of the model: they were never acknowledged. */
void world_forget(struct world *w, uint32_t records_count);
/* Three segments in one epoch, some hundred records. */
void world_fill(struct world *w);

/* Set-up and end of a group of tests: a folder for them, and paths in it that do not exist yet. */
int world_scratch(void **state);
int world_scratch_end(void **state);
const char *world_fresh(char path[512], const char *name);

struct sp_digest world_digest(const struct sp_record *record);
const struct world_record *world_find(const struct world *w, uint64_t lsn);

#endif
