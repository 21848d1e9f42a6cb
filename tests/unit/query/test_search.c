/* SPDX-License-Identifier: Apache-2.0 */
/* Search against a plain evaluator: random rank expressions, filters, groups and pages over parts, tail, updates and deletions.  Answers are equal to the
 * bit.  The evaluator works on maps of all records, node by node; the executor on one record at a time. */
#define STACK_QUERY
#include "support/stack.h"

#include "asking.h"

#include "model/search.h"

#include <float.h>
#include <math.h>

#define ROWS_MAX 96

static uint32_t below(struct random *random, uint32_t bound)
{
    return (uint32_t)random_below(random, bound);
}

struct row {
    char id[12];
    bool live;
    uint32_t order; /* of insertion */
    float at;
    int color;  /* "c": -1 missing, 0.. "c0".., 9: true */
    int number; /* "n": -1 missing */
};
struct table {
    struct row rows[ROWS_MAX];
    uint32_t count, next_order;
};

/* ---- what is asked ---- */

struct node {
    uint8_t op; /* enum rank_op */
    float value;
    uint32_t limit;
    bool has_fallback, return_rank;
    struct node *children[3];
    uint32_t child_count;
};

static const char *const op_names[] = {
    [RANK_VAL] = "$val", [RANK_KNN] = "$knn", [RANK_ADD] = "$sum", [RANK_MUL] = "$mul",
    [RANK_MAX] = "$max", [RANK_MIN] = "$min", [RANK_SUB] = "$sub", [RANK_DIV] = "$div",
    [RANK_ABS] = "$abs", [RANK_EXP] = "$exp", [RANK_LOG] = "$log"};

static struct node *random_node(struct random *random, struct arena *arena, unsigned depth)
{
    struct node *node = ARENA_NEW(arena, struct node);
    assert_non_null(node);
    bool leaf = depth == 0 || below(random, 4) == 0;
    node->op = leaf ? (below(random, 3) ? RANK_KNN : RANK_VAL)
                    : (uint8_t)(RANK_ADD + below(random, RANK_LOG - RANK_ADD + 1));
    node->value = (float)((int)below(random, 41) - 20) / 4;
    if (node->op == RANK_KNN) {
        node->value = (float)below(random, 30);
        node->limit = below(random, 3) ? below(random, 12) : below(random, 200);
        node->has_fallback = below(random, 2);
        node->return_rank = below(random, 2);
    }
    if (node->op >= RANK_ABS)
        node->child_count = 1;
    else if (node->op >= RANK_SUB)
        node->child_count = 2;
    else if (node->op >= RANK_ADD)
        node->child_count = below(random, 4);
    for (uint32_t i = 0; i < node->child_count; i++)
        node->children[i] = random_node(random, arena, depth - 1);
    return node;
}

static void write_node(const struct node *node, struct buf *out)
{
    buf_printf(out, "{\"%s\":", op_names[node->op]);
    if (node->op == RANK_VAL) {
        buf_printf(out, "%g", (double)node->value);
    } else if (node->op == RANK_KNN) {
        buf_printf(out, "{\"query\":[%g,1,0,0],\"limit\":%u", (double)node->value, node->limit);
        if (node->has_fallback)
            buf_text(out, ",\"default\":7.5");
        buf_printf(out, ",\"return_rank\":%s}", node->return_rank ? "true" : "false");
    } else if (node->op >= RANK_ABS) {
        write_node(node->children[0], out);
    } else if (node->op >= RANK_SUB) {
        buf_text(out, "{\"left\":");
        write_node(node->children[0], out);
        buf_text(out, ",\"right\":");
        write_node(node->children[1], out);
        buf_byte(out, '}');
    } else {
        buf_byte(out, '[');
        for (uint32_t i = 0; i < node->child_count; i++) {
            buf_text(out, i ? "," : "");
            write_node(node->children[i], out);
        }
        buf_byte(out, ']');
    }
    buf_byte(out, '}');
}

