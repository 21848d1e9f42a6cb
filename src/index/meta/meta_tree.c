/* SPDX-License-Identifier: Apache-2.0 */
/* From a filter to a tree of leaves with counts: groups flattened, ranges on one key joined, children in the order of what they leave. */
#include "index/meta/meta_tree.h"

#include <stdlib.h>

#define JOIN_MAX 64u /* children among which ranges on one key are looked for */

static bool is_negative(uint8_t op)
{
    return op == FILTER_NE || op == FILTER_NIN || op == FILTER_NOT_CONTAINS ||
           op == FILTER_META_NOT_REGEX || op == FILTER_ID_NIN || op == FILTER_DOC_NOT_CONTAINS ||
           op == FILTER_DOC_NOT_REGEX;
}

static struct meta_node *node_new(struct meta_eval *eval, uint8_t kind)
{
    struct meta_node *node = ARENA_NEW(eval->arena, struct meta_node);
    if (node)
        node->kind = kind;
    return node;
}

static void set_unknown(struct meta_eval *eval, struct meta_node *node)
{
    node->kind = NODE_ROWS;
    node->answer = rows_unknown(eval->rows);
}

/* ---- leaves ---- */

/* A leaf whose operands were cut in part: those and the others, either of which may hold. */
static och_code make_cut(struct meta_eval *eval, const struct filter_node *from,
                         struct meta_node *node, och_error *err)
{
    struct meta_node *cut = node_new(eval, NODE_LEAF), *rest = node_new(eval, NODE_LEAF);
    bool known;
    node->children = ARENA_ARRAY(eval->arena, struct meta_node *, 2);
    if (!cut || !rest || !node->children)
        return FAIL_NO_MEMORY(err, "a filter");
    rest->leaf = node->leaf;
    TRY(meta_leaf_init(eval, from, true, &cut->leaf, &known, err));
    assert(known); /* as it was for the others */
    node->kind = NODE_OR;
    node->children[0] = rest;
    node->children[1] = cut;
    node->child_count = 2;
    return OCH_OK;
}

static och_code make_leaf(struct meta_eval *eval, const struct filter_node *from,
                          struct meta_node *node, och_error *err)
{
    bool known;
    node->negate = is_negative(from->op);
    if (from->op >= FILTER_ID_IN) {
        set_unknown(eval, node);
        node->asked = from;
        return OCH_OK;
    }
    if (from->op == FILTER_EXISTS)
        node->negate = from->value_count && !from->values[0].boolean;
    if (filter_key_is_reserved(from->key)) { /* nobody has such a key */
        node->kind = NODE_CONST;
        node->negate = !node->negate;
        return OCH_OK;
    }
    node->kind = NODE_LEAF;
    TRY(meta_leaf_init(eval, from, false, &node->leaf, &known, err));
    if (known && meta_leaf_is_pattern(from))
        node->asked = from;
    if (!known)
        set_unknown(eval, node);
    else if (meta_leaf_has_cut(from))
        return make_cut(eval, from, node, err);
    return OCH_OK;
}

/* ---- groups ---- */

static och_code make_node(struct meta_eval *eval, const struct filter_node *from, unsigned depth,
                          struct meta_node **ret_node, och_error *err);

static och_code make_group(struct meta_eval *eval, const struct filter_node *from, unsigned depth,
                           struct meta_node *node, och_error *err)
{
    struct meta_node **made = ARENA_ARRAY(eval->arena, struct meta_node *, from->child_count);
    uint64_t total = 0;
    if (!made)
        return FAIL_NO_MEMORY(err, "a filter");
    for (uint32_t i = 0; i < from->child_count; i++) {
        TRY(make_node(eval, from->children[i], depth + 1, &made[i], err));
        bool same = made[i]->kind == node->kind && !made[i]->negate;
        total += same ? made[i]->child_count : 1;
    }
    node->children = ARENA_ARRAY(eval->arena, struct meta_node *, (size_t)total);
    if (!node->children)
        return FAIL_NO_MEMORY(err, "a filter");
    for (uint32_t i = 0; i < from->child_count; i++) {
        bool same = made[i]->kind == node->kind && !made[i]->negate;
        for (uint32_t j = 0; same && j < made[i]->child_count; j++)
            node->children[node->child_count++] = made[i]->children[j];
        if (!same)
            node->children[node->child_count++] = made[i];
    }
    return OCH_OK;
}

/* Recursion is bounded by META_DEPTH_MAX. */
static och_code make_node(struct meta_eval *eval, const struct filter_node *from, unsigned depth,
                          struct meta_node **ret_node, och_error *err)
{
    if (eval->evaluated++ % 256 == 0 && eval->options.limits)
        TRY(work_check(eval->options.limits, err));
    if (from->op == FILTER_NOT && depth < META_DEPTH_MAX) {
        TRY(make_node(eval, from->children[0], depth + 1, ret_node, err));
        (*ret_node)->negate = !(*ret_node)->negate;
        return OCH_OK;
    }
    struct meta_node *node = node_new(eval, NODE_CONST);
    if (!node)
        return FAIL_NO_MEMORY(err, "a filter");
    *ret_node = node;
    if (depth >= META_DEPTH_MAX) {
        set_unknown(eval, node);
        return OCH_OK;
    }
    if (from->op != FILTER_AND && from->op != FILTER_OR)
        return make_leaf(eval, from, node, err);
    node->kind = from->op == FILTER_AND ? NODE_AND : NODE_OR;
    return make_group(eval, from, depth, node, err);
}

