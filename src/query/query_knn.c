/* SPDX-License-Identifier: Apache-2.0 */
/* Nearest neighbours: parts with a vector index by query_index.c, the rest by exact scan: survivors of parts and tail, cut into ranges that idle workers share, each into heaps of its own that
 * are joined at the end.  Reported distances come from the kernels' fixed order of summation (D7), so the answer does not depend on where a
 * row lies or who computed it. */
#include "query/query_knn.h"

#include <float.h>
#include <math.h>

/* Norms outside this lose their value in f32: then f64 decides. */
#define NORM2_LEAST 1e-30f
#define NORM2_MOST  1e+30f
#define AHEAD_ROWS  128u /* whose fields are read in one batch */

static float cosine_f64(const float *a, const float *b, size_t dim)
{
    double dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < dim; i++) {
        dot += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    if (aa == 0 || bb == 0)
        return 1.0f;
    double distance = 1.0 - dot / (sqrt(aa) * sqrt(bb));
    return distance < 0 ? 0.0f : (float)distance;
}

/* A sum that left f32's range on the way: judged in f64; what is infinite even so sorts last (D7). */
static float ip_f64(const float *a, const float *b, size_t dim)
{
    double dot = 0;
    for (size_t i = 0; i < dim; i++)
        dot += (double)a[i] * (double)b[i];
    double distance = 1.0 - dot;
    return fabs(distance) <= (double)FLT_MAX ? (float)distance : INFINITY;
}

static float finish(const struct run *run, uint32_t v, float sum, float norm2, const float *row)
{
    switch (view_info(run->view)->metric) {
    case METRIC_L2:
        return sum;
    case METRIC_IP:
        if (!isfinite(sum))
            return ip_f64(run->plan->vectors + (size_t)v * run->plan->dimension, row,
                          run->plan->dimension);
        return kernel_ip_distance(sum);
    case METRIC_COSINE:
        break;
    }
    float query_norm2 = run->query_norms[v];
    bool sound = norm2 >= NORM2_LEAST && norm2 <= NORM2_MOST && query_norm2 >= NORM2_LEAST &&
                 query_norm2 <= NORM2_MOST;
    if (!sound)
        return cosine_f64(run->plan->vectors + (size_t)v * run->plan->dimension, row,
                          run->plan->dimension);
    return kernel_cosine_distance(sum, query_norm2, norm2);
}

float knn_distance(const struct run *run, const float *a, const float *b)
{
    const struct kernel *kernel = run->query->kernel;
    size_t dim = view_info(run->view)->dimension;
    if (view_info(run->view)->metric == METRIC_L2)
        return kernel->l2_f32(a, b, dim);
    float dot = kernel->dot_f32(a, b, dim);
    if (view_info(run->view)->metric == METRIC_IP)
        return isfinite(dot) ? kernel_ip_distance(dot) : ip_f64(a, b, dim);
    float aa = kernel->dot_f32(a, a, dim), bb = kernel->dot_f32(b, b, dim);
    bool sound = aa >= NORM2_LEAST && aa <= NORM2_MOST && bb >= NORM2_LEAST && bb <= NORM2_MOST;
    return sound ? kernel_cosine_distance(dot, aa, bb) : cosine_f64(a, b, dim);
}

static och_code offer(struct worker *w, uint32_t v, float distance, uint32_t source, uint32_t row,
                      och_error *err)
{
    struct topk *top = &w->heaps[v];
    if (distance > topk_bound(top))
        return OCH_OK;
    struct view *view = w->knn->run->view;
    int64_t seq;
    if (source == view_part_count(view))
        seq = view_slot(view, row)->record.seq;
    else
        TRY(part_seq_kept(view_part(view, source), &w->lookup.reads, row, &seq, err));
    topk_push(top,
              (struct topk_item){.distance = distance, .source = source, .row = row, .seq = seq});
    return OCH_OK;
}

