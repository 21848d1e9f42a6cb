/* SPDX-License-Identifier: Apache-2.0 */
/* Training with less memory than its sample takes: the cells are trained in groups, one after the other. */
#include "vector_fixture.h"

#define DIM      48
#define ROWS     30000
#define CLUSTERS 200
#define QUERIES  100
#define K        10

static void build_one(struct fixture *f, size_t work_bytes)
{
    *f = (struct fixture){.rows = ROWS, .dim = DIM, .metric = METRIC_L2};
    f->vectors = malloc(sizeof(float) * ROWS * DIM);
    assert_non_null(f->vectors);
    fixture_clusters(f->vectors, ROWS, DIM, CLUSTERS, 0.7f, 1, 2);
    budget_init(&f->budget, 0, NULL);
    struct vector_rows rows = {.context = f, .count = ROWS, .row = fixture_row};
    struct vector_options options = {.dimension = DIM,
                                     .metric = METRIC_L2,
                                     .budget = &f->budget,
                                     .flat_rows = 1000,
                                     .work_bytes = work_bytes};
    fixture_build_from(f, &options, &rows);
}

static double recall_of(const struct fixture *f, double *ret_scanned)
{
    float *queries = malloc(sizeof(float) * QUERIES * DIM);
    assert_non_null(queries);
    fixture_clusters(queries, QUERIES, DIM, CLUSTERS, 0.7f, 1, 3);
    double recall = 0, scanned = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        const float *query = queries + (size_t)q * DIM;
        struct near truth[K], found[K];
        struct vector_found stats;
        uint32_t count, want = fixture_truth(f, query, NULL, K, truth);
        struct vector_plan plan = vector_plan_make(&f->index, K, 0.95f, ROWS);
        fixture_search(f, query, NULL, plan, INFINITY, found, &count, &stats);
        recall += fixture_recall(truth, want, found, count) / QUERIES;
        scanned += (double)stats.rows_scanned / QUERIES;
    }
    free(queries);
    *ret_scanned = scanned;
    return recall;
}

static void lists_trained_in_groups_are_as_good(void **state)
{
    (void)state;
    needs_many_rows();
    struct fixture whole, groups;
    double scanned, scanned_groups;
    build_one(&whole, 0);
    build_one(&groups, 1); // 1,024 rows at once: about thirty groups
    assert_in_range(groups.index.lists, whole.index.lists * 9 / 10, whole.index.lists * 11 / 10);
    double recall = recall_of(&whole, &scanned);
    double recall_groups = recall_of(&groups, &scanned_groups);
    printf("at once %.3f, %.0f rows; in groups %.3f, %.0f rows\n", recall, scanned, recall_groups,
           scanned_groups);
    assert_true(recall_groups >= 0.93 && recall >= 0.93);
    assert_true(scanned_groups <= 1.25 * scanned);
    fixture_done(&whole);
    fixture_done(&groups);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lists_trained_in_groups_are_as_good)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
