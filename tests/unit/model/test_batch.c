/* SPDX-License-Identifier: Apache-2.0 */
#include "model_test.h"

#include "base/clock.h"
#include "model/batch.h"

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

static bool same_slice(slice a, slice b)
{
    return (a.at == NULL) == (b.at == NULL) && slice_equal(a, b);
}

static void assert_same_row(const struct batch_input_row *a, const struct batch_input_row *b,
                            uint32_t dimension)
{
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->document_state, b->document_state);
    assert_int_equal(a->uri_state, b->uri_state);
    assert_int_equal(a->metadata_state, b->metadata_state);
    assert_true(slice_equal(a->id, b->id));
    assert_true(same_slice(a->document, b->document));
    assert_true(same_slice(a->uri, b->uri));
    assert_true(same_slice(a->metadata, b->metadata));
    assert_int_equal(a->expires_ms, b->expires_ms);
    assert_int_equal(a->vector != NULL, b->vector != NULL);
    if (a->vector)
        assert_memory_equal(a->vector, b->vector, dimension * sizeof(float));
}

static slice random_text(struct random *random, struct arena *arena, uint8_t state)
{
    if (state != FIELD_VALUE)
        return SLICE_NONE;
    size_t len = (size_t)random_below(random, 4) ? (size_t)random_below(random, 30) : 0;
    uint8_t *at = arena_alloc(arena, len + 1);
    random_fill(random, at, len);
    return slice_make(at, len);
}

static const char *const metadatas[] = {
    "{}",
    "{\"a\":1}",
    "{\"a\":1.5,\"b\":\"x\"}",
    "{\"a\":[1,2],\"l\":[],\"t\":[true]}",
    "{\"v\":{\"indices\":[1,9],\"values\":[1,2],\"tokens\":[\"p\",\"q\"]},\"gone\":null}",
};

static void random_input(struct random *random, struct arena *arena, struct batch_input *input)
{
    uint32_t count = (uint32_t)random_below(random, 20);
    uint32_t dimension = (uint32_t)random_below(random, 3) ? (uint32_t)random_below(random, 9) : 0;
    bool plain = random_below(random, 3) == 0; /* columns absent */
    struct batch_input_row *rows = ARENA_ARRAY(arena, struct batch_input_row, count);
    for (uint32_t i = 0; i < count; i++) {
        struct batch_input_row *row = &rows[i];
        row->op = (uint8_t)(1 + random_below(random, 4));
        row->id = random_text(random, arena, FIELD_VALUE);
        row->document_state = (uint8_t)(plain ? 0 : random_below(random, 3));
        row->uri_state = (uint8_t)(plain ? 0 : random_below(random, 3));
        row->metadata_state = (uint8_t)(plain ? 0 : random_below(random, 3));
        row->document = random_text(random, arena, row->document_state);
        row->uri = random_text(random, arena, row->uri_state);
        if (row->metadata_state == FIELD_VALUE)
            row->metadata = meta_of(arena, metadatas[random_below(random, COUNT_OF(metadatas))],
                                    META_ALLOW_DELETE);
        if (!plain && random_below(random, 5) == 0)
            row->expires_ms = (int64_t)random_u64(random);
        if (dimension && random_below(random, 4)) {
            float *vector = arena_alloc(arena, dimension * sizeof(float));
            random_fill(random, vector, dimension * sizeof(float));
            row->vector = vector;
        }
    }
    *input = (struct batch_input){count, dimension, rows};
}

static void every_row_comes_back_as_it_was(void **state)
{
    struct random random;
    random_seed(&random, 7);
    for (int round = 0; round < 2000; round++) {
        struct batch_input input;
        random_input(&random, *state, &input);
        CLEANUP(payload_cleanup) struct payload *payload = NULL;
        och_error err = {0};
        struct batch batch;
        assert_int_equal(batch_encode(&input, NULL, &payload, &err), OCH_OK);
        assert_int_equal((uintptr_t)payload->at % 64, 0);
        if (batch_open(slice_make(payload->at, payload->len), &batch, &err) != OCH_OK)
            fail_msg("%s", err.message);
        assert_int_equal(batch.count, input.count);
        assert_int_equal(batch.dimension, input.dimension);
        assert_int_equal((uintptr_t)batch.vectors % 64, 0);
        for (uint32_t i = 0; i < input.count; i++) {
            struct batch_input_row row;
            batch_row(&batch, i, &row);
            assert_same_row(&row, &input.rows[i], input.dimension);
            assert_true(slice_equal(batch_id(&batch, i), input.rows[i].id));
        }
        arena_done(*state);
    }
}

