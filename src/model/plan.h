/* SPDX-License-Identifier: Apache-2.0 */
/* The logical plan of a read: a value with one binary encoding, so that it crosses the wire unchanged (DESIGN §6). */
#ifndef MODEL_PLAN_H
#define MODEL_PLAN_H

#include "model/search.h"
#include "model/uuid.h"

enum plan_kind { PLAN_GET = 1, PLAN_QUERY = 2, PLAN_COUNT = 3, PLAN_SEARCH = 4, PLAN_FACETS = 5 };
enum read_level { READ_INDEX_AND_WAL = 0, READ_INDEX_ONLY = 1, READ_BOUNDED_WAL = 2 };
#define PLAN_NO_LIMIT UINT64_MAX

/* ---- the order of a get ---- */
enum plan_by { PLAN_BY_INSERTION = 0, PLAN_BY_ID, PLAN_BY_KEY };
struct plan_order {
    uint8_t by;
    bool descending;
    slice key; /* PLAN_BY_KEY: of metadata */
};
/** A row's place in an order. */
struct plan_key {
    uint8_t type; /* enum meta_type of what it is ordered by (an id is a string); 0: it has none */
    slice value;  /* as in metadata */
    int64_t seq;
};
/**
 * Bools, then numbers (by value, whatever they are stored as; NaN last), strings, then the rest as search_compare_meta has it; rows without a value
 * last, ascending or descending alike.  Ties by insertion, the oldest first.
 */
int plan_compare(const struct plan_order *order, const struct plan_key *a,
                 const struct plan_key *b);

/** Which values of a key records have, and how many have each. */
struct plan_facet {
    slice key;
    uint32_t limit; /* values told of */
    bool by_value;  /* those first in the order of values; else those that most records have */
};

struct plan {
    uint8_t kind;
    uint8_t level;
    uuid collection;
    unsigned fields; /* enum record_field wanted; the id always comes */
    bool has_ids;
    const slice *ids; /* order and repetition do not matter; unknown ones are skipped */
    uint64_t id_count;
    const struct filter_node *filter; /* NULL = all */
    uint64_t limit, offset;           /* get: after filtering, in `order` */
    struct plan_order order;          /* get; without has_ids or with */
    bool has_after;                   /* get: only rows behind this place */
    struct plan_key after;
    /* rank: nearest neighbours */
    const float *vectors; /* vector_count x dimension */
    uint32_t vector_count, dimension;
    uint32_t k;
    bool has_max; /* query: rows that are farther are no hits */
    float max_distance;
    uint32_t
        mmr_candidates; /* query: the k hits are chosen among so many nearest ones, to be unlike each other; 0: the nearest */
    float mmr_lambda;   /* 1: nearness alone counts, 0: unlikeness alone */
    float recall;       /* target 0.5..1; 1 = exact; 0 = the collection's default */
    bool explain;
    bool bare; /* of hits only seq and distance are wanted: nothing else of them is read */
    const struct search *searches; /* PLAN_SEARCH: each by itself, over one view */
    uint32_t search_count;
    const struct plan_facet *facets; /* PLAN_FACETS */
    uint32_t facet_count;
};
/** Set plan->recall from what a client asks for: 0.5 to 1, else OCH_INVALID. */
MUST_USE och_code plan_aim(struct plan *plan, double recall, och_error *err);
/** A cursor for clients: the place `last` in the rows of this plan, pages aside.  ASCII, checked when it comes back. */
MUST_USE och_code plan_cursor_write(const struct plan *plan, const struct plan_key *last,
                                    struct buf *out, och_error *err);
/** Set plan->after from one; all else that decides which rows there are is set already.  OCH_INVALID: not a cursor, or another request's. */
MUST_USE och_code plan_cursor_read(slice text, struct arena *arena, struct plan *plan,
                                   och_error *err);
/** Parts of the plan's encoding. */
void plan_facets_encode(const struct plan *plan, struct buf *out);
MUST_USE och_code plan_facets_decode(struct reader *reader, struct arena *arena, struct plan *plan,
                                     och_error *err);
void plan_order_encode(const struct plan *plan, struct buf *out);
MUST_USE bool plan_order_decode(struct reader *reader, struct plan *plan);
void plan_encode(const struct plan *plan, struct buf *out);
/** Untrusted bytes; the result points into them and into the arena. */
MUST_USE och_code plan_decode(slice encoded, struct arena *arena, struct plan *ret_plan,
                              och_error *err);
#endif