/* Distances of `count` ≤ BLOCK rows lying one behind the other at `rows`, of which `mask` survive; norms NULL: not known. */
och_code knn_score_block(struct worker *w, const float *rows, const float *norms, uint32_t count,
                         uint64_t mask, uint32_t source, uint32_t row, och_error *err)
{
    const struct run *run = w->knn->run;
    const struct kernel *kernel = run->query->kernel;
    const struct plan *plan = run->plan;
    size_t dim = plan->dimension;
    bool cosine = view_info(run->view)->metric == METRIC_COSINE,
         l2 = view_info(run->view)->metric == METRIC_L2;
    bool dense = (unsigned)__builtin_popcountll(mask) * 4 >= count;
    float sums[BLOCK], fresh_norms[BLOCK];
    for (uint32_t v = w->first; v < w->end; v++) {
        const float *query = plan->vectors + v * dim;
        if (dense && l2)
            kernel->l2_rows_f32(query, rows, dim, dim, count, sums);
        else if (dense && cosine && !norms)
            kernel->dot_norm_rows_f32(query, rows, dim, dim, count, sums, fresh_norms);
        else if (dense)
            kernel->dot_rows_f32(query, rows, dim, dim, count, sums);
        for (uint64_t left = mask; left; left &= left - 1) {
            uint32_t i = (uint32_t)__builtin_ctzll(left);
            const float *vector = rows + i * dim;
            float sum = dense ? sums[i]
                        : l2  ? kernel->l2_f32(query, vector, dim)
                              : kernel->dot_f32(query, vector, dim);
            float norm2 = 0;
            if (cosine)
                norm2 = norms   ? norms[i]
                        : dense ? fresh_norms[i]
                                : kernel->dot_f32(vector, vector, dim);
            TRY(offer(w, v, finish(run, v, sum, norm2, vector), source, row + i, err));
        }
    }
    return OCH_OK;
}

och_code knn_window_move(struct part *part, bool norms, uint32_t row, struct window *window,
                         struct cache *cache, och_error *err)
{
    if (row >= window->first && row < window->end)
        return OCH_OK;
    cache_unpin(cache, window->extent);
    *window = (struct window){0};
    uint32_t count = 0;
    if (norms)
        TRY(part_norms(part, row, &window->at, &count, &window->extent, err));
    else
        TRY(part_vectors(part, row, &window->at, &count, &window->extent, err));
    window->first = row;
    window->end = row + count;
    return OCH_OK;
}

och_code knn_scan_part(struct worker *w, const struct range *range, const uint64_t *words,
                       struct window *vectors, struct window *norms, och_error *err)
{
    struct run *run = w->knn->run;
    struct part *part = view_part(run->view, range->source);
    struct cache *cache = run->query->options.cache;
    size_t dim = run->plan->dimension;
    bool cosine = view_info(run->view)->metric == METRIC_COSINE;
    uint32_t end = range->first + range->count;
    for (uint32_t row = range->first; row < end;) {
        uint32_t in_range = row - range->first, stop = row - in_range % 64 + 64;
        uint64_t mask = words[in_range / 64] >> (in_range % 64);
        if (mask == 0) {
            row = stop;
            continue;
        }
        row += (uint32_t)__builtin_ctzll(mask);
        mask >>= __builtin_ctzll(mask);
        TRY(knn_window_move(part, false, row, vectors, cache, err));
        if (cosine)
            TRY(knn_window_move(part, true, row, norms, cache, err));
        uint32_t last = stop < end ? stop : end;
        last = last < vectors->end ? last : vectors->end;
        if (cosine && norms->end < last)
            last = norms->end;
        uint32_t count = last - row;
        if (count < 64)
            mask &= (1ull << count) - 1;
        const float *rows = vectors->at + (size_t)(row - vectors->first) * dim;
        TRY(knn_score_block(w, rows, cosine ? norms->at + (row - norms->first) : NULL, count, mask,
                            range->source, row, err));
        row = last;
    }
    return OCH_OK;
}

static och_code score_record(struct worker *w, const float *vector, uint32_t source, uint32_t row,
                             och_error *err)
{
    return vector ? knn_score_block(w, vector, NULL, 1, 1, source, row, err) : OCH_OK;
}

/* Parts with rows that have no vector are read row by row. */
och_code knn_scan_part_rows(struct worker *w, const struct range *range, const uint64_t *words,
                            och_error *err)
{
    for (uint32_t i = 0; i < range->count; i++) {
        if (!(words[i / 64] >> (i % 64) & 1))
            continue;
        struct record record;
        TRY(part_read(view_part(w->knn->run->view, range->source), &w->lookup.reads,
                      range->first + i, RECORD_VECTOR, &record, err));
        TRY(score_record(w, record.vector, range->source, range->first + i, err));
    }
    return OCH_OK;
}