/* ---- ranges on one key in an AND ---- */

static bool is_range(const struct meta_node *node)
{
    if (node->kind != NODE_LEAF || node->negate || node->leaf.unsure)
        return false;
    for (uint32_t i = 0; i < node->leaf.column_count; i++) {
        const struct meta_spans *spans = &node->leaf.columns[i];
        if (meta_type_is_array(spans->column.type) || spans->count > 1)
            return false;
    }
    return true;
}

/* A row has one value under a key, so both ranges must hold in one column. */
static och_code join(struct meta_eval *eval, struct meta_leaf *to, const struct meta_leaf *from,
                     och_error *err)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < to->column_count; i++) {
        struct meta_spans *mine = &to->columns[i];
        const struct meta_span *other = NULL;
        for (uint32_t j = 0; j < from->column_count; j++) {
            if (from->columns[j].column.type == mine->column.type)
                other = from->columns[j].at;
        }
        if (!other)
            continue;
        mine->at->from = mine->at->from > other->from ? mine->at->from : other->from;
        mine->at->to = mine->at->to < other->to ? mine->at->to : other->to;
        if (mine->at->from < mine->at->to)
            to->columns[kept++] = *mine;
    }
    to->column_count = kept;
    return meta_leaf_count(eval, to, err);
}

static och_code join_ranges(struct meta_eval *eval, struct meta_node *node, och_error *err)
{
    uint32_t kept = 0;
    if (node->child_count > JOIN_MAX)
        return OCH_OK;
    for (uint32_t i = 0; i < node->child_count; i++) {
        struct meta_node *child = node->children[i], *same = NULL;
        for (uint32_t j = 0; j < kept && is_range(child); j++) {
            if (is_range(node->children[j]) &&
                slice_equal(node->children[j]->leaf.key, child->leaf.key))
                same = node->children[j];
        }
        if (same)
            TRY(join(eval, &same->leaf, &child->leaf, err));
        else
            node->children[kept++] = child;
    }
    node->child_count = kept;
    return OCH_OK;
}

static och_code join_all(struct meta_eval *eval, struct meta_node *node, och_error *err)
{
    for (uint32_t i = 0; i < node->child_count; i++)
        TRY(join_all(eval, node->children[i], err));
    return node->kind == NODE_AND ? join_ranges(eval, node, err) : OCH_OK;
}

/* ---- counts ---- */

static void bound_group(struct meta_node *node, uint32_t rows)
{
    bool is_and = node->kind == NODE_AND;
    uint64_t high = is_and ? rows : 0, low_sum = 0, low_most = 0;
    node->exact = true;
    for (uint32_t i = 0; i < node->child_count; i++) {
        const struct meta_node *child = node->children[i];
        node->exact = node->exact && child->exact;
        node->known = node->known || child->known;
        high = is_and ? (child->high < high ? child->high : high) : high + child->high;
        low_sum += child->low;
        low_most = child->low > low_most ? child->low : low_most;
    }
    uint64_t missing = (uint64_t)node->child_count * rows - low_sum; /* rows out of each, at most */
    node->high = (uint32_t)(high < rows ? high : rows);
    node->low = (uint32_t)(is_and ? (missing < rows ? rows - missing : 0) : low_most);
}

static void set_bounds(struct meta_eval *eval, struct meta_node *node)
{
    uint32_t rows = eval->rows;
    for (uint32_t i = 0; i < node->child_count; i++)
        set_bounds(eval, node->children[i]);
    node->known = true;
    switch (node->kind) {
    case NODE_CONST:
        node->exact = true;
        node->low = node->high = rows;
        break;
    case NODE_LEAF:
        node->exact = !node->leaf.unsure || !node->leaf.count;
        node->high = node->leaf.count;
        node->low = node->leaf.unsure ? 0 : node->leaf.counted ? node->leaf.count : node->high != 0;
        break;
    case NODE_ROWS:
        node->exact = node->answer.exact;
        node->high = node->answer.maybe.count;
        node->low = node->exact ? node->high : node->answer.sure.count;
        node->known = node->exact || node->low || node->high < rows;
        break;
    default:
        node->known = !node->child_count;
        bound_group(node, rows);
        break;
    }
    if (node->negate) {
        uint32_t low = node->low;
        node->low = rows - node->high;
        node->high = rows - low;
    }
}

#define REFINE_ALWAYS 1024u /* so many values are matched without asking what for */
#define REFINE_VALUES 32u   /* matching so many values costs what looking at a row does */

