/* SPDX-License-Identifier: Apache-2.0 */
/* Rows here and there: one batch, a few pages each, right whatever the dimension, the disk and the other threads do. */
#include "part_fixture.h"

#include "part/part_internal.h"

#include "base/sched.h"

#include <errno.h>

static const struct rows_options usual = {.count = 3000,
                                          .dimension = 96,
                                          .metric = METRIC_L2,
                                          .document_bytes = 60,
                                          .seq_step = 3,
                                          .plain = true};

/* Ascending rows, `step` apart at most. */
static size_t some_rows(struct random *random, uint32_t count, uint32_t step, uint32_t *rows,
                        size_t most)
{
    size_t len = 0;
    for (uint32_t row = (uint32_t)random_below(random, step); row < count && len < most;
         row += 1 + (uint32_t)random_below(random, step))
        rows[len++] = row;
    return len;
}

static och_code check_picked(const struct fixture *f, struct part *part, const uint32_t *rows,
                             size_t count, och_error *err)
{
    struct arena arena;
    const float **vectors = NULL;
    struct part_picked picked;
    arena_init(&arena, NULL, 0);
    och_code code = part_pick_vectors(part, rows, count, &arena, &vectors, &picked, err);
    if (code == OCH_OK) {
        for (size_t i = 0; i < count; i++) // in plain parts rows are as they came
            assert_memory_equal(vectors[i], f->rows[rows[i]].vector,
                                (size_t)f->options.dimension * 4);
        part_picked_done(&picked);
    }
    arena_done(&arena);
    return code;
}

static void vectors_of_any_dimension_are_picked_right(void **state)
{
    (void)state;
    static const uint32_t dimensions[] = {1, 3, 24, 96, 100, 128, 384, 768, 1000, 1023, 5000};
    for (size_t d = 0; d < COUNT_OF(dimensions); d++) {
        struct rows_options options = usual;
        struct fixture f;
        struct random random;
        uint32_t rows[200];
        options.dimension = dimensions[d];
        options.count = dimensions[d] > 1000 ? 200 : dimensions[d] > 300 ? 700 : 3000;
        fixture_init(&f, &options, d + 1);
        fixture_build(&f);
        random_seed(&random, d);
        for (int round = 0; round < 40; round++) { // cold, half there, in pieces
            size_t count = some_rows(&random, options.count,
                                     1 + options.count / (uint32_t)(1 + random_below(&random, 60)),
                                     rows, COUNT_OF(rows));
            MUST(check_picked(&f, f.part, rows, count, err));
            if (round == 20)
                MUST(check_vectors(&f, f.part, err));
        }
        uint32_t all[] = {0, options.count - 1};
        MUST(check_picked(&f, f.part, all, 2, err));
        MUST(check_picked(&f, f.part, all, 0, err));
        fixture_done(&f);
    }
}

static void a_row_costs_a_few_pages_and_many_rows_become_pieces(void **state)
{
    (void)state;
    struct fixture f;
    struct rows_options options = usual;
    struct cache_stats before, after;
    options.dimension = 768; // 9 MB of vectors
    fixture_init(&f, &options, 9);
    fixture_build(&f);
    struct part *part;
    MUST(fixture_open(&f, &part, err));
    cache_stats(f.cache, &before);
    static const uint32_t rows[] = {5, 900, 1700, 2999};
    MUST(check_picked(&f, part, rows, 4, err));
    cache_stats(f.cache, &after);
    // four of 12 KiB and the checksums
    assert_true(after.used_bytes - before.used_bytes < 4 * 13000 + 66000);
    assert_int_equal(after.pinned_bytes, before.pinned_bytes);
    uint64_t reads = io_sim_count(f.io, IO_SIM_READ);
    MUST(check_picked(&f, part, rows, 4, err));
    assert_int_equal(io_sim_count(f.io, IO_SIM_READ), reads);
    for (uint32_t row = 0; row < options.count; row += 5)
        MUST(check_picked(&f, part, &row, 1, err));
    reads = io_sim_count(f.io, IO_SIM_READ) - reads;
    assert_true(reads < 500); // of 600 rows in 36 pieces: eight single reads each, then the piece
    cache_stats(f.cache, &after);
    // the few rows of a piece went when it came: 9 MB of vectors and the checksums
    assert_true(after.used_bytes - before.used_bytes < 3000u * 768 * 4 + 300000);
    part_unref(part);
    fixture_done(&f);
}

