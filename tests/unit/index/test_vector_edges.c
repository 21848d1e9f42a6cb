/* SPDX-License-Identifier: Apache-2.0 */
/* Data that no bench has: few different rows, rows that all stand near everything, queries from elsewhere, the widest vectors. */
#include "vector_fixture.h"

static float *take_rows(uint32_t rows, uint32_t dim)
{
    float *at = calloc((size_t)rows * dim, sizeof(float));
    assert_non_null(at);
    return at;
}

/* Mean recall@k against f64; every answer has as many rows as there are. */
static double recall_of(const struct fixture *f, const float *queries, uint32_t count, uint32_t k,
                        float target)
{
    struct near *truth = malloc(sizeof(*truth) * (k + 1)),
                *found = malloc(sizeof(*found) * (k + 1));
    double sum = 0;
    for (uint32_t q = 0; q < count; q++) {
        const float *query = queries + (size_t)q * f->dim;
        uint32_t len, want = fixture_truth(f, query, NULL, k, truth);
        struct vector_plan plan = fixture_by_codes(vector_plan_make(&f->index, k, target, f->rows));
        fixture_search(f, query, NULL, plan, INFINITY, found, &len, NULL);
        assert_int_equal(len, want);
        sum += fixture_recall(truth, want, found, len);
    }
    free(truth);
    free(found);
    return sum / count;
}

static void many_copies_of_few_rows(void **state)
{
    (void)state;
    needs_many_rows();
    enum { DIFFERENT = 50 };
    struct fixture f = {.rows = 200000, .dim = 24, .metric = METRIC_L2};
    float *own = take_rows(DIFFERENT, f.dim);
    fixture_clusters(own, DIFFERENT, f.dim, DIFFERENT, 0.8f, 1, 2);
    f.vectors = take_rows(f.rows, f.dim);
    for (uint32_t i = 0; i < f.rows; i++)
        memcpy(f.vectors + (size_t)i * f.dim, own + (size_t)(i % DIFFERENT) * f.dim,
               f.dim * sizeof(float));
    fixture_build(&f);
    assert_true(recall_of(&f, own, 10, 10, 0.99f) >= 1);
    free(own);
    fixture_done(&f);
}

/* Rows of different lengths around one point: those near it are neighbours of all. */
static void hubs_are_found(void **state)
{
    (void)state;
    needs_many_rows();
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f = {.rows = 12000, .dim = 96, .metric = metric, .flat_rows = 1000};
        float *queries = take_rows(40, f.dim);
        struct random random;
        random_seed(&random, 9);
        f.vectors = take_rows(f.rows, f.dim);
        for (uint32_t i = 0; i < f.rows + 40; i++) {
            float *x =
                i < f.rows ? f.vectors + (size_t)i * f.dim : queries + (size_t)(i - f.rows) * f.dim;
            float length = expf(0.6f * fixture_normal(&random));
            for (uint32_t j = 0; j < f.dim; j++)
                x[j] = 0.3f + length * fixture_normal(&random);
        }
        fixture_build(&f);
        double recall = recall_of(&f, queries, 40, 10, 0.99f);
        if (recall < 0.97)
            fail_msg("metric %d: recall %.3f", (int)metric, recall);
        free(queries);
        fixture_done(&f);
    }
}

/* Many distances are equal; any of the rows will do. */
static void integers_are_ordinary(void **state)
{
    (void)state;
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f = {.rows = 12000, .dim = 32, .metric = metric, .flat_rows = 1000};
        float *queries = take_rows(40, f.dim);
        struct random random;
        random_seed(&random, 10);
        f.vectors = take_rows(f.rows, f.dim);
        for (uint32_t i = 0; i < f.rows * f.dim; i++)
            f.vectors[i] = (float)random_below(&random, 8);
        for (uint32_t i = 0; i < 40 * f.dim; i++)
            queries[i] = (float)random_below(&random, 8);
        fixture_build(&f);
        double recall = recall_of(&f, queries, 40, 10, 0.99f);
        if (recall < 0.97)
            fail_msg("metric %d: recall %.3f", (int)metric, recall);
        free(queries);
        fixture_done(&f);
    }
}