/* A pattern's distinct values are matched where that is less than looking at the rows that are left. */
static och_code refine(struct meta_eval *eval, struct meta_node *node, uint32_t open,
                       och_error *err)
{
    struct rure *regex = filter_regex_of(eval->options.compiled, node->asked);
    const struct meta_leaf *leaf = &node->leaf;
    if (!regex || !leaf->column_count)
        return OCH_OK;
    const struct meta_span *span = leaf->columns[0].at;
    uint32_t left = leaf->count < open ? leaf->count : open, values = span->to - span->from;
    if (values > REFINE_ALWAYS && values / REFINE_VALUES > left)
        return OCH_OK;
    struct meta_node *cut = node_new(eval, NODE_LEAF), *rest = node_new(eval, NODE_LEAF);
    node->children = ARENA_ARRAY(eval->arena, struct meta_node *, 2);
    if (!cut || !rest || !node->children)
        return FAIL_NO_MEMORY(err, "a filter");
    TRY(meta_text_refine(eval, regex, &node->leaf, &cut->leaf, err));
    node->asked = NULL;
    if (!cut->leaf.count)
        return OCH_OK;
    rest->leaf = node->leaf;
    node->kind = NODE_OR;
    node->children[0] = rest;
    node->children[1] = cut;
    node->child_count = 2;
    return OCH_OK;
}

enum who { WHO_PATTERNS, WHO_OTHERS };

/* Leaves whose answer costs something, told how many rows their siblings leave: patterns first, then those that others answer. */
static och_code ask(struct meta_eval *eval, struct meta_node *node, enum who who, uint32_t open,
                    och_error *err)
{
    if (who == WHO_PATTERNS && node->kind == NODE_LEAF && node->asked)
        return refine(eval, node, open, err);
    if (who == WHO_OTHERS && node->kind == NODE_ROWS && node->asked && eval->options.other)
        return eval->options.other(eval->options.other_context, node->asked, open, eval->arena,
                                   &node->answer, err);
    uint32_t least = UINT32_MAX, next = UINT32_MAX, which = 0;
    for (uint32_t i = 0; i < node->child_count; i++) {
        uint32_t high = node->children[i]->high;
        if (high < least) {
            next = least;
            least = high;
            which = i;
        } else if (high < next) {
            next = high;
        }
    }
    for (uint32_t i = 0; i < node->child_count; i++) {
        uint32_t left = node->kind != NODE_AND ? open : i == which ? next : least;
        TRY(ask(eval, node->children[i], who, left < open ? left : open, err));
    }
    return OCH_OK;
}

/* ---- order ---- */

static int by_high(const void *a, const void *b)
{
    const struct meta_node *x = *(struct meta_node *const *)a, *y = *(struct meta_node *const *)b;
    return (x->high > y->high) - (x->high < y->high);
}

static int by_low(const void *a, const void *b)
{
    const struct meta_node *x = *(struct meta_node *const *)a, *y = *(struct meta_node *const *)b;
    return (x->low < y->low) - (x->low > y->low);
}

static void set_order(struct meta_eval *eval, struct meta_node *node)
{
    for (uint32_t i = 0; i < node->child_count; i++)
        set_order(eval, node->children[i]);
    if (node->kind == NODE_LEAF)
        meta_leaf_plan(eval, &node->leaf);
    if (node->child_count > 1)
        qsort(node->children, node->child_count, sizeof(*node->children),
              node->kind == NODE_AND ? by_high : by_low);
}

och_code meta_search_init(struct meta_search *search, const struct meta_search_options *options,
                          const struct filter_node *node, struct arena *arena, och_error *err)
{
    struct meta_eval *eval = ARENA_NEW(arena, struct meta_eval);
    *search = (struct meta_search){.rows = options->rows, .eval = eval};
    if (!eval)
        return FAIL_NO_MEMORY(err, "a filter");
    eval->options = *options;
    eval->arena = arena;
    eval->rows = options->rows;
    eval->chunks = meta_chunks(options->rows);
    eval->bits = kernel_bits_get();
    eval->reader = (struct meta_reader){.index = options->index, .pages = options->pages};
    och_code code = make_node(eval, node, 0, &eval->root, err);
    if (code == OCH_OK)
        code = join_all(eval, eval->root, err);
    if (code == OCH_OK) {
        set_bounds(eval, eval->root);
        code = ask(eval, eval->root, WHO_PATTERNS, eval->rows, err);
    }
    if (options->pages)
        options->pages->release(options->pages->context);
    search->damaged = code != OCH_OK && eval->reader.damaged;
    TRY(code);
    set_bounds(eval, eval->root);
    TRY(ask(eval, eval->root, WHO_OTHERS, eval->rows, err));
    set_bounds(eval, eval->root);
    set_order(eval, eval->root);
    search->exact = eval->root->exact;
    search->nothing = !eval->root->known;
    search->at_least = eval->root->low;
    search->at_most = eval->root->high;
    return OCH_OK;
}
