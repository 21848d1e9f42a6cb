/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the nearest rows a query answers with: those within a distance, and among them, if asked for, some that are unlike each other.
 *
 * Source: Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents and producing summaries", SIGIR 1998,
 * with distances in place of similarities, so that it means the same in every space: of the rows left the one is taken next for which
 * lambda * distance(query, row) - (1 - lambda) * (least distance to a row taken before) is least, among equals the nearest to the query. */
#include "query/query_knn.h"

#include <math.h>

struct choice {
    struct run *run;
    struct topk *top;
    const float **vectors; /* of the candidates */
    float *nearest;        /* distance to the nearest row taken, +inf: none yet */
    struct topk_item *taken;
    size_t count;
};

static och_code read_vectors(struct choice *c, struct lookup *lookup, och_error *err)
{
    struct run *run = c->run;
    for (size_t i = 0; i < c->top->len; i++) {
        const struct topk_item *item = &c->top->items[i];
        bool in_tail = item->source == view_part_count(run->view);
        struct view_place place = {in_tail ? VIEW_NO_PART : item->source, (uint32_t)item->row};
        struct record record = {0};
        if (i % 256 == 0)
            TRY(work_check(run->limits, err));
        TRY(view_read(run->view, place, &lookup->reads, RECORD_VECTOR, &record, err));
        c->vectors[i] = record.vector;
        c->nearest[i] = INFINITY;
    }
    return OCH_OK;
}

/* What is least is taken; before the first one nearness alone decides. */
static double merit(const struct choice *c, size_t i)
{
    double lambda = (double)c->run->plan->mmr_lambda;
    double near = (double)c->top->items[i].distance;
    if (!c->count)
        return near;
    return lambda * near - (1 - lambda) * (double)c->nearest[i];
}

/* The candidate taken next; they stand nearest first, so of equals the nearest. */
static size_t next_one(const struct choice *c)
{
    size_t best = SIZE_MAX;
    double least = 0;
    for (size_t i = 0; i < c->top->len; i++) {
        if (!c->vectors[i])
            continue;
        double value = merit(c, i);
        if (best == SIZE_MAX || value < least) {
            best = i;
            least = value;
        }
    }
    return best;
}

static och_code choose(struct choice *c, och_error *err)
{
    uint32_t wanted = c->run->plan->k;
    while (c->count < wanted) {
        size_t next = next_one(c);
        if (next == SIZE_MAX)
            break;
        const float *vector = c->vectors[next];
        c->taken[c->count++] = c->top->items[next];
        c->vectors[next] = NULL;
        TRY(work_check(c->run->limits, err));
        for (size_t i = 0; i < c->top->len && c->count < wanted; i++) {
            if (!c->vectors[i])
                continue;
            float distance = knn_distance(c->run, vector, c->vectors[i]);
            if (distance < c->nearest[i])
                c->nearest[i] = distance;
        }
    }
    return OCH_OK;
}

och_code knn_choose(struct run *run, struct topk *top, och_error *err)
{
    const struct plan *plan = run->plan;
    while (plan->has_max && top->len && !(top->items[top->len - 1].distance <= plan->max_distance))
        top->len--;
    if (!plan->mmr_candidates || !top->len)
        return OCH_OK;
    struct choice c = {.run = run, .top = top};
    c.vectors = ARENA_ARRAY(run->arena, const float *, top->len);
    c.nearest = ARENA_ARRAY(run->arena, float, top->len);
    c.taken = ARENA_ARRAY(run->arena, struct topk_item, top->len);
    if (!c.vectors || !c.nearest || !c.taken)
        return FAIL_NO_MEMORY(err, "a query's results");
    struct lookup lookup;
    lookup_init(&lookup, run);
    och_code code = read_vectors(&c, &lookup, err);
    if (code == OCH_OK)
        code = choose(&c, err);
    lookup_done(&lookup);
    top->items = c.taken;
    top->len = c.count;
    return code;
}
