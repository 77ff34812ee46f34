/* Between the files of operations. */
#ifndef SP_CMD_OPERATION_INTERNAL_H
#define SP_CMD_OPERATION_INTERNAL_H

#include "cmd/operation.h"

typedef enum sp_status sp_operation_function(struct sp_platform *platform, const json_t *parameters,
                                             json_t **ret_result, struct sp_error *error);

/* operation_account.c */
sp_operation_function sp_operation_account_add, sp_operation_account_list,
    sp_operation_account_passwd;

/* operation_guard.c */
sp_operation_function sp_operation_guard_approve, sp_operation_guard_check, sp_operation_guard_list,
    sp_operation_guard_look, sp_operation_guard_policy_end, sp_operation_guard_request,
    sp_operation_guard_tell, sp_operation_guard_undo;

/* operation_status.c */
sp_operation_function sp_operation_unit_show;
void sp_status_unit_json(json_t *row, const struct sp_volume_unit_status *unit);
void sp_status_volume_json(json_t *volume, const struct sp_volume_status *status);

/* operation.c: a unit as in volume.status; NULL: no memory. */
json_t *sp_status_unit(const struct sp_config *config, const struct sp_volume_unit_status *unit);

/* operation_space.c */
sp_operation_function sp_operation_compact, sp_operation_compaction, sp_operation_undelete;

/* A parameter that must be there; borrowed. SP_INVALID. */
enum sp_status sp_operation_text(const json_t *parameters, const char *name, const char **ret_text,
                                 struct sp_error *error) SP_MUST_USE;
enum sp_status sp_operation_memory(struct sp_error *error);

#endif
