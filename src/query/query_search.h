/* SPDX-License-Identifier: Apache-2.0 */
/* Search and what it is made of.  Inside query/ only. */
#ifndef QUERY_QUERY_SEARCH_H
#define QUERY_QUERY_SEARCH_H

#include "query/query_internal.h"

#define QUERY_AHEAD_ROWS 128u /* whose fields are read in one batch */

/* ---- query_search.c ---- */
/** run->plan->searches into one query_hits each; `distance` is the score. */
MUST_USE och_code query_run_search(struct run *run, struct query_result *result, och_error *err);

#endif
