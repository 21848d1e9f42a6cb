/* SPDX-License-Identifier: Apache-2.0 */
/* Nearest neighbours by the parts' vector indexes, beside the exact scan of the same rows: parts, tail, deletions, filters, expiry. */
#define STACK_QUERY
#include "support/stack.h"

#include <math.h>

#define DIM  16
#define K    10
#define ROWS 23000 /* of the first part: more than one list */
#define MORE 4000  /* of the second: one list */
#define TAIL 300

static float *vectors; /* of all rows */

static void make_vectors(void)
{
    struct random random;
    random_seed(&random, 3);
    float centers[60][DIM];
    vectors = calloc((size_t)(ROWS + MORE + TAIL) * DIM, sizeof(float));
    assert_non_null(vectors);
    for (int c = 0; c < 60; c++)
        for (int d = 0; d < DIM; d++)
            centers[c][d] = (float)random_unit(&random) * 2 - 1;
    for (size_t i = 0; i < ROWS + MORE + TAIL; i++) {
        const float *center = centers[random_below(&random, 60)];
        for (int d = 0; d < DIM; d++)
            vectors[i * DIM + (size_t)d] = center[d] + 0.6f * ((float)random_unit(&random) - 0.5f);
    }
}

/* Rows "r<i>" with {"n": i % 100}; every 50th goes away at once by the view's clock. */
static void write_rows(struct stack *s, uuid id, uint32_t first, uint32_t count, uint8_t op)
{
    for (uint32_t done = 0; done < count;) {
        uint32_t step = count - done < 1000 ? count - done : 1000;
        struct arena arena;
        arena_init(&arena, NULL, 0);
        struct batch_input_row *input = ARENA_ARRAY(&arena, struct batch_input_row, step);
        assert_non_null(input);
        for (uint32_t i = 0; i < step; i++) {
            uint32_t row = first + done + i;
            struct json_value value;
            struct json_fault fault;
            struct buf encoded;
            buf_init(&encoded, BUF_MAX_NONE);
            const char *json = arena_printf(&arena, "{\"n\":%u}", (unsigned)(row % 100));
            OK(json_read(slice_of(json), NULL, &arena, &value, &fault, err));
            OK(meta_from_json(&value, META_ALLOW_DELETE, &encoded, err));
            input[i] = (struct batch_input_row){
                .op = op, .id = slice_of(arena_printf(&arena, "r%u", (unsigned)row))};
            if (op != BATCH_DELETE) {
                input[i].vector = vectors + (size_t)row * DIM;
                input[i].metadata_state = FIELD_VALUE;
                input[i].metadata = arena_copy(&arena, buf_view(&encoded));
            }
            buf_done(&encoded);
        }
        struct batch_input batch = {
            .count = step, .dimension = op == BATCH_DELETE ? 0 : DIM, .rows = input};
        struct payload *payload = NULL;
        struct wal_appended appended;
        OK(batch_encode(&batch, &s->budget, &payload, err));
        struct wal_append request = {.collection = id,
                                     .payload = payload,
                                     .count = step,
                                     .dimension = batch.dimension,
                                     .fixes_dimension = batch.dimension != 0};
        OK(wal_append(s->wal, &request, &appended, err));
        payload_unref(payload);
        arena_done(&arena);
        done += step;
    }
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

struct answer {
    char ids[64][16];
    float distances[64];
    size_t count;
    bool by_index;
};

static void ask(struct stack *s, uuid id, const float *query, uint32_t k, float recall,
                const char *filter, struct answer *ret)
{
    struct arena arena;
    struct query_result result;
    arena_init(&arena, NULL, 0);
    struct plan plan = {.kind = PLAN_QUERY,
                        .collection = id,
                        .fields = RECORD_ID,
                        .limit = PLAN_NO_LIMIT,
                        .vectors = query,
                        .vector_count = 1,
                        .dimension = DIM,
                        .k = k,
                        .recall = recall,
                        .filter = filter ? where(filter, &arena) : NULL,
                        .explain = true};
    OK(query_run(s->query, &plan, NULL, &arena, &result, err));
    ret->count = result.hits[0].count;
    assert_true(ret->count <= 64);
    for (size_t i = 0; i < ret->count; i++) {
        slice name = result.hits[0].rows[i].record.id;
        (void)snprintf(ret->ids[i], sizeof(ret->ids[i]), "%.*s", SLICE_ARG(name));
        ret->distances[i] = result.hits[0].rows[i].distance;
        assert_true(!i || ret->distances[i - 1] <= ret->distances[i]);
    }
    ret->by_index = memmem(result.explain.at, result.explain.len, "vector index", 12) != NULL;
    query_result_done(&result);
    arena_done(&arena);
}

/* Share of the exact answers found; distances of what is found are those of the scan, bit for bit. */
static double compare(struct stack *s, uuid id, const char *filter, uint32_t queries,
                      bool *ret_used)
{
    double recall = 0;
    *ret_used = false;
    for (uint32_t q = 0; q < queries; q++) {
        struct answer exact, found;
        float query[DIM];
        for (int d = 0; d < DIM; d++)
            query[d] = vectors[(size_t)(q * 97 + 5) * DIM + (size_t)d] * 1.01f + 0.003f * (float)d;
        ask(s, id, query, K, 1, filter, &exact);
        ask(s, id, query, K, 0, filter, &found);
        assert_false(exact.by_index);
        *ret_used |= found.by_index;
        assert_int_equal(exact.count, found.count);
        for (size_t i = 0; i < exact.count; i++) {
            for (size_t j = 0; j < found.count; j++) {
                if (strcmp(exact.ids[i], found.ids[j]) != 0)
                    continue;
                recall += 1.0 / (double)(exact.count * queries);
                assert_memory_equal(&exact.distances[i], &found.distances[j], sizeof(float));
            }
        }
    }
    return recall;
}

static bool is_there(const struct answer *answer, const char *id)
{
    for (size_t i = 0; i < answer->count; i++)
        if (strcmp(answer->ids[i], id) == 0)
            return true;
    return false;
}

static const char *const filters[] = {"{\"n\":{\"$lt\":90}}", "{\"n\":{\"$lt\":50}}",
                                      "{\"n\":{\"$lt\":10}}", "{\"n\":7}", "{\"n\":1000}"};

static void parts_and_tail_answer_as_one(void **state)
{
    (void)state;
    static const char *const spaces[] = {"l2", "cosine", "ip"};
    for (size_t space = 0; space < COUNT_OF(spaces); space++) {
        struct stack s;
        bool used;
        s = (struct stack){0};
        stack_open(&s);
        uuid id = stack_collection(&s, "c", spaces[space]);
        write_rows(&s, id, 0, ROWS, BATCH_ADD);
        stack_flush(&s, id);
        write_rows(&s, id, ROWS, MORE, BATCH_ADD);
        stack_flush(&s, id);
        write_rows(&s, id, ROWS + MORE, TAIL, BATCH_ADD);
        double recall = compare(&s, id, NULL, 60, &used);
        if (recall < 0.985 || !used)
            fail_msg("%s: recall %.3f", spaces[space], recall);
        for (size_t f = 0; f < COUNT_OF(filters); f++) {
            recall = compare(&s, id, filters[f], 30, &used);
            if (recall < 0.985 && f + 1 < COUNT_OF(filters))
                fail_msg("%s, %s: recall %.3f", spaces[space], filters[f], recall);
        }
        stack_done(&s);
    }
}

static void deleted_and_updated_rows_are_gone_at_once(void **state)
{
    (void)state;
    struct stack s;
    bool used;
    struct answer answer;
    s = (struct stack){0};
    stack_open(&s);
    uuid id = stack_collection(&s, "c", "l2");
    write_rows(&s, id, 0, ROWS, BATCH_ADD);
    stack_flush(&s, id);
    ask(&s, id, vectors, K, 0, NULL, &answer);
    assert_true(answer.by_index);
    assert_string_equal(answer.ids[0], "r0");
    /* two thirds go, the nearest first */
    write_rows(&s, id, 0, ROWS / 3 * 2, BATCH_DELETE);
    for (uint32_t row = 0; row < ROWS / 3 * 2; row += 501) {
        char name[16];
        (void)snprintf(name, sizeof(name), "r%u", (unsigned)row);
        ask(&s, id, vectors + (size_t)row * DIM, K, 0, NULL, &answer);
        assert_int_equal(answer.count, K);
        assert_false(is_there(&answer, name));
        for (size_t i = 0; i < K; i++)
            assert_true(strtoul(answer.ids[i] + 1, NULL, 10) >= ROWS / 3 * 2);
    }
    /* by codes or exactly, as this machine's costs say */
    assert_true(compare(&s, id, NULL, 60, &used) >= 0.985);
    /* in the version, too */
    stack_flush(&s, id);
    assert_true(compare(&s, id, NULL, 60, &used) >= 0.985);
    stack_done(&s);
}

static void always_as_many_as_there_are(void **state)
{
    (void)state;
    struct stack s;
    struct answer answer;
    s = (struct stack){0};
    stack_open(&s);
    uuid id = stack_collection(&s, "c", "cosine");
    write_rows(&s, id, 0, 3000, BATCH_ADD);
    stack_flush(&s, id);
    static const uint32_t ks[] = {1, 2, 31, 64};
    for (size_t i = 0; i < COUNT_OF(ks); i++) {
        ask(&s, id, vectors, ks[i], 0, NULL, &answer);
        assert_int_equal(answer.count, ks[i]);
        ask(&s, id, vectors, ks[i], 0, "{\"n\":3}", &answer);
        assert_int_equal(answer.count, ks[i] < 30 ? ks[i] : 30);
    }
    /* no direction: every distance is 1, in order of insertion */
    float zero[DIM] = {0};
    ask(&s, id, zero, 5, 0, NULL, &answer);
    assert_int_equal(answer.count, 5);
    for (size_t i = 0; i < 5; i++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "r%zu", i);
        assert_string_equal(answer.ids[i], name);
        assert_true(answer.distances[i] == 1);
    }
    stack_done(&s);
}

