/* SPDX-License-Identifier: Apache-2.0 */
/* The sparse index against brute force. */
#include "sparse_fixture.h"

#include "support/slow.h"

#define WORDS(rows) (((size_t)(rows) + 63) / 64 + SPARSE_WINDOW / 64)

static int by_dim(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Few dimensions are common, many rare; now and then the ends of the range. */
static uint32_t random_dim(struct random *random, uint32_t vocabulary)
{
    double u = random_unit(random);
    uint32_t dim = (uint32_t)(u * u * u * vocabulary);
    return random_below(random, 500) == 0 ? UINT32_MAX - dim : dim;
}

static void random_vector(struct sparse_row *row, struct random *random, uint32_t vocabulary,
                          float (*weight)(struct random *random))
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < row->count; i++)
        row->dims[i] = random_dim(random, vocabulary);
    qsort(row->dims, row->count, sizeof(uint32_t), by_dim);
    for (uint32_t i = 0; i < row->count; i++) {
        if (!kept || row->dims[kept - 1] != row->dims[i])
            row->dims[kept++] = row->dims[i];
    }
    row->count = kept;
    for (uint32_t i = 0; i < kept; i++)
        row->weights[i] = weight(random);
}

static float positive(struct random *random)
{
    return (float)(random_unit(random) * random_unit(random) * 3);
}
static float mixed(struct random *random)
{
    return (float)(random_unit(random) * 2 - 1);
}
static float ones(struct random *random)
{
    (void)random;
    return 1;
}
static float odd(struct random *random)
{
    static const float values[] = {0, -0.0f, 1e-45f, -1e-45f, 1e-30f, 3e38f, -3e38f, 1, -1, 2.5f};
    return values[random_below(random, 10)];
}

struct kind {
    uint32_t rows, nonzeros, vocabulary, capacity, piece;
    float (*weight)(struct random *random);
};

static void fill(struct sparse_set *set, const struct kind *kind, struct random *random)
{
    sparse_set_init(set, kind->rows);
    for (uint32_t row = 0; row < kind->rows; row++) {
        if (random_below(random, 10) == 0)
            continue;
        sparse_set_row(set, row, (uint32_t)random_below(random, kind->nonzeros + 1));
        random_vector(&set->rows[row], random, kind->vocabulary, kind->weight);
    }
    set->piece = kind->piece;
    sparse_set_build(set, kind->capacity);
}

/* Rows by chance, which goes on in set->random. */
static void fill_new(struct sparse_set *set, uint64_t seed, const struct kind *kind)
{
    struct random random;
    random_seed(&random, seed);
    fill(set, kind, &random);
    set->random = random;
}

static void ask(struct sparse_set *set, const struct kind *kind, struct random *random)
{
    static const size_t ks[] = {1, 3, 10, 100, 5000};
    static const uint32_t shares[] = {100, 50, 10, 1};
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct sparse_row query = {.count = 1 + (uint32_t)random_below(random, 30)};
    query.dims = ARENA_ARRAY(&arena, uint32_t, query.count);
    query.weights = ARENA_ARRAY(&arena, float, query.count);
    random_vector(&query, random, kind->vocabulary, kind->weight);
    uint64_t *allowed = NULL, *passing = NULL;
    if (random_below(random, 2)) {
        allowed = ARENA_ARRAY(&arena, uint64_t, WORDS(set->count));
        uint32_t share = shares[random_below(random, 4)];
        for (uint32_t row = 0; row < set->count; row++)
            allowed[row / 64] |= (uint64_t)(random_below(random, 100) < share) << row % 64;
    }
    if (random_below(random, 3) == 0) {
        passing = ARENA_ARRAY(&arena, uint64_t, WORDS(set->count));
        for (uint32_t row = 0; row < set->count; row++)
            passing[row / 64] |= (uint64_t)(random_below(random, 100) < 30) << row % 64;
    }
    struct sparse_terms terms = {query.dims, query.weights, query.count};
    size_t k = ks[random_below(random, 5)];
    for (int plan = SPARSE_AUTO; plan <= SPARSE_EXACT; plan++)
        sparse_compare(set, &terms, k, allowed, passing, (enum sparse_plan)plan);
    arena_done(&arena);
}

