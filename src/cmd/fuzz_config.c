/* Any bytes as a configuration: either it is taken, and then it is whole, or the error says where
 * and why. */
#include "cmd/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sp_config config;
    struct sp_error error = {0};
    enum sp_status status = sp_config_parse(sp_slice(data, size), "f", "/x", &config, &error);
    if (status) {
        sp_assert(error.status == status);
        sp_assert(error.what[0] == 'f' && error.why[0] &&
                  (error.todo[0] || status == SP_NO_MEMORY));
        return 0;
    }
    sp_assert(config.hostname && config.state && config.state[0] == '/');
    sp_assert(!config.tls_cert == !config.tls_key);
    uint32_t replicas = 0;
    sp_assert(config.volume.units_count >= 3 && config.volume.units_count <= SP_CONFIG_UNITS_MAX);
    for (uint32_t i = 0; i < config.volume.units_count; i++) {
        const struct sp_config_unit *unit = config.volume.units[i];
        sp_assert(unit->path && unit->path[0] == '/' && unit->used);
        replicas += unit->role == SP_ROLE_REPLICA;
    }
    sp_assert(replicas >= 2 && replicas >= config.volume.min_copies);
    sp_config_release(&config);
    return 0;
}
