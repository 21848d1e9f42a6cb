/* SPDX-License-Identifier: Apache-2.0 */
/* The 8-bit side of a search: distances of what the bound let through, the threshold that they make, and what of them must be looked at. */
#include "index/vector/vector_search_internal.h"

#include <stdlib.h>

#define ROWS_AHEAD 4096
#define FETCH_ROW  2048 /* bytes of an 8-bit row; what follows, the processor fetches by itself */

static void push_sorted(struct vector_carry *carry, float distance)
{
    float *items = carry->heap;
    if (carry->len == carry->keep && !(distance < items[carry->len - 1]))
        return;
    uint32_t at = carry->len < carry->keep ? carry->len++ : carry->keep - 1;
    for (; at && items[at - 1] > distance; at--)
        items[at] = items[at - 1];
    items[at] = distance;
}

static void carry_push(struct vector_carry *carry, float distance)
{
    float *heap = carry->heap;
    uint32_t at;
    if (carry_is_sorted(carry)) {
        push_sorted(carry, distance);
        return;
    }
    if (carry->len < carry->keep) {
        at = carry->len++;
        while (at && heap[(at - 1) / 2] < distance) {
            heap[at] = heap[(at - 1) / 2];
            at = (at - 1) / 2;
        }
    } else {
        if (distance >= heap[0])
            return;
        at = 0;
        for (uint32_t child; (child = 2 * at + 1) < carry->keep; at = child) {
            if (child + 1 < carry->keep && heap[child + 1] > heap[child])
                child++;
            if (heap[child] <= distance)
                break;
            heap[at] = heap[child];
        }
    }
    heap[at] = distance;
}

och_code vector_carry_init(struct vector_carry *carry, uint32_t keep, struct arena *arena,
                           och_error *err)
{
    *carry = (struct vector_carry){.keep = keep,
                                   .heap = arena_alloc(arena, sizeof(float) * ((size_t)keep + 1))};
    return carry->heap ? OCH_OK : FAIL_NO_MEMORY(err, "a search");
}

void vector_carry_add(struct vector_carry *carry, enum metric metric,
                      const struct vector_stretch *stretch, float reported)
{
    struct vector_space space = {.metric = metric}; /* big2 0: the scale that is shared */
    double internal = vector_internal(&space, stretch, reported);
    if (isfinite(internal))
        carry_push(carry, (float)internal);
}

static int compare_scored(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    int order = (x->distance > y->distance) - (x->distance < y->distance);
    return order ? order : (x->row > y->row) - (x->row < y->row);
}

static void drop_beyond(struct vector_search *s, float limit)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->scored_len; i++)
        if (s->scored[i].distance - s->scored[i].error <= limit)
            s->scored[kept++] = s->scored[i];
    s->scored_len = kept;
}

/* Room again: without those that cannot be among the best any more. */
static void thin_out(struct vector_search *s)
{
    drop_beyond(s, search_threshold(s));
    if (s->scored_len <= s->scored_room / 2)
        return;
    qsort(s->scored, s->scored_len, sizeof(*s->scored), compare_scored);
    s->scored_len = s->scored_room / 2;
}

static void score(struct vector_search *s, const uint8_t *row8, uint32_t row, float distance)
{
    size_t dim = s->index->code_dim;
    if (s->scored_len == s->scored_room)
        thin_out(s);
    float norm2 = code_row_norm2(row8, dim), scale = code_row_scale(row8, dim);
    float length = norm2 > 0 ? sqrtf(norm2) : 0;
    /* three standard errors of rounding both sides, the sums' own, and that of taking the shift off and adding it again */
    float error = 1.7320508f * (s->query_length * scale + length * s->query8.scale) +
                  4e-7f * (norm2 + s->query8.norm2 + s->shift);
    s->error = error > s->error ? error : s->error;
    s->scored[s->scored_len++] = (struct scored){distance, error, row};
    carry_push(&s->carry, distance - s->shift);
}

void search_prefetch_row(const struct vector_search *s, uint32_t row)
{
    size_t size = code_row_size(s->index->code_dim);
    const uint8_t *at = search_row8(s, row);
    if (!at)
        return;
    for (size_t i = 0; i < size && i < FETCH_ROW; i += 64)
        __builtin_prefetch(at + i, 0, 2);
    __builtin_prefetch(at + size - 1, 0, 2);
}

