/* SPDX-License-Identifier: Apache-2.0 */
/* How many lists a recall takes, second half: the lists that held the neighbours of the calibration's queries get the rank at which a search
 * comes to them, and the reach that it must allow for not to leave them out. */
#include "index/vector/vector_internal.h"

#include <math.h>
#include <stdlib.h>

#define COST_QUERIES    32 /* of which all lists are looked at */
#define SUPER_MISSED    0.001
#define GAMMA_BETTER    0.95 /* another γ must visit so few of the lists */
#define CELL_NEIGHBOURS (10 / CALIBRATION_SHARE)

/* Of what may be lost, reach loses a share and the budget the rest; where there is no budget, reach loses nearly all.  Shares that cost the fewest
 * lists on word vectors, sentences and made rows alike (docs/decisions/0020). */
static const double reach_share[VECTOR_KS] = {0.02, 0.25};
#define PROBE_SHARE 0.8

#define NEARER_TARGETS 4 /* .8 to .975 */

/* Far off: about as far from the first list as the farthest rows. */
#define FAR_ROWS  0.002
#define FAR_TIMES 0.95f

/* An input's table is taken over if the queries that check it need at most so many times as many lists, or as few. */
#define CARRIED_MOST   1.35
#define CARRIED_WEIGHT (1.0 / 3)

/* Half a neighbour: the k-th of all is as often the one before in half of them. */
#define WEIGHT_FULL 2u
#define WEIGHT_LAST 1u

struct hit {
    uint32_t rank; /* of its list */
    float
        reach[VECTOR_KS]; /* that the list needs, when the threshold is the distance to the k-th */
    float placed
        [VECTOR_PLACED]; /* that it needs when its turn comes, and what reach has fallen by until then */
};
struct reached {
    float reach;
    uint32_t weight, rank;
};

static uint32_t wanted(unsigned k)
{
    return vector_ks[k] / CALIBRATION_SHARE;
}

static uint32_t weight_among(uint32_t want, uint32_t place)
{
    return place + 1 < want ? WEIGHT_FULL : place + 1 == want ? WEIGHT_LAST : 0;
}

static uint32_t weight_of(unsigned k, uint32_t place)
{
    return weight_among(wanted(k), place);
}

static int compare_neighbours(const void *a, const void *b)
{
    const struct vector_neighbour *x = a, *y = b;
    int order = (x->distance > y->distance) - (x->distance < y->distance);
    return order ? order : (x->list > y->list) - (x->list < y->list);
}

static float rms2_of(const struct vector_build *build, uint32_t list)
{
    return load_f32((const uint8_t *)build->list.at + (size_t)list * VECTOR_LIST_SIZE + 12);
}

/* Distances of all lists, and their keys; returns the least of these. */
static float place_query(const struct vector_calibration *c, uint32_t q, float gamma, float *deltas,
                         float *keys)
{
    const struct vector_build *build = c->build;
    uint32_t lists = build->lists, blocks = (lists + CODE_LISTS - 1) / CODE_LISTS;
    kernel_code_get()->coarse16(build->centq.at, blocks,
                                (const struct code_query8 *)c->query8.at + q, build->space.code_dim,
                                deltas);
    float range[2];
    kernel_code_get()->list_keys(build->list.at, deltas, lists, &(struct code_keys){gamma, 0}, keys,
                                 range);
    return range[0];
}

/* How many of some lists come before one with this key. */
static uint32_t rank_of(const float *keys, const uint32_t *lists, size_t count, float own)
{
    uint32_t before = 0;
    for (size_t i = 0; i < count; i++)
        before += keys[lists[i]] < own ? 1u : 0u;
    return before;
}

/* The reach with which a list is not left out: vector_nearest(delta, rms2, reach) = threshold. */
static float reach_needed(float delta, float rms2, float threshold)
{
    float scale = 2 * sqrtf((delta > 0 ? delta : 0) * rms2), over = delta + rms2 - threshold;
    return scale > 0 ? over / scale : over > 0 ? INFINITY : -INFINITY;
}

