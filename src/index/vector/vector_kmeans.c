/* SPDX-License-Identifier: Apache-2.0 */
/* Lloyd's rounds over rows in memory: nearest centres by 8 bits of what sets rows apart from their mean, centres from the rows themselves.
 * Deterministic: seeds by number; a centre adds up its rows, or those that came and went, in ascending order, whoever does it. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define STEP    512 /* rows assigned at once */
#define CENTERS 16  /* recentred at once */

struct work {
    const struct vector_kmeans *job;
    float *centroids;
    struct vector_memory mean;                /* of the rows: 8 bits say how they differ from it */
    struct vector_memory q8, queries, packed; /* rows and centres by 8 bits */
    struct vector_memory best,
        held; /* u32[count]: the nearest centre, and the one whose sum a row is in */
    struct vector_memory sums;                   /* f32, by centre */
    struct vector_memory counts, changed, first; /* u32[centers + 1] */
    struct vector_memory entries; /* rows by centre, twice their number, odd: it left */
};

static void work_done(struct work *w)
{
    struct vector_memory *const all[] = {&w->mean,    &w->q8,    &w->queries, &w->packed,
                                         &w->best,    &w->held,  &w->sums,    &w->counts,
                                         &w->changed, &w->first, &w->entries};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(w->job->budget, all[i]);
}

static och_code work_init(struct work *w, och_error *err)
{
    const struct vector_kmeans *job = w->job;
    const struct {
        struct vector_memory *memory;
        uint64_t count;
        size_t size;
    } wants[] = {
        {&w->mean, job->dim, 4},
        {&w->q8, job->count, vector_near_room(job->dim)},
        {&w->queries, job->count, sizeof(struct code_query8)},
        {&w->packed, 1, vector_near_size(job->centers, job->dim)},
        {&w->best, job->count, 4},
        {&w->held, job->count, 4},
        {&w->sums, job->centers, 4 * (size_t)job->dim},
        {&w->counts, (uint64_t)job->centers + 1, 4},
        {&w->changed, (uint64_t)job->centers + 1, 4},
        {&w->first, (uint64_t)job->centers + 1, 4},
        {&w->entries, 2 * (uint64_t)job->count, 4},
    };
    for (size_t i = 0; i < COUNT_OF(wants); i++)
        TRY(vector_alloc(job->budget, wants[i].count, wants[i].size, "training", wants[i].memory,
                         err));
    memset(w->held.at, 0xff, job->count * 4); /* in none */
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

/* ---- rows to centres ---- */

static och_code scratch_begin(void *context, void *state, och_error *err)
{
    const struct vector_kmeans *job = ((struct work *)context)->job;
    return vector_alloc(job->budget, max_size(vector_near_room(job->dim), STEP), 4, "training",
                        state, err);
}

static void scratch_end(void *context, void *state)
{
    vector_release(((struct work *)context)->job->budget, state);
}

static och_code over_rows(struct work *w,
                          och_code (*run)(void *context, void *reader, void *state, uint32_t item,
                                          och_error *err),
                          och_error *err)
{
    const struct vector_kmeans *job = w->job;
    struct vector_job steps = {.pool = job->pool,
                               .limits = job->limits,
                               .context = w,
                               .state_size = sizeof(struct vector_memory),
                               .begin = scratch_begin,
                               .run = run,
                               .end = scratch_end,
                               .items = (uint32_t)((job->count + STEP - 1) / STEP)};
    return vector_for(&steps, err);
}

static och_code code_step(void *context, void *reader, void *state, uint32_t item, och_error *err)
{
    struct work *w = context;
    const struct vector_kmeans *job = w->job;
    size_t from = (size_t)item * STEP, to = min_size(from + STEP, job->count),
           room = vector_near_room(job->dim);
    (void)reader;
    (void)err;
    for (size_t i = from; i < to; i++)
        vector_near_query(job->rows + i * job->dim, w->mean.at, job->dim,
                          ((struct vector_memory *)state)->at, (int8_t *)w->q8.at + i * room,
                          (struct code_query8 *)w->queries.at + i);
    return OCH_OK;
}

/* The mean of some of the rows will do: what matters is that it is no farther from them than they are from each other. */
#define MEAN_ROWS 1024

static och_code find_mean(struct work *w, och_error *err)
{
    const struct vector_kmeans *job = w->job;
    size_t used = min_size(job->count, MEAN_ROWS);
    struct vector_memory memory = {0};
    TRY(vector_alloc(job->budget, job->dim, 8, "training", &memory, err));
    double *sums = memory.at;
    for (size_t i = 0; i < used; i++) {
        const float *row = job->rows + (size_t)((uint64_t)i * job->count / used) * job->dim;
        for (uint32_t j = 0; j < job->dim; j++)
            sums[j] += (double)row[j];
    }
    for (uint32_t j = 0; j < job->dim; j++)
        ((float *)w->mean.at)[j] = (float)(sums[j] / (double)used);
    vector_release(job->budget, &memory);
    return OCH_OK;
}

static och_code assign_step(void *context, void *reader, void *state, uint32_t item, och_error *err)
{
    struct work *w = context;
    const struct vector_kmeans *job = w->job;
    uint32_t *best = w->best.at;
    float *distance = ((struct vector_memory *)state)->at;
    size_t at = (size_t)item * STEP, count = min_size(STEP, job->count - at);
    (void)reader;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        best[at + i] = UINT32_MAX;
        distance[i] = INFINITY;
    }
    kernel_code_get()->nearest16(w->packed.at, (job->centers + CODE_LISTS - 1) / CODE_LISTS,
                                 (const struct code_query8 *)w->queries.at + at, count,
                                 vector_near_dim(job->dim), 0, best + at, distance);
    for (size_t i = 0; i < count; i++)
        if (best[at + i] >= job->centers) /* sums that overflowed compare with nothing */
            best[at + i] = 0;
    return OCH_OK;
}