/* Those of a group that the filter lets through. */
static och_code ask_filter(struct vector_search *s, struct search_group *group, och_error *err)
{
    uint32_t kept[SEARCH_GROUP], count = group->count;
    memcpy(kept, group->rows, sizeof(*kept) * count);
    s->near += count;
    TRY(s->query->allow(s->query->allow_context, kept, &count, err));
    s->near_passed += count;
    for (uint32_t i = 0, from = 0; i < count && from < group->count; from++) {
        if (group->rows[from] != kept[i])
            continue;
        group->rows[i] = kept[i];
        group->at[i++] = group->at[from];
    }
    group->count = count;
    return OCH_OK;
}

static och_code score_group(struct vector_search *s, struct search_group *group, och_error *err)
{
    float distances[SEARCH_GROUP];
    if (!group->count)
        return OCH_OK;
    if (s->query->allow)
        TRY(ask_filter(s, group, err));
    s->kernel->distance8_of(group->at, group->count, &s->query8, s->index->code_dim, distances);
    s->found.rows_scored += group->count;
    float limit = search_threshold(s);
    for (uint32_t i = 0; i < group->count; i++) {
        if (!(distances[i] <= limit))
            continue;
        score(s, group->at[i], group->rows[i], distances[i]);
        limit = search_threshold(s);
    }
    group->count = 0;
    return OCH_OK;
}

/* One more of a group, which is scored before when it is full, or when reading this one may move what it holds. */
static och_code add_to_group(struct vector_search *s, struct search_group *group, uint32_t row,
                             och_error *err)
{
    const struct vector_pages *pages = s->query->pages;
    struct piece *piece = &s->code8;
    const uint8_t *at = search_row8(s, row);
    if (UNLIKELY(!at) || group->count == SEARCH_GROUP)
        TRY(score_group(s, group, err));
    if (UNLIKELY(!at)) {
        TRY(pages->at(pages->context, VECTOR_CODE8, row, &piece->base, &piece->first, &piece->units,
                      err));
        at = piece->base + (row - piece->first) * code_row_size(s->index->code_dim);
    }
    group->rows[group->count] = row;
    group->at[group->count++] = at;
    return OCH_OK;
}

/* A bound and its row as one number: compared without branches, which nobody could foretell. */
static_assert(sizeof(struct pending) == sizeof(uint64_t), "one takes the other's place");
static inline uint64_t rank_of(struct pending item)
{
    uint32_t bits;
    memcpy(&bits, &item.low, sizeof bits);
    bits ^= bits >> 31 ? UINT32_MAX : 0x80000000u;
    return (uint64_t)bits << 32 | item.row;
}

static inline struct pending of_rank(uint64_t rank)
{
    struct pending item = {.row = (uint32_t)rank};
    uint32_t bits = (uint32_t)(rank >> 32);
    bits ^= bits >> 31 ? 0x80000000u : UINT32_MAX;
    memcpy(&item.low, &bits, sizeof bits);
    return item;
}

static inline uint64_t load_rank(const struct pending *at)
{
    uint64_t rank;
    memcpy(&rank, at, sizeof rank);
    return rank;
}

static inline void store_rank(struct pending *at, uint64_t rank)
{
    memcpy(at, &rank, sizeof rank);
}

/* The middle one of three, of two the larger: ranks differ, so something is smaller. */
static uint64_t pivot_of(const struct pending *items, uint32_t from, uint32_t to)
{
    uint64_t a = load_rank(items + from), b = load_rank(items + from + (to - from) / 2),
             c = load_rank(items + to - 1);
    uint64_t low = a < b ? a : b, high = a < b ? b : a;
    return to - from == 2 || c > high ? high : c < low ? low : c;
}

/* The `want` smallest bounds come first; of equal ones those of the first rows. */
static void select_low(struct pending *items, uint32_t len, uint32_t want)
{
    uint32_t from = 0, to = len;
    for (uint32_t i = 0; i < len; i++)
        store_rank(items + i, rank_of(items[i]));
    for (bool moves = true; moves && to - from > 1 && want > from && want < to;) {
        uint64_t pivot = pivot_of(items, from, to);
        uint32_t middle = from;
        for (uint32_t i = from; i < to; i++) {
            uint64_t rank = load_rank(items + i);
            store_rank(items + i, load_rank(items + middle));
            store_rank(items + middle, rank);
            middle += rank < pivot;
        }
        moves = middle > from;
        if (want < middle)
            to = middle;
        else
            from = middle;
    }
    for (uint32_t i = 0; i < len; i++)
        items[i] = of_rank(load_rank(items + i));
}

