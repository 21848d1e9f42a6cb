/* SPDX-License-Identifier: Apache-2.0 */
/* Reads in other orders, page by page, over parts, tail, updates, deletions and merges: the same rows in the same order as sorting all of them. */
#define STACK_QUERY
#define STACK_COMPACT
#include "support/stack.h"

#include "compact/compact_internal.h"

#define ROWS   900
#define ROUNDS 3

/* What is under "s": its class in the order, and what is compared inside of it. */
struct model_row {
    char id[16], json[96];
    uint32_t born; /* its place in order of insertion */
    int n;
    int class; /* 9: missing */
    bool is_float;
    long double number;
    char text[40];
    bool lives;
};
static struct model_row model[ROWS * ROUNDS];
static uint32_t model_count;

static uint32_t below(struct random *random, uint32_t n)
{
    return (uint32_t)random_below(random, n);
}

static void make_row(struct random *random, struct model_row *row)
{
    static const char *const words[] = {"", "a", "ab", "b", "Z", "é", "z"};
    uint32_t what = below(random, 12);
    char value[64];
    row->n = (int)below(random, 10);
    row->number = 0;
    row->is_float = false;
    row->text[0] = 0;
    if (what == 0) {
        row->class = 9;
        (void)snprintf(value, sizeof(value), "null");
    } else if (what == 1) {
        row->class = 1;
        row->number = below(random, 2);
        (void)snprintf(value, sizeof(value), row->number != 0 ? "true" : "false");
    } else if (what < 5) {
        int64_t whole = (int64_t)below(random, 40) - 20;
        whole += below(random, 8) == 0 ? 9007199254740992 : 0; /* where floats leave gaps */
        row->class = 2;
        row->number = (long double)whole;
        (void)snprintf(value, sizeof(value), "%lld", (long long)whole);
    } else if (what < 8) {
        double number = ((double)below(random, 80) - 40) / 2;
        number += below(random, 8) == 0 ? 9007199254740992.0 : 0;
        row->class = 2;
        row->number = (long double)number;
        row->is_float = true;
        (void)snprintf(value, sizeof(value), "%.1f", number + 0.0);
    } else {
        row->class = 3;
        (void)snprintf(row->text, sizeof(row->text), "%s%u", words[below(random, 7)],
                       below(random, 3) ? below(random, 30) : 7);
        (void)snprintf(value, sizeof(value), "\"%s\"", row->text);
    }
    (void)snprintf(row->json, sizeof(row->json), "{\"n\":%d,\"s\":%s}", row->n, value);
}

static void write_row(struct stack *s, uuid id, const struct model_row *row, uint8_t op)
{
    struct stack_row write = {.op = op, .id = row->id, .value = (float)row->born};
    if (op != BATCH_DELETE)
        write.metadata_json = row->json;
    stack_write(s, id, &write, 1);
}

/* ---- the truth ---- */

static struct plan_order sorting; /* what qsort asks for */

static int compare_rows(const void *a, const void *b)
{
    const struct model_row *x = *(const struct model_row *const *)a,
                           *y = *(const struct model_row *const *)b;
    int born = (x->born > y->born) - (x->born < y->born), order = 0;
    if (sorting.by == PLAN_BY_INSERTION)
        return sorting.descending ? -born : born;
    if (sorting.by == PLAN_BY_ID)
        order = strcmp(x->id, y->id);
    else if (sorting.key.at[0] == 'n')
        order = x->n - y->n;
    else if ((x->class == 9) != (y->class == 9))
        return x->class == 9 ? 1 : -1;
    else if (x->class != y->class)
        order = x->class - y->class;
    else if (x->class == 3)
        order = strcmp(x->text, y->text);
    else
        order = (x->number > y->number) - (x->number < y->number);
    if (!order)
        return born;
    return sorting.descending ? -order : order;
}

static uint32_t expected(struct plan_order order, int n_below, bool odd_ids,
                         const struct model_row **ret)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < model_count; i++) {
        if (model[i].lives && model[i].n < n_below && (!odd_ids || model[i].born % 2))
            ret[count++] = &model[i];
    }
    sorting = order;
    if (count)
        qsort((void *)(uintptr_t)ret, count, sizeof(*ret), compare_rows);
    return count;
}

