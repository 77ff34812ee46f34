/* Single values of the configuration: numbers with units, names, paths, and the nearest of several
 * words. Pure. */
#ifndef SP_CMD_CONFIG_VALUE_H
#define SP_CMD_CONFIG_VALUE_H

#include "cmd/config.h"

/* Letters, digits, '-' and '_', not beginning with '-'; 1 .. SP_CONFIG_NAME_MAX bytes. */
bool sp_config_name_ok(struct sp_slice name);
/* A host name as RFC 1123 2.1 allows it, or an address literal in brackets. */
bool sp_config_hostname_ok(struct sp_slice name);
/* The path itself if absolute, else folder/path. NULL: no memory. */
const char *sp_config_path(struct sp_arena *arena, const char *folder, struct sp_slice path);
/* The word nearest to `word` (two edits at most, case apart), or NULL. words ends in NULL. */
const char *sp_config_nearest(struct sp_slice word, const char *const *words);

#endif
