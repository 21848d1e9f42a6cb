/* SPDX-License-Identifier: Apache-2.0 */
/* The vector index against the truth in f64. */
#include "unit/index/vector_fixture.h"

static float *take_rows(uint32_t rows, uint32_t dim)
{
    float *at = calloc((size_t)rows * dim + 1, sizeof(float));
    assert_non_null(at);
    return at;
}

struct measured {
    double recall, scanned, scored, reranked, lists;
    uint32_t short_answers;
};

static struct measured measure(const struct fixture *f, const float *queries, uint32_t count,
                               uint32_t k, float recall, const uint64_t *mask, uint64_t survivors)
{
    struct measured ret = {0};
    struct near *truth = malloc(sizeof(*truth) * (k + 1)),
                *found = malloc(sizeof(*found) * (k + 1));
    for (uint32_t q = 0; q < count; q++) {
        const float *query = queries + (size_t)q * f->dim;
        struct vector_plan plan = vector_plan_make(&f->index, k, recall, survivors);
        struct vector_found stats;
        uint32_t found_count, want = fixture_truth(f, query, mask, k, truth);
        fixture_search(f, query, mask, plan, INFINITY, found, &found_count, &stats);
        ret.short_answers += found_count < want;
        ret.recall += fixture_recall(truth, want, found, found_count) / count;
        ret.scanned += (double)stats.rows_scanned / count;
        ret.scored += (double)stats.rows_scored / count;
        ret.reranked += (double)stats.count / count;
        ret.lists += (double)stats.lists_probed / count;
    }
    free(truth);
    free(found);
    return ret;
}

static const char *const metric_names[] = {"l2", "cosine", "ip"};

static void every_metric_meets_its_recall(void **state)
{
    (void)state;
    needs_many_rows();
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f = {.rows = 30000, .dim = 48, .metric = metric, .piece_units = 1000};
        float *queries = take_rows(100, f.dim);
        f.vectors = take_rows(f.rows, f.dim);
        fixture_clusters(f.vectors, f.rows, f.dim, 100, 0.7f, 1, 2);
        fixture_clusters(queries, 100, f.dim, 100, 0.7f, 1, 3);
        fixture_build(&f);
        assert_true(f.index.lists > 100);
        for (unsigned t = 0; t < 3; t++) {
            float target = (const float[]){0.9f, 0.99f, 0.999f}[t];
            struct measured m = measure(&f, queries, 100, 10, target, NULL, f.rows);
            print_message(
                "%s %.3f: recall %.4f lists %.0f scanned %.0f scored %.0f reranked %.0f\n",
                metric_names[metric], (double)target, m.recall, m.lists, m.scanned, m.scored,
                m.reranked);
            assert_int_equal(m.short_answers, 0);
            assert_true(m.recall >= (double)target - 0.012);
        }
        struct measured m = measure(&f, queries, 30, 100, 0.99f, NULL, f.rows);
        assert_true(m.recall >= 0.98);
        free(queries);
        fixture_done(&f);
    }
}

static void one_list_is_exact_in_effect(void **state)
{
    (void)state;
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f = {.rows = 10000, .dim = 96, .metric = metric};
        float *queries = take_rows(100, f.dim);
        f.vectors = take_rows(f.rows, f.dim);
        fixture_clusters(f.vectors, f.rows, f.dim, 40, 0.7f, 5, 6);
        fixture_clusters(queries, 100, f.dim, 40, 0.7f, 5, 7);
        fixture_build(&f);
        assert_int_equal(f.index.lists, 1);
        for (uint32_t i = 0; i < f.rows; i++)
            assert_int_equal(f.order[i], i);
        struct measured m = measure(&f, queries, 100, 10, 0.99f, NULL, f.rows);
        print_message("flat %s: recall %.4f scored %.0f reranked %.0f\n", metric_names[metric],
                      m.recall, m.scored, m.reranked);
        assert_true(m.recall >= 0.999);
        free(queries);
        fixture_done(&f);
    }
}

