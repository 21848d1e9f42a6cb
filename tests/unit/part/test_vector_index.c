/* SPDX-License-Identifier: Apache-2.0 */
/* The vector index inside a part: rows in list order still answer everything, searches find, damage costs nothing but time. */
#include "part_fixture.h"

#include "part/part_internal.h"

#include "base/pool.h"

#include <math.h>

static const struct rows_options options = {.count = 2600,
                                            .dimension = 24,
                                            .metric = METRIC_COSINE,
                                            .absent_percent = 10,
                                            .document_bytes = 20,
                                            .seq_step = 5};
static const uint8_t index_sections[] = {SECTION_MEAN, SECTION_LIST, SECTION_CENTQ, SECTION_CODE,
                                         SECTION_CODE8};

static float distance(const struct fixture *f, const float *a, const float *b)
{
    const struct kernel *kernel = kernel_get();
    uint32_t dim = f->options.dimension;
    return kernel_cosine_distance(kernel->dot_f32(a, b, dim), kernel->dot_f32(a, a, dim),
                                  kernel->dot_f32(b, b, dim));
}

/* The share of queries whose nearest row is among the candidates; every candidate has a vector. */
static double nearest_found(const struct fixture *f, struct part *part, bool *ret_usable)
{
    double found_share = 0;
    uint32_t source_of[2600];
    for (uint32_t i = 0; i < f->options.count; i++)
        source_of[f->row_of[i]] = i;
    for (uint32_t q = 0; q < 50; q++) {
        float query[24];
        for (uint32_t d = 0; d < 24; d++)
            query[d] = (float)((q * 31 + d * 17) % 23) - 11;
        const struct vector_index *index;
        struct arena arena;
        struct vector_found found;
        arena_init(&arena, NULL, 0);
        MUST(part_vector_index(part, &index, err));
        *ret_usable = index != NULL;
        if (!index)
            return 0;
        struct vector_query search = {.vector = query,
                                      .bound = INFINITY,
                                      .plan = vector_plan_make(index, 5, 0.99f, index->coded)};
        MUST(part_vector_search(part, &search, &arena, &found, ret_usable, err));
        if (!*ret_usable) {
            arena_done(&arena);
            return 0;
        }
        float best = INFINITY, mine = INFINITY;
        for (uint32_t i = 0; i < f->options.count; i++)
            if (f->rows[i].vector)
                best = fminf(best, distance(f, query, f->rows[i].vector));
        for (size_t i = 0; i < found.count; i++) {
            const float *vector = f->rows[source_of[found.rows[i].row]].vector;
            assert_non_null(vector);
            mine = fminf(mine, distance(f, query, vector));
        }
        found_share += mine == best ? 1.0 / 50 : 0;
        arena_done(&arena);
    }
    return found_share;
}

static void rows_without_vector_come_last_and_all_answers_hold(void **state)
{
    (void)state;
    struct fixture f;
    och_error failure = {0};
    fixture_init(&f, &options, 4);
    fixture_build(&f);
    assert_false(part_is_seq_ordered(f.part));
    for (size_t i = 0; i < COUNT_OF(index_sections); i++)
        assert_true(part_has(f.part, index_sections[i]));
    uint32_t coded = part_vector_count(f.part);
    for (uint32_t i = 0; i < f.options.count; i++)
        assert_int_equal(f.row_of[i] < coded, f.rows[i].vector != NULL);
    MUST(check_part(&f, f.part, err));
    bool usable;
    assert_true(nearest_found(&f, f.part, &usable) >= 0.98);
    assert_true(usable);
    struct buf report;
    uint64_t faults;
    buf_init(&report, BUF_MAX_NONE);
    MUST(part_verify(f.part, &report, &faults, err));
    assert_int_equal(faults, 0);
    assert_int_equal(part_damage(f.part), 0);
    assert_int_equal(failure.code, OCH_OK);
    buf_done(&report);
    fixture_done(&f);
}

/* Flip a bit in the page of `at`, or in every page of what is read only where it is wanted. */
static void flip(struct fixture *f, unsigned id)
{
    const struct part_section *section = &f->part->sections[id];
    bool all = id == SECTION_CODE8;
    for (uint64_t at = all ? 7 : section->size / 3; at < section->size; at += section->page_size) {
        uint8_t byte;
        MUST(store_read(f->store, f->object, section->offset + at, &byte, 1, err));
        byte ^= 0x10;
        MUST(io_sim_poke(f->io, f->path, section->offset + at, &byte, 1, err));
        if (!all)
            break;
    }
}

