/* SPDX-License-Identifier: Apache-2.0 */
/* The logical plan of a read: a value with one binary encoding, so that it crosses the wire unchanged (DESIGN §6). */
#ifndef MODEL_PLAN_H
#define MODEL_PLAN_H

#include "model/search.h"
#include "model/uuid.h"

enum plan_kind { PLAN_GET = 1, PLAN_QUERY = 2, PLAN_COUNT = 3, PLAN_SEARCH = 4 };
enum read_level { READ_INDEX_AND_WAL = 0, READ_INDEX_ONLY = 1, READ_BOUNDED_WAL = 2 };
#define PLAN_NO_LIMIT UINT64_MAX

struct plan {
    uint8_t kind;
    uint8_t level;
    uuid collection;
    unsigned fields; /* enum record_field wanted; the id always comes */
    bool has_ids;
    const slice *ids; /* order and repetition do not matter; unknown ones are skipped */
    uint64_t id_count;
    const struct filter_node *filter; /* NULL = all */
    uint64_t limit, offset;           /* get: after filtering, in insertion order */
    /* rank: nearest neighbours */
    const float *vectors; /* vector_count x dimension */
    uint32_t vector_count, dimension;
    uint32_t k;
    float recall; /* target 0.5..1; 1 = exact; 0 = the collection's default */
    bool explain;
    bool bare; /* of hits only seq and distance are wanted: nothing else of them is read */
    const struct search *searches; /* PLAN_SEARCH: each by itself, over one view */
    uint32_t search_count;
};
void plan_encode(const struct plan *plan, struct buf *out);
/** Untrusted bytes; the result points into them and into the arena. */
MUST_USE och_code plan_decode(slice encoded, struct arena *arena, struct plan *ret_plan,
                              och_error *err);
#endif
