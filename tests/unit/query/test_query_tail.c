/* SPDX-License-Identifier: Apache-2.0 */
/* The tail searched by its codes, beside the exact scan of the same rows. */
#define STACK_QUERY
#include "support/stack.h"

#include "asking.h"

#define DIM  48
#define ROWS 6000

static const char *const spaces[] = {"l2", "cosine", "ip"};

/* Until all slots that can have a code have one. */
static void warm(struct stack *s, uuid id, const float *query)
{
    struct asked asked;
    for (int i = 0; i < 12; i++)
        asking_ask(s, id, query, DIM, 10, 0, NULL, &asked);
}

/* Rows that were searched by codes: 1-bit ones in whole blocks, or 8-bit ones, whichever costs less on this machine. */
static double by_codes(const struct asked *asked)
{
    double coded = asking_figure(asked, "\"tail\"", "rows_coded");
    return coded > 0 ? coded : asking_figure(asked, "\"tail\"", "rows_scored");
}

static double compare(struct stack *s, uuid id, const float *vectors, const char *where,
                      uint32_t queries)
{
    double recall = 0;
    for (uint32_t q = 0; q < queries; q++) {
        struct asked exact, found;
        float query[DIM];
        for (int d = 0; d < DIM; d++)
            query[d] = vectors[(size_t)(q * 37 + 5) * DIM + (size_t)d] * 1.01f + 0.01f * (float)d;
        asking_ask(s, id, query, DIM, 10, 1, where, &exact);
        asking_ask(s, id, query, DIM, 10, 0, where, &found);
        assert_non_null(strstr(exact.explain, "\"plan\":\"exact scan\""));
        recall += asking_recall(&exact, &found) / queries;
    }
    return recall;
}

static void codes_find_what_a_scan_finds(void **state)
{
    (void)state;
    float *vectors = asking_clusters(ROWS, DIM, 40, 1);
    for (size_t space = 0; space < COUNT_OF(spaces); space++) {
        struct stack s = {0};
        struct asked asked;
        stack_open(&s);
        uuid id = stack_collection(&s, "c", spaces[space]);
        asking_write(&s, id, vectors, DIM, 0, ROWS, BATCH_ADD);
        assert_true(compare(&s, id, vectors, NULL, 40) >= 0.999); /* while they are made */
        warm(&s, id, vectors);
        assert_true(compare(&s, id, vectors, NULL, 100) >= 0.999);
        assert_true(compare(&s, id, vectors, "{\"n\":{\"$lt\":50}}", 40) >= 0.999);
        assert_true(compare(&s, id, vectors, "{\"n\":{\"$lt\":3}}", 40) >= 0.999);
        assert_true(compare(&s, id, vectors, "{\"n\":7}", 40) >= 0.999);
        asking_ask(&s, id, vectors, DIM, 10, 0, NULL, &asked);
        assert_true(by_codes(&asked) == ROWS / 64 * 64);
        assert_true(asking_figure(&asked, "\"tail\"", "rows_exact") == ROWS % 64);
        assert_true(asking_figure(&asked, "\"tail\"", "rows_reranked") < 400);
        stack_done(&s);
    }
    free(vectors);
}

/* Nothing of a code outlives its row: replaced, deleted and patched rows are what they are now. */
static void rows_that_change_are_found_as_they_are(void **state)
{
    (void)state;
    float *vectors = asking_clusters(ROWS, DIM, 40, 2);
    for (size_t space = 0; space < COUNT_OF(spaces); space++) {
        struct stack s = {0};
        struct asked asked;
        stack_open(&s);
        uuid id = stack_collection(&s, "c", spaces[space]);
        asking_write(&s, id, vectors, DIM, 0, 3000, BATCH_ADD);
        stack_flush(&s, id);
        /* patches without a vector: it stays in the part */
        asking_write(&s, id, NULL, DIM, 0, 1500, BATCH_UPDATE);
        asking_write(&s, id, vectors, DIM, 3000, 3000, BATCH_ADD);
        warm(&s, id, vectors);
        /* one list of 1-bit codes misses one neighbour in a thousand */
        assert_true(compare(&s, id, vectors, NULL, 60) >= 0.996);
        asking_ask(&s, id, vectors, DIM, 10, 0, NULL, &asked);
        assert_true(asking_figure(&asked, "\"tail\"", "rows_exact") >= 1500);
        /* the tail's own rows change places, some go */
        float *moved = asking_clusters(ROWS, DIM, 40, 3);
        asking_write(&s, id, moved, DIM, 3000, 1000, BATCH_UPSERT);
        asking_write(&s, id, moved, DIM, 4000, 500, BATCH_DELETE);
        assert_true(compare(&s, id, vectors, NULL, 40) >= 0.996);
        warm(&s, id, vectors);
        assert_true(compare(&s, id, moved, NULL, 60) >= 0.996);
        asking_ask(&s, id, moved + (size_t)3500 * DIM, DIM, 1, 0, NULL, &asked);
        if (strcmp(spaces[space], "ip") != 0)
            assert_int_equal(asked.rows[0], 3500);
        asking_ask(&s, id, vectors + (size_t)4100 * DIM, DIM, 1, 0, NULL, &asked);
        assert_true(asked.rows[0] != 4100);
        /* and in a part */
        stack_flush(&s, id);
        assert_true(compare(&s, id, moved, NULL, 60) >= 0.996);
        free(moved);
        stack_done(&s);
    }
    free(vectors);
}