static void damage_of_the_index_is_met_noted_and_gone_round(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, &options, 5);
    fixture_build(&f);
    for (size_t i = 0; i < COUNT_OF(index_sections); i++) {
        unsigned id = index_sections[i];
        struct part *part;
        bool usable;
        flip(&f, id);
        MUST(fixture_open(&f, &part, err));
        (void)nearest_found(&f, part, &usable);
        if (usable || part_damage(part) != PART_BIT(id))
            fail_msg("%s: damage %x", part_section_name(id), part_damage(part));
        MUST(check_part(&f, part, err));
        struct buf report;
        uint64_t faults;
        buf_init(&report, BUF_MAX_NONE);
        MUST(part_verify(part, &report, &faults, err));
        assert_true(faults > 0);
        buf_done(&report);
        part_unref(part);
        flip(&f, id); // and back
    }
    fixture_done(&f);
}

/* By 8-bit codes of every fifth row; from memory, from pieces, from a few rows at a time: the same candidates. */
static void search_fifths(struct part *part, struct arena *arena, struct vector_found *ret)
{
    const struct vector_index *index;
    float query[24];
    static uint64_t mask[2600 / 64 + 2];
    bool usable;
    for (uint32_t row = 0; row < 2600; row++)
        mask[row / 64] =
            row % 64 ? mask[row / 64] | (uint64_t)(row % 5 == 0) << row % 64 : row % 5 == 0;
    for (uint32_t d = 0; d < 24; d++)
        query[d] = (float)(d * 17 % 23) - 11;
    MUST(part_vector_index(part, &index, err));
    assert_non_null(index);
    struct vector_query search = {.vector = query,
                                  .mask = mask,
                                  .bound = INFINITY,
                                  .plan = vector_plan_make(index, 20, 0.99f, index->coded / 5)};
    search.plan.mode = VECTOR_CODES8;
    MUST(part_vector_search(part, &search, arena, ret, &usable, err));
    assert_true(usable);
}

static void cold_and_warm_codes_give_the_same_candidates(void **state)
{
    (void)state;
    struct fixture f;
    struct arena arena;
    struct part *part, *warm;
    struct vector_found want, found;
    fixture_init(&f, &options, 9);
    fixture_build(&f);
    assert_true(f.part->sections[SECTION_CODE8].size > 65536); // else it is always read whole
    struct cache *small;                                       // no room for pieces
    MUST(cache_new(1 << 20, NULL, &small, err));
    struct part_env env = {.store = f.store, .cache = small};
    MUST(part_open(&env, &f.info.ref, f.collection, &part, err));
    MUST(fixture_open(&f, &warm, err));
    arena_init(&arena, NULL, 0);
    const struct vector_index *index;
    struct part_piece piece;
    MUST(part_vector_index(warm, &index, err));
    MUST(part_pin(warm, SECTION_CODE8, (uint32_t)code_row_size(index->code_dim), 0, &piece, err));
    search_fifths(warm, &arena, &want);
    assert_true(want.count >= 20);
    for (int round = 0; round < 4; round++) {
        search_fifths(part, &arena, &found);
        assert_int_equal(found.count, want.count);
        for (size_t i = 0; i < want.count; i++) {
            assert_int_equal(found.rows[i].row, want.rows[i].row);
            assert_true(found.rows[i].distance == want.rows[i].distance);
        }
    }
    cache_unpin(f.cache, piece.extent);
    arena_done(&arena);
    part_unref(warm);
    part_unref(part);
    cache_free(small);
    fixture_done(&f);
}

static void the_same_rows_give_the_same_part(void **state)
{
    (void)state;
    struct fixture a, b;
    fixture_init(&a, &options, 6);
    fixture_init(&b, &options, 6);
    fixture_build(&a);
    fixture_build(&b);
    assert_int_equal(a.blob_size, b.blob_size);
    uint8_t *x = malloc(a.blob_size), *y = malloc(b.blob_size);
    MUST(store_read(a.store, a.object, 0, x, a.blob_size, err));
    MUST(store_read(b.store, b.object, 0, y, b.blob_size, err));
    assert_memory_equal(x, y, a.blob_size);
    free(x);
    free(y);
    fixture_done(&a);
    fixture_done(&b);
}

static void every_failing_allocation_of_a_build_is_survived(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t failed = 0;
    fixture_init(&f, &options, 7);
    for (uint64_t nth = 1; nth < 20000; nth += 1 + nth / 16) {
        struct store_writer *writer;
        struct part_info info;
        MUST(store_create(f.store, f.object, &writer, err));
        mem_fail_at(nth);
        och_code code = fixture_append(&f, writer, &info, NULL);
        mem_fail_at(0);
        store_abandon(writer);
        assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
        failed += code != OCH_OK;
    }
    print_message("%u allocations failed in turn\n", (unsigned)failed);
    assert_true(failed > 10);
    fixture_done(&f);
}

static void few_rows_and_plain_parts_have_no_index(void **state)
{
    (void)state;
    for (int plain = 0; plain < 2; plain++) {
        struct rows_options few = options;
        struct fixture f;
        few.plain = plain;
        few.count = plain ? options.count : VECTOR_CODES_MIN - 1;
        fixture_init(&f, &few, 8);
        fixture_build(&f);
        assert_false(part_has(f.part, SECTION_MEAN));
        assert_true(part_is_seq_ordered(f.part));
        const struct vector_index *index;
        MUST(part_vector_index(f.part, &index, err));
        assert_null(index);
        fixture_done(&f);
    }
}

