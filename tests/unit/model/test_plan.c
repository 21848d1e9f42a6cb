/* SPDX-License-Identifier: Apache-2.0 */
#include "model_test.h"

#include "base/clock.h"
#include "model/plan.h"
#include "model/record.h"

static int set_up(void **state)
{
    static struct arena arena;
    arena_init(&arena, NULL, 0);
    *state = &arena;
    return 0;
}
static int tear_down(void **state)
{
    arena_done(*state);
    return 0;
}

static const char *const wheres[] = {
    "null",
    "{\"a\":1}",
    "{\"$and\":[]}",
    "{\"$or\":[{\"a\":{\"$in\":[\"x\",\"y\"]}},{\"$not\":{\"b\":{\"$gt\":1.5}}}]}",
    "{\"$and\":[{\"#document\":{\"$regex\":\"^a\"}},{\"#id\":{\"$nin\":[\"q\"]}},{\"t\":true}]}",
    "{\"k\":{\"$exists\":false}}",
    "{\"k\":{\"$not_contains\":-7}}",
};

static void random_plan(struct random *random, struct arena *arena, struct plan *plan)
{
    *plan = (struct plan){
        .kind = (uint8_t)(random_below(random, 4) ? 1 + random_below(random, 3) : PLAN_FACETS),
        .level = (uint8_t)random_below(random, 3),
        .fields = (unsigned)random_below(random, RECORD_ALL + 1),
        .limit = random_below(random, 2) ? PLAN_NO_LIMIT : random_below(random, 1000),
        .offset = random_u64(random) >> random_below(random, 64),
        .k = (uint32_t)random_u64(random),
        .recall = (float)random_unit(random),
        .explain = random_below(random, 2),
        .bare = random_below(random, 2),
        .has_ids = random_below(random, 2),
        .vector_count = (uint32_t)random_below(random, 4),
        .dimension = (uint32_t)random_below(random, 40),
    };
    random_fill(random, &plan->collection, sizeof(plan->collection));
    if (plan->kind == PLAN_FACETS) {
        plan->vector_count = plan->dimension = 0;
        plan->facet_count = (uint32_t)random_below(random, 4);
        struct plan_facet *facets = ARENA_ARRAY(arena, struct plan_facet, plan->facet_count + 1);
        for (uint32_t i = 0; i < plan->facet_count; i++)
            facets[i] = (struct plan_facet){SLICE("key"), (uint32_t)random_u64(random), i % 2};
        plan->facets = facets;
    }
    if (plan->has_ids) {
        plan->id_count = random_below(random, 5);
        slice *ids = ARENA_ARRAY(arena, slice, plan->id_count);
        for (uint64_t i = 0; i < plan->id_count; i++)
            ids[i] = slice_of(arena_printf(arena, "id%0*d", (int)random_below(random, 200), 1));
        plan->ids = ids;
    }
    if (random_below(random, 2)) {
        static const uint8_t eight[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        plan->order = (struct plan_order){.by = (uint8_t)random_below(random, 3),
                                          .descending = random_below(random, 2)};
        if (plan->order.by == PLAN_BY_KEY)
            plan->order.key = SLICE("key");
        plan->has_after = random_below(random, 2);
        if (plan->has_after) {
            plan->after.seq = (int64_t)random_u64(random);
            plan->after.type = random_below(random, 2) ? META_INT : 0;
            if (plan->after.type)
                plan->after.value = slice_make(eight, 8);
        }
    }
    if (random_below(random, 2)) {
        plan->has_max = random_below(random, 2);
        plan->max_distance = plan->has_max ? (float)random_unit(random) : 0;
        plan->mmr_candidates = (uint32_t)random_below(random, 3) * 5000;
        plan->mmr_lambda = plan->mmr_candidates ? (float)random_unit(random) : 0;
    }
    struct filter_node *filter;
    assert_int_equal(
        filter_parse_where(json_of(arena, wheres[random_below(random, COUNT_OF(wheres))]), arena,
                           &filter, NULL),
        OCH_OK);
    plan->filter = filter;
    size_t size = (size_t)plan->vector_count * plan->dimension * sizeof(float);
    float *vectors = arena_alloc_aligned(arena, 64, size);
    random_fill(random, vectors, size);
    plan->vectors = vectors;
}

static void assert_same_plan(const struct plan *a, const struct plan *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->level, b->level);
    assert_true(uuid_equal(a->collection, b->collection));
    assert_int_equal(a->fields, b->fields);
    assert_int_equal(a->limit, b->limit);
    assert_int_equal(a->offset, b->offset);
    assert_int_equal(a->k, b->k);
    assert_true(a->recall == b->recall);
    assert_int_equal(a->explain, b->explain);
    assert_int_equal(a->bare, b->bare);
    assert_int_equal(a->has_ids, b->has_ids);
    assert_int_equal(a->id_count, b->id_count);
    for (uint64_t i = 0; i < a->id_count; i++)
        assert_true(slice_equal(a->ids[i], b->ids[i]));
    assert_int_equal(a->order.by, b->order.by);
    assert_int_equal(a->order.descending, b->order.descending);
    assert_true(slice_equal(a->order.key, b->order.key));
    assert_int_equal(a->has_after, b->has_after);
    assert_int_equal(a->has_max, b->has_max);
    assert_true(a->max_distance == b->max_distance && a->mmr_lambda == b->mmr_lambda);
    assert_int_equal(a->mmr_candidates, b->mmr_candidates);
    assert_int_equal(a->facet_count, b->facet_count);
    for (uint32_t i = 0; i < a->facet_count; i++)
        assert_true(slice_equal(a->facets[i].key, b->facets[i].key) &&
                    a->facets[i].limit == b->facets[i].limit &&
                    a->facets[i].by_value == b->facets[i].by_value);
    assert_int_equal(plan_compare(&a->order, &a->after, &b->after), 0);
    assert_int_equal(a->filter != NULL, b->filter != NULL);
    assert_int_equal(a->vector_count, b->vector_count);
    assert_int_equal(a->dimension, b->dimension);
    size_t size = (size_t)a->vector_count * a->dimension * sizeof(float);
    if (size) {
        assert_memory_equal(a->vectors, b->vectors, size);
        assert_int_equal((uintptr_t)b->vectors % 64, 0);
    }
}

