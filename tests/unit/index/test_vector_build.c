/* SPDX-License-Identifier: Apache-2.0 */
/* Builds by several threads, interrupted ones, and merges: what the index is made of, not what it finds (test_vector.c). */
#include "unit/index/vector_fixture.h"

#include "base/bytes.h"
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
    needs_many_rows();
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
    needs_many_rows();
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

/* ---- merges ---- */

#define INPUTS_MAX 8

/* Inputs one behind the other in seq; row r of the merge is the r-th live source of all of them. */
struct joined {
    struct fixture *inputs[INPUTS_MAX];
    const struct vector_index *indexes[INPUTS_MAX];
    uint32_t *rows_of[INPUTS_MAX]; /* source -> row of an input */
    uint32_t count;
    uint32_t *input, *source; /* by source of the merge */
    _Atomic uint64_t vectors_read, codes_read;
    bool broken; /* codes cannot be read */
};

static och_code joined_row(void *context, uint32_t i, const float **ret_vector, och_error *err)
{
    struct joined *j = context;
    atomic_fetch_add(&j->vectors_read, 1);
    return fixture_row(j->inputs[j->input[i]], j->source[i], ret_vector, err);
}

static void joined_place(const void *context, uint32_t i, uint32_t *ret_input, uint32_t *ret_row)
{
    const struct joined *j = context;
    *ret_input = j->input[i];
    *ret_row = j->rows_of[j->input[i]][j->source[i]];
}

static och_code joined_code8(void *context, uint32_t input, uint32_t row, const uint8_t **ret_row8,
                             och_error *err)
{
    struct joined *j = context;
    (void)err;
    const struct fixture *f = j->inputs[input];
    atomic_fetch_add(&j->codes_read, 1);
    *ret_row8 =
        j->broken ? NULL : (const uint8_t *)f->code8.at + row * code_row_size(f->index.code_dim);
    return OCH_OK;
}

/* `out` gets the vectors of all live rows; every `die`-th row of each input is dead, 0: none. */
static void join(struct joined *j, struct fixture *const *inputs, uint32_t count, uint32_t die,
                 struct fixture *out)
{
    uint32_t rows = 0, n = 0;
    *j = (struct joined){.count = count, .broken = j->broken};
    for (uint32_t i = 0; i < count; i++)
        rows += inputs[i]->rows;
    j->input = malloc(4 * rows);
    j->source = malloc(4 * rows);
    out->dim = inputs[0]->dim;
    out->metric = inputs[0]->metric;
    out->vectors = take_rows(rows, out->dim);
    for (uint32_t i = 0; i < count; i++) {
        struct fixture *f = inputs[i];
        j->inputs[i] = f;
        j->indexes[i] = f->built.coded ? &f->index : NULL;
        j->rows_of[i] = malloc(4 * (f->rows + 1));
        for (uint32_t row = 0; row < f->rows; row++)
            j->rows_of[i][f->order[row]] = row;
        for (uint32_t r = 0; r < f->rows; r++) {
            if (die && r % die == 0)
                continue;
            j->input[n] = i;
            j->source[n] = r;
            memcpy(out->vectors + (size_t)n++ * out->dim, f->vectors + (size_t)r * f->dim,
                   4 * f->dim);
        }
    }
    out->rows = n;
    budget_init(&out->budget, 0, NULL);
    struct vector_rows source = {
        .context = j, .count = n, .row = joined_row, .place = joined_place, .code8 = joined_code8};
    struct vector_options options = {.dimension = out->dim,
                                     .metric = out->metric,
                                     .budget = &out->budget,
                                     .pool = out->pool,
                                     .flat_rows = out->flat_rows,
                                     .list_rows = out->list_rows,
                                     .inputs = j->indexes,
                                     .input_count = count};
    fixture_build_from(out, &options, &source);
}

static void join_done(struct joined *j)
{
    for (uint32_t i = 0; i < j->count; i++)
        free(j->rows_of[i]);
    free(j->input);
    free(j->source);
}

