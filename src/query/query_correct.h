/* SPDX-License-Identifier: Apache-2.0 */
/* Effort corrected by real queries.  Inside query/ only. */
#ifndef QUERY_QUERY_CORRECT_H
#define QUERY_QUERY_CORRECT_H

#include "query/query_internal.h"

MUST_USE och_code corrector_new(struct query *query, struct corrector **ret, och_error *err);
/** Waits for what it is asking; NULL is fine, here and below. */
void corrector_stop(struct corrector *c);
void corrector_free(struct corrector *c);
/** A query that lists were budgeted for.  Never waits. */
void corrector_remember(struct corrector *c, uuid id, const float *vector, uint32_t dimension,
                        uint32_t k, float recall);
struct correction {
    float effort, before,
        after; /* recall of the remembered queries at effort 1 and at this one; 0: not known */
    uint32_t queries;
};
/** What to multiply the budget of a collection by; ≥ 1. */
float corrector_effort(struct corrector *c, uuid id, struct correction *ret);
/** Around each query of a client: correction waits while there is one. */
void corrector_enter(struct corrector *c);
void corrector_leave(struct corrector *c);
/** query_run at an effort; INFINITY: all lists. */
MUST_USE och_code query_run_effort(struct query *query, const struct plan *plan,
                                   const struct limits_of_work *limits, float effort,
                                   struct arena *arena, struct query_result *ret_result,
                                   och_error *err);
#endif
