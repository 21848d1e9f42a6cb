/* SPDX-License-Identifier: Apache-2.0 */
/* Rows, questions and the plain evaluator of test_rank.c: maps over all records, node by node. */
#ifndef PROP_RANK_MODEL_H
#define PROP_RANK_MODEL_H

#include "base/buf.h"
#include "base/clock.h"
#include "kernel/kernel.h"
#include "model/plan.h"
#include "model/terms.h"
#include "support/filter_rules.h"
#include "json/json.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define ROWS_MAX 200
#define DIMS     12
#define WORDS    14
#define FILLER   "zz zz zz zz zz zz zz zz zz zz zz zz zz zz zz zz zz zz zz zz "

struct row {
    char id[16];
    bool live, has_vector, has_document;
    uint32_t order; /* of insertion */
    float at;       /* the vector is {at, 1, 0, 0} */
    uint32_t color, number;
    uint32_t dim_count, dims[DIMS];
    float weights[DIMS];
    uint32_t counts[WORDS], length;
    char document[2400], uri[16]; /* "": none */
    char extra[10500];
    struct arena arena; /* of what filters see */
    struct ruled ruled;
};
struct table {
    struct row rows[ROWS_MAX];
    uint32_t count, next_order;
    bool filler, long_tail;
    enum metric metric;
};

static uint32_t below(struct random *random, uint32_t bound)
{
    return (uint32_t)random_below(random, bound);
}

/* ---- words ---- */

/* One term each, however it is written. */
static const char *const words[WORDS][3] = {{"alpha", "Alpha", "ALPHA"},
                                            {"beta", "BETA", "bEtA"},
                                            {"x1", "X1", "x1"},
                                            {"2024", "2024", "2024"},
                                            {"привет", "ПРИВЕТ", "Привет"},
                                            {"σίγμας", "ΣΊΓΜΑΣ", "σίγμασ"},
                                            {"naïve", "NAÏVE", "Naïve"},
                                            {"日本", "日本", "日本"},
                                            {"水", "水", "水"},
                                            {"한국", "한국", "한국"},
                                            {"straße", "STRAẞE", "Straße"},
                                            {"zz", "ZZ", "zZ"},
                                            {"ｆｕｌｌ", "full", "ＦＵＬＬ"},
                                            {"क्षत्रिय", "क्षत्रिय", "क्षत्रिय"}};
static uint32_t word_terms[WORDS], word_order[WORDS];

static int by_term(const void *a, const void *b)
{
    uint32_t x = word_terms[*(const uint32_t *)a], y = word_terms[*(const uint32_t *)b];
    return (x > y) - (x < y);
}

/* Terms of the words; their order is that of the sums. */
static void model_init(void)
{
    for (uint32_t w = 0; w < WORDS; w++) {
        for (uint32_t v = 0; v < 3; v++) {
            struct terms walk = terms_of(slice_of(words[w][v]));
            uint32_t term, more;
            assert_true(terms_next(&walk, &term));
            assert_false(terms_next(&walk, &more));
            if (v)
                assert_int_equal(term, word_terms[w]);
            word_terms[w] = term;
        }
        word_order[w] = w;
    }
    qsort(word_order, WORDS, sizeof(*word_order), by_term);
    for (uint32_t w = 1; w < WORDS; w++)
        assert_true(word_terms[word_order[w - 1]] < word_terms[word_order[w]]);
}

static void random_document(struct random *random, struct row *row, bool filler)
{
    static const char *const between[] = {" ", ", ", "\\n", " — ", "...", " 。", "\\t"};
    size_t at = 0;
    row->has_document = below(random, 10) != 0;
    row->length = 0;
    row->document[0] = 0;
    memset(row->counts, 0, sizeof(row->counts));
    uint32_t count = below(random, 6) ? below(random, 14) : below(random, 60);
    for (uint32_t i = 0; i < count && row->has_document; i++) {
        uint32_t word = below(random, 1 + below(random, WORDS));
        const char *gap = between[below(random, COUNT_OF(between))];
        gap = *gap == '\\' ? (gap[1] == 'n' ? "\n" : "\t") : gap;
        at += (size_t)snprintf(row->document + at, sizeof(row->document) - at, "%s%s",
                               words[word][below(random, 3)], gap);
        row->counts[word]++;
        row->length++;
    }
    for (uint32_t i = below(random, 3); filler && row->has_document && i < 16; i++) {
        at += (size_t)snprintf(row->document + at, sizeof(row->document) - at, FILLER);
        row->counts[11] += 20;
        row->length += 20;
    }
    assert_true(at < sizeof(row->document));
}