/* Random bits, or the rows nearest to a point, as a mask by row. */
static uint64_t make_mask(const struct fixture *f, double share, bool region, uint64_t seed,
                          uint64_t *mask)
{
    struct random random;
    random_seed(&random, seed);
    uint64_t survivors = 0;
    double limit = 0;
    const float *point = f->vectors + random_below(&random, f->rows) * f->dim;
    if (region) {
        struct near *all = malloc(sizeof(*all) * f->rows);
        uint32_t want = (uint32_t)(share * f->rows);
        fixture_truth(f, point, NULL, want + 1, all);
        limit = all[want].distance;
        free(all);
    }
    for (uint32_t row = 0; row < f->index.coded; row++) {
        bool in = region ? fixture_distance(f, point,
                                            f->vectors + (size_t)f->order[row] * f->dim) <= limit
                         : random_unit(&random) < share;
        if (in)
            mask[row / 64] |= 1ull << row % 64;
        survivors += in;
    }
    return survivors;
}

static void filters_of_any_selectivity_keep_recall(void **state)
{
    (void)state;
    needs_many_rows();
    struct fixture f = {.rows = 40000, .dim = 32, .metric = METRIC_COSINE, .piece_units = 777};
    float *queries = take_rows(60, f.dim);
    f.vectors = take_rows(f.rows, f.dim);
    fixture_clusters(f.vectors, f.rows, f.dim, 200, 0.7f, 8, 9);
    fixture_clusters(queries, 60, f.dim, 200, 0.7f, 8, 10);
    fixture_build(&f);
    for (int region = 0; region < 2; region++) {
        for (unsigned i = 0; i < 6; i++) {
            double share = (const double[]){0.9, 0.5, 0.1, 0.01, 0.001, 0.0001}[i];
            uint64_t *mask = calloc((f.rows + 63) / 64 + 1, 8);
            uint64_t survivors = make_mask(&f, share, region, i + 20, mask);
            struct measured m = measure(&f, queries, 60, 10, 0.99f, mask, survivors);
            print_message(
                "%s %.4f: %llu survive, recall %.4f lists %.0f scanned %.0f scored %.0f\n",
                region ? "region" : "random", share, (unsigned long long)survivors, m.recall,
                m.lists, m.scanned, m.scored);
            assert_int_equal(m.short_answers, 0);
            assert_true(m.recall >=
                        0.98); /* of 600; the way there depends on what kernels cost here */
            free(mask);
        }
    }
    free(queries);
    fixture_done(&f);
}

static void every_mode_respects_mask_and_count(void **state)
{
    (void)state;
    struct fixture f = {.rows = 6000, .dim = 20, .flat_rows = 500};
    f.vectors = take_rows(f.rows, f.dim);
    fixture_clusters(f.vectors, f.rows, f.dim, 30, 0.7f, 11, 12);
    fixture_build(&f);
    uint64_t *mask = calloc(f.rows / 64 + 2, 8);
    struct near truth[400], found[400];
    for (uint32_t row = 0; row < f.rows; row += 37)
        mask[row / 64] |= 1ull << row % 64;
    for (enum vector_mode mode = VECTOR_BUDGET; mode <= VECTOR_CODES8; mode++) {
        for (unsigned i = 0; i < 4; i++) {
            uint32_t k = (const uint32_t[]){1, 10, 163, 400}[i], count;
            struct vector_plan plan = vector_plan_make(&f.index, k, 0.99f, f.rows / 37 + 1);
            plan.mode = mode;
            plan.lists = 1;
            fixture_search(&f, f.vectors, mask, plan, INFINITY, found, &count, NULL);
            assert_int_equal(count, k < f.rows / 37 + 1 ? k : f.rows / 37 + 1);
            assert_int_equal(fixture_truth(&f, f.vectors, mask, k, truth), count);
        }
    }
    free(mask);
    fixture_done(&f);
}

