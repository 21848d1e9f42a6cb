/* SPDX-License-Identifier: Apache-2.0 */
/* The sparse index in a part: rows by dimension of a sparse vector, without reading their metadata.  docs/formats/sparse.md, index/sparse. */
#ifndef PART_PART_SPARSE_H
#define PART_PART_SPARSE_H

#include "index/sparse/sparse.h"
#include "part/part.h"

/**
 * sparse_search in this part; index and pages are filled in.
 *
 * *ret_usable false: no index, none of this key, damaged (then it is noted) or no room for it now: ask the rows.  Hits may have been offered
 * before that came out.
 */
MUST_USE och_code part_sparse_search(struct part *part, struct sparse_search *search,
                                     struct arena *arena, bool *ret_usable, och_error *err);
/** sparse_count in this part, into holders only when *ret_usable. */
MUST_USE och_code part_sparse_count(struct part *part, slice key, const struct sparse_terms *terms,
                                    const uint64_t *dead, const struct limits_of_work *limits,
                                    struct arena *arena, uint64_t *holders, bool *ret_usable,
                                    och_error *err);
#endif
