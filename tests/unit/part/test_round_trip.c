/* SPDX-License-Identifier: Apache-2.0 */
/* What goes into a part comes out of it. */
#include "part_fixture.h"

#include "support/slow.h"

#include <stdlib.h>

static void check_options(const struct rows_options *options, uint64_t seed)
{
    struct fixture f;
    fixture_init(&f, options, seed);
    fixture_build(&f);
    assert_int_equal(part_rows(f.part), options->count);
    assert_int_equal(part_has_expiry(f.part), options->expiry && options->count > 0);
    MUST(check_part(&f, f.part, err));
    slice tenant, database, name, schema;
    part_names(f.part, &tenant, &database, &name, &schema);
    same_slice(tenant, SLICE("tenant"));
    same_slice(database, SLICE("database"));
    same_slice(name, SLICE("name"));
    same_slice(schema, SLICE("{\"keys\":{}}"));
    assert_int_equal(part_damage(f.part), 0);
    struct buf report;
    uint64_t faults;
    buf_init(&report, BUF_MAX_NONE);
    MUST(part_verify(f.part, &report, &faults, err));
    if (faults)
        fail_msg("%.*s", SLICE_ARG(buf_view(&report)));
    buf_done(&report);
    fixture_done(&f);
}

static void random_rows_of_every_shape_come_back(void **state)
{
    (void)state;
    const struct rows_options cases[] = {
        {.count = 1, .dimension = 1, .document_bytes = 10},
        {.count = 127,
         .dimension = 3,
         .metric = METRIC_COSINE,
         .absent_percent = 30,
         .document_bytes = 100},
        {.count = 128,
         .dimension = 3,
         .metric = METRIC_COSINE,
         .absent_percent = 0,
         .document_bytes = 100,
         .expiry = true},
        {.count = 129,
         .dimension = 4,
         .metric = METRIC_IP,
         .absent_percent = 90,
         .document_bytes = 5000,
         .seq_step = 1u << 30},
        {.count = 2000,
         .dimension = 384,
         .metric = METRIC_COSINE,
         .absent_percent = 5,
         .document_bytes = 700,
         .seq_step = 3,
         .kill_count = 40},
        {.count = 3000,
         .dimension = 65,
         .absent_percent = 50,
         .document_bytes = 3000,
         .expiry = true},
        {.count = 300, .dimension = 0, .absent_percent = 50, .document_bytes = 50},
        {.count = 300, .dimension = 8, .no_vectors = true, .document_bytes = 50},
        {.count = 300, .dimension = 8, .no_documents = true, .no_metadata = true},
        {.count = 9000, .dimension = 2, .absent_percent = 100},
        {.count = 500,
         .dimension = 16,
         .metric = METRIC_COSINE,
         .absent_percent = 10,
         .plain = true,
         .document_bytes = 90},
        {.count = 2, .dimension = 65535, .document_bytes = 10},
        {.count = 12, .dimension = 4, .document_bytes = 3000000},
        {.count = 0, .dimension = 4, .kill_count = 50},
        {.count = 0, .dimension = 0},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++)
        check_options(&cases[i], i + 1);
}

static void large_sections_are_read_in_pieces(void **state)
{
    (void)state;
    needs_many_rows();
    struct rows_options options = {.count = 700000,
                                   .dimension = 1,
                                   .metric = METRIC_COSINE,
                                   .absent_percent = 40,
                                   .no_documents = true,
                                   .seq_step = 100000};
    check_options(&options, 99);
}