/* Which of them is first does not depend on where they lie: in parts, the larger one being the later, or in the tail. */
static void copies_come_in_the_order_of_insertion(void **state)
{
    (void)state;
    static const float away[] = {0, 0.001f, 0.1f, 3};
    float *vectors = asking_clusters(1, DIM, 1, 6);
    vectors = realloc(vectors, sizeof(float) * 10000 * DIM);
    assert_non_null(vectors);
    for (size_t i = 1; i < 10000; i++)
        memcpy(vectors + i * DIM, vectors, sizeof(float) * DIM);
    for (size_t space = 0; space < COUNT_OF(spaces); space++) {
        struct stack s = {0};
        stack_open(&s);
        uuid id = stack_collection(&s, "c", spaces[space]);
        asking_write(&s, id, vectors, DIM, 0, 2500, BATCH_ADD);
        stack_flush(&s, id);
        asking_write(&s, id, vectors, DIM, 2500, 4500, BATCH_ADD);
        stack_flush(&s, id);
        asking_write(&s, id, vectors, DIM, 7000, 3000, BATCH_ADD);
        warm(&s, id, vectors);
        for (size_t i = 0; i < COUNT_OF(away) * 10; i++) {
            struct asked found;
            float query[DIM];
            struct random random;
            random_seed(&random, i);
            for (int d = 0; d < DIM; d++)
                query[d] = vectors[d] + away[i / 10] * asking_normal(&random);
            asking_ask(&s, id, query, DIM, 10, 0, NULL, &found);
            assert_int_equal(found.count, 10);
            for (uint32_t j = 0; j < 10; j++)
                assert_int_equal(found.rows[j], j);
        }
        stack_done(&s);
    }
    free(vectors);
}

/* Zero, huge, tiny, equal and integer rows; queries far away and without direction. */
static void odd_rows_and_queries_are_exact(void **state)
{
    (void)state;
    float *vectors = asking_clusters(ROWS, DIM, 40, 4);
    for (uint32_t i = 0; i < ROWS; i++) {
        float *x = vectors + (size_t)i * DIM;
        for (uint32_t d = 0; d < DIM; d++) {
            switch (i % 12) {
            case 0:
                x[d] = 0;
                break;
            case 1:
                x[d] *= 1e18f;
                break;
            case 2:
                x[d] *= 1e-22f;
                break;
            case 3:
                x[d] = (float)(d % 5);
                break;
            case 4:
                x[d] = truncf(10 * x[d]);
                break;
            default:
                break;
            }
        }
    }
    for (size_t space = 0; space < COUNT_OF(spaces); space++) {
        struct stack s = {0};
        struct asked exact, found;
        stack_open(&s);
        uuid id = stack_collection(&s, "c", spaces[space]);
        asking_write(&s, id, vectors, DIM, 0, ROWS, BATCH_ADD);
        warm(&s, id, vectors);
        float query[DIM];
        static const float scales[] = {1, 100, 1e-10f, 1e19f, 0};
        for (size_t i = 0; i < 5 * COUNT_OF(scales); i++) {
            for (uint32_t d = 0; d < DIM; d++)
                query[d] = vectors[(i * 12 + 5 + i % 5) * DIM + d] * scales[i % COUNT_OF(scales)] +
                           (i % 2 && scales[i % COUNT_OF(scales)] != 0 ? 3.0f : 0);
            asking_ask(&s, id, query, DIM, 10, 1, NULL, &exact);
            asking_ask(&s, id, query, DIM, 10, 0, NULL, &found);
            assert_int_equal(exact.count, found.count);
            for (size_t j = 0; j < exact.count; j++) /* equal rows may stand for one another */
                assert_memory_equal(&exact.distances[j], &found.distances[j], sizeof(float));
        }
        stack_done(&s);
    }
    free(vectors);
}

/* A tail without room for codes is scanned. */
static void no_memory_for_codes_costs_nothing_but_time(void **state)
{
    (void)state;
    float *vectors = asking_clusters(ROWS, DIM, 40, 5);
    struct stack s = {0};
    struct asked asked;
    stack_open(&s);
    uuid id = stack_collection(&s, "c", "l2");
    asking_write(&s, id, vectors, DIM, 0, ROWS, BATCH_ADD);
    asking_ask(&s, id, vectors, DIM, 10, 1, NULL, &asked);
    s.budget.limit_bytes = budget_used(&s.budget) + 250000; /* arenas, and about one chunk */
    for (int i = 0; i < 10; i++)
        asking_ask(&s, id, vectors, DIM, 10, 0, NULL, &asked);
    assert_int_equal(asked.rows[0], 0);
    assert_true(asking_figure(&asked, "\"tail\"", "rows_exact") > ROWS / 2);
    s.budget.limit_bytes = 0;
    assert_true(compare(&s, id, vectors, NULL, 30) >= 0.999);
    asking_ask(&s, id, vectors, DIM, 10, 0, NULL, &asked);
    assert_true(asking_figure(&asked, "\"tail\"", "rows_exact") == ROWS % 64);
    stack_done(&s);
    free(vectors);
}

