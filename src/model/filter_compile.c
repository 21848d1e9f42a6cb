/* SPDX-License-Identifier: Apache-2.0 */
/* From the tree to rules that are ready to match: negations pulled up, numbers brought to one
 * form, lists sorted or hashed, patterns compiled, children ordered by cost.
 * A filter owns copies of all it needs; the tree may go. */
#include "model/filter_internal.h"
#include "model/limits.h"

#include <math.h>
#include <stdlib.h>

#define STRINGS_HASHED 16 /* from here a hash beats a binary search */

enum cost {
    COST_NONE,
    COST_ID,
    COST_METADATA,
    COST_META_REGEX,
    COST_DOCUMENT,
    COST_DOC_REGEX,
    COST_COUNT
};

struct compiler {
    struct filter *filter;
    uint32_t regex_count;
    och_error *err;
};

static och_code no_memory(struct compiler *compiler)
{
    return FAIL_NO_MEMORY(compiler->err, "a filter");
}

static och_code copy_text(struct compiler *compiler, slice text, slice *ret)
{
    *ret = arena_copy(&compiler->filter->arena, text);
    return ret->at ? OCH_OK : no_memory(compiler);
}

/* A place for something to free, made before the thing itself. */
static struct owned *own(struct compiler *compiler)
{
    struct owned *owned = ARENA_NEW(&compiler->filter->arena, struct owned);
    if (owned) {
        owned->next = compiler->filter->owned;
        compiler->filter->owned = owned;
    }
    return owned;
}

/* ---- lists ---- */