/* A part that will soon be merged is not loaded for the sake of some rows, however often they are asked for. */
static void a_passing_part_is_read_by_rows(void **state)
{
    (void)state;
    struct fixture f;
    struct rows_options options = usual;
    struct cache_stats before, after;
    options.dimension = 768;
    fixture_init(&f, &options, 10);
    fixture_build(&f);
    struct part *part;
    MUST(fixture_open(&f, &part, err));
    part_set_passing(part, UINT64_MAX);
    cache_stats(f.cache, &before);
    for (uint32_t row = 0; row < options.count; row += 9) // nine or ten of each piece
        MUST(check_picked(&f, part, &row, 1, err));
    cache_stats(f.cache, &after);
    assert_true(after.used_bytes - before.used_bytes < options.count / 9 * 12800 + 100000);
    part_set_passing(part, 1); // long ago
    for (uint32_t row = 0; row < options.count; row++)
        MUST(check_picked(&f, part, &row, 1, err));
    cache_stats(f.cache, &after);
    // whole pieces, and the few that they held are gone
    assert_true(after.used_bytes - before.used_bytes < 3000u * 768 * 4 + 300000);
    part_unref(part);
    fixture_done(&f);
}

static void what_was_read_ahead_is_not_read_again(void **state)
{
    (void)state;
    struct fixture f;
    struct part *part;
    struct random random;
    struct part_reads reads;
    struct arena arena;
    uint32_t rows[40];
    fixture_init(&f, &usual, 11);
    fixture_build(&f);
    MUST(fixture_open(&f, &part, err));
    random_seed(&random, 1);
    arena_init(&arena, NULL, 0);
    part_reads_init(&reads, f.cache, &arena);
    size_t count = some_rows(&random, usual.count, 90, rows, COUNT_OF(rows));
    unsigned fields = RECORD_ALL & ~(unsigned)RECORD_EXPIRY;
    part_read_ahead(part, &reads, rows, count, fields);
    uint64_t before = io_sim_count(f.io, IO_SIM_READ);
    for (size_t i = 0; i < count; i++) {
        struct record record;
        const struct record *want = &f.rows[rows[i]];
        MUST(part_read(part, &reads, rows[i], fields, &record, err));
        assert_true(slice_equal(record.id, want->id));
        assert_true(slice_equal(record.document, want->document));
        assert_int_equal(record.seq, want->seq);
        assert_memory_equal(record.vector, want->vector, usual.dimension * 4);
    }
    assert_int_equal(io_sim_count(f.io, IO_SIM_READ), before);
    part_reads_done(&reads);
    struct cache_stats stats;
    cache_stats(f.cache, &stats);
    arena_done(&arena);
    part_unref(part);
    fixture_done(&f);
}

/* A single failing read is read again; a disk that goes on failing is told; nothing is ever wrong. */
static void a_read_that_fails_is_read_again_or_told(void **state)
{
    (void)state;
    struct fixture f;
    static const uint32_t rows[] = {1, 2, 700, 1300, 1301, 2500, 2999};
    fixture_init(&f, &usual, 12);
    fixture_build(&f);
    for (int stuck = 0; stuck < 2; stuck++) {
        bool failed = true;
        for (uint64_t nth = 1; failed && nth < 100; nth++) {
            struct part *part;
            och_error failure = {0};
            MUST(fixture_open(&f, &part, err));
            uint64_t before = io_sim_count(f.io, IO_SIM_READ);
            io_sim_fail_at(f.io, IO_SIM_READ, nth, EIO, stuck);
            och_code code = check_picked(&f, part, rows, COUNT_OF(rows), &failure);
            failed = io_sim_count(f.io, IO_SIM_READ) - before >= nth;
            io_sim_fail_at(f.io, IO_SIM_READ, 0, 0, false);
            assert_int_equal(code, stuck && failed ? OCH_IO : OCH_OK);
            MUST(check_picked(&f, part, rows, COUNT_OF(rows), err));
            part_unref(part);
        }
        assert_false(failed);
    }
    fixture_done(&f);
}

static void a_bad_page_costs_its_rows_and_no_others(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &usual, 13);
    fixture_build(&f);
    const struct part_section *section = &f.part->sections[SECTION_VEC];
    uint32_t bad_row = 1234, stride = usual.dimension * 4;
    uint64_t at = section->offset + (uint64_t)bad_row * stride + 9;
    uint8_t byte;
    MUST(store_read(f.store, f.object, at, &byte, 1, err));
    byte ^= 4;
    MUST(io_sim_poke(f.io, f.path, at, &byte, 1, err));
    struct part *part;
    MUST(fixture_open(&f, &part, err));
    static const uint32_t others[] = {0, 600, 1100, 1400, 2000};
    MUST(check_picked(&f, part, others, COUNT_OF(others), err));
    const uint32_t with_bad[] = {600, bad_row, 2000};
    och_error failure = {0};
    assert_int_equal(check_picked(&f, part, with_bad, 3, &failure), OCH_CORRUPT);
    assert_non_null(strstr(failure.message, "section VEC"));
    MUST(check_picked(&f, part, others, COUNT_OF(others), err));
    part_unref(part);
    fixture_done(&f);
}