static void dimensions_small_and_large(void **state)
{
    (void)state;
    static const uint32_t dims[] = {1, 2, 3, 5, 63, 64, 65, 128, 768};
    for (unsigned i = 0; i < COUNT_OF(dims); i++) {
        for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
            if (dims[i] == 768 && metric != METRIC_COSINE)
                continue;
            struct fixture f = {.rows = 3000, .dim = dims[i], .metric = metric, .flat_rows = 1000};
            float *queries = take_rows(20, f.dim);
            f.vectors = take_rows(f.rows, f.dim);
            fixture_clusters(f.vectors, f.rows, f.dim, 20, 0.8f, i + 1, 4);
            fixture_clusters(queries, 20, f.dim, 20, 0.8f, i + 1, 5);
            fixture_build(&f);
            struct measured m = measure(&f, queries, 20, 10, 0.995f, NULL, f.rows);
            if (m.recall < 0.97)
                fail_msg("%u dimensions, %s: recall %.3f", dims[i], metric_names[metric], m.recall);
            free(queries);
            fixture_done(&f);
        }
    }
}

static void lists_of_any_length_around_a_block(void **state)
{
    (void)state;
    for (uint32_t rows = 1; rows <= 100; rows += rows < 30 || rows > 66 ? 13 : 1) {
        struct fixture f = {.rows = rows, .dim = 7, .piece_units = 1};
        f.vectors = take_rows(f.rows, f.dim);
        fixture_clusters(f.vectors, f.rows, f.dim, 3, 0.5f, rows, 1);
        fixture_build(&f);
        assert_int_equal(f.index.blocks, (rows + 31) / 32);
        struct near truth[101], found[101];
        for (uint32_t k = 1; k <= rows + 1; k += 9) {
            uint32_t count, want = fixture_truth(&f, f.vectors, NULL, k, truth);
            struct vector_plan plan = vector_plan_make(&f.index, k, 0.99f, rows);
            fixture_search(&f, f.vectors, NULL, plan, INFINITY, found, &count, NULL);
            assert_int_equal(count, want);
            assert_true(fixture_recall(truth, want, found, count) >= 1);
        }
        fixture_done(&f);
    }
}

static void equal_rows_come_in_order(void **state)
{
    (void)state;
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        for (int flat = 0; flat < 2; flat++) {
            struct fixture f = {
                .rows = 5000, .dim = 10, .metric = metric, .flat_rows = flat ? 0 : 100};
            f.vectors = take_rows(f.rows, f.dim);
            for (uint32_t i = 0; i < f.rows * f.dim; i++)
                f.vectors[i] = 0.25f * (float)(i % f.dim) - 1;
            fixture_build(&f);
            struct near found[20];
            float query[10] = {1, 0, 2};
            uint32_t count;
            struct vector_plan plan = vector_plan_make(&f.index, 20, 0.99f, f.rows);
            fixture_search(&f, query, NULL, plan, INFINITY, found, &count, NULL);
            assert_int_equal(count, 20);
            for (uint32_t i = 0; i < 20; i++)
                assert_int_equal(found[i].source, i);
            fixture_done(&f);
        }
    }
}

