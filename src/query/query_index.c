/* SPDX-License-Identifier: Apache-2.0 */
/* Nearest neighbours by the parts' vector indexes: what survives becomes a mask once per part, each query vector takes the parts in turn, the
 * oldest first, so that of equal rows the first ones are found, and takes along what it has found.  Distances are computed from the stored
 * vectors, as in a scan. */
#include "query/query_knn.h"

#include "query/query_answer.h"
#include "query/query_correct.h"

#include <math.h>

#define SAMPLE_ROWS  256
#define SAMPLE_LEAST 4
#define LAZY_VECTORS 4                  /* more of them share the cost of a mask */
#define LAZY_ROWS    4096               /* fewer are asked at once */
#define LAZY_SHARE   8                  /* one in so many rows may be asked */
#define KEEP_READS   512                /* rows asked before their blocks are given back */
#define RERANK_BATCH 128                /* candidates whose vectors are read together */
#define MASK_ROWS    (16 * QUERY_CHUNK) /* of a task that evaluates the filter */

och_code knn_choose_indexed(struct knn *knn, och_error *err)
{
    struct run *run = knn->run;
    size_t parts = view_part_count(run->view);
    float recall = run->plan->recall > 0 ? run->plan->recall : view_info(run->view)->recall;
    knn->recall = recall > 0 ? recall : RECALL_DEFAULT;
    knn->indexed = ARENA_ARRAY(run->arena, struct indexed_part, parts + 1);
    knn->order = ARENA_ARRAY(run->arena, uint32_t, parts + 1);
    if (!knn->indexed || !knn->order)
        return FAIL_NO_MEMORY(err, "a search");
    const struct vector_index *newest = NULL;
    run->recall = knn->recall;
    for (size_t i = 0; i < parts && knn->recall < RECALL_EXACT; i++) {
        const struct vector_index *index;
        TRY(part_vector_index(view_part(run->view, i), &index, err));
        if (!index || knn->k > index->coded / 10)
            continue;
        newest = index;
        knn->indexed[i].index = index;
        knn->order[knn->indexed_count++] = (uint32_t)i;
    }
    knn_choose_tail(knn, newest);
    if (knn->tail.index.coded)
        knn->order[knn->indexed_count++] = (uint32_t)parts;
    return OCH_OK;
}

/* Rows of a source that lies in knn->order. */
static uint32_t source_rows(const struct knn *knn, uint32_t source)
{
    const struct view *view = knn->run->view;
    return source == view_part_count(view) ? knn->tail.index.coded
                                           : part_rows(view_part(view, source));
}

/* ---- masks ---- */

static uint64_t count_bits(const uint64_t *words, uint32_t rows)
{
    uint64_t sum = kernel_code_get()->popcount(words, rows / 64);
    if (rows % 64)
        sum += (uint64_t)__builtin_popcountll(words[rows / 64] & ((1ull << rows % 64) - 1));
    return sum;
}

static och_code fill_mask(struct knn *knn, const struct range *range, uint64_t *mask,
                          och_error *err)
{
    struct lookup lookup;
    och_code code = OCH_OK;
    uint64_t since = run_now(knn->run);
    lookup_init(&lookup, knn->run);
    for (uint32_t done = 0; code == OCH_OK && done < range->count; done += QUERY_CHUNK) {
        uint32_t first = range->first + done, left = range->count - done,
                 count = left < QUERY_CHUNK ? left : QUERY_CHUNK;
        code = survive_range(&lookup, range->source, first, count, mask + first / 64, err);
        lookup_done(&lookup);
        lookup_init(&lookup, knn->run);
    }
    lookup_done(&lookup);
    run_spent(knn->run, range->source, STAGE_FILTER, since);
    return code;
}

static void mask_task(void *context, size_t i)
{
    struct knn *knn = context;
    och_error failure = {0};
    if (atomic_load_explicit(&knn->failed, memory_order_relaxed))
        return;
    och_code code =
        fill_mask(knn, &knn->ranges[i], knn->indexed[knn->ranges[i].source].mask, &failure);
    if (code != OCH_OK)
        knn_fail(knn, code, &failure);
}