/* About as much work in each dimension, and never all of it. */
static void a_query_codes_fewer_rows_where_they_are_long(void **state)
{
    (void)state;
    enum { MOST = 3000, LONG = 1024 };
    static const struct {
        uint32_t dim;
        double first;
    } shapes[] = {{48, 1024}, {256, 1024}, {768, 320}, {LONG, 256}};
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        uint32_t dim = shapes[i].dim;
        float *vectors = asking_clusters(MOST, dim, 10, 9);
        struct stack s = {0};
        struct asked asked;
        stack_open(&s);
        uuid id = stack_collection(&s, "c", "l2");
        asking_write(&s, id, vectors, dim, 0, MOST, BATCH_ADD);
        for (uint32_t q = 1; q <= 3; q++) {
            double coded = shapes[i].first * q, all = MOST / 64 * 64;
            coded = coded < all ? coded : all;
            asking_ask(&s, id, vectors, dim, 5, 0, NULL, &asked);
            assert_true(by_codes(&asked) == coded);
            assert_true(asking_figure(&asked, "\"tail\"", "rows_exact") == MOST - coded);
        }
        stack_done(&s);
        free(vectors);
    }
}

/* Once a query has asked for codes, writers make those of what they add, and who installs a version those of its tail. */
static void where_queries_look_they_find_codes(void **state)
{
    (void)state;
    float *vectors = asking_clusters(ROWS, DIM, 40, 11);
    struct stack s = {0};
    struct asked asked;
    stack_open(&s);
    uuid id = stack_collection(&s, "c", "l2");
    asking_write(&s, id, vectors, DIM, 0, 3000, BATCH_ADD);
    asking_ask(&s, id, vectors, DIM, 10, 0, NULL, &asked);
    assert_true(asking_figure(&asked, "\"tail\"", "rows_exact") == 3000 - 1024);
    asking_write(&s, id, vectors, DIM, 3000, ROWS - 3000, BATCH_ADD);
    views_settle(s.views, id);
    asking_ask(&s, id, vectors, DIM, 10, 0, NULL, &asked);
    assert_true(by_codes(&asked) == ROWS / 64 * 64);
    OK(views_install(s.views, id, err));
    asking_ask(&s, id, vectors, DIM, 10, 0, NULL, &asked);
    assert_true(by_codes(&asked) == ROWS / 64 * 64);
    assert_true(compare(&s, id, vectors, NULL, 40) >= 0.999);
    stack_done(&s);
    free(vectors);
}

struct racing {
    struct stack *s;
    uuid id;
    const float *vectors;
};

static void ask_task(void *context, size_t i)
{
    struct racing *race = context;
    struct asked asked;
    for (uint32_t q = 0; q < 30; q++) {
        uint32_t row = (uint32_t)(i * 97 + q * 13) % 2000;
        asking_ask(race->s, race->id, race->vectors + (size_t)row * DIM, DIM, 1, 0, NULL, &asked);
        assert_int_equal(asked.rows[0], row);
    }
}

static void readers_make_codes_side_by_side_with_a_writer(void **state)
{
    (void)state;
    float *vectors = asking_clusters(ROWS, DIM, 40, 6);
    struct stack s = {.threads = 4};
    stack_open(&s);
    uuid id = stack_collection(&s, "c", "l2");
    asking_write(&s, id, vectors, DIM, 0, 2500, BATCH_ADD);
    struct racing race = {&s, id, vectors};
    struct pool *pool;
    struct pool_options options = {.name = "ask", .thread_count = 3};
    OK(pool_new(&options, &pool, err));
    for (uint32_t round = 0; round < 7; round++) {
        pool_for(pool, 4, ask_task, &race);
        asking_write(&s, id, vectors, DIM, 2500 + round * 500, 500, BATCH_ADD);
    }
    pool_free(pool);
    assert_true(compare(&s, id, vectors, NULL, 30) >= 0.999);
    stack_done(&s);
    free(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_find_what_a_scan_finds),
        cmocka_unit_test(rows_that_change_are_found_as_they_are),
        cmocka_unit_test(copies_come_in_the_order_of_insertion),
        cmocka_unit_test(odd_rows_and_queries_are_exact),
        cmocka_unit_test(no_memory_for_codes_costs_nothing_but_time),
        cmocka_unit_test(a_query_codes_fewer_rows_where_they_are_long),
        cmocka_unit_test(where_queries_look_they_find_codes),
        cmocka_unit_test(readers_make_codes_side_by_side_with_a_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
