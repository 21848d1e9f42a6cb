/* SPDX-License-Identifier: Apache-2.0 */
/* Search: its limits, errors and the way to the index.  What expressions, groups and pages answer is in tests/prop/test_rank.c. */
#define STACK_QUERY
#include "support/stack.h"

#include "asking.h"

#include "model/search.h"

static void search(struct stack *s, uuid id, const char *text, struct arena *arena,
                   struct query_result *ret)
{
    struct json_value body;
    struct json_fault fault;
    struct search_request request;
    OK(json_read(slice_of(text), NULL, arena, &body, &fault, err));
    OK(search_parse(&body, slice_of(text), arena, &request, err));
    OK(search_check(&request, err));
    struct plan plan = {.kind = PLAN_SEARCH,
                        .collection = id,
                        .limit = PLAN_NO_LIMIT,
                        .recall = 1,
                        .searches = request.searches,
                        .search_count = request.count};
    OK(query_run(s->query, &plan, NULL, arena, ret, err));
    assert_int_equal(ret->hit_count, request.count);
}

static void a_collection_without_vectors_has_no_neighbours(void **state)
{
    (void)state;
    struct stack s = {0};
    struct arena arena;
    struct query_result result;
    stack_open(&s);
    arena_init(&arena, NULL, 0);
    uuid id = stack_collection(&s, "empty", "l2");
    static const char *const text =
        "[{},{\"rank\":{\"$knn\":{\"query\":[1,2]}}},{\"rank\":{\"$sum\":[{\"$knn\":{\"query\":[1],"
        "\"default\":1}},{\"$val\":2}]}}]";
    search(&s, id, text, &arena, &result);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(result.hits[i].count, 0);
    query_result_done(&result);
    stack_write(&s, id, &(struct stack_row){.op = BATCH_ADD, .id = "a", .no_vector = true}, 1);
    search(&s, id, text, &arena, &result);
    assert_int_equal(result.hits[0].count, 1);
    assert_int_equal(result.hits[1].count, 0);
    assert_int_equal(result.hits[2].count, 0);
    query_result_done(&result);
    arena_done(&arena);
    stack_done(&s);
}

static och_code try_search(struct stack *s, uuid id, const char *text,
                           const struct limits_of_work *limits, och_error *err)
{
    struct arena arena;
    struct json_value body;
    struct json_fault fault;
    struct search_request request;
    struct query_result result;
    arena_init(&arena, &s->budget, 0);
    och_code code = json_read(slice_of(text), NULL, &arena, &body, &fault, err);
    if (code == OCH_OK)
        code = search_parse(&body, slice_of(text), &arena, &request, err);
    if (code == OCH_OK) {
        struct plan plan = {.kind = PLAN_SEARCH,
                            .collection = id,
                            .searches = request.searches,
                            .search_count = request.count};
        code = query_run(s->query, &plan, limits, &arena, &result, err);
        query_result_done(&result);
    }
    arena_done(&arena);
    return code;
}

static void wrong_dimensions_and_patterns_are_refused(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "wrong", "l2");
    stack_add_many(&s, id, 0, 4);
    FAILS(OCH_INVALID, "Collection expecting embedding with dimension of 4, got 3",
          try_search(&s, id, "[{},{\"rank\":{\"$sum\":[{\"$knn\":{\"query\":[1,2,3]}}]}}]", NULL,
                     err));
    FAILS(OCH_INVALID, "Collection expecting embedding with dimension of 4, got 0",
          try_search(&s, id, "[{\"rank\":{\"$knn\":{\"query\":[]}}}]", NULL, err));
    FAILS(OCH_INVALID, "Regex",
          try_search(&s, id, "[{\"filter\":{\"#document\":{\"$regex\":\"(\"}}}]", NULL, err));
    FAILS(OCH_NOT_FOUND, "", try_search(&s, (uuid){{1}}, "[{}]", NULL, err));
    stack_done(&s);
}

static struct stack *failing;
static uuid failing_id;
static och_code search_once(och_error *err)
{
    return try_search(
        failing, failing_id,
        "[{\"rank\":{\"$sum\":[{\"$knn\":{\"query\":[1,1,0,0]}},{\"$knn\":{\"query\":[2,1,0,0],"
        "\"limit\":2}}]},\"group_by\":{\"keys\":[\"c\"],\"aggregate\":{\"$min_k\":{\"keys\":[\"n\"]"
        ","
        "\"k\":1}}},\"select\":{\"keys\":[\"#metadata\"]}},{\"filter\":{\"n\":{\"$gt\":0}}}]",
        NULL, err);
}