/* Rows of one part, evenly spread: how many are alive, and how many of them pass. */
static och_code sample_part(struct knn *knn, struct lookup *lookup, uint32_t source, uint32_t rows,
                            uint32_t *alive, uint32_t *passed, och_error *err)
{
    struct run *run = knn->run;
    const struct bitset *dead;
    uint32_t coded = knn->indexed[source].index->coded;
    TRY(view_dead(run->view, source, &dead, err));
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t row = (uint32_t)((uint64_t)i * coded / rows);
        bool passes;
        if (dead && bitset_has(dead, row))
            continue;
        TRY(survive_place(lookup, (struct view_place){source, row}, &passes, err));
        ++*alive;
        *passed += passes;
    }
    return OCH_OK;
}

/* The share of rows that the filter lets through, from a few of all parts; 0: too few to tell. */
static och_code sample_share(struct knn *knn, och_error *err)
{
    struct run *run = knn->run;
    uint64_t all = 0;
    uint32_t alive = 0, passed = 0;
    struct lookup lookup;
    size_t count = knn->indexed_count -
                   (knn->tail.index.coded != 0); /* the tail, the last, is asked as a whole */
    for (size_t i = 0; i < count; i++)
        all += knn->indexed[knn->order[i]].index->coded;
    lookup_init(&lookup, run);
    och_code code = work_check(run->limits, err);
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        uint32_t source = knn->order[i];
        uint64_t rows = (uint64_t)SAMPLE_ROWS * knn->indexed[source].index->coded / all;
        code = sample_part(knn, &lookup, source, (uint32_t)rows, &alive, &passed, err);
    }
    lookup_done(&lookup);
    knn->share = passed < SAMPLE_LEAST ? 0 : (double)passed / alive;
    return code;
}

/* Is it cheaper to ask the filter about candidates than about all rows?  About 5 keep/share of them, each at a random place. */
static och_code choose_lazy(struct knn *knn, uint32_t source, och_error *err)
{
    struct indexed_part *indexed = &knn->indexed[source];
    if (knn->run->plan->vector_count > LAZY_VECTORS || indexed->index->coded < LAZY_ROWS)
        return OCH_OK;
    if (knn->share < 0)
        TRY(sample_share(knn, err));
    double survivors = knn->share * indexed->index->coded;
    if (survivors < 80 * (double)knn->k)
        return OCH_OK;
    indexed->lazy = true;
    atomic_store_explicit(&indexed->survivors, (uint64_t)survivors, memory_order_relaxed);
    return OCH_OK;
}

/* Rows that are not dead; NULL: all. */
static och_code live_mask(struct knn *knn, uint32_t source, uint64_t **ret_mask, och_error *err)
{
    struct run *run = knn->run;
    const struct bitset *dead;
    *ret_mask = NULL;
    TRY(view_dead(run->view, source, &dead, err));
    if (!dead)
        return OCH_OK;
    size_t words = bitset_words(part_rows(view_part(run->view, source)));
    uint64_t *mask = ARENA_ARRAY(run->arena, uint64_t, words + 1);
    if (!mask)
        return FAIL_NO_MEMORY(err, "a search");
    for (size_t i = 0; i < words; i++)
        mask[i] = ~dead->words[i];
    *ret_mask = mask;
    return OCH_OK;
}

/* For explain: how many slots live of a tail that was not looked at for the search. */
static och_code count_tail(struct knn *knn, och_error *err)
{
    struct run *run = knn->run;
    struct range all = {(uint32_t)view_part_count(run->view), 0, knn->tail.index.coded};
    uint64_t *mask = ARENA_ARRAY(run->arena, uint64_t, bitset_words(all.count) + 1);
    if (!mask)
        return FAIL_NO_MEMORY(err, "a search");
    TRY(fill_mask(knn, &all, mask, err));
    run->survivors += count_bits(mask, all.count);
    return OCH_OK;
}

