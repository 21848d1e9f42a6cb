/* SPDX-License-Identifier: Apache-2.0 */
/* Plans over parts and tail: the same answers however rows lie, insertion order, exact hits, limits of work and memory (DESIGN §3: 4, 5, 11). */
#define STACK_QUERY
#include "support/stack.h"

#include <float.h>
#include <math.h>

static const char *ids_of(const struct query_hits *hits, bool distances)
{
    static char text[8192];
    size_t len = 0;
    text[0] = '\0';
    for (size_t i = 0; i < hits->count && len < sizeof(text) - 64; i++) {
        int n = snprintf(text + len, sizeof(text) - len, "%s%.*s", i ? "," : "",
                         SLICE_ARG(hits->rows[i].record.id));
        len += (size_t)n;
        if (distances)
            len += (size_t)snprintf(text + len, sizeof(text) - len, ":%g",
                                    (double)hits->rows[i].distance);
    }
    return text;
}

static void expect_get(struct stack *s, struct plan *plan, const char *expected)
{
    struct arena arena;
    struct query_result result;
    arena_init(&arena, &s->budget, 0);
    OK(query_run(s->query, plan, NULL, &arena, &result, err));
    assert_int_equal(result.hit_count, 1);
    assert_string_equal(ids_of(&result.hits[0], plan->kind == PLAN_QUERY), expected);
    query_result_done(&result);
    query_result_done(&result); /* twice is fine */
    arena_done(&arena);
}

static struct plan get_plan(uuid id)
{
    return (struct plan){
        .kind = PLAN_GET, .collection = id, .fields = RECORD_ALL, .limit = PLAN_NO_LIMIT};
}

static struct plan query_plan(uuid id, const float *vector, uint32_t k)
{
    return (struct plan){.kind = PLAN_QUERY,
                         .collection = id,
                         .fields = RECORD_ALL,
                         .limit = PLAN_NO_LIMIT,
                         .vectors = vector,
                         .vector_count = 1,
                         .dimension = STACK_DIM,
                         .k = k};
}

static uint64_t count(struct stack *s, uuid id, const struct filter_node *filter)
{
    struct arena arena;
    struct query_result result;
    arena_init(&arena, NULL, 0);
    struct plan plan = {.kind = PLAN_COUNT, .collection = id, .filter = filter};
    OK(query_run(s->query, &plan, NULL, &arena, &result, err));
    uint64_t rows = result.count;
    query_result_done(&result);
    arena_done(&arena);
    return rows;
}

static const struct filter_node *where(const char *json, struct arena *arena)
{
    struct json_value value;
    struct json_fault fault;
    struct filter_node *node = NULL;
    OK(json_read(slice_of(json), NULL, arena, &value, &fault, err));
    OK(filter_parse_where(&value, arena, &node, err));
    return node;
}

/* Three parts and a tail in which updates and a re-added id have mixed places. */
static uuid mixed(struct stack *s, const char *name)
{
    uuid id = stack_collection(s, name, "l2");
    stack_add_many(s, id, 0, 4);
    stack_flush(s, id);
    stack_write(s, id, &(struct stack_row){.op = BATCH_UPDATE, .id = "id2", .value = 22}, 1);
    stack_add_many(s, id, 4, 2);
    stack_flush(s, id);
    stack_write(s, id, &(struct stack_row){.op = BATCH_UPDATE, .id = "id0", .value = 20}, 1);
    stack_delete(s, id, "id1");
    stack_flush(s, id);
    stack_write(s, id, &(struct stack_row){.op = BATCH_UPDATE, .id = "id4", .value = 24}, 1);
    stack_add(s, id, "id1", 31);
    stack_add(s, id, "id6", 6);
    stack_write(s, id, &(struct stack_row){.op = BATCH_UPDATE, .id = "id3", .value = 23}, 1);
    return id;
}

static void pages_follow_insertion_order_over_parts_and_tail(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = mixed(&s, "pages");
    static const char *const order[] = {"id0", "id2", "id3", "id4", "id5", "id1", "id6"};
    for (uint64_t offset = 0; offset <= 8; offset++) {
        for (uint64_t limit = 0; limit <= 8; limit++) {
            char expected[128] = "";
            for (uint64_t i = offset; i < 7 && i < offset + limit; i++) {
                (void)strcat(expected, *expected ? "," : "");
                (void)strcat(expected, order[i]);
            }
            struct plan plan = get_plan(id);
            plan.offset = offset;
            plan.limit = limit;
            expect_get(&s, &plan, expected);
        }
    }
    struct plan plan = get_plan(id);
    plan.offset = UINT64_MAX;
    expect_get(&s, &plan, "");
    assert_int_equal(count(&s, id, NULL), 7);
    stack_done(&s);
}

