/* SPDX-License-Identifier: Apache-2.0 */
/* `$bm25` in collections so large that rankings run side by side: answers are those of one thread, in the tail and in a part. */
#define STACK_QUERY
#include "support/stack.h"

#include "model/search.h"

#define ROWS 5000

static const char *const searches =
    "[{\"rank\":{\"$sum\":[{\"$bm25\":{\"query\":\"w1 w17 w203\",\"limit\":60,\"default\":2}},"
    "{\"$bm25\":{\"query\":\"w5 nowhere W40\",\"limit\":60,\"default\":2}},"
    "{\"$knn\":{\"query\":[70,1,0,0],\"limit\":50,\"default\":1000}},"
    "{\"$knn\":{\"query\":[3000,1,0,0],\"limit\":20,\"default\":1000}}]}},"
    "{\"filter\":{\"#document\":{\"$contains\":\"w3 \"}},"
    "\"rank\":{\"$bm25\":{\"query\":\"w3 w4 w4\",\"limit\":200}}},"
    "{\"rank\":{\"$bm25\":{\"query\":\"w77\",\"return_rank\":true,\"limit\":500}}}]";

static void fill(struct stack *s, uuid id)
{
    static char documents[ROWS][80], ids[ROWS][12];
    static struct stack_row rows[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t a = i * 2654435761u >> 20, b = i * 40503u >> 4;
        (void)snprintf(documents[i], sizeof(documents[i]), "w%u w%u W%u, w%u w%u x%u", a % 300,
                       b % 90, i % 7, i % 7, a % 12, i);
        (void)snprintf(ids[i], sizeof(ids[i]), "r%u", i);
        rows[i] = (struct stack_row){.op = BATCH_ADD,
                                     .id = ids[i],
                                     .value = (float)i,
                                     .document = i % 13 ? documents[i] : NULL};
    }
    stack_write(s, id, rows, ROWS);
    for (uint32_t i = 3; i < ROWS; i += 11)
        stack_delete(s, id, ids[i]);
}

/* All hits with their scores. */
static void answers_of(struct stack *s, uuid id, struct buf *out)
{
    struct arena arena;
    struct json_value body;
    struct json_fault fault;
    struct search_request request;
    struct query_result result;
    arena_init(&arena, &s->budget, 0);
    OK(json_read(slice_of(searches), NULL, &arena, &body, &fault, err));
    OK(search_parse(&body, slice_of(searches), &arena, &request, err));
    OK(search_check(&request, err));
    struct plan plan = {.kind = PLAN_SEARCH,
                        .collection = id,
                        .limit = PLAN_NO_LIMIT,
                        .recall = 1,
                        .searches = request.searches,
                        .search_count = request.count};
    OK(query_run(s->query, &plan, NULL, &arena, &result, err));
    for (size_t i = 0; i < result.hit_count; i++) {
        assert_true(result.hits[i].count > 10);
        for (size_t j = 0; j < result.hits[i].count; j++)
            buf_printf(out, "%.*s %a\n", SLICE_ARG(result.hits[i].rows[j].record.id),
                       (double)result.hits[i].rows[j].distance);
    }
    query_result_done(&result);
    arena_done(&arena);
}

static void rankings_side_by_side_are_those_of_one_thread(void **state)
{
    (void)state;
    struct stack s = {.threads = 1};
    struct buf first, other;
    stack_open(&s);
    uuid id = stack_collection(&s, "words", "l2");
    fill(&s, id);
    buf_init(&first, BUF_MAX_NONE);
    answers_of(&s, id, &first);
    for (int round = 0; round < 6; round++) {
        if (round == 3)
            stack_flush(&s, id);
        stack_close(&s);
        s.threads = 1 + (unsigned)round % 3 * 2;
        stack_open(&s);
        for (int again = 0; again < 4; again++) {
            buf_init(&other, BUF_MAX_NONE);
            answers_of(&s, id, &other);
            if (!slice_equal(buf_view(&first), buf_view(&other)))
                fail_msg("round %d:\n%.*s", round, SLICE_ARG(buf_view(&other)));
            buf_done(&other);
        }
    }
    buf_done(&first);
    stack_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rankings_side_by_side_are_those_of_one_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