/* ---- asking ---- */

static struct filter_node *filter_below(int n, struct arena *arena)
{
    struct json_value value;
    struct json_fault fault;
    struct filter_node *node = NULL;
    const char *text = arena_printf(arena, "{\"n\":{\"$lt\":%d}}", n);
    OK(json_read(slice_of(text), NULL, arena, &value, &fault, err));
    OK(filter_parse_where(&value, arena, &node, err));
    return node;
}

static void same_ids(const struct query_hits *hits, const struct model_row *const *rows,
                     uint32_t count, const char *what)
{
    if (hits->count != count)
        fail_msg("%s: %zu rows instead of %u", what, hits->count, count);
    for (uint32_t i = 0; i < count; i++) {
        if (!slice_equal(hits->rows[i].record.id, slice_of(rows[i]->id)))
            fail_msg("%s: row %u is %.*s instead of %s", what, i,
                     SLICE_ARG(hits->rows[i].record.id), rows[i]->id);
    }
}

/* The plan as a wire would carry it, so that the codec and cursors take part. */
static void run(struct stack *s, const struct plan *plan, struct arena *arena,
                struct query_result *ret_result)
{
    struct plan again;
    struct buf bytes;
    buf_init(&bytes, BUF_MAX_NONE);
    plan_encode(plan, &bytes);
    slice encoded = arena_copy(arena, buf_view(&bytes));
    buf_done(&bytes);
    OK(plan_decode(encoded, arena, &again, err));
    OK(query_run(s->query, &again, NULL, arena, ret_result, err));
}

static void check_pages(struct stack *s, struct plan plan, const struct model_row *const *rows,
                        uint32_t count, uint32_t page, const char *what)
{
    char cursor[512] = "";
    plan.limit = page;
    for (uint32_t at = 0;;) {
        struct arena arena;
        struct query_result result;
        struct buf next;
        arena_init(&arena, NULL, 0);
        buf_init(&next, BUF_MAX_NONE);
        struct plan asked = plan;
        if (cursor[0])
            OK(plan_cursor_read(slice_of(cursor), &arena, &asked, err));
        run(s, &asked, &arena, &result);
        uint32_t left = count - at, want = left < page ? left : page;
        same_ids(&result.hits[0], rows + at, want, what);
        assert_int_equal(result.has_last, want == page && page);
        at += want;
        if (result.has_last)
            OK(plan_cursor_write(&asked, &result.last, &next, err));
        bool more = result.has_last;
        assert_true(next.len < sizeof(cursor));
        (void)snprintf(cursor, sizeof(cursor), "%.*s", SLICE_ARG(buf_view(&next)));
        buf_done(&next);
        query_result_done(&result);
        arena_done(&arena);
        if (!more)
            return;
    }
}

static void check_order(struct stack *s, uuid id, struct random *random, struct plan_order order,
                        const char *what)
{
    static const struct model_row *rows[ROWS * ROUNDS];
    struct arena arena;
    struct query_result result;
    int n = 1 + (int)below(random, 10);
    bool by_ids = below(random, 3) == 0;
    arena_init(&arena, NULL, 0);
    uint32_t count = expected(order, n, by_ids, rows);
    struct plan plan = {.kind = PLAN_GET,
                        .collection = id,
                        .fields = RECORD_ID,
                        .limit = PLAN_NO_LIMIT,
                        .order = order,
                        .filter = n == 10 ? NULL : filter_below(n, &arena)};
    if (by_ids) {
        slice *ids = ARENA_ARRAY(&arena, slice, model_count + 1);
        for (uint32_t i = 0; i < model_count; i++) {
            if (model[i].born % 2)
                ids[plan.id_count++] = slice_of(model[i].id);
        }
        plan.has_ids = true;
        plan.ids = ids;
    }
    run(s, &plan, &arena, &result);
    same_ids(&result.hits[0], rows, count, what);
    query_result_done(&result);
    plan.offset = below(random, count + 2);
    plan.limit = below(random, 40);
    run(s, &plan, &arena, &result);
    uint32_t first = plan.offset < count ? (uint32_t)plan.offset : count;
    same_ids(&result.hits[0], rows + first,
             count - first < plan.limit ? count - first : (uint32_t)plan.limit, what);
    query_result_done(&result);
    plan.offset = 0;
    check_pages(s, plan, rows, count, 1 + below(random, 300), what);
    check_pages(s, plan, rows, count, 5 + below(random, 20), what); /* by the dictionary */
    if (count < 60)
        check_pages(s, plan, rows, count, 1, what);
    arena_done(&arena);
}