static void a_plan_comes_back_as_it_was(void **state)
{
    struct random random;
    random_seed(&random, 11);
    for (int round = 0; round < 3000; round++) {
        struct plan plan, again;
        random_plan(&random, *state, &plan);
        CLEANUP(buf_cleanup) struct buf first, second;
        buf_init(&first, BUF_MAX_NONE);
        buf_init(&second, BUF_MAX_NONE);
        plan_encode(&plan, &first);
        och_error err = {0};
        if (plan_decode(buf_view(&first), *state, &again, &err) != OCH_OK)
            fail_msg("%s", err.message);
        assert_same_plan(&plan, &again);
        plan_encode(&again, &second);
        buf_byte(&second, 0);
        assert_int_equal(plan_decode(buf_view(&second), *state, &again, NULL), OCH_CORRUPT);
        second.len--;
        assert_true(slice_equal(buf_view(&first), buf_view(&second)));
        arena_done(*state);
    }
}

/* What a cursor holds comes back, for its own request alone; a damaged one is refused. */
static void a_cursor_fits_its_request_and_no_other(void **state)
{
    struct random random;
    random_seed(&random, 17);
    for (int round = 0; round < 500; round++) {
        struct plan plan, other;
        struct buf text;
        buf_init(&text, BUF_MAX_NONE);
        random_plan(&random, *state, &plan);
        struct plan_key last = {META_STRING, SLICE("the last"),
                                (int64_t)random_below(&random, 1000) - 10};
        assert_int_equal(plan_cursor_write(&plan, &last, &text, NULL), OCH_OK);
        other = plan;
        other.limit = 3;
        other.fields = 0;
        assert_int_equal(plan_cursor_read(buf_view(&text), *state, &other, NULL), OCH_OK);
        assert_true(other.has_after && other.after.seq == last.seq &&
                    other.after.type == last.type);
        assert_true(slice_equal(other.after.value, last.value));
        other = plan;
        other.order.descending = !plan.order.descending;
        assert_int_equal(plan_cursor_read(buf_view(&text), *state, &other, NULL), OCH_INVALID);
        other = plan;
        other.collection.bytes[3] ^= 1;
        assert_int_equal(plan_cursor_read(buf_view(&text), *state, &other, NULL), OCH_INVALID);
        for (size_t i = 0; i < text.len; i++) {
            uint8_t was = text.at[i];
            text.at[i] = (uint8_t)(was + 1 + random_below(&random, 255));
            och_code code = plan_cursor_read(buf_view(&text), *state, &other, NULL);
            assert_int_equal(code, OCH_INVALID);
            text.at[i] = was;
            other = plan;
            if (i % 7 == 0)
                assert_int_equal(plan_cursor_read(slice_make(text.at, i), *state, &other, NULL),
                                 OCH_INVALID);
        }
        buf_done(&text);
        arena_done(*state);
    }
}

