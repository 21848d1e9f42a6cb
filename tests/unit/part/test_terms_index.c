/* SPDX-License-Identifier: Apache-2.0 */
/* Section TERM: what it says of a part's documents is true, damage costs nothing but time, and parts that need none have none. */
#include "part_fixture.h"

#include "base/topk.h"
#include "fuzz/part_reseal.h"
#include "model/schema.h"
#include "part/part_internal.h"
#include "part/part_sparse.h"

static const struct rows_options options = {.count = 2600,
                                            .dimension = 8,
                                            .metric = METRIC_L2,
                                            .absent_percent = 10,
                                            .document_bytes = 300,
                                            .seq_step = 5};

#define TERMS 24
struct asked {
    uint32_t dims[TERMS];
    float weights[TERMS];
    uint32_t count;
    struct topk best;
};

static float bound(void *context)
{
    return topk_bound(&((struct asked *)context)->best);
}
static och_code verify(void *context, uint32_t row, bool *ret, och_error *err)
{
    (void)context, (void)row, (void)err;
    *ret = true;
    return OCH_OK;
}
static och_code offer(void *context, uint32_t row, float score, och_error *err)
{
    (void)err;
    topk_push(&((struct asked *)context)->best,
              (struct topk_item){.distance = score, .row = row, .seq = row});
    return OCH_OK;
}

/* Words of one letter and two, which many rows hold, and one that none does. */
static void choose_terms(struct asked *asked)
{
    static const char *const words[] = {"a", "b",  "c",  "d",  "e",  "f",  "aa",
                                        "b", "bc", "cd", "de", "ff", "af", "zzz"};
    asked->count = 0;
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        struct terms walk = terms_of(slice_of(words[i]));
        uint32_t term, at = asked->count;
        assert_true(terms_next(&walk, &term));
        while (at && asked->dims[at - 1] > term)
            at--;
        if (at && asked->dims[at - 1] == term)
            continue;
        memmove(asked->dims + at + 1, asked->dims + at, (asked->count - at) * sizeof(*asked->dims));
        asked->dims[at] = term;
        asked->count++;
    }
    for (uint32_t i = 0; i < asked->count; i++)
        asked->weights[i] = 1 + (float)i / 8;
}

static void count_words(const struct asked *asked, slice document, uint32_t *counts,
                        uint32_t *ret_length)
{
    struct terms walk = terms_of(document);
    uint32_t term;
    memset(counts, 0, TERMS * sizeof(*counts));
    for (*ret_length = 0; terms_next(&walk, &term); ++*ret_length)
        for (uint32_t i = 0; i < asked->count; i++)
            counts[i] += asked->dims[i] == term;
}

struct truth {
    uint64_t holders[TERMS];
    struct part_totals_text totals;
    struct topk best;
};

static void find_truth(const struct fixture *f, const struct asked *asked, struct truth *truth)
{
    uint32_t counts[TERMS], length;
    for (int pass = 0; pass < 2; pass++) {
        struct terms_norm norm = terms_norm_of(truth->totals.documents, truth->totals.terms);
        for (uint32_t i = 0; i < f->options.count; i++) {
            double sum = 0;
            bool holds = false;
            if (!f->rows[i].document.at)
                continue;
            count_words(asked, f->rows[i].document, counts, &length);
            truth->totals.documents += pass == 0;
            truth->totals.terms += pass == 0 ? length : 0;
            for (uint32_t t = 0; t < asked->count; t++) {
                truth->holders[t] += pass == 0 && counts[t];
                if (!counts[t])
                    continue;
                holds = true;
                sum += (double)asked->weights[t] *
                       (double)terms_weight(norm, (float)counts[t], length);
            }
            if (pass && holds)
                topk_push(&truth->best, (struct topk_item){.distance = sparse_score(sum),
                                                           .row = f->row_of[i],
                                                           .seq = f->row_of[i]});
        }
    }
    topk_sort(&truth->best);
}

/* Is the index there and sound enough to answer?  Then its answers are the truth. */
static bool answers(const struct fixture *f, struct part *part)
{
    struct arena arena;
    struct asked asked;
    struct truth truth = {0};
    uint64_t holders[TERMS] = {0};
    struct part_totals_text totals = {0};
    bool counted, found = false;
    arena_init(&arena, NULL, 0);
    choose_terms(&asked);
    MUST(topk_init(&asked.best, 40, &arena, err));
    MUST(topk_init(&truth.best, 40, &arena, err));
    find_truth(f, &asked, &truth);
    struct sparse_terms terms = {asked.dims, asked.weights, asked.count};
    MUST(part_sparse_count(part, PART_TERMS_KEY, &terms, NULL, NULL, &arena, holders, &totals,
                           &counted, err));
    if (counted) {
        assert_memory_equal(holders, truth.holders, sizeof(holders));
        assert_memory_equal(&totals, &truth.totals, sizeof(totals));
        struct sparse_hits hits = {&asked, bound, verify, offer};
        struct sparse_search search = {.key = PART_TERMS_KEY,
                                       .terms = terms,
                                       .norm = terms_norm_of(totals.documents, totals.terms),
                                       .k = 40,
                                       .hits = &hits};
        MUST(part_sparse_search(part, true, &search, &arena, &found, err));
    }
    topk_sort(&asked.best);
    for (size_t i = 0; found && i < truth.best.len; i++) {
        assert_int_equal(asked.best.items[i].row, truth.best.items[i].row);
        assert_memory_equal(&asked.best.items[i].distance, &truth.best.items[i].distance, 4);
    }
    if (found)
        assert_int_equal(asked.best.len, truth.best.len);
    arena_done(&arena);
    return found;
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

static void counts_and_scores_are_those_of_the_documents(void **state)
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
        assert_true(part_has(f.part, SECTION_TERM));
        assert_true(answers(&f, f.part));
        assert_int_equal(part_damage(f.part), 0);
        assert_int_equal(faults_of(f.part), 0);
        fixture_done(&f);
    }
}