static const struct kind kinds[] = {
    {3000, 20, 200, 0, 0, positive},      {3000, 20, 200, 5000, 65536, mixed},
    {40000, 12, 400, 0, 65536, positive}, {40000, 12, 3000, 100000, 65536, positive},
    {20000, 8, 30, 0, 65536, ones},       {5000, 10, 40, 0, 0, odd},
    {1, 5, 10, 0, 0, positive},           {17000, 6, 100000, 0, 65536, mixed},
    {64, 300, 5000, 0, 0, positive},      {33000, 3, 3, 0, 65536, positive},
    {20000, 40, 60, 0, 65536, positive}, /* long lists: filters follow their rows */
};

static void answers_are_those_of_brute_force(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 7);
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct sparse_set set;
        fill(&set, &kinds[i], &random);
        for (int j = 0; j < 24; j++)
            ask(&set, &kinds[i], &random);
        sparse_set_done(&set);
    }
}

/* Sections of version 1 hold the weights as they are; the rest is the same. */
static void what_version_1_wrote_is_read(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 8);
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct sparse_set set;
        fill(&set, &kinds[i], &random);
        size_t packed = set.section.len;
        set.raw = true;
        sparse_set_build(&set, kinds[i].capacity);
        struct sparse_index index;
        assert_true(sparse_set_open(&set, &index));
        assert_true(index.raw);
        assert_int_equal(load_u16(index.directory.at + 4), 1);
        if (kinds[i].weight == positive && set.count == 33000)
            assert_true(set.section.len > packed + packed / 8); /* what packing is for */
        for (int j = 0; j < 8; j++)
            ask(&set, &kinds[i], &random);
        sparse_set_done(&set);
    }
}

/* ---- edges ---- */

/* One list of each length around the sizes of entries and blocks, in parts around the size of a window; every row asked for. */
static void lists_and_parts_of_every_length_are_found(void **state)
{
    static const uint32_t lengths[] = {1, 4, 5, 127, 128, 129, 255, 256, 257, 1000};
    static const uint32_t rows[] = {1, 300, 16383, 16384, 16385};
    (void)state;
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct sparse_set set;
        uint32_t dims[COUNT_OF(lengths)];
        float weights[COUNT_OF(lengths)];
        sparse_set_init(&set, rows[r]);
        for (uint32_t row = 0; row < rows[r]; row++) {
            sparse_set_row(&set, row, COUNT_OF(lengths));
            set.rows[row].count = 0;
            for (uint32_t i = 0; i < COUNT_OF(lengths); i++) {
                /* lists end at the last row */
                if (rows[r] - row > lengths[i])
                    continue;
                uint32_t at = set.rows[row].count++;
                set.rows[row].dims[at] = i == 0 ? 0 : i == COUNT_OF(lengths) - 1 ? UINT32_MAX : i;
                set.rows[row].weights[at] = (float)(row % 13) - 4;
            }
        }
        set.piece = 65536;
        sparse_set_build(&set, 0);
        for (uint32_t i = 0; i < COUNT_OF(lengths); i++) {
            dims[i] = i == 0 ? 0 : i == COUNT_OF(lengths) - 1 ? UINT32_MAX : i;
            weights[i] = 1;
            struct sparse_terms one = {dims + i, weights + i, 1}, all = {dims, weights, i + 1};
            sparse_compare(&set, &one, 2000, NULL, NULL, SPARSE_AUTO);
            sparse_compare(&set, &all, 7, NULL, NULL, SPARSE_AUTO);
        }
        sparse_set_done(&set);
    }
}

/* More dimensions than pieces are held at once, and more than are sorted by bound. */
static void queries_of_very_many_dimensions_answer(void **state)
{
    (void)state;
    struct sparse_set set;
    fill_new(&set, 9, &(struct kind){20000, 40, 3000, 0, 65536, mixed});
    float weights[3000];
    uint32_t dims[3000];
    for (uint32_t i = 0; i < 3000; i++) {
        dims[i] = i;
        weights[i] = mixed(&set.random);
    }
    static const uint32_t counts[] = {64, 65, 200, 3000};
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        struct sparse_terms terms = {dims, weights, counts[i]};
        sparse_compare(&set, &terms, 10, NULL, NULL, SPARSE_AUTO);
    }
    sparse_set_done(&set);
}

static int by_score(const void *a, const void *b)
{
    return topk_compare(a, b);
}