static int compare_integers(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int compare_floats(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int compare_strings(const void *a, const void *b)
{
    return slice_compare(*(const slice *)a, *(const slice *)b);
}

static och_code hash_strings(struct compiler *compiler, struct rule_set *set)
{
    struct owned *owned = own(compiler);
    if (!owned)
        return no_memory(compiler);
    map_init(&set->map);
    set->has_map = true;
    owned->map = &set->map;
    if (!map_reserve(&set->map, set->string_count))
        return no_memory(compiler);
    for (size_t i = 0; i < set->string_count; i++) {
        bool is_new;
        if (!map_at(&set->map, set->strings[i], &is_new))
            return no_memory(compiler);
    }
    return OCH_OK;
}

static och_code compile_set(struct compiler *compiler, const struct filter_node *node,
                            struct rule *rule)
{
    struct arena *arena = &compiler->filter->arena;
    size_t counts[FILTER_FLOAT + 1] = {0};
    for (uint32_t i = 0; i < node->value_count; i++) {
        assert(node->values[i].kind <= FILTER_FLOAT);
        counts[node->values[i].kind]++;
    }
    struct rule_set *set = ARENA_NEW(arena, struct rule_set);
    int64_t *integers = ARENA_ARRAY(arena, int64_t, counts[FILTER_INT] + counts[FILTER_FLOAT]);
    double *floats = ARENA_ARRAY(arena, double, counts[FILTER_FLOAT]);
    slice *strings = ARENA_ARRAY(arena, slice, counts[FILTER_STRING]);
    if (!set || !integers || !floats || !strings)
        return no_memory(compiler);
    for (uint32_t i = 0; i < node->value_count; i++) {
        const struct filter_value *value = &node->values[i];
        if (value->kind == FILTER_BOOL)
            set->bools |= value->boolean ? 2 : 1;
        else if (value->kind == FILTER_INT)
            integers[set->integer_count++] = value->integer;
        else if (value->kind == FILTER_STRING)
            TRY(copy_text(compiler, value->string, &strings[set->string_count++]));
        else if (filter_float_is_int(value->number))
            integers[set->integer_count++] = (int64_t)value->number;
        else if (!isnan(value->number))
            floats[set->float_count++] = value->number;
    }
    qsort(integers, set->integer_count, sizeof(*integers), compare_integers);
    qsort(floats, set->float_count, sizeof(*floats), compare_floats);
    set->integers = integers;
    set->floats = floats;
    set->strings = strings;
    rule->set = set;
    if (set->string_count >= STRINGS_HASHED)
        return hash_strings(compiler, set);
    qsort(strings, set->string_count, sizeof(*strings), compare_strings);
    return OCH_OK;
}

/* ---- leaves ---- */

static och_code compile_scalar(struct compiler *compiler, const struct filter_value *value,
                               struct rule *rule)
{
    switch (value->kind) {
    case FILTER_STRING:
        rule->kind = RULE_STRING;
        return copy_text(compiler, value->string, &rule->text);
    case FILTER_BOOL:
        rule->kind = RULE_BOOL;
        rule->bools = value->boolean ? 2 : 1;
        return OCH_OK;
    default:
        rule->kind = RULE_ORDER;
        rule->orders = ORDER_EQUAL;
        rule->value = *value;
        return OCH_OK;
    }
}

static och_code compile_regex(struct compiler *compiler, const struct filter_node *node,
                              struct rule *rule)
{
    struct arena made;
    slice pattern;
    struct owned *owned = own(compiler);
    if (!owned)
        return no_memory(compiler);
    arena_init(&made, NULL, 0);
    och_code code = filter_pattern(node, &made, &pattern, compiler->err);
    if (code == OCH_OK)
        code = filter_regex_compile(pattern, compiler->regex_count, &owned->regex, compiler->err);
    arena_done(&made);
    if (code == OCH_INVALID && node->place.len) {
        error_append(compiler->err, " (%.*s)", SLICE_ARG(node->place));
        error_mark_path(compiler->err, (const char *)node->place.at, node->place.len);
    }
    TRY(code);
    owned->of = node;
    rule->regex = owned->regex;
    return OCH_OK;
}

static bool is_negative(uint8_t op)
{
    return op == FILTER_NE || op == FILTER_NIN || op == FILTER_NOT_CONTAINS ||
           op == FILTER_META_NOT_REGEX || op == FILTER_ID_NIN || op == FILTER_DOC_NOT_CONTAINS ||
           op == FILTER_DOC_NOT_REGEX;
}

static och_code compile_metadata(struct compiler *compiler, const struct filter_node *node,
                                 struct rule *rule)
{
    static const uint8_t orders[] = {
        [FILTER_GT] = ORDER_GREATER,
        [FILTER_GTE] = ORDER_GREATER | ORDER_EQUAL,
        [FILTER_LT] = ORDER_LESS,
        [FILTER_LTE] = ORDER_LESS | ORDER_EQUAL,
    };
    rule->negate = is_negative(node->op);
    if (node->op == FILTER_EXISTS)
        rule->negate = !node->values[0].boolean;
    /* Nobody has such a key: every positive operator is false (query-language.md §2.2).  A pattern
     * is compiled even so, for its syntax errors. */
    bool reserved = filter_key_is_reserved(node->key);
    rule->cost = COST_METADATA;
    rule->needs = FILTER_NEEDS_METADATA;
    TRY(copy_text(compiler, node->key, &rule->key));
    switch (node->op) {
    case FILTER_EQ:
    case FILTER_NE:
        TRY(compile_scalar(compiler, &node->values[0], rule));
        break;
    case FILTER_IN:
    case FILTER_NIN:
        rule->kind = RULE_SET;
        TRY(compile_set(compiler, node, rule));
        break;
    case FILTER_CONTAINS:
    case FILTER_NOT_CONTAINS:
        rule->kind = RULE_ELEMENT;
        rule->value = node->values[0];
        if (rule->value.kind == FILTER_STRING)
            TRY(copy_text(compiler, rule->value.string, &rule->value.string));
        break;
    case FILTER_EXISTS:
        rule->kind = RULE_EXISTS;
        break;
    case FILTER_META_REGEX:
    case FILTER_META_NOT_REGEX:
    case FILTER_META_LIKE:
    case FILTER_META_ICONTAINS:
        rule->kind = RULE_META_REGEX;
        rule->cost = COST_META_REGEX;
        TRY(compile_regex(compiler, node, rule));
        break;
    case FILTER_META_PREFIX:
        rule->kind = RULE_META_PREFIX;
        TRY(copy_text(compiler, node->values[0].string, &rule->text));
        break;
    default:
        assert(node->op >= FILTER_GT && node->op <= FILTER_LTE);
        rule->kind = RULE_ORDER;
        rule->orders = orders[node->op];
        rule->value = node->values[0];
        break;
    }
    if (reserved) {
        rule->kind = RULE_CONST;
        rule->negate = !rule->negate;
        rule->cost = COST_NONE;
        rule->needs = 0;
    }
    return OCH_OK;
}

static och_code compile_leaf(struct compiler *compiler, const struct filter_node *node,
                             struct rule *rule)
{
    if (filter_is_metadata(node->op))
        return compile_metadata(compiler, node, rule);
    rule->negate = is_negative(node->op);
    switch (node->op) {
    case FILTER_ID_IN:
    case FILTER_ID_NIN:
        rule->cost = COST_ID;
        rule->needs = FILTER_NEEDS_ID;
        if (node->value_count != 1) {
            rule->kind = RULE_ID_SET;
            return compile_set(compiler, node, rule);
        }
        rule->kind = RULE_ID;
        return copy_text(compiler, node->values[0].string, &rule->text);
    case FILTER_DOC_CONTAINS:
    case FILTER_DOC_NOT_CONTAINS:
    case FILTER_DOC_PREFIX:
        rule->kind = node->op == FILTER_DOC_PREFIX ? RULE_DOC_PREFIX : RULE_DOC_CONTAINS;
        rule->cost = COST_DOCUMENT;
        rule->needs = FILTER_NEEDS_DOCUMENT;
        return copy_text(compiler, node->values[0].string, &rule->text);
    default:
        assert(filter_is_pattern(node->op));
        rule->kind = RULE_DOC_REGEX;
        rule->cost = COST_DOC_REGEX;
        rule->needs = FILTER_NEEDS_DOCUMENT;
        return compile_regex(compiler, node, rule);
    }
}

/* ---- groups ---- */

/* Cheapest first, else in the order given. */
static void order_children(struct rule *to, const struct rule *from, uint32_t count)
{
    for (unsigned cost = COST_NONE; cost < COST_COUNT; cost++) {
        for (uint32_t i = 0; i < count; i++) {
            if (from[i].cost == cost)
                *to++ = from[i];
        }
    }
}

struct same_key {
    uint32_t first, count; /* children that compare with it */
    struct filter_value *values;
};

/* Is this a comparison that a list can take the place of? `$or` of `$eq` is `$in`, `$and` of `$ne` is `$nin`. */
static bool joins(const struct filter_node *node, const struct filter_node *child)
{
    return child->op == (node->op == FILTER_OR ? FILTER_EQ : FILTER_NE);
}

/* What a group's children compare with one key each, as lists: a thousand of them are one look-up a row.  `made` holds what is new. */
static och_code join_lists(struct compiler *compiler, const struct filter_node *node,
                           struct map *keys, struct arena *made, struct filter_node *ret)
{
    uint32_t n = node->child_count, count = 0;
    struct same_key *same = ARENA_ARRAY(made, struct same_key, n);
    uint32_t *of = ARENA_ARRAY(made, uint32_t, n);
    struct filter_node *lists = ARENA_ARRAY(made, struct filter_node, n);
    struct filter_node **children = ARENA_ARRAY(made, struct filter_node *, n);
    if (!same || !of || !lists || !children)
        return no_memory(compiler);
    for (uint32_t i = 0; i < n; i++) {
        bool is_new;
        if (!joins(node, node->children[i]))
            continue;
        uint64_t *place = map_at(keys, node->children[i]->key, &is_new);
        if (!place)
            return no_memory(compiler);
        if (is_new) {
            same[count].first = i;
            *place = count++;
        }
        of[i] = (uint32_t)*place;
        same[of[i]].count++;
    }
    *ret = *node;
    ret->children = children;
    ret->child_count = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct filter_node *child = node->children[i], *list = &lists[of[i]];
        if (!joins(node, child) || same[of[i]].count == 1) {
            children[ret->child_count++] = child;
            continue;
        }
        struct same_key *key = &same[of[i]];
        if (key->first == i) {
            key->values = ARENA_ARRAY(made, struct filter_value, key->count);
            if (!key->values)
                return no_memory(compiler);
            *list = (struct filter_node){.op = node->op == FILTER_OR ? FILTER_IN : FILTER_NIN,
                                         .key = child->key,
                                         .values = key->values};
            children[ret->child_count++] = list;
        }
        key->values[list->value_count++] = child->values[0];
    }
    return OCH_OK;
}

static och_code compile_node(struct compiler *compiler, const struct filter_node *node,
                             struct rule *rule);

static och_code compile_children(struct compiler *compiler, const struct filter_node *node,
                                 struct rule *rule)
{
    struct arena *arena = &compiler->filter->arena;
    /* Twice the memory, but only until they are in order. */
    CLEANUP(mem_cleanup)
    struct rule *as_given = mem_zalloc((size_t)node->child_count * sizeof(struct rule));
    struct rule *children = ARENA_ARRAY(arena, struct rule, node->child_count);
    if (!as_given || !children)
        return no_memory(compiler);
    for (uint32_t i = 0; i < node->child_count; i++) {
        struct rule *child = &as_given[i];
        TRY(compile_node(compiler, node->children[i], child));
        rule->cost = child->cost > rule->cost ? child->cost : rule->cost;
        rule->needs |= child->needs;
    }
    order_children(children, as_given, node->child_count);
    rule->kind = node->op == FILTER_AND ? RULE_AND : RULE_OR;
    rule->children = children;
    rule->child_count = node->child_count;
    return OCH_OK;
}

static och_code compile_group(struct compiler *compiler, const struct filter_node *node,
                              struct rule *rule)
{
    struct filter_node joined = *node;
    struct arena made;
    struct map keys;
    arena_init(&made, NULL, 0);
    map_init(&keys);
    och_code code = join_lists(compiler, node, &keys, &made, &joined);
    if (code == OCH_OK)
        code = compile_children(compiler, &joined, rule);
    map_done(&keys);
    arena_done(&made);
    return code;
}

static och_code compile_node(struct compiler *compiler, const struct filter_node *node,
                             struct rule *rule)
{
    if (node->op == FILTER_NOT) {
        TRY(compile_node(compiler, node->children[0], rule));
        rule->negate = !rule->negate;
        return OCH_OK;
    }
    return filter_is_group(node->op) ? compile_group(compiler, node, rule)
                                     : compile_leaf(compiler, node, rule);
}

/* Before anything is built: depth, operands, how many patterns. */
static och_code check_tree(struct compiler *compiler, const struct filter_node *node,
                           unsigned depth)
{
    if (depth >= FILTER_DEPTH_MAX)
        return FAIL(compiler->err, OCH_INVALID, "a filter is nested deeper than %d",
                    FILTER_DEPTH_MAX);
    if (!filter_node_sound(node))
        return FAIL(compiler->err, OCH_INVALID, "a filter operator with the wrong operands");
    if (filter_is_pattern(node->op) && ++compiler->regex_count > LIMIT_FILTER_REGEXES)
        return FAIL(compiler->err, OCH_INVALID,
                    "a filter holds at most %d regular expressions: join some as \"a|b\"",
                    LIMIT_FILTER_REGEXES);
    for (uint32_t i = 0; i < node->child_count; i++)
        TRY(check_tree(compiler, node->children[i], depth + 1));
    return OCH_OK;
}

och_code filter_compile(const struct filter_node *node, struct filter **ret_filter, och_error *err)
{
    if (!node) {
        *ret_filter = NULL;
        return OCH_OK;
    }
    CLEANUP(filter_cleanup) struct filter *filter = MEM_NEW(struct filter);
    if (!filter)
        return FAIL_NO_MEMORY(err, "a filter");
    arena_init(&filter->arena, NULL, LIMIT_FILTER_BYTES);
    filter->kernel = kernel_get();
    struct compiler compiler = {.filter = filter, .err = err};
    TRY(check_tree(&compiler, node, 0));
    TRY(compile_node(&compiler, node, &filter->root));
    *ret_filter = take(&filter);
    return OCH_OK;
}

void filter_free(struct filter *filter)
{
    if (!filter)
        return;
    for (struct owned *owned = filter->owned; owned; owned = owned->next) {
        if (owned->regex)
            rure_free(owned->regex);
        if (owned->map)
            map_done(owned->map);
    }
    arena_done(&filter->arena);
    mem_free(filter);
}

void filter_cleanup(struct filter **filter)
{
    filter_free(*filter);
}

struct rure *filter_regex_of(const struct filter *filter, const struct filter_node *leaf)
{
    for (struct owned *owned = filter ? filter->owned : NULL; owned; owned = owned->next) {
        if (owned->regex && owned->of == leaf)
            return owned->regex;
    }
    return NULL;
}

unsigned filter_needs(const struct filter *filter)
{
    return filter ? filter->root.needs : 0;
}
