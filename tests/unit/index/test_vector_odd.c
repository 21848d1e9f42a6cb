/* SPDX-License-Identifier: Apache-2.0 */
/* Data on which codes, whose steps are as wide as rows are long, could tell little or nothing: copies, a few rows far longer than the rest. */
#include "vector_fixture.h"

static float *take_rows(uint32_t rows, uint32_t dim)
{
    float *at = calloc((size_t)rows * dim, sizeof(float));
    assert_non_null(at);
    return at;
}

static void fill_normal(float *out, size_t count, float scale, uint64_t seed)
{
    struct random random;
    random_seed(&random, seed);
    for (size_t i = 0; i < count; i++)
        out[i] = scale * fixture_normal(&random);
}

/* As a database asks: with what other parts found, here nothing. */
static size_t count_found(const struct fixture *f, const float *q, uint32_t k)
{
    struct arena arena;
    struct vector_carry carry;
    struct vector_pages pages = {.context = (void *)(uintptr_t)f, .at = fixture_page};
    struct vector_query query = {.index = &f->index,
                                 .pages = &pages,
                                 .vector = q,
                                 .bound = INFINITY,
                                 .carry = &carry,
                                 .plan = vector_plan_make(&f->index, k, 0.99f, f->index.coded)};
    struct vector_found found;
    bool usable;
    arena_init(&arena, NULL, 0);
    query.plan = fixture_by_codes(query.plan);
    MUST(vector_carry_init(&carry, query.plan.keep, &arena, err));
    MUST(vector_search(&query, &arena, &found, &usable, err));
    assert_true(usable);
    arena_done(&arena);
    return found.count;
}

/* All rows lie where the mean does and as far from the query, which is near by: the lift of ip is far larger than any distance. */
static void copies_of_one_row_are_all_candidates(void **state)
{
    (void)state;
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f = {.rows = 4000, .dim = 24, .metric = metric};
        float query[24], noise[24];
        f.vectors = take_rows(f.rows, f.dim);
        fill_normal(f.vectors, f.dim, 1, 1);
        for (uint32_t i = 1; i < f.rows; i++)
            memcpy(f.vectors + (size_t)i * f.dim, f.vectors, f.dim * sizeof(float));
        fixture_build(&f);
        for (uint64_t seed = 2; seed < 102; seed++) {
            fill_normal(noise, f.dim, seed % 2 ? 0.1f : 0.01f, seed);
            for (uint32_t j = 0; j < f.dim; j++)
                query[j] = f.vectors[j] * (1 + noise[j]);
            assert_true(count_found(&f, query, 10) >= 10);
        }
        fixture_done(&f);
    }
}

/* Mean recall@10 of queries like the rows, of those with codes. */
static double recall_of_own(const struct fixture *f, float scale)
{
    struct near truth[10], found[10];
    double sum = 0;
    float *query = take_rows(1, f->dim);
    for (uint32_t q = 0; q < 40; q++) {
        uint32_t len, want;
        fill_normal(query, f->dim, scale, 1000 + q);
        want = fixture_truth(f, query, NULL, 10, truth);
        struct vector_plan plan = vector_plan_make(&f->index, 10, 0.99f, f->index.coded);
        fixture_search(f, query, NULL, plan, INFINITY, found, &len, NULL);
        assert_int_equal(len, want);
        sum += fixture_recall(truth, want, found, len) / 40;
    }
    free(query);
    return sum;
}

static void some_rows_far_longer_than_the_rest_do_no_harm(void **state)
{
    (void)state;
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f = {.rows = 12000, .dim = 16, .metric = metric, .flat_rows = 1000};
        f.vectors = take_rows(f.rows, f.dim);
        fill_normal(f.vectors, (size_t)f.rows * f.dim, 1, 1);
        f.vectors[5000 * 16 + 3] = 1e14f;
        f.vectors[17 * 16] = -1e9f;
        f.vectors[11999 * 16 + 15] = 1e4f;
        fixture_build(&f);
        assert_int_equal(f.index.outside, metric == METRIC_COSINE ? 0 : 3);
        assert_int_equal(f.index.coded + f.index.outside, f.rows);
        double recall = recall_of_own(&f, 1);
        if (recall < 0.97)
            fail_msg("metric %d: recall %.3f", (int)metric, recall);
        fixture_done(&f);
    }
}

