/* SPDX-License-Identifier: Apache-2.0 */
/* One query over one part: nearest lists first, 1-bit codes with a lower bound, 8-bit codes of what the bound lets through, and of these the
 * rows whose stored vectors must be looked at.  docs/formats/vector.md has the formulas. */
#include "index/vector/vector_internal.h"

#include <math.h>
#include <stdlib.h>

#define DRAIN_LIST   16 /* candidates waiting at the end of a list */
#define DRAIN_INSIDE 32 /* within one */
#define DRAIN_COLD \
    96 /* both, where each drain may wait for a disk: fewer waits for some more rows */
#define LISTS_AHEAD  32 /* lists read at once when nothing says how many will be visited */
#define ROWS_AHEAD   4096
#define GROUP        16 /* 8-bit rows between two looks at the threshold */
#define AHEAD        2 /* lists between the one being scanned and the one being fetched into the cache */
#define FETCH_ROW    2048 /* bytes of an 8-bit row; what follows, the processor fetches by itself */
#define KEY_BUCKETS  512
#define REACH_EVERY  4   /* lists between two looks at how much passes near the query */
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
    float query_length, norm2; /* rotated; as reported distances know it */
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
    struct ranked_list *order; /* ascending; [order_at, order_len) are still to come */
    uint32_t order_at, order_len;
    uint64_t *visited;
    float error;                /* the largest of a distance */
    float reach;                /* of lists, now */
    uint64_t near, near_passed; /* rows near the query, and those of them that pass */
    struct vector_found found;
};

static uint64_t now(const struct vector_search *s)
{
    return s->query->timed ? sched_mono_ns() : 0;
}

/* What other parts do not know of a distance: with ip each part lifts by its own longest row. */
static float key_shift(const struct vector_search *s)
{
    return s->index->metric == METRIC_IP ? s->index->big2 : 0;
}

/* ---- 8-bit distances ---- */

/* Few are kept in ascending order, so that the k-th is at hand; many as a max-heap. */
static bool is_sorted(const struct vector_carry *carry)
{
    return carry->keep <= CARRY_SORTED;
}

