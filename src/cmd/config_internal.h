/* Between the files of the configuration. */
#ifndef SP_CMD_CONFIG_INTERNAL_H
#define SP_CMD_CONFIG_INTERNAL_H

#include "cmd/config.h"

/* Checks the parts against each other. units: the words of [volume] units, in line `units_line` (0:
 * not given). */
enum sp_status sp_config_check(struct sp_config *config, struct sp_slice units, unsigned units_line,
                               struct sp_error *error) SP_MUST_USE;

#endif
