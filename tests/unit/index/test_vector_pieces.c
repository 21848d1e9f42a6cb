/* SPDX-License-Identifier: Apache-2.0 */
/* Codes in pieces, some of which the search may look at without asking, some not, some no longer: the answers are the same. */
#include "vector_fixture.h"

enum { UNITS = 300, PIECES = 200, QUERIES = 60, K = 10 };

/* Pieces as a cache has them.  What is let go is made unreadable in effect: the search finds another piece's bytes there. */
struct shelf {
    struct fixture *f;
    const uint8_t *bases[2][PIECES];
    bool in_memory[PIECES];        /* peek finds them */
    uint32_t asked, peeked, every; /* at every so many questions all that is held goes */
};

static const uint8_t *shelf_base(const struct shelf *shelf, enum vector_section section,
                                 uint64_t piece)
{
    const struct fixture *f = shelf->f;
    size_t size = section == VECTOR_CODE ? code_block_size(f->index.code_dim)
                                         : code_row_size(f->index.code_dim);
    const uint8_t *at = section == VECTOR_CODE ? f->code : f->code8.at;
    return at + piece * UNITS * size;
}

static och_code shelf_at(void *context, enum vector_section section, uint64_t unit,
                         const uint8_t **ret_base, uint64_t *ret_first, uint64_t *ret_units,
                         och_error *err)
{
    struct shelf *shelf = context;
    if (++shelf->asked % shelf->every == 0)
        memset(shelf->bases, 0, sizeof(shelf->bases));
    TRY(fixture_page(shelf->f, section, unit, ret_base, ret_first, ret_units, err));
    if (unit / UNITS % 3)
        shelf->bases[section][unit / UNITS] = *ret_base;
    return OCH_OK;
}

static const uint8_t *shelf_peek(void *context, enum vector_section section, uint64_t piece)
{
    struct shelf *shelf = context;
    assert_true(piece < PIECES && !shelf->bases[section][piece]);
    shelf->peeked++;
    if (shelf->in_memory[piece])
        shelf->bases[section][piece] = shelf_base(shelf, section, piece);
    return shelf->bases[section][piece];
}

static void want_nothing(void *context, enum vector_section section, uint64_t unit)
{
    (void)context;
    (void)section;
    (void)unit;
}
static void fetch_nothing(void *context)
{
    (void)context;
}

/* Candidates of one query; rows in ascending order. */
static size_t search(const struct fixture *f, const struct vector_pages *pages, const float *q,
                     bool without_lists, uint32_t *out)
{
    struct arena arena;
    struct vector_query query = {.index = &f->index,
                                 .pages = pages,
                                 .vector = q,
                                 .bound = INFINITY,
                                 .plan = vector_plan_make(&f->index, K, 0.95f, f->index.coded)};
    struct vector_found found;
    bool usable;
    arena_init(&arena, NULL, 0);
    if (without_lists)
        query.plan.mode = VECTOR_CODES8;
    MUST(vector_search(&query, &arena, &found, &usable, err));
    assert_true(usable && found.count >= K && found.count <= 8 * K + 256);
    for (size_t i = 0; i < found.count; i++)
        out[i] = found.rows[i].row;
    arena_done(&arena);
    return found.count;
}

static void pieces_held_or_asked_for_give_one_answer(void **state)
{
    (void)state;
    struct fixture f = {.rows = 25000, .dim = 40, .metric = METRIC_L2, .piece_units = UNITS};
    float *queries = calloc((size_t)QUERIES * f.dim, sizeof(float));
    f.vectors = calloc((size_t)f.rows * f.dim, sizeof(float));
    assert_non_null(queries);
    assert_non_null(f.vectors);
    fixture_clusters(f.vectors, f.rows, f.dim, 80, 0.7f, 21, 22);
    fixture_clusters(queries, QUERIES, f.dim, 80, 0.7f, 21, 23);
    fixture_build(&f);
    assert_true(f.index.lists > 100 && f.index.coded <= PIECES * UNITS);
    for (uint32_t way = 0; way < 6; way++) {
        bool cold = way % 3 == 2;
        struct vector_pages plain = {.context = &f,
                                     .at = fixture_page,
                                     .cold = cold,
                                     .want = want_nothing,
                                     .fetch = fetch_nothing};
        struct shelf shelf = {.f = &f, .every = way % 3 ? 7 : UINT32_MAX};
        struct vector_pages pages = {.context = &shelf,
                                     .at = shelf_at,
                                     .peek = shelf_peek,
                                     .held = {{shelf.bases[0], UNITS}, {shelf.bases[1], UNITS}},
                                     .cold = cold,
                                     .want = want_nothing,
                                     .fetch = fetch_nothing};
        for (uint32_t i = 0; i < PIECES; i++)
            shelf.in_memory[i] = way % 3 == 0 || i % 5 > 1;
        for (uint32_t q = 0; q < QUERIES; q++) {
            uint32_t want[8 * K + 256], got[8 * K + 256], shared = 0;
            const float *query = queries + (size_t)q * f.dim;
            size_t wanted = search(&f, &plain, query, way >= 3, want),
                   found = search(&f, &pages, query, way >= 3, got);
            for (size_t i = 0, j = 0; i < wanted && j < found;) {
                shared += want[i] == got[j];
                uint32_t from = want[i], to = got[j];
                i += from <= to;
                j += to <= from;
            }
            /* the threshold may be looked at some rows sooner or later */
            assert_true(shared + 1 >= wanted && shared + 1 >= found);
        }
        assert_true(cold ? shelf.peeked == 0 : shelf.peeked > 0);
        assert_true(way % 3 == 0 ? shelf.asked == 0 : shelf.asked > 100);
    }
    free(queries);
    fixture_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_held_or_asked_for_give_one_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
