/* SPDX-License-Identifier: Apache-2.0 */
/* Filters on documents through the whole: parts with their text index, updates, deletions, the tail, merges.  Every answer is that of asking each
 * record by itself. */
#define STACK_QUERY
#define STACK_COMPACT
#include "support/stack.h"

#include "compact/compact_internal.h"
#include "part/part_internal.h"

#define ROWS   1900
#define ROUNDS 2

struct model_row {
    char id[16], document[400];
    float value;
    bool lives, has_document;
};
static struct model_row model[ROWS * ROUNDS]; /* in order of insertion */
static uint32_t model_count;

static const char *const filters[] = {
    "{\"#document\":{\"$contains\":\"lighthouse protocol\"}}",
    "{\"#document\":{\"$not_contains\":\"lighthouse\"}}",
    "{\"#document\":{\"$contains\":\"\"}}",
    "{\"#document\":{\"$not_contains\":\"\"}}",
    "{\"#document\":{\"$contains\":\"q\"}}",
    "{\"#document\":{\"$contains\":\"文\"}}",
    "{\"#document\":{\"$contains\":\"文件 x\"}}",
    "{\"#document\":{\"$contains\":\"ß\"}}",
    "{\"#document\":{\"$contains\":\"nowhere to be found\"}}",
    "{\"#document\":{\"$contains\":\"THE\"}}",
    "{\"#document\":{\"$contains\":\"e%_\\\\\"}}",
    "{\"#document\":{\"$regex\":\"quartz (light|dark)[a-z]+\"}}",
    "{\"#document\":{\"$not_regex\":\"(?i)straße|привет\"}}",
    "{\"#document\":{\"$regex\":\"^the\"}}",
    "{\"#document\":{\"$regex\":\"x*\"}}",
    "{\"#document\":{\"$regex\":\"w[0-9]{3} \"}}",
    "{\"#document\":{\"$regex\":\"文|ル x\"}}",
    "{\"#document\":{\"$exists\":true}}",
    "{\"$not\":{\"#document\":{\"$exists\":true}}}",
    "{\"#document\":{\"$prefix\":\"the \"}}",
    "{\"#document\":{\"$prefix\":\"\"}}",
    "{\"$not\":{\"#document\":{\"$prefix\":\"w1\"}}}",
    "{\"#document\":{\"$like\":\"%lighthouse%quartz%\"}}",
    "{\"#document\":{\"$like\":\"w____ %\"}}",
    "{\"#document\":{\"$like\":\"%ж_\"}}",
    "{\"#document\":{\"$like\":\"%e\\\\%\\\\_%\"}}",
    "{\"#document\":{\"$like\":\"\"}}",
    "{\"#document\":{\"$icontains\":\"LIGHTHOUSE protocol\"}}",
    "{\"#document\":{\"$icontains\":\"zQ\"}}",
    "{\"#document\":{\"$icontains\":\"STRAßE\"}}",
    "{\"#document\":{\"$icontains\":\"ПРИВЕТ\"}}",
    "{\"$not\":{\"#document\":{\"$icontains\":\"q\"}}}",
    "{\"s\":{\"$exists\":true}}",
    "{\"s\":{\"$exists\":false}}",
    "{\"s\":{\"$prefix\":\"the-\"}}",
    "{\"$not\":{\"s\":{\"$prefix\":\"t\"}}}",
    "{\"s\":{\"$prefix\":\"quartz-1\"}}",
    "{\"s\":{\"$like\":\"%-_0\"}}",
    "{\"s\":{\"$like\":\"LIGHT%\"}}",
    "{\"s\":{\"$icontains\":\"LIGHT\"}}",
    "{\"s\":{\"$icontains\":\"привет-4\"}}",
    "{\"s\":{\"$regex\":\"^(the|quartz)-[0-9]$\"}}",
    "{\"s\":{\"$not_regex\":\"[0-9]{2}\"}}",
    "{\"n\":{\"$like\":\"%\"}}",
    "{\"$and\":[{\"s\":{\"$like\":\"%a%\"}},{\"n\":{\"$lt\":3}},{\"#document\":{\"$icontains\":"
    "\"THE "
    "\"}}]}",
    "{\"$or\":[{\"s\":{\"$prefix\":\"zq\"}},{\"$not\":{\"#document\":{\"$like\":\"%w1%\"}}}]}",
    "{\"$and\":[{\"s\":{\"$prefix\":\"q\"}},{\"s\":{\"$prefix\":\"quartz-2\"}}]}",
    "{\"$and\":[{\"#document\":{\"$contains\":\"quartz\"}},{\"n\":{\"$lt\":3}}]}",
    "{\"$or\":[{\"#document\":{\"$contains\":\"quartz lighthouse\"}},{\"n\":4}]}",
    "{\"$or\":[{\"#document\":{\"$not_contains\":\"the\"}},{\"#document\":{\"$contains\":\"zq\"}}]"
    "}",
    "{\"$and\":[{\"$or\":[{\"#document\":{\"$regex\":\"(?i)THE quartz\"}},{\"n\":1}]},"
    "{\"#document\":{\"$not_contains\":\"ж\"}}]}"};