struct filter_choice {
    const char *json;
    bool (*passes)(const struct row *row);
};
static bool pass_all(const struct row *row)
{
    (void)row;
    return true;
}
static bool pass_red(const struct row *row)
{
    return row->color == 0;
}
static bool pass_not_red(const struct row *row)
{
    return row->color != 0;
}
static bool pass_high(const struct row *row)
{
    return row->number >= 3;
}
static bool pass_ids(const struct row *row)
{
    return strcmp(row->id, "r1") == 0 || strcmp(row->id, "r7") == 0 || strcmp(row->id, "r40") == 0;
}
static bool pass_none(const struct row *row)
{
    (void)row;
    return false;
}
static const struct filter_choice filters[] = {
    {"null", pass_all},
    {"{}", pass_all},
    {"{\"c\":\"c0\"}", pass_red},
    {"{\"c\":{\"$ne\":\"c0\"}}", pass_not_red},
    {"{\"n\":{\"$gte\":3}}", pass_high},
    {"{\"#id\":{\"$in\":[\"r40\",\"r1\",\"zz\",\"r7\"]}}", pass_ids},
    {"{\"c\":\"nobody\"}", pass_none},
};

struct question {
    const struct filter_choice *filter;
    struct node *rank; /* NULL: none */
    bool grouped, by_number, max_k, order_by_number;
    uint32_t k, offset, limit;
};

static void random_question(struct random *random, struct arena *arena, struct question *q)
{
    *q = (struct question){.filter = &filters[below(random, COUNT_OF(filters))],
                           .grouped = below(random, 2),
                           .by_number = below(random, 2),
                           .max_k = below(random, 2),
                           .order_by_number = below(random, 2),
                           .k = 1 + below(random, 3),
                           .offset = below(random, 3) ? 0 : below(random, 20),
                           .limit = below(random, 40)};
    if (below(random, 8))
        q->rank = random_node(random, arena, below(random, 5));
    q->grouped = q->grouped && q->rank;
}

static void write_question(const struct question *q, struct buf *out)
{
    buf_printf(out, "{\"filter\":%s,\"limit\":{\"offset\":%u,\"limit\":%u}", q->filter->json,
               q->offset, q->limit);
    if (q->rank) {
        buf_text(out, ",\"rank\":");
        write_node(q->rank, out);
    }
    if (q->grouped)
        buf_printf(out,
                   ",\"group_by\":{\"keys\":[%s],\"aggregate\":{\"%s\":{\"keys\":[%s],\"k\":%u}}}",
                   q->by_number ? "\"c\",\"n\"" : "\"c\"", q->max_k ? "$max_k" : "$min_k",
                   q->order_by_number ? "\"n\",\"#score\"" : "\"#score\"", q->k);
    buf_byte(out, '}');
}

/* ---- the evaluator ---- */

struct map {
    bool has[ROWS_MAX], has_fallback;
    float value[ROWS_MAX], fallback;
};

struct ranked {
    const struct row *row;
    float score;
};

static int by_score(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    bool x_nan = isnan(x->score), y_nan = isnan(y->score);
    if (x_nan != y_nan)
        return x_nan ? 1 : -1;
    if (!x_nan && x->score != y->score)
        return x->score < y->score ? -1 : 1;
    if (!x_nan && x->score == 0 && signbit(x->score) != signbit(y->score))
        return signbit(x->score) ? -1 : 1;
    return x->row->order < y->row->order ? -1 : x->row->order > y->row->order;
}

static float op_of(uint8_t op, float a, float b)
{
    float result = op == RANK_ADD   ? a + b
                   : op == RANK_MUL ? a * b
                   : op == RANK_MAX ? fmaxf(a, b)
                   : op == RANK_MIN ? fminf(a, b)
                   : op == RANK_SUB ? a - b
                   : op == RANK_DIV ? a / b
                   : op == RANK_ABS ? fabsf(a)
                   : op == RANK_EXP ? expf(a)
                                    : logf(a);
    return isnan(result) ? NAN : result;
}

static void combine(uint8_t op, struct map *left, const struct map *right, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        bool in_left = left->has[i], in_right = right->has[i], in;
        if (left->has_fallback && right->has_fallback)
            in = in_left || in_right;
        else if (left->has_fallback)
            in = in_right;
        else if (right->has_fallback)
            in = in_left;
        else
            in = in_left && in_right;
        if (in)
            left->value[i] = op_of(op, in_left ? left->value[i] : left->fallback,
                                   in_right ? right->value[i] : right->fallback);
        left->has[i] = in;
    }
    left->has_fallback = left->has_fallback && right->has_fallback;
    if (left->has_fallback)
        left->fallback = op_of(op, left->fallback, right->fallback);
}