static void odd_rows_do_no_harm(void **state)
{
    (void)state;
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f = {.rows = 4000, .dim = 12, .metric = metric, .flat_rows = 1000};
        struct random random;
        random_seed(&random, 77);
        f.vectors = take_rows(f.rows, f.dim);
        f.absent = calloc(f.rows, sizeof(bool));
        fixture_clusters(f.vectors, f.rows, f.dim, 20, 0.8f, 3, 4);
        for (uint32_t i = 0; i < f.rows; i++) {
            float *x = f.vectors + (size_t)i * f.dim;
            switch (random_below(&random, 12)) {
            case 0: /* nothing */
                memset(x, 0, f.dim * sizeof(float));
                break;
            case 1: /* denormals */
                for (uint32_t j = 0; j < f.dim; j++)
                    x[j] = x[j] * 1e-40f;
                break;
            case 2: /* integers */
                for (uint32_t j = 0; j < f.dim; j++)
                    x[j] = roundf(x[j]);
                break;
            case 3:
                f.absent[i] = true;
                break;
            case 4: /* too long for f32 */
                if (i % 5 == 0)
                    for (uint32_t j = 0; j < f.dim; j++)
                        x[j] = x[j] * 1e25f;
                break;
            default:
                break;
            }
        }
        fixture_build(&f);
        uint32_t absent = 0;
        for (uint32_t i = 0; i < f.rows; i++)
            absent += f.absent[i];
        assert_int_equal(f.index.coded + f.index.outside + absent, f.rows);
        assert_true(metric == METRIC_COSINE || f.index.outside > 10);
        assert_true(metric != METRIC_COSINE || f.index.outside == 0);
        for (uint32_t row = 1; row < f.rows; row++)
            assert_true(row < f.index.coded || row == f.index.coded ||
                        row == f.index.coded + f.index.outside || f.order[row - 1] < f.order[row]);
        float *queries = take_rows(40, f.dim);
        fixture_clusters(queries, 40, f.dim, 20, 0.8f, 3, 9);
        struct measured m = measure(&f, queries, 40, 10, 0.995f, NULL, f.rows);
        if (m.recall < 0.98)
            fail_msg("%s: recall %.3f", metric_names[metric], m.recall);
        free(queries);
        fixture_done(&f);
    }
}

static void the_same_rows_give_the_same_bytes(void **state)
{
    (void)state;
    struct fixture f[2] = {{.rows = 3000, .dim = 30, .flat_rows = 100},
                           {.rows = 3000, .dim = 30, .flat_rows = 100}};
    for (int i = 0; i < 2; i++) {
        f[i].vectors = take_rows(f[i].rows, f[i].dim);
        fixture_clusters(f[i].vectors, f[i].rows, f[i].dim, 20, 0.7f, 3, 4);
        fixture_build(&f[i]);
    }
    assert_int_equal(f[0].code8.len, f[1].code8.len);
    assert_memory_equal(f[0].code8.at, f[1].code8.at, f[0].code8.len);
    assert_int_equal(f[0].built.code.len, f[1].built.code.len);
    assert_memory_equal(f[0].code, f[1].code, f[0].built.code.len);
    assert_memory_equal(f[0].mean, f[1].mean, f[0].built.mean.len);
    assert_memory_equal(f[0].list, f[1].list, f[0].built.list.len);
    assert_memory_equal(f[0].order, f[1].order, 4 * f[0].rows);
    fixture_done(&f[0]);
    fixture_done(&f[1]);
}

static void a_bound_leaves_only_what_may_be_nearer(void **state)
{
    (void)state;
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric++) {
        struct fixture f = {.rows = 8000, .dim = 24, .metric = metric, .flat_rows = 1000};
        float *queries = take_rows(30, f.dim);
        f.vectors = take_rows(f.rows, f.dim);
        fixture_clusters(f.vectors, f.rows, f.dim, 50, 0.7f, 8, 9);
        fixture_clusters(queries, 30, f.dim, 50, 0.7f, 8, 10);
        fixture_build(&f);
        uint32_t hits = 0;
        for (uint32_t q = 0; q < 30; q++) {
            const float *query = queries + (size_t)q * f.dim;
            struct near truth[10], found[10];
            struct vector_plan plan = vector_plan_make(&f.index, 10, 0.995f, f.rows);
            uint32_t count;
            fixture_truth(&f, query, NULL, 10, truth);
            /* four rows are near enough */
            float bound = (float)((truth[3].distance + truth[4].distance) / 2);
            fixture_search(&f, query, NULL, plan, bound, found, &count, NULL);
            for (uint32_t i = 0; i < count; i++)
                hits += found[i].distance <= (double)bound;
            /* and none below the nearest */
            bound = (float)(truth[0].distance - fabs(truth[0].distance) - 1000);
            fixture_search(&f, query, NULL, plan, bound, found, &count, NULL);
            assert_int_equal(count, 0);
        }
        assert_true(hits >= 117);
        free(queries);
        fixture_done(&f);
    }
}