/* A part of one list that takes mean and rotation of another. */
static void build_like(struct fixture *f, const struct fixture *like)
{
    struct vector_rows rows = {.context = f, .count = f->rows, .row = fixture_row};
    budget_init(&f->budget, 0, NULL);
    struct vector_options options = {.dimension = f->dim,
                                     .metric = f->metric,
                                     .budget = &f->budget,
                                     .flat_rows = f->flat_rows,
                                     .like = &like->index};
    fixture_build_from(f, &options, &rows);
}

static void take_clusters(struct fixture *f, uint32_t clusters, uint64_t seed, uint64_t row_seed)
{
    f->vectors = take_rows(f->rows, f->dim);
    fixture_clusters(f->vectors, f->rows, f->dim, clusters, 0.7f, seed, row_seed);
}

static double recall_of(const struct fixture *f, float target, uint64_t seed, uint64_t row_seed,
                        uint32_t clusters, double *ret_scanned)
{
    enum { QUERIES = 100, K = 10 };
    float *queries = take_rows(QUERIES, f->dim);
    fixture_clusters(queries, QUERIES, f->dim, clusters, 0.7f, seed, row_seed);
    double recall = 0, scanned = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        struct near truth[K], found[K];
        struct vector_found stats;
        uint32_t count, want = fixture_truth(f, queries + (size_t)q * f->dim, NULL, K, truth);
        struct vector_plan plan = vector_plan_make(&f->index, K, target, f->rows);
        fixture_search(f, queries + (size_t)q * f->dim, NULL, plan, INFINITY, found, &count,
                       &stats);
        recall += fixture_recall(truth, want, found, count) / QUERIES;
        scanned += (double)stats.rows_scanned / QUERIES;
    }
    free(queries);
    if (ret_scanned)
        *ret_scanned = scanned;
    return recall;
}

/* Parts on the way have long lists; the next one on the way keeps them, the one that stays gets its own. */
static void long_lists_are_for_parts_on_the_way(void **state)
{
    (void)state;
    needs_many_rows();
    struct fixture passing = {.rows = 12000, .dim = 32, .flat_rows = 4000, .list_rows = 300};
    struct fixture more = {.rows = 9000, .dim = 32, .flat_rows = UINT32_MAX};
    struct fixture *const both[] = {&passing, &more};
    take_clusters(&passing, 60, 1, 2);
    take_clusters(&more, 60, 1, 3);
    fixture_build(&passing);
    build_like(&more, &passing);
    assert_true(passing.index.lists >= 36 && passing.index.lists <= 48);
    assert_false(vector_lists_suit(&passing.index));
    assert_true(recall_of(&passing, 0.95f, 1, 9, 60, NULL) > 0.93);
    for (int stays = 0; stays < 2; stays++) {
        struct fixture out = {.flat_rows = 4000, .list_rows = stays ? 0 : 300};
        struct joined j = {0};
        double scanned;
        join(&j, both, 2, 0, &out);
        assert_int_equal(vector_lists_suit(&out.index), stays);
        assert_int_equal(out.built.base == 0, !stays);
        assert_true(stays ? out.index.lists > 400 : out.index.lists == passing.index.lists);
        assert_true(recall_of(&out, 0.95f, 1, 9, 60, &scanned) > 0.92);
        join_done(&j);
        fixture_done(&out);
    }
    fixture_done(&passing);
    fixture_done(&more);
}