static struct rule_writer rules; /* filters, and values of their keys */

/* What other keys have, ,"a":1,"ab":null, and the JSON of all but sparse vectors. */
static void random_extra(struct random *random, struct row *row)
{
    static const char *const others[] = {"a", "b", "ab", "zz"};
    random_seed(&rules.random, below(random, UINT32_MAX));
    buf_clear(&rules.text);
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        buf_printf(&rules.text, ",\"%s\":", others[i]);
        if (rule_below(&rules, 3))
            rule_write_value(&rules);
        else
            buf_text(&rules.text, "null");
    }
    buf_byte(&rules.text, 0);
    assert_true(rules.text.len <= sizeof(row->extra));
    memcpy(row->extra, rules.text.at, rules.text.len);
    buf_clear(&rules.text);
}

static void write_colors(const struct row *row, struct buf *out)
{
    static const char *const colors[] = {"null", "\"c0\"", "\"c1\"", "\"c2\"", "\"c3\"",
                                         "true", "false",  "7",      "7.5"};
    static const char *const numbers[] = {"null", "0", "1", "2", "3", "1.0", "2.5"};
    buf_printf(out, "{\"c\":%s,\"n\":%s%s", colors[row->color], numbers[row->number], row->extra);
}

static struct json_value *json_in(struct arena *arena, slice text)
{
    struct json_value *value = ARENA_NEW(arena, struct json_value);
    struct json_fault fault;
    och_error err = {0};
    if (json_read(text, NULL, arena, value, &fault, &err) != OCH_OK)
        fail_msg("%s: %.*s", err.message, SLICE_ARG(text));
    return value;
}

/* As filters and groups see it, from now on. */
static void see(struct row *row)
{
    struct buf out;
    uint32_t kept = 0;
    arena_done(&row->arena);
    arena_init(&row->arena, NULL, 0);
    buf_init(&out, BUF_MAX_NONE);
    write_colors(row, &out);
    buf_byte(&out, '}');
    struct json_value *all = json_in(&row->arena, arena_copy(&row->arena, buf_view(&out)));
    buf_done(&out);
    struct json_member *members = ARENA_ARRAY(&row->arena, struct json_member, all->count);
    for (uint32_t i = 0; i < all->count; i++) {
        if (all->members[i].value.kind != JSON_NULL)
            members[kept++] = all->members[i];
    }
    all->members = members;
    all->count = kept;
    row->ruled =
        (struct ruled){.id = slice_of(row->id),
                       .metadata = all,
                       .document = row->has_document ? slice_of(row->document) : SLICE_NONE};
}

static void random_metadata(struct random *random, struct row *row)
{
    row->color = below(random, 9);
    row->number = below(random, 7);
    row->dim_count = 0;
    for (uint32_t dim = 0; dim < DIMS; dim++) {
        if (below(random, 4 + dim) > 1)
            continue;
        row->dims[row->dim_count] = dim;
        row->weights[row->dim_count++] = (float)below(random, 400) / 100 - 1;
    }
}

static void write_sparse(const uint32_t *dims, const float *weights, uint32_t count,
                         struct buf *out)
{
    buf_text(out, "{\"indices\":[");
    for (uint32_t i = 0; i < count; i++)
        buf_printf(out, "%s%u", i ? "," : "", dims[i]);
    buf_text(out, "],\"values\":[");
    for (uint32_t i = 0; i < count; i++)
        buf_printf(out, "%s%.9g", i ? "," : "", (double)weights[i]);
    buf_text(out, "],\"#type\":\"sparse_vector\"}");
}

/* ---- questions ---- */