static void ids_come_in_insertion_order_once_each(void **state)
{
    (void)state;
    struct stack s = {0};
    struct arena arena;
    stack_open(&s);
    arena_init(&arena, NULL, 0);
    uuid id = mixed(&s, "ids");
    slice ids[] = {SLICE("id6"), SLICE("id0"), SLICE("nobody"), SLICE("id6"),
                   SLICE("id1"), SLICE("id0"), SLICE("")};
    struct plan plan = get_plan(id);
    plan.has_ids = true;
    plan.ids = ids;
    plan.id_count = COUNT_OF(ids);
    expect_get(&s, &plan, "id0,id1,id6");
    plan.offset = 1;
    plan.limit = 1;
    expect_get(&s, &plan, "id1");
    plan.id_count = 0;
    expect_get(&s, &plan, "");
    plan = get_plan(id);
    plan.filter = where("{\"#id\":{\"$in\":[\"id3\",\"id6\",\"x\"]}}", &arena);
    expect_get(&s, &plan, "id3,id6");
    assert_int_equal(count(&s, id, plan.filter), 2);
    float at[STACK_DIM] = {6, 1};
    plan = query_plan(id, at, 10);
    plan.has_ids = true;
    plan.ids = ids;
    plan.id_count = COUNT_OF(ids);
    expect_get(&s, &plan, "id6:0,id0:196,id1:625");
    arena_done(&arena);
    stack_done(&s);
}

static void hits_are_min_k_survivors_with_ties_by_seq(void **state)
{
    (void)state;
    struct stack s = {.threads = 3};
    stack_open(&s);
    uuid id = stack_collection(&s, "ties", "l2");
    float at[STACK_DIM] = {0, 1};
    struct plan plan = query_plan(id, at, 5);
    expect_get(&s, &plan, ""); /* no dimension yet */
    for (int i = 0; i < 9; i++) {
        char name[8];
        (void)snprintf(name, sizeof(name), "t%d", i);
        stack_add(&s, id, name, (float)(i % 2));
        if (i % 3 == 2)
            stack_flush(&s, id);
    }
    stack_write(&s, id, &(struct stack_row){.op = BATCH_UPDATE, .id = "t3", .value = 0}, 1);
    expect_get(&s, &plan, "t0:0,t2:0,t3:0,t4:0,t6:0");
    plan.k = 100;
    expect_get(&s, &plan, "t0:0,t2:0,t3:0,t4:0,t6:0,t8:0,t1:1,t5:1,t7:1");
    plan.k = 0;
    expect_get(&s, &plan, "");
    plan.k = UINT32_MAX;
    plan.level = READ_INDEX_ONLY;
    expect_get(&s, &plan, "t0:0,t2:0,t4:0,t6:0,t8:0,t1:1,t3:1,t5:1,t7:1");
    float other[3] = {1, 2, 3};
    plan.vectors = other;
    plan.dimension = 3;
    struct arena arena;
    struct query_result result;
    arena_init(&arena, NULL, 0);
    FAILS(OCH_INVALID, "Collection expecting embedding with dimension of 4, got 3",
          query_run(s.query, &plan, NULL, &arena, &result, err));
    arena_done(&arena);
    stack_done(&s);
}

static void rows_without_vectors_are_no_hits(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "bare", "l2");
    struct stack_row rows[] = {{.op = BATCH_ADD, .id = "a", .no_vector = true},
                               {.op = BATCH_ADD, .id = "b", .value = 2}};
    float at[STACK_DIM] = {0, 1};
    struct plan get = get_plan(id), query = query_plan(id, at, 5);
    for (int round = 0; round < 2; round++) {
        if (round == 0)
            stack_write(&s, id, rows, 2);
        else
            stack_flush(&s, id);
        expect_get(&s, &get, "a,b");
        expect_get(&s, &query, "b:4");
    }
    stack_done(&s);
}

