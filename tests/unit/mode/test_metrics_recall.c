/* SPDX-License-Identifier: Apache-2.0 */
/* What GET /metrics says of effort corrected by real queries is what the corrector does. */
#define STACK_QUERY
#include "support/stack.h"

#include "../query/asking.h"
#include "mode/metrics.h"

#define DIM  64
#define ROWS 24000

/* Of a family without labels. */
static double value_of(struct stack *s, const char *name)
{
    struct metrics_sources sources = {.version = "1.0.0",
                                      .clock = &s->clock.clock,
                                      .sysdb = s->sysdb,
                                      .wal = s->wal,
                                      .views = s->views,
                                      .query = s->query,
                                      .cache = s->cache,
                                      .budget = &s->budget};
    struct buf page;
    char line[128];
    buf_init(&page, BUF_MAX_NONE);
    metrics_write(&sources, &page);
    buf_byte(&page, '\0');
    OK(buf_check(&page, "a page", err));
    (void)snprintf(line, sizeof(line), "\n%s ", name);
    const char *at = strstr((const char *)page.at, line);
    if (!at)
        fail_msg("no %s", name);
    double value = strtod(at + strlen(line), NULL);
    buf_done(&page);
    return value;
}

static void expect(struct stack *s, uint64_t remembered, uint64_t corrected, uint64_t corrections)
{
    assert_true(value_of(s, "ochre_recall_remembered_queries") == (double)remembered);
    assert_true(value_of(s, "ochre_recall_corrected_collections") == (double)corrected);
    assert_true(value_of(s, "ochre_recall_corrections_total") == (double)corrections);
}

static void the_page_follows_the_corrector(void **state)
{
    (void)state;
    float *vectors = asking_clusters(ROWS, DIM, 400, 1), *near = asking_clusters(100, DIM, 400, 2),
          *far = asking_far(64, DIM);
    struct stack s = {0};
    struct asked asked;
    stack_open(&s);
    uuid id = stack_collection(&s, "c", "l2");
    asking_write(&s, id, vectors, DIM, 0, ROWS, BATCH_ADD);
    stack_flush(&s, id);
    expect(&s, 0, 0, 0);
    assert_true(value_of(&s, "ochre_recall_effort_max") == 1);
    for (uint32_t q = 0; q < 64; q++) {
        asking_ask(&s, id, far + (size_t)q * DIM, DIM, 10, 0.98f, NULL, &asked);
        if (q == 20)
            expect(&s, 21, 0, 0);
    }
    expect(&s, 64, 0, 0);
    assert_true(value_of(&s, "ochre_recall_queries_rerun_total") == 0);
    assert_true(value_of(&s, "ochre_recall_correction_seconds_total") == 0);
    query_correct_now(s.query);
    expect(&s, 64, 1, 1);
    double effort = value_of(&s, "ochre_recall_effort_max");
    assert_true(effort > 1);
    assert_true(value_of(&s, "ochre_recall_correction_seconds_total") > 0);
    assert_true(value_of(&s, "ochre_recall_queries_rerun_total") >= 3 * 64);
    /* the effort that searches tell of */
    asking_ask(&s, id, far, DIM, 10, 0.98f, NULL, &asked);
    assert_true(fabs(asking_figure(&asked, "", "\"effort\"") - effort) < 0.01);
    /* queries like the data: it goes down again */
    for (int round = 0; round < 12; round++)
        for (uint32_t q = 0; q < 100; q++)
            asking_ask(&s, id, near + (size_t)q * DIM, DIM, 10, 0.98f, NULL, &asked);
    query_correct_now(s.query);
    assert_true(value_of(&s, "ochre_recall_corrections_total") == 2);
    assert_true(value_of(&s, "ochre_recall_effort_max") <= effort / 2);
    stack_done(&s);
    free(vectors);
    free(near);
    free(far);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_follows_the_corrector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