static void a_merge_copies_codes_and_keeps_lists_and_recall(void **state)
{
    (void)state;
    needs_many_rows();
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric += 2) {
        struct fixture large = {.rows = 20000, .dim = 48, .metric = metric, .flat_rows = 4000};
        struct fixture small[2] = {{.rows = 3000, .dim = 48, .metric = metric, .flat_rows = 4000},
                                   {.rows = 2500, .dim = 48, .metric = metric, .flat_rows = 4000}};
        take_clusters(&large, 80, 1, 2);
        fixture_build(&large);
        for (int i = 0; i < 2; i++) {
            take_clusters(&small[i], 80, 1, 3 + (uint64_t)i);
            build_like(&small[i], &large);
            assert_int_equal(small[i].index.lists, 1);
            assert_memory_equal(small[i].index.mean, large.index.mean, 4 * large.index.wide);
        }
        struct joined j = {0};
        struct fixture merged = {.flat_rows = 4000, .pool = take_pool(2)};
        join(&j, (struct fixture *const[]){&small[0], &large, &small[1]}, 3, 10, &merged);
        assert_int_equal(merged.built.space_of, 1);
        assert_int_equal(merged.built.base, 1);
        assert_int_equal(merged.index.trained_rows, large.rows);
        assert_int_equal(merged.index.trained_lists, large.index.lists);
        assert_in_range(merged.index.lists, large.index.lists * 9 / 10, large.index.lists);
        assert_true(j.vectors_read <= 128); /* the queries that check its calibration */
        /* every code is that of its input */
        size_t size = code_row_size(merged.index.code_dim);
        for (uint32_t row = 0; row < merged.rows; row++) {
            uint32_t input, old;
            joined_place(&j, merged.order[row], &input, &old);
            assert_memory_equal((uint8_t *)merged.code8.at + row * size,
                                (uint8_t *)j.inputs[input]->code8.at + old * size, size);
        }
        struct fixture rebuilt = {.rows = merged.rows,
                                  .dim = 48,
                                  .metric = metric,
                                  .flat_rows = 4000,
                                  .vectors = merged.vectors};
        fixture_build(&rebuilt);
        double scanned_then, scanned_now;
        double then = recall_of(&rebuilt, 0.95f, 1, 9, 80, &scanned_then),
               now = recall_of(&merged, 0.95f, 1, 9, 80, &scanned_now);
        print_message("recall built %.4f (%.0f rows), merged %.4f (%.0f rows)\n", then,
                      scanned_then, now, scanned_now);
        /* both were asked for .95; how much the whole numbers of so few lists give beyond it is chance */
        assert_true(now >= 0.93 && then >= 0.93);
        assert_true(scanned_now <= 1.25 * scanned_then);
        rebuilt.vectors = NULL;
        fixture_done(&rebuilt);
        pool_free(merged.pool);
        fixture_done(&merged);
        join_done(&j);
        fixture_done(&large);
        fixture_done(&small[0]);
        fixture_done(&small[1]);
    }
}

static void a_part_merged_alone_is_the_same_again(void **state)
{
    (void)state;
    struct fixture f = {.rows = 9000, .dim = 30, .metric = METRIC_COSINE, .flat_rows = 1000};
    take_clusters(&f, 40, 5, 6);
    fixture_build(&f);
    struct joined j = {0};
    struct fixture again = {.flat_rows = 1000};
    join(&j, (struct fixture *const[]){&f}, 1, 0, &again);
    assert_same_index(&f, &again);
    fixture_done(&again);
    join_done(&j);
    /* with codes that cannot be read, the vectors give the same */
    j = (struct joined){.broken = true};
    again = (struct fixture){.flat_rows = 1000};
    join(&j, (struct fixture *const[]){&f}, 1, 0, &again);
    assert_same_index(&f, &again);
    fixture_done(&again);
    join_done(&j);
    fixture_done(&f);
}

/* Parts with a mean of their own, parts without an index, rows without a vector. */
static void strangers_are_assigned_to_the_lists_of_the_largest(void **state)
{
    (void)state;
    struct fixture large = {.rows = 15000, .dim = 40, .flat_rows = 3000};
    struct fixture other = {.rows = 3000, .dim = 40, .flat_rows = 3000},
                   plain = {.rows = 900, .dim = 40};
    take_clusters(&large, 60, 1, 2);
    take_clusters(&other, 60, 1, 3);
    take_clusters(&plain, 60, 1, 4);
    fixture_build(&large);
    fixture_build(&other);
    plain.order = malloc(4 * plain.rows);
    for (uint32_t i = 0; i < plain.rows; i++)
        plain.order[i] = i;
    plain.absent = calloc(plain.rows, sizeof(bool));
    for (uint32_t i = 0; i < plain.rows; i += 9)
        plain.absent[i] = true;
    struct joined j = {0};
    struct fixture merged = {.flat_rows = 3000};
    join(&j, (struct fixture *const[]){&plain, &large, &other}, 3, 0, &merged);
    assert_int_equal(merged.built.base, 1);
    assert_int_equal(merged.index.coded, 15000 + 3000 + 800);
    assert_true(recall_of(&merged, 0.95f, 1, 9, 60, NULL) >= 0.94);
    fixture_done(&merged);
    join_done(&j);
    fixture_done(&large);
    fixture_done(&other);
    fixture_done(&plain);
}

