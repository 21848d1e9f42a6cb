/* SPDX-License-Identifier: Apache-2.0 */
/* The sparse index in a part: rows by dimension of a sparse vector, without reading their metadata; and rows by terms of their documents, without reading
 * those.  docs/formats/sparse.md, index/sparse. */
#ifndef PART_PART_SPARSE_H
#define PART_PART_SPARSE_H

#include "index/sparse/sparse.h"
#include "part/part.h"

#define TERMS_BYTES_MIN (64u << 10) /* parts with less text have no terms: reading it takes less */
#define PART_TERMS_KEY  SLICE("#document")

/**
 * sparse_search in this part, in its sparse index or that of terms; index and pages are filled in.
 *
 * *ret_usable false: no index, none of this key, damaged (then it is noted) or no room for it now: ask the rows.  Hits may have been offered
 * before that came out.
 */
MUST_USE och_code part_sparse_search(struct part *part, bool text, struct sparse_search *search,
                                     struct arena *arena, bool *ret_usable, och_error *err);
/** Live documents of a collection, and the terms in them: what idf and the average length come of. */
struct part_totals_text {
    uint64_t documents, terms;
};
/** sparse_count in this part, added to holders only when *ret_usable; totals not NULL: in the index of terms, and to totals. */
MUST_USE och_code part_sparse_count(struct part *part, slice key, const struct sparse_terms *terms,
                                    const uint64_t *dead, const struct limits_of_work *limits,
                                    struct arena *arena, uint64_t *holders,
                                    struct part_totals_text *totals, bool *ret_usable,
                                    och_error *err);
#endif