/* ---- facets ---- */

static bool same_value(const struct model_row *row, const struct plan_key *value)
{
    switch (value->type) {
    case META_BOOL:
        return row->class == 1 && (row->number != 0) == (value->value.at[0] != 0);
    case META_INT:
        return row->class == 2 && !row->is_float &&
               row->number == (long double)(int64_t)load_u64(value->value.at);
    case META_FLOAT:
        return row->class == 2 && row->is_float &&
               row->number == (long double)load_f64(value->value.at);
    default:
        return row->class == 3 && slice_equal(value->value, slice_of(row->text));
    }
}

/* Every value told of has the count of rows that have it; together they are all. */
static void check_facets(struct stack *s, uuid id, struct random *random)
{
    static const struct model_row *rows[ROWS * ROUNDS];
    struct arena arena;
    struct query_result result;
    int n = 1 + (int)below(random, 10);
    uint32_t with = 0;
    arena_init(&arena, NULL, 0);
    struct plan_order order = {PLAN_BY_KEY, false, SLICE("s")};
    uint32_t count = expected(order, n, false, rows);
    struct plan_facet facets[] = {
        {SLICE("s"), 100000, below(random, 2)}, {SLICE("n"), 3, true}, {SLICE("nobody"), 5, false}};
    struct plan plan = {.kind = PLAN_FACETS,
                        .collection = id,
                        .facets = facets,
                        .facet_count = 3,
                        .filter = n == 10 ? NULL : filter_below(n, &arena)};
    run(s, &plan, &arena, &result);
    const struct query_facet *facet = &result.facets[0];
    assert_int_equal(result.count, count);
    while (with < count && rows[with]->class != 9)
        with++;
    assert_int_equal(facet->records, with);
    assert_int_equal(facet->distinct, facet->value_count);
    if (with) {
        assert_true(same_value(rows[0], &facet->least) || rows[0]->class == 2);
        assert_true(same_value(rows[with - 1], &facet->most) || rows[with - 1]->class == 2);
    }
    uint64_t total = 0;
    for (size_t i = 0; i < facet->value_count; i++) {
        const struct query_facet_value *told = &facet->values[i];
        uint64_t same = 0;
        for (uint32_t j = 0; j < with; j++)
            same += same_value(rows[j], &told->value);
        assert_int_equal(told->count, same);
        total += same;
        if (i && facets[0].by_value)
            assert_true(plan_compare(&order, &facet->values[i - 1].value, &told->value) <= 0);
        else if (i)
            assert_true(facet->values[i - 1].count >= told->count);
    }
    assert_int_equal(total, with);
    assert_int_equal(result.facets[1].records, count);
    assert_true(result.facets[1].value_count <= 3 && result.facets[1].distinct <= (uint64_t)n);
    assert_int_equal(result.facets[2].records + result.facets[2].distinct, 0);
    query_result_done(&result);
    arena_done(&arena);
}

static void check_all(struct stack *s, uuid id, struct random *random)
{
    for (int i = 0; i < 3; i++)
        check_facets(s, id, random);
    for (unsigned descending = 0; descending < 2; descending++) {
        check_order(s, id, random, (struct plan_order){.descending = descending}, "by insertion");
        check_order(s, id, random, (struct plan_order){PLAN_BY_ID, descending, SLICE_NONE},
                    "by id");
        check_order(s, id, random, (struct plan_order){PLAN_BY_KEY, descending, SLICE("s")},
                    "by s");
        check_order(s, id, random, (struct plan_order){PLAN_BY_KEY, descending, SLICE("n")},
                    "by n");
    }
}