static void pairs_are_the_distinct_keys_and_types_of_what_is_stored(void **state)
{
    static const struct {
        uint8_t op;
        const char *metadata;
    } in[] = {
        {BATCH_ADD, "{\"a\":1,\"b\":\"x\"}"},
        {BATCH_ADD, "{\"a\":2,\"b\":\"y\"}"},
        {BATCH_UPSERT, "{\"a\":1.5,\"b\":null,\"l\":[]}"},
        {BATCH_UPDATE, "{\"a\":[1],\"c\":[\"s\"],\"t\":false}"},
        {BATCH_ADD, "{\"v\":{\"indices\":[1],\"values\":[1]}}"},
        {BATCH_DELETE, "{\"never\":1}"},
        {BATCH_ADD, "{\"a\":2,\"b\":\"y\"}"},
    };
    static const struct {
        const char *key;
        uint8_t type;
    } expected[] = {
        {"a", SCHEMA_INT},    {"b", SCHEMA_STRING}, {"a", SCHEMA_FLOAT},
        {"c", SCHEMA_STRING}, {"t", SCHEMA_BOOL},   {"v", SCHEMA_SPARSE},
    };
    struct batch_input_row rows[COUNT_OF(in)];
    memset(rows, 0, sizeof(rows));
    for (size_t i = 0; i < COUNT_OF(in); i++) {
        rows[i].op = in[i].op;
        rows[i].id = SLICE("id");
        rows[i].metadata_state = FIELD_VALUE;
        rows[i].metadata = meta_of(*state, in[i].metadata, META_ALLOW_DELETE);
    }
    struct batch_input input = {COUNT_OF(in), 0, rows};
    CLEANUP(payload_cleanup) struct payload *payload = NULL;
    struct batch batch;
    struct batch_pair pair;
    assert_int_equal(batch_encode(&input, NULL, &payload, NULL), OCH_OK);
    assert_int_equal(batch_open(slice_make(payload->at, payload->len), &batch, NULL), OCH_OK);
    slice cursor = batch.pairs;
    for (size_t i = 0; i < COUNT_OF(expected); i++) {
        assert_true(batch_pair_next(&cursor, &pair));
        assert_slice(pair.key, expected[i].key);
        assert_int_equal(pair.type, expected[i].type);
    }
    assert_false(batch_pair_next(&cursor, &pair));
}

static void reserved_keys_are_no_pairs(void **state)
{
    (void)state;
    /* The JSON reader refuses such keys, so the bytes are written by hand. */
    static const uint8_t metadata[] = {1, 8, 'c', 'h', 'r', 'o', 'm', 'a', ':', 'x', 1, 1, 1};
    struct batch_input_row row = {.op = BATCH_ADD,
                                  .id = SLICE("a"),
                                  .metadata_state = FIELD_VALUE,
                                  .metadata = slice_make(metadata, sizeof(metadata))};
    struct batch_input input = {1, 0, &row};
    CLEANUP(payload_cleanup) struct payload *payload = NULL;
    struct batch batch;
    assert_int_equal(batch_encode(&input, NULL, &payload, NULL), OCH_OK);
    assert_int_equal(batch_open(slice_make(payload->at, payload->len), &batch, NULL), OCH_OK);
    assert_int_equal(batch.pairs.len, 0);
}

/* Read all that a batch promises; the sanitizer watches the bounds. */
static void use_all(const struct batch *batch)
{
    uint64_t sum = 0;
    struct batch_pair pair;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct batch_input_row row;
        batch_row(batch, i, &row);
        sum += slice_hash(row.id) + slice_hash(row.document) + slice_hash(row.uri);
        struct meta_iter iter;
        struct meta_entry entry;
        meta_iter_init(&iter, row.metadata);
        while (meta_iter_next(&iter, &entry))
            sum += slice_hash(entry.key) + slice_hash(entry.value);
        for (uint32_t d = 0; row.vector && d < batch->dimension; d++) {
            uint32_t bits;
            memcpy(&bits, &row.vector[d], 4);
            sum += bits;
        }
    }
    for (slice cursor = batch->pairs; batch_pair_next(&cursor, &pair);)
        sum += slice_hash(pair.key);
    static volatile uint64_t sink;
    sink = sum;
    (void)sink;
}

