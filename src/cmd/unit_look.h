/* What the commands about units and volumes look at: the volume as the server that has it open sees
 * it, or what its units say at rest. */
#ifndef SP_CMD_UNIT_LOOK_H
#define SP_CMD_UNIT_LOOK_H

#include "cmd/cmd.h"

/* As volume.status (operation.h); "state" is "stopped" when no server runs. */
enum sp_status sp_unit_look(const struct sp_config *config, json_t **ret_volume,
                            struct sp_error *error) SP_MUST_USE;
/* One unit that no server has; it is locked for the moment. */
json_t *sp_unit_at_rest(const struct sp_config *config, const struct sp_config_unit *configured);
/* `unit list --watch`. */
int sp_unit_watch(struct sp_call *call);

/* For printing: a number of an object, 0 if it is not there; a time in UTC, "-" for 0. */
json_int_t sp_number(const json_t *object, const char *name);
const char *sp_time_text(json_int_t seconds, char ret_text[32]);
/* One line of facts, "  NAME  VALUE", the values aligned. */
void sp_print_fact(const char *name, const char *format, ...) SP_PRINTF(2, 3);
/* {"count", "p50", "p99", "max"} in microseconds, as text. */
const char *sp_latency_text(const json_t *latency, char ret_text[120]);

#endif