static void one_list_gives_the_exact_answer(void **state)
{
    (void)state;
    struct stack s;
    bool used;
    s = (struct stack){0};
    stack_open(&s);
    uuid id = stack_collection(&s, "c", "l2");
    write_rows(&s, id, 0, 10000, BATCH_ADD);
    stack_flush(&s, id);
    assert_true(compare(&s, id, NULL, 100, &used) >= 0.999 && used);
    stack_done(&s);
}

/* Rows lie list by list, but are shown in the order in which they came; updates keep their place. */
static void rows_are_shown_in_order_of_insertion(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "c", "l2");
    write_rows(&s, id, 0, ROWS, BATCH_ADD);
    stack_flush(&s, id);
    write_rows(&s, id, 100, 50, BATCH_DELETE);
    write_rows(&s, id, 20000, 500, BATCH_UPSERT);
    for (int flushed = 0; flushed < 2; flushed++) {
        for (uint32_t offset = 0; offset < ROWS - 50; offset += 4567) {
            struct arena arena;
            struct query_result result;
            arena_init(&arena, NULL, 0);
            struct plan plan = {.kind = PLAN_GET,
                                .collection = id,
                                .fields = RECORD_ID | RECORD_VECTOR,
                                .limit = 300,
                                .offset = offset};
            OK(query_run(s.query, &plan, NULL, &arena, &result, err));
            uint32_t left = ROWS - 50 - offset;
            assert_int_equal(result.hits[0].count, left < 300 ? left : 300);
            for (size_t i = 0; i < result.hits[0].count; i++) {
                const struct record *record = &result.hits[0].rows[i].record;
                uint32_t row = offset + (uint32_t)i;
                row += row >= 100 ? 50 : 0;
                char name[16];
                (void)snprintf(name, sizeof(name), "r%u", (unsigned)row);
                assert_true(slice_equal(record->id, slice_of(name)));
                assert_memory_equal(record->vector, vectors + (size_t)row * DIM,
                                    DIM * sizeof(float));
            }
            query_result_done(&result);
            arena_done(&arena);
        }
        stack_flush(&s, id);
    }
    stack_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_and_tail_answer_as_one),
        cmocka_unit_test(deleted_and_updated_rows_are_gone_at_once),
        cmocka_unit_test(always_as_many_as_there_are),
        cmocka_unit_test(one_list_gives_the_exact_answer),
        cmocka_unit_test(rows_are_shown_in_order_of_insertion),
    };
    make_vectors();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(vectors);
    return failed;
}