static void evaluate_knn(const struct node *node, const struct table *table,
                         const struct filter_choice *filter, struct map *map)
{
    struct ranked list[ROWS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < table->count; i++) {
        const struct row *row = &table->rows[i];
        float d = row->at - node->value;
        if (row->live && filter->passes(row))
            list[count++] = (struct ranked){row, d * d};
    }
    qsort(list, count, sizeof(*list), by_score);
    for (uint32_t i = 0; i < count && i < node->limit; i++) {
        uint32_t at = (uint32_t)(list[i].row - table->rows);
        map->has[at] = true;
        map->value[at] = node->return_rank ? (float)i : list[i].score;
    }
    map->has_fallback = node->has_fallback;
    map->fallback = 7.5f;
}

static void evaluate(const struct node *node, const struct table *table,
                     const struct filter_choice *filter, struct map *map)
{
    memset(map, 0, sizeof(*map));
    struct map other;
    if (node->op == RANK_KNN) {
        evaluate_knn(node, table, filter, map);
    } else if (node->op == RANK_VAL) {
        map->has_fallback = true;
        map->fallback = node->value;
    } else if (node->op >= RANK_ABS) {
        evaluate(node->children[0], table, filter, map);
        for (uint32_t i = 0; i < table->count; i++)
            if (map->has[i])
                map->value[i] = op_of(node->op, map->value[i], 0);
        if (map->has_fallback)
            map->fallback = op_of(node->op, map->fallback, 0);
    } else if (node->op >= RANK_SUB) {
        evaluate(node->children[0], table, filter, map);
        evaluate(node->children[1], table, filter, &other);
        combine(node->op, map, &other, table->count);
    } else {
        map->has_fallback = true;
        map->fallback = node->op == RANK_ADD   ? 0
                        : node->op == RANK_MUL ? 1
                        : node->op == RANK_MAX ? -FLT_MAX
                                               : FLT_MAX;
        for (uint32_t i = 0; i < node->child_count; i++) {
            evaluate(node->children[i], table, filter, &other);
            combine(node->op, map, &other, table->count);
        }
    }
}

static const struct question *grouping; /* of the sort below */

static int by_group_order(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    int order = 0;
    if (grouping->order_by_number)
        order = (x->row->number > y->row->number) - (x->row->number < y->row->number);
    if (order == 0)
        order = rank_compare(x->score, y->score);
    if (order == 0)
        return by_score(a, b);
    return grouping->max_k ? -order : order;
}

static bool same_group(const struct question *q, const struct row *a, const struct row *b)
{
    return a->color == b->color && (!q->by_number || a->number == b->number);
}

/* One group after another, by looking at all pairs. */
static uint32_t keep_groups(const struct question *q, struct ranked *list, uint32_t count)
{
    struct ranked kept[ROWS_MAX], group[ROWS_MAX];
    uint32_t kept_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool seen = false;
        for (uint32_t j = 0; j < i; j++)
            seen |= same_group(q, list[j].row, list[i].row);
        uint32_t in_group = 0;
        for (uint32_t j = i; !seen && j < count; j++)
            if (same_group(q, list[i].row, list[j].row))
                group[in_group++] = list[j];
        grouping = q;
        qsort(group, in_group, sizeof(*group), by_group_order);
        for (uint32_t j = 0; j < in_group && j < q->k; j++)
            kept[kept_count++] = group[j];
    }
    memcpy(list, kept, kept_count * sizeof(*kept));
    qsort(list, kept_count, sizeof(*list), by_score);
    return kept_count;
}

static uint32_t expected_hits(const struct question *q, const struct table *table,
                              struct ranked *list)
{
    struct map map;
    uint32_t count = 0;
    if (q->rank)
        evaluate(q->rank, table, q->filter, &map);
    for (uint32_t i = 0; i < table->count; i++) {
        const struct row *row = &table->rows[i];
        if (q->rank ? map.has[i] : row->live && q->filter->passes(row))
            list[count++] = (struct ranked){row, q->rank ? map.value[i] : (float)row->order};
    }
    qsort(list, count, sizeof(*list), by_score);
    for (uint32_t i = 0; !q->rank && i < count; i++)
        list[i].score = (float)i;
    if (q->grouped)
        count = keep_groups(q, list, count);
    uint32_t first = q->offset < count ? q->offset : count;
    count = count - first < q->limit ? count - first : q->limit;
    memmove(list, list + first, count * sizeof(*list));
    return count;
}

/* ---- the records ---- */

