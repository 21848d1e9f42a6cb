/* SPDX-License-Identifier: Apache-2.0 */
/* Section TEXT: what it says of a part's documents is true, damage costs nothing but time, and parts that need none have none. */
#include "part_fixture.h"

#include "fuzz/part_reseal.h"
#include "model/schema.h"
#include "part/part_internal.h"

#include <rure.h>

static const struct rows_options options = {.count = 2600,
                                            .dimension = 8,
                                            .metric = METRIC_L2,
                                            .absent_percent = 10,
                                            .document_bytes = 300,
                                            .seq_step = 5};

static const char *const needles[] = {"abc",  "fade", "aa",        "f", "bcd", "deadbeef",
                                      "cabb", "zzz",  "badcafeab", "",  "ab",  "fedcbafed"};
static const char *const patterns[] = {"ab[a-c]d", "(?i)DEAD", "fa?de",  "[a-f]{12}",
                                       "^abc",     "bad|cab",  "a\\x00b"};

static bool has_row(const struct rows *rows, uint32_t row)
{
    switch (rows->kind) {
    case ROWS_ALL:
        return true;
    case ROWS_LIST:
        for (uint32_t i = 0; i < rows->count; i++) {
            if (rows->list[i] == row)
                return true;
        }
        return false;
    case ROWS_BITS:
        return rows->words[row / 64] >> row % 64 & 1;
    default:
        return false;
    }
}

static bool document_has(slice document, slice text, rure *regex)
{
    if (!document.at)
        return false;
    if (regex)
        return rure_is_match(regex, document.at, document.len, 0);
    return kernel_get()->find(document.at, document.len, text.at, text.len) != SIZE_MAX;
}

/* One leaf against the rows; returns how many candidates there are. */
static uint32_t check_leaf(const struct fixture *f, struct part *part, uint8_t op, slice text)
{
    struct arena arena;
    struct rows_answer answer;
    struct filter_value value = {.kind = FILTER_STRING, .string = text};
    struct filter_node leaf = {.op = op, .values = &value, .value_count = 1};
    rure *regex = NULL;
    uint32_t count = 0;
    if (op == FILTER_DOC_REGEX)
        regex = rure_compile(text.at, text.len, RURE_FLAG_UNICODE, NULL, NULL);
    arena_init(&arena, NULL, 0);
    MUST(part_text_rows(part, &leaf, f->options.count, NULL, &arena, &answer, err));
    for (uint32_t i = 0; i < f->options.count; i++) {
        uint32_t row = f->row_of[i];
        bool truth = document_has(f->rows[i].document, text, regex);
        bool maybe = has_row(&answer.maybe, row);
        bool sure = answer.exact ? maybe : has_row(&answer.sure, row);
        count += maybe;
        if ((truth && !maybe) || (sure && !truth))
            fail_msg("row %u is wrong for \"%.*s\"", row, SLICE_ARG(text));
    }
    assert_int_equal(count, answer.maybe.count);
    arena_done(&arena);
    if (regex)
        rure_free(regex);
    return count;
}

static uint64_t check_texts(const struct fixture *f, struct part *part)
{
    uint64_t candidates = 0;
    for (size_t i = 0; i < COUNT_OF(needles); i++)
        candidates += check_leaf(f, part, FILTER_DOC_CONTAINS, slice_of(needles[i]));
    for (size_t i = 0; i < COUNT_OF(patterns); i++)
        candidates += check_leaf(f, part, FILTER_DOC_REGEX, slice_of(patterns[i]));
    candidates += check_leaf(f, part, FILTER_DOC_CONTAINS, slice_make("a\0", 2));
    return candidates;
}

static uint64_t faults_of(struct part *part)
{
    struct buf report;
    uint64_t faults;
    buf_init(&report, BUF_MAX_NONE);
    MUST(part_verify(part, &report, &faults, err));
    buf_done(&report);
    return faults;
}

