/* SPDX-License-Identifier: Apache-2.0 */
/* Nearest neighbours by the parts' vector indexes: what survives becomes a mask once per part, each query vector takes the parts in turn, the
 * largest first, and takes along what it has found.  Distances are computed from the stored vectors, as in a scan. */
#include "query/query_knn.h"

#include <stdlib.h>

#define RECALL_DEFAULT 0.99f
#define RECALL_EXACT   0.9999f
#define MASK_ROWS      (16 * QUERY_CHUNK) /* of a task that evaluates the filter */

static int by_rows(const void *a, const void *b)
{
    const uint64_t *x = a,
                   *y = b; /* rows above, part below: most rows first, then the first part */
    return (*x < *y) - (*x > *y);
}

och_code knn_choose_indexed(struct knn *knn, och_error *err)
{
    struct run *run = knn->run;
    size_t parts = view_part_count(run->view);
    float recall = run->plan->recall > 0 ? run->plan->recall : view_info(run->view)->recall;
    knn->recall = recall > 0 ? recall : RECALL_DEFAULT;
    knn->indexed = ARENA_ARRAY(run->arena, struct indexed_part, parts + 1);
    knn->order = ARENA_ARRAY(run->arena, uint32_t, parts + 1);
    uint64_t *sorted = ARENA_ARRAY(run->arena, uint64_t, parts + 1);
    if (!knn->indexed || !knn->order || !sorted)
        return FAIL_NO_MEMORY(err, "a search");
    for (size_t i = 0; i < parts && knn->recall < RECALL_EXACT; i++) {
        const struct vector_index *index;
        TRY(part_vector_index(view_part(run->view, i), &index, err));
        if (!index || knn->k > index->coded / 10)
            continue;
        knn->indexed[i].index = index;
        sorted[knn->indexed_count++] =
            (uint64_t)index->coded << 32 | (uint32_t)(UINT32_MAX - (uint32_t)i);
    }
    if (knn->indexed_count)
        qsort(sorted, knn->indexed_count, sizeof(*sorted), by_rows);
    for (size_t i = 0; i < knn->indexed_count; i++)
        knn->order[i] = UINT32_MAX - (uint32_t)sorted[i];
    return OCH_OK;
}

/* ---- masks ---- */

static uint64_t count_bits(const uint64_t *words, uint32_t rows)
{
    uint64_t sum = kernel_code_get()->popcount(words, rows / 64);
    if (rows % 64)
        sum += (uint64_t)__builtin_popcountll(words[rows / 64] & ((1ull << rows % 64) - 1));
    return sum;
}

static och_code fill_mask(struct knn *knn, const struct range *range, och_error *err)
{
    struct indexed_part *indexed = &knn->indexed[range->source];
    struct lookup lookup;
    och_code code = OCH_OK;
    lookup_init(&lookup, knn->run);
    for (uint32_t done = 0; code == OCH_OK && done < range->count; done += QUERY_CHUNK) {
        uint32_t first = range->first + done, left = range->count - done,
                 count = left < QUERY_CHUNK ? left : QUERY_CHUNK;
        code = survive_range(&lookup, range->source, first, count, indexed->mask + first / 64, err);
        lookup_done(&lookup);
        lookup_init(&lookup, knn->run);
    }
    lookup_done(&lookup);
    return code;
}

static void mask_task(void *context, size_t i)
{
    struct knn *knn = context;
    och_error failure = {0};
    if (atomic_load_explicit(&knn->failed, memory_order_relaxed))
        return;
    och_code code = fill_mask(knn, &knn->ranges[i], &failure);
    if (code != OCH_OK)
        knn_fail(knn, code, &failure);
}

/* Dead rows, expiry and filter of all parts with an index, in one bit per row. */
static och_code make_masks(struct knn *knn, och_error *err)
{
    struct run *run = knn->run;
    size_t total = 0;
    for (size_t i = 0; i < knn->indexed_count; i++)
        total += part_rows(view_part(run->view, knn->order[i])) / MASK_ROWS + 1;
    knn->ranges = ARENA_ARRAY(run->arena, struct range, total + 1);
    if (!knn->ranges)
        return FAIL_NO_MEMORY(err, "a search");
    knn->range_count = 0;
    for (size_t i = 0; i < knn->indexed_count; i++) {
        uint32_t source = knn->order[i];
        struct part *part = view_part(run->view, source);
        struct indexed_part *indexed = &knn->indexed[source];
        const struct bitset *dead;
        uint32_t rows = part_rows(part);
        TRY(view_dead(run->view, source, &dead, err));
        atomic_store_explicit(&indexed->survivors, indexed->index->coded, memory_order_relaxed);
        if (!run->filter && !dead && !part_has_expiry(part))
            continue;
        indexed->mask = ARENA_ARRAY(run->arena, uint64_t, bitset_words(rows) + 1);
        if (!indexed->mask)
            return FAIL_NO_MEMORY(err, "a search");
        for (uint32_t first = 0; first < rows; first += MASK_ROWS)
            knn->ranges[knn->range_count++] =
                (struct range){source, first, rows - first < MASK_ROWS ? rows - first : MASK_ROWS};
    }
    pool_for(run->query->options.pool, knn->range_count, mask_task, knn);
    TRY(knn_failure(knn, err));
    for (size_t i = 0; i < knn->indexed_count; i++) {
        struct indexed_part *indexed = &knn->indexed[knn->order[i]];
        if (indexed->mask)
            atomic_store_explicit(&indexed->survivors,
                                  count_bits(indexed->mask, indexed->index->coded),
                                  memory_order_relaxed);
        run->survivors += atomic_load_explicit(&indexed->survivors, memory_order_relaxed);
    }
    return OCH_OK;
}