static void every_page_in_every_order_is_that_of_sorting_all_rows(void **state)
{
    struct stack s = {.threads = 2};
    struct random random;
    bool merged;
    (void)state;
    random_seed(&random, 4);
    stack_open(&s);
    uuid id = stack_collection(&s, "c", "l2");
    check_all(&s, id, &random);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < ROWS; i++) {
            struct model_row *row = &model[model_count];
            row->born = model_count++;
            (void)snprintf(row->id, sizeof(row->id), "r%u", row->born * 7919 % 100003);
            row->lives = true;
            make_row(&random, row);
            write_row(&s, id, row, BATCH_ADD);
        }
        check_all(&s, id, &random); /* tail */
        if (round != 1)
            OK(compact_flush(s.compactor, &id, 1, false, err));
        check_all(&s, id, &random);
        for (uint32_t i = 0; i < 250; i++) {
            struct model_row *row = &model[below(&random, model_count)];
            if (!row->lives)
                continue;
            row->lives = below(&random, 3) != 0;
            make_row(&random, row);
            write_row(&s, id, row, row->lives ? BATCH_UPDATE : BATCH_DELETE);
        }
        check_all(&s, id, &random);
    }
    OK(compact_flush(s.compactor, &id, 1, false, err));
    OK(compact_merge(s.compactor, id, true, &merged, err));
    check_all(&s, id, &random);
    stack_done(&s);
}

/* Rows that come and go between pages disturb no others: none is shown twice, none is passed over. */
static void writes_between_pages_move_no_other_row(void **state)
{
    static const uint8_t bys[] = {PLAN_BY_INSERTION, PLAN_BY_ID, PLAN_BY_KEY};
    (void)state;
    for (size_t b = 0; b < 2 * COUNT_OF(bys); b++) {
        struct stack s = {0};
        uint8_t seen[100] = {0};
        struct plan_key last = {0};
        stack_open(&s);
        uuid id = stack_collection(&s, "c", "l2");
        for (uint32_t i = 0; i < 100; i++) {
            char name[16], json[32];
            (void)snprintf(name, sizeof(name), "r%02u", i);
            (void)snprintf(json, sizeof(json), "{\"k\":%u}", i * 37 % 100);
            stack_write(&s, id,
                        &(struct stack_row){.op = BATCH_ADD, .id = name, .metadata_json = json}, 1);
        }
        for (uint32_t page = 0; page < 200; page++) {
            struct arena arena;
            struct query_result result;
            arena_init(&arena, NULL, 0);
            struct plan plan = {.kind = PLAN_GET,
                                .collection = id,
                                .limit = 7,
                                .order = {bys[b / 2], b % 2, SLICE("k")},
                                .has_after = page > 0,
                                .after = last};
            OK(query_run(s.query, &plan, NULL, &arena, &result, err));
            for (size_t i = 0; i < result.hits[0].count; i++) {
                const char *name = (const char *)result.hits[0].rows[i].record.id.at;
                if (name[0] == 'r')
                    seen[(name[1] - '0') * 10 + name[2] - '0']++;
            }
            bool more = result.has_last;
            last = result.last;
            static uint8_t value[16];
            assert_true(last.value.len <= sizeof(value));
            if (last.value.len)
                memcpy(value, last.value.at, last.value.len);
            last.value.at = value;
            query_result_done(&result);
            arena_done(&arena);
            if (!more)
                break;
            char name[16];
            (void)snprintf(name, sizeof(name), "x%02u", page % 50); /* comes, goes, comes again */
            stack_write(
                &s, id,
                &(struct stack_row){.op = BATCH_UPSERT,
                                    .id = name,
                                    .metadata_json = page % 2 ? "{\"k\":-5}" : "{\"k\":55}"},
                1);
            if (page > 3)
                (void)stack_delete(&s, id, page % 2 ? "x01" : "x02");
            if (page == 20 && bys[b / 2] == PLAN_BY_INSERTION && !(b % 2))
                break; /* it would never end: what comes stands at its end */
        }
        for (uint32_t i = 0; i < 100; i++)
            assert_int_equal(seen[i], 1);
        stack_done(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_page_in_every_order_is_that_of_sorting_all_rows),
        cmocka_unit_test(writes_between_pages_move_no_other_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