static void write_row(struct stack *s, uuid id, struct table *table, uint32_t at,
                      struct random *random)
{
    struct row *row = &table->rows[at];
    if (!row->live)
        row->order = table->next_order++;
    row->live = true;
    row->at = (float)below(random, 30);
    row->color = (int)below(random, 5) - 1;
    row->number = (int)below(random, 6) - 1;
    if (below(random, 12) == 0)
        row->color = 9;
    char text[96];
    size_t len = 0;
    /* an upsert keeps what it does not name: null takes away */
    len += (size_t)(row->color < 0    ? snprintf(text, sizeof(text), "{\"c\":null")
                    : row->color == 9 ? snprintf(text, sizeof(text), "{\"c\":true")
                                      : snprintf(text, sizeof(text), "{\"c\":\"c%d\"", row->color));
    if (row->number < 0)
        (void)snprintf(text + len, sizeof(text) - len, ",\"n\":null}");
    else
        (void)snprintf(text + len, sizeof(text) - len, ",\"n\":%d}", row->number);
    stack_write(s, id,
                &(struct stack_row){
                    .op = BATCH_UPSERT, .id = row->id, .value = row->at, .metadata_json = text},
                1);
}

static void change(struct stack *s, uuid id, struct table *table, struct random *random)
{
    uint32_t what = below(random, 20);
    if (what == 0) {
        stack_flush(s, id);
    } else if (what < 4 && table->count) {
        struct row *row = &table->rows[below(random, table->count)];
        if (row->live)
            stack_delete(s, id, row->id);
        row->live = false;
    } else if (what < 8 && table->count) {
        write_row(s, id, table, below(random, table->count), random);
    } else if (table->count < ROWS_MAX) {
        uint32_t at = table->count++;
        (void)snprintf(table->rows[at].id, sizeof(table->rows[at].id), "r%u", (unsigned)at);
        write_row(s, id, table, at, random);
    }
}

/* ---- asking ---- */

static void search(struct stack *s, uuid id, const char *text, struct arena *arena,
                   struct query_result *ret)
{
    struct json_value body;
    struct json_fault fault;
    struct search_request request;
    OK(json_read(slice_of(text), NULL, arena, &body, &fault, err));
    OK(search_parse(&body, slice_of(text), arena, &request, err));
    OK(search_check(&request, err));
    struct plan plan = {.kind = PLAN_SEARCH,
                        .collection = id,
                        .limit = PLAN_NO_LIMIT,
                        .recall = 1,
                        .searches = request.searches,
                        .search_count = request.count};
    OK(query_run(s->query, &plan, NULL, arena, ret, err));
    assert_int_equal(ret->hit_count, request.count);
}

static void ask_and_compare(struct stack *s, uuid id, const struct table *table,
                            struct random *random)
{
    struct arena arena;
    struct question questions[3];
    struct query_result result;
    CLEANUP(buf_cleanup) struct buf text;
    arena_init(&arena, &s->budget, 0);
    buf_init(&text, BUF_MAX_NONE);
    uint32_t count = 1 + below(random, COUNT_OF(questions));
    for (uint32_t i = 0; i < count; i++) {
        random_question(random, &arena, &questions[i]);
        buf_byte(&text, i ? ',' : '[');
        write_question(&questions[i], &text);
    }
    buf_text(&text, "]");
    buf_byte(&text, 0);
    const char *asked = (const char *)text.at;
    search(s, id, asked, &arena, &result);
    for (uint32_t i = 0; i < count; i++) {
        struct ranked list[ROWS_MAX];
        uint32_t expected = expected_hits(&questions[i], table, list);
        const struct query_hits *hits = &result.hits[i];
        if (hits->count != expected)
            fail_msg("payload %u: %zu hits, not %u: %s", i, hits->count, expected, asked);
        for (uint32_t j = 0; j < expected; j++) {
            slice name = hits->rows[j].record.id;
            if (!slice_equal(name, slice_of(list[j].row->id)) ||
                memcmp(&hits->rows[j].distance, &list[j].score, sizeof(float)) != 0)
                fail_msg("payload %u, hit %u: %.*s %.9g, not %s %.9g: %s", i, j, SLICE_ARG(name),
                         (double)hits->rows[j].distance, list[j].row->id, (double)list[j].score,
                         asked);
        }
    }
    query_result_done(&result);
    arena_done(&arena);
}

