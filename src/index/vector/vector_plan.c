/* SPDX-License-Identifier: Apache-2.0 */
/* From a recall to lists, and from the number of survivors to the way of searching. */
#include "index/vector/vector_internal.h"

#include <math.h>

static double budget_at(const struct vector_index *index, unsigned k, float recall)
{
    double lists[VECTOR_TARGETS];
    for (unsigned t = 0; t < VECTOR_TARGETS; t++) {
        lists[t] = load_u32(index->budgets + 4 * (k * VECTOR_TARGETS + t));
        lists[t] = lists[t] >= 1 ? lists[t] : 1;
    }
    if (recall <= vector_targets[0])
        return lists[0];
    unsigned t = 1;
    while (t + 1 < VECTOR_TARGETS && recall > vector_targets[t])
        t++;
    /* linear in log(1 - recall) against log(lists), beyond the last target as well */
    double from = log(1 - (double)vector_targets[t - 1]), to = log(1 - (double)vector_targets[t]),
           at = log(recall < 0.9999f ? 1 - (double)recall : 1e-4);
    double share = (at - from) / (to - from);
    return exp(log(lists[t - 1]) + share * (log(lists[t]) - log(lists[t - 1])));
}

static double between(const float *targets, unsigned count, const uint8_t *values, float recall)
{
    unsigned t = 1;
    while (t + 1 < count && recall > targets[t])
        t++;
    double from = log(1 - (double)targets[t - 1]), to = log(1 - (double)targets[t]),
           own = log(recall < 0.9999f ? 1 - (double)recall : 1e-4);
    double low = (double)load_f32(values + 4 * (t - 1)), high = (double)load_f32(values + 4 * t);
    double share = (own - from) / (to - from);
    return low + (share > 0 ? share : 0) * (high - low);
}

#define REACH_LEAST 0.7 /* of that among the 100 nearest */

/* Linear in log k: the nearer a row, the farther it reaches. */
static double at_k(double few, double many, double k)
{
    double share = log(k / vector_ks[0]) / log((double)vector_ks[1] / vector_ks[0]);
    double reach = few + share * (many - few);
    return reach > REACH_LEAST * many ? reach : REACH_LEAST * many;
}

float vector_reach(const struct vector_index *index, double k, float recall)
{
    const uint8_t *at = index->budgets + VECTOR_REACH_AT - VECTOR_BUDGETS_AT;
    double few = between(vector_targets, VECTOR_TARGETS, at, recall),
           many = between(vector_targets, VECTOR_TARGETS, at + 4 * VECTOR_TARGETS, recall);
    return (float)(many > 0 ? at_k(few, many, k) : few); /* 0: written before it was measured */
}

float vector_probe_reach(const struct vector_index *index, double k, float recall)
{
    const uint8_t *at = index->budgets + VECTOR_PROBE_AT - VECTOR_BUDGETS_AT;
    double few = between(vector_probes, VECTOR_PROBES, at, recall),
           many = between(vector_probes, VECTOR_PROBES, at + 4 * VECTOR_PROBES, recall);
    return many > 0 ? (float)at_k(few, many, k) : vector_reach(index, k, recall);
}

/* A reach by place, of 10 or 50. */
static double placed_at(const struct vector_index *index, unsigned k, float recall)
{
    const uint8_t *at = index->budgets + VECTOR_PLACED_AT - VECTOR_BUDGETS_AT;
    uint8_t values[4 * VECTOR_TARGETS];
    for (unsigned t = 0; t < VECTOR_TARGETS; t++) {
        int16_t whole = (int16_t)load_u16(at + 2 * (k * VECTOR_TARGETS + t));
        float reach = whole / VECTOR_PLACED_UNIT;
        memcpy(values + 4 * t, &reach, sizeof reach);
    }
    return between(vector_targets, VECTOR_TARGETS, values, recall);
}

#define FEW_FALL \
    0.8 /* below the calibrated ones lists fall a little more slowly: by recall of one to eight parts */

/* Any number of neighbours: on the line through the calibrated ones in log(k), log(lists); above them more slowly. */
static double budget_of(const struct vector_index *index, double k, float recall)
{
    double lists = budget_at(index, 0, recall), more = budget_at(index, 1, recall);
    more = more > lists ? more : lists;
    double share = log(k / vector_ks[0]) / log((double)vector_ks[1] / vector_ks[0]);
    share = share < 0 ? FEW_FALL * share : share < 1 ? share : 1;
    lists = exp(log(lists) + share * (log(more) - log(lists)));
    if (k > vector_ks[1])
        lists *= pow(k / vector_ks[1], 0.3);
    return lists > 1 ? lists : 1;
}

float vector_placed_reach(const struct vector_index *index, double k, float recall)
{
    double few = placed_at(index, 0, recall), share = log(k / 10) / log(5);
    if (k < 10)
        return (float)(few - share * (double)index->nearer);
    return (float)(few + (placed_at(index, 1, recall) - few) * share);
}

float vector_placed_farther(const struct vector_index *index, double times)
{
    double lists = budget_at(index, 0, 0.99f) / budget_at(index, 0, 0.9f),
           reach = placed_at(index, 0, 0.99f) - placed_at(index, 0, 0.9f);
    double slope = lists > 1.1 && reach > 0 ? reach / log2(lists) : 0;
    return (float)log2(times) * fmaxf((float)slope, index->fall);
}

