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
#define LISTS_AHEAD 32 /* lists read at once when nothing says how many will be visited */
#define ROWS_AHEAD  4096
#define GROUP       16 /* 8-bit rows between two looks at the threshold */

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

struct search {
    const struct vector_query *query;
    const struct vector_index *index;
    const struct kernel_code *kernel;
    struct arena *arena;
    uint8_t *table;
    struct code_table factors;
    struct code_query8 query8;
    float query_length;
    float bound; /* internal */
    float *heap; /* the `keep` smallest 8-bit distances, largest on top */
    uint32_t heap_len, keep;
    struct pending *pending;
    uint32_t pending_len, pending_room, drain_inside, drain_list;
    struct scored *scored;
    uint32_t scored_len, scored_room;
    struct piece code, code8;
    float *deltas; /* of all lists */
    struct ranked_list *order;
    uint32_t order_len;
    uint64_t *visited;
    struct vector_found found;
};

static float threshold(const struct search *s)
{
    if (s->heap_len < s->keep)
        return s->bound;
    return s->heap[0] < s->bound ? s->heap[0] : s->bound;
}

/* ---- 8-bit distances ---- */

static void heap_push(struct search *s, float distance)
{
    float *heap = s->heap;
    uint32_t at;
    if (s->heap_len < s->keep) {
        at = s->heap_len++;
        while (at && heap[(at - 1) / 2] < distance) {
            heap[at] = heap[(at - 1) / 2];
            at = (at - 1) / 2;
        }
    } else {
        if (distance >= heap[0])
            return;
        at = 0;
        for (uint32_t child; (child = 2 * at + 1) < s->keep; at = child) {
            if (child + 1 < s->keep && heap[child + 1] > heap[child])
                child++;
            if (heap[child] <= distance)
                break;
            heap[at] = heap[child];
        }
    }
    heap[at] = distance;
}

static int compare_scored(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    int order = (x->distance > y->distance) - (x->distance < y->distance);
    return order ? order : (x->row > y->row) - (x->row < y->row);
}

/* Room again: without those that cannot be among the best any more. */
static void thin_out(struct search *s)
{
    float limit = threshold(s);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->scored_len; i++)
        if (s->scored[i].distance - s->scored[i].error <= limit)
            s->scored[kept++] = s->scored[i];
    s->scored_len = kept;
    if (kept <= s->scored_room / 2)
        return;
    qsort(s->scored, kept, sizeof(*s->scored), compare_scored);
    s->scored_len = s->scored_room / 2;
}

static void score(struct search *s, const uint8_t *row8, uint32_t row, float distance)
{
    size_t dim = s->index->code_dim;
    if (s->scored_len == s->scored_room)
        thin_out(s);
    float norm2 = code_row_norm2(row8, dim), scale = code_row_scale(row8, dim);
    float length = norm2 > 0 ? sqrtf(norm2) : 0;
    /* three standard errors of rounding both sides, and the sums' own */
    float error = 1.7320508f * (s->query_length * scale + length * s->query8.scale) +
                  4e-7f * (norm2 + s->query8.norm2);
    s->scored[s->scored_len++] = (struct scored){distance, error, row};
    heap_push(s, distance);
}

static och_code code8_piece(struct search *s, uint32_t row, och_error *err)
{
    struct piece *piece = &s->code8;
    if (LIKELY(piece->base && row - piece->first < piece->units))
        return OCH_OK;
    const struct vector_pages *pages = s->query->pages;
    return pages->at(pages->context, VECTOR_CODE8, row, &piece->base, &piece->first, &piece->units,
                     err);
}