static void searches_answer_like_a_plain_evaluator(void **state)
{
    (void)state;
    const char *rounds = getenv("SEARCH_ROUNDS");
    unsigned long most = rounds ? strtoul(rounds, NULL, 10) : 12;
    for (unsigned long round = 0; round < most; round++) {
        struct stack s = {.threads = 3};
        struct table table = {0};
        struct random random;
        char name[24];
        stack_open(&s);
        random_seed(&random, 1000 + round);
        (void)snprintf(name, sizeof(name), "round%lu", round);
        uuid id = stack_collection(&s, name, "l2");
        for (int step = 0; step < 150; step++) {
            change(&s, id, &table, &random);
            if (table.count && step % 3 == 0)
                for (int i = 0; i < 12; i++)
                    ask_and_compare(&s, id, &table, &random);
        }
        stack_done(&s);
    }
}

static void a_collection_without_vectors_has_no_neighbours(void **state)
{
    (void)state;
    struct stack s = {0};
    struct arena arena;
    struct query_result result;
    stack_open(&s);
    arena_init(&arena, NULL, 0);
    uuid id = stack_collection(&s, "empty", "l2");
    static const char *const text =
        "[{},{\"rank\":{\"$knn\":{\"query\":[1,2]}}},{\"rank\":{\"$sum\":[{\"$knn\":{\"query\":[1],"
        "\"default\":1}},{\"$val\":2}]}}]";
    search(&s, id, text, &arena, &result);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(result.hits[i].count, 0);
    query_result_done(&result);
    stack_write(&s, id, &(struct stack_row){.op = BATCH_ADD, .id = "a", .no_vector = true}, 1);
    search(&s, id, text, &arena, &result);
    assert_int_equal(result.hits[0].count, 1);
    assert_int_equal(result.hits[1].count, 0);
    assert_int_equal(result.hits[2].count, 0);
    query_result_done(&result);
    arena_done(&arena);
    stack_done(&s);
}

static och_code try_search(struct stack *s, uuid id, const char *text,
                           const struct limits_of_work *limits, och_error *err)
{
    struct arena arena;
    struct json_value body;
    struct json_fault fault;
    struct search_request request;
    struct query_result result;
    arena_init(&arena, &s->budget, 0);
    och_code code = json_read(slice_of(text), NULL, &arena, &body, &fault, err);
    if (code == OCH_OK)
        code = search_parse(&body, slice_of(text), &arena, &request, err);
    if (code == OCH_OK) {
        struct plan plan = {.kind = PLAN_SEARCH,
                            .collection = id,
                            .searches = request.searches,
                            .search_count = request.count};
        code = query_run(s->query, &plan, limits, &arena, &result, err);
        query_result_done(&result);
    }
    arena_done(&arena);
    return code;
}

static void wrong_dimensions_and_patterns_are_refused(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "wrong", "l2");
    stack_add_many(&s, id, 0, 4);
    FAILS(OCH_INVALID, "Collection expecting embedding with dimension of 4, got 3",
          try_search(&s, id, "[{},{\"rank\":{\"$sum\":[{\"$knn\":{\"query\":[1,2,3]}}]}}]", NULL,
                     err));
    FAILS(OCH_INVALID, "Collection expecting embedding with dimension of 4, got 0",
          try_search(&s, id, "[{\"rank\":{\"$knn\":{\"query\":[]}}}]", NULL, err));
    FAILS(OCH_INVALID, "Regex",
          try_search(&s, id, "[{\"filter\":{\"#document\":{\"$regex\":\"(\"}}}]", NULL, err));
    FAILS(OCH_NOT_FOUND, "", try_search(&s, (uuid){{1}}, "[{}]", NULL, err));
    stack_done(&s);
}

static struct stack *failing;
static uuid failing_id;
static och_code search_once(och_error *err)
{
    return try_search(
        failing, failing_id,
        "[{\"rank\":{\"$sum\":[{\"$knn\":{\"query\":[1,1,0,0]}},{\"$knn\":{\"query\":[2,1,0,0],"
        "\"limit\":2}}]},\"group_by\":{\"keys\":[\"c\"],\"aggregate\":{\"$min_k\":{\"keys\":[\"n\"]"
        ","
        "\"k\":1}}},\"select\":{\"keys\":[\"#metadata\"]}},{\"filter\":{\"n\":{\"$gt\":0}}}]",
        NULL, err);
}

