/* SPDX-License-Identifier: Apache-2.0 */
/* Several parts searched as one: their lists in one order with one budget; what of all their candidates must be looked at. */
#include "index/vector/vector_search_internal.h"

#include <stdlib.h>

/* The key below which lists hold about so many rows. */
static float key_of_rows(struct vector_query *const *queries, size_t count, double rows)
{
    enum { BUCKETS = 1024 };
    double weights[BUCKETS] = {0};
    float least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        const struct vector_search *s = queries[i]->begun;
        float from = s->key_least - search_key_shift(s), to = s->key_most - search_key_shift(s);
        least = from < least ? from : least;
        most = to > most ? to : most;
    }
    float scale = (BUCKETS - 1) / (most - least);
    if (!(most > least) || !isfinite(scale))
        return INFINITY;
    for (size_t i = 0; i < count; i++) {
        const struct vector_search *s = queries[i]->begun;
        uint32_t counts[BUCKETS] = {0};
        s->kernel->count_keys(s->keys, s->index->lists, least + search_key_shift(s), scale, BUCKETS,
                              counts);
        double weight = (double)s->index->coded / s->index->lists;
        for (int bucket = 0; bucket < BUCKETS; bucket++)
            weights[bucket] += weight * counts[bucket];
    }
    double sum = 0;
    int bucket = 0;
    while (bucket < BUCKETS - 1 && sum + weights[bucket] < rows)
        sum += weights[bucket++];
    double share = weights[bucket] > 0 ? (rows - sum) / weights[bucket] : 1;
    /* a bucket is centred at its number */
    return least + ((float)bucket - 0.5f + (float)(share < 1 ? share : 1)) / scale;
}

/* Keys with another γ than this part's own: those of several parts are compared. */
static void use_gamma(struct vector_search *s, float gamma)
{
    struct vector_range all = {0, s->index->lists};
    if (s->index->gamma != gamma)
        search_make_keys(s, &all, 1, gamma);
}

void vector_share(struct vector_query *const *queries, size_t count, float recall, float effort)
{
    double all = 0, rows = 0;
    bool by_place = true;
    float far_times = INFINITY; /* off the data of all parts */
    for (size_t i = 0; i < count; i++) {
        all += queries[i]->index->coded;
        by_place = by_place && queries[i]->plan.fall > 0;
        far_times = fminf(far_times, queries[i]->begun->far_times);
    }
    for (size_t i = 0; i < count; i++) {
        const struct vector_index *index = queries[i]->index;
        double own = vector_budget_share(index, queries[i]->plan.k, index->coded / all, recall);
        rows +=
            (double)effort * (by_place ? VECTOR_FARTHEST : 1) * own * index->coded / index->lists;
        use_gamma(queries[i]->begun, queries[0]->index->gamma);
    }
    float limit = key_of_rows(queries, count, rows * (double)search_far_lists(far_times));
    for (size_t i = 0; i < count; i++) {
        struct vector_search *s = queries[i]->begun;
        struct vector_plan *plan = &queries[i]->plan;
        s->far_times = far_times;
        double share = s->index->coded / all;
        plan->lists = s->index->lists - (s->index->lists > 1);
        plan->key = limit + search_key_shift(s);
        if (by_place) { /* its effort stays */
            plan->reach += vector_placed_reach(s->index, 1 + share * (plan->k - 1), recall) -
                           vector_placed_reach(s->index, plan->k, recall);
            continue;
        }
        plan->fall = 0;
        plan->reach = vector_reach(s->index, plan->k * share, recall) * (1 + 0.25f * log2f(effort));
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