/* Distances of rows of one piece. */
static och_code score_group(struct search *s, uint32_t *at, uint32_t count, och_error *err)
{
    float distances[GROUP];
    if (s->query->allow) {
        for (uint32_t i = 0; i < count; i++)
            at[i] += (uint32_t)s->code8.first;
        TRY(s->query->allow(s->query->allow_context, at, &count, err));
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

static uint64_t now(const struct search *s)
{
    return s->query->timed ? sched_mono_ns() : 0;
}

/* Read the 8-bit rows of pending [first, end) at once, without those that are out of the question by now. */
static void fetch_pending(struct search *s, uint32_t first, uint32_t end)
{
    const struct vector_pages *pages = s->query->pages;
    float limit = threshold(s);
    if (!pages->cold)
        return;
    s->code8 = (struct piece){0};
    for (uint32_t i = first; i < end; i++)
        if (s->pending[i].low < limit || s->heap_len < s->keep)
            pages->want(pages->context, VECTOR_CODE8, s->pending[i].row);
    pages->fetch(pages->context);
}

static och_code drain(struct search *s, och_error *err)
{
    uint32_t at[GROUP], count = 0, best = s->pending_len;
    uint64_t since = now(s);
    if (s->heap_len < s->keep && s->pending_len > 2 * s->keep) {
        best = 2 * s->keep;
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
        if (item->low >= limit && s->heap_len >= s->keep)
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
static uint32_t mask_of(const struct search *s, uint32_t row)
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

static bool list_has_survivors(const struct search *s, const struct list_entry *list)
{
    if (!s->query->mask)
        return true;
    for (uint32_t i = 0; i < list->rows; i += 32) {
        uint32_t bits = mask_of(s, list->row_start + i);
        if (list->rows - i < 32)
            bits &= (1u << (list->rows - i)) - 1;
        if (bits)
            return true;
    }
    return false;
}

static och_code scan_list(struct search *s, const struct list_entry *list, float delta,
                          och_error *err)
{
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
        bound.limit = threshold(s);
        uint32_t pass =
            allowed & s->kernel->scan1(piece->base + (block - piece->first) * block_size, s->table,
                                       dim, &bound, low);
        s->found.rows_scanned += CODE_BLOCK_ROWS;
        for (; pass; pass &= pass - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(pass);
            s->pending[s->pending_len++] = (struct pending){low[i], row + i};
        }
        uint32_t most = s->heap_len < s->keep ? 8 * s->keep : s->drain_inside;
        if (s->pending_len >= most)
            TRY(drain(s, err));
        if (UNLIKELY(at % (1u << 20) == 0 && s->query->limits))
            TRY(work_check(s->query->limits, err));
    }
    return s->pending_len >= s->drain_list && s->heap_len + s->pending_len >= s->keep
               ? drain(s, err)
               : OCH_OK;
}

/* ---- the order of lists ---- */

static void sift(struct ranked_list *order, uint32_t len, uint32_t at)
{
    struct ranked_list item = order[at];
    for (uint32_t child; (child = 2 * at + 1) < len; at = child) {
        if (child + 1 < len && (order[child + 1].key < order[child].key ||
                                (order[child + 1].key == order[child].key &&
                                 order[child + 1].list < order[child].list)))
            child++;
        if (order[child].key > item.key ||
            (order[child].key == item.key && order[child].list > item.list))
            break;
        order[at] = order[child];
    }
    order[at] = item;
}

static struct ranked_list pop(struct search *s)
{
    struct ranked_list first = s->order[0];
    s->order[0] = s->order[--s->order_len];
    if (s->order_len)
        sift(s->order, s->order_len, 0);
    return first;
}

/* A key that at least `want` lists do not exceed, by a histogram. */
static float key_of_rank(const float *keys, uint32_t lists, uint32_t want)
{
    enum { BUCKETS = 256 };
    uint32_t counts[BUCKETS] = {0}, sum = 0;
    float least = INFINITY, most = -INFINITY;
    for (uint32_t j = 0; j < lists; j++) {
        least = keys[j] < least ? keys[j] : least;
        most = keys[j] > most ? keys[j] : most;
    }
    float width = (most - least) / BUCKETS;
    if (want >= lists || !(width > 0) || !isfinite(width))
        return INFINITY;
    for (uint32_t j = 0; j < lists; j++) {
        float place = (keys[j] - least) / width; /* bytes that nobody wrote may make it no number */
        counts[place >= 0 && place < BUCKETS ? (int)place : BUCKETS - 1]++;
    }
    int bucket = 0;
    while (bucket < BUCKETS - 1 && (sum += counts[bucket]) < want)
        bucket++;
    if (bucket >= BUCKETS - 2)
        return INFINITY;
    return least + width * (float)(bucket + 1) * 1.000001f;
}

/* All lists not yet visited, or the nearest `want`, as a heap. */
static void rank_lists(struct search *s, uint32_t want)
{
    const struct vector_index *index = s->index;
    const struct vector_plan *plan = &s->query->plan;
    float *keys = s->deltas + round_up(index->lists, CODE_LISTS);
    for (uint32_t j = 0; j < index->lists; j++) {
        float rms2 = list_entry(index, j).rms2;
        keys[j] = plan->mode == VECTOR_BUDGET ? s->deltas[j] + index->gamma * rms2
                                              : vector_nearest(s->deltas[j], rms2, plan->reach);
    }
    float limit = key_of_rank(keys, index->lists, want);
    s->order_len = 0;
    for (uint32_t j = 0; j < index->lists; j++)
        if (keys[j] <= limit && !(s->visited[j / 64] >> j % 64 & 1))
            s->order[s->order_len++] = (struct ranked_list){keys[j], j};
    for (uint32_t at = s->order_len / 2; at-- > 0;)
        sift(s->order, s->order_len, at);
}

static och_code coarse(struct search *s, och_error *err)
{
    const struct vector_index *index = s->index;
    uint32_t lists = (uint32_t)round_up(index->lists, CODE_LISTS);
    s->deltas = arena_alloc_aligned(s->arena, 64, 2 * sizeof(float) * lists);
    s->order = arena_alloc(s->arena, sizeof(*s->order) * index->lists);
    s->visited = ARENA_ARRAY(s->arena, uint64_t, (index->lists + 63) / 64);
    if (!s->deltas || !s->order || !s->visited)
        return FAIL_NO_MEMORY(err, "a search");
    s->kernel->coarse16(index->centq, lists / CODE_LISTS, &s->query8, index->code_dim, s->deltas);
    return OCH_OK;
}

/* Can nothing in the list be nearer than what is known? */
static bool is_out_of_reach(const struct search *s, uint32_t list)
{
    float limit = threshold(s);
    if (s->query->plan.mode == VECTOR_FULL || !isfinite(limit))
        return false;
    return vector_nearest(s->deltas[list], list_entry(s->index, list).rms2, s->query->plan.reach) >
           limit;
}

static och_code visit_lists(struct search *s, uint32_t budget, och_error *err)
{
    bool in_order = s->query->plan.mode != VECTOR_BUDGET; /* of reach */
    while (s->order_len && budget) {
        struct ranked_list next = pop(s);
        struct list_entry list = list_entry(s->index, next.list);
        if (is_out_of_reach(s, next.list)) {
            if (in_order)
                break;
            continue;
        }
        s->visited[next.list / 64] |= 1ull << next.list % 64;
        if (!list_has_survivors(s, &list))
            continue;
        budget--;
        s->found.lists_probed++;
        TRY(scan_list(s, &list, s->deltas[next.list], err));
        if (s->query->limits && s->found.lists_probed % 64 == 0)
            TRY(work_check(s->query->limits, err));
    }
    return drain(s, err);
}

/* The 1-bit codes of the lists that will be visited first, at once. */
static void fetch_lists(struct search *s, uint32_t most)
{
    const struct vector_pages *pages = s->query->pages;
    if (!pages->cold)
        return;
    s->code = (struct piece){0};
    for (uint32_t i = 0; i < s->order_len && i < most; i++) {
        struct list_entry list = list_entry(s->index, s->order[i].list);
        if (!list_has_survivors(s, &list))
            continue;
        for (uint32_t at = 0; at < list.rows; at += CODE_BLOCK_ROWS)
            pages->want(pages->context, VECTOR_CODE, list.block_start + at / CODE_BLOCK_ROWS);
    }
    pages->fetch(pages->context);
}

static och_code search_lists(struct search *s, och_error *err)
{
    const struct vector_plan *plan = &s->query->plan;
    bool limited = plan->mode == VECTOR_BUDGET;
    uint64_t since = now(s);
    TRY(coarse(s, err));
    rank_lists(s, limited ? plan->lists : s->index->lists);
    if (since)
        s->found.coarse_ns += now(s) - since;
    // of a heap: the first are near, if not the nearest
    fetch_lists(s, limited ? plan->lists : LISTS_AHEAD);
    TRY(visit_lists(s, limited ? plan->lists : UINT32_MAX, err));
    /* Too few found: whatever is left, nearest first, until there are enough. */
    if (s->heap_len < plan->k && isinf(s->bound)) {
        rank_lists(s, s->index->lists);
        while (s->order_len && s->heap_len < plan->k)
            TRY(visit_lists(s, 1, err));
    }
    return OCH_OK;
}

/* ---- without lists ---- */

/* The 8-bit rows of survivors among the next ROWS_AHEAD, at once. */
static void fetch_survivors(struct search *s, uint32_t first)
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

static och_code search_codes8(struct search *s, och_error *err)
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
static och_code choose(struct search *s, och_error *err)
{
    const struct vector_plan *plan = &s->query->plan;
    uint32_t count = 0;
    s->found.rows = ARENA_ARRAY(s->arena, struct vector_candidate, s->scored_len + 1);
    if (!s->found.rows)
        return FAIL_NO_MEMORY(err, "a search");
    qsort(s->scored, s->scored_len, sizeof(*s->scored), compare_scored);
    float limit = s->bound;
    if (s->scored_len >= plan->k) {
        const struct scored *last = &s->scored[plan->k - 1];
        limit = last->distance + last->error < limit ? last->distance + last->error : limit;
    }
    for (uint32_t i = 0; i < s->scored_len && count < plan->rerank_max; i++)
        if (s->scored[i].distance - s->scored[i].error <= limit)
            s->found.rows[count++] =
                (struct vector_candidate){s->scored[i].row, s->scored[i].distance};
    qsort(s->found.rows, count, sizeof(*s->found.rows), compare_rows);
    s->found.count = count;
    return OCH_OK;
}

static och_code prepare(struct search *s, bool *ret_usable, och_error *err)
{
    const struct vector_index *index = s->index;
    const struct vector_query *query = s->query;
    size_t dim = index->code_dim;
    struct vector_space space = {.metric = index->metric,
                                 .dim = index->dimension,
                                 .wide = index->wide,
                                 .code_dim = index->code_dim,
                                 .seed = index->seed,
                                 .big2 = index->big2,
                                 .mean = index->mean};
    float *rotated = arena_alloc_aligned(s->arena, 64, dim * sizeof(float)), norm2;
    int8_t *q8 = arena_alloc_aligned(s->arena, 64, dim);
    s->table = arena_alloc_aligned(s->arena, 64, code_table_size(dim));
    s->keep = query->plan.keep < index->coded ? query->plan.keep : index->coded;
    s->heap = arena_alloc(s->arena, sizeof(float) * ((size_t)s->keep + 1));
    s->drain_inside = query->pages->cold ? DRAIN_COLD : DRAIN_INSIDE;
    s->drain_list = query->pages->cold ? DRAIN_COLD : DRAIN_LIST;
    s->pending_room = 8 * s->keep + s->drain_inside + s->drain_list + 2 * CODE_BLOCK_ROWS;
    s->pending = arena_alloc(s->arena, sizeof(*s->pending) * s->pending_room);
    s->scored_room = 2 * query->plan.rerank_max + 2 * s->keep;
    s->scored = arena_alloc(s->arena, sizeof(*s->scored) * s->scored_room);
    if (!rotated || !q8 || !s->table || !s->heap || !s->pending || !s->scored)
        return FAIL_NO_MEMORY(err, "a search");
    *ret_usable = vector_query_row(&space, query->vector, rotated, &norm2);
    if (!*ret_usable)
        return OCH_OK;
    s->kernel->rotate_f32(rotated, dim, index->seed);
    s->kernel->quant8_query(rotated, dim, q8, &s->query8);
    s->factors = s->kernel->table_u8(rotated, dim, s->table);
    s->query_length = sqrtf(s->query8.norm2);
    *ret_usable = s->query8.norm2 < VECTOR_NORM2_MAX;
    double bound = vector_internal(&space, norm2, query->bound);
    /* what rounding may have taken from the distance that is to be beaten */
    double slack = 4e-7 * (fabs(bound) + (double)s->query8.norm2 + (double)index->big2);
    s->bound = isfinite(query->bound) ? (float)(bound + slack) : INFINITY;
    return OCH_OK;
}

och_code vector_search(const struct vector_query *query, struct arena *arena,
                       struct vector_found *ret_found, bool *ret_usable, och_error *err)
{
    struct search s = {
        .query = query, .index = query->index, .kernel = kernel_code_get(), .arena = arena};
    assert(query->plan.k && query->plan.keep >= query->plan.k);
    uint64_t began = now(&s), middle;
    TRY(prepare(&s, ret_usable, err));
    if (!*ret_usable) {
        *ret_found = (struct vector_found){0};
        return OCH_OK;
    }
    middle = now(&s);
    s.found.coarse_ns += middle - began;
    if (query->plan.mode == VECTOR_CODES8)
        TRY(search_codes8(&s, err));
    else
        TRY(search_lists(&s, err));
    TRY(choose(&s, err));
    if (query->plan.mode == VECTOR_CODES8)
        s.found.score_ns += now(&s) - middle;
    else
        s.found.scan_ns = now(&s) - began - s.found.coarse_ns - s.found.score_ns;
    *ret_found = s.found;
    return OCH_OK;
}