static void every_failing_allocation_is_survived(void **state)
{
    (void)state;
    struct fixture f;
    static const uint32_t rows[] = {1, 2, 700, 1300, 1301, 2500, 2999};
    fixture_init(&f, &usual, 14);
    fixture_build(&f);
    for (uint64_t nth = 1; nth < 200; nth++) {
        struct part *part;
        och_error failure = {0};
        MUST(fixture_open(&f, &part, err));
        struct arena arena;
        const float **vectors = NULL;
        struct part_picked picked;
        arena_init(&arena, NULL, 0);
        mem_fail_at(nth);
        och_code code =
            part_pick_vectors(part, rows, COUNT_OF(rows), &arena, &vectors, &picked, &failure);
        mem_fail_at(0);
        assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
        if (code == OCH_OK)
            part_picked_done(&picked);
        arena_done(&arena);
        MUST(check_picked(&f, part, rows, COUNT_OF(rows), err));
        part_unref(part);
    }
    fixture_done(&f);
}

struct crowd {
    struct thread thread;
    const struct fixture *f;
    struct part *part;
    uint64_t seed;
};

static void crowd_run(void *arg)
{
    struct crowd *crowd = arg;
    struct random random;
    uint32_t rows[30];
    random_seed(&random, crowd->seed);
    for (int round = 0; round < 100; round++) {
        struct arena arena;
        const float **vectors = NULL;
        struct part_picked picked;
        och_error failure = {0};
        size_t count = some_rows(&random, usual.count, 200, rows, COUNT_OF(rows));
        arena_init(&arena, NULL, 0);
        och_code code =
            part_pick_vectors(crowd->part, rows, count, &arena, &vectors, &picked, &failure);
        if (code != OCH_OK && code != OCH_BUSY)
            abort();
        for (size_t i = 0; code == OCH_OK && i < count; i++)
            if (memcmp(vectors[i], crowd->f->rows[rows[i]].vector, usual.dimension * 4) != 0)
                abort();
        if (code == OCH_OK)
            part_picked_done(&picked);
        arena_done(&arena);
    }
}

/* With room each read is done once; without, nothing is over the budget. */
static void threads_pick_side_by_side(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &usual, 15);
    fixture_build(&f);
    for (int small = 0; small < 2; small++) {
        struct crowd crowds[4];
        struct cache *cache = f.cache;
        if (small)
            MUST(cache_new(300000, NULL, &cache, err)); // of 1.2 MB
        struct part_env env = {.store = f.store, .cache = cache};
        struct part *part;
        MUST(part_open(&env, &f.info.ref, f.collection, &part, err));
        for (size_t i = 0; i < COUNT_OF(crowds); i++) {
            crowds[i] = (struct crowd){.f = &f, .part = part, .seed = i + 1};
            MUST(thread_start(&crowds[i].thread, "pick", 0, crowd_run, &crowds[i], err));
        }
        for (size_t i = 0; i < COUNT_OF(crowds); i++)
            thread_join(&crowds[i].thread);
        struct cache_stats stats;
        cache_stats(cache, &stats);
        assert_true(!small || stats.used_bytes <= 300000);
        assert_true(!small || stats.evictions > 0);
        part_unref(part);
        if (small)
            cache_free(cache);
    }
    fixture_done(&f);
}

/* Bytes of a piece of a section of 1 GiB. */
static uint64_t piece_of(unsigned id, uint32_t page_size, uint32_t unit)
{
    struct part_section section = {.page_size = page_size, .size = 1u << 30};
    return part_group_of(&section, id, unit) * unit;
}

static void pieces_are_as_small_as_their_pages_allow(void **state)
{
    (void)state;
    for (uint32_t dim = 64; dim <= 8192; dim += 64) {
        uint32_t block = 4 * dim + 256;
        uint64_t small = piece_of(SECTION_CODE, PAGE_SMALL, block);
        assert_true(small >= 64 << 10 && small <= 256 << 10); // in huge pages, and no more
        uint64_t large = piece_of(SECTION_CODE, PAGE_LARGE, block);
        assert_true(large >= 192 << 10 && large <= 512 << 10); // of parts written before
    }
    for (uint64_t bits = 1; bits <= 64; bits++) {
        uint32_t stride = (uint32_t)part_seq_stride(bits);
        assert_true(piece_of(SECTION_SEQ, PAGE_SMALL, stride) <= 32 << 10);
        assert_true(piece_of(SECTION_SEQ, PAGE_LARGE, stride) >= 192 << 10);
    }
    assert_int_equal(part_section_page_size(SECTION_CODE), PAGE_SMALL);
    assert_int_equal(part_section_page_size(SECTION_SEQ), PAGE_SMALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_of_any_dimension_are_picked_right),
        cmocka_unit_test(a_row_costs_a_few_pages_and_many_rows_become_pieces),
        cmocka_unit_test(a_passing_part_is_read_by_rows),
        cmocka_unit_test(pieces_are_as_small_as_their_pages_allow),
        cmocka_unit_test(what_was_read_ahead_is_not_read_again),
        cmocka_unit_test(a_read_that_fails_is_read_again_or_told),
        cmocka_unit_test(a_bad_page_costs_its_rows_and_no_others),
        cmocka_unit_test(every_failing_allocation_is_survived),
        cmocka_unit_test(threads_pick_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