static void candidates_hold_all_rows_and_exact_answers_no_others(void **state)
{
    (void)state;
    for (int ordered = 0; ordered < 2; ordered++) {
        struct rows_options some = options;
        uint32_t order[2600];
        struct fixture f;
        for (uint32_t i = 0; i < COUNT_OF(order); i++)
            order[i] = (i * 7 + 3) % 2600;
        some.order = ordered ? order : NULL;
        fixture_init(&f, &some, 4);
        fixture_build(&f);
        assert_true(part_has(f.part, SECTION_TEXT));
        uint64_t candidates = check_texts(&f, f.part);
        assert_true(candidates < (uint64_t)options.count * 10); // 20 leaves
        assert_int_equal(part_damage(f.part), 0);
        assert_int_equal(faults_of(f.part), 0);
        MUST(check_part(&f, f.part, err));
        // few rows left open: not asked
        struct arena arena;
        struct rows_answer answer;
        struct filter_value value = {.kind = FILTER_STRING, .string = SLICE("zzz")};
        struct filter_node leaf = {.op = FILTER_DOC_CONTAINS, .values = &value, .value_count = 1};
        arena_init(&arena, NULL, 0);
        MUST(part_text_rows(f.part, &leaf, 3, NULL, &arena, &answer, err));
        assert_int_equal(answer.maybe.kind, ROWS_ALL);
        arena_done(&arena);
        fixture_done(&f);
    }
}

/* Places of every kind: lists, dictionary, and the directory's header, segments and tops. */
static void damage_is_met_noted_and_gone_round(void **state)
{
    struct fixture f;
    (void)state;
    fixture_init(&f, &options, 5);
    fixture_build(&f);
    const struct part_section *section = &f.part->sections[SECTION_TEXT];
    uint64_t directory = section->size - section->aux;
    const uint64_t places[] = {0,
                               section->size / 3,
                               directory - 1,
                               directory,
                               directory + 10,
                               directory + 70,
                               section->size - 1,
                               directory / 2};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        uint64_t at = section->offset + places[i];
        uint8_t byte, bad;
        struct part *part;
        MUST(store_read(f.store, f.object, at, &byte, 1, err));
        bad = byte ^ 0x10;
        MUST(io_sim_poke(f.io, f.path, at, &bad, 1, err));
        MUST(fixture_open(&f, &part, err));
        (void)check_texts(&f, part);
        assert_int_equal(part_damage(part), PART_BIT(SECTION_TEXT));
        MUST(check_part(&f, part, err));
        assert_true(faults_of(part) > 0);
        part_unref(part);
        MUST(io_sim_poke(f.io, f.path, at, &byte, 1, err));
    }
    fixture_done(&f);
}

/* Bytes that are wrong and pass their checksums: never a crash, and verify says that it is not the index of the documents. */
static void an_index_of_something_else_is_found_by_verify(void **state)
{
    struct fixture f;
    (void)state;
    fixture_init(&f, &options, 6);
    fixture_build(&f);
    uint64_t offset = f.part->sections[SECTION_TEXT].offset,
             size = f.part->sections[SECTION_TEXT].size;
    uint8_t *blob = malloc(f.blob_size), *copy = malloc(f.blob_size);
    MUST(store_read(f.store, f.object, 0, blob, f.blob_size, err));
    for (uint64_t at = 0; at < size; at += 1 + size / 60) {
        struct part_ref ref;
        struct part *part;
        uuid collection;
        memcpy(copy, blob, f.blob_size);
        copy[offset + at] ^= 4;
        reseal(copy, f.blob_size);
        struct bytes_store bytes = bytes_store_of(copy, f.blob_size);
        struct part_env env = {&bytes.store, f.cache, NULL};
        MUST(part_ref_at_end(&bytes.store, f.object, f.blob_size, &ref, &collection, err));
        MUST(part_open(&env, &ref, collection, &part, err));
        for (size_t i = 0; i < COUNT_OF(needles); i++) {
            struct arena arena;
            struct rows_answer answer;
            struct filter_value value = {.kind = FILTER_STRING, .string = slice_of(needles[i])};
            struct filter_node leaf = {
                .op = FILTER_DOC_CONTAINS, .values = &value, .value_count = 1};
            arena_init(&arena, NULL, 0);
            MUST(part_text_rows(part, &leaf, options.count, NULL, &arena, &answer, err));
            arena_done(&arena);
        }
        assert_true(faults_of(part) > 0);
        part_unref(part);
    }
    free(blob);
    free(copy);
    fixture_done(&f);
}