/* Places all over: what is met is noted and the caller is told to read documents; what is not met does not matter; verify finds each. */
static void damage_is_met_noted_and_gone_round(void **state)
{
    struct fixture f;
    unsigned met = 0;
    (void)state;
    fixture_init(&f, &options, 5);
    fixture_build(&f);
    const struct part_section *section = &f.part->sections[SECTION_TERM];
    uint64_t directory = section->size - section->aux;
    for (uint64_t place = 0; place < section->size;
         place += place >= directory - 9 ? 9 : 1 + section->size / 40) {
        uint64_t at = section->offset + place;
        uint8_t byte, bad;
        struct part *part;
        MUST(store_read(f.store, f.object, at, &byte, 1, err));
        bad = byte ^ 0x10;
        MUST(io_sim_poke(f.io, f.path, at, &bad, 1, err));
        MUST(fixture_open(&f, &part, err));
        bool usable = answers(&f, part);
        assert_int_equal(part_damage(part), usable ? 0 : PART_BIT(SECTION_TERM));
        assert_true(place < directory || !usable);
        met += !usable;
        MUST(check_part(&f, part, err));
        assert_true(faults_of(part) > 0);
        part_unref(part);
        MUST(io_sim_poke(f.io, f.path, at, &byte, 1, err));
    }
    assert_true(met > 10);
    fixture_done(&f);
}

/* Bytes that are wrong and pass their checksums: never a crash, and verify says that it is not the index of the documents. */
static void an_index_of_something_else_is_found_by_verify(void **state)
{
    struct fixture f;
    (void)state;
    fixture_init(&f, &options, 6);
    fixture_build(&f);
    uint64_t offset = f.part->sections[SECTION_TERM].offset,
             size = f.part->sections[SECTION_TERM].size;
    uint8_t *blob = malloc(f.blob_size), *copy = malloc(f.blob_size);
    struct asked asked;
    choose_terms(&asked);
    MUST(store_read(f.store, f.object, 0, blob, f.blob_size, err));
    for (uint64_t at = 0; at < size; at += 1 + size / 90) {
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
        struct arena arena;
        uint64_t holders[TERMS] = {0};
        struct part_totals_text totals = {0};
        bool usable;
        arena_init(&arena, NULL, 0);
        MUST(topk_init(&asked.best, 40, &arena, err));
        struct sparse_hits hits = {&asked, bound, verify, offer};
        struct sparse_search search = {.key = PART_TERMS_KEY,
                                       .terms = {asked.dims, asked.weights, asked.count},
                                       .norm = terms_norm_of(2000, 9000),
                                       .k = 40,
                                       .hits = &hits};
        MUST(part_sparse_count(part, PART_TERMS_KEY, &search.terms, NULL, NULL, &arena, holders,
                               &totals, &usable, err));
        MUST(part_sparse_search(part, true, &search, &arena, &usable, err));
        assert_true(faults_of(part) > 0);
        arena_done(&arena);
        part_unref(part);
    }
    free(blob);
    free(copy);
    fixture_done(&f);
}

static bool has_terms(const struct rows_options *some, const char *schema)
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
    bool ret = part_has(f.part, SECTION_TERM);
    assert_int_equal(answers(&f, f.part), ret);
    assert_int_equal(part_damage(f.part), 0);
    fixture_done(&f);
    return ret;
}

static void little_text_disabled_search_and_plain_parts_have_no_terms(void **state)
{
    (void)state;
    struct rows_options some = options;
    assert_true(has_terms(&some, NULL));
    assert_true(has_terms(&some, "{\"defaults\":{},\"keys\":{}}"));
    assert_false(has_terms(&some,
                           "{\"defaults\":{},\"keys\":{\"#document\":{\"string\":{\"fts_index\":"
                           "{\"enabled\":false,\"config\":{}}}}}}"));
    some.document_bytes = 20;
    assert_false(has_terms(&some, NULL));
    some.document_bytes = 300;
    some.plain = true;
    assert_false(has_terms(&some, NULL));
    some.plain = false;
    some.no_documents = true;
    assert_false(has_terms(&some, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_and_scores_are_those_of_the_documents),
        cmocka_unit_test(damage_is_met_noted_and_gone_round),
        cmocka_unit_test(an_index_of_something_else_is_found_by_verify),
        cmocka_unit_test(little_text_disabled_search_and_plain_parts_have_no_terms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
