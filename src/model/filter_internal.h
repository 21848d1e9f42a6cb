/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the filter: what a sound leaf is, and the compiled form. */
#ifndef MODEL_FILTER_INTERNAL_H
#define MODEL_FILTER_INTERNAL_H

#include "base/map.h"
#include "kernel/kernel.h"
#include "model/filter.h"

#include <rure.h>

/* Deeper than any JSON text can make it (128), joins included; it bounds all recursion here. */
#define FILTER_DEPTH_MAX 192

static inline bool filter_is_group(uint8_t op)
{
    return op >= FILTER_AND && op <= FILTER_NOT;
}
static inline bool filter_is_metadata(uint8_t op)
{
    return op >= FILTER_EQ && op <= FILTER_META_ICONTAINS;
}
/** Matched by a regular expression. */
static inline bool filter_is_pattern(uint8_t op)
{
    return op == FILTER_META_REGEX || op == FILTER_META_NOT_REGEX || op == FILTER_META_LIKE ||
           op == FILTER_META_ICONTAINS || op == FILTER_DOC_REGEX || op == FILTER_DOC_NOT_REGEX ||
           op == FILTER_DOC_LIKE || op == FILTER_DOC_ICONTAINS;
}
/** Whether one node, its children aside, has the operands its op asks for. */
bool filter_node_sound(const struct filter_node *node);

/** One of `count` patterns of a filter: they share the room for programs and automata, so that many
 *  of them take no more than a few big ones.  Errors: OCH_INVALID with the text of query-language.md §3. */
MUST_USE och_code filter_regex_compile(slice pattern, uint32_t count, rure **ret_regex,
                                       och_error *err);

/* ---- compiled ---- */

enum rule_kind {
    RULE_CONST, /* true; negated: false */
    RULE_AND,
    RULE_OR,
    RULE_EXISTS,
    RULE_BOOL,        /* scalar equal to one of `bools` */
    RULE_ORDER,       /* number in one of the `orders` to `value` */
    RULE_STRING,      /* string equal to `text` */
    RULE_SET,         /* scalar in `set` */
    RULE_ELEMENT,     /* array with the element `value` */
    RULE_META_PREFIX, /* string that begins with `text` */
    RULE_META_REGEX,
    RULE_ID, /* id equal to `text` */
    RULE_ID_SET,
    RULE_DOC_CONTAINS,
    RULE_DOC_PREFIX,
    RULE_DOC_REGEX
};
enum rule_order { ORDER_LESS = 1, ORDER_EQUAL = 2, ORDER_GREATER = 4 };

/* Values of $in, each class by itself.  Floats that are whole numbers within i64 stand among the
 * integers, so that one search answers for both representations. */
struct rule_set {
    uint8_t bools; /* bit 0: false, bit 1: true */
    const int64_t *integers;
    const double *floats; /* neither whole in i64, nor NaN */
    size_t integer_count, float_count;
    const slice *strings; /* ascending when there is no map */
    size_t string_count;
    struct map map; /* strings, when there are many */
    bool has_map;
};

/* 64 bytes: a wide $or walks an array of them. */
struct rule {
    uint8_t kind;
    bool negate;
    uint8_t orders; /* enum rule_order bits */
    uint8_t bools;  /* bit 0: false, bit 1: true */
    uint8_t cost;   /* children are tried cheapest first */
    uint8_t needs;  /* enum filter_need */
    slice key;
    struct filter_value value; /* of RULE_ORDER and RULE_ELEMENT */
    union {
        slice text;
        struct rule_set *set;
        rure *regex;
        struct {
            struct rule *children;
            uint32_t child_count;
        };
    };
};
static_assert(sizeof(struct rule) == 64, "one cache line");

/* What the arena does not free. */
struct owned {
    rure *regex;
    const struct filter_node *of; /* a name only: the tree may be gone */
    struct map *map;
    struct owned *next;
};

struct filter {
    struct arena arena;
    struct rule root;
    const struct kernel *kernel;
    struct owned *owned;
};

/** Whether a float is a whole number within i64, so that an integer can equal it. */
static inline bool filter_float_is_int(double value)
{
    return value >= -9223372036854775808.0 && value < 9223372036854775808.0 &&
           (double)(int64_t)value == value;
}
#endif
