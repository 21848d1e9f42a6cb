/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata index at its edges: the format's example, numbers of every magnitude, filters and keys of hostile size, bytes of any kind. */
#include "meta_model.h"

/* ---- the format's example ---- */

static slice even_rows(void *context, uint32_t row)
{
    static const uint8_t with[] = {1, 1, 'k', META_BOOL, 1, 1};
    (void)context;
    return row % 2 ? SLICE_NONE : slice_make(with, sizeof(with));
}

static void the_example_of_the_format_has_its_bytes(void **state)
{
    static const uint8_t directory[] = {
        0x4f, 0x4d, 0x45, 0x54, 1,    0, 0, 0, 0x80, 0, 0, 0, 1,    0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,
        0,    0,    0,    0,    0,    0, 0, 0, 0,    0, 0, 0, 1,    0, 0, 0, 1, 2, 0, 0, 1, 0, 0, 0,
        0x40, 0,    0,    0,    1,    0, 0, 0, 0,    0, 0, 0, 0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x68, 0,    0,    0,    0x88, 0, 0, 0, 0,    0, 0, 0, 0x88, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0,
        'k',  0,    0,    0,    0,    0, 0, 0, 1,    0, 0, 0, 0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0,    0,    0,    0,    0,    0, 0, 0, 1,    0, 0, 0, 0x40, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0,
        1,    1,    0,    0,    0,    0, 0, 0, 0x40, 0, 0, 0, 0,    0, 0, 0};
    struct section s;
    (void)state;
    assert_true(section_build(&s, 128, even_rows, NULL, 0, NULL));
    assert_int_equal(s.bytes.len, 288);
    assert_int_equal(s.dir_len, 160);
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(s.bytes.at[i], 0);
        assert_int_equal(s.bytes.at[64 + i], i < 16 ? 0x55 : 0);
    }
    assert_int_equal(sizeof(directory), 160);
    assert_memory_equal(s.bytes.at + 128, directory, sizeof(directory));
    section_done(&s);
}

/* ---- numbers ---- */

static const struct model_scalar numbers[] = {
    {.kind = FILTER_INT, .integer = 0},
    {.kind = FILTER_INT, .integer = 9007199254740991},
    {.kind = FILTER_INT, .integer = 9007199254740992},
    {.kind = FILTER_INT, .integer = 9007199254740993},
    {.kind = FILTER_INT, .integer = -9007199254740993},
    {.kind = FILTER_INT, .integer = INT64_MAX},
    {.kind = FILTER_INT, .integer = INT64_MAX - 1},
    {.kind = FILTER_INT, .integer = INT64_MIN},
    {.kind = FILTER_FLOAT, .number = 0.0},
    {.kind = FILTER_FLOAT, .number = -0.0},
    {.kind = FILTER_FLOAT, .number = 9007199254740992.0},
    {.kind = FILTER_FLOAT, .number = 9007199254740994.0},
    {.kind = FILTER_FLOAT, .number = -9007199254740992.0},
    {.kind = FILTER_FLOAT, .number = 9223372036854774784.0},
    {.kind = FILTER_FLOAT, .number = 9223372036854775808.0},
    {.kind = FILTER_FLOAT, .number = -9223372036854775808.0},
    {.kind = FILTER_FLOAT, .number = 5e-324},
    {.kind = FILTER_FLOAT, .number = -5e-324},
    {.kind = FILTER_FLOAT, .number = 1.7976931348623157e308},
    {.kind = FILTER_FLOAT, .number = -1.7976931348623157e308},
    {.kind = FILTER_FLOAT, .number = 0.5},
    {.kind = FILTER_FLOAT, .number = (double)INFINITY},
    {.kind = FILTER_FLOAT, .number = (double)NAN},
};