/* What a search offers, beside all rows in order, without a heap. */
static void compare_with_sorted(struct sparse_set *set, const struct sparse_terms *terms, size_t k,
                                const uint64_t *allowed, enum sparse_plan plan)
{
    struct sparse_index index;
    struct arena arena;
    struct sparse_answer answer = {.set = set};
    struct sparse_hits hits = {&answer, sparse_answer_bound, sparse_answer_verify,
                               sparse_answer_offer};
    struct sparse_pages pages = {set, sparse_set_page};
    uint64_t offset;
    size_t count = 0, expected;
    arena_init(&arena, NULL, 0);
    assert_true(sparse_set_open(set, &index));
    MUST(topk_init(&answer.top, k, &arena, err));
    struct sparse_search search = {.index = &index,
                                   .pages = &pages,
                                   .key = SLICE("v"),
                                   .terms = *terms,
                                   .k = k,
                                   .allowed = allowed,
                                   .hits = &hits,
                                   .plan = plan};
    struct topk_item *all = ARENA_ARRAY(&arena, struct topk_item, set->count);
    assert_non_null(all);
    for (uint32_t row = 0; row < set->count; row++) {
        bool in = !allowed || allowed[row / 64] >> row % 64 & 1;
        float score;
        search.allowed_count += allowed && in;
        if (in && sparse_brute_score(&set->rows[row], terms, &score))
            all[count++] =
                (struct topk_item){.distance = score, .row = row, .seq = sparse_seq(row)};
    }
    qsort(all, count, sizeof(*all), by_score);
    expected = count < k ? count : k;
    assert_true(expected > 65536);
    MUST(sparse_search(&search, &arena, &offset, err));
    topk_sort(&answer.top);
    assert_int_equal(answer.top.len, expected);
    for (size_t i = 0; i < expected; i++) {
        assert_int_equal(answer.top.items[i].row, all[i].row);
        assert_memory_equal(&answer.top.items[i].distance, &all[i].distance, 4);
    }
    arena_done(&arena);
}

/* As many hits as most parts have rows, and more than there are. */
static void more_hits_than_65536_are_those_of_brute_force(void **state)
{
    static const struct kind many[] = {{90000, 5, 8, 0, 65536, mixed},
                                       {90000, 5, 8, 150000, 65536, ones}};
    static const size_t ks[] = {70000, 90000};
    uint32_t dims[] = {0, 1, 2, 3, 5};
    float weights[] = {1, -0.5f, 2, 0.25f, 3};
    struct sparse_terms terms = {dims, weights, COUNT_OF(dims)};
    struct random random;
    (void)state;
    needs_many_rows();
    random_seed(&random, 65536);
    for (size_t i = 0; i < COUNT_OF(many); i++) {
        struct sparse_set set;
        sparse_set_init(&set, many[i].rows);
        for (uint32_t row = 0; row < set.count; row++) {
            sparse_set_row(&set, row, 3 + (uint32_t)random_below(&random, many[i].nonzeros));
            random_vector(&set.rows[row], &random, many[i].vocabulary, many[i].weight);
        }
        set.piece = many[i].piece;
        sparse_set_build(&set, many[i].capacity);
        uint64_t *most = ARENA_ARRAY(&set.arena, uint64_t, WORDS(set.count));
        for (uint32_t row = 0; row < set.count; row++)
            most[row / 64] |= (uint64_t)(random_below(&random, 10) > 0) << row % 64;
        for (size_t k = 0; k < COUNT_OF(ks); k++)
            for (int plan = SPARSE_AUTO; plan <= SPARSE_EXACT; plan++)
                compare_with_sorted(&set, &terms, ks[k], plan == SPARSE_AUTO && k ? NULL : most,
                                    (enum sparse_plan)plan);
        sparse_set_done(&set);
    }
}

static void nothing_is_read_twice_while_leaving_out(void **state)
{
    (void)state;
    struct sparse_set set;
    struct sparse_index index;
    fill_new(&set, 12, &(struct kind){60000, 10, 300, 0, 0, positive});
    assert_true(sparse_set_open(&set, &index));
    uint64_t read = 0, all = 0;
    for (int i = 0; i < 30; i++) {
        uint32_t dims[8];
        float weights[8] = {1, 2, 3, 1, 1, 5, 1, 9};
        struct arena arena;
        struct sparse_answer answer = {.set = &set};
        struct sparse_hits hits = {&answer, sparse_answer_bound, sparse_answer_verify,
                                   sparse_answer_offer};
        struct sparse_pages pages = {&set, sparse_set_page};
        uint64_t offset;
        arena_init(&arena, NULL, 0);
        for (uint32_t j = 0; j < 8; j++)
            dims[j] = j * 30 + (uint32_t)random_below(&set.random, 30);
        MUST(topk_init(&answer.top, 10, &arena, err));
        struct sparse_search search = {.index = &index,
                                       .pages = &pages,
                                       .key = SLICE("v"),
                                       .terms = {dims, weights, 8},
                                       .k = 10,
                                       .hits = &hits};
        MUST(sparse_search(&search, &arena, &offset, err));
        assert_true(search.postings_read <= search.postings_all);
        read += search.postings_read;
        all += search.postings_all;
        arena_done(&arena);
    }
    assert_true(read < all);
    sparse_set_done(&set);
}