static void no_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    struct stack s = {0};
    struct table table = {0};
    struct random random;
    stack_open(&s);
    random_seed(&random, 3);
    uuid id = stack_collection(&s, "memory", "l2");
    for (int i = 0; i < 60; i++)
        change(&s, id, &table, &random);
    failing = &s;
    failing_id = id;
    och_error err = {0};
    assert_int_equal(search_once(&err), OCH_OK);
    och_code code = OCH_NO_MEMORY;
    for (uint64_t nth = 1; nth < 5000 && code != OCH_OK; nth++) {
        mem_fail_at(nth);
        code = search_once(&err);
        mem_fail_at(0);
        if (code != OCH_OK && code != OCH_NO_MEMORY)
            fail_msg("allocation %d: code %d, %s", (int)nth, (int)code, err.message);
    }
    assert_int_equal(code, OCH_OK);
    stack_done(&s);
}

static void deadlines_stop_a_search(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "late", "l2");
    stack_add_many(&s, id, 0, 4);
    struct limits_of_work limits = {.deadline_mono_ns = 1};
    FAILS(OCH_DEADLINE, "", try_search(&s, id, "[{}]", &limits, err));
    stack_done(&s);
}

/* Parts with an index and a tail: what $knn ranks is what a query finds, to the bit, several lists at once and each with its limit. */
static void knn_ranks_what_a_query_finds(void **state)
{
    (void)state;
    enum { DIM = 16, ROWS = 12000, TAIL = 500 };
    struct stack s = {.threads = 3};
    stack_open(&s);
    uuid id = stack_collection(&s, "indexed", "cosine");
    float *vectors = asking_clusters(ROWS + TAIL, DIM, 40, 5);
    asking_write(&s, id, vectors, DIM, 0, ROWS, BATCH_ADD);
    stack_flush(&s, id);
    asking_write(&s, id, vectors, DIM, ROWS, TAIL, BATCH_ADD);
    static const char *const filters_[] = {NULL, "{\"n\":{\"$lt\":20}}", "{\"n\":7}"};
    static const uint32_t limits[] = {10, 10, 25};
    for (size_t f = 0; f < COUNT_OF(filters_); f++) {
        for (uint32_t round = 0; round < 5; round++) {
            struct arena arena;
            struct query_result result;
            CLEANUP(buf_cleanup) struct buf text;
            arena_init(&arena, &s.budget, 0);
            buf_init(&text, BUF_MAX_NONE);
            for (uint32_t q = 0; q < 3; q++) {
                buf_printf(&text, "%s{\"filter\":%s,\"rank\":{\"$sum\":[", q ? "," : "[",
                           filters_[f] ? filters_[f] : "null");
                for (uint32_t v = 0; v < 3;
                     v++) { /* one alone supports; the others have defaults */
                    buf_printf(&text,
                               "%s{\"$mul\":[{\"$val\":%d},{\"$knn\":{\"limit\":%u,%s\"query\":",
                               v ? "," : "", v == q, limits[v], v == q ? "" : "\"default\":0,");
                    json_write_f32_array(&text, vectors + (size_t)(round * 31 + v * 7) * DIM, DIM);
                    buf_text(&text, "}}]}");
                }
                buf_text(&text, "]}}");
            }
            buf_text(&text, "]");
            buf_byte(&text, 0);
            search(&s, id, (const char *)text.at, &arena, &result);
            for (uint32_t q = 0; q < 3; q++) {
                struct asked found;
                asking_ask(&s, id, vectors + (size_t)(round * 31 + q * 7) * DIM, DIM, limits[q], 1,
                           filters_[f], &found);
                assert_int_equal(result.hits[q].count, found.count);
                for (size_t i = 0; i < found.count; i++) {
                    char name[16];
                    (void)snprintf(name, sizeof(name), "r%u", found.rows[i]);
                    assert_true(slice_equal(result.hits[q].rows[i].record.id, slice_of(name)));
                    assert_memory_equal(&result.hits[q].rows[i].distance, &found.distances[i],
                                        sizeof(float));
                }
            }
            query_result_done(&result);
            arena_done(&arena);
        }
    }
    free(vectors);
    stack_done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(searches_answer_like_a_plain_evaluator),
        cmocka_unit_test(knn_ranks_what_a_query_finds),
        cmocka_unit_test(a_collection_without_vectors_has_no_neighbours),
        cmocka_unit_test(wrong_dimensions_and_patterns_are_refused),
        cmocka_unit_test(no_memory_is_an_error_and_leaks_nothing),
        cmocka_unit_test(deadlines_stop_a_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