static void open_copy(slice bytes, size_t flipped_bit)
{
    uint8_t *copy = mem_alloc_aligned(64, bytes.len ? bytes.len : 1);
    if (bytes.len)
        memcpy(copy, bytes.at, bytes.len);
    if (flipped_bit != SIZE_MAX)
        copy[flipped_bit / 8] ^= (uint8_t)(1 << flipped_bit % 8);
    struct batch batch;
    och_code code = batch_open(slice_make(copy, bytes.len), &batch, NULL);
    if (flipped_bit == SIZE_MAX)
        assert_int_equal(code, OCH_CORRUPT); /* shorter */
    if (code == OCH_OK)
        use_all(&batch);
    else
        assert_int_equal(code, OCH_CORRUPT);
    mem_free_aligned(copy);
}

static void every_truncation_and_flipped_bit_is_refused_or_harmless(void **state)
{
    struct random random;
    random_seed(&random, 3);
    for (int round = 0; round < 12; round++) {
        struct batch_input input;
        random_input(&random, *state, &input);
        CLEANUP(payload_cleanup) struct payload *payload = NULL;
        assert_int_equal(batch_encode(&input, NULL, &payload, NULL), OCH_OK);
        for (size_t len = 0; len < payload->len; len++)
            open_copy(slice_make(payload->at, len), SIZE_MAX);
        for (size_t bit = 0; bit < payload->len * 8; bit++)
            open_copy(slice_make(payload->at, payload->len), bit);
    }
}

static void bytes_behind_the_last_column_are_refused(void **state)
{
    (void)state;
    struct batch_input_row row = {.op = BATCH_ADD, .id = SLICE("a")};
    struct batch_input input = {1, 0, &row};
    CLEANUP(payload_cleanup) struct payload *payload = NULL;
    assert_int_equal(batch_encode(&input, NULL, &payload, NULL), OCH_OK);
    uint8_t *longer = mem_alloc_aligned(64, payload->len + 1);
    memcpy(longer, payload->at, payload->len);
    longer[payload->len] = 0;
    struct batch batch;
    assert_int_equal(batch_open(slice_make(longer, payload->len + 1), &batch, NULL), OCH_CORRUPT);
    mem_free_aligned(longer);
}

static void huge_counts_in_the_header_are_refused(void **state)
{
    (void)state;
    for (unsigned field = 0; field < 9; field++) {
        uint8_t *bytes = mem_alloc_aligned(64, 128);
        memset(bytes, 0, 128);
        store_u32(bytes, 1);
        store_u32(bytes + field * 4, 0xffffffff);
        struct batch batch;
        assert_int_equal(batch_open(slice_make(bytes, 128), &batch, NULL), OCH_CORRUPT);
        mem_free_aligned(bytes);
    }
}

/* docs/formats/batch.md, worked example. */
static void the_example_of_the_format_page_parses(void **state)
{
    (void)state;
    static const float vector[] = {1.0f, -2.0f};
    static const uint8_t metadata[] = {1, 1, 'n', 2, 8, 42, 0, 0, 0, 0, 0, 0, 0};
    struct batch_input_row rows[] = {
        {.op = BATCH_ADD,
         .id = SLICE("a"),
         .vector = vector,
         .document_state = FIELD_VALUE,
         .document = SLICE("hi"),
         .metadata_state = FIELD_VALUE,
         .metadata = slice_make(metadata, sizeof(metadata))},
        {.op = BATCH_DELETE, .id = SLICE("bc")},
    };
    struct batch_input input = {2, 2, rows};
    uint8_t expected[64 + 64 + 16 + 3 + 2 + 13 + 3] = {0};
    store_u32(expected, 1);       /* version */
    store_u32(expected + 4, 2);   /* count */
    store_u32(expected + 8, 2);   /* dimension */
    store_u32(expected + 12, 5);  /* documents and metadata */
    store_u32(expected + 16, 3);  /* ids */
    store_u32(expected + 20, 2);  /* documents */
    store_u32(expected + 28, 13); /* metadata */
    store_u32(expected + 32, 3);  /* pairs */
    static const uint8_t columns[] = {1, 4, 0x51, 0, 1, 0, 0,  0, 3, 0, 0,  0, 2, 0,
                                      0, 0, 2,    0, 0, 0, 13, 0, 0, 0, 13, 0, 0, 0};
    memcpy(expected + 64, columns, sizeof(columns));
    static const uint8_t rest[] = {0,  0, 0x80, 0x3f, 0,   0,   0,   0xc0, 0, 0, 0,   0, 0,
                                   0,  0, 0,    'a',  'b', 'c', 'h', 'i',  1, 1, 'n', 2, 8,
                                   42, 0, 0,    0,    0,   0,   0,   0,    1, 1, 'n'};
    memcpy(expected + 128, rest, sizeof(rest));
    CLEANUP(payload_cleanup) struct payload *payload = NULL;
    assert_int_equal(batch_encode(&input, NULL, &payload, NULL), OCH_OK);
    assert_int_equal(payload->len, sizeof(expected));
    assert_memory_equal(payload->at, expected, sizeof(expected));
}