static void queries_from_far_off_get_answers(void **state)
{
    (void)state;
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f = {.rows = 12000, .dim = 48, .metric = metric, .flat_rows = 1000};
        float *queries = take_rows(20, f.dim);
        f.vectors = take_rows(f.rows, f.dim);
        fixture_clusters(f.vectors, f.rows, f.dim, 40, 0.8f, 3, 4);
        fixture_clusters(queries, 20, f.dim, 40, 0.8f, 3, 5);
        for (uint32_t i = 0; i < 20 * f.dim; i++)
            queries[i] *= 1000;
        fixture_build(&f);
        /* no recall is promised out there, but k rows; and the right ones when all lists are asked */
        (void)recall_of(&f, queries, 20, 10, 0.99f);
        struct near truth[10], found[10];
        double sum = 0;
        for (uint32_t q = 0; q < 20; q++) {
            const float *query = queries + (size_t)q * f.dim;
            uint32_t len, want = fixture_truth(&f, query, NULL, 10, truth);
            struct vector_plan plan = vector_plan_make(&f.index, 10, 0.99f, f.rows);
            vector_plan_effort(&plan, &f.index, INFINITY);
            fixture_search(&f, query, NULL, plan, INFINITY, found, &len, NULL);
            assert_int_equal(len, want);
            sum += fixture_recall(truth, want, found, len) / 20;
        }
        if (sum < 0.97)
            fail_msg("metric %d: recall %.3f of all lists", (int)metric, sum);
        free(queries);
        fixture_done(&f);
    }
}

static void the_widest_vectors(void **state)
{
    (void)state;
    needs_many_rows();
    static const uint32_t shapes[][2] = {{1000, 4097}, {70, 65535}};
    for (unsigned i = 0; i < COUNT_OF(shapes); i++) {
        for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
            if (i && metric == METRIC_IP)
                continue; /* its extra coordinate makes 65,536: tested at 4,097 */
            struct fixture f = {.rows = shapes[i][0],
                                .dim = shapes[i][1],
                                .metric = metric,
                                .flat_rows = i ? 0 : 100};
            float *queries = take_rows(4, f.dim);
            f.vectors = take_rows(f.rows, f.dim);
            fixture_clusters(f.vectors, f.rows, f.dim, 8, 0.5f, 3, 4);
            fixture_clusters(queries, 4, f.dim, 8, 0.5f, 3, 5);
            fixture_build(&f);
            double recall = recall_of(&f, queries, 4, 10, 0.99f);
            if (recall < 0.97)
                fail_msg("%u dimensions, metric %d: recall %.3f", f.dim, (int)metric, recall);
            free(queries);
            fixture_done(&f);
        }
    }
}

static void one_row_and_more_wanted_than_there_are(void **state)
{
    (void)state;
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f = {.rows = 1, .dim = 3, .metric = metric};
        float query[3] = {1, 2, 3};
        f.vectors = take_rows(1, 3);
        f.vectors[1] = 5;
        fixture_build(&f);
        assert_true(recall_of(&f, query, 1, 10, 0.99f) >= 1);
        fixture_done(&f);
    }
    struct fixture f = {.rows = 3000, .dim = 16, .metric = METRIC_L2, .flat_rows = 1000};
    f.vectors = take_rows(f.rows, f.dim);
    fixture_clusters(f.vectors, f.rows, f.dim, 10, 0.8f, 3, 4);
    fixture_build(&f);
    assert_true(recall_of(&f, f.vectors, 2, 4000, 0.99f) >= 1);
    fixture_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_copies_of_few_rows),
        cmocka_unit_test(hubs_are_found),
        cmocka_unit_test(integers_are_ordinary),
        cmocka_unit_test(queries_from_far_off_get_answers),
        cmocka_unit_test(the_widest_vectors),
        cmocka_unit_test(one_row_and_more_wanted_than_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
