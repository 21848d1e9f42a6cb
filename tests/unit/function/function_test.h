/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of attached functions share: attaching, writing the input, reading the output, and counting from scratch what it should say. */
#ifndef TESTS_FUNCTION_TEST_H
#define TESTS_FUNCTION_TEST_H

#define STACK_FUNCTION
#include "support/stack.h"

#include "function/function_internal.h"

static struct sysdb_function attach_to(struct stack *s, uuid input, const char *name,
                                       const char *function, const char *params)
{
    static char output_name[64];
    static struct arena arena; /* of the strings of what is given back */
    static unsigned number;
    arena_done(&arena);
    (void)snprintf(output_name, sizeof(output_name), "output-%u", ++number);
    struct schema_options options = {.thread_count = 1};
    struct sysdb_function_new spec = {.id = uuid_random(&s->random),
                                      .input = input,
                                      .name = slice_of(name),
                                      .function = slice_of(function),
                                      .output_name = slice_of(output_name),
                                      .params = slice_of(params),
                                      .is_async = function_kind_find(slice_of(function))->is_async,
                                      .min_records = FUNCTION_MIN_RECORDS,
                                      .output = {.id = uuid_random(&s->random),
                                                 .tenant = SLICE("default_tenant"),
                                                 .database = SLICE("default_database"),
                                                 .name = slice_of(output_name)}};
    OK(schema_create(NULL, NULL, NULL, &options, &arena, &spec.output.schema_json, err));
    struct sysdb_function row;
    bool created;
    OK(sysdb_function_attach(s->sysdb, &spec, &arena, &row, &created, err));
    assert_true(created);
    OK(functions_attached(s->functions, &row, err));
    return row;
}

__attribute__((unused)) static void write_one(struct stack *s, uuid id, uint8_t op,
                                              const char *name, const char *metadata)
{
    stack_write(
        s, id, &(struct stack_row){.op = op, .id = name, .value = 1, .metadata_json = metadata}, 1);
}

/* Every record of a collection as one line "id metadata [document]", sorted: two that hold the same read the same. */
struct dump {
    char **lines;
    size_t count;
};

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void dump_row(struct dump *dump, const struct record *record, bool documents)
{
    struct buf line;
    buf_init(&line, BUF_MAX_NONE);
    buf_slice(&line, record->id);
    buf_byte(&line, ' ');
    if (record->metadata.at)
        meta_to_json(record->metadata, &line);
    if (documents && record->document.at) {
        buf_byte(&line, ' ');
        buf_slice(&line, record->document);
    }
    buf_byte(&line, 0);
    dump->lines = realloc(dump->lines, (dump->count + 1) * sizeof(*dump->lines));
    assert_non_null(dump->lines);
    dump->lines[dump->count++] = strdup((char *)line.at);
    buf_done(&line);
}

static struct dump dump_of(struct stack *s, uuid id, bool documents)
{
    struct dump dump = {0};
    struct view *view = NULL;
    struct arena arena;
    struct part_reads reads;
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    arena_init(&arena, NULL, 0);
    part_reads_init(&reads, s->cache, &arena);
    struct record record;
    for (size_t i = 0; i < view_part_count(view); i++) {
        const struct bitset *dead;
        OK(view_dead(view, i, &dead, err));
        for (uint32_t row = 0; row < part_rows(view_part(view, i)); row++) {
            if (dead && bitset_has(dead, row))
                continue;
            OK(part_read(view_part(view, i), &reads, row, RECORD_ALL, &record, err));
            if (record.expires_ms == 0 || record.expires_ms > view_info(view)->now_ms)
                dump_row(&dump, &record, documents);
        }
    }
    for (uint32_t i = 0; i < view_slot_count(view); i++) {
        const struct tail_slot *slot = view_slot(view, i);
        if (!view_slot_live(view, slot))
            continue;
        OK(view_slot_read(view, slot, &reads, RECORD_ALL, &record, err));
        dump_row(&dump, &record, documents);
    }
    part_reads_done(&reads);
    arena_done(&arena);
    view_release(view);
    if (dump.count)
        qsort(dump.lines, dump.count, sizeof(*dump.lines), compare_lines);
    return dump;
}

static void dump_done(struct dump *dump)
{
    for (size_t i = 0; i < dump->count; i++)
        free(dump->lines[i]);
    free(dump->lines);
    *dump = (struct dump){0};
}

__attribute__((unused)) static void expect_same(struct stack *s, uuid have, uuid want,
                                                const char *where)
{
    struct dump a = dump_of(s, have, false), b = dump_of(s, want, false);
    for (size_t i = 0; i < a.count || i < b.count; i++) {
        const char *x = i < a.count ? a.lines[i] : "(none)",
                   *y = i < b.count ? b.lines[i] : "(none)";
        if (strcmp(x, y) != 0)
            fail_msg("%s: \"%s\", from scratch \"%s\"", where, x, y);
    }
    dump_done(&a);
    dump_done(&b);
}

/* The lines, joined by '\n', must be these. */
__attribute__((unused)) static void expect_dump(struct stack *s, uuid id, bool documents,
                                                const char *const *lines, size_t count)
{
    struct dump dump = dump_of(s, id, documents);
    for (size_t i = 0; i < dump.count || i < count; i++) {
        const char *x = i < dump.count ? dump.lines[i] : "(none)";
        const char *y = i < count ? lines[i] : "(none)";
        if (strcmp(x, y) != 0)
            fail_msg("line %zu: \"%s\", expected \"%s\"", i, x, y);
    }
    dump_done(&dump);
}
#define EXPECT_DUMP(s, id, documents, ...)                                   \
    do {                                                                     \
        const char *const expected_[] = {__VA_ARGS__};                       \
        expect_dump((s), (id), (documents), expected_, COUNT_OF(expected_)); \
    } while (0)

/* What a function's output should be: made from all records of the input, in a collection of its own. */
__attribute__((unused)) static uuid from_scratch(struct stack *s, uuid input, const char *function)
{
    static unsigned number;
    char name[32];
    (void)snprintf(name, sizeof(name), "scratch-%u", ++number);
    struct entry entry = {0};
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct output_rows rows = {
        .arena = &arena, .dimension = 1, .zeros = ARENA_ARRAY(&arena, float, 1)};
    struct run run = {.functions = s->functions,
                      .entry = &entry,
                      .work = function_work_find(slice_of(function)),
                      .params = "{}",
                      .input = input,
                      .output = stack_collection(s, name, "l2")};
    OK(view_acquire(s->views, input, READ_INDEX_AND_WAL, &run.view, err));
    OK(view_acquire(s->views, run.output, READ_INDEX_AND_WAL, &run.before, err));
    OK(run.work->rebuild(&run, &rows, err));
    OK(run_write(&run, &rows, err));
    VEC_DONE(&rows.rows);
    arena_done(&arena);
    view_release(run.view);
    view_release(run.before);
    return run.output;
}

static void run_all(struct stack *s)
{
    OK(functions_run(s->functions, err));
}

__attribute__((unused)) static uint64_t completion_of(struct stack *s, uuid input, const char *name)
{
    struct arena arena;
    struct sysdb_function row;
    arena_init(&arena, NULL, 0);
    OK(sysdb_function_get(s->sysdb, input, slice_of(name), &arena, &row, err));
    arena_done(&arena);
    return row.completion;
}
#endif