static void rows_can_have_another_order(void **state)
{
    (void)state;
    enum { COUNT = 3000 };
    static uint32_t order[COUNT];
    struct random random;
    random_seed(&random, 5);
    for (uint32_t i = 0; i < COUNT; i++)
        order[i] = i;
    for (uint32_t i = COUNT - 1; i > 0; i--) {
        uint32_t j = (uint32_t)random_below(&random, i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    struct rows_options options = {.count = COUNT,
                                   .dimension = 5,
                                   .metric = METRIC_COSINE,
                                   .absent_percent = 20,
                                   .document_bytes = 200,
                                   .seq_step = 9,
                                   .order = order};
    check_options(&options, 3);
    options.plain = true;
    check_options(&options, 4);
}

static void building_twice_gives_the_same_bytes(void **state)
{
    (void)state;
    struct rows_options options = {.count = 1000,
                                   .dimension = 20,
                                   .metric = METRIC_COSINE,
                                   .absent_percent = 20,
                                   .document_bytes = 300,
                                   .kill_count = 9};
    struct fixture a, b;
    fixture_init(&a, &options, 11);
    fixture_init(&b, &options, 11);
    fixture_build(&a);
    fixture_build(&b);
    assert_int_equal(a.blob_size, b.blob_size);
    uint8_t *bytes = malloc(2 * a.blob_size);
    MUST(store_read(a.store, a.object, 0, bytes, a.blob_size, err));
    MUST(store_read(b.store, b.object, 0, bytes + a.blob_size, b.blob_size, err));
    assert_memory_equal(bytes, bytes + a.blob_size, a.blob_size);
    free(bytes);
    fixture_done(&a);
    fixture_done(&b);
}

static void several_parts_share_one_object(void **state)
{
    (void)state;
    enum { PARTS = 5 };
    struct fixture f[PARTS];
    struct part_info info[PARTS];
    for (size_t i = 0; i < PARTS; i++) {
        struct rows_options options = {
            .count = (uint32_t)(40 * i), .dimension = 300, .document_bytes = 60, .kill_count = i};
        fixture_init(&f[i], &options, i + 1);
    }
    struct store_writer *writer;
    MUST(store_create(f[0].store, f[0].object, &writer, err));
    MUST(store_append(writer, "odd", 3, err));
    for (size_t i = 0; i < PARTS; i++)
        MUST(fixture_append(&f[i], writer, &info[i], err));
    MUST(store_finish(writer, err));
    uint64_t end;
    MUST(store_size(f[0].store, f[0].object, &end, err));
    for (size_t i = PARTS; i-- > 0;) {
        // the catalogue's reference, and what a look from the end finds
        struct part_ref found;
        uuid collection;
        MUST(part_ref_at_end(f[0].store, f[0].object, end, &found, &collection, err));
        info[i].ref.object = f[0].object;
        assert_memory_equal(&found, &info[i].ref, sizeof(found));
        assert_true(uuid_equal(collection, f[i].collection));
        end = found.offset;
        struct part_env env = {f[0].store, f[0].cache, NULL};
        struct part *part;
        MUST(part_open(&env, &found, collection, &part, err));
        struct cache *own = f[i].cache;
        f[i].cache = f[0].cache;
        MUST(check_part(&f[i], part, err));
        f[i].cache = own;
        part_unref(part);
        // not what was asked for
        assert_int_equal(part_open(&env, &found, f[i].lineage, &part, NULL), OCH_CORRUPT);
    }
    assert_int_equal(end, 64);
    for (size_t i = PARTS; i-- > 0;)
        fixture_done(&f[i]);
}

/* Pins outlive the part they came from, and the next part at the same address is not taken for it. */
static void reads_go_on_from_part_to_part(void **state)
{
    (void)state;
    struct rows_options options = {.count = 50, .dimension = 3, .document_bytes = 30};
    struct fixture f;
    struct arena arena;
    struct part_reads reads;
    fixture_init(&f, &options, 1);
    fixture_build(&f);
    part_unref(f.part);
    arena_init(&arena, NULL, 0);
    part_reads_init(&reads, f.cache, &arena);
    slice kept[20];
    for (uint32_t round = 0; round < COUNT_OF(kept); round++) {
        struct record record;
        MUST(fixture_open(&f, &f.part, err));
        for (uint32_t i = 0; i < 50; i++) {
            uint32_t row = (i + round) % 50;
            MUST(part_read(f.part, &reads, row, RECORD_ALL, &record, err));
            same_slice(record.id, f.rows[row].id);
            same_slice(record.document, f.rows[row].document);
            assert_memory_equal(record.vector, f.rows[row].vector, 12);
            assert_int_equal(reads.blocks[0].owner, round + 2); // its own number each time
        }
        kept[round] = record.id;
        part_unref(f.part);
        f.part = NULL;
    }
    for (uint32_t round = 0; round < COUNT_OF(kept); round++)
        same_slice(kept[round], f.rows[(49 + round) % 50].id);
    part_reads_done(&reads);
    arena_done(&arena);
    fixture_done(&f);
}

static void a_small_part_costs_little_more_than_its_data(void **state)
{
    (void)state;
    struct rows_options options = {
        .count = 10, .dimension = 384, .metric = METRIC_COSINE, .document_bytes = 100};
    struct fixture f;
    fixture_init(&f, &options, 1);
    fixture_build(&f);
    printf("10 rows: %llu bytes of data in a blob of %llu\n", (unsigned long long)f.info.raw_bytes,
           (unsigned long long)f.blob_size);
    assert_true(f.blob_size <= f.info.raw_bytes + 2048);
    fixture_done(&f);
}

static och_code cancelled_row(void *context, uint32_t i, unsigned fields, struct arena *arena,
                              struct record *ret, och_error *err)
{
    struct fixture *f = context;
    return fixture_source_row(f, i, fields, arena, ret, err);
}

static void a_cancelled_build_stops(void **state)
{
    (void)state;
    struct rows_options options = {.count = 5000, .dimension = 4, .document_bytes = 10};
    struct fixture f;
    fixture_init(&f, &options, 1);
    struct cancel cancel = {true};
    struct part_spec spec = fixture_spec(&f);
    struct part_source source = {.context = &f, .count = options.count, .row = cancelled_row};
    struct part_build_options how = {.budget = &f.budget, .limits = {.cancel = &cancel}};
    struct store_writer *writer;
    struct part_info info;
    MUST(store_create(f.store, f.object, &writer, err));
    assert_int_equal(part_build(&spec, &source, &how, writer, NULL, &info, NULL), OCH_CANCELLED);
    store_abandon(writer);
    how.limits.cancel = NULL;
    struct budget tight;
    budget_init(&tight, 10000, &f.budget);
    how.budget = &tight;
    MUST(store_create(f.store, f.object, &writer, err));
    assert_int_equal(part_build(&spec, &source, &how, writer, NULL, &info, NULL), OCH_BUSY);
    store_abandon(writer);
    assert_int_equal(budget_used(&tight), 0);
    fixture_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_rows_of_every_shape_come_back),
        cmocka_unit_test(large_sections_are_read_in_pieces),
        cmocka_unit_test(rows_can_have_another_order),
        cmocka_unit_test(building_twice_gives_the_same_bytes),
        cmocka_unit_test(several_parts_share_one_object),
        cmocka_unit_test(reads_go_on_from_part_to_part),
        cmocka_unit_test(a_small_part_costs_little_more_than_its_data),
        cmocka_unit_test(a_cancelled_build_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
