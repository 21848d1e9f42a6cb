/* SPDX-License-Identifier: Apache-2.0 */
/* One query over one part: nearest lists first (vector_rank.c), 1-bit codes with a lower bound (vector_scan.c), 8-bit codes of what the
 * bound lets through, and of these the rows whose stored vectors must be looked at (vector_score.c).  Several parts as one: vector_share.c.
 * docs/formats/vector.md has the formulas. */
#include "index/vector/vector_search_internal.h"

#define DRAIN_LIST   16 /* candidates waiting at the end of a list */
#define DRAIN_INSIDE 32 /* within one */
#define DRAIN_COLD \
    96 /* both, where each drain may wait for a disk: fewer waits for some more rows */

static och_code prepare(struct vector_search *s, bool *ret_usable, och_error *err)
{
    const struct vector_index *index = s->index;
    size_t dim = index->code_dim;
    struct vector_space space = {.metric = index->metric,
                                 .dim = index->dimension,
                                 .wide = index->wide,
                                 .code_dim = index->code_dim,
                                 .seed = index->seed,
                                 .big2 = index->big2,
                                 .mean = index->mean};
    bool lists = s->query->plan.mode != VECTOR_CODES8;
    float *rotated = arena_alloc_aligned(s->arena, 64, dim * sizeof(float));
    int8_t *q8 = arena_alloc_aligned(s->arena, 64, dim);
    s->table = lists ? arena_alloc_aligned(s->arena, 64, code_table_size(dim)) : NULL;
    if (!rotated || !q8 || (lists && !s->table))
        return FAIL_NO_MEMORY(err, "a search");
    *ret_usable = vector_query_row(&space, s->query->vector, s->stretch.times, rotated);
    if (!*ret_usable)
        return OCH_OK;
    s->kernel->rotate_f32(rotated, dim, index->seed);
    s->kernel->quant8_query(rotated, dim, q8, &s->query8);
    if (lists)
        s->factors = s->kernel->table_u8(rotated, dim, s->table);
    s->query_length = sqrtf(s->query8.norm2);
    *ret_usable = s->query8.norm2 < VECTOR_NORM2_MAX;
    return OCH_OK;
}

static och_code make_room(struct vector_search *s, och_error *err)
{
    const struct vector_plan *plan = &s->query->plan;
    if (s->query->carry) {
        s->carry = *s->query->carry;
        s->shift = search_key_shift(s);
    } else {
        uint32_t keep = plan->keep < s->index->coded ? plan->keep : s->index->coded;
        TRY(vector_carry_init(&s->carry, keep, s->arena, err));
    }
    bool cold = s->query->pages->cold;
    s->drain_inside = cold ? DRAIN_COLD : DRAIN_INSIDE;
    s->drain_list = cold ? DRAIN_COLD : DRAIN_LIST;
    s->pending_room = 8 * s->carry.keep + s->drain_inside + s->drain_list + 2 * CODE_BLOCK_ROWS;
    s->pending = plan->mode == VECTOR_CODES8
                     ? NULL
                     : arena_alloc(s->arena, sizeof(*s->pending) * s->pending_room);
    s->scored_room = 2 * plan->rerank_max + 2 * s->carry.keep;
    s->scored = arena_alloc(s->arena, sizeof(*s->scored) * s->scored_room);
    if ((!s->pending && plan->mode != VECTOR_CODES8) || !s->scored)
        return FAIL_NO_MEMORY(err, "a search");
    return OCH_OK;
}

static void set_bound(struct vector_search *s)
{
    const struct vector_index *index = s->index;
    struct vector_space space = {.metric = index->metric, .big2 = index->big2};
    double bound = vector_internal(&space, &s->stretch, s->query->bound);
    /* what rounding may have taken from the distance that is to be beaten; of a cosine, from a number near 1 */
    double slack = 4e-7 * (fabs(bound) + (double)s->query8.norm2 + (double)index->big2 +
                           (index->metric == METRIC_COSINE));
    s->bound = isfinite(s->query->bound) ? (float)(bound + slack) : INFINITY;
}

#define FAR_REACH      0.15f /* reach grows by this power of how far off a query is */
#define FAR_REACH_MOST 1.25f

/* Far off, a list far down the order holds what is looked for nearly as often as one before. */
static void set_reach(struct vector_search *s)
{
    const struct vector_plan *plan = &s->query->plan;
    s->reach = plan->reach;
    s->fall = plan->fall;
    if (plan->mode != VECTOR_BUDGET || !(s->far_times > 1))
        return;
    s->fall /= s->far_times * s->far_times * s->far_times;
    if (s->reach > 0)
        s->reach *= fminf(powf(s->far_times, FAR_REACH), FAR_REACH_MOST);
}

och_code vector_search_begin(const struct vector_query *query, struct arena *arena,
                             struct vector_search **ret, och_error *err)
{
    struct vector_search *s = ARENA_NEW(arena, struct vector_search);
    bool usable = false;
    *ret = NULL;
    if (!s)
        return FAIL_NO_MEMORY(err, "a search");
    *s = (struct vector_search){.query = query,
                                .index = query->index,
                                .stretch = query->stretch,
                                .kernel = kernel_code_get(),
                                .arena = arena};
    if (!(s->stretch.times > 0))
        s->stretch = vector_stretch(&query->index, 1, query->vector);
    uint64_t began = search_now(s);
    TRY(prepare(s, &usable, err));
    if (usable && query->plan.mode != VECTOR_CODES8 && query->index->list)
        TRY(search_coarse(s, err));
    if (began)
        s->found.coarse_ns += search_now(s) - began;
    *ret = usable ? s : NULL;
    return OCH_OK;
}

och_code vector_search(const struct vector_query *query, struct arena *arena,
                       struct vector_found *ret_found, bool *ret_usable, och_error *err)
{
    struct vector_search *s = query->begun;
    assert(query->plan.k && query->plan.keep >= query->plan.k);
    *ret_found = (struct vector_found){0};
    if (!s)
        TRY(vector_search_begin(query, arena, &s, err));
    *ret_usable = s != NULL;
    if (!s)
        return OCH_OK;
    assert(s->index == query->index);
    s->query = query;
    uint64_t began = search_now(s), coarse_ns = s->found.coarse_ns;
    set_bound(s);
    set_reach(s);
    TRY(make_room(s, err));
    if (query->plan.mode == VECTOR_CODES8)
        TRY(search_all_codes8(s, err));
    else if (query->plan.mode == VECTOR_CODES1)
        TRY(search_all_codes1(s, err));
    else
        TRY(search_in_lists(s, err));
    TRY(search_choose(s, err));
    uint64_t *rest = query->plan.mode == VECTOR_CODES8 ? &s->found.score_ns : &s->found.scan_ns;
    if (began)
        *rest += search_now(s) - began - (s->found.coarse_ns - coarse_ns) - s->found.score_ns;
    if (query->carry)
        query->carry->len = s->carry.len;
    *ret_found = s->found;
    return OCH_OK;
}
