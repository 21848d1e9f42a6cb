/* SPDX-License-Identifier: Apache-2.0 */
/* The sparse index against brute force. */
#include "sparse_fixture.h"

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

static void answers_are_those_of_brute_force(void **state)
{
    static const struct kind kinds[] = {
        {3000, 20, 200, 0, 0, positive},      {3000, 20, 200, 5000, 65536, mixed},
        {40000, 12, 400, 0, 65536, positive}, {40000, 12, 3000, 100000, 65536, positive},
        {20000, 8, 30, 0, 65536, ones},       {5000, 10, 40, 0, 0, odd},
        {1, 5, 10, 0, 0, positive},           {17000, 6, 100000, 0, 65536, mixed},
        {64, 300, 5000, 0, 0, positive},      {33000, 3, 3, 0, 65536, positive},
    };
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_brute_force),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