static void merge_two(struct fixture *a, struct fixture *b, uint32_t die, struct fixture *out)
{
    struct joined j = {0};
    join(&j, (struct fixture *const[]){a, b}, 2, die, out);
    join_done(&j);
}

static void lists_are_trained_again_when_they_no_longer_fit(void **state)
{
    (void)state;
    struct fixture base = {.rows = 6000, .dim = 32, .flat_rows = 1000};
    take_clusters(&base, 50, 1, 2);
    fixture_build(&base);
    /* n > 4 x trained */
    struct fixture many = {.rows = 19000, .dim = 32, .flat_rows = UINT32_MAX};
    take_clusters(&many, 50, 1, 3);
    build_like(&many, &base);
    struct fixture grown = {.flat_rows = 1000};
    merge_two(&base, &many, 0, &grown);
    assert_int_equal(grown.built.base, VECTOR_NEW_SPACE);
    assert_int_equal(grown.built.space_of, 1); /* codes are still copied */
    assert_int_equal(grown.index.trained_rows, 25000);
    assert_true(grown.index.lists > base.index.lists * 3 / 2);
    /* n < trained / 8: almost all of it died */
    struct joined j = {0};
    struct fixture shrunk = {.flat_rows = 1000};
    uint32_t keep_rows = 2500;
    j.count = 1;
    j.inputs[0] = &grown;
    j.indexes[0] = &grown.index;
    j.rows_of[0] = malloc(4 * (grown.rows + 1));
    for (uint32_t row = 0; row < grown.rows; row++)
        j.rows_of[0][grown.order[row]] = row;
    j.input = calloc(keep_rows, 4);
    j.source = malloc(4 * keep_rows);
    for (uint32_t i = 0; i < keep_rows; i++)
        j.source[i] = i * 10;
    shrunk.rows = keep_rows;
    shrunk.dim = 32;
    shrunk.vectors = take_rows(keep_rows, 32);
    for (uint32_t i = 0; i < keep_rows; i++)
        memcpy(shrunk.vectors + i * 32ul, grown.vectors + i * 320ul, 128);
    budget_init(&shrunk.budget, 0, NULL);
    struct vector_rows source = {.context = &j,
                                 .count = keep_rows,
                                 .row = joined_row,
                                 .place = joined_place,
                                 .code8 = joined_code8};
    struct vector_options options = {.dimension = 32,
                                     .budget = &shrunk.budget,
                                     .flat_rows = 1000,
                                     .inputs = j.indexes,
                                     .input_count = 1};
    fixture_build_from(&shrunk, &options, &source);
    assert_int_equal(shrunk.index.trained_rows, keep_rows);
    assert_true(shrunk.index.lists < grown.index.lists / 2);
    assert_true(recall_of(&shrunk, 0.95f, 1, 9, 50, NULL) >= 0.94);
    join_done(&j);
    fixture_done(&shrunk);
    fixture_done(&grown);
    fixture_done(&many);
    fixture_done(&base);
}

