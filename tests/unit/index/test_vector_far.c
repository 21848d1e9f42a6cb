/* SPDX-License-Identifier: Apache-2.0 */
/* Queries farther from every list than rows are: their neighbours lie in more lists than calibration by rows knows. */
#include "vector_fixture.h"

#define DIM     48
#define ROWS    20000
#define QUERIES 60
#define K       10

/* Rows around some points, by chance nearer to these than to each other. */
static void fill_around(float *out, uint32_t rows, uint32_t points, uint64_t seed,
                        uint64_t row_seed)
{
    struct random random;
    float *at = malloc(sizeof(float) * points * DIM);
    assert_non_null(at);
    random_seed(&random, seed);
    for (size_t i = 0; i < (size_t)points * DIM; i++)
        at[i] = fixture_normal(&random);
    random_seed(&random, row_seed);
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t point = (uint32_t)random_below(&random, points);
        for (uint32_t j = 0; j < DIM; j++)
            out[(size_t)r * DIM + j] = at[point * DIM + j] + 0.4f * fixture_normal(&random);
    }
    free(at);
}

static void fill_anywhere(float *out, uint32_t rows, uint64_t seed)
{
    struct random random;
    random_seed(&random, seed);
    for (size_t i = 0; i < (size_t)rows * DIM; i++)
        out[i] = fixture_normal(&random);
}

static void build(struct fixture *f, enum metric metric, uint64_t seed)
{
    *f = (struct fixture){.rows = ROWS, .dim = DIM, .metric = metric, .flat_rows = 1000};
    f->vectors = malloc(sizeof(float) * ROWS * DIM);
    assert_non_null(f->vectors);
    fill_around(f->vectors, ROWS, 200, seed, seed + 1);
    fixture_build(f);
    assert_true(f->index.lists > 100 && f->index.far > 0);
}

static double recall_of(const struct fixture *f, const float *queries, double *ret_lists)
{
    double sum = 0;
    *ret_lists = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        const float *query = queries + (size_t)q * DIM;
        struct near truth[K], found[K];
        struct vector_found stats;
        uint32_t want = fixture_truth(f, query, NULL, K, truth), count;
        struct vector_plan plan = vector_plan_make(&f->index, K, 0.99f, ROWS);
        assert_int_equal(plan.mode, VECTOR_BUDGET);
        fixture_search(f, query, NULL, plan, INFINITY, found, &count, &stats);
        sum += fixture_recall(truth, want, found, count) / QUERIES;
        *ret_lists += (double)stats.lists_probed / QUERIES;
    }
    return sum;
}

static void queries_far_off_find_what_is_near(void **state)
{
    (void)state;
    float *off = malloc(sizeof(float) * QUERIES * DIM),
          *own = malloc(sizeof(float) * QUERIES * DIM);
    assert_true(off && own);
    fill_anywhere(off, QUERIES, 3);
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f;
        double lists, lists_blind, own_lists, own_blind;
        build(&f, metric, 1);
        fill_around(own, QUERIES, 200, 1, 4);
        double recall = recall_of(&f, off, &lists), of_own = recall_of(&f, own, &own_lists);
        double few_lists;
        assert_true(f.index.super_cells && f.index.super_cells <= f.index.cells / 2);
        uint32_t from = f.index.super_from;
        f.index.super_from = 50; /* nearest cells first: not for these */
        assert_true(recall_of(&f, off, &few_lists) >= recall - 0.01);
        f.index.super_from = from;
        f.index.far = 0; /* as calibration by rows alone has it */
        double blind = recall_of(&f, off, &lists_blind);
        (void)recall_of(&f, own, &own_blind);
        print_message("metric %d: far off %.3f (%.0f lists), blind %.3f (%.0f); like rows %.3f "
                      "(%.1f and %.1f)\n",
                      (int)metric, recall, lists, blind, lists_blind, of_own, own_lists, own_blind);
        assert_true(recall >= 0.92 && recall >= blind + 0.05);
        assert_true(of_own >= 0.97 && own_lists <= 1.1 * own_blind);
        fixture_done(&f);
    }
    free(off);
    free(own);
}