static void make_document(struct random *random, struct model_row *row)
{
    static const char *const words[] = {
        "the",    "THE",    "quartz", "lighthouse", "protocol", "darkness", "文件",  "ル",
        "Straße", "STRAẞE", "привет", "Привет",     "ж",        "x",        "e%_\\", "zq"};
    size_t len = 0;
    row->document[0] = 0;
    row->has_document = random_below(random, 12) != 0;
    for (uint64_t i = random_below(random, 70); row->has_document && i > 0 && len < 360; i--) {
        uint64_t word = random_below(random, 60);
        word = word >= 3 && random_below(random, 3) ? 100 : word; // mostly numbered words
        len +=
            (size_t)(word < COUNT_OF(words) ? snprintf(row->document + len, 30, "%s ", words[word])
                                            : snprintf(row->document + len, 30, "w%u ",
                                                       (unsigned)random_below(random, 2000)));
    }
}

#define METADATA_BYTES 500
/* "n" of every row; "s" a string of most, an array, a number, something longer than the index keeps, or missing. */
static void make_metadata(const struct model_row *row, char json[METADATA_BYTES])
{
    static const char *const words[] = {"the", "quartz", "LIGHTHOUSE", "Привет", "zq", "a%_b"};
    unsigned k = (unsigned)row->value;
    size_t len = (size_t)snprintf(json, METADATA_BYTES, "{\"n\":%u", k % 7);
    char *at = json + len;
    size_t left = METADATA_BYTES - len;
    if (k % 11 == 1)
        (void)snprintf(at, left, ",\"s\":[\"the-1\",\"quartz-1\"]}");
    else if (k % 11 == 2)
        (void)snprintf(at, left, ",\"s\":%u}", k);
    else if (k % 11 && k % 50 == 3)
        (void)snprintf(at, left, ",\"s\":\"quartz-%0260u-light\"}", k % 4);
    else if (k % 11)
        (void)snprintf(at, left, ",\"s\":\"%s-%u\"}", words[k % COUNT_OF(words)], k % 97);
    else
        (void)snprintf(at, left, "}");
}

static void write_row(struct stack *s, uuid id, const struct model_row *row, uint8_t op)
{
    char json[METADATA_BYTES];
    make_metadata(row, json);
    struct stack_row write = {.op = op, .id = row->id};
    if (op != BATCH_DELETE) {
        write.value = row->value;
        write.document = row->has_document ? row->document : NULL;
        write.clear_document = op == BATCH_UPDATE && !row->has_document;
        write.metadata_json = json;
    }
    stack_write(s, id, &write, 1);
}

static struct filter_node *parse(const char *text, struct arena *arena)
{
    struct json_value value;
    struct json_fault fault;
    struct filter_node *node = NULL;
    OK(json_read(slice_of(text), NULL, arena, &value, &fault, err));
    OK(filter_parse_where(&value, arena, &node, err));
    return node;
}

/* Live rows that pass, by asking each one. */
static uint32_t expected(const struct filter_node *node, uint32_t *rows)
{
    struct filter *filter = NULL;
    uint32_t count = 0;
    OK(filter_compile(node, &filter, err));
    for (uint32_t i = 0; i < model_count; i++) {
        struct arena arena;
        struct json_value value;
        struct json_fault fault;
        struct buf metadata;
        const struct model_row *m = &model[i];
        if (!m->lives)
            continue;
        arena_init(&arena, NULL, 0);
        buf_init(&metadata, BUF_MAX_NONE);
        char json[METADATA_BYTES];
        make_metadata(m, json);
        OK(json_read(slice_of(json), NULL, &arena, &value, &fault, err));
        OK(meta_from_json(&value, 0, &metadata, err));
        struct filter_row row = {.have = FILTER_NEEDS_ID | FILTER_NEEDS_METADATA |
                                         FILTER_NEEDS_DOCUMENT,
                                 .id = slice_of(m->id),
                                 .metadata = buf_view(&metadata),
                                 .document = m->has_document ? slice_of(m->document) : SLICE_NONE};
        if (filter_match(filter, &row) == FILTER_TRUE)
            rows[count++] = i;
        buf_done(&metadata);
        arena_done(&arena);
    }
    filter_free(filter);
    return count;
}

static void same_ids(const char *filter, const struct query_hits *hits, const uint32_t *rows,
                     uint32_t count)
{
    if (hits->count != count)
        fail_msg("%s: %zu rows instead of %u", filter, hits->count, count);
    for (uint32_t i = 0; i < count; i++) {
        if (!slice_equal(hits->rows[i].record.id, slice_of(model[rows[i]].id)))
            fail_msg("%s: row %u is %.*s instead of %s", filter, i,
                     SLICE_ARG(hits->rows[i].record.id), model[rows[i]].id);
    }
}