/* ---- where neighbours were found ---- */

struct ranking {
    struct vector_calibration *c;
    float gamma;
    uint32_t step;    /* one query in so many */
    struct hit *hits; /* [queries x CALIBRATION_NEIGHBOURS] */
    float *firsts;    /* by query: |q-c|² of the list that it comes to first */
};

static och_code keys_begin(void *context, void *state, och_error *err)
{
    const struct vector_build *build = ((struct ranking *)context)->c->build;
    return vector_alloc(build->options.budget, 3 * (uint64_t)round_up(build->lists, CODE_LISTS), 4,
                        "calibration", state, err);
}

static void keys_end(void *context, void *state)
{
    vector_release(((struct ranking *)context)->c->build->options.budget, state);
}

static float kth_distance(const struct vector_calibration *c, uint32_t q, unsigned k)
{
    uint32_t len = ((const uint32_t *)c->heap_len.at)[q], at = wanted(k) < len ? wanted(k) : len;
    return at ? vector_neighbours(c, q)[at - 1].distance : INFINITY;
}

/* What a search knows when the list of this rank has its turn: the distance to the `want`-th of those in lists before.  With fewer of the known ones there
 * it has others, farther off: if a share of all neighbours lies there, the want / share nearest hold so many, and distance grows with the logarithm of
 * their number as it does among the known.  None at all: it takes any list. */
static float threshold_before(const struct vector_neighbour *heap, const struct hit *hits,
                              uint32_t len, uint32_t want, uint32_t rank)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < len; i++)
        if (hits[i].rank < rank && ++seen == want)
            return heap[i].distance;
    if (!seen || len < 2)
        return INFINITY;
    uint32_t middle = len / 2;
    float last = heap[len - 1].distance;
    float doubling = (last - heap[middle - 1].distance) / log2f((float)len / (float)middle);
    float doublings = log2f((float)want / (float)seen);
    return last + doubling * (doublings > 0 ? doublings : 0);
}

/* By place: the fewest lists are visited if reach falls as they come, since a list far down in the order seldom holds what is looked for, and a
 * search that has found all has the lowest threshold. */
static void place_hits(const struct vector_calibration *c, uint32_t q, struct hit *hits,
                       const float *deltas)
{
    const struct vector_build *build = c->build;
    const struct vector_neighbour *heap = vector_neighbours(c, q);
    uint32_t len = ((const uint32_t *)c->heap_len.at)[q];
    for (unsigned k = 0; k < VECTOR_PLACED; k++) {
        uint32_t want = vector_placed_ks[k] / CALIBRATION_SHARE;
        for (uint32_t i = 0; i < len && i < want; i++) {
            uint32_t list = heap[i].list;
            float limit = threshold_before(heap, hits, len, want, hits[i].rank);
            hits[i].placed[k] = reach_needed(deltas[list], rms2_of(build, list), limit) +
                                VECTOR_FALL * vector_doublings(hits[i].rank);
        }
    }
}

