/* SPDX-License-Identifier: Apache-2.0 */
/* Builds by several threads, interrupted ones, and merges: what the index is made of, not what it finds (test_vector.c). */
#include "unit/index/vector_fixture.h"

#include "base/pool.h"

static float *take_rows(uint32_t rows, uint32_t dim)
{
    float *at = calloc((size_t)rows * dim + 1, sizeof(float));
    assert_non_null(at);
    return at;
}

static struct pool *take_pool(unsigned threads)
{
    struct pool *pool = NULL;
    struct pool_options options = {.name = "build", .thread_count = threads};
    MUST(pool_new(&options, &pool, err));
    return pool;
}

static void assert_same_index(const struct fixture *a, const struct fixture *b)
{
    assert_int_equal(a->code8.len, b->code8.len);
    assert_memory_equal(a->code8.at, b->code8.at, a->code8.len);
    assert_int_equal(a->built.code.len, b->built.code.len);
    assert_memory_equal(a->code, b->code, a->built.code.len);
    assert_int_equal(a->built.list.len, b->built.list.len);
    assert_memory_equal(a->list, b->list, a->built.list.len);
    assert_int_equal(a->built.super.len, b->built.super.len);
    assert_memory_equal(a->super, b->super, a->built.super.len);
    assert_memory_equal(a->centq, b->centq, a->built.centq.len);
    assert_memory_equal(a->mean, b->mean, a->built.mean.len);
    assert_memory_equal(a->order, b->order, 4 * a->rows);
}

/* ---- threads ---- */

static void any_number_of_threads_gives_the_same_bytes(void **state)
{
    (void)state;
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture one = {.rows = 23000, .dim = 40, .metric = metric, .flat_rows = 1000};
        one.vectors = take_rows(one.rows, one.dim);
        fixture_clusters(one.vectors, one.rows, one.dim, 60, 0.7f, 3, 4);
        /* one list far too long: it is cut */
        for (uint32_t i = 0; i < one.rows; i += 3)
            memcpy(one.vectors + (size_t)i * one.dim, one.vectors, one.dim * sizeof(float));
        fixture_build(&one);
        for (unsigned threads = 1; threads <= 3; threads++) {
            struct fixture many = {.rows = one.rows,
                                   .dim = one.dim,
                                   .metric = metric,
                                   .flat_rows = 1000,
                                   .vectors = one.vectors,
                                   .pool = take_pool(threads)};
            fixture_build(&many);
            assert_same_index(&one, &many);
            pool_free(many.pool);
            many.vectors = NULL;
            fixture_done(&many);
        }
        fixture_done(&one);
    }
}

/* A list of more 8-bit codes than are held at once is encoded in two passes. */
static void a_giant_list_is_like_any_other(void **state)
{
    (void)state;
    struct fixture f[2] = {{.rows = 5000, .dim = 4000, .flat_rows = UINT32_MAX},
                           {.rows = 5000, .dim = 4000, .flat_rows = UINT32_MAX}};
    f[0].vectors = take_rows(f[0].rows, f[0].dim);
    fixture_clusters(f[0].vectors, f[0].rows, f[0].dim, 10, 0.7f, 5, 6);
    f[1].vectors = f[0].vectors;
    f[1].pool = take_pool(2);
    for (int i = 0; i < 2; i++)
        fixture_build(&f[i]);
    assert_int_equal(f[0].index.lists, 1);
    assert_same_index(&f[0], &f[1]);
    struct near truth[10], found[10];
    uint32_t count;
    struct vector_plan plan = vector_plan_make(&f[0].index, 10, 0.99f, f[0].rows);
    fixture_truth(&f[0], f[0].vectors + f[0].dim * 77ul, NULL, 10, truth);
    fixture_search(&f[0], f[0].vectors + f[0].dim * 77ul, NULL, plan, INFINITY, found, &count,
                   NULL);
    assert_true(fixture_recall(truth, 10, found, count) >= 1);
    pool_free(f[1].pool);
    f[1].vectors = NULL;
    fixture_done(&f[0]);
    fixture_done(&f[1]);
}

