/* SPDX-License-Identifier: Apache-2.0 */
/* Aliases of collections (docs/extras.md): names checked, targets found by name, one transaction for all changes of a request. */
#include "gateway/gateway_internal.h"

och_code gateway_alias_change(struct gateway *gateway, const struct gateway_scope *scope,
                              const struct gateway_alias_change *changes, size_t count,
                              och_error *err)
{
    struct arena arena;
    arena_init(&arena, gateway->options.budget, 0);
    struct sysdb_alias_change *rows = ARENA_ARRAY(&arena, struct sysdb_alias_change, count + 1);
    och_code code = rows ? OCH_OK : FAIL_NO_MEMORY(err, "aliases");
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        rows[i].name = changes[i].name;
        code = gateway_check_name(changes[i].name, err);
        if (code != OCH_OK) {
            error_context(err, "Validation error: alias");
            break;
        }
        if (!changes[i].collection.at)
            continue; /* zero: it goes */
        const struct sysdb_collection *target CLEANUP(sysdb_collection_cleanup) = NULL;
        code = gateway_collection_find(gateway, scope, changes[i].collection, &target, err);
        if (code == OCH_OK)
            rows[i].target = target->id;
    }
    if (code == OCH_OK)
        code = sysdb_alias_change(gateway->options.sysdb, scope->tenant, scope->database, rows,
                                  count, err);
    arena_done(&arena);
    return code;
}