/* ---- merges ---- */

static void place_in_part(const void *context, uint32_t i, uint32_t *ret_input, uint32_t *ret_row)
{
    *ret_input = 0;
    *ret_row = ((const struct fixture *)context)->row_of[i];
}

static och_code same_fixture(void *context, void **ret_context, och_error *err)
{
    (void)err;
    *ret_context = context;
    return OCH_OK;
}

static void leave_fixture(void *context)
{
    (void)context;
}

/* The same rows, from `part`'s codes. */
static och_code rewrite(struct fixture *f, struct part *part, struct pool *pool, object_id object,
                        struct part_info *ret_info, och_error *err)
{
    struct store_writer *writer;
    struct part_spec spec = fixture_spec(f);
    spec.inputs = &part;
    spec.input_count = 1;
    memset(spec.lineage.bytes, 0x77, 16); /* not taken: mean and rotation are the part's */
    struct part_source source = {.context = f,
                                 .count = f->options.count,
                                 .row = fixture_source_row,
                                 .reader_new = same_fixture,
                                 .reader_free = leave_fixture,
                                 .place = place_in_part};
    struct part_build_options build = {.budget = &f->budget, .pool = pool};
    TRY(store_create(f->store, object, &writer, err));
    och_code code = part_build(&spec, &source, &build, writer, NULL, ret_info, err);
    if (code == OCH_OK)
        return store_finish(writer, err);
    store_abandon(writer);
    return code;
}

static void assert_same_blob(struct fixture *f, object_id object)
{
    uint64_t size;
    MUST(store_size(f->store, object, &size, err));
    assert_int_equal(size, f->blob_size);
    uint8_t *x = malloc(size), *y = malloc(size);
    MUST(store_read(f->store, f->object, 0, x, size, err));
    MUST(store_read(f->store, object, 0, y, size, err));
    assert_memory_equal(x, y, size);
    free(x);
    free(y);
}

static void a_part_made_of_its_own_codes_is_the_same(void **state)
{
    (void)state;
    struct fixture f;
    struct pool *pool;
    struct part_info info;
    struct pool_options threads = {.name = "build", .thread_count = 2};
    fixture_init(&f, &options, 9);
    fixture_build(&f);
    MUST(pool_new(&threads, &pool, err));
    object_id object = f.object;
    object.bytes[0] ^= 1;
    MUST(rewrite(&f, f.part, pool, object, &info, err));
    assert_true(uuid_equal(info.lineage, f.lineage));
    assert_same_blob(&f, object);
    /* codes that cannot be read are made again */
    const struct part_section *section = &f.part->sections[SECTION_CODE8];
    uint8_t byte, bad;
    MUST(store_read(f.store, f.object, section->offset + 5000, &byte, 1, err));
    bad = byte ^ 1;
    MUST(io_sim_poke(f.io, f.path, section->offset + 5000, &bad, 1, err));
    struct part *part;
    MUST(fixture_open(&f, &part, err));
    object.bytes[0] ^= 2;
    MUST(rewrite(&f, part, pool, object, &info, err));
    assert_int_equal(part_damage(part), PART_BIT(SECTION_CODE8));
    MUST(io_sim_poke(f.io, f.path, section->offset + 5000, &byte, 1, err));
    assert_same_blob(&f, object);
    part_unref(part);
    pool_free(pool);
    fixture_done(&f);
}

static void every_failing_allocation_of_a_merge_is_survived(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t failed = 0;
    fixture_init(&f, &options, 10);
    fixture_build(&f);
    for (uint64_t nth = 1; nth < 20000; nth += 1 + nth / 16) {
        struct part_info info;
        object_id object = f.object;
        object.bytes[0] ^= 1;
        mem_fail_at(nth);
        och_code code = rewrite(&f, f.part, NULL, object, &info, NULL);
        mem_fail_at(0);
        assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
        failed += code != OCH_OK;
        (void)!store_remove(f.store, object, NULL);
    }
    assert_true(failed > 10);
    fixture_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_without_vector_come_last_and_all_answers_hold),
        cmocka_unit_test(damage_of_the_index_is_met_noted_and_gone_round),
        cmocka_unit_test(cold_and_warm_codes_give_the_same_candidates),
        cmocka_unit_test(the_same_rows_give_the_same_part),
        cmocka_unit_test(every_failing_allocation_of_a_build_is_survived),
        cmocka_unit_test(few_rows_and_plain_parts_have_no_index),
        cmocka_unit_test(a_part_made_of_its_own_codes_is_the_same),
        cmocka_unit_test(every_failing_allocation_of_a_merge_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