static void a_batch_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    static uint8_t document[1 << 20];
    enum { ROWS = 2100 };
    struct batch_input_row *rows = mem_zalloc(ROWS * sizeof(*rows));
    for (int i = 0; i < ROWS; i++) {
        rows[i] = (struct batch_input_row){.op = BATCH_ADD,
                                           .id = SLICE("a"),
                                           .document_state = FIELD_VALUE,
                                           .document = slice_make(document, sizeof(document))};
    }
    struct batch_input input = {ROWS, 0, rows};
    CLEANUP(payload_cleanup) struct payload *payload = NULL;
    assert_int_equal(batch_encode(&input, NULL, &payload, NULL), OCH_TOO_LARGE);
    assert_null(payload);
    mem_free(rows);
}

static void payloads_are_counted_and_charged(void **state)
{
    (void)state;
    struct budget budget;
    budget_init(&budget, 10000, NULL);
    struct payload *payload = payload_new(4000, &budget);
    assert_non_null(payload);
    for (size_t i = 0; i < payload->len; i++)
        assert_int_equal(payload->at[i], 0);
    assert_true(budget_used(&budget) >= 4000);
    assert_ptr_equal(payload_ref(payload), payload);
    payload_unref(payload);
    assert_null(payload_new(7000, &budget));
    payload_unref(payload);
    assert_int_equal(budget_used(&budget), 0);
    payload_unref(NULL);
    struct batch_input_row row = {.op = BATCH_ADD, .id = SLICE("a")};
    struct batch_input input = {1, 0, &row};
    budget_init(&budget, 10, NULL);
    och_error err = {0};
    assert_int_equal(batch_encode(&input, &budget, &payload, &err), OCH_BUSY);
    assert_int_equal(budget_used(&budget), 0);
}

static och_code encode_once(void *user)
{
    CLEANUP(payload_cleanup) struct payload *payload = NULL;
    return batch_encode(user, NULL, &payload, NULL);
}

static void no_memory_is_an_error_and_leaks_nothing(void **state)
{
    struct batch_input_row rows[30];
    memset(rows, 0, sizeof(rows));
    for (int i = 0; i < 30; i++) {
        char text[64];
        snprintf(text, sizeof(text), "{\"key number %d\":1,\"and a longer one %d\":2}", i, i);
        rows[i].op = BATCH_ADD;
        rows[i].id = SLICE("id");
        rows[i].metadata_state = FIELD_VALUE;
        rows[i].metadata = meta_of(*state, text, 0);
    }
    struct batch_input input = {30, 0, rows};
    for_each_failing_allocation(encode_once, &input);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(every_row_comes_back_as_it_was),
        TEST(pairs_are_the_distinct_keys_and_types_of_what_is_stored),
        TEST(reserved_keys_are_no_pairs),
        TEST(every_truncation_and_flipped_bit_is_refused_or_harmless),
        TEST(bytes_behind_the_last_column_are_refused),
        TEST(huge_counts_in_the_header_are_refused),
        TEST(the_example_of_the_format_page_parses),
        TEST(a_batch_beyond_the_limit_is_refused),
        TEST(payloads_are_counted_and_charged),
        TEST(no_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
