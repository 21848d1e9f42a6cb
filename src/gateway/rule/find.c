/* SPDX-License-Identifier: Apache-2.0 */
/* A collection by its name, and what else may have been meant. */
#include "base/near.h"
#include "gateway/gateway_internal.h"

#define LOOKED_AT 1000 /* names that are compared, those made first */
#define SHOWN     40   /* bytes of a name */

/* Of the names there are the nearest, in `nearest`; len 0: none is near. */
static void find_nearest(struct gateway *gateway, const struct gateway_scope *scope, slice name,
                         char nearest[NEAR_MAX], size_t *ret_len)
{
    struct arena arena;
    const struct sysdb_collection **rows = NULL;
    size_t count = 0, least = SIZE_MAX;
    *ret_len = 0;
    arena_init(&arena, gateway->options.budget, 0);
    if (sysdb_collection_list(gateway->options.sysdb, scope->tenant, scope->database, LOOKED_AT, 0,
                              &arena, &rows, &count, NULL) != OCH_OK)
        count = 0;
    for (size_t i = 0; i < count; i++) {
        size_t distance = near_distance(name, rows[i]->name);
        if (distance < least) {
            least = distance;
            *ret_len = rows[i]->name.len;
            memcpy(nearest, rows[i]->name.at, *ret_len);
        }
        sysdb_collection_cleanup(&rows[i]);
    }
    arena_done(&arena);
}

och_code gateway_collection_find(struct gateway *gateway, const struct gateway_scope *scope,
                                 slice name, const struct sysdb_collection **ret_collection,
                                 och_error *err)
{
    och_code code = sysdb_collection_find(gateway->options.sysdb, scope->tenant, scope->database,
                                          name, ret_collection, err);
    if (code != OCH_NOT_FOUND || !err)
        return code;
    char nearest[NEAR_MAX];
    size_t len;
    find_nearest(gateway, scope, name, nearest, &len);
    error_append(err, " in database \"%.*s\"", (int)min_size(scope->database.len, SHOWN),
                 (const char *)(scope->database.len ? scope->database.at : name.at));
    if (len)
        error_hint(err, "Did you mean \"%.*s\"?", (int)len, nearest);
    return code;
}