/* Half of the topics come after training: either the lists still do, or they are trained again. */
static void half_of_the_topics_unseen_costs_little(void **state)
{
    (void)state;
    needs_many_rows();
    struct fixture old = {.rows = 16000, .dim = 48, .metric = METRIC_COSINE, .flat_rows = 2000};
    struct fixture topics = {
        .rows = 15000, .dim = 48, .metric = METRIC_COSINE, .flat_rows = UINT32_MAX};
    take_clusters(&old, 100, 1, 2);
    take_clusters(&topics, 100, 77, 3);
    fixture_build(&old);
    build_like(&topics, &old);
    struct fixture merged = {.flat_rows = 2000};
    merge_two(&old, &topics, 0, &merged);
    struct fixture rebuilt = {.rows = merged.rows,
                              .dim = 48,
                              .metric = METRIC_COSINE,
                              .flat_rows = 2000,
                              .vectors = merged.vectors};
    fixture_build(&rebuilt);
    for (int unseen = 0; unseen < 2; unseen++) {
        double scanned_then, scanned_now;
        double then = recall_of(&rebuilt, 0.95f, unseen ? 77 : 1, 9, 100, &scanned_then),
               now = recall_of(&merged, 0.95f, unseen ? 77 : 1, 9, 100, &scanned_now);
        print_message("%s topics: built %.4f (%.0f rows), merged %.4f (%.0f rows)%s\n",
                      unseen ? "unseen" : "seen", then, scanned_then, now, scanned_now,
                      merged.built.base == VECTOR_NEW_SPACE ? ", trained again" : "");
        assert_true(now >= 0.94 && now >= then - 0.02);
        assert_true(scanned_now <= 1.6 * scanned_then);
    }
    rebuilt.vectors = NULL;
    fixture_done(&rebuilt);
    fixture_done(&merged);
    fixture_done(&old);
    fixture_done(&topics);
}

/* All new rows in one place, which the old lists know nothing of. */
static void a_heap_of_rows_in_one_place_makes_new_lists(void **state)
{
    (void)state;
    needs_many_rows();
    struct fixture old = {.rows = 8000, .dim = 32, .flat_rows = 1000};
    struct fixture heap = {.rows = 16000, .dim = 32, .flat_rows = UINT32_MAX};
    take_clusters(&old, 100, 1, 2);
    take_clusters(&heap, 2, 55, 3);
    fixture_build(&old);
    build_like(&heap, &old);
    struct fixture merged = {.flat_rows = 1000};
    merge_two(&old, &heap, 0, &merged);
    assert_int_equal(merged.built.base, VECTOR_NEW_SPACE);
    struct fixture rebuilt = {
        .rows = merged.rows, .dim = 32, .flat_rows = 1000, .vectors = merged.vectors};
    fixture_build(&rebuilt);
    double then = recall_of(&rebuilt, 0.95f, 55, 9, 2, NULL),
           now = recall_of(&merged, 0.95f, 55, 9, 2, NULL);
    print_message("built %.4f, merged %.4f\n", then, now);
    assert_true(now >= then - 0.03);
    rebuilt.vectors = NULL;
    fixture_done(&rebuilt);
    fixture_done(&merged);
    fixture_done(&old);
    fixture_done(&heap);
}

/* A mean far from all rows makes 8-bit codes coarse: such a one is not taken over. */
static void a_space_that_does_not_fit_is_not_taken_over(void **state)
{
    (void)state;
    struct fixture old = {.rows = 5000, .dim = 32, .flat_rows = 1000};
    struct fixture far = {.rows = 5000, .dim = 32, .flat_rows = 1000};
    take_clusters(&old, 50, 1, 2);
    take_clusters(&far, 50, 1, 3);
    for (size_t i = 0; i < far.rows * 32ul; i++)
        far.vectors[i] += 5;
    fixture_build(&old);
    build_like(&far, &old);
    assert_int_equal(far.built.space_of, VECTOR_NEW_SPACE);
    struct fixture merged = {.flat_rows = 1000};
    merge_two(&old, &far, 0, &merged);
    struct fixture rebuilt = {
        .rows = merged.rows, .dim = 32, .flat_rows = 1000, .vectors = merged.vectors};
    fixture_build(&rebuilt);
    double then = recall_of(&rebuilt, 0.99f, 1, 9, 50, NULL),
           now = recall_of(&merged, 0.99f, 1, 9, 50, NULL);
    print_message("built %.4f, merged %.4f%s\n", then, now,
                  merged.built.space_of == VECTOR_NEW_SPACE ? "" : " in the old space");
    assert_true(now >= then - 0.01);
    rebuilt.vectors = NULL;
    fixture_done(&rebuilt);
    fixture_done(&merged);
    fixture_done(&old);
    fixture_done(&far);
}

/* ---- cells first ---- */