static void zero_and_huge_vectors_have_their_distances(void **state)
{
    (void)state;
    static const struct {
        const char *space;
        float query;
        const char *expected; /* of rows 0, 1, 1e30, -1e30 in {value, 1} */
    } cases[] = {
        {"l2", 1, "one:0,zero:1,big:inf,neg:inf"},
        {"l2", 1e30f, "big:0,zero:inf,one:inf,neg:inf"},
        {"ip", 1, "big:-1e+30,one:-1,zero:0,neg:1e+30"},
        {"ip", 1e30f, "one:-1e+30,zero:0,big:inf,neg:inf"},
        {"cosine", 1, "one:0,zero:0.292893,big:0.292893,neg:1.70711"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct stack s = {0};
        stack_open(&s);
        uuid id = stack_collection(&s, "huge", cases[i].space);
        struct stack_row rows[] = {{.op = BATCH_ADD, .id = "zero", .value = 0},
                                   {.op = BATCH_ADD, .id = "one", .value = 1},
                                   {.op = BATCH_ADD, .id = "big", .value = 1e30f},
                                   {.op = BATCH_ADD, .id = "neg", .value = -1e30f}};
        stack_write(&s, id, rows, 4);
        float at[STACK_DIM] = {cases[i].query, 1};
        struct plan plan = query_plan(id, at, 9);
        expect_get(&s, &plan, cases[i].expected);
        stack_flush(&s, id);
        expect_get(&s, &plan, cases[i].expected);
        if (i == 4) { /* a zero vector on either side: 1.0 exactly */
            float none[STACK_DIM] = {0};
            plan.vectors = none;
            expect_get(&s, &plan, "zero:1,one:1,big:1,neg:1");
        }
        stack_done(&s);
    }
}

static void expired_rows_are_nowhere(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "expired", "l2");
    struct stack_row rows[] = {
        {.op = BATCH_ADD, .id = "a", .value = 1, .expires_ms = STACK_NOW_MS + 10},
        {.op = BATCH_ADD, .id = "b", .value = 2}};
    stack_write(&s, id, rows, 2);
    float at[STACK_DIM] = {0, 1};
    slice ids[] = {SLICE("a"), SLICE("b")};
    for (int round = 0; round < 2; round++) {
        struct plan get = get_plan(id), query = query_plan(id, at, 5), named = get_plan(id);
        named.has_ids = true;
        named.ids = ids;
        named.id_count = 2;
        assert_int_equal(count(&s, id, NULL), round == 0 ? 2 : 1);
        expect_get(&s, &get, round == 0 ? "a,b" : "b");
        expect_get(&s, &named, round == 0 ? "a,b" : "b");
        expect_get(&s, &query, round == 0 ? "a:1,b:4" : "b:4");
        stack_flush(&s, id);
        if (round == 0)
            stack_add(&s, id, "gone", 9), stack_delete(&s, id, "gone");
        clock_manual_advance(&s.clock, 20 * 1000000ull);
    }
    stack_done(&s);
}

/* ---- limits ---- */

static void deadlines_and_cancelling_end_the_work(void **state)
{
    (void)state;
    struct stack s = {.threads = 2};
    stack_open(&s);
    uuid id = stack_collection(&s, "limits", "l2");
    stack_add_many(&s, id, 0, 9000);
    float at[STACK_DIM] = {0, 1};
    struct plan plans[] = {
        get_plan(id), query_plan(id, at, 5), {.kind = PLAN_COUNT, .collection = id}};
    struct cancel cancel = {.fired = true};
    struct limits_of_work late = {.deadline_mono_ns = 1}, cancelled = {.cancel = &cancel};
    for (size_t i = 0; i < COUNT_OF(plans); i++) {
        struct arena arena;
        struct query_result result;
        arena_init(&arena, &s.budget, 0);
        FAILS(OCH_DEADLINE, "", query_run(s.query, &plans[i], &late, &arena, &result, err));
        query_result_done(&result);
        FAILS(OCH_CANCELLED, "", query_run(s.query, &plans[i], &cancelled, &arena, &result, err));
        query_result_done(&result);
        arena_done(&arena);
    }
    /* In the middle of it, too: someone hangs up while tasks run. */
    atomic_store(&cancel.fired, false);
    for (int round = 0; round < 20; round++) {
        struct arena arena;
        struct query_result result;
        arena_init(&arena, &s.budget, 0);
        struct limits_of_work soon = {.deadline_mono_ns =
                                          sched_mono_ns() + (uint64_t)round * 20000};
        och_code code = query_run(s.query, &plans[round % 2], &soon, &arena, &result, NULL);
        assert_true(code == OCH_OK || code == OCH_DEADLINE);
        query_result_done(&result);
        arena_done(&arena);
    }
    stack_done(&s);
}