static och_code rank_query(void *context, void *reader, void *state, uint32_t item, och_error *err)
{
    const struct ranking *r = context;
    const struct vector_build *build = r->c->build;
    uint32_t lists = build->lists, q = item * r->step, last = VECTOR_NO_LIST;
    const struct vector_neighbour *heap = vector_neighbours(r->c, q);
    float *keys = ((struct vector_memory *)state)->at, *deltas = keys + round_up(lists, CODE_LISTS);
    uint32_t len = ((const uint32_t *)r->c->heap_len.at)[q];
    struct hit *hits = r->hits + (size_t)q * CALIBRATION_NEIGHBOURS, own = {0};
    (void)reader;
    (void)err;
    float first_key = place_query(r->c, q, r->gamma, deltas, keys);
    /* lists behind those of all neighbours need no look */
    float last_key = -INFINITY;
    for (uint32_t i = 0; i < len; i++)
        last_key = keys[heap[i].list] > last_key ? keys[heap[i].list] : last_key;
    uint32_t *near = (uint32_t *)(void *)(deltas + round_up(lists, CODE_LISTS));
    r->firsts[q] = kernel_code_get()->keys_upto(keys, lists, first_key, near) ? deltas[near[0]] : 0;
    size_t near_count = kernel_code_get()->keys_upto(keys, lists, last_key, near);
    for (uint32_t i = 0; i < len; i++) {
        uint32_t list = heap[i].list;
        if (list != last) {
            own.rank = rank_of(keys, near, near_count, keys[list]);
            for (unsigned k = 0; k < VECTOR_KS; k++)
                own.reach[k] =
                    reach_needed(deltas[list], rms2_of(build, list), kth_distance(r->c, q, k));
        }
        last = list;
        hits[i] = own;
    }
    place_hits(r->c, q, hits, deltas);
    return OCH_OK;
}

static och_code rank_queries(struct ranking *r, och_error *err)
{
    struct vector_job job = {.pool = r->c->build->options.pool,
                             .limits = &r->c->build->limits,
                             .context = r,
                             .state_size = sizeof(struct vector_memory),
                             .begin = keys_begin,
                             .run = rank_query,
                             .end = keys_end,
                             .items = r->c->queries / r->step};
    return vector_for(&job, err);
}

/* ---- tables ---- */

struct tables {
    struct ranking ranking;
    uint32_t *found;         /* by rank: weight of the neighbours in reach */
    struct reached *reached; /* of all neighbours, ascending */
    uint32_t reached_len;
    uint64_t reached_weight;
};

/* Neighbours by the rank of their lists, those in reach only; returns the weight of all. */
static uint64_t count_found(struct tables *t, unsigned k, float reach)
{
    const struct vector_calibration *c = t->ranking.c;
    uint64_t total = 0;
    memset(t->found, 0, c->build->lists * sizeof(*t->found));
    for (uint32_t q = 0; q + t->ranking.step <= c->queries; q += t->ranking.step) {
        uint32_t len = ((const uint32_t *)c->heap_len.at)[q];
        const struct hit *hits = t->ranking.hits + (size_t)q * CALIBRATION_NEIGHBOURS;
        for (uint32_t i = 0; i < len && i < wanted(k); i++) {
            total += weight_of(k, i);
            if (hits[i].reach[k] <= reach)
                t->found[hits[i].rank] += weight_of(k, i);
        }
    }
    return total;
}

/* What must be found by lists, so that as much is found when the bound has lost its share. */
static double need_of(float recall)
{
    double target = (double)recall, lost = recall < VECTOR_CAREFUL ? 0.003 : 0.0006,
           most = 1 - 0.3 * (1 - target);
    return target / (1 - lost) < most ? target / (1 - lost) : most;
}

static uint32_t lists_for(const uint32_t *found, uint32_t lists, uint64_t total, double need)
{
    /* as if two more had been looked for: few queries say little about high recalls */
    double sum = 0, most = (double)total, enough = need * (most + 2 * WEIGHT_FULL);
    enough = enough < most ? enough : most;
    for (uint32_t j = 0; j < lists; j++) {
        sum += found[j];
        if (sum >= enough)
            return j + 1;
    }
    return lists;
}

static int compare_reached(const void *a, const void *b)
{
    const struct reached *x = a, *y = b;
    return (x->reach > y->reach) - (x->reach < y->reach);
}

static void sort_reached(struct tables *t, unsigned k)
{
    const struct vector_calibration *c = t->ranking.c;
    t->reached_len = 0;
    t->reached_weight = 0;
    for (uint32_t q = 0; q < c->queries; q++) {
        uint32_t len = ((const uint32_t *)c->heap_len.at)[q];
        const struct hit *hits = t->ranking.hits + (size_t)q * CALIBRATION_NEIGHBOURS;
        for (uint32_t i = 0; i < len && i < wanted(k); i++) {
            t->reached[t->reached_len++] =
                (struct reached){hits[i].reach[k], weight_of(k, i), hits[i].rank};
            t->reached_weight += weight_of(k, i);
        }
    }
    qsort(t->reached, t->reached_len, sizeof(*t->reached), compare_reached);
}