och_code knn_scan_tail(struct worker *w, const struct range *range, const uint64_t *words,
                       och_error *err)
{
    struct view *view = w->knn->run->view;
    size_t dim = w->knn->run->plan->dimension;
    for (uint32_t i = 0; i < range->count;) {
        if (!(words[i / 64] >> (i % 64) & 1)) {
            i++;
            continue;
        }
        const struct tail_slot *slot = view_slot(view, range->first + i);
        if (slot->from_part & RECORD_VECTOR) {
            struct record record;
            TRY(view_slot_read(view, slot, &w->lookup.reads, RECORD_VECTOR, &record, err));
            TRY(score_record(w, record.vector, range->source, range->first + i, err));
            i++;
            continue;
        }
        /* Rows of one batch lie one behind the other: take as many as do. */
        const float *first = slot->record.vector;
        uint32_t count = 1;
        while (first && count < BLOCK && i + count < range->count &&
               (words[(i + count) / 64] >> ((i + count) % 64) & 1)) {
            const struct tail_slot *next = view_slot(view, range->first + i + count);
            if ((next->from_part & RECORD_VECTOR) || next->record.vector != first + count * dim)
                break;
            count++;
        }
        if (first)
            TRY(knn_score_block(w, first, NULL, count,
                                count == 64 ? UINT64_MAX : (1ull << count) - 1, range->source,
                                range->first + i, err));
        i += count;
    }
    return OCH_OK;
}

static och_code scan_ranges(struct worker *w, och_error *err)
{
    struct knn *knn = w->knn;
    struct view *view = knn->run->view;
    struct window vectors = {0}, norms = {0};
    uint32_t windows_of = UINT32_MAX;
    och_code code = OCH_OK;
    while (code == OCH_OK && !atomic_load_explicit(&knn->failed, memory_order_relaxed)) {
        size_t i = atomic_fetch_add(&knn->next_range, 1);
        if (i >= knn->range_count)
            break;
        const struct range *range = &knn->ranges[i];
        uint64_t words[QUERY_CHUNK_WORDS], alive = 0;
        uint64_t since = run_now(knn->run);
        code = survive_range(&w->lookup, range->source, range->first, range->count, words, err);
        if (code != OCH_OK)
            break;
        run_spent(knn->run, range->source, STAGE_FILTER, since);
        for (uint32_t word = 0; word * 64 < range->count; word++)
            alive += (uint64_t)__builtin_popcountll(words[word]);
        run_add(&knn->run->sources[range->source].rows_exact, alive);
        atomic_fetch_add_explicit(&knn->survivors, alive, memory_order_relaxed);
        if (range->source != windows_of) {
            cache_unpin(knn->run->query->options.cache, vectors.extent);
            cache_unpin(knn->run->query->options.cache, norms.extent);
            vectors = norms = (struct window){0};
            windows_of = range->source;
        }
        if (alive == 0)
            continue;
        since = run_now(knn->run);
        if (range->source == view_part_count(view))
            code = knn_scan_tail(w, range, words, err);
        else if (part_all_vectors(view_part(view, range->source)))
            code = knn_scan_part(w, range, words, &vectors, &norms, err);
        else
            code = knn_scan_part_rows(w, range, words, err);
        run_spent(knn->run, range->source, STAGE_EXACT, since);
        /* Pinned blocks of this range are not needed any more. */
        lookup_done(&w->lookup);
        lookup_init(&w->lookup, knn->run);
    }
    cache_unpin(knn->run->query->options.cache, vectors.extent);
    cache_unpin(knn->run->query->options.cache, norms.extent);
    return code;
}

static void work(void *context, size_t i)
{
    struct knn *knn = context;
    struct worker w = {.knn = knn,
                       .end = knn->run->plan->vector_count,
                       .heaps = knn->heaps + i * knn->run->plan->vector_count};
    och_error err = {0};
    lookup_init(&w.lookup, knn->run);
    och_code code = scan_ranges(&w, &err);
    lookup_done(&w.lookup);
    if (code != OCH_OK)
        knn_fail(knn, code, &err);
}

och_code knn_failure(const struct knn *knn, och_error *err)
{
    if (knn->code != OCH_OK && err)
        *err = knn->err;
    return knn->code;
}

void knn_fail(struct knn *knn, och_code code, const och_error *failure)
{
    mutex_lock(&knn->lock);
    if (!atomic_exchange(&knn->failed, true)) {
        knn->code = code;
        knn->err = *failure;
    }
    mutex_unlock(&knn->lock);
}