/* Beside the same index without the figures of reach by place, which is how older ones look: the budget alone ends its searches. */
static void searches_that_have_found_all_end(void **state)
{
    (void)state;
    needs_many_rows();
    enum { QUERIES = 200, K = 10 };
    struct fixture f = {.rows = 40000, .dim = 48, .metric = METRIC_COSINE, .flat_rows = 100};
    f.vectors = take_rows(f.rows, f.dim);
    fixture_clusters(f.vectors, f.rows, f.dim, 300, 0.8f, 3, 4);
    fixture_build(&f);
    assert_true(f.index.fall > 0);
    float *queries = take_rows(QUERIES, f.dim);
    fixture_clusters(queries, QUERIES, f.dim, 300, 0.8f, 3, 5);
    double recall[2] = {0}, scanned[2] = {0};
    uint64_t most = 0, least = UINT64_MAX;
    for (int older = 0; older < 2; older++) {
        if (older)
            memset(f.mean + 96, 0, 32);
        assert_true(vector_index_open(f.built.mean, f.built.list, f.built.centq, f.built.code.len,
                                      f.code8.len, f.rows, f.dim, f.metric, &f.index));
        for (uint32_t q = 0; q < QUERIES; q++) {
            const float *query = queries + (size_t)q * f.dim;
            struct near truth[K], found[K];
            struct vector_found about;
            uint32_t count;
            struct vector_plan plan = vector_plan_make(&f.index, K, 0.95f, f.rows);
            uint32_t wanted = fixture_truth(&f, query, NULL, K, truth);
            fixture_search(&f, query, NULL, plan, INFINITY, found, &count, &about);
            recall[older] += fixture_recall(truth, wanted, found, count) / QUERIES;
            scanned[older] += (double)about.rows_scanned / QUERIES;
            most = !older && about.lists_probed > most ? about.lists_probed : most;
            least = !older && about.lists_probed < least ? about.lists_probed : least;
        }
    }
    print_message("by place: recall %.4f, %.0f rows, %d to %d lists; by budget %.4f, %.0f rows\n",
                  recall[0], scanned[0], (int)least, (int)most, recall[1], scanned[1]);
    assert_true(recall[0] >= 0.93 && recall[1] >= 0.93);
    assert_true(scanned[0] < 0.9 * scanned[1]);
    assert_true(2 * least < most);
    free(queries);
    fixture_done(&f);
}

