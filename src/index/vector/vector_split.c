/* SPDX-License-Identifier: Apache-2.0 */
/* Lists that are far too long are cut, empty ones dropped; what follows keeps the hierarchical order. */
#include "index/vector/vector_internal.h"

#include <math.h>

#define ROUNDS       8
#define SPLIT_FACTOR 8 /* lists this much above the average are split */
#define SPLIT_SAMPLE 64
#define SPLIT_MAX    256

struct splitting {
    struct vector_build *build;
    uint32_t list, rows, pieces, next; /* next: the first number that is free */
    struct vector_memory sample, centroids, packed, norms, batch;
};

static och_code split_centroids(struct splitting *s, och_error *err)
{
    struct vector_build *build = s->build;
    struct budget *budget = build->options.budget;
    uint32_t width = build->width, want = s->pieces * SPLIT_SAMPLE;
    const uint32_t *list_of = build->list_of.at;
    want = want < s->rows ? want : s->rows;
    TRY(vector_alloc(budget, want, (size_t)width * 4, "a sample", &s->sample, err));
    TRY(vector_alloc(budget, s->pieces, (size_t)width * 4, "centroids", &s->centroids, err));
    uint32_t taken = 0, seen = 0;
    for (uint32_t i = 0; i < build->rows.count && taken < want; i++) {
        if (list_of[i] != s->list)
            continue;
        if ((uint64_t)seen * want / s->rows >= taken)
            TRY(vector_read_row(build, build->reader, i,
                                (float *)s->sample.at + (size_t)taken++ * width, err));
        seen++;
    }
    struct vector_kmeans job = {.rows = s->sample.at,
                                .count = taken,
                                .dim = width,
                                .centers = s->pieces,
                                .rounds = ROUNDS,
                                .seed = build->space.seed + s->list,
                                .budget = budget,
                                .pool = build->options.pool,
                                .limits = &build->limits};
    TRY(vector_kmeans_run(&job, s->centroids.at, err));
    TRY(vector_alloc(budget, code_packed_floats(s->pieces, width), 4, "centroids", &s->packed,
                     err));
    TRY(vector_alloc(budget, code_packed_norms(s->pieces), 4, "centroids", &s->norms, err));
    code_pack_f32(s->centroids.at, width, s->pieces, width, s->packed.at, s->norms.at);
    return OCH_OK;
}

static och_code split_assign(struct splitting *s, och_error *err)
{
    enum { ROOM = 64 };
    struct vector_build *build = s->build;
    uint32_t width = build->width, *list_of = build->list_of.at;
    const float *pointers[ROOM];
    uint32_t sources[ROOM], best[ROOM], count = 0;
    float score[ROOM];
    TRY(vector_alloc(build->options.budget, ROOM, (size_t)width * 4, "vectors", &s->batch, err));
    for (uint32_t i = 0; i <= build->rows.count; i++) {
        bool end = i == build->rows.count;
        if (count == ROOM || (end && count)) {
            kernel_code_get()->assign_f32(pointers, count, s->packed.at, s->norms.at, s->pieces,
                                          width, 0, best, score);
            for (uint32_t j = 0; j < count; j++)
                if (best[j] && best[j] < s->pieces) /* the first piece keeps the number */
                    list_of[sources[j]] = s->next + best[j] - 1;
            count = 0;
            TRY(work_check(&build->limits, err));
        }
        if (end || list_of[i] != s->list)
            continue;
        float *row = (float *)s->batch.at + (size_t)count * width;
        TRY(vector_read_row(build, build->reader, i, row, err));
        pointers[count] = row;
        sources[count] = i;
        best[count] = UINT32_MAX;
        score[count++] = INFINITY;
    }
    return OCH_OK;
}

static och_code split_one(struct vector_build *build, uint32_t list, uint32_t rows, uint32_t pieces,
                          uint32_t next, och_error *err)
{
    struct splitting s = {
        .build = build, .list = list, .rows = rows, .pieces = pieces, .next = next};
    och_code code = split_centroids(&s, err);
    if (code == OCH_OK)
        code = split_assign(&s, err);
    struct vector_memory *const all[] = {&s.sample, &s.centroids, &s.packed, &s.norms, &s.batch};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        vector_release(build->options.budget, all[i]);
    return code;
}