/* Read the 8-bit rows of pending [first, end) at once, without those that are out of the question by now. */
static void fetch_pending(struct vector_search *s, uint32_t first, uint32_t end)
{
    const struct vector_pages *pages = s->query->pages;
    float limit = search_threshold(s);
    if (!pages->cold)
        return;
    s->code8 = (struct piece){0};
    for (uint32_t i = first; i < end; i++)
        if (s->pending[i].low < limit || s->carry.len < s->carry.keep)
            pages->want(pages->context, VECTOR_CODE8, s->pending[i].row);
    pages->fetch(pages->context);
}

och_code search_drain(struct vector_search *s, och_error *err)
{
    struct search_group group;
    uint32_t best = s->pending_len;
    uint64_t since = search_now(s);
    group.count = 0; /* the rest is filled as it grows: drains are many */
    if (s->carry.len < s->carry.keep && s->pending_len > 2 * s->carry.keep) {
        best = 2 * s->carry.keep;
        select_low(s->pending, s->pending_len, best);
    }
    fetch_pending(s, 0, best);
    float limit = search_threshold(s);
    for (uint32_t i = 0; i < s->pending_len; i++) {
        const struct pending *item = &s->pending[i];
        if (i == best && s->query->pages->cold) {
            TRY(score_group(s, &group, err));
            fetch_pending(s, best, s->pending_len);
            limit = search_threshold(s);
        }
        if (item->low >= limit && s->carry.len >= s->carry.keep)
            continue;
        TRY(add_to_group(s, &group, item->row, err));
        if (group.count == 1) /* those before are scored */
            limit = search_threshold(s);
    }
    TRY(score_group(s, &group, err));
    s->pending_len = 0;
    if (since)
        s->found.score_ns += search_now(s) - since;
    return OCH_OK;
}

/* ---- without lists ---- */

/* The 8-bit rows of survivors among the next ROWS_AHEAD, at once. */
static void fetch_survivors(struct vector_search *s, uint32_t first)
{
    const struct vector_pages *pages = s->query->pages;
    uint32_t coded = s->index->coded;
    s->code8 = (struct piece){0};
    for (uint32_t row = first; row < coded && row - first < ROWS_AHEAD; row += 32) {
        uint32_t bits = search_mask(s, row);
        if (coded - row < 32)
            bits &= (1u << (coded - row)) - 1;
        for (; bits; bits &= bits - 1)
            pages->want(pages->context, VECTOR_CODE8, row + (uint32_t)__builtin_ctz(bits));
    }
    pages->fetch(pages->context);
}

och_code search_all_codes8(struct vector_search *s, och_error *err)
{
    const struct vector_index *index = s->index;
    struct search_group group;
    group.count = 0;
    for (uint32_t row = 0; row < index->coded; row += 32) {
        uint32_t bits = search_mask(s, row);
        if (row % ROWS_AHEAD == 0 && s->query->pages->cold) {
            TRY(score_group(s, &group, err));
            fetch_survivors(s, row);
        }
        if (index->coded - row < 32)
            bits &= (1u << (index->coded - row)) - 1;
        for (; bits; bits &= bits - 1) {
            uint32_t own = row + (uint32_t)__builtin_ctz(bits);
            search_prefetch_row(s, own);
            TRY(add_to_group(s, &group, own, err));
        }
        if (row % 65536 == 0 && s->query->limits)
            TRY(work_check(s->query->limits, err));
    }
    return score_group(s, &group, err);
}

/* ---- what remains ---- */

static int compare_rows(const void *a, const void *b)
{
    const struct vector_candidate *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

/* What the stored vectors must decide: all that may be nearer than the k-th. */
och_code search_choose(struct vector_search *s, och_error *err)
{
    const struct vector_plan *plan = &s->query->plan;
    uint32_t count = 0;
    s->found.rows = ARENA_ARRAY(s->arena, struct vector_candidate, s->scored_len + 1);
    if (!s->found.rows)
        return FAIL_NO_MEMORY(err, "a search");
    drop_beyond(s, search_threshold(s) + s->error); // most are, and sorting them costs
    qsort(s->scored, s->scored_len, sizeof(*s->scored), compare_scored);
    float limit = s->bound, shift = search_key_shift(s);
    if (s->scored_len >= plan->k) {
        const struct scored *last = &s->scored[plan->k - 1];
        limit = last->distance + last->error < limit ? last->distance + last->error : limit;
    }
    for (uint32_t i = 0; i < s->scored_len && count < plan->rerank_max; i++)
        if (s->scored[i].distance - s->scored[i].error <= limit)
            s->found.rows[count++] = (struct vector_candidate){
                s->scored[i].row, s->scored[i].distance - shift, s->scored[i].error};
    qsort(s->found.rows, count, sizeof(*s->found.rows), compare_rows);
    s->found.count = count;
    return OCH_OK;
}
