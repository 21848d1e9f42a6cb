/* SPDX-License-Identifier: Apache-2.0 */
/* Whole answers of filters against a second, slow evaluator that reads the rules of
 * query-language.md §2.3 and §3 straight off the JSON of clause and record. */
#include "model_test.h"
#include "support/filter_rules.h"

#include "model/filter.h"

struct record {
    struct ruled ruled;
    slice encoded;
};

static slice text_in(struct rule_writer *w, struct arena *arena)
{
    slice text = arena_copy(arena, buf_view(&w->text));
    assert_false(w->text.failed);
    buf_clear(&w->text);
    return text;
}

static void random_records(struct rule_writer *w, struct arena *arena, struct record *records,
                           size_t count)
{
    for (size_t i = 0; i < count; i++) {
        records[i] = (struct record){.ruled.id = slice_of(arena_printf(arena, "r%zu", i))};
        if (rule_below(w, 10)) {
            rule_write_metadata(w);
            slice text = text_in(w, arena);
            records[i].ruled.metadata = json_in(arena, text);
            records[i].encoded = meta_of(arena, (const char *)text.at, 0);
        }
        if (rule_below(w, 4)) {
            rule_write_text(w);
            records[i].ruled.document = json_in(arena, text_in(w, arena))->string;
        }
        if (records[i].ruled.document.len == 0 && rule_below(w, 2))
            records[i].ruled.document = SLICE("");
    }
}

/* ---- the comparison ---- */

static struct filter *compile(struct arena *arena, slice text)
{
    struct filter_node *node, *again;
    struct filter *filter;
    och_error err = {0};
    if (filter_parse_where(json_in(arena, text), arena, &node, &err) != OCH_OK)
        fail_msg("%.*s: %s", SLICE_ARG(text), err.message);
    /* Through the bytes, and the same bytes again. */
    CLEANUP(buf_cleanup) struct buf first, second;
    buf_init(&first, BUF_MAX_NONE);
    buf_init(&second, BUF_MAX_NONE);
    filter_encode(node, &first);
    struct reader reader = reader_of(buf_view(&first));
    assert_int_equal(filter_decode(&reader, arena, &again, &err), OCH_OK);
    assert_int_equal(reader_left(&reader), 0);
    filter_encode(again, &second);
    assert_true(slice_equal(buf_view(&first), buf_view(&second)));
    if (filter_compile(again, &filter, &err) != OCH_OK)
        fail_msg("%.*s: %s", SLICE_ARG(text), err.message);
    return filter;
}

static void compare(const struct filter *filter, const struct json_value *clause, slice text,
                    const struct record *record)
{
    struct filter_row row = {7, record->ruled.id, record->encoded, record->ruled.document, NULL};
    enum filter_truth got = filter_match(filter, &row);
    bool expected = rule_truth(&record->ruled, clause);
    if (got != (expected ? FILTER_TRUE : FILTER_FALSE))
        fail_msg("%.*s on record %.*s: got %d", SLICE_ARG(text), SLICE_ARG(record->ruled.id), got);
    for (unsigned have = 0; have < 7; have++) {
        row.have = have;
        enum filter_truth partial = filter_match(filter, &row);
        if (partial != FILTER_UNKNOWN && partial != got)
            fail_msg("%.*s with %u alone: got %d", SLICE_ARG(text), have, partial);
        if (partial == FILTER_UNKNOWN && (filter_needs(filter) & ~have) == 0)
            fail_msg("%.*s with %u: unknown though all is there", SLICE_ARG(text), have);
    }
}

static void answers_are_those_of_the_rules_read_aloud(void **state)
{
    (void)state;
    enum { ROUNDS = 400, RECORDS = 50, CLAUSES = 60 };
    struct rule_writer w = {.ids = 50};
    random_seed(&w.random, 20);
    buf_init(&w.text, BUF_MAX_NONE);
    struct arena arena, clause_arena;
    arena_init(&arena, NULL, 0);
    arena_init(&clause_arena, NULL, 0);
    for (int round = 0; round < ROUNDS; round++) {
        struct record records[RECORDS];
        random_records(&w, &arena, records, RECORDS);
        for (int i = 0; i < CLAUSES; i++) {
            regex_forget();
            rule_write_clause(&w, (unsigned)rule_below(&w, 7), false);
            slice text = text_in(&w, &clause_arena);
            const struct json_value *clause = json_in(&clause_arena, text);
            CLEANUP(filter_cleanup) struct filter *filter = compile(&clause_arena, text);
            for (size_t r = 0; r < RECORDS; r++)
                compare(filter, clause, text, &records[r]);
            arena_done(&clause_arena);
        }
        arena_done(&arena);
    }
    buf_done(&w.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_the_rules_read_aloud),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