/* Numbers without gaps; pieces of one list lie beside it. */
static och_code renumber(struct vector_build *build, uint32_t lists, const uint32_t *parent,
                         och_error *err)
{
    struct budget *budget = build->options.budget;
    uint32_t *list_of = build->list_of.at, next = 0;
    struct vector_memory used = {0}, number = {0}, chain = {0};
    och_code code = vector_alloc(budget, lists, 4, "lists", &used, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, lists, 4, "lists", &number, err);
    if (code == OCH_OK)
        code = vector_alloc(budget, (uint64_t)lists, 4, "lists", &chain, err);
    if (code == OCH_OK) {
        uint32_t *rows = used.at, *to = number.at, *first_child = chain.at;
        for (uint32_t i = 0; i < build->rows.count; i++)
            if (list_of[i] < LIST_OUTSIDE)
                rows[list_of[i]]++;
        /* children of a list are numbered one behind the other: the chain holds where they begin */
        for (uint32_t j = lists; j-- > build->lists;)
            first_child[parent[j - build->lists]] = j;
        uint32_t *cell_first = build->cell_first.at, cell = 0;
        for (uint32_t j = 0; j < build->lists; j++) {
            for (; cell <= build->cells && cell_first[cell] == j; cell++)
                cell_first[cell] = next;
            if (rows[j])
                to[j] = next++;
            for (uint32_t child = first_child[j];
                 child && child < lists && parent[child - build->lists] == j; child++)
                if (rows[child])
                    to[child] = next++;
        }
        for (uint32_t i = 0; i < build->rows.count; i++)
            if (list_of[i] < LIST_OUTSIDE)
                list_of[i] = to[list_of[i]];
        for (; cell <= build->cells; cell++)
            cell_first[cell] = next;
        build->lists = next;
    }
    vector_release(budget, &used);
    vector_release(budget, &number);
    vector_release(budget, &chain);
    return code;
}

och_code vector_split(struct vector_build *build, och_error *err)
{
    struct budget *budget = build->options.budget;
    struct vector_memory counts = {0}, parents = {0};
    const uint32_t *list_of = build->list_of.at;
    uint32_t average = build->coded / build->lists + 1, next = build->lists;
    uint64_t room = (uint64_t)build->lists * 2 + SPLIT_MAX;
    TRY(vector_alloc(budget, build->lists, 4, "lists", &counts, err));
    och_code code = vector_alloc(budget, room, 4, "lists", &parents, err);
    uint32_t *rows = counts.at, *parent = parents.at;
    for (uint32_t i = 0; code == OCH_OK && i < build->rows.count; i++)
        if (list_of[i] < LIST_OUTSIDE)
            rows[list_of[i]]++;
    for (uint32_t j = 0; code == OCH_OK && j < build->lists; j++) {
        if (rows[j] <= (uint64_t)average * SPLIT_FACTOR)
            continue;
        uint32_t pieces = rows[j] / average;
        pieces = pieces < SPLIT_MAX ? pieces : SPLIT_MAX;
        if (next - build->lists + pieces > room)
            break;
        code = split_one(build, j, rows[j], pieces, next, err);
        for (uint32_t p = 1; code == OCH_OK && p < pieces; p++)
            parent[next++ - build->lists] = j;
    }
    if (code == OCH_OK)
        code = renumber(build, next, parent, err);
    vector_release(budget, &counts);
    vector_release(budget, &parents);
    return code;
}

och_code vector_imbalance(const struct vector_build *build, float *ret, och_error *err)
{
    struct vector_memory counts = {0};
    const uint32_t *list_of = build->list_of.at;
    TRY(vector_alloc(build->options.budget, build->lists, 4, "lists", &counts, err));
    uint32_t *rows = counts.at;
    double sum = 0;
    for (uint32_t i = 0; i < build->rows.count; i++)
        if (list_of[i] < LIST_OUTSIDE)
            rows[list_of[i]]++;
    for (uint32_t j = 0; j < build->lists; j++)
        sum += (double)rows[j] * (double)rows[j];
    *ret = (float)(sum * build->lists / ((double)build->coded * (double)build->coded));
    vector_release(build->options.budget, &counts);
    return OCH_OK;
}
