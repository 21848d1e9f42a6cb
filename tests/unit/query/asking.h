/* SPDX-License-Identifier: Apache-2.0 */
/* Rows "r<i>" with {"n": i % 100} from an array of vectors, and questions about them.  After support/stack.h with STACK_QUERY. */
#ifndef TESTS_UNIT_QUERY_ASKING_H
#define TESTS_UNIT_QUERY_ASKING_H

#include <math.h>

#define ASKING_K 64

static inline float asking_normal(struct random *random)
{
    double u = random_unit(random) + 1e-12, v = random_unit(random);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* Clusters with a few directions of their own. */
static inline float *asking_clusters(uint32_t rows, uint32_t dim, uint32_t clusters, uint64_t seed)
{
    struct random random;
    float *out = calloc((size_t)rows * dim, sizeof(float)),
          *centers = calloc((size_t)clusters * dim, sizeof(float));
    assert_non_null(out);
    assert_non_null(centers);
    random_seed(&random, 11);
    for (size_t i = 0; i < (size_t)clusters * dim; i++)
        centers[i] = asking_normal(&random);
    random_seed(&random, seed);
    for (uint32_t i = 0; i < rows; i++) {
        const float *center = centers + (size_t)random_below(&random, clusters) * dim;
        for (uint32_t d = 0; d < dim; d++)
            out[(size_t)i * dim + d] = center[d] + 0.35f * asking_normal(&random);
    }
    free(centers);
    return out;
}

/* Queries between many clusters at once: directions that no row has. */
static inline float *asking_far(uint32_t count, uint32_t dim)
{
    struct random random;
    float *out = calloc((size_t)count * dim, sizeof(float));
    assert_non_null(out);
    random_seed(&random, 9);
    for (size_t i = 0; i < (size_t)count * dim; i++)
        out[i] = 0.35f * asking_normal(&random);
    return out;
}

/* Rows [first, first + count) of `vectors`; vectors NULL: without. */
static inline void asking_write(struct stack *s, uuid id, const float *vectors, uint32_t dim,
                                uint32_t first, uint32_t count, uint8_t op)
{
    for (uint32_t done = 0; done < count;) {
        uint32_t step = count - done < 500 ? count - done : 500;
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
                input[i].vector = vectors ? vectors + (size_t)row * dim : NULL;
                input[i].metadata_state = FIELD_VALUE;
                input[i].metadata = arena_copy(&arena, buf_view(&encoded));
            }
            buf_done(&encoded);
        }
        bool has = vectors && op != BATCH_DELETE;
        struct batch_input batch = {.count = step, .dimension = has ? dim : 0, .rows = input};
        struct payload *payload = NULL;
        struct wal_appended appended;
        OK(batch_encode(&batch, &s->budget, &payload, err));
        struct wal_append request = {.collection = id,
                                     .payload = payload,
                                     .count = step,
                                     .dimension = batch.dimension,
                                     .fixes_dimension = has};
        OK(wal_append(s->wal, &request, &appended, err));
        payload_unref(payload);
        arena_done(&arena);
        done += step;
    }
}

struct asked {
    uint32_t rows[ASKING_K];
    float distances[ASKING_K];
    size_t count;
    char explain[8192];
};

static inline void asking_ask(struct stack *s, uuid id, const float *query, uint32_t dim,
                              uint32_t k, float recall, const char *where, struct asked *ret)
{
    struct arena arena;
    struct query_result result;
    struct filter_node *filter = NULL;
    arena_init(&arena, NULL, 0);
    if (where) {
        struct json_value value;
        struct json_fault fault;
        OK(json_read(slice_of(where), NULL, &arena, &value, &fault, err));
        OK(filter_parse_where(&value, &arena, &filter, err));
    }
    struct plan plan = {.kind = PLAN_QUERY,
                        .collection = id,
                        .fields = RECORD_ID,
                        .limit = PLAN_NO_LIMIT,
                        .vectors = query,
                        .vector_count = 1,
                        .dimension = dim,
                        .k = k,
                        .recall = recall,
                        .filter = filter,
                        .explain = true};
    OK(query_run(s->query, &plan, NULL, &arena, &result, err));
    ret->count = result.hits[0].count;
    assert_true(ret->count <= ASKING_K);
    for (size_t i = 0; i < ret->count; i++) {
        slice name = result.hits[0].rows[i].record.id;
        char text[32];
        (void)snprintf(text, sizeof(text), "%.*s", SLICE_ARG(name));
        ret->rows[i] = (uint32_t)strtoul(text + 1, NULL, 10);
        ret->distances[i] = result.hits[0].rows[i].distance;
        assert_true(!i || ret->distances[i - 1] <= ret->distances[i]);
    }
    (void)snprintf(ret->explain, sizeof(ret->explain), "%.*s", SLICE_ARG(result.explain));
    query_result_done(&result);
    arena_done(&arena);
}

/* A figure of explain: the first of that name after `from`. */
static inline double asking_figure(const struct asked *asked, const char *from, const char *name)
{
    const char *at = strstr(asked->explain, from);
    if (at)
        at = strstr(at, name);
    if (!at || !(at = strchr(at, ':')))
        fail_msg("no %s after %s in %s", name, from, asked->explain);
    return strtod(at + 1, NULL);
}

/* Share of the exact answer that is found; found distances are those of the scan, bit for bit. */
static inline double asking_recall(const struct asked *exact, const struct asked *found)
{
    size_t hits = 0;
    assert_int_equal(exact->count, found->count);
    for (size_t i = 0; i < exact->count; i++)
        for (size_t j = 0; j < found->count; j++) {
            if (exact->rows[i] != found->rows[j])
                continue;
            hits++;
            assert_memory_equal(&exact->distances[i], &found->distances[j], sizeof(float));
        }
    return exact->count ? (double)hits / (double)exact->count : 1;
}
#endif