/* Lists visited in the first of two parts; together or alone. */
static uint64_t lists_of_first(struct fixture *parts, const float *query, bool together,
                               double *ret_recall)
{
    struct arena arena;
    struct vector_query searches[2], *shared[2] = {&searches[0], &searches[1]};
    struct vector_pages pages[2];
    struct vector_found found[2];
    struct vector_carry carry;
    struct near truth[2 * K], all[2 * 600];
    uint32_t known = 0, count = 0;
    arena_init(&arena, NULL, 0);
    for (uint32_t p = 0; p < 2; p++) {
        pages[p] = (struct vector_pages){.context = &parts[p], .at = fixture_page};
        searches[p] =
            (struct vector_query){.index = &parts[p].index,
                                  .pages = &pages[p],
                                  .vector = query,
                                  .bound = INFINITY,
                                  .plan = vector_plan_make(&parts[p].index, K, 0.99f, ROWS)};
        known += fixture_truth(&parts[p], query, NULL, K, truth + known);
    }
    qsort(truth, known, sizeof(*truth), near_compare);
    MUST(vector_carry_init(&carry, searches[0].plan.keep, &arena, err));
    for (uint32_t p = 0; p < 2 && together; p++) {
        searches[p].carry = &carry;
        MUST(vector_search_begin(&searches[p], &arena, &searches[p].begun, err));
    }
    if (together)
        vector_share(shared, 2, 0.99f, 1);
    for (uint32_t p = 0; p < 2; p++) {
        bool usable;
        MUST(vector_search(&searches[p], &arena, &found[p], &usable, err));
        assert_true(usable);
        for (size_t i = 0; i < found[p].count; i++) {
            uint32_t source = parts[p].order[found[p].rows[i].row];
            const float *x = parts[p].vectors + (size_t)source * DIM;
            all[count++] = (struct near){fixture_distance(&parts[p], query, x), source};
        }
    }
    qsort(all, count, sizeof(*all), near_compare);
    *ret_recall = fixture_recall(truth, K, all, count < K ? count : K);
    uint64_t lists = found[0].lists_probed;
    arena_done(&arena);
    return lists;
}

/* What is far from one part may be what another one has. */
static void far_off_is_what_is_far_from_all_parts(void **state)
{
    (void)state;
    struct fixture parts[2];
    float *queries = malloc(sizeof(float) * QUERIES * DIM);
    double alone = 0, together = 0, recall, own = 0, off = 0;
    assert_non_null(queries);
    build(&parts[0], METRIC_L2, 1);
    build(&parts[1], METRIC_L2, 11);
    fill_around(queries, QUERIES, 200, 11, 14); /* like rows of the second */
    for (uint32_t q = 0; q < QUERIES; q++) {
        const float *query = queries + (size_t)q * DIM;
        alone += (double)lists_of_first(parts, query, false, &recall);
        together += (double)lists_of_first(parts, query, true, &recall);
        own += recall / QUERIES;
    }
    fill_anywhere(queries, QUERIES, 3);
    for (uint32_t q = 0; q < QUERIES; q++) {
        (void)lists_of_first(parts, queries + (size_t)q * DIM, true, &recall);
        off += recall / QUERIES;
    }
    print_message("lists of the other part: %.1f alone, %.1f together; recall %.3f, far off %.3f\n",
                  alone / QUERIES, together / QUERIES, own, off);
    assert_true(together < 0.5 * alone);
    assert_true(own >= 0.97 && off >= 0.92);
    free(queries);
    fixture_done(&parts[0]);
    fixture_done(&parts[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries_far_off_find_what_is_near),
        cmocka_unit_test(far_off_is_what_is_far_from_all_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
