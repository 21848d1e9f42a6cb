/* SPDX-License-Identifier: Apache-2.0 */
/* The nearest rows to a sparse vector: `$knn` over a key with a sparse index; and by words of documents: `$bm25`.  Inside query/ only. */
#ifndef QUERY_QUERY_SPARSE_H
#define QUERY_QUERY_SPARSE_H

#include "query/query_answer.h"

struct sparse_query {
    slice key;            /* of the metadata */
    const uint32_t *dims; /* strictly ascending */
    const float *weights; /* finite */
    size_t count, k;
    bool bm25; /* weights are multiplied by how rare their dimensions are among the live rows */
    bool
        text; /* dimensions are terms of documents (model/terms.h): then bm25 as well, weights say how often the query names them, key is PART_TERMS_KEY */
};
/** Terms of a text as a query's dims, weights and count. */
MUST_USE och_code text_terms(slice words, struct arena *arena, struct sparse_query *query,
                             och_error *err);
/**
 * The k best of the rows that survive the run's filter and hold a dimension of the query: exact, whatever the parts.
 *
 * `run` is prepared as for a search: filter compiled, answers evaluated, dead rows of all parts known.  plan->ids are not looked at.
 * Shapes: ret_best->items, best first: distance is the score 1 - sum, source a part or view_part_count for the tail; ties by seq.
 * Ownership: the arena's of the run.
 * Errors: of reading, OCH_BUSY, OCH_NO_MEMORY, OCH_DEADLINE, OCH_CANCELLED.
 * Source: accumulation in windows with the split of MaxScore (Turtle and Flood, 1995) and block maxima (Ding and Suel, 2011).
 */
MUST_USE och_code query_sparse(struct run *run, const struct sparse_query *query,
                               struct topk *ret_best, och_error *err);
#endif