static void run(struct stack *s, struct plan *plan, struct arena *arena,
                struct query_result *ret_result)
{
    OK(query_run(s->query, plan, NULL, arena, ret_result, err));
}

static void check_nearest(struct stack *s, uuid id, const char *filter,
                          const struct filter_node *node, uint32_t *rows, uint32_t count)
{
    float query[STACK_DIM] = {1234.3f, 1};
    struct arena arena;
    struct query_result result;
    arena_init(&arena, NULL, 0);
    struct plan plan = {.kind = PLAN_QUERY,
                        .collection = id,
                        .fields = RECORD_ID,
                        .limit = PLAN_NO_LIMIT,
                        .vectors = query,
                        .vector_count = 1,
                        .dimension = STACK_DIM,
                        .k = 10,
                        .recall = 1,
                        .filter = (struct filter_node *)(uintptr_t)node};
    for (uint32_t i = 1; i < count; i++) { /* by distance */
        for (uint32_t j = i; j > 0; j--) {
            float a = model[rows[j - 1]].value - query[0], b = model[rows[j]].value - query[0];
            if (a * a <= b * b)
                break;
            uint32_t swap = rows[j];
            rows[j] = rows[j - 1];
            rows[j - 1] = swap;
        }
    }
    run(s, &plan, &arena, &result);
    same_ids(filter, &result.hits[0], rows, count < 10 ? count : 10);
    query_result_done(&result);
    arena_done(&arena);
}

static void check_all(struct stack *s, uuid id)
{
    static uint32_t rows[ROWS * ROUNDS];
    for (size_t f = 0; f < COUNT_OF(filters); f++) {
        struct arena arena;
        struct query_result result;
        arena_init(&arena, NULL, 0);
        struct filter_node *node = parse(filters[f], &arena);
        uint32_t count = expected(node, rows);
        struct plan plan = {.kind = PLAN_GET,
                            .collection = id,
                            .fields = RECORD_ID,
                            .limit = PLAN_NO_LIMIT,
                            .filter = node};
        run(s, &plan, &arena, &result);
        same_ids(filters[f], &result.hits[0], rows, count);
        query_result_done(&result);
        plan.limit = 10;
        plan.offset = 3;
        run(s, &plan, &arena, &result);
        uint32_t left = count > 3 ? count - 3 : 0;
        same_ids(filters[f], &result.hits[0], rows + 3, left < 10 ? left : 10);
        query_result_done(&result);
        plan = (struct plan){.kind = PLAN_COUNT, .collection = id, .filter = node};
        run(s, &plan, &arena, &result);
        assert_int_equal(result.count, count);
        query_result_done(&result);
        if (f % 3 == 0)
            check_nearest(s, id, filters[f], node, rows, count);
        arena_done(&arena);
    }
}

/* How many parts there are, and whether those with text have an index. */
static size_t indexed_parts(struct stack *s, uuid id)
{
    struct view *view;
    size_t count = 0;
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    for (size_t i = 0; i < view_part_count(view); i++)
        count += part_has(view_part(view, i), SECTION_TEXT);
    view_release(view);
    return count;
}

static void flush(struct stack *s, uuid id)
{
    OK(compact_flush(s->compactor, &id, 1, false, err));
}

static void every_filter_answers_as_asking_each_row(void **state)
{
    struct stack s = {0};
    struct random random;
    bool merged;
    (void)state;
    random_seed(&random, 77);
    stack_open(&s);
    uuid id = stack_collection(&s, "c", "l2");
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < ROWS; i++) {
            struct model_row *row = &model[model_count];
            (void)snprintf(row->id, sizeof(row->id), "r%u", model_count);
            row->value = (float)model_count++;
            row->lives = true;
            make_document(&random, row);
            write_row(&s, id, row, BATCH_ADD);
        }
        check_all(&s, id); // tail
        flush(&s, id);
        assert_int_equal(indexed_parts(&s, id), round + 1);
        check_all(&s, id);
        for (uint32_t i = 0; i < 300; i++) { // texts change, rows go
            struct model_row *row = &model[random_below(&random, model_count)];
            if (!row->lives)
                continue;
            row->lives = random_below(&random, 2) != 0;
            if (row->lives)
                make_document(&random, row);
            write_row(&s, id, row, row->lives ? BATCH_UPDATE : BATCH_DELETE);
        }
        check_all(&s, id);
    }
    flush(&s, id);
    check_all(&s, id);
    OK(compact_merge(s.compactor, id, true, &merged, err));
    assert_true(merged);
    assert_true(indexed_parts(&s, id) >= 1);
    check_all(&s, id);
    stack_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_filter_answers_as_asking_each_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