static void holders_are_counted_without_the_dead(void **state)
{
    static const uint32_t shares[] = {0, 1, 50, 99, 100};
    (void)state;
    struct sparse_set set;
    struct sparse_index index;
    fill_new(&set, 13, &(struct kind){20000, 12, 100, 50000, 65536, positive});
    assert_true(sparse_set_open(&set, &index));
    for (size_t i = 0; i < COUNT_OF(shares); i++) {
        struct arena arena;
        struct sparse_pages pages = {&set, sparse_set_page};
        uint32_t dims[103];
        float weights[103] = {0};
        uint64_t holders[103] = {0}, offset;
        arena_init(&arena, NULL, 0);
        uint64_t *dead = ARENA_ARRAY(&arena, uint64_t, WORDS(set.count));
        for (uint32_t row = 0; row < set.count; row++)
            dead[row / 64] |= (uint64_t)(random_below(&set.random, 100) < shares[i]) << row % 64;
        for (uint32_t d = 0; d < 103; d++)
            dims[d] = d;
        struct sparse_terms terms = {dims, weights, 103};
        MUST(sparse_count(&index, &pages, SLICE("v"), &terms, dead, NULL, &arena, holders, &offset,
                          err));
        for (uint32_t d = 0; d < 103; d++) {
            uint64_t expected = 0;
            for (uint32_t row = 0; row < set.count; row++) {
                for (uint32_t j = 0; set.rows[row].count != UINT32_MAX && j < set.rows[row].count;
                     j++)
                    expected += set.rows[row].dims[j] == d && !(dead[row / 64] >> row % 64 & 1);
            }
            assert_int_equal(holders[d], expected);
        }
        arena_done(&arena);
    }
    sparse_set_done(&set);
}

/* ---- bytes ---- */

static void try_bytes(struct sparse_set *set)
{
    struct sparse_index index;
    struct arena arena;
    struct sparse_answer answer = {.set = set};
    struct sparse_hits hits = {&answer, sparse_answer_bound, sparse_answer_verify,
                               sparse_answer_offer};
    struct sparse_pages pages = {set, sparse_set_page};
    uint32_t dims[40];
    float weights[40];
    uint64_t holders[40] = {0}, offset = 0;
    if (!sparse_set_open(set, &index))
        return;
    arena_init(&arena, NULL, 32 << 20);
    for (uint32_t i = 0; i < 40; i++) {
        dims[i] = i;
        weights[i] = (float)i / 7;
    }
    MUST(topk_init(&answer.top, 20, &arena, err));
    struct sparse_search search = {.index = &index,
                                   .pages = &pages,
                                   .key = SLICE("v"),
                                   .terms = {dims, weights, 40},
                                   .k = 20,
                                   .hits = &hits};
    if (sparse_search(&search, &arena, &offset, NULL) != OCH_OK)
        assert_true(offset <= set->section.len + 65536);
    IGNORE(sparse_count(&index, &pages, SLICE("v"), &search.terms, NULL, NULL, &arena, holders,
                        &offset, NULL)); /* an error is as good */
    for (size_t i = 0; i < answer.top.len; i++)
        assert_true(answer.top.items[i].row < set->count);
    arena_done(&arena);
}

static void changed_bytes_never_lead_outside(void **state)
{
    (void)state;
    struct sparse_set set;
    fill_new(&set, 14, &(struct kind){700, 14, 40, 2500, 65536, positive});
    size_t directory_at = set.section.len - set.directory_len;
    for (size_t at = directory_at; at < set.section.len; at++) {
        uint8_t was = set.section.at[at];
        static const uint8_t values[] = {0, 1, 127, 255};
        for (size_t i = 0; i < COUNT_OF(values); i++) {
            set.section.at[at] = values[i];
            try_bytes(&set);
        }
        set.section.at[at] = was;
    }
    for (int i = 0; i < 3000; i++) {
        size_t at = (size_t)random_below(&set.random, directory_at);
        uint8_t was = set.section.at[at];
        set.section.at[at] = (uint8_t)random_below(&set.random, 256);
        try_bytes(&set);
        set.section.at[at] = was;
    }
    for (uint32_t len = 0; len < set.directory_len; len++) {
        set.directory_len -= 1;
        try_bytes(&set);
    }
    sparse_set_done(&set);
}