static void each_failing_allocation_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    struct stack s = {.threads = 0};
    struct arena keep;
    stack_open(&s);
    arena_init(&keep, NULL, 0);
    uuid id = mixed(&s, "failing");
    float at[STACK_DIM] = {0, 1};
    slice ids[] = {SLICE("id6"), SLICE("id0")};
    struct plan plans[6] = {get_plan(id),          get_plan(id), query_plan(id, at, 5),
                            query_plan(id, at, 5), get_plan(id), query_plan(id, at, 5)};
    plans[1].has_ids = plans[3].has_ids = true;
    plans[1].ids = plans[3].ids = ids;
    plans[1].id_count = plans[3].id_count = 2;
    plans[4].filter = plans[5].filter =
        where("{\"$or\":[{\"a\":1},{\"b\":{\"$ne\":\"x\"}}]}", &keep);
    plans[5].explain = true;
    for (size_t i = 0; i < COUNT_OF(plans); i++) {
        unsigned passes = 0, failures = 0;
        for (uint64_t n = 1; passes < 3 && n < 2000; n++) {
            struct arena arena;
            struct query_result result;
            cache_shrink(s.cache, 0);
            uint64_t live = mem_count_live();
            arena_init(&arena, &s.budget, 0);
            mem_fail_at(n);
            och_code code = query_run(s.query, &plans[i], NULL, &arena, &result, NULL);
            mem_fail_at(0);
            passes = code == OCH_OK ? passes + 1 : 0;
            failures += code != OCH_OK;
            query_result_done(&result);
            arena_done(&arena);
            cache_shrink(s.cache, 0);
            struct view *view = NULL; /* brings back what a failure let go */
            OK(view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, err));
            view_release(view);
            if (n > 1 && mem_count_live() > live + 64)
                fail_msg("allocation %d of plan %d leaks", (int)n, (int)i);
        }
        assert_true(passes >= 3 && failures > 3);
    }
    arena_done(&keep);
    stack_done(&s);
}

/* D24: an answer that does not fit is refused, and nothing stays taken. */
static void an_answer_beyond_the_budget_is_refused(void **state)
{
    (void)state;
    struct stack s = {.memory_limit = 6 << 20};
    stack_open(&s);
    uuid id = stack_collection(&s, "budget", "l2");
    stack_add_many(&s, id, 0, 6000);
    struct plan plan = get_plan(id);
    struct arena arena;
    struct query_result result;
    struct view *view = NULL;
    OK(view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, err));
    view_release(view);
    int64_t before = budget_used(&s.budget);
    budget_force(&s.budget, (size_t)(budget_free(&s.budget) - (512 << 10)));
    arena_init(&arena, &s.budget, 0);
    och_code code = query_run(s.query, &plan, NULL, &arena, &result, NULL);
    assert_true(code == OCH_BUSY || code == OCH_NO_MEMORY);
    query_result_done(&result);
    arena_done(&arena);
    budget_give(&s.budget, (size_t)(budget_used(&s.budget) - before));
    plan.limit = 10;
    expect_get(&s, &plan, "id0,id1,id2,id3,id4,id5,id6,id7,id8,id9");
    stack_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_follow_insertion_order_over_parts_and_tail),
        cmocka_unit_test(ids_come_in_insertion_order_once_each),
        cmocka_unit_test(hits_are_min_k_survivors_with_ties_by_seq),
        cmocka_unit_test(rows_without_vectors_are_no_hits),
        cmocka_unit_test(zero_and_huge_vectors_have_their_distances),
        cmocka_unit_test(expired_rows_are_nowhere),
        cmocka_unit_test(deadlines_and_cancelling_end_the_work),
        cmocka_unit_test(each_failing_allocation_is_an_error_and_leaks_nothing),
        cmocka_unit_test(an_answer_beyond_the_budget_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