static void bad_figures_are_refused(void **state)
{
    (void)state;
    struct fixture f = {.rows = 3000, .dim = 30, .flat_rows = 100};
    f.vectors = take_rows(f.rows, f.dim);
    fixture_clusters(f.vectors, f.rows, f.dim, 20, 0.7f, 3, 4);
    fixture_build(&f);
    struct vector_index index;
    struct random random;
    random_seed(&random, 5);
#define OPEN()                                                                                  \
    vector_index_open(f.built.mean, f.built.list, f.built.centq, f.built.code.len, f.code8.len, \
                      f.rows, f.dim, f.metric, &index)
    assert_true(OPEN());
    for (int i = 0; i < 20000; i++) {
        bool in_list = random_below(&random, 2);
        uint8_t *at = in_list ? f.list : f.mean;
        size_t place = (size_t)random_below(&random, in_list ? f.built.list.len : 256);
        uint8_t before = at[place];
        at[place] = (uint8_t)random_u64(&random);
        bool opened = OPEN();
        /* what opens can be searched without leaving its memory */
        if (opened && i % 20 == 0) {
            struct fixture other = f;
            struct near found[10];
            uint32_t count;
            other.index = index;
            struct vector_plan plan = vector_plan_make(&index, 10, 0.99f, index.coded);
            fixture_search(&other, f.vectors, NULL, plan, INFINITY, found, &count, NULL);
        }
        at[place] = before;
    }
    /* codes that nobody wrote: any answer, no harm */
    for (int i = 0; i < 300; i++) {
        struct vector_plan plan = vector_plan_make(&f.index, 10, i % 2 ? 0.99f : 0.9f, f.rows);
        struct near found[10];
        uint32_t count;
        uint8_t *at = i % 3 == 0 ? f.centq : i % 3 == 1 ? f.code : f.code8.at;
        size_t len = i % 3 == 0 ? f.built.centq.len : i % 3 == 1 ? f.built.code.len : f.code8.len;
        for (int j = 0; j < 200; j++)
            at[random_below(&random, len)] = (uint8_t)random_u64(&random);
        plan.mode = (enum vector_mode)(i % 4);
        plan.lists = plan.lists ? plan.lists : 3;
        fixture_search(&f, f.vectors, NULL, plan, INFINITY, found, &count, NULL);
    }
    f.built.list.len -= 16;
    assert_false(OPEN());
    f.built.list.len += 16;
    f.built.code.len -= 1;
    assert_false(OPEN());
    fixture_done(&f);
}

/* docs/formats/vector.md, "Example". */
static void the_page_is_right(void **state)
{
    (void)state;
    static const uint8_t example[64] = {
        0x4f, 0x43, 0x56, 0x58, 0x01, 0, 0, 0, 0x03, 0,    0,    0,    0x40, 0,    0,    0,    /**/
        0,    0,    0,    0,    0,    0, 0, 0, 0x31, 0x76, 0x2d, 0x65, 0x72, 0x68, 0x63, 0x6f, /**/
        0xd0, 0x07, 0,    0,    0,    0, 0, 0, 0x01, 0,    0,    0,    0x3f, 0,    0,    0,    /**/
        0,    0,    0,    0,    0,    0, 0, 0, 0x9a, 0x99, 0x19, 0x3f, 0,    0,    0x80, 0x3f};
    alignas(64) uint8_t mean[256 + 12] = {0};
    uint8_t list[16] = {0, 0, 0, 0, 0xd0, 0x07, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x3f};
    uint8_t centq[16 * 64 + 128] = {0};
    struct vector_index index;
    memcpy(mean, example, sizeof(example));
#define OPENS(code8_bytes)                                                                         \
    vector_index_open(slice_make(mean, sizeof(mean)), slice_make(list, sizeof(list)),              \
                      slice_make(centq, sizeof(centq)), 63 * (4 * 64 + 256), code8_bytes, 2000, 3, \
                      METRIC_L2, &index)
    assert_true(OPENS(2000 * (64 + 8)));
    assert_int_equal(index.coded, 2000);
    assert_int_equal(index.lists, 1);
    assert_true(index.kappa > 0.59f && index.kappa < 0.61f && index.rms == 1.0f);
    assert_false(OPENS(2000 * (64 + 8) - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_metric_meets_its_recall),
        cmocka_unit_test(one_list_is_exact_in_effect),
        cmocka_unit_test(filters_of_any_selectivity_keep_recall),
        cmocka_unit_test(every_mode_respects_mask_and_count),
        cmocka_unit_test(dimensions_small_and_large),
        cmocka_unit_test(lists_of_any_length_around_a_block),
        cmocka_unit_test(equal_rows_come_in_order),
        cmocka_unit_test(odd_rows_do_no_harm),
        cmocka_unit_test(the_same_rows_give_the_same_bytes),
        cmocka_unit_test(a_bound_leaves_only_what_may_be_nearer),
        cmocka_unit_test(searches_that_have_found_all_end),
        cmocka_unit_test(bad_figures_are_refused),
        cmocka_unit_test(the_page_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