static void no_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "memory", "l2");
    for (int i = 0; i < 60; i++) {
        char name[8], metadata[32];
        (void)snprintf(name, sizeof(name), "r%d", i % 45);
        (void)snprintf(metadata, sizeof(metadata), "{\"c\":\"c%d\",\"n\":%d}", i % 5, i % 7);
        stack_write(
            &s, id,
            &(struct stack_row){
                .op = BATCH_UPSERT, .id = name, .value = (float)i, .metadata_json = metadata},
            1);
        if (i == 30)
            stack_flush(&s, id);
    }
    stack_delete(&s, id, "r3");
    failing = &s;
    failing_id = id;
    och_error err = {0};
    assert_int_equal(search_once(&err), OCH_OK);
    och_code code = OCH_NO_MEMORY;
    for (uint64_t nth = 1; nth < 5000 && code != OCH_OK; nth++) {
        mem_fail_at(nth);
        code = search_once(&err);
        mem_fail_at(0);
        if (code != OCH_OK && code != OCH_NO_MEMORY)
            fail_msg("allocation %d: code %d, %s", (int)nth, (int)code, err.message);
    }
    assert_int_equal(code, OCH_OK);
    stack_done(&s);
}

static void deadlines_stop_a_search(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "late", "l2");
    stack_add_many(&s, id, 0, 4);
    struct limits_of_work limits = {.deadline_mono_ns = 1};
    FAILS(OCH_DEADLINE, "", try_search(&s, id, "[{}]", &limits, err));
    stack_done(&s);
}

/* Parts with an index and a tail: what $knn ranks is what a query finds, to the bit, several lists at once and each with its limit. */
static void knn_ranks_what_a_query_finds(void **state)
{
    (void)state;
    enum { DIM = 16, ROWS = 12000, TAIL = 500 };
    struct stack s = {.threads = 3};
    stack_open(&s);
    uuid id = stack_collection(&s, "indexed", "cosine");
    float *vectors = asking_clusters(ROWS + TAIL, DIM, 40, 5);
    asking_write(&s, id, vectors, DIM, 0, ROWS, BATCH_ADD);
    stack_flush(&s, id);
    asking_write(&s, id, vectors, DIM, ROWS, TAIL, BATCH_ADD);
    static const char *const filters_[] = {NULL, "{\"n\":{\"$lt\":20}}", "{\"n\":7}"};
    static const uint32_t limits[] = {10, 10, 25};
    for (size_t f = 0; f < COUNT_OF(filters_); f++) {
        for (uint32_t round = 0; round < 5; round++) {
            struct arena arena;
            struct query_result result;
            CLEANUP(buf_cleanup) struct buf text;
            arena_init(&arena, &s.budget, 0);
            buf_init(&text, BUF_MAX_NONE);
            for (uint32_t q = 0; q < 3; q++) {
                buf_printf(&text, "%s{\"filter\":%s,\"rank\":{\"$sum\":[", q ? "," : "[",
                           filters_[f] ? filters_[f] : "null");
                for (uint32_t v = 0; v < 3;
                     v++) { /* one alone supports; the others have defaults */
                    buf_printf(&text,
                               "%s{\"$mul\":[{\"$val\":%d},{\"$knn\":{\"limit\":%u,%s\"query\":",
                               v ? "," : "", v == q, limits[v], v == q ? "" : "\"default\":0,");
                    json_write_f32_array(&text, vectors + (size_t)(round * 31 + v * 7) * DIM, DIM);
                    buf_text(&text, "}}]}");
                }
                buf_text(&text, "]}}");
            }
            buf_text(&text, "]");
            buf_byte(&text, 0);
            search(&s, id, (const char *)text.at, &arena, &result);
            for (uint32_t q = 0; q < 3; q++) {
                struct asked found;
                asking_ask(&s, id, vectors + (size_t)(round * 31 + q * 7) * DIM, DIM, limits[q], 1,
                           filters_[f], &found);
                assert_int_equal(result.hits[q].count, found.count);
                for (size_t i = 0; i < found.count; i++) {
                    char name[16];
                    (void)snprintf(name, sizeof(name), "r%u", found.rows[i]);
                    assert_true(slice_equal(result.hits[q].rows[i].record.id, slice_of(name)));
                    assert_memory_equal(&result.hits[q].rows[i].distance, &found.distances[i],
                                        sizeof(float));
                }
            }
            query_result_done(&result);
            arena_done(&arena);
        }
    }
    free(vectors);
    stack_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knn_ranks_what_a_query_finds),
        cmocka_unit_test(a_collection_without_vectors_has_no_neighbours),
        cmocka_unit_test(wrong_dimensions_and_patterns_are_refused),
        cmocka_unit_test(no_memory_is_an_error_and_leaks_nothing),
        cmocka_unit_test(deadlines_stop_a_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