static och_code assign(struct work *w, och_error *err)
{
    const struct vector_kmeans *job = w->job;
    TRY(vector_near_pack(job->budget, w->centroids, w->mean.at, job->centers, job->dim,
                         w->packed.at, err));
    return over_rows(w, assign_step, err);
}

/* ---- centres to their rows ---- */

/* A sum is made anew unless most of what is in it stays. */
static bool is_anew(const struct work *w, uint32_t center)
{
    return ((const uint32_t *)w->changed.at)[center] >= ((const uint32_t *)w->counts.at)[center];
}

/* By centre, in ascending order: its rows, or those that came and went.  Returns how many did. */
static uint64_t sort_changes(struct work *w)
{
    const struct vector_kmeans *job = w->job;
    const uint32_t *best = w->best.at;
    uint32_t *held = w->held.at, *counts = w->counts.at, *changed = w->changed.at,
             *first = w->first.at, *entries = w->entries.at, sum = 0;
    uint64_t all = 0;
    memset(counts, 0, job->centers * sizeof(*counts));
    memset(changed, 0, job->centers * sizeof(*changed));
    for (size_t i = 0; i < job->count; i++) {
        counts[best[i]]++;
        if (held[i] == best[i])
            continue;
        changed[best[i]]++;
        if (held[i] != UINT32_MAX)
            changed[held[i]]++;
    }
    for (uint32_t c = 0; c < job->centers; c++) {
        first[c] = sum;
        sum += is_anew(w, c) ? counts[c] : changed[c];
        all += changed[c];
    }
    first[job->centers] = sum;
    for (size_t i = 0; i < job->count; i++) {
        uint32_t to = best[i], from = held[i];
        if (from != to || is_anew(w, to))
            entries[first[to]++] = 2 * (uint32_t)i;
        if (from != to && from != UINT32_MAX && !is_anew(w, from))
            entries[first[from]++] = 2 * (uint32_t)i + 1;
    }
    for (uint32_t c = job->centers; c > 0; c--) /* they have become ends */
        first[c] = first[c - 1];
    first[0] = 0;
    memcpy(held, best, job->count * sizeof(*held));
    return all;
}

static och_code recentre_step(void *context, void *reader, void *state, uint32_t item,
                              och_error *err)
{
    struct work *w = context;
    const struct vector_kmeans *job = w->job;
    const uint32_t *counts = w->counts.at, *first = w->first.at, *entries = w->entries.at;
    size_t dim = job->dim;
    (void)reader;
    (void)state;
    (void)err;
    for (uint32_t c = item * CENTERS; c < job->centers && c < (item + 1) * CENTERS; c++) {
        float *sum = (float *)w->sums.at + c * dim, *centroid = w->centroids + c * dim,
              factor = counts[c] ? 1.0f / (float)counts[c] : 0;
        if (is_anew(w, c))
            memset(sum, 0, dim * sizeof(float));
        for (uint32_t i = first[c]; i < first[c + 1]; i++) {
            const float *row = job->rows + entries[i] / 2 * dim;
            if (entries[i] % 2)
                for (size_t j = 0; j < dim; j++)
                    sum[j] -= row[j];
            else
                for (size_t j = 0; j < dim; j++)
                    sum[j] += row[j];
        }
        for (size_t j = 0; j < dim; j++)
            centroid[j] = sum[j] * factor;
    }
    return OCH_OK;
}

static och_code recentre(struct work *w, bool *ret_changed, och_error *err)
{
    *ret_changed = sort_changes(w) > 0;
    struct vector_job steps = {.pool = w->job->pool,
                               .limits = w->job->limits,
                               .context = w,
                               .run = recentre_step,
                               .items = (w->job->centers + CENTERS - 1) / CENTERS};
    return vector_for(&steps, err);
}

/* An empty centre moves to a row of the largest one.  Is there one that did? */
static bool refill(struct work *w, struct random *random)
{
    const struct vector_kmeans *job = w->job;
    uint32_t *counts = w->counts.at, *best = w->best.at;
    bool moved = false;
    for (uint32_t c = 0; c < job->centers; c++) {
        if (counts[c])
            continue;
        uint32_t largest = 0;
        for (uint32_t other = 1; other < job->centers; other++)
            largest = counts[other] > counts[largest] ? other : largest;
        if (counts[largest] < 2)
            break;
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
            moved = true;
            break;
        }
    }
    return moved;
}

och_code vector_kmeans_run(const struct vector_kmeans *job, float *ret_centroids, och_error *err)
{
    assert(job->count && job->centers && job->count < UINT32_MAX / 2);
    seed_centers(job, ret_centroids);
    if (job->centers > 1 && job->count <= job->centers)
        return OCH_OK;
    struct work w = {.job = job, .centroids = ret_centroids};
    struct random random;
    random_seed(&random, job->seed + 1);
    och_code code = work_init(&w, err);
    if (code == OCH_OK)
        code = find_mean(&w, err);
    if (code == OCH_OK)
        code = over_rows(&w, code_step, err);
    for (uint32_t round = 0; code == OCH_OK && round < job->rounds; round++) {
        bool changed = false;
        code = assign(&w, err);
        if (code == OCH_OK)
            code = recentre(&w, &changed, err);
        if (code == OCH_OK && !refill(&w, &random) && (!changed || job->centers == 1))
            break;
    }
    work_done(&w);
    return code;
}
