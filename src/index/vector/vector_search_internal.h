/* SPDX-License-Identifier: Apache-2.0 */
/* A search under way: shared by the files that search (vector_search.c tells which does what). */
#ifndef INDEX_VECTOR_SEARCH_INTERNAL_H
#define INDEX_VECTOR_SEARCH_INTERNAL_H

#include "index/vector/vector_internal.h"

#define SEARCH_GROUP 16  /* 8-bit rows between two looks at the threshold */
#define CARRY_SORTED 256 /* 8-bit distances */

struct pending {
    float low;
    uint32_t row;
};
struct scored {
    float distance, error;
    uint32_t row;
};
struct ranked_list {
    float key;
    uint32_t list;
};
struct piece {
    const uint8_t *base;
    uint64_t first, units;
};

struct vector_search {
    const struct vector_query *query;
    const struct vector_index *index;
    const struct kernel_code *kernel;
    struct arena *arena;
    uint8_t *table;
    struct code_table factors;
    struct code_query8 query8;
    struct vector_stretch stretch;
    float query_length;        /* rotated */
    float bound;               /* internal */
    struct vector_carry carry; /* the `keep` smallest 8-bit distances, largest on top */
    float shift;               /* of this part's distances against the carried ones */
    struct pending *pending;
    uint32_t pending_len, pending_room, drain_inside, drain_list;
    struct scored *scored;
    uint32_t scored_len, scored_room;
    struct piece code, code8;
    float *deltas, *keys; /* of all lists, or of some */
    bool some_lists;
    float key_least, key_most;
    struct ranked_list *
        order; /* ascending; [order_at, order_len) are still to come; behind it, room for as many */
    uint32_t *chosen; /* room for all lists */
    uint32_t order_at, order_len;
    uint64_t *visited;
    float error;                  /* the largest of a distance */
    float reach;                  /* of lists, now; of the first, if it falls with their place */
    float fall;                   /* of reach with each doubling of a list's place */
    float far_times;              /* as far off as what is far; ≤ 1: not far off */
    uint32_t missed;              /* lists out of reach since one was not */
    uint32_t fetched, fetch_step; /* cold: the lists in order up to here are fetched; at once */
    uint64_t near, near_passed;   /* rows near the query, and those of them that pass */
    struct vector_found found;
};

static inline uint64_t search_now(const struct vector_search *s)
{
    return s->query->timed ? sched_mono_ns() : 0;
}

/* What other parts do not know of a distance: with ip each part lifts by its own longest row. */
static inline float search_key_shift(const struct vector_search *s)
{
    return s->index->metric == METRIC_IP ? s->index->big2 : 0;
}

/* Few are kept in ascending order, so that the k-th is at hand; many as a max-heap. */
static inline bool carry_is_sorted(const struct vector_carry *carry)
{
    return carry->keep <= CARRY_SORTED;
}

/* The largest; there is one. */
static inline float carry_top(const struct vector_carry *carry)
{
    return carry->heap[carry_is_sorted(carry) ? carry->len - 1 : 0];
}

/* Without a carry the bound must do: then it is as tight as what other parts found. */
static inline float search_threshold(const struct vector_search *s)
{
    float top = s->carry.len < s->carry.keep ? INFINITY : carry_top(&s->carry) + s->shift;
    return s->query->carry || top < s->bound ? top : s->bound;
}

/* The distance to the k-th: what a list must come below to change the answer. */
static inline float search_kth(const struct vector_search *s)
{
    uint32_t k = s->query->plan.k;
    float own = INFINITY, limit = search_threshold(s);
    if (carry_is_sorted(&s->carry) && s->carry.len >= k)
        own = s->carry.heap[k - 1] + s->shift + s->error;
    return own < limit ? own : limit;
}