static och_code make_ranges(struct knn *knn, och_error *err)
{
    struct view *view = knn->run->view;
    size_t parts = view_part_count(view), total = 0;
    for (int fill = 0; fill < 2; fill++) {
        total = 0;
        for (size_t s = 0; s <= parts; s++) {
            uint32_t rows = s < parts ? part_rows(view_part(view, s)) : view_slot_count(view),
                     start = s < parts ? 0 : knn->tail.index.coded;
            if (s < parts && knn->indexed[s].index)
                continue;
            for (uint32_t first = start; first < rows; first += QUERY_CHUNK, total++) {
                if (fill)
                    knn->ranges[total] =
                        (struct range){(uint32_t)s, first,
                                       rows - first < QUERY_CHUNK ? rows - first : QUERY_CHUNK};
            }
            if (fill) {
                knn->run->scanned += rows - start;
                if (rows > start)
                    atomic_fetch_or(&knn->run->sources[s].ways, RUN_EXACT);
            }
        }
        if (!fill && !(knn->ranges = ARENA_ARRAY(knn->run->arena, struct range, total + 1)))
            return FAIL_NO_MEMORY(err, "a scan");
    }
    knn->range_count = total;
    return OCH_OK;
}

static och_code make_heaps(struct knn *knn, size_t workers, och_error *err)
{
    size_t count = workers * knn->run->plan->vector_count;
    knn->heaps = ARENA_ARRAY(knn->run->arena, struct topk, count + 1);
    if (!knn->heaps)
        return FAIL_NO_MEMORY(err, "a query's results");
    for (size_t i = 0; i < count; i++)
        TRY(topk_init(&knn->heaps[i], knn->k, knn->run->arena, err));
    return OCH_OK;
}

static och_code score_candidates(struct knn *knn, och_error *err)
{
    struct run *run = knn->run;
    struct candidate *rows = NULL;
    size_t count = 0;
    TRY(survive_ids(run, &rows, &count, err));
    struct worker w = {.knn = knn, .end = run->plan->vector_count, .heaps = knn->heaps};
    lookup_init(&w.lookup, run);
    och_code code = OCH_OK;
    for (size_t i = 0; i < count && code == OCH_OK; i++) {
        struct record record;
        struct view_place place = rows[i].place;
        if (i % 1024 == 0)
            code = work_check(run->limits, err);
        if (code == OCH_OK)
            code = view_read(run->view, place, &w.lookup.reads, RECORD_VECTOR, &record, err);
        uint32_t source =
            place.part == VIEW_NO_PART ? (uint32_t)view_part_count(run->view) : place.part;
        if (code == OCH_OK)
            code = score_record(&w, record.vector, source, place.row, err);
    }
    lookup_done(&w.lookup);
    mem_free(rows);
    return code;
}

static och_code scan(struct knn *knn, size_t *ret_workers, och_error *err)
{
    TRY(make_ranges(knn, err));
    size_t workers = knn->range_count < WORKERS_MAX ? knn->range_count : WORKERS_MAX;
    TRY(make_heaps(knn, workers, err));
    pool_for(knn->run->query->options.pool, workers, work, knn);
    TRY(knn_failure(knn, err));
    knn->run->survivors += atomic_load(&knn->survivors);
    *ret_workers = workers;
    return OCH_OK;
}

/* The best of what workers scanned, into the heaps that the answer is made of. */
static och_code join(struct knn *knn, size_t workers, och_error *err)
{
    struct run *run = knn->run;
    knn->best = ARENA_ARRAY(run->arena, struct topk, run->plan->vector_count);
    if (!knn->best)
        return FAIL_NO_MEMORY(err, "a query's results");
    for (uint32_t v = 0; v < run->plan->vector_count; v++) {
        TRY(topk_init(&knn->best[v], knn->k, run->arena, err));
        for (size_t i = 0; i < workers; i++) {
            const struct topk *heap = &knn->heaps[i * run->plan->vector_count + v];
            for (size_t j = 0; j < heap->len; j++)
                topk_push(&knn->best[v], heap->items[j]);
        }
    }
    return OCH_OK;
}

/* What the answer will show of rows in parts: one batch of reads a part, instead of one wait after another. */
static och_code read_ahead(struct knn *knn, struct query_result *result, const struct topk *top,
                           och_error *err)
{
    struct run *run = knn->run;
    unsigned shown = run->plan->fields | RECORD_ID | RECORD_SEQ;
    if (!atomic_load_explicit(&knn->was_cold, memory_order_relaxed) &&
        !(shown & (RECORD_DOCUMENT | RECORD_METADATA | RECORD_URI)))
        return OCH_OK;
    uint32_t *rows = ARENA_ARRAY(run->arena, uint32_t, top->len + 1);
    if (!rows)
        return FAIL_NO_MEMORY(err, "a query's results");
    for (size_t part = 0; part < view_part_count(run->view); part++) {
        size_t count = 0;
        for (size_t j = 0; j < top->len; j++)
            if (top->items[j].source == part)
                rows[count++] = (uint32_t)top->items[j].row;
        for (size_t done = 0; done < count; done += AHEAD_ROWS)
            part_read_ahead(view_part(run->view, part), &result->pins->reads, rows + done,
                            min_size(count - done, AHEAD_ROWS), shown);
    }
    return OCH_OK;
}