/* The largest; there is one. */
static float carry_top(const struct vector_carry *carry)
{
    return carry->heap[is_sorted(carry) ? carry->len - 1 : 0];
}

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
    if (is_sorted(carry)) {
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

/* Without a carry the bound must do: then it is as tight as what other parts found. */
static float threshold(const struct vector_search *s)
{
    float top = s->carry.len < s->carry.keep ? INFINITY : carry_top(&s->carry) + s->shift;
    return s->query->carry || top < s->bound ? top : s->bound;
}

/* The distance to the k-th: what a list must come below to change the answer. */
static float kth(const struct vector_search *s)
{
    uint32_t k = s->query->plan.k;
    float own = INFINITY, limit = threshold(s);
    if (is_sorted(&s->carry) && s->carry.len >= k)
        own = s->carry.heap[k - 1] + s->shift + s->error;
    return own < limit ? own : limit;
}

och_code vector_carry_init(struct vector_carry *carry, uint32_t keep, struct arena *arena,
                           och_error *err)
{
    *carry = (struct vector_carry){.keep = keep,
                                   .heap = arena_alloc(arena, sizeof(float) * ((size_t)keep + 1))};
    return carry->heap ? OCH_OK : FAIL_NO_MEMORY(err, "a search");
}

void vector_carry_add(struct vector_carry *carry, enum metric metric, float query_norm2,
                      float reported)
{
    struct vector_space space = {.metric = metric}; /* big2 0: the scale that is shared */
    double internal = vector_internal(&space, query_norm2, reported);
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
    drop_beyond(s, threshold(s));
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
    /* three standard errors of rounding both sides, and the sums' own */
    float error = 1.7320508f * (s->query_length * scale + length * s->query8.scale) +
                  4e-7f * (norm2 + s->query8.norm2);
    s->error = error > s->error ? error : s->error;
    s->scored[s->scored_len++] = (struct scored){distance, error, row};
    carry_push(&s->carry, distance - s->shift);
}

static och_code code8_piece(struct vector_search *s, uint32_t row, och_error *err)
{
    struct piece *piece = &s->code8;
    if (LIKELY(piece->base && row - piece->first < piece->units))
        return OCH_OK;
    const struct vector_pages *pages = s->query->pages;
    return pages->at(pages->context, VECTOR_CODE8, row, &piece->base, &piece->first, &piece->units,
                     err);
}

/* Distances of rows of one piece. */
static och_code score_group(struct vector_search *s, uint32_t *at, uint32_t count, och_error *err)
{
    float distances[GROUP];
    if (s->query->allow) {
        for (uint32_t i = 0; i < count; i++)
            at[i] += (uint32_t)s->code8.first;
        s->near += count;
        TRY(s->query->allow(s->query->allow_context, at, &count, err));
        s->near_passed += count;
        for (uint32_t i = 0; i < count; i++)
            at[i] -= (uint32_t)s->code8.first;
    }
    size_t dim = s->index->code_dim;
    s->kernel->distance8(s->code8.base, at, count, &s->query8, dim, distances);
    s->found.rows_scored += count;
    float limit = threshold(s);
    for (uint32_t i = 0; i < count; i++) {
        if (!(distances[i] <= limit))
            continue;
        score(s, s->code8.base + at[i] * code_row_size(dim), (uint32_t)(at[i] + s->code8.first),
              distances[i]);
        limit = threshold(s);
    }
    return OCH_OK;
}

static inline bool is_lower(const struct pending *a, const struct pending *b)
{
    return a->low < b->low || (a->low == b->low && a->row < b->row);
}

/* The `want` smallest bounds come first; of equal ones those of the first rows. */
static void select_low(struct pending *items, uint32_t len, uint32_t want)
{
    uint32_t from = 0, to = len;
    while (to - from > 1) {
        struct pending pivot = items[from + (to - from) / 2];
        uint32_t i = from, j = to - 1;
        for (;;) {
            while (is_lower(&items[i], &pivot))
                i++;
            while (is_lower(&pivot, &items[j]))
                j--;
            if (i >= j)
                break;
            struct pending swap = items[i];
            items[i++] = items[j];
            items[j--] = swap;
        }
        if (want == i)
            return;
        if (want < i)
            to = i;
        else
            from = i;
    }
}

/* Read the 8-bit rows of pending [first, end) at once, without those that are out of the question by now. */
static void fetch_pending(struct vector_search *s, uint32_t first, uint32_t end)
{
    const struct vector_pages *pages = s->query->pages;
    float limit = threshold(s);
    if (!pages->cold)
        return;
    s->code8 = (struct piece){0};
    for (uint32_t i = first; i < end; i++)
        if (s->pending[i].low < limit || s->carry.len < s->carry.keep)
            pages->want(pages->context, VECTOR_CODE8, s->pending[i].row);
    pages->fetch(pages->context);
}

static och_code drain(struct vector_search *s, och_error *err)
{
    uint32_t at[GROUP], count = 0, best = s->pending_len;
    uint64_t since = now(s);
    if (s->carry.len < s->carry.keep && s->pending_len > 2 * s->carry.keep) {
        best = 2 * s->carry.keep;
        select_low(s->pending, s->pending_len, best);
    }
    fetch_pending(s, 0, best);
    float limit = threshold(s);
    for (uint32_t i = 0; i < s->pending_len; i++) {
        const struct pending *item = &s->pending[i];
        if (i == best && s->query->pages->cold) {
            if (count)
                TRY(score_group(s, at, count, err));
            count = 0;
            fetch_pending(s, best, s->pending_len);
            limit = threshold(s);
        }
        if (item->low >= limit && s->carry.len >= s->carry.keep)
            continue;
        bool same = s->code8.base && item->row - s->code8.first < s->code8.units;
        if (count && (!same || count == GROUP)) {
            TRY(score_group(s, at, count, err));
            count = 0;
            limit = threshold(s);
        }
        if (!same)
            TRY(code8_piece(s, item->row, err));
        at[count++] = (uint32_t)(item->row - s->code8.first);
    }
    if (count)
        TRY(score_group(s, at, count, err));
    s->pending_len = 0;
    if (since)
        s->found.score_ns += now(s) - since;
    return OCH_OK;
}

/* ---- lists ---- */

struct list_entry {
    uint32_t row_start, rows, block_start;
    float rms2;
};
static struct list_entry list_entry(const struct vector_index *index, uint32_t list)
{
    const uint8_t *at = index->list + (size_t)list * VECTOR_LIST_SIZE;
    return (struct list_entry){load_u32(at), load_u32(at + 4), load_u32(at + 8), load_f32(at + 12)};
}

/* 32 bits of the mask from any row on. */
static uint32_t mask_of(const struct vector_search *s, uint32_t row)
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

static uint32_t list_survivors(const struct vector_search *s, const struct list_entry *list)
{
    uint32_t sum = 0;
    if (!s->query->mask)
        return list->rows;
    for (uint32_t i = 0; i < list->rows; i += 32) {
        uint32_t bits = mask_of(s, list->row_start + i);
        if (list->rows - i < 32)
            bits &= (1u << (list->rows - i)) - 1;
        sum += (uint32_t)__builtin_popcount(bits);
    }
    return sum;
}

/* A block that will be scanned soon, into the cache: lists lie here and there, and no processor guesses which comes next. */
static void prefetch_block(const struct vector_search *s, uint64_t block, size_t size)
{
    const struct piece *piece = &s->code;
    if (!piece->base || block - piece->first >= piece->units)
        return;
    const uint8_t *at = piece->base + (block - piece->first) * size;
    for (size_t i = 0; i < size; i += 64)
        __builtin_prefetch(at + i);
}

/* The 8-bit row of one that the bound let through: it will be read when enough of them wait. */
static void prefetch_row(const struct vector_search *s, uint32_t row)
{
    const struct piece *piece = &s->code8;
    if (!piece->base || row - piece->first >= piece->units)
        return;
    size_t size = code_row_size(s->index->code_dim);
    const uint8_t *at = piece->base + (row - piece->first) * size;
    for (size_t i = 0; i < size && i < FETCH_ROW; i += 64)
        __builtin_prefetch(at + i);
    __builtin_prefetch(at + size - 1);
}

/* ahead: a list that follows, brought to the cache block by block meanwhile; rows 0: none. */
static och_code scan_list(struct vector_search *s, const struct list_entry *list, float delta,
                          const struct list_entry *ahead, och_error *err)
{
    uint32_t ahead_blocks = (ahead->rows + CODE_BLOCK_ROWS - 1) / CODE_BLOCK_ROWS, fetched = 0;
    size_t dim = s->index->code_dim, block_size = code_block_size(dim);
    const struct vector_pages *pages = s->query->pages;
    const struct vector_plan *plan = &s->query->plan;
    struct code_bound bound = {.scale = s->factors.a,
                               .offset = s->factors.c + plan->epsilon * s->index->kappa *
                                                            sqrtf(delta > 0 ? delta : 0),
                               .delta = delta};
    for (uint32_t at = 0; at < list->rows; at += CODE_BLOCK_ROWS) {
        uint32_t row = list->row_start + at, allowed = mask_of(s, row);
        if (list->rows - at < CODE_BLOCK_ROWS)
            allowed &= (1u << (list->rows - at)) - 1;
        if (!allowed)
            continue;
        uint64_t block = list->block_start + at / CODE_BLOCK_ROWS;
        struct piece *piece = &s->code;
        if (UNLIKELY(!piece->base || block - piece->first >= piece->units))
            TRY(pages->at(pages->context, VECTOR_CODE, block, &piece->base, &piece->first,
                          &piece->units, err));
        float low[CODE_BLOCK_ROWS];
        if (fetched < ahead_blocks)
            prefetch_block(s, ahead->block_start + fetched++, block_size);
        bound.limit = threshold(s);
        uint32_t pass =
            allowed & s->kernel->scan1(piece->base + (block - piece->first) * block_size, s->table,
                                       dim, &bound, low);
        s->found.rows_scanned += CODE_BLOCK_ROWS;
        for (; pass; pass &= pass - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(pass);
            prefetch_row(s, row + i);
            s->pending[s->pending_len++] = (struct pending){low[i], row + i};
        }
        uint32_t most = s->carry.len < s->carry.keep ? 8 * s->carry.keep : s->drain_inside;
        if (s->pending_len >= most)
            TRY(drain(s, err));
        if (UNLIKELY(at % (1u << 20) == 0 && s->query->limits))
            TRY(work_check(s->query->limits, err));
    }
    return s->pending_len >= s->drain_list && s->carry.len + s->pending_len >= s->carry.keep
               ? drain(s, err)
               : OCH_OK;
}

/* ---- the order of lists ---- */

static inline bool comes_before(const struct ranked_list *a, const struct ranked_list *b)
{
    return a->key < b->key || (a->key == b->key && a->list < b->list);
}

/* Where a key lies between the least and the most. */
static inline uint32_t bucket_of(float key, float least, float scale)
{
    float place = (key - least) * scale;
    /* bytes that nobody wrote may make it no number */
    return place >= 0 && place < KEY_BUCKETS ? (uint32_t)place : KEY_BUCKETS - 1;
}

/* Buckets that together hold at least `want` lists; all of them if their keys are alike. */
static uint32_t buckets_for(const uint32_t *counts, uint32_t want)
{
    uint32_t bucket = 0, sum = 0;
    while (bucket < KEY_BUCKETS - 1 && (sum += counts[bucket]) < want)
        bucket++;
    return bucket + 1;
}

/* Insertion: the items lie near their places already. */
static void order_inside(struct ranked_list *items, uint32_t len)
{
    for (uint32_t i = 1; i < len; i++) {
        struct ranked_list item = items[i];
        uint32_t at = i;
        for (; at && comes_before(&item, &items[at - 1]); at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
}

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked_list *x = a, *y = b;
    return comes_before(y, x) - comes_before(x, y);
}

/* All lists not yet visited, or those of the nearest buckets that hold `want`, in ascending order: by buckets of equal width, then within
 * them.  In order and not as a heap: then it is known what to fetch into the cache. */
static void rank_lists(struct vector_search *s, uint32_t want)
{
    uint32_t lists = s->index->lists, counts[KEY_BUCKETS] = {0}, starts[KEY_BUCKETS];
    bool shared = s->query->plan.key != 0 && want < lists;
    float least = s->key_least, scale = KEY_BUCKETS / (s->key_most - least);
    float limit = shared ? s->query->plan.key : INFINITY;
    if (!(scale > 0) || !isfinite(scale))
        scale = 0;
    for (uint32_t j = 0; j < lists; j++)
        counts[bucket_of(s->keys[j], least, scale)]++;
    uint32_t buckets = shared || want >= lists ? KEY_BUCKETS : buckets_for(counts, want), sum = 0;
    for (uint32_t i = 0; i < buckets; i++) {
        starts[i] = sum;
        sum += counts[i];
        counts[i] = 0;
    }
    for (uint32_t j = 0; j < lists; j++) {
        uint32_t bucket = bucket_of(s->keys[j], least, scale);
        if (bucket < buckets && s->keys[j] <= limit && !(s->visited[j / 64] >> j % 64 & 1))
            s->order[starts[bucket] + counts[bucket]++] = (struct ranked_list){s->keys[j], j};
    }
    s->order_at = s->order_len = 0;
    for (uint32_t i = 0; i < buckets; i++) {
        struct ranked_list *items = s->order + starts[i];
        if (counts[i] > 32)
            qsort(items, counts[i], sizeof(*items), compare_ranked);
        else
            order_inside(items, counts[i]);
        memmove(s->order + s->order_len, items, counts[i] * sizeof(*items));
        s->order_len += counts[i];
    }
}

/* Distances and keys of the lists that may be visited: `all`, or those of the nearest cells; keys of the others are no numbers. */
static och_code score_lists(struct vector_search *s, bool all, och_error *err)
{
    const struct vector_index *index = s->index;
    const struct vector_plan *plan = &s->query->plan;
    struct vector_range *ranges;
    uint32_t count;
    all = all || plan->mode != VECTOR_BUDGET;
    TRY(vector_coarse(index, &s->query8, all ? index->lists : plan->lists, s->arena, s->deltas,
                      &ranges, &count, err));
    s->some_lists = count != 1 || ranges[0].to - ranges[0].from < index->lists;
    for (uint32_t j = 0; s->some_lists && j < index->lists; j++)
        s->keys[j] = NAN;
    s->key_least = INFINITY;
    s->key_most = -INFINITY;
    for (uint32_t r = 0; r < count; r++) {
        for (uint32_t j = ranges[r].from; j < ranges[r].to; j++) {
            float rms2 = load_f32(index->list + (size_t)j * VECTOR_LIST_SIZE + 12);
            float key = plan->mode == VECTOR_BUDGET
                            ? s->deltas[j] + index->gamma * rms2
                            : vector_nearest(s->deltas[j], rms2, plan->reach);
            s->keys[j] = key;
            s->key_least = key < s->key_least ? key : s->key_least;
            s->key_most = key > s->key_most ? key : s->key_most;
        }
    }
    return OCH_OK;
}

static och_code coarse(struct vector_search *s, och_error *err)
{
    const struct vector_index *index = s->index;
    uint32_t lists = (uint32_t)round_up(index->lists, CODE_LISTS);
    s->deltas = arena_alloc_aligned(s->arena, 64, 2 * sizeof(float) * lists);
    s->order = arena_alloc(s->arena, sizeof(*s->order) * index->lists);
    s->visited = ARENA_ARRAY(s->arena, uint64_t, (index->lists + 63) / 64);
    if (!s->deltas || !s->order || !s->visited)
        return FAIL_NO_MEMORY(err, "a search");
    s->keys = s->deltas + lists;
    return score_lists(s, false, err);
}

/* Can nothing in the list be nearer than what is known? */
static bool is_out_of_reach(const struct vector_search *s, uint32_t list, float reach)
{
    float limit = kth(s);
    if (s->query->plan.mode == VECTOR_FULL || !isfinite(limit))
        return false;
    return vector_nearest(s->deltas[list], list_entry(s->index, list).rms2, reach) > limit;
}

/* Where few rows near the query pass, the nearest of those that do are many rows away. */
static void adapt_reach(struct vector_search *s)
{
    const struct vector_plan *plan = &s->query->plan;
    if (plan->mode != VECTOR_PROBE || !s->near_passed)
        return;
    float reach = plan->reach - plan->reach_fall * log10f((float)s->near / (float)s->near_passed);
    s->reach = reach > plan->reach_least ? reach : plan->reach_least;
}

static och_code visit_lists(struct vector_search *s, uint32_t budget, och_error *err)
{
    const struct vector_plan *plan = &s->query->plan;
    bool in_order = plan->mode != VECTOR_BUDGET; /* of the widest reach */
    while (s->order_at < s->order_len && budget) {
        struct ranked_list next = s->order[s->order_at++];
        struct list_entry list = list_entry(s->index, next.list);
        if (is_out_of_reach(s, next.list, s->reach)) {
            if (in_order && is_out_of_reach(s, next.list, plan->reach))
                break;
            continue;
        }
        s->visited[next.list / 64] |= 1ull << next.list % 64;
        uint32_t survivors = list_survivors(s, &list);
        if (!s->query->allow) {
            s->near += list.rows;
            s->near_passed += survivors;
        }
        if (!survivors)
            continue;
        budget--;
        s->found.lists_probed++;
        if (s->found.lists_probed % REACH_EVERY == 0)
            adapt_reach(s);
        uint32_t then = s->order_at + AHEAD - 1;
        struct list_entry ahead = {0};
        if (then < s->order_len && budget >= AHEAD)
            ahead = list_entry(s->index, s->order[then].list);
        TRY(scan_list(s, &list, s->deltas[next.list], &ahead, err));
        if (s->query->limits && s->found.lists_probed % 64 == 0)
            TRY(work_check(s->query->limits, err));
    }
    return drain(s, err);
}

/* The 1-bit codes of the lists that will be visited first, at once. */
static void fetch_lists(struct vector_search *s, uint32_t most)
{
    const struct vector_pages *pages = s->query->pages;
    if (!pages->cold)
        return;
    s->code = (struct piece){0};
    for (uint32_t i = 0; i < s->order_len && i < most; i++) {
        struct list_entry list = list_entry(s->index, s->order[i].list);
        if (!list_survivors(s, &list))
            continue;
        for (uint32_t at = 0; at < list.rows; at += CODE_BLOCK_ROWS)
            pages->want(pages->context, VECTOR_CODE, list.block_start + at / CODE_BLOCK_ROWS);
    }
    pages->fetch(pages->context);
}

static och_code search_lists(struct vector_search *s, och_error *err)
{
    const struct vector_plan *plan = &s->query->plan;
    bool limited = plan->mode == VECTOR_BUDGET;
    uint64_t since = now(s);
    rank_lists(s, limited ? plan->lists : s->index->lists);
    if (since)
        s->found.coarse_ns += now(s) - since;
    fetch_lists(s, limited ? plan->lists : LISTS_AHEAD);
    TRY(visit_lists(s, limited ? plan->lists : UINT32_MAX, err));
    /* Too few found: whatever is left, nearest first, until there are enough. */
    if (s->carry.len < plan->k && isinf(s->bound)) {
        if (s->some_lists)
            TRY(score_lists(s, true, err));
        rank_lists(s, s->index->lists);
        while (s->order_at < s->order_len && s->carry.len < plan->k)
            TRY(visit_lists(s, 1, err));
    }
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
        uint32_t bits = mask_of(s, row);
        if (coded - row < 32)
            bits &= (1u << (coded - row)) - 1;
        for (; bits; bits &= bits - 1)
            pages->want(pages->context, VECTOR_CODE8, row + (uint32_t)__builtin_ctz(bits));
    }
    pages->fetch(pages->context);
}

static och_code search_codes8(struct vector_search *s, och_error *err)
{
    const struct vector_index *index = s->index;
    uint32_t at[GROUP], count = 0;
    for (uint32_t row = 0; row < index->coded; row += 32) {
        uint32_t bits = mask_of(s, row);
        if (row % ROWS_AHEAD == 0 && s->query->pages->cold) {
            if (count)
                TRY(score_group(s, at, count, err));
            count = 0;
            fetch_survivors(s, row);
        }
        if (index->coded - row < 32)
            bits &= (1u << (index->coded - row)) - 1;
        for (; bits; bits &= bits - 1) {
            uint32_t own = row + (uint32_t)__builtin_ctz(bits);
            bool same = s->code8.base && own - s->code8.first < s->code8.units;
            if (count && (!same || count == GROUP)) {
                TRY(score_group(s, at, count, err));
                count = 0;
            }
            if (!same)
                TRY(code8_piece(s, own, err));
            at[count++] = (uint32_t)(own - s->code8.first);
        }
        if (row % 65536 == 0 && s->query->limits)
            TRY(work_check(s->query->limits, err));
    }
    if (count)
        TRY(score_group(s, at, count, err));
    return OCH_OK;
}

/* ---- the whole ---- */

static int compare_rows(const void *a, const void *b)
{
    const struct vector_candidate *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

/* What the stored vectors must decide: all that may be nearer than the k-th. */
static och_code choose(struct vector_search *s, och_error *err)
{
    const struct vector_plan *plan = &s->query->plan;
    uint32_t count = 0;
    s->found.rows = ARENA_ARRAY(s->arena, struct vector_candidate, s->scored_len + 1);
    if (!s->found.rows)
        return FAIL_NO_MEMORY(err, "a search");
    drop_beyond(s, threshold(s) + s->error); // most are, and sorting them costs
    qsort(s->scored, s->scored_len, sizeof(*s->scored), compare_scored);
    float limit = s->bound, shift = key_shift(s);
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
    *ret_usable = vector_query_row(&space, s->query->vector, rotated, &s->norm2);
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
        s->shift = key_shift(s);
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
    double bound = vector_internal(&space, s->norm2, s->query->bound);
    /* what rounding may have taken from the distance that is to be beaten */
    double slack = 4e-7 * (fabs(bound) + (double)s->query8.norm2 + (double)index->big2);
    s->bound = isfinite(s->query->bound) ? (float)(bound + slack) : INFINITY;
}

och_code vector_search_begin(const struct vector_query *query, struct arena *arena,
                             struct vector_search **ret, och_error *err)
{
    struct vector_search *s = ARENA_NEW(arena, struct vector_search);
    bool usable = false;
    *ret = NULL;
    if (!s)
        return FAIL_NO_MEMORY(err, "a search");
    *s = (struct vector_search){
        .query = query, .index = query->index, .kernel = kernel_code_get(), .arena = arena};
    uint64_t began = now(s);
    TRY(prepare(s, &usable, err));
    if (usable && query->plan.mode != VECTOR_CODES8)
        TRY(coarse(s, err));
    if (began)
        s->found.coarse_ns += now(s) - began;
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
    uint64_t began = now(s), coarse_ns = s->found.coarse_ns;
    set_bound(s);
    s->reach = query->plan.reach;
    TRY(make_room(s, err));
    if (query->plan.mode == VECTOR_CODES8)
        TRY(search_codes8(s, err));
    else
        TRY(search_lists(s, err));
    TRY(choose(s, err));
    uint64_t *rest = query->plan.mode == VECTOR_CODES8 ? &s->found.score_ns : &s->found.scan_ns;
    if (began)
        *rest += now(s) - began - (s->found.coarse_ns - coarse_ns) - s->found.score_ns;
    if (query->carry)
        query->carry->len = s->carry.len;
    *ret_found = s->found;
    return OCH_OK;
}

/* ---- several parts ---- */

/* The key below which lists hold about so many rows. */
static float key_of_rows(struct vector_query *const *queries, size_t count, double rows)
{
    enum { BUCKETS = 1024 };
    double weights[BUCKETS] = {0};
    float least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        const struct vector_search *s = queries[i]->begun;
        float from = s->key_least - key_shift(s), to = s->key_most - key_shift(s);
        least = from < least ? from : least;
        most = to > most ? to : most;
    }
    float scale = BUCKETS / (most - least);
    if (!(most > least) || !isfinite(scale))
        return INFINITY;
    for (size_t i = 0; i < count; i++) {
        const struct vector_search *s = queries[i]->begun;
        double weight = (double)s->index->coded / s->index->lists;
        for (uint32_t j = 0; j < s->index->lists; j++) {
            float place = (s->keys[j] - key_shift(s) - least) * scale;
            weights[place >= 0 && place < BUCKETS ? (int)place : BUCKETS - 1] += weight;
        }
    }
    double sum = 0;
    int bucket = 0;
    while (bucket < BUCKETS - 1 && sum + weights[bucket] < rows)
        sum += weights[bucket++];
    double share = weights[bucket] > 0 ? (rows - sum) / weights[bucket] : 1;
    return least + (float)(bucket + (share < 1 ? share : 1)) / scale;
}

/* Keys with another γ than this part's own: those of several parts are compared. */
static void use_gamma(struct vector_search *s, float gamma)
{
    const struct vector_index *index = s->index;
    if (index->gamma == gamma)
        return;
    s->key_least = INFINITY;
    s->key_most = -INFINITY;
    for (uint32_t j = 0; j < index->lists; j++) {
        s->keys[j] += (gamma - index->gamma) * list_entry(index, j).rms2;
        s->key_least = s->keys[j] < s->key_least ? s->keys[j] : s->key_least;
        s->key_most = s->keys[j] > s->key_most ? s->keys[j] : s->key_most;
    }
}

void vector_share(struct vector_query *const *queries, size_t count, float recall, float effort)
{
    double all = 0, rows = 0;
    for (size_t i = 0; i < count; i++)
        all += queries[i]->index->coded;
    for (size_t i = 0; i < count; i++) {
        const struct vector_index *index = queries[i]->index;
        double own = vector_budget_share(index, queries[i]->plan.k, index->coded / all, recall);
        rows += (double)effort * own * index->coded / index->lists;
        use_gamma(queries[i]->begun, queries[0]->index->gamma);
    }
    float limit = key_of_rows(queries, count, rows);
    for (size_t i = 0; i < count; i++) {
        const struct vector_search *s = queries[i]->begun;
        queries[i]->plan.lists = s->index->lists - (s->index->lists > 1);
        /* its effort stays */
        queries[i]->plan.reach *=
            vector_reach(s->index, queries[i]->plan.k * (s->index->coded / all), recall) /
            vector_reach(s->index, queries[i]->plan.k, recall);
        queries[i]->plan.key = limit + key_shift(s);
    }
}

static int compare_upper(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void vector_join(struct vector_found *found, size_t count, uint32_t k, struct arena *arena)
{
    size_t all = 0;
    for (size_t i = 0; i < count; i++)
        all += found[i].count;
    float *upper = all > k ? arena_alloc(arena, sizeof(float) * all) : NULL;
    if (!upper) /* all of them will do, too */
        return;
    size_t at = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < found[i].count; j++)
            upper[at++] = found[i].rows[j].distance + found[i].rows[j].error;
    qsort(upper, all, sizeof(*upper), compare_upper);
    float limit = upper[k - 1];
    for (size_t i = 0; i < count; i++) {
        size_t kept = 0;
        for (size_t j = 0; j < found[i].count; j++)
            if (!(found[i].rows[j].distance - found[i].rows[j].error > limit))
                found[i].rows[kept++] = found[i].rows[j];
        found[i].count = kept;
    }
}