static void with_very_many_lists_the_nearest_cells_are_asked(void **state)
{
    (void)state;
    needs_many_rows();
    for (enum metric metric = METRIC_L2; metric <= METRIC_IP; metric += 2) {
        struct fixture f = {.rows = 25000, .dim = 12, .metric = metric};
        take_clusters(&f, 30, 1, 2);
        fixture_build(&f);
        assert_true(f.index.lists > 500 && f.index.cells > 15);
        for (uint32_t c = 0; c < f.index.cells; c++)
            assert_true(load_u32(f.index.cell_first + 4ul * c) <
                        load_u32(f.index.cell_first + 4ul * c + 4));
        double scanned_all, scanned_few;
        double all = recall_of(&f, 0.98f, 1, 9, 30, &scanned_all);
        print_message("%u of %u cells\n", f.index.super_cells, f.index.cells);
        f.index.super_from = 100;
        assert_true(f.index.super_cells <= f.index.cells / 2);
        double few = recall_of(&f, 0.98f, 1, 9, 30, &scanned_few);
        print_message("all lists: %.4f (%.0f rows), cells first: %.4f (%.0f rows)\n", all,
                      scanned_all, few, scanned_few);
        assert_true(few >= all - 0.005);
        assert_true(scanned_few <= 1.1 * scanned_all);
        /* more wanted than the cells asked first hold */
        struct near truth[400], found[400];
        uint64_t *mask = calloc(f.rows / 64 + 2, 8);
        for (uint32_t row = 0; row < f.rows; row += 250)
            mask[row / 64] |= 1ull << row % 64;
        uint32_t count, want = fixture_truth(&f, f.vectors, mask, 400, truth);
        struct vector_plan plan = vector_plan_make(&f.index, 400, 0.9f, f.rows);
        plan.mode = VECTOR_BUDGET;
        plan.lists = 3;
        fixture_search(&f, f.vectors, mask, plan, INFINITY, found, &count, NULL);
        assert_int_equal(count, want);
        free(mask);
        fixture_done(&f);
    }
}

static void a_bad_super_is_refused(void **state)
{
    (void)state;
    struct fixture f = {.rows = 4000, .dim = 10, .flat_rows = 500};
    take_clusters(&f, 30, 1, 2);
    fixture_build(&f);
    slice super = f.built.super;
    uint8_t *bytes = malloc(super.len);
    for (size_t at = super.len - 4 * ((size_t)f.index.cells + 1); at < super.len; at++) {
        memcpy(bytes, super.at, super.len);
        bytes[at] ^= 0x80; /* of a list's number: beyond all of them, or the same as before */
        struct vector_index index = f.index;
        if (vector_index_super(&index, slice_make(bytes, super.len)))
            for (uint32_t c = 0; c < index.cells; c++)
                assert_true(load_u32(index.cell_first + 4ul * c + 4) <= index.lists);
    }
    assert_false(vector_index_super(&f.index, slice_make(super.at, super.len - 4)));
    assert_false(vector_index_super(&f.index, SLICE_NONE));
    assert_true(vector_index_super(&f.index, super));
    free(bytes);
    fixture_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_threads_gives_the_same_bytes),
        cmocka_unit_test(a_giant_list_is_like_any_other),
        cmocka_unit_test(a_build_can_be_stopped_anywhere),
        cmocka_unit_test(too_little_memory_is_an_error_and_enough_gives_the_same),
        cmocka_unit_test(long_lists_are_for_parts_on_the_way),
        cmocka_unit_test(a_merge_copies_codes_and_keeps_lists_and_recall),
        cmocka_unit_test(a_part_merged_alone_is_the_same_again),
        cmocka_unit_test(strangers_are_assigned_to_the_lists_of_the_largest),
        cmocka_unit_test(lists_are_trained_again_when_they_no_longer_fit),
        cmocka_unit_test(half_of_the_topics_unseen_costs_little),
        cmocka_unit_test(a_heap_of_rows_in_one_place_makes_new_lists),
        cmocka_unit_test(a_space_that_does_not_fit_is_not_taken_over),
        cmocka_unit_test(with_very_many_lists_the_nearest_cells_are_asked),
        cmocka_unit_test(a_bad_super_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
