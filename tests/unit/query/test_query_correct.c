/* SPDX-License-Identifier: Apache-2.0 */
/* Effort corrected by real queries: those far off the data reach their recall, those like it lose nothing. */
#define STACK_QUERY
#include "support/stack.h"

#include "asking.h"
#include "query/query.h"

#define DIM  64
#define ROWS 24000

static float *vectors, *near, *far;

static void make(void)
{
    vectors = asking_clusters(ROWS, DIM, 400, 1);
    near = asking_clusters(200, DIM, 400, 2);
    far = asking_far(200, DIM);
}

static double recall_of(struct stack *s, uuid id, const float *queries, uint32_t first,
                        uint32_t count, float target, struct asked *ret_last)
{
    double recall = 0;
    for (uint32_t q = first; q < first + count; q++) {
        struct asked exact;
        asking_ask(s, id, queries + (size_t)q * DIM, DIM, 10, 1, NULL, &exact);
        asking_ask(s, id, queries + (size_t)q * DIM, DIM, 10, target, NULL, ret_last);
        recall += asking_recall(&exact, ret_last) / count;
    }
    return recall;
}

static void open_rows(struct stack *s, uuid *ret)
{
    *s = (struct stack){0};
    stack_open(s);
    *ret = stack_collection(s, "c", "l2");
    asking_write(s, *ret, vectors, DIM, 0, ROWS, BATCH_ADD);
    stack_flush(s, *ret);
}

static struct query_options own_options(struct stack *s)
{
    return (struct query_options){.views = s->views,
                                  .cache = s->cache,
                                  .clock = &s->clock.clock,
                                  .trace = &s->trace,
                                  .budget = &s->budget,
                                  .correct = true};
}

static void queries_far_off_reach_their_recall(void **state)
{
    (void)state;
    struct stack s;
    struct asked asked;
    struct query_stats stats;
    uuid id;
    open_rows(&s, &id);
    double before = recall_of(&s, id, far, 0, 64, 0.98f, &asked);
    assert_true(before < 0.96); /* else this test tests nothing */
    assert_true(asking_figure(&asked, "", "\"effort\"") == 1);
    query_correct_now(s.query);
    double after = recall_of(&s, id, far, 100, 100, 0.98f, &asked); /* others of the kind */
    double effort = asking_figure(&asked, "", "\"effort\"");
    if (after < 0.97 || effort <= 1)
        fail_msg("recall %.4f, then %.4f, effort %.2f", before, after, effort);
    assert_true(asking_figure(&asked, "\"correction\"", "recall_before") < 0.96);
    assert_true(asking_figure(&asked, "\"correction\"", "recall_after") >= 0.98);
    query_stats(s.query, &stats);
    assert_int_equal(stats.corrections, 1);
    assert_int_equal(stats.corrected, 1);
    assert_int_equal(stats.remembered, 64);
    /* each exactly, and at two efforts at least */
    assert_true(stats.asked >= 3 * 64 && stats.asked % 64 == 0);
    assert_true((double)stats.effort_max >= effort - 0.01);
    /* queries like the data are found at least as well as before */
    assert_true(recall_of(&s, id, near, 0, 100, 0.98f, &asked) >= 0.97);
    /* and when only they are asked for a while, the effort goes down again */
    for (int round = 0; round < 12; round++)
        for (uint32_t q = 0; q < 100; q++)
            asking_ask(&s, id, near + (size_t)q * DIM, DIM, 10, 0.98f, NULL, &asked);
    query_correct_now(s.query);
    double recall = recall_of(&s, id, near, 100, 100, 0.98f, &asked);
    if (recall < 0.97 || asking_figure(&asked, "", "\"effort\"") > effort / 2)
        fail_msg("recall %.4f, %.300s", recall, asked.explain);
    stack_done(&s);
}

static void queries_like_the_data_are_left_alone(void **state)
{
    (void)state;
    struct stack s;
    struct asked asked;
    uuid id;
    open_rows(&s, &id);
    double before = recall_of(&s, id, near, 0, 100, 0.95f, &asked);
    query_correct_now(s.query);
    double after = recall_of(&s, id, near, 0, 100, 0.95f, &asked);
    assert_true(after >= before);
    assert_true(after >= 0.94);
    assert_true(asking_figure(&asked, "", "\"effort\"") <= 1.5);
    stack_done(&s);
}

/* Nothing is kept of exact, filtered and small searches, nor of more collections than there is room for. */
static void little_is_remembered(void **state)
{
    (void)state;
    struct stack s;
    struct asked asked;
    struct query_stats stats;
    uuid id;
    open_rows(&s, &id);
    uuid small = stack_collection(&s, "small", "l2");
    asking_write(&s, small, vectors, DIM, 0, 3000, BATCH_ADD);
    for (uint32_t q = 0; q < 100; q++) {
        asking_ask(&s, id, near + (size_t)q * DIM, DIM, 10, 1, NULL, &asked);
        asking_ask(&s, id, near + (size_t)q * DIM, DIM, 10, 0, "{\"n\":3}", &asked);
        asking_ask(&s, small, near + (size_t)q * DIM, DIM, 10, 0, NULL, &asked);
    }
    query_stats(s.query, &stats);
    assert_int_equal(stats.remembered, 0);
    query_correct_now(s.query);
    query_stats(s.query, &stats);
    assert_int_equal(stats.corrections, 0);
    assert_int_equal(stats.asked, 0);
    stack_done(&s);
}

/* The thread does the same when nobody asks, and none is left behind in the middle of it. */
static void it_happens_by_itself(void **state)
{
    (void)state;
    struct stack s;
    struct query_stats stats = {0};
    uuid id;
    open_rows(&s, &id);
    struct query *own = s.query;
    struct query_options options = own_options(&s);
    for (int stop_early = 0; stop_early < 2; stop_early++) {
        struct asked asked;
        OK(query_local_new(&options, &s.query, err));
        for (uint32_t q = 0; q < 64; q++)
            asking_ask(&s, id, far + (size_t)q * DIM, DIM, 10, 0.98f, NULL, &asked);
        query_stats(s.query, &stats);
        assert_int_equal(stats.corrections, 0); /* not under load */
        /* minutes, since the thread has the lowest priority and the machine may be busy */
        for (int i = 0; i < 30000 && !stop_early && stats.corrections == 0; i++) {
            sched_sleep_ns(10000000);
            query_stats(s.query, &stats);
        }
        if (!stop_early)
            assert_true(stats.corrections >= 1);
        else
            sched_sleep_ns(250000000);
        query_stop(s.query);
        asking_ask(&s, id, far, DIM, 10, 0.98f, NULL, &asked);
        query_free(s.query);
    }
    s.query = own;
    stack_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries_far_off_reach_their_recall),
        cmocka_unit_test(queries_like_the_data_are_left_alone),
        cmocka_unit_test(little_is_remembered),
        cmocka_unit_test(it_happens_by_itself),
    };
    make();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(vectors);
    free(near);
    free(far);
    return failed;
}