enum list_kind { DENSE, SPARSE_PLAIN, SPARSE_RARE, TEXT, LIST_KINDS };
struct node {
    uint8_t op; /* enum rank_op */
    float value;
    enum list_kind kind;
    uint32_t limit;
    bool has_fallback, return_rank, has_max, brief; /* brief: what is so anyway is not said */
    float fallback, max_distance;
    uint32_t dim_count, dims[DIMS];
    float weights[DIMS];
    float idf[DIMS + WORDS]; /* of dims, or of words; and how long documents are: of evaluating */
    float per_term;
    uint32_t asked[WORDS]; /* how often */
    slice text;
    struct node *children[3];
    uint32_t child_count;
};

static const char *const op_names[] = {
    [RANK_VAL] = "$val", [RANK_KNN] = "$knn", [RANK_ADD] = "$sum", [RANK_MUL] = "$mul",
    [RANK_MAX] = "$max", [RANK_MIN] = "$min", [RANK_SUB] = "$sub", [RANK_DIV] = "$div",
    [RANK_ABS] = "$abs", [RANK_EXP] = "$exp", [RANK_LOG] = "$log"};

static void random_text(struct random *random, struct arena *arena, struct node *node)
{
    struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    for (uint32_t i = below(random, 5); i > 0; i--) {
        uint32_t word = below(random, WORDS + 1);
        if (word == WORDS) {
            buf_text(&out, "nowhere! ");
            continue;
        }
        buf_printf(&out, "%s ", words[word][below(random, 3)]);
        node->asked[word]++;
    }
    node->text = arena_copy(arena, buf_view(&out));
    buf_done(&out);
}

static void random_list(struct random *random, struct arena *arena, struct node *node)
{
    static const float fallbacks[] = {7.5f, 0, -3, 1e30f};
    static struct row like;
    node->kind = (enum list_kind)below(random, LIST_KINDS);
    node->value = (float)below(random, 30);
    node->limit = below(random, 3) ? below(random, 12) : below(random, 200);
    node->has_fallback = below(random, 2);
    node->fallback = fallbacks[below(random, COUNT_OF(fallbacks))];
    node->return_rank = below(random, 2);
    node->brief = below(random, 3) == 0;
    if (node->brief)
        node->limit = 16;
    node->has_max = node->kind != TEXT && below(random, 5) == 0;
    node->max_distance = (float)((int)below(random, 60) - 10) / 4;
    random_metadata(random, &like);
    node->dim_count = like.dim_count;
    memcpy(node->dims, like.dims, sizeof(node->dims));
    memcpy(node->weights, like.weights, sizeof(node->weights));
    if (node->kind == TEXT)
        random_text(random, arena, node);
}

