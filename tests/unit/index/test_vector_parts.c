/* SPDX-License-Identifier: Apache-2.0 */
/* Several parts searched as one: a shared budget of lists, a threshold that goes along, candidates joined at the end. */
#include "vector_fixture.h"

#define PARTS   4
#define ROWS    6000
#define DIM     32
#define QUERIES 60
#define K       10

struct totals {
    double recall, coded, scored, reranked;
};

static struct totals run(struct fixture *parts, const float *queries, float recall, bool together,
                         bool backwards)
{
    struct totals sum = {0};
    for (uint32_t q = 0; q < QUERIES; q++) {
        const float *vector = queries + (size_t)q * DIM;
        struct near truth[PARTS * K], all[PARTS * 600];
        uint32_t known = 0, count = 0;
        struct arena arena;
        struct vector_query searches[PARTS], *shared[PARTS];
        struct vector_pages pages[PARTS];
        struct vector_found found[PARTS];
        struct vector_carry carry;
        arena_init(&arena, NULL, 0);
        for (uint32_t p = 0; p < PARTS; p++) {
            struct fixture *f = &parts[backwards ? PARTS - 1 - p : p];
            pages[p] = (struct vector_pages){.context = f, .at = fixture_page};
            searches[p] = (struct vector_query){
                .index = &f->index,
                .pages = &pages[p],
                .vector = vector,
                .bound = INFINITY,
                .plan = vector_plan_make(&f->index, K, recall, f->index.coded)};
            shared[p] = &searches[p];
            assert_int_equal(searches[p].plan.mode, VECTOR_BUDGET);
            known += fixture_truth(f, vector, NULL, K, truth + known);
        }
        qsort(truth, known, sizeof(*truth), near_compare);
        MUST(vector_carry_init(&carry, searches[0].plan.keep, &arena, err));
        for (uint32_t p = 0; p < PARTS && together; p++) {
            searches[p].carry = &carry;
            MUST(vector_search_begin(&searches[p], &arena, &searches[p].begun, err));
        }
        if (together)
            vector_share(shared, PARTS, recall, 1);
        for (uint32_t p = 0; p < PARTS; p++) {
            bool usable;
            MUST(vector_search(&searches[p], &arena, &found[p], &usable, err));
            assert_true(usable);
            sum.coded += (double)found[p].rows_scanned / QUERIES;
            sum.scored += (double)found[p].rows_scored / QUERIES;
        }
        if (together)
            vector_join(found, PARTS, K, &arena);
        for (uint32_t p = 0; p < PARTS; p++) {
            struct fixture *f = &parts[backwards ? PARTS - 1 - p : p];
            sum.reranked += (double)found[p].count / QUERIES;
            for (size_t i = 0; i < found[p].count; i++) {
                uint32_t source = f->order[found[p].rows[i].row];
                all[count++] = (struct near){
                    fixture_distance(f, vector, f->vectors + (size_t)source * DIM), source};
            }
        }
        qsort(all, count, sizeof(*all), near_compare);
        assert_true(count >= K);
        sum.recall += fixture_recall(truth, K, all, K) / QUERIES;
        arena_done(&arena);
    }
    return sum;
}

static void parts_together_cost_less_and_keep_recall(void **state)
{
    (void)state;
    needs_many_rows();
    static const enum metric metrics[] = {METRIC_L2, METRIC_COSINE, METRIC_IP};
    for (size_t m = 0; m < COUNT_OF(metrics); m++) {
        struct fixture parts[PARTS] = {0};
        float *queries = malloc(sizeof(float) * QUERIES * DIM);
        fixture_clusters(queries, QUERIES, DIM, 50, 0.5f, 1, 99);
        for (uint32_t p = 0; p < PARTS; p++) {
            parts[p] =
                (struct fixture){.rows = ROWS, .dim = DIM, .metric = metrics[m], .flat_rows = 1};
            parts[p].vectors = malloc(sizeof(float) * ROWS * DIM);
            fixture_clusters(parts[p].vectors, ROWS, DIM, 50, 0.5f, 1, 10 + p);
            /* with ip each part lifts by a longest row of its own */
            for (uint32_t d = 0; d < DIM; d++)
                parts[p].vectors[d] *= 1 + (float)p;
            fixture_build(&parts[p]);
        }
        for (int backwards = 0; backwards < 2; backwards++) {
            struct totals one = run(parts, queries, 0.95f, true, backwards),
                          alone = run(parts, queries, 0.95f, false, backwards);
            if (one.recall < 0.93 || one.coded > 1.15 * alone.coded ||
                one.scored > 0.85 * alone.scored || one.reranked > 0.6 * alone.reranked)
                fail_msg("metric %d: recall %.3f of %.3f, coded %.0f of %.0f, scored %.0f of %.0f, "
                         "reranked %.1f of %.1f",
                         (int)metrics[m], one.recall, alone.recall, one.coded, alone.coded,
                         one.scored, alone.scored, one.reranked, alone.reranked);
        }
        for (uint32_t p = 0; p < PARTS; p++)
            fixture_done(&parts[p]);
        free(queries);
    }
}

/* Rows found without codes bound the search as much as those found with them. */
static void what_a_scan_found_goes_along(void **state)
{
    (void)state;
    struct fixture f = {.rows = ROWS, .dim = DIM, .metric = METRIC_L2, .flat_rows = 1};
    f.vectors = malloc(sizeof(float) * ROWS * DIM);
    fixture_clusters(f.vectors, ROWS, DIM, 50, 0.5f, 1, 10);
    fixture_build(&f);
    struct near truth[2 * K];
    uint32_t count = fixture_truth(&f, f.vectors, NULL, 2 * K, truth);
    assert_int_equal(count, 2 * K);
    uint64_t scored[2];
    for (int with = 0; with < 2; with++) {
        struct arena arena;
        struct vector_carry carry;
        struct vector_pages pages = {.context = &f, .at = fixture_page};
        struct vector_query query = {.index = &f.index,
                                     .pages = &pages,
                                     .vector = f.vectors,
                                     .bound = INFINITY,
                                     .carry = &carry,
                                     .plan = vector_plan_make(&f.index, K, 0.99f, f.index.coded)};
        struct vector_found found;
        bool usable;
        arena_init(&arena, NULL, 0);
        MUST(vector_carry_init(&carry, query.plan.keep, &arena, err));
        for (uint32_t i = 0; with && i < query.plan.keep; i++)
            vector_carry_add(&carry, METRIC_L2, &query.stretch, (float)truth[K].distance);
        MUST(vector_search(&query, &arena, &found, &usable, err));
        scored[with] = found.rows_scored;
        assert_true(found.count > 0);
        arena_done(&arena);
    }
    assert_true(scored[1] < scored[0]);
    fixture_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_together_cost_less_and_keep_recall),
        cmocka_unit_test(what_a_scan_found_goes_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