/* By inner product the order of rows is the same for all of them; one row in a hundred is as long as the longest query. */
static void queries_of_any_length_find_the_same(void **state)
{
    (void)state;
    static const float scales[] = {1e-30f, 1.0f / 7, 1, 7, 1e12f, 1e18f};
    struct fixture f = {.rows = 30000, .dim = 24, .metric = METRIC_IP, .flat_rows = 1000};
    f.vectors = take_rows(f.rows, f.dim);
    fill_normal(f.vectors, (size_t)f.rows * f.dim, 1, 1);
    for (uint32_t i = 0; i < f.rows; i += 100)
        for (uint32_t j = 0; j < f.dim; j++)
            f.vectors[i * f.dim + j] *= 7;
    fixture_build(&f);
    for (size_t i = 0; i < COUNT_OF(scales); i++) {
        double recall = recall_of_own(&f, scales[i]);
        if (recall < 0.97)
            fail_msg("queries %g times as long: recall %.3f", (double)scales[i], recall);
    }
    fixture_done(&f);
}

static void long_rows_join_a_space_that_is_kept_outside(void **state)
{
    (void)state;
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f = {.rows = 4000, .dim = 16, .metric = metric};
        struct fixture next = {.rows = 4000, .dim = 16, .metric = metric};
        f.vectors = take_rows(f.rows, f.dim);
        next.vectors = take_rows(f.rows, f.dim);
        fill_normal(f.vectors, (size_t)f.rows * f.dim, 1, 1);
        fill_normal(next.vectors, (size_t)f.rows * f.dim, 1, 2);
        next.vectors[3000 * 16] = 1e6f;
        fixture_build(&f);
        struct vector_rows rows = {.context = &next, .count = next.rows, .row = fixture_row};
        budget_init(&next.budget, 0, NULL);
        struct vector_options options = {
            .dimension = 16, .metric = metric, .budget = &next.budget, .like = &f.index};
        fixture_build_from(&next, &options, &rows);
        assert_int_equal(next.built.space_of, 0);
        uint32_t outside =
            next.index.outside; /* ip: and those longer than all that the space knows */
        assert_true(metric == METRIC_L2   ? outside == 1
                    : metric == METRIC_IP ? outside >= 1 && outside < 20
                                          : outside == 0);
        fixture_done(&next);
        fixture_done(&f);
    }
}

/* They are what queries by inner product look for, and a list does not tell that it has one. */
static void rows_longer_than_the_lift_stay_outside_or_make_a_new_one(void **state)
{
    (void)state;
    struct fixture f = {.rows = 4000, .dim = 16, .metric = METRIC_IP};
    f.vectors = take_rows(f.rows, f.dim);
    fill_normal(f.vectors, (size_t)f.rows * f.dim, 1, 1);
    fixture_build(&f);
    for (uint32_t longer = 30; longer <= 300; longer *= 10) {
        struct fixture next = {.rows = 4000, .dim = 16, .metric = METRIC_IP};
        next.vectors = take_rows(next.rows, next.dim);
        fill_normal(next.vectors, (size_t)next.rows * next.dim, 1, 2);
        for (uint32_t i = 0; i < longer * next.dim; i++)
            next.vectors[i] *= 5;
        struct vector_rows rows = {.context = &next, .count = next.rows, .row = fixture_row};
        budget_init(&next.budget, 0, NULL);
        struct vector_options options = {
            .dimension = 16, .metric = METRIC_IP, .budget = &next.budget, .like = &f.index};
        fixture_build_from(&next, &options, &rows);
        assert_int_equal(next.built.space_of, longer == 30 ? 0 : VECTOR_NEW_SPACE);
        assert_true(longer == 30 ? next.index.outside >= 25 : next.index.outside < 10);
        fixture_done(&next);
    }
    fixture_done(&f);
}

/* Half of the rows ten million times as long: the others are one point to their codes. */
static void where_codes_are_blind_there_are_none(void **state)
{
    (void)state;
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f = {.rows = 4000, .dim = 16, .metric = metric};
        f.vectors = take_rows(f.rows, f.dim);
        fill_normal(f.vectors, (size_t)f.rows * f.dim, 1, 1);
        for (size_t i = 0; i < (size_t)f.rows * f.dim / 2; i++)
            f.vectors[i] *= 1e7f;
        fixture_build(&f);
        assert_int_equal(f.built.coded, metric == METRIC_COSINE ? f.rows : 0);
        fixture_done(&f);
    }
}

static void numbers_have_no_codes(void **state)
{
    (void)state;
    assert_false(vector_wanted(100000, 1));
    assert_true(vector_wanted(100000, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(some_rows_far_longer_than_the_rest_do_no_harm),
        cmocka_unit_test(queries_of_any_length_find_the_same),
        cmocka_unit_test(long_rows_join_a_space_that_is_kept_outside),
        cmocka_unit_test(rows_longer_than_the_lift_stay_outside_or_make_a_new_one),
        cmocka_unit_test(where_codes_are_blind_there_are_none),
        cmocka_unit_test(numbers_have_no_codes),
        cmocka_unit_test(copies_of_one_row_are_all_candidates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
