/* SPDX-License-Identifier: Apache-2.0 */
/* Lloyd's rounds over rows in memory.  Deterministic: seeds by number; a centre adds up its rows in ascending order, whoever does it. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define STEP    512 /* rows assigned at once */
#define CENTERS 16  /* recentred at once */

struct work {
    const struct vector_kmeans *job;
    float *centroids;
    struct vector_memory packed, norms, best, counts;
    struct vector_memory members, first; /* rows by centre; u32[centers + 1] */
};
struct assigner {
    const float *pointers[STEP];
    float score[STEP];
};

static void work_done(struct work *w)
{
    struct vector_memory *const all[] = {&w->packed, &w->norms,   &w->best,
                                         &w->counts, &w->members, &w->first};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(w->job->budget, all[i]);
}

static och_code work_init(struct work *w, och_error *err)
{
    struct budget *budget = w->job->budget;
    size_t count = w->job->count, centers = w->job->centers;
    TRY(vector_alloc(budget, code_packed_floats(centers, w->job->dim), 4, "training", &w->packed,
                     err));
    TRY(vector_alloc(budget, code_packed_norms(centers), 4, "training", &w->norms, err));
    TRY(vector_alloc(budget, count, 4, "training", &w->best, err));
    TRY(vector_alloc(budget, centers, 4, "training", &w->counts, err));
    TRY(vector_alloc(budget, count, 4, "training", &w->members, err));
    return vector_alloc(budget, centers + 1, 4, "training", &w->first, err);
}

/* Different rows where there are enough. */
static void seed_centers(const struct vector_kmeans *job, float *centroids)
{
    struct random random;
    random_seed(&random, job->seed);
    size_t dim = job->dim;
    for (uint32_t c = 0; c < job->centers; c++) {
        /* one from each of `centers` stretches: distinct without a table */
        size_t from = (size_t)((uint64_t)c * job->count / job->centers),
               to = (size_t)((uint64_t)(c + 1) * job->count / job->centers);
        size_t row = to > from ? from + (size_t)random_below(&random, to - from) : from;
        memcpy(centroids + c * dim, job->rows + row * dim, dim * sizeof(float));
    }
}

static och_code assign_step(void *context, void *reader, void *state, uint32_t item, och_error *err)
{
    struct work *w = context;
    struct assigner *a = state;
    const struct vector_kmeans *job = w->job;
    uint32_t *best = w->best.at;
    size_t at = (size_t)item * STEP, count = min_size(STEP, job->count - at);
    (void)reader;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        a->pointers[i] = job->rows + (at + i) * job->dim;
        best[at + i] = UINT32_MAX;
        a->score[i] = INFINITY;
    }
    kernel_code_get()->assign_f32(a->pointers, count, w->packed.at, w->norms.at, job->centers,
                                  job->dim, 0, best + at, a->score);
    for (size_t i = 0; i < count; i++)
        if (best[at + i] >= job->centers) /* sums that overflowed compare with nothing */
            best[at + i] = 0;
    return OCH_OK;
}

static och_code assign(struct work *w, och_error *err)
{
    const struct vector_kmeans *job = w->job;
    code_pack_f32(w->centroids, job->dim, job->centers, job->dim, w->packed.at, w->norms.at);
    struct vector_job steps = {.pool = job->pool,
                               .limits = job->limits,
                               .context = w,
                               .state_size = sizeof(struct assigner),
                               .run = assign_step,
                               .items = (uint32_t)((job->count + STEP - 1) / STEP)};
    return vector_for(&steps, err);
}

/* Rows of each centre, in ascending order. */
static void sort_members(struct work *w)
{
    const struct vector_kmeans *job = w->job;
    const uint32_t *best = w->best.at;
    uint32_t *counts = w->counts.at, *first = w->first.at, *members = w->members.at, sum = 0;
    memset(counts, 0, job->centers * sizeof(uint32_t));
    for (size_t i = 0; i < job->count; i++)
        counts[best[i]]++;
    for (uint32_t c = 0; c < job->centers; c++) {
        first[c] = sum;
        sum += counts[c];
    }
    for (size_t i = 0; i < job->count; i++)
        members[first[best[i]]++] = (uint32_t)i;
    for (uint32_t c = 0; c < job->centers; c++)
        first[c] -= counts[c];
}

static och_code recentre_step(void *context, void *reader, void *state, uint32_t item,
                              och_error *err)
{
    struct work *w = context;
    const struct vector_kmeans *job = w->job;
    const uint32_t *counts = w->counts.at, *first = w->first.at, *members = w->members.at;
    size_t dim = job->dim;
    (void)reader;
    (void)state;
    (void)err;
    for (uint32_t c = item * CENTERS; c < job->centers && c < (item + 1) * CENTERS; c++) {
        float *sum = w->centroids + c * dim, factor = counts[c] ? 1.0f / (float)counts[c] : 0;
        memset(sum, 0, dim * sizeof(float));
        for (uint32_t i = 0; i < counts[c]; i++) {
            const float *row = job->rows + members[first[c] + i] * dim;
            for (size_t j = 0; j < dim; j++)
                sum[j] += row[j];
        }
        for (size_t j = 0; j < dim; j++)
            sum[j] *= factor;
    }
    return OCH_OK;
}

static och_code recentre(struct work *w, och_error *err)
{
    sort_members(w);
    struct vector_job steps = {.pool = w->job->pool,
                               .limits = w->job->limits,
                               .context = w,
                               .run = recentre_step,
                               .items = (w->job->centers + CENTERS - 1) / CENTERS};
    return vector_for(&steps, err);
}

/* An empty centre moves to a row of the largest one. */
static void refill(struct work *w, struct random *random)
{
    const struct vector_kmeans *job = w->job;
    uint32_t *counts = w->counts.at, *best = w->best.at;
    for (uint32_t c = 0; c < job->centers; c++) {
        if (counts[c])
            continue;
        uint32_t largest = 0;
        for (uint32_t other = 1; other < job->centers; other++)
            largest = counts[other] > counts[largest] ? other : largest;
        if (counts[largest] < 2)
            return;
        size_t start = (size_t)random_below(random, job->count);
        for (size_t i = 0; i < job->count; i++) {
            size_t row = (start + i) % job->count;
            if (best[row] != largest)
                continue;
            memcpy(w->centroids + c * (size_t)job->dim, job->rows + row * job->dim,
                   job->dim * sizeof(float));
            best[row] = c;
            counts[largest]--;
            counts[c] = 1;
            break;
        }
    }
}

och_code vector_kmeans_run(const struct vector_kmeans *job, float *ret_centroids, och_error *err)
{
    assert(job->count && job->centers && job->count < UINT32_MAX);
    seed_centers(job, ret_centroids);
    if (job->centers > 1 && job->count <= job->centers)
        return OCH_OK;
    struct work w = {.job = job, .centroids = ret_centroids};
    struct random random;
    random_seed(&random, job->seed + 1);
    och_code code = work_init(&w, err);
    for (uint32_t round = 0; code == OCH_OK && round < job->rounds; round++) {
        code = assign(&w, err);
        if (code == OCH_OK)
            code = recentre(&w, err);
        if (code != OCH_OK)
            break;
        refill(&w, &random);
        if (job->centers == 1)
            break;
    }
    work_done(&w);
    return code;
}
