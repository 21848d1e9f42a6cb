/* SPDX-License-Identifier: Apache-2.0 */
/* The Query Executor: logical plan to rows, over parts and tail, always consistent (DESIGN §6).  Local here, remote later: same calls. */
#ifndef QUERY_QUERY_H
#define QUERY_QUERY_H

#include "base/pool.h"
#include "model/plan.h"
#include "view/view.h"

struct query;
struct query_options {
    struct views *views;
    struct cache *cache;
    struct pool
        *pool; /* parts are searched on its idle workers and the caller; NULL: the caller alone */
    struct clock *clock;
    struct trace *trace;
    struct budget *budget; /* of remembered queries; NULL: uncounted */
    bool correct;          /* correct the effort by real queries when nobody asks */
};
MUST_USE och_code query_local_new(const struct query_options *options, struct query **ret_query,
                                  och_error *err);
/** No background work from here on; queries go on working.  query_free does it as well. */
void query_stop(struct query *query);
void query_free(struct query *query);

/** For metrics. */
struct query_stats {
    uint64_t corrections,
        correction_ns; /* times that a collection's effort was measured; CPU and waiting spent on it */
    uint64_t asked;    /* queries run again for that */
    uint64_t remembered, corrected; /* queries kept; collections with an effort above 1 */
    float effort_max;
};
void query_stats(struct query *query, struct query_stats *ret_stats);
/** Correct all that is due, at once; tests. */
void query_correct_now(struct query *query);

struct query_row {
    struct record record; /* fields as asked; pointers hold until query_result_done */
    float distance;       /* search: the score */
};
struct query_hits {
    struct query_row *rows;
    size_t count;
};
/** What there is under one key (PLAN_FACETS). */
struct query_facet_value {
    struct plan_key value; /* seq is not used */
    uint64_t count;        /* records that have it, an element of an array once */
};
struct query_facet {
    uint64_t records, distinct;       /* records that have the key; values there are */
    struct plan_key least, most;      /* in the order of plan_compare; type 0: no value */
    struct query_facet_value *values; /* as many as asked for, in the order asked for */
    size_t value_count;
};
struct query_result {
    struct query_hits
        *hits; /* get: one; query: one per vector, search: one per payload, in order */
    size_t hit_count;
    bool has_last; /* get: the page is full, there may be more rows behind `last` */
    struct plan_key last;
    struct query_facet *facets; /* PLAN_FACETS: one for each */
    uint64_t count;             /* PLAN_COUNT, PLAN_FACETS */
    uint64_t at;                /* the log offset this answer reflects (H) */
    uint32_t dimension;
    slice warning;           /* text of a Warning header, len 0: none */
    slice explain;           /* JSON when asked */
    struct query_pins *pins; /* internal: the view and pinned extents */
};
/**
 * Run a plan.  get: rows in insertion order after filter, offset, limit.  query: exactly min(k, survivors) per vector, by distance, ties by seq.
 * search: query-language.md §4, all payloads over one view.
 * Errors: OCH_INVALID (dimension: "Collection expecting embedding with dimension of D, got d"; regex), OCH_NOT_FOUND, OCH_CORRUPT, OCH_BUSY (budget),
 * OCH_DEADLINE, OCH_CANCELLED.  Release with query_result_done, also after an error is fine.
 */
MUST_USE och_code query_run(struct query *query, const struct plan *plan,
                            const struct limits_of_work *limits, struct arena *arena,
                            struct query_result *ret_result, och_error *err);
/** The same over a view that was taken before: of its state, by its clock.  The result holds a copy of it. */
MUST_USE och_code query_run_view(struct query *query, const struct plan *plan,
                                 const struct view *view, const struct limits_of_work *limits,
                                 struct arena *arena, struct query_result *ret_result,
                                 och_error *err);
void query_result_done(struct query_result *result);

/** What to look for among some rows. */
struct query_suspects {
    const slice *ids;
    size_t count;
    const struct filter_node *filter; /* NULL: any live row is meant */
    int64_t seq_max;                  /* rows of a higher seq are not */
};
/** Is one of these ids a row of this view that passes the filter?  One look-up and at most one row read for each; no index is asked.  One thread
 *  at a time may use a view so. */
MUST_USE och_code query_any(struct query *query, struct view *view,
                            const struct query_suspects *suspects,
                            const struct limits_of_work *limits, bool *ret_any, och_error *err);
#endif