struct list_entry {
    uint32_t row_start, rows, block_start;
    float rms2;
};
static inline struct list_entry list_entry(const struct vector_index *index, uint32_t list)
{
    const uint8_t *at = index->list + (size_t)list * VECTOR_LIST_SIZE;
    return (struct list_entry){load_u32(at), load_u32(at + 4), load_u32(at + 8), load_f32(at + 12)};
}

/* 32 bits of the mask from any row on. */
static inline uint32_t search_mask(const struct vector_search *s, uint32_t row)
{
    const uint64_t *mask = s->query->mask;
    if (!mask)
        return UINT32_MAX;
    uint32_t word = row / 64, shift = row % 64;
    uint64_t bits = mask[word] >> shift;
    if (shift > 32 && (uint64_t)(word + 1) * 64 < s->index->coded)
        bits |= mask[word + 1] << (64 - shift);
    return (uint32_t)bits;
}

/* A unit of a section if that is known without waiting, else NULL. */
static inline const uint8_t *search_unit(const struct vector_search *s, enum vector_section section,
                                         const struct piece *piece, uint64_t unit, size_t size)
{
    const struct vector_pages *pages = s->query->pages;
    const struct vector_held *held = &pages->held[section];
    if (piece->base && unit - piece->first < piece->units)
        return piece->base + (unit - piece->first) * size;
    if (!held->units)
        return NULL;
    uint64_t index = (uint32_t)unit / (uint32_t)held->units;
    const uint8_t *base = held->at[index];
    if (UNLIKELY(!base) && !pages->cold)
        base = pages->peek(pages->context, section, index);
    return base ? base + (unit - index * held->units) * size : NULL;
}

static inline const uint8_t *search_row8(const struct vector_search *s, uint32_t row)
{
    return search_unit(s, VECTOR_CODE8, &s->code8, row, code_row_size(s->index->code_dim));
}

/* ---- vector_score.c: 8-bit codes ---- */

/* 8-bit rows to be scored together. */
struct search_group {
    uint32_t count, rows[SEARCH_GROUP];
    const uint8_t *at[SEARCH_GROUP];
};
/** The 8-bit row of one that will be scored, into the second cache: it waits until enough are together. */
void search_prefetch_row(const struct vector_search *s, uint32_t row);
/** Score what the bound let through so far. */
MUST_USE och_code search_drain(struct vector_search *s, och_error *err);
/** Without lists: every row that the mask allows. */
MUST_USE och_code search_all_codes8(struct vector_search *s, och_error *err);
/** found.rows: what the stored vectors must decide, all that may be nearer than the k-th. */
MUST_USE och_code search_choose(struct vector_search *s, och_error *err);

/* So many times the lists are visited where the query is far off: those that hold its neighbours come later in the order, and reach farther out towards
 * it.  Rows that are queries, by which lists are calibrated, know nothing of that (docs/decisions/0037-queries-unlike-the-rows.md). */
static inline float search_far_lists(float far_times)
{
    float square = far_times > 1 ? far_times * far_times : 1;
    return square * square;
}

/* ---- vector_rank.c: the order of lists ---- */

/** Distances and keys of all lists, or of those in the nearest cells; makes room first. */
MUST_USE och_code search_coarse(struct vector_search *s, och_error *err);
/** The same, once there is room: `all`, or only those that may be visited; keys of the others are infinite. */
MUST_USE och_code search_place_lists(struct vector_search *s, bool all, och_error *err);
/** Keys of the lists in some ranges, from their distances, with this γ if the plan has a budget; key_least and key_most are of these. */
void search_make_keys(struct vector_search *s, const struct vector_range *ranges, uint32_t count,
                      float gamma);
/** All lists not yet visited, or at least the nearest `want`, in ascending order. */
void search_rank_lists(struct vector_search *s, uint32_t want);

/* ---- vector_scan.c: 1-bit codes ---- */

/** Without lists: every block that the mask allows. */
MUST_USE och_code search_all_codes1(struct vector_search *s, och_error *err);
/** List after list as planned. */
MUST_USE och_code search_in_lists(struct vector_search *s, och_error *err);
#endif
