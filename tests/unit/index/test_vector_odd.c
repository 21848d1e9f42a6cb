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
    if (query.plan.mode == VECTOR_EXACT)
        query.plan = vector_plan_codes8(k);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_of_one_row_are_all_candidates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