static och_code collect(struct knn *knn, struct query_result *result, och_error *err)
{
    struct run *run = knn->run;
    for (uint32_t v = 0; v < run->plan->vector_count; v++) {
        struct topk *top = &knn->best[v];
        topk_sort(top);
        TRY(knn_choose(run, top, err));
        struct query_row *rows = ARENA_ARRAY(run->arena, struct query_row, top->len + 1);
        if (!rows)
            return FAIL_NO_MEMORY(err, "a query's results");
        if (!run->plan->bare)
            TRY(read_ahead(knn, result, top, err));
        for (size_t j = 0; j < top->len; j++) {
            const struct topk_item *item = &top->items[j];
            if (run->plan->bare) {
                rows[j] =
                    (struct query_row){.record = {.seq = item->seq}, .distance = item->distance};
                continue;
            }
            bool in_tail = item->source == view_part_count(run->view);
            struct view_place place = {in_tail ? VIEW_NO_PART : item->source, (uint32_t)item->row};
            TRY(query_fetch(run, result, place, &rows[j], err));
            rows[j].distance = item->distance;
        }
        result->hits[v] = (struct query_hits){rows, top->len};
    }
    return OCH_OK;
}

/* What is scanned first, then the parts that have an index: they need only look for what is nearer. */
static och_code search(struct knn *knn, och_error *err)
{
    TRY(knn_choose_indexed(knn, err));
    mutex_init(&knn->lock, RANK_LEAF);
    size_t workers = 0;
    och_code code = scan(knn, &workers, err);
    if (code == OCH_OK)
        code = join(knn, workers, err);
    if (code == OCH_OK && knn->indexed_count)
        code = knn_search_indexed(knn, err);
    mutex_done(&knn->lock);
    return code;
}

static och_code make_sources(struct run *run, och_error *err)
{
    run->sources = ARENA_ARRAY(run->arena, struct run_source, view_part_count(run->view) + 1);
    return run->sources ? OCH_OK : FAIL_NO_MEMORY(err, "a query");
}

/* knn->best of each vector. */
static och_code nearest(struct knn *knn, och_error *err)
{
    struct run *run = knn->run;
    const struct plan *plan = run->plan;
    run->query_norms = ARENA_ARRAY(run->arena, float, plan->vector_count + 1);
    if (!run->query_norms)
        return FAIL_NO_MEMORY(err, "a query");
    for (uint32_t v = 0; v < plan->vector_count; v++) {
        const float *query = plan->vectors + (size_t)v * plan->dimension;
        run->query_norms[v] = run->query->kernel->dot_f32(query, query, plan->dimension);
    }
    if (!plan->has_ids)
        return search(knn, err);
    TRY(make_heaps(knn, 1, err));
    TRY(score_candidates(knn, err));
    return join(knn, 1, err);
}

static struct knn knn_of(struct run *run)
{
    uint64_t live = view_info(run->view)->live_rows;
    uint32_t k = run->plan->k;
    if (k && run->plan->mmr_candidates > k)
        k = run->plan->mmr_candidates;
    return (struct knn){.run = run, .k = k < live ? k : (size_t)live};
}

och_code query_knn_nearest(struct run *run, struct topk **ret_best, och_error *err)
{
    struct knn knn = knn_of(run);
    if (run->plan->vector_count == 0 || knn.k == 0 || view_info(run->view)->dimension == 0) {
        *ret_best = ARENA_ARRAY(run->arena, struct topk, (size_t)run->plan->vector_count + 1);
        return *ret_best ? OCH_OK : FAIL_NO_MEMORY(err, "a query");
    }
    TRY(make_sources(run, err));
    TRY(nearest(&knn, err));
    for (uint32_t v = 0; v < run->plan->vector_count; v++)
        topk_sort(&knn.best[v]);
    *ret_best = knn.best;
    return OCH_OK;
}

och_code query_run_knn(struct run *run, struct query_result *result, och_error *err)
{
    const struct plan *plan = run->plan;
    result->hits = ARENA_ARRAY(run->arena, struct query_hits, plan->vector_count + 1);
    if (!result->hits)
        return FAIL_NO_MEMORY(err, "a query");
    result->hit_count = plan->vector_count;
    TRY(make_sources(run, err));
    struct knn knn = knn_of(run);
    if (plan->vector_count == 0 || knn.k == 0 || view_info(run->view)->dimension == 0)
        return OCH_OK;
    TRY(nearest(&knn, err));
    return collect(&knn, result, err);
}
