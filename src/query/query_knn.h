/* SPDX-License-Identifier: Apache-2.0 */
/* One search for nearest neighbours, shared by scan and index.  Inside query/ only. */
#ifndef QUERY_QUERY_KNN_H
#define QUERY_QUERY_KNN_H

#include "query/query_internal.h"

#define WORKERS_MAX 8
#define BLOCK       64 /* rows whose distances are computed together */

#define RECALL_DEFAULT 0.99f
#define RECALL_EXACT   0.9999f

struct range {
    uint32_t source, first, count;
};

/* A part that is searched by its index; index NULL: it is scanned. */
struct indexed_part {
    const struct vector_index *index;
    uint64_t *mask; /* bit per row that survives; NULL: all do */
    bool lazy;      /* the mask knows of dead rows only: the filter is asked row by row */
    _Atomic uint64_t survivors; /* among the rows with codes */
};

struct knn {
    struct run *run;
    struct range *ranges;
    size_t range_count, k;
    _Atomic size_t next_range;
    struct topk *heaps; /* WORKERS_MAX x vector_count */
    struct topk *best;  /* vector_count */
    float recall;
    struct view_codes tail;       /* index.coded 0: the tail is scanned */
    struct indexed_part *indexed; /* by part; of the tail last */
    uint32_t *
        order; /* parts with an index, the oldest first, then the tail if it has codes: hardly a row of it passes the threshold of the parts */
    size_t indexed_count;
    double share; /* of rows that the filter lets through, about; -1: not known, 0: few */
    _Atomic uint64_t survivors;
    _Atomic bool was_cold; /* vectors had to be read: what else is needed may have to be as well */
    _Atomic bool failed;
    struct mutex lock; /* guards code, err */
    och_code code;
    och_error err;
};

/* One thread at work on vectors [first, end) of the plan. */
struct worker {
    struct knn *knn;
    struct lookup lookup;
    struct topk *heaps; /* one per query vector */
    uint32_t first, end;
    struct arena arena; /* of a search by index */
};

/* One vector in one source. */
struct part_search {
    uint32_t source;
    struct vector_query query;
    struct vector_found *found; /* what is to be reranked */
};

/* A window of a section: where it is pinned and which rows it holds. */
struct window {
    const float *at;
    uint32_t first, end;
    const struct extent *extent;
};

/* ---- query_knn.c ---- */
/** Distances of `count` rows lying one behind the other, of which `mask` survive; norms NULL: not known. */
MUST_USE och_code knn_score_block(struct worker *w, const float *rows, const float *norms,
                                  uint32_t count, uint64_t mask, uint32_t source, uint32_t row,
                                  och_error *err);
MUST_USE och_code knn_window_move(struct part *part, bool norms, uint32_t row,
                                  struct window *window, struct cache *cache, och_error *err);
/** Survivors among a range of rows of a part, exactly; words: from its first row on. */
MUST_USE och_code knn_scan_part(struct worker *w, const struct range *range, const uint64_t *words,
                                struct window *vectors, struct window *norms, och_error *err);
MUST_USE och_code knn_scan_part_rows(struct worker *w, const struct range *range,
                                     const uint64_t *words, och_error *err);
/** Survivors among a range of the tail's slots, exactly. */
MUST_USE och_code knn_scan_tail(struct worker *w, const struct range *range, const uint64_t *words,
                                och_error *err);
/** Remember the first failure of several threads; and hand it over. */
void knn_fail(struct knn *knn, och_code code, const och_error *failure);
MUST_USE och_code knn_failure(const struct knn *knn, och_error *err);

/** What an index did, and what came of it. */
void knn_count(struct knn *knn, uint32_t source, const struct vector_query *query,
               const struct vector_found *found);

/** The distance of the view's space between two vectors of its dimension, as queries report it. */
float knn_distance(const struct run *run, const float *a, const float *b);

/* ---- query_mmr.c ---- */
/** Hits, best first, that stand within plan->max_distance; of those plan->k that are near and unlike each other, when the plan asks for that. */
MUST_USE och_code knn_choose(struct run *run, struct topk *top, och_error *err);

/* ---- query_tail.c ---- */
/** Has the tail codes that this search can use?  Then knn->tail. */
void knn_choose_tail(struct knn *knn, const struct vector_index *like);
/** One vector in the coded slots that the mask allows; the rest of the tail is scanned as ranges. */
MUST_USE och_code knn_search_tail(struct worker *w, struct part_search *search, och_error *err);
/** Their vectors. */
MUST_USE och_code knn_rerank_tail(struct worker *w, const struct part_search *search,
                                  och_error *err);

/* ---- query_index.c ---- */
/** Which parts have an index that this search can use. */
MUST_USE och_code knn_choose_indexed(struct knn *knn, och_error *err);
/** Search them, into knn->best. */
MUST_USE och_code knn_search_indexed(struct knn *knn, och_error *err);
#endif
