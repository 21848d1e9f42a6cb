/* SPDX-License-Identifier: Apache-2.0 */
/* max_distance and unlike hits, in every space, over parts and tail: what a plain evaluation of the rule gives. */
#define STACK_QUERY
#define STACK_COMPACT
#include "support/stack.h"

#include "../unit/query/asking.h"
#include "compact/compact_internal.h"

#include "kernel/kernel.h"

#define ROWS 700
#define DIM  12
#define K    15

static float distance_of(const char *space, const float *a, const float *b)
{
    const struct kernel *kernel = kernel_get();
    if (space[0] == 'l')
        return kernel->l2_f32(a, b, DIM);
    float dot = kernel->dot_f32(a, b, DIM);
    if (space[0] == 'i')
        return kernel_ip_distance(dot);
    return kernel_cosine_distance(dot, kernel->dot_f32(a, a, DIM), kernel->dot_f32(b, b, DIM));
}

struct near {
    uint32_t row;
    float distance, nearest;
    bool taken;
};
static int by_distance(const void *a, const void *b)
{
    const struct near *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* The answer by the rule, row numbers one after another; -1 ends it. */
static void expected(const char *space, const float *vectors, const float *query,
                     const struct plan *plan, int ret[ROWS + 1])
{
    static struct near all[ROWS];
    uint32_t count = ROWS, made = 0;
    for (uint32_t i = 0; i < ROWS; i++)
        all[i] = (struct near){i, distance_of(space, query, vectors + (size_t)i * DIM), INFINITY,
                               i % 100 >= 80}; /* those the filter leaves out */
    qsort(all, ROWS, sizeof(*all), by_distance);
    uint32_t room = plan->mmr_candidates > plan->k ? plan->mmr_candidates : plan->k, kept = 0;
    for (uint32_t i = 0; i < ROWS && kept < room; i++) {
        if (!all[i].taken && (!plan->has_max || all[i].distance <= plan->max_distance))
            all[kept++] = all[i];
    }
    count = kept;
    while (made < plan->k && made < count) {
        struct near *best = NULL;
        double least = 0;
        for (uint32_t i = 0; i < count; i++) {
            double lambda = plan->mmr_candidates ? (double)plan->mmr_lambda : 1,
                   value = (double)all[i].distance;
            if (made && lambda < 1)
                value = lambda * value - (1 - lambda) * (double)all[i].nearest;
            else if (made)
                value *= lambda;
            if (all[i].taken || (best && value >= least))
                continue;
            best = &all[i];
            least = value;
        }
        best->taken = true;
        ret[made++] = (int)best->row;
        for (uint32_t i = 0; i < count; i++) {
            float d = distance_of(space, vectors + (size_t)best->row * DIM,
                                  vectors + (size_t)all[i].row * DIM);
            all[i].nearest = d < all[i].nearest ? d : all[i].nearest;
        }
    }
    ret[made] = -1;
}

static void check(struct stack *s, uuid id, const char *space, const float *vectors,
                  struct plan plan)
{
    struct arena arena;
    struct query_result result;
    int rows[ROWS + 1];
    struct json_value value;
    struct json_fault fault;
    struct filter_node *filter;
    struct plan again;
    struct buf bytes;
    arena_init(&arena, &s->budget, 0);
    buf_init(&bytes, BUF_MAX_NONE);
    OK(json_read(SLICE("{\"n\":{\"$lt\":80}}"), NULL, &arena, &value, &fault, err));
    OK(filter_parse_where(&value, &arena, &filter, err));
    plan.kind = PLAN_QUERY;
    plan.collection = id;
    plan.limit = PLAN_NO_LIMIT;
    plan.vector_count = 1;
    plan.dimension = DIM;
    plan.recall = 1;
    plan.filter = filter;
    plan_encode(&plan, &bytes);
    OK(plan_decode(buf_view(&bytes), &arena, &again, err));
    OK(query_run(s->query, &again, NULL, &arena, &result, err));
    expected(space, vectors, plan.vectors, &plan, rows);
    const struct query_hits *hits = &result.hits[0];
    for (size_t i = 0; i < hits->count; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "r%d", rows[i]);
        if (rows[i] < 0 || !slice_equal(hits->rows[i].record.id, slice_of(name)))
            fail_msg("%s, k %u, lambda %g: hit %zu is %.*s instead of %s", space, plan.k,
                     (double)plan.mmr_lambda, i, SLICE_ARG(hits->rows[i].record.id), name);
        assert_true(hits->rows[i].distance ==
                    distance_of(space, plan.vectors, vectors + (size_t)rows[i] * DIM));
    }
    assert_int_equal(rows[hits->count], -1);
    query_result_done(&result);
    buf_done(&bytes);
    arena_done(&arena);
}

static void check_space(const char *space)
{
    static const float lambdas[] = {0, 0.25f, 0.5f, 0.9f, 1};
    struct stack s = {.threads = 2};
    float *vectors = asking_clusters(ROWS, DIM, 5, 3), *queries = asking_clusters(6, DIM, 5, 99);
    stack_open(&s);
    uuid id = stack_collection(&s, "c", space);
    asking_write(&s, id, vectors, DIM, 0, 300, BATCH_ADD);
    OK(compact_flush(s.compactor, &id, 1, false, err));
    asking_write(&s, id, vectors, DIM, 300, 250, BATCH_ADD);
    OK(compact_flush(s.compactor, &id, 1, false, err));
    asking_write(&s, id, vectors, DIM, 550, ROWS - 550, BATCH_ADD);
    for (uint32_t q = 0; q < 6; q++) {
        const float *query = queries + (size_t)q * DIM;
        float middle = distance_of(space, query, vectors + (size_t)(q * 31 + 5) * DIM);
        for (size_t l = 0; l < COUNT_OF(lambdas); l++) {
            check(&s, id, space, vectors,
                  (struct plan){.vectors = query,
                                .k = K,
                                .mmr_lambda = lambdas[l],
                                .mmr_candidates = 20 + 40 * (uint32_t)l});
            check(&s, id, space, vectors,
                  (struct plan){.vectors = query,
                                .k = 1 + 100 * (uint32_t)l,
                                .mmr_lambda = lambdas[l],
                                .mmr_candidates = 1,
                                .has_max = true,
                                .max_distance = middle});
        }
        check(&s, id, space, vectors,
              (struct plan){.vectors = query, .k = 200, .has_max = true, .max_distance = middle});
        check(&s, id, space, vectors,
              (struct plan){.vectors = query, .k = 200, .has_max = true, .max_distance = -1e30f});
        check(&s, id, space, vectors, (struct plan){.vectors = query, .k = 200});
    }
    stack_done(&s);
    free(vectors);
    free(queries);
}

static void hits_by_l2_are_those_of_the_rule(void **state)
{
    (void)state;
    check_space("l2");
}
static void hits_by_cosine_are_those_of_the_rule(void **state)
{
    (void)state;
    check_space("cosine");
}
static void hits_by_inner_product_are_those_of_the_rule(void **state)
{
    (void)state;
    check_space("ip");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hits_by_l2_are_those_of_the_rule),
        cmocka_unit_test(hits_by_cosine_are_those_of_the_rule),
        cmocka_unit_test(hits_by_inner_product_are_those_of_the_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