/* All operators, all pairs. */
static void numbers_compare_exactly_at_every_magnitude(void **state)
{
    struct model m;
    struct section s;
    (void)state;
    model_init(&m, COUNT_OF(numbers));
    for (uint32_t row = 0; row < m.rows; row++) {
        m.values[row][1] = (struct model_value){
            .type = numbers[row].kind == FILTER_INT ? META_INT : META_FLOAT, .count = 1};
        m.values[row][1].at[0] = numbers[row];
        model_encode(&m, row);
    }
    assert_true(section_build(&s, m.rows, model_metadata, &m, 0, NULL));
    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        for (uint8_t op = FILTER_EQ; op <= FILTER_NIN; op++) {
            struct filter_value value = {.kind = numbers[i].kind};
            if (value.kind == FILTER_INT)
                value.integer = numbers[i].integer;
            else
                value.number = numbers[i].number;
            struct filter_node node = {
                .op = op, .key = SLICE("a"), .values = &value, .value_count = 1};
            struct meta_search search;
            struct arena arena;
            uint64_t sure[META_CHUNK_WORDS], maybe[META_CHUNK_WORDS];
            uint32_t truth = 0;
            arena_init(&arena, NULL, 0);
            MUST(section_search(&s, &node, NULL, NULL, META_BY_COST, &search, sure, maybe, &arena,
                                err));
            assert_true(search.exact);
            for (uint32_t row = 0; row < m.rows; row++) {
                truth += model_matches(&m, row, &node);
                if ((sure[0] >> row & 1) != model_matches(&m, row, &node))
                    fail_msg("op %u, operand %zu, row %u", op, i, row);
            }
            assert_int_equal(search.at_least, truth);
            assert_int_equal(search.at_most, truth);
            arena_done(&arena);
        }
    }
    section_done(&s);
    model_done(&m);
}

/* ---- hostile sizes ---- */

#define ROWS 3000

/* {"n": row % 1000, "u": "user-<row>"} */
static slice plain_row(void *context, uint32_t row)
{
    static struct buf out;
    char text[24];
    (void)context;
    int len = snprintf(text, sizeof(text), "user-%u", row);
    buf_done(&out);
    buf_init(&out, BUF_MAX_NONE);
    buf_varint(&out, 2);
    buf_sized(&out, SLICE("n"));
    buf_byte(&out, META_INT);
    buf_varint(&out, 8);
    buf_u64(&out, row % 1000);
    buf_sized(&out, SLICE("u"));
    buf_byte(&out, META_STRING);
    buf_sized(&out, slice_make(text, (size_t)len));
    return buf_view(&out);
}

static uint32_t passing(struct section *s, const struct filter_node *node)
{
    struct meta_search search;
    struct arena arena;
    uint64_t sure[META_CHUNK_WORDS], maybe[META_CHUNK_WORDS];
    uint32_t count = 0;
    arena_init(&arena, NULL, 0);
    MUST(section_search(s, node, NULL, NULL, META_BY_COST, &search, sure, maybe, &arena, err));
    assert_true(search.exact);
    for (size_t i = 0; i < bitset_words(s->index.rows); i++)
        count += (uint32_t)__builtin_popcountll(sure[i]);
    arena_done(&arena);
    return count;
}

static void filters_of_any_size_are_answered(void **state)
{
    struct section s;
    enum { MANY = 1000000, WIDE = 100000, DEEP = 127 };
    (void)state;
    assert_true(section_build(&s, ROWS, plain_row, NULL, 0, NULL));
    struct filter_value *values = calloc(MANY, sizeof(*values));
    for (uint32_t i = 0; i < MANY; i++)
        values[i] = (struct filter_value){.kind = FILTER_INT, .integer = (int64_t)i * 2};
    struct filter_node in = {
        .op = FILTER_IN, .key = SLICE("n"), .values = values, .value_count = MANY};
    assert_int_equal(passing(&s, &in), ROWS / 2);
    struct filter_node *leaves = calloc(WIDE, sizeof(*leaves));
    struct filter_node **children = calloc(WIDE, sizeof(struct filter_node *));
    for (uint32_t i = 0; i < WIDE; i++) {
        leaves[i] = (struct filter_node){
            .op = FILTER_EQ, .key = SLICE("n"), .values = &values[i], .value_count = 1};
        children[i] = &leaves[i];
    }
    struct filter_node wide = {.op = FILTER_OR, .children = children, .child_count = WIDE};
    assert_int_equal(passing(&s, &wide), ROWS / 2);
    struct filter_node nested[DEEP], *below = &in, *links[DEEP];
    for (uint32_t i = 0; i < DEEP; i++) {
        links[i] = below;
        nested[i] = (struct filter_node){
            .op = i % 3 ? FILTER_NOT : FILTER_AND, .children = &links[i], .child_count = 1};
        below = &nested[i];
    }
    assert_int_equal(passing(&s, below), ROWS / 2); /* 84 negations */
    free(values);
    free(leaves);
    free(children);
    section_done(&s);
}