/* The least reach that leaves out no more than a share of the neighbours. */
static float reach_for(const struct tables *t, double lost)
{
    double left = lost * (double)t->reached_weight;
    uint32_t at = t->reached_len;
    while (at > 1 && (left -= t->reached[at - 1].weight) >= 0)
        at--;
    float reach = at ? t->reached[at - 1].reach : 1;
    return reach > 0 ? reach < 100 ? reach : 100 : 0;
}

static void fill_tables(struct tables *t, unsigned k, struct vector_calibrated *ret)
{
    uint32_t lists = t->ranking.c->build->lists;
    sort_reached(t, k);
    for (unsigned target = 0; target < VECTOR_TARGETS; target++) {
        double need = need_of(vector_targets[target]);
        ret->reach[k][target] = reach_for(t, reach_share[k] * (1 - need));
        uint64_t total = count_found(t, k, ret->reach[k][target]);
        ret->budgets[k][target] = lists_for(t->found, lists, total, need);
    }
    for (unsigned target = 0; target < VECTOR_PROBES; target++)
        ret->probe[k][target] = reach_for(t, PROBE_SHARE * (1 - need_of(vector_probes[target])));
}

static uint64_t sort_placed(struct tables *t, unsigned k)
{
    const struct vector_calibration *c = t->ranking.c;
    uint32_t want = vector_placed_ks[k] / CALIBRATION_SHARE;
    uint64_t total = 0;
    t->reached_len = 0;
    for (uint32_t q = 0; q < c->queries; q++) {
        uint32_t len = ((const uint32_t *)c->heap_len.at)[q];
        const struct hit *hits = t->ranking.hits + (size_t)q * CALIBRATION_NEIGHBOURS;
        for (uint32_t i = 0; i < len && i < want; i++) {
            t->reached[t->reached_len++] =
                (struct reached){hits[i].placed[k], weight_among(want, i), hits[i].rank};
            total += weight_among(want, i);
        }
    }
    qsort(t->reached, t->reached_len, sizeof(*t->reached), compare_reached);
    return total;
}

/* The least reach by place with which as much is found as must be, in the nearest `most` lists. */
static float placed_for(const struct tables *t, uint64_t total, double most, double need)
{
    double sum = 0, all = (double)total, enough = need * (all + 2 * WEIGHT_FULL);
    float reach = 0;
    enough = enough < all ? enough : all;
    for (uint32_t i = 0; i < t->reached_len && sum < enough; i++) {
        if (t->reached[i].rank >= most || t->reached[i].reach == INFINITY)
            continue;
        sum += t->reached[i].weight;
        reach = t->reached[i].reach;
    }
    return reach > -INFINITY ? reach : 0; /* the first lists hold all */
}

/* Lists that a search may visit by place: for few neighbours as many as for the fewest of the table. */
static double placed_most(const struct vector_calibrated *table, unsigned k, unsigned target)
{
    double few = log(table->budgets[0][target]), many = log(table->budgets[1][target]);
    return VECTOR_FARTHEST * exp(vector_placed_ks[k] > vector_ks[0] ? many : few);
}

static void fill_placed(struct tables *t, struct vector_calibrated *ret)
{
    ret->fall = VECTOR_FALL;
    for (unsigned k = 0; k < VECTOR_PLACED; k++) {
        uint64_t total = sort_placed(t, k);
        for (unsigned target = 0; target < VECTOR_TARGETS; target++)
            ret->placed[k][target] =
                placed_for(t, total, placed_most(ret, k, target), need_of(vector_targets[target]));
    }
    /* about the same for all recalls; so few neighbours say little about one of them */
    ret->nearer = 0;
    for (unsigned target = 0; target < NEARER_TARGETS; target++)
        ret->nearer += (ret->placed[0][target] - ret->placed[1][target]) / NEARER_TARGETS;
}

