/* SPDX-License-Identifier: Apache-2.0 */
/* What recall is asked for is about what is found, no matter how many neighbours: calibration measures 2, 10 and 100. */
#include "unit/index/vector_fixture.h"

#define DIM      16
#define ROWS     30000
#define CLUSTERS 10
#define QUERIES  800
#define K_MOST   100

static const uint32_t ks[] = {1, 2, 4, 10, 30, 100};
static const float targets[] = {0.8f, 0.9f, 0.95f};

static void build(struct fixture *f)
{
    *f = (struct fixture){.rows = ROWS, .dim = DIM, .metric = METRIC_COSINE, .flat_rows = 100};
    f->vectors = malloc(sizeof(float) * ROWS * DIM);
    assert_non_null(f->vectors);
    fixture_clusters(f->vectors, ROWS, DIM, CLUSTERS, 0.8f, 3, 4);
    fixture_build(f);
    assert_true(f->index.lists > 100 && f->index.fall > 0);
}

/* Share of the k nearest that are found, less the target, by k on the average of the targets. */
static void measure(const struct fixture *f, double *ret_off)
{
    float *queries = malloc(sizeof(float) * QUERIES * DIM);
    struct near *truth = malloc(sizeof(*truth) * K_MOST), *found = malloc(sizeof(*found) * K_MOST);
    assert_non_null(queries);
    assert_true(truth && found);
    fixture_clusters(queries, QUERIES, DIM, CLUSTERS, 0.8f, 3, 5);
    const size_t asked = QUERIES * COUNT_OF(targets);
    for (size_t i = 0; i < COUNT_OF(ks); i++)
        ret_off[i] = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        const float *query = queries + (size_t)q * DIM;
        uint32_t known = fixture_truth(f, query, NULL, K_MOST, truth), count;
        assert_int_equal(known, K_MOST);
        for (size_t i = 0; i < COUNT_OF(ks); i++)
            for (size_t t = 0; t < COUNT_OF(targets); t++) {
                struct vector_plan plan = vector_plan_make(&f->index, ks[i], targets[t], ROWS);
                fixture_search(f, query, NULL, plan, INFINITY, found, &count, NULL);
                ret_off[i] += (fixture_recall(truth, ks[i], found, count) - (double)targets[t]) /
                              (double)asked;
            }
    }
    free(queries);
    free(truth);
    free(found);
}

static void one_neighbour_or_a_hundred_are_found_as_asked(void **state)
{
    (void)state;
    needs_many_rows();
    struct fixture f;
    double off[COUNT_OF(ks)];
    build(&f);
    measure(&f, off);
    for (size_t i = 0; i < COUNT_OF(ks); i++)
        print_message("k %u: %+.2f points\n", ks[i], 100 * off[i]);
    for (size_t i = 0; i < COUNT_OF(ks); i++)
        assert_true(fabs(off[i]) <= 0.02);
    fixture_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_neighbour_or_a_hundred_are_found_as_asked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