/* A key of its own in every row. */
static slice own_key(void *context, uint32_t row)
{
    static struct buf out;
    char text[24];
    (void)context;
    int len = snprintf(text, sizeof(text), "key-%u", row);
    buf_done(&out);
    buf_init(&out, BUF_MAX_NONE);
    buf_varint(&out, 1);
    buf_sized(&out, slice_make(text, (size_t)len));
    buf_byte(&out, META_BOOL);
    buf_varint(&out, 1);
    buf_byte(&out, 1);
    return buf_view(&out);
}

static void keys_beyond_the_limit_are_looked_at_row_by_row(void **state)
{
    struct section s;
    uint32_t rows = META_COLUMNS_MAX + 1000;
    struct filter_value yes = {.kind = FILTER_BOOL, .boolean = true};
    (void)state;
    assert_true(section_build(&s, rows, own_key, NULL, 0, NULL));
    assert_true(s.index.incomplete);
    static const char *const keys[] = {"key-17", "key-66000", "nobody"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        struct filter_node node = {
            .op = FILTER_EQ, .key = slice_of(keys[i]), .values = &yes, .value_count = 1};
        struct meta_search search;
        struct arena arena;
        struct meta_search_options options = {.index = &s.index, .pages = &s.pages, .rows = rows};
        arena_init(&arena, NULL, 0);
        MUST(meta_search_init(&search, &options, &node, &arena, err));
        assert_int_equal(search.nothing, i != 0); /* it may be there all the same */
        if (i == 0)
            assert_int_equal(search.at_most, 1);
        arena_done(&arena);
    }
    section_done(&s);
}

static void a_leaf_reads_two_blocks_at_most(void **state)
{
    struct section s;
    struct filter_value value = {.kind = FILTER_INT, .integer = 500};
    struct filter_node node = {
        .op = FILTER_EQ, .key = SLICE("n"), .values = &value, .value_count = 1};
    (void)state;
    assert_true(section_build(&s, ROWS, plain_row, NULL, 0, NULL));
    assert_int_equal(passing(&s, &node), 3);
    assert_true(s.reads <=
                3); /* the dictionary block of the value, of the one behind it, the list */
    s.reads = 0;
    value.integer = 5000; /* beyond all */
    assert_int_equal(passing(&s, &node), 0);
    assert_int_equal(s.reads, 0);
    section_done(&s);
}

/* ---- chunks without rows ---- */

static slice time_row(void *context, uint32_t row)
{
    static uint8_t bytes[32];
    struct buf out = {.at = bytes, .cap = sizeof(bytes), .max = sizeof(bytes)};
    (void)context;
    buf_varint(&out, 1);
    buf_sized(&out, SLICE("t"));
    buf_byte(&out, META_INT);
    buf_varint(&out, 8);
    buf_u64(&out, row ^ 1);
    return buf_view(&out);
}