/* ---- one vector in one part ---- */

/* Exactly, those of rows [first, end) that the mask allows. */
static och_code scan_rows(struct worker *w, uint32_t source, uint32_t first, uint32_t end,
                          och_error *err)
{
    struct knn *knn = w->knn;
    const uint64_t *mask = knn->indexed[source].mask;
    struct part *part = view_part(knn->run->view, source);
    struct cache *cache = knn->run->query->options.cache;
    struct window vectors = {0}, norms = {0};
    const uint64_t *present = NULL;
    och_code code = part_vector_presence(part, &w->lookup.reads, &present, err);
    for (uint32_t at = first; code == OCH_OK && at < end;) {
        /* from a multiple of 64 on, so that words are words */
        uint64_t words[QUERY_CHUNK_WORDS];
        uint32_t base = at / 64 * 64, stop = end - base < QUERY_CHUNK ? end : base + QUERY_CHUNK;
        struct range range = {source, base, stop - base};
        for (uint32_t i = 0; i * 64 < range.count; i++) {
            uint32_t row = base + i * 64;
            words[i] = mask ? mask[row / 64] : UINT64_MAX;
            if (present)
                words[i] &= present[row / 64];
            if (row < first)
                words[i] &= UINT64_MAX << (first - row);
            if (end - row < 64)
                words[i] &= (1ull << (end - row)) - 1;
        }
        code = work_check(knn->run->limits, err);
        if (code == OCH_OK)
            code = knn_scan_part(w, &range, words, &vectors, &norms, err);
        at = stop;
    }
    cache_unpin(cache, vectors.extent);
    cache_unpin(cache, norms.extent);
    return code;
}

static och_code rerank(struct worker *w, uint32_t source, const struct vector_found *found,
                       och_error *err)
{
    struct part *part = view_part(w->knn->run->view, source);
    struct cache *cache = w->knn->run->query->options.cache;
    size_t dim = w->knn->run->plan->dimension;
    struct window vectors = {0};
    och_code code = OCH_OK;
    for (size_t i = 0; i < found->count && code == OCH_OK; i++) {
        uint32_t row = found->rows[i].row;
        code = knn_window_move(part, false, row, &vectors, cache, err);
        if (code == OCH_OK)
            code = knn_score_block(w, vectors.at + (size_t)(row - vectors.first) * dim, NULL, 1, 1,
                                   source, row, err);
    }
    cache_unpin(cache, vectors.extent);
    return code;
}

static och_code search_part(struct worker *w, uint32_t source, och_error *err)
{
    struct knn *knn = w->knn;
    struct run *run = knn->run;
    struct part *part = view_part(run->view, source);
    const struct indexed_part *indexed = &knn->indexed[source];
    const struct vector_index *index = indexed->index;
    uint64_t survivors = atomic_load_explicit(&indexed->survivors, memory_order_relaxed);
    struct vector_query query = {
        .vector = run->plan->vectors + (size_t)w->first * run->plan->dimension,
        .mask = indexed->mask,
        .bound = topk_bound(&w->heaps[w->first]),
        .limits = run->limits,
        .plan = vector_plan_make(index, (uint32_t)knn->k, knn->recall, survivors)};
    struct vector_found found = {0};
    bool usable = false;
    if (survivors > 4 * (uint64_t)query.plan.keep)
        TRY(part_vector_search(part, &query, &w->lookup.arena, &found, &usable, err));
    uint32_t exact = usable ? index->coded : 0;
    TRY(scan_rows(w, source, exact, index->coded + index->outside, err));
    TRY(rerank(w, source, &found, err));
    run_count(run, &found);
    return OCH_OK;
}

static void vector_task(void *context, size_t i)
{
    struct knn *knn = context;
    struct worker w = {
        .knn = knn, .heaps = knn->best, .first = (uint32_t)i, .end = (uint32_t)i + 1};
    och_error failure = {0};
    och_code code = OCH_OK;
    for (size_t p = 0; code == OCH_OK && p < knn->indexed_count; p++) {
        if (atomic_load_explicit(&knn->failed, memory_order_relaxed))
            return;
        lookup_init(&w.lookup, knn->run);
        code = search_part(&w, knn->order[p], &failure);
        lookup_done(&w.lookup);
    }
    if (code != OCH_OK)
        knn_fail(knn, code, &failure);
}

och_code knn_search_indexed(struct knn *knn, och_error *err)
{
    TRY(make_masks(knn, err));
    pool_for(knn->run->query->options.pool, knn->run->plan->vector_count, vector_task, knn);
    return knn_failure(knn, err);
}
