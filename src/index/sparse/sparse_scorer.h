/* SPDX-License-Identifier: Apache-2.0 */
/* A search under way.  Inside index/sparse only. */
#ifndef INDEX_SPARSE_SCORER_H
#define INDEX_SPARSE_SCORER_H

#include "index/sparse/sparse_internal.h"

#define FEW_ALLOWED 1000u /* rows that are scored without looking at windows */

struct candidate {
    uint32_t row;
    float sum;
};
/** A segment whose lists are open. */
struct opened {
    struct lists lists;
    uint32_t *order; /* lists by bound, as the last window left them */
};
struct scorer {
    struct sparse_search *search;
    struct opened *opened; /* segments searched together, ascending */
    uint32_t opened_count;
    float *sums; /* SPARSE_WINDOW */
    uint64_t *touched;
    uint32_t *found; /* rows of a window */
    uint32_t found_count;
    uint32_t *rows; /* to be scored exactly */
    double *exact;
    uint8_t *held;
    struct candidate *candidates;
    uint32_t candidate_count, candidate_room;
    double *best; /* a min-heap of k exact sums at least */
    size_t best_count, best_room;
    double margin; /* an accumulated sum differs from the exact one by no more */
    double global; /* what an exact sum needs, by the hits so far */
    double need;   /* the same with what was accumulated since */
    float keep;    /* accumulated sums below do not matter */
    bool safe;
    /* the window at hand */
    struct opened *at;
    uint32_t base, end, words;
    const uint64_t *allowed; /* of it; NULL: all */
    bool notes_touched;
};

static inline bool scorer_allows(const struct scorer *s, uint32_t row)
{
    const uint64_t *allowed = s->search->allowed;
    return !allowed || (allowed[row / 64] >> row % 64 & 1);
}
/** The greatest f32 that is not above. */
float scorer_round_down(double value);
/** Ask what a score must not exceed; sets need and keep. */
void scorer_update(struct scorer *s);
/** A row of the window at hand whose sum is at least s->keep. */
MUST_USE och_code scorer_consider(struct scorer *s, uint32_t row, och_error *err);
/** Score ascending rows of one segment exactly and offer those that may enter.  verified: they are known to pass the filter. */
MUST_USE och_code scorer_score_rows(struct scorer *s, struct opened *at, const uint32_t *rows,
                                    uint32_t n, bool verified, och_error *err);
/** Score the rows considered that are still good enough. */
MUST_USE och_code scorer_settle(struct scorer *s, och_error *err);
/** Search rows [base, base + SPARSE_WINDOW) of a segment; base is a multiple of SPARSE_WINDOW. */
MUST_USE och_code scorer_window(struct scorer *s, struct opened *at, uint32_t base, och_error *err);
#endif