/* What is needed of one part: nothing, the live rows, or ranges in which the filter is evaluated. */
static och_code plan_mask(struct knn *knn, uint32_t source, och_error *err)
{
    struct run *run = knn->run;
    struct indexed_part *indexed = &knn->indexed[source];
    uint32_t rows = source_rows(knn, source);
    bool tail = source == view_part_count(run->view),
         asks = tail || run->filter || part_has_expiry(view_part(run->view, source));
    atomic_store_explicit(&indexed->survivors, indexed->index->coded, memory_order_relaxed);
    /* Candidates tell whether they live: to look at every slot costs a seventh of a query beside a writer. */
    if (tail && !run->filter && run->plan->vector_count <= LAZY_VECTORS) {
        indexed->lazy = true;
        return OCH_OK;
    }
    if (asks && !tail && !answer_is_cheap(run, source))
        TRY(choose_lazy(knn, source, err));
    if (!asks || indexed->lazy) {
        TRY(live_mask(knn, source, &indexed->mask, err));
        if (indexed->mask && !indexed->lazy)
            atomic_store_explicit(&indexed->survivors,
                                  count_bits(indexed->mask, indexed->index->coded),
                                  memory_order_relaxed);
        return OCH_OK;
    }
    indexed->mask = ARENA_ARRAY(run->arena, uint64_t, bitset_words(rows) + 1);
    if (!indexed->mask)
        return FAIL_NO_MEMORY(err, "a search");
    for (uint32_t first = 0; first < rows; first += MASK_ROWS)
        knn->ranges[knn->range_count++] =
            (struct range){source, first, rows - first < MASK_ROWS ? rows - first : MASK_ROWS};
    return OCH_OK;
}

/* Dead rows, expiry and filter of all parts with an index, in one bit per row. */
static och_code make_masks(struct knn *knn, och_error *err)
{
    struct run *run = knn->run;
    size_t total = 0;
    for (size_t i = 0; i < knn->indexed_count; i++)
        total += source_rows(knn, knn->order[i]) / MASK_ROWS + 1;
    knn->ranges = ARENA_ARRAY(run->arena, struct range, total + 1);
    if (!knn->ranges)
        return FAIL_NO_MEMORY(err, "a search");
    knn->range_count = 0;
    knn->share = -1;
    for (size_t i = 0; i < knn->indexed_count; i++)
        TRY(plan_mask(knn, knn->order[i], err));
    pool_for(run->query->options.pool, knn->range_count, mask_task, knn);
    TRY(knn_failure(knn, err));
    for (size_t i = 0; i < knn->range_count; i++) {
        struct indexed_part *indexed = &knn->indexed[knn->ranges[i].source];
        atomic_store_explicit(&indexed->survivors, count_bits(indexed->mask, indexed->index->coded),
                              memory_order_relaxed);
    }
    for (size_t i = 0; i < knn->indexed_count; i++) {
        struct indexed_part *indexed = &knn->indexed[knn->order[i]];
        bool uncounted = indexed->lazy && knn->order[i] == view_part_count(run->view);
        if (!uncounted)
            run->survivors += atomic_load_explicit(&indexed->survivors, memory_order_relaxed);
        else if (run->plan->explain)
            TRY(count_tail(knn, err));
    }
    return OCH_OK;
}

/* ---- one vector in one part ---- */

/* The plan of a search, and what correction by real queries adds to it. */
static struct vector_plan plan_of(const struct knn *knn, const struct vector_index *index,
                                  uint64_t survivors)
{
    struct vector_plan plan = vector_plan_make(index, (uint32_t)knn->k, knn->recall, survivors);
    vector_plan_effort(&plan, index, knn->run->effort);
    return plan;
}

