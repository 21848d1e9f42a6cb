/* SPDX-License-Identifier: Apache-2.0 */
/* A filter made ready for one part.  Inside index/meta only. */
#ifndef INDEX_META_META_TREE_H
#define INDEX_META_META_TREE_H

#include "index/meta/meta_internal.h"

#define META_DEPTH_MAX 192 /* as filter_compile has it; deeper is not looked into */

struct meta_span { /* ordinals [from, to), entries [first_entry, end_entry) */
    uint32_t from, to, first_entry, end_entry;
};
struct meta_spans {
    struct meta_column column;
    struct meta_span *at; /* ascending, apart */
    uint32_t count, entries;
    bool by_list; /* read from the list, not from slices */
};
struct meta_leaf {
    slice key;
    struct meta_spans *columns; /* those with a span only */
    uint32_t column_count;
    uint32_t count; /* rows, exact if `counted`, else at most */
    bool counted;
    bool unsure;   /* its rows are candidates */
    bool prepared; /* what comes from lists is decoded: by chunk, or as bits */
    bool direct;   /* lists are read chunk by chunk, nothing is kept */
    bool by_list;  /* some column's list is read */
    const uint32_t *rows,
        *starts; /* those of chunk c: rows[starts[c]] to [starts[c + 1]], in no order; NULL: `bits` has them */
    const uint64_t *bits; /* NULL too: there are none */
    double cost_ns;       /* of one chunk, about */
};

enum meta_node_kind { NODE_CONST, NODE_AND, NODE_OR, NODE_LEAF, NODE_ROWS };
struct meta_node {
    uint8_t kind;
    bool negate;
    bool exact;         /* what is sure is all that may be */
    bool known;         /* something is */
    uint32_t low, high; /* how many rows, negation applied */
    struct meta_node **children;
    uint32_t child_count;
    struct meta_leaf leaf;
    struct rows_answer answer;       /* NODE_ROWS */
    const struct filter_node *asked; /* NODE_ROWS: a leaf for others; NODE_LEAF: a pattern */
};

struct meta_eval {
    struct meta_reader reader;
    struct meta_search_options options;
    struct arena *arena;
    const struct kernel_bits *bits;
    uint32_t rows, chunks;
    struct meta_node *root;
    size_t kept_bytes;
    uint32_t evaluated;                              /* nodes, for limits */
    uint64_t *buffers[2 * (META_DEPTH_MAX + 2) + 1]; /* META_CHUNK_WORDS each, made at first use */
};

static inline slice meta_cut(slice text, uint8_t room[META_STRING_MAX + 1])
{
    if (text.len <= META_STRING_MAX)
        return text;
    memcpy(room, text.at, META_STRING_MAX);
    room[META_STRING_MAX] = META_CUT;
    return slice_make(room, META_STRING_MAX + 1);
}

/* ---- meta_leaf.c ---- */
/** Spans and count.  `cut_ones`: only operands longer than the dictionary keeps.  *ret_known false: the index cannot say. */
MUST_USE och_code meta_leaf_init(struct meta_eval *eval, const struct filter_node *node,
                                 bool cut_ones, struct meta_leaf *leaf, bool *ret_known,
                                 och_error *err);
/** The ordinals of numbers that FILTER_GT, GTE, LT, LTE (or EQ) an operand allow. */
MUST_USE och_code meta_order_span(struct meta_cursor *cursor, uint8_t op,
                                  const struct filter_value *operand, struct meta_span *ret,
                                  och_error *err);
bool meta_leaf_has_cut(const struct filter_node *node);
/** Matched by a regular expression: its rows are candidates until meta_text_refine. */
static inline bool meta_leaf_is_pattern(const struct filter_node *node)
{
    return node->op == FILTER_META_REGEX || node->op == FILTER_META_NOT_REGEX ||
           node->op == FILTER_META_LIKE || node->op == FILTER_META_ICONTAINS;
}
MUST_USE och_code meta_leaf_count(struct meta_eval *eval, struct meta_leaf *leaf, och_error *err);

/* ---- meta_text.c ---- */
/** The values that begin as $prefix or $like say. */
MUST_USE och_code meta_text_span(struct meta_cursor *cursor, const struct filter_node *node,
                                 struct meta_spans *spans, och_error *err);
/** Match the distinct values of a pattern's leaf: the leaf keeps those that match, *ret_cut gets those that the dictionary has cut. */
MUST_USE och_code meta_text_refine(struct meta_eval *eval, struct rure *regex,
                                   struct meta_leaf *leaf, struct meta_leaf *ret_cut,
                                   och_error *err);

/* ---- meta_eval.c ---- */
/** How each column of a leaf is read, and what that costs. */
void meta_leaf_plan(struct meta_eval *eval, struct meta_leaf *leaf);
#endif
