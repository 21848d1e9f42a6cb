/* SPDX-License-Identifier: Apache-2.0 */
/* Lloyd's rounds over rows in memory.  Deterministic: one order of summation, seeds by number. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define STEP 512 /* rows assigned at once */

struct work {
    const struct vector_kmeans *job;
    float *packed, *norms, *best_score;
    uint32_t *best, *counts;
    const float **pointers;
};

static void work_done(struct work *w)
{
    mem_free_aligned(w->packed);
    mem_free_aligned(w->norms);
    mem_free(w->best_score);
    mem_free(w->best);
    mem_free(w->counts);
    mem_free(w->pointers);
}

static och_code work_init(struct work *w, const struct vector_kmeans *job, och_error *err)
{
    *w = (struct work){.job = job};
    size_t count = job->count, centers = job->centers;
    w->packed = mem_alloc_aligned(64, code_packed_floats(centers, job->dim) * sizeof(float));
    w->norms = mem_alloc_aligned(64, code_packed_norms(centers) * sizeof(float));
    w->best_score = mem_alloc(STEP * sizeof(float));
    w->best = mem_alloc(count * sizeof(uint32_t));
    w->counts = mem_alloc(centers * sizeof(uint32_t));
    w->pointers = mem_alloc(STEP * sizeof(*w->pointers));
    if (!w->packed || !w->norms || !w->best_score || !w->best || !w->counts || !w->pointers)
        return FAIL_NO_MEMORY(err, "training a vector index");
    return OCH_OK;
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

static och_code assign(struct work *w, const float *centroids, och_error *err)
{
    const struct vector_kmeans *job = w->job;
    const struct kernel_code *kernel = kernel_code_get();
    code_pack_f32(centroids, job->dim, job->centers, job->dim, w->packed, w->norms);
    for (size_t at = 0; at < job->count; at += STEP) {
        size_t count = min_size(STEP, job->count - at);
        if (job->limits)
            TRY(work_check(job->limits, err));
        for (size_t i = 0; i < count; i++) {
            w->pointers[i] = job->rows + (at + i) * job->dim;
            w->best[at + i] = UINT32_MAX;
            w->best_score[i] = INFINITY;
        }
        kernel->assign_f32(w->pointers, count, w->packed, w->norms, job->centers, job->dim, 0,
                           w->best + at, w->best_score);
        for (size_t i = 0; i < count; i++)
            if (w->best[at + i] >= job->centers) /* sums that overflowed compare with nothing */
                w->best[at + i] = 0;
    }
    return OCH_OK;
}

static void recentre(struct work *w, float *centroids)
{
    const struct vector_kmeans *job = w->job;
    size_t dim = job->dim;
    memset(centroids, 0, job->centers * dim * sizeof(float));
    memset(w->counts, 0, job->centers * sizeof(uint32_t));
    for (size_t i = 0; i < job->count; i++) {
        float *sum = centroids + w->best[i] * dim;
        const float *row = job->rows + i * dim;
        for (size_t j = 0; j < dim; j++)
            sum[j] += row[j];
        w->counts[w->best[i]]++;
    }
    for (uint32_t c = 0; c < job->centers; c++) {
        float factor = w->counts[c] ? 1.0f / (float)w->counts[c] : 0;
        for (size_t j = 0; j < dim; j++)
            centroids[c * dim + j] *= factor;
    }
}

/* An empty centre moves to a row of the largest one. */
static void refill(struct work *w, float *centroids, struct random *random)
{
    const struct vector_kmeans *job = w->job;
    for (uint32_t c = 0; c < job->centers; c++) {
        if (w->counts[c])
            continue;
        uint32_t largest = 0;
        for (uint32_t other = 1; other < job->centers; other++)
            largest = w->counts[other] > w->counts[largest] ? other : largest;
        if (w->counts[largest] < 2)
            return;
        size_t start = (size_t)random_below(random, job->count);
        for (size_t i = 0; i < job->count; i++) {
            size_t row = (start + i) % job->count;
            if (w->best[row] != largest)
                continue;
            memcpy(centroids + c * (size_t)job->dim, job->rows + row * job->dim,
                   job->dim * sizeof(float));
            w->best[row] = c;
            w->counts[largest]--;
            w->counts[c] = 1;
            break;
        }
    }
}

och_code vector_kmeans_run(const struct vector_kmeans *job, float *ret_centroids, och_error *err)
{
    assert(job->count && job->centers);
    seed_centers(job, ret_centroids);
    if (job->centers > 1 && job->count <= job->centers)
        return OCH_OK;
    struct work w;
    struct random random;
    random_seed(&random, job->seed + 1);
    och_code code = work_init(&w, job, err);
    for (uint32_t round = 0; code == OCH_OK && round < job->rounds; round++) {
        code = assign(&w, ret_centroids, err);
        if (code != OCH_OK)
            break;
        recentre(&w, ret_centroids);
        refill(&w, ret_centroids, &random);
        if (job->centers == 1)
            break;
    }
    work_done(&w);
    return code;
}