/* Exactly, those of rows [first, end) that the mask allows. */
static och_code scan_rows(struct worker *w, uint32_t source, const uint64_t *mask, uint32_t first,
                          uint32_t end, och_error *err)
{
    struct knn *knn = w->knn;
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

/* Candidates, some at a time: their vectors come in one batch. */
static och_code rerank(struct worker *w, uint32_t source, const struct vector_found *found,
                       och_error *err)
{
    struct part *part = view_part(w->knn->run->view, source);
    uint32_t rows[RERANK_BATCH];
    och_code code = OCH_OK;
    for (size_t done = 0; done < found->count && code == OCH_OK;) {
        size_t count = min_size(found->count - done, RERANK_BATCH);
        for (size_t i = 0; i < count; i++)
            rows[i] = found->rows[done + i].row;
        const float **vectors = NULL;
        struct part_picked picked;
        TRY(part_pick_vectors(part, rows, count, &w->arena, &vectors, &picked, err));
        if (picked.was_cold)
            atomic_store_explicit(&w->knn->was_cold, true, memory_order_relaxed);
        for (size_t i = 0; i < count && code == OCH_OK; i++)
            code = knn_score_block(w, vectors[i], NULL, 1, 1, source, rows[i], err);
        part_picked_done(&picked);
        done += count;
    }
    return code;
}

/* The filter, asked about candidates. */
struct asking {
    struct worker *worker;
    uint32_t source;
    uint64_t asked, most;
    bool gave_up;
};

static och_code allow(void *context, uint32_t *rows, uint32_t *count, och_error *err)
{
    struct asking *asking = context;
    uint32_t kept = 0;
    if (asking->asked / KEEP_READS != (asking->asked + *count) / KEEP_READS) {
        lookup_done(&asking->worker->lookup); /* blocks pinned so far */
        lookup_init(&asking->worker->lookup, asking->worker->knn->run);
    }
    asking->asked += *count;
    if (asking->asked > asking->most) {
        asking->gave_up = true;
        return FAIL(err, OCH_BUSY, "too many rows to ask one by one");
    }
    for (uint32_t i = 0; i < *count; i++) {
        bool passes;
        TRY(survive_place(&asking->worker->lookup, (struct view_place){asking->source, rows[i]},
                          &passes, err));
        if (passes)
            rows[kept++] = rows[i];
    }
    *count = kept;
    return OCH_OK;
}

/* The mask after all: most of what lies near does not pass. */
static och_code evaluate_all(struct worker *w, uint32_t source, uint64_t **ret_mask,
                             uint64_t *ret_survivors, och_error *err)
{
    struct knn *knn = w->knn;
    uint32_t rows = part_rows(view_part(knn->run->view, source));
    uint64_t *mask = ARENA_ARRAY(&w->arena, uint64_t, bitset_words(rows) + 1);
    if (!mask)
        return FAIL_NO_MEMORY(err, "a search");
    TRY(fill_mask(knn, &(struct range){source, 0, rows}, mask, err));
    *ret_mask = mask;
    *ret_survivors = count_bits(mask, knn->indexed[source].index->coded);
    return OCH_OK;
}

/* The filter for rows outside the codes alone. */
static och_code evaluate_outside(struct worker *w, uint32_t source, uint64_t **ret_mask,
                                 och_error *err)
{
    const struct vector_index *index = w->knn->indexed[source].index;
    uint32_t first = index->coded / 64 * 64, end = index->coded + index->outside;
    uint64_t *mask = ARENA_ARRAY(&w->arena, uint64_t, end / 64 + 1 + QUERY_CHUNK_WORDS);
    if (!mask)
        return FAIL_NO_MEMORY(err, "a search");
    *ret_mask = mask;
    return fill_mask(w->knn, &(struct range){source, first, end - first}, mask, err);
}

/* Ask the filter about candidates only; *ret_done false: it has to be evaluated for all rows. */
static och_code search_lazily(struct worker *w, uint32_t source, struct vector_query *query,
                              struct vector_found *ret_found, bool *ret_done, och_error *err)
{
    struct part *part = view_part(w->knn->run->view, source);
    struct asking asking = {.worker = w, .source = source, .most = part_rows(part) / LAZY_SHARE};
    och_error failure = {0};
    bool usable = false;
    query->allow = allow;
    query->allow_context = &asking;
    och_code code = part_vector_search(part, query, &w->arena, ret_found, &usable, &failure);
    query->allow = NULL;
    *ret_done = code == OCH_OK && usable && !asking.gave_up;
    if (code == OCH_OK || asking.gave_up)
        return OCH_OK;
    if (err)
        *err = failure;
    return code;
}

/* Rows outside the codes, or all of them when codes are of no use. */
static och_code scan_rest(struct worker *w, const struct part_search *search, const uint64_t *mask,
                          uint64_t survivors, bool usable, och_error *err)
{
    struct run *run = w->knn->run;
    const struct vector_index *index = w->knn->indexed[search->source].index;
    uint32_t first = usable ? index->coded : 0, end = index->coded + index->outside;
    if (first == end)
        return OCH_OK;
    uint64_t since = run_now(run);
    TRY(scan_rows(w, search->source, mask, first, end, err));
    run_spent(run, search->source, STAGE_EXACT, since);
    run_add(&run->sources[search->source].rows_exact, usable ? index->outside : survivors);
    atomic_fetch_or_explicit(&run->sources[search->source].ways, RUN_EXACT, memory_order_relaxed);
    return OCH_OK;
}

static och_code search_part(struct worker *w, struct part_search *search, och_error *err)
{
    struct knn *knn = w->knn;
    uint32_t source = search->source;
    const struct indexed_part *indexed = &knn->indexed[source];
    const struct vector_index *index = indexed->index;
    struct vector_query *query = &search->query;
    struct vector_carry *carry = query->carry;
    uint64_t survivors = atomic_load_explicit(&indexed->survivors, memory_order_relaxed);
    uint64_t *mask = indexed->mask;
    bool usable = false;
    uint32_t carried = carry->len; /* a search that is given up must leave nothing behind */
    float *saved = arena_alloc(&w->arena, sizeof(float) * ((size_t)carry->keep + 1));
    if (!saved)
        return FAIL_NO_MEMORY(err, "a search");
    memcpy(saved, carry->heap, sizeof(float) * carried);
    query->bound = topk_bound(&w->heaps[w->first]);
    if (indexed->lazy) {
        TRY(search_lazily(w, source, query, search->found, &usable, err));
        if (usable && index->outside)
            TRY(evaluate_outside(w, source, &mask, err));
        if (!usable) {
            TRY(evaluate_all(w, source, &mask, &survivors, err));
            query->mask = mask;
            query->plan = plan_of(knn, index, survivors);
            query->begun = NULL;
            memcpy(carry->heap, saved, sizeof(float) * carried);
            carry->len = carried;
        }
    }
    if (!usable && query->plan.mode != VECTOR_EXACT && survivors > 4 * (uint64_t)query->plan.keep)
        TRY(part_vector_search(view_part(knn->run->view, source), query, &w->arena, search->found,
                               &usable, err));
    if (!usable) {
        memcpy(carry->heap, saved, sizeof(float) * carried);
        carry->len = carried;
        search->found->count = 0;
    }
    return scan_rest(w, search, mask, survivors, usable, err);
}

/* ---- one vector in all of them ---- */

static och_code plan_searches(struct worker *w, struct part_search *searches,
                              struct vector_found *found, uint32_t *ret_keep, och_error *err)
{
    struct knn *knn = w->knn;
    struct run *run = knn->run;
    const float *vector = run->plan->vectors + (size_t)w->first * run->plan->dimension;
    const struct vector_index **indexes =
        ARENA_ARRAY(&w->arena, const struct vector_index *, knn->indexed_count);
    if (!indexes)
        return FAIL_NO_MEMORY(err, "a search");
    for (size_t i = 0; i < knn->indexed_count; i++)
        indexes[i] = knn->indexed[knn->order[i]].index;
    struct vector_stretch stretch = vector_stretch(indexes, knn->indexed_count, vector);
    *ret_keep = 0;
    for (size_t i = 0; i < knn->indexed_count; i++) {
        uint32_t source = knn->order[i];
        const struct indexed_part *indexed = &knn->indexed[source];
        struct part_search *search = &searches[i];
        *search = (struct part_search){.source = source, .found = &found[i]};
        search->query = (struct vector_query){
            .index = indexed->index,
            .vector = vector,
            .stretch = stretch,
            .mask = indexed->mask,
            .bound = INFINITY,
            .limits = run->limits,
            .timed = run->plan->explain,
            .plan = plan_of(knn, indexed->index,
                            atomic_load_explicit(&indexed->survivors, memory_order_relaxed))};
        if (indexed->lazy && source != view_part_count(run->view) &&
            search->query.plan.mode >= VECTOR_CODES8)
            search->query.plan.mode = VECTOR_PROBE;
        *ret_keep = search->query.plan.keep > *ret_keep ? search->query.plan.keep : *ret_keep;
    }
    return OCH_OK;
}

/* Parts with many lists visit them as if they were one part's. */
static och_code share_lists(struct worker *w, struct part_search *searches, och_error *err)
{
    struct knn *knn = w->knn;
    struct vector_query **shared =
        ARENA_ARRAY(&w->arena, struct vector_query *, knn->indexed_count);
    size_t count = 0;
    if (!shared)
        return FAIL_NO_MEMORY(err, "a search");
    for (size_t i = 0; i < knn->indexed_count; i++)
        if (searches[i].query.plan.mode == VECTOR_BUDGET)
            shared[count++] = &searches[i].query;
    if (count < 2)
        return OCH_OK;
    for (size_t i = 0; i < count; i++) {
        TRY(vector_search_begin(shared[i], &w->arena, &shared[i]->begun, err));
        if (!shared[i]->begun) /* no part can: the query has no direction or is too long */
            return OCH_OK;
    }
    vector_share(shared, count, knn->recall, knn->run->effort);
    return OCH_OK;
}

static och_code search_vector(struct worker *w, och_error *err)
{
    struct knn *knn = w->knn;
    struct run *run = knn->run;
    size_t count = knn->indexed_count, parts = view_part_count(run->view);
    struct part_search *searches = ARENA_ARRAY(&w->arena, struct part_search, count);
    struct vector_found *found = ARENA_ARRAY(&w->arena, struct vector_found, count);
    const struct topk *known = &w->heaps[w->first];
    struct vector_carry carry;
    uint32_t keep = 0;
    if (!searches || !found)
        return FAIL_NO_MEMORY(err, "a search");
    TRY(plan_searches(w, searches, found, &keep, err));
    TRY(vector_carry_init(&carry, keep, &w->arena, err));
    for (size_t i = 0; i < known->len; i++)
        vector_carry_add(&carry, view_info(run->view)->metric, &searches[0].query.stretch,
                         known->items[i].distance);
    TRY(share_lists(w, searches, err));
    for (size_t i = 0; i < count; i++) {
        searches[i].query.carry = &carry;
        TRY(searches[i].source == parts ? knn_search_tail(w, &searches[i], err)
                                        : search_part(w, &searches[i], err));
    }
    vector_join(found, count, (uint32_t)knn->k, &w->arena);
    for (size_t i = 0; i < count; i++) {
        uint64_t since = run_now(run);
        TRY(searches[i].source == parts ? knn_rerank_tail(w, &searches[i], err)
                                        : rerank(w, searches[i].source, &found[i], err));
        run_spent(run, searches[i].source, STAGE_RERANK, since);
        knn_count(knn, searches[i].source, &searches[i].query, &found[i]);
    }
    return OCH_OK;
}

static void vector_task(void *context, size_t i)
{
    struct knn *knn = context;
    struct worker w = {
        .knn = knn, .heaps = knn->best, .first = (uint32_t)i, .end = (uint32_t)i + 1};
    och_error failure = {0};
    if (atomic_load_explicit(&knn->failed, memory_order_relaxed))
        return;
    arena_init(&w.arena, NULL, 0);
    lookup_init(&w.lookup, knn->run);
    och_code code = search_vector(&w, &failure);
    lookup_done(&w.lookup);
    arena_done(&w.arena);
    if (code != OCH_OK)
        knn_fail(knn, code, &failure);
}

/* Queries that a budget of lists answered: those that correction is about. */
static void remember(struct knn *knn)
{
    struct run *run = knn->run;
    bool budgeted = false;
    for (size_t i = 0; i < view_part_count(run->view); i++)
        budgeted |= (atomic_load(&run->sources[i].ways) >> VECTOR_BUDGET & 1) != 0;
    if (run->learns && !run->filter && budgeted)
        corrector_remember(run->query->corrector, view_info(run->view)->collection,
                           run->plan->vectors, run->plan->dimension, (uint32_t)knn->k, knn->recall);
}

och_code knn_search_indexed(struct knn *knn, och_error *err)
{
    TRY(make_masks(knn, err));
    pool_for(knn->run->query->options.pool, knn->run->plan->vector_count, vector_task, knn);
    TRY(knn_failure(knn, err));
    remember(knn);
    return OCH_OK;
}

void knn_count(struct knn *knn, uint32_t source, const struct vector_query *query,
               const struct vector_found *found)
{
    struct run_source *to = &knn->run->sources[source];
    if (found->rows_scored || found->lists_probed)
        atomic_fetch_or_explicit(&to->ways, 1u << query->plan.mode, memory_order_relaxed);
    run_add(&to->lists_probed, found->lists_probed);
    run_add(&to->rows_coded, found->rows_scanned);
    run_add(&to->rows_scored, found->rows_scored);
    run_add(&to->rows_reranked, found->count);
    run_add(&to->ns[STAGE_COARSE], found->coarse_ns);
    run_add(&to->ns[STAGE_CODES], found->scan_ns);
    run_add(&to->ns[STAGE_CODES8], found->score_ns);
}
