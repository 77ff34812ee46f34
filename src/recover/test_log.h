/* Reading what was rebuilt, for tests: as strictly as a server would. */
#ifndef SP_RECOVER_TEST_LOG_H
#define SP_RECOVER_TEST_LOG_H

#include "recover/test_world.h"

struct log {
    struct sp_digest *digests; /* by order */
    uint64_t *lsns;
    uint8_t *types;
    uint32_t count;
    struct sp_gap gap; /* of the new epoch; its lists are in the arena */
    uint32_t unprotects;
    struct sp_arena arena;
    struct sp_log_end end;
};

/* Reads dir/unit-a, which must be sound and equal to unit-b, and checks the votes. */
void read_log(const char *dir, const struct sp_uuid *volume, struct log *ret_log);
void log_release(struct log *log);
/* The record's index or -1. */
int log_find(const struct log *log, uint64_t lsn);

#endif