static void every_truncation_and_flipped_bit_is_refused_or_harmless(void **state)
{
    struct random random;
    random_seed(&random, 5);
    for (int round = 0; round < 60; round++) {
        struct plan plan;
        random_plan(&random, *state, &plan);
        CLEANUP(buf_cleanup) struct buf bytes;
        buf_init(&bytes, BUF_MAX_NONE);
        plan_encode(&plan, &bytes);
        for (size_t bit = 0; bit < bytes.len * 8; bit++) {
            size_t len = bit % 8 ? bytes.len : bit / 8;
            uint8_t *copy = mem_alloc(len ? len : 1);
            memcpy(copy, bytes.at, len);
            if (bit % 8)
                copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
            struct arena arena;
            struct plan again;
            arena_init(&arena, NULL, 1 << 20);
            och_code code = plan_decode(slice_make(copy, len), &arena, &again, NULL);
            if (code == OCH_OK) {
                assert_int_equal(len, bytes.len); /* nothing shorter is a plan */
                CLEANUP(buf_cleanup) struct buf out;
                buf_init(&out, BUF_MAX_NONE);
                plan_encode(&again, &out);
            } else {
                assert_true(code == OCH_CORRUPT || code == OCH_NO_MEMORY);
            }
            arena_done(&arena);
            mem_free(copy);
        }
    }
}

/* docs/formats/plan.md, worked example. */
static void the_example_of_the_format_page_parses(void **state)
{
    static const uint8_t example[] = {
        0x01, 0x02, 0x00, 0x01, /* version, query, index and wal, has ids */
        0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc,
        0xdd, 0xee, 0xff, 0x08,                                     /* fields: document */
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, /* no limit */
        0x00, 0x0a,                                                 /* offset 0, k 10 */
        0x00, 0x00, 0x80, 0x3f,                                     /* recall 1 */
        0x01, 0x01, 'a',                                            /* one id */
        0x0c, 0x01, 'n',  0x01, 0x02, 0x05, 0,    0,    0,    0,    0,    0,    0, /* n > 5 */
        0x01, 0x01, 0x00, 0x00, 0x00, 0x40, /* one vector of dimension 1: 2.0 */
    };
    struct plan plan;
    och_error err = {0};
    if (plan_decode(slice_make(example, sizeof(example)), *state, &plan, &err) != OCH_OK)
        fail_msg("%s", err.message);
    assert_int_equal(plan.kind, PLAN_QUERY);
    assert_int_equal(plan.fields, RECORD_DOCUMENT);
    assert_int_equal(plan.limit, PLAN_NO_LIMIT);
    assert_int_equal(plan.k, 10);
    assert_int_equal(plan.id_count, 1);
    assert_int_equal(plan.filter->op, FILTER_GT);
    assert_int_equal(plan.filter->values[0].integer, 5);
    assert_true(plan.vectors[0] == 2.0f);
    CLEANUP(buf_cleanup) struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    plan_encode(&plan, &out);
    assert_int_equal(out.len, sizeof(example));
    assert_memory_equal(out.at, example, sizeof(example));
}

struct decode_job {
    slice bytes;
};

static och_code decode_once(void *user)
{
    struct decode_job *job = user;
    struct arena arena;
    struct plan plan;
    arena_init(&arena, NULL, 0);
    och_code code = plan_decode(job->bytes, &arena, &plan, NULL);
    arena_done(&arena);
    return code;
}

static void no_memory_is_an_error_and_leaks_nothing(void **state)
{
    struct random random;
    random_seed(&random, 2);
    struct plan plan;
    random_plan(&random, *state, &plan);
    plan.kind = PLAN_QUERY, plan.vector_count = 30, plan.dimension = 1000;
    plan.vectors = arena_zalloc(*state, 30 * 1000 * sizeof(float));
    CLEANUP(buf_cleanup) struct buf bytes;
    buf_init(&bytes, BUF_MAX_NONE);
    plan_encode(&plan, &bytes);
    struct decode_job job = {buf_view(&bytes)};
    for_each_failing_allocation(decode_once, &job);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_plan_comes_back_as_it_was),
        TEST(a_cursor_fits_its_request_and_no_other),
        TEST(every_truncation_and_flipped_bit_is_refused_or_harmless),
        TEST(the_example_of_the_format_page_parses),
        TEST(no_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