double vector_budget_share(const struct vector_index *index, uint32_t k, double share, float recall)
{
    /* those of the k that lie here rank among this part's rows as the nearest of so many do */
    double own = 1 + share * ((k > vector_ks[0] ? k : vector_ks[0]) - 1),
           lists = budget_of(index, own, recall);
    return lists < index->lists ? lists : index->lists;
}

uint32_t vector_budget(const struct vector_index *index, uint32_t k, float recall)
{
    double ceiling = ceil(budget_of(index, k > vector_ks[0] ? k : vector_ks[0], recall) - 1e-6);
    return ceiling < index->lists ? (uint32_t)ceiling : index->lists;
}

/* Per survivor, whatever the way, its bit is found; before, the query is placed among the codes. */
#define PREPARE_NS 4000.0
#define WORD_NS    0.6 /* of 64 rows' bits */

/* Of what calibration says, which draws survivors at random; beside a region that passes lists vary more: recall .9813 -> .9888 for a target of .99
 * at a tenth of 40,000 x 32, .9937 -> .9967 and 28 % more rows scanned where they are random.  (0.4: .9952 and .9980, 73 % more.) */
#define REACH_FALL 0.7f

/* 3 misses one neighbour in a thousand, which reads after writes should not. */
#define FRAME_EPSILON 4

struct vector_plan vector_plan_make(const struct vector_index *index, uint32_t k, float recall,
                                    uint64_t survivors)
{
    uint32_t half = k / 2 > 4 ? k / 2 : 4;
    bool careful = recall >= VECTOR_CAREFUL || survivors < index->coded || index->lists == 1;
    struct vector_plan plan = {.k = k,
                               .keep = careful && k > half ? 2 * k : k + half,
                               .rerank_max = 8 * (k < 1u << 20 ? k : 1u << 20) + 64,
                               .epsilon = careful ? 1.9f : 1.5f,
                               .reach = index->lists > 1 ? vector_reach(index, k, recall) : 0};
    struct vector_costs costs = vector_costs_of(index->code_dim);
    double n = index->coded, s = survivors < index->coded ? (double)survivors : n;
    double touched = n * (1 - pow(1 - s / n, CODE_BLOCK_ROWS));
    double prepare = PREPARE_NS + index->code_dim * 8.0, coarse = index->lists * costs.coarse;
    double exact = s * costs.exact, codes8 = prepare + n / 64 * WORD_NS + s * costs.code8;
    double full =
        prepare + coarse + touched * costs.code1 + (100 + 64000.0 / index->code_dim) * costs.code8;
    double again =
        plan.keep * costs.exact; /* every other way ends with the stored vectors of so many */
    // what has no lists has no rows in a row either: who searches it knows when to look at them all
    if (index->list && exact < codes8 + again && exact < full + again) {
        plan.mode = VECTOR_EXACT;
        return plan;
    }
    if (index->lists == 1) {
        plan.epsilon = index->list ? 3 : FRAME_EPSILON;
        plan.rerank_max += 192;
        plan.mode = codes8 < full ? VECTOR_CODES8 : index->list ? VECTOR_FULL : VECTOR_CODES1;
        return plan;
    }
    if (s >= 0.8 * n) {
        double lists = vector_budget(index, k, recall) * (n / s);
        plan.mode = VECTOR_BUDGET;
        if (index->fall > 0) {
            plan.fall = index->fall;
            plan.reach = vector_placed_reach(index, k, recall) + plan.fall * (float)log2(n / s);
            lists *= VECTOR_FARTHEST;
        }
        plan.lists = lists < index->lists ? (uint32_t)ceil(lists) : index->lists;
        return plan;
    }
    double probe = prepare + coarse + 0.5 * full;
    plan.reach = vector_probe_reach(index, k, recall);
    plan.reach_fall = REACH_FALL * (plan.reach - vector_probe_reach(index, 10.0 * k, recall));
    plan.reach_least = vector_probe_reach(index, k * n / s, recall);
    plan.mode = codes8 <= probe ? VECTOR_CODES8 : VECTOR_PROBE;
    return plan;
}

void vector_plan_effort(struct vector_plan *plan, const struct vector_index *index, float effort)
{
    if (!(effort > 1) || index->lists == 1)
        return;
    if (isinf(effort)) {
        plan->mode = plan->mode >= VECTOR_CODES8 ? plan->mode : VECTOR_FULL;
        plan->epsilon = 3;
        plan->rerank_max += 192;
        return;
    }
    double lists = ceil(plan->lists * (double)effort);
    plan->lists = lists < index->lists ? (uint32_t)lists : index->lists;
    plan->epsilon = plan->epsilon < 1.9f ? 1.9f : plan->epsilon;
    if (plan->fall > 0) {
        plan->reach += vector_placed_farther(index, effort);
        return;
    }
    /* queries far off the data see neighbours reach out in directions that the data's own never take */
    plan->reach *= 1 + 0.25f * log2f(effort);
    plan->reach_least *= 1 + 0.25f * log2f(effort);
}
