/* SPDX-License-Identifier: Apache-2.0 */
/* Conditions on grams: of one string, numbered and bounded, and tested on a document. */
#include "index/text/text_internal.h"

#define STRING_GRAMS 128   /* of one string; a longer one is sampled */
#define VISITS_MAX   65536 /* of nodes in a search: shared parts count each time */

struct text_node *text_node_new(struct arena *arena, enum text_op op)
{
    struct text_node *node = ARENA_NEW(arena, struct text_node);
    if (node) {
        node->op = (uint8_t)op;
        node->number = UINT32_MAX;
    }
    return node;
}

static struct text_node *node_range(struct arena *arena, uint32_t first, uint32_t last)
{
    struct text_node *node = text_node_new(arena, TEXT_RANGE);
    if (node) {
        node->first = first;
        node->last = last;
    }
    return node;
}

/* A gram that was taken before is of no use; looking back a little finds most. */
static bool is_repeated(struct text_node *const *nodes, uint32_t count, uint32_t key)
{
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i]->first == key)
            return true;
    }
    return false;
}

struct text_node *text_node_string(slice text, struct arena *arena)
{
    if (text.len == 0)
        return text_node_new(arena, TEXT_ALL);
    if (text.len < 3) {
        uint32_t first = text_key_at(text, 0);
        return node_range(arena, first, first | (text.len == 1 ? 0xffff : 0xff));
    }
    size_t grams = text.len - 2, step = (grams + STRING_GRAMS - 1) / STRING_GRAMS;
    if (grams == 1)
        return node_range(arena, text_key_at(text, 0), text_key_at(text, 0));
    struct text_node *node = text_node_new(arena, TEXT_AND);
    struct text_node **children = ARENA_ARRAY(arena, struct text_node *, grams / step + 2);
    if (!node || !children)
        return NULL;
    for (size_t i = 0; i < grams; i += step) {
        uint32_t key = text_key_at(text, i);
        if (is_repeated(children, node->child_count, key))
            continue;
        struct text_node *child = node_range(arena, key, key);
        if (!child)
            return NULL;
        children[node->child_count++] = child;
    }
    node->children = children;
    return node;
}

/* The zeros that pad a document's end must not pass for bytes of the string.  After them there is nothing, so only a zero that ends the
 * string can be one of them, and a string of one byte is not followed by any. */
bool text_string_is_exact(slice text)
{
    return text.len <= 1 || (text.len <= 3 && text.at[text.len - 1] != 0);
}

och_code text_query_contains(slice needle, struct arena *arena, struct text_query *ret_query,
                             och_error *err)
{
    struct text_node *root = text_node_string(needle, arena);
    if (!root)
        return FAIL_NO_MEMORY(err, "a condition on text");
    *ret_query = (struct text_query){.exact = text_string_is_exact(needle), .len_min = needle.len};
    text_query_finish(ret_query, root);
    return OCH_OK;
}

/* ---- measuring ---- */

struct walk {
    uint32_t nodes, depth, visits;
};

static void make_all(struct text_node *node)
{
    node->op = TEXT_ALL;
    node->child_count = 0;
}

/* Recursion ends at TEXT_DEPTH_MAX. */
static void number(struct walk *walk, struct text_node *node, uint32_t depth)
{
    walk->depth = depth > walk->depth ? depth : walk->depth;
    if (++walk->visits > VISITS_MAX)
        return;
    if (node->number == UINT32_MAX)
        node->number = walk->nodes++;
    if (node->op != TEXT_AND && node->op != TEXT_OR)
        return;
    if (depth == TEXT_DEPTH_MAX)
        make_all(node);
    for (uint32_t i = 0; i < node->child_count; i++)
        number(walk, node->children[i], depth + 1);
}

void text_query_finish(struct text_query *query, struct text_node *root)
{
    struct walk walk = {0};
    number(&walk, root, 1);
    if (walk.visits > VISITS_MAX) {
        make_all(root);
        walk = (struct walk){.nodes = 1, .depth = 1};
        root->number = 0;
        query->exact = false;
    }
    query->root = root;
    query->nodes = walk.nodes;
    query->depth = walk.depth;
}

/* ---- one document ---- */

static bool has_range(slice document, const struct text_node *node)
{
    for (size_t i = 0; i < document.len; i++) {
        uint32_t key = text_key_at(document, i);
        if (key >= node->first && key <= node->last)
            return true;
    }
    return false;
}

static bool allows(const struct text_node *node, slice document)
{
    bool is_and = node->op == TEXT_AND;
    if (node->op == TEXT_ALL)
        return true;
    if (node->op == TEXT_RANGE)
        return has_range(document, node);
    for (uint32_t i = 0; i < node->child_count; i++) {
        if (allows(node->children[i], document) != is_and)
            return !is_and;
    }
    return is_and;
}

bool text_query_allows(const struct text_query *query, slice document)
{
    return document.at && document.len >= query->len_min && allows(query->root, document);
}