/* A part just opened: its directory, then pieces of dictionary and lists, each once; asked again, nothing. */
static void a_cold_leaf_reads_each_piece_once(void **state)
{
    struct rows_options many = options;
    struct fixture f;
    (void)state;
    many.count = 9000;
    fixture_init(&f, &many, 9);
    fixture_build(&f);
    uint64_t pieces = f.part->sections[SECTION_TEXT].size / (256 << 10) + 1, most = 0;
    static const char *const rare[] = {"deadbeefcafe", "fedcbafedcba", "abcabcabcabc"};
    for (size_t i = 0; i < COUNT_OF(rare); i++) {
        struct part *part;
        struct arena arena;
        struct rows_answer answer;
        struct filter_value value = {.kind = FILTER_STRING, .string = slice_of(rare[i])};
        struct filter_node leaf = {.op = FILTER_DOC_CONTAINS, .values = &value, .value_count = 1};
        MUST(fixture_open(&f, &part, err));
        for (int again = 0; again < 2; again++) {
            uint64_t before = io_sim_count(f.io, IO_SIM_READ);
            arena_init(&arena, NULL, 0);
            MUST(part_text_rows(part, &leaf, many.count, NULL, &arena, &answer, err));
            arena_done(&arena);
            uint64_t reads = io_sim_count(f.io, IO_SIM_READ) - before;
            if (reads > (again ? 0 : pieces + 1)) /* one more for the directory */
                fail_msg("%llu reads of %llu pieces, %d", (unsigned long long)reads,
                         (unsigned long long)pieces, again);
            most = reads > most ? reads : most;
        }
        part_unref(part);
    }
    assert_true(most > 1);
    fixture_done(&f);
}

static bool has_text(const struct rows_options *some, const char *schema)
{
    struct fixture f;
    fixture_init(&f, some, 8);
    struct part_spec spec = fixture_spec(&f);
    struct part_source source = {
        .context = &f, .count = f.options.count, .row = fixture_source_row};
    struct part_build_options build_options = {.budget = &f.budget};
    struct store_writer *writer;
    struct json_value value;
    struct json_fault fault;
    if (schema) {
        MUST(json_read(slice_of(schema), &(struct json_options){0}, &f.arena, &value, &fault, err));
        MUST(schema_create(NULL, &value, NULL, &(struct schema_options){0}, &f.arena,
                           &spec.schema_json, err));
    }
    MUST(store_create(f.store, f.object, &writer, err));
    MUST(part_build(&spec, &source, &build_options, writer, f.row_of, &f.info, err));
    MUST(store_finish(writer, err));
    f.info.ref.object = f.object;
    MUST(fixture_open(&f, &f.part, err));
    bool ret = part_has(f.part, SECTION_TEXT);
    uint64_t candidates = check_texts(&f, f.part);
    if (!ret)
        assert_int_equal(candidates, (COUNT_OF(needles) + COUNT_OF(patterns) + 1) * some->count);
    fixture_done(&f);
    return ret;
}

static void little_text_disabled_search_and_plain_parts_have_no_index(void **state)
{
    (void)state;
    struct rows_options some = options;
    assert_true(has_text(&some, NULL));
    assert_true(has_text(&some, "{\"defaults\":{},\"keys\":{}}"));
    assert_false(has_text(&some,
                          "{\"defaults\":{},\"keys\":{\"#document\":{\"string\":{\"fts_index\":"
                          "{\"enabled\":false,\"config\":{}}}}}}"));
    some.document_bytes = 90;
    assert_false(has_text(&some, NULL));
    some.document_bytes = 300;
    some.plain = true;
    assert_false(has_text(&some, NULL));
    some.plain = false;
    some.no_documents = true;
    assert_false(has_text(&some, NULL));
}

static void failing_allocations_are_survived(void **state)
{
    struct fixture f;
    unsigned failed = 0;
    (void)state;
    fixture_init(&f, &options, 7);
    fixture_build(&f);
    for (uint64_t nth = 1; nth < 40; nth++) {
        struct part *part;
        struct arena arena;
        struct rows_answer answer;
        struct filter_value value = {.kind = FILTER_STRING, .string = SLICE("(?i)dead|ab.cd")};
        struct filter_node leaf = {.op = FILTER_DOC_REGEX, .values = &value, .value_count = 1};
        MUST(fixture_open(&f, &part, err));
        arena_init(&arena, NULL, 0);
        mem_fail_at(nth);
        och_code code = part_text_rows(part, &leaf, options.count, NULL, &arena, &answer, NULL);
        mem_fail_at(0);
        assert_true(code == OCH_OK || code == OCH_NO_MEMORY);
        failed += code != OCH_OK;
        assert_int_equal(part_damage(part), 0);
        arena_done(&arena);
        part_unref(part);
    }
    assert_true(failed > 2);
    fixture_done(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(candidates_hold_all_rows_and_exact_answers_no_others),
        cmocka_unit_test(damage_is_met_noted_and_gone_round),
        cmocka_unit_test(an_index_of_something_else_is_found_by_verify),
        cmocka_unit_test(a_cold_leaf_reads_each_piece_once),
        cmocka_unit_test(little_text_disabled_search_and_plain_parts_have_no_index),
        cmocka_unit_test(failing_allocations_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
