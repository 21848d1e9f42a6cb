/* SPDX-License-Identifier: Apache-2.0 */
/* Reading records: scope, schema gate, then the Query Executor. */
#include "gateway/gateway_internal.h"

och_code gateway_read(struct gateway *gateway, const struct gateway_scope *scope,
                      const struct plan *plan, struct arena *arena, struct query_result *ret_result,
                      och_error *err)
{
    *ret_result = (struct query_result){0};
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(gateway->options.sysdb, scope->tenant, scope->database,
                             plan->collection, &collection, err));
    TRY(schema_gate(&collection->schema, plan->filter, err));
    struct plan aimed = *plan;
    /* A changed effort counts at once: the view has that of the time when it was made. */
    if (!(plan->recall > 0))
        aimed.recall = collection->schema.recall;
    return query_run(gateway->options.query, &aimed, &scope->limits, arena, ret_result, err);
}