static struct node *random_node(struct random *random, struct arena *arena, unsigned depth)
{
    struct node *node = ARENA_NEW(arena, struct node);
    assert_non_null(node);
    bool leaf = depth == 0 || below(random, 4) == 0;
    node->op = leaf ? (below(random, 4) ? RANK_KNN : RANK_VAL)
                    : (uint8_t)(RANK_ADD + below(random, RANK_LOG - RANK_ADD + 1));
    node->value = (float)((int)below(random, 41) - 20) / 4;
    if (node->op == RANK_KNN)
        random_list(random, arena, node);
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

static void write_list(const struct node *node, struct buf *out)
{
    buf_text(out, node->kind == TEXT ? "{\"$bm25\":{\"query\":" : "{\"$knn\":{\"query\":");
    if (node->kind == DENSE)
        buf_printf(out, "[%g,1,0,0]", (double)node->value);
    else if (node->kind == TEXT)
        json_write_string(out, node->text);
    else
        write_sparse(node->dims, node->weights, node->dim_count, out);
    if (node->kind == SPARSE_PLAIN || node->kind == SPARSE_RARE)
        buf_printf(out, ",\"key\":\"%s\"", node->kind == SPARSE_RARE ? "rare" : "plain");
    else if (node->kind == DENSE && node->limit % 2) /* of no matter for dense ones */
        buf_text(out, node->limit % 4 == 1 ? ",\"key\":\"#embedding\"" : ",\"key\":\"rare\"");
    if (!node->brief)
        buf_printf(out, ",\"limit\":%u", node->limit);
    if (node->has_fallback)
        buf_printf(out, ",\"default\":%.9g", (double)node->fallback);
    else if (!node->brief)
        buf_text(out, ",\"default\":null");
    if (node->has_max)
        buf_printf(out, ",\"max_distance\":%g", (double)node->max_distance);
    if (node->return_rank || !node->brief)
        buf_printf(out, ",\"return_rank\":%s", node->return_rank ? "true" : "false");
    buf_text(out, "}}");
}

static void write_node(const struct node *node, struct buf *out)
{
    if (node->op == RANK_KNN) {
        write_list(node, out);
        return;
    }
    buf_printf(out, "{\"%s\":", op_names[node->op]);
    if (node->op == RANK_VAL) {
        buf_printf(out, "%g", (double)node->value);
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

/* clause NULL: all pass. */
struct filter_choice {
    slice json;
    const struct json_value *clause;
};
static bool passes(const struct filter_choice *filter, const struct row *row)
{
    return !filter->clause || rule_truth(&row->ruled, filter->clause);
}

static const char *const filters[] = {
    "{\"c\":\"c0\"}",
    "{\"c\":{\"$ne\":\"c0\"}}",
    "{\"n\":{\"$gte\":2}}",
    "{\"#document\":{\"$contains\":\"alpha\"}}",
    "{\"#document\":{\"$not_contains\":\"alpha\"}}",
    "{\"#id\":{\"$in\":[\"r40\",\"r1\",\"zz\",\"r7\"]}}",
    "{\"c\":\"nobody\"}",
};

static void random_filter(struct random *random, uint32_t rows, struct arena *arena,
                          struct filter_choice *filter)
{
    uint32_t form = below(random, 8);
    *filter = (struct filter_choice){.json = form & 1 ? SLICE("null") : SLICE("{}")};
    if (form < 3)
        return;
    if (form == 3) {
        filter->json = slice_of(filters[below(random, COUNT_OF(filters))]);
    } else {
        random_seed(&rules.random, below(random, UINT32_MAX));
        rules.ids = (int)rows + 1;
        buf_clear(&rules.text);
        rule_write_clause(&rules, below(random, 4), false);
        filter->json = arena_copy(arena, buf_view(&rules.text));
        buf_clear(&rules.text);
    }
    filter->clause = json_in(arena, filter->json);
}

/* What groups are of and sorted by. */
static const char *const key_names[] = {['a'] = "a", ['b'] = "ab", ['c'] = "c",      ['i'] = "#id",
                                        ['n'] = "n", ['o'] = "b",  ['s'] = "#score", ['z'] = "zz"};
static const char *const group_keys[] = {"c", "n", "cn", "nc", "a", "b", "zc", "i", "ncz", "cc"};
static const char *const order_keys[] = {"s",  "n",  "ns", "cs", "cn", "sn",
                                         "as", "zo", "b",  "i",  "is", "oan"};

struct question {
    struct filter_choice filter;
    struct node *rank; /* NULL: none */
    bool grouped, max_k;
    const char *keys, *order;
    uint32_t k, offset;
    uint64_t limit; /* PLAN_NO_LIMIT */
};

static void random_question(struct random *random, uint32_t rows, struct arena *arena,
                            struct question *q)
{
    *q = (struct question){.grouped = below(random, 2),
                           .max_k = below(random, 2),
                           .keys = group_keys[below(random, COUNT_OF(group_keys))],
                           .order = order_keys[below(random, COUNT_OF(order_keys))],
                           .k = below(random, 6) ? 1 + below(random, 3) : UINT32_MAX,
                           .offset = below(random, 3) ? 0 : below(random, 20),
                           .limit = below(random, 6) ? below(random, 40) : PLAN_NO_LIMIT};
    random_filter(random, rows, arena, &q->filter);
    if (below(random, 12))
        q->rank = random_node(random, arena, below(random, 5));
    q->grouped = q->grouped && q->rank;
}

static void write_keys(const char *keys, struct buf *out)
{
    for (const char *key = keys; *key; key++)
        buf_printf(out, "%s\"%s\"", key == keys ? "" : ",", key_names[(unsigned char)*key]);
}

/* Its closing brace is the caller's. */
static void write_question(const struct question *q, struct buf *out)
{
    buf_printf(out, "{\"%s\":%.*s", q->k % 2 ? "filter" : "where", SLICE_ARG(q->filter.json));
    if (q->limit != PLAN_NO_LIMIT)
        buf_printf(out, ",\"limit\":{\"offset\":%u,\"limit\":%u}", q->offset, (unsigned)q->limit);
    else if (q->offset)
        buf_printf(out, ",\"limit\":{\"offset\":%u}", q->offset);
    if (q->rank) {
        buf_text(out, ",\"rank\":");
        write_node(q->rank, out);
    }
    if (q->grouped) {
        buf_text(out, ",\"group_by\":{\"keys\":[");
        write_keys(q->keys, out);
        buf_printf(out, "],\"aggregate\":{\"%s\":{\"keys\":[", q->max_k ? "$max_k" : "$min_k");
        write_keys(q->order, out);
        buf_printf(out, "],\"k\":%u}}}", q->k);
    }
}

/* ---- rankings ---- */

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

static float idf_of(uint32_t all, uint32_t holders)
{
    return (float)log1p(((double)all - holders + 0.5) / (holders + 0.5));
}

static const float *weight_at(const struct row *row, uint32_t dim)
{
    for (uint32_t i = 0; i < row->dim_count; i++)
        if (row->dims[i] == dim)
            return &row->weights[i];
    return NULL;
}

/* How rare a list's dimensions or words are at this moment. */
static void weigh(struct node *node, const struct table *table)
{
    uint32_t live = 0, documents = 0, length = 0;
    for (uint32_t r = 0; r < table->count; r++) {
        const struct row *row = &table->rows[r];
        live += row->live;
        documents += row->live && row->has_document;
        length += row->live && row->has_document ? row->length : 0;
    }
    node->per_term = length ? (float)(1.2 * 0.75 / ((double)length / documents)) : 0;
    for (uint32_t i = 0; i < (node->kind == TEXT ? WORDS : node->dim_count); i++) {
        uint32_t holders = 0;
        for (uint32_t r = 0; r < table->count; r++)
            holders += table->rows[r].live &&
                       (node->kind == TEXT ? table->rows[r].counts[i] != 0
                                           : weight_at(&table->rows[r], node->dims[i]) != NULL);
        node->idf[i] = idf_of(node->kind == TEXT ? documents : live, holders);
    }
}

static bool sparse_of(const struct node *node, const struct row *row, float *ret)
{
    double sum = 0;
    bool holds = false;
    for (uint32_t i = 0; i < node->dim_count; i++) {
        const float *held = weight_at(row, node->dims[i]);
        if (!held)
            continue;
        float weight = node->weights[i];
        if (node->kind == SPARSE_RARE)
            weight *= node->idf[i];
        sum += (double)weight * (double)*held;
        holds = true;
    }
    *ret = 1 - (float)sum;
    return holds;
}

/* BM25 with k1 1.2 and b 0.75: count·2.2 / (count + 0.3 + 0.9·length/average). */
static bool text_of(const struct node *node, const struct row *row, float *ret)
{
    double sum = 0;
    bool holds = false;
    float base = (float)(1.2 * (1 - 0.75));
    for (uint32_t i = 0; i < WORDS; i++) {
        uint32_t w = word_order[i];
        if (!node->asked[w] || !row->has_document || !row->counts[w])
            continue;
        float count = (float)row->counts[w];
        float weight = count * 2.2f / (count + (base + node->per_term * (float)row->length));
        sum += (double)((float)node->asked[w] * node->idf[w]) * (double)weight;
        holds = true;
    }
    *ret = 1 - (float)sum;
    return holds;
}

static float dense_of(enum metric metric, float a, float b)
{
    const struct kernel *kernel = kernel_get();
    const float x[4] = {a, 1}, y[4] = {b, 1};
    if (metric == METRIC_L2)
        return kernel->l2_f32(x, y, 4);
    float dot = kernel->dot_f32(x, y, 4);
    if (metric == METRIC_IP)
        return kernel_ip_distance(dot);
    return kernel_cosine_distance(dot, kernel->dot_f32(x, x, 4), kernel->dot_f32(y, y, 4));
}

static bool score_of(const struct node *node, const struct table *table, const struct row *row,
                     float *ret)
{
    if (node->kind == TEXT)
        return text_of(node, row, ret);
    if (node->kind != DENSE)
        return sparse_of(node, row, ret);
    *ret = dense_of(table->metric, node->value, row->at);
    return row->has_vector;
}

static void evaluate_list(struct node *node, const struct table *table, const bool *passing,
                          struct map *map)
{
    struct ranked list[ROWS_MAX];
    uint32_t count = 0;
    weigh(node, table);
    for (uint32_t i = 0; i < table->count; i++) {
        const struct row *row = &table->rows[i];
        float score;
        if (passing[i] && score_of(node, table, row, &score))
            list[count++] = (struct ranked){row, score};
    }
    qsort(list, count, sizeof(*list), by_score);
    for (uint32_t i = 0; i < count && i < node->limit; i++) {
        if (node->has_max && !(list[i].score <= node->max_distance))
            break;
        uint32_t at = (uint32_t)(list[i].row - table->rows);
        map->has[at] = true;
        map->value[at] = node->return_rank ? (float)i : list[i].score;
    }
    map->has_fallback = node->has_fallback;
    map->fallback = node->fallback;
}

/* ---- expressions ---- */

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

static void evaluate(struct node *node, const struct table *table, const bool *passing,
                     struct map *map)
{
    memset(map, 0, sizeof(*map));
    struct map other;
    if (node->op == RANK_KNN) {
        evaluate_list(node, table, passing, map);
    } else if (node->op == RANK_VAL) {
        map->has_fallback = true;
        map->fallback = node->value;
    } else if (node->op >= RANK_ABS) {
        evaluate(node->children[0], table, passing, map);
        for (uint32_t i = 0; i < table->count; i++)
            if (map->has[i])
                map->value[i] = op_of(node->op, map->value[i], 0);
        if (map->has_fallback)
            map->fallback = op_of(node->op, map->fallback, 0);
    } else if (node->op >= RANK_SUB) {
        evaluate(node->children[0], table, passing, map);
        evaluate(node->children[1], table, passing, &other);
        combine(node->op, map, &other, table->count);
    } else {
        map->has_fallback = true;
        map->fallback = node->op == RANK_ADD   ? 0
                        : node->op == RANK_MUL ? 1
                        : node->op == RANK_MAX ? -FLT_MAX
                                               : FLT_MAX;
        for (uint32_t i = 0; i < node->child_count; i++) {
            evaluate(node->children[i], table, passing, &other);
            combine(node->op, map, &other, table->count);
        }
    }
}

/* ---- groups ---- */

static int compare_under(const struct row *a, const struct row *b, char key)
{
    slice name = slice_of(key_names[(unsigned char)key]);
    const struct json_value *x = json_get(a->ruled.metadata, name),
                            *y = json_get(b->ruled.metadata, name);
    return x && y ? rule_compare(x, y, false) : !y - !x;
}

static const struct question *grouping; /* of the sort below */

static int by_group_order(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    int order = 0;
    for (const char *key = grouping->order; *key && !order; key++) {
        if (*key == 's') {
            order = rank_compare(x->score, y->score);
            continue;
        }
        order = compare_under(x->row, y->row, *key);
    }
    if (order == 0)
        return by_score(a, b);
    return grouping->max_k ? -order : order;
}

static bool same_group(const struct question *q, const struct row *a, const struct row *b)
{
    for (const char *key = q->keys; *key; key++)
        if (compare_under(a, b, *key) != 0)
            return false;
    return true;
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
    bool passing[ROWS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < table->count; i++)
        passing[i] = table->rows[i].live && passes(&q->filter, &table->rows[i]);
    if (q->rank)
        evaluate(q->rank, table, passing, &map);
    for (uint32_t i = 0; i < table->count; i++) {
        const struct row *row = &table->rows[i];
        if (q->rank ? map.has[i] : passing[i])
            list[count++] = (struct ranked){row, q->rank ? map.value[i] : (float)row->order};
    }
    qsort(list, count, sizeof(*list), by_score);
    for (uint32_t i = 0; !q->rank && i < count; i++)
        list[i].score = (float)i;
    if (q->grouped)
        count = keep_groups(q, list, count);
    uint32_t first = q->offset < count ? q->offset : count;
    count = count - first < q->limit ? count - first : (uint32_t)q->limit;
    memmove(list, list + first, count * sizeof(*list));
    return count;
}
#endif