static void a_builder_without_memory_says_so_and_leaks_nothing(void **state)
{
    (void)state;
    struct sparse_set set;
    fill_new(&set, 15, &(struct kind){400, 10, 30, 1500, 0, positive});
    static const slice keys[] = {{(const uint8_t *)"v", 1}};
    for (uint64_t nth = 1;; nth++) {
        struct budget budget;
        budget_init(&budget, 0, NULL);
        struct sparse_options options = {.budget = &budget,
                                         .keys = keys,
                                         .key_count = 1,
                                         .capacity = 1500,
                                         .emit = sparse_set_emit,
                                         .emit_context = &set};
        struct sparse_rows rows = {&set, set.count, sparse_set_metadata};
        uint32_t len;
        buf_clear(&set.section);
        mem_fail_at(nth);
        och_code code = sparse_build(&options, &rows, &len, NULL);
        mem_fail_at(0);
        assert_int_equal(budget_used(&budget), 0);
        if (code == OCH_OK)
            break;
        assert_int_equal(code, OCH_NO_MEMORY);
    }
    sparse_set_done(&set);
}

/* The example of docs/formats/sparse.md. */
static void the_example_is_what_is_written(void **state)
{
    (void)state;
    struct sparse_set set;
    sparse_set_init(&set, 3);
    sparse_set_row(&set, 0, 2);
    set.rows[0].dims[0] = 1;
    set.rows[0].dims[1] = 7;
    set.rows[0].weights[0] = 0.5f;
    set.rows[0].weights[1] = 2;
    sparse_set_row(&set, 2, 1);
    set.rows[2].dims[0] = 7;
    set.rows[2].weights[0] = -1;
    sparse_set_build(&set, 4096);
    static const uint8_t dictionary[] = {2, 0,                         /* entries */
                                         1, 0,    0,    0,    0, 0x3f, /* 1: row 0, 0.5 */
                                         6, 2,    0,    2,    0, 0,
                                         0, 0x40,                 /* 7: rows 0 and 2; 2, */
                                         0, 0,    0x80, 0xbf, 0}; /* -1 */
    static const uint8_t directory[] = {
        0x4f, 0x53, 0x50, 0x56, 3, 0, 1, 0, 3, 0, 0, 0, 0, 0x10, 0, 0, /* header */
        1,    0,    0,    0,    8, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, /* */
        1,    'v',  0,    0,    0, 0, 0, 0,                            /* keys */
        0,    0,    0,    0,    0, 0, 0, 0, 3, 0, 0, 0, 2, 0,    0, 0, /* segment */
        2,    0,    0,    0,    1, 0, 0, 0, 3, 0, 0, 0, 0, 0,    0, 0, /* */
        0,    0,    0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, /* */
        0,    0,    0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, /* */
        1,    0,    0,    0};                                          /* tops */
    assert_int_equal(set.section.len, 1024 + sizeof(directory));
    assert_int_equal(set.directory_len, sizeof(directory));
    assert_memory_equal(set.section.at, dictionary, sizeof(dictionary));
    assert_memory_equal(set.section.at + 1024, directory, sizeof(directory));
    uint32_t dims[] = {7};
    float weights[] = {1};
    struct sparse_terms terms = {dims, weights, 1};
    sparse_compare(&set, &terms, 10, NULL, NULL, SPARSE_AUTO);
    sparse_set_done(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_brute_force),
        cmocka_unit_test(what_version_1_wrote_is_read),
        cmocka_unit_test(lists_and_parts_of_every_length_are_found),
        cmocka_unit_test(queries_of_very_many_dimensions_answer),
        cmocka_unit_test(more_hits_than_65536_are_those_of_brute_force),
        cmocka_unit_test(nothing_is_read_twice_while_leaving_out),
        cmocka_unit_test(holders_are_counted_without_the_dead),
        cmocka_unit_test(changed_bytes_never_lead_outside),
        cmocka_unit_test(a_builder_without_memory_says_so_and_leaks_nothing),
        cmocka_unit_test(the_example_is_what_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
