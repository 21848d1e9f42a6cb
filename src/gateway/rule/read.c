/* SPDX-License-Identifier: Apache-2.0 */
/* Reading records: scope, schema gate, then the Query Executor. */
#include "gateway/rule/token.h"
#include "gateway/rule/version.h"

/* Filters as in other reads; a sparse vector asks an index that the schema must have enabled, and weighs as that says. */
static och_code gate_searches(const struct schema *schema, const struct plan *plan, och_error *err)
{
    for (uint32_t i = 0; i < plan->search_count; i++) {
        const struct search *search = &plan->searches[i];
        TRY(schema_gate(schema, search->filter, err));
        for (uint32_t j = 0; j < search->knn_count; j++) {
            struct search_knn *knn = &search->knns[j];
            if (knn->text && !schema->full_text)
                return FAIL(
                    err, OCH_INVALID,
                    "Cannot filter using full-text search because FTS indexing is disabled");
            if (knn->text)
                continue;
            if (!knn->sparse || schema_sparse_index(schema, knn->key, &knn->bm25))
                continue;
            size_t shown = min_size(knn->key.len, 256);
            return FAIL(err, OCH_INVALID,
                        "Cannot filter using metadata key '%.*s' with type 'SparseVector' because "
                        "indexing is disabled",
                        (int)shown, (const char *)(shown ? (const void *)knn->key.at : ""));
        }
    }
    return OCH_OK;
}

och_code gateway_view(struct gateway *gateway, const struct gateway_scope *scope, uuid collection,
                      struct view **ret_view, och_error *err)
{
    if (scope->version)
        return gateway_version_view(gateway, scope, collection, scope->version, ret_view, err);
    if (!scope->as_of)
        return view_acquire(gateway->options.views, collection, READ_INDEX_AND_WAL, ret_view, err);
    struct token *token = NULL;
    TRY(token_find(gateway->tokens, collection, scope->as_of, &token, err));
    och_code code = view_copy(token_view(token), ret_view, err);
    token_unref(gateway->tokens, token);
    return code;
}

och_code gateway_read(struct gateway *gateway, const struct gateway_scope *scope,
                      const struct plan *plan, struct arena *arena, struct query_result *ret_result,
                      och_error *err)
{
    *ret_result = (struct query_result){0};
    const struct sysdb_collection *collection CLEANUP(sysdb_collection_cleanup) = NULL;
    TRY(sysdb_collection_get(gateway->options.sysdb, scope->tenant, scope->database,
                             plan->collection, &collection, err));
    TRY(schema_gate(&collection->schema, plan->filter, err));
    TRY(gate_searches(&collection->schema, plan, err));
    struct plan aimed = *plan;
    /* A changed effort counts at once: the view has that of the time when it was made. */
    if (!(plan->recall > 0))
        aimed.recall = collection->schema.recall;
    if (!scope->version && !scope->as_of) /* at the plan's read level */
        return query_run(gateway->options.query, &aimed, &scope->limits, arena, ret_result, err);
    struct view *view CLEANUP(view_cleanup) = NULL;
    TRY(gateway_view(gateway, scope, plan->collection, &view, err));
    return query_run_view(gateway->options.query, &aimed, view, &scope->limits, arena, ret_result,
                          err);
}
