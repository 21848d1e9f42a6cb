/* SPDX-License-Identifier: Apache-2.0 */
/* What the indexes of a part say of a plan's filter.  Inside query/ only. */
#ifndef QUERY_QUERY_ANSWER_H
#define QUERY_QUERY_ANSWER_H

#include "part/part_meta.h"
#include "query/query_internal.h"

/* One part's: bits of rows that pass and of those that may, for the rows evaluated so far. */
struct answer {
    struct arena arena;
    struct part_filter *filter; /* NULL: rows are asked one by one */
    uint64_t *sure, *maybe;     /* one and the same when exact */
    uint32_t ready;             /* rows [0, ready) are evaluated */
    uint64_t open;              /* of them, rows in `maybe` and not in `sure` */
    uint64_t passing;           /* rows in `maybe` */
    bool has_expiry;
};

/** Make the filter ready for all parts; nothing is evaluated yet.  Called once, before tasks run. */
MUST_USE och_code answers_open(struct run *run, och_error *err);
/** Evaluate all parts, on idle workers too. */
MUST_USE och_code answers_evaluate(struct run *run, och_error *err);
void answers_done(struct run *run);
/** Evaluate at least rows [0, rows) of one part.  One thread only, no tasks at work. */
MUST_USE och_code answer_upto(struct run *run, size_t part, uint32_t rows, och_error *err);
/** The part's answer if it holds for rows [0, rows), else NULL. */
static inline const struct answer *answer_of(const struct run *run, size_t part, uint32_t rows)
{
    const struct answer *answer = run->answers ? &run->answers[part] : NULL;
    return answer && answer->filter && answer->ready >= rows ? answer : NULL;
}
/** Is it known of (nearly) all rows of the part whether they pass, so that a mask of them costs next to nothing? */
bool answer_is_cheap(const struct run *run, size_t part);
/** How many rows of a part pass and are not dead, if no row need be looked at for that. */
MUST_USE och_code answer_count(struct run *run, size_t part, bool *ret_known, uint64_t *ret_count,
                               och_error *err);
#endif