/* Of lists that are kept, what their input knows of few neighbours: the queries of a merge say too little about that. */
static void keep_nearer(const struct vector_build *build, struct vector_calibrated *ret)
{
    if (build->base != VECTOR_NO_INPUT && build->options.inputs[build->base]->nearer != 0)
        ret->nearer = build->options.inputs[build->base]->nearer;
}

/* By a quarter of the queries. */
static och_code choose_gamma(struct tables *t, struct vector_calibrated *ret, och_error *err)
{
    static const float gammas[] = {0, 0.25f, 0.5f};
    uint32_t lists = t->ranking.c->build->lists, best = UINT32_MAX;
    t->ranking.step = t->ranking.c->queries >= 64 ? 4 : 1;
    for (size_t g = COUNT_OF(gammas); g-- > 0;) {
        t->ranking.gamma = gammas[g];
        TRY(rank_queries(&t->ranking, err));
        uint64_t total = count_found(t, 0, INFINITY);
        uint32_t at_975 = lists_for(t->found, lists, total, need_of(0.975f));
        /* parts of one collection are searched together: they should agree unless it costs something */
        if (best != UINT32_MAX && at_975 > best * GAMMA_BETTER)
            continue;
        best = at_975;
        ret->gamma = gammas[g];
    }
    t->ranking.gamma = ret->gamma;
    t->ranking.step = 1;
    return rank_queries(&t->ranking, err);
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static float far_from(const struct tables *t)
{
    uint32_t queries = t->ranking.c->queries;
    float *firsts = t->ranking.firsts;
    qsort(firsts, queries, sizeof(*firsts), compare_floats);
    float far = firsts[queries - 1 - (uint32_t)(FAR_ROWS * queries)];
    return far > 0 ? FAR_TIMES * far : 0; /* by 8 bits, a distance of 0 may come out below it */
}

/* How many of the nearest cells hold the lists of nearly all neighbours. */
static och_code count_cells(struct vector_calibration *c, uint32_t *ret_cells, och_error *err)
{
    const struct vector_build *build = c->build;
    const uint32_t *first = build->cell_first.at;
    uint32_t cells = build->cells, blocks = (cells + CODE_LISTS - 1) / CODE_LISTS;
    struct vector_memory distances = {0}, hits = {0}, near = {0};
    *ret_cells = 0;
    if (!build->super.at)
        return OCH_OK;
    TRY(vector_alloc(build->options.budget, (uint64_t)blocks * CODE_LISTS, 4, "calibration",
                     &distances, err));
    och_code code = vector_alloc(build->options.budget, cells, 4, "calibration", &hits, err);
    if (code == OCH_OK)
        code = vector_alloc(build->options.budget, cells, 4, "calibration", &near, err);
    uint32_t *at_rank = hits.at, total = 0, sum = 0;
    float *far = distances.at;
    for (uint32_t q = 0; code == OCH_OK && q < c->queries; q++) {
        const struct vector_neighbour *heap = vector_neighbours(c, q);
        uint32_t len = ((const uint32_t *)c->heap_len.at)[q];
        kernel_code_get()->coarse16(build->super.at, blocks,
                                    (const struct code_query8 *)c->query8.at + q,
                                    build->space.code_dim, far);
        for (uint32_t j = cells; j < blocks * CODE_LISTS; j++)
            far[j] = INFINITY;
        for (uint32_t i = 0; i < len && i < CELL_NEIGHBOURS; i++) { /* sorted by now */
            uint32_t cell = 0;
            while (cell + 1 < cells && first[cell + 1] <= heap[i].list)
                cell++;
            size_t near_count = kernel_code_get()->keys_upto(far, cells, far[cell], near.at);
            at_rank[rank_of(far, near.at, near_count, far[cell])]++;
            total++;
        }
    }
    for (uint32_t rank = 0; code == OCH_OK && rank < cells; rank++) {
        sum += at_rank[rank];
        *ret_cells = rank + 1;
        if ((double)sum >= (1 - SUPER_MISSED) * total)
            break;
    }
    vector_release(build->options.budget, &distances);
    vector_release(build->options.budget, &hits);
    vector_release(build->options.budget, &near);
    return code;
}

/* ---- what an input's calibration says ---- */

/* The share of the rows that an input has, and with it of the neighbours; below the fewest that its table was made for, that falls too fast. */
static double carried_share(const struct vector_build *build, uint32_t k)
{
    const struct vector_index *base = build->options.inputs[build->base];
    double share = (double)base->coded / build->coded;
    return k > vector_ks[0] ? share : 1;
}

/* An index of a share of the rows, with these lists, was asked for its part of the neighbours. */
static double carried_lists(const struct vector_build *build, uint32_t k, float recall)
{
    const struct vector_index *base = build->options.inputs[build->base];
    return vector_budget_share(base, k, carried_share(build, k), recall) * build->lists /
           base->lists;
}

/* How many times as many lists the queries need, on the average of figures that do not say much one by one. */
static double compare_carried(struct tables *t)
{
    static const float targets[] = {0.9f, 0.95f};
    const struct vector_build *build = t->ranking.c->build;
    double sum = 0;
    unsigned compared = 0;
    for (unsigned k = 0; k < VECTOR_KS; k++) {
        uint64_t total = count_found(t, k, INFINITY);
        for (size_t i = 0; i < COUNT_OF(targets); i++, compared++)
            sum += log(lists_for(t->found, build->lists, total, need_of(targets[i])) /
                       carried_lists(build, vector_ks[k], targets[i]));
    }
    return exp(sum / compared);
}

/* The reach by place that an input's table has for its part of the neighbours. */
static float carried_placed(const struct vector_build *build, unsigned k, float recall)
{
    double own = 1 + carried_share(build, vector_placed_ks[k]) * (vector_placed_ks[k] - 1);
    return vector_placed_reach(build->options.inputs[build->base], own, recall);
}

/* By how much reach by place is off, on the average; beside as many lists as these queries take, as the input's was measured beside its own. */
static float compare_placed(struct tables *t)
{
    static const unsigned targets[] = {1, 2, 3}; /* few queries say little about more */
    const struct vector_build *build = t->ranking.c->build;
    uint32_t most[VECTOR_KS][COUNT_OF(targets)];
    float sum = 0, compared = 0;
    for (unsigned k = 0; k < VECTOR_KS; k++) {
        uint64_t total = count_found(t, k, INFINITY);
        for (size_t i = 0; i < COUNT_OF(targets); i++)
            most[k][i] =
                lists_for(t->found, build->lists, total, need_of(vector_targets[targets[i]]));
    }
    for (unsigned k = 1; k < VECTOR_PLACED; k++) { /* and of the two nearest */
        uint64_t total = sort_placed(t, k);
        for (size_t i = 0; i < COUNT_OF(targets); i++, compared++) {
            float recall = vector_targets[targets[i]];
            sum += placed_for(t, total, VECTOR_FARTHEST * most[k - 1][i], need_of(recall)) -
                   carried_placed(build, k, recall);
        }
    }
    return sum / compared;
}

static void fill_carried(struct tables *t, double times, struct vector_calibrated *ret)
{
    const struct vector_build *build = t->ranking.c->build;
    const struct vector_index *base = build->options.inputs[build->base];
    for (unsigned k = 0; k < VECTOR_KS; k++) {
        double own = 1 + carried_share(build, vector_ks[k]) * (vector_ks[k] - 1);
        for (unsigned target = 0; target < VECTOR_TARGETS; target++) {
            double lists = times * carried_lists(build, vector_ks[k], vector_targets[target]);
            ret->budgets[k][target] =
                lists < build->lists ? (uint32_t)ceil(lists - 1e-6) : build->lists;
            ret->reach[k][target] = vector_reach(base, own, vector_targets[target]);
        }
        for (unsigned target = 0; target < VECTOR_PROBES; target++)
            ret->probe[k][target] = vector_probe_reach(base, own, vector_probes[target]);
    }
    float off = (float)CARRIED_WEIGHT * compare_placed(t);
    for (unsigned k = 1; k < VECTOR_PLACED; k++)
        for (unsigned target = 0; target < VECTOR_TARGETS; target++)
            ret->placed[k][target] = carried_placed(build, k, vector_targets[target]) + off;
    ret->fall = base->fall;
    ret->nearer = base->nearer;
    ret->far = far_from(t);
    ret->far = base->far > ret->far ? base->far : ret->far;
    ret->super_cells = base->super_cells < build->cells ? base->super_cells : build->cells;
}

/* The input's table, a third of the way to what the queries say: so many of them are off by a seventh for chance alone. */
static och_code carry(struct tables *t, struct vector_calibrated *ret, och_error *err)
{
    struct vector_build *build = t->ranking.c->build;
    const struct vector_index *base = build->options.inputs[build->base];
    ret->gamma = t->ranking.gamma = base->gamma;
    t->ranking.step = 1;
    TRY(rank_queries(&t->ranking, err));
    double times = compare_carried(t);
    build->disagrees = times > CARRIED_MOST || times < 1 / CARRIED_MOST;
    times = pow(times, CARRIED_WEIGHT);
    fill_carried(t, times, ret);
    double lists_098 = times * base->lists_098 * build->lists / base->lists;
    build->lists_098 = lists_098 < build->lists ? (uint32_t)lround(lists_098) : build->lists;
    return OCH_OK;
}

och_code vector_calibration_finish(struct vector_calibration *c, struct vector_calibrated *ret,
                                   och_error *err)
{
    struct budget *budget = c->build->options.budget;
    uint32_t lists = c->build->lists;
    uint64_t neighbours = (uint64_t)c->queries * CALIBRATION_NEIGHBOURS;
    struct vector_memory memory[4] = {0};
    const struct {
        uint64_t count;
        size_t size;
    } wants[] = {{neighbours, sizeof(struct hit)},
                 {neighbours, sizeof(struct reached)},
                 {lists, sizeof(uint32_t)},
                 {c->queries, sizeof(float)}};
    och_code code = OCH_OK;
    for (size_t i = 0; i < COUNT_OF(wants) && code == OCH_OK; i++)
        code = vector_alloc(budget, wants[i].count, wants[i].size, "calibration", &memory[i], err);
    for (uint32_t q = 0; q < c->queries; q++)
        qsort(vector_neighbours(c, q), ((const uint32_t *)c->heap_len.at)[q],
              sizeof(struct vector_neighbour), compare_neighbours);
    struct tables t = {.ranking = {.c = c, .hits = memory[0].at, .firsts = memory[3].at},
                       .reached = memory[1].at,
                       .found = memory[2].at};
    bool carried = c->build->carried;
    if (code == OCH_OK)
        code = carried ? carry(&t, ret, err) : choose_gamma(&t, ret, err);
    if (code == OCH_OK && !carried) {
        uint64_t total = count_found(&t, 0, INFINITY);
        c->build->lists_098 = lists_for(t.found, lists, total, need_of(0.98f));
        for (unsigned k = 0; k < VECTOR_KS; k++)
            fill_tables(&t, k, ret);
        fill_placed(&t, ret);
        keep_nearer(c->build, ret);
        ret->far = far_from(&t);
        code = count_cells(c, &ret->super_cells, err);
    }
    for (size_t i = 0; i < COUNT_OF(wants); i++)
        vector_release(budget, &memory[i]);
    return code;
}
