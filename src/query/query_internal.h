/* SPDX-License-Identifier: Apache-2.0 */
/* Shared inside query/ only. */
#ifndef QUERY_INTERNAL_H
#define QUERY_INTERNAL_H

#include "base/topk.h"
#include "kernel/kernel.h"
#include "query/query.h"

#define QUERY_CHUNK       4096 /* rows a task looks at: its survivors are 64 words */
#define QUERY_CHUNK_WORDS (QUERY_CHUNK / 64)

struct corrector;
struct query {
    struct query_options options;
    struct corrector *corrector;
    const struct kernel *kernel;
};

/* What a result holds on to until query_result_done. */
struct query_pins {
    struct view *view;
    struct part_reads reads;
};

/* What a search did in one part or in the tail; summed over its vectors.  Times only with explain, of all threads together. */
enum run_stage {
    STAGE_FILTER,
    STAGE_COARSE,
    STAGE_CODES,
    STAGE_CODES8,
    STAGE_RERANK,
    STAGE_EXACT,
    STAGE_COUNT
};
struct run_source {
    _Atomic uint32_t ways; /* bit per enum vector_mode, RUN_EXACT */
    _Atomic uint64_t lists_probed, rows_coded, rows_scored, rows_reranked, rows_exact;
    _Atomic uint64_t ns[STAGE_COUNT];
};
#define RUN_EXACT (1u << 8)

/* One plan at work; read only while tasks run. */
struct run {
    struct query *query;
    const struct plan *plan;
    const struct limits_of_work *limits;
    struct view *view;
    struct filter *filter;  /* NULL: all */
    unsigned needs;         /* enum filter_need */
    struct answer *answers; /* by part, query_answer.h; NULL: rows are asked one by one */
    size_t answer_count;
    struct arena *arena; /* the caller's: one thread only */
    float *query_norms;  /* Σq², per vector (cosine) */
    uint64_t scanned, survivors;
    struct run_source *sources; /* parts, then the tail; NULL before a search */
    float recall, effort;       /* asked for; what correction adds (query_correct.c) */
    bool learns;                /* a client's query: it may be remembered */
    struct buf
        *told;      /* a Search that is to be explained: what its payloads did so far; else NULL */
    slice searches; /* all of that, once it is done */
};

static inline void run_add(_Atomic uint64_t *sum, uint64_t more)
{
    if (more)
        atomic_fetch_add_explicit(sum, more, memory_order_relaxed);
}
/** Time for run_spent; 0 when nobody asks. */
static inline uint64_t run_now(const struct run *run)
{
    return run->plan->explain ? sched_mono_ns() : 0;
}
static inline void run_spent(struct run *run, size_t source, enum run_stage stage, uint64_t since)
{
    if (since)
        run_add(&run->sources[source].ns[stage], sched_mono_ns() - since);
}
/** query_explain.c: the JSON object of query_result.explain. */
MUST_USE och_code run_explain(struct run *run, uint64_t began_ns, slice *ret_json, och_error *err);
/** One ranking of a Search is done: `kind` as clients name it, its limit, what it found, since when.  Not asked for: nothing happens. */
void run_tell_ranking(struct run *run, const char *kind, uint32_t limit, size_t hits,
                      uint64_t since_ns);

/* A task's own means of reading rows; one thread. */
struct lookup {
    struct run *run;
    struct arena arena;
    struct part_reads reads;
    struct filter_work work;
};
void lookup_init(struct lookup *lookup, struct run *run);
void lookup_done(struct lookup *lookup);

/* ---- query_filter.c ---- */
/** Does a row that is live and not dead pass expiry and filter? */
MUST_USE och_code survive_place(struct lookup *lookup, struct view_place place, bool *ret_survives,
                                och_error *err);
/** Bits of rows [first, first + count) of a source that survive; count ≤ QUERY_CHUNK, first a multiple of 64.  Source view_part_count = the tail. */
MUST_USE och_code survive_range(struct lookup *lookup, size_t source, uint32_t first,
                                uint32_t count, uint64_t *words, och_error *err);

/** A row that the plan's ids name and that survives, with its seq. */
struct candidate {
    struct view_place place;
    int64_t seq;
};
/** Live, distinct, surviving rows of plan->ids in insertion order; mem_free the array. */
MUST_USE och_code survive_ids(struct run *run, struct candidate **ret_rows, size_t *ret_count,
                              och_error *err);

/* ---- query_get.c, query_knn.c ---- */
MUST_USE och_code query_run_count(struct run *run, struct query_result *result, och_error *err);
MUST_USE och_code query_run_get(struct run *run, struct query_result *result, och_error *err);
/** query_order.c: a get in another order than that of insertion. */
MUST_USE och_code query_run_ordered(struct run *run, struct query_result *result, och_error *err);
/** query_facet.c */
MUST_USE och_code query_run_facets(struct run *run, struct query_result *result, och_error *err);
MUST_USE och_code query_run_knn(struct run *run, struct query_result *result, och_error *err);
/** The ranked lists alone, best first: one topk per vector of run->plan, in the arena. */
MUST_USE och_code query_knn_nearest(struct run *run, struct topk **ret_best, och_error *err);
/** Fill a result row's record. */
MUST_USE och_code query_fetch(struct run *run, struct query_result *result, struct view_place place,
                              struct query_row *ret_row, och_error *err);
#endif