static void chunks_that_a_range_does_not_touch_are_known(void **state)
{
    struct section s;
    uint32_t rows = 4 * META_CHUNK;
    struct filter_value low = {.kind = FILTER_INT, .integer = META_CHUNK + 100},
                        high = {.kind = FILTER_INT, .integer = META_CHUNK + 200};
    struct filter_node at_least = {.op = FILTER_GTE,
                                   .key = SLICE("t"),
                                   .values = &low,
                                   .value_count = 1},
                       below = {
                           .op = FILTER_LT, .key = SLICE("t"), .values = &high, .value_count = 1};
    struct filter_node *both[] = {&at_least, &below};
    struct filter_node node = {.op = FILTER_AND, .children = both, .child_count = 2};
    (void)state;
    assert_true(section_build(&s, rows, time_row, NULL, 0, NULL));
    for (unsigned force = META_BY_LISTS; force <= META_BY_SLICES; force++) {
        struct meta_search search;
        struct arena arena;
        struct meta_search_options options = {
            .index = &s.index, .pages = &s.pages, .rows = rows, .force = (enum meta_force)force};
        uint64_t *words = calloc(META_CHUNK_WORDS, 8);
        uint32_t count = 0;
        assert_non_null(words);
        arena_init(&arena, NULL, 0);
        MUST(meta_search_init(&search, &options, &node, &arena, err));
        /* a list is decoded when the first chunk is asked for; zones tell at once */
        assert_int_equal(meta_search_is_empty(&search, 3), force == META_BY_SLICES);
        MUST(meta_search_chunk(&search, 1, words, NULL, err));
        for (uint32_t i = 0; i < META_CHUNK_WORDS; i++)
            count += (uint32_t)__builtin_popcountll(words[i]);
        assert_int_equal(count, 100);
        for (uint32_t chunk = 0; chunk < 4; chunk++)
            assert_int_equal(meta_search_is_empty(&search, chunk), chunk != 1);
        arena_done(&arena);
        free(words);
    }
    section_done(&s);
}

/* ---- any bytes ---- */

static void any_bytes_give_answers_or_errors(void **state)
{
    struct section s;
    struct random random;
    struct filter_value values[] = {{.kind = FILTER_INT, .integer = 400},
                                    {.kind = FILTER_STRING, .string = SLICE("user-2000")},
                                    {.kind = FILTER_BOOL, .boolean = true}};
    struct filter_node leaves[] = {
        {.op = FILTER_LT, .key = SLICE("n"), .values = values, .value_count = 1},
        {.op = FILTER_NE, .key = SLICE("n"), .values = values, .value_count = 1},
        {.op = FILTER_EQ, .key = SLICE("u"), .values = values + 1, .value_count = 1},
        {.op = FILTER_EXISTS, .key = SLICE("u"), .values = values + 2, .value_count = 1}};
    uint64_t refused = 0, failed = 0;
    (void)state;
    random_seed(&random, 4);
    assert_true(section_build(&s, ROWS, plain_row, NULL, 0, NULL));
    uint8_t *sound = malloc(s.bytes.len);
    memcpy(sound, s.bytes.at, s.bytes.len);
    for (uint32_t i = 0; i < 30000; i++) {
        size_t dir_at = s.bytes.len - (size_t)s.dir_len;
        memcpy(s.bytes.at, sound, s.bytes.len);
        for (uint64_t flips = 1 + random_below(&random, 3); flips; flips--) {
            uint64_t at = random_below(&random, 2) ? dir_at + random_below(&random, s.dir_len)
                                                   : random_below(&random, dir_at);
            uint64_t bit = random_below(&random, 8), any = random_below(&random, 256);
            s.bytes.at[at] = (uint8_t)(random_below(&random, 2) ? any : s.bytes.at[at] ^ 1u << bit);
        }
        if (!meta_index_open(slice_make(s.bytes.at + dir_at, (size_t)s.dir_len), s.bytes.len, ROWS,
                             &s.index)) {
            refused++;
            continue;
        }
        struct meta_search search;
        struct arena arena;
        uint64_t sure[META_CHUNK_WORDS], maybe[META_CHUNK_WORDS];
        arena_init(&arena, NULL, 0);
        och_code code =
            section_search(&s, &leaves[i % COUNT_OF(leaves)], NULL, NULL, (enum meta_force)(i % 3),
                           &search, sure, maybe, &arena, NULL);
        section_release(&s);
        if (code != OCH_OK) {
            assert_int_equal(code, OCH_CORRUPT);
            assert_true(search.damaged);
            failed++;
        }
        arena_done(&arena);
    }
    assert_true(refused > 1000 && failed > 100);
    free(sound);
    section_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_the_format_has_its_bytes),
        cmocka_unit_test(numbers_compare_exactly_at_every_magnitude),
        cmocka_unit_test(filters_of_any_size_are_answered),
        cmocka_unit_test(keys_beyond_the_limit_are_looked_at_row_by_row),
        cmocka_unit_test(a_leaf_reads_two_blocks_at_most),
        cmocka_unit_test(chunks_that_a_range_does_not_touch_are_known),
        cmocka_unit_test(any_bytes_give_answers_or_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