/* ---- interrupted, short of memory ---- */

struct watched {
    struct fixture *f;
    struct cancel cancel;
    _Atomic uint64_t reads;
    uint64_t cancel_at;
};

static och_code watched_row(void *context, uint32_t i, const float **ret_vector, och_error *err)
{
    struct watched *w = context;
    if (atomic_fetch_add(&w->reads, 1) + 1 == w->cancel_at)
        atomic_store(&w->cancel.fired, true);
    return fixture_row(w->f, i, ret_vector, err);
}

static void a_build_can_be_stopped_anywhere(void **state)
{
    (void)state;
    struct fixture f = {.rows = 6000, .dim = 20, .flat_rows = 1000, .pool = take_pool(2)};
    f.vectors = take_rows(f.rows, f.dim);
    fixture_clusters(f.vectors, f.rows, f.dim, 30, 0.7f, 7, 8);
    uint64_t last = UINT64_MAX, stopped = 0;
    for (uint64_t at = 1; at < last; at += 1500) {
        struct watched w = {.f = &f, .cancel_at = at};
        struct limits_of_work limits = {.cancel = &w.cancel};
        struct vector_rows rows = {.context = &w, .count = f.rows, .row = watched_row};
        budget_init(&f.budget, 0, NULL);
        struct vector_options options = {.dimension = f.dim,
                                         .budget = &f.budget,
                                         .pool = f.pool,
                                         .limits = &limits,
                                         .flat_rows = f.flat_rows};
        struct vector_build *build = NULL;
        och_code code = vector_build_new(&options, &rows, &build, NULL);
        assert_true(code == OCH_OK || code == OCH_CANCELLED);
        stopped += code == OCH_CANCELLED;
        if (code == OCH_OK) {
            last = at;
            vector_build_free(build);
        }
        assert_int_equal(budget_used(&f.budget), 0);
    }
    assert_true(stopped > 5);
    pool_free(f.pool);
    free(f.vectors);
}

static void too_little_memory_is_an_error_and_enough_gives_the_same(void **state)
{
    (void)state;
    struct fixture f = {.rows = 6000, .dim = 20, .flat_rows = 1000};
    f.vectors = take_rows(f.rows, f.dim);
    fixture_clusters(f.vectors, f.rows, f.dim, 30, 0.7f, 7, 8);
    fixture_build(&f);
    struct pool *pool = take_pool(3);
    bool done = false;
    uint32_t refused = 0;
    for (int64_t limit = 100000; !done; limit += limit / 8) {
        struct vector_rows rows = {.context = &f, .count = f.rows, .row = fixture_row};
        struct budget budget;
        budget_init(&budget, limit, NULL);
        struct vector_options options = {
            .dimension = f.dim, .budget = &budget, .pool = pool, .flat_rows = f.flat_rows};
        struct vector_build *build = NULL;
        och_code code = vector_build_new(&options, &rows, &build, NULL);
        assert_true(code == OCH_OK || code == OCH_BUSY);
        refused += code == OCH_BUSY;
        done = code == OCH_OK;
        if (done) { /* as it is just enough, not all threads found room */
            struct vector_built built = vector_build_result(build);
            assert_memory_equal(built.code.at, f.code, f.built.code.len);
            assert_memory_equal(built.mean.at, f.mean, f.built.mean.len);
            vector_build_free(build);
        }
        assert_int_equal(budget_used(&budget), 0);
    }
    assert_true(refused > 3);
    pool_free(pool);
    fixture_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_threads_gives_the_same_bytes),
        cmocka_unit_test(a_giant_list_is_like_any_other),
        cmocka_unit_test(a_build_can_be_stopped_anywhere),
        cmocka_unit_test(too_little_memory_is_an_error_and_enough_gives_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
